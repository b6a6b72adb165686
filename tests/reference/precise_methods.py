"""The methods of the reference at 50 digits: outputs of every step of a case of golden vectors.

Built on `tests.reference.precise`; symbols as in `reference`.
"""

import numpy as np

from tests.reference.precise import (
    Array,
    decayed,
    exact,
    eye,
    minmax,
    mp,
    newton_schulz,
    orthogonalize,
    polar_factor,
    power,
    sofim_direction,
    spectral_lmo,
    update_factors,
    whiten,
)


def fismo(case) -> list[dict[str, Array]]:
    hp = case.hp
    beta, gamma, mu = (mp.mpf(hp[name]) for name in ("beta", "gamma", "mu"))
    m, n = case.steps[0]["G"].shape
    P, Q = exact(case.start.get("P0", np.eye(m))), exact(case.start.get("Q0", np.eye(n)))
    M = exact(case.start.get("M0", np.zeros((m, n))))
    out = []
    for inputs in case.steps:
        G = exact(inputs["G"])
        P, Q = update_factors(G, P, Q, gamma, mu, hp)
        M = beta * M + (1 - beta) * whiten(G, P, Q)
        update = whiten(orthogonalize(M, hp["orthogonalize"]), P, Q)
        out.append({"update": update, "P": P, "Q": Q, "M": M})
    return out


def sofim(case) -> list[dict[str, Array]]:
    beta, rho = mp.mpf(case.hp["beta"]), mp.mpf(case.hp["rho"])
    M, out = exact(np.zeros_like(case.steps[0]["g"])), []
    for t, inputs in enumerate(case.steps, start=1):
        M = beta * M + (1 - beta) * exact(inputs["g"])
        out.append({"update": sofim_direction(M / (1 - beta**t), rho), "M": M})
    return out


def muon(case) -> list[dict[str, Array]]:
    hp, beta = case.hp, mp.mpf(case.hp["beta"])
    m, n = case.steps[0]["G"].shape
    a = {"none": mp.mpf(1), "original": mp.sqrt(max(1, mp.mpf(m) / n))}
    scale = a.get(hp["scale"], mp.mpf(2) / 10 * mp.sqrt(max(m, n)))
    V, out = exact(np.zeros((m, n))), []
    for inputs in case.steps:
        G = exact(inputs["G"])
        ema = hp["momentum"] == "ema"
        V = beta * V + ((1 - beta) * G if ema else G)
        seen = V
        if hp["nesterov"]:
            seen = beta * V + ((1 - beta) * G if ema else G)
        out.append({"update": decayed(scale * orthogonalize(seen, hp["orthogonalize"]), inputs, hp), "V": V})
    return out


def sgd(case) -> list[dict[str, Array]]:
    hp = case.hp
    beta, dampening = mp.mpf(hp["momentum"]), mp.mpf(hp["dampening"])
    v, out = exact(np.zeros_like(case.steps[0]["G"])), []
    for t, inputs in enumerate(case.steps, start=1):
        G = decayed(exact(inputs["G"]), inputs, hp)
        weight = 1 - beta if hp["form"] == "ema" else (mp.mpf(1) if t == 1 else 1 - dampening)
        v = beta * v + weight * G
        ahead = beta * v + (weight if hp["form"] == "ema" else 1) * G
        out.append({"update": ahead if hp["nesterov"] else v, "v": v})
    return out


def adamw(case) -> list[dict[str, Array]]:
    return _adam(case, "G", 1)


def adahessian(case) -> list[dict[str, Array]]:
    return _adam(case, "D", mp.mpf(case.hp["power"]))


def _adam(case, curvature: str, k) -> list[dict[str, Array]]:
    hp = case.hp
    beta1, beta2, epsilon = (mp.mpf(hp[name]) for name in ("beta1", "beta2", "epsilon"))
    m = v = exact(np.zeros_like(case.steps[0]["G"]))
    out = []
    for t, inputs in enumerate(case.steps, start=1):
        G, D = exact(inputs["G"]), exact(inputs[curvature])
        m, v = beta1 * m + (1 - beta1) * G, beta2 * v + (1 - beta2) * D * D

        def quotient(x, y, t=t):
            scale = mp.sqrt(y / (1 - beta2**t)) ** k + epsilon
            return x / (1 - beta1**t) / scale if x else x

        update = np.vectorize(quotient, otypes=[object])(m, v)
        out.append({"update": decayed(update, inputs, hp), "m": m, "v": v})
    return out


def adafisher(case) -> list[dict[str, Array]]:
    hp = case.hp
    beta, gamma, lam = (mp.mpf(hp[name]) for name in ("beta", "gamma", "lam"))
    M, h, s, out = exact(np.zeros_like(case.steps[0]["G"])), None, None, []
    for t, inputs in enumerate(case.steps, start=1):
        fresh = exact(inputs["h_D"]), exact(inputs["s_D"])
        if t == 1:
            h, s = fresh if hp["initial"] == "first" else (x * 0 + 1 for x in fresh)
        if t > 1 or hp["initial"] == "ones":
            h, s = (gamma * old + (1 - gamma) * new for old, new in zip((h, s), fresh, strict=True))
        F = np.outer(minmax(s), minmax(h)) + lam
        M = beta * M + (1 - beta) * exact(inputs["G"])
        update = decayed(M / F / (1 - beta**t), inputs, hp)
        out.append({"update": update, "M": M, "h_D": h, "s_D": s})
    return out


def shampoo(case) -> list[dict[str, Array]]:
    m, n = case.steps[0]["G"].shape
    L, R = mp.mpf(case.hp["epsilon"]) * eye(m), mp.mpf(case.hp["epsilon"]) * eye(n)
    exponent, out = mp.mpf(case.hp["exponent"]), []
    for inputs in case.steps:
        G = exact(inputs["G"])
        L, R = L + G @ G.T, R + G.T @ G
        update = power(L, exponent) @ G @ power(R, exponent)
        out.append({"update": decayed(update, inputs, case.hp), "L": L, "R": R})
    return out


def polynomial_case(case) -> list[dict[str, Array]]:
    return [{"X": newton_schulz(exact(step["M"]), **case.hp)} for step in case.steps]


#: Outputs of every step of a golden case, by the function they check.
METHODS = {
    "fismo.step": fismo,
    "sofim.step": sofim,
    "muon.step": muon,
    "adamw.step": adamw,
    "sgd.step": sgd,
    "shampoo.step": shampoo,
    "adahessian.step": adahessian,
    "adafisher.step": adafisher,
    "polar.polar_factor": lambda case: [{"Q": polar_factor(exact(x["M"]))} for x in case.steps],
    "polar.spectral_lmo": lambda case: [{"X": spectral_lmo(exact(x["G"]), **case.hp)} for x in case.steps],
    "polar.newton_schulz": polynomial_case,
}
