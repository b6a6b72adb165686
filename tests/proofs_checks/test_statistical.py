"""The betting tests: fair under the claim, sharp against planted violations, valid inputs only."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from proofs_checks.adversarial.verdicts import DOUBLE, vanishing
from proofs_checks.ratios import ORDER_ONE
from proofs_checks.statistical import sofim_noise
from proofs_checks.statistical.eprocess import (
    ALPHA,
    ALPHA_TOTAL,
    GRID,
    crossed,
    refutation_wealth,
    support_wealth,
)

LEVEL = 1e-3

#: Room between the mean and the one to be rejected, in the test of support; and one that is no excess at all.
ROOM, IMPOSSIBLE = 0.3, -1.0

#: The method's promise at noise 0.3: a mean of 1.3 bounds is always caught within 200 seeds, half within 47.
SEEDS, MEDIAN, VIOLATION = 200, 60, 1.3

#: Power that every pre-registered test must have.
POWER = 0.9


def test_the_shares_of_alpha_stay_within_the_budget():
    assert 0 < sum(ALPHA.values()) <= ALPHA_TOTAL


@given(st.floats(0.05, 0.95), st.integers(1, 12), st.floats(0.1, 10))
def test_under_the_claim_the_expected_wealth_is_exactly_one(p, n, bound):
    hits = np.arange(n + 1)
    wealth = np.empty(n + 1)
    for k in hits:
        Y = np.repeat([bound / p, 0.0], [k, n - k])
        wealth[k] = refutation_wealth(Y, bound=bound)[-1]
    mean = float(binom.pmf(hits, n, p) @ wealth)
    # all terms are positive and sum to 1; each is the exponential of a logarithm of size n log(1/p), twice
    rounding = ORDER_ONE * (1 + n * np.log(1 / min(p, 1 - p))) * DOUBLE
    assert vanishing("mean wealth", mean - 1, rounding=rounding).passed


@pytest.mark.claim("METH-eprocess")
def test_a_mean_of_13_tenths_of_the_bound_is_caught_within_200_seeds():
    rng = np.random.default_rng(1)
    Y = VIOLATION * rng.gamma(1 / 0.3**2, 0.3**2, (300, SEEDS))
    wealth = refutation_wealth(Y, bound=1.0)
    assert crossed(wealth, alpha=LEVEL).all()
    first = (wealth * LEVEL >= 1).argmax(axis=1) + 1
    assert np.median(first) <= MEDIAN


@pytest.mark.claim("METH-eprocess")
def test_support_is_found_where_there_is_room_and_not_where_there_is_none():
    rng = np.random.default_rng(2)
    Y = rng.uniform(0, 2, (100, 600))  # mean 1, ceiling 2
    room = support_wealth(Y, bound=1.0, ceiling=2.0, delta=ROOM)
    none = support_wealth(Y, bound=1.0, ceiling=2.0, delta=0.0)
    assert crossed(room, alpha=LEVEL).mean() >= POWER
    assert np.count_nonzero(crossed(none, alpha=LEVEL)) <= binom.isf(LEVEL, 100, LEVEL)


def test_stakes_never_ruin_beyond_zero_and_wealth_may_be_infinite():
    worst = support_wealth(np.full(5, 3.0), bound=1.0, ceiling=3.0, delta=0.0)
    assert (worst >= 0).all()
    assert not refutation_wealth(np.zeros(3), bound=1.0, grid=(1.0,)).any()
    rich = refutation_wealth(np.full(2000, 50.0), bound=1.0)
    assert np.isinf(rich[-1])
    assert crossed(rich, alpha=LEVEL)


def test_wealth_that_is_not_a_number_never_counts():
    assert not crossed(np.array([np.nan, np.nan]), alpha=LEVEL)


@pytest.mark.parametrize(
    ("Y", "options", "message"),
    [
        ([-1.0], {"bound": 1.0}, "Y must be finite"),
        ([np.nan], {"bound": 1.0}, "Y must be finite"),
        ([1.0], {"bound": 0.0}, "bound must be above 0"),
        ([1.0], {"bound": 1.0, "grid": (0.5, 1.5)}, "grid must hold"),
        ([1.0], {"bound": 1.0, "grid": ()}, "grid must hold"),
    ],
)
def test_a_refutation_test_refuses_what_it_is_not_valid_for(Y, options, message):
    with pytest.raises(ValueError, match=message):
        refutation_wealth(np.array(Y), **options)


def test_a_support_test_refuses_draws_above_their_ceiling():
    with pytest.raises(ValueError, match="at most ceiling"):
        support_wealth(np.array([2.0]), bound=1.0, ceiling=1.5, delta=0.0)
    with pytest.raises(ValueError, match="delta must be above -1"):
        support_wealth(np.array([1.0]), bound=1.0, ceiling=1.5, delta=IMPOSSIBLE)


def test_the_grid_of_stakes_is_admissible():
    assert all(0 < stake <= 1 for stake in GRID)


@pytest.mark.claim("SOFIM-noise")
def test_the_noise_test_has_its_power_on_fresh_seeds():
    """The case with the largest relative noise, which needs most seeds."""
    results = []
    for seed in range(20):
        Y, claimed, ceiling = sofim_noise.squared_norms(np.random.default_rng(seed), beta=0.5, batch=1, d=4)
        results.append(sofim_noise.rejections(Y, claimed=claimed, ceiling=ceiling))
    assert np.mean(np.all(results, axis=1)) >= POWER
