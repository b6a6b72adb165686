"""KL-Shampoo, Mousse and DyKAF against FISMO's equations, for all sizes.

An expectation over gradients acts on the pair ``(G, G^T)`` only and every identity is linear in that pair, so
one generic gradient stands for it.
"""

from typing import Any

import sympy
from flint import fmpq

from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import Ratio, yes_no
from proofs_checks.symbolic.carriers import Carrier, Numbers
from proofs_checks.symbolic.exact import Exact
from proofs_checks.symbolic.kronecker import left_factor, objective, right_factor
from proofs_checks.symbolic.networks import contract
from proofs_checks.symbolic.proof import SHAPES, Equations, prove, scalar_identity

__all__ = ["kl_joint", "kl_one_sided", "kronecker_covariance", "mousse_step", "projector_splitting"]


def divergence_excess(*, wrong_sign: bool) -> tuple[Ratio, ...]:
    """``y - log y - 1`` is 0 at 1, falls before and rises after: log-det divergences are not negative."""
    y, t = sympy.symbols("y t", positive=True)
    excess = y + sympy.log(y) - 1 if wrong_sign else y - sympy.log(y) - 1
    slope = sympy.diff(excess, y)
    return (
        scalar_identity("y - log y - 1 vanishes at 1", excess.subs(y, 1)),
        scalar_identity("its slope before 1, y = 1/(1+t), is -t", slope.subs(y, 1 / (1 + t)), -t),
        scalar_identity("its slope after 1, y = 1+t, is t/(1+t)", slope.subs(y, 1 + t), t / (1 + t)),
    )


@evidence(faults=("d_b-not-divided", "optimum-of-the-joint-problem", "log-det-sign"))
def kl_one_sided(*, fault: str | None = None) -> Finding:
    """The divergence of ``S = (S_a/d_b) kron I``, no damping, is least exactly at ``S_a = E[G G^T]``.

    ``v^T S^-1 v`` with ``v[(i, j)] = G[i, j]`` contracts to ``d_b tr(S_a^-1 G G^T)`` and ``log det S`` is
    ``d_b log det S_a`` and a constant, so twice the divergence is ``d_b (tr(S_a^-1 H) + log det S_a)`` with
    ``H = E[G G^T]``. Its slope along E is ``d_b tr(S_a^-1 (S_a - H) S_a^-1 E)``; its excess over the value
    at H is ``d_b`` times the log-det divergence of H to S_a, the sum of ``y - log y - 1`` over eigenvalues.
    Shampoo with power 1/2 on one side divides by ``H^1/2``, the root of this optimum.
    """

    def claim(x: Carrier) -> Equations:
        S, G, E = x.positive("S", x.m), x.matrix("G", x.m, x.n), x.symmetric("E", x.m)
        H = G @ G.T
        inverse = S.inverse() if fault == "d_b-not-divided" else x.n * S.inverse()
        quadratic = contract(
            x, [(G, "i", "j"), (inverse, "i", "k"), (x.identity(x.n), "j", "l"), (G, "k", "l")]
        )
        optimum = (1 / x.n) * H if fault == "optimum-of-the-joint-problem" else H

        def twice(X: Any) -> Any:
            return x.n * (x.trace(X.inverse() @ H) + x.log_det(X))

        return {
            "v'(S_a/d_b kron I)^-1 v": (quadratic, x.n * x.trace(S.inverse() @ H)),
            "slope": (
                x.slope(twice(S + x.t * E)),
                x.n * x.trace(S.inverse() @ (S - optimum) @ S.inverse() @ E),
            ),
        }

    ratios = [*prove(claim), *divergence_excess(wrong_sign=fault == "log-det-sign")]
    for seed, (rows, cols) in enumerate(SHAPES):
        x = Numbers(seed, rows, cols)
        S, one = x.positive("S", x.m), x.identity(x.n)
        ratios.append(yes_no("det(S_a kron I)", S.kron(one).determinant() == S.determinant() ** cols))
    return Finding(
        tuple(ratios),
        "the one-sided divergence has slope d_b/2 tr(S_a^-1 (S_a - E[GG']) S_a^-1 E) and exceeds its value "
        "at S_a = E[GG'] by d_b/2 times a log-det divergence, for all sizes. Trusted: det(S kron I) = "
        "det(S)^n for all sizes",
    )


@evidence(faults=("m-for-n", "damping-not-divided", "weights-swapped", "proximal-term-reversed"))
def kl_joint(*, fault: str | None = None) -> Finding:
    """Stationarity of the damped two-sided divergence is Theorem 4.1; the average is a proximal step on it.

    Twice the divergence is ``J(S_a, S_b)``: the same contraction with rows stacked in place of columns. In
    the natural parameter ``A = S_a^-1``, with ``K = G S_b^-1 G^T + mu tr(S_b^-1) I`` from the sampled
    gradient, the divergence is ``(tr(K A) - d_b log det A)/2`` with gradient ``(K - d_b S_a)/2``, linear in
    K and so unbiased. The proximal step minimises the linear model plus ``1/beta2`` times ``d_b`` Gaussian
    divergences ``(tr(S_a S^-1) + log det S)/2`` from the old factor. Its slope at S along E is
    ``d_b/(2 beta2) tr(S^-1 (S - S_new) S^-1 E)`` with ``S_new = (1 - beta2) S_a + beta2 K/d_b``.
    """

    def claim(x: Carrier) -> Equations:
        S_a, S_b, S = x.positive("Sa", x.m), x.positive("Sb", x.n), x.positive("S", x.m)
        G, E, F, mu = x.matrix("G", x.m, x.n), x.symmetric("E", x.m), x.symmetric("F", x.n), x.scalar("mu")
        beta, rest = x.weight("beta2")
        A, B = S_a.inverse(), S_b.inverse()
        K = G @ B @ G.T + mu * x.trace(B) * x.identity(x.m)
        optimum = (1 / (x.m if fault == "m-for-n" else x.n)) * K
        if fault == "damping-not-divided":
            optimum = optimum + (1 - 1 / x.n) * (mu * x.trace(B) * x.identity(x.m))
        quadratic = contract(x, [(G, "i", "j"), (A, "i", "k"), (B, "j", "l"), (G, "k", "l")])
        traces = contract(x, [(A, "i", "i"), (B, "j", "j")])
        twice = quadratic + mu * traces + x.n * x.log_det(S_a) + x.m * x.log_det(S_b)
        gradient = K - x.n * S_a

        def proximal(X: Any) -> Any:
            if fault == "proximal-term-reversed":
                term = x.trace(A @ X) - x.log_det(X)
            else:
                term = x.trace(S_a @ X.inverse()) + x.log_det(X)
            return x.trace(gradient @ X.inverse()) + x.n / beta * term

        old, new = (beta, rest) if fault == "weights-swapped" else (rest, beta)
        S_new = old * S_a + (new / x.n) * K
        return {
            "twice the divergence is J": (twice, objective(x, G, S_a, S_b, mu)),
            "S_a equation = Theorem 4.1 for P": (optimum, left_factor(x, G, B, mu)),
            "S_b equation = Theorem 4.1 for Q": (
                (1 / x.m) * (G.T @ A @ G + mu * x.trace(A) * x.identity(x.n)),
                right_factor(x, G, A, mu),
            ),
            "slope in S_a vanishes at its equation": (
                x.slope(objective(x, G, S_a + x.t * E, S_b, mu)),
                x.n * x.trace(A @ (S_a - optimum) @ A @ E),
            ),
            "slope in S_b": (
                x.slope(objective(x, G, S_a, S_b + x.t * F, mu)),
                x.m * x.trace(B @ (S_b - right_factor(x, G, A, mu)) @ B @ F),
            ),
            "gradient in A = S_a^-1": (
                x.slope(x.trace(K @ (S + x.t * E)) - x.n * x.log_det(S + x.t * E)),
                x.trace((K - x.n * S.inverse()) @ E),
            ),
            "slope of the proximal problem": (
                x.slope(proximal(S + x.t * E)),
                x.n / beta * x.trace(S.inverse() @ (S - S_new) @ S.inverse() @ E),
            ),
        }

    return Finding(
        prove(claim),
        "2 KL = J, its stationarity is Theorem 4.1 with damping mu tr(S_b^-1)/d_b, and the moving average "
        "solves the KL-proximal step in S_a^-1 with step size beta2, for all sizes; the sampled K is "
        "unbiased because it is linear in (G, G')",
    )


@evidence(faults=("exponent-alpha", "positive-outer-exponent", "unit-factors", "rank-one-gradient"))
def mousse_step(*, fault: str | None = None) -> Finding:
    """With ``P = L^(2 alpha)`` Mousse's ungrafted step is FISMO's; three changes break that.

    In an eigenbasis V of L, with ``D = Lambda^alpha``, the whitening matrix is ``A = V D^-1 V^T`` and
    ``P = V D^2 V^T``, so ``A P A = I`` for any alpha: A is ``P^-1/2``, and likewise C. With the whitened
    gradient ``A G C = U S^2 Z^T`` the step ``-A U Z^T C`` has whitened length one and value ``-tr(S^2)``,
    the optimum of Theorem 4.2. Exact 2x2 instances, ``A = diag(1/2, 1)``, ``C = I``: the outer exponent
    ``+alpha`` leaves the region of radius one; so does the graft, whose square is 8/5; and over the region
    of the Fisher form (Frobenius, its equation 4) another step on the boundary is better.
    """

    def claim(x: Carrier) -> Equations:
        V, D = x.isometry("V", x.m, x.m), x.diagonal("D", x.m)
        A, C = x.positive("A", x.m), x.positive("C", x.n)
        U, S, Z = x.isometry("U", x.m, x.r), x.diagonal("S", x.r), x.isometry("Z", x.n, x.r)
        whitening = V @ D.inverse() @ V.T
        P = V @ (D if fault == "exponent-alpha" else D @ D) @ V.T
        G = A.inverse() @ U @ S @ S @ Z.T @ C.inverse()
        inside = A @ G @ C
        outer = A.inverse() if fault == "positive-outer-exponent" else A
        X = -(outer @ U @ Z.T @ C)
        white = A.inverse() @ X @ C.inverse()
        return {
            "A P A = I": (whitening @ P @ whitening, x.identity(x.m)),
            "what is orthogonalised is FISMO's whitened gradient": (inside, U @ S @ S @ Z.T),
            "the whitened step is an isometry": (white @ white.T @ white, white),
            "value": (x.trace(G.T @ X), -x.trace(S @ S)),
        }

    one = fmpq(1)
    A = Exact.identity(2) if fault == "unit-factors" else Exact.diagonal(fmpq(1, 2), one)
    O = Exact.identity(2)  # the polar factor of any positive definite whitened gradient
    outside = A.inverse() @ A.inverse() @ O  # A^-1 X for the step X = A^-1 O
    U = A @ O
    graft = (O @ O.T).trace() / (U @ U.T).trace()  # its square
    G = Exact.diagonal(fmpq(6), fmpq(0) if fault == "rank-one-gradient" else fmpq(4))
    white = A @ G
    polar = Exact.diagonal(one, fmpq(0) if fault == "rank-one-gradient" else one)
    size = (white @ white.T).trace()  # |A G C|_F^2: the best value on the Frobenius region, squared
    spectral = (white @ polar.T).trace()
    shrunk = (
        spectral * spectral / (polar @ polar.T).trace()
    )  # the same step, shrunk onto that region, squared
    inside_ball = Exact.identity(2) - outside @ outside.T
    return Finding(
        (
            *prove(claim),
            yes_no("+alpha outside leaves the region", not inside_ball.is_psd()),
            yes_no("the grafted step is not of whitened length one", graft != 1),
            yes_no("over the Frobenius region the step is not optimal", shrunk < size),
        ),
        "A = L^-alpha is P^-1/2 for P = L^(2 alpha), and -A Polar(A G C) C attains FISMO's optimum, for all "
        f"sizes and exponents; the graft multiplies a unit step by sqrt({graft}), +alpha outside leaves the "
        f"region, and on the Frobenius region {shrunk} < {size} (squared values). Trusted: existence of "
        "the SVD",
    )


@evidence(faults=("new-factor-inside", "norm-forgotten", "core-of-the-old-factors"))
def projector_splitting(*, fault: str | None = None) -> Finding:
    """One DyKAF update is a simultaneous power step and a Galerkin core on the rearranged Fisher matrix.

    ``A[(i, k), (j, l)] = L[i, k] R[j, l] + G[i, j] G[k, l]``, the rearrangement of ``L kron R + g g^T``, g
    stacked row by row. Following indices, ``A vec(R) = vec(L |R|^2 + G R G^T)`` and
    ``A^T vec(L) = vec(R |L|^2 + G^T L G)``, both with the *old* factors: ``|R|`` times L_hat and ``|L|``
    times R_hat. For any ``L_+, R_+`` the core ``l_+^T A r_+`` is
    ``<L, L_+> <R, R_+> + <L_+, G R_+ G^T>``. On three shapes the matrix is built entry by entry.
    """

    def pieces(x: Carrier) -> tuple[Any, ...]:
        L, R, G = x.positive("L", x.m), x.positive("R", x.n), x.matrix("G", x.m, x.n)
        return L, R, G, x.symmetric("Lplus", x.m), x.symmetric("Rplus", x.n)

    def update(x: Carrier, L: Any, R: Any, G: Any) -> tuple[Any, Any]:
        weight = 1 if fault == "norm-forgotten" else x.trace(R @ R)
        L_hat = weight * L + G @ R @ G.T
        inside = L_hat if fault == "new-factor-inside" else L
        return L_hat, x.trace(L @ L) * R + G.T @ inside @ G

    def core(x: Carrier, L: Any, R: Any, G: Any, L_plus: Any, R_plus: Any) -> Any:
        middle = R if fault == "core-of-the-old-factors" else R_plus
        return x.trace(L @ L_plus) * x.trace(R @ R_plus) + x.trace(L_plus @ G @ middle @ G.T)

    def claim(x: Carrier) -> Equations:
        L, R, G, L_plus, R_plus = pieces(x)
        L_hat, R_hat = update(x, L, R, G)
        power = contract(x, [(R, "j", "l"), (R, "j", "l")]) * L + contract(
            x, [(G, "i", "j"), (R, "j", "l"), (G, "k", "l")], open_indices=("i", "k")
        )
        adjoint = contract(x, [(L, "i", "k"), (L, "i", "k")]) * R + contract(
            x, [(G, "i", "j"), (L, "i", "k"), (G, "k", "l")], open_indices=("j", "l")
        )
        old = contract(x, [(L_plus, "i", "k"), (L, "i", "k"), (R, "j", "l"), (R_plus, "j", "l")])
        new = contract(x, [(L_plus, "i", "k"), (G, "i", "j"), (R_plus, "j", "l"), (G, "k", "l")])
        return {
            "A r_0": (power, L_hat),
            "A' l_0": (adjoint, R_hat),
            "l_+' A r_+": (old + new, core(x, L, R, G, L_plus, R_plus)),
        }

    ratios = list(prove(claim))
    for seed, (rows, cols) in enumerate(SHAPES):
        x = Numbers(seed, rows, cols)
        L, R, G, L_plus, R_plus = pieces(x)
        L_hat, R_hat = update(x, L, R, G)
        g = G.T.vec()  # rows stacked
        A = rearranged(L.kron(R) + g @ g.T, rows, cols)
        ratios += [
            yes_no("A vec(R), entry by entry", A @ R.vec() == L_hat.vec()),
            yes_no("A' vec(L), entry by entry", A.T @ L.vec() == R_hat.vec()),
            yes_no(
                "core, entry by entry",
                (L_plus.vec().T @ A @ R_plus.vec()).trace() == core(x, L, R, G, L_plus, R_plus),
            ),
        ]
    return Finding(
        tuple(ratios),
        "A vec(R) = vec(L |R|^2 + G R G'), A' vec(L) = vec(R |L|^2 + G' L G) and the Galerkin core, for all "
        f"sizes; on {len(SHAPES)} shapes the rearranged matrix was built and multiplied in rationals",
    )


def rearranged(F: Exact, m: int, n: int) -> Exact:
    """``A[(i, k), (j, l)] = F[(i, j), (k, l)]``."""
    return Exact(
        [
            [F.entries[i * n + j][k * n + l] for j in range(n) for l in range(n)]
            for i in range(m)
            for k in range(m)
        ]
    )


@evidence(faults=("frobenius-with-inverse", "kl-without-inverse", "law-forgets-X"), scope="region")
def kronecker_covariance(*, fault: str | None = None) -> Finding:
    """With covariance ``V kron U``, U and V solve the KL equations and DyKAF's stationary equations.

    Such a law exists: ``m n`` equally likely gradients ``sqrt(m n) A e_i e_j^T B^T``, ``A A^T = U``,
    ``B B^T = V``, for which ``E[G X G^T] = tr(V X) U`` and ``E[G^T Y G] = tr(U Y) V``. With ``X = V^-1`` the
    first is ``n U`` (KL, ``P = U``); with ``X = V`` it is ``tr(V^2) U``, a multiple of U (Frobenius).
    """

    def claim(x: Carrier) -> Equations:
        A, B, X = x.invertible("A", x.m), x.invertible("B", x.n), x.positive("X", x.n)
        U, V = x.positive("U", x.m), x.positive("V", x.n)
        middle = B.T @ B if fault == "law-forgets-X" else B.T @ X @ B
        law = contract(x, [(A, "a", "i"), (middle, "j", "j"), (A, "d", "i")], open_indices=("a", "d"))
        inner = V.inverse() if fault == "frobenius-with-inverse" else V
        kl = V if fault == "kl-without-inverse" else V.inverse()
        return {
            "E[G X G'] of the law": (law, x.trace(B @ B.T @ X) * (A @ A.T)),
            "KL: E[G V^-1 G']/n = U": ((1 / x.n) * (x.trace(V @ kl) * U), U),
            "KL: E[G' U^-1 G]/m = V": ((1 / x.m) * (x.trace(U @ U.inverse()) * V), V),
            "Frobenius: E[G V G'] is |V|^2 U": (x.trace(V @ inner) * U, x.trace(V @ V) * U),
            "Frobenius: E[G' U G] is |U|^2 V": (x.trace(U @ U) * V, contract(x, [(U, "i", "k")] * 2) * V),
        }

    return Finding(
        prove(claim),
        "covariance V kron U: (U, V) satisfies the KL equations of Theorem 4.1 with mu = 0 and DyKAF's "
        "stationary equations, for all sizes",
    )
