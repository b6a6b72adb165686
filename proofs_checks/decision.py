"""What an acceptance decision is, and what every rule needs to take one."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "DOUBLE",
    "EXPLICIT_BUDGET",
    "NOTHING",
    "ORDER_ONE",
    "SINGLE",
    "Array",
    "Ratio",
    "failed",
    "frobenius",
    "largest",
    "matrices",
    "measured_svd",
    "negative_part",
    "precision",
    "quiet",
    "same_shape",
    "scaled",
    "spectral",
    "unit_roundoff",
    "worst",
]

Array = NDArray[np.float64]

#: Threshold for budgets whose constants are explicit. Ledger claim: METH-budget.
EXPLICIT_BUDGET = 1.0

#: Threshold for backward-error ratios that theory puts at O(1). Ledger claim: METH-budget.
ORDER_ONE = 30.0

#: Significant bits of a binary format, the hidden one included; its unit roundoff is 2 to their negative.
SIGNIFICANT_BITS = {"float64": 53, "float32": 24, "float16": 11, "bfloat16": 8}

#: Unit roundoff of float64, the precision the judge itself works in.
DOUBLE = 2.0**-53

#: Unit roundoff of float32, in which half-precision products are accumulated.
SINGLE = 2.0**-24

#: The budget where exact arithmetic leaves no error at all: two of the smallest numbers already exceed it.
NOTHING = float(np.finfo(np.float64).smallest_subnormal)

#: Decorates a rule: numbers too large for float64 become infinite and fail, instead of warning.
quiet = np.errstate(over="ignore", invalid="ignore", divide="ignore")


@dataclass(frozen=True)
class Ratio:
    """One acceptance decision.

    Attributes
    ----------
    name : str
        The rule that was applied.
    error : float
        The measured quantity, non-negative.
    budget : float
        What rounding (or a theorem) allows, positive, in the units of `error`.
    threshold : float
        `EXPLICIT_BUDGET` or `ORDER_ONE`.
    figures : mapping of str to float
        What else a reader wants to know (resolved rank, leakage, condition number, ...).
    """

    name: str
    error: float
    budget: float
    threshold: float = EXPLICIT_BUDGET
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """Error over budget; infinite if either is not a number or the budget is not positive and finite."""
        if not (math.isfinite(self.budget) and self.budget > 0 and self.error >= 0):
            return math.inf
        return self.error / self.budget

    @property
    def passed(self) -> bool:
        """True only if the ratio is a number at most the threshold; NaN fails."""
        return self.value <= self.threshold


def unit_roundoff(dtype: object) -> float:
    """Unit roundoff of a floating-point format: half the distance from 1 to the next number.

    Parameters
    ----------
    dtype : object
        A NumPy or torch dtype, or a name: "float64" 2^-53, "float32" 2^-24, "float16" 2^-11, "bfloat16" 2^-8.

    Raises
    ------
    ValueError
        If it is none of these formats.
    """
    name = getattr(dtype, "name", None) or getattr(dtype, "__name__", None) or str(dtype)
    name = name.removeprefix("torch.")
    if name not in SIGNIFICANT_BITS:
        raise ValueError(f"dtype must be one of {', '.join(SIGNIFICANT_BITS)}, got {dtype!r}")
    return 2.0 ** -SIGNIFICANT_BITS[name]


def worst(ratios: Iterable[Ratio]) -> Ratio:
    """The ratio that is largest relative to its threshold: if it passes, all of them do.

    Raises
    ------
    ValueError
        If there is none.
    """
    found = list(ratios)
    if not found:
        raise ValueError("ratios must hold at least one ratio, got none: no decision was taken")
    return max(found, key=lambda ratio: ratio.value / ratio.threshold)


def failed(name: str, threshold: float) -> Ratio:
    """The verdict on a result that is not a number: an infinite ratio."""
    return Ratio(name, math.inf, 1.0, threshold)


def precision(u: float) -> float:
    """`u`, if it can be a unit roundoff.

    Raises
    ------
    ValueError
        If it does not lie between 0 and 1.
    """
    if not 0 < u < 1:
        raise ValueError(f"u must lie between 0 and 1, got {u}")
    return u


def matrices(**named: ArrayLike) -> tuple[tuple[Array, ...], bool]:
    """The arguments as float64 matrices, and whether all their entries are finite.

    Raises
    ------
    ValueError
        If one is not a real matrix; the message gives its name.
    """
    found = []
    for name, value in named.items():
        matrix = np.asarray(value)
        if matrix.ndim != 2 or matrix.dtype.kind not in "fiu":
            raise ValueError(
                f"{name} must be a real matrix of shape (m, n), got {matrix.dtype} {matrix.shape}"
            )
        found.append(matrix.astype(np.float64))
    return tuple(found), all(bool(np.isfinite(matrix).all()) for matrix in found)


def same_shape(**named: Array) -> None:
    """Check that the arguments agree in shape.

    Raises
    ------
    ValueError
        If they do not; the message gives all shapes by name.
    """
    if len({array.shape for array in named.values()}) > 1:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in named.items())
        raise ValueError(f"{' and '.join(named)} must agree in shape, got {shapes}")


def largest(values: NDArray[np.floating[Any]]) -> float:
    """Largest absolute value; 0 of nothing, NaN if there is one."""
    return float(np.abs(values).max(initial=0.0))


def frobenius(A: Array) -> float:
    """Frobenius norm, or Euclidean of a vector; neither overflows nor underflows before its value does."""
    peak = largest(A)
    return peak * float(np.linalg.norm(A / peak)) if peak and math.isfinite(peak) else peak


def spectral(A: Array) -> float:
    """Spectral norm; infinite if an entry is not finite."""
    peak = largest(A)
    if not math.isfinite(peak):
        return math.inf
    return peak * largest(np.linalg.svd(A / peak, compute_uv=False)) if peak else 0.0


def negative_part(B: Array) -> float:
    """How far the least eigenvalue of the symmetric part of B lies below zero; infinite if not a number."""
    peak = largest(B)
    if not math.isfinite(peak):
        return math.inf
    C = B / (peak or 1.0)
    return peak * max(0.0, -float(np.linalg.eigvalsh((C + C.T) / 2.0).min(initial=0.0)))


def scaled(A: Array) -> tuple[Array, float]:
    """A over its spectral norm, and that norm; zero stays zero. Safe for finite entries of any size."""
    norm = spectral(A)
    peak = largest(A)
    return (A / peak / (norm / peak), norm) if peak else (A, 0.0)


def measured_svd(A: Array, *, full: bool = False) -> tuple[Array, Array, Array, float]:
    """Singular value decomposition, and its error relative to ``|A|_F``, measured and not assumed.

    The error is what the factors leave of A, half of what each lacks to orthonormality, and the rounding of
    these measurements themselves: matrix products of inner length k = max(m, n), k + sqrt(k) roundings.
    LAPACK's may be 99 unit roundoffs for the smallest matrices (its stopping tolerance), and often is 5.
    """
    k = max(A.shape)
    U, s, Vt = np.linalg.svd(A, full_matrices=full)
    r = len(s)
    residual = float(np.linalg.norm(A - (U[:, :r] * s) @ Vt[:r])) / (float(np.linalg.norm(s)) or 1.0)
    defect = spectral(U.T @ U - np.eye(U.shape[1])) + spectral(Vt @ Vt.T - np.eye(Vt.shape[0]))
    return U, s, Vt, residual + defect / 2.0 + (k + math.sqrt(k)) * DOUBLE
