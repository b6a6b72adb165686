"""Matrices of every size at once: polynomials in named matrices that do not commute.

A `Letter` is a named matrix, its transpose or its inverse. A word is a product of letters; a `Matrix` is a
sum of words with scalar coefficients (SymPy expressions). Two expressions are equal for all sizes when their
difference has no word left. The rewriting rules, all of them:

1. ``(X Y)^T = Y^T X^T``, ``(X Y)^-1 = Y^-1 X^-1``; a symmetric letter is its own transpose;
2. ``X X^-1 = X^-1 X = I``; for a letter with orthonormal columns ``X^T X = I``, and ``X^T Y = 0`` if its
   columns are orthogonal to those of ``Y``;
3. a subword of shape 1 x 1 is a number and moves to the coefficient;
4. a trace is a number, named by the least of all rotations of the word and of its transpose;
5. with ``t^2 = 0``: ``(X + t Y)^-1 = X^-1 - t X^-1 Y X^-1`` and
   ``log det(X + t Y) = log det X + t tr(X^-1 Y)``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import sympy

__all__ = ["STEP", "Letter", "Matrix", "Scalar", "log_det", "trace"]

#: A SymPy expression: coefficients, dimensions, traces.
Scalar = Any

#: The size ``t`` of a perturbation; only its first power is ever read.
STEP = sympy.Symbol("t", real=True)


@dataclass(frozen=True)
class Letter:
    """A named matrix, possibly transposed or inverted, with what is known about it.

    Attributes
    ----------
    name : str
        How it prints.
    rows, cols : Scalar
        Its shape, symbols or integers.
    symmetric, invertible : bool
        Declared properties.
    orthonormal : bool
        The columns of the *untransposed* letter are orthonormal; if square, its rows as well.
    complement : str
        The name of another letter whose columns are orthogonal to this one's, if there is one.
    transposed, inverted : bool
        Which of the four relatives of the named matrix this is.
    """

    name: str
    rows: Scalar
    cols: Scalar
    symmetric: bool = False
    invertible: bool = False
    orthonormal: bool = False
    complement: str = ""
    transposed: bool = False
    inverted: bool = False

    def __str__(self) -> str:
        return self.name + ("^-1" if self.inverted else "") + ("'" if self.transposed else "")

    @property
    def T(self) -> "Letter":
        """The transpose."""
        if self.symmetric:
            return self
        return replace(self, rows=self.cols, cols=self.rows, transposed=not self.transposed)

    def inverse(self) -> "Letter":
        """The inverse; of an orthogonal letter, its transpose."""
        if self.orthonormal and self.rows == self.cols:
            return self.T
        if not self.invertible:
            raise ValueError(f"{self} must be declared invertible to be inverted")
        return replace(self, inverted=not self.inverted)

    def cancels(self, right: "Letter") -> bool:
        """Whether this letter times `right` is the identity."""
        if self.orthonormal:
            return right == self.T and (self.transposed or self.rows == self.cols)
        return self.invertible and right == self.inverse()

    def annihilates(self, right: "Letter") -> bool:
        """Whether this letter times `right` is zero."""
        return self.transposed and not right.transposed and self.complement == right.name != ""


Word = tuple[Letter, ...]


def _reduce(word: Iterable[Letter]) -> Word:
    stack: list[Letter] = []
    for letter in word:
        if stack and stack[-1].cancels(letter):
            stack.pop()
        else:
            stack.append(letter)
    return tuple(stack)


def _cut(word: Word) -> tuple[Scalar, Word]:
    """Move every proper 1 x 1 subword of `word` into a coefficient."""
    ones = [i for i, size in enumerate([*(letter.rows for letter in word), word[-1].cols]) if size == 1]
    if len(ones) <= 1:
        return sympy.Integer(1), word
    coefficient = sympy.Mul(*(_trace_of(word[i:j]) for i, j in pairwise(ones)))
    return coefficient, word[: ones[0]] + word[ones[-1] :]


def _trace_of(word: Word) -> Scalar:
    """Trace of a cyclically reduced, square, non-empty word, as a product of named symbols."""
    starts = [i for i, letter in enumerate(word) if letter.rows == 1]
    if starts and len(word) > 1:
        turned = word[starts[0] :] + word[: starts[0]]
        cuts = [i - starts[0] for i in starts] + [len(word)]
        segments = [turned[i:j] for i, j in pairwise(cuts)]
    else:
        segments = [word]
    return sympy.Mul(*(sympy.Symbol(f"tr({_necklace(segment)})", real=True) for segment in segments))


def _necklace(word: Word) -> str:
    """The least name among all rotations of `word` and of its transpose."""
    back = tuple(letter.T for letter in reversed(word))
    turns = (w[i:] + w[:i] for w in (word, back) for i in range(len(word)))
    return min(" ".join(map(str, turn)) for turn in turns)


class Matrix:
    """A polynomial in letters, of one shape.

    Parameters
    ----------
    rows, cols : Scalar
        The shape.
    terms : mapping of Word to Scalar
        Coefficient of each word; the empty word is the identity. Words are reduced here.
    """

    def __init__(self, rows: Scalar, cols: Scalar, terms: Mapping[Word, Scalar]) -> None:
        self.rows, self.cols = rows, cols
        self.terms: dict[Word, Scalar] = {}
        for word, coefficient in terms.items():
            short = _reduce(word)
            if any(left.annihilates(right) for left, right in pairwise(short)):
                continue
            factor, word = _cut(short) if short else (1, short)
            total = self.terms.pop(word, 0) + factor * coefficient
            if total != 0:
                self.terms[word] = total

    @classmethod
    def of(cls, letter: Letter) -> "Matrix":
        """The letter as a polynomial."""
        return cls(letter.rows, letter.cols, {(letter,): sympy.Integer(1)})

    @classmethod
    def identity(cls, size: Scalar) -> "Matrix":
        """The identity of a size."""
        return cls(size, size, {(): sympy.Integer(1)})

    def _same_shape(self, other: "Matrix") -> None:
        if (self.rows, self.cols) != (other.rows, other.cols):
            raise ValueError(f"shapes must agree, got {self.rows}x{self.cols} and {other.rows}x{other.cols}")

    def __add__(self, other: "Matrix") -> "Matrix":
        self._same_shape(other)
        words = {**self.terms, **other.terms}
        return Matrix(self.rows, self.cols, {w: self.terms.get(w, 0) + other.terms.get(w, 0) for w in words})

    def __rmul__(self, scalar: Scalar) -> "Matrix":
        return Matrix(self.rows, self.cols, {word: scalar * c for word, c in self.terms.items()})

    def __neg__(self) -> "Matrix":
        return -1 * self

    def __sub__(self, other: "Matrix") -> "Matrix":
        return self + (-other)

    def __matmul__(self, other: "Matrix") -> "Matrix":
        if self.cols != other.rows:
            raise ValueError(
                f"inner sizes must agree, got {self.rows}x{self.cols} @ {other.rows}x{other.cols}"
            )
        products = Matrix(self.rows, other.cols, {})
        for left, a in self.terms.items():
            for right, b in other.terms.items():
                products = products + Matrix(self.rows, other.cols, {left + right: a * b})
        return products

    @property
    def T(self) -> "Matrix":
        """The transpose."""
        turned = {tuple(letter.T for letter in reversed(word)): c for word, c in self.terms.items()}
        return Matrix(self.cols, self.rows, turned)

    def inverse(self) -> "Matrix":
        """The inverse of one word, or of one word plus a perturbation of size `STEP`."""
        base, change = self.jet()
        if len(base.terms) != 1 or self.rows != self.cols:
            raise ValueError(f"only a product of invertible letters can be inverted, got {self}")
        ((word, coefficient),) = base.terms.items()
        back = Matrix(
            self.rows, self.cols, {tuple(letter.inverse() for letter in reversed(word)): 1 / coefficient}
        )
        return back - STEP * (back @ change @ back) if change.terms else back

    def jet(self) -> tuple["Matrix", "Matrix"]:
        """Value and slope at ``STEP = 0``."""
        value = {word: sympy.sympify(c).subs(STEP, 0) for word, c in self.terms.items()}
        slope = {word: sympy.sympify(c).diff(STEP).subs(STEP, 0) for word, c in self.terms.items()}
        return Matrix(self.rows, self.cols, value), Matrix(self.rows, self.cols, slope)

    def replace(self, pattern: "Matrix", by: "Matrix") -> "Matrix":
        """Put `by` for the word `pattern` wherever it stands; a *given* relation such as ``X^T X = M``."""
        ((old, one),) = pattern.terms.items()
        pattern._same_shape(by)
        for word, coefficient in self.terms.items():
            for i in range(len(word) - len(old) + 1):
                if one == 1 and word[i : i + len(old)] == old:
                    head, tail = word[:i], word[i + len(old) :]
                    new = {head + middle + tail: coefficient * c for middle, c in by.terms.items()}
                    rest = Matrix(self.rows, self.cols, {w: c for w, c in self.terms.items() if w != word})
                    return (rest + Matrix(self.rows, self.cols, new)).replace(pattern, by)
        return self

    def __str__(self) -> str:
        return " + ".join(f"({c}) {' '.join(map(str, w)) or 'I'}" for w, c in self.terms.items()) or "0"


def trace(X: Matrix) -> Scalar:
    """Trace of a square polynomial; of the identity, its size."""
    if X.rows != X.cols:
        raise ValueError(f"X must be square to have a trace, got {X.rows}x{X.cols}")
    return sympy.Add(*(c * _cyclic_trace(word, X.rows) for word, c in X.terms.items()))


def _cyclic_trace(word: Word, size: Scalar) -> Scalar:
    """Trace of a word of the given size; cyclic cancellation may empty it."""
    while len(word) > 1 and word[-1].cancels(word[0]):
        size, word = word[0].cols, _reduce(word[1:-1])
    if word and word[-1].annihilates(word[0]):
        return sympy.Integer(0)
    return _trace_of(word) if word else size


def log_det(X: Matrix) -> Scalar:
    """Log-determinant of ``c`` times one letter, plus a perturbation of size `STEP`."""
    base, change = X.jet()
    if len(base.terms) != 1 or len(word := next(iter(base.terms))) != 1:
        raise ValueError(f"only a multiple of one letter has a log det here, got {X}")
    coefficient, letter = base.terms[word], word[0]
    value = X.rows * sympy.log(coefficient) + (-1 if letter.inverted else 1) * sympy.Symbol(
        f"logdet({letter.name})", real=True
    )
    return value + STEP * trace(base.inverse() @ change)
