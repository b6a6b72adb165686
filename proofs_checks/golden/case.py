"""What golden vectors are made of: functions, cases, arrays by name.

Symbols: u unit roundoff.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from proofs_checks.decision import DOUBLE, Array, unit_roundoff

__all__ = ["Arrays", "Case", "Exact", "Function", "GoldenError", "budgets", "expected"]

#: Arrays by name: the inputs or the outputs of one step.
Arrays = Mapping[str, Array]

#: Rational values, row by row, of those outputs of one step that are known exactly.
Exact = Mapping[str, list[Fraction]]


class GoldenError(Exception):
    """Golden vectors that cannot be written or read."""


@dataclass(frozen=True)
class Case:
    """The inputs of one run.

    Attributes
    ----------
    name : str
        Unique within its function.
    hp : mapping
        Hyper-parameters by the names of `reference`.
    steps : tuple of mapping
        Inputs of every step, by name.
    start : mapping
        Arrays of the state before the first step, where it is not the usual one.
    """

    name: str
    hp: Mapping[str, Any]
    steps: tuple[Arrays, ...]
    start: Arrays = field(default_factory=dict)


@dataclass(frozen=True)
class Function:
    """A function of `reference` with its golden cases.

    Attributes
    ----------
    name : str
        Module and function, such as "fismo.step".
    equation, source : str
        What is computed, and where it is published.
    run : function (case) -> outputs of every step
        By `reference`.
    bound : function (case, u) -> budgets of every step
        An array holds a budget per entry, a number one for the Frobenius norm.
    exact : function (case) -> exact outputs of every step
        Those that are rational.
    cases : tuple of Case
    """

    name: str
    equation: str
    source: str
    run: Callable[[Case], list[dict[str, Array]]]
    bound: Callable[[Case, float], list[dict[str, Array]]]
    exact: Callable[[Case], list[dict[str, list[Fraction]]]]
    cases: tuple[Case, ...]


def expected(function: Function, case: Case) -> list[dict[str, Array]]:
    """What every step should return: correctly rounded where it is rational, else by `reference`."""
    out = []
    for computed, exact in zip(function.run(case), function.exact(case), strict=True):
        out.append(
            {
                name: np.array([float(x) for x in exact[name]]).reshape(X.shape) if name in exact else X
                for name, X in computed.items()
            }
        )
    return out


def budgets(function: Function, case: Case, dtype: str) -> list[dict[str, Array]]:
    """What an implementation in `dtype` may be off, and the float64 rounding of what it is compared with."""
    return function.bound(case, unit_roundoff(dtype) + DOUBLE)
