"""Hidden Markov models of every emission, sequences for them, and all paths one by one."""

from itertools import pairwise, product

import numpy as np
from scipy.stats import multivariate_normal
from sklearn.base import clone

from sklvm import HMM, FactorEmission, GaussianMixtureEmission, StudentT
from sklvm.chain_state import Chains
from sklvm.sequences import read_sequences

REAL = {
    "gaussian": HMM(2, random_state=0),
    "tied": HMM(2, covariance_type="tied", random_state=0),
    "diag": HMM(2, covariance_type="diag", random_state=0),
    "spherical": HMM(2, covariance_type="spherical", random_state=0),
    "VEV": HMM(2, covariance_type="VEV", random_state=0),
    "student_t": HMM(2, emission=StudentT(df=4), random_state=0),
    "independent_t": HMM(2, emission="independent_t", random_state=0),
    "factor": HMM(2, emission=FactorEmission(n_factors=1), random_state=0),
    "gaussian_mixture": HMM(2, emission=GaussianMixtureEmission(n_mix=2), random_state=0),
    "left-right": HMM(2, topology="left-right", random_state=0),
    "vb": HMM(2, inference="vb", random_state=0),
    "vb-tied": HMM(2, inference="vb", covariance_type="tied", random_state=0),
    "vb-diag": HMM(
        2, inference="vb", covariance_type="diag", topology="left-right", random_state=0
    ),
    "priors": HMM(
        2, startprob_prior=2.0, transmat_prior=1.5, sticky=3.0, covariance_prior=0, random_state=0
    ),
}
COUNTS = {
    "bernoulli": HMM(2, emission="bernoulli", random_state=0),
    "categorical": HMM(2, emission="categorical", random_state=0),
    "poisson": HMM(2, emission="poisson", random_state=0),
    "negative_binomial": HMM(2, emission="negative_binomial", random_state=0),
    "vb-poisson": HMM(2, emission="poisson", inference="vb", random_state=0),
}
MIXED = {
    "columns": HMM(
        2,
        emission=[("gaussian", [0]), ("poisson", [2]), ("bernoulli", [1])],
        random_state=0,
    ),
    "vb-columns": HMM(
        2,
        emission=[("gaussian", [0]), ("categorical", [2]), ("bernoulli", [1])],
        inference="vb",
        random_state=0,
    ),
}
CHAINS = {**REAL, **COUNTS, **MIXED}
LENGTHS = (20, 7, 1, 12, 25)


def make(name):
    """A fresh, unfitted model."""
    return clone(CHAINS[name])


def states(lengths, seed=0, stay=0.8):
    """Two states that follow each other: a list of (T_i,)."""
    rng = np.random.default_rng(seed)
    return [(np.cumsum(rng.uniform(size=T) > stay) + rng.integers(2)) % 2 for T in lengths]


def sequences(name, lengths=LENGTHS, missing=0.0, seed=0):
    """Sequences of three channels in the support of the model's emission."""
    rng = np.random.default_rng([seed, 1])
    X = []
    for z in states(lengths, seed):
        noise = rng.standard_normal((len(z), 3)) @ np.array([[1, 0.5, 0], [0, 1, 0.4], [0, 0, 1]])
        real = noise * [1.0, 20.0, 0.3] + z[:, None] * [4.0, 60.0, 1.0] + [0.0, 100.0, -2.0]
        counts = rng.poisson(1.0 + 6.0 * z[:, None] * [1, 0, 1], size=(len(z), 3)) * 1.0
        flags = (rng.uniform(size=(len(z), 3)) < 0.2 + 0.6 * z[:, None]) * 1.0
        x = {"bernoulli": flags, **dict.fromkeys(COUNTS, counts), **dict.fromkeys(REAL, real)}
        x = {**x, "bernoulli": flags, "categorical": np.minimum(counts, 3)}.get(
            name, np.column_stack([real[:, 0], flags[:, 1], counts[:, 2]])
        )
        x[rng.uniform(size=x.shape) < missing] = np.nan
        X.append(x)
    return X


def chains_of(X, weight=None, labels=None, **settings):
    """What a fit walks over."""
    read = read_sequences(HMM(), X, reset=True)
    weight = np.ones(len(X)) if weight is None else np.asarray(weight, float)
    return Chains.of(read, weight, labels, **settings)


# A chain of three states over two channels; its fourth sequence has no step.
PI = np.array([0.5, 0.3, 0.2])
A = np.array([[0.7, 0.2, 0.1], [0.3, 0.4, 0.3], [0.25, 0.05, 0.7]])
MEANS = np.array([[0.0, 0.0], [1.5, -1.0], [-1.0, 2.0]])
COVARIANCES = np.array([[[1.0, 0.3], [0.3, 0.5]], [[0.6, -0.2], [-0.2, 1.1]], np.eye(2)])
nan = np.nan
SMALL = [
    np.array([[0.2, -0.1], [1.0, nan], [nan, nan], [nan, 1.8], [-0.8, 1.0]]),
    np.array([[1.9, -1.3], [0.4, 0.0], [-1.5, 2.2]]),
    np.array([[nan, 0.7]]),
    np.empty((0, 2)),
    np.array([[nan, nan], [0.5, 0.5], [nan, nan]]),
]


def small_chain():
    return HMM.from_parameters(startprob=PI, transmat=A, means=MEANS, covariances=COVARIANCES)


def log_density(x, k):
    """log p of what is seen of one step."""
    seen = ~np.isnan(x)
    if not seen.any():
        return 0.0
    S = COVARIANCES[k][np.ix_(seen, seen)]
    return multivariate_normal(MEANS[k][seen], S).logpdf(x[seen])


class Paths:
    """All paths of one sequence under the small chain: `z` (P, T), and log p(x, z) of each."""

    def __init__(self, x):
        T = len(x)
        self.z = np.array(list(product(range(3), repeat=T)), int).reshape(3**T, T)
        log_b = np.array([[log_density(step, k) for k in range(3)] for step in x]).reshape(T, 3)
        self.log_prior = np.array([self._log_prior(z) for z in self.z])
        self.log_x = np.array([sum(log_b[t, k] for t, k in enumerate(z)) for z in self.z])
        self.log_joint = self.log_prior + self.log_x
        self.log_likelihood = np.logaddexp.reduce(self.log_joint)
        self.posterior = np.exp(self.log_joint - self.log_likelihood)

    @staticmethod
    def _log_prior(z):
        if not len(z):
            return 0.0
        return np.log(PI[z[0]]) + sum(np.log(A[i, j]) for i, j in pairwise(z))

    def probs(self):
        """p(z_t = k | x): (T, 3)."""
        return np.stack([self.posterior @ (self.z == k) for k in range(3)], axis=-1)
