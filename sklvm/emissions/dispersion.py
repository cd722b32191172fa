"""The one integral of the negative binomial: f(x) = sum_{t < x} log(1 + dispersion t).

Gamma(x + r) / (Gamma(r) r^x) = exp f(x) with r = 1 / dispersion: no large logarithms are
subtracted, and a dispersion near zero is a Poisson distribution. Counts up to TABLE are summed,
larger ones by the Euler-Maclaurin formula, whose next term is below the last digit there. See
docs/derivations/negative_binomial.md.
"""

import numpy as np

TABLE = 256  # counts up to here have cells of their own
BOUNDS = (1e-8, 1e6)  # of a dispersion: below, a Poisson distribution to the last digits
STEPS = 100  # of the search for a dispersion: bisection alone would need half of them


def rises(dispersion, top=TABLE):
    """f(0), ..., f(top): (...) -> (..., top + 1)."""
    steps = np.log1p(dispersion[..., None] * np.arange(top))
    return np.concatenate([np.zeros_like(steps[..., :1]), np.cumsum(steps, axis=-1)], axis=-1)


def sums_to(a, x):
    """Sums over t < x of log(1 + a t) and of a t / (1 + a t), for x >= TABLE, up to a constant.

    The second is the slope of the first in log a.
    """
    y = a * x
    log, q = np.log1p(y), 1 / (1 + y)
    aq = a * q
    square = aq * aq
    logs = (log * (1 + y) - y) / a - log / 2 + aq * (1 / 12 - square / 360)
    return logs, x - log / a + q * (0.5 + aq * (1 / 12 - square / 120))


def smooth_rise(a, x):
    """f(x) for any real x >= 0 to the first order of Euler-Maclaurin, for priors."""
    log = np.log1p(a * x)
    return ((1 + a * x) * log - a * x) / a - log / 2


def _smooth_slopes(a, x):
    """First and second derivative of `smooth_rise` in log a."""
    y = a * x
    log, q = np.log1p(y), 1 / (1 + y)
    return (y - log) / a - y * q / 2, (log - y * q) / a - y * q**2 / 2


def fitted_dispersion(start, mean, rows, above, slope, prior_rows, prior_count):
    """The dispersions that maximise the expected log-likelihood and the prior, given the means.

    Newton steps in the logarithm, inside a bracket that the sign of the slope narrows.

    start, mean, rows (...): where to begin, means, weight of the rows and of the prior.
    above (..., T): weight of the counts above t = 0, 1, ...; slope (...): of the larger counts.
    prior_rows, prior_count (...): the prior's rows that hold any count, and that count.
    """
    t = np.arange(above.shape[-1])

    def slopes(u):
        """First and second derivative in the logarithm."""
        a = np.exp(u)
        share, log = 1 / (1 + a[..., None] * t), np.log1p(a * mean) / a
        part = above * (1 - share)
        first, second = (prior_rows * values for values in _smooth_slopes(a, prior_count))
        first += part.sum(axis=-1) + slope - rows * (mean - log)
        return first, second + (part * share).sum(axis=-1) - rows * (log - mean / (1 + a * mean))

    low, high = (np.full(mean.shape, bound) for bound in np.log(BOUNDS))
    high = np.where(slopes(low)[0] > 0, high, low)  # no more spread than Poisson counts have
    low = np.where(slopes(high)[0] > 0, high, low)
    u = np.clip(np.log(start), low, high)
    for _ in range(STEPS):
        first, second = slopes(u)
        low, high = np.where(first > 0, u, low), np.where(first > 0, high, u)
        newton = u - first / np.where(second < 0, second, -1.0)
        inside = (second < 0) & (low < newton) & (newton < high)
        moved = np.where(inside, newton, (low + high) / 2)
        if np.abs(moved - u).max(initial=0.0) < 1e-10:
            break
        u = moved
    return np.exp(u)
