"""What empirical Bayes buys a variational mixture: `python benchmarks/variational_priors.py`.

Held-out log density (nats per row, 3 folds, columns standardised) of `VariationalGMM(10)` whose
priors are fixed, whose weight concentration is learnt, and whose priors are all learnt; behind it
the mean number of components in use.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy is imported

import warnings

import numpy as np
from _timing import table
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler

from sklvm import VariationalGMM


def ellipsoids(seed, n=300, d=3, K=5):
    """Rows of K correlated Gaussians of different weights: (n, d)."""
    rng = np.random.default_rng(seed)
    z, means = rng.choice(K, n, p=rng.dirichlet(np.full(K, 2.0))), 3 * rng.normal(size=(K, d))
    roots = 0.7 * rng.normal(size=(K, d, d)) + np.eye(d)
    return means[z] + np.einsum("nij,nj->ni", roots[z], rng.normal(size=(n, d)))


def arc(n=400):
    """A half circle with noise: (n, 2)."""
    rng = np.random.default_rng(0)
    t = rng.uniform(0, np.pi, n)
    return 3 * np.column_stack([np.cos(t), np.sin(t)]) + 0.2 * rng.normal(size=(n, 2))


SETS = {
    "iris": load_iris().data,
    "wine": load_wine().data,
    "diabetes": np.delete(load_diabetes().data, 1, axis=1),
    "cancer": load_breast_cancer().data[:, :10],
    **{f"ellipsoids {seed}": ellipsoids(seed) for seed in range(4)},
    "arc": arc(),
}


def held_out(X, structure, process, learns):
    scores, active = [], []
    for train, test in KFold(3, shuffle=True, random_state=0).split(X):
        model = VariationalGMM(
            10,
            covariance_type=structure,
            weight_concentration_prior_type=process,
            empirical_bayes=learns,
            n_init=5,
            random_state=0,
        ).fit(X[train])
        scores.append(model.score(X[test]))
        active.append(model.n_active_)
    return f"{np.mean(scores):.2f} ({np.mean(active):.1f})"


def main():
    warnings.simplefilter("ignore")  # a fold may need more passes than the default
    for process in ("dirichlet_distribution", "dirichlet_process"):
        for structure in ("full", "diag", "spherical"):
            rows = []
            for name, X in SETS.items():
                Z = StandardScaler().fit_transform(X)
                cells = [held_out(Z, structure, process, how) for how in (None, "weights", "all")]
                rows.append([name, *cells])
            header = ["", "fixed", "weights learnt", "all learnt"]
            table(f"Held-out nats per row, {structure}, {process}", header, rows)


if __name__ == "__main__":
    main()
