"""Stochastic gradients for a loss of one number per row, with the history and callbacks of EM."""

import math

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning

from ..warn import warn_user
from .blocks import blocks
from .descent import Descent
from .history import FitInterrupted, Run
from .start import spread
from .training_rows import TrainingRows, round_significant

__all__ = ["TrainingRows", "one_epoch", "round_significant", "train"]


def train(
    module,
    loss,
    X,
    weight,
    *,
    generator,
    max_iter,
    batch_size,
    learning_rate,
    tol,
    n_iter_no_change,
    judge=None,
    judge_every=5,
    weight_decay=0.0,
    decayed=None,
    averaging=0.0,
    by_hand=None,
    callback=None,
):
    """Minimise the weighted mean over rows of a loss of one number per row, by AdamW.

    Parameters
    ----------
    module : torch.nn.Module
        What is trained, in place. It ends with the parameters that the returned state shows.
    loss : callable
        (batch, ...) rows, generator, epoch -> (batch,) in nats, and a tuple of (batch,) that are
        reported. All its noise comes from the generator. Epochs count from 1; 0 is the start.
    X : tensor of shape (n, ...), on the device of the module
        Distinct rows in an order that their values decide (`start.distinct`).
    weight : ndarray of shape (n,)
        Their counts.
    generator : torch.Generator, on the device of the module
        Batches and noise; neither the global generator nor a global setting is touched.
    max_iter : int
        Epochs: passes over ceil(sum of weights) rows.
    batch_size : int
        Rows per step; the batches of an epoch differ by one row at most.
    learning_rate, weight_decay : float
        Of AdamW (Loshchilov & Hutter 2019).
    tol : float
    n_iter_no_change : int
        Stop once this many epochs have not raised the judged objective by tol.
    judge : callable, default=None
        () -> float, higher is better, asked at the start and every `judge_every` epochs; the best
        parameters are kept. Without it the training objective is watched and the last are kept.
    decayed : list of parameters, default=None
        What weight decay shrinks; None stands for every matrix.
    averaging : float, default=0.0
        Decay of an exponential average of the parameters, its bias corrected, that is judged and
        kept in place of the last ones; 0 keeps the last.
    by_hand : callable, default=None
        slope_of -> a function that returns what `loss` does and writes the gradient of the mean
        loss: slope_of(p) is where that of the parameter p goes. None differentiates the loss.
    callback : callable, default=None
        (epoch, {name: ndarray}, objective) -> True to stop.

    Returns
    -------
    run : Run
        Its state is {name: ndarray}, its history the mean of -loss at the start and in each epoch,
        its report the means of what the loss reports, (n_iter + 1, reported).

    References
    ----------
    DESIGN law 5: with equally spaced points on the cumulative weight, integer weights are repeated
    rows to the bit and the loss of a batch is a plain mean.
    """
    total = float(weight.sum())
    points = torch.as_tensor(spread(weight, math.ceil(total * (1 - 1e-12))), device=X.device)
    batches = math.ceil(len(points) / batch_size)
    descent = Descent(module, decayed, learning_rate, weight_decay, averaging)
    climb = by_hand(descent.slope_of) if by_hand else descent.differentiated(loss)
    watch = _Watch(module, judge, judge_every, tol, n_iter_no_change)
    try:
        watch.see(_objective(loss, X, weight, generator))
        while watch.n_iter < max_iter and not watch.stale:
            order = points[torch.randperm(len(points), generator=generator, device=X.device)]
            epoch = watch.n_iter + 1
            means = one_epoch(climb, X, order.tensor_split(batches), descent, generator, epoch)
            with descent.averaged():
                watch.see(means, last=epoch == max_iter)
                if watch.lost:
                    break
                if callback is not None and callback(epoch, watch.arrays(), watch.history[-1]):
                    break
    except KeyboardInterrupt:
        if watch.best is None:
            raise
        raise FitInterrupted(watch.run()) from None
    return watch.run()


def _objective(loss, X, weight, generator):
    """Weighted means over all rows of -loss and of what it reports: -> list of floats."""
    total = 0.0
    with torch.no_grad():
        for rows in blocks(len(X)):
            values, reported = loss(X[rows], generator, 0)
            total = total + _table(values, reported).double().cpu().numpy() @ weight[rows]
    return (total / weight.sum()).tolist()


def one_epoch(climb, X, batches, descent, generator, epoch):
    """One step per batch; the means of -loss and the reported, each batch before its step."""
    total, count = 0.0, 0
    for rows in batches:
        values, reported = climb(X.index_select(0, rows), generator, epoch)
        descent.step()
        total = total + _table(values, reported).sum(1, dtype=torch.float64)
        count += len(rows)
    return (total / count).tolist()


def _table(values, reported):
    """-loss and what it reports side by side: -> (1 + reported, batch)."""
    return torch.stack([-values, *reported])


class _Watch:
    """The history, the parameters worth keeping, and when to stop."""

    def __init__(self, module, judge, judge_every, tol, patience):
        self.module, self.judge, self.judge_every = module, judge, judge_every
        self.tol, self.patience = tol, patience
        self.history, self.reports = [], []
        self.best, self.best_value = None, -np.inf
        self.bar, self.bar_epoch = -np.inf, 0  # what the next gain is measured from
        self.lost = False

    @property
    def n_iter(self):
        return len(self.history) - 1

    @property
    def stale(self):
        return self.n_iter - self.bar_epoch >= self.patience

    def arrays(self):
        return {k: p.detach().cpu().numpy().copy() for k, p in self.module.named_parameters()}

    def see(self, means, last=False):
        """Record an epoch's objective and reports, and judge its end if it is time to."""
        objective, *reported = means
        if not np.isfinite(objective):
            if not self.history:
                raise FloatingPointError("the loss of the starting parameters is not finite")
            return self._lose()
        self.history.append(objective)
        self.reports.append(reported)
        if self.judge is None:
            return self._keep(objective)
        if last or self.n_iter % self.judge_every == 0:
            value = self.judge()
            return (
                self._keep(value, value > self.best_value) if np.isfinite(value) else self._lose()
            )
        return None

    def _keep(self, value, better=True):
        if better:
            self.best, self.best_value = self.arrays(), value
        if value > self.bar + self.tol:
            self.bar, self.bar_epoch = value, self.n_iter

    def _lose(self):
        self.lost = True
        warn_user(
            f"training diverged after {self.n_iter} epochs; the parameters before that are "
            "kept: lower the learning rate",
            ConvergenceWarning,
        )

    def run(self):
        """Put the best parameters back and report."""
        with torch.no_grad():
            for name, p in self.module.named_parameters():
                p.copy_(torch.from_numpy(self.best[name]))
        converged = self.stale and not self.lost
        report = np.array(self.reports)
        return Run(self.best, np.array(self.history), converged, self.n_iter, report=report)
