"""Running error analysis: numbers and matrices that carry a bound on what rounding may have done to them.

Symbols: u unit roundoff, e error bound, k inner length of a product or side of a matrix, s singular values.

Every operation passes on the errors of what it is given and adds its own, to first order in u (Higham,
"Accuracy and Stability of Numerical Algorithms", 2002, section 3.3): a formula evaluated once gives its value
and its budget. An implementation may arrange a formula otherwise (a fused product, an interpolation
``a + w (b - a)``, a quotient in place of a product); each such arrangement has at most twice the roundings,
so every operation is charged `ARRANGEMENT` times. `Rounded` bounds each entry, `Normed` the Frobenius norm.
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from proofs_checks.budgets import iteration_budget
from proofs_checks.decision import Array
from proofs_checks.polynomials import Polynomial
from proofs_checks.ratios import forward_polar

__all__ = ["Normed", "Rounded"]

#: How often every operation is charged, for other arrangements of the same formula.
ARRANGEMENT = 2.0

#: Units in the last place that a library's power function may be off, where a square root is off by half.
POWER_ROUNDINGS = 4.0

#: A symmetric eigendecomposition multiplies by orthogonal matrices, and so does what is put together from it:
#: rows, columns, the product and a store, of inner length k each.
DECOMPOSITION_ROUNDINGS = 4.0


@dataclass(frozen=True)
class Rounded:
    """Entries with a bound on the error of each.

    Attributes
    ----------
    value, error : (...) float64
        The entries and the bounds, at least 0.
    u : float
        Unit roundoff of the computation.
    """

    value: Array
    error: Array
    u: float

    @classmethod
    def of(cls, value: ArrayLike, u: float) -> Self:
        """An input, which is exact."""
        X = np.asarray(value, dtype=np.float64)
        return cls(X, np.zeros_like(X), u)

    @classmethod
    def parameter(cls, value: float, u: float) -> Self:
        """A hyper-parameter, stored in the working precision."""
        return cls(np.asarray(value), np.asarray(u * abs(value)), u)

    @property
    def budget(self) -> Array:
        """What an implementation may be off, entry by entry."""
        return self.error

    def _made(self, value: Array, passed_on: Array, terms: Array) -> "Rounded":
        return Rounded(value, passed_on + ARRANGEMENT * self.u * terms, self.u)

    def __add__(self, other: "Rounded") -> "Rounded":
        terms = np.abs(self.value) + np.abs(other.value)
        return self._made(self.value + other.value, self.error + other.error, terms)

    def __sub__(self, other: "Rounded") -> "Rounded":
        return self + Rounded(-other.value, other.error, self.u)

    def __mul__(self, other: "Rounded") -> "Rounded":
        value = self.value * other.value
        passed_on = np.abs(self.value) * other.error + (np.abs(other.value) + other.error) * self.error
        return self._made(value, passed_on, np.abs(value))

    def __truediv__(self, other: "Rounded") -> "Rounded":
        """The quotient; an exact 0 stays 0 whatever it is divided by. No bound where the divisor may be 0."""
        nothing = (self.value == 0) & (self.error == 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            value = np.where(nothing, 0.0, self.value / other.value)
            distance = np.maximum(np.abs(other.value) - other.error, 0.0)
            passed_on = np.where(nothing, 0.0, (self.error + np.abs(value) * other.error) / distance)
        return self._made(value, passed_on, np.abs(value))

    def sum(self) -> "Rounded":
        """Sum of all entries, in any order."""
        terms = np.asarray(self.value.size * np.abs(self.value).sum())
        return self._made(np.asarray(self.value.sum()), np.asarray(self.error.sum()), terms)

    def power(self, exponent: float) -> "Rounded":
        """``x^exponent`` of entries at least 0, exponent in [0, 1], where the power is concave."""
        if not 0 <= exponent <= 1:
            raise ValueError(f"exponent must be in [0, 1], got {exponent}")
        value = self.value**exponent
        below = np.where(self.error > 0, value - np.maximum(self.value - self.error, 0.0) ** exponent, 0.0)
        return self._made(value, below, POWER_ROUNDINGS * value)

    def extreme(self, sign: int) -> "Rounded":
        """The largest (sign 1) or least (sign -1) entry: no rounding, and the largest error at worst."""
        return Rounded(
            np.asarray(sign * (sign * self.value).max()), np.asarray(self.error.max(initial=0.0)), self.u
        )

    def at(self, index: tuple[slice | None, ...]) -> "Rounded":
        """Entries picked or broadcast by `index`."""
        return Rounded(self.value[index], self.error[index], self.u)


@dataclass(frozen=True)
class Normed:
    """A matrix with a bound on the Frobenius norm of its error.

    Attributes
    ----------
    value : (m, n) float64
        The matrix.
    error : float
        The bound, at least 0.
    u : float
        Unit roundoff of the computation.
    """

    value: Array
    error: float
    u: float

    @classmethod
    def of(cls, value: ArrayLike, u: float) -> Self:
        """An input, which is exact."""
        return cls(np.asarray(value, dtype=np.float64), 0.0, u)

    @property
    def budget(self) -> Array:
        """What an implementation may be off, in the Frobenius norm."""
        return np.asarray(self.error)

    @property
    def T(self) -> "Normed":
        """The transpose."""
        return Normed(self.value.T, self.error, self.u)

    @property
    def size(self) -> float:
        """Frobenius norm."""
        return float(np.linalg.norm(self.value))

    def _made(self, value: Array, passed_on: float, terms: float) -> "Normed":
        return Normed(value, passed_on + ARRANGEMENT * self.u * terms, self.u)

    def __add__(self, other: "Normed") -> "Normed":
        return self._made(self.value + other.value, self.error + other.error, self.size + other.size)

    def __sub__(self, other: "Normed") -> "Normed":
        return self + Normed(-other.value, other.error, self.u)

    def __mul__(self, c: Rounded) -> "Normed":
        """The matrix times a number."""
        factor, blur = float(c.value), float(c.error)
        value = factor * self.value
        passed_on = abs(factor) * self.error + (self.size + self.error) * blur
        return self._made(value, passed_on, float(np.linalg.norm(value)))

    def __truediv__(self, c: Rounded) -> "Normed":
        return self * (Rounded.of(1.0, self.u) / c)

    def __matmul__(self, other: "Normed") -> "Normed":
        """A product: every entry is a sum of k terms, in any order."""
        passed_on = _spectral(self.value) * other.error + (_spectral(other.value) + other.error) * self.error
        terms = self.value.shape[1] * self.size * other.size
        return self._made(self.value @ other.value, passed_on, terms)

    def trace(self) -> Rounded:
        """Sum of the diagonal: an error of the matrix moves it by at most ``sqrt(k)`` times its norm."""
        k, diagonal = len(self.value), np.diagonal(self.value)
        terms = k * float(np.abs(diagonal).sum())
        passed_on = math.sqrt(k) * self.error + ARRANGEMENT * self.u * terms
        return Rounded(np.asarray(diagonal.sum()), np.asarray(passed_on), self.u)

    def norm(self) -> Rounded:
        """Frobenius norm: a sum of mn squares and its root, which halves the relative error."""
        terms = (0.5 * self.value.size + 1.0) * self.size
        passed_on = self.error + ARRANGEMENT * self.u * terms
        return Rounded(np.asarray(self.size), np.asarray(passed_on), self.u)

    def power(self, exponent: float) -> "Normed":
        """``P^exponent`` of a symmetric positive definite P, exponent below 0.

        The decomposition is exact for P + E with ``|E|_F`` at most ``4 k u |P|_F``. ``x^exponent`` falls
        convexly, so its largest divided difference is its slope at the least eigenvalue that P + E can have,
        and that bounds what any E does (Daleckii-Krein).
        """
        if exponent >= 0:
            raise ValueError(f"exponent must be below 0, got {exponent}")
        k = len(self.value)
        w, V = np.linalg.eigh(self.value)
        blur = self.error + ARRANGEMENT * DECOMPOSITION_ROUNDINGS * k * self.u * self.size
        least = float(w[0]) - blur
        slope = -exponent * least ** (exponent - 1) if least > 0 else math.inf
        powers = w**exponent
        terms = DECOMPOSITION_ROUNDINGS * k * float(np.linalg.norm(powers))
        return self._made((V * powers) @ V.T, slope * blur, terms)

    def polar(self) -> "Normed":
        """Polar factor: the budget of `proofs_checks.ratios.forward_polar`, and the error of the matrix.

        An error moves the factor of a square matrix by at most ``2 / (s_(r-1) + s_r)`` times its size, and of
        a rectangular one by ``1 / s_r``. With an error and without full rank nothing is determined.
        """
        U, s, Vt = np.linalg.svd(self.value, full_matrices=False)
        if not self.value.any() and self.error == 0:
            return self
        kept = s > np.finfo(np.float64).eps * max(self.value.shape) * s[0]
        Q = (U * kept) @ Vt
        own = forward_polar(Q, self.value, u=self.u).figures
        rounding = ARRANGEMENT * math.hypot(own["resolved_budget"], own["leakage_budget"])
        return Normed(Q, rounding + _polar_growth(s, self.value.shape, self.error) * self.error, self.u)

    def newton_schulz(
        self,
        polynomials: tuple[Polynomial, ...],
        *,
        normalize: bool = True,
        floor: float = 0.0,
        shift: float = 0.0,
    ) -> "Normed":
        """Odd polynomials in turn: the budget of `proofs_checks.budgets.iteration_budget`.

        An error of the matrix, relative to what it is divided by, grows by the amplification.
        """
        own = iteration_budget(
            self.value,
            polynomials or ((1.0,),),
            u=self.u,
            steps=len(polynomials),
            normalize=normalize,
            floor=floor,
            shift=shift,
        )
        divisor = max(self.size + shift, floor) if normalize else 1.0
        blur = self.error / divisor if divisor else 0.0
        return Normed(own.exact, ARRANGEMENT * own.total + own.amplification * blur, self.u)


def _polar_growth(s: Array, shape: tuple[int, ...], error: float) -> float:
    """Largest growth of an error of the given size in the polar factor."""
    if error == 0 or shape == (1, 1):
        return 0.0
    square = shape[0] == shape[1]
    distance = (float(s[-1] + s[-2]) / 2 if square else float(s[-1])) - error
    return 1.0 / distance if distance > 0 and s[-1] > error else math.inf


def _spectral(A: Array) -> float:
    return float(np.linalg.norm(A, 2)) if A.size else 0.0
