"""Compositions of odd polynomials on singular values: values, images of intervals, divided differences.

One step is ``p(x) = sum_j c_j x^(2j+1) = x q(x^2)``; on a matrix, X <- q(X X^T) X. Nothing here is shared
with `reference`: the judge stands apart from the judged.
"""

from collections.abc import Sequence

import numpy as np

from proofs_checks.decision import Array

__all__ = ["Polynomial", "apply", "divided", "divided_composition", "image", "step_sequence"]

Polynomial = tuple[float, ...]

#: Steps of a single polynomial when none are given: Muon's number.
MUON_STEPS = 5

#: Points at which an interval is sampled for its image.
SAMPLES = np.linspace(0.0, 1.0, 9)[:, None]


def step_sequence(
    polynomials: Polynomial | Sequence[Polynomial], *, steps: int | None = None
) -> tuple[Polynomial, ...]:
    """Spell an iteration out as one polynomial per step.

    A single coefficient tuple is repeated, 5 times unless `steps` says otherwise. Of a sequence the last
    polynomial is repeated up to `steps`; fewer `steps` than polynomials use the first ones.

    Raises
    ------
    ValueError
        If there is no polynomial, one without coefficients, a non-finite coefficient, or `steps` is negative.
    """
    rows = [tuple(np.atleast_1d(row).astype(float).tolist()) for row in polynomials]
    single = all(not isinstance(row, Sequence) for row in polynomials)
    sequence = (tuple(c for row in rows for c in row),) if single else tuple(rows)
    if not all(row and np.isfinite(row).all() for row in sequence) or not sequence:
        raise ValueError(f"polynomials must each hold at least one finite coefficient, got {polynomials!r}")
    count = steps if steps is not None else (MUON_STEPS if single else len(sequence))
    if count < 0:
        raise ValueError(f"steps must be non-negative, got {steps}")
    return sequence[:count] + sequence[-1:] * (count - len(sequence))


def apply(p: Polynomial, x: Array) -> Array:
    """``p(x)`` by Horner's rule."""
    square, value = x * x, np.zeros_like(x)
    for c in reversed(p):
        value = value * square + c
    return value * x


def divided(p: Polynomial, a: Array, b: Array, *, odd: bool) -> Array:
    """``(f(a) - f(b)) / (a - b)`` for f = p (odd) or f = q, without the division; the derivative at a = b.

    ``h_k = (a^k - b^k) / (a - b) = sum_i a^i b^(k-1-i)`` obeys ``h_(k+1) = a h_k + b^k``.
    """
    shape = np.broadcast_shapes(a.shape, b.shape)
    h, power = (np.ones(shape), b) if odd else (np.zeros(shape), np.ones(shape))
    total = np.zeros(shape)
    for c in p:
        total += c * h
        for _ in range(2 if odd else 1):
            h, power = a * h + power, power * b
    return total


def divided_composition(sequence: Sequence[Polynomial], a: Array, b: Array) -> Array:
    """Divided difference of a composition: the product of those of its steps along the two orbits.

    There is no division, and where the orbits meet the factor is the derivative.
    """
    product = np.ones(np.broadcast_shapes(a.shape, b.shape))
    for p in sequence:
        product *= divided(p, a, b, odd=True)
        a, b = apply(p, a), apply(p, b)
    return product


def image(p: Polynomial, intervals: Array) -> Array:
    """Images of intervals, (3, r): lower end, a point of the interval, upper end; the same for the images."""
    inside = apply(p, intervals[0] + (intervals[2] - intervals[0]) * SAMPLES)
    point = apply(p, intervals[1])
    return np.stack([np.minimum(inside.min(axis=0), point), point, np.maximum(inside.max(axis=0), point)])
