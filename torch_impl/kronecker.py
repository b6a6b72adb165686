"""Optimal Kronecker factors of the gradient's second moment, and the step they imply; batched.

Symbols: G gradient samples (..., N, m, n), a plain (m, n) matrix counting as one sample; P (..., m, m) row
factor, Q (..., n, n) column factor, both symmetric positive definite, ``F = Q kron P``; mu damping.
Twin of `reference.kronecker`, derived independently. Every function works out of place.

Positive definiteness is a property of the entries, and looking at it would make the host wait for the
device. Instead, a factor that is not positive definite to working precision turns the result into NaN.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from torch_impl import _checks
from torch_impl._checks import common_dtype, samples
from torch_impl._spd import (
    hilbert_distance,
    inverse_cholesky,
    inverse_sqrt,
    log_det,
    logdet_divergence,
    multiple_of_identity,
    symmetric,
    trace_of_inverse,
    unit_mean,
)
from torch_impl.polar import polar_factor

__all__ = [
    "FixedPoint",
    "contraction_factor",
    "coupling_bound",
    "fisher_lmo",
    "fixed_point",
    "hilbert_distance",
    "inverse_sqrt",
    "left_factor",
    "logdet_divergence",
    "objective",
    "right_factor",
]

METHODS = ("gauss-seidel", "jacobi")
DAMPINGS = ("theorem", "algorithm")


@torch.no_grad()
def objective(G: Tensor, P: Tensor, Q: Tensor, *, mu: float) -> Tensor:
    """``J(P, Q) = E tr(P^-1 G Q^-1 G^T) + mu tr(P^-1) tr(Q^-1) + n log det P + m log det Q``.

    Parameters
    ----------
    G : (..., N, m, n) or (m, n) float64, float32, bfloat16 or float16
        Gradient samples; the expectation is their mean. Not modified.
    P, Q : (..., m, m) and (..., n, n), as G
        Symmetric positive definite factors. Not modified.
    mu : float
        Damping, at least 0, in the units of G squared.

    Returns
    -------
    J : (...), common dtype of the arguments
        NaN where a factor is not positive definite.

    Raises
    ------
    TypeError, ValueError
        If a shape, dtype or layout does not fit, or `mu` is negative or not finite.

    Notes
    -----
    Source: FISMO, arXiv 2601.21750, section 4 (the objective of Theorem 4.1).
    """
    _checks.number("mu", mu, at_least=0.0)
    X = samples(G)
    m, n = X.shape[-2:]
    wide = _checks.wide(G.device)
    K = inverse_cholesky(_checks.square("P", P, m).to(wide))
    H = inverse_cholesky(_checks.square("Q", Q, n).to(wide))
    Y = K.unsqueeze(-3) @ X.to(wide) @ H.mT.unsqueeze(-3)
    data = Y.square().sum(dim=(-2, -1)).mean(dim=-1)
    damping = mu * trace_of_inverse(K) * trace_of_inverse(H)
    return (data + damping + n * log_det(K) + m * log_det(H)).to(common_dtype(G, P, Q))


@torch.no_grad()
def left_factor(G: Tensor, Q: Tensor, *, mu: float) -> Tensor:
    """``P*(Q) = E[G Q^-1 G^T] / n + mu tr(Q^-1) / n * I``, the minimiser of `objective` in P.

    Parameters
    ----------
    G : (..., N, m, n) or (m, n) float64, float32, bfloat16 or float16
        Gradient samples; the expectation is their mean. Not modified.
    Q : (..., n, n), as G
        Symmetric positive definite column factor. Not modified.
    mu : float
        Damping, at least 0, in the units of G squared.

    Returns
    -------
    P : (..., m, m), common dtype of the arguments
        Symmetric; NaN where Q is not positive definite. A matrix without columns (n = 0) gives zero.

    Raises
    ------
    TypeError, ValueError
        If a shape, dtype or layout does not fit, or `mu` is negative or not finite.

    Notes
    -----
    Source: FISMO, arXiv 2601.21750, Theorem 4.1.
    Formed as ``Y Y^T`` with ``Y = G K^T`` and ``K^T K = Q^-1``, positive semidefinite by construction.
    """
    _checks.number("mu", mu, at_least=0.0)
    X = samples(G)
    m, n = X.shape[-2:]
    dtype = common_dtype(G, _checks.square("Q", Q, n))
    work = _checks.working(dtype)
    K = inverse_cholesky(Q.to(work))
    Y = X.to(work) @ K.mT.unsqueeze(-3)
    data = (Y @ Y.mT).mean(dim=-3)
    damping = mu * trace_of_inverse(K)
    return ((symmetric(data) + multiple_of_identity(damping, m)) / max(n, 1)).to(dtype)


@torch.no_grad()
def right_factor(G: Tensor, P: Tensor, *, mu: float) -> Tensor:
    """``Q*(P) = E[G^T P^-1 G] / m + mu tr(P^-1) / m * I``, the minimiser of `objective` in Q.

    Parameters
    ----------
    G : (..., N, m, n) or (m, n) float64, float32, bfloat16 or float16
        Gradient samples; the expectation is their mean. Not modified.
    P : (..., m, m), as G
        Symmetric positive definite row factor. Not modified.
    mu : float
        Damping, at least 0, in the units of G squared.

    Returns
    -------
    Q : (..., n, n), common dtype of the arguments
        Symmetric; NaN where P is not positive definite. A matrix without rows (m = 0) gives zero.

    Raises
    ------
    TypeError, ValueError
        If a shape, dtype or layout does not fit, or `mu` is negative or not finite.

    Notes
    -----
    Source: FISMO, arXiv 2601.21750, Theorem 4.1.
    """
    X = samples(G)
    return left_factor(X.mT, _checks.square("P", P, X.shape[-2]), mu=mu)


@torch.no_grad()
def coupling_bound(G: Tensor) -> Tensor:
    """Computable upper bound of ``g_2 = max E (u^T G v)^2`` over unit vectors u and v.

    Parameters
    ----------
    G : (..., N, m, n) or (m, n) float64, float32, bfloat16 or float16
        Gradient samples; the expectation is their mean. Not modified.

    Returns
    -------
    bound : (...), dtype of G
        The least of the largest eigenvalues of ``E G G^T``, ``E G^T G`` and ``E vec(G) vec(G)^T``, in the
        units of G squared, up to rounding; 0 for empty matrices.

    Raises
    ------
    TypeError, ValueError
        If G is not a dense real tensor of at least one sample.

    Notes
    -----
    Source: ours (T1): ``E (u^T G v)^2`` is at most ``u^T E[G G^T] u`` and ``v^T E[G^T G] v``, and equals the
    quadratic form of ``E vec(G) vec(G)^T`` at ``v kron u``.
    """
    X = samples(G).to(_checks.wide(G.device))
    N, m, n = X.shape[-3:]
    rows = X.movedim(-3, -2).reshape(*X.shape[:-3], m, N * n)
    columns = X.reshape(*X.shape[:-3], N * m, n)
    vectors = X.reshape(*X.shape[:-3], N, m * n)
    tops = [torch.linalg.matrix_norm(unfolding, ord=2) for unfolding in (rows, columns, vectors) if m * n]
    if not tops:
        return X.new_zeros(X.shape[:-3]).to(G.dtype)
    return (torch.stack(tops).amin(dim=0).square() / N).to(G.dtype)


@torch.no_grad()
def contraction_factor(G: Tensor, *, mu: float) -> Tensor:
    """Contraction ``c = g_2 / (g_2 + 2 mu)`` of one half-step in Hilbert's metric, with `coupling_bound`.

    Parameters
    ----------
    G : (..., N, m, n) or (m, n) float64, float32, bfloat16 or float16
        Gradient samples; the expectation is their mean. Not modified.
    mu : float
        Damping, at least 0, in the units of G squared.

    Returns
    -------
    c : (...), dtype of G
        In [0, 1); 1, that is no contraction proved, for ``mu = 0``.

    Raises
    ------
    TypeError, ValueError
        If G is not a dense real tensor of at least one sample, or `mu` is negative or not finite.

    Notes
    -----
    Source: ours (T1), by the Birkhoff-Hopf theorem.
    """
    _checks.number("mu", mu, at_least=0.0)
    g2 = coupling_bound(G)
    return torch.ones_like(g2) if mu == 0.0 else g2 / (g2 + 2.0 * mu)


class FixedPoint(NamedTuple):
    """What `fixed_point` returns.

    Attributes
    ----------
    P, Q : (..., m, m) and (..., n, n)
        The factors; P has trace m. Under the theorem's damping Q answers P, ``Q = Q*(P)``, and carries the
        scale of ``F = Q kron P``; under the algorithm's it has trace n.
    iterations : int
        Sweeps that were made; equal to `max_iterations` if the tolerance was not reached.
    error_bound : (...)
        Bound on the Hilbert distance of Q to the exact fixed point, rounding apart (P: divide by the
        contraction factor for Gauss-Seidel; both for Jacobi). Infinite where no theorem gives one.
    """

    P: Tensor
    Q: Tensor
    iterations: int
    error_bound: Tensor


@torch.no_grad()
def fixed_point(
    G: Tensor,
    *,
    mu: float,
    method: str = "gauss-seidel",
    damping: str = "theorem",
    P0: Tensor | None = None,
    Q0: Tensor | None = None,
    tolerance: float = 1e-12,
    max_iterations: int = 100_000,
) -> FixedPoint:
    """Alternate the two half-steps until the factors stand still.

    Parameters
    ----------
    G : (..., N, m, n) or (m, n) float64, float32, bfloat16 or float16
        Gradient samples; the expectation is their mean. Not modified.
    mu : float
        Damping, at least 0, in the units of G squared. 0 needs data that make both factors definite.
    method : {"gauss-seidel", "jacobi"}
        Whether the second half-step sees the fresh P or the old one.
    damping : {"theorem", "algorithm"}
        "theorem": `left_factor` and `right_factor`. "algorithm": damping ``mu I`` with both factors
        normalised to mean eigenvalue 1, the fixed point of Algorithm 1.
    P0, Q0 : (..., m, m) and (..., n, n), optional
        Symmetric positive definite start, default identity. Gauss-Seidel ignores P0. Not modified.
    tolerance : float
        Above 0: Hilbert distance between successive factors (Jacobi: two steps apart) at which to stop.
    max_iterations : int
        At least 1.

    Returns
    -------
    result : FixedPoint
        Tensors in the dtype of G; computed in float64 where the device has it.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, or a factor loses positive definiteness on the way.

    Notes
    -----
    Source: FISMO, arXiv 2601.21750, Theorem 4.1; stopping rule and bound: ours (T1, T2).
    The loop ends when every matrix of the batch is within the tolerance, or its distance no longer shrinks
    although it is at rounding level. It has to look at the distances, so it makes the host wait every sweep.
    """
    _checks.number("mu", mu, at_least=0.0)
    _checks.choice("method", method, METHODS)
    _checks.choice("damping", damping, DAMPINGS)
    _checks.number("tolerance", tolerance, above=0.0)
    _checks.count("max_iterations", max_iterations, at_least=1)
    X = samples(G).to(_checks.wide(G.device))
    m, n = X.shape[-2:]
    P, Q = _start("P0", P0, X, m), _start("Q0", Q0, X, n)
    theorem, jacobi = damping == "theorem", method == "jacobi"

    def half_step(samples: Tensor, factor: Tensor) -> Tensor:
        if theorem:
            return left_factor(samples, factor, mu=mu)
        data = left_factor(samples, factor, mu=0.0)
        return unit_mean(data + mu * torch.eye(data.shape[-1], dtype=data.dtype, device=data.device))

    before = (P, Q)  # Jacobi: the factors of two sweeps ago
    distance = X.new_full(X.shape[:-3], torch.inf)
    done = torch.zeros_like(distance, dtype=torch.bool)
    for iterations in range(1, max_iterations + 1):
        next_P = unit_mean(half_step(X, Q))
        next_Q = half_step(X.mT, P if jacobi else next_P)
        if not bool((next_P.isfinite().all() & next_Q.isfinite().all()).item()):
            raise ValueError(
                f"mu must be large enough for definite factors, got {mu!r}: "
                f"a factor lost positive definiteness in sweep {iterations}"
            )
        last = distance
        if not jacobi:
            distance = hilbert_distance(next_Q, Q)
        elif iterations > 1:
            distance = torch.maximum(hilbert_distance(next_P, before[0]), hilbert_distance(next_Q, before[1]))
        stalled = (distance >= last) & (distance <= _rounding_level(next_P, next_Q))
        done |= (distance <= tolerance) | stalled
        before, P, Q = (P, Q), next_P, next_Q
        if bool(done.all().item()):
            break
    if theorem and jacobi:  # the scale of F belongs to this P: the chain's own Q answers an older one
        Q = left_factor(X.mT, P, mu=mu)
    error_bound = torch.full_like(distance, torch.inf)
    if theorem and mu > 0.0:
        g2 = coupling_bound(X)  # c^2 / (1 - c^2) for c = g2 / (g2 + 2 mu), without its cancellation
        error_bound = g2.square() / (4.0 * mu * (g2 + mu)) * distance
    return FixedPoint(P.to(G.dtype), Q.to(G.dtype), iterations, error_bound.to(G.dtype))


@torch.no_grad()
def fisher_lmo(G: Tensor, P: Tensor, Q: Tensor, *, radius: float = 1.0) -> Tensor:
    """Minimiser of <G, X> over ``|P^1/2 X Q^1/2|_2 <= radius``: the closed-form step of FISMO.

    Parameters
    ----------
    G : (..., m, n) float64, float32, bfloat16 or float16
        Gradient; leading axes are a batch here, not samples. Not modified.
    P, Q : (..., m, m) and (..., n, n), as G
        Symmetric positive definite factors. Not modified.
    radius : float
        At least 0.

    Returns
    -------
    X : (..., m, n), common dtype of the arguments
        ``-radius * P^-1/2 Polar(P^-1/2 G Q^-1/2) Q^-1/2``; NaN where a factor is not positive definite
        (or `torch.linalg.LinAlgError` where LAPACK refuses to factorise NaN).

    Raises
    ------
    TypeError, ValueError
        If a shape, dtype or layout does not fit, or `radius` is negative or not finite.

    Notes
    -----
    Source: FISMO, arXiv 2601.21750, Theorem 4.2.
    """
    _checks.number("radius", radius, at_least=0.0)
    m, n = _checks.matrix("G", G).shape[-2:]
    dtype = common_dtype(G, _checks.square("P", P, m), _checks.square("Q", Q, n))
    work = _checks.working(dtype)
    A, C = inverse_sqrt(P.to(work)), inverse_sqrt(Q.to(work))
    return (-radius * (A @ polar_factor(A @ G.to(work) @ C) @ C)).to(dtype)


def _start(name: str, factor: Tensor | None, X: Tensor, size: int) -> Tensor:
    """The given start, or the identity, as (..., size, size) with mean eigenvalue 1."""
    if factor is None:
        return torch.eye(size, dtype=X.dtype, device=X.device).expand(*X.shape[:-3], size, size)
    return unit_mean(_checks.square(name, factor, size).to(X.dtype)).expand(*X.shape[:-3], size, size)


def _rounding_level(P: Tensor, Q: Tensor) -> Tensor:
    """First-order rounding error of a Hilbert distance: ``d * eps * condition``."""
    levels = []
    for X in (P, Q):
        values = torch.linalg.eigvalsh(X)
        condition = values[..., -1] / values[..., 0] if X.shape[-1] else values.sum(dim=-1)
        levels.append(X.shape[-1] * torch.finfo(X.dtype).eps * condition)
    return torch.maximum(*levels)
