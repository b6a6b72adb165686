"""How a step is written: step counts, and the update of many parameters at once, in place.

Everything here takes `accept`: None where the host knows that the step is to be taken, or a 0-d bool tensor
that decides it on the device.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from torch_impl import _checks
from torch_impl.optim.finite import alike

__all__ = ["Gradient", "add_one", "average", "descend", "new_count", "overwrite"]


class Gradient(NamedTuple):
    """A checked gradient: where it belongs, the parameter, what to descend along, and the group's options."""

    where: str
    parameter: Tensor
    value: Tensor
    group: Mapping[str, Any]


def new_count(gradient: Gradient) -> Tensor:
    """A step count of 0: float64 where there is one; on the CPU, or with the parameter if `capturable`."""
    device = gradient.parameter.device if gradient.group["capturable"] else torch.device("cpu")
    return torch.zeros((), dtype=_checks.wide(device), device=device)


def add_one(counts: Sequence[Tensor], accept: Tensor | None) -> None:
    """Count an accepted step, in place."""
    # Foreach with a tensor, always: a number would be wrapped once for every count, and what `add_` does to a
    # float64 count on the CPU is lost inside `torch.compile` (PyTorch 2.13).
    for (device, dtype), members in alike(counts).items():
        one = torch.ones((), dtype=dtype, device=device) if accept is None else accept.to(device, dtype)
        torch._foreach_add_(members, one)


def overwrite(old: list[Tensor], new: Sequence[Tensor], accept: Tensor | None) -> None:
    """``old <- new`` where accepted, in place; a new value may be of another dtype and is rounded once."""
    if accept is not None:
        new = [torch.where(accept.to(x.device), y.to(x.dtype), x) for x, y in zip(old, new, strict=True)]
    torch._foreach_copy_(old, list(new))


def average(M: list[Tensor], g: list[Tensor], beta: float, accept: Tensor | None, *, careful: bool) -> None:
    """``M <- beta M + (1 - beta) g``, in place, in the dtype of M; plain tensors of one dtype and device.

    `careful` is for gradients so large that their difference from M may overflow; it reads M twice.
    """
    if g[0].dtype != M[0].dtype:
        g = [x.to(M[0].dtype) for x in g]
    if accept is None and not careful:
        torch._foreach_lerp_(M, g, 1.0 - beta)
        return
    new = list(torch._foreach_mul(M, beta))
    torch._foreach_add_(new, g, alpha=1.0 - beta)
    overwrite(M, new, accept)


def descend(
    group: Mapping[str, Any],
    W: list[Tensor],
    D: list[Tensor],
    lengths: Sequence[float | Tensor],
    accept: Tensor | None,
) -> None:
    """``W <- (1 - lr weight_decay) W - length D`` for every W, in place.

    Parameters
    ----------
    group : mapping
        Options of the group the parameters belong to.
    W, D : lists of Tensor
        Parameters and their directions, plain tensors (local shards) of equal shapes, all on one device;
        W of one dtype, D of one dtype, float64 or float32. D is not modified.
    lengths : sequence of one or of len(W) floats or 0-d Tensors
        lr times whatever scales the direction; one for all, or one for each.
    accept : 0-d bool Tensor or None
        Whether to write at all; None: yes.

    Notes
    -----
    Arithmetic is in the dtype of the direction, or of the parameter if that is wider; a half precision
    parameter is rounded once, on storing. A length beyond the range of that dtype is taken in float64 where
    the host knows it.
    """
    dtype = torch.promote_types(W[0].dtype, D[0].dtype)
    numbers = [_on_host(length) for length in lengths]
    if any(isinstance(x, float) and abs(x) > torch.finfo(dtype).max for x in numbers):
        dtype = torch.float64
    in_place = accept is None and dtype == W[0].dtype
    X = W if in_place else [w.to(dtype, copy=True) for w in W]
    if group["weight_decay"]:
        decay = _on_host(1.0 - group["lr"] * group["weight_decay"])
        torch._foreach_mul_(X, decay if isinstance(decay, float) else decay.to(X[0].device, dtype))
    if len(numbers) == 1 and isinstance(numbers[0], float):
        torch._foreach_add_(X, D, alpha=-numbers[0])
    else:
        scales = [torch.as_tensor(x, dtype=dtype, device=X[0].device) for x in numbers]
        moves = torch._foreach_mul(D, scales[0]) if len(scales) == 1 else torch._foreach_mul(D, scales)
        torch._foreach_sub_(X, moves)
    if not in_place:
        overwrite(W, X, accept)


def _on_host(x: float | Tensor) -> float | Tensor:
    """A number in the memory of the host as a number; nobody waits for it. Not inside `torch.compile`."""
    if isinstance(x, Tensor):
        x = x.reshape(())
        if x.device.type == "cpu" and not torch.compiler.is_compiling():
            return float(x)
    return x
