"""Images of intervals under compositions of odd maps ``x n(x^2) / d(x^2)``, without branch and bound.

The image of an interval under a continuous map is an interval, so the image under a composition is the
composition of the images, and that of one step is spanned by its values at the two ends and at the turning
points between them. Turning points are real roots of a polynomial with rational coefficients, which FLINT
isolates rigorously; everything else is ball arithmetic. Hence each end of an image is known to as many digits
as the working precision gives, and no overestimation builds up from step to step.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from flint import arb, fmpq, fmpq_poly

__all__ = [
    "Interval",
    "Step",
    "image",
    "images",
    "largest_bounded",
    "never_negative",
    "slope_jet",
    "smallest_lifted",
    "value",
]

#: Lower and upper end, each a ball that contains it.
Interval = tuple[arb, arb]

#: Halvings after which the edge of a property is known to 12 digits.
_HALVINGS = 40

#: Halvings of the upper end in search of that edge: no schedule worth certifying acts below 2^-400.
_OCTAVES = 400


@dataclass(frozen=True)
class Step:
    """The odd map ``x n(z) / d(z)``, ``z = x^2``, coefficients in powers of z; d has no zero at real x."""

    numerator: tuple[fmpq, ...]
    denominator: tuple[fmpq, ...] = (fmpq(1),)

    @classmethod
    def of(cls, coefficients: Sequence[float | fmpq], c: float | None = None) -> "Step":
        """The step with these coefficients of x, x^3, ..., exactly, over ``1 + c x^2`` if c is given."""
        exact = tuple(_rational(a) for a in coefficients)
        return cls(exact) if c is None else cls(exact, (fmpq(1), _rational(c)))

    @cached_property
    def turning(self) -> tuple[arb, ...]:
        """Balls around all positive zeros of the slope, ``n d + 2 z (n' d - n d')`` in ``z = x^2``."""
        n, d = fmpq_poly(list(self.numerator)), fmpq_poly(list(self.denominator))
        z = fmpq_poly([0, 2])
        return _positive_roots(n * d + z * (n.derivative() * d - n * d.derivative()))

    @cached_property
    def bending(self) -> tuple[arb, ...]:
        """Balls around all positive x at which the slope turns; it also turns at 0, being even."""
        n, d = fmpq_poly(list(self.numerator)), fmpq_poly(list(self.denominator))
        z = fmpq_poly([0, 2])
        top = n * d + z * (n.derivative() * d - n * d.derivative())  # over d^2
        return _positive_roots(top.derivative() * d - 2 * top * d.derivative())

    @cached_property
    def zeros(self) -> tuple[arb, ...]:
        """Balls around all positive zeros."""
        return _positive_roots(fmpq_poly(list(self.numerator)))

    def __call__(self, x: arb) -> arb:
        """Value on a ball."""
        z = x * x
        return x * _horner(self.numerator, z) / _horner(self.denominator, z)

    def slope(self, x: arb) -> arb:
        """Slope on a ball."""
        return self.jet(x)[1]

    def jet(self, x: arb) -> tuple[arb, arb, arb]:
        """Value, slope and second derivative on a ball."""
        z = x * x
        n, n1, n2 = _derivatives(self.numerator, z)
        if len(self.denominator) == 1:
            return x * n, n + 2 * z * n1, x * (6 * n1 + 4 * z * n2)
        d, d1, d2 = _derivatives(self.denominator, z)
        q = n / d
        q1 = (n1 - q * d1) / d
        q2 = (n2 - 2 * q1 * d1 - q * d2) / d
        return x * q, q + 2 * z * q1, x * (6 * q1 + 4 * z * q2)


def value(steps: Sequence[Step], x: arb) -> arb:
    """The composition on a ball."""
    for step in steps:
        x = step(x)
    return x


def slope_jet(steps: Sequence[Step], x: arb) -> tuple[arb, arb]:
    """Slope of the composition on a ball, and the slope of that.

    On a ball with more than one point the values and the slopes of every step are exact images, so that what
    a step contracts stays small; the second derivatives are not, and only speed depends on them.
    """
    slope, curvature = arb(1), arb(0)
    for step in steps:
        y, first, second = step.jet(x)
        if not x.is_exact():
            ends = x.lower(), x.upper()
            y = _hull(image(step, ends))
            first = _hull(_spanned(step.slope, (arb(0), *step.bending), ends))
        curvature = second * slope * slope + first * curvature
        slope = first * slope
        x = y
    return slope, curvature


def image(step: Step, interval: Interval) -> Interval:
    """The image of an interval under one step."""
    return _spanned(step, step.turning, interval)


def _spanned(f: Callable[[arb], arb], turning: Sequence[arb], interval: Interval) -> Interval:
    """Least and largest value of f on an interval, f being monotone between the points ``+-turning``.

    A turning point that may or may not lie inside is widened to the end it cannot be told from: some point
    of that ball is then attained, whichever is the case.
    """
    low, high = interval
    found = [f(low), f(high)]
    for root in turning:
        for x in (-root, root):
            if x < low or x > high:
                continue
            if not x >= low:
                x = x.union(low)
            if not x <= high:
                x = x.union(high)
            found.append(f(x))
    least = most = found[0]
    for y in found[1:]:
        least, most = least.min(y), most.max(y)
    return least, most


def _hull(interval: Interval) -> arb:
    return interval[0].union(interval[1])


def images(steps: Sequence[Step], interval: Interval) -> list[Interval]:
    """The images of an interval after 0, 1, 2, ... steps."""
    found = [interval]
    for step in steps:
        found.append(image(step, found[-1]))
    return found


def never_negative(steps: Sequence[Step], upper: fmpq) -> bool:
    """Whether the composition is positive on ``(0, upper]``: no step has a zero up to its largest input.

    False means: not shown. Positive values stay positive from step to step because every step is positive
    near 0 and has no zero where the images before it reach.
    """
    reached = images(steps[:-1], (arb(0), arb(upper)))
    return all(
        step.numerator[0] > 0 and all(bool(root > high) for root in step.zeros)
        for step, (_, high) in zip(steps, reached, strict=True)
    )


def smallest_lifted(steps: Sequence[Step], upper: fmpq, *, level: fmpq) -> arb | None:
    """A ball around the least x such that all of ``[x, upper]`` ends at `level` or above; None without one.

    At its lower end the image reaches below `level` for certain, at its upper end it does not.
    """

    def lifted(x: fmpq) -> bool | None:
        return _certain(images(steps, (arb(x), arb(upper)))[-1][0] - level)

    if not lifted(upper):
        return None
    above, below = upper, upper / 2
    for _ in range(_OCTAVES):
        if not lifted(below):
            break
        above, below = below, below / 2
    return _halved(lifted, above, below)


def largest_bounded(steps: Sequence[Step], upper: fmpq, *, bound: fmpq) -> arb | None:
    """A ball around the largest x such that ``[0, x]`` stays in ``[-bound, bound]``; None if beyond 4 upper.

    At its upper end the image leaves the bounds for certain, at its lower end it does not.
    """

    def bounded(x: fmpq) -> bool | None:
        least, most = images(steps, (arb(0), arb(x)))[-1]
        return _certain((bound - most).min(bound + least))

    above = 4 * upper
    if bounded(above):
        return None
    below = above / 2
    for _ in range(_OCTAVES):
        if bounded(below):
            break
        above, below = below, below / 2
    return _halved(bounded, below, above)


def _certain(difference: arb) -> bool | None:
    """Whether a number is at least 0; None where the precision cannot tell."""
    if difference >= 0:
        return True
    return False if difference < 0 else None


def _halved(holds: Callable[[fmpq], bool | None], inside: fmpq, outside: fmpq) -> arb:
    """The ball between a point where a property holds and one where it does not, by bisection."""
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        verdict = holds(middle)
        if verdict is None:
            break
        inside, outside = (middle, outside) if verdict else (inside, middle)
    return arb(inside).union(arb(outside))


def _positive_roots(p: fmpq_poly) -> tuple[arb, ...]:
    """Square roots of the positive real roots; one that cannot be told from 0 becomes a ball from 0 on."""
    if p.degree() < 1:
        return ()
    real = [root.real for root, _ in p.numer().complex_roots() if root.imag == 0]
    return tuple(
        root.sqrt() if root > 0 else arb(0).union(root.upper().sqrt()) for root in real if root.upper() > 0
    )


def _horner(coefficients: Sequence[fmpq], z: arb) -> arb:
    total = arb(0)
    for c in reversed(coefficients):
        total = total * z + c
    return total


def _derivatives(coefficients: Sequence[fmpq], z: arb) -> tuple[arb, arb, arb]:
    """Value and first two derivatives in z of a polynomial."""
    p, p1, half = arb(0), arb(0), arb(0)
    for c in reversed(coefficients):
        half = half * z + p1
        p1 = p1 * z + p
        p = p * z + c
    return p, p1, 2 * half


def _rational(x: float | fmpq) -> fmpq:
    return x if isinstance(x, fmpq) else fmpq(*float(x).as_integer_ratio())
