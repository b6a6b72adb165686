"""Certificates for matrices: polar factors, inverse roots and extreme eigenvalues, all in exact rationals.

What is stored is rounded to dyadic rationals, and the stored radius is that of the rounded numbers.
"""

import math
from typing import Any

import numpy as np
from flint import arb, arb_mat, fmpq, fmpq_mat
from numpy.typing import NDArray

from proofs_checks.certified.balls import at_precision
from proofs_checks.certified.eigenvectors import floats, rounded_root
from proofs_checks.certified.enclosures import eigenvalues, frobenius

__all__ = ["matrices"]

Array = NDArray[np.float64]

#: Bits behind the point of what is stored, and of the arithmetic that finds it.
_PLACES, _BITS = 176, 320

#: How far below the least eigenvalue of the stored root its stored bound lies, relatively: float64 found it.
_MARGIN = 2.0**-20

#: Digits of bounds of eigenvalues, and of the vectors that nearly reach them.
_BOUND_DIGITS, _VECTOR_DIGITS = 12, 9


@at_precision(_BITS)
def matrices() -> list[dict[str, Any]]:
    """The certificates: well and ill conditioned matrices with simple rational entries."""
    free = {
        "tall 5x3": _filled(5, 3, lambda i, j: fmpq((7 * i * i + 3 * i * j + 5 * j + 2) % 19 - 9, 4)),
        "square 4x4": _filled(4, 4, lambda i, j: fmpq((5 * i * i + 2 * i * j + 3 * j) % 17 - 8)),
        "triangle 8x8": _filled(8, 8, lambda i, j: fmpq(int(i <= j))),
        "powers 6x4": _filled(6, 4, lambda i, j: fmpq(i + 1, 4) ** j),
        "Cauchy 7x5": _filled(7, 5, lambda i, j: fmpq(1, 1 + i + 2 * j)),
    }
    definite = {
        "Hilbert 3x3": _filled(3, 3, lambda i, j: fmpq(1, i + j + 1)),
        "Hilbert 8x8": _filled(8, 8, lambda i, j: fmpq(1, i + j + 1)),
        "Pascal 5x5": _filled(5, 5, lambda i, j: fmpq(math.comb(i + j, i))),
        "graded 6x6": _filled(6, 6, lambda i, j: fmpq(int(i == j), 10**i) + fmpq(1, 10 ** (2 + i + j))),
    }
    return [
        *(_polar(name, M) for name, M in free.items()),
        *(_inverse_root(name, P) for name, P in definite.items()),
        *(_eigenvalues(name, A) for name, A in definite.items()),
    ]


def _polar(name: str, M: fmpq_mat) -> dict[str, Any]:
    _, s, Vt = np.linalg.svd(floats(arb_mat(M)), full_matrices=False)
    K, k = _root(M.transpose() * M, Vt.T, s)
    Q = _stored(arb_mat(M) * arb_mat(K).inv())
    inverse = 1 / arb(k)
    error = _size(M.transpose() * M - K * K) * inverse**2 + _size(Q * K - M) * inverse
    return {
        "id": f"polar factor, {name}",
        "claim": "POLAR-enclosure",
        "kind": "polar",
        "M": _rows(M),
        "K": _rows(K),
        "Q": _rows(Q),
        "k": float(arb(k)).hex(),
        "radius": _power_above(error),
    }


def _inverse_root(name: str, P: fmpq_mat) -> dict[str, Any]:
    w, V = np.linalg.eigh(floats(arb_mat(P)))
    K, k = _root(P, V, np.sqrt(w))
    X = _stored(arb_mat(K).inv())
    moved = _size(P - K * K) / arb(k)
    one = _filled(P.nrows(), P.nrows(), lambda i, j: fmpq(int(i == j)))
    error = moved / (arb(k) * (arb(k) - moved)) + _size(X * K - one) / arb(k)
    return {
        "id": f"inverse root, {name}",
        "claim": "ROOT-enclosure",
        "kind": "inverse-root",
        "P": _rows(P),
        "K": _rows(K),
        "X": _rows(X),
        "k": float(arb(k)).hex(),
        "radius": _power_above(error),
    }


def _eigenvalues(name: str, A: fmpq_mat) -> dict[str, Any]:
    found = eigenvalues(arb_mat(A), accuracy=_PLACES // 2)
    vectors = np.linalg.eigh(floats(arb_mat(A)))[1]
    unit = 10**_BOUND_DIGITS
    return {
        "id": f"eigenvalues, {name}",
        "claim": "NORM-enclosure",
        "kind": "eigenvalues",
        "A": _rows(A),
        "lower": str(fmpq((found[0] * unit).floor().unique_fmpz(), unit)),
        "upper": str(fmpq((found[-1] * unit).ceil().unique_fmpz(), unit)),
        "low": _vector(vectors[:, 0]),
        "high": _vector(vectors[:, -1]),
    }


def _root(N: fmpq_mat, V: Array, s: Array) -> tuple[fmpq_mat, fmpq]:
    """A stored root of N, and a float64 number below its least eigenvalue."""
    K = _stored(rounded_root(arb_mat(N), V, s)[0])
    return K, fmpq(*float(min(s) * (1 - _MARGIN)).as_integer_ratio())


def _filled(rows: int, cols: int, entry: Any) -> fmpq_mat:
    return fmpq_mat(rows, cols, [entry(i, j) for i in range(rows) for j in range(cols)])


def _stored(X: arb_mat) -> fmpq_mat:
    """Entries rounded to `_PLACES` bits behind the point."""
    unit = 2**_PLACES
    entries = [fmpq((x.mid() * unit + arb(0.5)).floor().unique_fmpz(), unit) for x in X.entries()]
    return fmpq_mat(X.nrows(), X.ncols(), entries)


def _size(X: fmpq_mat) -> arb:
    return frobenius(arb_mat(X)).upper()


def _power_above(x: arb) -> str:
    """The least power of two above a number, as a hexadecimal float."""
    mantissa, exponent = x.upper().man_exp()
    return math.ldexp(1.0, int(exponent) + int(mantissa).bit_length()).hex()


def _rows(X: fmpq_mat) -> list[list[str]]:
    return [[str(x) for x in row] for row in X.tolist()]


def _vector(v: Array) -> list[str]:
    """Digits of a vector with its largest component positive, so that they do not depend on LAPACK's sign."""
    unit = 10**_VECTOR_DIGITS
    signed = v * np.sign(v[np.abs(v).argmax()])
    return [str(fmpq(round(float(x) * unit), unit)) for x in signed]
