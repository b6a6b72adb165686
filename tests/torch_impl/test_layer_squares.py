"""Sums of squares that measurements are pooled from: `torch_impl._layer_squares`."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from tests.torch_impl.cases import DTYPES, array, seeds
from tests.torch_impl.factor_cases import Largest, agree, convolutions, exactly, normal
from torch_impl import adafisher
from torch_impl._layer_squares import occurrences, patch_squares, row_squares

dtypes = st.sampled_from(DTYPES)

#: Padding modes of PyTorch's convolutions whose caller pads, next to zeros.
MODES = ("reflect", "replicate", "circular")


@given(
    seed=seeds, shape=st.lists(st.integers(0, 4), min_size=1, max_size=4), at=st.integers(0, 3), dtype=dtypes
)
def test_rows_are_summed_over_all_axes_but_one(device, seed, shape, at, dtype):
    x = normal(np.random.default_rng(seed), *shape, dtype=dtype, device=device)
    before, kept = x.clone(), at % len(shape)
    others = tuple(i for i in range(len(shape)) if i != kept)
    want = np.square(array(x)).sum(axis=others)
    for axis in (kept, kept - len(shape)):
        total, count = row_squares(x, axis=axis)
        assert count == np.prod([shape[i] for i in others], dtype=int)
        assert agree(total, want, rows=count, dtype=dtype)
    assert torch.equal(x, before), "the input was modified"


@given(case=convolutions(), seed=seeds, dtype=dtypes)
def test_patches_are_those_of_the_convolution_factors(device, case, seed, dtype):
    rng = np.random.default_rng(seed)
    x = normal(rng, *case.x_shape, dtype=dtype, device=device)
    total, count = patch_squares(x, **case.options)
    s = x.new_ones(case.s_shape)
    h_D, _ = adafisher.convolution_factors(x, s, **case.options, bias=False)
    assert count == case.rows
    assert total.shape[0] == case.options["groups"]
    assert torch.equal(total.reshape(h_D.shape) / count, h_D)


@given(case=convolutions(axes=(2,)), seed=seeds, after=st.integers(0, 2))
def test_an_axis_may_be_padded_unevenly(case, seed, after):
    x = normal(np.random.default_rng(seed), *case.x_shape)
    (top, left), options = case.options["padding"], dict(case.options)
    options["padding"] = [(top, top + after), (left, left)]
    total, count = patch_squares(x, **options)
    padded = F.pad(x, (left, left, top, top + after))
    options["padding"] = 0
    expected, rows = patch_squares(padded, **options)
    assert count == rows
    assert torch.equal(total, expected)


@pytest.mark.parametrize("mode", MODES)
def test_another_padding_mode_is_padded_before(mode):
    layer = torch.nn.Conv2d(2, 3, (2, 3), padding="same", padding_mode=mode, dtype=torch.float64)
    x = normal(np.random.default_rng(0), 2, 2, 5, 4)
    padded = F.pad(x, (1, 1, 0, 1), mode=mode)
    total, count = patch_squares(padded, kernel_size=(2, 3))
    (gradient,) = torch.autograd.grad(
        F.conv2d(F.pad(x.square(), (1, 1, 0, 1), mode=mode), layer.weight).sum(), layer.weight
    )
    assert count == layer(x)[:, 0].numel()
    assert agree(total, array(gradient[:1]).reshape(1, -1), rows=count, dtype=x.dtype)


def test_an_unbatched_input_is_one_sample():
    x = normal(np.random.default_rng(0), 3, 6, 5)
    options = {"kernel_size": (3, 2), "stride": 2, "groups": 3}
    total, count = patch_squares(x, **options)
    expected, rows = patch_squares(x[None], **options)
    assert torch.equal(total, expected)
    assert count == rows


@given(seed=seeds, cut=st.integers(0, 6))
def test_parts_of_a_batch_add_up_to_the_whole(seed, cut):
    rng = np.random.default_rng(seed)
    x = torch.tensor(rng.integers(-4, 5, (6, 2, 5, 4)), dtype=torch.float64)  # sums of integers are exact
    indices = torch.tensor(rng.integers(0, 5, (6, 3)))
    for function in (
        lambda rows: row_squares(x[rows], axis=1),
        lambda rows: patch_squares(x[rows], kernel_size=(2, 2), padding=1),
        lambda rows: occurrences(indices[rows], 5),
    ):
        (left, m), (right, n), (total, count) = map(function, (slice(cut), slice(cut, None), slice(None)))
        assert torch.equal(left + right, total)
        assert m + n == count


def test_look_ups_are_counted_in_the_precision_asked_for():
    indices = torch.tensor([[0, 2], [2, 2]], dtype=torch.int32)
    for dtype in (torch.float32, torch.float64):
        counts, count = occurrences(indices, 4, dtype=dtype)
        assert (counts.dtype, count) == (dtype, 4)
        assert exactly(counts, [1.0, 0.0, 3.0, 0.0])
    assert exactly(occurrences(indices[:0], 2)[0], [0.0, 0.0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_large_inputs_of_any_format_are_summed_to_float32_accuracy(dtype):
    x = torch.full((1 << 17, 2), 256.0, dtype=dtype)  # the sum is far above the largest float16
    total, count = row_squares(x, axis=-1)
    assert exactly(total, [2.0**33, 2.0**33])
    assert count == 1 << 17
    image = torch.full((16, 1, 64, 64), 256.0, dtype=dtype)
    assert exactly(patch_squares(image, kernel_size=(1, 1))[0], [[2.0**32]])


def test_a_large_batch_of_uneven_numbers_is_summed_with_few_roundings():
    """A sum one by one would be allowed, and have, an error near its 2^16 roundings."""
    x = torch.rand(1 << 16, 3, generator=torch.Generator().manual_seed(0))
    want = np.square(array(x)).sum(axis=0)
    assert agree(row_squares(x, axis=-1)[0], want, rows=64, dtype=x.dtype)


def test_no_patch_is_made_and_nothing_larger_than_the_input():
    x = torch.randn(4, 3, 16, 16)
    with Largest() as largest:
        patch_squares(x, kernel_size=(5, 5), padding=2)
    assert largest.elements == x.numel()


@pytest.mark.gpu
def test_summing_never_makes_the_host_wait(cuda):
    x, indices = torch.randn(2, 4, 6, 6, device=cuda), torch.tensor([0, 2, 1], device=cuda)
    torch.cuda.set_sync_debug_mode("error")
    try:
        row_squares(x, axis=1)
        patch_squares(x, kernel_size=(3, 3), stride=2, padding=1)
        occurrences(indices, 3)
    finally:
        torch.cuda.set_sync_debug_mode("default")
