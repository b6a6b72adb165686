"""Random and structured matrices inside the assumptions, batched, from a given generator.

Shapes: gradient samples ``(R, N, m, n)`` for R problems of N equally likely samples each.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "diagonal_samples",
    "exponential",
    "gradients",
    "into_ball",
    "orthogonal",
    "spd",
    "symmetric",
    "symmetric_root",
    "unit_coupling",
    "with_spectrum",
]

Array = NDArray[np.float64]


def orthogonal(rng: np.random.Generator, *shape: int) -> Array:
    """Orthogonal matrices ``(..., n, n)`` for ``shape = (..., n)``, Haar distributed up to signs."""
    return np.linalg.qr(rng.standard_normal((*shape, shape[-1])))[0]


def spd(rng: np.random.Generator, *shape: int, decades: float = 2.0) -> Array:
    """Positive definite matrices ``(..., n, n)``, eigenvalues spread over up to `decades` powers of ten."""
    V = orthogonal(rng, *shape)
    X = (V * 10.0 ** (decades * (rng.random(shape) - 0.5))[..., None, :]) @ V.mT
    return (X + X.mT) / 2


def with_spectrum(rng: np.random.Generator, s: Array, m: int, n: int) -> Array:
    """Matrices ``(..., m, n)`` with the singular values ``s (..., min(m, n))``, up to rounding."""
    batch = s.shape[:-1]
    U, V = orthogonal(rng, *batch, m), orthogonal(rng, *batch, n)
    r = min(m, n)
    return (U[..., :r] * s[..., None, :]) @ V[..., :r].mT


def symmetric_root(P: Array, *, power: float) -> Array:
    """``P^power`` of positive definite `P` by eigendecomposition."""
    w, V = np.linalg.eigh(P)
    return (V * w[..., None, :] ** power) @ V.mT


def into_ball(B: Array) -> Array:
    """Nearest matrices of the spectral unit ball: singular values above 1 become 1.

    Dividing by the spectral norm instead would leave the searches on a ridge: they stall at 0.95 of the
    optimum.
    """
    U, s, Vt = np.linalg.svd(B, full_matrices=False)
    return (U * np.minimum(s, 1.0)[..., None, :]) @ Vt


def gradients(rng: np.random.Generator, *, problems: int, samples: int, m: int, n: int) -> Array:
    """Gradient samples ``(problems, samples, m, n)`` that cycle through kinds of matrices.

    Gaussian; rank one; low rank plus noise; signs; identity-like; repeated rows; one dominant direction; a
    single sample repeated; wildly different scales from sample to sample.
    """
    shape = (problems, samples, m, n)
    G = rng.standard_normal(shape)
    rank_one = rng.standard_normal((problems, samples, m, 1)) * rng.standard_normal((problems, samples, 1, n))
    identity = np.broadcast_to(np.eye(m, n), shape)
    direction = rng.standard_normal((problems, 1, m, 1)) * rng.standard_normal((problems, 1, 1, n))
    kinds = [
        G,
        rank_one,
        rank_one + 0.01 * G,
        np.sign(G),
        identity + 0.1 * G,
        np.broadcast_to(G[..., :1, :], shape),
        direction * rng.standard_normal((problems, samples, 1, 1)) + 0.1 * G,
        np.broadcast_to(G[:, :1], shape),
        G * 10.0 ** (3 * rng.random((problems, samples, 1, 1)) - 1.5),
    ]
    return np.stack([kinds[k % len(kinds)][k] for k in range(problems)])


def diagonal_samples(n: int) -> Array:
    """The samples ``sqrt(n) e_i e_i^T``, ``(n, n, n)``: ``E[G X G^T]`` is the diagonal of X, and g_2 is 1.

    For ``n = 2`` and X near I, a half-step contracts Hilbert's metric by exactly the factor of T1.
    """
    return np.sqrt(n) * np.einsum("ki,kj->kij", np.eye(n), np.eye(n))


def unit_coupling(G: Array) -> Array:
    """Samples ``(..., N, m, n)`` scaled so that ``lambda_max(E G G^T)``, an upper bound of g_2, is 1."""
    second_moment = (G @ G.mT).mean(axis=-3)
    return G / np.sqrt(np.linalg.eigvalsh(second_moment)[..., -1])[..., None, None, None]


def symmetric(x: Array, n: int) -> Array:
    """Symmetric matrices ``(R, n, n)`` from free coordinates ``(R, n (n + 1) / 2)``."""
    S = np.zeros((len(x), n, n))
    i, j = np.triu_indices(n)
    S[:, i, j] = x
    S[:, j, i] = x
    return S


def exponential(S: Array) -> Array:
    """Matrix exponential of symmetric matrices: every positive definite matrix is one."""
    w, V = np.linalg.eigh(S)
    X = (V * np.exp(w)[..., None, :]) @ V.mT
    return (X + X.mT) / 2
