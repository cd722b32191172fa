"""Convolutions for images: a small encoder of strided ones, and a decoder that is its mirror."""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.nn.functional import silu

from .architectures import Architecture
from .canvas import Canvas, Painter, owned

CHANNELS = (32, 64, 64)  # of the strided convolutions, each of which halves the image
LARGE = 32  # height and width from which there are three of them, not two
KERNEL, STRIDE = 3, 2


@dataclass(frozen=True)
class Convolutional(Architecture):
    """Strided convolutions and dense layers of these widths, all reversed in the decoder."""

    widths: tuple
    canvas: Canvas  # an image
    n_planes: int  # of the decoder: outputs of a pixel times channels
    outputs: np.ndarray  # (n_outputs,) where each output lies in these planes

    @classmethod
    def of(cls, widths, canvas, likelihood, columns):
        """For columns (d,) at these pixels of an image."""
        owners, rank = owned(likelihood.outputs, len(columns))
        channels, height, width = canvas.image_shape
        n_planes, n_pixels = int(rank.max() + 1) * channels, channels * height * width
        return cls(widths, canvas, n_planes, rank * n_pixels + columns[owners])

    @property
    def sizes(self):
        """Height and width of the image, and after each convolution."""
        size = self.canvas.image_shape[1:]
        sizes = [size]
        for _ in CHANNELS if min(size) >= LARGE else CHANNELS[:-1]:
            sizes.append(tuple(-(-n // STRIDE) for n in sizes[-1]))
        return sizes

    def encoder(self, n_in, n_out, likelihood, d):
        n_other = n_in - len(self.canvas.features) - d
        return ImageEncoder(self.canvas, self.sizes, self.widths, n_other, n_out)

    def decoder(self, n_in, n_out, likelihood, d):
        return ImageDecoder(n_in, self.widths[::-1], self.sizes[::-1], self.n_planes, self.outputs)

    def facing(self, parameters, centre, spread):
        return self.canvas.facing(centre, spread)

    def slices(self, columns, features, outputs, n_features):
        return self.canvas.slices(features)

    def take(self, columns, features, outputs):
        canvas = self.canvas.take(columns, features)
        return replace(self, canvas=canvas, outputs=self.outputs[outputs])

    @property
    def width(self):
        areas = [height * width for height, width in self.sizes]
        maps = [c * area for c, area in zip(CHANNELS, areas[1:], strict=False)]
        return max(*maps, self.n_planes * areas[0], self.canvas.n_cells, *self.widths)

    @property
    def params(self):
        return {"hidden_layer_sizes": self.widths, "image_shape": self.canvas.image_shape}


class ImageEncoder(nn.Module):
    """Convolutions with SiLU over a canvas, then dense layers that see what else there is too."""

    def __init__(self, canvas, sizes, widths, n_other, n_out):
        super().__init__()
        self.painter = Painter(canvas)
        self.n_masks = canvas.image_shape[0]
        self.shape = (canvas.n_cells // (sizes[0][0] * sizes[0][1]), *sizes[0])
        maps = (self.shape[0], *CHANNELS[: len(sizes) - 1])
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, KERNEL, STRIDE, KERNEL // 2) for a, b in pairwise(maps)
        )
        flat = maps[-1] * sizes[-1][0] * sizes[-1][1]
        self.layers, last = _dense(flat + n_other, widths)
        self.out = nn.Linear(last, n_out)

    def forward(self, x):
        cells, other = self.painter(x)
        image = cells.reshape(-1, *self.shape)
        for convolve in self.convolutions:
            image = silu(convolve(image))
        x = torch.cat([image.reshape(*cells.shape[:-1], -1), other], -1)
        for layer in self.layers:
            x = silu(layer(x))
        return self.out(x)

    at_once = forward

    def of_complete(self, x):
        return self(self.painter.of_complete(x))

    def fresh(self, rng):
        """Arrays of the zero function: masks have weight 0, where they start."""
        arrays = fresh_layers(self, rng)
        first = arrays["convolutions.0.weight"]
        first[:, -self.n_masks :] = 0.0
        first *= np.sqrt(self.shape[0] / (self.shape[0] - self.n_masks))
        return arrays | {f"painter.{k}": v for k, v in self.painter.fresh().items()}


class ImageDecoder(nn.Module):
    """Dense layers, then transposed convolutions, with SiLU: z (..., n_in) -> (..., n_out)."""

    def __init__(self, n_in, widths, sizes, n_planes, outputs):
        super().__init__()
        maps = CHANNELS[: len(sizes) - 1][::-1]
        self.layers, last = _dense(n_in, widths)
        self.shape = (maps[0], *sizes[0])
        self.spread = nn.Linear(last, int(np.prod(self.shape)))
        growing = [
            _doubled(a, b, small, large)
            for (a, b), (small, large) in zip(
                pairwise((*maps, n_planes)), pairwise(sizes), strict=True
            )
        ]
        self.convolutions, self.out = nn.ModuleList(growing[:-1]), growing[-1]
        self.n_cells = n_planes * sizes[-1][0] * sizes[-1][1]
        self.outputs = torch.tensor(outputs, device="cpu")

    def forward(self, z):
        x = z
        for layer in self.layers:
            x = silu(layer(x))
        image = silu(self.spread(x)).reshape(-1, *self.shape)
        for convolve in self.convolutions:
            image = silu(convolve(image))
        planes = self.out(image).reshape(*z.shape[:-1], self.n_cells)
        return planes.index_select(-1, self.outputs.to(z.device))

    at_once = forward

    def fresh(self, rng):
        """Arrays of the zero function."""
        return fresh_layers(self, rng)


def _dense(n_in, widths):
    """Layers of these widths, and how many numbers the last of them makes."""
    sizes = (n_in, *widths)
    return nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes)), sizes[-1]


def _doubled(n_in, n_out, small, large):
    """The transposed convolution from one size to the next, whether that is even or odd."""
    more = tuple(b - (STRIDE * a - 1) for a, b in zip(small, large, strict=True))
    return nn.ConvTranspose2d(n_in, n_out, KERNEL, STRIDE, KERNEL // 2, output_padding=more)


def fresh_layers(module, rng):
    """Matrices and kernels at random (variance 1 / inputs of a number), zero in `out`."""
    arrays = {name: np.zeros(p.shape) for name, p in module.named_parameters()}
    for name, part in module.named_modules():
        if name == "out" or not isinstance(part, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            continue
        shape = part.weight.shape
        n_in = shape[1:].numel()
        if isinstance(part, nn.ConvTranspose2d):  # whose first axis is that of inputs
            n_in = shape[0] * (KERNEL / STRIDE) ** 2
        arrays[f"{name}.weight"] = rng.standard_normal(shape) / np.sqrt(n_in)
    return arrays
