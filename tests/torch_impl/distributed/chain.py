"""A small net whose gradients have a rounding budget, and budgets for one step taken with them.

The net is a chain of linear layers, ``y = W2 (W1 x + b1) + b2``, under the mean squared error. Everything a
backward pass computes is then a sum of products, and the same sums over absolute values bound the sums of
rounded ones: ``|computed - exact| <= operations u absolute``, in whatever order they are taken. Two runs that
share a batch over processes differently may differ by twice that, and a step by as much as its conditioning
makes of it.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from proofs_checks.ratios import unit_roundoff

__all__ = ["MIDDLE", "ROWS", "Chain", "Perturbation", "batch", "loss_of", "perturbation"]

#: Neither 3 rows nor 5 columns divide among two or four processes; of four, the last has none. Inputs and
#: outputs are wider than what lies between, so that both gradients have full rank. `MIDDLE` of 4 divides.
INPUTS, MIDDLE, OUTPUTS = 5, 3, 6

#: Rows of the joined batch; two or four processes take equal shares.
ROWS = 24

U = unit_roundoff("float64")

#: Roundings in the longest product of a term of a gradient, forward and backward, with both biases, the
#: residual and its scale; in the sum over rows; and in the mean over at most four processes.
OPERATIONS = 2 * (INPUTS + 4 + OUTPUTS + 4) + ROWS + 4


class Chain(nn.Module):
    """Two linear layers and nothing between them."""

    def __init__(self, middle: int = MIDDLE) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.first = nn.Linear(INPUTS, middle, dtype=torch.float64)
        self.second = nn.Linear(middle, OUTPUTS, dtype=torch.float64)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float64) / 2.0)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 5) to (N, 6)."""
        return self.second(self.first(x))


def batch(step: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Inputs and targets of the joined batch of one step; columns differ in size, so that factors do."""
    generator = torch.Generator().manual_seed(100 + step)
    x = torch.randn(ROWS, INPUTS, generator=generator, dtype=torch.float64)
    t = torch.randn(ROWS, OUTPUTS, generator=generator, dtype=torch.float64)
    x, t = x * torch.linspace(0.5, 1.5, INPUTS), t * torch.linspace(0.5, 1.5, OUTPUTS)
    return x.to(device), t.to(device)


def loss_of(model: nn.Module, x: Tensor, t: Tensor) -> Tensor:
    """Mean squared error."""
    return (model(x) - t).square().mean()


class Perturbation(NamedTuple):
    """How far two runs of a backward pass may lie apart: each gradient, entry by entry, and each factor."""

    gradients: dict[str, Tensor]
    h_D: dict[str, Tensor]
    s_D: dict[str, Tensor]


def perturbation(values: dict[str, Tensor], x: Tensor, t: Tensor) -> Perturbation:
    """`Perturbation` of the chain with these parameters, from a pass over absolute values."""
    W1, b1, W2, b2 = (values[f"{layer}.{kind}"].abs() for layer in ("first", "second") for kind in KINDS)
    h1, t = x.abs(), t.abs()
    h2 = h1 @ W1.mT + b1
    s2 = (h2 @ W2.mT + b2 + t) * (2.0 / t.numel())
    s1 = s2 @ W2
    bound = 2.0 * OPERATIONS * U
    layers = {"first": (h1, s1), "second": (h2, s2)}
    gradients = {}
    for name, (h, s) in layers.items():
        gradients |= {f"{name}.weight": bound * (s.mT @ h), f"{name}.bias": bound * s.sum(dim=0)}
    # A factor is a mean of squares: twice the relative error, over a number of rows.
    h_D = {name: 2.0 * bound * with_one(h.square().mean(dim=0)) for name, (h, _) in layers.items()}
    s_D = {name: 2.0 * bound * s.square().mean(dim=0) for name, (_, s) in layers.items()}
    return Perturbation(gradients, h_D, s_D)


KINDS = ("weight", "bias")


def with_one(x: Tensor) -> Tensor:
    return torch.cat([x, x.new_ones(1)])
