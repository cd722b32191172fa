"""Extrapolation of EM: proposals that the driver keeps only where the objective ends higher."""

import numpy as np

WARM_UP = 12  # plain steps before the first leap: an early leap can change the basin


def squarem(x0, x1, x2):
    """The S3 leap of Varadhan & Roland (2008) from three successive EM states, or None.

    Coordinates are those of x0 (unconstrained and free of units), in which x0 is zero.
    """
    with np.errstate(all="ignore"):
        try:
            step, two = x0.pack(x1), x0.pack(x2)
            bend = two - 2 * step
            length = np.linalg.norm(step) / np.linalg.norm(bend)
            if not np.isfinite(length) or length <= 1.0:
                return None
            return x0.unpack(2 * length * step + length**2 * bend)
        except np.linalg.LinAlgError:
            return None


ACCELERATORS = {"squarem": squarem, None: None}
