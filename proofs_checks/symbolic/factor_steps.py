"""One step of the factor recursion under an induction hypothesis, for either damping.

Each step is stated for ``P`` given ``Q``. With the sizes exchanged it is the step for ``Q`` given ``P``,
fresh or stale (Gauss-Seidel or Jacobi): the hypothesis on the other factor is all that it uses.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from proofs_checks.ratios import Ratio
from proofs_checks.symbolic.carriers import Carrier
from proofs_checks.symbolic.cone import Nonnegative, Psd
from proofs_checks.symbolic.proof import Equations, prove

__all__ = ["Step", "algorithm_step", "prove_both", "theorem_step"]


@dataclass(frozen=True)
class Step:
    """One step of the recursion for ``P`` (m x m) under the induction hypothesis, on the carrier `x`.

    ``level`` and ``top`` bound the spectrum of ``P``: ``floor = P - level I`` and ``ceiling = top I - P`` are
    positive semidefinite by hypothesis. ``L_floor`` and ``L_ceiling`` are built by the rules of `cone` and
    are to equal ``L - level tau I`` and ``top tau I - L``; ``tau_slack`` is to equal ``tau_max - tau``.
    """

    x: Carrier
    one: Any
    gamma: Any
    delta: Any
    P: Any
    L: Any
    tau: Any
    level: Any
    top: Any
    floor: Psd
    ceiling: Psd
    L_floor: Psd
    L_ceiling: Psd
    tau_max: Any
    tau_slack: Nonnegative


def algorithm_step(x: Carrier, m: Any, n: Any, *, excess: Any = 1, short: Any = 0) -> Step:
    """`algorithm` damping with ``|G|_F^2 <= g^2 = b m n mu``, ``b < 1`` and ``|Q^-1|_2 <= 1/(1-b)``.

    The hypotheses leave over ``room = mu - (1-b) tau``, namely ``g^2 - |G|_F^2`` and
    ``(1-b) tr(G (I/(1-b) - Q^-1) G^T)``, both over ``m n``. `excess` and `short` plant errors.
    """
    (gamma, delta), (b, c), mu = x.weight("gamma"), x.weight("b"), x.scalar("mu")
    P, Q_inverse, G = x.normalised("P", m), x.positive("Q_inverse", n), x.matrix("G", m, n)
    one = x.identity(m)
    data = Psd.assumed(x, Q_inverse).under(G)
    L = (1 / n) * data.value + mu * one
    norm_left = Nonnegative.assumed(excess * b * m * n * mu - x.trace(G @ G.T))
    inverse_left = Psd.assumed(x, (1 / c) * x.identity(n) - Q_inverse).under(G).trace()
    below_one = Nonnegative.positive(c)
    room = (norm_left + below_one * inverse_left) / Nonnegative.positive(m * n)
    share, others = Nonnegative.positive(1 / n), Nonnegative.assumed(m - 1)
    level, top, tau = c, 1 + (m - 1) * b - short * b, x.trace(L) / m
    return Step(
        x=x,
        one=one,
        gamma=gamma,
        delta=delta,
        P=P,
        L=L,
        tau=tau,
        level=level,
        top=top,
        floor=Psd.assumed(x, P - level * one),
        ceiling=Psd.assumed(x, top * one - P),
        L_floor=share * data + room * Psd.identity(x, m),
        L_ceiling=share * data.below_trace(m) + others * room * Psd.identity(x, m),
        tau_max=mu / c,
        tau_slack=room / below_one,
    )


def theorem_step(x: Carrier, m: Any, n: Any, *, excess: Any = 1, short: Any = 0) -> Step:
    """`theorem` damping with ``s^2 I - G^T G`` positive semidefinite; no hypothesis on ``b``.

    ``K = 1 + s^2/(m mu)``. What the hypothesis leaves over is ``tr(C (s^2 I - G^T G) C)`` with
    ``C C = Q^-1``. The upper bound is the trace less the other eigenvalues: ``tr(X) I - X`` for
    ``X = P - I/K``.
    """
    (gamma, delta), mu, s2 = x.weight("gamma"), x.scalar("mu"), x.scalar("s^2")
    P, C, G = x.normalised("P", m), x.positive("C", n), x.matrix("G", m, n)
    one, q = x.identity(m), x.trace(C @ C)
    K, K_other = 1 + s2 / (m * mu), 1 + s2 / (n * mu)
    data = Psd.gram(x, G @ C)
    L = (1 / n) * (data.value + mu * q * one)
    left = Psd.assumed(x, excess * s2 * x.identity(n) - G.T @ G).under(C).trace()
    inverse_left = Psd.assumed(x, K_other * x.identity(n) - C @ C).trace()
    floor = Psd.assumed(x, P - (1 / K) * one)
    L_floor = Nonnegative.positive(1 / n) * data + (left / Nonnegative.positive(m * n * K)) * Psd.identity(
        x, m
    )
    return Step(
        x=x,
        one=one,
        gamma=gamma,
        delta=delta,
        P=P,
        L=L,
        tau=x.trace(L) / m,
        level=1 / K,
        top=m - (m - 1 - short) / K,
        floor=floor,
        ceiling=floor.below_trace(m),
        L_floor=L_floor,
        L_ceiling=L_floor.below_trace(m),
        tau_max=mu * K * K_other,
        tau_slack=Nonnegative.positive(mu * K / n) * inverse_left + left / Nonnegative.positive(m * n),
    )


def prove_both(statement: Callable[[Any, Any, Any], Equations]) -> tuple[Ratio, ...]:
    """Decide ``statement(x, m, n)`` for P and, with the sizes exchanged, for Q."""
    return (
        *prove(lambda x: statement(x, x.m, x.n), label="P, "),
        *prove(lambda x: statement(x, x.n, x.m), label="Q, "),
    )
