"""Structural time series models of one channel: state-space models whose matrices are given."""

import numpy as np

from .state_space import LinearGaussianSSM

FREE = np.nan


def local_level():
    """A level that walks, and noise: the simplest structural model, not yet fitted.

    level_t = level_t-1 + N(0, q), x_t = level_t + N(0, r). Both variances are estimated by maximum
    likelihood with a diffuse start (Durbin & Koopman 2012, chapter 2). Forecasts are those of
    exponential smoothing.

    Returns
    -------
    model : LinearGaussianSSM
        Unfitted; n_components is 1.

    Examples
    --------
    >>> import numpy as np
    >>> from sklvm import local_level
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=200).cumsum() + rng.normal(size=200)
    >>> model = local_level().fit([x[:, None]])
    >>> model.transition_covariance_.shape
    (1, 1)
    >>> low, high = model.forecast([x[:, None]], horizon=3).interval(0.9)
    >>> bool((np.diff((high - low)[0, :, 0]) > 0).all())
    True
    """
    return _structural([[1.0]], [FREE], [1.0])


def local_linear_trend():
    """A level with a slope, both of which walk, and noise (Durbin & Koopman 2012, 3.2.1).

    level_t = level_t-1 + slope_t-1 + N(0, q_1), slope_t = slope_t-1 + N(0, q_2),
    x_t = level_t + N(0, r); not yet fitted.

    Returns
    -------
    model : LinearGaussianSSM
        Unfitted; n_components is 2: level, slope.

    Examples
    --------
    >>> import numpy as np
    >>> from sklvm import local_linear_trend
    >>> x = 3.0 + 0.5 * np.arange(50) + np.random.default_rng(0).normal(size=50)
    >>> model = local_linear_trend().fit([x[:, None]])
    >>> level, slope = model.smooth([x[:, None]]).mean[0].T
    >>> bool(0.4 < slope[-1] < 0.6)
    True
    """
    return _structural([[1.0, 1.0], [0.0, 1.0]], [FREE, FREE], [1.0, 0.0])


def seasonal(period):
    """A level that walks, seasonal effects that change slowly, and noise; not yet fitted.

    The effects of `period` successive steps sum to N(0, q_2) (Durbin & Koopman 2012, 3.2.2).

    Parameters
    ----------
    period : int
        Steps of a season, at least 2.

    Returns
    -------
    model : LinearGaussianSSM
        Unfitted; n_components is `period`: level, effect of this step, effects of those before it.

    Examples
    --------
    >>> import numpy as np
    >>> from sklvm import seasonal
    >>> x = np.tile([1.0, 5.0, -2.0, 0.0], 20) + np.random.default_rng(0).normal(size=80)
    >>> model = seasonal(4).fit([x[:, None]])
    >>> model.forecast([x[:, None]], horizon=4).mean.round(0).ravel() + 0.0
    array([ 1.,  5., -2.,  0.])
    """
    if not isinstance(period, (int, np.integer)) or isinstance(period, bool) or period < 2:
        raise ValueError(f"period must be an integer of at least 2, got {period!r}")
    A = np.zeros((period, period))
    A[0, 0] = 1.0
    A[1, 1:] = -1.0
    A[range(2, period), range(1, period - 1)] = 1.0
    still = [0.0] * (period - 2)
    return _structural(A.tolist(), [FREE, FREE, *still], [1.0, 1.0, *still])


def _structural(A, noise, C):
    Q = np.where(np.eye(len(A), dtype=bool), noise, 0.0)
    return LinearGaussianSSM(
        len(A),
        initial="diffuse",
        transition_matrix=A,
        transition_covariance=Q.tolist(),
        observation_matrix=[C],
        fit_intercept=False,
    )
