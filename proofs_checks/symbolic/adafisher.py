"""AdaFisher's denominator: its range, its exact zeros and ones, and what a scale of the loss does.

Entries of a factor are given by their distances from its smallest and largest entry, so that an arbitrary
entry of an arbitrary factor is meant. Factors in numbers are lists of rationals.
"""

import random
from collections.abc import Sequence

import sympy
from flint import fmpq

from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import yes_no
from proofs_checks.symbolic.carriers import Carrier
from proofs_checks.symbolic.cone import Nonnegative
from proofs_checks.symbolic.proof import Equations, prove, scalar_identity

__all__ = ["denominator_range", "loss_scale", "zeros_and_ones"]

#: A factor diagonal.
Diagonal = list[fmpq]


def minmax(d: Sequence[fmpq], *, epsilon: fmpq | int = 0, relative: bool = True) -> Diagonal:
    """``(d - min)/(max - min)``, epsilon added to the range; zero where the range is zero."""
    low, width = min(d), max(d) - min(d)
    if width == 0:
        return [fmpq(0)] * len(d)
    return [(x - low) / (width * (1 + epsilon) if relative else width + epsilon) for x in d]


def mean(old: Sequence[fmpq], new: Sequence[fmpq], gamma: fmpq) -> Diagonal:
    """``gamma old + (1 - gamma) new``."""
    return [gamma * a + (1 - gamma) * b for a, b in zip(old, new, strict=True)]


def denominators(h: Sequence[fmpq], s: Sequence[fmpq], lam: fmpq) -> list[Diagonal]:
    """``s_j h_k + lam``, a row per output."""
    return [[b * a + lam for a in h] for b in s]


@evidence(faults=("weights-sum-above-one", "minimum-kept", "inverse-within-half"))
def denominator_range(*, fault: str | None = None) -> Finding:
    """``lam <= F <= 1 + lam`` for any true average of normalised factors; the inverse moves by order 1/lam.

    An entry with distances p, q from the ends of its factor normalises to ``p/(p+q)``, and ``1 - p/(p+q)`` is
    ``q/(p+q)``. Averages with weights that sum to 1 keep both non-negative. Then ``F - lam = h s`` and
    ``1 + lam - F = (1-h) + h (1-s)``. Every such inverse, normalised or not, lies in ``(0, 1/lam]``, so two
    of them differ by less than ``1/lam``; with raw product 1 and normalised product 0 they differ by
    ``1/(lam (1+lam))``.
    """

    def claim(x: Carrier) -> Equations:
        at_least, positive = Nonnegative.assumed, Nonnegative.positive
        low, below, above = x.scalar("low"), x.scalar("below"), x.scalar("above")
        d, high = low + below, low + below + above
        entry = (d - (0 if fault == "minimum-kept" else low)) / (high - low)
        width = positive(below + above)
        gamma, rest = x.weight("gamma")
        old, new, h, s = (x.scalar(name) for name in ("old", "new", "h", "s"))
        kept = 1 if fault == "weights-sum-above-one" else gamma
        mean = kept * old + rest * new
        lam = x.scalar("lam")
        F, product = s * h + lam, at_least(s) * at_least(h)
        return {
            "entry": (entry, at_least(below) / width),
            "1 - entry": (1 - entry, at_least(above) / width),
            "average": (mean, at_least(kept) * at_least(old) + at_least(rest) * at_least(new)),
            "1 - average": (
                1 - mean,
                at_least(gamma) * at_least(1 - old) + at_least(rest) * at_least(1 - new),
            ),
            "F - lam": (F - lam, product),
            "1 + lam - F": (1 + lam - F, at_least(1 - h) + at_least(h) * at_least(1 - s)),
            "1/lam - 1/F": (1 / lam - 1 / F, product / (positive(lam) * positive(F))),
        }

    lam = sympy.Symbol("lam", positive=True)
    share = sympy.Rational(1, 2) if fault == "inverse-within-half" else 1
    gap = 1 / lam - 1 / (lam + 1)
    return Finding(
        (
            *prove(claim),
            scalar_identity("inverses of 0 and 1 apart", gap, 1 / (lam * (1 + lam))),
            yes_no("the share of 1/lam tends to 1", sympy.limit(gap * lam, lam, 0) == share),
        ),
        "F - lam and 1 + lam - F are sums of products of non-negative terms, for every average with weights "
        "that sum to 1; an inverse moves by less than 1/lam, by 1/(lam(1+lam)) where 1 is normalised to 0",
    )


@evidence(faults=("range-from-zero", "constant-kept", "order-before"))
def zeros_and_ones(*, fault: str | None = None) -> Finding:
    """Factors that are not constant contain an exact 0 and an exact 1; a constant diagonal gives ``F = lam``.

    The least entry gives ``0/(high - low)``, the largest ``(high - low)/(high - low)``. In rationals: along a
    run of six measurements the average that is normalised *after* has both at every step. Normalised
    *before*, the average of ``(0, 1/2, 1)`` and ``(1, 0, 1/2)`` has neither.
    """
    low, high = sympy.symbols("low high", positive=True)
    start = 0 if fault == "range-from-zero" else low
    draw = random.Random(20240801)
    lam, gamma = fmpq(1, 1000), fmpq(4, 5)
    state: Diagonal | None = None
    both = []
    for _ in range(6):
        fresh = [fmpq(draw.randint(1, 99), draw.randint(1, 9)) for _ in range(4)]
        if fault == "order-before":
            fresh = minmax(fresh)
        state = fresh if state is None else mean(state, fresh, gamma)
        factor = state if fault == "order-before" else minmax(state)
        both.append(min(factor) == 0 and max(factor) == 1)
    before = mean(minmax([fmpq(0), fmpq(1), fmpq(2)]), minmax([fmpq(2), fmpq(0), fmpq(1)]), gamma)
    constant = [fmpq(7, 3)] * 3
    flat = denominators(constant if fault == "constant-kept" else minmax(constant), [fmpq(0), fmpq(1)], lam)
    return Finding(
        (
            scalar_identity("the least entry", (low - start) / (high - start)),
            scalar_identity("the largest entry", (high - start) / (high - start), 1),
            yes_no("0 and 1 at each of 6 steps, normalised after averaging", all(both)),
            yes_no("neither after 2 steps, normalised before", min(before) > 0 and max(before) < 1),
            yes_no("a constant diagonal gives lam", all(x == lam for row in flat for x in row)),
        ),
        f"(low - low)/(high - low) = 0, (high - low)/(high - low) = 1, constant: F = lam; normalised before "
        f"averaging the second step has ({', '.join(map(str, before))})",
    )


@evidence(faults=("absolute-epsilon", "step-called-invariant", "bias-column-scaled"))
def loss_scale(*, fault: str | None = None) -> Finding:
    """A loss scale c leaves F alone and multiplies the step by c, as in SGD and unlike Adam.

    ``s -> c s`` gives ``c^2 s_D``, in averages too, and ``(c^2 d - c^2 low)/(c^2 high - c^2 low)`` does not
    contain c; the momentum is linear in the gradients. The inputs of one layer likewise, but the constant 1
    that the bias sees does not scale: ``h_D = (5, 2, 1)`` normalises to ``(1, 1/4, 0)``, with inputs doubled
    ``(20, 8, 1)`` to ``(1, 7/19, 0)``.
    """
    d, e, low, high, c, lam, m, h, gamma = sympy.symbols("d e low high c lam m h gamma", positive=True)
    epsilon = fmpq(1, 10**6) if fault == "absolute-epsilon" else 0

    def normalised(scale: sympy.Expr) -> sympy.Expr:
        return scale**2 * (d - low) / (scale**2 * (high - low) + sympy.Rational(str(epsilon)))

    def step(scale: sympy.Expr) -> sympy.Expr:
        return scale * m / (normalised(scale) * h + lam)

    def average(scale: sympy.Expr) -> sympy.Expr:
        return gamma * scale**2 * d + (1 - gamma) * scale**2 * e

    expected = step(sympy.Integer(1)) * (1 if fault == "step-called-invariant" else c)
    once = [fmpq(5), fmpq(2), fmpq(1)]
    doubled = [fmpq(20), fmpq(8), fmpq(4 if fault == "bias-column-scaled" else 1)]
    return Finding(
        (
            scalar_identity("normalised factor", normalised(c), normalised(sympy.Integer(1))),
            scalar_identity("average", average(c), c**2 * average(sympy.Integer(1))),
            scalar_identity("step", step(c), expected),
            yes_no("without the bias column: invariant", minmax(once[:2]) == minmax(doubled[:2])),
            yes_no("with it: not invariant", minmax(once) != minmax(doubled)),
        ),
        "F does not contain the loss scale c, the step is c times as long; inputs doubled under a bias turn "
        f"h' from (1, 1/4, 0) into ({', '.join(map(str, minmax(doubled)))})",
    )
