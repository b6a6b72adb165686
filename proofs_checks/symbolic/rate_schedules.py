"""NI-schedules: the sums of Nagashima and Iiduka's bound for constant, geometric and cosine schedules."""

from typing import Any

import sympy
from flint import fmpq

from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import Ratio, yes_no
from proofs_checks.symbolic.proof import scalar_identity

__all__ = ["schedules"]

_s = sympy.symbols
T, eta, beta = _s("T eta beta", positive=True)


@evidence(faults=("double-sum-without-beta", "cosine-from-one", "growth-without-the-root"))
def schedules(*, fault: str | None = None) -> Finding:
    """Constant, geometric-batch and cosine evaluations of the sums; growing batches remove the floor.

    Each closed form is proved by induction over T, its increment being the next summand; the cosine sums by
    telescoping ``2 sin(a/2) cos(t a) = sin((t + 1/2) a) - sin((t - 1/2) a)`` at ``a = pi/T``.
    """
    t, d = _s("t d", positive=True)
    factor = 1 if fault == "double-sum-without-beta" else beta
    constant = factor * t / (1 - beta) - beta * (1 - beta**t) / (1 - beta) ** 2
    inner = beta * (1 - beta**t) / (1 - beta)  # sum of beta^i, i = 1..t
    ratios = [
        scalar_identity("constant step: increment", _step(constant, t), inner),
        scalar_identity("constant step: start", constant.subs(t, 0)),
        scalar_identity("sum of beta^t: increment", _step((1 - beta**t) / (1 - beta), t), beta**t),
        scalar_identity("sum of (1-beta) beta^i", (1 - beta) * _partial(beta, t), 1 - beta ** (t + 1)),
    ]
    return Finding(
        (*ratios, *_geometric(t, d, fault), *_cosines(fault), *_exact_sums()),
        "sums for constant, geometric-batch and cosine schedules, for all T by induction and telescoping, "
        "and in rationals for T up to 12; with batches B delta^t the noise term is at most 2 sigma sqrt(nu) "
        "sqrt(delta)/((sqrt(delta)-1) sqrt(B) T), so the floor is gone",
    )


def _step(expression: Any, t: Any) -> Any:
    return expression.subs(t, t + 1) - expression


def _partial(b: Any, t: Any) -> Any:
    """``sum of b^i, i = 0..t``."""
    return (1 - b ** (t + 1)) / (1 - b)


def _geometric(t: Any, d: Any, fault: str | None) -> list[Ratio]:
    """Noise sum for batches ``B delta^t``, ``d = delta^(-1/2)``.

    With ``s_t = beta s_{t-1} + (1-beta) d^t``: ``sum_{t<T} s_t = (1 - d^T)/(1 - d) - beta s_{T-1}/(1-beta)``.
    """
    before, root = _s("s delta", positive=True)
    power = d ** (2 * t) if fault == "growth-without-the-root" else d**t
    new = beta * before + (1 - beta) * d**t
    total_after = (1 - power * d) / (1 - d) - beta * new / (1 - beta)
    total_before = (1 - power) / (1 - d) - beta * before / (1 - beta)
    limit = 1 / (1 - 1 / sympy.sqrt(root))
    return [
        scalar_identity("geometric batches: increment", total_after - total_before, new),
        scalar_identity(
            "limit sqrt(delta)/(sqrt(delta)-1)",
            sympy.simplify(limit - sympy.sqrt(root) / (sympy.sqrt(root) - 1)),
        ),
    ]


def _cosines(fault: str | None) -> list[Ratio]:
    """``sum cos(pi t/T) = 1`` and ``sum cos(2 pi t/T) = 0`` (T at least 2) over ``t = 0..T-1``."""
    a, t = _s("a t", real=True)
    half = sympy.Rational(1, 2)
    telescope = (
        sympy.sin((t + half) * a) - sympy.sin((t - half) * a) - 2 * sympy.sin(a / 2) * sympy.cos(t * a)
    )
    ends = {
        "sum of cos(pi t/T) = 1": (sympy.pi / T, 1),
        "sum of cos(2 pi t/T) = 0": (2 * sympy.pi / T, 0),
    }
    first = half if fault == "cosine-from-one" else -half  # where the telescope starts
    found = [scalar_identity("telescope", sympy.simplify(sympy.expand_trig(telescope)))]
    for name, (angle, value) in ends.items():
        total = sympy.sin((T - half) * angle) - sympy.sin(first * angle)
        found.append(
            scalar_identity(
                name, sympy.simplify(sympy.expand(total - value * 2 * sympy.sin(angle / 2), trig=True))
            )
        )
    n, sum_cos, sum_cos2 = T, 1, 0  # as just shown
    squared = sympy.expand_trig((1 + sympy.cos(a)) ** 2 - (1 + 2 * sympy.cos(a) + (1 + sympy.cos(2 * a)) / 2))
    found += [
        scalar_identity("(1 + cos a)^2", sympy.simplify(squared)),
        scalar_identity("steps", eta / 2 * (n + sum_cos), eta * (T + 1) / 2),
        scalar_identity(
            "squared steps",
            eta**2 / 4 * (n + 2 * sum_cos + (n + sum_cos2) / 2),
            3 * eta**2 * T / 8 + eta**2 / 2,
        ),
    ]
    return found


def _exact_sums() -> list[Ratio]:
    """The closed forms against the sums themselves for T up to 12, rational beta and ``delta = 9/4``."""
    b, d = fmpq(3, 4), fmpq(2, 3)
    constant = geometric = True
    for horizon in range(1, 13):
        total = sum((b**i for t in range(horizon) for i in range(1, t + 1)), fmpq(0))
        constant &= total == b * horizon / (1 - b) - b * (1 - b**horizon) / (1 - b) ** 2
        noise = sum(((1 - b) * b**i * d ** (t - i) for t in range(horizon) for i in range(t + 1)), fmpq(0))
        last = sum(((1 - b) * b**i * d ** (horizon - 1 - i) for i in range(horizon)), fmpq(0))
        geometric &= noise == (1 - d**horizon) / (1 - d) - b * last / (1 - b) and noise <= 1 / (1 - d)
    return [
        yes_no("constant steps in rationals", constant),
        yes_no("geometric batches in rationals", geometric),
    ]
