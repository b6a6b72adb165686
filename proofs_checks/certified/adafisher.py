"""AdaFisher in exact rationals: printed statements refuted, the released averaging, a normalisation block."""

from collections.abc import Sequence

import sympy
from flint import fmpq

from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import Ratio, yes_no
from proofs_checks.symbolic.adafisher import denominators, minmax
from proofs_checks.symbolic.exact import rational
from proofs_checks.symbolic.proof import scalar_identity

__all__ = [
    "convex_rate_refuted",
    "inverse_error_refuted",
    "momentum_one_refuted",
    "normalization_block",
    "regret_refuted",
    "released_bands",
]

#: The default damping.
LAM = fmpq(1, 1000)

#: What counts as a small error here.
SMALL = fmpq(1, 100)

Rows = list[list[fmpq]]


def quadratic_path(x: fmpq, *, alpha: fmpq, lam: fmpq, steps: int) -> list[fmpq]:
    """AdaFisher on ``x^2/2``, where both factors have width 1, are constant, and ``F = lam``: no momentum."""
    ((F,),) = denominators(minmax([x * x]), minmax([x * x]), lam)
    path = [x]
    for _ in range(steps):
        path.append(path[-1] - alpha * path[-1] / F)
    return path


#: Inputs (1, 0) and (0, 2) of a 2 x 2 linear layer with the loss ``E|W h|^2/2``: the Hessian of each row is
#: diag(1/2, 2).
INPUTS = ((fmpq(1), fmpq(0)), (fmpq(0), fmpq(2)))


def layer_step(W: Rows, *, alpha: fmpq, lam: fmpq) -> Rows:
    """One AdaFisher step on ``E|W h|^2/2`` over `INPUTS`: factors measured, normalised, no momentum."""
    outputs = [[sum((w * a for w, a in zip(row, h, strict=True)), fmpq(0)) for row in W] for h in INPUTS]
    half = fmpq(1, len(INPUTS))
    h_D = [half * sum((h[k] ** 2 for h in INPUTS), fmpq(0)) for k in range(2)]
    s_D = [half * sum((s[j] ** 2 for s in outputs), fmpq(0)) for j in range(2)]
    F = denominators(minmax(h_D), minmax(s_D), lam)
    G = [
        [half * sum((s[j] * h[k] for s, h in zip(outputs, INPUTS, strict=True)), fmpq(0)) for k in range(2)]
        for j in range(2)
    ]
    return [[W[j][k] - alpha * G[j][k] / F[j][k] for k in range(2)] for j in range(2)]


def layer_loss(W: Rows) -> fmpq:
    """``E|W h|^2/2``."""
    return sum((row[0] ** 2 / 4 + row[1] ** 2 for row in W), fmpq(0))


@evidence(faults=("no-preconditioner", "corrected-step"), refutes=True)
def convex_rate_refuted(*, fault: str | None = None) -> Finding:
    """Proposition 3.3 is false: with ``alpha <= 1/L``, ``f_k - f*`` exceeds ``|x_0 - x*|^2/(2 alpha k)``.

    ``f = x^2/2``, ``L = 1``, ``lam = 1/1000``, ``alpha = 1``: ``x -> -999 x``. Width 1 is not needed: on a
    2 x 2 linear layer with inputs (1, 0) and (0, 2), ``L = 2`` and ``alpha = 1/2``, the first column of W has
    ``h' = 0`` and ``F = lam`` whatever the gradients are, and goes to -249 times itself in a step. The first
    step is the same with any momentum, by bias correction.
    """
    lam = fmpq(1) if fault == "no-preconditioner" else LAM
    correction = lam if fault == "corrected-step" else fmpq(1)  # eta L <= lam_min(F)
    x = quadratic_path(fmpq(1), alpha=correction, lam=lam, steps=3)
    W = [[fmpq(1), fmpq(1)], [fmpq(2), fmpq(-1)]]
    path, start = [W], sum((w * w for row in W for w in row), fmpq(0))
    for _ in range(3):
        path.append(layer_step(path[-1], alpha=correction / 2, lam=lam))
    scalar = [(x[k] ** 2 / 2, x[0] ** 2 / (2 * k)) for k in (1, 2, 3)]
    layer = [(layer_loss(path[k]), start / k) for k in (1, 2, 3)]  # 2 alpha = 1
    return Finding(
        (
            yes_no("x^2/2: above the bound at k = 1, 2, 3", all(f > bound for f, bound in scalar)),
            yes_no("2 x 2 layer: above the bound at k = 1, 2, 3", all(f > bound for f, bound in layer)),
            yes_no("growth by -999 and by -249", x[1] == -999 * x[0] and path[1][0][0] == -249 * W[0][0]),
        ),
        f"x^2/2, alpha = 1/L: f_1 - f* = {x[1] ** 2 / 2} against a bound of {x[0] ** 2 / 2}; 2 x 2 layer: "
        f"{float_text(layer_loss(path[1]))} against {start}",
        counterexample={
            "f": "x^2/2, x_0 = 1",
            "lam": str(lam),
            "alpha = 1/L": str(correction),
            "x_1, x_2, x_3": ", ".join(map(str, x[1:])),
            "bound at k = 1": str(x[0] ** 2 / 2),
            "layer": "inputs (1, 0), (0, 2), W_0 = 1, 1; 2, -1, alpha = 1/2",
            "W_1": "; ".join(", ".join(map(str, row)) for row in path[1]),
        },
    )


@evidence(faults=("beta-below-one", "stationary-start"), refutes=True)
def momentum_one_refuted(*, fault: str | None = None) -> Finding:
    """Proposition 3.4 is false at its endpoint ``beta = 1``: the momentum stays 0 and nothing moves.

    ``f = x^2/(1+x^2)`` from ``x = 1``: bounded below, gradient ``2x/(1+x^2)^2`` bounded and 2-Lipschitz, no
    noise, ``F = lam`` by width 1, so that ``F sqrt(t)/eta`` grows as assumed. Every squared gradient is 1/4.
    For any constants the bound is at most ``K (1 + log T)/sqrt(T)``, and with ``T = q^4``,
    ``log T <= 4 q``, it is at most ``5 K/q``: below 1/4 at ``q = 20 K + 1``, with ``1/4 - 5 K/q = 1/(4 q)``.
    With bias correction the step is 0/0 instead.
    """
    beta = fmpq(9, 10) if fault == "beta-below-one" else fmpq(1)
    x = x_0 = fmpq(0) if fault == "stationary-start" else fmpq(1)
    ((F,),) = denominators(minmax([x_0]), minmax([x_0]), LAM)
    M, squares = fmpq(0), []
    for _ in range(4):
        g = 2 * x / (1 + x * x) ** 2
        squares.append(g * g)
        M = beta * M + (1 - beta) * g
        x = x - fmpq(1, 100) * M / F  # the size of the step does not matter
    K, q = sympy.symbols("K q", positive=True)
    at = 20 * K + 1
    return Finding(
        (
            yes_no("the iterate never moves", x == x_0),
            yes_no("every squared gradient is 1/4", all(square == fmpq(1, 4) for square in squares)),
            yes_no("the bias correction divides by zero", 1 - beta == 0),
            scalar_identity(
                "5 K/q - K (1 + 4 q)/q^2", 5 * K / q - K * (1 + 4 * q) / q**2, K * (q - 1) / q**2
            ),
            scalar_identity("1/4 - 5 K/q at q = 20 K + 1", sympy.Rational(1, 4) - 5 * K / at, 1 / (4 * at)),
        ),
        "beta = 1: x stays at 1 with squared gradient 1/4, while K (1 + log T)/sqrt(T) is below 1/4 at T = "
        "(20 K + 1)^4 for every K",
        counterexample={
            "f": "x^2/(1+x^2), x_0 = 1",
            "beta": str(beta),
            "squared gradients": ", ".join(map(str, squares)),
            "T for constants summing to K": "(20 K + 1)^4",
        },
    )


@evidence(faults=("no-preconditioner", "corrected-step"), refutes=True)
def regret_refuted(*, fault: str | None = None) -> Finding:
    """Regret ``O(log T sqrt(T))`` is not unconditional: constant losses ``x^2/2`` give at least ``T/2``.

    ``lam = 1/1000``, constant step 1, ``x_1 = 1``: ``|x_t| = 999^(t-1)``, every loss is at least 1/2 and the
    minimiser 0 has none. For every K, with ``T = q^4`` and ``log T <= 4 q``, ``K log T sqrt(T)`` is at most
    ``4 K q^3``, and ``T/2 - 4 K q^3 = q^3/2`` at ``q = 8 K + 1``. (Even as stated the rate is worse than
    Shampoo's ``sqrt(T)``, by the factor ``log T``.)
    """
    lam = fmpq(1) if fault == "no-preconditioner" else LAM
    alpha = lam if fault == "corrected-step" else fmpq(1)
    path = quadratic_path(fmpq(1), alpha=alpha, lam=lam, steps=9)
    regret = [sum((x * x / 2 for x in path[:T]), fmpq(0)) for T in range(1, 11)]
    claimed = [fmpq(T, 2) for T in range(1, 11)]
    K = sympy.Symbol("K", positive=True)
    at = 8 * K + 1
    return Finding(
        (
            yes_no("the factor is at least 1 in size", abs(path[1] / path[0]) >= 1),
            yes_no(
                "regret at least T/2 for T = 1..10", all(r >= c for r, c in zip(regret, claimed, strict=True))
            ),
            scalar_identity("T/2 - 4 K q^3 at q = 8 K + 1", at**4 / 2 - 4 * K * at**3, at**3 / 2),
        ),
        f"losses x^2/2, constant step: x_t+1 = {path[1] / path[0]} x_t, regret at least T/2, above "
        "K log T sqrt(T) at T = (8 K + 1)^4 for every K",
        counterexample={
            "loss": "x^2/2 in every round, x_1 = 1, comparator 0",
            "lam, step": f"{lam}, {alpha}",
            "x_2": str(path[1]),
            "regret at T = 1, 2, 3": ", ".join(map(str, regret[:3])),
        },
    )


@evidence(faults=("not-normalised", "damping-one"), refutes=True)
def inverse_error_refuted(*, fault: str | None = None) -> Finding:
    """Min-max does not keep the inverse within ``O(epsilon + lam)``: the error grows like ``1/lam``.

    ``(1, 2) x (1, 2)`` becomes ``(0, 1) x (0, 1)``: the first inverse goes from ``1/(1+lam)`` to ``1/lam``, a
    relative error of exactly ``1/lam``, the next two from ``1/(2+lam)`` to ``1/lam``, an error of ``2/lam``,
    for every epsilon. A common factor does not help: two entries whose ratio changes by r leave a relative
    error of at least ``(r-1)/(r+1)``.
    """
    lam, epsilon = fmpq(1) if fault == "damping-one" else LAM, fmpq(1, 10**6)
    d = [fmpq(1), fmpq(2)]
    factor = d if fault == "not-normalised" else minmax(d, epsilon=epsilon)
    exact = [x for row in denominators(d, d, lam) for x in row]
    normal = [x for row in denominators(factor, factor, lam) for x in row]
    errors = [a / b - 1 for a, b in zip(exact, normal, strict=True)]
    error, allowed = max(errors), epsilon + lam
    turned = (exact[0] / normal[0]) / (exact[-1] / normal[-1])
    shared = (turned - 1) / (turned + 1)
    symbol = sympy.Symbol("lam", positive=True)
    return Finding(
        (
            scalar_identity("relative error", (1 / symbol) / (1 / (1 + symbol)) - 1, 1 / symbol),
            yes_no("1/lam and 2/lam on the instance", errors[:3] == [1 / lam, 2 / lam, 2 / lam]),
            yes_no("error above 1 where epsilon + lam is far below", error > 1 and allowed < SMALL),
            yes_no("near 1 even after the best common factor", shared > 1 - SMALL),
        ),
        f"(1, 2) x (1, 2), lam = {lam}, epsilon = {epsilon}: relative error of the inverse {error}, at least "
        f"{float_text(shared)} after the best common factor",
        counterexample={
            "factors": "(1, 2) and (1, 2)",
            "normalised": ", ".join(map(str, factor)),
            "lam, epsilon": f"{lam}, {epsilon}",
            "inverse without normalisation": str(1 / exact[0]),
            "inverse with": str(1 / normal[0]),
        },
    )


@evidence(faults=("weights-of-the-paper", "start-at-zero", "slope-of-the-average"))
def released_bands(*, fault: str | None = None) -> Finding:
    """The released averaging: fixed point 1/115, product 7.56 % of lam, F nearly a scalar after 3 refreshes.

    ``a -> (2/25) a + (1/125) x`` from 1, x in [0, 1]: after k refreshes the factor lies between
    ``(2/25)^k`` and ``1/115 + (2/25)^k (114/115)``, by induction, since the map is increasing in a and x. The
    upper end decreases to 1/115, whose square is ``1/13225``: 7.5614 % of ``lam = 1/1000``. The bands of F
    after the first and second refresh are exact; after the third, and ever after, F is within 8.5 % of lam.
    """
    old, new = rational("0.08"), rational("0.008")
    if fault == "weights-of-the-paper":
        old, new = fmpq(4, 5), fmpq(1, 5)
    slope = fmpq(1, 10) if fault == "slope-of-the-average" else old
    low = high = fmpq(0) if fault == "start-at-zero" else fmpq(1)
    fixed = new / (1 - old)
    bands, closed = [], []
    for k in range(1, 4):
        low, high = old * low, old * high + new
        closed.append(low == slope**k and high == fixed + slope**k * (1 - fixed))
        bands.append((low * low + LAM, high * high + LAM))
    printed = ((rational("0.0074"), rational("0.008744")), (rational("0.00104096"), rational("0.0012262016")))
    third = (rational("0.0010003"), rational("0.0010847"))
    half = fmpq(1, 2 * 10**7)
    a, c, e, t = sympy.symbols("a c e t", positive=True)  # 1 - old, new, distance from the fixed point, old^k
    below, above = 1000 * fmpq(1, 13225), rational("0.0757")
    ratios: list[Ratio] = [
        yes_no("fixed point 1/115", fixed == fmpq(1, 115)),
        yes_no("squared, 7.56 % of lam", fixed**2 / LAM == below and rational("0.0756") < below < above),
        scalar_identity("one refresh of 1/115 + e", (1 - a) * (c / a + e) + c, c / a + (1 - a) * e),
        scalar_identity("the upper end decreases", (c / a + t * e) - (c / a + t * (1 - a) * e), t * a * e),
        yes_no("closed form of both ends, k = 1, 2, 3", all(closed)),
        yes_no("bands after refresh 1 and 2, exact", tuple(bands[:2]) == printed),
        yes_no(
            "band after refresh 3, as printed",
            all(abs(x - y) <= half for x, y in zip(bands[2], third, strict=True)),
        ),
        yes_no("F below 1.085 lam from then on", bands[2][1] < rational("1.085") * LAM),
    ]
    return Finding(
        tuple(ratios),
        f"fixed point {fixed}, its square {float_text(100 * fixed**2 / LAM)} % of lam; F/lam at most "
        + ", ".join(float_text(high / LAM) for _, high in bands)
        + " after 1, 2, 3 refreshes, falling",
    )


def factor_and_block(h: Sequence[fmpq], s: Sequence[fmpq], *, sites: str = "all") -> tuple[fmpq, fmpq, fmpq]:
    """One channel, one sample: product of factors in v3's form, in the submission's, and the exact entry."""
    T = len(h)
    S = sum((b * b for b in s), fmpq(0)) / T
    v3 = sum((a * a for a in h), fmpq(0)) / T * S
    submission = (sum(h, fmpq(0)) / T) ** 2 * S
    pairs = [
        (x, y) for x in range(T) for y in range(T) if sites == "all" or x == y
    ]  # the exact entry has every pair of sites
    exact = sum((h[x] * s[x] * h[y] * s[y] for x, y in pairs), fmpq(0))
    return v3, submission, exact


@evidence(faults=("same-site-terms-only", "one-site", "submission-in-place-of-v3"), scope="region")
def normalization_block(*, fault: str | None = None) -> Finding:
    """The factorised normalisation-layer block is not the exact one, and v3's is not the submission's.

    One channel, one sample, T sites. All ones: exact ``T^2``, factorised 1 in both forms; 4 against 1 at two
    sites. Activations 1 and -1, gradients 1: v3 has 1, the submission 0 and the exact entry is 0. Activations
    1 and -1, gradients 1 and -1: v3 has 1, the submission 0 and the exact entry is 4. Neither bounds the
    exact entry from either side.
    """
    sites = "same" if fault == "same-site-terms-only" else "all"

    def found(h: Sequence[int], s: Sequence[int]) -> tuple[fmpq, ...]:
        v3, submission, exact = factor_and_block([fmpq(a) for a in h], [fmpq(b) for b in s], sites=sites)
        return (submission if fault == "submission-in-place-of-v3" else v3, submission, exact)

    two = 1 if fault == "one-site" else 2
    ones = [found([1] * T, [1] * T) for T in range(1, 7)]
    return Finding(
        (
            yes_no("two sites of ones: 1 against 4", found([1] * two, [1] * two) == (1, 1, 4)),
            yes_no("T sites of ones: 1 against T^2", ones == [(1, 1, T * T) for T in range(1, 7)]),
            yes_no("cancelling activations: 1, 0, exact 0", found([1, -1], [1, 1]) == (1, 0, 0)),
            yes_no("aligned signs: 1, 0, exact 4", found([1, -1], [1, -1]) == (1, 0, 4)),
        ),
        "one channel, ones: exact T^2, factorised 1 (4 against 1 at two sites); activations 1, -1: v3 1, "
        "submission 0, exact 0 or 4 by the gradients' signs",
    )


def float_text(value: fmpq) -> str:
    """Six digits of a rational, for the summary."""
    return f"{int(value.p) / int(value.q):.6g}"
