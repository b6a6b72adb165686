"""FLIPFLOP-rate: the alternation without damping, with enough samples and with too few."""

import numpy as np
from numpy.typing import NDArray

from proofs_checks.adversarial.instances import spd
from proofs_checks.adversarial.verdicts import at_most, factor_rounding, vanishing
from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import Ratio, yes_no
from reference.kronecker import fixed_point, hilbert_distance, left_factor, right_factor

__all__ = ["without_damping"]

Array = NDArray[np.float64]

#: Shapes, and samples: ``max(m/n, n/m) + 1`` rounded up, one more where that is 2, which is enough for none.
_CASES = ((3, 4, 3), (2, 5, 4), (4, 4, 3))

_PROBLEMS = 15

#: Sweeps before the factor is read, and the sweeps over which it is.
_SETTLE, _SPAN = 8, 4


@evidence(faults=("one-sample", "damped-start"), scope="region")
def without_damping(*, fault: str | None = None) -> Finding:
    """For mu = 0 and ``max(m/n, n/m) + 1`` Gaussian samples or more the flip-flop converges, to one point.

    Distances between sweeps shrink by a factor in the tail, two starts end at the same factors, and one
    sample of a rectangular matrix, too few, leaves a singular factor, which the library refuses.
    Faults: one sample where enough are promised; one of the two starts is run with damping 0.1.
    """
    rng = np.random.default_rng(20240706)
    ratios: list[Ratio] = []
    factors = []
    for m, n, samples in _CASES:
        count = 1 if fault == "one-sample" else samples
        G = rng.standard_normal((_PROBLEMS, count, m, n))
        name = f"{m}x{n}, {samples} samples"
        exists = _converges(G)
        ratios.append(yes_no(f"a fixed point exists ({name})", exists))
        if not exists:
            continue
        one = fixed_point(G, mu=0.0)
        two = fixed_point(G, mu=0.1 if fault == "damped-start" else 0.0, Q0=spd(rng, _PROBLEMS, n))
        apart = np.maximum(hilbert_distance(one.P, two.P), hilbert_distance(one.Q, two.Q))
        rounding = factor_rounding(one.P, one.Q, steps=one.iterations)
        ratios.append(vanishing(f"distance of two starts ({name})", apart, rounding=rounding))
        factor = _factor(G)
        factors.append(float(factor.max()))
        ratios.append(at_most(f"factor per sweep ({name})", factor, 1.0, rounding=0.0))
    few = _converges(rng.standard_normal((1, 1, 3, 4)))
    ratios.append(yes_no("one 3x4 sample is too few", not few))
    tails = ", ".join(f"{value:.3f}" for value in factors)
    return Finding(
        tuple(ratios),
        f"mu = 0, {len(_CASES)} shapes, {_PROBLEMS} Gaussian problems each with max(m/n, n/m) + 1 samples: "
        f"linear convergence, worst factor per sweep {tails}; one sample is refused",
        figures={"worst_factor": max(factors, default=np.nan)},
    )


def _converges(G: Array) -> bool:
    """Whether the library finds a fixed point without damping; it raises where a factor becomes singular."""
    try:
        fixed_point(G, mu=0.0, max_iterations=1000)
    except ValueError:
        return False
    return True


def _factor(G: Array) -> Array:
    """Mean factor per sweep in the tail."""
    Q = np.broadcast_to(np.eye(G.shape[-1]), (len(G), G.shape[-1], G.shape[-1]))
    chain = [Q]
    for _ in range(_SETTLE + _SPAN + 1):
        chain.append(right_factor(G, left_factor(G, chain[-1], mu=0.0), mu=0.0))
    moved = [hilbert_distance(chain[k + 1], chain[k]) for k in (_SETTLE, _SETTLE + _SPAN)]
    return np.asarray((moved[1] / moved[0]) ** (1 / _SPAN))
