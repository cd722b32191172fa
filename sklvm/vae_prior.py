"""The prior of an autoencoder: standard normal, or a mixture fitted to what the encoder says."""

import warnings
from dataclasses import replace

import numpy as np
import torch

from .inference.start import spread
from .inference.training_rows import round_significant
from .mixture import GaussianMixture
from .networks.priors import mixture_parameters

MOST_POINTS = 10_000  # that a mixture is fitted to
MOST_DRAWS = 4  # of each row's latents among them: a smooth picture of few rows
SIZES = (3, 10, 30)  # of the mixtures that "auto" tries
ROWS_EACH = 10  # training rows, at least, for each component of those
QUICK = {"tol": 1e-4, "n_init": 3, "split_merge": False}  # the rest gains little and costs much
USUAL_SIZE = 10  # of a mixture that trains with the networks


def unchanged(state, posterior, weight, K, rng):
    """The standard normal, which has no parameters."""
    return state


def clustered(state, posterior, weight, K, rng):
    """The same state with a mixture of K Gaussians fitted to draws from q(z | x).

    `posterior(rows)` is q of those training rows, whose counts are `weight`.
    """
    K = USUAL_SIZE if K == "auto" else K
    chosen = spread(weight, min(MOST_POINTS, max(2 * K, round(weight.sum()))))
    draws = min(MOST_DRAWS, max(1, MOST_POINTS // len(chosen)))
    q = posterior(chosen)
    noise = rng.standard_normal((draws, *q.mean.shape))
    Z = q.at(torch.from_numpy(noise)).flatten(0, 1).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a start need not have converged
        mixture = GaussianMixture(K, random_state=int(rng.integers(2**31)), **QUICK)
        mixture.fit(Z, sample_weight=np.full(len(Z), 1 / draws))
    roots = mixture.precisions_cholesky_.transpose(0, 2, 1)
    prior = mixture_parameters(mixture.weights_, mixture.means_, roots)
    dtype = state.parameters["encoder.log_sd"].dtype
    prior = {name: round_significant(v).astype(dtype) for name, v in prior.items()}
    return replace(state, parameters=state.parameters | prior)


def no_other(state, posterior, weight, K, rng):
    """Nothing to put in the place of the prior that trained."""
    return []


def mixtures(state, posterior, weight, K, rng):
    """`clustered` of K components, or of each size that the rows can bear."""
    sizes = [k for k in SIZES if k * ROWS_EACH <= weight.sum()] if K == "auto" else [K]
    return [clustered(state, posterior, weight, k, rng) for k in sizes]


def in_order(parameters):
    """The components of a mixture prior by descending weight, ties by their means."""
    if "prior.logits" not in parameters:
        return parameters
    logits = parameters["prior.logits"].astype(np.float64)
    share = np.round(np.exp(logits - np.logaddexp.reduce(logits)), 6)
    order = np.lexsort((*parameters["prior.means"].T[::-1], -share))
    return parameters | {k: v[order] for k, v in parameters.items() if k.startswith("prior.")}


# prior -> what is done before training, and what is proposed to held-out rows after it
PRIORS = {
    "normal": (unchanged, no_other),
    "mixture": (clustered, no_other),
    "auto": (unchanged, mixtures),
}
