"""Kronecker factors: positive definite matrices, the half-steps of Theorem 4.1, the step of Theorem 4.2."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs_checks.ratios import Ratio, inequality, inverse_root, worst
from reference.kronecker import (
    contraction_factor,
    coupling_bound,
    fisher_lmo,
    fixed_point,
    hilbert_distance,
    inverse_sqrt,
    left_factor,
    logdet_divergence,
    objective,
    right_factor,
)
from reference.polar import nuclear_norm, polar_factor, spectral_lmo
from tests.reference.cases import (
    SCALES,
    U64,
    check,
    condition,
    distance,
    formula_budget,
    frozen,
    kronecker_case,
    kronecker_samples,
    orthogonal,
    size,
    spd,
)
from tests.strategies import seeds

EPS = np.finfo(np.float64).eps


# ---- positive definite matrices


@given(seeds, st.integers(1, 12), st.floats(0.0, 8.0), st.sampled_from(SCALES))
def test_inverse_sqrt_is_the_symmetric_positive_root(seed, side, decades, scale):
    P = frozen(scale * spd(np.random.default_rng(seed), side, decades))
    A = inverse_sqrt(P)
    assert np.array_equal(A, A.T)
    check(inverse_root(A * np.sqrt(scale), P / scale, p=2, u=U64))


@pytest.mark.parametrize(
    ("P", "message"),
    [
        (np.diag([1.0, -1.0]), "P must be positive definite to working precision, got eigenvalues from -1"),
        (np.diag([1.0, 0.0]), "P must be positive definite"),
        (np.zeros((3, 3)), "P must be positive definite"),
        (np.diag([1.0, 2 * EPS]), "P must be positive definite"),
        (
            np.array([[1.0, 1e-9], [0.0, 1.0]]),
            r"P must be symmetric to rounding, got \|P - P\^T\| up to 1e-09",
        ),
        (np.zeros((2, 3)), "P must be square"),
        (np.eye(2, dtype=np.float32), "P must be float64"),
        (np.array([[np.nan]]), "P must be finite"),
    ],
)
def test_inverse_sqrt_refuses_what_has_no_root(P, message):
    with pytest.raises(ValueError, match=message):
        inverse_sqrt(P)
    with pytest.raises(ValueError, match="P must be"):
        inverse_sqrt(np.stack([np.eye(len(P)), P]) if P.shape[0] == P.shape[1] and P.dtype == float else P)


def test_inverse_sqrt_accepts_what_only_rounding_separates_from_symmetric():
    P = np.eye(2)
    P[0, 1] = EPS
    check(distance("averaged", inverse_sqrt(P), np.eye(2), budget=4 * EPS))
    barely = np.diag([1.0, 3 * EPS])
    check(distance("barely definite", inverse_sqrt(barely), np.diag(barely.diagonal() ** -0.5), budget=1.0))


def test_empty_factors():
    empty = np.zeros((2, 0, 0))
    assert inverse_sqrt(empty).shape == (2, 0, 0)
    assert np.array_equal(hilbert_distance(empty, empty), np.zeros(2))
    assert np.array_equal(logdet_divergence(empty, empty), np.zeros(2))
    assert fisher_lmo(np.zeros((3, 0)), np.eye(3), np.zeros((0, 0))).shape == (3, 0)


@given(seeds, st.integers(1, 8), st.floats(0.0, 4.0), st.floats(0.0, 4.0))
def test_logdet_divergence_is_its_formula(seed, side, decades, other):
    rng = np.random.default_rng(seed)
    X, Y = spd(rng, side, decades), spd(rng, side, other)
    X_over_Y = np.linalg.solve(Y, X).T
    want = np.trace(X_over_Y) - np.linalg.slogdet(X_over_Y)[1] - side
    terms = np.trace(X_over_Y) + abs(np.linalg.slogdet(X_over_Y)[1]) + side
    budget = formula_budget(terms, side, condition(X), condition(Y))
    check(distance("divergence", logdet_divergence(X, Y), want, budget=budget))
    check(inequality(0.0, logdet_divergence(X, Y), rounding=budget))


def test_logdet_divergence_of_diagonals_is_a_sum_of_scalars():
    x, y = np.array([3.0, 0.5]), np.array([2.0, 4.0])
    want = np.sum(x / y - np.log(x / y) - 1)
    check(distance("scalars", logdet_divergence(np.diag(x), np.diag(y)), want, budget=32 * U64))
    check(distance("itself", logdet_divergence(np.diag(x), np.diag(x)), np.float64(0.0), budget=32 * U64))
    assert logdet_divergence(np.diag(x), np.diag(y)) != logdet_divergence(np.diag(y), np.diag(x))


@given(seeds, st.integers(1, 8), st.floats(0.0, 4.0), st.sampled_from(SCALES), st.sampled_from(SCALES))
def test_hilbert_distance_is_a_projective_metric(seed, side, decades, alpha, beta):
    rng = np.random.default_rng(seed)
    X, Y, Z = (spd(rng, side, decades) for _ in range(3))
    w = np.linalg.eigvals(np.linalg.solve(Y, X)).real
    kappa = 4 * max(condition(X), condition(Y), condition(Z))
    budget = formula_budget(1.0, side, kappa)
    d = hilbert_distance(X, Y)
    inverses = [0.5 * (inverse + inverse.T) for inverse in (np.linalg.inv(X), np.linalg.inv(Y))]
    eigenvalue_error = budget * w.max() / w.min()  # eigvals is backward stable relative to the largest only
    check(
        distance("definition", d, np.log(w.max() / w.min()), budget=budget + eigenvalue_error),
        distance("projective", hilbert_distance(alpha * X, beta * Y), d, budget=budget),
        distance("symmetric", hilbert_distance(Y, X), d, budget=budget),
        distance("inversion", hilbert_distance(*inverses), d, budget=2 * budget),
        inequality(d, hilbert_distance(X, Z) + hilbert_distance(Z, Y), rounding=3 * budget),
    )


def test_hilbert_distance_of_diagonals():
    x, y = np.array([8.0, 1.0, 2.0]), np.array([1.0, 4.0, 2.0])
    check(distance("log 32", hilbert_distance(np.diag(x), np.diag(y)), np.log(32.0), budget=32 * U64))
    far = hilbert_distance(np.diag([1.0, 1e-15]), np.diag([1e-15, 1.0]))
    check(distance("beyond 1/u", far, 60 * np.log(10) / 2, budget=1e3 * U64 * 70))


# ---- Theorem 4.1


@given(kronecker_case())
def test_left_factor_is_its_formula(case):
    G, _, Q, mu, _ = case
    inverse = np.linalg.inv(Q)
    n = len(Q)
    data = np.einsum("kia,ab,kjb->ij", G, inverse, G) / len(G)
    want = data / n + mu * np.trace(inverse) / n * np.eye(G.shape[1])
    budget = formula_budget(size(want), len(G) * n, condition(Q))
    check(distance("left factor", left_factor(G, Q, mu=mu), want, budget=budget))


@given(kronecker_case())
def test_right_factor_is_its_formula(case):
    G, P, _, mu, _ = case
    inverse = np.linalg.inv(P)
    m = len(P)
    data = np.einsum("kai,ab,kbj->ij", G, inverse, G) / len(G)
    want = data / m + mu * np.trace(inverse) / m * np.eye(G.shape[2])
    budget = formula_budget(size(want), len(G) * m, condition(P))
    check(distance("right factor", right_factor(G, P, mu=mu), want, budget=budget))


@pytest.mark.claim("FISMO-J-logdet")
@given(kronecker_case(max_decades=2.0, max_side=4))
def test_objective_is_the_logdet_divergence_up_to_a_constant_and_blind_to_the_gauge(case):
    G, P, Q, mu, rng = case
    m, n = len(P), len(Q)
    v = G.transpose(0, 2, 1).reshape(len(G), m * n)  # columns stacked
    covariance = v.T @ v / len(G) + mu * np.eye(m * n)
    others = spd(rng, m, 1.0), spd(rng, n, 1.0)
    constant = -np.linalg.slogdet(covariance)[1] - m * n
    values, divergences = [], []
    for left, right in ((P, Q), others):
        F = np.kron(right, left)
        values.append(objective(G, left, right, mu=mu))
        divergences.append(logdet_divergence(covariance, 0.5 * (F + F.T)) - constant)
    kappas = condition(np.kron(Q, P)), condition(covariance)
    terms = (
        abs(values[0])
        + abs(values[1])
        + abs(constant)
        + 2 * np.trace(covariance) * condition(P) * condition(Q)
    )
    budget = formula_budget(terms, m * n, *kappas)
    check(
        distance("J", values[0], divergences[0], budget=budget),
        distance("J elsewhere", values[1], divergences[1], budget=budget),
        distance("gauge", objective(G, 4.0 * P, 0.25 * Q, mu=mu), values[0], budget=budget),
    )


@pytest.mark.claim("FISMO-T4.1-monotone")
@given(kronecker_case(max_decades=2.0))
def test_a_half_step_minimises_the_objective_in_its_block(case):
    G, P, Q, mu, rng = case
    best_P, best_Q = left_factor(G, Q, mu=mu), right_factor(G, P, mu=mu)
    rivals = [P, *(best_P + 0.05 * np.trace(best_P) * spd(rng, len(P), 1.0) for _ in range(2))]
    J = objective(G, best_P, Q, mu=mu)
    rounding = formula_budget(
        abs(J) + len(P) * len(Q), len(G) * len(Q), condition(P), condition(Q), condition(best_P)
    )
    check(
        *(inequality(J, objective(G, rival, Q, mu=mu), rounding=rounding) for rival in rivals),
        inequality(objective(G, P, best_Q, mu=mu), objective(G, P, Q, mu=mu), rounding=rounding + rounding),
    )


@pytest.mark.claim("FISMO-T4.1-pseudo-samples")
@given(kronecker_case(max_side=4))
def test_damping_is_one_pseudo_sample_per_entry(case):
    G, _, Q, mu, _ = case
    N, m, n = G.shape
    pseudo = np.sqrt(N * mu) * np.eye(m * n).reshape(m * n, m, n)
    augmented = np.concatenate([G, pseudo]) * np.sqrt((N + m * n) / N)  # a mean over N, not over N + mn
    damped = left_factor(G, Q, mu=mu)
    budget = formula_budget(size(damped), N * n * m, condition(Q))
    check(distance("pseudo-samples", left_factor(augmented, Q, mu=0.0), damped, budget=budget))


@pytest.mark.claim("FISMO-T4.1-recovery")
@given(seeds, st.integers(1, 4), st.integers(1, 4))
def test_one_sweep_recovers_a_kronecker_covariance(seed, m, n):
    rng = np.random.default_rng(seed)
    U, V = 10.0 ** rng.uniform(-2, 2, m), 10.0 ** rng.uniform(-2, 2, n)
    R, S = orthogonal(rng, m, m), orthogonal(rng, n, n)
    G = R @ kronecker_samples(U, V) @ S.T
    P = left_factor(G, spd(rng, n, 2.0), mu=0.0)
    Q = right_factor(G, P, mu=0.0)
    F, want = np.kron(Q, P), np.kron((S * V) @ S.T, (R * U) @ R.T)
    budget = formula_budget(size(want), m * n, 100 * U.max() / U.min(), V.max() / V.min(), formulas=2)
    check(distance("covariance", F, want, budget=budget))


# ---- Theorem 4.2


@pytest.mark.claim("FISMO-T4.2-lmo")
@given(kronecker_case(max_decades=2.0), st.floats(0.0, 10.0))
def test_fisher_lmo_solves_the_spectral_trust_region_problem(case, radius):
    samples, P, Q, _, rng = case
    G = samples[0]
    X = fisher_lmo(G, P, Q, radius=radius)
    root_P, root_Q = np.linalg.cholesky(P), np.linalg.cholesky(Q)
    inside = np.linalg.norm(root_P.T @ X @ root_Q, 2)  # the same norm as with symmetric roots
    whitened = np.linalg.solve(root_P, np.linalg.solve(root_Q, G.T).T)
    value = -radius * nuclear_norm(whitened)
    rivals = rng.standard_normal((8, *G.shape))
    rivals *= radius / np.linalg.norm(rivals, ord=2, axis=(-2, -1), keepdims=True)
    rivals = np.linalg.inv(root_P).T @ rivals @ np.linalg.inv(root_Q)
    k, kappas = max(G.shape), (condition(P), condition(Q))
    rounding = formula_budget(abs(value) + radius * size(G), k, *kappas)
    check(
        distance("value", np.vdot(G, X), value, budget=rounding),
        inequality(inside, radius, rounding=formula_budget(radius, k, *kappas)),
        inequality(np.vdot(G, X), (G * rivals).sum(axis=(-2, -1)), rounding=rounding),
    )


@pytest.mark.claim("FISMO-T4.2-gauge")
@given(kronecker_case(max_decades=1.0))
def test_fisher_lmo_with_cholesky_roots_is_the_same_step(case):
    samples, P, Q, _, _ = case
    G = samples[0]
    S, K = np.linalg.cholesky(P), np.linalg.cholesky(Q)
    whitened = np.linalg.inv(S) @ G @ np.linalg.inv(K).T
    want = -np.linalg.inv(S).T @ polar_factor(whitened) @ np.linalg.inv(K)
    kappa = condition(whitened) * condition(P) * condition(Q)
    check(
        distance("gauge", fisher_lmo(G, P, Q), want, budget=formula_budget(size(want), max(G.shape), kappa))
    )


def test_fisher_lmo_without_factors_is_the_spectral_lmo():
    G = np.random.default_rng(2).standard_normal((3, 4))
    check(
        distance(
            "identity",
            fisher_lmo(G, np.eye(3), np.eye(4), radius=2.0),
            spectral_lmo(G, radius=2.0),
            budget=formula_budget(4.0, 4),
        )
    )
    assert not fisher_lmo(0.0 * G, np.eye(3), np.eye(4)).any()


def test_fisher_lmo_of_deficient_rank_keeps_the_value():
    G, P, Q = np.outer([1.0, 2.0], [3.0, 0.0, 1.0]), np.diag([4.0, 1.0]), np.diag([1.0, 9.0, 4.0])
    X = fisher_lmo(G, P, Q)
    whitened = np.outer([0.5, 2.0], [3.0, 0.0, 0.5])
    check(distance("value", np.vdot(G, X), -np.linalg.norm(whitened), budget=formula_budget(10.0, 3, 9.0)))
    assert np.linalg.matrix_rank(X) == 1


# ---- errors

G_, I2, I3 = np.ones((2, 3)), np.eye(2), np.eye(3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: left_factor(G_, I2, mu=0.1), ValueError, r"Q must have shape \(3, 3\)"),
        (lambda: left_factor(G_, -I3, mu=0.1), ValueError, "Q must be positive definite"),
        (lambda: right_factor(G_, I3, mu=0.1), ValueError, r"P must have shape \(2, 2\)"),
        (lambda: left_factor(G_, I3, mu=-0.1), ValueError, "mu must be at least 0"),
        (lambda: left_factor(G_, I3, mu=np.nan), ValueError, "mu must be finite"),
        (lambda: left_factor(G_, I3, mu="0"), TypeError, "mu must be a real number"),
        (lambda: left_factor(np.ones((0, 2, 3)), I3, mu=0.1), ValueError, "G must have at least one sample"),
        (
            lambda: left_factor(np.ones((2, 0)), I3, mu=0.1),
            ValueError,
            "G must have at least one sample, row and",
        ),
        (lambda: left_factor(1e200 * G_, I3, mu=0.1), ValueError, "G must have a square in range"),
        (
            lambda: left_factor(np.ones((2, 5, 2, 3)), np.stack([I3] * 3), mu=0.1),
            ValueError,
            "Q must have shape",
        ),
        (lambda: coupling_bound(1e200 * G_), ValueError, "G must have a square in range"),
        (lambda: coupling_bound([[1.0]]), TypeError, "G must be a float64 array"),
        (lambda: contraction_factor(G_, mu=-1.0), ValueError, "mu must be at least 0"),
        (lambda: objective(G_, I3, I3, mu=0.1), ValueError, "P must have shape"),
        (lambda: objective(G_, I2, I2, mu=0.1), ValueError, "Q must have shape"),
        (lambda: objective(G_ * np.nan, I2, I3, mu=0.1), ValueError, "G must be finite, got 6"),
        (lambda: logdet_divergence(I2, I3), ValueError, "Y must have shape"),
        (lambda: logdet_divergence(-I2, I2), ValueError, "X must be positive definite"),
        (lambda: hilbert_distance(I2, -I2), ValueError, "Y must be positive definite"),
        (lambda: fisher_lmo(G_, I2, I3, radius=-1.0), ValueError, "radius must be at least 0"),
        (lambda: fisher_lmo(G_, I3, I3), ValueError, "P must have shape"),
        (lambda: fixed_point(G_, mu=0.1, method="sor"), ValueError, "method must be one of 'gauss-seidel'"),
        (lambda: fixed_point(G_, mu=0.1, damping="none"), ValueError, "damping must be one of 'theorem'"),
        (lambda: fixed_point(G_, mu=0.1, P0=I3), ValueError, "P0 must have shape"),
        (lambda: fixed_point(G_, mu=0.1, Q0=-I3), ValueError, "Q0 must be positive definite"),
        (lambda: fixed_point(G_, mu=0.1, tolerance=-EPS), ValueError, "tolerance must be at least 0"),
        (lambda: fixed_point(G_, mu=0.1, max_iterations=0), ValueError, "max_iterations must be at least 1"),
    ],
)
def test_a_bad_argument_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_control_the_comparison_sees_a_transposed_sample_and_another_damping():
    rng = np.random.default_rng(23)
    G, Q, mu = rng.standard_normal((3, 2, 2)), spd(rng, 2, 1.0), 0.3
    right = left_factor(G, Q, mu=mu)
    wrong = [
        left_factor(G.mT, Q, mu=mu),
        left_factor(G, Q, mu=mu) - mu * (np.trace(np.linalg.inv(Q)) / 2 - 1) * I2,
    ]
    budget = formula_budget(size(right), 6, condition(Q))
    for X in wrong:
        assert not distance("fault", X, right, budget=budget).passed
    assert not worst([Ratio("fault", np.nan, 1.0)]).passed
