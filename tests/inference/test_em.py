"""The EM driver: it climbs, or it says so; it stops where little is left; it can be interrupted."""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from sklvm.emissions.covariance import Penalty
from sklvm.emissions.family import STRUCTURES, CovarianceFamily
from sklvm.emissions.gaussian import Gaussians
from sklvm.emissions.low_rank import LowRank
from sklvm.emissions.simplex import Point
from sklvm.emissions.student_t import StudentTs
from sklvm.inference import em as em_module
from sklvm.inference.accelerate import WARM_UP
from sklvm.inference.em import EMState, em, em_from_best, evaluate
from sklvm.inference.history import FitInterrupted
from sklvm.mixture_state import MixtureState

KINDS = [*STRUCTURES, "low_rank", "student_t"]


@dataclass(frozen=True)
class Hill(EMState):
    """A toy state that climbs -|x|^2 / 2, each coordinate at its own rate."""

    x: tuple
    rate: tuple

    def e_step(self, X, weight):
        return 0.0, -0.5 * sum(value**2 for value in self.x) * weight.sum()

    def log_prior(self):
        return 0.0

    def m_step(self, stats):
        x = tuple(r * value for r, value in zip(self.rate, self.x, strict=True))
        return replace(self, x=x)

    def pack(self, other):
        return np.subtract(other.x, self.x)

    def unpack(self, vector):
        return replace(self, x=tuple(np.add(self.x, vector)))


@dataclass(frozen=True)
class Scripted(EMState):
    """A state whose objectives are written down beforehand; an exception is raised."""

    objectives: tuple
    position: int = 0

    def e_step(self, X, weight):
        value = self.objectives[self.position]
        if isinstance(value, BaseException):
            raise value
        return 0.0, value * weight.sum()

    def log_prior(self):
        return 0.0

    def m_step(self, stats):
        return replace(self, position=self.position + 1)


ONE_ROW = (np.zeros((1, 1)), np.ones(1))


def overlapping(seed, n=300, d=2, K=3, separation=1.0):
    rng = np.random.default_rng(seed)
    means = separation * rng.standard_normal((K, d))
    L = rng.standard_normal((K, d, d)) / np.sqrt(d) + 0.5 * np.eye(d)
    z = rng.integers(K, size=n)
    return means[z] + np.einsum("nij,nj->ni", L[z], rng.standard_normal((n, d)))


def start(X, K, kind="full", seed=0, prior="auto"):
    """A mixture from random responsibilities."""
    d, resp = X.shape[1], np.random.default_rng(seed).dirichlet(np.ones(K), len(X))
    mean, S = np.nanmean(X, axis=0), np.diag(np.nanvar(X, axis=0))
    if kind == "low_rank":
        W = np.random.default_rng(seed).standard_normal((K, d, 1))
        penalty = Penalty(0.0, np.full(d, 0.1))
        cov = LowRank(W, np.ones((K, d)), penalty, np.full(d, 1e-6))
    else:
        structure = STRUCTURES["full" if kind == "student_t" else kind]
        cov = CovarianceFamily(structure, prior, 0.0, mean, S, float(len(X))).broad(K)
    means = np.tile(mean, (K, 1))
    emission = Gaussians(means, cov)
    if kind == "student_t":
        emission = StudentTs(means, cov, np.full(K, 10.0))
    return MixtureState(Point(np.full(K, 1 / K)), emission).start(X, resp)


def rows(X, weight=None):
    return X, np.ones(len(X)) if weight is None else weight


# --- climbing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("accelerate", [None, "squarem"])
@pytest.mark.parametrize("holes", [0.0, 0.3])
@pytest.mark.parametrize("kind", KINDS)
def test_the_objective_never_falls(kind, holes, accelerate):
    X = overlapping(0, n=150)
    X[np.random.default_rng(1).uniform(size=X.shape) < holes] = np.nan
    X = X[~np.isnan(X).all(axis=1)]
    first = start(X, 3, kind)
    run = em(first, rows(X), max_iter=100, tol=1e-7, accelerate=accelerate, strict=True)
    slack = 1e-9 * (1 + np.abs(run.history).max())
    assert np.diff(run.history).min() >= -slack
    assert run.history[-1] > run.history[0] + 1e-3
    assert len(run.history) == run.n_iter + 1
    assert run.objective == run.history[-1]
    for state, value in [(first, run.history[0]), (run.state, run.history[-1])]:
        expected = (state.log_prob(X).sum() + state.log_prior()) / len(X)
        assert value == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("fall", [1e-6, np.nan])
def test_a_fall_raises_when_strict_and_warns_otherwise(fall):
    state = Scripted((-5.0, -4.0, -3.0, -3.0 - fall, -1.0))
    with pytest.raises(FloatingPointError, match="iteration 3: the objective fell"):
        em(state, ONE_ROW, max_iter=10, tol=1e-12, strict=True)
    with pytest.warns(ConvergenceWarning, match="iteration 3: the objective fell"):
        run = em(state, ONE_ROW, max_iter=10, tol=1e-12)
    assert run.state.position == 2  # the best one
    np.testing.assert_array_equal(run.history, [-5.0, -4.0, -3.0])
    assert not run.converged
    assert run.n_iter == 2


def test_rounding_is_no_fall():
    run = em(Scripted((-5.0, -4.0, -4.0 - 1e-10, -4.0)), ONE_ROW, max_iter=3, tol=0.0, strict=True)
    assert len(run.history) >= 3


def test_a_component_that_collapses_stops_the_climb_with_a_word_on_what_to_do():
    state = Scripted((-5.0, -4.0, np.linalg.LinAlgError("singular"), -1.0))
    with pytest.warns(ConvergenceWarning, match=r"collapsed \(singular\).*covariance_prior"):
        run = em(state, ONE_ROW, max_iter=10, tol=1e-12)
    np.testing.assert_array_equal(run.history, [-5.0, -4.0])
    assert run.state.position == 1


@pytest.mark.parametrize("accelerate", [None, "squarem"])
@pytest.mark.parametrize("max_iter", [1, 2, 17, 30])
def test_max_iter_is_the_number_of_passes(max_iter, accelerate):
    state = Hill((1.0, 1.0), (0.999, 0.9))
    run = em(state, ONE_ROW, max_iter=max_iter, tol=0.0, accelerate=accelerate)
    assert run.n_iter == max_iter
    assert len(run.history) == max_iter + 1
    assert not run.converged


def test_the_objective_is_per_unit_weight():
    X = overlapping(1)
    state, weight = start(X, 2), np.random.default_rng(0).uniform(0.5, 3, 300)
    point = evaluate(state, rows(X, weight))
    expected = (weight @ state.log_prob(X) + state.log_prior()) / weight.sum()
    assert point.objective == pytest.approx(expected, rel=1e-12)


# --- stopping ---------------------------------------------------------------------------------


@pytest.mark.parametrize("tol", [1e-3, 1e-5, 1e-7])
@pytest.mark.parametrize("rate", [0.1, 0.9, 0.999])
def test_aitken_stops_where_less_than_tol_is_left(rate, tol):
    run = em(Hill((1.0,), (rate,)), ONE_ROW, max_iter=100_000, tol=tol)
    assert run.converged
    assert -run.objective < 1.01 * tol
    if tol < 1e-3 * (1 - rate):  # and not long after
        assert run.n_iter < 3 + np.log(1e-2 * tol) / np.log(rate**2)


@pytest.mark.parametrize("accelerate", [None, "squarem"])
@pytest.mark.parametrize("seed", range(6))
def test_what_is_left_on_mixtures_is_less_than_tol(seed, accelerate):
    X = overlapping(seed, separation=1.0)
    first = start(X, 3, seed=seed)
    short = em(first, rows(X), max_iter=5000, tol=1e-6, accelerate=accelerate)
    long = em(short.state, rows(X), max_iter=50_000, tol=1e-11)
    assert short.converged
    assert long.objective - short.objective < 3e-6  # an extrapolation, not a bound


def test_a_plain_stop_would_come_too_early():
    """The last gain is far below what is left where EM is slow: only extrapolation sees it."""
    run = em(Hill((1.0,), (0.999,)), ONE_ROW, max_iter=100_000, tol=1e-5)
    assert np.diff(run.history)[-1] < 1e-7
    assert -run.objective < 1.01e-5


def test_a_fixed_point_has_converged():
    run = em(Hill((0.0,), (0.5,)), ONE_ROW, max_iter=100, tol=1e-6)
    assert run.converged
    assert run.n_iter <= 3


def test_a_step_without_gain_before_a_large_one_is_not_the_end():
    run = em(Scripted((-1.0, -1.0, -0.5, -0.4, -0.3)), ONE_ROW, max_iter=4, tol=1e-6)
    assert run.n_iter == 4


def test_a_slow_beginning_is_not_the_end():
    """Near a saddle the gains grow: they are small, but not the last ones."""
    gains = 1e-9 * 1.5 ** np.arange(40)
    run = em(Scripted(tuple(-1.0 + np.cumsum(gains))), ONE_ROW, max_iter=39, tol=1e-6)
    assert run.n_iter == 39


# --- callbacks --------------------------------------------------------------------------------


@pytest.mark.parametrize("accelerate", [None, "squarem"])
def test_the_callback_sees_every_iteration_and_its_state(accelerate):
    X, seen = overlapping(2), []
    run = em(
        start(X, 3),
        rows(X),
        max_iter=40,
        tol=0.0,
        accelerate=accelerate,
        callback=lambda *arguments: seen.append(arguments),
    )
    assert seen[-1][0] == run.n_iter
    assert [iteration for iteration, _, _ in seen] == list(range(1, run.n_iter + 1))
    np.testing.assert_array_equal([objective for _, _, objective in seen], run.history[1:])
    for _, state, objective in seen[::7]:
        assert evaluate(state, rows(X)).objective == pytest.approx(objective, rel=1e-12)
    assert seen[-1][1] is run.state


def test_the_callback_may_stop_the_climb():
    run = em(
        Hill((1.0,), (0.99,)),
        ONE_ROW,
        max_iter=100,
        tol=0.0,
        callback=lambda iteration, state, objective: iteration == 7,
    )
    assert run.n_iter == 7
    assert not run.converged


# --- interruption -----------------------------------------------------------------------------


def test_an_interruption_keeps_the_best_state():
    with pytest.raises(FitInterrupted) as stop:
        em(Scripted((-5.0, -4.0, -3.5, KeyboardInterrupt())), ONE_ROW, max_iter=10, tol=0.0)
    run = stop.value.run
    assert isinstance(stop.value, KeyboardInterrupt)
    assert run.state.position == 2
    np.testing.assert_array_equal(run.history, [-5.0, -4.0, -3.5])
    assert not run.converged


def test_an_interruption_before_the_first_state_leaves_nothing():
    with pytest.raises(KeyboardInterrupt) as stop:
        em(Scripted((KeyboardInterrupt(),)), ONE_ROW, max_iter=10, tol=0.0)
    assert not isinstance(stop.value, FitInterrupted)


def test_an_interruption_in_a_callback_or_a_leap(monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    state = Hill((1.0,), (0.99,))
    with pytest.raises(FitInterrupted) as stop:
        em(state, ONE_ROW, max_iter=10, tol=0.0, callback=interrupt)
    assert stop.value.run.n_iter == 1
    monkeypatch.setitem(em_module.ACCELERATORS, "rude", interrupt)
    with pytest.raises(FitInterrupted) as stop:
        em(state, ONE_ROW, max_iter=100, tol=0.0, accelerate="rude")
    run = stop.value.run
    assert run.n_iter == len(run.history) - 1 > 0
    assert evaluate(run.state, ONE_ROW).objective == run.history[-1]


# --- acceleration -----------------------------------------------------------------------------


def test_squarem_takes_far_fewer_passes_to_the_same_optimum():
    X = overlapping(1, n=600, K=2, separation=0.7)
    first = em(start(X, 2, seed=1), rows(X), max_iter=30, tol=0.0).state
    plain = em(first, rows(X), max_iter=20_000, tol=1e-9)
    fast = em(first, rows(X), max_iter=20_000, tol=1e-9, accelerate="squarem")
    assert plain.converged
    assert fast.converged
    assert fast.objective == pytest.approx(plain.objective, abs=1e-6)
    assert fast.n_iter < plain.n_iter / 2
    np.testing.assert_allclose(
        np.sort(fast.state.weights.mean), np.sort(plain.state.weights.mean), atol=0.02
    )


def test_squarem_solves_a_linear_iteration():
    plain = em(Hill((1.0,), (0.999,)), ONE_ROW, max_iter=100_000, tol=1e-9)
    fast = em(Hill((1.0,), (0.999,)), ONE_ROW, max_iter=100_000, tol=1e-9, accelerate="squarem")
    assert fast.converged
    assert -fast.objective < 1e-8
    assert fast.n_iter < 30 < plain.n_iter


@pytest.mark.parametrize("seed", range(20))
def test_squarem_never_ends_lower_than_plain_em_from_the_same_start(seed):
    rng = np.random.default_rng(seed)
    X = overlapping(seed, n=200, d=int(rng.integers(1, 4)), separation=rng.uniform(0.8, 2.5))
    kind = KINDS[seed % len(KINDS)]
    first = start(X, 3, kind, seed=seed)
    plain = em(first, rows(X), max_iter=2000, tol=1e-6)
    fast = em(first, rows(X), max_iter=2000, tol=1e-6, accelerate="squarem", strict=True)
    assert fast.objective > plain.objective - 1e-3
    assert np.diff(fast.history).min() >= -1e-9 * (1 + abs(fast.objective))


@pytest.mark.parametrize("leap", ["down", "singular", "nan", "nowhere", "refused"])
def test_a_bad_proposal_costs_two_passes_and_nothing_else(leap, monkeypatch):
    def bad(x0, x1, x2, longest):
        if leap == "nowhere":
            return None, 1.0
        if leap == "singular":
            return Scripted((np.linalg.LinAlgError("singular"),)), 2.0
        if leap == "refused":
            raise np.linalg.LinAlgError("singular")
        return replace(x2, x=(np.nan if leap == "nan" else 10.0,)), 2.0

    monkeypatch.setitem(em_module.ACCELERATORS, "bad", bad)
    state = Hill((1.0,), (0.9,))
    plain = em(state, ONE_ROW, max_iter=1000, tol=1e-8)
    run = em(state, ONE_ROW, max_iter=1000, tol=1e-8, accelerate="bad", strict=True)
    assert run.converged
    assert np.diff(run.history).min() >= 0
    assert -run.objective < 1.01e-8
    assert np.isfinite(run.history).all()
    assert evaluate(run.state, ONE_ROW).objective == run.history[-1]
    assert run.n_iter <= 2 * plain.n_iter
    if leap == "nowhere":
        np.testing.assert_array_equal(run.history, plain.history)


@pytest.mark.parametrize("end", [0.9, 1.01, 2.0], ids=["higher", "higher after a step", "lower"])
def test_each_leap_rests_on_fresh_points(end, monkeypatch):
    """Two plain steps from where the last leap ended, taken or not; one more is foreseen."""
    leaps = []

    def leap(x0, x1, x2, longest):
        leaps.append((x0, x1, x2))
        return replace(x1, x=(x1.x[0] * end,)), 2.0

    monkeypatch.setitem(em_module.ACCELERATORS, "watched", leap)
    run = em(Hill((1.0,), (0.98,)), ONE_ROW, max_iter=50, tol=0.0, accelerate="watched")
    assert np.diff(run.history).min() >= 0
    assert len(leaps) > 5
    for x0, x1, x2 in leaps:
        assert x1 == x0.m_step(None)
        assert x2 == x1.m_step(None)
    for before, after in pairwise(leaps):
        landed = before[1].x[0] * (end if end < 2 else 1.0)
        np.testing.assert_allclose(after[0].x[0], landed * 0.98, rtol=1e-12)


def test_a_leap_that_ends_lower_is_kept_where_the_next_step_ends_higher(monkeypatch):
    def across(x0, x1, x2, longest):  # the first coordinate, slow, is solved; the second is upset
        return replace(x1, x=(0.0, 2 * x1.x[0])), 2.0

    monkeypatch.setitem(em_module.ACCELERATORS, "across", across)
    state = Hill((1.0, 0.0), (0.999, 0.1))
    run = em(state, ONE_ROW, max_iter=WARM_UP + 2, tol=0.0, accelerate="across")
    assert run.state.x[0] == 0.0
    assert run.history[-2] == run.history[-3]  # no gain is written down before it is sure
    assert run.history[-1] > run.history[-2]
    stopped = em(state, ONE_ROW, max_iter=WARM_UP + 1, tol=0.0, accelerate="across")
    assert stopped.state.x[0] > 0.9  # the end of the passes finds it where the leap began
    assert stopped.objective == evaluate(stopped.state, ONE_ROW).objective


def test_leaps_grow_where_the_longest_is_reached_and_shrink_after_failures(monkeypatch):
    asked, fails = [], [False, False, True, True, True, True, False]

    def leap(x0, x1, x2, longest):
        asked.append(longest)
        return replace(x1, x=(x1.x[0] * (5.0 if fails[len(asked) - 1] else 0.9),)), longest

    monkeypatch.setitem(em_module.ACCELERATORS, "watched", leap)
    em(
        Hill((1.0,), (0.99,)),
        ONE_ROW,
        max_iter=100,
        tol=0.0,
        accelerate="watched",
        callback=(lambda *step: len(asked) == 7),
    )
    assert asked == [4.0, 16.0, 64.0, 16.0, 4.0, 2.0, 2.0]


# --- rows -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["full", "diag", "low_rank", "student_t"])
def test_two_threads_find_what_one_finds(kind):
    X = overlapping(4, n=5000)
    X[::5, 0] = np.nan
    first = start(X, 2, kind)
    one = em(first, rows(X), max_iter=5, tol=0.0)
    two = em(first, rows(X), max_iter=5, tol=0.0, n_jobs=2)
    np.testing.assert_allclose(two.history, one.history, rtol=1e-12)
    np.testing.assert_allclose(two.state.emission.means, one.state.emission.means, rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_repeated_rows(kind):
    X = overlapping(5, n=100)
    X[::4, 1] = np.nan
    weight = np.random.default_rng(0).integers(0, 4, 100)
    first = start(X, 2, kind)
    weighted = em(first, rows(X, weight.astype(float)), max_iter=20, tol=0.0)
    repeated = em(first, rows(np.repeat(X, weight, axis=0)), max_iter=20, tol=0.0)
    np.testing.assert_allclose(weighted.history, repeated.history, rtol=1e-10)
    np.testing.assert_allclose(
        weighted.state.emission.means, repeated.state.emission.means, rtol=1e-7, atol=1e-9
    )


def test_known_labels_hold():
    X = overlapping(6, n=100)
    labels = np.full(100, -1)
    labels[:30] = np.arange(30) % 2
    run = em(start(X, 2), (X, np.ones(100), labels), max_iter=50, tol=0.0, strict=True)
    stats = evaluate(run.state, (X, np.ones(100), labels)).stats
    free = evaluate(run.state, (X[30:], np.ones(70))).stats
    np.testing.assert_allclose(stats.counts - free.counts, [15, 15], rtol=1e-10)


# --- many starts ------------------------------------------------------------------------------


def test_the_best_start_goes_on():
    X = overlapping(7, separation=3.0)
    starts = [start(X, 3, seed=s) for s in range(5)]
    short = [em(s, rows(X), max_iter=10, tol=1e-6).objective for s in starts]
    run = em_from_best(starts, rows(X), rows(X), max_iter=500, tol=1e-6)
    alone = em(
        em(starts[int(np.argmax(short))], rows(X), max_iter=10, tol=1e-6).state,
        rows(X),
        max_iter=500,
        tol=1e-6,
    )
    assert run.objective == alone.objective
    assert run.history[0] == pytest.approx(max(short), abs=1e-10)


def test_a_start_without_a_finite_objective_is_left_out():
    good = Scripted((-5.0, -4.5, -4.25) + (-4.2,) * 20)
    bad = Scripted((np.linalg.LinAlgError("singular"),))
    run = em_from_best([bad, good, bad], ONE_ROW, ONE_ROW, max_iter=2, tol=1e-6)
    assert run.state.objectives == good.objectives


def test_no_usable_start_is_one_clear_error():
    bad = Scripted((np.linalg.LinAlgError("singular"),))
    with pytest.raises(ValueError, match="every start has a singular covariance"):
        em_from_best([bad, bad], ONE_ROW, ONE_ROW, max_iter=2, tol=1e-6)


def test_a_short_run_that_collapses_is_no_news_when_another_start_is_fine():
    """The user hears of the run that is kept, not of the trials."""
    good = Scripted((-3.0, -2.5, -2.25) + (-2.2,) * 20)
    bad = Scripted((-9.0, np.linalg.LinAlgError("singular")))
    run = em_from_best([bad, good], ONE_ROW, ONE_ROW, max_iter=2, tol=1e-6)
    assert run.state.objectives == good.objectives


def test_the_best_moves_to_the_first_neighbour_that_ends_higher_until_none_does():
    def state(level):
        return Scripted((level,) * 100)

    asked = []

    def neighbours(best):
        asked.append(best.objectives[0])
        yield from (state(best.objectives[0] + step) for step in (-0.5, 5e-5, 1.0, 9.0))

    def bounded(best):
        return neighbours(best) if best.objectives[0] < -3 else iter([state(-99.0)])

    settings = {"max_iter": 2, "tol": 1e-6}
    run = em_from_best([state(-5.5)], ONE_ROW, ONE_ROW, neighbours=bounded, **settings)
    assert asked == [-5.5, -4.5, -3.5]
    assert run.objective == -2.5


def test_an_interruption_among_neighbours_keeps_the_best_of_all():
    def rude(best):
        yield Scripted((-2.0,) * 100)
        raise KeyboardInterrupt

    def ruder(best):
        yield Scripted((-1.0, KeyboardInterrupt()))

    start, settings = Scripted((-5.0,) * 100), {"max_iter": 2, "tol": 1e-6}
    for neighbours, kept in ((rude, -2.0), (ruder, -1.0)):
        with pytest.raises(FitInterrupted) as stop:
            em_from_best([start], ONE_ROW, ONE_ROW, neighbours=neighbours, **settings)
        assert stop.value.run.objective == kept
        assert not stop.value.run.converged


@pytest.mark.parametrize("where", ["short run", "first pass of a short run", "the long run"])
def test_an_interruption_among_the_starts_keeps_the_best_of_all(where):
    good, rude = Scripted((-3.0, -2.5, -2.4)), KeyboardInterrupt()  # it converges: tol is large
    later = {
        "short run": Scripted((-9.0, -8.0, rude)),
        "first pass of a short run": Scripted((rude,)),
        "the long run": Scripted((-9.0, -8.5, -8.0)),
    }[where]
    settings = {"short_iter": 2, "max_iter": 2, "tol": 0.2}
    stop_rows = (np.zeros((2, 1)), np.ones(2)) if where == "the long run" else ONE_ROW

    @dataclass(frozen=True)
    class OnlyOneRow(Scripted):
        def e_step(self, X, weight):
            if len(X) > 1:
                raise KeyboardInterrupt
            return super().e_step(X, weight)

    first = OnlyOneRow(good.objectives)
    with pytest.raises(FitInterrupted) as stop:
        em_from_best([first, later], ONE_ROW, stop_rows, **settings)
    assert stop.value.run.state.objectives == good.objectives
    assert stop.value.run.objective == -2.4
    assert not stop.value.run.converged
