"""Kalman smoothing against statsmodels: `python benchmarks/sequence_kalman.py`.

Both filter and smooth one series on one thread and end with what an EM step needs: the
log-likelihood, the smoothed means and sums of second moments, E[z_t z_t'] and E[z_t z_t-1'].
statsmodels runs twice: as it comes (all its outputs, multivariate filter), and at its fastest,
asked for states, covariances and autocovariances only, with whichever of its two filters
(multivariate or univariate) is faster. |d| is the largest relative difference of log-likelihoods
and sums. Times are process CPU milliseconds: medians of five runs in turn.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy is imported

import numpy as np
import statsmodels
from _timing import _seconds, race, table
from statsmodels.tsa.statespace.kalman_smoother import KalmanSmoother
from threadpoolctl import threadpool_limits

import sklvm
from sklvm.numerics.kalman import StateSpace, expectations

SIZES = [(100_000, 4, 8)]
HEADER = [
    "(T, states, features)",
    "NaN",
    "asked for",
    "statsmodels ms",
    "sklvm ms",
    "ratio",
    "range",
    "|d|",
]


def problem(T, k, d, missing, seed=0):
    """A stable model and a series of it: -> StateSpace, (T, d)."""
    rng = np.random.default_rng(seed)
    A = 0.9 * np.linalg.qr(rng.standard_normal((k, k)))[0]
    C, R = rng.standard_normal((d, k)), rng.uniform(0.5, 2, d)
    z, noise = np.zeros(k), rng.standard_normal((T, k))
    states = np.array([z := A @ z + step for step in noise])
    X = states @ C.T + np.sqrt(R) * rng.standard_normal((T, d))
    X[rng.uniform(size=X.shape) < missing] = np.nan
    return StateSpace(A, np.eye(k), C, R, np.zeros(k), np.eye(k)), X


class Peer:
    """statsmodels' smoother, and the sums of an EM step."""

    def __init__(self, model, X, fastest):
        d, k = model.C.shape
        self.smoother = KalmanSmoother(k_endog=d, k_states=k)
        self.smoother.bind(X.copy())
        self.smoother["design"], self.smoother["transition"] = model.C, model.A
        self.smoother["selection"], self.smoother["state_cov"] = np.eye(k), model.Q
        self.smoother["obs_cov"] = np.diag(model.R)
        self.smoother.initialize_known(model.mean, model.P)
        if not fastest:
            self.smoother.set_smoother_output(smoother_state_autocov=True)
            return
        wanted = ("smoother_state", "smoother_state_cov", "smoother_state_autocov")
        self.smoother.set_smoother_output(0, **dict.fromkeys(wanted, True))
        seconds = []
        for univariate in (False, True, False, True):
            self.smoother.filter_univariate = univariate
            seconds.append(_seconds(self.step, 1))
        self.smoother.filter_univariate = min(seconds[1::2]) < min(seconds[::2])

    def step(self):
        found = self.smoother.smooth()
        z = found.smoothed_state
        second = found.smoothed_state_cov.sum(axis=2) + z @ z.T
        # Cov(z_t+1, z_t), whose last entry is beyond the series
        lag = found.smoothed_state_autocov[:, :, :-1].sum(axis=2) + z[:, 1:] @ z[:, :-1].T
        self.found = found.llf, second, lag


def line(T, k, d, missing, fastest):
    """A row of the table."""
    model, X = problem(T, k, d, missing)
    peer, ours = Peer(model, X, fastest), []

    def step():
        ours[:] = [expectations(model, X, [0, T], np.ones(1))]

    step()
    found = race(peer.step, step)
    sums = ours[0]
    values = [sums.log_prob[0], sums.first + sums.later, sums.lag]
    apart = max(np.abs(a - b).max() / np.abs(b).max() for a, b in zip(values, peer.found))
    asked = "the sums" if fastest else "everything"
    return [str((T, k, d)), f"{100 * missing:.0f} %", asked, *found.cells(), f"{apart:.0e}"]


def main():
    print(f"sklvm {sklvm.__version__}, statsmodels {statsmodels.__version__}, one thread")
    cases = [(False, 0.0), (True, 0.0), (False, 0.2), (True, 0.2)]
    rows = [line(*size, missing, fastest) for size in SIZES for fastest, missing in cases]
    table("Log-likelihood, smoothed states and sums of an EM step", HEADER, rows)


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
