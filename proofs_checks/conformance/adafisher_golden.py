"""AdaFisher on a linear layer in exact rational arithmetic, written without the reference.

Symbols: h inputs with the constant 1 of the bias appended, s gradients at the output, x' the min-max
normalisation of x, F denominator, G gradient, M momentum. Source: adafisher.md sections 1, 1.1 and 4.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np

from proofs_checks.conformance.case import Array
from proofs_checks.conformance.layer_case import LayerCase
from proofs_checks.conformance.layers import Linear

__all__ = ["updates"]

_Row = list[Fraction]
#: Added to the range by the released code, which also weighs old and new by a tenth and a hundredth of gamma.
RELEASED_EPSILON, TENTH, HUNDREDTH = Fraction(1, 10**6), Fraction(1, 10), Fraction(1, 100)


def updates(case: LayerCase, variant: Mapping[str, object]) -> tuple[Array, ...]:
    """U_1, U_2, ... with one call of a linear layer per step, each rounded once at the end."""
    assert isinstance(case.layer, Linear)
    beta, gamma, lam = (Fraction(float(case.hp[name])) for name in ("beta", "gamma", "lam"))
    h_D: _Row | None = None
    s_D: _Row | None = None
    M = [[Fraction(0)] * case.layer.shape[1] for _ in range(case.layer.shape[0])]
    out = []
    for t, (call,) in enumerate(case.steps, start=1):
        h = [[*map(Fraction, row), *[Fraction(1)] * case.layer.bias] for row in call.h.tolist()]
        s = [[*map(Fraction, row)] for row in call.s.tolist()]
        if (t - 1) % int(case.hp["refresh"]) == 0:
            h_D = _averaged(h_D, _mean_squares(h), gamma, variant)
            s_D = _averaged(s_D, _mean_squares(s), gamma, variant)
        assert h_D is not None
        assert s_D is not None
        h_used, s_used = _used(h_D, variant), _used(s_D, variant)
        corrected = 1 - beta**t
        U = np.empty(case.layer.shape)
        for j, k in np.ndindex(U.shape):
            G = sum((rows[j] * inputs[k] for rows, inputs in zip(s, h, strict=True)), start=Fraction(0))
            M[j][k] = beta * M[j][k] + (1 - beta) * G
            U[j, k] = float(M[j][k] / corrected / (s_used[j] * h_used[k] + lam))
        out.append(U)
    return tuple(out)


def _mean_squares(rows: Sequence[_Row]) -> _Row:
    return [sum((x * x for x in column), start=Fraction(0)) / len(rows) for column in zip(*rows, strict=True)]


def _minmax(x: _Row, epsilon: Fraction, *, relative: bool) -> _Row:
    low, width = min(x), max(x) - min(x)
    divisor = width * (1 + epsilon) if relative else width + epsilon
    return [(value - low) / divisor if width else Fraction(0) for value in x]


def _own(variant: Mapping[str, object]) -> tuple[Fraction, bool]:
    epsilon = variant["epsilon"]
    assert isinstance(epsilon, float | int)
    return Fraction(epsilon), bool(variant["relative"])


def _averaged(old: _Row | None, new: _Row, gamma: Fraction, variant: Mapping[str, object]) -> _Row:
    """The average after a measurement."""
    ones = [Fraction(1)] * len(new)
    if variant["averaging"] == "released":
        fresh = _minmax(new, RELEASED_EPSILON, relative=False)
        weights, first = (TENTH * gamma, HUNDREDTH * gamma), ones
    else:
        epsilon, relative = _own(variant)
        fresh = _minmax(new, epsilon, relative=relative) if variant["normalise"] == "before" else new
        weights = (gamma, 1 - gamma) if variant["gamma_on"] == "old" else (1 - gamma, gamma)
        if old is None and variant["initial"] == "first":
            return fresh
        first = ones
    kept = first if old is None else old
    return [weights[0] * a + weights[1] * b for a, b in zip(kept, fresh, strict=True)]


def _used(d: _Row, variant: Mapping[str, object]) -> _Row:
    """The factor in F: normalised, unless its measurements were."""
    if variant["averaging"] == "released" or variant["normalise"] == "before":
        return d
    epsilon, relative = _own(variant)
    return _minmax(d, epsilon, relative=relative)
