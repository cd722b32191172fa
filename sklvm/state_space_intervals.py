"""How certain a state-space model is: confidence intervals from the observed information."""

from functools import partial
from typing import NamedTuple

import numpy as np
from scipy.linalg import eigh, null_space
from scipy.special import ndtri
from sklearn.utils.validation import check_is_fitted

from .chain_state import Chains
from .inference.em import evaluate
from .intervals import FAR, Interval, inverse, of_matrices, symmetric
from .sequences import distinct
from .warn import warn_user

STEP = 1e-3  # of differences, in standard errors of one coordinate alone
UNTOLD = 1e-2  # information below which data do not tell a variance from zero


class StateSpaceIntervals(NamedTuple):
    """Intervals of all parameters of a state-space model."""

    transition_matrix: Interval  # (q, q)
    transition_covariance: Interval  # (q, q), variances on the scale of logarithms
    observation_matrix: Interval  # (d, q)
    observation_covariance: Interval  # (d, d), variances on the scale of logarithms
    intercept: Interval  # (d,)
    input_matrix: Interval  # (q, m)
    feedthrough_matrix: Interval  # (d, m)
    initial_mean: Interval  # (q,)
    initial_covariance: Interval  # (q, q), variances on the scale of logarithms


class StateSpaceConfidence:
    """What a state-space model says of its own parameters."""

    def conf_int(self, X, level=0.95, sample_weight=None):
        """Confidence intervals of all parameters, from the curvature of the exact likelihood.

        The second derivative of the log-likelihood is a difference of its exact slope. A model
        without given matrices has intervals in the canonical basis of its states, whose convention
        moves with the data.

        Parameters
        ----------
        X : list of array-like of shape (n_steps, n_channels), or array
            The sequences of `fit`; NaN marks missing entries.
        level : float, default=0.95
            Probability that an interval covers its parameter, for long or many sequences.
        sample_weight : array-like of shape (n_sequences,), default=None
            The counts of `fit`.

        Returns
        -------
        intervals : StateSpaceIntervals
            Named tuple with a field for each fitted matrix or vector, each a named tuple of `low`,
            `high` and `standard_error` in the shape of the attribute. Zero standard errors for what
            is given or a convention. NaN for variances that the sequences do not tell from zero;
            the other intervals take those as known.

        Raises
        ------
        ValueError
            For a `level` outside (0, 1), for models that no fit made, and without any entry.

        Warns
        -----
        UserWarning
            If variances are at the boundary. If the information is not positive definite, as where
            given matrices leave the basis of the states open: all intervals are NaN then. If the
            maximum is elsewhere by more than half a standard error.

        Notes
        -----
        Intervals of variances are symmetric in logarithms, all others on their own scale. Cost: two
        passes over the sequences for each free parameter.

        References
        ----------
        Harvey (1989), Forecasting, structural time series models and the Kalman filter, 3.4 and
        4.5. Durbin & Koopman (2012), 7.3.4.

        Examples
        --------
        >>> import numpy as np
        >>> from sklvm import local_level
        >>> rng = np.random.default_rng(0)
        >>> x = (rng.normal(size=300).cumsum() + 2 * rng.normal(size=300))[:, None]
        >>> intervals = local_level().fit([x]).conf_int([x])
        >>> low, high, _ = intervals.observation_covariance
        >>> low.round(1), high.round(1)
        (array([[3.2]]), array([[5.1]]))
        """
        check_is_fitted(self)
        if not 0 < level < 1:
            raise ValueError(f"level must lie between 0 and 1, got {level!r}")
        if not len(self.history_):
            raise ValueError(
                "conf_int is for fitted models: no fit made this one, so no sequences say how its "
                "parameters move with them"
            )
        read, weight = self._counts(X, sample_weight)
        some = (weight > 0) & (read.sums(read.observed) > 0)
        if not some.any():
            raise ValueError("conf_int needs sequences with weight and an entry: X has none")
        chains = Chains.of(*distinct(read.take(some), weight[some]))
        state = self.run_.state
        error = _standard_errors(state, self._centred(chains, *state.given, state.inputs))
        return self._intervals(error, ndtri((1 + level) / 2))

    def _intervals(self, error, z):
        """Intervals of the attributes from standard errors of `_reported`."""
        outputs, same = partial(self._of_outputs, fill=0.0), np.asarray
        back = {
            "observation_matrix": lambda e: outputs(e.T).T,
            "observation_covariance": lambda e: outputs(outputs(e).T),
            "intercept": outputs,
            "feedthrough_matrix": lambda e: outputs(e.T).T,
        }
        intervals = {}
        for name, one in zip(StateSpaceIntervals._fields, error):
            scale = of_matrices if name.endswith("covariance") else symmetric
            intervals[name] = scale(getattr(self, f"{name}_"), back.get(name, same)(one), z)
        return StateSpaceIntervals(**intervals)


def _reported(state):
    """What intervals are of: A, Q, C, R, c, B, D and the moments of the first state."""
    mean, P, diffuse = state.first.moments(state.A, state.Q)
    P = P if diffuse is None else np.zeros_like(P)
    R = state.noise_covariance
    return state.A, state.Q, state.C, R, state.c, state.B, state.D, mean, P


def _flat(state):
    return np.concatenate([np.ravel(part) for part in _reported(state)])


def _standard_errors(state, chains):
    """Standard errors of what `_reported` tells, in its shapes."""
    state = _even(state, evaluate(state, chains).stats)
    stats = evaluate(state, chains).stats
    h = STEP / np.sqrt(np.maximum(state.curvature(stats), 1.0))
    J = _differences(lambda v: _flat(state.unpack(v).canonical()), h)
    V, held = _covariance(state, chains, stats, h)
    moves = np.abs(J[:, held]).max(axis=1, initial=0.0) > 0
    alone = moves & (np.abs(J[:, ~held]).max(axis=1, initial=0.0) == 0)
    error = np.where(alone, np.nan, _spread(J, V))
    shapes = [np.shape(part) for part in _reported(state)]
    parts = np.split(error, np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes)]


def _spread(J, V):
    """Roots of the diagonal of J V J', (a, p), (p, p) -> (a,), whatever the units of rows of J."""
    size = np.abs(J).max(axis=1, initial=0.0)
    rows = J / np.where(size > 0, size, 1.0)[:, None]
    return size * np.sqrt(np.maximum(np.einsum("ai,ij,aj->a", rows, V, rows), 0.0))


def _even(state, stats):
    """In the basis with Q = I and uncorrelated states: differences lose fewest digits there."""
    if not state.structure.unconstrained:
        return state
    V = eigh(stats.later + stats.first, state.Q)[1]  # V' Q V = I
    return state.turned(V.T)


def _differences(f, h):
    """Central differences along each coordinate, at zero: -> (..., p)."""
    return np.stack([(f(e) - f(-e)) / (2 * e.sum()) for e in np.diag(h)], axis=-1)


def _covariance(state, chains, stats, h):
    """Of the coordinates of `pack`, (p, p), zero for those held at a boundary, a mask (p,)."""

    def slope(v):
        there = state.unpack(v)
        return there.slope(evaluate(there, chains).stats, state)

    try:
        hessian = -_differences(slope, h)
    except np.linalg.LinAlgError:
        hessian = np.full((len(h), len(h)), np.nan)
    hessian, held = (hessian + hessian.T) / 2, state.bounds()[0] > -1e-6
    held |= state.log_variances & (np.diag(hessian) < UNTOLD)
    if held.any():
        warn_user(
            "some variances are at the boundary: the sequences do not tell them from zero. Their "
            "intervals are NaN, and the others take them as known"
        )
    free = np.flatnonzero(~held)
    V, within = np.zeros_like(hessian), np.ix_(free, free)
    size = 1 / np.sqrt(np.maximum(np.diag(hessian)[free], 1e-300))
    turns = _turns(state)[free] / size[:, None]
    K = size[:, None] * null_space(turns.T)  # directions that change the density
    V[within] = K @ inverse(K.T @ hessian[within] @ K) @ K.T
    if np.isnan(V).any():
        warn_user(
            "the information is not positive definite, so the fit is at no interior maximum of the "
            "likelihood of these sequences and all intervals are NaN: give conf_int the sequences "
            "and weights of fit, fit fewer states, or give matrices that fix the basis of the "
            "states"
        )
    slope = state.slope(stats, state)
    far = np.sqrt(max(slope @ V @ slope, 0.0))
    if far > FAR:
        warn_user(
            f"the maximum of the likelihood of these sequences lies {far:.2g} standard errors "
            "away: give conf_int the sequences and weights of fit, or fit with a smaller tol"
        )
    return V, held


def _turns(state):
    """How the coordinates move with the basis of the states, which changes no density: (p, q²)."""
    q = len(state.A)
    if not state.structure.unconstrained:
        return np.zeros((len(state.pack(state)), 1))
    units = 1e-4 * np.eye(q * q).reshape(-1, q, q)
    moves = [
        state.pack(state.turned(np.eye(q) + unit)) - state.pack(state.turned(np.eye(q) - unit))
        for unit in units
    ]
    return np.stack(moves, axis=1) / 2e-4
