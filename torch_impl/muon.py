"""Muon: momentum, orthogonalised.

Symbols: G gradient (..., m, n), V momentum, U direction, a scale; leading axes are a batch.
Twin of `reference.muon`, derived independently.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from torch_impl import _checks
from torch_impl.polar import Orthogonalizer
from torch_impl.polar import orthogonalize as apply_orthogonalizer

__all__ = ["MuonState", "init", "step"]

MOMENTA = ("ema", "sum")
SCALES = ("original", "match_rms_adamw", "none")


class MuonState(NamedTuple):
    """State of Muon.

    Attributes
    ----------
    V : (..., m, n)
        Average (or discounted sum) of the gradients, in the units of the gradient.
    """

    V: Tensor


@torch.no_grad()
def init(W: Tensor) -> MuonState:
    """State before the first step: ``V = 0``.

    Parameters
    ----------
    W : (..., m, n) float64, float32, bfloat16 or float16
        The parameter.

    Returns
    -------
    state : MuonState
        float64 for float64, otherwise float32 (bfloat16 and float16 too), on the device of W.

    Raises
    ------
    TypeError, ValueError
        If W is not a dense real tensor (..., m, n).

    Notes
    -----
    Source: Jordan et al., "Muon" (2024).
    """
    return MuonState(torch.zeros_like(_checks.matrix("W", W), dtype=_checks.working(W.dtype)))


@torch.no_grad()
def step(
    G: Tensor,
    state: MuonState,
    *,
    beta: float = 0.95,
    nesterov: bool = True,
    momentum: str = "ema",
    scale: str = "original",
    orthogonalize: Orthogonalizer = "jordan",
    weight_decay: float = 0.0,
    W: Tensor | None = None,
) -> tuple[Tensor, MuonState]:
    """One step for a matrix or a batch: ``W_new = W - lr * update``.

    Parameters
    ----------
    G : (..., m, n) float64, float32, bfloat16 or float16
        Gradient. Not modified.
    state : MuonState
        From `init` or the previous step. Not modified.
    beta : float
        Weight of the old momentum, in [0, 1).
    nesterov : bool
        Orthogonalise ``G + beta (V - G)`` (for "sum": ``G + beta V``) instead of V.
    momentum : {"ema", "sum"}
        ``V <- beta V + (1 - beta) G`` or ``V <- beta V + G``.
    scale : {"original", "match_rms_adamw", "none"}
        ``a = sqrt(max(1, m / n))``, ``0.2 sqrt(max(m, n))`` or 1.
    orthogonalize : {"polar", "jordan", "polar-express"} or callable
        As in `torch_impl.polar.orthogonalize`.
    weight_decay : float
        At least 0, decoupled.
    W : (..., m, n) tensor, optional
        The parameter, needed if `weight_decay` is not 0. Not modified.

    Returns
    -------
    update : (..., m, n), dtype of the state
        ``a U + weight_decay W``.
    state : MuonState
        A new one.

    Raises
    ------
    TypeError, ValueError
        If a shape, dtype or layout does not fit, an option is out of range, or W is missing.

    Notes
    -----
    Source: Jordan et al., "Muon" (2024), in the form of `torch.optim.Muon`, which fixes "ema" and iterates in
    bfloat16; here the iteration has the precision of the state. Scale: Moonlight, arXiv 2502.16982.
    """
    _checks.number("beta", beta, at_least=0.0, below=1.0)
    _checks.choice("momentum", momentum, MOMENTA)
    _checks.choice("scale", scale, SCALES)
    _checks.number("weight_decay", weight_decay, at_least=0.0)
    if _checks.matrix("G", G).shape != state.V.shape:
        raise ValueError(f"G must have shape {tuple(state.V.shape)} as the state, got {tuple(G.shape)}")
    if weight_decay > 0.0 and (W is None or W.shape != G.shape):
        got = "none" if W is None else tuple(W.shape)
        raise ValueError(f"W must be given with shape {tuple(G.shape)} for weight_decay > 0, got {got}")
    g = G.to(state.V.dtype)
    ema = momentum == "ema"
    V = beta * state.V + ((1.0 - beta) * g if ema else g)
    direction = V
    if nesterov:
        direction = g + beta * (V - g) if ema else g + beta * V
    update = _scale(scale, *G.shape[-2:]) * apply_orthogonalizer(direction, orthogonalize)
    if weight_decay > 0.0 and W is not None:
        update = update + weight_decay * W.to(update.dtype)
    return update, MuonState(V)


def _scale(name: str, m: int, n: int) -> float:
    if name == "original":
        return math.sqrt(max(1.0, m / max(n, 1)))
    return 0.2 * math.sqrt(max(m, n)) if name == "match_rms_adamw" else 1.0
