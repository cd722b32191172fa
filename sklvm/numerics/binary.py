"""Binary vectors: all of them in blocks, and the two functions that sums over a bit make."""

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
    shifts = np.arange(q - 1, -1, -1)
    for start in range(0, 2**q, size):
        numbers = np.arange(start, min(start + size, 2**q))
        yield (numbers[:, None] >> shifts & 1).astype(np.float64)
