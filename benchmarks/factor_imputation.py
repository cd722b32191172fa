"""Do imputed values know how uncertain they are? `... factor_imputation.py --data PATH`.

Entries are removed completely at random. The interval of a removed entry runs from the 5th to the
95th of 99 draws of `impute(how="sample", parameters="posterior")`, and holds the truth in 90 of 100
cases if the draws are right. Simulated tables have a factor structure; on real ones the number of
factors is that of parallel analysis. Everything on one thread.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy is imported

import warnings

import numpy as np
from _quality import Results, arguments, drawn, standardised, table
from threadpoolctl import threadpool_limits

import sklvm
from sklvm import EMFactorAnalysis

DRAWS, RATE = 99, 0.2
SIMULATED = [(100, 10, 2), (200, 20, 3), (1000, 10, 2)]  # n, d, q
TABLES = 20  # simulated ones of each size


def simulated(n, d, q, seed):
    """Rows of a factor model: (n, d)."""
    rng = np.random.default_rng(seed)
    noise = np.sqrt(rng.uniform(0.2, 3.0, d))
    return rng.normal(size=(n, q)) @ rng.normal(size=(q, d)) + noise * rng.normal(size=(n, d))


def coverage(X, n_components, seed):
    """Share of the removed entries that lie in their intervals."""
    rng = np.random.default_rng([seed, 1])
    gone = rng.uniform(size=X.shape) < RATE
    gone &= ~gone.all(axis=1, keepdims=True)
    holed = np.where(gone, np.nan, X)
    model = EMFactorAnalysis(n_components, tol=1e-6, random_state=seed).fit(holed)
    settings = {"how": "sample", "n_draws": DRAWS, "parameters": "posterior"}
    draws = np.sort(model.impute(holed, random_state=seed, **settings)[:, gone], axis=0)
    low, high = draws[4], draws[-5]
    inside = (low < X[gone]) & (X[gone] < high)
    # where a column has few values, a draw cannot be below or above all of them
    return float(inside.mean())


def real(file, size, seed):
    """Standardised rows of the columns that vary: (n, d)."""
    X, rng = np.load(file)["X"].astype(float), np.random.default_rng(seed)
    X = X[drawn(len(X), size, rng)]
    X = X[:, X.std(axis=0) > 0]
    return standardised(X)[0]


def main():
    """Print the coverage of simulated and of real tables."""
    print(f"sklvm {sklvm.__version__}, one thread; 90 % intervals, {RATE:.0%} missing")
    warnings.simplefilter("ignore")
    with threadpool_limits(1):
        rows = []
        for n, d, q in SIMULATED:
            found = [coverage(simulated(n, d, q, s), q, s) for s in range(TABLES)]
            error = np.std(found) / np.sqrt(TABLES)
            rows.append([f"{n, d, q}", f"{100 * np.mean(found):.1f}", f"{100 * error:.1f}"])
        table("simulated", ["(n, d, q)", "coverage %", "standard error"], rows)
        options = arguments(__doc__.splitlines()[0], "uci", "X", max_rows=500)
        results, rows = Results(options.cache), []
        for name, file in options.files.items():
            found = [
                results.get(
                    (name, seed, options.max_rows, sklvm.__version__),
                    lambda f=file, s=seed: coverage(real(f, options.max_rows, s), "parallel", s),
                )[0]
                for seed in range(options.seeds)
            ]
            spread = f"{100 * np.std(found):.1f}"
            rows.append([name, f"{100 * np.mean(found):.1f}", spread])
        table("real tables, parallel analysis", ["table", "coverage %", "sd"], rows)


if __name__ == "__main__":
    main()
