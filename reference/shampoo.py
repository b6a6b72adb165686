"""Shampoo: one preconditioner per axis of the parameter, from sums of gradient second moments.

Symbols: G gradient, a tensor of order k; L and R factors of a matrix (k = 2), H_i factor of axis i in
general, epsilon their start.
"""

from math import prod
from typing import NamedTuple

import numpy as np

from reference._arguments import (
    Array,
    array,
    finite_result,
    integer,
    like,
    non_negative,
    number,
    positive,
    shape,
)
from reference._moments import with_weight_decay
from reference._spd import eigh, symmetric

__all__ = ["ShampooState", "init", "step"]

#: -1/4 for a matrix: each side carries half of the root of an inverse second moment of order two.
_MATRIX_EXPONENT = -1 / 4


class ShampooState(NamedTuple):
    """What Shampoo remembers between steps.

    Attributes
    ----------
    factors : tuple of (..., d_i, d_i) float64
        One per axis of the parameter, symmetric positive definite, in units of the squared gradient. For a
        matrix they are L and R.

    Notes
    -----
    Source: Gupta, Koren, Singer, "Shampoo" (2018), algorithms 1 and 2.
    """

    factors: tuple[Array, ...]


def init(W: Array | tuple[int, ...], *, epsilon: float = 1e-6, order: int = 2) -> ShampooState:
    """State before the first step: every factor is ``epsilon I``.

    Parameters
    ----------
    W : (..., d_1, ..., d_k) float64, or tuple of int
        The parameter or its shape. Not modified, not kept.
    epsilon : float
        Above 0, in units of the squared gradient. The default is a common package's; the paper tunes it.
    order : int
        k, at least 1: the last k axes are those of one parameter, the others are batch axes.

    Returns
    -------
    ShampooState

    Raises
    ------
    ValueError
        If an argument is out of order.

    Notes
    -----
    Source: Gupta, Koren, Singer, "Shampoo" (2018), algorithms 1 and 2.
    Accuracy: exact (multiples of the identity).
    """
    epsilon, order = positive("epsilon", epsilon), integer("order", order, minimum=1)
    sizes = shape("W", W if isinstance(W, tuple) else array("W", W).shape, axes=order)
    batch, sides = sizes[:-order], sizes[-order:]
    return ShampooState(tuple(np.broadcast_to(epsilon * np.eye(d), (*batch, d, d)).copy() for d in sides))


def step(
    G: Array,
    state: ShampooState,
    *,
    exponent: float = _MATRIX_EXPONENT,
    weight_decay: float = 0.0,
    W: Array | None = None,
) -> tuple[Array, ShampooState]:
    """One step: ``W_new = W - lr * update``.

    Parameters
    ----------
    G : (..., d_1, ..., d_k) float64
        Gradient at W. Not modified.
    state : ShampooState
        From `init` or the previous step. Not modified.
    exponent : float
        Below 0, the power of each factor. The paper's is ``-1 / (2 k)``, which for a matrix is the default
        -1/4; -1/2 is the power of the one-sided optimum of KL-Shampoo.
    weight_decay : float
        At least 0; decoupled: the update contains ``weight_decay * W``.
    W : (..., d_1, ..., d_k) float64, optional
        The parameter, needed if ``weight_decay > 0``. Not modified.

    Returns
    -------
    update : (..., d_1, ..., d_k) float64
        G with every axis multiplied by the power of its factor, the new gradient included: for a matrix
        ``L^(-1/4) G R^(-1/4)``.
    state : ShampooState
        ``L + G G^T`` and ``R + G^T G``; in general ``H_i + G_(i) G_(i)^T`` with the unfolding along axis i.
        Nothing is shared with the old state.

    Raises
    ------
    ValueError
        If an argument is out of order, the square of `G` overflows, a factor is not positive definite to
        working precision (the sums outgrow epsilon by 1 / u), or `W` is missing where weight decay needs it.

    Notes
    -----
    Source: Gupta, Koren, Singer, "Shampoo" (2018), algorithm 1 for matrices, 2 for tensors. No momentum, no
    grafting, roots every step, sums and not averages: what packages add to the rule is left out.
    Accuracy: normwise relative error of order ``side * u`` times the conditions of the factors.
    """
    exponent, weight_decay = number("exponent", exponent), non_negative("weight_decay", weight_decay)
    if not exponent < 0:
        raise ValueError(f"exponent must be below 0, got {exponent}")
    order = len(state.factors)
    G = array("G", G, form=f"(..., {', '.join(f'd_{i + 1}' for i in range(order))})", axes=order)
    batch, sides = G.shape[: G.ndim - order], G.shape[G.ndim - order :]
    factors, update = [], G
    for axis, (side, H) in enumerate(zip(sides, state.factors, strict=True)):
        H = like(f"state.factors[{axis}]", H, (*batch, side, side))
        H_new = H + _gram(_unfolded(G, len(batch) + axis, len(batch)))
        factors.append(symmetric(finite_result("G", H_new, "have a square in range")))
        root = _power(f"state.factors[{axis}]", factors[-1], exponent)
        along = np.moveaxis(update, len(batch) + axis, len(batch))
        turned = (root @ along.reshape(*batch, side, prod(along.shape[len(batch) + 1 :]))).reshape(
            along.shape
        )
        update = np.moveaxis(turned, len(batch), len(batch) + axis)
    return with_weight_decay(np.ascontiguousarray(update), W, weight_decay), ShampooState(tuple(factors))


def _unfolded(G: Array, axis: int, batch: int) -> Array:
    """The unfolding of each tensor along `axis`: ``(batch..., d_i, product of the others)``."""
    moved = np.moveaxis(G, axis, batch)
    return moved.reshape(*moved.shape[: batch + 1], prod(moved.shape[batch + 1 :]))


def _gram(X: Array) -> Array:
    """``X X^T``, infinite where it overflows."""
    with np.errstate(over="ignore", invalid="ignore"):
        return X @ X.mT


def _power(name: str, H: Array, exponent: float) -> Array:
    """``H^exponent`` of a symmetric positive definite matrix, exactly symmetric."""
    w, V = eigh(name, H)
    return symmetric((V * w[..., None, :] ** exponent) @ V.mT)
