"""What a fitted mixture answers, whatever fitted it."""

from .base import LatentVariableModel, fitted
from .closed_form import ClosedFormMixin
from .inference.blocks import each_block


class MixtureVerbs(ClosedFormMixin, LatentVariableModel):
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

    def _whole(self, compact):
        """A compact covariance-like array with zeros for the constant columns."""
        axes = type(self.run_.state.emission.cov).feature_axes
        restore = {0: lambda a: a, 1: lambda a: self._restore(a, 0.0), 2: self._restore_square}
        return restore[axes](compact)

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
