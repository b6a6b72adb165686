"""A running error analysis of AdaFisher: next to every number of Algorithm 1 a bound of its absolute error.

Symbols: h_D and s_D diagonals of the factors, h' and s' their averages after min-max normalisation, F the
denominator, G gradient, M momentum, M_hat its bias-corrected value, U = M_hat / F, u unit roundoff.

A mean of N squares has N and a few roundings; an average two products and a sum; normalised activations a few
that their layer reports. Min-max cancels:

    |error of h'_k| <= (e_k + e_min + h'_k (e_max + e_min)) / (range - e_max - e_min) + 3 u h'_k

with e the error of h_D, so nearly equal entries cost u times the entries over their range, and an entry that
is the smallest beyond doubt is 0 and has no error at all. In F the errors meet, and U inherits the error of F
over F: relative to U at most about ``u (1 + (a + b) / lam)``, for a and b the entries over their ranges.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import reference.adafisher
from proofs_checks.conformance.case import Array
from proofs_checks.conformance.layers import Block
from proofs_checks.decision import SIGNIFICANT_BITS, SINGLE

__all__ = ["Precision", "Step", "Track"]

#: Roundings of a mean of N squares beyond N: the square, the quotient, and twice a scale of s.
MEAN_ROUNDINGS = 4
#: Roundings of one weighted average and of one bias correction: two products, a sum, a quotient.
AVERAGE_ROUNDINGS = 4
#: Roundings of the min-max quotient, of F (a product and a sum), of U (a quotient and a product with lr).
QUOTIENT_ROUNDINGS, F_ROUNDINGS, STEP_ROUNDINGS = 3, 2, 3
#: Weights of old and new in the released average, as multiples of gamma (adafisher.md section 4).
RELEASED_SHARES = (0.1, 0.01)
#: Budget of what the inputs do not determine.
UNDETERMINED = float(np.finfo(np.float64).max)


@dataclass(frozen=True)
class Known:
    """Numbers with a bound of their absolute error."""

    value: Array
    error: Array


@dataclass(frozen=True)
class Precision:
    """Of the arithmetic; `bits` is the length of its significand."""

    u: float
    bits: int
    smallest: float


@dataclass(frozen=True)
class Step:
    """What the error analysis says of one step.

    Attributes
    ----------
    size, error : array
        ``|M_hat / F|`` and the bound of its error.
    product : array
        ``s' h'``.
    exact : array of bool
        Where it has no error.
    """

    size: Array
    error: Array
    product: Array
    exact: Array


class Track:
    """One block's recursion, every number with its error."""

    def __init__(self, options: Mapping[str, Any], precision: Precision, block: Block) -> None:
        self._options, self._precision = options, precision
        self._h, self._s = (Known(np.ones_like(d), np.zeros_like(d)) for d in (block.h_D, block.s_D))
        self._M: Array | float = 0.0
        self._absolute: Array | float = 0.0
        self._t, self._measured = 0, False

    def step(self, G: Array, block: Block, *, refresh: bool) -> Step:
        """Measure, average, normalise, divide."""
        u, lam = self._precision.u, self._options["lam"]
        if refresh:
            h_terms, s_terms = block.terms or (None, None)
            self._h = self._refreshed(self._h, self._fresh(block.h_D, block.h_blur, h_terms, block), block)
            self._s = self._refreshed(self._s, self._fresh(block.s_D, None, s_terms, block), block)
            self._measured = True
        h, s = (self._ready(d, block) for d in (self._h, self._s))
        product = _product(h, s, block)
        F = product.value + lam
        F_error = product.error + F_ROUNDINGS * u * F
        M_hat, M_error = self._moved(G)
        low = F - F_error
        safe = np.where(low > 0, low, 1.0)
        error = M_error / safe + M_hat * F_error / (F * safe) + STEP_ROUNDINGS * u * M_hat / F
        error = np.where(low > 0, error, np.where(M_hat + M_error > 0, UNDETERMINED, 0.0))
        return Step(M_hat / F, error, product.value, product.error == 0)

    def _moved(self, G: Array) -> tuple[Array, Array]:
        """``|M_hat|`` with its error."""
        u, beta = self._precision.u, self._options["beta"]
        self._t += 1
        self._M = beta * self._M + (1 - beta) * G
        self._absolute = beta * self._absolute + (1 - beta) * np.abs(G)
        corrected = 1 - beta**self._t
        scalar = min(u, SINGLE) * self._t * beta**self._t / corrected  # beta^t, in float32 at worst
        error = (AVERAGE_ROUNDINGS * self._t * u + scalar) * self._absolute / corrected
        return np.abs(self._M / corrected), error

    def _fresh(self, d: Array, blur: Array | None, terms: Array | None, block: Block) -> Known:
        """A measurement, without error where its terms add up exactly in any order."""
        p = self._precision
        error = (block.samples + MEAN_ROUNDINGS) * p.u * d + p.smallest * (d > 0)
        if blur is not None:
            error = error + 2 * np.sqrt(d) * blur * p.u + np.square(blur * p.u)
        return Known(d, error if terms is None else np.where(_sums_exactly(terms, p.bits), 0.0, error))

    def _refreshed(self, old: Known, new: Known, block: Block) -> Known:
        gamma, before = self._options["gamma"], self._options["normalise"] == "before"
        if self._options["averaging"] == "released":
            new = self._minmax(new, block, epsilon=reference.adafisher.RELEASED_EPSILON, relative=False)
            kept, added = (share * gamma for share in RELEASED_SHARES)
            return _weighted(old, new, kept, added, self._precision)
        new = self._own_minmax(new, block) if before else new
        if not self._measured and self._options["initial"] == "first":
            return new
        kept = gamma if self._options["gamma_on"] == "old" else 1 - gamma
        return _weighted(old, new, kept, 1 - kept, self._precision)

    def _own_minmax(self, d: Known, block: Block) -> Known:
        """With the epsilon of the variant."""
        epsilon, relative = float(self._options["epsilon"]), bool(self._options["relative"])
        return self._minmax(d, block, epsilon=epsilon, relative=relative)

    def _minmax(self, d: Known, block: Block, *, epsilon: float, relative: bool) -> Known:
        """Min-max over the last `factor_axes` axes, as in the head of the module."""
        axes, u = block.factor_axes, self._precision.u
        value = reference.adafisher.minmax_normalize(d.value, epsilon=epsilon, relative=relative, axes=axes)
        count = int(np.prod(d.value.shape[: d.value.ndim - axes]))
        columns = (X.reshape(count, -1) for X in (d.value, d.error, value))
        rows = zip(*columns, strict=True)
        error = [_minmax_error(a, e, v, u, epsilon=epsilon, relative=relative) for a, e, v in rows]
        return Known(value, np.array(error).reshape(value.shape))

    def _ready(self, d: Known, block: Block) -> Known:
        ready = self._options["averaging"] == "released" or self._options["normalise"] == "before"
        return d if ready else self._own_minmax(d, block)


def _sums_exactly(terms: Array, bits: int) -> Array:
    """Per column: whether all partial sums of these numbers, and their mean, fit into a significand."""
    total, count = terms.sum(axis=0), len(terms)
    whole = np.fmod(total / _unit(terms), count) == 0  # the mean is a multiple of the unit of its terms
    return _fits(np.vstack([terms, total]), bits) & (whole | (count & (count - 1) == 0))


def _fits(numbers: Array, bits: int) -> Array:
    """Per column: whether none of these numbers exceeds 2^bits units of what all are multiples of."""
    return np.abs(numbers).max(axis=0) <= np.ldexp(_unit(numbers), bits)


def _unit(numbers: Array) -> Array:
    """Per column: the largest power of two that all of these numbers are multiples of; 1 for zeros."""
    unit = _lowest_bit(numbers).min(axis=0)
    return np.where(np.isfinite(unit), unit, 1.0)


def _lowest_bit(X: Array) -> Array:
    """Value of the last non-zero bit; infinity for 0."""
    significand, exponent = np.frexp(X)
    whole = np.abs(np.ldexp(significand, SIGNIFICANT_BITS["float64"])).astype(np.int64)
    last = (whole & -whole).astype(np.float64)
    return np.where(X == 0, np.inf, np.ldexp(last, exponent - SIGNIFICANT_BITS["float64"]))


def _weighted(old: Known, new: Known, kept: float, added: float, precision: Precision) -> Known:
    """``kept old + added new``; no rounding where all of it fits into a significand, whatever the formula."""
    a, b = kept * old.value, added * new.value
    value = a + b
    numbers = np.stack([a, b, value, old.value - new.value])
    fits = _fits(numbers.reshape(len(numbers), -1), precision.bits).reshape(value.shape)
    rounding = AVERAGE_ROUNDINGS * precision.u * (np.abs(a) + np.abs(b))
    return Known(value, kept * old.error + added * new.error + np.where(fits, 0.0, rounding))


def _minmax_error(d: Array, e: Array, value: Array, u: float, *, epsilon: float, relative: bool) -> Array:
    """Error of ``(d - min) / range`` for one factor with errors e."""
    low, high = d - e, d + e
    smallest, largest = low <= high.min(), high >= low.max()  # which entries may be the smallest, the largest
    at_low, at_high = float(e[smallest].max()), float(e[largest].max())
    width = float(d.max() - d.min())
    if d.size == 1 or (width == 0 and not e.any()):
        return np.zeros_like(d)  # constant, whatever the rounding
    divisor = width * (1 + epsilon) if relative else width + epsilon
    least = divisor - (at_low + at_high) * (1 + (epsilon if relative else 0.0))
    if not least > 0:
        return np.ones_like(d)
    error = (e + at_low + value * (at_low + at_high)) / least + QUOTIENT_ROUNDINGS * u * value
    alone = smallest & (np.count_nonzero(smallest) == 1)
    top = largest & (np.count_nonzero(largest) == 1) & (epsilon == 0)
    return np.where(alone | top, 0.0, np.minimum(error, 1.0))


def _product(h: Known, s: Known, block: Block) -> Known:
    """``s' h'`` with its error."""

    def times(a: Array, b: Array) -> Array:
        return a[..., :, None] * b[..., None, :] if block.pairing == "outer" else a * b

    error = times(s.value, h.error) + times(s.error, h.value) + times(s.error, h.error)
    return Known(times(s.value, h.value), error)
