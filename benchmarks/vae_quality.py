"""How good the densities of a VAE are at its defaults: `... vae_quality.py --data PATH`.

Held-out nats per row on the tables, rows and splits of mixture_quality_density.py, beside factor
analysis, whose number of factors held-out rows choose, and scikit-learn's grid of mixtures. Then
the area under the ROC curve where the training rows are normal, as mixture_quality_anomaly.py has
it. Everything runs on one thread.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy is imported

import warnings
from functools import partial
from pathlib import Path

import numpy as np
import torch
from _quality import Results, arguments, table
from mixture_quality_anomaly import split as split_anomalies
from mixture_quality_density import METHODS, REFERENCE, split, version
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from sklvm import VAE, EMFactorAnalysis

EQUAL = {"factor analysis": 0.1, REFERENCE: 0.02}  # nats per row that count as no difference
MODELS = {
    "factor analysis": lambda seed: EMFactorAnalysis("cv", random_state=seed),
    REFERENCE: METHODS[REFERENCE],
    "VAE": lambda seed: VAE(likelihood="gaussian", random_state=seed),
}


def density(file, seed, size, model):
    train, test = split(file, seed, size)
    return float(MODELS[model](seed).fit(train).score(test))


def area(file, seed, size):
    train, test, anomaly = split_anomalies(file, "semi-supervised", seed, size)
    scores = MODELS["VAE"](seed).fit(train).score_samples(test)
    return float(roc_auc_score(anomaly, -np.maximum(scores, -1e300)))


def densities(options, results):
    """Print a line per table, and on how many the VAE is at or above the others."""
    names = [name for name, file in options.files.items() if split(file, 0, 100)[0].shape[1] > 1]
    found = {
        (name, model): [
            results.get(
                (model, version(model), name, seed, options.max_rows),
                partial(density, options.files[name], seed, options.max_rows, model),
            )[0]
            for seed in range(options.seeds)
        ]
        for name in names
        for model in MODELS
    }
    mean = {key: np.mean(values) for key, values in found.items()}
    rows = [[name, *(f"{mean[name, model]:.3f}" for model in MODELS)] for name in names]
    table("held-out nats per row, mean over seeds", ["table", *MODELS], rows)
    for peer, margin in EQUAL.items():
        count = sum(mean[name, "VAE"] >= mean[name, peer] - margin for name in names)
        print(f"  VAE: at or above {peer}, within {margin}, on {count} of {len(names)} tables")


def anomalies(options, results):
    """Print the mean area over the labelled tables."""
    files = sorted(Path(options.data, "adbench").glob("*.npz"))
    areas = []
    for file in files:
        for seed in range(options.seeds):
            key = ("VAE", version("VAE"), "area", file.stem, seed)
            areas.append(results.get(key, partial(area, file, seed, 10_000))[0])
    print(f"\nAUROC of {len(files)} tables, fitted to normal rows: mean {np.mean(areas):.4f}")


def main():
    content = "X, regression and classification sets; and adbench beside it"
    options = arguments(__doc__.splitlines()[0], "uci", content, max_rows=2000)
    results = Results(options.cache)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with threadpool_limits(1):
        densities(options, results)
        anomalies(options, results)


if __name__ == "__main__":
    main()
