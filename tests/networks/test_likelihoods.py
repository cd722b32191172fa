"""Gaussian columns and bits beside each other: products of columns, whatever the variance is of."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.stats import bernoulli, norm

from sklvm.networks.likelihoods import BernoulliLikelihood, Eta, GaussianLikelihood

LIKELIHOODS = [GaussianLikelihood(v, 0.1) for v in ("column", "network", "shared")]
LIKELIHOODS.append(BernoulliLikelihood())


def random_eta(likelihood, d, *lead, seed=0):
    rng = np.random.default_rng(seed)
    outputs = rng.standard_normal((*lead, likelihood.n_outputs(d)))
    return Eta(torch.tensor(outputs), torch.tensor(rng.standard_normal(likelihood.n_constants(d))))


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=repr)
def test_rows_are_products_of_their_columns_for_many_latents_at_once(likelihood):
    eta, rng = random_eta(likelihood, 3, 7, 5), np.random.default_rng(1)
    x = (rng.uniform(size=(5, 3)) < 0.5).astype(float)
    if likelihood.name == "bernoulli":
        terms = bernoulli(1 / (1 + np.exp(-eta.outputs.numpy()))).logpmf(x)
    else:
        raw = eta.outputs[..., 3:] if likelihood.variance == "network" else eta.constants
        sd = np.sqrt(0.01 + np.exp(raw.numpy()))
        terms = norm(eta.outputs[..., :3].numpy(), sd).logpdf(x)
    assert_allclose(likelihood.log_prob(torch.tensor(x), eta), terms.sum(-1))
    x[1, 2] = x[4] = np.nan
    terms[:, 1, 2] = terms[:, 4] = 0.0
    assert_allclose(likelihood.log_prob(torch.tensor(x), eta), terms.sum(-1), atol=1e-12)


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=repr)
def test_fisher_is_the_variance_of_the_score(likelihood):
    """Diagonal of E[score score'] over draws, and the off-diagonal is zero, within 5 SE."""
    eta, rng = random_eta(likelihood, 2, 1), np.random.default_rng(0)
    leaf = eta.outputs.expand(20000, -1).clone().requires_grad_()
    with torch.no_grad():
        x = likelihood.sample(Eta(leaf, eta.constants), rng)
    log_p = likelihood.log_prob(x, Eta(leaf, eta.constants))
    (score,) = torch.autograd.grad(log_p.sum(), leaf)
    outer = (score[:, :, None] * score[:, None, :]).numpy()
    expected = np.diag(likelihood.fisher(eta)[0].numpy())
    se = outer.std(axis=0) / np.sqrt(len(outer))
    assert (np.abs(outer.mean(axis=0) - expected) <= 5 * se + 1e-12).all()


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=repr)
def test_what_is_missing_carries_no_information(likelihood):
    x, eta = torch.tensor([[1.0, torch.nan, 0.0]]).double(), random_eta(likelihood, 3, 1)
    J = torch.eye(likelihood.n_outputs(3)).double()[None]
    known = likelihood.information(x, eta, J)[0].diagonal().unflatten(0, (-1, 3))
    slope = likelihood.log_prob_and_slope(x, eta)[1].outputs[0].unflatten(0, (-1, 3))
    for part in (known, slope):
        assert (part[:, 1] == 0).all() and (part[:, [0, 2]] != 0).all()
