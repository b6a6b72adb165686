"""The budget of truncated iterations: it covers correct programs in every format, and it is not blind."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from proofs_checks.budgets import RoundingModel, iteration_budget
from proofs_checks.inputs import MATRICES, SHAPES, from_spectrum, named_matrices
from proofs_checks.polynomials import Polynomial, apply, divided, divided_composition, image, step_sequence
from proofs_checks.ratios import Ratio, truncated_iteration, unit_roundoff
from tests.strategies import KnownPolar, known_polar

Array = NDArray[np.float64]

JORDAN: Polynomial = (3.4445, -4.7750, 2.0315)
TAYLOR: Polynomial = (15 / 8, -10 / 8, 3 / 8)
CUBIC: Polynomial = (1.5, -0.5)
SEPTIC: Polynomial = (35 / 16, -35 / 16, 21 / 16, -5 / 16)
ITERATIONS: dict[str, tuple[Polynomial, ...]] = {
    "jordan": (JORDAN,) * 5,
    "one step": (JORDAN,),
    "taylor": (TAYLOR,) * 8,
    "cubic": (CUBIC,) * 8,
    "septic": (SEPTIC,) * 4,
    "changing": (JORDAN, JORDAN, TAYLOR, CUBIC),
}
FORMATS = ("float64", "float32", "float16", "bfloat16")
SINGLE, DOUBLE = unit_roundoff("float32"), unit_roundoff("float64")


def iterate(
    M: Array,
    steps: Sequence[Polynomial],
    dtype: torch.dtype,
    *,
    order: str = "fused",
    norm: str = "frobenius",
    scale: float = 1.0,
) -> Array:
    """Newton-Schulz as programs write it; `order` is that of evaluation, `norm` and `scale` plant faults."""
    X = torch.tensor(M).to(dtype)
    tall = X.shape[0] > X.shape[1]
    X = X.mT if tall else X
    size = torch.linalg.matrix_norm(X.float(), 2).to(dtype) if norm == "spectral" else X.norm()
    X = X / size.clamp_min(torch.finfo(dtype).tiny)
    for p in steps:
        X = ORDERS[order](X, X @ X.mT, p)
    return (scale * (X.mT if tall else X)).double().numpy()


def _fused(X: torch.Tensor, G: torch.Tensor, p: Polynomial) -> torch.Tensor:
    """torch.optim.Muon: one rounding for each scaled sum; it knows quintics, so others go the plain way."""
    if len(p) != len(JORDAN):
        return _powers(X, G, p)
    B = torch.addmm(G, G, G, beta=p[1], alpha=p[2])
    return torch.addmm(X, B, X, beta=p[0])


def _powers(X: torch.Tensor, G: torch.Tensor, p: Polynomial) -> torch.Tensor:
    """``a X + (b G + c G^2 + ...) X``."""
    power, B = G, p[1] * G
    for c in p[2:]:
        power = power @ G
        B = B + c * power
    return p[0] * X + B @ X


def _horner(X: torch.Tensor, G: torch.Tensor, p: Polynomial) -> torch.Tensor:
    """``((c G + b I) G + a I) X``."""
    identity = torch.eye(len(G), dtype=G.dtype)
    B = p[-1] * identity
    for c in reversed(p[:-1]):
        B = B @ G + c * identity
    return B @ X


def _chain(X: torch.Tensor, G: torch.Tensor, p: Polynomial) -> torch.Tensor:
    """``a X + b G X + c G (G X)``."""
    Y, Z = p[0] * X, X
    for c in p[1:]:
        Z = G @ Z
        Y = Y + c * Z
    return Y


ORDERS = {"fused": _fused, "powers": _powers, "horner": _horner, "chain": _chain}


def judge(computed: Array, M: Array, steps: Sequence[Polynomial], name: str, model: RoundingModel) -> Ratio:
    return truncated_iteration(computed, M, steps, u=unit_roundoff(name), model=model)


# It covers correct programs


@pytest.mark.claim("METH-budget")
@pytest.mark.parametrize("name", FORMATS)
@given(case=known_polar(max_side=10, max_decades=6.0, deficient=True), data=st.data())
def test_correct_programs_stay_within_the_budget(name: str, case: KnownPolar, data: st.DataObject) -> None:
    M = case.M
    steps = ITERATIONS[data.draw(st.sampled_from(list(ITERATIONS)))]
    order = data.draw(st.sampled_from(list(ORDERS)))
    ratio = judge(iterate(M, steps, getattr(torch, name), order=order), M, steps, name, "worst")
    assert ratio.passed, ratio


@pytest.mark.claim("METH-budget")
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("shape", ["single", "row", "column", "square", "tall", "wide", "large", "no rows"])
def test_every_kind_of_matrix_stays_within_the_budget(name: str, shape: str) -> None:
    scale_safe = {"near_underflow", "near_overflow"}
    for kind, M in named_matrices(*SHAPES[shape], seed=7, dtype=name).items():
        if kind in scale_safe:
            continue  # torch's own norm is not; scales are tested below
        for order in ORDERS:
            ratio = judge(
                iterate(M, [JORDAN] * 5, getattr(torch, name), order=order), M, [JORDAN] * 5, name, "worst"
            )
            assert ratio.passed, (kind, order, ratio)


@pytest.mark.claim("METH-budget")
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("seed", range(5))
def test_random_matrices_stay_within_the_budget_of_independent_roundings(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for m, n in [(4, 4), (6, 10), (12, 5), (24, 24)]:
        r = min(m, n)
        for M in (rng.standard_normal((m, n)), from_spectrum(m, n, np.geomspace(1.0, 1e-3, r), rng=rng)):
            for order in ORDERS:
                computed = iterate(M, [JORDAN] * 5, getattr(torch, name), order=order)
                ratio = judge(computed, M, [JORDAN] * 5, name, "independent")
                assert ratio.passed, (M.shape, order, ratio)


@pytest.mark.parametrize("exponent", [-1000, -400, 0, 400, 1000])
def test_the_scale_of_the_input_does_not_matter(exponent: int) -> None:
    M = from_spectrum(5, 3, [1.0, 0.5, 0.2], rng=np.random.default_rng(0))
    same, moved = (iteration_budget(A, JORDAN, u=SINGLE) for A in (M, np.ldexp(M, exponent)))
    assert np.array_equal(same.exact, moved.exact)
    assert same.total == moved.total


def test_floor_shift_and_no_normalisation() -> None:
    M = from_spectrum(4, 3, [0.3, 0.2, 0.1], rng=np.random.default_rng(1))
    size = float(np.linalg.norm(M))
    for options, divisor in [
        ({"floor": 1.0}, 1.0),
        ({"shift": 0.01}, size + 0.01),
        ({"normalize": False}, 1.0),
        ({"floor": 0.1, "shift": 1.0}, size + 1.0),
    ]:
        X = M / divisor
        for p in (CUBIC, TAYLOR):
            X = _powers(torch.tensor(X), torch.tensor(X @ X.T), p).numpy()
        right = truncated_iteration(X, M, (CUBIC, TAYLOR), u=DOUBLE, **options)  # type: ignore[arg-type]
        assert right.passed, (options, right)
        assert not truncated_iteration(X, M, (CUBIC, TAYLOR), u=DOUBLE).passed


# It is not blind

FAULTS: dict[str, dict[str, object]] = {
    "coefficient off by 1 %": {"steps": [(3.4445, -4.7750, 2.0315 * 1.01)] * 5},
    "one iteration missing": {"steps": [JORDAN] * 4},
    "one iteration too many": {"steps": [JORDAN] * 6},
    "spectral norm": {"norm": "spectral"},
    "scaled by 1.02": {"scale": 1.02},
    "another polynomial": {"steps": [TAYLOR] * 5},
    "zero": {"scale": 0.0},
    "sign": {"scale": -1.0},
    "twice": {"scale": 2.0},
}

#: What the half precisions resolve on one matrix of moderate condition, with independent roundings.
SEEN_IN_HALF = {
    "one iteration missing",
    "one iteration too many",
    "spectral norm",
    "another polynomial",
    "zero",
    "sign",
    "twice",
}


def faulty(M: Array, fault: str, dtype: torch.dtype) -> Array:
    options = {"steps": [JORDAN] * 5, **FAULTS[fault]}
    return iterate(M, dtype=dtype, **options)  # type: ignore[arg-type]


@pytest.mark.claim("METH-budget")
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", ["float64", "float32"])
@pytest.mark.parametrize("shape", [(3, 3), (4, 6), (8, 8), (32, 24)])
@pytest.mark.parametrize("condition", [1.0, 30.0, 1e6])
def test_faults_are_seen_in_single_and_double(
    fault: str, name: str, shape: tuple[int, int], condition: float
) -> None:
    M = from_spectrum(*shape, np.linspace(1.0, 1.0 / condition, min(shape)), rng=np.random.default_rng(5))
    assert not judge(faulty(M, fault, getattr(torch, name)), M, [JORDAN] * 5, name, "worst").passed


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", ["float16", "bfloat16"])
@pytest.mark.parametrize("seed", range(4))
def test_what_the_half_precisions_see(fault: str, name: str, seed: int) -> None:
    """bfloat16 sees whole iterations, not per cents; float16, 8 times finer, sometimes more."""
    M = from_spectrum(8, 8, np.geomspace(1.0, 0.1, 8), rng=np.random.default_rng(seed))
    ratio = judge(faulty(M, fault, getattr(torch, name)), M, [JORDAN] * 5, name, "independent")
    if fault in SEEN_IN_HALF:
        assert not ratio.passed, ratio
    else:
        assert name == "float16" or ratio.passed


def test_the_worst_case_in_bfloat16_is_marked_as_saturated() -> None:
    M = from_spectrum(8, 8, np.geomspace(1.0, 0.1, 8), rng=np.random.default_rng(0))
    u = unit_roundoff("bfloat16")
    assert iteration_budget(M, JORDAN, u=u).saturated
    assert not iteration_budget(M, JORDAN, u=u, model="independent").saturated
    assert not iteration_budget(M, JORDAN, u=SINGLE).saturated


@pytest.mark.claim("METH-budget")
def test_budgets_lie_where_errors_are_and_not_far_above() -> None:
    used: dict[RoundingModel, float] = {"worst": 0.0, "independent": 0.0}
    for seed in range(10):
        M = np.random.default_rng(seed).standard_normal((8, 8))
        for order in ORDERS:
            computed = iterate(M, [JORDAN] * 5, torch.float32, order=order)
            for model in used:
                used[model] = max(used[model], judge(computed, M, [JORDAN] * 5, "float32", model).value)
    half_a_per_cent, tenth = 0.005, 0.1
    assert used["worst"] >= half_a_per_cent
    assert used["independent"] >= tenth


@pytest.mark.parametrize("name", FORMATS)
def test_budgets_scale_with_the_precision_and_the_models_are_ordered(name: str) -> None:
    M = np.random.default_rng(0).standard_normal((6, 9))
    u = unit_roundoff(name)
    worst, independent = (iteration_budget(M, JORDAN, u=u, model=model) for model in ("worst", "independent"))
    assert 0 < independent.total <= worst.total
    assert worst.first_order <= worst.total or worst.saturated
    assert u < truncated_iteration(worst.exact, M, JORDAN, u=u).figures["budget_relative"]


def test_low_precision_accumulation_is_charged() -> None:
    M = np.random.default_rng(0).standard_normal((16, 64))
    u = unit_roundoff("bfloat16")
    kind, coarse = (iteration_budget(M, CUBIC, u=u, u_accumulate=v) for v in (None, u))
    assert kind.first_order < coarse.first_order


# Its parts


def test_step_sequences() -> None:
    assert step_sequence(CUBIC) == (CUBIC,) * 5
    assert step_sequence(CUBIC, steps=2) == (CUBIC,) * 2
    assert step_sequence([CUBIC, JORDAN]) == (CUBIC, JORDAN)
    assert step_sequence((CUBIC, JORDAN), steps=4) == (CUBIC, JORDAN, JORDAN, JORDAN)
    assert step_sequence([CUBIC, JORDAN], steps=1) == (CUBIC,)
    assert step_sequence(CUBIC, steps=0) == ()


@pytest.mark.parametrize("polynomials", [(), [], [()], [CUBIC, ()], (math.nan, 1.0), [(math.inf,)]])
def test_no_polynomial_is_refused(polynomials: Sequence[Polynomial]) -> None:
    with pytest.raises(ValueError, match="at least one finite coefficient"):
        step_sequence(polynomials)


def test_a_negative_number_of_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="steps must be non-negative"):
        step_sequence(CUBIC, steps=-1)


@pytest.mark.parametrize("p", [CUBIC, JORDAN, SEPTIC, (2.0,)])
def test_divided_differences_against_division_and_derivative(p: Polynomial) -> None:
    a, b = np.array([0.9, 0.5, -0.3]), np.array([0.1, -0.5, 0.4])
    rounding = 64 * DOUBLE
    difference = (apply(p, a) - apply(p, b)) / (a - b)
    assert np.abs(divided(p, a, b, odd=True) - difference).max() <= rounding
    derivative = sum((2 * j + 1) * c * a ** (2 * j) for j, c in enumerate(p))
    assert np.abs(divided(p, a, a, odd=True) - derivative).max() <= rounding
    g, h = a * a, np.array([0.2, 0.7, 0.01])
    q_difference = (apply(p, a) / a - apply(p, np.sqrt(h)) / np.sqrt(h)) / (g - h)
    assert np.abs(divided(p, g, h, odd=False) - q_difference).max() <= rounding


def test_the_amplification_is_the_norm_of_the_derivative_of_the_matrix_function() -> None:
    """Against finite differences of the iteration, in all singular directions: bounded and attained."""
    rng = np.random.default_rng(2)
    step = 1e-6
    slack = 1.0 + 1e3 * step
    for m, n in [(4, 4), (3, 5)]:
        M = from_spectrum(m, n, np.linspace(1.0, 0.01, m), rng=rng)
        U, _, Vt = np.linalg.svd(M)
        directions = [np.outer(U[:, i], Vt[j]) for i in range(m) for j in range(n)]
        mixed = [A + sign * B for A in directions for B in directions for sign in (1.0, -1.0)]
        amplification = iteration_budget(M, JORDAN, u=DOUBLE, normalize=False, steps=2).amplification
        growth = []
        for E in directions + mixed + [rng.standard_normal((m, n)) for _ in range(20)]:
            if E.any():
                X: tuple[torch.Tensor, ...] = (torch.tensor(M - step * E), torch.tensor(M + step * E))
                for _ in range(2):
                    X = tuple(_powers(Y, Y @ Y.mT, JORDAN) for Y in X)
                growth.append(float((X[1] - X[0]).norm() / np.linalg.norm(2.0 * step * E)))
        assert max(growth) <= amplification * slack
        assert amplification <= max(growth) * slack


def test_a_composition_needs_no_division_where_two_orbits_meet() -> None:
    """1.5 and the other root b of a^2 + a b + b^2 = 3 have the same image under the cubic."""
    a = np.array([1.5])
    b = (np.sqrt(12.0 - 3.0 * a * a) - a) / 2.0
    rounding = 64 * DOUBLE
    assert np.abs(apply(CUBIC, a) - apply(CUBIC, b)).max() <= rounding
    assert np.abs(divided_composition([CUBIC, JORDAN], a, b)).max() <= rounding
    by_chain_rule = divided(CUBIC, a, a, odd=True) * divided(JORDAN, *[apply(CUBIC, a)] * 2, odd=True)
    assert np.array_equal(divided_composition([CUBIC, JORDAN], a, a), by_chain_rule)


def test_images_of_intervals_enclose_interior_extremes() -> None:
    N = np.array([[0.2], [0.5], [1.0]])
    lower, point, upper = image(JORDAN, N)[:, 0]
    inside = apply(JORDAN, np.linspace(0.2, 1.0, 1000))
    resolution = 0.02
    assert lower <= inside.min() + resolution
    assert upper >= inside.max() - resolution
    assert np.array_equal([point], apply(JORDAN, N[1]))


def test_exact_results_are_those_of_the_matrix_polynomial() -> None:
    for name, M in MATRICES.items():
        size = np.linalg.norm(M / (np.abs(M).max(initial=0.0) or 1.0)) or 1.0
        X = M / (np.abs(M).max(initial=0.0) or 1.0) / size
        for p in [TAYLOR] * 3:
            X = _powers(torch.tensor(X), torch.tensor(X @ X.T), p).numpy()
        ratio = truncated_iteration(X, M, TAYLOR, steps=3, u=DOUBLE)
        assert ratio.passed, (name, ratio)
