"""How heavy the tail of a sample is: the shape of a generalised Pareto distribution."""

import numpy as np

TAIL_SHARE = 0.2  # of the values, at most
PRIOR_SHAPE = 0.5
PRIOR_SIZE = 10  # excesses that the prior counts as


def tail_shape(log_value):
    """Shape k of the upper tail of exp(log_value): (S, n) -> (n,).

    Moments of order below 1 / k exist. The tail is the min(S / 5, 3 sqrt(S)) largest values
    (Vehtari et al. 2024); where nothing varies there k is -inf, where hardly any
    excess is left beside the largest it is inf.
    """
    S = len(log_value)
    m = int(np.ceil(min(TAIL_SHARE * S, 3 * np.sqrt(S))))
    value = np.sort(np.exp(log_value - log_value.max(axis=0)), axis=0)[S - m - 1 :]
    excess = value[1:] - value[0]
    largest, quartile = excess[-1], excess[int(m / 4 + 0.5) - 1]
    usable = quartile > np.finfo(float).tiny
    shape = np.where(largest > 0, np.inf, -np.inf)
    shape[usable] = pareto_shape(excess[:, usable] / largest[usable])
    return shape


def pareto_shape(excess):
    """Shape k of generalised Pareto distributions, from ascending excesses: (m, n) -> (n,).

    Zhang & Stephens (2009): k at the mean of a profile posterior of b = -k / sigma over
    a grid; shrunk towards 1/2 as if ten more excesses said so (Vehtari et al. 2024).
    """
    m = len(excess)
    n_grid = 30 + int(np.sqrt(m))
    grid = 1 - np.sqrt(n_grid / (np.arange(1, n_grid + 1) - 0.5))
    b = grid[:, None] / (3 * excess[int(m / 4 + 0.5) - 1]) + 1 / excess[-1]  # (J, n)
    k = np.log1p(-b[:, None] * excess).mean(axis=1)
    log_likelihood = m * (np.log(-b / k) - k - 1)
    weight = np.exp(log_likelihood - log_likelihood.max(axis=0))
    b = (b * weight).sum(axis=0) / weight.sum(axis=0)
    k = np.log1p(-b * excess).mean(axis=0)
    return (m * k + PRIOR_SIZE * PRIOR_SHAPE) / (m + PRIOR_SIZE)
