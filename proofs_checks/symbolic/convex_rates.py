"""SOFIM without momentum on convex functions: monotone, and as fast as gradient descent with its step."""

import sympy

from proofs_checks.evidence import Finding, evidence
from proofs_checks.symbolic.carriers import Carrier
from proofs_checks.symbolic.cone import Nonnegative
from proofs_checks.symbolic.proof import Equations, prove, scalar_identity

__all__ = ["sofim_convex_rate"]

_s = sympy.symbols


def _vectors(x: Carrier, fault: str | None) -> Equations:
    """One step ``w' = w - h g``, ``h L <= 1``; gradients g at w and G at w', minimiser ``w - v``.

    What is known enters by its slack, at least 0: descent ``f' = f - h |g|^2 + L h^2 |g|^2/2 - descent``,
    convexity at the minimiser ``f* = f - <g, v> + convex``, cocoercivity between the two points
    ``h <g - G, g> = |g - G|^2/L + coercive``.
    """
    g, G, v = (x.matrix(name, x.m, x.r / x.r) for name in ("g", "G", "v"))
    h, rest, descent, convex, coercive = (x.scalar(name) for name in ("h", "rest", "u", "c", "k"))
    half, L = x.r / (2 * x.r), 1 / (h + rest)
    size, change, along = x.trace(g.T @ g), x.trace((g - G).T @ (g - G)), x.trace((g - G).T @ g)
    drop = h * size - L * half * h * h * size + (-1 if fault == "ascent" else 1) * descent  # f - f'
    gap = x.trace(g.T @ v) - convex  # f - f*
    left = x.trace((v - h * g).T @ (v - h * g))
    known = (change / L + coercive) / h
    slack = (
        Nonnegative.assumed(2 * h * convex)
        + Nonnegative.assumed(2 * h * descent)
        + Nonnegative.assumed(h * h * (1 - h * L)) * Nonnegative.assumed(size)
    )
    twice = 1 if fault == "cocoercivity-once" else 2
    return {
        "f - f'": (
            drop,
            (
                Nonnegative.assumed(half * h * (1 - h * L) + half * h) * Nonnegative.assumed(size)
                + Nonnegative.assumed(descent)
            ),
        ),
        "|v|^2 - |v'|^2 - 2 h (f' - f*)": (x.trace(v.T @ v) - left - 2 * h * (gap - drop), slack),
        "|g|^2 - |G|^2 = 2 <g - G, g> - |g - G|^2": (
            size - x.trace(G.T @ G),
            twice * along - change,
        ),
        "2 <g - G, g> - |g - G|^2 where cocoercive": (
            2 * known - change,
            (
                Nonnegative.assumed(1 + 2 * rest / h) * Nonnegative.assumed(change)
                + Nonnegative.assumed(2 * coercive / h)
            ),
        ),
    }


@evidence(faults=("ascent", "cocoercivity-once", "step-twice-as-long", "distance-not-halved"))
def sofim_convex_rate(*, fault: str | None = None) -> Finding:
    """``f(w_T) - f* <= |w_0 - w*|^2/(2 sum eta_t)``, both norms monotone; contraction ``1 - mu eta_t``.

    The step is gradient descent with ``eta_t = eta/(rho + |g|^2) <= eta/rho <= 1/L``. One step lowers
    ``|w - w*|^2`` by ``2 eta_t (f(w_{t+1}) - f*)`` plus slack; values do not increase, so the last one is
    below their weighted mean. Gradient norms do not increase, by cocoercivity, so the first one gives the
    a-priori form. Strongly convex: ``|g|^2 >= 2 mu (f - f*)``.
    """
    eta, rho, L, excess, sq, gap, mu, first = _s("eta rho L z g2 Delta mu first", positive=True)
    limit = 2 if fault == "step-twice-as-long" else 1
    rho_value = eta * L / limit + excess  # eta <= limit rho / L
    h = eta / (rho_value + sq)
    factor = 1 if fault == "distance-not-halved" else 2
    end, last, steps, s1, s2 = _s("end last H s1 s2", positive=True)
    # telescoped: |v_0|^2 - |v_T|^2 = 2 sum h_t (f_{t+1} - f*) + s1, and the sum is H (f_T - f*) + s2
    begin = end + 2 * (steps * last + s2) + s1
    return Finding(
        (
            *prove(lambda x: _vectors(x, fault)),
            scalar_identity("1 - L eta_t", 1 - L * h, (excess + sq) / (rho_value + sq)),
            scalar_identity(
                "|w_0 - w*|^2 - 2 (sum eta_t) (f_T - f*) is what telescoping leaves",
                begin - factor * steps * last,
                end + s1 + 2 * s2,
            ),
            scalar_identity(
                "eta_t is least at the first gradient",
                eta / (rho + sq) - eta / (rho + sq + first),
                eta * first / ((rho + sq) * (rho + sq + first)),
            ),
            scalar_identity(
                "strongly convex: (1 - mu h) gap - gap'",
                (1 - mu * h) * gap - (gap - h * (2 * mu * gap + excess) / 2),
                h * excess / 2,
            ),
        ),
        "one-step inequalities of values, distances and gradient norms as identities with slack, for any "
        "dimension, summed over steps; factor 1 - mu eta/rho >= 1 - mu/L in the end, as gradient descent. "
        "Trusted: smoothness and convexity as descent, cocoercivity and |g|^2 >= 2 mu gap",
    )
