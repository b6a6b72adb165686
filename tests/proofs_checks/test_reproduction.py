"""Printed numbers as budgets, and the small models behind the reproductions."""

import numpy as np
import pytest

from proofs_checks.adversarial.verdicts import vanishing
from proofs_checks.reproduction import fismo_golden, near_muon, polar_express
from proofs_checks.reproduction.printed import agrees, half_unit
from reference.polar import POLAR_EXPRESS, scalar_map


@pytest.mark.parametrize(
    ("text", "half"),
    [("2.0315", 0.00005), ("-0.30", 0.005), ("769", 0.5), ("6.9e3", 50.0), ("1.5e-3", 0.00005)],
)
def test_half_a_unit_is_that_of_the_last_printed_digit(text, half):
    assert half_unit(text) == half


def test_a_number_that_has_no_digits_has_no_unit():
    with pytest.raises(ValueError, match="finite decimal"):
        half_unit("inf")


def test_print_is_met_within_half_a_unit_and_missed_beyond():
    assert agrees("n", [1.23449, -0.5], "1.2345, -0.5").passed
    assert not agrees("n", 1.23461, "1.2345").passed
    assert agrees("n", 1.23461, "1.2345", rounding=1e-4).passed
    worst = agrees("n", [1.0, 2.5], "1.0; 2.0")
    assert (worst.error, worst.budget) == (half_unit("1"), half_unit("0.1"))


def test_what_is_not_a_number_or_not_compared_does_not_pass():
    assert not agrees("n", [1.0, np.nan], "1.0 2.0").passed
    assert not agrees("n", np.inf, "1.0").passed
    with pytest.raises(ValueError, match="must hold 2 numbers, got 1"):
        agrees("n", [1.0, 2.0], "1.0")


@pytest.mark.claim("FISMO-GOLDEN")
def test_the_golden_factors_have_the_traces_they_are_normalised_to():
    for P, Q in fismo_golden.FIXED_POINTS.values():
        for text, trace in ((P, 3), (Q, 4)):
            numbers = text.split(", ")
            total = sum(map(float, numbers))
            assert vanishing("trace", total - trace, rounding=len(numbers) * half_unit(numbers[0])).passed


@pytest.mark.claim("FISMO-GOLDEN")
def test_the_golden_samples_have_a_kronecker_second_moment():
    G, X = fismo_golden._samples(), np.diag([1.0, 2.0, 3.0, 4.0])
    moment = (G @ X @ G.mT).mean(axis=0)
    U, V = np.diag(fismo_golden._U), np.diag(fismo_golden._V)
    assert vanishing("moment", moment - np.trace(V @ X) * U, rounding=1e2 * np.finfo(float).eps).passed


@pytest.mark.claim("PE-table")
@pytest.mark.parametrize("row", [0, 3, 6])
def test_the_least_slope_is_that_of_dense_sampling(row):
    u, p = 1.2, POLAR_EXPRESS[row]
    x = np.linspace(u / 20000, u, 20000)
    sampled = (scalar_map(x, [p]) / x).min()
    spacing = x[1] - x[0]
    curvature = 2 * abs(p[1]) + 12 * abs(p[2]) * u * u
    assert vanishing(
        "least slope", polar_express._least_slope(p, u) - sampled, rounding=spacing**2 * curvature
    ).passed


@pytest.mark.claim("FISMO-T5-near-muon")
def test_the_gradient_of_the_net_is_the_slope_of_its_loss():
    rng = np.random.default_rng(1)
    W = [rng.standard_normal(shape) / 4 for shape in near_muon._SHAPES]
    x, labels = rng.standard_normal((40, 16)), rng.integers(0, 10, 40)
    _, gradients = near_muon._loss(W, x, labels)
    step = 1e-6
    for k, G in enumerate(gradients):
        direction = rng.standard_normal(G.shape)
        ends = []
        for sign in (-1, 1):
            moved = [*W[:k], W[k] + sign * step * direction, *W[k + 1 :]]
            ends.append(near_muon._loss(moved, x, labels)[0])
        slope = (ends[1] - ends[0]) / (2 * step)
        scale = float(np.linalg.norm(G) * np.linalg.norm(direction))
        # central difference: step^2 times third derivative, and rounding of the loss over the step
        assert vanishing("slope", slope - (G * direction).sum(), rounding=1e-6 * scale).passed
