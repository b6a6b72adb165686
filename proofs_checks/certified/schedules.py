"""The certificate of an orthogonalisation schedule: what it does to singular values, in ball arithmetic.

Coefficients and interval are taken as the float64 numbers that run, exactly. Images, signs and the lifted
singular value come from `compositions`, to working precision; the extreme slopes from branch and bound, to
a relative `SLOPE_WIDTH`. Every figure is a ball that contains the true value, and `narrow` says whether all
of them are small enough to mean something. Rounding in the iteration itself is not covered here.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from flint import arb, fmpq

from proofs_checks.certified.balls import PRECISION, at_precision, enclose
from proofs_checks.certified.compositions import (
    Interval,
    Step,
    images,
    largest_bounded,
    never_negative,
    slope_jet,
    smallest_lifted,
    value,
)
from proofs_checks.decision import Array
from reference.schedules import Schedule, with_steps

__all__ = ["DEEP", "HALF", "SLOPE_WIDTH", "ScheduleCertificate", "as_steps", "certify", "exact_interval"]

#: Bits for images: an iteration started at 1e-16 with weights of 1e32 still leaves 100 of them.
DEEP = 256

#: Relative width up to which the extreme slopes are enclosed, absolute below 1.
SLOPE_WIDTH = 2e-4

#: The level above which a singular value counts as lifted.
HALF = fmpq(1, 2)

#: Twice the length of an isometry: values beyond it are running away.
_BOUND = fmpq(2)

#: Relative width up to which a figure is narrow; images and lifted values are far below.
_NARROW = 2 * SLOPE_WIDTH

#: Points of a grid on which slopes and signs are searched, and rounds in which the search zooms in.
_POINTS, _ROUNDS = 3000, 4

#: Times that an extreme slope may turn out larger than the search found before the certificate gives up.
_CORRECTIONS = 100


@dataclass(frozen=True)
class ScheduleCertificate:
    """What is certain about a schedule on its interval.

    Attributes
    ----------
    schedule : Schedule
        What was certified.
    image, fewer, more : (arb, arb)
        Least and largest value on the interval, after all steps, one step fewer (the interval itself if
        there is one step) and one more (the last step again).
    slopes : (arb, arb) or None
        Least and largest slope on [0, u]; None if branch and bound did not end.
    never_negative : bool
        Whether every singular value in (0, u] stays positive, hence ``<M, X> > 0`` unless M = 0.
    reversed_at : fmpq or None
        A singular value in (0, u] that certainly becomes negative.
    level, lifted : fmpq, arb or None
        The least x such that all of [x, u] ends at `level` or above, if any.
    bounded : arb or None
        The largest x such that [0, x] ends within [-2, 2]: beyond it, rounding of the start can make the
        iteration run away. None if it is more than 4 u.
    """

    schedule: Schedule
    image: Interval
    fewer: Interval
    more: Interval
    slopes: tuple[arb, arb] | None
    never_negative: bool
    reversed_at: fmpq | None
    level: fmpq
    lifted: arb | None
    bounded: arb | None

    @property
    def distance(self) -> arb:
        """Largest distance from 1 on the interval: the spectral error against the polar factor."""
        least, most = self.image
        return (1 - least).max(most - 1)

    @property
    def narrow(self) -> bool:
        """Whether every figure is known to a relative 4e-4 (absolute below 1), and there are slopes."""
        balls = [*self.image, *self.fewer, *self.more, *(self.slopes or ())]
        known = all(b.rad() <= _NARROW * (1 + abs(b.mid())) for b in balls)
        edges = [edge for edge in (self.lifted, self.bounded) if edge is not None]
        return known and all(e.rad() <= _NARROW * e.mid() for e in edges) and self.slopes is not None


def certify(schedule: Schedule, *, level: fmpq = HALF) -> ScheduleCertificate:
    """Certify a schedule, a published one or one of your own.

    Parameters
    ----------
    schedule : Schedule
        At least one step.
    level : fmpq
        Above which a singular value counts as lifted.

    Raises
    ------
    ValueError
        If values or slopes leave the range of float64: the schedule diverges on its interval.
    """
    more = as_steps(with_steps(schedule, steps=schedule.steps + 1))
    steps = more[:-1]
    lower, upper = exact_interval(schedule)
    found = _images(schedule, more)
    positive, lifted, bounded = _edges(steps, upper, level)
    return ScheduleCertificate(
        schedule,
        image=found[-2],
        fewer=found[-3],
        more=found[-1],
        slopes=_slopes(steps, lower, upper),
        never_negative=positive,
        reversed_at=None if positive else _reversed(steps, upper),
        level=level,
        lifted=lifted,
        bounded=bounded,
    )


def as_steps(schedule: Schedule) -> list[Step]:
    """The maps of a schedule with their float64 coefficients taken exactly."""
    divisors: Sequence[float | None] = schedule.denominators or (None,) * schedule.steps
    return [Step.of(p, c) for p, c in zip(schedule.polynomials, divisors, strict=True)]


def exact_interval(schedule: Schedule) -> tuple[fmpq, fmpq]:
    """The ends of the interval as the rationals that their float64 numbers are."""
    lower, upper = (fmpq(*float(end).as_integer_ratio()) for end in schedule.interval)
    return lower, upper


@at_precision(DEEP)
def _images(schedule: Schedule, steps: Sequence[Step]) -> list[Interval]:
    lower, upper = exact_interval(schedule)
    found = images(steps, (arb(lower), arb(upper)))
    for least, most in found:
        if not all(math.isfinite(float(end)) for end in (least, most)):
            raise ValueError(
                f"coefficients must keep {schedule.interval} in the range of float64, got infinity"
            )
    return found


@at_precision(DEEP)
def _edges(steps: Sequence[Step], upper: fmpq, level: fmpq) -> tuple[bool, arb | None, arb | None]:
    return (
        never_negative(steps, upper),
        smallest_lifted(steps, upper, level=level),
        largest_bounded(steps, upper, bound=_BOUND),
    )


@at_precision(DEEP)
def _reversed(steps: Sequence[Step], upper: fmpq) -> fmpq | None:
    """A point of (0, upper], upper first, at which the composition is certainly negative."""
    if not images(steps, (arb(0), arb(upper)))[-1][0] < 0:
        return None
    points = (upper * fmpq(_POINTS - k, _POINTS) for k in range(_POINTS))
    return next((x for x in points if value(steps, arb(x)) < 0), None)


@at_precision(PRECISION)
def _slopes(steps: Sequence[Step], lower: fmpq, upper: fmpq) -> tuple[arb, arb] | None:
    """Balls around the least and the largest slope on [0, upper].

    A search finds slopes that are attained; branch and bound then certifies that none lies beyond them by
    more than the allowed width. Where it meets one that does, that becomes the attained one.
    """
    low, high = (_attained(steps, lower, upper, sign) for sign in (1.0, -1.0))
    for _ in range(_CORRECTIONS):
        least = low - SLOPE_WIDTH * abs(low).max(arb(1))
        most = high + SLOPE_WIDTH * abs(high).max(arb(1))
        found = enclose(lambda x: slope_jet(steps, x), fmpq(0), upper, least=least, most=most)
        if found.certified:
            return least.union(low), most.union(high)
        if found.lowest >= low and found.highest <= high:
            return None
        low, high = low.min(found.lowest), high.max(found.highest)
    return None


def _attained(steps: Sequence[Step], lower: fmpq, upper: fmpq, sign: float) -> arb:
    """The least slope (for -1 the largest) that a search in floats finds on [0, upper], as a ball.

    The grid is dense at both scales near 0 and near the upper end, where deep compositions turn sharply.
    """
    l, u = float(arb(lower)), float(arb(upper))
    near_end = u * (1 - np.geomspace(1e-9, 1.0, _POINTS))
    x = np.unique(np.concatenate([np.geomspace(1e-3 * l, u, _POINTS), near_end, np.linspace(0, u, _POINTS)]))
    for _ in range(_ROUNDS):
        slopes = sign * _float_slopes(steps, x)
        if not np.isfinite(slopes).all():
            raise ValueError(f"coefficients must keep the slopes on [0, {u}] in the range of float64")
        k = int(np.argmin(slopes))
        best = float(x[k])
        x = np.linspace(x[max(k - 1, 0)], x[min(k + 1, len(x) - 1)], 101)
    return slope_jet(steps, arb(best))[0]


def _float_slopes(steps: Sequence[Step], x: Array) -> Array:
    """Slopes of the composition in float64, for the search only."""
    total = np.ones_like(x)
    with np.errstate(over="ignore", invalid="ignore"):
        for step in steps:
            n, d = (
                np.polynomial.Polynomial([float(arb(c)) for c in p])
                for p in (step.numerator, step.denominator)
            )
            z = x * x
            total = total * ((n(z) + 2 * z * n.deriv()(z)) * d(z) - 2 * z * n(z) * d.deriv()(z)) / d(z) ** 2
            x = x * n(z) / d(z)
    return total
