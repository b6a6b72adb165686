"""Nystrom sketches of known Hessians, and the two forms of the step."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs_checks.ratios import inequality, linear_solve
from reference.nystrom_sgd import (
    NystromState,
    column_count,
    direction,
    init,
    sketch,
    step,
    two_term_direction,
)
from tests.reference.cases import U64, check, condition, distance, formula_budget, frozen, size, spd
from tests.strategies import seeds


@pytest.mark.parametrize(("d", "count"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (1024, 10), (1025, 11)])
def test_the_published_number_of_columns(d, count):
    assert column_count(d=d) == count
    assert init((d,)).Z.shape == (d, count)


@given(seeds, st.integers(1, 6), st.floats(0.0, 2.0))
def test_all_columns_give_the_hessian(seed, d, decades):
    rng = np.random.default_rng(seed)
    H = spd(rng, d, decades)
    columns = rng.permutation(d)
    Z = sketch(H[:, columns], columns)
    check(distance("Z Z^T", Z @ Z.T, H, budget=formula_budget(size(H), d, condition(H))))


@given(seeds, st.integers(2, 6))
def test_as_many_columns_as_the_rank_give_the_hessian(seed, d):
    rng = np.random.default_rng(seed)
    B = rng.standard_normal((d, d // 2))
    H, columns = B @ B.T, range(d // 2)
    core = H[: d // 2, : d // 2]
    Z = sketch(frozen(H[:, : d // 2].copy()), columns)
    budget = formula_budget(size(H) * condition(core), d, condition(core))
    check(distance("Z Z^T", Z @ Z.T, H, budget=budget))


def test_an_indefinite_core_counts_by_absolute_value():
    H = np.array([[0.0, 2.0, 1.0], [2.0, 0.0, 3.0], [1.0, 3.0, 5.0]])
    Z = sketch(H[:, :2], (0, 1))
    want = H[:, :2] @ (np.eye(2) / 2) @ H[:2, :]  # |[[0, 2], [2, 0]]| is 2 I
    check(distance("Z Z^T", Z @ Z.T, want, budget=formula_budget(size(want), 3)))


def test_directions_below_rounding_are_left_out():
    v = np.random.default_rng(7).standard_normal((20, 5))
    H = v[:, :, None] * v[:, None, :]  # rank one: what rounding leaves of the other eigenvalues is noise
    Z = sketch(H[..., [1, 3, 4]], [1, 3, 4])
    assert (np.count_nonzero(np.linalg.norm(Z, axis=-2), axis=-1) == 1).all()
    core = np.square(v[:, [1, 3, 4]]).sum(axis=-1)
    worst = float((np.square(v).sum(axis=-1) ** 2 / core).max())
    check(distance("Z Z^T", Z @ Z.mT, H, budget=formula_budget(20 * worst, 5)))
    assert not sketch(np.zeros((3, 2)), (0, 2)).any()


@given(seeds, st.integers(1, 6), st.integers(0, 7), st.floats(-4.0, 4.0))
def test_the_stable_form_solves_the_system_at_every_scale(seed, d, r, decades):
    rng = np.random.default_rng(seed)
    g, Z, rho = frozen(rng.standard_normal(d)), frozen(rng.standard_normal((d, r))), 10.0**decades
    check(linear_solve(Z @ Z.T + rho * np.eye(d), direction(g, Z, rho=rho), g, u=U64))


@pytest.mark.claim("NYSTROM-woodbury")
@given(seeds, st.integers(1, 6), st.integers(0, 4), st.floats(-4.0, 4.0))
def test_both_forms_agree_within_the_cancellation(seed, d, r, decades):
    rng = np.random.default_rng(seed)
    g, Z, rho = rng.standard_normal(d), rng.standard_normal((d, r)), 10.0**decades
    magnified = 1 + 2 * size(Z) ** 2 / rho
    budget = formula_budget(size(g) / rho, d + r, magnified)
    check(distance("step", two_term_direction(g, Z, rho=rho), direction(g, Z, rho=rho), budget=budget))


@pytest.mark.claim("NYSTROM-woodbury")
def test_the_two_term_form_cancels_and_the_stable_one_does_not():
    rng = np.random.default_rng(1)
    Z, rho = rng.standard_normal((5, 2)), 2.0**-40
    g = Z @ np.array([1.0, -2.0])
    A = Z @ Z.T + rho * np.eye(5)
    check(linear_solve(A, direction(g, Z, rho=rho), g, u=U64))
    assert not linear_solve(A, two_term_direction(g, Z, rho=rho), g, u=U64).passed


def test_an_example_by_hand():
    H = np.diag([3.0, 1.0])
    Z = sketch(H[:, :1], (0,))
    for form in ("stable", "two-term"):
        update, state = step(np.array([8.0, 2.0]), init((2,)), rho=1.0, Z=Z, form=form)
        check(distance(form, update, np.array([2.0, 2.0]), budget=formula_budget(8.0, 2, 4.0)))
    assert np.array_equal(state.Z, Z)
    assert not np.shares_memory(state.Z, Z)


def test_the_sketch_stays_in_force_until_the_next():
    rng = np.random.default_rng(2)
    g, Z = rng.standard_normal(3), frozen(rng.standard_normal((3, 2)))
    first, state = step(g, init((3,), columns=1), rho=0.5, Z=Z)
    again, state = step(g, state, rho=0.5)
    assert np.array_equal(first, again)
    plain, _ = step(g, init((3,)), rho=0.5)
    check(distance("no sketch", plain, g / 0.5, budget=formula_budget(size(g) / 0.5, 3)))
    decayed, _ = step(g, state, rho=0.5, weight_decay=0.1, W=g)
    assert np.array_equal(decayed, first + 0.1 * g)


def test_a_batch_is_a_loop_of_singles():
    rng = np.random.default_rng(3)
    H = np.stack([spd(rng, 4, 1.0), spd(rng, 4, 1.0)])
    g = rng.standard_normal((2, 4))
    Z = sketch(H[..., [2, 0]], (2, 0))
    update, _ = step(g, NystromState(Z), rho=0.1)
    singles = [step(g[i], init((4,)), rho=0.1, Z=sketch(H[i][:, [2, 0]], (2, 0)))[0] for i in range(2)]
    check(distance("batch", update, np.stack(singles), budget=formula_budget(size(update), 4, 1e2)))


def test_nothing_to_do():
    for form in ("stable", "two-term"):
        update, _ = step(np.zeros((2, 0)), init((2, 0)), rho=1.0, form=form)
        assert update.shape == (2, 0)
        update, _ = step(np.ones(3), init((3,), columns=0), rho=0.5, form=form)
        check(distance("no columns", update, np.full(3, 2.0), budget=16 * U64))


def test_the_sketch_of_a_semidefinite_hessian_never_exceeds_it():
    rng = np.random.default_rng(4)
    B = rng.standard_normal((6, 4))
    H = B @ B.T
    Z = sketch(H[:, [0, 3]], (0, 3))
    least = np.linalg.eigvalsh(H - Z @ Z.T)[0]
    core = H[np.ix_([0, 3], [0, 3])]
    check(inequality(-least, 0.0, rounding=formula_budget(size(H) * condition(core), 6)))


G_, Z_ = np.ones(3), np.ones((3, 2))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: column_count(d=0), ValueError, "d must be at least 1"),
        (lambda: sketch(np.eye(3)[:, :2], (0,)), ValueError, "columns must be 2 different indices below 3"),
        (lambda: sketch(np.eye(3)[:, :2], (0, 0)), ValueError, "columns must be 2 different"),
        (lambda: sketch(np.eye(3)[:, :2], (0, 3)), ValueError, "columns must be 2 different"),
        (lambda: sketch(np.eye(3)[:, :2], (0, -1)), ValueError, "columns must be at least 0"),
        (lambda: sketch(np.eye(3)[:, :2], (0, 1.0)), TypeError, "columns must be an integer"),
        (lambda: sketch(np.triu(np.ones((3, 3))), (0, 1, 2)), ValueError, "C must have symmetric rows"),
        (lambda: sketch(G_, (0,)), ValueError, "C must be float64 of shape"),
        (lambda: direction(G_, Z_.T, rho=1.0), ValueError, r"Z must have shape \(3, 3\)"),
        (lambda: direction(G_, Z_, rho=0.0), ValueError, "rho must be above 0"),
        (lambda: direction(G_, 1e200 * Z_, rho=1.0), ValueError, "Z must have a square in range"),
        (lambda: two_term_direction(G_, 1e200 * Z_, rho=1.0), ValueError, "Z must have a square over rho"),
        (
            lambda: two_term_direction(1e200 * G_, 0 * Z_, rho=1e-200),
            ValueError,
            "g must have terms in range",
        ),
        (lambda: two_term_direction(G_, Z_, rho=1e-200), ValueError, "rho must be large enough"),
        (lambda: direction(1e200 * G_, Z_, rho=1e-200), ValueError, "g must have a quotient by rho"),
        (lambda: init((3,), columns=-1), ValueError, "columns must be at least 0"),
        (lambda: step(G_, init(G_), rho=1.0, form="dense"), ValueError, "form must be one of 'stable'"),
        (lambda: step(G_, init(G_), rho=1.0, weight_decay=0.1), ValueError, "W must be given"),
        (lambda: step(G_[:2], init(G_), rho=1.0), ValueError, "Z must have shape"),
    ],
)
def test_a_bad_argument_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
