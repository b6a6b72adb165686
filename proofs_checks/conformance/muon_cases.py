"""Inputs that isolate the equations of Muon, one function per check.

Symbols: G gradient (m, n), V momentum, NS the iteration; see `proofs_checks.conformance.muon`.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from proofs_checks.conformance.bench import Bench
from proofs_checks.conformance.case import Array, Case
from proofs_checks.conformance.judges import signed_permutation

__all__ = [
    "LR",
    "SCALES",
    "decay",
    "dense_gradients",
    "diagonal",
    "few_steps",
    "golden",
    "momentum",
    "sequences",
    "shapes",
    "small_values",
    "trajectories",
    "zero_border",
    "zeros",
]

#: Step sizes and weights are powers of two: products with them are exact in every dtype.
LR, BETA, STRONG_DECAY = 0.5, 0.5, 1.5
#: Small singular values, powers of two, that five Jordan steps (slope at most 3.4445^5 = 485) keep below 1.
SMALL = (2.0**-5, 2.0**-8, 2.0**-11)
#: Scales of the gradient that a step must not see. From 2^-20 down Muon's epsilon of 1e-7 would show.
SCALES = (2.0**-10, 2.0**10, 2.0**30)
SHAPES = ((1, 1), (2, 2), (2, 3), (3, 2), (4, 4), (2, 8), (8, 2))


def diagonal(shape: tuple[int, int], *values: float) -> Array:
    """A rectangular diagonal matrix."""
    X = np.zeros(shape)
    np.fill_diagonal(X, values)
    return X


def _diagonals(shape: tuple[int, int], *rows: tuple[float, ...]) -> tuple[Array, ...]:
    return tuple(diagonal(shape, *row) for row in rows)


def _single(bench: Bench, *gradients: Array, **hp: float) -> Iterator[Case]:
    """One step without momentum on each gradient."""
    for G in gradients:
        yield Case(bench.hp(lr=LR, momentum=0.0, **hp), (bench.cast(G),))


def _dense(rng: np.random.Generator, shape: tuple[int, int], *, decades: float = 0.5) -> Array:
    """Random singular vectors, singular values spread over `decades`, norm of order 1."""
    r = min(shape)
    U, V = (np.linalg.qr(rng.standard_normal((side, r)))[0] for side in shape)
    return (U * np.logspace(0.0, -decades, r)) @ V.T


def small_values(bench: Bench, rng: np.random.Generator) -> Iterable[Case]:
    """Diagonal gradients with one large and one small singular value: read-outs of the slope at 0."""
    for shape in ((2, 2), (2, 3), (3, 2)):
        yield from _single(bench, *(diagonal(shape, 1.0, small) for small in SMALL))
    yield from _single(bench, diagonal((1, 1), 1.0), diagonal((1, 3), -2.0), 3.0 * signed_permutation(2))


def _conformal(a: float, b: float) -> Array:
    """A multiple of a rotation: equal singular values keep the budget small in any precision."""
    return np.array([[a, -b], [b, a]])


def dense_gradients(bench: Bench, rng: np.random.Generator) -> Iterable[Case]:
    """Single steps that mix directions; multiples of rotations are resolved in bfloat16, too."""
    yield from _single(
        bench, _conformal(1.0, 2.0), _conformal(-3.0, 1.0), np.diag([1.0, -1.0]) @ _conformal(2.0, 1.0)
    )
    for shape in SHAPES:
        yield from _single(bench, _dense(rng, shape))


def few_steps(bench: Bench, rng: np.random.Generator) -> Iterable[Case]:
    """One, two and three iterations: the budget of each is small enough to see every coefficient."""
    for steps in (1, 2, 3):
        for shape in ((3, 3), (2, 4), (4, 2)):
            yield from _single(bench, _dense(rng, shape), diagonal(shape, 1.0, 0.25), ns_steps=steps)


def zero_border(bench: Bench, rng: np.random.Generator) -> Iterable[Case]:
    """Two equal rows or columns among zeros: ``p(G G^T) G`` and ``p(G^T G) G`` differ at first glance."""
    for shape in ((2, 2), (2, 3), (3, 2)):
        row, column = np.zeros(shape), np.zeros(shape)
        row[0, :2], column[:2, 0] = 1.0, 1.0
        yield from _single(bench, row, column)


def shapes(bench: Bench, rng: np.random.Generator) -> Iterable[Case]:
    """Tall, wide and square matrices with a small singular value that is well resolved."""
    for shape in ((4, 1), (9, 1), (8, 2), (1, 4), (2, 8), (2, 2), (3, 3)):
        yield from _single(bench, diagonal(shape, 1.0, SMALL[1]))


def momentum(bench: Bench, rng: np.random.Generator) -> Iterable[Case]:
    """Sequences on which the sign of a direction, or the ratio of two, shows the momentum."""
    for beta in (BETA, 0.875):
        hp = bench.hp(lr=LR, momentum=beta)
        for shape in ((1, 1), (2, 2), (1, 3), (3, 1)):
            for unit in (1.0, 2.0**-10, 2.0**10):
                rows = ((16.0, -16.0), (-4.0, 4.0), (8.0, 1.0), (-1.0, -4.0))
                yield Case(
                    hp, tuple(unit * G for G in _diagonals(shape, *(row[: min(shape)] for row in rows)))
                )
        # One direction fixed, the other at another small ratio every time: NS multiplies the ratio by 485.
        ratios = (1.0, 5.0, 0.0, -3.0, 2.0)
        for shape in ((2, 2), (2, 4), (4, 2)):
            for unit in (1.0, 2.0**10, 2.0**-10):
                yield Case(hp, tuple(unit * diagonal(shape, 1.0, SMALL[2] * ratio) for ratio in ratios))


def trajectories(bench: Bench, rng: np.random.Generator) -> Iterable[Case]:
    """Several steps that mix directions."""
    turns = ((4.0, 1.0), (-1.0, 2.0), (2.0, -3.0), (-1.0, 1.0))
    yield Case(bench.hp(lr=LR, momentum=BETA), tuple(_conformal(a, b) for a, b in turns))
    for shape in SHAPES:
        base = _dense(rng, shape)
        steps = tuple(bench.cast(base + 0.25 * _dense(rng, shape)) for _ in range(4))
        yield Case(bench.hp(lr=LR), steps)


def decay(bench: Bench, rng: np.random.Generator) -> Iterable[Case]:
    """Weights that shrink alone, under zero gradients, and together with a step."""
    hp = bench.hp(lr=LR, momentum=0.0, weight_decay=STRONG_DECAY)
    for shape in ((1, 1), (2, 2), (2, 3), (3, 2)):
        start = bench.cast(np.full(shape, 1.0) + np.arange(shape[0])[:, None])
        yield Case(hp, (np.zeros(shape),) * 2, start)
        yield Case(hp, _diagonals(shape, (1.0, SMALL[0]), (1.0, -SMALL[0])), start)


def sequences(bench: Bench, rng: np.random.Generator) -> Iterable[Case]:
    """Short sequences, diagonal or of small integers, which stay exact when turned by `hadamard`."""
    hp = bench.hp(lr=LR, momentum=BETA)
    for shape in ((1, 1), (2, 2), (2, 3), (4, 2), (4, 4)):
        rows = ((1.0, SMALL[1]), (0.5, -2.0 * SMALL[1]), (1.0, SMALL[1]))
        yield Case(hp, _diagonals(shape, *(row[: min(shape)] for row in rows)))
        yield Case(hp, tuple(4.0 * np.eye(*shape) + rng.integers(-1, 2, shape) for _ in range(3)))


def zeros(bench: Bench, rng: np.random.Generator) -> Iterable[Case]:
    """No gradient at all."""
    for shape in ((1, 1), (2, 3)):
        yield Case(bench.hp(lr=LR), (np.zeros(shape),) * 2)


def golden(bench: Bench, rng: np.random.Generator) -> Iterable[Case]:
    """Without Nesterov ``V_t = diag(3, 4), diag(5, 12), diag(8, 15)`` exactly."""
    rows = ((6.0, 8.0), (7.0, 20.0), (11.0, 18.0))
    for shape in ((2, 2), (3, 2), (2, 4)):
        yield Case(bench.hp(lr=LR, momentum=BETA), _diagonals(shape, *rows))
