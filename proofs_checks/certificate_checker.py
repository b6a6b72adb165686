"""Re-checks stored certificates with exact rationals; needs nothing but Python's standard library.

    python proofs_checks/certificate_checker.py [FILE ...]

Without arguments: every file in ``certificates/`` beside this one. One line per certificate. Exit status 0 if
there is at least one and all check, else 1. A certificate is data; what it has to show is written here, with
the check of its kind or claim, so that this file is all one has to read to know what was proved.
"""

import argparse
import json
import re
from collections.abc import Callable
from fractions import Fraction as F
from inspect import signature
from math import isqrt
from pathlib import Path
from typing import Any

SCHEMA = 1
NARROW = F(1, 10**20)  # no enclosure of a matrix may be wider, relative to its size
REACHED = F(1, 1000)  # a range must be attained to this share of its width, at either end
TIGHT = F(1, 10**6)  # bounds of eigenvalues must be attained to this share of the norm
BITS = 384  # of intervals: binary places after the point
ONE = 2**BITS
JORDAN = (F("3.4445"), F("-4.775"), F("2.0315"))
EXPRESS = [  # arXiv 2505.16932, Appendix G, as float64 numbers
    (F(8.28721201814563), F(-23.595886519098837), F(17.300387312530933)),
    (F(4.107059111542203), F(-2.9478499167379106), F(0.5448431082926601)),
    (F(3.9486908534822946), F(-2.908902115962949), F(0.5518191394370137)),
    (F(3.3184196573706015), F(-2.488488024314874), F(0.51004894012372)),
    (F(2.300652019954817), F(-1.6689039845747493), F(0.4188073119525673)),
    (F(1.891301407787398), F(-1.2679958271945868), F(0.37680408948524835)),
]
RANGES = {  # by claim, quantity, interval and range as stated: coefficients of x, x^3, x^5 of every step
    "JORDAN-range value 1/100 1 0.68183 1.13436": [JORDAN] * 5,
    "JORDAN-range value 1/1000 1 0.4705 1.2024": [JORDAN] * 5,
    "JORDAN-slope slope 0 1 -160 484.8764": [JORDAN] * 5,
    "SCHED-polar-express-5 value 1/1000 1 0.8764409 1.1235591": EXPRESS[:5],
    "SCHED-polar-express-6 value 1/1000 1 0.998815 1.001185": EXPRESS,
}
Matrix = list[list[Any]]


class Refused(Exception):
    """A certificate that does not check, or is none; the message says why."""


def need(condition: object, why: str) -> None:
    """Refuse unless the condition is true."""
    if condition is not True:
        raise Refused(why)


def numbers(data: Any) -> Any:
    """Strings "p/q", decimal or hexadecimal, alone or in lists, as exact rationals."""
    if isinstance(data, list):
        return [numbers(entry) for entry in data]
    text = data if isinstance(data, str) else ""
    if re.fullmatch(r"-?0x[01](\.[0-9a-f]+)?p[+-]?[0-9]{1,4}", text):
        return F(float.fromhex(text))
    need(bool(re.fullmatch(r"-?[0-9]+(\.[0-9]+|/[1-9][0-9]*)?", text)), f"{data!r} is not a number")
    return F(text)


class Interval:
    """Bounds in units of 2^-BITS, rounded outwards."""

    def __init__(self, low: int, high: int) -> None:
        self.low, self.high = low, high

    @classmethod
    def of(cls, x: Any, y: Any = None) -> "Interval":
        """From x to y, or x alone; an interval stays."""
        if isinstance(x, Interval):
            return x
        low, high = x * F(ONE), (x if y is None else y) * F(ONE)
        return cls(low.numerator // low.denominator, -(-high.numerator // high.denominator))

    def __add__(self, other: Any) -> "Interval":
        other = Interval.of(other)
        return Interval(self.low + other.low, self.high + other.high)

    def __mul__(self, other: Any) -> "Interval":
        other = Interval.of(other)
        ends = [a * b for a in (self.low, self.high) for b in (other.low, other.high)]
        return Interval(min(ends) >> BITS, -(-max(ends) >> BITS))

    def __sub__(self, other: Any) -> "Interval":
        return self + Interval.of(other) * F(-1)

    def __truediv__(self, other: Any) -> "Interval":
        other = Interval.of(other)
        need(other.low > 0 or other.high < 0, "division by an interval around 0")
        return self * Interval.of(F(ONE, other.high), F(ONE, other.low))

    __radd__, __rmul__ = __add__, __mul__

    def within(self, least: F, most: F) -> bool:
        """Whether every point lies between the bounds."""
        return least * ONE <= self.low and self.high <= most * ONE


def turned(A: Matrix) -> Matrix:
    """The transpose."""
    return [list(column) for column in zip(*A, strict=True)]


def product(A: Matrix, B: Matrix) -> Matrix:
    """A B."""
    return [[sum((a * b for a, b in zip(r, c, strict=True)), F(0)) for c in turned(B)] for r in A]


def plus(A: Matrix, k: Any, B: Matrix) -> Matrix:
    """A + k B."""
    return [[a + k * b for a, b in zip(r, s, strict=True)] for r, s in zip(A, B, strict=True)]


def eye(n: int) -> Matrix:
    """The identity."""
    return [[F(i == j) for j in range(n)] for i in range(n)]


def eliminated(A: Matrix) -> tuple[list[Any], Matrix]:
    """The pivots of elimination without exchanges, and the inverse."""
    work = [[*row, *one] for row, one in zip(A, eye(len(A)), strict=True)]
    for k in range(len(A)):
        for i in range(len(A)):
            if i != k:
                ratio = work[i][k] / work[k][k] * F(-1)
                work[i] = [x + y * ratio for x, y in zip(work[i], work[k], strict=True)]
    return [work[k][k] for k in range(len(A))], [[x / r[i] for x in r[len(A) :]] for i, r in enumerate(work)]


def positive_definite(A: Matrix) -> bool:
    """Symmetric with positive pivots."""
    return turned(A) == A and all(pivot > 0 for pivot in eliminated(A)[0])


def norm(A: Matrix) -> F:
    """An upper bound of the Frobenius norm."""
    square = sum((x * x for row in A for x in row), F(0)) * ONE**2
    return F(isqrt(square.numerator // square.denominator) + 1, ONE)


def quotient(A: Matrix, v: Any) -> Any:
    """v' A v / v' v."""
    return product([v], product(A, turned([v])))[0][0] / sum((x * x for x in v), F(0))


def jet(steps: Any, x: Any) -> tuple[Interval, Interval, Interval]:
    """Value, slope and second derivative of the composed odd polynomials on an interval."""
    y, slope, bend = Interval.of(x), Interval.of(F(1)), Interval.of(F(0))
    for a, b, c in steps:
        z = y * y
        first, second = z * (z * (5 * c) + 3 * b) + a, y * (z * (20 * c) + 6 * b)
        y, slope, bend = y * (z * (z * c + b) + a), first * slope, second * slope * slope + first * bend
    return y, slope, bend


def on_boxes(steps: Any, order: int, bounds: Any, boxes: Any) -> None:
    """The boxes fill [lower, upper], and on each of them value (0) or slope (1) lies in [least, most]."""
    lower, upper, least, most = bounds
    at = lower
    for depth in boxes:
        need(type(depth) is int and depth >= 0, f"depth {depth!r} of a box")
        a, b = at, at + (upper - lower) / 2**depth
        middle, box = (a + b) / 2, Interval.of(a, b)
        value, change = jet(steps, box)[order : order + 2]
        tangent = jet(steps, middle)[order] + change * (box - middle)
        inside = value.within(least, most) or tangent.within(least, most)
        if not inside and (change.low >= 0 or change.high <= 0):  # monotone: the ends decide
            inside = all(jet(steps, x)[order].within(least, most) for x in (a, b))
        need(inside, f"the range is not shown on the box from {float(a)} to {float(b)}")
        at = b
    need(at == upper, f"the boxes end at {float(at)}, not at {float(upper)}")


def polynomial_range(statement: str, images: Any, boxes: Any, attained: Any) -> None:
    """Value: every step maps one interval into the next. Slope: boxes of the composition. Ends attained."""
    need(statement in RANGES, "this is not what a claim states")
    steps, (_, quantity, *texts) = RANGES[statement], statement.split()
    order, bounds = ("value", "slope").index(quantity), numbers(texts)
    intervals = [bounds[:2], *images, bounds[2:]]
    stages = [[step] for step in steps] if order == 0 else [steps]
    for stage, start, end, depths in zip(stages, intervals[:-1], intervals[1:], boxes, strict=True):
        on_boxes(stage, order, (*start, *end), depths)
    need(all(bounds[0] <= x <= bounds[1] for x in attained), "attained outside the interval")
    (low, high), (least, most) = (jet(steps, x)[order] for x in attained), bounds[2:]
    slack = REACHED * (most - least)
    need(low.within(least, least + slack) and high.within(most - slack, most), "the range is too wide")


def root_defect(N: Matrix, K: Matrix, k: F) -> F:
    """Bound of |N^(1/2) - K|_F: |N - K^2|_F/k, where K >= k I > 0; below k, so that N > 0."""
    definite = positive_definite(plus(K, -k, eye(len(K))))
    need(len(K) > 0 and k > 0 and definite, "K - k I is not positive definite")
    defect = norm(plus(N, F(-1), product(K, K))) / k
    need(turned(N) == N and defect < k, "K is not near the square root")
    return defect


def polar_factor(M: Matrix, K: Matrix, Q: Matrix, k: F, radius: F) -> None:
    """|Q - M H^-1|_F <= radius, H^2 = M' M, by M (H^-1 - K^-1) = M H^-1 (K - H) K^-1 and (Q K - M) K^-1."""
    error = root_defect(product(turned(M), M), K, k) / k + norm(plus(product(Q, K), F(-1), M)) / k
    need(error <= radius <= NARROW, f"error up to {float(error):.2g}, radius {float(radius):.2g}")


def inverse_root(P: Matrix, K: Matrix, X: Matrix, k: F, radius: F) -> None:
    """|X - H^-1|_F <= radius, H^2 = P, by H^-1 - K^-1 = H^-1 (K - H) K^-1 and |H^-1| <= 1/(k - |H - K|)."""
    moved = root_defect(P, K, k)
    error = moved / (k * (k - moved)) + norm(plus(product(X, K), F(-1), eye(len(K)))) / k
    need(error <= radius <= NARROW * norm(X), f"error up to {float(error):.2g}, radius {float(radius):.2g}")


def eigenvalue_bounds(A: Matrix, lower: F, upper: F, low: Any, high: Any) -> None:
    """lower < every eigenvalue < upper, nearly reached by the Rayleigh quotients of two vectors."""
    one, slack = eye(len(A)), TIGHT * norm(A)
    above = plus([[upper * x for x in row] for row in one], F(-1), A)
    need(positive_definite(plus(A, -lower, one)) and positive_definite(above), "an eigenvalue is outside")
    tight = quotient(A, low) - lower <= slack and upper - quotient(A, high) <= slack
    need(tight, "the bounds are too wide")


def factor_growth(b: F, level: F, mu: F, gradients: Any, vector: Any) -> None:
    """Algorithm 1, gamma = 0, |G|_F^2 <= b m n mu: v' X v < v' v/level for X = P or Q, so |X^-1| > level."""
    need((b, level) in {(F(3), F(94)), (F(10), F(10**7))}, "this is not what the claim states")
    m, n = len(gradients[0]), len(gradients[0][0])
    P, Q = mean_one(eye(m)), mean_one(eye(n))
    for G in gradients:
        need(mu > 0 and sum(x * x for row in G for x in row) <= b * m * n * mu, "a gradient is too large")
        P = mean_one(plus(product(product(G, eliminated(Q)[1]), turned(G)), n * mu, eye(m)))
        Q = mean_one(plus(product(product(turned(G), eliminated(P)[1]), G), m * mu, eye(n)))
    need(any((quotient(X, vector) * level).high < ONE for X in (P, Q)), "the level is not exceeded")


def mean_one(A: Matrix) -> Matrix:
    """A over its mean eigenvalue, in intervals."""
    mean = sum((A[i][i] for i in range(len(A))), Interval.of(F(0))) * F(1, len(A))
    return [[Interval.of(x) / mean for x in row] for row in A]


def odd(coefficients: Any, x: F) -> F:
    """The odd polynomial at x."""
    return sum((c * x ** (2 * i + 1) for i, c in enumerate(coefficients)), F(0))


def proportional(x: Any, y: Any) -> bool:
    """Whether two vectors are multiples of each other."""
    return all(a * y[0] == b * x[0] for a, b in zip(x, y, strict=True))


def cubic_error(l: F, a: F, b: F, x: Any) -> Any:
    """Errors of a x + b x^3 alternate at three points of [l, 1]: every odd cubic has one above (1-l^2)^4."""
    e = [odd((a, b), y) - 1 for y in x]
    gaps = [q - p for p, q in zip([l, *x], [*x, F(1)], strict=True)]
    return l, *gaps, -e[0] * e[1], -e[1] * e[2], len(x) == 3, min(map(abs, e)) - (1 - l**2) ** 4


def other_factors(a: Matrix, mu: F, f: Any) -> Any:
    """E[G diag(x) G'] = diag(a x): Theorem 4.1 holds at P = Q = diag(f), Algorithm 1's mean moves away."""

    def statistic(weights: Matrix, damping: F) -> Any:
        return [sum(w / y for w, y in zip(row, f, strict=True)) + damping for row in weights]

    theorem = mu * sum(1 / y for y in f)
    holds = all(proportional(statistic(weights, theorem), f) for weights in (a, turned(a)))
    moves = not proportional(statistic(a, mu * len(f)), f)
    return mu, *f, *(x for row in a for x in row), sum(f) == len(f), holds, moves


def squared_gradient(k: F) -> F:
    """Least average of E w^2 over T = k^2 steps of 1x1 FISMO, 1/k each, beta = 0, f = w^2/2, w_0 = 0.

    Noise -1 (3/4) or 3 (1/4); the step is sign(w + noise)/k, so z = k (1-w) in 0..4k moves by one, or stays
    where w + noise = 0. E z'^2 - z^2 <= 1 - z gives mean E z <= 1 + z_0^2/T = 2; and w^2 >= 2 w - 1.
    """
    ends = int(4 * k)
    for z in range(ends + 1):
        drift = F(3, 4) * max(z - 1, 0) ** 2 + F(1, 4) * min(z + 1, ends) ** 2 - z**2
        need(drift <= 1 - z and k.denominator == 1, "the mean of z^2 does not fall")
    return 1 - 4 / k


def lost_step(M: F, rho: F) -> Any:
    """M^2/rho is positive, and equation 6 in float64 is off by more than the step is long."""
    m, r = float(M), float(rho)
    computed, exact = F(m / r - m * (m * m) / (r * r * (1.0 + m * m / r))), M / (rho + M**2)
    return rho, (F(m), F(r)) == (M, rho), abs(computed - exact) - abs(exact)


def same_direction(g: Any, rho: F, hessians: Any) -> Any:
    """(g g' + rho I)^-1 g is parallel to g, and not to the Newton steps g/h."""
    fisher = plus(product(turned([g]), [g]), rho, eye(len(g)))
    step = turned(product(eliminated(fisher)[1], turned([g])))[0]
    newton = [[x / y for x, y in zip(g, h, strict=True)] for h in hessians]
    return rho, len(newton), proportional(step, g), not any(proportional(step, s) for s in newton)


def fisher_ball(g: Any, r: Any) -> Any:
    """G = diag(g), P = diag(r)^2, Q = I: the printed step -diag(1/r) has less <G, X>^2/form than -P^-1 G."""
    white = [x / y for x, y in zip(g, r, strict=True)]
    return *g, *r, sum(x**2 for x in white) - sum(white) ** 2 / len(g)


def normalised_inverse(d: Any, lam: F, epsilon: F, C: F) -> Any:
    """Min-max on factors d and d: the inverse of the first product is off by more than C (epsilon + lam)."""
    first = (d[0] - min(d)) / ((max(d) - min(d)) * (1 + epsilon))
    return lam, epsilon, C, (d[0] ** 2 + lam) / (first**2 + lam) - 1 - C * (epsilon + lam)


REFUTED: dict[str, Callable[..., Any]] = {  # claim: what its instance must make positive, or true
    "FISMO-T4.1-in-algorithm": other_factors,
    "FISMO-T4.2-fisher-ball": fisher_ball,
    # one Jordan step moves a singular value away from 1
    "FISMO-TRADE-ns": lambda sigma: (sigma, 1 - sigma, abs(1 - odd(JORDAN, sigma)) - (1 - sigma)),
    # the average against C/sqrt(T) and K/T
    "FISMO-ABS-squared": lambda C, k: (C, squared_gradient(k) - C / k),
    "FISMO-NOTE-1overT": lambda K, k: (K, squared_gradient(k) - K / k**2),
    # k = 1: delta_0 = 1 - x^2, delta_1 > delta_0^3
    "KO-double-exponent": lambda x: (x, 1 - x, 1 - (x * (3 - x**2) / 2) ** 2 - (1 - x**2) ** 3),
    "PE-exponent": cubic_error,
    # row 2 acts on (0, 2 - p_1(1/1000)]
    "PE-slope-floor": lambda x: (x, 2 - odd(EXPRESS[0], F(1, 1000)) - x, F("0.236") - odd(EXPRESS[1], x) / x),
    "SOFIM-minus-one": lost_step,
    "SOFIM-curvature": same_direction,
    # f = x^2/2, L = 1, width 1, so F = lam: x_1^2/2 above x^2/(2 alpha) although alpha < 1/L
    "ADAF-P3.3": lambda x, alpha, lam: (lam, alpha, 1 - alpha, (x - alpha * x / lam) ** 2 - x**2 / alpha),
    # f = x^2/(1+x^2), beta = 1: M stays 0, and grad^2 exceeds K (1 + log T)/sqrt(T), T = q^4, log T <= 4 q
    "ADAF-P3.4": lambda x, beta, K, q: (
        (beta == 1, K, q, (2 * x / (1 + x**2) ** 2) ** 2 - K * (1 + 4 * q) / q**2)
    ),
    # losses x^2/2: |x_t| >= |x_1|, so the regret is at least T x^2/2, above K log T sqrt(T), T = q^4
    "ADAF-regret": lambda x, alpha, lam, K, q: (
        (alpha, lam, K, q, abs(1 - alpha / lam) - 1, x**2 / 2 * q**4 - K * 4 * q**3)
    ),
    "ADAF-inverse-error": normalised_inverse,
}
KINDS: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {  # kind: its check, and what it can be about
    "range": (polynomial_range, tuple(statement.split()[0] for statement in RANGES)),
    "polar": (polar_factor, ("POLAR-enclosure",)),
    "inverse-root": (inverse_root, ("ROOT-enclosure",)),
    "eigenvalues": (eigenvalue_bounds, ("NORM-enclosure",)),
    "growth": (factor_growth, ("FISMO-D.2-needed",)),
}
AS_WRITTEN = ("statement", "boxes")  # fields that are not numbers


def check(certificate: dict[str, Any]) -> str:
    """One line about a certificate that checks; `Refused` for any other."""
    fields = {name: value for name, value in certificate.items() if name not in ("id", "claim", "kind")}
    claim, kind = str(certificate.get("claim")), str(certificate.get("kind"))
    rules = dict.fromkeys(KINDS[kind][1], KINDS[kind][0]) if kind in KINDS else REFUTED
    need(kind in (*KINDS, "counterexample") and claim in rules, f"no {kind!r} about {claim!r} is known")
    need(str(fields.get("statement", claim)).split()[:1] == [claim], "the statement is that of another claim")
    wanted = list(signature(rules[claim]).parameters)
    need(sorted(fields) == sorted(wanted), f"fields must be {wanted}, got {list(fields)}")
    shown = rules[claim](**{name: x if name in AS_WRITTEN else numbers(x) for name, x in fields.items()})
    need(kind in KINDS or all(x > 0 for x in shown), "the instance does not show it")
    return f"{claim}, {kind}" + (f" of radius {fields['radius']}" if "radius" in fields else "")


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names differ."""
    need(len(dict(pairs)) == len(pairs), "a field is given twice")
    return dict(pairs)


def main() -> int:
    """Check the files named on the command line."""
    parser = argparse.ArgumentParser(description="Re-check stored certificates with exact rationals.")
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    files = parser.parse_args().files or sorted((Path(__file__).parent / "certificates").glob("*.json"))
    names, failed = list[str](), 0
    for file in files:
        try:
            content = json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=once)
            need(content.get("schema") == SCHEMA, f"schema must be {SCHEMA}")
            certificates = content["certificates"]
            need(isinstance(certificates, list) and len(certificates) > 0, "no certificates")
        except Exception as error:  # whatever goes wrong, it did not check
            failed += 1
            print(f"FAILED {file}: {type(error).__name__}: {error}")
            continue
        for position, certificate in enumerate(certificates):
            name = f"{file.name}[{position}]"
            try:
                name = str(certificate["id"])
                need(name not in names, "two certificates have this name")
                names.append(name)
                print(f"checked {name}: {check(certificate)}")
            except Exception as error:  # whatever goes wrong, it did not check
                failed += 1
                print(f"FAILED {name}: {type(error).__name__}: {error}")
    print(f"{len(names) or 'FAILED: no'} certificates, {failed} failed")
    return 0 if names and not failed else 1


if __name__ == "__main__":
    raise SystemExit(main())
