"""The gradient of the evidence lower bound by hand: a training step is products and little else.

On small tables automatic differentiation takes longer than the arithmetic.
"""

import torch
from torch.nn.functional import silu

from .likelihoods.base import Eta
from .objectives import Elbo
from .perceptron import Perceptron
from .posteriors import Diagonal
from .priors import StandardNormal

silu_backward = torch.ops.aten.silu_backward


class Path:
    """skip(x) + layers(x), and its backward pass: gradients go where `slope_of` says."""

    def __init__(self, skip, perceptron, slope_of, width):
        self.m = len(skip.bias)  # outputs with a linear path; the first ones
        layers = [] if perceptron.out is None else [*perceptron.layers, perceptron.out]
        self.n_out = perceptron.n_out
        self.skip = self._linear(skip, slope_of)
        self.layers = [self._linear(layer, slope_of) for layer in layers]
        if layers:
            W, b, W_slope, b_slope = self.layers[0]
            self.layers[0] = W[:, :width], b, W_slope[:, :width], b_slope

    @staticmethod
    def _linear(layer, slope_of):
        W, b = layer.weight, layer.bias
        return W.detach(), b.detach(), slope_of(W), slope_of(b)

    def forward(self, x, direct):
        """Layers see x (n, width), the linear path sees `direct` (n, d): -> (n, n_out)."""
        self.direct, self.inputs, self.before = direct, [x], []
        out = x.new_zeros(len(x), self.n_out)
        for i, (W, b, _, _) in enumerate(self.layers):
            out = torch.addmm(b, self.inputs[i], W.t())
            if i + 1 < len(self.layers):
                self.before.append(out)
                self.inputs.append(silu(out))
        W, b, _, _ = self.skip
        linear = out if self.m == self.n_out else out[:, : self.m]
        linear.addmm_(self.direct, W.t()).add_(b)
        return out

    def backward(self, slope):
        """The slope of the loss in the outputs, (n, n_out): parameters get theirs."""
        linear = slope[:, : self.m]
        torch.mm(linear.t(), self.direct, out=self.skip[2])
        torch.sum(linear, 0, out=self.skip[3])
        for i in reversed(range(len(self.layers))):
            W, _, W_slope, b_slope = self.layers[i]
            torch.mm(slope.t(), self.inputs[i], out=W_slope)
            torch.sum(slope, 0, out=b_slope)
            if i > 0:
                slope = silu_backward(slope @ W, self.before[i - 1])
        return slope  # in the outputs of the first layer

    def slope_of_input(self, outputs, first):
        """The slope in inputs that both see, from what `backward` got and what it returned."""
        W = self.skip[0]
        through = outputs[:, : self.m] @ W
        return through.addmm_(first, self.layers[0][0][:, : W.shape[1]]) if self.layers else through


class ElboByHand:
    """`Elbo` of one draw, with its gradient: dense layers, a normal prior, a diagonal q.

    `slope_of(p)` is where the gradient of the mean loss in the parameter p goes.
    """

    def __init__(self, objective, model, slope_of):
        self.objective, self.model = objective, model
        encoder, decoder = model.encoder, model.decoder
        n_in = len(encoder.centre) if model.likelihood.complete else None
        self.encoder = Path(encoder.skip, encoder.nonlinear, slope_of, n_in)
        self.decoder = Path(decoder.skip, decoder.nonlinear, slope_of, None)
        self.log_sd = encoder.log_sd.detach(), slope_of(encoder.log_sd)
        self.centre = slope_of(encoder.centre)
        self.constants = decoder.constants.detach(), slope_of(decoder.constants)

    @staticmethod
    def serves(objective, model):
        """Whether this is the gradient of this objective of this model."""
        return (
            type(objective) is Elbo
            and objective.draws == 1
            and model.encoder.family is Diagonal
            and isinstance(model.encoder.nonlinear, Perceptron)
            and isinstance(model.prior, StandardNormal)
        )

    @torch.no_grad()
    def __call__(self, x, generator, epoch):
        """-> loss (n,), terms: three of (n,); the gradient is written."""
        mean, log_sd = self._encode(x)
        sd = log_sd.exp()
        noise = torch.randn(mean.shape, generator=generator, dtype=x.dtype, device=x.device)
        z = torch.addcmul(mean, sd, noise)
        eta = Eta(self.decoder.forward(z, z), self.constants[0])
        fit, slope = self.model.likelihood.log_prob_and_slope(x, eta)
        q = Diagonal(mean, log_sd)
        loss, terms, weight = self.objective.combine(
            fit, self.model.prior.of_second_moment(mean**2 + sd**2), q.entropy(), epoch
        )
        torch.mul(slope.constants, -1 / len(x), out=self.constants[1])
        through_z = self._decode_backward(slope.outputs.mul_(-1 / len(x)))
        weight = weight / len(x)
        through_sd = (through_z * noise + weight * sd).mul_(sd).sub_(weight)
        self._encode_backward(torch.cat([through_z + weight * mean, through_sd], 1))
        return loss, terms

    def _encode(self, x):
        encoder, likelihood = self.model.encoder, self.model.likelihood
        if likelihood.complete:
            self.shows, filled = None, likelihood.shown(x)
            inputs = filled
        else:
            self.shows = likelihood.shows(x)
            filled, inputs = encoder.inputs(x, self.shows)
        mean, log_sd = self.encoder.forward(inputs, filled).chunk(2, 1)
        return mean, log_sd + self.log_sd[0]

    def _encode_backward(self, slope):
        torch.sum(slope[:, self.encoder.m :], 0, out=self.log_sd[1])
        first = self.encoder.backward(slope)
        if self.shows is not None:  # what is not shown is at the centre
            through = self.encoder.slope_of_input(slope, first)
            torch.sum(through.masked_fill_(self.shows, 0.0), 0, out=self.centre)

    def _decode_backward(self, slope):
        return self.decoder.slope_of_input(slope, self.decoder.backward(slope))
