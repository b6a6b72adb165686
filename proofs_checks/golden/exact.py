"""Golden values in rational arithmetic: every equation once more, wherever its result is rational.

Symbols as in `reference`. A function returns, for every step, those outputs that are rational, entries row by
row; hyper-parameters and inputs count with their exact float64 values. Momentum and factors are always
rational; an update that needs a root is given where the root is rational: momentum with one entry per row and
column, diagonal factors, perfect squares.
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from proofs_checks.decision import Array
from proofs_checks.golden import rational
from proofs_checks.golden.case import Case
from proofs_checks.golden.rational import Matrix
from proofs_checks.polynomials import step_sequence

__all__ = [
    "adafisher",
    "adahessian",
    "adamw",
    "fismo",
    "muon",
    "newton_schulz",
    "polar_factor",
    "sgd",
    "shampoo",
    "sofim",
    "spectral_lmo",
]

Outputs = list[dict[str, list[Fraction]]]
Vector = list[Fraction]


def fismo(case: Case) -> Outputs:
    """P and Q at every step, M and the update where the roots are rational."""
    beta, gamma, mu = _parameters(case.hp, "beta", "gamma", "mu")
    theorem, jacobi = case.hp["damping"] == "theorem", case.hp["order"] == "jacobi"
    m, n = case.steps[0]["G"].shape
    P, Q = (rational.matrix(case.start.get(name, np.eye(k))) for name, k in (("P0", m), ("Q0", n)))
    M: Matrix | None = rational.matrix(case.start.get("M0", np.zeros((m, n))))
    out: Outputs = []
    for inputs in case.steps:
        G = rational.matrix(inputs["G"])
        length = rational.squares(G)
        unit = case.hp["factor_scaling"] == "unit" and length
        weight = m * n / length if unit else Fraction(1)  # of G G^T
        L = _statistic(G, Q, weight, mu * _mean(rational.inverse(Q) if theorem else P))
        P_new = _unit_mean(rational.combine(lambda p, l: gamma * p + (1 - gamma) * l, P, L))
        seen = P if jacobi else P_new
        damping = mu * _mean(rational.inverse(seen) if theorem else Q)
        R = _statistic(rational.transpose(G), seen, weight, damping)
        P, Q = P_new, _unit_mean(rational.combine(lambda q, r: gamma * q + (1 - gamma) * r, Q, R))
        found = {"P": P, "Q": Q}
        whitened = _divided_by_roots(G, P, Q)
        M = None if M is None or whitened is None else _average(M, whitened, beta)
        if M is not None:
            found["M"] = M
            O = rational.polar(M) if case.hp["orthogonalize"] == "polar" else None
            update = None if O is None else _divided_by_roots(O, P, Q)
            if update is not None:
                found["update"] = update
        out.append({name: rational.flat(X) for name, X in found.items()})
    return out


def muon(case: Case) -> Outputs:
    """V at every step, and the update with the exact polar factor where that is rational."""
    beta, decay = _parameters(case.hp, "beta", "weight_decay")
    m, n = case.steps[0]["G"].shape
    average = case.hp["momentum"] == "ema"
    V = rational.matrix(np.zeros((m, n)))
    out: Outputs = []
    for inputs in case.steps:
        G = rational.matrix(inputs["G"])
        V = rational.combine(lambda v, g: beta * v + ((1 - beta) * g if average else g), V, G)
        ahead = rational.combine(lambda v, g: g + beta * (v - g if average else v), V, G)
        found = {"V": V}
        a = {
            "none": Fraction(1),
            "original": rational.root(max(Fraction(1), Fraction(m, n))),
        }.get(case.hp["scale"])
        O = (
            rational.polar(ahead if case.hp["nesterov"] else V)
            if case.hp["orthogonalize"] == "polar"
            else None
        )
        if O is not None and a is not None:
            found["update"] = _decayed(rational.scaled(a, O), inputs.get("W"), decay)
        out.append({name: rational.flat(X) for name, X in found.items()})
    return out


def shampoo(case: Case) -> Outputs:
    """L and R at every step, and the update for diagonal factors with rational roots."""
    epsilon, decay = _parameters(case.hp, "epsilon", "weight_decay")
    m, n = case.steps[0]["G"].shape
    L, R = rational.scaled(epsilon, rational.eye(m)), rational.scaled(epsilon, rational.eye(n))
    out: Outputs = []
    for inputs in case.steps:
        G = rational.matrix(inputs["G"])
        L = rational.combine(Fraction.__add__, L, rational.product(G, rational.transpose(G)))
        R = rational.combine(Fraction.__add__, R, rational.product(rational.transpose(G), G))
        found = {"L": L, "R": R}
        halves = -4 * case.hp["exponent"]  # 1: quarter powers of each factor, 2: square roots
        update = _divided_by_roots(G, L, R, twice=halves == 1) if halves in (1, 2) else None
        if update is not None:
            found["update"] = _decayed(update, inputs.get("W"), decay)
        out.append({name: rational.flat(X) for name, X in found.items()})
    return out


def polar_factor(case: Case) -> Outputs:
    """The polar factor, where it is rational."""
    return [_found("Q", rational.polar(rational.matrix(inputs["M"]))) for inputs in case.steps]


def spectral_lmo(case: Case) -> Outputs:
    """Minus the radius times the polar factor, where it is rational."""
    (radius,) = _parameters(case.hp, "radius")
    factors = [rational.polar(rational.matrix(inputs["G"])) for inputs in case.steps]
    return [_found("X", None if O is None else rational.scaled(-radius, O)) for O in factors]


def newton_schulz(case: Case) -> Outputs:
    """The iteration, where the norm is rational."""
    hp = case.hp
    floor, shift = _parameters(hp, "floor", "shift")
    sequence = step_sequence(hp["polynomials"], steps=hp["steps"])
    out: Outputs = []
    for inputs in case.steps:
        X = rational.matrix(inputs["M"])
        norm = rational.root(rational.squares(X))
        if norm is None and hp["normalize"]:
            out.append({})
            continue
        divisor = max((norm or Fraction()) + shift, floor) if hp["normalize"] else Fraction(1)
        X = rational.scaled(1 / divisor, X) if divisor else X
        for p in sequence:
            coefficients = [Fraction(c) for c in p]
            G, Y = rational.product(X, rational.transpose(X)), rational.scaled(coefficients[-1], X)
            for c in reversed(coefficients[:-1]):
                Y = rational.combine(lambda x, y, c=c: c * x + y, X, rational.product(G, Y))
            X = Y
        out.append({"X": rational.flat(X)})
    return out


def sofim(case: Case) -> Outputs:
    """SOFIM is rational throughout."""
    beta, rho = _parameters(case.hp, "beta", "rho")
    M = [Fraction()] * case.steps[0]["g"].size
    out: Outputs = []
    for t, inputs in enumerate(case.steps, start=1):
        M = _averaged(M, _vector(inputs["g"]), beta)
        M_hat = [x / (1 - beta**t) for x in M]
        denominator = rho + sum(x * x for x in M_hat)
        out.append({"update": [x / denominator for x in M_hat], "M": M})
    return out


def sgd(case: Case) -> Outputs:
    """SGD is rational throughout."""
    beta, delta, decay = _parameters(case.hp, "momentum", "dampening", "weight_decay")
    v = [Fraction()] * case.steps[0]["G"].size
    out: Outputs = []
    for t, inputs in enumerate(case.steps, start=1):
        G = _moved(_vector(inputs["G"]), inputs.get("W"), decay)
        if case.hp["form"] == "classical":
            weight = Fraction(1) if t == 1 else 1 - delta
            v = [beta * x + weight * g for x, g in zip(v, G, strict=True)]
            ahead = [g + beta * x for x, g in zip(v, G, strict=True)]
        else:
            v = _averaged(v, G, beta)
            ahead = _averaged(v, G, beta)
        out.append({"update": ahead if case.hp["nesterov"] else v, "v": v})
    return out


def adamw(case: Case) -> Outputs:
    """The averages, and the update where the corrected second one is a perfect square."""
    return _adam(case, "G", 1.0)


def adahessian(case: Case) -> Outputs:
    """As `adamw`; with Hessian power 0 the update is rational throughout."""
    return _adam(case, "D", case.hp["power"])


def adafisher(case: Case) -> Outputs:
    """AdaFisher has no root and is rational throughout."""
    beta, gamma, lam, decay = _parameters(case.hp, "beta", "gamma", "lam", "weight_decay")
    G0 = case.steps[0]["G"]
    M = [Fraction()] * G0.size
    ones = case.hp["initial"] == "ones"
    h, s = ([Fraction(1)] * k for k in G0.shape[::-1])
    out: Outputs = []
    for t, inputs in enumerate(case.steps, start=1):
        fresh = _vector(inputs["h_D"]), _vector(inputs["s_D"])
        if t == 1 and not ones:
            h, s = fresh
        else:
            h, s = (_averaged(old, new, gamma) for old, new in zip((h, s), fresh, strict=True))
        F = [j * k + lam for j in _minmax(s) for k in _minmax(h)]
        M = _averaged(M, _vector(inputs["G"]), beta)
        update = [x / (1 - beta**t) / f for x, f in zip(M, F, strict=True)]
        out.append({"update": _moved(update, inputs.get("W"), decay), "M": M, "h_D": h, "s_D": s})
    return out


def _adam(case: Case, scale: str, power: float) -> Outputs:
    beta1, beta2, epsilon, decay = _parameters(case.hp, "beta1", "beta2", "epsilon", "weight_decay")
    m = v = [Fraction()] * case.steps[0]["G"].size
    out: Outputs = []
    for t, inputs in enumerate(case.steps, start=1):
        m = _averaged(m, _vector(inputs["G"]), beta1)
        v = _averaged(v, [x * x for x in _vector(inputs[scale])], beta2)
        corrected = [x / (1 - beta2**t) for x in v]
        roots = [Fraction(1) if power == 0 else rational.root(x) for x in corrected]
        found = {"m": m, "v": v}
        if power in (0, 1) and None not in roots:
            update = [
                x / (1 - beta1**t) / (r + epsilon) if x else x
                for x, r in zip(m, roots, strict=True)
                if r is not None
            ]
            found["update"] = _moved(update, inputs.get("W"), decay)
        out.append(found)
    return out


def _parameters(hp: Mapping[str, Any], *names: str) -> list[Fraction]:
    return [Fraction(float(hp[name])) for name in names]


def _statistic(G: Matrix, Q: Matrix, weight: Fraction, damping: Fraction) -> Matrix:
    """``weight G Q^-1 G^T / n + damping I``."""
    data = rational.product(G, rational.inverse(Q), rational.transpose(G))
    return rational.combine(lambda x, i: weight * x / len(Q) + damping * i, data, rational.eye(len(G)))


def _mean(P: Matrix) -> Fraction:
    return sum((P[i][i] for i in range(len(P))), Fraction()) / len(P)


def _unit_mean(P: Matrix) -> Matrix:
    return rational.scaled(1 / _mean(P), P)


def _average(old: Matrix, new: Matrix, beta: Fraction) -> Matrix:
    return rational.combine(lambda a, b: beta * a + (1 - beta) * b, old, new)


def _divided_by_roots(G: Matrix, P: Matrix, Q: Matrix, *, twice: bool = False) -> Matrix | None:
    """``P^(-1/2) G Q^(-1/2)``, or with quarter powers, for diagonal factors with rational roots."""
    if not (rational.diagonal(P) and rational.diagonal(Q)):
        return None
    out = []
    for i, row in enumerate(G):
        entries = []
        for j, x in enumerate(row):
            r = rational.root(P[i][i] * Q[j][j]) if x else Fraction(1)
            r = rational.root(r) if r is not None and twice else r
            if r is None:
                return None
            entries.append(x / r)
        out.append(entries)
    return out


def _vector(X: Array) -> Vector:
    return [Fraction(float(x)) for x in X.reshape(-1)]


def _averaged(old: Vector, new: Vector, beta: Fraction) -> Vector:
    return [beta * a + (1 - beta) * b for a, b in zip(old, new, strict=True)]


def _minmax(d: Vector) -> Vector:
    low, high = min(d), max(d)
    return [(x - low) / (high - low) for x in d]


def _decayed(update: Matrix, W: Array | None, decay: Fraction) -> Matrix:
    if W is None:
        return update
    return rational.combine(lambda x, w: x + decay * w, update, rational.matrix(W))


def _moved(update: Vector, W: Array | None, decay: Fraction) -> Vector:
    """``update + weight_decay W``, flat."""
    if W is None:
        return update
    return [x + decay * w for x, w in zip(update, _vector(W), strict=True)]


def _found(name: str, X: Matrix | None) -> dict[str, list[Fraction]]:
    return {} if X is None else {name: rational.flat(X)}
