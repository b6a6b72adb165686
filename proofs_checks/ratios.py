"""Every acceptance rule of the project: one non-negative ratio, error over a derived budget.

A rule never raises for what a wrong program may compute: NaN or infinity anywhere gives the ratio infinity,
which fails. It raises `ValueError` for what only a wrong *test* can pass: shapes that do not fit, a precision
out of range. Matrices are real, two-dimensional and taken as float64; u is the unit roundoff of the precision
the judged program worked in. Rules of linear algebra live in `proofs_checks.residuals`, the budget of
iterations in `proofs_checks.budgets`; both are used through this module.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from proofs_checks.budgets import RoundingModel, iteration_budget
from proofs_checks.decision import (
    DOUBLE,
    EXPLICIT_BUDGET,
    NOTHING,
    ORDER_ONE,
    Array,
    Ratio,
    failed,
    frobenius,
    matrices,
    precision,
    quiet,
    same_shape,
    unit_roundoff,
    worst,
)
from proofs_checks.polynomials import Polynomial
from proofs_checks.residuals import (
    forward_polar,
    inverse_root,
    linear_solve,
    orthogonality,
    polar_structure,
    reconstruction,
)

__all__ = [
    "EXPLICIT_BUDGET",
    "ORDER_ONE",
    "Ratio",
    "equivariance",
    "forward_polar",
    "inequality",
    "inverse_root",
    "linear_solve",
    "orthogonality",
    "polar_structure",
    "reconstruction",
    "recursion",
    "truncated_iteration",
    "unit_roundoff",
    "worst",
    "yes_no",
]


@quiet
def truncated_iteration(
    computed: ArrayLike,
    M: ArrayLike,
    polynomials: Polynomial | Sequence[Polynomial],
    *,
    u: float,
    u_accumulate: float | None = None,
    steps: int | None = None,
    normalize: bool = True,
    floor: float = 0.0,
    shift: float = 0.0,
    model: RoundingModel = "worst",
) -> Ratio:
    """Frobenius distance of a Newton-Schulz iteration from its polynomial of the exact singular values.

    Explicit budget, derived in `proofs_checks.budgets`; never a comparison with the polar factor. The figures
    `budget_relative` and `error_relative`, over the norm of the exact result, show what the check resolves;
    `saturated` is 1 where the budget has grown to the size of the result and only gross faults are seen.

    Parameters
    ----------
    computed : (m, n)
        What the judged program returned.
    M : (m, n)
        Its input, before any rounding to the working precision.
    polynomials, u, u_accumulate, steps, normalize, floor, shift, model
        As in `proofs_checks.budgets.iteration_budget`.
    """
    (computed, M), finite = matrices(computed=computed, M=M)
    same_shape(computed=computed, M=M)
    precision(u)
    if not finite:
        return failed("truncated iteration", EXPLICIT_BUDGET)
    allowed = iteration_budget(
        M,
        polynomials,
        u=u,
        u_accumulate=u_accumulate,
        steps=steps,
        normalize=normalize,
        floor=floor,
        shift=shift,
        model=model,
    )
    error, size = frobenius(computed - allowed.exact), frobenius(allowed.exact)
    figures = {
        "budget_relative": allowed.total / size if size else 0.0,
        "error_relative": error / size if size else 0.0,
        "first_order": allowed.first_order,
        "amplification": allowed.amplification,
        "saturated": float(allowed.saturated),
    }
    return Ratio("truncated iteration", error, max(allowed.total, NOTHING), EXPLICIT_BUDGET, figures)


@quiet
def recursion(
    computed: ArrayLike,
    expected: ArrayLike,
    absolute_terms: ArrayLike,
    *,
    operations: int,
    u: float,
    underflow: float = 0.0,
) -> Ratio:
    """Componentwise error of an average, decay or momentum: at most ``g_k`` times the sum of absolute terms.

    Parameters
    ----------
    computed, expected, absolute_terms : (...)
        The result, its float64 value, and the same formula with every term replaced by its absolute value.
    operations : int
        k, the number of roundings any term passes through; ``g_k = k u / (1 - k u)``. The float64 value is
        charged the same in its own precision. Where all terms are zero the error must be zero.
    u : float
        Unit roundoff of the computation.
    underflow : float
        Absolute error of one operation whose result is subnormal; 0 if none is expected.
    """
    got, want, terms = (np.asarray(a, dtype=np.float64) for a in (computed, expected, absolute_terms))
    same_shape(computed=got, expected=want, absolute_terms=terms)
    if operations < 1 or operations * precision(u) >= 1:
        raise ValueError(f"operations must be at least 1 and below 1/u, got {operations} with u = {u}")
    if not all(np.isfinite(a).all() for a in (got, want, terms)) or (terms < 0).any():
        return failed("recursion", EXPLICIT_BUDGET)
    g = sum(operations * r / (1.0 - operations * r) for r in (u, DOUBLE))
    return _componentwise("recursion", np.abs(got - want), g * terms + operations * underflow)


@quiet
def equivariance(left: ArrayLike, right: ArrayLike, *, budget: float) -> Ratio:
    """``|f(U A V) - U f(A) V|_F`` over the sum of the budgets of its two sides; explicit budget."""
    a, b = np.asarray(left, dtype=np.float64), np.asarray(right, dtype=np.float64)
    same_shape(left=a, right=b)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return failed("equivariance", EXPLICIT_BUDGET)
    error, size = frobenius(a - b), frobenius(b)
    return Ratio(
        "equivariance", error, budget, figures={"budget_relative": budget / size if size else budget}
    )


@quiet
def inequality(left: ArrayLike, right: ArrayLike, *, rounding: ArrayLike) -> Ratio:
    """Whether left <= right up to the rounding of both sides: the excess over `rounding`; explicit budget.

    Arrays are compared entry by entry and the worst entry is reported; `tightness` is the largest left over
    positive right. With `rounding` 0 there must be no excess at all. A side that is infinite fails: an
    infinite bound says nothing.

    Raises
    ------
    ValueError
        If there is nothing to compare.
    """
    sides = np.broadcast_arrays(*(np.asarray(a, dtype=np.float64) for a in (left, right, rounding)))
    a, b, allowed = (side.reshape(-1) for side in sides)
    if not a.size:
        raise ValueError("left and right must hold at least one number, got none")
    if not all(np.isfinite(side).all() for side in (a, b, allowed)) or (allowed < 0).any():
        return failed("inequality", EXPLICIT_BUDGET)
    ratio = _componentwise("inequality", np.maximum(a - b, 0.0), allowed)
    at = int(ratio.figures["entry"])
    figures = {"left": float(a[at]), "right": float(b[at])}
    positive = b > 0
    if positive.any():
        figures["tightness"] = float((a[positive] / b[positive]).max())
    return Ratio(ratio.name, ratio.error, ratio.budget, figures=figures)


def yes_no(name: str, condition: bool | np.bool_) -> Ratio:
    """A fact that holds or does not: error 0 or 1 against one float64 unit roundoff.

    Raises
    ------
    TypeError
        If `condition` is not a truth value; NaN, for one, would count as true.
    """
    if not isinstance(condition, bool | np.bool_):
        raise TypeError(f"condition must be a bool, got {type(condition).__name__}")
    return Ratio(name, 0.0 if condition else 1.0, DOUBLE)


def _componentwise(name: str, error: Array, budget: Array) -> Ratio:
    """The entry that uses most of its own budget; a budget of zero allows no error."""
    error, budget = error.reshape(-1), np.maximum(budget.reshape(-1), NOTHING)
    if not error.size:
        return Ratio(name, 0.0, NOTHING)
    at = int(np.argmax(error / budget))
    return Ratio(name, float(error[at]), float(budget[at]), figures={"entry": float(at)})
