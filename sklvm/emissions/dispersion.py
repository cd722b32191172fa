"""The one integral of the negative binomial: f(x) = sum_{t < x} log(1 + dispersion t).

Gamma(x + r) / (Gamma(r) r^x) = exp f(x) with r = 1 / dispersion: no large logarithms are
subtracted, and a dispersion near zero is a Poisson distribution. Counts below TABLE are summed,
larger ones by the Euler-Maclaurin formula, whose next term is below the last digit there. Counts
lie in cells, one for each number below TABLE, then four for each doubling: the histogram over cells
is nearly all that an M-step needs. See docs/derivations/negative_binomial.md.
"""

import numpy as np

TABLE = 256  # counts below have cells of their own
BINS = np.ceil(TABLE * 2.0 ** (np.arange(129) / 4))  # the least counts of the cells from there on
EDGES = np.concatenate([np.arange(float(TABLE)), BINS])  # the least count of each cell
CELLS = len(EDGES)
BOUNDS = (1e-8, 1e6)  # of a dispersion: below, a Poisson distribution to the last digits
STEPS = 100  # of the search for a dispersion: bisection alone would need half of them


def cells_beyond(x):
    """The cells of counts of at least TABLE, as positions in BINS."""
    return np.searchsorted(BINS, x, side="right") - 1


def rises(a):
    """f at EDGES: (...) -> (..., CELLS)."""
    up = np.cumsum(steps(a, CELLS - 1)[0], axis=-1)
    return np.concatenate([np.zeros_like(up[..., :1]), up], axis=-1)


def steps(a, top):
    """By how much f rises from each of `top` edges to the next, and its two slopes in log a.

    (...) -> three of (..., top)
    """
    y = a[..., None] * np.arange(min(top, TABLE))
    q = 1 / (1 + y)
    head = np.log1p(y), 1 - q, (1 - q) * q
    if top <= TABLE:
        return head
    a, bins = a[..., None], BINS[: top - TABLE + 1]
    y = a * bins
    q = 1 / (1 + y)
    tail = *sums_to(a, bins), (np.log1p(y) + q) / a - (q - q * q) / 2
    return tuple(np.concatenate([h, np.diff(t)], axis=-1) for h, t in zip(head, tail, strict=True))


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


def log_prior(a, centre, pseudo):
    """A logistic distribution of log a about log centre: its slope is never beyond `pseudo`."""
    w = np.log(a / centre)
    return pseudo * (np.log(4.0) - np.abs(w) - 2 * np.log1p(np.exp(-np.abs(w))))


def fitted_dispersion(start, mean, rows, total, above, slope, centre, pseudo):
    """The dispersions that maximise the expected log-likelihood and the prior, given the means.

    Newton steps in the logarithm, inside a bracket that the sign of the slope narrows.

    start, mean, rows, total (...): where to begin, means, weight and sum of the counts.
    above (..., top): weight of the counts beyond each cell; slope (...): of what lies within cells.
    centre (d,), pseudo: of the prior.
    """

    def slopes(u):
        """First and second derivative in the logarithm."""
        a = np.exp(u)
        share, log = mean / (1 + a * mean), np.log1p(a * mean) / a
        side = np.tanh(np.log(a / centre) / 2)
        _, rise, bend = steps(a, above.shape[-1])
        first = (above * rise).sum(axis=-1) + slope - pseudo * side
        second = (above * bend).sum(axis=-1) - pseudo * (1 - side**2) / 2
        first -= (a * total + rows) * share - rows * log
        second -= a * (total - (a * total + rows) * share) * share + rows * (log - share)
        return first, second

    low, high = (np.full(mean.shape, bound) for bound in np.log(BOUNDS))
    high = np.where(slopes(low)[0] > 0, high, low)  # no more spread than Poisson counts have
    low = np.where(slopes(high)[0] > 0, high, low)
    u = np.clip(np.log(start), low, high)
    for _ in range(STEPS):
        first, second = slopes(u)
        low, high = np.where(first > 0, u, low), np.where(first > 0, high, u)
        newton = u - first / np.where(second < 0, second, -1.0)
        inside = (second < 0) & (low <= newton) & (newton <= high)
        moved = np.where(inside, newton, (low + high) / 2)
        u, change = moved, np.abs(moved - u).max(initial=0.0)
        if change < 1e-10:
            break
    return np.exp(u)
