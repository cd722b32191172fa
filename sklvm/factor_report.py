"""The report of a factor analysis: how well it fits, and a table with a line for each column."""

import html
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from .emissions.covariance import Penalty
from .emissions.dense import Full
from .emissions.gaussian import LOG_2PI, Gaussians
from .emissions.simplex import Point
from .factor_intervals import FactorConfidence
from .inference.blocks import each_block, has_gaps
from .inference.em import em
from .inference.factor_fit import (
    LogLikelihoods,
    fit_indices,
    log_likelihoods,
    root_mean_square_residual,
)
from .inference.moments import column_moments, pooled_moments, sample_moments
from .mixture_state import MixtureState
from .warn import warn_user

SHORT = 500  # parameters up to which the picture of a model has standard errors: milliseconds
LINES = 40  # of the table in that picture
SATURATED = {"max_iter": 20_000, "tol": 1e-10, "accelerate": "squarem"}  # EM of one Gaussian


class FactorReport(FactorConfidence):
    """What a factor analysis tells in tables."""

    def fit_indices(self, X=None, sample_weight=None):
        """Chi-square test against any covariance matrix, and the usual indices of fit.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), default=None
            The rows of `fit`; NaN marks missing entries, and the likelihood of any covariance
            matrix is then found by EM. None after a fit to complete rows, at least as many as
            columns, or to a covariance matrix.
        sample_weight : array-like of shape (n_samples,), default=None
            The counts of `fit`.

        Returns
        -------
        indices : FitIndices
            Named tuple of `chi_square` (Bartlett's correction, as in R's factanal), `dof`,
            `p_value`, `likelihood_ratio` (without it), `rmsea`, `rmsea_low`, `rmsea_high`, `tli`,
            `cfi`, `srmr`, `log_likelihood`, `aic`, `bic`. NaN where rows are no more than columns,
            or columns are combinations of others.

        Warns
        -----
        ConvergenceWarning
            If EM for the likelihood of any covariance matrix does not converge.

        Notes
        -----
        The tests compare maxima of likelihoods: with a `heywood_penalty` the model's is a little
        lower, in Heywood cases visibly.

        References
        ----------
        Lawley & Maxwell (1971), 4.4 (Bartlett's correction). Tucker & Lewis (1973), Psychometrika
        38, 1-10. Bentler (1990), Psychological Bulletin 107, 238-246 (CFI). Browne & Cudeck (1993),
        in Testing structural equation models (RMSEA).

        Examples
        --------
        >>> import numpy as np
        >>> from sklvm import EMFactorAnalysis
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(400, 1)) + rng.normal(size=(400, 5))
        >>> indices = EMFactorAnalysis(n_components=1).fit(X).fit_indices()
        >>> indices.dof, bool(indices.p_value > 0.05), bool(indices.cfi > 0.95)
        (5, True, True)
        """
        check_is_fitted(self)
        state = self.run_.state
        (d, q), model = state.loadings.shape, state.covariance
        n, S, log = self._told(X, sample_weight)
        srmr = root_mean_square_residual(S, model)
        return fit_indices(log, n, d, q, self.n_parameters_, srmr)

    def _told(self, X, sample_weight):
        """Weight of the rows, their covariance (d, d), and log-likelihoods."""
        state = self.run_.state
        if X is None:
            self._refuse_without_moments("fit_indices", sample_weight)
            n, S = self.total_weight_, self._moments
            return n, S, log_likelihoods(S, state.covariance, n)
        weight = self._counts(X, sample_weight)
        X, weight = self._read(X)[weight > 0], weight[weight > 0]
        n = float(weight.sum())
        low, high = np.fmin.reduce(X, initial=np.nan), np.fmax.reduce(X, initial=np.nan)
        if not (low < high).all():
            raise ValueError(
                "fit_indices compares with the covariance of these rows, and a column of them does "
                "not vary or has no entry: give it the rows of fit"
            )
        if has_gaps(X):
            S, log = _with_gaps(state, X, weight)
            return n, S, log
        mean, S = sample_moments(X, weight)
        log = log_likelihoods(S, state.covariance, n)
        shift = mean - state.emission.means[0]
        distance = shift @ np.linalg.solve(state.covariance, shift)
        return n, S, log._replace(model=log.model - float(n / 2 * distance))

    def summary(self, X=None, sample_weight=None):
        """The solution as a table with a line for each column of the data.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), default=None
            The rows of `fit`, as in `conf_int` and `fit_indices`.
        sample_weight : array-like of shape (n_samples,), default=None
            The counts of `fit`.

        Returns
        -------
        table : pandas.DataFrame
            A line per column of the data: its standardised loadings under the names of the factors,
            `communality`, `uniqueness`, `heywood`, and the standard errors of the loadings under
            "se " and the name (NaN in Heywood cases). `table.attrs` holds
            `fit_indices`, as a dict, and `factor_correlation`.

        Raises
        ------
        ImportError
            If pandas is not installed.

        Examples
        --------
        >>> import numpy as np
        >>> from sklvm import EMFactorAnalysis
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(400, 1)) + rng.normal(size=(400, 4))
        >>> table = EMFactorAnalysis(n_components=1).fit(X).summary()
        >>> table.columns.tolist()
        ['emfactoranalysis0', 'communality', 'uniqueness', 'heywood', 'se emfactoranalysis0']
        """
        check_is_fitted(self)
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("summary makes a pandas.DataFrame: pip install pandas") from error
        indices = self.fit_indices(X, sample_weight)
        errors = self._loading_errors(X, sample_weight)
        factors = self.get_feature_names_out()
        table = pd.DataFrame(self.loadings_, index=self._column_names(), columns=factors)
        table["communality"] = self.communalities_
        table["uniqueness"] = self.uniquenesses_
        table["heywood"] = self.heywood_
        table[[f"se {name}" for name in factors]] = errors
        table.attrs["fit_indices"] = indices._asdict()
        table.attrs["factor_correlation"] = self.factor_correlation_.tolist()
        return table

    def _column_names(self):
        names = [f"x{j}" for j in range(self.n_features_in_)]
        return names if self._names is None else list(self._names)

    def _loading_errors(self, X=None, sample_weight=None):
        return self.conf_int(X, sample_weight=sample_weight).loadings.standard_error

    # -- in a notebook -------------------------------------------------------------------------

    @property
    def _repr_html_(self):
        diagram = super()._repr_html_  # absent where models are displayed as text
        return lambda: diagram() + self._report()

    def _repr_mimebundle_(self, **kwargs):
        bundle = super()._repr_mimebundle_(**kwargs)
        if "text/html" in bundle:
            bundle["text/html"] += self._report()
        return bundle

    def _report(self):
        """The table in HTML, nothing before fit."""
        if "run_" not in vars(self):
            return ""
        known = self._moments is not None
        errors = np.full(self.loadings_.shape, np.nan)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a picture says by its gaps what is not known
            if known and self.n_parameters_ <= SHORT:
                errors = self._loading_errors()
        lines = _lines(self, errors)
        return f"<table>{''.join(lines)}</table>{_fit_line(self) if known else ''}"


def _lines(model, errors):
    """Rows of the table: names, loadings with standard errors, communality, uniqueness."""
    yield _row("th", ["", *model.get_feature_names_out(), "communality", "uniqueness", ""])
    names, d = model._column_names(), model.n_features_in_
    for j in range(min(d, LINES)):
        cells = [
            f"{value:.2f}" + (f" ({error:.2f})" if error > 0 else "")
            for value, error in zip(model.loadings_[j], errors[j])
        ]
        shares = [f"{model.communalities_[j]:.2f}", f"{model.uniquenesses_[j]:.2f}"]
        yield _row("td", [names[j], *cells, *shares, "Heywood" if model.heywood_[j] else ""])
    if d > LINES:
        yield _row("td", [f"and {d - LINES} more columns"])


def _row(tag, cells):
    return f"<tr>{''.join(f'<{tag}>{html.escape(str(cell))}</{tag}>' for cell in cells)}</tr>"


def _fit_line(model):
    fit = model.fit_indices()
    told = (
        f"χ² = {fit.chi_square:.2f} on {fit.dof} degrees of freedom, p = {fit.p_value:.3f}; "
        f"RMSEA = {fit.rmsea:.3f} ({fit.rmsea_low:.3f} to {fit.rmsea_high:.3f}), "
        f"TLI = {fit.tli:.3f}, CFI = {fit.cfi:.3f}, SRMR = {fit.srmr:.3f}, BIC = {fit.bic:.1f}"
    )
    return f"<p>{told}</p>"


def _with_gaps(state, X, weight):
    """Covariance of any form by EM, and log-likelihoods, of rows with NaN."""
    mean, S = pooled_moments(X, weight)
    d, saturated = len(mean), np.nan
    if weight.sum() > d:
        cov = Full.of(S[None], Penalty(0.0, np.zeros((d, d))))
        start = MixtureState(Point(np.ones(1)), Gaussians(mean[None], cov))
        run = em(start, (X, weight), **SATURATED)
        S, saturated = run.state.emission.cov.dense()[0], weight.sum() * run.objective
        if not run.converged:
            warn_user(
                "EM for the covariance of any form did not converge: entries may be too few for it",
                ConvergenceWarning,
            )
    _, variance = column_moments(X, weight)
    seen = weight @ ~np.isnan(X)
    independent = -0.5 * seen @ (LOG_2PI + np.log(variance) + 1)
    model = weight @ each_block(state.log_prob, X)
    return S, LogLikelihoods(float(model), float(saturated), float(independent))
