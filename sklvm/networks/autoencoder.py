"""q(z | x) and p(x | z) as small networks, each a linear map plus a correction that may bend."""

import math

import numpy as np
import torch
from torch import nn

from .likelihoods.base import Eta
from .posteriors import Diagonal, Full
from .priors import prior_of


class Encoder(nn.Module):
    """q(z | x_seen), a Gaussian of one family, of features of x and what was seen of it.

    Features that say nothing are at their centre, and the mask of their column is 0.
    """

    def __init__(self, d, q, architecture, likelihood, family):
        super().__init__()
        self.likelihood, self.family = likelihood, family
        n_features, n_lower = likelihood.n_features(d), family.n_lower(q)
        self.sizes = (q, q, n_lower)
        self.centre = nn.Parameter(torch.empty(n_features))
        self.skip = nn.Linear(n_features, q)
        self.log_sd = nn.Parameter(torch.empty(q))
        if family is Full:
            self.lower = nn.Parameter(torch.empty(n_lower))
        self.nonlinear = architecture.encoder(n_features + d, 2 * q + n_lower, likelihood, d)

    def forward(self, x):
        filled, masked = self.inputs(x, self.likelihood.shows(x))
        return self._posterior(filled, self.nonlinear(masked))

    def at_once(self, x):
        """`forward` for training."""
        filled, masked = self.inputs(x, self.likelihood.shows(x))
        return self._posterior(filled, self.nonlinear.at_once(masked))

    def of_complete(self, x):
        """`at_once` of rows without gaps."""
        features = self.likelihood.shown(x)
        return self._posterior(features, self.nonlinear.of_complete(features))

    def inputs(self, x, shows):
        """Features for the linear path, (n, n_features), and with masks behind for the layers."""
        filled = torch.where(shows, self.likelihood.shown(x), self.centre)
        return filled, torch.cat([filled, self.likelihood.telling(x).to(x.dtype)], -1)

    def _posterior(self, filled, bend):
        mean, log_sd, *lower = bend.split(self.sizes, -1)
        lower = [self.lower + lower[0]] if self.family is Full else []
        return self.family(self.skip(filled) + mean, self.log_sd + log_sd, *lower)


class Decoder(nn.Module):
    """eta(z): outputs (..., n_outputs) of z (..., q), and constants that z leaves alone."""

    def __init__(self, d, q, architecture, likelihood):
        super().__init__()
        n_outputs = likelihood.n_outputs(d)
        self.skip = nn.Linear(q, n_outputs)
        self.constants = nn.Parameter(torch.empty(likelihood.n_constants(d)))
        self.nonlinear = architecture.decoder(q, n_outputs, likelihood, d)

    def forward(self, z):
        return Eta(self.skip(z) + self.nonlinear(z), self.constants)

    def at_once(self, z):
        """`forward` for training."""
        return Eta(self.skip(z) + self.nonlinear.at_once(z), self.constants)


class Autoencoder(nn.Module):
    """p(x | z) p(z), and the q(z | x) that is trained beside it."""

    def __init__(self, d, q, architecture, likelihood, family, prior):
        super().__init__()
        self.likelihood, self.n_components = likelihood, q
        self.encoder = Encoder(d, q, architecture, likelihood, family)
        self.decoder = Decoder(d, q, architecture, likelihood)
        self.prior = prior

    @classmethod
    def like(cls, parameters, likelihood, architecture, d):
        """A module without storage for d columns, of the sizes of these arrays."""
        q = len(parameters["encoder.log_sd"])
        family = Full if "encoder.lower" in parameters else Diagonal
        with torch.device("meta"):  # no storage, and no draw from torch's global generator
            prior = prior_of(parameters, q)
            return cls(d, q, architecture, likelihood, family, prior)

    @classmethod
    def of(cls, parameters, likelihood, architecture, dtype=torch.float64, device="cpu"):
        """The module of given arrays: {name: ndarray}."""
        module = cls.like(parameters, likelihood, architecture, n_columns(parameters, likelihood))
        tensors = {k: torch.tensor(v, dtype=dtype, device=device) for k, v in parameters.items()}
        module.load_state_dict(tensors, assign=True)
        return module.requires_grad_(True)

    def encode(self, x):
        """q(z | x) for training."""
        complete = self.likelihood.complete
        return self.encoder.of_complete(x) if complete else self.encoder.at_once(x)

    def arrays(self):
        """The inverse of `of`."""
        return {k: p.detach().cpu().numpy().copy() for k, p in self.named_parameters()}

    def bending_matrices(self):
        """What weight decay shrinks: towards the linear model, which it leaves alone."""
        return [p for k, p in self.named_parameters() if "nonlinear" in k and p.ndim > 1]

    def log_joint(self, x, z):
        """log p(x_seen, z): (n, d), (..., n, q) -> (..., n)."""
        return self.likelihood.log_prob(x, self.decoder(z)) + self.prior.log_prob(z)

    def log_likelihood(self, x, z):
        """log p(x_seen | z) for training: (n, d), (..., n, q) -> (..., n)."""
        return self.likelihood.log_prob(x, self.decoder.at_once(z))

    def bound(self, x, noise):
        """Importance-weighted bound on log p(x) (Burda et al. 2016, eq. 8): noise (S, 1, q)."""
        q = self.encoder(x)
        log_weight = self.log_joint(x, q.at(noise)) - q.log_prob_at(noise)
        return log_weight.logsumexp(0) - math.log(len(noise))


def blank_parameters(d, q, architecture, likelihood, rng, family=Diagonal):
    """All zero but for the inside of what bends: the zero function."""
    with torch.device("meta"):
        module = Autoencoder(d, q, architecture, likelihood, family, prior_of({}, q))
    parameters = {name: np.zeros(p.shape) for name, p in module.named_parameters()}
    for path in ("encoder", "decoder"):
        fresh = getattr(module, path).nonlinear.fresh(rng)
        parameters |= {f"{path}.nonlinear.{name}": v for name, v in fresh.items()}
    return parameters


def n_columns(parameters, likelihood):
    """How many columns arrays are for."""
    return likelihood.n_columns(len(parameters["encoder.centre"]))


def marginal_parameters(parameters, columns, likelihood, architecture):
    """The arrays of the model of some columns, and their architecture: exactly the marginal.

    What the others own is sliced away, or is missing for good.
    """
    d = n_columns(parameters, likelihood)
    outputs, features = likelihood.outputs(columns, d), likelihood.features(columns, d)
    gone = np.setdiff1d(np.arange(likelihood.n_features(d)), features)
    slices = {
        "encoder.centre": features,
        "encoder.skip.weight": (slice(None), features),
        "decoder.skip.weight": outputs,
        "decoder.skip.bias": outputs,
        "decoder.constants": likelihood.constants(columns, d),
        **architecture.slices(columns, features, outputs, likelihood.n_features(d)),
    }
    parts = {k: v[slices[k]] if k in slices else v for k, v in parameters.items()}
    for layer in ("encoder.skip", architecture.first_layer):
        if f"{layer}.weight" in parts:  # a column that is not there is at its centre
            at_centre = parameters[f"{layer}.weight"][:, gone] @ parameters["encoder.centre"][gone]
            parts[f"{layer}.bias"] = parameters[f"{layer}.bias"] + at_centre
    return parts, architecture.take(columns, features, outputs)
