"""AdaFisher's update: bias-corrected momentum first, the denominator without a root afterwards."""

import sympy
from flint import fmpq

from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import yes_no
from proofs_checks.symbolic.adafisher import denominators
from proofs_checks.symbolic.proof import scalar_identity

__all__ = ["update_rule"]


@evidence(faults=("correction-one-step-late", "root-of-the-denominator", "denominator-inside-the-average"))
def update_rule(*, fault: str | None = None) -> Finding:
    """``m_t/(1 - beta^t)`` is a mean of the gradients; the step is linear in them and divides by F itself.

    With one gradient g throughout ``m_t = (1 - beta^t) g`` solves the recursion from ``m_0 = 0``: every step
    from the first on is ``F^-1 g``. The printed start at ``t = 0`` divides by ``1 - beta^0 = 0``. A root of F
    would take the entries of the golden F, which are no squares, to irrational steps. Momentum before and
    after the denominator agree only while F stays the same.
    """
    beta, t, F0, F1, g0, g1 = sympy.symbols("beta t F_0 F_1 g_0 g_1", positive=True)
    at = t - 1 if fault == "correction-one-step-late" else t
    lam = fmpq(1, 1000)
    golden = denominators([fmpq(1), fmpq(1, 4), fmpq(0)], [fmpq(1), fmpq(0)], lam)
    steps = [[_taken(F, root=fault == "root-of-the-denominator") for F in row] for row in golden]
    m1, m2 = (1 - beta) * g0, beta * (1 - beta) * g0 + (1 - beta) * g1
    inside = beta * (1 - beta) * g0 / F0 + (1 - beta) * g1 / F1
    outside = inside if fault == "denominator-inside-the-average" else m2 / F1
    return Finding(
        (
            scalar_identity(
                "constant gradient: beta (1 - beta^(t-1)) + 1 - beta",
                sympy.expand(beta * (1 - beta ** (t - 1)) + 1 - beta),
                sympy.expand(1 - beta**t),
            ),
            scalar_identity("constant gradient: m_t/(1 - beta^t)", (1 - beta**t) / (1 - beta**at), 1),
            scalar_identity("first step", m1 / (1 - beta), g0),
            scalar_identity(
                "weights of the first two gradients", (beta * (1 - beta) + 1 - beta) / (1 - beta**2), 1
            ),
            yes_no("at t = 0 the correction divides by zero", (1 - beta**t).subs(t, 0) == 0),
            scalar_identity(
                "averaging preconditioned gradients is off by",
                inside - outside,
                beta * (1 - beta) * g0 * (1 / F0 - 1 / F1),
            ),
            yes_no(
                "golden steps with gradient 1",
                steps == [[fmpq(1000, 1001), fmpq(1000, 251), fmpq(1000)], [fmpq(1000)] * 3],
            ),
        ),
        "bias correction, its start, order of momentum and denominator, and the golden steps 1000/1001, "
        "1000/251, 1000 in exact arithmetic",
    )


def _taken(F: fmpq, *, root: bool) -> fmpq:
    """``1/F``; with a root, the nearest thousandth of ``1/sqrt F``."""
    return fmpq(int(1000 / float(F) ** 0.5), 1000) if root else 1 / F
