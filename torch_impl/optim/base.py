"""What FISMO and SOFIM share: an optimizer whose step and whose loading happen wholly or not at all.

A subclass supplies the checks of its options and parameters, the layout of its state, and one function that
turns gradients into changes without touching anything. This module does the rest, in this order: check
options, check gradients, compute every change, check every change, and only then write.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from torch_impl import _checks

__all__ = ["Change", "CheckedOptimizer", "Gradient", "flag", "learning_rate"]


#: `torch.optim.Optimizer` puts this into the defaults when it is unpickled or has loaded a state.
ADDED_BY_PYTORCH = {"differentiable"}


class Gradient(NamedTuple):
    """A checked gradient: where it belongs, the parameter, what to descend along, and the group's options."""

    where: str
    parameter: Tensor
    value: Tensor
    group: Mapping[str, Any]


class Change(NamedTuple):
    """What a step is about to do: ``W <- (1 - lr weight_decay) W - lr update``, and the state after it."""

    gradient: Gradient
    update: Tensor
    state: Mapping[str, Tensor | int]


class CheckedOptimizer(torch.optim.Optimizer):
    """Base of the optimizers here; every option of a group is an entry of `defaults`."""

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        self._check_options(defaults)
        super().__init__(params, defaults)

    @abstractmethod
    def _check_options(self, options: Mapping[str, Any]) -> None:
        """Raise ValueError or TypeError for an option out of range."""

    @abstractmethod
    def _check_parameter(self, where: str, parameter: Tensor) -> None:
        """Raise ValueError for a parameter the method cannot take."""

    @abstractmethod
    def _state_layout(self, parameter: Tensor) -> Mapping[str, tuple[int, ...] | None]:
        """Shape of each state tensor of a parameter; None for a step counter."""

    @abstractmethod
    def _changes(self, gradients: Sequence[Gradient]) -> list[Change]:
        """Compute what the step will do, out of place."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step, wholly or not at all.

        Parameters
        ----------
        closure : callable, optional
            Re-evaluates the model with gradients enabled and returns the loss.

        Returns
        -------
        loss : what the closure returned, or None

        Raises
        ------
        TypeError, ValueError
            If an option, set through `param_groups`, is out of range; if a gradient is sparse, complex, of
            another shape than its parameter or not finite (the message names the parameter by its index and
            group); or if the step itself comes out not finite. Parameters and state are then as before.

        Notes
        -----
        Looking for infinities and NaN makes the host wait twice per device: once for all gradients together
        and once for all updates together.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for index, group in enumerate(self.param_groups):
            self._check_group(index, group)
        gradients = self._gradients()
        changes = self._changes(gradients)
        where = _first_not_finite([change.update for change in changes])
        if where is not None:
            raise ValueError(
                f"the update of {changes[where].gradient.where} must be finite, got an infinity or a NaN: "
                "its state is singular or overflows in its precision; nothing was changed"
            )
        for change in changes:
            self._apply(change)
        return loss

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; its options default to those of the constructor.

        Parameters
        ----------
        param_group : dict
            ``{"params": ..., option: value, ...}``. Not modified.

        Raises
        ------
        TypeError, ValueError
            If an option is out of range or a parameter is of a kind the method cannot take. Nothing is added.
        """
        super().add_param_group(dict(param_group) if isinstance(param_group, dict) else param_group)
        index, group = len(self.param_groups) - 1, self.param_groups[-1]
        try:
            self._check_group(index, group)
            for position, parameter in enumerate(group["params"]):
                where = _where(index, position, group)
                _check_dense_real(where, parameter)
                self._check_parameter(where, parameter)
        except (TypeError, ValueError):
            self.param_groups.pop()
            raise

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load options and state, bit for bit and in the dtypes they were saved in.

        Parameters
        ----------
        state_dict : dict
            From `state_dict` of an optimizer over parameters of the same shapes. Not modified, not aliased.

        Raises
        ------
        TypeError, ValueError
            If it belongs to another model (number of groups or parameters, shapes) or another optimizer, or
            an option is out of range. Nothing is changed.

        Notes
        -----
        PyTorch's own loading casts floating-point state to the dtype of the parameter, which would round
        float32 state under bfloat16 parameters. Only the device follows the parameter here.
        """
        saved: dict[str, Any] = {}

        def check(_: torch.optim.Optimizer, incoming: dict[str, Any]) -> None:
            self._check_state_dict(incoming)
            saved.update(incoming)

        def restore(_: torch.optim.Optimizer) -> None:
            for saved_group, group in zip(saved["param_groups"], self.param_groups, strict=True):
                for key, parameter in zip(saved_group["params"], group["params"], strict=True):
                    if key in saved["state"]:
                        self.state[parameter] = {
                            name: _own_copy(value, parameter.device) if isinstance(value, Tensor) else value
                            for name, value in saved["state"][key].items()
                        }

        # The user's hooks come before the first and after the second, and see what PyTorch would show them.
        handles = [
            self.register_load_state_dict_pre_hook(check),
            self.register_load_state_dict_post_hook(restore, prepend=True),
        ]
        try:
            super().load_state_dict(state_dict)
        finally:
            for handle in handles:
                handle.remove()

    def _check_group(self, index: int, group: Mapping[str, Any]) -> None:
        try:
            self._check_options(group)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{error} (parameter group {index})") from None

    def _gradients(self) -> list[Gradient]:
        """Every gradient there is, checked, with its sign turned where the group maximizes."""
        found = []
        for index, group in enumerate(self.param_groups):
            for position, parameter in enumerate(group["params"]):
                if parameter.grad is None:
                    continue
                where = _where(index, position, group)
                gradient = parameter.grad
                _check_dense_real(f"the gradient of {where}", gradient)
                if gradient.shape != parameter.shape or gradient.device != parameter.device:
                    raise ValueError(
                        f"the gradient of {where} must have shape {tuple(parameter.shape)} "
                        f"on {parameter.device}, got {tuple(gradient.shape)} on {gradient.device}"
                    )
                found.append(Gradient(where, parameter, gradient, group))
        culprit = _first_not_finite([gradient.value for gradient in found])
        if culprit is not None:
            raise ValueError(
                f"the gradient of {found[culprit].where} must be finite, got an infinity or a NaN; "
                "nothing was changed"
            )
        return [g._replace(value=-g.value) if g.group["maximize"] else g for g in found]

    def _apply(self, change: Change) -> None:
        """Write one change; the only rounding to the parameter's dtype is the final store."""
        parameter, group = change.gradient.parameter, change.gradient.group
        lr, weight_decay = float(group["lr"]), float(group["weight_decay"])
        W = parameter.to(torch.promote_types(parameter.dtype, change.update.dtype))
        parameter.copy_((1.0 - lr * weight_decay) * W - lr * change.update)
        state = self.state[parameter]
        for name, value in change.state.items():
            if isinstance(value, Tensor) and name in state:
                state[name].copy_(value)
            else:
                state[name] = _own_copy(value, value.device) if isinstance(value, Tensor) else value

    def _check_state_dict(self, saved: Any) -> None:
        if not (isinstance(saved, Mapping) and {"state", "param_groups"} <= saved.keys()):
            raise ValueError(f"state_dict must hold 'state' and 'param_groups', got {type(saved).__name__}")
        sizes = [len(group.get("params", ())) for group in saved["param_groups"]]
        wanted = [len(group["params"]) for group in self.param_groups]
        if sizes != wanted:
            raise ValueError(f"state_dict must hold parameter groups of sizes {wanted}, got {sizes}")
        known = set()
        for index, (saved_group, group) in enumerate(
            zip(saved["param_groups"], self.param_groups, strict=True)
        ):
            missing = sorted(self.defaults.keys() - saved_group.keys() - ADDED_BY_PYTORCH)
            if missing:
                raise ValueError(
                    f"state_dict must hold every option, got none for {', '.join(missing)} in group {index}"
                )
            self._check_group(index, saved_group)
            for position, (key, parameter) in enumerate(
                zip(saved_group["params"], group["params"], strict=True)
            ):
                known.add(key)
                if saved["state"].get(key):
                    self._check_state(_where(index, position, group), parameter, saved["state"][key])
        strangers = saved["state"].keys() - known
        if strangers:
            raise ValueError(f"state_dict must hold state of listed parameters only, got keys {strangers}")

    def _check_state(self, where: str, parameter: Tensor, state: Mapping[str, Any]) -> None:
        layout = self._state_layout(parameter)
        if state.keys() != layout.keys():
            raise ValueError(f"the state of {where} must hold {sorted(layout)}, got {sorted(state)}")
        for name, shape in layout.items():
            if shape is None:
                _checks.count(f"state {name!r} of {where}", state[name], at_least=1)
            elif _checks.tensor(f"state {name!r} of {where}", state[name]).shape != shape:
                raise ValueError(
                    f"state {name!r} of {where} must have shape {shape}, got {tuple(state[name].shape)}"
                )
        dtypes = {value.dtype for value in state.values() if isinstance(value, Tensor)}
        if dtypes not in ({torch.float32}, {torch.float64}):
            names = ", ".join(sorted(map(str, dtypes)))
            raise ValueError(f"the state of {where} must be float32 or float64 throughout, got {names}")


def learning_rate(value: float | Tensor) -> float:
    """`lr` as a float, from a float or a one-element tensor; non-negative and finite."""
    if isinstance(value, Tensor):
        if value.numel() != 1 or not value.is_floating_point():
            raise ValueError(f"lr must be a number or a real tensor of one element, got {tuple(value.shape)}")
        value = value.item()
    return _checks.number("lr", value, at_least=0.0)


def flag(name: str, value: bool) -> bool:
    """Return `value` if it is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {type(value).__name__}")
    return value


def _where(group: int, position: int, options: Mapping[str, Any]) -> str:
    names = options.get("param_names")
    return f"parameter {position} of group {group}" + (f" ({names[position]})" if names else "")


def _check_dense_real(name: str, x: Tensor) -> None:
    if x.is_complex():
        raise ValueError(f"{name} must be real, got {x.dtype}")
    _checks.tensor(name, x)


def _own_copy(value: Tensor, device: torch.device) -> Tensor:
    """A contiguous copy: `to` alone returns the same tensor when there is nothing to convert."""
    return value.detach().to(device).clone(memory_format=torch.contiguous_format)


def _first_not_finite(tensors: Sequence[Tensor]) -> int | None:
    """Index of the first tensor with an infinity or a NaN; the host waits once per device."""
    culprits = []
    for device in dict.fromkeys(x.device for x in tensors):
        members = [index for index, x in enumerate(tensors) if x.device == device]
        finite = torch.stack([tensors[index].isfinite().all() for index in members]).tolist()
        culprits += [index for index, good in zip(members, finite, strict=True) if not good]
    return min(culprits, default=None)
