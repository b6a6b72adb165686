"""DyKAF: Kronecker factors of the Fisher matrix tracked by projector splitting, and Adam in their bases.

Symbols: G gradient, (m, n), g = vec(G) row by row; L and R factors of ``F ~ L kron R``; beta weight of the
old F; U and V eigenbases of L and R; M average of raw gradients; N average of squared rotated ones.

The factors are fitted in the *Frobenius* sense, without inverses, by a rank-one approximation of the
rearranged matrix; `rearrangement`, `nearest_kronecker` and `stationary_factors` are there to see it.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reference._arguments import Array, fraction, integer, like, matrix, non_negative, shape
from reference._dykaf_factors import (
    frobenius_norm,
    nearest_kronecker,
    rearrangement,
    stationary_factors,
    update_factors,
)
from reference._moments import (
    average,
    correction,
    quotient,
    second_moment,
    with_weight_decay,
)

__all__ = [
    "DykafState",
    "init",
    "nearest_kronecker",
    "rearrangement",
    "refresh_basis",
    "stationary_factors",
    "step",
    "update_factors",
]

#: Frobenius norm of the factors at the start: of the "eps" start in the authors' code.
_START = 1e-3


def refresh_basis(L: Array, U: Array) -> tuple[Array, NDArray[np.intp]]:
    """One step of orthogonal iteration: columns of U by falling Rayleigh quotient, then QR of ``L U``.

    Parameters
    ----------
    L : (..., k, k) float64
        Symmetric. Not modified.
    U : (..., k, k) float64
        Orthogonal, the basis so far. Not modified.

    Returns
    -------
    U : (..., k, k) float64
        Orthogonal; column j goes with old column ``order[..., j]``.
    order : (..., k) int
        The order in which the old columns were taken.

    Raises
    ------
    ValueError
        If an argument is out of order.

    Notes
    -----
    Source: DyKAF (arXiv 2511.06477), authors' code, after Vyas et al., SOAP (2024).
    Accuracy: columns of the new basis of order ``k * u`` times the condition of L, up to their signs, which
    the factorisation picks; without gaps between Rayleigh quotients rounding decides the order.
    """
    L = matrix("L", L)
    if L.shape[-2] != L.shape[-1]:
        raise ValueError(f"L must be square, got shape {L.shape}")
    U = like("U", U, L.shape)
    quotients = (U * (L @ U)).sum(axis=-2)
    order = np.argsort(-quotients, axis=-1, kind="stable")
    sorted_columns = np.take_along_axis(U, order[..., None, :], axis=-1)
    return np.linalg.qr(L @ sorted_columns)[0], order


class DykafState(NamedTuple):
    """What DyKAF remembers between steps.

    Attributes
    ----------
    L : (..., m, m) float64
    R : (..., n, n) float64
        Factors of the Fisher matrix, symmetric.
    U : (..., m, m) float64
    V : (..., n, n) float64
        Bases of L and R, orthogonal.
    M : (..., m, n) float64
        Average of raw gradients, before bias correction.
    N : (..., m, n) float64
        Average of squared gradients in the bases, before bias correction.
    t : int
        Gradients seen.

    Notes
    -----
    Source: DyKAF (arXiv 2511.06477), authors' code.
    """

    L: Array
    R: Array
    U: Array
    V: Array
    M: Array
    N: Array
    t: int


def init(W: Array | tuple[int, ...], *, L0: Array | None = None, R0: Array | None = None) -> DykafState:
    """State before the first step.

    Parameters
    ----------
    W : (..., m, n) float64, or tuple of int
        The parameter or its shape, no side zero. Not modified, not kept.
    L0 : (..., m, m) float64, optional
    R0 : (..., n, n) float64, optional
        Starts, not zero; default the identity scaled to Frobenius norm 1e-3. The authors' default is
        `nearest_kronecker` of the first gradient.

    Returns
    -------
    DykafState
        Holds copies.

    Raises
    ------
    ValueError
        If a shape, dtype or entry is out of order, or a start is zero.

    Notes
    -----
    Source: DyKAF (arXiv 2511.06477), authors' code, start "eps".
    Accuracy: each entry to a few u relative; given starts are copied exactly.
    """
    *batch, m, n = sizes = shape("W", W, axes=2)
    if 0 in (m, n):
        raise ValueError(f"W must have at least one row and column, got shape {tuple(sizes)}")
    L, R = _start("L0", L0, (*batch, m, m)), _start("R0", R0, (*batch, n, n))
    U, V = (np.broadcast_to(np.eye(X.shape[-1]), X.shape).copy() for X in (L, R))
    return DykafState(L, R, U, V, np.zeros(sizes), np.zeros(sizes), 0)


def step(
    G: Array,
    state: DykafState,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    beta_factors: float | None = None,
    epsilon: float = 1e-8,
    period: int = 10,
    weight_decay: float = 0.0,
    W: Array | None = None,
) -> tuple[Array, DykafState]:
    """One step: ``W_new = W - lr * update``.

    Parameters
    ----------
    G : (..., m, n) float64
        Gradient at W. Not modified.
    state : DykafState
        From `init` or the previous step. Not modified.
    beta1, beta2 : float
        In [0, 1), the weights of the old averages; a re-implementation's defaults. The authors' code has 0.95
        twice.
    beta_factors : float, optional
        In (0, 1], beta of `update_factors`; default `beta2`.
    epsilon : float
        At least 0, added to the root of N *before* bias correction, as in the authors' code.
    period : int
        At least 1: `refresh_basis` after steps period, 2 period, ..., not counting the first gradient. N
        moves with the columns.
    weight_decay : float
        At least 0; decoupled: the update contains ``weight_decay * W``.
    W : (..., m, n) float64, optional
        The parameter, needed if ``weight_decay > 0``. Not modified.

    Returns
    -------
    update : (..., m, n) float64
        ``U [ (U^T M V) / (sqrt(N) + epsilon) ] V^T`` times ``sqrt(1 - beta2^k) / (1 - beta1^k)``, k the steps
        taken, in bases that do not contain the current gradient, plus ``weight_decay W``. The first gradient
        only sets factors and eigenbases: there is no update, and no decay.
    state : DykafState
        The new state; nothing is shared with the old one.

    Raises
    ------
    ValueError
        If an argument is out of order, the square of `G` leaves the range of float64, or `W` is missing where
        weight decay needs it.

    Notes
    -----
    Source: DyKAF (arXiv 2511.06477), authors' code with the full second moment; that code defaults to a
    rank-one one, which is not here, and adds its weight decay after the step.
    Accuracy: normwise, the update of order ``max(m, n) * u`` times
    ``|M| / d * (1 + sqrt(1 - beta2) |G| / d)``, with d the least entry of ``sqrt(N) + epsilon`` and ``|M|``
    before cancellation; ``1 - beta^k`` has a relative error of about ``u / (k (1 - beta))``. Factors and
    bases as `update_factors` and `refresh_basis`.
    """
    beta1, beta2 = fraction("beta1", beta1), fraction("beta2", beta2)
    beta = beta2 if beta_factors is None else beta_factors
    epsilon, weight_decay = non_negative("epsilon", epsilon), non_negative("weight_decay", weight_decay)
    period = integer("period", period, minimum=1)
    G = like("G", G, matrix("state.M", state.M).shape)
    k = integer("state.t", state.t, minimum=0)
    L, R = update_factors(G, state.L, state.R, beta=beta)
    decay = with_weight_decay(np.zeros_like(G), W, weight_decay)
    if k == 0:
        U, V = (np.linalg.eigh(X)[1][..., ::-1].copy() for X in (L, R))
        return np.zeros_like(G), DykafState(L, R, U, V, np.zeros_like(G), np.zeros_like(G), 1)
    U, V = like("state.U", state.U, L.shape), like("state.V", state.V, R.shape)
    M = average(state.M, G, beta1)
    N = second_moment("state.N", state.N, U.mT @ G @ V, beta2, blame="G")
    scale = np.sqrt(correction(beta2, k)) / correction(beta1, k)
    update = scale * (U @ quotient(U.mT @ M @ V, np.sqrt(N) + epsilon, blame="G") @ V.mT)
    if k % period == 0:
        U, rows = refresh_basis(L, U)
        V, columns = refresh_basis(R, V)
        N = np.take_along_axis(N, rows[..., :, None], axis=-2)
        N = np.take_along_axis(N, columns[..., None, :], axis=-1)
    return update + decay, DykafState(L, R, U.copy(), V.copy(), M, N, k + 1)


def _start(name: str, X: Array | None, expected: tuple[int, ...]) -> Array:
    """A starting factor: a small multiple of the identity, or a checked copy of what the caller gave."""
    if X is None:
        side = expected[-1]
        return np.broadcast_to(_START / np.sqrt(side) * np.eye(side), expected).copy()
    frobenius_norm(name, like(name, X, expected))
    return X.copy()
