"""The currency of the comparison: gradient evaluations, counted where they arrive; and the schedule in it."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

__all__ = ["WARM_UP", "Meter", "OverBudgetError", "SpentError", "lr_factor", "set_lr"]

#: Part of the budget over which the step size rises; from then on it follows half a cosine to zero.
WARM_UP = 0.05


class SpentError(Exception):
    """The budget is used up in the middle of a step, which is then taken back."""


class OverBudgetError(Exception):
    """A method used more gradient evaluations than it may."""


class Meter:
    """Counts gradient evaluations by hooks on the parameters, so that no method can forget one.

    Every backward pass through the model counts, whoever starts it: a gradient counts one, and so does a
    product of the Hessian with a vector, which differentiates the gradient.

    Parameters
    ----------
    parameters : iterable of Tensors
        Hooks are left on them until `close`.
    budget : int
        Gradient evaluations there are.
    """

    def __init__(self, parameters: Iterable[Tensor], budget: int) -> None:
        self.budget = budget
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        self._counts = [0] * len(trained)
        self._handles = [
            parameter.register_hook(lambda _, index=index: self._count(index))
            for index, parameter in enumerate(trained)
        ]

    @property
    def passes(self) -> int:
        """Gradient evaluations so far: a pass need not reach every parameter, and reaches each once."""
        return max(self._counts)

    @property
    def left(self) -> int:
        """Gradient evaluations that may still be made."""
        return self.budget - self.passes

    def close(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()

    def _count(self, index: int) -> None:
        self._counts[index] += 1


def lr_factor(passes: int, budget: int) -> float:
    """Factor on the step size after `passes` of `budget` gradient evaluations: linear warm-up, then cosine.

    In (0, 1] for ``0 <= passes < budget``.
    """
    rise = max(1, round(WARM_UP * budget))
    if passes < rise:
        return (passes + 1) / rise
    return 0.5 * (1.0 + math.cos(math.pi * (passes - rise) / max(1, budget - rise)))


def set_lr(optimizer: torch.optim.Optimizer, base: Iterable[float], factor: float) -> None:
    """Give every group its own step size times the factor."""
    for group, lr in zip(optimizer.param_groups, base, strict=True):
        group["lr"] = lr * factor
