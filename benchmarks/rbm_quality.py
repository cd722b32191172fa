"""Bars and stripes, exact log-likelihood: scikit-learn's BernoulliRBM and RBM at their defaults.

All 30 pictures of 4 x 4 pixels with equal rows or equal columns are equally probable: the best mean
log-likelihood is -log 30 = -3.40, that of uniform bits -11.09. The pseudo-likelihood that
scikit-learn calls `score_samples` is shown beside the truth.

    python benchmarks/rbm_quality.py [--mnist PATH] [--updates N]

With `--mnist`, a file of packed bits with the arrays train and valid (binarised MNIST), RBM(500) is
trained besides; 1000 random validation rows are scored, and 50 of them by annealing backwards.
"""

import argparse
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from _timing import table
from sklearn.neural_network import BernoulliRBM

from sklvm import RBM


def bars_and_stripes(size=4):
    lines = (np.arange(2**size)[:, None] >> np.arange(size) & 1).astype(float)
    return np.unique(np.r_[np.repeat(lines, size, axis=1), np.tile(lines, (1, size))], axis=0)


def counted(peer):
    """A fitted BernoulliRBM whose states are counted."""
    return RBM.from_parameters(
        components=peer.components_,
        intercept_visible=peer.intercept_visible_,
        intercept_hidden=peer.intercept_hidden_,
    )


def mnist(path, n_updates):
    """Held-out negative log-likelihood of RBM(500) on binarised MNIST."""
    packed = np.load(path)
    X, V = (np.unpackbits(packed[k], axis=1).astype(np.float32) for k in ("train", "valid"))
    V = V[np.random.default_rng(0).choice(len(V), 1000, replace=False)]
    model = RBM(500, n_steps=1, n_updates=n_updates, random_state=0)
    began = time.process_time()
    model.fit(X)
    seconds = time.process_time() - began
    state = model.state_
    two = state.sums.annealing._replace(n_chains=2)
    half = replace(state, sums=replace(state.sums, annealing=two))
    back = half.lower_bound(V[:50, ~model.constant_].astype(float))
    table(
        f"binarised MNIST, 500 hidden bits, {n_updates} steps, {seconds:.0f} CPU s with log Z",
        ["NLL", "log Z, standard error", "50 rows", "50 rows, backwards"],
        [
            [
                f"{-model.score(V):.2f}",
                f"{model.log_partition_:.2f}, {model.log_partition_stderr_:.2f}",
                f"{-model.score(V[:50]):.2f}",
                f"{-back.mean():.2f}",
            ]
        ],
    )


def bars(seeds=3):
    X = bars_and_stripes()
    rows = []
    for rate, n_iter in ((0.1, 10), (0.1, 500), (0.02, 500)):
        fits = [
            BernoulliRBM(16, learning_rate=rate, n_iter=n_iter, random_state=s).fit(X)
            for s in range(seeds)
        ]
        exact = [counted(fit).score(X) for fit in fits]
        pseudo = [fit.score_samples(X).mean() for fit in fits]
        rows.append([f"scikit-learn, rate {rate}, {n_iter} epochs", exact, pseudo])
    for settings in ({}, {"solver": "contrastive"}):
        fits = [RBM(16, random_state=s, **settings).fit(X) for s in range(seeds)]
        exact = [fit.score(X) for fit in fits]
        pseudo = [fit.pseudo_likelihood(X).mean() for fit in fits]
        rows.append([f"sklvm, {settings.get('solver', 'defaults')}", exact, pseudo])
    table(
        "bars and stripes 4 x 4, 16 hidden bits, nats per row (range over seeds)",
        ["model", "log-likelihood", "pseudo-likelihood"],
        [[name, *(f"{min(v):.2f} to {max(v):.2f}" for v in values)] for name, *values in rows],
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    there = Path(os.environ.get("SKLVM_DATA", "")) / "binarized_mnist"
    found = sorted(there.glob("*.npz")) if "SKLVM_DATA" in os.environ else []
    parser.add_argument("--mnist", default=found[0] if found else None)
    parser.add_argument("--updates", type=int, default=10000)
    options = parser.parse_args()
    bars()
    if options.mnist is not None:
        mnist(options.mnist, options.updates)


if __name__ == "__main__":
    main()
