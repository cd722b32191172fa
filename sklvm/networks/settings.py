"""What people say of networks, in the words of torch."""

import math

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


def image_of(shape, n_columns):
    """Channels, height and width of images that rows of n_columns are, or ValueError; None is none.

    Without channels there is one.
    """
    if shape is None:
        return None
    sides = tuple(np.atleast_1d(np.asarray(shape)).tolist())
    if len(sides) not in (2, 3) or not all(isinstance(n, int) and n > 0 for n in sides):
        raise ValueError(
            "image_shape must be (height, width) or (channels, height, width), positive integers, "
            f"got {shape!r}"
        )
    if math.prod(sides) != n_columns:
        raise ValueError(
            f"image_shape={shape!r} has {math.prod(sides)} pixels, but X has {n_columns} columns"
        )
    return (1, *sides)[-3:]
