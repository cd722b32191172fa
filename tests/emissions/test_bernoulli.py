"""Bernoulli emissions: closed forms, the prior, published latent classes."""

from itertools import product

import numpy as np
import pytest
from numpy.testing import assert_allclose

from sklvm import Bernoulli, Categorical, Mixture
from sklvm.emissions.bernoulli import Bernoullis
from tests.emissions.builders import gradient_at

# Seven pathologists on carcinoma in 118 slides (Landis & Koch 1977, their grades 3 to 5 as 1), the
# patterns of Agresti (2002), Categorical Data Analysis, table 13.1, and how many slides had each.
CARCINOMA = {
    **{"0000000": 34, "0000100": 2, "0100000": 6, "0100001": 1, "0100100": 4, "0100101": 5},
    **{"1000000": 2, "1010101": 1, "1100000": 2, "1100001": 1, "1100100": 2, "1100101": 7},
    **{"1100111": 1, "1101001": 1, "1101101": 2, "1101111": 3, "1110101": 13, "1110111": 5},
    **{"1111101": 10, "1111111": 16},
}
# Three radiologists on pleural thickening in 1692 films (Dayton 1998, table 3.1), in order of
# (A, B, C) from (0, 0, 0) to (1, 1, 1).
PLEURAL = [1513, 23, 59, 12, 21, 19, 11, 34]


@pytest.mark.parametrize("pseudo", [0.0, 1.0, 2.5])
def test_one_component_is_the_average(pseudo):
    X = np.array([[1.0, 0.0], [1.0, np.nan], [0.0, 0.0], [1.0, 1.0]])
    weight = np.array([1.0, 2.0, 3.0, 1.0])
    model = Mixture(emission=Bernoulli(pseudo)).fit(X, sample_weight=weight)
    average = np.array([4 / 7, 1 / 5])  # whatever the prior: it has the average of all rows
    assert_allclose(model.means_[0], average, rtol=1e-12)
    expected = X * np.log(average) + (1 - X) * np.log(1 - average)
    assert_allclose(model.score_samples(X), np.nansum(expected, axis=1), rtol=1e-12)
    prior = pseudo * (average @ np.log(average) + (1 - average) @ np.log(1 - average))
    objective = (weight @ model.score_samples(X) + prior) / 7
    assert model.lower_bound_ == pytest.approx(objective, rel=1e-12)


@pytest.mark.parametrize("pseudo", [0.0, 0.7])
def test_the_m_step_adds_pseudo_rows(pseudo):
    X, resp = np.array([[1.0, 0], [0, np.nan], [1, 1]]), np.array([[0.2, 0.8], [1, 0], [0.5, 0.5]])
    start = Bernoullis(np.full((2, 2), 0.5), pseudo, np.array([0.3, 0.6]))
    found = start.m_step(start.stats(X, resp)).mean
    ones, rows = resp.T @ np.nan_to_num(X), resp.T @ ~np.isnan(X)
    assert_allclose(found, (ones + pseudo * start.centre) / (rows + pseudo), rtol=1e-12)


@pytest.mark.parametrize("pseudo", [0.0, 1.0])
def test_the_gradient_vanishes(pseudo):
    rng = np.random.default_rng(0)
    z = rng.integers(0, 2, 400)
    X = (rng.uniform(size=(400, 5)) < np.array([[0.2], [0.8]])[z]).astype(float)
    X[rng.uniform(size=X.shape) < 0.1] = np.nan
    model = Mixture(2, emission=Bernoulli(pseudo), tol=1e-13, max_iter=9999, random_state=0).fit(X)
    assert np.abs(gradient_at(model.state_, X)).max() < 1e-5


def test_it_is_a_categorical_of_two():
    rng = np.random.default_rng(1)
    X = (rng.uniform(size=(200, 4)) < np.array([[0.2], [0.7]])[rng.integers(0, 2, 200)]).astype(
        float
    )
    X[rng.uniform(size=X.shape) < 0.1] = np.nan
    alike = {"init_params": "random", "split_merge": False, "accelerate": None}  # the same path
    settings = {"random_state": 0, "n_init": 1, **alike}
    one = Mixture(2, emission=Bernoulli(0.8), **settings).fit(X)
    two = Mixture(2, emission=Categorical(2, pseudo=0.8), **settings).fit(X)
    assert_allclose(two.score_samples(X), one.score_samples(X), atol=1e-10)
    assert two.lower_bound_ == pytest.approx(one.lower_bound_, abs=1e-10)
    assert_allclose(two.means_, one.means_, atol=1e-9)
    assert two.n_parameters_ == one.n_parameters_


@pytest.mark.parametrize("spec", [Bernoulli(0.0), Categorical(2, pseudo=0.0)])
@pytest.mark.parametrize(("K", "log_likelihood"), [(2, -317.2568), (3, -293.705)])
def test_latent_classes_as_published(K, log_likelihood, spec):
    """What poLCA (Linzer & Lewis 2011) reports of the carcinoma data."""
    X = np.array([list(pattern) for pattern in CARCINOMA], dtype=float)
    counts = np.array(list(CARCINOMA.values()))
    assert counts.sum() == 118
    model = Mixture(K, emission=spec, random_state=0, tol=1e-9, max_iter=9999)
    model.fit(X, sample_weight=counts)
    assert counts @ model.score_samples(X) == pytest.approx(log_likelihood, abs=5e-4)
    assert model.n_parameters_ == 8 * K - 1


def test_latent_class_probabilities_as_published():
    """Dayton (1998), table 3.2, model I; his program stopped near the fourth digit."""
    X = np.array(list(product([0.0, 1.0], repeat=3)))
    model = Mixture(2, emission=Bernoulli(0.0), random_state=0, tol=1e-12, max_iter=9999)
    model.fit(X, sample_weight=PLEURAL)
    assert_allclose(model.weights_, [0.9455, 0.0545], atol=6e-5)
    positive = [[0.0100, 0.0354, 0.0109], [0.7490, 0.6434, 0.7650]]
    assert_allclose(model.means_, positive, atol=2e-4)
    assert PLEURAL @ model.score_samples(X) == pytest.approx(-891.1428, abs=1e-4)


def test_columns_that_are_always_one_or_zero_within_a_component():
    X = np.repeat([[1.0, 1, 0], [0, 0, 0], [0, 1, 1]], [10, 10, 5], axis=0)
    for pseudo in (0.0, 1.0):
        model = Mixture(3, emission=Bernoulli(pseudo), random_state=0).fit(X)
        assert np.isfinite(model.score_samples(np.array(list(product([0.0, 1.0], repeat=3))))).all()
        assert ((model.means_ > 0) & (model.means_ < 1)).all()
    with pytest.warns(UserWarning, match="columns .1. are constant"):
        model = Mixture(2, emission="bernoulli", random_state=0).fit(X[X[:, 1] == 1])
    assert (model.means_[:, 1] == 1).all() and np.isfinite(model.score(X))
