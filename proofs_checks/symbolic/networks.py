"""Sums over indices: Kronecker products, vec and unit vectors in terms of ordinary products and traces.

An expression such as ``vec(G)^T (Q kron P) vec(G)`` is a sum over indices of products of matrix entries, in
which every summed index occurs twice. Following the indices from factor to factor turns it into traces
(closed loops) and one product (the path between the two open indices); that is the whole proof of the usual
rules.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any

from flint import fmpq

from proofs_checks.symbolic.carriers import Carrier, Symbols
from proofs_checks.symbolic.exact import Exact

__all__ = ["contract"]

Factor = tuple[Any, str, str]


def contract(x: Carrier, factors: Sequence[Factor], *, open_indices: tuple[str, str] | None = None) -> Any:
    """Sum a product of entries over every index that occurs twice.

    Parameters
    ----------
    factors : sequence of (matrix, row index, column index)
        The entries ``matrix[row, column]`` to multiply.
    open_indices : pair of str, optional
        The two indices that occur once; the result is then a matrix, else a scalar.

    Raises
    ------
    ValueError
        If a summed index does not occur twice, or an open one not once.
    """
    seen = [index for _, row, column in factors for index in (row, column)]
    for index in {*seen, *(open_indices or ())}:
        wanted = 1 if index in (open_indices or ()) else 2
        if seen.count(index) != wanted:
            raise ValueError(f"index {index} must occur {wanted} times, got {seen.count(index)}")
    follow = _walk if isinstance(x, Symbols) else _sum
    return follow(x, list(factors), open_indices)


def _take(factors: list[Factor], index: str) -> tuple[Any, str]:
    """Remove the factor that carries `index`; return it with `index` as its row, and its other index."""
    for factor in factors:
        X, row, column = factor
        if index in (row, column):
            factors.remove(factor)
            return (X, column) if row == index else (X.T, row)
    raise AssertionError(f"no factor carries the index {index}, although they were counted")


def _walk(x: Carrier, factors: list[Factor], open_indices: tuple[str, str] | None) -> Any:
    path = None
    if open_indices:
        path, at = _take(factors, open_indices[0])
        while at != open_indices[1]:
            step, at = _take(factors, at)
            path = path @ step
    scalar = 1
    while factors:
        start = factors[0][1]
        loop, at = _take(factors, start)
        while at != start:
            step, at = _take(factors, at)
            loop = loop @ step
        scalar = scalar * x.trace(loop)
    return scalar if path is None else scalar * path


def _sum(x: Carrier, factors: list[Factor], open_indices: tuple[str, str] | None) -> Any:
    sizes = {i: n for X, row, column in factors for i, n in ((row, X.rows), (column, X.cols))}
    total: dict[tuple[int, ...], fmpq] = {}
    for values in product(*(range(n) for n in sizes.values())):
        at = dict(zip(sizes, values, strict=True))
        term = fmpq(1)
        for X, row, column in factors:
            term *= X.entries[at[row]][at[column]]
        place = tuple(at[i] for i in open_indices or ())
        total[place] = total.get(place, fmpq(0)) + term
    if open_indices is None:
        return total[()]
    rows, cols = (sizes[i] for i in open_indices)
    return Exact([[total[i, j] for j in range(cols)] for i in range(rows)])
