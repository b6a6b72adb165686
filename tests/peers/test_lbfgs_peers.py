"""L-BFGS against ``torch.optim.LBFGS``, step by step (written for torch 2.13; always runs)."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs_checks.reproduction.lbfgs import MEMORY, displacement, quadratic, torch_run, waves
from reference.lbfgs import init, step
from tests.reference.cases import check, distance, formula_budget, size
from tests.strategies import seeds


@pytest.mark.claim("CMP-lbfgs-torch")
@pytest.mark.parametrize("function", [quadratic, waves])
@given(seed=seeds, d=st.integers(1, 6), lr=st.sampled_from([1.0, 0.3]))
def test_every_step_is_torchs(function, seed, d, lr):
    """Same pairs kept, bit for bit; same displacement up to the order of summation."""
    rng = np.random.default_rng(seed)
    for before, g, after in torch_run(function(rng, d), 2 * rng.standard_normal(d), lr=lr, steps=10):
        update, state = step(g, before, lr=lr)
        assert np.array_equal(state.S, after.S)
        assert np.array_equal(state.Y, after.Y)
        assert np.array_equal(state.g, after.g)
        assert np.array_equal(state.s, -lr * update)
        check(displacement("displacement", state.s, after))


def test_the_functions_keep_and_refuse_pairs():
    """The comparison would be empty if no pair were ever refused."""
    rng = np.random.default_rng(1)
    states = [after for *_, after in torch_run(waves(rng, 3), 2 * rng.standard_normal(3), lr=1.0, steps=12)]
    count = [int(state.S.any(axis=-1).sum()) for state in states]
    assert max(count) == MEMORY
    assert any(np.array_equal(a.S, b.S) and b.S.any() for a, b in pairwise(states))


@pytest.mark.claim("CMP-lbfgs-torch")
def test_a_whole_run_ends_where_torchs_ends():
    """Both see torch's gradients, but each makes its own pairs from its own displacements."""
    rng = np.random.default_rng(2)
    f, start = quadratic(rng, 4), rng.standard_normal(4)
    state, ours, theirs = init((4,), memory=MEMORY), start.copy(), start.copy()
    for _, g, after in torch_run(f, start, lr=0.5, steps=8):
        update, state = step(g, state, lr=0.5)
        ours, theirs = ours - 0.5 * update, theirs + after.s
        S, Y = (X[X.any(axis=-1)] for X in (after.S, after.Y))
        angles = np.linalg.norm(S, axis=-1) * np.linalg.norm(Y, axis=-1) / (S * Y).sum(axis=-1)
    budget = formula_budget(size(start), 4, float(np.prod((1 + angles) ** 2)), formulas=8 * (2 * MEMORY + 1))
    check(distance("end", ours, theirs, budget=budget))


def test_a_gradient_of_zero_leaves_torch_and_us_where_we_are():
    assert not list(torch_run(quadratic(np.random.default_rng(3), 3), np.zeros(3), lr=1.0, steps=2))
    update, state = step(np.zeros(3), init((3,)))
    assert not update.any()
    assert not any(part.any() for part in state)
