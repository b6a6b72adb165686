"""Argument checks: the value if it is in order, else an error saying what was needed and what came.

``TypeError`` for a wrong Python type (a list, an int array in place of a float), ``ValueError`` for a wrong
dtype, shape or range and for entries that are not finite. Nothing is converted silently.
"""

import math
from collections.abc import Sequence
from numbers import Real
from typing import SupportsIndex

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Array",
    "array",
    "choice",
    "finite_result",
    "fraction",
    "integer",
    "like",
    "matrix",
    "non_negative",
    "number",
    "positive",
    "shape",
    "vector",
]

Array = NDArray[np.float64]


def array(name: str, X: Array, *, form: str = "(...)", axes: int = 0) -> Array:
    """`X` as a finite float64 array with at least `axes` axes; `form` is the shape the message asks for."""
    if not isinstance(X, np.ndarray):
        raise TypeError(f"{name} must be a float64 array of shape {form}, got {type(X).__name__}")
    if X.dtype != np.float64 or X.ndim < axes:
        raise ValueError(f"{name} must be float64 of shape {form}, got {X.dtype} of shape {X.shape}")
    if not np.isfinite(X).all():
        raise ValueError(f"{name} must be finite, got {np.count_nonzero(~np.isfinite(X))} non-finite entries")
    return np.asarray(X)


def matrix(name: str, X: Array) -> Array:
    """A float64 array of shape ``(..., m, n)``, all entries finite."""
    return array(name, X, form="(..., m, n)", axes=2)


def vector(name: str, x: Array) -> Array:
    """A float64 array of shape ``(..., d)``, all entries finite."""
    return array(name, x, form="(..., d)", axes=1)


def like(name: str, X: Array, expected: tuple[int, ...]) -> Array:
    """A finite float64 array of exactly the shape `expected`."""
    X = array(name, X, form=str(expected))
    if X.shape != expected:
        raise ValueError(f"{name} must have shape {expected}, got {X.shape}")
    return X


def shape(name: str, W: Array | tuple[int, ...], *, axes: int) -> tuple[int, ...]:
    """The shape of a parameter given as an array or as its shape, with at least `axes` axes."""
    if isinstance(W, tuple):
        sizes = tuple(integer(f"{name} (a shape)", size, minimum=0) for size in W)
        if len(sizes) < axes:
            raise ValueError(f"{name} must have at least {axes} axes, got the shape {sizes}")
        return sizes
    return (matrix if axes == 2 else vector)(name, W).shape


def number(name: str, value: float) -> float:
    """A finite real number."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be a real number, got {type(value).__name__}")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")
    return float(value)


def positive(name: str, value: float) -> float:
    """A finite number above 0."""
    value = number(name, value)
    if not value > 0:
        raise ValueError(f"{name} must be above 0, got {value}")
    return value


def non_negative(name: str, value: float) -> float:
    """A finite number at least 0."""
    value = number(name, value)
    if not value >= 0:
        raise ValueError(f"{name} must be at least 0, got {value}")
    return value


def fraction(name: str, value: float, *, closed: bool = False) -> float:
    """A number in [0, 1), or in [0, 1] if `closed`."""
    value = number(name, value)
    if not (0 <= value < 1 or (closed and value == 1)):
        raise ValueError(f"{name} must be in [0, 1{']' if closed else ')'}, got {value}")
    return value


def integer(name: str, value: SupportsIndex, *, minimum: int) -> int:
    """An integer at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise TypeError(f"{name} must be an integer, got {type(value).__name__}")
    count = value.__index__()
    if count < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {count}")
    return count


def choice(name: str, value: str, options: Sequence[str]) -> str:
    """One of `options`."""
    if value not in options:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}, got {value!r}")
    return value


def finite_result(name: str, X: Array, need: str) -> Array:
    """`X`, a result, unless it left the range of float64; then an error that blames the argument `name`."""
    if not np.isfinite(X).all():
        raise ValueError(f"{name} must {need}, got a result outside the range of float64")
    return X
