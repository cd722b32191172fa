"""`partial_fit` of mixtures: a start on the first rows, then stepwise EM, batch by batch."""

import numpy as np
from scipy.optimize import linear_sum_assignment

from ._compat import _fit_context
from .base import all_or_nothing, fitted, freeze
from .inference.history import Run
from .inference.start import Rows, representative
from .inference.stream import Pooled, Stream, enough
from .validation import TrainingData, read_rows, read_weight, telling, training_data

GROWTH = 1.25  # while the first rows are gathered, each fit has this much more weight than the last


class StreamedFit:
    """Turns a mixture's fit into one that goes on, batch by batch."""

    _stream = None  # Stream, once the first rows have been fitted
    _gathered = None  # Rows, while they are too few
    _pooled = None  # Pooled, of the last fit

    @all_or_nothing
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None, sample_weight=None):
        """Learn from one more batch by stepwise EM.

        The first rows, until they weigh n_components * max(20, 2 n_features), are kept and fitted
        as by `fit`. From then on no row is kept: each batch moves the expected statistics a little,
        the less the more batches there were, and the model is what their average over the last
        quarter of the steps implies. Batches lighter than the first rows wait for one another.
        After `fit` it goes on from there.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows; NaN marks missing entries, which are integrated out exactly. The first batch needs
            a total weight of n_components, and at least 2.
        y : Ignored
            Present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Counts: an integer weight equals repeating the row within the batch.

        Returns
        -------
        self : object
            `history_` holds the objective of each step's rows before the step, which may fall.

        Raises
        ------
        ValueError
            Besides what `fit` refuses: rows of another width, and a column that was constant in the
            first rows and varies now.

        References
        ----------
        Cappe & Moulines (2009), On-line expectation-maximization for latent data models.

        Examples
        --------
        >>> import numpy as np
        >>> from sklvm import GaussianMixture
        >>> rng = np.random.default_rng(0)
        >>> model = GaussianMixture(2, random_state=0)
        >>> for _ in range(100):
        ...     batch = rng.normal(size=(200, 1)) + 8 * (rng.uniform(size=(200, 1)) < 0.25)
        ...     model = model.partial_fit(batch)
        >>> bool(abs(np.sort(model.means_.ravel()) - [0, 8]).max() < 0.1)
        True
        >>> model.n_samples_seen_
        20000.0
        """
        fresh = "run_" not in vars(self)
        X = read_rows(self, X, reset=fresh, dtype=self._input_dtype)
        weight = read_weight(sample_weight, X)
        use = telling(X, weight)
        batch = Rows(X[use], weight[use])
        if fresh:
            self._gather(batch, self._fit_first)
        elif not use.any():
            pass  # nothing was seen
        elif self._pooled is None:  # made by from_parameters: a model that knows no rows
            self._gather(self._varying_rows(batch), self._learn_first)
        elif self._gathered is not None:
            self._gather(batch, self._fit_first)
        else:
            self._learn(self._varying_rows(batch))
        return self

    @fitted
    def n_samples_seen_(self):
        """Rows that `fit` or `partial_fit` saw, counted by weight: a float."""
        return self.total_weight_

    # -- the first rows --------------------------------------------------------------------------

    def _gather(self, batch, use):
        """Add to the rows that are kept; use(all of them, whether they are enough)."""
        if self._gathered is not None:
            batch = Rows(*map(np.concatenate, zip(self._gathered, batch)))
        self._gathered = batch
        total, (n, d) = float(batch.weight.sum()), batch.X.shape
        ready = enough(total, n, self.n_components, d)
        use(batch, ready)
        if ready:
            self._gathered = None
        self.total_weight_ = total

    def _fit_first(self, rows, ready):
        """Fit all rows so far, unless they are few more than at the last time."""
        known = 0.0 if self._pooled is None else self._pooled.weight
        if not ready and rows.weight.sum() < GROWTH * known:
            return
        data = training_data(self, *rows, min_weight=max(2, self.n_components))
        family, before = self._family(data), vars(self).get("run_")
        self._pooled = Pooled.of(family)
        run = self._drive(lambda: self._climb(data, family), data)
        if before is not None:
            run = self._renamed(run, before.state, data)
        self._finish(_unfinished(run), data)

    def _renamed(self, run, before, data):
        """The components named as those of the state before that they share most rows with."""
        X = representative(data.X, data.weight).X
        kept = np.flatnonzero(~self.constant_[~data.constant])  # what varied before varies now
        old = before.predictive().responsibilities(X[:, kept])
        new = run.state.predictive().responsibilities(X)
        shared = (old.T @ new)[: before.n_clusters, : before.n_clusters]
        noise = np.arange(before.n_clusters, before.n_latents)
        order = np.concatenate([linear_sum_assignment(-shared)[1], noise])
        return run._replace(state=run.state.take(order), stats=run.stats.take(order))

    def _learn_first(self, rows, ready):
        if ready:
            data = TrainingData(*rows, None, self.constant_, self.constant_values_)
            self._pooled = Pooled.of(self._family(data))
            self._learn(rows, self._pooled)

    # -- the stream ------------------------------------------------------------------------------

    def _learn(self, rows, pooled=None):
        """Read a batch, and take a step when enough rows wait for one."""
        self._in_support(rows.X, self.run_.state, self.constant_)
        run, stream = self.run_, self._stream
        if stream is None:
            run, stream = _unfinished(run), Stream.of(run.state, run.stats, self._pooled)
        pooled = pooled or stream.pooled.add(*rows, self.n_jobs)
        stream = stream.read(*rows, pooled, self.n_jobs)
        if stream.ready(self.n_components):
            broad = self._prior(pooled, run.state)
            stream, objective = _step(stream, broad)
            history = np.append(run.history, objective)
            run = Run(stream.reported(broad), history, False, stream.steps)
            if self.verbose and stream.steps % self.verbose_interval == 0:
                print(f"{type(self).__name__} batch {stream.steps}: {objective:.6f} nats per row")
        freeze(run.state)
        self.run_, self._stream, self.total_weight_ = run, stream, pooled.weight

    def _prior(self, pooled, state):
        """A state that holds the prior for all rows so far."""
        spec, moments = self._emission(self.constant_), pooled.mean_and_spread()
        family = self._family_of(spec, *moments, pooled.weight, pooled.tally)
        return self._alike(self._broad(family, self.constant_), state)

    def _varying_rows(self, rows):
        """The columns of the density; those outside it must stay what they are."""
        constant = self.constant_
        left = rows.X[:, constant]
        departs = ((left != self.constant_values_[constant]) & ~np.isnan(left)).any(axis=0)
        if departs.any():
            raise ValueError(
                f"columns {np.flatnonzero(constant)[departs].tolist()} were constant in the first "
                "rows and are outside the density, but vary now: start with rows in which they vary"
            )
        return rows._replace(X=self._varying(rows.X))


def _step(stream, broad):
    try:
        return stream.step(broad)
    except np.linalg.LinAlgError as error:
        raise ValueError(f"a component collapsed ({error}); use covariance_prior='auto'") from None


def _unfinished(run):
    """The end of a fit as the beginning of a stream."""
    return run._replace(converged=False, n_iter=0, history=run.history[-1:])
