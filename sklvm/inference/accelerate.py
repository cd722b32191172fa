"""Extrapolation of EM: proposals that the driver keeps only where the objective ends higher."""

import numpy as np

WARM_UP = 12  # plain steps before the first leap: an early leap can change the basin


def squarem(x0, x1, x2, longest):
    """The S3 leap of Varadhan & Roland (2008) from three successive EM states: state, step length.

    Coordinates are those of x0 (unconstrained and free of units), in which x0 is zero. The state is
    None where the leap would end at x2 or before.
    """
    step, two = x0.pack(x1), x0.pack(x2)
    bend = two - 2 * step
    length = min(np.linalg.norm(step) / np.linalg.norm(bend), longest)
    if not length > 1.0:  # also NaN
        return None, length
    return x0.unpack(2 * length * step + length**2 * bend), length


ACCELERATORS = {"squarem": squarem, None: None}
