"""Twins of `reference.polar`."""

from collections.abc import Iterator
from itertools import product

import numpy as np

import reference.polar
import torch_impl.polar
from proofs_checks.budgets import IterationBudget, iteration_budget
from proofs_checks.decision import DOUBLE, EXPLICIT_BUDGET, Array, Ratio, quiet
from proofs_checks.ratios import forward_polar, recursion, yes_no
from proofs_checks.twins.case import Precision, Twin, array, distance

__all__ = ["SCHEDULES", "TWINS", "schedule_budget"]

Polynomials = tuple[tuple[float, ...], ...]

#: Muon's five steps.
MUON: Polynomials = (reference.polar.JORDAN_QUINTIC,) * 5

#: The published polynomials with the recommended safety factor 1.01 on all but the last one.
POLAR_EXPRESS: Polynomials = (
    *(
        tuple(c / 1.01 ** (2 * j + 1) for j, c in enumerate(row))
        for row in reference.polar.POLAR_EXPRESS[:-1]
    ),
    reference.polar.POLAR_EXPRESS[-1],
)

#: Iterations to compare, with the way each normalises its input.
SCHEDULES: dict[str, tuple[Polynomials, dict[str, float]]] = {
    "jordan": (MUON, {}),
    "polar-express": (POLAR_EXPRESS, {"shift": 1e-2}),
    "kim-oh": ((reference.polar.kim_oh_polynomial(2),) * 3, {"floor": 1.0}),
}

#: Degrees of `kim_oh_polynomial` that are compared.
KIM_OH_DEGREES = range(1, 13)

#: Smallest singular values for which `polar_express_coefficients` is compared.
LOWER_ENDS = (1e-3, 0.02, 0.1, 0.5, 0.9)


def _polar_factor(M: Array, p: Precision) -> Iterator[tuple[str, Ratio]]:
    computed = array(torch_impl.polar.polar_factor(p.tensor(M)))
    yield "", _polar_distance(computed, M, p)


def _polar_distance(computed: Array, M: Array, p: Precision) -> Ratio:
    """Against the reference on what the format can tell from zero: it does not see the rest of the matrix."""
    A = _resolved(M, p.u)
    return forward_polar(computed, A, u=p.u, exact=reference.polar.polar_factor(A))


def _resolved(M: Array, u: float) -> Array:
    if u == DOUBLE:
        return M
    U, s, Vt = np.linalg.svd(M, full_matrices=False)
    cut = 2 * u * max(M.shape, default=0) * s.max(initial=0.0)
    return np.ascontiguousarray((U * np.where(s > cut, s, 0.0)) @ Vt)


def _nuclear_norm(M: Array, p: Precision) -> Iterator[tuple[str, Ratio]]:
    """A stable SVD moves the singular values together by ``c u sqrt(r) s_1``, their sum by sqrt(r) more."""
    expected = np.atleast_1d(reference.polar.nuclear_norm(M))
    largest = np.linalg.svd(M, compute_uv=False).max(initial=0.0)
    budget = p.both * (min(M.shape) * largest + expected.sum())
    computed = torch_impl.polar.nuclear_norm(p.tensor(M)).reshape(1)
    yield "", distance("nuclear norm", computed, expected, budget=float(budget))


def _spectral_lmo(M: Array, p: Precision) -> Iterator[tuple[str, Ratio]]:
    radius = 2.5
    computed = array(torch_impl.polar.spectral_lmo(p.tensor(M), radius=radius))
    yield "", _polar_distance(-computed / radius, M, p)


@quiet
def schedule_budget(M: Array, polynomials: Polynomials, u: float, **start: float) -> IterationBudget:
    """How far rounding may move one of the iterations in `SCHEDULES`; overflow means a saturated budget."""
    return iteration_budget(M, polynomials, u=u, **start)  # type: ignore[arg-type]


def _iteration_distance(
    computed: Array, expected: Array, M: Array, polynomials: Polynomials, u: float, **start: float
) -> Ratio:
    """Distance of two iterations over twice the budget of the coarser: rounding may move either that far."""
    allowed = schedule_budget(M, polynomials, u, **start)
    return distance("iteration", computed, expected, budget=2 * allowed.total, threshold=EXPLICIT_BUDGET)


def _newton_schulz(M: Array, p: Precision) -> Iterator[tuple[str, Ratio]]:
    X = p.tensor(M)
    for name, (polynomials, start) in SCHEDULES.items():
        computed = array(torch_impl.polar.newton_schulz(X, polynomials, **start))  # type: ignore[arg-type]
        expected = reference.polar.newton_schulz(M, polynomials, **start)  # type: ignore[arg-type]
        yield name, _iteration_distance(computed, expected, M, polynomials, p.u, **start)


def _orthogonalize(M: Array, p: Precision) -> Iterator[tuple[str, Ratio]]:
    X = p.tensor(M)
    yield "polar", _polar_distance(array(torch_impl.polar.orthogonalize(X, "polar")), M, p)
    for name in ("jordan", "polar-express"):
        polynomials, start = SCHEDULES[name]
        computed = array(torch_impl.polar.orthogonalize(X, name))
        expected = reference.polar.orthogonalize(M, name)
        yield name, _iteration_distance(computed, expected, M, polynomials, p.u, **start)


def _scalar_map(M: Array, p: Precision) -> Iterator[tuple[str, Ratio]]:
    s = np.linalg.svd(M, compute_uv=False)
    size = max(float(np.linalg.norm(s)), float(np.finfo(np.float64).tiny))
    x = p.rounded(np.asarray(s / size, dtype=np.float64))
    for name, (polynomials, _) in SCHEDULES.items():
        computed = array(torch_impl.polar.scalar_map(p.tensor(x), polynomials))
        expected = reference.polar.scalar_map(x, polynomials)
        terms, operations = _absolute_terms(x, polynomials)
        yield name, recursion(computed, expected, terms, operations=operations, u=p.u)


def _absolute_terms(x: Array, polynomials: Polynomials) -> tuple[Array, int]:
    """What rounding errors of a composition add up to, in units of ``operations * u``, first order doubled.

    A step of degree 2d + 1 rounds each term at most 3 d + 2 times; later steps stretch that by their slope.
    """
    y, total = x, np.zeros_like(x)
    for row in polynomials:
        square = y * y
        size = sum(abs(c) * square**j for j, c in enumerate(row)) * np.abs(y)
        slope = sum((2 * j + 1) * c * square**j for j, c in enumerate(row))
        total = np.abs(slope) * total + size
        y = y * np.polynomial.polynomial.polyval(square, row)
    return 2 * total, 3 * (len(polynomials[0]) - 1) + 2


def _kim_oh_polynomial(M: Array, p: Precision) -> Iterator[tuple[str, Ratio]]:
    """Both are rationals rounded once, so they must be the same numbers."""
    for k in KIM_OH_DEGREES:
        same = torch_impl.polar.kim_oh_polynomial(k) == reference.polar.kim_oh_polynomial(k)
        yield f"k={k}", yes_no("correctly rounded coefficients", same)


def _polar_express_coefficients(M: Array, p: Precision) -> Iterator[tuple[str, Ratio]]:
    """Coefficients are ill-conditioned near 1, values are not: compare compositions between lower and upper.

    Each twin solves for its coefficients with residuals like those of evaluating them, and its exchange stops
    within eight roundoffs of 1; so each is charged three times the budget of an evaluation.
    """
    for lower, degree in product(LOWER_ENDS, (3, 5)):
        twins = [
            module.polar_express_coefficients(lower, degree=degree)
            for module in (torch_impl.polar, reference.polar)
        ]
        x = np.geomspace(lower, 1.0, 33)
        for steps in (1, len(twins[0])):
            y = [reference.polar.scalar_map(x, rows[:steps]) for rows in twins]
            terms, operations = _absolute_terms(x, twins[1][:steps])
            yield (
                f"lower={lower:g}, degree={degree}, steps={steps}",
                recursion(y[0], y[1], 6 * terms, operations=operations, u=DOUBLE),
            )


TWINS = (
    Twin("polar.polar_factor", _polar_factor, scaled=False),
    Twin("polar.nuclear_norm", _nuclear_norm, scaled=False),
    Twin("polar.spectral_lmo", _spectral_lmo, scaled=False),
    Twin("polar.newton_schulz", _newton_schulz, dtypes=("float64", "float32", "bfloat16"), scaled=False),
    Twin("polar.orthogonalize", _orthogonalize),
    Twin("polar.scalar_map", _scalar_map),
    Twin("polar.kim_oh_polynomial", _kim_oh_polynomial, dtypes=("float64",), matrices=False),
    Twin(
        "polar.polar_express_coefficients", _polar_express_coefficients, dtypes=("float64",), matrices=False
    ),
)
