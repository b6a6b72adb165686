"""From formulas to acceptance decisions."""

from collections.abc import Callable, Mapping
from typing import Any

import sympy

from proofs_checks.ratios import Ratio, yes_no
from proofs_checks.symbolic.carriers import Carrier, Numbers, Symbols
from proofs_checks.symbolic.cone import Nonnegative, Psd

__all__ = ["SHAPES", "Equations", "prove", "scalar_identity"]

#: Named equations: left and right side.
Equations = Mapping[str, tuple[Any, Any]]

#: The shapes on which every identity is evaluated in exact rational numbers: wide, tall, and a single row.
SHAPES = ((2, 3), (3, 2), (1, 2))


def _value(side: Any) -> Any:
    return side.value if isinstance(side, Psd | Nonnegative) else side


def prove(claim: Callable[[Carrier], Equations], *, label: str = "") -> tuple[Ratio, ...]:
    """Decide the equations of `claim`: one yes or no per equation in normal form, one in rational numbers.

    Parameters
    ----------
    claim : callable
        Builds the equations on a carrier. It is called once on `Symbols` and once on `Numbers` per shape.
    label : str
        Put before the name of each decision.
    """
    x = Symbols()
    symbolic = {name: x.vanishes(_value(a) - _value(b)) for name, (a, b) in claim(x).items()}
    numeric = dict.fromkeys(symbolic, True)
    for seed, (m, n) in enumerate(SHAPES):
        y = Numbers(seed, m, n)
        for name, (a, b) in claim(y).items():
            numeric[name] &= y.vanishes(_value(a) - _value(b))
    return tuple(
        yes_no(f"{label}{name}: {how}", found[name])
        for name in symbolic
        for how, found in (("normal form", symbolic), ("exact rationals", numeric))
    )


def scalar_identity(name: str, left: Any, right: Any = 0) -> Ratio:
    """An identity between scalar expressions, by exact cancellation."""
    return yes_no(name, sympy.cancel(sympy.sympify(left) - right) == 0)
