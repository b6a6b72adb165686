"""Process adversaries for Algorithm 1: gradients aligned with the current eigenvectors of the factors.

A policy is a cycle of coefficient matrices C; the gradient of step t is ``G = U C_t V^T`` with the
eigenvectors of P and Q, eigenvalues ascending, so that entry (i, j) pushes the i-th eigenvalue of P and the
j-th of Q, each through the other's inverse. Random gradients, by contrast, leave the bounds of FISMO's
lemmas unattained.
"""

from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reference.fismo import Damping, Order, update_factors

__all__ = [
    "MU",
    "RANDOM_RUNS",
    "Attack",
    "aligned",
    "attacks_in_frobenius_ball",
    "attacks_in_spectral_ball",
    "isometry_policies",
    "rank_one_policies",
]

Array = NDArray[np.float64]

#: Damping of every attack: the bounds depend on it through g^2 / mu only, except for the drift at gamma > 0.
MU = 0.1

#: Frobenius ball: values of ``b = g^2 / (m n mu)``, all below 1 as Lemma D.2 asks.
LEVELS = (0.1, 0.5, 0.9)

#: Spectral ball: values of ``s^2 / mu``.
SPECTRAL_LEVELS = (0.3, 3.0, 100.0)

#: Weights of the old factor that are attacked.
GAMMAS = (0.0, 0.5, 0.9)

_ORDERS: tuple[Order, Order] = ("gauss-seidel", "jacobi")

#: How many of the policies in the Frobenius ball, the last ones, are random gradients, for comparison.
RANDOM_RUNS = 10

#: Steps of an attack: at gamma = 0 the aligned one closes the gap to its limit by a factor b per step.
STEPS = 30


class Attack(NamedTuple):
    """Factors and gradients along the runs of one batch.

    Attributes
    ----------
    P : (T + 1, R, m, m) float64
    Q : (T + 1, R, n, n) float64
        Factors, from the identity on.
    G : (T, R, m, n) float64
        Gradients.
    size : (R,) float64
        Radius of the ball the gradients fill: Frobenius norm g or spectral norm s.
    gamma : float
    damping, order : str
        As in `reference.fismo.update_factors`.
    """

    P: Array
    Q: Array
    G: Array
    size: Array
    gamma: float
    damping: Damping
    order: Order

    @property
    def runs(self) -> int:
        """Number of runs in the batch."""
        return self.G.shape[1]


def aligned(
    C: Array, *, size: Array, steps: int, gamma: float, mu: float, damping: Damping, order: Order
) -> Attack:
    """Run Algorithm 1's factor updates under aligned gradients.

    Parameters
    ----------
    C : (period, R, m, n) float64
        Policies, each matrix on the unit sphere (or in the unit ball) of the norm in question.
    size : (R,) float64
        Radius of the ball, per run.
    steps : int
    gamma, mu, damping, order
        As in `reference.fismo.update_factors`.
    """
    period, R, m, n = C.shape
    P, Q = np.broadcast_to(np.eye(m), (R, m, m)), np.broadcast_to(np.eye(n), (R, n, n))
    Ps, Qs, Gs = [P], [Q], []
    for t in range(steps):
        U, V = np.linalg.eigh(P)[1], np.linalg.eigh(Q)[1]
        G = size[:, None, None] * (U @ C[t % period] @ V.mT)
        P, Q = update_factors(
            G, P, Q, gamma=gamma, mu=mu, damping=damping, order=order, factor_scaling="none"
        )
        Ps.append(P)
        Qs.append(Q)
        Gs.append(G)
    attack = Attack(np.stack(Ps), np.stack(Qs), np.stack(Gs), size, gamma, damping, order)
    for history in attack[:4]:
        history.flags.writeable = False  # attacks are shared between the claims they bear on
    return attack


def rank_one_policies(m: int, n: int) -> Array:
    """Rank-one gradients along the extreme eigenvectors, all cycles of one or two, ``(2, R, m, n)``."""
    corners = []
    for i, j in product((0, m - 1), (0, n - 1)):
        C = np.zeros((m, n))
        C[i, j] = 1.0
        corners.append(C)
    return _cycles(corners)


def isometry_policies(m: int, n: int) -> Array:
    """Partial isometries between lowest or highest eigenvectors, in step or reversed; cycles as above."""
    r = min(m, n)
    found: dict[bytes, Array] = {}
    for k, top_rows, top_columns, reverse in product({1, r - 1, r} - {0}, (0, 1), (0, 1), (1, -1)):
        C = np.zeros((m, n))
        rows, columns = np.arange(k) + top_rows * (m - k), np.arange(k) + top_columns * (n - k)
        C[rows, columns[::reverse]] = 1.0
        found[C.tobytes()] = C
    return _cycles(list(found.values()))


@cache
def attacks_in_frobenius_ball(*, damped_by: float = 1.0) -> tuple[Attack, ...]:
    """Attacks with ``|G_t|_F = g``, ``g^2 = b m n mu``, on two shapes, three gammas and both orders.

    Aligned rank-one policies and random gradients; `damped_by` scales the damping of the process, but not the
    mu of the ball (1: the algorithm as it is).
    """
    return tuple(
        _attack(m, n, gamma=gamma, order=order, mu=damped_by * MU)
        for (m, n), gamma, order in product(((2, 2), (3, 5)), GAMMAS, _ORDERS)
    )


@cache
def attacks_in_spectral_ball(*, damped_by: float = 1.0) -> tuple[Attack, ...]:
    """Attacks with ``|G_t|_2 = s`` under the theorem's damping, by aligned isometries.

    Three shapes, three gammas, both orders; `damped_by` as in `attacks_in_frobenius_ball`.
    """
    attacks = []
    for (m, n), gamma, order in product(((2, 2), (4, 2), (2, 4)), GAMMAS, _ORDERS):
        C, size = _every_level(isometry_policies(m, n), np.sqrt(np.array(SPECTRAL_LEVELS) * MU))
        attacks.append(
            aligned(C, size=size, steps=STEPS, gamma=gamma, mu=damped_by * MU, damping="theorem", order=order)
        )
    return tuple(attacks)


def _attack(m: int, n: int, *, gamma: float, order: Order, mu: float) -> Attack:
    rng = np.random.default_rng(20240610 + 10 * m + n)
    random = rng.standard_normal((STEPS, RANDOM_RUNS, m, n))
    random /= np.linalg.norm(random, axis=(-2, -1), keepdims=True)
    policies = np.concatenate([np.tile(rank_one_policies(m, n), (STEPS // 2, 1, 1, 1)), random], axis=1)
    C, size = _every_level(policies, np.sqrt(np.array(LEVELS) * m * n * MU))
    return aligned(C, size=size, steps=STEPS, gamma=gamma, mu=mu, damping="algorithm", order=order)


def _cycles(choices: list[Array]) -> Array:
    """All cycles of length one and two, as ``(2, R, m, n)``."""
    cycles = [(C, C) for C in choices] + [(C, D) for C in choices for D in choices if C is not D]
    return np.array(cycles).swapaxes(0, 1)


def _every_level(C: Array, levels: Array) -> tuple[Array, Array]:
    """Every policy at every level: ``(period, R * L, m, n)`` and ``(R * L,)``."""
    return np.repeat(C, len(levels), axis=1), np.tile(levels, C.shape[1])
