"""Matrices to check with: every kind that has broken linear algebra before, made from a seed.

Each generator takes a shape and a random generator and returns a float64 matrix; its docstring says which
fault it brings to light. `named_matrices` makes all of them in one shape, rounded to a format;
`MATRICES` is a fixed set of all kinds in small shapes, square, tall, wide, single-row and empty.
"""

import zlib
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["KINDS", "MATRICES", "SHAPES", "from_spectrum", "named_matrices", "rounded"]

Array = NDArray[np.float64]
Generator = np.random.Generator

#: Condition number of the geometric spectrum: float32 still resolves every direction, bfloat16 does not.
CONDITION = 1e4

#: Smaller singular values of "one dominant direction" over its largest; noise over signal of "low rank".
GAP = 1e-4

#: Binary formats: significant bits, exponent of the smallest normal number, exponent where overflow begins.
FORMATS = {
    "float64": (53, -1022, 1024),
    "float32": (24, -126, 128),
    "float16": (11, -14, 16),
    "bfloat16": (8, -126, 128),
}

#: Shapes worth trying, by name.
SHAPES: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "single": (1, 1),
        "row": (1, 6),
        "column": (6, 1),
        "pair": (2, 2),
        "square": (5, 5),
        "tall": (7, 4),
        "wide": (3, 8),
        "large": (32, 24),
        "no rows": (0, 3),
        "no columns": (3, 0),
    }
)


def from_spectrum(m: int, n: int, singular_values: ArrayLike, *, rng: Generator) -> Array:
    """Matrix with the given singular values between random singular vectors.

    Parameters
    ----------
    m, n : int
        Its shape.
    singular_values : (min(m, n),)
        Non-negative, in any order. They are the exact ones up to float64 rounding of the largest.
    rng : Generator
        Source of the singular vectors, which are Haar distributed.

    Raises
    ------
    ValueError
        If there are not min(m, n) finite non-negative singular values.
    """
    s = np.asarray(singular_values, dtype=np.float64)
    if s.shape != (min(m, n),) or not (np.isfinite(s).all() and (s >= 0).all()):
        raise ValueError(
            f"singular_values must be {min(m, n)} finite non-negative numbers for shape {(m, n)}, got {s}"
        )
    U, V = _isometry(m, len(s), rng), _isometry(n, len(s), rng)
    return (U * s) @ V.T


def _isometry(k: int, r: int, rng: Generator) -> Array:
    """k by r with orthonormal columns; signs fixed so that the distribution is Haar's."""
    Q, R = np.linalg.qr(rng.standard_normal((k, r)))
    return Q * np.where(np.diagonal(R) < 0, -1.0, 1.0)


def zero(m: int, n: int, rng: Generator) -> Array:
    """Shows division by a norm that is zero, and results that are not exactly zero."""
    return np.zeros((m, n))


def identity_like(m: int, n: int, rng: Generator) -> Array:
    """Ones on the diagonal: all singular values coincide, so vectors are arbitrary but the factor is not."""
    return np.eye(m, n)


def evenly_spaced(m: int, n: int, rng: Generator) -> Array:
    """Singular values r, r - 1, ..., 1 over r: the well-conditioned case every method must get right."""
    r = min(m, n)
    return from_spectrum(m, n, np.arange(r, 0, -1) / max(r, 1), rng=rng)


def geometric(m: int, n: int, rng: Generator) -> Array:
    """Singular values 1 to 1e-4 in equal ratios: shows squaring the condition number, and too few steps."""
    return from_spectrum(m, n, np.geomspace(1.0, 1.0 / CONDITION, min(m, n)), rng=rng)


def rank_deficient(m: int, n: int, rng: Generator) -> Array:
    """Rank at most about r/2, small integers: shows a missing cut-off, and a filled-up null space."""
    r = (min(m, n) + 1) // 2
    return rng.integers(-2, 3, (m, r)).astype(np.float64) @ rng.integers(-2, 3, (r, n)).astype(np.float64)


def one_dominant(m: int, n: int, rng: Generator) -> Array:
    """One singular value 1, the others 1e-4: shows errors made relative to the norm and not the direction."""
    return from_spectrum(m, n, np.where(np.arange(min(m, n)) == 0, 1.0, GAP), rng=rng)


def low_rank_plus_noise(m: int, n: int, rng: Generator) -> Array:
    """Rank one plus Gaussian noise of 1e-4 its size, a gradient of few samples: shows amplified noise."""
    signal = np.outer(rng.standard_normal(m), rng.standard_normal(n))
    return signal + GAP * rng.standard_normal((m, n))


def repeated_rows(m: int, n: int, rng: Generator) -> Array:
    """All rows equal: rank one, and entries that all round alike, so that their errors do not cancel."""
    return np.repeat(rng.standard_normal((1, n)), m, axis=0)


def signs(m: int, n: int, rng: Generator) -> Array:
    """Entries exactly +-1: exact in every format, so that input rounding cannot hide another error."""
    return rng.choice([-1.0, 1.0], size=(m, n))


def correlated_momentum(m: int, n: int, rng: Generator) -> Array:
    """Average, weight 0.95, of 40 gradients that share drift and noise: what optimizers really see."""
    drift, noise, M = rng.standard_normal((m, n)), np.zeros((m, n)), np.zeros((m, n))
    for _ in range(40):
        noise = 0.8 * noise + 0.6 * rng.standard_normal((m, n))
        M = 0.95 * M + 0.05 * (drift + noise)
    return M


def exact_in_bfloat16(m: int, n: int, rng: Generator) -> Array:
    """Gaussian entries that bfloat16 stores exactly: separates rounding of the input from all the rest."""
    return rounded(rng.standard_normal((m, n)), "bfloat16")


#: Generator of every kind that has the same entries in all formats, up to rounding.
KINDS: Mapping[str, Callable[[int, int, Generator], Array]] = MappingProxyType(
    {
        "zero": zero,
        "identity_like": identity_like,
        "evenly_spaced": evenly_spaced,
        "geometric": geometric,
        "rank_deficient": rank_deficient,
        "one_dominant": one_dominant,
        "low_rank_plus_noise": low_rank_plus_noise,
        "repeated_rows": repeated_rows,
        "signs": signs,
        "correlated_momentum": correlated_momentum,
        "exact_in_bfloat16": exact_in_bfloat16,
    }
)


def near_underflow(m: int, n: int, rng: Generator, *, dtype: str) -> Array:
    """Largest entry at the smallest normal number over eps: shows squares and norms that vanish.

    Entries a factor eps smaller are still normal numbers, so nothing is lost by storing the matrix.
    """
    bits, smallest, _ = FORMATS[dtype]
    return _at_scale(evenly_spaced(m, n, rng), smallest + bits - 1)


def near_overflow(m: int, n: int, rng: Generator, *, dtype: str) -> Array:
    """Largest entry at the largest number times eps: shows squares, Gram matrices and norms that overflow."""
    bits, _, largest = FORMATS[dtype]
    return _at_scale(evenly_spaced(m, n, rng), largest - bits)


def _at_scale(A: Array, exponent: int) -> Array:
    """A times the power of two that brings its largest entry into ``[2^(e-1), 2^e)``."""
    peak = np.frexp(np.abs(A).max(initial=0.0))[1]
    return np.ldexp(A, exponent - int(peak))


def rounded(A: Array, dtype: str) -> Array:
    """A with its entries rounded to nearest, ties to even, in a format; too large ones become infinite.

    Raises
    ------
    ValueError
        If the format is not one of float64, float32, float16, bfloat16.
    """
    if dtype not in FORMATS:
        raise ValueError(f"dtype must be one of {', '.join(FORMATS)}, got {dtype!r}")
    if dtype == "float64":
        return A.copy()
    if dtype != "bfloat16":
        with np.errstate(over="ignore"):
            return A.astype(dtype).astype(np.float64)
    bits, smallest, overflow = FORMATS[dtype]
    exponent = np.maximum(np.frexp(A)[1], smallest + 1)
    nearest = np.ldexp(np.rint(np.ldexp(A, bits - exponent)), exponent - bits)
    return np.where(np.frexp(nearest)[1] <= overflow, nearest, np.copysign(np.inf, A))


def named_matrices(m: int, n: int, *, seed: int, dtype: str = "float64") -> dict[str, Array]:
    """Every kind of matrix in one shape, by name, the same for the same arguments.

    Parameters
    ----------
    m, n : int
        The shape; either may be 0.
    seed : int
        Seed of all of them. A kind keeps its entries when others are added.
    dtype : {"float64", "float32", "float16", "bfloat16"}
        Format whose numbers the entries are, so that converting to it loses nothing, and which
        "near_underflow" and "near_overflow" are near to.

    Returns
    -------
    dict of str to (m, n) float64
        "non_contiguous" is a view of every second column of a wider buffer: it shows code that reads memory
        instead of entries. The others are contiguous.

    Raises
    ------
    ValueError
        If a side is negative or the format is unknown.
    """
    if m < 0 or n < 0:
        raise ValueError(f"m and n must be non-negative, got {(m, n)}")
    made = {name: rounded(kind(m, n, _stream(seed, name)), dtype) for name, kind in KINDS.items()}
    for name, extreme in (("near_underflow", near_underflow), ("near_overflow", near_overflow)):
        made[name] = rounded(extreme(m, n, _stream(seed, name), dtype=dtype), dtype)
    made["non_contiguous"] = np.repeat(made["evenly_spaced"], 2, axis=1)[:, ::2]
    return made


def _stream(seed: int, name: str) -> Generator:
    """Random numbers that depend on the seed and the name alone."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def _collection() -> dict[str, Array]:
    """Every kind square, tall or wide in turn; two kinds, of full and of deficient rank, in all shapes."""
    shaped = {shape: named_matrices(m, n, seed=0) for shape, (m, n) in SHAPES.items()}
    turns, everywhere = ("square", "tall", "wide"), ("evenly_spaced", "rank_deficient")
    chosen = [
        (shape, name)
        for shape, matrices in shaped.items()
        for at, name in enumerate(matrices)
        if name in everywhere or shape == turns[at % len(turns)]
    ]
    made = {f"{name} {shape}": shaped[shape][name] for shape, name in chosen}
    for matrix in made.values():
        matrix.setflags(write=False)
    return made


#: A fixed set of read-only float64 matrices, every kind at least once, small enough to check everything on.
MATRICES: Mapping[str, Array] = MappingProxyType(_collection())
