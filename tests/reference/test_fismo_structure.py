"""Structure of FISMO: symmetries, loss scale, limits, fixed points, bounds of its factors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs_checks.ratios import equivariance, inequality
from reference import kronecker
from reference.fismo import update_factors
from reference.polar import polar_factor
from tests.reference.cases import (
    check,
    condition,
    distance,
    formula_budget,
    frozen,
    orthogonal,
)
from tests.reference.runs import DAMPINGS, ORDERS, VARIANTS, gradients, run, run_budget


@pytest.mark.claim("FISMO-SYM-orthogonal")
@given(gradients(), st.sampled_from(VARIANTS))
def test_rotated_gradients_give_rotated_updates(case, options):
    G, rng = case
    m, n = G[0].shape
    R, S = orthogonal(rng, m, m), orthogonal(rng, n, n)
    plain, state = run(G, mu=0.1, gamma=0.7, **options)
    turned, _ = run([R @ g @ S.T for g in G], mu=0.1, gamma=0.7, **options)
    check(equivariance(turned[-1], R @ plain[-1] @ S.T, budget=2 * run_budget(plain, state, 3)))


@pytest.mark.claim("FISMO-SYM-transpose")
@given(gradients(), st.sampled_from([v for v in VARIANTS if v["order"] == "jacobi"]))
def test_transposed_gradients_give_transposed_updates_with_jacobi_order(case, options):
    G, _ = case
    plain, state = run(G, mu=0.1, gamma=0.7, **options)
    flipped, _ = run([frozen(g.T.copy()) for g in G], mu=0.1, gamma=0.7, **options)
    check(equivariance(flipped[-1], plain[-1].T, budget=2 * run_budget(plain, state, 3)))


@pytest.mark.claim("FISMO-SYM-transpose")
def test_transposition_fails_with_gauss_seidel_order():
    G = list(np.random.default_rng(9).standard_normal((10, 3, 5)))
    plain, _ = run(G, mu=0.1, gamma=0.7)
    flipped, _ = run([g.T for g in G], mu=0.1, gamma=0.7)
    check(inequality(1e-3, np.linalg.norm(flipped[-1] - plain[-1].T), rounding=0.0))


@pytest.mark.claim("FISMO-LOSS-SCALE")
@given(gradients(), st.sampled_from([2.0**-996, 2.0**-30, 2.0**40, 2.0**996]), st.sampled_from(DAMPINGS))
def test_unit_scaling_makes_the_step_blind_to_the_loss_scale(case, c, damping):
    G, _ = case
    options = {"mu": 0.1, "factor_scaling": "unit", "damping": damping}
    plain, state = run(G, **options)
    scaled, scaled_state = run([c * g for g in G], **options)
    assert np.array_equal(scaled_state.P, state.P)
    assert np.array_equal(scaled_state.Q, state.Q)
    assert np.array_equal(scaled[-1], plain[-1])


@pytest.mark.claim("FISMO-LOSS-SCALE")
@given(gradients(), st.sampled_from(DAMPINGS))
def test_without_memory_of_factors_the_loss_scale_is_a_damping(case, damping):
    G, _ = case
    options = {"gamma": 0.0, "damping": damping}
    plain, state = run(G, mu=0.1 / 4.0, **options)
    scaled, _ = run([2.0 * g for g in G], mu=0.1, **options)
    check(distance("mu / c^2", scaled[-1], plain[-1], budget=2 * run_budget(plain, state, 3)))


@pytest.mark.claim("FISMO-LIM-muon")
@given(gradients(), st.sampled_from(VARIANTS), st.floats(0.0, 0.9))
def test_full_memory_of_factors_is_muon_with_averaged_gradients(case, options, beta):
    G, _ = case
    updates, state = run(G, gamma=1.0, mu=0.1, beta=beta, **options)
    V = np.zeros_like(G[0])
    for g in G:
        V = beta * V + (1 - beta) * g
    assert np.array_equal(state.P, np.eye(len(state.P)))
    assert np.array_equal(state.M, V)
    assert np.array_equal(updates[-1], polar_factor(V))


@pytest.mark.claim("FISMO-LIM-muon")
def test_large_damping_tends_to_muon_at_rate_one_over_mu():
    G = list(np.random.default_rng(6).standard_normal((4, 3, 4)))
    muon, _ = run(G, gamma=1.0)
    gaps = [np.linalg.norm(run(G, gamma=0.5, mu=mu)[0][-1] - muon[-1]) for mu in (1e3, 1e4, 1e5)]
    decades = np.log10(gaps[:-1]) - np.log10(gaps[1:])
    next_order = 10.0 * max(float(np.square(g).sum()) for g in G) / 1e3  # tau / mu at the smallest mu
    check(inequality(np.abs(decades - 1.0), 0.0, rounding=next_order))


@pytest.mark.claim("FISMO-LIM-muon")
@given(gradients())
def test_without_momentum_a_step_is_theorem_4_2(case):
    G, _ = case
    updates, state = run(G, beta=0.0, mu=0.1)
    want = -kronecker.fisher_lmo(G[-1], state.P, state.Q)
    check(distance("lmo", updates[-1], want, budget=run_budget(updates, state, 1)))


@pytest.mark.claim("FISMO-ALG-fixed-point")
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("damping", DAMPINGS)
def test_repeating_one_gradient_leads_to_the_fixed_point_of_the_alternation(damping, order):
    G = np.random.default_rng(8).standard_normal((3, 4))
    P, Q = np.eye(3), np.eye(4)
    for _ in range(400):
        P, Q = update_factors(G, P, Q, gamma=0.5, mu=0.5, damping=damping, order=order, factor_scaling="none")
    want = kronecker.fixed_point(G, mu=0.5, damping=damping)
    budget = formula_budget(4.0, 4, condition(P) * condition(Q)) + 1e-11
    check(
        distance("P", P, want.P, budget=budget),
        distance("Q", Q, want.Q * 4 / np.trace(want.Q), budget=budget),
    )


@pytest.mark.claim("FISMO-D.2-bounded")
@given(gradients(steps=6), st.floats(0.05, 0.95), st.floats(0.0, 1.0), st.sampled_from(ORDERS))
def test_spectra_stay_in_the_bounds_of_lemma_d2(case, b, gamma, order):
    G, _ = case
    m, n = G[0].shape
    g = max(np.linalg.norm(x) for x in G)
    _, state = run(G, mu=g**2 / (m * n * b), gamma=gamma, order=order)
    rounding = formula_budget(1.0, max(m, n), 1 / (1 - b), formulas=6)
    for factor, side in ((state.P, m), (state.Q, n)):
        w = np.linalg.eigvalsh(factor)
        check(
            inequality(1 - b, w.min(), rounding=rounding),
            inequality(w.max(), 1 + (side - 1) * b, rounding=rounding * side),
        )


@pytest.mark.claim("FISMO-T3-unconditional")
@given(gradients(steps=6), st.floats(-2.0, 1.0), st.floats(0.0, 1.0), st.sampled_from(ORDERS))
def test_spectra_stay_in_the_unconditional_bounds_of_theorem_damping(case, log_mu, gamma, order):
    G, _ = case
    m, n = G[0].shape
    s, mu = max(np.linalg.norm(x, 2) for x in G), 10.0**log_mu
    _, state = run(G, mu=mu, gamma=gamma, order=order, damping="theorem")
    for factor, side in ((state.P, m), (state.Q, n)):
        K = 1 + s**2 / (side * mu)
        w = np.linalg.eigvalsh(factor)
        rounding = formula_budget(1.0, max(m, n), K**2, formulas=6)
        check(
            inequality(1 / w.min(), K, rounding=K * rounding),
            inequality(w.max(), side - (side - 1) / K, rounding=side * rounding),
        )
