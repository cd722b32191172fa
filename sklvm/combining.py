"""Components combined into clusters: a cluster may need several components to describe its shape.

The mixture stays what it is, so the density does not change: a cluster's probability is the sum of
its components' responsibilities, and pairs are merged by how much that lowers the entropy.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.special import xlogy

NO_OVERLAP = 0.01  # share of the largest entropy, log K per row, below which nothing is merged


@dataclass(frozen=True)
class CombinedComponents:
    """Clusters made of the components of a mixture, whose density they leave as it is.

    Attributes
    ----------
    n_clusters : int
        Number of clusters that `labels`, `probabilities` and `predict` speak of.
    mappings : ndarray of shape (n_components, n_components), int64
        ``mappings[m - 1, k]`` is the cluster of component k among m clusters. Clusters are numbered
        in the order of their first components.
    entropies : ndarray of shape (n_components,), float64
        ``entropies[m - 1]`` is the classification entropy of m clusters, -sum_i w_i sum_c p_ic
        log p_ic, in nats for all rows together: 0 for one cluster, and never smaller for more.
    probabilities : ndarray of shape (n_samples, n_clusters), float64
        Probability of each cluster given the row.
    labels : ndarray of shape (n_samples,), int64
        Most probable cluster of each row.
    """

    n_clusters: int
    mappings: np.ndarray
    entropies: np.ndarray
    _resp: np.ndarray = field(repr=False)  # (n, K)
    _model: Any = field(repr=False)

    @property
    def mapping(self):
        """(n_components,) the cluster of each component among `n_clusters`."""
        return self.mappings[self.n_clusters - 1]

    @property
    def probabilities(self):
        """(n_samples, n_clusters) probability of each cluster given the row."""
        return self._summed(self._resp)

    @property
    def labels(self):
        """(n_samples,) most probable cluster of each row."""
        return self.probabilities.argmax(axis=1)

    def _summed(self, resp):
        return resp @ np.eye(self.n_clusters)[self.mapping]

    def with_n_clusters(self, n_clusters):
        """The same hierarchy, cut at another number of clusters.

        Parameters
        ----------
        n_clusters : int
            From 1 to the number of components.

        Returns
        -------
        combined : CombinedComponents
        """
        return replace(self, n_clusters=checked_number(n_clusters, len(self.mappings)))

    def predict_proba(self, X):
        """Probability of each cluster given the row, for any rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN marks missing entries.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_clusters), float64
        """
        return self._summed(self._model.predict_proba(X))

    def predict(self, X):
        """Most probable cluster of each row, for any rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN marks missing entries.

        Returns
        -------
        labels : ndarray of shape (n_samples,), int64
        """
        return self.predict_proba(X).argmax(axis=1)


def combine(model, resp, weight, n_clusters=None):
    """Merge a mixture's components, told by the responsibilities of rows: (n, K), (n,)."""
    K = resp.shape[1]
    if n_clusters is not None:
        n_clusters = checked_number(n_clusters, K)
    mappings, entropies = hierarchy(resp, weight)
    if n_clusters is None:
        n_clusters = elbow(entropies, weight.sum())
    return CombinedComponents(n_clusters, mappings, entropies, resp, model)


def checked_number(n_clusters, K):
    """A number of clusters that K components can make, or ValueError."""
    number = isinstance(n_clusters, int | np.integer) and not isinstance(n_clusters, bool)
    if not number or not 1 <= n_clusters <= K:
        raise ValueError(f"n_clusters must be an integer from 1 to {K}, got {n_clusters!r}")
    return int(n_clusters)


def hierarchy(resp, weight):
    """Merge, pair by pair, those two clusters whose union lowers the entropy most.

    -> mappings (K, K), entropies (K,), both by number of clusters (Baudry et al. 2010).
    """
    K = resp.shape[1]
    parts, members = resp.T.copy(), [[k] for k in range(K)]
    own = -xlogy(parts, parts) @ weight  # (K,) what each cluster adds to the entropy
    gain = np.full((K, K), -np.inf)  # of merging i < j
    for i in range(K - 1):
        gain[i, i + 1 :] = _gains(i, slice(i + 1, None), parts, own, weight)
    mappings, entropies = np.empty((K, K), dtype=np.int64), np.empty(K)
    for m in range(K, 0, -1):
        mappings[m - 1], entropies[m - 1] = _numbered(members, K), own.sum()
        if m == 1:
            break
        i, j = np.unravel_index(gain.argmax(), gain.shape)
        parts[i] += parts[j]
        own[i] = -xlogy(parts[i], parts[i]) @ weight
        members[i] += members.pop(j)
        parts, own = np.delete(parts, j, axis=0), np.delete(own, j)
        gain = np.delete(np.delete(gain, j, axis=0), j, axis=1)
        gain[:i, i] = _gains(i, slice(None, i), parts, own, weight)
        gain[i, i + 1 :] = _gains(i, slice(i + 1, None), parts, own, weight)
    return mappings, np.maximum(entropies, 0.0)


def _gains(i, others, parts, own, weight):
    """By how much merging i with each of the others lowers the entropy."""
    union = parts[i] + parts[others]
    return own[i] + own[others] + xlogy(union, union) @ weight


def _numbered(members, K):
    """The cluster of each component: lists of components, in order of their first ones -> (K,)."""
    mapping = np.empty(K, dtype=np.int64)
    for cluster, components in enumerate(members):
        mapping[components] = cluster
    return mapping


def elbow(entropies, weight):
    """Where the best two straight lines through the entropies meet (Baudry et al. 2010).

    The lines share the point of the elbow, and each is fitted by least squares, so three components
    leave one place for it. All components stay apart where they hardly overlap, and where they are
    too few for two lines.
    """
    K = len(entropies)
    if K < 3 or entropies[-1] <= NO_OVERLAP * weight * np.log(K):
        return K
    misfit = [_misfit(entropies[:m]) + _misfit(entropies[m - 1 :]) for m in range(2, K)]
    return 2 + int(np.argmin(misfit))


def _misfit(values):
    """Squared residuals of a straight line through equally spaced values."""
    x = np.arange(len(values)) - (len(values) - 1) / 2
    y = values - values.mean()
    return float(y @ y - (x @ y) ** 2 / (x @ x))
