"""Inputs that isolate the equations of AdaFisher, one function per check.

Symbols: h inputs of a layer, s gradients at its output, N samples, n inputs, m outputs, F denominator; see
`proofs_checks.conformance.adafisher`. Inputs are small integers, gradients multiples of 1/4: products, sums
and squares are exact in every dtype.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from math import prod

import numpy as np

from proofs_checks.conformance.bench import Bench
from proofs_checks.conformance.case import Array
from proofs_checks.conformance.layer_case import How, LayerCase, Pass
from proofs_checks.conformance.layers import Convolution, Embedding, Layer, Linear, Normalization

__all__ = [
    "GOLDEN_STEPS",
    "LAM",
    "LAYERS",
    "LR",
    "accumulated",
    "averages",
    "biased",
    "constant",
    "constant_gradient",
    "damped",
    "decayed",
    "evaluated",
    "extremes",
    "golden",
    "layers_of",
    "moving",
    "periodic",
    "plain",
    "quiet_then_loud",
    "ranges",
    "reused",
    "single",
    "tokens",
    "trajectories",
    "zeros",
]

#: Powers of two: products with them are exact in every dtype.
LR, BETA, GAMMA, LAM = 0.5, 0.5, 0.75, 2.0**-4
SHAPES = ((2, 2), (2, 3), (3, 2), (1, 3), (3, 1), (4, 4))
#: How loud the second measurement is where the order of averaging and normalising must show.
LOUD = 2.0**3

#: adafisher.md section 1.1: inputs without the constant 1 of the bias, and gradients; then a second batch.
GOLDEN_STEPS = (
    (((1.0, 2.0), (3.0, 0.0)), ((0.5, -1.0), (1.5, 1.0))),
    (((2.0, 1.0), (0.0, 4.0)), ((1.0, 0.5), (-2.0, 1.5))),
    (((1.0, -1.0), (1.0, 2.0)), ((-0.5, 2.0), (1.0, 1.0))),
)


def _spread(rng: np.random.Generator, rows: int, columns: int) -> Array:
    """Integers without zeros whose columns have mean squares well apart, in random order."""
    sizes = rng.permutation(columns) + 1.0
    signs = rng.choice([-1.0, 1.0], (rows, columns))
    wobble = rng.integers(0, 2, (rows, columns))
    return signs * (sizes + wobble)


def _pass(rng: np.random.Generator, layer: Linear, rows: int, *, h: float = 1.0, s: float = 1.0) -> Pass:
    """Inputs and gradients of one call, tried until no entry of the gradient cancels."""
    while True:
        X, Y = _spread(rng, rows, layer.inputs), _spread(rng, rows, layer.outputs) / 4
        if (Y.T @ X).all() and (Y.sum(axis=0).all() or not layer.bias):
            return Pass(h * X, s * Y)


def _linear(
    bench: Bench,
    rng: np.random.Generator,
    shape: tuple[int, int],
    rows: Sequence[int],
    *,
    bias: bool = False,
    **hp: float,
) -> LayerCase:
    """A linear layer of (outputs, inputs), one call per step with so many rows each."""
    layer = Linear(shape[1], shape[0], bias)
    steps = tuple((_pass(rng, layer, count),) for count in rows)
    return LayerCase(hp=bench.hp(**{"lr": LR, "lam": LAM, **hp}), layer=layer, steps=steps)


def single(bench: Bench, rng: np.random.Generator) -> Iterable[LayerCase]:
    """One step, where the momentum is the gradient and the average the measurement."""
    for shape in SHAPES:
        for rows in (1, 2, 3):
            yield _linear(bench, rng, shape, (rows,), beta=0.0)


def biased(bench: Bench, rng: np.random.Generator) -> Iterable[LayerCase]:
    """One step with a bias, whose input 1 takes part in the normalisation."""
    for shape in SHAPES:
        case = _linear(bench, rng, shape, (2,), bias=True, beta=0.0)
        yield case
        yield _scaled(case, h=0.25)  # the bias has the largest input


def _scaled(case: LayerCase, *, h: float = 1.0, s: float = 1.0) -> LayerCase:
    steps = tuple(tuple(replace(p, h=h * p.h, s=s * p.s) for p in passes) for passes in case.steps)
    return replace(case, steps=steps)


def damped(bench: Bench, rng: np.random.Generator) -> Iterable[LayerCase]:
    """The only place where lam enters, from far below the factors to far above."""
    for lam in (2.0**-10, 2.0**-2, 4.0):
        for shape in ((2, 3), (3, 2)):
            yield _linear(bench, rng, shape, (2,), beta=0.0, lam=lam)


def constant(bench: Bench, rng: np.random.Generator) -> Iterable[LayerCase]:
    """Factors of width 1, and inputs or gradients of one size: their min-max is 0, and F = lam."""
    hp = bench.hp(lr=LR, beta=0.0, lam=LAM)
    for h, s in (([[3.0], [1.0]], [[0.5], [1.0]]), ([[1.0, -2.0]], [[0.25]])):
        step = (Pass(np.array(h), np.array(s)),)
        yield LayerCase(hp=hp, layer=Linear(len(h[0]), 1), steps=(step,) * 2)
    for m, n in ((2, 2), (3, 2)):
        signs = rng.choice([-1.0, 1.0], (2, n))
        flat = Pass(2.0 * signs, _spread(rng, 2, m) / 4)
        yield LayerCase(hp=hp, layer=Linear(n, m), steps=((flat,),) * 2)
        yield LayerCase(hp=hp, layer=Linear(m, n), steps=((Pass(4 * flat.s, flat.h),),) * 2)


def extremes(bench: Bench, rng: np.random.Generator) -> Iterable[LayerCase]:
    """Several steps whose factors keep moving."""
    for shape in ((2, 2), (2, 3), (3, 3)):
        for bias in (False, True):
            yield _linear(bench, rng, shape, (2, 4, 2), bias=bias, beta=0.0, gamma=GAMMA)


def ranges(bench: Bench, rng: np.random.Generator) -> Iterable[LayerCase]:
    """Loud and quiet measurements in turn."""
    for shape in ((2, 2), (3, 4)):
        for bias in (False, True):
            case = _linear(bench, rng, shape, (2, 1, 3), bias=bias, beta=BETA, gamma=GAMMA)
            loud, quiet = _scaled(case, h=4.0, s=2.0), _scaled(case, h=0.25, s=0.5)
            yield replace(case, steps=(loud.steps[0], quiet.steps[1], loud.steps[2]))
            yield replace(case, steps=(quiet.steps[0], loud.steps[1], quiet.steps[2]))


def plain(bench: Bench, rng: np.random.Generator) -> Iterable[LayerCase]:
    """F = lam throughout, gradients that turn and change size: the momentum and nothing else."""
    for beta in (0.5, 0.875):
        hp = bench.hp(lr=LR, beta=beta, lam=LAM)
        one = Linear(1, 1)
        yield LayerCase(hp=hp, layer=one, steps=tuple(_one(g) for g in (8.0, -3.0, 1.0, -4.0)))
        row = tuple((Pass(np.array([[1.0, -2.0, 3.0]]), np.array([[s]])),) for s in (1.0, -2.0, 4.0))
        yield LayerCase(hp=hp, layer=Linear(3, 1), steps=row)


def _one(g: float) -> tuple[Pass]:
    """A call of a 1x1 layer with gradient g."""
    return (Pass(np.ones((1, 1)), np.full((1, 1), g)),)


def constant_gradient(bench: Bench, rng: np.random.Generator) -> Iterable[LayerCase]:
    """The same batch again and again: with bias correction every step is the same."""
    for beta in (0.5, 0.9375):
        yield LayerCase(hp=bench.hp(lr=LR, beta=beta, lam=LAM), layer=Linear(1, 1), steps=(_one(1.0),) * 4)
        case = _linear(bench, rng, (2, 3), (2,), beta=beta)
        yield replace(case, steps=case.steps * 4)


def moving(bench: Bench, rng: np.random.Generator) -> Iterable[LayerCase]:
    """Momentum while the factors move: it holds gradients, divided by the F of the moment."""
    for shape in ((2, 2), (2, 3), (3, 3)):
        yield _linear(bench, rng, shape, (2, 2, 2), beta=0.75, gamma=0.25)


def averages(bench: Bench, rng: np.random.Generator) -> Iterable[LayerCase]:
    """Several measurements of much the same size; without momentum."""
    for gamma in (0.25, 0.75):
        for shape in ((1, 3), (3, 1), (2, 3), (3, 3)):
            yield _linear(bench, rng, shape, (2, 2, 2), beta=0.0, gamma=gamma)
        yield _linear(bench, rng, (3, 3), (1, 4, 2), beta=0.0, gamma=gamma)  # of more or fewer rows


def quiet_then_loud(bench: Bench, rng: np.random.Generator) -> Iterable[LayerCase]:
    """Measurements of different size: averaged first, the loud one decides; normalised first, both count."""
    for shape in ((2, 3), (3, 3)):
        case = _linear(bench, rng, shape, (2, 2, 2), beta=0.0, gamma=0.75)
        loud = _scaled(case, h=LOUD, s=2.0)
        yield replace(case, steps=(case.steps[0], loud.steps[1], case.steps[2]))
        yield replace(case, steps=(loud.steps[0], case.steps[1], case.steps[2]))


def periodic(bench: Bench, rng: np.random.Generator) -> Iterable[LayerCase]:
    """Measured at the first step and every 2 or 3 steps from there."""
    for period in (2, 3):
        for shape in ((2, 2), (2, 3)):
            yield _linear(bench, rng, shape, (2,) * 5, beta=0.0, gamma=0.25, refresh=period)


def trajectories(bench: Bench, rng: np.random.Generator) -> Iterable[LayerCase]:
    """Everything at once, with the spec's own hyper-parameters and others; also a gradient that stops."""
    for shape in ((2, 2), (2, 3), (3, 2)):
        for bias in (False, True):
            yield _linear(bench, rng, shape, (2, 3, 1, 2), bias=bias, lam=bench.hp()["lam"])
    case = _linear(bench, rng, (2, 3), (2, 2, 2), beta=BETA, gamma=0.25)
    (last,) = case.steps[-1]
    silent = (replace(last, s=np.zeros_like(last.s)),)
    yield replace(case, steps=(*case.steps, silent, silent))


def decayed(bench: Bench, rng: np.random.Generator) -> Iterable[LayerCase]:
    """Weights that shrink alone, under zero gradients, and together with a step."""
    for shape, bias in (((1, 1), False), ((2, 2), False), ((2, 3), True)):
        case = _linear(bench, rng, shape, (2, 2), bias=bias, beta=BETA, gamma=GAMMA, weight_decay=0.5)
        start: Array = 1.0 + np.arange(prod(case.layer.shape), dtype=float).reshape(case.layer.shape)
        yield replace(_scaled(case, s=0.0), start=start)
        yield replace(_scaled(case, s=0.25), start=start)


def tokens(bench: Bench, rng: np.random.Generator) -> Iterable[LayerCase]:
    """Inputs (N, T, n): tokens are rows."""
    for N, T in ((2, 3), (1, 4)):
        flat = _linear(bench, rng, (2, 3), (N * T, N * T), bias=True, beta=0.0, gamma=GAMMA)
        yield _reshaped(flat, N, T)


def _reshaped(case: LayerCase, N: int, T: int) -> LayerCase:
    steps = tuple(
        tuple(replace(p, h=p.h.reshape(N, T, -1), s=p.s.reshape(N, T, -1)) for p in passes)
        for passes in case.steps
    )
    return replace(case, steps=steps)


def _calls(
    bench: Bench, rng: np.random.Generator, rows: Sequence[int], ways: Sequence[How]
) -> Iterator[LayerCase]:
    """Steps of several calls each, of so many rows, made in these ways."""
    for shape, bias in (((2, 2), False), ((2, 3), True)):
        layer = Linear(shape[1], shape[0], bias)
        steps = tuple(
            tuple(
                replace(_pass(rng, layer, count, h=1.0 + i), how=how)
                for i, (count, how) in enumerate(zip(rows, ways, strict=True))
            )
            for _ in range(2)
        )
        yield LayerCase(hp=bench.hp(lr=LR, beta=0.0, gamma=GAMMA, lam=LAM), layer=layer, steps=steps)


def reused(bench: Bench, rng: np.random.Generator) -> Iterable[LayerCase]:
    """A module called twice, or three times, in one forward pass."""
    yield from _calls(bench, rng, (2, 2), ("backward", "joint"))
    yield from _calls(bench, rng, (1, 3), ("backward", "joint"))


def accumulated(bench: Bench, rng: np.random.Generator) -> Iterable[LayerCase]:
    """Gradients of several backward passes before a step."""
    yield from _calls(bench, rng, (2, 2), ("backward", "backward"))
    yield from _calls(bench, rng, (3, 1), ("backward", "backward"))


def evaluated(bench: Bench, rng: np.random.Generator) -> Iterable[LayerCase]:
    """Calls in evaluation mode, and one that is never differentiated, between the others."""
    yield from _calls(bench, rng, (2, 2), ("backward", "eval"))
    yield from _calls(bench, rng, (2, 2), ("eval", "backward"))
    yield from _calls(bench, rng, (2, 2), ("unused", "backward"))


def zeros(bench: Bench, rng: np.random.Generator) -> Iterable[LayerCase]:
    """No gradient at all."""
    for shape in ((1, 1), (2, 3)):
        yield _scaled(_linear(bench, rng, shape, (2, 2), beta=BETA, gamma=GAMMA), s=0.0)


def golden(bench: Bench, rng: np.random.Generator) -> Iterable[LayerCase]:
    """The two-sample layer, then two more batches."""
    steps = tuple((Pass(np.array(h), np.array(s)),) for h, s in GOLDEN_STEPS)
    yield LayerCase(
        hp=bench.hp(lr=LR, beta=BETA, gamma=GAMMA, lam=LAM), layer=Linear(2, 2, True), steps=steps
    )


#: Layers by kind, each with shapes of inputs and gradients.
LAYERS: dict[str, tuple[tuple[Layer, tuple[int, ...], tuple[int, ...]], ...]] = {
    "conv1d": ((Convolution(2, 3, (2,), stride=2, padding=1), (2, 2, 5), (2, 3, 3)),),
    "conv2d": (
        (Convolution(2, 2, (2, 2)), (2, 2, 3, 3), (2, 2, 2, 2)),
        (Convolution(1, 3, (3, 1), stride=2, padding=1, bias=False), (1, 1, 5, 3), (1, 3, 3, 3)),
        (Convolution(2, 2, (2, 1), dilation=2), (2, 2, 4, 2), (2, 2, 2, 2)),
    ),
    "conv2d-grouped": (
        (Convolution(4, 4, (2, 1), groups=2), (2, 4, 3, 2), (2, 4, 2, 2)),
        (Convolution(3, 3, (2, 2), groups=3, bias=False), (2, 3, 3, 3), (2, 3, 2, 2)),
    ),
    "conv3d": ((Convolution(1, 2, (2, 1, 2), padding=1), (1, 1, 2, 1, 2), (1, 2, 3, 3, 3)),),
    "embedding": ((Embedding(4, 3), (6,), (6, 3)), (Embedding(3, 2), (2, 4), (2, 4, 2))),
    "batch-norm": (
        (Normalization("BatchNorm1d", 3), (4, 3), (4, 3)),
        (Normalization("BatchNorm2d", 2), (2, 2, 3, 2), (2, 2, 3, 2)),
    ),
    "layer-norm": (
        (Normalization("LayerNorm", 4), (3, 4), (3, 4)),
        (Normalization("LayerNorm", 3), (2, 2, 3), (2, 2, 3)),
    ),
    "group-norm": ((Normalization("GroupNorm", 4, groups=2), (2, 4, 2, 2), (2, 4, 2, 2)),),
    "rms-norm": ((Normalization("RMSNorm", 4), (3, 4), (3, 4)),),
}


def layers_of(kind: str, bench: Bench, rng: np.random.Generator) -> Iterator[LayerCase]:
    """Two steps of each layer of a kind."""
    for layer, inputs, outputs in LAYERS[kind]:
        # Normalised activations are rounded before they are squared; and W is 1, not 0, where U is read off.
        chosen = {"lr": 2.0**4, "lam": 0.5} if isinstance(layer, Normalization) else {"lr": LR, "lam": LAM}
        hp = bench.hp(beta=0.0, gamma=GAMMA, **chosen)
        steps = tuple((_random_pass(rng, layer, inputs, outputs),) for _ in range(2))
        yield LayerCase(hp=hp, layer=layer, steps=steps)


def _random_pass(
    rng: np.random.Generator, layer: Layer, inputs: tuple[int, ...], outputs: tuple[int, ...]
) -> Pass:
    """Integers and quarters, another size for each channel; indices that hit every entry but the last."""
    s = rng.choice([-1.0, 1.0], outputs) * _sizes(layer, outputs) / 4
    if isinstance(layer, Embedding):
        count = prod(inputs)
        indices = np.concatenate([np.arange(layer.entries - 1), rng.integers(0, layer.entries - 1, count)])
        return Pass(indices[:count].reshape(inputs).astype(float), s)
    if isinstance(layer, Normalization):
        return Pass(rng.integers(-1, 2, inputs) + _sizes(layer, inputs) * rng.choice([-2, 2], inputs), s)
    return Pass(rng.choice([-1.0, 1.0], inputs) * (_sizes(layer, inputs) + rng.integers(0, 2, inputs)), s)


def _sizes(layer: Layer, shape: tuple[int, ...]) -> Array:
    """1, 2, 3, ... along the channels."""
    last = isinstance(layer, Embedding) or (isinstance(layer, Normalization) and layer.channels_last)
    axis = len(shape) - 1 if last else 1
    along = [1] * len(shape)
    along[axis] = shape[axis]
    return np.broadcast_to((1.0 + np.arange(shape[axis])).reshape(along), shape)
