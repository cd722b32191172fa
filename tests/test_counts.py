"""What every model of whole numbers keeps: the contract of test_contract.py, with sums over the
support in place of integrals."""

import pickle
from functools import cache

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import check_estimator

from sklvm import Bernoulli, Categorical, Mixture, NegativeBinomial, Poisson
from sklvm.inference.em import em
from tests.test_contract import within_5_se

MODELS = {
    "bernoulli": Mixture(2, emission="bernoulli", random_state=0),
    "bernoulli-ml": Mixture(2, emission=Bernoulli(pseudo=0.0), random_state=0),
    "categorical": Mixture(2, emission="categorical", random_state=0),
    "categorical-4": Mixture(2, emission=Categorical(n_categories=4), random_state=0),
    "categorical-ml": Mixture(2, emission=Categorical(pseudo=0.0), random_state=0),
    "poisson": Mixture(2, emission="poisson", random_state=0),
    "poisson-plain": Mixture(2, emission="poisson", accelerate=None, random_state=0),
    "poisson-jobs": Mixture(2, emission=Poisson(pseudo=0.0), n_jobs=2, random_state=0),
    "nb": Mixture(2, emission="negative_binomial", random_state=0),
    "nb-ml": Mixture(2, emission=NegativeBinomial(pseudo=0.0), random_state=0),
}
COUNTS = [name for name in MODELS if name.startswith(("poisson", "nb"))]
# Free parameters for d = 3: one weight, and for each component and column ...
FREE = {"bernoulli": 1, "categorical": 2, "poisson": 1, "nb": 2, "categorical-4": 3}
# Values of a column beyond which there is no probability that counts, by what is before the dash.
SUPPORT = {"bernoulli": 2, "categorical": 4, "poisson": 40, "nb": 100}
HOLES = pytest.mark.parametrize("holes", [False, True], ids=["complete", "holes"])


def sweep(names):
    return pytest.mark.parametrize("name", list(names))


def kind(name):
    return name.split("-")[0]


def make(name):
    return clone(MODELS[name])


@cache
def rows(name, d=3, holes=False, n=120):
    """Two groups of rows; categorical columns have codes 0, 1, 2."""
    rng = np.random.default_rng([0, d])
    z = (rng.uniform(size=n) < 0.35).astype(int)
    if kind(name) == "bernoulli":
        X = rng.uniform(size=(n, d)) < np.array([[0.1, 0.2, 0.9], [0.9, 0.7, 0.1]])[z][:, :d]
    elif kind(name) == "categorical":
        cuts = np.array(
            [[[0.7, 0.9], [0.1, 0.5], [0.3, 0.5]], [[0.1, 0.3], [0.6, 0.8], [0.2, 0.9]]]
        )
        X = (rng.uniform(size=(n, d, 1)) > cuts[z][:, :d]).sum(axis=2)
    else:
        rate = np.array([[1.0, 4.0, 2.0], [5.0, 2.0, 3.0]])[z][:, :d]
        X = rng.poisson(rate * (rng.gamma(3, 1 / 3, (n, d)) if kind(name) == "nb" else 1.0))
    X = X.astype(float)
    if holes:
        X[rng.uniform(size=X.shape) < 0.15] = np.nan
        X[3], X[3, 0] = np.nan, 0
    X.flags.writeable = False
    return X


@cache
def fitted(name, d=3, holes=False):
    return make(name).fit(rows(name, d, holes))


@cache
def support(name, d):
    """All rows of a support: (m, d). A categorical column ends in its reserved or fourth cell."""
    axes = np.meshgrid(*[np.arange(float(SUPPORT[kind(name)]))] * d, indexing="ij")
    return np.stack(axes, axis=-1).reshape(-1, d)


# --- the probabilities ------------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 2, 3])
@sweep(MODELS)
def test_probabilities_sum_to_one(name, d):
    scores = fitted(name, d, holes=d > 1).score_samples(support(name, d))
    assert np.exp(scores).sum() == pytest.approx(1.0, abs=1e-9)
    assert np.isfinite(scores).all()


@HOLES
@sweep(MODELS)
def test_a_missing_entry_is_summed_out(name, holes):
    model, X = fitted(name, 3, holes), rows(name)
    x = np.arange(float(SUPPORT[kind(name)]))
    for column in range(3):
        for row in X[:6]:
            filled = np.tile(row, (len(x), 1))
            filled[:, column] = x
            gap = np.where(np.arange(3) == column, np.nan, row)[None]
            expected = logsumexp(model.score_samples(filled))
            assert model.score_samples(gap)[0] == pytest.approx(expected, abs=1e-9)


@sweep(MODELS)
def test_two_missing_entries_are_summed_out(name):
    model, pairs = fitted(name), support(name, 2)
    filled = np.column_stack([pairs, np.ones(len(pairs))])
    expected = logsumexp(model.score_samples(filled))
    assert model.score_samples([[np.nan, np.nan, 1]])[0] == pytest.approx(expected, abs=1e-9)
    assert model.score_samples(np.full((1, 3), np.nan))[0] == pytest.approx(0.0, abs=1e-15)


@sweep(MODELS)
def test_samples_agree_with_the_probabilities(name):
    model, x = fitted(name, 2), support(name, 2)
    log_p = model.score_samples(x)
    p = np.exp(log_p)
    X, z = model.sample(4000, random_state=7)
    assert X.shape == (4000, 2) and X.dtype == np.float64 and (X % 1 == 0).all()
    within_5_se(model.score_samples(X), p @ log_p)
    within_5_se(X, p @ x)
    within_5_se(np.column_stack([X**2, X.prod(axis=1)]), p @ np.column_stack([x**2, x.prod(1)]))
    within_5_se(np.eye(2)[z] - model.predict_proba(X))
    within_5_se(np.eye(2)[z], model.weights_)


@sweep(MODELS)
def test_score_is_a_function_of_the_row_alone(name):
    model, X = fitted(name, holes=True), rows(name, holes=True)
    scores = model.score_samples(X)
    alone = np.concatenate([model.score_samples(row[None]) for row in X])
    assert_allclose(alone, scores, rtol=1e-10)
    many = np.tile(X, (40, 1))  # more rows than a block
    assert_allclose(model.score_samples(many), np.tile(scores, 40), rtol=1e-10)
    assert model.score_kind_ == "exact" and list(model.base_measure_) == ["counting"] * 3


@HOLES
@sweep(MODELS)
def test_the_bound_is_the_score(name, holes):
    model, X = fitted(name, 3, holes), rows(name, 3, holes)
    assert_allclose(sum(model.elbo(X)[:3]), model.score_samples(X), atol=1e-9)


@sweep(MODELS)
def test_contributions_sum_to_the_score(name):
    model, X = fitted(name, holes=True), rows(name, holes=True)[:8]
    parts = model.explain_score(X)
    assert_allclose(parts.sum(axis=1), model.score_samples(X), atol=1e-10)
    assert (parts[np.isnan(X)] == 0).all()


# --- the fit ----------------------------------------------------------------------------------


@HOLES
@sweep(MODELS)
def test_the_objective_never_falls(name, holes):
    model, X = fitted(name, 3, holes), rows(name, 3, holes)
    assert model.converged_ and model.n_iter_ == len(model.history_) - 1
    assert np.diff(model.history_).min() > -1e-12
    start = make(name).set_params(n_components=4)
    data = (X, np.ones(len(X)))
    fit = start.set_params(max_iter=1, n_init=1, split_merge=False, tol=0.0)
    with pytest.warns(UserWarning, match="did not converge"):
        state = fit.fit(X).state_
    run = em(state, data, max_iter=60, tol=0.0, strict=True)
    assert np.diff(run.history).min() > -1e-12
    assert run.objective > fit.lower_bound_


@HOLES
@sweep(MODELS)
def test_a_longer_climb_ends_no_lower(name, holes):
    longer = make(name).set_params(tol=1e-12, max_iter=20000).fit(rows(name, 3, holes))
    gain = longer.lower_bound_ - fitted(name, 3, holes).lower_bound_
    assert -1e-12 <= gain < 1e-4


@sweep(MODELS)
def test_leaps_arrive_where_steps_do(name):
    X, settings = rows(name, holes=True), {"tol": 1e-10, "max_iter": 20000}
    leaps = make(name).set_params(accelerate="squarem", **settings).fit(X)
    steps = make(name).set_params(accelerate=None, **settings).fit(X)
    assert leaps.lower_bound_ == pytest.approx(steps.lower_bound_, abs=1e-7)


@HOLES
@sweep(MODELS)
def test_integer_weights_are_repeated_rows(name, holes):
    X, rng = rows(name, 3, holes), np.random.default_rng(2)
    weight = rng.integers(0, 4, size=len(X))
    repeated = rng.permutation(np.repeat(X, weight, axis=0))
    order = rng.permutation(len(X))
    weighted = make(name).fit(X[order], sample_weight=weight[order])
    plain = make(name).fit(repeated)
    assert_allclose(weighted.score_samples(X), plain.score_samples(X), rtol=1e-7, atol=1e-7)
    assert_allclose(weighted.transform(X), plain.transform(X), rtol=1e-6, atol=1e-7)
    assert weighted.n_iter_ == plain.n_iter_
    for criterion in ("aic", "bic", "icl"):
        there = getattr(plain, criterion)(repeated)
        assert getattr(weighted, criterion)(X, sample_weight=weight) == pytest.approx(there)


@sweep(MODELS)
def test_a_row_without_weight_is_no_row(name):
    X = rows(name)
    more = np.concatenate([X, X[:5], np.full((1, 3), np.nan)])
    model = make(name).fit(more, sample_weight=np.r_[np.ones(len(X)), np.zeros(6)])
    assert_array_equal(model.score_samples(X), fitted(name).score_samples(X))


@HOLES
@sweep(MODELS)
def test_the_order_of_rows_changes_nothing(name, holes):
    X = rows(name, 3, holes)
    other = make(name).fit(X[np.random.default_rng(2).permutation(len(X))])
    expected = fitted(name, 3, holes).score_samples(X)
    assert_allclose(other.score_samples(X), expected, rtol=1e-8, atol=1e-8)


@sweep(MODELS)
def test_components_are_in_canonical_order(name):
    model = make(name).set_params(n_components=3).fit(rows(name, holes=True))
    assert (np.diff(np.round(model.weights_, 6)) <= 0).all()


@sweep(MODELS)
def test_known_labels_hold(name):
    X, labels = rows(name), np.full(120, -1)
    labels[:20] = (X[:20, 0] > 0).astype(int)
    model = make(name).fit(X, labels=labels)
    swapped = make(name).fit(X, labels=np.where(labels < 0, -1, 1 - labels))
    assert_allclose(model.means_, swapped.means_[::-1], rtol=1e-5)
    held = model.state_.e_step(X[:20], np.ones(20), labels[:20])[0].counts
    assert_allclose(held, np.bincount(labels[:20], minlength=2), atol=1e-12)


@sweep(MODELS)
def test_a_constant_column_stays_outside(name):
    X, one = rows(name, holes=True), {"bernoulli": 1.0}.get(kind(name), 2.0)
    whole = np.insert(X, 1, one, axis=1)
    whole[3, 1] = np.nan
    with pytest.warns(UserWarning, match="columns .1. are constant"):
        model = make(name).fit(whole)
    without = fitted(name, holes=True)
    assert_allclose(model.score_samples(whole), without.score_samples(X), rtol=1e-9)
    assert model.n_parameters_ == without.n_parameters_
    for how in ("mean", "mode", "sample"):
        filled = model.impute(whole, how=how, random_state=0)
        assert_array_equal(filled[:, 1], one)
    assert_array_equal(model.sample(5, random_state=0)[0][:, 1], one)
    part = model.marginal([3, 1])
    expected = without.marginal([2]).score_samples(X[:, [2]])
    assert_allclose(part.score_samples(whole[:, [3, 1]]), expected, rtol=1e-9, atol=1e-15)


@sweep(MODELS)
def test_warm_start_goes_on(name):
    X = rows(name, holes=True)
    model = make(name).set_params(warm_start=True).fit(X)
    before, n_iter = model.lower_bound_, model.n_iter_
    model.fit(X)
    assert model.history_[0] >= before - 1e-12 and model.n_iter_ <= max(4, n_iter // 3)
    other = {"bernoulli": "poisson"}.get(kind(name), "bernoulli")
    with pytest.raises(ValueError, match="cannot go on from 2 .*s"):
        model.set_params(emission=other).fit(np.minimum(X, 1))


@sweep(MODELS)
def test_batches_are_learned(name):
    rng = np.random.default_rng(0)
    truth = fitted(name)
    model = make(name)
    for t in range(60):
        batch, _ = truth.sample(100, random_state=t)
        batch = np.minimum(batch, SUPPORT[kind(name)] - 2 if "categorical" in name else np.inf)
        batch[rng.uniform(size=batch.shape) < 0.1] = np.nan
        model.partial_fit(batch)
    assert 5900 < model.n_samples_seen_ <= 6000  # but for rows without an entry
    X, _ = truth.sample(4000, random_state=99)
    X = np.minimum(X, 2.0) if "categorical" in name else X
    gap = truth.score(X) - model.score(X)
    assert gap < 0.03
    went_on = make(name).fit(rows(name)).partial_fit(rows(name)[:60])
    assert np.isfinite(went_on.score(rows(name))) and went_on.n_samples_seen_ == 180


@sweep(MODELS)
def test_from_parameters_round_trip(name):
    model, X = fitted(name), rows(name, holes=True)
    again = Mixture.from_parameters(weights=model.weights_, emission=model.emission_)
    assert_allclose(again.score_samples(X), model.score_samples(X), rtol=1e-12)
    assert again.n_parameters_ == model.n_parameters_ and again.n_components == 2
    assert again.emission == model.emission_.spec
    assert (
        type(again.emission)
        .__name__.lower()
        .replace("_", "")
        .startswith({"nb": "negative"}.get(kind(name), kind(name)))
    )
    refit = clone(again).set_params(random_state=0).fit(rows(name))
    assert np.isfinite(refit.score(X))
    again.partial_fit(rows(name))
    assert np.isfinite(again.score(X))
    for copy in (pickle.loads(pickle.dumps(model)), clone(model).fit(rows(name))):
        assert_array_equal(copy.score_samples(X), model.score_samples(X))


@sweep(MODELS)
def test_free_parameters_and_criteria(name):
    X, model = rows(name, holes=True), fitted(name, holes=True)
    free = 1 + 2 * 3 * FREE.get(name, FREE[kind(name)])
    assert model.n_parameters_ == free
    total = model.score_samples(X).sum()
    assert model.aic(X) == pytest.approx(-2 * total + 2 * free)
    assert model.bic(X) == pytest.approx(-2 * total + free * np.log(len(X)))


# --- parts of a model, and what is missing ----------------------------------------------------


@pytest.mark.parametrize("known", [[0], [2, 0], [1]])
@sweep(MODELS)
def test_marginal_times_conditional_is_the_joint(name, known):
    model, X = fitted(name, holes=True), rows(name)
    rest = np.setdiff1d(np.arange(3), known)
    part = model.marginal(known)
    assert type(part) is Mixture and part.emission == model.emission
    for row in X[:6]:
        given = model.condition(known, row[known])
        total = part.score_samples(row[None, known]) + given.score_samples(row[None, rest])
        assert_allclose(total, model.score_samples(row[None]), rtol=1e-9)


@sweep(MODELS)
def test_regression_is_by_enumeration(name):
    model, row, pairs = fitted(name), rows(name)[0], support(name, 2)
    filled = np.column_stack([pairs[:, 0], np.full(len(pairs), row[1]), pairs[:, 1]])
    log_p = model.score_samples(filled)
    p = np.exp(log_p - logsumexp(log_p))
    mean, covariance = model.regress(row[None], [0, 2])
    assert_allclose(mean[0], p @ pairs, atol=1e-9)
    gap = pairs - mean[0]
    assert_allclose(covariance[0], (gap * p[:, None]).T @ gap, atol=1e-8)
    assert_allclose(model.impute([[np.nan, row[1], np.nan]])[0, [0, 2]], p @ pairs, atol=1e-9)


@pytest.mark.parametrize("how", ["mean", "mode", "sample"])
@sweep(MODELS)
def test_imputing_leaves_what_was_seen(name, how):
    X, model = rows(name, holes=True), fitted(name, holes=True)
    filled = model.impute(X, how=how, random_state=0)
    seen = ~np.isnan(X)
    assert np.isfinite(filled).all() and filled[seen].tobytes() == X[seen].tobytes()
    if how != "mean":
        model.score_samples(filled)  # in the support
        assert (filled % 1 == 0).all()


@sweep(MODELS)
def test_imputation_draws_follow_the_conditional(name):
    model, row, pairs = fitted(name), rows(name)[0], support(name, 2)
    filled = np.column_stack([pairs[:, 0], np.full(len(pairs), row[1]), pairs[:, 1]])
    log_p = model.score_samples(filled)
    p = np.exp(log_p - logsumexp(log_p))
    gaps = np.tile([np.nan, row[1], np.nan], (4000, 1))
    draws = model.impute(gaps, how="sample", random_state=0)
    within_5_se(model.score_samples(draws), p @ log_p)
    within_5_se(draws[:, 0] * draws[:, 2], p @ pairs.prod(axis=1))


@sweep(MODELS)
def test_the_imputed_mode_is_the_highest_point(name):
    model = make(name).set_params(n_components=3).fit(rows(name, holes=True))
    pairs = support(name, 2)
    for row in rows(name)[:10]:
        for gaps in ([0, 2], [1, 2], [0]):
            candidates = np.tile(row, (len(pairs), 1))
            candidates[:, gaps] = pairs[:, : len(gaps)]
            (mode,) = model.impute(np.where(np.isin(np.arange(3), gaps), np.nan, row)[None], "mode")
            best = model.score_samples(candidates).max()
            assert model.score_samples(mode[None])[0] == pytest.approx(best, abs=1e-12)


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [-1.0, 0.5, 60.25])
@sweep(MODELS)
def test_what_is_no_count_is_refused_with_one_message(name, wrong):
    X = rows(name, holes=True).copy()
    X[5, 2] = wrong
    pattern = f"Negative values in data, or fractions: .* needs .*, got {wrong:g}$"
    with pytest.raises(ValueError, match=pattern):
        make(name).fit(X)
    with pytest.raises(ValueError, match=pattern):
        fitted(name).score_samples(X)
    with pytest.raises(ValueError, match=pattern):
        make(name).fit(rows(name)).partial_fit(X)


@pytest.mark.parametrize("spec", [Bernoulli, Categorical, Poisson, NegativeBinomial])
@pytest.mark.parametrize("pseudo", [-1.0, np.inf, np.nan, "one", True])
def test_pseudo_observations_that_are_refused(spec, pseudo):
    with pytest.raises(ValueError, match=f"{spec.__name__}: pseudo must not be negative, got"):
        Mixture(2, emission=spec(pseudo=pseudo)).fit(rows("bernoulli"))


# --- scikit-learn -----------------------------------------------------------------------------


@sweep(MODELS)
def test_tags_follow_the_emission(name):
    tags = MODELS[name].__sklearn_tags__().input_tags
    assert tags.positive_only and tags.categorical and tags.allow_nan
    plain = Mixture(emission="gaussian").__sklearn_tags__().input_tags
    assert not plain.positive_only and not plain.categorical
    assert not Mixture(emission="nonsense").__sklearn_tags__().input_tags.positive_only


def test_a_grid_search_chooses_the_emission():
    grid = {"emission": ["poisson", NegativeBinomial(), NegativeBinomial(pseudo=0.3)]}
    search = GridSearchCV(make("nb"), grid, cv=3, error_score="raise").fit(rows("nb"))
    assert search.best_params_["emission"] != "poisson"


# scikit-learn's one check that heeds no tags draws its rows from [0, 1].
NO_TAGS = {"check_sample_weight_equivalence_on_dense_data"}


@pytest.mark.filterwarnings("ignore")
@sweep(["categorical", "poisson"])
def test_every_check_that_heeds_the_tags_passes(name):
    results = check_estimator(make(name), on_skip=None, on_fail=None)
    left = [r for r in results if r["status"] != "passed" and r["check_name"] not in NO_TAGS]
    assert [(r["check_name"], r["status"], str(r["exception"])) for r in left] == []
    assert len(results) >= 50


class Mapped(Mixture):
    """For these checks only: validation maps any number into the support."""

    top = 2  # values of the support

    def _into(self, X):
        table = np.asarray(X)
        if table.ndim != 2 or not table.size or not np.isreal(table).all():
            return X  # for validation to refuse
        return np.floor(np.abs(np.asarray(table, float) * 3.0)) % self.top

    def fit(self, X, y=None, sample_weight=None, *, labels=None):
        return super().fit(self._into(X), y, sample_weight, labels=labels)

    def partial_fit(self, X, y=None, sample_weight=None):
        return super().partial_fit(self._into(X), y, sample_weight)

    def _read_all(self, X):
        return self._into(super()._read_all(X))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = tags.input_tags.categorical = False
        return tags


class MappedToMany(Mapped):
    """The same with more values."""

    top = 7


@pytest.mark.filterwarnings("ignore")
@sweep(["bernoulli", "categorical", "poisson", "nb"])
def test_every_check_passes_where_validation_maps_into_the_support(name):
    cls = Mapped if name == "bernoulli" else MappedToMany
    model = cls(2, emission=MODELS[name].emission, random_state=0)
    results = check_estimator(model, on_skip=None, on_fail=None)
    left = [r for r in results if r["status"] != "passed"]
    assert [(r["check_name"], r["status"], str(r["exception"])) for r in left] == []
