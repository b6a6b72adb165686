"""Twins of `reference.muon`."""

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

import reference.muon
import torch_impl.muon
from proofs_checks.decision import EXPLICIT_BUDGET, Array, Ratio
from proofs_checks.ratios import recursion
from proofs_checks.twins.case import BETA, Precision, Twin, array, distance, exact, gradients, label
from proofs_checks.twins.polar import SCHEDULES, schedule_budget

__all__ = ["TWINS"]


#: Options of the steps of a run: both kinds of momentum with and without look-ahead, then each other option.
OPTIONS: tuple[dict[str, Any], ...] = (
    *(
        {"nesterov": nesterov, "momentum": momentum}
        for nesterov, momentum in product((True, False), ("ema", "sum"))
    ),
    {"scale": "match_rms_adamw"},
    {"scale": "none"},
    {"orthogonalize": "polar-express"},
    {"weight_decay": 0.125},
)


def _init(M: Array, p: Precision) -> Iterator[tuple[str, Ratio]]:
    yield "V", exact("same start", torch_impl.muon.init(p.tensor(M)).V, reference.muon.init(M).V)


def _step(M: Array, p: Precision) -> Iterator[tuple[str, Ratio]]:
    W = p.rounded(np.random.default_rng(M.shape).uniform(-1.0, 1.0, M.shape))
    state = torch_impl.muon.init(p.tensor(M))
    for options, G in zip(OPTIONS, gradients(M, p, len(OPTIONS)), strict=True):
        old = reference.muon.MuonState(array(state.V))
        computed, state = torch_impl.muon.step(p.tensor(G), state, beta=BETA, W=p.tensor(W), **options)
        expected, new = reference.muon.step(G, old, beta=BETA, W=W, **options)
        terms = np.abs(old.V) + np.abs(G)
        yield label(options, "V"), recursion(array(state.V), new.V, terms, operations=3, u=p.u)
        budget = _update_budget(G, W, new.V, terms, options, p)
        yield (
            label(options, "update"),
            distance("forward error", computed, expected, budget=budget, threshold=EXPLICIT_BUDGET),
        )


def _update_budget(
    G: Array, W: Array, V: Array, terms: Array, options: dict[str, Any], p: Precision
) -> float:
    """Budget of the iteration at what is orthogonalised, plus what the rounded momentum grows to."""
    ahead = V
    if options.get("nesterov", True):
        ahead = G + BETA * (V - G) if options.get("momentum", "ema") == "ema" else G + BETA * V
    polynomials, start = SCHEDULES[options.get("orthogonalize", "jordan")]
    allowed = schedule_budget(ahead, polynomials, p.u, **start)
    size = float(np.linalg.norm(ahead))
    handed_on = MOMENTUM_ROUNDINGS * p.both * float(np.linalg.norm(terms + np.abs(G)))
    direction = 2 * allowed.total + (allowed.amplification * handed_on / size if size else 0.0)
    m, n = G.shape
    a = max(1.0, m / max(n, 1), 0.2 * max(m, n) ** 0.5)
    decay = options.get("weight_decay", 0.0) * float(np.linalg.norm(W))
    norm = float(np.linalg.norm(allowed.exact))
    return a * direction + SCALE_ROUNDINGS * p.both * (a * norm + decay)


#: Roundings of an entry of the momentum and of the look-ahead: three products, three sums, the input stored.
MOMENTUM_ROUNDINGS = 7

#: Roundings of ``a U + weight_decay W`` after U: two products, one sum, the scale a stored.
SCALE_ROUNDINGS = 4

TWINS = (Twin("muon.init", _init), Twin("muon.step", _step))
