"""The state of a vector-quantised autoencoder: a mixture over codes whose means a network says."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from .networks.autoencoder import marginal_parameters
from .networks.codebook import Quantiser, chain_prior, shares
from .networks.importance import row_blocks
from .networks.likelihoods import ColumnLikelihoods
from .networks.likelihoods.base import Eta
from .networks.likelihoods.location_scale import GaussianLikelihood
from .numerics.linalg import posterior_and_evidence
from .posterior import CategoricalPosterior
from .standardised import StandardisedState

PRIOR_STEPS = 500  # of the EM that fits p(c), at most
CANDIDATES = 16  # most probable codes whose modes an imputation of the mode starts from
CLIMBS = 200  # steps up from there


@dataclass(frozen=True)
class VQVAEState(StandardisedState):
    """p(x) = Σ_c p(c) p(x | c) over all C = K^P codes, summed exactly, in float64."""

    likelihood: Any
    parameters: dict  # {name: ndarray} of `networks.codebook.Quantiser`
    location: np.ndarray  # (d,)
    scale: np.ndarray  # (d,)
    weights: np.ndarray  # (C,) p(c), the last position fastest
    architecture: Any  # a value of `networks.architectures`

    @property
    def shape(self):
        """(K, ..., K), one length for each position."""
        P, K, _ = self.parameters["codebook"].shape
        return (K,) * P

    @property
    def n_latents(self):
        return len(self.weights)

    @property
    def n_parameters(self):
        """Of p(c), and of p(x | c): no more than there are numbers that it depends on.

        A network is not charged for the affine maps of code vectors that change nothing.
        """
        P, K, m = self.parameters["codebook"].shape
        d, C = self.n_features, self.n_latents
        networks = [v for k, v in self.parameters.items() if not k.startswith("encoder")]
        network = sum(v.size for v in networks) - P * m * (m + 1)
        table = C * self.likelihood.n_outputs(d) + self.likelihood.n_constants(d)
        return min(network, table) + (K - 1) * (1 + (P - 1) * K)

    @property
    def _eta(self):
        """What the decoder says of every code: Eta of (C, n_outputs)."""
        model = Quantiser.of(self.parameters, self.likelihood, self.architecture)
        return model.requires_grad_(False).every_eta()

    def _eta_of(self, z):
        outputs, constants = self._eta
        return Eta(outputs[torch.from_numpy(z)], constants)

    def _log_likelihoods(self, x):
        """log p(x_seen | c) of standardised rows: tensor (n, d) -> tensor (n, C)."""
        outputs, constants = self._eta
        eta = Eta(outputs[:, None], constants)
        width = max(self.likelihood.n_outputs(self.n_features), 1)
        blocks = row_blocks(len(x), self.n_latents, width)
        return torch.cat([self.likelihood.log_prob(x[rows], eta).mT for rows in blocks])

    def _given(self, x):
        """The same: (n, d) -> (n, C)."""
        return self._log_likelihoods(torch.from_numpy(x)).numpy()

    def _log_weights(self):
        with np.errstate(divide="ignore"):
            return np.log(self.weights)

    def with_prior(self, rows, tol):
        """This state with the p(c) that makes `TrainingRows` most probable, by EM.

        It starts half way to equal shares, so that every code has one to lose, and ends where a
        step gains `tol` nats per row or less.
        """
        log_p, share = self._given(rows.X), rows.weight / rows.weight.sum()
        weights, before = (self.weights + 1 / self.n_latents) / 2, -np.inf
        for _ in range(PRIOR_STEPS):
            with np.errstate(divide="ignore"):
                resp, evidence = posterior_and_evidence(log_p + np.log(weights))
            if share @ evidence - before <= tol:
                break
            weights = chain_prior((share @ resp).reshape(self.shape)).ravel()
            before = share @ evidence
        return replace(self, weights=weights)

    def mean_log_prob(self, rows):
        """Weighted mean of log p of `TrainingRows`, in their own units."""
        evidence = posterior_and_evidence(self._given(rows.X) + self._log_weights())[1]
        return float(rows.weight @ evidence / rows.weight.sum())

    @property
    def table(self):
        """p(c) with an axis for each position: (K, ..., K)."""
        return self.weights.reshape(self.shape)

    def in_order(self):
        """The entries of each codebook by descending p(c_p), ties by where they are."""
        book, table = self.parameters["codebook"].copy(), self.table
        for p, (entries, share) in enumerate(zip(book, shares(self.table), strict=True)):
            order = np.lexsort((*entries.T[::-1], -np.round(share, 6)))
            book[p], table = entries[order], np.take(table, order, axis=p)
        parameters = self.parameters | {"codebook": book}
        return replace(self, parameters=parameters, weights=table.ravel())

    def log_prob(self, X):
        evidence = self._posterior_and_evidence(X)[1]
        return np.where(np.isnan(X).all(axis=1), 0.0, evidence - self.log_jacobian(X))

    def _posterior_and_evidence(self, X):
        """p(c | x_seen) and log p of the standardised rows: (n, d) -> (n, C), (n,)."""
        return posterior_and_evidence(self._given(self.standardised(X)) + self._log_weights())

    def responsibilities(self, X):
        return self._posterior_and_evidence(X)[0]

    def posterior(self, X):
        return CategoricalPosterior(self.responsibilities(X), self.weights)

    def elbo_terms(self, X):
        posterior, log_p = self.posterior(X), self._given(self.standardised(X))
        fit = (posterior.probs * log_p).sum(axis=1) - self.log_jacobian(X)
        log_weights = np.where(self.weights > 0, self._log_weights(), 0.0)
        return fit, posterior.probs @ log_weights, posterior.entropy()

    def means(self):
        """E[x | c] of every code: (C, d)."""
        return self.in_units(self.likelihood.mean(self._eta).expand(self.n_latents, -1))

    def sample(self, n, rng):
        z = rng.choice(self.n_latents, size=n, p=self.weights)
        return self.in_units(self.likelihood.sample(self._eta_of(z), rng)), z

    def expectation(self, Z):
        """E[x] under weights of the codes: (n, C) -> (n, d)."""
        return Z @ self.means()

    def fill_mean(self, X):
        return self.responsibilities(X) @ self.means()

    def fill_sample(self, X, rng):
        z = self.posterior(X).sample(1, int(rng.integers(2**31)))[0]
        return self.in_units(self.likelihood.sample(self._eta_of(z), rng))

    def fill_mode(self, X):
        """The highest of the points where a climb from each likely code's own mode ends."""
        modes = self.in_units(self.likelihood.mode(self._eta).expand(self.n_latents, -1))
        likely = np.argsort(-self.responsibilities(X), axis=1, kind="stable")[:, :CANDIDATES]
        best, height = None, np.full(len(X), -np.inf)
        for code in likely.T:
            x = self._climbed(np.where(np.isnan(X), modes[code], X), np.isnan(X))
            value = self.log_prob(x)
            best = x if best is None else np.where((value > height)[:, None], x, best)
            height = np.maximum(height, value)
        return best

    def _climbed(self, X, missing):
        """Missing entries of columns with a location moved uphill by mean shift: (n, d) -> (n, d).

        A step is the slope over the mean curvature of the codes. Gaussian columns never go down by
        it; a row that would stays where it is.
        """
        columns, first, logs = _located(self.likelihood, self.n_features)
        if not len(columns):
            return X
        F = self.likelihood.fisher(self._eta).numpy()[:, first]  # (C, located)
        scale, log_weights = torch.tensor(self.scale), torch.from_numpy(self._log_weights())
        height = self.log_prob(X)
        for _ in range(CLIMBS):
            x = torch.from_numpy(self.standardised(X)).requires_grad_(True)
            joint = self._log_likelihoods(x) + log_weights
            level = joint.logsumexp(1).sum() - (x * scale)[:, logs].sum()
            slope = torch.autograd.grad(level, x)[0].numpy()[:, columns]
            new = x.detach().numpy().copy()
            new[:, columns] += slope / (joint.detach().softmax(1).numpy() @ F)
            new = np.where(missing, self.in_units(new), X)
            value = self.log_prob(new)
            up = value > height
            if not up.any():
                break
            X, height = np.where(up[:, None], new, X), np.maximum(height, value)
        return X

    def marginal(self, columns):
        parameters, architecture = marginal_parameters(
            self.parameters, columns, self.likelihood, self.architecture
        )
        return replace(
            self,
            likelihood=self.likelihood.take(columns),
            parameters=parameters,
            location=self.location[columns],
            scale=self.scale[columns],
            architecture=architecture,
        )


def _located(likelihood, d):
    """Columns with a location and a scale, its place among the outputs, and which are logarithms.

    -> (m,) and (m,) integers, (d,) bool.
    """
    parts, places = [likelihood], [np.arange(d)]
    if isinstance(likelihood, ColumnLikelihoods):
        parts, places = likelihood.parts, likelihood.places
    own = [isinstance(part, GaussianLikelihood) for part in parts]
    columns = np.concatenate(
        [np.arange(0), *(c for c, is_own in zip(places, own, strict=True) if is_own)]
    )
    first = [likelihood.outputs(np.array([j]), d)[0] for j in columns]
    logs = np.zeros(d, bool)
    for part, place in zip(parts, places, strict=True):
        logs[place] = part.name == "log_normal"
    return columns, first, logs
