"""Argument checks and precision rules shared by the twins.

Checks look at Python values, shapes, dtypes and layouts only. They never look at the entries of a
tensor, because on a GPU that would make the host wait for the device.
"""

import math
from collections.abc import Sequence
from numbers import Integral, Real

import torch
from torch import Tensor

__all__ = [
    "choice",
    "common_dtype",
    "count",
    "matrix",
    "number",
    "samples",
    "scaled",
    "square",
    "tensor",
    "wide",
    "working",
]

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def tensor(name: str, x: Tensor) -> Tensor:
    """Return `x` if it is a dense real floating-point tensor, otherwise say what is wrong with it."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(x).__name__}")
    if x.dtype not in DTYPES:
        raise ValueError(f"{name} must be float64, float32, bfloat16 or float16, got {x.dtype}")
    if x.layout != torch.strided:
        raise ValueError(f"{name} must be dense (torch.strided), got layout {x.layout}")
    return x


def matrix(name: str, x: Tensor, shape: tuple[int, int] | None = None) -> Tensor:
    """Return `x` if it is a dense real tensor (..., m, n), with the trailing `shape` if one is given."""
    if tensor(name, x).ndim < 2:
        raise ValueError(f"{name} must have shape (..., m, n), got {tuple(x.shape)}")
    if shape is not None and tuple(x.shape[-2:]) != shape:
        raise ValueError(f"{name} must have shape (..., {shape[0]}, {shape[1]}), got {tuple(x.shape)}")
    return x


def square(name: str, x: Tensor, size: int | None = None) -> Tensor:
    """Return `x` if it is a dense real tensor (..., d, d), with d = `size` if that is given."""
    matrix(name, x)
    if x.shape[-1] != x.shape[-2] or (size is not None and x.shape[-1] != size):
        d = "d" if size is None else size
        raise ValueError(f"{name} must have shape (..., {d}, {d}), got {tuple(x.shape)}")
    return x


def samples(G: Tensor) -> Tensor:
    """G as (..., N, m, n) with N of at least 1."""
    X = matrix("G", G)
    X = X.unsqueeze(0) if X.ndim == 2 else X
    if X.shape[-3] == 0:
        raise ValueError(f"G must hold at least one sample on axis -3, got shape {tuple(G.shape)}")
    return X


def number(
    name: str,
    value: float,
    *,
    at_least: float = -math.inf,
    above: float = -math.inf,
    at_most: float = math.inf,
    below: float = math.inf,
) -> float:
    """Return `value` as a float if it is finite and within the bounds that are given."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a real number, got {type(value).__name__}")
    inside = at_least <= value <= at_most and (value > above or above == -math.inf)
    if not (math.isfinite(value) and inside and (value < below or below == math.inf)):
        wanted = {">=": at_least, ">": above, "<=": at_most, "<": below}
        bounds = " and ".join(f"{sign} {bound:g}" for sign, bound in wanted.items() if math.isfinite(bound))
        raise ValueError(f"{name} must be a finite number{bounds and ' ' + bounds}, got {value!r}")
    return float(value)


def count(name: str, value: int, *, at_least: int) -> int:
    """Return `value` if it is an integer of at least `at_least`."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer, got {type(value).__name__}")
    if value < at_least:
        raise ValueError(f"{name} must be at least {at_least}, got {value}")
    return int(value)


def choice(name: str, value: str, allowed: Sequence[str]) -> str:
    """Return `value` if it is one of the names in `allowed`."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")
    return value


def common_dtype(*tensors: Tensor) -> torch.dtype:
    """What PyTorch's promotion makes of the dtypes of the tensors."""
    dtype = tensors[0].dtype
    for other in tensors[1:]:
        dtype = torch.promote_types(dtype, other.dtype)
    return dtype


def working(dtype: torch.dtype) -> torch.dtype:
    """Precision of products and stored state: float32 for the half precisions, otherwise `dtype` itself."""
    return torch.promote_types(dtype, torch.float32)


def wide(device: torch.device) -> torch.dtype:
    """Precision of factorisations: float64, or float32 on a device that has no float64.

    Next to the same factorisation in float32 it takes 1.5 to 2 times as long on a CPU and is 60 to 100 times
    as accurate, and every narrower input is exactly representable.
    """
    return torch.float32 if device.type == "mps" else torch.float64


def scaled(X: Tensor) -> tuple[Tensor, Tensor]:
    """Split `X` (..., m, n) exactly into ``(X / s, s)`` with a power of two s (..., 1, 1) per matrix.

    The largest entry of ``X / s`` lies in [1, 2), so that its squares neither overflow nor underflow;
    s is 1 for a zero or an empty matrix.
    """
    if 0 in X.shape[-2:]:
        return X.clone(), torch.ones((*X.shape[:-2], 1, 1), dtype=X.dtype, device=X.device)
    largest = X.abs().amax(dim=(-2, -1), keepdim=True)
    s = torch.where(largest > 0, largest / (2 * torch.frexp(largest).mantissa), 1.0)
    return X / s, s
