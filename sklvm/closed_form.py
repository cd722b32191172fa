"""Verbs of densities whose conditionals are of their own kind."""

import numpy as np
from sklearn.utils.validation import check_is_fitted


class ClosedFormMixin:
    """Verbs of densities whose conditionals are of their own kind."""

    def condition(self, columns, values):
        """p(the other columns | these columns = values).

        Parameters
        ----------
        columns : int, str, or array-like of int, str or bool, or slice
            Columns that are known, named as in ColumnTransformer.
        values : array-like of shape (n_columns,)
            Their values, finite.

        Returns
        -------
        model : estimator
            A fitted model of the remaining columns, in the order of fit.
        """
        check_is_fitted(self)
        known = self._columns(columns)
        values = np.atleast_1d(np.asarray(values, dtype=np.float64))
        if values.shape != known.shape or not np.isfinite(values).all():
            raise ValueError(
                f"condition needs one finite value for each of {len(known)} columns, got {values!r}"
            )
        rest = np.setdiff1d(np.arange(self.n_features_in_), known)
        if not len(rest):
            raise ValueError("condition leaves no column: name fewer columns")
        self._state_columns(rest)
        varying = ~self.constant_[known]
        if not varying.any():
            return self.marginal(rest)
        state = self._density.condition(self._state_columns(known), values[varying])
        return self._wrap(state, rest)

    def regress(self, X, targets):
        """Mean and covariance of some columns given the others, row by row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN marks missing entries. What stands in the target columns is not read.
        targets : int, str, or array-like of int, str or bool, or slice
            Columns to predict, named as in ColumnTransformer.

        Returns
        -------
        mean : ndarray of shape (n_samples, n_targets)
            E[targets | the other seen entries], in the units of X.
        covariance : ndarray of shape (n_samples, n_targets, n_targets)
            Their covariance; zeros for constant columns.
        """
        X = self._read(X)
        asked = self._columns(targets)
        wanted = self._state_columns(asked)
        mean = np.empty((len(X), len(wanted)))
        covariance = np.empty((len(X), len(wanted), len(wanted)))
        visible = ~np.isnan(X)
        visible[:, wanted] = False
        patterns, group = np.unique(visible, axis=0, return_inverse=True)
        for which, pattern in enumerate(patterns):
            rows = group.ravel() == which
            moments = self._density.conditional_moments(X[rows], np.flatnonzero(pattern), wanted)
            mean[rows], covariance[rows] = moments
        return self._with_constant_targets(mean, covariance, asked)

    def _with_constant_targets(self, mean, covariance, asked):
        varying = np.flatnonzero(~self.constant_[asked])
        whole = np.tile(self.constant_values_[asked], (len(mean), 1))
        whole[:, varying] = mean
        square = np.zeros((len(mean), len(asked), len(asked)))
        square[:, varying[:, None], varying] = covariance
        return whole, square
