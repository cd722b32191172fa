"""What people say of networks, in the words of torch."""

import numpy as np
import torch


def device_named(name):
    """A device of torch, or ValueError; "auto" is a GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"device={name!r} cannot be used here: {error}") from error
    return torch.device(name)


def widths_of(sizes):
    """Widths of hidden layers as a tuple, or ValueError."""
    widths = tuple(np.atleast_1d(np.asarray(sizes)).tolist())
    if not all(isinstance(width, int) and width > 0 for width in widths):
        raise ValueError(f"hidden_layer_sizes must be positive integers, got {sizes!r}")
    return widths
