"""The scikit-learn shell: validation in, state out, and the verbs that every model shares."""

from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import wraps
from numbers import Integral
from typing import NamedTuple

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    DensityMixin,
    TransformerMixin,
)
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.utils.validation import check_array, check_is_fitted

from ._compat import _check_sample_weight
from .callbacks import WatchedFit
from .emissions.base import OutsideSupport
from .inference.blocks import each_block
from .inference.history import FitInterrupted, Run
from .inference.randomness import generator
from .parameter_draws import DrawnParameters
from .validation import TrainingData, column_indices, read_rows
from .warn import warn_user


class Elbo(NamedTuple):
    """The evidence lower bound of each row, term by term, in nats.

    The three terms add up to `score_samples` wherever the posterior is exact and the parameters are
    points; a model that integrates its parameters pays `parameter_kl` once for all rows.
    """

    expected_log_likelihood: np.ndarray  # (n,) E_q[log p(x | z)]
    expected_log_prior: np.ndarray  # (n,) E_q[log p(z)]
    entropy: np.ndarray  # (n,) H[q(z)]
    parameter_kl: float  # KL(q(parameters) || prior)


class fitted:
    """A read-only attribute that shows part of the fitted state."""

    def __init__(self, read):
        self.read = read
        self.__doc__ = read.__doc__

    def __set_name__(self, owner, name):
        self.name = name

    def __get__(self, model, owner=None):
        if model is None:
            return self
        if "run_" not in vars(model):
            raise NotFittedError(f"{type(model).__name__} has no {self.name} before fit")
        value = self.read(model)
        if isinstance(value, np.ndarray):
            value = value.view()
            value.flags.writeable = False
        return value

    def __set__(self, model, value):
        raise AttributeError(
            f"{self.name} is read-only; build a model from known values with "
            f"{type(model).__name__}.from_parameters"
        )


class Absent:
    """A verb of the base class that this model does not have."""

    def __set_name__(self, owner, name):
        self.name = name

    def __get__(self, model, owner=None):
        raise AttributeError(f"{owner.__name__} has no {self.name}")


def freeze(state):
    """Make every array of a state read-only, in place: what is fitted is a value."""
    if isinstance(state, np.ndarray):
        state.flags.writeable = False
    elif isinstance(state, dict):
        for part in state.values():
            freeze(part)
    elif isinstance(state, tuple):
        for part in state:
            freeze(part)
    elif is_dataclass(state):
        for field in fields(state):
            freeze(getattr(state, field.name))


def all_or_nothing(fit):
    """A fit that does not get as far as a state leaves the estimator as it was."""

    @wraps(fit)
    def guarded(model, *args, **kwargs):
        before = vars(model).copy()
        try:
            return fit(model, *args, **kwargs)
        except FitInterrupted:
            raise  # the best state so far is stored
        except BaseException:
            vars(model).clear()
            vars(model).update(before)
            raise

    return guarded


class FittedModel(
    WatchedFit,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    DensityMixin,
    BaseEstimator,
):
    """What models of rows and of sequences share: how a fit ends, and what it leaves.

    A subclass writes `fit`, which ends in `_finish(run, data)`.
    """

    _doc_link_module = "sklvm"

    # -- fitting -------------------------------------------------------------------------------

    def _rng(self):
        return generator(self.random_state)

    def _drive(self, climb, data):
        """Run a driver; keep what it had if the user interrupts it."""
        try:
            return climb()
        except FitInterrupted as stop:
            self._finish(stop.run, data, report=False)
            raise

    def _fitted_attributes(self, run, data):
        """Everything that a fit leaves on the estimator besides what validation did."""
        return {
            "_constant": data.constant,
            "_constant_values": data.constant_values,
            "total_weight_": float(data.weight.sum()),
            "_n_features_out": run.state.n_latents,
            "run_": run,
        }

    def _finish(self, run, data, report=True):
        freeze(run.state)
        vars(self).update(self._fitted_attributes(run, data))
        self._tell_end(data)
        if report and not run.converged and run.n_iter >= self.max_iter:
            warn_user(
                f"{type(self).__name__} did not converge in {run.n_iter} iterations; increase "
                f"max_iter (now {self.max_iter}) or tol (now {self.tol})",
                ConvergenceWarning,
            )
        return self

    @classmethod
    def _from_state(cls, state, constant=None, constant_values=None, names=None, **params):
        """A fitted estimator around a state that no fit made."""
        model = cls(**params)
        if constant is None:
            constant, constant_values = np.zeros(state.n_features, bool), np.zeros(state.n_features)
        freeze(state)
        data = TrainingData(np.empty((0, 0)), np.empty(0), None, constant, constant_values)
        vars(model).update(model._fitted_attributes(Run(state, np.empty(0), True, 0), data))
        model.n_features_in_ = len(constant)
        if names is not None:
            model.feature_names_in_ = names
        return model

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    # -- from the user's columns to the state's and back ---------------------------------------

    def _in_support(self, X, density, constant):
        """Refuse what a density gives no probability: constant is (d,) bool."""
        with self._naming_columns(constant):
            density.check(X)
        return X

    @contextmanager
    def _naming_columns(self, constant):
        """Errors about columns of the density name the user's: constant is (d,) bool."""
        try:
            yield
        except OutsideSupport as error:
            columns = np.flatnonzero(~constant)[error.columns]
            columns = columns if self._names is None else self._names[columns]
            raise ValueError(f"{error} (columns {columns.tolist()})") from None

    def _varying(self, X):
        return X[:, ~self.constant_] if self.constant_.any() else X

    def _restore(self, columns, fill=None):
        """Put constant columns back along the last axis: (..., d_varying) -> (..., d)."""
        if not self.constant_.any():
            return columns
        shape = (*columns.shape[:-1], len(self.constant_))
        whole = np.empty(shape, columns.dtype)
        whole[...] = self.constant_values_ if fill is None else fill
        whole[..., ~self.constant_] = columns
        return whole

    def _restore_square(self, matrices):
        """Rows and columns of zeros for constant features: (..., d_varying, d_varying)."""
        rows = self._restore(matrices, fill=0.0)
        return np.swapaxes(self._restore(np.swapaxes(rows, -1, -2), fill=0.0), -1, -2)

    def _whole(self, compact):
        """A compact covariance-like array with zeros for the constant columns."""
        axes = type(self.run_.state.emission.cov).feature_axes
        restore = {0: lambda a: a, 1: lambda a: self._restore(a, 0.0), 2: self._restore_square}
        return restore[axes](compact)

    @property
    def _density(self):
        """The state that scores: a posterior over parameters is integrated first."""
        return self.run_.state.predictive()

    # -- fitted attributes ---------------------------------------------------------------------

    @fitted
    def state_(self):
        """The fitted state: an immutable value."""
        return self.run_.state

    @fitted
    def history_(self):
        """(n_iter_ + 1,) objective at the start and after each iteration, nats per unit weight."""
        return self.run_.history

    @fitted
    def n_iter_(self):
        """Number of iterations: passes over the rows."""
        return self.run_.n_iter

    @fitted
    def converged_(self):
        """Whether the stopping rule ended the fit, not max_iter or an interruption."""
        return self.run_.converged

    @fitted
    def n_parameters_(self):
        """Number of free parameters of the density."""
        return self.run_.state.n_parameters

    @fitted
    def constant_(self):
        """(n_features,) bool: columns that were constant in fit and stay outside the density."""
        return self._constant

    @fitted
    def constant_values_(self):
        """(n_features,) what the constant columns hold; 0 elsewhere."""
        return self._constant_values

    @fitted
    def score_kind_(self):
        """What score_samples returns: "exact", "lower", "estimate" or "conditional"."""
        return "exact"

    @fitted
    def base_measure_(self):
        """(n_features,) "lebesgue" or "counting": what the density of a column is relative to."""
        measures = np.full(len(self.constant_), self._constant_measure, dtype=object)
        measures[~self.constant_] = self.run_.state.base_measure
        return measures

    @property
    def _constant_measure(self):
        """What `base_measure_` says of columns that are constant: a word, or one per column."""
        return self.run_.state.base_measure

    # -- verbs ---------------------------------------------------------------------------------

    def score(self, X, y=None, sample_weight=None):
        """Mean of `score_samples`, so that higher is better.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : Ignored
            Present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the mean.

        Returns
        -------
        score : float
            Nats per row.
        """
        scores = self.score_samples(X)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, scores[:, None], dtype=np.float64)
        return float(np.average(scores, weights=sample_weight))

    def elbo(self, X):
        """The evidence lower bound of each row: expected log-likelihood, log-prior and entropy.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN marks missing entries.

        Returns
        -------
        terms : Elbo
            Named tuple of three arrays of shape (n_samples,) and the float `parameter_kl`.
        """
        terms = self._elbo_state.elbo_terms(self._read(X))
        return Elbo(*terms, parameter_kl=self._parameter_kl())

    @property
    def _elbo_state(self):
        return self.run_.state

    def _parameter_kl(self):
        return 0.0

    def marginal(self, columns):
        """The model of some of the columns, the others integrated out.

        Parameters
        ----------
        columns : int, str, or array-like of int, str or bool, or slice
            Columns to keep, named as in ColumnTransformer.

        Returns
        -------
        model : estimator
            A fitted model of these columns, in this order.
        """
        check_is_fitted(self)
        kept = self._columns(columns)
        return self._wrap(self._density.marginal(self._state_columns(kept)), kept)

    def _columns(self, columns):
        return column_indices(columns, len(self.constant_), self._names)

    @property
    def _names(self):
        """The names of the columns, or None."""
        return getattr(self, "feature_names_in_", None)

    def _state_columns(self, kept):
        """Positions in the state of the varying ones among some of the user's columns."""
        position = np.cumsum(~self.constant_) - 1
        varying = position[kept[~self.constant_[kept]]]
        if not len(varying):
            raise ValueError("these columns are all constant: they have no density")
        return varying

    def _wrap(self, state, kept):
        """A fitted estimator for a density of some of the columns."""
        names = self._names
        return self._derived._from_state(
            state,
            constant=self.constant_[kept],
            constant_values=self.constant_values_[kept],
            names=None if names is None else names[kept],
            **self._params_of(state, kept),
        )

    @property
    def _derived(self):
        """The class of models derived from this one: its own, unless it says otherwise."""
        return type(self)

    def _params_of(self, state, kept):
        """Constructor parameters of a model around a state of some of this one's columns."""
        return self.get_params(deep=False)

    def aic(self, X, sample_weight=None):
        """Akaike's information criterion, -2 log-likelihood + 2 n_parameters_: lower is better.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        sample_weight : array-like of shape (n_samples,), default=None
            Counts of the rows.

        Returns
        -------
        aic : float
        """
        return -2 * self._evidence(X, sample_weight)[0] + 2 * self.n_parameters_

    def bic(self, X, sample_weight=None):
        """Bayesian information criterion, -2 log-likelihood + n_parameters_ log(n).

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        sample_weight : array-like of shape (n_samples,), default=None
            Counts of the rows; n is their sum over rows (of sequences: steps) with any entry.

        Returns
        -------
        bic : float
            Lower is better (Schwarz 1978).
        """
        log_likelihood, n = self._evidence(X, sample_weight)
        return -2 * log_likelihood + self.n_parameters_ * float(np.log(n))


class LatentVariableModel(DrawnParameters, FittedModel):
    """A density p(x) = integral of p(x | z) p(z) over z. Subclasses say how to fit it.

    The density is a state with log_prob, posterior, elbo_terms, sample, fill_mean, fill_mode,
    fill_sample, marginal and n_parameters; everything below asks it and knows about columns, blocks
    and containers.
    """

    _input_dtype: tuple = (np.float64,)  # what rows may be; others become the first

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = [np.dtype(t).name for t in self._input_dtype]
        return tags

    def _read(self, X):
        """Validated rows of the varying columns: (n, d) -> (n, d_varying)."""
        X = self._varying(self._read_all(X))
        return self._in_support(X, self.run_.state, self.constant_)

    def _read_all(self, X):
        check_is_fitted(self)
        return read_rows(self, X, reset=False, dtype=self._input_dtype)

    def score_samples(self, X):
        """Log density of each row, in nats and in the units of X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN marks missing entries, which are integrated out.

        Returns
        -------
        log_density : ndarray of shape (n_samples,), float64
            A deterministic function of each row alone; 0 for a row without any entry.
        """
        X = self._read(X)
        return each_block(self._density.log_prob, X)

    def posterior(self, X):
        """p(z | x) of each row, as an object with mean, sample, entropy, log_prob, kl_to_prior.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN marks missing entries.

        Returns
        -------
        posterior : CategoricalPosterior, GaussianPosterior or BinaryPosterior
            One distribution per row.
        """
        return self._density.posterior(self._read(X))

    def transform(self, X):
        """Posterior mean of the latents.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN marks missing entries.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_components)
            Responsibilities where the latent is discrete, probabilities of hidden bits, E[z | x]
            where it is continuous (a VAE: by importance sampling with the points that all rows
            share).
        """
        X = self._read(X)
        Z = each_block(lambda rows: self._density.posterior(rows).mean, X)
        return Z.astype(X.dtype, copy=False)

    def inverse_transform(self, X):
        """E[x | z]: what the latents lead one to expect.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components)
            Latents as `transform` gives them; weights of the components where they are discrete.

        Returns
        -------
        X_expected : ndarray of shape (n_samples, n_features)
            In the units of the data that the model was fitted to.
        """
        check_is_fitted(self)
        Z = check_array(X, dtype=self._input_dtype, ensure_min_features=0)
        q = self._density.n_latents
        if Z.shape[1] != q:
            raise ValueError(
                f"inverse_transform needs {q} columns, one per latent, got {Z.shape[1]}"
            )
        return self._restore(self._density.expectation(Z).astype(Z.dtype))

    def sample(self, n_samples=1, random_state=None):
        """Draw rows, and the latents that caused them.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        random_state : int, RandomState instance or None, default=None
            Two calls with None differ, an int repeats.

        Returns
        -------
        X : ndarray of shape (n_samples, n_features)
            Rows.
        Z : ndarray of shape (n_samples,) or (n_samples, n_components)
            Their latents.
        """
        check_is_fitted(self)
        X, Z = self._density.sample(positive_int(n_samples, "n_samples"), generator(random_state))
        return self._restore(X), Z

    def impute(self, X, how="mean", n_draws=1, random_state=None, parameters="point"):
        """Fill every NaN from p(x_missing | x_seen); what was observed stays as it was, to the bit.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN marks missing entries.
        how : {"mean", "mode", "sample"}, default="mean"
            Conditional mean, joint mode, or independent draws.
        n_draws : int, default=1
            Number of completed copies; more than one needs how="sample".
        random_state : int, RandomState instance or None, default=None
            Randomness of how="sample".
        parameters : {"point", "posterior"}, default="point"
            "point" draws from the fitted density. "posterior", for how="sample", draws the
            parameters first, once for each copy: from q where a posterior was fitted, elsewhere by
            the weighted-likelihood bootstrap (Newton & Raftery 1994), EM from the fitted model with
            random weights *on the rows of X*, so X is the whole table, as a rule that of `fit`.
            `sklvm.pool` then gives intervals that know what is missing (Rubin 1987). A q that was
            fitted to rows with many missing entries is narrower than the posterior.

        Returns
        -------
        X_filled : ndarray of shape (n_samples, n_features), or (n_draws, n_samples, n_features)
            Completed rows; the second shape where n_draws > 1.
        """
        n_draws = checked_draws(how, n_draws, parameters)
        X = self._read_all(X)
        varying = self._in_support(self._varying(X), self.run_.state, self.constant_)
        if how != "sample":
            return self._filled(X, varying, getattr(self._density, f"fill_{how}"))
        rng = generator(random_state)
        if parameters == "posterior":
            copies = self._copies_of_drawn_parameters(X, varying, n_draws, rng)
        else:
            copies = self._filled(
                np.tile(X, (n_draws, 1)),
                np.tile(varying, (n_draws, 1)),
                lambda rows: self._density.fill_sample(rows, rng),
            )
        return copies if n_draws == 1 else copies.reshape(n_draws, *X.shape)

    def _filled(self, X, varying, fill):
        """A copy of X (n, d) whose NaN the state's `fill` replaced, block by block."""
        filled = X.copy()
        holes = np.isnan(X).any(axis=1)
        if holes.any():
            whole = self._restore(each_block(fill, varying[holes]))
            filled[holes] = np.where(np.isnan(X[holes]), whole, X[holes])
        return filled

    def _evidence(self, X, sample_weight):
        """Weighted log-likelihood of rows, and how many have an entry."""
        weight = self._counts(X, sample_weight)
        return float(weight @ self.score_samples(X)), float(weight.sum())

    def _counts(self, X, sample_weight):
        """The weight of each row, zero for rows without any entry: -> (n,)."""
        X = self._read(X)
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64)
        if (weight < 0).any():
            raise ValueError(
                "Negative values in data passed to `sample_weight`: weights are counts"
            )
        return weight * ~np.isnan(X).all(axis=1)


def checked_draws(how, n_draws, parameters):
    """The number of copies that an imputation `how` is asked for, or ValueError."""
    n_draws = positive_int(n_draws, "n_draws")
    if how not in ("mean", "mode", "sample"):
        raise ValueError(f"how must be 'mean', 'mode' or 'sample', got {how!r}")
    if n_draws > 1 and how != "sample":
        raise ValueError(f"n_draws={n_draws} needs how='sample': {how!r} is one value")
    if parameters not in ("point", "posterior"):
        raise ValueError(f"parameters must be 'point' or 'posterior', got {parameters!r}")
    if parameters == "posterior" and how != "sample":
        raise ValueError(f"parameters='posterior' needs how='sample', got {how!r}")
    return n_draws


def positive_int(value, name):
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
    return int(value)
