"""Theorem 4.2: the trust-region step, its value, and what its ball is."""

from typing import Any

from flint import fmpq

from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import yes_no
from proofs_checks.symbolic.carriers import Carrier
from proofs_checks.symbolic.cone import Nonnegative, Psd
from proofs_checks.symbolic.exact import Exact
from proofs_checks.symbolic.networks import contract
from proofs_checks.symbolic.proof import Equations, prove

__all__ = [
    "fisher_ball_refuted",
    "frobenius_ball",
    "gauge_of_roots",
    "polar_duality",
    "polar_enclosure",
    "spectral_step",
]


def low_rank(
    x: Carrier, rows: Any, cols: Any, names: tuple[str, str, str] = ("U", "D", "V")
) -> tuple[Any, Any, Any]:
    """``U``, ``D``, ``V`` of a thin singular value decomposition ``U D^2 V^T`` with r singular values
    ``D^2``."""
    left, middle, right = names
    return x.isometry(left, rows, x.r), x.diagonal(middle, x.r), x.isometry(right, cols, x.r)


def dual_norm_slack(x: Carrier, U: Any, D: Any, V: Any, Y: Any, eta: Any) -> Nonnegative:
    """By how much ``<U D^2 V^T, Y>`` exceeds ``-eta tr(D^2)`` when ``|Y|_2 <= eta``.

    It is ``eta/2`` times ``|D (V^T + U^T Y/eta)|_F^2 + tr(D U^T (I - Y Y^T/eta^2) U D)``, and the matrix in
    the middle is positive semidefinite because that is what ``|Y|_2 <= eta`` means. No trace inequality is
    quoted.
    """
    inside = Psd.assumed(x, x.identity(U.rows) - (1 / eta**2) * (Y @ Y.T))
    miss = V.T + (1 / eta) * (U.T @ Y)
    return Nonnegative.positive(eta / 2) * (Psd.gram(x, D @ miss).trace() + inside.under(D @ U.T).trace())


@evidence(faults=("left-root-forgotten", "nuclear-norm-of-the-square", "slack-without-the-half"))
def spectral_step(*, fault: str | None = None) -> Finding:
    """``X = -eta A Polar(A G C) C`` with ``A = P^-1/2``, ``C = Q^-1/2`` solves the spectral trust-region
    problem.

    With ``A G C = U D^2 V^T`` the whitened step is ``-eta U V^T``, a partial isometry times ``eta``:
    feasible with equality. Its value is ``-eta tr(D^2)``, and no feasible point does better by
    `dual_norm_slack`.
    """

    def claim(x: Carrier) -> Equations:
        A, C, eta = x.positive("A", x.m), x.positive("C", x.n), x.scalar("eta")
        U, D, V = low_rank(x, x.m, x.n)
        Y = x.matrix("Y", x.m, x.n)  # any whitened step
        G = A.inverse() @ U @ D @ D @ V.T @ C.inverse()
        X = -eta * (U @ V.T @ C if fault == "left-root-forgotten" else A @ U @ V.T @ C)
        nuclear = x.trace(D @ D @ D @ D if fault == "nuclear-norm-of-the-square" else D @ D)
        slack = dual_norm_slack(x, U, D, V, Y, eta)
        if fault == "slack-without-the-half":
            slack = slack + slack
        O = (-1 / eta) * (A.inverse() @ X @ C.inverse())
        return {
            "the whitened step is eta times an isometry": (O @ O.T @ O, O),
            "value": (x.trace(G.T @ X), -eta * nuclear),
            "objective in whitened coordinates": (x.trace(G.T @ A @ Y @ C), x.trace((A @ G @ C).T @ Y)),
            "no feasible step is lower": (x.trace((A @ G @ C).T @ Y) + eta * nuclear, slack),
        }

    return Finding(
        prove(claim),
        "-eta P^-1/2 Polar(G~) Q^-1/2 is feasible with equality, its value is -eta |G~|_*, and the excess "
        "of any feasible step is a sum of squares, for all sizes and ranks. Trusted: existence of the SVD",
    )


@evidence(faults=("frobenius-for-nuclear", "complement-changes-the-value", "unique-without-an-inverse"))
def polar_duality(*, fault: str | None = None) -> Finding:
    """``max <M, X>`` over ``|X|_2 <= 1`` is ``|M|_*``, attained at the polar factor, uniquely iff full rank.

    Upper bound: `dual_norm_slack` at ``-X``. If it vanishes then ``D (V^T - U^T X) = 0``, and with full row
    rank ``U`` is orthogonal, so ``X = U V^T``; wide matrices, tall ones by transposition. With rank below
    both sizes, ``U V^T + c u v^T`` for unit vectors orthogonal to the ranges has the same value for every
    ``c`` in [-1, 1]. At full rank ``X X^T = I``: Muon's step has condition number 1.
    """

    def claim(x: Carrier) -> Equations:
        U, D, V = low_rank(x, x.m, x.n)
        M, Y = U @ D @ D @ V.T, x.matrix("Y", x.m, x.n)
        nuclear = x.trace(M @ M.T if fault == "frobenius-for-nuclear" else D @ D)

        W, S, Z = low_rank(x, x.r, x.e, ("W", "S", "Z"))  # full row rank: W is square
        X = x.matrix("X", x.r, x.e)
        scaled_miss = S @ (W.T @ X - Z.T)  # the first square in the slack; zero when X is optimal
        back = W if fault == "unique-without-an-inverse" else W @ S.inverse()

        U1, u = x.frames(("U1", "u"), x.d, x.r, 1)
        V1, v = x.frames(("V1", "v"), x.e, x.r, 1)
        c, radius = x.scalar("c"), x.r / x.r  # the ball of radius one, as a number of the carrier
        extra = U1 @ V1.T if fault == "complement-changes-the-value" else u @ v.T
        other = U1 @ V1.T + c * extra
        rest = x.identity(x.d) - U1 @ U1.T - u @ u.T
        return {
            "value at the polar factor": (x.trace(M.T @ U @ V.T), nuclear),
            "no X is higher": (nuclear - x.trace(M.T @ Y), dual_norm_slack(x, U, D, V, -Y, radius)),
            "full rank: X is W Z' plus what the slack kills": (X, W @ Z.T + back @ scaled_miss),
            "full rank: condition number 1": (W @ Z.T @ Z @ W.T, x.identity(x.r)),
            "deficient: same value": (x.trace((U1 @ D @ D @ V1.T).T @ other), x.trace(D @ D)),
            "deficient: feasible": (
                x.identity(x.d) - other @ other.T,
                Psd.gram(x, rest).value + (1 - c**2) * (u @ u.T),
            ),
        }

    return Finding(
        prove(claim),
        "max <M, X> over the spectral ball is |M|_* at the partial isometry; a maximiser is unique at full "
        "rank and there is a segment of them otherwise, for all sizes. Trusted: existence of the SVD",
    )


@evidence(faults=("P-and-Q-swapped", "constraint-term-dropped"))
def frobenius_ball(*, fault: str | None = None) -> Finding:
    """The Fisher quadratic form is the Frobenius norm of the whitened step; its ball gives natural gradient.

    ``vec(X)^T (Q kron P) vec(X)`` contracts to ``|A^-1 X C^-1|_F^2``. For a whitened gradient ``W`` and step
    ``Y``: ``2 eta nu (<W, Y> + eta nu) = |eta W + nu Y|^2 + nu^2 (eta^2 - |Y|^2) + eta^2 (nu^2 - |W|^2)``,
    whose last term is zero at ``nu = |W|_F``; so the least value on the ball is ``-eta nu``, attained at
    ``-eta W/nu``, which is ``X = -eta P^-1 G Q^-1/nu``.
    """

    def claim(x: Carrier) -> Equations:
        A, C, G = x.positive("A", x.m), x.positive("C", x.n), x.matrix("G", x.m, x.n)
        X, Y = x.matrix("X", x.m, x.n), x.matrix("Y", x.m, x.n)
        eta, nu = x.scalar("eta"), x.scalar("nu")
        P, Q = (A @ A).inverse(), (C @ C).inverse()
        if fault == "P-and-Q-swapped":
            P, Q = P.inverse(), Q.inverse()
        form = contract(x, [(X, "i", "j"), (Q, "j", "l"), (P, "i", "k"), (X, "k", "l")])
        white = A.inverse() @ X @ C.inverse()
        W = A @ G @ C
        size_W, size_Y, inner = x.trace(W @ W.T), x.trace(Y @ Y.T), x.trace(W.T @ Y)
        mix = eta * W + nu * Y
        inside = 0 if fault == "constraint-term-dropped" else nu**2 * (eta**2 - size_Y)
        return {
            "Fisher form = Frobenius norm of the whitened step": (form, x.trace(white @ white.T)),
            "the excess is a sum of squares": (
                2 * eta * nu * (inner + eta * nu),
                x.trace(mix @ mix.T) + inside + eta**2 * (nu**2 - size_W),
            ),
            "the minimiser is natural gradient": (A @ W @ C, (A @ A) @ G @ (C @ C)),
        }

    return Finding(
        prove(claim),
        "vec(X)'(Q kron P)vec(X) = |P^1/2 X Q^1/2|_F^2; over its ball the minimiser is -eta P^-1 G "
        "Q^-1/|G~|_F with value -eta |G~|_F by a sum of squares, for all sizes",
    )


@evidence(faults=("natural-gradient-step", "rank-one-gradient"), refutes=True)
def fisher_ball_refuted(*, fault: str | None = None) -> Finding:
    """The printed step is not the minimiser over the ball of the Fisher quadratic form.

    ``P = diag(4, 1)``, ``Q = I``, ``G = diag(6, 4)``, radius 1, so ``G~ = diag(3, 4)``. The printed step
    ``-diag(1/2, 1)`` has Fisher form 2, outside; shrunk by ``sqrt(2)`` onto the ball its value is
    ``-7/sqrt(2)``, while the natural-gradient step ``-diag(3/10, 4/5)`` is on the ball with value -5, and
    ``49/2 < 25``.
    """
    second = 0 if fault == "rank-one-gradient" else 4
    G, P = Exact.diagonal(fmpq(6), fmpq(second)), Exact.diagonal(fmpq(4), fmpq(1))
    root = Exact.diagonal(fmpq(1, 2), fmpq(1))
    white = root @ G
    size = fmpq(5) if second else fmpq(3)  # |G~|_F, a Pythagorean triple
    isometry = Exact.diagonal(fmpq(1), fmpq(1) if second else fmpq(0))
    natural = (-1 / size) * (root @ white)
    printed = natural if fault == "natural-gradient-step" else -(root @ isometry)

    def form(X: Exact) -> fmpq:
        return (X.T @ P @ X).trace()

    def value(X: Exact) -> fmpq:
        return (G.T @ X).trace()

    shrunk = value(printed) * value(printed) / form(printed)  # value squared of the printed step on the ball
    best = value(natural) * value(natural)
    return Finding(
        (
            yes_no("|G~|_F", (white @ white.T).trace() == size**2),
            yes_no("the natural-gradient step is on the ball", form(natural) == 1),
            yes_no("the printed step is outside the ball", form(printed) > 1),
            yes_no("shrunk onto the ball it is worse", shrunk < best),
        ),
        f"printed step: Fisher form {form(printed)} against radius 1; shrunk onto the ball its value "
        f"squared is {shrunk}, natural gradient's {best}",
        counterexample={
            "P": str(P),
            "Q": str(Exact.identity(2)),
            "G": str(G),
            "eta": "1",
            "printed step": str(printed),
            "Fisher form of the printed step": str(form(printed)),
            "better step on the ball": str(natural),
        },
    )


@evidence(faults=("inverse-for-inverse-transpose", "root-not-a-root"))
def gauge_of_roots(*, fault: str | None = None) -> Finding:
    """With frozen factors any roots ``S S^T = P``, ``K K^T = Q`` give the same step.

    ``A S`` is orthogonal since ``A S S^T A = I``, so ``S = A^-1 O``; likewise ``K = C^-1 R``. Then
    ``S^-1 G K^-T = O^T (A G C) R`` has the singular vectors ``O^T U`` and ``R^T V``, and the rotations
    cancel in ``S^-T (O^T U)(R^T V)^T K^-1 = A U V^T C``.
    """

    def claim(x: Carrier) -> Equations:
        A, C = x.positive("A", x.m), x.positive("C", x.n)
        O, R = x.isometry("O", x.m, x.m), x.isometry("R", x.n, x.n)
        U, D, V = low_rank(x, x.m, x.n)
        G = A.inverse() @ U @ D @ D @ V.T @ C.inverse()
        S, K = A.inverse() @ O, C.inverse() @ R
        if fault == "root-not-a-root":
            S = O @ A.inverse() @ A.inverse()
        U_S, V_K = O.T @ U, R.T @ V
        out = S.inverse() if fault == "inverse-for-inverse-transpose" else S.inverse().T
        return {
            "S is a root of P": (S @ S.T, (A @ A).inverse()),
            "A S is orthogonal": (A @ S @ (A @ S).T, x.identity(x.m)),
            "whitening with S and K": (S.inverse() @ G @ K.inverse().T, U_S @ D @ D @ V_K.T),
            "its singular vectors are orthonormal": (U_S.T @ U_S, x.identity(x.r)),
            "the step": (out @ U_S @ V_K.T @ K.inverse(), A @ U @ V.T @ C),
        }

    return Finding(
        prove(claim),
        "S^-T Polar(S^-1 G K^-T) K^-1 = P^-1/2 Polar(G~) Q^-1/2 for all roots and sizes. Trusted: the polar "
        "factor does not depend on the choice of the SVD",
    )


@evidence(faults=("sylvester-with-H-twice", "first-inverse-missing"))
def polar_enclosure(*, fault: str | None = None) -> Finding:
    """The two Frobenius inequalities that certify ``H = (M^T M)^1/2`` and ``Q = M H^-1`` from a guess ``K``.

    Let ``K - k I`` be positive semidefinite, ``k > 0``, ``X = H - K`` and ``R = M^T M - K^2 = H X + X K``.
    Then ``|R|^2 - k^2 |X|^2 = |R - k X|^2 + 2 k tr(X (H + K - k I) X)``, so ``|X|_F <= |R|_F/k``; and
    ``M (H^-1 - K^-1) = -Q X K^-1`` with ``|X|^2/k^2 - |Q X K^-1|^2 = tr(X (k^-2 I - K^-2) X)``.
    """

    def claim(x: Carrier) -> Equations:
        Q, H, K = x.isometry("Q", x.m, x.r), x.positive("H", x.r), x.positive("K", x.r)
        k, one = x.scalar("k"), x.identity(x.r)
        M, X = Q @ H, H - K
        R = M.T @ M - K @ K
        above = Psd.assumed(x, K - k * one)
        inverse_below = Psd.assumed(x, (1 / k**2) * one - K.inverse() @ K.inverse())
        twice = Nonnegative.positive(2 * k)
        miss = Q @ X if fault == "first-inverse-missing" else Q @ X @ K.inverse()
        right = H if fault == "sylvester-with-H-twice" else K
        return {
            "Sylvester equation": (R, H @ X + X @ right),
            "|R|^2 - k^2 |X|^2": (
                x.trace(R @ R.T) - k**2 * x.trace(X @ X.T),
                Psd.gram(x, R - k * X).trace()
                + twice * Psd.assumed(x, H).under(X).trace()
                + twice * above.under(X).trace(),
            ),
            "the polar factor moves by -Q X K^-1": (M @ (H.inverse() - K.inverse()), -miss),
            "|X|^2/k^2 - |Q X K^-1|^2": (
                x.trace(X @ X.T) / k**2 - x.trace(miss @ miss.T),
                inverse_below.under(X).trace(),
            ),
        }

    return Finding(
        prove(claim),
        "|H-K|_F <= |N-K^2|_F/k and |Q-MK^-1|_F <= |H-K|_F/k with k the least eigenvalue of K: both slacks "
        "are sums of squares, for all sizes",
    )
