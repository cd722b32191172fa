"""Each row's own q(z | x): from the encoder's answer uphill on the evidence lower bound.

The noise is the same at every step, so the bound is a function of q, and a step that would lower
it is shortened. Steps are natural gradients: steepest per nat of divergence between the old q and
the new, so they depend on no coordinates of z.
"""

import torch

SUFFICIENT = 0.1  # of what the slope promises must be gained by a step
HALVINGS = 20
FLAT = 1e-11  # promised gain, relative to the bound, that rounding can hide: the row has arrived


def lower_bound(model, x, q, noise):
    """E_q[log p(x_seen, z)] + H[q] by noise (S, 1, q): -> (n,)."""
    return model.log_joint(x, q.at(noise)).mean(0) + q.entropy()


def tighten(model, x, noise, n_steps):
    """The bound of the encoder's q and after each step: n_steps + 1 tensors (n,), never falling."""
    return improved(model, x, model.encoder(x), noise, n_steps)[1]


def improved(model, x, q, noise, n_steps):
    """q after so many steps; the bounds before them and after each, as `tighten` has them."""
    length = torch.ones(len(x), dtype=x.dtype, device=x.device)
    bounds = [lower_bound(model, x, q, noise)]
    for _ in range(n_steps):
        slope = torch.func.grad(lambda z: model.log_joint(x, z).sum())(q.at(noise))
        direction = q.ascent(slope, noise)
        longest = 1 / direction.stretch().clamp(min=1e-12)  # no deviation changes e-fold
        q, length, bound = _advance(
            lambda q: lower_bound(model, x, q, noise),
            q,
            direction,
            torch.minimum(2 * length, longest),
            bounds[-1],
        )
        bounds.append(bound)
    return q, tuple(bounds)


def _advance(value, q, direction, length, here):
    """q moved by the first of length, length / 2, ... that gains enough, row by row.

    -> the new q, the lengths, the bounds (n,).
    """
    promise = direction.squared_slope()
    arrived = promise <= FLAT * (1 + here.abs())
    for _ in range(HALVINGS):
        moved = q.moved(direction, length)
        there = value(moved)
        low = ~(there >= here + SUFFICIENT * length * promise) & ~arrived
        if not low.any():
            break
        length = torch.where(low, length / 2, length)
    stay = ~(there >= here) | low
    parts = [torch.where(stay[:, None], old, new) for old, new in zip(q, moved, strict=True)]
    return type(q)(*parts), length, torch.where(stay, here, there)
