"""Rounding budgets of the matrix methods: every equation once more, on matrices that carry their error.

Symbols as in `reference`: G gradient, P, Q, L, R factors, M, V momentum, u unit roundoff.
"""

import math

import numpy as np

from proofs_checks.decision import Array
from proofs_checks.golden.case import Case
from proofs_checks.golden.rounding import Normed, Rounded
from proofs_checks.polynomials import Polynomial, step_sequence
from reference.polar import JORDAN_QUINTIC, POLAR_EXPRESS

__all__ = ["fismo", "muon", "newton_schulz", "polar_factor", "shampoo", "spectral_lmo"]

#: Muon's number of steps, and Polar Express's recommended safety factor and shift (arXiv 2505.16932).
JORDAN_STEPS, SAFETY, SHIFT = 5, 1.01, 1e-2


def fismo(case: Case, u: float) -> list[dict[str, Array]]:
    """Algorithm 1 of FISMO in all its options."""
    hp = case.hp
    beta, gamma, mu = (Rounded.parameter(hp[name], u) for name in ("beta", "gamma", "mu"))
    one = Rounded.of(1.0, u)
    m, n = case.steps[0]["G"].shape
    P = Normed.of(case.start.get("P0", np.eye(m)), u)
    Q = Normed.of(case.start.get("Q0", np.eye(n)), u)
    M = Normed.of(case.start.get("M0", np.zeros((m, n))), u)
    theorem, jacobi = hp["damping"] == "theorem", hp["order"] == "jacobi"
    out = []
    for inputs in case.steps:
        G = Normed.of(inputs["G"], u)
        S = G
        if hp["factor_scaling"] == "unit" and G.size:
            S = G * (Rounded.of(m * n, u).power(1 / 2) / G.norm())
        L = _statistic(S, Q, damping=_mean(Q.power(-1.0) if theorem else P) * mu)
        P_new = _unit_mean(P * gamma + L * (one - gamma))
        seen = P if jacobi else P_new
        R = _statistic(S.T, seen, damping=_mean(seen.power(-1.0) if theorem else Q) * mu)
        P, Q = P_new, _unit_mean(Q * gamma + R * (one - gamma))
        A, C = P.power(-1 / 2), Q.power(-1 / 2)
        M = M * beta + (A @ G @ C) * (one - beta)
        update = A @ _orthogonalized(M, hp["orthogonalize"]) @ C
        out.append({"update": update.budget, "P": P.budget, "Q": Q.budget, "M": M.budget})
    return out


def muon(case: Case, u: float) -> list[dict[str, Array]]:
    """Muon in all its conventions."""
    hp = case.hp
    beta, one = Rounded.parameter(hp["beta"], u), Rounded.of(1.0, u)
    m, n = case.steps[0]["G"].shape
    average = hp["momentum"] == "ema"
    a = {"none": 1.0, "original": math.sqrt(max(1.0, m / n))}.get(hp["scale"], 0.2 * math.sqrt(max(m, n)))
    V = Normed.of(np.zeros((m, n)), u)
    out = []
    for inputs in case.steps:
        G = Normed.of(inputs["G"], u)
        V = V * beta + (G * (one - beta) if average else G)
        ahead = G + (V - G if average else V) * beta
        O = _orthogonalized(ahead if hp["nesterov"] else V, hp["orthogonalize"])
        update = O * Rounded.parameter(a, u)
        if "W" in inputs:
            update = update + Normed.of(inputs["W"], u) * Rounded.parameter(hp["weight_decay"], u)
        out.append({"update": update.budget, "V": V.budget})
    return out


def shampoo(case: Case, u: float) -> list[dict[str, Array]]:
    """Shampoo for matrices; its start epsilon I is a stored hyper-parameter."""
    m, n = case.steps[0]["G"].shape
    epsilon = Rounded.parameter(case.hp["epsilon"], u)
    L, R = Normed.of(np.eye(m), u) * epsilon, Normed.of(np.eye(n), u) * epsilon
    out = []
    for inputs in case.steps:
        G = Normed.of(inputs["G"], u)
        L, R = L + G @ G.T, R + G.T @ G
        update = L.power(case.hp["exponent"]) @ G @ R.power(case.hp["exponent"])
        if "W" in inputs:
            update = update + Normed.of(inputs["W"], u) * Rounded.parameter(case.hp["weight_decay"], u)
        out.append({"update": update.budget, "L": L.budget, "R": R.budget})
    return out


def polar_factor(case: Case, u: float) -> list[dict[str, Array]]:
    """The polar factor."""
    return [{"Q": Normed.of(inputs["M"], u).polar().budget} for inputs in case.steps]


def spectral_lmo(case: Case, u: float) -> list[dict[str, Array]]:
    """The minimiser of a linear function over a spectral ball."""
    radius = Rounded.parameter(case.hp["radius"], u)
    return [{"X": (Normed.of(inputs["G"], u).polar() * radius).budget} for inputs in case.steps]


def newton_schulz(case: Case, u: float) -> list[dict[str, Array]]:
    """Odd polynomials in turn."""
    hp = case.hp
    sequence = step_sequence(hp["polynomials"], steps=hp["steps"])
    options = {name: hp[name] for name in ("normalize", "floor", "shift")}
    return [
        {"X": Normed.of(inputs["M"], u).newton_schulz(sequence, **options).budget} for inputs in case.steps
    ]


def _statistic(S: Normed, Q: Normed, *, damping: Rounded) -> Normed:
    """``S Q^-1 S^T / n + damping I``."""
    m, n = S.value.shape
    Z = S @ Q.power(-1 / 2)
    return (Z @ Z.T) / Rounded.of(float(n), S.u) + Normed.of(np.eye(m), S.u) * damping


def _mean(P: Normed) -> Rounded:
    """Mean eigenvalue."""
    return P.trace() / Rounded.of(float(len(P.value)), P.u)


def _unit_mean(P: Normed) -> Normed:
    """`P` over its mean eigenvalue."""
    return P / _mean(P)


def _orthogonalized(M: Normed, method: str) -> Normed:
    """The polar factor, or the named approximation of it."""
    if method == "polar":
        return M.polar()
    if method == "jordan":
        return M.newton_schulz((JORDAN_QUINTIC,) * JORDAN_STEPS)
    return M.newton_schulz(_safe(POLAR_EXPRESS), shift=SHIFT)


def _safe(rows: tuple[Polynomial, ...]) -> tuple[Polynomial, ...]:
    """``p(x / 1.01)`` for all but the last polynomial."""
    return *(tuple(c / SAFETY ** (2 * i + 1) for i, c in enumerate(p)) for p in rows[:-1]), rows[-1]
