"""One iteration of EM against scikit-learn's: `python benchmarks/mixture_speed.py`.

Everything runs on one thread, in float64. Both start from the same parameters and take the same
steps; |d| is the difference of their mean log-likelihoods after the last one. Times are process CPU
milliseconds: medians of five runs in turn.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy is imported

import warnings

import numpy as np
import sklearn
from _timing import race, table
from sklearn.mixture import BayesianGaussianMixture
from sklearn.mixture import GaussianMixture as SklearnGaussianMixture
from threadpoolctl import threadpool_limits

import sklvm
from sklvm import GaussianMixture, VariationalGMM
from sklvm.inference.em import evaluate, known_of

SIZES = {
    "full": [(100_000, 16, 8), (1_000_000, 8, 16), (50_000, 64, 16), (20_000, 200, 10)],
    "tied": [(100_000, 16, 8), (100_000, 64, 16)],
    "diag": [(1_000_000, 8, 16)],
    "spherical": [(1_000_000, 8, 16)],
}
SMALL = [(150, 4, 3), (569, 30, 2)]
HEADER = ["(n, d, K)", "sklearn ms", "sklvm ms", "ratio", "range", "|d|"]


def problem(n, d, K, seed=0):
    """Rows of K unit Gaussians about N(0, 4) means, and which: -> (n, d), (n,)."""
    rng = np.random.default_rng(seed)
    z, means = rng.integers(K, size=n), 2 * rng.standard_normal((K, d))
    return means[z] + rng.standard_normal((n, d)), z


class Climber:
    """EM steps of a state, one at a time, as `fit` takes them."""

    def __init__(self, state, X):
        self.rows = (X, np.ones(len(X)))
        self.known = known_of(state, self.rows)
        self.point = evaluate(state, self.rows, known=self.known)

    def step(self):
        state = self.point.state.m_step(self.point.stats)
        self.point = evaluate(state, self.rows, known=self.known)


class Peer:
    """EM steps of a scikit-learn mixture from soft memberships, one at a time."""

    def __init__(self, model, X, z):
        self.model, self.X = model, X
        model._initialize(X, 0.7 * np.eye(model.n_components)[z] + 0.3 / model.n_components)
        self.bound, self.log_resp = model._e_step(X)

    def step(self):
        self.model._m_step(self.X, self.log_resp)
        self.bound, self.log_resp = self.model._e_step(self.X)


class VariationalPeer(Peer):
    """Its lower bound, too, belongs to an iteration."""

    def __init__(self, model, X, z):
        model._check_parameters(X)
        super().__init__(model, X, z)

    def step(self):
        super().step()
        self.model._compute_lower_bound(self.log_resp, self.bound)


def maximum_likelihood(kind, n, d, K, inner=1):
    """A row of the table: one EM iteration of Gaussian mixtures."""
    X, z = problem(n, d, K)
    peer = Peer(SklearnGaussianMixture(K, covariance_type=kind, reg_covar=0.0), X, z)
    model = GaussianMixture.from_parameters(
        weights=peer.model.weights_,
        means=peer.model.means_,
        covariances=peer.model.covariances_,
        covariance_type=kind,
    )
    ours = Climber(model.state_, X)
    found = race(peer.step, ours.step, inner=inner)
    return [str((n, d, K)), *found.cells(), f"{abs(peer.bound - ours.point.objective):.0e}"]


def variational(n, d, K, kind="full"):
    """A row of the table: one update of all posteriors with the bound."""
    X, z = problem(n, d, K)
    peer = VariationalPeer(BayesianGaussianMixture(n_components=K, covariance_type=kind), X, z)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two iterations do not converge
        settings = {"covariance_type": kind, "moves": False, "max_iter": 2, "n_init": 1}
        model = VariationalGMM(K, random_state=0, **settings).fit(X)
    ours = Climber(model.run_.state, X)
    return [f"{(n, d, K)} {kind}", *race(peer.step, ours.step).cells(), ""]


def holes(n, d, K, share):
    """A row of the table: one EM iteration with missing entries against the same without."""
    X, z = problem(n, d, K)
    holed = np.where(np.random.default_rng(1).uniform(size=X.shape) < share, np.nan, X)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        state = GaussianMixture(K, n_init=1, max_iter=2, random_state=0).fit(X).run_.state
    found = race(Climber(state, holed).step, Climber(state, X).step)
    return [f"{100 * share:.0f} %", *found.cells()]


def main():
    print(f"sklvm {sklvm.__version__}, scikit-learn {sklearn.__version__}, one thread")
    for kind, sizes in SIZES.items():
        title = f"One EM iteration, covariance_type={kind!r}"
        table(title, HEADER, [maximum_likelihood(kind, *size) for size in sizes])
    rows = [maximum_likelihood("full", *size, inner=200) for size in SMALL]
    table("One EM iteration of small data, covariance_type='full'", HEADER, rows)
    rows = [variational(100_000, 16, 8, kind) for kind in SIZES]
    table("One variational update with its bound", HEADER, rows)
    header = ["missing", "with ms", "without ms", "ratio", "range"]
    rows = [holes(20_000, 20, 5, share) for share in (0.1, 0.5)]
    table("One EM iteration of full matrices with missing entries, (20000, 20, 5)", header, rows)


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
