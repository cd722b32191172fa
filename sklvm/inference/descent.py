"""Steps of AdamW on all parameters of a module as one vector, whatever the network.

The optimiser objects of torch import a compiler at their first use, which takes longer than many a
fit; the function behind them does not.
"""

from contextlib import contextmanager

import torch
from torch.optim.adamw import adamw

LARGEST_GRADIENT = 5.0  # norm; a longer gradient is shortened to it
SETTINGS = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "amsgrad": False, "maximize": False}


class Descent:
    """AdamW (Loshchilov & Hutter 2019) with clipped gradients, and an average of its path.

    The module's parameters become views of `vector`, their gradients are views of `gradient`.
    """

    def __init__(self, module, decayed, learning_rate, weight_decay, averaging):
        parameters = list(module.parameters())
        decayed = [p for p in parameters if p.ndim > 1] if decayed is None else list(decayed)
        chosen = {id(p) for p in decayed}
        self.parameters = decayed + [p for p in parameters if id(p) not in chosen]
        self.vector = torch.cat([p.detach().reshape(-1) for p in self.parameters])
        self.gradient = torch.zeros_like(self.vector)
        self._share()
        self.learning_rate, self.fused = learning_rate, _fused(self.vector)
        n_decayed = sum(p.numel() for p in decayed)
        self.parts = [
            (*self._vectors(slice(n_decayed)), weight_decay),
            (*self._vectors(slice(n_decayed, None)), 0.0),
        ]
        self.averaging, self.mass = averaging, 1.0
        self.average = self.vector.clone() if averaging else None

    def _share(self):
        sizes = [p.numel() for p in self.parameters]
        parts = zip(
            self.parameters, self.vector.split(sizes), self.gradient.split(sizes), strict=True
        )
        self.slopes = {}
        for p, values, slope in parts:
            p.data, self.slopes[p] = values.view(p.shape), slope.view(p.shape)

    def _vectors(self, part):
        """Lists of one: values, gradient, moments and steps so far of a part of the vector."""
        values, slope = self.vector[part], self.gradient[part]
        n_steps = torch.zeros((), dtype=torch.float32, device=values.device)
        moments = torch.zeros_like(values), torch.zeros_like(values)
        return [values], [slope], [moments[0]], [moments[1]], [], [n_steps]

    def slope_of(self, parameter):
        """The part of the gradient that belongs to a parameter."""
        return self.slopes[parameter]

    def differentiated(self, loss):
        """The loss as a function that leaves the gradient of its mean behind."""

        def climb(rows, generator, epoch):
            values, reported = loss(rows, generator, epoch)
            slopes = torch.autograd.grad(values.mean(), self.parameters, materialize_grads=True)
            torch.cat([slope.reshape(-1) for slope in slopes], out=self.gradient)
            return values.detach(), [part.detach() for part in reported]

        return climb

    def step(self):
        """One step down the gradient."""
        excess = (torch.linalg.vector_norm(self.gradient) / LARGEST_GRADIENT).clamp_(min=1.0)
        if not self.fused:
            self.gradient.div_(excess)
        for *vectors, decay in self.parts:
            adamw(
                *vectors,
                lr=self.learning_rate,
                weight_decay=decay,
                fused=self.fused,
                foreach=False,
                grad_scale=excess.float() if self.fused else None,  # divides on the way
                **SETTINGS,
            )
        if self.averaging:
            self.mass = 1.0 + self.averaging * self.mass
            self.average.lerp_(self.vector, 1 / self.mass)

    @contextmanager
    def averaged(self):
        """While this lasts the module shows the average, if one is kept."""
        if not self.averaging:
            yield
            return
        last = self.vector.clone()
        self.vector.copy_(self.average)
        try:
            yield
        finally:
            self.vector.copy_(last)


def _fused(like):
    """Whether this device has AdamW as one operation."""
    vectors = [[torch.zeros_like(like[:1])] for _ in range(4)]
    n_steps = [torch.zeros((), dtype=torch.float32, device=like.device)]
    try:
        adamw(*vectors, [], n_steps, lr=0.0, weight_decay=0.0, fused=True, **SETTINGS)
    except (RuntimeError, NotImplementedError):
        return False
    return True
