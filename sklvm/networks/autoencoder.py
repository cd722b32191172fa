"""q(z | x) and p(x | z) as small networks, each a linear map plus a correction that may bend."""

import math

import numpy as np
import torch
from torch import nn
from torch.nn.functional import silu

from .likelihoods.base import Eta


class Perceptron(nn.Module):
    """Hidden layers with SiLU; without any, the zero function."""

    def __init__(self, n_in, hidden, n_out):
        super().__init__()
        self.n_out = n_out
        self.layers = nn.ModuleList(
            nn.Linear(a, b) for a, b in zip((n_in, *hidden[:-1]), hidden, strict=bool(hidden))
        )
        self.out = nn.Linear(hidden[-1], n_out) if hidden else None

    def forward(self, x):
        if self.out is None:
            return x.new_zeros(self.n_out)
        for layer in self.layers:
            x = silu(layer(x))
        return self.out(x)


class Encoder(nn.Module):
    """q(z | x_seen) = N(mean, diag(exp(log_sd))^2) of features of x and what was seen of it.

    Features that say nothing are at their centre, and the mask of their column is 0.
    """

    def __init__(self, d, q, hidden, likelihood):
        super().__init__()
        self.likelihood = likelihood
        n_features = likelihood.n_features(d)
        self.centre = nn.Parameter(torch.empty(n_features))
        self.skip = nn.Linear(n_features, q)
        self.log_sd = nn.Parameter(torch.empty(q))
        self.nonlinear = Perceptron(n_features + d, hidden, 2 * q)

    def forward(self, x):
        features, seen = self.likelihood.shown(x), self.likelihood.telling(x).to(x.dtype)
        filled = torch.where(self.likelihood.shows(x), features, self.centre)
        mean, log_sd = self.nonlinear(torch.cat([filled, seen], -1)).chunk(2, -1)
        return self.skip(filled) + mean, self.log_sd + log_sd


class Decoder(nn.Module):
    """eta(z): outputs (..., n_outputs) of z (..., q), and constants that z leaves alone."""

    def __init__(self, d, q, hidden, likelihood):
        super().__init__()
        n_outputs = likelihood.n_outputs(d)
        self.skip = nn.Linear(q, n_outputs)
        self.constants = nn.Parameter(torch.empty(likelihood.n_constants(d)))
        self.nonlinear = Perceptron(q, hidden[::-1], n_outputs)

    def forward(self, z):
        return Eta(self.skip(z) + self.nonlinear(z), self.constants)


class Autoencoder(nn.Module):
    """p(x | z) p(z) with p(z) = N(0, I), and the q(z | x) that is trained beside it."""

    def __init__(self, d, q, hidden, likelihood):
        super().__init__()
        self.likelihood, self.n_components = likelihood, q
        self.encoder = Encoder(d, q, hidden, likelihood)
        self.decoder = Decoder(d, q, hidden, likelihood)

    @classmethod
    def shapes(cls, d, q, hidden, likelihood):
        """Names and shapes of the parameters."""
        with torch.device("meta"):
            module = cls(d, q, hidden, likelihood)
        return {name: tuple(p.shape) for name, p in module.named_parameters()}

    @classmethod
    def of(cls, parameters, likelihood, dtype=torch.float64, device="cpu"):
        """The module of given arrays: {name: ndarray} says all about its architecture."""
        q, d = len(parameters["encoder.log_sd"]), n_columns(parameters, likelihood)
        with torch.device("meta"):  # no storage, and no draw from torch's global generator
            module = cls(d, q, hidden_sizes(parameters), likelihood)
        tensors = {k: torch.tensor(v, dtype=dtype, device=device) for k, v in parameters.items()}
        module.load_state_dict(tensors, assign=True)
        return module.requires_grad_(True)

    def arrays(self):
        """The inverse of `of`."""
        return {k: p.detach().cpu().numpy().copy() for k, p in self.named_parameters()}

    def bending_matrices(self):
        """What weight decay shrinks: towards the linear model, which it leaves alone."""
        return [p for k, p in self.named_parameters() if "nonlinear" in k and p.ndim == 2]

    def log_joint(self, x, z):
        """log p(x_seen, z): (n, d), (..., n, q) -> (..., n)."""
        return self.likelihood.log_prob(x, self.decoder(z)) + log_prior(z)

    def loss(self, x, generator):
        """-ELBO by one reparameterised draw and the exact KL (Kingma & Welling 2014, eq. 10)."""
        mean, log_sd = self.encoder(x)
        noise = torch.randn(mean.shape, generator=generator, dtype=x.dtype, device=x.device)
        sd = log_sd.exp()
        kl = 0.5 * (mean**2 + sd**2 - 1).sum(-1) - log_sd.sum(-1)
        return kl - self.likelihood.log_prob(x, self.decoder(mean + sd * noise))

    def bound(self, x, noise):
        """Importance-weighted bound on log p(x) (Burda et al. 2016, eq. 8): noise (S, 1, q)."""
        mean, log_sd = self.encoder(x)
        log_q = log_prior(noise) - log_sd.sum(-1)
        log_weight = self.log_joint(x, mean + log_sd.exp() * noise) - log_q
        return log_weight.logsumexp(0) - math.log(len(noise))


def log_prior(z):
    """log N(z; 0, I): (..., q) -> (...)."""
    return -0.5 * ((z**2).sum(-1) + z.shape[-1] * math.log(2 * math.pi))


def hidden_sizes(parameters):
    """Widths of the encoder's hidden layers, read from the arrays."""
    names = (f"encoder.nonlinear.layers.{i}.bias" for i in range(len(parameters)))
    return tuple(len(parameters[name]) for name in names if name in parameters)


def blank_parameters(d, q, hidden, likelihood, rng):
    """Hidden layers at random (variance 1 / inputs), all else zero: the zero function."""
    parameters = {}
    for name, shape in Autoencoder.shapes(d, q, hidden, likelihood).items():
        parameters[name] = np.zeros(shape)
        if "nonlinear.layers" in name and len(shape) == 2:
            parameters[name] = rng.standard_normal(shape) / np.sqrt(shape[1])
    return parameters


def n_columns(parameters, likelihood):
    """How many columns arrays are for."""
    return likelihood.n_columns(len(parameters["encoder.centre"]))


def marginal_parameters(parameters, columns, likelihood):
    """The arrays of the model of some columns: what the others own is sliced away, exactly."""
    d = n_columns(parameters, likelihood)
    outputs, features = likelihood.outputs(columns, d), likelihood.features(columns, d)
    gone = np.setdiff1d(np.arange(likelihood.n_features(d)), features)
    inputs = np.concatenate([features, likelihood.n_features(d) + columns])
    slices = {
        "encoder.centre": features,
        "encoder.skip.weight": (slice(None), features),
        "encoder.nonlinear.layers.0.weight": (slice(None), inputs),
        "decoder.skip.weight": outputs,
        "decoder.skip.bias": outputs,
        "decoder.constants": likelihood.constants(columns, d),
        "decoder.nonlinear.out.weight": outputs,
        "decoder.nonlinear.out.bias": outputs,
    }
    parts = {k: v[slices[k]] if k in slices else v for k, v in parameters.items()}
    for layer in ("encoder.skip", "encoder.nonlinear.layers.0"):
        if f"{layer}.weight" in parts:  # a column that is not there is at its centre
            at_centre = parameters[f"{layer}.weight"][:, gone] @ parameters["encoder.centre"][gone]
            parts[f"{layer}.bias"] = parameters[f"{layer}.bias"] + at_centre
    return parts
