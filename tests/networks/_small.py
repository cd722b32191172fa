"""Small autoencoders with parameters at random, for tests of their parts, and bent rows."""

from functools import cache

import numpy as np
import torch

from sklvm import Categorical
from sklvm.networks.architectures import Dense
from sklvm.networks.autoencoder import Autoencoder, blank_parameters
from sklvm.networks.likelihoods import (
    BernoulliLikelihood,
    GaussianLikelihood,
    given,
    joined,
    named_likelihood,
)
from sklvm.networks.posteriors import POSTERIORS
from sklvm.networks.priors import mixture_parameters

LIKELIHOODS = {
    "network": GaussianLikelihood("network"),
    "column": GaussianLikelihood("column", 0.1),
    "shared": GaussianLikelihood("shared"),
    "bernoulli": BernoulliLikelihood(),
    "mixed": joined(
        [
            (named_likelihood("student_t", "column", 0.1), [3]),
            (GaussianLikelihood("column", 0.1), [0]),
            (named_likelihood(Categorical(3), "column", 0.1), [1]),
            (named_likelihood("negative_binomial", "column", 0.1), [2]),
        ]
    ),
}
LIKELIHOODS["given"] = given(LIKELIHOODS["network"], [1, 3], 4)
SUPPORTS = {"bernoulli": lambda x: x > 0, "mixed": lambda x: np.abs(2 * x).round().clip(max=2)}


@cache
def parabola(n, seed=0):
    """Rows with noise, in three columns: curved, and one column tells little."""
    rng = np.random.default_rng(seed)
    t = rng.uniform(-2, 2, n)
    X = np.column_stack([t, t**2, rng.standard_normal(n)]) + 0.15 * rng.standard_normal((n, 3))
    X.flags.writeable = False
    return X


def mixture_arrays(K=3, q=2, seed=0):
    """Weights, means and precision roots of a mixture of Gaussians."""
    rng = np.random.default_rng(seed)
    roots = np.tril(0.4 * rng.standard_normal((K, q, q)), -1) + np.eye(q) * rng.uniform(1, 2, q)
    return rng.dirichlet(np.ones(K)), 1.5 * rng.standard_normal((K, q)), roots


def random_model(likelihood="network", hidden=(7, 5), d=4, q=2, posterior="diagonal", K=0, seed=0):
    """An autoencoder whose every parameter is at random, in double precision."""
    rng, value = np.random.default_rng(seed), LIKELIHOODS[likelihood]
    parameters = blank_parameters(d, q, Dense(hidden), value, rng, POSTERIORS[posterior])
    parameters = {k: v + 0.3 * rng.standard_normal(v.shape) for k, v in parameters.items()}
    if K:
        parameters |= mixture_parameters(*mixture_arrays(K, q, seed))
    return Autoencoder.of(parameters, value, Dense(hidden))


def random_rows(likelihood="network", n=6, d=4, holes=False, seed=0):
    """Rows in the support, some entries missing if asked: -> tensor (n, d)."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    X = SUPPORTS.get(likelihood, np.asarray)(X).astype(float)
    if holes:
        X[(rng.uniform(size=X.shape) < 0.3) & ~LIKELIHOODS[likelihood].given(d)] = np.nan
    return torch.tensor(X)


def gradient(value, model):
    """Of a scalar in all parameters, as one vector."""
    slopes = torch.autograd.grad(value, list(model.parameters()), materialize_grads=True)
    return torch.cat([slope.reshape(-1) for slope in slopes]).numpy()


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)
