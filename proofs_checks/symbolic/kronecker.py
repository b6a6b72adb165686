"""Theorem 4.1: the objective ``J`` and its minimisers, for all sizes.

The expectation acts on the pair ``(G, G^T)`` only and every identity is linear in that pair, so one generic
gradient ``G`` stands for it.
"""

from typing import Any

import sympy

from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import yes_no
from proofs_checks.symbolic.carriers import Carrier, Numbers
from proofs_checks.symbolic.networks import contract
from proofs_checks.symbolic.proof import SHAPES, Equations, prove, scalar_identity

__all__ = ["block_minimiser", "fixed_point", "log_det_divergence", "pseudo_samples", "recovery"]


def data_term(x: Carrier, G: Any, P_inverse: Any, Q_inverse: Any, mu: Any) -> Any:
    """``tr(P^-1 G Q^-1 G^T) + mu tr(P^-1) tr(Q^-1)``, the part of `J` that sees data and damping."""
    return x.trace(P_inverse @ G @ Q_inverse @ G.T) + mu * x.trace(P_inverse) * x.trace(Q_inverse)


def objective(x: Carrier, G: Any, P: Any, Q: Any, mu: Any) -> Any:
    """``J(P, Q)`` of fismo.md 2.1."""
    return data_term(x, G, P.inverse(), Q.inverse(), mu) + x.n * x.log_det(P) + x.m * x.log_det(Q)


def left_factor(x: Carrier, G: Any, Q_inverse: Any, mu: Any) -> Any:
    """``P*(Q) = (E[G Q^-1 G^T] + mu tr(Q^-1) I) / n``."""
    return (1 / x.n) * (G @ Q_inverse @ G.T + mu * x.trace(Q_inverse) * x.identity(x.m))


def right_factor(x: Carrier, G: Any, P_inverse: Any, mu: Any) -> Any:
    """``Q*(P) = (E[G^T P^-1 G] + mu tr(P^-1) I) / m``."""
    return (1 / x.m) * (G.T @ P_inverse @ G + mu * x.trace(P_inverse) * x.identity(x.n))


@evidence(faults=("trace-of-P-dropped", "power-of-P-wrong", "gauge-not-inverse"))
def log_det_divergence(*, fault: str | None = None) -> Finding:
    """``J`` is the log-det divergence of ``E[v v^T] + mu I`` to ``Q kron P``, up to a constant.

    The trace part is a sum over indices: ``v^T (Q^-1 kron P^-1) v`` with ``v[(j, i)] = G[i, j]`` is one
    closed loop and ``tr(Q^-1 kron P^-1)`` is two. The log part is ``det(Q kron P) = det(P)^n det(Q)^m``.
    Under ``(c P, Q / c)`` the traces cancel ``c`` and the logarithms add ``n m log c - m n log c``.
    """

    def claim(x: Carrier) -> Equations:
        P, Q, G = x.positive("P", x.m), x.positive("Q", x.n), x.matrix("G", x.m, x.n)
        mu, c = x.scalar("mu"), x.scalar("c")
        A, B = P.inverse(), Q.inverse()
        wrong = fault == "power-of-P-wrong"
        quadratic = contract(
            x, [(G, "i", "j"), (B, "j", "l"), (A @ A if wrong else A, "i", "k"), (G, "k", "l")]
        )
        trace = contract(x, [(B, "j", "j")] + ([] if fault == "trace-of-P-dropped" else [(A, "i", "i")]))
        P_scaled, Q_scaled = c * P, (c if fault == "gauge-not-inverse" else 1 / c) * Q
        return {
            "tr((v v' + mu I)(Q kron P)^-1)": (quadratic + mu * trace, data_term(x, G, A, B, mu)),
            "traces of J(cP, Q/c)": (
                data_term(x, G, P_scaled.inverse(), Q_scaled.inverse(), mu),
                data_term(x, G, A, B, mu),
            ),
        }

    c, m, n = sympy.symbols("c m n", positive=True)
    logs = n * (m * sympy.log(c)) + m * (n * sympy.log(1 / c))
    ratios = [*prove(claim), scalar_identity("logarithms of J(cP, Q/c)", logs)]
    for seed, (rows, cols) in enumerate(SHAPES):
        x = Numbers(seed, rows, cols)
        P, Q, G, mu = x.positive("P", x.m), x.positive("Q", x.n), x.matrix("G", x.m, x.n), x.scalar("mu")
        F, v = Q.kron(P), G.vec()
        S = v @ v.T + mu * x.identity(x.m * x.n)
        direct = (S @ F.inverse()).trace()
        ratios += [
            yes_no("J by elimination of Q kron P", direct == data_term(x, G, P.inverse(), Q.inverse(), mu)),
            yes_no("det(Q kron P)", F.determinant() == P.determinant() ** cols * Q.determinant() ** rows),
        ]
    return Finding(
        tuple(ratios),
        "J = log-det divergence to Q kron P + const, and J(cP, Q/c) = J(P, Q), for all sizes and in exact "
        f"rationals on {len(SHAPES)} shapes. Trusted: det(Q kron P) = det(P)^n det(Q)^m for all sizes",
    )


@evidence(faults=("damping-not-divided-by-n", "m-for-n", "log-det-sign"))
def fixed_point(*, fault: str | None = None) -> Finding:
    """The stationary points of ``J`` are the solutions of Theorem 4.1's two equations.

    The slope of ``J`` in a direction ``E`` is ``n tr(P^-1 (P - P*(Q)) P^-1 E)``, read off as the linear part
    in the perturbation. It vanishes for every symmetric ``E`` only if ``P = P*(Q)``: the choice
    ``E = P - P*(Q)`` makes it ``n |A E A|_F^2`` with ``A = P^-1/2``. The same for ``Q``.
    """

    def claim(x: Carrier) -> Equations:
        P, Q, G = x.positive("P", x.m), x.positive("Q", x.n), x.matrix("G", x.m, x.n)
        E, F, A, mu = x.symmetric("E", x.m), x.symmetric("F", x.n), x.positive("A", x.m), x.scalar("mu")
        P_star, Q_star = left_factor(x, G, Q.inverse(), mu), right_factor(x, G, P.inverse(), mu)
        if fault == "damping-not-divided-by-n":
            P_star = P_star + (1 - 1 / x.n) * (mu * x.trace(Q.inverse()) * x.identity(x.m))
        if fault == "m-for-n":
            Q_star = (x.m / x.n) * Q_star
        P_gap = P_star if fault == "log-det-sign" else P - P_star
        dual = A @ E @ A
        return {
            "slope of J in P": (
                x.slope(objective(x, G, P + x.t * E, Q, mu)),
                x.n * x.trace(P.inverse() @ P_gap @ P.inverse() @ E),
            ),
            "slope of J in Q": (
                x.slope(objective(x, G, P, Q + x.t * F, mu)),
                x.m * x.trace(Q.inverse() @ (Q - Q_star) @ Q.inverse() @ F),
            ),
            "the slope along the gap is a squared norm": (
                x.trace(A @ A @ E @ A @ A @ E),
                x.trace(dual @ dual.T),
            ),
        }

    return Finding(
        prove(claim),
        "dJ[E] = n tr(P^-1 (P - P*(Q)) P^-1 E) and its twin in Q, for all sizes; zero for all E iff both "
        f"equations of Theorem 4.1 hold; the slopes agree with differentiated elimination on {len(SHAPES)} "
        "shapes",
    )


@evidence(faults=("half-the-damping", "m-for-n", "divergence-sign"))
def block_minimiser(*, fault: str | None = None) -> Finding:
    """Each half-step is the exact minimiser of its block, so ``J`` never increases.

    With ``S = P*(Q)`` the data term is ``n tr(P^-1 S)``, hence ``J(P, Q) - J(S, Q)`` is ``n`` times the
    log-det divergence ``tr(S P^-1) - log det(S P^-1) - m``, the sum of ``x - log x - 1`` over the positive
    eigenvalues of ``S P^-1``. That function is 0 at 1 and has slope ``(x - 1)/x``: negative before 1,
    positive after.
    """

    def claim(x: Carrier) -> Equations:
        P, Q, G, mu = x.positive("P", x.m), x.positive("Q", x.n), x.matrix("G", x.m, x.n), x.scalar("mu")
        half = mu / 2 if fault == "half-the-damping" else mu
        count = x.m if fault == "m-for-n" else x.n
        return {
            "data term = n tr(P^-1 P*(Q))": (
                data_term(x, G, P.inverse(), Q.inverse(), mu),
                count * x.trace(P.inverse() @ left_factor(x, G, Q.inverse(), half)),
            ),
            "data term = m tr(Q^-1 Q*(P))": (
                data_term(x, G, P.inverse(), Q.inverse(), mu),
                x.m * x.trace(Q.inverse() @ right_factor(x, G, P.inverse(), half)),
            ),
            "at its own minimiser the data term is n m": (x.n * x.trace(P.inverse() @ P), x.n * x.m),
        }

    y, t = sympy.symbols("y t", positive=True)
    excess = y + sympy.log(y) - 1 if fault == "divergence-sign" else y - sympy.log(y) - 1
    slope = sympy.diff(excess, y)
    return Finding(
        (
            *prove(claim),
            scalar_identity("y - log y - 1 vanishes at 1", excess.subs(y, 1)),
            scalar_identity("its slope before 1, y = 1/(1+t), is -t", slope.subs(y, 1 / (1 + t)), -t),
            scalar_identity("its slope after 1, y = 1+t, is t/(1+t)", slope.subs(y, 1 + t), t / (1 + t)),
        ),
        "J(P, Q) - J(P*(Q), Q) is n times a log-det divergence, non-negative by y - log y - 1 >= 0, for all "
        "sizes; the same for Q. Trusted: the spectral theorem",
    )


@evidence(faults=("weight-mu-squared", "trace-of-X-squared"))
def pseudo_samples(*, fault: str | None = None) -> Finding:
    """The damping is ``m n`` pseudo-gradients ``sqrt(mu) e_i e_j^T`` of weight one in the expectation.

    ``sum_ij mu e_i (e_j^T X e_j) e_i^T``: the index ``j`` closes the loop ``tr(X)``, the index ``i`` is the
    path through the identity. In numbers the unit matrices are added one by one.
    """

    def claim(x: Carrier) -> Equations:
        X, mu = x.positive("X", x.n), x.scalar("mu")
        e_m, e_n = x.identity(x.m), x.identity(x.n)
        weight = mu * mu if fault == "weight-mu-squared" else mu
        total = contract(
            x,
            [(e_m, "a", "i"), (e_n, "j", "b"), (X, "b", "c"), (e_n, "c", "j"), (e_m, "i", "d")],
            open_indices=("a", "d"),
        )
        size = x.trace(X @ X) if fault == "trace-of-X-squared" else x.trace(X)
        return {"sum of mu e_i e_j' X e_j e_i'": (weight * total, mu * size * x.identity(x.m))}

    ratios = list(prove(claim))
    for seed, (rows, cols) in enumerate(SHAPES):
        x = Numbers(seed, rows, cols)
        G, X, mu = x.matrix("G", x.m, x.n), x.positive("Q_inverse", x.n), x.scalar("mu")
        total = G @ X @ G.T
        for i in range(rows):
            for j in range(cols):
                unit = x.identity(x.m).column(i) @ x.identity(x.n).column(j).T
                total = total + mu * (unit @ X @ unit.T)
        enlarged = (1 / x.n) * total
        ratios.append(yes_no("P*(Q) from the enlarged sample", enlarged == left_factor(x, G, X, mu)))
    return Finding(
        tuple(ratios),
        "sum_ij mu e_i e_j' X e_j e_i' = mu tr(X) I for all sizes; the undamped factor of the enlarged "
        f"sample is P*(Q), added up one by one on {len(SHAPES)} shapes",
    )


@evidence(faults=("stale-second-step", "law-forgets-X"))
def recovery(*, fault: str | None = None) -> Finding:
    """With ``mu = 0`` and covariance ``V kron U`` one sweep from any start recovers it.

    ``E[G X G^T] = tr(V X) U`` gives ``P = (s/n) U`` with ``s = tr(V Q_0^-1)``, and then
    ``E[G^T X G] = tr(U X) V`` gives ``Q = (n/s) V``; the scales cancel in ``Q kron P``. Such a law exists:
    ``m n`` equally likely gradients ``sqrt(m n) A e_i e_j^T B^T`` with ``A A^T = U``, ``B B^T = V``.
    """

    def claim(x: Carrier) -> Equations:
        U, V, Q_0 = x.positive("U", x.m), x.positive("V", x.n), x.positive("Q0", x.n)
        A, B, X = x.invertible("A", x.m), x.invertible("B", x.n), x.positive("X", x.n)
        s = x.trace(V @ Q_0.inverse())
        P = (s / x.n) * U
        used = U if fault == "stale-second-step" else P
        Q = (1 / x.m) * (x.trace(U @ used.inverse()) * V)
        middle = B.T @ B if fault == "law-forgets-X" else B.T @ X @ B
        law = contract(x, [(A, "a", "i"), (middle, "j", "j"), (A, "d", "i")], open_indices=("a", "d"))
        return {
            "Q after one sweep": (Q, (x.n / s) * V),
            "E[G X G'] of the law": (law, x.trace(B @ B.T @ X) * (A @ A.T)),
        }

    return Finding(
        prove(claim),
        "mu = 0, covariance V kron U: one sweep from any Q_0 gives P = (s/n) U and Q = (n/s) V, so Q kron P "
        "= V kron U, for all sizes",
    )
