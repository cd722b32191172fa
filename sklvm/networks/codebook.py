"""Discrete codes between an encoder and a decoder, and a codebook that follows the encoder."""

import numpy as np
import torch
from torch import nn

from .autoencoder import Decoder, Encoder, n_columns
from .likelihoods.base import Eta
from .posteriors import Diagonal

DEAD = 0.01  # share of the rows, in units of 1 / K, below which an entry is placed anew
COOLING, COLDEST = 0.97, 0.3  # of the temperature of relaxed codes: 1, then 3 % less each epoch


class Quantiser(nn.Module):
    """p(x | c): a decoder of P code vectors, entries c_1 ... c_P of P codebooks of K vectors each.

    The encoder names codes in training; afterwards Bayes' rule does.
    """

    def __init__(self, d, shape, architecture, likelihood):
        super().__init__()
        P, _, m = shape
        self.likelihood = likelihood
        self.encoder = Encoder(d, P * m, architecture, likelihood, Diagonal)
        self.decoder = Decoder(d, P * m, architecture, likelihood)
        self.codebook = nn.Parameter(torch.empty(shape))

    @classmethod
    def like(cls, parameters, likelihood, architecture, d):
        """A module without storage for d columns, of the sizes of these arrays."""
        with torch.device("meta"):  # no storage, and no draw from torch's global generator
            return cls(d, parameters["codebook"].shape, architecture, likelihood)

    @classmethod
    def of(cls, parameters, likelihood, architecture, dtype=torch.float64, device="cpu"):
        """The module of given arrays."""
        module = cls.like(parameters, likelihood, architecture, n_columns(parameters, likelihood))
        tensors = {k: torch.tensor(v, dtype=dtype, device=device) for k, v in parameters.items()}
        module.load_state_dict(tensors, assign=True)
        return module.requires_grad_(True)

    def bending_matrices(self):
        """What weight decay shrinks: towards the linear model, which it leaves alone."""
        return [p for k, p in self.named_parameters() if "nonlinear" in k and p.ndim > 1]

    def _encoded(self, x):
        """The Gaussian that the encoder makes of rows, for training: (n, d) -> Diagonal."""
        encode = self.encoder.of_complete if self.likelihood.complete else self.encoder.at_once
        return encode(x)

    def encode(self, x):
        """Where the encoder puts rows, for training: (n, d) -> (n, P, m)."""
        return self._encoded(x).mean.unflatten(-1, (len(self.codebook), -1))

    def log_nearness(self, x):
        """Minus half the squared distances of entries in the encoder's spreads: -> (n, P, K)."""
        q = self._encoded(x)
        mean, log_sd = (v.unflatten(-1, (len(self.codebook), -1)) for v in (q.mean, q.log_sd))
        apart = (mean[:, :, None] - self.codebook) * torch.exp(-log_sd)[:, :, None]
        return -0.5 * apart.square().sum(-1)

    def nearest(self, z):
        """The closest entry at each position: (n, P, m) -> (n, P) integers."""
        return (z[:, :, None] - self.codebook).square().sum(-1).argmin(-1)

    def entries(self, codes):
        """The vectors of codes: (n, P) -> (n, P, m)."""
        return self.codebook[torch.arange(len(self.codebook), device=codes.device), codes]

    def every_eta(self):
        """What the decoder says of all C = K^P codes, the last position fastest: (C, outputs)."""
        P, K, _ = self.codebook.shape
        codes = torch.cartesian_prod(*[torch.arange(K, device=self.codebook.device)] * P).reshape(
            -1, P
        )
        return self.decoder(self.entries(codes).flatten(1))

    def log_likelihoods(self, x):
        """log p(x_seen | c) of all codes: (n, d) -> (C, n)."""
        eta = self.every_eta()
        return self.likelihood.log_prob(x, Eta(eta.outputs[:, None], eta.constants))


class CodebookLoss:
    """-log p(x, c) at the code c that the encoder names, and a codebook that follows the encoder.

    The decoder's slope in the code vectors is handed to the encoder as it is; `commitment` times
    the squared distance keeps encoder and code vector together (van den Oord, Vinyals & Kavukcuoglu
    2017, eq. 3). The entries are exponential averages of what they stand for (their appendix A.1),
    p(c) is the share of the rows that they stand for; an entry that no row wants any more goes to
    where a row of the batch is.
    """

    def __init__(self, module, table, commitment, decay):
        like = module.codebook.detach()
        self.module, self.commitment, self.decay = module, commitment, decay
        self.share = torch.from_numpy(shares(table)).to(like)  # (P, K)
        self.total = self.share[..., None] * like  # (P, K, m)

    def __call__(self, x, generator, epoch):
        """Rows (n, d) -> loss (n,), and nothing else to report."""
        z = self.module.encode(x)
        codes = self.module.nearest(z.detach())
        if epoch:  # 0 is before training
            self._follow(z.detach(), codes, generator)
        e = self.module.entries(codes).detach()
        straight = z + (e - z).detach()
        eta = self.module.decoder.at_once(straight.flatten(1))
        fit = self.module.likelihood.log_prob(x, eta)
        at = torch.arange(len(self.share), device=codes.device)
        rate = safe_log(self.share[at, codes]).sum(-1)
        apart = (z - e).square().sum((-2, -1))
        return self.commitment * apart - fit - rate, ()

    @torch.no_grad()
    def _follow(self, z, codes, generator):
        """Move the averages, and the codebook with them."""
        K = self.share.shape[1]
        chosen = torch.nn.functional.one_hot(codes, K).to(z) / len(z)  # (n, P, K)
        self.share.lerp_(chosen.sum(0), 1 - self.decay)
        self.total.lerp_(torch.einsum("npk,npm->pkm", chosen, z), 1 - self.decay)
        dead = self.share < DEAD / K
        rows = torch.randint(len(z), dead.shape, generator=generator, device=z.device)
        self.share[dead] = 1 / K
        places = z[rows, torch.arange(len(dead), device=z.device)[:, None]]
        self.total[dead] = places[dead] / K
        self.share /= (scale := self.share.sum(1, keepdim=True))
        self.total /= scale[..., None]
        self.module.codebook.copy_(self.total / self.share[..., None])


class MarginalLoss:
    """-log p(x) with every code summed out, as training by EM with gradients for an M-step has it.

    Code vectors are parameters like others and the encoder has no part in it. p(c) is an
    exponential average of p(c | x).
    """

    def __init__(self, module, table, commitment, decay):
        self.module, self.decay = module, decay
        self.weights = torch.from_numpy(table.ravel()).to(module.codebook.detach())

    def __call__(self, x, generator, epoch):
        """Rows (n, d) -> loss (n,), and nothing else to report."""
        joint = self.module.log_likelihoods(x).mT + safe_log(self.weights)  # (n, C)
        if epoch:  # 0 is before training
            self.weights.lerp_(joint.detach().softmax(1).mean(0), 1 - self.decay)
        return -joint.logsumexp(1), ()


class RelaxedLoss:
    """-E[log p(x | c)] + KL(q(c | x) || p(c)), with a draw of c relaxed to a mean of code vectors.

    q(c | x) is p(c) times the density of the code vector under the Gaussian that the encoder makes
    of x, normalised: the nearer, the more probable (Sønderby, Poole & Mnih 2017). Gumbel noise on
    log q makes a draw of its largest entry; the softmax of the same, at a temperature, is a point
    near that entry with a slope (Jang, Gu & Poole 2017, equation 2; Maddison, Mnih & Teh 2017). It
    cools with the epochs. p(c) is an exponential average of q.
    """

    def __init__(self, module, table, commitment, decay):
        self.module, self.decay = module, decay
        self.share = torch.from_numpy(shares(table)).to(module.codebook.detach())  # (P, K)

    def __call__(self, x, generator, epoch):
        """Rows (n, d) -> loss (n,), and nothing else to report."""
        book, log_p = self.module.codebook, safe_log(self.share)
        log_q = (log_p + self.module.log_nearness(x)).log_softmax(-1)  # (n, P, K)
        q = log_q.exp()
        if epoch:  # 0 is before training
            self.share.lerp_(q.detach().mean(0), 1 - self.decay)
        near = self._relaxed(log_q, generator, max(COLDEST, COOLING**epoch))
        eta = self.module.decoder.at_once(torch.einsum("npk,pkm->npm", near, book).flatten(1))
        divergence = (q * (log_q - log_p)).sum((-2, -1))
        return divergence - self.module.likelihood.log_prob(x, eta), ()

    @staticmethod
    def _relaxed(log_q, generator, temperature):
        """Shares of the entries in a draw's code vector: (n, P, K) -> same, sum 1 over K."""
        waits = torch.empty_like(log_q).exponential_(generator=generator)  # -log is Gumbel
        return ((log_q - safe_log(waits)) / temperature).softmax(-1)


def safe_log(share):
    """Logarithms of probabilities, finite at 0."""
    return share.clamp(min=torch.finfo(share.dtype).tiny).log()


LOSSES = {"codes": CodebookLoss, "likelihood": MarginalLoss, "gumbel_softmax": RelaxedLoss}


def shares(table):
    """The probabilities of the entries at each position: (K, ..., K) -> (P, K)."""
    P = table.ndim
    others = [tuple(i for i in range(P) if i != p) for p in range(P)]
    return np.stack([table.sum(axis=axes) for axes in others])


def chain_prior(counts):
    """The most probable p(c) = p(c_1) Π p(c_p | c_p-1) of counts of codes: (K, ..., K) -> same."""
    P = counts.ndim
    table = counts.sum(axis=tuple(range(1, P))) / counts.sum()
    for p in range(1, P):
        pairs = counts.sum(axis=tuple(i for i in range(P) if i not in (p - 1, p)))
        rows = pairs.sum(axis=1, keepdims=True)
        step = np.where(rows > 0, pairs / np.where(rows > 0, rows, 1.0), 1 / len(pairs))
        table = table[..., None] * step
    return table
