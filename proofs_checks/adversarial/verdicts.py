"""Acceptance decisions of the attacks, each with the name of what was decided, and tightness."""

from collections.abc import Iterable
from dataclasses import replace
from math import floor, isfinite

import numpy as np
from numpy.typing import ArrayLike, NDArray

from proofs_checks.ratios import ORDER_ONE, Ratio, equivariance, inequality, unit_roundoff

__all__ = [
    "DOUBLE",
    "at_least",
    "at_most",
    "factor_rounding",
    "rounded_down",
    "same",
    "tightest",
    "vanishing",
]

#: Unit roundoff of float64, the precision of `reference`.
DOUBLE = unit_roundoff("float64")


def rounded_down(value: float, *, decimals: int = 4) -> float:
    """`value` rounded towards minus infinity: how tightness is recorded."""
    return floor(value * 10**decimals) / 10**decimals if isfinite(value) else value


def at_most(name: str, left: ArrayLike, right: ArrayLike, *, rounding: ArrayLike) -> Ratio:
    """``left <= right`` up to the rounding of both sides, entry by entry; reports the worst entry."""
    return replace(inequality(left, right, rounding=rounding), name=name)


def at_least(name: str, left: ArrayLike, right: ArrayLike, *, rounding: ArrayLike) -> Ratio:
    """``left >= right`` up to rounding: that an effect is there, or that a search got that far."""
    return replace(inequality(right, left, rounding=rounding), name=name)


def vanishing(name: str, value: ArrayLike, *, rounding: ArrayLike) -> Ratio:
    """What exact arithmetic makes zero is zero up to rounding, entry by entry."""
    return replace(inequality(np.abs(value), 0.0, rounding=rounding), name=name)


def same(name: str, left: ArrayLike, right: ArrayLike, *, budget: float) -> Ratio:
    """Frobenius distance of two arrays that exact arithmetic makes equal, over the budgets of both sides."""
    return replace(equivariance(left, right, budget=budget), name=name)


def tightest(ratios: Iterable[Ratio]) -> float:
    """Largest left side over right side among inequalities, rounded down; NaN if a side was not finite."""
    return rounded_down(float(np.max([ratio.figures.get("tightness", np.nan) for ratio in ratios])))


def factor_rounding(*factors: NDArray[np.float64], steps: int = 1) -> float:
    """Relative error of what is computed from Kronecker factors that took `steps` updates.

    Each update, root or solve has a relative error of order ``side * u`` times the condition of the factors
    inverted in it (accuracy notes of `reference.fismo.update_factors` and `reference.kronecker`); the
    factors are averages, so errors add up at most. The constant of "of order" is the project's threshold
    for O(1) ratios.

    Parameters
    ----------
    factors : (..., k, k) float64
        Symmetric positive definite.
    steps : int
        Updates behind them.
    """
    side = sum(P.shape[-1] for P in factors)
    condition = max(float(np.linalg.cond(P).max()) for P in factors)
    return ORDER_ONE * steps * side * DOUBLE * condition
