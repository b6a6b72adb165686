"""The published polynomials: Jordan's quintic, Kim and Oh's family, Polar Express."""

from fractions import Fraction
from math import comb

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference.polar import (
    JORDAN_QUINTIC,
    POLAR_EXPRESS,
    kim_oh_polynomial,
    polar_express_coefficients,
    scalar_map,
)
from tests.reference.cases import (
    U64,
    check,
    distance,
    printed,
)

RECOMMENDED_LOWER = 1e-3
SAMPLED = np.logspace(-3.0, 0.0, 200_001)
#: An extremum of f(log x) sampled at spacing h is missed by at most ``h^2 / 8`` times the curvature, which
#: for five Jordan steps is below 400 by second differences on this grid.
JORDAN_PEAK = (np.log(10.0) * 3 / 200_000) ** 2 / 8 * 400
#: Six quintics have degree 5^6; by Markov's inequality their slope is at most its square.
MARKOV = 5.0**12 * U64


@pytest.mark.claim("JORDAN-nonconvergent")
def test_the_jordan_quintic_sends_one_to_its_printed_value():
    check(printed("h(1)", scalar_map(1.0, JORDAN_QUINTIC, steps=1), "0.7010", rounding=4 * U64))


@pytest.mark.claim("JORDAN-range")
def test_the_range_of_five_jordan_steps():
    y = scalar_map(SAMPLED, JORDAN_QUINTIC)
    wide = [y.min(), y.max()]
    right = y[len(y) // 3 :]  # the last two of three decades
    narrow = [right.min(), right.max()]
    check(printed("on [1e-3, 1]", wide, ["0.470544", "1.202369"], rounding=JORDAN_PEAK))
    check(printed("on [1e-2, 1]", narrow, ["0.681831", "1.134357"], rounding=JORDAN_PEAK))


@pytest.mark.claim("KO-identity")
@given(st.integers(1, 30))
def test_kim_oh_polynomials_are_the_correctly_rounded_taylor_polynomials(k):
    lead = Fraction((2 * k + 1) * comb(2 * k, k), 4**k)  # integrating (x p(x^2))' = lead (1 - x^2)^k
    want = [lead * Fraction((-1) ** j * comb(k, j), 2 * j + 1) for j in range(k + 1)]
    assert kim_oh_polynomial(k) == tuple(float(c) for c in want)


def test_the_first_kim_oh_polynomials():
    assert kim_oh_polynomial(1) == (3 / 2, -1 / 2)
    assert kim_oh_polynomial(2) == (15 / 8, -10 / 8, 3 / 8)


def exact_polar_express(rows: int) -> list[tuple[list[mpmath.mpf], mpmath.mpf]]:
    """The recursion in 60 digits from powers of x: coefficients and ``1 - l/u`` of each row."""
    with mpmath.workdps(60):
        l, u, found = mpmath.mpf(10) ** -3, mpmath.mpf(1), []
        for _ in range(rows):
            start = max(l, mpmath.mpf("0.02407327424182761") * u)
            nodes = [start, (3 * start + u) / 4, (start + 3 * u) / 4, u]
            for _ in range(12):
                A = mpmath.matrix([[x, x**3, x**5, (-1) ** i] for i, x in enumerate(nodes)])
                a, b, c, _ = mpmath.lu_solve(A, mpmath.matrix([1, 1, 1, 1]))
                root = mpmath.sqrt(9 * b * b - 20 * a * c)
                nodes[1:3] = [mpmath.sqrt((-3 * b + sign * root) / (10 * c)) for sign in (-1, 1)]
            ends = [a * x + b * x**3 + c * x**5 for x in (l, u)]
            factor = 2 / (ends[0] + ends[1])
            found.append(([factor * a, factor * b, factor * c], 1 - start / u))
            l = factor * ends[0]
            u = 2 - l
        return found


@pytest.mark.claim("PE-table")
def test_polar_express_rows_agree_with_sixty_digits_and_with_the_published_table():
    rows = polar_express_coefficients()
    exact = exact_polar_express(7)
    for t, (want, gap) in enumerate(exact):
        truth = np.array([float(c) for c in want])
        width = float(gap)  # 1 - l/u: an interval is known to u / width, relative
        check(
            distance(f"row {t + 1}", rows[t] / truth, np.ones(3), budget=32 * U64 / width),
            # The publication solves in powers of x, whose condition is one order higher.
            distance(f"published {t + 1}", POLAR_EXPRESS[t] / truth, np.ones(3), budget=32 * U64 / width**2),
        )
    assert POLAR_EXPRESS[7] == (15 / 8, -10 / 8, 3 / 8)
    check(
        printed(
            "row 8 is the limit but for u", rows[7], ["1.87500000", "-1.2500000", "0.3750000"], rounding=0.0
        )
    )
    assert rows[7] != POLAR_EXPRESS[7]


@pytest.mark.claim("PE-table")
@pytest.mark.parametrize(
    ("steps", "safety", "low", "high"),
    [
        (5, 1.0, "0.876441", "1.123559"),
        (6, 1.0, "0.998815", "1.001185"),
        (5, 1.01, "0.852373", "1.123559"),
        (6, 1.01, "0.995592", "1.001185"),
    ],
)
def test_the_range_of_the_recommended_composition(steps, safety, low, high):
    y = scalar_map(SAMPLED, polar_express_coefficients(steps=steps, safety=safety))
    check(printed("range", [y.min(), y.max()], [low, high], rounding=MARKOV))


@pytest.mark.claim("PE-optimal")
@pytest.mark.parametrize(("steps", "error"), [(5, "0.113448"), (6, "0.000916")])
def test_the_error_of_the_optimal_composition(steps, error):
    y = scalar_map(SAMPLED, polar_express_coefficients(steps=steps, cushion=0.0))
    check(
        printed("below", 1 - y.min(), error, rounding=MARKOV),
        printed("above", y.max() - 1, error, rounding=MARKOV),
    )


def test_first_rows_without_and_with_another_cushion():
    plain = polar_express_coefficients(steps=1, cushion=0.0)[0]
    tenth = polar_express_coefficients(steps=1, cushion=0.1)[0]
    check(printed("no cushion", plain, ["8.4703288", "-25.1080747", "18.6292756"], rounding=U64))
    check(printed("cushion 1/10", tenth, ["7.6814", "-19.0315", "13.3424"], rounding=U64))


@given(st.floats(-8.0, -1e-4), st.floats(-3.0, 3.0))
def test_the_quintic_equioscillates_so_no_odd_quintic_is_better(log_ratio, log_upper):
    upper = 10.0**log_upper
    lower = upper * 10.0**log_ratio
    a, b, c = polar_express_coefficients(lower, upper, steps=1, cushion=0.0)[0]
    z = np.sort(np.roots([5 * c, 3 * b, a]).real)
    nodes = np.array([lower, *np.sqrt(z), upper])
    E = (1 - scalar_map(nodes, [(a, b, c)])) * np.array([1.0, -1.0, 1.0, -1.0])
    size = abs(a) * upper + abs(b) * upper**3 + abs(c) * upper**5
    assert np.all(np.diff(nodes) > 0)
    # Where the roots of p' nearly meet they are known to sqrt(u) only, but p is flat there.
    check(distance("equioscillation", E, np.full(4, E.mean()), budget=32 * U64 * size))


@pytest.mark.claim("PE-cubic")
@given(st.floats(-8.0, 0.0), st.floats(-3.0, 3.0))
def test_the_cubic_equioscillates(log_ratio, log_upper):
    upper = 10.0**log_upper
    lower = upper * 10.0**log_ratio
    a, b = polar_express_coefficients(lower, upper, steps=1, degree=3)[0]
    low, peak, high = scalar_map(np.array([lower, np.sqrt(-a / (3 * b)), upper]), [(a, b)])
    budget = 32 * U64 * (abs(a) * upper + abs(b) * upper**3)
    check(
        distance("ends", low, high, budget=budget),
        distance("symmetric about 1", low + peak, np.float64(2.0), budget=budget),
    )


@pytest.mark.claim("PE-exponent")
def test_the_cubic_error_that_refutes_a_printed_exponent():
    p = polar_express_coefficients(lower=0.9, steps=1, degree=3)
    check(printed("error", 1 - scalar_map(0.9, p), "0.0020792", rounding=8 * U64))


def test_a_cushioned_row_is_symmetric_about_one_at_the_true_ends():
    rows = polar_express_coefficients(steps=3)
    l, u = RECOMMENDED_LOWER, 1.0
    for p in rows:
        low, high = scalar_map(np.array([l, u]), [p])
        check(distance("symmetric", low + high, np.float64(2.0), budget=32 * U64 * 50))
        l, u = low, 2 - low


def test_a_nearly_converged_interval_gets_the_limit():
    limit = (15 / 8, -10 / 8, 3 / 8)
    near, point, outside = 1 - 1e-6, 1.0, 1 - 6e-6
    assert polar_express_coefficients(near, steps=1) == (limit,)
    assert polar_express_coefficients(point, steps=2) == (limit, limit)
    assert polar_express_coefficients(2 * point, 2 * point, steps=1) == ((15 / 16, -10 / 64, 3 / 256),)
    assert polar_express_coefficients(outside, steps=1) != (limit,)


def test_safety_rescales_the_argument_of_all_but_the_last():
    plain, safe = polar_express_coefficients(steps=3), polar_express_coefficients(steps=3, safety=1.01)
    x = np.linspace(0.0, 1.0, 11)
    for p, q in zip(plain[:2], safe[:2], strict=True):
        check(distance("p(x / 1.01)", scalar_map(x, [q]), scalar_map(x / 1.01, [p]), budget=32 * U64 * 100))
    assert safe[2] == plain[2]
