"""Printed decimals as acceptance budgets: half a unit in the last printed digit, plus rounding."""

from collections.abc import Sequence
from decimal import Decimal

import numpy as np
from numpy.typing import ArrayLike

from proofs_checks.ratios import Ratio

__all__ = ["agrees", "half_unit"]


def half_unit(text: str) -> float:
    """Half a unit in the last printed digit of a decimal such as ``"2.0315"`` or ``"1.5e3"``."""
    exponent = Decimal(text).as_tuple().exponent
    if not isinstance(exponent, int):
        raise ValueError(f"text must be a finite decimal, got {text!r}")
    return float(Decimal("0.5").scaleb(exponent))


def agrees(name: str, computed: ArrayLike, printed: str | Sequence[str], *, rounding: float = 0.0) -> Ratio:
    """The worst of several computed numbers against the same numbers in print.

    Parameters
    ----------
    name : str
        What is compared.
    computed : (k,) or scalar
        Recomputed numbers.
    printed : str or sequence of str
        Decimals separated by commas or blanks, or one string each.
    rounding : float
        Absolute rounding error of `computed`, derived by the caller.

    Returns
    -------
    ratio : Ratio
        Error over ``half a printed unit + rounding`` of the worst number.

    Raises
    ------
    ValueError
        If the counts differ: a number that is not compared must not pass.
    """
    texts = printed.replace(",", " ").replace(";", " ").split() if isinstance(printed, str) else list(printed)
    values = np.atleast_1d(np.asarray(computed, dtype=np.float64)).ravel()
    if len(texts) != len(values):
        raise ValueError(f"printed must hold {len(values)} numbers, got {len(texts)}")
    errors = [
        abs(float(Decimal(float(x)) - Decimal(text))) if np.isfinite(x) else np.nan
        for x, text in zip(values, texts, strict=True)
    ]
    budgets = [half_unit(text) + rounding for text in texts]
    worst = int(np.argmax(np.array(errors) / np.array(budgets)))  # argmax returns the first NaN, which fails
    return Ratio(name, float(errors[worst]), float(budgets[worst]))
