"""Arithmetic in a smaller format, emulated in float64: every operation rounded to nearest, ties to even.

Correct for formats of at most 25 bits, because float64 holds more than twice their digits (products and
quotients are then rounded once in effect). Overflow goes to infinity; underflow is not emulated.
"""

import math

import numpy as np
from numpy.typing import NDArray

from proofs_checks.ratios import unit_roundoff

__all__ = ["FORMATS", "rounded"]

Array = NDArray[np.float64]

#: Exponent of the largest number of each format.
_TOP_EXPONENT = {"float32": 127, "bfloat16": 127, "float16": 15}

#: Formats that can be emulated.
FORMATS = tuple(_TOP_EXPONENT)


def rounded(x: Array, dtype: str) -> Array:
    """The numbers of format `dtype` nearest to `x`; "float64" leaves `x` as it is."""
    if dtype == "float64":
        return x
    u = unit_roundoff(dtype)
    bits = -int(math.log2(u))
    with np.errstate(invalid="ignore"):
        fraction, exponent = np.frexp(x)
        y = np.ldexp(np.rint(np.ldexp(fraction, bits)), exponent - bits)
        largest = (2 - 2 * u) * 2.0 ** _TOP_EXPONENT[dtype]
        return np.where(np.abs(y) > largest, np.copysign(np.inf, y), y)
