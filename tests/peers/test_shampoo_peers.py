"""Shampoo against pytorch-optimizer, step by step, for every order of tensor it handles."""

import numpy as np
import pytest

from proofs_checks.reproduction.comparators import STEPS, gradients, torch_path
from reference import shampoo
from tests.peers.extra import peer
from tests.reference.cases import check, condition, distance, formula_budget, size

#: A budget above this part of the parameters would not see a wrong exponent or start.
DETECT = 1e-5

#: Shapes with starts. A small start needs gradients that fill the factors, or conditioning hides everything.
CASES = [
    *((shape, 0.1) for shape in ((4,), (3, 5), (5, 3), (1, 4), (2, 3, 4), (2, 2, 3, 2))),
    *((shape, 1e-6) for shape in ((3, 5), (5, 3), (4, 4), (2, 3, 4), (2, 2, 3, 2))),
]


def paths(W, G, *, epsilon, lr, **options):
    """The package's parameters, ours, and the budget of their distance, after each step."""
    optimizer = peer("pytorch_optimizer").Shampoo
    decay, order = options.get("weight_decay", 0.0), W.ndim
    theirs = torch_path(optimizer, W, G, lr=lr, matrix_eps=epsilon, weight_decouple=True, **options)
    state, budget = shampoo.init(W, epsilon=epsilon, order=order), formula_budget(size(W), STEPS)
    for g, expected in zip(G, theirs, strict=True):
        update, state = shampoo.step(g, state, exponent=-1 / (2 * order), weight_decay=decay, W=W)
        W = W - lr * update
        # an error of a power is relative to the power's norm: that of the least eigenvalue
        norms = [np.linalg.eigvalsh(X)[0] ** (-1 / (2 * order)) for X in state.factors]
        conditions = [condition(X) for X in state.factors]
        moved = formula_budget(size(g) * np.prod(norms), max(W.shape), *conditions, formulas=order)
        budget += 2 * lr * moved
        yield expected, W, budget


@pytest.mark.parametrize(("shape", "epsilon"), CASES)
def test_the_package_takes_the_same_path(shape, epsilon):
    for theirs, ours, budget in paths(*gradients(shape, seed=8), epsilon=epsilon, lr=0.1):
        assert budget <= DETECT * size(ours)
        check(distance("W", theirs, ours, budget=budget))


@pytest.mark.parametrize("shape", [(3, 5), (4, 4)])
def test_the_package_decays_weights_as_we_do_when_asked_to(shape):
    W, G = gradients(shape, seed=9, steps=4)
    for theirs, ours, budget in paths(W, G, epsilon=0.1, lr=0.1, weight_decay=0.2):
        assert budget <= DETECT * size(ours)
        check(distance("W", theirs, ours, budget=budget))
