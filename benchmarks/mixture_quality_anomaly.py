"""How well densities find anomalies: `python benchmarks/mixture_quality_anomaly.py --data PATH`.

Area under the ROC curve over labelled tables, every method at its defaults. Semi-supervised: fitted
to a random half of the normal rows, ranked are the other rows. Unsupervised: fitted to all rows,
ranked are the same rows. Columns are standardised on the training rows. Then the CPU time of a
default detector, p-values included, on 3000 rows of 60 columns. Everything runs on one thread.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy is imported

import time
import warnings
from functools import partial

import numpy as np
import sklearn
from _quality import Results, arguments, drawn, standardised, table
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity, LocalOutlierFactor, NearestNeighbors
from sklearn.svm import OneClassSVM
from threadpoolctl import threadpool_limits

import sklvm
from sklvm import DensityOutlierDetector, GaussianMixtureEnsemble, Mixture, StudentT

NEIGHBOURS = 5
LARGE = (3000, 60)  # rows, columns of the timed fit


def _gmm_by_bic(train, test, seed):
    models = [
        GaussianMixture(K, covariance_type=kind, random_state=seed).fit(train)
        for kind in ("full", "tied", "diag", "spherical")
        for K in range(1, min(10, len(train) // 2) + 1)
    ]
    return min(models, key=lambda model: model.bic(train)).score_samples(test)


def _nearest(train, test, seed):
    """Less the distance to the fifth neighbour; a training row is not its own neighbour."""
    neighbours = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(train)
    return -neighbours.kneighbors(None if test is train else test)[0][:, -1]


def _lof(train, test, seed):
    if test is train:
        return LocalOutlierFactor().fit(train).negative_outlier_factor_
    return LocalOutlierFactor(novelty=True).fit(train).score_samples(test)


PEERS = {
    "GMM by BIC": _gmm_by_bic,
    "KDE": lambda train, test, seed: KernelDensity().fit(train).score_samples(test),
    "kNN-5": _nearest,
    "LOF": _lof,
    "IsolationForest": lambda train, test, seed: (
        IsolationForest(random_state=seed).fit(train).score_samples(test)
    ),
    "OneClassSVM": lambda train, test, seed: OneClassSVM().fit(train).score_samples(test),
}


def _ours(estimator=None):
    """A detector around a density; cv=None leaves out the p-values, which are no part of scores."""
    return lambda train, test, seed: (
        DensityOutlierDetector(estimator, cv=None, random_state=seed).fit(train).score_samples(test)
    )


# The second is the default's density without companions, the third one robust component.
METHODS = {
    **PEERS,
    "sklvm": _ours(),
    "sklvm, plain": _ours(GaussianMixtureEnsemble(50, tol=0.03)),
    "sklvm, t(1)": _ours(Mixture(emission=StudentT(df=1))),
}
SETTINGS = ("semi-supervised", "unsupervised")


def split(file, setting, seed, size):
    """Training rows, test rows and which of these are anomalies, standardised."""
    data, rng = np.load(file), np.random.default_rng(seed)
    X, y = data["X"].astype(float), data["y"].ravel().astype(int)
    chosen = drawn(len(X), size, rng)
    X, y = X[chosen], y[chosen]
    if setting == "unsupervised":
        (X,) = standardised(X)
        return X, X, y
    normal = np.flatnonzero(y == 0)
    train = normal[: len(normal) // 2]
    test = np.setdiff1d(np.arange(len(X)), train)
    return *standardised(X[train], X[test]), y[test]


def area(file, setting, seed, size, method):
    train, test, anomaly = split(file, setting, seed, size)
    scores = METHODS[method](train, test, seed)
    return float(roc_auc_score(anomaly, -np.maximum(scores, -1e300)))


def seconds_of_large(groups):
    """CPU seconds of a default fit, calibration included, with the scores of all rows."""
    rng = np.random.default_rng(0)
    centres = 3 * rng.normal(size=(groups, LARGE[1])) * (groups > 1)
    X = rng.normal(size=LARGE) + centres[rng.integers(groups, size=LARGE[0])]
    DensityOutlierDetector(random_state=0).fit(X[:50])  # compiles
    began = time.process_time()
    DensityOutlierDetector(random_state=0).fit(X).score_samples(X)
    return time.process_time() - began


def version(method):
    return sklvm.__version__ if method.startswith("sklvm") else sklearn.__version__


def report(setting, names, found):
    """One line per table: mean area over the seeds (standard deviation), in per cent."""
    rows = []
    for name in names:
        areas = [100 * np.array(found[setting, name, method]) for method in METHODS]
        rows.append([name, *(f"{a.mean():.1f} ({a.std():.1f})" for a in areas)])
    mean = {
        method: np.mean([np.mean(found[setting, name, method]) for name in names])
        for method in METHODS
    }
    rows.append(["mean", *(f"{100 * mean[method]:.2f}" for method in METHODS)])
    table(f"{setting}: AUROC in per cent, mean (sd) over seeds", ["table", *METHODS], rows)
    best = max(PEERS, key=mean.get)
    return mean, best


def main():
    """Measure what is not in the cache, and print both tables."""
    options = arguments(__doc__.splitlines()[0], "adbench", "ADBench: X, and y = 1 for anomalies")
    results = Results(options.cache)
    warnings.simplefilter("ignore")
    found, seconds = {}, {}
    with threadpool_limits(1):
        for setting in SETTINGS:
            for method in options.methods or METHODS:
                for name, file in options.files.items():
                    for seed in range(options.seeds):
                        key = (method, version(method), setting, name, seed, options.max_rows)
                        value, cost = results.get(
                            key, partial(area, file, setting, seed, options.max_rows, method)
                        )
                        found.setdefault((setting, name, method), []).append(value)
                        seconds.setdefault(method, []).append(cost)
    if options.methods:
        for key, values in found.items():
            print(*key, f"{np.mean(values):.4f}")
        return
    for setting in SETTINGS:
        mean, best = report(setting, list(options.files), found)
        for peer in dict.fromkeys([best, "IsolationForest"]):
            for ours in [method for method in METHODS if method not in PEERS]:
                print(f"  {ours} less {peer}: {mean[ours] - mean[peer]:+.4f}")
    with threadpool_limits(1):
        large = {groups: f"{seconds_of_large(groups):.1f}" for groups in (1, 10)}
    print(f"\nCPU seconds of a default fit, p-values included, of {LARGE}, by groups:", large)
    costs = {method: f"{np.mean(cost):.2f}" for method, cost in seconds.items()}
    print("\nCPU seconds of a fit with its scores, mean:", costs)


if __name__ == "__main__":
    main()
