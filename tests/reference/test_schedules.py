"""Orthogonalisation schedules: published numbers, closed forms, matrices against singular values."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs_checks.ratios import Ratio, orthogonality, truncated_iteration
from reference.polar import (
    JORDAN_QUINTIC,
    POLAR_EXPRESS,
    kim_oh_polynomial,
    newton_schulz,
    orthogonalize,
    polar_express_coefficients,
)
from reference.schedules import (
    SCHEDULES,
    Schedule,
    apply,
    chebyshev_cubic,
    halley_weights,
    odd_polynomial,
    scalar,
    with_steps,
)
from tests.reference.cases import SCALES, U64, check, distance, formula_budget, frozen, printed
from tests.strategies import known_polar

POLYNOMIAL = [name for name, schedule in SCHEDULES.items() if not schedule.denominators]
RATIONAL = [name for name, schedule in SCHEDULES.items() if schedule.denominators]

#: Four decimals, some cut and not rounded, of NVIDIA Emerging-Optimizers: Polar Express with safety, CANS.
PRINTED = {
    "polar-express-safe-8": """8.2051 -22.9019 16.4607  4.0664 -2.8612 0.5184  3.9096 -2.8234 0.5250
        3.2856 -2.4153 0.4853  2.2779 -1.6198 0.3985  1.8726 -1.2307 0.3585  1.8564 -1.2132 0.3568
        1.8750 -1.2500 0.3750""",
    "cans-quintic-5": """8.4703 -25.1081 18.6293  4.1828 -3.1087 0.5806  3.9619 -2.9541 0.5630
        3.2866 -2.4647 0.5074  2.2737 -1.6447 0.4162""",
}

#: One unit of the fourth decimal.
UNIT = 1e-4

#: With a shift or a floor the start of a tiny matrix is tiny: the least scale leaves its cube in range.
SHIFTED_SCALES = (2.0**-100, 1.0, 2.0**996)

#: No schedule has a larger slope on [1e-2, 1] than five Polar Express steps without safety near 1.
LARGEST_SLOPE = 8e4

#: Norm of the coefficients of the best cubic on [l, 1], 3 sqrt(6) as l goes to 0.
CUBIC_SIZE = 7.35

CUBIC = (1.5, -0.5)
HALLEY = (3.0, 1.0, 3.0)

lower_ends = st.floats(-6.0, -0.01).map(lambda decade: 10.0**decade)


def custom(**changes: object) -> Schedule:
    plain = {"name": "x", "polynomials": ((1.5, -0.5),), "interval": (0.1, 1.0), "source": "here"}
    return Schedule(**plain | changes)  # type: ignore[arg-type]


# ---- the numbers


def test_every_schedule_says_what_it_is():
    for name, schedule in SCHEDULES.items():
        assert schedule.name == name
        assert schedule.source
        assert schedule.degree == 2 * max(map(len, schedule.polynomials)) - 1
        if name.rpartition("-")[2].isdigit() and not name.startswith("taylor"):
            assert schedule.steps == int(name.rpartition("-")[2])
        if "circulation" in schedule.source:
            assert "second hand" in schedule.note


def test_the_sets_of_the_reference_are_those_of_its_polynomials():
    assert SCHEDULES["jordan"].polynomials == (JORDAN_QUINTIC,) * 5
    assert SCHEDULES["polar-express-8"].polynomials == POLAR_EXPRESS
    assert SCHEDULES["newton-schulz"].polynomials[0] == CUBIC
    for k in (1, 2, 3):
        assert SCHEDULES[f"taylor-{k}"].polynomials[-1] == kim_oh_polynomial(k)


def test_safety_is_on_all_but_the_last_step_or_on_all_where_the_note_says_so():
    plain = np.array(POLAR_EXPRESS[:5])
    for name, factor, last in (
        ("polar-express-safe-5", 1.01, 1.0),
        ("polar-express-cut-5", 1.01, 1.01),
        ("gram-newton-schulz-5", 1.05, 1.05),
    ):
        factors = np.array([factor] * 4 + [last])[:, None]
        want = plain / factors ** np.array([1, 3, 5])
        rounding = 6 * U64 * np.abs(plain).max()
        check(distance(name, np.array(SCHEDULES[name].polynomials), want, budget=np.sqrt(15) * rounding))
        assert SCHEDULES[name].safety == factor


@pytest.mark.parametrize("name", PRINTED)
def test_the_rows_printed_elsewhere_are_these_rows(name):
    rows, want = np.ravel(SCHEDULES[name].polynomials), np.array(PRINTED[name].split(), dtype=np.float64)
    check(Ratio("worst coefficient", float(np.abs(rows - want).max()), UNIT + 32 * U64))


def test_the_set_that_starts_with_7_2086_is_not_the_papers():
    first = (7.2086, -15.5131, 9.0178)
    assert SCHEDULES["quintic-8"].polynomials[0] == first
    assert np.abs(np.array(SCHEDULES["quintic-8"].polynomials) - np.array(POLAR_EXPRESS)).max() > 1


@given(lower_ends)
def test_the_cubics_of_cans_and_of_polar_express_are_one(lower):
    (other,) = polar_express_coefficients(lower, 1.0, steps=1, degree=3)
    check(
        distance(
            "cubic", np.array(chebyshev_cubic(lower, 1.0)), np.array(other), budget=32 * U64 * CUBIC_SIZE
        )
    )


@given(lower_ends, st.floats(0.5, 3.0))
def test_the_chebyshev_cubic_oscillates_about_one(ratio, upper):
    lower = ratio * upper
    p = np.polynomial.Polynomial(np.ravel([(0.0, c) for c in chebyshev_cubic(lower, upper)]))
    top = np.sqrt((lower * lower + lower * upper + upper * upper) / 3)
    deviations = np.array([1 - p(lower), p(top) - 1, 1 - p(upper)])
    check(distance("equal deviations", deviations, np.full(3, deviations[1]), budget=64 * U64 * CUBIC_SIZE))


def test_the_cans_cubics_start_where_the_last_image_ends():
    rows, (l, u) = SCHEDULES["cans-cubic-8"].polynomials, (1e-3, 1.0)
    for p in rows:
        check(distance("row", np.array(p), np.array(chebyshev_cubic(l, u)), budget=U64))
        l = float(scalar(l, custom(polynomials=(p,))))
        u = 2 - l


@given(lower_ends)
def test_halley_weights_solve_the_published_equations(lower):
    ((a, b, c),) = halley_weights(lower, steps=1)
    d3 = 4 * (1 - lower**2) / lower**4
    root = np.sqrt(1 + np.cbrt(d3))
    # (2 (a - root))^2 = 8 - 4 d + 8 (2 - l^2) / (l^2 root)
    left = (2 * (a - root)) ** 2
    right = 8 - 4 * np.cbrt(d3) + 8 * (2 - lower**2) / (lower**2 * root)
    size = float(8 + 4 * np.cbrt(d3) + 8 * (2 - lower**2) / (lower**2 * root) + 8 * a * a)
    check(
        distance("h", left, right, budget=32 * U64 * size),
        distance("b", np.array(b), np.array((a - 1) ** 2 / 4), budget=U64 * b),
        distance("1 is a fixed point", np.array(a + b), np.array(1 + c), budget=4 * U64 * (a + b)),
    )


def test_halley_weights_end_in_the_unweighted_iteration():
    assert halley_weights(1, steps=2) == (HALLEY,) * 2
    last = np.array(halley_weights(1e-16, steps=7)[-1])
    check(distance("limit", last, np.array(HALLEY), budget=64 * U64))


@given(lower_ends)
def test_weighted_halley_lifts_the_lower_end_and_stays_at_most_one(lower):
    steps = halley_weights(lower, steps=3)
    x = np.geomspace(lower, 1.0, 200)
    ends = [lower]
    for a, b, c in steps:
        x = scalar(x, custom(polynomials=((a, b),), denominators=(c,)))
        ends.append(float(x.min()))
        check(Ratio("above 1", max(0, float(x.max()) - 1), 16 * U64))
    drops = [old - new for old, new in pairwise(ends)]
    check(Ratio("lower end falls", max(0, *drops), 16 * U64))


# ---- matrices


@pytest.mark.claim("NS-evolution")
@pytest.mark.parametrize("name", POLYNOMIAL)
@given(case=known_polar(max_decades=2.0, deficient=True), scale=st.sampled_from(SHIFTED_SCALES))
def test_polynomials_act_on_the_singular_values(name, case, scale):
    M, schedule = frozen(scale * case.M), SCHEDULES[name]
    start = {"shift": schedule.shift, "floor": schedule.floor}
    check(truncated_iteration(apply(M, schedule), M, schedule.polynomials, u=U64, **start))


@pytest.mark.parametrize("name", RATIONAL)
@given(case=known_polar(max_decades=2.0), scale=st.sampled_from(SCALES))
def test_rational_schedules_reach_the_polar_factor(name, case, scale):
    X = apply(frozen(scale * case.M), SCHEDULES[name])
    budget = formula_budget(np.sqrt(case.rank), max(case.M.shape), case.condition, formulas=3)
    check(orthogonality(X, u=U64), distance("polar factor", X, case.Q, budget=budget))


@pytest.mark.parametrize("name", RATIONAL)
@given(case=known_polar(max_decades=2.0, deficient=True))
def test_one_rational_step_acts_on_the_singular_values(name, case):
    schedule = with_steps(SCHEDULES[name], steps=1)
    U, s, Vt = np.linalg.svd(case.M, full_matrices=False)
    s = s / (np.linalg.norm(s) or 1.0)
    (a, _), (c,) = schedule.polynomials[0], schedule.denominators
    growth = max(a, np.sqrt(c))  # largest slope of the step, condition of the matrix under QR
    budget = formula_budget(1.0, max(case.M.shape), growth, formulas=2)
    check(distance("step", apply(case.M, schedule), (U * scalar(s, schedule)) @ Vt, budget=budget))


def test_six_weighted_halley_steps_do_for_condition_1e16():
    x = np.geomspace(1e-16, 1.0, 2001)
    check(Ratio("six steps", float(np.abs(scalar(x, SCHEDULES["weighted-halley-6"]) - 1).max()), 32 * U64))


@pytest.mark.parametrize("name", SCHEDULES)
def test_batches_transposes_zero_and_empty(name):
    schedule = SCHEDULES[name]
    G = frozen(np.random.default_rng(3).standard_normal((2, 3, 4)))
    before = G.copy()
    X = apply(G, schedule)
    budget = formula_budget(1.0, 4, LARGEST_SLOPE)
    check(
        distance("slice of a batch", apply(G[1], schedule), X[1], budget=budget),
        distance("transpose", apply(np.ascontiguousarray(G[0].T), schedule), X[0].T, budget=budget),
    )
    assert np.array_equal(G, before)
    assert not apply(np.zeros((3, 2)), schedule).any()
    for shape in ((0, 3), (3, 0), (2, 0, 0)):
        assert apply(np.zeros(shape), schedule).shape == shape


def test_the_named_orthogonalizers_are_the_schedules_of_the_same_name():
    G = np.random.default_rng(4).standard_normal((4, 3))
    assert np.array_equal(orthogonalize(G, "jordan"), apply(G, SCHEDULES["jordan"]))
    assert np.array_equal(orthogonalize(G, "polar-express"), apply(G, SCHEDULES["polar-express-safe-8"]))
    assert np.array_equal(newton_schulz(G, JORDAN_QUINTIC), apply(G, SCHEDULES["jordan"]))


def test_a_rank_one_matrix_is_nearly_negated_by_the_aol_set():
    u, v = np.eye(3)[:, :1], np.ones((1, 4)) / 2
    X = apply(u @ v, SCHEDULES["aol-4"])
    check(printed("value at 1", float((u.T @ X @ v.T)[0, 0]), "-0.993521", rounding=U64))


def test_steps_are_cut_or_the_last_one_repeats():
    schedule = SCHEDULES["weighted-halley-4"]
    longer, shorter = with_steps(schedule, steps=6), with_steps(schedule, steps=2)
    assert longer.polynomials[3:] == (schedule.polynomials[-1],) * 3
    assert longer.denominators[3:] == (schedule.denominators[-1],) * 3
    assert shorter.polynomials == schedule.polynomials[:2]
    assert (shorter.steps, len(shorter.denominators), schedule.steps) == (2, 2, 4)
    assert with_steps(SCHEDULES["jordan"], steps=7).steps == 7


# ---- bad input


def test_only_odd_polynomials_pass():
    assert odd_polynomial([0, CUBIC[0], 0, CUBIC[1]]) == CUBIC
    with pytest.raises(ValueError, match=r"coefficients must be those of an odd polynomial, got even powers"):
        odd_polynomial([0.0, 1.5, 0.25])
    with pytest.raises(ValueError, match="coefficients must hold one of an odd power, got none"):
        odd_polynomial([0.0])
    with pytest.raises(ValueError, match="coefficients must be finite, got nan"):
        odd_polynomial([0.0, np.nan])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"polynomials": ()}, "polynomials must hold at least one polynomial, got none"),
        ({"polynomials": ((),)}, "polynomials must hold at least one coefficient each, got none"),
        ({"polynomials": ((1.0, np.nan),)}, "polynomials must be finite, got nan"),
        ({"interval": (1.0, 0.1)}, r"interval must have its lower end first, got \(1.0, 0.1\)"),
        ({"interval": (0.0, 1.0)}, "interval must be above 0, got 0.0"),
        ({"interval": (1.0,)}, "interval must be a pair"),
        ({"interval": (0.1, np.inf)}, "interval must be finite"),
        ({"safety": 0.5}, "safety must be at least 1, got 0.5"),
        ({"shift": -1.0}, "shift must be at least 0"),
        ({"floor": np.nan}, "floor must be finite"),
        ({"denominators": (3.0, 3.0)}, "denominators must be one per step"),
        ({"denominators": (-3.0,)}, "denominators must be above 0, got -3.0"),
        ({"polynomials": ((1.0, 1.0, 1.0),), "denominators": (3.0,)}, "denominators must be one per step"),
    ],
)
def test_a_schedule_that_is_out_of_order_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        custom(**changes)


def test_wrong_python_types_are_refused():
    for changes in ({"polynomials": (1.5, -0.5)}, {"polynomials": "1.5"}, {"polynomials": (("a",),)}):
        with pytest.raises(TypeError, match="polynomials must"):
            custom(**changes)
    with pytest.raises(TypeError, match="steps must be an integer"):
        with_steps(custom(), steps=2.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: with_steps(custom(), steps=0), "steps must be at least 1, got 0"),
        (lambda: chebyshev_cubic(1.0, 0.5), "lower must be at most upper"),
        (lambda: chebyshev_cubic(0.0, 0.5), "lower must be above 0"),
        (lambda: halley_weights(0.0, steps=1), "lower must be above 0"),
        (lambda: halley_weights(2.0, steps=1), "lower must be between 1e-75 and 1, got 2.0"),
        (lambda: halley_weights(0.5, steps=0), "steps must be at least 1"),
        (lambda: scalar(np.nan, custom()), "x must be finite"),
        (lambda: scalar(np.array([1e200]), SCHEDULES["halley-9"]), "x must have squares in the range"),
        (lambda: apply(np.full((2, 2), np.nan), custom()), "M must be finite"),
        (lambda: apply(np.zeros(3), SCHEDULES["halley-9"]), r"M must be float64 of shape \(..., m, n\)"),
    ],
)
def test_out_of_range_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_schedule_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SCHEDULES["jordan"].safety = 2.0  # type: ignore[misc]
