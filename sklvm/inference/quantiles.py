"""Quantiles of mixtures, column by column: where the mixed distribution functions reach q."""

import numpy as np

DOUBLINGS = 2100  # of an interval's width: more than float64 has
ROUNDING = 1e-12  # relative: the probabilities of whole numbers add up to q as nearly as this


def checked_levels(q):
    """Probabilities strictly between 0 and 1 as an array, or ValueError."""
    levels = np.asarray(q, dtype=np.float64)
    if not ((levels > 0) & (levels < 1)).all():
        raise ValueError(f"q must lie between 0 and 1, got {q!r}")
    return levels


def central(level):
    """The two probabilities that leave as much below as above, or ValueError."""
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level!r}")
    return np.array([(1 - level) / 2, (1 + level) / 2])


def mixture_quantiles(probs, emission, q, centre, spread):
    """The least x_j with P(x_j <= x) >= q under sum_k probs_k p(x | z = k), column by column.

    probs (n, K), a number q in (0, 1), centre and spread (n, d) roughly where and how wide the
    mixtures are: -> (n, d), whole numbers in columns that count. By bisection.
    """
    counts = np.broadcast_to(np.asarray(emission.base_measure) == "counting", centre.shape)
    target = np.where(counts, q * (1 - ROUNDING), q)
    probs = probs / probs.sum(axis=1, keepdims=True)

    def below(x):
        """P(x_j <= x) < q: (n, d) bool."""
        return np.einsum("nk,nkd->nd", probs, emission.cdf(x)) < target

    width = np.where(np.isfinite(spread) & (spread > 0), spread, 1 + np.abs(centre))
    width, begin = (np.where(counts, np.ceil(x), x) for x in (width, centre))
    low = np.where(counts, -1.0, _moved(begin, -width, lambda x: ~below(x) & ~counts))
    high = _moved(begin, width, below)
    for _ in range(DOUBLINGS):
        middle = low + (high - low) / 2
        middle = np.where(counts, np.floor(middle), middle)
        open_ones = (middle > low) & (middle < high)
        if not open_ones.any():
            break
        under = below(middle)
        low = np.where(open_ones & under, middle, low)
        high = np.where(open_ones & ~under, middle, high)
    return high


def _moved(x, step, wrong):
    """x with ever longer steps added where it is on the wrong side."""
    for _ in range(DOUBLINGS):
        on = wrong(x)
        if not on.any():
            break
        x, step = np.where(on, x + step, x), np.where(on, 2 * step, step)
    return x
