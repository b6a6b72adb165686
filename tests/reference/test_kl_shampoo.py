"""KL-Shampoo: its optima, its average as a proximal step, and its step."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs_checks.ratios import inequality
from reference import kronecker, shampoo
from reference.kl_shampoo import (
    KlShampooState,
    divergence,
    init,
    joint_optimum,
    one_sided_optimum,
    step,
    update_factors,
)
from reference.kronecker import inverse_sqrt
from tests.reference.cases import (
    U64,
    check,
    condition,
    distance,
    formula_budget,
    frozen,
    kronecker_case,
    kronecker_samples,
    size,
)
from tests.strategies import seeds

#: Hilbert distance of the last two iterates, the default tolerance of `reference.kronecker.fixed_point`.
LAST_CHANGE = 1e-12


@pytest.mark.claim("KLS-joint")
@given(kronecker_case())
def test_the_divergence_is_that_of_dense_gaussians(case):
    G, S_a, S_b, mu, _ = case
    S = np.kron(S_a, S_b)  # gradients stacked row by row
    g = G.reshape(len(G), -1)
    covariance = g.T @ g / len(G) + mu * np.eye(len(S))
    terms = np.trace(covariance @ np.linalg.inv(S)), np.linalg.slogdet(S)[1]
    total = sum(abs(term) for term in terms) + len(S)
    budget = formula_budget(total, len(S), condition(S), formulas=2)
    check(distance("KL", divergence(G, S_a, S_b, mu=mu), np.asarray(sum(terms) / 2), budget=budget))


@pytest.mark.claim("KLS-one-sided")
@given(seeds, st.integers(1, 5), st.integers(1, 5), st.floats(-0.5, 0.5))
def test_the_one_sided_optimum_is_least(seed, m, n, strength):
    rng = np.random.default_rng(seed)
    G = frozen(rng.standard_normal((m + 2, m, n)))
    best = one_sided_optimum(G)
    check(
        distance("S_a", best, np.einsum("tij,tkj->ik", G, G) / len(G), budget=formula_budget(size(best), n))
    )
    E = rng.standard_normal((m, m))
    other = best + strength * np.linalg.eigvalsh(best)[0] * (E + E.T) / (2 * np.linalg.norm(E))
    values = [divergence(G, S / n, np.eye(n), mu=0.0) for S in (best, 0.5 * (other + other.T))]
    rounding = formula_budget(abs(values[0]) + m * n, m * n, condition(best), condition(other))
    check(inequality(values[0], values[1], rounding=rounding))


@pytest.mark.claim("KLS-one-sided")
@given(seeds)
def test_shampoo_with_power_one_half_divides_by_the_root_of_the_one_sided_optimum(seed):
    G = np.random.default_rng(seed).standard_normal((6, 3, 4))
    state = shampoo.init((3, 4), epsilon=1e-12)
    for g in G:
        update, state = shampoo.step(g, state, exponent=-1 / 2)
    A = inverse_sqrt(len(G) * one_sided_optimum(G))
    C = inverse_sqrt(len(G) * one_sided_optimum(G.mT))
    start = 1e-12 * 10 * (condition(A) ** 2 + condition(C) ** 2)  # epsilon against the least eigenvalue
    budget = formula_budget(size(update), 4, condition(A) ** 2, condition(C) ** 2, formulas=4)
    check(distance("update", update, A @ G[-1] @ C, budget=budget + start * size(update)))


@pytest.mark.claim("KLS-joint")
@given(kronecker_case(max_decades=1.0, max_side=4))
def test_the_joint_optimum_solves_fismos_equations_with_damping(case):
    G, _, _, mu, _ = case
    S_a, S_b = joint_optimum(G, mu=mu)
    d_a, d_b = G.shape[-2:]
    inverse_a, inverse_b = np.linalg.inv(S_a), np.linalg.inv(S_b)
    want_a = (
        np.einsum("tij,jl,tkl->ik", G, inverse_b, G) / len(G) + mu * np.trace(inverse_b) * np.eye(d_a)
    ) / d_b
    want_b = (
        np.einsum("tij,ik,tkl->jl", G, inverse_a, G) / len(G) + mu * np.trace(inverse_a) * np.eye(d_b)
    ) / d_a
    error = 2 * LAST_CHANGE  # one more half-step moves a factor by less than the last one did
    for name, got, want in (("S_a", S_a, want_a), ("S_b", S_b, want_b)):
        budget = formula_budget(size(want), max(d_a, d_b), condition(S_a), condition(S_b), formulas=4)
        check(distance(name, got, want, budget=budget + error * size(want)))
    check(
        distance("P*", kronecker.left_factor(G, S_b, mu=mu), want_a, budget=budget * (1 + size(want_a))),
        distance("Q*", kronecker.right_factor(G, S_a, mu=mu), want_b, budget=budget * (1 + size(want_b))),
    )


@pytest.mark.claim("KLS-joint")
@given(kronecker_case(max_decades=1.5, max_samples=1), st.floats(0.01, 1.0))
def test_the_average_minimises_the_proximal_problem(case, beta2):
    """Linear model of the divergence in the inverse factor plus the divergence from the old one."""
    G, S_a, S_b, mu, rng = case
    d_a, d_b = G.shape[-2:]
    new, _ = update_factors(G, S_a, S_b, beta2=beta2, mu=mu)
    gradient = d_b * (kronecker.left_factor(G, S_b, mu=mu) - S_a)

    def proximal(S):
        inverse = np.linalg.inv(S)
        gaussian = np.trace(S_a @ inverse) + np.linalg.slogdet(S)[1]
        return np.trace(gradient @ inverse) + d_b / beta2 * gaussian

    E = rng.standard_normal((d_a, d_a))
    other = new + 0.3 * np.linalg.eigvalsh(new)[0] * (E + E.T) / np.linalg.norm(E)
    inverse_size = max(size(np.linalg.inv(S)) for S in (new, other))
    terms = (size(gradient) + d_b / beta2 * size(S_a)) * inverse_size + d_b / beta2 * d_a
    terms = terms + d_b / beta2 * sum(abs(np.linalg.slogdet(S)[1]) for S in (new, other))
    rounding = formula_budget(terms, max(d_a, d_b), condition(S_a), condition(S_b), condition(other))
    check(inequality(proximal(new), proximal(other), rounding=rounding))


@given(kronecker_case(max_samples=3), st.floats(0.0, 1.0), st.sampled_from(["jacobi", "gauss-seidel"]))
def test_the_factors_are_averages(case, beta2, order):
    G, S_a, S_b, mu, _ = case
    got_a, got_b = update_factors(G, S_a, S_b, beta2=beta2, mu=mu, order=order)
    want_a = (1 - beta2) * S_a + beta2 * kronecker.left_factor(G, S_b, mu=mu)
    inside = S_a if order == "jacobi" else want_a
    want_b = (1 - beta2) * S_b + beta2 * kronecker.right_factor(G, 0.5 * (inside + inside.T), mu=mu)
    conditions = [condition(X) for X in (S_a, S_b, want_a)]
    check(
        distance("S_a", got_a, want_a, budget=formula_budget(size(want_a), 6, *conditions)),
        distance("S_b", got_b, want_b, budget=formula_budget(size(want_b), 6, *conditions, formulas=2)),
    )
    assert np.array_equal(got_a, got_a.T)
    assert np.array_equal(got_b, got_b.T)


def test_a_kronecker_covariance_is_a_fixed_point():
    U, V = np.array([4.0, 1.0]), np.array([1.0, 0.25, 2.0])
    G = kronecker_samples(U, V)
    S_a, S_b = update_factors(G, np.diag(U), np.diag(V), beta2=0.5)
    check(
        distance("S_a", S_a, np.diag(U), budget=formula_budget(8.0, 6, 8.0)),
        distance("S_b", S_b, np.diag(V), budget=formula_budget(8.0, 6, 8.0)),
    )


@given(
    kronecker_case(max_samples=1), st.floats(0.0, 0.9), st.floats(0.0, 1.0), st.sampled_from(["new", "old"])
)
def test_the_step_whitens_the_average_of_raw_gradients(case, beta1, beta2, preconditioner):
    G, S_a, S_b, mu, rng = case
    state = KlShampooState(S_a, S_b, frozen(rng.standard_normal(G[0].shape)))
    update, new = step(G[0], state, beta1=beta1, beta2=beta2, mu=mu, preconditioner=preconditioner)
    M = beta1 * state.M + (1 - beta1) * G[0]
    factors = update_factors(G[0], S_a, S_b, beta2=beta2, mu=mu)
    A, C = (inverse_sqrt(X) for X in (factors if preconditioner == "new" else (S_a, S_b)))
    conditions = [condition(X) for X in (*factors, S_a, S_b)]
    budget = formula_budget(size(A) * size(M) * size(C), 6, *conditions, formulas=3)
    check(
        distance("M", new.M, M, budget=8 * U64 * (size(state.M) + size(G))),
        distance("update", update, A @ M @ C, budget=budget),
    )
    assert np.array_equal(new.S_a, factors[0])
    assert np.array_equal(new.S_b, factors[1])


@given(seeds, st.sampled_from([2.0**-50, 2.0**-3, 2.0**40]))
def test_the_magnitude_of_the_gradient_is_kept_only_against_the_factors(seed, scale):
    """Gradients and the root of the factors' product scale out of the update: it is dimensionless."""
    G = np.random.default_rng(seed).standard_normal((4, 3, 2))
    ends = []
    for factor in (1.0, scale):
        state = init((3, 2), S_a0=factor**2 * np.eye(3))
        for g in G:
            update, state = step(factor * g, state, mu=0.125 * factor**2)
        ends.append(update)
    budget = formula_budget(size(ends[0]), 3, condition(state.S_a), condition(state.S_b), formulas=16)
    check(distance("update", ends[1], ends[0], budget=budget))
    doubled, _ = step(2 * G[0], init((3, 2)), beta2=0.0)
    single, _ = step(G[0], init((3, 2)), beta2=0.0)
    assert np.array_equal(doubled, 2 * single)


def test_a_batch_is_a_loop_of_singles():
    G = np.random.default_rng(5).standard_normal((3, 2, 4, 3))
    together, alone = init((2, 4, 3)), [init((4, 3)), init((4, 3))]
    for g in G:
        update, together = step(g, together, beta2=0.3, mu=0.1)
        pairs = [step(g[i], alone[i], beta2=0.3, mu=0.1) for i in range(2)]
        alone = [state for _, state in pairs]
    budget = formula_budget(size(update), 4, condition(together.S_a), condition(together.S_b), formulas=9)
    check(distance("batch", update, np.stack([u for u, _ in pairs]), budget=budget))


@given(seeds, st.floats(0.0, 1.0))
def test_weight_decay_is_added_to_the_update(seed, weight_decay):
    G, W = (frozen(X) for X in np.random.default_rng(seed).standard_normal((2, 3, 4)))
    plain, _ = step(G, init(G))
    decayed, _ = step(G, init(G), weight_decay=weight_decay, W=W)
    assert np.array_equal(decayed, plain + weight_decay * W)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (2, 0, 3), (2, 3)])
def test_empty_and_zero(shape):
    update, state = step(np.zeros(shape), init(shape))
    assert update.shape == state.M.shape == shape
    assert not update.any()


def test_nothing_is_modified_or_shared():
    S_a, S_b, M = frozen(np.eye(2)), frozen(np.eye(3)), frozen(np.zeros((2, 3)))
    start = init((2, 3), S_a0=S_a, S_b0=S_b)
    assert not np.shares_memory(start.S_a, S_a)
    for G in (frozen(np.ones((2, 3))), frozen(np.zeros((2, 3)))):
        _, after = step(G, KlShampooState(S_a, S_b, M), beta1=0.0, beta2=0.0)
        assert not any(np.shares_memory(X, Y) for X, Y in zip(after, (S_a, S_b, M), strict=True))


G_, I_ = np.ones((2, 3)), np.eye(2)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: init((3,)), ValueError, "W must have at least 2 axes"),
        (lambda: init((2, 3), S_a0=-I_), ValueError, "S_a0 must be positive definite"),
        (lambda: init((2, 3), S_b0=I_), ValueError, r"S_b0 must have shape \(3, 3\)"),
        (lambda: one_sided_optimum(np.ones((0, 2, 3))), ValueError, "G must have at least one sample"),
        (lambda: one_sided_optimum(G_ * 1e200), ValueError, "G must have a square in range"),
        (lambda: joint_optimum(G_, mu=-1.0), ValueError, "mu must be at least 0"),
        (lambda: divergence(G_, I_, I_, mu=0.0), ValueError, r"Q must have shape \(3, 3\)"),
        (lambda: update_factors(G_, I_, np.eye(3), beta2=1.5), ValueError, r"beta2 must be in \[0, 1\]"),
        (
            lambda: update_factors(G_, I_, np.eye(3), beta2=0.5, order="both"),
            ValueError,
            "order must be one of 'jacobi', 'gauss-seidel'",
        ),
        (lambda: step(G_.T, init(G_)), ValueError, r"G must have shape \(2, 3\)"),
        (lambda: step(G_ * np.nan, init(G_)), ValueError, "G must be finite"),
        (lambda: step(G_, init(G_), beta1=1.0), ValueError, r"beta1 must be in \[0, 1\)"),
        (lambda: step(G_, init(G_), preconditioner="lagged"), ValueError, "preconditioner must be one of"),
        (lambda: step(G_, init(G_), weight_decay=0.1), ValueError, "W must be given when weight_decay"),
        (lambda: step(G_, init(G_), beta2=1.0, mu=0.0), ValueError, "S_a must be positive definite"),
    ],
)
def test_a_bad_argument_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
