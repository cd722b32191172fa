"""Training steps of a VAE against a plain PyTorch loop: `python benchmarks/vae_speed.py`.

One thread, float32. The plain loop is what people write: DataLoader, nn.Sequential, Adam. Both have
the same hidden layers, batches, draws and likelihood; ours has linear paths beside the layers,
clipping, decay and the terms of the bound besides. Times are process CPU milliseconds per step:
medians of five runs in turn. Nats are those of the training rows in the last epoch, per row.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy is imported

import math
from functools import partial

import numpy as np
import torch
from _timing import race, table
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from sklvm.inference.descent import Descent
from sklvm.inference.sgd import one_epoch
from sklvm.networks.architectures import Dense
from sklvm.networks.autoencoder import Autoencoder, blank_parameters
from sklvm.networks.by_hand import ElboByHand
from sklvm.networks.likelihoods import BernoulliLikelihood, GaussianLikelihood
from sklvm.networks.objectives import Elbo

# name: rows, columns, hidden layers, latents, batch, likelihood, epochs
SIZES = {
    "784-400-400-20, bits": (6400, 784, (400, 400), 20, 128, "bernoulli", 3),
    "64-64-64-8": (1797, 64, (64, 64), 8, 128, "gaussian", 12),
    "30-32-32-4": (569, 30, (32, 32), 4, 64, "gaussian", 20),
}


class PlainVAE(nn.Module):
    """An encoder and a decoder of SiLU layers."""

    def __init__(self, d, hidden, q, likelihood):
        super().__init__()
        self.likelihood = likelihood
        self.encoder = self.layers(d, hidden, 2 * q)
        self.decoder = self.layers(q, hidden[::-1], d if likelihood == "bernoulli" else 2 * d)

    @staticmethod
    def layers(n_in, hidden, n_out):
        parts = []
        for a, b in zip((n_in, *hidden[:-1]), hidden, strict=True):
            parts += [nn.Linear(a, b), nn.SiLU()]
        return nn.Sequential(*parts, nn.Linear(hidden[-1], n_out))

    def loss(self, x):
        mean, log_variance = self.encoder(x).chunk(2, -1)
        z = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum()
        out = self.decoder(z)
        if self.likelihood == "bernoulli":
            return (F.binary_cross_entropy(out.sigmoid(), x, reduction="sum") + kl) / len(x)
        mean, log_variance = out.chunk(2, -1)
        variance = 1e-4 + log_variance.exp()
        fit = F.gaussian_nll_loss(mean, x, variance, full=True, reduction="sum")
        return (fit + kl) / len(x)


def plain_loop(X, hidden, q, batch, likelihood, epochs):
    """What people write: -> nats per row in the last epoch."""
    torch.manual_seed(0)
    model = PlainVAE(X.shape[1], hidden, q, likelihood)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loader = DataLoader(TensorDataset(torch.from_numpy(X)), batch_size=batch, shuffle=True)
    for _ in range(epochs):
        total = 0.0
        for (x,) in loader:
            optimizer.zero_grad()
            loss = model.loss(x)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(x)
    return -total / len(X)


def ours(X, hidden, q, batch, likelihood, epochs):
    """The epochs that VAE.fit takes: -> nats per row in the last one."""
    value = {"bernoulli": BernoulliLikelihood, "gaussian": partial(GaussianLikelihood, "network")}
    likelihood = value[likelihood]().of_complete_rows()
    architecture = Dense(hidden)
    parameters = blank_parameters(X.shape[1], q, architecture, likelihood, np.random.default_rng(0))
    module = Autoencoder.of(parameters, likelihood, architecture, torch.float32)
    descent = Descent(module, module.bending_matrices(), 1e-3, 1e-2, 0.0)
    climb = ElboByHand(Elbo(), module, descent.slope_of)
    generator, X = torch.Generator().manual_seed(0), torch.from_numpy(X)
    for epoch in range(1, epochs + 1):
        cut = torch.randperm(len(X), generator=generator).tensor_split(math.ceil(len(X) / batch))
        nats, *_ = one_epoch(climb, X, cut, descent, generator, epoch)
    return nats


def rows(n, d, likelihood, seed=0):
    """Rows of ten latent factors: (n, d)."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 10)) @ rng.standard_normal((10, d)) / 3
    X += 0.3 * rng.standard_normal((n, d))
    return (X > 0.5 if likelihood == "bernoulli" else X).astype(np.float32)


def main():
    torch.set_num_threads(1)
    lines = []
    for name, (n, d, hidden, q, batch, likelihood, epochs) in SIZES.items():
        X, settings = rows(n, d, likelihood), (hidden, q, batch, likelihood, epochs)
        nats = [0.0, 0.0]

        def timed(side, loop, X=X, settings=settings, nats=nats):
            nats[side] = loop(X, *settings)

        found = race(partial(timed, 0, plain_loop), partial(timed, 1, ours))
        steps = epochs * math.ceil(n / batch)
        theirs, own = found.theirs / steps, found.ours / steps
        cells = found._replace(theirs=theirs, ours=own).cells()
        lines.append([name, *cells, *(f"{value:.2f}" for value in nats)])
    header = ["", "plain ms", "ours ms", "ratio", "range", "plain nats", "ours nats"]
    table(f"One training step, torch {torch.__version__}", header, lines)


if __name__ == "__main__":
    main()
