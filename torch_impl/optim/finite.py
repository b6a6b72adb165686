"""Whether tensors are finite, at the price of reading them once.

Three questions. `surely_finite` costs as much as a dot product and may say no to large numbers;
`finite_flags` is exact and says which; `all_finite` is exact and stays on the device. An optimizer that may
wait for the host asks the first, and the second only after a no; one that may not asks the third.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from torch_impl import _checks

__all__ = ["alike", "all_finite", "finite_flags", "surely_finite"]


def surely_finite(tensors: Sequence[Tensor]) -> Tensor:
    """Whether the 2-norm of every tensor is finite, as a 0-d bool tensor on the device of the first.

    True means that no entry is infinite or NaN, and that none is above the square root of the largest number
    of the precision the norm is accumulated in (float32 for the narrower ones). False means nothing: the
    squares may have overflowed. On a CPU the maximum norm would be exact, and 25 times as slow.
    """
    flags = [
        torch.stack(torch._foreach_norm(members, 2, _checks.working(dtype))).isfinite().all()
        for (_, dtype), members in alike(tensors).items()
    ]
    return _together(flags)


def finite_flags(tensors: Sequence[Tensor]) -> Tensor:
    """Whether each tensor is finite, as a bool tensor (len(tensors),) on the device of the first."""
    home = tensors[0].device
    return torch.stack([x.isfinite().all().to(home) for x in tensors])


def all_finite(tensors: Sequence[Tensor]) -> Tensor:
    """Whether all tensors are finite, exactly, as a 0-d bool tensor on the device of the first."""
    if torch.compiler.is_compiling() or tensors[0].device.type != "cuda":
        return finite_flags(tensors).all()
    # One kernel for all tensors of a dtype; a NaN is the maximum of everything, an empty tensor has none.
    flags = [
        torch.stack(torch._foreach_norm([x if x.numel() else x.new_zeros(1) for x in members], torch.inf))
        .isfinite()
        .all()
        for members in alike(tensors).values()
    ]
    return _together(flags)


def alike(tensors: Sequence[Tensor]) -> dict[tuple[torch.device, torch.dtype], list[Tensor]]:
    """The tensors by device and dtype."""
    first = tensors[0]
    if all(x.dtype is first.dtype and x.get_device() == first.get_device() for x in tensors):
        return {(first.device, first.dtype): list(tensors)}
    groups: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for x in tensors:
        groups.setdefault((x.device, x.dtype), []).append(x)
    return groups


def _together(flags: Sequence[Tensor]) -> Tensor:
    if len(flags) == 1:
        return flags[0]
    return torch.stack([flag.to(flags[0].device) for flag in flags]).all()
