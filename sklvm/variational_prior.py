"""From a constructor's words to the prior of a variational mixture, in the data's scale."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .emissions.conjugate import MEAN_PRECISION, no_penalty
from .emissions.posteriors import POSTERIORS
from .emissions.simplex import Dirichlet, StickBreaking
from .validation import checked_array


def _dirichlet(K, concentration, learns):
    alpha = np.full(K, 1 / K if concentration is None else float(concentration))
    return Dirichlet(alpha, alpha, learns)


def _sticks(K, concentration, learns):
    return StickBreaking.unseen(K, 1.0 if concentration is None else float(concentration), learns)


SIMPLEXES = {"dirichlet_distribution": _dirichlet, "dirichlet_process": _sticks}


@dataclass(frozen=True)
class Hyperparameters:
    """What a user says of the prior of the components; None where the data say it."""

    structure: str  # a key of POSTERIORS
    mean_precision: Any  # number
    mean: Any  # (n_features,)
    degrees: Any  # number
    scale: Any  # inverse scale of one component, in the shape of its covariance

    def emission(self, family, constant, K, learns):
        """The prior of K components over the columns that are not constant (n_features,).

        With `learns` empirical Bayes goes on from what the data say of mean precision and scale.
        """
        posterior, varying = POSTERIORS[self.structure], np.flatnonzero(~constant)
        d = len(varying)
        nu = posterior.usual_degrees(d) if self.degrees is None else float(self.degrees)
        if nu <= posterior.least_degrees(d):
            raise ValueError(
                f"degrees_of_freedom_prior must exceed {posterior.least_degrees(d):g}, got {nu:g}"
            )
        m = family.mean
        if self.mean is not None:
            m = checked_array(self.mean, constant.shape, "mean_prior")[varying]
        if self.scale is None:
            cov = posterior.structure.broad(family.target(K), 1, no_penalty(d))
        else:
            cov = self._given_scale(posterior.structure, len(constant)).marginal(varying)
            cov = cov.scaled(np.array([1 / nu]))
        beta = MEAN_PRECISION if self.mean_precision is None else float(self.mean_precision)
        open_ones = {"beta": self.mean_precision is None, "S": self.scale is None}
        learnt = tuple(name for name, free in open_ones.items() if learns and free)
        return posterior.unseen(np.tile(m, (K, 1)), beta, nu, cov, learnt)

    def _given_scale(self, structure, d):
        """covariance_prior, read as the covariance of one component."""
        axes = structure.feature_axes
        scale = checked_array(self.scale, (d,) * axes, "covariance_prior")
        one = scale if self.structure == "tied" else scale[None]
        return structure.expand(one, 1, d, no_penalty(d))


def known_weights(concentration, kind):
    """q(weights) that is its own prior."""
    if kind not in SIMPLEXES:
        raise ValueError(
            f"weight_concentration_prior_type must be one of {sorted(SIMPLEXES)}, got {kind!r}"
        )
    if kind == "dirichlet_process":
        return _known_sticks(*checked_array(concentration, (2, None), "weight_concentration"))
    alpha = checked_array(concentration, (None,), "weight_concentration")
    if not (alpha > 0).all():
        raise ValueError(f"weight_concentration must be positive, got {alpha!r}")
    return Dirichlet(alpha, alpha)


def _known_sticks(a, b):
    """Sticks in the order given; what they leave to the last says what the prior left."""
    prior = b[-2] - (a[-1] - 1) if len(a) > 1 else 1.0
    if not (a >= 1).all() or not (b[:-1] > 0).all() or b[-1] != 0 or not prior > 0:
        raise ValueError(
            "weight_concentration of sticks is a pair (a, b): a of at least 1, b positive, the "
            f"last b 0 and the one before above the last a - 1, got {a!r}, {b!r}"
        )
    return StickBreaking(a, b, np.arange(len(a)), float(prior))


def known_emission(kind, means, mean_precision, degrees_of_freedom, covariances):
    """q(means, precisions) that is its own prior."""
    if kind not in POSTERIORS:
        raise ValueError(f"covariance_type must be one of {sorted(POSTERIORS)}, got {kind!r}")
    posterior, (K, d) = POSTERIORS[kind], means.shape
    beta_shape, nu_shape = posterior.shapes(K, d)
    beta = checked_array(mean_precision, beta_shape, "mean_precision")
    nu = checked_array(degrees_of_freedom, nu_shape, "degrees_of_freedom")
    least = posterior.least_degrees(d)
    if not (beta > 0).all() or not (nu > least).all():
        raise ValueError(
            f"mean_precision must be positive, and degrees_of_freedom must exceed {least:g}"
        )
    cov = posterior.structure.expand(covariances, K, d, no_penalty(d))
    return posterior.unseen(means, beta, nu, cov)
