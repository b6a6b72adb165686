"""SOFIM: the linear solve behind it, three evaluations of it, the step."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs_checks.ratios import inequality, linear_solve, recursion
from reference.sofim import (
    SofimState,
    bracket_direction,
    direction,
    init,
    sherman_morrison_solve,
    step,
    two_term_direction,
)
from tests.reference.cases import U64, check, distance, frozen, printed, spd
from tests.strategies import seeds

EPS = np.finfo(np.float64).eps
LOGS = st.floats(-4.0, 4.0)


def vectors(seed: int, d: int, norm: float) -> np.ndarray:
    v = np.random.default_rng(seed).standard_normal(d)
    return frozen(norm * v / np.linalg.norm(v))


def relative(x: np.ndarray, want: np.ndarray) -> float:
    return float(np.linalg.norm(x - want) / np.linalg.norm(want))


def exact_direction(M_hat: np.ndarray, rho: float) -> np.ndarray:
    """The closed form in rational arithmetic, rounded once per entry."""
    exact = [Fraction(x) for x in M_hat.tolist()]
    eigenvalue = Fraction(rho) + sum(x * x for x in exact)
    return np.array([float(x / eigenvalue) for x in exact])


# ---- Sherman-Morrison


@given(seeds, st.integers(1, 8), st.sampled_from(["scalar", "diagonal", "dense"]))
def test_sherman_morrison_solves_the_rank_one_update(seed, d, kind):
    rng = np.random.default_rng(seed)
    u, v, b = (frozen(x) for x in rng.standard_normal((3, d)))
    dense = {
        "scalar": 0.7 * np.eye(d),
        "diagonal": np.diag(rng.uniform(0.5, 2.0, d)),
        "dense": np.array(spd(rng, d, 1.0)),
    }[kind]
    v = frozen(v * np.sign(np.linalg.solve(dense, u) @ v))  # keeps 1 + v^T A^-1 u away from 0
    A = {"scalar": 0.7, "diagonal": dense.diagonal().copy(), "dense": dense}[kind]
    x = sherman_morrison_solve(A, u, v, b)
    # Its forward error is u cond(A) |A^-1 u| |v|; as a backward error, times the condition of the sum.
    growth = np.linalg.cond(dense) * (1 + np.linalg.norm(np.linalg.solve(dense, u)) * np.linalg.norm(v))
    growth *= np.linalg.cond(dense + np.outer(u, v))
    judged = linear_solve(dense + np.outer(u, v), x, b, u=min(U64 * growth, 0.5))
    check(judged)


@given(seeds, st.floats(-2.0, 2.0))
def test_the_three_kinds_of_matrix_agree(seed, log_rho):
    rng = np.random.default_rng(seed)
    u, b = rng.standard_normal((2, 5))
    rho = 10.0**log_rho
    forms = [rho, np.full(5, rho), rho * np.eye(5)]
    scalar, diagonal, dense = (sherman_morrison_solve(A, u, u, b) for A in forms)
    budget = 64 * U64 * np.linalg.norm(b) / rho * (1 + u @ u / rho)
    check(
        distance("diagonal", diagonal, scalar, budget=budget),
        distance("dense", dense, scalar, budget=budget),
    )


@pytest.mark.claim("SOFIM-minus-one")
def test_a_singular_update_is_an_error():
    e = np.array([1.0, 0.0])
    cases = [
        (1.0, e, -e, r"A \+ u v\^T must be nonsingular"),
        (np.array([2.0, 1.0]), 2.0 * e, -e, r"A \+ u v\^T must be nonsingular"),
        (0.0, e, e, "A must be nonsingular"),
        (np.array([1.0, 0.0]), e, e, "A must be nonsingular"),
        (np.ones((2, 2)), e, e, "A must be nonsingular to working precision"),
    ]
    for A, u, v, message in cases:
        with pytest.raises(ValueError, match=message):
            sherman_morrison_solve(A, u, v, e)


def test_sherman_morrison_in_batches():
    rng = np.random.default_rng(3)
    u, v, b = rng.standard_normal((3, 2, 4, 3))
    A = np.stack([spd(rng, 3, 1.0) for _ in range(8)]).reshape(2, 4, 3, 3)
    together = sherman_morrison_solve(A, u, v, b)
    alone = [[sherman_morrison_solve(A[i, j], u[i, j], v[i, j], b[i, j]) for j in range(4)] for i in range(2)]
    check(distance("batch", together, np.array(alone), budget=1e3 * U64 * np.linalg.norm(alone)))
    square = sherman_morrison_solve(np.ones((3, 3)), np.zeros((3, 3)), np.zeros((3, 3)), np.eye(3))
    assert np.array_equal(square, np.eye(3)), "an array of the shape of b is a diagonal, also if it is square"
    empty = sherman_morrison_solve(1.0, *np.zeros((3, 0)))
    assert empty.shape == (0,)


# ---- directions


@pytest.mark.claim("SOFIM-closed-form")
@given(seeds, st.integers(1, 20), LOGS, st.floats(-2.0, 2.0))
def test_direction_solves_the_dense_system(seed, d, log_norm, log_rho):
    M_hat, rho = vectors(seed, d, 10.0**log_norm), 10.0**log_rho
    F = np.outer(M_hat, M_hat) + rho * np.eye(d)
    check(linear_solve(F, direction(M_hat, rho=rho), M_hat, u=U64))


@given(seeds, st.integers(1, 12), st.floats(-150.0, 150.0), st.floats(-200.0, 200.0))
def test_direction_is_exact_to_rounding_at_every_scale(seed, d, log_norm, log_rho):
    M_hat, rho = vectors(seed, d, 10.0**log_norm), 10.0**log_rho
    want = exact_direction(M_hat, rho)
    got = direction(M_hat, rho=rho)
    check(
        recursion(
            got, want, np.abs(want), operations=d + 6, u=U64, underflow=float(np.finfo(float).tiny) * EPS
        )
    )


@pytest.mark.claim("SOFIM-extremes")
@pytest.mark.parametrize(
    ("norm", "rho"), [(1e300, 0.5), (1e-300, 0.5), (1e-300, 1e-300), (1e300, 1e300), (0.0, 1.0)]
)
def test_direction_never_leaves_the_range(norm, rho):
    M_hat = np.array([0.6, -0.8]) * norm
    got = direction(M_hat, rho=rho)
    assert np.isfinite(got).all()
    largest = norm / rho if norm == 0 or norm < rho / norm else 1 / norm
    check(inequality(np.linalg.norm(got), largest, rounding=8 * U64 * largest + float(np.finfo(float).tiny)))


@pytest.mark.claim("SOFIM-eq6")
@given(seeds, st.integers(1, 12), st.floats(-6.0, 6.0), st.floats(-1.0, 1.0))
def test_all_evaluations_agree_up_to_the_law_of_cancellation(seed, d, log_s, log_rho):
    rho = 10.0**log_rho
    s = 10.0**log_s
    M_hat = vectors(seed, d, np.sqrt(rho * s))
    want = exact_direction(M_hat, rho)
    law = (d + 8) * U64 * (1 + s)  # each term is 1 + s times the result and rounded d + 8 times
    for evaluate in (two_term_direction, bracket_direction):
        check(inequality(relative(evaluate(M_hat, rho=rho), want), law, rounding=0.0))


@pytest.mark.claim("SOFIM-cancellation")
def test_equation_6_loses_everything_where_the_closed_form_does_not():
    M_hat = vectors(1, 4096, np.sqrt(0.5 * 1e12))
    want = exact_direction(M_hat, 0.5)
    check(inequality(relative(direction(M_hat, rho=0.5), want), 16 * U64, rounding=0.0))
    check(inequality(1e-6, relative(two_term_direction(M_hat, rho=0.5), want), rounding=0.0))
    assert not bracket_direction(1e9 * M_hat, rho=0.5).any()


@pytest.mark.claim("SOFIM-step-bound")
@given(seeds, st.integers(1, 8), LOGS, LOGS)
def test_the_step_is_bounded_and_the_bound_is_attained_at_sqrt_rho(seed, d, log_norm, log_rho):
    rho = 10.0**log_rho
    bound = 0.5 / np.sqrt(rho)
    longest = np.linalg.norm(direction(vectors(seed, d, np.sqrt(rho)), rho=rho))
    check(
        inequality(
            np.linalg.norm(direction(vectors(seed, d, 10.0**log_norm), rho=rho)),
            bound,
            rounding=(d + 8) * U64 * bound,
        ),
        distance("attained", longest, bound, budget=(d + 8) * U64 * bound),
    )


def test_directions_of_a_batch_zero_and_empty():
    M_hat = frozen(np.random.default_rng(5).standard_normal((2, 3, 4)))
    for evaluate in (direction, two_term_direction, bracket_direction):
        singles = np.array([[evaluate(v, rho=0.5) for v in row] for row in M_hat])
        check(distance("batch", evaluate(M_hat, rho=0.5), singles, budget=64 * U64 * np.linalg.norm(singles)))
        assert not evaluate(np.zeros(3), rho=0.5).any()
        empty = evaluate(np.zeros((2, 0)), rho=0.5)
        assert empty.shape == (2, 0)


# ---- the step


@pytest.mark.claim("SOFIM-closed-form")
def test_golden_steps():
    w, state = np.array([1.0, -2.0]), init((2,))
    golden = [
        ("0.9973333333333", "-1.984"),
        ("0.9946485498702", "-1.967936580179"),
        ("0.9919447873692", "-1.951806938769"),
    ]
    for row in golden:
        update, state = step(w * np.array([1.0, 3.0]), state, beta=0.9, rho=0.5)
        w = w - 0.1 * update
        check(*(printed("w", x, digits, rounding=64 * U64) for x, digits in zip(w, row, strict=True)))
    assert state.t == 3


@given(seeds, st.floats(0.0, 1.0, exclude_max=True), st.integers(1, 6))
def test_a_step_is_bias_corrected_momentum_over_one_scalar(seed, beta, steps):
    g = np.random.default_rng(seed).standard_normal((steps, 5))
    state = init(g[0])
    for x in g:
        update, state = step(frozen(x), state, beta=beta, rho=0.5)
    weights = (1 - beta) * beta ** np.arange(steps - 1, -1, -1.0)
    M = weights @ g
    total = weights.sum()
    # A few roundings per step in M, and that of beta^t, relative to 1 - beta^t.
    budget = 16 * steps * U64 * (1 + 1 / total) * np.abs(weights / total) @ np.abs(g) * 4
    got = update * (0.5 + np.sum((M / total) ** 2))
    check(inequality(np.abs(got - M / total), 0.0, rounding=budget.max() * (1 + np.sum((M / total) ** 2))))
    check(recursion(state.M, M, weights @ np.abs(g), operations=3 * steps, u=U64))
    assert state.t == steps


@pytest.mark.parametrize("beta", [0.0, 0.9, 1 - 1e-8, 1 - EPS / 2])
def test_the_first_step_is_exact_for_every_beta(beta):
    g = np.array([1.0, -3.0, 0.25])
    update, _ = step(g, init(g), beta=beta, rho=0.5)
    check(recursion(update, direction(g, rho=0.5), np.abs(direction(g, rho=0.5)), operations=8, u=U64))


@pytest.mark.claim("SOFIM-scaling")
@given(seeds, st.sampled_from([2.0**-20, 4.0, 2.0**30]))
def test_the_scaling_group_is_exact(seed, c):
    g = np.random.default_rng(seed).standard_normal((3, 4))
    plain, scaled = init((4,)), init((4,))
    for x in g:
        update, plain = step(x, plain, rho=0.5)
        other, scaled = step(c * x, scaled, rho=0.5 * c * c)
        assert np.array_equal(c * other, update)


@pytest.mark.claim("SOFIM-noise")
def test_one_norm_over_all_parameters_is_not_one_per_layer():
    g = np.array([3.0, 0.0, 0.0, 1.0])
    whole, _ = step(g, init(g))
    layers, _ = step(g.reshape(2, 2), init((2, 2)))
    check(inequality(1e-2, np.linalg.norm(whole - layers.reshape(4)), rounding=0.0))


def test_nothing_is_modified_or_shared():
    state = SofimState(frozen(np.ones(3)), 2)
    _, after = step(frozen(np.arange(3.0)), state)
    assert not np.shares_memory(after.M, state.M)
    assert (state.t, after.t) == (2, 3)
    assert init((2, 3)).M.shape == init(np.ones((2, 3))).M.shape == (2, 3)


def test_a_batch_is_a_loop_of_singles():
    g = np.random.default_rng(9).standard_normal((3, 2, 5))
    together, state = init((2, 5)), [init((5,)), init((5,))]
    for x in g:
        update, together = step(x, together)
        pairs = [step(x[i], state[i]) for i in range(2)]
        state = [after for _, after in pairs]
    check(
        distance("batch", update, np.array([u for u, _ in pairs]), budget=64 * U64 * np.linalg.norm(update))
    )


# ---- errors

v_ = np.ones(3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: direction(v_, rho=0.0), ValueError, "rho must be above 0, got 0.0"),
        (lambda: direction(v_, rho=-1.0), ValueError, "rho must be above 0"),
        (lambda: direction(np.float64(1.0), rho=0.5), TypeError, "M_hat must be a float64 array"),
        (lambda: direction(np.array(1.0), rho=0.5), ValueError, r"M_hat must be float64 of shape \(..., d\)"),
        (lambda: direction(v_ * np.nan, rho=0.5), ValueError, "M_hat must be finite, got 3"),
        (lambda: two_term_direction(1e200 * v_, rho=0.5), ValueError, "M_hat must have rho.2, .* in range"),
        (lambda: bracket_direction(1e200 * v_, rho=0.5), ValueError, "M_hat must have rho.2, .* in range"),
        (lambda: two_term_direction(v_, rho=np.inf), ValueError, "rho must be finite"),
        (lambda: bracket_direction(v_, rho="1"), TypeError, "rho must be a real number"),
        (lambda: sherman_morrison_solve(1.0, v_, v_, np.ones(2)), ValueError, r"u must have shape \(2,\)"),
        (lambda: sherman_morrison_solve(1.0, v_, np.ones(2), v_), ValueError, r"v must have shape \(3,\)"),
        (lambda: sherman_morrison_solve(np.ones(2), v_, v_, v_), ValueError, r"A must have shape \(3, 3\)"),
        (lambda: sherman_morrison_solve([1.0], v_, v_, v_), TypeError, "A must be a real number"),
        (lambda: sherman_morrison_solve(1e-300, 1e300 * v_, v_, v_), ValueError, "A must be large enough"),
        (lambda: init(np.ones(2, dtype=int)), ValueError, "w must be float64"),
        (lambda: init(()), ValueError, "w must have at least 1 axes"),
        (lambda: step(v_, init((2,))), ValueError, r"g must have shape \(2,\), got \(3,\)"),
        (lambda: step(v_ * np.inf, init(v_)), ValueError, "g must be finite"),
        (lambda: step(v_, init(v_), beta=1.0), ValueError, r"beta must be in \[0, 1\)"),
        (lambda: step(v_, init(v_), rho=0.0), ValueError, "rho must be above 0"),
        (lambda: step(v_, SofimState(v_, -1)), ValueError, "state.t must be at least 0"),
    ],
)
def test_a_bad_argument_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
