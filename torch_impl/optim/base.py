"""What the optimizers here share: a step and a loading that happen wholly or not at all.

A subclass supplies the checks of its options and parameters, the layout of its state, and one function that
does the step in place. This module does the rest, in this order: options, gradients, whether everything that
goes in is finite, and only then the step.
"""

import contextlib
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from torch_impl import _checks
from torch_impl.optim import finite, loading, sharding
from torch_impl.optim.checking import NONFINITE, check_dense_real, checked_gradient, flag, learning_rate
from torch_impl.optim.writing import Gradient

__all__ = ["CheckedOptimizer", "Gradient", "flag", "learning_rate"]


class _Skip(Exception):
    """The host has seen that this step is to be skipped."""


class CheckedOptimizer(torch.optim.Optimizer):
    """Base of the optimizers here.

    Every option of a group is an entry of `defaults`, so that it survives pickle, deepcopy and `state_dict`.
    All have `lr`, `weight_decay`, `maximize`, `nonfinite` and `capturable`.
    """

    #: Whether the last look at inputs found none whose square could overflow.
    _moderate = False

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        self._check_every_option(defaults)
        super().__init__(params, defaults)

    @abstractmethod
    def _check_options(self, options: Mapping[str, Any]) -> None:
        """Raise ValueError or TypeError for an option of the method's own that is out of range."""

    @abstractmethod
    def _check_parameter(self, where: str, parameter: Tensor) -> None:
        """Raise ValueError for a parameter the method cannot take."""

    @abstractmethod
    def _state_layout(self, parameter: Tensor) -> Mapping[str, tuple[int, ...] | None]:
        """Shape of each state tensor of a parameter: () for the step count, None where it is not fixed."""

    def _new_state(self, gradient: Gradient) -> dict[str, Any]:
        """State of a parameter before its first step, for `_state` and for `torch.compile`."""
        return {}

    def _state(self, gradient: Gradient) -> dict[str, Any]:
        """The state of a parameter, created if need be."""
        state = self.state[gradient.parameter]
        if not state:
            state.update(self._new_state(gradient))
        return state

    def _inputs(self, gradients: Sequence[Gradient]) -> list[tuple[str, Tensor]]:
        """Everything a step takes in that must be finite, with a name for messages."""
        return [(f"the gradient of {gradient.where}", gradient.value) for gradient in gradients]

    @abstractmethod
    def _advance(self, gradients: Sequence[Gradient], accept: Tensor | None) -> None:
        """Do the step, in place.

        `accept` is None where the inputs are known to be finite. Otherwise it is a 0-d bool tensor that says
        so, and everything written has to be selected by it on the device. A computation that can fail by
        itself works out of place, hands its results to `_accept` and only then writes.
        """

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
            another shape than its parameter or, with ``nonfinite="raise"``, not finite (the message names the
            parameter by its index and group). Parameters and state are then as before.

        Notes
        -----
        Looking for infinities and NaN makes the host wait once, unless ``nonfinite="skip"`` is joined by
        `capturable` or `torch.compile`: then the device decides. Options are not looked at again inside
        `torch.compile`, nor is the value of an `lr` on a GPU.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if torch.compiler.is_compiling():
            self._init_group()
        else:
            for index, group in enumerate(self.param_groups):
                self._check_group(index, group, wait=False)
            self._check_capture()
        gradients = self._gradients()
        if gradients:
            with contextlib.suppress(_Skip):
                self._advance(gradients, self._accept(self._inputs(gradients), None))
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
            self._check_group(index, group, wait=True)
            for position, parameter in enumerate(group["params"]):
                where = loading.where(index, position, group)
                check_dense_real(where, parameter)
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
            loading.check_state_dict(
                incoming, self.param_groups, list(self.defaults), self._check_saved_group, self._check_state
            )
            saved.update(incoming)

        def restore(_: torch.optim.Optimizer) -> None:
            for saved_group, group in zip(saved["param_groups"], self.param_groups, strict=True):
                for key, parameter in zip(saved_group["params"], group["params"], strict=True):
                    if key in saved["state"]:
                        self.state[parameter] = loading.restored(
                            saved["state"][key], parameter, capturable=group["capturable"]
                        )

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

    def _accept(
        self, named: Sequence[tuple[str, Tensor]], accept: Tensor | None, *, why: str = ""
    ) -> Tensor | None:
        """Whether all these tensors are finite, and `accept` was true: the verdict `_advance` is given.

        Raises ValueError naming the first culprit with ``nonfinite="raise"``, and ends the step where the
        host may wait with "skip". All processes that share a DTensor come to one verdict.
        """
        tensors = [sharding.local(x) for _, x in named]
        if not tensors:
            return accept
        if self._skips() and self._stays_on_device():
            good = self._agreed(finite.all_finite(tensors).reshape(1))[0]
            return good if accept is None else good & accept.to(good.device)
        if accept is not None and not bool(accept):  # decided in a compiled part, met outside of it
            raise _Skip
        self._moderate = bool(self._agreed(finite.surely_finite(tensors).reshape(1)))
        if self._moderate:
            return None
        flags = self._agreed(finite.finite_flags(tensors)).tolist()
        if all(flags):
            return None
        name, _ = named[flags.index(False)]
        raise self._refusal(f"{name} must be finite, got an infinity or a NaN{why}; nothing was changed")

    def _init_group(self) -> None:
        """Create missing state before `torch.compile` traces the step.

        The compiler knows a method of this name and calls it while tracing. State created inside a graph
        would be one of its outputs, whose memory a CUDA graph reuses, and the second step would be another
        graph. One call for all groups, because after the first the compiler takes the state for complete.
        """
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._state(Gradient("", parameter, parameter.grad, group))

    def _agreed(self, flags: Tensor) -> Tensor:
        """Which flags are set on every process that holds a shard of a parameter."""
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return flags
        return sharding.agreed(flags, [x for group in self.param_groups for x in group["params"]])

    def _refusal(self, message: str) -> Exception:
        """What ends a step before anything is written: ValueError, or with "skip" nothing a user sees."""
        return _Skip() if self._skips() else ValueError(message)

    def _skips(self) -> bool:
        return self.param_groups[0]["nonfinite"] == "skip"

    def _stays_on_device(self) -> bool:
        """Whether a step may not wait for the host to find out if it is to be taken."""
        return torch.compiler.is_compiling() or all(group["capturable"] for group in self.param_groups)

    def _gradients(self) -> list[Gradient]:
        """Every gradient there is, checked, with its sign turned where the group maximizes."""
        found, compiling = [], torch.compiler.is_compiling()
        for index, group in enumerate(self.param_groups):
            for position, parameter in enumerate(group["params"]):
                if parameter.grad is None:
                    continue
                where = loading.where(index, position, group)
                gradient = checked_gradient(where, parameter.grad, parameter)
                if not compiling:
                    self._check_kept_shape(where, parameter)
                found.append(Gradient(where, parameter, -gradient if group["maximize"] else gradient, group))
        return found

    def _check_kept_shape(self, where: str, parameter: Tensor) -> None:
        """Raise ValueError if the parameter is no longer of the shape its state was made for."""
        state = self.state.get(parameter)
        if not state or state["M"].shape == parameter.shape:  # the whole layout costs as much as a kernel
            return
        for name, shape in self._state_layout(parameter).items():
            if shape is not None and state[name].shape != shape:
                raise ValueError(
                    f"state {name!r} of {where} must have shape {shape}, got {tuple(state[name].shape)}: the "
                    "parameter has changed its shape; delete its state or give the optimizer a new parameter"
                )

    def _check_every_option(self, options: Mapping[str, Any], *, wait: bool = True) -> None:
        learning_rate(options["lr"], wait=wait)
        _checks.number("weight_decay", options["weight_decay"], at_least=0.0)
        flag("maximize", options["maximize"])
        flag("capturable", options["capturable"])
        _checks.choice("nonfinite", options["nonfinite"], NONFINITE)
        self._check_options(options)

    def _check_group(self, index: int, group: Mapping[str, Any], *, wait: bool) -> None:
        try:
            self._check_every_option(group, wait=wait)
            first = self.param_groups[0]["nonfinite"]
            if group["nonfinite"] != first:
                raise ValueError(
                    f"nonfinite must be equal in all groups, because a step is taken as a whole, "
                    f"got {group['nonfinite']!r} after {first!r}"
                )
        except (TypeError, ValueError) as error:
            raise type(error)(f"{error} (parameter group {index})") from None

    def _check_saved_group(self, index: int, group: Mapping[str, Any]) -> None:
        try:
            self._check_every_option(group)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{error} (parameter group {index})") from None

    def _check_state(self, where: str, parameter: Tensor, state: Mapping[str, Any]) -> None:
        loading.check_layout(where, self._state_layout(parameter), state)

    def _check_capture(self) -> None:
        """Say what a CUDA graph needs, before the first thing it cannot hold."""
        if not (torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()):
            return
        if self.param_groups[0]["nonfinite"] != "skip" or not self._stays_on_device():
            raise RuntimeError(
                f"capturing a step of {type(self).__name__} in a CUDA graph needs capturable=True and "
                'nonfinite="skip" in every group: otherwise the host waits'
            )
