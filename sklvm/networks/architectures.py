"""What bends an autoencoder beside its linear paths: layers of both networks, as values."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from .perceptron import Perceptron


class Architecture(ABC):
    """Makes the nonlinear part of an encoder and of a decoder: modules that start at zero.

    A module maps (..., n_in) to (..., n_out). `fresh(rng)` are the arrays it starts with, `at_once`
    is its forward pass for training. What an encoder is told are features of d columns, what else
    there is, and in the last d inputs 1 for each column that is there and 0 for each that is
    missing; `of_complete` is `at_once` without these.
    """

    first_layer = None  # the linear layer that sees the features themselves, if there is one
    width: int  # the most numbers that a layer makes of a row

    @abstractmethod
    def encoder(self, n_in, n_out, likelihood, d):
        """The module beside the encoder's linear path."""

    @abstractmethod
    def decoder(self, n_in, n_out, likelihood, d):
        """The module beside the decoder's linear path."""

    @abstractmethod
    def facing(self, parameters, centre, spread):
        """The encoder's arrays where it sees features in units of `spread` from `centre`: a dict.

        `parameters` are those of a fresh autoencoder; centre and spread (n_features,).
        """

    @abstractmethod
    def slices(self, columns, features, outputs, n_features):
        """Which part of an array some columns own: {name: index}.

        features and outputs are the positions of what belongs to the columns.
        """

    @abstractmethod
    def take(self, columns, features, outputs):
        """The architecture of some columns, the others being missing for good."""

    @property
    @abstractmethod
    def params(self):
        """What people say of it in a constructor."""


@dataclass(frozen=True)
class Dense(Architecture):
    """Fully connected hidden layers, the decoder's in reverse; without any, the zero function."""

    widths: tuple = ()

    first_layer = "encoder.nonlinear.layers.0"

    @classmethod
    def of(cls, parameters):
        """The widths of an encoder's hidden layers, read from the arrays of an autoencoder."""
        names = (f"encoder.nonlinear.layers.{i}.bias" for i in range(len(parameters)))
        return cls(tuple(len(parameters[name]) for name in names if name in parameters))

    def encoder(self, n_in, n_out, likelihood, d):
        return Perceptron(n_in, self.widths, n_out, n_masks=d)

    def decoder(self, n_in, n_out, likelihood, d):
        return Perceptron(n_in, self.widths[::-1], n_out)

    def facing(self, parameters, centre, spread):
        if not self.widths:
            return {}
        weight = parameters[f"{self.first_layer}.weight"].copy()
        first = weight[:, : len(centre)]
        first /= spread
        return {f"{self.first_layer}.weight": weight, f"{self.first_layer}.bias": -first @ centre}

    def slices(self, columns, features, outputs, n_features):
        inputs = np.concatenate([features, n_features + columns])
        return {
            f"{self.first_layer}.weight": (slice(None), inputs),
            "decoder.nonlinear.out.weight": outputs,
            "decoder.nonlinear.out.bias": outputs,
        }

    def take(self, columns, features, outputs):
        return self

    @property
    def width(self):
        return max(self.widths, default=1)

    @property
    def params(self):
        return {"hidden_layer_sizes": self.widths}
