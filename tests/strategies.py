"""Hypothesis strategies: inputs built from their answer, so that the truth needs no solver.

Matrices come from a drawn spectrum and a drawn seed for the singular vectors. Shapes and spectra shrink to
small and simple ones; the vectors need not.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from proofs_checks.inputs import from_spectrum

Array = NDArray[np.float64]

#: Largest side of a drawn matrix: every fault of shape or index shows at this size, and it stays quick.
MAX_SIDE = 8

seeds = st.integers(0, 2**32 - 1)
sides = st.integers(1, MAX_SIDE)


class KnownPolar(NamedTuple):
    """A matrix M, its exact polar factor Q up to rounding, its singular values, condition and rank."""

    M: Array
    Q: Array
    s: Array
    condition: float
    rank: int


class KnownSPD(NamedTuple):
    """A symmetric positive definite matrix, its descending eigenvalues, orthonormal vectors and condition."""

    A: Array
    eigenvalues: Array
    vectors: Array
    condition: float

    def power(self, exponent: float) -> Array:
        """``A ** exponent`` from the exact spectrum."""
        return (self.vectors * self.eigenvalues**exponent) @ self.vectors.T


@st.composite
def spectra(draw: st.DrawFn, size: int, *, max_decades: float = 4.0, zeros: bool = False) -> Array:
    """`size` descending singular values, the largest 1, the smallest positive one at least 10^-max_decades.

    Geometric, evenly spaced, in two clusters, or one dominant; the last ones may be zero if `zeros`.
    """
    low = 10.0 ** -draw(st.floats(0.0, max_decades))
    shape = draw(st.sampled_from(["geometric", "even", "clusters", "dominant"]))
    at, half = np.arange(size), (size + 1) // 2
    s = {
        "geometric": np.geomspace(1.0, low, size) if size > 1 else np.ones(size),
        "even": np.linspace(1.0, low, size) if size > 1 else np.ones(size),
        "clusters": np.where(at < half, 1.0, low),
        "dominant": np.where(at == 0, 1.0, low),
    }[shape]
    if zeros and size:
        s = np.where(at < size - draw(st.integers(0, size)), s, 0.0)
    return s


@st.composite
def known_polar(
    draw: st.DrawFn, *, max_side: int = MAX_SIDE, max_decades: float = 4.0, deficient: bool = False
) -> KnownPolar:
    """A matrix from a spectrum together with its polar factor; of full rank unless `deficient`."""
    m, n = draw(st.integers(1, max_side)), draw(st.integers(1, max_side))
    s = draw(spectra(min(m, n), max_decades=max_decades, zeros=deficient))
    seed = draw(seeds)
    # The same seed gives the same singular vectors: M and Q differ in their singular values only.
    M = from_spectrum(m, n, s, rng=np.random.default_rng(seed))
    Q = from_spectrum(m, n, (s > 0).astype(float), rng=np.random.default_rng(seed))
    rank = int(np.count_nonzero(s))
    return KnownPolar(M, Q, s, float(s[0] / s[rank - 1]) if rank else 1.0, rank)


@st.composite
def known_spd(draw: st.DrawFn, *, max_side: int = MAX_SIDE, max_decades: float = 4.0) -> KnownSPD:
    """A symmetric positive definite matrix from its eigenvalues; exactly symmetric."""
    n = draw(st.integers(1, max_side))
    eigenvalues = draw(spectra(n, max_decades=max_decades)) * 10.0 ** draw(st.integers(-2, 2))
    vectors = from_spectrum(n, n, np.ones(n), rng=np.random.default_rng(draw(seeds)))
    A = (vectors * eigenvalues) @ vectors.T
    return KnownSPD((A + A.T) / 2.0, eigenvalues, vectors, float(eigenvalues[0] / eigenvalues[-1]))


@st.composite
def gradient_sequences(
    draw: st.DrawFn, *, max_length: int = 6, max_side: int = MAX_SIDE, max_decades: float = 2.0
) -> Array:
    """Gradients of consecutive steps, (steps, m, n): a common drift plus noise, any mixture, any scale."""
    steps, m, n = (
        draw(st.integers(1, max_length)),
        draw(st.integers(1, max_side)),
        draw(st.integers(1, max_side)),
    )
    rng, drift = np.random.default_rng(draw(seeds)), draw(st.floats(0.0, 1.0))
    scale = 10.0 ** draw(st.floats(-max_decades, max_decades))
    return scale * (drift * rng.standard_normal((m, n)) + (1.0 - drift) * rng.standard_normal((steps, m, n)))


def options(choices: Mapping[str, Iterable[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Combinations of keyword options: one value of each, by name."""
    return st.fixed_dictionaries({name: st.sampled_from(list(values)) for name, values in choices.items()})
