"""Sums of squares of many tensors at the speed of memory, accurate whatever their size."""

import torch
from torch import Tensor

from torch_impl import _checks

__all__ = ["BLOCK", "average_and_sum", "squares_of_each", "sum_of_squares"]

#: Numbers a CPU adds up in float32, between which float64 takes over. A float32 norm over 1e7 numbers was
#: measured off by 4e-4; over blocks the squared norm is within ``(BLOCK + 4) u`` for any summation order.
BLOCK = 1024


def sum_of_squares(tensors: list[Tensor]) -> Tensor:
    """Sum of all squared entries, as a 0-d float64 tensor (float32 where the device has no float64).

    Parameters
    ----------
    tensors : list of float64 or float32 Tensor
        At least one; of one dtype, on one device. Not modified.

    Returns
    -------
    total : 0-d Tensor
        On a CPU, float32 tensors of any size give a relative error of at most ``(BLOCK + 4) u``, u the
        roundoff of float32; squares that leave its range are summed again in float64.
    """
    if not _in_blocks(tensors):
        return torch.stack(squares_of_each(tensors)).sum()
    return _total([norms for x in tensors for norms in _block_norms(x)], tensors)


def average_and_sum(M: list[Tensor], g: list[Tensor], beta: float) -> Tensor:
    """``M <- beta M + (1 - beta) g`` in place, and the `sum_of_squares` of the new M.

    `M` and `g` are of one device, M of one dtype, and ``g - M`` must not overflow. On a CPU every tensor is
    summed while it is in the cache, and the last one first, because whoever looked at the gradients before
    has left it there: together a sixth of the time of a step.
    """
    if not _in_blocks(M):
        torch._foreach_lerp_(M, g, 1.0 - beta)
        return sum_of_squares(M)
    norms: list[Tensor] = []
    for buffer, gradient in zip(reversed(M), reversed(g), strict=True):
        buffer.lerp_(gradient, 1.0 - beta)
        norms += _block_norms(buffer)
    return _total(norms, M)


def squares_of_each(tensors: list[Tensor]) -> list[Tensor]:
    """`sum_of_squares` of each tensor by itself."""
    first, wide = tensors[0], _checks.wide(tensors[0].device)
    if torch.compiler.is_compiling():  # fused into one pass
        return [x.to(wide).square().sum() for x in tensors]
    if first.device.type != "cpu" or first.dtype == wide:
        return list(torch.stack(torch._foreach_norm(tensors, 2, wide)).square().unbind())
    return [sum_of_squares([x]) for x in tensors]


def _in_blocks(tensors: list[Tensor]) -> bool:
    """Whether these are float32 on a CPU, where a sum in float64 would take 20 times as long."""
    first = tensors[0]
    return (
        first.device.type == "cpu"
        and first.dtype != _checks.wide(first.device)
        and not torch.compiler.is_compiling()
    )


def _block_norms(x: Tensor) -> list[Tensor]:
    """Float32 norms over blocks of a tensor, as tensors of one dimension."""
    size = x.numel()
    if size <= BLOCK:
        return [torch.linalg.vector_norm(x).view(1)]
    flat = x if x.is_contiguous() else _flat(x)
    rest = size % BLOCK
    if not rest:
        return [torch.linalg.vector_norm(flat.view(-1, BLOCK), dim=1)]
    flat = flat.view(-1)
    rows = flat[: size - rest].view(-1, BLOCK)
    return [
        torch.linalg.vector_norm(rows, dim=1),
        torch.linalg.vector_norm(flat[size - rest :]).view(1),
    ]


def _total(norms: list[Tensor], tensors: list[Tensor]) -> Tensor:
    """Sum of the squares of block norms in float64, or of the tensors where float32 could not hold them."""
    total = torch.cat(norms).double().square().sum()
    numbers, count = torch.finfo(tensors[0].dtype), sum(x.numel() for x in tensors)
    # Below, squares may have been lost to underflow; an overflow shows as infinity. Ordinary training knows
    # neither, and on a CPU the host waits for nobody.
    if not count * numbers.tiny / numbers.eps <= float(total) <= numbers.max:
        return torch.stack([x.double().square().sum() for x in tensors]).sum()
    return total


def _flat(x: Tensor) -> Tensor:
    """All entries in the order of memory: a view wherever there are no gaps."""
    order = sorted(range(x.ndim), key=x.stride, reverse=True)
    return x.permute(order).reshape(-1)
