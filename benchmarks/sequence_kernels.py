"""Hidden Markov chains against hmmlearn: `python benchmarks/sequence_kernels.py`.

Everything runs on one thread, in float64: the whole E-step with diagonal Gaussian emissions of four
columns, statistics included (hmmlearn: implementation="scaling"), and the most probable path.
"kept" holds T x K arrays while they fit in memory, "checkpoints" holds one block and works half of
it out twice. |d| is the largest difference of log-likelihoods, expected counts and sums, per step;
for paths the share of steps where they differ. Times are process CPU milliseconds: medians of five
runs in turn.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy is imported

import subprocess
import sys
import tempfile
import time

import hmmlearn
import numpy as np
from _timing import race, table
from hmmlearn.hmm import GaussianHMM
from threadpoolctl import threadpool_limits

import sklvm
from sklvm import GaussianMixture
from sklvm.numerics.chain import sweep, viterbi

SIZES = [(4, 1_000_000), (16, 200_000), (64, 40_000)]
RAGGED = [(4, 10_000, 100), (16, 2_000, 100)]
HEADER = ["K, steps", "hmmlearn ms", "sklvm ms", "ratio", "range", "|d|"]

FIRST_CALL = """
import time, numpy as np
import sklvm.numerics.chain as chain
from sklvm import GaussianMixture  # what any estimator loads: scikit-learn, scipy
log_b, A = np.zeros((50, {K})), np.full(({K}, {K}), 1 / {K})
began = time.process_time()
import numba
loaded = time.process_time()
chain.forward_backward(log_b, [0, 50], A[0], A)
chain.viterbi(log_b, [0, 50], A[0], A)
print(loaded - began, time.process_time() - loaded)
"""


def problem(K, T, d=4, seed=0):
    """Rows of a sticky chain of K unit Gaussians, and its parameters."""
    rng = np.random.default_rng(seed)
    pi, A = np.full(K, 1 / K), 0.95 * np.eye(K) + 0.05 * rng.dirichlet(np.ones(K), size=K)
    means, moves = 2 * rng.standard_normal((K, d)), A.cumsum(axis=1)
    z = np.zeros(T, int)
    for t, u in enumerate(rng.uniform(size=T - 1), start=1):
        z[t] = min(np.searchsorted(moves[z[t - 1]], u), K - 1)
    return means[z] + rng.standard_normal((T, d)), pi, A, means


class Contest:
    """One E-step, and one decoding, of both."""

    def __init__(self, K, T, length=None):
        X, pi, A, means = problem(K, T)
        self.X, self.pi, self.A = X, pi, A
        self.starts = np.arange(0, T + 1, length or T)
        self.lengths = np.diff(self.starts)
        variances = np.ones_like(means)
        mixture = GaussianMixture.from_parameters(
            weights=pi, means=means, covariances=variances, covariance_type="diag"
        )
        self.emission = mixture.state_.emission
        self.peer = GaussianHMM(K, covariance_type="diag", implementation="scaling")
        self.peer.n_features = means.shape[1]
        self.peer.startprob_, self.peer.transmat_ = pi, A
        self.peer.means_, self.peer.covars_ = means, variances

    def theirs(self):
        return self.peer._do_estep(self.X, self.lengths)

    def ours(self, max_memory=256e6):
        emission = self.emission.sweep()
        counts = sweep(
            lambda rows: emission.block(self.X[rows]),
            self.starts,
            self.pi,
            self.A,
            max_memory=max_memory,
        )
        return counts, emission.total(counts.stats, counts.log_likelihood)[0]

    def ours_with_checkpoints(self):
        return self.ours(max_memory=0)

    def difference(self, ours):
        stats, log_likelihood = self.theirs()
        counts, moments = ours()
        sums = moments.first + moments.count * moments.origin
        gaps = (
            log_likelihood - counts.log_likelihood.sum(),
            np.abs(stats["trans"] - counts.xi).max(),
            np.abs(stats["start"] - counts.first).max(),
            np.abs(stats["obs"] - sums).max(),
        )
        return f"{max(map(abs, gaps)) / len(self.X):.0e}"

    def their_paths(self):
        return self.peer.decode(self.X, self.lengths)

    def our_paths(self):
        emission = self.emission.sweep()
        log_b = lambda rows: emission.block(self.X[rows])[0]
        return viterbi(log_b, self.starts, self.pi, self.A)

    def disagreement(self):
        return f"{np.mean(self.their_paths()[1] != self.our_paths().path):.0e}"


def e_steps(contest, label):
    for how, ours in [("kept", contest.ours), ("checkpoints", contest.ours_with_checkpoints)]:
        found = race(contest.theirs, ours)
        yield [f"{label} {how}", *found.cells(), contest.difference(ours)]


def first_call(K):
    """Seconds in a new process: numba, compilation; then numba, kernels from the cache."""
    with tempfile.TemporaryDirectory() as cache:
        return [_seconds(K, cache) for _ in ("cold", "warm")]


def _seconds(K, cache):
    environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
    command = [sys.executable, "-c", FIRST_CALL.format(K=K)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return [f"{float(seconds):.2f}" for seconds in run.stdout.split()]


def main():
    print(f"sklvm {sklvm.__version__}, hmmlearn {hmmlearn.__version__}, one thread")
    began, rows, paths = time.process_time(), [], []
    for K, T in SIZES:
        contest, label = Contest(K, T), f"{K}, {T:,}"
        contest.ours(), contest.our_paths()  # compile
        rows += e_steps(contest, label)
        found = race(contest.their_paths, contest.our_paths)
        paths.append([label, *found.cells(), contest.disagreement()])
    for K, n, length in RAGGED:
        contest = Contest(K, n * length, length)
        found = race(contest.theirs, contest.ours)
        cells = [*found.cells(), contest.difference(contest.ours)]
        rows.append([f"{K}, {n:,} x {length}", *cells])
    table("One E-step, diagonal Gaussian emissions, d = 4", HEADER, rows)
    table("Most probable paths, emissions included", HEADER, paths)
    rows = [[str(K), *cold, *warm[1:]] for K in (4, 16) for cold, warm in [first_call(K)]]
    header = ["K", "import numba", "first call, no cache", "first call, cached kernels"]
    table("First E-step and path in a new process, CPU seconds", header, rows)
    print(f"\n{time.process_time() - began:.0f} s")


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
