"""Mousse: Muon between Shampoo's roots, with a refresh period and a graft to the Newton-Schulz norm.

Symbols: G gradient, M momentum, L and R averages of one-sided Gram matrices, ``L_bar`` L scaled to mean
eigenvalue 1, A and C the whitening matrices ``(L_bar + epsilon I)^(-alpha)`` and its twin, M_bar the
orthogonalised whitened momentum, U the unwhitened step.

Both exponents are negative: on the way in and on the way out. Known through accounts; what they leave open is
said at the argument. The bias-corrected recursion of the paper's text differs from its algorithm 1, which is
the one here.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from reference import polar
from reference._arguments import (
    Array,
    finite_result,
    fraction,
    integer,
    like,
    matrix,
    non_negative,
    positive,
    shape,
)
from reference._moments import average, with_weight_decay
from reference._scaling import to_unit
from reference._spd import eigh, symmetric

__all__ = ["MousseState", "init", "step", "whitening"]


class MousseState(NamedTuple):
    """What Mousse remembers between steps.

    Attributes
    ----------
    M : (..., m, n) float64
        Momentum, in units of the gradient; it lives in the coordinates of the parameter.
    L : (..., m, m) float64
    R : (..., n, n) float64
        Averages of ``G G^T`` and ``G^T G``, symmetric positive semidefinite.
    A : (..., m, m) float64
    C : (..., n, n) float64
        Whitening matrices of the last refresh, dimensionless.
    t : int
        Steps taken.

    Notes
    -----
    Source: Mousse (arXiv 2603.09697), algorithm 1, as accounts give it.
    """

    M: Array
    L: Array
    R: Array
    A: Array
    C: Array
    t: int


def init(W: Array | tuple[int, ...]) -> MousseState:
    """State before the first step: zero averages and momentum.

    Parameters
    ----------
    W : (..., m, n) float64, or tuple of int
        The parameter or its shape. Not modified, not kept.

    Returns
    -------
    MousseState
        Its whitening matrices are identities, which the first step replaces.

    Raises
    ------
    ValueError
        If `W` is out of order.

    Notes
    -----
    Source: Mousse (arXiv 2603.09697), algorithm 1; the start is ours and, as scale drops out of ``L_bar``,
    matters from the second gradient on only.
    Accuracy: exact (zeros and identities).
    """
    *batch, m, n = sizes = shape("W", W, axes=2)
    left, right = (*batch, m, m), (*batch, n, n)
    one_m, one_n = (np.broadcast_to(np.eye(side[-1]), side).copy() for side in (left, right))
    return MousseState(np.zeros(sizes), np.zeros(left), np.zeros(right), one_m, one_n, 0)


def whitening(L: Array, *, alpha: float, epsilon: float) -> Array:
    """``(L_bar + epsilon I)^(-alpha)`` with ``L_bar = L k / (tr(L) + epsilon)``.

    Parameters
    ----------
    L : (..., k, k) float64
        Symmetric positive semidefinite. Not modified.
    alpha : float
        Above 0. 1/4 is Shampoo's; the LMO of the whitened ball is FISMO's with ``P = L^(2 alpha)``.
    epsilon : float
        Above 0; it stands in two places, in the units of `L` and relative to its mean eigenvalue.

    Returns
    -------
    A : (..., k, k) float64
        Exactly symmetric, positive definite; ``epsilon^(-alpha) I`` for L = 0.

    Raises
    ------
    ValueError
        If an argument is out of order, or ``L_bar + epsilon I`` is not positive definite to working
        precision.

    Notes
    -----
    Source: Mousse (arXiv 2603.09697), algorithm 1, as accounts give it.
    Accuracy: normwise relative error of order ``k * u`` times the condition of ``L_bar + epsilon I``.
    """
    L, alpha, epsilon = matrix("L", L), positive("alpha", alpha), positive("epsilon", epsilon)
    k = L.shape[-1]
    if L.shape[-2] != k:
        raise ValueError(f"L must be square, got shape {L.shape}")
    mean = (np.trace(L, axis1=-2, axis2=-1)[..., None, None] + epsilon) / max(k, 1)
    w, V = eigh("L", L / np.where(mean > 0, mean, 1.0) + epsilon * np.eye(k))
    return symmetric((V * w[..., None, :] ** -alpha) @ V.mT)


def step(
    G: Array,
    state: MousseState,
    *,
    beta: float = 0.95,
    beta_pc: float = 0.95,
    epsilon: float = 1e-5,
    alpha: float = 0.125,
    period: int = 10,
    graft: bool = True,
    orthogonalize: str | Callable[[Array], Array] = "jordan",
    weight_decay: float = 0.0,
    W: Array | None = None,
) -> tuple[Array, MousseState]:
    """One step: ``W_new = W - lr * update``.

    Parameters
    ----------
    G : (..., m, n) float64
        Gradient at W. Not modified.
    state : MousseState
        From `init` or the previous step. Not modified.
    beta : float
        In [0, 1), the weight of the old momentum in ``M <- beta M + G``.
    beta_pc : float
        In [0, 1), the weight of the old L and R.
    epsilon, alpha
        As in `whitening`. The paper's practice is 0.125, its theory 0.25.
    period : int
        At least 1: A and C are recomputed in steps 1, 1 + period, ... (the phase is ours).
    graft : bool
        Scale U to the Frobenius norm of M_bar. Without it the step solves a trust-region problem; with it
        only its direction does.
    orthogonalize : {"polar", "jordan", "polar-express"} or callable
        As in `reference.polar.orthogonalize`; the paper takes five Newton-Schulz steps.
    weight_decay : float
        At least 0; decoupled: the update contains ``weight_decay * W``. The paper sets 0.01.
    W : (..., m, n) float64, optional
        The parameter, needed if ``weight_decay > 0``. Not modified.

    Returns
    -------
    update : (..., m, n) float64
        ``A M_bar C``, grafted or not, plus ``weight_decay W``; ``M_bar`` orthogonalises ``A M C``. Zero
        momentum gives no step.
    state : MousseState
        The new state; nothing is shared with the old one.

    Raises
    ------
    ValueError
        If an argument is out of order, the square of `G` overflows, or `W` is missing where weight decay
        needs it.

    Notes
    -----
    Source: Mousse (arXiv 2603.09697), algorithm 1, as accounts give it. Whitening in eigenbases and with
    symmetric roots is the same: orthogonalisation commutes with rotations.
    Accuracy: L and R to about ``max(m, n) * u`` normwise relative. The update has a normwise error, relative
    to ``|A| |M_bar| |C|``, which grafting scales along, of order ``max(m, n) * u`` times the conditions of
    ``L_bar + epsilon I`` and its twin, and, for "polar" at full rank, times
    ``|A| (beta |M| + |G|) |C| / s_min`` with the old M and the least singular value of ``A M C`` with the
    new; for the rest see `reference.polar.orthogonalize`.
    """
    beta, beta_pc = fraction("beta", beta), fraction("beta_pc", beta_pc)
    period, weight_decay = integer("period", period, minimum=1), non_negative("weight_decay", weight_decay)
    *batch, m, n = matrix("state.M", state.M).shape
    G = like("G", G, (*batch, m, n))
    t = integer("state.t", state.t, minimum=0)
    L = _averaged_gram("state.L", state.L, G, beta_pc)
    R = _averaged_gram("state.R", state.R, G.mT, beta_pc)
    if t % period == 0:
        A, C = (whitening(X, alpha=alpha, epsilon=epsilon) for X in (L, R))
    else:
        A = like("state.A", state.A, L.shape).copy()
        C = like("state.C", state.C, R.shape).copy()
    M = beta * state.M + G
    M_bar = polar.orthogonalize(A @ M @ C, orthogonalize)
    U = A @ M_bar @ C
    if graft:
        U = U * _ratio(_norm(M_bar), _norm(U))
    return with_weight_decay(U, W, weight_decay), MousseState(M, L, R, A, C, t + 1)


def _averaged_gram(name: str, L: Array, G: Array, beta: float) -> Array:
    """``beta L + (1 - beta) G G^T``, exactly symmetric."""
    m = G.shape[-2]
    L = like(name, L, (*G.shape[:-2], m, m))
    with np.errstate(over="ignore", invalid="ignore"):
        return symmetric(finite_result("G", average(L, G @ G.mT, beta), "have a square in range"))


def _norm(X: Array) -> Array:
    """Frobenius norm of each matrix, ready to scale it."""
    unit, e = to_unit(X)
    return np.ldexp(np.sqrt(np.square(unit).sum(axis=(-2, -1), keepdims=True)), e)


def _ratio(a: Array, b: Array) -> Array:
    """``a / b``, and 1 where b is zero."""
    return np.where(b > 0, a / np.where(b > 0, b, 1.0), 1.0)
