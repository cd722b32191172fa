"""Hidden layers beside a linear path, and the same as one node of autograd for training."""

import numpy as np
import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import silu


class Perceptron(nn.Module):
    """Hidden layers with SiLU; without any, the zero function.

    The last `n_masks` inputs say what is missing.
    """

    def __init__(self, n_in, hidden, n_out, n_masks=0):
        super().__init__()
        self.n_out, self.n_masks = n_out, n_masks
        self.layers = nn.ModuleList(
            nn.Linear(a, b) for a, b in zip((n_in, *hidden[:-1]), hidden, strict=bool(hidden))
        )
        self.out = nn.Linear(hidden[-1], n_out) if hidden else None

    def forward(self, x):
        if self.out is None:
            return x.new_zeros(self.n_out).expand(*x.shape[:-1], -1)
        for layer in self.layers:
            x = silu(layer(x))
        return self.out(x)

    def fresh(self, rng):
        """Arrays of the zero function: layers at random (variance 1 / inputs), masks at 0."""
        arrays = {name: np.zeros(p.shape) for name, p in self.named_parameters()}
        blind = self.n_masks
        for i in range(len(self.layers)):
            weight = arrays[f"layers.{i}.weight"]
            n_in = weight.shape[1] - blind
            weight[:, :n_in] = rng.standard_normal((len(weight), n_in)) / np.sqrt(n_in)
            blind = 0
        return arrays

    def of_complete(self, x):
        """`at_once` of inputs without masks, which have weight 0 where they start.

        A mask that is always 1 teaches nothing, so it costs nothing either.
        """
        return self.at_once(x, x.shape[-1])

    def at_once(self, x, width=None):
        """`forward` for training, in which only the first `width` inputs exist, x (..., width).

        One node of autograd instead of several for each layer. It cannot be differentiated twice.
        """
        if self.out is None:
            return x.new_zeros(self.n_out).expand(*x.shape[:-1], -1)
        first, *others = [p for layer in self.layers for p in (layer.weight, layer.bias)]
        first = first if width is None else first[:, :width]
        return _Layers.apply(x, first, *others, self.out.weight, self.out.bias)


class _Layers(torch.autograd.Function):
    """x (..., n_in), W1, b1, ..., W_out, b_out -> (..., n_out), its backward pass by hand."""

    @staticmethod
    def forward(ctx, x, *parameters):
        h = x.reshape(-1, x.shape[-1])
        inputs, before = [h], []
        for W, b in zip(parameters[:-2:2], parameters[1:-2:2], strict=True):
            a = torch.addmm(b, h, W.t())
            h = silu(a)
            inputs.append(h)
            before.append(a)
        ctx.save_for_backward(*inputs, *before, *parameters[::2])
        ctx.lead = x.shape[:-1]
        return torch.addmm(parameters[-1], h, parameters[-2].t()).view(*ctx.lead, -1)

    @staticmethod
    @once_differentiable
    def backward(ctx, slope):
        n = (len(ctx.saved_tensors) + 1) // 3
        inputs, before, weights = (
            ctx.saved_tensors[:n],
            ctx.saved_tensors[n : 2 * n - 1],
            ctx.saved_tensors[2 * n - 1 :],
        )
        g = slope.reshape(-1, slope.shape[-1])
        slopes = []
        for i in reversed(range(n)):
            slopes += [g.sum(0), g.t() @ inputs[i]]
            if i > 0:
                g = torch.ops.aten.silu_backward(g @ weights[i], before[i - 1])
            elif ctx.needs_input_grad[0]:
                g = (g @ weights[0]).view(*ctx.lead, -1)
        return g if ctx.needs_input_grad[0] else None, *reversed(slopes)
