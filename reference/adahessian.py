"""AdaHessian: Adam with the diagonal of the Hessian, by Hutchinson's estimator, in place of the gradient.

Symbols: G gradient, H Hessian, z Rademacher probe, D diagonal of H or an estimate of it, m average of G,
v average of D^2, k the Hessian power.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from reference._arguments import (
    Array,
    array,
    choice,
    fraction,
    integer,
    like,
    matrix,
    non_negative,
    vector,
)
from reference._moments import (
    average,
    correction,
    quotient,
    second_moment,
    with_weight_decay,
    zeros,
)

__all__ = [
    "AdaHessianState",
    "exact_diagonal",
    "hutchinson_diagonal",
    "init",
    "spatial_average",
    "step",
]

Averaging = Literal["none", "paper", "released"]


def exact_diagonal(H: Array) -> Array:
    """The diagonal of a Hessian, which is what Hutchinson's estimator estimates.

    Parameters
    ----------
    H : (..., d, d) float64
        Hessian. Not modified.

    Returns
    -------
    D : (..., d) float64
        A copy.

    Raises
    ------
    ValueError
        If `H` is not a finite float64 array of square matrices.

    Notes
    -----
    Source: Yao et al., AdaHessian (2021), Hessian diagonal.
    Accuracy: exact (a copy).
    """
    H = matrix("H", H)
    if H.shape[-2] != H.shape[-1]:
        raise ValueError(f"H must be square, got shape {H.shape}")
    return np.diagonal(H, axis1=-2, axis2=-1).copy()


def hutchinson_diagonal(hvp: Callable[[Array], Array], z: Array) -> Array:
    """``mean over probes of z * (H z)``, whose expectation is the diagonal of H.

    Parameters
    ----------
    hvp : callable
        Takes probes of the shape of `z` and returns H times each, in that shape.
    z : (..., N, d) float64
        Probes, at least one, entries +1 or -1; a plain vector counts as one probe. Not modified.

    Returns
    -------
    D : (..., d) float64
        Exact for a diagonal H with any single probe. Otherwise entry i has variance
        ``(sum over j != i of H_ij^2) / N`` for a symmetric H.

    Raises
    ------
    ValueError
        If `z` is out of order or `hvp` returns something of another shape, dtype or not finite.

    Notes
    -----
    Source: Yao et al., AdaHessian (2021), Hutchinson diagonal; Bekas, Kokiopoulou, Saad, "An estimator for
    the diagonal of a matrix" (2007).
    Accuracy: relative to the mean of ``|z * (H z)|``, about ``N * u`` beyond the error of `hvp`.
    """
    z = vector("z", z)
    z = z[None] if z.ndim == 1 else z
    if not z.shape[-2]:
        raise ValueError(f"z must have at least one probe, got shape {z.shape}")
    if not (np.abs(z) == 1).all():
        raise ValueError("z must have entries +1 and -1, got others")
    return (z * like("hvp(z)", hvp(z.copy()), z.shape)).mean(axis=-2)


def spatial_average(D: Array, *, averaging: Averaging, axes: int = 2) -> Array:
    """Replace the diagonal of a convolution kernel by its average over the kernel's window.

    Parameters
    ----------
    D : (..., h, w) float64
        Diagonal; its last axes are the window. Not modified.
    averaging : {"none", "paper", "released"}
        D itself; the mean over the window, as the paper writes it; or the mean of ``|D|``, as the authors'
        code computes it. They differ where signs do.
    axes : int
        At least 1, how many of the last axes are the window: 2 for a two-dimensional convolution. The
        authors' code averages matrices too, over the last axis.

    Returns
    -------
    D : (..., h, w) float64
        Constant over the window, unless "none".

    Raises
    ------
    ValueError
        If an argument is out of order.

    Notes
    -----
    Source: Yao et al., AdaHessian (2021), spatial averaging; "released" from the source of
    amirgholami's adahessian.
    Accuracy: a mean over k entries to about ``k u`` relative to the mean of ``|D|``; "none" is exact.
    """
    choice("averaging", averaging, ("none", "paper", "released"))
    axes = integer("axes", axes, minimum=1)
    if averaging == "none":
        return array("D", D).copy()
    D = array("D", D, form=f"(...) with at least {axes} axes", axes=axes)
    if not D.size:
        return D.copy()
    values = np.abs(D) if averaging == "released" else D
    window = tuple(range(-axes, 0))
    return np.broadcast_to(values.mean(axis=window, keepdims=True), D.shape).copy()


class AdaHessianState(NamedTuple):
    """What AdaHessian remembers between steps.

    Attributes
    ----------
    m : (...) float64
        Average of gradients, before bias correction.
    v : (...) float64
        Average of squared diagonals, before bias correction; at least 0.
    t : int
        Steps taken.

    Notes
    -----
    Source: Yao et al., AdaHessian (2021), algorithm 1.
    """

    m: Array
    v: Array
    t: int


def init(W: Array | tuple[int, ...]) -> AdaHessianState:
    """State before the first step: both averages zero.

    Parameters
    ----------
    W : (...) float64, or tuple of int
        The parameter, of any shape, or its shape. Not modified, not kept.

    Returns
    -------
    AdaHessianState

    Raises
    ------
    ValueError
        If `W` is out of order.

    Notes
    -----
    Source: Yao et al., AdaHessian (2021), algorithm 1.
    Accuracy: exact (zeros).
    """
    return AdaHessianState(zeros(W), zeros(W), 0)


def step(
    G: Array,
    D: Array,
    state: AdaHessianState,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-4,
    power: float = 1.0,
    averaging: Averaging = "none",
    averaging_axes: int = 2,
    weight_decay: float = 0.0,
    W: Array | None = None,
) -> tuple[Array, AdaHessianState]:
    """One step: ``W_new = W - lr * update``.

    Parameters
    ----------
    G : (...) float64
        Gradient at W. Not modified.
    D : (...) float64
        Diagonal of the Hessian at W or an estimate of it, any sign. Not modified.
    state : AdaHessianState
        From `init` or the previous step. Not modified.
    beta1, beta2 : float
        In [0, 1), the weights of the old averages.
    epsilon : float
        At least 0, in units of ``D^k``; added outside the power. The default is that of the authors' code.
    power : float
        k in [0, 1]; 1 is usual, 0 is momentum with a constant step.
    averaging : {"none", "paper", "released"}
        As in `spatial_average`; off by default.
    averaging_axes : int
        At least 1, over how many of the last axes.
    weight_decay : float
        At least 0; decoupled: the update contains ``weight_decay * W``.
    W : (...) float64, optional
        The parameter, needed if ``weight_decay > 0``. Not modified.

    Returns
    -------
    update : (...) float64
        ``m_hat / (v_hat^(k / 2) + epsilon) + weight_decay W``, ``m_hat = m / (1 - beta1^t)``,
        ``v_hat = v / (1 - beta2^t)``.
    state : AdaHessianState
        The new state; nothing is shared with the old one.

    Raises
    ------
    ValueError
        If an argument is out of order, `W` is missing where weight decay needs it, the square of `D` leaves
        the range of float64, or an entry of D is zero while epsilon is.

    Notes
    -----
    Source: Yao et al., AdaHessian (2021), algorithm 1.
    Accuracy: each entry to a few u relative to the averages of ``|G|`` and ``D^2``.
    """
    beta1, beta2 = fraction("beta1", beta1), fraction("beta2", beta2)
    epsilon, power = non_negative("epsilon", epsilon), fraction("power", power, closed=True)
    weight_decay = non_negative("weight_decay", weight_decay)
    G = like("G", G, array("state.m", state.m).shape)
    D = spatial_average(like("D", D, G.shape), averaging=averaging, axes=averaging_axes)
    t = integer("state.t", state.t, minimum=0) + 1
    m = average(state.m, G, beta1)
    v = second_moment("state.v", state.v, D, beta2, blame="D")
    scale = (v / correction(beta2, t)) ** (power / 2)
    update = quotient(m / correction(beta1, t), scale + epsilon, blame="D")
    return with_weight_decay(update, W, weight_decay), AdaHessianState(m, v, t)
