"""Polar factors and the odd polynomials that approximate them.

Symbols: M momentum, Q isometry, X iterate, G = X X^T, s singular values, p an odd polynomial given by its
coefficients of x, x^3, x^5, ...
"""

from collections.abc import Callable, Sequence

import numpy as np

from reference._arguments import Array, choice, finite_result, like, matrix, non_negative
from reference._polynomials import (
    JORDAN_QUINTIC,
    POLAR_EXPRESS,
    Polynomial,
    kim_oh_polynomial,
    per_step,
    polar_express_coefficients,
    scalar_map,
    with_safety,
)
from reference._scaling import exponent, to_unit

__all__ = [
    "JORDAN_QUINTIC",
    "ORTHOGONALIZERS",
    "POLAR_EXPRESS",
    "Polynomial",
    "kim_oh_polynomial",
    "newton_schulz",
    "nuclear_norm",
    "orthogonalize",
    "polar_express_coefficients",
    "polar_factor",
    "scalar_map",
    "spectral_lmo",
]

#: Names that `orthogonalize` knows.
ORTHOGONALIZERS = ("polar", "jordan", "polar-express")

#: What "The Polar Express" recommends: safety factor and the addition to the Frobenius norm.
_POLAR_EXPRESS_SAFETY = 1.01
_POLAR_EXPRESS_SHIFT = 1e-2


def polar_factor(M: Array) -> Array:
    """Orthogonal polar factor ``Q = U_r V_r^T`` of ``M = U diag(s) V^T``.

    Parameters
    ----------
    M : (..., m, n) float64
        Momentum, any scale (slices are brought to unit size by exact powers of two). Not modified.

    Returns
    -------
    Q : (..., m, n) float64
        Dimensionless partial isometry: r singular values are 1, the rest 0, where r counts, slice by slice,
        ``s > max(m, n) * eps * s[0]``. The cut-off is part of the definition. Zero and empty matrices map to
        themselves.

    Raises
    ------
    ValueError
        If `M` is not a float64 matrix or has a non-finite entry.

    Notes
    -----
    Source: Higham, "Functions of Matrices" (2008), chapter 8, extended to any rank by the partial isometry.
    Accuracy: backward stable; at full rank ``|Q - Q_exact|_F <= (99 sqrt(r) + 16 max(m, n)) u s[0] / s[-1]``
    as far as measured, where 99 u is the size of off-diagonal elements at which LAPACK's SVD stops.
    """
    X, _ = to_unit(matrix("M", M))
    U, s, Vt = np.linalg.svd(X, full_matrices=False)
    kept = s > max(M.shape[-2:]) * np.finfo(np.float64).eps * s.max(axis=-1, keepdims=True, initial=0.0)
    return (U * kept[..., None, :]) @ Vt


def nuclear_norm(M: Array) -> Array:
    """Sum of singular values, the dual norm of the spectral norm.

    Parameters
    ----------
    M : (..., m, n) float64
        Any scale. Not modified.

    Returns
    -------
    norm : (...) float64
        In units of `M`; 0 for an empty matrix, infinite where it exceeds the largest float64.

    Raises
    ------
    ValueError
        If `M` is not a float64 matrix or has a non-finite entry.

    Notes
    -----
    Source: Higham, "Functions of Matrices" (2008), appendix B.7 (Schatten 1-norm).
    Accuracy: relative error of order ``min(m, n) * u``.
    """
    X, e = to_unit(matrix("M", M))
    with np.errstate(over="ignore"):
        return np.ldexp(np.linalg.svd(X, compute_uv=False).sum(axis=-1), e[..., 0, 0])


def spectral_lmo(G: Array, *, radius: float = 1.0) -> Array:
    """Minimiser of ``<G, X>`` over ``|X|_2 <= radius``: ``-radius * polar_factor(G)``.

    Parameters
    ----------
    G : (..., m, n) float64
        Gradient. Not modified.
    radius : float
        At least 0, in units of the parameter.

    Returns
    -------
    X : (..., m, n) float64
        In units of the parameter; the minimum is ``-radius * nuclear_norm(G)``. Unique iff `G` has full rank;
        otherwise this is the minimiser of least Frobenius norm.

    Raises
    ------
    ValueError
        If `G` is not a finite float64 matrix, or `radius` is negative or not finite.

    Notes
    -----
    Source: Xu, Yan, Zhang, FISMO (arXiv 2601.21750), equation 1; von Neumann's trace inequality.
    Accuracy: `radius` times that of `polar_factor`.
    """
    radius = non_negative("radius", radius)
    return -radius * polar_factor(matrix("G", G))


def newton_schulz(
    M: Array,
    polynomials: Polynomial | Sequence[Polynomial],
    *,
    steps: int | None = None,
    normalize: bool = True,
    floor: float = 0.0,
    shift: float = 0.0,
) -> Array:
    """Odd polynomials in turn, ``X <- p(X X^T) X``, starting at ``X = M / max(|M|_F + shift, floor)``.

    Parameters
    ----------
    M : (..., m, n) float64
        Momentum, any scale. Not modified.
    polynomials : tuple of float, or sequence of tuples of float
        One odd polynomial or one per step, each as its coefficients of x, x^3, x^5, ...
    steps : int, optional
        How many steps; the last polynomial repeats when the sequence is shorter. Default: the length of the
        sequence, or Muon's 5 for a single polynomial.
    normalize : bool
        False starts from ``X = M``.
    floor, shift : float
        At least 0, in units of `M`: `floor` is the epsilon of ``torch.optim.Muon``, or 1 for Kim and Oh;
        `shift` is Polar Express's 1e-2. Both meet the true ``|M|_F``, at any scale.

    Returns
    -------
    X : (..., m, n) float64
        The composed polynomial of the singular values of the start. Zero and empty map to themselves.

    Raises
    ------
    ValueError
        If `M` or a coefficient is out of order, or the iteration diverges beyond the range of float64.

    Notes
    -----
    Source: Jordan et al., "Muon" (2024), for the scheme; Kim and Oh (arXiv 2601.19156), section 4, and Amsel
    et al. (arXiv 2505.16932) for the polynomials.
    Accuracy: each step injects a few u times the polynomial with absolute coefficients; later steps amplify
    that by their slope, at most 485 over five Jordan steps.
    """
    M = matrix("M", M)
    rows = per_step(polynomials, steps)
    floor, shift = non_negative("floor", floor), non_negative("shift", shift)
    X = _normalized(M, floor=floor, shift=shift) if normalize else M.copy()
    tall = M.shape[-2] > M.shape[-1]
    X = X.mT if tall else X
    with np.errstate(over="ignore", invalid="ignore"):
        for p in rows:
            X = _apply(p, X)
    finite_result("M", X, "have singular values for which the polynomials do not diverge")
    return X.mT if tall else X


def orthogonalize(M: Array, method: str | Callable[[Array], Array] = "polar") -> Array:
    """The polar factor of `M`, or the named approximation of it.

    Parameters
    ----------
    M : (..., m, n) float64
        Momentum, any scale. Not modified.
    method : {"polar", "jordan", "polar-express"} or callable
        "polar": `polar_factor`. "jordan": five steps of `JORDAN_QUINTIC`. "polar-express": the eight rows of
        `POLAR_EXPRESS` with safety factor 1.01 on all but the last, from ``M / (|M|_F + 0.01)``. A callable
        takes `M` and returns the factor.

    Returns
    -------
    Q : (..., m, n) float64
        Dimensionless. Zero maps to zero under the named methods.

    Raises
    ------
    ValueError
        If `M` is out of order, `method` is unknown, or a callable returns another shape or dtype.

    Notes
    -----
    Source: Jordan et al., "Muon" (2024); Amsel et al. (arXiv 2505.16932), recommended settings.
    Accuracy: that of `polar_factor` or `newton_schulz`. To first order an error dM in `M` adds up to
    ``|dM|_F / s[-1]`` under "polar" at full rank, and ``|dM|_F / |M|_F`` times the steepest slope of the
    composed polynomial under the iterations. A callable has its own accuracy.
    """
    M = matrix("M", M)
    if callable(method):
        return like("the result of orthogonalize", method(M), M.shape)
    match choice("orthogonalize", method, ORTHOGONALIZERS):
        case "polar":
            return polar_factor(M)
        case "jordan":
            return newton_schulz(M, JORDAN_QUINTIC)
        case _:
            rows = with_safety(POLAR_EXPRESS, _POLAR_EXPRESS_SAFETY)
            return newton_schulz(M, rows, shift=_POLAR_EXPRESS_SHIFT)


def _normalized(M: Array, *, floor: float, shift: float) -> Array:
    """``M / max(|M|_F + shift, floor)`` without overflow or underflow of the norm; zero to zero."""
    e = exponent(M, axes=(-2, -1), at_least=max(floor, shift))
    X = np.ldexp(M, -e)
    norm = np.sqrt(np.square(X).sum(axis=(-2, -1), keepdims=True))
    divisor = np.maximum(norm + np.ldexp(shift, -e), np.ldexp(floor, -e))
    return X / np.where(divisor > 0, divisor, 1.0)


def _apply(p: Polynomial, X: Array) -> Array:
    """``p(X X^T) X`` by Horner's rule in ``G = X X^T``."""
    G = X @ X.mT
    Y = p[-1] * X
    for c in reversed(p[:-1]):
        Y = c * X + G @ Y
    return Y
