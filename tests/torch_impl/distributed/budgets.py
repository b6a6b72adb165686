"""How far a step moves when what goes into it moves by a rounding: for each optimizer, from its conditioning.

Every function takes what the single-process run had: options of the group, gradients G, state before and
after; and dG, by how much the gradient of the other run was seen to differ from G. It returns a bound on the
Frobenius distance of the two new parameters, first order, for float64. Both runs are one program, and round.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from proofs_checks.ratios import unit_roundoff
from tests.torch_impl.cases import array
from tests.torch_impl.step_budget import StepBudget, in_float64
from torch_impl import fismo

__all__ = ["adafisher_step", "fismo_step", "sofim_step", "stored"]

U = unit_roundoff("float64")

State = Mapping[str, Tensor]


def stored(W: Tensor, length: float, *, u: float = U) -> float:
    """Rounding ``W - step`` with a step of this length: a decay, a product and a difference."""
    return 4 * u * (float(W.norm()) + length)


def fismo_step(
    options: Mapping[str, Any], W: Tensor, G: Tensor, dG: float, before: State, after: State
) -> float:
    """A gradient moved by r times its size acts no worse than products rounded with r instead of u.

    In `StepBudget` every product with the gradient carries at least one u, so the whole budget at r, rather
    than at u, bounds what the gradient does; and twice the budget at u what the two programs round.
    """
    old = fismo.FismoState(*(before[name] for name in "PQM")) if before else fismo.init(W)
    new = fismo.FismoState(*(after[name] for name in "PQM"))
    settings = {name: options[name] for name in ("beta", "gamma", "mu")}
    budget = StepBudget(array(G), in_float64(old), in_float64(new), dtype=G.dtype, **settings)
    relative = dG / float(G.norm())
    return float(options["lr"]) * (2.0 + relative / U) * float(budget.update)


def sofim_step(
    options: Mapping[str, Any], dG: Sequence[float], after: Sequence[State], *, u: float = U
) -> float:
    """Of ``M_hat / (rho + |M_hat|^2)``, all parameters together: three times its relative change in M_hat.

    M_hat moves by at most dG, since the weight of a gradient in it is at most 1. The norm is a sum over all
    entries.
    """
    t = float(after[0]["step"])
    correction = 1.0 - options["beta"] ** t
    nu = sum(float(state["M"].square().sum()) for state in after) / correction**2
    entries = sum(state["M"].numel() for state in after)
    rounded = 2 * (entries + 20) * u * math.sqrt(nu)
    return float(options["lr"]) * (3.0 * math.hypot(*dG) + rounded) / (options["rho"] + nu)


def adafisher_step(options: Mapping[str, Any], dG: float, after: State, moved: Sequence[float]) -> float:
    """Of ``M_hat / F``, ``F = lam + s' h'``, F at least lam: by the change of M_hat and of F.

    Min-max normalisation divides by the range of a factor: its entries move by at most four times the largest
    change of an entry over the range; the product of two in [0, 1] by the sum of what they move by.
    """
    lam = options["lam"]
    dF = 10 * U
    for factor, change in zip((after["h_D"], after["s_D"]), moved, strict=True):
        spread = float(factor.max() - factor.min())
        if spread > 0:
            dF += 4.0 * (change + 4 * U * float(factor.max())) / spread
    M_hat = after["M"] / (1.0 - options["beta"] ** float(after["step"]))
    size = float(M_hat.norm())
    return float(options["lr"]) * ((dG + 10 * U * size) / lam + size * dF / lam**2)
