"""Where sklvm and scikit-learn differ, as numbers: `python benchmarks/contrast_with_sklearn.py`.

Everything runs on one thread. Times are process CPU seconds: medians of five runs in turn.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy is imported

import time
import warnings

import numpy as np
import sklearn
from scipy.integrate import trapezoid
from scipy.special import multigammaln
from sklearn.datasets import load_breast_cancer, load_iris, load_wine
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.mixture import BayesianGaussianMixture
from sklearn.mixture import GaussianMixture as SklearnGaussianMixture
from sklearn.model_selection import ShuffleSplit
from sklearn.neighbors import KernelDensity
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import sklvm
from sklvm import VAE, EMFactorAnalysis, GaussianMixture, Mixture, VariationalGMM


def table(title, header, rows):
    """Print rows of strings under a title, columns aligned."""
    lines = [header, *rows]
    widths = [max(len(line[j]) for line in lines) for j in range(len(header))]
    print(f"\n{title}")
    for line in lines:
        print("  " + "  ".join(cell.rjust(width) for cell, width in zip(line, widths)))


def integrals():
    """Integral of exp(score_samples) over the line: 1 for a density."""
    grid = np.concatenate([-np.geomspace(1e7, 30, 20001), np.linspace(-30, 30, 60001)[1:-1]])
    grid = np.concatenate([grid, -grid[20000::-1]])
    rows = []
    for n in (10, 20, 50, 200):
        cells = [str(n)]
        for K in (1, 3):
            for make in (BayesianGaussianMixture, VariationalGMM):
                found = []
                for seed in range(5):
                    X = np.random.default_rng(seed).normal(size=(n, 1))
                    model = make(n_components=K, random_state=0, max_iter=2000).fit(X)
                    found.append(trapezoid(np.exp(model.score_samples(grid[:, None])), grid))
                cells.append(f"{np.mean(found):.3f}")
        rows.append(cells)
    header = ["n", "sklearn K=1", "sklvm K=1", "sklearn K=3", "sklvm K=3"]
    title = "Integral of exp(score_samples), variational mixtures on n draws of N(0, 1), 5 seeds"
    table(title, header, rows)


def log_evidence(X, S0):
    """log p(X) of one Gaussian under the Normal-Wishart prior of `bounds`, exactly."""
    n, d = X.shape
    S = S0 + (X - X.mean(axis=0)).T @ (X - X.mean(axis=0))  # the prior mean is the mean of X
    log_dets = np.linalg.slogdet(S0)[1] * d - np.linalg.slogdet(S)[1] * (d + n)
    gammas = multigammaln((d + n) / 2, d) - multigammaln(d / 2, d)
    return 0.5 * (log_dets - n * d * np.log(np.pi) - d * np.log(1 + n)) + gammas


def bounds():
    """`lower_bound_` less the evidence that it claims to bound, one component, one prior."""
    rows = []
    for n, d in ((50, 2), (200, 3), (200, 5)):
        X = np.random.default_rng(0).normal(size=(n, d))
        S0 = np.cov(X.T)
        prior = {
            "mean_precision_prior": 1.0,
            "degrees_of_freedom_prior": float(d),
            "covariance_prior": S0,
        }
        weights = {"weight_concentration_prior_type": "dirichlet_distribution", "reg_covar": 0.0}
        theirs = BayesianGaussianMixture(tol=1e-9, max_iter=1000, **prior, **weights).fit(X)
        ours = VariationalGMM(1, tol=1e-9, **prior).fit(X)
        exact = log_evidence(X, S0)
        rows.append([f"{n}, {d}", f"{exact:.1f}"])
        rows[-1] += [
            f"{round(model.lower_bound_ - exact, 1) + 0.0:+.1f}" for model in (theirs, ours)
        ]
    header = ["n, d", "evidence", "sklearn", "sklvm"]
    table("lower_bound_ less the exact log evidence (K=1, same prior), nats", header, rows)


def units():
    """Score of a mixture refitted on s X, plus d log s: one number if units are units."""
    X = load_iris().data
    scales = (1.0, 1e-2, 1e-3, 1e-4)
    rows = []
    for name, make in (("sklearn", SklearnGaussianMixture), ("sklvm", GaussianMixture)):
        models = [make(3, random_state=0).fit(s * X) for s in scales]
        scores = [m.score(s * X) + X.shape[1] * np.log(s) for m, s in zip(models, scales)]
        rows.append([name, *(f"{score:.4f}" for score in scores)])
    header = ["GaussianMixture(3)", *(f"s = {s:g}" for s in scales)]
    table("Iris times s: training score + d log s, nats per row", header, rows)


def can(action):
    try:
        action()
    except (TypeError, ValueError, AttributeError):
        return "no"
    return "yes"


def inputs():
    """What fit and score_samples accept."""
    X = load_iris().data.copy()
    weight = np.ones(len(X))
    holes = X.copy()
    holes[::3, 1] = np.nan
    models = [
        *(SklearnGaussianMixture(), BayesianGaussianMixture(), FactorAnalysis(2), PCA(2)),
        *(KernelDensity(), GaussianMixture(), Mixture(emission="student_t")),
        *(VariationalGMM(), EMFactorAnalysis(), VAE(max_iter=2)),
    ]
    rows = [
        [
            f"{type(model).__module__.split('.')[0]}.{type(model).__name__}",
            can(lambda model=model: model.fit(holes).score_samples(holes)),
            can(lambda model=model: model.fit(X, sample_weight=weight)),
            can(lambda model=model: model.fit(X).sample(2)),
        ]
        for model in models
    ]
    table("What works", ["estimator", "NaN", "sample_weight", "sample"], rows)


def held_out():
    """Mean log density of unseen rows at default settings, standardised columns."""
    rows = []
    for load in (load_iris, load_wine, load_breast_cancer):
        X, name = load().data, load.__name__[5:]
        for K in (1, 2, 3):
            scores, seconds = {"sklearn": [], "sklvm": []}, {"sklearn": 0.0, "sklvm": 0.0}
            for train, test in ShuffleSplit(10, test_size=0.2, random_state=0).split(X):
                scaler = StandardScaler().fit(X[train])
                Z_train, Z_test = scaler.transform(X[train]), scaler.transform(X[test])
                makers = (("sklearn", SklearnGaussianMixture), ("sklvm", GaussianMixture))
                for library, make in makers:
                    began = time.process_time()
                    model = make(K, random_state=0).fit(Z_train)
                    seconds[library] += (time.process_time() - began) / 10
                    scores[library].append(model.score(Z_test))
            gain = np.array(scores["sklvm"]) - scores["sklearn"]
            cells = [f"{name} {X.shape[1]}d K={K}"]
            cells += [f"{np.mean(scores[library]):.2f}" for library in scores]
            cells += [f"{gain.mean():+.2f} ({gain.std(ddof=1):.2f})"]
            rows.append(cells + [f"{seconds[library]:.3f}" for library in scores])
    header = ["GaussianMixture(K)", "sklearn", "sklvm", "gain (sd)", "sklearn s", "sklvm s"]
    title = "Held-out log density at defaults, nats per row, 10 splits; CPU seconds of one fit"
    table(title, header, rows)


def simulated_factors(n, d, q, seed):
    rng = np.random.default_rng(seed)
    W, psi = rng.normal(size=(q, d)), rng.uniform(0.2, 1.5, d)
    return rng.normal(size=(n, q)) @ W + rng.normal(size=(n, d)) * np.sqrt(psi)


def factors():
    """Log-likelihood and time of factor analysis."""
    cases = {
        "n=2000 d=30 q=5": (simulated_factors(2000, 30, 5, 0), 5),
        "n=50000 d=30 q=5": (simulated_factors(50000, 30, 5, 0), 5),
        "n=60 d=10 q=4": (simulated_factors(60, 10, 4, 3), 4),
    }
    rows = []
    for name, (X, q) in cases.items():
        tight = {"tol": 1e-10, "max_iter": 100_000, "svd_method": "lapack"}
        models = {
            "sklearn, default": FactorAnalysis(q, random_state=0),
            "sklearn, tol=1e-10": FactorAnalysis(q, **tight),
            "sklvm, no penalty": EMFactorAnalysis(q, heywood_penalty=0),
            "sklvm, default": EMFactorAnalysis(q),
        }
        seconds = {label: [] for label in models}
        for _ in range(5):
            for label, model in models.items():
                began = time.process_time()
                model.fit(X)
                seconds[label].append(time.process_time() - began)
        for label, model in models.items():
            smallest = (model.noise_variance_ / X.var(axis=0)).min()
            rows.append([name, label, f"{model.score(X):.6f}", f"{np.median(seconds[label]):.4f}"])
            rows[-1] += [str(model.n_iter_), f"{smallest:.1e}"]
    header = ["data", "model", "nats per row", "CPU s", "iterations", "least uniqueness"]
    table("Factor analysis: training log-likelihood, time, smallest noise / variance", header, rows)


def main():
    """Print every table."""
    print(f"sklvm {sklvm.__version__}, scikit-learn {sklearn.__version__}, numpy {np.__version__}")
    print("one thread; CPU seconds are process time")
    warnings.simplefilter("ignore")
    with threadpool_limits(1):
        for section in (integrals, bounds, units, inputs, held_out, factors):
            section()


if __name__ == "__main__":
    main()
