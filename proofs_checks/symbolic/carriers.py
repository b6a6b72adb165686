"""The two places where one formula is evaluated: symbols of every size, and exact random numbers.

A proof writes its mathematics once, as a function of a carrier ``x``. With `Symbols` the formula becomes a
polynomial in normal form, valid for all sizes; with `Numbers` it is plain rational arithmetic on random
matrices. A wrong rewriting rule or a wrong formula shows as a disagreement. Sizes: ``m``, ``n``, ``r`` at
most both, and ``d > m``, ``e > n``.
"""

import random
from typing import Any

import sympy
from flint import fmpq

from proofs_checks.symbolic import algebra
from proofs_checks.symbolic.algebra import STEP, Letter, Matrix, Scalar
from proofs_checks.symbolic.exact import Dual, Exact

__all__ = ["Carrier", "Numbers", "Symbols"]

#: An integer, possibly as a rational.
Size = Any


class Symbols:
    """Named matrices and scalars of unspecified value and size."""

    def __init__(self) -> None:
        self.m, self.n, self.r = sympy.symbols("m n r", positive=True, integer=True)
        self.d, self.e = sympy.symbols("d e", positive=True, integer=True)
        self.t: Scalar = STEP
        self._relations: dict[Scalar, Scalar] = {}
        self._letters: dict[str, Letter] = {}

    def _declare(self, letter: Letter) -> Matrix:
        if not letter.name.isidentifier():
            raise ValueError(
                f"a matrix name must be an identifier, since traces are known by name; got {letter.name!r}"
            )
        if self._letters.setdefault(letter.name, letter) != letter:
            raise ValueError(
                f"the name {letter.name} is taken by another matrix, and traces are known by name"
            )
        return Matrix.of(letter)

    def scalar(self, name: str) -> Scalar:
        """A positive number."""
        return sympy.Symbol(name, positive=True)

    def weight(self, name: str) -> tuple[Scalar, Scalar]:
        """Two numbers in [0, 1] that sum to one."""
        weight = sympy.Symbol(name, nonnegative=True)
        rest = sympy.Symbol(f"1-{name}", nonnegative=True)
        self._relations[rest] = 1 - weight
        return weight, rest

    def matrix(self, name: str, rows: Scalar, cols: Scalar) -> Matrix:
        """An arbitrary matrix."""
        return self._declare(Letter(name, rows, cols))

    def symmetric(self, name: str, size: Scalar) -> Matrix:
        """A symmetric matrix."""
        return self._declare(Letter(name, size, size, symmetric=True))

    def positive(self, name: str, size: Scalar) -> Matrix:
        """A symmetric positive definite matrix."""
        return self._declare(Letter(name, size, size, symmetric=True, invertible=True))

    def normalised(self, name: str, size: Scalar) -> Matrix:
        """A symmetric positive definite matrix whose trace is its size."""
        X = self.positive(name, size)
        self.given(self.trace(X), size)
        return X

    def diagonal(self, name: str, size: Scalar) -> Matrix:
        """A positive diagonal matrix."""
        return self.positive(name, size)

    def invertible(self, name: str, size: Scalar) -> Matrix:
        """A square invertible matrix."""
        return self._declare(Letter(name, size, size, invertible=True))

    def isometry(self, name: str, rows: Scalar, cols: Scalar) -> Matrix:
        """A matrix with orthonormal columns; orthogonal if square."""
        return self._declare(Letter(name, rows, cols, orthonormal=True))

    def frames(self, names: tuple[str, str], size: Scalar, first: Scalar, second: Scalar) -> Any:
        """Two matrices of orthonormal columns, orthogonal to each other."""
        one, two = names
        return (
            self._declare(Letter(one, size, first, orthonormal=True, complement=two)),
            self._declare(Letter(two, size, second, orthonormal=True, complement=one)),
        )

    def identity(self, size: Scalar) -> Matrix:
        """The identity."""
        return Matrix.identity(size)

    def trace(self, X: Matrix) -> Scalar:
        """The trace."""
        return algebra.trace(X)

    def log_det(self, X: Matrix) -> Scalar:
        """The log-determinant, perturbation included."""
        return algebra.log_det(X)

    def slope(self, value: Scalar) -> Scalar:
        """The derivative of a scalar in the size ``t`` of the perturbation, at 0."""
        return sympy.diff(value, STEP).subs(STEP, 0)

    def given(self, symbol: Scalar, value: Scalar) -> None:
        """From here on the scalar `symbol` (a trace, say) is known to equal `value`."""
        self._relations[symbol] = value

    def abbreviated(self, name: str, value: Matrix) -> Matrix:
        """A letter for the symmetric positive definite `value`, so that it can be inverted."""
        return self.positive(name, value.rows)

    def unfolded(self, X: Matrix, word: Matrix, value: Matrix) -> Matrix:
        """`X` with the known `value` put for a `word`."""
        return X.replace(word, value)

    def vanishes(self, value: Any) -> bool:
        """Whether a scalar or every coefficient of a matrix is identically zero."""
        coefficients = value.terms.values() if isinstance(value, Matrix) else [value]
        return all(sympy.cancel(sympy.sympify(c).subs(self._relations)) == 0 for c in coefficients)


class Numbers:
    """Random small matrices of rationals with the same declared properties."""

    def __init__(self, seed: int, m: int, n: int) -> None:
        self._draw = random.Random(seed)
        self.m, self.n, self.r = fmpq(m), fmpq(n), fmpq(min(m, n))
        self.d, self.e = fmpq(m + 1), fmpq(n + 1)
        self.t = Dual(fmpq(0), fmpq(1))

    def _integer(self) -> int:
        return self._draw.choice([-3, -2, -1, 1, 2, 3])

    def scalar(self, name: str) -> fmpq:
        """A positive rational."""
        return fmpq(self._draw.randint(1, 9), self._draw.randint(1, 9))

    def weight(self, name: str) -> tuple[fmpq, fmpq]:
        """Two rationals in (0, 1) that sum to one."""
        weight = fmpq(self._draw.randint(1, 8), 9)
        return weight, 1 - weight

    def matrix(self, name: str, rows: Size, cols: Size) -> Exact:
        """A random integer matrix."""
        return Exact([[self._integer() for _ in range(int(cols))] for _ in range(int(rows))])

    def symmetric(self, name: str, size: Size) -> Exact:
        """A random symmetric integer matrix."""
        X = self.matrix(name, size, size)
        return X + X.T

    def positive(self, name: str, size: Size) -> Exact:
        """A Gram matrix plus the identity."""
        X = self.matrix(name, size, size)
        return X @ X.T + self.identity(size)

    def normalised(self, name: str, size: Size) -> Exact:
        """A positive matrix scaled to a trace equal to its size."""
        X = self.positive(name, size)
        return size / X.trace() * X

    def diagonal(self, name: str, size: Size) -> Exact:
        """Random positive integers on the diagonal."""
        return Exact.diagonal(*(fmpq(self._draw.randint(1, 9)) for _ in range(int(size))))

    def invertible(self, name: str, size: Size) -> Exact:
        """A positive definite matrix times a rotation: neither symmetric nor singular."""
        return self.positive(name, size) @ self.isometry(name, size, size)

    def isometry(self, name: str, rows: Size, cols: Size) -> Exact:
        """The first columns of a random rational rotation, the Cayley transform of a skew matrix."""
        return self.frames((name, ""), rows, cols, cols)[0]

    def frames(self, names: tuple[str, str], size: Size, first: Size, second: Size) -> tuple[Exact, Exact]:
        """The first and the last columns of a random rational rotation."""
        X, one = self.matrix("", size, size), self.identity(size)
        rotation = (one - X + X.T) @ (one + X - X.T).inverse()
        left, right = int(first), int(size) - int(second)
        return Exact([row[:left] for row in rotation.entries]), Exact(
            [row[right:] for row in rotation.entries]
        )

    def identity(self, size: Size) -> Exact:
        """The identity."""
        return Exact.identity(int(size))

    def trace(self, X: Exact) -> Any:
        """The trace."""
        return X.trace()

    def log_det(self, X: Exact) -> Dual:
        """The logarithm of the determinant up to its constant, which no rational can hold."""
        determinant = Dual.of(X.determinant())
        return Dual(fmpq(0), determinant.slope / determinant.value)

    def slope(self, value: Dual) -> fmpq:
        """The derivative in ``t``."""
        return value.slope

    def given(self, symbol: Any, value: Any) -> None:
        """Nothing: numbers already satisfy their relations."""

    def abbreviated(self, name: str, value: Exact) -> Exact:
        """`value` itself."""
        return value

    def unfolded(self, X: Exact, word: Exact, value: Exact) -> Exact:
        """`X` itself, where `word` has its value already; a wrong value is refused."""
        if word != value:
            raise ValueError("the value put for a word is not its value")
        return X

    def vanishes(self, value: Any) -> bool:
        """Whether a scalar or every entry of a matrix is zero."""
        return (
            all(x == 0 for row in value.entries for x in row)
            if isinstance(value, Exact)
            else bool(value == 0)
        )


#: Either place.
Carrier = Any
