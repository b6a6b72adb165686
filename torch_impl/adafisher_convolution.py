"""Diagonals of AdaFisher's Kronecker factors for convolutions of one, two or three spatial axes.

Symbols: x input of the layer and s gradients at its output; the rest, formats included, as in
`torch_impl.adafisher_factors`.
Part of `torch_impl.adafisher`, the twin of `reference.adafisher`; derived independently.
"""

import math

import torch
from torch import Tensor

from torch_impl import _checks
from torch_impl._layer_squares import per_axis, sites, sums, window_sums
from torch_impl.adafisher_factors import with_bias

__all__ = ["conv2d_factors", "convolution_factors"]


@torch.no_grad()
def conv2d_factors(
    x: Tensor,
    s: Tensor,
    *,
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    bias: bool = True,
) -> tuple[Tensor, Tensor]:
    """`convolution_factors` of two spatial axes, where one `kernel_size` stands for both.

    Parameters
    ----------
    x : (..., N, C, height, width) float64, float32, bfloat16 or float16
        Inputs of the layer. Not modified.
    s : (..., N, m, height_out, width_out) float64, float32, bfloat16 or float16
        Gradients at its output. Not modified.
    kernel_size, stride, padding, dilation : int or (int, int)
        As in ``torch.nn.Conv2d``; at least 1, `padding` at least 0. Padding is with zeros.
    groups : int
        Divides C and m.
    bias : bool
        Whether the layer has one.

    Returns
    -------
    h_D, s_D : as in `convolution_factors`

    Raises
    ------
    TypeError, ValueError
        If a shape, dtype, layout or option does not fit, or there is no sample or no output site.

    Notes
    -----
    Source: Martins Gomes et al., AdaFisher (arXiv 2405.16397 v3), Kronecker factors; the patch and the means
    are our reading.
    """
    size = kernel_size if isinstance(kernel_size, tuple) else (kernel_size, kernel_size)
    if len(size) != 2:
        raise ValueError(f"kernel_size must be one integer or two, got {len(size)}")
    return convolution_factors(
        x, s, kernel_size=size, stride=stride, padding=padding, dilation=dilation, groups=groups, bias=bias
    )


@torch.no_grad()
def convolution_factors(
    x: Tensor,
    s: Tensor,
    *,
    kernel_size: tuple[int, ...],
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] = 0,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
    bias: bool = True,
) -> tuple[Tensor, Tensor]:
    """``h_D`` and ``s_D`` of a convolution: mean squares over the batch and the output sites.

    The input of a site is the patch that the layer multiplies there, zeros of the padding included. Patches
    are never made: squares are summed over the batch first, and over the sites by window sums.

    Parameters
    ----------
    x : (..., N, C, *spatial) float64, float32, bfloat16 or float16
        Inputs of the layer, with as many spatial axes as `kernel_size` is long. Not modified.
    s : (..., N, m, *sites) float64, float32, bfloat16 or float16
        Gradients at its output. Not modified.
    kernel_size : tuple of 1, 2 or 3 int
        One for each spatial axis, at least 1.
    stride, padding, dilation : int or tuple of int
        As in ``torch.nn.Conv1d`` to ``Conv3d``, for all axes or one for each; at least 1, `padding` at least
        0. Padding is with zeros.
    groups : int
        Divides C and m; output group i sees channel group i only.
    bias : bool
        Whether the layer has one.

    Returns
    -------
    h_D : (..., k), dtype of x but at least float32
        ``k = C / groups * prod(kernel_size)``, plus 1 with bias, in the order (channel, kernel positions) of
        the flattened weight. With ``groups > 1`` (..., groups, k).
    s_D : (..., m), dtype of s but at least float32
        With ``groups > 1``, (..., groups, m / groups).

    Raises
    ------
    TypeError, ValueError
        If a shape, dtype, layout or option does not fit, or there is no sample or no output site.

    Notes
    -----
    Source: Martins Gomes et al., AdaFisher (arXiv 2405.16397 v3), Kronecker factors; the patch and the means
    are our reading. Groups, and other than two spatial axes, are our extension.
    """
    axes = _spatial_axes(kernel_size)
    window = {
        "kernel_size": _per_axis("kernel_size", kernel_size, axes, at_least=1),
        "stride": _per_axis("stride", stride, axes, at_least=1),
        "padding": _per_axis("padding", padding, axes, at_least=0),
        "dilation": _per_axis("dilation", dilation, axes, at_least=1),
    }
    _checks.count("groups", groups, at_least=1)
    places = _check_convolution(x, s, window, groups)
    spatial = tuple(range(-axes, 0))
    batch = -axes - 2
    rows = x.shape[batch] * math.prod(places)
    h_D = window_sums(sums(x, (batch,)), **window) / rows  # (..., C, *kernel_size)
    s_D = sums(s, (batch, *spatial)) / rows
    h_D = with_bias(_grouped(h_D.flatten(-axes - 1), groups), bias)
    s_D = _grouped(s_D, groups)
    return (h_D, s_D) if groups > 1 else (h_D.squeeze(-2), s_D.squeeze(-2))


def _grouped(x: Tensor, groups: int) -> Tensor:
    return x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups)


def _spatial_axes(kernel_size: tuple[int, ...]) -> int:
    if not isinstance(kernel_size, tuple):
        raise TypeError(f"kernel_size must be a tuple of integers, got {type(kernel_size).__name__}")
    if len(kernel_size) not in (1, 2, 3):
        raise ValueError(f"kernel_size must have 1, 2 or 3 entries, got {len(kernel_size)}")
    return len(kernel_size)


def _per_axis(name: str, option: int | tuple[int, ...], axes: int, *, at_least: int) -> tuple[int, ...]:
    each = per_axis(option, axes) if isinstance(option, (int, tuple)) else (option,)
    for value in each:
        _checks.count(name, value, at_least=at_least)
    if len(each) != axes:
        raise ValueError(f"{name} must be one integer or {axes}, got {len(each)}")
    return each


def _check_convolution(
    x: Tensor, s: Tensor, window: dict[str, tuple[int, ...]], groups: int
) -> tuple[int, ...]:
    """Output sites of the layer, if x and s fit it."""
    axes = len(window["kernel_size"])
    if _checks.tensor("x", x).ndim < axes + 2:
        raise ValueError(f"x must have shape (..., N, C) and {axes} spatial axes, got {tuple(x.shape)}")
    *lead, channels = x.shape[:-axes]
    places = sites(x.shape[-axes:], **window)
    if not all(place > 0 for place in places):
        raise ValueError(
            f"kernel_size must fit: {window['kernel_size']} with dilation {window['dilation']} and padding "
            f"{window['padding']}, got {tuple(x.shape[-axes:])} to slide over"
        )
    if lead[-1] == 0:
        raise ValueError(f"x must hold at least one sample, got shape {tuple(x.shape)}")
    if channels % groups:
        raise ValueError(f"groups must divide the {channels} channels of x, got {groups}")
    outputs = _checks.tensor("s", s).shape[-axes - 1] if s.ndim > axes else 0
    if tuple(s.shape) != (*lead, outputs, *places):
        wanted = ", ".join(map(str, (*lead, "m", *places)))
        raise ValueError(f"s must have shape ({wanted}), got {tuple(s.shape)}")
    if outputs % groups:
        raise ValueError(f"groups must divide the {outputs} outputs of s, got {groups}")
    return places
