"""Diagonals of AdaFisher's Kronecker factors, measured on one batch, layer by layer.

Symbols: h layer input, s gradient of the loss with respect to the layer's output before its nonlinearity,
``H = E[h h^T]``, ``S = E[s s^T]``, ``h_D`` and ``s_D`` their diagonals. Public through `reference.adafisher`.

Three conventions hold throughout. The weight of a layer is a matrix (outputs, inputs) with the bias, if any,
as its last column, so that the last entry of h_D, the second moment of the constant input 1, is 1. E is the
mean over all samples and sites. And s belongs to the loss of one sample: the gradient of a loss that is
averaged over N samples is smaller by N and gives ``s_D / N^2``, which min-max normalisation removes exactly
if its epsilon is 0 or relative, and only then.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from reference._arguments import Array, array, choice, finite_result, integer, like

__all__ = [
    "NormalizationFactors",
    "conv2d_factors",
    "embedding_factors",
    "linear_factors",
    "normalization_block",
    "normalization_factors",
]


def linear_factors(h: Array, s: Array, *, bias: bool = True, sample_axes: int = 1) -> tuple[Array, Array]:
    """``h_D`` and ``s_D`` of a linear layer: mean squares over the rows.

    Parameters
    ----------
    h : (..., N, n) float64
        Inputs of the layer. Not modified.
    s : (..., N, m) float64
        Gradients at its output. Not modified.
    bias : bool
        Whether the layer has one.
    sample_axes : int
        How many axes before the last hold samples; at least 1. With 2 the inputs are (..., N, T, n), and
        tokens are flattened into rows.

    Returns
    -------
    h_D : (..., n) or, with bias, (..., n + 1) float64
        In units of h squared; the last entry is 1 with bias.
    s_D : (..., m) float64
        In units of s squared.

    Raises
    ------
    ValueError
        If an argument is out of order, there is no sample, or a square overflows.

    Notes
    -----
    Source: Martins Gomes et al., AdaFisher (arXiv 2405.16397 v3), Kronecker factors; as accounts report them.
    Accuracy: a few units of roundoff per sample; squares of entries below 1e-154 underflow.
    """
    axes = integer("sample_axes", sample_axes, minimum=1)
    h = array("h", h, form=_rows(axes, "n"), axes=axes + 1)
    s = array("s", s, form=_rows(axes, "m"), axes=axes + 1)
    if s.shape[:-1] != h.shape[:-1]:
        raise ValueError(f"s must have the shape {h.shape[:-1]} before its last axis, got {s.shape[:-1]}")
    over = tuple(range(-1 - axes, -1))
    return _with_bias(_mean_square("h", h, over), bias), _mean_square("s", s, over)


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
    """``h_D`` and ``s_D`` of a 2-D convolution: mean squares over the batch and the output sites.

    The input of a site is the patch that the layer multiplies there, zeros of the padding included, its
    entries in the order (channel, row, column) of the flattened weight. The other choice in use, a factor
    such as one over the patch size, cancels in min-max normalisation.

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
        ``k = C / groups * kernel height * kernel width``, plus 1 with bias. With ``groups > 1`` the shape is
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
    x = array("x", x, form="(..., N, C, height, width)", axes=4)
    kernel, strides = _pair("kernel_size", kernel_size), _pair("stride", stride)
    pads, spread = _pair("padding", padding, minimum=0), _pair("dilation", dilation)
    groups, channels = integer("groups", groups, minimum=1), x.shape[-3]
    if channels % groups:
        raise ValueError(f"groups must divide the {channels} channels of x, got {groups}")
    span = [d * (k - 1) + 1 for k, d in zip(kernel, spread, strict=True)]
    padded = np.pad(x, [(0, 0)] * (x.ndim - 2) + [(p, p) for p in pads])
    if any(p < size for p, size in zip(padded.shape[-2:], span, strict=True)):
        raise ValueError(
            f"kernel_size must fit: it spans {span[0]} x {span[1]}, got {padded.shape[-2:]} to slide over"
        )
    windows = sliding_window_view(padded, tuple(span), axis=(-2, -1))
    patches = windows[..., :: strides[0], :: strides[1], :: spread[0], :: spread[1]]
    sites = patches.shape[-4:-2]
    s = array("s", s, form="(..., N, m, height_out, width_out)", axes=4)
    outputs = s.shape[-3]
    like("s", s, (*x.shape[:-3], outputs, *sites))
    if outputs % groups:
        raise ValueError(f"groups must divide the {outputs} outputs of s, got {groups}")
    h_D = _mean_square("x", patches, (-6, -4, -3))  # (..., C, kernel height, kernel width)
    s_D = _mean_square("s", s, (-4, -2, -1))
    split = (groups,) if groups > 1 else ()
    entries = channels // groups * kernel[0] * kernel[1]
    h_D = h_D.reshape(*x.shape[:-4], *split, entries)
    return _with_bias(h_D, bias), s_D.reshape(*x.shape[:-4], *split, outputs // groups)


def embedding_factors(
    indices: NDArray[np.integer], s: Array, *, num_embeddings: int, sample_axes: int = 1
) -> tuple[Array, Array]:
    """``h_D`` and ``s_D`` of an embedding: a linear layer without bias whose inputs are one-hot.

    Parameters
    ----------
    indices : (..., N) integers
        From 0 to ``num_embeddings - 1``. Not modified.
    s : (..., N, m) float64
        Gradients at the embedded vectors. Not modified.
    num_embeddings : int
        Entries of the table, n; at least 1.
    sample_axes : int
        How many last axes of `indices` hold samples; at least 1.

    Returns
    -------
    h_D : (..., n) float64
        How often each entry occurs, as a share of the samples.
    s_D : (..., m) float64
        In units of s squared. The weight is (m, n), the transpose of an embedding table.

    Raises
    ------
    ValueError
        If an argument is out of order, there is no sample, or a square overflows.

    Notes
    -----
    Source: Martins Gomes et al., AdaFisher (arXiv 2405.16397 v3), Kronecker factors of a linear layer; that
    an embedding is one with one-hot inputs is our reading.
    Accuracy: h_D is correctly rounded; s_D has a few units of roundoff per sample, and squares of entries
    below 1e-154 underflow.
    """
    n, axes = (
        integer("num_embeddings", num_embeddings, minimum=1),
        integer("sample_axes", sample_axes, minimum=1),
    )
    if not isinstance(indices, np.ndarray):
        raise TypeError(f"indices must be an integer array of shape (..., N), got {type(indices).__name__}")
    if not np.issubdtype(indices.dtype, np.integer) or indices.ndim < axes:
        got = f"{indices.dtype} of shape {indices.shape}"
        raise ValueError(f"indices must be integers of shape {_rows(axes, '')}, got {got}")
    if indices.size and (indices.min() < 0 or indices.max() >= n):
        raise ValueError(
            f"indices must lie from 0 to {n - 1}, got values from {indices.min()} to {indices.max()}"
        )
    s = array("s", s, form=_rows(axes, "m"), axes=axes + 1)
    if s.shape[:-1] != indices.shape:
        raise ValueError(f"s must have the shape {indices.shape} before its last axis, got {s.shape[:-1]}")
    s_D = _mean_square("s", s, tuple(range(-1 - axes, -1)))
    problems = indices.shape[: indices.ndim - axes]
    rows = indices.reshape(int(np.prod(problems)), -1)
    counts = np.zeros((len(rows), n))
    np.add.at(counts, (np.arange(len(rows))[:, None], rows), 1.0)
    return (counts / max(rows.shape[1], 1)).reshape(*problems, n), s_D


class NormalizationFactors(NamedTuple):
    """Factor diagonals of a normalisation layer with c channels.

    Attributes
    ----------
    scale : (..., c) float64
        ``diag(H)`` for the scale parameters, in units of h squared.
    shift : (..., c) float64
        ``diag(H)`` for the shift parameters: ones, so that min-max normalisation gives a zero factor and the
        denominator of every shift is the damping.
    s_D : (..., c) float64
        ``diag(S)`` of both, in units of s squared.

    Notes
    -----
    Source: Martins Gomes et al., AdaFisher (arXiv 2405.16397 v3), Proposition 3.1; as accounts report it.
    """

    scale: Array
    shift: Array
    s_D: Array


def normalization_factors(
    h: Array, s: Array, *, form: Literal["v3", "submission"] = "v3"
) -> NormalizationFactors:
    """Factor diagonals of batch, layer or group normalisation.

    Parameters
    ----------
    h : (..., N, T, c) float64
        Normalised activations, before scale and shift: N samples, T sites, c channels. The sites are the
        pixels of an image for batch and group normalisation, the tokens for layer normalisation, whose
        channels are the features; a layer without sites has ``T = 1``. Not modified.
    s : (..., N, T, c) float64
        Gradients at the layer's output. Not modified.
    form : {"v3", "submission"}
        "v3": ``diag(H)`` is the mean of ``h_x^2`` over samples and sites. "submission": the square of the
        mean of ``h_x``, the outer product of summed activations over ``(N T)^2``. S is a mean over the sites
        in both: what the submission printed for it is not known.

    Returns
    -------
    NormalizationFactors

    Raises
    ------
    ValueError
        If an argument is out of order, there is no sample or no site, or a square overflows.

    Notes
    -----
    Source: Martins Gomes et al., AdaFisher (arXiv 2405.16397 v3), Proposition 3.1, and its submission; as
    accounts report them. Neither is the Fisher block of the layer: see `normalization_block`.
    Accuracy: means of squares to about ``N T u`` relative, the scale of "submission" to ``2 N T u`` relative
    to the squared mean of ``|h|``; squares of entries below 1e-154 underflow.
    """
    h, s = _sites(h, s)
    choice("form", form, ("v3", "submission"))
    if form == "v3":
        scale = _mean_square("h", h, (-3, -2))
    else:
        _samples("h", h, (-3, -2))
        with np.errstate(over="ignore"):
            scale = finite_result("h", np.square(h.mean(axis=(-3, -2))), "have squares in range")
    return NormalizationFactors(scale, np.ones_like(scale), _mean_square("s", s, (-3, -2)))


def normalization_block(h: Array, s: Array, *, parameter: Literal["scale", "shift"] = "scale") -> Array:
    """The exact Fisher block of the scale or the shift: the mean outer product of per-sample gradients.

    The gradient of one sample is ``sum_x h_x s_x`` for the scale, entrywise in the channels, and
    ``sum_x s_x`` for the shift: the block holds the terms between different sites, which the factors drop.

    Parameters
    ----------
    h, s : (..., N, T, c) float64
        As in `normalization_factors`. Not modified.
    parameter : {"scale", "shift"}
        Whose block.

    Returns
    -------
    F : (..., c, c) float64
        ``E[(sum_x h_x s_x) (sum_y h_y s_y)^T]``, symmetric positive semidefinite.

    Raises
    ------
    ValueError
        If an argument is out of order, there is no sample or no site, or a product overflows.

    Notes
    -----
    Source: derived from the definition of the empirical Fisher matrix, for comparison with Martins Gomes et
    al., AdaFisher (arXiv 2405.16397 v3), Proposition 3.1.
    Accuracy: each entry to about ``(N + 2 T) u`` relative to the same mean of the absolute terms,
    ``E[(sum_x |h_x s_x|) (sum_y |h_y s_y|)^T]`` for the scale.
    """
    h, s = _sites(h, s)
    _samples("h", h, (-3, -2))
    choice("parameter", parameter, ("scale", "shift"))
    with np.errstate(over="ignore", invalid="ignore"):
        gradient = (h * s if parameter == "scale" else s).sum(axis=-2)
        F = np.einsum("...ni,...nj->...ij", gradient, gradient) / gradient.shape[-2]
    return finite_result("h", F, "have products with s in range")


def _rows(axes: int, last: str) -> str:
    """The form of an array with `axes` sample axes, for messages."""
    names = ["N", "T", *(f"T{k}" for k in range(2, axes))][:axes]
    return f"(..., {', '.join([*names, *filter(None, [last])])})"


def _sites(h: Array, s: Array) -> tuple[Array, Array]:
    h = array("h", h, form="(..., N, T, c)", axes=3)
    return h, like("s", s, h.shape)


def _samples(name: str, X: Array, over: tuple[int, ...]) -> None:
    if any(X.shape[axis] == 0 for axis in over):
        raise ValueError(f"{name} must hold at least one sample and one site, got shape {X.shape}")


def _mean_square(name: str, X: Array, over: tuple[int, ...]) -> Array:
    """Mean of ``X^2`` over axes that must not be empty."""
    _samples(name, X, over)
    with np.errstate(over="ignore"):
        return finite_result(name, np.square(X).mean(axis=over), "have squares in range")


def _with_bias(h_D: Array, bias: bool) -> Array:
    return np.concatenate([h_D, np.ones((*h_D.shape[:-1], 1))], axis=-1) if bias else h_D


def _pair(name: str, value: int | Sequence[int], *, minimum: int = 1) -> tuple[int, int]:
    """Two integers at least `minimum`, from one or two."""
    values = value if isinstance(value, tuple) else (value, value)
    if len(values) != 2:
        raise ValueError(f"{name} must be one integer or two, got {len(values)}")
    first, second = (integer(name, v, minimum=minimum) for v in values)
    return first, second
