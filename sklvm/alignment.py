"""The components of one fitted mixture in the order of another's."""

from copy import copy

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.utils.validation import check_is_fitted

from .base import freeze
from .emissions.overlap import bhattacharyya
from .mixture_verbs import MixtureVerbs


class AlignedComponents:
    """A mixture whose components have no order of their own can take that of another one."""

    def align_to(self, other):
        """A copy whose components are in the order that best matches those of another mixture.

        Components that describe the same rows have different numbers in different fits: in those of
        other resamples, of the folds of a cross-validation, of last month's rows. This one matches
        them one to one so that the sum of distances is smallest (Kuhn's Hungarian method).

        Parameters
        ----------
        other : fitted mixture
            Of the same columns; any of the mixtures of sklvm with at most as many components.

        Returns
        -------
        model : same class as this one
            Fitted; component k is the match of component k of `other`, those without a match follow
            in their own order. Scores are the same numbers as before, and this model stays as it
            is.

        Raises
        ------
        TypeError
            If `other` is no fitted mixture.
        ValueError
            If `other` has other columns, or more components.

        Notes
        -----
        The distance between two components is Bhattacharyya's, -log of the integral of the square
        root of the product of their densities, over the columns that vary in both fits. Between
        Gaussians it is a closed form (matrices of all features are made, whatever the structure);
        between others it comes from fixed draws of both. Weights play no part. So the answer
        depends on the two models alone, and not on the units of the columns.

        References
        ----------
        Bhattacharyya (1943). Kuhn (1955), The Hungarian method for the assignment problem. Stephens
        (2000), Dealing with label switching in mixture models.

        Examples
        --------
        >>> import numpy as np
        >>> from sklvm import GaussianMixture
        >>> X = np.r_[np.zeros(60), np.full(40, 9.0)][:, None] + np.linspace(-1, 1, 100)[:, None]
        >>> first = GaussianMixture(2, random_state=0).fit(X)
        >>> second = GaussianMixture(2, random_state=0).fit(X[30:])  # the other one is heavier now
        >>> (second.means_[:, 0] > 4).tolist(), (second.align_to(first).means_[:, 0] > 4).tolist()
        ([True, False], [False, True])
        """
        check_is_fitted(self)
        self._refuse_to_align(other)
        common = ~self.constant_ & ~other.constant_
        if not common.any():
            raise ValueError("no column varies in both models: there is nothing to align by")
        parts = [
            model._density.emission.marginal(model._state_columns(np.flatnonzero(common)))
            for model in (other, self)
        ]
        match = linear_sum_assignment(bhattacharyya(*parts))[1]  # (M,)
        rest = np.setdiff1d(np.arange(self._density.n_latents), match)
        return self._reordered(np.concatenate([match, rest]))

    def _refuse_to_align(self, other):
        if not isinstance(other, MixtureVerbs) or "run_" not in vars(other):
            raise TypeError(f"align_to needs a fitted mixture of sklvm, got {other!r}")
        names = [getattr(model, "feature_names_in_", None) for model in (self, other)]
        named = all(part is not None for part in names)
        here, there = names if named else (range(m.n_features_in_) for m in (self, other))
        if list(here) != list(there):
            raise ValueError(
                f"align_to needs a model of the same columns: this one knows {list(here)}, the "
                f"other {list(there)}"
            )
        K, M = self._density.n_latents, other._density.n_latents
        if M > K:
            raise ValueError(
                f"align_to matches each component of the other model, and that has {M}, this one "
                f"{K}: align the other one to this one"
            )

    def _reordered(self, order):
        """A fitted copy with its components in another order, streams of batches included."""
        run, stream = self.run_, vars(self).get("_stream")
        stats = None if run.stats is None else run.stats.take(order)
        model = copy(self)
        model.run_ = run._replace(state=run.state.take(order), stats=stats)
        freeze(model.run_.state)
        if stream is not None:
            model._stream = stream.take(order)
        return model
