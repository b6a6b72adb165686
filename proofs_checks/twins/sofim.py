"""Twins of `reference.sofim`."""

from collections.abc import Iterator

import numpy as np

import reference.sofim
import torch_impl.sofim
from proofs_checks.decision import EXPLICIT_BUDGET, Array, Ratio
from proofs_checks.ratios import recursion, yes_no
from proofs_checks.twins.case import (
    BETA,
    Precision,
    Twin,
    array,
    condition,
    distance,
    exact,
    gradients,
    spd_pair,
)

__all__ = ["TWINS"]

#: Regularisation of every comparison; the paper's value.
RHO = 0.5

#: Steps of every run: enough for the bias correction to have changed.
STEPS = 3


def _vectors(M: Array, p: Precision) -> Iterator[tuple[str, Array]]:
    """Vectors below, near and above the norm ``sqrt(rho)`` at which SOFIM's step turns."""
    for exponent in (-6, 0, 4):
        yield f"2^{exponent}", p.rounded(np.ldexp(M.reshape(-1), exponent))


def _direction(M: Array, p: Precision) -> Iterator[tuple[str, Ratio]]:
    """``nu`` is a sum of d squares: each entry passes d + 4 roundings."""
    for label, m in _vectors(M, p):
        computed = array(torch_impl.sofim.direction(p.tensor(m), rho=RHO))
        expected = reference.sofim.direction(m, rho=RHO)
        yield label, recursion(computed, expected, np.abs(expected), operations=m.size + 4, u=p.u)


def _printed(M: Array, p: Precision, name: str) -> Iterator[tuple[str, Ratio]]:
    """The printed forms cancel, so the budget has the two terms by absolute value."""
    for label, m in _vectors(M, p):
        computed = array(getattr(torch_impl.sofim, name)(p.tensor(m), rho=RHO))
        expected = getattr(reference.sofim, name)(m, rho=RHO)
        s = float(np.square(m).sum()) / RHO
        terms = np.abs(m) / RHO * (1 + s / (1 + s))
        yield label, recursion(computed, expected, terms, operations=m.size + 9, u=p.u)


def _two_term(M: Array, p: Precision) -> Iterator[tuple[str, Ratio]]:
    yield from _printed(M, p, "two_term_direction")


def _bracket(M: Array, p: Precision) -> Iterator[tuple[str, Ratio]]:
    yield from _printed(M, p, "bracket_direction")


def _sherman_morrison(M: Array, p: Precision) -> Iterator[tuple[str, Ratio]]:
    """``A^-1 b - A^-1 u w / (1 + w')``: the terms by absolute value, the quotient by its own cancellation."""
    d = M.shape[0]
    if 0 in M.shape:
        return
    rng = np.random.default_rng(M.shape)
    u, b = p.rounded(M[:, 0].copy()), p.rounded(rng.uniform(-1.0, 1.0, M.shape[:1]))
    v = p.rounded(np.asarray(u / 2))  # v^T A^-1 u is positive: the formula itself is stable
    dense = spd_pair(M, p)[0]
    for label, A in (("scalar", RHO), ("diagonal", np.diag(dense).copy()), ("dense", dense)):
        full = A * np.eye(d) if isinstance(A, float) else np.diag(A) if A.ndim == 1 else A
        given = A if isinstance(A, float) else p.tensor(A)
        computed = torch_impl.sofim.sherman_morrison_solve(given, p.tensor(u), p.tensor(v), p.tensor(b))
        expected = reference.sofim.sherman_morrison_solve(A, u, v, b)
        inverse = float(np.linalg.norm(np.linalg.inv(full), 2))
        growth = 1 + inverse * float(np.linalg.norm(u) * np.linalg.norm(v))
        budget = d * p.both * condition(full) * growth * inverse * float(np.linalg.norm(b))
        yield label, distance("forward error", computed, expected, budget=budget)


def _init(M: Array, p: Precision) -> Iterator[tuple[str, Ratio]]:
    w = M.reshape(-1)
    computed, expected = torch_impl.sofim.init(p.tensor(w)), reference.sofim.init(w)
    yield "M", exact("same start", computed.M, expected.M)
    yield "t", yes_no("same count", computed.t == expected.t)


def _step(M: Array, p: Precision) -> Iterator[tuple[str, Ratio]]:
    """A relative error e of the momentum's norm moves the direction by at most 3 e of its size."""
    state = torch_impl.sofim.init(p.tensor(M.reshape(-1)))
    for t, G in enumerate(gradients(M, p, STEPS), start=1):
        g = G.reshape(-1)
        old = reference.sofim.SofimState(array(state.M), state.t)
        computed, state = torch_impl.sofim.step(p.tensor(g), state, beta=BETA, rho=RHO)
        expected, new = reference.sofim.step(g, old, beta=BETA, rho=RHO)
        terms = BETA * np.abs(old.M) + (1 - BETA) * np.abs(g)
        yield f"step {t}, M", recursion(array(state.M), new.M, terms, operations=3, u=p.u)
        yield f"step {t}, t", yes_no("same count", state.t == new.t)
        m = new.M / (1 - BETA**t)
        slope = 3 / (RHO + float(np.square(m).sum()))
        size = float(np.linalg.norm(terms)) / (1 - BETA**t)
        budget = (g.size + 8) * p.both * slope * size
        yield (
            f"step {t}, update",
            distance("forward error", computed, expected, budget=budget, threshold=EXPLICIT_BUDGET),
        )


TWINS = (
    Twin("sofim.sherman_morrison_solve", _sherman_morrison),
    Twin("sofim.two_term_direction", _two_term),
    Twin("sofim.bracket_direction", _bracket),
    Twin("sofim.direction", _direction),
    Twin("sofim.init", _init),
    Twin("sofim.step", _step),
)
