"""DyKAF's Kronecker factors: the fit in Frobenius norm, and the projector-splitting step that tracks it.

Symbols: G gradient, (m, n), g = vec(G) row by row; L and R factors of ``F ~ L kron R``; beta weight of the
old F.

Rearranging a matrix that acts on g so that ``L kron R`` becomes ``vec(L) vec(R)^T`` turns the fit into a
rank-one approximation, and one update into a power step on both sides plus a Galerkin core. There are no
inverses.
"""

import numpy as np

from reference._arguments import Array, finite_result, fraction, integer, like, matrix
from reference._scaling import to_unit
from reference._spd import symmetric

__all__ = ["frobenius_norm", "nearest_kronecker", "rearrangement", "stationary_factors", "update_factors"]


def rearrangement(F: Array, *, m: int, n: int) -> Array:
    """The matrix ``R(F)`` for which ``R(L kron R) = vec(L) vec(R)^T``, rows stacked.

    Parameters
    ----------
    F : (..., m n, m n) float64
        Acts on gradients stacked row by row. Not modified.
    m, n : int
        Sides of the gradient, at least 1.

    Returns
    -------
    A : (..., m^2, n^2) float64
        ``A[(i, k), (j, l)] = F[(i, j), (k, l)]``: the same numbers in other places, so Frobenius norms agree.

    Raises
    ------
    ValueError
        If an argument is out of order.

    Notes
    -----
    Source: Van Loan and Pitsianis, "Approximation with Kronecker Products" (1993).
    Accuracy: exact, nothing is computed.
    """
    m, n = integer("m", m, minimum=1), integer("n", n, minimum=1)
    F = matrix("F", F)
    if F.shape[-2:] != (m * n, m * n):
        raise ValueError(f"F must have shape (..., {m * n}, {m * n}), got {F.shape}")
    batch = F.shape[:-2]
    cells = F.reshape(*batch, m, n, m, n)
    return np.swapaxes(cells, -3, -2).reshape(*batch, m * m, n * n)


def nearest_kronecker(G: Array) -> tuple[Array, Array]:
    """Factors of the best ``L kron R`` to ``g g^T`` in Frobenius norm, equal in norm.

    Parameters
    ----------
    G : (..., m, n) float64
        One gradient. Not modified.

    Returns
    -------
    L, R : (..., m, m) and (..., n, n) float64
        ``s u u^T`` and ``s v v^T`` from the largest singular value s of G and its vectors.

    Raises
    ------
    ValueError
        If `G` is not a finite float64 array of matrices with at least one row and column.

    Notes
    -----
    Source: DyKAF (arXiv 2511.06477), authors' code, start "kron".
    Accuracy: normwise ``4 (99 + 16 max(m, n)) u s_1^2 / (s_1 - s_2)``, s singular values of G; ``s_1 = s_2``
    leaves the factors undetermined.
    """
    G = matrix("G", G)
    if 0 in G.shape[-2:]:
        raise ValueError(f"G must have at least one row and column, got shape {G.shape}")
    U, s, Vt = np.linalg.svd(G, full_matrices=False)
    u, v, size = U[..., :1], Vt[..., :1, :].mT, s[..., :1, None]
    return size * (u @ u.mT), size * (v @ v.mT)


def update_factors(G: Array, L: Array, R: Array, *, beta: float) -> tuple[Array, Array]:
    """One projector-splitting step on ``F <- beta L kron R + (1 - beta) g g^T``.

    Parameters
    ----------
    G : (..., m, n) float64
        Gradient. Not modified.
    L : (..., m, m) float64
    R : (..., n, n) float64
        Old factors, not zero, meant to be symmetric positive semidefinite. Not modified.
    beta : float
        In (0, 1], the weight of the old product.

    Returns
    -------
    L, R : (..., m, m) and (..., n, n) float64
        ``sqrt(s) L_plus`` and ``sqrt(s) R_plus``, exactly symmetric, of equal Frobenius norm. With L and R
        multiplied by ``sqrt(beta)`` and G by ``sqrt(1 - beta)`` first: ``L_plus`` is
        ``L |R| + G R G^T / |R|`` scaled to norm 1, ``R_plus`` likewise with the *old* L, and
        ``s = <L, L_plus> <R, R_plus> + <L_plus, G R_plus G^T>``.

    Raises
    ------
    ValueError
        If an argument is out of order, a factor is zero, or the square of `G` overflows.

    Notes
    -----
    Source: DyKAF (arXiv 2511.06477), dynamical low-rank update; the printed order from the authors' code.
    Accuracy: normwise relative error of order ``max(m, n) * u`` for positive semidefinite factors, of which
    nothing cancels.
    """
    beta = fraction("beta", beta, closed=True)
    if beta == 0:
        raise ValueError("beta must be above 0, got 0.0: the step follows the old factors")
    G = matrix("G", G)
    *batch, m, n = G.shape
    L, R = like("L", L, (*batch, m, m)), like("R", R, (*batch, n, n))
    l_norm, r_norm = frobenius_norm("L", L), frobenius_norm("R", R)
    L, R = L / l_norm, R / r_norm
    old = beta * l_norm * r_norm
    with np.errstate(over="ignore", invalid="ignore"):
        L_hat = finite_result("G", old * L + (1 - beta) * (G @ R @ G.mT), "have a square in range")
        R_hat = finite_result("G", old * R + (1 - beta) * (G.mT @ L @ G), "have a square in range")
        L_plus = symmetric(L_hat / frobenius_norm("L", L_hat))
        R_plus = symmetric(R_hat / frobenius_norm("R", R_hat))
        data = (1 - beta) * _inner(L_plus, G @ R_plus @ G.mT)
        s = old * _inner(L, L_plus) * _inner(R, R_plus) + data
    root = np.sqrt(np.maximum(finite_result("G", s, "have a square in range"), 0.0))
    return root * L_plus, root * R_plus


def stationary_factors(G: Array, L: Array, R: Array) -> tuple[Array, Array]:
    """Right-hand sides of the stationary equations, ``E[G R G^T]`` and ``E[G^T L G]``.

    Parameters
    ----------
    G : (..., N, m, n) float64
        Samples, at least one; a plain matrix counts as one. Not modified.
    L : (..., m, m) float64
    R : (..., n, n) float64
        Factors, with the batch axes of `G`. Not modified.

    Returns
    -------
    L, R : (..., m, m) and (..., n, n) float64
        L and R are stationary iff these are proportional to them. There are no inverses, unlike in the KL
        equations, with which they share solutions where the covariance is exactly Kronecker.

    Raises
    ------
    ValueError
        If an argument is out of order or the square of `G` overflows.

    Notes
    -----
    Source: derived from the rank-one problem that DyKAF (arXiv 2511.06477) tracks.
    Accuracy: normwise relative error of order ``(N + max(m, n)) * u`` for positive semidefinite factors.
    """
    G = matrix("G", G)
    G = G[None] if G.ndim == 2 else G
    *batch, N, m, n = G.shape
    if not N:
        raise ValueError(f"G must have at least one sample, got shape {G.shape}")
    L, R = like("L", L, (*batch, m, m)), like("R", R, (*batch, n, n))
    with np.errstate(over="ignore", invalid="ignore"):
        left = (G @ R[..., None, :, :] @ G.mT).mean(axis=-3)
        right = (G.mT @ L[..., None, :, :] @ G).mean(axis=-3)
    return finite_result("G", left, "have a square in range"), finite_result(
        "G", right, "have a square in range"
    )


def frobenius_norm(name: str, X: Array) -> Array:
    """Frobenius norm of each matrix, ready to scale it; zero is refused by name."""
    unit, e = to_unit(X)
    norm = np.ldexp(np.sqrt(np.square(unit).sum(axis=(-2, -1), keepdims=True)), e)
    if not (norm > 0).all():
        raise ValueError(f"{name} must not be zero, got a zero matrix")
    return norm


def _inner(X: Array, Y: Array) -> Array:
    """``<X, Y>`` of each pair of matrices, ready to scale one."""
    return (X * Y).sum(axis=(-2, -1), keepdims=True)
