"""Maximum likelihood solutions of tables that statistics books print, and a second solver."""

from functools import cache

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import minimize

from sklvm import EMFactorAnalysis

TIGHT = {"heywood_penalty": 0.0, "tol": 1e-14, "max_iter": 5000}

# Covariances of six tests of 112 people: general, picture, blocks, maze, reading, vocab.
# Bartholomew & Knott (1999), Latent Variable Models and Factor Analysis; `ability.cov` in R.
ABILITY = np.array(
    [
        [24.641, 5.991, 33.520, 6.023, 20.755, 29.701],
        [5.991, 6.700, 18.137, 1.782, 4.936, 7.204],
        [33.520, 18.137, 149.831, 19.424, 31.430, 50.753],
        [6.023, 1.782, 19.424, 12.711, 4.757, 9.075],
        [20.755, 4.936, 31.430, 4.757, 52.604, 66.762],
        [29.701, 7.204, 50.753, 9.075, 66.762, 135.292],
    ]
)
# Correlations of six measures of 47 Swiss provinces in 1888: fertility, agriculture, examination,
# education, catholic, infant mortality. Mosteller & Tukey (1977), Data Analysis and Regression;
# `cor(swiss)` in R.
SWISS = np.array(
    [
        [1, 0.3530792, -0.6458827, -0.6637889, 0.4636847, 0.4165560],
        [0.3530792, 1, -0.6865422, -0.6395225, 0.4010951, -0.0608586],
        [-0.6458827, -0.6865422, 1, 0.6984153, -0.5727418, -0.1140216],
        [-0.6637889, -0.6395225, 0.6984153, 1, -0.1538589, -0.0993218],
        [0.4636847, 0.4010951, -0.5727418, -0.1538589, 1, 0.1754959],
        [0.4165560, -0.0608586, -0.1140216, -0.0993218, 0.1754959, 1],
    ]
)
# Eleven measures of 32 cars: mpg, cyl, disp, hp, drat, wt, qsec, vs, am, gear, carb. Henderson &
# Velleman (1981), Biometrics 37; `mtcars` in R.
CARS = np.loadtxt(
    """
    21 6 160 110 3.9 2.62 16.46 0 1 4 4
    21 6 160 110 3.9 2.875 17.02 0 1 4 4
    22.8 4 108 93 3.85 2.32 18.61 1 1 4 1
    21.4 6 258 110 3.08 3.215 19.44 1 0 3 1
    18.7 8 360 175 3.15 3.44 17.02 0 0 3 2
    18.1 6 225 105 2.76 3.46 20.22 1 0 3 1
    14.3 8 360 245 3.21 3.57 15.84 0 0 3 4
    24.4 4 146.7 62 3.69 3.19 20 1 0 4 2
    22.8 4 140.8 95 3.92 3.15 22.9 1 0 4 2
    19.2 6 167.6 123 3.92 3.44 18.3 1 0 4 4
    17.8 6 167.6 123 3.92 3.44 18.9 1 0 4 4
    16.4 8 275.8 180 3.07 4.07 17.4 0 0 3 3
    17.3 8 275.8 180 3.07 3.73 17.6 0 0 3 3
    15.2 8 275.8 180 3.07 3.78 18 0 0 3 3
    10.4 8 472 205 2.93 5.25 17.98 0 0 3 4
    10.4 8 460 215 3 5.424 17.82 0 0 3 4
    14.7 8 440 230 3.23 5.345 17.42 0 0 3 4
    32.4 4 78.7 66 4.08 2.2 19.47 1 1 4 1
    30.4 4 75.7 52 4.93 1.615 18.52 1 1 4 2
    33.9 4 71.1 65 4.22 1.835 19.9 1 1 4 1
    21.5 4 120.1 97 3.7 2.465 20.01 1 0 3 1
    15.5 8 318 150 2.76 3.52 16.87 0 0 3 2
    15.2 8 304 150 3.15 3.435 17.3 0 0 3 2
    13.3 8 350 245 3.73 3.84 15.41 0 0 3 4
    19.2 8 400 175 3.08 3.845 17.05 0 0 3 2
    27.3 4 79 66 4.08 1.935 18.9 1 1 4 1
    26 4 120.3 91 4.43 2.14 16.7 0 1 5 2
    30.4 4 95.1 113 3.77 1.513 16.9 1 1 5 2
    15.8 8 351 264 4.22 3.17 14.5 0 1 5 4
    19.7 6 145 175 3.62 2.77 15.5 0 1 5 6
    15 8 301 335 3.54 3.57 14.6 0 1 5 8
    21.4 4 121 109 4.11 2.78 18.6 1 1 4 2
    """.splitlines()
)

TABLES = {
    "ability": (ABILITY, 112),
    "swiss": (SWISS, 47),
    "mtcars": (np.corrcoef(CARS.T), 32),
}


def correlations(S):
    sd = np.sqrt(np.diag(S))
    return S / np.outer(sd, sd)


def discrepancy(v, R, q):
    """log |S| + tr R S^-1 with S = L L' + diag(psi), by L (d, q) and log psi; and its gradient."""
    d = len(R)
    L, psi = v[: d * q].reshape(d, q), np.exp(v[d * q :])
    S = L @ L.T + np.diag(psi)
    inverse = np.linalg.inv(S)
    G = inverse - inverse @ R @ inverse
    value = np.linalg.slogdet(S)[1] + np.trace(R @ inverse)
    return value, np.concatenate([(2 * G @ L).ravel(), np.diag(G) * psi])


@cache
def second_solver(table, q, least):
    """All loadings and uniquenesses at once, uniquenesses from `least` up: -> least value, psi."""
    R, found = correlations(TABLES[table][0]), []
    d = len(R)
    bounds = [(None, None)] * (d * q) + [(np.log(least), None)] * d
    for seed in range(4):
        rng = np.random.default_rng(seed)
        start = np.concatenate([0.5 * rng.normal(size=d * q), np.log(rng.uniform(0.2, 0.8, d))])
        settings = {"maxiter": 20000, "maxfun": 40000, "ftol": 1e-16, "gtol": 1e-10, "maxcor": 50}
        result = minimize(
            discrepancy, start, (R, q), "L-BFGS-B", jac=True, bounds=bounds, options=settings
        )
        found.append((result.fun, np.exp(result.x[d * q :])))
    return min(found, key=lambda one: one[0])


def fit(table, q):
    S, n = TABLES[table]
    return EMFactorAnalysis(q, **TIGHT).fit_covariance(S, n)


def least_value(table, q):
    """What the fit reaches, in the second solver's units: the log-likelihood of correlations."""
    R, n = correlations(TABLES[table][0]), TABLES[table][1]
    model = EMFactorAnalysis(q, **TIGHT).fit_covariance(R, n)
    return -2 * model.history_[-1] - len(R) * np.log(2 * np.pi)


# Uniquenesses and the likelihood ratio test as R's `factanal(covmat=ability.cov, factors=2)` and
# `factanal(mtcars, factors=3)` print them: statistic with Bartlett's correction, to two digits.
PRINTED = {
    ("ability", 1): ([0.535, 0.853, 0.748, 0.910, 0.232, 0.280], 75.18, 9),
    ("ability", 2): ([0.455, 0.589, 0.218, 0.769, 0.052, 0.334], 6.11, 4),
    ("mtcars", 3): (
        [0.135, 0.055, 0.090, 0.127, 0.290, 0.060, 0.051, 0.223, 0.208, 0.125, 0.158],
        30.53,
        25,
    ),
}


@pytest.mark.parametrize(("table", "q"), PRINTED)
def test_factanal_prints_the_same(table, q):
    uniquenesses, statistic, df = PRINTED[table, q]
    model, (S, n) = fit(table, q), TABLES[table]
    assert_allclose(model.uniquenesses_, uniquenesses, atol=6e-4)  # three digits are printed
    d = len(S)
    rest = least_value(table, q) - np.linalg.slogdet(correlations(S))[1] - d
    assert (n - 1 - (2 * d + 5) / 6 - 2 * q / 3) * rest == pytest.approx(statistic, abs=6e-3)
    assert d * (d + 1) / 2 + d - model.n_parameters_ == df


INTERIOR = [("ability", 1), ("ability", 2), ("mtcars", 1), ("mtcars", 2), ("mtcars", 3)]
INTERIOR += [("swiss", 1)]


@pytest.mark.parametrize(("table", "q"), INTERIOR)
def test_a_second_solver_finds_the_same(table, q):
    value, psi = second_solver(table, q, 1e-6)
    model = fit(table, q)
    assert_allclose(model.uniquenesses_, psi, atol=1e-6)
    assert least_value(table, q) == pytest.approx(value, abs=1e-9)
    assert not model.heywood_.any()


HEYWOOD = {("swiss", 2): 3, ("swiss", 3): 0, ("mtcars", 4): 2}  # the column


@pytest.mark.parametrize(("table", "q"), HEYWOOD)
def test_a_heywood_case_is_followed_to_the_edge(table, q):
    """The likelihood sends one uniqueness to zero; factanal stops it at 0.005, which is less."""
    model, (_, free), (bounded, held) = (
        fit(table, q),
        second_solver(table, q, 1e-8),
        second_solver(table, q, 0.005),
    )
    assert_allclose(model.uniquenesses_, free, atol=1e-4)
    assert np.flatnonzero(model.heywood_).tolist() == [HEYWOOD[table, q]]
    assert held[HEYWOOD[table, q]] == pytest.approx(0.005)
    assert least_value(table, q) < bounded - 1e-5


def test_rows_and_their_correlations_say_the_same():
    rows, matrix = EMFactorAnalysis(3, **TIGHT).fit(CARS), fit("mtcars", 3)
    assert_allclose(rows.uniquenesses_, matrix.uniquenesses_, atol=1e-7)
    em = EMFactorAnalysis(3, solver="em", **{**TIGHT, "max_iter": 50000}).fit(CARS)
    assert_allclose(em.uniquenesses_, second_solver("mtcars", 3, 1e-6)[1], atol=1e-4)
