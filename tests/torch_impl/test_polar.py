"""`torch_impl.polar` against its reference, against known polar factors, and at the edges."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

import reference.polar
from proofs_checks.ratios import (
    ORDER_ONE,
    Ratio,
    forward_polar,
    inequality,
    orthogonality,
    polar_structure,
    truncated_iteration,
    unit_roundoff,
)
from tests.strategies import known_polar
from tests.torch_impl import cases
from tests.torch_impl.cases import DOUBLE, DTYPES, FLOATS, array, distance, norm, seeds, sides, tensor
from torch_impl import _checks, polar

POLYNOMIALS = {
    "jordan": polar.JORDAN_QUINTIC,
    "cubic": polar.kim_oh_polynomial(1),
    "taylor": polar.kim_oh_polynomial(2),
    "septic": polar.kim_oh_polynomial(3),
    # Without the safety factor a half-precision iterate can leave the interval and diverge.
    "polar-express": polar.polar_express_coefficients(steps=6, safety=1.01),
    "linear": (0.5,),
}
EMPTY = [(0, 0), (0, 3), (3, 0), (2, 0, 3), (0, 3, 2)]

#: Condition that every dtype's cut-off max(m, n) eps leaves beyond doubt for sides up to 7.
DECADES = 4.0


# ---- polar factor -----------------------------------------------------------------------------------------


@pytest.mark.claim("POLAR-conditioning")
@given(seed=seeds, m=sides, n=sides, decades=st.floats(0.0, DECADES), dtype=st.sampled_from(DTYPES))
def test_polar_factor_agrees_with_the_reference(device, seed, m, n, decades, dtype):
    M = tensor(cases.matrix(np.random.default_rng(seed), m, n, decades=decades), dtype, device)
    before, X = M.clone(), array(M)
    assume(cases.well_resolved(np.linalg.svd(X, compute_uv=False), max(m, n)))
    got, want = polar.polar_factor(M), reference.polar.polar_factor(X)
    assert distance(got, want, budget=cases.polar_budget(X, want, dtype)).passed
    assert (got.dtype, got.device) == (M.dtype, M.device)
    assert torch.equal(M, before), "the input was modified"


@given(case=known_polar(max_decades=DECADES, deficient=True), dtype=st.sampled_from(FLOATS))
def test_polar_factor_is_the_isometry_the_matrix_was_built_from(case, dtype):
    assume(cases.well_resolved(case.s, max(case.M.shape)))
    M, u = tensor(case.M, dtype), unit_roundoff(dtype)
    if dtype == torch.float32:
        assume(case.rank == min(case.M.shape))  # rounding to float32 fills the zero singular values
    Q = array(polar.polar_factor(M))
    assert forward_polar(Q, case.M, u=u, exact=case.Q).passed
    assert orthogonality(Q, u=u, rank=case.rank).passed
    structure = polar_structure(Q, case.M, u=u)
    deflated = structure.threshold * structure.budget + 2.0 * cases.DEFLATION * DOUBLE
    assert Ratio(structure.name, structure.error, deflated).passed


@given(seed=seeds, m=sides, n=sides, r=st.integers(0, 3), dtype=st.sampled_from(DTYPES))
def test_rank_deficient_matrices_give_the_partial_isometry(device, seed, m, n, r, dtype):
    X = cases.exactly_low_rank(np.random.default_rng(seed), m, n, r)
    got, want = polar.polar_factor(tensor(X, dtype, device)), reference.polar.polar_factor(X)
    assert distance(got, want, budget=cases.polar_budget(X, want, dtype)).passed
    rank = int(np.linalg.matrix_rank(X))
    assert orthogonality(array(got), u=unit_roundoff(dtype), rank=rank).passed


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_cut_off_is_that_of_the_dtype_and_of_float32_for_half_precision(dtype):
    eps = torch.finfo(torch.float64 if dtype == torch.float64 else torch.float32).eps
    for factor, kept in ((0.5, 0.0), (4.0, 1.0)):
        M = torch.diag(torch.tensor([1.0, factor * 2 * eps, 0.0], dtype=torch.float64))[:2].to(dtype)
        if M[1, 1] == 0 or dtype == torch.float16:
            continue  # below float16's smallest number, or too coarse to stay on its side of the cut
        assert polar.polar_factor(M[:, :2])[1, 1].item() == kept


@given(seed=seeds, m=sides, n=sides, k=st.integers(-480, 480), dtype=st.sampled_from(FLOATS))
def test_a_power_of_two_scales_out_exactly(seed, m, n, k, dtype):
    M = tensor(cases.matrix(np.random.default_rng(seed), m, n), dtype)
    k = k if dtype == torch.float64 else k // 8
    scaled = M * 2.0**k * (2.0**k if dtype == torch.float64 else 1.0)
    assert torch.equal(polar.polar_factor(scaled), polar.polar_factor(M))
    assert torch.equal(
        polar.newton_schulz(scaled, polar.JORDAN_QUINTIC), polar.newton_schulz(M, polar.JORDAN_QUINTIC)
    )


@pytest.mark.parametrize("dtype", FLOATS)
def test_matrices_are_scaled_by_an_exact_power_of_two(dtype):
    limits = torch.finfo(dtype)
    for size in (limits.smallest_normal * limits.eps, limits.smallest_normal, 0.3, 1.0, 7.0, limits.max):
        M = torch.tensor([[size, 0.0], [-size, size]], dtype=dtype)
        X, s = _checks.scaled(M)
        assert torch.equal(X * s, M)
        assert torch.equal(torch.frexp(s).mantissa, torch.full_like(s, 0.5)), "not a power of two"
        assert torch.frexp(X.abs().max()).exponent.item() == 1, "largest entry outside [1, 2)"
    assert torch.equal(_checks.scaled(torch.zeros(2, 2, dtype=dtype))[1], torch.ones(1, 1, dtype=dtype))


@pytest.mark.parametrize("scale", [1e-300, 1e-12, 1e12, 1e300])
def test_polar_factor_is_safe_at_every_scale(scale):
    X = cases.matrix(np.random.default_rng(0), 4, 3)
    got, want = polar.polar_factor(tensor(scale * X, torch.float64)), reference.polar.polar_factor(X)
    # Scaling by a power of ten rounds every entry once.
    budget = cases.polar_budget(X, want, torch.float64) + 2.0 * DOUBLE * cases.condition(X) * cases.norm(X)
    assert distance(got, want, budget=budget).passed


@pytest.mark.parametrize("shape", EMPTY)
def test_empty_matrices_have_empty_factors(shape):
    for method in (*polar.ORTHOGONALIZERS, lambda M: M):
        assert polar.orthogonalize(torch.zeros(shape), method).shape == shape
    assert torch.equal(polar.nuclear_norm(torch.zeros(shape)), torch.zeros(shape[:-2]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", polar.ORTHOGONALIZERS)
def test_zero_maps_to_zero_and_a_row_to_its_direction(dtype, method):
    assert torch.equal(
        polar.orthogonalize(torch.zeros(3, 4, dtype=dtype), method), torch.zeros(3, 4, dtype=dtype)
    )
    row = torch.tensor([[3.0, 0.0, 4.0]], dtype=dtype)
    for M in (row, row.mT):
        Q = polar.orthogonalize(M, method)
        length = torch.linalg.vector_norm(Q.double()).item()
        direction = cases.array(M) / 5.0
        # Two roundings per entry and step; the iterations need not reach length 1, only keep the direction.
        budget = 2.0 * len(polar.POLAR_EXPRESS) * unit_roundoff(dtype) * ORDER_ONE
        assert distance(Q / length, direction, budget=budget).passed


@given(seed=seeds, dtype=st.sampled_from(FLOATS))
def test_a_batch_gives_what_its_matrices_give(seed, dtype):
    rng = np.random.default_rng(seed)
    M = torch.stack([tensor(cases.matrix(rng, 4, 3), dtype) for _ in range(6)]).reshape(2, 3, 4, 3)
    Q = polar.polar_factor(M)
    for i, j in np.ndindex(2, 3):
        want = reference.polar.polar_factor(array(M[i, j]))
        assert distance(Q[i, j], want, budget=cases.polar_budget(array(M[i, j]), want, dtype)).passed


# ---- nuclear norm and the ball ----------------------------------------------------------------------------


@given(seed=seeds, m=sides, n=sides, decades=st.floats(0.0, DECADES), dtype=st.sampled_from(DTYPES))
def test_nuclear_norm_agrees_with_the_reference(device, seed, m, n, decades, dtype):
    M = tensor(cases.matrix(np.random.default_rng(seed), m, n, decades=decades), dtype, device)
    want = np.asarray(reference.polar.nuclear_norm(array(M)))
    # Weyl: every singular value is off by at most a backward error of the largest.
    budget = cases.stored(want, dtype) + min(m, n) * cases.backward_stable(max(m, n), 1.0) * cases.norm(
        array(M), 2
    )
    assert distance(polar.nuclear_norm(M), want, budget=budget).passed


@pytest.mark.claim("POLAR-duality")
@given(
    seed=seeds, m=sides, n=sides, radius=st.sampled_from([0.0, 0.3, 1.0, 7.0]), dtype=st.sampled_from(FLOATS)
)
def test_spectral_lmo_attains_the_dual_norm_on_the_boundary(seed, m, n, radius, dtype):
    G = tensor(cases.matrix(np.random.default_rng(seed), m, n), dtype)
    X = polar.spectral_lmo(G, radius=radius)
    want = reference.polar.spectral_lmo(array(G), radius=radius)
    budget = (radius + DOUBLE) * cases.polar_budget(array(G), np.eye(m, n), dtype) + cases.stored(want, dtype)
    assert distance(X, want, budget=budget).passed
    value, dual = float((X.double() * G.double()).sum()), radius * float(polar.nuclear_norm(G.double()))
    rounding = (budget + DOUBLE * G.numel() * radius) * cases.norm(array(G)) + cases.EXACT
    assert Ratio("dual norm", abs(value + dual), rounding).passed
    assert inequality(cases.norm(array(X), 2), radius, rounding=max(budget, DOUBLE)).passed


# ---- polynomial iterations --------------------------------------------------------------------------------


@pytest.mark.claim("METH-budget")
@given(
    seed=seeds,
    m=sides,
    n=sides,
    decades=st.floats(0.0, 3.0),
    name=st.sampled_from(sorted(POLYNOMIALS)),
    steps=st.one_of(st.none(), st.integers(0, 9)),
    normalize=st.booleans(),
    floor=st.sampled_from([0.0, 1.0, 3.0]),
    shift=st.sampled_from([0.0, 1e-2]),
    dtype=st.sampled_from(DTYPES),
)
def test_newton_schulz_is_the_polynomial_of_the_singular_values(
    device, seed, m, n, decades, name, steps, normalize, floor, shift, dtype
):
    X = cases.matrix(np.random.default_rng(seed), m, n, decades=decades)
    options = {"steps": steps, "normalize": normalize, "floor": floor, "shift": shift}
    M = tensor(X, dtype, device)
    got = polar.newton_schulz(M, POLYNOMIALS[name], **options)
    assert got.dtype == dtype
    ratio = truncated_iteration(array(got), X, POLYNOMIALS[name], u=unit_roundoff(dtype), **options)
    assert ratio.passed, ratio
    if dtype == torch.float64:
        want = reference.polar.newton_schulz(X, POLYNOMIALS[name], **options)
        assert distance(got, want, budget=2.0 * ratio.budget).passed


@given(seed=seeds, inner=st.sampled_from([torch.bfloat16, torch.float32, torch.float64]))
def test_the_precision_of_the_iteration_can_be_chosen_apart_from_the_input(seed, inner):
    X = cases.matrix(np.random.default_rng(seed), 5, 4)
    M = tensor(X, torch.float32)
    before = M.clone()
    got = polar.newton_schulz(M, polar.JORDAN_QUINTIC, dtype=inner)
    assert got.dtype == torch.float32
    assert torch.equal(M, before), "the input was modified"
    u = max(unit_roundoff(inner), unit_roundoff("float32"))
    assert truncated_iteration(array(got), X, polar.JORDAN_QUINTIC, u=u).passed
    if inner == torch.bfloat16:
        assert torch.equal(got, got.to(inner).float()), "the iteration did not run in bfloat16"


@given(seed=seeds, name=st.sampled_from(sorted(POLYNOMIALS)), dtype=st.sampled_from(FLOATS))
def test_scalar_map_is_newton_schulz_of_one_by_one_matrices(seed, name, dtype):
    x = np.random.default_rng(seed).uniform(0.0, 1.0, 5)
    got = array(polar.scalar_map(tensor(x, dtype), POLYNOMIALS[name]))
    want = reference.polar.scalar_map(array(tensor(x, dtype)), POLYNOMIALS[name])
    for value, expected, point in zip(got, want, x, strict=True):
        ratio = truncated_iteration(
            [[value]], np.array([[point]]), POLYNOMIALS[name], u=unit_roundoff(dtype), normalize=False
        )
        assert ratio.passed
        assert Ratio("agreement", abs(value - expected), 2.0 * ratio.budget).passed


@pytest.mark.parametrize("scale", [1e-300, 1e-3, 1.0, 1e3, 1e300])
@pytest.mark.parametrize(("floor", "shift"), [(0.0, 0.0), (0.0, 1e-2), (1.0, 0.0), (3.0, 5.0)])
def test_the_start_is_the_matrix_over_its_norm_with_shift_and_floor(scale, floor, shift):
    M = tensor(scale * cases.matrix(np.random.default_rng(0), 4, 3), torch.float64)
    length = scale * norm(array(M) / scale)
    want = array(M) / max(length + shift, floor)
    got = polar.newton_schulz(M, (1.0,), steps=1, floor=floor, shift=shift)
    assert distance(got, want, budget=(M.numel() + 8) * DOUBLE * norm(want)).passed


def test_a_schedule_is_cut_short_or_its_last_polynomial_repeated():
    x, p, q = torch.tensor([0.25, 0.75], dtype=torch.float64), (2.0, -1.0), (0.5, 0.25)
    first, both = polar.scalar_map(x, [p]), polar.scalar_map(polar.scalar_map(x, [p]), [q])
    assert torch.equal(polar.scalar_map(x, [p, q], steps=0), x)
    assert torch.equal(polar.scalar_map(x, [p, q], steps=1), first)
    assert torch.equal(polar.scalar_map(x, [p, q]), both)
    assert torch.equal(polar.scalar_map(x, [p, q], steps=4), polar.scalar_map(both, q, steps=2))
    assert torch.equal(polar.scalar_map(x, p), polar.scalar_map(x, [p] * 5)), "Muon takes five"


def test_without_steps_and_normalisation_the_result_is_still_a_copy():
    M = torch.ones(2, 2)
    got = polar.newton_schulz(M, polar.JORDAN_QUINTIC, steps=0, normalize=False)
    assert torch.equal(got, M)
    assert got.data_ptr() != M.data_ptr()


@given(seed=seeds)
def test_the_named_orthogonalizers_are_what_they_say(seed):
    M = tensor(cases.matrix(np.random.default_rng(seed), 4, 5), torch.float64)
    safe = [tuple(c / 1.01 ** (2 * i + 1) for i, c in enumerate(p)) for p in polar.POLAR_EXPRESS[:-1]]
    safe.append(polar.POLAR_EXPRESS[-1])
    express = truncated_iteration(
        array(polar.orthogonalize(M, "polar-express")), array(M), safe, u=DOUBLE, shift=1e-2
    )
    assert express.passed
    jordan = truncated_iteration(
        array(polar.orthogonalize(M, "jordan")), array(M), polar.JORDAN_QUINTIC, u=DOUBLE
    )
    assert jordan.passed
    assert torch.equal(polar.orthogonalize(M), polar.polar_factor(M))
    assert torch.equal(polar.orthogonalize(M, lambda X: -X), -M)


# ---- arguments --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: polar.polar_factor(torch.ones(3)), ValueError, "M must have shape"),
        (lambda: polar.polar_factor(torch.ones(3, 3, dtype=torch.int64)), ValueError, "M must be float64"),
        (
            lambda: polar.polar_factor(torch.ones(3, 3, dtype=torch.complex64)),
            ValueError,
            "M must be float64",
        ),
        (lambda: polar.polar_factor(torch.eye(3).to_sparse()), ValueError, "M must be dense"),
        (lambda: polar.polar_factor(np.eye(3)), TypeError, "M must be a torch.Tensor"),
        (lambda: polar.nuclear_norm(torch.ones(3)), ValueError, "M must have shape"),
        (
            lambda: polar.spectral_lmo(torch.eye(2), radius=-1.0),
            ValueError,
            "radius must be .*>= 0, got -1.0",
        ),
        (lambda: polar.spectral_lmo(torch.eye(2), radius=math.nan), ValueError, "radius must be a finite"),
        (lambda: polar.newton_schulz(torch.eye(2), ()), ValueError, "polynomials must hold"),
        (lambda: polar.newton_schulz(torch.eye(2), [()]), ValueError, "polynomials must each hold"),
        (lambda: polar.newton_schulz(torch.eye(2), (math.inf,)), ValueError, "polynomials must be a finite"),
        (lambda: polar.newton_schulz(torch.eye(2), (1.0,), steps=-1), ValueError, "steps must be at least 0"),
        (lambda: polar.newton_schulz(torch.eye(2), (1.0,), steps=1.5), TypeError, "steps must be an integer"),
        (lambda: polar.newton_schulz(torch.eye(2), (1.0,), floor=-1.0), ValueError, "floor must be"),
        (lambda: polar.newton_schulz(torch.eye(2), (1.0,), shift=-1.0), ValueError, "shift must be"),
        (lambda: polar.newton_schulz(torch.eye(2), (1.0,), dtype=torch.int32), ValueError, "dtype must be"),
        (lambda: polar.scalar_map(torch.arange(3), (1.0,)), ValueError, "x must be float64"),
        (lambda: polar.kim_oh_polynomial(0), ValueError, "k must be at least 1, got 0"),
        (lambda: polar.kim_oh_polynomial(1.5), TypeError, "k must be an integer"),
        (lambda: polar.polar_express_coefficients(0.0), ValueError, "lower must be"),
        (lambda: polar.polar_express_coefficients(2.0), ValueError, "lower must be"),
        (lambda: polar.polar_express_coefficients(degree=4), ValueError, "degree must be 3 or 5"),
        (lambda: polar.polar_express_coefficients(steps=0), ValueError, "steps must be at least 1"),
        (lambda: polar.polar_express_coefficients(cushion=1.0), ValueError, "cushion must be"),
        (lambda: polar.polar_express_coefficients(safety=0.5), ValueError, "safety must be"),
        (
            lambda: polar.orthogonalize(torch.eye(2), "svd"),
            ValueError,
            "orthogonalize must be one of 'polar'",
        ),
        (lambda: polar.orthogonalize(torch.eye(2), lambda M: M[:1]), ValueError, "must keep the shape"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.gpu
def test_newton_schulz_never_makes_the_host_wait(cuda):
    M = torch.randn(3, 8, 8, device=cuda)
    torch.cuda.set_sync_debug_mode("error")
    try:
        polar.newton_schulz(M, polar.POLAR_EXPRESS, dtype=torch.bfloat16)
    finally:
        torch.cuda.set_sync_debug_mode("default")
