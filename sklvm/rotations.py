"""Rotations of factors as people name them; `criterion` makes what `rotate` needs."""

from abc import ABC, abstractmethod
from numbers import Real

import numpy as np

from .numerics.manifolds import Oblique, Orthogonal
from .numerics.rotation_criteria import (
    GeominCriterion,
    ObliminCriterion,
    OrthomaxCriterion,
    PromaxTurn,
    TargetCriterion,
    Turning,
)
from .parameters import Parameters

MANIFOLDS = {True: Orthogonal, False: Oblique}


class Rotation(Parameters, ABC):
    """A named rotation with its parameters."""

    @abstractmethod
    def criterion(self, d, q) -> Turning:
        """What turns loadings (d, q); parameters out of range are refused with a ValueError."""

    def among(self, constant) -> "Rotation":
        """The rotation of the loadings of columns that vary: constant is (d,) bool."""
        return self


class Orthomax(Rotation):
    """Orthogonal rotation to squared loadings of large variance: varimax and its relatives.

    Maximises sum_ij l_ij^4 - (gamma / d) sum_j (sum_i l_ij^2)^2.

    Parameters
    ----------
    gamma : float or None, default=1.0
        0 is quartimax (rows are simple), 1 is varimax (columns are), None is q / 2, equamax.
    kaiser : bool, default=True
        Divide rows by the roots of their communalities first, so that all rows count alike.

    References
    ----------
    Kaiser (1958), Psychometrika 23, 187-200 (varimax). Harman (1976), Modern factor analysis.

    Examples
    --------
    >>> import numpy as np
    >>> from sklvm import Orthomax
    >>> from sklvm.numerics.rotation import rotate
    >>> W = np.array([[0.6, 0.6], [0.5, 0.5], [0.6, -0.6], [0.5, -0.5]])
    >>> varimax = Orthomax().criterion(*W.shape)
    >>> rotate(W, varimax, np.random.default_rng(0)).loadings.round(3) + 0.0
    array([[0.849, 0.   ],
           [0.707, 0.   ],
           [0.   , 0.849],
           [0.   , 0.707]])
    """

    def __init__(self, gamma=1.0, kaiser=True):
        self.gamma = gamma
        self.kaiser = kaiser

    def criterion(self, d, q):
        gamma = q / 2 if self.gamma is None else finite(self, "gamma")
        return OrthomaxCriterion(gamma, bool(self.kaiser))


class Oblimin(Rotation):
    """Oblique rotation to loadings of which no row, or no two columns, are large together.

    Minimises sum_j<k [sum_i l_ij^2 l_ik^2 - (gamma / d) sum_i l_ij^2 sum_i l_ik^2].

    Parameters
    ----------
    gamma : float, default=0.0
        0 is quartimin; below 0 factors are less correlated. Above 0 there is no minimum.
    kaiser : bool, default=True
        Divide rows by the roots of their communalities first, so that all rows count alike.

    References
    ----------
    Jennrich & Sampson (1966), Psychometrika 31, 313-323. Jennrich (1979), Psychometrika 44, 173-177
    (no gamma above 0 is admissible).

    Examples
    --------
    >>> from sklvm import Oblimin
    >>> Oblimin(gamma=-0.5)
    Oblimin(gamma=-0.5, kaiser=True)
    """

    def __init__(self, gamma=0.0, kaiser=True):
        self.gamma = gamma
        self.kaiser = kaiser

    def criterion(self, d, q):
        gamma = finite(self, "gamma")
        if gamma > 0:
            raise ValueError(f"Oblimin has a minimum only where gamma <= 0, got gamma={gamma!r}")
        return ObliminCriterion(gamma, bool(self.kaiser))


class Geomin(Rotation):
    """Rotation to rows with a loading near zero, whatever the size of the others.

    Minimises sum_i prod_j (l_ij^2 + epsilon)^(1/q), for rows with several large loadings.

    Parameters
    ----------
    epsilon : float, default=0.01
        Positive. A small one knows a zero better and has more local minima.
    orthogonal : bool, default=False
        Keep factors uncorrelated.
    kaiser : bool, default=True
        Divide rows by the roots of their communalities first, so that all rows count alike.

    References
    ----------
    Yates (1987), Multivariate exploratory data analysis. Browne (2001), Multivariate Behavioral
    Research 36, 111-150.

    Examples
    --------
    >>> from sklvm import Geomin
    >>> Geomin(epsilon=0.001)
    Geomin(epsilon=0.001, orthogonal=False, kaiser=True)
    """

    def __init__(self, epsilon=0.01, orthogonal=False, kaiser=True):
        self.epsilon = epsilon
        self.orthogonal = orthogonal
        self.kaiser = kaiser

    def criterion(self, d, q):
        epsilon = finite(self, "epsilon")
        if epsilon <= 0:
            raise ValueError(f"Geomin needs epsilon > 0, got {epsilon!r}")
        return GeominCriterion(epsilon, MANIFOLDS[bool(self.orthogonal)], bool(self.kaiser))


class Promax(Rotation):
    """Oblique rotation to powers of what varimax finds, by least squares.

    It minimises no criterion of its own loadings; standard errors follow from those of varimax.

    Parameters
    ----------
    power : float, default=4.0
        Above 1; a large one makes factors more correlated.
    kaiser : bool, default=True
        Whether varimax divides rows by the roots of their communalities.

    References
    ----------
    Hendrickson & White (1964), British Journal of Statistical Psychology 17, 65-70. The powers are
    those of loadings that no weights divide, as in R's `promax`.

    Examples
    --------
    >>> from sklvm import Promax
    >>> Promax(power=3)
    Promax(power=3, kaiser=True)
    """

    def __init__(self, power=4.0, kaiser=True):
        self.power = power
        self.kaiser = kaiser

    def criterion(self, d, q):
        power = finite(self, "power")
        if power <= 1:
            raise ValueError(f"Promax needs power > 1, got {power!r}")
        return PromaxTurn(power, bool(self.kaiser))


class Target(Rotation):
    """Rotation to what loadings are thought to be, where something is thought of them.

    Minimises the sum of squared distances to the entries of the target that are not NaN. The target
    names the factors: their order and signs are its own. It is in the units of the loadings, so
    rows are not weighted.

    Parameters
    ----------
    target : array-like of shape (n_features, n_factors)
        Loadings to come near to; NaN says nothing of an entry.
    orthogonal : bool, default=False
        Keep factors uncorrelated. With a complete target this is orthogonal Procrustes.

    References
    ----------
    Browne (1972), British Journal of Mathematical and Statistical Psychology 25, 115-120
    (orthogonal) and 207-212 (oblique).

    Examples
    --------
    >>> import numpy as np
    >>> from sklvm import Target
    >>> from sklvm.numerics.rotation import rotate
    >>> W = np.array([[0.6, 0.6], [0.5, 0.5], [0.6, -0.6], [0.5, -0.5]])
    >>> target = Target([[0, np.nan], [0, np.nan], [np.nan, 0], [np.nan, 0]])
    >>> rotated = rotate(W, target.criterion(*W.shape), np.random.default_rng(0))
    >>> rotated.loadings.round(3) + 0.0
    array([[0.   , 0.849],
           [0.   , 0.707],
           [0.849, 0.   ],
           [0.707, 0.   ]])
    """

    def __init__(self, target, orthogonal=False):
        self.target = target
        self.orthogonal = orthogonal

    def criterion(self, d, q):
        target = np.asarray(self.target, dtype=np.float64)
        if target.shape != (d, q):
            raise ValueError(f"the target must have shape ({d}, {q}), got {target.shape}")
        if np.isinf(target).any() or np.isnan(target).all():
            raise ValueError("the target must hold finite numbers, and NaN for what it leaves open")
        return TargetCriterion(target, MANIFOLDS[bool(self.orthogonal)])

    def among(self, constant):
        target = np.asarray(self.target)
        if len(target) != len(constant):
            raise ValueError(
                f"the target must have shape ({len(constant)}, n_factors), got {target.shape}"
            )
        return Target(target[~constant], self.orthogonal)

    def _key(self):
        target = np.asarray(self.target, dtype=np.float64)
        bits = np.where(np.isnan(target), np.nan, target + 0.0)  # one NaN, and no negative zero
        return self.orthogonal, target.shape, bits.tobytes()

    def __eq__(self, other):
        return type(self) is type(other) and self._key() == other._key()

    def __hash__(self):
        return hash((type(self), self._key()))


ROTATIONS = {
    "varimax": Orthomax(gamma=1.0),
    "quartimax": Orthomax(gamma=0.0),
    "equamax": Orthomax(gamma=None),
    "promax": Promax(),
    "oblimin": Oblimin(),
    "geomin": Geomin(),
}


def rotation_of(name):
    """The rotation that a name or a `Rotation` means."""
    if isinstance(name, str) and name in ROTATIONS:
        return ROTATIONS[name]
    if isinstance(name, Rotation):
        return name
    raise ValueError(
        f"a rotation is one of {sorted(ROTATIONS)}, or Orthomax(), Oblimin(), Geomin(), Promax() "
        f"or Target(), got {name!r}"
    )


def finite(rotation, parameter):
    """A parameter that must be a finite number, or ValueError."""
    value = getattr(rotation, parameter)
    if isinstance(value, bool) or not isinstance(value, Real) or not np.isfinite(value):
        raise ValueError(
            f"{parameter} of {type(rotation).__name__} must be a finite number, got {value!r}"
        )
    return float(value)
