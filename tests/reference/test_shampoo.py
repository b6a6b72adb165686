"""Shampoo against dense powers, and what it does not depend on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs_checks.ratios import inverse_root
from reference.kronecker import inverse_sqrt
from reference.shampoo import ShampooState, init, step
from tests.reference.cases import (
    U64,
    check,
    condition,
    distance,
    formula_budget,
    frozen,
    orthogonal,
    size,
)
from tests.strategies import seeds

FOURTH = 4


@given(seeds, st.integers(1, 5), st.integers(1, 5), st.integers(1, 4))
def test_the_factors_are_sums_from_epsilon_and_the_step_has_quarter_powers(seed, m, n, steps):
    G = np.random.default_rng(seed).standard_normal((steps, m, n))
    state = init((m, n), epsilon=0.5)
    for g in G:
        update, state = step(frozen(g), state)
    L, R = state.factors
    rounding = 8 * steps * max(m, n) * U64 * (size(G) ** 2 + m + n)
    check(
        distance("L", L, 0.5 * np.eye(m) + np.einsum("tij,tkj->ik", G, G), budget=rounding),
        distance("R", R, 0.5 * np.eye(n) + np.einsum("tij,til->jl", G, G), budget=rounding),
    )
    A, C = inverse_sqrt(inverse_sqrt(L)), inverse_sqrt(inverse_sqrt(R))  # L^(1/4)
    budget = formula_budget(size(G[-1]), max(m, n), condition(L), condition(R), formulas=2)
    check(distance("L^(1/4) update R^(1/4)", A @ update @ C, G[-1], budget=2 * budget))


@given(seeds, st.integers(1, 5), st.floats(-1.0, 6.0))
def test_the_power_of_a_factor_is_its_inverse_root(seed, m, decades):
    """The gradient of one row and m columns of a hidden spectrum: the step shows the matrix power."""
    rng = np.random.default_rng(seed)
    V = orthogonal(rng, m, m)
    H = (V * np.logspace(0, -decades, m)) @ V.T
    H = 0.5 * (H + H.T)
    columns = []
    for j in range(m):  # a tiny gradient leaves the factor as it is
        G = 2.0**-600 * np.eye(m)[:, j : j + 1]
        update, state = step(G, ShampooState((H, np.eye(1))))
        assert np.array_equal(state.factors[0], H)
        columns.append(2.0**600 * update[:, 0])
    X = np.array(columns).T
    check(inverse_root(0.5 * (X + X.T), H, p=FOURTH, u=U64))


def test_one_step_by_hand():
    G = np.diag([3.0, 0.0])  # L = R = diag(16, 7), so that the step is 3 / 16^(1/2)
    update, state = step(G, init((2, 2), epsilon=7.0))
    assert np.array_equal(state.factors[0], np.diag([16.0, 7.0]))
    check(distance("update", update, np.diag([0.75, 0.0]), budget=formula_budget(1.0, 2, 16 / 7)))
    half, _ = step(G, init((2, 2), epsilon=7.0), exponent=-1 / 2)
    check(distance("power 1/2", half, np.diag([3 / 16, 0.0]), budget=formula_budget(1.0, 2, 16 / 7)))


@given(seeds, st.integers(1, 4), st.integers(1, 4))
def test_rotating_the_gradients_rotates_the_steps(seed, m, n):
    rng = np.random.default_rng(seed)
    G, U, V = rng.standard_normal((3, m, n)), orthogonal(rng, m, m), orthogonal(rng, n, n)
    plain, rotated = init((m, n), epsilon=0.1), init((m, n), epsilon=0.1)
    for g in G:
        update, plain = step(g, plain)
        turned, rotated = step(U @ g @ V.T, rotated)
    budget = formula_budget(
        size(update), max(m, n), *(condition(X) for X in plain.factors), formulas=2 * len(G)
    )
    check(distance("U step V^T", turned, U @ update @ V.T, budget=budget))


@given(seeds, st.sampled_from([2.0**-300, 2.0**-8, 2.0**300]))
def test_a_common_scale_of_gradients_and_root_epsilon_drops_out(seed, scale):
    G = np.random.default_rng(seed).standard_normal((3, 2, 4))
    ends = []
    for factor in (1.0, scale):
        state = init((2, 4), epsilon=0.5 * factor**2)
        for g in G:
            update, state = step(factor * g, state)
        ends.append(update)
    budget = formula_budget(size(ends[0]), 4, *(condition(X) for X in state.factors), formulas=2)
    check(distance("update", ends[1], ends[0], budget=budget))


@given(seeds)
def test_a_vector_is_full_matrix_adagrad(seed):
    G = np.random.default_rng(seed).standard_normal((4, 3))
    state = init((3,), epsilon=0.25, order=1)
    for g in G:
        update, state = step(g, state, exponent=-1 / 2)
    H = 0.25 * np.eye(3) + G.T @ G
    budget = formula_budget(size(update), 3, condition(H), formulas=2)
    check(distance("update", update, inverse_sqrt(0.5 * (H + H.T)) @ G[-1], budget=budget))


@given(seeds)
def test_a_tensor_has_one_factor_per_axis(seed):
    rng = np.random.default_rng(seed)
    G = rng.standard_normal((2, 3, 4))
    update, state = step(G, init(G.shape, epsilon=0.5, order=3), exponent=-1 / 6)
    unfoldings = (
        np.einsum("ijk,ljk->il", G, G),
        np.einsum("ijk,ilk->jl", G, G),
        np.einsum("ijk,ijl->kl", G, G),
    )
    want = G
    for axis, (H, found) in enumerate(zip(unfoldings, state.factors, strict=True)):
        H = H + 0.5 * np.eye(len(H))
        check(distance(f"H_{axis}", found, H, budget=64 * U64 * size(G) ** 2))
        w, V = np.linalg.eigh(H)
        want = np.moveaxis(np.tensordot((V * w ** (-1 / 6)) @ V.T, want, axes=(1, axis)), 0, axis)
    budget = formula_budget(size(want), 4, *(condition(H) for H in state.factors), formulas=3)
    check(distance("update", update, want, budget=budget))


@given(seeds)
def test_a_matrix_is_a_tensor_with_an_axis_of_one(seed):
    G = np.random.default_rng(seed).standard_normal((3, 4))
    matrix, _ = step(G, init(G.shape, epsilon=0.5))
    tensor, _ = step(G[:, None, :], init((3, 1, 4), epsilon=0.5, order=3))
    scalar = (0.5 + size(G) ** 2) ** -0.25  # the factor of the axis of one
    check(distance("update", tensor[:, 0], matrix * scalar, budget=formula_budget(1.0, 4, 100.0)))


def test_a_batch_is_a_loop_of_singles():
    G = np.random.default_rng(5).standard_normal((3, 2, 4, 3))
    together, alone = init((2, 4, 3), epsilon=0.1), [init((4, 3), epsilon=0.1) for _ in range(2)]
    for g in G:
        update, together = step(g, together)
        pairs = [step(g[i], alone[i]) for i in range(2)]
        alone = [state for _, state in pairs]
    budget = formula_budget(size(update), 4, *(condition(X) for X in together.factors), formulas=3)
    check(distance("batch", update, np.stack([u for u, _ in pairs]), budget=budget))


@given(seeds, st.floats(0.0, 1.0))
def test_weight_decay_is_added_to_the_update(seed, weight_decay):
    G, W = (frozen(X) for X in np.random.default_rng(seed).standard_normal((2, 3, 4)))
    plain, _ = step(G, init(G, epsilon=0.1))
    decayed, _ = step(G, init(G, epsilon=0.1), weight_decay=weight_decay, W=W)
    assert np.array_equal(decayed, plain + weight_decay * W)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (2, 0, 3), (2, 3)])
def test_empty_and_zero(shape):
    update, state = step(np.zeros(shape), init(shape))
    assert update.shape == shape
    assert not update.any()
    assert [X.shape[-1] for X in state.factors] == list(shape[-2:])
    assert all(np.array_equal(X, Y) for X, Y in zip(state.factors, init(shape).factors, strict=True))


def test_nothing_is_modified_or_shared():
    state = ShampooState((frozen(np.eye(2)), frozen(np.eye(3))))
    _, after = step(frozen(np.zeros((2, 3))), state)
    assert not any(np.shares_memory(X, Y) for X, Y in zip(after.factors, state.factors, strict=True))


G_ = np.ones((2, 3))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: init((3,)), ValueError, "W must have at least 2 axes"),
        (lambda: init((3, 3), order=0), ValueError, "order must be at least 1"),
        (lambda: init((3, 3), epsilon=0.0), ValueError, "epsilon must be above 0"),
        (lambda: step(G_.T, init(G_)), ValueError, r"state.factors\[0\] must have shape \(3, 3\)"),
        (lambda: step(G_[0], init(G_)), ValueError, r"G must be float64 of shape \(..., d_1, d_2\)"),
        (lambda: step(G_ * np.nan, init(G_)), ValueError, "G must be finite"),
        (lambda: step(G_ * 1e200, init(G_)), ValueError, "G must have a square in range"),
        (lambda: step(G_ * 1e20, init(G_)), ValueError, r"state.factors\[0\] must be positive definite"),
        (lambda: step(G_, init(G_), exponent=0.25), ValueError, "exponent must be below 0"),
        (lambda: step(G_, init(G_), weight_decay=-0.1), ValueError, "weight_decay must be at least 0"),
        (lambda: step(G_, init(G_), weight_decay=0.1), ValueError, "W must be given when weight_decay"),
        (lambda: step(G_, ShampooState((np.eye(2), np.ones(3)))), ValueError, r"state.factors\[1\] must"),
    ],
)
def test_a_bad_argument_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
