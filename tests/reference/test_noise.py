"""Noise models: exact values, stated variance, sure bounds, independence over runs."""

import numpy as np
import pytest

from proofs_checks.ratios import inequality
from reference.noise import Noise, gaussian, rademacher, skewed_two_point, student_t
from tests.reference.cases import PER_FORMULA, U64, check, distance

SHAPE = (2, 3)
SIGMA = 0.7

#: Each model and the kurtosis ``E x^4 / (E x^2)^2`` of its entries.
DEGREES = 9.0
MODELS = {
    "gaussian": (gaussian(SHAPE, sigma=SIGMA), 3.0),
    "rademacher": (rademacher(SHAPE, sigma=SIGMA), 1.0),
    "skewed": (skewed_two_point(SHAPE, sigma=SIGMA), (3 + 1 / 3) - 1),
    "more skewed": (skewed_two_point(SHAPE, sigma=SIGMA, odds=9.0), (9 + 1 / 9) - 1),
    "student t": (student_t(SHAPE, sigma=SIGMA, degrees=DEGREES), 3 + 6 / (DEGREES - 4)),
}

#: Runs of a sampled moment, and how many standard deviations it may miss by: seeds are fixed, so this is a
#: statement about these seeds that a wrong variance of a few per cent would break.
RUNS, DEVIATIONS = 40_000, 5.0


def every_model(test):
    return pytest.mark.parametrize(("noise", "kurtosis"), MODELS.values(), ids=MODELS.keys())(test)


@every_model
@pytest.mark.parametrize("batch", [1, 4])
def test_the_mean_is_zero_and_the_variance_is_sigma_squared_over_the_batch(noise, kurtosis, batch):
    N = noise.sample(np.random.default_rng(1), batch=batch, runs=(RUNS,))
    entries = N.size
    variance = SIGMA**2 / batch / N[0].size  # per entry
    check(inequality(abs(N.mean()), DEVIATIONS * np.sqrt(variance / entries), rounding=0.0))
    spread = np.sqrt(((kurtosis - 3) / batch + 2) / entries)  # relative, of the mean of squares
    if spread == 0:
        spread = np.sqrt(entries) * U64
    got = np.square(N).mean() / variance
    check(inequality(abs(got - 1), DEVIATIONS * spread, rounding=0.0))
    assert not inequality(abs(1.1 * got - 1), DEVIATIONS * spread, rounding=0.0).passed


@every_model
@pytest.mark.parametrize("batch", [1, 3])
def test_no_sample_exceeds_the_sure_bound(noise, kurtosis, batch):
    N = noise.sample(np.random.default_rng(2), batch=batch, runs=(5000,))
    norms = np.linalg.norm(N, axis=(-2, -1))
    if np.isfinite(noise.bound):
        check(inequality(norms, noise.bound, rounding=PER_FORMULA * U64 * noise.bound))
    else:
        assert (norms > SIGMA).any()


def test_the_bounds_are_attained():
    check(distance("rademacher", np.array(rademacher(SHAPE, sigma=SIGMA).bound), SIGMA, budget=U64))
    N = skewed_two_point((1, 2), sigma=1.0).sample(np.random.default_rng(3), runs=(500,))
    largest = np.linalg.norm(N, axis=(-2, -1)).max()
    check(distance("skewed", largest, np.sqrt(3.0), budget=PER_FORMULA * U64))


@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.parametrize("odds", [1.0, 3.0])
def test_batch_means_of_two_points_have_the_binomial_law(batch, odds):
    """Values are those of sums of two-point draws, with the frequencies that independence gives them."""
    noise = skewed_two_point((1, 1), sigma=float(np.sqrt(odds)), odds=odds)
    x = noise.sample(np.random.default_rng(4), batch=batch, runs=(RUNS,)).ravel()
    for high in range(batch + 1):
        value = (odds * high - (batch - high)) / batch
        hits = np.abs(x - value) <= PER_FORMULA * U64 * odds
        p = 1 / (1 + odds)
        expected = np.prod([(batch - i) / (i + 1) for i in range(high)]) * p**high * (1 - p) ** (batch - high)
        deviation = np.sqrt(expected * (1 - expected) / RUNS)
        check(inequality(abs(hits.mean() - expected), DEVIATIONS * deviation, rounding=0.0))
        x = x[~hits]
        x = np.concatenate([x, np.full(RUNS - len(x), np.nan)])  # what was matched never counts again
    assert np.isnan(x).all()


@every_model
def test_runs_are_independent_and_reproducible(noise, kurtosis):
    assert isinstance(noise, Noise)
    first = noise.sample(np.random.default_rng(5), runs=(2, 4))
    again = noise.sample(np.random.default_rng(5), runs=(2, 4))
    assert first.shape == (2, 4, *SHAPE)
    assert first.dtype == np.float64
    assert np.array_equal(first, again)
    assert noise.sample(np.random.default_rng(6)).shape == SHAPE


def test_no_noise_and_no_entries_are_defined():
    for model in (gaussian, rademacher, skewed_two_point, student_t):
        silent = model(SHAPE, sigma=0.0)
        empty = model((0, 3), sigma=1.0).sample(np.random.default_rng(7), runs=(2,))
        assert not silent.sample(np.random.default_rng(7)).any()
        assert silent.bound == 0
        assert empty.shape == (2, 0, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gaussian((2, 2, 3), sigma=1.0), "W must have shape"),
        (lambda: gaussian(SHAPE, sigma=-1.0), "sigma must be at least 0"),
        (lambda: rademacher(SHAPE, sigma=np.inf), "sigma must be finite"),
        (lambda: skewed_two_point(SHAPE, sigma=1.0, odds=0.5), "odds must be at least 1"),
        (lambda: student_t(SHAPE, sigma=1.0, degrees=2.0), "degrees - 2 must be above 0"),
        (lambda: gaussian(SHAPE, sigma=1.0).sample(np.random.default_rng(8), batch=0), "batch must be"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
