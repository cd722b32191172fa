"""What functions of the user's make: modules, always the same, tried on a few rows before a fit."""

from contextlib import contextmanager

import torch
from torch import nn

ROWS = 16  # that a module is tried on
SAME = {"rtol": 1e-6, "atol": 1e-9}


@contextmanager
def seeded(seed):
    """Draws from torch's global generator start at a seed, and leave no trace."""
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        yield


def made(name, factory, n_in, seed):
    """The module that a function makes of a number of inputs: the same whenever it is asked."""
    with seeded(seed):
        module = factory(n_in)
    if not isinstance(module, nn.Module):
        raise ValueError(f"{name}({n_in}) must return a torch.nn.Module, got {module!r}")
    return module


def tried(name, factory, n_in, seed):
    """How many numbers h a module makes of a row, and the most that any part of it does.

    ValueError for what cannot be trained and scored: shapes, state, dropout, ...
    """
    if isinstance(factory, nn.Module):
        raise ValueError(
            f"{name} must be a function n_inputs -> torch.nn.Module, which is called more than "
            f"once, got the module {type(factory).__name__} itself"
        )
    module = made(name, factory, n_in, seed)
    _refuse_state(name, module)
    with seeded(seed):
        rows = torch.randn(ROWS, n_in, dtype=torch.float64)
        out, width = _asked(name, module.double(), rows)
        _refuse_moods(name, module, rows, out)
    return out.shape[1], width


def _refuse_state(name, module):
    """Parameters are all that is kept of a module, and each of them is trained."""
    parameters = dict(module.named_parameters())
    if any(isinstance(p, nn.parameter.UninitializedParameter) for p in parameters.values()):
        raise ValueError(f"{name}: lazy modules are not supported; say how many inputs they have")
    buffers = [key for key, _ in module.named_buffers()]
    shared = sorted(module.state_dict().keys() - parameters.keys() - set(buffers))
    frozen = [key for key, p in parameters.items() if not p.requires_grad]
    for what, keys in {
        "buffers, as batch normalisation has them": buffers,
        "parameters in two places": shared,
        "parameters that need no gradient": frozen,
    }.items():
        if keys:
            raise ValueError(f"{name}: modules with {what}, are not supported: {keys}")


def _asked(name, module, rows):
    """What a module makes of rows, and the most numbers that any part of it makes of one."""
    widths = []

    def record(part, told, out):
        if isinstance(out, torch.Tensor):
            widths.append(out.numel() // len(rows))

    hooks = [part.register_forward_hook(record) for part in module.modules()]
    shape = tuple(rows.shape)
    wanted = f"{name}({shape[1]}) must map float64 rows of shape {shape} to ({len(rows)}, h)"
    try:
        out = module(rows)
    except Exception as error:
        raise ValueError(f"{wanted}, but fails: {error}") from error
    finally:
        for hook in hooks:
            hook.remove()
    if not isinstance(out, torch.Tensor):
        raise ValueError(f"{wanted}, got {type(out).__name__}")
    if out.ndim != 2 or len(out) != len(rows) or not out.shape[1] or out.dtype != rows.dtype:
        raise ValueError(f"{wanted}, got {tuple(out.shape)} of {out.dtype}")
    return out, max(widths)


def _refuse_moods(name, module, rows, out):
    """A row has one answer: in training and after it, among others and alone."""
    answers = [module(rows), module.eval()(rows), torch.cat([module(row) for row in rows.split(1)])]
    if not all(torch.allclose(out, answer, **SAME) for answer in answers):
        raise ValueError(
            f"{name}: the module must make the same of a row always, in training and after it, "
            "whatever rows are beside it: dropout and batch normalisation are not supported"
        )


def differentiated(name, factory, n_in, seed):
    """Scores climb with second derivatives in z, through torch.func: ValueError without them."""
    module = made(name, factory, n_in, seed).double()
    rows = torch.ones(ROWS, n_in, dtype=torch.float64)

    def slope(x):
        return torch.func.grad(lambda x: module(x).square().sum())(x)

    def along(direction):
        return torch.func.jvp(slope, (rows,), (direction,))[1]

    try:
        torch.func.vmap(along)(torch.ones_like(rows)[None])
    except Exception as error:
        raise ValueError(
            f"{name}: the module cannot be differentiated twice by torch.func: {error}"
        ) from error
