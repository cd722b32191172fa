"""Every likelihood is a true density or pmf, and its information is what its name says."""

import itertools

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.integrate import quad
from scipy.stats import bernoulli, norm

from sklvm.networks.likelihoods import BernoulliLikelihood, GaussianLikelihood

GAUSSIANS = [GaussianLikelihood(v) for v in ("column", "network", "shared")]
FLOORS = [GaussianLikelihood("network", floor=f) for f in (1e-3, 0.5)]
ETAS = [(0.0, 0.0), (-3.0, 2.0), (5.0, -30.0), (0.2, 40.0)]


def log_prob(likelihood, x, eta):
    x, eta = torch.tensor(np.atleast_2d(x), dtype=torch.float64), torch.tensor(np.atleast_2d(eta))
    return likelihood.log_prob(x, eta).numpy()


@pytest.mark.parametrize("likelihood", GAUSSIANS + FLOORS, ids=repr)
@pytest.mark.parametrize("eta", ETAS)
def test_a_gaussian_integrates_to_one(likelihood, eta):
    mean, variance = likelihood.moments(torch.tensor(eta, dtype=torch.float64))
    sd = variance.sqrt().item()
    total, _ = quad(
        lambda t: sd * np.exp(log_prob(likelihood, mean.item() + sd * t, eta)[0]), -12, 12
    )
    assert total == pytest.approx(1.0, abs=1e-9)
    assert sd > likelihood.floor * (1 - 1e-12)


def test_a_gaussian_is_the_product_of_its_columns():
    likelihood, rng = GAUSSIANS[0], np.random.default_rng(0)
    x, mean, raw = rng.standard_normal((3, 5, 4))
    sd = np.sqrt(1e-4 + np.exp(raw))
    expected = norm(mean, sd).logpdf(x)
    assert_allclose(log_prob(likelihood, x, np.hstack([mean, raw])), expected.sum(axis=1))
    x[1, 2] = x[4] = np.nan
    expected[1, 2] = expected[4] = 0.0
    assert_allclose(log_prob(likelihood, x, np.hstack([mean, raw])), expected.sum(axis=1))


def test_a_bernoulli_sums_to_one_and_is_the_product_of_its_columns():
    eta = np.array([-40.0, 0.3, 2.0])
    table = np.array(list(itertools.product([0.0, 1.0], repeat=3)))
    log_p = log_prob(BernoulliLikelihood(), table, np.tile(eta, (8, 1)))
    assert np.exp(log_p).sum() == pytest.approx(1.0, abs=1e-12)
    p = 1 / (1 + np.exp(-eta))
    assert_allclose(log_p, bernoulli(p).logpmf(table).sum(axis=1))
    seen = log_prob(BernoulliLikelihood(), [np.nan, 1.0, np.nan], eta)
    assert_allclose(seen, np.log(p[1]))


@pytest.mark.parametrize("likelihood", [*GAUSSIANS, BernoulliLikelihood()], ids=repr)
def test_many_latents_are_scored_at_once(likelihood):
    rng = np.random.default_rng(0)
    x = (rng.uniform(size=(5, 3)) < 0.5).astype(float)
    x[2, 1] = np.nan
    eta = rng.standard_normal((7, 5, likelihood.width(3)))
    together = likelihood.log_prob(torch.tensor(x), torch.tensor(eta))
    assert together.shape == (7, 5)
    for s in range(7):
        assert_allclose(together[s], log_prob(likelihood, x, eta[s]))


@pytest.mark.parametrize("likelihood", [GAUSSIANS[0], FLOORS[1], BernoulliLikelihood()], ids=repr)
def test_fisher_is_the_variance_of_the_score(likelihood):
    """Diagonal of E[score score'] over draws, and the off-diagonal is zero, within 5 SE."""
    rng, d = np.random.default_rng(0), 2
    eta = torch.tensor(rng.standard_normal(likelihood.width(d))).expand(20000, -1)
    x = likelihood.sample(eta, rng)
    leaf = eta.clone().requires_grad_()
    (score,) = torch.autograd.grad(likelihood.log_prob(x, leaf).sum(), leaf)
    outer = (score[:, :, None] * score[:, None, :]).numpy()
    expected = np.diag(likelihood.fisher(x[:1], eta[:1])[0].numpy())
    se = outer.std(axis=0) / np.sqrt(len(outer))
    assert (np.abs(outer.mean(axis=0) - expected) <= 5 * se + 1e-12).all()


@pytest.mark.parametrize("likelihood", [*GAUSSIANS, BernoulliLikelihood()], ids=repr)
def test_what_is_missing_carries_no_information(likelihood):
    x = torch.tensor([[1.0, torch.nan, 0.0]])
    eta = torch.full((1, likelihood.width(3)), 0.3)
    information = likelihood.fisher(x, eta)[0].unflatten(0, (-1, 3))
    assert (information[:, 1] == 0).all() and (information[:, [0, 2]] > 0).all()
    leaf = eta.clone().requires_grad_()
    likelihood.log_prob(x, leaf).sum().backward()
    gradient = leaf.grad[0].unflatten(0, (-1, 3))
    assert (gradient[:, 1] == 0).all() and (gradient[0, [0, 2]] != 0).all()


@pytest.mark.parametrize("likelihood", [*GAUSSIANS, BernoulliLikelihood()], ids=repr)
def test_draws_have_the_mean_and_the_mode_is_most_probable(likelihood):
    rng = np.random.default_rng(0)
    eta = torch.tensor(rng.standard_normal(likelihood.width(3)))
    draws = likelihood.sample(eta.expand(20000, -1), rng).numpy()
    se = draws.std(axis=0) / np.sqrt(len(draws))
    assert (np.abs(draws.mean(axis=0) - likelihood.mean(eta).numpy()) <= 5 * se).all()
    likelihood.check(draws)
    top = log_prob(likelihood, likelihood.mode(eta).numpy(), eta)
    assert (top >= log_prob(likelihood, draws[:500], eta.expand(500, -1).numpy())).all()


def test_eta_returns_the_moments_it_was_made_of():
    likelihood = GaussianLikelihood("column", floor=0.1)
    mean, variance = np.array([1.0, -2.0, 0.0]), np.array([0.5, 0.03, 1e-6])
    back = likelihood.moments(torch.tensor(likelihood.eta(mean, variance)))
    assert_allclose(back[0], mean)
    assert_allclose(back[1], [0.5, 0.03, 0.02])  # the last is below what the floor allows
    assert_allclose(likelihood.admissible(variance), [0.5, 0.03, 0.02])


@pytest.mark.parametrize("likelihood", [*GAUSSIANS, BernoulliLikelihood()], ids=repr)
def test_columns_own_what_the_layout_says(likelihood):
    d, columns = 5, np.array([3, 0])
    n_outputs = len(likelihood.layout.outputs(np.arange(d), d))
    n_constants = len(likelihood.layout.constants(np.arange(d), d))
    width = likelihood.width(d)
    assert n_outputs in (d, width) and n_constants in (0, 1, width - n_outputs)
    # eta with the position of each entry as its value: a slice is the eta of the columns
    outputs = likelihood.layout.outputs(columns, d)
    whole = np.arange(width)
    constants = whole[n_outputs:][likelihood.layout.constants(columns, d)]
    spread = np.broadcast_to(constants, likelihood.width(2) - len(outputs))
    sliced = np.concatenate([outputs, spread]).reshape(-1, 2)
    assert_array_equal(sliced[0], columns)
    if n_constants != 1:
        assert_array_equal(sliced % d, np.tile(columns, (len(sliced), 1)))


def test_a_bernoulli_refuses_other_numbers():
    BernoulliLikelihood().check(np.array([[0.0, 1.0, np.nan]]))
    with pytest.raises(ValueError, match="takes 0, 1 and NaN, got 0.5"):
        BernoulliLikelihood().check(np.array([[0.0, 0.5, np.nan]]))
    GAUSSIANS[0].check(np.array([[0.5]]))
