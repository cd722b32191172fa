"""q(z | x) and p(x | z) as small networks, each a linear map plus a correction that may bend."""

import math

import numpy as np
import torch
from torch import nn

from .perceptron import Perceptron
from .posteriors import Diagonal, Full
from .priors import prior_of


class Encoder(nn.Module):
    """q(z | x_seen), a Gaussian of one family: a missing entry is 0 and its mask is 0."""

    def __init__(self, d, q, hidden, family):
        super().__init__()
        self.family, n_lower = family, family.n_lower(q)
        self.sizes = (q, q, n_lower)
        self.skip = nn.Linear(d, q)
        self.log_sd = nn.Parameter(torch.empty(q))
        if family is Full:
            self.lower = nn.Parameter(torch.empty(n_lower))
        self.nonlinear = Perceptron(2 * d, hidden, 2 * q + n_lower)

    def forward(self, x):
        filled, seen = x.nan_to_num(), (~x.isnan()).to(x.dtype)
        return self._posterior(filled, self.nonlinear(torch.cat([filled, seen], -1)))

    def at_once(self, x):
        """`forward` for training."""
        filled, seen = x.nan_to_num(), (~x.isnan()).to(x.dtype)
        return self._posterior(filled, self.nonlinear.at_once(torch.cat([filled, seen], -1)))

    def of_complete(self, x):
        """`at_once` of rows without gaps, while masks have weight 0, where they start.

        A mask that is always 1 teaches nothing, so it costs nothing either.
        """
        return self._posterior(x, self.nonlinear.at_once(x, x.shape[-1]))

    def _posterior(self, filled, bend):
        mean, log_sd, *lower = bend.split(self.sizes, -1)
        lower = [self.lower + lower[0]] if self.family is Full else []
        return self.family(self.skip(filled) + mean, self.log_sd + log_sd, *lower)


class Decoder(nn.Module):
    """eta(z): (..., q) -> (..., width), outputs of z first, then numbers that z leaves alone."""

    def __init__(self, d, q, hidden, likelihood):
        super().__init__()
        columns = np.arange(d)
        n_outputs = len(likelihood.layout.outputs(columns, d))
        self.n_fixed = likelihood.width(d) - n_outputs
        self.skip = nn.Linear(q, n_outputs)
        self.constants = nn.Parameter(torch.empty(len(likelihood.layout.constants(columns, d))))
        self.nonlinear = Perceptron(q, hidden[::-1], n_outputs)

    def forward(self, z):
        return self.eta(self.skip(z) + self.nonlinear(z))

    def at_once(self, z):
        """`forward` for training."""
        return self.eta(self.skip(z) + self.nonlinear.at_once(z))

    def eta(self, outputs):
        """What varies with z, and the rest behind it."""
        if not self.n_fixed:
            return outputs
        return torch.cat([outputs, self.constants.expand(*outputs.shape[:-1], self.n_fixed)], -1)


class Autoencoder(nn.Module):
    """p(x | z) p(z), and the q(z | x) that is trained beside it."""

    def __init__(self, d, q, hidden, likelihood, family, prior):
        super().__init__()
        self.likelihood, self.n_components = likelihood, q
        self.encoder = Encoder(d, q, hidden, family)
        self.decoder = Decoder(d, q, hidden, likelihood)
        self.prior = prior
        self.complete = False

    @classmethod
    def like(cls, parameters, likelihood):
        """A module without storage that can hold arrays of these names and shapes."""
        q, d = parameters["encoder.skip.weight"].shape
        family = Full if "encoder.lower" in parameters else Diagonal
        with torch.device("meta"):  # no storage, and no draw from torch's global generator
            prior = prior_of(parameters, q)
            return cls(d, q, hidden_sizes(parameters), likelihood, family, prior)

    @classmethod
    def of(cls, parameters, likelihood, dtype=torch.float64, device="cpu"):
        """The module of given arrays: {name: ndarray} says all about its architecture."""
        module = cls.like(parameters, likelihood)
        tensors = {k: torch.tensor(v, dtype=dtype, device=device) for k, v in parameters.items()}
        module.load_state_dict(tensors, assign=True)
        return module.requires_grad_(True)

    def encode(self, x):
        """q(z | x) for training."""
        return self.encoder.of_complete(x) if self.complete else self.encoder.at_once(x)

    def arrays(self):
        """The inverse of `of`."""
        return {k: p.detach().cpu().numpy().copy() for k, p in self.named_parameters()}

    def bending_matrices(self):
        """What weight decay shrinks: towards the linear model, which it leaves alone."""
        return [p for k, p in self.named_parameters() if "nonlinear" in k and p.ndim == 2]

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


def hidden_sizes(parameters):
    """Widths of the encoder's hidden layers, read from the arrays."""
    names = (f"encoder.nonlinear.layers.{i}.bias" for i in range(len(parameters)))
    return tuple(len(parameters[name]) for name in names if name in parameters)


def blank_parameters(d, q, hidden, likelihood, rng, family=Diagonal):
    """Hidden layers at random (variance 1 / inputs), all else zero: the zero function."""
    with torch.device("meta"):
        module = Autoencoder(d, q, hidden, likelihood, family, prior_of({}, q))
    parameters = {}
    for name, p in module.named_parameters():
        parameters[name] = np.zeros(p.shape)
        if "nonlinear.layers" in name and p.ndim == 2:
            n_in = d if name == "encoder.nonlinear.layers.0.weight" else p.shape[1]  # less masks
            parameters[name][:, :n_in] = rng.standard_normal((len(p), n_in)) / np.sqrt(n_in)
    return parameters


def marginal_parameters(parameters, columns, likelihood):
    """The arrays of the model of some columns: what the others own is sliced away, exactly."""
    d = parameters["encoder.skip.weight"].shape[1]
    outputs = likelihood.layout.outputs(columns, d)
    slices = {
        "encoder.skip.weight": (slice(None), columns),
        "encoder.nonlinear.layers.0.weight": (slice(None), np.concatenate([columns, d + columns])),
        "decoder.skip.weight": outputs,
        "decoder.skip.bias": outputs,
        "decoder.constants": likelihood.layout.constants(columns, d),
        "decoder.nonlinear.out.weight": outputs,
        "decoder.nonlinear.out.bias": outputs,
    }
    return {k: v[slices[k]] if k in slices else v for k, v in parameters.items()}
