"""Gradient ascent by L-BFGS: the optimum, the history, callbacks and interruption."""

import numpy as np
import pytest
from scipy.optimize import rosen, rosen_der

from sklvm.inference.ascend import ascend
from sklvm.inference.history import FitInterrupted

H = np.array([[4.0, 1.0, 0.0], [1.0, 3.0, 0.5], [0.0, 0.5, 1.0]])
PEAK = np.array([1.0, -2.0, 3.0])
FREE = (-np.inf, np.inf)


def quadratic(x):
    return -0.5 * (x - PEAK) @ H @ (x - PEAK), -H @ (x - PEAK)


def climb(function=quadratic, start=(0.0, 0.0, 0.0), **settings):
    settings = {"bounds": FREE, "max_iter": 200, "tol": 1e-14, **settings}
    return ascend(function, np.array(start), tuple, **settings)


def test_it_finds_the_peak_of_a_quadratic():
    run = climb()
    np.testing.assert_allclose(run.state, PEAK, atol=1e-6)
    assert run.converged
    assert run.objective == pytest.approx(0.0, abs=1e-12)


def test_it_finds_the_best_point_within_bounds():
    """With x0 <= 0 and x2 >= 3.5 the peak is cut off: the rest solves a smaller quadratic."""
    run = climb(bounds=([-np.inf, -np.inf, 3.5], [0.0, np.inf, np.inf]), start=(-1.0, 0.0, 4.0))
    x = np.array(run.state)
    np.testing.assert_allclose(x[[0, 2]], [0.0, 3.5], atol=1e-9)
    _, gradient = quadratic(x)
    assert abs(gradient[1]) < 1e-5
    assert gradient[0] > 0 > gradient[2]  # both bounds hold it back
    assert run.converged


def test_the_history_is_the_objective_of_each_iteration_and_never_falls():
    run = climb(lambda x: (-rosen(x), -rosen_der(x)), (-1.2, 1.0, 0.5))
    assert len(run.history) == run.n_iter + 1
    assert run.history[0] == pytest.approx(-rosen([-1.2, 1.0, 0.5]))
    assert run.history[-1] == pytest.approx(-rosen(np.array(run.state)))
    assert np.diff(run.history).min() >= 0
    np.testing.assert_allclose(run.state, 1.0, atol=1e-5)
    assert run.converged


def test_max_iter():
    run = climb(lambda x: (-rosen(x), -rosen_der(x)), (-1.2, 1.0, 0.5), max_iter=3)
    assert run.n_iter == 3
    assert not run.converged


def test_the_start_is_not_written_to():
    start = np.zeros(3)
    ascend(quadratic, start, tuple, bounds=FREE, max_iter=50, tol=1e-12)
    np.testing.assert_array_equal(start, 0.0)


def test_at_the_peak_already():
    run = climb(start=PEAK)
    np.testing.assert_allclose(run.state, PEAK)
    assert run.converged


def blunt(x):
    """The quadratic with digits lost, and a slope in x3 that no bound lets it follow below 0."""
    value, gradient = quadratic(x[:3])
    gradient = gradient - 3e-8 * np.sign(np.sin(1e9 * x[:3]))
    return np.round(value / 1e-13) * 1e-13 - x[3:].sum(), np.append(gradient, -np.ones(len(x) - 3))


@pytest.mark.parametrize(("size", "bounds"), [(3, FREE), (4, ([-np.inf] * 3 + [0.0], np.inf))])
def test_a_line_search_that_rounding_ends_is_convergence(size, bounds):
    """At a bound too, where the gradient does not vanish: only its part that points inside must."""
    run = climb(blunt, np.zeros(size), bounds=bounds, tol=0.0)
    assert run.converged
    np.testing.assert_allclose(run.state[:3], PEAK, atol=1e-6)


def test_the_callback_sees_each_iteration_and_may_stop():
    seen = []

    def callback(iteration, state, objective):
        seen.append((iteration, objective))
        assert quadratic(np.array(state))[0] == pytest.approx(objective, rel=1e-12)
        return iteration == 2

    run = climb(callback=callback)
    assert [iteration for iteration, _ in seen] == [1, 2]
    np.testing.assert_array_equal([objective for _, objective in seen], run.history[1:])
    assert run.n_iter == 2
    assert not run.converged


def test_an_interruption_keeps_the_best_point():
    calls = 0

    def function(x):
        nonlocal calls
        calls += 1
        if calls == 9:
            raise KeyboardInterrupt
        return -rosen(x), -rosen_der(x)

    with pytest.raises(FitInterrupted) as stop:
        climb(function, (-1.2, 1.0, 0.5))
    run = stop.value.run
    assert not run.converged
    assert run.n_iter == len(run.history) - 1 > 0
    assert -rosen(np.array(run.state)) == pytest.approx(run.history[-1])
    assert run.history[-1] == run.history.max()


def test_an_interruption_before_the_first_value_leaves_nothing():
    def function(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stop:
        climb(function)
    assert not isinstance(stop.value, FitInterrupted)


def test_a_start_outside_the_bounds_is_moved_inside_first():
    run = climb(bounds=([-np.inf, -np.inf, 3.5], np.inf))
    inside = quadratic(np.array([0.0, 0.0, 3.5]))[0]
    assert run.history[0] == pytest.approx(inside)
    assert np.diff(run.history).min() >= 0
