"""FISMO-D.2-needed: above the threshold of b, stored rational gradients push the inverse factors far."""

import json

from flint import arb, arb_mat

from proofs_checks.certified.balls import at_precision
from proofs_checks.certified.enclosures import eigenvalues, frobenius
from proofs_checks.certified.export import FOLDER
from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import yes_no
from proofs_checks.symbolic.exact import rational

__all__ = ["gauss_seidel_growth"]

#: Bits: every step may square the condition number, and the last radius is still below 1e-30.
_BITS = 512


@evidence(faults=("theorem-damping", "b-below-one", "one-gradient"), scope="region")
@at_precision(_BITS)
def gauss_seidel_growth(*, fault: str | None = None) -> Finding:
    """Algorithm 1, 3x3, ``gamma = 0``, Gauss-Seidel: at b = 3, 20 gradients reach ``|P^-1| > 94``.

    At b = 10, 12 gradients pass 1e7. ``b >= 1`` makes the bound ``1/(1-b)`` void, so what is certified is the
    growth: the gradients are stored rationals with ``|G|_F^2 <= b m n mu``, factors and least eigenvalues are
    balls.
    Faults: the theorem's damping; gradients scaled to b = 9/10; the first gradient only.
    """
    ratios, reached = [], []
    stored = json.loads((FOLDER / "growth.json").read_text(encoding="utf-8"))["certificates"]
    for record in stored:
        b, mu, level = (rational(record[name]) for name in ("b", "mu", "level"))
        gradients = [_matrix(G) for G in record["gradients"]]
        if fault == "one-gradient":
            gradients = gradients[:1]
        if fault == "b-below-one":
            scale = (arb(9) / (10 * arb(b))).sqrt()
            gradients = [G * scale for G in gradients]
        size = gradients[0].nrows() * gradients[0].ncols() * arb(mu)
        inside = all(bool(frobenius(G) <= (arb(b) * size).sqrt()) for G in gradients)
        P, Q = _factors(gradients, arb(mu), theorem=fault == "theorem-damping")
        least = min((eigenvalues(X)[0] for X in (P, Q)), key=float)
        ratios += [
            yes_no(f"|G|_F^2 at most b m n mu, b = {b}", inside),
            yes_no(f"|P^-1| or |Q^-1| above {level}, b = {b}", bool(1 / least > arb(level))),
        ]
        reached.append(f"b = {b}: {float(1 / least):.5g} after {len(gradients)} gradients")
    return Finding(
        tuple(ratios),
        "3x3, gamma = 0, Gauss-Seidel, |P^-1| or |Q^-1| certified: " + "; ".join(reached),
        counterexample={"gradients": "proofs_checks/certificates/growth.json", "mu": "1/10", "gamma": "0"},
    )


def _factors(gradients: list[arb_mat], mu: arb, *, theorem: bool) -> tuple[arb_mat, arb_mat]:
    m, n = gradients[0].nrows(), gradients[0].ncols()
    P, Q = _identity(m), _identity(n)
    for G in gradients:
        P = _mean_one(G * Q.inv() * G.transpose() + _identity(m) * (mu * (Q.inv().trace() if theorem else n)))
        Q = _mean_one(G.transpose() * P.inv() * G + _identity(n) * (mu * (P.inv().trace() if theorem else m)))
    return P, Q


def _mean_one(A: arb_mat) -> arb_mat:
    """A over its mean eigenvalue, symmetric."""
    mean = A.trace() / A.nrows()
    return (A + A.transpose()) * (arb(0.5) / mean)


def _identity(n: int) -> arb_mat:
    return arb_mat(n, n, [int(i == j) for i in range(n) for j in range(n)])


def _matrix(rows: list[list[str]]) -> arb_mat:
    return arb_mat([[arb(rational(x)) for x in row] for row in rows])
