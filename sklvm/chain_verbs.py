"""What a fitted hidden Markov model answers besides what every model of sequences does."""

from typing import NamedTuple

import numpy as np

from .base import fitted, positive_int
from .chain_forecast import Forecast
from .numerics.chain import predict_ahead
from .numerics.linalg import posterior_and_evidence
from .sequence_model import SequenceModel

DOUBLINGS = 64  # of the steps of a lazy chain: far beyond any time to mix that float64 can hold


class FilterState(NamedTuple):
    """What a stream has said so far of the state that it is in."""

    probs: np.ndarray  # (K,) p(z_t | x_1..t)
    log_density: float  # log p(x_t | x_<t), nats


class ChainVerbs(SequenceModel):
    """The verbs of a chain of discrete states."""

    def fit_predict(self, X, y=None, sample_weight=None, *, lengths=None):
        """Fit, then the most probable path of each sequence.

        Parameters
        ----------
        X : list of array-like of shape (n_steps, n_channels), or array
            Sequences; with `lengths` stacked rows (sum(lengths), n_channels).
        y : Ignored
            Present for API consistency.
        sample_weight : array-like of shape (n_sequences,), default=None
            Counts of the sequences.
        lengths : array-like of shape (n_sequences,) of int, default=None
            Number of rows of each sequence, where X holds stacked rows.

        Returns
        -------
        path : in the container of X
            Integers (T_i,); of stacked rows (sum(lengths),).
        """
        self.fit(X, sample_weight=sample_weight, lengths=lengths)
        return self._paths(self._read_all(X, lengths))

    def _paths(self, read):
        return read.restore(self._density.paths(self._inside(read)))

    def predict(self, X):
        """The most probable path of states of each sequence, by the Viterbi algorithm.

        Parameters
        ----------
        X : list of array-like of shape (n_steps, n_channels), or array
            Sequences; NaN marks missing entries.

        Returns
        -------
        path : in the container of X
            Integers (T_i,); -1 in padding. Among paths of equal probability, which channels of few
            values often have, rounding chooses.
        """
        return self._paths(self._read_all(X))

    def predict_proba(self, X):
        """Probability of each state at each step given the whole sequence (smoothed).

        Parameters
        ----------
        X : list of array-like of shape (n_steps, n_channels), or array
            Sequences; NaN marks missing entries.

        Returns
        -------
        probs : in the container of X
            (T_i, n_components) per sequence; NaN in padding.
        """
        read = self._read(X)
        return read.restore(self._density.smoothed(read))

    def filter(self, X):
        """Probability of each state at each step given the steps up to it.

        Parameters
        ----------
        X : list of array-like of shape (n_steps, n_channels), or array
            Sequences; NaN marks missing entries.

        Returns
        -------
        probs : in the container of X
            (T_i, n_components) per sequence; NaN in padding.
        """
        read = self._read(X)
        return read.restore(self._density.filtered(read).probs)

    def filter_update(self, x, state=None):
        """Take in one step of a stream.

        Parameters
        ----------
        x : array-like of shape (n_channels,), or DataFrame of one row
            What came; NaN marks missing entries.
        state : FilterState, default=None
            What the last update returned; None where x is the first step.

        Returns
        -------
        state : FilterState
            Named tuple of `probs`, p(z_t | x_1..t), and `log_density`, log p(x_t | x_1..t-1).
        """
        read, density = self._read_step(x), self._density
        moves = density.transmat.mean
        if not isinstance(state, FilterState | None):
            raise TypeError(
                f"state must be what filter_update returned, got {type(state).__name__}"
            )
        before = density.startprob.mean if state is None else state.probs @ moves
        with np.errstate(divide="ignore"):
            joint = np.log(before) + density.emission.log_prob(read.steps)
        probs, log_density = posterior_and_evidence(joint)
        return FilterState(probs[0], float(log_density[0]) if read.observed[0] else 0.0)

    def forecast(self, X, horizon=1):
        """The steps that follow each sequence: states, means and covariances.

        Parameters
        ----------
        X : list of array-like of shape (n_steps, n_channels), or array
            Sequences; NaN marks missing entries.
        horizon : int, default=1
            Steps to look ahead.

        Returns
        -------
        forecast : Forecast
            Named tuple of `mean` (n_sequences, horizon, n_channels), `covariance` (n_sequences,
            horizon, n_channels, n_channels), zeros for constant channels, and `probs` (n_sequences,
            horizon, n_components). ``quantile(q)`` gives quantiles of each entry, exact for its
            mixture over the states, and ``interval(level)`` central bands of this probability.

        Examples
        --------
        >>> import numpy as np
        >>> from sklvm import HMM
        >>> calls = np.array([2, 3, 1, 2, 14, 11, 12, 16, 13, 12, 3, 2, 1, 2, 2])[:, None]
        >>> model = HMM(2, emission="poisson", random_state=0).fit([calls])
        >>> ahead = model.forecast([calls], horizon=2)
        >>> ahead.mean.round(1).ravel()
        array([3.7, 4.6])
        >>> low, high = ahead.interval(0.9)
        >>> low.ravel(), high.ravel()
        (array([0., 0.]), array([13., 15.]))
        """
        horizon, read = positive_int(horizon, "horizon"), self._read(X)
        density, some = self._density, read.lengths > 0
        last = density.filtered(read).probs[read.starts[1:][some] - 1]
        ahead = np.tile(density.startprob.mean, (len(read), 1))
        ahead[some] = last @ density.transmat.mean
        rest = predict_ahead(ahead, density.transmat.mean, horizon - 1)
        probs = np.concatenate([ahead[None], rest]).swapaxes(0, 1)  # (n, horizon, K)
        mean, covariance = density.step_moments(probs)
        moments = self._restore(mean), self._restore_square(covariance)
        return Forecast(*moments, probs, density.emission, ~self.constant_)

    def icl(self, X, sample_weight=None):
        """Integrated completed likelihood, bic + 2 entropy of the paths (Biernacki et al. 2000).

        Parameters
        ----------
        X : list of array-like of shape (n_steps, n_channels), or array
            Sequences.
        sample_weight : array-like of shape (n_sequences,), default=None
            Counts of the sequences.

        Returns
        -------
        icl : float
            Lower is better.
        """
        read, weight = self._counts(X, sample_weight)
        entropy = weight @ self._density.posterior(read).entropy()
        return self.bic(X, sample_weight) + 2 * float(entropy)

    @fitted
    def startprob_(self):
        """(n_components,) probability of each state at the first step."""
        return self._density.startprob.mean

    @fitted
    def transmat_(self):
        """(n_components, n_components) probability of the move from state i to state j."""
        return self._density.transmat.mean

    @fitted
    def means_(self):
        """(n_components, n_channels) E[x_t | z_t = k], in the units of X."""
        return self._restore(self.run_.state.emission.expectation())

    @fitted
    def covariances_(self):
        """Covariances (Student-t: scales) in the shape of the structure, in squared units of X."""
        return self._whole(self.run_.state.emission.cov.compact)

    @fitted
    def expected_durations_(self):
        """(n_components,) expected steps of a stay in each state: 1 / (1 - transmat_[k, k])."""
        leaves = 1 - np.diag(self._density.transmat.mean)
        return np.where(leaves > 0, 1 / np.where(leaves > 0, leaves, 1.0), np.inf)

    @fitted
    def stationary_distribution_(self):
        """(n_components,) long-run share of the steps in each state, from `startprob_` on."""
        density = self._density
        lazy = (np.eye(density.n_latents) + density.transmat.mean) / 2  # the same share; no cycles
        for _ in range(DOUBLINGS):
            lazy = lazy @ lazy
            lazy /= lazy.sum(axis=1, keepdims=True)
        return density.startprob.mean @ lazy
