"""Sums of squares of what a layer multiplies, without making the rows that are summed.

The diagonals of AdaFisher's factors are means of squares: over the rows of a linear layer, over the patches
that the sites of a convolution see, over the one-hot rows of an embedding. Each function returns the sum and
the number of rows in it, so that measurements of several calls, micro-batches or processes can be pooled
before they are divided.

Sums are float64 for float64 and float32 for everything else: an entry of a half precision tensor has a square
that float32 holds. Nothing is modified, and nothing makes the host wait for the device.
"""

import math
from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import pad

from torch_impl import _checks

__all__ = [
    "Padding",
    "lookups",
    "occurrences",
    "patch_squares",
    "per_axis",
    "row_squares",
    "sites",
    "sums",
    "window_sums",
]

#: Zeros at both ends of an axis, or a pair (before, after).
Padding: TypeAlias = int | tuple[int, int]


@torch.no_grad()
def row_squares(x: Tensor, *, axis: int) -> tuple[Tensor, int]:
    """Sum of ``x^2`` over all axes but `axis`.

    Parameters
    ----------
    x : tensor of any shape with at least one axis
        Real floating point. Not modified.
    axis : int
        The axis that is kept: -1 for the rows of a linear layer, 1 for the channels of (N, C, ...).

    Returns
    -------
    squares : (x.shape[axis],) float64 for float64, else float32
    count : int
        Rows summed.
    """
    kept = axis % x.ndim
    others = [i for i in range(x.ndim) if i != kept]
    return sums(x, others), math.prod(x.shape[i] for i in others)


@torch.no_grad()
def patch_squares(
    x: Tensor,
    *,
    kernel_size: Sequence[int],
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[Padding] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> tuple[Tensor, int]:
    """Sum of the squared patches that the sites of a convolution see, over the batch and the sites.

    Parameters
    ----------
    x : (N, C, *spatial) or (C, *spatial)
        Input of the layer, as many spatial axes as `kernel_size` is long. Not modified.
    kernel_size, stride, padding, dilation
        As in ``torch.nn.Conv2d``; one number for all axes or one per axis. The padding of an axis may be a
        pair (before, after), as ``padding="same"`` needs for even kernels. It is with zeros: for another
        ``padding_mode``, pad x first and pass 0.
    groups : int
        Divides C.

    Returns
    -------
    squares : (groups, C / groups * prod(kernel_size)) float64 for float64, else float32
        In the order (channel, kernel positions) of the flattened weight.
    count : int
        Batch times sites: patches summed in every entry.
    """
    axes = len(kernel_size)
    x = x.unsqueeze(0) if x.ndim == axes + 1 else x
    windows = window_sums(
        sums(x, [0]), kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation
    )
    places = sites(x.shape[2:], kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation)
    width = x.shape[1] // groups * math.prod(kernel_size)
    return windows.reshape(groups, width), x.shape[0] * math.prod(places)


@torch.no_grad()
def occurrences(
    indices: Tensor, num_embeddings: int, *, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, int]:
    """How often each entry of an embedding table is looked up: the summed squares of one-hot rows.

    Parameters
    ----------
    indices : integer tensor of any shape
        From 0 to ``num_embeddings - 1``, which the lookup itself has checked. Not modified.
    num_embeddings : int
        Entries of the table.
    dtype : torch.dtype
        Of the result. Counting is in int64, so that a count is rounded at most once.

    Returns
    -------
    counts : (num_embeddings,)
    count : int
        Lookups.
    """
    return lookups(indices.reshape(-1), num_embeddings).to(dtype), indices.numel()


def lookups(indices: Tensor, num_embeddings: int) -> Tensor:
    """How often each entry occurs in each row of `indices` (..., N): int64 (..., num_embeddings)."""
    indices = indices.to(torch.int64)
    counts = indices.new_zeros((*indices.shape[:-1], num_embeddings))
    return counts.scatter_add(-1, indices, torch.ones_like(indices))  # bincount would make the host wait


def sums(x: Tensor, axes: Sequence[int]) -> Tensor:
    """Sum of ``x^2`` over `axes`, in float64 for float64 and in float32 for everything else."""
    squares = x.to(_checks.working(x.dtype)).square()
    return squares.sum(dim=tuple(axes)) if axes else squares


def window_sums(
    energy: Tensor,
    *,
    kernel_size: Sequence[int],
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[Padding] = 0,
    dilation: int | Sequence[int] = 1,
) -> Tensor:
    """For each kernel position, the sum of `energy` (..., *spatial) over all sites: (..., *kernel_size).

    Position k of site o sees entry ``o stride + k dilation`` of the padded axis. Summed over o that is a
    window sum in which stride and dilation have swapped roles, and it goes axis by axis: views, one sum each.
    """
    axes = len(kernel_size)
    strides, dilations = per_axis(stride, axes), per_axis(dilation, axes)
    ends = _ends(padding, axes)
    places = sites(
        energy.shape[-axes:], kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation
    )
    energy = pad(energy, [end for pair in reversed(ends) for end in pair])  # the last axis comes first
    for axis, size in enumerate(kernel_size):
        # Axes already summed have moved to the end, so the next one is always at -axes.
        windows = energy.unfold(-axes, (places[axis] - 1) * strides[axis] + 1, dilations[axis])
        windows = windows.narrow(-axes - 1, 0, size)[..., :: strides[axis]]
        energy = windows.sum(dim=-1).movedim(-axes, -1)
    return energy


def sites(
    spatial: Sequence[int],
    *,
    kernel_size: Sequence[int],
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[Padding] = 0,
    dilation: int | Sequence[int] = 1,
) -> tuple[int, ...]:
    """Output sites of a convolution along each axis; 0 or less where the kernel does not fit."""
    axes = len(kernel_size)
    options = zip(
        spatial,
        kernel_size,
        per_axis(stride, axes),
        _ends(padding, axes),
        per_axis(dilation, axes),
        strict=True,
    )
    return tuple((n + sum(ends) - d * (k - 1) - 1) // s + 1 for n, k, s, ends, d in options)


def per_axis(option: int | Sequence[int], axes: int) -> tuple[int, ...]:
    """One number per axis."""
    return (option,) * axes if isinstance(option, int) else tuple(option)


def _ends(padding: int | Sequence[Padding], axes: int) -> tuple[tuple[int, int], ...]:
    """Padding as a pair (before, after) per axis."""
    each = (padding,) * axes if isinstance(padding, int) else tuple(padding)
    return tuple((ends, ends) if isinstance(ends, int) else (ends[0], ends[1]) for ends in each)
