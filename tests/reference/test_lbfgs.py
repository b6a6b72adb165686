"""The two-loop recursion against the explicit BFGS matrix, and the bookkeeping of pairs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs_checks.ratios import inequality
from reference.lbfgs import LbfgsState, init, step, two_loop_direction
from tests.reference.cases import U64, check, distance, formula_budget, frozen, size, spd
from tests.strategies import seeds

#: Most pairs and largest dimension drawn: with more, the product of magnifications makes any budget blind.
PAIRS, DIMENSION = 4, 6


def explicit(S, Y):
    """The BFGS inverse Hessian ``H <- (I - rho s y^T) H (I - rho y s^T) + rho s s^T``, oldest pair first."""
    one = np.eye(S.shape[-1])
    H = one if not len(S) else one * (Y[-1] @ S[-1]) / (Y[-1] @ Y[-1])
    for s, y in zip(S, Y, strict=True):
        rho = 1 / (y @ s)
        V = one - rho * np.outer(y, s)
        H = V.T @ H @ V + rho * np.outer(s, s)
    return H


def magnification(S, Y):
    """How much the pairs can magnify rounding, at most: the accuracy note of `two_loop_direction`."""
    angles = np.linalg.norm(S, axis=-1) * np.linalg.norm(Y, axis=-1) / (S * Y).sum(axis=-1)
    return float(np.prod((1 + angles) ** 2))


@st.composite
def pairs(draw):
    """A gradient and pairs of a positive definite quadratic, and a generator."""
    rng = np.random.default_rng(draw(seeds))
    d, k = draw(st.integers(1, DIMENSION)), draw(st.integers(0, PAIRS))
    S = rng.standard_normal((k, d))
    Y = S @ spd(rng, d, draw(st.floats(0.0, 1.0)))
    return frozen(rng.standard_normal(d)), frozen(S), frozen(Y), rng


@given(pairs())
def test_the_two_loops_are_the_explicit_bfgs_update(case):
    g, S, Y, _ = case
    d = len(g)
    H = explicit(S, Y)
    budget = formula_budget(size(g) * (1 + size(H)), d, magnification(S, Y), formulas=2 * len(S) + 1)
    check(distance("H g", two_loop_direction(g, S, Y), H @ g, budget=budget))


@given(pairs())
def test_the_newest_pair_satisfies_the_secant_equation_and_h_is_positive(case):
    g, S, Y, _ = case
    if not len(S):
        assert np.array_equal(two_loop_direction(g, S, Y), g)
        return
    budget = formula_budget(size(S[-1]), len(g), magnification(S, Y), formulas=2 * len(S))
    check(distance("H y = s", two_loop_direction(Y[-1], S, Y), S[-1], budget=budget))
    slope = g @ two_loop_direction(g, S, Y)
    rounding = formula_budget(
        size(g) ** 2 * (1 + size(explicit(S, Y))), len(g), magnification(S, Y), formulas=2 * len(S)
    )
    check(inequality(-slope, 0.0, rounding=rounding))


@given(pairs())
def test_zero_pairs_are_no_pairs_wherever_they_stand(case):
    g, S, Y, rng = case
    at = rng.integers(0, len(S) + 1)
    S0, Y0 = (np.insert(X, at, 0.0, axis=0) for X in (S, Y))
    assert np.array_equal(two_loop_direction(g, S0, Y0), two_loop_direction(g, S, Y))


def test_an_example_by_hand():
    got = two_loop_direction(np.array([1.0, 1.0]), np.array([[1.0, 0.0]]), np.array([[2.0, 1.0]]))
    check(distance("H g", got, np.array([0.4, 0.2]), budget=8 * U64))
    scalar = two_loop_direction(np.array([3.0]), np.array([[5.0], [2.0]]), np.array([[1.0], [8.0]]))
    check(distance("one dimension: s / y of the newest", scalar, np.array([0.75]), budget=16 * U64))


def test_the_first_step_is_capped_by_the_one_norm():
    for g, want in (([0.25, -0.5], [0.25, -0.5]), ([3.0, -1.0], [0.75, -0.25])):
        update, state = step(np.array(g), init((2,), memory=3), lr=0.5)
        assert np.array_equal(update, want)
        assert np.array_equal(state.s, -0.5 * update)
        assert np.array_equal(state.g, g)
        assert not state.S.any()
        assert not state.Y.any()


def test_a_pair_is_kept_iff_its_product_is_above_the_threshold():
    threshold = 2.0**-33  # a power of two near 1e-10: the products below are exact
    s, g0 = np.array([1.0, 0.0]), np.array([1.0, 1.0])
    state = LbfgsState(np.zeros((2, 2)), np.zeros((2, 2)), s, g0)
    for product, kept in ((threshold, False), (2 * threshold, True), (-1.0, False), (0.0, False)):
        _, after = step(g0 + np.array([product, 0.5]), state, least_curvature=threshold)
        assert after.S.any() == after.Y.any() == kept
        if kept:
            assert np.array_equal(after.S[-1], s)
            assert np.array_equal(after.Y[-1], [product, 0.5])


def test_scaling_the_function_down_far_enough_drops_every_pair():
    H = np.diag([1.0, 2.0])
    for c, kept in ((1.0, True), (2.0**-34, False)):
        w, state = np.array([1.0, 1.0]), init((2,))
        for _ in range(3):
            update, state = step(c * (H @ w), state)
            w = w - update
        assert state.S.any() == kept


def test_the_oldest_pair_leaves_first():
    rng = np.random.default_rng(3)
    H, w, state, seen = spd(rng, 4, 1.0), rng.standard_normal(4), init((4,), memory=2), []
    for _ in range(5):
        g = H @ w
        update, new = step(g, state, lr=0.5)
        if state.g.any():
            seen.append((state.s, g - state.g))
        w, state = w - 0.5 * update, new
    for X, k in ((state.S, 0), (state.Y, 1)):
        assert np.array_equal(X, [pair[k] for pair in seen[-2:]])


def test_a_quadratic_is_minimised_to_rounding():
    rng = np.random.default_rng(4)
    H, w, state = spd(rng, 3, 1.0), rng.standard_normal(3), init((3,))
    budget = formula_budget(size(w), 3)
    for _ in range(60):
        if size(w) <= budget:
            break
        update, state = step(H @ w, state, least_curvature=0.0)
        w = w - update
    check(distance("minimiser", w, np.zeros(3), budget=budget))


def test_a_zero_gradient_changes_nothing():
    rng = np.random.default_rng(5)
    state = LbfgsState(*(rng.standard_normal(shape) for shape in ((2, 3, 2), (2, 3, 2), (2, 2), (2, 2))))
    state = state._replace(Y=np.abs(state.S) * np.sign(state.S))
    g = np.array([[0.0, 0.0], [1.0, 2.0]])
    update, after = step(g, state)
    assert not update[0].any()
    assert update[1].any()
    for old, new in zip(state, after, strict=True):
        assert np.array_equal(old[0], new[0])
        assert not np.shares_memory(old, new)
    assert np.array_equal(after.g[1], g[1])


def test_a_batch_is_a_loop_of_singles_that_may_keep_different_pairs():
    rng = np.random.default_rng(6)
    H = np.stack([spd(rng, 3, 1.0), -spd(rng, 3, 1.0)])  # the second run never keeps a pair
    w = rng.standard_normal((2, 3))
    together, alone = init((2, 3), memory=2), [init((3,), memory=2) for _ in range(2)]
    for _ in range(4):
        g = (H @ w[..., None])[..., 0]
        update, together = step(frozen(g), together, lr=0.1)
        singles = [step(g[i], alone[i], lr=0.1) for i in range(2)]
        alone = [state for _, state in singles]
        budget = formula_budget(size(update), 3, 1e3, formulas=4)
        check(distance("update", update, np.stack([u for u, _ in singles]), budget=budget))
        w = w - 0.1 * update
    assert together.S[0].any()
    assert not together.S[1].any()


def test_no_parameters_and_array_shapes():
    update, state = step(np.zeros(0), init((0,)))
    assert update.shape == state.s.shape == (0,)
    assert init(np.ones((4, 3)), memory=2).S.shape == (4, 2, 3)


G_ = np.ones(3)
S_ = np.ones((2, 3))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: two_loop_direction(G_, S_, -S_), ValueError, r"S and Y must have y\^T s > 0"),
        (lambda: two_loop_direction(G_, S_, 0 * S_), ValueError, r"S and Y must have y\^T s > 0"),
        (lambda: two_loop_direction(G_, S_, S_[:1]), ValueError, r"Y must have shape \(2, 3\)"),
        (lambda: two_loop_direction(G_, S_[:, :2], S_[:, :2]), ValueError, "S must have shape"),
        (lambda: two_loop_direction(G_, 1e200 * S_, 1e200 * S_), ValueError, "S must have products with Y"),
        (lambda: two_loop_direction(1e300 * G_, S_, 1e-200 * S_), ValueError, "g must have products"),
        (lambda: init((3,), memory=0), ValueError, "memory must be at least 1"),
        (lambda: init(()), ValueError, "w must have at least 1 axes"),
        (lambda: step(S_, init(G_)), ValueError, r"g must have shape \(3,\)"),
        (lambda: step(G_ * np.inf, init(G_)), ValueError, "g must be finite"),
        (lambda: step(G_ * 1e308, init(G_)), ValueError, r"g must have \|g\|_1 in range"),
        (lambda: step(G_, init(G_), lr=0.0), ValueError, "lr must be above 0"),
        (lambda: step(G_, init(G_), least_curvature=-1.0), ValueError, "least_curvature must be at least 0"),
        (lambda: step(G_, init(G_)._replace(Y=S_)), ValueError, "state.Y must have shape"),
        (lambda: step(G_, init(G_)._replace(s=S_)), ValueError, "state.s must have shape"),
        (lambda: step([1.0, 2.0, 3.0], init(G_)), TypeError, "g must be a float64 array"),
    ],
)
def test_a_bad_argument_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
