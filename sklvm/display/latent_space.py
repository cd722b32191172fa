"""Where a model puts the rows: two of its latents against each other."""

from numbers import Integral

import numpy as np
from sklearn.utils.validation import check_array, check_consistent_length, column_or_1d

from .axes import axes_for

ANY_VALUES = {"ensure_2d": False, "dtype": None, "input_name": "labels"}  # but no NaN
MOST_CLASSES = 20  # more values than this are shown on a colour scale


class LatentSpaceDisplay:
    """Rows as points in the plane of two latents.

    Build it with `from_estimator`, which also draws; `plot` draws again.

    Parameters
    ----------
    latents : array-like of shape (n_samples, 2)
        Coordinates of the points.
    labels : array-like of shape (n_samples,) or None, default=None
        Colours the points: each value has a colour and a place in the legend where they are at most
        20 or no numbers, and is read off a colour scale otherwise.
    names : pair of str, default=("latent 0", "latent 1")
        Names of the two axes.

    Attributes
    ----------
    ax_ : matplotlib.axes.Axes
        What `plot` drew on.
    figure_ : matplotlib.figure.Figure
        The figure of `ax_`.
    points_ : list of matplotlib.collections.PathCollection
        The points, class by class.

    Raises
    ------
    ValueError
        For latents that are not pairs, and for another number of labels than of rows.

    See Also
    --------
    ConvergenceDisplay : How a fit converged.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklvm import EMFactorAnalysis, LatentSpaceDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> model = EMFactorAnalysis(n_components=2).fit(X)
    >>> display = LatentSpaceDisplay.from_estimator(model, X, y)
    >>> display.ax_.get_xlabel(), len(display.points_)
    ('emfactoranalysis0', 3)
    """

    def __init__(self, latents, labels=None, *, names=("latent 0", "latent 1")):
        self.latents = np.asarray(latents)
        if self.latents.ndim != 2 or self.latents.shape[1] != 2:
            raise ValueError(f"latents must have shape (n_samples, 2), got {self.latents.shape}")
        if labels is not None:
            labels = column_or_1d(check_array(labels, **ANY_VALUES))
            check_consistent_length(latents, labels)
        self.labels = labels
        self.names = names

    @classmethod
    def from_estimator(cls, estimator, X, y=None, *, components=(0, 1), ax=None, **scatter_kwargs):
        """Draw `estimator.transform(X)`.

        Parameters
        ----------
        estimator : fitted transformer, or Pipeline of them
            A model whose `transform` gives two columns at least.
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,) or None, default=None
            Colours the points; see the class.
        components : pair of int, default=(0, 1)
            Which latents to draw, along the horizontal and the vertical axis.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure.
        **scatter_kwargs : dict
            Passed to `matplotlib.axes.Axes.scatter`.

        Returns
        -------
        display : LatentSpaceDisplay
        """
        Z = np.asarray(estimator.transform(X))
        pair = _pair_of(components, Z.shape[1])
        display = cls(Z[:, pair], y, names=_names_of(estimator, pair))
        return display.plot(ax, **scatter_kwargs)

    def plot(self, ax=None, **scatter_kwargs):
        """Draw the points.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a figure.
        **scatter_kwargs : dict
            Passed to `matplotlib.axes.Axes.scatter`, for all points alike.

        Returns
        -------
        display : LatentSpaceDisplay
            Itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        ax = axes_for(self, ax)
        style = {"s": 12, "alpha": 0.8, "linewidths": 0, **scatter_kwargs}
        self.points_ = self._scatter(ax, style)
        self.ax_, self.figure_ = ax, ax.figure
        ax.set(xlabel=self.names[0], ylabel=self.names[1])
        return self

    def _scatter(self, ax, style):
        if self.labels is None:
            return [ax.scatter(*self.latents.T, **style)]
        classes = np.unique(self.labels)
        if len(classes) > MOST_CLASSES and np.issubdtype(self.labels.dtype, np.number):
            points = ax.scatter(*self.latents.T, c=self.labels, **style)
            ax.figure.colorbar(points, ax=ax)
            return [points]
        return self._scatter_classes(ax, classes, style)

    def _scatter_classes(self, ax, classes, style):
        from matplotlib import colormaps

        colours = colormaps["tab10" if len(classes) <= 10 else "tab20"].colors
        points = [
            ax.scatter(
                *self.latents[self.labels == label].T,
                **{"color": colours[i % len(colours)], "label": str(label), **style},
            )
            for i, label in enumerate(classes)
        ]
        beside = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)}
        makes_room = ax.figure.get_layout_engine() is not None
        ax.legend(markerscale=2, **(beside if makes_room else {}))
        return points


def _pair_of(components, width):
    """Two column numbers, checked."""
    pair = list(components)
    if len(pair) != 2 or not all(isinstance(c, Integral) and 0 <= c < width for c in pair):
        raise ValueError(
            f"components must be two of the {width} columns that transform gives, numbered from 0, "
            f"got {components!r}"
        )
    return pair


def _names_of(estimator, pair):
    """The estimator's own names for two of its outputs."""
    if not hasattr(estimator, "get_feature_names_out"):
        return tuple(f"latent {c}" for c in pair)
    names = estimator.get_feature_names_out()
    return tuple(str(names[c]) for c in pair)
