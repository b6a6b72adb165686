"""Whole runs of FISMO on given gradients, and variants of it that the algorithm is not."""

from typing import Literal, NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray

from proofs_checks.adversarial.instances import symmetric_root
from proofs_checks.adversarial.verdicts import factor_rounding
from reference.fismo import Damping, FismoState, Order, Scaling, init, step, update_factors
from reference.polar import polar_factor

__all__ = ["Options", "Trajectory", "budget", "run", "variant"]

Array = NDArray[np.float64]


class Options(TypedDict):
    """The named choices of `reference.fismo.update_factors`."""

    damping: Damping
    order: Order
    factor_scaling: Scaling


class Trajectory(NamedTuple):
    """A run from the identity and zero momentum.

    Attributes
    ----------
    updates : (T, R, m, n) float64
        ``W_T = W_0 - lr * sum of updates``.
    P, Q, M : (T, R, ...) float64
        State after each step.
    """

    updates: Array
    P: Array
    Q: Array
    M: Array


def run(
    G: Array,
    *,
    state: FismoState | None = None,
    beta: float = 0.9,
    gamma: float = 0.95,
    mu: float = 1e-2,
    damping: Damping = "algorithm",
    order: Order = "gauss-seidel",
    factor_scaling: Scaling = "none",
) -> Trajectory:
    """`reference.fismo.step` along the gradients ``G (T, R, m, n)``."""
    state = init(G.shape[1:]) if state is None else state
    updates, states = [], []
    for gradient in G:
        update, state = step(
            gradient,
            state,
            beta=beta,
            gamma=gamma,
            mu=mu,
            damping=damping,
            order=order,
            factor_scaling=factor_scaling,
        )
        updates.append(update)
        states.append(state)
    return Trajectory(np.stack(updates), *(np.stack(part) for part in zip(*states, strict=True)))


def variant(
    G: Array,
    *,
    state: FismoState,
    beta: float,
    gamma: float,
    mu: float,
    root: Literal["symmetric", "cholesky"] = "symmetric",
    momentum: Literal["whitened", "raw"] = "whitened",
) -> Array:
    """Updates ``(T, R, m, n)`` with other roots, or with the momentum of raw gradients whitened at each step.

    With symmetric roots and whitened momentum this is Algorithm 1, written once more.
    """
    P, Q, M = state
    updates = []
    for gradient in G:
        P, Q = update_factors(
            gradient,
            P,
            Q,
            gamma=gamma,
            mu=mu,
            damping="algorithm",
            order="gauss-seidel",
            factor_scaling="none",
        )
        S_inv, K_inv = (np.linalg.inv(_root(factor, root)) for factor in (P, Q))
        if momentum == "whitened":
            M = beta * M + (1 - beta) * S_inv @ gradient @ K_inv.mT
            O = polar_factor(M)
        else:
            M = beta * M + (1 - beta) * gradient
            O = polar_factor(S_inv @ M @ K_inv.mT)
        updates.append(S_inv.mT @ O @ K_inv)
    return np.stack(updates)


def budget(*trajectories: Trajectory) -> float:
    """Rounding budget of ``|sum over t of a norm of the updates|``, for the comparison of two runs.

    Errors of the factors enter the momentum and pass through the polar factor, which amplifies a relative
    error by at most the condition of M; momentum and factors are averages, so the errors of T steps add up
    at most.
    """
    total = 0.0
    for path in trajectories:
        s = np.linalg.svd(path.M, compute_uv=False)
        condition = float((s[..., 0] / s[..., -1]).max())
        total += (
            factor_rounding(path.P, path.Q, steps=len(path.M))
            * condition
            * float(np.linalg.norm(path.updates))
        )
    return total


def _root(P: Array, root: str) -> Array:
    """``S`` with ``S S^T = P``."""
    return np.asarray(np.linalg.cholesky(P) if root == "cholesky" else symmetric_root(P, power=0.5))
