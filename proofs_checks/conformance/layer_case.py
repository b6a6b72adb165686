"""Inputs of a run in which a model is trained: what its layer sees, and what comes back to its output.

Symbols: h inputs of the layer, s gradients at its output (the loss is ``sum(s * output)``), G gradient of all
its parameters, W the parameters.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from types import ModuleType
from typing import Literal

import numpy as np
import torch

from proofs_checks.conformance.case import Array, Case
from proofs_checks.conformance.errors import NotApplicable
from proofs_checks.conformance.layers import Block, Embedding, Layer, Linear

__all__ = ["How", "LayerCase", "Pass", "drive", "given", "layered", "simpler"]

How = Literal["backward", "joint", "eval", "unused"]


@dataclass(frozen=True)
class Pass:
    """One call of the layer.

    Attributes
    ----------
    h, s : float64 arrays
        Inputs and gradients at the output; values are exact in the dtype of the setting.
    how : {"backward", "joint", "eval", "unused"}
        With a backward pass of its own; in one loss with the call before it; in evaluation mode without
        gradients; in training mode, but never differentiated.
    """

    h: Array
    s: Array
    how: How = "backward"

    @property
    def counts(self) -> bool:
        """Whether gradients flow through this call."""
        return self.how in ("backward", "joint")

    def without_gradients(self) -> "Pass":
        """The same call with zeros for s."""
        return replace(self, s=np.zeros_like(self.s))


@dataclass(frozen=True, kw_only=True)
class LayerCase(Case):
    """A case whose gradients follow from what a layer sees.

    Attributes
    ----------
    layer : Layer
    steps : tuple of tuples of Pass
        The calls of the layer before each step of the optimizer.
    gradients : tuple of float64 arrays
        Computed: of all parameters of the layer as one matrix, exact if the inputs have few digits.
    start : float64 array, optional
        W_0, as one matrix. Without it the parameters are put at rest before every step.
    """

    layer: Layer
    steps: tuple[tuple[Pass, ...], ...]
    gradients: tuple[Array, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "gradients", self.gradients_in("float64", "cpu"))

    @cached_property
    def _computed(self) -> dict[tuple[str, str], tuple[Array, ...]]:
        return {}

    def gradients_in(self, dtype: str, device: str) -> tuple[Array, ...]:
        """The gradients as torch computes them in this precision, accumulated over the calls of a step.

        They are an input of the optimizer, rounded before it sees them.

        Raises
        ------
        NotApplicable
            If torch cannot run the layer in this precision.
        """
        if (dtype, device) not in self._computed:
            self._computed[dtype, device] = tuple(self._gradients(dtype, device))
        return self._computed[dtype, device]

    def factors(self, t: int, rules: ModuleType, *, grouping: str = "layer") -> list[Block]:
        """Fresh factors at step t, from 0, by the layer functions of `rules`.

        `rules` is `reference.adafisher` or a faulty copy, which may have a function `pooled` of its own that
        says which calls are measured; the rule is those through which gradients flow, all rows alike.
        """
        pooled: Callable[[Sequence[Pass]], Sequence[Pass]] = getattr(rules, "pooled", _differentiated)
        return self.layer.blocks(rules, [(p.h, p.s) for p in pooled(self.steps[t])], grouping)

    def _gradients(self, dtype: str, device: str) -> Iterator[Array]:
        for passes in self.steps:
            try:
                module = self.layer.module(getattr(torch, dtype), device)
                drive(self.layer, module, module, passes, dtype=dtype, device=device)
            except NotImplementedError as error:
                raise NotApplicable(f"torch cannot run {self.layer.source()} in {dtype}: {error}") from error
            yield self.layer.gradient(module)


def _differentiated(passes: Sequence[Pass]) -> list[Pass]:
    return [p for p in passes if p.counts]


def drive(
    layer: Layer,
    module: torch.nn.Module,
    model: torch.nn.Module,
    passes: Sequence[Pass],
    *,
    dtype: str,
    device: str,
) -> None:
    """Call the layer's `module` as the passes say, gradients accumulating; `model` is what switches mode."""
    kind = getattr(torch, dtype)

    def loss(p: Pass) -> torch.Tensor:
        s = torch.tensor(p.s, dtype=kind, device=device)
        return (s * module(layer.input(p.h, kind, device))).sum()

    total = None
    for p, following in zip(passes, (*passes[1:], None), strict=True):
        if p.how == "eval":
            model.eval()
            with torch.no_grad():
                loss(p)
            model.train()
            continue
        value = loss(p)
        if p.how == "unused":
            continue
        total = value if total is None else total + value
        if following is None or following.how != "joint":
            total.backward()  # type: ignore[no-untyped-call]
            total = None


def given(G: Array) -> Pass:
    """A call of a linear layer without bias after which its gradient is G, exactly, and no factor constant.

    The inputs are 1, 2, 4, ... times the rows of the identity.
    """
    scales = 2.0 ** np.arange(G.shape[1])
    return Pass(np.diag(scales), (G / scales).T.copy())


def layered(case: Case) -> LayerCase:
    """A case as the run of a layer; one that only gives gradients becomes one of a layer without bias."""
    if isinstance(case, LayerCase):
        return case
    m, n = case.gradients[0].shape
    steps = tuple((given(G),) for G in case.gradients)
    return LayerCase(hp=case.hp, layer=Linear(n, m), steps=steps, start=case.start)


def simpler(case: LayerCase, cast: Callable[[Array], Array]) -> Iterator[LayerCase]:
    """Candidates that are simpler than a case, the greatest simplifications first."""
    yield from _shorter(case)
    if isinstance(case.layer, Linear):
        yield from _narrower(case, case.layer)
    yield from _fewer_samples(case)
    yield from _rounder(case, cast)


def _shorter(case: LayerCase) -> Iterator[LayerCase]:
    """Fewer steps, then fewer calls in a step."""
    steps = case.steps
    for count in range(1, len(steps)):
        yield replace(case, steps=steps[:count])
    for drop in range(len(steps) - 1):
        yield replace(case, steps=steps[:drop] + steps[drop + 1 :])
    for t, passes in enumerate(steps):
        for drop in range(len(passes) if len(passes) > 1 else 0):
            rest = passes[:drop] + passes[drop + 1 :]
            if rest[0].how != "joint":
                yield replace(case, steps=(*steps[:t], rest, *steps[t + 1 :]))


def _mapped(case: LayerCase, change: Callable[[Pass], Pass], **also: object) -> LayerCase:
    steps = tuple(tuple(map(change, passes)) for passes in case.steps)
    return replace(case, steps=steps, **also)  # type: ignore[arg-type]


def _without(name: Literal["h", "s"], column: int, p: Pass) -> Pass:
    if name == "h":
        return replace(p, h=np.delete(p.h, column, axis=-1))
    return replace(p, s=np.delete(p.s, column, axis=-1))


def _narrower(case: LayerCase, layer: Linear) -> Iterator[LayerCase]:
    """A linear layer without bias, with fewer inputs or outputs."""
    start = case.start
    if layer.bias:
        cut = None if start is None else start[:, :-1]
        yield replace(case, layer=replace(layer, bias=False), start=cut)
    for drop in range(layer.inputs if layer.inputs > 1 else 0):
        cut = None if start is None else np.delete(start, drop, axis=1)
        fewer = replace(layer, inputs=layer.inputs - 1)
        yield _mapped(case, partial(_without, "h", drop), layer=fewer, start=cut)
    for drop in range(layer.outputs if layer.outputs > 1 else 0):
        cut = None if start is None else np.delete(start, drop, axis=0)
        fewer = replace(layer, outputs=layer.outputs - 1)
        yield _mapped(case, partial(_without, "s", drop), layer=fewer, start=cut)


def _fewer_samples(case: LayerCase) -> Iterator[LayerCase]:
    most = max(len(p.h) for passes in case.steps for p in passes)
    for drop in range(most if most > 1 else 0):

        def without(p: Pass, drop: int = drop) -> Pass:
            if len(p.h) == 1 or drop >= len(p.h):
                return p
            return replace(p, h=np.delete(p.h, drop, axis=0), s=np.delete(p.s, drop, axis=0))

        yield _mapped(case, without)


def _rounder(case: LayerCase, cast: Callable[[Array], Array]) -> Iterator[LayerCase]:
    """Entry by entry, to 0 or +-1; indices of an embedding stay."""
    names = ("s",) if isinstance(case.layer, Embedding) else ("h", "s")
    for t, passes in enumerate(case.steps):
        for i, p in enumerate(passes):
            for name in names:
                X = getattr(p, name)
                for at in np.ndindex(X.shape):
                    for value in _plainer(float(X[at])):
                        Y = X.copy()
                        Y[at] = value
                        new = replace(p, h=cast(Y)) if name == "h" else replace(p, s=cast(Y))
                        calls = (*passes[:i], new, *passes[i + 1 :])
                        yield replace(case, steps=(*case.steps[:t], calls, *case.steps[t + 1 :]))


def _plainer(x: float) -> Iterator[float]:
    if x:
        yield 0.0
    if x and abs(x) != 1:
        yield float(np.copysign(1.0, x))
