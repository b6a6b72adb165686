"""Certificates for ranges of compositions of odd polynomials: boxes on each of which a simple test decides.

The boxes are found with FLINT and stored as depths; `proofs_checks/certificate_checker.py` runs the same
three tests on them in its own arithmetic.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from flint import arb, ctx, fmpq
from numpy.typing import NDArray

from proofs_checks.certified.balls import PRECISION, at_precision, ball
from proofs_checks.certified.compositions import Interval, image
from proofs_checks.certified.compositions import Step as Map
from proofs_checks.symbolic.exact import rational
from reference.polar import POLAR_EXPRESS

__all__ = ["ranges", "subdivision"]

Array = NDArray[np.float64]

#: Coefficients of a step: of x, x^3, x^5.
Step = tuple[fmpq, fmpq, fmpq]

#: Jordan's quintic in decimals.
JORDAN: Step = (rational("3.4445"), rational("-4.7750"), rational("2.0315"))

#: Points at which the ends of a range are looked for; near enough to come within a thousandth of its width.
_GRID = 200_000

#: Decimals of intermediate intervals.
_DIGITS = 11

#: More boxes than this are no certificate that anybody would store.
_MOST_BOXES = 20_000


def ranges() -> list[dict[str, Any]]:
    """The certificates: five steps of the Jordan quintic, five and six of Polar Express."""
    express = [tuple(fmpq(*x.as_integer_ratio()) for x in row) for row in POLAR_EXPRESS]
    return [
        _value("JORDAN-range value 1/100 1 0.68183 1.13436", [JORDAN] * 5),
        _value("JORDAN-range value 1/1000 1 0.4705 1.2024", [JORDAN] * 5),
        _slope("JORDAN-slope slope 0 1 -160 484.8764", [JORDAN] * 5),
        _value("SCHED-polar-express-5 value 1/1000 1 0.8764409 1.1235591", express[:5]),
        _value("SCHED-polar-express-6 value 1/1000 1 0.998815 1.001185", express[:6]),
    ]


@at_precision(PRECISION)
def subdivision(
    steps: Sequence[Step], lower: fmpq, upper: fmpq, *, least: fmpq, most: fmpq, slope: bool
) -> list[int]:
    """Depths of boxes that fill an interval from left to right; a box of depth d is ``2^-d`` of it wide.

    On each box the range is shown by the value on the whole box, by the mean-value form, or by the two ends
    where the change has one sign.

    Parameters
    ----------
    steps : sequence of three fmpq
        Coefficients of x, x^3, x^5.
    lower, upper, least, most : fmpq
        The interval, and the range.
    slope : bool
        Whether the range is that of the slope, not of the value.

    Raises
    ------
    ArithmeticError
        If the range is left at some point, or too many boxes are needed.
    """
    depths: list[int] = []
    stack = [(lower, upper, 0)]
    while stack:
        a, b, depth = stack.pop()
        middle = (a + b) / 2
        at_middle = _jet(steps, arb(middle))[slope]
        if at_middle < arb(least) or at_middle > arb(most) or len(depths) > _MOST_BOXES:
            raise ArithmeticError(f"no certificate: the value at {middle} is {at_middle}")
        if _shown(steps, a, b, at_middle, arb(least), arb(most), slope):
            depths.append(depth)
        else:
            stack += [(middle, b, depth + 1), (a, middle, depth + 1)]
    return depths


def _shown(
    steps: Sequence[Step], a: fmpq, b: fmpq, at_middle: arb, least: arb, most: arb, slope: bool
) -> bool:
    box = ball(a, b)
    value, change = _jet(steps, box)[slope : slope + 2]

    def inside(x: arb) -> bool:
        return bool(x >= least and x <= most)

    if inside(value) or inside(at_middle + change * (box - arb((a + b) / 2))):
        return True
    monotone = bool(change >= 0 or change <= 0)
    return monotone and all(inside(_jet(steps, arb(x))[slope]) for x in (a, b))


def _jet(steps: Sequence[Step], x: arb) -> tuple[arb, arb, arb]:
    """Value, slope and second derivative of the composition on a ball."""
    slope, bend = arb(1), arb(0)
    for a, b, c in steps:
        z = x * x
        first, second = a + z * (3 * b + 5 * c * z), x * (6 * b + 20 * c * z)
        x, slope, bend = x * (a + z * (b + c * z)), first * slope, second * slope * slope + first * bend
    return x, slope, bend


def _value(statement: str, steps: Sequence[Any]) -> dict[str, Any]:
    """Step by step: each interval is an image of the one before it, a little widened."""
    lower, upper, least, most = (rational(text) for text in statement.split()[2:])
    widened = [(lower, upper)]
    with ctx.workprec(PRECISION):
        for step in steps[:-1]:
            low, high = widened[-1]
            widened.append(_widened(image(Map.of(step), (arb(low), arb(high)))))
    widened.append((least, most))
    boxes = [
        subdivision([step], *start, least=end[0], most=end[1], slope=False)
        for step, start, end in zip(steps, widened[:-1], widened[1:], strict=True)
    ]
    return _record(statement, steps, [[str(x) for x in ends] for ends in widened[1:-1]], boxes)


def _slope(statement: str, steps: Sequence[Any]) -> dict[str, Any]:
    lower, upper, least, most = (rational(text) for text in statement.split()[2:])
    return _record(
        statement, steps, [], [subdivision(steps, lower, upper, least=least, most=most, slope=True)]
    )


def _record(statement: str, steps: Sequence[Step], through: Any, boxes: list[list[int]]) -> dict[str, Any]:
    claim, quantity, *bounds = statement.split()
    lower, upper = (rational(text) for text in bounds[:2])
    values = _float_values(steps, lower, upper, quantity == "slope")
    reached = [lower + (upper - lower) * fmpq(int(k), _GRID) for k in (values.argmin(), values.argmax())]
    return {
        "id": statement,
        "claim": claim,
        "kind": "range",
        "statement": statement,
        "images": through,
        "boxes": boxes,
        "attained": [str(x) for x in reached],
    }


def _widened(interval: Interval) -> tuple[fmpq, fmpq]:
    """Outward to `_DIGITS` decimals, and one unit more, so that the image lies inside."""
    unit = 10**_DIGITS
    low, high = (interval[0] * unit).floor(), (interval[1] * unit).ceil()
    return fmpq(low.lower().floor().unique_fmpz() - 1, unit), fmpq(
        high.upper().ceil().unique_fmpz() + 1, unit
    )


def _float_values(steps: Sequence[Step], lower: fmpq, upper: fmpq, slope: bool) -> Array:
    """Value or slope on the grid in float64, only to find where it is extreme."""
    x = float(arb(lower)) + np.linspace(0.0, 1.0, _GRID + 1) * float(arb(upper - lower))
    change = np.ones_like(x)
    for step in steps:
        a, b, c = (float(arb(v)) for v in step)
        z = x * x
        x, change = x * (a + z * (b + c * z)), change * (a + z * (3 * b + 5 * c * z))
    return change if slope else x
