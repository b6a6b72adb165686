"""Exact scaling by powers of two, so that squares neither overflow nor underflow."""

import numpy as np
from numpy.typing import NDArray

from reference._arguments import Array

__all__ = ["exponent", "to_unit"]


def exponent(X: Array, *, axes: tuple[int, ...], at_least: float = 0.0) -> NDArray[np.int32]:
    """The integers e with ``2^(e-1) <= max(|X|, at_least) < 2^e`` over `axes`, which are kept; 0 for zero."""
    largest = np.max(np.abs(X), axis=axes, keepdims=True, initial=at_least)
    return np.frexp(largest)[1]


def to_unit(X: Array) -> tuple[Array, NDArray[np.int32]]:
    """Each matrix of `X` with its largest entry brought into [1/2, 1) by a power of two, and the exponents.

    Exact, except that entries smaller than the largest by more than 2^1021 lose digits to underflow.
    """
    e = exponent(X, axes=(-2, -1))
    return np.ldexp(X, -e), e
