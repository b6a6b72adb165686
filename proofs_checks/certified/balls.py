"""Ranges of scalar functions in ball arithmetic, by branch and bound with the mean-value form.

A function here takes a ball and returns balls for its value and its slope. A box is done when its image is
certainly inside the claimed range: by the value alone, by the mean-value form
``f(mid) + f'(box) (box - mid)``, or by the two ends if the slope has one sign. Otherwise it is halved.
Midpoints give certified attained values, so the result says both that the range holds and how much of it is
reached.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TypeVar

from flint import arb, ctx, fmpq

__all__ = ["BOX_LIMIT", "PRECISION", "Enclosure", "at_precision", "attained", "ball", "enclose"]

#: Working precision in bits: the widest ball that decides a box is about 1e-6, so 96 bits leave ample room.
PRECISION = 96

#: More boxes than this and the claim counts as not certified; the proofs here need at most a tenth.
BOX_LIMIT = 200_000

Jet = Callable[[arb], tuple[arb, arb]]
Result = TypeVar("Result")


def at_precision(bits: int) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Run a function with ball arithmetic of `bits` bits, and leave the precision as it was."""

    def decorate(function: Callable[..., Result]) -> Callable[..., Result]:
        @wraps(function)
        def precise(*args: object, **kwargs: object) -> Result:
            with ctx.workprec(bits):
                return function(*args, **kwargs)

        return precise

    return decorate


@dataclass(frozen=True)
class Enclosure:
    """Outcome of `enclose`: whether it is certified, boxes used, and certified attained values."""

    certified: bool
    boxes: int
    lowest: arb
    highest: arb


def ball(lower: fmpq, upper: fmpq) -> arb:
    """The ball around the interval."""
    return arb(lower).union(arb(upper))


def enclose(f: Jet, lower: fmpq, upper: fmpq, *, least: arb, most: arb) -> Enclosure:
    """Certify ``least <= f <= most`` on ``[lower, upper]``.

    Parameters
    ----------
    f : callable
        Value and slope on a ball.
    lower, upper : fmpq
        The interval.
    least, most : arb
        The claimed range; exact, or balls whose every point is claimed.
    """
    lowest = highest = f(arb(lower))[0]
    stack, boxes = [(lower, upper)], 0
    while stack:
        a, b = stack.pop()
        boxes += 1
        middle = (a + b) / 2
        at_middle = f(arb(middle))[0]
        lowest, highest = _lower(lowest, at_middle), _higher(highest, at_middle)
        if not _inside(f, a, b, middle, at_middle, least, most):
            if boxes > BOX_LIMIT or at_middle < least or at_middle > most:
                return Enclosure(False, boxes, lowest, highest)
            stack += [(a, middle), (middle, b)]
    return Enclosure(True, boxes, lowest, highest)


def _inside(f: Jet, a: fmpq, b: fmpq, middle: fmpq, at_middle: arb, least: arb, most: arb) -> bool:
    box = ball(a, b)
    value, slope = f(box)
    if value >= least and value <= most:
        return True
    form = at_middle + slope * (box - arb(middle))
    if form >= least and form <= most:
        return True
    if slope > 0 or slope < 0:
        ends = f(arb(a))[0], f(arb(b))[0]
        return all(end >= least and end <= most for end in ends)
    return False


def _lower(a: arb, b: arb) -> arb:
    return b if b < a else a


def _higher(a: arb, b: arb) -> arb:
    return b if b > a else a


def attained(enclosure: Enclosure, *, least: arb, most: arb) -> float:
    """How far the attained values stay inside the claimed range, at worst: 0 for a range that is exact."""
    below, above = enclosure.lowest - least, most - enclosure.highest
    return max(float(below.upper()), float(above.upper()))
