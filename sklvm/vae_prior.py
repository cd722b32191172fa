"""The prior of an autoencoder: standard normal, or a mixture fitted to what the encoder says."""

import warnings
from dataclasses import replace

import numpy as np
import torch

from .inference.start import spread
from .inference.training_rows import round_significant
from .mixture import GaussianMixture
from .networks.priors import mixture_parameters

MOST_ROWS = 10_000  # whose latents a mixture is fitted to


def unchanged(state, rows, K, rng):
    """The standard normal, which has no parameters."""
    return state


def clustered(state, rows, K, rng):
    """The same state with a mixture fitted to one draw from q(z | x) of each training row."""
    chosen = spread(rows.weight, min(MOST_ROWS, max(2 * K, round(rows.weight.sum()))))
    q = state.model().encoder(torch.from_numpy(rows.X[chosen]))
    noise = rng.standard_normal(q.mean.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a start need not have converged
        mixture = GaussianMixture(K, random_state=int(rng.integers(2**31)))
        mixture.fit(q.at(torch.from_numpy(noise)).numpy())
    roots = mixture.precisions_cholesky_.transpose(0, 2, 1)
    prior = mixture_parameters(mixture.weights_, mixture.means_, roots)
    prior = {name: round_significant(v) for name, v in prior.items()}
    return replace(state, parameters=state.parameters | prior)


def in_order(parameters):
    """The components of a mixture prior by descending weight, ties by their means."""
    if "prior.logits" not in parameters:
        return parameters
    logits = parameters["prior.logits"].astype(np.float64)
    share = np.round(np.exp(logits - np.logaddexp.reduce(logits)), 6)
    order = np.lexsort((*parameters["prior.means"].T[::-1], -share))
    return parameters | {k: v[order] for k, v in parameters.items() if k.startswith("prior.")}


# prior -> what is done before training, and what may be done after it if held-out rows like it
PRIORS = {
    "normal": (unchanged, unchanged),
    "mixture": (clustered, unchanged),
    "auto": (unchanged, clustered),
}
