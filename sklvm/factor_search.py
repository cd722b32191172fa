"""The search for a number of factors: what is asked of each size, and what is held out for it."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from .factor_state import FactorState
from .inference.blocks import each_block, has_gaps
from .inference.em import em_from_best
from .inference.factor_count import grow, largest_size, parallel_analysis
from .inference.factor_profile import Profile, maximum_likelihood
from .inference.history import FitInterrupted
from .inference.moments import pooled_moments
from .inference.start import distinct

FOLDS = 5
FEWEST = 3  # distinct rows, so that those which a fold trains on differ
TOL = {"profile": 1e-7, "em": 1e-5}  # differences that a search is after are larger
MAX_ITER = 500


@dataclass(frozen=True)
class FactorSearch:
    """How many factors these rows have: each way answers a number, and a table of what it saw."""

    X: np.ndarray  # (n, d)
    weight: np.ndarray  # (n,)
    penalty: float  # c of the Heywood penalty
    rng: np.random.Generator

    def parallel(self):
        """Eigenvalues above those of tables without factors."""
        q, eigenvalues, thresholds = parallel_analysis(self.X, self.weight, self.rng)
        table = {"eigenvalues": eigenvalues, "thresholds": thresholds}
        return min(q, self._largest), table

    def bic(self):
        """The smallest -2 log-likelihood + n_parameters log(weight)."""
        fit, total = fits(self.X, self.weight, self.penalty), self.weight.sum()

        def score(q):
            run = fit(q)
            log_likelihood = run.objective * total - run.state.log_prior()
            return 2 * log_likelihood - run.state.n_parameters * np.log(total)

        q, scores = grow(score, self._largest)
        return q, {"n_components": np.arange(len(scores)), "bic": -scores}

    def cv(self):
        """The highest log-likelihood of rows held out."""
        if len(distinct(self.X, self.weight)[0]) < FEWEST:
            raise ValueError(
                f"n_components='cv' needs {FEWEST} distinct rows at least: give a number of factors"
            )
        parts = [HeldOut.of(*part, self.penalty) for part in self._folds()]
        total = sum(part.weight.sum() for part in parts)
        q, scores = grow(lambda q: sum(part.score(q) for part in parts) / total, self._largest)
        return q, {"n_components": np.arange(len(scores)), "held_out": scores}

    @property
    def _largest(self):
        return largest_size(self.X.shape[1], self.weight.sum())

    def _folds(self):
        """Distinct rows in lexicographic order, dealt out: yields train, test, each X, weight."""
        order, mass = distinct(self.X, self.weight)
        for fold in range(min(FOLDS, len(order))):
            test = np.arange(len(order)) % FOLDS == fold
            yield (self.X[order[~test]], mass[~test]), (self.X[order[test]], mass[test])


@dataclass(frozen=True)
class HeldOut:
    """Rows of one fold, and the fits to the others."""

    X: np.ndarray
    weight: np.ndarray
    fit: Callable  # q -> Run

    @classmethod
    def of(cls, train, test, penalty):
        """Columns that are constant in training have no density there, and are left out."""
        (X, weight), (other, mass) = train, test
        varying = np.fmin.reduce(X) < np.fmax.reduce(X)
        X, other = X[:, varying], other[:, varying]
        telling = ~np.isnan(X).all(axis=1)
        return cls(other, mass, fits(X[telling], weight[telling], penalty))

    def score(self, q):
        return float(self.weight @ each_block(self.fit(q).state.log_prob, self.X))


def fits(X, weight, penalty):
    """What sizes share is worked out once: -> a function of q that gives the `Run` of a fit."""
    if has_gaps(X):
        mean, S = pooled_moments(X, weight)
        profile = Profile.of_covariance(S, weight.sum(), 0, penalty)

        def climb(q):
            return _em(starts(mean, S, profile.sized(q)), (X, weight))

    else:
        order, mass = distinct(X, weight)  # so that repeated rows change no bit
        mean, _, profile = Profile.of_data(X[order], mass, 0, penalty)

        def climb(q):
            return profile_fit(mean, profile.sized(q))

    def fit(q):
        try:
            return climb(q)
        except FitInterrupted:  # no size is chosen yet, so there is nothing to keep
            raise KeyboardInterrupt from None

    return fit


def starts(mean, S, profile):
    """States that EM with missing entries starts from: S (d, d) is the pooled covariance."""
    yield profile_fit(mean, profile).state
    yield FactorState.principal(mean, S, profile.spectrum.q, profile.penalty)


def _quietly(climb):
    """A climb that stalls ends lower, and a search goes elsewhere."""

    @wraps(climb)
    def quiet(*args):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return climb(*args)

    return quiet


@_quietly
def profile_fit(mean, profile):
    """Near the maximum of the profile likelihood: -> Run."""
    return maximum_likelihood(
        profile,
        lambda *factors: FactorState.of(mean, *factors),
        max_iter=MAX_ITER,
        tol=TOL["profile"],
    )


@_quietly
def _em(states, rows):
    settings = {"max_iter": MAX_ITER, "tol": TOL["em"], "accelerate": "squarem"}
    return em_from_best(states, rows, rows, **settings)


SEARCHES = {"parallel": FactorSearch.parallel, "bic": FactorSearch.bic, "cv": FactorSearch.cv}
