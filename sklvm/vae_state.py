"""The state of a variational autoencoder: arrays that answer every question about the density."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from .networks.autoencoder import Autoencoder, marginal_parameters
from .networks.importance import Gaussian, laplace, matched, normal_points, row_blocks, weigh
from .networks.refinement import lower_bound, tighten
from .numerics.pareto import tail_shape
from .posterior import PriorPosterior
from .standardised import StandardisedState


@dataclass(frozen=True)
class VAEState(StandardisedState):
    """p(x | z) p(z) as arrays; every question about it is answered in float64, row by row."""

    likelihood: Any
    parameters: dict  # {name: ndarray} of `networks.autoencoder.Autoencoder`
    location: np.ndarray  # (d,)
    scale: np.ndarray  # (d,)
    points: np.ndarray  # (S, q) standard normal noise, shared by all rows
    architecture: Any  # a value of `networks.architectures`

    @property
    def n_latents(self):
        return self.points.shape[1]

    @property
    def n_parameters(self):
        """Those of decoder and prior, less the changes of z that change nothing."""
        prior = self.model().prior
        decoder = sum(v.size for k, v in self.parameters.items() if k.startswith("decoder"))
        return decoder + prior.n_parameters - prior.degeneracy

    @property
    def has_encoder(self):
        """False where what stands for one is zero: it says N(0, I) of every row."""
        return any(v.any() for k, v in self.parameters.items() if k.startswith("encoder"))

    def model(self):
        """The networks, in float64."""
        model = Autoencoder.of(self.parameters, self.likelihood, self.architecture)
        return model.requires_grad_(False)

    def _ask(self, X, question):
        """question(model, standardised rows, Laplace) -> tuple of (n, ...) tensors: as arrays."""
        points = torch.tensor(self.points)
        return self._ask_rows(X, lambda model, x: question(model, x, laplace(model, x, points)))

    def _ask_rows(self, X, question):
        """question(model, standardised rows) -> tuple of (n, ...) tensors: as arrays."""
        model = self.model()
        x = torch.from_numpy(self.standardised(X))
        outputs = self.likelihood.n_outputs(self.n_features)
        width = max(2 * outputs, self.n_latents**2, self.architecture.width)
        parts = [question(model, x[rows]) for rows in row_blocks(len(x), len(self.points), width)]
        return [torch.cat(pieces).numpy() for pieces in zip(*parts, strict=True)]

    def log_prob(self, X):
        points = torch.tensor(self.points)

        def evidence(model, x, found):
            return (weigh(model, x, found, points).log_evidence(),)

        (log_p,) = self._ask(X, evidence)
        return np.where(self.says_nothing(X), 0.0, log_p - self.log_jacobian(X))

    def diagnosed_log_prob(self, X):
        """log p(x), its standard error, the points' effective number, their Pareto k: (n, 4)."""
        points = torch.tensor(self.points)

        def evidence(model, x, found):
            weighted = weigh(model, x, found, points)
            shape = torch.from_numpy(tail_shape(weighted.log_weight.numpy()))
            parts = weighted.log_evidence(), weighted.standard_error(), weighted.effective_size()
            return *parts, shape

        log_p, error, size, shape = self._ask(X, evidence)
        empty = self.says_nothing(X)
        log_p = np.where(empty, 0.0, log_p - self.log_jacobian(X))
        return np.column_stack([log_p, np.where(empty, 0.0, error), size, shape])

    def posterior(self, X):
        """N(E[z | x_seen], V), V from the curvature at the most probable z."""
        points = torch.tensor(self.points)

        def moments(model, x, found):
            mean, precision = _gaussian(model, x, found, points)
            z = Gaussian(mean, precision).at(matched(points))
            return mean, precision, model.prior.log_prob(z).mean(0)

        mean, precision, log_prior = self._ask(X, moments)
        covariance = np.linalg.inv(precision)
        return PriorPosterior(mean, (covariance + covariance.mT) / 2, log_prior=log_prior)

    def elbo_terms(self, X):
        points = torch.tensor(self.points)

        def terms(model, x, found):
            q = Gaussian(*_gaussian(model, x, found, points))
            z = q.at(matched(points))
            fit = model.likelihood.log_prob(x, model.decode(x, z)).mean(0)
            return fit, model.prior.log_prob(z).mean(0), q.entropy()

        fit, log_prior, entropy = self._ask(X, terms)
        return fit - self.log_jacobian(X), log_prior, entropy

    def encoded(self, x):
        """q(z | x) by the encoder of standardised rows (n, d)."""
        model, x = self.model(), torch.from_numpy(x)
        blocks = row_blocks(len(x), 1, max(x.shape[1], self.architecture.width))
        parts = [model.encoder(x[rows]) for rows in blocks]
        return type(parts[0])(*(torch.cat(pieces) for pieces in zip(*parts, strict=True)))

    def encoder_bound(self, x, n_points=32):
        """The importance-weighted bound of standardised rows by the encoder alone: -> (n,)."""
        model, noise = self.model(), torch.tensor(self.points[:n_points, None])
        x = torch.from_numpy(x)
        width = max(self.likelihood.n_outputs(self.n_features), self.architecture.width)
        rows = row_blocks(len(x), n_points, width)
        return torch.cat([model.bound(x[some], noise) for some in rows]).numpy()

    def amortisation_gap(self, X):
        """The bound of each row's own Gaussian less that of the encoder's, same points: -> (n,)."""
        points = torch.tensor(self.points)

        def gap(model, x, found):
            own = Gaussian(*_gaussian(model, x, found, points))
            amortised = lower_bound(model, x, model.encoder(x), matched(points)[:, None])
            z = own.at(matched(points))
            return (model.log_joint(x, z).mean(0) + own.entropy() - amortised,)

        return self._ask(X, gap)[0]

    def tighten(self, X, n_steps):
        """Bounds of the encoder's q and of each row's own after each step: -> (n, n_steps + 1)."""
        noise = matched(torch.tensor(self.points))[:, None]
        bounds = self._ask_rows(X, lambda model, x: tighten(model, x, noise, n_steps))
        return np.column_stack(bounds) - self.log_jacobian(X)[:, None]

    def regret(self, X):
        """log p(x) less the bound of the encoder's q: -> (n,)."""
        return self.log_prob(X) - self.tighten(X, 0)[:, 0]

    def responsibilities(self, X):
        """p(k | x_seen) of the prior's components: (n, d) -> (n, K)."""
        points = torch.tensor(self.points)

        def shares(model, x, found):
            weighted = weigh(model, x, found, points)
            each = model.prior.responsibilities(weighted.z)
            return (torch.einsum("sn,snk->nk", weighted.share(), each),)

        return self._ask(X, shares)[0]

    def sample(self, X, rng):
        """Draws given what rows are given: (n, d) -> (n, d), (n, q)."""
        model = self.model()
        Z = model.prior.sample(len(X), rng)
        eta = model.decode(torch.from_numpy(self.standardised(X)), Z)
        return self.in_units(self.likelihood.sample(eta, rng)), Z.numpy()

    def expectation(self, Z):
        """E[x | z] where nothing is given: (n, q) -> (n, d)."""
        eta = self.model().decoder(torch.from_numpy(Z.astype(np.float64)))
        return self.in_units(self.likelihood.mean(eta))

    def fill_mean(self, X):
        points = torch.tensor(self.points)

        def mean(model, x, found):
            weighted = weigh(model, x, found, points)
            eta = model.decode(x, weighted.z)
            means = torch.from_numpy(self.in_units(self.likelihood.mean(eta)))
            return (torch.einsum("sn,snd->nd", weighted.share(), means),)

        return self._ask(X, mean)[0]

    def fill_mode(self, X):
        def mode(model, x, found):
            return (self.likelihood.mode(model.decode(x, found.best()[0])),)

        return self.in_units(self._ask(X, mode)[0])

    def fill_sample(self, X, rng):
        points = torch.from_numpy(normal_points(*self.points.shape, rng))

        def draw(model, x, found):
            weighted = weigh(model, x, found, points)
            below = weighted.share().cumsum(0) < torch.from_numpy(rng.uniform(size=len(x)))
            chosen = below.sum(0).clamp(max=len(points) - 1)
            z = weighted.z[chosen, torch.arange(len(x))]
            return (self.likelihood.sample(model.decode(x, z), rng),)

        return self.in_units(self._ask(X, draw)[0])

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


def _gaussian(model, x, found, points):
    """Mean and precision of the Gaussian that stands for p(z | x_seen): (n, q), (n, q, q)."""
    mode, precision = found.best()
    return weigh(model, x, found, points).mean(mode), precision
