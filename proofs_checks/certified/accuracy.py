"""POLAR-accuracy, ROOT-accuracy: both implementations against certified polar factors and inverse roots.

The distance from a computed float64 matrix to the exact one is enclosed to ``2^-64``, so what is compared
with the budget is the error itself, not the error plus that of a judge.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

import torch_impl.kronecker
import torch_impl.polar
from proofs_checks.certified.enclosures import MatrixBall, inverse_root, polar
from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import ORDER_ONE, Ratio, unit_roundoff
from reference.kronecker import inverse_sqrt
from reference.polar import polar_factor

__all__ = ["inverse_roots", "polar_factors"]

Array = NDArray[np.float64]

_U = unit_roundoff("float64")

#: Of the documented accuracy of `reference.polar.polar_factor`, (99 sqrt(r) + 16 max(m, n)) u s_1/s_r: LAPACK
#: neglects off-diagonal elements of 99 u; a product of length n is off by n u, counted for 16 of them.
_NEGLECTED, _PRODUCTS = 99, 16

_SHAPES = ((4, 4), (8, 8), (12, 5), (5, 12), (16, 16))

_CONDITIONS = (1e0, 1e2, 1e6, 1e12)


@evidence(faults=("through-the-gram-matrix", "single-precision", "one-newton-schulz-step"), scope="region")
def polar_factors(*, fault: str | None = None) -> Finding:
    """``|Q - Q*|_F <= (99 sqrt(r) + 16 max(m, n)) u s_1/s_r`` for reference and torch, Q* certified.

    Float64, five shapes from 4 x 4 to 16 x 16, three kinds of spectra (geometric, one small value, one large
    value) at conditions 1 to 1e12.
    Faults: ``M (M^T M)^(-1/2)``; the SVD in float32; one Newton-Schulz step instead of the exact factor.
    """
    implementations: dict[str, Callable[[Array], Array]] = {
        "reference": _polar_fault(fault) or polar_factor,
        "torch": _polar_fault(fault) or (lambda M: torch_impl.polar.polar_factor(torch.tensor(M)).numpy()),
    }
    ratios, shares = [], []
    for M, s in _matrices(20240702):
        exact = polar(M)
        condition = float(s[0] / s[-1])
        budget = (_NEGLECTED * len(s) ** 0.5 + _PRODUCTS * max(M.shape)) * _U * condition
        for name, function in implementations.items():
            error = _error(exact, function(M))
            ratios.append(Ratio(f"{name} {M.shape}, condition {condition:.0e}", error, budget))
            shares.append(error / (_U * condition))
    return _found(ratios, f"errors {min(shares):.2g} to {max(shares):.2g} times u s_1/s_r")


@evidence(faults=("through-the-inverse", "single-precision", "condition-forgotten"), scope="region")
def inverse_roots(*, fault: str | None = None) -> Finding:
    """``|A - P^(-1/2)|_F <= 30 n u (kappa/2 + 1) |P^(-1/2)|_2`` for reference and torch, certified.

    A backward-stable eigendecomposition is exact for ``P + E``, ``|E| = O(n u) |P|``, which moves the inverse
    root by at most ``|E| |P^-1|^(3/2)/2`` to first order; 30 is the threshold of O(1) ratios.
    Faults: the root of the inverse in float64 rounded in between to float32; eigenvalues in float32; a budget
    without the condition number.
    """
    implementations: dict[str, Callable[[Array], Array]] = {
        "reference": _root_fault(fault) or inverse_sqrt,
        "torch": _root_fault(fault) or (lambda P: torch_impl.kronecker.inverse_sqrt(torch.tensor(P)).numpy()),
    }
    ratios, shares = [], []
    for P, w in _definite(20240703):
        exact = inverse_root(P)
        condition = float(w[-1] / w[0])
        factor = 1.0 if fault == "condition-forgotten" else condition / 2 + 1
        budget = len(P) * _U * factor / float(w[0]) ** 0.5
        for name, function in implementations.items():
            error = _error(exact, function(P))
            ratios.append(Ratio(f"{name} n = {len(P)}, condition {condition:.0e}", error, budget, ORDER_ONE))
            shares.append(error / budget)
    return _found(ratios, f"errors {min(shares):.2g} to {max(shares):.2g} times n u (kappa/2 + 1) |P^(-1/2)|")


def _found(ratios: list[Ratio], errors: str) -> Finding:
    worst = max(ratios, key=lambda ratio: ratio.value / ratio.threshold)
    share = worst.value / worst.threshold
    return Finding(
        tuple(ratios),
        f"{len(ratios)} comparisons with certified matrices: {errors}; at most {share:.3f} of the budget "
        f"({worst.name})",
        figures={"largest share of the budget": share},
        tightness=int(share * 1000) / 1000 if share <= 1 else None,
    )


def _error(exact: MatrixBall, X: Array) -> float:
    """Certified upper bound of the Frobenius error; infinite for a result that is not finite."""
    if not np.isfinite(X).all():
        return float("inf")
    return float(exact.distance(X.astype(np.float64))[1])


def _matrices(seed: int) -> Iterator[tuple[Array, Array]]:
    """Matrices with their singular values as LAPACK finds them, which only scale the budget."""
    rng = np.random.default_rng(seed)
    for m, n in _SHAPES:
        for condition in _CONDITIONS:
            for s in _spectra(min(m, n), condition):
                M = (_orthonormal(rng, m, len(s)) * s) @ _orthonormal(rng, n, len(s)).T
                yield M, np.linalg.svd(M, compute_uv=False).astype(np.float64)


def _definite(seed: int) -> Iterator[tuple[Array, Array]]:
    """Symmetric positive definite matrices with their eigenvalues."""
    rng = np.random.default_rng(seed)
    for n in (3, 8, 16):
        for condition in _CONDITIONS:
            for w in _spectra(n, condition):
                V = _orthonormal(rng, n, n)
                P = (V * w) @ V.T
                P = (P + P.T) / 2
                yield P, np.linalg.eigvalsh(P).astype(np.float64)


def _spectra(n: int, condition: float) -> tuple[Array, Array, Array]:
    small = np.ones(n)
    small[-1] = 1.0 / condition
    large = np.full(n, 1.0 / condition)
    large[0] = 1.0
    return np.geomspace(1.0, 1.0 / condition, n), small, large


def _orthonormal(rng: np.random.Generator, rows: int, cols: int) -> Array:
    return np.linalg.qr(rng.standard_normal((rows, cols)))[0]


def _polar_fault(fault: str | None) -> Callable[[Array], Array] | None:
    def gram(M: Array) -> Array:
        tall = M if len(M) >= M.shape[1] else M.T
        w, V = np.linalg.eigh(tall.T @ tall)
        Q = tall @ (V / np.sqrt(np.maximum(w, np.finfo(np.float64).tiny))) @ V.T
        return Q if len(M) >= M.shape[1] else Q.T

    def single(M: Array) -> Array:
        U, _, Vt = np.linalg.svd(M.astype(np.float32), full_matrices=False)
        return (U @ Vt).astype(np.float64)

    return {
        "through-the-gram-matrix": gram,
        "single-precision": single,
        "one-newton-schulz-step": lambda M: 1.5 * M - 0.5 * M @ M.T @ M,
    }.get(fault or "")


def _root_fault(fault: str | None) -> Callable[[Array], Array] | None:
    def inverse(P: Array) -> Array:
        w, V = np.linalg.eigh(np.linalg.inv(P).astype(np.float32).astype(np.float64))
        return (V * np.sqrt(np.maximum(w, 0.0))) @ V.T

    def single(P: Array) -> Array:
        w, V = np.linalg.eigh(P.astype(np.float32))
        return ((V / np.sqrt(np.maximum(w, np.finfo(np.float32).tiny))) @ V.T).astype(np.float64)

    return {"through-the-inverse": inverse, "single-precision": single}.get(fault or "")
