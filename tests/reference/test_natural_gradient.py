"""Exact Fisher matrices against their definition, the Gauss-Newton matrix and the expected Hessian."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs_checks.ratios import inequality
from reference.natural_gradient import (
    NaturalGradientState,
    categorical_fisher,
    empirical_fisher,
    gauss_newton,
    gaussian_fisher,
    init,
    linear_jacobian,
    softmax,
    softmax_hessian,
    step,
)
from tests.reference.cases import SCALES, U64, check, condition, distance, formula_budget, frozen, size, spd
from tests.strategies import seeds


@st.composite
def models(draw):
    """Jacobians (N, k, P), logits (N, k) and a generator."""
    rng = np.random.default_rng(draw(seeds))
    N, k, P = draw(st.integers(1, 5)), draw(st.integers(1, 4)), draw(st.integers(1, 6))
    z = frozen(draw(st.floats(0.1, 5.0)) * rng.standard_normal((N, k)))
    return frozen(rng.standard_normal((N, k, P))), z, rng


def test_softmax_by_hand_and_at_every_size():
    p = softmax(np.log(np.array([[1.0, 2.0, 5.0], [3.0, 3.0, 2.0]])))
    check(distance("p", p, np.array([[0.125, 0.25, 0.625], [0.375, 0.375, 0.25]]), budget=32 * U64))
    assert np.array_equal(softmax(np.array([1e308, -1e308])), [1.0, 0.0])
    for scale in SCALES:
        got = softmax(np.array([0.0, 0.0, -0.0]) + scale)
        check(distance("equal logits", got, np.full(3, 1 / 3), budget=4 * U64))
    assert softmax(np.zeros((2, 0))).shape == (2, 0)


@given(models())
def test_the_fisher_matrix_is_the_gauss_newton_matrix(case):
    J, z, _ = case
    want = gauss_newton(J, softmax_hessian(z))
    scale = float(np.square(J).sum()) / len(J)
    check(distance("F", categorical_fisher(J, z), want, budget=formula_budget(scale, max(J.shape))))


@pytest.mark.claim("FOUND-fim-hessian")
@given(models())
def test_the_fisher_matrix_is_the_expected_hessian_of_a_model_with_curvature(case):
    """Logits ``z_i + J_i theta + theta^T B_i theta / 2`` at theta = 0.

    The Hessian of ``-log p_y`` is ``J^T Lambda J + sum_i (p - e_y)_i B_i``; under the model the second
    term has mean zero.
    """
    J, z, rng = case
    N, k, P = J.shape
    B = rng.standard_normal((N, k, P, P))
    B = B + B.mT
    p = softmax(z)
    expected = np.zeros((P, P))
    for y in range(k):
        curved = np.einsum("ni,niab->nab", p - np.eye(k)[y], B)
        expected += np.einsum("n,nab->ab", p[:, y], J.mT @ softmax_hessian(z) @ J + curved) / N
    scale = (float(np.square(J).sum()) + k * float(np.abs(B).sum())) / N
    check(distance("F", categorical_fisher(J, z), expected, budget=formula_budget(scale, max(J.shape))))


@pytest.mark.claim("FOUND-fim-hessian")
def test_the_empirical_fisher_matrix_is_another_matrix():
    """Two labels, probabilities 1/3 and 2/3, one parameter: 2/9 against 4/9 or 1/9, by the label."""
    z = np.array([[0.0, np.log(2.0)]])
    J = np.array([[[1.0], [0.0]]])
    check(distance("F", categorical_fisher(J, z), np.array([[2 / 9]]), budget=8 * U64))
    for y, want in ((0, 4 / 9), (1, 1 / 9)):
        g = (softmax(z) - np.eye(2)[y])[:, :1]
        check(distance("empirical", empirical_fisher(g), np.array([[want]]), budget=8 * U64))


@pytest.mark.claim("FOUND-fim-hessian")
def test_the_empirical_fisher_matrix_agrees_where_the_labels_follow_the_model():
    rng = np.random.default_rng(1)
    J, z = rng.standard_normal((1, 3, 4)), np.log(np.array([[1.0, 2.0, 5.0]]))
    labels = np.repeat(np.arange(3), (1, 2, 5))  # exactly the frequencies 1/8, 2/8, 5/8
    g = (softmax(z) - np.eye(3)[labels]) @ J[0]
    F = categorical_fisher(J, z)
    check(distance("F", empirical_fisher(g), F, budget=formula_budget(float(np.square(J).sum()), 8)))


@given(models(), st.floats(0.1, 10.0))
def test_the_gaussian_fisher_matrix_is_gauss_newton_and_the_mean_over_symmetric_noise(case, sigma):
    J = case[0]
    N, k, P = J.shape
    F = gaussian_fisher(J, sigma=sigma)
    budget = formula_budget(float(np.square(J).sum()) / sigma**2 / N, max(J.shape))
    Lambda = np.broadcast_to(np.eye(k) / sigma**2, (N, k, k))
    check(distance("Gauss-Newton", F, gauss_newton(J, Lambda), budget=budget))
    noise = sigma * np.sqrt(k) * np.concatenate([np.eye(k), -np.eye(k)])  # second moment sigma^2 I
    scores = (noise / sigma**2) @ J
    check(distance("definition", F, empirical_fisher(scores.reshape(-1, P)), budget=budget))


@given(models())
def test_fisher_matrices_are_symmetric_and_positive_semidefinite(case):
    J, z, _ = case
    for F in (categorical_fisher(J, z), gaussian_fisher(J), empirical_fisher(J[:, 0])):
        assert np.array_equal(F, F.T)
        check(inequality(-np.linalg.eigvalsh(F)[0], 0.0, rounding=formula_budget(size(F), len(F))))


def test_adding_a_number_to_all_logits_costs_nothing():
    rng = np.random.default_rng(2)
    x, z = rng.standard_normal((4, 2)), rng.standard_normal((4, 3))
    J = linear_jacobian(x, outputs=3)
    shift = np.tile(rng.standard_normal(2), 3)  # the same row added to every row of W
    F = categorical_fisher(J, z)
    budget = formula_budget(float(np.square(J).sum()) * size(shift), 6)
    check(distance("F shift", F @ shift, np.zeros(6), budget=budget))


def test_the_jacobian_of_a_linear_model():
    rng = np.random.default_rng(3)
    x, W = rng.integers(-4, 5, (5, 3)).astype(float), rng.integers(-4, 5, (2, 3)).astype(float)
    J = linear_jacobian(x, outputs=2)
    assert J.shape == (5, 2, 6)
    assert np.array_equal(J @ W.reshape(-1), x @ W.T)


@pytest.mark.claim("FOUND-natural-gradient")
@given(seeds, st.integers(1, 6), st.floats(0.0, 3.0))
def test_along_eigenvectors_the_step_is_the_gradient_over_the_eigenvalue(seed, P, decades):
    rng = np.random.default_rng(seed)
    V = np.linalg.qr(rng.standard_normal((P, P)))[0]
    phi, c = np.logspace(0.0, -decades, P), rng.standard_normal(P)
    F = (V * phi) @ V.T
    update, state = step(frozen(V @ c), init((P,)), F=0.5 * F + 0.5 * F.T)
    check(distance("update", V.T @ update, c / phi, budget=formula_budget(size(c / phi), P, 1 / phi[-1])))
    again, _ = step(V @ c, NaturalGradientState(state.F))
    assert np.array_equal(again, update)


def test_the_step_does_not_depend_on_coordinates_and_the_loss_scale():
    rng = np.random.default_rng(4)
    F, g, B = spd(rng, 3, 1.0), rng.standard_normal(3), rng.standard_normal((3, 3))
    plain, _ = step(g, init(g), F=F)
    turned = B.T @ F @ B
    other, _ = step(B.T @ g, init(g), F=0.5 * turned + 0.5 * turned.T)  # w = B v
    budget = formula_budget(size(plain) * condition(B), 3, condition(turned), condition(F))
    check(distance("B v", B @ other, plain, budget=budget))
    half, _ = step(0.5 * g, init(g), F=0.25 * F)
    check(distance("scaled loss and gradient", half, 2 * plain, budget=2 * budget))


def test_before_any_metric_the_step_is_the_gradient():
    g = np.array([[1.0, -2.0], [0.5, 3.0]])
    update, state = step(g, init(g))
    assert np.array_equal(update, g)
    assert np.array_equal(state.F, np.broadcast_to(np.eye(2), (2, 2, 2)))
    decayed, _ = step(g, state, weight_decay=0.5, W=2 * g)
    assert np.array_equal(decayed, g + g)
    assert step(np.zeros((2, 0)), init((2, 0)))[0].shape == (2, 0)


def test_a_singular_metric_needs_damping():
    F, g = np.diag([4.0, 0.0]), np.array([1.0, 1.0])
    with pytest.raises(ValueError, match="F must be positive definite"):
        step(g, init(g), F=F)
    update, state = step(g, init(g), F=F, damping=1.0)
    check(distance("damped", update, np.array([0.2, 1.0]), budget=formula_budget(1.0, 2, 5.0)))
    assert np.array_equal(state.F, F)
    assert not np.shares_memory(state.F, F)


def test_batches_are_loops_of_singles():
    rng = np.random.default_rng(5)
    J, z, g = rng.standard_normal((2, 4, 3, 2)), rng.standard_normal((2, 4, 3)), rng.standard_normal((2, 2))
    F = categorical_fisher(J, z)
    update, _ = step(g, init(g), F=F, damping=0.1)
    for i in range(2):
        budget = formula_budget(size(J[i]) ** 2, 12)
        check(distance("F", F[i], categorical_fisher(J[i], z[i]), budget=budget))
        single, _ = step(g[i], init(g[i]), F=F[i], damping=0.1)
        check(distance("update", update[i], single, budget=formula_budget(size(single), 2, 1e3)))


J_, Z_, P_ = np.ones((2, 3, 4)), np.ones((2, 3)), np.ones(4)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: softmax(np.float64(1.0)), TypeError, "z must be a float64 array"),
        (lambda: softmax(np.array([np.inf, 0.0])), ValueError, "z must be finite"),
        (lambda: softmax_hessian(Z_.astype(np.float32)), ValueError, "z must be float64"),
        (lambda: linear_jacobian(Z_, outputs=-1), ValueError, "outputs must be at least 0"),
        (lambda: categorical_fisher(J_[0], Z_), ValueError, r"J must be float64 of shape \(..., N, k, P\)"),
        (lambda: categorical_fisher(J_, Z_.T), ValueError, r"z must have shape \(2, 3\)"),
        (lambda: categorical_fisher(J_[:0], Z_[:0]), ValueError, "J must hold at least one sample"),
        (
            lambda: categorical_fisher(J_ * 1e200 * np.arange(3)[:, None], Z_),
            ValueError,
            "J must have products",
        ),
        (lambda: gaussian_fisher(J_, sigma=0.0), ValueError, "sigma must be above 0"),
        (lambda: gaussian_fisher(J_, sigma=1e-200), ValueError, "J must have products in range"),
        (lambda: gauss_newton(J_, J_), ValueError, r"Lambda must have shape \(2, 3, 3\)"),
        (lambda: gauss_newton(J_ * 1e200, np.ones((2, 3, 3))), ValueError, "J must have products in range"),
        (lambda: empirical_fisher(Z_[:0]), ValueError, "g must hold at least one sample"),
        (lambda: empirical_fisher(Z_ * 1e200), ValueError, "g must have products in range"),
        (lambda: init(()), ValueError, "w must have at least 1 axes"),
        (lambda: step(P_, init(P_), F=np.eye(3)), ValueError, r"F must have shape \(4, 4\)"),
        (lambda: step(P_[:3], init(P_)), ValueError, r"state.F must have shape \(3, 3\)"),
        (
            lambda: step(P_, init(P_), F=-np.eye(4), damping=0.5),
            ValueError,
            r"F \+ damping I must be positive",
        ),
        (lambda: step(P_, init(P_), F=np.triu(np.ones((4, 4)))), ValueError, "F must be symmetric"),
        (lambda: step(P_, init(P_), damping=-1.0), ValueError, "damping must be at least 0"),
        (lambda: step(P_, init(P_), weight_decay=0.1), ValueError, "W must be given"),
    ],
)
def test_a_bad_argument_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
