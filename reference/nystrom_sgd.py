"""Nystrom-SGD: a regularised low-rank inverse of the Hessian from a few of its columns.

Symbols: g gradient, H Hessian, Omega chosen columns, C = H[:, Omega], H_OO = H[Omega, Omega] = U Sigma U^T,
``Z = C U |Sigma|^(-1/2)``, so that ``Z Z^T = C |H_OO|^-1 C^T``, rho regularisation.

The published rule does not say what to do where H_OO is indefinite. Here the eigenvalues count by their
absolute value, which keeps ``Z Z^T`` positive semidefinite; for a positive semidefinite H it changes nothing.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reference._arguments import (
    Array,
    choice,
    finite_result,
    integer,
    like,
    matrix,
    non_negative,
    positive,
    shape,
    vector,
)
from reference._moments import with_weight_decay
from reference._spd import symmetric

__all__ = [
    "NystromState",
    "column_count",
    "direction",
    "init",
    "sketch",
    "step",
    "two_term_direction",
]

_EPS = np.finfo(np.float64).eps

#: A Hessian from products with vectors is symmetric to rounding only: as in `reference._spd`, 2^12 units.
_ASYMMETRY = 2.0**-40


def column_count(*, d: int) -> int:
    """The published default number of columns, ``ceil(log2 d)``, and one for a single parameter.

    Parameters
    ----------
    d : int
        Number of parameters, at least 1.

    Returns
    -------
    count : int

    Raises
    ------
    ValueError
        If `d` is below 1.

    Notes
    -----
    Source: Singh, Tankaria, Yamada, Nystrom-SGD (arXiv 2110.08577), public code.
    Accuracy: exact (integers).
    """
    return max(1, (integer("d", d, minimum=1) - 1).bit_length())


def sketch(C: Array, columns: Sequence[int] | NDArray[np.integer]) -> Array:
    """``Z = C U |Sigma|^(-1/2)``.

    Parameters
    ----------
    C : (..., d, r) float64
        Columns of a symmetric H: ``H[..., columns]``, or products of H with the unit vectors of `columns`.
        Not modified.
    columns : sequence of int
        r different indices below d, drawn by the caller, the same for a batch.

    Returns
    -------
    Z : (..., d, r) float64
        In units of the root of H. Columns that belong to eigenvalues of H_OO below ``r eps`` times the
        largest are zero.

    Raises
    ------
    ValueError
        If an argument is out of order, or the rows `columns` of `C` are not symmetric to rounding.

    Notes
    -----
    Source: Singh, Tankaria, Yamada, Nystrom-SGD (arXiv 2110.08577), abstract and public code;
    the absolute value is ours.
    Accuracy: ``Z Z^T`` to about ``r u |C|^2 / |sigma|`` for the smallest eigenvalue sigma that is kept.
    """
    C = matrix("C", C)
    d, r = C.shape[-2:]
    chosen = [integer("columns", column, minimum=0) for column in columns]
    if len(chosen) != r or len(set(chosen)) != r or any(column >= d for column in chosen):
        raise ValueError(f"columns must be {r} different indices below {d}, got {chosen}")
    core = C[..., np.array(chosen, dtype=np.intp), :]
    asymmetry = np.abs(0.5 * core - 0.5 * core.mT).max(initial=0.0)
    if not asymmetry <= _ASYMMETRY * np.abs(0.5 * core).max(initial=0.0):
        raise ValueError(f"C must have symmetric rows at columns, got a difference of {2 * asymmetry:.3g}")
    sigma, U = np.linalg.eigh(symmetric(core))
    size = np.abs(sigma)
    kept = size > r * _EPS * size.max(axis=-1, keepdims=True, initial=0.0)
    return (C @ U) * np.where(kept, 1 / np.sqrt(np.where(kept, size, 1.0)), 0.0)[..., None, :]


def two_term_direction(g: Array, Z: Array, *, rho: float) -> Array:
    """``g / rho - Z (I + Z^T Z / rho)^-1 Z^T g / rho^2``, as printed.

    Parameters
    ----------
    g : (..., d) float64
        Gradient. Not modified.
    Z : (..., d, r) float64
        From `sketch`. Not modified.
    rho : float
        Regularisation, above 0, in units of the Hessian.

    Returns
    -------
    direction : (..., d) float64
        ``(Z Z^T + rho I)^-1 g``.

    Raises
    ------
    ValueError
        If an argument is out of order, a product leaves the range of float64, or ``I + Z^T Z / rho`` is
        singular in it.

    Notes
    -----
    Source: Singh, Tankaria, Yamada, Nystrom-SGD (arXiv 2110.08577), abstract and public code.
    Accuracy: not backward stable. In the range of Z the terms cancel and magnify rounding by up to
    ``1 + 2 |Z|^2 / rho``; see `direction`.
    """
    g, Z, rho = _checked(g, Z, rho)
    with np.errstate(over="ignore", invalid="ignore"):
        inner = finite_result("Z", Z.mT @ Z / rho, "have a square over rho in range")
        core = np.eye(Z.shape[-1]) + inner
        try:
            second = Z @ np.linalg.solve(core, Z.mT @ g[..., None]) / rho**2
        except np.linalg.LinAlgError:
            raise ValueError(
                f"rho must be large enough for I + Z^T Z / rho to be nonsingular, got {rho}"
            ) from None
        return finite_result("g", g / rho - second[..., 0], "have terms in range")


def direction(g: Array, Z: Array, *, rho: float) -> Array:
    """``(Z Z^T + rho I)^-1 g`` without cancellation, in an orthonormal basis of the whole space.

    Parameters
    ----------
    g : (..., d) float64
        Gradient. Not modified.
    Z : (..., d, r) float64
        From `sketch`. Not modified.
    rho : float
        Regularisation, above 0, in units of the Hessian.

    Returns
    -------
    direction : (..., d) float64
        ``g_i / (z_i^2 + rho)`` along the left singular vectors of Z, ``g_i / rho`` across them.

    Raises
    ------
    ValueError
        If an argument is out of order, or the square of `Z` or the result overflows.

    Notes
    -----
    Source: Singh, Tankaria, Yamada, Nystrom-SGD (arXiv 2110.08577), of whose step this is the exact value.
    Accuracy: backward stable, a residual of order ``d u``; costs a d x d orthogonal factor.
    """
    g, Z, rho = _checked(g, Z, rho)
    if not g.shape[-1]:
        return g.copy()
    U, z, _ = np.linalg.svd(Z, full_matrices=True)
    with np.errstate(over="ignore", invalid="ignore"):
        eigenvalues = np.full(g.shape, rho)
        eigenvalues[..., : z.shape[-1]] += np.square(z)
        finite_result("Z", eigenvalues, "have a square in range")
        x = (U @ ((U.mT @ g[..., None])[..., 0] / eigenvalues)[..., None])[..., 0]
    return finite_result("g", x, "have a quotient by rho in range")


class NystromState(NamedTuple):
    """What Nystrom-SGD remembers between steps.

    Attributes
    ----------
    Z : (..., d, r) float64
        The sketch in force, in units of the root of the Hessian.

    Notes
    -----
    Source: Singh, Tankaria, Yamada, Nystrom-SGD (arXiv 2110.08577).
    """

    Z: Array


def init(w: Array | tuple[int, ...], *, columns: int | None = None) -> NystromState:
    """State before the first sketch: no curvature, the step is ``g / rho``.

    Parameters
    ----------
    w : (..., d) float64, or tuple of int
        The flat vector of all parameters, or its shape. Not modified, not kept.
    columns : int, optional
        r, at least 0; `column_count` by default.

    Returns
    -------
    NystromState

    Raises
    ------
    ValueError
        If an argument is out of order.

    Notes
    -----
    Source: Singh, Tankaria, Yamada, Nystrom-SGD (arXiv 2110.08577).
    Accuracy: exact (zeros).
    """
    sizes = shape("w", w, axes=1)
    if columns is None:
        columns = column_count(d=sizes[-1]) if sizes[-1] else 0
    return NystromState(np.zeros((*sizes, integer("columns", columns, minimum=0))))


def step(
    g: Array,
    state: NystromState,
    *,
    rho: float,
    Z: Array | None = None,
    form: Literal["stable", "two-term"] = "stable",
    weight_decay: float = 0.0,
    W: Array | None = None,
) -> tuple[Array, NystromState]:
    """One step: ``w_new = w - lr * update``.

    Parameters
    ----------
    g : (..., d) float64
        Gradient over all parameters. Not modified.
    state : NystromState
        From `init` or the previous step. Not modified.
    rho : float
        Regularisation, above 0, in units of the Hessian.
    Z : (..., d, r) float64, optional
        A fresh `sketch`, of any rank r; without one the old sketch stays in force. Not modified.
    form : {"stable", "two-term"}
        `direction` or `two_term_direction`.
    weight_decay : float
        At least 0; decoupled: the update contains ``weight_decay * W``.
    W : (..., d) float64, optional
        The parameters, needed if ``weight_decay > 0``. Not modified.

    Returns
    -------
    update : (..., d) float64
        ``(Z Z^T + rho I)^-1 g + weight_decay W``.
    state : NystromState
        The new state; nothing is shared with the old one.

    Raises
    ------
    ValueError
        If an argument is out of order, a product leaves the range of float64, or `W` is missing where weight
        decay needs it.

    Notes
    -----
    Source: Singh, Tankaria, Yamada, Nystrom-SGD (arXiv 2110.08577), abstract and public code. A later
    variant sets ``rho = max(c |g|^2, 1e-4)`` and backtracks; here rho and the columns are the caller's.
    Accuracy: that of `direction` or `two_term_direction`; decay adds a few u relative to the absolute terms.
    """
    weight_decay = non_negative("weight_decay", weight_decay)
    stable = choice("form", form, ("stable", "two-term")) == "stable"
    sketched = matrix("state.Z", state.Z) if Z is None else matrix("Z", Z)
    update = (direction if stable else two_term_direction)(g, sketched, rho=rho)
    return with_weight_decay(update, W, weight_decay), NystromState(sketched.copy())


def _checked(g: Array, Z: Array, rho: float) -> tuple[Array, Array, float]:
    """The arguments of a direction."""
    g, Z = vector("g", g), matrix("Z", Z)
    return g, like("Z", Z, (*g.shape, Z.shape[-1])), positive("rho", rho)
