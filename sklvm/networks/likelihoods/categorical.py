"""Columns of codes 0, 1, 2, ... without an order."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch.nn.functional import one_hot, pad

from ...emissions.categorical import COMPARED, MOST, Categorical
from .base import Likelihood, Linear


@dataclass(frozen=True)
class CategoricalLikelihood(Likelihood):
    """p(x_j = c) = (1 - reserve) softmax(0, eta_j)_c for codes c < C, `reserve` for all beyond.

    Code 0 has log odds 0, the others C - 1 outputs. What fit never saw has a small probability
    that no z changes, never 0; with a declared number of categories there is nothing beyond.
    """

    n_categories: int | None = None  # C of every column
    reserve: float | None = None  # None: what one more row, of unseen categories, would make it

    name: ClassVar[str] = "categorical"
    base_measure: ClassVar[str] = "counting"
    positive_only: ClassVar[bool] = True

    @property
    def needs(self):
        return f"codes 0 to {self.n_categories - 1}" if self.reserve == 0 else "codes 0, 1, 2, ..."

    @property
    def spec(self):
        return Categorical(n_categories=self.n_categories) if self.reserve == 0 else self.name

    @property
    def is_known(self):
        return self.n_categories is not None

    def _inside(self, X):
        most = self.n_categories if self.reserve == 0 else MOST
        return (X >= 0) & (np.floor(X) == X) & (most > X)

    def told(self, X, weight):
        """Columns of equally many categories go together."""
        sizes = np.fmax.reduce(X, axis=0).astype(int) + 1
        if self.n_categories is not None:
            sizes[:] = self.n_categories
        parts = []
        for C in np.unique(np.maximum(sizes, 2)).tolist():
            reserve = 1 / ((C + 1) * (weight.sum() + 1)) if self.reserve is None else self.reserve
            own = np.flatnonzero(np.maximum(sizes, 2) == C)
            parts.append((replace(self, n_categories=C, reserve=float(reserve)), own))
        return parts

    def outputs(self, columns, d):
        return np.arange(d * (self.n_categories - 1)).reshape(d, -1)[columns].ravel()

    features = outputs

    def n_columns(self, n_features):
        return n_features // (self.n_categories - 1)

    def logits(self, eta):
        """Log odds of each code against code 0: -> (..., d, C)."""
        return pad(eta.outputs.unflatten(-1, (-1, self.n_categories - 1)), (1, 0))

    def terms(self, x, eta):
        log_p = self.logits(eta).log_softmax(-1)
        code = x.clamp(max=self.n_categories - 1).long()
        shape = torch.broadcast_shapes(code.shape, log_p.shape[:-1])
        chosen = log_p.expand(*shape, -1).gather(-1, code.expand(shape)[..., None])[..., 0]
        known = chosen + math.log1p(-self.reserve)
        if self.complete or self.reserve == 0:
            return known
        return torch.where(x < self.n_categories, known, math.log(self.reserve))

    def fisher(self, eta):
        p = self.logits(eta).softmax(-1)[..., 1:]
        return (p * (1 - p)).flatten(-2)

    def information(self, x, eta, J):
        """Sum over columns of J (diag p - p p') J': -> (n, q, q)."""
        p = self.logits(eta).softmax(-1)[..., 1:] * self.telling(x)[..., None]  # (n, d, C - 1)
        slopes = J.unflatten(-1, p.shape[-2:])  # (n, q, d, C - 1)
        weighted = slopes * p[:, None]
        average = weighted.sum(-1)  # (n, q, d)
        return weighted.flatten(-2) @ J.mT - average @ average.mT

    def mean(self, eta):
        """The average code, of those that fit saw."""
        codes = torch.arange(self.n_categories, dtype=eta.outputs.dtype)
        return self.logits(eta).softmax(-1) @ codes

    def mode(self, eta):
        return self.logits(eta).argmax(-1).to(eta.outputs.dtype)

    def sample(self, eta, rng):
        """By the inverse distribution function; C, the first code beyond, stands for all unseen."""
        p = (1 - self.reserve) * self.logits(eta).softmax(-1)
        uniform = torch.from_numpy(rng.uniform(size=p.shape[:-1]))
        top = self.n_categories - (self.reserve == 0)
        return (p.cumsum(-1) <= uniform[..., None]).sum(-1).clamp(max=top).to(p.dtype)

    def shown(self, x):
        """Ones for the code that a row has, code 0 none: (n, d) -> (n, d (C - 1))."""
        code = torch.where(x < self.n_categories, x, 0.0).long()
        return one_hot(code, self.n_categories)[..., 1:].flatten(-2).to(x.dtype)

    def telling(self, x):
        return x < self.n_categories

    def shows(self, x):
        return self.telling(x).repeat_interleave(self.n_categories - 1, -1)

    def n_working(self, d):
        return d * min(self.n_categories - 1, COMPARED)

    def _shares(self, x, weight):
        """Smoothed frequencies: -> (d, C)."""
        codes = np.arange(self.n_categories)
        counts = np.stack([weight @ (column[:, None] == codes) for column in x.T])
        return (counts + 0.5) / (counts + 0.5).sum(axis=1, keepdims=True)

    def working(self, x, weight):
        """Indicators of the most frequent codes, uncorrelated within a column, of variance 1."""
        columns = zip(x.T, self._shares(x, weight), strict=True)
        return np.hstack([_contrasts(column, p) for column, p in columns])

    def linear(self, x, weight, factors):
        """Log odds at frequencies, loadings as if all categories of a column were as frequent."""
        shares, (d, C) = self._shares(x, weight), (x.shape[1], self.n_categories)
        W = np.zeros((d, C - 1, factors.W.shape[1]))
        F = np.zeros((W.shape[2], W.shape[2]))
        for j, (p, loadings) in enumerate(zip(shares, np.split(factors.W, d), strict=True)):
            W[j, _frequent(p) - 1] = _root(np.full(C, 1 / C), _frequent(p), -0.5) @ loadings
            average = p[1:] @ W[j]
            F += (W[j].T * p[1:]) @ W[j] - np.outer(average, average)
        W, centre = W.reshape(d * (C - 1), -1), shares[:, 1:].ravel()
        offset = np.log(shares[:, 1:] / shares[:, :1]).ravel()
        return Linear(W, offset, np.empty(0), F, W.T, centre, np.ones(len(centre)))


def _frequent(p):
    """The most frequent codes but 0, in order."""
    return 1 + np.sort(np.argsort(-p[1:], kind="stable")[:COMPARED])


def _root(p, codes, power):
    """A power of the covariance diag(p) - p p' of some codes' indicators."""
    p = p[codes]
    values, vectors = np.linalg.eigh(np.diag(p) - np.outer(p, p))
    return (vectors * values**power) @ vectors.T


def _contrasts(column, p):
    codes = _frequent(p)
    ones = np.where(np.isnan(column)[:, None], np.nan, column[:, None] == codes)
    return (ones - p[codes]) @ _root(p, codes, -0.5)
