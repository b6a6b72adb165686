"""AdaFisher for linear, layer-norm and embedding layers in a hundred lines, the ground for planted faults."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["AdaFisher"]

Factors = tuple[Tensor, Tensor]


def minmax(d: Tensor) -> Tensor:
    """To [0, 1]; a constant becomes 0."""
    low, high = d.min(), d.max()
    return (d - low) / (high - low) if high > low else torch.zeros_like(d)


class AdaFisher(torch.optim.Optimizer):
    """``W <- W - lr M_hat / (s' h' + lam) - lr wd W``, h' and s' min-max normalised averages of the factors.

    Layers of other kinds are refused.
    """

    def __init__(
        self,
        model: nn.Module,
        lr: float = 1e-3,
        *,
        beta: float = 0.9,
        gamma: float = 0.8,
        lam: float = 1e-3,
        weight_decay: float = 0.0,
        refresh: int = 1,
        params: list[nn.Parameter] | None = None,
    ) -> None:
        if not lr >= 0:
            raise ValueError(f"lr must be at least 0, got {lr}")
        options = {"beta": beta, "gamma": gamma, "lam": lam, "weight_decay": weight_decay}
        super().__init__(params or model.parameters(), {"lr": lr, "refresh": refresh, **options})
        self.places: dict[Tensor, tuple[nn.Module, str]] = {}
        self.rows: dict[nn.Module, list[Factors]] = {}
        for module in model.modules():
            own = dict(module.named_parameters(recurse=False))
            if own and not isinstance(module, nn.Linear | nn.LayerNorm | nn.Embedding):
                raise ValueError(f"no factors for {type(module).__name__}")
            if own:
                self.places.update({p: (module, name) for name, p in own.items()})
                module.register_forward_hook(self.watch)

    def watch(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """After a call that will be differentiated: wait for the gradient at its output."""
        if output.requires_grad:
            h = self.seen(module, inputs[0].detach())
            hooked: Any = output
            hooked.register_hook(lambda s: self.rows.setdefault(module, []).append((h, s.detach())))

    def seen(self, module: nn.Module, x: Tensor) -> Tensor:
        """What the weights multiply, as rows."""
        if isinstance(module, nn.Embedding):
            return nn.functional.one_hot(x.flatten(), module.num_embeddings).to(module.weight.dtype)
        if isinstance(module, nn.LayerNorm):
            x = nn.functional.layer_norm(x, module.normalized_shape, eps=module.eps)
        return x.flatten(0, -2)

    def measure(self, module: nn.Module) -> Factors:
        """h_D, with a 1 for the bias of a linear layer, and s_D, over all rows since the last step."""
        calls = zip(*self.rows[module], strict=True)
        h, s = (torch.cat([part.flatten(0, -2) for part in parts]) for parts in calls)
        h_D, s_D = h.square().mean(0), s.square().mean(0)
        has_bias = isinstance(module, nn.Linear) and module.bias is not None
        return torch.cat([h_D, h_D.new_ones(1)]) if has_bias else h_D, s_D

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget gradients and what was measured with them."""
        super().zero_grad(set_to_none)
        self.rows.clear()

    def product(self, p: Tensor, h: Tensor, s: Tensor) -> Tensor:
        """``s' h'`` in the shape of the parameter; 0 for the shift of a normalisation."""
        module, name = self.places[p]
        if isinstance(module, nn.LayerNorm):
            return s * h if name == "weight" else torch.zeros_like(s)
        F = torch.outer(s, h)
        if isinstance(module, nn.Embedding):
            return F.T
        return F[:, -1] if name == "bias" else F[:, : p.shape[-1]]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            beta, gamma = group["beta"], group["gamma"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                G, state = p.grad, self.state[p]
                t = state["t"] = state.get("t", 0) + 1
                if (t - 1) % group["refresh"] == 0:
                    fresh = self.measure(self.places[p][0])
                    for key, new in zip(("h_D", "s_D"), fresh, strict=True):
                        old = state.get(key, new)
                        state[key] = gamma * old + (1 - gamma) * new
                M = state["M"] = beta * state.get("M", torch.zeros_like(G)) + (1 - beta) * G
                h, s = minmax(state["h_D"]), minmax(state["s_D"])
                F = self.product(p, h, s) + group["lam"]
                update = M / (1 - beta**t) / F
                p.sub_(group["lr"] * (update + group["weight_decay"] * p))
        return loss
