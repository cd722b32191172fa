"""What a fit of an autoencoder reports: simpler models of the same rows, and its encoder."""

import warnings
from typing import NamedTuple

import numpy as np

from .factor_analysis import EMFactorAnalysis
from .inference.start import thinned
from .mixture import GaussianMixture, Mixture
from .networks.likelihoods import ColumnLikelihoods
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


def _groups(likelihood, d):
    """Pairs of a mixture's emission and its columns, on the line that location belongs to."""
    parts, places = [likelihood], [np.arange(d)]
    if isinstance(likelihood, ColumnLikelihoods):
        parts, places = likelihood.parts, likelihood.places
    words = ["gaussian" if part.name in GAUSSIAN else part.spec for part in parts]
    return [(word, own.tolist()) for word, own in zip(words, places, strict=True)]


def _simple_models(likelihood, d, q, seed):
    """{name: unfitted model} of standardised rows; none where a mixture has no such columns."""
    groups, structure = _groups(likelihood, d), "full" if d <= WIDE else "diag"
    words = [word for word, _ in groups]
    if any(isinstance(word, str) and word in WITHOUT_EMISSION for word in words):
        return {}
    settings = {"covariance_type": structure, "n_init": 3, "random_state": seed}
    if all(isinstance(word, str) and word == "gaussian" for word in words):
        mixture = GaussianMixture(N_CLUSTERS, split_merge=False, **settings)
        return {"factor_analysis": EMFactorAnalysis(q), "gaussian_mixture": mixture}
    alone = len(words) == 1
    name = f"{likelihood.name}_mixture" if alone else "mixture"
    return {name: Mixture(N_CLUSTERS, emission=words[0] if alone else groups, **settings)}


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
    models = _simple_models(state.likelihood, X.shape[1], state.n_latents, seed)
    scores = {name: _held_out_scores(model, fit, told) - jacobian for name, model in models.items()}
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


def _held_out_scores(model, fit, told):
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
