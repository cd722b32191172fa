"""What factor models share: loadings in several units, factor scores, the model's covariance."""

import numpy as np
from sklearn.utils.validation import check_is_fitted

from .base import LatentVariableModel, fitted
from .closed_form import ClosedFormMixin
from .inference.blocks import each_block
from .validation import checked_array


class FactorModel(ClosedFormMixin, LatentVariableModel):
    """x = mean + z components + noise: read off a `FactorState`, whoever fitted it."""

    def get_covariance(self):
        """The model's covariance of a row, in squared units of X.

        Returns
        -------
        covariance : ndarray of shape (n_features, n_features)
            components_.T @ factor_correlation_ @ components_ + diag(noise_variance_).
        """
        check_is_fitted(self)
        return self._restore_square(self._density.covariance)

    def factor_scores(self, X, method="regression"):
        """Scores of the factors by one of the two classical methods.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN marks missing entries.
        method : {"regression", "bartlett"}, default="regression"
            "regression" (Thomson 1951) is the posterior mean, what `transform` gives: it has the
            least mean squared error and is drawn towards zero. "bartlett" (Bartlett 1937) is the
            weighted least squares fit of a row by the loadings, unbiased given the factors.

        Returns
        -------
        scores : ndarray of shape (n_samples, n_components)
            NaN with "bartlett" where the entries of a row do not determine the factors.
        """
        if method not in SCORES:
            raise ValueError(f"method must be one of {list(SCORES)}, got {method!r}")
        X = self._read(X)
        return each_block(getattr(self._density, SCORES[method]), X)

    @fitted
    def components_(self):
        """(n_components, n_features) loadings, in the units of X."""
        return self._restore(self._density.loadings.T, fill=0.0)

    @fitted
    def noise_variance_(self):
        """(n_features,) variance that the factors leave, in squared units of X."""
        return self._restore(self._density.emission.cov.psi[0], fill=0.0)

    @fitted
    def mean_(self):
        """(n_features,) column means."""
        return self._restore(self._density.emission.means[0])

    @fitted
    def factor_correlation_(self):
        """(n_components, n_components) correlations of the factors: the identity if orthogonal."""
        return self._density.factor_correlation

    @fitted
    def loadings_(self):
        """(n_features, n_components) loadings of columns of variance one: the pattern matrix."""
        return self._restore(self._density.standardised_loadings.T, fill=0.0).T

    @fitted
    def structure_(self):
        """(n_features, n_components) correlations of columns with factors."""
        return self.loadings_ @ self.factor_correlation_

    @fitted
    def communalities_(self):
        """(n_features,) share of each column's variance that the factors explain."""
        return self._restore(1.0 - self._density.uniquenesses, fill=0.0)

    @fitted
    def uniquenesses_(self):
        """(n_features,) share of each column's variance that the factors leave."""
        return self._restore(self._density.uniquenesses, fill=1.0)

    @fitted
    def explained_variance_ratio_(self):
        """(n_components,) share of the variance of standardised columns that each factor explains.

        What correlated factors explain together is divided as pattern times structure says.
        """
        return (self.loadings_ * self.structure_).sum(axis=0) / np.count_nonzero(~self.constant_)

    def _params_of(self, state, kept):
        return {**super()._params_of(state, kept), "n_components": state.n_latents}


SCORES = {"regression": "expected_factors", "bartlett": "bartlett_factors"}


def checked_factors(components, mean):
    """Loadings (q, d) and means (d,), None is zero; or ValueError."""
    components = np.atleast_2d(components)
    components = checked_array(components, (len(components), None), "components")
    d = components.shape[1]
    return components, np.zeros(d) if mean is None else checked_array(mean, (d,), "mean")
