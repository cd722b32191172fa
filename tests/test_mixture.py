"""What is particular to the EM mixtures: labels, starts, order, warm starts, attributes."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import multivariate_normal, multivariate_t
from sklearn.exceptions import ConvergenceWarning

from sklvm import GaussianMixture, Mixture, StudentT
from sklvm.inference import em
from tests._models import rows

TYPES = pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])


def groups(K=3, n=40, d=2, gap=8.0, seed=0):
    """K separated groups of unequal size: rows and true groups; the last group is the largest."""
    rng = np.random.default_rng(seed)
    z = np.repeat(np.arange(K), n + 15 * np.arange(K))
    centres = gap * np.stack([np.cos(np.arange(K)), np.sin(2 * np.arange(K))], axis=1)[:, :d]
    return rng.normal(size=(len(z), d)) + centres[z], z


# --- labels -----------------------------------------------------------------------------------


@TYPES
def test_all_labels_known_is_the_closed_form(covariance_type):
    X, z = groups()
    z = (z + 1) % 3  # an order that is not canonical
    settings = {"covariance_type": covariance_type, "covariance_prior": 0.0}
    model = GaussianMixture(3, **settings).fit(X, labels=z)
    share = np.bincount(z) / len(z)
    assert_allclose(model.weights_, share, rtol=1e-12)
    assert_allclose(model.means_, [X[z == k].mean(axis=0) for k in range(3)], rtol=1e-10)
    S = np.array([np.cov(X[z == k].T, ddof=0) for k in range(3)])
    expected = {
        "full": S,
        "tied": np.einsum("k,kij->ij", share, S),
        "diag": np.array([np.diag(M) for M in S]),
        "spherical": np.array([np.diag(M).mean() for M in S]),
    }
    assert_allclose(model.covariances_, expected[covariance_type], rtol=1e-8)


def test_labelled_objective_counts_only_the_known_component():
    X, z = groups()
    model = GaussianMixture(3, covariance_prior=0.0).fit(X, labels=z)
    joint = [
        np.log(model.weights_[k]) + multivariate_normal(m, S).logpdf(X)
        for k, (m, S) in enumerate(zip(model.means_, model.covariances_))
    ]
    assert model.lower_bound_ == pytest.approx(np.mean(np.choose(z, joint)), rel=1e-10)


@pytest.mark.parametrize(
    "model", [GaussianMixture(3), Mixture(3, emission=StudentT(df=5))], ids=repr
)
def test_a_few_labels_name_the_components(model):
    X, z = groups()
    model.set_params(random_state=0)
    for names in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        wanted = np.asarray(names)[z]
        labels = np.where(np.arange(len(X)) % 10 == 0, wanted, -1)
        model.fit(X, labels=labels)
        assert (model.predict(X) == wanted).mean() > 0.99
        assert_allclose(model.weights_, np.bincount(wanted) / len(X), atol=0.01)


def test_labels_of_one_component_leave_the_others_free():
    X, z = groups()
    labels = np.where((z == 1) & (np.arange(len(z)) % 4 == 0), 2, -1)
    model = GaussianMixture(3, random_state=0).fit(X, labels=labels)
    predicted = model.predict(X)
    assert (predicted[z == 1] == 2).mean() > 0.99
    assert len(np.unique(predicted)) == 3


def test_labels_overrule_what_the_rows_say():
    X, z = groups(2)
    labels = np.full(len(X), -1)
    labels[0] = 1  # one row of the first group is said to be of the component of the second
    labels[-20:] = 1
    labels[1:20] = 0
    model = GaussianMixture(2, covariance_prior=0.0).fit(X, labels=labels)
    one = (z == 1) | (np.arange(len(z)) == 0)
    assert_allclose(model.means_[1], X[one].mean(axis=0), rtol=0.02)
    assert_allclose(model.covariances_[1], np.cov(X[one].T, ddof=0), rtol=0.05)


def test_labels_go_with_their_rows():
    X, z = groups()
    labels = np.where(np.arange(len(X)) % 3 == 0, z, -1)
    model = GaussianMixture(3, random_state=0).fit(X, labels=labels)
    wild = np.concatenate([np.full((1, 2), np.nan), 1e5 * X[:3], X])
    weight = np.r_[1, 0, 0, 0, np.ones(len(X))]
    other = GaussianMixture(3, random_state=0)
    other.fit(wild, sample_weight=weight, labels=np.r_[2, 0, 1, 2, labels])
    assert_array_equal(other.score_samples(X), model.score_samples(X))
    order = np.random.default_rng(0).permutation(len(X))
    shuffled = GaussianMixture(3, random_state=0).fit(X[order], labels=labels[order])
    assert_allclose(shuffled.means_, model.means_, rtol=1e-9)


# --- order ------------------------------------------------------------------------------------


@pytest.mark.parametrize("init_params", ["kmeans", "k-means++", "random", "random_from_data"])
def test_weights_descend_after_a_cold_fit(init_params):
    X, z = groups(gap=15.0)
    model = GaussianMixture(3, init_params=init_params, random_state=1).fit(X)
    assert (np.diff(model.weights_) <= 0).all()
    assert (model.predict(X) == 2 - z).mean() > 0.99


def test_equal_weights_are_ordered_by_means():
    rng = np.random.default_rng(0)
    half = rng.normal(size=(50, 2))
    X = np.concatenate([half + [0, 9], half + [9, 0]])  # the same rows twice, far apart
    for seed in range(4):
        model = GaussianMixture(2, random_state=seed).fit(X[:: (-1) ** seed])
        assert_allclose(model.weights_, 0.5, atol=1e-7)
        assert model.means_[0, 0] < model.means_[1, 0]


@pytest.mark.parametrize("named", ["means_init", "labels", "weights_init", "warm_start"])
def test_no_order_is_imposed_on_named_components(named):
    X, z = groups(gap=15.0)
    means = np.array([X[z == k].mean(axis=0) for k in range(3)])
    model = GaussianMixture(3, random_state=0)
    if named == "labels":
        model.fit(X, labels=np.where(np.arange(len(X)) % 2, z, -1))
    elif named == "warm_start":
        model.set_params(warm_start=True).fit(X, labels=z).fit(X)
    else:
        model.set_params(means_init=means)
        if named == "weights_init":
            model.set_params(weights_init=[0.2, 0.3, 0.5])
        model.fit(X)
    assert_allclose(model.means_, means, atol=0.1)
    assert model.weights_[0] < model.weights_[2]


# --- starts -----------------------------------------------------------------------------------


@TYPES
def test_parameters_to_start_from(covariance_type):
    X, z = groups()
    best = GaussianMixture(3, covariance_type=covariance_type, random_state=0, tol=1e-12).fit(X)
    again = GaussianMixture(
        3,
        covariance_type=covariance_type,
        weights_init=best.weights_,
        means_init=best.means_,
        precisions_init=best.precisions_,
        random_state=5,
        max_iter=50,
    ).fit(X)
    assert again.history_[0] == pytest.approx(best.history_[-1], abs=1e-8)
    assert_allclose(again.means_, best.means_, atol=1e-5)


def test_a_start_with_constant_columns():
    X, z = groups()
    X = np.insert(X, 1, 4.0, axis=1)
    means = [X[z == k].mean(axis=0) for k in (2, 0, 1)]
    precisions = np.array([np.eye(3)] * 3)
    model = GaussianMixture(3, means_init=means, precisions_init=precisions)
    with pytest.warns(UserWarning, match="constant"):
        model.fit(X)
    assert_allclose(model.means_, means, atol=0.5)
    assert_array_equal(model.means_[:, 1], 4.0)
    assert_array_equal(model.covariances_[:, 1], 0.0)
    assert_array_equal(model.precisions_[:, :, 1], 0.0)


def test_more_starts_end_no_lower():
    X, _ = groups(6, gap=4.0)
    ends = [
        GaussianMixture(6, init_params="random_from_data", n_init=n, random_state=0).fit(X)
        for n in (1, 20)
    ]
    assert ends[1].lower_bound_ >= ends[0].lower_bound_ - 1e-9


# --- warm start, acceleration, threads --------------------------------------------------------


def test_warm_start_goes_on():
    X, _ = groups(4, gap=3.0)
    whole = GaussianMixture(4, random_state=0, tol=1e-10).fit(X)
    model = GaussianMixture(4, random_state=0, tol=1e-10, warm_start=True, max_iter=3)
    with pytest.warns(ConvergenceWarning):
        model.fit(X)
    first = model.history_
    model.set_params(max_iter=1000).fit(X)
    assert model.history_[0] >= first[-1] - 1e-12
    assert model.lower_bound_ == pytest.approx(whole.lower_bound_, abs=1e-7)


def test_warm_start_follows_new_rows():
    X, _ = groups()
    model = GaussianMixture(3, warm_start=True, random_state=0).fit(X)
    before = model.means_.copy()
    model.fit(X + [0.5, 0.0])
    assert_allclose(model.means_, before + [0.5, 0.0], atol=1e-2)


def test_warm_start_refuses_another_number_of_components():
    X, _ = groups()
    model = GaussianMixture(3, warm_start=True, random_state=0).fit(X)
    score = model.score(X)
    with pytest.raises(ValueError, match="warm_start goes on from 3 components.*n_components=2"):
        model.set_params(n_components=2).fit(X)
    assert model.score(X) == score  # still usable
    assert GaussianMixture(2, random_state=0).fit(X).means_.shape == (2, 2)


@pytest.mark.parametrize("after", [2, 9, 16, 30, 60])
def test_ctrl_c_among_the_short_runs_keeps_the_best_state_so_far(monkeypatch, after):
    X, _ = groups(4, gap=2.5)
    seen, evaluate = [], em.evaluate

    def interrupted(state, rows, *args):
        if len(seen) == after:
            raise KeyboardInterrupt
        point = evaluate(state, rows, *args)
        seen.append(point.objective)
        return point

    monkeypatch.setattr(em, "evaluate", interrupted)
    model = GaussianMixture(4, n_init=10, init_params="random_from_data", random_state=0)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X)
    assert not model.converged_
    assert model.history_[-1] >= max(seen) - 1e-12


@TYPES
def test_acceleration_reaches_the_same_place_in_fewer_passes(covariance_type):
    X, _ = groups(4, gap=2.5)
    settings = {"covariance_type": covariance_type, "random_state": 0, "tol": 1e-11}
    plain = GaussianMixture(4, accelerate=None, max_iter=20000, n_init=1, **settings).fit(X)
    fast = GaussianMixture(4, max_iter=20000, n_init=1, **settings).fit(X)
    assert fast.lower_bound_ >= plain.lower_bound_ - 1e-8
    assert fast.n_iter_ < plain.n_iter_


def test_threads_share_the_blocks():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3000, 2)) + 6 * (rng.uniform(size=3000) < 0.4)[:, None]
    X[::7, 0] = np.nan
    one = GaussianMixture(2, random_state=0).fit(X)
    two = GaussianMixture(2, random_state=0, n_jobs=2).fit(X)
    assert_allclose(two.means_, one.means_, rtol=1e-9)
    assert_allclose(two.history_, one.history_, rtol=1e-10)


# --- student-t, attributes --------------------------------------------------------------------


def test_student_t_resists_outliers():
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(size=(60, 2)), 200.0 + rng.normal(size=(4, 2))])
    robust, gaussian = (Mixture(1, emission=e).fit(X) for e in ("student_t", "gaussian"))
    assert np.abs(robust.means_ - X[:60].mean(axis=0)).max() < 0.2
    assert np.abs(gaussian.means_ - X[:60].mean(axis=0)).min() > 10
    assert robust.df_[0] < 3


def test_student_t_recovers_its_degrees_of_freedom():
    t = multivariate_t([1.0, -2.0], [[2.0, 0.5], [0.5, 1.0]], df=4.0, seed=0)
    X = t.rvs(3000)
    model = Mixture(1, emission="student_t").fit(X)
    assert 3.2 < model.df_[0] < 5.0
    assert model.score(X) >= t.logpdf(X).mean() - 1e-6
    assert_allclose(model.means_[0], [1.0, -2.0], atol=0.15)


def test_a_gaussian_emission_has_no_degrees_of_freedom():
    assert not hasattr(Mixture(2, random_state=0).fit(rows()), "df_")


@TYPES
def test_covariances_precisions_and_their_roots(covariance_type):
    model = GaussianMixture(2, covariance_type=covariance_type, random_state=0).fit(rows())
    shape = {"full": (2, 3, 3), "tied": (3, 3), "diag": (2, 3), "spherical": (2,)}[covariance_type]
    C, P, U = model.covariances_, model.precisions_, model.precisions_cholesky_
    assert C.shape == P.shape == U.shape == shape
    if covariance_type in ("full", "tied"):
        assert_allclose(C @ P, np.broadcast_to(np.eye(3), shape), atol=1e-8)
        assert_allclose(U @ np.swapaxes(U, -1, -2), P, rtol=1e-8, atol=1e-10 * np.abs(P).max())
        assert_array_equal(U, np.triu(U))
    else:
        assert_allclose(C * P, 1.0)
        assert_allclose(U**2, P)


def test_lower_bounds_are_the_history_after_the_start():
    model = GaussianMixture(2, random_state=0).fit(rows())
    assert_array_equal(model.lower_bounds_, model.history_[1:])
    assert model.lower_bound_ == model.history_[-1]
    assert type(model.lower_bound_) is float


def test_verbose_prints_every_interval(capsys):
    X, _ = groups(4, gap=3.0)
    model = GaussianMixture(4, random_state=0, n_init=1, tol=1e-12, verbose=1, verbose_interval=5)
    model.fit(X)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == model.n_iter_ // 5
    assert all(line.startswith("GaussianMixture iteration") for line in lines)
    assert f"{model.history_[5]:.6f}" in lines[0]
    GaussianMixture(2, random_state=0).fit(X)
    assert capsys.readouterr().out == ""
