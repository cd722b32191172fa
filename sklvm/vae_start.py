"""Where an autoencoder starts: the linear model that fits best, in the units it trains in."""

import warnings

import numpy as np
import torch

from .factor_analysis import EMFactorAnalysis
from .inference.factor_count import parallel_analysis
from .inference.moments import pooled_moments
from .inference.regression import Directions, slopes_on
from .networks.likelihoods.base import Factors

ASLEEP = 0.2  # information about a factor that it costs 0.01 nats per row at most to do without
SMALL_LOADING = 0.01  # of a latent that the linear start has no use for


def _factors(X, weight, q):
    """Mean, loadings and uniquenesses of factor analysis: (d,), (d, q), (d,)."""
    enough = max(1.0, (1 + 1e-12) * 2.0 / weight.sum())  # for a covariance
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a start need not have converged
        model = EMFactorAnalysis(q).fit(X, sample_weight=weight * enough)
    return model.mean_, *_awake(model.components_.T.copy(), model.noise_variance_.copy())


def _awake(W, noise):
    """Loadings (d, q) without a factor that explains next to nothing, and the noise (d,).

    Such a factor would stay unused. Its share goes back to the noise, and it takes half the noise
    of one column instead: that changes no variance and the network has something to bend.
    """
    asleep = np.flatnonzero((W**2 / noise[:, None]).sum(axis=0) < ASLEEP)
    noise += (W[:, asleep] ** 2).sum(axis=1)
    W[:, asleep] = 0.0
    for factor, column in zip(asleep, np.argsort(-noise, kind="stable")):
        noise[column] /= 2
        W[column, factor] = np.sqrt(noise[column])
    return W, noise


def _principal(X, weight, q):
    """The same of probabilistic PCA, with one noise variance (Tipping & Bishop 1999, 7-8)."""
    mean, S = pooled_moments(X, weight)
    values, vectors = np.linalg.eigh(S)
    q_data = min(q, len(S))
    left_over = values[: len(S) - q_data]
    noise = max(left_over.mean() if len(left_over) else values[0] / 2, 0.0)
    W = np.zeros((len(S), q))
    lead = slice(len(S) - q_data, None)
    W[:, :q_data] = vectors[:, lead] * np.sqrt(np.maximum(values[lead] - noise, 0.0))
    return mean, W, np.full(len(S), noise)


def latents_of(rows, likelihood, most, rng):
    """How many latents: two more than parallel analysis finds, at most half of the columns."""
    working = likelihood.working(rows.X, rows.weight)
    _, u = contexts_of(rows, likelihood)
    working = working - u @ slopes_on(u, working, rows.weight)
    working = working[:, np.fmin.reduce(working, axis=0) < np.fmax.reduce(working, axis=0)]
    d = working.shape[1]
    if d < 4:
        return 1  # half of the columns
    enough = max(1.0, 4.0 / rows.weight.sum())  # for correlations
    found, _, _ = parallel_analysis(working, rows.weight * enough, rng)
    return min(d // 2, found + 2, most)


def linear_start(rows, q, likelihood, rng):
    """The linear model of standardised rows whose working variables are a factor model: Linear.

    Of contexts they are a linear regression, whose residuals are that factor model.
    """
    directions, u = contexts_of(rows, likelihood)
    working = likelihood.working(rows.X, rows.weight)
    slopes = slopes_on(u, working, rows.weight)
    left = working - u @ slopes
    factors = factor_model(SOLVERS[likelihood.solver], left, rows.weight, q, rng)
    both = factors._replace(W=np.hstack([factors.W, slopes.T]))
    linear = likelihood.linear(rows.X, rows.weight, both)
    drift = slopes_on(u, likelihood.seen_features(rows.X), rows.weight)
    return linear.of_latents(q, directions, drift)


def contexts_of(rows, likelihood):
    """Directions of the contexts of standardised rows, and the rows along them: (n, r)."""
    context = context_features(rows, likelihood)
    directions = Directions.of(context, rows.weight)
    return directions, directions.along(context)


def context_features(rows, likelihood):
    """What standardised rows are given, as features: (n, n_contexts)."""
    return likelihood.context(torch.from_numpy(rows.X)).numpy()


def factor_model(solve, X, weight, q, rng):
    """`solve` for the columns that vary; the others are noise about 0."""
    varies = np.fmin.reduce(X, axis=0) < np.fmax.reduce(X, axis=0)  # False: all NaN too
    mean, W, noise = np.zeros(len(varies)), np.zeros((len(varies), q)), np.ones(len(varies))
    if varies.any():
        mean[varies], W[varies], noise[varies] = solve(X[:, varies], weight, q)
        noise[~varies] = noise[varies].max()
    unused = ~W.any(axis=0)
    W[:, unused] = SMALL_LOADING * rng.standard_normal((len(W), unused.sum()))
    return Factors(mean, W, noise)


SOLVERS = {"factors": _factors, "principal": _principal}
