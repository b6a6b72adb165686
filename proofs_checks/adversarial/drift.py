"""FISMO-D.5-drift and FISMO-T7-drift: how far the factors, and their inverse roots, move in one step."""

import numpy as np
from numpy.typing import NDArray

from proofs_checks.adversarial.instances import spd
from proofs_checks.adversarial.processes import (
    LEVELS,
    MU,
    RANDOM_RUNS,
    Attack,
    aligned,
    attacks_in_frobenius_ball,
    attacks_in_spectral_ball,
)
from proofs_checks.adversarial.verdicts import (
    DOUBLE,
    at_least,
    at_most,
    factor_rounding,
    rounded_down,
    tightest,
)
from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import Ratio
from reference.kronecker import inverse_sqrt

__all__ = ["d5_drift", "inverse_root_drift", "t7_drift"]

Array = NDArray[np.float64]

#: What an attack on the sharp bound T7 must reach, for either damping.
_TIGHT = 0.999


@evidence(faults=("mean-eigenvalue-for-largest", "old-weight-forgotten"), scope="region")
def d5_drift(*, fault: str | None = None) -> Finding:
    """Lemma D.5 as reconstructed: the drift of P is at most ``w mu Lambda_P / (1-b)``, ``w`` its new weight.

    ``w = (1-gamma) / (gamma + (1-gamma) mu)``; likewise for Q. T7 is attained at gamma = 0, so the best ratio
    is ``(1 - b) n b / (1 + (n - 1) b)``: loose on short sides, but not on long ones, for which one 2x40
    attack is added.
    Faults: Lambda is replaced by the mean eigenvalue 1; the denominator forgets gamma, as if the old factor
    had no weight (``mu`` in place of ``gamma + (1 - gamma) mu``), with the numerator's ``1 - gamma``
    squared.
    """
    attacks = (*attacks_in_frobenius_ball(), _long_side())
    ratios: list[Ratio] = []
    random = 0.0
    for attack in attacks:
        m, n = attack.G.shape[-2:]
        b = attack.size**2 / (m * n * MU)
        gamma = attack.gamma
        for name, factor, side in (("P", attack.P, m), ("Q", attack.Q, n)):
            largest = np.ones_like(b) if fault == "mean-eigenvalue-for-largest" else 1 + (side - 1) * b
            weight = (1 - gamma) / (gamma + (1 - gamma) * MU)
            if fault == "old-weight-forgotten":
                weight = (1 - gamma) ** 2 / (gamma + MU)
            bound = weight * MU * largest / (1 - b)
            moved = _moves(factor)
            rounding = factor_rounding(factor, steps=len(attack.G))
            where = f"({m}x{n}, gamma = {gamma}, {attack.order})"
            ratios.append(at_most(f"drift of {name} {where}", moved, bound, rounding=rounding * bound))
            if attack.runs > 1:
                random = max(random, float((moved / bound)[:, -RANDOM_RUNS * len(LEVELS) :].max()))
    tightness = tightest(ratios)
    return Finding(
        tuple(ratios),
        f"{sum(a.runs for a in attacks)} adversarial runs of up to {len(attacks[0].G)} steps, b in {LEVELS}: "
        f"drift over bound at most {tightness} by aligned gradients, {rounded_down(random)} by random ones",
        figures={"aligned": tightness, "random": rounded_down(random)},
        tightness=tightness,
    )


@evidence(faults=("power-one-half", "half-the-constant"), scope="region")
def inverse_root_drift(*, fault: str | None = None) -> Finding:
    """``|P_1^(-1/2) - P_0^(-1/2)|_2 <= p^(3/2) / 2 |P_1 - P_0|_2`` with p a bound on both inverses.

    On the steps of the attacked processes, and on random pairs at distances 1e-3 to 1, some of them moving
    the lowest eigenvalue alone. Steps too small to leave eight digits of the difference are left out.
    Faults: ``p^(1/2)``; the constant 1/4.
    """
    rng = np.random.default_rng(20240611)
    pairs = [
        (factor[:-1].reshape(-1, *factor.shape[-2:]), factor[1:].reshape(-1, *factor.shape[-2:]))
        for attack in attacks_in_frobenius_ball()[1::3]
        for factor in attack[:2]
    ]
    P = spd(rng, 300, 4)
    w, V = np.linalg.eigh(P)
    size = 10.0 ** rng.uniform(-3, 0, 300) * w[:, 0]
    lowest = V[:, :, :1] * size[:, None, None] * V[:, None, :, 0]
    pairs += [(P, P + lowest), (P, P + size[:, None, None] * spd(rng, 300, 4))]
    power, constant = (
        (0.5 if fault == "power-one-half" else 1.5),
        (0.25 if fault == "half-the-constant" else 0.5),
    )
    ratios = []
    for k, (before, after) in enumerate(pairs):
        moved = np.linalg.norm(after - before, 2, axis=(-2, -1))
        kept = moved >= np.sqrt(DOUBLE)
        before, after, moved = before[kept], after[kept], moved[kept]
        p = 1 / np.minimum(np.linalg.eigvalsh(before)[:, 0], np.linalg.eigvalsh(after)[:, 0])
        apart = np.linalg.norm(inverse_sqrt(after) - inverse_sqrt(before), 2, axis=(-2, -1))
        rounding = factor_rounding(before, after) * np.sqrt(p)
        ratios.append(
            at_most(f"inverse roots of batch {k}", apart, constant * p**power * moved, rounding=rounding)
        )
    tightness = tightest(ratios)
    return Finding(
        tuple(ratios),
        f"{sum(len(before) for before, _ in pairs)} pairs, aligned process steps and random ones: distance "
        f"of inverse roots over bound at most {tightness}",
        tightness=tightness,
    )


@evidence(faults=("spread-halved", "damping-halved"), scope="region")
def t7_drift(*, fault: str | None = None) -> Finding:
    """T7, the sharp drift bounds for both dampings; with algorithm damping they vanish as b tends to 0.

    ``(1-gamma) mu m b / (gamma (1-b) + (1-gamma) mu)`` for the algorithm's damping, and ``(1-gamma) tau m
    (1 - 1/K_P) / (gamma + (1-gamma) tau)``, ``tau = mu K_P K_Q``, for the theorem's; n for Q.
    Faults: half the spread of the spectra (b, 1 - 1/K); the process is damped by mu / 2.
    """
    damped_by = 0.5 if fault == "damping-halved" else 1.0
    spread = 0.5 if fault == "spread-halved" else 1.0
    kinds = {
        "algorithm": attacks_in_frobenius_ball(damped_by=damped_by),
        "theorem": attacks_in_spectral_ball(damped_by=damped_by),
    }
    ratios: dict[str, list[Ratio]] = {kind: [] for kind in kinds}
    for kind, attacks in kinds.items():
        for attack in attacks:
            m, n = attack.G.shape[-2:]
            for name, factor, side in (("P", attack.P, m), ("Q", attack.Q, n)):
                bound = spread * (_algorithm_bound if kind == "algorithm" else _theorem_bound)(attack, side)
                rounding = factor_rounding(factor, steps=len(attack.G))
                where = f"({kind}, {m}x{n}, gamma = {attack.gamma}, {attack.order})"
                ratios[kind].append(
                    at_most(f"drift of {name} {where}", _moves(factor), bound, rounding=rounding * side)
                )
    by_kind = {kind: tightest(found) for kind, found in ratios.items()}
    reached = [at_least(f"tightness, {kind}", value, _TIGHT, rounding=0.0) for kind, value in by_kind.items()]
    runs = sum(attack.runs for attacks in kinds.values() for attack in attacks)
    return Finding(
        (*ratios["algorithm"], *ratios["theorem"], *reached),
        f"{runs} adversarial runs of 30 steps: drift over bound at most {by_kind['algorithm']} (algorithm), "
        f"{by_kind['theorem']} (theorem)",
        figures=by_kind,
        tightness=max(by_kind.values()),
    )


def _moves(factor: Array) -> Array:
    """``|P_t - P_(t-1)|_2``, ``(T, R)``."""
    return np.linalg.norm(np.diff(factor, axis=0), 2, axis=(-2, -1))


def _long_side() -> Attack:
    """One run on 2x40 at the b that maximises the ratio there, gradients along the lowest eigenvectors."""
    m, n, b = 2, 40, 0.14
    C = np.zeros((1, 1, m, n))
    C[..., 0, 0] = 1.0
    size = np.array([np.sqrt(b * m * n * MU)])
    return aligned(C, size=size, steps=10, gamma=0.0, mu=MU, damping="algorithm", order="jacobi")


def _algorithm_bound(attack: Attack, side: int) -> Array:
    m, n = attack.G.shape[-2:]
    b, gamma = attack.size**2 / (m * n * MU), attack.gamma
    return (1 - gamma) * MU * side * b / (gamma * (1 - b) + (1 - gamma) * MU)


def _theorem_bound(attack: Attack, side: int) -> Array:
    m, n = attack.G.shape[-2:]
    K_P, K_Q = (1 + attack.size**2 / (k * MU) for k in (m, n))
    tau, gamma = MU * K_P * K_Q, attack.gamma
    K = 1 + attack.size**2 / (side * MU)
    return (1 - gamma) * tau * side * (1 - 1 / K) / (gamma + (1 - gamma) * tau)
