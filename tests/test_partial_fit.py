"""Streams: `partial_fit` tends to what `fit` finds, counts weights, and remembers what it must."""

import pickle
import tracemalloc
import warnings

import numpy as np
import pytest
from sklearn.base import clone

from sklvm import GaussianMixture, Mixture, VariationalGMM
from sklvm.emissions.family import STRUCTURES, CovarianceFamily
from sklvm.inference.moments import pooled_moments
from sklvm.inference.stream import Pooled, Stream, enough

from ._models import can, make, rows, state_equal, sweep

STREAMS = can("partial_fit")
RNG = np.random.default_rng


def groups(n, seed=0, d=3):
    """Rows of three well-known Gaussians, and their weights and means."""
    rng = RNG(seed)
    weights, means = np.array([0.5, 0.3, 0.2]), 6.0 * np.eye(3)[:, :d]
    L = RNG(7).normal(size=(3, d, d)) / 2 + np.eye(d)
    z = rng.choice(3, size=n, p=weights)
    return means[z] + np.einsum("nij,nj->ni", L[z], rng.standard_normal((n, d))), weights, means


def stream(model, X, size, weight=None):
    for start in range(0, len(X), size):
        part = slice(start, start + size)
        model.partial_fit(X[part], sample_weight=None if weight is None else weight[part])
    return model


def nearest(found, wanted):
    """The rows of `found` in the order of those of `wanted`."""
    return found[((found[None] - wanted[:, None]) ** 2).sum(axis=2).argmin(axis=1)]


# --- where it tends to ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [
        GaussianMixture(3, random_state=0),
        GaussianMixture(3, covariance_type="tied", random_state=0),
        GaussianMixture(3, covariance_type="diag", random_state=0),
        Mixture(3, emission="student_t", random_state=0),
        VariationalGMM(3, random_state=0),
    ],
    ids=lambda model: f"{type(model).__name__}-{getattr(model, 'covariance_type', '')}",
)
def test_epochs_over_shuffled_batches_tend_to_the_batch_optimum(model):
    X, _, _ = groups(4000)
    X[RNG(1).uniform(size=X.shape) < 0.05] = np.nan
    X = X[~np.isnan(X).all(axis=1)]
    best, model = clone(model).fit(X).score(X), clone(model)
    gaps = []
    for epoch in range(6):
        stream(model, X[RNG(epoch).permutation(len(X))], 200)
        gaps.append(best - model.score(X))
    assert gaps[-1] < 5e-4  # nats per row
    assert gaps[-1] < gaps[0]
    assert model.n_samples_seen_ == 6 * len(X)


def test_one_pass_over_a_long_stream_recovers_the_parameters():
    X, weights, means = groups(100_000)
    model = stream(GaussianMixture(3, random_state=0), X, 1000)
    np.testing.assert_allclose(nearest(model.means_, means), means, atol=0.05)
    best = GaussianMixture(3, random_state=0).fit(X)
    assert best.score(X) - model.score(X) < 2e-4
    np.testing.assert_allclose(np.sort(model.weights_), np.sort(weights), atol=0.01)


def test_the_average_over_the_tail_is_quieter_than_the_last_step():
    """What is reported lies nearer to the optimum than the state that the E-steps use."""
    X, _, _ = groups(20_000)
    best = GaussianMixture(3, random_state=0).fit(X)
    model = stream(GaussianMixture(3, random_state=0), X, 200)
    last = np.mean(model._stream.state.log_prob(X))
    assert best.score(X) - model.score(X) < 0.5 * (best.score(X) - last)


def test_it_follows_a_drift():
    X, _, _ = groups(30_000)
    shift = np.linspace(0, 10, len(X))[:, None]
    model = stream(GaussianMixture(3, random_state=0), X + shift, 500)
    late = X[-5000:] + shift[-5000:]
    whole = GaussianMixture(3, random_state=0).fit(X + shift)
    assert model.score(late) > whole.score(late) + 0.3


def test_a_step_is_the_stepwise_equation():
    """s <- (1 - g) s + g s_batch, from the state that s implies; the first batch gets its share."""
    X, _, _ = groups(1200)
    model = GaussianMixture(3, random_state=0).partial_fit(X[:300])
    start, s = model.state_, model.run_.stats * (1 / 300)
    for t in range(3):
        batch = X[300 * (t + 1) : 300 * (t + 2)]
        model.partial_fit(batch)
        s_batch = start.e_step(batch, np.ones(300))[0] * (1 / 300)
        g = (0.5 ** (-1 / 0.6) + t) ** -0.6
        s = s * (1 - g) + s_batch * g
        pooled = CovarianceFamily(
            STRUCTURES["full"],
            "auto",
            0.0,
            *pooled_moments(X[: 300 * (t + 2)], np.ones(300 * (t + 2))),
            300.0 * (t + 2),
        )
        start = model._broad(pooled, np.zeros(3, bool)).m_step(s * (300 * (t + 2)))
        np.testing.assert_allclose(model._stream.state.emission.means, start.emission.means)
        np.testing.assert_allclose(model._stream.state.emission.cov.S, start.emission.cov.S)
        np.testing.assert_allclose(model._stream.state.weights.mean, start.weights.mean)


def test_after_a_fit_the_first_batch_gets_no_more_than_its_share():
    """Fit on many rows, then one small batch: the model barely moves, and knows of all rows."""
    X, _, _ = groups(10_040)
    model = GaussianMixture(3, random_state=0).fit(X[:10_000])
    before = model.means_.copy()
    model.partial_fit(X[10_000:])
    assert model._stream.steps == 0  # 40 rows wait for company
    model.partial_fit(X[10_000:])
    assert model._stream.begin == pytest.approx((10_080 / 80) ** (1 / 0.6) - 2)
    assert model.n_samples_seen_ == 10_080
    assert np.abs(model.means_ - before).max() < 0.02
    assert model.n_iter_ == 1


def test_a_model_from_parameters_is_where_a_stream_may_start():
    X, weights, means = groups(3000)
    model = GaussianMixture.from_parameters(
        weights=[1 / 3] * 3, means=means[[2, 0, 1]] + 0.5, covariances=np.tile(np.eye(3), (3, 1, 1))
    )
    before = model.means_.copy()
    model.partial_fit(X[:20])
    np.testing.assert_array_equal(model.means_, before)
    assert model.n_samples_seen_ == 20
    stream(model, X[20:], 200)
    np.testing.assert_allclose(model.means_, means[[2, 0, 1]], atol=0.3)  # and their order
    assert model.n_samples_seen_ == 3000


# --- the first rows ---------------------------------------------------------------------------


@sweep(STREAMS)
def test_a_model_is_usable_from_the_first_batch_on(name):
    X, model = rows(3, holes=True, n=60), make(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for start in range(0, 60, 12):
            model.partial_fit(X[start : start + 12])
            assert np.isfinite(model.score_samples(X)).all()
            assert model.n_samples_seen_ == start + 12
            assert not model.converged_
            assert len(model.history_) == model.n_iter_ + 1


def test_first_rows_are_gathered_whatever_the_size_of_the_batches():
    X, _, _ = groups(60)
    whole = GaussianMixture(3, random_state=0).partial_fit(X)
    parts = stream(GaussianMixture(3, random_state=0), X, 6)
    assert parts.score(X) == pytest.approx(whole.score(X), abs=1e-9)
    assert whole.n_samples_seen_ == parts.n_samples_seen_ == 60
    assert parts._gathered is None  # 20 rows per component are enough
    assert enough(60, 60, 3, 3)
    assert not enough(59, 59, 3, 3)
    assert enough(1.0, 60, 3, 3)  # rows of little weight are not kept for ever


def test_gathering_does_not_fit_again_for_every_row(monkeypatch):
    X, _, _ = groups(300)
    fits, climb = [], GaussianMixture._climb
    monkeypatch.setattr(
        GaussianMixture,
        "_climb",
        lambda self, data, *rest: fits.append(len(data.X)) or climb(self, data, *rest),
    )
    stream(GaussianMixture(10, n_init=1, random_state=0).partial_fit(X[:20]), X[20:], 1)
    assert fits[0] == 20
    assert fits[-1] == 200
    assert len(fits) < 13


def test_gathering_keeps_the_names_of_the_components():
    """Each fit of the first rows finds its own order; the names follow the rows."""
    X, _, _ = groups(59)
    for seed in range(5):
        model = GaussianMixture(3, random_state=seed, covariance_type="spherical")
        model.partial_fit(X[:30])
        before = model.predict(X[:30])
        model.set_params(random_state=seed + 100).partial_fit(X[30:])
        assert (model.predict(X[:30]) == before).mean() > 0.9


def test_the_stream_never_reorders_components():
    X, _, means = groups(3000)
    model = GaussianMixture(3, random_state=3).partial_fit(X[:300])
    before = model.means_.copy()
    small = X[((X - means[model.predict(X)[:1]]) ** 2).sum(axis=1) < 4]  # one group grows
    stream(model, np.concatenate([X[300:], small]), 200)
    assert np.abs(model.means_ - before).max() < 1.5


# --- weights, order, missing entries ----------------------------------------------------------


@sweep(STREAMS)
def test_weights_are_repeated_rows_within_a_batch(name):
    X, rng = rows(2, holes=True, n=200), RNG(0)
    weight = rng.integers(0, 4, 200).astype(float)
    weighted, repeated = make(name), make(name)
    for part in (slice(0, 80), slice(80, 130), slice(130, 200)):
        weighted.partial_fit(X[part], sample_weight=weight[part])
        repeated.partial_fit(np.repeat(X[part], weight[part].astype(int), axis=0))
    np.testing.assert_allclose(weighted.score_samples(X), repeated.score_samples(X), atol=1e-7)
    seen = weight[~np.isnan(X).all(axis=1)].sum()  # a row without entries says nothing
    assert weighted.n_samples_seen_ == repeated.n_samples_seen_ == seen


@sweep(STREAMS)
def test_the_order_within_a_batch_does_not_matter(name):
    X = rows(2, holes=True, n=200)
    straight, shuffled = make(name), make(name)
    for part in (slice(0, 100), slice(100, 200)):
        straight.partial_fit(X[part])
        shuffled.partial_fit(RNG(0).permutation(X[part]))
    np.testing.assert_allclose(straight.score_samples(X), shuffled.score_samples(X), atol=1e-7)


def test_batches_that_wait_are_one_batch():
    X, _, _ = groups(1000)
    model, whole = (GaussianMixture(3, random_state=0).partial_fit(X[:400]) for _ in range(2))
    stream(model, X[400:460], 7)
    whole.partial_fit(X[400:460])
    assert model.n_iter_ == whole.n_iter_ == 1
    np.testing.assert_allclose(model.means_, whole.means_, rtol=1e-9)
    np.testing.assert_allclose(model.history_, whole.history_, rtol=1e-9)


def test_rows_that_say_nothing_change_nothing():
    X, _, _ = groups(400)
    model = GaussianMixture(3, random_state=0).partial_fit(X[:300])
    before = vars(model).copy()
    model.partial_fit(np.full((5, 3), np.nan))
    assert vars(model) == before
    padded = pickle.loads(pickle.dumps(model)).partial_fit(
        np.concatenate([X[300:], np.full((5, 3), np.nan), X[:9]]),
        sample_weight=np.r_[np.ones(105), np.zeros(9)],
    )
    model.partial_fit(X[300:])
    np.testing.assert_allclose(padded.means_, model.means_, rtol=1e-12)


@pytest.mark.parametrize("holes", [0.0, 0.2])
def test_the_pooled_moments_of_batches_are_those_of_all_rows(holes):
    X, _, _ = groups(2000)
    X[RNG(0).uniform(size=X.shape) < holes] = np.nan
    X, weight = X[~np.isnan(X).all(axis=1)], 1.0
    family = [
        CovarianceFamily(
            STRUCTURES["full"], 0.0, 0.0, *pooled_moments(X[:500], np.ones(500)), 500.0
        )
    ]
    pooled = Pooled.of(family[0])
    for part in np.array_split(X[500:], 5):
        pooled = pooled.add(part, np.full(len(part), weight))
    mean, S = pooled.mean_and_spread()
    wanted = pooled_moments(X, np.ones(len(X)))
    assert pooled.weight == len(X)
    np.testing.assert_allclose(mean, wanted[0], atol=1e-9 if not holes else 0.05)
    np.testing.assert_allclose(
        S, wanted[1], rtol=1e-9 if not holes else 0.05, atol=0.05 * bool(holes)
    )


# --- what it refuses, and what it leaves as it was --------------------------------------------


@sweep(STREAMS)
def test_rows_of_another_width_or_other_names_are_refused(name):
    pandas = pytest.importorskip("pandas")
    X = pandas.DataFrame(rows(3, n=60), columns=["a", "b", "c"])
    model = make(name).partial_fit(X)
    before = vars(model).copy()
    for columns in (["a", "b"], ["b", "a", "c"]):
        with pytest.raises(ValueError, match="feature names"):
            model.partial_fit(X[columns])
    assert vars(model) == before
    with pytest.raises(ValueError, match="expecting 3 features"):
        make(name).partial_fit(X.to_numpy()).partial_fit(X.to_numpy()[:, :2])


def test_a_column_that_starts_to_vary_is_refused_unless_the_first_rows_are_still_kept():
    X, _, _ = groups(400)
    flat = X.copy()
    flat[:, 1] = 3.0
    model = GaussianMixture(3, random_state=0)
    with pytest.warns(UserWarning, match=r"columns \[1\] are constant"):
        model.partial_fit(flat[:40])
    model.partial_fit(X[40:80])  # too few so far: all 80 are fitted
    assert not model.constant_.any()
    with pytest.warns(UserWarning, match=r"columns \[1\] are constant"):
        model = GaussianMixture(3, random_state=0).partial_fit(flat[:200])
    model.partial_fit(flat[200:300])
    before = vars(model).copy()
    with pytest.raises(ValueError, match=r"columns \[1\] were constant in the first rows"):
        model.partial_fit(X[300:])
    assert vars(model) == before
    missing = flat[300:].copy()
    missing[:, 1] = np.nan
    assert model.partial_fit(missing).n_samples_seen_ == 400


def test_too_little_weight_in_the_first_batch_is_refused():
    model = GaussianMixture(3, random_state=0)
    with pytest.raises(ValueError, match="total weight 3 at least"):
        model.partial_fit(groups(2)[0])
    assert not hasattr(model, "n_features_in_")
    assert model.partial_fit(groups(2)[0], sample_weight=[2.0, 1.0]).n_samples_seen_ == 3


@pytest.mark.parametrize("change", [{"n_components": 2}, {"covariance_type": "diag"}])
def test_other_parameters_half_way_are_refused(change):
    X, _, _ = groups(400)
    model = GaussianMixture(3, random_state=0).partial_fit(X[:200])
    model.set_params(**change)
    with pytest.raises(ValueError, match=r"from 3 Gaussians of Full \(29 parameters\) as "):
        model.partial_fit(X[200:])


def test_a_component_that_collapses_says_what_to_do():
    model = GaussianMixture.from_parameters(
        weights=[0.5, 0.5], means=[[20.0], [1000.0]], covariances=[[[100.0]], [[100.0]]]
    ).set_params(covariance_prior=0.0)
    before = vars(model).copy()
    with pytest.raises(ValueError, match="covariance_prior='auto'"):
        model.partial_fit(np.r_[np.arange(40.0), np.full(40, 1000.0)][:, None])
    assert vars(model) == before


# --- beside fit -------------------------------------------------------------------------------


@sweep(STREAMS)
def test_pickling_half_way_changes_nothing(name):
    X = rows(2, holes=True, n=200)
    for cut in (30, 120, 150):  # while gathering, after the first step, with rows that wait
        model = stream(make(name), X[:cut], 30)
        other = pickle.loads(pickle.dumps(model))
        assert state_equal(vars(stream(model, X[cut:], 25)), vars(stream(other, X[cut:], 25)))


@sweep(STREAMS)
def test_fit_after_partial_fit_starts_afresh(name):
    X, model = rows(2, n=200), make(name)
    stream(model, X + 1.0, 50)
    if getattr(model, "warm_start", False):
        model.set_params(warm_start=False)
    fresh = clone(model).fit(X)
    model.fit(X)
    np.testing.assert_array_equal(model.score_samples(X), fresh.score_samples(X))
    assert model.n_samples_seen_ == 200
    assert model.n_iter_ == fresh.n_iter_
    again = stream(model, X, 50).score_samples(X)  # and nothing is left of the first stream
    np.testing.assert_array_equal(again, stream(fresh, X, 50).score_samples(X))


def test_fit_with_warm_start_goes_on_from_a_stream():
    X, _, means = groups(2000)
    model = stream(GaussianMixture(3, random_state=0, warm_start=True), X, 200)
    before = model.means_.copy()
    assert np.abs(model.fit(X).means_ - before).max() < 0.1
    assert model.n_iter_ < GaussianMixture(3, n_init=1, random_state=0).fit(X).n_iter_ + 5


def test_partial_fit_ignores_y_and_prints_when_asked(capsys):
    X, _, _ = groups(900)
    model = GaussianMixture(3, random_state=0, verbose=1, verbose_interval=2)
    for part in np.array_split(X, 9):
        model.partial_fit(part, np.zeros(len(part)))
    lines = [line for line in capsys.readouterr().out.splitlines() if "batch" in line]
    assert [line.split(":")[0] for line in lines] == [
        f"GaussianMixture batch {t}" for t in (2, 4, 6, 8)
    ]


def test_states_of_a_stream_are_values():
    X, _, _ = groups(900)
    model = stream(GaussianMixture(3, random_state=0), X, 100)
    assert isinstance(model._stream, Stream)
    with pytest.raises(ValueError, match="read-only"):
        model.state_.emission.means[0] = 0.0


# --- memory -----------------------------------------------------------------------------------


def peak(model, X):
    """Most bytes that a fit holds beyond X."""
    tracemalloc.start()
    model.fit(X)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


@pytest.mark.parametrize("kind", ["float64", "float32", "memmap", "holes", "ties"])
def test_a_fit_needs_24_bytes_per_row_in_its_start_and_ten_afterwards(kind, tmp_path):
    def data(n):
        X = RNG(0).normal(size=(n, 8))
        if kind == "float32":
            return X.astype(np.float32)
        if kind == "memmap":
            X.astype(np.float32).tofile(tmp_path / "x.bin")
            return np.memmap(tmp_path / "x.bin", np.float32, "r", shape=(n, 8))
        if kind == "holes":
            X[RNG(1).uniform(size=X.shape) < 0.01] = np.nan
        if kind == "ties":
            X[:, 0] = X[:, 0].round(2)
        return X

    few, many = data(20_000), data(120_000)
    model = GaussianMixture(2, n_init=1, max_iter=2, tol=1e9, random_state=0)
    GaussianMixture(2, n_init=1, random_state=0).fit(few)  # loads what is loaded on first use
    growth = (peak(clone(model), many) - peak(clone(model), few)) / 100_000
    assert growth < 26  # the weights, the order of the rows, one column; and a few flags
    model.set_params(warm_start=True).fit(few)
    assert (peak(model, many) - peak(model, few)) / 100_000 < 12  # the weights and flags


def test_single_precision_is_widened_exactly():
    X = groups(3000)[0].astype(np.float32)
    X[::50, 1] = np.nan
    single, double = (GaussianMixture(3, random_state=0).fit(rows) for rows in (X, X.astype(float)))
    np.testing.assert_array_equal(single.history_, double.history_)
    np.testing.assert_array_equal(single.covariances_, double.covariances_)
    assert single.means_.dtype == np.float64
