"""The optimizers a composite is made of: which it takes, how it names, sees and loads them."""

import inspect
from collections.abc import Iterator, MutableMapping, Sequence
from itertools import chain
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from torch_impl.optim import loading

__all__ = ["SharedState", "check_child", "check_disjoint", "load_as_saved", "name_of", "parameters"]


class SharedState(MutableMapping[Tensor, Any]):
    """State of the parameters of several optimizers, each in its own optimizer."""

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        self._optimizers = optimizers

    def _of(self, key: Tensor) -> MutableMapping[Tensor, Any]:
        for optimizer in self._optimizers:
            if key in optimizer.state:
                return optimizer.state
        for optimizer in self._optimizers:
            if any(key is p for group in optimizer.param_groups for p in group["params"]):
                return optimizer.state
        raise KeyError(key)

    def __getitem__(self, key: Tensor) -> Any:
        return self._of(key)[key]

    def __setitem__(self, key: Tensor, value: Any) -> None:
        self._of(key)[key] = value

    def __delitem__(self, key: Tensor) -> None:
        del self._of(key)[key]

    def __contains__(self, key: object) -> bool:
        return any(key in optimizer.state for optimizer in self._optimizers)

    def __iter__(self) -> Iterator[Tensor]:
        return chain.from_iterable(optimizer.state for optimizer in self._optimizers)

    def __len__(self) -> int:
        return sum(len(optimizer.state) for optimizer in self._optimizers)

    def __repr__(self) -> str:
        return repr(dict(self))


def check_child(index: int, child: Any) -> None:
    """Raise TypeError or ValueError for what cannot step next to others."""
    if not isinstance(child, Optimizer):
        raise TypeError(f"optimizers must be torch.optim.Optimizer, got {type(child).__name__} at {index}")
    closure = inspect.signature(child.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise ValueError(
            f"optimizers must step without a closure, got {name_of(index, child)}, whose step evaluates the "
            "model again and again while the others wait"
        )


def check_disjoint(optimizers: Sequence[Optimizer]) -> None:
    """Raise ValueError for a parameter that would be stepped twice."""
    owner: dict[Tensor, str] = {}
    for where, parameter in parameters(optimizers):
        if parameter in owner:
            raise ValueError(
                f"optimizers must have no parameter in common, got {owner[parameter]} as {where} again"
            )
        owner[parameter] = where


def parameters(optimizers: Sequence[Optimizer]) -> Iterator[tuple[str, Tensor]]:
    """Every parameter, with words for where it is."""
    for index, optimizer in enumerate(optimizers):
        for number, group in enumerate(optimizer.param_groups):
            for position, parameter in enumerate(group["params"]):
                yield f"{loading.where(number, position, group)} of {name_of(index, optimizer)}", parameter


def name_of(index: int, optimizer: Optimizer) -> str:
    """How messages call a child."""
    return f"optimizer {index} ({type(optimizer).__name__})"


def load_as_saved(optimizer: Optimizer, part: dict[str, Any]) -> None:
    """Load; where the optimizer's own loading cast a tensor or kept the caller's, put a true copy instead."""
    saved: dict[str, Any] = {}

    def look(_: Optimizer, incoming: dict[str, Any]) -> None:
        saved.update(incoming)

    def recast(_: Optimizer) -> None:
        for saved_group, group in zip(saved["param_groups"], optimizer.param_groups, strict=True):
            for key, parameter in zip(saved_group["params"], group["params"], strict=True):
                for name, value in saved["state"].get(key, {}).items():
                    loaded = optimizer.state[parameter].get(name)
                    if not (isinstance(value, Tensor) and isinstance(loaded, Tensor)):
                        continue
                    cast = (
                        loaded.dtype != value.dtype and name != "step"
                    )  # that one is as its kernels need it
                    if loaded is value or cast:
                        optimizer.state[parameter][name] = value.detach().to(loaded.device, copy=True)

    # The user's hooks on the child come before the first and after the second, as without a composite.
    handles = [
        optimizer.register_load_state_dict_pre_hook(look),
        optimizer.register_load_state_dict_post_hook(recast, prepend=True),
    ]
    try:
        optimizer.load_state_dict(part)
    finally:
        for handle in handles:
            handle.remove()
