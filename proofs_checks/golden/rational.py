"""Matrices of rational numbers, and the square roots and polar factors of them that are rational."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from math import isqrt

from flint import fmpq, fmpq_mat

from proofs_checks.decision import Array

__all__ = [
    "Matrix",
    "combine",
    "diagonal",
    "eye",
    "flat",
    "inverse",
    "matrix",
    "monomial",
    "polar",
    "product",
    "root",
    "scaled",
    "squares",
    "transpose",
]

Matrix = list[list[Fraction]]


def matrix(X: Array) -> Matrix:
    """The exact value of a float64 matrix."""
    return [[Fraction(float(x)) for x in row] for row in X]


def eye(k: int) -> Matrix:
    """The identity."""
    return [[Fraction(i == j) for j in range(k)] for i in range(k)]


def transpose(X: Matrix) -> Matrix:
    """The transpose."""
    return [list(column) for column in zip(*X, strict=True)]


def combine(f: Callable[..., Fraction], *matrices: Matrix) -> Matrix:
    """`f` of corresponding entries."""
    return [[f(*entries) for entries in zip(*rows, strict=True)] for rows in zip(*matrices, strict=True)]


def scaled(c: Fraction, X: Matrix) -> Matrix:
    """``c X``."""
    return combine(lambda x: c * x, X)


def product(*matrices: Matrix) -> Matrix:
    """The product from left to right."""
    total = matrices[0]
    for X in matrices[1:]:
        columns = transpose(X)
        total = [
            [sum((a * b for a, b in zip(row, c, strict=True)), Fraction()) for c in columns] for row in total
        ]
    return total


def inverse(X: Matrix) -> Matrix:
    """The inverse, by FLINT."""
    k = len(X)
    entries = [fmpq(x.numerator, x.denominator) for row in X for x in row]
    Y = fmpq_mat(k, k, entries).inv()
    return [[Fraction(int(Y[i, j].p), int(Y[i, j].q)) for j in range(k)] for i in range(k)]


def diagonal(X: Matrix) -> bool:
    """Whether all entries off the diagonal are zero."""
    return all(i == j or not x for i, row in enumerate(X) for j, x in enumerate(row))


def monomial(X: Matrix) -> bool:
    """Whether no two non-zero entries share a row or a column."""
    return all(sum(x != 0 for x in line) <= 1 for line in (*X, *transpose(X)))


def squares(X: Matrix) -> Fraction:
    """Sum of the squares of all entries."""
    return sum((x * x for row in X for x in row), Fraction())


def root(x: Fraction) -> Fraction | None:
    """The square root, if it is rational."""
    p, q = isqrt(x.numerator), isqrt(x.denominator)
    return Fraction(p, q) if p * p == x.numerator and q * q == x.denominator else None


def polar(X: Matrix) -> Matrix | None:
    """The polar factor, if it is one of those that are seen to be rational.

    Of a matrix without two non-zero entries in a row or column it is the sign, of a matrix of rank one the
    matrix over its norm. Of a 2x2 matrix with determinant ``det != 0`` it is ``X + sign(det) cofactors(X)``
    over a number that makes its rows unit.
    """
    if monomial(X):
        return combine(lambda x: Fraction((x > 0) - (x < 0)), X)
    if _rank_one(X):
        length = root(squares(X))
        return None if length is None else scaled(1 / length, X)
    if (len(X), len(X[0])) != (2, 2):
        return None
    (a, b), (c, d) = X
    det = a * d - b * c
    s = 1 if det > 0 else -1
    numerator = [[a + s * d, b - s * c], [c - s * b, d + s * a]]
    length = root(numerator[0][0] ** 2 + numerator[0][1] ** 2)
    return None if length is None else scaled(1 / length, numerator)


def _rank_one(X: Matrix) -> bool:
    """Whether a matrix that is not zero has rank one: all rows are multiples of one that is not zero."""
    pivot = next(row for row in X if any(row))
    at = next(j for j, x in enumerate(pivot) if x)
    return all(x * pivot[at] == row[at] * p for row in X for x, p in zip(row, pivot, strict=True))


def flat(X: Sequence[Sequence[Fraction]]) -> list[Fraction]:
    """The entries row by row."""
    return [x for row in X for x in row]
