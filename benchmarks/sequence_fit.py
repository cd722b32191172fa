"""Whole fits of hidden Markov models against hmmlearn: `python benchmarks/sequence_fit.py`.

Everything runs on one thread, in float64, with diagonal Gaussian emissions of four columns. Fits
are those of each package's defaults (sklvm: ten starts, until less than 1e-6 nats per step are to
come; hmmlearn: one start, ten iterations at most); log-likelihoods are printed without priors. An
E-step is that of the estimator, statistics included (hmmlearn: implementation="scaling"). Times are
process CPU milliseconds: medians of runs in turn.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy is imported

import time
import warnings

import hmmlearn
import numpy as np
from _timing import race, table
from hmmlearn.hmm import GaussianHMM
from sequence_kernels import SIZES, Contest, problem
from threadpoolctl import threadpool_limits

import sklvm
from sklvm import HMM
from sklvm.chain_state import Chains

FITS = [(4, 10_000, 100), (8, 2_000, 100), (4, 200, 100)]
E_STEPS = ["K, steps", "hmmlearn ms", "sklvm ms", "ratio", "range", "|d|"]


def ragged(K, n, mean_length):
    """n sequences of a sticky chain, of half to three halves of a length: rows, lengths."""
    lengths = np.random.default_rng(0).integers(mean_length // 2, 3 * mean_length // 2, size=n)
    return problem(K, int(lengths.sum()))[0], lengths


def fits(K, n, mean_length):
    X, lengths = ragged(K, n, mean_length)
    parts = np.split(X, np.cumsum(lengths)[:-1])
    found = {}

    def theirs():
        found["theirs"] = GaussianHMM(K, random_state=0).fit(X, lengths)

    def ours():
        found["ours"] = HMM(K, covariance_type="diag", random_state=0).fit(parts)

    ours()  # compile
    times = race(theirs, ours, runs=3)
    scores = found["theirs"].score(X, lengths), found["ours"].score_samples(parts).sum()
    return [f"{K}, {n:,} x {mean_length}", *times.cells(), *(f"{s / len(X):.6f}" for s in scores)]


def e_step(K, T):
    """The E-step of the estimators, from the same parameters."""
    contest = Contest(K, T)
    state = HMM.from_parameters(
        startprob=contest.pi, transmat=contest.A, emission=contest.emission
    ).state_
    chains = Chains(contest.X, np.ones(T), contest.starts, np.ones(1))
    known = state.known(*chains[:2], lambda function, rows: function(*rows))

    def ours():
        return state.walk(chains, known=known)

    ours()  # compile
    times, (stats, log_likelihood) = race(contest.theirs, ours), ours()
    peer, peer_log_likelihood = contest.theirs()
    gap = abs(peer["trans"] - stats.moves).max(), abs(peer_log_likelihood - log_likelihood)
    return [f"{K}, {T:,}", *times.cells(), f"{max(gap) / T:.0e}"]


def main():
    print(f"sklvm {sklvm.__version__}, hmmlearn {hmmlearn.__version__}, one thread")
    began = time.process_time()
    header = ["K, sequences x steps", *E_STEPS[1:5], "hmmlearn nats/step", "sklvm nats/step"]
    table("Fits at the defaults of each", header, [fits(*size) for size in FITS])
    table("One E-step of the estimators", E_STEPS, [e_step(*size) for size in SIZES])
    print(f"\n{time.process_time() - began:.0f} s")


if __name__ == "__main__":
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        main()
