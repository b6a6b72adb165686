"""AdamW: averages of the gradient and of its square, bias-corrected, and decoupled weight decay.

Symbols: G gradient, m and v averages of G and G^2, m_hat and v_hat bias-corrected, t steps taken.
"""

from typing import NamedTuple

import numpy as np

from reference._arguments import Array, array, fraction, integer, like, non_negative
from reference._moments import (
    average,
    correction,
    quotient,
    second_moment,
    with_weight_decay,
    zeros,
)

__all__ = ["AdamWState", "init", "step"]


class AdamWState(NamedTuple):
    """What AdamW remembers between steps.

    Attributes
    ----------
    m : (...) float64
        Average of gradients, before bias correction.
    v : (...) float64
        Average of squared gradients, before bias correction; at least 0.
    t : int
        Steps taken.

    Notes
    -----
    Source: Kingma and Ba, "Adam" (2015), algorithm 1.
    """

    m: Array
    v: Array
    t: int


def init(W: Array | tuple[int, ...]) -> AdamWState:
    """State before the first step: both averages zero.

    Parameters
    ----------
    W : (...) float64, or tuple of int
        The parameter, of any shape, or its shape. Not modified, not kept.

    Returns
    -------
    AdamWState

    Raises
    ------
    ValueError
        If `W` is out of order.

    Notes
    -----
    Source: Kingma and Ba, "Adam" (2015), algorithm 1.
    Accuracy: exact (zeros).
    """
    return AdamWState(zeros(W), zeros(W), 0)


def step(
    G: Array,
    state: AdamWState,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 1e-2,
    W: Array | None = None,
) -> tuple[Array, AdamWState]:
    """One step: ``W_new = W - lr * update``.

    Parameters
    ----------
    G : (...) float64
        Gradient at W. Not modified.
    state : AdamWState
        From `init` or the previous step. Not modified.
    beta1, beta2 : float
        In [0, 1), the weights of the old averages.
    epsilon : float
        At least 0, in units of the gradient; added *outside* the square root, *after* bias correction. With 0
        an entry whose average is zero does not move.
    weight_decay : float
        At least 0; decoupled: the update contains ``weight_decay * W``.
    W : (...) float64, optional
        The parameter, needed if ``weight_decay > 0``, which is the default. Not modified.

    Returns
    -------
    update : (...) float64
        ``m_hat / (sqrt(v_hat) + epsilon) + weight_decay W`` with ``m_hat = m / (1 - beta1^t)`` and
        ``v_hat = v / (1 - beta2^t)``.
    state : AdamWState
        The new state; nothing is shared with the old one.

    Raises
    ------
    ValueError
        If an argument is out of order, `W` is missing where weight decay needs it, or the square of `G`
        leaves the range of float64 (it overflows, or vanishes while epsilon is too small to stand in for it).

    Notes
    -----
    Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019), algorithm 2, with the
    default values and the place of epsilon from the source of ``torch.optim.AdamW``; no schedule.
    Accuracy: each entry to a few u relative to the averages of ``|G|`` and ``G^2``; ``1 - beta^t`` has a
    relative error of about ``u / (t (1 - beta))`` while ``t (1 - beta)`` is small.
    """
    beta1, beta2 = fraction("beta1", beta1), fraction("beta2", beta2)
    epsilon, weight_decay = non_negative("epsilon", epsilon), non_negative("weight_decay", weight_decay)
    G = like("G", G, array("state.m", state.m).shape)
    t = integer("state.t", state.t, minimum=0) + 1
    m = average(state.m, G, beta1)
    v = second_moment("state.v", state.v, G, beta2, blame="G")
    root = np.sqrt(v / correction(beta2, t))
    update = quotient(m / correction(beta1, t), root + epsilon, blame="G")
    return with_weight_decay(update, W, weight_decay), AdamWState(m, v, t)
