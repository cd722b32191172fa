"""A model whose `likelihood` people name: by a word, a spec, a list of pairs, or by dtypes."""

from contextlib import suppress

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ._compat import HasMethods, Interval, Real, StrOptions
from .base import fitted
from .column_types import categories_of, checked_pairs, chosen, coded
from .networks.likelihoods import joined, named_likelihood
from .networks.likelihoods.location_scale import GaussianLikelihood
from .validation import column_groups, read_rows

LIKELIHOOD_CONSTRAINTS = {
    "likelihood": [str, list, HasMethods(["get_params"])],
    "decoder_variance": [StrOptions(set(GaussianLikelihood.NOISES))],
    "noise_floor": [Interval(Real, 0.0, None, closed="neither")],
}


class AnyLikelihood:
    """What reads `likelihood`, tells columns of categories from numbers, and says what was chosen.

    A fit calls `_choose(X)` before it validates X and `_named` after.
    """

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        with suppress(ValueError):  # fit says what is wrong with the likelihood
            for kind in self._kinds():
                tags.input_tags.positive_only |= kind.positive_only
                tags.input_tags.categorical |= kind.base_measure == "counting"
        return tags

    def _kinds(self):
        """The likelihoods that are named; what "auto" will choose is not known."""
        words = self.likelihood
        if not isinstance(words, list):
            words = [] if isinstance(words, str) and words == "auto" else [(words, None)]
        noise = self.decoder_variance, self.noise_floor
        return [named_likelihood(word, *noise) for word, _ in checked_pairs(words)]

    def _choose(self, X):
        """Read the dtypes of a fit's rows, and return the rows with codes for categories."""
        self._choice, self._categories = chosen(self.likelihood, X), categories_of(X)
        return coded(X, self._categories)

    def _named(self, choice, constant):
        """The likelihood of the columns that vary, which no rows were told to: constant (d,)."""
        position = np.cumsum(~constant) - 1
        pairs = [
            (named_likelihood(word, self.decoder_variance, self.noise_floor), position[own])
            for word, columns in self._groups(choice, len(constant))
            if len(own := columns[~constant[columns]])
        ]
        return joined(pairs)

    def _groups(self, choice, n_features):
        """Pairs of a name or spec and the positions of its columns."""
        if not isinstance(choice, list):
            return [(choice, np.arange(n_features))]
        columns = [asked for _, asked in checked_pairs(choice)]
        groups = column_groups(columns, n_features, self._names, "likelihood")
        return [(word, own) for (word, _), own in zip(choice, groups, strict=True)]

    def _read_all(self, X):
        check_is_fitted(self)
        return read_rows(self, coded(X, self._categories), reset=False, dtype=self._input_dtype)

    @property
    def _constant_measure(self):
        return self._named(self._choice, np.zeros_like(self.constant_)).base_measure

    def _params_of(self, state, kept):
        groups = self._groups(self._choice, len(self.constant_))
        words = [(word, np.flatnonzero(np.isin(kept, own)).tolist()) for word, own in groups]
        words = [pair for pair in words if pair[1]]
        return super()._params_of(state, kept) | {
            "likelihood": words[0][0] if len(words) == 1 else words
        }

    def _wrap(self, state, kept):
        model = super()._wrap(state, kept)
        model._categories = tuple(self._categories[j] for j in kept) if self._categories else ()
        return model

    def _fitted_attributes(self, run, data):
        """Beside the others, what `likelihood` says where no fit has read dtypes."""
        own = {"_choice": self.likelihood, "_categories": ()}
        return {k: vars(self).get(k, v) for k, v in own.items()} | super()._fitted_attributes(
            run, data
        )

    @fitted
    def likelihood_(self):
        """The likelihood of every column, or pairs of a likelihood and its columns."""
        return self._choice

    @fitted
    def categories_(self):
        """Categories of the columns that were of dtype category in fit, None for the others."""
        return self._categories or (None,) * len(self.constant_)
