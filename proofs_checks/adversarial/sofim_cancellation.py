"""SOFIM-cancellation, -other-forms, -minus-one: what equation 6 loses in floating point, and when."""

from collections.abc import Callable

import numpy as np
from flint import arb, ctx
from numpy.typing import NDArray

from proofs_checks.adversarial.precision import rounded
from proofs_checks.adversarial.verdicts import at_least, at_most, tightest, vanishing
from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import Ratio, unit_roundoff, yes_no
from reference.sofim import bracket_direction, direction, two_term_direction

__all__ = ["cancellation_law", "not_only_near_minus_one", "other_forms"]

Array = NDArray[np.float64]
Form = Callable[[Array, float, str], Array]

#: Formats of the study; float64 runs the library's own functions, the others are emulated.
_DTYPES = ("float64", "float32", "bfloat16")

#: Regularisation of the claim, dimension, and random directions per value of ``s = |m|^2 / rho``.
_RHO, _DIMENSION, _DRAWS = 0.5, 96, 9

_RATIOS = 10.0 ** np.array([-12, -6, -3, 0, 1, 2, 3, 4, 6, 8, 10, 12])

#: Roundings of equation 6: six in the second term, one in the first (each relative to a term of size
#: ``(1 + s) |x|``), two more, in nu and in the difference, relative to the result.
_LARGE_ROUNDINGS, _SMALL_ROUNDINGS = 7, 2

#: The least share of ``u (1 + s)`` that the median draw must lose from s = 10 on, for the law to be a law.
_SHARE = 1 / 8

#: Bits of the exact arithmetic: 53-bit inputs squared and summed, cancellation up to 1e12 and room.
_BITS = 300


@evidence(faults=("closed-form-in-place", "law-without-s"), scope="region")
def cancellation_law(*, fault: str | None = None) -> Finding:
    """Equation 6 loses ``u (1 + s)``, ``s = |m|^2 / rho``, in every format; the closed form about u.

    Both sides of the law: the worst draw stays below ``(7 (1 + s) + 2) u`` (and the rounding of the sum in
    float64), the median draw loses at least an eighth of ``u (1 + s)`` from s = 10 on.
    Faults: the closed form is measured in its place; the upper law forgets s.
    """
    equation = _closed if fault == "closed-form-in-place" else _two_term
    ratios: list[Ratio] = []
    figures: dict[str, float] = {}
    for dtype in _DTYPES:
        u = unit_roundoff(dtype)
        two, closed = _errors(equation, dtype), _errors(_closed, dtype)
        slack = _sum_rounding(dtype)
        growth = np.ones_like(_RATIOS) if fault == "law-without-s" else 1 + _RATIOS
        law = ((_LARGE_ROUNDINGS * growth + _SMALL_ROUNDINGS) * u + slack) * (1 + 8 * u)
        ratios.append(at_most(f"error of equation 6, {dtype}", two.max(axis=1), law, rounding=0.0))
        lost = _RATIOS > 1
        median = np.median(two, axis=1)[lost]
        ratios.append(
            at_least(f"loss of equation 6, {dtype}", median, _SHARE * u * (1 + _RATIOS[lost]), rounding=0.0)
        )
        closed_law = ((1 + _SMALL_ROUNDINGS) * u + slack) * (1 + 8 * u)
        ratios.append(
            at_most(f"error of the closed form, {dtype}", closed.max(axis=1), closed_law, rounding=0.0)
        )
        figures[f"slope, {dtype}"] = float(np.polyfit(np.log(1 + _RATIOS[lost]), np.log(median), 1)[0])
        figures[f"level, {dtype}"] = float(np.median(median / (u * (1 + _RATIOS[lost]))))
        figures[f"closed, {dtype}"] = float(closed.max() / u)
    tightness = tightest(ratio for ratio in ratios if ratio.name.startswith("error of equation 6"))
    return Finding(
        tuple(ratios),
        f"{_DRAWS} draws at {len(_RATIOS)} ratios s up to 1e12: "
        + "; ".join(
            f"{dtype} slope {figures[f'slope, {dtype}']:.3f}, level {figures[f'level, {dtype}']:.2f} u (1 "
            f"+ s), closed form at most {figures[f'closed, {dtype}']:.1f} u"
            for dtype in _DTYPES
        ),
        figures=figures,
        tightness=tightness,
    )


@evidence(faults=("closed-form-in-place", "wide-accumulator"), scope="region")
def other_forms(*, fault: str | None = None) -> Finding:
    """The scalar bracket is no cure: same loss, exactly zero above s = 1/u; float16 overflows at 256.

    Exactly zero needs a rho that is a power of two, as 1/2 is; for others a few units of roundoff of 1/rho
    remain. At ``|m| = 256`` in float16, nu overflows: equation 6 gives NaN everywhere, the closed form a
    zero step.
    Faults: the closed form is measured in place of the bracket; nu is accumulated in float64 and kept there.
    """
    bracket = _closed if fault == "closed-form-in-place" else _bracket
    ratios: list[Ratio] = []
    levels = {}
    for dtype in _DTYPES:
        u = unit_roundoff(dtype)
        errors = _errors(bracket, dtype)
        law = ((_LARGE_ROUNDINGS * (1 + _RATIOS) + _SMALL_ROUNDINGS) * u + _sum_rounding(dtype)) * (1 + 8 * u)
        ratios.append(at_most(f"error of the bracket, {dtype}", errors.max(axis=1), law, rounding=0.0))
        lossy = (_RATIOS > 1) & (u * _RATIOS < 1)
        mean = errors[lossy].mean()
        levels[dtype] = float(np.mean(errors[lossy] / (u * (1 + _RATIOS[lossy, None]))))
        ratios.append(at_least(f"mean loss of the bracket, {dtype}", levels[dtype], _SHARE, rounding=0.0))
        m = _momenta(np.array([4 / u, 64 / u, 1e3 / u]), dtype)
        step = bracket(m.reshape(-1, _DIMENSION), _RHO, dtype)
        ratios.append(vanishing(f"bracket above 1/u, {dtype}", step, rounding=0.0))
        levels[dtype + " error"] = float(mean)
    m = np.full((1, 64), 32.0)  # |m| = 256, nu = 65536, above the largest float16
    dtype = "float64" if fault == "wide-accumulator" else "float16"
    ratios += [
        yes_no("equation 6 in float16 at |m| = 256 is NaN", bool(np.isnan(_two_term(m, _RHO, dtype)).all())),
        yes_no("the closed form there is a zero step", bool((_closed(m, _RHO, dtype) == 0).all())),
    ]
    return Finding(
        tuple(ratios),
        "scalar bracket: mean loss "
        + ", ".join(f"{levels[dtype]:.2f} u (1 + s) in {dtype}" for dtype in _DTYPES)
        + f", exactly zero at s = 4/u and beyond (rho = {_RHO}); float16 at |m| = 256: equation 6 NaN, "
        "closed form 0",
        figures=levels,
    )


@evidence(faults=("closed-form-in-place",), scope="region", refutes=True)
def not_only_near_minus_one(*, fault: str | None = None) -> Finding:
    """Refutes "Sherman-Morrison is stable unless ``M^T M / rho`` tends to -1": it fails far from there.

    For rho > 0 the ratio is never negative; at ``s = 2^54`` equation 6 in float64 has lost every digit.
    Fault: the closed form is measured in its place, which is accurate there.
    """
    m, rho = np.array([2.0**27, 1 / 3, -2.0 / 7]), 1.0
    x = direction(m, rho=rho) if fault == "closed-form-in-place" else two_term_direction(m, rho=rho)
    s = float(m @ m) / rho
    error = float(_relative_errors(x[None], m[None], rho)[0])
    sweep = _errors(
        _closed if fault == "closed-form-in-place" else _two_term, "float64", s=np.geomspace(1e17, 1e24, 8)
    )
    return Finding(
        (
            at_least("relative error of equation 6 at the instance", error, 1.0, rounding=0.0),
            at_least(
                "median relative error for s from 1e17 to 1e24", np.median(sweep, axis=1), 1.0, rounding=0.0
            ),
            at_least("distance of s from -1", s + 1, 1.0, rounding=0.0),
        ),
        f"s = {s:.3g}, far from -1: relative error {error:.3g}; medians for s = 1e17 to 1e24 at least "
        f"{np.median(sweep, axis=1).min():.3g}",
        figures={"s": s, "error": error},
        counterexample={
            "M_hat": [float(value).hex() for value in m],
            "rho": float(rho).hex(),
            "equation 6 in float64": [float(value).hex() for value in x],
            "exact": "M_hat / (rho + |M_hat|^2)",
        },
    )


def _two_term(m: Array, rho: float, dtype: str) -> Array:
    """Equation 6, vector by vector; one rounding per operation, nu rounded once."""
    if dtype == "float64":
        return two_term_direction(m, rho=rho)
    nu, scale = _nu(m, dtype), _denominator(m, rho, dtype)
    with np.errstate(all="ignore"):
        second = rounded(rounded(m * nu, dtype) / scale, dtype)
        return rounded(rounded(m / rho, dtype) - second, dtype)


def _bracket(m: Array, rho: float, dtype: str) -> Array:
    """The scalar bracket first."""
    if dtype == "float64":
        return bracket_direction(m, rho=rho)
    nu, scale = _nu(m, dtype), _denominator(m, rho, dtype)
    with np.errstate(all="ignore"):
        bracket = rounded(rounded(np.array(1 / rho), dtype) - rounded(nu / scale, dtype), dtype)
        return rounded(m * bracket, dtype)


def _closed(m: Array, rho: float, dtype: str) -> Array:
    """``m / (rho + nu)``."""
    if dtype == "float64":
        return direction(m, rho=rho)
    with np.errstate(all="ignore"):
        return rounded(m / rounded(rho + _nu(m, dtype), dtype), dtype)


def _nu(m: Array, dtype: str) -> Array:
    """``|m|^2``, accumulated in float64 and rounded once: the losses found are not the summation's."""
    return rounded(np.square(m).sum(axis=-1, keepdims=True), dtype)


def _denominator(m: Array, rho: float, dtype: str) -> Array:
    """``rho^2 (1 + nu / rho)``."""
    square = rounded(np.array(rho * rho), dtype)
    with np.errstate(all="ignore"):
        return rounded(square * rounded(1 + rounded(_nu(m, dtype) / rho, dtype), dtype), dtype)


def _sum_rounding(dtype: str) -> float:
    """Relative error of nu beyond one rounding of the format: the float64 sum of `_DIMENSION` squares."""
    return (_DIMENSION + 1) * unit_roundoff("float64") if dtype == "float64" else 0.0


def _momenta(s: Array, dtype: str) -> Array:
    """Random momenta ``(len(s), _DRAWS, _DIMENSION)`` of the format with about the given ``|m|^2 / rho``."""
    rng = np.random.default_rng(20240625)
    m = rng.standard_normal((len(s), _DRAWS, _DIMENSION))
    m *= np.sqrt(s * _RHO)[:, None, None] / np.linalg.norm(m, axis=-1, keepdims=True)
    return rounded(m, dtype)


def _errors(form: Form, dtype: str, *, s: Array = _RATIOS) -> Array:
    """Relative errors ``(len(s), _DRAWS)`` of a form against the exact direction of its rounded input."""
    m = _momenta(s, dtype).reshape(-1, _DIMENSION)
    return _relative_errors(form(m, _RHO, dtype), m, _RHO).reshape(len(s), _DRAWS)


def _relative_errors(x: Array, m: Array, rho: float) -> Array:
    """Relative 2-norm errors of computed directions ``(R, d)``, in ball arithmetic."""
    before, ctx.prec = ctx.prec, _BITS
    try:
        return np.array([_relative_error(*row, rho) for row in zip(x.tolist(), m.tolist(), strict=True)])
    finally:
        ctx.prec = before


def _relative_error(x: list[float], m: list[float], rho: float) -> float:
    exact = [arb(value) for value in m]
    nu = sum((value * value for value in exact), arb(0))
    scale = 1 / (arb(rho) + nu)
    error = sum(((arb(got) - value * scale) ** 2 for got, value in zip(x, exact, strict=True)), arb(0))
    return float((error / nu).sqrt() / scale)
