"""SOFIM-stability and SOFIM-divergence: where the iteration converges, and what happens where it does not."""

import numpy as np
from numpy.typing import NDArray

from proofs_checks.adversarial.verdicts import DOUBLE, at_least, at_most, rounded_down, vanishing
from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import ORDER_ONE, Ratio
from reference.sofim import init, step

__all__ = ["no_overflow", "stability_threshold"]

Array = NDArray[np.float64]

#: Distance from the threshold on either side, and the momentum weights, curvature and rho of the claim.
_MARGIN, _BETAS, _CURVATURE, _RHO = 0.02, (0.0, 0.5, 0.9), 3.0, 0.5

#: Steps of a stability run: the slowest mode, beta = 0, changes by 0.96 a step below the threshold and by
#: 1.04 above it; 0.96^1000 is 2e-18, and 1.04^1000 is 1e17, more than what lies between the starts and the
#: cycles.
_STEPS = 1000

#: Last steps over which the size of a cycle is read.
_TAIL = 50

#: Starts near 0. Near means near: at beta = 0.9 the bias-corrected first step is that of plain gradient
#: descent and multiplies x by -36, and the run from 1e-3 ends on a wider cycle that coexists with the
#: stable origin.
_STARTS = np.array([1e-9, 3e-9, 1e-8, 3e-8])

#: What the convergent runs may keep of their start, and what may be left of the way to the cycle.
_GONE = 1e-6


@evidence(faults=("threshold-without-momentum", "threshold-doubled"), scope="region")
def stability_threshold(*, fault: str | None = None) -> Finding:
    """On ``L x^2 / 2`` the iteration is stable near 0 iff ``eta < 2 (1 + beta) / (1 - beta) * rho / L``.

    Two per cent below, runs from near 0 converge to 0. Two per cent above they leave it for the cycle +-a
    with ``a = (1 + beta) / (1 - beta) * sqrt(0.02 rho) / L``: on a cycle of period two ``M =
    (1-beta)/(1+beta) L a`` and ``2 a = eta M / (rho + M^2)``.
    Faults: the threshold without its factor (1 + beta) / (1 - beta); twice the threshold.
    """
    starts = _STARTS
    ratios: list[Ratio] = []
    cycles = {}
    for beta in _BETAS:
        factor = 1.0 if fault == "threshold-without-momentum" else (1 + beta) / (1 - beta)
        threshold = 2 * factor * _RHO / _CURVATURE * (2 if fault == "threshold-doubled" else 1)
        etas = threshold * np.array([1 - _MARGIN, 1 + _MARGIN])
        x = np.tile(starts, (2, 1)).reshape(-1, 1)
        eta = np.repeat(etas, len(starts))[:, None]
        state, tail = init(x), [x[:, 0]]
        for _ in range(_STEPS):
            update, state = step(_CURVATURE * x, state, beta=beta, rho=_RHO)
            x = x - eta * update
            tail = [*tail[-_TAIL:], np.abs(x[:, 0])]
        amplitude = np.max(tail, axis=0).reshape(2, -1)
        expected = (1 + beta) / (1 - beta) * np.sqrt(_MARGIN * _RHO) / _CURVATURE
        cycles[beta] = float(np.median(amplitude[1]))
        ratios += [
            at_most(
                f"|x| two per cent below over start, beta = {beta}",
                amplitude[0] / starts,
                _GONE,
                rounding=0.0,
            ),
            at_least(
                f"|x| two per cent above over start, beta = {beta}",
                amplitude[1] / starts,
                1 / _GONE,
                rounding=0.0,
            ),
            vanishing(
                f"|x| of the cycle over a, minus 1, beta = {beta}",
                amplitude[1] / expected - 1,
                rounding=_GONE,
            ),
        ]
    return Finding(
        tuple(ratios),
        f"L = {_CURVATURE:g}, rho = {_RHO}, beta in {_BETAS}, {len(starts)} starts: 2 % below the "
        f"threshold |x| falls below {_GONE:g} of its start, 2 % above it settles on cycles of size "
        + ", ".join(f"{value:.3f}" for value in cycles.values()),
        figures={f"cycle at beta = {beta}": value for beta, value in cycles.items()},
    )


@evidence(faults=("rho-a-hundredth", "bound-halved"), scope="region")
def no_overflow(*, fault: str | None = None) -> Finding:
    """Loss of convergence is a bounded cycle: T steps never move further than ``T eta / (2 sqrt(rho))``.

    Adversarial gradients of constant direction and norm sqrt(rho) attain that; on ``L x^2 / 2`` with beta =
    0 and eta up to 1e6 thresholds, ``|x_t| <= max(|x_0|, eta / (2 sqrt(rho)))``.
    Faults: steps capped at ten times the length, as if rho were a hundredth; half the bound.
    """
    rng = np.random.default_rng(20240624)
    steps, runs, d = 100, 40, 3
    half = 0.25 if fault == "bound-halved" else 0.5
    shrunk = 0.01 if fault == "rho-a-hundredth" else 1.0
    rho = 0.04
    kinds = rng.standard_normal((steps, runs, d)) * 10.0 ** rng.uniform(-4, 4, (1, runs, 1))
    kinds[:, 0] = np.sqrt(rho) * np.eye(d)[0]
    kinds[:, 1] = np.sqrt(rho) * np.eye(d)[1] * (-1.0) ** np.arange(steps)[:, None]
    state, moved = init((runs, d)), np.zeros((runs, d))
    for g in kinds:
        update, state = step(g, state, beta=0.9, rho=rho * shrunk)
        moved = moved + update
    path = np.linalg.norm(moved, axis=1) * np.sqrt(rho) / (half * steps)
    x0 = 10.0 ** np.linspace(-3, 3, 13)
    etas = 2 * _RHO / _CURVATURE * 10.0 ** np.linspace(0.5, 6, 12)
    x, eta = (a.reshape(-1, 1) for a in np.meshgrid(x0, etas))
    start, state, farthest = np.abs(x), init(x), np.abs(x)
    for _ in range(steps):
        update, state = step(_CURVATURE * x, state, beta=0.0, rho=_RHO * shrunk)
        x = x - eta * update
        farthest = np.maximum(farthest, np.abs(x))
    bound = np.maximum(start, half * eta / np.sqrt(_RHO))
    rounding = ORDER_ONE * steps * DOUBLE
    ratios = (
        at_most("path over T eta / (2 sqrt(rho))", path, 1.0, rounding=rounding),
        at_most("|x_t| on quadratics, beta = 0", farthest / bound, 1.0, rounding=rounding),
    )
    left = [float(np.max(path)), float(np.max(farthest / bound))]
    return Finding(
        ratios,
        f"{runs} adversarial runs of {steps} steps: path over its bound at most {rounded_down(left[0])}; "
        f"{x.size} runs on quadratics with eta up to 1e6 thresholds stay within max(|x_0|, eta / (2 "
        f"sqrt(rho))), largest ratio {rounded_down(left[1])}",
        figures={"path": rounded_down(left[0]), "quadratic": rounded_down(left[1])},
        tightness=rounded_down(left[0]),
    )
