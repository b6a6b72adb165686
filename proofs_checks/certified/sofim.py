"""SOFIM in machine arithmetic and near its stability limit.

A float is a rational, so the error of a computed step is itself a rational and is decided without rounding.
The budgets are Higham's ``g_k = k u/(1 - k u)`` with the operations counted along the formula.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import sympy
from flint import arb, fmpq

from proofs_checks.certified.balls import at_precision
from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import Ratio, unit_roundoff, yes_no
from proofs_checks.symbolic.proof import scalar_identity

__all__ = ["bounded_cycle", "cancellation", "linear_stability", "minus_one_refuted", "other_forms"]

Vector = Any  # a one-dimensional NumPy array of that dtype

#: A power of two: ``1/rho`` and ``rho^2`` are exact in every format and only the cancellation is seen.
RHO = 0.5

#: Directions with coordinates of mixed size, none exact in binary: 4 vectors of dimension 3.
DIRECTIONS = ((0.1, 0.2, 0.3), (1 / 3, -0.7, 0.9), (0.6, 0.61, -0.62), (1 / 7, 3 / 7, 0.01))


def equation_6(M: Vector) -> Vector:
    """``M/rho - M nu/(rho^2 (1 + nu/rho))``, vector by vector, in the dtype of `M`."""
    rho, nu = M.dtype.type(RHO), _square(M)
    return M / rho - (M * nu) / ((rho * rho) * (M.dtype.type(1) + nu / rho))


def scalar_bracket(M: Vector) -> Vector:
    """The same with the bracket evaluated as a scalar first."""
    rho, nu, one = M.dtype.type(RHO), _square(M), M.dtype.type(1)
    return M * (one / rho - nu / ((rho * rho) * (one + nu / rho)))


def closed_form(M: Vector) -> Vector:
    """``M/(rho + nu)``."""
    return M / (M.dtype.type(RHO) + _square(M))


def _square(M: Vector) -> Any:
    """``M^T M`` added up from the left in the dtype of `M`."""
    total = M.dtype.type(0)
    for v in M:
        total = total + v * v
    return total


def _exact(v: Any) -> fmpq:
    numerator, denominator = float(v).as_integer_ratio()
    return fmpq(numerator, denominator)


def relative_error(step: Callable[[Vector], Vector], M: Vector) -> tuple[fmpq, fmpq]:
    """Largest relative error over the coordinates of `step`, and ``s = nu/rho``, both as rationals."""
    entries, rho = [_exact(v) for v in M], _exact(np.float64(RHO))
    nu = sum((v * v for v in entries), fmpq(0))
    computed = [_exact(v) for v in step(M)]
    errors = [abs(c * (rho + nu) / v - 1) for c, v in zip(computed, entries, strict=True)]
    return max(errors), nu / rho


def _vectors(dtype: type[Any], decades: range) -> list[Vector]:
    """Every direction at squared norms of about ``10^k``."""
    return [(np.array(d) * 10.0 ** (k / 2)).astype(dtype) for d in DIRECTIONS for k in decades]


def _gamma(k: int, u: fmpq) -> fmpq:
    return k * u / (1 - k * u)


#: Rounded operations on the way to one coordinate, d = 3. Closed form: d for nu (a product and the sums above
#: it), one sum, one division. Equation 6: the second term has M nu (d + 1), 1 + nu/rho (d + 2), the products
#: with rho^2 (2) and one division, 2d + 6; the first term and the subtraction add one each.
CLOSED_OPERATIONS, TWO_TERM_OPERATIONS = 3 + 2, 2 * 3 + 8

#: Decades of the squared norm per dtype: from well below 1 to past 1/u.
DECADES: dict[type[Any], range] = {np.float64: range(-6, 20, 2), np.float32: range(-4, 11)}


@evidence(faults=("closed-form-for-equation-6", "budget-without-s"), scope="region")
def cancellation(*, fault: str | None = None) -> Finding:
    """Equation 6 loses accuracy like ``u (1 + s)``, totally at ``s = 1/u``; the closed form stays at ``u``.

    The two terms are ``1/rho`` and ``s/(rho (1+s))``; their sum over their difference is ``1 + 2 s``.
    Executed in float64 and float32 at 4 directions over the decades, errors exact. Total loss: some step
    beyond ``s = 1/u`` is off by more than itself.
    """
    rho, s = sympy.symbols("rho s", positive=True)
    first, second = 1 / rho, s / (rho * (1 + s))
    ratios = [scalar_identity("magnification", (first + second) / (first - second), 1 + 2 * s)]
    two_term = closed_form if fault == "closed-form-for-equation-6" else equation_6
    tightest = 0.0
    for dtype, decades in DECADES.items():
        u = _exact(np.float64(unit_roundoff(dtype)))
        worst_two, worst_closed, lost = fmpq(0), fmpq(0), fmpq(0)
        for M in _vectors(dtype, decades):
            error, size = relative_error(two_term, M)
            magnified = fmpq(1) if fault == "budget-without-s" else 1 + size
            worst_two = max(worst_two, error / (_gamma(TWO_TERM_OPERATIONS, u) * magnified))
            worst_closed = max(worst_closed, relative_error(closed_form, M)[0] / _gamma(CLOSED_OPERATIONS, u))
            if size > 1 / u:
                lost = max(lost, error)
        ratios += [
            Ratio(f"equation 6 over g (1 + s), {dtype.__name__}", _float(worst_two), 1.0),
            Ratio(f"closed form over g, {dtype.__name__}", _float(worst_closed), 1.0),
            yes_no(f"beyond s = 1/u the step is lost, {dtype.__name__}", lost > 1),
        ]
        tightest = max(tightest, _float(worst_two))
    return Finding(
        tuple(ratios),
        f"float64 and float32, {len(DIRECTIONS)} directions: equation 6 within g_14 (1+s), at most "
        f"{tightest:.3f} of it, lost beyond s = 1/u; closed form within g_5",
        tightness=int(tightest * 1000) / 1000,
    )


def _float(value: fmpq) -> float:
    return int(value.p) / int(value.q)


@evidence(faults=("closed-form-for-equation-6", "small-gradient"), refutes=True)
def minus_one_refuted(*, fault: str | None = None) -> Finding:
    """The claim "stable unless ``M^T M/rho -> -1``" is false: the ratio is never negative, yet the step is
    lost.

    ``rho = 1/2``, ``M = (1e9/3)`` in float64: ``M^T M/rho`` is about 2e17, as far from -1 as can be, and
    equation 6 is off by more than its own size. Every operation is IEEE arithmetic and the error is a
    rational.
    """
    step = closed_form if fault == "closed-form-for-equation-6" else equation_6
    M = np.array([1.1e-3 if fault == "small-gradient" else 1.1e8])
    error, s = relative_error(step, M)
    return Finding(
        (
            yes_no("M^T M/rho is not negative", s >= 0),
            yes_no("the step is off by more than itself", error > 1),
        ),
        f"s = {_float(s):.3g}, relative error {_float(error):.3g}",
        counterexample={
            "dtype": "float64",
            "rho": "1/2",
            "M": float(M[0]).hex(),
            "computed step": float(step(M)[0]).hex(),
            "exact step": f"{_float(_exact(M[0]) / (fmpq(1, 2) * (1 + s))):.17g}",
        },
    )


@evidence(faults=("closed-form-for-bracket", "float32-for-float16"), scope="region")
def other_forms(*, fault: str | None = None) -> Finding:
    """The scalar bracket cancels like equation 6 and gives an exact zero above ``1/u``; float16 overflows at
    256.

    Bracket: ``1 + nu/rho`` rounds to ``nu/rho`` beyond ``1/u``, so both terms are ``1/rho``. float16:
    ``256^2`` exceeds 65504; equation 6 then is ``inf/inf``, not a number, and the closed form divides by
    infinity.
    """
    bracket = closed_form if fault == "closed-form-for-bracket" else scalar_bracket
    u = _exact(np.float64(unit_roundoff(np.float64)))
    worst, zeros, beyond = fmpq(0), [], 4 / u
    for M in _vectors(np.float64, DECADES[np.float64]):
        error, size = relative_error(bracket, M)
        worst = max(worst, error / (_gamma(TWO_TERM_OPERATIONS, u) * (1 + size)))
        if size > beyond:
            zeros.append(bool(np.all(bracket(M) == 0)))
    half = np.float32 if fault == "float32-for-float16" else np.float16
    with np.errstate(over="ignore", invalid="ignore"):
        over, under = np.array([257.0], dtype=half), np.array([255.0], dtype=half)
        ratios = (
            Ratio("bracket over g (1 + s)", _float(worst), 1.0),
            yes_no("bracket is exactly zero above 4/u", bool(zeros) and all(zeros)),
            yes_no("float16: equation 6 is not a number at 257", bool(np.isnan(equation_6(over))[0])),
            yes_no("float16: closed form is zero at 257", closed_form(over)[0] == 0),
            yes_no(
                "float16: finite at 255",
                bool(np.isfinite(closed_form(under))[0] and closed_form(under)[0] != 0),
            ),
        )
    return Finding(
        ratios,
        f"bracket: at most {_float(worst):.3f} of g_14 (1+s), exactly zero in {len(zeros)} of {len(zeros)} "
        "steps above 4/u; float16 gives NaN and 0 at |M| = 257",
    )


@evidence(faults=("threshold-without-beta", "wrong-jury-condition"), scope="region")
@at_precision(4096)
def linear_stability(*, fault: str | None = None) -> Finding:
    """On ``L x^2/2`` the iteration is stable near 0 iff ``eta < 2 (1+beta)/(1-beta) rho/L``; a bounded cycle
    above.

    Linear part ``[1 - a, -eta beta/rho; (1-beta) L, beta]`` with ``a = eta L (1-beta)/rho`` and
    characteristic polynomial ``z^2 - (1+beta-a) z + beta``. Jury: stable iff it is positive at 1 (``a > 0``)
    and at -1 (``2 (1+beta) - a > 0``) and ``beta < 1``. Above, ``x, -x, x, ...`` with momentum ``-+y``
    solves the full recursion with ``y^2`` equal to ``rho (eta/eta_c - 1)``. In balls, ``L = 3``,
    ``rho = 1/2``: 2 % below the threshold the start 1/100 decays, 2 % above it grows.
    """
    eta, L, rho, beta, z = sympy.symbols("eta L rho beta z", positive=True)
    a = eta * L * (1 - beta) / rho
    linear = sympy.Matrix([[1 - a, -eta * beta / rho], [(1 - beta) * L, beta]])
    polynomial = (z * sympy.eye(2) - linear).det()
    threshold = 2 * (1 if fault == "threshold-without-beta" else 1 + beta) / (1 - beta) * rho / L
    at_minus_one = 2 * (1 - beta) - a if fault == "wrong-jury-condition" else 2 * (1 + beta) - a
    x = sympy.Symbol("x")
    square = rho * (eta / threshold - 1)  # y^2
    y = (1 - beta) * L * x / (1 + beta)  # momentum of the alternating sequence, up to sign
    step = eta * y / (rho + square)
    start = arb(fmpq(1, 100))
    decays = all(bool(_late(_run(b, fmpq(98, 100))) < start) for b in BETAS)
    grows = all(bool(_late(_run(b, fmpq(102, 100))) > start) for b in BETAS)
    return Finding(
        (
            scalar_identity("characteristic polynomial", polynomial, z**2 - (1 + beta - a) * z + beta),
            scalar_identity("at 1", polynomial.subs(z, 1), a),
            scalar_identity("at -1", polynomial.subs(z, -1), at_minus_one),
            scalar_identity("threshold", at_minus_one.subs(eta, threshold)),
            scalar_identity("the two-cycle's momentum", -beta * y + (1 - beta) * L * x, y),
            scalar_identity("the two-cycle's step", x - step, -x),
            yes_no("2 % below: decays for beta = 0, 1/2, 9/10", decays),
            yes_no("2 % above: grows for beta = 0, 1/2, 9/10", grows),
        ),
        "Jury's condition is exactly eta < 2(1+beta)/(1-beta) rho/L; above it a two-cycle with momentum "
        "squared rho (eta/eta_c - 1) exists; both sides shown in balls for beta = 0, 1/2, 9/10. Trusted: "
        "Jury's criterion",
    )


def _run(beta: fmpq, factor: fmpq, *, steps: int = 300) -> list[tuple[arb, arb]]:
    """``(|x_t|, step length over its cap eta/(2 sqrt(rho)))`` from ``x_0 = 1/100`` at `factor` thresholds."""
    L, rho = fmpq(3), fmpq(1, 2)
    eta = factor * 2 * (1 + beta) / (1 - beta) * rho / L
    cap = arb(eta) / (2 * arb(rho).sqrt())
    x, M, power, path = arb(fmpq(1, 100)), arb(0), arb(1), []
    for _ in range(steps):
        power = power * beta
        M = beta * M + (1 - beta) * L * x
        debiased = M / (1 - power)
        step = eta * debiased / (rho + debiased * debiased)
        x = x - step
        path.append((abs(x), abs(step) / cap))
    return path


#: The momentum weights at which both sides of the threshold are run.
BETAS = (fmpq(0), fmpq(1, 2), fmpq(9, 10))


def _late(path: list[tuple[arb, arb]]) -> arb:
    """The largest distance from 0 over the last twenty steps."""
    largest = arb(0)
    for distance, _ in path[-20:]:
        largest = largest.max(distance)
    return largest


@evidence(faults=("below-the-threshold", "cap-halved"), scope="region")
@at_precision(4096)
def bounded_cycle(*, fault: str | None = None) -> Finding:
    """Above the stability threshold convergence is lost, but nothing overflows: every step is below its cap.

    By the step bound ``|x_T| <= |x_0| + T eta/(2 sqrt(rho))`` on any problem. Runs in balls on ``3 x^2/2``,
    ``rho = 1/2``, at 1.02 and 1.5 thresholds for beta = 0, 1/2, 9/10: no convergence, each step at most its
    cap.
    """
    factors = (fmpq(98, 100),) if fault == "below-the-threshold" else (fmpq(102, 100), fmpq(3, 2))
    cap = fmpq(1, 2) if fault == "cap-halved" else fmpq(1)
    stays, largest = [], 0.0
    for beta in BETAS:
        for factor in factors:
            path = _run(beta, factor)
            stays.append(
                bool(_late(path) > arb(fmpq(1, 100))) and all(bool(step <= arb(cap)) for _, step in path)
            )
            largest = max(largest, max(float(step.lower()) for _, step in path))
    return Finding(
        (yes_no(f"bounded steps and no convergence on {len(stays)} runs", all(stays)),),
        f"{len(stays)} runs of 300 steps above the threshold: none converges, longest step {largest:.4f} of "
        "its cap",
        tightness=int(largest * 10**4) / 10**4,
    )
