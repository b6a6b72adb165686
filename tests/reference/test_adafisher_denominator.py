"""AdaFisher: min-max normalisation, averages and the denominator."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs_checks.ratios import inequality, recursion
from reference.adafisher import (
    RELEASED_EPSILON,
    average,
    denominator,
    minmax_normalize,
    released_average,
)
from tests.reference.cases import U64, check, distance, frozen
from tests.strategies import seeds

# ---- min-max normalisation


@pytest.mark.claim("ADAF-zero-one")
@given(seeds, st.integers(2, 9), st.sampled_from([2.0**-900, 1.0, 2.0**900]))
def test_a_factor_that_is_not_constant_gets_an_exact_zero_and_one(seed, n, scale):
    d = np.random.default_rng(seed).standard_normal((3, n)) * scale
    got = minmax_normalize(frozen(d))
    assert (got.min(axis=-1) == 0).all()
    assert (got.max(axis=-1) == 1).all()
    want = (d - d.min(axis=-1, keepdims=True)) / np.ptp(d, axis=-1, keepdims=True)
    check(recursion(got, want, np.abs(want), operations=3, u=U64))


@pytest.mark.claim("ADAF-zero-one")
@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("epsilon", [0.0, 1e-6, 1.0])
@pytest.mark.parametrize("d", [np.full((2, 3), 0.1), np.zeros((2, 3)), np.full((2, 1), 7.0)])
def test_a_constant_factor_becomes_zero(d, epsilon, relative):
    assert np.array_equal(minmax_normalize(d, epsilon=epsilon, relative=relative), np.zeros(d.shape))


@pytest.mark.claim("ADAF-minmax-epsilon")
@given(seeds, st.integers(-40, 40))
def test_a_relative_epsilon_commutes_with_scaling_and_an_absolute_one_does_not(seed, k):
    d = np.random.default_rng(seed).uniform(0.0, 1.0, 6)
    relative = minmax_normalize(d, epsilon=RELEASED_EPSILON)
    assert np.array_equal(minmax_normalize(2.0**k * d, epsilon=RELEASED_EPSILON), relative)
    top = relative.max()
    check(distance("1 / (1 + epsilon)", top, 1 / (1 + RELEASED_EPSILON), budget=4 * U64))
    tiny = d * RELEASED_EPSILON**2
    flattened = minmax_normalize(tiny, epsilon=RELEASED_EPSILON, relative=False).max()
    check(inequality(flattened, RELEASED_EPSILON, rounding=0.0))


def test_an_absolute_epsilon_is_added_to_the_range():
    assert np.array_equal(
        minmax_normalize(np.array([1.0, 2.0, 4.0]), epsilon=1.0, relative=False), [0.0, 0.25, 0.75]
    )
    assert np.array_equal(minmax_normalize(np.array([1.0, 2.0, 4.0]), epsilon=1.0), [0.0, 1 / 6, 0.5])


def test_minmax_over_several_axes_and_of_empty_factors():
    d = np.random.default_rng(0).standard_normal((2, 3, 4))
    flat = minmax_normalize(d.reshape(2, 12)).reshape(2, 3, 4)
    assert np.array_equal(minmax_normalize(d, axes=2), flat)
    assert minmax_normalize(np.zeros((2, 0))).shape == (2, 0)
    assert minmax_normalize(np.zeros((0, 2))).shape == (0, 2)


# ---- averages and the denominator


@pytest.mark.claim("ADAF-average")
@given(seeds, st.floats(0.0, 1.0))
def test_the_two_places_of_gamma_are_mirror_images(seed, gamma):
    old, new = np.random.default_rng(seed).uniform(0.0, 1.0, (2, 5))
    want = gamma * old + (1 - gamma) * new
    check(recursion(average(frozen(old), frozen(new), gamma=gamma), want, want, operations=4, u=U64))
    assert np.array_equal(
        average(old, new, gamma=gamma, gamma_on="new"), (1 - gamma) * old + (1 - (1 - gamma)) * new
    )


@pytest.mark.claim("ADAF-range")
@given(seeds, st.integers(1, 5), st.integers(1, 5), st.floats(-8.0, 2.0))
def test_the_denominator_stays_in_its_range_to_the_last_bit(seed, m, n, log_lam):
    lam = 10.0**log_lam
    rng = np.random.default_rng(seed)
    h, s = (10.0 ** rng.uniform(-6, 2, (2, k)) for k in (n, m))
    F = denominator(minmax_normalize(h), minmax_normalize(s), lam=lam)
    assert F.shape == (2, m, n)
    assert F.min() == lam
    assert F.max() == (1 + lam if m > 1 and n > 1 else lam)
    channels = denominator(h, 2 * h, lam=lam, pairing="channel")
    check(recursion(channels, 2 * h * h + lam, 2 * h * h + lam, operations=3, u=U64))


# ---- errors

d_, s_ = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: minmax_normalize([1.0]), TypeError, "d must be a float64 array"),
        (lambda: minmax_normalize(np.float32([1, 2])), ValueError, "d must be float64"),
        (lambda: minmax_normalize(np.array(1.0)), ValueError, r"d must be float64 of shape \(..., n\)"),
        (lambda: minmax_normalize(np.array([np.nan, 1.0])), ValueError, "d must be finite, got 1"),
        (lambda: minmax_normalize(d_, epsilon=-1.0), ValueError, "epsilon must be at least 0"),
        (lambda: minmax_normalize(d_ * 1e300, epsilon=1e300), ValueError, "epsilon must leave the range"),
        (lambda: minmax_normalize(np.array([-1e308, 1e308])), ValueError, "d must have a range in range"),
        (lambda: minmax_normalize(d_, axes=0), ValueError, "axes must be at least 1"),
        (lambda: minmax_normalize(d_, axes=2), ValueError, "d must be float64 of shape"),
        (lambda: average(d_, s_), ValueError, r"new must have shape \(4,\), got \(3,\)"),
        (lambda: average(d_, d_, gamma=1.5), ValueError, r"gamma must be in \[0, 1\]"),
        (lambda: average(d_, d_, gamma_on="both"), ValueError, "gamma_on must be one of 'old', 'new'"),
        (lambda: average(d_ * np.inf, d_), ValueError, "old must be finite"),
        (lambda: released_average(d_, s_), ValueError, r"new must have shape \(4,\)"),
        (lambda: released_average(d_, d_ * np.nan), ValueError, "new must be finite, got 4"),
        (lambda: released_average(d_, [1.0]), TypeError, "new must be a float64 array"),
        (lambda: released_average(d_, d_, gamma=-0.1), ValueError, "gamma must be in"),
        (lambda: denominator(d_, s_, lam=0.0), ValueError, "lam must be above 0"),
        (lambda: denominator(d_, np.ones((2, 3))), ValueError, r"s_D must have shape \(3,\)"),
        (lambda: denominator(d_, s_, pairing="channel"), ValueError, r"s_D must have shape \(4,\)"),
        (lambda: denominator(d_, s_, pairing="inner"), ValueError, "pairing must be one of"),
        (lambda: denominator(1e200 * d_, 1e200 * s_), ValueError, "h_D must have products with s_D in range"),
    ],
)
def test_a_bad_argument_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
