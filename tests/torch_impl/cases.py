"""Inputs with a known spectrum and budgets for the comparison of a twin with its reference.

A twin may store its result in a narrow dtype (unit roundoff u) but factorises in float64. A budget therefore
has two parts: u times the size of the result, and float64's roundoff times a conditioning. Where the first
part dominates, a float32 factorisation would show.
"""

import math

import numpy as np
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray

from proofs_checks.inputs import from_spectrum
from proofs_checks.ratios import ORDER_ONE, Ratio, unit_roundoff
from tests.strategies import seeds

__all__ = [
    "DEFLATION",
    "DOUBLE",
    "DTYPES",
    "EXACT",
    "FLOATS",
    "array",
    "backward_stable",
    "condition",
    "dampings",
    "distance",
    "exactly_low_rank",
    "matrix",
    "norm",
    "orders",
    "polar_budget",
    "scalings",
    "seeds",
    "sides",
    "spd",
    "stored",
    "tensor",
    "well_resolved",
]

Array = NDArray[np.float64]

FLOATS = (torch.float64, torch.float32)
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
DOUBLE = unit_roundoff("float64")

#: Stands in for a budget of zero, where the result must be exact: the smallest normal float64.
EXACT = float(np.finfo(np.float64).tiny)

#: LAPACK's bidiagonal QR drops off-diagonal entries below ``eps**(-1/8)`` roundoffs of their neighbours,
#: whatever the dimension; on small matrices this, not the dimension, is its backward error.
DEFLATION = DOUBLE**-0.125

sides = st.integers(1, 7)
dampings = st.sampled_from(["algorithm", "theorem"])
orders = st.sampled_from(["gauss-seidel", "jacobi"])
scalings = st.sampled_from(["none", "unit"])


def matrix(rng: np.random.Generator, m: int, n: int, *, decades: float = 1.0) -> Array:
    """Full rank, largest singular value 1, condition ``10**decades``."""
    return from_spectrum(m, n, np.logspace(0.0, -decades, min(m, n)), rng=rng)


def spd(rng: np.random.Generator, d: int, *, decades: float = 1.0) -> Array:
    """Symmetric positive definite with trace d and condition ``10**decades``."""
    V = np.linalg.qr(rng.standard_normal((d, d)))[0]
    X = (V * np.logspace(0.0, -decades, d)) @ V.T
    return (X + X.T) * (d / (2.0 * np.trace(X)))


def tensor(x: Array, dtype: torch.dtype, device: torch.device | str = "cpu") -> torch.Tensor:
    """A fresh tensor; rounded if the dtype is narrow."""
    return torch.tensor(x, dtype=dtype, device=device)


def array(x: torch.Tensor) -> Array:
    """Exact float64 copy."""
    return x.detach().to("cpu", torch.float64).numpy()


def distance(got: torch.Tensor, want: Array, *, budget: float, name: str = "agreement") -> Ratio:
    """Frobenius distance of a twin's result from the reference's, over an explicit budget."""
    assert tuple(got.shape) == want.shape, f"shape {tuple(got.shape)} instead of {want.shape}"
    return Ratio(name, float(np.linalg.norm(array(got) - want)), max(budget, EXACT))


def stored(want: Array, dtype: torch.dtype) -> float:
    """Rounding a result to its dtype, subnormal entries included; nothing is lost by float64."""
    if dtype == torch.float64:
        return 0.0
    spacing = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    return unit_roundoff(dtype) * float(np.linalg.norm(want)) + spacing / 2.0 * math.sqrt(want.size)


def backward_stable(dimension: int, condition: float) -> float:
    """Relative forward error of two backward-stable float64 factorisations: a multiple of d u condition."""
    return 2.0 * (ORDER_ONE * max(dimension, 1) + DEFLATION) * DOUBLE * condition


def condition(X: Array) -> float:
    """Ratio of the extreme singular values; 1 for an empty matrix."""
    s = np.linalg.svd(X, compute_uv=False)
    return float(s[0] / s[-1]) if s.size else 1.0


def norm(X: Array, order: float | str | None = None) -> float:
    """Norm of a matrix, 0 if it is empty; spectral for ``order=2``."""
    return float(np.linalg.norm(X, order)) if X.size else 0.0


def well_resolved(s: Array, dimension: int) -> bool:
    """Whether every nonzero singular value lies far above the cut-off of float32."""
    nonzero = s[s > 0]
    cut = ORDER_ONE * dimension * unit_roundoff("float32")
    return not nonzero.size or bool(nonzero.min() > cut * nonzero.max())


def exactly_low_rank(rng: np.random.Generator, m: int, n: int, r: int) -> Array:
    """Rank r at most, with small integer entries, so that no rounding raises the rank in any dtype."""
    return (rng.integers(-1, 2, (m, r)) @ rng.integers(-1, 2, (r, n))).astype(np.float64)


def polar_budget(M: Array, want: Array, dtype: torch.dtype) -> float:
    """Two float64 polar factors of a matrix whose rank is beyond doubt, the twin's rounded to its dtype."""
    s = np.linalg.svd(M, compute_uv=False)
    cut = max(M.shape) * math.sqrt(DOUBLE) * (s[0] if s.size else 1.0)
    nonzero = s[s > cut]
    kappa = float(nonzero[0] / nonzero[-1]) if nonzero.size else 1.0
    return stored(want, dtype) + backward_stable(max(M.shape), kappa) * math.sqrt(max(len(nonzero), 1))
