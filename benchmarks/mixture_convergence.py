"""Passes over the rows that EM needs with SQUAREM and without: `python mixture_convergence.py`.

First table: overlapping clusters of 5000 rows, full matrices, both from the state after 60 plain
steps, so that both climb the same hill; passes until the objective is within 1e-6 (relative) of
where 20 000 plain steps end. Second table: small problems from raw random starts, no warm-up beyond
the driver's own; how far the accelerated climb ends below the plain one (nats per row).
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy is imported

import warnings

import numpy as np
from _timing import table
from threadpoolctl import threadpool_limits

from sklvm import GaussianMixture
from sklvm.inference.em import em, evaluate

OVERLAPPING = [(5000, 4, 5, 1.0), (5000, 8, 8, 1.0), (5000, 16, 8, 0.7), (5000, 2, 6, 1.5)]
OVERLAPPING += [(5000, 8, 4, 0.6)]
PROBLEMS = 200
LIMIT = 20_000  # plain steps that stand for infinitely many
CLOSE = 1e-6  # relative distance from the end that counts as there
WORSE = 1e-3  # nats per row


def problem(n, d, K, separation, seed):
    """Rows of K unit Gaussians, and responsibilities to start from: by the nearest random rows."""
    rng = np.random.default_rng(seed)
    means = separation * rng.standard_normal((K, d))
    X = means[rng.integers(K, size=n)] + rng.standard_normal((n, d))
    centres = X[rng.choice(n, K, replace=False)]
    return X, np.eye(K)[((X[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)]


def start_of(X, resp):
    """The state that responsibilities imply, under the default prior for so many components."""
    model = GaussianMixture(resp.shape[1], n_init=1, max_iter=1, split_merge=False, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(X).state_.start(X, resp)


def climb(state, X, **settings):
    return em(state, (X, np.ones(len(X))), strict=True, **settings)


def after(state, X, steps):
    """The state after some plain steps."""
    for _ in range(steps):
        state = state.m_step(evaluate(state, (X, np.ones(len(X)))).stats)
    return state


def first_within(history, target):
    """Passes until the history reaches the target, or all of them."""
    there = np.flatnonzero(history >= target)
    return int(there[0]) if len(there) else len(history)


def passes():
    """One line per overlapping problem."""
    rows, ratios = [], []
    for n, d, K, separation in OVERLAPPING:
        X, resp = problem(n, d, K, separation, 0)
        state = after(start_of(X, resp), X, 60)
        plain = climb(state, X, max_iter=LIMIT, tol=0.0).history
        target = plain[-1] - CLOSE * abs(plain[-1])
        leaps = climb(state, X, max_iter=len(plain), tol=0.0, accelerate="squarem").history
        counts = first_within(plain, target), first_within(leaps, target)
        ratios.append(counts[0] / counts[1])
        rows.append([f"({n}, {d}, {K}, {separation})", *map(str, counts), f"{ratios[-1]:.2f}"])
    rows.append(["median", "", "", f"{np.median(ratios):.2f}"])
    header = ["(n, d, K, separation)", "plain", "squarem", "fewer"]
    table("passes to within 1e-6 of the end, from the same state", header, rows)


def safety():
    """How often and how far an accelerated climb ends lower than the plain one."""
    losses, counts = [], []
    for seed in range(PROBLEMS):
        rng = np.random.default_rng([7, seed])
        d, K = int(rng.integers(1, 6)), int(rng.integers(2, 7))
        X, resp = problem(300, d, K, rng.uniform(0.5, 3.0), seed)
        state, settings = start_of(X, resp), {"max_iter": 5000, "tol": 1e-7}
        runs = [climb(state, X, accelerate=how, **settings) for how in (None, "squarem")]
        losses.append(runs[0].objective - runs[1].objective)
        counts.append([run.n_iter for run in runs])
    losses, counts = np.array(losses), np.array(counts)
    rows = [
        ["problems", f"{PROBLEMS}"],
        [f"worse by more than {WORSE:g} nats per row", f"{np.mean(losses > WORSE):.1%}"],
        [f"better by more than {WORSE:g}", f"{np.mean(losses < -WORSE):.1%}"],
        ["mean gain over plain EM, nats per row", f"{-losses.mean():+.1e}"],
        ["passes, plain and squarem, median", "{:.0f}, {:.0f}".format(*np.median(counts, axis=0))],
        ["passes, plain and squarem, sum", "{}, {}".format(*counts.sum(axis=0))],
    ]
    table("where both end, from the same random start", ["", ""], rows)


def main():
    with threadpool_limits(1):
        passes()
        safety()


if __name__ == "__main__":
    main()
