"""Tests of a statement about a mean by betting; valid under any stopping rule, for any distribution.

The wealth of a gambler who bets against a true statement is a non-negative supermartingale, so by Ville's
inequality it *ever* reaches 1/alpha with probability at most alpha. Reaching it refutes the statement.
Source: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting" (2024);
verification method "rates with a controlled false-alarm rate".
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["ALPHA", "ALPHA_TOTAL", "GRID", "crossed", "refutation_wealth", "support_wealth"]

Array = NDArray[np.float64]

#: False-alarm probability of the whole project, over its life.
ALPHA_TOTAL = 1e-3

#: How `ALPHA_TOTAL` is split: one entry per pre-registered test; the rest is reserve.
ALPHA = {
    "SOFIM-noise": 1e-4,
    "FISMO-RATE-R1": 5e-5,
    "FISMO-RATE-R2": 5e-5,
    "FISMO-RATE-R3": 5e-5,
}

#: Bets: fractions of the largest stake that can never ruin the gambler.
GRID = (0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)


def refutation_wealth(Y: Array, *, bound: float, grid: tuple[float, ...] = GRID) -> Array:
    """Wealth of a gambler who bets that ``E[Y] <= bound`` is false.

    Parameters
    ----------
    Y : (..., n) float64
        Independent draws, non-negative, in the order in which they are seen. Not modified.
    bound : float
        Claimed bound on the mean, positive.
    grid : tuple of float
        Stakes lambda in (0, 1]; the wealth is the mean over them.

    Returns
    -------
    wealth : (..., n) float64
        After each draw; starts from 1. Infinite where it exceeds the largest float64.

    Raises
    ------
    ValueError
        If `Y` has a negative entry or one that is not finite, `bound` is not positive, or a stake is
        outside (0, 1].

    Notes
    -----
    Each factor ``1 + lambda (Y / bound - 1)`` has mean at most 1 under the claim and is never negative.
    Source: verification method "rates with a controlled false-alarm rate", refutation test.
    """
    _check(Y, bound=bound, grid=grid)
    return _mean_wealth(Y / bound - 1, grid)


def support_wealth(
    Y: Array, *, bound: float, ceiling: float, delta: float, grid: tuple[float, ...] = GRID
) -> Array:
    """Wealth of a gambler who bets that ``E[Y] >= (1 + delta) bound`` is false.

    Parameters
    ----------
    Y : (..., n) float64
        Independent draws in ``[0, ceiling]``. Not modified.
    bound : float
        The mean to support, positive.
    ceiling : float
        Sure upper bound of `Y`, positive.
    delta : float
        Relative excess that would be noticed; above -1 (negative: a lower one).
    grid : tuple of float
        Stakes, as fractions of the largest that cannot ruin the gambler.

    Returns
    -------
    wealth : (..., n) float64
        After each draw; starts from 1.

    Raises
    ------
    ValueError
        If a draw is outside ``[0, ceiling]``, or a parameter is out of range.

    Notes
    -----
    Factors ``1 + lambda (1 - Y / ((1 + delta) bound))`` with ``lambda <= 1 / (ceiling / ((1 + delta) bound)
    - 1)``.
    Source: verification method "rates with a controlled false-alarm rate", support test.
    """
    _check(Y, bound=bound, grid=grid)
    if not (delta > -1 and ceiling > 0):
        raise ValueError(f"delta must be above -1 and ceiling above 0, got {delta} and {ceiling}")
    if (ceiling < Y).any():
        raise ValueError(f"Y must be at most ceiling = {ceiling}, got {Y.max()}")
    mean = (1 + delta) * bound
    largest = 1 / (ceiling / mean - 1) if ceiling > mean else 1.0
    return _mean_wealth(1 - Y / mean, tuple(largest * stake for stake in grid))


def crossed(wealth: Array, *, alpha: float) -> NDArray[np.bool_]:
    """Whether the wealth ``(..., n)`` ever reached ``1 / alpha``; shape ``(...)``. NaN never counts."""
    return np.asarray((wealth * alpha >= 1).any(axis=-1))


def _mean_wealth(excess: Array, stakes: tuple[float, ...]) -> Array:
    """Mean over stakes of the running product of ``1 + stake * excess``, by logarithms."""
    # log 0: ruined at that stake; exp: wealth beyond float64
    with np.errstate(divide="ignore", over="ignore"):
        wealth = [np.exp(np.cumsum(np.log1p(np.maximum(stake * excess, -1.0)), axis=-1)) for stake in stakes]
    return np.mean(wealth, axis=0)


def _check(Y: Array, *, bound: float, grid: tuple[float, ...]) -> None:
    if not (np.isfinite(Y).all() and (Y >= 0).all()):
        raise ValueError("Y must be finite and non-negative, got an entry that is not")
    if not bound > 0:
        raise ValueError(f"bound must be above 0, got {bound}")
    if not grid or not all(0 < stake <= 1 for stake in grid):
        raise ValueError(f"grid must hold stakes in (0, 1], got {grid}")
