"""A small portfolio of derivative-free searches, batched over restarts.

Every search maximises ``objective(X)``, which takes ``(R, d)`` points and returns ``(R,)`` values. Instances
are parametrised by free real numbers, so that a search cannot leave the assumptions of the claim it attacks:
positive definite matrices through factors or exponentials, balls through scaling.
Source: verification method "adversarial search": structured seeds, random draws, (1+1) evolution strategy
with restarts, pattern search, equal budgets.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Found", "Objective", "evolution", "pattern", "portfolio"]

Array = NDArray[np.float64]
Objective = Callable[[Array], Array]

#: Step-size control of the (1+1) strategy: the one-fifth success rule in Kern's form, so that the step size
#: stands still when one mutation in five succeeds (1.5 * 1.5^(-1/4 * 4) = 1).
_GROW, _SHRINK = 1.5, 1.5**-0.25

#: First step of both local searches, relative to coordinates of order one.
_FIRST_STEP = 0.5

#: Share of coordinates that a mutation moves: all of them, or few (useful when the optimum is sparse).
_SHARES = (1.0, 0.3, 0.1)


class Found(NamedTuple):
    """The best point of a search.

    Attributes
    ----------
    value : float
        Largest objective value.
    point : (d,) float64
        Where it was found.
    evaluations : int
        Objective evaluations spent, all generators together.
    reached : dict of str to float
        Best value of every generator of the portfolio, for the audit.
    """

    value: float
    point: Array
    evaluations: int
    reached: dict[str, float]


def evolution(
    objective: Objective, starts: Array, *, steps: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """(1+1) evolution strategy from every start at once.

    Parameters
    ----------
    objective : callable
        ``(R, d) -> (R,)``, to be maximised.
    starts : (R, d) float64
        One independent restart per row. Not modified.
    steps : int
        Mutations per restart; ``R * (steps + 1)`` evaluations.
    rng : numpy Generator

    Returns
    -------
    points : (R, d) float64
    values : (R,) float64

    Raises
    ------
    FloatingPointError
        If the objective returns NaN: a value that is not a number must not pass for a low one.

    Notes
    -----
    Source: Rechenberg's one-fifth success rule.
    """
    X, f = starts.copy(), _values(objective, starts)
    sigma = np.full(len(X), _FIRST_STEP)
    for k in range(steps):
        moved = rng.random(X.shape) <= _SHARES[k % len(_SHARES)]
        Y = X + sigma[:, None] * moved * rng.standard_normal(X.shape)
        h = _values(objective, Y)
        better = h > f
        X, f = np.where(better[:, None], Y, X), np.where(better, h, f)
        sigma *= np.where(better, _GROW, _SHRINK)
    return X, f


def pattern(objective: Objective, starts: Array, *, steps: int) -> tuple[Array, Array]:
    """Pattern search: poll every coordinate in both directions, take the best poll or halve the step.

    Parameters
    ----------
    objective : callable
        ``(R, d) -> (R,)``, to be maximised.
    starts : (R, d) float64
        Not modified.
    steps : int
        Polls per start; ``R * (2 d * steps + 1)`` evaluations.

    Returns
    -------
    points : (R, d) float64
    values : (R,) float64

    Raises
    ------
    FloatingPointError
        If the objective returns NaN.

    Notes
    -----
    Source: Hooke and Jeeves (1961), with complete polling.
    """
    R, d = starts.shape
    X, f = starts.copy(), _values(objective, starts)
    step = np.full(R, _FIRST_STEP)
    directions = np.concatenate([np.eye(d), -np.eye(d)])
    rows = np.arange(R)
    for _ in range(steps):
        polls = X[:, None, :] + step[:, None, None] * directions
        h = _values(objective, polls.reshape(-1, d)).reshape(R, 2 * d)
        best = h.argmax(axis=1)
        better = h[rows, best] > f
        X = np.where(better[:, None], polls[rows, best], X)
        f = np.where(better, h[rows, best], f)
        step = np.where(better, step, step / 2)
    return X, f


def portfolio(
    objective: Objective, seeds: Array, *, budget: int, restarts: int, rng: np.random.Generator
) -> Found:
    """All generators with about equal budgets; the local searches start from the best seeds and draws.

    Parameters
    ----------
    objective : callable
        ``(R, d) -> (R,)``, to be maximised.
    seeds : (S, d) float64
        Structured points: the boundary, rank-deficient, repeated, sign, identity-like.
    budget : int
        Evaluations for each of the three generators that spend one (random, evolution, pattern).
    restarts : int
        Parallel restarts of the evolution strategy.
    rng : numpy Generator

    Returns
    -------
    found : Found

    Raises
    ------
    FloatingPointError
        If the objective returns NaN.

    Notes
    -----
    Source: verification method "adversarial search", portfolio with equal budgets.
    """
    S, d = seeds.shape
    draws = rng.standard_normal((budget, d))
    points, values = [seeds, draws], [_values(objective, seeds), _values(objective, draws)]
    pool, scores = np.concatenate(points), np.concatenate(values)
    best = pool[np.argsort(scores)[::-1]]
    polled = max(1, restarts // d)
    X, f = evolution(objective, best[:restarts], steps=budget // restarts, rng=rng)
    Y, h = pattern(objective, best[:polled], steps=max(1, budget // (2 * d * polled)))
    reached = {
        "structured": float(values[0].max(initial=-np.inf)),
        "random": float(values[1].max()),
        "evolution": float(f.max()),
        "pattern": float(h.max()),
    }
    pool, scores = np.concatenate([pool, X, Y]), np.concatenate([scores, f, h])
    spent = (
        S
        + budget
        + restarts * (budget // restarts + 1)
        + polled * (2 * d * max(1, budget // (2 * d * polled)) + 1)
    )
    return Found(float(scores.max()), pool[scores.argmax()], spent, reached)


def _values(objective: Objective, X: Array) -> Array:
    """Objective values, none of them NaN."""
    f = objective(X)
    if np.isnan(f).any():
        raise FloatingPointError(f"the objective is not a number at {np.count_nonzero(np.isnan(f))} points")
    return f
