"""Assumption ablation of Muon's rates: Kim and Oh's three statements, Nagashima and Iiduka's bound.

At 1x1 smoothness from the spectral to the nuclear norm is plain smoothness, and the rank factors are 1.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from proofs_checks.adversarial.ablation import FAULTS, AblationFinding, Study, Tries, ablate, joined, tries
from proofs_checks.adversarial.ablation_scalar import Path, Scalar, drive, family
from proofs_checks.adversarial.verdicts import DOUBLE
from proofs_checks.evidence import evidence
from proofs_checks.ratios import ORDER_ONE
from reference.bounds import kim_oh_rate, nagashima_iiduka_rate
from reference.polar import JORDAN_QUINTIC, kim_oh_polynomial, scalar_map

__all__ = ["STUDIES", "muon_rates"]

Array = NDArray[np.float64]

SMOOTH, UNBIASED, VARIANCE, TAYLOR = "KO-A-smooth", "KO-A-unbiased", "KO-A-variance", "KO-A-taylor"
NI_SMOOTH, NI_NOISE = "NI-A-smooth", "NI-A-noise"

_ROLES = {SMOOTH: "smooth", UNBIASED: "unbiased", VARIANCE: "variance", TAYLOR: "polar"}

#: Newton-Schulz steps of the runs: the quintic of k = 2 multiplies small momentum by 15/8 a step.
_STEPS = 24

_RUN = {"T": 400, "eta": 0.01, "beta": 0.8}


@evidence(faults=FAULTS, scope="region", tier="full")
def muon_rates(*, fault: str | None = None) -> AblationFinding:
    """Every assumption of Muon's rates, violated alone.

    Faults: inequalities the wrong way round; a second assumption violated with the first; none violated.
    """
    return ablate(STUDIES, fault=fault)


def _taylor(M: Array) -> Array:
    """Kim and Oh's iteration, k = 2, from ``M / max(1, |M|)``."""
    return scalar_map(M / np.maximum(1.0, np.abs(M)), kim_oh_polynomial(2), steps=_STEPS)


def _jordan(M: Array) -> Array:
    """Five steps of the quintic in common use, from ``M / |M|``."""
    return scalar_map(np.sign(M), JORDAN_QUINTIC, steps=5)


def _drawn(violated: frozenset[str], roles: dict[str, str]) -> list[tuple[Scalar, Path]]:
    """One run for a violated assumption; one per family where none is, or the polynomials alone are."""
    kinds = [roles[name] for name in sorted(violated)][:1]
    if violated <= {TAYLOR}:
        kinds = list(roles.values())
    false = frozenset("variance" if roles[name] == "noise" else roles[name] for name in violated)
    made = [family(kind, false, **_RUN, orthogonalize=_taylor, wrong=_jordan) for kind in kinds]  # type: ignore[arg-type]
    return [(instance, drive(instance)) for instance in made]


def _truth(instance: Scalar) -> dict[str, bool]:
    return {
        SMOOTH: instance.smooth,
        UNBIASED: instance.unbiased,
        VARIANCE: instance.small_variance,
        TAYLOR: instance.orthogonalize is _taylor,
    }


def _epsilon(path: Path) -> float:
    """Largest distance from the polar factor along the run; the statement does not bound it."""
    return min(path.error, 1 - DOUBLE)


def _rounding(path: Path) -> float:
    mean, spread = path.average
    return ORDER_ONE * len(path.gradients) * DOUBLE * (1 + mean) + spread


def _bound(violated: frozenset[str]) -> Tries:
    parts = []
    for instance, path in _drawn(violated, _ROLES):
        right = kim_oh_rate(
            r=1,
            D=instance.D,
            L=instance.L,
            sigma=instance.sigma,
            batch=1,
            T=instance.T,
            eta=instance.eta,
            beta=instance.beta,
            epsilon=_epsilon(path),
        ).total
        parts.append(tries([path.average[0]], [right], rounding=_rounding(path), holds=_truth(instance)))
    return joined(parts)


def _one_step(violated: frozenset[str]) -> Tries:
    """The descent inequality at every step, and the mean momentum error after every step."""
    parts = []
    for instance, path in _drawn(violated, _ROLES):
        eta, beta, epsilon = instance.eta, instance.beta, _epsilon(path)
        error = np.abs(path.momenta - path.gradients)
        descent = np.diff(path.values, axis=0) + eta * (1 - epsilon) * np.abs(path.gradients)
        allowed = 2 * eta * error + instance.L / 2 * eta**2 * (1 + epsilon) ** 2
        worst = np.argmax(descent - allowed, axis=1)[:, None]
        t = np.arange(1, instance.T + 1)
        start = float(np.abs(path.gradients[0]).max())
        noise = np.sqrt((1 - beta) / (1 + beta)) * instance.sigma
        momentum = beta * instance.L * eta * (1 + epsilon) / (1 - beta) + beta**t * start + noise
        left = np.concatenate([np.take_along_axis(descent, worst, axis=1)[:, 0], error.mean(axis=1)])
        right = np.concatenate([np.take_along_axis(allowed, worst, axis=1)[:, 0], momentum])
        spread = error.std(axis=1) / np.sqrt(max(error.shape[1] - 1, 1))
        exact = ORDER_ONE * instance.T * DOUBLE * (1 + float(path.values.max()) + noise)
        rounding = exact + np.concatenate([np.zeros(instance.T), _CHANCE * spread])
        parts.append(tries(left[None], right[None], rounding=rounding[None], holds=_truth(instance)))
    return joined(parts)


#: Standard errors that count as chance: each of the 400 means may be off by this much.
_CHANCE = 5.0


def _sharper(violated: frozenset[str]) -> Tries:
    """``|f'(w_0)| <= sqrt(2 L D)`` where f is quadratic, attained, and just beyond."""
    parts = []
    for share in (0.3, 0.99, 1.01):
        plain = family("lower", frozenset(), T=1, eta=0.01, beta=0.0)
        instance = replace(plain, start=share * plain.width)
        D = float(instance.value(np.array(instance.start)))
        L = plain.L / (4 if violated else 1)
        left = float(instance.gradient(np.array(instance.start)))
        holds = {SMOOTH: replace(instance, L=L).smooth}
        parts.append(tries([left], [np.sqrt(2 * L * D)], rounding=ORDER_ONE * DOUBLE, holds=holds))
    return joined(parts)


def _scheduled(violated: frozenset[str]) -> Tries:
    """The smallest gradient of a run with constant step and batch; the noise need not have mean zero."""
    parts = []
    for instance, path in _drawn(violated, {NI_SMOOTH: "smooth", NI_NOISE: "noise"}):
        steps = np.full(instance.T, instance.eta)
        right = nagashima_iiduka_rate(
            steps,
            np.ones(instance.T),
            nu=1,
            D=instance.D,
            L=instance.L,
            sigma=instance.sigma,
            beta=instance.beta,
            momentum_error=float(np.abs(path.momenta[0] - path.gradients[0]).max()),
        ).total
        left = np.abs(path.gradients).min(axis=0).mean()
        holds = {NI_SMOOTH: instance.smooth, NI_NOISE: instance.small_variance}
        parts.append(tries([left], [right], rounding=_rounding(path), holds=holds))
    return joined(parts)


_KINK = "a kink: gradient jumps at 0, claimed L a thousandth of 1/η"
_HOW = {
    SMOOTH: _KINK,
    UNBIASED: "constant noise -1 that cancels the gradient",
    VARIANCE: "noise a thousand times the claimed σ",
    TAYLOR: "Jordan's quintics after division by |M|; ε is measured on the run",
}

STUDIES = (
    Study("KO-bound", _bound, _HOW, frozenset({TAYLOR})),
    Study("KO-one-step", _one_step, _HOW, frozenset({TAYLOR})),
    Study("KO-sharper", _sharper, {SMOOTH: "claimed L a quarter of the true one"}),
    Study("NI-bound", _scheduled, {NI_SMOOTH: _KINK, NI_NOISE: "noise a thousand times the claimed σ"}),
)
