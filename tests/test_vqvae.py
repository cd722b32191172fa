"""VQ-VAE: sums over codes by hand, reductions to mixtures, the codebook, and what it refuses."""

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp, softmax
from scipy.stats import norm
from sklearn.metrics import adjusted_rand_score
from sklearn.utils.estimator_checks import check_estimator

from sklvm import VQVAE, GaussianMixture, StudentT
from sklvm.networks.architectures import Dense
from sklvm.networks.codebook import (
    CodebookLoss,
    MarginalLoss,
    Quantiser,
    RelaxedLoss,
    chain_prior,
    shares,
)
from sklvm.networks.likelihoods import named_likelihood

pytestmark = pytest.mark.filterwarnings("ignore:VQVAE did not converge")
RNG = np.random.default_rng
AT_START = {"max_iter": 1, "learning_rate_init": 1e-12, "codebook_decay": 1 - 1e-12}


@pytest.fixture(scope="module")
def clusters():
    """Three clusters of unequal size in columns of different units, and which row is of which."""
    rng = RNG(0)
    group = rng.choice(3, size=180, p=[0.5, 0.3, 0.2])
    centres = np.array([[0.0, 0.0, 0.0], [4.0, 40.0, 0.1], [-4.0, 60.0, 0.5]])
    return centres[group] + rng.normal(size=(180, 3)) * [1.0, 5.0, 0.1], group


def by_hand(P, K, m, d, seed=0):
    """Arrays of a decoder without hidden layers, and a table of codes that no product makes."""
    rng = RNG(seed)
    return {
        "encoder.centre": np.zeros(d),
        "encoder.skip.weight": rng.normal(size=(P * m, d)),
        "encoder.skip.bias": rng.normal(size=P * m),
        "encoder.log_sd": np.zeros(P * m),
        "decoder.skip.weight": rng.normal(size=(d, P * m)),
        "decoder.skip.bias": rng.normal(size=d),
        "decoder.constants": rng.normal(size=d),
        "codebook": rng.normal(size=(P, K, m)),
    }, rng.dirichlet(np.ones(K**P))


def module_by_hand(P=2, K=3, m=2, d=3):
    parameters, weights = by_hand(P, K, m, d)
    likelihood = named_likelihood("gaussian", "column", 1e-2)
    x = torch.from_numpy(RNG(1).normal(size=(12, d)))
    return Quantiser.of(parameters, likelihood, Dense()), weights.reshape((K,) * P), x


# --- the density ----------------------------------------------------------------------------------


def test_identity_decoder_is_a_mixture_of_gaussians():
    d, K = 3, 4
    parameters, weights = by_hand(1, K, d, d)
    parameters["decoder.skip.weight"], parameters["decoder.skip.bias"] = np.eye(d), np.zeros(d)
    location, scale = np.array([5.0, -1.0, 0.0]), np.array([1.0, 10.0, 0.2])
    model = VQVAE.from_parameters(
        parameters=parameters,
        weights=weights,
        location=location,
        scale=scale,
        decoder_variance="column",
    )
    means = location + scale * parameters["codebook"][0]
    variances = scale**2 * (1e-4 + np.exp(parameters["decoder.constants"]))
    mixture = GaussianMixture.from_parameters(
        weights=weights,
        means=means,
        covariances=np.tile(variances, (K, 1)),
        covariance_type="diag",
    )
    X = RNG(2).normal(size=(50, d)) * scale * 2 + location
    X[RNG(3).uniform(size=X.shape) < 0.3] = np.nan
    assert_allclose(model.means_, means)
    for verb in ("score_samples", "predict_proba", "impute"):
        expected = getattr(mixture, verb)(X)
        assert_allclose(getattr(model, verb)(X), expected, rtol=1e-10, atol=1e-12)
    modes = mixture.score_samples(mixture.impute(X, how="mode"))
    assert_allclose(model.score_samples(model.impute(X, how="mode")), modes, atol=1e-6)


def test_several_positions_are_summed_by_hand():
    P, K, m, d = 3, 2, 2, 3
    parameters, weights = by_hand(P, K, m, d)
    model = VQVAE.from_parameters(
        parameters=parameters,
        weights=weights,
        location=np.zeros(d),
        scale=np.ones(d),
        decoder_variance="column",
    )
    X = RNG(4).normal(size=(20, d))
    sd = np.sqrt(1e-4 + np.exp(parameters["decoder.constants"]))
    joint, codes = [], list(np.ndindex((K,) * P))
    for code, weight in zip(codes, weights, strict=True):
        z = np.concatenate([parameters["codebook"][p, c] for p, c in enumerate(code)])
        mean = parameters["decoder.skip.weight"] @ z + parameters["decoder.skip.bias"]
        joint.append(np.log(weight) + norm.logpdf(X, mean, sd).sum(axis=1))
    assert_allclose(model.score_samples(X), logsumexp(joint, axis=0), rtol=1e-12)
    best = np.argmax(joint, axis=0)
    assert_array_equal(model.predict(X), best)
    assert_array_equal(model.predict_codes(X), np.array(codes)[best])
    assert model.get_params()["n_codes"] == P and model.score_kind_ == "exact"


def test_the_order_of_entries_changes_no_density():
    parameters, weights = by_hand(2, 3, 2, 3)
    units = {"location": np.zeros(3), "scale": np.ones(3), "decoder_variance": "column"}
    model = VQVAE.from_parameters(parameters=parameters, weights=weights, **units)
    X, ordered = RNG(8).normal(size=(20, 3)), model.state_.in_order()
    assert_allclose(ordered.log_prob(X), model.score_samples(X), rtol=1e-12)
    assert (np.diff(shares(ordered.table)) <= 0).all()
    assert (np.diff(shares(model.state_.table)) > 0).any()


def test_one_code_is_independent_columns(clusters):
    X, _ = clusters
    model = VQVAE(1, validation_fraction=0, random_state=0, **AT_START).fit(X)
    expected = norm.logpdf(X, X.mean(axis=0), X.std(axis=0)).sum(axis=1)
    assert_allclose(model.score_samples(X), expected, atol=1e-5)  # rows keep 24 bits
    assert model.n_parameters_ == 6
    assert_array_equal(model.transform(X), 1.0)


def test_counting_columns_sum_to_one():
    rng = RNG(5)
    bit = rng.uniform(size=150) < 0.4
    X = np.column_stack([bit, rng.poisson(2 + 6 * bit)]).astype(float)
    model = VQVAE(
        2,
        n_codes=2,
        n_factors=1,
        likelihood=[("bernoulli", [0]), ("poisson", [1])],
        max_iter=5,
        random_state=0,
    ).fit(X)
    grid = np.array([(a, b) for a in (0, 1) for b in range(80)], dtype=float)
    scores = model.score_samples(grid).reshape(2, 80)
    assert np.exp(scores).sum() == pytest.approx(1.0, abs=1e-9)
    seen = np.column_stack([np.full(80, np.nan), np.arange(80.0)])
    assert_allclose(model.score_samples(seen), logsumexp(scores, axis=0), rtol=1e-10)
    assert list(model.base_measure_) == ["counting"] * 2


def test_dtypes_choose_likelihoods(clusters):
    X, group = clusters
    table = pd.DataFrame({"kind": pd.Categorical(np.array(list("abc"))[group]), "x": X[:, 0]})
    table.loc[::7, "x"] = np.nan
    model = VQVAE(3, hidden_layer_sizes=(8,), max_iter=10, random_state=0).fit(table)
    assert model.likelihood_ == [("categorical", [0]), ("gaussian", [1])]
    unknown = pd.DataFrame({"kind": table["kind"].where(group < 0), "x": [-4.0] * 180})
    assert model.impute(unknown, how="mode")[0, 0] == 2


def test_the_mode_of_bent_columns_is_the_highest_point_of_a_grid():
    rng = RNG(6)
    t = rng.normal(size=200)
    X = np.column_stack([np.exp(t + 0.3 * rng.normal(size=200)), t + 0.3 * rng.normal(size=200)])
    model = VQVAE(
        3, likelihood=[("log_normal", [0]), (StudentT(df=4), [1])], max_iter=3, random_state=0
    ).fit(X)
    for seen in ([np.nan, 0.3], [1.4, np.nan], [np.nan, -1.0]):
        filled = model.impute([seen], how="mode")
        values = np.linspace(0.01, 8, 4000) if np.isnan(seen[0]) else np.linspace(-4, 4, 4000)
        grid = np.where(np.isnan(seen), values[:, None], seen)
        assert model.score_samples(filled)[0] >= model.score_samples(grid).max() - 1e-9


# --- training -------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", ["codes", "gumbel_softmax"])
def test_training_finds_clusters(clusters, objective):
    X, group = clusters
    settings = {"hidden_layer_sizes": (8,), "max_iter": 30, "random_state": 0}
    model = VQVAE(3, objective=objective, **settings).fit(X)
    assert adjusted_rand_score(group, model.predict(X)) > 0.95
    one = VQVAE(1, objective=objective, **settings).fit(X)
    assert model.score(X) > one.score(X) + 1.0
    assert (np.diff(model.weights_) <= 1e-6).all()


def test_the_likelihood_of_a_linear_decoder_is_that_of_a_mixture(clusters):
    X, _ = clusters
    mixture = GaussianMixture(3, covariance_type="EEI", covariance_prior=0, random_state=0).fit(X)
    model = VQVAE(
        3,
        n_factors=3,
        hidden_layer_sizes=(),
        decoder_variance="column",
        objective="likelihood",
        validation_fraction=0,
        learning_rate_init=3e-3,
        batch_size=180,
        max_iter=600,
        tol=1e-7,
        random_state=0,
    ).fit(X)
    assert model.n_parameters_ == mixture.n_parameters_
    assert mixture.score(X) - 1e-3 < model.score(X) < mixture.score(X) + 1e-9
    assert model.history_[-1] == pytest.approx(model.score(X), abs=1e-3)


@pytest.mark.parametrize("objective", ["codes", "likelihood"])
def test_the_objective_at_the_start_is_in_the_units_of_the_data(clusters, objective):
    X, _ = clusters
    settings = {"objective": objective, "validation_fraction": 0, "random_state": 0, **AT_START}
    model = VQVAE(3, commitment=0.0, **settings).fit(X)
    assert model.history_[0] <= model.score(X) + 1e-6
    far = VQVAE(3, commitment=0.0, **settings).fit(X * 2.0**9)
    assert_allclose(model.history_ - far.history_, 3 * 9 * np.log(2), rtol=1e-12)
    assert model.score(X) - model.history_[0] < 0.2


def test_relaxed_codes_start_near_the_likelihood(clusters):
    """The encoder of factor analysis says where a row is, so q is near Bayes' rule of the codes."""
    X, _ = clusters
    settings = {"objective": "gumbel_softmax", "validation_fraction": 0, "random_state": 0}
    model = VQVAE(3, **settings, **AT_START).fit(X)
    assert model.history_[0] == pytest.approx(model.score(X), abs=0.02)
    far = VQVAE(3, **settings, **AT_START).fit(X * 2.0**9)
    assert_allclose(model.history_ - far.history_, 3 * 9 * np.log(2), rtol=1e-12)


def test_the_prior_is_the_most_probable_one(clusters):
    X, _ = clusters
    model = VQVAE(
        2, n_codes=2, hidden_layer_sizes=(4,), validation_fraction=0, max_iter=3, random_state=0
    ).fit(X)
    assert_allclose(model.transform(X).mean(axis=0), model.weights_, atol=1e-3)
    assert model.weights_.sum() == pytest.approx(1.0)


def test_a_chain_of_codes():
    counts = RNG(7).integers(1, 9, size=(2, 2, 2)).astype(float)
    pairs = counts.sum(axis=2), counts.sum(axis=0)
    first, step = counts.sum(axis=(1, 2)), [p / p.sum(axis=1, keepdims=True) for p in pairs]
    expected = np.einsum("a,ab,bc->abc", first / first.sum(), *step)
    assert_allclose(chain_prior(counts), expected, rtol=1e-12)
    two = counts[0]
    assert_allclose(chain_prior(two), two / two.sum(), rtol=1e-12)
    never = chain_prior(np.array([[0.0, 0.0], [1.0, 3.0]]))
    assert_array_equal(never, [[0.0, 0.0], [0.25, 0.75]])


# --- the losses -----------------------------------------------------------------------------------


def test_the_slope_goes_straight_through():
    module, table, x = module_by_hand()
    loss = CodebookLoss(module, table, 0.25, 0.9)
    bias, book = module.encoder.skip.bias, module.codebook
    slopes = torch.autograd.grad(loss(x, None, 0)[0].sum(), (bias, book), materialize_grads=True)
    z = module.encode(x).detach()
    e = module.entries(module.nearest(z)).detach().flatten(1).requires_grad_(True)
    fit = module.likelihood.log_prob(x, module.decoder(e)).sum()
    through = -torch.autograd.grad(fit, e)[0] + 0.5 * (z.flatten(1) - e.detach())
    assert_allclose(slopes[0], through.sum(0), rtol=1e-10)
    assert not slopes[1].any()


def test_what_the_first_loss_is():
    module, table, x = module_by_hand()
    with torch.no_grad():
        z = module.encode(x)
        codes = module.nearest(z)
        far = (z[:, :, None] - module.codebook).square().sum(-1)
        assert_allclose(far.gather(2, codes[..., None])[..., 0], far.min(-1).values)
        away = far.min(-1).values.sum(-1)
        log_p = module.log_likelihoods(x)[3 * codes[:, 0] + codes[:, 1], torch.arange(12)]
        log_share = np.log(table.sum(axis=1))[codes[:, 0]] + np.log(table.sum(axis=0))[codes[:, 1]]
        loss = CodebookLoss(module, table, 0.25, 0.9)(x, None, 0)[0]
        assert_allclose(loss, 0.25 * away - log_p - torch.from_numpy(log_share), rtol=1e-10)
        whole = MarginalLoss(module, table, 0.25, 0.9)(x, None, 0)[0]
    joint = module.log_likelihoods(x).detach().numpy() + np.log(table.ravel())[:, None]
    assert_allclose(-whole, logsumexp(joint, axis=0), rtol=1e-12)
    marginal = MarginalLoss(module, table, 0.25, 0.0)  # no memory: one step of EM on this batch
    marginal(x, None, 1)
    assert_allclose(marginal.weights, softmax(joint, axis=0).mean(axis=1), rtol=1e-10)


def log_q_by_hand(module, table, x):
    """log q(c | x) of the entries at each position, from what the encoder says: (n, P, K)."""
    q = module.encoder.of_complete(x)
    mean, sd = (v.detach().numpy().reshape(12, 2, 1, 2) for v in (q.mean, q.log_sd.exp()))
    log_density = norm.logpdf(module.codebook.detach().numpy(), mean, sd).sum(axis=-1)
    return np.log(softmax(log_density + np.log(shares(table)), axis=-1))


def test_what_the_relaxed_loss_is_where_the_decoder_ignores_the_code():
    """Then log p(x | c) is one number, and the rest of the bound how far q is from p(c)."""
    module, table, x = module_by_hand()
    module.decoder.skip.weight.data.zero_()
    loss = RelaxedLoss(module, table, 0.25, 0.9)(x, torch.Generator().manual_seed(0), 0)[0]
    log_q, log_p = log_q_by_hand(module, table, x), np.log(shares(table))
    divergence = (np.exp(log_q) * (log_q - log_p)).sum(axis=(1, 2))
    fit = module.log_likelihoods(x).detach().numpy()[0]
    assert_allclose(loss.detach(), divergence - fit, rtol=1e-10)
    loss = RelaxedLoss(module, table, 0.25, 0.0)  # no memory: p(c) is this batch's
    loss(x, torch.Generator().manual_seed(0), 1)
    assert_allclose(loss.share, np.exp(log_q).mean(axis=0), rtol=1e-10)


def test_cold_relaxed_codes_are_draws_of_q():
    module, table, x = module_by_hand()
    log_q = torch.from_numpy(log_q_by_hand(module, table, x)[:1]).expand(20_000, -1, -1)
    generator = torch.Generator().manual_seed(0)
    drawn = RelaxedLoss._relaxed(log_q, generator, 1e-4)
    assert ((drawn > 0.99) | (drawn < 0.01)).double().mean() > 0.999
    assert_allclose(drawn.mean(0), log_q[0].exp(), atol=0.015)
    warm = RelaxedLoss._relaxed(log_q, generator, 1.0)
    assert (warm.max(-1).values < 0.9).double().mean() > 0.3


def test_the_relaxed_bound_of_cold_codes_is_the_evidence_lower_bound():
    """E_q[log p(x | c)] summed over all codes, less the divergence, is what cold draws average."""
    module, table, x = module_by_hand()
    log_q, log_p = log_q_by_hand(module, table, x), np.log(shares(table))
    divergence = (np.exp(log_q) * (log_q - log_p)).sum(axis=(1, 2))
    pairs = np.exp(log_q[:, 0, :, None] + log_q[:, 1, None, :]).reshape(len(x), -1)  # (n, C)
    fit = (pairs * module.log_likelihoods(x).detach().numpy().T).sum(axis=1)
    relaxed, times = RelaxedLoss(module, table, 0.25, 0.9), 4000
    many = x.repeat_interleave(times, 0)
    with torch.no_grad():  # the coldest epoch; memory keeps p(c) where it was
        relaxed.decay = 1.0
        drawn = -relaxed(many, torch.Generator().manual_seed(0), 10_000)[0].numpy()
    drawn = drawn.reshape(len(x), times)
    error = drawn.std(axis=1) / np.sqrt(times)
    relaxation = np.abs(drawn.mean(axis=1) - (fit - divergence))
    assert (relaxation < 4 * error + 0.05 * np.abs(fit - divergence)).all()


def test_the_codebook_follows_the_encoder():
    module, table, x = module_by_hand()
    module.codebook.data[0, 2] = 1e3  # an entry that no row will want
    z = module.encode(x).detach()
    codes = module.nearest(z)
    assert (codes[:, 0] < 2).all()
    loss = CodebookLoss(module, table, 0.25, 0.0)  # no memory: the entries are this batch's means
    loss(x, torch.Generator().manual_seed(0), 1)
    for p in range(2):
        for k in codes[:, p].unique():
            expected = z[codes[:, p] == k, p].mean(0)
            assert_allclose(module.codebook[p, k].detach(), expected, rtol=1e-10)
    placed = module.codebook[0, 2].detach()
    assert (z[:, 0] - placed).abs().sum(-1).min() < 1e-12
    assert_allclose(loss.share.sum(1), 1.0, rtol=1e-12)


# --- scikit-learn and bad input -------------------------------------------------------------------


def test_check_estimator_of_two_positions():
    model = VQVAE(
        2,
        n_codes=2,
        n_factors=1,
        objective="likelihood",
        decoder_variance="column",
        hidden_layer_sizes=(4,),
        max_iter=5,
        random_state=0,
    )
    results = check_estimator(model, on_skip=None, on_fail=None)
    assert [r["check_name"] for r in results if r["status"] != "passed"] == []


def test_more_entries_than_distinct_rows():
    X = np.repeat([[0.0, 1.0], [2.0, 5.0], [4.0, 2.0]], 4, axis=0)
    model = VQVAE(5, max_iter=5, random_state=0).fit(X)
    assert np.isfinite(model.score_samples(X)).all() and model.weights_.sum() == pytest.approx(1)


def test_known_parameters_make_the_same_model(clusters):
    X, _ = clusters
    model = VQVAE(2, n_codes=2, hidden_layer_sizes=(4,), max_iter=3, random_state=0).fit(X)
    same = VQVAE.from_parameters(
        parameters=model.parameters_,
        weights=model.weights_,
        location=model.location_,
        scale=model.scale_,
    )
    assert_array_equal(same.score_samples(X), model.score_samples(X))
    assert_array_equal(same.codebook_, model.codebook_)


def test_refusals():
    with pytest.raises(ValueError, match=r"17 entries at n_codes=3 .* 4913 codes.*4096"):
        VQVAE(17, n_codes=3).fit(np.eye(40))
    with pytest.raises(ValueError, match="total weight 8 at least, got 7"):
        VQVAE().fit(RNG(0).normal(size=(7, 2)))
    parameters, weights = by_hand(1, 3, 2, 2)
    known = {
        "parameters": parameters,
        "weights": weights,
        "location": [0, 0],
        "scale": [1, 1],
        "decoder_variance": "column",
    }
    VQVAE.from_parameters(**known)
    without = {k: v for k, v in parameters.items() if k != "decoder.constants"}
    for change, message in [
        ({"weights": weights * 2}, "probabilities that sum to 1"),
        ({"weights": weights[:2]}, r"weights must be finite numbers of shape \(3,\)"),
        ({"scale": [1, 0]}, "scale must be positive"),
        ({"parameters": without}, r"lacks \['decoder.constants'\]"),
        ({"parameters": {"codebook": weights}}, "codebook"),
        ({"likelihood": "categorical"}, "n_categories"),
    ]:
        with pytest.raises(ValueError, match=message):
            VQVAE.from_parameters(**known | change)
