"""Sums of squares: accurate whatever the size, the layout and the range."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from proofs_checks.ratios import Ratio, unit_roundoff
from tests.torch_impl.cases import EXACT, array, seeds
from torch_impl.optim.squares import BLOCK, squares_of_each, sum_of_squares

SIZES = [0, 1, 5, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 3 * BLOCK + 7]


def agree(total, tensors):
    """The total over its documented budget; float64 sums of the same kind of blocks are the truth."""
    exact = sum(float(np.sum(np.square(array(x)))) for x in tensors)
    u = unit_roundoff(tensors[0].dtype)
    budget = (BLOCK + 4) * u if tensors[0].dtype == torch.float32 else 2 * sum(x.numel() for x in tensors) * u
    return Ratio("sum of squares", abs(float(total) - exact), max(budget * exact, EXACT))


@given(
    seed=seeds,
    sizes=st.lists(st.sampled_from(SIZES), min_size=1, max_size=4),
    scale=st.sampled_from([1.0, 1e-3, 1e25, 1e-25, 0.0]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_sums_are_accurate_at_every_size_and_scale(device, seed, sizes, scale, dtype):
    rng = np.random.default_rng(seed)
    tensors = [torch.tensor(scale * rng.standard_normal(n), dtype=dtype, device=device) for n in sizes]
    total = sum_of_squares(tensors)
    assert total.dtype == torch.float64
    assert agree(total, tensors).passed
    for square, x in zip(squares_of_each(tensors), tensors, strict=True):
        assert agree(square, [x]).passed


@pytest.mark.parametrize(
    "layout",
    [
        lambda x: x.to(memory_format=torch.channels_last),
        lambda x: x.transpose(0, 3),
        lambda x: x[..., ::2],
        lambda x: x[:1].expand_as(x),
    ],
    ids=["channels-last", "transposed", "strided", "expanded"],
)
def test_layouts_do_not_matter(layout):
    x = layout(torch.randn(6, 8, 10, 12, generator=torch.Generator().manual_seed(0)))
    assert agree(sum_of_squares([x]), [x]).passed


def test_large_tensors_keep_the_accuracy_that_a_single_float32_norm_loses():
    x = torch.randn(10_000_000, generator=torch.Generator().manual_seed(0))
    assert agree(sum_of_squares([x]), [x]).passed
    running = torch.tensor(float(np.cumsum(np.square(x.numpy()))[-1]))  # one float32 number takes it all
    assert not agree(running, [x]).passed, "the budget cannot see what it is there for"
