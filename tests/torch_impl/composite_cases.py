"""Composites for tests, and children that misbehave."""

import torch
from torch import nn

from tests.torch_impl.optimizer_cases import parameters
from torch_impl import FISMO, SOFIM
from torch_impl.optim.composite import Composite

__all__ = ["SHAPES", "Faulty", "apart", "composite", "pair"]

#: Two matrices for FISMO, the rest for another optimizer.
SHAPES = ((3, 4), (2, 5), (4,), (2, 2, 2))


def apart(params, *, lr=0.1, other=torch.optim.AdamW):
    """A FISMO and another optimizer, each on its own."""
    return [FISMO(params[:2], lr=lr), other(params[2:], lr=lr / 4)]


def composite(params, *, lr=0.1, other=torch.optim.AdamW, **options):
    return Composite(apart(params, lr=lr, other=other), **options)


def pair(dtype=torch.float64, **options):
    """Parameters and a composite over them."""
    params = parameters(dtype=dtype, shapes=SHAPES)
    return params, composite(params, **options)


class Faulty(torch.optim.AdamW):
    """Steps, changes everything an optimizer has, and then raises, if told to."""

    def __init__(self, params, **options):
        super().__init__(params, **options)
        self.fault, self.calls, self.history = None, 0, [torch.zeros(2)]

    def step(self, closure=None):
        loss = super().step(closure)
        if self.fault is not None:
            self.calls += 1
            self.history[0] += 1
            self.history.append(self.calls)
            self.param_groups[0]["lr"] *= 2
            self.param_groups[0]["seen"] = True
            self.param_groups = list(self.param_groups)
            for state in self.state.values():
                state["extra"] = torch.ones(1)
            raise self.fault
        return loss


class Subclass(SOFIM):
    """A checked optimizer that is no longer: something follows the step."""

    fault: Exception | None = None

    def step(self, closure=None):
        loss = super().step(closure)
        if self.fault is not None:
            raise self.fault
        return loss


def names(params: list[nn.Parameter]) -> list[tuple[str, nn.Parameter]]:
    return [(f"p{index}", p) for index, p in enumerate(params)]
