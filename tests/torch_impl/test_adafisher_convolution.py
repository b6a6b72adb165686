"""Factors of convolutions in `torch_impl.adafisher`, against the reference, unfolded patches and autograd."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

import reference.adafisher
from tests.torch_impl.cases import DTYPES, FLOATS, array, seeds
from tests.torch_impl.factor_cases import (
    Largest,
    agree,
    convolutions,
    exactly,
    normal,
    outer,
    squared_gradient,
)
from torch_impl import adafisher

dtypes = st.sampled_from(DTYPES)


@given(
    case=convolutions(), seed=seeds, lead=st.sampled_from([(), (2,), (0,)]), bias=st.booleans(), dtype=dtypes
)
def test_convolution_factors_agree_with_the_reference(device, case, seed, lead, bias, dtype):
    rng = np.random.default_rng(seed)
    x = normal(rng, *lead, *case.x_shape, dtype=dtype, device=device)
    s = normal(rng, *lead, *case.s_shape, dtype=dtype, device=device)
    before = x.clone(), s.clone()
    got = adafisher.convolution_factors(x, s, **case.options, bias=bias)
    want = reference.adafisher.convolution_factors(array(x), array(s), **case.options, bias=bias)
    for y, z in zip(got, want, strict=True):
        assert agree(y, z, rows=case.rows, dtype=dtype)
    assert torch.equal(x, before[0]), "the inputs were modified"
    assert torch.equal(s, before[1]), "the gradients were modified"
    if len(case.options["kernel_size"]) == 2:
        flat = adafisher.conv2d_factors(x, s, **case.options, bias=bias)
        assert all(torch.equal(y, z) for y, z in zip(flat, got, strict=True))


@given(case=convolutions(axes=(2,)), seed=seeds, dtype=st.sampled_from(FLOATS))
def test_convolution_factors_are_mean_squares_of_unfolded_patches(case, seed, dtype):
    rng = np.random.default_rng(seed)
    x, s = normal(rng, *case.x_shape, dtype=dtype), normal(rng, *case.s_shape, dtype=dtype)
    options = {k: v for k, v in case.options.items() if k != "groups"}
    patches = F.unfold(x, **options).double()  # (N, C k, sites)
    want = patches.square().mean(dim=(0, 2)).reshape(case.options["groups"], -1)
    h_D, s_D = adafisher.convolution_factors(x, s, **case.options, bias=False)
    assert agree(h_D.reshape(want.shape), array(want), rows=case.rows, dtype=dtype)
    s_want = array(s.double().square().mean(dim=(0, 2, 3)))
    assert agree(s_D.reshape(s_want.shape), s_want, rows=case.rows, dtype=dtype)


@given(case=convolutions(), seed=seeds)
def test_convolution_factors_are_the_weight_gradient_of_the_layer_on_squares(case, seed):
    """In any number of dimensions: sum_x x_patch^2 is what back-propagated ones give the weight."""
    x = normal(np.random.default_rng(seed), *case.x_shape)
    layer, W = case.layer(x.dtype)
    (gradient,) = torch.autograd.grad(layer(x.square(), W).sum(), W)
    groups = case.options["groups"]
    first = gradient.reshape(groups, case.outputs // groups, -1)[:, 0]  # every output channel has the same
    s = x.new_ones(case.s_shape)
    h_D, _ = adafisher.convolution_factors(x, s, **case.options, bias=False)
    want = array(first) / case.rows
    assert agree(h_D.reshape(want.shape), want, rows=case.rows, dtype=x.dtype)


def test_one_number_stands_for_all_axes():
    rng = np.random.default_rng(0)
    x, s = normal(rng, 2, 4, 7, 6), normal(rng, 2, 2, 3, 3)
    each = adafisher.conv2d_factors(
        x, s, kernel_size=(2, 2), stride=(2, 2), padding=(1, 1), dilation=(3, 3), groups=2
    )
    one = adafisher.conv2d_factors(x, s, kernel_size=2, stride=2, padding=1, dilation=3, groups=2)
    assert all(torch.equal(y, z) for y, z in zip(one, each, strict=True))


def test_a_grouped_convolution_is_so_many_convolutions_side_by_side():
    rng = np.random.default_rng(0)
    x, s = normal(rng, 2, 6, 5, 4), normal(rng, 2, 9, 4, 3)
    h_D, s_D = adafisher.conv2d_factors(x, s, kernel_size=2, groups=3)
    for i in range(3):
        h_one, s_one = adafisher.conv2d_factors(
            x[:, 2 * i : 2 * i + 2], s[:, 3 * i : 3 * i + 3], kernel_size=2
        )
        assert torch.equal(h_D[i], h_one)
        assert torch.equal(s_D[i], s_one)


def test_a_kernel_of_one_is_a_linear_layer_over_the_sites():
    rng = np.random.default_rng(0)
    x, s = normal(rng, 3, 4, 5), normal(rng, 3, 2, 5)
    got = adafisher.convolution_factors(x, s, kernel_size=(1,))
    want = adafisher.linear_factors(x.mT, s.mT, sample_axes=2)
    for y, z in zip(got, want, strict=True):
        assert agree(y, array(z), rows=15, dtype=x.dtype)


def test_patches_are_never_made():
    x, s = torch.randn(8, 4, 12, 12), torch.randn(8, 6, 12, 12)
    with Largest() as largest:
        adafisher.conv2d_factors(x, s, kernel_size=5, padding=2)
    assert largest.elements == max(x.numel(), s.numel()), "25 times the input if patches were made"


@given(case=convolutions(single=True), seed=seeds)
def test_one_site_of_a_convolution_has_its_squared_gradient(case, seed):
    rng = np.random.default_rng(seed)
    x, s = normal(rng, *case.x_shape), normal(rng, *case.s_shape)
    layer, W = case.layer(x.dtype)
    want = squared_gradient(layer(x, W), W, s)
    h_D, s_D = adafisher.convolution_factors(x, s, **case.options, bias=False)
    assert agree(outer(h_D, s_D).reshape(want.shape), want, rows=1, dtype=x.dtype)


def test_half_precision_neither_overflows_nor_is_rounded_to():
    x = torch.full((3, 2, 1, 1), 300.0, dtype=torch.float16)  # its square is above the largest float16
    s = torch.full((3, 1, 1, 1), 2.0**-12, dtype=torch.float16)  # its square is below the smallest
    h_D, s_D = adafisher.conv2d_factors(x, s, kernel_size=1, bias=False)
    assert exactly(h_D, [90000.0, 90000.0])
    assert exactly(s_D, [2.0**-24])


X, S = torch.ones(2, 4, 5, 5), torch.ones(2, 6, 3, 3)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"kernel_size": (3, 3, 3)}, ValueError, "kernel_size must be one integer or two, got 3"),
        ({"kernel_size": 3.0}, TypeError, "kernel_size must be an integer"),
        ({"kernel_size": 0}, ValueError, "kernel_size must be at least 1"),
        ({"kernel_size": 6}, ValueError, "kernel_size must fit"),
        ({"stride": 0}, ValueError, "stride must be at least 1"),
        ({"padding": -1}, ValueError, "padding must be at least 0"),
        ({"padding": "same"}, TypeError, "padding must be an integer, got str"),
        ({"dilation": (1,)}, ValueError, "dilation must be one integer or 2, got 1"),
        ({"dilation": True}, TypeError, "dilation must be an integer, got bool"),
        ({"groups": 0}, ValueError, "groups must be at least 1"),
        ({"groups": 3}, ValueError, "groups must divide the 4 channels of x"),
        ({"groups": 4}, ValueError, "groups must divide the 6 outputs of s"),
        ({"x": X[0], "s": S[0]}, ValueError, "x must have shape"),
        ({"x": X[:0], "s": S[:0]}, ValueError, "x must hold at least one sample"),
        ({"x": X.long()}, ValueError, "x must be float64"),
        ({"s": S[:1]}, ValueError, r"s must have shape \(2, m, 3, 3\), got \(1, 6, 3, 3\)"),
        ({"s": S[..., :2]}, ValueError, r"s must have shape \(2, m, 3, 3\)"),
        ({"s": S.sum()}, ValueError, r"s must have shape \(2, m, 3, 3\), got \(\)"),
        ({"s": S.to_sparse()}, ValueError, "s must be dense"),
    ],
)
def test_bad_arguments_are_named(options, error, message):
    options = {"x": X, "s": S, "kernel_size": 3} | options
    x, s = options.pop("x"), options.pop("s")
    with pytest.raises(error, match=message):
        adafisher.conv2d_factors(x, s, **options)


@pytest.mark.parametrize(
    ("size", "error", "message"),
    [
        (3, TypeError, "kernel_size must be a tuple of integers, got int"),
        ((), ValueError, "kernel_size must have 1, 2 or 3 entries, got 0"),
        ((1, 1, 1, 1), ValueError, "kernel_size must have 1, 2 or 3 entries, got 4"),
    ],
)
def test_the_kernel_says_how_many_axes_there_are(size, error, message):
    with pytest.raises(error, match=message):
        adafisher.convolution_factors(X, S, kernel_size=size)


@pytest.mark.gpu
def test_measuring_never_makes_the_host_wait(cuda):
    x, s = X.to(cuda), S.to(cuda)
    torch.cuda.set_sync_debug_mode("error")
    try:
        adafisher.conv2d_factors(x, s, kernel_size=3)
    finally:
        torch.cuda.set_sync_debug_mode("default")
