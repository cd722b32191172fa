"""What comes in: a refusal is one clear error, and `fit` sees weighted rows of varying columns."""

from typing import NamedTuple

import numpy as np
from sklearn.utils.validation import validate_data

from ._compat import _check_sample_weight
from .column_types import category_numbers, has_word_codes
from .inference.blocks import blocks, each_block, gaps
from .warn import warn_user


class TrainingData(NamedTuple):
    """What a fit works on, and which columns it leaves out because they are constant."""

    X: np.ndarray  # (n, d_varying) rows with weight and at least one seen entry
    weight: np.ndarray  # (n,)
    labels: "np.ndarray | None"  # (n,) -1 where unknown
    constant: np.ndarray  # (d,) bool
    constant_values: np.ndarray  # (d,) the constants, 0 elsewhere
    complete: bool = False  # whether every entry is known to be there

    def all_columns(self):
        """The rows as the user gave them, less those that say nothing: (n, d)."""
        rows = np.tile(self.constant_values, (len(self.X), 1))
        rows[:, ~self.constant] = self.X
        return rows


def read_rows(estimator, X, *, reset, dtype=np.float64):
    """X as a float array in which NaN means missing; one clear error for anything else."""
    refuse_sequences(estimator, X)
    refuse_non_numeric(X)
    return validate_data(
        estimator,
        category_numbers(X),
        reset=reset,
        dtype=list(dtype) if isinstance(dtype, tuple) else dtype,
        ensure_all_finite="allow-nan",
        ensure_min_samples=2 if reset else 1,
    )


def refuse_sequences(estimator, X):
    """A list of tables is for models of sequences; numpy would only say that it is ragged."""
    listed = isinstance(X, list | tuple) or (isinstance(X, np.ndarray) and X.dtype.kind == "O")
    if listed and any(getattr(part, "ndim", 0) == 2 for part in X):
        raise ValueError(
            f"{type(estimator).__name__} describes rows, and X holds tables: sequences are for HMM "
            "or LinearGaussianSSM (an outlier detector or imputer takes one as its estimator); "
            "np.concatenate(X) makes rows of them"
        )


def refuse_non_numeric(X):
    """Masked, complex, dated and worded data: one clear error each, before any conversion."""
    if isinstance(X, np.ma.MaskedArray) and np.ma.is_masked(X):
        raise ValueError(
            "X is a masked array with masked entries; write NaN there: X.filled(np.nan)"
        )
    dtypes = getattr(X, "dtypes", ())
    dtypes = dtypes if hasattr(dtypes, "__iter__") else [dtypes]  # a Series has one
    kinds = {getattr(dtype, "kind", "f") for dtype in dtypes} or {
        getattr(getattr(X, "dtype", None), "kind", "f")
    }
    if "c" in kinds:
        raise ValueError("Complex data not supported: give real and imaginary parts as columns")
    if kinds & set("mM"):
        raise TypeError("X has dates or durations; turn them into numbers first")
    if kinds & set("US") or has_word_codes(X) or ("O" in kinds and _any_string(X)):
        raise ValueError(
            "X has strings, not numbers; encode them first, with OrdinalEncoder for example"
        )


def _any_string(X):
    values = X.to_numpy() if hasattr(X, "to_numpy") else np.asarray(X)
    return values.dtype == object and any(isinstance(value, str) for value in values.ravel())


def read_weight(sample_weight, X):
    """Weights as counts: non-negative, not all zero: -> (n,) float64."""
    weight = _check_sample_weight(sample_weight, X, dtype=np.float64)
    if sample_weight is None:
        return weight
    if not np.isfinite(weight).all() or (weight < 0).any():
        raise ValueError("Negative values in data passed to `sample_weight`: weights are counts")
    if not weight.any():
        raise ValueError(
            "sample_weight is zero for every row: at least one weight must be positive"
        )
    if weight.sum() < 0.1 * np.count_nonzero(weight):
        warn_user(
            "the sum of sample_weight is below a tenth of the number of rows; weights are counts, "
            "so normalised weights drown in the prior: multiply them by the number of rows"
        )
    return weight


def read_training_data(estimator, X, sample_weight, labels=None, *, min_weight=2, dtype=np.float64):
    """Validate what `fit` was given and leave out what says nothing."""
    X = read_rows(estimator, X, reset=True, dtype=dtype)
    weight = read_weight(sample_weight, X)
    if labels is not None and labels.shape != (len(X),):
        raise ValueError(f"labels need one entry per row: {len(X)} rows, labels of {labels.shape}")
    return training_data(estimator, X, weight, labels, min_weight=min_weight)


def training_data(estimator, X, weight, labels=None, *, min_weight=2):
    """Validated rows, less those without weight or entries, less columns that are constant."""
    holed = each_block(gaps, X)
    use = _telling(X, weight, holed)
    if not use.all():
        X, weight, holed = X[use], weight[use], holed[use]
        labels = None if labels is None else labels[use]
    if weight.sum() < min_weight:
        raise ValueError(
            f"{type(estimator).__name__} needs rows of total weight {min_weight} at least, got "
            f"{weight.sum():g} (n_samples = {len(X)})"
        )
    constant, values = constant_columns(estimator, X)
    if constant.any():
        X = X[:, ~constant]
    return TrainingData(X, weight, labels, constant, values, complete=not holed.any())


def constant_columns(estimator, X, given=False):
    """Which columns are constant, and their values, 0 elsewhere: (n, d) -> (d,), (d,).

    Reported once; a column without any entry, and a table of constants, are refused. Of columns
    that a density is `given` nothing is asked: (d,) bool, or none of them.
    """
    low, high = _ranges(X)
    if np.isnan(low).any():
        columns = np.flatnonzero(np.isnan(low)).tolist()
        raise ValueError(f"columns {columns} are NaN in every row: drop them before fitting")
    constant = (low == high) & ~np.asarray(given)
    if constant.any():
        _report_constant(estimator, constant, (constant | given).all())
    return constant, np.where(constant, low, 0.0).astype(np.float64)


def telling(X, weight):
    """Which rows have weight and an entry: (n, d), (n,) -> (n,) bool."""
    return _telling(X, weight, each_block(gaps, X))


def _telling(X, weight, holed):
    """Rows that miss an entry, `holed` (n,), are looked at whether they miss all."""
    use = weight > 0
    for rows in blocks(len(X)):
        some = holed[rows]
        if some.any():
            use[rows][some] &= ~np.isnan(X[rows][some]).all(axis=1)
    return use


def _ranges(X):
    """Smallest and largest entries of the columns, or of the first rows if all columns vary there.

    -> (d,), (d,), NaN where a column has no entry.
    """
    low, high = np.full((2, X.shape[1]), np.nan)
    for rows in blocks(len(X)):
        low = np.fmin(low, np.fmin.reduce(X[rows], axis=0))
        high = np.fmax(high, np.fmax.reduce(X[rows], axis=0))
        if (low < high).all():
            break
    return low, high


def _report_constant(estimator, constant, all_of_them):
    columns = np.flatnonzero(constant).tolist()
    if all_of_them:
        raise ValueError(
            f"{type(estimator).__name__}: every column is constant over the rows, so there is no "
            "density to fit"
        )
    warn_user(f"columns {columns} are constant; they stay outside the fitted density")


def read_labels(labels, K):
    """Known latents of some rows, -1 where unknown: -> (n,) integers, or None."""
    if labels is None:
        return None
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iu" or ((labels < -1) | (labels >= K)).any():
        raise ValueError(f"labels must be integers from -1 (unknown) to {K - 1}, got {labels!r}")
    return labels


def column_indices(columns, n_features, names=None):
    """Columns named as in ColumnTransformer (integers, names, a mask, a slice) -> integer array."""
    chosen = np.asarray(_chosen(columns, n_features, names))
    if not chosen.size or len(np.unique(chosen)) != len(chosen):
        raise ValueError(f"columns must be named once each, at least one, got {columns!r}")
    return chosen


def input_places(columns, n_features, names=None):
    """Columns of X that are inputs, in its order, as matrices have them -> integer array."""
    places = column_indices(columns, n_features, names)
    if (np.diff(places) < 0).any():
        raise ValueError(
            f"input_columns must come in the order of the columns of X, got {columns!r}: the "
            "matrices of inputs have them in that order"
        )
    return places


def column_groups(groups, n_features, names=None, what="emission"):
    """Groups that hold each column once, named as in ColumnTransformer -> sorted integer arrays.

    A group may be empty, as `slice(1, None)` of one column is.
    """
    chosen = [np.sort(np.array(_chosen(group, n_features, names), int)) for group in groups]
    times = np.bincount(np.concatenate([np.empty(0, int), *chosen]), minlength=n_features)
    if (times != 1).any():
        label = np.arange(n_features) if names is None else np.asarray(names)
        raise ValueError(
            f"{what} must name each column exactly once: {label[times == 0].tolist()} are in no "
            f"group, {label[times > 1].tolist()} in more than one"
        )
    return chosen


def _chosen(columns, n_features, names):
    if isinstance(columns, slice):
        return np.arange(n_features)[columns]
    asked = np.atleast_1d(columns)
    if asked.dtype == bool:
        if asked.shape != (n_features,):
            raise ValueError(f"a column mask needs {n_features} entries, got {len(asked)}")
        return np.flatnonzero(asked)
    if asked.dtype.kind in "UO":
        known = [] if names is None else list(names)
        unknown = [name for name in asked.tolist() if name not in known]
        if unknown:
            raise ValueError(f"unknown columns {unknown}; the model knows {known}")
        return [known.index(name) for name in asked]
    if not asked.size:
        return []
    inside = asked.ndim == 1 and asked.dtype.kind in "iu"
    if not inside or not ((-n_features <= asked) & (asked < n_features)).all():
        raise ValueError(f"columns must lie in 0..{n_features - 1}, got {columns!r}")
    return asked % n_features


def checked_array(array, shape, name):
    """A finite float array of this shape, in which None is any length but 0; or ValueError."""
    array = np.array(array, dtype=np.float64)
    fits = array.ndim == len(shape) and all(
        n == wanted or (wanted is None and n > 0) for n, wanted in zip(array.shape, shape)
    )
    if not fits or not np.isfinite(array).all():
        wanted = str(shape).replace("None", "any")
        got = "NaN or infinity" if fits else f"shape {array.shape}"
        raise ValueError(f"{name} must be finite numbers of shape {wanted}, got {got}")
    return array
