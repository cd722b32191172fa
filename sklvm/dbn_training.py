"""How a belief network trains: layer by layer, then all of it."""

from dataclasses import replace

import numpy as np

from .dbn_counts import COUNTED
from .dbn_fit import (
    Network,
    column_means,
    counted_objective,
    drawn,
    next_data,
    plain,
    transposed_start,
)
from .dbn_layers import DirectedLayer
from .dbn_state import BeliefState
from .inference.ascend import ascend
from .inference.contrastive import DrawnContrast, Weights, contrastive
from .inference.history import FitInterrupted
from .inference.training_rows import TrainingRows
from .inference.wake_sleep import Half, WakeSleep
from .rbm import RBM
from .rbm_fit import BernoulliColumns, first_weights
from .rbm_state import RBMState
from .rbm_training import TrainedMachine
from .rbm_units import BernoulliUnits

PARTICLES = {"reweighted": 5, "up_down": 1}  # ways up in each step of fine-tuning


class HiddenLayer(RBM):
    """A machine whose rows are probabilities of bits."""

    _contrast_of = DrawnContrast


class Stack:
    """What the stages of one fit share, and what they have made so far."""

    def __init__(self, model, columns, training, report):
        self.model, self.columns, self.training, self.report = model, columns, training, report
        self.layers, self.machines = [], []  # in the units of X; of standardised rows
        self.seed = None

    def state(self, top):
        """The network of the layers so far below a machine."""
        return self.state_of(self.layers, top)

    def state_of(self, layers, top):
        if not layers:
            return top
        model, training = self.model, self.training
        shown = min(model._shown(), len(layers))
        mean = column_means(training) * training.scale + training.location
        return BeliefState.of(layers, top, shown, mean, model.n_importance_samples, self.seed)

    def tuned(self, halves, log_variance):
        """Directed layers in the units of X, from arrays (b, W, c, R) of standardised columns."""
        (b, W, c, R), *others = halves
        location, scale = self.training.location, self.training.scale
        lowest = self.columns.machine(Weights(b, c, W, log_variance), location, scale)
        above = [DirectedLayer(BernoulliUnits(), *half) for half in others]
        return [replace(DirectedLayer.of(lowest), R=R * scale), *above]

    def run(self, stage):
        """stage(report) -> Run, in the words of the network."""

        def told(iteration, top, objective):
            return self.report(iteration, self.state(top), objective)

        try:
            run = stage(None if self.report is None else told)
        except FitInterrupted as stop:
            run = stop.run
            raise FitInterrupted(run._replace(state=self.state(run.state))) from None
        return run


class TrainedNetwork(TrainedMachine):
    """The part of the estimator between validated rows and a Run."""

    def _train(self, columns, training, rng, report):
        """Layer by layer, then all of it: -> Run."""
        stack = Stack(self, columns, training, report)
        run = self._layerwise(stack, rng)
        if len(self._sizes()) > 1 and self.fine_tuning is not None:
            return self._tune(stack, run.state, rng)
        return run._replace(state=stack.state(run.state))

    def _trainer(self, kind, q):
        """The machine that trains one layer."""
        names = kind._parameter_constraints.keys() & self._parameter_constraints.keys()
        return kind(q, **{name: getattr(self, name) for name in names})

    def _layerwise(self, stack, rng):
        """Machine by machine, each on what the last one makes of its rows: -> Run of the last."""
        (q, *above), columns, rows = self._sizes(), stack.columns, stack.training
        first = self._trainer(RBM, q)
        start = first_weights(columns, rows, q, rng)
        solve = first._solver(columns, rows)
        run = stack.run(lambda report: solve(columns, rows, start, rng, report))
        machine, bound = plain(columns, run.state.machine, rows), -rows.log_jacobian()
        for q in above:
            stack.seed = int(rng.integers(2**31)) if stack.seed is None else stack.seed
            stack.layers.append(DirectedLayer.of(run.state.machine))
            stack.machines.append(machine)
            data = next_data(machine, rows, rng)
            bound = bound + data.bound
            start = self._next_start(machine, rows, data.rows, q, rng)
            rows = drawn(data.rows, rng)  # of counted states: themselves
            run = self._next_layer(stack, start, data.rows, rows, bound, rng)
            machine = run.state.machine
        return run

    def _next_start(self, machine, below, rows, q, rng):
        """First weights of a machine on top of another, which has seen the rows `below`."""
        if isinstance(machine.units, BernoulliUnits):
            return transposed_start(machine, q, column_means(below), rng)
        return first_weights(BernoulliColumns(), rows, q, rng)

    def _next_layer(self, stack, start, rows, some, bound, rng):
        """A machine of bits on top: rows are their probabilities, some of them drawn: -> Run."""
        columns, trainer = BernoulliColumns(), self._trainer(HiddenLayer, len(start.c))
        if trainer._solver(columns, some) == trainer._climb:
            offset = bound if np.isfinite(bound) else 0.0
            return stack.run(
                lambda report: trainer._climb(columns, some, start, rng, report, offset)
            )
        return stack.run(lambda report: trainer._descend(columns, rows, start, rng, report))

    # -- all layers together -------------------------------------------------------------------

    def _tune(self, stack, top, rng):
        counted = max(self._sizes()[:-1]) <= COUNTED
        if self.fine_tuning == "exact" and not counted:
            raise ValueError(
                f"fine_tuning='exact' counts the states of layers of at most {COUNTED} bits below "
                f"the last one, got {self._sizes()}: use fine_tuning='reweighted'"
            )
        if self.fine_tuning == "exact" or (self.fine_tuning == "auto" and counted):
            return self._climb_network(stack, top)
        return self._wake_and_sleep(stack, top, rng)

    def _climb_network(self, stack, top):
        """L-BFGS on the exact likelihood: -> Run."""
        columns, training = stack.columns, stack.training
        total = training.weight.sum()
        start = self._network(stack, top)

        def state_of(vector):
            network = start.unpack(vector)
            halves = [(b, W, np.zeros(len(W)), W) for b, W in network.directed]
            machine = BernoulliColumns().plain(network.top)
            return stack.state_of(
                stack.tuned(halves, network.log_variance), RBMState.of(machine, None)
            )

        return ascend(
            counted_objective(
                columns, start, training.X, training.weight / total, self.weight_prior / total
            ),
            start.pack(),
            state_of,
            bounds=(start.lower(columns.log_floor), np.inf),
            max_iter=self.max_iter,
            tol=self.tol / 100,
            offset=-training.log_jacobian(),
            callback=stack.report,
        )

    def _network(self, stack, top):
        columns = [stack.columns] + [BernoulliColumns()] * len(stack.machines)
        weights = [
            kind.standardise(machine, 0.0, 1.0)
            for kind, machine in zip(columns, [*stack.machines, top.machine])
        ]
        directed = tuple((w.b, w.W) for w in weights[:-1])
        return Network(directed, weights[0].log_variance, weights[-1])

    def _wake_and_sleep(self, stack, top, rng):
        """Stochastic steps of both halves: -> Run."""
        columns, training = stack.columns, stack.training
        network, total = self._network(stack, top), training.weight.sum()
        quick = np.random.Generator(np.random.SFC64(int(rng.integers(2**63))))
        seed = int(rng.integers(2**31))
        method = "reweighted" if self.fine_tuning == "auto" else self.fine_tuning
        halves = [Half(m.b, m.W, m.c, m.W) for m in stack.machines]
        trained = WakeSleep(
            columns.sampler(quick),
            halves,
            network.top,
            network.log_variance,
            training.X,
            training.weight,
            n_particles=PARTICLES[method],
            n_chains=self.n_chains,
            n_steps=self.n_steps,
            rng=quick,
        )

        def state_of(end):
            layers = stack.tuned(end.halves, network.log_variance)
            machine = BernoulliColumns().plain(end.top)
            mean = np.clip(end.means[-2], 1e-3, 1 - 1e-3).astype(np.float64)
            base = np.log(mean) - np.log1p(-mean)
            chains = self._annealing(base, end.particles, end.means[-1], seed)
            return stack.state_of(layers, RBMState.of(machine, chains))

        return contrastive(
            trained,
            training.weight,
            epochs=self._n_epochs(total),
            batch_size=self.batch_size,
            learning_rate=self._rate(columns),
            decay=self.weight_prior / total,
            rng=rng,
            state_of=state_of,
            callback=stack.report,
        )

    def _refit(self, X, weight, rng):
        """The exact solver over other rows, from the fitted weights: -> Run."""
        state = self.run_.state
        if isinstance(state, RBMState):
            return super()._refit(X, weight, rng)
        columns = self._columns_like(state.layers[0].machine)
        training = TrainingRows.of(columns.read(X), weight, columns.units)
        stack = Stack(self, columns, training, None)
        stack.machines.append(plain(columns, state.layers[0].machine, training))
        stack.machines.extend(layer.machine for layer in state.layers[1:])
        return self._climb_network(stack, state.top)
