"""Rounding budgets of the elementwise methods: every equation once more, on numbers that carry their error.

Symbols as in `reference`: G, g gradient, m, v, M averages, t steps taken, u unit roundoff.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from proofs_checks.decision import Array
from proofs_checks.golden.case import Arrays, Case
from proofs_checks.golden.rounding import Rounded

__all__ = ["adafisher", "adahessian", "adamw", "sgd", "sofim"]


def sofim(case: Case, u: float) -> list[dict[str, Array]]:
    """SOFIM in closed form."""
    beta, rho = _parameters(case.hp, u, "beta", "rho")
    M = _zeros(case.steps[0]["g"], u)
    out = []
    for t, inputs in enumerate(case.steps, start=1):
        M = _average(M, Rounded.of(inputs["g"], u), beta)
        M_hat = M / _correction(beta, t)
        update = M_hat / (rho + (M_hat * M_hat).sum())
        out.append({"update": update.budget, "M": M.budget})
    return out


def sgd(case: Case, u: float) -> list[dict[str, Array]]:
    """Stochastic gradient descent with momentum, in all its forms."""
    beta, delta = _parameters(case.hp, u, "momentum", "dampening")
    one, v = Rounded.of(1.0, u), _zeros(case.steps[0]["G"], u)
    out = []
    for t, inputs in enumerate(case.steps, start=1):
        G = _decayed(Rounded.of(inputs["G"], u), inputs, case.hp)
        if case.hp["form"] == "classical":
            v = beta * v + (G if t == 1 else (one - delta) * G)
            ahead = G + beta * v
        else:
            v = _average(v, G, beta)
            ahead = _average(v, G, beta)
        update = ahead if case.hp["nesterov"] else v
        out.append({"update": update.budget, "v": v.budget})
    return out


def adamw(case: Case, u: float) -> list[dict[str, Array]]:
    """AdamW."""
    return _adam(case, u, "G", 1 / 2)


def adahessian(case: Case, u: float) -> list[dict[str, Array]]:
    """AdaHessian without spatial averaging."""
    return _adam(case, u, "D", case.hp["power"] / 2)


def adafisher(case: Case, u: float) -> list[dict[str, Array]]:
    """AdaFisher with the paper's averages, the average normalised after, fresh factors at every step."""
    beta, gamma, lam = _parameters(case.hp, u, "beta", "gamma", "lam")
    M = _zeros(case.steps[0]["G"], u)
    h, s = (Rounded.of(case.steps[0][name], u) for name in ("h_D", "s_D"))
    out = []
    for t, inputs in enumerate(case.steps, start=1):
        if t > 1 or case.hp["initial"] == "ones":
            before = (h, s) if t > 1 else tuple(Rounded.of(np.ones_like(x.value), u) for x in (h, s))
            fresh = (Rounded.of(inputs[name], u) for name in ("h_D", "s_D"))
            h, s = (_average(old, new, gamma) for old, new in zip(before, fresh, strict=True))
        F = _minmax(s).at((slice(None), None)) * _minmax(h).at((None, slice(None))) + lam
        M = _average(M, Rounded.of(inputs["G"], u), beta)
        update = _decayed(M / _correction(beta, t) / F, inputs, case.hp)
        out.append({"update": update.budget, "M": M.budget, "h_D": h.budget, "s_D": s.budget})
    return out


def _adam(case: Case, u: float, scale: str, exponent: float) -> list[dict[str, Array]]:
    """Averages of G and of the square of `scale`, bias-corrected; the second to a power."""
    beta1, beta2, epsilon = _parameters(case.hp, u, "beta1", "beta2", "epsilon")
    m, v = (_zeros(case.steps[0]["G"], u) for _ in range(2))
    out = []
    for t, inputs in enumerate(case.steps, start=1):
        X = Rounded.of(inputs[scale], u)
        m, v = _average(m, Rounded.of(inputs["G"], u), beta1), _average(v, X * X, beta2)
        root = (v / _correction(beta2, t)).power(exponent)
        update = _decayed(m / _correction(beta1, t) / (root + epsilon), inputs, case.hp)
        out.append({"update": update.budget, "m": m.budget, "v": v.budget})
    return out


def _parameters(hp: Mapping[str, Any], u: float, *names: str) -> list[Rounded]:
    return [Rounded.parameter(float(hp[name]), u) for name in names]


def _zeros(like: Array, u: float) -> Rounded:
    return Rounded.of(np.zeros_like(like), u)


def _average(old: Rounded, new: Rounded, beta: Rounded) -> Rounded:
    return beta * old + (Rounded.of(1.0, beta.u) - beta) * new


def _correction(beta: Rounded, t: int) -> Rounded:
    """``1 - beta^t``, the power by repeated multiplication."""
    power = beta
    for _ in range(t - 1):
        power = power * beta
    return Rounded.of(1.0, beta.u) - power


def _decayed(update: Rounded, inputs: Arrays, hp: Mapping[str, Any]) -> Rounded:
    """``update + weight_decay W``."""
    if "W" not in inputs:
        return update
    return update + Rounded.parameter(hp["weight_decay"], update.u) * Rounded.of(inputs["W"], update.u)


def _minmax(d: Rounded) -> Rounded:
    """``(d - min d) / (max d - min d)``; subtractions of unrelated entries, however close."""
    low, high = d.extreme(-1), d.extreme(1)
    return (d - low) / (high - low)
