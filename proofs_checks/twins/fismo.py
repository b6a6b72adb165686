"""Twins of `reference.fismo`, with every combination of its options."""

from collections.abc import Iterator
from itertools import product

import numpy as np

import reference.fismo
import torch_impl.fismo
from proofs_checks.decision import ORDER_ONE, Array, Ratio
from proofs_checks.twins.case import (
    BETA,
    DETECTABLE,
    Precision,
    Twin,
    array,
    condition,
    distance,
    exact,
    gradients,
    label,
    spd_pair,
)
from proofs_checks.twins.polar import SCHEDULES, schedule_budget

__all__ = ["TWINS"]

#: Weight of the old factor and damping of every comparison; binary fractions, stored exactly.
GAMMA, MU = 0.5, 0.25

#: Every combination of the options.
OPTIONS: tuple[dict[str, str], ...] = tuple(
    {"damping": damping, "order": order, "factor_scaling": scaling}
    for damping, order, scaling in product(
        ("algorithm", "theorem"), ("gauss-seidel", "jacobi"), ("none", "unit")
    )
)


def _init(M: Array, p: Precision) -> Iterator[tuple[str, Ratio]]:
    P, Q = spd_pair(M, p)
    starts: tuple[dict[str, Array], ...] = ({}, {"P0": P, "Q0": Q, "M0": M})
    for start in starts:
        computed = torch_impl.fismo.init(p.tensor(M), **{k: p.tensor(x) for k, x in start.items()})
        expected = reference.fismo.init(M, **start)
        for name, got, want in zip("PQM", computed, expected, strict=True):
            yield f"{'given' if start else 'default'} {name}", exact("same start", got, want)


def _update_factors(M: Array, p: Precision) -> Iterator[tuple[str, Ratio]]:
    """Without data the reference keeps the factors and torch normalises them: no comparison."""
    if 0 in M.shape:
        return
    P, Q = spd_pair(M, p)
    for options in OPTIONS:
        computed = torch_impl.fismo.update_factors(
            p.tensor(M), p.tensor(P), p.tensor(Q), gamma=GAMMA, mu=MU, **options
        )
        expected = reference.fismo.update_factors(M, P, Q, gamma=GAMMA, mu=MU, **options)  # type: ignore[arg-type]
        for name, got, want in zip("PQ", computed, expected, strict=True):
            budget = _factor_error(P, Q, expected, p) * float(np.linalg.norm(want))
            yield label(options, name), distance("forward error", got, want, budget=budget)


def _factor_error(P: Array, Q: Array, new: tuple[Array, Array], p: Precision) -> float:
    """Relative error of new factors: P inverts Q, and Q inverts P, the old or the new one."""
    return (len(P) + len(Q)) * p.both * condition(Q) * max(condition(P), condition(new[0]))


def _whiten(M: Array, p: Precision) -> Iterator[tuple[str, Ratio]]:
    P, Q = spd_pair(M, p)
    computed = torch_impl.fismo.whiten(p.tensor(M), p.tensor(P), p.tensor(Q))
    error = sum(M.shape) * p.both * (condition(P) + condition(Q))
    budget = error * _root_size(P, Q) * float(np.linalg.norm(M))
    yield "", distance("forward error", computed, reference.fismo.whiten(M, P, Q), budget=budget)


def _root_size(P: Array, Q: Array) -> float:
    """``|P^(-1/2)|_2 |Q^(-1/2)|_2``."""
    smallest = [np.linalg.eigvalsh(X).min(initial=1.0) for X in (P, Q)]
    return float((smallest[0] * smallest[1]) ** -0.5)


def _step(M: Array, p: Precision) -> Iterator[tuple[str, Ratio]]:
    methods = [(options, "polar") for options in OPTIONS]
    methods += [(OPTIONS[0], name) for name in ("jordan", "polar-express")]
    state = torch_impl.fismo.init(p.tensor(M))
    for (options, method), G in zip(methods, gradients(M, p, len(methods)), strict=True):
        old = reference.fismo.FismoState(*(array(x) for x in state))
        chosen = {"beta": BETA, "gamma": GAMMA, "mu": MU, **options, "orthogonalize": method}
        computed, state = torch_impl.fismo.step(p.tensor(G), state, **chosen)  # type: ignore[arg-type]
        expected, new = reference.fismo.step(G, old, **chosen)  # type: ignore[arg-type]
        for part, ratio in _step_ratios(G, old, new, (array(computed), expected), state, method, p):
            yield label(options, method, part), ratio


def _step_ratios(
    G: Array,
    old: reference.fismo.FismoState,
    new: reference.fismo.FismoState,
    updates: tuple[Array, Array],
    state: torch_impl.fismo.FismoState,
    method: str,
    p: Precision,
) -> Iterator[tuple[str, Ratio]]:
    """State and update after one step, each with the error that its predecessors hand on.

    A relative error e of a factor moves its root by at most ``e kappa / 2``, hence whitening by the sum over
    both factors.
    """
    factors = _factor_error(old.P, old.Q, (new.P, new.Q), p)
    for name, got, want in (("P", state.P, new.P), ("Q", state.Q, new.Q)):
        yield name, distance("forward error", got, want, budget=factors * float(np.linalg.norm(want)))
    roots = factors * (condition(new.P) + condition(new.Q))
    size = _root_size(new.P, new.Q)
    average = (1 - BETA) * roots * size * float(np.linalg.norm(G)) + p.both * float(np.linalg.norm(old.M))
    yield "M", distance("forward error", state.M, new.M, budget=average)
    if not new.M.any():
        yield "update", exact("zero to zero", updates[0], np.zeros(G.shape))
        return
    direction = _direction_error(new.M, average, method, p)
    budget = size * (direction + roots * min(G.shape) ** 0.5)
    if budget <= DETECTABLE * float(np.linalg.norm(updates[1])):
        yield "update", distance("forward error", *updates, budget=budget)


def _direction_error(M: Array, error: float, method: str, p: Precision) -> float:
    """Error of the orthogonalised momentum, given the error of the momentum and the method's own."""
    if method == "polar":
        s = np.linalg.svd(M, compute_uv=False)
        roundoff = p.both * float(np.linalg.norm(M))
        return (error + roundoff) / float(s[-1]) if s[-1] > 0 else float("inf")
    polynomials, start = SCHEDULES[method]
    allowed = schedule_budget(M, polynomials, p.u, **start)
    own = 2 * allowed.total / ORDER_ONE  # of both twins; an explicit budget among those of O(1)
    return own + allowed.amplification * error / float(np.linalg.norm(M))


TWINS = (
    Twin("fismo.init", _init),
    Twin("fismo.update_factors", _update_factors),
    Twin("fismo.whiten", _whiten),
    Twin("fismo.step", _step),
)
