"""How well factors explain a covariance: the likelihood ratio test and what is made of it."""

from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.stats import chi2, ncx2

LOG_2PI = np.log(2 * np.pi)
SINGULAR = 1e-12  # smallest eigenvalue of a correlation matrix, times d, that has an inverse


class FitIndices(NamedTuple):
    """What `fit_indices` says; NaN where it is not defined.

    Attributes
    ----------
    chi_square : float
        The likelihood ratio test against any covariance matrix with Bartlett's correction,
        (n - 1 - (2 d + 5) / 6 - 2 q / 3) F, as R's factanal has it.
    dof : int
        Its degrees of freedom, ((d - q)^2 - d - q) / 2.
    p_value : float
        Probability of a larger one, if the model holds.
    likelihood_ratio : float
        The same test without the correction, n F. What follows is made of it.
    rmsea, rmsea_low, rmsea_high : float
        Root mean square error of approximation, per degree of freedom, and its 90 % interval.
    tli, cfi : float
        Tucker-Lewis and comparative fit index: 0 as uncorrelated columns fit, 1 as a model that
        holds.
    srmr : float
        Root mean square of the residual correlations, diagonal included.
    log_likelihood, aic, bic : float
        In nats, of all rows.
    """

    chi_square: float
    dof: int
    p_value: float
    likelihood_ratio: float
    rmsea: float
    rmsea_low: float
    rmsea_high: float
    tli: float
    cfi: float
    srmr: float
    log_likelihood: float
    aic: float
    bic: float


class LogLikelihoods(NamedTuple):
    """Of the same rows, in nats: of the model, of any covariance matrix, of uncorrelated columns.

    The second is NaN where it has no maximum.
    """

    model: float
    saturated: float
    independent: float


def log_likelihoods(S, model, n):
    """Of n complete rows with covariance S (d, d) about the model's mean; `model` is (d, d)."""
    sd = np.sqrt(np.diag(S))
    R, variances, d = S / np.outer(sd, sd), 2 * np.log(sd).sum(), len(S)
    values = np.linalg.eigvalsh(R)
    log_det = np.log(values).sum() if n > d and values[0] > SINGULAR * d else np.nan
    fit = np.linalg.slogdet(model)[1] + np.trace(np.linalg.solve(model, S))
    parts = np.array([fit, variances + log_det + d, variances + d])
    return LogLikelihoods(*map(float, -n / 2 * (d * LOG_2PI + parts)))


def fit_indices(log, n, d, q, n_parameters, srmr):
    """From log-likelihoods of n rows of d columns: -> FitIndices."""
    dof, dof_0 = ((d - q) ** 2 - d - q) // 2, d * (d - 1) // 2
    defined = dof >= 0 and q < d
    ratio = max(2 * (log.saturated - log.model), 0.0) if defined else np.nan
    ratio_0 = 2 * (log.saturated - log.independent)
    corrected = (n - 1 - (2 * d + 5) / 6 - 2 * q / 3) / n * ratio
    tested = dof > 0 and not np.isnan(ratio)
    interval = _rmsea_interval(ratio, dof, n) if tested else (np.nan, np.nan)
    excess, excess_0 = max(ratio - dof, 0.0), max(ratio_0 - dof_0, ratio - dof, 0.0)
    return FitIndices(
        corrected,
        dof,
        float(chi2.sf(corrected, dof)) if tested else np.nan,
        ratio,
        float(np.sqrt(excess / (dof * n))) if tested else np.nan,
        *interval,
        _tucker_lewis(ratio / dof, ratio_0 / dof_0) if tested else np.nan,
        (1 - excess / excess_0 if excess_0 != 0 else 1.0) if defined else np.nan,
        srmr,
        log.model,
        2 * n_parameters - 2 * log.model,
        float(np.log(n)) * n_parameters - 2 * log.model,
    )


def _tucker_lewis(ratio, ratio_0):
    """Tucker & Lewis (1973): ratios per degree of freedom."""
    return (ratio_0 - ratio) / (ratio_0 - 1) if ratio_0 != 1 else np.nan


def _rmsea_interval(ratio, dof, n, level=0.9):
    """Noncentralities that make the ratio improbable on either side (Browne & Cudeck 1993)."""

    def noncentrality(share):
        if chi2.cdf(ratio, dof) <= share:
            return 0.0
        most = 2 * ratio + 50.0 + 10 * np.sqrt(ratio)
        return brentq(lambda nc: ncx2.cdf(ratio, dof, nc) - share, 0.0, most)

    shares = ((1 + level) / 2, (1 - level) / 2)
    return tuple(float(np.sqrt(noncentrality(share) / (dof * n))) for share in shares)


def root_mean_square_residual(S, model):
    """SRMR of a covariance (d, d): residual correlations, the diagonal included (Bentler 1995)."""
    sd = np.sqrt(np.diag(S))
    residuals = ((S - model) / np.outer(sd, sd))[np.triu_indices(len(S))]
    return float(np.sqrt((residuals**2).mean()))
