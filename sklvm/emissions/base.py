"""What an emission answers, and the specs that people name it by."""

from abc import ABC, abstractmethod

import numpy as np

from ..parameters import Parameters
from .sweep import Sweep


class OutsideSupport(ValueError):
    """What is wrong with the entries of some columns: positions among those that vary."""

    def __init__(self, message, columns):
        super().__init__(message)
        self.columns = columns


class Emission(ABC):
    """K conditional distributions p(x | z = k), one immutable value. Missing entries live here."""

    base_measure = "lebesgue"
    n_noise = 0  # of its components are noise: the last ones, which no fit changes or reorders

    @abstractmethod
    def log_prob(self, X) -> np.ndarray:
        """log p(x_seen | z = k), missing entries integrated out: (n, d) -> (n, K)."""

    @abstractmethod
    def stats(self, X, resp):
        """E[sufficient statistics | x_seen], each row weighted by resp (n, K): values that add."""

    def sweep(self, offset=0.0, known=None) -> Sweep:
        """One pass over blocks of rows: log p(x_seen | z = k) + offset_k, and statistics."""
        return Sweep(self.log_prob, self.stats, offset)

    def known(self, X, weight, total):
        """What every pass over these rows shares, whatever the parameters: see `Covariance`."""
        return None

    @abstractmethod
    def m_step(self, stats) -> "Emission":
        """The parameters that maximise the expected log-likelihood plus `log_prior`."""

    @abstractmethod
    def log_prior(self) -> float:
        """The penalty inside the objective; -KL(q || prior) for a posterior over parameters."""

    @abstractmethod
    def sample(self, z, rng) -> np.ndarray:
        """One row from p(x | z) for each latent: (n,) -> (n, d)."""

    @abstractmethod
    def complete(self, X) -> np.ndarray:
        """Missing entries at their conditional means under each component: (n, d) -> (n, K, d)."""

    @abstractmethod
    def complete_sample(self, X, z, rng) -> np.ndarray:
        """Missing entries drawn from p(x_missing | x_seen, z): (n, d), (n,) -> (n, d)."""

    @abstractmethod
    def climb(self, x, missing, resp) -> np.ndarray:
        """Missing entries moved so that p(x) does not fall, resp = p(z | x): (n, d) -> (n, d)."""

    @property
    def groups(self) -> tuple:
        """The emissions that it consists of."""
        return (self,)

    def check(self, X) -> None:  # noqa: B027 - most supports hold every finite number
        """Refuse entries outside the support with one ValueError."""

    @abstractmethod
    def expectation(self) -> np.ndarray:
        """E[x | z = k]: (K, d)."""

    @abstractmethod
    def cdf(self, X) -> np.ndarray:
        """P(x_j <= X_j | z = k) of each column alone: (n, d) -> (n, K, d)."""

    def unfolded(self, log_weights):
        """The simplest emission with log weights (n, K) that makes the same mixtures of them."""
        return log_weights, self

    @abstractmethod
    def take(self, order) -> "Emission":
        """The components in another order."""

    @abstractmethod
    def marginal(self, columns) -> "Emission":
        """The emission of some features: columns is an integer array."""

    @abstractmethod
    def pack(self, other) -> np.ndarray:
        """Another value of this kind in unconstrained unit-free coordinates; self is zero."""

    @abstractmethod
    def unpack(self, vector) -> "Emission":
        """The inverse of `pack`."""

    @property
    def kind(self) -> str:
        """What makes statistics of one value those of another: the same kind, the same layout."""
        return type(self).__name__

    @property
    @abstractmethod
    def spec(self) -> "Spec":
        """What a fresh fit of the same kind would be told."""

    @property
    @abstractmethod
    def n_parameters(self) -> int:
        """Free parameters of all K conditionals."""

    def shared(self, resp) -> np.ndarray:
        """Responsibilities of all components from those of a start, which knows of no noise."""
        return resp

    def climb_within(self, whole, x, missing, resp) -> np.ndarray:
        """`climb` where this emission is one side of `whole`, and noise the other.

        Here the highest of where it is, the step of this side and that of the other.
        """
        total = resp[:, :-1].sum(axis=1, keepdims=True)
        own = np.where(total > 0, resp[:, :-1] / np.where(total > 0, total, 1.0), 1.0)
        own /= own.sum(axis=1, keepdims=True)
        other = whole.noise.climb(x, missing, np.ones((len(x), 1)))
        moves = np.stack([x, self.climb(x, missing, own), other])
        with np.errstate(divide="ignore"):
            joint = np.log(resp) - whole.log_prob(x)
        heights = [np.logaddexp.reduce(joint + whole.log_prob(move), axis=1) for move in moves]
        return moves[np.argmax(heights, axis=0), np.arange(len(x))]

    def start(self, X, resp) -> "Emission":
        """The emission that the responsibilities of a start imply."""
        return self.m_step(self.stats(X, resp))

    def predictive(self) -> "Emission":
        """What `score_samples` uses: a posterior over parameters integrates itself out."""
        return self


class Integrated(Emission):
    """What a posterior over parameters answers by the density that integrates it out."""

    def sample(self, z, rng):
        return self.predictive().sample(z, rng)

    def complete_sample(self, X, z, rng):
        return self.predictive().complete_sample(X, z, rng)

    def climb(self, x, missing, resp):
        return self.predictive().climb(x, missing, resp)

    def cdf(self, X):
        return self.predictive().cdf(X)


class Spec(Parameters):
    """A named emission with its parameters, as scikit-learn's `clone` and `set_params` want it.

    A subclass has `broad(family, K)`: K copies of one fit to all rows, the prior in place.
    """

    base_measure = "lebesgue"
    matrix = False  # whether `broad` needs the pooled covariance (d, d), or the columns' moments do

    def among(self, constant, resolve) -> "Spec":
        """The spec of the columns that vary: constant is (d,) bool.

        `resolve` makes integer arrays of groups of columns as users name them.
        """
        return self

    def tally(self, X, weight, total):
        """What `broad` needs of all rows besides the moments: one part per column, or None.

        `total` sums a function over blocks: see `Emission.known`.
        """
        return None

    def comparable(self, X, family, complete):
        """Rows without gaps in a common unit of length, for starts: (n, d) -> (n, m).

        `complete` fills the gaps by a draw and standardises the columns: (n, d) -> (n, d).
        """
        return complete(X)

    def background(self, family) -> Emission:
        """One broad component that stands for noise: here what fits all rows."""
        return self.broad(family, 1)  # type: ignore[attr-defined]

    def set_tags(self, input_tags):
        """Say which X this emission accepts, in scikit-learn's `InputTags`."""
