"""Muon: momentum, orthogonalised.

Symbols: G gradient, V momentum, U orthogonalised momentum, a step scaling by shape.
"""

from collections.abc import Callable
from math import sqrt
from typing import Literal, NamedTuple

import numpy as np

from reference import polar
from reference._arguments import Array, choice, fraction, like, matrix, non_negative, shape
from reference._moments import with_weight_decay

__all__ = ["MuonState", "init", "step"]


class MuonState(NamedTuple):
    """What Muon remembers between steps.

    Attributes
    ----------
    V : (..., m, n) float64
        Momentum, in units of the gradient.

    Notes
    -----
    Source: Jordan et al., "Muon" (2024).
    """

    V: Array


def init(W: Array | tuple[int, ...]) -> MuonState:
    """State before the first step: zero momentum.

    Parameters
    ----------
    W : (..., m, n) float64, or tuple of int
        The parameter or its shape. Not modified, not kept.

    Returns
    -------
    MuonState

    Raises
    ------
    ValueError
        If `W` is out of order.

    Notes
    -----
    Source: Jordan et al., "Muon" (2024).
    Accuracy: exact (zeros).
    """
    return MuonState(np.zeros(shape("W", W, axes=2)))


def step(
    G: Array,
    state: MuonState,
    *,
    beta: float = 0.95,
    nesterov: bool = True,
    momentum: Literal["ema", "sum"] = "ema",
    scale: Literal["original", "match_rms_adamw", "none"] = "original",
    orthogonalize: str | Callable[[Array], Array] = "jordan",
    weight_decay: float = 0.0,
    W: Array | None = None,
) -> tuple[Array, MuonState]:
    """One step: ``W_new = W - lr * update``.

    Parameters
    ----------
    G : (..., m, n) float64
        Gradient at W. Not modified.
    state : MuonState
        From `init` or the previous step. Not modified.
    beta : float
        In [0, 1), the weight of the old momentum.
    nesterov : bool
        Orthogonalise the momentum looked ahead: ``G + beta (V - G)`` ("ema") or ``G + beta V`` ("sum").
    momentum : {"ema", "sum"}
        ``V <- beta V + (1 - beta) G``, as in torch, or ``V <- beta V + G``. The exact direction is the same.
    scale : {"original", "match_rms_adamw", "none"}
        a is ``sqrt(max(1, m / n))``, ``0.2 sqrt(max(m, n))`` or 1.
    orthogonalize : {"polar", "jordan", "polar-express"} or callable
        As in `reference.polar.orthogonalize`. torch iterates in bfloat16 after dividing by
        ``max(|V|_F, 1e-7)``; here the precision is float64 and there is no floor.
    weight_decay : float
        At least 0; decoupled: the update contains ``weight_decay * W``.
    W : (..., m, n) float64, optional
        The parameter, needed if ``weight_decay > 0``. Not modified.

    Returns
    -------
    update : (..., m, n) float64
        ``a U + weight_decay W``.
    state : MuonState
        The new state; nothing is shared with the old one.

    Raises
    ------
    ValueError
        If an argument is out of order, or `W` is missing where weight decay needs it.

    Notes
    -----
    Source: Jordan et al., "Muon" (2024), and the source of ``torch.optim.Muon`` (PyTorch 2.9 and later), from
    which "ema", its Nesterov form, "match_rms_adamw" and the default values are taken.
    Accuracy: entries of V to a few u relative to the sum of absolute terms; the update as
    `reference.polar.orthogonalize` states for momentum with an error of a few u times ``beta |V| + |G|``, old
    V.
    """
    beta, weight_decay = fraction("beta", beta), non_negative("weight_decay", weight_decay)
    average = choice("momentum", momentum, ("ema", "sum")) == "ema"
    G = like("G", G, matrix("state.V", state.V).shape)
    V = beta * state.V + ((1 - beta) * G if average else G)
    ahead = G + beta * (V - G if average else V)
    update = _shape_scale(scale, *G.shape[-2:]) * polar.orthogonalize(ahead if nesterov else V, orthogonalize)
    update = with_weight_decay(update, W, weight_decay)
    return update, MuonState(V)


def _shape_scale(scale: str, m: int, n: int) -> float:
    """The factor a for an (m, n) matrix; 1 for an empty one."""
    choice("scale", scale, ("original", "match_rms_adamw", "none"))
    if scale == "none" or 0 in (m, n):
        return 1.0
    return sqrt(max(1.0, m / n)) if scale == "original" else 0.2 * sqrt(max(m, n))
