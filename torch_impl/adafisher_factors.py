"""Diagonals of AdaFisher's Kronecker factors, layer by layer.

Symbols: h inputs of a layer, s gradients of the loss of each sample at its output; h_D and s_D diagonals of
``H = E[h h^T]`` and ``S = E[s s^T]``. Axes before those of the samples are a batch. Sums and results are
float64 for float64 and float32 for everything else; half precision arguments are read, and nothing is rounded
to them. A square below about 1e-38 vanishes in float32 and one above 3e38 becomes infinite. Entries are not
inspected, which would make the host wait: NaN and infinities pass through.
Part of `torch_impl.adafisher`, the twin of `reference.adafisher`; derived independently.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from torch_impl import _checks
from torch_impl._layer_squares import lookups, sums

__all__ = [
    "NormalizationFactors",
    "embedding_factors",
    "linear_factors",
    "normalization_block",
    "normalization_factors",
]

FORMS = ("v3", "submission")
PARAMETERS = ("scale", "shift")
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


@torch.no_grad()
def linear_factors(h: Tensor, s: Tensor, *, bias: bool = True, sample_axes: int = 1) -> tuple[Tensor, Tensor]:
    """``h_D`` and ``s_D`` of a linear layer: mean squares over the rows.

    Parameters
    ----------
    h : (..., N, n) float64, float32, bfloat16 or float16
        Inputs of the layer. Not modified.
    s : (..., N, m) float64, float32, bfloat16 or float16
        Gradients at its output. Not modified.
    bias : bool
        Whether the layer has one.
    sample_axes : int
        How many axes before the last hold samples; at least 1. With 2 the inputs are (..., N, T, n), and
        tokens are flattened into rows.

    Returns
    -------
    h_D : (..., n) or, with bias, (..., n + 1), dtype of h but at least float32
        In units of h squared; the last entry is 1 with bias.
    s_D : (..., m), dtype of s but at least float32
        In units of s squared.

    Raises
    ------
    TypeError, ValueError
        If a shape, dtype, layout or option does not fit, or there is no sample.

    Notes
    -----
    Source: Martins Gomes et al., AdaFisher (arXiv 2405.16397 v3), Kronecker factors.
    """
    samples = _samples("h", h, sample_axes)
    _rows_of("s", s, tuple(h.shape[:-1]))
    return with_bias(_mean_squares(h, samples), bias), _mean_squares(s, samples)


@torch.no_grad()
def embedding_factors(
    indices: Tensor, s: Tensor, *, num_embeddings: int, sample_axes: int = 1
) -> tuple[Tensor, Tensor]:
    """``h_D`` and ``s_D`` of an embedding: a linear layer without bias whose inputs are one-hot.

    Parameters
    ----------
    indices : (..., N) int64, int32, int16, int8 or uint8
        From 0 to ``num_embeddings - 1``. Not modified.
    s : (..., N, m) float64, float32, bfloat16 or float16
        Gradients at the embedded vectors. Not modified.
    num_embeddings : int
        Entries of the table, n; at least 1.
    sample_axes : int
        How many last axes of `indices` hold samples; at least 1.

    Returns
    -------
    h_D : (..., n), dtype of s but at least float32
        How often each entry occurs, as a share of the samples. NaN throughout where an index is out of
        range: entries are not inspected on the host, which would make it wait.
    s_D : (..., m), dtype of s but at least float32
        In units of s squared. The weight is (m, n), the transpose of an embedding table.

    Raises
    ------
    TypeError, ValueError
        If a shape, dtype, layout or option does not fit, or there is no sample.

    Notes
    -----
    Source: Martins Gomes et al., AdaFisher (arXiv 2405.16397 v3), Kronecker factors of a linear layer; that
    an embedding is one with one-hot inputs is our reading.
    """
    _checks.count("num_embeddings", num_embeddings, at_least=1)
    axes = _checks.count("sample_axes", sample_axes, at_least=1)
    if not isinstance(indices, Tensor):
        raise TypeError(f"indices must be a torch.Tensor, got {type(indices).__name__}")
    if indices.dtype not in INTEGERS or indices.ndim < axes:
        wanted = f"integers with at least {axes} axes"
        raise ValueError(f"indices must be {wanted}, got {indices.dtype} of shape {tuple(indices.shape)}")
    _rows_of("s", s, tuple(indices.shape))
    samples = _samples("s", s, axes)
    flat = indices.flatten(-axes).to(torch.int64)
    inside = (flat >= 0) & (flat < num_embeddings)
    counts = lookups(flat.clamp(0, num_embeddings - 1), num_embeddings).to(_checks.working(s.dtype))
    h_D = torch.where(inside.all(dim=-1, keepdim=True), counts / flat.shape[-1], torch.nan)
    return h_D, _mean_squares(s, samples)


class NormalizationFactors(NamedTuple):
    """Factor diagonals of a normalisation layer with c channels.

    Attributes
    ----------
    scale : (..., c)
        ``diag(H)`` for the scale parameters, in units of h squared.
    shift : (..., c)
        ``diag(H)`` for the shift parameters: ones, so that min-max normalisation gives a zero factor and the
        denominator of every shift is the damping.
    s_D : (..., c)
        ``diag(S)`` of both, in units of s squared.
    """

    scale: Tensor
    shift: Tensor
    s_D: Tensor


@torch.no_grad()
def normalization_factors(h: Tensor, s: Tensor, *, form: str = "v3") -> NormalizationFactors:
    """Factor diagonals of batch, layer or group normalisation.

    Parameters
    ----------
    h : (..., N, T, c) float64, float32, bfloat16 or float16
        Normalised activations, before scale and shift: N samples, T sites, c channels. A layer without sites
        has ``T = 1``. Not modified.
    s : (..., N, T, c) float64, float32, bfloat16 or float16
        Gradients at the layer's output. Not modified.
    form : {"v3", "submission"}
        "v3": ``diag(H)`` is the mean of ``h_x^2`` over samples and sites. "submission": the square of the
        mean of ``h_x``. S is a mean over the sites in both.

    Returns
    -------
    NormalizationFactors
        Dtype of h (scale and shift) and of s, but at least float32.

    Raises
    ------
    TypeError, ValueError
        If a shape, dtype, layout or option does not fit, or there is no sample or no site.

    Notes
    -----
    Source: Martins Gomes et al., AdaFisher (arXiv 2405.16397 v3), Proposition 3.1, and its submission.
    Neither is the Fisher block of the layer: see `normalization_block`.
    """
    _checks.choice("form", form, FORMS)
    samples = _sites("h", h)
    _same_shape("s", s, h)
    if form == "v3":
        scale = _mean_squares(h, samples)
    else:
        scale = h.to(_checks.working(h.dtype)).mean(dim=samples).square()
    return NormalizationFactors(scale, torch.ones_like(scale), _mean_squares(s, samples))


@torch.no_grad()
def normalization_block(h: Tensor, s: Tensor, *, parameter: str = "scale") -> Tensor:
    """The exact Fisher block of the scale or the shift: the mean outer product of per-sample gradients.

    The gradient of one sample is ``sum_x h_x s_x`` for the scale, entrywise in the channels, and
    ``sum_x s_x`` for the shift: the block holds the terms between different sites, which the factors drop.

    Parameters
    ----------
    h, s : (..., N, T, c) float64, float32, bfloat16 or float16
        As in `normalization_factors`. Not modified.
    parameter : {"scale", "shift"}
        Whose block.

    Returns
    -------
    F : (..., c, c), common dtype of h and s but at least float32
        ``E[(sum_x h_x s_x) (sum_y h_y s_y)^T]``, symmetric positive semidefinite.

    Raises
    ------
    TypeError, ValueError
        If a shape, dtype, layout or option does not fit, or there is no sample or no site.

    Notes
    -----
    Source: the definition of the empirical Fisher matrix, for comparison with Martins Gomes et al., AdaFisher
    (arXiv 2405.16397 v3), Proposition 3.1.
    """
    _checks.choice("parameter", parameter, PARAMETERS)
    _sites("h", h)
    _same_shape("s", s, h)
    dtype = _checks.working(_checks.common_dtype(h, s))
    h, s = h.to(dtype), s.to(dtype)
    g = (h * s if parameter == "scale" else s).sum(dim=-2)  # (..., N, c)
    return g.mT @ g / g.shape[-2]


def _mean_squares(x: Tensor, axes: Sequence[int]) -> Tensor:
    return sums(x, axes) / math.prod(x.shape[axis] for axis in axes)


def with_bias(h_D: Tensor, bias: bool) -> Tensor:
    """The bias is the weight of a last input that is always 1."""
    return torch.cat([h_D, h_D.new_ones((*h_D.shape[:-1], 1))], dim=-1) if bias else h_D


def _samples(name: str, x: Tensor, axes: int) -> tuple[int, ...]:
    """The axes of `x` that hold samples: `axes` of them before the last."""
    axes = _checks.count("sample_axes", axes, at_least=1)
    if _checks.tensor(name, x).ndim <= axes:
        raise ValueError(f"{name} must have at least {axes + 1} axes, got shape {tuple(x.shape)}")
    return _not_empty(name, x, tuple(range(-axes - 1, -1)))


def _sites(name: str, x: Tensor) -> tuple[int, ...]:
    if _checks.tensor(name, x).ndim < 3:
        raise ValueError(f"{name} must have shape (..., N, T, c), got {tuple(x.shape)}")
    return _not_empty(name, x, (-3, -2))


def _not_empty(name: str, x: Tensor, axes: tuple[int, ...]) -> tuple[int, ...]:
    if not all(x.shape[axis] for axis in axes):
        raise ValueError(f"{name} must hold at least one sample and one site, got shape {tuple(x.shape)}")
    return axes


def _rows_of(name: str, x: Tensor, rows: tuple[int, ...]) -> None:
    if _checks.tensor(name, x).shape[:-1] != rows or x.ndim == 0:
        raise ValueError(f"{name} must have shape ({', '.join(map(str, rows))}, m), got {tuple(x.shape)}")


def _same_shape(name: str, x: Tensor, other: Tensor) -> None:
    if _checks.tensor(name, x).shape != other.shape:
        raise ValueError(f"{name} must have shape {tuple(other.shape)}, got {tuple(x.shape)}")
