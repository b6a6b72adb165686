"""FISMO, Algorithm 1: momentum in Fisher-whitened coordinates, orthogonalised and mapped back.

Symbols: G gradient (..., m, n), P (..., m, m) and Q (..., n, n) factors, M momentum, all leading axes a
batch; beta momentum weight, gamma weight of the old factor, mu damping.
Twin of `reference.fismo`, derived independently. The optimizer people train with is `torch_impl.FISMO`.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from torch_impl import _checks
from torch_impl._spd import multiple_of_identity, trace, unit_mean
from torch_impl.kronecker import inverse_sqrt, left_factor, right_factor
from torch_impl.polar import ORTHOGONALIZERS, Orthogonalizer
from torch_impl.polar import orthogonalize as apply_orthogonalizer

__all__ = ["FismoState", "init", "step", "update_factors", "whiten"]

DAMPINGS = ("algorithm", "theorem")
ORDERS = ("gauss-seidel", "jacobi")
FACTOR_SCALINGS = ("none", "unit")

#: Options of `update_factors` and of `step`: matrices that share them are stepped as one batch.
FACTOR_OPTIONS = ("gamma", "mu", "damping", "order", "factor_scaling")
STEP_OPTIONS = ("beta", *FACTOR_OPTIONS, "orthogonalize")


class FismoState(NamedTuple):
    """State of FISMO for a matrix or a batch of equal-shaped matrices.

    Attributes
    ----------
    P, Q : (..., m, m) and (..., n, n)
        Symmetric positive definite factors of trace m and n (from the first step on).
    M : (..., m, n)
        Average of the whitened gradients, dimensionless.
    """

    P: Tensor
    Q: Tensor
    M: Tensor


@torch.no_grad()
def init(
    W: Tensor | tuple[int, ...],
    *,
    P0: Tensor | None = None,
    Q0: Tensor | None = None,
    M0: Tensor | None = None,
) -> FismoState:
    """State before the first step: ``P = I``, ``Q = I``, ``M = 0`` unless given.

    Parameters
    ----------
    W : (..., m, n) tensor, or its shape
        The parameter. A shape stands for torch's default dtype and the CPU.
    P0, Q0, M0 : tensors, optional
        Start values; copied, converted to the dtype and device of the state, and expanded to its batch.

    Returns
    -------
    state : FismoState
        float64 for float64, otherwise float32 (bfloat16 and float16 too), on the device of W.

    Raises
    ------
    TypeError, ValueError
        If W or a start value does not fit.

    Notes
    -----
    Source: FISMO, arXiv 2601.21750, Algorithm 1; the start values are ours, the sources give none.
    """
    if isinstance(W, tuple):
        W = torch.empty(W)
    *batch, m, n = _checks.matrix("W", W).shape
    dtype, device = _checks.working(W.dtype), W.device

    def start(given: Tensor | None, name: str, rows: int, columns: int) -> Tensor:
        if given is None:
            given = torch.zeros(m, n) if name == "M0" else torch.eye(rows)
        _checks.matrix(name, given, (rows, columns))
        return given.to(device, dtype).expand(*batch, rows, columns).clone()

    return FismoState(start(P0, "P0", m, m), start(Q0, "Q0", n, n), start(M0, "M0", m, n))


@torch.no_grad()
def update_factors(
    G: Tensor,
    P: Tensor,
    Q: Tensor,
    *,
    gamma: float,
    mu: float,
    damping: str,
    order: str,
    factor_scaling: str,
) -> tuple[Tensor, Tensor]:
    """Average the factors with the statistics of one gradient and normalise their traces.

    Parameters
    ----------
    G : (..., m, n) float64, float32, bfloat16 or float16
        Gradient. Not modified.
    P, Q : (..., m, m) and (..., n, n)
        Symmetric positive definite factors before the step. Not modified.
    gamma, mu, damping, order, factor_scaling
        As in `step`.

    Returns
    -------
    P, Q : new tensors, dtype of the arguments
        Symmetric, of trace m and n. NaN where a factor was not positive definite to working precision. Where
        m or n is 0 there is no data, and both factors come back with their traces normalised.

    Raises
    ------
    TypeError, ValueError
        If a shape, dtype or layout does not fit, or an option is out of range.

    Notes
    -----
    Source: FISMO, arXiv 2601.21750, Algorithm 1, factor lines.
    """
    check_options(gamma=gamma, mu=mu, damping=damping, order=order, factor_scaling=factor_scaling)
    m, n = _checks.matrix("G", G).shape[-2:]
    _checks.square("P", P, m), _checks.square("Q", Q, n)
    if m * n == 0:
        return unit_mean(P), unit_mean(Q)
    X = G.to(P.dtype)
    if factor_scaling == "unit":
        X = _unit_rms(X)
    X = X.unsqueeze(-3)  # one sample
    theorem = damping == "theorem"
    L = left_factor(X, Q, mu=mu if theorem else 0.0)
    next_P = unit_mean(gamma * P + (1.0 - gamma) * (L if theorem else _damped(L, mu, P)))
    R = right_factor(X, next_P if order == "gauss-seidel" else P, mu=mu if theorem else 0.0)
    next_Q = unit_mean(gamma * Q + (1.0 - gamma) * (R if theorem else _damped(R, mu, Q)))
    return next_P, next_Q


@torch.no_grad()
def whiten(G: Tensor, P: Tensor, Q: Tensor) -> Tensor:
    """Whitened gradient ``P^-1/2 G Q^-1/2`` with symmetric roots.

    Parameters
    ----------
    G : (..., m, n) float64, float32, bfloat16 or float16
        Gradient. Not modified.
    P, Q : (..., m, m) and (..., n, n)
        Symmetric positive definite factors. Not modified.

    Returns
    -------
    whitened : (..., m, n), dtype of the factors
        NaN where a factor is not positive definite to working precision.

    Raises
    ------
    TypeError, ValueError
        If a shape, dtype or layout does not fit.

    Notes
    -----
    Source: FISMO, arXiv 2601.21750, Algorithm 1.
    """
    m, n = _checks.matrix("G", G).shape[-2:]
    A, C = inverse_sqrt(_checks.square("P", P, m)), inverse_sqrt(_checks.square("Q", Q, n))
    return A @ G.to(P.dtype) @ C


@torch.no_grad()
def step(
    G: Tensor,
    state: FismoState,
    *,
    beta: float = 0.9,
    gamma: float = 0.95,
    mu: float = 1e-2,
    damping: str = "algorithm",
    order: str = "gauss-seidel",
    factor_scaling: str = "none",
    orthogonalize: Orthogonalizer = "polar",
) -> tuple[Tensor, FismoState]:
    """One step of Algorithm 1 for a matrix or a batch: ``W_new = W - lr * update``.

    Parameters
    ----------
    G : (..., m, n) float64, float32, bfloat16 or float16
        Gradient. Not modified.
    state : FismoState
        From `init` or the previous step. Not modified.
    beta : float
        Weight of the old momentum, in [0, 1).
    gamma : float
        Weight of the old factor, in [0, 1]; 1 keeps the factors, which is Muon with averaged raw gradients.
    mu : float
        Damping of the factors, at least 0, in the units of G squared (of 1 with ``factor_scaling="unit"``).
    damping : {"algorithm", "theorem"}
        ``mu tr(P) / m`` as in Algorithm 1, or ``mu tr(Q^-1) / n`` as in Theorem 4.1, and so for Q.
    order : {"gauss-seidel", "jacobi"}
        Whether the new Q sees the new P or the old one.
    factor_scaling : {"none", "unit"}
        "unit": inside the factor statistics only, scale G to root mean square 1, which makes the step
        independent of the scale of the loss.
    orthogonalize : {"polar", "jordan", "polar-express"} or callable
        As in `torch_impl.polar.orthogonalize`.

    Returns
    -------
    update : (..., m, n), dtype of the state
        ``P^-1/2 Polar(M) Q^-1/2``.
    state : FismoState
        New tensors.

    Raises
    ------
    TypeError, ValueError
        If a shape, dtype or layout does not fit, or an option is out of range.
    torch.linalg.LinAlgError
        If LAPACK gets an infinity or a NaN. Entries are not inspected here, which would make the host wait;
        a factor that is not positive definite to working precision turns into NaN.

    Notes
    -----
    Source: FISMO, arXiv 2601.21750, Algorithm 1. Defaults for the options are ours where the paper is silent.
    """
    update, state, _ = advance(
        G,
        state,
        None,
        beta=beta,
        gamma=gamma,
        mu=mu,
        damping=damping,
        order=order,
        factor_scaling=factor_scaling,
        orthogonalize=orthogonalize,
    )
    return update, state


def advance(
    G: Tensor,
    state: FismoState,
    roots: tuple[Tensor, Tensor] | None,
    *,
    beta: float,
    orthogonalize: Orthogonalizer,
    **factor_options: Any,
) -> tuple[Tensor, FismoState, tuple[Tensor, Tensor]]:
    """`step` that uses inverse roots of earlier factors if it is given some, and returns those it used."""
    _checks.number("beta", beta, at_least=0.0, below=1.0)
    check_orthogonalizer(orthogonalize)
    m, n = _checks.matrix("G", G).shape[-2:]
    _checks.matrix("state.M", state.M, (m, n))
    P, Q = update_factors(G, state.P, state.Q, **factor_options)
    A, C = roots or (inverse_sqrt(P), inverse_sqrt(Q))  # symmetric, by the algorithm's definition
    M = beta * state.M + (1.0 - beta) * (A @ G.to(P.dtype) @ C)
    update = A @ apply_orthogonalizer(M, orthogonalize) @ C
    return update, FismoState(P, Q, M), (A, C)


def check_options(*, gamma: float, mu: float, damping: str, order: str, factor_scaling: str) -> None:
    _checks.number("gamma", gamma, at_least=0.0, at_most=1.0)
    _checks.number("mu", mu, at_least=0.0)
    _checks.choice("damping", damping, DAMPINGS)
    _checks.choice("order", order, ORDERS)
    _checks.choice("factor_scaling", factor_scaling, FACTOR_SCALINGS)


def check_orthogonalizer(orthogonalize: Orthogonalizer) -> None:
    if not callable(orthogonalize):
        _checks.choice("orthogonalize", orthogonalize, ORTHOGONALIZERS)


def _damped(statistic: Tensor, mu: float, old: Tensor) -> Tensor:
    """The algorithm's damping: mu times the mean eigenvalue of the old factor."""
    return statistic + multiple_of_identity(mu * trace(old) / old.shape[-1], old.shape[-1])


def _unit_rms(G: Tensor) -> Tensor:
    """``G sqrt(m n) / |G|_F``, without overflow or underflow; zero stays zero."""
    X, _ = _checks.scaled(G)
    norm = torch.linalg.matrix_norm(X, keepdim=True)
    m, n = X.shape[-2:]
    return X * ((m * n) ** 0.5 / torch.where(norm > 0, norm, 1.0))
