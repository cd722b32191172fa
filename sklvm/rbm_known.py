"""A Boltzmann machine of known parameters: validated, whatever its columns are."""

import numpy as np

from .rbm_cells import CategoricalUnits
from .rbm_counts import PoissonUnits
from .rbm_machine import BoltzmannMachine
from .rbm_units import BernoulliUnits, GaussianUnits
from .validation import checked_array

LOG_MOST = np.log(2.0**62)  # a rate that a count of 64 bits can still hold


def known_machine(visible, components, intercept_visible, intercept_hidden, **about):
    """(q, d), (d,), (q,) and what the columns need besides -> machine, or ValueError."""
    W = checked_array(components, (None, None), "components")
    b = checked_array(intercept_visible, (W.shape[1],), "intercept_visible")
    c = checked_array(intercept_hidden, (len(W),), "intercept_hidden")
    about = {name: value for name, value in about.items() if value is not None}
    if visible == "auto":
        visible = next((kind for kind in TELLING if TELLING[kind] in about), "bernoulli")
    if visible not in MAKERS:
        raise ValueError(f"visible must be 'auto' or one of {sorted(MAKERS)}, got {visible!r}")
    return MAKERS[visible](b, c, W, **_known(visible, about))


def _known(visible, about):
    """What is said about the columns, if it fits their kind."""
    foreign = sorted(set(about) - ABOUT[visible])
    if foreign:
        raise ValueError(f"{', '.join(foreign)} is nothing that visible={visible!r} has")
    if TELLING.get(visible, visible) not in {visible, *about}:
        raise ValueError(f"visible={visible!r} needs {TELLING[visible]}")
    return about


def _bits(b, c, W, thresholds=None, levels=None):
    if thresholds is not None:
        thresholds = checked_array(thresholds, b.shape, "thresholds")
    levels = None if levels is None else checked_array(levels, (2, *b.shape), "levels")
    return BoltzmannMachine(BernoulliUnits(thresholds, levels), b, c, W)


def _normals(b, c, W, noise_variance):
    variance = checked_array(noise_variance, b.shape, "noise_variance")
    if not (variance > 0).all():
        raise ValueError(f"noise_variance must be positive, got {variance.min():g}")
    return BoltzmannMachine(GaussianUnits(b, np.sqrt(variance)), np.zeros(b.shape), c, W)


def _cells(b, c, W, n_categories):
    n = checked_array(n_categories, (None,), "n_categories")
    if (n < 2).any() or (n != np.floor(n)).any():
        raise ValueError(f"n_categories must be whole numbers of at least 2, got {n.tolist()}")
    sizes, is_open = n.astype(int), len(b) == n.sum() + len(n)
    if not is_open and len(b) != n.sum():
        raise ValueError(
            f"components has {len(b)} cells, but {n.sum():.0f} categories in {len(n)} columns need "
            f"{n.sum():.0f}, or {n.sum() + len(n):.0f} with a cell in each column for other codes"
        )
    units = CategoricalUnits(sizes + is_open, is_open, np.zeros(len(b)))
    return BoltzmannMachine(units, b, c, W)


def _counts(b, c, W):
    highest = b + np.maximum(W, 0.0).sum(axis=0)
    if highest.max() > LOG_MOST:
        raise ValueError(
            f"rates of up to exp({highest.max():.0f}) are more than a count can hold; intercepts "
            "and positive weights of a column are log rates, which add up"
        )
    return BoltzmannMachine(PoissonUnits(np.zeros(b.shape)), b, c, W)


MAKERS = {"bernoulli": _bits, "categorical": _cells, "gaussian": _normals, "poisson": _counts}
TELLING = {"gaussian": "noise_variance", "categorical": "n_categories"}
ABOUT = {
    "bernoulli": {"thresholds", "levels"},
    "categorical": {"n_categories"},
    "gaussian": {"noise_variance"},
    "poisson": set(),
}
