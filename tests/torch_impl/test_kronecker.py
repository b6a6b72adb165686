"""`torch_impl.kronecker` against its reference, and the facts the factors must satisfy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import reference.kronecker
from proofs_checks.ratios import ORDER_ONE, Ratio, inequality, inverse_root, unit_roundoff
from tests.torch_impl import cases
from tests.torch_impl.cases import (
    DOUBLE,
    DTYPES,
    FLOATS,
    array,
    backward_stable,
    condition,
    distance,
    norm,
    seeds,
    sides,
    stored,
    tensor,
)
from torch_impl import kronecker

counts = st.integers(1, 3)
mus = st.sampled_from([1e-2, 0.5, 4.0])


def samples(rng, N, m, n, dtype, device="cpu"):
    return tensor(rng.standard_normal((N, m, n)), dtype, device)


def factor_budget(G, Q, mu, dtype):
    """Budget of ``E[G Q^-1 G^T] / n + mu tr(Q^-1) / n I`` in `dtype`, with float64 factorisations.

    A term passes through both products with K (length n), the product of the two (length n), the mean over N,
    the stored K (twice), damping, sum, symmetry and division: 3 n + N + 8 roundings at most.
    """
    N, m, n = G.shape
    inverse = float(np.trace(np.linalg.inv(Q)))
    terms = (norm(G) ** 2 / N + mu * math.sqrt(m)) * inverse / n
    u = max(unit_roundoff(dtype), DOUBLE)
    work = min(u, unit_roundoff("float32"))
    operations = 3 * n + N + 8
    return ((operations * work + u) + backward_stable(n, condition(Q))) * terms


# ---- factors ----------------------------------------------------------------------------------------------


@pytest.mark.claim("FISMO-T4.1-fixed-point")
@given(seed=seeds, N=counts, m=sides, n=sides, mu=mus, dtype=st.sampled_from(DTYPES))
def test_both_half_steps_agree_with_the_reference(device, seed, N, m, n, mu, dtype):
    rng = np.random.default_rng(seed)
    G = samples(rng, N, m, n, dtype, device)
    P, Q = (tensor(cases.spd(rng, d), dtype, device) for d in (m, n))
    before = [x.clone() for x in (G, P, Q)]
    got = kronecker.left_factor(G, Q, mu=mu)
    want = reference.kronecker.left_factor(array(G), array(Q), mu=mu)
    assert distance(got, want, budget=factor_budget(array(G), array(Q), mu, dtype)).passed
    got = kronecker.right_factor(G, P, mu=mu)
    want = reference.kronecker.right_factor(array(G), array(P), mu=mu)
    budget = factor_budget(array(G).transpose(0, 2, 1), array(P), mu, dtype)
    assert distance(got, want, budget=budget).passed
    assert torch.equal(got, got.mT)
    assert got.dtype == dtype
    assert all(torch.equal(a, b) for a, b in zip(before, (G, P, Q), strict=True)), "an input was modified"


@given(seed=seeds, m=sides, n=sides, mu=mus)
def test_a_single_matrix_is_one_sample_and_a_batch_is_its_members(seed, m, n, mu):
    rng = np.random.default_rng(seed)
    G = samples(rng, 6, m, n, torch.float64).reshape(2, 3, m, n)
    Q = torch.stack([tensor(cases.spd(rng, n), torch.float64) for _ in range(2)])
    together = kronecker.left_factor(G, Q, mu=mu)
    for i in range(2):
        budget = factor_budget(array(G[i]), array(Q[i]), mu, torch.float64)
        assert distance(together[i], array(kronecker.left_factor(G[i], Q[i], mu=mu)), budget=budget).passed
    single = kronecker.left_factor(G[0, 0], Q[0], mu=mu)
    assert torch.equal(single, kronecker.left_factor(G[0, :1], Q[0], mu=mu))


@given(seed=seeds, d=sides, decades=st.floats(0.0, 5.0), dtype=st.sampled_from(DTYPES))
def test_inverse_square_roots_are_rounded_float64_roots(device, seed, d, decades, dtype):
    P = tensor(cases.spd(np.random.default_rng(seed), d, decades=decades), torch.float64, device).to(dtype)
    P = (P + P.mT) / 2
    if np.linalg.eigvalsh(array(P))[0] <= 0:  # rounding to a narrow dtype can destroy definiteness
        assert kronecker.inverse_sqrt(P).isnan().all()
        return
    got, want = kronecker.inverse_sqrt(P), reference.kronecker.inverse_sqrt(array(P))
    budget = stored(want, dtype) + backward_stable(d, condition(array(P))) * norm(want)
    assert distance(got, want, budget=budget).passed
    assert torch.equal(got, got.mT)
    if dtype in FLOATS:
        assert inverse_root(array(got), array(P), p=2, u=unit_roundoff(dtype)).passed


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("diagonal", [[1.0, -1.0], [1.0, 0.0], [0.0, 0.0], [1.0, 1e-30], [-1.0, -1.0]])
def test_what_is_not_positive_definite_turns_into_nan_alone(dtype, diagonal):
    P = torch.stack([torch.eye(2, dtype=dtype), torch.diag(torch.tensor(diagonal, dtype=dtype))])
    A = kronecker.inverse_sqrt(P)
    assert torch.equal(A[0], P[0])
    assert A[1].isnan().all()
    if diagonal[1] <= 0:
        G = torch.ones(1, 3, 2, dtype=dtype)
        assert kronecker.left_factor(G.expand(2, 1, 3, 2), P, mu=1.0)[1].isnan().all()
        assert kronecker.hilbert_distance(P, P).isnan().tolist() == [False, True]
        assert kronecker.logdet_divergence(P, P).isnan().tolist() == [False, True]


# ---- objective and distances ------------------------------------------------------------------------------


@pytest.mark.claim("FISMO-J-logdet")
@given(seed=seeds, N=counts, m=sides, n=sides, mu=mus, dtype=st.sampled_from(FLOATS))
def test_the_objective_agrees_with_the_reference_and_ignores_the_gauge(seed, N, m, n, mu, dtype):
    rng = np.random.default_rng(seed)
    G = samples(rng, N, m, n, dtype)
    P, Q = (tensor(cases.spd(rng, d), dtype) for d in (m, n))
    got = kronecker.objective(G, P, Q, mu=mu)
    want = np.asarray(reference.kronecker.objective(array(G), array(P), array(Q), mu=mu))
    p, q = (float(np.trace(np.linalg.inv(array(X)))) for X in (P, Q))
    logs = sum(k * float(np.abs(np.log(np.linalg.eigvalsh(array(X)))).sum()) for k, X in ((n, P), (m, Q)))
    kappa = condition(array(P)) * condition(array(Q))
    terms = norm(array(G)) ** 2 / N * p * q + mu * p * q + logs + m * n
    budget = stored(want, dtype) + backward_stable(m + n, kappa) * terms
    assert distance(got, want, budget=budget).passed
    if dtype == torch.float64:
        moved = kronecker.objective(G, 4.0 * P, Q / 4.0, mu=mu)
        assert distance(moved, want, budget=budget).passed


@pytest.mark.claim("FISMO-T4.1-monotone")
@given(seed=seeds, N=counts, m=sides, n=sides, mu=mus)
def test_half_steps_never_increase_the_objective(seed, N, m, n, mu):
    rng = np.random.default_rng(seed)
    G = samples(rng, N, m, n, torch.float64)
    P, Q = (tensor(cases.spd(rng, d), torch.float64) for d in (m, n))
    values = [float(kronecker.objective(G, P, Q, mu=mu))]
    P = kronecker.left_factor(G, Q, mu=mu)
    values.append(float(kronecker.objective(G, P, Q, mu=mu)))
    Q = kronecker.right_factor(G, P, mu=mu)
    values.append(float(kronecker.objective(G, P, Q, mu=mu)))
    kappa = condition(array(P)) * condition(array(Q))
    rounding = backward_stable(m + n, kappa) * (abs(values[0]) + m * n * (1.0 + math.log(kappa)))
    assert inequality(values[1:], values[:-1], rounding=rounding).passed


@given(seed=seeds, d=sides, dtype=st.sampled_from(FLOATS))
def test_divergence_and_distance_agree_with_the_reference(seed, d, dtype):
    rng = np.random.default_rng(seed)
    X, Y = (tensor(cases.spd(rng, d), dtype) for _ in range(2))
    kappa = condition(array(X)) * condition(array(Y))
    for name in ("logdet_divergence", "hilbert_distance"):
        want = np.asarray(getattr(reference.kronecker, name)(array(X), array(Y)))
        budget = stored(want, dtype) + backward_stable(d, kappa) * (d * kappa)
        assert distance(getattr(kronecker, name)(X, Y), want, budget=budget, name=name).passed


@given(seed=seeds, d=sides, c=st.floats(1e-3, 1e3))
def test_hilbert_distance_ignores_scale_and_inversion(seed, d, c):
    rng = np.random.default_rng(seed)
    X, Y = (tensor(cases.spd(rng, d), torch.float64) for _ in range(2))
    plain = np.asarray(kronecker.hilbert_distance(X, Y))
    kappa = condition(array(X)) * condition(array(Y))
    budget = 2.0 * backward_stable(d, kappa) * d
    assert distance(kronecker.hilbert_distance(c * X, Y), plain, budget=budget).passed
    inverses = (torch.linalg.inv(X), torch.linalg.inv(Y))
    assert distance(kronecker.hilbert_distance(*inverses), plain, budget=budget).passed
    assert distance(kronecker.hilbert_distance(X, c * X), np.asarray(0.0), budget=budget).passed


@pytest.mark.parametrize("delta", [1e-3, 1e-8])
def test_small_divergences_do_not_cancel(delta):
    X, Y = (
        torch.diag(torch.tensor([1.0, 1.0 + delta], dtype=torch.float64)),
        torch.eye(2, dtype=torch.float64),
    )
    exact = (1.0 + delta) - 1.0  # what float64 makes of it
    # The eigenvalue 1 + delta carries a few roundoffs. The distance inherits them; the divergence, flat at 0,
    # delta times them, which is far below the roundoff of the terms of its definition.
    rounding = ORDER_ONE * 2 * DOUBLE
    assert distance(kronecker.hilbert_distance(X, Y), np.asarray(math.log1p(exact)), budget=rounding).passed
    series = sum((-1) ** k * exact**k / k for k in range(2, 8))
    assert distance(kronecker.logdet_divergence(X, Y), np.asarray(series), budget=rounding * delta).passed


# ---- coupling and contraction -----------------------------------------------------------------------------


@pytest.mark.claim("FISMO-T1-contraction")
@given(seed=seeds, N=counts, m=sides, n=sides, mu=mus, dtype=st.sampled_from(DTYPES))
def test_the_coupling_bound_bounds_and_agrees_with_the_reference(device, seed, N, m, n, mu, dtype):
    rng = np.random.default_rng(seed)
    G = samples(rng, N, m, n, dtype, device)
    bound = kronecker.coupling_bound(G)
    want = np.asarray(reference.kronecker.coupling_bound(array(G)))
    budget = stored(want, dtype) + backward_stable(N * m * n, 1.0) * norm(array(G)) ** 2 / N
    assert distance(bound, want, budget=budget).passed
    u, v = (x / np.linalg.norm(x) for x in (rng.standard_normal(m), rng.standard_normal(n)))
    attained = float(np.mean([(u @ g @ v) ** 2 for g in array(G)]))
    assert inequality(attained, float(bound), rounding=budget).passed
    c = np.asarray(reference.kronecker.contraction_factor(array(G), mu=mu))
    slack = budget / (2.0 * mu) + stored(c, dtype) * 4.0
    assert distance(kronecker.contraction_factor(G, mu=mu), c, budget=slack).passed


@pytest.mark.claim("FISMO-T1-contraction")
@given(seed=seeds, N=counts, m=sides, n=sides, mu=mus)
def test_a_half_step_contracts_hilberts_metric_by_the_stated_factor(seed, N, m, n, mu):
    rng = np.random.default_rng(seed)
    G = samples(rng, N, m, n, torch.float64)
    Q1, Q2 = (tensor(cases.spd(rng, n), torch.float64) for _ in range(2))
    P1, P2 = (kronecker.left_factor(G, Q, mu=mu) for Q in (Q1, Q2))
    after = float(kronecker.hilbert_distance(P1, P2))
    allowed = float(kronecker.contraction_factor(G, mu=mu) * kronecker.hilbert_distance(Q1, Q2))
    kappa = max(condition(array(X)) for X in (P1, P2, Q1, Q2))
    rounding = backward_stable(max(m, n), kappa**2) * max(m, n)
    assert inequality(after, allowed, rounding=rounding).passed


def test_without_damping_no_contraction_is_claimed():
    assert kronecker.contraction_factor(torch.zeros(2, 3, 4), mu=0).item() == 1
    assert kronecker.contraction_factor(torch.zeros(2, 3, 4), mu=1).item() == 0


# ---- closed-form step -------------------------------------------------------------------------------------


@pytest.mark.claim("FISMO-T4.2-lmo")
@given(
    seed=seeds, m=sides, n=sides, radius=st.sampled_from([0.0, 0.3, 1.0, 7.0]), dtype=st.sampled_from(FLOATS)
)
def test_fisher_lmo_agrees_with_the_reference_and_attains_the_dual_norm(device, seed, m, n, radius, dtype):
    rng = np.random.default_rng(seed)
    G = tensor(cases.matrix(rng, m, n), dtype, device)
    P, Q = (tensor(cases.spd(rng, d), dtype, device) for d in (m, n))
    X = kronecker.fisher_lmo(G, P, Q, radius=radius)
    want = reference.kronecker.fisher_lmo(array(G), array(P), array(Q), radius=radius)
    A, C = (reference.kronecker.inverse_sqrt(array(F)) for F in (P, Q))
    whitened = A @ array(G) @ C
    # Roots, and the whitened matrix through three roundings per root, move the polar factor by 2 kappa.
    u = unit_roundoff(dtype)
    relative = (2 * (m + n) + 6) * u + backward_stable(m + n, condition(array(P)) * condition(array(Q)))
    polar = 2.0 * relative * norm(A, 2) * norm(array(G)) * norm(C, 2) / np.linalg.svd(whitened)[1].min()
    polar += backward_stable(max(m, n), condition(whitened))
    budget = (radius * norm(A, 2) * norm(C, 2)) * (polar + 2.0 * relative * math.sqrt(min(m, n)))
    assert distance(X, want, budget=budget).passed
    value = float((array(G) * array(X)).sum())
    dual = radius * float(np.linalg.svd(whitened, compute_uv=False).sum())
    assert Ratio("dual norm", abs(value + dual), max(budget * norm(array(G)), cases.EXACT)).passed


# ---- edges and arguments ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("m", "n"), [(0, 0), (0, 3), (3, 0)])
def test_empty_matrices_have_defined_results(m, n):
    G, P, Q = torch.zeros(2, m, n), torch.eye(m), torch.eye(n)
    if n == 0:
        assert torch.equal(kronecker.left_factor(G, Q, mu=1.0), torch.zeros(m, m))
    if m == 0:
        assert torch.equal(kronecker.right_factor(G, P, mu=1.0), torch.zeros(n, n))
    assert kronecker.objective(G, P, Q, mu=1).item() == 0
    assert kronecker.coupling_bound(G).item() == 0
    assert kronecker.fisher_lmo(G[0], P, Q).shape == (m, n)
    assert kronecker.inverse_sqrt(torch.eye(0)).shape == (0, 0)
    assert kronecker.hilbert_distance(torch.eye(0), torch.eye(0)).item() == 0
    assert kronecker.logdet_divergence(torch.eye(0), torch.eye(0)).item() == 0


G, I2, I3 = torch.ones(2, 3), torch.eye(2), torch.eye(3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: kronecker.left_factor(G, I2, mu=1.0), ValueError, r"Q must have shape \(..., 3, 3\)"),
        (lambda: kronecker.right_factor(G, I3, mu=1.0), ValueError, r"P must have shape \(..., 2, 2\)"),
        (lambda: kronecker.left_factor(G, I3, mu=-1.0), ValueError, "mu must be"),
        (lambda: kronecker.right_factor(G, I2, mu=math.nan), ValueError, "mu must be"),
        (
            lambda: kronecker.left_factor(G[:0].reshape(0, 2, 3), I3, mu=1.0),
            ValueError,
            "at least one sample",
        ),
        (lambda: kronecker.left_factor(G[0], I3, mu=1.0), ValueError, "G must have shape"),
        (lambda: kronecker.left_factor(G, I3, mu="1"), TypeError, "mu must be a real number"),
        (lambda: kronecker.objective(G, I3, I3, mu=1.0), ValueError, r"P must have shape \(..., 2, 2\)"),
        (lambda: kronecker.objective(G, I2, I3, mu=-1.0), ValueError, "mu must be"),
        (lambda: kronecker.inverse_sqrt(G), ValueError, "P must have shape"),
        (lambda: kronecker.hilbert_distance(I2, I3), ValueError, "Y must have shape"),
        (lambda: kronecker.logdet_divergence(G, I3), ValueError, "X must have shape"),
        (lambda: kronecker.contraction_factor(G, mu=-1.0), ValueError, "mu must be"),
        (lambda: kronecker.coupling_bound(torch.arange(6).reshape(2, 3)), ValueError, "G must be float64"),
        (lambda: kronecker.fixed_point(G, mu=1.0, method="sor"), ValueError, "method must be one of"),
        (lambda: kronecker.fixed_point(G, mu=1.0, damping="both"), ValueError, "damping must be one of"),
        (lambda: kronecker.fixed_point(G, mu=1.0, tolerance=0.0), ValueError, "tolerance must be"),
        (lambda: kronecker.fixed_point(G, mu=1.0, max_iterations=0), ValueError, "max_iterations must be"),
        (lambda: kronecker.fixed_point(G, mu=1.0, Q0=I2), ValueError, "Q0 must have shape"),
        (lambda: kronecker.fisher_lmo(G, I2, I3, radius=-1.0), ValueError, "radius must be"),
        (lambda: kronecker.fisher_lmo(G, I3, I3), ValueError, "P must have shape"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
