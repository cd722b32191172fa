"""The linear model that a fresh autoencoder equals: its decoder, and its exact encoder."""

from typing import NamedTuple

import numpy as np

from .autoencoder import blank_parameters
from .posteriors import Diagonal


class LinearStart(NamedTuple):
    """eta = offset + (W z, 0), seen from z = 0; the prior variance of z is 1."""

    W: np.ndarray  # (d, q) loadings
    eta: np.ndarray  # (width,) at z = 0
    centre: np.ndarray  # (d,) E[x | z = 0]
    fisher: np.ndarray  # (d,) information of x about its entry of W z
    slope: np.ndarray  # (d,) d score / d x


def linear_parameters(start, hidden, likelihood, rng, family=Diagonal):
    """An autoencoder that is this linear model: its hidden layers are there and add zero.

    With W rotated so that W' F W = diag(l), q(z | x) = N((I + diag l)^-1 W' slope (x - centre),
    (I + diag l)^-1): one step of Fisher scoring from z = 0, and for a Gaussian the exact posterior.
    """
    d, q = start.W.shape
    information = (start.W.T * start.fisher) @ start.W
    _, rotation = np.linalg.eigh((information + information.T) / 2)
    W = start.W @ rotation[:, ::-1]
    precision = 1 + (W**2 * start.fisher[:, None]).sum(axis=0)
    encoder = (W * start.slope[:, None] / precision).T
    parameters = blank_parameters(d, q, hidden, likelihood, rng, family)
    n_outputs = len(parameters["decoder.skip.bias"])
    n_constants = len(parameters["decoder.constants"])
    parameters["encoder.skip.weight"] = encoder
    parameters["encoder.skip.bias"] = -encoder @ start.centre
    parameters["encoder.log_sd"] = -0.5 * np.log(precision)
    parameters["decoder.skip.weight"][:d] = W
    parameters["decoder.skip.bias"] = start.eta[:n_outputs]
    parameters["decoder.constants"] = start.eta[n_outputs:][:n_constants]
    return parameters
