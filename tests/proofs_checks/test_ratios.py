"""Self-test of every acceptance rule: what must fail fails, what must pass passes."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from proofs_checks import ratios
from proofs_checks.inputs import MATRICES, from_spectrum
from proofs_checks.ratios import EXPLICIT_BUDGET, ORDER_ONE, Ratio, unit_roundoff
from tests.strategies import KnownPolar, KnownSPD, known_polar, known_spd, seeds

Array = NDArray[np.float64]

SINGLE = unit_roundoff("float32")
DOUBLE = unit_roundoff("float64")
TAYLOR = (1.5, -0.5)

#: A wrong result is planted this many budgets off.
PLANTED = 100.0

#: How much larger or smaller than planted an error may be measured, because rules are not quite linear.
FACTOR = 2.0


@dataclass(frozen=True)
class Case:
    """A rule with arguments that pass; `candidate` names the argument that holds the judged result."""

    rule: Callable[..., Ratio]
    arrays: dict[str, Array]
    candidate: str
    options: dict[str, object]

    def judge(self) -> Ratio:
        return self.rule(**self.arrays, **self.options)

    def with_array(self, name: str, value: Array) -> "Case":
        return replace(self, arrays={**self.arrays, name: value})


def _symmetric(A: Array) -> Array:
    return (A + A.T) / 2.0


def _cases() -> dict[str, Case]:
    """One passing case of every rule, on one 5 by 4 matrix and one 4 by 4 positive definite matrix."""
    rng = np.random.default_rng(0)
    s = np.array([1.0, 0.7, 0.3, 0.1])
    Q, A = (from_spectrum(5, 4, spectrum, rng=np.random.default_rng(1)) for spectrum in (s**0, s))
    V = from_spectrum(4, 4, s**0, rng=np.random.default_rng(2))
    P = _symmetric((V * s) @ V.T)
    x, terms = rng.standard_normal(4), np.array([1.0, 2.0, 3.0])
    y = np.array([0.5, -1.0, 2.0])
    stepped = from_spectrum(5, 4, 1.5 * s - 0.5 * s**3, rng=np.random.default_rng(1))
    raw = {"steps": 1, "normalize": False, "u": SINGLE}
    return {
        "orthogonality": Case(ratios.orthogonality, {"Q": Q}, "Q", {"u": SINGLE}),
        "polar_structure": Case(ratios.polar_structure, {"Q": Q, "A": A}, "Q", {"u": SINGLE}),
        "reconstruction": Case(
            ratios.reconstruction, {"A": A, "Q": Q, "H": _symmetric(Q.T @ A)}, "H", {"u": SINGLE}
        ),
        "forward_polar": Case(ratios.forward_polar, {"Q": Q, "A": A}, "Q", {"u": SINGLE}),
        "forward_polar_exact": Case(ratios.forward_polar, {"Q": Q, "A": A, "exact": Q}, "Q", {"u": SINGLE}),
        "truncated_iteration": Case(
            ratios.truncated_iteration,
            {"computed": stepped, "M": A},
            "computed",
            {"polynomials": TAYLOR, **raw},
        ),
        "linear_solve": Case(ratios.linear_solve, {"A": P, "x": x, "b": P @ x}, "x", {"u": SINGLE}),
        "inverse_root": Case(
            ratios.inverse_root, {"X": _symmetric((V * s**-0.5) @ V.T), "A": P}, "X", {"p": 2, "u": SINGLE}
        ),
        "recursion": Case(
            ratios.recursion,
            {"computed": y, "expected": y, "absolute_terms": terms},
            "computed",
            {"operations": 3, "u": SINGLE},
        ),
        "equivariance": Case(ratios.equivariance, {"left": A, "right": A}, "left", {"budget": SINGLE}),
        "inequality": Case(
            ratios.inequality, {"left": y, "right": y, "rounding": SINGLE * terms}, "left", {}
        ),
    }


CASES = _cases()
each_rule = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def test_every_rule_has_a_case() -> None:
    rules = {name for name in ratios.__all__ if callable(getattr(ratios, name))}
    covered = {case.rule.__name__ for case in CASES.values()}
    assert rules - covered == {"Ratio", "unit_roundoff", "worst", "yes_no"}


@pytest.mark.claim("METH-budget")
@each_rule
def test_known_good_passes(case: Case) -> None:
    ratio = case.judge()
    assert ratio.passed
    assert ratio.value <= ratio.threshold


@each_rule
@pytest.mark.parametrize("planted", [math.nan, math.inf, -math.inf])
def test_a_planted_non_number_fails_in_every_argument_and_entry(case: Case, planted: float) -> None:
    for name, array in case.arrays.items():
        for at in np.ndindex(array.shape):
            bad = array.copy()
            bad[at] = planted
            ratio = case.with_array(name, bad).judge()
            assert not ratio.passed, f"{planted} in {name}{at} passed"
            assert ratio.value == math.inf


@pytest.mark.claim("METH-budget")
@each_rule
@pytest.mark.parametrize("seed", range(3))
def test_an_error_of_a_hundred_budgets_fails_and_of_a_hundredth_passes(case: Case, seed: int) -> None:
    good = case.arrays[case.candidate]
    kick = np.random.default_rng(seed).standard_normal(good.shape)
    if case.rule is ratios.inequality:
        kick = np.abs(kick)
    if case.rule is ratios.inverse_root:
        kick = _symmetric(kick)

    def shifted(size: float) -> Ratio:
        return case.with_array(case.candidate, good + size * kick).judge()

    probe = 1e-4
    moved = shifted(probe)
    per_budget = probe * moved.budget / moved.error
    far, near = shifted(PLANTED * per_budget), shifted(per_budget / PLANTED)
    assert PLANTED / FACTOR <= far.value <= PLANTED * FACTOR
    assert not far.passed
    assert near.passed


@each_rule
def test_results_too_large_for_float64_fail_without_a_warning(case: Case) -> None:
    good = case.arrays[case.candidate]
    huge = np.full(good.shape, np.finfo(np.float64).max)
    assert not case.with_array(case.candidate, huge).judge().passed


@each_rule
def test_arguments_are_not_changed(case: Case) -> None:
    before = {name: array.copy() for name, array in case.arrays.items()}
    case.judge()
    assert all(np.array_equal(before[name], array) for name, array in case.arrays.items())


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if len(case.arrays) > 1])
def test_shapes_that_do_not_fit_are_the_tests_fault(name: str) -> None:
    case = CASES[name]
    array = case.arrays[case.candidate]
    longer = np.concatenate([array, array[:1]])
    with pytest.raises(ValueError, match=r"shape|must be|broadcast"):
        case.with_array(case.candidate, longer).judge()


@pytest.mark.parametrize("u", [0.0, 1.0, -SINGLE, math.nan, math.inf])
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if "u" in case.options])
def test_an_impossible_unit_roundoff_is_refused(name: str, u: float) -> None:
    case = CASES[name]
    with pytest.raises(ValueError, match="u must lie between 0 and 1"):
        replace(case, options={**case.options, "u": u}).judge()


# The dataclass and its helpers


@pytest.mark.parametrize(
    ("error", "budget"),
    [
        (math.nan, 1.0),
        (1.0, math.nan),
        (0.0, 0.0),
        (0.0, math.inf),
        (-1.0, 1.0),
        (0.0, -1.0),
        (math.inf, 1.0),
    ],
)
def test_a_ratio_that_is_no_number_is_infinite(error: float, budget: float) -> None:
    ratio = Ratio("planted", error, budget)
    assert ratio.value == math.inf
    assert not ratio.passed


def test_thresholds_decide_at_equality() -> None:
    assert Ratio("at", EXPLICIT_BUDGET, 1.0).passed
    assert not Ratio("above", np.nextafter(EXPLICIT_BUDGET, math.inf), 1.0).passed
    assert Ratio("at", ORDER_ONE, 1.0, ORDER_ONE).passed
    assert not Ratio("nan threshold", 0.0, 1.0, math.nan).passed


def test_worst_is_relative_to_the_threshold() -> None:
    of_order_one, explicit = Ratio("a", ORDER_ONE / 2, 1.0, ORDER_ONE), Ratio("b", EXPLICIT_BUDGET * 2, 1.0)
    assert ratios.worst([of_order_one, explicit]) is explicit
    assert ratios.worst(iter([of_order_one])) is of_order_one
    nan = Ratio("nan", math.nan, 1.0)
    assert ratios.worst([explicit, nan, of_order_one]) is nan
    with pytest.raises(ValueError, match="no decision was taken"):
        ratios.worst([])


@pytest.mark.parametrize("name", ["float64", "float32", "float16", "bfloat16"])
def test_unit_roundoff_is_half_the_machine_epsilon(name: str) -> None:
    dtype = getattr(torch, name)
    assert unit_roundoff(name) == torch.finfo(dtype).eps / 2
    assert unit_roundoff(dtype) == unit_roundoff(name)
    if name != "bfloat16":
        assert unit_roundoff(np.dtype(name)) == unit_roundoff(getattr(np, name)) == unit_roundoff(name)


@pytest.mark.parametrize("dtype", ["int32", torch.int64, np.dtype(np.complex128), None, "float", 3])
def test_unit_roundoff_of_anything_else_is_refused(dtype: object) -> None:
    with pytest.raises(ValueError, match="dtype must be one of"):
        unit_roundoff(dtype)


def test_yes_no() -> None:
    assert ratios.yes_no("holds", True).passed
    assert ratios.yes_no("holds", np.bool_(True)).passed
    failed = ratios.yes_no("fails", False)
    assert failed.value == 1 / DOUBLE
    assert not failed.passed
    for no_truth_value in (math.nan, 1, "yes", None, np.array([True])):
        with pytest.raises(TypeError, match="condition must be a bool"):
            ratios.yes_no("nan is true in Python", no_truth_value)  # type: ignore[arg-type]


# Polar factors


@pytest.mark.claim("POLAR-conditioning")
@given(known_polar(max_decades=6.0, deficient=True), st.sampled_from([1e-290, 1.0, 1e290]))
def test_an_svd_in_float64_passes_all_polar_rules(case: KnownPolar, scale: float) -> None:
    M = scale * case.M
    U, s, Vt = np.linalg.svd(M, full_matrices=False)
    Q = U[:, : case.rank] @ Vt[: case.rank]
    H = (Vt.T * s) @ Vt
    decisions = [
        ratios.orthogonality(Q, u=DOUBLE, rank=case.rank),
        ratios.polar_structure(Q, M, u=DOUBLE),
        ratios.reconstruction(M, Q, H, u=DOUBLE),
        ratios.forward_polar(Q, M, u=DOUBLE),
        ratios.forward_polar(Q, M, u=DOUBLE, exact=case.Q),
    ]
    assert all(ratio.passed for ratio in decisions), decisions


@pytest.mark.claim("POLAR-conditioning")
@given(known_polar(max_decades=4.0))
def test_an_svd_in_float32_passes_and_is_seen_to_be_no_float64(case: KnownPolar) -> None:
    U, _, Vt = torch.linalg.svd(torch.tensor(case.M, dtype=torch.float32), full_matrices=False)
    Q = (U @ Vt).double().numpy()
    assert ratios.forward_polar(Q, case.M, u=SINGLE, exact=case.Q).passed
    assert ratios.polar_structure(Q, case.M, u=SINGLE).passed
    if min(case.M.shape) > 1:
        assert not ratios.orthogonality(Q, u=DOUBLE).passed


@pytest.mark.claim("POLAR-conditioning")
def test_leakage_into_unresolved_directions_fails_although_what_is_resolved_is_right() -> None:
    rng = np.random.default_rng(3)
    U, V = (from_spectrum(k, k, np.ones(k), rng=rng) for k in (6, 5))
    s = np.array([1.0, 0.5, 0.1, 0.0, 0.0])
    A, Q = (U[:, :5] * s) @ V.T, U[:, :3] @ V[:, :3].T
    clean = ratios.forward_polar(Q, A, u=SINGLE)
    assert clean.passed
    assert clean.figures["resolved_rank"] == 3
    size = PLANTED * clean.figures["leakage_budget"]
    for row, column in [(3, 3), (5, 4), (0, 3), (3, 0), (5, 0)]:
        leaking = ratios.forward_polar(Q + size * np.outer(U[:, row], V[:, column]), A, u=SINGLE)
        assert not leaking.passed, f"leakage from direction {column} to {row} passed"
        assert leaking.figures["resolved_error"] <= leaking.figures["resolved_budget"]
        assert leaking.figures["leakage"] > leaking.figures["leakage_budget"]
        assert leaking.error == leaking.figures["leakage"]


def test_the_full_isometry_of_a_rank_deficient_matrix_leaks() -> None:
    A = from_spectrum(4, 4, [1.0, 0.5, 0.0, 0.0], rng=np.random.default_rng(4))
    U, _, Vt = np.linalg.svd(A)
    assert ratios.polar_structure(U @ Vt, A, u=DOUBLE).passed
    assert not ratios.forward_polar(U @ Vt, A, u=DOUBLE).passed
    assert not ratios.orthogonality(U @ Vt, u=DOUBLE, rank=2).passed


def test_a_singular_value_at_the_cut_off_may_be_counted_or_not() -> None:
    cut = 4 * 2.0 * SINGLE
    for kept in (0.0, 0.5, 1.0):
        A = from_spectrum(4, 4, [1.0, 0.5, 0.2, cut], rng=np.random.default_rng(6))
        Q = from_spectrum(4, 4, [1.0, 1.0, 1.0, kept], rng=np.random.default_rng(6))
        ratio = ratios.forward_polar(Q, A, u=SINGLE)
        assert ratio.passed
        assert ratio.figures["undecided_rank"] == 1
    for factor, kept in ((PLANTED, 0.0), (1.0 / PLANTED, 1.0)):
        A = from_spectrum(4, 4, [1.0, 0.5, 0.2, factor * cut], rng=np.random.default_rng(6))
        Q = from_spectrum(4, 4, [1.0, 1.0, 1.0, kept], rng=np.random.default_rng(6))
        assert not ratios.forward_polar(Q, A, u=SINGLE).passed


def test_a_precision_that_resolves_nothing_is_refused() -> None:
    A = np.eye(64)
    with pytest.raises(ValueError, match="u must resolve some direction"):
        ratios.forward_polar(A, A, u=unit_roundoff("bfloat16"))


def test_a_tilted_tall_factor_is_seen_by_the_second_product_only() -> None:
    A, Q = np.array([[1.0], [0.0]]), np.array([[0.8], [0.6]])
    assert np.array_equal(Q.T @ A, (Q.T @ A).T)
    assert ratios.orthogonality(Q, u=SINGLE).passed
    ratio = ratios.polar_structure(Q, A, u=SINGLE)
    assert not ratio.passed
    assert ratio.error == ratio.figures["asymmetry"]


def test_the_negative_of_a_polar_factor_is_symmetric_but_not_positive() -> None:
    case = CASES["polar_structure"]
    ratio = case.with_array("Q", -case.arrays["Q"]).judge()
    assert not ratio.passed
    assert ratio.error == ratio.figures["negative_part"]


@pytest.mark.parametrize("name", [name for name, M in MATRICES.items() if not M.any()])
def test_the_polar_factor_of_zero_is_zero_and_nothing_else(name: str) -> None:
    M = MATRICES[name]
    assert ratios.forward_polar(np.zeros(M.shape), M, u=SINGLE).passed
    assert ratios.truncated_iteration(np.zeros(M.shape), M, TAYLOR, u=SINGLE).passed
    if M.size:
        tiny = np.full(M.shape, np.finfo(np.float64).tiny)
        assert not ratios.forward_polar(tiny, M, u=SINGLE).passed
        assert not ratios.truncated_iteration(tiny, M, TAYLOR, u=SINGLE).passed
        assert not ratios.reconstruction(M, np.ones(M.shape), np.eye(M.shape[1]), u=SINGLE).passed


# Linear systems and roots


@given(known_spd(max_decades=8.0), seeds, st.sampled_from([1e-150, 1.0, 1e150]))
def test_a_stable_solver_passes_at_any_condition_and_scale(case: KnownSPD, seed: int, scale: float) -> None:
    b = np.random.default_rng(seed).standard_normal((len(case.A), 2))
    X = np.linalg.solve(case.A, b)
    assert ratios.linear_solve(scale * case.A, X, scale * b, u=DOUBLE).passed
    assert ratios.linear_solve(case.A, X[:, 0], b[:, 0], u=DOUBLE).passed
    assert not ratios.linear_solve(case.A, 1.01 * X, b, u=DOUBLE).passed
    assert not ratios.linear_solve(case.A, X[:, ::-1].copy(), b, u=DOUBLE).passed


def test_one_bad_column_fails_and_a_zero_column_must_be_solved_by_zero() -> None:
    A, b = np.diag([2.0, 1.0]), np.array([[2.0, 0.0], [1.0, 0.0]])
    x = np.array([[1.0, 0.0], [1.0, 0.0]])
    assert ratios.linear_solve(A, x, b, u=SINGLE).passed
    assert not ratios.linear_solve(A, x + np.array([[0.0, 1e-30], [0.0, 0.0]]), b, u=SINGLE).passed
    assert ratios.linear_solve(np.zeros((2, 2)), x, 0.0 * b, u=SINGLE).passed
    assert not ratios.linear_solve(np.zeros((2, 2)), x, b, u=SINGLE).passed


@pytest.mark.parametrize("p", [1, 2, 4])
@given(case=known_spd(max_decades=5.0))
def test_roots_from_eigenvalues_pass_and_wrong_powers_fail(case: KnownSPD, p: int) -> None:
    eigenvalues, vectors = np.linalg.eigh(case.A)
    X = (vectors * eigenvalues ** (-1.0 / p)) @ vectors.T
    assert ratios.inverse_root(X, case.A, p=p, u=DOUBLE).passed
    assert not ratios.inverse_root(1.001 * X, case.A, p=p, u=DOUBLE).passed
    if case.condition > FACTOR:
        assert not ratios.inverse_root(X, case.A, p=p + 1, u=DOUBLE).passed


def test_other_roots_than_the_positive_definite_one_fail() -> None:
    case = CASES["inverse_root"]
    X, A = case.arrays["X"], case.arrays["A"]
    negative = ratios.inverse_root(-X, A, p=2, u=SINGLE)
    assert negative.figures["residual"] <= negative.budget
    assert not negative.passed
    eigenvalues, V = np.linalg.eigh(X)
    mixed = (V * (eigenvalues * np.array([1.0, -1.0, 1.0, 1.0]))) @ V.T
    assert not ratios.inverse_root(mixed, A, p=2, u=SINGLE).passed
    # [[1, t], [0, -1]] is a root of the identity that is neither symmetric nor positive.
    assert not ratios.inverse_root(np.array([[1.0, 0.3], [0.0, -1.0]]), np.eye(2), p=2, u=SINGLE).passed


def test_a_root_of_an_indefinite_matrix_is_the_tests_fault() -> None:
    with pytest.raises(ValueError, match="A must be positive definite"):
        ratios.inverse_root(np.eye(2), np.diag([1.0, -1.0]), p=2, u=SINGLE)
    with pytest.raises(ValueError, match="p at least 1"):
        ratios.inverse_root(np.eye(2), np.eye(2), p=0, u=SINGLE)


# Recursions, laws, inequalities


@given(seeds, st.integers(1, 50))
def test_an_average_in_float32_stays_within_its_recursion(seed: int, steps: int) -> None:
    rng = np.random.default_rng(seed)
    beta = np.float32(0.9)
    G = rng.standard_normal((steps, 3)).astype(np.float32)
    M, exact, terms = np.zeros(3, np.float32), np.zeros(3), np.zeros(3)
    for g in G:
        M = beta * M + (np.float32(1) - beta) * g
        weight = 1.0 - float(beta)
        exact = float(beta) * exact + weight * g
        terms = float(beta) * terms + weight * np.abs(g)
    # Each step rounds a term at most three times: 1 - beta or nothing, the product, the sum.
    ratio = ratios.recursion(M, exact, terms, operations=3 * steps, u=SINGLE)
    assert ratio.passed
    assert not ratios.recursion(M * np.float32(1.001), exact, terms, operations=3, u=SINGLE).passed


def test_where_all_terms_are_zero_the_error_must_be_zero() -> None:
    want, terms = np.array([1.0, 0.0]), np.array([1.0, 0.0])
    assert ratios.recursion(want, want, terms, operations=1, u=SINGLE).passed
    smallest = np.array([1.0, np.finfo(np.float32).smallest_subnormal])
    assert not ratios.recursion(smallest, want, terms, operations=1, u=SINGLE).passed
    underflow = float(np.finfo(np.float32).smallest_subnormal)
    assert ratios.recursion(smallest, want, terms, operations=1, u=SINGLE, underflow=underflow).passed


def test_one_entry_cannot_hide_behind_a_large_one() -> None:
    want = np.array([1e6, 1e-6])
    ratio = ratios.recursion(want + np.array([0.0, 1e-9]), want, np.abs(want), operations=1, u=SINGLE)
    assert not ratio.passed
    assert ratio.figures["entry"] == 1


@pytest.mark.parametrize("operations", [0, -1, 2**24])
def test_operation_counts_without_a_meaning_are_refused(operations: int) -> None:
    with pytest.raises(ValueError, match="operations must be at least 1 and below 1/u"):
        ratios.recursion(np.ones(1), np.ones(1), np.ones(1), operations=operations, u=SINGLE)


def test_inequalities_report_tightness_and_the_worst_entry() -> None:
    ratio = ratios.inequality([1.0, 3.0], [2.0, 4.0], rounding=SINGLE)
    assert ratio.passed
    assert ratio.error == 0
    assert ratio.figures["tightness"] == 3 / 4
    broken = ratios.inequality([1.0, 5.0], [2.0, 4.0], rounding=SINGLE)
    assert not broken.passed
    assert (broken.figures["left"], broken.figures["right"]) == (5, 4)


def test_an_exact_inequality_allows_no_excess() -> None:
    assert ratios.inequality(1.0, 1.0, rounding=0.0).passed
    assert not ratios.inequality(np.nextafter(1.0, 2.0), 1.0, rounding=0.0).passed
    assert not ratios.inequality(0.0, 1.0, rounding=-SINGLE).passed
    with pytest.raises(ValueError, match="at least one number"):
        ratios.inequality([], [], rounding=SINGLE)


def test_equivariance_against_a_bare_or_impossible_budget() -> None:
    A = np.ones((2, 2))
    for budget in (0.0, -SINGLE, math.nan, math.inf):
        assert not ratios.equivariance(A, A, budget=budget).passed
