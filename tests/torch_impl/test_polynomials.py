"""Coefficients of the polynomial iterations: Kim-Oh, Polar Express, schedules."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import reference.polar
from proofs_checks.ratios import (
    ORDER_ONE,
    Ratio,
    inequality,
)
from tests.torch_impl.cases import DOUBLE
from torch_impl import polar


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
    end, rounding = low, 0.0
    for p in polynomials:
        # An error of the steps before grows by the slope; solving for p and evaluating it add their own.
        x = np.linspace(end, 2.0 - end, 200)
        slope = np.abs(sum((2 * i + 1) * c * x ** (2 * i) for i, c in enumerate(p))).max()
        rounding = float(slope) * rounding + ORDER_ONE * float(np.abs(p).sum()) * DOUBLE
        end = sum(c * end ** (2 * i + 1) for i, c in enumerate(p))
    points = torch.linspace(low, 1.0, 500, dtype=torch.float64)
    worst = float((polar.scalar_map(points, polynomials) - 1.0).abs().max())
    assert inequality(worst, 1.0 - end, rounding=rounding).passed


def test_safety_rescales_the_argument_of_all_polynomials_but_the_last():
    plain = polar.polar_express_coefficients(steps=3)
    safety = 1.25
    safe = polar.polar_express_coefficients(steps=3, safety=safety)
    assert safe[2] == plain[2]
    for p, q in zip(plain[:2], safe[:2], strict=True):
        assert q == tuple(c / safety ** (2 * i + 1) for i, c in enumerate(p))
