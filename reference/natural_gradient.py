"""Natural gradient: the Fisher matrix of small models, exactly, and the step that it preconditions.

Symbols: theta parameters (P of them), z outputs of the model (k per sample), J = dz / dtheta, p probabilities
softmax(z), F Fisher matrix ``E[grad log p grad log p^T]``, the mean over samples and over labels *drawn from
the model*, Lambda Hessian of the loss in z.

For a loss that is the negative log-likelihood of an exponential family in its natural parameters z, F is the
Gauss-Newton matrix ``E[J^T Lambda J]`` and the Hessian expected under the model. The *empirical* Fisher
matrix takes the labels that were observed, and is neither.
"""

from typing import NamedTuple

import numpy as np

from reference._arguments import (
    Array,
    array,
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
from reference._spd import eigh

__all__ = [
    "NaturalGradientState",
    "categorical_fisher",
    "empirical_fisher",
    "gauss_newton",
    "gaussian_fisher",
    "init",
    "linear_jacobian",
    "softmax",
    "softmax_hessian",
    "step",
]


def softmax(z: Array) -> Array:
    """Probabilities ``exp(z_y) / sum exp(z)``.

    Parameters
    ----------
    z : (..., k) float64
        Logits, any size. Not modified.

    Returns
    -------
    p : (..., k) float64
        At least 0, of sum 1.

    Raises
    ------
    ValueError
        If `z` is out of order.

    Notes
    -----
    Source: Bishop, "Pattern Recognition and Machine Learning" (2006), equation 4.62.
    Accuracy: each entry to a few u times ``1 + max(z) - z_y`` relative, until it underflows.
    """
    z = vector("z", z)
    with np.errstate(over="ignore", under="ignore"):
        weights = np.exp(z - z.max(axis=-1, keepdims=True, initial=-np.inf))
    return weights / weights.sum(axis=-1, keepdims=True)


def softmax_hessian(z: Array) -> Array:
    """``Lambda = diag(p) - p p^T``, Hessian of the cross-entropy in the logits, whatever the label.

    Parameters
    ----------
    z : (..., k) float64
        Logits. Not modified.

    Returns
    -------
    Lambda : (..., k, k) float64
        Symmetric positive semidefinite, its rows of sum 0: adding a number to all logits changes nothing.

    Raises
    ------
    ValueError
        If `z` is out of order.

    Notes
    -----
    Source: Martens, "New Insights and Perspectives on the Natural Gradient Method" (arXiv 1412.1193),
    section 9.
    Accuracy: entries to a few u times ``1 + max(z) - min(z)``, relative to ``p_i p_j`` off the diagonal and
    to ``p_i + p_i^2`` on it, where the terms cancel as ``p_i`` nears 1.
    """
    p = softmax(z)
    return p[..., None, :] * np.eye(p.shape[-1]) - p[..., :, None] * p[..., None, :]


def linear_jacobian(x: Array, *, outputs: int) -> Array:
    """Jacobian of ``z = W x`` in the entries of W, row after row.

    Parameters
    ----------
    x : (..., n) float64
        Inputs. Not modified.
    outputs : int
        k, the rows of W, at least 0.

    Returns
    -------
    J : (..., k, k n) float64
        ``I kron x^T``.

    Raises
    ------
    ValueError
        If an argument is out of order.

    Notes
    -----
    Source: Bishop, "Pattern Recognition and Machine Learning" (2006), section 4.3.4.
    Accuracy: exact, nothing is computed.
    """
    x, k = vector("x", x), integer("outputs", outputs, minimum=0)
    J = np.eye(k)[:, :, None] * x[..., None, None, :]
    return J.reshape(*x.shape[:-1], k, k * x.shape[-1])


def categorical_fisher(J: Array, z: Array) -> Array:
    """Exact Fisher matrix of a classifier, by its definition: the sum over all labels.

    Parameters
    ----------
    J : (..., N, k, P) float64
        Jacobian of the logits of each sample. Not modified.
    z : (..., N, k) float64
        Logits. Not modified.

    Returns
    -------
    F : (..., P, P) float64
        Mean over samples of ``sum_y p_y g_y g_y^T`` with ``g_y = J^T (e_y - p)``, the gradient of log p_y.

    Raises
    ------
    ValueError
        If an argument is out of order, there is no sample, or a product overflows.

    Notes
    -----
    Source: Amari, "Natural Gradient Works Efficiently in Learning" (1998), section 3.
    Accuracy: entries to about ``(k + N + max(z) - min(z)) u`` times the mean of the squared gradients, taken
    with absolute values in ``J^T (e_y - p)``.
    """
    J, z = _jacobian(J), matrix("z", z)
    p = softmax(like("z", z, J.shape[:-1]))
    residuals = np.eye(p.shape[-1]) - p[..., None, :]  # row y is e_y - p
    with np.errstate(over="ignore", invalid="ignore"):
        scores = np.sqrt(p)[..., None] * (residuals @ J)
    return _second_moment("J", scores.reshape(*J.shape[:-3], -1, J.shape[-1]), samples=J.shape[-3])


def gaussian_fisher(J: Array, *, sigma: float = 1.0) -> Array:
    """Exact Fisher matrix of regression with Gaussian noise, ``E[J^T J] / sigma^2``.

    Parameters
    ----------
    J : (..., N, k, P) float64
        Jacobian of the predicted means of each sample. Not modified.
    sigma : float
        Standard deviation of the noise of every output, above 0.

    Returns
    -------
    F : (..., P, P) float64
        ``E_y[g g^T]`` with ``g = J^T (y - z) / sigma^2`` and ``E[(y - z) (y - z)^T] = sigma^2 I``.

    Raises
    ------
    ValueError
        If an argument is out of order, there is no sample, or a product leaves the range of float64.

    Notes
    -----
    Source: Amari, "Natural Gradient Works Efficiently in Learning" (1998), section 3.
    Accuracy: entries of order ``N k u`` relative to the same formula with absolute values of J.
    """
    J, sigma = _jacobian(J), positive("sigma", sigma)
    with np.errstate(over="ignore", invalid="ignore"):
        scores = J.reshape(*J.shape[:-3], -1, J.shape[-1]) / sigma
    return _second_moment("J", scores, samples=J.shape[-3])


def gauss_newton(J: Array, Lambda: Array) -> Array:
    """Generalised Gauss-Newton matrix ``E[J^T Lambda J]``.

    Parameters
    ----------
    J : (..., N, k, P) float64
        Jacobian of the outputs of each sample. Not modified.
    Lambda : (..., N, k, k) float64
        Hessian of each sample's loss in the outputs: `softmax_hessian`, or ``I / sigma^2``. Not modified.

    Returns
    -------
    GN : (..., P, P) float64
        The Hessian of the mean loss without the curvature of the model.

    Raises
    ------
    ValueError
        If an argument is out of order, there is no sample, or a product overflows.

    Notes
    -----
    Source: Schraudolph, "Fast Curvature Matrix-Vector Products" (2002), section 3.
    Accuracy: entries of order ``(k + N) u`` relative to the same formula with absolute values of J and
    Lambda.
    """
    J = _jacobian(J)
    Lambda = like("Lambda", Lambda, (*J.shape[:-1], J.shape[-2]))
    with np.errstate(over="ignore", invalid="ignore"):
        GN = (J.mT @ Lambda @ J).mean(axis=-3)
    return finite_result("J", GN, "have products in range")


def empirical_fisher(g: Array) -> Array:
    """``E[g g^T]`` over samples with their observed labels: the second moment of gradients.

    Parameters
    ----------
    g : (..., N, P) float64
        Gradient of each sample's own loss. Not modified.

    Returns
    -------
    second_moment : (..., P, P) float64
        Not the Fisher matrix, unless the labels are distributed as the model says.

    Raises
    ------
    ValueError
        If `g` is out of order, there is no sample, or a square overflows.

    Notes
    -----
    Source: Kunstner, Balles, Hennig, "Limitations of the Empirical Fisher Approximation for Natural Gradient
    Descent" (arXiv 1905.12558), equation 3.
    Accuracy: entries of order ``N u`` relative to the same formula with absolute values of g.
    """
    g = matrix("g", g)
    _some_samples("g", g.shape[-2])
    return _second_moment("g", g, samples=g.shape[-2])


class NaturalGradientState(NamedTuple):
    """What the natural gradient remembers between steps: nothing but its metric.

    Attributes
    ----------
    F : (..., P, P) float64
        The Fisher matrix in force.

    Notes
    -----
    Source: Amari, "Natural Gradient Works Efficiently in Learning" (1998).
    """

    F: Array


def init(w: Array | tuple[int, ...]) -> NaturalGradientState:
    """State before the first Fisher matrix: the Euclidean metric, in which the step is the gradient.

    Parameters
    ----------
    w : (..., P) float64, or tuple of int
        The flat vector of all parameters, or its shape. Not modified, not kept.

    Returns
    -------
    NaturalGradientState

    Raises
    ------
    ValueError
        If `w` is out of order.

    Notes
    -----
    Source: Amari, "Natural Gradient Works Efficiently in Learning" (1998).
    Accuracy: exact, nothing is computed.
    """
    sizes = shape("w", w, axes=1)
    return NaturalGradientState(np.broadcast_to(np.eye(sizes[-1]), (*sizes, sizes[-1])).copy())


def step(
    g: Array,
    state: NaturalGradientState,
    *,
    F: Array | None = None,
    damping: float = 0.0,
    weight_decay: float = 0.0,
    W: Array | None = None,
) -> tuple[Array, NaturalGradientState]:
    """One step: ``w_new = w - lr * update``.

    Parameters
    ----------
    g : (..., P) float64
        Gradient of the mean loss. Not modified.
    state : NaturalGradientState
        From `init` or the previous step. Not modified.
    F : (..., P, P) float64, optional
        A fresh Fisher matrix; without one the old stays in force. Not modified.
    damping : float
        At least 0, in units of F. A softmax layer needs it: its F is singular.
    weight_decay : float
        At least 0; decoupled: the update contains ``weight_decay * W``.
    W : (..., P) float64, optional
        The parameters, needed if ``weight_decay > 0``. Not modified.

    Returns
    -------
    update : (..., P) float64
        ``(F + damping I)^-1 g + weight_decay W``: along an eigenvector of F with eigenvalue phi_i it is
        ``g_i / (phi_i + damping)``, long in flat directions.
    state : NaturalGradientState
        The new state; nothing is shared with the old one.

    Raises
    ------
    ValueError
        If an argument is out of order, ``F + damping I`` is not positive definite to working precision, or
        `W` is missing where weight decay needs it.

    Notes
    -----
    Source: Amari, "Natural Gradient Works Efficiently in Learning" (1998), theorem 1.
    Accuracy: relative error of order ``P * u`` times the condition of ``F + damping I``.
    """
    damping, weight_decay = non_negative("damping", damping), non_negative("weight_decay", weight_decay)
    g = vector("g", g)
    name, metric = ("state.F", state.F) if F is None else ("F", F)
    metric = like(name, metric, (*g.shape, g.shape[-1]))
    phi, V = eigh(name if damping == 0 else f"{name} + damping I", metric + damping * np.eye(g.shape[-1]))
    update = (V @ ((V.mT @ g[..., None])[..., 0] / phi)[..., None])[..., 0]
    return with_weight_decay(update, W, weight_decay), NaturalGradientState(metric.copy())


def _jacobian(J: Array) -> Array:
    """A stack of Jacobians with at least one sample."""
    J = array("J", J, form="(..., N, k, P)", axes=3)
    _some_samples("J", J.shape[-3])
    return J


def _some_samples(name: str, count: int) -> None:
    if not count:
        raise ValueError(f"{name} must hold at least one sample, got none")


def _second_moment(name: str, X: Array, *, samples: int) -> Array:
    """``X^T X / samples``, exactly symmetric."""
    with np.errstate(over="ignore", invalid="ignore"):
        M = X.mT @ X / samples
    return finite_result(name, 0.5 * M + 0.5 * M.mT, "have products in range")
