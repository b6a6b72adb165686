"""Assumption ablation of the orthogonalising polynomials: Kim and Oh's Theorem 2, Polar Express."""

import numpy as np
from numpy.typing import NDArray

from proofs_checks.adversarial.ablation import (
    LONE_FAULTS,
    AblationFinding,
    Study,
    Tries,
    ablate,
    joined,
    tries,
)
from proofs_checks.adversarial.verdicts import DOUBLE
from proofs_checks.evidence import evidence
from proofs_checks.ratios import ORDER_ONE
from reference.polar import JORDAN_QUINTIC, kim_oh_polynomial, polar_express_coefficients, scalar_map

__all__ = ["STUDIES", "polynomials"]

Array = NDArray[np.float64]

TAYLOR, INTERVAL = "KO-A-taylor", "PE-A-interval"


@evidence(faults=LONE_FAULTS, scope="region")
def polynomials(*, fault: str | None = None) -> AblationFinding:
    """Kim and Oh's residual law without Taylor polynomials or scaling; Polar Express off its interval.

    Faults: inequalities the wrong way round; nothing violated.
    """
    return ablate(STUDIES, fault=fault)


def _residual_law(violated: frozenset[str]) -> Tries:
    """``delta_q <= delta_0^((k+1)^q)`` on singular values, one a try: Jordan's quintic, then no scaling."""
    inside = np.linspace(0.05, 0.999, 60)
    parts = []
    for k, q in ((1, 1), (1, 3), (2, 1), (2, 2)):
        taylor = kim_oh_polynomial(k)
        if not violated:
            parts.append(_residuals(inside, taylor, k=k, q=q, taylor=True))
            continue
        parts.append(_residuals(np.linspace(0.05, 0.8, 60), JORDAN_QUINTIC, k=2, q=q, taylor=False))
        parts.append(_residuals(np.linspace(1.5, 1.8, 20), taylor, k=k, q=q, taylor=False))
    return joined(parts)


def _residuals(s: Array, polynomial: tuple[float, ...], *, k: int, q: int, taylor: bool) -> Tries:
    """Residuals before and after q steps from singular values s; those above 1 were not scaled."""
    first, last = np.abs(1 - s**2), np.abs(1 - scalar_map(s, polynomial, steps=q) ** 2)
    holds = {TAYLOR: taylor and (s <= 1)}
    return tries(last, first ** ((k + 1) ** q), rounding=ORDER_ONE * (q + 1) * (k + 1) * DOUBLE, holds=holds)


def _greedy(violated: frozenset[str]) -> Tries:
    """``|1 - p(x)|`` of the greedy composition against its error on [l, 1], and against ``(1 - l^2)^...``."""
    parts = []
    for lower, degree, steps in ((0.1, 3, 4), (0.1, 5, 3), (0.01, 5, 4)):
        composition = polar_express_coefficients(lower, steps=steps, degree=degree, cushion=0.0, safety=1.0)
        x = np.geomspace(lower, 1.0, 200)
        if violated:
            x = np.concatenate([np.geomspace(lower / 100, 0.9 * lower, 50), np.linspace(1.005, 1.02, 20)])
        error = np.abs(1 - scalar_map(x, composition))
        claimed = 1 - float(scalar_map(np.array([lower]), composition)[0])
        law = (1 - lower**2) ** (((degree + 1) // 2) ** steps)
        holds = {INTERVAL: (x >= lower * (1 - DOUBLE)) & (x <= 1 + DOUBLE)}
        rounding = ORDER_ONE * steps * degree * DOUBLE * _GROWTH**steps
        sides = np.broadcast_to([claimed, law], (len(x), 2))
        parts.append(tries(np.stack([error, error], axis=1), sides, rounding=rounding, holds=holds))
    return joined(parts)


#: Largest slope of a greedy quintic, about 8.5 at the origin.
_GROWTH = 8.5


def _only(column: int, violated: frozenset[str]) -> Tries:
    both = _greedy(violated)
    return both._replace(
        left=both.left[:, [column]], right=both.right[:, [column]], rounding=both.rounding[:, [column]]
    )


_OUTSIDE = "singular values below ℓ or above u"

STUDIES = (
    Study(
        "KO-theorem2",
        _residual_law,
        {TAYLOR: "Jordan's quintic; or Taylor's without scaling, σ from 1.5 to 1.8"},
    ),
    Study("PE-optimal", lambda violated: _only(0, violated), {INTERVAL: _OUTSIDE}),
    Study("PE-rate", lambda violated: _only(1, violated), {INTERVAL: _OUTSIDE}),
)
