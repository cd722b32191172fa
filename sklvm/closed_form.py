"""Verbs of densities whose conditionals are of their own kind."""

import numpy as np
from sklearn.utils.validation import check_is_fitted

from .explanation import Explanation, shapley
from .inference.randomness import generator


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

    def explain_score(self, X, *, n_orders=200, random_state=0, return_std_error=False):
        """What each feature contributes to the log density of a row: its Shapley value.

        A feature's contribution is by how much its entry raises log p of the entries before it,
        on average over all orders of the features; the others are integrated out exactly. With up
        to 10 varying features all orders are averaged, otherwise `n_orders` that are drawn; the
        contributions of a row sum to its score in either case.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; a missing entry (NaN) contributes 0, and so does a constant column.
        n_orders : int, default=200
            Orders to draw, half of them the reverses of the others: at least 4.
        random_state : int, RandomState instance or None, default=0
            Which orders.
        return_std_error : bool, default=False
            Also return the standard errors that the drawing of orders leaves.

        Returns
        -------
        contributions : ndarray of shape (n_samples, n_features)
            Nats; negative for entries that make the row less probable. Another unit of a feature
            adds the logarithm of the ratio to its own contributions only.
        standard_error : ndarray of shape (n_samples, n_features)
            Only with ``return_std_error=True``; zeros where the contributions are exact.

        References
        ----------
        Shapley (1953); Strumbelj & Kononenko (2014) for the average over orders, Mitchell et al.
        (2022) for their reverses.

        Examples
        --------
        >>> import numpy as np
        >>> from sklvm import GaussianMixture
        >>> X = np.random.default_rng(0).normal(size=(200, 3))
        >>> model = GaussianMixture(random_state=0).fit(X)
        >>> int(model.explain_score([[0.0, 9.0, 0.0]]).argmin())
        1
        """
        if n_orders < 4:
            raise ValueError(f"n_orders must be at least 4, got {n_orders!r}")
        X = self._read(X)
        rng = generator(random_state)
        found = shapley(self._density, X, int(n_orders), rng)
        contributions, error = (self._restore(part, 0.0) for part in found)
        return Explanation(contributions, error) if return_std_error else contributions

    def _with_constant_targets(self, mean, covariance, asked):
        varying = np.flatnonzero(~self.constant_[asked])
        whole = np.tile(self.constant_values_[asked], (len(mean), 1))
        whole[:, varying] = mean
        square = np.zeros((len(mean), len(asked), len(asked)))
        square[:, varying[:, None], varying] = covariance
        return whole, square
