"""`torch_impl.adafisher`: normalisation, averages, denominators and steps, against the reference."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import reference.adafisher
from proofs_checks.ratios import Ratio, recursion, unit_roundoff
from tests.torch_impl.cases import DOUBLE, DTYPES, array, seeds, tensor
from tests.torch_impl.factor_cases import exactly, normal, working
from torch_impl import adafisher

dtypes = st.sampled_from(DTYPES)
epsilons = st.sampled_from([(0.0, True), (1e-6, False), (0.5, True), (0.5, False)])

#: Roundings of an entry of `minmax_normalize`: two differences, what epsilon does, the quotient.
MINMAX = 5


def agree(got, want, *, terms, operations, dtype):
    assert got.dtype == working(dtype)
    u = unit_roundoff(got.dtype)
    return recursion(array(got), want, terms, operations=operations, u=u).passed


# ---- normalisation and averages ---------------------------------------------------------------------------


@given(
    seed=seeds, shape=st.tuples(*[st.integers(0, 4)] * 3), axes=st.integers(1, 3), eps=epsilons, dtype=dtypes
)
def test_minmax_agrees_with_the_reference(device, seed, shape, axes, eps, dtype):
    d = normal(np.random.default_rng(seed), *shape, dtype=dtype, device=device)
    before, options = d.clone(), {"epsilon": eps[0], "relative": eps[1], "axes": axes}
    got = adafisher.minmax_normalize(d, **options)
    want = reference.adafisher.minmax_normalize(array(d), **options)
    assert agree(got, want, terms=want, operations=MINMAX, dtype=dtype)
    assert torch.equal(d, before), "the input was modified"


@pytest.mark.claim("ADAF-zero-one")
@given(seed=seeds, k=st.integers(-60, 60), dtype=dtypes)
def test_a_factor_that_is_not_constant_has_an_exact_zero_and_an_exact_one(device, seed, k, dtype):
    d = normal(np.random.default_rng(seed), 3, 5, device=device).to(working(dtype))
    d = 2.0**k * (d + torch.arange(5, device=device))  # of any size
    normalised = adafisher.minmax_normalize(d)
    assert torch.equal(normalised.amin(dim=-1), torch.zeros(3, dtype=d.dtype, device=device))
    assert torch.equal(normalised.amax(dim=-1), torch.ones(3, dtype=d.dtype, device=device))


@pytest.mark.claim("ADAF-zero-one")
@given(value=st.floats(0.0, 1e4), eps=epsilons, dtype=dtypes)
def test_a_constant_factor_gives_zeros_with_any_epsilon(value, eps, dtype):
    for d in (torch.full((2, 3), value, dtype=dtype), torch.full((2, 1), value, dtype=dtype)):
        normalised = adafisher.minmax_normalize(d, epsilon=eps[0], relative=eps[1])
        assert torch.equal(normalised, torch.zeros_like(normalised))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_spoils_its_own_factor_and_all_of_it(bad):
    d = torch.tensor([[0.0, 1.0, bad], [0.0, 1.0, 2.0]])
    normalised = adafisher.minmax_normalize(d)
    assert normalised[0].isnan().all()
    assert exactly(normalised[1], [0.0, 0.5, 1.0])
    assert adafisher.minmax_normalize(d, axes=2).isnan().all()


def test_a_range_that_overflows_is_not_taken_for_a_large_one():
    assert adafisher.minmax_normalize(torch.tensor([-3e38, 0.0, 3e38])).isnan().all()
    assert adafisher.minmax_normalize(torch.tensor([0.0, 3e38]), epsilon=1.0).isnan().all()


def test_the_smallest_range_is_normalised():
    smallest = torch.finfo(torch.float32).smallest_normal * torch.finfo(torch.float32).eps
    assert exactly(adafisher.minmax_normalize(torch.tensor([0.0, smallest])), [0.0, 1.0])


@pytest.mark.claim("ADAF-average")
@given(
    seed=seeds,
    gamma=st.sampled_from([0.0, 0.3, 0.8, 1.0]),
    gamma_on=st.sampled_from(["old", "new"]),
    pair=st.tuples(dtypes, dtypes),
)
def test_averages_agree_with_the_reference(device, seed, gamma, gamma_on, pair):
    rng = np.random.default_rng(seed)
    old, new = (normal(rng, 2, 3, dtype=dtype, device=device) for dtype in pair)
    options = {"gamma": gamma, "gamma_on": gamma_on}
    want = reference.adafisher.average(array(old), array(new), **options)
    weight = gamma if gamma_on == "old" else 1.0 - gamma
    terms = weight * np.abs(array(old)) + (1.0 - weight) * np.abs(array(new))
    got = adafisher.average(old, new, **options)
    assert agree(got, want, terms=terms, operations=4, dtype=torch.promote_types(*pair))


@given(seed=seeds, gamma=st.sampled_from([0.0, 0.3, 0.8, 1.0]), axes=st.integers(1, 2), dtype=dtypes)
def test_released_averages_agree_with_the_reference(device, seed, gamma, axes, dtype):
    rng = np.random.default_rng(seed)
    old, new = (normal(rng, 2, 4, dtype=dtype, device=device) for _ in range(2))
    new[0, 1], new[1, 2] = math.inf, -math.inf
    want = reference.adafisher.released_average(array(old), array(new), gamma=gamma, axes=axes)
    terms = 0.1 * gamma * np.abs(array(old)) + 0.01 * gamma
    got = adafisher.released_average(old, new, gamma=gamma, axes=axes)
    assert agree(got, want, terms=terms, operations=MINMAX + 4, dtype=dtype)


@pytest.mark.claim("ADAF-legacy", "ADAF-golden")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_released_average_settles_at_a_115th_and_its_first_bands_are_known(dtype):
    u, lam = unit_roundoff(dtype), 1e-3
    fresh = torch.tensor([0.0, 2.0**80], dtype=dtype)  # next to this range epsilon is nothing
    factor, bands = torch.ones_like(fresh), []
    for _ in range(40):  # 0.08 to this power is nothing either
        factor = adafisher.released_average(factor, fresh)
        bands.append(array(adafisher.denominator(factor, factor, lam=lam)))
    for band, ends in zip(bands, ([0.0074, 0.008744], [1.04096e-3, 1.2262016e-3]), strict=False):
        assert recursion(band[[0, 1], [0, 1]], ends, ends, operations=16, u=u).passed
    assert recursion(array(factor), [0.0, 1 / 115], [DOUBLE, 1 / 115], operations=16, u=u).passed
    top = float(bands[-1].max() - lam) / lam
    assert Ratio("share of the damping", abs(top - 0.008**2 / 0.92**2 / lam), 64 * u * (1.0 + top)).passed


# ---- denominators -----------------------------------------------------------------------------------------


@pytest.mark.claim("ADAF-golden")
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_golden_denominator(dtype):
    lam = 2.0**-10
    h_D, s_D = torch.tensor([5.0, 2.0, 1.0], dtype=dtype), torch.tensor([1.25, 1.0], dtype=dtype)
    h, s = adafisher.minmax_normalize(h_D), adafisher.minmax_normalize(s_D)
    assert exactly(h, [1.0, 0.25, 0.0])
    assert exactly(s, [1.0, 0.0])
    F = adafisher.denominator(h, s, lam=lam)
    assert exactly(F, [[1 + lam, 0.25 + lam, lam], [lam, lam, lam]])


@given(
    seed=seeds,
    batch=st.sampled_from([(), (2,), (2, 1), (0,)]),
    widths=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    lam=st.sampled_from([1e-3, 0.25, 3.0]),
    pair=st.tuples(dtypes, dtypes),
)
def test_denominators_agree_with_the_reference(device, seed, batch, widths, lam, pair):
    rng = np.random.default_rng(seed)
    h, s, c = (
        normal(rng, *batch, width, dtype=dtype, device=device)
        for width, dtype in zip((*widths, widths[0]), (*pair, pair[1]), strict=True)
    )
    for x, pairing in ((s, "outer"), (c, "channel")):
        got = adafisher.denominator(h, x, lam=lam, pairing=pairing)
        want = reference.adafisher.denominator(array(h), array(x), lam=lam, pairing=pairing)
        terms = reference.adafisher.denominator(np.abs(array(h)), np.abs(array(x)), lam=lam, pairing=pairing)
        assert agree(got, want, terms=terms, operations=3, dtype=torch.promote_types(*pair))


@pytest.mark.claim("ADAF-range")
@given(seed=seeds, dtype=dtypes)
def test_denominators_of_normalised_factors_lie_between_the_damping_and_one_more(seed, dtype):
    rng, lam = np.random.default_rng(seed), 2.0**-10
    h_D, s_D = (tensor(rng.uniform(0.0, 1.0, width), dtype) for width in (4, 3))
    F = adafisher.denominator(adafisher.minmax_normalize(h_D), adafisher.minmax_normalize(s_D), lam=lam)
    assert F.min().item() == lam, "the ends are attained, and 1 + lam is exact"
    assert F.max().item() == 1 + lam


V, M = torch.ones(3), torch.ones(2, 3)
BAD = [
    (lambda: adafisher.average(V, [1.0]), TypeError, "new must be a torch.Tensor"),
    (lambda: adafisher.average(V, V[:2]), ValueError, r"new must have shape \(3,\), got \(2,\)"),
    (lambda: adafisher.average(V.sum(), V.sum()), ValueError, r"old must have shape \(..., n\)"),
    (lambda: adafisher.average(V, V, gamma=1.5), ValueError, "gamma must be .*<= 1"),
    (lambda: adafisher.average(V, V, gamma_on="both"), ValueError, "gamma_on must be one of 'old', 'new'"),
    (lambda: adafisher.average(V, V.to_sparse()), ValueError, "new must be dense"),
    (lambda: adafisher.minmax_normalize(V.long()), ValueError, "d must be float64"),
    (lambda: adafisher.minmax_normalize(V, epsilon=-1.0), ValueError, "epsilon must be .*>= 0"),
    (lambda: adafisher.minmax_normalize(V, epsilon=math.nan), ValueError, "epsilon must be a finite number"),
    (lambda: adafisher.minmax_normalize(V, axes=0), ValueError, "axes must be at least 1"),
    (lambda: adafisher.minmax_normalize(V, axes=True), TypeError, "axes must be an integer"),
    (lambda: adafisher.minmax_normalize(V, axes=2), ValueError, "d must have shape .* at least 2 axes"),
    (lambda: adafisher.released_average(V, M), ValueError, "new must have shape"),
    (lambda: adafisher.released_average(V, V, gamma=-0.1), ValueError, "gamma must be"),
    (lambda: adafisher.released_average(V, V, axes=2), ValueError, "d must have shape .* at least 2 axes"),
    (lambda: adafisher.denominator(V, V, lam=0.0), ValueError, r"lam must be .*> 0, got 0\.0"),
    (lambda: adafisher.denominator(V, V, pairing="inner"), ValueError, "pairing must be one of 'outer'"),
    (lambda: adafisher.denominator(V, V[:2], pairing="channel"), ValueError, r"s_D must have shape \(3,\)"),
    (lambda: adafisher.denominator(M, V), ValueError, r"s_D must have shape \(2, 3\) to go with h_D"),
    (lambda: adafisher.denominator(V.sum(), V), ValueError, "h_D must have shape"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
