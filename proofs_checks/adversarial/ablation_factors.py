"""Assumption ablation of FISMO's lemmas on the factors: D.2, T3, D.5, T7, T1, condition of a step, floor."""

from functools import partial
from itertools import product

import numpy as np
from numpy.typing import NDArray

from proofs_checks.adversarial.ablation import FAULTS, AblationFinding, Study, Tries, ablate, joined, tries
from proofs_checks.adversarial.ablation_process import Process, drift, extremes, run, skewed
from proofs_checks.adversarial.instances import symmetric_root
from proofs_checks.adversarial.processes import isometry_policies, rank_one_policies
from proofs_checks.adversarial.verdicts import DOUBLE, factor_rounding
from proofs_checks.evidence import evidence
from proofs_checks.ratios import ORDER_ONE
from reference.kronecker import hilbert_distance
from reference.polar import JORDAN_QUINTIC, newton_schulz, polar_factor

__all__ = ["STUDIES", "factor_lemmas"]

Array = NDArray[np.float64]
Truth = NDArray[np.bool_]

SETTING, THEOREM = "FISMO-A-setting", "FISMO-A-theorem-damping"
BOUNDED, SPECTRAL, POSITIVE = "FISMO-A-bounded", "FISMO-A-spectral", "FISMO-A-mu"
GAMMA, POLAR, RANK = "FISMO-A-gamma", "FISMO-A-polar", "FISMO-A-full-rank"

#: Damping of the processes and steps of a run.
_MU, _STEPS = 0.1, 15

#: How much larger than its bound a gradient is that violates it, and how much smaller than 1 - gamma the
#: claimed c_gamma eta.
_TOO_LARGE, _TOO_SMALL = 3.0, 0.05

#: Smallest eigenvalue of the factors that do not start from the identity.
_LOW, _VERY_LOW = 0.02, 1e-6

#: Damping below zero, in units of the squared spectral bound; the factors stay positive definite beside it.
_NEGATIVE = -2.0


@evidence(faults=FAULTS, scope="region")
def factor_lemmas(*, fault: str | None = None) -> AblationFinding:
    """Every assumption of FISMO's lemmas on its factors, violated alone.

    Faults: inequalities the wrong way round; a second assumption violated with the first; none violated.
    """
    return ablate(STUDIES, fault=fault)


def _algorithm(
    violated: frozenset[str], *, shape: tuple[int, int] = (3, 2), b: float = 0.5
) -> list[tuple[Process, float]]:
    """Aligned rank-one runs with the bound g on gradients that is claimed for them.

    Violations: gradients above g; a skewed start, the theorem's damping, or gradients scaled to unit entries.
    """
    m, n = shape
    g = np.sqrt(b * m * n * _MU)
    C = rank_one_policies(m, n)
    size = np.full(C.shape[1], g * (_TOO_LARGE if BOUNDED in violated else 1.0))
    settings: list[dict[str, object]] = [{}]
    if SETTING in violated:
        start = (skewed(m, low=_LOW), skewed(n, low=_LOW))
        settings = [{"start": start}, {"damping": "theorem"}, {"unit": True}]
    return [
        (run(C, size=size, steps=_STEPS, gamma=gamma, mu=_MU, **setting), g)  # type: ignore[arg-type]
        for gamma, setting in product((0.0, 0.5, 0.9), settings)
    ]


def _holds_algorithm(process: Process, g: float) -> dict[str, Array | Truth | bool]:
    m, n = process.G.shape[-2:]
    return {
        SETTING: process.standard_start and process.damping == "algorithm" and not process.unit,
        BOUNDED: (process.frobenius <= g * (1 + _slack(process))) & (g * g < m * n * process.mu),
    }


def _slack(process: Process) -> float:
    """Relative rounding error of a gradient's norm."""
    return ORDER_ONE * max(process.G.shape[-2:]) * DOUBLE


def _rounding(process: Process) -> float:
    return factor_rounding(process.P, process.Q, steps=len(process.G))


def _spectra(process: Process) -> Array:
    """``|P^-1|, |Q^-1|, lambda_max(P), lambda_max(Q)``, the largest along each run, ``(R, 4)``."""
    (low_P, high_P), (low_Q, high_Q) = extremes(process.P), extremes(process.Q)
    return np.stack([1 / low_P, 1 / low_Q, high_P, high_Q], axis=1)


def _d2(violated: frozenset[str]) -> Tries:
    parts = []
    for process, g in _algorithm(violated):
        m, n = process.G.shape[-2:]
        b = g**2 / (m * n * process.mu)
        right = np.array([1 / (1 - b), 1 / (1 - b), 1 + (m - 1) * b, 1 + (n - 1) * b])
        left = _spectra(process)
        rounding = _rounding(process) * right
        parts.append(tries(left, right, rounding=rounding, holds=_holds_algorithm(process, g)))
    return joined(parts)


#: The level that D.2-needed claims at b = 3, 3x3, gamma = 0, and a cycle that reaches it: coefficients in the
#: eigenbases, the first for 19 steps, the second for the last.
_GROWTH = 94.0
_CYCLE = np.array(
    [[[-4.0, 0.0, -37.0], [15.0, 0.0, -44.0], [-80.0, 0.0, -7.0]]] * 19
    + [[[-21.0, 0.0, -3.0], [23.0, -1.0, -8.0], [-95.0, -1.0, 0.0]]]
)


def _d2_needed(violated: frozenset[str]) -> Tries:
    """The claimed level against the largest inverse that 20 gradients reach; many policies are one try."""
    size = np.sqrt(3.0 * 9 * _MU)
    damping = "theorem" if SETTING in violated else "algorithm"
    policies = [
        _CYCLE[:, None] / np.linalg.norm(_CYCLE, axis=(-2, -1))[:, None, None, None],
        rank_one_policies(3, 3),
    ]
    reached, rounding = 0.0, 0.0
    for C in policies:
        process = run(C, size=np.full(C.shape[1], size), steps=20, gamma=0.0, mu=_MU, damping=damping)
        reached = max(reached, float(_spectra(process)[:, :2].max()))
        rounding = max(rounding, _rounding(process))
    holds = {SETTING: process.damping == "algorithm" and process.standard_start}
    return tries([_GROWTH], [reached], rounding=rounding, holds=holds)


def _t8_bounded(violated: frozenset[str], *, gammas: tuple[float, ...] = (0.0, 0.5, 0.9)) -> Tries:
    """Both inverses against the bounds of T8 at b = 1.5, below ``2 + m/n`` but beyond Lemma D.2."""
    m, n, b = 3, 2, 1.5
    size, r = np.sqrt(b * m * n * _MU), m / n
    C = rank_one_policies(m, n)
    start = (skewed(m, low=_VERY_LOW), skewed(n, low=_VERY_LOW))
    settings: list[dict[str, object]] = [{"start": start}, {"unit": True}] if SETTING in violated else [{}]
    parts = []
    for gamma, setting in product(gammas, settings):
        process = run(C, size=np.full(C.shape[1], size), steps=_STEPS, gamma=gamma, mu=_MU, **setting)  # type: ignore[arg-type]
        c, rho = gamma / ((1 - gamma) * _MU), ((np.sqrt(1 + r * b) - 1) / r) ** 2
        slope, constant = b * np.sqrt(b / r), (1 + c) * (1 + b + np.sqrt(b / r))
        Y = ((slope + np.sqrt(slope**2 + 4 * (1 - rho) * constant)) / (2 * (1 - rho))) ** 2
        right = np.array([c + 1 + b * Y, Y])
        holds = {SETTING: process.standard_start and process.damping == "algorithm" and not process.unit}
        parts.append(tries(_spectra(process)[:, :2], right, rounding=_rounding(process) * right, holds=holds))
    return joined(parts)


def _t8_jacobi(violated: frozenset[str]) -> Tries:
    """The growth ``1 + b + ... + b^t`` against what gradients along the lowest eigenvectors reach."""
    parts = []
    for b, steps in product((0.5, 1.0, 3.0), (1, 4, 8)):
        damping = "theorem" if SETTING in violated else "algorithm"
        C = np.zeros((1, 1, 3, 3))
        C[..., 0, 0] = 1.0
        size = np.array([np.sqrt(b * 9 * _MU)])
        process = run(C, size=size, steps=steps, gamma=0.0, mu=_MU, damping=damping, jacobi=True)
        claimed = float(np.sum(b ** np.arange(steps + 1)))
        holds = {SETTING: process.standard_start and process.damping == "algorithm"}
        left, right = [[claimed, claimed]], _spectra(process)[:, :2]
        parts.append(tries(left, right, rounding=_rounding(process) * claimed, holds=holds))
    return joined(parts)


def _theorem(violated: frozenset[str], *, ratio: float) -> list[tuple[Process, float]]:
    """Aligned isometries of norm s, ``s^2 = ratio mu``, with the bound s that is claimed for them."""
    mu = _MU
    if POSITIVE in violated:
        mu, ratio = _NEGATIVE * _MU, 1 / _NEGATIVE  # s^2 stays 0.1
    s = np.sqrt(ratio * mu)
    parts = []
    for (m, n), gamma in product(((2, 2), (3, 2)), (0.9,) if POSITIVE in violated else (0.0, 0.5, 0.9)):
        C = isometry_policies(m, n)
        size = np.full(C.shape[1], s * (_TOO_LARGE if SPECTRAL in violated else 1.0))
        damping = "algorithm" if THEOREM in violated else "theorem"
        parts.append((run(C, size=size, steps=_STEPS, gamma=gamma, mu=mu, damping=damping), float(s)))
    return parts


def _holds_theorem(process: Process, s: float) -> dict[str, Array | Truth | bool]:
    return {
        THEOREM: process.standard_start and process.damping == "theorem" and not process.unit,
        SPECTRAL: process.spectral <= s * (1 + _slack(process)),
        POSITIVE: process.mu > 0,
    }


def _t3(violated: frozenset[str]) -> Tries:
    parts = []
    for process, s in _theorem(violated, ratio=30.0):
        m, n = process.G.shape[-2:]
        K_P, K_Q = 1 + s**2 / (m * process.mu), 1 + s**2 / (n * process.mu)
        right = np.array([K_P, K_Q, m - (m - 1) / K_P, n - (n - 1) / K_Q])
        rounding = _rounding(process) * np.abs(right)
        parts.append(tries(_spectra(process), right, rounding=rounding, holds=_holds_theorem(process, s)))
    return joined(parts)


def _d5(violated: frozenset[str]) -> Tries:
    """Drift against the bound with c_gamma eta in place of 1 - gamma, which is what makes it O(eta)."""
    parts = []
    for process, g in _algorithm(violated, shape=(4, 3)):
        m, n = process.G.shape[-2:]
        b, fresh = g**2 / (m * n * process.mu), 1 - process.gamma
        claimed = fresh * (_TOO_SMALL if GAMMA in violated else 1.0)
        weight = claimed * process.mu / (process.gamma + fresh * process.mu) / (1 - b)
        right = weight * np.array([1 + (m - 1) * b, 1 + (n - 1) * b])
        left = np.stack([drift(process.P), drift(process.Q)], axis=1)
        holds = _holds_algorithm(process, g) | {GAMMA: fresh <= claimed}
        parts.append(tries(left, right, rounding=_rounding(process) * max(m, n), holds=holds))
    return joined(parts)


def _t7(violated: frozenset[str]) -> Tries:
    """Both dampings, b below 1 and s the true spectral bound; only the tries that a violation concerns."""
    parts = []
    if not violated or BOUNDED in violated or POSITIVE in violated:
        parts += _t7_algorithm(violated)
    if not violated or SPECTRAL in violated:
        parts += _t7_theorem(violated)
    return joined(parts)


def _t7_algorithm(violated: frozenset[str]) -> list[Tries]:
    parts = []
    m, n, b = 3, 2, 0.5
    mu = -_MU if POSITIVE in violated else _MU
    g = np.sqrt(b * m * n * _MU)
    C = rank_one_policies(m, n)
    size = np.full(C.shape[1], g * (_TOO_LARGE if BOUNDED in violated else 1.0))
    for gamma in (0.8,) if POSITIVE in violated else (0.0, 0.5, 0.9):
        process = run(C, size=size, steps=_STEPS, gamma=gamma, mu=mu)
        level = g**2 / (m * n * mu)
        weight = (1 - gamma) * mu * level / (gamma * (1 - level) + (1 - gamma) * mu)
        parts.append(_t7_tries(process, weight * np.array([m, n]), g=g, s=float(process.spectral.max())))
    return parts


def _t7_theorem(violated: frozenset[str]) -> list[Tries]:
    parts = []
    for process, s in _theorem(violated - {POSITIVE}, ratio=0.1):
        m, n = process.G.shape[-2:]
        K_P, K_Q = 1 + s**2 / (m * process.mu), 1 + s**2 / (n * process.mu)
        tau, gamma = process.mu * K_P * K_Q, process.gamma
        weight = (1 - gamma) * tau / (gamma + (1 - gamma) * tau)
        right = weight * np.array([m * (1 - 1 / K_P), n * (1 - 1 / K_Q)])
        parts.append(_t7_tries(process, right, g=float(process.frobenius.max()), s=s))
    return parts


def _t7_tries(process: Process, right: Array, *, g: float, s: float) -> Tries:
    m, n = process.G.shape[-2:]
    left = np.stack([drift(process.P), drift(process.Q)], axis=1)
    slack = 1 + _slack(process)
    holds = {
        BOUNDED: (process.frobenius <= g * slack) & (g * g / (m * n * process.mu) < 1),
        SPECTRAL: process.spectral <= s * slack,
        POSITIVE: process.mu > 0,
    }
    return tries(left, right, rounding=_rounding(process) * max(m, n), holds=holds)


def _condition(violated: frozenset[str]) -> Tries:
    """Condition of the step that pairs the lowest eigenvectors of the attacked factors, and the highest."""
    parts = []
    for process, g in _algorithm(violated, shape=(3, 3), b=0.3):
        P, Q = process.P[-1], process.Q[-1]
        U, V = np.linalg.eigh(P)[1], np.linalg.eigh(Q)[1]
        s = np.array([1.0, 0.5, 0.0 if RANK in violated else 0.05])
        M = (U * s) @ V.mT
        O = newton_schulz(M, JORDAN_QUINTIC) if POLAR in violated else polar_factor(M)
        update = symmetric_root(P, power=-0.5) @ O @ symmetric_root(Q, power=-0.5)
        found = np.linalg.svd(update, compute_uv=False)
        zero = ORDER_ONE * 3 * DOUBLE * found[:, 0]
        left = np.divide(
            found[:, 0], found[:, -1], out=np.full(len(found), np.inf), where=found[:, -1] > zero
        )
        b = g**2 / (9 * process.mu)
        right = (1 + 2 * b) / (1 - b)
        isometry = np.abs(np.linalg.svd(O, compute_uv=False)[:, :2] - 1).max(axis=1)
        rounding = ORDER_ONE * 3 * DOUBLE / s[1]
        holds = _holds_algorithm(process, g) | {
            POLAR: isometry <= rounding,
            RANK: np.linalg.matrix_rank(M) == len(s),
        }
        rounding = _rounding(process) * right / s[1]
        parts.append(tries(left, np.full(len(left), right), rounding=rounding, holds=holds))
    return joined(parts)


def _contraction(violated: frozenset[str]) -> Tries:
    """One sample G = I (g_2 = 1), diagonal Q: the half-step is ``(Q^-1 + mu tr(Q^-1) I) / 2``."""
    Q1 = np.broadcast_to(np.eye(2), (8, 2, 2))
    Q2 = np.array([np.diag([np.exp(-x), np.exp(x)]) for x in np.linspace(0.05, 0.2, 8)])
    dampings = (-0.4, -0.35) if POSITIVE in violated else (0.01, 0.1, 1.0)
    parts = []
    for mu in dampings:
        P1, P2 = (_half_step(Q, mu=mu) for Q in (Q1, Q2))
        distance = hilbert_distance(Q1, Q2)
        right = distance / (1 + 2 * mu)
        rounding = factor_rounding(P1, P2, Q2) * (1 + right)
        parts.append(tries(hilbert_distance(P1, P2), right, rounding=rounding, holds={POSITIVE: mu > 0}))
    return joined(parts)


def _half_step(Q: Array, *, mu: float) -> Array:
    X = np.linalg.inv(Q)
    return (X + mu * np.trace(X, axis1=-2, axis2=-1)[:, None, None] * np.eye(2)) / 2


def _floor(violated: frozenset[str]) -> Tries:
    """Rank-one gradients from the identity: the floor (1 - gamma) mu, and definiteness above rounding."""
    rng = np.random.default_rng(20250101)
    parts = []
    m, n, R = 4, 3, 10
    G = rng.standard_normal((R, m, 1)) * rng.standard_normal((R, 1, n))
    for gamma, mu in product(
        (0.0,) if POSITIVE in violated else (0.0, 0.5, 0.9),
        (0.0, -0.1) if POSITIVE in violated else (0.01, 1.0),
    ):
        P_bar = gamma * np.eye(m) + (1 - gamma) * (G @ G.mT / n + mu * np.eye(m))
        least = np.linalg.eigvalsh(P_bar)[:, 0]
        rounding = ORDER_ONE * m * DOUBLE * np.linalg.norm(P_bar, 2, axis=(-2, -1))
        left = np.stack([np.full(R, (1 - gamma) * mu), 20 * rounding], axis=1)
        right = np.stack([least, np.maximum(least, 0.0)], axis=1)
        parts.append(tries(left, right, rounding=rounding[:, None], holds={POSITIVE: mu > 0}))
    return joined(parts)


_OTHER_SETTINGS = "skewed starts P₀, Q₀; or 'theorem' damping; or 'unit' scaling"
_LARGER = "gradients of norm 3g"

STUDIES = (
    Study("FISMO-D.2-bounded", _d2, {SETTING: _OTHER_SETTINGS, BOUNDED: _LARGER}),
    Study("FISMO-D.2-needed", _d2_needed, {SETTING: "'theorem' damping"}),
    Study(
        "FISMO-D.2-threshold",
        partial(_t8_bounded, gammas=(0.0,)),
        {SETTING: "skewed starts P₀, Q₀; or 'unit' scaling; the bounded half"},
    ),
    Study("FISMO-T8-bounded", _t8_bounded, {SETTING: "skewed starts P₀, Q₀; or 'unit' scaling"}),
    Study("FISMO-T8-jacobi", _t8_jacobi, {SETTING: "'theorem' damping"}),
    Study(
        "FISMO-T3-unconditional",
        _t3,
        {THEOREM: "'algorithm' damping", SPECTRAL: "gradients of norm 3s", POSITIVE: "negative damping"},
    ),
    Study(
        "FISMO-D.5-drift",
        _d5,
        {SETTING: _OTHER_SETTINGS, BOUNDED: _LARGER, GAMMA: "1 - γ is twenty times c_γ η"},
    ),
    Study(
        "FISMO-T7-drift",
        _t7,
        {BOUNDED: _LARGER, SPECTRAL: "gradients of norm 3s", POSITIVE: "negative damping"},
    ),
    Study(
        "FISMO-COND-bound",
        _condition,
        {
            SETTING: _OTHER_SETTINGS,
            BOUNDED: _LARGER,
            POLAR: "five Jordan quintics instead of the polar factor",
            RANK: "momentum of rank 2, 3x3",
        },
    ),
    Study("FISMO-T1-contraction", _contraction, {POSITIVE: "negative damping, factors still definite"}),
    Study("FISMO-PD-floor", _floor, {POSITIVE: "damping zero or negative, γ = 0, rank-one gradients"}),
)
