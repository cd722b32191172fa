"""What every driver returns, and how a driver that was interrupted hands over what it had."""

from typing import Any, NamedTuple

import numpy as np


class Run(NamedTuple):
    """The end of a fit."""

    state: Any
    history: np.ndarray  # objective at the start and after each iteration, nats per unit weight
    converged: bool
    n_iter: int
    stats: Any = None  # expected statistics at the state, where the driver has them
    report: Any = None  # what else was found out on the way, in the words of the model

    @property
    def objective(self):
        return self.history[-1]


class FitInterrupted(KeyboardInterrupt):
    """Ctrl-C during a fit; `run` holds the best state so far."""

    def __init__(self, run):
        super().__init__("fit interrupted; the best state so far is kept")
        self.run = run
