"""Covariance matrices tied by volume, shape and orientation: S_k = volume_k D_k shape_k D_k'."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import ClassVar

import numpy as np

from ..numerics.linalg import from_log_cholesky, log_cholesky, whiteners
from . import eigen_steps as steps
from .covariance import Covariance, Diag, Spherical
from .dense import Full

WIDEST = 1e7  # between the spreads of two columns: beyond, axes across them have no digits left


@dataclass(frozen=True)
class EigenDecomposed:
    """Which of volume, shape and orientation are equal ("E"), vary ("V") or are none ("I").

    Ten of the fourteen families of Celeux & Govaert (1995), in the letters of Fraley & Raftery's
    mclust; EEE, VVV, VVI and VII are the structures `Tied`, `Full`, `Diag` and `Spherical`.
    """

    volume: str
    shape: str
    orientation: str

    def __post_init__(self):
        if self.name not in VALUES:
            raise ValueError(f"the letters must be one of {sorted(VALUES)}, got {self.name!r}")

    @property
    def name(self):
        return self.volume + self.shape + self.orientation

    @property
    def _value(self):
        return VALUES[self.name]

    def n_matrices(self, K):
        """How many different matrices K components have."""
        return K if "V" in self.name else 1

    def n_parameters(self, d, K):
        """Free parameters of all K matrices."""
        volumes, shapes, turns = self._copies(K)
        return volumes + shapes * (d - 1) + turns * (d * (d - 1) // 2)

    def _copies(self, K):
        """How many volumes, shapes and orientations are free."""
        return tuple({"I": 0, "E": 1, "V": K}[letter] for letter in self.name)

    def join(self, log_v, turns):
        """The free coordinates among all: log variances (K, d), turns (K, d (d - 1) / 2)."""
        parts = (log_v.mean(axis=1), log_v @ _contrasts(log_v.shape[1]), turns)
        copies = self._copies(len(log_v))
        return np.concatenate([p[:n].ravel() for p, n in zip(parts, copies, strict=True)])

    def split(self, vector, K, d):
        """The inverse of `join`: -> (K, d), (K, d (d - 1) / 2)."""
        parts = []
        for copies, width in zip(self._copies(K), (1, d - 1, d * (d - 1) // 2), strict=True):
            part, vector = np.split(vector, [copies * width])
            part = part.reshape(copies, width) if copies else np.zeros((1, width))
            parts.append(np.broadcast_to(part, (K, width)))
        volume, shape, turns = parts
        return volume + shape @ _contrasts(d).T, turns

    def prior_count(self, d, K):
        """Pseudo-observations of covariance_prior="auto": free parameters / (d + 1) per matrix."""
        return self.n_parameters(d, K) / self.n_matrices(K) / (d + 1)

    def broad(self, S, K, penalty):
        """K copies of the matrix of this family that is nearest to S (d, d)."""
        return self._value.nearest(self, self._value.plain.broad(S, K, penalty))

    def expand(self, compact, K, d, penalty):
        """From the shape of `compact`; ValueError for matrices that are not of this family."""
        given = self._value.plain.expand(compact, K, d, penalty)
        value = self._value.nearest(self, given)
        there, here = given.dense(), value.dense()
        sd = np.sqrt(there.diagonal(axis1=1, axis2=2))
        if not (np.abs(here - there) <= 1e-6 * sd[:, :, None] * sd[:, None, :]).all():
            raise ValueError(f"covariances are not of type {self.name}: the nearest are {here!r}")
        return value

    def invert(self, compact):
        """Covariances to precisions and back, in the shape of `compact`."""
        return self._value.plain.invert(compact)


@cache
def _contrasts(d):
    """Orthonormal columns that sum to zero: (d, d - 1)."""
    return np.linalg.qr(np.eye(d) - 1 / d)[0][:, : d - 1]


class Tie(Covariance):
    """What values of these families share, whatever their shape."""

    linear = False
    plain: ClassVar[type[Covariance]]  # the structure without ties, in the shape of `compact`
    model: EigenDecomposed

    @classmethod
    @abstractmethod
    def nearest(cls, model, plain) -> "Tie":
        """The value of a family that is nearest (in Kullback-Leibler) to values without ties."""

    @property
    def structure(self):
        return self.model

    @property
    def n_parameters(self):
        K, d = self.dense().shape[:2]
        return self.model.n_parameters(d, K)

    def resembling(self, other):
        return self.nearest(self.model, replace(other, penalty=self.penalty))


@dataclass(frozen=True)
class Aligned(Tie, Diag):
    """EEI, VEI, EVI: axes along the features. Missing entries drop out of every sum."""

    plain = Diag
    model: EigenDecomposed

    @classmethod
    def nearest(cls, model, plain):
        start = cls(plain.v, plain.penalty, model)
        return start._fitted(plain.v, np.ones_like(plain.v))

    def _fitted(self, w, n):
        ties = self.model.volume + self.model.shape
        return replace(self, v=steps.variances(ties, *steps.heard(w, n, self.v), self.v))

    @property
    def _share(self):
        """Of the penalty, what each component bears."""
        return self.model.n_matrices(len(self.v)) / len(self.v)

    def m_step(self, moments):
        shift, squares = moments.centred()
        w = squares + self._share * self.penalty.scale
        n = moments.count + self._share * self.penalty.count
        return moments.origin + shift, self._fitted(w, n)

    def log_prior(self):
        return self._share * super().log_prior()

    def marginal(self, columns):
        part = super().marginal(columns)
        return part if self.model.shape != "V" else Diag(part.v, part.penalty)

    def scaled(self, factor):
        return _unequal_volumes(self.model, super().scaled(factor))

    def pack(self, other):
        return self.model.join(np.log(other.v / self.v), np.empty((len(self.v), 0)))

    def unpack(self, vector):
        return replace(self, v=self.v * np.exp(self.model.split(vector, *self.v.shape)[0]))


@dataclass(frozen=True)
class Round(Aligned):
    """EII: one variance for all features of all components."""

    plain = Spherical
    feature_axes = 0

    @property
    def compact(self):
        return self.v[:, 0]


def _unequal_volumes(model, value):
    """The variances of an axis-aligned value in the family whose volumes vary."""
    plain = {"I": Spherical, "V": Diag}.get(model.shape)
    if plain is not None:
        return plain(value.v, value.penalty)
    return Aligned(value.v, value.penalty, replace(model, volume="V"))


@dataclass(frozen=True)
class Ellipsoidal(Tie, Full):
    """Matrices that are completed by regression where entries miss, as `Full` does it."""

    plain = Full
    model: EigenDecomposed

    @classmethod
    def of(cls, S, penalty):
        """Matrices that no family ties, as those of some features are."""
        return Full.of(S, penalty)

    @classmethod
    def nearest(cls, model, plain):
        start = cls._like(model, plain)
        return start._fitted(plain.S, np.ones(len(plain.S)))

    @classmethod
    def _like(cls, model, plain):
        return cls(plain.S, plain.A, plain.penalty, model)

    def _fitted(self, W, n):
        """The value that scatters (K, d, d) and counts (K,) imply, at least as good as this one."""
        raise NotImplementedError

    def m_step(self, moments):
        shift, scatter = moments.centred()
        W = scatter + self.penalty.scale
        W, n = steps.heard((W + W.mT) / 2, moments.count + self.penalty.count, self.S)
        with np.errstate(all="ignore"):  # a collapse is reported by LinAlgError
            return moments.origin + shift, self._fitted(W, n)


@dataclass(frozen=True)
class SameVolume(Ellipsoidal):
    """EVV: one determinant."""

    def _fitted(self, W, n):
        S, A = steps.one_volume(W, n)
        return replace(self, S=S, A=A)

    @property
    def _log_volume(self):
        return self.log_det / max(self.S.shape[-1], 1)

    def pack(self, other):
        """Log ratios of the volumes, and what turns unit volume into unit volume (Cholesky)."""
        d, volume = self.S.shape[-1], other._log_volume - self._log_volume
        C = log_cholesky(self.A @ other.S @ self.A.mT / np.exp(volume)[:, None, None])
        return self.model.join(C[:, :d] + volume[:, None], C[:, d:])

    def unpack(self, vector):
        K, d, _ = self.S.shape
        log_v, turns = self.model.split(vector, K, d)
        volume = log_v.mean(axis=1, keepdims=True)
        C = from_log_cholesky(np.hstack([log_v - volume, turns]), d)
        L = np.linalg.cholesky(self.S)
        S = np.exp(volume)[:, :, None] * (L @ C @ L.mT)
        return replace(self, S=(S + S.mT) / 2, A=whiteners((S + S.mT) / 2))


@dataclass(frozen=True)
class Proportional(SameVolume):
    """VEE: S_k = volume_k M. Some features of such matrices are such matrices."""

    def _fitted(self, W, n):
        S, A = steps.proportional(W, n, np.exp(self._log_volume))
        return replace(self, S=S, A=A)

    def marginal(self, columns):
        return self._like(self.model, super().marginal(columns))

    def conditional(self, seen, missing):
        coefficients, left = super().conditional(seen, missing)
        return coefficients, self._like(self.model, left)

    def scaled(self, factor):
        return self._like(self.model, super().scaled(factor))


@dataclass(frozen=True)
class Turned(Ellipsoidal):
    """EEV, VEV, EVE, VVE: S_k = D_k diag(v_k) D_k', variances along axes that turn."""

    D: np.ndarray  # (K, d, d) orthogonal; repeated without copying where all share one
    v: np.ndarray  # (K, d)

    @classmethod
    def _like(cls, model, plain):
        """With the axes of the average matrix; the step moves them."""
        S, shape = plain.S.mean(axis=0), plain.S.shape
        sd = np.sqrt(np.diag(S))
        if sd.max() > WIDEST * sd.min():
            raise ValueError(
                f"covariance type {model.name} compares columns, and the spreads of these differ "
                f"by a factor of {sd.max() / sd.min():.1g}: standardise them first"
            )
        v, D = np.linalg.eigh(S)
        return cls(
            plain.S,
            plain.A,
            plain.penalty,
            model,
            np.broadcast_to(D, shape),
            np.broadcast_to(steps.proper(v), shape[:2]),
        )

    def _fitted(self, W, n):
        D = AXES[self.model.name](W, n, self.D)
        w = steps.squares_along(W, D)
        ties = self.model.volume + self.model.shape
        return self._at(D, steps.variances(ties, w, np.broadcast_to(n[:, None], w.shape), self.v))

    def _at(self, D, v):
        S = (D * v[:, None, :]) @ D.mT
        S = (S + S.mT) / 2
        return replace(self, S=S, A=whiteners(S), D=D, v=v)

    def take(self, order):
        return replace(super().take(order), D=self.D[order], v=self.v[order])

    def pack(self, other):
        """Log ratios of the variances and the Cayley coordinates of the turns."""
        d = self.v.shape[1]
        R, eye = steps.nearest_rotation(self.D.mT @ other.D), np.eye(d)
        Q = np.linalg.solve(R + eye, R - eye)
        return self.model.join(np.log(other.v / self.v), Q[:, *np.tril_indices(d, -1)])

    def unpack(self, vector):
        K, d = self.v.shape
        log_ratio, turns = self.model.split(vector, K, d)
        Q, eye = np.zeros((K, d, d)), np.eye(d)
        Q[:, *np.tril_indices(d, -1)] = turns
        Q = Q - Q.mT
        return self._at(self.D @ np.linalg.solve(eye - Q, eye + Q), self.v * np.exp(log_ratio))


AXES: dict[str, Callable] = {
    "EEV": steps.own_axes,
    "VEV": steps.own_axes,
    "EVE": steps.common_axes_of_one_volume,
    "VVE": steps.common_axes,
}
VALUES: dict[str, type[Tie]] = {
    **{"EII": Round, "EEI": Aligned, "VEI": Aligned, "EVI": Aligned},
    **{"VEE": Proportional, "EVV": SameVolume},
    **dict.fromkeys(AXES, Turned),
}
