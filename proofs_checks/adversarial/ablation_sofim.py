"""Assumption ablation of SOFIM: a regularisation that is not positive, the conditions of its convex rate."""

from collections.abc import Callable
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from proofs_checks.adversarial.ablation import FAULTS, AblationFinding, Study, Tries, ablate, joined, tries
from proofs_checks.adversarial.verdicts import DOUBLE
from proofs_checks.evidence import evidence
from proofs_checks.ratios import ORDER_ONE

__all__ = ["STUDIES", "sofim_claims"]

Array = NDArray[np.float64]

RHO, FULL, CONVEX, STEP = "SOFIM-A-rho", "SOFIM-A-full", "SOFIM-A-convex", "SOFIM-A-step"

#: Steps of the runs.
_STEPS = 150


@evidence(faults=FAULTS, scope="region")
def sofim_claims(*, fault: str | None = None) -> AblationFinding:
    """Every assumption of SOFIM's inequalities and of its convex rate, violated alone.

    The formulas are evaluated as they stand: the reference refuses a rho that is not positive. For a negative
    rho the bounds are read with ``|rho|``.
    Faults: inequalities the wrong way round; a second assumption violated with the first; none violated.
    """
    return ablate(STUDIES, fault=fault)


def _step(M: Array, rho: float) -> Array:
    """``M / (rho + M^2)`` for scalars."""
    return M / (rho + M**2)


def _signs(violated: frozenset[str]) -> tuple[float, ...]:
    return (-0.5, -0.04) if RHO in violated else (0.5, 0.04)


def _step_bound(violated: frozenset[str]) -> Tries:
    M = np.linspace(0.01, 3.0, 200)
    parts = [
        tries(
            np.abs(_step(M, rho)),
            np.full(len(M), 1 / (2 * np.sqrt(abs(rho)))),
            rounding=ORDER_ONE * DOUBLE * np.abs(_step(M, rho)),
            holds={RHO: rho > 0},
        )
        for rho in _signs(violated)
    ]
    return joined(parts)


def _farthest(violated: frozenset[str]) -> Tries:
    """On ``L x^2 / 2``, no momentum, long steps: ``|x_t| <= max(|x_0|, eta / (2 sqrt(rho)))``."""
    L, start = 3.0, np.geomspace(1e-3, 10.0, 25)
    parts = []
    for rho in _signs(violated):
        for stretch in (1.02, 3.0, 100.0):
            eta = stretch * 2 * abs(rho) / L
            x, farthest = start.copy(), start.copy()
            for _ in range(_STEPS):
                x = x - eta * _step(L * x, rho)
                farthest = np.maximum(farthest, np.abs(x))
            right = np.maximum(start, eta / (2 * np.sqrt(abs(rho))))
            rounding = ORDER_ONE * _STEPS * DOUBLE * right
            parts.append(tries(farthest, right, rounding=rounding, holds={RHO: rho > 0}))
    return joined(parts)


def _accuracy(
    form: Callable[[float, float], float], growth: Callable[[Fraction], Fraction]
) -> Callable[[frozenset[str]], Tries]:
    """Relative error of a scalar formula against exact rationals, over its law in ``s = M^2 / rho``."""

    def draw(violated: frozenset[str]) -> Tries:
        rng = np.random.default_rng(20250104)
        left, right = [], []
        sizes = 1 + rng.uniform(-1e-9, 1e-9, 40) if RHO in violated else 10.0 ** rng.uniform(-4, 6, 40)
        rho = -0.3 if RHO in violated else 0.3
        for share in sizes:
            M = float(np.sqrt(share * abs(rho)))
            exact = Fraction(M) / (Fraction(rho) + Fraction(M) ** 2)
            left.append(float(abs((Fraction(form(M, rho)) - exact) / exact)))
            right.append(float(ORDER_ONE * DOUBLE * growth(Fraction(M) ** 2 / Fraction(rho))))
        return tries(left, right, rounding=DOUBLE * DOUBLE, holds={RHO: rho > 0})

    return draw


def _closed(M: float, rho: float) -> float:
    return M / (rho + M * M)


def _two_terms(M: float, rho: float) -> float:
    """Equation 6 as printed."""
    return M / rho - (M / rho**2) * (M * M) / (1 + M * M / rho)


def _bracket(M: float, rho: float) -> float:
    """The scalar bracket first."""
    s = M * M / rho
    return (M / rho) * (1 - s / (1 + s))


def _both(violated: frozenset[str]) -> Tries:
    """The closed form stays at u, equation 6 at ``u (1 + |s|)``: two inequalities on the same instances."""
    closed = _accuracy(_closed, lambda s: Fraction(1))(violated)
    printed = _accuracy(_two_terms, lambda s: 1 + abs(s))(violated)
    columns = (np.concatenate([closed[k], printed[k]], axis=1) for k in range(3))
    left, right, rounding = columns
    return Tries(left, right, rounding, closed.holds)


# ---- the convex rate


def _rate(violated: frozenset[str]) -> Tries:
    """Values that never rise, and the gap against its bound, on functions of one variable or two."""
    rho, parts = 0.3, []
    for f, slope, L, starts in _functions(CONVEX in violated):
        eta = (4.0 if STEP in violated else 1.0) * rho / L
        w, momentum = starts.copy(), np.zeros_like(starts)
        values, lengths = [f(w)], []
        beta = 0.9 if FULL in violated else 0.0
        for t in range(1, _STEPS + 1):
            g = slope(w)
            momentum = beta * momentum + (1 - beta) * g
            M = momentum / (1 - beta**t)
            scale = rho + np.square(M).sum(axis=1)
            lengths.append(eta / (rho + np.square(g).sum(axis=1)))
            w = w - eta * M / scale[:, None]
            values.append(f(w))
        gap = np.array(values)
        bound = np.square(starts).sum(axis=1) / (2 * np.sum(lengths, axis=0))
        left = np.stack([gap[1:].max(axis=0), gap[-1], (gap[1:] - gap[:-1]).max(axis=0) + gap[0]], axis=1)
        right = np.stack([gap[0], bound, gap[0]], axis=1)
        rounding = ORDER_ONE * _STEPS * DOUBLE * (1 + gap[0])
        convex = _second_difference(f, starts)
        holds = {FULL: beta == 0, STEP: eta <= rho / L, CONVEX: convex >= -rounding}
        parts.append(tries(left, right, rounding=rounding[:, None], holds=holds))
    return joined(parts)


def _functions(
    rippled: bool,
) -> list[tuple[Callable[[Array], Array], Callable[[Array], Array], float, Array]]:
    """Value, derivative, L and starts; minimum 0 at 0. The rippled bowl has other minima, where runs end."""
    starts = np.concatenate([np.linspace(0.5, 9.0, 20), -np.linspace(0.5, 9.0, 20)])[:, None]
    if rippled:
        beyond = 1.5  # the first ripple lies inside
        return [
            (
                lambda w: (1 - np.cos(3 * w) + 0.05 * w**2).sum(axis=1),
                lambda w: 3 * np.sin(3 * w) + 0.1 * w,
                9.1,
                starts[np.abs(starts[:, 0]) >= beyond],
            )
        ]
    spectrum = np.array([1.0, 0.03])
    return [
        (
            lambda w: (spectrum * w**2).sum(axis=1) / 2,
            lambda w: spectrum * w,
            1.0,
            np.concatenate([starts, starts[::-1] / 3], axis=1),
        ),
        (
            lambda w: (np.logaddexp(w, -w) - np.log(2)).sum(axis=1),
            lambda w: np.tanh(w),
            1.0,
            starts,
        ),
    ]


def _second_difference(f: Callable[[Array], Array], starts: Array) -> Array:
    """Least second difference of f on the line from the start through 0: negative where f is not convex."""
    values = np.stack([f(x * starts) for x in np.linspace(-1, 1, 201)])
    least: Array = np.diff(values, 2, axis=0).min(axis=0)
    return least


_NEGATIVE = "ρ < 0; bounds read with |ρ|"

STUDIES = (
    Study("SOFIM-step-bound", _step_bound, {RHO: _NEGATIVE}),
    Study("SOFIM-stability", _farthest, {RHO: f"{_NEGATIVE}; the cycle is not bounded"}),
    Study("SOFIM-divergence", _farthest, {RHO: _NEGATIVE}),
    Study("SOFIM-cancellation", _both, {RHO: "ρ < 0 and s within 1e-9 of -1"}),
    Study(
        "SOFIM-other-forms", _accuracy(_bracket, lambda s: 1 + abs(s)), {RHO: "ρ < 0 and s within 1e-9 of -1"}
    ),
    Study(
        "SOFIM-convex-rate",
        _rate,
        {FULL: "momentum β = 0.9", CONVEX: "a bowl with ripples", STEP: "a step four times ρ/L"},
    ),
)
