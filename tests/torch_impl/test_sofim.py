"""`torch_impl.sofim` against its reference, dense solves, and the limits of the printed formula."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

import reference.sofim
from proofs_checks.ratios import ORDER_ONE, Ratio, inequality, linear_solve, recursion, unit_roundoff
from tests.torch_impl import cases
from tests.torch_impl.cases import DOUBLE, DTYPES, FLOATS, array, distance, norm, seeds, tensor
from torch_impl import sofim

lengths = st.integers(1, 12)
rhos = st.sampled_from([0.1, 0.5, 2.0])
scales = st.sampled_from([1e-3, 1.0, 30.0])


def working(dtype):
    return torch.promote_types(dtype, torch.float32)


# ---- directions -------------------------------------------------------------------------------------------


@pytest.mark.claim("SOFIM-closed-form")
@given(seed=seeds, d=lengths, rho=rhos, scale=scales, dtype=st.sampled_from(DTYPES))
def test_the_closed_form_agrees_with_the_reference_in_every_precision(device, seed, d, rho, scale, dtype):
    M_hat = tensor(scale * np.random.default_rng(seed).standard_normal(d), dtype, device)
    got, want = sofim.direction(M_hat, rho=rho), reference.sofim.direction(array(M_hat), rho=rho)
    # The norm, its sum with rho, the quotient in the working precision, the store: d + 4 roundings at most.
    budget = (2 * d + 8) * unit_roundoff(working(dtype)) * norm(want) + cases.stored(want, dtype)
    assert distance(got, want, budget=budget).passed
    assert got.dtype == dtype


@pytest.mark.claim("SOFIM-eq6", "SOFIM-closed-form")
@given(seed=seeds, d=lengths, rho=rhos, scale=scales, dtype=st.sampled_from(FLOATS))
def test_the_closed_form_solves_the_dense_system(seed, d, rho, scale, dtype):
    M_hat = tensor(scale * np.random.default_rng(seed).standard_normal(d), dtype)
    F = np.outer(array(M_hat), array(M_hat)) + rho * np.eye(d)
    x = array(sofim.direction(M_hat, rho=rho))
    assert linear_solve(F, x, array(M_hat), u=unit_roundoff(dtype)).passed


@pytest.mark.claim("SOFIM-cancellation")
@given(seed=seeds, d=lengths, rho=rhos, scale=scales, dtype=st.sampled_from(FLOATS))
def test_equation_6_and_the_bracket_are_the_closed_form_up_to_their_cancellation(seed, d, rho, scale, dtype):
    M_hat = tensor(scale * np.random.default_rng(seed).standard_normal(d), dtype)
    X = array(M_hat)
    want = reference.sofim.direction(X, rho=rho)
    s = float(X @ X) / rho
    budget = (d + 12) * (unit_roundoff(dtype) + DOUBLE) * (1.0 + s) * norm(want)
    for name in ("two_term_direction", "bracket_direction"):
        got = getattr(sofim, name)(M_hat, rho=rho)
        assert got.dtype == dtype
        assert distance(got, want, budget=budget, name=name).passed
        assert distance(got, getattr(reference.sofim, name)(X, rho=rho), budget=2 * budget, name=name).passed


@pytest.mark.claim("SOFIM-cancellation", "SOFIM-other-forms")
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_printed_forms_lose_everything_where_the_closed_form_loses_nothing(dtype):
    u = unit_roundoff(dtype)
    direction = np.random.default_rng(0).standard_normal(64)
    # s = |m|^2 / rho far above 1/u; in float16 the norm of m then stays below its largest number.
    M_hat = tensor(direction / np.linalg.norm(direction) * math.sqrt(0.5 * 64.0 / u), dtype)
    M_hat, rho = (M_hat / 8.0, 0.5 / 64.0) if dtype == torch.float16 else (M_hat, 0.5)
    want = reference.sofim.direction(array(M_hat), rho=rho)
    budget = 2 * 64 * u * norm(want)
    assert distance(sofim.direction(M_hat, rho=rho), want, budget=budget).passed
    assert not distance(sofim.two_term_direction(M_hat, rho=rho), want, budget=budget).passed
    assert not distance(sofim.bracket_direction(M_hat, rho=rho), want, budget=budget).passed


@pytest.mark.claim("SOFIM-other-forms")
def test_float16_never_overflows_in_the_closed_form_and_does_in_equation_6():
    M_hat = torch.full((64,), 200.0, dtype=torch.float16)
    assert sofim.two_term_direction(M_hat, rho=0.5).isnan().all()
    want = reference.sofim.direction(array(M_hat), rho=0.5)
    got = sofim.direction(M_hat, rho=0.5)
    assert distance(got, want, budget=cases.stored(want, torch.float16) + norm(want) * 2.0**-20).passed


@pytest.mark.claim("SOFIM-step-bound")
@given(seed=seeds, d=lengths, rho=rhos, scale=st.floats(1e-4, 1e4))
def test_no_direction_is_longer_than_the_bound_which_is_attained(seed, d, rho, scale):
    M_hat = tensor(np.random.default_rng(seed).standard_normal(d), torch.float64)
    bound = 1.0 / (2.0 * math.sqrt(rho))
    length = norm(array(sofim.direction(scale * M_hat, rho=rho)))
    assert inequality(length, bound, rounding=(d + 8) * DOUBLE * bound).passed
    largest = norm(array(sofim.direction(math.sqrt(rho) * M_hat / torch.linalg.vector_norm(M_hat), rho=rho)))
    assert Ratio("attained", abs(largest - bound), (d + 8) * DOUBLE * bound).passed


def test_a_long_norm_is_accumulated_in_float64():
    M_hat = torch.full((1 << 20,), 1e-3)
    M_hat[0] = 30.0  # float32 partial sums of 900 + 1e-6 + ... would lose the small entries
    want = reference.sofim.direction(array(M_hat), rho=0.5)
    u = unit_roundoff("float32")
    assert distance(sofim.direction(M_hat, rho=0.5), want, budget=4 * u * norm(want)).passed


def test_the_squared_norm_of_float32_does_not_overflow():
    update = sofim.direction(torch.tensor([3e25, 0.0]), rho=0.5)
    assert torch.equal(update, torch.zeros(2)), "1 / 3e25 is below what an infinite norm would also give"
    assert sofim.direction(torch.tensor([1e12, 0.0]), rho=0.5).isfinite().all()


# ---- Sherman and Morrison ---------------------------------------------------------------------------------


@pytest.mark.claim("SOFIM-eq6")
@given(
    seed=seeds,
    d=lengths,
    kind=st.sampled_from(["scalar", "diagonal", "dense"]),
    dtype=st.sampled_from(DTYPES),
)
def test_sherman_morrison_solves_the_updated_system(device, seed, d, kind, dtype):
    rng = np.random.default_rng(seed)
    u, v, b = (tensor(rng.standard_normal(d), dtype, device) for _ in range(3))
    A = {
        "scalar": lambda: 1.5,
        "diagonal": lambda: tensor(rng.uniform(0.5, 2.0, d), dtype, device),
        "dense": lambda: tensor(cases.spd(rng, d), dtype, device),
    }[kind]()
    dense = A * np.eye(d) if kind == "scalar" else array(A) if kind == "dense" else np.diag(array(A))
    F = dense + np.outer(array(u), array(v))
    # The formula divides by 1 + v^T A^-1 u = det F / det A: not backward stable where that nearly vanishes.
    growth = cases.condition(F) * cases.condition(dense) * norm(array(u)) * norm(array(v))
    assume(growth * DOUBLE * ORDER_ONE * d < unit_roundoff("float32"))
    got = sofim.sherman_morrison_solve(A, u, v, b)
    want = reference.sofim.sherman_morrison_solve(
        A if kind == "scalar" else array(A), array(u), array(v), array(b)
    )
    budget = cases.stored(want, dtype) + cases.backward_stable(d, (1.0 + growth) * cases.condition(F)) * norm(
        want
    )
    assert distance(got, want, budget=budget).passed
    assert distance(got, np.linalg.solve(F, array(b)), budget=budget).passed
    assert got.dtype == dtype


def test_sherman_morrison_in_batches_of_every_kind():
    rng = np.random.default_rng(1)
    u, v, b = (tensor(rng.uniform(0.0, 1.0, (3, 4)), torch.float64) for _ in range(3))
    dense = torch.stack([tensor(cases.spd(rng, 4), torch.float64) for _ in range(3)])
    for A in (2.0, torch.tensor(2.0), torch.full((4,), 2.0), torch.full((3, 4), 2.0), dense):
        x = sofim.sherman_morrison_solve(A, u, v, b)
        for i in range(3):
            full = array(dense[i]) if A is dense else 2.0 * np.eye(4)
            F = full + np.outer(array(u[i]), array(v[i]))
            want = np.linalg.solve(F, array(b[i]))
            budget = cases.backward_stable(4, cases.condition(F) ** 2) * norm(want)
            assert distance(x[i], want, budget=budget).passed


def test_singular_systems_give_nan():
    e = torch.tensor([1.0, 0.0], dtype=torch.float64)
    ones = torch.ones(2, dtype=torch.float64)
    assert sofim.sherman_morrison_solve(1.0, e, -e, ones).isnan().all()
    for other in (ones, e, 1.0 - e):
        assert sofim.sherman_morrison_solve(e, other, ones, ones).isnan().all()
        assert sofim.sherman_morrison_solve(e, ones, other, ones).isnan().all()
    assert sofim.sherman_morrison_solve(torch.diag(e), ones, ones, ones).isnan().all()


# ---- steps ------------------------------------------------------------------------------------------------


@pytest.mark.claim("SOFIM-pipeline")
@given(
    seed=seeds,
    d=lengths,
    beta=st.sampled_from([0.0, 0.5, 0.9, 0.999]),
    rho=rhos,
    steps=st.integers(1, 4),
    dtype=st.sampled_from(DTYPES),
)
def test_trajectories_agree_with_the_reference(device, seed, d, beta, rho, steps, dtype):
    rng = np.random.default_rng(seed)
    state = sofim.init(torch.zeros(d, dtype=dtype, device=device))
    other, terms = reference.sofim.init(np.zeros(d)), np.zeros(d)
    u = unit_roundoff(working(dtype))
    for t in range(1, steps + 1):
        g = tensor(rng.standard_normal(d), dtype, device)
        before = g.clone()
        got, state = sofim.step(g, state, beta=beta, rho=rho)
        want, other = reference.sofim.step(array(g), other, beta=beta, rho=rho)
        terms = beta * terms + (1.0 - beta) * np.abs(array(g))
        assert recursion(array(state.M), other.M, terms, operations=4 * t, u=u).passed
        assert (state.t, state.M.dtype, got.dtype) == (t, working(dtype), working(dtype))
        # An error e in M_hat moves M_hat / (rho + nu) by e / (rho + nu) + M_hat 2 |M_hat| |e| / (rho + nu)^2.
        M_hat, wide = other.M / (1.0 - beta**t), terms / (1.0 - beta**t)
        denominator = rho + M_hat @ M_hat
        moved = wide / denominator + np.abs(M_hat) * 2 * norm(M_hat) * norm(wide) / denominator**2
        correction = 4 / (1.0 - beta)  # beta**t is rounded before it is subtracted from 1
        operations = math.ceil(4 * t + d + 8 + correction)
        assert recursion(array(got), want, moved, operations=operations, u=u).passed
        assert torch.equal(g, before), "the input was modified"


@pytest.mark.claim("SOFIM-closed-form")
def test_three_golden_steps():
    w = torch.tensor([1.0, -2.0], dtype=torch.float64)
    curvature = torch.tensor([1.0, 3.0], dtype=torch.float64)
    state = sofim.init(w)
    printed = (
        [0.9973333333333, -1.984],
        [0.9946485498702, -1.967936580179],
        [0.9919447873692, -1.951806938769],
    )
    digits = 0.5e-12 + ORDER_ONE * 3 * DOUBLE  # half a unit in the last decimal printed, and rounding
    for point in printed:
        update, state = sofim.step(curvature * w, state, beta=0.9, rho=0.5)
        w = w - 0.1 * update
        assert Ratio("w", float(np.abs(array(w) - point).max()), digits).passed


@pytest.mark.claim("SOFIM-scaling")
@given(seed=seeds, k=st.integers(-20, 20))
def test_scaling_the_loss_with_rho_and_the_step_changes_nothing(seed, k):
    rng, c = np.random.default_rng(seed), 2.0**k
    left = right = sofim.init(torch.zeros(5, dtype=torch.float64))
    for _ in range(3):
        g = tensor(rng.standard_normal(5), torch.float64)
        update, left = sofim.step(g, left, rho=0.5)
        scaled, right = sofim.step(c * g, right, rho=0.5 * c**2)
        assert torch.equal(update, c * scaled), "a power of two must scale out exactly"


def test_a_batch_is_its_members_each_with_its_own_norm():
    rng = np.random.default_rng(0)
    g = tensor(rng.standard_normal((2, 3, 4)), torch.float64)
    update, state = sofim.step(g, sofim.init(g))
    for i, j in np.ndindex(2, 3):
        alone, one = sofim.step(g[i, j], sofim.init(g[i, j]))
        assert torch.equal(update[i, j], alone)
        assert torch.equal(state.M[i, j], one.M)


def test_zero_and_empty_gradients_give_no_step():
    for w in (torch.zeros(4), torch.zeros(0), torch.zeros(2, 0)):
        update, state = sofim.step(w, sofim.init(w))
        assert torch.equal(update, w)
        assert torch.equal(state.M, w)


V, S = torch.ones(3), sofim.init(torch.ones(3))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: sofim.step(V, S, beta=1.0), ValueError, "beta must be"),
        (lambda: sofim.step(V, S, rho=0.0), ValueError, r"rho must be .*> 0, got 0\.0"),
        (lambda: sofim.step(V, S, rho=math.nan), ValueError, "rho must be a finite number"),
        (lambda: sofim.step(torch.ones(4), S), ValueError, r"g must have shape \(3,\)"),
        (lambda: sofim.step(torch.ones(3, dtype=torch.int64), S), ValueError, "g must be float64"),
        (lambda: sofim.init(torch.tensor(1.0)), ValueError, "w must have shape"),
        (lambda: sofim.direction(V, rho=-1.0), ValueError, "rho must be"),
        (lambda: sofim.direction([1.0], rho=1.0), TypeError, "M_hat must be a torch.Tensor"),
        (lambda: sofim.two_term_direction(V, rho=0.0), ValueError, "rho must be"),
        (lambda: sofim.bracket_direction(V, rho=0.0), ValueError, "rho must be"),
        (lambda: sofim.sherman_morrison_solve(0.0, V, V, V), ValueError, "A must not be 0"),
        (lambda: sofim.sherman_morrison_solve(1.0, V[:2], V, V), ValueError, "u must have shape"),
        (lambda: sofim.sherman_morrison_solve(torch.ones(2), V, V, V), ValueError, "A must be a number or"),
        (lambda: sofim.sherman_morrison_solve(torch.ones(2, 2), V, V, V), ValueError, "A must have shape"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.gpu
def test_a_step_never_makes_the_host_wait(cuda):
    g = torch.randn(3, 8, device=cuda)
    state = sofim.init(g)
    torch.cuda.set_sync_debug_mode("error")
    try:
        sofim.step(g, state)
    finally:
        torch.cuda.set_sync_debug_mode("default")
