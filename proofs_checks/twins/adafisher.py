"""Twins of `reference.adafisher`: layer factors, denominators, and steps with every option.

The torch twin works in float32 at least, whatever it is given: results from half precision arguments are held
to float32's roundoff.
"""

import math
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

import reference.adafisher
import torch_impl.adafisher
from proofs_checks.decision import Array, Ratio, unit_roundoff
from proofs_checks.ratios import recursion, yes_no
from proofs_checks.twins.case import (
    BETA,
    Precision,
    Twin,
    array,
    exact,
    gradients,
    label,
)

__all__ = ["TWINS"]

#: Weight of the average, damping and weight decay of every comparison; binary fractions, stored exactly.
GAMMA, LAM, DECAY = 0.75, 0.0625, 0.125

#: Entries of the embedding table; small, so that every one of them occurs.
TABLE = 3

#: Formats of the inputs.
DTYPES = ("float64", "float32", "bfloat16")

#: Options of a run of steps: each departure from the default.
OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"gamma_on": "new"},
    {"normalise": "before"},
    {"initial": "ones"},
    {"initial": "ones", "normalise": "before"},
    {"averaging": "released"},
    {"epsilon": 0.125},
    {"epsilon": 0.125, "relative": False},
    {"weight_decay": DECAY},
)

#: Whether each step of a run measures the factors: first, in the average, not at all.
REFRESHES = (True, True, False)

#: Options of convolutions with 1, 2 and 3 spatial axes; all fit over an axis of length 1.
CONVOLUTIONS: tuple[dict[str, Any], ...] = (
    {"kernel_size": (2,), "stride": 2, "padding": (1,)},
    {"kernel_size": (3,), "dilation": 2, "padding": 2, "groups": 2, "bias": False},
    {"kernel_size": (1, 1)},
    {"kernel_size": (2, 3), "stride": (2, 1), "padding": (1, 2), "dilation": (1, 2), "groups": 2},
    {"kernel_size": (2, 1, 2), "stride": (1, 2, 1), "padding": 1, "groups": 4, "bias": False},
)

#: The same for the two-dimensional case, where one number may stand for both axes.
CONVOLUTIONS_2D: tuple[dict[str, Any], ...] = (
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 2, "padding": (1, 2), "dilation": (2, 1), "groups": 2, "bias": False},
)

#: Samples and channels of the images, which have the matrix as their first two axes or as a single one.
SAMPLES, CHANNELS, OUTPUTS = 2, 4, 8


def _judge(got: Any, want: Array, terms: Array, operations: int, p: Precision) -> Ratio:
    """Componentwise, in the precision the twin works in; its smallest number bounds what underflow loses."""
    work = p.dtype if p.dtype == "float64" else "float32"
    underflow = float(np.finfo(work).smallest_subnormal)
    return recursion(
        array(got), want, terms, operations=operations, u=unit_roundoff(work), underflow=underflow
    )


def _random(M: Array, shape: tuple[int, ...], p: Precision) -> Array:
    """Entries of either sign, exactly representable, the same for every matrix of a shape."""
    return p.rounded(np.random.default_rng(M.shape).uniform(-1.0, 1.0, shape))


# ---- factors of a layer -----------------------------------------------------------------------------------


def _mean_squares(
    computed: tuple[Any, Any], expected: tuple[Array, Array], rows: int, p: Precision
) -> Iterator[tuple[str, Ratio]]:
    """A mean of squares has positive terms: the square, a sum of `rows`, the quotient."""
    for name, got, want in zip(("h_D", "s_D"), computed, expected, strict=True):
        yield name, _judge(got, want, want, rows + 2, p)


def _linear(M: Array, p: Precision) -> Iterator[tuple[str, Ratio]]:
    if not len(M):
        return
    h, s = np.stack(gradients(M, p, SAMPLES)), _random(M, (SAMPLES, len(M), OUTPUTS), p)
    for bias, sample_axes in product((True, False), (1, 2)):
        options = {"bias": bias, "sample_axes": sample_axes}
        computed = torch_impl.adafisher.linear_factors(p.tensor(h), p.tensor(s), **options)  # type: ignore[arg-type]
        expected = reference.adafisher.linear_factors(h, s, **options)  # type: ignore[arg-type]
        for name, ratio in _mean_squares(computed, expected, SAMPLES * len(M), p):
            yield label(options, name), ratio


def _image(M: Array, options: dict[str, Any], axes: int, p: Precision) -> tuple[Array, Array]:
    """Input and output gradient of a convolution whose spatial axes are those of the matrix."""
    spatial = {1: (M.size,), 2: M.shape, 3: (*M.shape, 3)}[axes]

    def each(name: str, default: int) -> tuple[int, ...]:
        option = options.get(name, default)
        return (option,) * axes if isinstance(option, int) else tuple(option)

    names = (("kernel_size", 1), ("stride", 1), ("padding", 0), ("dilation", 1))
    windows = zip(spatial, *(each(*name) for name in names), strict=True)
    sites = [(n + 2 * pad - d * (k - 1) - 1) // stride + 1 for n, k, stride, pad, d in windows]
    x = _random(M, (SAMPLES, CHANNELS, *spatial), p)
    if axes == M.ndim:
        x[0, 0] = M
    return x, _random(M, (SAMPLES, OUTPUTS, *sites), p)


def _convolutions(
    M: Array, p: Precision, name: str, cases: tuple[dict[str, Any], ...]
) -> Iterator[tuple[str, Ratio]]:
    if not M.size:
        return
    for options in cases:
        size = options["kernel_size"]
        x, s = _image(M, options, 2 if isinstance(size, int) else len(size), p)
        computed = getattr(torch_impl.adafisher, name)(p.tensor(x), p.tensor(s), **options)
        expected = getattr(reference.adafisher, name)(x, s, **options)
        rows = SAMPLES * math.prod(s.shape[2:])
        for part, ratio in _mean_squares(computed, expected, rows, p):
            yield label(options, part), ratio


def _conv2d(M: Array, p: Precision) -> Iterator[tuple[str, Ratio]]:
    yield from _convolutions(M, p, "conv2d_factors", CONVOLUTIONS_2D)


def _convolution(M: Array, p: Precision) -> Iterator[tuple[str, Ratio]]:
    yield from _convolutions(M, p, "convolution_factors", CONVOLUTIONS)


def _embedding(M: Array, p: Precision) -> Iterator[tuple[str, Ratio]]:
    if not M.size:
        return
    indices = np.floor(np.ldexp(np.abs(M), 4)).astype(np.int64) % TABLE
    s = _random(M, (*M.shape, OUTPUTS), p)
    for axes in (1, 2):
        options = {"num_embeddings": TABLE, "sample_axes": axes}
        given = p.tensor(indices.astype(np.float64)).long()  # on the device; small integers in every format
        computed = torch_impl.adafisher.embedding_factors(given, p.tensor(s), **options)
        expected = reference.adafisher.embedding_factors(indices, s, **options)
        for name, ratio in _mean_squares(computed, expected, M.shape[-1] if axes == 1 else M.size, p):
            yield label(options, name), ratio


def _normalization(M: Array, p: Precision) -> Iterator[tuple[str, Ratio]]:
    if not len(M):
        return
    h, s = np.stack(gradients(M, p, SAMPLES)), _random(M, (SAMPLES, *M.shape), p)
    rows = SAMPLES * len(M)
    for form in ("v3", "submission"):
        computed = torch_impl.adafisher.normalization_factors(p.tensor(h), p.tensor(s), form=form)
        expected = reference.adafisher.normalization_factors(h, s, form=form)
        mean = np.square(np.abs(h).mean(axis=(0, 1)))  # the absolute terms of the submission's square
        terms = (expected.scale if form == "v3" else mean, expected.shift, expected.s_D)
        for name, got, want, size in zip(expected._fields, computed, expected, terms, strict=True):
            yield f"{form}, {name}", _judge(got, want, size, 2 * rows + 4, p)


def _block(M: Array, p: Precision) -> Iterator[tuple[str, Ratio]]:
    """Two sums over the sites, their product, a mean over the samples."""
    if not len(M):
        return
    h, s = np.stack(gradients(M, p, SAMPLES)), _random(M, (SAMPLES, *M.shape), p)
    for parameter in ("scale", "shift"):
        computed = torch_impl.adafisher.normalization_block(p.tensor(h), p.tensor(s), parameter=parameter)
        expected = reference.adafisher.normalization_block(h, s, parameter=parameter)
        g = np.abs(h * s if parameter == "scale" else s).sum(axis=-2)
        yield parameter, _judge(computed, expected, g.T @ g / SAMPLES, 2 * len(M) + SAMPLES + 4, p)


# ---- denominator ------------------------------------------------------------------------------------------


def _average(M: Array, p: Precision) -> Iterator[tuple[str, Ratio]]:
    new = _random(M, M.shape, p)
    for gamma_on, weight in (("old", GAMMA), ("new", 1 - GAMMA)):
        options = {"gamma": GAMMA, "gamma_on": gamma_on}
        computed = torch_impl.adafisher.average(p.tensor(M), p.tensor(new), **options)  # type: ignore[arg-type]
        expected = reference.adafisher.average(M, new, **options)  # type: ignore[arg-type]
        terms = weight * np.abs(M) + (1 - weight) * np.abs(new)
        yield gamma_on, _judge(computed, expected, terms, 2, p)


def _minmax(M: Array, p: Precision) -> Iterator[tuple[str, Ratio]]:
    """Two differences of given numbers, what epsilon does to one of them, the quotient: nothing cancels."""
    for axes, (epsilon, relative) in product((1, 2), ((0.0, True), (0.125, True), (0.125, False))):
        options = {"epsilon": epsilon, "relative": relative, "axes": axes}
        computed = torch_impl.adafisher.minmax_normalize(p.tensor(M), **options)  # type: ignore[arg-type]
        expected = reference.adafisher.minmax_normalize(M, **options)  # type: ignore[arg-type]
        yield label(options), _judge(computed, expected, expected, 5, p)


def _released(M: Array, p: Precision) -> Iterator[tuple[str, Ratio]]:
    """Min-max of given numbers, two weights that are rounded, two products and a sum."""
    old = np.abs(_random(M, M.shape, p))
    infinite = M.copy()
    infinite[..., :1] = math.inf
    infinite[..., 1:2] = -math.inf
    for (name, new), axes in product((("finite", M), ("infinite", infinite)), (1, 2)):
        options = {"gamma": GAMMA, "axes": axes}
        computed = torch_impl.adafisher.released_average(p.tensor(old), p.tensor(new), **options)  # type: ignore[arg-type]
        expected = reference.adafisher.released_average(old, new, **options)  # type: ignore[arg-type]
        yield label(options, name), _judge(computed, expected, expected, 10, p)


def _denominator(M: Array, p: Precision) -> Iterator[tuple[str, Ratio]]:
    h = np.abs(M)
    for pairing, width in (("outer", OUTPUTS), ("channel", M.shape[-1])):
        s = np.abs(_random(M, (len(M), width), p))
        options = {"lam": LAM, "pairing": pairing}
        computed = torch_impl.adafisher.denominator(p.tensor(h), p.tensor(s), **options)  # type: ignore[arg-type]
        expected = reference.adafisher.denominator(h, s, **options)  # type: ignore[arg-type]
        yield pairing, _judge(computed, expected, expected, 2, p)


# ---- steps ------------------------------------------------------------------------------------------------


def _init(M: Array, p: Precision) -> Iterator[tuple[str, Ratio]]:
    for pairing in ("outer", "channel"):
        computed = torch_impl.adafisher.init(p.tensor(M), pairing=pairing)
        expected = reference.adafisher.init(M, pairing=pairing)
        for name in ("M", "h_D", "s_D"):
            yield f"{pairing} {name}", exact("same start", getattr(computed, name), getattr(expected, name))
        yield f"{pairing} counts", yes_no("same counts", tuple(computed[3:]) == tuple(expected[3:]))


def _step(M: Array, p: Precision) -> Iterator[tuple[str, Ratio]]:
    for options in OPTIONS:
        yield from _run(M, options, p)
    yield from _run(M, {"pairing": "channel"}, p)
    grouped = np.stack(gradients(M, p, 2))
    yield from _run(grouped, {"factor_axes": 2}, p)
    yield from _run(grouped, {"factor_axes": 2, "averaging": "released"}, p)


def _run(M: Array, options: dict[str, Any], p: Precision) -> Iterator[tuple[str, Ratio]]:
    """Steps that measure, average and reuse; before each the reference is given the torch state."""
    W = _random(M, M.shape, p) if "weight_decay" in options else None
    pairing = options.get("pairing", "outer")
    state = torch_impl.adafisher.init(p.tensor(M), pairing=pairing)
    for refresh, G in zip(REFRESHES, gradients(M, p, len(REFRESHES)), strict=True):
        squares = np.square(G)
        shapes = (squares, squares) if pairing == "channel" else (squares.sum(axis=-2), squares.sum(axis=-1))
        h_D, s_D = (p.rounded(x) for x in shapes)
        old = reference.adafisher.AdaFisherState(
            array(state.M), array(state.h_D), array(state.s_D), state.t, state.refreshes
        )
        chosen = {"beta": BETA, "gamma": GAMMA, "lam": LAM, "refresh": refresh, **options}
        tensors = {"h_D": p.tensor(h_D), "s_D": p.tensor(s_D), "W": None if W is None else p.tensor(W)}
        computed, state = torch_impl.adafisher.step(p.tensor(G), state, **tensors, **chosen)  # type: ignore[arg-type]
        expected, new = reference.adafisher.step(G, old, h_D=h_D, s_D=s_D, W=W, **chosen)
        for name, got, want in (("h_D", state.h_D, new.h_D), ("s_D", state.s_D, new.s_D)):
            yield label(options, name), _judge(got, want, want, FACTOR_ROUNDINGS, p)
        yield label(options, "counts"), yes_no("same counts", tuple(state[3:]) == tuple(new[3:]))
        momentum = BETA * np.abs(old.M) + (1 - BETA) * np.abs(G)
        yield label(options, "M"), _judge(state.M, new.M, momentum, 3, p)
        terms = _update_terms(momentum, new, options)
        terms = terms if W is None else terms + DECAY * np.abs(W)
        yield label(options, "update"), _judge(computed, expected, terms, UPDATE_ROUNDINGS, p)


def _update_terms(momentum: Array, new: reference.adafisher.AdaFisherState, options: dict[str, Any]) -> Array:
    """Size of the update's terms, grown by what the errors of the two factors do to it.

    A factor is at most 1, so the error of ``F = s h + lam`` is at most that of h plus that of s; relative to
    F it is that of the update.
    """
    again = options.get("averaging") != "released" and options.get("normalise") != "before"
    axes = options.get("factor_axes", 1)
    h, s, growth = new.h_D, new.s_D, 2.0
    if again:
        growth += _amplification(h, axes) + _amplification(s, axes)
        epsilon = {k: options[k] for k in ("epsilon", "relative") if k in options}
        h, s = (reference.adafisher.minmax_normalize(x, axes=axes, **epsilon) for x in (h, s))
    F = reference.adafisher.denominator(h, s, lam=LAM, pairing=options.get("pairing", "outer"))
    return momentum / (1 - BETA**new.t) / F * (1.0 + growth / F)


def _amplification(x: Array, axes: int) -> float:
    """Largest error of min-max over the relative error of an average: 4 max x / range.

    Of the entry and of the least in the difference, of the least and the largest in the range. A constant
    factor has none: all its entries are computed alike, and their differences are zero.
    """
    own = tuple(range(-axes, 0))
    width, largest = np.ptp(x, axis=own) if x.size else np.zeros(1), x.max(axis=own, initial=0.0)
    return float(np.where(width > 0, 4.0 * largest / np.where(width > 0, width, 1.0), 0.0).max(initial=0.0))


#: Roundings of an entry of a factor's average: those of `_released`, the longest way.
FACTOR_ROUNDINGS = 10

#: Roundings of an entry of the update: momentum 3 and its correction 2, the averages 2, min-max 4, the
#: denominator 2, the quotient, the decay 2.
UPDATE_ROUNDINGS = 16

TWINS = (
    Twin("adafisher.average", _average, DTYPES),
    Twin("adafisher.conv2d_factors", _conv2d, DTYPES),
    Twin("adafisher.convolution_factors", _convolution, DTYPES),
    Twin("adafisher.denominator", _denominator, DTYPES),
    Twin("adafisher.embedding_factors", _embedding, DTYPES),
    Twin("adafisher.init", _init, DTYPES),
    Twin("adafisher.linear_factors", _linear, DTYPES),
    Twin("adafisher.minmax_normalize", _minmax, DTYPES),
    Twin("adafisher.normalization_block", _block, DTYPES),
    Twin("adafisher.normalization_factors", _normalization, DTYPES),
    Twin("adafisher.released_average", _released, DTYPES),
    Twin("adafisher.step", _step, DTYPES),
)
