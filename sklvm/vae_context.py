"""Columns that a density is given, p(the rest | them): how they are named, read and drawn from."""

import numpy as np
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from ._compat import Integral
from .autoencoding import Autoencoding
from .base import fitted, positive_int
from .column_types import coded
from .inference.randomness import generator
from .networks.likelihoods import Likelihood, given
from .validation import (
    checked_array,
    column_indices,
    read_rows,
    read_weight,
    telling,
    training_data,
)

CONDITION_CONSTRAINTS = {"condition_on": [Integral, str, slice, "array-like", None]}


def _has_no_contexts(model):
    return model.condition_on is None


class Conditional(Autoencoding):
    """A density of the columns that `condition_on` does not name, given those that it does."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = _has_no_contexts(self)  # that is, in every column
        return tags

    # E[x | z] of a model with contexts would need these too
    inverse_transform = available_if(_has_no_contexts)(Autoencoding.inverse_transform)

    def _places(self, d):
        """Positions of the contexts among d columns, in the order that they are named in."""
        if self.condition_on is None:
            return np.arange(0)
        return column_indices(self.condition_on, d, self._names)

    def _context_places(self, d):
        """The same, those of the last fit where there was one."""
        contexts = vars(self).get("_contexts")
        return self._places(d) if contexts is None else contexts

    def _modelled(self, d):
        return ~np.isin(np.arange(d), self._context_places(d))

    def _read_to_fit(self, X, sample_weight, min_weight):
        """Rows that say something of what is modelled, which is not all of it constant."""
        X = read_rows(self, X, reset=True, dtype=self._input_dtype)
        weight, self._contexts = read_weight(sample_weight, X), self._places(X.shape[1])
        modelled = self._modelled(X.shape[1])
        if not modelled.any():
            raise ValueError(
                f"condition_on={self.condition_on!r} are all columns of X (n_features="
                f"{X.shape[1]}): nothing is left to model"
            )
        if len(self._contexts):
            weight = weight * telling(X[:, modelled], weight)
        data = training_data(self, X, weight, min_weight=min_weight)
        if data.constant[modelled].all():
            raise ValueError(
                f"{type(self).__name__}: every column but those of condition_on is constant over "
                "the rows, so there is no density to fit"
            )
        return data

    def _named(self, choice, constant):
        likelihood, kept = super()._named(choice, constant), np.flatnonzero(~constant)
        contexts = np.flatnonzero(~self._modelled(len(constant))[kept])
        return given(likelihood, contexts, len(kept))

    @classmethod
    def _known(cls, likelihood, location, scale, *, condition_on=None, **params):
        """As of every autoencoder; a likelihood that is a value knows what it is given."""
        condition_on = condition_on if np.size(condition_on) else None
        if isinstance(likelihood, Likelihood):
            d = np.size(scale)
            places = np.flatnonzero(likelihood.given(d)).tolist()
            if condition_on is None:
                condition_on = places or None
            elif sorted(column_indices(condition_on, d).tolist()) != places:
                raise ValueError(f"likelihood is given {places}, got condition_on={condition_on!r}")
        return super()._known(likelihood, location, scale, condition_on=condition_on, **params)

    def _params_of(self, state, kept):
        places = [kept.tolist().index(column) for column in self._contexts]
        return super()._params_of(state, kept) | {"condition_on": places or None}

    def _fitted_attributes(self, run, data):
        """Beside the others, which columns are given where no fit has read names."""
        contexts = self._context_places(len(data.constant))
        return super()._fitted_attributes(run, data) | {"_contexts": contexts}

    @fitted
    def condition_on_(self):
        """(n_contexts,) which columns of X the density is given, as `condition_on` names them."""
        return self._contexts

    def _counts(self, X, sample_weight):
        rows = self._read_all(X)[:, self._modelled(len(self.constant_))]
        return super()._counts(X, sample_weight) * ~np.isnan(rows).all(axis=1)

    def marginal(self, columns):
        """The model of some of the columns, the others integrated out.

        Parameters
        ----------
        columns : int, str, or array-like of int, str or bool, or slice
            Columns to keep, named as in ColumnTransformer; all of `condition_on` among them.

        Returns
        -------
        model : estimator
            A fitted model of these columns, in this order.
        """
        check_is_fitted(self)
        kept = self._columns(columns)
        if not np.isin(self._contexts, kept).all():
            raise ValueError("marginal must keep all of condition_on: the others depend on it")
        if np.isin(kept, self._contexts).all():
            raise ValueError("these columns are all given (condition_on): they have no density")
        return super().marginal(kept)

    def sample(self, n_samples=1, random_state=None, *, contexts=None):
        """Draw rows, and the latents that caused them.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        random_state : int, RandomState instance or None, default=None
            Two calls with None differ, an int repeats.
        contexts : array-like of shape (n_samples, n_contexts) or (n_contexts,), default=None
            The columns of `condition_on`, in its order, of each row or of all rows. Needed where
            there are any: the model knows nothing of how they are distributed. ``impute(X,
            how="sample")`` of rows that lack the rest draws as well, several copies if asked to.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Rows, the contexts among them.
        Z : ndarray of shape (n_samples, n_components)
            Their latents.

        Raises
        ------
        ValueError
            Where `contexts` are missing, have another shape, or are not known.
        """
        check_is_fitted(self)
        rows = self._around(contexts, positive_int(n_samples, "n_samples"))
        X, Z = self._density.sample(self._given_to(rows), generator(random_state))
        return self._with_contexts(self._restore(X), rows), Z

    def _around(self, contexts, n):
        """n rows that lack all but the contexts, or ValueError: -> (n, n_features)."""
        m = len(self._contexts)
        if (contexts is None) == (m > 0):
            raise ValueError(
                f"the model has {m} contexts (condition_on), got contexts={contexts!r}: they are "
                "given, and the model knows nothing of how they are distributed"
            )
        rows = np.full((n, len(self.constant_)), np.nan)
        if m:
            shape = (m,) if np.ndim(contexts) == 1 else (n, m)
            rows[:, self._contexts] = checked_array(self._coded(contexts), shape, "contexts")
        return rows

    def _coded(self, contexts):
        """Contexts of DataFrames by their names, where the model knows names, and as codes."""
        if self._names is not None and hasattr(contexts, "columns"):
            wanted = self._names[self._contexts].tolist()
            lacking = [name for name in wanted if name not in list(contexts.columns)]
            if lacking:
                raise ValueError(f"contexts must have the columns {wanted}, {lacking} are lacking")
            contexts = contexts[wanted]
        return coded(contexts, tuple(self.categories_[j] for j in self._contexts))

    def _given_to(self, rows):
        """Rows (n, n_features) as the density reads them."""
        return self._in_support(self._varying(rows), self.run_.state, self.constant_)

    def _with_contexts(self, X, rows):
        """The rows X with the contexts that others have: (n, n_features)."""
        X[:, self._contexts] = rows[:, self._contexts]
        return X
