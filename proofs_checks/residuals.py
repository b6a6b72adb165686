"""Acceptance rules of linear algebra: polar factors, linear solves, inverse roots.

They return the ratios of LAPACK's own tests and stand apart from the code they judge: every truth comes from
NumPy's SVD and symmetric eigenvalues. Public through `proofs_checks.ratios`, whose conventions hold here.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from proofs_checks.decision import (
    EXPLICIT_BUDGET,
    NOTHING,
    ORDER_ONE,
    Array,
    Ratio,
    failed,
    frobenius,
    largest,
    matrices,
    measured_svd,
    negative_part,
    precision,
    quiet,
    same_shape,
    scaled,
    spectral,
)

__all__ = [
    "forward_polar",
    "inverse_root",
    "linear_solve",
    "orthogonality",
    "polar_structure",
    "reconstruction",
]

#: A computed polar factor is exact for A + E, up to its own departure F from an isometry. Entries of F and of
#: E / |A|_2, in singular coordinates, are at most 4 u each: one for storing A or Q, one for transforming
#: rows, one for columns, one for the product. F, which nothing amplifies, is charged as a part of E.
POLAR_ROUNDINGS = 8.0

#: LAPACK takes singular values as final once an off-diagonal entry is below this many unit roundoffs of its
#: neighbours: max(10, min(100, u^(-1/8))), the constant TOLMUL of xBDSQR; 99 in double precision.
LEAST_STOP, LARGEST_STOP, STOP_EXPONENT = 10.0, 100.0, -0.125

#: How far, as a factor, a singular value may lie from the cut-off and still be counted either way.
CUT_OFF_MARGIN = 2.0


@quiet
def orthogonality(Q: ArrayLike, *, u: float, rank: int | None = None) -> Ratio:
    """``max |s_i^2 - 1|``, which is ``|Q^T Q - I|_2``, over ``max(m, n) u``; O(1).

    With `rank` given, Q is to be a partial isometry: its `rank` largest singular values are to be 1 and the
    others 0. An inner product of length m is rounded by at most m u; backward-stable methods stay at O(1).
    """
    (Q,), finite = matrices(Q=Q)
    budget = max(*Q.shape, 1) * precision(u)
    count = min(Q.shape) if rank is None else rank
    if not 0 <= count <= min(Q.shape):
        raise ValueError(f"rank must lie in 0..{min(Q.shape)}, got {rank}")
    if not finite:
        return failed("orthogonality", ORDER_ONE)
    s = np.linalg.svd(Q, compute_uv=False)
    error = float(np.max([largest(s[:count] ** 2 - 1.0), largest(s[count:])]))
    figures = {"largest": largest(s), "smallest_counted": float(s[count - 1]) if count else 0.0}
    return Ratio("orthogonality", error, budget, ORDER_ONE, figures)


@quiet
def polar_structure(Q: ArrayLike, A: ArrayLike, *, u: float) -> Ratio:
    """Whether Q^T A and A Q^T are symmetric positive semidefinite, relative to |A|_2, over max(m, n) u; O(1).

    If Q is the polar factor of A + E then ``Q^T A = H - Q^T E`` with H symmetric positive semidefinite, so
    asymmetry and negative part are at most ``2 |E|``. Both products are needed: a tall Q that is tilted out
    of the range of A still has a symmetric Q^T A, but not A Q^T. To max(m, n) come 2/30 of LAPACK's stopping
    tolerance, which dominates for n up to 4.
    """
    (Q, A), finite = matrices(Q=Q, A=A)
    same_shape(Q=Q, A=A)
    budget = (max(*A.shape, 1) + 2.0 * _stop(precision(u)) / ORDER_ONE) * u
    A, _ = scaled(A) if finite else (A, 0.0)
    products = (Q.T @ A, A @ Q.T)
    if not all(np.isfinite(B).all() for B in products):
        return failed("polar structure", ORDER_ONE)
    asymmetry = max(frobenius(B - B.T) for B in products)
    negative = max(negative_part(B) for B in products)
    figures = {"asymmetry": asymmetry, "negative_part": negative}
    return Ratio("polar structure", float(np.max([asymmetry, negative])), budget, ORDER_ONE, figures)


@quiet
def reconstruction(A: ArrayLike, Q: ArrayLike, H: ArrayLike, *, u: float) -> Ratio:
    """``|A - Q H|_2 / |A|_2`` over ``max(m, n) u``; O(1). Of A = 0 the product must be exactly zero.

    As in `polar_structure`, LAPACK's stopping tolerance is charged besides.
    """
    (A, Q, H), finite = matrices(A=A, Q=Q, H=H)
    same_shape(Q=Q, A=A)
    n = A.shape[1]
    if H.shape != (n, n):
        raise ValueError(f"H must have shape {(n, n)}, got {H.shape}")
    budget = (max(*A.shape, 1) + 2.0 * _stop(precision(u)) / ORDER_ONE) * u
    if not finite:
        return failed("reconstruction", ORDER_ONE)
    A, unit = scaled(A)
    if not unit:
        return Ratio("reconstruction", math.inf if (Q @ H).any() else 0.0, budget, ORDER_ONE)
    return Ratio("reconstruction", spectral(A - Q @ (H / unit)), budget, ORDER_ONE)


@quiet
def forward_polar(Q: ArrayLike, A: ArrayLike, *, u: float, exact: ArrayLike | None = None) -> Ratio:
    """Distance of Q from the polar factor of A where A determines it, Frobenius norm; explicit budget.

    Parameters
    ----------
    Q : (m, n)
        The computed factor.
    A : (m, n)
        The matrix.
    u : float
        Unit roundoff of the computation.
    exact : (m, n), optional
        The polar factor if it is known; otherwise it comes from a float64 SVD of A.

    Raises
    ------
    ValueError
        If the shapes differ, or `u` is so coarse that no matrix of this size has a resolved direction.

    Notes
    -----
    A perturbation E of A moves the factor by ``(E_ij - E_ji) / (s_i + s_j)`` among resolved directions and by
    ``E_ij / s_j`` into the others, in singular coordinates. With ``|E_ij| <= e s_1``, ``e = c u`` plus the
    measured error of the judge's own SVD, c = `POLAR_ROUNDINGS`, the budgets are ``e s_1`` times the root of
    the sum of ``4 / (s_i + s_j)^2``, and of ``1 / s_j^2``: between e and ``e n kappa``, depending on how many
    singular values are small. An entry that LAPACK neglects is small against one of its neighbours and moves
    the factor by at most its stopping tolerance, whatever the condition; there are at most r of them.

    A direction is resolved above ``cut = max(m, n) eps s_1``, eps = 2 u, the cut-off in the definition of the
    factor, and unresolved below; within a factor 2 of the cut either answer is right and none is asked for.
    `resolved_error` is what Q has wrong among the resolved directions, `leakage` what it has wrong into or
    out of the unresolved ones, the complement of the range of a tall A included. Each has its budget; the
    ratio is the worse of the two.
    """
    (Q, A, known), finite = matrices(Q=Q, A=A, exact=np.zeros_like(A) if exact is None else exact)
    same_shape(Q=Q, A=A, exact=known)
    relative_cut = 2.0 * precision(u) * max(A.shape)
    if CUT_OFF_MARGIN * relative_cut >= 1:
        raise ValueError(f"u must resolve some direction of a matrix of shape {A.shape}, got {u}")
    if not finite:
        return failed("forward polar", EXPLICIT_BUDGET)
    U, s, Vt, truth = measured_svd(scaled(A)[0], full=True)
    cut = relative_cut * largest(s)
    sure, possible = int(np.sum(s > CUT_OFF_MARGIN * cut)), int(np.sum(s > cut / CUT_OFF_MARGIN))
    D = U.T @ (Q - known) @ Vt.T
    if exact is None:
        D[range(sure), range(sure)] -= 1.0
    leakage = float(np.max([frobenius(D[possible:]), frobenius(D[:, possible:])]))
    inner = D[:possible, :possible].copy()
    inner[sure:, sure:] = 0.0
    resolved = frobenius(inner)

    s, e = s[:possible], POLAR_ROUNDINGS * u + truth
    pairs = 2.0 / (s[:sure, None] + s[None, :])
    outside = math.sqrt(max(A.shape) - possible) / s
    neglected = _stop(u) * u * math.sqrt(possible)
    resolved_budget, leakage_budget = (max(e * frobenius(w) + neglected, NOTHING) for w in (pairs, outside))
    figures = {
        "resolved_rank": float(sure),
        "undecided_rank": float(possible - sure),
        "kappa": float(s[0] / s[sure - 1]) if sure else 1.0,
        "resolved_error": resolved,
        "resolved_budget": resolved_budget,
        "leakage": leakage,
        "leakage_budget": leakage_budget,
        "budget_relative": resolved_budget / math.sqrt(max(sure, 1)),
    }
    within = Ratio("forward polar", resolved, resolved_budget, figures=figures)
    across = Ratio("forward polar", leakage, leakage_budget, figures=figures)
    return max(within, across, key=lambda ratio: ratio.value)


@quiet
def linear_solve(A: ArrayLike, x: ArrayLike, b: ArrayLike, *, u: float) -> Ratio:
    """Normwise backward error ``|b - A x| / (|A|_2 |x| + |b|)`` of A x = b over n u; O(1).

    It is the size of the smallest relative change of A and b that makes x exact (Rigal and Gaches, 1967).
    `x` and `b` are vectors, or matrices whose columns are judged one by one.
    """
    (A,), finite = matrices(A=A)
    n = A.shape[0]
    x, b = np.asarray(x, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if A.shape != (n, n) or x.shape != b.shape or b.shape not in ((n,), (n, *b.shape[1:2])):
        shapes = f"{A.shape}, {x.shape}, {b.shape}"
        raise ValueError(f"A must be (n, n), x and b both (n,) or (n, k); got {shapes}")
    budget = max(n, 1) * precision(u)
    if not (finite and np.isfinite(x).all() and np.isfinite(b).all()):
        return failed("linear solve", ORDER_ONE)
    # |A| and |b| are divided out, and their quotient out of x, which leaves the backward error as it is.
    A, unit = scaled(A)
    B, size = scaled(b.reshape(n, math.prod(b.shape[1:])))
    X = x.reshape(B.shape) * ((unit or 1.0) / (size or 1.0))
    residual = np.linalg.norm(B - A @ X, axis=0)
    scale = spectral(A) * np.linalg.norm(X, axis=0) + np.linalg.norm(B, axis=0)
    return Ratio("linear solve", largest(np.where(residual == 0, 0.0, residual / scale)), budget, ORDER_ONE)


@quiet
def inverse_root(X: ArrayLike, A: ArrayLike, *, p: int, u: float) -> Ratio:
    """Residual, asymmetry and negative part of X = A^(-1/p), over ``n u`` times a condition factor; O(1).

    The residual is ``|X^p A - I|_2``, with the factor from a perturbation bound.
    X may be exact for A + E, which leaves ``|(A + E)^-1 E| <= kappa |E| / |A|``, and be stored with an error
    D, ``|D| <= n u |X|``, which leaves ``|X^i D X^(p-1-i) A| <= n u kappa^((i+1)/p)``, i = 0..p-1. The factor
    is the sum ``kappa + sum_i kappa^(i/p)``, i = 1..p. Symmetry and positivity, relative to |X|_2, are asked
    for because -X, and for p = 2 other roots, satisfy the equation too. `budget_relative` at or above
    1/30 means that A is too ill-conditioned for this test to see anything.

    Raises
    ------
    ValueError
        If A is not square and positive definite, X not of its shape, or `p` not at least 1.
    """
    (X, A), finite = matrices(X=X, A=A)
    same_shape(X=X, A=A)
    n = A.shape[0]
    if A.shape != (n, n) or p < 1:
        raise ValueError(f"A must be square and p at least 1, got {A.shape} and {p}")
    rounding = max(n, 1) * precision(u)
    if not finite:
        return failed("inverse root", ORDER_ONE)
    kappa = _condition(A)
    budget = rounding * (kappa + sum(kappa ** (i / p) for i in range(1, p + 1)))
    residual = spectral(np.linalg.matrix_power(X, p) @ A - np.eye(n))
    X, _ = scaled(X)
    asymmetry = spectral(X - X.T)
    negative = negative_part(X)
    figures = {
        "residual": residual,
        "asymmetry": asymmetry,
        "negative_part": negative,
        "kappa": kappa,
        "budget_relative": budget,
    }
    return Ratio("inverse root", float(np.max([residual, asymmetry, negative])), budget, ORDER_ONE, figures)


def _stop(u: float) -> float:
    """LAPACK's stopping tolerance for singular values, in unit roundoffs."""
    return max(LEAST_STOP, min(LARGEST_STOP, u**STOP_EXPONENT))


def _condition(A: Array) -> float:
    """Condition number of a positive definite matrix."""
    eigenvalues = np.linalg.eigvalsh((A + A.T) / 2.0)
    if not (eigenvalues > 0).all():
        raise ValueError(f"A must be positive definite, got smallest eigenvalue {eigenvalues.min()}")
    return float(eigenvalues[-1] / eigenvalues[0]) if eigenvalues.size else 1.0
