"""Stochastic gradients for a loss of one number per row, with the history and callbacks of EM."""

import math

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning

from ..warn import warn_user
from .blocks import blocks
from .history import FitInterrupted, Run
from .start import spread
from .training_rows import TrainingRows, round_significant

__all__ = ["TrainingRows", "round_significant", "train"]

LARGEST_GRADIENT = 5.0  # norm; a longer gradient is shortened to it


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
    callback=None,
):
    """Minimise the weighted mean over rows of loss(rows, generator) -> (batch,) by AdamW.

    Parameters
    ----------
    module : torch.nn.Module
        What is trained, in place. It ends with the parameters that the returned state shows.
    loss : callable
        (batch, ...) rows, generator -> (batch,), in nats. All its noise comes from the generator.
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
    callback : callable, default=None
        (epoch, {name: ndarray}, objective) -> True to stop.

    Returns
    -------
    run : Run
        Its state is {name: ndarray}, its history the mean of -loss at the start and in each epoch.

    References
    ----------
    DESIGN law 5: with equally spaced points on the cumulative weight, integer weights are repeated
    rows to the bit and the loss of a batch is a plain mean.
    """
    total = float(weight.sum())
    points = torch.as_tensor(spread(weight, math.ceil(total * (1 - 1e-12))), device=X.device)
    batches = math.ceil(len(points) / batch_size)
    parameters = list(module.parameters())
    optimizer = _adamw(parameters, decayed, learning_rate, weight_decay)
    watch = _Watch(module, judge, judge_every, tol, n_iter_no_change)
    try:
        watch.see(_objective(loss, X, weight, generator))
        while watch.n_iter < max_iter and not watch.stale:
            order = points[torch.randperm(len(points), generator=generator, device=X.device)]
            cut = order.tensor_split(batches)
            objective = _epoch(loss, X, cut, parameters, optimizer, generator)
            watch.see(objective, last=watch.n_iter + 1 == max_iter)
            if watch.lost:
                break
            if callback is not None and callback(watch.n_iter, watch.arrays(), watch.history[-1]):
                break
    except KeyboardInterrupt:
        if watch.best is None:
            raise
        raise FitInterrupted(watch.run()) from None
    return watch.run()


def _objective(loss, X, weight, generator):
    """Weighted mean of -loss over all rows."""
    total = 0.0
    with torch.no_grad():
        for rows in blocks(len(X)):
            total += weight[rows] @ loss(X[rows], generator).double().cpu().numpy()
    return -total / weight.sum()


def _epoch(loss, X, batches, parameters, optimizer, generator):
    """One step per batch; the mean of -loss, each batch before its step."""
    total, count = torch.zeros((), dtype=torch.float64, device=X.device), 0
    for rows in batches:
        values = loss(X.index_select(0, rows), generator)
        optimizer.zero_grad(set_to_none=True)
        values.mean().backward()
        torch.nn.utils.clip_grad_norm_(parameters, LARGEST_GRADIENT)
        optimizer.step()
        total += values.detach().sum(dtype=torch.float64)
        count += len(rows)
    return -float(total) / count


def _adamw(parameters, decayed, learning_rate, weight_decay):
    decayed = [p for p in parameters if p.ndim > 1] if decayed is None else list(decayed)
    chosen = {id(p) for p in decayed}
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": [p for p in parameters if id(p) not in chosen], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    try:
        return torch.optim.AdamW(groups, lr=learning_rate, fused=True)
    except RuntimeError:  # no fused kernel for this device
        return torch.optim.AdamW(groups, lr=learning_rate)


class _Watch:
    """The history, the parameters worth keeping, and when to stop."""

    def __init__(self, module, judge, judge_every, tol, patience):
        self.module, self.judge, self.judge_every = module, judge, judge_every
        self.tol, self.patience = tol, patience
        self.history = []
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

    def see(self, objective, last=False):
        """Record an epoch, and judge its end if it is time to."""
        if not np.isfinite(objective):
            if not self.history:
                raise FloatingPointError("the loss of the starting parameters is not finite")
            return self._lose()
        self.history.append(objective)
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
        return Run(self.best, np.array(self.history), converged, self.n_iter)
