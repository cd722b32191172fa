"""The trainer: what an epoch visits, what it keeps, when it stops; and rows without a history."""

import warnings

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from sklvm.inference.descent import LARGEST_GRADIENT, Descent
from sklvm.inference.history import FitInterrupted
from sklvm.inference.sgd import TrainingRows, round_significant, train

SETTINGS = {
    "max_iter": 20,
    "batch_size": 4,
    "learning_rate": 0.05,
    "tol": 0.0,
    "n_iter_no_change": 1000,
}


class Centre(nn.Module):
    """0.5 |x - mu|^2: the optimum is the weighted mean, the gradient is mu - x."""

    def __init__(self, d=2, start=0.0):
        super().__init__()
        self.mu = nn.Parameter(torch.full((1, d), start, dtype=torch.float64))
        self.seen = []  # the rows of every call, with whether it was a step

    def loss(self, x, generator, epoch):
        self.seen.append((torch.is_grad_enabled(), x[:, 0].tolist()))
        return 0.5 * ((x - self.mu) ** 2).sum(-1), (x[:, 0], epoch + 0 * x[:, 0])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def run(X, weight, module=None, **settings):
    module = Centre(np.shape(X)[1]) if module is None else module
    X = torch.tensor(np.asarray(X, float))
    return train(
        module,
        module.loss,
        X,
        np.asarray(weight, float),
        **{"generator": seeded(), **SETTINGS, **settings},
    )


def column(*values):
    return np.array(values, float)[:, None]


# --- an epoch -----------------------------------------------------------------------------------


def steps_of(module):
    return [rows for is_step, rows in module.seen if is_step]


def test_an_epoch_visits_each_row_as_often_as_it_counts():
    module = Centre(1)
    run(column(0, 1, 2, 3), [1, 3, 2, 5], module, max_iter=2, batch_size=4)
    batches = steps_of(module)
    assert sorted(len(batch) for batch in batches) == [3, 3, 4, 4, 4, 4]  # 11 rows, twice
    for epoch in (batches[:3], batches[3:]):
        assert_array_equal(np.bincount(np.concatenate(epoch).astype(int)), [1, 3, 2, 5])
    assert np.concatenate(batches[:3]).tolist() != np.concatenate(batches[3:]).tolist()


def test_fractional_weights_are_shares_to_within_one_visit():
    module, weight = Centre(1), np.array([0.3, 4.4, 2.5, 0.1, 1.9])
    run(column(*range(5)), weight, module, max_iter=1, batch_size=100)
    visits = np.bincount(np.array(steps_of(module)[0], int), minlength=5)
    assert visits.sum() == np.ceil(weight.sum())
    assert (np.abs(visits - weight * visits.sum() / weight.sum()) <= 1).all()


def test_a_sum_of_weights_that_rounding_lifted_is_no_extra_row():
    module, weight = Centre(1), np.full(30, 0.1)
    assert weight.sum() > 3
    run(column(*range(30)), weight, module, max_iter=1, batch_size=100)
    assert len(steps_of(module)[0]) == 3


def test_history_is_the_mean_of_minus_the_loss_before_each_step():
    X, weight = column(-1, 0, 4), np.array([2.0, 1.0, 1.0])
    kept = []
    module = Centre(1)
    result = run(X, weight, module, max_iter=3, batch_size=100, callback=lambda *a: kept.append(a))
    before = [0.0, 0.0, *(float(state["mu"][0, 0]) for _, state, _ in kept)]
    expected = [-(weight @ (0.5 * (X[:, 0] - mu) ** 2)) / 4 for mu in before[:4]]
    assert_allclose(result.history, expected, rtol=1e-12)
    assert [i for i, _, _ in kept] == [1, 2, 3] and result.n_iter == 3
    assert_allclose([objective for _, _, objective in kept], result.history[1:])


def test_it_finds_the_weighted_mean():
    X, weight = np.array([[0.0, 1.0], [2.0, -1.0], [1.0, 5.0]]), np.array([1.0, 6.0, 3.0])
    result = run(X, weight, max_iter=800, batch_size=100, learning_rate=0.02)
    assert_allclose(result.state["mu"][0], weight @ X / 10, atol=1e-6)


def test_a_long_gradient_is_shortened():
    module = Centre(1, start=1e6)
    descent = Descent(module, None, 1e-3, 0.0, 0.0)
    climb = descent.differentiated(module.loss)
    climb(torch.zeros(3, 1, dtype=torch.float64), None, 1)
    assert descent.gradient.norm() > 1e5
    descent.step()
    assert float(descent.gradient.norm()) == pytest.approx(LARGEST_GRADIENT, rel=1e-5)


class Layers(nn.Module):
    """A matrix that decays and a bias that does not, in single or double precision."""

    def __init__(self, dtype):
        super().__init__()
        rng = np.random.default_rng(0)
        self.weight = nn.Parameter(torch.tensor(rng.standard_normal((3, 2)), dtype=dtype))
        self.bias = nn.Parameter(torch.tensor(rng.standard_normal(3), dtype=dtype))

    def loss(self, x, generator=None, epoch=0):
        return ((x @ self.weight.T + self.bias) ** 2).sum(-1), ()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_steps_are_those_of_torch_with_clipping(dtype):
    x = torch.tensor(np.random.default_rng(1).standard_normal((6, 2)), dtype=dtype)
    ours, theirs = Layers(dtype), Layers(dtype)
    descent = Descent(ours, None, 0.05, 0.1, 0.0)
    climb = descent.differentiated(ours.loss)
    groups = [{"params": [theirs.weight], "weight_decay": 0.1}, {"params": [theirs.bias]}]
    optimizer = torch.optim.AdamW(groups, lr=0.05, weight_decay=0.0)
    for _ in range(20):
        climb(x, None, 1)
        descent.step()
        optimizer.zero_grad()
        theirs.loss(x)[0].mean().backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), LARGEST_GRADIENT)
        optimizer.step()
    for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert_allclose(own.detach(), other.detach(), rtol=1e-5 if dtype is torch.float32 else 1e-9)


def test_an_average_weighs_the_steps_by_their_age():
    """a_t = sum_s decay^(t-s) x_s / sum_s decay^(t-s): without a bias towards anything."""
    module, path = Centre(1, start=2.0), []
    descent = Descent(module, None, 0.1, 0.0, 0.9)
    climb = descent.differentiated(module.loss)
    path.append(module.mu.item())
    for _ in range(7):
        climb(torch.zeros(3, 1, dtype=torch.float64), None, 1)
        descent.step()
        path.append(module.mu.item())
    share = 0.9 ** np.arange(7, -1, -1)
    with descent.averaged():
        assert module.mu.item() == pytest.approx(share @ path / share.sum())
    assert module.mu.item() == path[-1]


def test_the_average_is_what_a_run_judges_and_keeps():
    X, seen = column(-1, 1), []
    module = Centre(1, start=3.0)

    def judge():
        seen.append(module.mu.item())
        return -abs(seen[-1])

    result = run(X, [1, 1], module, judge=judge, judge_every=1, averaging=0.9, max_iter=30)
    plain = run(X, [1, 1], Centre(1, start=3.0), max_iter=30)
    assert result.state["mu"].item() == min(seen, key=abs) == module.mu.item()
    assert abs(seen[10]) > abs(plain.state["mu"].item())  # an average lags behind
    assert_allclose(result.history, plain.history)  # the path itself is the same


def test_what_a_loss_reports_is_averaged_beside_it():
    X, weight = column(-1, 0, 4), np.array([2.0, 1.0, 1.0])
    result = run(X, weight, max_iter=3)
    assert_allclose(result.report, [[0.5, 0], [0.5, 1], [0.5, 2], [0.5, 3]])


# --- randomness ---------------------------------------------------------------------------------


class Noisy(Centre):
    def loss(self, x, generator, epoch):
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        return 0.5 * ((x + noise - self.mu) ** 2).sum(-1), ()


def test_a_seed_repeats_to_the_bit_and_nothing_global_moves():
    X = np.random.default_rng(0).standard_normal((23, 2))
    torch.manual_seed(5)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    first, again = (run(X, np.ones(23), Noisy()) for _ in range(2))
    other = run(X, np.ones(23), Noisy(), generator=seeded(1))
    assert_array_equal(first.history, again.history)
    assert_array_equal(first.state["mu"], again.state["mu"])
    assert not np.array_equal(first.state["mu"], other.state["mu"])
    assert torch.equal(before, torch.get_rng_state()) and threads == torch.get_num_threads()


# --- what is kept, and when it stops ------------------------------------------------------------


def judged(values, **settings):
    """A run whose judge says these values in turn; also the parameter at each judgement."""
    module, seen = Centre(1, start=9.0), []
    values = iter(values)

    def judge():
        seen.append(module.mu.item())
        return next(values)

    result = run(column(0, 1), [1, 1], module, judge=judge, **settings)
    return result, seen, module


def test_the_best_judged_parameters_are_kept():
    result, seen, module = judged([0, 1, 5, 2, 3], judge_every=5)
    assert len(seen) == 5 and len(set(seen)) == 5  # epochs 0, 5, 10, 15, 20
    assert result.state["mu"].item() == module.mu.item() == seen[2]


def test_the_start_is_a_candidate():
    result, seen, _ = judged([7, 1, 5, 2, 3], judge_every=5)
    assert result.state["mu"].item() == seen[0] == 9.0


def test_the_last_epoch_is_judged_whatever_the_interval():
    result, seen, _ = judged([0, 1], judge_every=5, max_iter=3)
    assert len(seen) == 2 and result.state["mu"].item() == seen[1] != 9.0


def test_patience_counts_epochs_without_a_gain_of_tol():
    result, seen, _ = judged(
        [0.0, 1.0, 1.05, 1.09, 1.2, 0.0, 0.0, 0.0, 0.0],
        judge_every=1,
        tol=0.1,
        n_iter_no_change=3,
    )
    assert result.converged and result.n_iter == 7  # the bar is 1.0 at epoch 1, 1.2 at epoch 4
    assert result.state["mu"].item() == seen[4]
    result, seen, _ = judged(
        [0.0, 1.0, 1.05, 1.09, 0.0, 0.0, 0.0], judge_every=1, tol=0.1, n_iter_no_change=3
    )
    assert result.n_iter == 4  # gains below tol are kept but buy no time
    assert result.state["mu"].item() == seen[3]
    result, _, _ = judged(range(100), judge_every=1, tol=0.1, n_iter_no_change=3)
    assert not result.converged and result.n_iter == SETTINGS["max_iter"]


def test_without_a_judge_the_last_parameters_are_kept():
    kept = []
    result = run(column(0, 1), [1, 1], callback=lambda i, state, _: kept.append(state["mu"]))
    assert_array_equal(result.state["mu"], kept[-1])
    result = run(column(0, 1), [1, 1], max_iter=5000, tol=1e-3, n_iter_no_change=5)
    assert result.converged and result.n_iter < 500


def test_a_callback_stops_the_climb():
    result = run(column(0, 1), [1, 1], callback=lambda i, *_: i == 4)
    assert result.n_iter == 4 and not result.converged


def test_a_fit_that_diverges_warns_and_keeps_what_was_in_order():
    module = Centre(1)

    def loss(x, generator, epoch):
        values, _ = module.loss(x, generator, epoch)
        return values + torch.log(1.0 - module.mu.sum()), ()  # NaN beyond 1

    with pytest.warns(ConvergenceWarning, match="diverged after [1-9].* learning rate"):
        result = train(
            module,
            loss,
            torch.tensor(column(4, 5)),
            np.ones(2),
            generator=seeded(),
            **{**SETTINGS, "learning_rate": 0.2, "max_iter": 50},
        )
    assert np.isfinite(result.history).all() and not result.converged and result.n_iter < 50
    assert np.isfinite(result.state["mu"]).all() and np.isfinite(module.mu.item())


def test_a_start_whose_loss_is_infinite_is_refused():
    module = Centre(1, start=np.inf)
    with pytest.raises(FloatingPointError, match="starting parameters"):
        run(column(0, 1), [1, 1], module)


@pytest.mark.filterwarnings("ignore:training diverged")
def test_a_judge_that_says_nan_ends_the_run():
    result, seen, _ = judged([0, 1, float("nan")], judge_every=1)
    assert result.n_iter == 2 and not result.converged and result.state["mu"].item() == seen[1]


def interrupted_at(epoch):
    def callback(i, *_):
        if i == epoch:
            raise KeyboardInterrupt

    return callback


def test_ctrl_c_hands_over_the_best_so_far():
    module = Centre(1)
    with pytest.raises(FitInterrupted) as stop:
        run(column(0, 1), [1, 1], module, callback=interrupted_at(6))
    assert stop.value.run.n_iter == 6 and not stop.value.run.converged
    assert stop.value.run.state["mu"].item() == module.mu.item() != 0.0


def test_ctrl_c_before_anything_is_known_hands_over_nothing():
    def loss(x, generator, epoch):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stop:
        train(
            Centre(1), loss, torch.tensor(column(0, 1)), np.ones(2), generator=seeded(), **SETTINGS
        )
    assert not isinstance(stop.value, FitInterrupted)


class Affine(nn.Module):
    """A loss without gradient, so that only decay moves a parameter."""

    def __init__(self):
        super().__init__()
        self.matrix = nn.Parameter(torch.ones(2, 2))
        self.other = nn.Parameter(torch.ones(2, 2))
        self.bias = nn.Parameter(torch.ones(2))

    def loss(self, x, generator, epoch):
        flat = 0.0 * (self.matrix.sum() + self.other.sum() + self.bias.sum())
        return flat + x[:, 0].float(), ()


@pytest.mark.parametrize("chosen", [None, ["matrix"], []])
def test_decay_shrinks_matrices_or_what_is_named(chosen):
    module = Affine()
    decayed = None if chosen is None else [getattr(module, name) for name in chosen]
    state = run(column(0, 1), [1, 1], module, weight_decay=0.1, decayed=decayed, max_iter=5).state
    shrunk = {name for name, value in state.items() if (value < 1).all()}
    assert shrunk == ({"matrix", "other"} if chosen is None else set(chosen))
    assert all((state[name] == 1).all() for name in state.keys() - shrunk)


# --- rows ---------------------------------------------------------------------------------------


def standard(X, weight):
    mean = np.average(X, axis=0, weights=weight)
    return mean, np.sqrt(np.average((X - mean) ** 2, axis=0, weights=weight))


def test_rows_do_not_know_their_order_their_copies_or_their_units():
    rng = np.random.default_rng(0)
    X, weight = rng.standard_normal((40, 3)), rng.integers(1, 5, 40)
    rows = TrainingRows.of(X, weight.astype(float), standard)
    assert len(rows.X) == 40 and rows.weight.sum() == weight.sum()
    shuffle = rng.permutation(weight.sum())
    repeated = np.repeat(X, weight, axis=0)[shuffle]
    other = TrainingRows.of(
        repeated * [3.7, 1e-5, 254.0] + [8.1, 0, -3], np.ones(len(repeated)), standard
    )
    assert_array_equal(rows.X, other.X)
    assert_array_equal(rows.weight, other.weight)
    assert_allclose(rows.location * [3.7, 1e-5, 254.0] + [8.1, 0, -3], other.location, rtol=1e-12)


def test_a_split_holds_out_whole_rows():
    rng = np.random.default_rng(1)
    rows = TrainingRows.of(rng.standard_normal((40, 2)), rng.uniform(1, 3, 40), standard)
    train_rows, held_out = rows.split(0.25, np.random.default_rng(0))
    assert len(train_rows.X) == 30 and len(held_out.X) == 10
    both = np.concatenate([train_rows.X, held_out.X])
    assert_array_equal(both[np.lexsort(both.T[::-1])], rows.X)
    again = rows.split(0.25, np.random.default_rng(0))[1]
    assert_array_equal(again.X, held_out.X)
    assert not np.array_equal(rows.split(0.25, np.random.default_rng(1))[1].X, held_out.X)
    few = rows.take(np.arange(19))
    assert len(few.split(0.25, rng)[1].X) == 0
    assert len(rows.split(0.0, rng)[1].X) == 0


def test_log_jacobian_counts_what_is_seen():
    X = np.array([[0.0, np.nan], [1.0, 3.0], [np.nan, 7.0]])
    rows = TrainingRows.of(
        X, np.array([2.0, 1.0, 3.0]), lambda X, w: (np.zeros(2), np.exp([1.0, 10.0]))
    )
    assert rows.log_jacobian() == pytest.approx((2 * 1 + 1 * 11 + 3 * 10) / 6)


def test_rounding_gives_numbers_that_float32_holds():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.standard_normal(1000), rng.standard_normal(100) * 1e6, [0.0, np.nan]])
    rounded = round_significant(x)
    assert_array_equal(rounded, rounded.astype(np.float32).astype(np.float64))
    assert_array_equal(rounded, round_significant(rounded))
    assert (np.abs(rounded - x)[:-1] <= 2.0**-25 * np.maximum(1, 2 * np.abs(x[:-1]))).all()
    nudged = x * (1 + 4e-16)
    assert_array_equal(rounded, round_significant(nudged))


def test_no_warning_is_raised_by_a_plain_run():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(column(0, 1), [1, 1])
