"""Networks that people bring: modules that functions of theirs make, each before a linear layer."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from .architectures import Architecture
from .canvas import Canvas, Painter
from .trial import differentiated, made, tried


def unused(n_inputs):
    """The network of an encoder that nothing asks."""
    return nn.Linear(n_inputs, 1)


@dataclass(frozen=True)
class Given(Architecture):
    """Modules of the user's, n_inputs -> (n, n_inputs) to (n, h), each before a linear layer."""

    encoder_of: Callable
    decoder_of: Callable
    canvas: Canvas
    seed: int  # of what the functions draw: they are called anew whenever networks are asked
    n_seen: int  # h of the encoder
    n_spread: int  # h of the decoder
    width: int

    @classmethod
    def tried(cls, encoder_of, decoder_of, canvas, n_in, n_latents, seed):
        """Modules that map what an encoder is told (n_in numbers) and z; or ValueError."""
        n_cells = n_in + canvas.n_cells - len(canvas.features) - len(canvas.masks)
        n_seen, seen = tried("encoder", encoder_of, n_cells, seed)
        n_spread, spread = tried("decoder", decoder_of, n_latents, seed + 1)
        differentiated("decoder", decoder_of, n_latents, seed + 1)
        width = max(seen, spread, n_cells)
        return cls(encoder_of, decoder_of, canvas, seed, n_seen, n_spread, width)

    def encoder(self, n_in, n_out, likelihood, d):
        painter = Painter(self.canvas)
        n_cells = n_in + self.canvas.n_cells - len(self.canvas.features) - d
        inner = made("encoder", self.encoder_of, n_cells, self.seed)
        return GivenEncoder(painter, inner, self.n_seen, n_out)

    def decoder(self, n_in, n_out, likelihood, d):
        inner = made("decoder", self.decoder_of, n_in, self.seed + 1)
        return GivenLayers(inner, self.n_spread, n_out)

    def facing(self, parameters, centre, spread):
        return self.canvas.facing(centre, spread)

    def slices(self, columns, features, outputs, n_features):
        rows = {f"decoder.nonlinear.out.{name}": outputs for name in ("weight", "bias")}
        return self.canvas.slices(features) | rows

    def take(self, columns, features, outputs):
        return replace(self, canvas=self.canvas.take(columns, features))

    @property
    def params(self):
        return {
            "encoder": None if self.encoder_of is unused else self.encoder_of,
            "decoder": self.decoder_of,
            "image_shape": self.canvas.image_shape,
        }


class GivenLayers(nn.Module):
    """A module that makes (n, h) of rows, and a linear layer: (..., n_in) -> (..., n_out)."""

    def __init__(self, inner, h, n_out):
        super().__init__()
        self.inner = inner
        self.out = nn.Linear(h, n_out)

    def forward(self, x):
        made = self.out(self.inner(x.reshape(-1, x.shape[-1])))
        return made.reshape(*x.shape[:-1], -1)

    def at_once(self, x):
        return self(x)

    def fresh(self, rng):
        """Arrays of the zero function, what is inside as the user's function made it."""
        inner = {
            f"inner.{k}": p.detach().double().numpy() for k, p in self.inner.named_parameters()
        }
        return inner | {f"out.{k}": np.zeros(p.shape) for k, p in self.out.named_parameters()}


class GivenEncoder(GivenLayers):
    """The same behind a canvas."""

    def __init__(self, painter, inner, h, n_out):
        super().__init__(inner, h, n_out)
        self.painter = painter

    def forward(self, x):
        return super().forward(torch.cat(self.painter(x), -1))

    def of_complete(self, x):
        return self(self.painter.of_complete(x))

    def fresh(self, rng):
        return super().fresh(rng) | {f"painter.{k}": v for k, v in self.painter.fresh().items()}
