"""How much memory a whole fit needs beyond X: `python benchmarks/mixture_memory.py`.

Each fit runs in a process of its own, which makes X (1 million rows, 8 columns, 64 MB) block by
block and fits a small table first, so that everything is loaded. The figure is how much higher the
peak of the resident set is after the fit. Sixteen full matrices, one thread, three iterations; our
second row goes on to convergence, the third from the fit of the small table, so that it shows what
the iterations need.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy is imported

import resource
import subprocess
import sys
import warnings

import numpy as np
from _timing import table

N, D, K = 1_000_000, 8, 16
FITS = {
    "scikit-learn": "three iterations",
    "sklvm": "three iterations",
    "sklvm, converged": "to convergence",
    "sklvm, warm start": "three iterations alone",
}


def rows(n):
    """Overlapping groups, made without a copy of the whole."""
    rng = np.random.default_rng(0)
    means, X = 2 * rng.standard_normal((K, D)), np.empty((n, D))
    for block in np.array_split(X, max(1, n // 10_000)):
        block[:] = means[rng.integers(K, size=len(block))]
        block += rng.standard_normal(block.shape)
    return X


def model(name):
    if name == "scikit-learn":
        from sklearn.mixture import GaussianMixture

        return GaussianMixture(K, max_iter=3, random_state=0)
    from sklvm import GaussianMixture

    if name == "sklvm, converged":
        return GaussianMixture(K, random_state=0)
    return GaussianMixture(K, max_iter=3, warm_start="warm" in name, random_state=0)


def peak():
    """Highest resident set of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(name):
    """MiB that a fit adds to the peak; log-likelihood per row; iterations."""
    warnings.simplefilter("ignore")
    fitted = model(name).fit(rows(20_000))
    X = rows(N)
    before = peak()
    fitted.fit(X)
    added = peak() - before
    print(added, fitted.score(X[:100_000]), fitted.n_iter_)


def main():
    """Measure each in its own process, and print the table."""
    lines = []
    for name, what in FITS.items():
        run = subprocess.run(
            [sys.executable, __file__, name], capture_output=True, text=True, check=True
        )
        added, score, n_iter = map(float, run.stdout.split())
        lines.append([name, what, f"{added:.1f}", f"{score:.4f}", f"{n_iter:.0f}"])
    header = ["fit", "of", "MiB beyond X", "nats per row", "iterations"]
    table(f"memory of a fit, n = {N:,}, d = {D}, K = {K}, full", header, lines)


if __name__ == "__main__":
    measure(*sys.argv[1:]) if len(sys.argv) > 1 else main()
