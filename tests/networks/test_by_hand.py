"""Gradients written by hand against automatic differentiation."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from sklvm.inference.descent import Descent
from sklvm.networks.architectures import Dense
from sklvm.networks.autoencoder import Autoencoder, blank_parameters
from sklvm.networks.by_hand import ElboByHand
from sklvm.networks.likelihoods import Eta, Likelihood
from sklvm.networks.objectives import OBJECTIVES, Elbo
from tests.networks._small import LIKELIHOODS, random_model, random_rows, seeded


def both(model, objective, x, epoch=3):
    """(loss, terms, gradient) by hand and by differentiation, with the same noise."""
    descent = Descent(model, None, 1e-3, 0.0, 0.0)
    answers = []
    for climb in (
        ElboByHand(objective, model, descent.slope_of),
        descent.differentiated(lambda *args: objective(model, *args)),
    ):
        descent.gradient.fill_(0.0)
        loss, terms = climb(x, seeded(), epoch)
        answers.append((loss, torch.stack(list(terms)), descent.gradient.clone()))
    return answers


@pytest.mark.parametrize("holes", [False, True], ids=["complete", "holes"])
@pytest.mark.parametrize("hidden", [(), (5,), (7, 5)], ids=str)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_the_bound_and_its_gradient(likelihood, hidden, holes):
    model = random_model(likelihood, hidden)
    by_hand, plain = both(model, Elbo(), random_rows(likelihood, holes=holes))
    for own, other in zip(by_hand, plain, strict=True):
        assert_allclose(own, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "objective", [Elbo(beta=0.3), Elbo(warmup=7), Elbo(free_bits=4.0)], ids=str
)
def test_what_the_divergence_counts(objective):
    model, x = random_model(), random_rows()
    by_hand, plain = both(model, objective, x)
    for own, other in zip(by_hand, plain, strict=True):
        assert_allclose(own, other, rtol=1e-9, atol=1e-12)
    assert not torch.allclose(by_hand[2], both(model, Elbo(), x)[0][2])


def test_single_precision_agrees_to_its_rounding():
    model, x = random_model("bernoulli", (9, 9), d=12), random_rows("bernoulli", d=12)
    exact = both(model, Elbo(), x)[1]
    single = both(model.float(), Elbo(), x.float())
    for own, plain in zip(*single, strict=True):
        assert_allclose(own, plain, rtol=1e-6, atol=1e-6 * float(exact[2].abs().max()))


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_masks_start_without_weight(likelihood):
    arrays = blank_parameters(4, 2, Dense((5,)), LIKELIHOODS[likelihood], np.random.default_rng(0))
    m, first = len(arrays["encoder.centre"]), arrays["encoder.nonlinear.layers.0.weight"]
    assert first.shape == (5, m + 4) and (first[:, m:] == 0).all() and (first[:, :m] != 0).all()


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_complete_rows_need_no_masks_where_these_weigh_nothing(likelihood):
    parameters, x = random_model(likelihood).arrays(), random_rows(likelihood)
    value, m = LIKELIHOODS[likelihood], len(parameters["encoder.centre"])
    parameters["encoder.nonlinear.layers.0.weight"][:, m:] = 0.0
    model = Autoencoder.of(parameters, value, Dense((7, 5)))
    (loss, _, slope), _ = both(model, Elbo(), x)
    model = Autoencoder.of(parameters, value.of_complete_rows(), Dense((7, 5)))
    masks = Descent(model, None, 1e-3, 0.0, 0.0)
    first = masks.slope_of(model.encoder.nonlinear.layers[0].weight)
    (own_loss, _, own_slope), (plain_loss, _, plain_slope) = both(model, Elbo(), x)
    assert_allclose(own_loss, loss, rtol=1e-12)
    assert_allclose(plain_loss, loss, rtol=1e-12)
    assert_allclose(own_slope, plain_slope, rtol=1e-9, atol=1e-12)
    masks.gradient.copy_(slope - own_slope)
    assert (first[:, m:] != 0).all()  # what the masks alone would have learnt
    masks.gradient.copy_(own_slope)
    assert (first[:, m:] == 0).all() and (first[:, :m] != 0).any(0).all()


def test_it_serves_what_it_is_the_gradient_of():
    model = random_model()
    assert ElboByHand.serves(Elbo(), model) and ElboByHand.serves(Elbo(beta=2.0), model)
    assert not ElboByHand.serves(Elbo(draws=2), model)
    assert not ElboByHand.serves(OBJECTIVES["stl"](), model)
    assert not ElboByHand.serves(Elbo(), random_model(posterior="full"))
    assert not ElboByHand.serves(Elbo(), random_model(K=2))


@pytest.mark.parametrize("beyond", [-1.0, 25.0], ids=["usual", "past the largest log variance"])
@pytest.mark.parametrize("holes", [False, True], ids=["complete", "holes"])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_slopes_of_likelihoods(likelihood, holes, beyond):
    value, x = LIKELIHOODS[likelihood], random_rows(likelihood, holes=holes)
    value = value if holes else value.of_complete_rows()
    d = x.shape[1]
    outputs = torch.randn((len(x), value.n_outputs(d)), generator=seeded()).double()
    constants = torch.linspace(0.5, -2.0, value.n_constants(d)).double()
    for part in (outputs[:1], constants):
        part[..., -1:] = beyond
    log_p, slope = value.log_prob_and_slope(x, Eta(outputs, constants))
    expected = Likelihood.log_prob_and_slope(value, x, Eta(outputs, constants))
    assert_allclose(log_p, expected[0], rtol=1e-12)
    for own, other in zip(slope, expected[1], strict=True):
        assert_allclose(own, other, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("hidden", [(), (5,), (6, 4, 3)], ids=str)
def test_layers_as_one_node(hidden):
    """Values and gradients of any leading shape; differentiated twice, it refuses."""
    net = random_model(hidden=hidden).decoder.nonlinear
    z = torch.randn((3, 5, 2), generator=seeded()).double().requires_grad_()
    leaves = [z, *net.parameters()]
    answers = []
    for out in (net(z), net.at_once(z)):
        value = (out * torch.arange(out.numel()).view(out.shape)).sum()
        slopes = torch.autograd.grad(value, leaves, allow_unused=True) if hidden else ()
        answers.append((out, *slopes))
    for plain, own in zip(*answers, strict=True):
        assert_allclose(own.detach(), plain.detach(), rtol=1e-9, atol=1e-12)
    if hidden:
        slope = torch.autograd.grad(net.at_once(z).sum(), z, create_graph=True)[0]
        with pytest.raises(RuntimeError, match="does not require grad"):
            torch.autograd.grad(slope.sum(), z)
