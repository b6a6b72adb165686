"""Assumption ablation of the betting test: metrics below zero, repeated seeds, bets placed after the draw."""

from collections.abc import Callable
from itertools import product

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
from proofs_checks.statistical.eprocess import GRID

__all__ = ["STUDIES", "betting_test"]

Array = NDArray[np.float64]

NONNEGATIVE = "METH-A-nonnegative"

#: Draws of a sequence; all ``2^12`` sequences of a two-point metric are enumerated.
_DRAWS = 12

#: False-alarm levels.
_LEVELS = (0.1, 0.01, 0.001)


@evidence(faults=LONE_FAULTS, scope="region")
def betting_test(*, fault: str | None = None) -> AblationFinding:
    """Probability, by enumeration, that the wealth ever reaches 1/alpha although the mean equals the bound.

    Faults: the inequality the wrong way round; nothing violated.
    """
    return ablate(STUDIES, fault=fault)


def _alarms(violated: frozenset[str]) -> Tries:
    if not violated:
        return joined(_tries(low=0.0, high=high, chosen=_plain) for high in (1.5, 2.0, 4.0, 20.0))
    return joined(
        [
            _tries(low=-60.0, high=62.0, chosen=_plain),
            _tries(low=0.0, high=2.0, chosen=_plain, repeated=True),
            _tries(low=0.0, high=2.0, chosen=_hindsight),
        ]
    )


def _tries(*, low: float, high: float, chosen: Callable[[Array], Array], repeated: bool = False) -> Tries:
    """Sequences of a metric with values `low` and `high` and mean 1, the bound."""
    p = (1 - low) / (high - low)
    sequences = np.array(list(product((False, True), repeat=_DRAWS)))
    if repeated:  # one seed, seen again and again
        sequences, probability = sequences[[0, -1]], np.array([1 - p, p])
    else:
        probability = np.where(sequences, p, 1 - p).prod(axis=1)
    excess = np.where(sequences, high, low) - 1
    wealth = np.mean([chosen(stake * excess).cumprod(axis=1) for stake in GRID], axis=0)
    left = [float(probability[(wealth * alpha >= 1).any(axis=1)].sum()) for alpha in _LEVELS]
    holds = {NONNEGATIVE: low >= 0 and not repeated and chosen is _plain}
    return tries([left], [_LEVELS], rounding=ORDER_ONE * len(sequences) * DOUBLE, holds=holds)


def _plain(stakes: Array) -> Array:
    """Factors of bets that were fixed before the draw."""
    return 1 + stakes


def _hindsight(stakes: Array) -> Array:
    """Bets on the draws that turned out high only."""
    return 1 + np.maximum(stakes, 0.0)


STUDIES = (
    Study(
        "METH-eprocess",
        _alarms,
        {NONNEGATIVE: "values down to -60 bounds; or one seed repeated; or bets placed after the draw"},
    ),
)
