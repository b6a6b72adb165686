"""Small matrices of exact rationals, with the operations of `algebra.Matrix`.

Written apart from `algebra`: inverse and determinant come from elimination, not from a rewriting rule, so
that an identity which holds in both has been derived twice. Entries are rationals or dual numbers
``a + b t``, ``t^2 = 0``, which differentiate elimination exactly.
"""

from collections.abc import Sequence
from typing import Any

from flint import fmpq

__all__ = ["Dual", "Exact", "Number", "rational"]

#: A rational or a `Dual`.
Number = Any


def rational(text: str | int) -> fmpq:
    """A rational from ``"p/q"``, a decimal string or an integer, without rounding."""
    if isinstance(text, int):
        return fmpq(text)
    numerator, _, denominator = text.partition("/")
    whole, _, decimals = numerator.partition(".")
    return fmpq(int(whole + decimals), 10 ** len(decimals) * int(denominator or "1"))


class Dual:
    """``value + slope t`` with ``t^2 = 0``."""

    def __init__(self, value: fmpq, slope: fmpq) -> None:
        self.value, self.slope = value, slope

    @staticmethod
    def of(other: Number) -> "Dual":
        """A rational or a dual number as a dual number."""
        return other if isinstance(other, Dual) else Dual(fmpq(other), fmpq(0))

    def __add__(self, other: Number) -> "Dual":
        other = self.of(other)
        return Dual(self.value + other.value, self.slope + other.slope)

    def __mul__(self, other: Number) -> "Dual":
        if isinstance(other, Exact):
            return NotImplemented
        other = self.of(other)
        return Dual(self.value * other.value, self.value * other.slope + self.slope * other.value)

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> "Dual":
        return Dual(-self.value, -self.slope)

    def __sub__(self, other: Number) -> "Dual":
        return self + (-self.of(other))

    def __rsub__(self, other: Number) -> "Dual":
        return self.of(other) - self

    def __truediv__(self, other: Number) -> "Dual":
        other = self.of(other)
        quotient = self.value / other.value
        return Dual(quotient, (self.slope - quotient * other.slope) / other.value)

    def __rtruediv__(self, other: Number) -> "Dual":
        return self.of(other) / self

    def __eq__(self, other: object) -> bool:
        other = self.of(other)
        return bool(self.value == other.value and self.slope == other.slope)

    __hash__ = None  # type: ignore[assignment]


class Exact:
    """An explicit matrix; `entries` are its rows."""

    def __init__(self, entries: Sequence[Sequence[Number]]) -> None:
        self.entries = [[fmpq(x) if isinstance(x, int) else x for x in row] for row in entries]
        self.rows, self.cols = len(self.entries), len(self.entries[0])

    @classmethod
    def identity(cls, size: int) -> "Exact":
        """The identity of a size."""
        return cls([[int(i == j) for j in range(size)] for i in range(size)])

    @classmethod
    def diagonal(cls, *values: Number) -> "Exact":
        """A diagonal matrix."""
        return cls([[x if i == j else 0 for j in range(len(values))] for i, x in enumerate(values)])

    def __add__(self, other: "Exact") -> "Exact":
        return Exact(
            [
                [x + y for x, y in zip(*rows, strict=True)]
                for rows in zip(self.entries, other.entries, strict=True)
            ]
        )

    def __rmul__(self, scalar: Number) -> "Exact":
        return Exact([[scalar * x for x in row] for row in self.entries])

    def __neg__(self) -> "Exact":
        return -1 * self

    def __sub__(self, other: "Exact") -> "Exact":
        return self + (-other)

    def __matmul__(self, other: "Exact") -> "Exact":
        columns = list(zip(*other.entries, strict=True))
        return Exact(
            [
                [sum((x * y for x, y in zip(row, c, strict=True)), fmpq(0)) for c in columns]
                for row in self.entries
            ]
        )

    @property
    def T(self) -> "Exact":
        """The transpose."""
        return Exact([list(column) for column in zip(*self.entries, strict=True)])

    def column(self, j: int) -> "Exact":
        """Column `j`, as a matrix of one column."""
        return Exact([[row[j]] for row in self.entries])

    def trace(self) -> Number:
        """Sum of the diagonal."""
        return sum((self.entries[i][i] for i in range(self.rows)), fmpq(0))

    def inverse(self) -> "Exact":
        """Inverse by Gauss-Jordan elimination."""
        size = self.rows
        work = [[*row, *one] for row, one in zip(self.entries, Exact.identity(size).entries, strict=True)]
        for k in range(size):
            pivot = next((i for i in range(k, size) if work[i][k] != 0), None)
            if pivot is None:
                raise ValueError("a singular matrix has no inverse")
            work[k], work[pivot] = work[pivot], work[k]
            work[k] = [x / work[k][k] for x in work[k]]
            for i in range(size):
                if i != k:
                    work[i] = [x - work[i][k] * y for x, y in zip(work[i], work[k], strict=True)]
        return Exact([row[size:] for row in work])

    def determinant(self) -> Number:
        """Determinant by cofactors of the first row; meant for sizes up to about six."""
        if self.rows == 1:
            return self.entries[0][0]
        total = fmpq(0)
        for j, x in enumerate(self.entries[0]):
            minor = Exact([row[:j] + row[j + 1 :] for row in self.entries[1:]])
            total = total + (-1) ** j * (x * minor.determinant())
        return total

    def kron(self, other: "Exact") -> "Exact":
        """Kronecker product with `other`."""
        return Exact(
            [[x * y for x in upper for y in lower] for upper in self.entries for lower in other.entries]
        )

    def vec(self) -> "Exact":
        """Columns stacked into one."""
        return Exact([[x] for column in zip(*self.entries, strict=True) for x in column])

    def is_psd(self) -> bool:
        """Whether this symmetric matrix is positive semidefinite, by exact symmetric elimination."""
        work = [list(row) for row in self.entries]
        for k in range(self.rows):
            if work[k][k] < 0 or (work[k][k] == 0 and any(x != 0 for x in work[k][k:])):
                return False
            if work[k][k] > 0:
                for i in range(k + 1, self.rows):
                    ratio = work[i][k] / work[k][k]
                    work[i] = [x - ratio * y for x, y in zip(work[i], work[k], strict=True)]
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Exact) and self.entries == other.entries

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        return "; ".join(", ".join(map(str, row)) for row in self.entries)
