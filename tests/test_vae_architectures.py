"""Autoencoders with convolutions and with networks of the user's own beside linear paths."""

import pickle
from functools import cache

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp
from sklearn.base import clone
from sklearn.utils.estimator_checks import check_estimator
from torch import nn

from sklvm import VAE, VQVAE, EMFactorAnalysis
from sklvm.inference.descent import Descent
from sklvm.networks.architectures import Dense
from sklvm.networks.autoencoder import Autoencoder, blank_parameters
from sklvm.networks.by_hand import ElboByHand
from sklvm.networks.canvas import Canvas, Painter
from sklvm.networks.convolutional import Convolutional
from sklvm.networks.given import Given
from sklvm.networks.likelihoods import (
    BernoulliLikelihood,
    CategoricalLikelihood,
    GaussianLikelihood,
    joined,
)
from sklvm.networks.objectives import Elbo

pytestmark = [
    pytest.mark.filterwarnings("ignore:(VAE|VQVAE) did not converge"),
    pytest.mark.filterwarnings("ignore:on held-out rows [a-z_]* is better"),
    pytest.mark.filterwarnings("ignore:columns .* are constant"),
]
RNG = np.random.default_rng
AT_START = {"learning_rate_init": 1e-30, "max_iter": 1, "validation_fraction": 0.0}


def layers(n_inputs, h=7):
    """A network of one's own for rows."""
    return nn.Sequential(nn.Linear(n_inputs, 9), nn.SiLU(), nn.Linear(9, h), nn.Tanh())


def few_layers(n_inputs):
    """Another width."""
    return layers(n_inputs, h=4)


def convolutions(n_inputs):
    """The same for planes of 6 x 5: values and masks."""
    return nn.Sequential(
        nn.Unflatten(-1, (2, 6, 5)), nn.Conv2d(2, 3, 3, padding=1), nn.SiLU(), nn.Flatten()
    )


CONFIGURATIONS = {
    "convolutional": {"image_shape": (6, 5), "hidden_layer_sizes": (8,)},
    "given": {"encoder": layers, "decoder": few_layers},
    "given-image": {"encoder": convolutions, "decoder": layers, "image_shape": (6, 5)},
}
architectures = pytest.mark.parametrize("name", CONFIGURATIONS)


@cache
def images(n=150, holes=False, seed=0):
    """A bump at a random place of 6 x 5 pixels with noise; the corners are constant."""
    rng = RNG(seed)
    y, x = rng.uniform(0, 5, n), rng.uniform(0, 4, n)
    rows, columns = np.mgrid[:6, :5]
    far = (rows - y[:, None, None]) ** 2 + (columns - x[:, None, None]) ** 2
    X = (np.exp(-far / 2) + 0.1 * rng.standard_normal(far.shape)).reshape(n, 30)
    X[:, [0, 4, 25, 29]] = 0.0
    if holes:
        X[rng.uniform(size=X.shape) < 0.2] = np.nan
    X.flags.writeable = False
    return X


@cache
def fitted(name, q=1, holes=True):
    """A model that has learnt to bend a little, masks included."""
    settings = {"max_iter": 6, "n_importance_samples": 128, "learning_rate_init": 1e-2}
    settings |= {"decoder_variance": "column", "random_state": 0, "validation_fraction": 0.0}
    return VAE(q, **settings, **CONFIGURATIONS[name]).fit(images(holes=holes))


def normal(*shape, seed=1):
    """Standard normal numbers as a tensor."""
    return torch.from_numpy(RNG(seed).standard_normal(shape))


def bent_by(model):
    """The largest number that the nonlinear part adds to the outputs."""
    z = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None].expand(-1, model.n_components_)
    return model.state_.model().decoder.nonlinear(z).abs().max().item()


# --- the start ------------------------------------------------------------------------------------


@architectures
@pytest.mark.parametrize("holes", [False, True], ids=["complete", "holes"])
def test_the_start_is_factor_analysis(name, holes):
    X = images(holes=holes)
    settings = {"decoder_variance": "column", "random_state": 0, **AT_START}
    own = VAE(2, **settings, **CONFIGURATIONS[name]).fit(X)
    assert bent_by(own) < 1e-20
    varying = X[:, ~own.constant_]
    factors = EMFactorAnalysis(2).fit(varying)
    assert_allclose(own.score_samples(X[:20]), factors.score_samples(varying[:20]), atol=1e-2)
    assert own.score(X[:20]) == pytest.approx(factors.score(varying[:20]), abs=1e-3)


@pytest.mark.parametrize("shape", [(4, 4), (1, 5, 7), (3, 4, 9), (2, 1, 2), (33, 32)], ids=str)
def test_any_size_starts_at_zero_and_bends(shape):
    channels, height, width = (1, *shape)[-3:]
    columns = np.delete(np.arange(channels * height * width), 1)
    likelihood, d = GaussianLikelihood("network"), len(columns)
    canvas = Canvas.image(likelihood, columns, (channels, height, width))
    value = Convolutional.of((5,), canvas, likelihood, columns)
    arrays, x, z = blank_parameters(d, 2, value, likelihood, RNG(0)), normal(3, d), normal(4, 3, 2)
    model = Autoencoder.of(arrays, likelihood, value)
    assert (model.decoder.nonlinear(z) == 0).all() and not model.encoder(x).mean.any()
    arrays = {k: v + 0.1 * RNG(1).standard_normal(v.shape) for k, v in arrays.items()}
    bend = Autoencoder.of(arrays, likelihood, value).decoder.nonlinear(z)
    assert bend.shape == (4, 3, 2 * d) and (bend.std((0, 1)) > 0).all()


def test_complete_rows_are_seen_as_rows_without_gaps_and_masks_start_without_weight():
    likelihood = BernoulliLikelihood()
    canvas = Canvas.image(likelihood, np.arange(20), (1, 4, 5))
    value = Convolutional.of((5,), canvas, likelihood, np.arange(20))
    arrays = blank_parameters(20, 2, value, likelihood, RNG(0))
    arrays["encoder.nonlinear.out.weight"] += 1.0
    encoder = Autoencoder.of(arrays, likelihood, value).encoder
    x = torch.from_numpy(RNG(0).integers(0, 2, (6, 20)).astype(float))
    assert torch.equal(encoder.of_complete(x).mean, encoder(x).mean)
    first = arrays["encoder.nonlinear.convolutions.0.weight"]
    assert (first[:, 0] != 0).all() and (first[:, 1] == 0).all()


# --- where pixels lie -----------------------------------------------------------------------------


def test_features_and_masks_lie_at_their_pixels():
    """Two kinds of columns in an image of 2 x 3 whose pixel 1 is constant."""
    codes, bits = CategoricalLikelihood(n_categories=3, reserve=0.0), BernoulliLikelihood()
    likelihood = joined([(codes, np.array([1, 3])), (bits, np.array([0, 2, 4]))])
    canvas = Canvas.image(likelihood, np.array([0, 2, 3, 4, 5]), (1, 2, 3))
    painter = Painter(canvas)
    for name, v in painter.fresh().items():
        getattr(painter, name).data = torch.from_numpy(v)
    x = torch.tensor([[1.0, 2.0, np.nan, 1.0, 0.0]], dtype=torch.float64)
    shows = likelihood.shows(x)
    told = torch.cat([likelihood.shown(x).where(shows, 7.0), likelihood.telling(x)], -1)
    cells, other = painter(told)
    first, second, masks = cells.detach().numpy().reshape(3, 2, 3)
    assert other.shape == (1, 0)
    assert_array_equal(first, [[1, 0, 0], [0, 1, 0]])
    assert_array_equal(second, [[0, 0, 1], [0, 0, 0]])
    assert_array_equal(masks, [[0, 0, 0], [1, 0, 0]])
    columns = np.array([4, 1])
    part = canvas.take(columns, likelihood.features(columns, 5))
    assert_array_equal(part.blank.reshape(3, 2, 3)[2], [[1, 0, 0], [1, 1, 0]])
    assert_array_equal(part.owners, [1, 1, 0])


def test_networks_see_columns_about_0_in_units_of_their_spread():
    X = RNG(0).poisson([2.0, 9.0, 300.0], size=(400, 3)).astype(float)
    networks = {"encoder": layers, "decoder": layers}
    model = VAE(1, likelihood="poisson", random_state=0, **AT_START, **networks).fit(X)
    likelihood, encoder = model.state_.likelihood, model.state_.model().encoder
    x = torch.from_numpy(X)
    cells, _ = encoder.nonlinear.painter(encoder.inputs(x, likelihood.shows(x))[1])
    assert cells.shape == (400, 6) and not cells[:, 3:].any()
    assert_allclose(cells[:, :3].mean(0).numpy(), 0.0, atol=0.1)
    assert_allclose(cells[:, :3].std(0).numpy(), 1.0, atol=0.1)


@pytest.mark.parametrize("name", ["convolutional", "given-image"])
def test_what_else_there_is_comes_between_features_and_masks(name):
    state = fitted(name).state_
    d = state.n_features
    value = state.architecture
    if name == "given-image":
        networks = {"encoder_of": layers, "decoder_of": layers, "seed": 0}
        value = Given.tried(canvas=value.canvas, n_in=2 * d + 2, n_latents=3, **networks)
    module = value.encoder(2 * d + 2, 3, state.likelihood, d)
    arrays = module.fresh(RNG(0)).items()
    module.load_state_dict(
        {k: torch.from_numpy(v) + 0.1 * normal(*v.shape) for k, v in arrays}, assign=True
    )
    x = normal(4, 2 * d + 2)
    x[:, -d:] = 1.0
    other = x.clone()
    other[:, d : d + 2] += 1.0
    assert torch.equal(module(x), module.of_complete(x[:, : d + 2]))
    assert (module(x) - module(other)).abs().min() > 1e-4


def test_outputs_lie_at_their_pixels_whichever_others_are_constant():
    likelihood, shape, some = GaussianLikelihood("network"), (2, 5, 4), np.array([3, 7, 12, 30, 39])
    bends = []
    for columns in (np.arange(40), some):
        value = Convolutional.of(
            (5,), Canvas.image(likelihood, columns, shape), likelihood, columns
        )
        module = value.decoder(2, 2 * len(columns), likelihood, len(columns))
        arrays = {k: normal(*p.shape) for k, p in module.named_parameters()}
        module.load_state_dict(arrays, assign=True)
        bends.append(module(normal(3, 2)))
    assert torch.equal(bends[0][:, likelihood.outputs(some, 40)], bends[1])
    bias = dict(module.named_parameters())["out.bias"]
    slope = torch.autograd.grad(bends[1][0].sum(), bias)[0]
    assert_array_equal(slope.numpy(), [3, 2, 3, 2])  # means and log variances of two channels


# --- the density ----------------------------------------------------------------------------------


@architectures
def test_scores_with_gaps_are_those_of_quadrature(name):
    model = fitted(name)
    X, state = images(holes=True)[:25], model.state_
    assert bent_by(model) > 0.01
    z = np.linspace(-8, 8, 2001)[:, None]
    eta = state.model().decoder(torch.from_numpy(z))
    x = torch.from_numpy(state.standardised(X[:, ~model.constant_]))
    log_p = np.stack([state.likelihood.log_prob(row[None], eta).numpy() for row in x])
    log_p += -0.5 * z[:, 0] ** 2 - 0.5 * np.log(2 * np.pi) + np.log(z[1, 0] - z[0, 0])
    exact = logsumexp(log_p, axis=1) - state.log_jacobian(X[:, ~model.constant_])
    assert_allclose(model.score_samples(X), exact, atol=0.02)


@architectures
def test_a_marginal_is_what_missing_columns_leave(name):
    model, kept = fitted(name, q=2), np.array([17, 2, 8, 11])
    X = np.full((12, 30), np.nan)
    X[:, kept] = images(holes=True)[:12, kept]
    part = model.marginal(kept)
    assert_allclose(part.score_samples(X[:, kept]), model.score_samples(X), rtol=1e-9)
    whole, small = (m.state_.model().encoder for m in (model, part))
    x = torch.from_numpy(model.state_.standardised(X[:, ~model.constant_]))
    x_part = torch.from_numpy(part.state_.standardised(X[:, kept]))
    for one, other in zip(whole(x), small(x_part), strict=True):
        assert_allclose(one.numpy(), other.numpy(), atol=1e-12)
    again = part.marginal([2, 0])
    X[:, [2, 11]] = np.nan
    assert_allclose(again.score_samples(X[:, [8, 17]]), model.score_samples(X), rtol=1e-9)
    Z = RNG(0).standard_normal((3, 2))
    assert_allclose(again.inverse_transform(Z), model.inverse_transform(Z)[:, [8, 17]], rtol=1e-9)


# --- training -------------------------------------------------------------------------------------


@architectures
def test_training_learns_and_repeats_to_the_bit(name):
    X = images(n=180)
    settings = {"max_iter": 15, "learning_rate_init": 1e-2, "n_importance_samples": 64}
    weight = RNG(0).integers(0, 3, 160)
    rows = RNG(1).permutation(np.repeat(X[:160], weight, axis=0))
    model = VAE(2, random_state=0, **settings, **CONFIGURATIONS[name])
    models = [clone(model).fit(X[:160], sample_weight=weight)]
    torch.manual_seed(3)
    before = torch.get_rng_state()
    models.append(clone(model).fit(rows))
    assert torch.equal(torch.get_rng_state(), before)
    for key, v in models[0].parameters_.items():
        assert_array_equal(v, models[1].parameters_[key], err_msg=key)
    varying = X[:, ~models[0].constant_]
    linear = EMFactorAnalysis(2).fit(varying[:160], sample_weight=weight).score(varying[160:180])
    assert models[0].score(X[160:180]) > linear + 1.0


@architectures
def test_no_gradient_by_hand_for_what_is_not_dense(name):
    state = fitted(name).state_
    assert not ElboByHand.serves(Elbo(), state.model())
    decayed = state.model().bending_matrices()
    assert {p.ndim for p in decayed} == ({2} if name == "given" else {2, 4})
    assert len(Descent(state.model(), decayed, 0.1, 0.1, 0.0).parameters) > len(decayed)


# --- scikit-learn ---------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")  # the checks fit constant columns, too few iterations, ...
def test_every_check_passes():
    model = VAE(encoder=layers, decoder=layers, max_iter=2, n_importance_samples=32, random_state=0)
    results = check_estimator(model, on_skip=None, on_fail=None)
    assert [(r["check_name"], r["exception"]) for r in results if r["status"] != "passed"] == []


@architectures
def test_copies_and_rebuilt_models_say_the_same(name):
    model, X = fitted(name), images(holes=True)[:9]
    scores = model.score_samples(X)
    assert_array_equal(pickle.loads(pickle.dumps(model)).score_samples(X), scores)
    copied = clone(model).get_params()
    assert all(copied[key] == value for key, value in CONFIGURATIONS[name].items())
    state = model.state_
    rebuilt = VAE.from_parameters(
        parameters=model.parameters_,
        location=model.location_,
        scale=model.scale_,
        decoder_variance="column",
        points=model.points_,
        architecture=model.architecture_,
    )
    assert_array_equal(rebuilt.score_samples(X[:, ~model.constant_]), scores)
    assert rebuilt.get_params()["encoder"] is model.encoder
    with pytest.raises(ValueError, match="parameters lacks"):
        VAE.from_parameters(
            parameters=model.parameters_,
            location=model.location_,
            scale=model.scale_,
            decoder_variance="column",
            architecture=Dense((8,)),
        )
    assert state.architecture is model.architecture_


# --- discrete codes -------------------------------------------------------------------------------


@architectures
def test_discrete_codes_take_the_same_networks(name):
    X = images()
    model = VQVAE(4, max_iter=4, random_state=0, **CONFIGURATIONS[name]).fit(X)
    part = X.copy()
    part[:, 8:] = np.nan
    kept = np.arange(8)
    assert_allclose(model.marginal(kept).score_samples(X[:, kept]), model.score_samples(part))
    same = VQVAE.from_parameters(
        parameters=model.parameters_,
        weights=model.weights_,
        location=model.location_,
        scale=model.scale_,
        architecture=model.architecture_,
    )
    assert_array_equal(same.score_samples(X[:, ~model.constant_]), model.score_samples(X))


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((6, 6), r"image_shape=\(6, 6\) has 36 pixels, but X has 30 columns"),
        ((3, 6, 5), r"has 90 pixels, but X has 30"),
        ((30,), r"must be \(height, width\) or \(channels, height, width\)"),
        ((-6, -5), "positive integers"),
        ((6.0, 5.0), "positive integers"),
    ],
)
def test_a_shape_that_does_not_fit_is_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        VAE(image_shape=shape).fit(images())


class Twice(nn.Module):
    """One matrix in two places."""

    def __init__(self, n_inputs):
        super().__init__()
        self.one = nn.Linear(n_inputs, n_inputs)
        self.two = self.one


class Once(torch.autograd.Function):
    """A square that torch.func does not know."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, slope):
        return 2 * ctx.saved_tensors[0] * slope


class Squares(nn.Module):
    def forward(self, x):
        return Once.apply(x)


class Whole(nn.Module):
    def forward(self, x):
        return x.sum()


class Single(nn.Module):
    def forward(self, x):
        return x.float()


class Neighbours(nn.Module):
    def forward(self, x):
        return x - x.mean(0)


def frozen(n_inputs):
    return nn.Linear(n_inputs, 3).requires_grad_(False)


REFUSED = {
    "alone": ({"decoder": None}, "encoder and decoder go together"),
    "number": ({"encoder": int}, r"encoder\(8\) must return a torch.nn.Module, got 8"),
    "module": ({"encoder": nn.Linear(8, 3)}, "encoder must be a function .*got the module Linear"),
    "width": (
        {"encoder": lambda n: nn.Linear(n + 1, 3)},
        r"encoder\(8\) must map float64 rows of shape \(16, 8\) to \(16, h\), but fails: .*shape",
    ),
    "decoder": ({"decoder": lambda n: nn.Linear(3, n)}, r"decoder\(2\) must map .* \(16, 2\)"),
    "ndim": ({"encoder": lambda n: nn.Unflatten(-1, (2, 4))}, r"got \(16, 2, 4\) of torch.float64"),
    "sum": ({"encoder": lambda n: Whole()}, r"got \(\) of"),
    "dtype": ({"decoder": lambda n: Single()}, r"got \(16, 2\) of torch.float32"),
    "tuple": ({"encoder": lambda n: nn.LSTM(n, 3)}, "got tuple"),
    "dropout": ({"encoder": lambda n: nn.Dropout(0.1)}, "dropout and batch normalisation"),
    "rows": ({"encoder": lambda n: Neighbours()}, "whatever rows are beside it"),
    "buffers": ({"decoder": nn.BatchNorm1d}, r"with buffers, .*\['running_mean'"),
    "lazy": ({"encoder": lambda n: nn.LazyLinear(3)}, "lazy modules"),
    "shared": ({"encoder": Twice}, r"in two places, are not supported: \['two.bias'"),
    "frozen": ({"encoder": frozen}, r"need no gradient, .*\['weight', 'bias'\]"),
    "func": ({"decoder": lambda n: Squares()}, "cannot be differentiated twice by torch.func"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_networks_that_do_not_fit_are_refused(name):
    change, message = REFUSED[name]
    networks = {"encoder": layers, "decoder": layers} | change
    X = RNG(0).standard_normal((30, 4))
    with pytest.raises(ValueError, match=message):
        VAE(2, **networks).fit(X)
