"""What makes a row an outlier, given a density: one number per row, lower where it is odder."""

from typing import NamedTuple

import numpy as np


class LogDensity:
    """The log density: odd is what is improbable."""

    verb = "score_samples"
    is_explained = True

    @classmethod
    def of(cls, model, X, weight):
        """The statistic of a model that was fitted to rows of some weight (None: 1 each)."""
        return cls()

    def __call__(self, model, X):
        """-> (n,)."""
        return model.score_samples(X)


class Typicality(NamedTuple):
    """-|log density + entropy|: odd is what is less, or more, probable than rows are on average.

    Entropy is minus the mean log density of the training rows (Nalisnick et al. 2019).
    """

    entropy: float  # nats

    verb = "score_samples"
    is_explained = False

    @classmethod
    def of(cls, model, X, weight):
        return cls(-float(np.average(model.score_samples(X), weights=weight)))

    def __call__(self, model, X):
        return -np.abs(np.asarray(model.score_samples(X)) + self.entropy)


class Regret(LogDensity):
    """Minus the likelihood regret: odd is what an encoder misjudges (Xiao, Yan & Amit 2020)."""

    verb = "regret"
    is_explained = False

    def __call__(self, model, X):
        return -model.regret(X)


STATISTICS = {"log_density": LogDensity, "typicality": Typicality, "regret": Regret}
