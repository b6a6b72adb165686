"""SOFIM: the Sherman-Morrison form, the closed form and what follows from it, for every dimension.

Vectors are ``d x 1`` matrices; ``M`` is the bias-corrected momentum, ``nu = M^T M``, ``F = M M^T + rho I``.
"""

import sympy
from flint import fmpq

from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import Ratio, yes_no
from proofs_checks.symbolic.carriers import Carrier
from proofs_checks.symbolic.exact import Exact, rational
from proofs_checks.symbolic.proof import Equations, prove, scalar_identity

__all__ = [
    "closed_form",
    "curvature_refuted",
    "extremes",
    "pipeline",
    "scaling",
    "sherman_morrison",
    "step_bound",
]


@evidence(faults=("rho-not-squared", "denominator-without-one", "minus-sign"))
def sherman_morrison(*, fault: str | None = None) -> Finding:
    """Equation 6 solves ``(M M^T + rho I) x = M``, and Sherman-Morrison solves ``(A + u v^T) x = b``.

    Multiply out: ``M (M^T M)`` is ``nu M`` because ``M^T M`` is a number. In numbers the left side is an
    explicit dense matrix.
    """

    def claim(x: Carrier) -> Equations:
        M, rho = x.matrix("M", x.d, 1), x.scalar("rho")
        A, u, v, b = (
            x.invertible("A", x.d),
            x.matrix("u", x.d, 1),
            x.matrix("v", x.d, 1),
            x.matrix("b", x.d, 1),
        )
        nu, one = x.trace(M.T @ M), x.identity(x.d)
        power = 1 if fault == "rho-not-squared" else 2
        two_term = (1 / rho) * M - (1 / (rho**power * (1 + nu / rho))) * (M @ (M.T @ M))
        bracket = x.trace(v.T @ A.inverse() @ u) + (0 if fault == "denominator-without-one" else 1)
        sign = 1 if fault == "minus-sign" else -1
        general = A.inverse() @ b + (sign / bracket) * (A.inverse() @ u @ v.T @ A.inverse() @ b)
        return {
            "(M M' + rho I) applied to equation 6": ((M @ M.T + rho * one) @ two_term, M),
            "(A + u v') applied to Sherman-Morrison": ((A + u @ v.T) @ general, b),
        }

    return Finding(
        prove(claim),
        "equation 6 solves (M M' + rho I) x = M, and the general form (A + u v') x = b, for all d",
    )


def _golden(fault: str | None) -> list[Ratio]:
    """Three steps on ``(w1^2 + 3 w2^2)/2`` in rationals against the printed decimals (sofim.md section 2)."""
    printed = (
        ("0.9973333333333", "-1.984"),
        ("0.9946485498702", "-1.967936580179"),
        ("0.9919447873692", "-1.951806938769"),
    )
    beta, rho, eta, hessian = fmpq(9, 10), fmpq(1, 2), fmpq(1, 10), (fmpq(1), fmpq(3))
    w, M, ratios = [fmpq(1), fmpq(-2)], [fmpq(0), fmpq(0)], []
    for t, row in enumerate(printed, start=1):
        M = [beta * old + (1 - beta) * h * v for old, h, v in zip(M, hessian, w, strict=True)]
        debiased = M if fault == "golden-without-bias-correction" else [v / (1 - beta**t) for v in M]
        size = sum((v * v for v in debiased), fmpq(0))
        w = [v - eta * g / (rho + size) for v, g in zip(w, debiased, strict=True)]
        for value, text in zip(w, row, strict=True):
            half_unit = fmpq(1, 2 * 10 ** len(text.partition(".")[2]))
            ratios.append(yes_no(f"golden step {t}", abs(value - rational(text)) <= half_unit))
    return ratios


@evidence(faults=("eigenvalue-nu-only", "golden-without-bias-correction"))
def closed_form(*, fault: str | None = None) -> Finding:
    """The step is ``M/(rho + nu)``: ``M`` is an eigenvector of ``F`` with eigenvalue ``rho + nu``."""

    def claim(x: Carrier) -> Equations:
        M, rho = x.matrix("M", x.d, 1), x.scalar("rho")
        nu = x.trace(M.T @ M)
        value = nu if fault == "eigenvalue-nu-only" else rho + nu
        F = M @ M.T + rho * x.identity(x.d)
        two_term = (1 / rho) * M - (nu / (rho**2 * (1 + nu / rho))) * M
        return {"F M": (F @ M, value * M), "equation 6 is a multiple of M": (two_term, (1 / value) * M)}

    return Finding(
        (*prove(claim), *_golden(fault)),
        "F M = (rho + nu) M for all d, so F^-1 M = M/(rho + nu); the three golden steps agree to the last "
        "printed digit",
    )


@evidence(faults=("isotropic-curvature", "newton-for-sofim"), refutes=True)
def curvature_refuted(*, fault: str | None = None) -> Finding:
    """SOFIM does not resemble a Newton step: its direction is ``M`` whatever the curvature.

    Two functions with gradient (1, 3) at the start and Hessians diag(1, 3) and diag(1/10, 30). SOFIM's first
    step is parallel to (1, 3) for both; the Newton steps are (1, 1) and (10, 1/10), parallel to neither it
    nor each other.
    """
    g, rho = (fmpq(1), fmpq(3)), fmpq(1, 2)
    hessians = ((fmpq(1), fmpq(3)), (fmpq(1, 10), fmpq(30)))
    if fault == "isotropic-curvature":
        hessians = ((fmpq(1), fmpq(1)), (fmpq(30), fmpq(30)))
    M = Exact([[g[0]], [g[1]]])
    step = (M @ M.T + rho * Exact.identity(2)).inverse() @ M  # the dense solve, no closed form
    sofim = (step.entries[0][0], step.entries[1][0])
    newton = [(g[0] / a, g[1] / b) for a, b in hessians]
    if fault == "newton-for-sofim":
        sofim = newton[0]

    def cross(a: tuple[fmpq, fmpq], b: tuple[fmpq, fmpq]) -> fmpq:
        return a[0] * b[1] - a[1] * b[0]

    return Finding(
        (
            yes_no("SOFIM's step is parallel to the gradient", cross(sofim, g) == 0),
            yes_no("it is not parallel to the first Newton step", cross(sofim, newton[0]) != 0),
            yes_no("nor to the second", cross(sofim, newton[1]) != 0),
            yes_no("the two Newton steps differ", cross(newton[0], newton[1]) != 0),
        ),
        f"gradient (1, 3): SOFIM's step ({sofim[0]}, {sofim[1]}) for any Hessian, Newton's (1, 1) or (10, "
        "1/10)",
        counterexample={
            "gradient": "1, 3",
            "rho": str(rho),
            "Hessian diagonals": "1, 3 and 1/10, 30",
            "SOFIM step, eta = 1": f"{sofim[0]}, {sofim[1]}",
            "Newton steps": "; ".join(f"{a}, {b}" for a, b in newton),
        },
    )


@evidence(faults=("bound-without-the-2", "slope-sign"))
def step_bound(*, fault: str | None = None) -> Finding:
    """Step length ``eta y/(rho + y^2) <= eta/(2 sqrt(rho))``, attained at ``y = sqrt(rho)``, falling beyond.

    With ``r = sqrt(rho)``: the slack is ``(y - r)^2/(2 r (r^2 + y^2))`` and the slope is
    ``(r - y)(r + y)/(r^2 + y^2)^2``.
    """
    y, r = sympy.symbols("y r", positive=True)
    length = y / (r**2 + y**2)
    bound = 1 / r if fault == "bound-without-the-2" else 1 / (2 * r)
    sign = -1 if fault == "slope-sign" else 1
    return Finding(
        (
            scalar_identity("slack", bound - length, (y - r) ** 2 / (2 * r * (r**2 + y**2))),
            scalar_identity("attained at sqrt(rho)", length.subs(y, r), bound),
            scalar_identity("slope", sympy.diff(length, y), sign * (r - y) * (r + y) / (r**2 + y**2) ** 2),
        ),
        "eta/(2 sqrt(rho)) - length is a square over a positive number, zero exactly at |M| = sqrt(rho); "
        "the length falls beyond",
    )


@evidence(faults=("rho-scaled-once", "loss-scale-one", "rotation-for-scaling"))
def scaling(*, fault: str | None = None) -> Finding:
    """``(f, eta, rho) -> (c f, c eta, c^2 rho)`` leaves the iterates; neither loss scale nor coordinates
    alone do.

    The momentum is linear in the gradients, so it scales by ``c``. Loss scale 2 at ``M = 1``, ``rho = 1``
    turns a step of 1/2 into 2/5. With ``w = B z``, ``B = diag(1, 2)``, the step seen in ``w`` is along
    ``B B^T g``: (1, 4) for ``g = (1, 1)``. A natural-gradient step is the same in all coordinates:
    ``B (B^T F B)^-1 B^T = F^-1``.
    """

    def claim(x: Carrier) -> Equations:
        M, rho, eta, c = x.matrix("M", x.d, 1), x.scalar("rho"), x.scalar("eta"), x.scalar("c")
        B, F = x.invertible("B", x.d), x.positive("F", x.d)
        nu = x.trace(M.T @ M)
        new_rho = c * rho if fault == "rho-scaled-once" else c**2 * rho
        scaled = c * M
        return {
            "(c f, c eta, c^2 rho)": (
                (c * eta / (new_rho + x.trace(scaled.T @ scaled))) * scaled,
                (eta / (rho + nu)) * M,
            ),
            "natural gradient in coordinates w = B z": (B @ (B.T @ F @ B).inverse() @ B.T, F.inverse()),
        }

    c = fmpq(1) if fault == "loss-scale-one" else fmpq(2)
    M, rho = fmpq(1), fmpq(1)
    B = Exact.diagonal(fmpq(1), fmpq(-1) if fault == "rotation-for-scaling" else fmpq(2))
    g = Exact([[1], [1]])
    seen = (B @ B.T @ g).entries
    return Finding(
        (
            *prove(claim),
            yes_no("loss scale alone changes the step", c * M / (rho + c * c * M * M) != M / (rho + M * M)),
            yes_no("coordinates change the direction", seen[0][0] != seen[1][0]),
        ),
        "(c f, c eta, c^2 rho) is exact for all d; loss scale 2 turns 1/2 into 2/5, w = diag(1, 2) z turns "
        "(1, 1) into (1, 4)",
    )


@evidence(faults=("no-bias-correction", "weights-unnormalised"))
def pipeline(*, fault: str | None = None) -> Finding:
    """Bias correction: ``M_1 = g_1``, and ``M_t`` is a weighted mean of the gradients.

    The weights of ``M_t`` before correction sum to ``S_t = beta S_{t-1} + 1 - beta``, and
    ``S_t = 1 - beta^t`` solves it from ``S_0 = 0``; dividing by ``1 - beta^t`` makes the sum 1. Each weight
    ``(1-beta) beta^(t-s)/(1-beta^t)`` is positive for ``0 < beta < 1``.
    """
    beta, t, g = sympy.symbols("beta t g", positive=True)
    total = 1 - beta**t
    correction = 1 if fault == "no-bias-correction" else 1 - beta
    gain = 1 if fault == "weights-unnormalised" else 1 - beta
    before = 1 - beta**t / beta
    ratios = [
        scalar_identity("M_1 = g_1", (1 - beta) * g / correction, g),
        scalar_identity("S_t = beta S_{t-1} + 1 - beta", sympy.expand(beta * before + gain), total),
        scalar_identity("S_0 = 0", total.subs(t, 0)),
    ]
    for steps in range(1, 6):
        weights = [gain * beta ** (steps - s) for s in range(1, steps + 1)]
        ratios.append(scalar_identity(f"weights at t = {steps}", sympy.Add(*weights) / (1 - beta**steps), 1))
    return Finding(tuple(ratios), "weights (1-beta) beta^(t-s)/(1-beta^t) sum to 1 for every t; M_1 = g_1")


@evidence(faults=("variance-factor-inverted", "sign-kept", "lag-of-beta"))
def extremes(*, fault: str | None = None) -> Finding:
    """Small, large and negative ``rho``, and what ``beta`` sets.

    Small: the stability range ``2 (1+beta)/(1-beta) rho/L`` is linear in ``rho``, while the cap
    ``eta/(2 sqrt(rho))`` grows. Large: the step differs from momentum with step ``eta/rho`` by the share
    ``nu/(rho+nu)``. Negative: with ``rho = -a`` the factor ``1/(nu - a)`` is negative below ``nu = a`` and
    positive above. Steady state of the averages: the variance share solves ``V = beta^2 V + (1-beta)^2``,
    the mean age of a gradient ``A = beta (A + 1)``.
    """
    rho, nu, a, z, beta, L, r = sympy.symbols("rho nu a z beta L r", positive=True)
    V = (1 + beta) / (1 - beta) if fault == "variance-factor-inverted" else (1 - beta) / (1 + beta)
    age = beta if fault == "lag-of-beta" else beta / (1 - beta)
    below = 1 / z if fault == "sign-kept" else -1 / z
    limit = 2 * (1 + beta) / (1 - beta) * rho / L
    return Finding(
        (
            scalar_identity("stability range is linear in rho", limit, rho * limit.subs(rho, 1)),
            scalar_identity("the cap grows as rho falls", sympy.diff(1 / (2 * r), r), -1 / (2 * r**2)),
            scalar_identity("large rho", 1 - (1 / (rho + nu)) / (1 / rho), nu / (rho + nu)),
            scalar_identity("negative rho, nu = a - z", 1 / ((a - z) - a), below),
            scalar_identity("negative rho, nu = a + z", 1 / ((a + z) - a), 1 / z),
            scalar_identity("variance share", V, beta**2 * V + (1 - beta) ** 2),
            scalar_identity("mean age", age, beta * (age + 1)),
        ),
        "range linear in rho, cap eta/(2 sqrt(rho)), share nu/(rho+nu) off momentum, sign flip at nu = "
        "|rho|, variance factor (1-beta)/(1+beta), mean age beta/(1-beta)",
    )
