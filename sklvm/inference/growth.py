"""The best mixture that is found on some rows for one size and one prior, from its neighbours.

A search over sizes walks from neighbour to neighbour: a state of fewer components is split, one of
more is merged, one under another prior is taken as it is.
"""

import warnings
from contextlib import suppress
from typing import NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from . import moves
from .blocks import each_block
from .em import em_from_best
from .history import Run
from .start import STARTS, Rows, representative

TOL = 1e-3  # nats per unit weight: differences that a search is after are larger
MAX_ITER = 100


class Part(NamedTuple):
    """Rows that one fold trains on and those that it holds out."""

    train: Rows
    test: Rows
    sample: Rows  # of the training rows, for short runs
    Z: np.ndarray  # the sample's rows without gaps, in comparable units
    seed: int

    @classmethod
    def of(cls, X, train, test, complete, seed):
        """From what each row (n, d) weighs in training and in test, (n,) each."""
        rows = Rows(X[train > 0], train[train > 0])
        sample = representative(*rows)
        return cls(rows, Rows(X[test > 0], test[test > 0]), sample, complete(sample), seed)

    def clusters(self, K):
        """Which cluster of a fresh start each row of the sample is in: (n,) int."""
        rng = np.random.default_rng((self.seed, K))
        return STARTS["kmeans"](self.Z, self.sample.weight, K, rng).argmax(axis=1)


class Found(NamedTuple):
    """Where one climb ended, and what the rows held out say of it."""

    run: Run
    log_likelihood: float  # of the training rows
    held_out: float  # log-likelihood of the others
    entropy: float  # of the training rows' latents


def search_from(part, broad, relatives, clusters=None):
    """Climb from the relatives of a state that is sought, and from clusters (n,) of the sample.

    `broad` gives size and prior; `relatives` are states of any size and prior.
    """
    with warnings.catch_warnings():  # a climb that stalls ends lower: the search goes elsewhere
        warnings.simplefilter("ignore", ConvergenceWarning)
        run = em_from_best(
            _starts(part, broad, relatives, clusters),
            part.sample,
            part.train,
            max_iter=MAX_ITER,
            tol=TOL,
            accelerate="squarem",
        )
    log_likelihood = run.objective * part.train.weight.sum() - run.state.log_prior()
    held_out = part.test.weight @ each_block(run.state.log_prob, part.test.X)
    entropy = part.train.weight @ each_block(
        lambda X: run.state.posterior(X).entropy(), part.train.X
    )
    return Found(run, float(log_likelihood), float(held_out), float(entropy))


def _starts(part, broad, relatives, clusters):
    X, weight = part.sample
    K = broad.n_latents
    if clusters is not None:
        yield broad.start(X, np.eye(K)[clusters] * weight[:, None])
    for state in relatives:
        for resp in moves.resized(state, X, weight, part.Z, K):
            with suppress(np.linalg.LinAlgError):
                yield broad.start(X, resp)
