"""FISMO-EMP-gauss-seidel: Gauss-Seidel against Jacobi inside the stochastic algorithm.

Both orders see the same gradients, so that every comparison is paired. The plain alternation is T2, and where
boundedness is lost is T8 (`symbolic.threshold`): at ``b = 1`` for Jacobi, ``b = 2 + m/n`` for Gauss-Seidel.
"""

from functools import cache
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import avg_pool2d, cross_entropy

from proofs_checks.adversarial.verdicts import at_least, at_most
from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import Ratio
from proofs_checks.reproduction.networks import digits
from reference.fismo import Order, update_factors
from reference.kronecker import fixed_point
from torch_impl import fismo

__all__ = ["factor_error", "final_loss", "sign_flip_p"]

Array = NDArray[np.float64]

_ORDERS: tuple[Order, Order] = ("gauss-seidel", "jacobi")

#: Gradients: population and shape; runs, steps, and the step from which factors count as stationary.
_POPULATION, _SHAPE, _RUNS, _STEPS, _STATIONARY = 32, (6, 9), 24, 120, 80

#: Weights of the old factor, and damping, for gradients of mean square 1.
_GAMMAS, _MU = (0.5, 0.9, 0.95), 0.1

#: At gamma 0.5 Jacobi's stationary error is larger by this factor at least; at 0.95 by at most the other.
_FAST, _SLOW = 1.2, 1.1


def _gradients() -> Array:
    """A population of gradients whose second moment is not a Kronecker product."""
    rng = np.random.default_rng(11)
    m, n = _SHAPE
    left, right = (np.diag(10.0 ** -np.linspace(0, 0.75, side)) for side in _SHAPE)
    G = left @ rng.standard_normal((_POPULATION, m, n)) @ right + 0.3 * rng.standard_normal(
        (_POPULATION, m, n)
    )
    return G / np.sqrt(np.mean(np.square(G)))


@cache
def _errors(order: Order, gamma: float) -> Array:
    """Distance of the factors from the stationary ones, ``(T, R)``: norms of ``log eig(P_*^-1 P)``, added."""
    G = _gradients()
    end = fixed_point(G, mu=_MU, damping="algorithm")
    drawn = np.random.default_rng(12).integers(0, _POPULATION, (_STEPS, _RUNS))
    P, Q = (np.broadcast_to(np.eye(side), (_RUNS, side, side)) for side in _SHAPE)
    found = []
    for t in range(_STEPS):
        P, Q = update_factors(
            G[drawn[t]], P, Q, gamma=gamma, mu=_MU, damping="algorithm", order=order, factor_scaling="none"
        )
        found.append(_from(end.P, P) + _from(end.Q, Q))
    return np.array(found)


def _from(X: Array, Y: Array) -> Array:
    lower = np.linalg.inv(np.linalg.cholesky(X))
    return np.linalg.norm(np.log(np.linalg.eigvalsh(lower @ Y @ lower.T)), axis=-1)


@evidence(faults=("orders-exchanged", "same-order-twice"), scope="region", tier="full")
def factor_error(*, fault: str | None = None) -> Finding:
    """Stationary error of the factors under noise: Jacobi's is larger, much at small gamma, little at 0.95.

    The mean over the last steps and every run, paired; the start of a run shows the opposite sign, below
    2 %. Faults: the orders exchanged; one order compared with itself.
    """
    first, second = _ORDERS if fault != "orders-exchanged" else _ORDERS[::-1]
    if fault == "same-order-twice":
        second = first
    figures: dict[str, float] = {}
    wins = []
    for gamma in _GAMMAS:
        one, two = (_errors(order, gamma) for order in (first, second))
        late = [path[_STATIONARY:].mean(axis=0) for path in (one, two)]
        figures[f"Jacobi over Gauss-Seidel, gamma {gamma}"] = float(late[1].mean() / late[0].mean())
        figures[f"after ten steps, gamma {gamma}"] = float(two[9].mean() / one[9].mean())
        wins.append(float((late[0] < late[1]).mean()))
    ratio = [figures[f"Jacobi over Gauss-Seidel, gamma {gamma}"] for gamma in _GAMMAS]
    return Finding(
        (
            at_least("Jacobi over Gauss-Seidel, every gamma", min(ratio), 1.0, rounding=0.0),
            at_least("at gamma 0.5", ratio[0], _FAST, rounding=0.0),
            at_most("at gamma 0.95", ratio[-1], _SLOW, rounding=0.0),
            at_least("runs that agree", wins, 0.9, rounding=0.0),
        ),
        f"factors of a {_SHAPE[0]}x{_SHAPE[1]} stream, {_RUNS} paired runs: stationary error of Jacobi over "
        "Gauss-Seidel "
        + ", ".join(f"{x:.3f} (gamma {gamma})" for x, gamma in zip(ratio, _GAMMAS, strict=True))
        + "; after ten steps "
        + ", ".join(f"{figures[f'after ten steps, gamma {gamma}']:.3f}" for gamma in _GAMMAS),
        figures=figures,
    )


#: Training: networks side by side, each with its own start and batches.
_SEEDS, _STEP_SIZES, _WIDTHS, _LENGTH = 12, (0.02, 0.04, 0.08), (16, 16, 16, 10), 80

#: Level of the test at gamma 0.5, and largest mean difference of log losses that counts as none.
_LEVEL, _NONE = 0.01, 0.1


@cache
def _final(order: str, gamma: float) -> Array:
    """Final losses of a ReLU network on the pooled digits, by seed and step size."""
    images, labels = digits()
    x = avg_pool2d(images, 2).flatten(1)
    runs = _SEEDS * len(_STEP_SIZES)
    W = [_start(k).requires_grad_() for k in range(len(_WIDTHS) - 1)]
    lr = torch.tensor(_STEP_SIZES * _SEEDS, dtype=torch.float64)[:, None, None]
    states = [fismo.init(layer.detach()) for layer in W]
    draws = [np.random.default_rng((99, seed)) for seed in range(_SEEDS)]

    def loss(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        for k, layer in enumerate(W):
            x = (x.relu() if k else x) @ layer.mT
        return cross_entropy(x.flatten(0, 1), y.flatten(), reduction="none").reshape(runs, -1).mean(dim=1)

    for _ in range(_LENGTH):
        drawn = torch.from_numpy(np.stack([draw.integers(0, len(labels), 64) for draw in draws]))
        drawn = drawn.repeat_interleave(len(_STEP_SIZES), dim=0)
        gradients = torch.autograd.grad(loss(x[drawn], labels[drawn]).sum(), W)
        with torch.no_grad():
            for k, G in enumerate(gradients):
                update, states[k] = fismo.step(
                    G, states[k], beta=0.9, gamma=gamma, mu=_MU, order=order, factor_scaling="unit"
                )
                W[k] -= lr * update
    with torch.no_grad():
        final = loss(x.expand(runs, -1, -1), labels.expand(runs, -1))
    return final.reshape(_SEEDS, len(_STEP_SIZES)).numpy()


def _start(layer: int) -> torch.Tensor:
    """He's start of a layer for every seed, repeated for every step size."""
    wide, out = _WIDTHS[layer], _WIDTHS[layer + 1]
    drawn = [np.random.default_rng((seed, layer)).standard_normal((out, wide)) for seed in range(_SEEDS)]
    return torch.from_numpy(np.stack(drawn) * np.sqrt(2 / wide)).repeat_interleave(len(_STEP_SIZES), dim=0)


def sign_flip_p(differences: Array) -> float:
    """Exact two-sided p-value of a mean of paired differences: the share of all sign flips as far from 0.

    Parameters
    ----------
    differences : (n,) float64
        n at most about 20, since all ``2^n`` flips are tried.
    """
    signs = np.array(list(product((-1.0, 1.0), repeat=len(differences))))
    sums = np.abs(signs @ differences)
    observed = abs(float(differences.sum()))
    return float((sums >= observed * (1 - len(differences) * np.finfo(np.float64).eps)).mean())


@evidence(faults=("orders-exchanged", "same-order-twice"), scope="region", tier="full")
def final_loss(*, fault: str | None = None) -> Finding:
    """Final losses, each order at its best step size: Gauss-Seidel wins at gamma 0.5, neither at 0.95.

    Twelve paired seeds, 'unit' scaling (without it the factors stay at the identity), exact sign-flip test of
    the mean difference of log losses. Faults: the orders exchanged; one order compared with itself.
    """
    first, second = _ORDERS if fault != "orders-exchanged" else _ORDERS[::-1]
    if fault == "same-order-twice":
        second = first
    found: dict[float, tuple[float, float]] = {}
    means: dict[str, float] = {}
    for gamma in (0.5, 0.95):
        tuned = []
        for name, order in (("Gauss-Seidel", first), ("Jacobi", second)):
            losses = _final(order, gamma)
            tuned.append(losses[:, losses.mean(axis=0).argmin()])
            means[f"{name}, gamma {gamma}"] = float(tuned[-1].mean())
        difference = np.log(tuned[1]) - np.log(tuned[0])
        found[gamma] = (float(difference.mean()), sign_flip_p(difference))
    ratios: list[Ratio] = [
        at_least("advantage of Gauss-Seidel at gamma 0.5", found[0.5][0], _NONE, rounding=0.0),
        at_most("p at gamma 0.5", found[0.5][1], _LEVEL, rounding=0.0),
        at_most("size of the difference at gamma 0.95", abs(found[0.95][0]), _NONE, rounding=0.0),
    ]
    return Finding(
        tuple(ratios),
        f"{_SEEDS} paired seeds, mean log loss of Jacobi over Gauss-Seidel: "
        + ", ".join(f"{d:+.3f} at gamma {gamma} (p = {p:.2g})" for gamma, (d, p) in found.items())
        + "; losses "
        + ", ".join(f"{name} {value:.3f}" for name, value in means.items()),
        figures=means
        | {f"log ratio, gamma {gamma}": d for gamma, (d, _) in found.items()}
        | {f"p, gamma {gamma}": p for gamma, (_, p) in found.items()},
    )
