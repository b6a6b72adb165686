"""Polar factor, Newton-Schulz iterations, named orthogonalisers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs_checks.ratios import (
    equivariance,
    inequality,
    orthogonality,
    truncated_iteration,
    yes_no,
)
from reference import polar
from reference.polar import (
    JORDAN_QUINTIC,
    ORTHOGONALIZERS,
    POLAR_EXPRESS,
    Polynomial,
    kim_oh_polynomial,
    newton_schulz,
    nuclear_norm,
    orthogonalize,
    polar_express_coefficients,
    polar_factor,
    scalar_map,
    spectral_lmo,
)
from tests.reference.cases import (
    SCALES,
    U64,
    check,
    distance,
    formula_budget,
    frozen,
    orthogonal,
)
from tests.strategies import known_polar, seeds

EPS = np.finfo(np.float64).eps
SETS: dict[str, Polynomial | tuple[Polynomial, ...]] = {
    "jordan": JORDAN_QUINTIC,
    "cubic": (kim_oh_polynomial(1),) * 6,
    "taylor": (kim_oh_polynomial(3),) * 3,
    "polar express": POLAR_EXPRESS[:6],
    "linear": ((0.5,),),
}


# ---- polar factor


@given(known_polar(max_decades=6.0), st.sampled_from(SCALES))
def test_polar_factor_recovers_the_isometry_at_every_scale(case, scale):
    Q = polar_factor(frozen(scale * case.M))
    budget = formula_budget(np.sqrt(case.rank), max(case.M.shape), case.condition)
    check(
        orthogonality(Q, u=U64),
        distance("isometry the matrix was built from", Q, case.Q, budget=budget),
    )


@given(known_polar(max_decades=3.0, deficient=True), st.sampled_from(SCALES))
def test_polar_factor_of_deficient_rank_is_a_partial_isometry(case, scale):
    Q = polar_factor(frozen(scale * case.M))
    budget = formula_budget(np.sqrt(case.rank), max(case.M.shape), case.condition)
    check(
        orthogonality(Q, u=U64, rank=case.rank),
        distance("isometry the matrix was built from", Q, case.Q, budget=budget),
    )


def test_the_cut_off_is_max_m_n_times_eps():
    cut = 3 * EPS
    dropped, kept = np.zeros((2, 3)), np.zeros((2, 3))
    dropped[[0, 1], [0, 1]] = 1.0, cut
    kept[[0, 1], [0, 1]] = 1.0, np.nextafter(cut, 1.0)
    assert np.array_equal(polar_factor(dropped), np.diag([1.0, 0.0, 0.0])[:2])
    assert np.array_equal(polar_factor(kept), np.eye(2, 3))


def test_the_cut_off_is_applied_slice_by_slice():
    small = np.diag([1e-20, 1e-20])
    stacked = polar_factor(np.stack([np.eye(2), small]))
    assert np.array_equal(stacked[1], np.eye(2))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (2, 0, 3), (0, 2, 3)])
def test_empty_matrices_map_to_themselves(shape):
    empty = np.zeros(shape)
    for Q in (polar_factor(empty), newton_schulz(empty, JORDAN_QUINTIC), spectral_lmo(empty)):
        assert Q.shape == shape
    assert np.array_equal(nuclear_norm(empty), np.zeros(shape[:-2]))


def test_zero_maps_to_zero():
    zero = np.zeros((2, 4, 3))
    for method in ORTHOGONALIZERS:
        assert not orthogonalize(zero, method).any()
    assert not nuclear_norm(zero).any()


@given(seeds, st.integers(1, 20))
def test_a_row_is_divided_by_its_norm(seed, n):
    v = np.random.default_rng(seed).standard_normal((1, n))
    budget = formula_budget(1.0, n)
    check(distance("1xN", polar_factor(v), v / np.linalg.norm(v), budget=budget))
    check(distance("Nx1", polar_factor(v.T), v.T / np.linalg.norm(v), budget=budget))


@pytest.mark.claim("POLAR-duality")
@given(known_polar(max_decades=3.0), seeds)
def test_polar_factor_commutes_with_rotations_transposition_and_sign(case, seed):
    M = frozen(case.M)
    rng = np.random.default_rng(seed)
    R, S = orthogonal(rng, M.shape[0], M.shape[0]), orthogonal(rng, M.shape[1], M.shape[1])
    budget = formula_budget(np.sqrt(case.rank), max(M.shape), case.condition, formulas=2)
    Q = polar_factor(M)
    check(
        equivariance(polar_factor(R @ M @ S), R @ Q @ S, budget=budget),
        equivariance(polar_factor(M.T), Q.T, budget=budget),
        equivariance(polar_factor(-M), -Q, budget=budget),
    )


@given(known_polar(max_decades=6.0, deficient=True), st.sampled_from(SCALES[:-1]))
def test_nuclear_norm_is_the_sum_of_the_spectrum(case, scale):
    M, s = case.M, case.s
    norm = nuclear_norm(frozen(scale * M)) / scale
    check(distance("nuclear norm", norm, s.sum(), budget=formula_budget(s.sum(), max(M.shape))))


def test_nuclear_norm_beyond_the_range_is_infinite():
    assert nuclear_norm(np.full((2, 2), np.finfo(float).max)) == np.inf


@pytest.mark.claim("POLAR-duality")
@given(known_polar(max_decades=3.0, deficient=True), st.floats(0.0, 10.0), seeds)
def test_spectral_lmo_attains_the_dual_norm_and_nothing_feasible_is_below(case, radius, seed):
    G, s = frozen(case.M), case.s
    X = spectral_lmo(G, radius=radius)
    rng = np.random.default_rng(seed)
    rivals = rng.standard_normal((8, *G.shape))
    rivals *= radius / np.linalg.norm(rivals, ord=2, axis=(-2, -1), keepdims=True)
    rounding = formula_budget(radius * s.sum() + 1e-300, max(G.shape))
    check(
        distance("value", np.vdot(G, X), -radius * s.sum(), budget=rounding),
        inequality(np.linalg.norm(X, 2), radius, rounding=formula_budget(radius, max(G.shape))),
        inequality(np.vdot(G, X), (G * rivals).sum(axis=(-2, -1)), rounding=rounding),
    )


# ---- Newton-Schulz


@pytest.mark.claim("NS-evolution")
@given(known_polar(max_decades=3.0, deficient=True), st.sampled_from(sorted(SETS)), st.sampled_from(SCALES))
def test_newton_schulz_is_the_polynomial_of_the_singular_values(case, name, scale):
    M = frozen(scale * case.M)
    check(truncated_iteration(newton_schulz(M, SETS[name]), M, SETS[name], u=U64))


@given(
    known_polar(max_decades=2.0),
    st.floats(0.0, 3.0),
    st.floats(0.0, 3.0),
    st.sampled_from([1e-200, 1e-3, 1.0]),
)
def test_floor_and_shift_meet_the_true_norm(case, floor, shift, scale):
    M = frozen(scale * case.M)
    options = {"floor": scale * floor, "shift": scale * shift}
    X = newton_schulz(M, JORDAN_QUINTIC, steps=2, **options)
    check(truncated_iteration(X, M, JORDAN_QUINTIC, u=U64, steps=2, **options))


def test_floor_and_shift_are_in_units_of_the_input_not_of_a_rescaled_one():
    M = np.diag([3e-120, 4e-120])  # |M|_F = 5e-120
    linear: Polynomial = (1.0,)
    budget = formula_budget(1.0, 2)
    half = newton_schulz(M, linear, steps=1, shift=5e-120)
    tenth = newton_schulz(M, linear, steps=1, floor=5e-119)
    both = newton_schulz(M, linear, steps=1, shift=1e-119, floor=1e-119)
    check(
        distance("shift", half, np.diag([0.3, 0.4]), budget=budget),
        distance("floor", tenth, np.diag([0.06, 0.08]), budget=budget),
        distance("the shift counts before the floor", both, np.diag([0.2, 4 / 15]), budget=budget),
    )


@given(known_polar(max_decades=1.0))
def test_without_normalisation_the_input_is_the_start(case):
    M = frozen(case.M)
    X = newton_schulz(M, POLAR_EXPRESS[:3], normalize=False)
    check(truncated_iteration(X, M, POLAR_EXPRESS[:3], u=U64, normalize=False))


def test_the_number_of_steps():
    M = frozen(np.random.default_rng(1).standard_normal((3, 4)))
    rows = POLAR_EXPRESS[:2]
    five = newton_schulz(M, JORDAN_QUINTIC)
    assert np.array_equal(five, newton_schulz(M, [JORDAN_QUINTIC] * 5))
    assert np.array_equal(newton_schulz(M, rows), newton_schulz(M, rows, steps=2))
    assert np.array_equal(newton_schulz(M, rows, steps=4), newton_schulz(M, [*rows, rows[1], rows[1]]))
    assert np.array_equal(newton_schulz(M, rows, steps=1), newton_schulz(M, rows[:1]))
    assert np.array_equal(newton_schulz(M, rows, steps=0, normalize=False), M)


def test_a_divergent_iteration_is_an_error_and_not_a_nan():
    with pytest.raises(ValueError, match=r"M must have singular values .* do not diverge"):
        newton_schulz(1e9 * np.eye(2), JORDAN_QUINTIC, normalize=False)
    with pytest.raises(ValueError, match=r"x must be in the range .* do not diverge"):
        scalar_map(np.array([0.5, 1e9]), JORDAN_QUINTIC)


@given(seeds, st.sampled_from(sorted(SETS)))
def test_a_batch_is_a_loop_of_singles(seed, name):
    rng = np.random.default_rng(seed)
    M = rng.standard_normal((2, 3, 4, 3)) * np.array(SCALES[1:4])[:, None, None]
    for function in (lambda X: newton_schulz(X, SETS[name]), polar_factor, nuclear_norm):
        together = function(M)
        singles = np.stack([[function(M[i, j]) for j in range(3)] for i in range(2)])
        # Stacked and single products may sum in another order; an SVD per slice is the same code.
        slope = max(1.0, float(np.abs(scalar_map(np.array([1e-8]), SETS[name]))[0] * 1e8))
        size = np.linalg.norm(singles, axis=(-2, -1), keepdims=True) if singles.ndim == 4 else np.abs(singles)
        check(distance("batch", together / size, singles / size, budget=formula_budget(slope, 4, formulas=6)))


@given(st.floats(0.0, 1.0), st.sampled_from(sorted(SETS)))
def test_scalar_map_is_the_iteration_on_one_by_one_matrices(x, name):
    X = newton_schulz(np.array([[x]]), SETS[name], normalize=False)
    check(
        truncated_iteration(
            np.atleast_2d(scalar_map(x, SETS[name])), X * 0 + x, SETS[name], u=U64, normalize=False
        )
    )
    check(truncated_iteration(X, X * 0 + x, SETS[name], u=U64, normalize=False))


# ---- named orthogonalisers


def test_the_names_of_orthogonalize():
    M = frozen(np.random.default_rng(5).standard_normal((3, 5)))
    safe = [tuple(c / 1.01 ** (2 * i + 1) for i, c in enumerate(p)) for p in POLAR_EXPRESS[:7]]
    rows = [*safe, POLAR_EXPRESS[7]]
    assert ORTHOGONALIZERS == ("polar", "jordan", "polar-express")
    assert np.array_equal(orthogonalize(M), polar_factor(M))
    assert np.array_equal(orthogonalize(M, "jordan"), newton_schulz(M, JORDAN_QUINTIC, steps=5))
    for scale in (1.0, 2.0**-20):  # at the smaller one the shift keeps the iteration from converging
        express = orthogonalize(scale * M, "polar-express")
        check(truncated_iteration(express, scale * M, rows, u=U64, shift=1e-2))
    assert np.array_equal(orthogonalize(M, lambda X: 2.0 * X), 2.0 * M)


# ---- errors

BAD_MATRICES = [
    (np.zeros(3), "M must be float64 of shape"),
    (np.zeros((2, 2), dtype=np.float32), "M must be float64 .* got float32"),
    (np.zeros((2, 2), dtype=int), "M must be float64 .* got int64"),
    (np.array([[1.0, np.nan]]), "M must be finite, got 1 non-finite"),
    (np.array([[np.inf, -np.inf]]), "M must be finite, got 2 non-finite"),
]


@pytest.mark.parametrize(("M", "message"), BAD_MATRICES)
@pytest.mark.parametrize(
    "function", [polar_factor, nuclear_norm, orthogonalize, lambda M: newton_schulz(M, JORDAN_QUINTIC)]
)
def test_a_bad_matrix_is_named(function, M, message):
    with pytest.raises(ValueError, match=message):
        function(M)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: polar_factor([[1.0]]), TypeError, "M must be a float64 array"),
        (lambda: spectral_lmo(np.eye(2), radius=-1.0), ValueError, "radius must be at least 0"),
        (lambda: spectral_lmo(np.eye(2), radius="1"), TypeError, "radius must be a real number"),
        (lambda: spectral_lmo(np.eye(2, dtype=np.float32)), ValueError, "G must be float64"),
        (lambda: newton_schulz(np.eye(2), []), ValueError, "polynomials must hold at least one"),
        (
            lambda: newton_schulz(np.eye(2), [()]),
            ValueError,
            "polynomials must hold at least one coefficient",
        ),
        (lambda: newton_schulz(np.eye(2), (1.0, np.nan)), ValueError, "polynomials must be finite"),
        (lambda: newton_schulz(np.eye(2), "jordan"), TypeError, "polynomials must be a tuple"),
        (lambda: newton_schulz(np.eye(2), [1.0, (2.0,)]), TypeError, "polynomials must be a real number"),
        (lambda: newton_schulz(np.eye(2), [(1.0,), 2.0]), TypeError, "polynomials must hold tuples"),
        (lambda: newton_schulz(np.eye(2), (1.0,), steps=-1), ValueError, "steps must be at least 0"),
        (lambda: newton_schulz(np.eye(2), (1.0,), steps=1.5), TypeError, "steps must be an integer"),
        (lambda: newton_schulz(np.eye(2), (1.0,), floor=-1.0), ValueError, "floor must be at least 0"),
        (lambda: newton_schulz(np.eye(2), (1.0,), shift=np.inf), ValueError, "shift must be finite"),
        (lambda: scalar_map([0.5], JORDAN_QUINTIC), TypeError, "x must be a real number"),
        (lambda: scalar_map(np.array([np.nan]), JORDAN_QUINTIC), ValueError, "x must be finite"),
        (lambda: kim_oh_polynomial(0), ValueError, "k must be at least 1"),
        (lambda: kim_oh_polynomial(1023), ValueError, "k must be at most 1022"),
        (lambda: kim_oh_polynomial(2.0), TypeError, "k must be an integer"),
        (lambda: polar_express_coefficients(0.0), ValueError, "lower must be above 0"),
        (lambda: polar_express_coefficients(2.0, 1.0), ValueError, "lower must be at most upper"),
        (lambda: polar_express_coefficients(1e-300, 1e-200), ValueError, "upper must be between"),
        (lambda: polar_express_coefficients(steps=0), ValueError, "steps must be at least 1"),
        (lambda: polar_express_coefficients(degree=4), ValueError, "degree must be 3 or 5"),
        (lambda: polar_express_coefficients(cushion=1.0), ValueError, r"cushion must be in \[0, 1\)"),
        (lambda: polar_express_coefficients(safety=0.9), ValueError, "safety must be at least 1"),
        (lambda: orthogonalize(np.eye(2), "cubic"), ValueError, "orthogonalize must be one of 'polar'"),
        (
            lambda: orthogonalize(np.eye(2), lambda M: M[0]),
            ValueError,
            "result of orthogonalize must have shape",
        ),
    ],
)
def test_a_bad_argument_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_what_the_module_exports_is_there():
    check(yes_no("exports", all(hasattr(polar, name) for name in polar.__all__)))
