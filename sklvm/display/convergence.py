"""How fits converged: the objective against the iteration."""

import numpy as np
from sklearn.utils.validation import check_is_fitted

from .axes import axes_for

KINDS = ("objective", "gap")


class ConvergenceDisplay:
    """The objective of one or several fits against the iteration.

    Build it with `from_estimator` or `from_estimators`, which also draw; `plot` draws again.

    Parameters
    ----------
    histories : sequence of array-like of shape (n_iter + 1,)
        For each fit its objective at the start and after each iteration, in nats per unit weight.
    names : sequence of str or None, default=None
        Name of each fit, for the legend.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        What `plot` drew on.
    figure_ : matplotlib.figure.Figure
        The figure of `ax_`.
    lines_ : list of matplotlib.lines.Line2D
        One line per fit.

    Raises
    ------
    ValueError
        For no history, for one that is not a vector of numbers, and for a wrong number of names.

    See Also
    --------
    LatentSpaceDisplay : Where a model puts the rows.

    Examples
    --------
    >>> import numpy as np
    >>> from sklvm import ConvergenceDisplay, GaussianMixture, VariationalGMM
    >>> X = np.random.default_rng(0).normal(size=(100, 2))
    >>> fits = [model(2, random_state=0).fit(X) for model in (GaussianMixture, VariationalGMM)]
    >>> display = ConvergenceDisplay.from_estimators(fits)
    >>> [line.get_label() for line in display.lines_]
    ['GaussianMixture', 'VariationalGMM']
    >>> display.plot(kind="gap").ax_.get_yscale()
    'log'
    """

    def __init__(self, histories, *, names=None):
        self.histories = [_history(values) for values in histories]
        if not self.histories:
            raise ValueError("histories is empty: there is nothing to draw")
        if names is not None and len(names) != len(self.histories):
            raise ValueError(f"names has {len(names)} entries for {len(self.histories)} histories")
        self.names = names

    @classmethod
    def from_estimator(cls, estimator, *, name=None, ax=None, kind="objective", **line_kwargs):
        """Draw the `history_` of a fitted model.

        Parameters
        ----------
        estimator : fitted estimator or Pipeline that ends in one
            A model with `history_`.
        name : str or None, default=None
            Name in the legend; None is the name of the class.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure.
        kind : {"objective", "gap"}, default="objective"
            See `plot`.
        **line_kwargs : dict
            Passed to `matplotlib.axes.Axes.plot`.

        Returns
        -------
        display : ConvergenceDisplay
        """
        names = None if name is None else [name]
        return cls.from_estimators([estimator], names=names, ax=ax, kind=kind, **line_kwargs)

    @classmethod
    def from_estimators(cls, estimators, *, names=None, ax=None, kind="objective", **line_kwargs):
        """Draw the `history_` of several fitted models in one picture.

        Parameters
        ----------
        estimators : sequence of fitted estimators or Pipelines that end in them
            Models with `history_`.
        names : sequence of str or None, default=None
            Names in the legend; None is the names of the classes.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure.
        kind : {"objective", "gap"}, default="objective"
            See `plot`.
        **line_kwargs : dict
            Passed to `matplotlib.axes.Axes.plot`, for all lines alike.

        Returns
        -------
        display : ConvergenceDisplay
        """
        models = [_last_step(estimator) for estimator in estimators]
        if names is None:
            names = [type(model).__name__ for model in models]
        display = cls([_history_of(model) for model in models], names=names)
        return display.plot(ax, kind=kind, **line_kwargs)

    def plot(self, ax=None, *, kind="objective", **line_kwargs):
        """Draw one line per fit.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure.
        kind : {"objective", "gap"}, default="objective"
            The objective itself, or on a logarithmic axis how far it was below the fit's best.
        **line_kwargs : dict
            Passed to `matplotlib.axes.Axes.plot`, for all lines alike.

        Returns
        -------
        display : ConvergenceDisplay
            Itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {KINDS}, got {kind!r}")
        ax = axes_for(self, ax)
        names = self.names or [None] * len(self.histories)
        self.lines_ = [
            _draw(ax, history, kind, {"label": name, **line_kwargs})
            for history, name in zip(self.histories, names)
        ]
        self.ax_, self.figure_ = ax, ax.figure
        _describe(ax, kind)
        return self


def _draw(ax, history, kind, line_kwargs):
    iteration = np.arange(len(history))
    if kind == "gap":
        gap = np.nanmax(history) - history
        iteration, history = iteration[gap > 0], gap[gap > 0]  # a logarithm has no place for 0
    (line,) = ax.plot(iteration, history, **line_kwargs)
    return line


def _describe(ax, kind):
    ax.xaxis.get_major_locator().set_params(integer=True)
    if kind == "gap":
        ax.set_yscale("log")
    ylabel = "objective" if kind == "objective" else "objective still to gain"
    ax.set(xlabel="iteration", ylabel=f"{ylabel} (nats per row)")
    if ax.get_legend_handles_labels()[1]:
        ax.legend()


def _last_step(estimator):
    return estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator


def _history_of(model):
    if not hasattr(model, "history_"):
        check_is_fitted(model)
        raise TypeError(f"{type(model).__name__} keeps no history_: draw a model of sklvm")
    return model.history_


def _history(values):
    """(n_iter + 1,) float64, or ValueError."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).any():
        raise ValueError(
            f"a history must be a vector of numbers, one per iteration, got shape {values.shape}"
        )
    return values
