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
from tests.torch_impl.cases import DOUBLE, DTYPES, FLOATS, array, distance, seeds, sides, tensor
from torch_impl import polar

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


def test_without_steps_and_normalisation_the_result_is_still_a_copy():
    M = torch.ones(2, 2)
    got = polar.newton_schulz(M, polar.JORDAN_QUINTIC, steps=0, normalize=False)
    assert torch.equal(got, M)
    assert got.data_ptr() != M.data_ptr()


# ---- coefficients -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", range(1, 12))
def test_kim_oh_polynomials_are_the_reference_s_exactly(k):
    assert polar.kim_oh_polynomial(k) == reference.polar.kim_oh_polynomial(k)


def levelled_error(p, low, high):
    """Deviation of ``1 - p`` from equioscillation on its nodes, and the size of what cancels there."""
    slope = np.polynomial.Polynomial([(2 * i + 1) * c for i, c in enumerate(p)])
    nodes = np.array([low, *np.sqrt(np.sort(slope.roots().real)), high])
    powers = nodes[:, None] ** (2 * np.arange(len(p)) + 1)
    errors = (1.0 - powers @ np.array(p)) * (-1.0) ** np.arange(len(nodes))
    return float(np.ptp(errors)), float((powers * np.abs(p)).sum(axis=1).max())


@pytest.mark.claim("PE-cubic")
@given(low=st.floats(1e-3, 0.9), high=st.floats(0.91, 2.0), degree=st.sampled_from([3, 5]))
def test_each_polynomial_equioscillates_on_its_interval(low, high, degree):
    (p,) = polar.polar_express_coefficients(low, high, steps=1, degree=degree, cushion=0.0)
    error, size = levelled_error(p, low, high)
    # Four nodes, each a pivoted solve and an evaluation: O(1) roundoffs of the terms that cancel.
    assert Ratio("equioscillation", error, 4.0 * size * DOUBLE, ORDER_ONE).passed


def system_condition(low, high):
    """Condition of the 4 x 4 system of a quintic on [low, high], at its starting nodes."""
    nodes = np.array([low, (3.0 * low + high) / 4.0, (low + 3.0 * high) / 4.0, high])
    signs = np.array([1.0, -1.0, 1.0, -1.0])
    return float(np.linalg.cond(np.stack([nodes, nodes**3, nodes**5, signs], axis=1)))


@pytest.mark.claim("PE-table")
def test_the_recursion_reproduces_the_printed_table_and_the_reference():
    ours, theirs = polar.polar_express_coefficients(), reference.polar.polar_express_coefficients()
    low = 1e-3
    rows = zip(ours, theirs, polar.POLAR_EXPRESS, strict=True)
    for step, (row, other, printed) in enumerate(rows, start=1):
        start = max(low, 0.02407327424182761 * (2.0 - low if step > 1 else 1.0))
        # Every row inherits the errors of the rows before it through the ends of its interval.
        relative = step * system_condition(start, 2.0 - low) * DOUBLE * 4.0
        if step == len(polar.POLAR_EXPRESS):
            break  # the printed last row is the limit, not the recursion
        for wanted in (other, printed):
            error = float(np.linalg.norm(np.subtract(row, wanted)))
            assert Ratio(f"row {step}", error, relative * float(np.linalg.norm(wanted)), ORDER_ONE).passed
        low = sum(c * low ** (2 * i + 1) for i, c in enumerate(row))


@given(low=st.floats(1e-3, 0.99), steps=st.integers(1, 5), degree=st.sampled_from([3, 5]))
def test_every_singular_value_ends_within_the_promised_error(low, steps, degree):
    polynomials = polar.polar_express_coefficients(low, steps=steps, degree=degree)
    end = low
    for p in polynomials:
        end = sum(c * end ** (2 * i + 1) for i, c in enumerate(p))
    x = torch.linspace(low, 1.0, 500, dtype=torch.float64)
    worst = float((polar.scalar_map(x, polynomials) - 1.0).abs().max())
    size = max(float(np.abs(p).sum()) for p in polynomials)
    assert inequality(worst, 1.0 - end, rounding=ORDER_ONE * steps * size * DOUBLE).passed


def test_safety_rescales_the_argument_of_all_polynomials_but_the_last():
    plain = polar.polar_express_coefficients(steps=3)
    safety = 1.25
    safe = polar.polar_express_coefficients(steps=3, safety=safety)
    assert safe[2] == plain[2]
    for p, q in zip(plain[:2], safe[:2], strict=True):
        assert q == tuple(c / safety ** (2 * i + 1) for i, c in enumerate(p))


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
