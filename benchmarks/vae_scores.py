"""How far the scores of a VAE are from the truth: `python benchmarks/vae_scores.py`.

At most 500 rows of two tables by the default `score_samples` (256 points) and by 5000 other points
about the same most probable z; VAE defaults, fitted to all rows. Nats per row, signed for the mean.
The last columns say what the encoder alone would have given: its bound, and 5000 draws from it
weighed.
"""

import time
import warnings
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer, load_digits

from sklvm import VAE
from sklvm.networks.importance import normal_points

TABLES = {"breast cancer": load_breast_cancer, "digits": load_digits}
N_POINTS = 5000
MAX_ROWS = 500  # that are scored, drawn at random
BATCH = 50  # rows at once


def by_encoder(vae, noise, X):
    """log p(x) by draws from the encoder's Gaussian: (n, d) -> (n,)."""
    state = vae.state_
    x = torch.from_numpy((X - state.location) / state.scale)
    return state.model().bound(x, noise[:, None]).numpy() - state.log_jacobian(X)


def row_by_row(function, X):
    return np.concatenate([function(X[i : i + BATCH]) for i in range(0, len(X), BATCH)])


def main():
    print("| table | points | mean | mean size | worst row | SE covers | k > 0.7 | ", end="")
    print("encoder's bound, mean | encoder's points, mean | worst row |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, load in TABLES.items():
        X = load().data
        X = X[:, X.std(axis=0) > 0]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            vae = VAE(random_state=0).fit(X)
        X = np.random.default_rng(0).permutation(X)[:MAX_ROWS]
        points = normal_points(N_POINTS, vae.n_components_, np.random.default_rng(1))
        exact = row_by_row(replace(vae.state_, points=points).log_prob, X)
        began = time.process_time()
        scores, told = vae.score_samples(X, return_diagnostics=True)
        seconds = time.process_time() - began
        off = scores - exact
        noise = torch.from_numpy(points)
        encoder = row_by_row(partial(by_encoder, vae, noise), X) - exact
        bound = vae.tighten(X, 0)[0] - exact
        covered = np.mean(np.abs(off) <= 2 * told.standard_error)
        print(
            f"| {name} {X.shape} | {len(vae.points_)} | {off.mean():+.4f} "
            f"| {np.abs(off).mean():.4f} | {np.abs(off).max():.3f} | {covered:.1%} "
            f"| {np.mean(told.pareto_k > 0.7):.1%} "
            f"| {bound.mean():+.2f} | {encoder.mean():+.2f} | {np.abs(encoder).max():.1f} |"
        )
        print(f"  {vae.n_iter_} epochs; {seconds:.1f} s of CPU for the default scores", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
