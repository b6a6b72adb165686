"""Symmetric positive definite matrices: the checks every factor passes, inverse roots, distances."""

import numpy as np

from reference._arguments import Array, array, matrix
from reference._scaling import to_unit

__all__ = [
    "distance",
    "eigh",
    "hilbert_distance",
    "inverse_root",
    "inverse_sqrt",
    "logdet_divergence",
    "matching",
    "relative_singular_values",
    "symmetric",
]

_EPS = np.finfo(np.float64).eps

#: A matrix is symmetric if ``|P - P^T| <= _ASYMMETRY * max|P|``: rounding of a sum of up to 2^24 random terms
#: (2^12 units of roundoff); what lies below is averaged away, what lies above is another matrix.
_ASYMMETRY = 2.0**-40


def inverse_sqrt(P: Array) -> Array:
    """Symmetric inverse root ``P^(-1/2)`` by eigendecomposition.

    Parameters
    ----------
    P : (..., k, k) float64
        Symmetric positive definite. Not modified.

    Returns
    -------
    A : (..., k, k) float64
        Exactly symmetric, ``A P A = I``.

    Raises
    ------
    ValueError
        If `P` is not symmetric to rounding, or not positive definite to working precision
        (smallest eigenvalue at most ``k * eps`` times the largest).

    Notes
    -----
    Source: Higham, "Functions of Matrices" (2008), chapter 6.
    Accuracy: ``|A P A - I|_2`` is of order ``k * u * condition(P)``.
    """
    return inverse_root("P", P)


def logdet_divergence(X: Array, Y: Array) -> Array:
    """Log-det divergence ``tr(X Y^-1) - log det(X Y^-1) - d`` of X to Y.

    Parameters
    ----------
    X, Y : (..., d, d) float64
        Symmetric positive definite; batch axes broadcast. Not modified.

    Returns
    -------
    divergence : (...) float64
        At least 0; 0 iff ``X = Y``. Twice the Kullback-Leibler divergence of N(0, X) from N(0, Y).

    Raises
    ------
    ValueError
        If `X` or `Y` is not symmetric positive definite to working precision, or their shapes do not match.

    Notes
    -----
    Source: James and Stein (1961); Kulis, Sustik, Dhillon, "Low-Rank Kernel Learning with Bregman Matrix
    Divergences" (2009), section 2.
    Accuracy: relative roundoff times ``d * (condition(X) + condition(Y))``, absolute for X near Y.
    """
    s = relative_singular_values(X, Y, names=("X", "Y"))
    excess = (s - 1) * (s + 1)
    return (excess - np.log1p(excess)).sum(axis=-1)


def hilbert_distance(X: Array, Y: Array) -> Array:
    """Hilbert's projective metric ``log(lambda_max(Y^-1 X) / lambda_min(Y^-1 X))``.

    Parameters
    ----------
    X, Y : (..., d, d) float64
        Symmetric positive definite; batch axes broadcast. Not modified.

    Returns
    -------
    distance : (...) float64
        At least 0; 0 iff X and Y are proportional. Inversion of both is an isometry. 0 for ``d = 0``.

    Raises
    ------
    ValueError
        If `X` or `Y` is not symmetric positive definite to working precision, or their shapes do not match.

    Notes
    -----
    Source: Bushell, "Hilbert's Metric and Positive Contraction Mappings" (1973).
    Accuracy: absolute, of order ``d * u * (condition(X) + condition(Y))``.
    """
    return distance(to_unit(matrix("X", X))[0], to_unit(matrix("Y", Y))[0], names=("X", "Y"))


def symmetric(X: Array) -> Array:
    """``(X + X^T) / 2``, exactly symmetric and without overflow."""
    return 0.5 * X + 0.5 * X.mT


def eigh(name: str, P: Array) -> tuple[Array, Array]:
    """Eigenvalues, ascending, and eigenvectors of the argument called `name`, or an error.

    The error says that `P` is not square, not symmetric to rounding, or not positive definite to working
    precision (smallest eigenvalue at most ``k * eps`` times the largest).
    """
    P = array(name, P, form="(..., k, k)", axes=2)
    k = P.shape[-1]
    if P.shape[-2] != k:
        raise ValueError(f"{name} must be square, got shape {P.shape}")
    half = 0.5 * P
    asymmetry = np.abs(half - half.mT).max(axis=(-2, -1), initial=0.0)
    largest = np.abs(half).max(axis=(-2, -1), initial=0.0)
    if not (asymmetry <= _ASYMMETRY * largest).all():
        raise ValueError(
            f"{name} must be symmetric to rounding, got |P - P^T| up to {2 * asymmetry.max():.3g}"
        )
    w, V = np.linalg.eigh(half + half.mT)
    if k and not (w[..., 0] > k * _EPS * w[..., -1]).all():
        worst = np.argmin(w[..., 0] - k * _EPS * w[..., -1])
        low, high = w[..., 0].flat[worst], w[..., -1].flat[worst]
        raise ValueError(
            f"{name} must be positive definite to working precision, "
            f"got eigenvalues from {low:.3g} to {high:.3g}"
        )
    return w, V


def inverse_root(name: str, P: Array) -> Array:
    """`inverse_sqrt` of the argument called `name`."""
    w, V = eigh(name, P)
    return symmetric((V / np.sqrt(w)[..., None, :]) @ V.mT)


def matching(name: str, P: Array, side: int, batch: tuple[int, ...]) -> None:
    """Check that `P` is ``(..., side, side)`` with batch axes that broadcast with `batch`."""
    P = matrix(name, P)
    try:
        np.broadcast_shapes(P.shape[:-2], batch)
    except ValueError:
        matches = False
    else:
        matches = P.shape[-2:] == (side, side)
    if not matches:
        raise ValueError(f"{name} must have shape {(*batch, side, side)}, up to broadcasting, got {P.shape}")


def relative_singular_values(X: Array, Y: Array, *, names: tuple[str, str]) -> Array:
    """Square roots of the eigenvalues of ``Y^-1 X``, descending: singular values of ``Y^(-1/2) X^(1/2)``.

    They are positive where eigenvalues of ``Y^(-1/2) X Y^(-1/2)`` could be lost to rounding.
    """
    w, V = eigh(names[0], X)
    matching(names[1], Y, X.shape[-1], X.shape[:-2])
    whitened = inverse_root(names[1], Y) @ (V * np.sqrt(w)[..., None, :])
    return np.asarray(np.linalg.svd(whitened, compute_uv=False), dtype=np.float64)


def distance(X: Array, Y: Array, *, names: tuple[str, str]) -> Array:
    """`hilbert_distance` of arguments called `names`, of ordinary scale."""
    s = relative_singular_values(X, Y, names=names)
    return 2 * np.log(s[..., 0] / s[..., -1]) if s.shape[-1] else np.zeros(s.shape[:-1])
