"""Assumption ablation of AdaFisher's inequalities and rates."""

import numpy as np
from numpy.typing import NDArray

from proofs_checks.adversarial.ablation import FAULTS, AblationFinding, Study, Tries, ablate, joined, tries
from proofs_checks.adversarial.verdicts import DOUBLE
from proofs_checks.evidence import evidence
from proofs_checks.ratios import ORDER_ONE
from reference.adafisher import denominator, minmax_normalize

__all__ = ["STUDIES", "adafisher_claims"]

Array = NDArray[np.float64]

AVERAGE, CONVEX, STEP, FULL = "ADAF-A-average", "ADAF-A-convex", "ADAF-A-step", "ADAF-A-full-gradient"

#: Runs of a study, size of their parameters.
_RUNS, _SIZE = 40, 5


@evidence(faults=FAULTS, scope="region")
def adafisher_claims(*, fault: str | None = None) -> AblationFinding:
    """Every assumption of AdaFisher's range and rates, violated alone.

    Faults: inequalities the wrong way round; a second assumption violated with the first; none violated.
    """
    return ablate(STUDIES, fault=fault)


def _range(violated: frozenset[str]) -> Tries:
    """``lam <= F <= 1 + lam`` for averages of three normalised factors; both ends as inequalities."""
    rng = np.random.default_rng(20250105)
    weights = [(0.5, 0.3, 0.2), (1.0, 0.0, 0.0), (0.1, 0.1, 0.8)]
    if violated:
        weights = [(0.92, 0.992, 0.0), (0.7, 0.7, 0.7), (1.5, -0.5, 0.0)]  # the first is the submission's
    parts = []
    for w in weights:
        h, s = (minmax_normalize(rng.lognormal(0, 2, (3, _RUNS, k))) for k in (4, 3))
        lam = 10.0 ** rng.uniform(-3, 0, _RUNS)
        total = np.tensordot(w, h, axes=1), np.tensordot(w, s, axes=1)
        F = np.stack([denominator(total[0][r], total[1][r], lam=lam[r]) for r in range(_RUNS)])
        high, low = F.max(axis=(1, 2)), F.min(axis=(1, 2))
        left, right = np.stack([high, 1 + lam - low], axis=1), np.stack([1 + lam, np.ones(_RUNS)], axis=1)
        rounding = ORDER_ONE * DOUBLE * (1 + lam)[:, None]
        holds = {AVERAGE: bool(np.min(w) >= 0) and bool(abs(sum(w) - 1) <= ORDER_ONE * DOUBLE)}
        parts.append(tries(left, right, rounding=rounding, holds=holds))
    return joined(parts)


def _corrected_rate(violated: frozenset[str]) -> Tries:
    """The gap after 1 and 30 steps on quadratics, fresh diagonal F between lam and 1 + lam at every step."""
    rng = np.random.default_rng(20250106)
    lam, mu, L, steps = 0.5, 0.1, 1.0, 30
    a = rng.uniform(mu, L, (_RUNS, _SIZE))
    a[:, 0], a[:, 1] = (1e-4 * mu if CONVEX in violated else mu), L
    eta = lam / L * (6.0 if STEP in violated else 1.0)
    w = rng.standard_normal((_RUNS, _SIZE))
    w[::2, 1:] = 0.0  # half of the runs see the least curvature only
    gaps, least, largest = [(a * w**2).sum(axis=1) / 2], np.inf, 0.0
    for t in range(steps):
        F = lam + rng.uniform(0, 1, (_RUNS, _SIZE)) * (t % 2)
        least, largest = min(least, float(F.min())), max(largest, float(F.max()))
        w = w - eta * a * w / F
        gaps.append((a * w**2).sum(axis=1) / 2)
    factor = 1 - eta * mu / (1 + lam) if STEP not in violated else 1 - lam / L * mu / (1 + lam)
    left = np.stack([gaps[1], gaps[-1]], axis=1)
    right = np.stack([factor * gaps[0], factor**steps * gaps[0]], axis=1)
    rounding = ORDER_ONE * steps * _SIZE * DOUBLE * gaps[0][:, None] / mu
    holds = {
        CONVEX: (a.min(axis=1) >= mu * (1 - DOUBLE)) & (a.max(axis=1) <= L),
        STEP: bool(eta * L <= least * (1 + DOUBLE)) and largest <= 1 + lam,
    }
    return tries(left, right, rounding=rounding, holds=holds)


def _momentum(violated: frozenset[str]) -> Tries:
    """Least squared gradient of a run against ``2 (1 + lam)(f_1 - f*) / (eta T)``.

    Violations: noise in the gradient from a start next to the minimum; a step that halves at every step.
    """
    rng = np.random.default_rng(20250107)
    lam, beta, L, steps, size = 0.5, 0.8, 1.0, 200, 30
    eta = lam * (1 - beta) / (2 * L)
    parts = []
    for noise, shrink in ((1.0, 1.0), (0.0, 0.5)) if violated else ((0.0, 1.0),):
        w = rng.standard_normal((_RUNS, size)) * (1e-3 if noise else 1.0)
        first, M = (w**2).sum(axis=1) / 2, np.zeros_like(w)
        least, length = np.full(_RUNS, np.inf), eta
        for t in range(1, steps + 1):
            square = (w**2).sum(axis=1)
            if t > 1:  # the first point is chosen, not reached
                least = np.minimum(least, square)
            M = beta * M + (1 - beta) * (w + noise * rng.choice((-1.0, 1.0), w.shape))
            F = lam + rng.choice((0.0, 1.0), w.shape)
            w = w - length * M / (1 - beta**t) / F
            length *= shrink
        right = 2 * (1 + lam) * first / (eta * steps)
        rounding = ORDER_ONE * steps * size * DOUBLE * (first + least)
        parts.append(tries(least, right, rounding=rounding, holds={FULL: noise == 0 and shrink == 1}))
    return joined(parts)


STUDIES = (
    Study("ADAF-range", _range, {AVERAGE: "weights that sum to 1.91 or 2.1, or a negative one"}),
    Study(
        "ADAF-P3.3-corrected",
        _corrected_rate,
        {CONVEX: "one curvature far below the claimed μ", STEP: "a step six times λ/L"},
    ),
    Study("ADAF-momentum", _momentum, {FULL: "noise of mean zero; or a step that halves at every step"}),
)
