"""Criteria of simple structure, as values: what each makes of loadings, and how it turns factors.

Gradients are plain polynomials, logarithms and exponentials, so loadings may be complex: standard
errors differentiate them by the complex step.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from .gradient_projection import best_minimum
from .manifolds import Oblique, Orthogonal, apart, random_orthogonal

RANK = 1e-10  # singular values below this share of the largest belong to surplus factors
TIE = 1e-6  # sums of squares, and loadings, that differ by less than this share are equal


class Turning(ABC):
    """What `rotate` asks of a rotation."""

    manifold: type[Orthogonal] | type[Oblique]

    @abstractmethod
    def turn(self, W, rng, n_starts):
        """Factors B z of loadings W (d, q): B (q, q), and whether the search converged."""

    @abstractmethod
    def stationarity(self, L, Phi):
        """What vanishes at a stationary point: (d, q), (q, q) -> (m,)."""

    def arrange(self, L):
        """Canonical order and signs of the columns (d, q): (q,) int, (q,) of 1 and -1."""
        sign = signs(L)
        squares = (L**2).sum(axis=0)
        top, largest = squares.max(), np.abs(L).max()
        rank = np.round(-squares / (TIE * (top or 1.0)))
        entries = np.round(-L * sign / (TIE * (largest or 1.0)))
        order = sorted(range(len(sign)), key=lambda j: (rank[j], entries[:, j].tolist()))
        return np.array(order), sign


class Criterion(Turning):
    """A function of loadings that gradient projection makes small."""

    kaiser: bool
    surplus = True  # whether factors that explain nothing are set aside, with loadings of zero

    @abstractmethod
    def value_and_gradient(self, L):
        """Q and dQ/dL of loadings, real or complex: (d, q) -> number, (d, q)."""

    def start(self, A):
        """Where the first search begins: the axes that A (d, q) has."""
        return np.eye(A.shape[1])

    def turn(self, W, rng, n_starts):
        A = W / self.lengths(W)[:, None]
        axes, rank = principal_axes(A)
        q, r = len(axes), max(rank, 1) if self.surplus else len(axes)

        def criterion(L):
            value, G = self.value_and_gradient(np.pad(L, ((0, 0), (0, q - r))))
            return value, G[:, :r]

        A = A @ axes[:, :r]
        starts = [self.start(A)] + [random_orthogonal(r, rng) for _ in range(n_starts - 1)]
        end = best_minimum(A, criterion, self.manifold, starts)
        B = np.eye(q)
        B[:r, :r] = end.B
        return B @ axes.T, end.converged

    def lengths(self, W):
        """What the rows of loadings of uncorrelated factors are divided by: (d, q) -> (d,)."""
        return lengths((W * W).sum(axis=1)) if self.kaiser else np.ones(len(W))

    def stationarity(self, L, Phi):
        if self.kaiser:
            L = L / lengths(((L @ Phi) * L).sum(axis=1))[:, None]
        return self.manifold.stationarity(L, self.value_and_gradient(L)[1], Phi)


def lengths(squares):
    """Square roots of communalities, 1 where nothing loads: real or complex (d,) -> (d,)."""
    return np.sqrt(np.where(squares.real > 0, squares, 1.0))


def principal_axes(A):
    """The directions of (d, q) in descending order, and how many count: (q, q), int."""
    d, q = A.shape
    tall = np.pad(A, ((0, max(0, q - d)), (0, 0)))
    _, size, Vt = np.linalg.svd(tall, full_matrices=False)
    axes = Vt.T
    return axes * signs(A @ axes), int((size > RANK * size[0]).sum())


def signs(L):
    """1 or -1 per column: positive sums, or first entries where the sum is zero: (d, q) -> (q,)."""
    size = np.abs(L).sum(axis=0)
    total = L.sum(axis=0)
    first = np.take_along_axis(L, (np.abs(L) > TIE * size).argmax(axis=0)[None], axis=0)[0]
    return np.where(np.where(np.abs(total) > TIE * size, total, first) < 0, -1.0, 1.0)


@dataclass(frozen=True)
class OrthomaxCriterion(Criterion):
    """Quartimax at gamma = 0, varimax at 1, equamax at q/2 (Harman 1976; Jennrich 2001)."""

    gamma: float
    kaiser: bool = True
    manifold = Orthogonal

    def value_and_gradient(self, L):
        squares = L * L
        rest = squares - self.gamma * squares.sum(axis=0) / len(L)
        return -(squares * rest).sum() / 4, -L * rest


@dataclass(frozen=True)
class ObliminCriterion(Criterion):
    """Products of squared loadings on two factors (Jennrich & Sampson 1966, quartimin at 0)."""

    gamma: float
    kaiser: bool = True
    manifold = Oblique

    def value_and_gradient(self, L):
        squares = L * L
        others = squares.sum(axis=1, keepdims=True) - squares
        rest = others - self.gamma * others.sum(axis=0) / len(L)
        return (squares * rest).sum() / 4, L * rest


@dataclass(frozen=True)
class GeominCriterion(Criterion):
    """Geometric means of the squared loadings of each row (Yates 1987; Browne 2001)."""

    epsilon: float
    manifold: type[Orthogonal] | type[Oblique] = Oblique
    kaiser: bool = True

    def value_and_gradient(self, L):
        squares = L * L + self.epsilon
        means = np.exp(np.log(squares).mean(axis=1, keepdims=True))  # (d, 1)
        return means.sum(), 2 / L.shape[1] * means * L / squares


@dataclass(frozen=True, eq=False)
class TargetCriterion(Criterion):
    """Squared distances to the entries that a target specifies, not NaN (Browne 1972a, b)."""

    target: np.ndarray  # (d, q)
    manifold: type[Orthogonal] | type[Oblique] = Oblique
    kaiser = False
    surplus = False

    def value_and_gradient(self, L):
        gap = np.where(np.isnan(self.target), 0.0, L - np.nan_to_num(self.target))
        return (gap * gap).sum() / 2, gap

    def start(self, A):
        """Orthogonal Procrustes: the turn that comes nearest to the target, its gaps at zero."""
        return Orthogonal.retract(np.nan_to_num(self.target).T @ A)

    def arrange(self, L):
        """The target names the factors; signs are free where it specifies nothing but zeros."""
        free = (np.nan_to_num(self.target) == 0).all(axis=0)
        return np.arange(L.shape[1]), np.where(free, signs(L), 1.0)


@dataclass(frozen=True)
class PromaxTurn(Turning):
    """Varimax, then least squares towards powers of its loadings (Hendrickson & White 1964)."""

    power: float
    kaiser: bool = True
    manifold = Oblique

    @property
    def varimax(self):
        """Where it starts."""
        return OrthomaxCriterion(1.0, self.kaiser)

    def turn(self, W, rng, n_starts):
        B, converged = self.varimax.turn(W, rng, n_starts)
        L = W @ B.T
        r = principal_axes(W / self.varimax.lengths(W)[:, None])[1]
        order = np.argsort(-(L**2).sum(axis=0), kind="stable")[:r]  # those that explain something
        used = L[:, order]
        U = np.linalg.lstsq(used, self.powers(used), rcond=None)[0]
        if not apart(Oblique.retract(U.T)):  # rows of very different size: varimax is all there is
            return B, False
        B[order] = Oblique.retract(np.linalg.inv(U)) @ B[order]
        return B, converged

    def powers(self, L):
        """What varimax loadings are drawn towards, in columns of length one: real or complex."""
        target = L * (L * np.where(L.real < 0, -1.0, 1.0)) ** (self.power - 1)
        return target / np.sqrt((target * target).sum(axis=0))

    def of_varimax(self, L):
        """Loadings and factor correlations of varimax loadings of full rank, real or complex."""
        B = np.linalg.inv(np.linalg.solve(L.T @ L, L.T @ self.powers(L)))
        B = B / np.sqrt((B * B).sum(axis=1, keepdims=True))
        return L @ np.linalg.inv(B), B @ B.T

    def stationarity(self, L, Phi):
        raise ValueError(
            "promax makes no criterion stationary: the constraints are those of varimax, and "
            "of_varimax goes on from there"
        )
