"""Sequences in every container, and the smallest model of them: every step is normal."""

import numpy as np
import pandas as pd
import polars as pl
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    DensityMixin,
    TransformerMixin,
)
from sklearn.utils.validation import check_is_fitted

from sklvm._compat import Integral, Interval, _check_sample_weight, _fit_context
from sklvm.base import all_or_nothing
from sklvm.sequences import read_sequences, read_training_sequences


class WhiteNoise(ClassNamePrefixFeaturesOutMixin, TransformerMixin, DensityMixin, BaseEstimator):
    """p(x_1..T) = prod_t prod_j N(x_tj; mean_j, var_j); the "state": is channel 0 high?"""

    _parameter_constraints: dict = {
        "n_channels": [Interval(Integral, 1, None, closed="left")],
        "shrinkage": [Interval(Integral, 0, None, closed="left")],
    }

    def __init__(self, shrinkage=0, *, n_channels=1):
        self.shrinkage = shrinkage
        self.n_channels = n_channels

    @all_or_nothing
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None, *, lengths=None, labels=None):
        data = read_training_sequences(
            self, X, sample_weight, n_states=2, lengths=lengths, labels=labels
        )
        x, w = data.sequences.steps, data.sequences.spread(data.weight)[:, None]
        mass = (w * ~np.isnan(x)).sum(axis=0)
        self.mean_ = np.nansum(w * x, axis=0) / mass
        spread = np.nansum(w * (x - self.mean_) ** 2, axis=0) + self.shrinkage
        self.var_ = spread / (mass + self.shrinkage)
        self.varying_ = ~data.constant
        self.n_steps_ = data.sequences.median_length(data.weight)
        self.known_ = None if data.labels is None else np.bincount(data.labels + 1, minlength=3)
        self._n_features_out = len(data.constant)
        return self

    def _read(self, X):
        check_is_fitted(self)
        return read_sequences(self, X, reset=False)

    def _normed(self, read):
        z = np.zeros(read.steps.shape)
        z[:, self.varying_] = (read.steps[:, self.varying_] - self.mean_) / np.sqrt(self.var_)
        return z

    def score_samples(self, X):
        read = self._read(X)
        x = read.steps[:, self.varying_]
        log_p = -0.5 * (np.log(2 * np.pi * self.var_) + (x - self.mean_) ** 2 / self.var_)
        return read.sums(np.nansum(log_p, axis=1))

    def score(self, X, y=None, sample_weight=None):
        scores = self.score_samples(X)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, scores[:, None])
        return float(np.average(scores, weights=sample_weight))

    def transform(self, X):
        read = self._read(X)
        z = np.nan_to_num(self._normed(read))
        return read.sums(z) / np.maximum(read.lengths, 1)[:, None]

    def predict(self, X):
        read = self._read(X)
        return read.restore((self._normed(read)[:, 0] > 0).astype(int))

    def predict_proba(self, X):
        read = self._read(X)
        high = 1 / (1 + np.exp(-np.nan_to_num(self._normed(read)[:, 0])))
        return read.restore(np.stack([1 - high, high], axis=1))

    def impute(self, X, how="mean", random_state=None):
        read = self._read(X)
        whole = np.zeros(read.steps.shape)
        whole[:, self.varying_] = self.mean_
        if how == "sample":
            rng = np.random.default_rng(random_state)
            whole[:, self.varying_] += np.sqrt(self.var_) * rng.normal(size=(len(whole), 1))
        return read.restore_data(np.where(np.isnan(read.steps), whole, read.steps))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = tags.input_tags.three_d_array = True
        return tags


LENGTHS = (4, 6, 1, 5)


def ragged(lengths=LENGTHS, d=2, missing=0.0, seed=0):
    """Sequences of these lengths; no last step without entries."""
    rng = np.random.default_rng(seed)
    X = [rng.normal(3.0, 2.0, size=(T, d)) for T in lengths]
    for x in X:
        x[:-1][rng.uniform(size=x[:-1].shape) < missing] = np.nan
    return X


def padded(X, T=None):
    """A list as a 3-D array with NaN behind each sequence."""
    T = T or max(map(len, X))
    whole = np.full((len(X), T, X[0].shape[1]), np.nan)
    for row, x in zip(whole, X):
        row[: len(x)] = x
    return whole


def object_array(X):
    array = np.empty(len(X), dtype=object)
    array[:] = X
    return array


# name -> the same ragged sequences in another container
CONTAINERS = {
    "list": lambda X: X,
    "tuple": tuple,
    "object array": object_array,
    "padded": padded,
    "over-padded": lambda X: padded(X, 9),
    "padded objects": lambda X: padded(X).astype(object),
    "frames": lambda X: [pd.DataFrame(x, columns=["a", "b"]) for x in X],
    "polars frames": lambda X: [pl.DataFrame(x, schema=["a", "b"]) for x in X],
    "nested lists": lambda X: [x.tolist() for x in X],
    "Fortran order": lambda X: [np.asfortranarray(x) for x in X],
}
