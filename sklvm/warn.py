"""Warnings that point at the user's line, from however deep in a fit they come."""

import sys
import warnings

INSIDE = {"sklvm", "sklearn", "joblib", "functools"}  # packages whose frames are not the user's


def warn_user(message, category=UserWarning):
    """Warn about the innermost line that belongs to none of the packages between."""
    frame, level = sys._getframe(), 1
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in INSIDE:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
