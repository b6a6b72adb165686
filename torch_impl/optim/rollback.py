"""A copy of everything an optimizer may change in a step, and the way back."""

from collections.abc import MutableMapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["Snapshot"]


class Snapshot:
    """What an optimizer holds: parameters, groups, state and other attributes, as they are now.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Of any kind. Not modified.
    values : bool
        Copy the values of tensors. Without, only which tensors there are is remembered, which is enough where
        they are replaced and not written to, as in PyTorch's loading.

    Notes
    -----
    Takes in what can be reached from the attributes of the optimizer through dictionaries, lists, tuples and
    optimizers: its parameters, and what AdaFisher has measured. Objects of other kinds are kept as they are,
    and so are gradients, which an optimizer has no business changing.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, *, values: bool) -> None:
        self._containers: list[tuple[Any, Any]] = []
        self._tensors: list[tuple[Tensor, Tensor]] = []
        self._values = values
        self._seen: set[int] = set()
        self._take(vars(optimizer))

    @torch.no_grad()
    def restore(self) -> None:
        """Put everything back: into the same tensors and containers, so that every alias sees it."""
        for container, contents in self._containers:
            container.clear()
            (container.extend if isinstance(container, list) else container.update)(contents)
        for tensor, values in self._tensors:
            tensor.copy_(values)

    def _take(self, value: Any) -> None:
        if id(value) in self._seen:
            return
        self._seen.add(id(value))
        if isinstance(value, Tensor):
            if self._values:
                self._tensors.append((value, value.detach().clone()))
        elif isinstance(value, torch.optim.Optimizer):
            self._take(vars(value))
        elif isinstance(value, MutableMapping):
            self._containers.append((value, dict(value)))
            for entry in value.values():
                self._take(entry)
        elif isinstance(value, list):
            self._containers.append((value, list(value)))
            for entry in value:
                self._take(entry)
        elif isinstance(value, tuple):
            for entry in value:
                self._take(entry)
