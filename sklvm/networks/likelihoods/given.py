"""Columns that a density is given: networks see them, and no probability is asked of them."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch

from ...emissions.base import OutsideSupport
from .base import Likelihood, Linear, seen_mean
from .columns import ColumnLikelihoods, joined


@dataclass(frozen=True)
class GivenColumns(Likelihood):
    """A factor of 1. Encoder and decoder see the columns as an encoder sees those of `kind`."""

    kind: Likelihood
    n: int  # columns

    name: ClassVar[str] = "given"
    base_measure: ClassVar[str] = "given"

    # -- which numbers a column owns -------------------------------------------------------------

    def outputs(self, columns, d):
        return np.arange(0)

    def features(self, columns, d):
        return self.kind.features(columns, d)

    contexts = features

    def n_columns(self, n_features):
        return self.kind.n_columns(n_features)

    def take(self, columns):
        return replace(self, kind=self.kind.take(columns), n=len(columns))

    def given(self, d):
        return np.ones(d, bool)

    @property
    def spec(self):
        return self.kind.spec

    @property
    def is_known(self):
        return self.kind.is_known

    @property
    def jointly(self):
        return self.kind

    # -- supports and units ----------------------------------------------------------------------

    def check(self, X):
        _refuse(np.isnan(X), "are missing (NaN), and what is given is not modelled: fill them")
        self.kind.check(X)
        if self.kind.is_known:
            unknown = ~self.kind.telling(torch.tensor(X)).numpy()
            _refuse(unknown, "are of categories that fit has not seen")

    def told(self, X, weight):
        pairs = self.kind.told(X, weight)
        return [(GivenColumns(kind, len(own)), own) for kind, own in pairs]

    def units(self, line, weight, mean, variance):
        return self.kind.units(line, weight, mean, variance)

    def in_units(self, scale):
        return replace(self, kind=self.kind.in_units(scale))

    def to_line(self, X):
        return self.kind.to_line(X)

    def from_line(self, line):
        return self.kind.from_line(line)

    # -- the density -----------------------------------------------------------------------------

    def terms(self, x, eta):
        return torch.zeros_like(x)

    def log_prob(self, x, eta):
        return x.new_zeros(())

    def log_prob_and_slope(self, x, eta):
        return self.log_prob(x, eta), eta

    def fisher(self, eta):
        return eta.outputs

    def information(self, x, eta, J):
        return J @ J.mT  # of no output: zeros

    def mean(self, eta):
        """Nothing is said of them: NaN."""
        return eta.outputs.new_full((*eta.outputs.shape[:-1], self.n), np.nan)

    mode = mean

    def sample(self, eta, rng):
        return self.mean(eta)

    # -- what encoders see, and where training starts --------------------------------------------

    def shown(self, x):
        return self.kind.shown(x)

    context = shown

    def telling(self, x):
        """They say nothing of z by themselves, so that their masks are 0, ..."""
        return torch.zeros_like(x, dtype=torch.bool)

    def shows(self, x):
        """... and are always there."""
        return torch.ones_like(self.shown(x), dtype=torch.bool)

    def n_working(self, d):
        return 0

    def working(self, x, weight):
        return np.empty((len(x), 0))

    def linear(self, x, weight, factors):
        q, features = factors.W.shape[1], self.shown(torch.from_numpy(x)).numpy()
        centre = seen_mean(features, weight)
        spread = np.sqrt(seen_mean((features - centre) ** 2, weight))
        spread = np.where(spread > 0, spread, 1.0)
        nothing, none = np.empty((0, q)), np.empty(0)
        return Linear(
            nothing, none, none, np.zeros((q, q)), np.zeros((q, len(centre))), centre, spread
        )


def _refuse(wrong, why):
    if wrong.any():
        message = f"contexts (condition_on) {why}"
        raise OutsideSupport(message, np.flatnonzero(wrong.any(axis=0)))


def given(likelihood, columns, d):
    """A likelihood of d columns that no rows were told to, which some of the columns are given.

    What is given comes last, so that its features do.
    """
    parts, places = [likelihood], [np.arange(d)]
    if isinstance(likelihood, ColumnLikelihoods):
        parts, places = likelihood.parts, likelihood.places
    modelled, told = [], []
    for part, place in zip(parts, places, strict=True):
        inside = np.isin(place, columns)
        modelled.append((part, place[~inside]))
        told.append((GivenColumns(part, inside.sum()), place[inside]))
    return joined([(part, own) for part, own in modelled + told if len(own)])
