"""Hidden Markov chains against all K^T paths, logarithms, and their own derivatives."""

import itertools
import tracemalloc

import numpy as np
import pytest

from sklvm.numerics import chain_kernels, chain_plain, chain_recursions
from sklvm.numerics.chain import (
    backward_sample,
    forward,
    forward_backward,
    predict_ahead,
    sweep,
    viterbi,
)
from sklvm.numerics.chain_recursions import Logarithmic, Scaled

LENGTHS = [4, 1, 0, 6, 2, 5]
ANSWERS = [chain_kernels, chain_plain]


@pytest.fixture(params=ANSWERS, ids=["compiled", "plain"])
def kernels(request, monkeypatch):
    monkeypatch.setattr(chain_recursions, "_kernels", lambda: request.param)


@pytest.fixture
def logarithms(monkeypatch):
    """Counts how often a block is done with logarithms."""
    calls = []
    ahead = Logarithmic.forward
    monkeypatch.setattr(Logarithmic, "forward", lambda *args: calls.append(args[2]) or ahead(*args))
    return calls


def log(x):
    with np.errstate(divide="ignore"):
        return np.log(x)


def offsets(lengths):
    return np.concatenate([[0], np.cumsum(lengths)])


def problem(kind="dense", K=3, lengths=LENGTHS, seed=0):
    """log_b (N, K), starts, pi and A of a chain."""
    rng = np.random.default_rng(seed)
    starts = offsets(lengths)
    log_b = 3 * rng.standard_normal((starts[-1], K))
    pi, A = rng.dirichlet(np.ones(K)), rng.dirichlet(np.ones(K), size=K)
    if kind == "zeros":
        A, pi = np.triu(A), np.eye(K)[0] + np.eye(K)[K - 1]
        A, pi = A / A.sum(axis=1, keepdims=True), pi / pi.sum()
    elif kind == "subnormal":
        A, pi = 0.7 * A, 0.2 * pi
    elif kind == "impossible entries":
        log_b[rng.uniform(size=log_b.shape) < 0.3] = -np.inf
        log_b[:, 0] = np.maximum(log_b[:, 0], -5)
    elif kind == "unseen":
        log_b[::2] = 0.0
    elif kind == "far":
        log_b *= 100
    return log_b, starts, pi, A


KINDS = ["dense", "zeros", "subnormal", "impossible entries", "unseen", "far"]


def enumerate_paths(log_b, pi, A):
    """All paths and their log joint probabilities: (K^T, T), (K^T,)."""
    T, K = log_b.shape
    paths = np.array(list(itertools.product(range(K), repeat=T)))
    moves = log(A)[paths[:, :-1], paths[:, 1:]].sum(axis=1)
    return paths, log(pi)[paths[:, 0]] + moves + log_b[np.arange(T), paths].sum(axis=1)


def by_enumeration(log_b, pi, A):
    """Log-likelihood, smoothed states, expected moves, best path and its log joint."""
    paths, joint = enumerate_paths(log_b, pi, A)
    top = joint.max()
    likelihood = np.exp(joint - top).sum()
    posterior = np.exp(joint - top) / likelihood
    states = np.eye(log_b.shape[1])[paths]  # (K^T, T, K)
    gamma = np.einsum("p,ptk->tk", posterior, states)
    xi = np.einsum("p,pti,ptj->ij", posterior, states[:, :-1], states[:, 1:])
    return top + np.log(likelihood), gamma, xi, paths[joint.argmax()], top


@pytest.mark.parametrize("K", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("recursion", [Scaled, Logarithmic])
def test_all_paths(kernels, recursion, kind, K):
    log_b, starts, pi, A = problem(kind, K)
    weight = np.array([1.0, 2.5, 1.0, 0.0, 0.5, 3.0])
    found = forward_backward(log_b, starts, pi, A, weight, recursion=recursion)
    decoded = viterbi(log_b, starts, pi, A)
    first, xi = np.zeros(K), np.zeros((K, K))
    for s, (a, b) in enumerate(itertools.pairwise(starts)):
        if a == b:
            assert found.log_likelihood[s] == decoded.log_joint[s] == 0.0
            continue
        log_likelihood, gamma, moves, path, joint = by_enumeration(log_b[a:b], pi, A)
        np.testing.assert_allclose(found.log_likelihood[s], log_likelihood, rtol=1e-12)
        np.testing.assert_allclose(found.gamma[a:b], weight[s] * gamma, atol=1e-12)
        np.testing.assert_array_equal(decoded.path[a:b], path)
        np.testing.assert_allclose(decoded.log_joint[s], joint, rtol=1e-12)
        first, xi = first + weight[s] * gamma[0], xi + weight[s] * moves
    np.testing.assert_allclose(found.first, first, atol=1e-12)
    np.testing.assert_allclose(found.xi, xi, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("recursion", [Scaled, Logarithmic])
def test_filtering_looks_back_only(kernels, recursion, kind):
    log_b, starts, pi, A = problem(kind)
    found = forward(log_b, starts, pi, A, recursion=recursion)
    for a, b in itertools.pairwise(starts):
        before = 0.0
        for t in range(a, b):
            log_likelihood, gamma, *_ = by_enumeration(log_b[a : t + 1], pi, A)
            np.testing.assert_allclose(found.probs[t], gamma[-1], atol=1e-12)
            np.testing.assert_allclose(found.log_density[t], log_likelihood - before, atol=1e-9)
            before = log_likelihood


@pytest.mark.parametrize("kind", ["dense", "zeros"])
@pytest.mark.parametrize("recursion", [Scaled, Logarithmic])
def test_draws_have_the_frequencies_of_the_posterior(kernels, recursion, kind):
    log_b, starts, pi, A = problem(kind, lengths=[2, 4])
    log_b /= 3
    u = np.random.default_rng(1).uniform(size=(2000, 6))
    drawn = backward_sample(log_b, starts, pi, A, u, recursion=recursion)
    for a, b in itertools.pairwise(starts):
        paths, joint = enumerate_paths(log_b[a:b], pi, A)
        expected = 2000 * np.exp(joint) / np.exp(joint).sum()
        code = 3 ** np.arange(b - a)[::-1]
        seen = np.bincount(drawn[:, a:b] @ code, minlength=len(paths))
        assert not seen[expected == 0].any()
        often = expected > 0
        chi2 = ((seen - expected)[often] ** 2 / expected[often]).sum()
        df = often.sum() - 1
        assert chi2 < df + 4 * np.sqrt(2 * df)


def test_draws_are_where_cumulative_weights_say(kernels):
    """log_b of one step: the first number in [0, 1) of a state is what all before it add up to."""
    probs = np.array([0.0, 0.25, 0.0, 0.75, 0.0])
    u = np.array([[0.0], [0.2499], [0.25], [0.9999], [1.0]])
    for recursion in (Scaled, Logarithmic):
        drawn = backward_sample(np.zeros((1, 5)), [0, 1], probs, np.eye(5), u, recursion=recursion)
        assert drawn.ravel().tolist() == [1, 1, 3, 3, 3]


# --- kernels and twins ------------------------------------------------------------------------


@pytest.mark.parametrize("K", [2, 5, 8, 9, 14])
@pytest.mark.parametrize("kind", ["dense", "zeros", "far"])
def test_kernels_equal_their_plain_twins(kind, K):
    log_b, starts, pi, A = problem(kind, K, lengths=[70, 0, 1, 40])
    u = np.random.default_rng(2).uniform(size=(3, len(log_b)))
    AT, weight = np.ascontiguousarray(A.T), np.array([1.0, 2.0, 3.0, 0.5])
    states = tuple(pi) if K <= 8 else pi
    guarded, leak = kind == "zeros", np.where(np.arange(K) == 1, 1e-150, 0.0)

    def answers(module):
        n, S = len(log_b), len(weight)
        b, carry = np.exp(log_b - log_b.max(axis=1, keepdims=True)), np.stack([pi, 0 * pi])
        alpha, gamma, c, peak = np.empty((n, K)), np.empty((n, K)), np.empty(n), np.ones(n)
        log_prob, failed = np.zeros(S), np.zeros(S, bool)
        block = alpha, b, c, peak, log_prob, failed
        module.forward(states, A, leak, guarded, carry, starts, *block)
        q, w, paths, after = b.copy(), np.full(K, 0.5), np.zeros((3, n), int), np.full(3, -1)
        module.backward(states, AT, w, starts, weight, alpha, b, gamma)
        module.draw_backward(AT, starts, alpha, u, after, paths)
        yield from (*block, q, carry, w, gamma, after, paths)

        lb, carry = log_b.copy(), log(pi)[None].copy()
        alpha, gamma, c = np.empty((n, K)), np.empty((n, K)), np.empty(n)
        log_prob, xi, w = np.zeros(S), np.zeros((K, K)), log(np.full(K, 0.5))
        module.log_forward(log(pi), log(AT), carry, starts, alpha, lb, c, peak, log_prob, failed)
        module.log_draw_backward(log(AT), starts, alpha, u, after, paths)
        q = lb.copy()
        module.log_backward(log(A), w, starts, log(weight), alpha, lb, gamma, xi)
        yield from (alpha, q, lb, c, log_prob, xi, w, gamma, after, paths)

        delta, log_prob, carry, path = log_b.copy(), np.zeros(S), log(pi)[None].copy(), np.zeros(n)
        path, after = path.astype(int), np.full(1, -1)
        module.best_forward(states, log(pi), log(A), carry, starts, delta, peak, log_prob)
        module.best_backward(log(AT), starts, delta, after, path)
        yield from (delta, log_prob, carry, path, after)

    for compiled, plain in zip(answers(chain_kernels), answers(chain_plain), strict=True):
        np.testing.assert_allclose(compiled, plain, rtol=1e-12, atol=1e-12)


# --- blocks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("max_memory", [0, 3000, 1e9])
@pytest.mark.parametrize("rows", [1, 7, 64])
@pytest.mark.parametrize("recursion", [Scaled, Logarithmic])
def test_blocks_change_nothing(recursion, rows, max_memory):
    log_b, starts, pi, A = problem("zeros", K=4, lengths=[30, 3, 0, 95, 1, 1, 20])
    weight = np.array([1.0, 2.0, 5.0, 0.0, 1.5, 1.0, 3.0])
    gamma, asked = np.zeros_like(log_b), np.zeros(len(log_b))

    def emit(rows):
        asked[rows] += 1

        def consume(values):
            gamma[rows] = values
            return values.sum(axis=0)

        return log_b[rows].copy(order="F"), consume

    settings = {"rows": rows, "max_memory": max_memory, "recursion": recursion}
    found = sweep(emit, starts, pi, A, weight, **settings)
    whole = forward_backward(log_b, starts, pi, A, weight, recursion=recursion)
    np.testing.assert_allclose(found.log_likelihood, whole.log_likelihood, rtol=1e-12)
    np.testing.assert_allclose(gamma, whole.gamma, atol=1e-12)
    np.testing.assert_allclose(found.first, whole.first, atol=1e-12)
    np.testing.assert_allclose(found.xi, whole.xi, atol=1e-12)
    np.testing.assert_allclose(found.stats, whole.gamma.sum(axis=0), rtol=1e-12)
    assert asked.min() >= 1
    assert asked.max() <= 2
    asked[:] = 0
    sweep(emit, starts, pi, A, weight, ask_once=True, **settings)
    if max_memory == 1e9:
        assert asked.max() == 1


@pytest.mark.parametrize("max_memory", [0, 3000, 1e9])
@pytest.mark.parametrize("recursion", [Scaled, Logarithmic])
def test_long_sequences_go_block_by_block(monkeypatch, recursion, max_memory):
    """The other questions, with blocks of 8 rows against one block."""
    log_b, starts, pi, A = problem("zeros", K=3, lengths=[50, 3, 0, 9, 70])
    u = np.random.default_rng(3).uniform(size=(4, len(log_b)))
    settings = {"max_memory": max_memory}

    def answers():
        yield from viterbi(log_b, starts, pi, A, **settings)
        yield from forward(log_b, starts, pi, A, recursion=recursion)
        yield backward_sample(log_b, starts, pi, A, u, recursion=recursion, **settings)

    whole = list(answers())
    monkeypatch.setattr("sklvm.numerics.chain_blocks.MOST_ROWS", 8)
    for one, other in zip(answers(), whole, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


def test_memory_is_bounded():
    K, T = 4, 100_000
    log_b, starts, pi, A = problem(K=K, lengths=[T])
    emit = lambda rows: (log_b[rows].copy(order="F"), lambda gamma: gamma.sum(axis=0))
    sweep(emit, starts, pi, A)
    peaks = []
    for max_memory in (0, 1e9):
        tracemalloc.start()
        sweep(emit, starts, pi, A, rows=512, max_memory=max_memory)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[0] < 0.5e6
    assert peaks[1] > 16 * K * T


def test_a_list_is_the_sum_of_its_sequences():
    log_b, starts, pi, A = problem("zeros")
    whole = forward_backward(log_b, starts, pi, A)
    parts = [forward_backward(log_b[a:b], [0, b - a], pi, A) for a, b in itertools.pairwise(starts)]
    joined = [np.concatenate([p[i] for p in parts]) for i in (0, 1)]
    np.testing.assert_allclose(whole.log_likelihood, joined[0], rtol=1e-13)
    np.testing.assert_allclose(whole.gamma, joined[1], atol=1e-13)
    np.testing.assert_allclose(whole.xi, sum(p.xi for p in parts), atol=1e-13)
    np.testing.assert_allclose(whole.first, sum(p.first for p in parts), atol=1e-13)


def test_weights_are_repeats_and_zero_is_absence():
    log_b, starts, pi, A = problem()
    weight = np.array([2, 0, 1, 3, 1, 0])
    order = np.repeat(np.arange(6), weight)
    rows = np.concatenate([np.arange(starts[s], starts[s + 1]) for s in order])
    repeated = forward_backward(log_b[rows], offsets(np.diff(starts)[order]), pi, A)
    weighted = forward_backward(log_b, starts, pi, A, weight)
    np.testing.assert_allclose(weighted.xi, repeated.xi, rtol=1e-12)
    np.testing.assert_allclose(weighted.first, repeated.first, rtol=1e-12)
    np.testing.assert_allclose(weighted.gamma.sum(axis=0), repeated.gamma.sum(axis=0), rtol=1e-12)
    assert not weighted.gamma[starts[1] : starts[2]].any()


# --- what the answers mean --------------------------------------------------------------------


@pytest.mark.parametrize("K", [3, 10])
def test_counts_are_the_derivatives_of_the_log_likelihood(K):
    log_b, starts, pi, A = problem(K=K)
    found = forward_backward(log_b, starts, pi, A)
    h = 1e-5

    def total(pi, A):
        return forward(log_b, starts, pi, A).log_likelihood.sum()

    for i, j in itertools.product(range(3), range(3)):
        up, down = A.copy(), A.copy()
        up[i, j] *= np.exp(h)
        down[i, j] *= np.exp(-h)
        slope = (total(pi, up) - total(pi, down)) / (2 * h)
        np.testing.assert_allclose(found.xi[i, j], slope, rtol=1e-6, atol=1e-8)
    for i in range(3):
        step = np.exp(h * np.eye(K)[i])
        slope = (total(pi * step, A) - total(pi / step, A)) / (2 * h)
        np.testing.assert_allclose(found.first[i], slope, rtol=1e-6, atol=1e-8)


def test_unseen_steps_are_predictions_and_change_no_likelihood():
    log_b, _, pi, A = problem(lengths=[5])
    short = forward_backward(log_b, [0, 5], pi, A)
    long = forward_backward(np.concatenate([log_b, np.zeros((40, 3))]), [0, 45], pi, A)
    np.testing.assert_allclose(long.log_likelihood, short.log_likelihood, rtol=1e-13)
    np.testing.assert_allclose(long.gamma[:5], short.gamma, atol=1e-13)
    ahead = predict_ahead(short.gamma[-1], A, 40)
    np.testing.assert_allclose(long.gamma[5:], ahead, atol=1e-13)
    np.testing.assert_allclose(ahead[-1], short.gamma[-1] @ np.linalg.matrix_power(A, 40))
    nothing = forward_backward(np.zeros((30, 3)), [0, 30], pi, A)
    np.testing.assert_allclose(nothing.log_likelihood, 0.0, atol=1e-13)
    np.testing.assert_allclose(nothing.gamma[7], pi @ np.linalg.matrix_power(A, 7))


def test_equal_rows_are_a_mixture_over_many_steps():
    log_b, starts, pi, _ = problem(lengths=[150_000])
    joint = log_b + np.log(pi)
    evidence = np.logaddexp.reduce(joint, axis=1)
    found = forward_backward(log_b, starts, pi, np.tile(pi, (3, 1)))
    np.testing.assert_allclose(found.log_likelihood, evidence.sum(), rtol=1e-12)
    np.testing.assert_allclose(found.gamma, np.exp(joint - evidence[:, None]), atol=1e-12)
    decoded = viterbi(log_b, starts, pi, np.tile(pi, (3, 1)))
    np.testing.assert_array_equal(decoded.path, joint.argmax(axis=1))
    np.testing.assert_allclose(decoded.log_joint, joint.max(axis=1).sum(), rtol=1e-12)


@pytest.mark.parametrize("offset", [-(2.0**20), 2.0**20])
def test_offsets_shift_the_log_likelihood_and_nothing_else(offset):
    log_b, starts, pi, A = problem("zeros", lengths=[1000])
    log_b = np.round(log_b * 2**20) / 2**20  # so that the shift is exact
    plain, moved = (forward_backward(x, starts, pi, A) for x in (log_b, log_b + offset))
    np.testing.assert_array_equal(moved.gamma, plain.gamma)
    np.testing.assert_allclose(moved.log_likelihood, plain.log_likelihood + 1000 * offset)
    best, same = (viterbi(x, starts, pi, A).path for x in (log_b, log_b + offset))
    np.testing.assert_array_equal(best, same)


def test_ties_go_to_the_lower_state(kernels):
    path = viterbi(np.zeros((20, 3)), [0, 9, 20], np.full(3, 1 / 3), np.full((3, 3), 1 / 3)).path
    assert not path.any()
    moves = np.array([[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]])
    path = viterbi(np.zeros((5, 3)), [0, 5], np.full(3, 1 / 3), moves).path
    assert path.tolist() == [0, 1, 0, 1, 0]


# --- underflow --------------------------------------------------------------------------------


def late_turn(gap=10.0):
    """State 0 is left for good; its mass underflows, and then the data ask for it after all."""
    log_b = np.zeros((400, 2))
    log_b[:100, 0] -= gap
    log_b[100:, 1] -= gap
    return log_b, np.array([1.0, 0.0]), np.array([[0.5, 0.5], [0.0, 1.0]])


def abrupt_turn():
    """As before, where two steps are enough to make zeros of exp(log_b)."""
    log_b, pi, A = late_turn()
    log_b[:2, 0], log_b[2:100] = -800.0, 0.0
    return log_b, np.array([0.5, 0.5]), A


def unreachable_favourite():
    """The most likely state of each step cannot be reached."""
    log_b = np.tile([0.0, -900.0, -5000.0], (50, 1))
    return log_b, np.array([0.0, 1.0, 0.0]), np.array([[1, 0, 0], [0, 0.5, 0.5], [0, 0.5, 0.5]])


def rare_moves():
    """Moves so rare that they underflow are needed, twice."""
    log_b = np.full((9, 3), -2000.0)
    log_b[:3, 0] = log_b[3:6, 1] = log_b[6:, 2] = 0.0
    return log_b, np.eye(3)[0], np.array([[1.0, 1e-200, 0], [0, 1, 1e-310], [0, 0, 1]])


def rare_move_that_pays_late():
    """A move that underflows, into what later steps prefer one by one."""
    log_b = np.zeros((200, 2))
    log_b[60:, 0] = -10.0
    return log_b, np.eye(2)[0], np.array([[1.0, 1e-200], [0.0, 1.0]])


def start_with_a_rest():
    """Of two improbable starts the lesser, which underflows, is where the next step must come from.

    No move is rarer than 1e-29, so nothing but the start asks for logarithms.
    """
    log_b = np.array([[0.0, -300.0, -350.0], [-500.0, -500.0, 0.0]])
    A = np.array([[0.5, 0.25, 0.25], [0.5, 0.5, 1e-29], [0.25, 0.25, 0.5]])
    return log_b, np.array([0.0, 0.5, 0.5]), A


def improbable_start():
    log_b = np.array([[0.0, -800.0], [0.0, -1.0]])
    return log_b, np.array([0.0, 1.0]), np.array([[0.5, 0.5], [0.5, 0.5]])


UNDERFLOWS = [
    *(late_turn, abrupt_turn, unreachable_favourite, rare_moves, rare_move_that_pays_late),
    *(improbable_start, start_with_a_rest),
]


@pytest.mark.parametrize("rows", [None, 16])
@pytest.mark.parametrize("case", UNDERFLOWS)
def test_logarithms_take_over_where_probabilities_underflow(
    kernels, logarithms, monkeypatch, case, rows
):
    if rows:
        monkeypatch.setattr("sklvm.numerics.chain_blocks.MOST_ROWS", rows)
    log_b, pi, A = case()
    ordinary = np.zeros((3, len(pi)))
    log_b, starts = np.concatenate([ordinary, log_b, ordinary]), offsets([3, len(log_b), 3])
    found, filtered = forward_backward(log_b, starts, pi, A), forward(log_b, starts, pi, A)
    assert {piece.fresh for piece in logarithms} >= {True}
    for piece in logarithms:  # the ordinary sequences about it do not need them
        assert 3 <= piece.rows.start < piece.rows.stop <= starts[2]
    exact = forward_backward(log_b, starts, pi, A, recursion=Logarithmic)
    for one, other in zip(found, exact, strict=True):
        assert np.isfinite(one).all()
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)
    before = forward(log_b, starts, pi, A, recursion=Logarithmic)
    for one, other in zip(filtered, before, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


def test_the_late_turn_is_what_its_two_kinds_of_paths_say():
    log_b, pi, A = late_turn()
    found = forward_backward(log_b, [0, 400], pi, A)
    leave = np.arange(1, 401)  # the last step in state 0, counted from 1
    scores = -10.0 * np.minimum(leave, 100) - 10.0 * (400 - np.maximum(leave, 100))
    scores += np.log(0.5) * np.minimum(leave, 399)
    np.testing.assert_allclose(found.log_likelihood, np.logaddexp.reduce(scores), rtol=1e-13)
    assert found.gamma[50, 0] > 0.999


@pytest.mark.parametrize("scale", [1.0, 30.0, 400.0])
@pytest.mark.parametrize("K", [3, 9])
def test_sparse_chains_equal_their_logarithms(K, scale):
    """Whatever the zeros and however sharp the emissions, with a share of rare moves."""
    for seed in range(30):
        rng = np.random.default_rng(seed)
        starts = offsets([40, 1, 25])
        log_b = scale * rng.standard_normal((starts[-1], K))
        pi = rng.dirichlet(np.full(K, 0.1))
        A = rng.dirichlet(np.full(K, 0.02), size=K)
        A[rng.uniform(size=A.shape) < 0.3] = 0.0
        found = forward_backward(log_b, starts, pi, A)
        exact = forward_backward(log_b, starts, pi, A, recursion=Logarithmic)
        for one, other in zip(found, exact, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


def test_ordinary_chains_need_no_logarithms(logarithms):
    """Far components, exact zeros and states left for good are no reason."""
    rng = np.random.default_rng(0)
    K, T = 5, 3000
    z = np.arange(T) * K // T
    log_b = -((z[:, None] - np.arange(K)) ** 2) * 1e3 + rng.standard_normal((T, K))
    A = 0.99 * np.eye(K) + 0.01 * np.eye(K, k=1)
    found = forward_backward(log_b, [0, T], np.eye(K)[0], A)
    assert logarithms == []
    np.testing.assert_allclose(found.gamma, np.eye(K)[z], atol=1e-9)


def test_what_is_impossible_has_lost_nothing(kernels, logarithms):
    """A state that one step excludes, and no move leads to, needs no watching."""
    log_b, _, A = late_turn()
    log_b[:100], log_b[0, 0] = 0.0, -np.inf
    found = forward_backward(log_b, [0, 400], [0.5, 0.5], A)
    assert logarithms == []
    np.testing.assert_allclose(found.log_likelihood, np.log(0.5) - 3000, rtol=1e-13)


def test_an_impossible_sequence_is_reported(kernels):
    log_b, starts, pi, A = problem("zeros", lengths=[4, 5, 3])
    log_b[6] = -np.inf
    u = np.full((2, 12), 0.5)
    found, past = forward_backward(log_b, starts, pi, A), forward(log_b, starts, pi, A)
    decoded, drawn = viterbi(log_b, starts, pi, A), backward_sample(log_b, starts, pi, A, u)
    gone = np.repeat([False, True, False], [4, 5, 3])
    for values in (found.log_likelihood, past.log_likelihood, decoded.log_joint):
        np.testing.assert_array_equal(np.isneginf(values), [False, True, False])
    assert not found.gamma[gone].any()
    np.testing.assert_array_equal(decoded.path == -1, gone)
    np.testing.assert_array_equal(drawn == -1, np.tile(gone, (2, 1)))
    np.testing.assert_array_equal(np.isneginf(past.log_density), np.arange(12) // 3 == 2)
    kept = np.delete(log_b, slice(4, 9), axis=0)
    others = forward_backward(kept, offsets([4, 3]), pi, A)
    np.testing.assert_allclose(found.xi, others.xi, atol=1e-13)
    np.testing.assert_allclose(found.first, others.first, atol=1e-13)


def test_an_impossible_long_sequence_is_reported(kernels, monkeypatch):
    monkeypatch.setattr("sklvm.numerics.chain_blocks.MOST_ROWS", 8)
    log_b, starts, pi, A = problem(lengths=[40, 20])
    log_b[21] = -np.inf
    found = forward_backward(log_b, starts, pi, A)
    np.testing.assert_array_equal(np.isneginf(found.log_likelihood), [True, False])
    assert not found.gamma[:40].any()
    np.testing.assert_allclose(found.xi.sum(), 19)
    decoded = viterbi(log_b, starts, pi, A)
    np.testing.assert_array_equal(np.isneginf(decoded.log_joint), [True, False])
    np.testing.assert_array_equal(decoded.path == -1, np.arange(60) < 40)


# --- arrays -----------------------------------------------------------------------------------


def n_compiled():
    """Versions of all kernels that have been compiled, or loaded."""
    kernels = vars(chain_kernels).values()
    return sum(len(k.signatures) for k in kernels if hasattr(k, "signatures"))


@pytest.mark.parametrize("layout", ["F", "read-only", "strided", "single precision", "list"])
def test_layouts(layout):
    arrays = problem("zeros")
    before = [np.array(a) for a in arrays]
    u = np.random.default_rng(0).uniform(size=(2, len(before[0])))

    def answers(log_b, starts, pi, A, u):
        yield from forward_backward(log_b, starts, pi, A)
        yield from viterbi(log_b, starts, pi, A)
        yield backward_sample(log_b, starts, pi, A, u)

    expected = list(answers(*before, u))
    log_b, starts, pi, A = arrays
    if layout == "F":
        log_b, A, u = np.asfortranarray(log_b), np.asfortranarray(A), np.asfortranarray(u)
    elif layout == "read-only":
        for array in (log_b, starts, pi, A, u):
            array.flags.writeable = False
    elif layout == "strided":
        log_b, A = np.repeat(log_b, 2, axis=0)[::2], np.repeat(A, 2, axis=1)[:, ::2]
    elif layout == "single precision":
        log_b = log_b.astype(np.float32)
        expected = list(answers(log_b.astype(float), *before[1:], u))
    elif layout == "list":
        starts, pi, A = starts.tolist(), pi.tolist(), A.tolist()
    compiled = n_compiled()
    for one, other in zip(answers(log_b, starts, pi, A, u), expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert n_compiled() == compiled
    np.testing.assert_array_equal(log_b, before[0].astype(log_b.dtype))
