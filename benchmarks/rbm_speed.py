"""One epoch of stochastic training: RBM beside scikit-learn's BernoulliRBM, CPU time on one thread.

    python benchmarks/rbm_speed.py [--rows N]

Both take one Gibbs step per batch with persistent chains, 100 rows and 100 chains, 784 columns and
256 hidden bits. RBM centres, decays and averages besides, and computes in single precision.
"""

import argparse

import numpy as np
from _timing import race, table
from sklearn.neural_network import BernoulliRBM
from threadpoolctl import threadpool_limits

from sklvm.inference.contrastive import Contrast, contrastive
from sklvm.rbm_fit import BernoulliColumns, Weights


def epoch(X, q, batch, rng):
    """One epoch of the trainer over float32 rows."""
    columns, d = BernoulliColumns(None), X.shape[1]
    W = 0.01 * rng.standard_normal((q, d))
    start = Weights(np.zeros(d), np.zeros(q), W, np.empty(0))
    sampler = columns.sampler(np.random.Generator(np.random.SFC64(0)))
    settings = {"batch_size": batch, "n_chains": batch, "n_steps": 1, "persistent": True}
    weight = np.ones(len(X))
    contrast = Contrast(sampler, start, X, weight, **settings, rng=rng)

    def run():
        contrastive(
            contrast,
            weight,
            epochs=1,
            batch_size=batch,
            learning_rate=0.05,
            decay=1e-6,
            rng=rng,
            state_of=lambda end: end,
        )

    return run


def main(n=60000, d=784, q=256, batch=100, runs=5):
    rng = np.random.default_rng(0)
    prototypes = rng.random((20, d)) < 0.3
    X = (prototypes[rng.integers(20, size=n)] ^ (rng.random((n, d)) < 0.05)).astype(np.float32)
    rows = []
    for name, data in (("float64", X.astype(np.float64)), ("float32", X)):
        peer = BernoulliRBM(q, learning_rate=0.05, batch_size=batch, n_iter=1, random_state=0)
        with threadpool_limits(1):
            result = race(lambda p=peer, x=data: p.fit(x), epoch(X, q, batch, rng), runs)
        rows.append([f"scikit-learn {name}", *result.cells()])
    table(
        f"one epoch, {n} x {d}, {q} hidden bits, batches of {batch}",
        ["", "theirs, ms", "ours, ms", "ratio", "range"],
        rows,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=60000)
    main(parser.parse_args().rows)
