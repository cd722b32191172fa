"""What a variational autoencoder says of single rows beyond the verbs of every model."""

from typing import NamedTuple

import numpy as np
from sklearn.utils.metaestimators import available_if

from ._compat import Integral
from .base import LatentVariableModel
from .inference.blocks import each_block


class ScoreDiagnostics(NamedTuple):
    """How far to trust the scores of `VAE.score_samples`, each of shape (n_samples,).

    Attributes
    ----------
    standard_error : ndarray of shape (n_samples,), float64
        Of the score in nats, as if the points were independent draws. They are quasi-random, so
        the error is usually smaller.
    effective_sample_size : ndarray of shape (n_samples,), float64
        How many draws from p(z | x) the weighted points are worth.
    pareto_k : ndarray of shape (n_samples,), float64
        Tail of the importance weights: moments of order below 1 / k exist. Above 0.7 neither the
        score nor its standard error can be trusted (Vehtari et al. 2024); -inf where the largest
        weights are equal, inf where a few points have nearly all the weight.
    """

    standard_error: np.ndarray
    effective_sample_size: np.ndarray
    pareto_k: np.ndarray


def _has_encoder(model):
    if not model.amortized:
        raise AttributeError("amortized=False trains no encoder that could be judged")
    return True


class VAEVerbs(LatentVariableModel):
    """Scores with their errors, and what the encoder's shortcut costs each row."""

    def score_samples(self, X, *, return_diagnostics=False):
        """Log density of each row, in nats and in the units of X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN marks missing entries, which are integrated out.
        return_diagnostics : bool, default=False
            Whether to tell as well how well the points of each row did.

        Returns
        -------
        log_density : ndarray of shape (n_samples,), float64
            A deterministic function of each row alone; 0 for a row without any entry.
        diagnostics : ScoreDiagnostics
            Named tuple of `standard_error`, `effective_sample_size` and `pareto_k`, each of shape
            (n_samples,). Only if `return_diagnostics` is True.

        References
        ----------
        Vehtari, Simpson, Gelman, Yao & Gabry (2024), Pareto smoothed importance sampling. Zhang &
        Stephens (2009), A new and efficient estimation method for the generalized Pareto
        distribution.
        """
        if not return_diagnostics:
            return super().score_samples(X)
        X = self._read(X)
        scores, *diagnostics = each_block(self._density.diagnosed_log_prob, X).T
        return scores, ScoreDiagnostics(*diagnostics)

    def tighten(self, X, n_steps=20):
        """The evidence lower bound of each row while its own q(z | x) is improved step by step.

        Every row starts with the Gaussian that the encoder gives it (without an encoder N(0, I)),
        of the family that `encoder_covariance` names, and moves it uphill on its own bound by
        natural gradients. The noise is that of `points_` throughout and a step that would lower the
        bound is shortened, so no row ever falls. What the steps gain is the amortisation gap of the
        encoder; what is left to `score_samples` is the divergence of the best Gaussian from
        p(z | x), 0 for a linear Gaussian decoder and a full covariance. A full covariance arrives
        at or above the bound of `elbo`, whose Gaussian comes from the curvature at the most
        probable z.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN marks missing entries.
        n_steps : int, default=20
            Steps of each row.

        Returns
        -------
        bounds : ndarray of shape (n_steps + 1, n_samples), float64
            Nats, in the units of X: the encoder's bound first, then that after each step.

        Raises
        ------
        ValueError
            For a number of steps that is not a whole number from 0.

        References
        ----------
        Cremer, Li & Duvenaud (2018), Inference suboptimality in variational autoencoders. Hoffman,
        Blei, Wang & Paisley (2013), Stochastic variational inference (natural gradients).

        Examples
        --------
        >>> import numpy as np
        >>> from sklvm import VAE
        >>> X = np.random.default_rng(0).normal(size=(60, 3))
        >>> model = VAE(1, max_iter=500, tol=0.1, n_iter_no_change=5, random_state=0).fit(X)
        >>> bounds = model.tighten(X[:5], n_steps=3)
        >>> bounds.shape
        (4, 5)
        >>> bool((np.diff(bounds, axis=0) >= 0).all())
        True
        """
        if not (isinstance(n_steps, Integral) and n_steps >= 0):
            raise ValueError(f"n_steps must be a whole number from 0, got {n_steps!r}")
        X, density = self._read(X), self._density
        return each_block(lambda rows: density.tighten(rows, int(n_steps)), X).T

    @available_if(_has_encoder)
    def regret(self, X):
        """Likelihood regret: `score_samples` less the bound that the encoder alone gives.

        What the model can say of a row once inference is done with care, less what it says at
        first sight. It is large for rows unlike those that the encoder was trained on, whatever
        their density, so it tells outliers that a high density hides. No unit of X changes it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN marks missing entries.

        Returns
        -------
        regret : ndarray of shape (n_samples,), float64
            Nats, at least 0 up to the error of both estimates.

        References
        ----------
        Xiao, Yan & Amit (2020), Likelihood regret: an out-of-distribution detection score for
        variational auto-encoder; here log p(x) stands for the bound of an encoder retrained on x.
        """
        X = self._read(X)
        return each_block(self._density.regret, X)

    @available_if(_has_encoder)
    def amortisation_gap(self, X):
        """What the evidence lower bound of each row gains with a Gaussian of the row's own.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN marks missing entries.

        Returns
        -------
        gap : ndarray of shape (n_samples,), float64
            Nats: the bound of `elbo`, with the Gaussian of `posterior`, less that of the encoder
            (Cremer, Li & Duvenaud 2018). Large where the encoder is at a loss: at outliers.
        """
        X = self._read(X)
        return each_block(self._density.amortisation_gap, X)
