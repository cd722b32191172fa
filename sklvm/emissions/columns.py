"""Emissions of different kinds side by side: given z, the groups of columns are independent."""

from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from ..numerics.linalg import posterior_and_evidence
from .base import Emission, OutsideSupport, Spec
from .column_sweep import ColumnStats, ColumnSweep, picked, run_of, told, view


@dataclass(frozen=True)
class ColumnEmissions(Emission):
    """p(x | z = k) = prod_g p_g(x_g | z = k) over groups of columns (mixed types, latent classes).

    A row that saw nothing of a group is no row of that group: EM then has less to guess.
    """

    parts: tuple  # Emission of each group
    places: tuple  # (d_g,) the columns of each group

    @property
    def groups(self):
        return self.parts

    def _each(self, X):
        """The parts with their columns of the rows."""
        for part, place in zip(self.parts, self.places, strict=True):
            yield part, picked(X, run_of(place))

    def _with(self, function):
        return replace(self, parts=tuple(function(part) for part in self.parts))

    def _divided(self, columns):
        """Part by part, which of some columns are its own, and where in it they are."""
        return [np.nonzero(columns[:, None] == place) for place in self.places]

    def _spread(self, values, shape):
        """Put an array of each part, its columns on the last axis, in their places."""
        whole = np.empty((*shape, self.n_features))
        for value, place in zip(values, self.places, strict=True):
            whole[..., place] = value
        return whole

    @property
    def n_features(self):
        """Columns of all groups."""
        return sum(map(len, self.places))

    @property
    def base_measure(self):  # type: ignore[override]
        """(d,) what the density of each column is relative to."""
        return _measures(self.parts, self.places)

    @property
    def kind(self):
        places = [place.tolist() for place in self.places]
        groups = zip(self.parts, places, strict=True)
        return " and ".join(f"{part.kind} in {place}" for part, place in groups)

    def check(self, X):
        for (part, x), place in zip(self._each(X), self.places, strict=True):
            with wrong_in(place):
                part.check(x)

    def log_prob(self, X):
        return sum(_log_prob_of_told(part, x) for part, x in self._each(X))

    def stats(self, X, resp):
        return ColumnStats(tuple(part.stats(*_told(x, resp)) for part, x in self._each(X)))

    def sweep(self, offset=0.0, known=None):
        offsets = np.zeros((len(self.parts), len(self.parts[0].expectation())))
        offsets[0] += offset
        known = [None] * len(self.parts) if known is None else known
        sweeps = [part.sweep(*own) for part, *own in zip(self.parts, offsets, known, strict=True)]
        return ColumnSweep(sweeps, [run_of(place) for place in self.places], offsets)

    def known(self, X, weight, total):
        return [
            part.known(view(X, run_of(place)), weight, total)
            for part, place in zip(self.parts, self.places, strict=True)
        ]

    def m_step(self, stats):
        parts = zip(self.parts, stats.parts, strict=True)
        return replace(self, parts=tuple(part.m_step(own) for part, own in parts))

    def start(self, X, resp):
        return replace(self, parts=tuple(part.start(*_told(x, resp)) for part, x in self._each(X)))

    def log_prior(self):
        return sum(part.log_prior() for part in self.parts)

    def predictive(self):
        return self._with(lambda part: part.predictive())

    def draw(self, rng):
        """The emission at parameters drawn from posteriors."""
        return self._with(lambda part: part.draw(rng))

    def sample(self, z, rng):
        return self._spread([part.sample(z, rng) for part in self.parts], (len(z),))

    def complete(self, X):
        completed = [part.complete(x) for part, x in self._each(X)]
        return self._spread(completed, completed[0].shape[:2])

    def complete_sample(self, X, z, rng):
        drawn = [part.complete_sample(x, z, rng) for part, x in self._each(X)]
        return self._spread(drawn, (len(X),))

    def climb(self, x, missing, resp):
        """One group after the other, so that each knows the responsibilities that others leave."""
        moved = x.copy()
        with np.errstate(divide="ignore"):
            joint = np.log(resp)
        for (part, own), place in zip(self._each(x), self.places, strict=True):
            gaps = missing[:, place]
            if gaps.any():
                there = part.climb(own, gaps, posterior_and_evidence(joint)[0])
                joint = joint + part.log_prob(there) - part.log_prob(own)
                moved[:, place] = there
        return moved

    def climb_within(self, whole, x, missing, resp):
        pairs = zip(self.parts, whole.noise.parts, strict=True)
        parts = tuple(replace(whole, clusters=part, noise=noise) for part, noise in pairs)
        return replace(self, parts=parts).climb(x, missing, resp)

    def expectation(self):
        parts = [part.expectation() for part in self.parts]
        return self._spread(parts, (len(parts[0]),))

    def cdf(self, X):
        parts = [part.cdf(x) for part, x in self._each(X)]
        return self._spread(parts, parts[0].shape[:2])

    def take(self, order):
        return self._with(lambda part: part.take(order))

    def marginal(self, columns):
        divided = zip(self.parts, self._divided(columns), strict=True)
        return _joined((part.marginal(own), mine) for part, (mine, own) in divided if len(own))

    def condition(self, seen, values):
        rest = np.setdiff1d(np.arange(self.n_features), seen)
        divided = zip(self.parts, self._divided(seen), self._divided(rest), strict=True)
        return _joined(
            (part.condition(own, values[known]) if len(own) else part, left[np.argsort(inside)])
            for part, (known, own), (left, inside) in divided
            if len(left)
        )

    def conditional_moments(self, X, seen, targets):
        """E and Cov of target columns given seen ones: -> (n, K, t), (n or 1, K, t, t).

        Between groups the covariance given z is zero.
        """
        K, t = len(self.expectation()), len(targets)
        means, covariances = np.empty((len(X), K, t)), np.zeros((1, K, t, t))
        divided = zip(self._each(X), self._divided(seen), self._divided(targets), strict=True)
        for (part, x), (_, own), (mine, wanted) in divided:
            if not len(wanted):
                continue
            means[:, :, mine], covariance = part.conditional_moments(x, own, wanted)
            if len(covariance) > len(covariances):
                covariances = np.repeat(covariances, len(covariance), axis=0)
            covariances[:, :, mine[:, None], mine] = covariance
        return means, covariances

    def pack(self, other):
        pairs = zip(self.parts, other.parts, strict=True)
        return np.concatenate([part.pack(there) for part, there in pairs])

    def unpack(self, vector):
        ends = np.cumsum([len(part.pack(part)) for part in self.parts])
        pieces = zip(self.parts, np.split(vector, ends[:-1]), strict=True)
        return replace(self, parts=tuple(part.unpack(piece) for part, piece in pieces))

    @property
    def spec(self):
        places = [place.tolist() for place in self.places]
        return [(part.spec, place) for part, place in zip(self.parts, places, strict=True)]

    @property
    def n_parameters(self):
        return sum(part.n_parameters for part in self.parts)


def _told(x, resp):
    """The rows that have an entry, with their responsibilities."""
    some = told(x)
    return (x, resp) if some is None else (x[some], resp[some])


def _log_prob_of_told(part, x):
    """A row that saw nothing of a group has 0 there; a posterior would charge it for guessing."""
    some = told(x)
    if some is None:
        return part.log_prob(x)
    log_prob = np.zeros((len(x), len(part.expectation())))
    log_prob[some] = part.log_prob(x[some])
    return log_prob


def _joined(groups):
    parts, places = zip(*groups, strict=True)
    return ColumnEmissions(parts, places)


@contextmanager
def wrong_in(place):
    """An error about some columns says which they are."""
    try:
        yield
    except OutsideSupport as error:
        raise OutsideSupport(str(error), place[error.columns]) from None
    except ValueError as error:
        raise OutsideSupport(str(error), place) from None


def _measures(parts, places):
    """(d,) the base measure of each column: parts are emissions or specs."""
    whole = np.empty(sum(map(len, places)), dtype=object)
    for part, place in zip(parts, places, strict=True):
        whole[place] = part.base_measure
    return whole


class Columns(Spec):
    """What a list of pairs (emission, columns) means, the emissions as specs."""

    def __init__(self, pairs):
        self.pairs = pairs

    def among(self, constant, resolve):
        position = np.cumsum(~constant) - 1
        groups = resolve([columns for _, columns in self.pairs])
        places = [position[group[~constant[group]]] for group in groups]
        specs = [spec for spec, _ in self.pairs]
        return Columns([pair for pair in zip(specs, places, strict=True) if len(pair[1])])

    def broad(self, family, K):
        """K copies of what each group makes of its own columns."""
        return self.joined(family, lambda spec, own: spec.broad(own, K))

    def background(self, family):
        """The noise of each group."""
        return self.joined(family, lambda spec, own: spec.background(own))

    def joined(self, family, make):
        """The emission whose groups are make(spec, what `family` says of the group's columns)."""
        return _joined((make(spec, family.marginal(place)), place) for spec, place in self.pairs)

    @property
    def base_measure(self):  # type: ignore[override]
        """(d,) what the density of each column is relative to."""
        return _measures(*zip(*self.pairs, strict=True))

    @property
    def matrix(self):  # type: ignore[override]
        """Whether any group needs the pooled covariance."""
        return any(spec.matrix for spec, _ in self.pairs)

    def set_tags(self, input_tags):
        for spec, _ in self.pairs:
            spec.set_tags(input_tags)

    def tally(self, X, weight, total):
        whole = [None] * X.shape[1]
        for spec, place in self.pairs:
            with wrong_in(place):
                parts = spec.tally(view(X, run_of(place)), weight, total)
            for column, part in zip(place, parts or (), strict=False):
                whole[column] = part
        return whole

    def comparable(self, X, family, complete):
        filled = complete(X)

        def part(spec, place):
            return spec.comparable(X[:, place], family.marginal(place), lambda x: filled[:, place])

        return np.concatenate([part(spec, place) for spec, place in self.pairs], axis=1)
