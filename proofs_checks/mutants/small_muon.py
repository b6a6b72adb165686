"""Muon in forty lines, correct, the ground into which faults are planted."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

__all__ = ["Muon"]

#: Jordan et al., "Muon" (2024).
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
EPS = 1e-7


def orthogonalized(B: Tensor, *, steps: int) -> Tensor:
    """Newton-Schulz iteration in bfloat16, on the side with fewer rows; `B` is not modified."""
    a, b, c = COEFFICIENTS
    X = B.to(torch.bfloat16)
    X = X.T if B.shape[0] > B.shape[1] else X
    X = X / X.norm().clamp_min(EPS)
    for _ in range(steps):
        Y = X @ X.T
        X = a * X + (b * Y + c * Y @ Y) @ X
    return X.T if B.shape[0] > B.shape[1] else X


class Muon(torch.optim.Optimizer):
    """``V <- beta V + (1-beta) G``, orthogonalised; decoupled decay; matrices only."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        *,
        momentum: float = 0.95,
        nesterov: bool = True,
        weight_decay: float = 0.0,
        ns_steps: int = 5,
    ) -> None:
        if not lr >= 0:
            raise ValueError(f"lr must be at least 0, got {lr}")
        options = {
            "momentum": momentum,
            "nesterov": nesterov,
            "weight_decay": weight_decay,
            "ns_steps": ns_steps,
        }
        super().__init__(params, {"lr": lr, **options})
        for group in self.param_groups:
            if any(p.ndim != 2 for p in group["params"]):
                raise ValueError("params must be matrices")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            momentum, nesterov, steps = group["momentum"], group["nesterov"], group["ns_steps"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                G = p.grad
                V = self.state[p].setdefault("V", torch.zeros_like(p))
                V.mul_(momentum).add_(G, alpha=1 - momentum)
                B = G + momentum * (V - G) if nesterov else V
                U = orthogonalized(B, steps=steps).to(p.dtype)
                scale = max(1.0, p.shape[0] / p.shape[1]) ** 0.5
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(U, alpha=-group["lr"] * scale)
        return loss
