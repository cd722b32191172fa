"""The linear model that a fresh autoencoder equals: its decoder, and its encoder."""

import numpy as np

from .autoencoder import blank_parameters
from .posteriors import Diagonal


def linear_parameters(linear, architecture, likelihood, rng, family=Diagonal):
    """An autoencoder that is this linear model: what bends it is there and adds zero.

    With W rotated so that W' F W = diag(l), q(z | x) = N((I + diag l)^-1 pull (features - centre),
    (I + diag l)^-1): one step of Fisher scoring from z = 0, and for a Gaussian the exact posterior.
    Outputs and centre move with what the density is given, as `linear.slopes` and `drift` say.
    """
    values, rotation = np.linalg.eigh((linear.information + linear.information.T) / 2)
    values, rotation = values[::-1], rotation[:, ::-1]
    encoder = rotation.T @ linear.pull / (1 + values)[:, None]
    d = likelihood.n_columns(len(linear.centre))
    parameters = blank_parameters(d, len(values), architecture, likelihood, rng, family)
    drift = np.broadcast_to(linear.drift, (len(linear.centre), len(linear.origin)))
    slopes = np.broadcast_to(linear.slopes, (len(linear.offset), len(linear.origin)))
    parameters["encoder.centre"] = linear.centre - drift @ linear.origin
    if "encoder.drift.weight" in parameters:
        parameters["encoder.drift.weight"] = drift
    parameters["encoder.skip.weight"] = encoder.copy()
    given = likelihood.features(np.flatnonzero(likelihood.given(d)), d)
    parameters["encoder.skip.weight"][:, given] -= encoder @ drift
    parameters["encoder.skip.bias"] = -encoder @ parameters["encoder.centre"]
    parameters["encoder.log_sd"] = -0.5 * np.log1p(np.maximum(values, 0.0))
    parameters["decoder.skip.weight"] = np.hstack([linear.W @ rotation, slopes])
    parameters["decoder.skip.bias"] = linear.offset - slopes @ linear.origin
    parameters["decoder.constants"] = linear.constants
    return parameters | architecture.facing(parameters, linear.centre, linear.spread)
