"""Whole fits of factor models against scikit-learn's: `python benchmarks/factor_speed.py`.

Everything runs on one thread, in float64, every peer at its defaults, ours without the penalty that
keeps noise variances off zero. Times are process CPU milliseconds: medians of five runs in turn.
Gain is ours less theirs in mean log-likelihood, nats per row. A covariance pass is what any method
needs at least: column means and X' X.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy is imported

import warnings

import numpy as np
import sklearn
from _timing import race, table
from scipy.linalg.blas import dsyrk
from sklearn.decomposition import PCA, FactorAnalysis
from threadpoolctl import threadpool_limits

import sklvm
from sklvm import EMFactorAnalysis, ProbabilisticPCA
from sklvm.inference.em import evaluate

SIZES = [(10_000, 50, 5), (100_000, 100, 10), (5_000, 1000, 20), (200, 2000, 10)]
MISSING = (20_000, 20, 4)
HEADER = ["(n, d, q)", "theirs ms", "ours ms", "ratio", "range", "gain", "passes"]


def problem(n, d, q, seed=0):
    """Rows of a factor model with loadings N(0, 1) and noise variances in 0.2 to 3: (n, d)."""
    rng = np.random.default_rng(seed)
    noise = np.sqrt(rng.uniform(0.2, 3.0, d))
    return rng.standard_normal((n, q)) @ rng.standard_normal((q, d)) + noise * rng.standard_normal(
        (n, d)
    )


def covariance_pass(X):
    """The least that a fit does: column means and the smaller of X' X and X X'."""
    diff = X - X.mean(axis=0)
    return dsyrk(1.0, diff.T if len(X) >= X.shape[1] else diff)


def whole_fit(X, peer, ours, runs=5):
    """One line of the table: a race of two fits, how they end, and ours in covariance passes."""
    gain = ours.fit(X).score(X) - peer.fit(X).score(X)
    timed = race(lambda: peer.fit(X), lambda: ours.fit(X), runs)
    floor = race(lambda: covariance_pass(X), lambda: covariance_pass(X), runs).ours
    return [*timed.cells(), f"{gain:+.1e}", f"{timed.ours / floor:.2f}"]


def row_by_row(state, X, weight):
    """An EM step as tutorials have it, one row at a time: new noise variances, log-likelihood."""
    W, psi = state.emission.cov.W[0], state.emission.cov.psi[0]
    mean, (d, q) = state.emission.means[0], W.shape
    xu, uu = np.zeros((d, q + 1)), np.zeros((d, q + 1, q + 1))
    xx, count, log_likelihood = np.zeros(d), np.zeros(d), 0.0
    for x, w in zip(X, weight, strict=True):
        seen = ~np.isnan(x)
        Wo, diff = W[seen], x[seen] - mean[seen]
        A = Wo / psi[seen, None]
        precision = np.eye(q) + A.T @ Wo
        V = np.linalg.inv(precision)
        z = V @ (A.T @ diff)
        u = np.append(z, 1.0)
        square = np.outer(u, u)
        square[:q, :q] += V
        xu[seen] += w * np.outer(diff, u)
        uu[seen] += w * square
        xx[seen] += w * diff**2
        count[seen] += w
        distance = (diff**2 / psi[seen]).sum() - z @ precision @ z
        log_det = np.log(psi[seen]).sum() + np.linalg.slogdet(precision)[1]
        log_likelihood -= 0.5 * w * (seen.sum() * np.log(2 * np.pi) + log_det + distance)
    solution = np.linalg.solve(uu, xu[..., None])[..., 0]
    return (xx - (solution * xu).sum(axis=1)) / count, log_likelihood


def incomplete(n, d, q, rate=0.1):
    """One EM iteration where entries are missing, against a loop over the rows."""
    X = problem(n, d, q)
    X[np.random.default_rng(1).uniform(size=X.shape) < rate] = np.nan
    weight = np.ones(n)
    model = EMFactorAnalysis(q, heywood_penalty=0.0, max_iter=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        state = model.fit(X).state_
    point = evaluate(state, (X, weight))
    psi, log_likelihood = row_by_row(state, X, weight)
    after = state.m_step(point.stats).emission.cov.psi[0]
    same = np.allclose(after, psi, rtol=1e-9) and np.isclose(point.objective, log_likelihood / n)

    def ours():
        state.m_step(evaluate(state, (X, weight)).stats)

    timed = race(lambda: row_by_row(state, X, weight), ours)
    patterns = len(np.unique(np.isnan(X), axis=0))
    return [f"{n, d, q}", str(patterns), *timed.cells(), "yes" if same else "NO"]


def main():
    """Print the ratios."""
    print(f"scikit-learn {sklearn.__version__}, sklvm {sklvm.__version__}, one thread")
    warnings.simplefilter("ignore")
    with threadpool_limits(1):
        rows = []
        for size in SIZES:
            ours = EMFactorAnalysis(size[2], heywood_penalty=0.0)
            rows.append([str(size), *whole_fit(problem(*size), FactorAnalysis(size[2]), ours)])
        table("FactorAnalysis: a whole fit", HEADER, rows)
        n, d, q = SIZES[1]
        row = whole_fit(problem(n, d, q), PCA(q), ProbabilisticPCA(q))
        table("PCA: a whole fit", HEADER, [[f"{n, d, q}", *row]])
        header = ["(n, d, q)", "patterns", "rows ms", "sklvm ms", "ratio", "range", "same step"]
        title = "EM with 10 % of the entries missing, one iteration: a loop over the rows"
        table(title, header, [incomplete(*MISSING)])


if __name__ == "__main__":
    main()
