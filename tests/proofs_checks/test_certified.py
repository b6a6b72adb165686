"""Ball arithmetic: enclosures contain, are narrow, and refuse; exact runs agree with plain evaluation."""

import numpy as np
import pytest
from flint import arb, ctx, fmpq
from hypothesis import given
from hypothesis import strategies as st

from proofs_checks.certified import fismo, jordan, polynomials, sofim
from proofs_checks.certified.balls import PRECISION, at_precision, attained, ball, enclose
from proofs_checks.symbolic.exact import Exact
from proofs_checks.symbolic.recursion import factor_path, factor_step


def parabola(x):
    """``x^2 - x`` and its slope; range [-1/4, 0] on [0, 1]."""
    return x * x - x, 2 * x - 1


def test_the_true_range_is_certified_and_attained():
    claimed = {"least": arb(fmpq(-251, 1000)), "most": arb(fmpq(1, 1000))}
    found = enclose(parabola, fmpq(0), fmpq(1), **claimed)
    assert found.certified
    assert attained(found, **claimed) <= float(fmpq(1, 999).p) / float(fmpq(1, 999).q)


@pytest.mark.parametrize(("least", "most"), [("-249/1000", "1"), ("-1", "-1/1000")])
def test_a_range_that_is_too_narrow_is_refused(least, most):
    a, b = (fmpq(*map(int, (text + "/1").split("/")[:2])) for text in (least, most))
    assert not enclose(parabola, fmpq(0), fmpq(1), least=arb(a), most=arb(b)).certified


@given(st.fractions(0, 1), st.fractions(0, 1), st.integers(0, 100))
def test_a_ball_holds_every_point_of_its_interval(a, b, percent):
    low, high = sorted((a, b))
    point = low + (high - low) * percent / 100
    as_rational = [fmpq(v.numerator, v.denominator) for v in (low, high, point)]
    assert ball(as_rational[0], as_rational[1]).contains(as_rational[2])


def test_precision_is_given_back():
    before = ctx.prec
    assert at_precision(PRECISION)(lambda: ctx.prec)() == PRECISION
    assert ctx.prec == before


@given(st.fractions(0, 1))
def test_five_steps_contain_the_exact_composition(x):
    point = fmpq(x.numerator, x.denominator)
    value, slope = point, fmpq(1)
    for _ in range(jordan.STEPS):
        slope *= jordan.A + 3 * jordan.B * value**2 + 5 * jordan.C * value**4
        value = jordan.h(value)
    boxed, boxed_slope = jordan.five_steps(arb(point))
    assert boxed.contains(value)
    assert boxed_slope.contains(slope)
    assert jordan.five_slopes(arb(point) ** 2)[0].contains(slope)


@given(st.fractions(0, 1), st.fractions(0, 1))
def test_the_slope_of_the_slope_bounds_its_change(a, b):
    low, high = (fmpq(v.numerator, v.denominator) for v in sorted((a, b)))
    change = jordan.five_slopes(ball(low, high))[1] * arb(high - low)
    difference = jordan.five_slopes(arb(high))[0] - jordan.five_slopes(arb(low))[0]
    assert change.overlaps(difference)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_the_slope_of_the_excess_is_that_of_its_polynomial(k):
    x, h = fmpq(2, 5), fmpq(1, 10**20)
    rise = (polynomials.phi(x + h, k) - (x + h) ** (2 * k + 1)) - (polynomials.phi(x, k) - x ** (2 * k + 1))
    with ctx.workprec(4 * PRECISION):
        slope = polynomials._excess(arb(x), k)[1]
        curvature = 1000 * arb(h)  # the second derivative is below 100 on [0, 1] for k <= 4
        assert abs(slope - arb(rise / h)) < curvature


def test_the_factor_recursion_gives_the_printed_first_step():
    G = Exact([[1, 2, 0], [0, -1, 1]])
    ((P, _),) = factor_path([G], gamma=fmpq(1, 2), mu=fmpq(1, 2))
    assert fmpq(1, 16) * Exact([[19, -4], [-4, 13]]) == P


@pytest.mark.parametrize("damping", ["algorithm", "theorem"])
@pytest.mark.parametrize("order", ["gauss-seidel", "jacobi"])
def test_the_factor_recursion_agrees_with_a_plain_float_evaluation(damping, order):
    rng = np.random.default_rng(5)
    P, Q, p, q = np.eye(2), np.eye(3), Exact.identity(2), Exact.identity(3)
    gamma, mu = 0.5, 0.25
    for _ in range(4):
        G = rng.integers(-3, 4, size=(2, 3)).astype(float)
        Qi = np.linalg.inv(Q)
        L = G @ Qi @ G.T / 3 + mu * np.eye(2) * (1 if damping == "algorithm" else np.trace(Qi) / 3)
        new = gamma * P + (1 - gamma) * L
        new = 2 * new / np.trace(new)
        Pi = np.linalg.inv(P if order == "jacobi" else new)
        R = G.T @ Pi @ G / 2 + mu * np.eye(3) * (1 if damping == "algorithm" else np.trace(Pi) / 2)
        Q, P = gamma * Q + (1 - gamma) * R, new
        Q = 3 * Q / np.trace(Q)
        exact = Exact([[int(v) for v in row] for row in G])
        p, q = factor_step(exact, p, q, gamma=fmpq(1, 2), mu=fmpq(1, 4), damping=damping, order=order)
    for got, want in ((p, P), (q, Q)):
        floats = np.array([[float(arb(v)) for v in row] for row in got.entries])
        budget = 100 * len(want) * np.finfo(float).eps * np.linalg.cond(want)
        assert np.abs(floats - want).max() <= budget


def test_the_two_laws_have_the_second_moments_they_were_built_from():
    for law in (fismo.THEOREM_LAW, fismo.ALGORITHM_LAW):
        assert sum((p for p, _ in law), fmpq(0)) == 1
        X = Exact.diagonal(fmpq(2), fmpq(5))
        total = 0 * X
        for p, G in law:
            total = total + p * (G @ X @ G.T)
        assert total.entries[0][1] == 0


def test_a_relative_error_is_that_of_the_exact_step():
    M = np.array([0.1, 0.2], dtype=np.float32)
    error, s = sofim.relative_error(lambda v: v * 0, M)
    assert error == 1
    entries = [fmpq(*float(v).as_integer_ratio()) for v in M]
    assert s == 2 * (entries[0] * entries[0] + entries[1] * entries[1])


def test_both_momentum_runs_start_from_the_same_point():
    (first, _), *_ = sofim._run(fmpq(0), fmpq(1, 2), steps=1)
    x, L, rho = fmpq(1, 100), fmpq(3), fmpq(1, 2)
    eta = fmpq(1, 2) * 2 * rho / L
    assert first.contains(abs(x - eta * L * x / (rho + L * L * x * x)))
