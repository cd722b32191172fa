"""Sequences: X[i] is the i-th of them, whatever they come in, and results go back into that."""

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

from .containers import Flat, open_container
from .validation import (
    TrainingData,
    constant_columns,
    input_places,
    read_labels,
    read_weight,
    refuse_non_numeric,
)
from .warn import warn_user

# A 2-D X with more rows than this times its columns is probably one long series. The tables of
# scikit-learn's checks stay below it.
LONG = 50


@dataclass(frozen=True)
class Sequences:
    """Steps of all sequences below each other, and the container that they came in.

    Padding is gone; a missing entry is NaN, and so is an unobserved step. A sequence may have no
    step at all: then two starts are equal.
    """

    steps: np.ndarray  # (N, d) float64, C-contiguous
    starts: np.ndarray  # (n + 1,) sequence i is steps[starts[i] : starts[i + 1]]
    container: object
    inputs: "np.ndarray | None" = None  # (d,) bool: columns that a density is given, or None

    def __len__(self):
        return len(self.starts) - 1

    def __iter__(self):
        """The sequences one by one, as views (T_i, d)."""
        return (self.steps[a:b] for a, b in pairwise(self.starts))

    @property
    def n_channels(self):
        """d, the number of columns of a step."""
        return self.steps.shape[1]

    @cached_property
    def lengths(self):
        """(n,) steps of each sequence."""
        return np.diff(self.starts)

    @cached_property
    def observed(self):
        """(N,) which steps have any entry that a density is asked about."""
        steps = self.steps if self.inputs is None else self.steps[:, ~self.inputs]
        return ~np.isnan(steps).all(axis=1)

    def take(self, index):
        """Some of the sequences, by integers or a mask."""
        chosen = np.arange(len(self))[index]
        lengths = self.lengths[chosen]
        starts = offsets(lengths)
        rows = np.arange(starts[-1]) + np.repeat(self.starts[chosen] - starts[:-1], lengths)
        return replace(self, steps=self.steps.take(rows, axis=0), starts=starts)

    def channels(self, columns):
        """The same sequences with some of their channels, by integers or a mask."""
        inputs = None if self.inputs is None else self.inputs[columns]
        return replace(self, steps=np.ascontiguousarray(self.steps[:, columns]), inputs=inputs)

    def spread(self, values):
        """One value per sequence -> one per step: (n, ...) -> (N, ...)."""
        return np.repeat(values, self.lengths, axis=0)

    def sums(self, values):
        """Sum over the steps of each sequence: (N, ...) -> (n, ...); 0 for one without steps."""
        totals = np.zeros((len(self), *np.shape(values)[1:]))
        some = self.lengths > 0  # reduceat would give an empty sequence its neighbour's first step
        totals[some] = np.add.reduceat(values, self.starts[:-1][some], axis=0)
        return totals

    def median_length(self, weight):
        """The weighted median of the lengths, an integer: what `sample` draws if not told."""
        order = np.argsort(self.lengths, kind="stable")
        mass = np.cumsum(weight[order])
        return int(self.lengths[order[np.searchsorted(mass, mass[-1] / 2)]])

    def restore(self, values):
        """Results per step, (N, ...), in the container of the input.

        A list, tuple or object array has one array (T_i, ...) per sequence; 3-D and 2-D input give
        (n, T, ...), with NaN (-1 in integers) where 3-D input was padded; stacked rows stay so.
        """
        return self.container.put(values, self.starts)

    def restore_data(self, values):
        """Steps, (N, d'), as sequences in the container of the input: 2-D input stays 2-D."""
        return self.container.put_data(values, self.starts)

    def gather(self, values, name):
        """What `restore` would make, read: one value per step -> (N, ...)."""
        try:
            found = self.container.gather(values, self.starts)
        except (TypeError, ValueError):  # no sequence at all, or of another raggedness
            found = None
        if found is None:
            raise ValueError(
                f"{name} need one entry per step, in the container that X has: {len(self)} "
                f"sequences, {self.starts[-1]} steps in all"
            )
        return found


class TrainingSequences(NamedTuple):
    """What a fit works on: sequences with weight and an entry, of the channels that vary."""

    sequences: Sequences
    weight: np.ndarray  # (n,)
    labels: "np.ndarray | None"  # (N,) known states, -1 where unknown
    constant: np.ndarray  # (d,) bool
    constant_values: np.ndarray  # (d,) the constants, 0 elsewhere

    def all_columns(self):
        """The sequences as the user gave them, less those that say nothing: a list of (T_i, d)."""
        steps = np.tile(self.constant_values, (len(self.sequences.steps), 1))
        steps[:, ~self.constant] = self.sequences.steps
        return [steps[a:b] for a, b in pairwise(self.sequences.starts)]

    def rows(self):
        """The steps with an entry, as rows, each with the weight of its sequence."""
        seen, weight = self.sequences.observed, self.sequences.spread(self.weight)
        parts = [
            part if part is None or seen.all() else part[seen]
            for part in (self.sequences.steps, weight, self.labels)
        ]
        return TrainingData(*parts, self.constant, self.constant_values)


def distinct(sequences, weight):
    """Each sequence once, in an order of its own, and the weight of all that equal it.

    A fit of them does not notice in which order sequences came, or that one was repeated.
    """
    keys = [(len(x), x.tobytes()) for x in sequences]
    order = np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=int)
    new = np.array([i == 0 or keys[order[i]] != keys[order[i - 1]] for i in range(len(order))])
    first = np.flatnonzero(new)
    total = np.add.reduceat(weight[order], first) if len(first) else np.empty(0)
    return sequences.take(order[first]), total


def refuse_one(n):
    """Random weights on n distinct sequences say nothing of parameters where n is one."""
    if n < 2:
        raise ValueError(
            "parameters='posterior' weighs the sequences of X at random: it needs two that "
            "differ; give it all of them"
        )


def offsets(lengths):
    """Where each sequence starts, and the end of the last one: (n,) -> (n + 1,)."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def read_sequences(estimator, X, *, reset, lengths=None):
    """X of any container as `Sequences`; one clear error for anything else.

    `estimator.n_channels` says how 2-D rows are cut into steps. With `reset` the estimator is told
    `n_channels_`, `n_features_in_` (the columns of 2-D X, else the channels) and, of DataFrames,
    `feature_names_in_`; without it X must agree with them.
    """
    refuse_non_numeric(X)
    opened = open_container(X, lengths, estimator.n_channels)
    refuse_non_numeric(opened.table)
    table = checked_table(estimator, opened, reset=reset, numeric=True)
    _warn_if_one_series(opened)
    steps = np.ascontiguousarray(opened.steps(table))
    inputs = _inputs(estimator, steps)
    return Sequences(steps, offsets(opened.lengths), opened.container, inputs)


def _inputs(estimator, steps):
    """Which columns are inputs, (d,) bool, or None: they have no NaN, and others are left."""
    columns = getattr(estimator, "input_columns", None)
    if columns is None:
        return None
    inputs = np.zeros(steps.shape[1], bool)
    inputs[input_places(columns, len(inputs), estimator._names)] = True
    if inputs.all():
        raise ValueError(
            f"input_columns={columns!r} are all columns of X: nothing is left to model"
        )
    missing = np.isnan(steps[:, inputs]).any(axis=0)
    if missing.any():
        raise ValueError(
            f"input_columns {np.flatnonzero(inputs)[missing].tolist()} of X contain NaN: inputs "
            "are given, not modelled; fill them, or make these columns outputs"
        )
    return inputs


def checked_table(estimator, opened, *, reset, numeric):
    """The opened table after scikit-learn's checks, and what they leave on the estimator.

    `numeric`: as float64 in which NaN means missing. Otherwise what the entries are is left to
    whom the table is meant for, and a DataFrame stays one where it holds steps.
    """
    flat = isinstance(opened.container, Flat)
    if not reset:
        _refuse_other_channels(estimator, opened, flat)
    how = {
        "dtype": np.float64 if numeric else None,
        "ensure_all_finite": "allow-nan" if numeric else False,
        "ensure_min_samples": int(flat),  # a table of steps is empty where no sequence has any
    }
    if reset or flat == _fitted_to_flat(estimator):
        kept = not numeric and not flat
        table = validate_data(estimator, opened.table, reset=reset, skip_check_array=kept, **how)
    else:
        table = check_array(opened.table, estimator=estimator, input_name="X", **how)
    if reset:
        estimator.n_channels_ = opened.n_channels
    return table


def _fitted_to_flat(estimator):
    """Whether `n_features_in_` counts the columns of 2-D X; of one step each they are channels."""
    return estimator.n_features_in_ != estimator.n_channels_


def _refuse_other_channels(estimator, opened, flat):
    if opened.n_channels == estimator.n_channels_:
        return
    advice = (
        f" (2-D X is cut into steps of n_channels={opened.n_channels}; one series of shape "
        "(n_steps, n_channels) is passed as [X])"
    )
    raise ValueError(
        f"X has sequences of {opened.n_channels} channels, but {type(estimator).__name__} was "
        f"fitted to {estimator.n_channels_}{advice if flat else ''}"
    )


def _warn_if_one_series(opened):
    """Rows of many times their number of columns, or rows of one step each, are told apart."""
    if not isinstance(opened.container, Flat):
        return
    (n, width), T = opened.table.shape, opened.container.n_steps
    if n > LONG * T and width in (T, opened.n_channels):
        warn_user(
            f"2-D X holds one sequence per row, so its shape {n, width} means {n} sequences of {T} "
            f"steps. If X is one series of {n} steps, pass it as [X] (fit([X]), predict([X]), "
            f"...); if several are stacked, use fit(X, lengths=...). If there are {n} sequences, "
            f"np.reshape(X, {n, T, opened.n_channels}) says so without this warning"
        )


def read_training_sequences(
    estimator, X, sample_weight=None, *, n_states, lengths=None, labels=None, given=False
):
    """Validate what `fit` was given and leave out what says nothing.

    `sample_weight` has one count per sequence. `labels` has one state per step, from 0 to
    n_states - 1 and -1 where it is unknown, in the container of X. A continuous latent has
    `n_states` 1. Columns that are `given`, (d,) bool or all of them, and inputs may be constant.
    Sequences are left out whole; an unobserved step of the others stays.
    """
    read = read_sequences(estimator, X, reset=True, lengths=lengths)
    weight = read_weight(sample_weight, read.lengths)
    if labels is not None:
        labels = read_labels(read.gather(labels, "labels"), n_states)
        if labels.ndim > 1:
            raise ValueError(f"labels are one integer per step, got arrays {labels.shape[1:]}")
    use = (weight > 0) & (read.sums(read.observed) > 0)
    if not use.all():
        labels = None if labels is None else labels[read.spread(use)]
        read, weight = read.take(use), weight[use]
    total, least = float(weight @ read.sums(read.observed)), max(2, n_states)
    if total < least:
        raise ValueError(
            f"{type(estimator).__name__} needs observed steps of total weight {least} at least, "
            f"got {total:g} (n_samples = {len(read)} sequences with weight and an entry)"
        )
    given = given if read.inputs is None else read.inputs
    constant, values = constant_columns(estimator, read.steps, given)
    if constant.any():
        read = read.channels(~constant)
    return TrainingSequences(read, weight, labels, constant, values)
