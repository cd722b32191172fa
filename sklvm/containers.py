"""What sequences come in: every container opens into one table, and takes results per step back."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from typing import NamedTuple

import numpy as np


@dataclass(frozen=True)
class Ragged:
    """A list, a tuple or an object array of sequences, each (T_i, d), or each one row (T_i d,)."""

    pack: Callable  # a list of parts -> the container
    of_rows: bool

    def put(self, values, starts):
        """(N, ...) -> one part (T_i, ...) per sequence."""
        return self.pack([values[a:b] for a, b in pairwise(starts)])

    def put_data(self, values, starts):
        """(N, d), a DataFrame too -> sequences that this module would read again."""
        if not self.of_rows:
            return self.put(getattr(values, "iloc", values), starts)
        values = np.asarray(values)
        return self.put(values.ravel(), np.asarray(starts) * values.shape[1])

    def gather(self, values, starts):
        """One part per sequence -> (N, ...), or None where the lengths differ."""
        parts = [np.asarray(part) for part in values]
        if [part.shape[:1] for part in parts] != [(T,) for T in np.diff(starts)]:
            return None
        return np.concatenate([part for part in parts if len(part)] or parts)


@dataclass(frozen=True)
class Padded:
    """A 3-D array (n, T, d); what is NaN in every channel up to the end of a row is no data."""

    n_steps: int

    def put(self, values, starts):
        """(N, ...) -> (n, T, ...), NaN in the padding, or -1 where the values are integers."""
        values = np.asarray(values)
        if values.dtype.kind in "iu":
            return self._pad(values.astype(np.int64), starts, -1)
        return self.put_data(values, starts)

    def put_data(self, values, starts):
        """(N, d) -> (n, T, d), NaN in the padding, so that it is padding again when read."""
        values = np.asarray(values)
        values = values.astype(np.float64) if values.dtype.kind in "iub" else values
        return self._pad(values, starts, np.nan)

    def gather(self, values, starts):
        """(n, T, ...) -> (N, ...), or None where the shape is another."""
        real, values = self._real(starts), np.asarray(values)
        return values[real] if values.shape[:2] == real.shape else None

    def _pad(self, values, starts, fill):
        real = self._real(starts)
        whole = np.full((*real.shape, *values.shape[1:]), fill, values.dtype)
        whole[real] = values
        return whole

    def _real(self, starts):
        return np.arange(self.n_steps) < np.diff(starts)[:, None]  # (n, T)


@dataclass(frozen=True)
class Flat:
    """A 2-D array (n, T * n_channels): step after step, in each of them channel after channel."""

    n_steps: int

    def put(self, values, starts):
        """(N, ...) -> (n, T, ...)."""
        values = np.asarray(values)
        return values.reshape(len(starts) - 1, self.n_steps, *values.shape[1:])

    def put_data(self, values, starts):
        """(N, d) -> (n, T * d)."""
        return np.asarray(values).reshape(len(starts) - 1, -1)

    def gather(self, values, starts):
        """(n, T, ...) -> (N, ...), or None where the shape is another."""
        values, shape = np.asarray(values), (len(starts) - 1, self.n_steps)
        return values.reshape(-1, *values.shape[2:]) if values.shape[:2] == shape else None


@dataclass(frozen=True)
class Stacked:
    """Rows (N, d) of all sequences below each other, with their `lengths`."""

    def put(self, values, starts):
        """(N, ...) stay as they are."""
        return values

    put_data = put

    def gather(self, values, starts):
        """(N, ...) stay as they are; None where there are more or fewer."""
        values = np.asarray(values)
        return values if values.shape[:1] == (starts[-1],) else None


WANTED = (
    "it is no collection of sequences. Reshape your data: a list of (n_steps, n_channels) arrays, "
    "such as [x.reshape(-1, 1)] for one series of numbers; a 3-D array (n_sequences, n_steps, "
    "n_channels); or a 2-D array with one sequence in each row"
)


class Opened(NamedTuple):
    """A container, opened but not yet validated."""

    table: object  # (N, n_channels) steps, or (n, T * n_channels) of Flat; array or DataFrame
    lengths: np.ndarray  # (n,) steps of each sequence
    n_channels: int
    container: object

    def steps(self, table):
        """The table, validated or not, with one step in each row: -> (N, n_channels)."""
        if table.shape[1] == self.n_channels:
            return table
        return np.asarray(table).reshape(-1, self.n_channels)


def open_container(X, lengths, n_channels):
    """Tell which container X is, and lay its steps in one table: one clear error for any other."""
    if lengths is not None:
        return _open_stacked(X, lengths)
    if isinstance(X, (list, tuple)):
        return _open_items(X, n_channels)
    X = X if hasattr(X, "shape") else np.asarray(X)
    if len(X.shape) == 0:
        raise ValueError(f"X is one {type(X.item()).__name__}, its shape (): {WANTED}")
    if len(X.shape) == 3:
        return _open_padded(np.asarray(X))
    if len(X.shape) == 2:
        return _open_flat(X, n_channels)
    if len(X.shape) == 1 and np.asarray(X).dtype == object:
        return _open_items(np.asarray(X), n_channels)
    raise ValueError(f"X has shape {tuple(X.shape)}: {WANTED}")


def _open_stacked(X, lengths):
    X = X if hasattr(X, "shape") else np.asarray(X)
    if len(X.shape) != 2:
        raise ValueError(
            f"with lengths X must be one array of stacked rows (n_rows, n_channels), got {X.shape}"
        )
    lengths = np.asarray(lengths)
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or (lengths < 0).any():
        raise ValueError(f"lengths must be a list of numbers of rows, got {lengths!r}")
    if lengths.sum() != X.shape[0]:
        raise ValueError(
            f"lengths sum to {lengths.sum()}, but X has {X.shape[0]} rows: give the number of rows "
            "of each sequence, in the order in which they are stacked"
        )
    return Opened(X, lengths.astype(np.int64), X.shape[1], Stacked())


def _open_flat(X, n_channels):
    T, rest = divmod(X.shape[1], n_channels)
    if rest:
        raise ValueError(
            f"each row of X has {X.shape[1]} numbers, which is no multiple of "
            f"n_channels={n_channels}"
        )
    return Opened(X, np.full(X.shape[0], T), n_channels, Flat(T))


def _open_padded(X):
    """What is NaN in every channel from some step on is padding, and left out."""
    n, T, d = X.shape
    X = X.astype(np.float64, copy=False) if X.dtype.kind == "O" else X
    seen = ~np.isnan(X).all(axis=2) if X.dtype.kind == "f" else np.ones((n, T), bool)
    lengths = np.where(seen, np.arange(1, T + 1), 0).max(axis=1, initial=0)
    real = np.flatnonzero(np.arange(T) < lengths[:, None])
    return Opened(X.reshape(-1, d).take(real, axis=0), lengths, d, Padded(T))


def _open_items(X, n_channels):
    items = [_item(x) for x in X]
    dims = {len(x.shape) for x in items}
    if not items:
        raise ValueError("X is empty: it has no sequences, and at least one is needed")
    if not dims <= {1, 2}:
        raise ValueError(f"X holds items of {max(dims - {1, 2})} dimensions: {WANTED}")
    of_rows = dims == {1}
    if of_rows and all(isinstance(x, (list, tuple)) for x in X) and len({*map(len, items)}) == 1:
        return _open_flat(np.stack(items), n_channels)  # an array that was written as lists
    if len(dims) > 1:
        raise ValueError("some sequences of X are 1-D, others 2-D: make all (n_steps, n_channels)")
    pack = _packer(X)
    if of_rows:
        items = [_open_flat(x[None], n_channels).steps(x[None]) for x in items]
    widths = sorted({x.shape[1] for x in items})
    if len(widths) > 1:
        raise ValueError(
            f"the sequences of X differ in their number of channels (columns): {widths}"
        )
    lengths = np.array([x.shape[0] for x in items])
    return Opened(_stack(items), lengths, widths[0], Ragged(pack, of_rows))


def _item(x):
    try:
        x = x if hasattr(x, "shape") else np.asarray(x)
    except ValueError as error:
        raise ValueError(f"a sequence of X is no (n_steps, n_channels) array: {error}") from None
    if hasattr(x, "toarray"):
        raise TypeError("a sequence of X is a sparse matrix; make it dense: x.toarray()")
    if isinstance(x, np.ma.MaskedArray) and np.ma.is_masked(x):
        raise ValueError(
            "a sequence of X is a masked array with masked entries; write NaN there: "
            "x.filled(np.nan)"
        )
    return x if len(x.shape) == 2 else np.asarray(x)


def _stack(items):
    """Sequences below each other: a DataFrame where all of them are, with the same columns."""
    names = [list(x.columns) if hasattr(x, "columns") else None for x in items]
    if any(name != names[0] for name in names):
        other = next(name for name in names if name != names[0])
        raise ValueError(
            f"the sequences of X differ in their columns: {names[0]} and {other} (None: not a "
            "DataFrame)"
        )
    if names[0] is None:
        return np.concatenate(items) if len(items) > 1 else np.asarray(items[0])
    library = type(items[0]).__module__.partition(".")[0]  # pandas and polars both have concat
    return import_module(library).concat(items)


def _packer(X):
    return {list: list, tuple: tuple}.get(type(X), _object_array)


def pack_like(X, parts):
    """Parts in a list, a tuple or an object array, as X is one."""
    return _packer(X)(parts)


def _object_array(parts):
    array = np.empty(len(parts), dtype=object)
    array[:] = parts
    return array
