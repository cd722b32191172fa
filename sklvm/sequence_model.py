"""The scikit-learn shell of models of sequences: X[i] is the i-th of them, in any container."""

import warnings
from itertools import repeat

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ._compat import _check_sample_weight
from .base import FittedModel, checked_draws, fitted, positive_int
from .inference.randomness import generator
from .sequences import read_sequences


class SequenceModel(FittedModel):
    """A density of sequences. Subclasses say how to fit it.

    The density is a state with log_prob, filtered, posterior, latent_mean, elbo_terms, sample,
    fill_mean, fill_mode, fill_sample, marginal and n_parameters; it is asked of `Sequences` of the
    channels that vary. Everything below asks it and knows about channels and containers.
    """

    _n_timesteps = None  # until a fit sees sequences

    # -- from the user's sequences to the state's and back --------------------------------------

    def _read(self, X):
        """Validated sequences of the channels that vary."""
        return self._inside(self._read_all(X))

    def _read_all(self, X, lengths=None):
        check_is_fitted(self)
        return read_sequences(self, X, reset=False, lengths=lengths)

    def _read_step(self, x):
        """One step (d,), or a DataFrame of one row, as a sequence; a stream has no names."""
        if hasattr(x, "columns"):
            return self._read([x])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "X does not have valid feature names")
            return self._read([np.reshape(x, (1, -1))])

    def _inside(self, read):
        """The channels that vary, refused where the density gives them no probability."""
        read = read.channels(~self.constant_) if self.constant_.any() else read
        self._in_support(read.steps, self.run_.state, self.constant_)
        return read

    @classmethod
    def _from_state(cls, state, constant=None, constant_values=None, names=None, **params):
        """A fitted estimator around a state that no fit made."""
        model = super()._from_state(state, constant, constant_values, names, **params)
        model.n_channels_ = model.n_features_in_
        return model

    def _wrap(self, state, kept):
        model = super()._wrap(state, kept)
        model._n_timesteps = self._n_timesteps
        return model

    @property
    def _names(self):
        """The names of the channels, or None: of 2-D X the columns are steps and channels."""
        names = super()._names
        return names if names is None or len(names) == self.n_channels_ else None

    def _params_of(self, state, kept):
        return {**super()._params_of(state, kept), "n_channels": len(kept)}

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    # -- verbs ---------------------------------------------------------------------------------

    def score_samples(self, X):
        """Log density of each sequence, in nats and in the units of X.

        Parameters
        ----------
        X : list of array-like of shape (n_steps, n_channels), or array
            Sequences, in any of the containers that `fit` accepts; NaN marks missing entries, which
            are integrated out.

        Returns
        -------
        log_density : ndarray of shape (n_sequences,), float64
            A deterministic function of each sequence alone; 0 for one without any entry.
        """
        return self._density.log_prob(self._read(X))

    def score_steps(self, X):
        """log p(x_t | x_1 .. x_(t-1)) of each step: how surprising it is when it comes.

        Parameters
        ----------
        X : list of array-like of shape (n_steps, n_channels), or array
            Sequences; NaN marks missing entries.

        Returns
        -------
        log_density : in the container of X
            One number (T_i,) per step, nats: their sum is the score of the sequence. 0 where
            nothing was seen.
        """
        read = self._read(X)
        return read.restore(self._density.filtered(read).log_density)

    def posterior(self, X):
        """p(z | x) of each sequence, an object with mean, sample, entropy, log_prob, kl_to_prior.

        Parameters
        ----------
        X : list of array-like of shape (n_steps, n_channels), or array
            Sequences; NaN marks missing entries.

        Returns
        -------
        posterior : object
            One distribution of paths per sequence.
        """
        return self._density.posterior(self._read(X))

    def transform(self, X):
        """Mean of the latents over the steps of each sequence, given all of it.

        Parameters
        ----------
        X : list of array-like of shape (n_steps, n_channels), or array
            Sequences; NaN marks missing entries.

        Returns
        -------
        Z : ndarray of shape (n_sequences, n_components), float64
            Expected share of the steps in each state where states are discrete.
        """
        return self._density.latent_mean(self._read(X))

    def sample(self, n_samples=1, random_state=None, *, n_timesteps=None):
        """Draw sequences, and the latents that caused them.

        Parameters
        ----------
        n_samples : int, default=1
            Number of sequences.
        random_state : int, RandomState instance or None, default=None
            Two calls with None differ, an int repeats.
        n_timesteps : int, default=None
            Steps of each; None is the weighted median of the training lengths.

        Returns
        -------
        X : ndarray of shape (n_samples, n_timesteps, n_channels)
            Sequences.
        Z : ndarray of shape (n_samples, n_timesteps) or (n_samples, n_timesteps, n_components)
            Their latents.
        """
        check_is_fitted(self)
        n, T = self._checked_sizes(n_samples, n_timesteps)
        X, Z = self._density.sample(n, T, generator(random_state))
        return self._restore(X), Z

    def _checked_sizes(self, n_samples, n_timesteps):
        """How many sequences of how many steps to draw, or ValueError."""
        T = self.n_timesteps_ if n_timesteps is None else n_timesteps
        if T is None:
            raise ValueError("a model from parameters saw no lengths: sample needs n_timesteps")
        return positive_int(n_samples, "n_samples"), positive_int(T, "n_timesteps")

    def impute(self, X, how="mean", n_draws=1, random_state=None, parameters="point"):
        """Fill every NaN given all that was seen of its sequence; the rest stays, to the bit.

        Parameters
        ----------
        X : list of array-like of shape (n_steps, n_channels), or array
            Sequences; NaN marks missing entries. Behind the end of a sequence in a 3-D array it is
            padding and stays NaN; steps at the end of a sequence in a list are filled.
        how : {"mean", "mode", "sample"}, default="mean"
            Conditional mean, the mode of each step's missing entries, or a joint draw.
        n_draws : int, default=1
            Number of completed copies; more than one needs how="sample".
        random_state : int, RandomState instance or None, default=None
            Randomness of how="sample".
        parameters : {"point", "posterior"}, default="point"
            "point" draws from the fitted density. "posterior", for how="sample", draws the
            parameters first, once for each copy, by the weighted-likelihood bootstrap: EM from the
            fitted model with random weights *on the sequences of X*, so X is all of them; a model
            by variational Bayes draws from its posterior.
            `sklvm.pool` then gives intervals that know what is missing.

        Returns
        -------
        X_filled : in the container of X, or a list of n_draws of them
            Completed sequences; a list where n_draws > 1.
        """
        n_draws = checked_draws(how, n_draws, parameters)
        read = self._read_all(X)
        varying = self._inside(read)
        if how != "sample":
            return self._filled(read, getattr(self._density, f"fill_{how}")(varying))
        rng = generator(random_state)
        densities = repeat(self._density, n_draws)
        if parameters == "posterior":
            densities = self._parameter_draws(varying, n_draws, rng)
        copies = [self._filled(read, density.fill_sample(varying, rng)) for density in densities]
        return copies if n_draws > 1 else copies[0]

    def _filled(self, read, steps):
        """Sequences whose NaN are replaced by steps (N, d_varying) of the varying channels."""
        whole = np.where(np.isnan(read.steps), self._restore(steps), read.steps)
        return read.restore_data(whole)

    @fitted
    def n_timesteps_(self):
        """Weighted median length of the training sequences; None where no fit saw any."""
        return self._n_timesteps

    def _counts(self, X, sample_weight):
        """Sequences and their weights."""
        read = self._read(X)
        return read, _check_sample_weight(sample_weight, read.lengths, dtype=np.float64)

    def _evidence(self, X, sample_weight):
        """Weighted log-likelihood of sequences, and how many of their steps have an entry."""
        read, weight = self._counts(X, sample_weight)
        n = float(weight @ read.sums(read.observed))
        return float(weight @ self._density.log_prob(read)), n
