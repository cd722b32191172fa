"""What a fit of an autoencoder reports: simpler models of the same rows, and its encoder."""

import warnings
from typing import NamedTuple

import numpy as np

from .factor_analysis import EMFactorAnalysis
from .inference.regression import slopes_on
from .inference.start import thinned
from .mixture import GaussianMixture, Mixture
from .networks.likelihoods import ColumnLikelihoods
from .vae_start import context_features, contexts_of
from .warn import warn_user

FIT_ROWS = 5000  # that the baselines are fitted to, at most
TOLD_ROWS = 200  # that baselines, priors and refined bounds are compared on, at most
N_CLUSTERS = 3  # of the baseline mixtures
WIDE = 64  # columns beyond which the baseline mixture has diagonal covariances
CLEAR_MARGIN = 0.1  # nats per row by which a baseline must win, and by two standard errors
GAUSSIAN = {"gaussian", "log_normal"}  # likelihoods of columns that are Gaussian on a line
WITHOUT_EMISSION = {"continuous_bernoulli"}  # that no mixture has
FEWEST_TO_WARN = 30  # held-out rows that such a claim rests on
ACTIVE = 0.01  # variance of E[z_j | x] over the rows from which a latent counts as used


class Report(NamedTuple):
    """What training found out besides the parameters."""

    terms: np.ndarray  # (n_iter + 1, 3) the bound's terms, in the units of X
    baselines: dict  # {name: nats per held-out row}
    active: int
    divergence: np.ndarray  # (q,) KL of each latent, nats per row


def _parts(likelihood, d):
    """Pairs of a likelihood and its columns, on the line that location belongs to."""
    if isinstance(likelihood, ColumnLikelihoods):
        return list(zip(likelihood.parts, likelihood.places, strict=True))
    return [(likelihood, np.arange(d))]


def _word(likelihood):
    """What a mixture calls such columns."""
    return "gaussian" if likelihood.name in GAUSSIAN else likelihood.spec


def _joint_model(likelihood, d, seed):
    """The name and an unfitted mixture of standardised rows, contexts and all."""
    parts = [(part.jointly, own) for part, own in _parts(likelihood, d)]
    settings = {"covariance_type": "full" if d <= WIDE else "diag", "n_init": 3}
    settings["random_state"] = seed
    if all(part.name in GAUSSIAN for part, _ in parts):
        mixture = GaussianMixture(N_CLUSTERS, split_merge=False, **settings)
        return "gaussian_mixture", mixture
    groups = [(_word(part), own.tolist()) for part, own in parts]
    alone = len(parts) == 1
    name = f"{likelihood.name}_mixture" if alone else "mixture"
    return name, Mixture(N_CLUSTERS, emission=groups[0][0] if alone else groups, **settings)


def _simple_scores(state, fit, told, seed):
    """{name: (n,) log densities of standardised rows} of simple models of other rows.

    Of a mixture, what it says of rows less what it says of their contexts alone. None where a
    mixture has no such columns.
    """
    likelihood, given = state.likelihood, state.given
    parts = [part for part, _ in _parts(likelihood, len(given))]
    if any(part.jointly.name in WITHOUT_EMISSION for part in parts):
        return {}
    scores = {}
    if all(part.name in GAUSSIAN for part in parts if part.n_outputs(1)):
        factors = EMFactorAnalysis(state.n_latents)
        scores["factor_analysis"] = _fitted(factors, *_residuals(likelihood, fit, told))
    name, mixture = _joint_model(likelihood, len(given), seed)
    scores[name] = _fitted(mixture, fit, told)
    if given.any():
        scores[name] -= mixture.score_samples(np.where(given, told.X, np.nan))
    return scores


def _residuals(likelihood, *both):
    """Rows less what a linear regression on contexts, fitted to the first, says of them."""
    directions, u = contexts_of(both[0], likelihood)
    modelled = ~likelihood.given(both[0].X.shape[1])
    slopes = slopes_on(u, both[0].X[:, modelled], both[0].weight)
    for rows in both:
        along = directions.along(context_features(rows, likelihood))
        left = rows.X[:, modelled] - along @ slopes
        yield rows._replace(X=left)


def few(rows, n):
    """At most n of the distinct rows, with all the weight."""
    chosen, weight = thinned(rows.weight, n)
    return rows.take(chosen)._replace(weight=weight) if len(rows.X) > n else rows


def gain(other, state, held_out):
    """What held-out rows would gain in log density by another state, nats per row."""
    told = few(held_out, TOLD_ROWS)
    X = state.in_units(told.X)
    return np.average(other.log_prob(X) - state.log_prob(X), weights=told.weight)


def baselines(state, training, held_out, rng):
    """{name: nats per row} of simple models of the training rows and of `state`, on held-out rows.

    A warning where one of them is clearly better. Without held-out rows, or with a column that only
    varies in these, there is nothing to say.
    The state gives its importance-weighted bound; if a baseline beats that, its score.
    """
    varies = np.fmin.reduce(training.X, axis=0) < np.fmax.reduce(training.X, axis=0)
    if not len(held_out.X) or not varies.all():
        return {}
    fit, told = few(training, FIT_ROWS), few(held_out, TOLD_ROWS)
    X, seed = state.in_units(told.X), int(rng.integers(2**31))
    jacobian = state.log_jacobian(X)
    simple = _simple_scores(state, fit, told, seed)
    scores = {name: score - jacobian for name, score in simple.items()}
    own = state.encoder_bound(told.X) - jacobian if state.has_encoder else state.log_prob(X)
    if state.has_encoder and any(_better(s - own, told.weight)[1] for s in scores.values()):
        own = state.log_prob(X)
    for name, other in scores.items():
        mean, clearly = _better(other - own, told.weight)
        if clearly:
            warn_user(
                f"on held-out rows {name} is better than this VAE by {mean:.2f} nats per row "
                "(baselines_): prefer it, or give the VAE more rows"
            )
    scores["vae"] = own
    return {name: float(np.average(s, weights=told.weight)) for name, s in scores.items()}


def _fitted(model, fit, told):
    """Log densities of rows (n,) by a model fitted to others."""
    enough = max(1.0, (1 + 1e-12) * N_CLUSTERS / fit.weight.sum())  # for as many components
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(fit.X, sample_weight=fit.weight * enough).score_samples(told.X)


def _better(gain, weight):
    """Mean gain (n,) of one model over another, and whether that is a clear margin."""
    mean = np.average(gain, weights=weight)
    error = np.sqrt(np.average((gain - mean) ** 2, weights=weight) / max(weight.sum() - 1, 1))
    return mean, mean > max(CLEAR_MARGIN, 2 * error) and weight.sum() >= FEWEST_TO_WARN


def diagnosed(q, weight):
    """Of q(z | x) of weighted rows: how many latents are active, KL of each (q,)."""
    mean, variance = q.mean.numpy(), q.variance().numpy()
    centre = np.average(mean, axis=0, weights=weight)
    active = np.average((mean - centre) ** 2, axis=0, weights=weight) > ACTIVE
    divergence = 0.5 * (mean**2 + variance - 1 - np.log(variance))
    return int(active.sum()), np.average(divergence, axis=0, weights=weight)
