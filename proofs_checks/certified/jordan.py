"""The Jordan quintic ``h(x) = a x + b x^3 + c x^5`` in exact rationals and balls."""

from itertools import pairwise

from flint import arb, fmpq

from proofs_checks.certified.balls import PRECISION, at_precision, attained, enclose
from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import Ratio, yes_no
from proofs_checks.symbolic.exact import rational

__all__ = ["more_steps_refuted", "never_the_polar_factor", "range_of_five_steps", "slope_of_five_steps"]

#: 3.4445, -4.7750, 2.0315 as decimals, not as floats. Source: Jordan et al. (2024).
A, B, C = rational("3.4445"), rational("-4.7750"), rational("2.0315")

#: Muon's number of steps.
STEPS = 5


def h(x: fmpq, c: fmpq = C) -> fmpq:
    """One step on a singular value, exactly."""
    return A * x + B * x**3 + c * x**5


def five_steps(x: arb, c: fmpq = C) -> tuple[arb, arb]:
    """``h_5`` and its slope in ``x``."""
    slope = arb(1)
    for _ in range(STEPS):
        z = x * x
        slope = slope * (A + z * (3 * B + 5 * c * z))
        x = x * (A + z * (B + c * z))
    return x, slope


def five_slopes(z: arb, c: fmpq = C) -> tuple[arb, arb]:
    """``h_5'`` as a function of ``z = x^2``, and its slope in ``z``."""
    slope, change, speed = arb(1), arb(0), arb(1)  # h_j', d h_j'/dz, d z_j/dz
    for _ in range(STEPS):
        factor, factor_change = A + z * (3 * B + 5 * c * z), 3 * B + 10 * c * z
        q, q_change = A + z * (B + c * z), B + 2 * c * z
        change = change * factor + slope * factor_change * speed
        slope = slope * factor
        speed = speed * (q * q + 2 * z * q * q_change)
        z = z * q * q
    return slope, change


@evidence(faults=("coefficient-off-by-1e-4", "claimed-range-too-narrow", "claimed-range-too-wide"))
@at_precision(PRECISION)
def range_of_five_steps(*, fault: str | None = None) -> Finding:
    """Five steps map ``[0.01, 1]`` into ``[0.68183, 1.13436]`` and ``[0.001, 1]`` into ``[0.4705, 1.2024]``.

    Branch and bound; the attained extremes show that no range is wider than one unit of its last digit at
    each end.
    """
    c = C + fmpq(1, 10**4) if fault == "coefficient-off-by-1e-4" else C
    ratios, boxes = [], 0
    for start, low, high, digits in (("0.01", "0.68183", "1.13436", 5), ("0.001", "0.4705", "1.2024", 4)):
        unit = fmpq(1, 10**digits)
        least, most = rational(low), rational(high)
        if fault == "claimed-range-too-narrow":
            most = most - unit
        if fault == "claimed-range-too-wide":
            most = most + 2 * unit
        claimed = {"least": arb(least), "most": arb(most)}
        found = enclose(lambda x: five_steps(x, c), rational(start), fmpq(1), **claimed)
        boxes += found.boxes
        ratios += [
            yes_no(f"[{start}, 1] maps into [{low}, {high}]", found.certified),
            Ratio("narrowness in units of the last digit", attained(found, **claimed), float(unit)),
        ]
    return Finding(
        tuple(ratios),
        f"h_5 maps [0.01, 1] into [0.68183, 1.13436] and [0.001, 1] into [0.4705, 1.2024]: {boxes} boxes, "
        "both ends attained to one unit of the last digit",
        figures={"boxes": float(boxes)},
    )


@evidence(faults=("coefficient-off-by-1e-2", "claimed-minimum-too-high"))
@at_precision(PRECISION)
def slope_of_five_steps(*, fault: str | None = None) -> Finding:
    """The slope of five steps on [0, 1] lies between -160 and ``a^5 = 3.4445^5``, attained at 0.

    The slope is a function of ``z = x^2``. On ``[0, 1/1000]`` it falls, so its maximum there is its value at
    0, which is ``a^5`` exactly; branch and bound covers the rest.
    """
    c = C + fmpq(1, 100) if fault == "coefficient-off-by-1e-2" else C
    least = -fmpq(159 if fault == "claimed-minimum-too-high" else 160)
    near = fmpq(1, 10**6)
    claimed = {"least": arb(least), "most": arb(A**STEPS)}
    found = enclose(lambda z: five_slopes(z, c), near, fmpq(1), **claimed)
    falls = five_slopes(arb(0).union(arb(near)), c)[1] < 0
    at_zero = fmpq(1)
    for _ in range(STEPS):
        at_zero *= A
    low = found.lowest - arb(least)
    return Finding(
        (
            yes_no("slope between -160 and a^5 away from 0", found.certified),
            yes_no("slope falls near 0", bool(falls)),
            yes_no("slope at 0 is a^5", at_zero == A**STEPS and five_slopes(arb(0), c)[0].contains(at_zero)),
            Ratio("narrowness of the minimum in units of its last digit", float(low.upper()), 1.0),
        ),
        f"-160 <= h_5' <= 3.4445^5 = {float(arb(A**STEPS)):.4f} on [0, 1] with {found.boxes} boxes; the "
        f"minimum is at most {float(found.lowest.upper()):.2f}",
        figures={"boxes": float(found.boxes)},
    )


def _two_adic(value: fmpq) -> int:
    """The exponent of 2 in the denominator of a rational in lowest terms."""
    denominator, exponent = int(value.q), 0
    while denominator % 2 == 0:
        denominator, exponent = denominator // 2, exponent + 1
    return exponent


@evidence(faults=("coefficients-sum-to-one", "even-leading-coefficient"))
@at_precision(PRECISION)
def never_the_polar_factor(*, fault: str | None = None) -> Finding:
    """``h(1) = 701/1000``, and no number of steps returns to 1: the quintic is outside Kim-Oh's theory.

    ``h(x) = x (6889 - 9550 x^2 + 4063 x^4)/2000``. If ``x`` has the odd numerator over ``2^e``, ``e >= 1``,
    the bracket has exactly ``2^(4e)`` in its denominator, because 4063 is odd and 9550 even, and 2000 adds
    ``2^4``: ``e`` becomes ``5e + 4``. ``h(1)`` has ``e = 3``, so no iterate of 1 is an integer again. Nor
    can the iterates of any start converge to 1, which would make it a fixed point. The fixed points are
    roots of ``c z^2 + b z + a - 1``, ``z = x^2``.
    """
    c = {"coefficients-sum-to-one": 1 - A - B, "even-leading-coefficient": C + fmpq(1, 2000)}.get(
        fault or "", C
    )
    inner = [2000 * v for v in (A, B, c)]
    integers = all(v.q == 1 for v in inner)
    parity = integers and int(inner[2].p) % 2 == 1 and int(inner[1].p) % 2 == 0
    x, exponents = fmpq(1), []
    for _ in range(STEPS):
        x = h(x, c)
        exponents.append(_two_adic(x))
    law = exponents[:1] == [3] and all(new == 5 * old + 4 for old, new in pairwise(exponents))
    root = (arb(B) ** 2 - 4 * arb(c) * (arb(A) - 1)).sqrt()
    fixed = [((-arb(B) + sign * root) / (2 * arb(c))).sqrt() for sign in (-1, 1)]
    half_unit = fmpq(1, 2 * 10**7)
    printed = ("0.8680258", "1.2637291")
    return Finding(
        (
            yes_no("h(1) = 701/1000", h(fmpq(1), c) == fmpq(701, 1000)),
            yes_no("delta after one step is 508599/10^6", 1 - h(fmpq(1), c) ** 2 == fmpq(508599, 10**6)),
            yes_no("2000 h/x has integer coefficients, the last odd, the middle even", parity),
            yes_no("exponents of 2: 3, then e -> 5e + 4", law),
            *(
                yes_no(f"fixed point {text}", bool(abs(value - arb(rational(text))) <= arb(half_unit)))
                for value, text in zip(fixed, printed, strict=True)
            ),
        ),
        f"h(1) = 701/1000; powers of 2 in the denominators of h_q(1): {exponents}; fixed points 0.8680258 "
        "and 1.2637291, not 1",
    )


@evidence(faults=("cubic-instead", "one-step-only"), refutes=True)
def more_steps_refuted(*, fault: str | None = None) -> Finding:
    """More Jordan steps do not always give a better polar factor: the error rises again.

    Singular value 1 (already orthogonal): error 0 before, 299/1000 after one step. From 3/5 the errors of
    six steps are computed exactly, and they are not monotone.
    """

    def step(x: fmpq) -> fmpq:
        return (3 * x - x**3) / 2 if fault == "cubic-instead" else h(x)

    x = fmpq(3, 5)
    errors = [1 - x]
    for _ in range(1 if fault == "one-step-only" else STEPS):
        x = step(x)
        errors.append(abs(1 - x))
    rises = [j for j in range(1, len(errors) - 1) if errors[j + 1] > errors[j]]
    return Finding(
        (
            yes_no("one step moves an orthogonal input", step(fmpq(1)) != 1),
            yes_no("the error rises from some step to the next", bool(rises)),
        ),
        "errors from singular value 3/5: " + ", ".join(f"{float(arb(e)):.4f}" for e in errors),
        counterexample={
            "singular value": "1",
            "error before": "0",
            "after one step": str(abs(1 - step(fmpq(1)))),
            "from 3/5, steps at which the error rises": str(rises),
        },
    )
