"""What is particular to the variational mixture: its bound, its priors, components that empty."""

from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.integrate import quad
from scipy.stats import multivariate_t
from sklearn.datasets import load_iris
from sklearn.metrics import adjusted_rand_score

from sklvm import GaussianMixture, VariationalGMM
from tests._models import rows


def groups(n=90, seed=0):
    rng = np.random.default_rng(seed)
    z = np.repeat([0, 1, 2], [n // 2, n // 3, n - n // 2 - n // 3])
    return rng.normal(size=(n, 2)) + np.array([[0, 0], [8, 0], [0, 8.0]])[z], z


def test_surplus_components_return_to_their_prior():
    X, _ = groups()
    model = VariationalGMM(8, empirical_bayes=None, random_state=0).fit(X)
    assert model.n_active_ == 3
    assert_allclose(model.weights_[3:], (1 / 8) / (len(X) + 1), rtol=1e-6)
    assert_allclose(model.mean_precision_[3:], 0.1, rtol=1e-6)
    assert_allclose(model.degrees_of_freedom_[3:], 4.0, rtol=1e-6)
    assert_allclose(model.means_[3:], np.tile(X.mean(axis=0), (5, 1)), atol=1e-4)
    assert (np.diff(model.weights_) <= 1e-12).all()


def test_the_bound_prefers_the_right_number_of_components():
    X, _ = groups()
    bounds = [VariationalGMM(k, random_state=0).fit(X).lower_bound_ for k in (1, 2, 3)]
    assert np.argmax(bounds) == 2


def test_the_bound_is_the_total_and_history_is_per_row():
    X, _ = groups()
    weight = np.arange(90) % 3
    model = VariationalGMM(3, random_state=0).fit(X, sample_weight=weight)
    assert model.lower_bound_ == pytest.approx(model.history_[-1] * weight.sum(), rel=1e-12)
    terms = model.elbo(X)
    total = weight @ sum(terms[:3]) - terms.parameter_kl
    assert total == pytest.approx(model.lower_bound_, rel=1e-9)


@pytest.mark.parametrize(
    "attribute", ["means", "mean_precision", "degrees_of_freedom", "covariances"]
)
def test_no_step_aside_raises_the_bound(attribute):
    # The bound of a changed q, from the state: the M-step is where the bound is highest.
    from dataclasses import replace

    X, _ = groups()
    model = VariationalGMM(2, random_state=0, tol=1e-13, max_iter=5000).fit(X)
    state = model.state_
    q = state.emission

    def bound(emission):
        changed = replace(state, emission=emission)
        return sum(changed.elbo_terms(X)).sum() + changed.log_prior()

    best = bound(q)
    assert best == pytest.approx(model.lower_bound_, abs=1e-7)
    for step in (1e-2, -1e-2):
        m, beta, nu, S = q.m, q.beta, q.nu, q.S
        if attribute == "means":
            m = m + step
        elif attribute == "mean_precision":
            beta = beta * (1 + step)
        elif attribute == "degrees_of_freedom":
            nu = nu * (1 + step)
        else:
            S = S * (1 + step)
        assert bound(q.of(m, beta, nu, S, q.prior)) < best - 1e-8


def test_many_rows_tend_to_maximum_likelihood():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(4000, 2)) + 6.0 * (rng.uniform(size=4000) < 0.3)[:, None]
    vb = VariationalGMM(2, random_state=0).fit(X)
    ml = GaussianMixture(2, covariance_prior=0.0, random_state=0).fit(X)
    assert_allclose(vb.means_, ml.means_, atol=0.02)
    assert_allclose(vb.covariances_, ml.covariances_, atol=0.03)
    assert_allclose(vb.score(X), ml.score(X), atol=2e-3)


def test_a_large_concentration_makes_weights_equal():
    X, _ = groups()
    even = VariationalGMM(3, weight_concentration_prior=1e6, random_state=0).fit(X)
    assert_allclose(even.weights_, 1 / 3, atol=1e-3)


def test_the_default_priors_are_the_documented_ones():
    X = rows(3)
    model = VariationalGMM(2, empirical_bayes=None, random_state=0)
    d, K = 3, 2
    explicit = VariationalGMM(
        K,
        mean_precision_prior=0.1,
        weight_concentration_prior=1 / K,
        mean_prior=X.mean(axis=0),
        degrees_of_freedom_prior=d + 2,
        covariance_prior=(d + 2) * np.cov(X.T, ddof=0) / K ** (2 / d),
        random_state=0,
    )
    assert_allclose(model.fit(X).score_samples(X), explicit.fit(X).score_samples(X), rtol=1e-8)
    assert model.lower_bound_ == pytest.approx(explicit.lower_bound_, rel=1e-9)


def test_given_priors_leave_out_constant_columns():
    X, T = rows(2), np.diag([2.0, 500.0])
    settings = {"degrees_of_freedom_prior": 6.0, "random_state": 0}
    model = VariationalGMM(2, covariance_prior=T, mean_prior=[1.0, 99.0], **settings).fit(X)
    wide = VariationalGMM(
        2, covariance_prior=np.diag([2.0, 7.0, 500.0]), mean_prior=[1.0, 0.0, 99.0], **settings
    )
    with pytest.warns(UserWarning, match="constant"):
        wide.fit(np.insert(X, 1, 3.0, axis=1))
    assert_allclose(wide.score_samples(np.insert(X, 1, 3.0, axis=1)), model.score_samples(X))


def test_parts_are_student_t_mixtures_that_agree_by_hand():
    X = rows(3)
    model = VariationalGMM(1).fit(X)
    part = model.marginal([0, 2])
    df = model.degrees_of_freedom_[0] + 1 - 3
    assert_allclose(part.df_, df)
    beta = model.mean_precision_[0]
    S = model.covariances_[0] * model.degrees_of_freedom_[0] * (1 + beta) / (beta * df)
    keep = np.ix_([0, 2], [0, 2])
    expected = multivariate_t(model.means_[0, [0, 2]], S[keep], df)
    assert_allclose(part.score_samples(X[:, [0, 2]]), expected.logpdf(X[:, [0, 2]]), rtol=1e-9)
    assert_allclose(model.condition([1], [100.0]).df_, df + 1)


def test_labels_name_the_components():
    X, z = groups()
    labels = np.where(np.arange(90) % 6 == 0, 2 - z, -1)
    model = VariationalGMM(3, random_state=0).fit(X, labels=labels)
    assert (model.predict(X) == 2 - z).all()


def test_predictive_covariance_is_wider_than_the_plug_in():
    X = load_iris().data[:12]
    vb = VariationalGMM(1).fit(X)
    far = X.mean(axis=0) + 8 * X.std(axis=0)
    ml = GaussianMixture(1).fit(X)
    assert vb.score(far[None]) > ml.score(far[None]) + 10


# --- structures, weights, moves, learnt priors ----------------------------------------------------

STRUCTURES = ["full", "tied", "diag", "spherical"]
PROCESSES = ["dirichlet_distribution", "dirichlet_process"]
FIXED = {"empirical_bayes": None, "random_state": 0}
over = pytest.mark.parametrize("structure", STRUCTURES)


@over
@pytest.mark.parametrize("process", PROCESSES)
def test_every_structure_and_process_finds_the_groups(structure, process):
    X, z = groups()
    model = VariationalGMM(
        8, covariance_type=structure, weight_concentration_prior_type=process, random_state=0
    ).fit(X)
    assert model.n_active_ == 3
    assert (np.diff(model.weights_[:3]) <= 0).all()
    assert adjusted_rand_score(z, model.predict(X)) > 0.97
    shapes = {"full": (8, 2, 2), "tied": (2, 2), "diag": (8, 2), "spherical": (8,)}
    for name in ("covariances_", "precisions_", "precisions_cholesky_"):
        assert getattr(model, name).shape == shapes[structure]
    part = model.marginal([0])
    assert_allclose(
        part.score_samples(X[:, :1]),
        model.score_samples(np.where([True, False], X, np.nan)),
        rtol=1e-9,
    )
    joint = model.score_samples(X[:5])
    for x, score in zip(X[:5], joint, strict=True):
        rest = model.condition([0], x[:1])
        assert part.score_samples(x[None, :1])[0] + rest.score_samples(x[None, 1:])[
            0
        ] == pytest.approx(score, rel=1e-9)


@over
def test_the_score_is_a_density(structure):
    X = groups()[0][:, :1]
    model = VariationalGMM(3, covariance_type=structure, random_state=0).fit(X)
    marks = [-1e6, -100, -5, 0, 4, 8, 15, 100, 1e6]
    total = sum(
        quad(lambda x: np.exp(model.score_samples([[x]])[0]), a, b, limit=200)[0]
        for a, b in pairwise(marks)
    )
    assert total == pytest.approx(1.0, abs=1e-6)


def test_the_structures_agree_in_one_column():
    X = groups()[0][:, :1]
    fits = [VariationalGMM(2, covariance_type=s, **FIXED).fit(X) for s in STRUCTURES]
    for other in fits[2:]:
        assert other.lower_bound_ == pytest.approx(fits[0].lower_bound_, abs=1e-6)
        assert_allclose(other.score_samples(X), fits[0].score_samples(X), atol=1e-4)
    one = [VariationalGMM(1, covariance_type=s).fit(X).lower_bound_ for s in STRUCTURES]
    assert_allclose(one, one[0], rtol=1e-12)


@over
def test_a_given_prior_has_the_shape_of_the_covariances(structure):
    X = rows(2)
    T = {"full": np.diag([2.0, 500.0]), "diag": [2.0, 500.0], "spherical": 30.0}
    T["tied"] = T["full"]
    settings = {"covariance_type": structure, "mean_precision_prior": 0.5}
    settings |= {"degrees_of_freedom_prior": 6.0, "mean_prior": [1.0, 99.0]}
    model = VariationalGMM(1, covariance_prior=T[structure], **settings).fit(X)
    gap = X - X.mean(axis=0)
    pull = 0.5 * 60 / 60.5 * np.outer(*2 * [X.mean(axis=0) - [1.0, 99.0]])
    scatter = gap.T @ gap + pull
    counts = 6.0 + len(X) * (2 if structure == "spherical" else 1)
    kept = {"diag": np.diag(scatter), "spherical": np.trace(scatter)}.get(structure, scatter)
    expected = (np.array(T[structure]) + kept) / counts
    assert_allclose(np.squeeze(model.covariances_), expected, rtol=1e-10)
    for wrong in (np.ones(3), np.ones((3, 3)), np.nan):
        with pytest.raises(ValueError, match="covariance_prior"):
            VariationalGMM(1, covariance_prior=wrong, **settings).fit(X)


def test_least_degrees_of_freedom_depend_on_the_structure():
    X = rows(3)
    for structure in ("full", "tied"):
        with pytest.raises(ValueError, match="must exceed 2, got 1.5"):
            VariationalGMM(covariance_type=structure, degrees_of_freedom_prior=1.5).fit(X)
    for structure in ("diag", "spherical"):
        VariationalGMM(covariance_type=structure, degrees_of_freedom_prior=1.5).fit(X)


@pytest.mark.parametrize("holes", [False, True])
def test_posterior_counts_have_the_shape_of_the_structure(holes):
    X = rows(3, holes)
    shapes = {
        "full": ((2,), (2,)),
        "tied": ((2,), (2,)),
        "diag": ((2, 3), (2, 3)),
        "spherical": ((2, 3), (2,)),
    }
    seen = (~np.isnan(X)).sum(axis=0)
    for structure, wanted in shapes.items():
        model = VariationalGMM(2, covariance_type=structure, **FIXED).fit(X)
        beta, nu = model.mean_precision_, model.degrees_of_freedom_
        assert (beta.shape, nu.shape) == wanted
        if structure == "diag":
            assert_allclose((beta - 0.1).sum(axis=0), seen)
            assert_allclose((nu - 3).sum(axis=0), seen)
        if structure == "spherical":
            assert_allclose((nu - 3).sum(), seen.sum())


@pytest.mark.parametrize("process", PROCESSES)
def test_large_concentrations(process):
    X, _ = groups()
    settings = {"weight_concentration_prior_type": process, **FIXED}
    small = VariationalGMM(3, weight_concentration_prior=0.5, **settings).fit(X)
    large = VariationalGMM(3, weight_concentration_prior=1e6, **settings).fit(X)
    if process == "dirichlet_distribution":
        assert_allclose(large.weights_, 1 / 3, atol=1e-3)
    else:  # tiny sticks: the prior expects infinitely many components
        assert large.weights_[:2].max() < 1e-3
    assert large.lower_bound_ < small.lower_bound_


@over
def test_every_structure_tends_to_maximum_likelihood(structure):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(4000, 2)) + 6.0 * (rng.uniform(size=4000) < 0.3)[:, None]
    vb = VariationalGMM(2, covariance_type=structure, random_state=0).fit(X)
    ml = GaussianMixture(2, covariance_type=structure, covariance_prior=0.0, random_state=0).fit(X)
    assert_allclose(vb.means_, ml.means_, atol=0.02)
    assert_allclose(vb.covariances_, ml.covariances_, atol=0.03)
    assert_allclose(vb.score(X), ml.score(X), atol=2e-3)


def test_learnt_priors_raise_the_bound_and_what_is_given_stays():
    X, _ = groups()
    bounds = [
        VariationalGMM(6, empirical_bayes=learns, random_state=0).fit(X).lower_bound_
        for learns in (None, "weights", "all")
    ]
    assert bounds[0] < bounds[1] < bounds[2]
    given = {"weight_concentration_prior": 0.3, "mean_precision_prior": 0.2}
    model = VariationalGMM(6, covariance_prior=np.eye(2), random_state=0, **given).fit(X)
    assert model.weight_concentration_prior_ == 0.3
    prior = model.state_.emission.prior
    assert_allclose(prior.beta, 0.2)
    assert_allclose(prior.S, np.tile(np.eye(2), (6, 1, 1)))
    free = VariationalGMM(6, random_state=0).fit(X)
    assert free.weight_concentration_prior_ != 1 / 6
    assert (free.state_.emission.prior.beta != 0.1).all()


def test_one_component_learns_nothing_of_how_components_differ():
    X = rows(2)
    assert VariationalGMM(1).fit(X).lower_bound_ == pytest.approx(
        VariationalGMM(1, empirical_bayes=None).fit(X).lower_bound_, rel=1e-12
    )


@pytest.mark.parametrize("process", PROCESSES)
def test_learnt_priors_go_on_in_a_warm_start(process):
    X, _ = groups()
    model = VariationalGMM(
        4, weight_concentration_prior_type=process, warm_start=True, random_state=0
    ).fit(X)
    before = model.lower_bound_
    model.fit(X)
    assert model.history_[0] * len(X) > before - 1e-6
    assert model.lower_bound_ > before - 1e-9


def test_moves_empty_what_coordinate_ascent_leaves():
    rng = np.random.default_rng(3)
    X = np.concatenate([rng.normal(size=(120, 2)), 5 + rng.normal(size=(80, 2))])
    settings = {"init_params": "random_from_data", "n_init": 1, "random_state": 2}
    plain = VariationalGMM(10, moves=False, max_iter=3000, **settings, empirical_bayes=None).fit(X)
    moved = VariationalGMM(10, **settings, empirical_bayes=None).fit(X)
    assert moved.n_active_ == 2
    assert moved.lower_bound_ >= plain.lower_bound_ - 1e-6
    assert plain.n_active_ > 2 or plain.n_iter_ > 2


def test_sticks_are_from_parameters_in_their_order():
    X, _ = groups()
    model = VariationalGMM(
        5, weight_concentration_prior_type="dirichlet_process", random_state=0
    ).fit(X)
    a, b = model.weight_concentration_
    assert b[-1] == 0
    again = VariationalGMM.from_parameters(
        weight_concentration=(a, b),
        means=model.means_,
        mean_precision=model.mean_precision_,
        degrees_of_freedom=model.degrees_of_freedom_,
        covariances=model.covariances_,
        weight_concentration_prior_type="dirichlet_process",
    )
    assert_allclose(again.score_samples(X), model.score_samples(X), rtol=1e-9)
    assert again.weight_concentration_prior_ == pytest.approx(model.weight_concentration_prior_)
    for wrong in ([[1.0, 1.0], [1.0, 1.0]], [[0.5, 1.0], [1.0, 0.0]], [[9.0, 9.0], [1.0, 0.0]]):
        with pytest.raises(ValueError, match="sticks"):
            VariationalGMM.from_parameters(
                weight_concentration=wrong,
                means=np.zeros((2, 1)),
                mean_precision=[1.0, 1.0],
                degrees_of_freedom=[3.0, 3.0],
                covariances=np.ones((2, 1, 1)),
                weight_concentration_prior_type="dirichlet_process",
            )


def test_unknown_kinds_are_refused():
    known = {"means": [[0.0]], "mean_precision": [1.0], "degrees_of_freedom": [3.0]}
    known |= {"weight_concentration": [1.0], "covariances": [[[1.0]]]}
    with pytest.raises(ValueError, match="covariance_type must be one of"):
        VariationalGMM.from_parameters(covariance_type="VVV", **known)
    with pytest.raises(ValueError, match="weight_concentration_prior_type must be one of"):
        VariationalGMM.from_parameters(weight_concentration_prior_type="dp", **known)
