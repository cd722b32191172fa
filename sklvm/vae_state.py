"""The state of a variational autoencoder: arrays that answer every question about the density."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from .networks.autoencoder import Autoencoder, hidden_sizes, marginal_parameters
from .networks.importance import Gaussian, laplace, matched, normal_points, row_blocks, weigh
from .posterior import GaussianPosterior


@dataclass(frozen=True)
class VAEState:
    """p(x | z) p(z) as arrays; every question about it is answered in float64, row by row."""

    likelihood: Any
    parameters: dict  # {name: ndarray} of `networks.autoencoder.Autoencoder`
    location: np.ndarray  # (d,)
    scale: np.ndarray  # (d,)
    points: np.ndarray  # (S, q) standard normal noise, shared by all rows

    @property
    def n_latents(self):
        return self.points.shape[1]

    def check(self, X):
        self.likelihood.check(X)

    @property
    def n_features(self):
        return len(self.location)

    @property
    def base_measure(self):
        return self.likelihood.base_measure

    @property
    def n_parameters(self):
        """Those of the decoder, less the rotations of z that change nothing."""
        q = self.n_latents
        decoder = sum(v.size for k, v in self.parameters.items() if k.startswith("decoder"))
        return decoder - q * (q - 1) // 2

    def predictive(self):
        return self

    def _model(self):
        return Autoencoder.of(self.parameters, self.likelihood).requires_grad_(False)

    def _ask(self, X, question):
        """question(model, standardised rows, Laplace) -> tuple of (n, ...) tensors: as arrays."""
        model, points = self._model(), torch.tensor(self.points)
        line = self.likelihood.to_line(X.astype(np.float64))
        x = torch.from_numpy((line - self.location) / self.scale)
        outputs = self.likelihood.n_outputs(self.n_features)
        width = max(2 * outputs, self.n_latents**2, *hidden_sizes(self.parameters), 1)
        parts = [
            question(model, x[rows], laplace(model, x[rows], points))
            for rows in row_blocks(len(x), len(self.points), width)
        ]
        return [torch.cat(pieces).numpy() for pieces in zip(*parts, strict=True)]

    def _log_jacobian(self, X):
        """Sum over what is seen of log |dx / d standardised x|: (n, d) -> (n,)."""
        slope = self.likelihood.log_slope(X.astype(np.float64)) + np.log(self.scale)
        return np.nansum(np.where(np.isnan(X), 0.0, slope), axis=1)

    def mean_log_jacobian(self, rows):
        """Its weighted mean over `TrainingRows`."""
        return float(rows.weight @ self._log_jacobian(self._in_units(rows.X)) / rows.weight.sum())

    def _in_units(self, x):
        return self.likelihood.from_line(np.asarray(x) * self.scale + self.location)

    def log_prob(self, X):
        points = torch.tensor(self.points)

        def evidence(model, x, found):
            return (weigh(model, x, found, points).log_evidence(),)

        (log_p,) = self._ask(X, evidence)
        return np.where(np.isnan(X).all(axis=1), 0.0, log_p - self._log_jacobian(X))

    def posterior(self, X):
        """N(E[z | x_seen], V), V from the curvature at the most probable z."""
        points = torch.tensor(self.points)
        mean, precision = self._ask(X, partial(_gaussian, points=points))
        covariance = np.linalg.inv(precision)
        return GaussianPosterior(mean, (covariance + covariance.mT) / 2)

    def elbo_terms(self, X):
        points = torch.tensor(self.points)

        def log_likelihood(model, x, found):
            z = Gaussian(*_gaussian(model, x, found, points)).at(matched(points))
            return (model.likelihood.log_prob(x, model.decoder(z)).mean(0),)

        (terms,) = self._ask(X, log_likelihood)
        posterior = self.posterior(X)
        entropy = posterior.entropy()
        return terms - self._log_jacobian(X), -posterior.kl_to_prior() - entropy, entropy

    def sample(self, n, rng):
        Z = rng.standard_normal((n, self.n_latents))
        eta = self._model().decoder(torch.from_numpy(Z))
        return self._in_units(self.likelihood.sample(eta, rng)), Z

    def expectation(self, Z):
        """E[x | z]: (n, q) -> (n, d)."""
        eta = self._model().decoder(torch.from_numpy(Z.astype(np.float64)))
        return self._in_units(self.likelihood.mean(eta))

    def fill_mean(self, X):
        points = torch.tensor(self.points)

        def mean(model, x, found):
            weighted = weigh(model, x, found, points)
            means = torch.from_numpy(
                self._in_units(self.likelihood.mean(model.decoder(weighted.z)))
            )
            return (torch.einsum("sn,snd->nd", weighted.share(), means),)

        return self._ask(X, mean)[0]

    def fill_mode(self, X):
        def mode(model, x, found):
            return (self.likelihood.mode(model.decoder(found.best()[0])),)

        return self._in_units(self._ask(X, mode)[0])

    def fill_sample(self, X, rng):
        points = torch.from_numpy(normal_points(*self.points.shape, rng))

        def draw(model, x, found):
            weighted = weigh(model, x, found, points)
            below = weighted.share().cumsum(0) < torch.from_numpy(rng.uniform(size=len(x)))
            chosen = below.sum(0).clamp(max=len(points) - 1)
            z = weighted.z[chosen, torch.arange(len(x))]
            return (self.likelihood.sample(model.decoder(z), rng),)

        return self._in_units(self._ask(X, draw)[0])

    def marginal(self, columns):
        return replace(
            self,
            likelihood=self.likelihood.take(columns),
            parameters=marginal_parameters(self.parameters, columns, self.likelihood),
            location=self.location[columns],
            scale=self.scale[columns],
        )


def _gaussian(model, x, found, points):
    """Mean and precision of the Gaussian that stands for p(z | x_seen): (n, q), (n, q, q)."""
    mode, precision = found.best()
    return weigh(model, x, found, points).mean(mode), precision
