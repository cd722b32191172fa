"""Likelihoods of the VAE: densities that sum to one, mixed tables, units, gaps, dtypes."""

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from scipy.special import logsumexp
from sklearn.base import clone
from sklearn.utils.estimator_checks import check_estimator

from sklvm import VAE, Categorical, LatentImputer, Mixture, StudentT
from sklvm.networks.likelihoods import LIKELIHOODS, Eta, named_likelihood
from sklvm.networks.likelihoods.continuous_bernoulli import log_sinhc, natural_of_mean

pytestmark = [
    pytest.mark.filterwarnings("ignore:VAE did not converge"),
    pytest.mark.filterwarnings("ignore:on held-out rows [a-z_]*mixture is better"),
]
QUICK = {"max_iter": 3, "n_importance_samples": 32, "random_state": 0}

# --- each likelihood by itself ------------------------------------------------------------------

NODES, STEP = np.linspace(-12, 12, 12001, retstep=True)
LINE, LINE_WEIGHT = np.sinh(NODES), np.log(np.cosh(NODES) * STEP)
UNIT = np.linspace(0, 1, 20001)
WHOLE = np.arange(400.0)


def simpson(x):
    weight = np.tile([2.0, 4.0], len(x) // 2 + 1)[: len(x)]
    weight[[0, -1]] = 1.0
    return np.log(weight * (x[1] - x[0]) / 3)


# name -> likelihood of one column, its support, log weights of a sum over it, outputs, constants
ONE = {
    "gaussian": ("gaussian", LINE, LINE_WEIGHT, [0.3, -0.7], []),
    "student_t": ("student_t", LINE, LINE_WEIGHT, [0.3, -0.7], [1.5]),
    "student_t-6": (StudentT(df=6), LINE, LINE_WEIGHT, [0.3, -0.7], []),
    "bernoulli": ("bernoulli", WHOLE[:2], np.zeros(2), [0.8], []),
    "poisson": ("poisson", WHOLE, np.zeros(400), [1.3], []),
    "negative_binomial": ("negative_binomial", WHOLE, np.zeros(400), [1.3], [-1.2]),
    "continuous_bernoulli": ("continuous_bernoulli", UNIT, simpson(UNIT), [2.5], []),
    "continuous_bernoulli-half": ("continuous_bernoulli", UNIT, simpson(UNIT), [0.0], []),
    "continuous_bernoulli-near": ("continuous_bernoulli", UNIT, simpson(UNIT), [-0.09], []),
    "categorical": (Categorical(4), WHOLE[:4], np.zeros(4), [0.5, -1.0, 0.2], []),
    "log_normal": ("log_normal", LINE, LINE_WEIGHT, [0.3, -0.7], []),
}


def one(name, variance="network"):
    """The likelihood of one column, its support, log weights, and eta as a function of outputs."""
    word, support, log_weight, outputs, constants = ONE[name]
    likelihood = named_likelihood(word, variance, 0.1).in_units(np.ones(1))
    outputs, constants = (torch.tensor(v, dtype=torch.float64) for v in (outputs, constants))
    return likelihood, torch.tensor(support[:, None]), log_weight, outputs, constants


@pytest.mark.parametrize("name", ONE)
def test_a_likelihood_sums_to_one_and_its_mean_and_mode_are_right(name):
    likelihood, x, log_weight, outputs, constants = one(name)
    eta = Eta(outputs, constants)
    log_p = likelihood.log_prob(x, eta).numpy()
    p = np.exp(log_p + log_weight)
    assert p.sum() == pytest.approx(1.0, abs=1e-9)
    keep = p > 0
    values = likelihood.from_line(x.numpy()[keep, 0])
    said = likelihood.mean(eta), likelihood.mode(eta)
    mean, mode = (likelihood.from_line(value.numpy()[0]) for value in said)
    assert p[keep] @ values == pytest.approx(mean, abs=2e-3 if name == "student_t" else 1e-6)
    height = log_p[keep] - likelihood.log_slope(values[:, None])[:, 0]  # the density of x itself
    if name != "continuous_bernoulli-half":  # uniform
        assert values[height.argmax()] == pytest.approx(mode, abs=2e-3)


@pytest.mark.parametrize("name", ONE)
def test_draws_have_the_distribution(name):
    """The empirical distribution function stays within 5 SE of the sum of the density."""
    likelihood, x, log_weight, outputs, constants = one(name)
    eta = Eta(outputs.expand(4000, -1), constants)
    draws = np.sort(likelihood.sample(eta, np.random.default_rng(0)).numpy()[:, 0])
    p = np.exp(likelihood.log_prob(x, Eta(outputs, constants)).numpy() + log_weight)
    half = 0.5 * p if likelihood.base_measure == "lebesgue" else 0.0
    below = np.searchsorted(draws, x.numpy()[:, 0], side="right") / 4000
    assert np.abs(below - (np.cumsum(p) - half)).max() < 2.5 / np.sqrt(4000)


@pytest.mark.parametrize("name", ONE)
def test_gradients_and_information_are_those_of_the_density(name):
    """Scores by finite differences; F = E[score score'] by summing over the support."""
    likelihood, x, log_weight, outputs, constants = one(name)

    def log_p(outputs):
        return likelihood.log_prob(x, Eta(outputs, constants))

    step = 1e-5 * torch.eye(len(outputs), dtype=torch.float64)
    differences = torch.stack([(log_p(outputs + e) - log_p(outputs - e)) / 2e-5 for e in step], 1)
    scores = torch.func.jacfwd(log_p)(outputs)
    assert_allclose(scores.numpy(), differences.numpy(), rtol=1e-5, atol=1e-5)
    p = np.exp(log_p(outputs).numpy() + log_weight)
    keep = p > 0
    expected = (scores.numpy()[keep].T * p[keep]) @ scores.numpy()[keep]
    eta, J = Eta(outputs[None], constants), torch.eye(len(outputs), dtype=torch.float64)[None]
    inside = torch.tensor([[0.0]])
    assert_allclose(likelihood.information(inside, eta, J)[0].numpy(), expected, atol=2e-4)
    assert_array_equal(likelihood.information(inside * np.nan, eta, J), 0.0)


@pytest.mark.parametrize("name", ONE)
def test_a_missing_entry_is_one_factor_fewer(name):
    likelihood, x, _, outputs, constants = one(name)
    eta = Eta(torch.zeros(3, 1, len(outputs), dtype=torch.float64) + outputs, constants)
    assert_array_equal(likelihood.log_prob(torch.full((5, 1), torch.nan), eta), np.zeros((3, 5)))
    complete = likelihood.of_complete_rows()
    assert_array_equal(complete.log_prob(x[:5], eta), likelihood.log_prob(x[:5], eta))


def test_columns_are_those_of_scipy():
    x = torch.tensor([[0.0], [1.0], [7.0], [60.0]], dtype=torch.float64)
    raw, m = torch.tensor([-0.4], dtype=torch.float64), np.exp(1.1)

    def log_p(word, outputs, constants=raw[:0]):
        eta = Eta(torch.tensor(outputs, dtype=torch.float64), constants)
        return named_likelihood(word, "network", 0.1).log_prob(x, eta).numpy()

    counts, a = x.numpy()[:, 0], 1e-4 + np.exp(-0.4)
    assert_allclose(log_p("poisson", [1.1]), stats.poisson(m).logpmf(counts))
    expected = stats.nbinom(1 / a, 1 / (1 + a * m)).logpmf(counts)
    assert_allclose(log_p("negative_binomial", [1.1], raw), expected)
    scale = np.sqrt(0.01 + np.exp(0.6))
    expected = stats.t(1 + np.exp(-0.4), 0.5, scale).logpdf(counts)
    assert_allclose(log_p("student_t", [0.5, 0.6], raw), expected)
    assert_allclose(log_p("gaussian", [0.5, 0.6]), stats.norm(0.5, scale).logpdf(counts))


def test_the_normaliser_is_smooth_at_one_half():
    u = np.array([1e-12, 1e-3, 0.04, 0.0499, 0.0501, 0.06, 1.0, 30.0])
    exact = np.log(np.sinh(u.astype(np.longdouble)) / u.astype(np.longdouble)).astype(float)
    for sign in (1, -1):
        assert_allclose(log_sinhc(torch.tensor(sign * u)).numpy(), exact, rtol=1e-11, atol=1e-15)
    at_half = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(log_sinhc(at_half), at_half)
    assert slope.item() == 0.0
    assert log_sinhc(torch.tensor([1e4])).item() == pytest.approx(1e4 - np.log(2e4))
    mean = np.array([1e-3, 0.2, 0.4999, 0.5, 0.9])
    eta = Eta(torch.tensor(natural_of_mean(mean)), torch.empty(0))
    assert_allclose(named_likelihood("continuous_bernoulli", "column", 0.1).mean(eta), mean)


# --- a mixed table ------------------------------------------------------------------------------

NAMES = ["size", "count", "flag", "colour", "price", "share", "wild", "visits"]
MIXED = [
    ("gaussian", ["size"]),
    ("poisson", ["count"]),
    ("bernoulli", ["flag"]),
    ("categorical", ["colour"]),
    ("log_normal", ["price"]),
    ("continuous_bernoulli", ["share"]),
    ("student_t", ["wild"]),
    ("negative_binomial", ["visits"]),
]
COUNTING = ["count", "flag", "colour", "visits"]


def table(n=300, holes=0.0, seed=0):
    """Eight kinds of columns that one latent moves."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal(n)
    X = pd.DataFrame(
        {
            "size": 10 + 3 * z + rng.standard_normal(n),
            "count": rng.poisson(np.exp(1 + 0.6 * z)),
            "flag": rng.uniform(size=n) < 1 / (1 + np.exp(-2 * z)),
            "colour": np.digitize(z + 0.5 * rng.standard_normal(n), [-0.5, 0.5]),
            "price": np.exp(5 + z + 0.3 * rng.standard_normal(n)),
            "share": rng.beta(np.exp(0.5 * z), np.exp(-0.5 * z)),
            "wild": -z + 0.3 * rng.standard_t(3, n),
            "visits": rng.negative_binomial(2, 1 / (1 + np.exp(z))),
        }
    ).astype(float)
    return X.mask(rng.uniform(size=X.shape) < holes)


@pytest.fixture(scope="module")
def mixed():
    """A fit to a table with gaps."""
    settings = {"hidden_layer_sizes": (16,), "max_iter": 20, "random_state": 0}
    return VAE(1, likelihood=MIXED, **settings).fit(table(holes=0.1))


def log_joint(vae, X, reach=9.0):
    """log p(x_seen, z) at the nodes of a grid, their weights in it; and the nodes."""
    state, x = vae.state_, np.asarray(X, dtype=float)
    Z, step = np.linspace(-reach, reach, 301, retstep=True)
    model = state.model()
    rows = torch.tensor((state.likelihood.to_line(x) - state.location) / state.scale)
    log_p = state.likelihood.log_prob(rows[:, None], model.decoder(torch.tensor(Z)[:, None]))
    log_p = log_p.numpy() + stats.norm.logpdf(Z) + np.log(step)
    slope = np.nansum(state.likelihood.log_slope(x), axis=1)
    return log_p - (slope + ~np.isnan(x) @ np.log(state.scale))[:, None], Z[:, None]


def test_scores_of_a_mixed_table_are_the_integral_over_the_latent(mixed):
    X = table(60, holes=0.3, seed=1)
    X.iloc[3] = np.nan
    exact = logsumexp(log_joint(mixed, X)[0], axis=1)
    assert exact[3] == pytest.approx(0.0, abs=1e-12) and mixed.score_samples(X)[3] == 0.0
    assert_allclose(mixed.score_samples(X), exact, atol=0.02)
    assert [m == "counting" for m in mixed.base_measure_] == [n in COUNTING for n in NAMES]


SUPPORT = {
    "size": np.linspace(-20, 40, 801),
    "count": np.arange(200.0),
    "flag": np.arange(2.0),
    "colour": np.arange(4.0),  # 3 stands for all that fit never saw
    "price": np.exp(np.linspace(-4, 14, 801)),
    "share": np.linspace(0, 1, 1001),
    "wild": np.sinh(np.linspace(-12, 12, 2001)),
    "visits": np.arange(600.0),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_gap_is_summed_or_integrated_out(mixed, name):
    x = table(1, seed=5)
    values = SUPPORT[name]
    filled = pd.concat([x] * len(values), ignore_index=True)
    filled[name] = values
    log_weight = 0.0 if name in COUNTING else np.log(np.gradient(values))
    if name == "share":
        log_weight[[0, -1]] -= np.log(2)
    expected = logsumexp(logsumexp(log_joint(mixed, filled)[0], axis=1) + log_weight)
    gone = x.assign(**{name: np.nan})
    assert logsumexp(log_joint(mixed, gone)[0]) == pytest.approx(expected, abs=1e-4)
    assert mixed.score_samples(gone)[0] == pytest.approx(expected, abs=0.02)
    part = mixed.marginal([n for n in NAMES[::-1] if n != name])
    assert part.score_samples(gone[NAMES[::-1]].drop(columns=name))[0] == pytest.approx(
        mixed.score_samples(gone)[0], abs=1e-9
    )


def test_imputation_of_a_mixed_table(mixed):
    """Means are those of p(x_missing | x_seen) by quadrature; draws and modes have the supports."""
    X = table(12, holes=0.3, seed=2)
    logs, Z = log_joint(mixed, X)
    share = np.exp(logs - logsumexp(logs, axis=1, keepdims=True))
    filled, holes = mixed.impute(X), X.isna().to_numpy()
    expected = share @ mixed.inverse_transform(Z)
    spread = np.nanstd(table(), axis=0)
    assert np.abs((filled - expected) / spread)[holes].max() < 0.03
    assert_array_equal(filled[~holes], X.to_numpy()[~holes])
    mode = mixed.impute(X, how="mode")
    draws = mixed.impute(X, how="sample", n_draws=400, random_state=0)
    for name, j in zip(NAMES, range(8)):
        for values in (mode[holes[:, j], j], draws[:, holes[:, j], j]):
            if name in COUNTING:
                assert_array_equal(values, np.floor(values))
            low, high = {"flag": (0, 1), "share": (0, 1), "colour": (0, 3)}.get(name, (0, np.inf))
            assert name in {"size", "wild"} or ((values >= low) & (values <= high)).all()
    gap = (draws.mean(axis=0) - expected) / spread
    assert np.abs(gap[holes]).max() < 0.25
    Y = LatentImputer(clone(mixed).set_params(max_iter=2)).fit_transform(table(60, holes=0.2))
    assert np.isfinite(np.asarray(Y)).all()


def test_samples_of_a_mixed_table_have_its_density(mixed):
    X, _ = mixed.sample(4000, random_state=0)
    X = pd.DataFrame(X, columns=NAMES)
    bits = mixed.marginal(["flag", "colour"])
    cells = np.array([[f, c] for f in (0, 1) for c in range(4)], dtype=float)
    p = np.exp(logsumexp(log_joint(bits, cells)[0], axis=1))
    assert p.sum() == pytest.approx(1.0, abs=1e-6)
    seen = [((X["flag"] == f) & (X["colour"] == c)).mean() for f, c in cells]
    assert_allclose(seen, p, atol=5 * 0.5 / np.sqrt(4000))
    mean = mixed.inverse_transform(np.zeros((1, 1)))
    assert np.isfinite(mean).all()
    assert np.isfinite(mixed.score_samples(X[:100])).all()


def independent(n_rows):
    """Columns that know nothing of each other: the same families, one component."""
    names = [pair for pair in MIXED if pair[0] not in {"log_normal", "continuous_bernoulli"}]
    return names, [name for _, (name,) in names]


def test_a_mixed_vae_beats_independent_columns_from_its_start_on():
    pairs, names = independent(300)
    X, test = table()[names], table(300, seed=9)[names]
    alone = Mixture(1, emission=pairs, random_state=0).fit(X).score(test)
    fixed = {"learning_rate_init": 1e-30, "max_iter": 1}
    start = VAE(1, likelihood=pairs, random_state=0, **fixed).fit(X)
    trained = VAE(1, likelihood=pairs, random_state=0, max_iter=40).fit(X)
    assert start.score(test) > alone + 0.5
    assert trained.score(test) > max(start.score(test) - 0.02, alone + 0.8)


KIND = {
    "gaussian": lambda rng, z: z + 0.5 * rng.standard_normal(z.shape),
    "student_t": lambda rng, z: z + 0.3 * rng.standard_t(3, z.shape),
    "log_normal": lambda rng, z: np.exp(z + 0.5 * rng.standard_normal(z.shape)),
    "bernoulli": lambda rng, z: (rng.uniform(size=z.shape) < 1 / (1 + np.exp(-3 * z))) * 1.0,
    "categorical": lambda rng, z: np.digitize(z + 0.4 * rng.standard_normal(z.shape), [-0.7, 0.7]),
    "poisson": lambda rng, z: rng.poisson(np.exp(1 + 0.8 * z)),
    "negative_binomial": lambda rng, z: rng.negative_binomial(3, 1 / (1 + np.exp(z))),
    "continuous_bernoulli": lambda rng, z: rng.beta(2 * np.exp(2 * z), 2 * np.exp(-2 * z)),
}


@pytest.mark.parametrize("word", LIKELIHOODS)
def test_the_start_knows_that_columns_go_together(word):
    """Against the start of the same columns, each shuffled for itself; with gaps too."""
    rng = np.random.default_rng(0)
    X, test = (KIND[word](rng, np.tile(rng.standard_normal((300, 1)), 4)) * 1.0 for _ in range(2))
    X[rng.uniform(size=X.shape) < 0.1] = np.nan
    fixed = {"learning_rate_init": 1e-30, "max_iter": 1, "n_importance_samples": 64}
    vae = VAE(1, likelihood=word, random_state=0, **fixed)
    start = vae.fit(X).score(test)
    assert start > vae.fit(rng.permuted(X, axis=0)).score(test) + 0.15


# --- units, weights, reductions -----------------------------------------------------------------


def same_fit(a, b):
    for name, values in a.parameters_.items():
        assert_array_equal(values, b.parameters_[name], err_msg=name)


def test_units_change_scores_by_the_jacobian_and_nothing_else():
    X, scale = table(80, holes=0.1), pd.Series(1.0, NAMES)
    scale["size"], scale["price"], scale["wild"] = 1e-6, 70.0, 3.3
    shift = pd.Series(0.0, NAMES)
    shift["size"], shift["wild"] = -4.0, 0.1
    Y = X * scale + shift
    vae, other = (VAE(1, likelihood=MIXED, **QUICK).fit(rows) for rows in (X, Y))
    same_fit(vae, other)
    jacobian = X.notna().to_numpy() @ np.log(scale.to_numpy())
    assert_allclose(other.score_samples(Y), vae.score_samples(X) - jacobian, atol=1e-6)
    assert np.ptp(vae.history_ - other.history_) < 1e-9
    filled = vae.impute(X) * scale.to_numpy() + shift.to_numpy()
    assert_allclose(other.impute(Y), filled, rtol=1e-6, atol=1e-9)
    kinds = dict(zip(NAMES, zip(vae.location_, vae.scale_)))
    assert all(kinds[name] == (0.0, 1.0) for name in [*COUNTING, "share"])


def test_a_weight_is_a_repeated_row_to_the_bit():
    X = table(70, holes=0.1)
    weight = np.random.default_rng(0).integers(0, 4, 70)
    weighted = VAE(1, likelihood=MIXED, **QUICK).fit(X, sample_weight=weight)
    repeated = X.loc[np.repeat(np.arange(70), weight)].sample(frac=1, random_state=0)
    other = VAE(1, likelihood=MIXED, **QUICK).fit(repeated)
    same_fit(weighted, other)
    assert_array_equal(weighted.score_samples(X), other.score_samples(X))


@pytest.mark.parametrize("holes", [0.0, 0.2])
def test_log_normal_columns_are_gaussian_columns_of_logarithms(holes):
    X = np.exp(table(90, holes, seed=3)[["size", "wild"]].to_numpy() / 3)
    vae = VAE(1, likelihood="log_normal", **QUICK).fit(X)
    plain = VAE(1, **QUICK).fit(np.log(X))
    same_fit(vae, plain)
    expected = plain.score_samples(np.log(X)) - np.nansum(np.log(X), axis=1)
    assert_allclose(vae.score_samples(X), expected, atol=1e-9)
    assert_allclose(vae.sample(9, 0)[0], np.exp(plain.sample(9, 0)[0]))


def test_two_categories_are_one_bit():
    X = np.column_stack([table(90, 0.1)[["flag"]], table(90, 0.1, seed=4)[["flag"]]])
    bits = VAE(1, likelihood="bernoulli", **QUICK).fit(X)
    codes = VAE(1, likelihood=Categorical(n_categories=2), **QUICK).fit(X)
    assert_allclose(codes.score_samples(X), bits.score_samples(X), atol=1e-4)
    assert codes.n_parameters_ == bits.n_parameters_
    assert_allclose(codes.inverse_transform([[0.3]]), bits.inverse_transform([[0.3]]), atol=1e-4)


def test_one_group_is_the_plain_word_whatever_the_order_of_the_pairs():
    X = table(80, 0.1)[["size", "wild", "price"]].to_numpy()
    plain = VAE(2, **QUICK).fit(X)
    listed = VAE(2, likelihood=[("gaussian", [2, 0, 1])], **QUICK).fit(X)
    same_fit(plain, listed)
    assert_array_equal(plain.score_samples(X), listed.score_samples(X))
    pairs = [("student_t", [1]), ("gaussian", [0, 2])]
    a, b = (VAE(2, likelihood=p, **QUICK).fit(X) for p in (pairs, pairs[::-1]))
    assert_allclose(a.history_[0], b.history_[0], atol=1e-6)


def test_heavy_tails_cost_a_student_t_less():
    X, test = table(400)[["wild", "size"]], table(400, seed=8)[["wild", "size"]]
    X.iloc[0, 0] = 500.0
    settings = {"max_iter": 40, "random_state": 0}
    vae = VAE(1, likelihood=[("student_t", ["wild"]), ("gaussian", ["size"])], **settings).fit(X)
    plain = VAE(1, **settings).fit(X)
    assert vae.score(test) > plain.score(test) + 1.0
    assert vae.scale_[0] < 2 < plain.scale_[0]  # quartiles, not the standard deviation
    fixed = VAE(1, likelihood=StudentT(df=4), **QUICK).fit(X)
    assert (
        fixed.likelihood_ == StudentT(df=4)
        and fixed.n_parameters_ < 2 + VAE(1, likelihood="student_t", **QUICK).fit(X).n_parameters_
    )


# --- words, dtypes, categories ------------------------------------------------------------------


def people(n=120, seed=0):
    """A DataFrame with its own opinion of its columns."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 3, n)
    return pd.DataFrame(
        {
            "height": 160 + 10 * kind + rng.standard_normal(n),
            "colour": pd.Categorical(np.array(["red", "green", "blue"])[kind]),
            "smokes": kind > rng.integers(0, 3, n),
            "visits": rng.poisson(1 + kind),
        }
    )


def test_auto_reads_the_dtypes_of_a_table():
    X = people()
    X.loc[4, "colour"] = np.nan
    vae = VAE(2, **QUICK).fit(X)
    chosen = [("gaussian", [0, 3]), ("categorical", [1]), ("bernoulli", [2])]
    assert vae.likelihood == "auto" and vae.likelihood_ == chosen
    assert list(vae.base_measure_) == ["lebesgue", "counting", "counting", "lebesgue"]
    assert [c if c is None else list(c) for c in vae.categories_] == [
        None,
        ["blue", "green", "red"],
        None,
        None,
    ]
    codes = X.assign(colour=X["colour"].cat.codes.where(X["colour"].notna()))
    other = VAE(2, likelihood=vae.likelihood_, **QUICK).fit(codes.astype(float).to_numpy())
    same_fit(vae, other)
    assert_array_equal(vae.score_samples(X), other.score_samples(codes.astype(float).to_numpy()))
    assert VAE(2, **QUICK).fit(codes.astype(float)).likelihood_ == "gaussian"


def test_categories_are_told_apart_by_name_not_by_place():
    X = people()
    vae = VAE(2, **QUICK).fit(X)
    order = X.assign(colour=X["colour"].cat.set_categories(["red", "blue", "green", "pink"]))
    assert_array_equal(vae.score_samples(order), vae.score_samples(X))
    order.loc[:, "colour"] = "pink"
    pink = vae.score_samples(order)
    assert np.isfinite(pink).all()
    gone = vae.score_samples(order.assign(colour=pd.Categorical([np.nan] * len(X))))
    reserve = 1 / ((3 + 1) * (len(X) + 1))  # one row, of four categories that share it
    assert_allclose(pink - gone, np.log(reserve), atol=1e-9)
    part = vae.marginal(["colour", "height"])
    assert list(part.categories_[0]) == ["blue", "green", "red"]
    assert part.likelihood_ == [("gaussian", [1]), ("categorical", [0])]
    hidden = X.assign(smokes=np.nan, visits=np.nan)
    assert_allclose(part.score_samples(X[["colour", "height"]]), vae.score_samples(hidden))
    filled = vae.impute(X.assign(colour=pd.Categorical([np.nan] * len(X))), how="mode")
    assert set(np.unique(filled[:, 1])) <= {0.0, 1.0, 2.0}
    assert (filled[:, 1] == X["colour"].cat.codes).mean() > 0.6


def test_codes_may_be_more_than_one_kind_of_size():
    """Columns of different numbers of categories, and gaps, sum to one with what was not seen."""
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.integers(0, c, 150) for c in (3, 2, 5, 3)]).astype(float)
    X[:, 3] = np.where(rng.uniform(size=150) < 0.8, X[:, 0], X[:, 3])
    X[rng.uniform(size=X.shape) < 0.1] = np.nan
    vae = VAE(1, likelihood="categorical", hidden_layer_sizes=(8,), max_iter=30, random_state=0)
    vae.fit(X)
    cells = np.stack(np.meshgrid(*[np.arange(c + 1.0) for c in (3, 2, 5, 3)]), -1).reshape(-1, 4)
    assert np.exp(vae.score_samples(cells)).sum() == pytest.approx(1.0, abs=0.01)
    assert np.exp(logsumexp(log_joint(vae, cells)[0])) == pytest.approx(1.0, abs=1e-9)
    same = np.array([[np.nan, 0, 0, c] for c in range(3)])
    plane = clone(vae).set_params(n_components=2, max_iter=10).fit(X)  # three points in no order
    assert_array_equal(plane.impute(same, how="mode")[:, 0], [0, 1, 2])
    params = {k: getattr(vae, f"{k}_") for k in ("parameters", "location", "scale", "points")}
    again = VAE.from_parameters(**params, likelihood=vae.state_.likelihood)
    assert_array_equal(again.score_samples(cells), vae.score_samples(cells))


@pytest.mark.parametrize(
    ("word", "wrong", "needs"),
    [
        ("bernoulli", 0.5, "0, 1"),
        ("poisson", -1.0, "counts 0, 1, 2, ..."),
        ("negative_binomial", 1.5, "counts 0, 1, 2, ..."),
        ("categorical", 0.5, "codes 0, 1, 2, ..."),
        (Categorical(n_categories=3), 3.0, "codes 0 to 2"),
        ("continuous_bernoulli", 1.1, "numbers from 0 to 1"),
        ("log_normal", 0.0, "numbers above 0"),
    ],
    ids=str,
)
def test_an_entry_outside_the_support_is_refused(word, wrong, needs):
    rng = np.random.default_rng(0)
    good = rng.integers(0, 2, (40, 2)).astype(float)
    if word == "log_normal":
        good += 0.5
    X = np.column_stack([rng.standard_normal(40), good])
    pairs = [("gaussian", [0]), (word, [1, 2])]
    vae = VAE(1, likelihood=pairs, **QUICK).fit(X)
    bad = X.copy()
    bad[7, 2] = wrong
    name = word if isinstance(word, str) else "categorical"
    message = rf"likelihood='{name}' takes {needs} and NaN, got {wrong:g} \(columns \[1, 2\]\)"
    for refused in (vae.score_samples, clone(vae).fit):
        with pytest.raises(ValueError, match=message):
            refused(bad)


@pytest.mark.parametrize("variance", ["network", "column", "shared"])
@pytest.mark.parametrize("word", LIKELIHOODS)
def test_every_likelihood_fits_alone_with_every_variance(word, variance):
    """Ends in finite numbers, and what fits a group in a list fits alone."""
    X = 1.0 + (table(60, 0.1)[["flag", "flag"]].to_numpy())
    X = X - 1.0 * (word != "log_normal")
    X[:, 1] = X[::-1, 1]
    vae = VAE(1, likelihood=word, decoder_variance=variance, **QUICK).fit(X)
    assert np.isfinite(vae.score_samples(X)).all() and np.isfinite(vae.history_).all()
    assert vae.marginal([1]).likelihood_ == word
    assert np.isfinite(vae.inverse_transform([[0.5]])).all()


# --- scikit-learn -------------------------------------------------------------------------------


class SupportedVAE(VAE):
    """The checks feed real numbers: each entry goes where its column's likelihood has a density."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = False
        return tags

    def _in_support(self, X, density, constant):
        unit = 1 / (1 + np.exp(-np.asarray(X, dtype=np.float64) / 10))
        last = np.arange(X.shape[1]) == X.shape[1] - 1
        return np.where(last, unit, unit + 0.5).astype(X.dtype)


CHECKED = {
    "poisson": VAE(1, likelihood="poisson", hidden_layer_sizes=(8,), **QUICK),
    "categorical": VAE(1, likelihood="categorical", hidden_layer_sizes=(8,), **QUICK),
    "unit": SupportedVAE(
        1,
        likelihood=[("log_normal", slice(0, -1)), ("continuous_bernoulli", slice(-1, None))],
        hidden_layer_sizes=(8,),
        **QUICK,
    ),
}


# scikit-learn's one check that heeds no tags draws its rows from [0, 1].
NO_TAGS = {"check_sample_weight_equivalence_on_dense_data"}


@pytest.mark.filterwarnings("ignore")  # the checks fit constant columns, too few iterations, ...
@pytest.mark.parametrize("name", CHECKED)
def test_every_check_that_heeds_the_tags_passes(name):
    results = check_estimator(CHECKED[name], on_skip=None, on_fail=None)
    wrong = [(r["check_name"], r["exception"]) for r in results if r["status"] != "passed"]
    heeding = [pair for pair in wrong if name == "unit" or pair[0] not in NO_TAGS]
    assert heeding == [] and len(results) >= 50
