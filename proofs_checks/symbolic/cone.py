"""A calculus of non-negative things, in which an inequality is proved by writing down its slack.

A `Psd` is a matrix known to be positive semidefinite, a `Nonnegative` a scalar known to be at least zero.
Hypotheses enter through `Psd.assumed` and `Nonnegative.assumed`; everything else is made by rules that keep
the property: sums, products with non-negative scalars, congruence ``F X F^T``, traces, and ``tr(X) I - X``.
A proof that a matrix is positive semidefinite is therefore one equation, *matrix = value of a Psd*, which
`proof.prove` then checks for all sizes and in numbers.
"""

from dataclasses import dataclass
from typing import Any

from proofs_checks.symbolic.carriers import Carrier

__all__ = ["Nonnegative", "Psd"]


@dataclass(frozen=True)
class Nonnegative:
    """A scalar known to be at least 0; `strict` if it is known to be positive."""

    value: Any
    strict: bool = False

    @classmethod
    def assumed(cls, value: Any) -> "Nonnegative":
        """At least zero by hypothesis."""
        return cls(value)

    @classmethod
    def positive(cls, value: Any) -> "Nonnegative":
        """Above zero by hypothesis."""
        return cls(value, strict=True)

    def __add__(self, other: "Nonnegative") -> "Nonnegative":
        return Nonnegative(self.value + other.value, self.strict or other.strict)

    def __mul__(self, other: "Nonnegative") -> "Nonnegative":
        if not isinstance(other, Nonnegative):
            return NotImplemented
        return Nonnegative(self.value * other.value, self.strict and other.strict)

    def __truediv__(self, other: "Nonnegative") -> "Nonnegative":
        if not other.strict:
            raise ValueError(f"divisor must be known to be positive, got {other.value}")
        return Nonnegative(self.value / other.value, self.strict)

    def square_of(self, value: Any) -> "Nonnegative":
        """This scalar times the square of any real `value`."""
        return Nonnegative(self.value * value * value)


@dataclass(frozen=True)
class Psd:
    """A matrix known to be positive semidefinite, on the carrier `x`."""

    x: Carrier
    value: Any

    @classmethod
    def assumed(cls, x: Carrier, value: Any) -> "Psd":
        """Positive semidefinite by hypothesis."""
        return cls(x, value)

    @classmethod
    def identity(cls, x: Carrier, size: Any) -> "Psd":
        """The identity."""
        return cls(x, x.identity(size))

    @classmethod
    def gram(cls, x: Carrier, F: Any) -> "Psd":
        """``F F^T``."""
        return cls(x, F @ F.T)

    def __add__(self, other: "Psd") -> "Psd":
        return Psd(self.x, self.value + other.value)

    def __rmul__(self, scalar: Nonnegative) -> "Psd":
        return Psd(self.x, scalar.value * self.value)

    def under(self, F: Any) -> "Psd":
        """The congruence ``F X F^T``."""
        return Psd(self.x, F @ self.value @ F.T)

    def trace(self) -> Nonnegative:
        """The trace, a sum of non-negative eigenvalues."""
        return Nonnegative(self.x.trace(self.value))

    def below_trace(self, size: Any) -> "Psd":
        """``tr(X) I - X``: no eigenvalue exceeds the sum of all."""
        return Psd(self.x, self.x.trace(self.value) * self.x.identity(size) - self.value)
