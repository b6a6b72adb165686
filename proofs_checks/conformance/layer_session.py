"""Driving a target that takes a model: forward and backward passes in, parameters out.

The same verbs as in `proofs_checks.conformance.session`, and `follow`, which takes a step of a `LayerCase` in
the place of gradients.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

import reference.adafisher
from proofs_checks.conformance.case import Array, Case
from proofs_checks.conformance.errors import TargetRaised
from proofs_checks.conformance.layer_case import LayerCase, Pass, drive, given, layered
from proofs_checks.conformance.layers import Layer
from proofs_checks.conformance.session import OptimizerSession, StepSession

__all__ = ["LayerStepSession", "ModelSession"]


class ModelSession(OptimizerSession):
    """An optimizer made from a model, a list of layers.

    `late` layers at the end are in the model, but not among the parameters that the optimizer is given.
    """

    def __init__(
        self,
        make: Callable[..., Any],
        layers: Sequence[Layer],
        arrays: Sequence[Array | None],
        keywords: Mapping[str, object],
        *,
        dtype: str,
        device: str,
        late: int = 0,
        transposed: bool = False,
    ) -> None:
        self.dtype, self.device = dtype, device
        self.layers = list(layers)
        self.modules = [layer.module(getattr(torch, dtype), device) for layer in layers]
        self.model = torch.nn.ModuleList(self.modules)
        if transposed:
            for module in self.modules:
                weight: torch.Tensor = module.get_parameter("weight").detach()
                module.weight = torch.nn.Parameter(weight.T.contiguous().T)
        for layer, module, W in zip(layers, self.modules, arrays, strict=True):
            layer.write(module, layer.rest() if W is None else W)
        self.parameters = list(self.model.parameters())
        first = self.modules[: len(self.modules) - late]
        chosen = {"params": [p for module in first for p in module.parameters()]} if late else {}
        try:
            self.optimizer = make(self.model, **keywords, **chosen)
        except Exception as error:
            raise TargetRaised(error) from error

    def give(self, gradients: Sequence[Array | None]) -> None:
        """Passes after which layers without bias have these gradients; None: the layer is not called."""
        self.train([None if G is None else (given(G),) for G in gradients])

    def train(self, calls: Sequence[Sequence[Pass] | None]) -> None:
        """``zero_grad()``, then the calls of every layer, gradients accumulating."""
        try:
            self.optimizer.zero_grad()
            for layer, module, passes in zip(self.layers, self.modules, calls, strict=True):
                if passes is not None:
                    drive(layer, module, self.model, passes, dtype=self.dtype, device=self.device)
        except Exception as error:
            raise TargetRaised(error) from error

    def follow(self, case: LayerCase, t: int) -> None:
        """Train the only layer as in step t of a case, counted from 0, and take one step."""
        self.train([case.steps[t]])
        self.advance()

    def read(self) -> list[Array]:
        """All parameters of each layer as one matrix."""
        return [layer.read(module) for layer, module in zip(self.layers, self.modules, strict=True)]

    def write(self, arrays: Sequence[Array]) -> None:
        """Copy into the layers."""
        for layer, module, X in zip(self.layers, self.modules, arrays, strict=True):
            layer.write(module, X)


class LayerStepSession(StepSession):
    """A pure step function, ``step(G, state, *, h_D, s_D, ...)``, on one linear layer.

    It is handed what an optimizer would measure, computed by the reference, at the steps of every `refresh`.
    """

    def __init__(self, *args: Any, refresh: int | None, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self._refresh, self._taken = refresh, 0
        self._fresh: dict[str, Any] = {}

    def step(self, gradients: Sequence[Array | None]) -> None:
        """A step on the gradient of a layer without bias."""
        (G,) = gradients
        assert G is not None  # steps without a gradient are asked of optimizers only
        self.follow(layered(Case({}, (G,))), 0)

    def follow(self, case: LayerCase, t: int) -> None:
        """As `ModelSession.follow`."""
        (block,) = case.factors(t, reference.adafisher)
        self._fresh = {"h_D": self._in(block.h_D), "s_D": self._in(block.s_D)}
        if self._refresh is not None:
            self._fresh["refresh"] = self._taken % self._refresh == 0
        self._taken += 1
        super().step([case.gradients_in(self._dtype, self._device)[t]])

    def _extra(self, i: int) -> dict[str, Any]:
        return {**super()._extra(i), **self._fresh}
