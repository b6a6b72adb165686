"""SOFIM: one regularised rank-one Fisher matrix over the flat vector of all parameters.

Symbols: g gradient, M momentum, M_hat its bias-corrected value, ``F = M_hat M_hat^T + rho I``,
``nu = |M_hat|^2``. M_hat is an eigenvector of F, so that ``F^-1 M_hat = M_hat / (rho + nu)``: SOFIM is
momentum with one adaptive scalar step, and a norm per layer instead of the global one would be another
optimizer.
"""

from typing import NamedTuple

import numpy as np

from reference._arguments import (
    Array,
    array,
    finite_result,
    fraction,
    integer,
    like,
    number,
    positive,
    shape,
    vector,
)
from reference._scaling import exponent

__all__ = [
    "SofimState",
    "bracket_direction",
    "direction",
    "init",
    "sherman_morrison_solve",
    "step",
    "two_term_direction",
]

_EPS = np.finfo(np.float64).eps


def sherman_morrison_solve(A: Array | float, u: Array, v: Array, b: Array) -> Array:
    """Solve ``(A + u v^T) x = b`` by the Sherman-Morrison formula.

    Parameters
    ----------
    A : float, (..., d) or (..., d, d) float64
        A number rho stands for ``rho I``, an array of the shape of `b` for a diagonal matrix, one with an
        axis more for a dense matrix. Not modified.
    u, v, b : (..., d) float64
        Of one shape. Not modified.

    Returns
    -------
    x : (..., d) float64
        ``A^-1 b - A^-1 u (v^T A^-1 b) / (1 + v^T A^-1 u)``.

    Raises
    ------
    ValueError
        If an argument is out of order, or `A` or ``A + u v^T`` is singular to working precision.

    Notes
    -----
    Source: Sherman and Morrison (1950); Hager, "Updating the Inverse of a Matrix" (1989), equation 2.
    Accuracy: not backward stable. The error grows with ``(|A^-1 u| |v|) / |1 + v^T A^-1 u|`` and, for a dense
    A, with its condition.
    """
    b = vector("b", b)
    u, v = like("u", u, b.shape), like("v", v, b.shape)
    with np.errstate(over="ignore", invalid="ignore"):
        A_u, A_b = _solve(A, u), _solve(A, b)
        products = v * A_u
        denominator = 1 + products.sum(axis=-1, keepdims=True)
        scale = 1 + np.abs(products).sum(axis=-1, keepdims=True)
        finite_result("A", scale, "be large enough against u and v")
        if (np.abs(denominator) <= _EPS * scale).any():
            raise ValueError(
                "A + u v^T must be nonsingular to working precision, "
                f"got 1 + v^T A^-1 u = {np.abs(denominator).min():.3g} from terms of size {scale.max():.3g}"
            )
        x = A_b - A_u * ((v * A_b).sum(axis=-1, keepdims=True) / denominator)
    return finite_result("A", x, "be large enough against u, v and b")


def two_term_direction(M_hat: Array, *, rho: float) -> Array:
    """``F^-1 M_hat`` as printed: ``M_hat / rho - M_hat nu / (rho^2 (1 + nu / rho))``, the vectors subtracted.

    Parameters
    ----------
    M_hat : (..., d) float64
        Bias-corrected momentum. Not modified.
    rho : float
        Regularisation, above 0, in units of the squared gradient.

    Returns
    -------
    direction : (..., d) float64
        In units of 1 / gradient.

    Raises
    ------
    ValueError
        If an argument is out of order, or ``rho^2``, ``nu / rho`` or ``rho nu`` leaves the range of float64.

    Notes
    -----
    Source: Sen et al., SOFIM (arXiv 2403.02833), equation 6.
    Accuracy: the terms cancel; the relative error is about ``u * (1 + nu / rho)``, total loss at
    ``nu / rho = 1 / u``. Kept for the study of that loss: use `direction`.
    """
    M_hat, rho = vector("M_hat", M_hat), positive("rho", rho)
    with np.errstate(all="ignore"):
        nu = np.square(M_hat).sum(axis=-1, keepdims=True)
        x = M_hat / rho - M_hat * (nu / (rho**2 * (1 + nu / rho)))
    return finite_result("M_hat", x, "have rho^2, |M_hat|^2 / rho and rho |M_hat|^2 in range")


def bracket_direction(M_hat: Array, *, rho: float) -> Array:
    """``F^-1 M_hat`` with the scalar bracket first: ``M_hat (1 / rho - nu / (rho^2 (1 + nu / rho)))``.

    Parameters
    ----------
    M_hat : (..., d) float64
        Bias-corrected momentum. Not modified.
    rho : float
        Regularisation, above 0, in units of the squared gradient.

    Returns
    -------
    direction : (..., d) float64
        In units of 1 / gradient; exactly zero for ``nu / rho`` well above 1 / u.

    Raises
    ------
    ValueError
        If an argument is out of order, or ``rho^2``, ``nu / rho`` or ``rho nu`` leaves the range of float64.

    Notes
    -----
    Source: a rearrangement of Sen et al., SOFIM (arXiv 2403.02833), equation 6.
    Accuracy: no better than `two_term_direction`.
    """
    M_hat, rho = vector("M_hat", M_hat), positive("rho", rho)
    with np.errstate(all="ignore"):
        nu = np.square(M_hat).sum(axis=-1, keepdims=True)
        x = M_hat * (1 / rho - nu / (rho**2 * (1 + nu / rho)))
    return finite_result("M_hat", x, "have rho^2, |M_hat|^2 / rho and rho |M_hat|^2 in range")


def direction(M_hat: Array, *, rho: float) -> Array:
    """``F^-1 M_hat`` in closed form: ``M_hat / (rho + |M_hat|^2)``.

    Parameters
    ----------
    M_hat : (..., d) float64
        Bias-corrected momentum, any scale. Not modified.
    rho : float
        Regularisation, above 0, in units of the squared gradient.

    Returns
    -------
    direction : (..., d) float64
        In units of 1 / gradient. Its norm is at most ``1 / (2 sqrt(rho))``, attained at ``nu = rho``.

    Raises
    ------
    ValueError
        If an argument is out of order.

    Notes
    -----
    Source: Sen et al., SOFIM (arXiv 2403.02833), equation 6, of which this is the exact value.
    Accuracy: each entry to about ``d * u`` relative, at every scale; there is no overflow.
    """
    M_hat, rho = vector("M_hat", M_hat), positive("rho", rho)
    e = exponent(M_hat, axes=(-1,), at_least=np.sqrt(rho))
    m = np.ldexp(M_hat, -e)
    return np.ldexp(m / (np.ldexp(rho, -2 * e) + np.square(m).sum(axis=-1, keepdims=True)), -e)


class SofimState(NamedTuple):
    """What SOFIM remembers between steps.

    Attributes
    ----------
    M : (..., d) float64
        Average of gradients, not bias-corrected.
    t : int
        Steps taken.

    Notes
    -----
    Source: Sen et al., SOFIM (arXiv 2403.02833), algorithm.
    """

    M: Array
    t: int


def init(w: Array | tuple[int, ...]) -> SofimState:
    """State before the first step: zero momentum.

    Parameters
    ----------
    w : (..., d) float64, or tuple of int
        The flat vector of **all** parameters, or its shape. Not modified, not kept.

    Returns
    -------
    SofimState

    Raises
    ------
    ValueError
        If `w` is out of order.

    Notes
    -----
    Source: Sen et al., SOFIM (arXiv 2403.02833), algorithm.
    Accuracy: exact (zeros).
    """
    return SofimState(np.zeros(shape("w", w, axes=1)), 0)


def step(g: Array, state: SofimState, *, beta: float = 0.9, rho: float = 0.5) -> tuple[Array, SofimState]:
    """One step: ``w_new = w - lr * update``.

    Parameters
    ----------
    g : (..., d) float64
        Gradient over all parameters. Not modified.
    state : SofimState
        From `init` or the previous step. Not modified.
    beta : float
        In [0, 1), the weight of the old momentum. 0.9 is a follow-up's default; the paper's is not known.
    rho : float
        Regularisation, above 0, in units of the squared gradient. 0.5 is the paper's.

    Returns
    -------
    update : (..., d) float64
        ``M_hat / (rho + |M_hat|^2)``, ``M_hat = M / (1 - beta^t)``.
    state : SofimState
        The new state; nothing is shared with the old one.

    Raises
    ------
    ValueError
        If an argument is out of order.

    Notes
    -----
    Source: Sen et al., SOFIM (arXiv 2403.02833), algorithm and equation 6.
    Accuracy: ``1 - beta^t`` has a relative error of about ``u / (t (1 - beta))`` while ``t (1 - beta)`` is
    small; at ``t = 1`` it is the very weight of g, and ``M_hat = g`` to rounding for every beta.
    """
    beta = fraction("beta", beta)
    g = like("g", g, vector("state.M", state.M).shape)
    t = integer("state.t", state.t, minimum=0) + 1
    M = beta * state.M + (1 - beta) * g
    return direction(M / (1 - beta**t), rho=rho), SofimState(M, t)


def _solve(A: Array | float, b: Array) -> Array:
    """``A^-1 b`` for a number, a diagonal or a dense matrix that is nonsingular to working precision."""
    if not isinstance(A, np.ndarray):
        A = np.full(b.shape, number("A", A))
    A = array("A", A, form=f"{b.shape} or {(*b.shape, b.shape[-1])}")
    if A.shape == b.shape:
        if (A == 0).any():
            raise ValueError("A must be nonsingular, got a zero")
        return b / A
    A = like("A", A, (*b.shape, b.shape[-1]))
    if b.size and not (np.linalg.cond(A) * _EPS < 1).all():
        raise ValueError("A must be nonsingular to working precision, got a condition number above 1 / eps")
    return np.asarray(np.linalg.solve(A, b[..., None])[..., 0], dtype=np.float64)
