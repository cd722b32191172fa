"""Likelihoods of different kinds side by side: one likelihood of all their columns."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from ...emissions.column_sweep import run_of
from ...emissions.columns import wrong_in
from .base import Eta, Likelihood, Linear


@dataclass(frozen=True)
class ColumnLikelihoods(Likelihood):
    """prod_g p_g(x_g | eta_g) over groups of columns.

    Outputs, constants and features stand group by group; columns stay in their places.
    """

    parts: tuple  # Likelihood of each group
    places: tuple  # (d_g,) the columns of each group

    name = "columns"

    @cached_property
    def _runs(self):
        """The columns of each part, as arrays and tensors like to be asked."""
        runs = [run_of(place) for place in self.places]
        return [run if isinstance(run, slice) else run.tolist() for run in runs]

    @cached_property
    def _order(self):
        return np.argsort(np.concatenate(self.places)).tolist()

    @cached_property
    def _sizes(self):
        """How many outputs, and how many constants, each part has."""
        parts = [(part, len(place)) for part, place in zip(self.parts, self.places, strict=True)]
        return [part.n_outputs(d) for part, d in parts], [part.n_constants(d) for part, d in parts]

    @cached_property
    def _given(self):
        """The parts that are given, and their columns."""
        pairs = zip(self.parts, self._runs, strict=True)
        return [(part, run) for part, run in pairs if part.n_contexts(1)]

    def _each(self, X):
        """The parts with their columns."""
        for part, run in zip(self.parts, self._runs, strict=True):
            yield part, X[..., run]

    def _of_parts(self, eta):
        """What the decoder says to each part."""
        outputs, constants = self._sizes
        return map(Eta, eta.outputs.split(outputs, -1), eta.constants.split(constants))

    def _together(self, values):
        """Put an array or tensor of each part, its columns on the last axis, in their places."""
        values = list(values)
        if isinstance(values[0], torch.Tensor):
            return torch.cat(values, -1)[..., self._order]
        return np.concatenate(values, axis=-1)[..., self._order]

    def _positions(self, kind, columns):
        """Positions of some columns' numbers of a kind: "outputs", "features", ..."""
        start, found = 0, []
        for part, place in zip(self.parts, self.places, strict=True):
            own = np.nonzero(columns[:, None] == place)[1]
            positions, d = getattr(part, kind), len(place)
            found.append(start + positions(own, d) if len(own) else own)
            start += len(positions(np.arange(d), d))
        return np.concatenate(found)

    def outputs(self, columns, d):
        return self._positions("outputs", columns)

    def constants(self, columns, d):
        return self._positions("constants", columns)

    def features(self, columns, d):
        return self._positions("features", columns)

    def contexts(self, columns, d):
        return self._positions("contexts", columns)

    def n_columns(self, n_features):
        return sum(map(len, self.places))

    def given(self, d):
        each = zip(self.parts, self.places, strict=True)
        return self._together(part.given(len(place)) for part, place in each)

    @property
    def solver(self):
        """That of the part that is modelled, where it is alone."""
        solvers = [part.solver for part in self.parts if part.n_outputs(1)]
        return solvers[0] if len(solvers) == 1 else "factors"

    def take(self, columns):
        divided = [np.nonzero(columns[:, None] == place) for place in self.places]
        kept = zip(self.parts, divided, strict=True)
        return joined([(part.take(own), mine) for part, (mine, own) in kept if len(own)])

    @property
    def spec(self):
        pairs = zip(self.parts, self.places, strict=True)
        return [(part.spec, place.tolist()) for part, place in pairs]

    @property
    def is_known(self):
        return all(part.is_known for part in self.parts)

    @property
    def base_measure(self):
        """(d,) what the density of each column is relative to."""
        each = zip(self.parts, self.places, strict=True)
        return self._together(np.full(len(place), p.base_measure, object) for p, place in each)

    def check(self, X):
        for (part, x), place in zip(self._each(X), self.places, strict=True):
            with wrong_in(place):
                part.check(x)

    def told(self, X, weight):
        each = zip(self._each(X), self.places, strict=True)
        return [(p, place[own]) for (part, x), place in each for p, own in part.told(x, weight)]

    def units(self, line, weight, mean, variance):
        each = zip(self._each(line), self.places, strict=True)
        units = [p.units(x, weight, mean[place], variance[place]) for (p, x), place in each]
        return tuple(map(self._together, zip(*units, strict=True)))

    def in_units(self, scale):
        return replace(self, parts=tuple(part.in_units(s) for part, s in self._each(scale)))

    def to_line(self, X):
        return self._together(part.to_line(x) for part, x in self._each(X))

    def from_line(self, line):
        return self._together(part.from_line(x) for part, x in self._each(line))

    def log_slope(self, X):
        return self._together(part.log_slope(x) for part, x in self._each(X))

    def of_complete_rows(self):
        parts = tuple(part.of_complete_rows() for part in self.parts)
        return replace(self, parts=parts, complete=True)

    def terms(self, x, eta):
        pairs = zip(self._each(x), self._of_parts(eta), strict=True)
        return self._together(part.terms(own, said) for (part, own), said in pairs)

    def log_prob(self, x, eta):
        pairs = zip(self._each(x), self._of_parts(eta), strict=True)
        return sum(part.log_prob(own, said) for (part, own), said in pairs)

    def log_prob_and_slope(self, x, eta):
        pairs = zip(self._each(x), self._of_parts(eta), strict=True)
        found = [part.log_prob_and_slope(own, said) for (part, own), said in pairs]
        log_p, slopes = zip(*found, strict=True)
        outputs, constants = zip(*slopes, strict=True)
        return sum(log_p), Eta(torch.cat(outputs, -1), torch.cat(constants))

    def fisher(self, eta):
        pairs = zip(self.parts, self._of_parts(eta), strict=True)
        return torch.cat([part.fisher(said) for part, said in pairs], -1)

    def information(self, x, eta, J):
        said = list(self._of_parts(eta))
        slopes = J.split([each.outputs.shape[-1] for each in said], -1)
        each = zip(self._each(x), said, slopes, strict=True)
        return sum(part.information(own, eta, slope) for (part, own), eta, slope in each)

    def mean(self, eta):
        pairs = zip(self.parts, self._of_parts(eta), strict=True)
        return self._together(part.mean(said) for part, said in pairs)

    def mode(self, eta):
        pairs = zip(self.parts, self._of_parts(eta), strict=True)
        return self._together(part.mode(said) for part, said in pairs)

    def sample(self, eta, rng):
        pairs = zip(self.parts, self._of_parts(eta), strict=True)
        return self._together(part.sample(said, rng) for part, said in pairs)

    def shown(self, x):
        return torch.cat([part.shown(own) for part, own in self._each(x)], -1)

    def telling(self, x):
        return self._together(part.telling(own) for part, own in self._each(x))

    def shows(self, x):
        return torch.cat([part.shows(own) for part, own in self._each(x)], -1)

    def context(self, x):
        return torch.cat([x[:, :0], *(part.context(x[..., run]) for part, run in self._given)], -1)

    def n_working(self, d):
        pairs = zip(self.parts, self.places, strict=True)
        return sum(part.n_working(len(place)) for part, place in pairs)

    def working(self, x, weight):
        return np.hstack([part.working(own, weight) for part, own in self._each(x)])

    def linear(self, x, weight, factors):
        linear, start = [], 0
        for part, own in self._each(x):
            m = part.n_working(own.shape[1])
            linear.append(part.linear(own, weight, factors.take(slice(start, start + m))))
            start += m
        W, offset, constants, information, pull, centre, spread, *_ = zip(*linear, strict=True)
        join = np.concatenate
        return Linear(
            join(W),
            join(offset),
            join(constants),
            sum(information),
            np.hstack(pull),
            join(centre),
            join(spread),
        )


def joined(pairs):
    """One likelihood of pairs (likelihood, columns), each column in one of them."""
    parts, places = zip(*pairs, strict=True)
    alone = len(parts) == 1 and np.array_equal(places[0], np.arange(len(places[0])))
    return parts[0] if alone else ColumnLikelihoods(parts, tuple(map(np.asarray, places)))
