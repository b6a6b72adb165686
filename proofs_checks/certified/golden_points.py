"""FISMO-GOLDEN, FISMO-ALG-fixed-point: the golden fixed points as balls instead of computed floats.

A sweep, one half-step after the other, maps the diagonal q of Q to a new one, F(q). If Krawczyk's box
``q - Y (q - F(q)) + (I - Y (I - F'(B))) (B - q)`` lies inside the box B around q, then B holds exactly one
fixed point, whatever the matrix Y is. For the theorem's damping T1's contraction factor bounds the distance
to the fixed point once more, without a derivative.

Symbols: u, v diagonals of U and V in ``E[G X G^T] = tr(V X) U``, ``E[G^T X G] = tr(U X) V``.
"""

from collections.abc import Sequence
from typing import NamedTuple

from flint import arb, arb_mat, fmpq

from proofs_checks.certified.balls import at_precision
from proofs_checks.certified.eigenvectors import identity
from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import Ratio, yes_no
from proofs_checks.reproduction import fismo_golden as printed
from proofs_checks.symbolic.exact import rational

__all__ = ["condition_numbers", "fixed_points"]

Vector = list[arb]

#: Bits, steps to the fixed point in floating point, and the half-width of the box: ``2^-100``.
_BITS, _SWEEPS, _WIDTH = 256, 4000, 100

#: A sweep that moves no entry by this much was the last.
_STILL = arb(0.5) ** 200

_U = [fmpq(4), fmpq(1), fmpq(1, 4)]
_V = [fmpq(3), fmpq(1), fmpq(1, 2), fmpq(1, 5)]


class Side(NamedTuple):
    """One half-step: from one diagonal, of mean 1, to the other."""

    weights: Sequence[fmpq]  # U for P, V for Q
    others: Sequence[fmpq]
    mu: fmpq
    theorem: bool

    def raw(self, x: Vector) -> Vector:
        """``a_i = w_i sum(o_j/x_j)/k + mu d``, d = ``sum(1/x_j)/k`` or 1, for k values x."""
        k = len(x)
        data = sum((arb(o) / y for o, y in zip(self.others, x, strict=True)), arb(0)) / k
        damping = sum((1 / y for y in x), arb(0)) / k if self.theorem else arb(1)
        return [arb(w) * data + arb(self.mu) * damping for w in self.weights]

    def step(self, x: Vector) -> Vector:
        """The raw statistic over its mean."""
        a = self.raw(x)
        mean = sum(a, arb(0)) / len(a)
        return [y / mean for y in a]

    def slope(self, x: Vector) -> arb_mat:
        """Derivatives of `step`, a row per result."""
        k, a = len(x), self.raw(x)
        size, total = len(a), sum(a, arb(0))
        raw = [
            [
                -(arb(w) * arb(o) + (arb(self.mu) if self.theorem else arb(0))) / (k * y * y)
                for o, y in zip(self.others, x, strict=True)
            ]
            for w in self.weights
        ]
        sums = [sum(column, arb(0)) for column in zip(*raw, strict=True)]
        rows = [
            [size * (d - a[i] * s / total) / total for d, s in zip(raw[i], sums, strict=True)]
            for i in range(size)
        ]
        return arb_mat(rows)


class Point(NamedTuple):
    """An enclosed fixed point: diagonals of P and Q, of mean 1, and the mean of the unnormalised Q."""

    proved: bool
    P: Vector
    Q: Vector
    scale: arb


def _sides(mu: fmpq, *, theorem: bool) -> tuple[Side, Side]:
    return Side(_U, _V, mu, theorem), Side(_V, _U, mu, theorem)


def enclosed(mu: fmpq, *, theorem: bool) -> Point:
    """The fixed point of Gauss-Seidel alternation with one of the two kinds of damping."""
    to_P, to_Q = _sides(mu, theorem=theorem)
    n = len(_V)
    q = [arb(1)] * n
    for _ in range(_SWEEPS):
        new = [x.mid() for x in to_Q.step([x.mid() for x in to_P.step(q)])]
        moved, q = max(abs(a - b) for a, b in zip(new, q, strict=True)), new
        if moved < _STILL:
            break
    around = arb(0, arb(2) ** -_WIDTH)
    box = [x + around for x in q]
    image = to_Q.step(to_P.step(q))
    slope = to_Q.slope(to_P.step(box)) * to_P.slope(box)
    at_centre = to_Q.slope(to_P.step(q)) * to_P.slope(q)
    Y = (identity(n) - at_centre).inv().mid()
    residual = arb_mat(n, 1, [a - b for a, b in zip(q, image, strict=True)])
    spread = arb_mat(n, 1, [around] * n)
    krawczyk = (identity(n) - Y * (identity(n) - slope)) * spread - Y * residual
    inside = all(abs(x).upper() < arb(2) ** -_WIDTH for x in krawczyk.entries())
    Q = [x + y for x, y in zip(q, krawczyk.entries(), strict=True)]
    P = to_P.step(Q)
    return Point(inside, P, Q, sum(to_Q.raw(P), arb(0)) / n)


def contraction_distance(mu: fmpq, Q: Vector) -> arb:
    """T1, theorem's damping: Hilbert distance from Q to the fixed point, at most that to F(Q) over 1 - c^2.

    ``c = g/(g + 2 mu)`` with ``g = max u max v``, the largest ``E (x^T G y)^2`` over unit x, y.
    """
    to_P, to_Q = _sides(mu, theorem=True)
    moved = [a / b for a, b in zip(to_Q.step(to_P.step(Q)), Q, strict=True)]
    largest, least = moved[0], moved[0]
    for x in moved[1:]:
        largest, least = largest.max(x), least.min(x)
    g = max(_U) * max(_V)
    c = arb(g) / (g + 2 * mu)
    return abs((largest / least).log()) / (1 - c**2)


def _digits(name: str, values: Vector, texts: str) -> Ratio:
    """How far balls lie from printed decimals, at worst, over half a unit of the last digit."""
    worst = 0.0
    for value, text in zip(values, texts.replace(",", " ").split(), strict=True):
        unit = arb(fmpq(1, 10 ** len(text.partition(".")[2])))
        worst = max(worst, float((2 * abs(value - arb(rational(text))) / unit).upper()))
    return Ratio(name, worst, 1.0)


@evidence(faults=("dampings-exchanged", "sides-exchanged", "start-off-by-1e-10"), scope="region")
@at_precision(_BITS)
def fixed_points(*, fault: str | None = None) -> Finding:
    """The four golden fixed points exist in boxes of width ``2^-99`` and agree with all printed digits.

    The theorem's two are bounded by T1's contraction as well; the algorithm's have no contraction theorem,
    and Krawczyk's test proves them to exist and to be the only ones in their boxes.
    Faults: the two kinds of damping exchanged; mu scaled by m/n, the mean over rows for that over columns;
    T1's distance taken from a Q off by 1e-10.
    """
    ratios = []
    for (damping, mu_float), (P, Q) in printed.FIXED_POINTS.items():
        theorem = (damping == "theorem") != (fault == "dampings-exchanged")
        mu = rational(str(mu_float)) * (fmpq(3, 4) if fault == "sides-exchanged" else 1)
        name = f"{damping}, mu = {mu_float}"
        found = enclosed(mu, theorem=theorem)
        ratios += [
            yes_no(f"one fixed point in the box ({name})", found.proved),
            _digits(f"P ({name})", found.P, P),
            _digits(f"Q ({name})", found.Q, Q),
        ]
        if theorem and damping == "theorem":
            centre = [x.mid() for x in found.Q]
            if fault == "start-off-by-1e-10":
                centre[0] = centre[0] * (1 + arb(fmpq(1, 10**10)))
            distance = contraction_distance(mu, centre)
            ratios.append(Ratio(f"T1's distance ({name})", float(distance.upper()), 2.0 ** -(_WIDTH // 2)))
            ratios.append(_digits(f"scale of F ({name})", [found.scale], printed.SCALES[mu_float]))
    worst = max(ratios, key=lambda ratio: ratio.value)
    return Finding(
        tuple(ratios),
        f"4 fixed points in boxes of 2^-{_WIDTH - 1} by Krawczyk, 2 of them also by T1's contraction, all 28 "
        f"printed numbers and 2 scales within {worst.value:.2f} half units",
    )


@evidence(faults=("loss-scale-ignored", "theorem-damping"), scope="region")
@at_precision(_BITS)
def condition_numbers(*, fault: str | None = None) -> Finding:
    """Condition of P at the algorithm's fixed point, gradients times 0.01, 1, 100: 1.0044, 12.01, 15.9995.

    In fixed points a scale c of the gradients is ``mu/c^2``.
    Faults: c is left out; the theorem's damping.
    """
    ratios, found = [], []
    for c, text in printed.CONDITIONS.items():
        scale = fmpq(1) if fault == "loss-scale-ignored" else rational(str(c))
        point = enclosed(fmpq(1, 10) / scale**2, theorem=fault == "theorem-damping")
        condition = point.P[0] / point.P[-1]
        found.append(condition)
        ratios += [
            yes_no(f"one fixed point in the box, c = {c:g}", point.proved),
            _digits(f"condition of P, c = {c:g}", [condition], text),
        ]
    return Finding(
        tuple(ratios),
        "condition of P at c = 0.01, 1, 100: " + ", ".join(x.str(12, radius=False) for x in found),
    )
