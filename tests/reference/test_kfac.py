"""K-FAC against the dense Kronecker system, and where its factors are exact."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference.kfac import KfacState, factors, init, pi_split, step
from reference.natural_gradient import categorical_fisher, gaussian_fisher, linear_jacobian, softmax
from tests.reference.cases import U64, check, condition, distance, formula_budget, frozen, size, spd
from tests.strategies import seeds


def vec(G):
    """Columns stacked."""
    return G.T.reshape(-1)


@given(seeds, st.integers(1, 4), st.integers(1, 4), st.floats(-3.0, 1.0), st.floats(0.0, 2.0))
def test_the_step_is_the_dense_solve_of_the_kronecker_system(seed, m, n, damping, decades):
    rng = np.random.default_rng(seed)
    G, A, S, lam = frozen(rng.standard_normal((m, n))), spd(rng, n, decades), spd(rng, m, 1.0), 10.0**damping
    update, state = step(G, init(G), A=A, S=S, lam=lam)
    pi = np.sqrt((np.trace(A) / n) / (np.trace(S) / m))
    A_damped, S_damped = A + pi * np.sqrt(lam) * np.eye(n), S + np.sqrt(lam) / pi * np.eye(m)
    want = np.linalg.solve(np.kron(A_damped, S_damped), vec(G))
    budget = formula_budget(size(want), m * n, condition(A_damped) * condition(S_damped))
    check(distance("update", vec(update), want, budget=budget))
    assert np.array_equal(state.A, A)
    assert np.array_equal(state.S, S)


@given(seeds, st.integers(1, 5), st.integers(1, 5), st.floats(-3.0, 3.0))
def test_the_two_dampings_multiply_to_lam_and_follow_the_traces(seed, m, n, decades):
    rng = np.random.default_rng(seed)
    A, S, lam = spd(rng, n, 2.0) * 10.0**decades, spd(rng, m, 1.0), 0.3
    damping_A, damping_S = pi_split(A, S, lam=lam)
    means = np.trace(A) / n, np.trace(S) / m
    check(
        distance("product", damping_A * damping_S, lam, budget=16 * U64 * lam),
        distance("ratio", damping_A * means[1], damping_S * means[0], budget=64 * U64 * damping_S * means[0]),
    )


def test_a_factor_without_trace_leaves_the_damping_even():
    for A, S in ((np.zeros((2, 2)), np.eye(3)), (np.eye(2), np.zeros((3, 3)))):
        split = np.array(pi_split(A, S, lam=0.25))
        assert np.array_equal(split, [0.5, 0.5])


def test_factors_by_hand():
    a, s = np.array([[1.0, 2.0], [3.0, 0.0]]), np.array([[2.0], [4.0]])
    A, S = factors(frozen(a), frozen(s))
    assert np.array_equal(A, [[5.0, 1.0, 2.0], [1.0, 2.0, 1.0], [2.0, 1.0, 1.0]])
    assert np.array_equal(S, [[10.0]])
    assert np.array_equal(factors(a, s, bias=False)[0], A[:2, :2])


def test_the_kronecker_product_is_exact_for_independent_factors():
    rng = np.random.default_rng(1)
    a, s = rng.standard_normal((3, 2)), rng.standard_normal((4, 3))
    pairs = [(x, y) for x in a for y in s]  # every input with every gradient
    A, S = factors(*(np.array(column) for column in zip(*pairs, strict=True)), bias=False)
    exact = np.mean([np.outer(vec(np.outer(y, x)), vec(np.outer(y, x))) for x, y in pairs], axis=0)
    check(distance("E[vec vec^T]", np.kron(A, S), exact, budget=formula_budget(size(exact), 12)))


def test_a_linear_regression_layer_has_its_exact_fisher_matrix():
    rng = np.random.default_rng(2)
    x, k, sigma = rng.standard_normal((5, 3)), 2, 0.5
    labels = np.sqrt(k) / sigma * np.eye(k)  # two gradients of second moment I / sigma^2
    A, S = factors(np.repeat(x, k, axis=0), np.tile(labels, (5, 1)), bias=False)
    exact = gaussian_fisher(linear_jacobian(x, outputs=k), sigma=sigma)
    check(distance("S kron A, rows stacked", np.kron(S, A), exact, budget=formula_budget(size(exact), 6)))


def test_a_softmax_layer_has_its_exact_fisher_matrix_for_one_input():
    rng = np.random.default_rng(3)
    x, W = rng.standard_normal((1, 3)), rng.standard_normal((4, 3))
    z = x @ W.T
    p = softmax(z[0])
    scores = np.sqrt(4 * p)[:, None] * (np.eye(4) - p)  # every label, weighted by its probability
    A, S = factors(np.repeat(x, 4, axis=0), scores, bias=False)
    exact = categorical_fisher(linear_jacobian(x, outputs=4), z)
    check(distance("S kron A", np.kron(S, A), exact, budget=formula_budget(size(exact), 12)))


def test_statistics_are_averaged_with_the_weight_of_the_paper():
    rng = np.random.default_rng(4)
    As, G = [spd(rng, 2, 1.0) for _ in range(4)], np.eye(2)
    for decay, weights in (
        (0.95, (0.25, 0.25, 0.25, 0.25)),
        (0.5, (0.125, 0.125, 0.25, 0.5)),
        (0.0, (0, 0, 0, 1)),
    ):
        state = init((2, 2))
        for A in As:
            _, state = step(G, state, A=A, S=2 * A, decay=decay)
        want = sum(w * A for w, A in zip(weights, As, strict=True))
        check(
            distance("A", state.A, want, budget=formula_budget(size(want), 2)),
            distance("S", state.S, 2 * want, budget=formula_budget(2 * size(want), 2)),
        )
        assert state.t == 4


def test_scaling_the_loss_leaves_the_undamped_step_as_it_is():
    rng = np.random.default_rng(5)
    G, A, S = rng.standard_normal((3, 2)), spd(rng, 2, 1.0), spd(rng, 3, 1.0)
    plain, _ = step(G, init(G), A=A, S=S, lam=0.0)
    scaled, _ = step(4.0 * G, init(G), A=A, S=4.0 * S, lam=0.0)
    check(distance("update", scaled, plain, budget=formula_budget(size(plain), 3, 1e2)))


def test_weight_decay_is_added_to_the_update():
    rng = np.random.default_rng(6)
    G, A, S, W = rng.standard_normal((3, 2)), np.eye(2), np.eye(3), rng.standard_normal((3, 2))
    plain, _ = step(G, init(G), A=A, S=S)
    decayed, _ = step(G, init(G), A=A, S=S, weight_decay=0.1, W=W)
    assert np.array_equal(decayed, plain + 0.1 * W)


def test_a_batch_is_a_loop_of_singles():
    rng = np.random.default_rng(7)
    a, s = rng.standard_normal((2, 5, 3)), rng.standard_normal((2, 5, 2))
    G = rng.standard_normal((2, 2, 4))
    A, S = factors(a, s)
    update, _ = step(G, init(G), A=A, S=S)
    for i in range(2):
        A_i, S_i = factors(a[i], s[i])
        single, _ = step(G[i], init(G[i]), A=A_i, S=S_i)
        check(distance("batch", update[i], single, budget=formula_budget(size(single), 4, 1e4)))


def test_empty_layers_and_zero_factors():
    for shape in ((0, 3), (3, 0), (2, 0, 3)):
        *batch, m, n = shape
        update, _ = step(np.zeros(shape), init(shape), A=np.zeros((*batch, n, n)), S=np.zeros((*batch, m, m)))
        assert update.shape == shape
    update, _ = step(np.ones((2, 3)), init((2, 3)), A=np.zeros((3, 3)), S=np.zeros((2, 2)), lam=0.25)
    check(distance("G / lam", update, np.full((2, 3), 4.0), budget=formula_budget(10.0, 3)))


G_, A_, S_ = np.ones((2, 3)), np.eye(3), np.eye(2)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: factors(G_, G_[:1]), ValueError, r"s must have shape \(2, 'm'\) with samples"),
        (lambda: factors(G_[:0], G_[:0]), ValueError, "s must have shape .* with samples to average"),
        (lambda: factors(G_ * np.nan, G_), ValueError, "a must be finite"),
        (lambda: factors(G_, G_ * 1e200), ValueError, "s must have a square in range"),
        (lambda: factors(G_, G_, bias=1), TypeError, "bias must be True or False"),
        (lambda: pi_split(A_, S_, lam=-1.0), ValueError, "lam must be at least 0"),
        (lambda: pi_split(-A_, S_, lam=1.0), ValueError, "A must have a trace of at least 0"),
        (lambda: pi_split(G_, S_, lam=1.0), ValueError, "A must be square"),
        (lambda: pi_split(A_, np.ones((4, 2, 2)), lam=1.0), ValueError, "S must have the batch axes of A"),
        (lambda: init((3,)), ValueError, "W must have at least 2 axes"),
        (lambda: step(G_, init(G_), A=S_, S=S_), ValueError, r"A must have shape \(3, 3\)"),
        (lambda: step(G_, init(G_), A=A_, S=A_), ValueError, r"S must have shape \(2, 2\)"),
        (lambda: step(G_, init(G_.T), A=A_, S=S_), ValueError, "state.A must have shape"),
        (lambda: step(G_, init(G_), A=0 * A_, S=S_, lam=0.0), ValueError, r"A \+ pi sqrt\(lam\) I must be"),
        (lambda: step(G_, init(G_), A=A_, S=0 * S_, lam=0.0), ValueError, r"S \+ sqrt\(lam\) / pi I must be"),
        (lambda: step(G_, init(G_), A=np.triu(np.ones((3, 3))), S=S_), ValueError, "must be symmetric"),
        (lambda: step(G_, init(G_), A=A_, S=S_, decay=1.0), ValueError, r"decay must be in \[0, 1\)"),
        (lambda: step(G_, init(G_), A=A_, S=S_, weight_decay=0.1), ValueError, "W must be given"),
        (lambda: step(G_, KfacState(A_, S_, -1), A=A_, S=S_), ValueError, "state.t must be at least 0"),
    ],
)
def test_a_bad_argument_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
