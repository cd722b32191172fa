"""Bounds and their gradients: unbiased, and without variance where they should have none."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from sklvm.networks.objectives import OBJECTIVES, Elbo, ImportanceWeighted, StickingTheLanding
from tests.networks._small import gradient, random_model, random_rows, seeded


def draws_of(objective, model, x, times=300, copies=40, epoch=1):
    """Gradients of the mean loss over many copies of the rows: (times, parameters)."""
    generator, rows = seeded(1), x.repeat(copies, 1)
    return np.array(
        [gradient(objective(model, rows, generator, epoch)[0].mean(), model) for _ in range(times)]
    )


def plain_importance_weighted(model, x, generator, draws):
    """-log mean_k w_k with ordinary reparameterised gradients, that of q's density included."""
    q = model.encoder(x)
    noise = torch.randn((draws, *q.mean.shape), generator=generator, dtype=x.dtype)
    z = q.at(noise)
    log_weight = model.log_joint(x, z) - q.log_prob(z)
    return -(log_weight.logsumexp(0) - np.log(draws)).mean()


def same_mean(a, b):
    """Welch's t below 5 in each of the parameters, and a test that has the power to see."""
    error = np.sqrt(a.var(axis=0, ddof=1) / len(a) + b.var(axis=0, ddof=1) / len(b))
    assert (np.abs(a.mean(axis=0) - b.mean(axis=0)) <= 5 * error + 1e-10).all()
    assert np.median(error) < 0.1 * np.abs(b.mean(axis=0)).max()


@pytest.mark.parametrize("posterior", ["diagonal", "full"])
@pytest.mark.parametrize("K", [0, 2], ids=["normal", "mixture"])
def test_sticking_the_landing_has_the_gradient_of_the_bound(posterior, K):
    model, x = random_model("column", (3,), 3, posterior=posterior, K=K), random_rows(n=3, d=3)
    same_mean(draws_of(StickingTheLanding(), model, x), draws_of(Elbo(draws=4), model, x))


@pytest.mark.parametrize("K", [0, 2], ids=["normal", "mixture"])
def test_doubly_reparameterised_gradients_are_those_of_the_importance_weighted_bound(K):
    model, x = random_model("column", (3,), 3, K=K), random_rows(n=3, d=3)
    generator, rows = seeded(2), x.repeat(40, 1)
    plain = [
        gradient(plain_importance_weighted(model, rows, generator, 4), model) for _ in range(300)
    ]
    same_mean(draws_of(ImportanceWeighted(draws=4), model, x), np.array(plain))


def test_one_importance_draw_is_the_evidence_lower_bound():
    model, x = random_model(), random_rows()
    one = ImportanceWeighted(draws=1)(model, x, seeded(), 1)
    other = StickingTheLanding(draws=1)(model, x, seeded(), 1)
    assert_allclose(one[0].detach(), other[0].detach())
    assert_allclose(gradient(one[0].mean(), model), gradient(other[0].mean(), model))


def exact_linear(posterior="diagonal"):
    """A linear model with its exact posterior as encoder, and rows."""
    model = random_model("column", (), 4, 2, posterior)
    with torch.no_grad():
        W, noise = model.decoder.skip.weight, 0.1**2 + model.decoder.constants.exp()
        if posterior == "diagonal":  # columns of W orthogonal in the metric of the noise
            W[:, 1] -= W[:, 0] * ((W[:, 0] * W[:, 1] / noise).sum() / (W[:, 0] ** 2 / noise).sum())
        V = torch.linalg.inv(torch.eye(2) + W.T @ (W / noise[:, None]))
        root = torch.linalg.cholesky(V)
        model.encoder.skip.weight.copy_(V @ (W / noise[:, None]).T)
        model.encoder.skip.bias.copy_(-model.encoder.skip.weight @ model.decoder.skip.bias)
        model.encoder.log_sd.copy_(root.diagonal().log())
        if posterior == "full":
            model.encoder.lower.copy_(root[1:, 0])
    return model, random_rows(n=5)


@pytest.mark.parametrize("posterior", ["diagonal", "full"])
@pytest.mark.parametrize("objective", [StickingTheLanding(), ImportanceWeighted(draws=3)], ids=str)
def test_the_encoder_s_gradient_has_no_variance_where_q_is_exact(posterior, objective):
    model, x = exact_linear(posterior)
    assert (x.isnan().sum() == 0) and (posterior == "diagonal" or model.encoder.lower.abs() > 0.01)
    names = [name for name, _ in model.named_parameters()]
    sizes = [p.numel() for p in model.parameters()]
    own = np.repeat([name.startswith("encoder") for name in names], sizes)
    slopes = draws_of(objective, model, x, times=4, copies=1)
    assert np.abs(slopes[:, own]).max() < 1e-12
    assert slopes[:, ~own].std(axis=0).max() > 1e-3  # the decoder's is a draw
    assert draws_of(Elbo(), model, x, times=4, copies=1)[:, own].std(axis=0).max() > 1e-3
    losses = [objective(model, x, seeded(i), 1)[0].detach() for i in range(2)]
    assert_allclose(losses[0], losses[1], rtol=1e-10)  # the bound itself is log p(x), always


def test_more_importance_draws_are_a_tighter_bound():
    model, x = random_model("column"), random_rows(n=4).repeat(500, 1)
    bounds = [-ImportanceWeighted(draws=k)(model, x, seeded(), 1)[0].mean() for k in (1, 4, 16, 64)]
    assert (np.diff([float(bound.detach()) for bound in bounds]) > 0.01).all()


@pytest.mark.parametrize("K", [0, 2], ids=["normal", "mixture"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_terms_add_up_to_the_evidence_lower_bound(name, K):
    model, x = random_model(K=K), random_rows(n=3).repeat(4000, 1)
    _, terms = OBJECTIVES[name](draws=2, beta=0.5)(model, x, seeded(), 1)
    _, expected = Elbo(draws=2)(model, x, seeded(1), 1)
    for own, other in zip(terms, expected, strict=True):
        assert own.shape == (len(x),)
        gap = (own - other).detach()
        assert gap.mean().abs() <= 5 * gap.std() / np.sqrt(len(x)) + 1e-12


def test_warm_up_and_beta_weigh_the_divergence():
    assert [Elbo(beta=2.0, warmup=4).weight(epoch) for epoch in (0, 1, 4, 9)] == [0, 0.5, 2, 2]
    assert Elbo().weight(0) == 1.0
    model, x = random_model(), random_rows()
    for name, objective in OBJECTIVES.items():
        loss, (fit, log_prior, entropy) = objective(beta=0.25)(model, x, seeded(), 1)
        plain, _ = objective()(model, x, seeded(), 1)
        assert not torch.allclose(loss, plain)
        if name == "elbo":
            expected = -fit - 0.25 * (log_prior + entropy)
            assert_allclose(loss.detach(), expected.detach())


def test_free_bits_cost_nothing_and_have_no_gradient():
    model, x = random_model(), random_rows()
    loss, (fit, log_prior, entropy) = Elbo(free_bits=1e3)(model, x, seeded(), 1)
    assert_allclose(loss.detach(), 1e3 - fit.detach())
    slope = gradient(loss.mean(), model)
    alone = Elbo()(model, x, seeded(), 1)[1][0]
    assert_allclose(slope, gradient(-alone.mean(), model), atol=1e-12)
    few, _ = Elbo(free_bits=1e-3)(model, x, seeded(), 1)
    assert_allclose(few.detach(), -(fit + log_prior + entropy).detach())
