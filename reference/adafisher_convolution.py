"""Diagonals of AdaFisher's Kronecker factors for convolutions in one, two and three dimensions.

Symbols and conventions as in `reference.adafisher_factors`. Public through `reference.adafisher`.
"""

from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from reference._arguments import Array, array, integer, like
from reference._layer_means import mean_square, with_bias

__all__ = ["conv2d_factors", "convolution_factors"]

#: Names of the spatial axes and words for their number, for messages.
_AXES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}
_OR_MORE = {1: "", 2: " or two", 3: " or three"}


def convolution_factors(
    x: Array,
    s: Array,
    *,
    kernel_size: tuple[int, ...],
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] = 0,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
    bias: bool = True,
) -> tuple[Array, Array]:
    """``h_D`` and ``s_D`` of a convolution: mean squares over the batch and the output sites.

    The input of a site is the patch that the layer multiplies there, zeros of the padding included, its
    entries in the order (channel, spatial axes) of the flattened weight. The other choice in use, a factor
    such as one over the patch size, cancels in min-max normalisation.

    Parameters
    ----------
    x : (..., N, C, *spatial) float64
        Inputs of the layer, with one, two or three spatial axes. Not modified.
    s : (..., N, m, *sites) float64
        Gradients at its output. Not modified.
    kernel_size : tuple of int
        One for each spatial axis: its length, 1, 2 or 3, says how many there are. At least 1.
    stride, padding, dilation : int or tuple of int
        As in ``torch.nn.Conv1d`` and its kin; one for all spatial axes or one for each. At least 1, `padding`
        at least 0. Padding is with zeros.
    groups : int
        Divides C and m; output group i sees channel group i only.
    bias : bool
        Whether the layer has one.

    Returns
    -------
    h_D : (..., k) float64
        ``k = C / groups * prod(kernel_size)``, plus 1 with bias. With ``groups > 1`` the shape is
        (..., groups, k): a grouped convolution is so many convolutions side by side.
    s_D : (..., m) float64
        With ``groups > 1``, (..., groups, m / groups).

    Raises
    ------
    ValueError
        If an argument is out of order, there is no sample or no output site, or a square overflows.

    Notes
    -----
    Source: Martins Gomes et al., AdaFisher (arXiv 2405.16397 v3), Kronecker factors; the patch and the means
    are our reading of accounts. Groups are not mentioned there and are our extension: whether one min-max
    normalisation runs over a group or over the layer is the argument `factor_axes` of `step`.
    Accuracy: a few units of roundoff per sample and site; squares of entries below 1e-154 underflow.
    """
    if not isinstance(kernel_size, tuple):
        got = type(kernel_size).__name__
        raise TypeError(f"kernel_size must be a tuple, one integer per spatial axis, got {got}")
    if len(kernel_size) not in _AXES:
        raise ValueError(f"kernel_size must hold one, two or three integers, got {len(kernel_size)}")
    d = len(kernel_size)
    x = array("x", x, form=f"(..., N, C, {', '.join(_AXES[d])})", axes=d + 2)
    kernel, strides = (_each(n, v, d) for n, v in (("kernel_size", kernel_size), ("stride", stride)))
    pads, spread = _each("padding", padding, d, minimum=0), _each("dilation", dilation, d)
    groups, channels = integer("groups", groups, minimum=1), x.shape[-1 - d]
    if channels % groups:
        raise ValueError(f"groups must divide the {channels} channels of x, got {groups}")
    patches = _patches(x, kernel, strides, pads, spread)  # (..., N, C, *sites, *kernel)
    sites = patches.shape[-2 * d : -d]
    s = array("s", s, form=f"(..., N, m, {', '.join(f'{axis}_out' for axis in _AXES[d])})", axes=d + 2)
    outputs, lead = s.shape[-1 - d], x.shape[: -2 - d]
    like("s", s, (*x.shape[: -1 - d], outputs, *sites))
    if outputs % groups:
        raise ValueError(f"groups must divide the {outputs} outputs of s, got {groups}")
    h_D = mean_square("x", patches, (-2 * d - 2, *range(-2 * d, -d)))  # (..., C, *kernel)
    s_D = mean_square("s", s, (-d - 2, *range(-d, 0)))
    split = (groups,) if groups > 1 else ()
    h_D = h_D.reshape(*lead, *split, channels // groups * prod(kernel))
    return with_bias(h_D, bias), s_D.reshape(*lead, *split, outputs // groups)


def conv2d_factors(
    x: Array,
    s: Array,
    *,
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    bias: bool = True,
) -> tuple[Array, Array]:
    """``h_D`` and ``s_D`` of a 2-D convolution: `convolution_factors` with two spatial axes.

    Parameters
    ----------
    x : (..., N, C, height, width) float64
        Inputs of the layer. Not modified.
    s : (..., N, m, height_out, width_out) float64
        Gradients at its output. Not modified.
    kernel_size, stride, padding, dilation : int or (int, int)
        As in ``torch.nn.Conv2d``, rows first; at least 1, `padding` at least 0. Padding is with zeros.
    groups : int
        Divides C and m; output group i sees channel group i only.
    bias : bool
        Whether the layer has one.

    Returns
    -------
    h_D : (..., k) float64
        ``k = C / groups * kernel height * kernel width``, plus 1 with bias, in the order (channel, row,
        column). With ``groups > 1`` the shape is (..., groups, k).
    s_D : (..., m) float64
        With ``groups > 1``, (..., groups, m / groups).

    Raises
    ------
    ValueError
        If an argument is out of order, there is no sample or no output site, or a square overflows.

    Notes
    -----
    Source: Martins Gomes et al., AdaFisher (arXiv 2405.16397 v3), Kronecker factors; see
    `convolution_factors`.
    Accuracy: a few units of roundoff per sample and site; squares of entries below 1e-154 underflow.
    """
    return convolution_factors(
        x,
        s,
        kernel_size=_each("kernel_size", kernel_size, 2),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        bias=bias,
    )


def _each(name: str, value: int | tuple[int, ...], axes: int, *, minimum: int = 1) -> tuple[int, ...]:
    """One integer at least `minimum` for each spatial axis, from one for all or one for each."""
    values = value if isinstance(value, tuple) else (value,) * axes
    if len(values) != axes:
        raise ValueError(f"{name} must be one integer{_OR_MORE[axes]}, got {len(values)}")
    return tuple(integer(name, v, minimum=minimum) for v in values)


def _patches(
    x: Array,
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    pads: tuple[int, ...],
    spread: tuple[int, ...],
) -> Array:
    """Every patch that the layer multiplies, (..., N, C, *sites, *kernel): a view of the padded input."""
    d = len(kernel)
    span = tuple(apart * (size - 1) + 1 for size, apart in zip(kernel, spread, strict=True))
    padded = np.pad(x, [(0, 0)] * (x.ndim - d) + [(p, p) for p in pads])
    if any(p < size for p, size in zip(padded.shape[-d:], span, strict=True)):
        spans = " x ".join(map(str, span))
        raise ValueError(f"kernel_size must fit: it spans {spans}, got {padded.shape[-d:]} to slide over")
    windows = sliding_window_view(padded, span, axis=tuple(range(-d, 0)))
    every: tuple[Any, ...] = (..., *(slice(None, None, step) for step in (*strides, *spread)))
    return windows[every]
