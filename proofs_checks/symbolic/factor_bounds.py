"""Lemma D.2, T3, D.5 and T7: spectra and drift of the factors of Algorithm 1, by written-out slack.

The inductive steps are those of `factor_steps`, each taken for P and, with the sizes exchanged, for Q.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import sympy
from flint import fmpq

from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import Ratio, yes_no
from proofs_checks.symbolic.carriers import Carrier
from proofs_checks.symbolic.cone import Nonnegative, Psd
from proofs_checks.symbolic.exact import Exact
from proofs_checks.symbolic.factor_steps import Step, algorithm_step, prove_both, theorem_step
from proofs_checks.symbolic.proof import Equations, prove, scalar_identity
from proofs_checks.symbolic.recursion import alternating_units, factor_path

__all__ = ["bounded_factors", "drift", "sharp_drift", "unconditional_bounds"]


def _spectrum(s: Step) -> dict[str, tuple[Any, Any]]:
    """The fresh statistic obeys the bounds in units of ``tau``."""
    return {
        "top I - P": (s.top * s.one - s.P, s.ceiling),
        "L - level tau I": (s.L - s.level * s.tau * s.one, s.L_floor),
        "top tau I - L": (s.top * s.tau * s.one - s.L, s.L_ceiling),
    }


def _induction(s: Step) -> Equations:
    """And so does ``P_t = Pbar/w``, ``Pbar = gamma P + (1-gamma) L``, ``w = gamma + (1-gamma) tau``."""
    mean, w = s.gamma * s.P + s.delta * s.L, s.gamma + s.delta * s.tau
    old, new = Nonnegative.assumed(s.gamma), Nonnegative.assumed(s.delta)
    return _spectrum(s) | {
        "tr Pbar = m w": (s.x.trace(mean), s.x.trace(w * s.one)),
        "Pbar - level w I": (mean - s.level * w * s.one, old * s.floor + new * s.L_floor),
        "top w I - Pbar": (s.top * w * s.one - mean, old * s.ceiling + new * s.L_ceiling),
    }


@evidence(faults=("g-squared-twice-too-large", "upper-bound-short-by-b"))
def bounded_factors(*, fault: str | None = None) -> Finding:
    """Lemma D.2: with ``b < 1`` the spectra stay in ``[1-b, 1+(m-1)b]`` and ``[1-b, 1+(n-1)b]``.

    Induction from ``P_0 = I``: ``Pbar - (1-b) w I`` is ``gamma (P - (1-b) I)`` plus ``1-gamma`` times
    ``G Q^-1 G^T/n + (mu - (1-b) tau) I``, and the last bracket is what the hypotheses leave over. From above,
    ``tau Lambda I - L`` is ``(tr(X) I - X)/n`` with ``X = G Q^-1 G^T``, plus ``m - 1`` times the same
    bracket.
    """
    excess = 2 if fault == "g-squared-twice-too-large" else 1
    short = 1 if fault == "upper-bound-short-by-b" else 0
    inside, tightness = _extremal_run(fmpq(1, 2), short)
    m, b = sympy.symbols("m b")
    return Finding(
        (
            *prove_both(lambda x, m, n: _induction(algorithm_step(x, m, n, excess=excess, short=short))),
            scalar_identity("P_0 = I lies inside: 1 - (1-b)", 1 - (1 - b), b),
            scalar_identity("P_0 = I lies inside: Lambda - 1", (1 + (m - 1) * b) - 1, (m - 1) * b),
            inside,
        ),
        "induction step for both factors, any gamma, either order, all sizes; an exact run at b = 1/2 "
        f"reaches {tightness:.6f} of the lower bound. Trusted: a positive semidefinite matrix is at most "
        "its trace",
        tightness=tightness,
    )


def _extremal_run(b: fmpq, short: int) -> tuple[Ratio, float]:
    """2 x 3, gamma = 0, Jacobi, alternating rank-one gradients of norm g, in rationals."""
    m, n, size = 2, 3, fmpq(3)
    mu = size * size / (m * n * b)
    inside, least = True, fmpq(1)
    for P, Q in factor_path(alternating_units(size, m, n, 24), gamma=fmpq(0), mu=mu, order="jacobi"):
        for X in (P, Q):
            one = Exact.identity(X.rows)
            above, below = X - (1 - b) * one, (1 + (X.rows - 1 - short) * b) * one - X
            inside &= above.is_psd() and below.is_psd()
            least = min(least, *(X.entries[i][i] for i in range(X.rows)))
    return yes_no("exact run inside the bounds", inside), rounded_down((1 - b) / least)


def rounded_down(value: fmpq) -> float:
    """A rational as a float, rounded down to six decimals."""
    return int((value * 10**6).floor()) / 10**6


@evidence(faults=("s-squared-twice-too-large", "one-eigenvalue-too-few"))
def unconditional_bounds(*, fault: str | None = None) -> Finding:
    """T3: with the theorem's damping ``|P^-1|_2 <= K = 1 + s^2/(m mu)`` for any ``b``, and so for ``Q``.

    ``L - tau/K I = G Q^-1 G^T/n + tr(C (s^2 I - G^T G) C)/(m n K) I``: the fresh statistic is at least its
    mean eigenvalue over ``K``; averages and scaling keep that. ``P_0 = I`` has it because ``K >= 1``.
    """
    excess = 2 if fault == "s-squared-twice-too-large" else 1
    short = 1 if fault == "one-eigenvalue-too-few" else 0
    return Finding(
        prove_both(lambda x, m, n: _induction(theorem_step(x, m, n, excess=excess, short=short))),
        "induction step for both factors with `theorem` damping, any mu > 0, any gamma, either order, all "
        "sizes. Trusted: a positive semidefinite matrix is at most its trace",
    )


def _normalised_difference(s: Step) -> dict[str, tuple[Any, Any]]:
    """``(P_t - P) w = (1-gamma)(L - tau P)`` and the bound of ``tau`` from above."""
    mean, w = s.gamma * s.P + s.delta * s.L, s.gamma + s.delta * s.tau
    return {
        "(P_t - P) w": (mean - w * s.P, s.delta * (s.L - s.tau * s.P)),
        "tau_max - tau": (s.tau_max - s.tau, s.tau_slack),
    }


@evidence(faults=("drift-without-Lambda", "sylvester-one-sided", "tau-max-is-mu"))
def drift(*, fault: str | None = None) -> Finding:
    """Lemma D.5: the drift of ``P`` and of ``P^-1/2``.

    ``L`` and ``tau P`` are positive semidefinite and at most ``tau Lambda``, so their difference is too. The
    bound ``(1-gamma) tau Lambda/(gamma + (1-gamma) tau)`` then uses ``mu <= tau <= mu/(1-b)``, once in each
    place. For the roots ``X, Y`` and ``E = X - Y``: ``X^2 - Y^2 = X E + E Y``; along the eigenvector ``v``
    of ``E`` with ``|E v| = |E|`` this is ``|E| v^T (X + Y) v >= 2 |E|/sqrt(p)``, and
    ``X^-1 - Y^-1 = -X^-1 E Y^-1``. The denominator is an average of 1 and ``mu``, so ``1-gamma <= c eta``
    makes the drift of order ``eta``.
    """

    def statement(x: Carrier, m: Any, n: Any) -> Equations:
        s = algorithm_step(x, m, n)
        tau, top = Nonnegative.assumed(s.tau), s.top
        if fault == "drift-without-Lambda":
            top = 1
        gap = s.L - s.tau * s.P
        data = s.L_floor + tau * Nonnegative.positive(s.level) * Psd.identity(x, m)  # L itself
        return _normalised_difference(s) | {
            "tau Lambda I - (L - tau P)": (
                s.tau * top * s.one - gap,
                s.L_ceiling + tau * Psd.assumed(x, s.P),
            ),
            "tau Lambda I + (L - tau P)": (s.tau * top * s.one + gap, data + tau * s.ceiling),
        }

    def roots(x: Carrier) -> Equations:
        X, Y, v = x.positive("X", x.m), x.positive("Y", x.m), x.matrix("v", x.m, 1)
        E = X - Y
        right = E @ X if fault == "sylvester-one-sided" else E @ Y
        return {
            "X^2 - Y^2 = X E + E Y": (X @ X - Y @ Y, X @ E + right),
            "X^-1 - Y^-1": (X.inverse() - Y.inverse(), -1 * (X.inverse() @ E @ Y.inverse())),
            "v' (X^2 - Y^2) v": (
                x.trace(v.T @ (X @ X - Y @ Y) @ v),
                x.trace((X @ v).T @ (E @ v)) + x.trace((E @ v).T @ (Y @ v)),
            ),
        }

    g, d, mu, y, z, root_p, gap = sympy.symbols("gamma delta mu y z sqrt_p Delta", positive=True)
    tau = mu + y  # y >= 0, and tau_max = tau + z with z >= 0
    tau_max = mu if fault == "tau-max-is-mu" else tau + z
    excess = d * tau_max / (g + d * mu) - d * tau / (g + d * tau)
    return Finding(
        (
            *prove_both(statement),
            *prove(roots),
            scalar_identity(
                "the bound is monotone in both places",
                excess,
                d * (z * (g + d * tau) + d * tau * y) / ((g + d * mu) * (g + d * tau)),
            ),
            scalar_identity(
                "gamma + (1-gamma) mu is at least mu if mu <= 1", (1 - d + d * mu) - mu, (1 - d) * (1 - mu)
            ),
            scalar_identity(
                "gamma + (1-gamma) mu is at least 1 if mu >= 1", (1 - d + d * mu) - 1, d * (mu - 1)
            ),
            scalar_identity(
                "|P^-1/2 - P'^-1/2| <= sqrt(p) (sqrt(p)/2 |P - P'|) sqrt(p)",
                root_p * (root_p / 2 * gap) * root_p,
                root_p**3 / 2 * gap,
            ),
        ),
        "drift bound of D.5 for both factors and (1/2) p^(3/2) for the inverse roots, all sizes. Trusted: "
        "norms of symmetric matrices are eigenvalues, |X E Y| <= |X||E||Y|",
    )


@evidence(faults=("width-without-m", "tau-max-without-the-other-factor", "gamma-raises-the-drift"))
def sharp_drift(*, fault: str | None = None) -> Finding:
    """T7: sharp drift bounds for both dampings, decreasing in ``gamma``.

    ``L/tau`` and ``P`` have their spectra in the same interval ``[level, top]``, so their difference is at
    most its width: ``m b`` (algorithm) or ``m (1 - 1/K)`` (theorem).
    ``(1-gamma) tau/(gamma + (1-gamma) tau)`` increases in ``tau``, whose largest value is ``mu/(1-b)`` or
    ``mu K_P K_Q``. Attained: see the exact run.
    """

    def statement(build: Callable[..., Step], width: Callable[[Step, Any], Any]) -> Any:
        def equations(x: Carrier, m: Any, n: Any) -> Equations:
            s = build(x, m, n)
            tau, gap = Nonnegative.assumed(s.tau), s.L - s.tau * s.P
            wide = width(s, m) * s.tau * s.one
            if fault == "tau-max-without-the-other-factor":
                s = Step(**{**vars(s), "tau_max": s.tau_max * s.level})
            return (
                _spectrum(s)
                | _normalised_difference(s)
                | {
                    "width tau I - (L - tau P)": (wide - gap, s.L_ceiling + tau * s.floor),
                    "width tau I + (L - tau P)": (wide + gap, s.L_floor + tau * s.ceiling),
                }
            )

        return prove_both(equations)

    less = 1 if fault == "width-without-m" else 0
    g, mu, b, m, tau, z = sympy.symbols("gamma mu b m tau z", positive=True)
    f = (1 - g) * tau / (g + (1 - g) * tau)
    rise = f.subs(tau, tau + z) - f
    bound = (1 - g) * mu * m * b / (g * (1 - b) + (1 - g) * mu)
    slope = sympy.diff(bound, g) * (-1 if fault == "gamma-raises-the-drift" else 1)
    runs, tightness = _attained(fmpq(1, 2))
    return Finding(
        (
            *statement(algorithm_step, lambda s, m: (m - less) * (1 - s.level)),
            *statement(theorem_step, lambda s, m: (m - less) * (1 - s.level)),
            scalar_identity(
                "increasing in tau",
                rise,
                (1 - g) * g * z / ((g + (1 - g) * tau) * (g + (1 - g) * (tau + z))),
            ),
            scalar_identity("at tau = mu/(1-b)", m * b * f.subs(tau, mu / (1 - b)), bound),
            scalar_identity(
                "decreasing in gamma", slope, -mu * m * b * (1 - b) / (g * (1 - b) + (1 - g) * mu) ** 2
            ),
            *runs,
        ),
        "drift at most width times a factor that falls with gamma, both dampings and factors, all sizes; "
        f"exact runs at gamma = 0 reach {tightness:.6f} of the `algorithm` bound and all of the `theorem` "
        "bound. Trusted: a positive semidefinite matrix is at most its trace",
        tightness=tightness,
    )


def _attained(b: fmpq) -> tuple[tuple[Ratio, ...], float]:
    """Drift at ``gamma = 0`` under alternating gradients, over its bound, in rationals.

    `algorithm`: 2 x 3, Jacobi, bound ``m b``, approached. `theorem`: 3 x 1 gradients ``s e_1``, ``s e_2`` in
    turn, where ``Q = 1`` and the bound ``m (1 - 1/K)`` is attained from the second step on.
    """
    m, n, size = 2, 3, fmpq(3)
    mu = size * size / (m * n * b)
    moves = _moves(alternating_units(size, m, n, 24), mu=mu, damping="algorithm", order="jacobi")
    best = max(moves) / (m * b)
    columns = [Exact([[size if i == t % 2 else 0] for i in range(3)]) for t in range(4)]
    width = 3 * (1 - 1 / (1 + size * size / (3 * mu)))
    exact = [move == width for move in _moves(columns, mu=mu, damping="theorem", order="gauss-seidel")]
    ratios = (
        yes_no("exact run inside the drift bound, algorithm", best <= 1),
        yes_no("exact run at the drift bound, theorem", all(exact)),
    )
    return ratios, rounded_down(best)


def _moves(gradients: list[Exact], *, mu: fmpq, damping: str, order: str) -> list[fmpq]:
    """Spectral norms of ``P_t - P_{t-1}`` from the second step on, all factors being diagonal."""
    factors = [P for P, _ in factor_path(gradients, gamma=fmpq(0), mu=mu, damping=damping, order=order)]
    return [
        max(abs(new.entries[i][i] - old.entries[i][i]) for i in range(new.rows))
        for old, new in pairwise(factors)
    ]
