"""The linear model that a fresh autoencoder equals: its decoder, and its encoder."""

import numpy as np

from .autoencoder import blank_parameters
from .posteriors import Diagonal


def linear_parameters(linear, architecture, likelihood, rng, family=Diagonal):
    """An autoencoder that is this linear model: what bends it is there and adds zero.

    With W rotated so that W' F W = diag(l), q(z | x) = N((I + diag l)^-1 pull (features - centre),
    (I + diag l)^-1): one step of Fisher scoring from z = 0, and for a Gaussian the exact posterior.
    """
    values, rotation = np.linalg.eigh((linear.information + linear.information.T) / 2)
    values, rotation = values[::-1], rotation[:, ::-1]
    encoder = rotation.T @ linear.pull / (1 + values)[:, None]
    d = likelihood.n_columns(len(linear.centre))
    parameters = blank_parameters(d, len(values), architecture, likelihood, rng, family)
    parameters["encoder.centre"] = linear.centre
    parameters["encoder.skip.weight"] = encoder
    parameters["encoder.skip.bias"] = -encoder @ linear.centre
    parameters["encoder.log_sd"] = -0.5 * np.log1p(np.maximum(values, 0.0))
    parameters["decoder.skip.weight"] = linear.W @ rotation
    parameters["decoder.skip.bias"] = linear.offset
    parameters["decoder.constants"] = linear.constants
    return parameters | architecture.facing(parameters, linear.centre, linear.spread)
