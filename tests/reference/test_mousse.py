"""Mousse: the refresh, the graft, and what the step is without it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs_checks.ratios import inequality, inverse_root
from reference import muon
from reference.kronecker import fisher_lmo
from reference.mousse import MousseState, init, step, whitening
from reference.polar import nuclear_norm, polar_factor
from tests.reference.cases import (
    U64,
    check,
    condition,
    distance,
    formula_budget,
    frozen,
    orthogonal,
    size,
    spd,
)
from tests.strategies import seeds


@given(seeds, st.integers(1, 5), st.floats(0.0, 3.0), st.sampled_from([1, 2, 4, 8]))
def test_the_whitening_matrix_is_an_inverse_root_of_the_scaled_average(seed, k, decades, p):
    L = spd(np.random.default_rng(seed), k, decades)
    epsilon = 1e-3
    L_bar = k / (np.trace(L) + epsilon) * L + epsilon * np.eye(k)
    check(inverse_root(whitening(L, alpha=1 / p, epsilon=epsilon), L_bar, p=p, u=U64))


@given(seeds, st.sampled_from([2.0**-300, 2.0**-20, 2.0**300]))
def test_the_scale_of_the_average_drops_out_where_epsilon_is_small_against_it(seed, scale):
    L = spd(np.random.default_rng(seed), 4, 2.0)
    epsilon = 1e-5
    A, B = whitening(L, alpha=0.25, epsilon=epsilon), whitening(scale * L, alpha=0.25, epsilon=epsilon)
    if scale > 1:  # tr(L) + epsilon against tr(L) moves L_bar by epsilon / tr(L), its power by a quarter
        shift = epsilon / np.trace(L)
        check(
            distance("A", B, A, budget=shift * size(A) + formula_budget(size(A), 4, condition(L), formulas=2))
        )
    else:  # L_bar is tr(L) / epsilon at most, and the identity wins
        check(inequality(size(B - epsilon**-0.25 * np.eye(4)), 2 * scale * size(L) / epsilon**2 * size(B),
                         rounding=formula_budget(size(B), 4)))  # fmt: skip


@given(seeds, st.integers(1, 4), st.integers(1, 4), st.sampled_from([0.125, 0.25, 0.5]))
@pytest.mark.claim("MOUSSE-lmo")
def test_without_the_graft_the_step_is_fismos_with_powers_of_l(seed, m, n, alpha):
    rng = np.random.default_rng(seed)
    G, M = rng.standard_normal((2, m, n))
    L, R = spd(rng, m, 1.0), spd(rng, n, 1.0)
    state = MousseState(M, L, R, np.eye(m), np.eye(n), 0)
    update, new = step(G, state, alpha=alpha, epsilon=0.01, graft=False, orthogonalize="polar")
    P, Q = (
        np.linalg.matrix_power(np.linalg.inv(X), 2) for X in (new.A, new.C)
    )  # L^(2 alpha) of the damped, scaled averages
    P, Q = 0.5 * (P + P.T), 0.5 * (Q + Q.T)
    whitened = new.A @ new.M @ new.C
    conditions = condition(P) * condition(Q) * condition(whitened)
    budget = formula_budget(size(update), max(m, n), conditions, formulas=4)
    check(distance("LMO", -update, fisher_lmo(new.M, P, Q), budget=budget))
    value = np.sum(new.M * update)
    check(
        distance("value", value, nuclear_norm(whitened), budget=formula_budget(value, max(m, n), conditions))
    )


@given(seeds, st.integers(1, 4), st.integers(1, 4), st.sampled_from(["polar", "jordan"]))
def test_the_graft_gives_the_step_the_norm_of_the_orthogonalised_matrix(seed, m, n, method):
    G = np.random.default_rng(seed).standard_normal((m, n))
    grafted, state = step(G, init(G), epsilon=0.1, orthogonalize=method)
    plain, _ = step(G, init(G), epsilon=0.1, orthogonalize=method, graft=False)
    whitened = state.A @ state.M @ state.C
    seen = []
    step(G, init(G), epsilon=0.1, orthogonalize=lambda X: seen.append(X) or polar_factor(X))
    check(distance("what is orthogonalised", seen[0], whitened, budget=formula_budget(size(whitened), 4)))
    ratio = size(grafted) / size(plain)
    check(
        distance("direction", grafted, ratio * plain, budget=formula_budget(size(grafted), 4)),
    )
    if method == "polar":
        check(distance("norm", size(grafted), min(m, n) ** 0.5, budget=formula_budget(2.0, 4)))


def test_the_first_step_by_hand():
    G = np.diag([3.0, 1.0])  # L = R = 0.05 diag(9, 1), L_bar = 2 L / (tr L + epsilon)
    epsilon, alpha = 0.5, 0.5
    update, state = step(G, init(G), epsilon=epsilon, alpha=alpha, graft=False, orthogonalize="polar")
    L_bar = 2 * np.array([0.45, 0.05]) / (0.5 + epsilon)  # 0.9, 0.1
    check(
        distance("A", state.A, np.diag(1 / np.sqrt(L_bar + epsilon)), budget=formula_budget(2.0, 2)),
        distance("update", update, np.diag(1 / (L_bar + epsilon)), budget=formula_budget(2.0, 2, 3.0)),
    )
    assert np.array_equal(state.M, G)


@given(seeds, st.integers(1, 4))
def test_the_whitening_is_refreshed_once_per_period(seed, period):
    G = np.random.default_rng(seed).standard_normal((9, 3, 2))
    state, fresh = init((3, 2)), []
    for g in G:
        before = state
        _, state = step(g, state, period=period)
        fresh.append(not np.array_equal(before.A, state.A))
        wanted = whitening(state.L, alpha=0.125, epsilon=1e-5) if fresh[-1] else before.A
        check(distance("A", state.A, wanted, budget=formula_budget(size(wanted), 3)))
    assert fresh == [t % period == 0 for t in range(len(G))]


@given(seeds, st.floats(0.0, 0.95), st.floats(0.0, 0.95))
def test_momentum_is_a_sum_and_the_grams_are_averages(seed, beta, beta_pc):
    rng = np.random.default_rng(seed)
    G, M = (frozen(X) for X in rng.standard_normal((2, 3, 4)))
    state = MousseState(M, spd(rng, 3, 1.0), spd(rng, 4, 1.0), np.eye(3), np.eye(4), 1)
    _, new = step(G, state, beta=beta, beta_pc=beta_pc)
    budget = 16 * U64 * (size(G) ** 2 + size(M) + 4)
    check(
        distance("M", new.M, beta * M + G, budget=budget),
        distance("L", new.L, beta_pc * state.L + (1 - beta_pc) * G @ G.T, budget=budget),
        distance("R", new.R, beta_pc * state.R + (1 - beta_pc) * G.T @ G, budget=budget),
    )
    assert new.t == 2


def test_large_epsilon_gives_muon():
    """The damped averages are multiples of the identity, and the graft removes the multiple."""
    G = np.random.default_rng(7).standard_normal((4, 3, 5))
    state, plain = init((3, 5)), muon.init((3, 5))
    epsilon = 2.0**60
    for g in G:
        update, state = step(g, state, epsilon=epsilon, orthogonalize="polar")
        want, plain = muon.step(g, plain, momentum="sum", nesterov=False, scale="none", orthogonalize="polar")
    budget = formula_budget(size(want), 5, condition(plain.V), formulas=2)
    check(distance("update", update, want, budget=budget + 8 * size(want) / epsilon))


@given(seeds, st.integers(2, 4), st.integers(2, 4))
def test_rotating_the_gradients_rotates_the_steps(seed, m, n):
    rng = np.random.default_rng(seed)
    G, U, V = rng.standard_normal((3, m, n)), orthogonal(rng, m, m), orthogonal(rng, n, n)
    plain, rotated = init((m, n)), init((m, n))
    for g in G:
        update, plain = step(g, plain, epsilon=0.1, orthogonalize="polar")
        turned, rotated = step(U @ g @ V.T, rotated, epsilon=0.1, orthogonalize="polar")
    conditions = condition(plain.A) * condition(plain.C) * condition(plain.M)
    budget = formula_budget(size(update), max(m, n), conditions**2, formulas=6)
    check(distance("U step V^T", turned, U @ update @ V.T, budget=budget))


def test_a_batch_is_a_loop_of_singles():
    G = np.random.default_rng(5).standard_normal((3, 2, 4, 3))
    together, alone = init((2, 4, 3)), [init((4, 3)), init((4, 3))]
    for g in G:
        update, together = step(g, together, epsilon=0.1, orthogonalize="polar")
        pairs = [step(g[i], alone[i], epsilon=0.1, orthogonalize="polar") for i in range(2)]
        alone = [state for _, state in pairs]
    conditions = condition(together.A) * condition(together.C) * condition(together.M)
    budget = formula_budget(size(update), 4, conditions, formulas=6)
    check(distance("batch", update, np.stack([u for u, _ in pairs]), budget=budget))


@given(seeds, st.floats(0.0, 1.0))
def test_weight_decay_is_added_to_the_update(seed, weight_decay):
    G, W = (frozen(X) for X in np.random.default_rng(seed).standard_normal((2, 3, 4)))
    plain, _ = step(G, init(G))
    decayed, _ = step(G, init(G), weight_decay=weight_decay, W=W)
    assert np.array_equal(decayed, plain + weight_decay * W)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (2, 0, 3), (2, 3), (1, 4)])
@pytest.mark.parametrize("graft", [True, False])
def test_empty_and_zero(shape, graft):
    update, state = step(np.zeros(shape), init(shape), graft=graft)
    update, state = step(np.zeros(shape), state, graft=graft)
    assert update.shape == state.M.shape == shape
    assert not update.any()


@pytest.mark.parametrize("t", [0, 1])
def test_nothing_is_modified_or_shared(t):
    arrays = [frozen(X) for X in (np.ones((2, 3)), np.eye(2), np.eye(3), np.eye(2), np.eye(3))]
    _, after = step(frozen(np.ones((2, 3))), MousseState(*arrays, t), beta_pc=0.0)
    assert not any(np.shares_memory(X, Y) for X, Y in zip(after[:5], arrays, strict=True))


G_ = np.ones((2, 3))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: init((3,)), ValueError, "W must have at least 2 axes"),
        (lambda: whitening(np.eye(2), alpha=0.0, epsilon=1.0), ValueError, "alpha must be above 0"),
        (lambda: whitening(np.eye(2), alpha=1.0, epsilon=0.0), ValueError, "epsilon must be above 0"),
        (lambda: whitening(np.ones((2, 3)), alpha=1.0, epsilon=1.0), ValueError, "L must be square"),
        (lambda: whitening(-np.eye(2), alpha=1.0, epsilon=0.1), ValueError, "L must be positive definite"),
        (lambda: step(G_.T, init(G_)), ValueError, r"G must have shape \(2, 3\)"),
        (lambda: step(G_ * np.nan, init(G_)), ValueError, "G must be finite"),
        (lambda: step(G_ * 1e200, init(G_)), ValueError, "G must have a square in range"),
        (lambda: step(G_, init(G_), beta=1.0), ValueError, r"beta must be in \[0, 1\)"),
        (lambda: step(G_, init(G_), beta_pc=1.0), ValueError, r"beta_pc must be in \[0, 1\)"),
        (lambda: step(G_, init(G_), period=0), ValueError, "period must be at least 1"),
        (lambda: step(G_, init(G_), orthogonalize="qr"), ValueError, "orthogonalize must be one of"),
        (lambda: step(G_, init(G_), weight_decay=0.1), ValueError, "W must be given when weight_decay"),
        (lambda: step(G_, init(G_)._replace(L=np.eye(3))), ValueError, r"state.L must have shape \(2, 2\)"),
    ],
)
def test_a_bad_argument_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
