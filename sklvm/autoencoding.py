"""What autoencoders share: rows as networks train on them, and parameters that are arrays."""

from types import MappingProxyType

import numpy as np

from ._compat import Integral, Interval
from .any_likelihood import AnyLikelihood
from .base import LatentVariableModel, fitted
from .inference.moments import column_moments
from .inference.training_rows import TrainingRows
from .networks.architectures import Dense
from .networks.canvas import Canvas
from .networks.convolutional import Convolutional
from .networks.given import Given
from .networks.likelihoods import Likelihood, joined
from .networks.settings import image_of, widths_of
from .validation import checked_array, read_training_data

ARCHITECTURE_CONSTRAINTS: dict = {
    "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
    "image_shape": ["array-like", None],
    "encoder": [callable, None],
    "decoder": [callable, None],
}


class Autoencoding(AnyLikelihood, LatentVariableModel):
    """A density whose p(x | z) is a network, trained in batches on standardised rows."""

    _input_dtype = (np.float64, np.float32)

    def _told(self, X, sample_weight, rng, min_weight=2):
        """What a fit is told: -> TrainingData, Likelihood, TrainingRows, those held out."""
        X = self._choose(X)
        data = self._read_to_fit(X, sample_weight, min_weight)
        image_of(self.image_shape, int(self._modelled(len(data.constant)).sum()))  # or an error
        likelihood = self._named(self._choice, data.constant)
        X = self._in_support(data.X, likelihood, data.constant)
        likelihood = joined(likelihood.told(X, data.weight))
        rows = TrainingRows.of(likelihood.to_line(X), data.weight, units_of(likelihood))
        training, held_out = rows.split(self.validation_fraction, rng)
        return data, likelihood.in_units(training.scale), training, held_out

    def _read_to_fit(self, X, sample_weight, min_weight):
        """Validated rows, weights, and which columns are constant: -> TrainingData."""
        settings = {"min_weight": min_weight, "dtype": self._input_dtype}
        return read_training_data(self, X, sample_weight, **settings)

    def _modelled(self, d):
        """Which of d columns the density is of: -> (d,) bool."""
        return np.ones(d, bool)

    def _architecture(self, likelihood, constant, n_latents, rng):
        """What bends beside the linear paths of columns that are not `constant`: (d,) bool.

        An image has the columns that are modelled.
        """
        encoder, decoder = self._networks()
        widths, modelled = widths_of(self.hidden_layer_sizes), self._modelled(len(constant))
        shape = image_of(self.image_shape, int(modelled.sum()))
        if encoder is None and shape is None:
            return Dense(widths)
        pixels, d = np.flatnonzero(~constant[modelled]), int((~constant).sum())
        own = likelihood.take(np.flatnonzero(~likelihood.given(d)))
        canvas = Canvas.image(own, pixels, shape) if shape else Canvas.row(own, len(pixels))
        if encoder is None:
            return Convolutional.of(widths, canvas, own, pixels)
        n_in, seed = likelihood.n_features(d) + len(pixels), int(rng.integers(2**31))
        n_told = n_latents + likelihood.n_contexts(d)
        return Given.tried(encoder, decoder, canvas, n_in, n_told, seed)

    def _networks(self):
        """The functions that make networks of the user's own, if there are any."""
        if (self.encoder is None) != (self.decoder is None):
            raise ValueError("encoder and decoder go together: give both, or neither")
        return self.encoder, self.decoder

    def _rows_per_step(self, training):
        """The size of a batch: "auto" is an eighth of the rows, 16 at least and 128 at most."""
        if self.batch_size != "auto":
            return self.batch_size
        return int(np.clip(training.weight.sum() / 8, 16, 128))

    @fitted
    def parameters_(self):
        """{name: ndarray} weights of encoder and decoder, and what else is trained."""
        parameters = {name: v.view() for name, v in self.run_.state.parameters.items()}
        for v in parameters.values():
            v.flags.writeable = False
        return MappingProxyType(parameters)

    @fitted
    def architecture_(self):
        """What the networks look like, as a value that `from_parameters` takes."""
        return self.run_.state.architecture

    @fitted
    def location_(self):
        """(n_varying_features,) what is subtracted from each column."""
        return self.run_.state.location

    @fitted
    def scale_(self):
        """(n_varying_features,) what divides each column."""
        return self.run_.state.scale

    @classmethod
    def _known(cls, likelihood, location, scale, **params):
        """An unfitted model, its Likelihood, location and scale (d,): as `from_parameters` says."""
        is_value = isinstance(likelihood, Likelihood)
        model = cls(likelihood=likelihood.spec if is_value else likelihood, **params)
        model._validate_params()
        location = checked_array(location, (None,), "location")
        scale = checked_array(scale, location.shape, "scale")
        if not (scale > 0).all():
            raise ValueError("scale must be positive")
        value = likelihood if is_value else model._named(likelihood, np.zeros(len(scale), bool))
        if not value.is_known:
            raise ValueError(
                "likelihood of categorical columns: give Categorical(n_categories=...), or "
                "state_.likelihood of the model that the parameters come from"
            )
        return model, value, location, scale


def units_of(likelihood):
    """(rows, weight) -> location and scale of each column, as its likelihood wants them."""
    return lambda X, weight: likelihood.units(X, weight, *column_moments(X, weight))


def checked_like(arrays, module):
    """Float arrays by the names and of the shapes of a module's parameters, or ValueError."""
    shapes = {name: tuple(p.shape) for name, p in module.named_parameters()}
    if arrays.keys() != shapes.keys():
        raise ValueError(
            f"parameters lacks {sorted(shapes.keys() - arrays.keys())} and should not have "
            f"{sorted(arrays.keys() - shapes.keys())}"
        )
    return {name: checked_array(arrays[name], shape, name) for name, shape in shapes.items()}
