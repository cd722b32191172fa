"""Standard errors of factor analysis against simulations: `python benchmarks/factor_conf_int.py`.

2000 tables of 400 rows from two correlated factors behind eight columns, drawn as covariance
matrices. Printed is the mean standard error divided by the standard deviation of the estimates over
the tables, smallest and largest over the parameters of a kind, and the share of 95 % intervals
that hold the truth, over tables and parameters.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy is imported

import time
from dataclasses import replace
from itertools import permutations

import numpy as np
from _timing import table

from sklvm import EMFactorAnalysis
from sklvm.numerics.rotation import rotate
from sklvm.rotations import ROTATIONS

TABLES, ROWS = 2000, 400
PATTERN = np.array(
    [[0.8, 0.7, 0.75, 0.6, 0.3, 0.0, 0.1, 0.0], [0.0, 0.1, 0.0, 0.2, 0.5, 0.7, 0.6, 0.8]]
)
CORRELATION = np.array([[1.0, 0.3], [0.3, 1.0]])
KINDS = ("loadings", "uniquenesses", "factor_correlation")


def population():
    """Covariance (d, d) of columns of variance one."""
    common = PATTERN.T @ CORRELATION @ PATTERN
    return common + np.diag(1 - np.diag(common))


def fit(S, rotation):
    """A model of a covariance matrix, its factors turned."""
    model = EMFactorAnalysis(2, tol=1e-10).fit_covariance(S, ROWS)
    if rotation is None:
        return model
    state, spec = model.state_, ROTATIONS[rotation]
    criterion = spec.criterion(*state.loadings.shape)
    turn = rotate(state.standardised_loadings, criterion, np.random.default_rng(0), 3).turn
    model.run_, model.rotation = model.run_._replace(state=replace(state, turn=turn)), spec
    return model


def draw(rng, root):
    """The covariance of ROWS normal rows."""
    X = rng.standard_normal((ROWS, len(root))) @ root.T
    return np.cov(X.T, bias=True)


def aligned(model, truth):
    """Estimates and intervals, factors in the order and with the signs of the truth."""
    L, target = model.loadings_, truth.loadings_
    score = lambda order: np.abs((L[:, order] * target).sum(axis=0)).sum()
    order = list(max(permutations(range(L.shape[1])), key=score))
    sign = np.sign((L[:, order] * target).sum(axis=0))
    turns = {
        "loadings": lambda A: (A[:, order] * sign).ravel(),
        "uniquenesses": lambda A: A,
        "factor_correlation": lambda A: (A[np.ix_(order, order)] * np.outer(sign, sign))[:1, 1],
    }
    intervals = model.conf_int()
    for kind in KINDS:
        low, high, error = (turns[kind](part) for part in getattr(intervals, kind))
        low, high = np.minimum(low, high), np.maximum(low, high)
        yield turns[kind](getattr(model, f"{kind}_")), low, high, np.abs(error)


def study(rotation, tables=TABLES, seed=0):
    """For each kind of parameter: mean errors, deviations of estimates, coverages."""
    truth, rng = fit(population(), rotation), np.random.default_rng(seed)
    root = np.linalg.cholesky(population())
    found = zip(*(aligned(fit(draw(rng, root), rotation), truth) for _ in range(tables)))
    for kind, results, (goal, *_) in zip(KINDS, found, aligned(truth, truth)):
        estimate, low, high, error = (np.array(part) for part in zip(*results))
        covered = (low <= goal) & (goal <= high)
        yield kind, error.mean(axis=0), estimate.std(axis=0), covered.mean(axis=0)


def main():
    lines = []
    for rotation in (None, "varimax", "oblimin"):
        began = time.process_time()
        rows = []
        for kind, error, deviation, covered in study(rotation):
            if deviation.max() < 1e-12:
                continue  # uncorrelated factors are given
            ratio = error / deviation
            cells = [f"{ratio.min():.3f}", f"{ratio.max():.3f}", f"{100 * covered.mean():.1f}"]
            rows.append([str(rotation), kind, *cells])
        took = 1e3 * (time.process_time() - began) / TABLES
        lines += [[*row, f"{took:.0f}"] for row in rows]
    header = ["rotation", "parameters", "least ratio", "largest", "covered, %", "CPU ms, each"]
    table(f"standard errors by deviations, {TABLES} tables of {ROWS} rows", header, lines)


if __name__ == "__main__":
    main()
