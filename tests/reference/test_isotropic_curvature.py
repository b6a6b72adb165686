"""The isotropic curvature model: moments on the sphere, its convex program, and what a kink does."""

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given
from hypothesis import strategies as st

from proofs_checks.ratios import inequality
from reference.isotropic_curvature import (
    Growth,
    Moments,
    expectation,
    kink_slopes,
    kinked_growth,
    moments,
    objective,
    optimal_spectrum,
    optimal_update,
    power_growth,
    quartic_expectation,
    sphere_rule,
)
from tests.reference.cases import U64, check, condition, distance, formula_budget, frozen, printed, size
from tests.strategies import seeds

#: The gradient spectrum of the golden example.
GOLDEN = np.array([8.0, 4.0, 2.0, 1.0])

CUBIC, QUARTIC = power_growth(exponent=3.0), power_growth(exponent=4.0)


@st.composite
def spectra(draw, *, least=1, most=4):
    """Descending singular values between 0.1 and 10."""
    rng = np.random.default_rng(draw(seeds))
    return frozen(np.sort(10.0 ** rng.uniform(-1.0, 1.0, draw(st.integers(least, most))))[::-1].copy())


def relative(X):
    return X / X[..., -1:]


@given(st.integers(1, 5), st.integers(3, 6))
def test_the_rule_has_the_moments_of_the_sphere(n, nodes):
    """``E t_i``, ``E t_i t_j`` and ``E t_i^3``: 1, 1 or 3, and 15 over n, n (n + 2), n (n + 2) (n + 4)."""
    t, w = sphere_rule(n=n, nodes=nodes)
    assert t.shape == (nodes ** (n - 1), n)
    assert (t > 0).all()
    assert (w > 0).all()
    second = (np.ones((n, n)) + 2 * np.eye(n)) / (n * (n + 2))
    budget = formula_budget(1.0, nodes * n)
    check(
        distance("on the simplex", t.sum(axis=1), np.ones(len(t)), budget=budget * len(t)),
        distance("mean", w @ t, np.full(n, 1 / n), budget=budget),
        distance("second", (w * t.T) @ t, second, budget=budget),
        distance("third", w @ t**3, np.full(n, 15 / (n * (n + 2) * (n + 4))), budget=budget),
    )


@pytest.mark.claim("ICM-moments")
@given(spectra(most=5))
def test_moments_and_the_quartic_expectation(sigma):
    t, w = sphere_rule(n=len(sigma), nodes=3)
    x = t @ sigma**2
    got = moments(sigma)
    assert isinstance(got, Moments)
    scale = size(sigma) ** 4
    check(
        distance("mean", got.mean, w @ x, budget=formula_budget(scale**0.5, 8)),
        distance("variance", got.variance, w @ x**2 - (w @ x) ** 2, budget=formula_budget(scale, 8)),
        distance(
            "quartic", quartic_expectation(sigma, k=3.0), 3 * w @ x**2, budget=formula_budget(3 * scale, 8)
        ),
    )


@pytest.mark.claim("ICM-moments")
def test_a_flat_spectrum_has_no_variance_and_its_value_is_exact():
    for n in range(1, 6):
        flat = np.full((2, n), 1.5)
        got = moments(flat)
        assert np.array_equal(got.mean, np.full(2, 2.25))
        assert not got.variance.any()
        check(distance("quartic", quartic_expectation(flat), np.full(2, 1.5**4), budget=64 * U64))
        value = expectation(flat, power_growth(exponent=3.0), nodes=4)
        check(distance("cubic", value, np.full(2, 1.5**3), budget=formula_budget(5.0, 4 * n)))


@pytest.mark.claim("ICM-moments")
@pytest.mark.parametrize(
    ("exponent", "ratios"),
    [(2.0, ["8.00000", "4.00000", "2.00000", "1"]), (4.0, ["3.98720", "2.76248", "1.75397", "1"])],
)
def test_the_golden_example(exponent, ratios):
    sigma = optimal_spectrum(GOLDEN, power_growth(exponent=exponent))
    check(printed("ratios", relative(sigma), ratios, rounding=formula_budget(1.0, 12**3)))


@given(spectra(), st.floats(0.1, 10.0))
def test_quadratic_growth_scales_the_gradient(s, k):
    want = len(s) * s / (2 * k)
    got = optimal_spectrum(s, power_growth(exponent=2.0, k=k), nodes=3)
    check(distance("sigma", got, want, budget=formula_budget(size(want), 30)))


@given(spectra())
def test_quartic_growth_satisfies_its_stationary_equations(s):
    """``k (4 tr(A) sigma + 8 sigma^3) = n (n + 2) s``, from the closed form of the expectation."""
    n = len(s)
    sigma = optimal_spectrum(s, power_growth(exponent=4.0, k=0.5), nodes=3)
    left = 0.5 * (4 * np.square(sigma).sum() * sigma + 8 * sigma**3) / (n * (n + 2))
    check(distance("stationary", left, s, budget=formula_budget(size(s), 30, 10.0)))


@pytest.mark.claim("FISMO-MECH-icm")
@given(spectra(least=2), st.floats(2.25, 8.0))
def test_smooth_faster_growth_brings_singular_values_closer_and_keeps_their_order(s, exponent):
    sigma = optimal_spectrum(s, power_growth(exponent=exponent))
    rounding = formula_budget(1.0, 12**3, 100.0)
    change, kept = np.diff(np.log(sigma)), np.diff(np.log(s))
    check(inequality(kept, change, rounding=rounding), inequality(change, 0.0, rounding=rounding))
    visible = 1e6 * rounding
    apart = kept < -visible
    assert (change[apart] > kept[apart]).all()
    assert (change[apart] < 0).all()


@given(spectra(), st.floats(2.5, 6.0))
def test_the_program_is_solved_as_scipy_solves_it(s, exponent):
    """An independent minimiser without derivatives ends at no smaller value."""
    growth = power_growth(exponent=exponent)
    sigma = optimal_spectrum(s, growth, nodes=4)
    best = float(objective(sigma, s, growth, nodes=4))
    other = scipy.optimize.minimize(
        lambda x: float(objective(np.abs(x), s, growth, nodes=4)), s / s.sum(), method="Powell"
    )
    rounding = formula_budget(abs(best) + float(s @ sigma), 4 ** len(s))
    check(inequality(best, float(other.fun), rounding=rounding))


def flat_growth(s, *, width=0.0):
    """A kink at radius 1 whose slopes span what `kink_slopes` asks for, with a fifth to spare."""
    u = kink_slopes(s)
    low, high = float(u.min()), float(u.max())
    return kinked_growth(at=1.0, low=0.8 * low, high=1.2 * high, width=width)


@pytest.mark.claim("ICM-kink")
@given(seeds, st.integers(2, 4))
def test_a_kink_that_is_steep_enough_flattens_fully(seed, n):
    """No spectrum beats the flat one, although the gradient's is not flat."""
    rng = np.random.default_rng(seed)
    s = 1 + 0.5 * rng.random(n) / n
    growth = flat_growth(s)
    flat = float(objective(np.ones(n), s, growth, nodes=6))
    others = np.abs(1 + 10.0 ** rng.uniform(-6, 1, (300, 1)) * rng.standard_normal((300, n)))
    values = objective(others, np.broadcast_to(s, others.shape), growth, nodes=6)
    rounding = formula_budget(abs(flat) + float(others.max()) * size(s), 6**n)
    check(inequality(flat, values, rounding=rounding))


@pytest.mark.claim("ICM-kink")
def test_smoothing_the_kink_makes_the_flattening_partial():
    s = np.array([1.2, 1.1, 1.0])
    apart = [condition(np.diag(optimal_spectrum(s, flat_growth(s, width=w)))) - 1 for w in (0.1, 0.01, 0.001)]
    assert all(a > 0 for a in apart)
    assert apart[0] > apart[1] > apart[2]
    check(inequality(apart[2], 0.02 * apart[0], rounding=0.0))  # linear in the width


@pytest.mark.claim("ICM-kink")
def test_a_kink_that_is_not_steep_enough_does_not_flatten():
    """The nuclear norm, 15, has to lie between the slopes: here it is above, and below, both of them."""
    for low, high in ((1.0, 14.0), (16.0, 200.0)):
        growth = kinked_growth(at=1.0, low=low, high=high)
        radii = np.linspace(0.2, 4.0, 77)
        flat = objective(radii[:, None] * np.ones(4), np.broadcast_to(GOLDEN, (77, 4)), growth, nodes=4)
        smooth = kinked_growth(at=1.0, low=low, high=high, width=0.05)
        sigma = optimal_spectrum(GOLDEN, smooth, nodes=4)
        check(inequality(objective(sigma, GOLDEN, growth, nodes=4), flat.min(), rounding=0.0))


def test_the_certificate_of_flattening():
    s = np.array([1.2, 1.1, 1.0])
    u = kink_slopes(s)
    t, w = sphere_rule(n=3, nodes=2)
    check(
        distance("E[(u . t) t]", (w * (t @ u)) @ t, s, budget=formula_budget(10.0, 9)),
        distance("by hand", u, np.array([4.05, 3.3, 2.55]), budget=64 * U64),
    )
    assert np.array_equal(kink_slopes(np.ones(4)), np.full(4, 4.0))


def test_growths_by_hand():
    power, kink = power_growth(exponent=3.0, k=2.0), kinked_growth(at=2.0, low=1.0, high=4.0)
    r = np.array([1.0, 2.0, 3.0])
    assert isinstance(power, Growth)
    assert np.array_equal(power.value(r), [2.0, 16.0, 54.0])
    assert np.array_equal(power.slope(r), [6.0, 24.0, 54.0])
    assert np.array_equal(power.curvature(r), [12.0, 24.0, 36.0])
    assert np.array_equal(kink.value(r), [0.25, 1.0, 5.25])
    assert np.array_equal(kink.slope(r), [0.5, 1.0, 4.5])
    assert np.array_equal(kink.curvature(r), [0.5, 0.5, 0.5])


@given(st.floats(0.05, 3.0), st.floats(0.05, 0.5))
def test_the_derivatives_of_the_smoothed_kink(r, width):
    growth, h = kinked_growth(at=1.0, low=0.5, high=3.0, width=width), 2.0**-16
    x = np.array([r])
    for f, slope in ((growth.value, growth.slope), (growth.slope, growth.curvature)):
        central = (f(x + h) - f(x - h)) / (2 * h)
        truncation = h**2 * 3.0 / width**3  # a third derivative is at most a few times the jump over width^3
        check(distance("slope", slope(x), central, budget=truncation + 64 * U64 * float(f(x + h)[0] + 1) / h))


@given(seeds, st.integers(1, 4), st.integers(1, 3))
def test_the_update_has_the_singular_vectors_of_the_gradient(seed, m, n):
    G = frozen(np.random.default_rng(seed).standard_normal((2, m, n)))
    Q = optimal_update(G, QUARTIC, nodes=3)
    U, s, Vt = np.linalg.svd(G, full_matrices=False)
    padded = np.concatenate([s, np.zeros((2, n - s.shape[-1]))], axis=-1)
    sigma = optimal_spectrum(padded, QUARTIC, nodes=3)[:, : s.shape[-1]]
    check(distance("Q", Q, (U * sigma[:, None, :]) @ Vt, budget=formula_budget(size(Q), 9, condition(G))))
    assert optimal_update(np.zeros((0, 3)), QUARTIC, nodes=3).shape == (0, 3)


def test_a_batch_is_a_loop_of_singles_and_zeros_stay_zero():
    s = np.array([[[3.0, 1.0, 0.5], [0.0, 0.0, 0.0]], [[1.0, 1.0, 1.0], [2.0, 0.0, 0.0]]])
    growth = power_growth(exponent=3.0)
    together = optimal_spectrum(frozen(s), growth)
    for at in np.ndindex(2, 2):
        single = optimal_spectrum(s[at], growth)
        check(distance("sigma", together[at], single, budget=formula_budget(size(single), 144)))
        assert (together[at][s[at] == 0] == 0).all()


S_ = np.array([2.0, 1.0])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: power_growth(exponent=1.5), ValueError, "exponent must be at least 2"),
        (lambda: power_growth(exponent=3.0, k=0.0), ValueError, "k must be above 0"),
        (lambda: kinked_growth(at=0.0, low=0.0, high=1.0), ValueError, "at must be above 0"),
        (lambda: kinked_growth(at=1.0, low=-1.0, high=1.0), ValueError, "low must be at least 0"),
        (lambda: kinked_growth(at=1.0, low=1.0, high=1.0), ValueError, "high must be above low"),
        (
            lambda: kinked_growth(at=1.0, low=0.0, high=1.0, width=-1.0),
            ValueError,
            "width must be at least 0",
        ),
        (lambda: moments(np.zeros(0)), ValueError, "sigma must hold at least one singular value"),
        (lambda: quartic_expectation(S_, k=-1.0), ValueError, "k must be above 0"),
        (lambda: sphere_rule(n=0, nodes=3), ValueError, "n must be at least 1"),
        (lambda: sphere_rule(n=2, nodes=0), ValueError, "nodes must be at least 1"),
        (lambda: sphere_rule(n=8, nodes=12), ValueError, "nodes must be smaller for n = 8"),
        (lambda: expectation(S_ * np.nan, CUBIC), ValueError, "sigma must be finite"),
        (lambda: objective(S_, S_[:1], CUBIC), ValueError, r"s must have shape \(2,\)"),
        (lambda: optimal_spectrum(-S_, CUBIC), ValueError, "s must be at least 0 everywhere"),
        (lambda: optimal_spectrum(np.zeros((2, 0)), CUBIC), ValueError, "s must hold at least one"),
        (
            lambda: optimal_spectrum(S_, kinked_growth(at=1.0, low=0.0, high=2.0)),
            ValueError,
            "growth must take the slope",
        ),
        (
            lambda: optimal_spectrum(S_, kinked_growth(at=1.0, low=1.0, high=9.0)),
            ValueError,
            "growth must be twice differentiable",
        ),
        (lambda: optimal_update(S_, CUBIC), ValueError, "G must be float64 of shape"),
        (lambda: kink_slopes(np.zeros(0)), ValueError, "s must hold at least one"),
    ],
)
def test_a_bad_argument_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
