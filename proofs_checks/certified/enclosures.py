"""Verified polar factors, inverse roots, eigenvalues and norms: a midpoint, a radius, and a proof of both.

LAPACK guesses and `eigenvectors` refines the guess; ball arithmetic then bounds what is left of it. Whether
the guess was good decides the radius, never the truth of the result. A result is narrow, ``2^-accuracy`` of
its own size or less, or there is none: the precision is doubled until the radius is met, and `NoCertificate`
is raised when doubling stops to help, as it must for a matrix whose rank is in doubt.

Symbols: N symmetric positive definite, H its exact root, K the computed root, ``W = K^-1``,
``k <= lambda_min(K)``; A symmetric, V its approximate eigenvectors.
Source: the two inequalities proved in `symbolic.closed_form.polar_enclosure`; theorems of Weyl and Ostrowski.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from flint import arb, arb_mat, ctx
from numpy.typing import NDArray

from proofs_checks.certified.eigenvectors import diagonal, floats, identity, refined, rounded_root

__all__ = [
    "ACCURACY",
    "MatrixBall",
    "NoCertificate",
    "as_balls",
    "eigenvalues",
    "frobenius",
    "inverse_root",
    "nuclear_norm",
    "polar",
    "singular_values",
    "spectral_norm",
]

Array = NDArray[np.float64]

#: Bits to which a result is known unless asked otherwise: eleven beyond the last one of float64.
ACCURACY = 64

#: Working bits beyond accuracy and condition: products of some thousand terms lose 12, the rest is reserve.
_GUARD = 32

#: No precision above this is tried: some thirty times what a condition number of 1e12 needs.
_LARGEST_PRECISION = 8192

#: A radius that a doubled precision does not divide by this comes from the input and will not shrink.
_PROGRESS = 256

#: A matrix, a bound of its error in the Frobenius norm, and what the error is measured against.
_Attempt = tuple[arb_mat, arb, arb]


class NoCertificate(ArithmeticError):
    """Nothing narrow could be proved; the message says of what, and how far it came."""


@dataclass(frozen=True)
class MatrixBall:
    """All matrices within `radius` of `midpoint` in the Frobenius norm.

    Attributes
    ----------
    midpoint : arb_mat
        Exact numbers.
    radius : arb
        Exact, an upper bound.
    precision : int
        Bits that were needed.
    """

    midpoint: arb_mat
    radius: arb
    precision: int

    @property
    def entries(self) -> arb_mat:
        """The same as a matrix of balls, each of this radius."""
        with ctx.workprec(self.precision):
            around = arb(0, self.radius)
            balls = [x + around for x in self.midpoint.entries()]
            return arb_mat(self.midpoint.nrows(), self.midpoint.ncols(), balls)

    def distance(self, X: Array | arb_mat) -> tuple[arb, arb]:
        """Bounds of the Frobenius distance from the enclosed matrix to `X`, exact numbers."""
        with ctx.workprec(self.precision):
            from_midpoint = frobenius(as_balls(X) - self.midpoint)
            return (from_midpoint - self.radius).lower().max(arb(0)), (from_midpoint + self.radius).upper()


def as_balls(X: Array | arb_mat) -> arb_mat:
    """A float64 matrix as the numbers it holds, exactly; a matrix of balls as it is.

    Raises
    ------
    ValueError
        If it is not a finite float64 matrix.
    """
    if isinstance(X, arb_mat):
        return X
    X = np.asarray(X)
    if X.dtype != np.float64 or X.ndim != 2:
        raise ValueError(f"a float64 matrix (m, n) is needed, got {X.dtype} of shape {X.shape}")
    if not np.isfinite(X).all():
        raise ValueError(f"finite entries are needed, got {np.count_nonzero(~np.isfinite(X))} others")
    return arb_mat(*X.shape, [arb(float(x)) for x in X.reshape(-1)])


def frobenius(X: arb_mat) -> arb:
    """The Frobenius norm, as a ball."""
    return sum((x * x for x in X.entries()), arb(0)).nonnegative_part().sqrt()


def polar(M: Array | arb_mat, *, accuracy: int = ACCURACY) -> MatrixBall:
    """The polar factor ``M (M^T M)^(-1/2)`` of a matrix of full rank; of its transpose for a wide one.

    Parameters
    ----------
    M : (m, n)
        Float64 numbers, taken exactly, or balls: then the result holds for every matrix in them.
    accuracy : int
        Bits: the radius is at most ``2^-accuracy``.

    Raises
    ------
    ValueError
        If `M` is not a finite float64 matrix.
    NoCertificate
        If M may be rank-deficient, or its balls are too wide for the accuracy.

    Notes
    -----
    ``|H - K|_F <= |N - K^2|_F/k`` and ``|Q - M W|_F <= |H - K|_F/k`` for ``N = M^T M``.
    """
    M = as_balls(M)
    if M.nrows() < M.ncols():
        turned = polar(M.transpose(), accuracy=accuracy)
        return MatrixBall(turned.midpoint.transpose(), turned.radius, turned.precision)
    what = f"polar factor of a {M.nrows()}x{M.ncols()} matrix"
    if M.ncols() == 0:
        return MatrixBall(M, arb(0), accuracy)
    _, s, Vt = np.linalg.svd(floats(M), full_matrices=False)
    _positive(what, s, cut=max(M.nrows(), M.ncols()))

    def attempt() -> _Attempt | None:
        found = _root(M.transpose() * M, Vt.T, s)
        if found is None:
            return None
        W, defect, inverse_norm = found
        Q = M * W
        radius = defect * inverse_norm**2 + frobenius(Q - Q.mid())
        return Q.mid(), radius, arb(1)

    return _narrow(attempt, what, accuracy + 2 * _bits(s[0] / s[-1]), accuracy)


def inverse_root(P: Array | arb_mat, *, accuracy: int = ACCURACY) -> MatrixBall:
    """The symmetric inverse root ``P^(-1/2)`` of a symmetric positive definite matrix.

    Parameters
    ----------
    P : (n, n)
        Float64 numbers, taken exactly and exactly symmetric, or balls around such.
    accuracy : int
        Bits: the radius is at most ``2^-accuracy |P^(-1/2)|_2``.

    Raises
    ------
    ValueError
        If `P` is not a finite, exactly symmetric float64 matrix.
    NoCertificate
        If P may not be positive definite, or its balls are too wide for the accuracy.

    Notes
    -----
    ``H^-1 - W = H^-1 (K - H) W`` with ``|H^-1|_2 <= 1/(k - |H - K|_F)``.
    """
    P = _symmetric("P", P)
    n = P.nrows()
    what = f"inverse root of a {n}x{n} matrix"
    if n == 0:
        return MatrixBall(P, arb(0), accuracy)
    w, V = np.linalg.eigh(floats(P))
    _positive(what, w[::-1], cut=n)
    s = np.sqrt(w)

    def attempt() -> _Attempt | None:
        found = _root(P, V, s)
        if found is None:
            return None
        W, defect, inverse_norm = found
        moved = defect * inverse_norm
        least = 1 / inverse_norm - moved
        if not least > 0:
            return None
        radius = moved * inverse_norm / least + frobenius(W - W.mid())
        return W.mid(), radius, frobenius(W) / n

    return _narrow(attempt, what, accuracy + 2 * _bits(s[-1] / s[0]), accuracy)


def eigenvalues(A: Array | arb_mat, *, accuracy: int = ACCURACY) -> list[arb]:
    """All eigenvalues of a symmetric matrix, in ascending order.

    Parameters
    ----------
    A : (n, n)
        Float64 numbers, taken exactly and exactly symmetric, or balls around such.
    accuracy : int
        Bits: every radius is at most ``2^-accuracy`` times the largest eigenvalue in size.

    Raises
    ------
    ValueError
        If `A` is not a finite, exactly symmetric float64 matrix.
    NoCertificate
        If its balls are too wide for the accuracy.

    Notes
    -----
    With ``V^T A V = D + F``, D diagonal, the i-th eigenvalue of the left side is within ``|F|_F`` of the i-th
    entry of D (Weyl), and it is that of A times a number within ``|V^T V - I|_F`` of 1 (Ostrowski). Repeated
    eigenvalues need no separation.
    """
    A = _symmetric("A", A)
    if A.nrows() == 0:
        return []
    return _eigenvalues(lambda: A, np.linalg.eigh(floats(A))[1], accuracy)


def singular_values(M: Array | arb_mat, *, accuracy: int = ACCURACY) -> list[arb]:
    """All ``min(m, n)`` singular values, ascending, to ``2^-accuracy`` of the largest, whatever the rank.

    Raises
    ------
    ValueError, NoCertificate
        As `eigenvalues`.

    Notes
    -----
    Roots of the eigenvalues of ``M^T M``, known to twice as many bits because a root near 0 halves them.
    """
    M = as_balls(M)
    if M.nrows() < M.ncols():
        M = M.transpose()
    if M.ncols() == 0:
        return []
    V = np.linalg.svd(floats(M), full_matrices=False)[2].T
    twice = 2 * accuracy + 2
    squares = _eigenvalues(lambda: M.transpose() * M, V, twice)
    with ctx.workprec(2 * twice):
        return [square.nonnegative_part().sqrt() for square in squares]


def spectral_norm(M: Array | arb_mat, *, accuracy: int = ACCURACY) -> arb:
    """The largest singular value, to a relative ``2^-accuracy``; 0 for an empty matrix."""
    return (singular_values(M, accuracy=accuracy) or [arb(0)])[-1]


def nuclear_norm(M: Array | arb_mat, *, accuracy: int = ACCURACY) -> arb:
    """The sum of the singular values, to ``2^-accuracy`` of the largest per summand; 0 if empty."""
    with ctx.workprec(4 * accuracy):
        return sum(singular_values(M, accuracy=accuracy), arb(0))


def _root(N: arb_mat, V: Array, s: Array) -> tuple[arb_mat, arb, arb] | None:
    """``W = K^-1``, ``|N - K^2|_F`` and ``|W|_F >= 1/k``; None where K is not shown to be positive definite.

    K is symmetric, and congruent through V to a matrix within 1 of the identity in the Frobenius norm.
    """
    K, basis = rounded_root(N, V, s)
    scale = diagonal([1 / arb(float(x)).sqrt() for x in s])
    congruent = scale * basis.transpose() * K * basis * scale
    if not frobenius(congruent - identity(len(s))) < 1:
        return None
    try:
        W = K.inv()
    except ZeroDivisionError:  # the precision does not show that K is invertible
        return None
    return W, frobenius(N - K * K), frobenius(W)


def _eigenvalues(matrix: Callable[[], arb_mat], V: Array, accuracy: int) -> list[arb]:
    """`eigenvalues` of a matrix that is computed at the current precision, from approximate eigenvectors."""
    n = len(V)

    def attempt() -> _Attempt | None:
        A = matrix()
        basis = refined(A, V)
        turned = basis.transpose() * A * basis
        d = sorted(turned[i, i].mid() for i in range(n))
        off = frobenius(turned - diagonal([turned[i, i].mid() for i in range(n)]))
        tilt = frobenius(basis.transpose() * basis - identity(n))
        if not tilt < 1:
            return None
        stretch = 1 + arb(0, tilt.upper())
        found = [(x + arb(0, off.upper())) / stretch for x in d]
        row = arb_mat(1, n, found)
        return row, max(x.rad() for x in found), max(abs(x.mid()) for x in found)

    row, _, _ = _raised(attempt, f"eigenvalues of a {n}x{n} matrix", accuracy, accuracy)
    return row.entries()


def _narrow(attempt: Callable[[], _Attempt | None], what: str, bits: int, accuracy: int) -> MatrixBall:
    return MatrixBall(*_raised(attempt, what, bits, accuracy))


def _raised(
    attempt: Callable[[], _Attempt | None], what: str, bits: int, accuracy: int
) -> tuple[arb_mat, arb, int]:
    """Matrix, radius and precision of the first attempt that is narrow, the precision doubled every time."""
    precision, last = bits + _GUARD, None
    while precision <= _LARGEST_PRECISION:
        with ctx.workprec(precision):
            result = attempt()
            if result is not None:
                matrix, radius, size = result
                bound = radius.upper()
                if bound <= size * arb(2) ** -accuracy:
                    return matrix, bound, precision
                if last is not None and not _PROGRESS * bound < last:
                    break
                last = bound
        precision *= 2
    reached = "nothing was proved" if last is None else f"the radius stays at {float(last):.3g}"
    raise NoCertificate(f"{what}: {reached} with {precision} bits; rank or definiteness is in doubt")


def _positive(what: str, s: Array, *, cut: int) -> None:
    """Raise `NoCertificate` where the least of these descending numbers is rounding against the largest."""
    if not s[-1] > cut * np.finfo(np.float64).eps * s[0]:
        raise NoCertificate(
            f"{what}: rank-deficient to working precision, values from {s[-1]:.3g} to {s[0]:.3g}"
        )


def _symmetric(name: str, A: Array | arb_mat) -> arb_mat:
    """Balls that hold a symmetric matrix."""
    X = as_balls(A)
    if X.nrows() != X.ncols():
        raise ValueError(f"{name} must be square, got shape {(X.nrows(), X.ncols())}")
    if not X.overlaps(X.transpose()):
        raise ValueError(f"{name} must be exactly symmetric")
    return X


def _bits(condition: float) -> int:
    return max(math.ceil(math.log2(condition)), 0)
