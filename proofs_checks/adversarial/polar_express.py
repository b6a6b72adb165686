"""PE-optimal: no composition of odd polynomials comes closer to 1 on the interval than the greedy one."""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from proofs_checks.adversarial.search import portfolio
from proofs_checks.adversarial.verdicts import at_least, at_most, tightest, vanishing
from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import Ratio
from reference.polar import Polynomial, kim_oh_polynomial, polar_express_coefficients, scalar_map

__all__ = ["greedy_is_optimal"]

Array = NDArray[np.float64]

#: Lower end, degree and number of polynomials of each attack.
_CASES = ((0.1, 3, 1), (0.1, 3, 2), (0.03, 5, 1), (0.03, 5, 2))

#: What the attacks on a single polynomial must reach of the optimum; two quintics are a harder search.
_TIGHT = 0.98

#: Points at which the error of a candidate is taken, its maximum being at most underestimated; and the
#: relative amount by which that can flatter it, half the squared spacing times a curvature below 100 for
#: errors near E.
_POINTS, _FLATTERY = 400, 2e-3


@evidence(faults=("error-of-one-more-step", "taylor-for-greedy"), scope="region")
def greedy_is_optimal(*, fault: str | None = None) -> Finding:
    """The least maximum error of a composition of T odd polynomials of degree d is ``1 - l_(T+1)``, attained.

    Candidates are searched through the values of all T polynomials at Chebyshev nodes of the intervals that
    the greedy ones meet, from Taylor polynomials, interpolants of 1 and random ones; the greedy composition
    must have the error, and no other less.
    Faults: the error of T + 1 greedy steps is claimed; Taylor polynomials are claimed to attain it.
    """
    rng = np.random.default_rng(20240705)
    ratios: list[Ratio] = []
    reached, evaluations = [], 0
    for lower, degree, steps in _CASES:
        count = steps + 1 if fault == "error-of-one-more-step" else steps
        error = 1 - float(scalar_map(lower, _greedy(lower, degree, count)))
        x = np.geomspace(lower, 1.0, _POINTS)
        greedy = _greedy(lower, degree, steps)
        if fault == "taylor-for-greedy":
            greedy = (kim_oh_polynomial(degree // 2),) * steps
        attained = float(np.abs(scalar_map(x, greedy) - 1).max())
        name = f"l = {lower}, degree {degree}, T = {steps}"

        nodes = _nodes(lower, degree, steps)
        inverses = [np.asarray(np.linalg.inv(_odd_powers(row)), dtype=np.float64) for row in nodes]

        closeness = partial(_closeness, x=x, error=error, inverses=inverses)
        taylor = np.concatenate([scalar_map(row, [kim_oh_polynomial(degree // 2)]) for row in nodes])
        seeds = np.array([taylor, np.ones_like(taylor), 1 + 0.1 * rng.standard_normal(len(taylor))])
        found = portfolio(closeness, seeds, budget=4000, restarts=8, rng=rng)
        evaluations += found.evaluations
        reached.append(found.value)
        ratios.append(
            at_most(f"claimed error over error found ({name})", found.value, 1.0, rounding=_FLATTERY)
        )
        ratios.append(
            vanishing(
                f"greedy error over claimed, minus 1 ({name})", attained / error - 1, rounding=_FLATTERY
            )
        )
    single = [value for value, (_, _, steps) in zip(reached, _CASES, strict=True) if steps == 1]
    return Finding(
        (*ratios, at_least("reached of the optimum, one polynomial", np.array(single), _TIGHT, rounding=0.0)),
        f"{evaluations} compositions in {len(_CASES)} cases (degree 3 and 5, one and two polynomials): "
        "optimum over best "
        "error found " + ", ".join(f"{value:.4f}" for value in reached),
        figures={"evaluations": float(evaluations)},
        tightness=tightest(ratio for ratio in ratios if ratio.name.startswith("claimed")),
    )


def _greedy(lower: float, degree: int, steps: int) -> tuple[Polynomial, ...]:
    return polar_express_coefficients(lower, 1.0, steps=steps, degree=degree, cushion=0.0)


def _nodes(lower: float, degree: int, steps: int) -> list[Array]:
    """Chebyshev nodes, one per coefficient, of the interval that each greedy polynomial meets."""
    count = degree // 2 + 1
    unit = np.cos(np.pi * (np.arange(count) + 0.5) / count)
    l, u, nodes = lower, 1.0, []
    for p in _greedy(lower, degree, steps):
        nodes.append((u + l) / 2 + (u - l) / 2 * unit)
        l = float(scalar_map(l, [p]))
        u = 2 - l
    return nodes


def _odd_powers(x: Array) -> Array:
    """``x, x^3, x^5, ...``, as many as there are points."""
    return x[:, None] ** (2 * np.arange(len(x)) + 1)


def _closeness(y: Array, *, x: Array, error: float, inverses: list[Array]) -> Array:
    """Claimed error over the error of each candidate on the grid: above 1 would refute the claim."""
    found = np.abs(_composed(y, x, inverses) - 1).max(axis=1)
    return error / np.maximum(found, np.finfo(np.float64).tiny)


def _composed(y: Array, x: Array, inverses: list[Array]) -> Array:
    """Compositions ``(R, len(x))`` of the polynomials with the node values ``y (R, steps * terms)``."""
    value = np.broadcast_to(x, (len(y), len(x)))
    for values, inverse in zip(np.split(y, len(inverses), axis=1), inverses, strict=True):
        square, total = value * value, np.zeros_like(value)
        for c in (values @ inverse.T).T[::-1]:
            total = total * square + c[:, None]
        value = np.clip(total * value, -1e30, 1e30)  # a candidate that runs away loses, and must not overflow
    return value
