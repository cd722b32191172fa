"""Folds of stacked rows that keep sequences whole."""

import numpy as np
from sklearn.model_selection import BaseCrossValidator, KFold

from .containers import open_container
from .sequences import offsets


class SequenceSplit(BaseCrossValidator):
    """K-fold cross-validation of stacked rows that never cuts a sequence.

    The sequences are divided as `KFold` divides the items of a list, so both give the same folds:
    with a list, a 3-D array or one sequence per row, `KFold` itself keeps sequences whole. This
    class is for rows below each other.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds; there must be as many sequences.
    lengths : array-like of shape (n_sequences,), default=None
        Rows of each sequence, in the order in which they are stacked. None: `groups` marks them.
    shuffle : bool, default=False
        Whether to divide the sequences in a random order.
    random_state : int, RandomState instance or None, default=None
        Decides the order of ``shuffle=True``.

    See Also
    --------
    PerStep : A transformer of rows, lifted to sequences.
    sklearn.model_selection.GroupKFold : Folds of groups whose rows need not follow each other.

    Notes
    -----
    Searches and `cross_val_score` hand a model of sequences the rows of a fold without their
    lengths; give them a list, ``np.split(X, np.cumsum(lengths)[:-1])``. They work as they are for
    models of single rows, whose folds must not share a sequence either.

    Examples
    --------
    >>> import numpy as np
    >>> from sklvm import SequenceSplit
    >>> X = np.arange(12.0).reshape(6, 2)
    >>> folds = SequenceSplit(2, lengths=[3, 1, 2])
    >>> for train, test in folds.split(X):
    ...     print(train, folds.lengths_of(train), test, folds.lengths_of(test))
    [4 5] [2] [0 1 2 3] [3 1]
    [0 1 2 3] [3 1] [4 5] [2]
    """

    __metadata_request__split = {"groups": True}

    def __init__(self, n_splits=5, *, lengths=None, shuffle=False, random_state=None):
        self.n_splits = n_splits
        self.lengths = lengths
        self.shuffle = shuffle
        self.random_state = random_state

    def split(self, X, y=None, groups=None):
        """Divide the rows into training and test, fold by fold.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_channels)
            Sequences stacked below each other.
        y : Ignored
            Present for API consistency.
        groups : array-like of shape (n_rows,), default=None
            What differs from sequence to sequence, where `lengths` is None.

        Yields
        ------
        train, test : ndarray of int
            Rows of whole sequences, in their order.

        Raises
        ------
        ValueError
            If neither or both of `lengths` and `groups` are given, they do not fit X, or there are
            fewer sequences than folds.
        """
        lengths = self._lengths(X, groups)
        starts = offsets(lengths)
        folds = KFold(self.n_splits, shuffle=self.shuffle, random_state=self.random_state)
        for _, test in folds.split(lengths):
            tested = np.zeros(len(lengths), bool)
            tested[test] = True
            in_test = np.repeat(tested, np.diff(starts))
            yield np.flatnonzero(~in_test), np.flatnonzero(in_test)

    def get_n_splits(self, X=None, y=None, groups=None):
        """The number of folds.

        Parameters
        ----------
        X, y, groups : Ignored
            Present for API consistency.

        Returns
        -------
        n_splits : int
        """
        return self.n_splits

    def lengths_of(self, rows):
        """Lengths of the sequences that some rows make, as `fit(X[rows], lengths=...)` wants them.

        Parameters
        ----------
        rows : ndarray of int
            Rows of a fold.

        Returns
        -------
        lengths : ndarray of int

        Raises
        ------
        ValueError
            If `lengths` is None, or the rows cut a sequence.
        """
        if self.lengths is None:
            raise ValueError("lengths_of needs SequenceSplit(lengths=...)")
        lengths = np.asarray(self.lengths)
        inside = np.bincount(
            np.repeat(np.arange(len(lengths)), lengths)[rows], minlength=len(lengths)
        )
        if not (inside == lengths)[inside > 0].all():
            raise ValueError("these rows cut a sequence: take them from split")
        return inside[inside > 0]

    def _lengths(self, X, groups):
        if (self.lengths is None) == (groups is None):
            given = "neither" if groups is None else "both"
            raise ValueError(
                "SequenceSplit needs either lengths= or groups to tell sequences apart, got "
                f"{given} (if X[i] is a sequence, KFold keeps it whole)"
            )
        if groups is None:
            return open_container(X, self.lengths, 1).lengths
        return open_container(X, _runs(np.asarray(groups)), 1).lengths


def _runs(groups):
    """Lengths of runs of equal entries; a group that comes back is refused."""
    change = np.flatnonzero(groups[1:] != groups[:-1]) + 1
    first = np.concatenate([[0], change])
    names, times = np.unique(groups[first], return_counts=True)
    if (times > 1).any():
        raise ValueError(
            f"groups {names[times > 1][:5].tolist()} come back after others: the rows of a "
            "sequence must follow each other"
        )
    return np.diff(np.concatenate([first, [len(groups)]]))
