"""T8: where the factors of Algorithm 1 stop being bounded: at ``b = 2 + m/n``, not at ``b = 1``.

Setting: damping `algorithm`, ``P_0 = I``, ``Q_0 = I``, ``|G_t|_F^2 <= g^2 = b m n mu``, Gauss-Seidel order
unless said otherwise. Write ``y = |Q_{t-1}^-1|_2``, ``r = m/n``, ``H = G/sqrt(m n mu)``: ``|H|_F^2 <= b``.
"""

from itertools import pairwise
from typing import Any

import sympy
from flint import fmpq

from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import Ratio, yes_no
from proofs_checks.symbolic.carriers import Carrier
from proofs_checks.symbolic.cone import Nonnegative, Psd
from proofs_checks.symbolic.exact import Exact
from proofs_checks.symbolic.factor_bounds import rounded_down
from proofs_checks.symbolic.proof import Equations, prove, scalar_identity
from proofs_checks.symbolic.recursion import factor_path

__all__ = ["bounded_below_threshold", "jacobi_threshold", "unbounded_from_threshold"]


def _one_step(x: Carrier) -> Equations:
    """``y' <= theta + c`` and ``theta - 1 <= (c + 1 + tr X) tr(H^T E^-1 H)`` with ``c = gamma/(delta mu)``.

    ``L = mu E`` with ``E = I + m X``, ``X = H Q^-1 H^T``; ``tau = mu (1 + tr X)``. From ``Pbar >= delta L``
    follows ``P'^-1 <= (w/delta) L^-1``, from ``Qbar >= delta mu I`` that ``|Q'^-1| <= w_Q/(delta mu)``; and
    ``theta - 1 = tr(G^T P'^-1 G)/(m n mu)``.
    """
    (gamma, delta), mu = x.weight("gamma"), x.scalar("mu")
    G, P, Q = x.matrix("G", x.m, x.n), x.normalised("P", x.m), x.normalised("Q", x.n)
    Q_inverse, P_inverse = x.positive("Q_inverse", x.n), x.positive("P_inverse", x.m)
    one_m, one_n, size = x.identity(x.m), x.identity(x.n), x.m * x.n * mu
    data = Psd.assumed(x, Q_inverse).under(G)
    L = (1 / x.n) * data.value + mu * one_m
    X = (1 / size) * data.value
    right = Psd.assumed(x, P_inverse).under(G.T)
    R = (1 / x.m) * right.value + mu * one_n
    old, new, share = Nonnegative.assumed(gamma), Nonnegative.assumed(delta), Nonnegative.positive(1 / x.m)
    theta = 1 + x.trace(right.value) / size
    return {
        "L = mu (I + m X)": (L, mu * (one_m + x.m * X)),
        "tau = mu (1 + tr X)": (x.trace(L) / x.m, mu * (1 + x.trace(X))),
        "Pbar - delta L": (gamma * P + delta * L - delta * L, old * Psd.assumed(x, P)),
        "Qbar - delta mu I": (
            gamma * Q + delta * R - delta * mu * one_n,
            old * Psd.assumed(x, Q) + new * (share * right),
        ),
        "tr R/n = mu theta": (x.trace(R) / x.n, mu * theta),
        "tr Qbar/n = gamma + delta mu theta": (
            x.trace(gamma * Q + delta * R),
            x.n * (gamma + delta * mu * theta),
        ),
    }


def _parallel_sum(x: Carrier) -> Equations:
    """``H^T E^-1 H = B - B S^-1 B`` with ``B = Q/m``, ``S = H^T H + B``; at most what any ``Z`` gives.

    ``Z^T N Z + (I-Z)^T B (I-Z)`` with ``N = H^T H`` exceeds it by a square: with ``Z`` diagonal in the
    eigenvectors of ``Q``, its trace sees the diagonal of ``N`` only, so a commuting pair is the worst case.
    """
    H, B, Z = x.matrix("H", x.m, x.n), x.positive("B", x.n), x.matrix("Z", x.n, x.n)
    S = x.abbreviated("S", H.T @ H + B)
    one, N = x.identity(x.n), S - B
    E = x.identity(x.m) + H @ B.inverse() @ H.T
    solved = H @ S.inverse() @ B
    gap = Z - S.inverse() @ B
    return {
        "E H S^-1 B = H": (x.unfolded(E @ solved, H.T @ H, N), H),
        "H^T H S^-1 B = B - B S^-1 B": (x.unfolded(H.T @ solved, H.T @ H, N), B - B @ S.inverse() @ B),
        "any Z exceeds it by a square": (
            Z.T @ N @ Z + (one - Z).T @ B @ (one - Z) - (B - B @ S.inverse() @ B),
            Psd.assumed(x, S).under(gap.T),
        ),
    }


def _scalar_bound(*, wrong_rate: bool, no_square_root: bool) -> tuple[Ratio, ...]:
    """Eigenvalues ``q_i`` of ``Q``, diagonal entries ``k_i`` of ``N``: ``y <= Y`` implies ``y' <= Y``."""
    k, q, t, m, y, n = sympy.symbols("k q t m y n", positive=True)
    k2, q2, u, r, b, z, c = sympy.symbols("k_2 q_2 chi r b z c", positive=True)

    def share(k: Any, q: Any) -> Any:
        return k * q / (q + m * k)

    rest = k * (1 - t)
    gain = share(k, q) - share(rest, q)
    root = sympy.sqrt(1 + r * b)
    best = (root - 1) / r
    rate = best if wrong_rate else best**2
    # sum of min(k t, q/m) with q = 1/(y t) is at most sum sqrt(k/(m y)) <= sqrt(n b/(m y)) = sqrt(b/(r y))
    geometric = k * t * (1 / (y * t)) / m if not no_square_root else k / m
    A, level = b * sympy.sqrt(b / r), sympy.Symbol("Y", positive=True)
    C = (1 + c) * (1 + b + sympy.sqrt(b / r))
    at_z = rate * z**2 + A * z + C
    final = (c + 1) + z**2 * rate + (1 + c) * b + (1 + c + b * z**2) * sympy.sqrt(b / r) / z
    slack = (1 + c) * sympy.sqrt(b / r) * (1 - 1 / z)  # z >= 1
    return (
        scalar_identity(
            "best Z: k z^2 + (q/m)(1-z)^2 at its minimum",
            k * (q / (q + m * k)) ** 2 + (q / m) * (1 - q / (q + m * k)) ** 2,
            share(k, q),
        ),
        scalar_identity(
            "shares of two eigenvalues add up to less than the share of their sums",
            share(k + k2, q + q2) - share(k, q) - share(k2, q2),
            m * (k * q2 - k2 * q) ** 2 / ((q + m * k) * (q2 + m * k2) * (q + q2 + m * (k + k2))),
        ),
        scalar_identity(
            "a part k t of k adds at most k t",
            k * t - gain,
            k * t * (m * k * (q + (1 - t) * (q + m * k))) / ((q + m * k) * (q + m * rest)),
        ),
        scalar_identity("and at most q/m", q / m - gain, q**2 / (m * (q + m * k)) + share(rest, q)),
        scalar_identity("product of the two", geometric, k / (m * y)),
        scalar_identity("all of Q's trace: share(chi, n)", share(u, n).subs(m, r * n), u / (1 + r * u)),
        scalar_identity(
            "(1 + r chi) rho - (b - chi) chi is a square",
            sympy.expand(((1 + r * u) * rate - (b - u) * u) - (u - best) ** 2),
        ),
        scalar_identity("rho < 1 iff b < 2 + r", (1 + r) ** 2 - (1 + r * b), r * (2 + r - b)),
        scalar_identity(
            "right side at y = z^2, less what z >= 1 leaves over", sympy.expand(at_z - final - slack)
        ),
        scalar_identity(
            "the level solves its equation",
            sympy.expand(
                (1 - level) * ((A + sympy.sqrt(A**2 + 4 * (1 - level) * C)) / (2 * (1 - level))) ** 2
                - A * (A + sympy.sqrt(A**2 + 4 * (1 - level) * C)) / (2 * (1 - level))
                - C
            ),
        ),
    )


@evidence(faults=("rate-without-its-square", "no-square-root-term"))
def bounded_below_threshold(*, fault: str | None = None) -> Finding:
    """T8, bounded part: ``b < 2 + m/n`` bounds both inverses for every ``gamma < 1``.

    With ``c = gamma/((1-gamma) mu)``, ``rho = ((sqrt(1 + r b) - 1)/r)^2 < 1``, ``A = b sqrt(b/r)`` and
    ``C = (1 + c)(1 + b + sqrt(b/r))``: ``|Q_t^-1| <= Y = ((A + sqrt(A^2 + 4 (1-rho) C))/(2 (1-rho)))^2`` and
    ``|P_t^-1| <= c + 1 + b Y`` for all t. Proof: ``y' <= c + theta`` and ``theta - 1`` is at most
    ``(c + 1 + tr X) tr(N : Q/m)``, a parallel sum. Split the budget ``b`` into the part ``S = tr X / y`` that
    feeds the trace and the rest: the parallel sum is at most ``(b-S)/(1 + r (b-S)) + sqrt(b/(r y))``.
    """
    return Finding(
        (
            *prove(_one_step),
            *prove(_parallel_sum),
            *_scalar_bound(
                wrong_rate=fault == "rate-without-its-square", no_square_root=fault == "no-square-root-term"
            ),
        ),
        "bounded for every b < 2 + m/n, any gamma < 1, all sizes, with an explicit level. Trusted: inversion "
        "reverses the order of positive definite matrices, min(a, c) <= sqrt(a c), Cauchy-Schwarz",
    )


def _growth(*, fault: str | None) -> tuple[Ratio, ...]:
    """Increments of ``theta`` along the process, for symbols ``m, n, y, z`` and ``alpha = 1 + r + e``."""
    m, n, y, z, e = sympy.symbols("m n y z e", positive=True)
    r = m / n
    alpha = r + e if fault == "below-the-threshold" else 1 + r + e

    def advance(y: Any, z: Any) -> tuple[Any, ...]:
        X = 1 + alpha * y + z / n
        p1, p2 = X / (1 + m * alpha * y), X / (1 + r * z)
        theta = 1 + alpha * p1 + p2
        return theta, n * theta / (1 + n * p2), p1

    y1, z1, p1 = advance(y, z)
    Y, Z, a = sympy.symbols("Y Z a", positive=True)  # y1, z1 and p1 of the step before
    y2, _, q1 = advance(Y, Z)
    # z1 (1 + n p2) = n theta gives theta (z1 - 1) = z1 (n - 1 + n alpha p1)/n
    known = Z * (n - 1 + n * alpha * a) / n
    increment = 1 + alpha * q1 + (1 + Z / n - r * known + Y * (alpha - 1 - r)) / (1 + r * Z)
    bracket = 2 + Z * (1 + r) / n - r * Z * alpha * a
    W, V = sympy.symbols("W V", nonnegative=True)
    lowest = 2 + (1 + r) * V + alpha / m - V * (2 - 1 / m)  # V = z'/n in [0, 1]
    beyond = (n - 3) * (1 + m * alpha) + 2 + alpha * (m - 1) + (n - 1) * m * alpha * W + alpha * r * V
    return (
        scalar_identity("theta (z' - 1)", y1 * (z1 - 1), z1 * (n - 1 + n * alpha * p1) / n),
        scalar_identity("theta'' - theta'", (y2 - Y) - increment, (known - Y * (Z - 1)) * r / (1 + r * Z)),
        scalar_identity("its bracket", 1 + r * Z + 1 + Z / n - r * known, bracket),
        scalar_identity("what more budget adds is not negative", Y * (alpha - 1 - r), Y * e),
        scalar_identity("p1 - 1/m", p1 - 1 / m, (1 - 1 / m + z / n) / (1 + m * alpha * y)),
        scalar_identity(
            "m alpha/(1 + m alpha y) <= 1/y",
            1 / y - m * alpha / (1 + m * alpha * y),
            1 / (y * (1 + m * alpha * y)),
        ),
        scalar_identity(
            "bracket and alpha p1' together, at y = 1 and z = n, less (1 + alpha/m)",
            lowest - (1 + alpha / m),
            (1 - V) + V * (r + 1 / m),
        ),
        scalar_identity(
            "z' <= n: (n-1)(1 + m alpha y) - alpha (1 + r z) at y = 1 + W, z = n - V",
            (n - 1) * (1 + m * alpha * (1 + W)) - alpha * (1 + r * (n - V)),
            beyond,
        ),
    )


@evidence(faults=("below-the-threshold", "increment-not-divided"))
def unbounded_from_threshold(*, fault: str | None = None) -> Finding:
    """T8, unbounded part: ``gamma = 0``, ``m >= 2``, ``n >= 3``, ``b >= 2 + m/n`` allow growth without bound.

    Gradients ``a u_1 v^T + c u_2 v_2^T`` with ``a^2 = (b-1) m n mu``, ``c^2 = m n mu`` and ``v`` from
    ``v_1, v_3`` in turn keep every factor diagonal. ``P`` is large along ``u_1``, so ``u_2`` meets a small
    eigenvalue and makes ``Q`` large along ``v_2``, small along the ``v`` of the next step. With
    ``y = |Q^-1|``, ``z = n/Q_(2,2)`` the recursion is ``y' = theta = 1 + alpha p_1 + p_2``, and ``y'' - y'``
    is at least ``(1 + alpha/m + (b - 2 - m/n) y')/(1 + m)``: linear growth at the threshold, geometric
    above it. In between, ``p_1 >= 1/m``, ``y >= 1`` and ``z <= n`` are used.
    """
    runs, figures = _exact_runs(undivided=fault == "increment-not-divided")
    return Finding(
        (*_growth(fault=fault), *runs),
        "linear growth at b = 2 + m/n and geometric growth above it for every m >= 2, n >= 3; exact runs: "
        + ", ".join(f"{name} |Q^-1| = {value:.4g}" for name, value in figures.items()),
        figures=figures,
        counterexample={
            "gradients": "t odd: a e_1 f_1^T + c e_2 f_2^T; t even: a e_1 f_3^T + c e_2 f_2^T; gamma = 0",
            "5x4, b = 13/4": "mu = 1/5, a = 3, c = 2, |G|_F^2 = 13",
            "3x3, b = 5": "mu = 1, a = 6, c = 3, |G|_F^2 = 45",
        },
    )


def _exact_runs(*, undivided: bool) -> tuple[tuple[Ratio, ...], dict[str, float]]:
    """The process in rationals: the recursion is the factors' own, and the increments keep their bound."""
    ratios, figures = [], {}
    for m, n, mu, a, c, steps in (
        (5, 4, fmpq(1, 5), 3, 2, 8),  # b = 13/4 = 2 + m/n exactly
        (3, 3, fmpq(1), 6, 3, 8),  # b = 5, threshold 3
        (2, 3, fmpq(1, 6), 2, 1, 8),  # b = 5, threshold 8/3
    ):
        size = m * n * mu
        b, alpha, r = (a * a + c * c) / size, a * a / size, fmpq(m, n)
        path = [max(_inverses(Q)) for _, Q in factor_path(_process(m, n, a, c, steps), gamma=fmpq(0), mu=mu)]
        divisor = 1 if undivided else 1 + m
        least = [(1 + alpha / m + (b - 2 - r) * y) / divisor for y in path[:-1]]
        grown = [later - y for y, later in pairwise(path)]
        name = f"{m}x{n}, b = {b}, {steps} steps"
        ratios += [
            yes_no(f"{name}: same recursion", path == _recursion(m, n, alpha, steps)),
            yes_no(f"{name}: increments", all(g >= one for g, one in zip(grown, least, strict=True))),
        ]
        figures[name] = rounded_down(path[-1])
    return tuple(ratios), figures


def _inverses(Q: Exact) -> list[fmpq]:
    if any(Q.entries[i][j] != 0 for i in range(Q.rows) for j in range(Q.cols) if i != j):
        raise ValueError("the process must keep the factors diagonal")
    return [1 / Q.entries[i][i] for i in range(Q.rows)]


def _recursion(m: int, n: int, alpha: fmpq, steps: int) -> list[fmpq]:
    """``y`` of every step by the scalar recursion, from ``y = 1``, ``z = n``."""
    y, z, path = fmpq(1), fmpq(n), []
    for _ in range(steps):
        X = 1 + alpha * y + z / n
        p1, p2 = X / (1 + m * alpha * y), X / (1 + fmpq(m, n) * z)
        y = 1 + alpha * p1 + p2
        z = n * y / (1 + n * p2)
        path.append(y)
    return path


def _process(m: int, n: int, a: int, c: int, steps: int) -> list[Exact]:
    """``a e_1 v^T + c e_2 f_2^T`` with ``v`` from ``f_1, f_3`` in turn."""

    def entry(t: int, i: int, j: int) -> int:
        return a if (i, j) == (0, 2 * (t % 2)) else c if (i, j) == (1, 1) else 0

    return [Exact([[entry(t, i, j) for j in range(n)] for i in range(m)]) for t in range(steps)]


@evidence(faults=("threshold-two", "one-term-too-many"))
def jacobi_threshold(*, fault: str | None = None) -> Finding:
    """T8, Jacobi order: ``gamma = 0`` loses boundedness at ``b = 1``, so there D.2 cannot be weakened.

    A rank-one gradient of norm g along the smallest eigenvectors of ``P_{t-1}`` and ``Q_{t-1}``, both with
    inverse norm x, gives both inverses the norm ``1 + b x``: hence ``1 + b + ... + b^t``, which tends to the
    ``1/(1-b)`` of D.2 for ``b < 1`` and grows without bound for ``b >= 1``. ``m, n >= 2``.
    """
    m, n, b, x, mu = sympy.symbols("m n b x mu", positive=True)
    g2 = b * m * n * mu
    tau = (g2 * x / n + m * mu) / m  # mean eigenvalue of L = (g^2 x/n) u u^T + mu I; the rest has mu
    runs = []
    for b_run, steps in ((fmpq(1), 12), (fmpq(1, 2), 12), (fmpq(3), 8)):
        size = fmpq(6)
        gradients = [
            Exact([[size if (i, j) == (t % 2, t % 2) else 0 for j in range(3)] for i in range(2)])
            for t in range(steps)
        ]
        path = factor_path(gradients, gamma=fmpq(0), mu=size * size / (6 * b_run), order="jacobi")
        worst = [max(max(_inverses(P)), max(_inverses(Q))) for P, Q in path]
        extra = 2 if fault == "one-term-too-many" else 1
        want = [sum((b_run**k for k in range(t + extra)), fmpq(0)) for t in range(1, steps + 1)]
        runs.append(yes_no(f"2x3, b = {b_run}: {steps} steps are the partial sums", worst == want))
    t = sympy.Symbol("t", integer=True, positive=True)
    at = 2 if fault == "threshold-two" else 1
    return Finding(
        (
            scalar_identity("the other eigenvalues of P: tau/mu", tau / mu, 1 + b * x),
            scalar_identity(
                "x' with x = (1 - b^t)/(1 - b)", 1 + b * (1 - b**t) / (1 - b), (1 - b * b**t) / (1 - b)
            ),
            scalar_identity("linear growth at b = 1", (1 + b * x - x).subs(b, at), 1),
            *runs,
        ),
        "|P_t^-1| = 1 + b + ... + b^t for every m, n >= 2: bounded iff b < 1, and D.2's 1/(1-b) is its limit",
    )
