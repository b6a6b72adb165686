"""FISMO-RATE-vacuity: the table of T6 with a-priori constants, and where the bound says nothing."""

from itertools import product

import numpy as np

from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import Ratio, yes_no
from proofs_checks.reproduction.printed import half_unit
from reference.bounds import UniformBounds, fismo_rate_t6, reconstructed_drift, uniform_bounds

__all__ = ["a_priori_table", "useless_at_small_damping"]

#: Printed bounds at T = 64, 256, 1024, 4096 by damping: Geman-McClure 4x6, L = 0.201, G_f = 0.206,
#: beta = 0.9, eta = 0.5/sqrt(T), 1 - gamma = eta/2, no noise. The ceiling is sqrt(r) G_f = 0.412.
_PRINTED = {1.0: ("1.26", "0.60", "0.29", "0.144"), 0.1: ("1.81", "0.86", "0.42", "0.21")}
_HORIZONS = (64, 256, 1024, 4096)
_G_F, _L, _SHAPE = 0.206, 0.201, (4, 6)
_CEILING = 2 * _G_F

#: Which of the printed bounds are below the ceiling, as stated.
_INFORMATIVE = {1.0: (False, False, True, True), 0.1: (False, False, False, True)}


def _total(T: int, mu: float, D: float, *, drift: str = "sharp", r: int = 4) -> float:
    m, n = _SHAPE
    eta = 0.5 / np.sqrt(T)
    gamma = float(1 - eta / 2)
    uniform = uniform_bounds(m=m, n=n, size=_G_F, mu=mu, gamma=gamma, damping="theorem")
    if drift == "reconstructed":
        loose = reconstructed_drift(m=m, n=n, g=_G_F, mu=mu, gamma=gamma)
        uniform = UniformBounds(*uniform[:4], loose.d_A, loose.d_C)
    rate = fismo_rate_t6(
        r=r, D=D, L=_L, G_f=_G_F, sigma=0.0, batch=1, T=T, eta=float(eta), beta=0.9, uniform=uniform
    )
    return rate.total


@evidence(faults=("reconstructed-drift", "rank-six"), scope="region")
def a_priori_table(*, fault: str | None = None) -> Finding:
    """Eight printed bounds and which of them are vacuous, from one unknown: the gap ``D`` at the start.

    The table does not give D. The bound is linear in it, so each printed number confines D to an interval,
    a unit of print wide; that the eight intervals meet is seven checks. D is below 1, the sup of the loss.
    Faults: drift of D.5 instead of T7; r = 6 for 4.
    """
    drift = "reconstructed" if fault == "reconstructed-drift" else "sharp"
    r = 6 if fault == "rank-six" else 4
    lows, highs = [], []
    for mu, texts in _PRINTED.items():
        for T, text in zip(_HORIZONS, texts, strict=True):
            constant = _total(T, mu, 0.0, drift=drift, r=r)
            slope = _total(T, mu, 1.0, drift=drift, r=r) - constant
            lows.append((float(text) - half_unit(text) - constant) / slope)
            highs.append((float(text) + half_unit(text) - constant) / slope)
    low, high = max(lows), min(highs)
    ratios: list[Ratio] = [yes_no("one D explains all eight numbers", 0 < low <= high < 1)]
    D = max((low + high) / 2, 0.0)
    for mu, expected in _INFORMATIVE.items():
        for T, informative in zip(_HORIZONS, expected, strict=True):
            below = _total(T, mu, D, drift=drift, r=r) < _CEILING
            ratios.append(yes_no(f"T = {T}, mu = {mu}: informative is {informative}", below == informative))
    return Finding(
        tuple(ratios),
        f"eight printed bounds agree for D in [{low:.4f}, {high:.4f}]; vacuous up to T = 256 (mu = 1) and "
        "1024 (mu = 0.1), informative after",
        figures={"D from": low, "D to": high},
    )


@evidence(faults=("large-damping", "gradients-a-tenth"), scope="region")
def useless_at_small_damping(*, fault: str | None = None) -> Finding:
    """Where ``s^2/(min(m, n) mu)`` exceeds about 1 the bound is above its ceiling at every tested horizon.

    Same constants with smaller damping, T up to 4096: at ratio 3 and above the bound is vacuous throughout,
    at 0.01 it is informative from T = 1024 on.
    Faults: the damping of the informative case throughout; factor bounds for gradients a tenth as large.
    """
    D, shrink = 0.57, 100 if fault == "gradients-a-tenth" else 1  # of s^2, in the factors' bounds only

    def over_ceiling(level: float, T: int) -> float:
        return _total(T, _G_F**2 / (4 * level) * shrink, D) / _CEILING

    ratios, figures = [], {}
    for level, T in product((3.0, 30.0, 300.0), _HORIZONS):
        over = over_ceiling(0.01 if fault == "large-damping" else level, T)
        ratios.append(yes_no(f"s^2/(m mu) = {level:g}, T = {T}: vacuous", over >= 1))
        figures[f"bound over ceiling, {level:g}, T = {T}"] = over
    for T in _HORIZONS[2:]:
        over = over_ceiling(0.01, T)
        ratios.append(yes_no(f"s^2/(m mu) = 0.01, T = {T}: informative", over < 1))
    largest, least = max(figures.values()), min(figures.values())
    return Finding(
        tuple(ratios),
        f"bound over ceiling from {least:.3g} to {largest:.3g} for s^2/(m mu) in (3, 30, 300), T up to 4096",
        figures=figures,
    )
