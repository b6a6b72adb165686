"""Diagonals of AdaFisher's Kronecker factors, measured on one batch, layer by layer.

Symbols: h layer input, s gradient of the loss with respect to the layer's output before its nonlinearity,
``H = E[h h^T]``, ``S = E[s s^T]``, ``h_D`` and ``s_D`` their diagonals. Public through `reference.adafisher`.

Three conventions hold throughout. The weight of a layer is a matrix (outputs, inputs) with the bias, if any,
as its last column, so that the last entry of h_D, the second moment of the constant input 1, is 1. E is the
mean over all samples and sites. And s belongs to the loss of one sample: the gradient of a loss that is
averaged over N samples is smaller by N and gives ``s_D / N^2``, which min-max normalisation removes exactly
if its epsilon is 0 or relative, and only then.
"""

import math
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reference._arguments import Array, array, choice, finite_result, integer, like
from reference._layer_means import mean_square, row_form, samples, with_bias

__all__ = [
    "NormalizationFactors",
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
    h = array("h", h, form=row_form(axes, "n"), axes=axes + 1)
    s = array("s", s, form=row_form(axes, "m"), axes=axes + 1)
    if s.shape[:-1] != h.shape[:-1]:
        raise ValueError(f"s must have the shape {h.shape[:-1]} before its last axis, got {s.shape[:-1]}")
    over = tuple(range(-1 - axes, -1))
    return with_bias(mean_square("h", h, over), bias), mean_square("s", s, over)


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
        raise ValueError(f"indices must be integers of shape {row_form(axes, '')}, got {got}")
    if indices.size and (indices.min() < 0 or indices.max() >= n):
        raise ValueError(
            f"indices must lie from 0 to {n - 1}, got values from {indices.min()} to {indices.max()}"
        )
    s = array("s", s, form=row_form(axes, "m"), axes=axes + 1)
    if s.shape[:-1] != indices.shape:
        raise ValueError(f"s must have the shape {indices.shape} before its last axis, got {s.shape[:-1]}")
    s_D = mean_square("s", s, tuple(range(-1 - axes, -1)))
    problems, samples = indices.shape[: indices.ndim - axes], indices.shape[indices.ndim - axes :]
    rows = indices.reshape(math.prod(problems), math.prod(samples))
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
        scale = mean_square("h", h, (-3, -2))
    else:
        samples("h", h, (-3, -2))
        with np.errstate(over="ignore"):
            scale = finite_result("h", np.square(h.mean(axis=(-3, -2))), "have squares in range")
    return NormalizationFactors(scale, np.ones_like(scale), mean_square("s", s, (-3, -2)))


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
    samples("h", h, (-3, -2))
    choice("parameter", parameter, ("scale", "shift"))
    with np.errstate(over="ignore", invalid="ignore"):
        gradient = (h * s if parameter == "scale" else s).sum(axis=-2)
        F = np.einsum("...ni,...nj->...ij", gradient, gradient) / gradient.shape[-2]
    return finite_result("h", F, "have products with s in range")


def _sites(h: Array, s: Array) -> tuple[Array, Array]:
    h = array("h", h, form="(..., N, T, c)", axes=3)
    return h, like("s", s, h.shape)
