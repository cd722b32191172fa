"""Where a display draws: on the axes that it is given, else in a new figure."""


def axes_for(display, ax):
    """The given axes, or those of a new pyplot figure, which opens no window before plt.show()."""
    try:
        from matplotlib import pyplot
        from matplotlib.axes import Axes
    except ImportError as error:
        raise ImportError(
            f"{type(display).__name__}.plot draws with matplotlib, which is not installed: "
            "pip install sklvm[plot] (in zsh: 'sklvm[plot]')"
        ) from error
    if ax is None:
        _, ax = pyplot.subplots(layout="constrained")
    if not isinstance(ax, Axes):
        raise TypeError(f"ax must be one matplotlib Axes or None, got {type(ax).__name__}")
    return ax
