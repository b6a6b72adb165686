"""Stochastic gradient descent with momentum, in the conventions under which it is published.

Symbols: G gradient, v velocity, beta momentum, delta dampening.
"""

from typing import Literal, NamedTuple

import numpy as np

from reference._arguments import Array, array, choice, fraction, integer, like, non_negative
from reference._moments import average, with_weight_decay, zeros

__all__ = ["SgdState", "init", "step"]


class SgdState(NamedTuple):
    """What SGD remembers between steps.

    Attributes
    ----------
    v : (...) float64
        Velocity, in units of the gradient.
    t : int
        Steps taken; with dampening the first one differs.

    Notes
    -----
    Source: Polyak, "Some Methods of Speeding Up the Convergence of Iteration Methods" (1964).
    """

    v: Array
    t: int


def init(W: Array | tuple[int, ...]) -> SgdState:
    """State before the first step: zero velocity.

    Parameters
    ----------
    W : (...) float64, or tuple of int
        The parameter, of any shape, or its shape. Not modified, not kept.

    Returns
    -------
    SgdState

    Raises
    ------
    ValueError
        If `W` is out of order.

    Notes
    -----
    Source: Polyak, "Some Methods of Speeding Up the Convergence of Iteration Methods" (1964).
    Accuracy: exact (zeros).
    """
    return SgdState(zeros(W), 0)


def step(
    G: Array,
    state: SgdState,
    *,
    momentum: float = 0.9,
    dampening: float = 0.0,
    nesterov: bool = False,
    form: Literal["classical", "ema"] = "classical",
    weight_decay: float = 0.0,
    W: Array | None = None,
) -> tuple[Array, SgdState]:
    """One step: ``W_new = W - lr * update``.

    Parameters
    ----------
    G : (...) float64
        Gradient at W. Not modified.
    state : SgdState
        From `init` or the previous step. Not modified.
    momentum : float
        beta in [0, 1), the weight of the old velocity; 0 is plain gradient descent.
    dampening : float
        delta in [0, 1], for "classical" only: ``v <- beta v + (1 - delta) G``, except that the first step
        takes ``v = G``, as in torch. ``delta = beta`` is therefore not quite "ema".
    nesterov : bool
        The update looks ahead: ``G + beta v`` ("classical", where dampening must be 0) or
        ``beta v + (1 - beta) G`` ("ema") with the new v.
    form : {"classical", "ema"}
        ``v <- beta v + (1 - delta) G``, or ``v <- beta v + (1 - beta) G``. Without dampening "ema" is
        "classical" with the updates multiplied by ``1 - beta``.
    weight_decay : float
        At least 0; *coupled*, as in the textbook and torch: the gradient is ``G + weight_decay W``, which the
        velocity accumulates.
    W : (...) float64, optional
        The parameter, needed if ``weight_decay > 0``. Not modified.

    Returns
    -------
    update : (...) float64
        The new v, or what Nesterov's form makes of it.
    state : SgdState
        The new state; nothing is shared with the old one.

    Raises
    ------
    ValueError
        If an argument is out of order, `W` is missing where weight decay needs it, or dampening is combined
        with "ema" or with Nesterov's form.

    Notes
    -----
    Source: Polyak (1964); Sutskever et al., "On the importance of initialization and momentum in deep
    learning" (2013), for Nesterov's form as a momentum; dampening and its first step from the source of
    ``torch.optim.SGD``.
    Accuracy: each entry to a few u relative to the sum of absolute terms, ``|v|``, ``|G|`` and
    ``weight_decay |W|`` with their weights.
    """
    beta, delta = fraction("momentum", momentum), fraction("dampening", dampening, closed=True)
    weight_decay = non_negative("weight_decay", weight_decay)
    classical = choice("form", form, ("classical", "ema")) == "classical"
    if delta > 0 and (nesterov or not classical):
        raise ValueError(f"dampening must be 0 with nesterov and with form 'ema', got {delta}")
    G = like("G", G, array("state.v", state.v).shape)
    t = integer("state.t", state.t, minimum=0) + 1
    G = with_weight_decay(G, W, weight_decay)
    if classical:
        v = np.asarray(beta * state.v + (1.0 if t == 1 else 1 - delta) * G)
        ahead = G + beta * v
    else:
        v = average(state.v, G, beta)
        ahead = average(v, G, beta)
    return np.asarray(ahead) if nesterov else v.copy(), SgdState(v, t)
