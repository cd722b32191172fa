"""One loop for expectation-maximisation and variational Bayes: it climbs, or it says so."""

from functools import partial
from typing import Any, NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from ..warn import warn_user
from .accelerate import ACCELERATORS, WARM_UP
from .blocks import BLOCK, sum_blocks
from .history import FitInterrupted, Run

FIRST_LEAP = 4.0  # longest step length of a leap, at first ...
STRETCH = 4.0  # ... and what it is multiplied by where it was reached, divided by after a failure
SHORTEST_LEAP, LONGEST_LEAP = 2.0, 1e4  # rounding grows with the square of the length
MEMORY = 5  # ratios of successive gains that the stopping rule looks back on
ROUNDING = 1e-15  # relative gain that may be none: a ratio of two such gains says nothing
SLACK = 1e-9  # relative fall of the objective that rounding may cause
SHORT = 10  # iterations of a start's short run
POLISHED = 1e-4  # nats per unit weight that make a neighbour worth moving to
SOON = 10  # steps in which a short run, at its last gain, must be able to reach the best so far
MOST_TRIALS = 1000  # short runs, after which even a maximum that rises without bound is left alone


class EMState:
    """What the loop asks of a state, an immutable value, besides e_step, m_step and log_prior.

    A state whose blocks of rows share work overrides `sweep` and `known`, one whose rows depend on
    each other `walk`; one that leaps has `pack` and `unpack`.
    """

    rows = BLOCK  # in a block

    def known(self, X, weight, total):
        """What no step changes, for `sweep`, or None; `total` sums a function over blocks."""
        return None

    def sweep(self, known=None):
        """One pass over the rows: e_step(X, weight, *labels) of a block -> values that add."""
        return self

    def total(self, stats, log_likelihood):
        """What the sums over blocks say: statistics and log-likelihood."""
        return stats, log_likelihood

    def walk(self, rows, n_jobs=None, known=None):
        """Expected statistics and log-likelihood of all rows, block by block."""
        sweep = self.sweep(known)
        return sweep.total(*sum_blocks(sweep.e_step, rows, n_jobs, sweep.rows))


class Point(NamedTuple):
    """A state with what one pass over the rows says of it."""

    state: Any
    stats: Any
    objective: float  # per unit weight, with the prior


def known_of(state, rows, n_jobs=None):
    """What every pass over these rows shares, or None."""
    return state.known(*rows[:2], partial(sum_blocks, n_jobs=n_jobs))


def evaluate(state, rows, n_jobs=None, known=None):
    """One E-step over all rows: rows is (X, weight) or (X, weight, labels)."""
    stats, log_likelihood = state.walk(rows, n_jobs, known)
    return Point(state, stats, float(log_likelihood + state.log_prior()) / float(rows[1].sum()))


def em(
    state,
    rows,
    *,
    max_iter,
    tol,
    accelerate=None,
    callback=None,
    strict=False,
    n_jobs=None,
):
    """Climb until the gain still to come, extrapolated, is below tol nats per unit weight.

    An iteration is one pass over the rows. `callback(iteration, state, objective)` may return True
    to stop. A fall of the objective beyond rounding raises FloatingPointError when `strict`, else
    it stops the climb at the best state with a ConvergenceWarning.
    """
    run, trouble = short_em(state, rows, max_iter, tol, accelerate, callback, n_jobs)
    if trouble and strict:
        raise FloatingPointError(trouble)
    if trouble:
        warn_user(trouble, ConvergenceWarning)
    return run


def short_em(state, rows, max_iter, tol, accelerate=None, callback=None, n_jobs=None):
    """The climb, and what ended it before its time (or None): -> Run, str."""
    return climbed(Climb(rows, n_jobs, ACCELERATORS[accelerate]), state, max_iter, tol, callback)


def climbed(climb, state, max_iter, tol, callback):
    """The end of a climb from a state, and what ended it before its time (or None): -> Run, str."""
    converged = False

    def stopped():
        return callback is not None and callback(climb.n_iter, climb.state, climb.objective)

    try:
        climb.begin(state)
        while climb.n_iter < max_iter and not converged:
            if not climb.advance() or stopped():
                break
            converged = climb.gain_to_come() < tol
    except KeyboardInterrupt:
        if not climb.points:
            raise
        raise FitInterrupted(climb.run(converged=False)) from None
    return climb.run(converged), climb.trouble


class Climb:
    """The last three points of an unbroken run of plain steps, and the history of all passes.

    A leap may end lower than it began: the plain step that follows decides. Where that ends higher
    than the leap began, the run goes on from there, else where the leap began.
    """

    def __init__(self, rows, n_jobs, leap):
        self.rows, self.n_jobs, self.known = rows, n_jobs, None
        self.leap, self.longest, self.landed = leap, FIRST_LEAP, None
        self.points, self.history, self.ratios, self.trouble = [], [], [], None

    @property
    def state(self):
        return self.points[-1].state

    @property
    def objective(self):
        return self.points[-1].objective

    @property
    def n_iter(self):
        return len(self.history) - 1

    def run(self, converged):
        history = np.array(self.history)
        return Run(self.state, history, converged, self.n_iter, self.points[-1].stats)

    def _keep(self, points):
        self.points = points
        self.history.append(points[-1].objective)

    def begin(self, state):
        self.known = known_of(state, self.rows, self.n_jobs)
        self._keep([self._evaluate(state)])

    def _evaluate(self, state):
        return evaluate(state, self.rows, self.n_jobs, self.known)

    def advance(self):
        """One pass over the rows; False where the climb cannot go on."""
        if self.landed is not None:
            return self._settle()
        if self.leap and len(self.points) == 3 and self.n_iter >= WARM_UP:
            return self._leap() or self.step()
        return self.step()

    def step(self):
        """One plain EM step; False where the climb cannot go on."""
        last = self.points[-1]
        try:
            new = self._after(last)
        except np.linalg.LinAlgError as error:
            return self._stop(f"a component collapsed ({error}); use covariance_prior='auto'")
        fall = last.objective - new.objective
        if not fall <= SLACK * (1 + abs(last.objective)):  # also catches NaN
            return self._stop(f"the objective fell by {fall:.3g} nats per unit weight")
        self._keep([*self.points[-2:], new])
        return True

    def _after(self, point):
        return self._evaluate(point.state.m_step(point.stats))

    def _stop(self, why):
        self.trouble = f"EM stopped at iteration {self.n_iter + 1}: {why}"
        return False

    def gain_to_come(self):
        """Aitken's extrapolation of the gains (Boehning et al. 1994), per unit weight.

        Just after a leap the gains shrink fast, for a while; the slowest of the last ratios lasts.
        """
        if len(self.points) < 3 or self.landed is not None:
            return np.inf
        start, middle, end = (point.objective for point in self.points)
        first, second = middle - start, end - middle
        if min(first, second) <= ROUNDING * (1 + abs(self.objective)):
            return max(second, 0.0)
        self.ratios = [*self.ratios[1 - MEMORY :], second / first]
        ratio = max(self.ratios)
        return second * max(1.0, ratio / (1 - ratio)) if ratio < 1 else np.inf

    def _leap(self):
        """Look at a state that is no EM step; False where there is none to look at."""
        before, last = self.points[-2:]
        with np.errstate(all="ignore"):
            try:
                ahead = last.state.m_step(last.stats)
                state, length = self.leap(before.state, last.state, ahead, self.longest)
                if state is None:
                    return False
                there = self._evaluate(state)
            except np.linalg.LinAlgError:
                there = None
        if there is None or not np.isfinite(there.objective):
            self._return()
            return True
        if there.objective > self.objective:
            self._arrive([there], length)
        else:
            self.landed = there, length
            self.history.append(self.objective)
        return True

    def _settle(self):
        """The plain step after a leap, and whether it was worth it."""
        (landed, length), self.landed = self.landed, None
        try:
            with np.errstate(all="ignore"):
                new = self._evaluate(landed.state.m_step(landed.stats))
        except np.linalg.LinAlgError:
            new = None
        if new is not None and new.objective > self.objective:
            self._arrive([landed, new], length)
        else:
            self._return()
        return True

    def _arrive(self, points, length):
        """Go on where the leap ended."""
        if length >= self.longest:
            self.longest = min(LONGEST_LEAP, self.longest * STRETCH)
        self._keep(points)

    def _return(self):
        """Go on where the leap began: another one from there needs two fresh steps."""
        self.points = self.points[-1:]
        self.longest = max(SHORTEST_LEAP, self.longest / STRETCH)
        self.history.append(self.objective)


def em_from_best(starts, sample, rows, *, neighbours=None, finish=em, short_iter=SHORT, **settings):
    """A few iterations from each start on sample rows; `finish` takes the best on over all rows.

    `neighbours(state)` yields further starts, near a state: the best moves on to one that ends
    higher, on the sample, until none does. Raises ValueError when no start gives a finite
    objective.
    """
    trials: list[Run] = []
    tol = settings["tol"]
    try:
        for start in starts:
            _try(start, sample, short_iter, tol, None, trials)
        if not trials:
            raise ValueError(
                "every start has a singular covariance: set covariance_prior='auto', or "
                "reg_covar > 0"
            )
        if neighbours is not None:
            _polish(neighbours, sample, max(tol, POLISHED), trials)
        return finish(_best(trials).state, rows, **settings)
    except FitInterrupted:
        raise
    except KeyboardInterrupt:
        if not trials:
            raise
        raise FitInterrupted(_best(trials)._replace(converged=False)) from None


def _polish(neighbours, sample, tol, trials):
    """Append runs to the trials until no neighbour of the best is better by more than tol."""
    _try(_best(trials).state, sample, 5 * SHORT, tol, "squarem", trials)
    moved = True
    while moved and len(trials) < MOST_TRIALS:
        best, moved = _best(trials), False
        for start in neighbours(best.state):
            _try(start, sample, 2 * SHORT, tol, "squarem", trials)
            if trials[-1].objective > best.objective + tol:
                moved = True
                break


def _try(start, sample, max_iter, tol, accelerate, trials):
    """Append a short run to the trials, unless it ends nowhere; a hopeless one ends early."""
    hopeless = partial(hopeless_run, _best(trials).objective, []) if trials else None
    try:
        run, _ = short_em(start, sample, max_iter, tol, accelerate, hopeless)
    except np.linalg.LinAlgError:
        return
    except FitInterrupted as stop:
        best = _best([*trials, stop.run])
        raise FitInterrupted(best._replace(converged=False)) from None
    if np.isfinite(run.objective):
        trials.append(run)


def hopeless_run(target, before, iteration, state, objective):
    """Whether a run that goes on gaining what it gained last will not reach the target soon."""
    before.append(objective)
    return len(before) > 1 and target - objective > SOON * (objective - before[-2])


def _best(runs):
    return max(runs, key=lambda run: run.objective)
