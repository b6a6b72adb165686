"""T9: how far Algorithm 1 can get from the identity, and so from Muon, with gradients of a given size.

Setting: ``P_0 = I``, ``Q_0 = I``, `factor_scaling` none, either damping with any ``mu >= 0``, either order,
``0 < gamma <= 1``. Along any path of gradients put

    S_T = (1-gamma)/gamma * ((1 - 1/m)/n + (1 - 1/n)/m) * sum of |G_t|_F^2 over t <= T.

As long as ``S_T < 1``: ``|P_T - I|_2 <= S_T``, ``|Q_T - I|_2 <= S_T``, and an update with an exact polar
factor of full rank has ``kappa <= 2/sqrt(1 - S_T) - 1``.
"""

from collections.abc import Iterable
from typing import Any

import sympy
from flint import fmpq

from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import Ratio, yes_no
from proofs_checks.symbolic.carriers import Carrier
from proofs_checks.symbolic.cone import Nonnegative, Psd
from proofs_checks.symbolic.exact import Exact
from proofs_checks.symbolic.factor_bounds import rounded_down
from proofs_checks.symbolic.factor_steps import prove_both
from proofs_checks.symbolic.proof import Equations, prove, scalar_identity
from proofs_checks.symbolic.recursion import factor_path

__all__ = ["condition_thresholds", "condition_under_theorem_damping", "near_identity"]


def _one_step(x: Carrier, m: Any, n: Any, *, fault: str | None) -> Equations:
    """``|P_t - I| w <= gamma e + (1-gamma) f`` if ``|P - I| <= e`` and ``Q >= b I``, ``f = c |G|_F^2/b``.

    ``c = (1 - 1/m)/n``, ``X = G Q^-1 G^T``, ``w = gamma + (1-gamma) tau``. The damping is a multiple of I and
    drops out of ``L - tau I = (X - tr(X)/m I)/n``; ``m >= 2``, and for ``m = 1`` P is 1.
    """
    (gamma, delta), e, b, damping = x.weight("gamma"), x.scalar("e"), x.scalar("b"), x.scalar("damping")
    P, C, G = x.positive("P", m), x.positive("C", n), x.matrix("G", m, n)
    one = x.identity(m)
    floor = Psd.assumed(x, C.inverse() @ C.inverse() - b * x.identity(n))  # Q = C^-2
    inverse_left = (Nonnegative.positive(1 / b) * floor.under(C)).under(G).trace()
    data = Psd.gram(x, G @ C)
    L = (1 / n) * data.value + damping * one
    tau = x.trace(L) / m
    inverse = 1 if fault == "inverse-of-Q-left-out" else 1 / b
    other = m if fault == "sides-exchanged" else n
    fresh = (1 - 1 / m) / other * inverse * x.trace(G @ G.T)
    share, others = Nonnegative.positive(1 / n), Nonnegative.assumed((m - 1) / m)
    room = others * inverse_left * Psd.identity(x, m)
    above = share * (room + data.below_trace(m))
    below = share * (room + data + (Nonnegative.assumed((m - 2) / m) * data.trace()) * Psd.identity(x, m))
    old, new = Nonnegative.assumed(gamma), Nonnegative.assumed(delta)
    moved, w = gamma * P + delta * L, gamma + delta * tau
    level = gamma * e + delta * fresh
    return {
        "I/b - Q^-1": (
            (1 / b) * x.identity(n) - C @ C,
            (Nonnegative.positive(1 / b) * floor.under(C)).value,
        ),
        "f I - (L - tau I)": (fresh * one - (L - tau * one), above),
        "f I + (L - tau I)": (fresh * one + (L - tau * one), below),
        "from above": (
            level * one - (moved - w * one),
            old * Psd.assumed(x, e * one - (P - one)) + new * above,
        ),
        "from below": (
            level * one + (moved - w * one),
            old * Psd.assumed(x, e * one + (P - one)) + new * below,
        ),
    }


def _telescope(*, fault: str | None) -> tuple[Ratio, ...]:
    """With ``a = 1 - e``, ``b = 1 - d`` and increments p, q: the product ``a b`` falls by ``p + q``."""
    g, e, f, tau = sympy.symbols("gamma e f tau", positive=True)
    d = 1 - g
    a, b, p, q, s, t = sympy.symbols("a b p q sqrt_a sqrt_b", positive=True)
    fresh_a = a - p / b
    seen = a if fault == "jacobi-called-gauss-seidel" else fresh_a
    condition = (2 - a) * (2 - b)
    K = sympy.Symbol("K", positive=True)
    power = 1 if fault == "bound-without-root" else 2
    return (
        scalar_identity(
            "dividing by w >= gamma",
            (e + d * f / g) - (g * e + d * f) / (g + d * tau),
            (g * e + d * f) * d * tau / (g * (g + d * tau)),
        ),
        scalar_identity("Gauss-Seidel: a' b' = a b - p - q", fresh_a * (b - q / seen), a * b - p - q),
        scalar_identity(
            "Jacobi: a' b' = a b - p - q + p q/(a b)",
            fresh_a * (b - q / a),
            a * b - p - q + p * q / (a * b),
        ),
        scalar_identity("e <= S: the slack of 1 - a <= 1 - a b", (1 - a * b) - (1 - a), a * (1 - b)),
        scalar_identity(
            "(2 - sqrt(a b))^2 - (2 - a)(2 - b)",
            ((2 - s * t) ** power - condition.subs({a: s**2, b: t**2})),
            2 * (s - t) ** 2,
        ),
        scalar_identity("K = 2/r - 1 at r = 2/(K+1)", 2 / (2 / (K + 1)) - 1, K),
    )


def _step_condition(x: Carrier) -> Equations:
    """Singular values of ``A O C`` lie between products: ``A^2 = P^-1``, ``C^2 = Q^-1``, ``O O^T = I``."""
    A, C, O = x.positive("A", x.r), x.positive("C", x.e), x.isometry("V", x.e, x.r).T
    low, low_c, top, top_c = (x.scalar(name) for name in ("1/(1+e)", "1/(1+d)", "1/(1-e)", "1/(1-d)"))
    one_r, one_e = x.identity(x.r), x.identity(x.e)
    square = A @ O @ C @ C @ O.T @ A
    return {
        "smallest singular value": (
            square - low * low_c * one_r,
            Psd.assumed(x, C @ C - low_c * one_e).under(A @ O)
            + Nonnegative.positive(low_c) * Psd.assumed(x, A @ A - low * one_r),
        ),
        "largest singular value": (
            top * top_c * one_r - square,
            Psd.assumed(x, top_c * one_e - C @ C).under(A @ O)
            + Nonnegative.positive(top_c) * Psd.assumed(x, top * one_r - A @ A),
        ),
    }


@evidence(
    faults=(
        "inverse-of-Q-left-out",
        "sides-exchanged",
        "jacobi-called-gauss-seidel",
        "bound-without-root",
        "half-the-budget",
    )
)
def near_identity(*, fault: str | None = None) -> Finding:
    """T9: both deviations are at most ``S_T``, and ``kappa(dW_T) <= 2/sqrt(1 - S_T) - 1``.

    With lower bounds ``a = 1 - e`` of ``P`` and ``b = 1 - d`` of ``Q``, a step lets ``e`` grow by at most
    ``p/b`` and ``d`` by ``q/a'``, so ``a b`` falls by exactly ``p + q`` in the worst case: ``a b = 1 - S_T``.
    Neither ``mu`` nor the damping enters. For a 12 x 1 gradient that repeats, ``|P_T - I|`` comes near
    ``S_T``; for a 2 x 2 one of rank one, ``kappa(P) kappa(Q)`` comes near the bound.
    """
    runs, figures = _exact_runs(half=fault == "half-the-budget")
    return Finding(
        (
            *prove_both(lambda x, m, n: _one_step(x, m, n, fault=fault)),
            *_telescope(fault=fault),
            *prove(_step_condition),
            *runs,
        ),
        "|P_T - I|, |Q_T - I| <= S_T and kappa(dW) <= 2/sqrt(1 - S_T) - 1 for all sizes, both orders and "
        "dampings; exact runs reach "
        + ", ".join(f"{value:.4f} ({name})" for name, value in figures.items())
        + ". Trusted: norms of symmetric matrices are eigenvalues",
        figures=figures,
        tightness=max(figures.values()),
    )


#: Fewest sides of a matrix that has a condition number.
_TWO = 2


def _exact_runs(*, half: bool) -> tuple[tuple[Ratio, ...], dict[str, float]]:
    """Runs in rationals: always inside the bounds, and how near they come."""
    ratios: list[Ratio] = []
    figures: dict[str, float] = {}
    column = Exact([[int(i == 0)] for i in range(12)])
    corner = Exact([[1, 0], [0, 0]])
    generic = [
        Exact([[(3 * i + 2 * j + t * (i - j)) % 5 - 2 for j in range(3)] for i in range(2)]) for t in range(3)
    ]
    for name, gradients, gamma, order, damping in (
        ("12x1, S = 0.01", [column] * 4, fmpq(1100, 1103), "gauss-seidel", "algorithm"),
        ("12x1, S = 0.5", [column] * 10, fmpq(11, 11 + fmpq(6, 10)), "gauss-seidel", "theorem"),
        ("2x2, S = 0.01", [corner] * 4, fmpq(400, 401), "gauss-seidel", "algorithm"),
        ("2x3, Gauss-Seidel", generic, fmpq(400, 401), "gauss-seidel", "theorem"),
        ("2x3, Jacobi", generic, fmpq(400, 401), "jacobi", "algorithm"),
    ):
        path = list(factor_path(gradients, gamma=gamma, mu=fmpq(1, 10**6), damping=damping, order=order))
        S = list(_budgets(gradients, gamma, half=half))
        inside = all(_inside(X, s) for pair, s in zip(path, S, strict=True) for X in pair)
        ratios += [
            yes_no(f"{name}: S_T stays below 1", S[-1] < 1),
            yes_no(f"{name}: deviations at most S_t", inside),
        ]
        P, Q = path[-1]
        if Q.rows == 1:
            figures[f"|P - I|/S, {name}"] = rounded_down((P.entries[0][0] - 1) / S[-1])
        if P.rows == Q.rows == _TWO:  # diagonal: kappa(P) kappa(Q) - 1 over the square of the bound - 1
            product = P.entries[0][0] / P.entries[1][1] * (Q.entries[0][0] / Q.entries[1][1])
            r = 1 - S[-1] / 2  # at least sqrt(1 - S), so that 2/r - 1 is at most the bound
            bound = (2 / r - 1) ** 2
            figures[f"(kappa^2 - 1)/(bound^2 - 1), {name}"] = rounded_down((product - 1) / (bound - 1))
            ratios.append(yes_no(f"{name}: kappa(P) kappa(Q) at most the bound squared", product <= bound))
    return tuple(ratios), figures


def _budgets(gradients: Iterable[Exact], gamma: fmpq, *, half: bool) -> Iterable[fmpq]:
    total = fmpq(0)
    for G in gradients:
        m, n = fmpq(G.rows), fmpq(G.cols)
        share = (1 - gamma) / gamma * ((1 - 1 / m) / n + (1 - 1 / n) / m)
        total += (fmpq(1, 2) if half else 1) * share * (G @ G.T).trace()
        yield total


def _inside(X: Exact, level: fmpq) -> bool:
    one = Exact.identity(X.rows)
    return (level * one - (X - one)).is_psd() and (level * one + (X - one)).is_psd()


#: Condition numbers reported for FISMO's update, and the weight matrices of GPT-2 124M (out, in).
_REPORTED, _SHAPES = (100, 1000), ((768, 768), (2304, 768), (3072, 768), (768, 3072))


@evidence(faults=("D.2-without-the-floor", "square-forgotten"))
def condition_thresholds(*, fault: str | None = None) -> Finding:
    """What a condition number ``K`` of the update asks of the printed algorithm.

    With ``b < 1``, ``kappa <= (1 + (k-1) b)/(1-b)``, ``k = max(m, n)`` (from D.2), so ``kappa >= K`` needs
    ``b >= (K-1)/(K+k-1)``. By T9 it also needs ``S_T >= 1 - (2/(K+1))^2``, a sum of squared gradient norms.
    """
    K, k, b, m, n, r = sympy.symbols("K k b m n r", positive=True)
    top = 1 + (k - 1) * b
    floor = 1 if fault == "D.2-without-the-floor" else 1 - b
    power = 1 if fault == "square-forgotten" else 2
    figures = {}
    for rows, cols in _SHAPES:
        side, name = max(rows, cols), f"{rows}x{cols}"
        share = (1 - fmpq(1, rows)) / cols + (1 - fmpq(1, cols)) / rows
        for wanted in _REPORTED:
            figures[f"least b for kappa {wanted}, {name}"] = rounded_down(fmpq(wanted - 1, wanted + side - 1))
            needed = (1 - fmpq(4, (wanted + 1) ** 2)) * 19 / share
            figures[f"least sum of |G|^2 at gamma 0.95 for kappa {wanted}, {name}"] = rounded_down(needed)
    return Finding(
        (
            scalar_identity(
                "sqrt(Lambda_P Lambda_Q) <= Lambda of the longer side",
                (1 + (m - 1) * b) ** 2 - (1 + (m - 1) * b) * (1 + (n - 1) * b),
                (1 + (m - 1) * b) * (m - n) * b,
            ),
            scalar_identity("K (1-b) - Lambda", K * floor - top, (K - 1) - (K + k - 1) * b),
            scalar_identity("S at K = 2/r - 1 is 1 - r^2", 1 - (2 / ((2 / r - 1) + 1)) ** power, 1 - r**2),
        ),
        "kappa(dW) >= 100 needs b >= "
        f"{figures['least b for kappa 100, 768x768']:.3f} (768x768) or "
        f"{figures['least b for kappa 100, 768x3072']:.3f} (768x3072), and at gamma = 0.95 a sum of |G|_F^2 "
        f"over the steps of {figures['least sum of |G|^2 at gamma 0.95 for kappa 100, 768x768']:.0f} or "
        f"{figures['least sum of |G|^2 at gamma 0.95 for kappa 100, 768x3072']:.0f}, for any mu; kappa >= "
        f"1000 needs b >= {figures['least b for kappa 1000, 768x768']:.3f}",
        figures=figures,
    )


@evidence(faults=("spectral-norm-for-its-square", "one-eigenvalue-too-many"))
def condition_under_theorem_damping(*, fault: str | None = None) -> Finding:
    """With the theorem's damping ``kappa(P), kappa(Q), kappa(dW) <= 1 + s^2/mu``: no size, no ``b``.

    From T3: ``K_P (m - (m-1)/K_P) = m K_P - (m-1) = 1 + s^2/mu``, and likewise for Q; the update has at most
    the geometric mean of both. With 'unit' scaling ``s^2 <= m n``.
    """
    m, s, mu = sympy.symbols("m s mu", positive=True)
    square = s if fault == "spectral-norm-for-its-square" else s**2
    K = 1 + square / (m * mu)
    others = m if fault == "one-eigenvalue-too-many" else m - 1
    return Finding(
        (
            scalar_identity("K_P lambda_max", K * (m - others / K), 1 + s**2 / mu),
            scalar_identity("kappa = 100 needs s^2 = 99 mu", (1 + s**2 / mu).subs(s**2, 99 * mu), 100),
        ),
        "kappa(dW) <= 1 + s^2/mu for gradients of spectral norm s, any size, gamma and order: 100 needs "
        "s^2 >= 99 mu, 1000 needs s^2 >= 999 mu; with unit scaling s^2 is at most m n",
    )
