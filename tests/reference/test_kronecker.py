"""Kronecker factors: Theorem 4.1, its alternation, Theorem 4.2."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs_checks.ratios import Ratio, inequality, inverse_root, worst
from reference.kronecker import (
    FixedPoint,
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
    orthogonal,
    printed,
    spd,
)
from tests.strategies import seeds

EPS = np.finfo(np.float64).eps
LOOSE = 1e-3  # a tolerance that is met long before rounding level
MANY = 5_000  # iterations no problem here should need
U_GOLDEN, V_GOLDEN = np.array([4.0, 1.0, 0.25]), np.array([3.0, 1.0, 0.5, 0.2])


def kronecker_samples(U: np.ndarray, V: np.ndarray) -> np.ndarray:
    """``mn`` samples ``sqrt(mn U_i V_j) e_i e_j^T``, whose covariance is ``diag(V) kron diag(U)`` exactly."""
    m, n = len(U), len(V)
    samples = np.zeros((m, n, m, n))
    i, j = np.indices((m, n))
    samples[i, j, i, j] = np.sqrt(m * n * np.outer(U, V))
    return frozen(samples.reshape(m * n, m, n))


def size(X: np.ndarray) -> float:
    return float(np.linalg.norm(np.reshape(X, -1)))


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


# ---- the alternation


@given(kronecker_case(max_decades=0.0))
def test_coupling_bound_is_an_upper_bound(case):
    G, _, _, _, rng = case
    x, y = rng.standard_normal((64, G.shape[1])), rng.standard_normal((64, G.shape[2]))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    y /= np.linalg.norm(y, axis=1, keepdims=True)
    attained = np.mean(np.einsum("si,kij,sj->sk", x, G, y) ** 2, axis=1)
    g2 = coupling_bound(G)
    check(inequality(attained, g2, rounding=formula_budget(g2, G.size)))


def test_coupling_bound_takes_the_least_of_three():
    rows = np.zeros((4, 2, 2))  # by rows and by entries 1; by columns 2
    rows[0, 0, 0] = rows[1, 1, 0] = rows[2, 0, 0] = rows[3, 1, 0] = np.sqrt(2.0)
    by_entry = np.stack([np.eye(2), np.array([[0.0, 1.0], [-1.0, 0.0]])]) * np.sqrt(2.0)
    for G, want in ((rows, 1.0), (rows.swapaxes(1, 2), 1.0), (np.eye(3), 1.0), (by_entry, 2.0)):
        check(distance("g2", coupling_bound(G), np.float64(want), budget=formula_budget(want, 8)))
    alone = (
        np.eye(4).reshape(4, 2, 2) * 2.0
    )  # every entry on its own: only vec sees 1, rows and columns see 2
    check(distance("by entries", coupling_bound(alone), np.float64(1.0), budget=formula_budget(1.0, 8)))


@pytest.mark.claim("FISMO-T1-contraction")
@given(kronecker_case(max_decades=2.0))
def test_a_half_step_contracts_hilberts_metric(case):
    G, P, Q, mu, rng = case
    c = contraction_factor(G, mu=mu)
    P2, Q2 = spd(rng, len(P), 2.0), spd(rng, len(Q), 2.0)
    rounding = formula_budget(1.0, G.size, 100.0, 100.0, 1 + coupling_bound(G) / mu, formulas=2)
    left = hilbert_distance(left_factor(G, Q, mu=mu), left_factor(G, Q2, mu=mu))
    right = hilbert_distance(right_factor(G, P, mu=mu), right_factor(G, P2, mu=mu))
    check(
        inequality(left, c * hilbert_distance(Q, Q2), rounding=rounding),
        inequality(right, c * hilbert_distance(P, P2), rounding=rounding),
    )


def test_contraction_factor_is_the_tanh_of_the_theorem():
    G = np.diag([2.0, 1.0])
    want = np.tanh(0.5 * np.log1p(4.0 / 0.3))
    check(distance("c", contraction_factor(G, mu=0.3), want, budget=formula_budget(1.0, 2)))
    zero = np.zeros((2, 2))
    limits = [contraction_factor(X, mu=mu) for X, mu in ((G, 0.0), (zero, 0.0), (zero, 0.1))]
    assert limits == [1, 1, 0]


@pytest.mark.claim("FISMO-T4.1-fixed-point")
@given(kronecker_case(max_decades=1.0, max_side=4), st.sampled_from(["gauss-seidel", "jacobi"]))
def test_the_fixed_point_solves_both_equations(case, method):
    G, P0, Q0, mu, _ = case
    P, Q, _, bound = fixed_point(G, mu=mu, method=method, P0=P0, Q0=Q0)
    kappa = 1 + coupling_bound(G) / mu  # bounds the conditions of both factors
    rounding = formula_budget(1.0, G.size, kappa, kappa)
    residual = hilbert_distance(left_factor(G, Q, mu=mu), P)
    stopped = 2e-12 + rounding  # the tolerance of the last move, and the next one
    check(
        inequality(residual, stopped, rounding=rounding),
        distance("Q is Q*(P)", right_factor(G, P, mu=mu), Q, budget=rounding * size(Q)),
        distance("trace P", np.trace(P), np.float64(len(P)), budget=formula_budget(len(P), len(P))),
        inequality(0.0, bound, rounding=0.0),
    )


@pytest.mark.claim("FISMO-T4.1-unique")
@given(kronecker_case(max_decades=2.0, max_side=4))
def test_the_fixed_point_does_not_depend_on_start_or_method(case):
    G, P0, Q0, mu, _ = case
    first = fixed_point(G, mu=mu)
    for method in ("gauss-seidel", "jacobi"):
        other = fixed_point(G, mu=mu, method=method, P0=P0, Q0=Q0)
        kappa = 1 + coupling_bound(G) / mu
        noise = formula_budget(1.0, G.size, kappa, kappa)
        apart = first.error_bound + other.error_bound + noise * (1 + kappa**2)
        check(inequality(hilbert_distance(first.Q, other.Q), apart, rounding=noise))
        F = [np.kron(point.Q, point.P) for point in (first, other)]
        check(distance("F with its scale", F[1], F[0], budget=4 * apart * kappa * size(F[0])))


@pytest.mark.claim("FISMO-T1-contraction")
@given(
    kronecker_case(max_decades=1.0, max_side=4),
    st.integers(2, 12),
    st.sampled_from(["gauss-seidel", "jacobi"]),
)
def test_the_error_bound_holds_when_the_alternation_is_cut_short(case, iterations, method):
    G, P0, Q0, mu, _ = case
    cut = fixed_point(G, mu=mu, method=method, P0=P0, Q0=Q0, max_iterations=iterations)
    truth = fixed_point(G, mu=mu)
    kappa = 1 + coupling_bound(G) / mu
    noise = formula_budget(1.0, G.size, kappa, kappa) * (1 + kappa**2)
    check(inequality(hilbert_distance(cut.Q, truth.Q), cut.error_bound + truth.error_bound, rounding=noise))
    if method == "jacobi":
        over_c = truth.error_bound / contraction_factor(G, mu=mu)
        check(inequality(hilbert_distance(cut.P, truth.P), cut.error_bound + over_c, rounding=noise))
    assert cut.iterations == iterations or cut.error_bound < np.inf


@pytest.mark.claim("FISMO-T2-jacobi")
def test_jacobi_is_two_interleaved_chains():
    rng = np.random.default_rng(7)
    G, P0, Q0 = rng.standard_normal((3, 3, 5)), spd(rng, 3, 1.0), spd(rng, 5, 1.0)
    cut = fixed_point(G, mu=0.1, method="jacobi", P0=P0, Q0=Q0, max_iterations=3)
    P = P0
    for half_step in (right_factor, left_factor, right_factor):
        P = half_step(G, P, mu=0.1)
    chain = left_factor(G, right_factor(G, left_factor(G, Q0, mu=0.1), mu=0.1), mu=0.1)
    budget = formula_budget(1.0, G.size, 1e3, formulas=4)
    check(
        distance("from Q0", hilbert_distance(cut.P, chain), np.float64(0.0), budget=budget),
        distance(
            "then once more",
            hilbert_distance(cut.Q, right_factor(G, chain, mu=0.1)),
            np.float64(0.0),
            budget=budget,
        ),
        inequality(1e-3, hilbert_distance(cut.Q, P), rounding=0.0),  # the other chain is elsewhere
    )


def test_gauss_seidel_does_not_use_P0():
    G = np.random.default_rng(3).standard_normal((2, 3, 4))
    with_P0 = fixed_point(G, mu=0.1, P0=np.diag([1.0, 2.0, 3.0]))
    without = fixed_point(G, mu=0.1)
    assert np.array_equal(with_P0.P, without.P)
    assert np.array_equal(with_P0.Q, without.Q)


#: Diagonals of P and Q, each normalised to mean 1, from a 40-digit iteration of the scalar equations.
GOLDEN = {
    ("theorem", 0.1): (
        "2.167319842961 0.610893385680 0.221786771359",
        "2.384326633668 0.867256350196 0.487988779328 0.260428236808",
    ),
    ("algorithm", 0.1): (
        "2.222516554583 0.592494481806 0.184988963611",
        "2.475347597511 0.858528312567 0.454323491331 0.211800598590",
    ),
    ("theorem", 1.0): (
        "1.737439161172 0.754186946276 0.508373892552",
        "1.863299380234 0.917217867649 0.680697489503 0.538785262615",
    ),
    ("algorithm", 1.0): (
        "1.804213479907 0.731928840031 0.463857680062",
        "1.959133573350 0.908028287487 0.645251966021 0.487586173142",
    ),
}


@pytest.mark.claim("FISMO-GOLDEN")
@pytest.mark.parametrize("method", ["gauss-seidel", "jacobi"])
@pytest.mark.parametrize(("damping", "mu"), GOLDEN)
def test_golden_fixed_points(method, damping, mu):
    P, Q, _, bound = fixed_point(kronecker_samples(U_GOLDEN, V_GOLDEN), mu=mu, method=method, damping=damping)
    stop = 1e-12 + formula_budget(1.0, 12, 16.0)
    golden_P, golden_Q = (row.split() for row in GOLDEN[damping, mu])
    check(
        printed("P", P.diagonal(), golden_P, rounding=stop),
        printed("Q", Q.diagonal() * 4 / np.trace(Q), golden_Q, rounding=stop),
        distance("off-diagonal", P - np.diag(P.diagonal()), np.zeros((3, 3)), budget=stop),
    )
    if damping == "theorem":
        check(printed("scale", np.trace(Q) / 4, {0.1: "2.025726", 1.0: "2.903157"}[mu], rounding=stop))
        assert bound < np.inf
    else:
        check(distance("trace Q", np.trace(Q), np.float64(4.0), budget=stop))
        assert bound == np.inf


@pytest.mark.claim("FISMO-LOSS-SCALE")
@pytest.mark.parametrize(("c", "kappa"), [(0.01, "1.0044"), (1.0, "12.01"), (100.0, "15.9995")])
def test_golden_dependence_on_the_loss_scale(c, kappa):
    P = fixed_point(c * kronecker_samples(U_GOLDEN, V_GOLDEN), mu=0.1, damping="algorithm").P
    check(printed("condition of P", condition(P), kappa, rounding=1e-10))


@pytest.mark.claim("FISMO-ALG-fixed-point")
@given(kronecker_case(max_decades=0.0, max_side=4))
def test_the_algorithms_fixed_point_solves_its_own_equations(case):
    G, _, _, mu, _ = case
    P, Q, iterations, _ = fixed_point(G, mu=mu, damping="algorithm", max_iterations=MANY)
    m, n = len(P), len(Q)
    L = np.einsum("kia,ab,kjb->ij", G, np.linalg.inv(Q), G) / len(G) / n + mu * np.eye(m)
    R = np.einsum("kai,ab,kbj->ij", G, np.linalg.inv(P), G) / len(G) / m + mu * np.eye(n)
    kappa = condition(P) + condition(Q)
    budget = formula_budget(m + n, G.size, kappa) + 4e-12 * (m + n) * kappa
    check(
        distance("P", P, m * L / np.trace(L), budget=budget),
        distance("Q", Q, n * R / np.trace(R), budget=budget),
    )
    assert iterations < MANY


def test_a_batch_is_a_loop_of_singles():
    rng = np.random.default_rng(11)
    G = frozen(rng.standard_normal((2, 3, 4, 2, 3)) * np.array([0.1, 1.0, 10.0])[:, None, None, None])
    P, Q = (
        np.stack([spd(rng, 2, 1.0)] * 6).reshape(2, 3, 2, 2),
        np.stack([spd(rng, 3, 1.0)] * 6).reshape(2, 3, 3, 3),
    )
    budget = 1e3 * formula_budget(1.0, 12, 10.0)  # results of size up to 1e3 = N |G|^2
    functions = {
        "left": lambda G, P, Q: left_factor(G, Q, mu=0.1),
        "right": lambda G, P, Q: right_factor(G, P, mu=0.1),
        "objective": lambda G, P, Q: objective(G, P, Q, mu=0.1),
        "coupling": lambda G, P, Q: coupling_bound(G),
        "contraction": lambda G, P, Q: contraction_factor(G, mu=0.1),
        "lmo": lambda G, P, Q: fisher_lmo(G[..., 0, :, :], P, Q),
        "divergence": lambda G, P, Q: logdet_divergence(P, 2.0 * P),
        "metric": lambda G, P, Q: hilbert_distance(Q, Q @ Q),
        "root": lambda G, P, Q: inverse_sqrt(P),
    }
    for name, f in functions.items():
        singles = np.stack([[f(G[i, j], P[i, j], Q[i, j]) for j in range(3)] for i in range(2)])
        check(distance(name, f(G, P, Q), singles, budget=budget))
        once = f(G, P[0, 0], Q[0, 0]) if name in ("left", "right", "objective", "lmo") else singles
        check(distance(f"{name}, factors broadcast", once, singles, budget=budget))


@pytest.mark.parametrize("method", ["gauss-seidel", "jacobi"])
@pytest.mark.parametrize("damping", ["theorem", "algorithm"])
def test_a_batch_of_fixed_points_is_a_loop_of_singles(method, damping):
    rng = np.random.default_rng(13)
    G = frozen(rng.standard_normal((3, 4, 2, 3)) * np.array([0.1, 1.0, 10.0])[:, None, None, None])
    batch = fixed_point(G, mu=0.1, method=method, damping=damping)
    singles = [fixed_point(g, mu=0.1, method=method, damping=damping) for g in G]
    noise = formula_budget(1e3, 12, 1e4)  # G of size 10 and mu = 0.1: conditions up to 1e4
    for i, single in enumerate(singles):
        check(
            distance("P", batch.P[i], single.P, budget=noise),
            distance("Q", batch.Q[i], single.Q, budget=noise),
        )
    assert batch.error_bound.shape == (3,)
    assert abs(batch.iterations - max(single.iterations for single in singles)) <= 1


def test_tolerance_zero_stops_at_the_level_of_rounding():
    G = np.random.default_rng(17).standard_normal((3, 4, 3, 5))
    for method in ("gauss-seidel", "jacobi"):
        stopped = fixed_point(G, mu=0.1, method=method, tolerance=0.0, max_iterations=MANY)
        assert stopped.iterations < MANY
        loose = fixed_point(G, mu=0.1, method=method, tolerance=LOOSE)
        assert loose.iterations < stopped.iterations


def test_a_fixed_point_that_does_not_exist_is_an_error():
    with pytest.raises(ValueError, match="P must be positive definite to working precision"):
        fixed_point(np.array([[1.0, 0.0], [0.0, 0.0]]), mu=0.0)
    with pytest.raises(ValueError, match="Q must be positive definite to working precision"):
        fixed_point(np.eye(2, 3), mu=0.0)


def test_one_by_one_and_one_sample():
    g = np.array([[3.0]])
    assert isinstance(fixed_point(g, mu=0.5), FixedPoint)
    P, Q, _, _ = fixed_point(g, mu=0.5)
    check(
        distance("P", P, np.ones((1, 1)), budget=4 * U64),
        distance("Q carries g^2 + mu", Q, np.full((1, 1), 9.5), budget=64 * U64),
    )
    assert np.array_equal(left_factor(g[None], Q, mu=0.5), left_factor(g, Q, mu=0.5))


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
        (lambda: fixed_point(G_, mu=0.1, tolerance=-LOOSE), ValueError, "tolerance must be at least 0"),
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
