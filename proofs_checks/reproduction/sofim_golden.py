"""SOFIM-closed-form: the three golden steps."""

import numpy as np

from proofs_checks.adversarial.verdicts import DOUBLE
from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import ORDER_ONE
from proofs_checks.reproduction.printed import agrees
from reference.sofim import init, step

__all__ = ["three_steps"]

#: f(w) = (w_1^2 + 3 w_2^2) / 2, w_0 = (1, -2), beta = 0.9, rho = 0.5, eta = 0.1.
_GOLDEN = (
    "0.9973333333333, -1.984",
    "0.9946485498702, -1.967936580179",
    "0.9919447873692, -1.951806938769",
)


@evidence(faults=("no-bias-correction", "rho-squared"), scope="region")
def three_steps(*, fault: str | None = None) -> Finding:
    """Three golden steps to thirteen digits.

    Faults: the momentum is not bias-corrected; rho^2 in place of rho.
    """
    w, curvature = np.array([1.0, -2.0]), np.array([1.0, 3.0])
    beta, rho = 0.9, 0.25 if fault == "rho-squared" else 0.5
    state, ratios = init(w), []
    for t, printed in enumerate(_GOLDEN, start=1):
        update, state = step(curvature * w, state, beta=beta, rho=rho)
        if fault == "no-bias-correction":
            update = state.M / (rho + state.M @ state.M)
        w = w - 0.1 * update
        # the printed "-1.984" is exact: w_1 = w_0 - 0.1 g / 37.5
        rounding = ORDER_ONE * t * DOUBLE * float(np.abs(w).max())
        ratios.append(agrees(f"w_{t}", w, printed, rounding=rounding))
    return Finding(
        tuple(ratios),
        f"3 golden steps: largest error {max(r.value for r in ratios):.2f} of what print and rounding leave; "
        f"w_3 = ({w[0]:.13f}, {w[1]:.12f})",
        figures={ratio.name: ratio.value for ratio in ratios},
    )
