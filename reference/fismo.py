"""FISMO: Fisher-structured momentum orthogonalisation, Algorithm 1 and its options.

Symbols: G gradient, P and Q row and column factors of mean eigenvalue 1, L and R their fresh statistics,
A = P^(-1/2) and C = Q^(-1/2) symmetric roots, M momentum in whitened coordinates, O its polar factor.

The published accounts leave open the start (here identity and zero), bias correction, Nesterov momentum, step
scaling by shape, weight decay and the refresh period of the roots (here none, and every step).
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from reference import polar
from reference._arguments import (
    Array,
    choice,
    finite_result,
    fraction,
    like,
    matrix,
    non_negative,
    shape,
)
from reference._scaling import to_unit
from reference._spd import eigh, inverse_root, symmetric

__all__ = ["FismoState", "init", "step", "update_factors", "whiten"]

Damping = Literal["algorithm", "theorem"]
Order = Literal["gauss-seidel", "jacobi"]
Scaling = Literal["none", "unit"]


class FismoState(NamedTuple):
    """What FISMO remembers between steps.

    Attributes
    ----------
    P : (..., m, m) float64
        Row factor, symmetric positive definite, trace m after the first step.
    Q : (..., n, n) float64
        Column factor, symmetric positive definite, trace n after the first step.
    M : (..., m, n) float64
        Average of whitened gradients, dimensionless up to the factors' gauge.

    Notes
    -----
    Source: Xu, Yan, Zhang, FISMO (arXiv 2601.21750), Algorithm 1.
    """

    P: Array
    Q: Array
    M: Array


def init(
    W: Array | tuple[int, ...],
    *,
    P0: Array | None = None,
    Q0: Array | None = None,
    M0: Array | None = None,
) -> FismoState:
    """State before the first step.

    Parameters
    ----------
    W : (..., m, n) float64, or tuple of int
        The parameter or its shape. Not modified, not kept.
    P0 : (..., m, m) float64, optional
    Q0 : (..., n, n) float64, optional
        Symmetric positive definite starts; default identity (the paper's choice is not known).
    M0 : (..., m, n) float64, optional
        Momentum; default zero (the paper's choice is not known).

    Returns
    -------
    FismoState
        Holds copies.

    Raises
    ------
    ValueError
        If a shape, dtype or entry is out of order or a factor is not positive definite to working precision.

    Notes
    -----
    Source: Xu, Yan, Zhang, FISMO (arXiv 2601.21750), Algorithm 1, inputs.
    Accuracy: exact (identities, zeros and copies).
    """
    *batch, m, n = sizes = shape("W", W, axes=2)
    P, Q = _start("P0", P0, (*batch, m, m)), _start("Q0", Q0, (*batch, n, n))
    M = np.zeros(sizes) if M0 is None else like("M0", M0, sizes).copy()
    return FismoState(P, Q, M)


def update_factors(
    G: Array,
    P: Array,
    Q: Array,
    *,
    gamma: float,
    mu: float,
    damping: Damping,
    order: Order,
    factor_scaling: Scaling,
) -> tuple[Array, Array]:
    """New factors from the gradient and the old ones.

    Parameters
    ----------
    G : (..., m, n) float64
        Gradient. Not modified.
    P : (..., m, m) float64
    Q : (..., n, n) float64
        Old factors, symmetric positive definite. Not modified.
    gamma : float
        In [0, 1], the weight of the old factor. The account we follow writes it that way round.
    mu : float
        Damping, at least 0.
    damping : {"algorithm", "theorem"}
        L and R are damped by ``mu tr(P) / m`` and ``mu tr(Q) / n``, old factors, as printed; or by
        ``mu tr(Q^-1) / n`` and ``mu tr(P^-1) / m``, the matrix being the one whose inverse the data term
        holds.
    order : {"gauss-seidel", "jacobi"}
        R sees the new P, as printed; or the old one.
    factor_scaling : {"none", "unit"}
        "unit" replaces G, in L and R only, by ``G sqrt(m n) / |G|_F`` (zero stays zero), which makes the
        factors independent of the loss scale. Not part of the printed algorithm.

    Returns
    -------
    P, Q : (..., m, m) and (..., n, n) float64
        Exactly symmetric, of trace m and n up to rounding. An empty gradient leaves the factors as they are.

    Raises
    ------
    ValueError
        If an argument is out of order, the square of `G` overflows, or a factor becomes singular
        (possible for ``mu = 0``, or by rounding).

    Notes
    -----
    Source: Xu, Yan, Zhang, FISMO (arXiv 2601.21750), Algorithm 1, factor updates; "theorem" damping and the
    fixed point it leads to from Theorem 4.1.
    Accuracy: normwise relative error of order ``max(m, n) * u`` times the conditions of the factors inverted.
    """
    G, gamma, mu = matrix("G", G), fraction("gamma", gamma, closed=True), non_negative("mu", mu)
    theorem = choice("damping", damping, ("algorithm", "theorem")) == "theorem"
    jacobi = choice("order", order, ("gauss-seidel", "jacobi")) == "jacobi"
    unit = choice("factor_scaling", factor_scaling, ("none", "unit")) == "unit"
    *batch, m, n = G.shape
    P, Q = like("P", P, (*batch, m, m)), like("Q", Q, (*batch, n, n))
    if 0 in (m, n):
        return P.copy(), Q.copy()
    S = _unit_entries(G) if unit else G

    C = inverse_root("Q", Q)
    L = _statistic(S @ C, n, mu * (_mean_square(C) if theorem else _mean_eigenvalue(P)))
    P_new = _averaged("P", P, L, gamma)
    A = inverse_root("P", P if jacobi else P_new)
    R = _statistic(S.mT @ A, m, mu * (_mean_square(A) if theorem else _mean_eigenvalue(Q)))
    return P_new, _averaged("Q", Q, R, gamma)


def whiten(G: Array, P: Array, Q: Array) -> Array:
    """Whitened gradient ``P^(-1/2) G Q^(-1/2)``, with symmetric roots.

    Parameters
    ----------
    G : (..., m, n) float64
        Gradient. Not modified.
    P : (..., m, m) float64
    Q : (..., n, n) float64
        Factors, symmetric positive definite. Not modified.

    Returns
    -------
    whitened : (..., m, n) float64
        Because momentum lives in these coordinates while the factors move, the symmetric root is part of the
        algorithm; Cholesky roots give another one.

    Raises
    ------
    ValueError
        If a shape, dtype or entry is out of order or a factor is not positive definite to working precision.

    Notes
    -----
    Source: Xu, Yan, Zhang, FISMO (arXiv 2601.21750), Algorithm 1.
    Accuracy: normwise relative error of order ``max(m, n) * u`` times the conditions of `P` and `Q`.
    """
    G = matrix("G", G)
    *batch, m, n = G.shape
    P, Q = like("P", P, (*batch, m, m)), like("Q", Q, (*batch, n, n))
    return inverse_root("P", P) @ G @ inverse_root("Q", Q)


def step(
    G: Array,
    state: FismoState,
    *,
    beta: float = 0.9,
    gamma: float = 0.95,
    mu: float = 1e-2,
    damping: Damping = "algorithm",
    order: Order = "gauss-seidel",
    factor_scaling: Scaling = "none",
    orthogonalize: str | Callable[[Array], Array] = "polar",
) -> tuple[Array, FismoState]:
    """One step of Algorithm 1: ``W_new = W - lr * update``.

    Parameters
    ----------
    G : (..., m, n) float64
        Gradient at W. Not modified.
    state : FismoState
        From `init` or the previous step. Not modified.
    beta : float
        In [0, 1), the weight of the old momentum. No bias correction: Polar ignores scale.
    gamma, mu, damping, order, factor_scaling
        As in `update_factors`. The default values are ours; the paper's are not known.
    orthogonalize : {"polar", "jordan", "polar-express"} or callable
        As in `reference.polar.orthogonalize`. Rank-deficient momentum gives a partial isometry, zero momentum
        no step.

    Returns
    -------
    update : (..., m, n) float64
        ``P^(-1/2) Polar(M) Q^(-1/2)`` with the new P, Q, M: the current gradient is whitened by factors that
        already contain it. For 1x1 it is the sign of M.
    state : FismoState
        The new state; nothing is shared with the old one.

    Raises
    ------
    ValueError
        If an argument is out of order, the square of `G` overflows, or a factor becomes singular
        (possible for ``mu = 0``, or by rounding).

    Notes
    -----
    Source: Xu, Yan, Zhang, FISMO (arXiv 2601.21750), Algorithm 1.
    Accuracy: the factors as in `update_factors`. The update has a normwise error, relative to ``|A| |C|``
    with the new roots, of order ``max(m, n) * u`` times the conditions of the factors inverted, old and new,
    and, for "polar" at full rank, times ``(beta |M| + (1 - beta) |A| |G| |C|) / s_min`` with the old M and
    the least singular value of the new one; for the rest see `reference.polar.orthogonalize`.
    """
    beta = fraction("beta", beta)
    G = like("G", G, matrix("state.M", state.M).shape)
    P, Q = update_factors(
        G,
        state.P,
        state.Q,
        gamma=gamma,
        mu=mu,
        damping=damping,
        order=order,
        factor_scaling=factor_scaling,
    )
    A, C = inverse_root("P", P), inverse_root("Q", Q)  # `whiten` on both sides of the polar step
    M = beta * state.M + (1 - beta) * (A @ G @ C)
    update = A @ polar.orthogonalize(M, orthogonalize) @ C
    return update, FismoState(P, Q, M)


def _start(name: str, P: Array | None, expected: tuple[int, ...]) -> Array:
    """A starting factor: identity, or a checked copy of what the caller gave."""
    if P is None:
        return np.broadcast_to(np.eye(expected[-1]), expected).copy()
    eigh(name, like(name, P, expected))
    return P.copy()


def _unit_entries(G: Array) -> Array:
    """``G sqrt(m n) / |G|_F``, entries of root mean square 1, at any scale; zero stays zero."""
    X, _ = to_unit(G)
    rms = np.sqrt(np.square(X).mean(axis=(-2, -1), keepdims=True))
    return X / np.where(rms > 0, rms, 1.0)


def _mean_eigenvalue(P: Array) -> Array:
    """``tr(P) / m``, ready to scale a matrix."""
    return np.trace(P, axis1=-2, axis2=-1)[..., None, None] / P.shape[-1]


def _mean_square(A: Array) -> Array:
    """``tr(A^2) / m`` of a symmetric A, that is ``tr(P^-1) / m`` for ``A = P^(-1/2)``."""
    return np.square(A).sum(axis=(-2, -1), keepdims=True) / A.shape[-1]


def _statistic(Z: Array, count: int, damping: Array) -> Array:
    """``Z Z^T / count + damping * I``."""
    with np.errstate(over="ignore", invalid="ignore"):
        L = Z @ Z.mT / count + damping * np.eye(Z.shape[-2])
    return finite_result("G", L, "have a square in range")


def _averaged(name: str, P: Array, L: Array, gamma: float) -> Array:
    """``gamma P + (1 - gamma) L``, scaled to mean eigenvalue 1 and symmetrised."""
    P_bar = gamma * P + (1 - gamma) * L
    mean = _mean_eigenvalue(P_bar)
    if not (mean > 0).all():
        raise ValueError(
            f"{name} must stay positive definite, got a zero average: mu or gamma must be above 0"
        )
    return symmetric(P_bar / mean)
