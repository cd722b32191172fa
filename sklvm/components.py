"""How models of a discrete latent and any emission start: scale, priors, parts of the rows."""

import numpy as np

from ._compat import Integral, Interval, Real, StrOptions
from .emissions.family import STRUCTURES, ColumnFamily, CovarianceFamily
from .emissions.gaussian import Gaussian
from .emissions.simplex import Point
from .inference.blocks import sum_blocks
from .inference.em import SHORT, em
from .inference.moments import column_moments, pooled_moments
from .inference.start import STARTS, complete_by_draw, representative
from .mixture_state import MixtureState


def canonical_order(weights, means, n_clusters=None):
    """Descending weight rounded to 1e-6, ties by lexicographic means: -> (K,). Noise stays last."""
    noise = np.arange(len(weights)) >= (len(weights) if n_clusters is None else n_clusters)
    return np.lexsort((*means.T[::-1], -np.round(weights, 6), noise))


class ComponentFit:
    """What the fits of mixtures and of hidden Markov models share."""

    _parameter_constraints: dict = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0.0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "init_params": [StrOptions(set(STARTS))],
        "random_state": ["random_state"],
        "warm_start": ["boolean"],
        "accelerate": [StrOptions({"squarem"}), None],
        "n_jobs": [None, Integral],
        "verbose": ["verbose"],
        "verbose_interval": [Interval(Integral, 1, None, closed="left")],
    }

    def _emission(self, constant):
        """The spec of what a component is, over the columns that vary: constant is (d,) bool."""
        return Gaussian()

    def _family(self, data):
        """What the rows say of the scale of the parameters."""
        spec, rows = self._emission(data.constant), (data.X, data.weight)
        moments = pooled_moments if spec.matrix else column_moments
        with self._naming_columns(data.constant):
            tally = spec.tally(*rows, sum_blocks)
        return self._family_of(spec, *moments(*rows), float(data.weight.sum()), tally)

    def _family_of(self, spec, mean, spread, weight, tally):
        if spec.matrix:
            return CovarianceFamily(*self._structure(), mean, spread, weight, tally)
        return ColumnFamily(mean, spread, weight, tally)

    def _structure(self):
        """Covariance structure, pseudo-observations of the pooled covariance, absolute ridge."""
        return STRUCTURES[self.covariance_type], self.covariance_prior, self.reg_covar

    @property
    def _goes_on(self):
        """Whether a fit starts where the last one ended."""
        return self.warm_start and "run_" in vars(self)

    def _names_components(self, labels):
        """Whether something outside the data says which component is which."""
        return labels is not None or self._goes_on

    def _before(self, data):
        state = self.run_.state
        K = state.n_clusters
        if self.n_components != K or not np.array_equal(data.constant, self.constant_):
            raise ValueError(
                f"warm_start goes on from {K} components over the same varying columns; got "
                f"n_components={self.n_components}: fit a fresh model"
            )
        return state

    def _alike(self, broad, before):
        """A state of this model's settings, refused where one before is of another kind."""
        now, was = _kind(broad), _kind(before)
        if now != was:
            raise ValueError(
                f"{type(self).__name__} cannot go on from {was} as {now}: put the parameters back, "
                "or fit a fresh model"
            )
        return broad

    def _comparable(self, sample, spec, family, rng):
        """Rows without gaps, of a common unit of length: (n, m)."""

        def complete(X):
            filled = self._completed(X, sample[1], spec, family, rng)
            return (filled - family.mean) / np.sqrt(family.variance)

        return spec.comparable(sample[0], family, complete)

    def _starts(self, sample, Z, broad, constant, rng):
        X, weight = sample[:2]
        for n_filled in self._filled_components():
            resp = np.zeros((len(Z), self.n_components))
            resp[:, :n_filled] = self._parts(Z, weight, n_filled, rng)
            if len(sample) == 3:
                resp = _respect(sample[2], weight, resp, Z)
            try:
                start = broad.start(X, broad.emission.shared(resp * weight[:, None]))
            except np.linalg.LinAlgError:
                continue  # a component of too few rows; `em_from_best` says so if no start is left
            yield self._named_start(start, constant)

    def _parts(self, Z, weight, K, rng):
        """The rows of a start divided among K components: responsibilities (n, K)."""
        return STARTS[self.init_params](Z, weight, K, rng)

    def _completed(self, X, weight, spec, family, rng):
        """Rows of the starts with a draw for each missing entry: (n, d) -> (n, d).

        From the pooled covariance, or from one component where no matrix of all features is made.
        """
        if spec.matrix:
            return complete_by_draw(X, family.mean, family.target(1), rng)
        if not np.isnan(X).any():
            return X
        one = MixtureState(Point(np.ones(1)), spec.broad(family, 1))
        start = one.start(X, weight[:, None])
        one = em(start, (X, weight), max_iter=SHORT, tol=self.tol).state
        return one.fill_sample(X, rng)

    def _filled_components(self):
        """How many components each start gives rows to."""
        n_starts = self.n_init if self.n_components > 1 else 1  # one component has one start
        return [self.n_components] * n_starts

    def _named_start(self, state, constant):
        """A start with what the user fixed of it in place, less the constant (d,) columns."""
        return state


def _kind(state):
    """What a state is made of: two of a kind understand each other's statistics."""
    return f"{state.n_clusters} {state.emission.kind} ({state.n_parameters} parameters)"


def sample_rows(data):
    """Distinct rows that the short runs see; rows with different labels are different rows."""
    if data.labels is None:
        return representative(data.X, data.weight)
    labelled, weight = representative(np.column_stack([data.X, data.labels]), data.weight)
    return labelled[:, :-1], weight, labelled[:, -1].astype(int)


def _respect(labels, weight, resp, Z):
    """Responsibilities that hold the known labels; other rows go to the nearest centre.

    Components with a known row start at the mean of these rows; the others take over those
    starting clusters that lie farthest from any known centre.
    """
    K, known = resp.shape[1], labels >= 0
    named = np.unique(labels[known])
    held = np.eye(K)[labels[known]][:, named] * weight[known, None]
    centres = held.T @ Z[known] / held.sum(axis=0)[:, None]
    free = np.setdiff1d(np.arange(K), named)
    mass = weight @ resp
    clusters = ((resp * weight[:, None]).T @ Z)[mass > 0] / mass[mass > 0, None]
    if len(named):
        clusters = clusters[np.argsort(-_squared_distance(clusters, centres).min(axis=1))]
    centres = np.concatenate([centres, clusters[: len(free)]])
    component = np.concatenate([named, free])[: len(centres)]
    nearest = component[_squared_distance(Z, centres).argmin(axis=1)]
    return np.eye(K)[np.where(known, labels, nearest)]


def _squared_distance(A, B):
    return ((A[:, None, :] - B) ** 2).sum(axis=2)
