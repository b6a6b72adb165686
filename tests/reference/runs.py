"""Short FISMO runs: option sets, gradients to draw, and the rounding a run may collect."""

from itertools import product

import numpy as np
from hypothesis import strategies as st

from reference.fismo import FismoState, init, step
from tests.reference.cases import (
    condition,
    formula_budget,
    frozen,
    orthogonal,
)
from tests.strategies import seeds

DAMPINGS, ORDERS, SCALINGS = ("algorithm", "theorem"), ("gauss-seidel", "jacobi"), ("none", "unit")
VARIANTS = [
    {"damping": d, "order": o, "factor_scaling": s} for d, o, s in product(DAMPINGS, ORDERS, SCALINGS)
]
DEFAULT = {"damping": "algorithm", "order": "gauss-seidel", "factor_scaling": "none"}


def run(gradients, *, start: FismoState | None = None, **options) -> tuple[list[np.ndarray], FismoState]:
    """Updates along a run, and the last state."""
    state = init(gradients[0]) if start is None else start
    updates = []
    for G in gradients:
        update, state = step(G, state, **options)
        updates.append(update)
    return updates, state


@st.composite
def gradients(draw, *, max_side: int = 5, steps: int = 3):
    """A few gradients of full rank and moderate condition, read-only."""
    m, n = draw(st.integers(1, max_side)), draw(st.integers(1, max_side))
    rng = np.random.default_rng(draw(seeds))
    scale = 10.0 ** draw(st.floats(-2.0, 1.0))
    bases = (orthogonal(rng, m, min(m, n)), orthogonal(rng, n, min(m, n)))
    first = (bases[0] * np.logspace(0, -1, min(m, n))) @ bases[1].T
    rest = rng.standard_normal((steps - 1, m, n))
    return [frozen(scale * G) for G in (first, *rest)], rng


def run_budget(updates: list[np.ndarray], state: FismoState, steps: int) -> float:
    """Rounding of a few steps: each inverts P and Q, and Polar amplifies by the condition of M.

    A step's rounding enters the next one's factors and momentum; to first order they add.
    """
    inverted = condition(state.P) * condition(state.Q) * condition(state.M)
    size = max(float(np.linalg.norm(update)) for update in updates)
    return formula_budget(size, max(state.M.shape), inverted, formulas=steps**2)
