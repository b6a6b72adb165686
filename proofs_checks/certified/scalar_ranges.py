"""SOFIM-step-bound, KO-theorem2: ranges of scalar functions, certified to hold and to be attained."""

from dataclasses import replace
from functools import partial
from math import comb

from flint import arb, fmpq, fmpq_poly

from proofs_checks.certified.balls import PRECISION, Jet, at_precision, attained, enclose
from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import Ratio, yes_no

__all__ = ["residual_quotient", "sofim_step_length", "within"]

#: By how much, relatively, a claimed range may exceed the attained one.
NARROW = 1e-9

#: Values of rho, and how far beyond its maximiser ``sqrt(rho)`` the step length is followed.
_RHOS, _BEYOND = (fmpq(1, 10**8), fmpq(1, 10), fmpq(1, 2), fmpq(1), fmpq(20)), 1000

#: Degrees k of Kim and Oh's polynomials.
_DEGREES = (1, 2, 3, 4, 6)


def within(
    name: str, f: Jet, lower: fmpq, upper: fmpq, *, least: arb, most: arb
) -> tuple[tuple[Ratio, Ratio], int]:
    """Containment and narrowness of a claimed range as two decisions, and the boxes it took.

    Parameters
    ----------
    name : str
        Of the decisions.
    f : callable
        Value and slope on a ball.
    lower, upper : fmpq
        The interval.
    least, most : arb
        The claimed range; it may exceed the attained one by `NARROW` of its width.
    """
    found = enclose(f, lower, upper, least=least, most=most)
    at_end = f(arb(upper))[0]
    reached = replace(found, lowest=found.lowest.min(at_end), highest=found.highest.max(at_end))
    missed = attained(reached, least=least, most=most) / float(most - least)
    holds = yes_no(f"{name}: inside", found.certified)
    return (holds, Ratio(f"{name}: share not attained", missed, NARROW)), found.boxes


def _step_length(x: arb, rho: fmpq) -> tuple[arb, arb]:
    """``x/(rho + x^2)`` and its slope."""
    total = arb(rho) + x * x
    return x / total, (arb(rho) - x * x) / (total * total)


@evidence(faults=("bound-too-low", "bound-too-high", "root-forgotten"), scope="region")
@at_precision(PRECISION)
def sofim_step_length(*, fault: str | None = None) -> Finding:
    """``|M|/(rho + |M|^2)`` stays below ``1/(2 sqrt(rho))`` and comes within 1e-9 of it.

    rho from 1e-8 to 20, ``|M|`` from 0 to a thousand times the maximiser ``sqrt(rho)``.
    Faults: a bound lower, or higher, by a millionth; ``1/(2 rho)``.
    """
    ratios: list[Ratio] = []
    count = 0
    for rho in _RHOS:
        root = arb(rho).sqrt()
        bound = 1 / (2 * (arb(rho) if fault == "root-forgotten" else root)) * (1 + arb(2) ** -40)
        if fault in ("bound-too-low", "bound-too-high"):
            bound = bound * (1 + fmpq(1 if fault == "bound-too-high" else -1, 10**6))
        jet = partial(_step_length, rho=rho)
        two, boxes = within(f"rho = {rho}", jet, fmpq(0), _BEYOND * _above(root), least=arb(0), most=bound)
        ratios += two
        count += boxes
    return Finding(
        tuple(ratios),
        f"rho from 1e-8 to 20, |M| up to {_BEYOND} sqrt(rho): step length over eta in [0, 1/(2 sqrt(rho))], "
        f"attained to 1e-9; {count} boxes",
        figures={"boxes": float(count)},
    )


def _above(x: arb) -> fmpq:
    """A rational above a positive number."""
    unit = 10**12
    return fmpq((x * unit).upper().ceil().unique_fmpz(), unit)


def _residual(k: int) -> fmpq_poly:
    """``phi(x) = 1 - (1-x) w(x)^2`` with ``w = sum_{i <= k} C(2i, i)/4^i x^i``."""
    w = fmpq_poly([fmpq(comb(2 * i, i), 4**i) for i in range(k + 1)])
    return fmpq_poly([1]) - fmpq_poly([1, -1]) * w * w


@evidence(faults=("exponent-k+2", "lower-end-raised"), scope="region")
@at_precision(PRECISION)
def residual_quotient(*, fault: str | None = None) -> Finding:
    """``phi(x)/x^(k+1)`` is a polynomial with range ``[phi_(k+1), 1]`` on [0, 1]: Lemma 3, with its gap.

    The division has no remainder; the lower end is attained at 0, the upper at 1, for k = 1, 2, 3, 4, 6.
    Faults: one power more; a lower end too high by a thousandth.
    """
    ratios: list[Ratio] = []
    lowest = {}
    for k in _DEGREES:
        power = k + (2 if fault == "exponent-k+2" else 1)
        quotient, remainder = divmod(_residual(k), fmpq_poly([0] * power + [1]))
        low = quotient[0] * (fmpq(1001, 1000) if fault == "lower-end-raised" else 1)
        slope = quotient.derivative()

        def jet(x: arb, p: fmpq_poly = quotient, d: fmpq_poly = slope) -> tuple[arb, arb]:
            return _at(p, x), _at(d, x)

        two, _ = within(f"k = {k}", jet, fmpq(0), fmpq(1), least=arb(low), most=arb(1))
        ratios += [yes_no(f"k = {k}: no remainder", remainder == fmpq_poly([])), *two]
        lowest[k] = quotient[0]
    return Finding(
        tuple(ratios),
        "phi(x)/x^(k+1) on [0, 1] runs from "
        + ", ".join(f"{q} (k = {k})" for k, q in lowest.items())
        + " to 1",
    )


def _at(p: fmpq_poly, x: arb) -> arb:
    total = arb(0)
    for i in range(p.degree(), -1, -1):
        total = total * x + arb(p[i])
    return total
