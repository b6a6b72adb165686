"""L-BFGS: the inverse Hessian from the last few displacements and changes of the gradient.

Symbols: g gradient, s displacement, y change of the gradient over it, S and Y the last pairs, oldest first,
rho = 1 / (y^T s), H the inverse Hessian that the pairs stand for, ``H_0 = (y^T s / y^T y) I`` its start.

A pair of zeros stands for no pair, so that the runs of a batch may remember different numbers of pairs.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reference._arguments import (
    Array,
    finite_result,
    integer,
    like,
    matrix,
    non_negative,
    positive,
    shape,
    vector,
)

__all__ = ["LbfgsState", "init", "step", "two_loop_direction"]


def two_loop_direction(g: Array, S: Array, Y: Array) -> Array:
    """``H g`` by the two-loop recursion, without forming H.

    Parameters
    ----------
    g : (..., d) float64
        Gradient. Not modified.
    S, Y : (..., k, d) float64
        Displacements and changes of the gradient, oldest first, ``y^T s > 0`` in every pair; a pair of zeros
        is no pair. Not modified.

    Returns
    -------
    direction : (..., d) float64
        ``H g`` for the BFGS matrix that starts at ``(y^T s / y^T y) I`` of the newest pair and takes in all
        pairs from the oldest to the newest; g itself where there is no pair.

    Raises
    ------
    ValueError
        If a shape, dtype or entry is out of order, a pair has ``y^T s`` not above 0, or a product leaves the
        range of float64.

    Notes
    -----
    Source: Nocedal and Wright, "Numerical Optimization" (2006), algorithm 7.4 with equation 7.20.
    Accuracy: every pair can magnify the rounding of those before it, at most
    ``(1 + |s| |y| / (y^T s))^2``-fold.
    """
    g, S = vector("g", g), matrix("S", S)
    Y = like("Y", Y, S.shape)
    if (*S.shape[:-2], S.shape[-1]) != g.shape:
        raise ValueError(f"S must have shape {(*g.shape[:-1], 'k', *g.shape[-1:])}, got {S.shape}")
    absent = ~(S.any(axis=-1) | Y.any(axis=-1))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        curvature = finite_result("S", (S * Y).sum(axis=-1), "have products with Y in range")
        if not (absent | (curvature > 0)).all():
            raise ValueError(f"S and Y must have y^T s > 0 in every pair, got {curvature[~absent].min():.3g}")
        rho = np.where(absent, 0.0, 1 / curvature)
        direction = _two_loops(g, S, Y, rho, _initial_scale(Y, curvature, np.asarray(absent)))
    return finite_result("g", direction, "have products with S, Y and 1 / (y^T s) in range")


class LbfgsState(NamedTuple):
    """What L-BFGS remembers between steps.

    Attributes
    ----------
    S : (..., memory, d) float64
        Displacements of the pairs kept, oldest first; zeros where there is none yet.
    Y : (..., memory, d) float64
        Changes of the gradient over them.
    s : (..., d) float64
        Last displacement, not yet part of a pair.
    g : (..., d) float64
        Gradient before it; zero before the first step, and only then.

    Notes
    -----
    Source: Nocedal and Wright, "Numerical Optimization" (2006), algorithm 7.5.
    """

    S: Array
    Y: Array
    s: Array
    g: Array


def init(w: Array | tuple[int, ...], *, memory: int = 100) -> LbfgsState:
    """State before the first step: no pairs.

    Parameters
    ----------
    w : (..., d) float64, or tuple of int
        The flat vector of **all** parameters, or its shape. Not modified, not kept.
    memory : int
        Pairs kept at most, at least 1. The default is torch's.

    Returns
    -------
    LbfgsState

    Raises
    ------
    ValueError
        If an argument is out of order.

    Notes
    -----
    Source: Nocedal and Wright, "Numerical Optimization" (2006), algorithm 7.5.
    Accuracy: exact (zeros).
    """
    *batch, d = shape("w", w, axes=1)
    pairs = (*batch, integer("memory", memory, minimum=1), d)
    return LbfgsState(np.zeros(pairs), np.zeros(pairs), np.zeros((*batch, d)), np.zeros((*batch, d)))


def step(
    g: Array, state: LbfgsState, *, lr: float = 1.0, least_curvature: float = 1e-10
) -> tuple[Array, LbfgsState]:
    """One step without line search: ``w_new = w - lr * update``.

    Parameters
    ----------
    g : (..., d) float64
        Gradient over all parameters, of the same function at every step. Not modified.
    state : LbfgsState
        From `init` or the previous step. Not modified.
    lr : float
        Above 0. It is an argument because the next pair needs the displacement, ``-lr * update``: the caller
        must step by exactly that.
    least_curvature : float
        At least 0: the last pair is kept iff ``y^T s`` is above it. Absolute, in units of the function, as in
        torch: a function scaled down far enough keeps no pair.

    Returns
    -------
    update : (..., d) float64
        ``min(1, 1 / |g|_1) g`` at the first step, then ``H g``. Zero where g is zero.
    state : LbfgsState
        The new state; nothing is shared with the old one. Runs of a batch whose gradient is zero keep theirs.

    Raises
    ------
    ValueError
        If an argument is out of order, or a product leaves the range of float64.

    Notes
    -----
    Source: Nocedal and Wright, "Numerical Optimization" (2006), algorithm 7.5; first step, absolute threshold
    and what happens at a zero gradient from the source of ``torch.optim.LBFGS`` with ``max_iter=1``. Neither
    line search nor a safeguard against gradients of different batches.
    Accuracy: the first step has entries to about ``d u`` relative, later ones are as in `two_loop_direction`
    for the gradients as given, whose own errors grow by ``(|g| + |state.g|) / |g - state.g|``. A pair with
    ``y^T s`` within rounding of `least_curvature` may be kept or not.
    """
    lr, least_curvature = positive("lr", lr), non_negative("least_curvature", least_curvature)
    S = matrix("state.S", state.S)
    *batch, _, d = S.shape
    g = like("g", g, (*batch, d))
    Y = like("state.Y", state.Y, S.shape)
    last_s, last_g = like("state.s", state.s, g.shape), like("state.g", state.g, g.shape)
    with np.errstate(over="ignore", invalid="ignore"):
        y = finite_result("g", g - last_g, "have a difference from the last gradient in range")
        curvature = finite_result("g", (y * last_s).sum(axis=-1), "have y^T s in range")
        keep = np.asarray(curvature > least_curvature)
        S, Y = (_appended(X, x, keep[..., None, None]) for X, x in ((S, last_s), (Y, y)))
        size = finite_result("g", np.abs(g).sum(axis=-1, keepdims=True), "have |g|_1 in range")
    first = ~last_g.any(axis=-1, keepdims=True)
    update = np.where(first, g / np.maximum(size, 1.0), two_loop_direction(g, S, Y))
    moved = np.asarray(g.any(axis=-1, keepdims=True))
    new = LbfgsState(
        np.where(moved[..., None], S, state.S),
        np.where(moved[..., None], Y, state.Y),
        np.where(moved, -lr * update, last_s),
        np.where(moved, g, last_g),
    )
    return update, new


def _initial_scale(Y: Array, curvature: Array, absent: NDArray[np.bool_]) -> Array:
    """``y^T s / y^T y`` of the newest pair, 1 where there is none; ready to scale a vector."""
    scale = np.ones((*Y.shape[:-2], 1))
    for i in range(Y.shape[-2]):
        at = np.where(absent[..., i], 1.0, curvature[..., i] / np.square(Y[..., i, :]).sum(axis=-1))
        scale = np.where(absent[..., i, None], scale, at[..., None])
    return scale


def _two_loops(q: Array, S: Array, Y: Array, rho: Array, scale: Array) -> Array:
    """The recursion itself: newest to oldest pair, ``H_0``, oldest to newest."""
    alpha = np.zeros_like(rho)
    for i in reversed(range(S.shape[-2])):
        alpha[..., i] = rho[..., i] * (S[..., i, :] * q).sum(axis=-1)
        q = q - alpha[..., i, None] * Y[..., i, :]
    r = scale * q
    for i in range(S.shape[-2]):
        beta = rho[..., i] * (Y[..., i, :] * r).sum(axis=-1)
        r = r + (alpha[..., i] - beta)[..., None] * S[..., i, :]
    return r


def _appended(X: Array, x: Array, keep: NDArray[np.bool_]) -> Array:
    """`X` without its oldest row and with the row `x` at the end, where `keep`; else `X`."""
    return np.where(keep, np.concatenate([X[..., 1:, :], x[..., None, :]], axis=-2), X)
