"""The search for a mixture's size, structure and prior: candidates, their scores, their order."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from joblib import Parallel, delayed

from .emissions.family import STRUCTURES, CovarianceFamily
from .emissions.gaussian import Gaussian
from .emissions.simplex import Point
from .inference.growth import Found, Part, search_from
from .inference.history import FitInterrupted
from .mixture_state import MixtureState

LADDER = (4.0, 1.0, 0.25, 2.0**-5, 2.0**-10, 2.0**-16)
WORSE = 2  # priors in a row that score lower than a stronger one: weaker ones are left out
GAIN = 1e-3  # nats per unit weight that count as a higher score


class Candidate(NamedTuple):
    """A size, a structure and a prior, with what was found for them on each part of the rows."""

    structure: str
    strength: float
    K: int
    found: list[Found]  # all rows first, then what each fold trains on
    measures: dict[str, float]

    @property
    def states(self):
        return [found.run.state for found in self.found]

    @property
    def whole(self):
        return self.found[0]

    @property
    def name(self):
        return self.structure, self.strength, self.K

    @property
    def score(self):
        return self.measures["score"]


class Criterion(NamedTuple):
    """What is maximised, in nats per unit weight."""

    needs_folds: bool
    strengths: tuple  # of the prior: those tried by default
    margin: float  # candidates this close to the highest score are as good: the simplest is taken
    score: Callable


CRITERIA = {
    "cv": Criterion(True, LADDER, 0.01, lambda measures, weight: measures["held_out"]),
    "bic": Criterion(False, (1.0,), 0.0, lambda measures, weight: -measures["bic"] / (2 * weight)),
    "icl": Criterion(False, (1.0,), 0.0, lambda measures, weight: -measures["icl"] / (2 * weight)),
}


def sizes(largest):
    """1, 2, ... 8, then steps of a quarter: -> list of int."""
    K, tried = 1, []
    while largest >= K:
        tried.append(K)
        K += max(1, K // 4)
    return tried


def measures_of(found, parts):
    """Likelihoods and criteria of one candidate: -> dict of floats."""
    whole, rows = found[0], parts[0].train
    n_parameters = whole.run.state.n_parameters
    counted = float(rows.weight[~np.isnan(rows.X).all(axis=1)].sum())
    bic = -2 * whole.log_likelihood + n_parameters * np.log(counted)
    weights = np.array([part.test.weight.sum() for part in parts[1:]])
    held_out = np.array([one.held_out for one in found[1:]])
    means = held_out / weights
    folds = len(means)
    return {
        "held_out": held_out.sum() / weights.sum() if folds else np.nan,
        "held_out_se": means.std(ddof=1) / np.sqrt(folds) if folds > 1 else np.nan,
        "log_likelihood": whole.log_likelihood,
        "bic": bic,
        "icl": bic + 2 * whole.entropy,
        "n_parameters": n_parameters,
    }


@dataclass
class SizeSearch:
    """Ever more components for each structure, ever weaker priors for each size.

    Only the last states of each line (a structure under one prior) are kept, so memory does not
    grow with the number of candidates.
    """

    parts: list[Part]  # all rows first, then one part per fold
    family: CovarianceFamily
    criterion: Criterion
    largest: int
    strengths: list[float]  # descending
    patience: int
    n_jobs: "int | None" = None
    good: list = field(default_factory=list)  # candidates within the margin of the highest score
    table: dict = field(default_factory=dict)
    lines: dict = field(default_factory=lambda: defaultdict(dict))
    clusters: dict = field(default_factory=dict)  # of each size, on each part

    def run(self, structures):
        """The state of the best candidate on all rows."""
        try:
            for structure in structures:
                self._grow(structure)
            self._shrink()
        except KeyboardInterrupt:
            if not self.good:
                raise
            raise FitInterrupted(self.best.whole.run._replace(converged=False)) from None
        return self.best.whole.run.state

    @property
    def best(self):
        """The simplest of the good candidates; of equals, that of highest score."""
        return min(self.good, key=lambda one: (one.measures["n_parameters"], -one.score))

    def results(self):
        """What was measured of each candidate, and which is the best."""
        columns = defaultdict(list)
        for (structure, strength, K), measures in self.table.items():
            row = {"n_components": K, "covariance_type": structure, "prior_strength": strength}
            for name, value in {**row, **measures}.items():
                columns[name].append(value)
        best = list(self.table).index(self.best.name) if self.good else None
        return {name: np.array(values) for name, values in columns.items()}, best

    def _grow(self, structure):
        """Sizes in ascending order, until the score has not risen for some."""
        top, since = -np.inf, 0
        for K in sizes(self.largest):
            score = self._priors(structure, K)
            top, since = (score, 0) if score > top + GAIN else (top, since + 1)
            if since == self.patience:
                return

    def _priors(self, structure, K):
        """Priors of one size from strong to weak; the highest score."""
        top, worse, stronger = -np.inf, 0, None
        for strength in self.strengths:
            line = self.lines[structure, strength]
            smaller = line[max(line)] if line else None
            relatives = [candidate for candidate in (smaller, stronger) if candidate is not None]
            stronger = self._try(structure, strength, K, relatives, self._clusters(K))
            top, worse = (stronger.score, 0) if stronger.score > top + GAIN else (top, worse + 1)
            if worse == WORSE:
                break
        return top

    def _shrink(self):
        """Along the best line, merge the next larger state and keep what ends higher."""
        structure, strength, _ = self.best.name
        line = self.lines[structure, strength]
        for larger, K in zip(sorted(line)[:0:-1], sorted(line)[-2::-1]):
            self._try(structure, strength, K, [line[K], line[larger]])

    def _clusters(self, K):
        """Fresh starts on every part, which all structures and priors share."""
        if K not in self.clusters:
            run = Parallel(n_jobs=self.n_jobs)
            self.clusters[K] = run(delayed(Part.clusters)(part, K) for part in self.parts)
        return self.clusters[K]

    def _try(self, structure, strength, K, relatives, clusters=None):
        """Measure one candidate on every part, and keep it."""
        broad = self._broad(structure, strength, K)
        states = zip(*(candidate.states for candidate in relatives)) if relatives else None
        states = states or [()] * len(self.parts)
        clusters = clusters or [None] * len(self.parts)
        found = Parallel(n_jobs=self.n_jobs)(
            delayed(search_from)(part, broad, *from_where)
            for part, *from_where in zip(self.parts, states, clusters, strict=True)
        )
        measures = measures_of(found, self.parts)
        weight = self.parts[0].train.weight.sum()
        measures = {"score": self.criterion.score(measures, weight), **measures}
        candidate = Candidate(structure, strength, K, found, measures)
        self._keep(candidate)
        return candidate

    def _keep(self, candidate):
        """Write a candidate down, and forget those that nothing needs any more."""
        self.table[candidate.name] = candidate.measures
        line = self.lines[candidate.structure, candidate.strength]
        line[candidate.K] = candidate
        for old in sorted(line)[: -self.patience - 1]:
            del line[old]
        others = [one for one in self.good if one.name != candidate.name]
        good = [*others, candidate._replace(found=candidate.found[:1])]
        least = max(one.score for one in good) - self.criterion.margin
        self.good = [one for one in good if one.score >= least]

    def _broad(self, structure, strength, K):
        """A mixture of K equal components under the prior of a candidate."""
        kind = STRUCTURES[structure]
        prior = strength * kind.prior_count(len(self.family.mean), K)
        family = replace(self.family, structure=kind, prior=prior)
        return MixtureState(Point(np.full(K, 1 / K)), Gaussian().broad(family, K))
