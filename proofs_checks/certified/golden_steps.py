"""FISMO-GOLDEN: the three golden steps of Algorithm 1 for six option sets, in balls.

Factors are rational operations on balls; inverse roots and the polar factor come with a proved radius.
"""

from flint import arb, arb_mat

from proofs_checks.certified.balls import at_precision
from proofs_checks.certified.eigenvectors import identity
from proofs_checks.certified.enclosures import inverse_root, polar
from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import Ratio
from proofs_checks.reproduction import fismo_golden as printed
from proofs_checks.symbolic.exact import rational

__all__ = ["three_steps"]

#: Bits, and accuracy of roots and polar factors: each step may lose some of them to the next.
_BITS, _ACCURACY = 512, 160

#: gamma = beta = mu = 1/2, eta = 1/10 (fismo.md 8.2).
_HALF, _ETA = arb(0.5), rational("1/10")


@evidence(faults=("orders-exchanged", "outer-roots-forgotten", "gamma-two-fifths"), scope="region")
@at_precision(_BITS)
def three_steps(*, fault: str | None = None) -> Finding:
    """P_3, W_3 for six option sets and Q_3 of the default one agree with every printed digit.

    Faults: Jacobi for Gauss-Seidel and back; the step is the polar factor alone; gamma is 0.4, not 0.5.
    """
    gamma = arb(rational("2/5")) if fault == "gamma-two-fifths" else _HALF
    ratios, widest = [], 0.0
    for (damping, order, scaling), (of_P, of_W) in printed.STEPS.items():
        jacobi = (order == "jacobi") != (fault == "orders-exchanged")
        theorem, unit, outer = damping == "theorem", scaling == "unit", fault != "outer-roots-forgotten"
        P, Q, W = _run(gamma, theorem=theorem, jacobi=jacobi, unit=unit, outer=outer)
        name = f"({damping}, {order}, {scaling})"
        ratios += [
            _digits(f"P_3 {name}", [P[0, 0], P[0, 1]], of_P),
            _digits(f"W_3 {name}", W.entries(), of_W),
        ]
        if (damping, order, scaling) == ("algorithm", "gauss-seidel", "none"):
            upper = [Q[i, j] for i in range(Q.nrows()) for j in range(i, Q.ncols())]
            ratios.append(_digits("Q_3, default options", upper, printed.Q_DEFAULT))
        widest = max(widest, *(float(x.rad()) for x in W.entries()))
    worst = max(ratios, key=lambda ratio: ratio.value)
    return Finding(
        tuple(ratios),
        f"3 golden steps, 6 option sets: balls of radius {widest:.0e} agree with all 54 printed numbers "
        f"within {worst.value:.2f} half units",
        figures={"widest radius": widest},
    )


def _run(
    gamma: arb, *, theorem: bool, jacobi: bool, unit: bool, outer: bool
) -> tuple[arb_mat, arb_mat, arb_mat]:
    """P, Q and W after the three golden gradients."""
    m, n = printed.GRADIENTS.shape[1:]
    P, Q = identity(m), identity(n)
    M = W = arb_mat(m, n)
    for floats in printed.GRADIENTS:
        G = arb_mat(m, n, [arb(float(x)) for x in floats.reshape(-1)])
        square = sum((x * x for x in G.entries()), arb(0))
        weight = m * n / square if unit else arb(1)  # of G G^T
        L = _statistic(G, Q, weight, theorem=theorem)
        new = _mean_one(P * gamma + L * (1 - gamma))
        R = _statistic(G.transpose(), P if jacobi else new, weight, theorem=theorem)
        P, Q = new, _mean_one(Q * gamma + R * (1 - gamma))
        A, C = (inverse_root(X, accuracy=_ACCURACY).entries for X in (P, Q))
        M = (M + A * G * C) * _HALF
        O = polar(M, accuracy=_ACCURACY // 2).entries
        W = W - (A * O * C if outer else O) * arb(_ETA)
    return P, Q, W


def _statistic(G: arb_mat, Q: arb_mat, weight: arb, *, theorem: bool) -> arb_mat:
    """``(weight G Q^-1 G^T)/n + mu d I`` with d the mean eigenvalue of ``Q^-1``, or 1."""
    n, inverse = Q.nrows(), Q.inv()
    damping = _HALF * (inverse.trace() / n if theorem else arb(1))
    return G * inverse * G.transpose() * (weight / n) + identity(G.nrows()) * damping


def _mean_one(A: arb_mat) -> arb_mat:
    return (A + A.transpose()) * (_HALF * A.nrows() / A.trace())


def _digits(name: str, values: list[arb], texts: str) -> Ratio:
    """How far balls lie from printed decimals, at worst, over half a unit of the last digit."""
    worst = 0.0
    for value, text in zip(values, texts.replace(",", " ").split(), strict=True):
        unit = arb(10) ** -len(text.partition(".")[2])
        worst = max(worst, float((2 * abs(value - arb(rational(text))) / unit).upper()))
    return Ratio(name, worst, 1.0)
