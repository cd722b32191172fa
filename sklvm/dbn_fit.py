"""How a belief network is fitted: what the next layer sees, where it starts, the exact slope."""

from typing import NamedTuple

import numpy as np
from scipy.special import expit, logsumexp

from .dbn_counts import COUNTED, joints, seen_bits, states
from .dbn_layers import DirectedLayer, thrown
from .inference.blocks import blocks
from .inference.contrastive import Weights
from .inference.training_rows import TrainingRows
from .rbm_fit import START, BernoulliColumns, model_statistics, statistics
from .rbm_sums import HiddenSum
from .rbm_units import GaussianUnits

GAP_STEPS = 20  # of the Gibbs chains that fill gaps before rows go up


class Data(NamedTuple):
    """What a layer is trained on."""

    rows: TrainingRows  # bits, or probabilities of bits that are drawn at each visit
    bound: float  # E[log p(x | h)] + entropy of h given x, or NaN: without E[log p(h)] of the bound


def plain(columns, machine, training):
    """A fitted machine as it stands for standardised rows, its weights in single precision.

    Stochastic training leaves such weights, so that those of other units round to the same.
    """
    weights = columns.standardise(machine, training.location, training.scale)
    return columns.plain(Weights(*(np.float64(np.float32(array)) for array in weights)))


def next_data(machine, training, rng):
    """Rows of the next layer: what the hidden bits of a machine are given its rows.

    The bits of a small layer are counted: each state is a row, and weighs what it is probable.
    Those of a large one are probabilities given the row, whose gaps are filled by Gibbs steps.
    """
    if machine.n_latents <= COUNTED:
        return _counted(machine, training)
    rows = machine.seen(training.X)
    if not rows.mask.all():
        h = thrown(np.zeros((len(rows.x), machine.n_latents)), rng.random((1, machine.n_latents)))
        rows = machine.seen(machine.gibbs(rows, h, rng, GAP_STEPS)[0])
    return Data(bits(expit(machine.hidden_input(rows.drive)), training.weight), np.nan)


def drawn(rows, rng):
    """Bits from their probabilities; bits stay as they are."""
    return rows._replace(X=(rng.random(rows.X.shape) < rows.X).astype(np.float64))


def bits(H, weight):
    q = H.shape[1]
    return TrainingRows(H, weight, np.zeros(q), np.ones(q))


def _counted(machine, training):
    layer, H = DirectedLayer.of(machine), states(machine.n_latents)
    share, bound = np.zeros(len(H)), 0.0
    for rows in blocks(len(training.X)):
        seen, weight = machine.seen(training.X[rows]), training.weight[rows]
        total = HiddenSum(machine).log_partial(seen)
        prior = layer.log_table(seen, H)
        log_share = prior + machine.log_hidden(H) - total[:, None]
        weighted = weight[:, None] * np.exp(log_share)
        share += weighted.sum(axis=0)
        bound += float((weighted * (prior - log_share)).sum())
    here = share > 0
    return Data(bits(H[here], share[here]), bound / training.weight.sum())


def transposed_start(machine, q, mean, rng):
    """The next machine as the transpose of the last: p(h) is then what the last one says of it.

    Bits to spare start near zero weights, which leaves p(h) nearly alone. Where bits are lacking
    those stay whose weights are largest, and the others act by their means (d,).
    """
    turned = machine.transposed()  # d bits above q_1
    W, b, c = turned.W, turned.b, turned.c
    lacking = len(c) - q
    if lacking > 0:
        order = np.argsort(-(W**2).sum(axis=1), kind="stable")
        kept, left = np.sort(order[:q]), order[q:]
        return Weights(b + mean[left] @ W[left], c[kept], W[kept], np.empty(0))
    spare = START * rng.standard_normal((max(-lacking, 0), W.shape[1]))
    c = np.concatenate([c, np.zeros(len(spare))])
    return Weights(b - 0.5 * spare.sum(axis=0), c, np.concatenate([W, spare]), np.empty(0))


def column_means(rows):
    """Weighted means of what is seen: (d,)."""
    seen = ~np.isnan(rows.X)
    return rows.weight @ np.nan_to_num(rows.X) / (rows.weight @ seen)


# --- the exact slope of a network whose states are counted -------------------------------------


class Network(NamedTuple):
    """What is trained, for standardised columns, from the bottom up."""

    directed: tuple  # of (b (d,), W (q, d))
    log_variance: np.ndarray  # (d,) of Gaussian columns, () for bits
    top: Weights

    def arrays(self):
        return [*(a for pair in self.directed for a in pair), self.log_variance, *self.top[:3]]

    def pack(self):
        return np.concatenate([np.ravel(a) for a in self.arrays()])

    def unpack(self, vector):
        """Another network of the same shapes."""
        sizes = np.cumsum([a.size for a in self.arrays()])[:-1]
        parts = [part.reshape(a.shape) for part, a in zip(np.split(vector, sizes), self.arrays())]
        n = 2 * len(self.directed)
        pairs = tuple(zip(parts[:n:2], parts[1:n:2]))
        return Network(pairs, parts[n], Weights(*parts[n + 1 :], np.empty(0)))

    def lower(self, log_floor):
        """Lower bounds: variances have a floor."""
        low = [np.full(a.size, -np.inf) for a in self.arrays()]
        low[2 * len(self.directed)][:] = log_floor
        return np.concatenate(low)

    def machines(self, columns):
        """Each layer as a machine of standardised rows; what is not trained in it is 0."""
        kinds = [columns] + [BernoulliColumns()] * len(self.directed)
        variance = [self.log_variance] + [np.empty(0)] * len(self.directed)
        below = [
            kind.plain(Weights(b, np.zeros(len(W)), W, v))
            for kind, (b, W), v in zip(kinds, self.directed, variance)
        ]
        return below, BernoulliColumns().plain(self.top)


def counted_objective(columns, start, X, share, decay):
    """vector -> (value, slope) of the mean log-likelihood less the prior of all W."""
    H = [states(len(W)) for _, W in start.directed]

    def value_and_gradient(vector):
        network = start.unpack(vector)
        below, top = network.machines(columns)
        layers = [DirectedLayer.of(machine) for machine in below]
        tables = [
            layer.log_table(seen_bits(h), above) for layer, h, above in zip(layers[1:], H, H[1:])
        ]
        model = model_statistics(top)
        free = top.log_unnormalised(seen_bits(H[-1])) - model.value
        _, priors = joints(tables, free)
        rows, weight, value, slopes = X, share, 0.0, []
        for layer, h, prior in zip(layers, H, priors):
            total, slope, weight = _directed_slope(layer, rows, weight, h, prior)
            value = value if slopes else total
            slopes.append(slope)
            rows = h
        data = statistics(top, H[-1], weight)
        gap = data - model._replace(**{k: v * weight.sum() for k, v in model._asdict().items()})
        arrays = [a for slope in slopes for a in slope[:2]]
        arrays += [slopes[0][2], gap.b, gap.c, gap.W]
        matrices = [W for _, W in network.directed] + [network.top.W]
        value -= 0.5 * decay * sum(np.sum(W**2) for W in matrices)
        for slope, W in zip([*arrays[1 : 2 * len(H) : 2], arrays[-1]], matrices):
            slope -= decay * W
        return value, np.concatenate([np.ravel(a) for a in arrays])

    return value_and_gradient


def _directed_slope(layer, X, weight, H, log_prior):
    """Weighted sum of log p(x_seen), its slope in b, W and log scale^2, and weights of states."""
    A, machine = layer.visible_input(H), layer.machine
    push, seen, posterior, total = 0.0, 0.0, 0.0, 0.0
    square = 0.0
    for block in blocks(len(X)):
        rows, w = machine.seen(X[block]), weight[block]
        joint = layer.log_table(rows, H) + log_prior
        log_p = logsumexp(joint, axis=1)
        r = w[:, None] * np.exp(joint - log_p[:, None])
        push, seen = push + r.T @ rows.drive, seen + r.T @ rows.mask
        posterior, total = posterior + r.sum(axis=0), total + float(w @ log_p)
        if isinstance(layer.units, GaussianUnits):
            y = np.where(rows.mask, (rows.x - layer.units.origin) / layer.units.scale, 0.0)
            square = square + w @ (y**2 - rows.mask) / 2
    G = push - seen * layer.units.drive_mean(A)
    variance = np.empty(0)
    if isinstance(layer.units, GaussianUnits):
        variance = square + (seen * A**2 / 2 / layer.units.scale**2 - push * A).sum(axis=0)
    return total, (G.sum(axis=0), H.T @ G, variance), posterior
