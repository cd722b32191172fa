"""Latent densities against scipy: what an encoder says, and what it is held against."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.stats import multivariate_normal

from sklvm.networks.posteriors import POSTERIORS, Diagonal, Full
from sklvm.networks.priors import MixturePrior, StandardNormal, _apportioned, mixture_parameters
from tests.networks._small import mixture_arrays, seeded


def posterior(kind, n=5, q=3):
    parts = torch.randn((3, n, q), generator=seeded()).double()
    n_lower = POSTERIORS[kind].n_lower(q)
    return POSTERIORS[kind](*parts[:2], *([parts[2, :, :n_lower]] if n_lower else []))


def covariance(value):
    if isinstance(value, Diagonal):
        return (2 * value.log_sd).exp().diag_embed().numpy()
    return (value.root() @ value.root().mT).numpy()


@pytest.mark.parametrize("kind", POSTERIORS)
def test_a_posterior_is_a_gaussian(kind):
    value, noise = posterior(kind), torch.randn((7, 5, 3), generator=seeded(1)).double()
    z, C = value.at(noise), covariance(value)
    for i in range(5):
        normal = multivariate_normal(value.mean[i].numpy(), C[i])
        assert_allclose(value.log_prob(z)[:, i], normal.logpdf(z[:, i].numpy()), rtol=1e-9)
        assert float(value.entropy()[i]) == pytest.approx(normal.entropy())
    assert_allclose(value.log_prob_at(noise), value.log_prob(z), rtol=1e-9)
    assert_allclose(value.variance(), np.diagonal(C, axis1=1, axis2=2), rtol=1e-9)
    assert kind == "diagonal" or np.abs(C[0, 1, 0]) > 0.01


def test_one_latent_has_nothing_below_the_diagonal():
    value = Full(torch.zeros(4, 1), torch.ones(4, 1), torch.zeros(4, 0))
    assert_allclose(value.variance(), Diagonal(value.mean, value.log_sd).variance())


def mixture(K=3, q=2):
    weights, means, roots = mixture_arrays(K, q)
    prior = MixturePrior(K, q).double().requires_grad_(False)
    arrays = mixture_parameters(weights, means, roots)
    prior.load_state_dict({k[len("prior.") :]: torch.tensor(v) for k, v in arrays.items()})
    covariances = np.linalg.inv(roots.transpose(0, 2, 1) @ roots)
    return prior, weights, [multivariate_normal(*part) for part in zip(means, covariances)]


def test_a_mixture_prior_is_a_mixture_of_gaussians():
    prior, weights, parts = mixture()
    z = torch.randn((6, 2), generator=seeded()).double()
    joint = np.stack([w * part.pdf(z) for w, part in zip(weights, parts)], axis=1)
    assert_allclose(prior.log_prob(z), np.log(joint.sum(axis=1)))
    assert_allclose(prior.responsibilities(z), joint / joint.sum(axis=1, keepdims=True))
    draws = prior.sample(40000, np.random.default_rng(0)).numpy()
    mean = sum(w * part.mean for w, part in zip(weights, parts))
    assert_allclose(draws.mean(axis=0), mean, atol=0.05)
    second = sum(w * (p.cov + np.outer(p.mean, p.mean)) for w, p in zip(weights, parts))
    assert_allclose(draws.T @ draws / len(draws), second, atol=0.15)
    assert (torch.linalg.eigvalsh(prior.precision(z)) > 0).all()


@pytest.mark.parametrize("n", [12, 200])
def test_points_of_a_prior_come_with_their_density(n):
    """Weighed against that density, they integrate the prior and any function: E[1] and E[z]."""
    prior, weights, parts = mixture()
    points = torch.randn((n, 2), generator=seeded()).double()
    placed, log_densities = prior.spread(points)
    axis = torch.linspace(-16, 16, 700, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    cell = float(axis[1] - axis[0]) ** 2
    log_prior, log_density = log_densities(grid)
    assert float(log_density.exp().sum()) * cell == pytest.approx(1.0, abs=1e-6)
    assert_allclose(log_prior, prior.log_prob(grid))
    shares = _apportioned(torch.from_numpy(weights), n).numpy() / n
    parts_at = np.stack([part.pdf(placed) for part in parts], axis=1)
    log_density = log_densities(placed)[1]
    assert_allclose(log_density, np.log(parts_at @ shares))
    assert np.abs(shares - weights).max() < 3 / n
    ratio = (prior.log_prob(placed) - log_density).exp()
    assert float(ratio.max()) < 1.5  # no weight is unbounded: each component has its points
    normal = StandardNormal(2)
    assert normal.spread(points)[0] is points
    log_p = multivariate_normal(np.zeros(2)).logpdf(points)
    assert_allclose(normal.spread(points)[1](points), [log_p, log_p])


@pytest.mark.parametrize("K", [0, 3])
def test_the_curvature_of_a_prior_is_its_second_derivative(K):
    prior = mixture()[0] if K else StandardNormal(2)
    z = 1.5 * torch.randn((6, 2), generator=seeded()).double()
    slope, precision = prior.curvature(z)
    gradient = torch.func.grad(lambda z: prior.log_prob(z).sum())
    assert_allclose(slope.detach(), gradient(z).detach(), rtol=1e-9)
    hessian = torch.stack([torch.func.jacrev(torch.func.grad(prior.log_prob))(row) for row in z])
    assert_allclose(precision.detach(), -hessian.detach(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", POSTERIORS)
def test_the_standard_normal_knows_its_expectation(kind):
    value, prior = posterior(kind), StandardNormal(3)
    draws = value.at(torch.randn((20000, 5, 3), generator=seeded()).double())
    spread = prior.log_prob(draws).std(0) / np.sqrt(20000)
    gap = prior.expected_log_prob(value, None) - prior.log_prob(draws).mean(0)
    assert (gap.abs() < 5 * spread).all()
