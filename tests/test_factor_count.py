"""EMFactorAnalysis that chooses its number of factors, or has none."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.utils.estimator_checks import check_estimator

from sklvm import EMFactorAnalysis, GaussianMixture, factor_search
from sklvm.inference.history import FitInterrupted
from tests._models import rows

WAYS = pytest.mark.parametrize("way", ["parallel", "bic", "cv"])
HOLES = pytest.mark.parametrize("holes", [0.0, 0.2], ids=["complete", "holes"])
SOLVERS = pytest.mark.parametrize("solver", ["auto", "em"])


def simulated(n=400, d=9, q=2, holes=0.0, seed=0):
    """Factors that explain 36 to 81 % of columns, each in a unit of its own."""
    rng = np.random.default_rng(seed)
    W = np.zeros((q, d))
    for j in range(d if q else 0):
        W[j % q, j] = rng.uniform(0.6, 0.9)
    X = rng.normal(size=(n, q)) @ W + rng.normal(size=(n, d)) * np.sqrt(1 - (W**2).sum(axis=0))
    X[rng.uniform(size=(n, d)) < holes] = np.nan
    return X * 10.0 ** (np.arange(d) % 4) + 5


@HOLES
@WAYS
@pytest.mark.parametrize("q", [0, 2])
def test_the_number_of_factors_is_found(way, holes, q):
    X = simulated(q=q, holes=holes)
    model = EMFactorAnalysis(way, random_state=0).fit(X)
    assert type(model.n_components_) is int and model.n_components_ == q
    assert model.components_.shape == (q, 9) and model.n_components == way
    given = EMFactorAnalysis(q).fit(X)
    assert_array_equal(model.score_samples(X), given.score_samples(X))
    assert given.n_components_ == q and given.component_search_ == {}
    assert model.marginal([0, 1]).component_search_ == {}


@WAYS
def test_more_columns_than_rows(way):
    model = EMFactorAnalysis(way, random_state=0).fit(simulated(40, 60, 2))
    assert model.n_components_ == 2


def test_parallel_analysis_says_what_it_saw():
    X = simulated()
    model = EMFactorAnalysis("parallel", random_state=0).fit(X)
    search = model.component_search_
    assert_allclose(search["eigenvalues"], np.linalg.eigvalsh(np.corrcoef(X.T))[::-1], rtol=1e-8)
    above = search["eigenvalues"] > search["thresholds"]
    assert above[:2].all() and not above[2]
    again = EMFactorAnalysis("parallel", random_state=0).fit(X).component_search_
    assert_array_equal(again["thresholds"], search["thresholds"])
    other = EMFactorAnalysis("parallel", random_state=1).fit(X).component_search_
    assert_allclose(other["thresholds"], search["thresholds"], rtol=0.05)
    assert (other["thresholds"] != search["thresholds"]).all()


@HOLES
def test_bic_is_that_of_each_size(holes):
    X = simulated(n=150, holes=holes)
    model = EMFactorAnalysis("bic").fit(X)
    search = model.component_search_
    assert_array_equal(search["n_components"], np.arange(6))  # three beyond the best, 2
    bic = [EMFactorAnalysis(q).fit(X).bic(X) for q in range(6)]
    assert_allclose(search["bic"], bic, atol=0.1)
    assert np.argmin(search["bic"]) == model.n_components_ == 2


@HOLES
def test_held_out_rows_are_scored_by_fits_to_the_others(holes):
    X = simulated(n=120, holes=holes)
    weight = np.arange(120) % 3
    model = EMFactorAnalysis("cv").fit(X, sample_weight=weight)
    used = np.flatnonzero(weight)
    order = used[np.argsort(X[used, 0])]  # no ties; NaN last, in the order of the next columns
    tail = order[np.isnan(X[order, 0])]
    order[len(order) - len(tail) :] = tail[np.lexsort(X[tail].T[::-1])]
    held_out = np.zeros(3)
    for fold in range(5):
        test = order[fold::5]
        train = np.setdiff1d(order, test)
        for q in range(3):
            there = EMFactorAnalysis(q).fit(X[train], sample_weight=weight[train])
            held_out[q] += weight[test] @ there.score_samples(X[test])
    search = model.component_search_
    atol = 5e-3 if holes else 2e-4  # the search ends EM early
    assert_allclose(search["held_out"][:3], held_out / weight.sum(), atol=atol)
    assert np.argmax(search["held_out"]) == model.n_components_


def test_a_column_that_a_fold_does_not_vary_is_left_out_there():
    X = simulated(n=60)
    X[:, 3] = 0.0
    X[7, 3] = 1.0  # four fifths of the rows may miss it
    X[:, 4] = np.nan
    X[:2, 4] = [1.0, 2.0]
    model = EMFactorAnalysis("cv").fit(X)
    assert np.isfinite(model.component_search_["held_out"]).all()


@pytest.mark.parametrize("way", ["parallel", "bic"])
def test_a_covariance_matrix_is_enough(way):
    X = simulated()
    S = np.cov(X.T, ddof=0)
    rows_ = EMFactorAnalysis(way, random_state=0).fit(X)
    matrix = EMFactorAnalysis(way, random_state=0).fit_covariance(S, 400)
    assert matrix.n_components_ == rows_.n_components_ == 2
    for name, values in rows_.component_search_.items():
        assert_allclose(matrix.component_search_[name], values, rtol=1e-6, atol=0.1)


def test_a_matrix_has_no_rows_to_hold_out():
    with pytest.raises(ValueError, match="'cv' holds rows out.*'parallel', 'bic' or a number"):
        EMFactorAnalysis("cv").fit_covariance(np.eye(4), 100)


@pytest.mark.parametrize("wrong", [-1, 1.5, "many", None])
def test_other_numbers_of_factors_are_refused(wrong):
    with pytest.raises(ValueError, match="n_components"):
        EMFactorAnalysis(wrong).fit(rows())


@pytest.mark.parametrize("way", ["bic", "cv"])
def test_an_interrupted_search_leaves_the_estimator_as_it_was(way, monkeypatch):
    def interrupt(*_, **__):
        raise FitInterrupted(None)

    monkeypatch.setattr(factor_search, "maximum_likelihood", interrupt)
    model = EMFactorAnalysis(way)
    with pytest.raises(KeyboardInterrupt) as caught:
        model.fit(rows())
    assert caught.type is KeyboardInterrupt and not hasattr(model, "n_features_in_")


# --- no factor --------------------------------------------------------------------------------


@SOLVERS
@pytest.mark.parametrize("holes", [False, True])
def test_verbs_of_a_model_without_factors(solver, holes):
    X = rows(3, holes)
    model = EMFactorAnalysis(0, solver=solver, heywood_penalty=0.0, tol=1e-12).fit(X)
    independent = GaussianMixture(1, covariance_type="diag", covariance_prior=0.0).fit(X)
    assert model.n_parameters_ == 6 and not model.heywood_.any()
    assert model.transform(X).shape == (60, 0)
    assert_allclose(model.inverse_transform(np.empty((2, 0))), np.tile(model.mean_, (2, 1)))
    posterior = model.posterior(X)
    assert posterior.covariance.shape == (60, 0, 0)
    assert posterior.sample(4, random_state=0).shape == (4, 60, 0)
    assert_array_equal(posterior.entropy(), 0.0)
    assert_allclose(sum(model.elbo(X)[:3]), model.score_samples(X), rtol=1e-10)
    assert_allclose(model.impute(X), independent.impute(X), rtol=1e-6)
    draws, factors = model.sample(5000, random_state=0)
    assert factors.shape == (5000, 0)
    assert_allclose(draws.std(axis=0), np.sqrt(model.noise_variance_), rtol=0.05)
    for part, there in [(model.condition([1], [90.0]), [0, 2]), (model.marginal([2, 0]), [2, 0])]:
        assert_allclose(
            part.score_samples(X[:, there]),
            independent.marginal(there).score_samples(X[:, there]),
            rtol=1e-6,
        )
    mean, covariance = model.regress(X, targets=[0])
    assert_allclose(mean, model.mean_[0])
    assert_allclose(covariance, model.noise_variance_[0])
    assert model.factor_scores(X, "bartlett").shape == (60, 0)
    assert model.structure_.shape == (3, 0) and model.factor_correlation_.shape == (0, 0)
    assert_allclose(model.uniquenesses_, 1.0)
    again = EMFactorAnalysis.from_parameters(
        components=model.components_, noise_variance=model.noise_variance_, mean=model.mean_
    )
    assert_array_equal(again.score_samples(X), model.score_samples(X))


def test_columns_of_latents_must_be_as_many():
    with pytest.raises(ValueError, match="needs 1 columns.*got 0"):
        EMFactorAnalysis(1).fit(rows()).inverse_transform(np.empty((2, 0)))


@pytest.mark.filterwarnings("ignore")  # the checks fit constant columns, too few iterations, ...
def test_every_check_passes_without_factors():
    results = check_estimator(EMFactorAnalysis(0), on_skip=None, on_fail=None)
    assert {result["status"] for result in results} == {"passed"}


@pytest.mark.parametrize("container", ["pandas", "polars"])
def test_no_factor_is_a_table_without_columns(container):
    model = EMFactorAnalysis(0).set_output(transform=container).fit(rows())
    assert model.transform(rows()).shape[1] == len(model.get_feature_names_out()) == 0
