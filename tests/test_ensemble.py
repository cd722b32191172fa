"""The ensemble is the average of its members, member sizes add up, and it is what wrappers use."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import logsumexp
from sklearn.metrics import roc_auc_score

from sklvm import (
    DensityOutlierDetector,
    GaussianMixture,
    GaussianMixtureEnsemble,
)
from sklvm.emissions.dense import Full
from sklvm.ensemble import _shared, member_sizes
from tests._models import rows

PARTS = (slice(0, 2), slice(2, 5))  # components of the two members of five


def members(model):
    """The members of an ensemble (5, n_members=2) as mixtures of their own."""
    share = 1 / len(PARTS)
    for part in PARTS:
        yield GaussianMixture.from_parameters(
            weights=model.weights_[part] / share,
            means=model.means_[part],
            covariances=model.covariances_[part],
            covariance_type=model.covariance_type,
        )


@pytest.mark.parametrize("covariance_type", ["full", "diag", "spherical"])
@pytest.mark.parametrize("holes", [False, True], ids=["complete", "holes"])
def test_the_density_is_the_mean_of_the_members(covariance_type, holes):
    X = rows(holes=holes)
    model = GaussianMixtureEnsemble(
        5, n_members=2, covariance_type=covariance_type, random_state=0
    ).fit(X)
    assert model.sizes_ == (2, 3)
    scores = [member.score_samples(X) for member in members(model)]
    assert_allclose(model.score_samples(X), logsumexp(scores, axis=0) - np.log(2), rtol=1e-10)
    assert (model.score_samples(X) >= np.mean(scores, axis=0) - 1e-9).all()  # Jensen


@pytest.mark.parametrize("holes", [False, True], ids=["complete", "holes"])
def test_companions_condition_on_the_rows_that_share_a_component(holes):
    """p(x | c more draws share its component), by Bayes over the component of each member."""
    X, c = rows(holes=holes), 3
    settings = {"n_components": 5, "n_members": 2, "random_state": 0}
    plain = GaussianMixtureEnsemble(**settings).fit(X)
    shared = GaussianMixtureEnsemble(**settings, n_companions=c).fit(X)
    assert_allclose(shared.means_, plain.means_)
    assert_allclose(shared.history_, plain.history_)  # the members are the same
    scores = []
    for member in members(plain):
        joint = np.log(member.weights_) + member.state_.emission.log_prob(X)  # log p(x, z = k)
        together = c * np.log(member.weights_)  # log p(c draws have z = k)
        chance = np.sum(member.weights_ ** (1 + c))  # of 1 + c draws from one component
        scores.append(logsumexp(joint + together, axis=1) - np.log(chance))
    assert_allclose(shared.score_samples(X), logsumexp(scores, axis=0) - np.log(2), rtol=1e-9)
    assert shared.weights_.sum() == pytest.approx(1.0)


def test_an_empty_component_has_no_companions():
    assert_allclose(_shared(np.array([0.5, 0.5, 0.0]), 5, 1.0), [0.5, 0.5, 0.0])
    assert_allclose(_shared(np.full(500, 1 / 500), 200, 1.0), 1 / 500)  # 500 ** -200 underflows


def test_a_large_group_needs_no_more_companions():
    weights = np.array([0.5, 0.3, 0.15, 0.05])
    expected = weights * np.array([1.0, 1.0, (0.15 / 0.2) ** 3, (0.05 / 0.2) ** 3])
    assert_allclose(_shared(weights, 3, 0.2), expected / expected.sum())


@pytest.mark.parametrize("covariance_type", ["full", "diag", "spherical"])
@pytest.mark.parametrize("reach", [0.5, 2.0])
def test_reach_adds_the_precision_of_a_gaussian_as_wide_as_the_columns(covariance_type, reach):
    X = rows(holes=True)
    settings = {"n_members": 2, "covariance_type": covariance_type, "random_state": 0}
    plain = GaussianMixtureEnsemble(5, **settings).fit(X)
    near = GaussianMixtureEnsemble(5, **settings, reach=reach).fit(X)
    assert_allclose(near.means_, plain.means_)
    assert_allclose(near.history_, plain.history_)  # the members are the same
    for member, part in zip(members(plain), PARTS):
        variances = member.sample(200_000, random_state=0)[0].var(axis=0)
        far = np.diag(reach**2 * variances)
        if covariance_type == "spherical":  # one variance for all columns
            far = np.eye(3) * np.trace(far) / 3
        S, narrow = member.state_.emission.cov.dense(), near.state_.emission.cov.dense()[part]
        expected = np.linalg.inv(np.linalg.inv(S) + np.linalg.inv(far))
        assert_allclose(narrow, expected, rtol=0.02, atol=0.002 * S.max())


def test_reach_of_matrices_that_are_nearly_singular():
    """Inverting such a matrix leaves no digit of its long axis; the sum of precisions keeps all."""
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    S = turn @ np.diag([1e-14, 1.0, 1e4]) @ turn.T
    cov = Full.of(S[None], None).narrowed(np.full(3, 4.0))
    v = np.array([1e-14, 1.0, 1e4])
    assert_allclose(cov.S[0], turn @ np.diag(v / (1 + v / 4)) @ turn.T, rtol=1e-6, atol=1e-9)


def test_members_are_mixtures_of_their_own_start():
    X = rows(holes=True)
    model = GaussianMixtureEnsemble(5, n_members=2, tol=1e-9, random_state=0).fit(X)
    for member, part, size in zip(members(model), PARTS, model.sizes_):
        again = GaussianMixture(
            size,
            weights_init=member.weights_,
            means_init=member.means_,
            precisions_init=np.linalg.inv(member.covariances_),
            tol=1e-9,
        ).fit(X)  # a maximum of the same objective: EM from there stays there
        assert_allclose(again.means_, model.means_[part], rtol=1e-3)
    assert model.history_[-1] == pytest.approx(
        np.mean([_objective(X, member) for member in members(model)]), rel=1e-9
    )


def _objective(X, member):
    """What EM climbs at the member's parameters: the start of a fit that is told to stop there."""
    fit = GaussianMixture(
        member.n_components,
        weights_init=member.weights_,
        means_init=member.means_,
        precisions_init=np.linalg.inv(member.covariances_),
        tol=1e9,
        n_init=1,
    ).fit(X)
    return fit.history_[0]


def test_one_member_is_a_gaussian_mixture():
    X = rows()
    one = GaussianMixtureEnsemble(3, n_members=1, tol=1e-6, random_state=0).fit(X)
    assert one.sizes_ == (3,)
    alone = GaussianMixture(3, tol=1e-6, n_init=20, random_state=0).fit(X)
    assert one.n_parameters_ == alone.n_parameters_
    assert one.score(X) <= alone.score(X) + 1e-3  # no start beats the best of twenty


@pytest.mark.parametrize("total", [1, 2, 7, 60])
@pytest.mark.parametrize("n_members", [1, 2, 5, 9])
def test_sizes_add_up(total, n_members):
    sizes = member_sizes(total, n_members)
    assert sizes.sum() == total and len(sizes) == min(total, n_members)
    assert sizes.min() >= 1 and np.ptp(sizes) <= 1


def test_few_rows_have_small_members():
    X = rows(n=20)
    assert GaussianMixtureEnsemble(random_state=0).fit(X).sizes_ == (4,) * 5
    weight = np.full(20, 2.0)
    assert GaussianMixtureEnsemble(random_state=0).fit(X, sample_weight=weight).sizes_ == (8,) * 5
    assert GaussianMixtureEnsemble(random_state=0).fit(X[:2]).sizes_ == (1,) * 5


def test_from_parameters_knows_its_members():
    model = GaussianMixtureEnsemble(5, n_members=2, random_state=0).fit(rows())
    given = {"weights": model.weights_, "means": model.means_, "covariances": model.covariances_}
    again = GaussianMixtureEnsemble.from_parameters(**given, sizes=(2, 3))
    assert (again.n_components, again.n_members) == (5, 2)
    assert again.n_parameters_ == model.n_parameters_
    assert GaussianMixtureEnsemble.from_parameters(**given).sizes_ == (5,)
    for sizes in ((2, 2), (0, 5), ()):
        with pytest.raises(ValueError, match="sizes must be positive with sum 5"):
            GaussianMixtureEnsemble.from_parameters(**given, sizes=sizes)
    with pytest.raises(ValueError, match="covariance_type must be one of"):
        GaussianMixtureEnsemble.from_parameters(**given, covariance_type="tied")


def test_parts_are_gaussian_mixtures():
    model = GaussianMixtureEnsemble(5, n_members=2, random_state=0).fit(rows())
    part = model.marginal([0, 1])
    assert type(part) is GaussianMixture and part.n_parameters_ == 4 + 10 + 15
    assert model.n_parameters_ == 3 + 15 + 30  # five weights, with two sums to keep


def test_what_it_is_the_default_of():
    fitted = DensityOutlierDetector(random_state=0).fit(rows()).estimator_
    assert type(fitted) is GaussianMixtureEnsemble
    assert (fitted.n_companions, fitted.largest_group, fitted.reach) == (6, 0.2, 1.0)


@pytest.mark.parametrize("seed", range(3))
def test_the_default_ranks_a_group_of_anomalies_in_training_below_normal_rows(seed):
    """A tight group of 5 % beside two broad ones: the plain density is highest where it lies."""
    rng = np.random.default_rng(seed)
    normal = rng.normal(size=(475, 4)) + 4.0 * (rng.uniform(size=475) < 0.5)[:, None]
    group = 0.3 * rng.normal(size=(25, 4)) + [8.0, -4.0, 8.0, -4.0]
    X, anomaly = np.concatenate([normal, group]), np.arange(500) >= 475

    def area(density):
        detector = DensityOutlierDetector(density, cv=None, random_state=0).fit(X)
        return roc_auc_score(anomaly, -detector.score_samples(X))

    assert area(None) > 0.85 > 0.15 > area(GaussianMixtureEnsemble(50))


def test_the_default_finds_what_lies_between_clusters():
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, 600)
    ring = np.column_stack([np.cos(angle), np.sin(angle)]) + 0.05 * rng.normal(size=(600, 2))
    detector = DensityOutlierDetector(random_state=0).fit(ring[:300])
    inside = 0.5 * ring[300:]
    assert detector.pvalue(inside).max() < 0.02
    assert np.mean(detector.pvalue(ring[300:]) < 0.1) < 0.2
