"""DYKAF-vs-KL: Frobenius and KL factors of one covariance, in exact rationals."""

from collections.abc import Sequence

import sympy
from flint import fmpq

from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import yes_no
from proofs_checks.symbolic.proof import scalar_identity

__all__ = ["frobenius_against_kl"]

Row = Sequence[fmpq]


def _kl_defect(D: Sequence[Row], p: Row) -> tuple[fmpq, fmpq]:
    """What is left of the two KL equations for ``P = Q = diag(p)``, a common scale put in for the best.

    ``p_i^2 sum`` is compared through ratios: with ``w_i = sum_j D_ij/p_j`` the equations ask for
    ``p_i = w_i/2`` up to one scale, so ``w_1 p_2 - w_2 p_1`` must vanish; the twin is the transpose.
    """
    w = [sum((D[i][j] / p[j] for j in range(2)), fmpq(0)) for i in range(2)]
    z = [sum((D[i][j] / p[i] for i in range(2)), fmpq(0)) for j in range(2)]
    return w[0] * p[1] - w[1] * p[0], z[0] * p[1] - z[1] * p[0]


def _frobenius_defect(D: Sequence[Row], p: Row, *, inverse: bool) -> tuple[fmpq, fmpq]:
    """The same for the stationary equations ``l ~ D r``, ``r ~ D^T l`` with ``l = r = p``."""
    x = [1 / value for value in p] if inverse else list(p)
    w = [sum((D[i][j] * x[j] for j in range(2)), fmpq(0)) for i in range(2)]
    z = [sum((D[i][j] * x[i] for i in range(2)), fmpq(0)) for j in range(2)]
    return w[0] * p[1] - w[1] * p[0], z[0] * p[1] - z[1] * p[0]


@evidence(faults=("kronecker-covariance", "frobenius-with-inverse"), scope="region")
def frobenius_against_kl(*, fault: str | None = None) -> Finding:
    """A covariance whose KL factors have condition 2 and whose Frobenius factors have condition 3.

    Independent entries of variance ``D_ij``, a diagonal covariance: factors are diagonal, the KL equations
    are ``p_i ~ sum_j D_ij/q_j`` and its transpose, the Frobenius ones ``l ~ D r``, ``r ~ D^T l``. For
    ``D = [[1, 9/8], [9/8, 4]]``: ``P = Q ~ diag(1, 2)`` and ``L = R ~ diag(1, 3)``, and neither solves the
    other's equations. For every ``D = [[1, b], [b, c]]``, ``c = x^2``, the KL ratio is x and it is a
    Frobenius ratio iff ``(x^2 - 1) (x - b) = 0``: equal variances, or ``b^2 = c``, which is Kronecker.
    """
    b = fmpq(2) if fault == "kronecker-covariance" else fmpq(9, 8)
    D = [[fmpq(1), b], [b, fmpq(4)]]
    kl, frobenius = [fmpq(1), fmpq(2)], [fmpq(1), fmpq(3) if b != 2 else fmpq(2)]
    inverse = fault == "frobenius-with-inverse"
    x, y, off = sympy.symbols("x y b", positive=True)
    kl_equation = y * (y + off) - (off * y + x**2)  # w_2/w_1 = y, times y w_1
    frobenius_equation = (off + x**2 * y) - y * (1 + off * y)
    return Finding(
        (
            yes_no("diag(1, 2) solves the KL equations", not any(_kl_defect(D, kl))),
            yes_no(
                "diag(1, 3) solves the Frobenius equations",
                not any(_frobenius_defect(D, frobenius, inverse=inverse)),
            ),
            yes_no(
                "the KL factors do not solve the Frobenius equations",
                any(_frobenius_defect(D, kl, inverse=inverse)),
            ),
            yes_no("the Frobenius factors do not solve the KL equations", any(_kl_defect(D, frobenius))),
            scalar_identity("the KL ratio of the family is x", kl_equation.subs(y, x)),
            scalar_identity(
                "Frobenius equation at the KL ratio",
                frobenius_equation.subs(y, x),
                (x**2 - 1) * (x - off),
            ),
        ),
        "variances [[1, 9/8], [9/8, 4]]: KL factors diag(1, 2), Frobenius factors diag(1, 3), exactly; in "
        "the family [[1, b], [b, x^2]] they agree iff x = 1 or b = x, the Kronecker case",
        counterexample={
            "covariance": "diag(1, 9/8, 9/8, 4)",
            "KL factors": "P = Q = diag(1, 2), up to scale",
            "Frobenius factors": "L = R = diag(1, 3), up to scale",
        },
    )
