"""A model whose `emission` people name: by a word, a spec or a list of pairs."""

from contextlib import suppress
from functools import partial

import numpy as np

from ._compat import HasMethods, Interval, Real, StrOptions
from .base import fitted
from .emissions import named_emission
from .emissions.family import STRUCTURES, named_structure
from .validation import column_groups

COVARIANCE_CONSTRAINTS = {
    "covariance_type": [StrOptions(set(STRUCTURES))],
    "covariance_prior": [StrOptions({"auto"}), Interval(Real, 0.0, None, closed="left")],
    "reg_covar": [Interval(Real, 0.0, None, closed="left")],
}
EMISSION_CONSTRAINTS = {
    **COVARIANCE_CONSTRAINTS,
    "emission": [str, list, HasMethods(["broad", "get_params"])],
}


class AnyEmission:
    """A model whose `emission` is named by a word, a spec or a list of pairs."""

    def _emission(self, constant):
        resolve = partial(column_groups, n_features=len(constant), names=self._names)
        return named_emission(self.emission).among(constant, resolve)

    @property
    def _constant_measure(self):
        measure = super()._constant_measure
        if isinstance(measure, str):
            return measure
        return self._emission(np.zeros_like(self.constant_)).base_measure

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        with suppress(ValueError):  # fit says what is wrong with the emission
            named_emission(self.emission).set_tags(tags.input_tags)
        return tags

    @fitted
    def emission_(self):
        """The fitted conditionals over the columns that vary."""
        return self.run_.state.emission

    @fitted
    def df_(self):
        """(n_components,) degrees of freedom, where the emission is a Student-t."""
        return self.run_.state.emission.df

    def _params_of(self, state, kept):
        params = super()._params_of(state, kept)
        if isinstance(self.emission, list):
            asked = [columns for _, columns in self.emission]
            groups = column_groups(asked, len(self.constant_), self._names)
            params["emission"] = [
                (emission, np.flatnonzero(np.isin(kept, group)).tolist())
                for (emission, _), group in zip(self.emission, groups, strict=True)
                if np.isin(kept, group).any()
            ]
        return with_structure(params, state)


def with_structure(params, state):
    """Constructor parameters whose covariance_type is that of the state, where it has one."""
    word = params.get("covariance_type", "full")
    for part in state.emission.groups:
        word = named_structure(part.cov, word) if hasattr(part, "cov") else word
    return {**params, "covariance_type": word}


def checked_weights(weights, K=None):
    """Probabilities of K components, or ValueError."""
    weights = np.array(weights, dtype=np.float64)
    wrong_length = weights.ndim != 1 or not len(weights) or (K is not None and len(weights) != K)
    if wrong_length or not (weights >= 0).all() or abs(weights.sum() - 1) > 1e-6:
        raise ValueError(
            f"weights must be {'K' if K is None else K} non-negative numbers with sum 1, "
            f"got {weights!r}"
        )
    return weights / weights.sum()
