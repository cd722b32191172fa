"""What a fitted mixture answers, whatever fitted it."""

from .base import LatentVariableModel, fitted
from .closed_form import ClosedFormMixin
from .combining import combine
from .inference.blocks import each_block


class DiscreteVerbs(LatentVariableModel):
    """The verbs of a discrete latent."""

    def fit_predict(self, X, y=None, sample_weight=None):
        """Fit, then the most probable component of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : Ignored
            Present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Counts of the rows.

        Returns
        -------
        z : ndarray of shape (n_samples,), int64
        """
        return self.fit(X, sample_weight=sample_weight).predict(X)

    def predict_proba(self, X):
        """Probability of each component given the row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN marks missing entries.

        Returns
        -------
        probs : ndarray of shape (n_samples, n_components), float64
        """
        X = self._read(X)
        return each_block(self._density.responsibilities, X)

    def predict(self, X):
        """Most probable component of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN marks missing entries.

        Returns
        -------
        z : ndarray of shape (n_samples,), int64
        """
        return self.predict_proba(X).argmax(axis=1)

    def icl(self, X, sample_weight=None):
        """Integrated completed likelihood, bic + 2 entropy (Biernacki et al. 2000).

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        sample_weight : array-like of shape (n_samples,), default=None
            Counts of the rows.

        Returns
        -------
        icl : float
            Lower is better.
        """
        entropy = self._counts(X, sample_weight) @ self.posterior(X).entropy()
        return self.bic(X, sample_weight) + 2 * float(entropy)

    def combine_components(self, X, n_clusters=None, sample_weight=None):
        """Clusters made of several components each; the density stays what it is.

        Components are merged two by two, always those whose union lowers the entropy of the
        classification most. A likelihood or BIC chooses the components that describe the density;
        overlapping ones may be one cluster that is no Gaussian.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows that say how much the components overlap, such as those of `fit`; NaN marks missing
            entries.
        n_clusters : int, default=None
            Number of clusters, at most n_components. None takes the elbow of the entropies: the
            number at which two straight lines that meet there fit them best (of 3 components always
            2); n_components, where these are fewer than 3 or hardly overlap (entropy below 1 % of
            its largest value).
        sample_weight : array-like of shape (n_samples,), default=None
            Counts of the rows.

        Returns
        -------
        combined : CombinedComponents
            `n_clusters`, `mapping`, `labels` and `probabilities` of the rows, `predict` and
            `predict_proba` for others; `mappings` and `entropies` for every number of clusters, and
            `with_n_clusters` to choose another one.

        References
        ----------
        Baudry, Raftery, Celeux, Lo & Gottardo (2010), Combining mixture components for clustering,
        Journal of Computational and Graphical Statistics 19.

        Examples
        --------
        >>> import numpy as np
        >>> from sklvm import GaussianMixture
        >>> rng = np.random.default_rng(0)
        >>> arms = rng.normal(size=(2, 200, 2)) * [[[6.0, 0.5]], [[0.5, 6.0]]]  # one cross
        >>> X = np.concatenate([*arms, rng.normal(size=(200, 2)) + 15])
        >>> model = GaussianMixture(3, random_state=0).fit(X)
        >>> combined = model.combine_components(X)
        >>> combined.n_clusters
        2
        >>> np.bincount(combined.labels)
        array([400, 200])
        """
        weight = self._counts(X, sample_weight)
        return combine(self, self.predict_proba(X), weight, n_clusters)


class MixtureVerbs(ClosedFormMixin, DiscreteVerbs):
    """The verbs of a mixture whose components are an emission."""

    @fitted
    def weights_(self):
        """(n_components,) mixing proportions."""
        return self._density.weights.mean

    @fitted
    def means_(self):
        """(n_components, n_features) E[x | z = k], in the units of X."""
        return self._restore(self.run_.state.emission.expectation())

    @fitted
    def lower_bound_(self):
        """The objective at the end of the fit, nats per unit weight."""
        return float(self.run_.objective)

    @fitted
    def lower_bounds_(self):
        """(n_iter_,) the objective after each iteration."""
        return self.run_.history[1:]


class GaussianVerbs:
    """What the components of a mixture of Gaussians look like."""

    @fitted
    def covariances_(self):
        """Covariances in the shape of the structure, in squared units of X."""
        return self._whole(self.run_.state.emission.cov.compact)

    @fitted
    def precisions_(self):
        """Inverse covariances in the shape of the structure; zeros for constant columns."""
        cov = self.run_.state.emission.cov
        return self._whole(type(cov).invert(cov.compact))

    @fitted
    def precisions_cholesky_(self):
        """Upper triangular U with U U' = precision, in the shape of the structure."""
        return self._whole(self.run_.state.emission.cov.precision_roots)
