"""Binary vectors: all of them in blocks, and the two functions that sums over a bit make."""

from functools import lru_cache

import numpy as np
from scipy.special import expit

STATES = 4096  # in a block: tables of (rows, states) stay small


def softplus(a):
    """log(1 + exp(a)), without overflow and without losing what is small."""
    return np.maximum(a, 0.0) + np.log1p(np.exp(-np.abs(a)))


def bit_entropy(a):
    """-p log p - (1 - p) log(1 - p) of p = 1 / (1 + exp(-a))."""
    return softplus(a) - a * expit(a)


def binary_blocks(q, size=STATES):
    """Yields all 2^q vectors of q bits, counted upwards, the first bit slowest: (<= size, q)."""
    for start in range(0, 2**q, size):
        yield _counted(q, start, min(start + size, 2**q))


@lru_cache(maxsize=8)
def _counted(q, start, stop):
    bits = np.arange(start, stop)[:, None] >> np.arange(q - 1, -1, -1) & 1
    bits = bits.astype(np.float64)
    bits.flags.writeable = False  # it is shared
    return bits
