"""SOFIM: momentum preconditioned by a regularised rank-one Fisher matrix, in closed form.

Symbols: g gradient and M momentum, flat vectors (..., d); M_hat bias-corrected momentum; rho > 0
regularisation; nu = |M_hat|^2. ``F = M_hat M_hat^T + rho I`` has M_hat as an eigenvector, hence
``F^-1 M_hat = M_hat / (rho + nu)``.
Twin of `reference.sofim`, derived independently. The optimizer people train with is `torch_impl.SOFIM`.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from torch_impl import _checks

__all__ = [
    "SofimState",
    "bracket_direction",
    "direction",
    "init",
    "sherman_morrison_solve",
    "step",
    "two_term_direction",
]


@torch.no_grad()
def sherman_morrison_solve(A: float | Tensor, u: Tensor, v: Tensor, b: Tensor) -> Tensor:
    """Solve ``(A + u v^T) x = b`` by the Sherman-Morrison formula.

    Parameters
    ----------
    A : float, (..., d) or (..., d, d)
        A multiple of the identity; a diagonal; or, with one axis more than b, a full matrix. Not modified.
    u, v, b : (..., d) float64, float32, bfloat16 or float16
        Not modified.

    Returns
    -------
    x : (..., d), common dtype of the arguments
        NaN where A or ``A + u v^T`` is singular to working precision: entries are not inspected on the
        host, which would make it wait.

    Raises
    ------
    TypeError, ValueError
        If a shape, dtype or layout does not fit, or A is the number 0 or not finite.

    Notes
    -----
    Source: Sherman and Morrison (1950); SOFIM, arXiv 2403.02833.
    """
    d = _vector("b", b).shape[-1]
    for name, x in (("u", u), ("v", v)):
        if _vector(name, x).shape[-1] != d:
            raise ValueError(f"{name} must have shape (..., {d}) as b, got {tuple(x.shape)}")
    tensors = [u, v, b, A] if isinstance(A, Tensor) else [u, v, b]
    dtype = _checks.common_dtype(*tensors)
    wide = _checks.wide(b.device)
    u, v, b = u.to(wide), v.to(wide), b.to(wide)
    Au, Ab = _solve(A, u, b)
    terms = v * Au
    denominator = 1.0 + terms.sum(dim=-1, keepdim=True)
    rounding = d * torch.finfo(wide).eps * (1.0 + terms.abs().sum(dim=-1, keepdim=True))
    x = Ab - Au * ((v * Ab).sum(dim=-1, keepdim=True) / denominator)
    return torch.where(denominator.abs() > rounding, x, torch.nan).to(dtype)


@torch.no_grad()
def two_term_direction(M_hat: Tensor, *, rho: float) -> Tensor:
    """``M_hat / rho - M_hat nu / (rho^2 (1 + nu / rho))``, equation 6 as printed, in the dtype of M_hat.

    Parameters
    ----------
    M_hat : (..., d) float64, float32, bfloat16 or float16
        Not modified.
    rho : float
        Above 0.

    Returns
    -------
    x : (..., d), dtype and device of M_hat

    Raises
    ------
    TypeError, ValueError
        If M_hat is not a dense real tensor (..., d), or `rho` is not positive and finite.

    Notes
    -----
    Source: SOFIM, arXiv 2403.02833, equation 6.
    For study, not for use: the terms cancel, with a relative error of about ``u (1 + nu / rho)``, and nu
    overflows in float16 from a norm of 256 on. `direction` is the same in exact arithmetic.
    """
    nu = _squares(M_hat, rho)
    return M_hat / rho - M_hat * nu / (rho**2 * (1.0 + nu / rho))


@torch.no_grad()
def bracket_direction(M_hat: Tensor, *, rho: float) -> Tensor:
    """``M_hat (1 / rho - nu / (rho^2 (1 + nu / rho)))``, the bracket evaluated first, in the dtype of M_hat.

    Parameters
    ----------
    M_hat : (..., d) float64, float32, bfloat16 or float16
        Not modified.
    rho : float
        Above 0.

    Returns
    -------
    x : (..., d), dtype and device of M_hat

    Raises
    ------
    TypeError, ValueError
        If M_hat is not a dense real tensor (..., d), or `rho` is not positive and finite.

    Notes
    -----
    Source: SOFIM, arXiv 2403.02833, equation 6, regrouped.
    For study, not for use: it cancels like `two_term_direction` and is exactly 0 for nu / rho above 1 / u.
    """
    nu = _squares(M_hat, rho)
    return M_hat * (1.0 / rho - nu / (rho**2 * (1.0 + nu / rho)))


@torch.no_grad()
def direction(M_hat: Tensor, *, rho: float) -> Tensor:
    """Closed form ``F^-1 M_hat = M_hat / (rho + |M_hat|^2)``.

    Parameters
    ----------
    M_hat : (..., d) float64, float32, bfloat16 or float16
        Not modified.
    rho : float
        Above 0, in the units of M_hat squared.

    Returns
    -------
    x : (..., d), dtype and device of M_hat
        At most ``1 / (2 sqrt(rho))`` long. Zero where the squared norm overflows the working precision.

    Raises
    ------
    TypeError, ValueError
        If M_hat is not a dense real tensor (..., d), or `rho` is not positive and finite.

    Notes
    -----
    Source: SOFIM, arXiv 2403.02833, equation 6 in closed form (ours).
    The squared norm is accumulated in float64 where the device has it; half precision is divided in float32.
    """
    _checks.number("rho", rho, above=0.0)
    nu = squared_norm(_vector("M_hat", M_hat), dim=-1)
    work = M_hat.to(_checks.working(M_hat.dtype))
    return preconditioned(work, nu, rho).to(M_hat.dtype)


class SofimState(NamedTuple):
    """State of SOFIM.

    Attributes
    ----------
    M : (..., d)
        Average of the gradients, not yet bias-corrected, in the units of the gradient.
    t : int
        Steps taken.
    """

    M: Tensor
    t: int


@torch.no_grad()
def init(w: Tensor) -> SofimState:
    """State before the first step: ``M = 0``, ``t = 0``.

    Parameters
    ----------
    w : (..., d) float64, float32, bfloat16 or float16
        The parameters as one flat vector per problem.

    Returns
    -------
    state : SofimState
        float64 for float64, otherwise float32 (bfloat16 and float16 too), on the device of w.

    Raises
    ------
    TypeError, ValueError
        If w is not a dense real tensor (..., d).

    Notes
    -----
    Source: SOFIM, arXiv 2403.02833, algorithm.
    """
    return SofimState(torch.zeros_like(_vector("w", w), dtype=_checks.working(w.dtype)), 0)


@torch.no_grad()
def step(g: Tensor, state: SofimState, *, beta: float = 0.9, rho: float = 0.5) -> tuple[Tensor, SofimState]:
    """One step on flat vectors: ``w_new = w - lr * update``.

    Parameters
    ----------
    g : (..., d) float64, float32, bfloat16 or float16
        Gradient. Not modified.
    state : SofimState
        From `init` or the previous step. Not modified.
    beta : float
        Weight of the old average, in [0, 1).
    rho : float
        Regularisation, above 0, in the units of g squared.

    Returns
    -------
    update : (..., d), dtype of the state
    state : SofimState
        A new one.

    Raises
    ------
    TypeError, ValueError
        If a shape, dtype or layout does not fit, or an option is out of range.

    Notes
    -----
    Source: SOFIM, arXiv 2403.02833, algorithm; direction in closed form (ours).
    """
    _checks.number("beta", beta, at_least=0.0, below=1.0)
    if _vector("g", g).shape != state.M.shape:
        raise ValueError(f"g must have shape {tuple(state.M.shape)} as the state, got {tuple(g.shape)}")
    M, t = average(state.M, g, beta), state.t + 1
    return direction(corrected(M, t, beta), rho=rho), SofimState(M, t)


def average(M: Tensor, g: Tensor, beta: float) -> Tensor:
    return beta * M + (1.0 - beta) * g.to(M.dtype)


def corrected(M: Tensor, t: int, beta: float) -> Tensor:
    return M / (1.0 - beta**t)


def squared_norm(x: Tensor, dim: int | None = None) -> Tensor:
    """``|x|^2`` in wide precision, of everything or along one kept axis."""
    return torch.linalg.vector_norm(
        x, dim=dim, keepdim=dim is not None, dtype=_checks.wide(x.device)
    ).square()


def preconditioned(M_hat: Tensor, nu: Tensor, rho: float) -> Tensor:
    return M_hat / (rho + nu).to(M_hat.dtype)


def _vector(name: str, x: Tensor) -> Tensor:
    if _checks.tensor(name, x).ndim < 1:
        raise ValueError(f"{name} must have shape (..., d), got a scalar tensor")
    return x


def _squares(M_hat: Tensor, rho: float) -> Tensor:
    """nu in the dtype of M_hat, as the printed formula would have it."""
    _checks.number("rho", rho, above=0.0)
    return _vector("M_hat", M_hat).square().sum(dim=-1, keepdim=True)


def _solve(A: float | Tensor, u: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """``A^-1 u`` and ``A^-1 b``; not finite where A is singular."""
    d = b.shape[-1]
    if not isinstance(A, Tensor):
        if _checks.number("A", A) == 0.0:
            raise ValueError("A must not be 0, got 0")
        return u / A, b / A
    A = _checks.tensor("A", A).to(b.dtype)
    if A.ndim == b.ndim + 1:
        _checks.square("A", A, d)
        solution, info = torch.linalg.solve_ex(A, torch.stack([u + 0.0 * b, b + 0.0 * u], dim=-1))
        solution = torch.where((info == 0)[..., None, None], solution, torch.nan)
        return solution[..., 0], solution[..., 1]
    if A.ndim and A.shape[-1] != d:
        raise ValueError(
            f"A must be a number or have shape (..., {d}) or (..., {d}, {d}), got {tuple(A.shape)}"
        )
    return u / A, b / A
