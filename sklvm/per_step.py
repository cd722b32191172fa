"""A transformer of rows, lifted to sequences: it is fitted to all steps and applied to each."""

from typing import NamedTuple

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.utils import get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, has_fit_parameter

from ._compat import (
    HasMethods,
    Integral,
    Interval,
    _check_feature_names_in,
    _fit_context,
    _get_adapter_from_container,
)
from .containers import Flat, open_container
from .sequences import checked_table, offsets
from .validation import read_weight


class Steps(NamedTuple):
    """Steps of all sequences below each other, of any dtype, and where they came from."""

    rows: object  # (N, d) array or DataFrame
    starts: np.ndarray  # (n + 1,)
    container: object


class PerStep(TransformerMixin, BaseEstimator, auto_wrap_output_keys=None):
    """Apply a transformer of rows to every step of every sequence.

    The transformer is fitted to the steps of all sequences, below each other; padding is not among
    them, an unobserved step is (a row of NaN). Results come back in the container of the input,
    with its padding, so that a `Pipeline` hands them to a model of sequences.

    Parameters
    ----------
    transformer : transformer
        Any transformer of rows that looks at each row alone and keeps their number.
    n_channels : int, default=1
        Columns of a step where X is 2-D, (n_sequences, n_steps * n_channels).

    Attributes
    ----------
    transformer_ : transformer
        The fitted transformer.
    n_channels_ : int
        Number of channels of a step.
    n_features_in_ : int
        Columns of X where it was 2-D in fit, else the number of channels.
    feature_names_in_ : ndarray of shape (n_features_in_,), object
        Names of the columns, where X was a DataFrame or a list of them.

    See Also
    --------
    SequenceSplit : Cross-validation of stacked rows that keeps sequences whole.

    Notes
    -----
    `y` is not handed on: it has one entry per sequence. Lists of DataFrames reach `transformer` as
    one DataFrame, so a ``ColumnTransformer`` finds its columns by name. ``set_output`` sets that of
    `transformer`: lists then hold DataFrames, 2-D X gives one, 3-D X stays an array.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sklvm import PerStep
    >>> X = [np.array([[1.0, 10.0], [3.0, 30.0]]), np.array([[2.0, np.nan]])]
    >>> first, second = PerStep(StandardScaler()).fit_transform(X)
    >>> first.round(2)
    array([[-1.22, -1.  ],
           [ 1.22,  1.  ]])
    >>> second
    array([[ 0., nan]])
    """

    _doc_link_module = "sklvm"
    _parameter_constraints: dict = {
        "transformer": [HasMethods(["fit", "transform"])],
        "n_channels": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(self, transformer, *, n_channels=1):
        self.transformer = transformer
        self.n_channels = n_channels

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y=None, sample_weight=None):
        """Fit the transformer to the steps of all sequences.

        Parameters
        ----------
        X : list of array-like of shape (n_steps, n_channels), 3-D or 2-D array
            Sequences; a 3-D array (n_sequences, n_steps, n_channels) is padded with NaN.
        y : Ignored
            Present for API consistency.
        sample_weight : array-like of shape (n_sequences,), default=None
            Counts of the sequences: each step weighs what its sequence does.

        Returns
        -------
        self : PerStep

        Raises
        ------
        TypeError
            If `sample_weight` is given and the transformer's fit takes none.
        """
        steps = self._steps(X, reset=True)
        transformer = clone(self.transformer)
        if sample_weight is None:
            transformer.fit(steps.rows)
        else:
            transformer.fit(steps.rows, sample_weight=self._spread(sample_weight, steps))
        self.transformer_ = transformer
        self._n_channels_out = np.shape(transformer.transform(steps.rows[:1]))[1]
        return self

    def transform(self, X):
        """Transform every step.

        Parameters
        ----------
        X : list of array-like of shape (n_steps, n_channels), 3-D or 2-D array
            Sequences, in any container with the channels that fit saw.

        Returns
        -------
        X_transformed : list, tuple, 3-D or 2-D array
            The container of X, with the columns that the transformer returns for a step.
        """
        check_is_fitted(self)
        steps = self._steps(X, reset=False)
        if not steps.starts[-1]:  # a transformer refuses to work on nothing
            nothing = np.empty((0, self._n_channels_out))
            return steps.container.put_data(nothing, steps.starts)
        return self._put(self.transformer_.transform(steps.rows), steps, X)

    @available_if(lambda self: hasattr(self.transformer, "inverse_transform"))
    def inverse_transform(self, X):
        """Undo `transform`, step by step.

        Parameters
        ----------
        X : list of array-like of shape (n_steps, n_channels_out), 3-D or 2-D array
            Sequences as `transform` returns them.

        Returns
        -------
        X_original : list, tuple, 3-D or 2-D array
            The container of X.
        """
        check_is_fitted(self)
        opened = open_container(X, None, self._n_channels_out)
        if opened.n_channels != self._n_channels_out:
            raise ValueError(
                f"inverse_transform needs sequences of {self._n_channels_out} channels, got "
                f"{opened.n_channels}"
            )
        values = self.transformer_.inverse_transform(opened.steps(opened.table))
        return opened.container.put_data(values, offsets(opened.lengths))

    def get_feature_names_out(self, input_features=None):
        """Names of the columns of the result: of a step, or of all steps where fit saw 2-D X.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names of the columns that fit saw, where it saw none.

        Returns
        -------
        names : ndarray of str, object
        """
        check_is_fitted(self)
        names = _check_feature_names_in(self, input_features)
        n_steps = self.n_features_in_ // self.n_channels_  # 1 but for 2-D X
        if n_steps == 1:
            return self.transformer_.get_feature_names_out(names)
        return self._names_of_steps(n_steps)

    def set_output(self, *, transform=None):
        """Set the output of `transformer`.

        Parameters
        ----------
        transform : {"default", "pandas", "polars"}, default=None
            What the steps come in; None leaves it as it is.

        Returns
        -------
        self : PerStep
        """
        self.transformer.set_output(transform=transform)
        if hasattr(self, "transformer_"):
            self.transformer_.set_output(transform=transform)
        return self

    def __sklearn_tags__(self):
        tags, inner = super().__sklearn_tags__(), get_tags(self.transformer)
        tags.input_tags = inner.input_tags
        tags.input_tags.sparse = False
        tags.input_tags.three_d_array = True
        tags.transformer_tags = inner.transformer_tags
        return tags

    def _steps(self, X, reset):
        opened = open_container(X, None, self.n_channels)
        table = checked_table(self, opened, reset=reset, numeric=False)
        return Steps(opened.steps(table), offsets(opened.lengths), opened.container)

    def _put(self, values, steps, X):
        """What the transformer made of the steps, in the container of X."""
        if values.shape[0] != steps.starts[-1]:
            raise ValueError(
                f"{type(self.transformer).__name__} made {values.shape[0]} rows of "
                f"{steps.starts[-1]} steps: PerStep needs a transformer that keeps their number"
            )
        values = values.toarray() if hasattr(values, "toarray") else values
        data = steps.container.put_data(values, steps.starts)
        if not isinstance(steps.container, Flat) or not hasattr(values, "columns"):
            return data
        names = self._names_of_steps(steps.container.n_steps)
        return _get_adapter_from_container(values).create_container(data, X, columns=names)

    def _names_of_steps(self, n_steps):
        """Names of the columns of 2-D results."""
        inner = self.transformer_.get_feature_names_out()
        return np.array([f"step{t}_{name}" for t in range(n_steps) for name in inner], object)

    def _spread(self, sample_weight, steps):
        """The weight of each step: (n,) -> (N,)."""
        if not has_fit_parameter(self.transformer, "sample_weight"):
            raise TypeError(
                f"{type(self.transformer).__name__}.fit takes no sample_weight: leave "
                "sample_weight out, or choose a transformer that takes weights"
            )
        lengths = np.diff(steps.starts)
        return np.repeat(read_weight(sample_weight, lengths), lengths)
