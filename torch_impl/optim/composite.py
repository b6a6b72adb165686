"""Several optimizers that step, load and save as one: FISMO for the matrices, AdamW for the rest."""

import inspect
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from itertools import chain
from textwrap import indent
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import _global_optimizer_post_hooks

import torch_impl
from torch_impl import _checks
from torch_impl.optim import finite, sharding
from torch_impl.optim.base import CheckedOptimizer, flag
from torch_impl.optim.children import (
    SharedState,
    check_child,
    check_disjoint,
    load_as_saved,
    name_of,
    parameters,
)
from torch_impl.optim.rollback import Snapshot

__all__ = ["Composite"]


class Composite(Optimizer):
    """Several optimizers as one: one step, one scheduler, one checkpoint.

    ::

        split = split_parameters(model)
        optimizer = Composite([FISMO(split.matrices, lr=0.02), torch.optim.AdamW(split.others, lr=1e-3)])

    Parameters
    ----------
    optimizers : sequence of Optimizer
        The children, ours or others', over disjoint parameters. They keep their groups, options, state and
        hooks. The checks of nonfinite gradients belong to the composite: a child of ours must have
        ``nonfinite="raise"``.
    nonfinite : {"raise", "skip"}
        What to do where a gradient has an infinity or a NaN: refuse the step with a ValueError, or skip it.
        Either way nothing changes in any child.
    rollback : bool
        Put everything back if a child fails in the middle of a step. False saves the cost (see Notes); a
        failing child then leaves those before it stepped.

    Raises
    ------
    TypeError, ValueError
        If a child is no optimizer, or needs a closure in each step (L-BFGS); if a parameter belongs to two
        children; if an option is out of range.

    Notes
    -----
    `param_groups` are the groups of the children, in their order, and `state` looks parameters up in the
    child that has them: both are views, so that schedulers, gradient scaling, `torch.distributed.checkpoint`
    and trainers see, and change, what the children use. New groups and new optimizers come through
    `add_param_group` only; the list itself is made anew each time.

    A step happens wholly or not at all. First all gradients are looked at, for which the host waits once;
    then the children step, those first that could fail half-way. Before each of them its parameters and its
    state are copied, and if one raises, all are put back. A FISMO, SOFIM or AdaFisher changes nothing when it
    fails, so that the largest of them steps last and is not copied. Next to FISMO and AdamW this costs the
    memory of AdamW's parameters and state once more while the step lasts, and the time of copying them: on a
    CPU nearly that of AdamW's step. What a step changes outside of the attributes of a child (random numbers,
    gradients) is not undone.

    Because the host waits, a step cannot be captured in a CUDA graph.
    """

    def __init__(
        self, optimizers: Sequence[Optimizer], *, nonfinite: str = "raise", rollback: bool = True
    ) -> None:
        children = tuple(optimizers)
        if not children:
            raise ValueError("optimizers must hold at least one optimizer, got none")
        for index, child in enumerate(children):
            check_child(index, child)
        check_disjoint(children)
        settings = {"optimizers": children, "nonfinite": nonfinite, "rollback": flag("rollback", rollback)}
        # Optimizer.__init__ would build groups of its own. Unpickling does without it, and so does this.
        self.__setstate__({"defaults": {}, **settings})
        self._check_policy()

    optimizers: tuple[Optimizer, ...]
    nonfinite: str
    rollback: bool

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The groups of the children, in their order; the dictionaries are the children's own."""
        return [group for child in self.optimizers for group in child.param_groups]

    @property
    def state(self) -> "MutableMapping[Tensor, Any]":  # type: ignore[override]
        """The state of every parameter, read and written in the child that has it."""
        return SharedState(self.optimizers)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Let every child take one step, or none.

        Parameters
        ----------
        closure : callable, optional
            Re-evaluates the model with gradients enabled and returns the loss. Evaluated once.

        Returns
        -------
        loss : what the closure returned, or None

        Raises
        ------
        ValueError
            If a gradient is not finite and `nonfinite` is "raise".
        Exception
            What a child raised, with a note that names the child. Everything is then as before the step,
            unless `rollback` is False.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._check_policy()
        culprit = self._first_not_finite()
        if culprit is None:
            self._step_children()
        elif self.nonfinite == "raise":
            raise ValueError(
                f"the gradient of {culprit} must be finite, got an infinity or a NaN; nothing was changed"
            )
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Let every child reset its gradients, to None or to zeros."""
        for child in self.optimizers:
            child.zero_grad(set_to_none)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to one child.

        Parameters
        ----------
        param_group : dict
            ``{"params": ..., "optimizer": index of the child, option: value, ...}``. Not modified.

        Raises
        ------
        TypeError, ValueError
            If it does not say which child, if a parameter already belongs to a child, or if the child refuses
            it. Nothing is added.
        """
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, got {type(param_group).__name__}")
        group = dict(param_group)
        index = group.pop("optimizer", None)
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(self.optimizers):
            children = ", ".join(f"{i} ({type(o).__name__})" for i, o in enumerate(self.optimizers))
            raise ValueError(
                f"param_group must say which optimizer takes it, as in {{'optimizer': 0, 'params': ...}}, "
                f"one of {children}; got {index!r}"
            )
        child = self.optimizers[index]
        child.add_param_group(group)
        try:
            check_disjoint(self.optimizers)
            self._check_policy()
        except (TypeError, ValueError):
            child.param_groups.pop()
            raise

    def state_dict(self) -> dict[str, Any]:
        """Return the state of all children as one, in PyTorch's format.

        Returns
        -------
        dict
            ``{"state": {index: ...}, "param_groups": [...]}`` with the parameters numbered through, child
            after child: what an optimizer with all these groups would return. Tensors are not copied.

        Raises
        ------
        ValueError
            If a child saves anything in another format.
        """
        for before in self._optimizer_state_dict_pre_hooks.values():
            before(self)
        merged: dict[str, Any] = {"state": {}, "param_groups": []}
        start = 0
        for index, child in enumerate(self.optimizers):
            saved = child.state_dict()
            if saved.keys() != merged.keys():
                raise ValueError(
                    f"{name_of(index, child)} must save 'state' and 'param_groups', got {sorted(saved)}"
                )
            merged["state"].update({start + key: value for key, value in saved["state"].items()})
            for group in saved["param_groups"]:
                merged["param_groups"].append({**group, "params": [start + key for key in group["params"]]})
            start += sum(len(group["params"]) for group in saved["param_groups"])
        for after in self._optimizer_state_dict_post_hooks.values():
            result = after(self, merged)
            merged = merged if result is None else result
        return merged

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load the state of all children, or of none, bit for bit and in the dtypes it was saved in.

        Parameters
        ----------
        state_dict : dict
            From `state_dict` of a composite of the same optimizers over parameters of the same shapes, in the
            same order. Not modified, not aliased.

        Raises
        ------
        ValueError
            If it belongs to another composite: number or sizes of groups, state of unknown parameters.
        Exception
            What a child raised that refused its part. Every child is then as it was (a child that loads by
            overwriting its tensors, rather than by replacing them as PyTorch does, has to see to itself).

        Notes
        -----
        PyTorch's own loading casts floating-point state to the dtype of the parameter, which rounds float32
        state under bfloat16 parameters (NAdam's and ASGD's, for instance). Here it keeps its dtype.
        """
        incoming = dict(state_dict)
        for before in self._optimizer_load_state_dict_pre_hooks.values():
            result = before(self, incoming)
            incoming = incoming if result is None else result
        parts = self._parts(incoming)
        snapshots = [Snapshot(child, values=False) for child in self.optimizers]
        try:
            for child, part in zip(self.optimizers, parts, strict=True):
                load_as_saved(child, part)
            self._check_policy()
        except BaseException:
            for snapshot in snapshots:
                snapshot.restore()
            raise
        for after in self._optimizer_load_state_dict_post_hooks.values():
            after(self)

    def __getstate__(self) -> dict[str, Any]:
        names = ("defaults", "optimizers", "nonfinite", "rollback")
        return {name: getattr(self, name) for name in names}

    def __repr__(self) -> str:
        children = "\n".join(f"{index}: {child!r}" for index, child in enumerate(self.optimizers))
        options = f"nonfinite={self.nonfinite!r}, rollback={self.rollback}"
        return f"Composite ({options}\n{indent(children, '    ')}\n)"

    def _check_policy(self) -> None:
        """The composite decides on gradients that are not finite; a child must not skip a step on its own."""
        _checks.choice("nonfinite", self.nonfinite, ("raise", "skip"))
        for index, child in enumerate(self.optimizers):
            if any(group.get("nonfinite", "raise") != "raise" for group in child.param_groups):
                raise ValueError(
                    f"nonfinite must be 'raise' for {name_of(index, child)}, which could otherwise "
                    "skip a step that the others take; give nonfinite to the composite"
                )

    def _first_not_finite(self) -> str | None:
        """Name of the first parameter whose gradient is not finite, on any process."""
        found = [
            (where, p, _entries(p.grad)) for where, p in parameters(self.optimizers) if p.grad is not None
        ]
        if not found:
            return None
        where, like, entries = zip(*found, strict=True)
        if bool(sharding.agreed(finite.surely_finite(entries).reshape(1), like)):
            return None
        flags = sharding.agreed(finite.finite_flags(entries), like).tolist()
        return None if all(flags) else where[flags.index(False)]

    def _step_children(self) -> None:
        order, spared = self._order()
        snapshots: list[Snapshot] = []
        child = order[0]
        try:
            for child in order:
                if self.rollback and child is not spared:
                    snapshots.append(Snapshot(child, values=True))
                child.step()
        except BaseException as error:
            for snapshot in snapshots:
                snapshot.restore()
            done = "nothing was changed" if self.rollback else "those before it have stepped (rollback=False)"
            error.add_note(f"raised in the step of {name_of(self.optimizers.index(child), child)}; {done}")
            raise

    def _order(self) -> tuple[list[Optimizer], Optimizer | None]:
        """The children in the order they step, and the one that needs no copy: it comes last."""
        spared: Optimizer | None = None
        for child in self.optimizers:
            if _steps_wholly(child) and (spared is None or _size(child) > _size(spared)):
                spared = child
        order = [child for child in self.optimizers if child is not spared]
        return (order if spared is None else [*order, spared]), spared

    def _parts(self, saved: Any) -> list[dict[str, Any]]:
        """Cut a state dict into those of the children, numbered as theirs; ValueError if it does not fit."""
        if not (isinstance(saved, Mapping) and {"state", "param_groups"} <= saved.keys()):
            raise ValueError("state_dict must hold 'state' and 'param_groups'")
        sizes = [len(group.get("params", ())) for group in saved["param_groups"]]
        wanted = [len(group["params"]) for group in self.param_groups]
        if sizes != wanted:
            raise ValueError(f"state_dict must hold parameter groups of sizes {wanted}, got {sizes}")
        parts, groups, strangers = [], iter(saved["param_groups"]), dict(saved["state"])
        for child in self.optimizers:
            mine = [next(groups) for _ in child.param_groups]
            number = {key: n for n, key in enumerate(chain.from_iterable(g["params"] for g in mine))}
            part = {number[key]: strangers.pop(key) for key in list(strangers) if key in number}
            renumbered = [{**group, "params": [number[key] for key in group["params"]]} for group in mine]
            parts.append({"state": part, "param_groups": renumbered})
        if strangers:
            raise ValueError(
                f"state_dict must hold state of listed parameters only, got keys {sorted(strangers, key=str)}"
            )
        return parts


def _entries(gradient: Tensor) -> Tensor:
    """The numbers of a gradient on this process; the listed ones if it is sparse."""
    if gradient.layout == torch.sparse_coo:
        return gradient.coalesce().values()
    return sharding.local(gradient)


def _size(optimizer: Optimizer) -> int:
    return sum(p.numel() for group in optimizer.param_groups for p in group["params"])


def _steps_wholly(optimizer: Optimizer) -> bool:
    """Whether a step that raises has changed nothing: one of ours, and nothing after it to raise."""
    hooks = optimizer._optimizer_step_post_hooks or _global_optimizer_post_hooks
    ours = inspect.unwrap(type(optimizer).step).__module__.startswith(f"{torch_impl.__name__}.")
    return isinstance(optimizer, CheckedOptimizer) and ours and not hooks
