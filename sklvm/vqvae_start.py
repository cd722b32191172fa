"""Where a vector-quantised autoencoder starts: factor analysis, its scores divided by k-means++."""

import warnings

import numpy as np
import torch
from sklearn.cluster import KMeans

from .inference.sgd import round_significant
from .inference.start import thinned
from .networks.codebook import Quantiser, chain_prior
from .networks.likelihoods.base import Factors
from .networks.linear import linear_parameters
from .networks.posteriors import Diagonal
from .vae_start import SOLVERS, factor_model

SAMPLE = 5000  # rows that k-means looks at


def quantised_start(rows, shape, architecture, likelihood, rng):
    """Arrays of a `Quantiser` of (P, K, m) entries, and the p(c) that goes with them: dict, (C,).

    Encoder and decoder are those of the linear model; the noise of the decoder is what code vectors
    leave unexplained.
    """
    P, K, m = shape
    working = likelihood.working(rows.X, rows.weight)
    factors = factor_model(SOLVERS[likelihood.solver], working, rows.weight, P * m, rng)
    linear = likelihood.linear(rows.X, rows.weight, factors)
    parameters = linear_parameters(linear, architecture, likelihood, rng, Diagonal)
    parameters["codebook"] = np.zeros(shape)
    Z = _encoded(Quantiser.of(parameters, likelihood, architecture), rows.X)  # (n, P, m)
    some, mass = _few(rows.weight)
    book = [_centres(Z[some, p], mass, K, rng) for p in range(P)]
    parameters["codebook"] = round_significant(np.stack(book))
    apart = ((Z[:, :, None] - parameters["codebook"]) ** 2).sum(axis=-1)
    codes = apart.argmin(axis=-1)  # (n, P)
    named = parameters["codebook"][np.arange(P), codes].reshape(len(Z), -1)
    W = factors.W @ _rotation(linear)
    left = _seen_square(working - factors.mean - named @ W.T, rows.weight)
    again = likelihood.linear(rows.X, rows.weight, Factors(factors.mean, factors.W, left))
    parameters["decoder.skip.bias"], parameters["decoder.constants"] = again[1:3]
    parameters = {name: round_significant(v) for name, v in parameters.items()}
    counts = np.zeros((K,) * P)
    np.add.at(counts, tuple(codes.T), rows.weight)
    return parameters, chain_prior(counts).ravel()


def _rotation(linear):
    """How `linear_parameters` turns the latents: -> (q, q)."""
    return np.linalg.eigh((linear.information + linear.information.T) / 2)[1][:, ::-1]


def _seen_square(v, weight):
    """Weighted mean squares of the seen entries: (n, m) -> (m,)."""
    return weight @ np.nan_to_num(v) ** 2 / (weight @ ~np.isnan(v))


def _encoded(module, X):
    with torch.no_grad():
        return module.encode(torch.from_numpy(X)).numpy()


def _few(weight):
    """Positions of the rows that k-means looks at, and what each of them stands for."""
    if len(weight) <= SAMPLE:
        return np.arange(len(weight)), weight
    return thinned(weight, SAMPLE)


def _centres(Z, weight, K, rng):
    """Centres of k-means from a k-means++ start; with fewer rows than K they repeat: (K, m)."""
    seed, n = int(rng.integers(2**31 - 1)), min(K, len(Z))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a start need not have converged, or K distinct points
        centres = KMeans(n, n_init=1, random_state=seed).fit(Z, sample_weight=weight)
    return centres.cluster_centers_[np.arange(K) % n]
