"""DyKAF: the update of the factors against the rearranged matrix, and the step in their bases."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs_checks.ratios import inequality, orthogonality
from reference import adamw, kronecker
from reference.dykaf import (
    DykafState,
    init,
    nearest_kronecker,
    rearrangement,
    refresh_basis,
    stationary_factors,
    step,
    update_factors,
)
from tests.reference.cases import (
    U64,
    check,
    condition,
    distance,
    formula_budget,
    frozen,
    kronecker_samples,
    orthogonal,
    size,
    spd,
)
from tests.strategies import seeds


def case(seed, m, n):
    rng = np.random.default_rng(seed)
    return frozen(rng.standard_normal((m, n))), spd(rng, m, 2.0), spd(rng, n, 2.0), rng


@given(seeds, st.integers(1, 4), st.integers(1, 4))
def test_the_rearrangement_turns_kronecker_products_into_rank_one(seed, m, n):
    G, L, R, _ = case(seed, m, n)
    assert np.array_equal(rearrangement(np.kron(L, R), m=m, n=n), np.outer(L.reshape(-1), R.reshape(-1)))
    g = G.reshape(-1)
    assert np.array_equal(rearrangement(np.outer(g, g), m=m, n=n), np.kron(G, G))


@given(seeds, st.integers(1, 4), st.integers(1, 4), st.floats(0.05, 1.0))
@pytest.mark.claim("DYKAF-step")
def test_one_update_is_a_power_step_and_a_galerkin_core(seed, m, n, beta):
    G, L, R, _ = case(seed, m, n)
    g = G.reshape(-1)
    A = rearrangement(beta * np.kron(L, R) + (1 - beta) * np.outer(g, g), m=m, n=n)
    l0, r0 = L.reshape(-1) / size(L), R.reshape(-1) / size(R)
    l1, r1 = A @ r0, A.T @ l0  # both from the old vectors
    l1, r1 = l1 / size(l1), r1 / size(r1)
    s = l1 @ A @ r1
    new_L, new_R = update_factors(G, L, R, beta=beta)
    budget = formula_budget(size(A) ** 0.5, m * n, formulas=4)
    check(
        distance("L", new_L.reshape(-1), s**0.5 * l1, budget=budget),
        distance("R", new_R.reshape(-1), s**0.5 * r1, budget=budget),
    )
    for X in (new_L, new_R):
        assert np.array_equal(X, X.T)


@given(seeds, st.integers(1, 4), st.integers(1, 4), st.floats(0.05, 1.0))
@pytest.mark.claim("DYKAF-step")
def test_the_update_is_the_printed_one(seed, m, n, beta):
    G, L, R, _ = case(seed, m, n)
    got = update_factors(G, L, R, beta=beta)
    L, R, G = beta**0.5 * L, beta**0.5 * R, (1 - beta) ** 0.5 * G
    L_hat = L * size(R) + G @ R @ G.T / size(R)
    R_hat = R * size(L) + G.T @ L @ G / size(L)
    L_plus, R_plus = L_hat / size(L_hat), R_hat / size(R_hat)
    s = np.sum(L * L_plus) * np.sum(R * R_plus) + np.sum(L_plus * (G @ R_plus @ G.T))
    for name, X, plus in zip("LR", got, (L_plus, R_plus), strict=True):
        check(distance(name, X, s**0.5 * plus, budget=formula_budget(s**0.5, m * n, formulas=2)))


@given(seeds, st.integers(1, 4), st.integers(1, 4), st.floats(0.05, 1.0))
def test_a_gradient_that_keeps_the_matrix_rank_one_is_followed_exactly(seed, m, n, beta):
    """Old factors that are those of the gradient: every projection is the identity."""
    G, _, _, rng = case(seed, m, n)
    u, v = orthogonal(rng, m, 1), orthogonal(rng, n, 1)
    G = 3.0 * u @ v.T
    L, R = 4.0 * u @ u.T, 4.0 * v @ v.T
    new_L, new_R = update_factors(G, 0.5 * (L + L.T), 0.5 * (R + R.T), beta=beta)
    root = (16 * beta + 9 * (1 - beta)) ** 0.5
    budget = formula_budget(4.0, max(m, n), formulas=2)
    check(
        distance("L", new_L, root * u @ u.T, budget=budget),
        distance("R", new_R, root * v @ v.T, budget=budget),
    )


@given(seeds, st.integers(1, 5), st.integers(1, 5))
def test_the_nearest_product_to_one_gradient(seed, m, n):
    G, L, R, _ = case(seed, m, n)
    g = G.reshape(-1)
    best = nearest_kronecker(G)
    s = np.linalg.svd(G, compute_uv=False)
    errors = [np.linalg.norm(np.outer(g, g) - np.kron(*X)) for X in (best, (L, R))]
    # |R(g g^T)|^2 = |G|^4, of which the rank-one part has s_1^4
    exact = max(size(G) ** 4 - s[0] ** 4, 0.0) ** 0.5
    rounding = formula_budget(size(G) ** 2, m * n)
    check(
        inequality(errors[0], exact, rounding=rounding + (rounding * size(G) ** 2) ** 0.5),
        inequality(errors[0], errors[1], rounding=rounding),
        distance("norms", size(best[0]), size(best[1]), budget=rounding),
    )


@given(seeds)
@pytest.mark.claim("DYKAF-vs-KL")
def test_a_kronecker_covariance_has_the_same_factors_in_both_senses(seed):
    rng = np.random.default_rng(seed)
    U, V = rng.uniform(0.5, 2.0, 3), rng.uniform(0.5, 2.0, 4)
    G = kronecker_samples(U, V)
    left, right = stationary_factors(G, np.diag(U), np.diag(V))
    kl = kronecker.left_factor(G, np.diag(V), mu=0.0), kronecker.right_factor(G, np.diag(U), mu=0.0)
    budget = formula_budget(100.0, 12, condition(np.diag(U)), condition(np.diag(V)))
    check(
        distance("E[G V G^T]", left, V @ V * np.diag(U), budget=budget),
        distance("E[G^T U G]", right, U @ U * np.diag(V), budget=budget),
        distance("P*", kl[0], np.diag(U), budget=budget),
        distance("Q*", kl[1], np.diag(V), budget=budget),
    )


@pytest.mark.claim("DYKAF-vs-KL")
def test_another_covariance_has_factors_of_condition_two_and_three():
    D = np.array([[1.0, 1.125], [1.125, 4.0]])
    G = np.zeros((4, 2, 2))
    for k, (i, j) in enumerate(np.ndindex(2, 2)):
        G[k, i, j] = np.sqrt(4 * D[i, j])
    kl, frobenius = np.diag([1.0, 2.0]), np.diag([1.0, 3.0])
    budget = formula_budget(20.0, 4, 3.0)
    left, right = stationary_factors(G, frobenius, frobenius)
    check(
        distance("Frobenius, L", left, left[0, 0] * frobenius, budget=budget),
        distance("Frobenius, R", right, right[0, 0] * frobenius, budget=budget),
    )
    P = kronecker.left_factor(G, kl, mu=0.0)
    check(distance("KL, P", P, P[0, 0] * kl, budget=budget))
    for other, got in (
        (kl, stationary_factors(G, kl, kl)[0]),
        (frobenius, kronecker.left_factor(G, frobenius, mu=0.0)),
    ):
        assert size(got - got[0, 0] * other) > budget


@given(seeds, st.floats(0.5, 0.9))
def test_the_update_converges_to_the_best_product_of_a_fixed_gradient(seed, beta):
    """Fed one gradient, F tends to g g^T and the factors to its nearest product, from any start."""
    G, L, R, _ = case(seed, 3, 3)
    G = np.diag([2.0, 1.0, 0.5]) + 0.0 * G
    for _ in range(200):
        L, R = update_factors(G, L, R, beta=beta)
    best = nearest_kronecker(G)
    # each step multiplies what is off by at most beta + (1 - beta) s_2 / s_1 = beta + (1 - beta) / 2
    left_over = (beta + (1 - beta) / 2) ** 200 * 100
    budget = left_over + formula_budget(4.0, 9, formulas=8)
    check(distance("L", L, best[0], budget=budget), distance("R", R, best[1], budget=budget))


@given(seeds, st.integers(1, 5), st.floats(0.0, 2.0))
def test_the_refreshed_basis_is_orthogonal_and_eigenvectors_stay(seed, k, decades):
    rng = np.random.default_rng(seed)
    V = orthogonal(rng, k, k)
    w = np.logspace(0, -decades, k)
    L = (V * w) @ V.T
    shuffled = rng.permutation(k)
    U, order = refresh_basis(0.5 * (L + L.T), frozen(V[:, shuffled]))
    check(orthogonality(U, u=U64))
    B = orthogonal(rng, k, k)
    general, falling = refresh_basis(0.5 * (L + L.T), B)
    quotients = np.diag(B[:, falling].T @ L @ B[:, falling])
    T = general.T @ L @ B[:, falling]  # the triangle of the QR decomposition
    rounding = formula_budget(size(L), k)
    check(
        orthogonality(general, u=U64),
        distance("below the diagonal", np.tril(T, -1), np.zeros((k, k)), budget=rounding),
        inequality(quotients[1:], quotients[:-1], rounding=rounding) if k > 1 else orthogonality(U, u=U64),
    )
    sorted_back = V[:, shuffled][:, order]
    budget = formula_budget(k**0.5, k, 10.0**decades)
    check(distance("|U^T V|", np.abs(U.T @ sorted_back), np.eye(k), budget=budget))


def test_the_first_gradient_only_starts_the_factors():
    G = np.random.default_rng(1).standard_normal((3, 4))
    start = init((3, 4))
    update, state = step(G, start, weight_decay=0.5, W=np.ones((3, 4)))
    assert not update.any()
    assert not state.M.any()
    assert state.t == 1
    L, R = update_factors(G, start.L, start.R, beta=0.999)
    assert np.array_equal(state.L, L)
    for X, basis in ((L, state.U), (R, state.V)):
        check(orthogonality(basis, u=U64))
        w = np.diag(basis.T @ X @ basis)
        check(
            inequality(np.diff(w), 0.0, rounding=formula_budget(size(X), 4)),
            distance("diagonal", basis.T @ X @ basis, np.diag(w), budget=formula_budget(size(X), 4)),
        )


@given(seeds, st.floats(0.0, 0.95), st.floats(0.01, 0.99), st.integers(1, 3))
def test_the_step_is_adam_in_the_old_bases(seed, beta1, beta2, period):
    rng = np.random.default_rng(seed)
    G = rng.standard_normal((4, 3, 2))
    _, state = step(G[0], init((3, 2)), beta1=beta1, beta2=beta2, period=period)
    M, N = np.zeros((3, 2)), state.N
    for k, g in enumerate(G[1:], start=1):
        U, V = state.U, state.V
        N = beta2 * state.N + (1 - beta2) * (U.T @ g @ V) ** 2
        M = beta1 * M + (1 - beta1) * g
        below = np.sqrt(N) + 0.1
        want = U @ (U.T @ M @ V / below) @ V.T * (1 - beta2**k) ** 0.5 / (1 - beta1**k)
        update, state = step(g, state, beta1=beta1, beta2=beta2, epsilon=0.1, period=period)
        budget = formula_budget(size(G) / (1 - beta1) / np.min(below), 3, formulas=2)
        check(
            distance("update", update, want, budget=budget),
            distance("M", state.M, M, budget=64 * U64 * size(G)),
        )
        moved = not np.array_equal(state.U, U)
        assert moved == (k % period == 0)
        if moved:  # the second moments go with the columns
            _, rows = refresh_basis(state.L, U)
            _, columns = refresh_basis(state.R, V)
            N = N[rows][:, columns]
        check(distance("N", state.N, N, budget=64 * U64 * size(N)))


@given(seeds)
def test_frozen_factors_of_the_identity_give_adam(seed):
    """``beta_factors = 1`` keeps L and R, whose eigenbases are unit vectors in reverse order."""
    G = np.random.default_rng(seed).standard_normal((5, 3, 2))
    _, state = step(G[0], init((3, 2)), beta_factors=1.0, period=10**6)
    adam = adamw.init((3, 2))
    for k, g in enumerate(G[1:], start=1):
        epsilon = 0.01
        update, state = step(g, state, beta_factors=1.0, epsilon=epsilon, period=10**6)
        late = epsilon / (1 - 0.999**k) ** 0.5  # the same epsilon, after the correction
        want, adam = adamw.step(g, adam, epsilon=late, weight_decay=0.0)
        check(distance("update", update, want, budget=formula_budget(size(want) + size(G), 3, 1000.0)))


@given(seeds)
def test_rotating_the_gradients_rotates_the_steps(seed):
    rng = np.random.default_rng(seed)
    G = np.diag([4.0, 2.0, 1.0])[:, :2] + 0.1 * rng.standard_normal((4, 3, 2))  # distinct eigenvalues
    Q, P = orthogonal(rng, 3, 3), orthogonal(rng, 2, 2)
    plain, rotated = init((3, 2)), init((3, 2))
    for g in G:
        update, plain = step(g, plain, beta_factors=0.5, epsilon=1.0)
        turned, rotated = step(Q @ g @ P.T, rotated, beta_factors=0.5, epsilon=1.0)
    gaps = [np.min(np.abs(np.diff(np.linalg.eigvalsh(X)))) / size(X) for X in (plain.L, plain.R)]
    budget = formula_budget(size(update), 3, *(1 / gap for gap in gaps), *(1e3 for _ in G), formulas=8)
    check(distance("Q step P^T", turned, Q @ update @ P.T, budget=budget))


def test_a_batch_is_a_loop_of_singles():
    G = np.random.default_rng(5).standard_normal((4, 2, 4, 3))
    options = {"epsilon": 0.1, "period": 2, "beta_factors": 0.8}
    together, alone = init((2, 4, 3)), [init((4, 3)), init((4, 3))]
    for g in G:
        update, together = step(g, together, **options)
        pairs = [step(g[i], alone[i], **options) for i in range(2)]
        alone = [state for _, state in pairs]
    check(
        distance(
            "L",
            together.L,
            np.stack([s.L for s in alone]),
            budget=formula_budget(size(together.L), 4, formulas=4),
        ),
        distance(
            "batch", update, np.stack([u for u, _ in pairs]), budget=formula_budget(size(update), 4, 1e4)
        ),
    )


@given(seeds, st.floats(0.0, 1.0))
def test_weight_decay_is_added_to_the_update(seed, weight_decay):
    G, W = (frozen(X) for X in np.random.default_rng(seed).standard_normal((2, 3, 4)))
    _, started = step(G, init(G))
    plain, _ = step(G, started)
    decayed, _ = step(G, started, weight_decay=weight_decay, W=W)
    assert np.array_equal(decayed, plain + weight_decay * W)


def test_zero_gradients_and_no_batch():
    state = init((2, 3))
    for _ in range(3):
        update, state = step(np.zeros((2, 3)), state, epsilon=0.0)
        assert not update.any()
    update, state = step(np.zeros((0, 2, 3)), init((0, 2, 3)))
    assert update.shape == (0, 2, 3)


def test_nothing_is_modified_or_shared():
    L, R = frozen(np.eye(2)), frozen(np.eye(3))
    start = init((2, 3), L0=L, R0=R)
    assert not np.shares_memory(start.L, L)
    arrays = [frozen(X) for X in (L, R, np.eye(2), np.eye(3), np.ones((2, 3)), np.ones((2, 3)))]
    for t in (0, 1, 10):
        _, after = step(frozen(np.ones((2, 3))), DykafState(*arrays, t), beta1=0.0, beta2=0.5)
        assert not any(np.shares_memory(X, Y) for X, Y in zip(after[:6], arrays, strict=True))


G_, L_, R_ = np.ones((2, 3)), np.eye(2), np.eye(3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: init((3,)), ValueError, "W must have at least 2 axes"),
        (lambda: init((0, 3)), ValueError, "W must have at least one row and column"),
        (lambda: init((2, 3), L0=0 * L_), ValueError, "L0 must not be zero"),
        (lambda: init((2, 3), R0=L_), ValueError, r"R0 must have shape \(3, 3\)"),
        (lambda: rearrangement(np.eye(5), m=2, n=3), ValueError, r"F must have shape \(..., 6, 6\)"),
        (lambda: rearrangement(np.eye(6), m=0, n=3), ValueError, "m must be at least 1"),
        (lambda: nearest_kronecker(np.ones((0, 3))), ValueError, "G must have at least one row"),
        (lambda: update_factors(G_, L_, R_, beta=0.0), ValueError, "beta must be above 0"),
        (lambda: update_factors(G_, L_, R_, beta=1.5), ValueError, r"beta must be in \[0, 1\]"),
        (lambda: update_factors(G_, 0 * L_, R_, beta=0.5), ValueError, "L must not be zero"),
        (lambda: update_factors(G_, L_, L_, beta=0.5), ValueError, r"R must have shape \(3, 3\)"),
        (lambda: update_factors(G_ * 1e200, L_, R_, beta=0.5), ValueError, "G must have a square in range"),
        (
            lambda: stationary_factors(np.ones((0, 2, 3)), L_, R_),
            ValueError,
            "G must have at least one sample",
        ),
        (lambda: stationary_factors(G_ * 1e200, L_, R_), ValueError, "G must have a square in range"),
        (lambda: refresh_basis(G_, L_), ValueError, "L must be square"),
        (lambda: refresh_basis(L_, R_), ValueError, r"U must have shape \(2, 2\)"),
        (lambda: step(G_.T, init(G_)), ValueError, r"G must have shape \(2, 3\)"),
        (lambda: step(G_ * np.nan, init(G_)), ValueError, "G must be finite"),
        (lambda: step(G_, init(G_), period=0), ValueError, "period must be at least 1"),
        (lambda: step(G_, init(G_), beta1=1.0), ValueError, r"beta1 must be in \[0, 1\)"),
        (lambda: step(G_, init(G_), beta_factors=-0.5), ValueError, r"beta must be in \[0, 1\]"),
        (lambda: step(G_, init(G_), epsilon=-1.0), ValueError, "epsilon must be at least 0"),
        (lambda: step(G_, init(G_), weight_decay=0.1), ValueError, "W must be given when weight_decay"),
    ],
)
def test_a_bad_argument_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
