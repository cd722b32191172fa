"""What a likelihood p(x | eta) answers: columns that are independent given what a decoder says."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import ClassVar, NamedTuple

import numpy as np
import torch


class Eta(NamedTuple):
    """What a decoder says of x: numbers that vary with z, and numbers that z leaves alone."""

    outputs: torch.Tensor  # (..., n_outputs)
    constants: torch.Tensor  # (n_constants,)


class Factors(NamedTuple):
    """A factor model of working variables: v = mean + W z + noise."""

    mean: np.ndarray  # (m,)
    W: np.ndarray  # (m, q)
    noise: np.ndarray  # (m,) variances

    def take(self, part):
        return Factors(self.mean[part], self.W[part], self.noise[part])


class Linear(NamedTuple):
    """outputs = offset + W z, and what one step of Fisher scoring from z = 0 needs to know."""

    W: np.ndarray  # (n_outputs, q)
    offset: np.ndarray  # (n_outputs,)
    constants: np.ndarray  # (n_constants,)
    information: np.ndarray  # (q, q) W' F W with F the information of x about its outputs
    pull: np.ndarray  # (q, n_features) the slope of W' d log p / d outputs in the features
    centre: np.ndarray  # (n_features,) the features that pull nowhere
    spread: np.ndarray  # (n_features,) their unit of length
    slopes: np.ndarray = np.empty((1, 0))  # (n_outputs, m) of the outputs in m contexts
    drift: np.ndarray = np.empty((1, 0))  # (n_features, m) of the centre in them
    origin: np.ndarray = np.empty(0)  # (m,) the contexts at which offset and centre are these

    @classmethod
    def of_columns(cls, W, offset, constants, information, slope, centre, spread=1.0):
        """One feature for each column, and one output that z moves: the first of `offset`.

        W (d, q); information, slope, centre and spread (d,).
        """
        whole = np.zeros((len(offset), W.shape[1]))
        whole[: len(W)] = W
        F, pull = (W.T * information) @ W, (W * slope[:, None]).T
        return cls(whole, offset, constants, F, pull, centre, np.broadcast_to(spread, len(W)))

    def of_latents(self, q, directions, drift):
        """Of q latents and, behind them, directions of contexts, as one of the latents alone.

        drift (r, n_features) are the slopes of the features in the directions.
        """
        return self._replace(
            W=self.W[:, :q],
            information=self.information[:q, :q],
            pull=self.pull[:q],
            slopes=self.W[:, q:] @ directions.basis.T,
            drift=(directions.basis @ drift).T,
            origin=directions.centre,
        )


@dataclass(frozen=True)
class Likelihood(ABC):
    """p(x | eta) of d columns, in the units that training works in; NaN marks what is missing.

    A value: what it must know of the rows of a fit, `told` and `in_units` put in. Rows x (n, d) and
    outputs (..., n, n_outputs) broadcast. A subclass writes `terms` for rows without gaps.
    """

    complete: bool = field(default=False, kw_only=True)  # whether no row has a gap

    name: ClassVar[str]
    base_measure: ClassVar[str] = "lebesgue"
    positive_only: ClassVar[bool] = False
    needs: ClassVar[str] = "finite numbers"
    solver: ClassVar[str] = "factors"  # of the linear model that training starts at

    # -- which numbers a column owns: each maps (columns, d) to positions ------------------------

    def outputs(self, columns, d):
        """Positions among the outputs."""
        return np.asarray(columns)

    def constants(self, columns, d):
        """Positions among the constants."""
        return np.arange(0)

    def features(self, columns, d):
        """Positions among the features."""
        return np.asarray(columns)

    def contexts(self, columns, d):
        """Positions among the contexts: features of columns that the density is given."""
        return np.arange(0)

    def n_outputs(self, d):
        return len(self.outputs(np.arange(d), d))

    def n_constants(self, d):
        return len(self.constants(np.arange(d), d))

    def n_features(self, d):
        return len(self.features(np.arange(d), d))

    def n_contexts(self, d):
        return len(self.contexts(np.arange(d), d))

    def n_columns(self, n_features):
        """The inverse of `n_features`."""
        return n_features

    def given(self, d):
        """Which columns the density is given: -> (d,) bool."""
        return np.zeros(d, bool)

    def take(self, columns):
        """The likelihood of some columns."""
        return self

    @property
    def spec(self):
        """What people would write."""
        return self.name

    @property
    def is_known(self):
        """Whether it needs to be told of no rows any more."""
        return True

    @property
    def jointly(self):
        """The likelihood of the columns where none of them is given."""
        return self

    # -- supports and units ----------------------------------------------------------------------

    def check(self, X):
        """Refuse what has no probability."""
        outside = ~(self._inside(X) | np.isnan(X))
        if outside.any():
            why = "Negative values in data, or others without probability: " * self.positive_only
            raise ValueError(
                f"{why}likelihood={self.name!r} takes {self.needs} and NaN, got {X[outside][0]:g}"
            )

    def _inside(self, X):
        return np.ones(X.shape, bool)

    def told(self, X, weight):
        """What the rows of a fit make of it: pairs of a likelihood and its columns."""
        return [(self, np.arange(X.shape[1]))]

    def units(self, line, weight, mean, variance):
        """Location and scale of each column, of these moments: (n, d) -> (d,), (d,)."""
        return np.zeros(len(mean)), np.ones(len(mean))

    def in_units(self, scale):
        """This likelihood knowing the scale of its columns."""
        return self

    def to_line(self, X):
        """Columns on the line that location and scale belong to: (..., d) -> (..., d)."""
        return X

    def from_line(self, line):
        """The inverse of `to_line`."""
        return line

    def log_slope(self, X):
        """log |dx / d line| of each entry: (n, d)."""
        return np.zeros(X.shape)

    # -- the density -----------------------------------------------------------------------------

    @abstractmethod
    def terms(self, x, eta):
        """log p(x_j | eta) of rows without gaps: -> (..., n, d)."""

    def log_prob(self, x, eta):
        """log p(x_seen | eta): -> (..., n)."""
        if self.complete:
            return self.terms(x, eta).sum(-1)
        return (self.terms(x.nan_to_num(), eta) * ~x.isnan()).sum(-1)

    def log_prob_and_slope(self, x, eta):
        """`log_prob` and the slope of its sum in eta, here by torch: -> (n,), Eta."""
        with torch.enable_grad():
            eta = Eta(*(part.detach().requires_grad_() for part in eta))
            log_p = self.log_prob(x, eta)
            slope = torch.autograd.grad(log_p.sum(), eta, materialize_grads=True)
        return log_p.detach(), Eta(*slope)

    def of_complete_rows(self):
        """The same for rows without gaps: nothing looks for one."""
        return replace(self, complete=True)

    @abstractmethod
    def fisher(self, eta):
        """Diagonal of the Fisher information of a row about its outputs: -> (..., n_outputs)."""

    def information(self, x, eta, J):
        """Fisher information of x_seen about z, J' F J: J (n, q, n_outputs) -> (n, q, q)."""
        seen = ~x.isnan()
        F = self.fisher(eta) * seen.repeat(1, J.shape[-1] // seen.shape[-1])
        return (J * F[:, None]) @ J.mT

    @abstractmethod
    def mean(self, eta):
        """E[x | eta], on the line: -> (..., d)."""

    @abstractmethod
    def mode(self, eta):
        """The most probable x, on the line: -> (..., d)."""

    @abstractmethod
    def sample(self, eta, rng):
        """A draw of x, on the line: -> (..., d)."""

    # -- what encoders see, and where training starts --------------------------------------------

    def shown(self, x):
        """Rows as features: (n, d) -> (n, n_features)."""
        return x

    def telling(self, x):
        """Which entries say something of z: (n, d) -> (n, d) bool."""
        return ~x.isnan()

    def shows(self, x):
        """Which features do: -> (n, n_features) bool."""
        return self.telling(x)

    def context(self, x):
        """What rows are given, as features: (n, d) -> (n, n_contexts)."""
        return x[:, :0]

    def n_working(self, d):
        """Working variables of d columns."""
        return d

    @abstractmethod
    def working(self, x, weight):
        """Variables that are about linear in z, in units of their spread: (n, d) -> (n, m)."""

    def seen_features(self, x):
        """What encoders are shown, NaN where it says nothing: (n, d) -> (n, n_features)."""
        x = torch.from_numpy(x)
        return torch.where(self.shows(x), self.shown(x), np.nan).numpy()

    @abstractmethod
    def linear(self, x, weight, factors):
        """The linear model that a factor model of the working variables implies: -> Linear."""


def seen_mean(x, weight, pseudo=0.0, prior=0.0):
    """Weighted means of the seen entries, with `pseudo` rows of `prior`: (n, d) -> (d,)."""
    mass = weight @ ~np.isnan(x)
    return (weight @ np.nan_to_num(x) + pseudo * prior) / np.maximum(mass + pseudo, 1e-300)


def standardised(v, weight):
    """Columns less their means, in units of their standard deviations, and both: -> v, (m,), (m,).

    What does not vary keeps its unit.
    """
    mean = seen_mean(v, weight)
    spread = np.sqrt(seen_mean((v - mean) ** 2, weight))
    spread = np.where(spread > 0, spread, 1.0)
    return (v - mean) / spread, mean, spread
