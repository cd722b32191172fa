"""What a structure of covariance matrices answers, and the two whose matrices are diagonal.

A structure is a value: K matrices of one kind. Nothing above this file asks which kind it has, and
nothing above it knows that entries may be missing (NaN).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np

from .statistics import DiagonalMoments, Statistics
from .sweep import LOG_2PI, BallsSweep, SquaresSweep, Sweep, common_origin


@dataclass(frozen=True)
class Penalty:
    """-(count log|S| + tr(S^-1 scale)) / 2 for each free matrix: `count` pseudo-observations."""

    count: float
    scale: np.ndarray  # (d, d) for dense structures, (d,) for diagonal ones

    def marginal(self, columns):
        return replace(self, scale=self.scale[np.ix_(*[columns] * self.scale.ndim)])


class Covariance(ABC):
    """K covariance matrices of one structure, as questions that blocks of rows ask."""

    penalty: Penalty
    feature_axes: int  # how many trailing axes of `compact` run over features
    linear: ClassVar[bool] = True  # whether sums of matrices of this structure are of it too

    @staticmethod
    @abstractmethod
    def prior_count(d: int, K: int) -> float:
        """Pseudo-observations of covariance_prior="auto": free parameters / (d + 1)."""

    @staticmethod
    def n_matrices(K: int) -> int:
        """How many different matrices K components have: each bears the penalty once."""
        return K

    @property
    def structure(self):
        """What makes values like this one: `broad`, `expand`, `invert`."""
        return type(self)

    def resembling(self, other):
        """Another structure's matrices as this one would have them, under this one's penalty."""
        return replace(other, penalty=self.penalty)

    @classmethod
    @abstractmethod
    def broad(cls, S: np.ndarray, K: int, penalty: Penalty) -> "Covariance":
        """K copies of one matrix: S (d, d)."""

    @abstractmethod
    def log_det_and_mahalanobis(self, X, means) -> tuple[np.ndarray, np.ndarray]:
        """log|S_oo| and the squared distance of what is seen: (n, d), (K, d) -> (n, K), (n, K)."""

    @abstractmethod
    def moments(self, X, means, resp, scale=None) -> Statistics:
        """E[moments | x_seen] about the means; resp (n, K), scale (n, K) the weights of a t."""

    def sweep(self, means, offset, known=None) -> Sweep:
        """log N(x; means_k, S_k) + offset_k and the moments, in one pass over blocks of rows."""

        def log_prob(X):
            log_det, mahalanobis = self.log_det_and_mahalanobis(X, means)
            seen = (~np.isnan(X)).sum(axis=1, keepdims=True)
            return -0.5 * (seen * LOG_2PI + log_det + mahalanobis)

        return Sweep(log_prob, lambda X, resp: self.moments(X, means, resp), offset)

    def known(self, means, X, weight, total):
        """What every pass over these rows shares, whatever the parameters, for `sweep`; or None.

        `total(function, (X, weight))` sums a function of a block, a tuple of values that add.
        """
        return None

    @abstractmethod
    def m_step(self, moments) -> tuple[np.ndarray, "Covariance"]:
        """The means (K, d) and the matrices that maximise the expected penalised log-likelihood."""

    @abstractmethod
    def complete(self, X, means) -> np.ndarray:
        """Missing entries at their conditional means under each component: (n, d) -> (n, K, d)."""

    @abstractmethod
    def noise(self, z, rng) -> np.ndarray:
        """One draw of N(0, S_z) per row: (n,) -> (n, d)."""

    @abstractmethod
    def dense(self) -> np.ndarray:
        """(K, d, d)"""

    @abstractmethod
    def precisions(self) -> np.ndarray:
        """(K, d, d) inverses."""

    @property
    @abstractmethod
    def compact(self) -> np.ndarray:
        """The free numbers in scikit-learn's shape for this structure."""

    @staticmethod
    @abstractmethod
    def invert(compact) -> np.ndarray:
        """Covariances to precisions and back, in scikit-learn's shape."""

    @classmethod
    @abstractmethod
    def expand(cls, compact, K, d, penalty) -> "Covariance":
        """From scikit-learn's shape; ValueError for another shape or no covariance matrix."""

    @abstractmethod
    def log_prior(self) -> float:
        """The penalty at these matrices."""

    @abstractmethod
    def marginal(self, columns) -> "Covariance":
        """The matrices of some features: columns is an integer array."""

    @abstractmethod
    def conditional(self, seen, missing) -> tuple[np.ndarray, "Covariance"]:
        """Coefficients (K, m, o) of missing on seen columns, and what is left (K, m, m)."""

    @abstractmethod
    def scaled(self, factor) -> "Covariance":
        """Each matrix times its own factor (K,), for structures that stay what they are."""

    @abstractmethod
    def take(self, order) -> "Covariance":
        """The components in another order."""

    @property
    @abstractmethod
    def n_parameters(self) -> int:
        """Free parameters of all K matrices."""

    @abstractmethod
    def whiten(self, V) -> np.ndarray:
        """S_k^-1/2 v_k, in the coordinates that `pack` uses: (K, d) -> (K, d)."""

    @abstractmethod
    def colour(self, V) -> np.ndarray:
        """The inverse of `whiten`."""

    @abstractmethod
    def pack(self, other) -> np.ndarray:
        """Another value of this structure in unconstrained coordinates, in which self is zero."""

    @abstractmethod
    def unpack(self, vector) -> "Covariance":
        """The inverse of `pack`."""


@dataclass(frozen=True)
class Diag(Covariance):
    """Independent features within a component. Missing entries drop out of every sum."""

    feature_axes = 1
    expanded: ClassVar[type] = SquaresSweep  # where squares about an origin keep their digits
    v: np.ndarray  # (K, d)
    penalty: Any  # Penalty, scale (d,)

    @property
    def precision_roots(self):
        """Square roots of the precisions, in scikit-learn's shape."""
        return 1 / np.sqrt(self.compact)

    @staticmethod
    def invert(compact):
        with np.errstate(divide="ignore"):
            return 1 / np.asarray(compact)

    @staticmethod
    def prior_count(d, K):
        return d / (d + 1)

    def narrowed(self, variances):
        """Precisions plus those of a diagonal matrix: (S_k^-1 + diag(1 / variances))^-1."""
        return replace(self, v=self.v / (1 + self.v / self._own(variances)))

    @staticmethod
    def _own(variances):
        """Variances of the columns, (d,), as this structure can have them."""
        return variances

    @classmethod
    def of(cls, v, penalty):
        """From variances (K, d); raises LinAlgError when one is not positive."""
        return cls(_proper(v), penalty)

    @classmethod
    def broad(cls, S, K, penalty):
        return cls(np.tile(np.diag(S), (K, 1)), replace(penalty, scale=np.diag(penalty.scale)))

    def log_det_and_mahalanobis(self, X, means):
        seen, maha = _Seen.of(X), np.empty((len(X), len(means)))
        for k, diff in seen.residuals(X, means):
            maha[:, k] = np.multiply(diff, diff, out=diff) @ (1 / self.v[k])
        return seen.row_sums(np.log(self.v)), maha

    def sweep(self, means, offset, known=None):
        origin = common_origin(means, self.v, 1 / self.v)
        if origin is None:
            return super().sweep(means, offset)
        return self.expanded(means, self.v, origin, offset)

    def moments(self, X, means, resp, scale=None):
        pull = resp if scale is None else resp * scale
        seen, first, second = _Seen.of(X), np.empty_like(means), np.empty_like(means)
        for k, diff in seen.residuals(X, means):
            first[k] = pull[:, k] @ diff
            second[k] = pull[:, k] @ np.multiply(diff, diff, out=diff)
        count = seen.column_sums(resp)
        mass = count if scale is None else seen.column_sums(pull)
        return DiagonalMoments(count, mass, first, second, means)

    def m_step(self, moments):
        shift, squares = moments.centred()
        return moments.origin + shift, self._ratio(
            squares + self.penalty.scale, moments.count + self.penalty.count
        )

    def _ratio(self, squares, count):
        """Variances; what no row and no prior speaks of keeps its own."""
        v = np.where(count > 0, squares / np.where(count > 0, count, 1.0), self.v)
        return replace(self, v=_proper(v))

    def complete(self, X, means):
        return np.where(np.isnan(X)[:, None, :], means, X[:, None, :])

    def noise(self, z, rng):
        return rng.standard_normal((len(z), self.v.shape[1])) * np.sqrt(self.v[z])

    def dense(self):
        return self.v[:, :, None] * np.eye(self.v.shape[1])

    @property
    def compact(self):
        return self.v

    @classmethod
    def expand(cls, compact, K, d, penalty):
        v = checked_shape(compact, (K, d))
        return cls(_positive_variances(v), replace(penalty, scale=np.diag(penalty.scale)))

    def precisions(self):
        return np.eye(self.v.shape[1]) / self.v[:, :, None]

    def log_prior(self):
        count, scale = self.penalty.count, self.penalty.scale
        return -0.5 * float((count * np.log(self.v) + scale / self.v).sum())

    def marginal(self, columns):
        return replace(self, v=self.v[:, columns], penalty=self.penalty.marginal(columns))

    def conditional(self, seen, missing):
        return np.zeros((len(self.v), len(missing), len(seen))), self.marginal(missing)

    def scaled(self, factor):
        return replace(self, v=self.v * factor[:, None])

    def take(self, order):
        return replace(self, v=self.v[order])

    @property
    def n_parameters(self):
        return self.v.size

    def whiten(self, V):
        return V / np.sqrt(self.v)

    def colour(self, V):
        return V * np.sqrt(self.v)

    def pack(self, other):
        return np.log(other.v / self.v).ravel()

    def unpack(self, vector):
        return replace(self, v=self.v * np.exp(vector.reshape(self.v.shape)))


@dataclass(frozen=True)
class Spherical(Diag):
    """One variance for all features of a component."""

    expanded = BallsSweep
    feature_axes = 0

    @staticmethod
    def _own(variances):
        return variances.mean()

    @staticmethod
    def prior_count(d, K):
        return 1 / (d + 1)

    @classmethod
    def broad(cls, S, K, penalty):
        start = super().broad(S, K, penalty)
        return replace(start, v=_row_means(start.v))

    def m_step(self, moments):
        shift, squares = moments.centred()
        total = (squares + self.penalty.scale).sum(axis=1, keepdims=True)
        count = (moments.count + self.penalty.count).sum(axis=1, keepdims=True)
        return moments.origin + shift, self._ratio(total, count)

    @property
    def n_parameters(self):
        return len(self.v)

    @property
    def compact(self):
        return self.v[:, 0]

    @classmethod
    def expand(cls, compact, K, d, penalty):
        v = np.broadcast_to(checked_shape(compact, (K,))[:, None], (K, d))
        return cls(_positive_variances(v), replace(penalty, scale=np.diag(penalty.scale)))

    def pack(self, other):
        return np.log(other.v[:, 0] / self.v[:, 0])

    def unpack(self, vector):
        return replace(self, v=self.v * np.exp(vector)[:, None])


class _Seen(NamedTuple):
    """Which entries of a block are there."""

    gaps: "np.ndarray | None"  # (n, d) True where an entry is missing; None where none is
    shape: tuple

    @classmethod
    def of(cls, X):
        gaps = np.isnan(X)
        return cls(gaps if gaps.any() else None, X.shape)

    def residuals(self, X, means):
        """Yield k and x - mean_k with zeros for what is missing, in one buffer: (n, d)."""
        diff = np.empty(self.shape)
        for k, mean in enumerate(means):
            np.subtract(X, mean, out=diff)
            if self.gaps is not None:
                diff[self.gaps] = 0.0
            yield k, diff

    def row_sums(self, values):
        """Sum of values (K, d) over what each row saw: -> (n, K)."""
        if self.gaps is None:
            return np.tile(values.sum(axis=1), (self.shape[0], 1))
        return ~self.gaps @ values.T

    def column_sums(self, resp):
        """Sum of resp (n, K) over the rows that saw each feature: -> (K, d)."""
        if self.gaps is None:
            return np.tile(resp.sum(axis=0)[:, None], self.shape[1])
        return resp.T @ ~self.gaps


def _row_means(v):
    return np.broadcast_to(v.mean(axis=1, keepdims=True), v.shape)


def checked_shape(array, shape):
    """A finite float array of the shape that a structure needs."""
    array = np.array(array, dtype=np.float64)
    if array.shape != shape or not np.isfinite(array).all():
        raise ValueError(
            f"covariances of this type need finite numbers of shape {shape}, got "
            f"shape {array.shape}"
        )
    return array


def _proper(v):
    if not ((v > 0) & np.isfinite(v)).all():
        raise np.linalg.LinAlgError("a variance is not positive and finite")
    return v


def _positive_variances(v):
    if not (v > 0).all():
        raise ValueError("variances must be positive")
    return v
