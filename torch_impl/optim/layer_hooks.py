"""Measuring layers while a model trains: a forward hook sees h, a hook on the output sees s.

A call of a layer counts when backward reaches its output, and only then: a forward pass without a backward
pass leaves nothing behind, and a call that is checkpointed counts once, although it is run twice, because the
gradient passes through one of the two outputs only.

The hooks sit in the modules and hold the `Measurements`; those hold the optimizer weakly. A copy of a model
without its optimizer therefore carries hooks that do nothing, and a copy of both works as a pair.
"""

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from torch_impl import _checks
from torch_impl.optim import sharding
from torch_impl.optim.compiling import uncompiled
from torch_impl.optim.layer_factors import Layer, Squares, Use, layer_of, roles

__all__ = ["LayerHook", "Measurements", "Owner", "attach", "detach", "find_uses", "pooled"]


class Owner(Protocol):
    """What the hooks ask of the optimizer."""

    def due_layers(self) -> frozenset[int]:
        """Indices of the layers that the next step wants measured."""

    def unscaled(self, squares: Squares) -> Squares:
        """Squared gradients without the scale that a `GradScaler` put on the loss."""


class Measurements:
    """Sums of squares since the last step, layer by layer.

    Attributes
    ----------
    layers : list of Layer
        All layers of the model that the method covers, in the order of its modules.
    pending : dict of int to (Squares of h, Squares of s)
        By index in `layers`. Pooled over calls, micro-batches and backward passes.
    """

    def __init__(self, layers: Iterable[Layer]) -> None:
        self.layers = list(layers)
        self.pending: dict[int, tuple[Squares, Squares]] = {}
        self._owner: Callable[[], Owner | None] = _nobody

    def __getstate__(self) -> dict[str, Any]:
        """A copy has no optimizer until one claims it, and nothing measured."""
        return {"layers": self.layers, "pending": {}, "_owner": _nobody}

    def belong_to(self, owner: Owner) -> None:
        """Measure for `owner` while it lives; it is held weakly."""
        self._owner = weakref.ref(owner)

    def wants(self, index: int) -> bool:
        """Whether anybody waits for the factors of a layer."""
        owner = self._owner()
        return owner is not None and index in owner.due_layers()

    def add(self, index: int, h: Squares, s: Squares) -> None:
        """Count a call of a layer through which a gradient has passed."""
        owner = self._owner()
        if owner is None:
            return
        s = owner.unscaled(s)
        if index in self.pending:
            old_h, old_s = self.pending[index]
            h = Squares(old_h.total + h.total, old_h.rows + h.rows)
            s = Squares(old_s.total + s.total, old_s.rows + s.rows)
        self.pending[index] = (h, s)


class LayerHook:
    """Forward hook of one layer; to be registered with its keyword arguments."""

    def __init__(self, measurements: Measurements, index: int) -> None:
        self.measurements, self.index = measurements, index

    # Tensor hooks made inside a compiled graph would be part of it; here they are made between two graphs.
    @uncompiled
    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Measure h, and s when it arrives, if a step waits for them and a gradient may come."""
        if not (isinstance(output, Tensor) and output.requires_grad):
            return
        if not output.numel() or _transformed(output) or not self.measurements.wants(self.index):
            return
        layer = self.measurements.layers[self.index]
        x = sharding.full((args[0] if args else next(iter(kwargs.values()))).detach())
        with torch.no_grad(), torch.autocast(output.device.type, enabled=False):
            h = layer.inputs(module, x)
        output.register_hook(  # type: ignore[no-untyped-call]
            partial(self._gradient, h, x if layer.keeps_input() else None)
        )

    def _gradient(self, h: Squares, x: Tensor | None, s: Tensor) -> None:
        """Measure s and add both; returns nothing, so that the gradient stays as it is."""
        s = sharding.full(s.detach())
        with torch.no_grad(), torch.autocast(s.device.type, enabled=False):
            squares = self.measurements.layers[self.index].gradients(x, s)
            self.measurements.add(self.index, h, squares)


def find_uses(model: nn.Module) -> tuple[list[nn.Module], list[Layer], dict[Tensor, list[Use]]]:
    """The covered modules of a model, what is measured at each, and the places of each parameter in them.

    The output projection of `torch.nn.MultiheadAttention` is left out: it is a linear layer that is never
    called, only its weight is used.
    """
    modules: list[nn.Module] = []
    layers: list[Layer] = []
    uses: dict[Tensor, list[Use]] = {}
    apart = {id(m.out_proj) for m in model.modules() if isinstance(m, nn.MultiheadAttention)}
    for name, module in model.named_modules():
        layer = None if id(module) in apart else layer_of(name, module)
        if layer is None:
            continue
        index, own = len(modules), dict(module.named_parameters(recurse=False))
        modules.append(module)
        layers.append(layer)
        for key, role in roles(layer).items():
            if key in own:
                uses.setdefault(own[key], []).append(Use(index, layer, role))
    return modules, layers, uses


def attach(module: nn.Module, measurements: Measurements, index: int) -> RemovableHandle:
    """Hook a layer, before the user's own hooks, which may return another output."""
    return module.register_forward_hook(LayerHook(measurements, index), prepend=True, with_kwargs=True)


def detach(handles: dict[int, RemovableHandle]) -> None:
    """Take the hooks off; an empty dictionary is left behind."""
    while handles:
        handles.popitem()[1].remove()


def pooled(
    measurements: Measurements,
    due: Sequence[int],
    group: "dist.ProcessGroup | None",
    device: torch.device,
) -> dict[int, tuple[Squares, Squares]]:
    """What was measured at the layers that are due, over all processes of a group.

    Without `torch.distributed`, or in one process, that is what this process measured. Otherwise it
    communicates, once: all sums and counts travel together, in the widest precision of the device. A layer
    that this process did not run, but another one did, is there all the same; to find out, the host waits.
    `device` is used by a process that measured nothing.
    """
    pending = measurements.pending
    own = {index: pending[index] for index in due if index in pending}
    if not (due and dist.is_available() and dist.is_initialized() and dist.get_world_size(group) > 1):
        return own
    home = next((h.total.device for h, _ in own.values()), device)
    flat = []
    for index in due:
        layer = measurements.layers[index]
        for size, squares in zip((layer.h_size, layer.s_size), own.get(index, (None, None)), strict=True):
            flat += _entries(squares, size, home)
    total = iter(torch.split(sharding.pool(torch.cat(flat), group), [part.numel() for part in flat]))
    everywhere = {index: (_squares(total), _squares(total)) for index in due}
    if len(own) < len(due):
        counts = torch.stack([torch.as_tensor(s.rows) for _, s in everywhere.values()]).tolist()
        everywhere = {i: both for (i, both), count in zip(everywhere.items(), counts, strict=True) if count}
    return everywhere


def _entries(squares: Squares | None, size: int, device: torch.device) -> list[Tensor]:
    """A sum and its count as two vectors; zeros where nothing was measured."""
    dtype = _checks.wide(device)
    if squares is None:
        return [torch.zeros(n, dtype=dtype, device=device) for n in (size, 1)]
    rows = squares.rows
    if not isinstance(rows, Tensor):
        rows = torch.full((), rows, dtype=dtype, device=device)
    return [squares.total.to(dtype), rows.to(dtype).reshape(1)]


def _squares(parts: Iterator[Tensor]) -> Squares:
    return Squares(next(parts), next(parts)[0])


def _nobody() -> None:
    """Stands for the optimizer where there is none."""


def _transformed(x: Tensor) -> bool:
    """Whether `x` lives inside a `torch.func` transform, whose gradients go to no parameter."""
    return bool(torch._C._functorch.is_functorch_wrapped_tensor(x))
