"""The layer factors of `torch_impl.adafisher` against the reference and autograd; convolutions apart."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

import reference.adafisher
from tests.torch_impl.cases import DTYPES, array, seeds
from tests.torch_impl.factor_cases import agree, exactly, normal, outer, squared_gradient
from torch_impl import adafisher

dtypes = st.sampled_from(DTYPES)


# ---- linear layers and embeddings -------------------------------------------------------------------------


@given(
    seed=seeds,
    lead=st.tuples(st.integers(0, 2), st.integers(1, 4), st.integers(1, 3)),
    widths=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    sample_axes=st.integers(1, 2),
    bias=st.booleans(),
    dtype=dtypes,
)
def test_linear_factors_agree_with_the_reference(device, seed, lead, widths, sample_axes, bias, dtype):
    rng = np.random.default_rng(seed)
    h, s = (normal(rng, *lead, width, dtype=dtype, device=device) for width in widths)
    before = h.clone(), s.clone()
    got = adafisher.linear_factors(h, s, bias=bias, sample_axes=sample_axes)
    want = reference.adafisher.linear_factors(array(h), array(s), bias=bias, sample_axes=sample_axes)
    for x, y in zip(got, want, strict=True):
        assert agree(x, y, rows=lead[1] * lead[2], dtype=dtype)
    assert torch.equal(h, before[0]), "the inputs were modified"
    assert torch.equal(s, before[1]), "the gradients were modified"


@pytest.mark.claim("ADAF-golden")
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_golden_layer_has_exact_factors(dtype):
    h, s = torch.tensor([[1.0, 2.0], [3.0, 0.0]]), torch.tensor([[0.5, -1.0], [1.5, 1.0]])
    h_D, s_D = adafisher.linear_factors(h.to(dtype), s.to(dtype))
    assert exactly(h_D, [5.0, 2.0, 1.0])
    assert exactly(s_D, [1.25, 1.0])


@given(seed=seeds, lead=st.sampled_from([(), (2,)]), table=st.integers(1, 5), dtype=dtypes)
def test_embedding_factors_are_those_of_a_linear_layer_with_one_hot_inputs(device, seed, lead, table, dtype):
    rng = np.random.default_rng(seed)
    indices = torch.tensor(rng.integers(0, table, (*lead, 3, 2)), device=device)
    s = normal(rng, *lead, 3, 2, 4, dtype=dtype, device=device)
    for axes in (1, 2):
        got = adafisher.embedding_factors(indices, s, num_embeddings=table, sample_axes=axes)
        options = {"num_embeddings": table, "sample_axes": axes}
        want = reference.adafisher.embedding_factors(indices.cpu().numpy(), array(s), **options)
        for x, y in zip(got, want, strict=True):
            assert agree(x, y, rows=6, dtype=dtype)
        one_hot = F.one_hot(indices, table).to(dtype)
        dense = adafisher.linear_factors(one_hot, s, bias=False, sample_axes=axes)
        assert all(torch.equal(x, y) for x, y in zip(got, dense, strict=True))


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8])
def test_indices_of_every_integer_type_are_counted(dtype):
    indices = torch.tensor([2, 0, 2, 2], dtype=dtype)
    h_D, _ = adafisher.embedding_factors(indices, torch.ones(4, 1), num_embeddings=4)
    assert exactly(h_D, [0.25, 0.0, 0.75, 0.0])


@pytest.mark.parametrize("index", [-1, 3])
def test_an_index_out_of_range_spoils_its_own_embedding_only(index):
    indices = torch.tensor([[0, index], [1, 1]])
    h_D, s_D = adafisher.embedding_factors(indices, torch.ones(2, 2, 1), num_embeddings=3)
    assert h_D[0].isnan().all()
    assert exactly(h_D[1], [0.0, 1.0, 0.0])
    assert exactly(s_D, [[1.0], [1.0]])


# ---- the same gradient twice ------------------------------------------------------------------------------


@given(seed=seeds)
def test_one_row_of_a_linear_layer_has_its_squared_gradient(seed):
    rng = np.random.default_rng(seed)
    h, s = normal(rng, 1, 3), normal(rng, 1, 2)
    W = normal(rng, 2, 4).requires_grad_()
    want = squared_gradient(F.linear(h, W[:, :-1], W[:, -1]), W, s)
    assert agree(outer(*adafisher.linear_factors(h, s)), want, rows=1, dtype=h.dtype)


@given(seed=seeds, index=st.integers(0, 4))
def test_one_look_up_of_an_embedding_has_its_squared_gradient(seed, index):
    rng = np.random.default_rng(seed)
    table, s = normal(rng, 5, 3).requires_grad_(), normal(rng, 1, 3)
    indices = torch.tensor([index])
    want = squared_gradient(F.embedding(indices, table), table, s)
    h_D, s_D = adafisher.embedding_factors(indices, s, num_embeddings=5)
    assert agree(outer(h_D, s_D).mT, want, rows=1, dtype=s.dtype)


# ---- normalisation layers ---------------------------------------------------------------------------------


@given(
    seed=seeds,
    sizes=st.tuples(st.integers(0, 2), st.integers(1, 3), st.integers(1, 4), st.integers(0, 4)),
    form=st.sampled_from(["v3", "submission"]),
    dtype=dtypes,
)
def test_normalization_factors_agree_with_the_reference(device, seed, sizes, form, dtype):
    rng = np.random.default_rng(seed)
    h, s = (normal(rng, *sizes, dtype=dtype, device=device) for _ in range(2))
    got = adafisher.normalization_factors(h, s, form=form)
    want = reference.adafisher.normalization_factors(array(h), array(s), form=form)
    rows = sizes[1] * sizes[2]
    squared_mean = np.square(np.abs(array(h)).mean(axis=(-3, -2)))
    scale = want.scale if form == "v3" else squared_mean
    assert agree(got.scale, want.scale, rows=2 * rows, dtype=dtype, terms=scale)
    assert agree(got.s_D, want.s_D, rows=rows, dtype=dtype)
    assert torch.equal(got.shift, torch.ones_like(got.scale))


@given(seed=seeds, parameter=st.sampled_from(["scale", "shift"]), dtype=dtypes)
def test_the_block_agrees_with_the_reference(device, seed, parameter, dtype):
    rng = np.random.default_rng(seed)
    h, s = (normal(rng, 2, 3, 4, 5, dtype=dtype, device=device) for _ in range(2))
    got = adafisher.normalization_block(h, s, parameter=parameter)
    want = reference.adafisher.normalization_block(array(h), array(s), parameter=parameter)
    g = np.abs(array(h) * array(s) if parameter == "scale" else array(s)).sum(axis=-2)
    terms = np.swapaxes(g, -1, -2) @ g / 3
    assert agree(got, want, rows=3 + 2 * 4, dtype=dtype, terms=terms)


@pytest.mark.claim("ADAF-P3.1-block")
@pytest.mark.parametrize("parameter", ["scale", "shift"])
def test_the_block_is_the_mean_outer_product_of_the_gradients_of_the_samples(parameter):
    rng = np.random.default_rng(0)
    h, s = normal(rng, 6, 4, 3), normal(rng, 6, 4, 3)
    scale, shift = (normal(rng, 3).requires_grad_() for _ in range(2))
    own = scale if parameter == "scale" else shift
    each = [torch.autograd.grad(scale * x + shift, own, y)[0] for x, y in zip(h, s, strict=True)]
    want = array(torch.stack([torch.outer(g, g) for g in each]).mean(dim=0))
    g = (h * s if parameter == "scale" else s).abs().sum(dim=-2)
    got = adafisher.normalization_block(h, s, parameter=parameter)
    assert agree(got, want, rows=4 * 4 + 6, dtype=h.dtype, terms=array(g.mT @ g / 6))


@pytest.mark.claim("ADAF-P3.1-block")
def test_two_sites_of_ones_have_the_exact_block_4_and_the_factorised_1():
    ones = torch.ones(1, 2, 1)
    assert exactly(adafisher.normalization_block(ones, ones), [[4.0]])
    factors = adafisher.normalization_factors(ones, ones)
    assert exactly((factors.scale * factors.s_D), [1.0])


def test_forms_differ_where_activations_cancel():
    h = torch.tensor([[[1.0], [-1.0]]])
    assert exactly(adafisher.normalization_factors(h, h).scale, [1.0])
    assert exactly(adafisher.normalization_factors(h, h, form="submission").scale, [0.0])


# ---- formats and refusals ---------------------------------------------------------------------------------


def test_half_precision_neither_overflows_nor_is_rounded_to():
    h = torch.full((3, 2), 300.0, dtype=torch.float16)  # its square is above the largest float16
    s = torch.full((3, 1), 2.0**-12, dtype=torch.float16)  # its square is below the smallest
    h_D, s_D = adafisher.linear_factors(h, s, bias=False)
    assert exactly(h_D, [90000.0, 90000.0])
    assert exactly(s_D, [2.0**-24])
    assert exactly(adafisher.normalization_factors(h[None], h[None]).scale, [90000.0, 90000.0])
    assert adafisher.normalization_block(h[None], h[None]).isfinite().all()


def test_each_factor_has_the_precision_of_its_own_input():
    h, s = torch.ones(2, 3, dtype=torch.float64), torch.ones(2, 3, dtype=torch.bfloat16)
    assert [x.dtype for x in adafisher.linear_factors(h, s)] == [torch.float64, torch.float32]


def test_numbers_that_are_not_finite_pass_through():
    h = torch.tensor([[1.0, torch.nan, torch.inf]])
    h_D, _ = adafisher.linear_factors(h, torch.ones(1, 1), bias=False)
    assert exactly(h_D.isfinite(), [True, False, False])
    assert exactly(h_D.isnan(), [False, True, False])


I, E, H = torch.tensor([0, 1]), torch.ones(2, 3), torch.ones(2, 2, 3)
linear, embedding = adafisher.linear_factors, adafisher.embedding_factors


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: linear([1.0], E), TypeError, "h must be a torch.Tensor"),
        (lambda: linear(E[0], E), ValueError, "h must have at least 2 axes"),
        (lambda: linear(E, E, sample_axes=2), ValueError, "h must have at least 3 axes"),
        (lambda: linear(E, E, sample_axes=0), ValueError, "sample_axes must be at least 1"),
        (lambda: linear(E[:0], E[:0]), ValueError, "h must hold at least one sample"),
        (lambda: linear(E, E[:1]), ValueError, r"s must have shape \(2, m\), got \(1, 3\)"),
        (lambda: linear(E, E[0, 0]), ValueError, r"s must have shape \(2, m\), got \(\)"),
        (lambda: linear(E.long(), E), ValueError, "h must be float64"),
        (lambda: linear(E.to_sparse(), E), ValueError, "h must be dense"),
        (lambda: embedding(E, H, num_embeddings=2), ValueError, "indices must be integers"),
        (lambda: embedding(I > 0, E, num_embeddings=2), ValueError, "indices must be integers"),
        (lambda: embedding(I, E, num_embeddings=2, sample_axes=2), ValueError, "with at least 2 axes"),
        (lambda: embedding([0], E, num_embeddings=2), TypeError, "indices must be a torch.Tensor"),
        (lambda: embedding(I, E[:1], num_embeddings=2), ValueError, r"s must .* \(2, m\)"),
        (lambda: embedding(I, E, num_embeddings=0), ValueError, "num_embeddings must be at least 1"),
        (lambda: embedding(I[:0], E[:0], num_embeddings=2), ValueError, "at least one sample"),
        (lambda: adafisher.normalization_factors(E, E), ValueError, r"h must have shape \(..., N, T, c\)"),
        (lambda: adafisher.normalization_factors(H, H[:1]), ValueError, r"s must have shape \(2, 2, 3\)"),
        (lambda: adafisher.normalization_factors(H[:, :0], H[:, :0]), ValueError, "one sample and one site"),
        (lambda: adafisher.normalization_factors(H, H, form="v1"), ValueError, "form must be one of 'v3'"),
        (lambda: adafisher.normalization_block(H, H, parameter="W"), ValueError, "parameter must be one of"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.gpu
def test_measuring_never_makes_the_host_wait(cuda):
    indices, rows, sites = I.to(cuda), E.to(cuda), H.to(cuda)
    torch.cuda.set_sync_debug_mode("error")
    try:
        linear(rows, rows)
        embedding(indices, rows, num_embeddings=2)
        adafisher.normalization_factors(sites, sites)
        adafisher.normalization_block(sites, sites)
    finally:
        torch.cuda.set_sync_debug_mode("default")
