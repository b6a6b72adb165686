"""AdaFisher's factor diagonals against brute force: the exact Fisher blocks, loops over patches, one-hots."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs_checks.ratios import inequality, recursion
from reference.adafisher import (
    NormalizationFactors,
    conv2d_factors,
    convolution_factors,
    denominator,
    embedding_factors,
    linear_factors,
    normalization_block,
    normalization_factors,
)
from tests.reference.cases import U64, check, frozen
from tests.strategies import seeds


def close(got, want, *, terms):
    """Two sums of `terms` non-negative numbers, each a product of few: relative error of order terms * u."""
    assert got.shape == want.shape
    check(recursion(got, want, np.abs(want), operations=terms + 8, u=U64))


def normal(seed, *shape):
    return frozen(np.random.default_rng(seed).standard_normal(shape))


# ---- linear layers


@given(seeds, st.integers(1, 6), st.integers(1, 5), st.integers(1, 4), st.booleans())
def test_linear_factors_are_the_diagonals_of_the_kronecker_factors(seed, N, n, m, bias):
    h, s = normal(seed, N, n), normal(seed + 1, N, m)
    augmented = np.column_stack([h, np.ones(N)]) if bias else h
    H = sum(np.outer(row, row) for row in augmented) / N
    S = sum(np.outer(row, row) for row in s) / N
    h_D, s_D = linear_factors(h, s, bias=bias)
    close(h_D, np.diag(H), terms=N)
    close(s_D, np.diag(S), terms=N)


@pytest.mark.claim("ADAF-golden")
@given(seeds, st.integers(1, 5), st.integers(2, 4))
def test_the_product_is_the_diagonal_of_the_exact_fisher_matrix_where_the_layer_factorises(seed, N, classes):
    """A two-layer net with zero logits: every label has probability 1 / classes, whatever the input.

    The Fisher matrix of the last layer is then the Kronecker product exactly. It is computed here from its
    definition, a mean over samples and labels of outer products of gradients by the chain rule.
    """
    rng = np.random.default_rng(seed)
    x, first = rng.standard_normal((N, 3)), rng.standard_normal((4, 3))
    h = np.tanh(x @ first.T)
    rows, gradients, F = [], [], 0.0
    for sample in h:
        for label in range(classes):
            s = np.full(classes, 1 / classes) - np.eye(classes)[label]
            rows.append(sample)
            gradients.append(s)
            G = np.outer(s, np.append(sample, 1.0))  # gradient of -log p(label), bias as last column
            F = F + np.outer(G, G) / (N * classes)
    h_D, s_D = linear_factors(np.array(rows), np.array(gradients))
    close(np.outer(s_D, h_D), np.diag(F).reshape(classes, 5), terms=4 * N * classes)
    exact = np.diag(F).reshape(classes, 5) + 1.0
    close(denominator(h_D, s_D, lam=1.0), exact, terms=4 * N * classes)


def test_tokens_are_flattened_into_rows_and_leading_axes_are_problems():
    h, s = normal(1, 2, 3, 5, 4), normal(2, 2, 3, 5, 6)
    h_D, s_D = linear_factors(h, s, sample_axes=2)
    for k in range(2):
        rows = linear_factors(h[k].reshape(15, 4), s[k].reshape(15, 6))
        close(h_D[k], rows[0], terms=15)
        close(s_D[k], rows[1], terms=15)
    batched = linear_factors(h, s, bias=False)
    assert (batched[0].shape, batched[1].shape) == ((2, 3, 4), (2, 3, 6))
    close(batched[0][1, 2], linear_factors(h[1, 2], s[1, 2], bias=False)[0], terms=5)


def test_a_layer_without_inputs_still_has_a_bias():
    h_D, s_D = linear_factors(np.zeros((3, 0)), np.ones((3, 2)))
    assert np.array_equal(h_D, [1.0])
    assert np.array_equal(s_D, [1.0, 1.0])
    assert linear_factors(np.zeros((3, 0)), np.zeros((3, 0)), bias=False)[1].shape == (0,)


# ---- convolutions


def patches_by_loops(x, kernel, stride, padding, dilation, channels):
    """Every patch as a row, in the order (channel, spatial axes), one pixel at a time; and the sites."""
    N, _, *spatial = x.shape
    along = [
        range(-p, size + p - d * (k - 1), step)
        for size, k, step, p, d in zip(spatial, kernel, stride, padding, dilation, strict=True)
    ]
    rows = []
    for sample, corner in itertools.product(range(N), itertools.product(*along)):
        row = []
        for c, offset in itertools.product(channels, itertools.product(*map(range, kernel))):
            at = [i + a * d for i, a, d in zip(corner, offset, dilation, strict=True)]
            inside = all(0 <= i < size for i, size in zip(at, spatial, strict=True))
            row.append(x[(sample, c, *at)] if inside else 0.0)
        rows.append(row)
    return np.array(rows), tuple(map(len, along))


def per_axis(low, high):
    """Three integers, one for each spatial axis there may be."""
    return st.tuples(*[st.integers(low, high)] * 3)


def means_over_patches(factors, seed, spatial, setting, *, groups, bias):
    """Compare with loops over patches; three outputs and two channels per group."""
    x = normal(seed, 2, 2 * groups, *spatial)
    loops = {name.removesuffix("_size"): value for name, value in setting.items()}
    own = [patches_by_loops(x, **loops, channels=(2 * g, 2 * g + 1)) for g in range(groups)]
    s = normal(seed + 1, 2, 3 * groups, *own[0][1])
    h_D, s_D = factors(x, s, **setting, groups=groups, bias=bias)
    terms = len(own[0][0])
    want_h = np.array([np.append((rows**2).mean(axis=0), [1.0] * bias) for rows, _ in own])
    gradients = s.reshape(2, groups, 3, -1)
    want_s = np.array([[np.mean(gradients[:, g, j] ** 2) for j in range(3)] for g in range(groups)])
    close(h_D, want_h if groups > 1 else want_h[0], terms=terms)
    close(s_D, want_s if groups > 1 else want_s[0], terms=terms)


@given(
    axes=st.integers(1, 3),
    kernel=per_axis(1, 2),
    stride=per_axis(1, 3),
    padding=per_axis(0, 2),
    dilation=per_axis(1, 2),
    groups=st.integers(1, 3),
    bias=st.booleans(),
    seed=seeds,
)
def test_convolution_factors_are_means_over_patches(
    axes, kernel, stride, padding, dilation, groups, bias, seed
):
    given_ = {"kernel_size": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    setting = {name: value[:axes] for name, value in given_.items()}
    means_over_patches(convolution_factors, seed, (5, 3, 4)[:axes], setting, groups=groups, bias=bias)


@pytest.mark.parametrize("groups", [1, 2])
def test_conv2d_factors_are_means_over_patches_and_take_a_kernel_by_one_number(groups):
    setting = {"kernel_size": (3, 2), "stride": (2, 1), "padding": (0, 2), "dilation": (1, 2)}
    means_over_patches(conv2d_factors, 11, (5, 6), setting, groups=groups, bias=True)
    x, s = normal(12, 2, 2, 5, 5), normal(13, 2, 4, 3, 3)
    square = convolution_factors(x, s, kernel_size=(3, 3), groups=groups)
    for one, other in zip(conv2d_factors(x, s, kernel_size=3, groups=groups), square, strict=True):
        assert np.array_equal(one, other)


def test_one_number_counts_for_every_spatial_axis():
    x, s = normal(14, 2, 3, 5, 5, 5), normal(15, 2, 4, 3, 3, 3)
    options = {"stride": 2, "padding": 2, "dilation": 2}
    each = {name: (value,) * 3 for name, value in options.items()}
    kernel = (3, 3, 3)
    by_one, by_three = (convolution_factors(x, s, kernel_size=kernel, **o) for o in (options, each))
    assert all(np.array_equal(a, b) for a, b in zip(by_one, by_three, strict=True))


def test_an_axis_of_length_one_changes_nothing():
    x, s = normal(16, 2, 3, 6), normal(17, 2, 4, 2)
    line = convolution_factors(x, s, kernel_size=(3,), stride=2)
    plane = convolution_factors(x[..., None], s[..., None], kernel_size=(3, 1), stride=(2, 1))
    solid = convolution_factors(
        x[..., None, None], s[..., None, None], kernel_size=(3, 1, 1), stride=(2, 1, 1)
    )
    for one, other, third in zip(line, plane, solid, strict=True):
        close(one, other, terms=4)
        close(one, third, terms=4)


def test_convolution_factors_follow_the_order_of_the_flattened_weight():
    """The gradient of one output pixel with respect to the weight is the patch, in the weight's order."""
    x = normal(3, 1, 2, 3, 3)
    s = np.ones((1, 1, 1, 1))
    h_D, _ = conv2d_factors(x, s, kernel_size=3, bias=False)
    weight_gradient = x[0]  # d/dW of sum_cij W_cij x_cij
    close(h_D, weight_gradient.reshape(-1) ** 2, terms=1)


def test_a_one_by_one_convolution_is_a_linear_layer_on_the_sites():
    x, s = normal(4, 2, 3, 4, 5), normal(5, 2, 6, 4, 5)
    got = conv2d_factors(x, s, kernel_size=1)
    want = linear_factors(np.moveaxis(x, 1, -1).reshape(40, 3), np.moveaxis(s, 1, -1).reshape(40, 6))
    for one, other in zip(got, want, strict=True):
        close(one, other, terms=40)


def test_convolutions_of_a_batch_of_problems():
    x, s = normal(6, 2, 3, 4, 5, 5), normal(7, 2, 3, 4, 2, 2)
    for groups in (1, 2):
        together = conv2d_factors(x, s, kernel_size=3, stride=2, groups=groups)
        for k in range(2):
            alone = conv2d_factors(x[k], s[k], kernel_size=3, stride=2, groups=groups)
            for one, other in zip(together, alone, strict=True):
                close(one[k], other, terms=12)


# ---- embeddings


@given(seeds, st.integers(1, 7), st.integers(1, 6))
def test_an_embedding_is_a_linear_layer_of_one_hot_inputs(seed, N, n):
    rng = np.random.default_rng(seed)
    indices, s = rng.integers(0, n, (2, N)), normal(seed, 2, N, 3)
    got = embedding_factors(frozen(indices), s, num_embeddings=n)
    want = linear_factors(np.eye(n)[indices], s, bias=False)
    flat = embedding_factors(indices, s, num_embeddings=n, sample_axes=2)
    rows = linear_factors(np.eye(n)[indices], s, bias=False, sample_axes=2)
    for one, other in zip((*got, *flat), (*want, *rows), strict=True):
        close(one, other, terms=2 * N)


def test_an_empty_batch_of_embeddings_gives_empty_factors():
    indices, s = np.zeros((0, 3, 2), dtype=int), np.zeros((0, 3, 2, 4))
    h_D, s_D = embedding_factors(indices, s, num_embeddings=5, sample_axes=2)
    assert h_D.shape == (0, 5)
    assert s_D.shape == (0, 4)


# ---- normalisation layers


@pytest.mark.claim("ADAF-P3.1-block")
def test_one_channel_and_two_sites_of_ones():
    ones = np.ones((1, 2, 1))
    got = normalization_factors(ones, ones)
    assert isinstance(got, NormalizationFactors)
    assert got.scale * got.s_D == 1
    assert normalization_block(ones, ones) == normalization_block(ones, ones, parameter="shift") == 4


@pytest.mark.claim("ADAF-P3.1-block")
@given(seeds, st.integers(1, 4), st.integers(1, 4), st.integers(1, 3))
def test_normalisation_factors_and_blocks_by_loops(seed, N, T, c):
    h, s = normal(seed, N, T, c), normal(seed + 1, N, T, c)
    H, total, S, blocks = np.zeros((c, c)), np.zeros(c), np.zeros((c, c)), np.zeros((2, c, c))
    terms = np.zeros((2, c, c))
    for sample in range(N):
        for x in range(T):
            H += np.outer(h[sample, x], h[sample, x]) / (N * T)
            S += np.outer(s[sample, x], s[sample, x]) / (N * T)
            total += h[sample, x]
            for y in range(T):
                for k, (u, v) in enumerate(
                    [(h[sample, x] * s[sample, x], h[sample, y] * s[sample, y]), (s[sample, x], s[sample, y])]
                ):
                    blocks[k] += np.outer(u, v) / N
                    terms[k] += np.abs(np.outer(u, v)) / N
    v3 = normalization_factors(h, s)
    close(v3.scale, np.diag(H), terms=N * T)
    close(v3.s_D, np.diag(S), terms=N * T)
    assert np.array_equal(v3.shift, np.ones(c))
    submission = normalization_factors(h, s, form="submission")
    bound = (np.abs(h).sum(axis=(0, 1)) / (N * T)) ** 2
    check(
        recursion(submission.scale, (total / (N * T)) ** 2, bound, operations=4 * N * T + 8, u=U64),
        *(
            recursion(
                normalization_block(h, s, parameter=p), block, size, operations=2 * N * T * T + 8, u=U64
            )
            for p, block, size in zip(("scale", "shift"), blocks, terms, strict=True)
        ),
    )
    assert np.array_equal(submission.s_D, v3.s_D)


@pytest.mark.claim("ADAF-P3.1-block")
def test_submission_and_v3_differ_where_activations_cancel():
    h, s = np.array([[[1.0], [-1.0]]]), np.ones((1, 2, 1))
    assert normalization_factors(h, s).scale == 1
    assert normalization_factors(h, s, form="submission").scale == 0
    check(inequality(normalization_block(h, s), 0.0, rounding=0.0))


def test_normalisation_of_a_batch_of_problems():
    h, s = normal(8, 2, 3, 4, 5), normal(9, 2, 3, 4, 5)
    together = normalization_factors(h, s)
    assert normalization_block(h, s).shape == (2, 5, 5)
    for k in range(2):
        for one, other in zip(together, normalization_factors(h[k], s[k]), strict=True):
            close(one[k], other, terms=12)


# ---- errors

h_, s_, x_, o_ = np.ones((2, 3)), np.ones((2, 4)), np.ones((1, 4, 5, 5)), np.ones((1, 6, 3, 3))
n_, i_ = np.ones((2, 3, 4)), np.array([0, 1])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: linear_factors([[1.0]], s_), TypeError, "h must be a float64 array"),
        (lambda: linear_factors(h_[0], s_), ValueError, r"h must be float64 of shape \(..., N, n\)"),
        (lambda: linear_factors(h_, s_[0]), ValueError, r"s must be float64 of shape \(..., N, m\)"),
        (lambda: linear_factors(h_, s_[:1]), ValueError, r"s must have the shape \(2,\) before its last"),
        (lambda: linear_factors(h_ * np.nan, s_), ValueError, "h must be finite, got 6"),
        (lambda: linear_factors(h_, s_ * np.inf), ValueError, "s must be finite"),
        (lambda: linear_factors(h_ * 1e200, s_), ValueError, "h must have squares in range"),
        (lambda: linear_factors(h_[:0], s_[:0]), ValueError, "h must hold at least one sample"),
        (lambda: linear_factors(h_, s_, sample_axes=0), ValueError, "sample_axes must be at least 1"),
        (lambda: linear_factors(h_, s_, sample_axes=2), ValueError, r"of shape \(..., N, T, n\)"),
        (lambda: conv2d_factors(x_[0], o_, kernel_size=3), ValueError, "x must be float64 of shape"),
        (lambda: conv2d_factors(x_, o_[0], kernel_size=3), ValueError, "s must be float64 of shape"),
        (lambda: conv2d_factors(x_, o_, kernel_size=2), ValueError, r"s must have shape \(1, 6, 4, 4\)"),
        (lambda: conv2d_factors(x_, o_, kernel_size=6), ValueError, "kernel_size must fit: it spans 6 x 6"),
        (lambda: conv2d_factors(x_, o_, kernel_size=0), ValueError, "kernel_size must be at least 1"),
        (
            lambda: conv2d_factors(x_, o_, kernel_size=(3, 3, 3)),
            ValueError,
            "kernel_size must be one integer",
        ),
        (lambda: conv2d_factors(x_, o_, kernel_size=3.0), TypeError, "kernel_size must be an integer"),
        (lambda: conv2d_factors(x_, o_, kernel_size=3, stride=0), ValueError, "stride must be at least 1"),
        (lambda: conv2d_factors(x_, o_, kernel_size=3, padding=-1), ValueError, "padding must be at least 0"),
        (lambda: conv2d_factors(x_, o_, kernel_size=3, dilation=0), ValueError, "dilation must be at least"),
        (lambda: conv2d_factors(x_, o_, kernel_size=3, groups=3), ValueError, "groups must divide the 4"),
        (lambda: conv2d_factors(x_, o_, kernel_size=3, groups=4), ValueError, "groups must divide the 6"),
        (lambda: conv2d_factors(x_, o_, kernel_size=3, groups=0), ValueError, "groups must be at least 1"),
        (
            lambda: convolution_factors(x_, o_, kernel_size=3),
            TypeError,
            "kernel_size must be a tuple, one integer per spatial axis, got int",
        ),
        (
            lambda: convolution_factors(x_, o_, kernel_size=()),
            ValueError,
            "kernel_size must hold one, two or three integers, got 0",
        ),
        (
            lambda: convolution_factors(x_, o_, kernel_size=(1,) * 4),
            ValueError,
            "kernel_size must hold one, two or three integers, got 4",
        ),
        (
            lambda: convolution_factors(x_, o_, kernel_size=(3, 3), stride=(1,)),
            ValueError,
            "stride must be one integer or two, got 1",
        ),
        (
            lambda: convolution_factors(x_, o_, kernel_size=(3,), padding=(0, 0)),
            ValueError,
            "padding must be one integer, got 2",
        ),
        (
            lambda: convolution_factors(x_[0, 0], o_, kernel_size=(3,)),
            ValueError,
            r"x must be float64 of shape \(..., N, C, length\)",
        ),
        (
            lambda: convolution_factors(x_, o_, kernel_size=(3, 3, 3)),
            ValueError,
            r"x must be float64 of shape \(..., N, C, depth, height, width\)",
        ),
        (lambda: conv2d_factors(x_[:0], o_[:0], kernel_size=3), ValueError, "x must hold at least one"),
        (lambda: conv2d_factors(x_ * 1e200, o_, kernel_size=3), ValueError, "x must have squares in range"),
        (lambda: conv2d_factors(x_, o_ * 1e200, kernel_size=3), ValueError, "s must have squares in range"),
        (lambda: embedding_factors([0], s_, num_embeddings=3), TypeError, "indices must be an integer array"),
        (lambda: embedding_factors(h_, s_, num_embeddings=3), ValueError, "indices must be integers"),
        (lambda: embedding_factors(i_, s_, num_embeddings=1), ValueError, "indices must lie from 0 to 0"),
        (lambda: embedding_factors(-i_, s_, num_embeddings=3), ValueError, "indices must lie from 0 to 2"),
        (lambda: embedding_factors(i_, s_, num_embeddings=0), ValueError, "num_embeddings must be at least"),
        (
            lambda: embedding_factors(i_[:1], s_, num_embeddings=3),
            ValueError,
            r"s must have the shape \(1,\)",
        ),
        (lambda: embedding_factors(i_[:0], s_[:0], num_embeddings=3), ValueError, "s must hold at least"),
        (lambda: normalization_factors(h_, h_), ValueError, r"h must be float64 of shape \(..., N, T, c\)"),
        (lambda: normalization_factors(n_, n_[:1]), ValueError, r"s must have shape \(2, 3, 4\)"),
        (lambda: normalization_factors(n_, n_, form="v2"), ValueError, "form must be one of"),
        (lambda: normalization_factors(n_[:, :0], n_[:, :0]), ValueError, "h must hold at least one"),
        (lambda: normalization_factors(n_ * 1e200, n_), ValueError, "h must have squares in range"),
        (
            lambda: normalization_factors(n_ * 1e200, n_, form="submission"),
            ValueError,
            "h must have squares in range",
        ),
        (lambda: normalization_block(n_, n_, parameter="bias"), ValueError, "parameter must be one of"),
        (lambda: normalization_block(n_[:0], n_[:0]), ValueError, "h must hold at least one"),
        (lambda: normalization_block(n_ * 1e200, n_ * 1e200), ValueError, "h must have products with s"),
    ],
)
def test_a_bad_argument_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
