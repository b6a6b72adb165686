"""Which saved states an optimizer takes: everything is checked before anything is changed."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from torch_impl import _checks

__all__ = ["check_layout", "check_state_dict", "restored", "where"]

#: `torch.optim.Optimizer` puts this into the defaults when it is unpickled or has loaded a state.
ADDED_BY_PYTORCH = {"differentiable"}

Layout = Mapping[str, tuple[int, ...] | None]


def where(group: int, position: int, options: Mapping[str, Any]) -> str:
    """How messages call a parameter."""
    names = options.get("param_names")
    return f"parameter {position} of group {group}" + (f" ({names[position]})" if names else "")


def check_state_dict(
    saved: Any,
    param_groups: Sequence[Mapping[str, Any]],
    options: Sequence[str],
    check_group: Callable[[int, Mapping[str, Any]], None],
    check_state: Callable[[str, Tensor, Mapping[str, Any]], None],
) -> None:
    """Raise ValueError or TypeError unless `saved` fits an optimizer with these groups and options."""
    if not (isinstance(saved, Mapping) and {"state", "param_groups"} <= saved.keys()):
        raise ValueError(f"state_dict must hold 'state' and 'param_groups', got {type(saved).__name__}")
    sizes = [len(group.get("params", ())) for group in saved["param_groups"]]
    wanted = [len(group["params"]) for group in param_groups]
    if sizes != wanted:
        raise ValueError(f"state_dict must hold parameter groups of sizes {wanted}, got {sizes}")
    known = set()
    for index, (saved_group, group) in enumerate(zip(saved["param_groups"], param_groups, strict=True)):
        missing = sorted(set(options) - saved_group.keys() - ADDED_BY_PYTORCH)
        if missing:
            raise ValueError(
                f"state_dict must hold every option, got none for {', '.join(missing)} in group {index}"
            )
        check_group(index, saved_group)
        for position, (key, parameter) in enumerate(zip(saved_group["params"], group["params"], strict=True)):
            known.add(key)
            if saved["state"].get(key):
                check_state(where(index, position, group), parameter, saved["state"][key])
    strangers = saved["state"].keys() - known
    if strangers:
        raise ValueError(f"state_dict must hold state of listed parameters only, got keys {strangers}")


def check_layout(name: str, layout: Layout, state: Mapping[str, Any]) -> None:
    """Raise ValueError or TypeError unless a parameter's state has the names, shapes and dtypes it must have.

    A shape of None in the layout leaves the entry unchecked.
    """
    if state.keys() != layout.keys():
        raise ValueError(f"the state of {name} must hold {sorted(layout)}, got {sorted(state)}")
    dtypes = set()
    for key, shape in layout.items():
        if shape is None:
            continue
        value = _checks.tensor(f"state {key!r} of {name}", state[key])
        if value.shape != shape:
            raise ValueError(f"state {key!r} of {name} must have shape {shape}, got {tuple(value.shape)}")
        if key != "step":
            dtypes.add(value.dtype)
    if "step" in layout:
        _check_count(f"state 'step' of {name}", state["step"])
    if dtypes and dtypes not in ({torch.float32}, {torch.float64}):
        names = ", ".join(sorted(map(str, dtypes)))
        raise ValueError(f"the state of {name} must be float32 or float64 throughout, got {names}")


def restored(state: Mapping[str, Any], parameter: Tensor, *, capturable: bool) -> dict[str, Any]:
    """Own copy of a parameter's saved state, in its dtypes, on the device where it belongs."""

    def place(key: str, value: Tensor) -> Tensor:
        home = torch.device("cpu") if key == "step" and not capturable else parameter.device
        # A contiguous copy: `to` alone returns the same tensor when there is nothing to convert.
        return value.detach().to(home).clone(memory_format=torch.contiguous_format)

    return {key: place(key, value) if isinstance(value, Tensor) else value for key, value in state.items()}


def _check_count(name: str, value: Tensor) -> None:
    if value.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"{name} must be float32 or float64, got {value.dtype}")
    count = float(value)
    if not (count >= 0 and count.is_integer()):
        raise ValueError(f"{name} must be a whole number of at least 0, got {count!r}")
