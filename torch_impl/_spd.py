"""Symmetric positive definite matrices: roots, inverses, distances; batched.

`inverse_sqrt`, `hilbert_distance` and `logdet_divergence` are public through `torch_impl.kronecker`. Where a
matrix is not positive definite the result is NaN, because looking at entries would make the host wait.
"""

import torch
from torch import Tensor

from torch_impl import _checks

__all__ = [
    "hilbert_distance",
    "inverse_cholesky",
    "inverse_sqrt",
    "log_det",
    "logdet_divergence",
    "multiple_of_identity",
    "symmetric",
    "trace",
    "trace_of_inverse",
    "unit_mean",
]


@torch.no_grad()
def logdet_divergence(X: Tensor, Y: Tensor) -> Tensor:
    """Log-det divergence ``tr(X Y^-1) - log det(X Y^-1) - d`` of X to Y.

    Parameters
    ----------
    X, Y : (..., d, d) float64, float32, bfloat16 or float16
        Symmetric positive definite; only their lower triangles matter up to rounding. Not modified.

    Returns
    -------
    divergence : (...), common dtype of X and Y
        Non-negative, 0 iff X = Y; NaN where X or Y is not positive definite.

    Raises
    ------
    TypeError, ValueError
        If X or Y is not a dense real tensor of square matrices, or their sizes differ.

    Notes
    -----
    Source: FISMO, arXiv 2601.21750, section 4 (the objective of Theorem 4.1, as a divergence).
    Evaluated as the sum of ``(x - 1) - log(x)`` over the eigenvalues x of ``Y^-1 X``: the three terms of the
    definition, summed apart, would cancel when X is close to Y.
    """
    x = _relative_spectrum(X, Y)
    return ((x - 1.0) - x.log()).sum(dim=-1).to(torch.promote_types(X.dtype, Y.dtype))


@torch.no_grad()
def inverse_sqrt(P: Tensor) -> Tensor:
    """Symmetric inverse square root ``P^-1/2`` of each matrix, by eigendecomposition.

    Parameters
    ----------
    P : (..., d, d) float64, float32, bfloat16 or float16
        Symmetric positive definite; only the lower triangle is read. Not modified.

    Returns
    -------
    A : (..., d, d), dtype and device of P
        Symmetric. NaN where P is not positive definite to working precision, that is where its smallest
        eigenvalue is not above ``d * eps`` times its largest, eps that of the factorisation.

    Raises
    ------
    TypeError, ValueError
        If P is not a dense real tensor of square matrices.

    Notes
    -----
    Source: FISMO, arXiv 2601.21750, Algorithm 1; Higham, "Functions of Matrices" (2008), chapter 6.
    The eigendecomposition runs in float64 where the device has it: for a float32 factor that is 60 to 100
    times as accurate for twice the time. The entries are not inspected; LAPACK raises
    `torch.linalg.LinAlgError` for an infinity or a NaN.
    """
    X = _checks.square("P", P).to(_checks.wide(P.device))
    values, V = torch.linalg.eigh(X)
    definite = values[..., :1] > P.shape[-1] * torch.finfo(X.dtype).eps * values[..., -1:]
    A = symmetric((V * values.rsqrt().unsqueeze(-2)) @ V.mT)
    return torch.where(definite.unsqueeze(-1), A, torch.nan).to(P.dtype)


@torch.no_grad()
def hilbert_distance(X: Tensor, Y: Tensor) -> Tensor:
    """Hilbert's projective metric ``log(lambda_max(Y^-1 X) / lambda_min(Y^-1 X))``.

    Parameters
    ----------
    X, Y : (..., d, d) float64, float32, bfloat16 or float16
        Symmetric positive definite. Not modified.

    Returns
    -------
    distance : (...), common dtype of X and Y
        0 iff X is a multiple of Y; NaN where X or Y is not positive definite.

    Raises
    ------
    TypeError, ValueError
        If X or Y is not a dense real tensor of square matrices, or their sizes differ.

    Notes
    -----
    Source: Bushell, "Hilbert's metric and positive contraction mappings" (1973).
    """
    spectrum = _relative_spectrum(X, Y)
    dtype = torch.promote_types(X.dtype, Y.dtype)
    if spectrum.shape[-1] == 0:
        return spectrum.sum(dim=-1).to(dtype)
    low, high = spectrum[..., 0], spectrum[..., -1]
    return torch.where(low > 0, torch.log(high / low), torch.nan).to(dtype)


def symmetric(X: Tensor) -> Tensor:
    return (X + X.mT) / 2.0


def trace(X: Tensor) -> Tensor:
    return X.diagonal(dim1=-2, dim2=-1).sum(dim=-1)


def unit_mean(X: Tensor) -> Tensor:
    """X scaled to mean eigenvalue 1, that is trace d, and symmetrised."""
    return symmetric(X * (X.shape[-1] / trace(X))[..., None, None])


def multiple_of_identity(c: Tensor, size: int) -> Tensor:
    return c[..., None, None] * torch.eye(size, dtype=c.dtype, device=c.device)


def inverse_cholesky(Q: Tensor) -> Tensor:
    """Lower triangular K with ``K^T K = Q^-1``, in the dtype of Q; NaN where Q is not positive definite."""
    X = Q.to(_checks.wide(Q.device))
    L, info = torch.linalg.cholesky_ex(X)
    identity = torch.eye(X.shape[-1], dtype=X.dtype, device=X.device)
    K = torch.linalg.solve_triangular(L, identity.expand_as(X), upper=False)
    return torch.where((info == 0)[..., None, None], K, torch.nan).to(Q.dtype)


def trace_of_inverse(K: Tensor) -> Tensor:
    """``tr(Q^-1)`` from K of `inverse_cholesky`."""
    return K.square().sum(dim=(-2, -1))


def log_det(K: Tensor) -> Tensor:
    """``log det Q`` from K of `inverse_cholesky`."""
    return -2.0 * K.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1)


def _relative_spectrum(X: Tensor, Y: Tensor) -> Tensor:
    """Eigenvalues of ``Y^-1 X``, ascending, in wide precision; NaN where Y is not positive definite."""
    d = _checks.square("X", X).shape[-1]
    wide = _checks.wide(X.device)
    K = inverse_cholesky(_checks.square("Y", Y, d).to(wide))
    definite = K.isfinite().all(dim=-1).all(dim=-1)
    pencil = symmetric(torch.nan_to_num(K) @ X.to(wide) @ torch.nan_to_num(K).mT)
    return torch.where(definite.unsqueeze(-1), torch.linalg.eigvalsh(pencil), torch.nan)
