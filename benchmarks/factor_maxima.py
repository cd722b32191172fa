"""Which maximum of the likelihood is found: `python benchmarks/factor_maxima.py --data PATH`.

The likelihood of factor analysis has several maxima. Training log-likelihood of scikit-learn's
FactorAnalysis, iterated to the end, and of ours without the penalty, on standardised columns. Left
out are tables with a column that others determine: their likelihood has no maximum.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy is imported

import warnings

import numpy as np
import sklearn
from _quality import Results, arguments, drawn, standardised, table
from sklearn.decomposition import FactorAnalysis
from threadpoolctl import threadpool_limits

import sklvm
from sklvm import EMFactorAnalysis

FACTORS = (1, 2, 3, 5)
EQUAL = 1e-3  # nats per row
SINGULAR = 1e-5  # smallest eigenvalue of correlations in which columns determine each other


def rows_of(file, size):
    """Standardised rows of the columns that vary."""
    X = np.load(file)["X"].astype(float)
    X = X[drawn(len(X), size, np.random.default_rng(0))]
    return standardised(X[:, X.std(axis=0) > 0])[0]


def gain(file, size, q):
    """Log-likelihood per row, ours less theirs."""
    X = rows_of(file, size)
    theirs = FactorAnalysis(q, tol=1e-6, max_iter=2000, svd_method="lapack").fit(X)
    ours = EMFactorAnalysis(q, heywood_penalty=0.0, max_iter=20_000).fit(X)
    return float(ours.score(X) - theirs.score(X))


def main():
    """Print the gains by table and number of factors."""
    print(f"scikit-learn {sklearn.__version__}, sklvm {sklvm.__version__}, one thread")
    options = arguments(__doc__.splitlines()[0], "uci", "X", max_rows=1000)
    results, rows, gains = Results(options.cache), [], []
    warnings.simplefilter("ignore")
    with threadpool_limits(1):
        for name, file in options.files.items():
            X = rows_of(file, options.max_rows)
            if np.linalg.eigvalsh(np.corrcoef(X.T))[0] < SINGULAR:
                continue
            found = [
                results.get(
                    (name, q, options.max_rows, sklvm.__version__),
                    lambda f=file, q=q: gain(f, options.max_rows, q),
                )[0]
                for q in FACTORS
                if q < X.shape[1]
            ]
            gains += found
            cells = [f"{value:+.4f}" for value in found]
            rows.append([name, *cells, *[""] * (len(FACTORS) - len(cells))])
    table("nats per row, ours less theirs", ["table", *(f"q = {q}" for q in FACTORS)], rows)
    gains = np.array(gains)
    print(
        f"\nof {len(gains)} fits ours ends higher by more than {EQUAL} in {(gains > EQUAL).sum()}, "
        f"lower in {(gains < -EQUAL).sum()}; mean gain {gains.mean():+.4f}"
    )


if __name__ == "__main__":
    main()
