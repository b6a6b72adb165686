"""Polar factors and their polynomial approximations, batched and in any precision.

Symbols: M momentum or gradient (..., m, n), Q partial isometry, s singular values, X iterate.
Twin of `reference.polar`, derived independently. Every function works out of place.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from torch_impl import _checks
from torch_impl._polynomials import (
    JORDAN_QUINTIC,
    POLAR_EXPRESS,
    Polynomial,
    kim_oh_polynomial,
    polar_express_coefficients,
    schedule,
    with_safety,
)

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

#: "polar-express" divides the argument of all polynomials but the last by this, against rounding, and adds
#: the shift to the norm it starts from. Source: arXiv 2505.16932, recommended implementation.
POLAR_EXPRESS_SAFETY = 1.01
POLAR_EXPRESS_SHIFT = 1e-2


@torch.no_grad()
def polar_factor(M: Tensor) -> Tensor:
    """Polar factor ``U_r V_r^T`` of each matrix, a partial isometry of the rank of M.

    Parameters
    ----------
    M : (..., m, n) float64, float32, bfloat16 or float16
        Any scale and rank, with finite entries. Not modified.

    Returns
    -------
    Q : (..., m, n), dtype and device of M
        The `r` singular values above ``max(m, n) * eps * s[0]`` become 1, the others 0, with eps the machine
        epsilon of M, or of float32 if M has half precision. Zero maps to zero, empty to empty.

    Raises
    ------
    TypeError, ValueError
        If M is not a dense real tensor (..., m, n).

    Notes
    -----
    Source: Higham, "Functions of Matrices" (2008), chapter 8.
    The factorisation runs in float64 where the device has it. The entries are not inspected, which would
    make the host wait; LAPACK itself raises `torch.linalg.LinAlgError` for an infinity or a NaN.
    With the epsilon of bfloat16 the cut-off would reach ``s[0]`` at 128 rows and erase every matrix.
    """
    _checks.matrix("M", M)
    X, _ = _checks.scaled(M.to(_checks.wide(M.device)))
    U, s, Vh = torch.linalg.svd(X, full_matrices=False)
    eps = torch.finfo(_checks.working(M.dtype)).eps
    kept = s > max(M.shape[-2:]) * eps * s[..., :1]
    return (torch.where(kept.unsqueeze(-2), U, 0.0) @ Vh).to(M.dtype)


@torch.no_grad()
def nuclear_norm(M: Tensor) -> Tensor:
    """Sum of the singular values of each matrix.

    Parameters
    ----------
    M : (..., m, n) float64, float32, bfloat16 or float16
        Any scale, with finite entries. Not modified.

    Returns
    -------
    norm : (...), dtype and device of M
        In the units of M; 0 for an empty matrix.

    Raises
    ------
    TypeError, ValueError
        If M is not a dense real tensor (..., m, n).

    Notes
    -----
    Source: Higham, "Functions of Matrices" (2008), appendix B.7.
    """
    _checks.matrix("M", M)
    X, scale = _checks.scaled(M.to(_checks.wide(M.device)))
    return (torch.linalg.svdvals(X).sum(dim=-1) * scale[..., 0, 0]).to(M.dtype)


@torch.no_grad()
def spectral_lmo(G: Tensor, *, radius: float = 1.0) -> Tensor:
    """Minimiser ``-radius * Polar(G)`` of <G, X> over the ball ``|X|_2 <= radius``.

    Parameters
    ----------
    G : (..., m, n) float64, float32, bfloat16 or float16
        Gradient. Not modified.
    radius : float
        At least 0, in the units of the parameter.

    Returns
    -------
    X : (..., m, n), dtype and device of G
        The value is ``<G, X> = -radius * nuclear_norm(G)``; the minimiser is unique iff G has full rank.

    Raises
    ------
    TypeError, ValueError
        If G is not a dense real tensor (..., m, n), or `radius` is negative or not finite.

    Notes
    -----
    Source: FISMO, arXiv 2601.21750, equation 1 (Muon's problem).
    """
    _checks.number("radius", radius, at_least=0.0)
    return -radius * polar_factor(_checks.matrix("G", G))


@torch.no_grad()
def newton_schulz(
    M: Tensor,
    polynomials: Polynomial | Sequence[Polynomial],
    *,
    steps: int | None = None,
    normalize: bool = True,
    floor: float = 0.0,
    shift: float = 0.0,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Odd polynomials of a matrix, ``X <- p(X X^T) X`` one after the other.

    Parameters
    ----------
    M : (..., m, n) float64, float32, bfloat16 or float16
        Not modified. Wide matrices are iterated as they are, tall ones transposed: the cheaper side.
    polynomials : tuple of float, or sequence of them
        Coefficients of x, x^3, x^5, ...; the last polynomial repeats if `steps` asks for more than there are.
    steps : int, optional
        Default: one step per polynomial of a sequence, 5 (Muon's number) for a single polynomial.
    normalize : bool
        Start from ``M / max(|M|_F + shift, floor)``; otherwise from M itself.
    floor, shift : float
        At least 0. `floor` is 1e-7 in `torch.optim.Muon` and 1 in Kim-Oh, `shift` 1e-2 in Polar Express; 0
        makes the result independent of the scale of M.
    dtype : torch.dtype, optional
        Precision of the iteration, default that of M.

    Returns
    -------
    X : (..., m, n), dtype and device of M
        Zero maps to zero, empty to empty.

    Raises
    ------
    TypeError, ValueError
        If M is not a dense real tensor (..., m, n) or another argument is out of range.

    Notes
    -----
    Source: Jordan et al., "Muon" (2024); Amsel et al., arXiv 2505.16932, algorithm 1.
    The norm is taken in at least float32, from entries scaled by a power of two. No host synchronisation.
    """
    _checks.matrix("M", M)
    sequence = schedule(polynomials, steps)
    _checks.number("floor", floor, at_least=0.0)
    _checks.number("shift", shift, at_least=0.0)
    if dtype is not None and dtype not in _checks.DTYPES:
        raise ValueError(f"dtype must be float64, float32, bfloat16 or float16, got {dtype}")
    iteration = M.dtype if dtype is None else dtype
    X = M
    if normalize:
        X, scale = _checks.scaled(M.to(torch.promote_types(_checks.working(M.dtype), iteration)))
        norm = torch.linalg.matrix_norm(X, keepdim=True) + shift / scale
        norm = torch.maximum(norm, floor / scale)
        X = X / torch.where(norm > 0, norm, 1.0)
    X = X.to(iteration)
    tall = X.shape[-2] > X.shape[-1]
    X = X.mT if tall else X
    for polynomial in sequence:
        X = _apply(polynomial, X)
    return (X.mT if tall else X).to(M.dtype, copy=True)


@torch.no_grad()
def scalar_map(
    x: Tensor, polynomials: Polynomial | Sequence[Polynomial], *, steps: int | None = None
) -> Tensor:
    """What `newton_schulz` without normalisation does to a singular value, elementwise.

    Parameters
    ----------
    x : (...) float64, float32, bfloat16 or float16
        Not modified.
    polynomials, steps
        As in `newton_schulz`.

    Returns
    -------
    y : (...), dtype and device of x

    Raises
    ------
    TypeError, ValueError
        If x is not a dense real tensor or another argument is out of range.

    Notes
    -----
    Source: Higham, "Functions of Matrices" (2008), section 8.3: an odd polynomial acts on singular values.
    """
    y = _checks.tensor("x", x).clone()
    for polynomial in schedule(polynomials, steps):
        square, value = y * y, torch.full_like(y, polynomial[-1])
        for coefficient in reversed(polynomial[:-1]):
            value = coefficient + square * value
        y = y * value
    return y


#: Names that `orthogonalize` and the optimizers know.
ORTHOGONALIZERS = ("polar", "jordan", "polar-express")

#: One of `ORTHOGONALIZERS`, or a function from M (..., m, n) to its approximate polar factor.
Orthogonalizer = str | Callable[[Tensor], Tensor]


@torch.no_grad()
def orthogonalize(M: Tensor, method: Orthogonalizer = "polar") -> Tensor:
    """Polar factor of each matrix, exact or by a named approximation.

    Parameters
    ----------
    M : (..., m, n) float64, float32, bfloat16 or float16
        Not modified.
    method : {"polar", "jordan", "polar-express"} or callable
        "polar" is exact (an SVD). "jordan": five steps of Muon's quintic, singular values end in about
        [0.68, 1.14]. "polar-express": eight steps of the recommended set, with its safety factor 1.01 and
        its shift 1e-2, so that a matrix of norm far below 1e-2 stays small. A callable maps M to Q.

    Returns
    -------
    Q : (..., m, n), dtype and device of M

    Raises
    ------
    TypeError, ValueError
        If M is not a dense real tensor (..., m, n), the name is unknown, or a callable returns another shape.

    Notes
    -----
    Source: Jordan et al., "Muon" (2024); Amsel et al., arXiv 2505.16932, recommended implementation.
    """
    _checks.matrix("M", M)
    if callable(method):
        Q = _checks.matrix("the result of orthogonalize", method(M))
        if Q.shape != M.shape:
            raise ValueError(f"orthogonalize must keep the shape {tuple(M.shape)}, got {tuple(Q.shape)}")
        return Q.to(M.dtype)
    _checks.choice("orthogonalize", method, ORTHOGONALIZERS)
    if method == "jordan":
        return newton_schulz(M, JORDAN_QUINTIC)
    if method == "polar-express":
        return newton_schulz(M, with_safety(POLAR_EXPRESS, POLAR_EXPRESS_SAFETY), shift=POLAR_EXPRESS_SHIFT)
    return polar_factor(M)


def _apply(polynomial: Polynomial, X: Tensor) -> Tensor:
    """``p(X X^T) X`` by Horner's rule in ``X X^T``: no identity is formed, one product per degree and two."""
    first, *higher = polynomial
    if not higher:
        return first * X
    Y = X @ X.mT
    power = higher[-1] * Y
    for coefficient in reversed(higher[:-1]):
        power = coefficient * Y + power @ Y
    return first * X + power @ X
