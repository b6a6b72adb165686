"""T1 and T2: how fast the alternation ``P = P*(Q)``, ``Q = Q*(P)`` converges, and to what."""

import math

import sympy
from flint import fmpq

from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import Ratio, yes_no
from proofs_checks.symbolic.carriers import Carrier, Numbers
from proofs_checks.symbolic.cone import Nonnegative, Psd
from proofs_checks.symbolic.kronecker import block_minimiser, left_factor, right_factor
from proofs_checks.symbolic.proof import SHAPES, Equations, prove, scalar_identity

__all__ = ["contraction", "jacobi_is_two_chains", "unique_minimiser"]


@evidence(faults=("upper-bound-forgets-mu", "diameter-halved", "factor-without-the-2", "factor-too-small"))
def contraction(*, fault: str | None = None) -> Finding:
    """T1: the half-steps contract Hilbert's metric by ``c = g2 / (g2 + 2 mu)``.

    ``phi(X) = (E[G X G^T] + mu tr(X) I) / n`` lies between ``mu tr(X)/n`` and ``(g2 + mu) tr(X)/n`` times the
    identity, so two images are at most ``2 log((g2 + mu)/mu)`` apart. Birkhoff-Hopf turns a projective
    diameter ``D`` into the contraction factor ``tanh(D/4)``. Inversion, the other half of a half-step, is an
    isometry. The a-posteriori bound is the fixed point of ``d <- c^2 (e + d)``.
    """

    def claim(x: Carrier) -> Equations:
        X, Y, G = x.positive("X", x.n), x.positive("Y", x.n), x.matrix("G", x.m, x.n)
        u, v = x.matrix("u", x.m, 1), x.matrix("v", x.n, 1)
        mu, g2, one = x.scalar("mu"), x.scalar("g2"), x.identity(x.m)
        share = Nonnegative.positive(1 / x.n)
        phi = (1 / x.n) * (G @ X @ G.T + mu * x.trace(X) * one)
        bounded = Psd.assumed(x, g2 * x.trace(X) * one - G @ X @ G.T)  # the definition of g2
        top = g2 if fault == "upper-bound-forgets-mu" else g2 + mu
        return {
            "phi(X) - mu tr(X)/n I": (
                phi - (mu / x.n) * x.trace(X) * one,
                share * Psd.assumed(x, X).under(G),
            ),
            "(g2 + mu) tr(X)/n I - phi(X)": ((top / x.n) * x.trace(X) * one - phi, share * bounded),
            "g2 is the same from both sides": (
                x.trace(u.T @ G @ v @ v.T @ G.T @ u),
                x.trace(v.T @ G.T @ u @ u.T @ G @ v),
            ),
            "inversion is an isometry": (
                Y @ X.inverse(),
                Y @ (Y.inverse() @ X).inverse() @ Y.inverse(),
            ),
        }

    s, mu, a, b, e = sympy.symbols("s mu a b e", positive=True)
    g2 = mu * (s**2 - 1)  # s^2 = (g2 + mu)/mu, so that tanh(log(s^2)/2) is rational in s
    spread = ((g2 + mu) * a / (mu * b)) / (mu * a / ((g2 + mu) * b))
    diameter = s**2 if fault == "diameter-halved" else s**4
    c = g2 / (g2 + mu) if fault == "factor-without-the-2" else g2 / (g2 + 2 * mu)
    bound = c**2 * e / (1 - c**2)
    return Finding(
        (
            *prove(claim),
            scalar_identity("exp of the projective diameter", spread, diameter),
            scalar_identity("tanh(D/4) = g2/(g2 + 2 mu)", (s - 1 / s) / (s + 1 / s), c),
            scalar_identity("1 - c = 2 mu/(g2 + 2 mu) > 0", 1 - c, 2 * mu / (g2 + 2 * mu)),
            scalar_identity("a-posteriori bound", c**2 * (e + bound), bound),
            *(diagonal := _diagonal_contraction(weak=fault == "factor-too-small"))[0],
        ),
        "image between mu and g2 + mu times tr(X)/n, hence c = g2/(g2 + 2 mu) for all sizes; exact diagonal "
        f"problem reaches {diagonal[1]:.6f} of c. Trusted: Birkhoff-Hopf",
        tightness=diagonal[1],
    )


def _diagonal_contraction(*, weak: bool) -> tuple[list[Ratio], float]:
    """The contraction on diagonal matrices in exact rationals, where ``exp d_H`` is rational.

    The law puts ``G = e_i e_j^T`` so that ``E[G diag(x) G^T] = diag(A x)`` and ``g2`` is the largest entry of
    ``A``. With ``c = p/q`` the statement is ``rho_image^q <= rho^p``.
    """
    ratios, best = [], 0.0
    for A, mu in (([[3, 0], [0, 3]], 1), ([[2, 0, 1], [0, 2, 2]], 1), ([[5, 1], [0, 4], [1, 5]], 2)):
        g2 = max(max(row) for row in A)
        c = fmpq(g2, g2 + mu * (4 if weak else 2))
        for nudge in (fmpq(1001, 1000), fmpq(2), fmpq(50)):
            X, Y = [fmpq(1)] * len(A[0]), [nudge, *[fmpq(1)] * (len(A[0]) - 1)]
            images = [
                [
                    sum((a * v for a, v in zip(row, V, strict=True)), fmpq(0)) + mu * sum(V, fmpq(0))
                    for row in A
                ]
                for V in (X, Y)
            ]
            rho, image = _spread(X, Y), _spread(*images)
            ratios.append(yes_no("diagonal contraction", image ** int(c.q) <= rho ** int(c.p)))
            best = max(best, _log(image) * int(c.q) / (int(c.p) * _log(rho)))
    return ratios, math.floor(best * 1e6) / 1e6


def _spread(X: list[fmpq], Y: list[fmpq]) -> fmpq:
    quotients = [a / b for a, b in zip(X, Y, strict=True)]
    return max(quotients) / min(quotients)


def _log(value: fmpq) -> float:
    return math.log(int(value.p)) - math.log(int(value.q))


@evidence(faults=("gauss-seidel-for-jacobi", "one-step-per-sweep"))
def jacobi_is_two_chains(*, fault: str | None = None) -> Finding:
    """T2: two Jacobi steps are one Gauss-Seidel sweep on each of two chains that never mix.

    With ``p, q`` any two maps, ``(P, Q) -> (p(Q), q(P))`` applied twice is ``(p(q(P)), q(p(Q)))``: the new
    ``Q`` depends on the old ``Q`` only, through exactly one sweep, and likewise for ``P``. This is the
    induction step; a factor ``c`` per sweep is ``sqrt(c)`` per Jacobi step.
    """
    p, q = sympy.Function("p"), sympy.Function("q")
    P, Q = sympy.symbols("P Q")

    def jacobi(P: sympy.Expr, Q: sympy.Expr) -> tuple[sympy.Expr, sympy.Expr]:
        fresh = p(Q)
        return fresh, q(fresh if fault == "gauss-seidel-for-jacobi" else P)

    twice = jacobi(P, Q) if fault == "one-step-per-sweep" else jacobi(*jacobi(P, Q))
    ratios = [yes_no("two steps are one sweep of each chain", twice == (p(q(P)), q(p(Q))))]
    steps = 1 if fault == "one-step-per-sweep" else 2
    for seed, (m, n) in enumerate(SHAPES):
        x = Numbers(seed, m, n)
        G, mu = x.matrix("G", x.m, x.n), x.scalar("mu")
        left, right = x.positive("P", x.m), x.positive("Q", x.n)
        alone = right
        for _ in range(2):
            alone = right_factor(x, G, left_factor(x, G, alone.inverse(), mu).inverse(), mu)
            for _ in range(steps):
                fresh = left_factor(x, G, right.inverse(), mu)
                stale = fresh if fault == "gauss-seidel-for-jacobi" else left
                left, right = fresh, right_factor(x, G, stale.inverse(), mu)
        ratios.append(yes_no("four Jacobi steps are two sweeps", right == alone))
    return Finding(
        tuple(ratios),
        "two Jacobi steps equal one Gauss-Seidel sweep on each of two separate chains, for any maps; four "
        f"steps equal two sweeps exactly on {len(SHAPES)} rational problems",
    )


@evidence(faults=("damping-not-homogeneous", "gauge-both-up"))
def unique_minimiser(*, fault: str | None = None) -> Finding:
    """For ``mu > 0`` a minimiser exists for any data, and ``Q kron P`` is unique.

    The sweep contracts Hilbert's metric (T1), in which rays of positive definite matrices are complete, so it
    has exactly one fixed ray, reached from every start (Banach). From any start ``J`` never increases
    (block minimiser) and is constant along the gauge, so its value there is the least. On the ray:
    ``P*(cQ) = P*(Q)/c`` and ``Q*(P/c) = c Q*(P)``, so ``c`` moves scale between the factors and cancels in
    ``Q kron P``.
    """

    def claim(x: Carrier) -> Equations:
        P, Q, G = x.positive("P", x.m), x.positive("Q", x.n), x.matrix("G", x.m, x.n)
        mu, c = x.scalar("mu"), x.scalar("c")
        damped = c * mu if fault == "damping-not-homogeneous" else mu
        moved = (c if fault == "gauge-both-up" else 1 / c) * right_factor(x, G, P.inverse(), mu)
        return {
            "P*(cQ) = P*(Q)/c": (
                left_factor(x, G, (c * Q).inverse(), damped),
                (1 / c) * left_factor(x, G, Q.inverse(), mu),
            ),
            "Q*(cP) = Q*(P)/c": (right_factor(x, G, (c * P).inverse(), mu), moved),
        }

    return Finding(
        (*prove(claim), *contraction().ratios, *block_minimiser().ratios),
        "one fixed ray by T1, J least there by monotone alternation, Q kron P free of gauge, for all sizes "
        "and data. Trusted: Birkhoff-Hopf, completeness of the projective cone, Banach's fixed point theorem",
    )
