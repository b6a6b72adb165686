"""K-FAC: the Fisher block of a linear layer as a Kronecker product of two second moments.

Symbols: a layer inputs (abar with a 1 appended for the bias), s gradients of the log-likelihood with respect
to the layer's outputs, for labels drawn from the model, ``A = E[abar abar^T]``, ``S = E[s s^T]``, G gradient
of the loss with respect to the weights (outputs x inputs, the bias as last column), lam damping.

With columns stacked, ``A kron S`` acts on vec(G) as ``S G A``. It is exact where the second moments of abar
and s are independent.
"""

from typing import NamedTuple

import numpy as np

from reference._arguments import (
    Array,
    finite_result,
    fraction,
    integer,
    like,
    matrix,
    non_negative,
    shape,
)
from reference._moments import average, with_weight_decay
from reference._spd import eigh

__all__ = ["KfacState", "factors", "init", "pi_split", "step"]


def factors(a: Array, s: Array, *, bias: bool = True) -> tuple[Array, Array]:
    """``A = E[abar abar^T]`` and ``S = E[s s^T]``, means over samples.

    Parameters
    ----------
    a : (..., N, n) float64
        Inputs of the layer, at least one sample. Not modified.
    s : (..., N, m) float64
        Gradients of each sample's own log-likelihood (not of the mean) with respect to the outputs of the
        layer, for a label drawn from the model. For the exact S give every label as a sample of its own,
        weighted by the root of its probability times the root of their number. Not modified.
    bias : bool
        Append a 1 to every input.

    Returns
    -------
    A : (..., n', n') float64
        n' is n + 1 with bias, else n. Symmetric positive semidefinite, in squared units of the inputs.
    S : (..., m, m) float64
        Symmetric positive semidefinite.

    Raises
    ------
    ValueError
        If an argument is out of order, there is no sample, or a square overflows.

    Notes
    -----
    Source: Martens and Grosse, K-FAC (arXiv 1503.05671), section 3.
    Accuracy: each entry to about ``N u`` relative to the mean of ``|abar| |abar|^T``, or ``|s| |s|^T``.
    """
    a = matrix("a", a)
    s = matrix("s", s)
    if not isinstance(bias, bool):
        raise TypeError(f"bias must be True or False, got {type(bias).__name__}")
    if s.shape[:-1] != a.shape[:-1] or not a.shape[-2]:
        raise ValueError(f"s must have shape {(*a.shape[:-1], 'm')} with samples to average, got {s.shape}")
    if bias:
        a = np.concatenate([a, np.ones((*a.shape[:-1], 1))], axis=-1)
    return _second_moment("a", a), _second_moment("s", s)


def pi_split(A: Array, S: Array, *, lam: float) -> tuple[Array, Array]:
    """The damping of each factor: ``pi sqrt(lam)`` for A and ``sqrt(lam) / pi`` for S.

    Parameters
    ----------
    A, S : (..., n, n) and (..., m, m) float64
        Factors, of traces at least 0. Not modified.
    lam : float
        At least 0: damping of the whole block, in units of ``A kron S``.

    Returns
    -------
    damping_A, damping_S : (...) float64
        Of product lam, ``pi^2 = (tr(A) / n) / (tr(S) / m)``; pi is 1 where either trace is 0.

    Raises
    ------
    ValueError
        If an argument is out of order.

    Notes
    -----
    Source: Martens and Grosse, K-FAC (arXiv 1503.05671), section 6.3, with the trace norm.
    Accuracy: relative error of about ``(n + m) u`` for diagonals of at least 0, whose traces do not cancel.
    """
    A, S, lam = matrix("A", A), matrix("S", S), non_negative("lam", lam)
    if A.shape[:-2] != S.shape[:-2]:
        raise ValueError(f"S must have the batch axes of A, {A.shape[:-2]}, got {S.shape[:-2]}")
    means = _mean_eigenvalue("A", A), _mean_eigenvalue("S", S)
    usable = (means[0] > 0) & (means[1] > 0)
    root = np.sqrt(np.where(usable, means[0], 1.0)) / np.sqrt(np.where(usable, means[1], 1.0))
    return np.asarray(root * np.sqrt(lam)), np.asarray(np.sqrt(lam) / root)


class KfacState(NamedTuple):
    """What K-FAC remembers of a layer between steps.

    Attributes
    ----------
    A : (..., n, n) float64
        Average of input second moments, the bias included.
    S : (..., m, m) float64
        Average of output-gradient second moments.
    t : int
        Steps taken.

    Notes
    -----
    Source: Martens and Grosse, K-FAC (arXiv 1503.05671), section 5.
    """

    A: Array
    S: Array
    t: int


def init(W: Array | tuple[int, ...]) -> KfacState:
    """State before the first step; its zero factors get no weight.

    Parameters
    ----------
    W : (..., m, n) float64, or tuple of int
        The weights, with the bias as last column if there is one, or their shape. Not modified, not kept.

    Returns
    -------
    KfacState

    Raises
    ------
    ValueError
        If `W` is out of order.

    Notes
    -----
    Source: Martens and Grosse, K-FAC (arXiv 1503.05671), section 5.
    Accuracy: exact (zeros).
    """
    *batch, m, n = shape("W", W, axes=2)
    return KfacState(np.zeros((*batch, n, n)), np.zeros((*batch, m, m)), 0)


def step(
    G: Array,
    state: KfacState,
    *,
    A: Array,
    S: Array,
    lam: float = 1e-2,
    decay: float = 0.95,
    weight_decay: float = 0.0,
    W: Array | None = None,
) -> tuple[Array, KfacState]:
    """One step: ``W_new = W - lr * update``.

    Parameters
    ----------
    G : (..., m, n) float64
        Gradient of the mean loss (observed labels), the bias as last column. Not modified.
    state : KfacState
        From `init` or the previous step. Not modified.
    A, S : (..., n, n) and (..., m, m) float64
        Fresh `factors` (labels drawn from the model). Not modified.
    lam : float
        At least 0: damping, in units of ``A kron S``. The paper adapts it; the default value is ours.
    decay : float
        In [0, 1): the weight of the old average is ``min(1 - 1 / t, decay)`` at step t, so that the first
        statistics are taken as they are. 0 keeps no average.
    weight_decay : float
        At least 0; decoupled: the update contains ``weight_decay * W``.
    W : (..., m, n) float64, optional
        The weights, needed if ``weight_decay > 0``. Not modified.

    Returns
    -------
    update : (..., m, n) float64
        ``(S + sqrt(lam) / pi I)^-1 G (A + pi sqrt(lam) I)^-1`` with the averages and their pi, plus decay.
    state : KfacState
        The new state; nothing is shared with the old one.

    Raises
    ------
    ValueError
        If an argument is out of order, a damped factor is not positive definite to working precision
        (possible for small lam), or `W` is missing where weight decay needs it.

    Notes
    -----
    Source: Martens and Grosse, K-FAC (arXiv 1503.05671), sections 5 and 6.3. No adaptive lam, no rescaling by
    the exact Fisher matrix, no momentum: what the paper builds around the rule is left out.
    Accuracy: normwise relative error of order ``max(m, n) * u`` times the conditions of the damped factors.
    """
    decay, weight_decay = fraction("decay", decay), non_negative("weight_decay", weight_decay)
    G = matrix("G", G)
    *batch, m, n = G.shape
    t = integer("state.t", state.t, minimum=0) + 1
    old = min(1 - 1 / t, decay)
    A = average(like("state.A", state.A, (*batch, n, n)), like("A", A, (*batch, n, n)), old)
    S = average(like("state.S", state.S, (*batch, m, m)), like("S", S, (*batch, m, m)), old)
    damping_A, damping_S = pi_split(A, S, lam=lam)
    a, U = eigh("A + pi sqrt(lam) I", A + damping_A[..., None, None] * np.eye(n))
    s, V = eigh("S + sqrt(lam) / pi I", S + damping_S[..., None, None] * np.eye(m))
    update = V @ (V.mT @ G @ U / s[..., :, None] / a[..., None, :]) @ U.mT
    return with_weight_decay(update, W, weight_decay), KfacState(A, S, t)


def _second_moment(name: str, X: Array) -> Array:
    """``E[x x^T]`` over samples, exactly symmetric since NumPy computes ``X^T X`` as such."""
    with np.errstate(over="ignore", invalid="ignore"):
        M = X.mT @ X / X.shape[-2]
    return finite_result(name, 0.5 * M + 0.5 * M.mT, "have a square in range")


def _mean_eigenvalue(name: str, P: Array) -> Array:
    """``tr(P) / k``, at least 0; 0 for ``k = 0``."""
    if P.shape[-1] != P.shape[-2]:
        raise ValueError(f"{name} must be square, got shape {P.shape}")
    mean = np.trace(P, axis1=-2, axis2=-1) / max(P.shape[-1], 1)
    if not (mean >= 0).all():
        raise ValueError(f"{name} must have a trace of at least 0, got {P.shape[-1] * np.min(mean):.3g}")
    return np.asarray(mean)
