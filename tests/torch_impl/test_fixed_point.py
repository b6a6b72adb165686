"""`torch_impl.kronecker.fixed_point`: agreement, stopping rule, error bound, golden numbers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import reference.kronecker
from proofs_checks.ratios import ORDER_ONE, Ratio, inequality
from tests.torch_impl import cases
from tests.torch_impl.cases import (
    DOUBLE,
    array,
    backward_stable,
    condition,
    distance,
    norm,
    seeds,
    sides,
    tensor,
)
from torch_impl import kronecker

counts = st.integers(1, 3)


def samples(rng, N, m, n, dtype, device="cpu"):
    return tensor(rng.standard_normal((N, m, n)), dtype, device)


@pytest.mark.claim("FISMO-T1-contraction", "FISMO-ALG-fixed-point")
@given(
    seed=seeds,
    N=counts,
    m=sides,
    n=sides,
    mu=st.sampled_from([0.5, 4.0]),
    method=cases.orders,
    damping=cases.dampings,
)
def test_fixed_points_agree_with_the_reference_within_both_error_bounds(seed, N, m, n, mu, method, damping):
    rng = np.random.default_rng(seed)
    G = samples(rng, N, m, n, torch.float64)
    options = {"mu": mu, "method": method, "damping": damping}
    got, want = kronecker.fixed_point(G, **options), reference.kronecker.fixed_point(array(G), **options)
    kappa = max(condition(array(got.P)), condition(array(got.Q)))
    # A successive distance at the tolerance leaves c^2 / (1 - c^2) times it, plus what rounding does to a map
    # that contracts by c^2: another factor 1 / (1 - c^2).
    c = float(kronecker.contraction_factor(G, mu=mu))
    gap = (1.0 - c) * (1.0 + c)
    budget = (1e-12 + backward_stable(m + n, kappa) * (m + n)) * 2.0 / gap
    for ours, theirs in ((got.P, want.P), (got.Q, want.Q)):
        assert distance(ours, theirs, budget=budget * norm(theirs)).passed
    assert Ratio("trace of P", abs(float(got.P.trace()) - m), (m + 2) * m * DOUBLE).passed
    bound = float(got.error_bound)
    if damping == "algorithm":
        assert bound == math.inf
        assert Ratio("trace of Q", abs(float(got.Q.trace()) - n), (n + 2) * n * DOUBLE).passed
    else:
        further = kronecker.right_factor(G, kronecker.left_factor(G, got.Q, mu=mu), mu=mu)
        moved = float(kronecker.hilbert_distance(further, got.Q))
        rounding = backward_stable(m + n, kappa) * (m + n)
        assert inequality(moved, (1.0 + c * c) * bound, rounding=rounding).passed


@pytest.mark.claim("FISMO-T1-contraction")
@given(seed=seeds, method=cases.orders, sweeps=st.integers(2, 6))
def test_the_error_bound_holds_when_the_iteration_is_cut_short(seed, method, sweeps):
    G = samples(np.random.default_rng(seed), 3, 3, 4, torch.float64)
    early = kronecker.fixed_point(G, mu=0.5, method=method, max_iterations=sweeps)
    final = kronecker.fixed_point(G, mu=0.5, method=method)
    assert early.iterations == sweeps
    error = float(kronecker.hilbert_distance(early.Q, final.Q))
    assert inequality(error, float(early.error_bound + final.error_bound), rounding=0.0).passed


@pytest.mark.claim("FISMO-T2-jacobi")
@pytest.mark.parametrize("damping", ["theorem", "algorithm"])
@pytest.mark.parametrize("method", ["gauss-seidel", "jacobi"])
def test_a_sweep_is_two_half_steps_and_jacobi_sees_the_old_factor(method, damping):
    rng = np.random.default_rng(2)
    G, (P, Q) = (
        samples(rng, 2, 3, 4, torch.float64),
        (tensor(cases.spd(rng, d), torch.float64) for d in (3, 4)),
    )
    start = {"P0": P, "Q0": 5.0 * Q}

    def unit_mean(new):
        return new * (len(new) / new.trace())

    def half_step(step, old):
        if damping == "theorem":
            return step(G, old, mu=0.5)
        new = step(G, old, mu=0.0)
        return unit_mean(new + 0.5 * torch.eye(len(new)))

    for sweeps in (1, 2):
        swept = kronecker.fixed_point(
            G, mu=0.5, method=method, damping=damping, **start, max_iterations=sweeps
        )
        next_P = unit_mean(half_step(kronecker.left_factor, Q))
        next_Q = half_step(kronecker.right_factor, P if method == "jacobi" else next_P)
        # What is returned under the theorem's damping answers the P that is returned with it.
        answer = half_step(kronecker.right_factor, next_P) if damping == "theorem" else next_Q
        for got, want in ((swept.P, next_P), (swept.Q, answer)):
            kappa = condition(array(P)) * condition(array(Q))
            budget = sweeps * backward_stable(4, kappa) * norm(array(want))
            assert distance(got, array(want), budget=budget).passed
        assert swept.iterations == sweeps
        P, Q = next_P, next_Q


@pytest.mark.claim("FISMO-T1-contraction")
@pytest.mark.parametrize("method", ["gauss-seidel", "jacobi"])
def test_the_error_bound_is_the_stated_multiple_of_the_last_distance(method):
    G = samples(np.random.default_rng(4), 3, 3, 4, torch.float64)
    first, second, third, fourth = (
        kronecker.fixed_point(G, mu=0.5, method=method, max_iterations=k) for k in (1, 2, 3, 4)
    )
    c = float(kronecker.contraction_factor(G, mu=0.5))
    if method == "jacobi":  # the chain's own Q of sweep k is the answer to the P of sweep k - 1
        pairs = ((fourth.P, second.P), (third.Q, first.Q))
        moved = max(float(kronecker.hilbert_distance(new, old)) for new, old in pairs)
    else:
        moved = float(kronecker.hilbert_distance(fourth.Q, third.Q))
    want = np.asarray(c**2 / (1.0 - c**2) * moved)
    budget = backward_stable(7, condition(array(fourth.Q)) / (1.0 - c)) * (float(want) + 1.0)
    assert distance(fourth.error_bound, want, budget=budget).passed


GOLDEN = {
    ("theorem", 0.1): (
        [2.167319842961, 0.610893385680, 0.221786771359],
        [2.384326633668, 0.867256350196, 0.487988779328, 0.260428236808],
        2.025726,
    ),
    ("algorithm", 0.1): (
        [2.222516554583, 0.592494481806, 0.184988963611],
        [2.475347597511, 0.858528312567, 0.454323491331, 0.211800598590],
        1.0,
    ),
    ("theorem", 1.0): (
        [1.737439161172, 0.754186946276, 0.508373892552],
        [1.863299380234, 0.917217867649, 0.680697489503, 0.538785262615],
        2.903157,
    ),
    ("algorithm", 1.0): (
        [1.804213479907, 0.731928840031, 0.463857680062],
        [1.959133573350, 0.908028287487, 0.645251966021, 0.487586173142],
        1.0,
    ),
}
#: Successive sweeps then differ by a hundredth of a unit in the last place printed.
TIGHT = 1e-14
#: Half a unit in the last place printed: 12 decimals of the diagonals, 6 of the scale; and rounding.
DIGITS, SCALE_DIGITS = 0.5e-12 + ORDER_ONE * 12 * DOUBLE, 0.5e-6


@pytest.mark.claim("FISMO-GOLDEN", "FISMO-ALG-fixed-point")
@pytest.mark.parametrize("method", ["gauss-seidel", "jacobi"])
@pytest.mark.parametrize(("damping", "mu"), GOLDEN)
def test_golden_fixed_points(method, damping, mu):
    U, V = np.array([4.0, 1.0, 0.25]), np.array([3.0, 1.0, 0.5, 0.2])
    G = np.zeros((12, 3, 4))  # one sample per entry: E[G X G^T] = tr(V X) U
    for k, (i, j) in enumerate(np.ndindex(3, 4)):
        G[k, i, j] = math.sqrt(12 * U[i] * V[j])
    found = kronecker.fixed_point(
        tensor(G, torch.float64), mu=mu, damping=damping, method=method, tolerance=TIGHT
    )
    p, q, scale = GOLDEN[damping, mu]
    mean = found.Q.trace() / 4
    assert Ratio("P", float(np.abs(array(found.P.diagonal()) - p).max()), DIGITS).passed
    assert Ratio("Q", float(np.abs(array(found.Q.diagonal() / mean) - q).max()), DIGITS).passed
    assert Ratio("scale", abs(float(mean) - scale), SCALE_DIGITS).passed


def test_a_batch_of_problems_and_a_given_start():
    rng = np.random.default_rng(0)
    G = torch.stack([samples(rng, 2, 3, 4, torch.float64), 10 * samples(rng, 2, 3, 4, torch.float64)])
    starts = {"P0": tensor(cases.spd(rng, 3), torch.float64), "Q0": tensor(cases.spd(rng, 4), torch.float64)}
    for method in ("gauss-seidel", "jacobi"):
        together = kronecker.fixed_point(G, mu=0.5, method=method, **starts)
        for i in range(2):
            alone = kronecker.fixed_point(G[i], mu=0.5, method=method)
            bounds = together.error_bound[i] + alone.error_bound
            rounding = backward_stable(7, condition(array(alone.Q)) ** 2)
            error = float(kronecker.hilbert_distance(together.Q[i], alone.Q))
            assert inequality(error, float(bounds), rounding=rounding).passed


def test_narrow_samples_are_iterated_in_float64_and_rounded_once():
    G = samples(np.random.default_rng(1), 2, 3, 4, torch.float32)
    narrow, full = kronecker.fixed_point(G, mu=0.5), kronecker.fixed_point(G.double(), mu=0.5)
    assert torch.equal(narrow.P, full.P.float())
    assert torch.equal(narrow.Q, full.Q.float())
    assert narrow.iterations == full.iterations


def test_an_undamped_problem_without_a_fixed_point_is_refused():
    with pytest.raises(ValueError, match=r"mu must be large enough for definite factors, got 0\.0"):
        kronecker.fixed_point(torch.ones(1, 3, 4, dtype=torch.float64), mu=0.0)
