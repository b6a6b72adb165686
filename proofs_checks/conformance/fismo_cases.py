"""Inputs that isolate the equations of FISMO, one function per check.

Symbols: G gradient (m, n), P and Q factors, M momentum, W parameter; see `proofs_checks.conformance.fismo`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from proofs_checks.conformance.bench import Bench
from proofs_checks.conformance.case import Array, Case

__all__ = [
    "GOLDEN_GRADIENTS",
    "GOLDEN_HP",
    "LR",
    "SCALE",
    "averaged_columns",
    "columns",
    "damped",
    "deficient",
    "flat",
    "flat_momentum",
    "fresh",
    "golden",
    "homogeneous",
    "loud",
    "moving",
    "quiet",
    "rows",
    "signs",
    "steps",
    "symmetric",
    "trajectories",
    "zeros",
]

LR, MU = 0.5, 0.25
#: Size of gradients against which mu = 1/4 is nothing: the data terms alone.
LOUD = 2.0**6
#: Factor c of the scaling laws.
SCALE = 2.0**3
SHAPES = ((2, 2), (2, 3), (3, 2), (4, 4), (2, 5))

#: fismo.md section 8.2: three gradients and their hyper-parameters.
GOLDEN_GRADIENTS = (((1, 2, 0), (0, -1, 1)), ((0, 1, -1), (2, 0, 1)), ((1, 0, 1), (1, -1, 0)))
GOLDEN_HP = {"lr": 0.1, "beta": 0.5, "gamma": 0.5, "mu": 0.5}


def _dense(rng: np.random.Generator, shape: tuple[int, int], *, condition: float = 4.0) -> Array:
    """Random singular vectors, singular values from 1 down to 1/condition."""
    r = min(shape)
    U, V = (np.linalg.qr(rng.standard_normal((side, r)))[0] for side in shape)
    return (U * np.geomspace(1.0, 1.0 / condition, r)) @ V.T


def steps(bench: Bench, rng: np.random.Generator, shape: tuple[int, int], count: int) -> tuple[Array, ...]:
    """Gradients that share a part and vary around it, well conditioned."""
    base = _dense(rng, shape)
    return tuple(bench.cast(2.0 * base + _dense(rng, shape)) for _ in range(count))


def _each(
    bench: Bench, rng: np.random.Generator, shapes: Iterable[tuple[int, int]], count: int, **hp: float
) -> Iterator[Case]:
    for shape in shapes:
        yield Case(bench.hp(lr=LR, **hp), steps(bench, rng, shape, count))


def flat(bench: Bench, rng: np.random.Generator) -> Iterable[Case]:
    """One step under flat factors: the polar factor and nothing else."""
    yield from _each(bench, rng, ((1, 1), (1, 3), *SHAPES), 1, beta=0.0, gamma=1.0, mu=MU)


def flat_momentum(bench: Bench, rng: np.random.Generator) -> Iterable[Case]:
    """Flat factors, several steps that turn and change size: the momentum and nothing else."""
    for beta in (0.5, 0.875):
        hp = bench.hp(lr=LR, beta=beta, gamma=1.0, mu=MU)
        yield Case(hp, tuple(np.array([[g]]) for g in (8.0, -3.0, 1.0, -4.0)))
        for shape in ((2, 2), (2, 3), (3, 2)):
            base, turn = _dense(rng, shape), _dense(rng, shape)
            yield Case(
                hp, tuple(bench.cast(a * base + b * turn) for a, b in ((4, 1), (-1, 2), (1, -3), (2, 2)))
            )


def columns(bench: Bench, rng: np.random.Generator) -> Iterable[Case]:
    """n = 1: only P is at work, and the fresh P has the eigenvector G."""
    for m in (2, 3, 5):
        for size in (1.0, 4.0):
            G = size * _dense(rng, (m, 1))
            yield Case(bench.hp(lr=LR, beta=0.0, gamma=0.0, mu=MU), (bench.cast(G),))


def rows(bench: Bench, rng: np.random.Generator) -> Iterable[Case]:
    """m = 1: only Q is at work."""
    for case in columns(bench, rng):
        yield replace(case, gradients=tuple(G.T.copy() for G in case.gradients))


def averaged_columns(bench: Bench, rng: np.random.Generator) -> Iterable[Case]:
    """Several steps with 0 < gamma < 1 and one factor alone."""
    for gamma in (0.25, 0.75):
        for m in (2, 3):
            steps = tuple(bench.cast(size * _dense(rng, (m, 1))) for size in (1.0, 2.0, 1.0))
            hp = bench.hp(lr=LR, beta=0.0, gamma=gamma, mu=MU)
            yield Case(hp, steps)
            yield Case(hp, tuple(G.T.copy() for G in steps))


def fresh(bench: Bench, rng: np.random.Generator) -> Iterable[Case]:
    """One step with fresh factors: their order and both data terms."""
    yield from _each(bench, rng, SHAPES, 1, beta=0.0, gamma=0.0, mu=MU)


def loud(bench: Bench, rng: np.random.Generator) -> Iterable[Case]:
    """Gradients that drown the damping: roots, whitening and un-whitening of the data terms (m = n)."""
    for case in _each(bench, rng, ((2, 2), (3, 3)), 1, beta=0.0, gamma=0.0, mu=MU):
        yield replace(case, gradients=tuple(LOUD * G for G in case.gradients))


def damped(bench: Bench, rng: np.random.Generator) -> Iterable[Case]:
    """Two steps with a large mu: where the damping takes its scale from."""
    for mu in (1.0, 4.0):
        yield from _each(bench, rng, SHAPES, 2, beta=0.0, gamma=0.0, mu=mu)
        yield from _each(bench, rng, ((2, 3), (3, 2)), 3, beta=0.0, gamma=0.5, mu=mu)


def moving(bench: Bench, rng: np.random.Generator) -> Iterable[Case]:
    """Momentum while the factors move: it lives in whitened coordinates, under symmetric roots."""
    for gamma in (0.0, 0.5):
        for shape in ((2, 2), (2, 3), (3, 2)):
            hp = bench.hp(lr=LR, beta=0.75, gamma=gamma, mu=MU)
            yield Case(hp, tuple(bench.cast(2.0 * _dense(rng, shape)) for _ in range(3)))


def trajectories(bench: Bench, rng: np.random.Generator) -> Iterable[Case]:
    """Everything at once, with the spec's own hyper-parameters and others; also a gradient that stops."""
    yield from _each(bench, rng, SHAPES, 5)
    yield from _each(bench, rng, ((3, 3),), 4, beta=0.5, gamma=0.5, mu=MU)
    zero = np.zeros((2, 3))
    hp = bench.hp(lr=LR, beta=0.5, gamma=0.5, mu=MU)
    yield Case(hp, (*steps(bench, rng, (2, 3), 2), zero, zero))


def symmetric(bench: Bench, rng: np.random.Generator) -> Iterable[Case]:
    """Small integers: transposed, negated and turned by `hadamard` they stay exact in every dtype."""
    for shape in SHAPES:
        base = 4.0 * np.eye(*shape)
        steps = tuple(base + rng.integers(-1, 2, shape) for _ in range(3))
        yield Case(bench.hp(lr=LR, beta=0.5, gamma=0.5, mu=MU), steps)


def homogeneous(bench: Bench, rng: np.random.Generator) -> Iterable[Case]:
    """Fresh factors, so that (c G, c^2 mu) is the same step: the trace normalisation removes the scale."""
    for shape in ((2, 1), (1, 2), (2, 2), (2, 3)):
        yield Case(bench.hp(lr=LR, beta=0.0, gamma=0.0, mu=MU), steps(bench, rng, shape, 2))


def signs(bench: Bench, rng: np.random.Generator) -> Iterable[Case]:
    """1x1: P = Q = 1, the step is the sign of the averaged gradients."""
    for gamma in (0.0, 0.5):
        hp = bench.hp(lr=LR, beta=0.5, gamma=gamma, mu=MU)
        yield Case(hp, tuple(np.array([[g]]) for g in (3.0, -1.0, -4.0, 8.0)))


def deficient(bench: Bench, rng: np.random.Generator) -> Iterable[Case]:
    """Rank one, exact in every dtype: oblique under flat factors, along the axes under moving ones.

    An oblique gradient under moving factors would arrive at the polar factor with rounding in place of its
    zero singular values, above or below the cut-off as chance has it.
    """
    u, v = np.array([1.0, -2.0, 3.0, 1.0]), np.array([2.0, 1.0, -1.0, 3.0])
    for m, n in ((2, 2), (3, 2), (3, 4)):
        yield Case(bench.hp(lr=LR, beta=0.0, gamma=1.0, mu=MU), (np.outer(u[:m], v[:n]),))
        yield Case(bench.hp(lr=LR, beta=0.0, gamma=0.5, mu=MU), (2.0 * np.eye(m, 1) @ np.eye(1, n),))


def quiet(bench: Bench, rng: np.random.Generator) -> Iterable[Case]:
    """Small gradients: ``b = g^2/(mn mu) < 1``, the condition of the bound with the algorithm's damping."""
    for shape in ((2, 2), (3, 2), (2, 4)):
        hp = bench.hp(lr=LR, beta=0.5, gamma=0.25, mu=1.0)
        yield Case(hp, tuple(bench.cast(_dense(rng, shape)) for _ in range(4)))


def zeros(bench: Bench, rng: np.random.Generator) -> Iterable[Case]:
    """No gradient at all."""
    for shape in ((1, 1), (2, 3)):
        yield Case(bench.hp(lr=LR, beta=0.5, gamma=0.5, mu=MU), (np.zeros(shape),) * 2)


def golden(bench: Bench, rng: np.random.Generator) -> Iterable[Case]:
    """The printed steps."""
    steps = tuple(np.array(G, dtype=float) for G in GOLDEN_GRADIENTS)
    yield Case(bench.hp(**GOLDEN_HP), steps, start=np.zeros((2, 3)))
