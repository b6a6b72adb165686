"""AdaFisher as a `torch.optim.Optimizer`; the mathematics is in `torch_impl.adafisher`.

What is measured at a layer is in `layer_factors`, how it is measured while a model trains in `layer_hooks`,
how measurements become denominators in `factor_averages`.
"""

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from torch_impl import _checks
from torch_impl.optim import adafisher_checks, factor_averages, preconditioned, sharding, writing
from torch_impl.optim.base import CheckedOptimizer, Gradient
from torch_impl.optim.compiling import uncompiled
from torch_impl.optim.factor_averages import Slot
from torch_impl.optim.layer_factors import Squares
from torch_impl.optim.layer_hooks import Measurements, attach, detach, find_uses, pooled

__all__ = ["AdaFisher", "AdaFisherW"]


class AdaFisher(CheckedOptimizer):
    """AdaFisher: momentum over a diagonal, min-max normalised Kronecker approximation of the Fisher matrix.

    ::

        optimizer = AdaFisher(model, lr=1e-3)
        for x, y in loader:
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()

    Parameters
    ----------
    model : torch.nn.Module
        Whose layers are measured, by hooks that live as long as the optimizer. Layers, ties and places of
        parameters are taken as they are now: move, shard or wrap the model before, not after.
    lr : float or one-element Tensor
        At least 0. The denominator F lies in [lam, 1 + lam]: a parameter moves by about lr to lr / lam
        times its momentum. Unlike Adam's, the step scales with the loss. The paper: 1e-3.
    params : iterable of parameters, of ``(name, parameter)``, or of groups, optional
        Of `model`. Default: all that are trainable.
    beta : float
        Momentum, in [0, 1).
    gamma : float
        In [0, 1]: weight of the average of the factors.
    lam : float
        Damping, above 0. The paper: 1e-3, and 3e-3 for vision transformers.
    weight_decay : float
        At least 0. Decoupled, ``W <- (1 - lr weight_decay) W`` before the step, as the paper writes it for
        AdaFisherW; only with ``averaging="released"`` it is added to the gradient, as the released AdaFisher
        does. Use `AdaFisherW` for decoupled decay in both.
    refresh : int
        Measure at steps 1, 1 + refresh, ... of a parameter; between them the hooks cost nothing. The paper
        measures at every step, published settings at every 100th. 1 with `capturable`.
    normalise : {"after", "before"}
        Min-max normalise the average of the factors (eq. 3, then Prop. 3.2), or average the normalised.
    gamma_on : {"old", "new"}
        What gamma weighs, the old average or the new measurement.
    averaging : {"paper", "released"}
        "released" is what the published code did since May 2024: from ones, ``0.1 gamma old + 0.01 gamma
        minmax(new)`` with 1e-6 added to the range. The products of such factors stay below 8 per cent of
        the default damping: it is momentum with the step lr / lam, all but a few per cent.
    initial : {"first", "ones"}
        What the average starts from.
    epsilon : float
        At least 0, added to the range in min-max normalisation: a multiple of the range if `relative`,
        otherwise in the units of the factor, where 1e-6 is not small.
    relative : bool
        See `epsilon`.
    fallback : float, optional
        F of parameters that no layer factor covers; their step is lr / fallback times their momentum. None
        refuses them: here if that is known, otherwise in the step. No parameter with a gradient stands still.
    scaler : torch.amp.GradScaler, optional
        Whose scale is divided out of what is measured. A scale that never changes cancels in min-max
        normalisation; one that changes gives the measurements of an average different weights.
    process_group : ProcessGroup, optional
        Over which measurements are pooled, so that replicas stay equal; by default, once
        `torch.distributed` is initialised, all processes. Plain parameters are pooled too: a process that
        trains a model of its own needs a group of itself. An optimizer with a group can be neither pickled
        nor copied, because a group cannot.
    maximize : bool
        Ascend instead of descend.
    nonfinite : {"raise", "skip"}
        What happens to a step with an infinity or a NaN in a gradient or a measured factor. Nothing changes.
        Equal in all groups.
    capturable : bool
        Step counts live with the parameters. Together with ``nonfinite="skip"`` a step never waits for the
        host, but once after loading a state.

    Raises
    ------
    TypeError, ValueError
        If `model` is no module, is wrapped in `torch.nn.DataParallel` or has lazy parameters; if a parameter
        is of another model, not real and dense, or has neither factor nor fallback; if an option is out of
        range or without effect.

    Notes
    -----
    Source: Martins Gomes et al., AdaFisher (arXiv 2405.16397 v3), Algorithm 1; bias correction from t = 1.
    Symbols and choices are those of `torch_impl.adafisher`.

    *Layers.* Linear, Conv1d to Conv3d, BatchNorm1d to BatchNorm3d, LayerNorm, GroupNorm, RMSNorm, Embedding
    (as a linear layer with one-hot inputs; look-ups of `padding_idx` do not count). Of subclasses, those that
    keep the forward function. Everything else needs a fallback: raw parameters, recurrent layers, attention
    with its output projection (never called as a module), transposed convolutions, SyncBatchNorm, weights
    under a parametrization, embeddings with `scale_grad_by_freq`. A bias is the weight of a constant input 1.
    The scale of a normalisation sees the activations before scale and shift; for the shift F = lam.

    *What counts.* Every call of a layer that a backward pass reaches since the last step: several calls,
    accumulated or repeated backward passes are one batch, and so is a call that is checkpointed. A layer that
    was skipped keeps its factors. A parameter of several layers has the mean of their products in F. Calls
    without gradient and calls inside `torch.func` transforms do not count. `zero_grad` of the optimizer drops
    what was measured, ``model.zero_grad`` does not.

    *State* of a parameter of N numbers in a layer with n inputs (the constant 1 and, in a convolution, all
    groups included) and m outputs: ``N + n + m`` numbers, float64 for float64 parameters and else float32 (M,
    h_D, s_D), and two counts; n and m once more for every further layer. A distributed parameter has its
    momentum laid out like itself, and whole factors on every process. A pickle or deep copy of the optimizer
    holds the model; copy both together. A copied model alone carries hooks that do nothing.

    *Time*, as ratios on one core of a server CPU, in float32. Measuring adds 5 per cent to a forward and
    backward pass of a transformer (4.2 million numbers, 512 tokens), 17 per cent to one of a small
    convolutional network (0.14 million, 32 images of 32 x 32) and doubles that of 20 linear layers of 64 x 64
    on 64 rows. The step of the first takes 1.25 times as long as that of `torch.optim.AdamW` with `foreach`,
    1.1 times between refreshes; where the parameters are so small that the number of operations counts,
    as in the other two, it is 3 times and 2 times. Measuring makes `torch.compile` break the graph of the
    *model* at every measured layer.
    """

    #: By parameter and layer, whether the averages hold a measurement; filled as it is asked for.
    _known: dict[Tensor, dict[int, bool]]
    #: Factors that go into the step being taken, by layer.
    _measured: dict[int, tuple[Tensor, Tensor]]
    #: What `due_layers` has found, until something changes.
    _due: frozenset[int] | None

    def __init__(
        self,
        model: nn.Module,
        lr: float | Tensor = 1e-3,
        *,
        params: Iterable[Any] | None = None,
        beta: float = 0.9,
        gamma: float = 0.8,
        lam: float = 1e-3,
        weight_decay: float = 0.0,
        refresh: int = 1,
        normalise: str = "after",
        gamma_on: str = "old",
        averaging: str = "paper",
        initial: str = "first",
        epsilon: float = 0.0,
        relative: bool = True,
        fallback: float | None = None,
        scaler: torch.amp.GradScaler | None = None,
        process_group: "dist.ProcessGroup | None" = None,
        maximize: bool = False,
        nonfinite: str = "raise",
        capturable: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "beta": beta,
            "gamma": gamma,
            "lam": lam,
            "weight_decay": weight_decay,
            "refresh": refresh,
            "normalise": normalise,
            "gamma_on": gamma_on,
            "averaging": averaging,
            "initial": initial,
            "epsilon": epsilon,
            "relative": relative,
            "fallback": fallback,
            "maximize": maximize,
            "nonfinite": nonfinite,
            "capturable": capturable,
        }
        adafisher_checks.check_model(model)
        if scaler is not None and not isinstance(scaler, torch.amp.GradScaler):
            raise TypeError(f"scaler must be a torch.amp.GradScaler or None, got {type(scaler).__name__}")
        self.model, self.scaler, self.process_group = model, scaler, process_group
        self._modules, layers, self._uses = find_uses(model)
        self._measurements = Measurements(layers)
        self._handles: dict[int, RemovableHandle] = {}
        self._known, self._measured, self._due = {}, {}, None
        self._claim()
        trainable = [p for p in model.parameters() if p.requires_grad]
        super().__init__(trainable if params is None else params, defaults)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop all gradients, and what was measured of the layers together with them.

        Parameters
        ----------
        set_to_none : bool
            As in PyTorch: drop the gradients, or fill them with zeros.

        Notes
        -----
        ``model.zero_grad()`` knows nothing of measurements. They then go into the next step, unless the last
        one took them: after a step that was refused, or skipped by a `GradScaler`, use this one.
        """
        super().zero_grad(set_to_none)
        self._forget()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step, wholly or not at all; the measurements since the last step go into it.

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
            As in `CheckedOptimizer.step`; if a measured factor is not finite, which ``nonfinite="skip"``
            skips; or if a parameter with a gradient other than zero has neither a factor nor a `fallback`.
            Parameters, state and measurements are then as before, until `zero_grad` drops the latter.
        """
        loss = super().step(closure)
        self._forget()
        return loss

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters of the same model and hook their layers.

        Parameters
        ----------
        param_group : dict
            ``{"params": ..., option: value, ...}``. Not modified.

        Raises
        ------
        TypeError, ValueError
            As in the constructor. Nothing is added.
        """
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            self._check_membership(group)
        except ValueError:
            self.param_groups.pop()
            raise
        for index in sorted({use.site for p in group["params"] for use in self._uses.get(p, ())}):
            if index not in self._handles:
                self._handles[index] = attach(self._modules[index], self._measurements, index)
        self._due = None

    def remove_hooks(self) -> None:
        """Take all hooks off the model, as happens when the optimizer is deleted.

        Steps go on with the factors there are. A parameter whose layer was never measured has none.
        """
        detach(self._handles)
        self._forget()

    def due_layers(self) -> frozenset[int]:
        """Return the indices of the layers that the next step wants measured; the hooks ask for it."""
        if self._due is None:
            due = (
                use.site
                for group in self.param_groups
                for p in group["params"]
                if self._is_due(p, group)
                for use in self._uses.get(p, ())
            )
            self._due = frozenset(due)
        return self._due

    def unscaled(self, squares: Squares) -> Squares:
        """Return squared gradients without the scale that `scaler` put on the loss; the hooks call it."""
        if self.scaler is None:
            return squares
        one = torch.ones((), dtype=squares.total.dtype, device=squares.total.device)
        return squares._replace(total=squares.total / self.scaler.scale(one) ** 2)

    def __getstate__(self) -> dict[str, Any]:
        """What a copy or a pickle holds; the model goes with it."""
        names = ("model", "scaler", "process_group", "_modules", "_uses", "_measurements", "_handles")
        return {**super().__getstate__(), **{name: getattr(self, name) for name in names}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Claim the hooks of a copied model; PyTorch also calls this when it loads a state."""
        super().__setstate__(state)
        self._known, self._measured, self._due = {}, {}, None
        if "_measurements" in state:
            self._claim()

    def _check_options(self, options: Mapping[str, Any]) -> None:
        adafisher_checks.check_options(options)

    def _check_parameter(self, where: str, parameter: Tensor) -> None:
        """Any real dense tensor will do; `_check_membership` looks at a group as a whole."""

    def _check_membership(self, group: Mapping[str, Any]) -> None:
        """Raise ValueError for what is not of the model, or known to have no factor and no fallback."""
        names = {p: name for name, p in self.model.named_parameters()}
        strangers = [position for position, p in enumerate(group["params"]) if p not in names]
        if strangers:
            raise ValueError(f"params must belong to model, got other tensors at positions {strangers}")
        bare = [names[p] for p in group["params"] if p.requires_grad and p not in self._uses]
        if bare and group["fallback"] is None:
            raise ValueError(
                f"fallback must be given for parameters of layers without a factor, got None for "
                f"{', '.join(bare)}: they then step by lr / fallback times their momentum; or leave them out "
                "of params and give them to another optimizer"
            )

    def _state_layout(self, parameter: Tensor) -> Mapping[str, tuple[int, ...] | None]:
        uses = self._uses.get(parameter, ())
        return {"M": tuple(parameter.shape), "step": (), **factor_averages.layout(uses)}

    def _inputs(self, gradients: Sequence[Gradient]) -> list[tuple[str, Tensor]]:
        """Add the measured factors, and refuse a gradient for which there is none."""
        self._collect(gradients)
        layers, inputs = self._measurements.layers, super()._inputs(gradients)
        for index, (h_D, s_D) in self._measured.items():
            inputs.append((f"the mean squared input of layer {layers[index].name!r}", h_D))
            inputs.append((f"the mean squared output gradient of layer {layers[index].name!r}", s_D))
        return inputs

    @uncompiled
    def _collect(self, gradients: Sequence[Gradient]) -> None:
        """Find the factors that go into this step; bookkeeping of the host, no part of a compiled graph."""
        layers, due = self._measurements.layers, sorted(self.due_layers())
        home = sharding.local(gradients[0].parameter).device
        pending = pooled(self._measurements, due, self.process_group, home)
        self._measured = {index: layers[index].means(h, s) for index, (h, s) in pending.items()}
        self._refuse_unmeasured(gradients)

    def _advance(self, gradients: Sequence[Gradient], accept: Tensor | None) -> None:
        measured, self._measured = self._measured, {}
        states = [self._state(gradient) for gradient in gradients]
        slots = self._slots(gradients, states)
        fresh = [
            slot
            for slot in slots
            if slot.use.site in measured and self._is_due(slot.gradient.parameter, slot.gradient.group)
        ]
        factor_averages.refresh(fresh, measured, accept)
        for slot in fresh:
            self._known_uses(slot.gradient.parameter)[slot.use.site] = True
        writing.add_one([state["step"] for state in states], accept)
        usable: dict[Tensor, list[Slot]] = {}
        for slot in slots:
            if self._known_uses(slot.gradient.parameter)[slot.use.site]:
                usable.setdefault(slot.gradient.parameter, []).append(slot)
        for batch in preconditioned.batches(self._decayed(gradients), states):
            writing.average(batch.M, batch.g, batch.group["beta"], accept, careful=not self._moderate)
            for part in preconditioned.parts(batch.M):
                preconditioned.descend(batch, part, usable, accept)

    def _new_state(self, gradient: Gradient) -> dict[str, Any]:
        W, uses = gradient.parameter, self._uses.get(gradient.parameter, ())
        M = torch.zeros_like(W, dtype=_checks.working(W.dtype))
        self._known[W] = {use.site: False for use in uses}
        averages = factor_averages.fresh_state(uses, gradient.group, M)
        return {"step": writing.new_count(gradient), "M": M, **averages}

    def _slots(self, gradients: Sequence[Gradient], states: Sequence[Mapping[str, Any]]) -> list[Slot]:
        """Every use of every parameter that steps."""
        slots = []
        for gradient, state in zip(gradients, states, strict=True):
            known = self._known_uses(gradient.parameter)
            for position, use in enumerate(self._uses.get(gradient.parameter, ())):
                h_D, s_D, refreshes = (state[name] for name in factor_averages.names(position))
                slots.append(Slot(gradient, use, h_D, s_D, refreshes, known[use.site]))
        return slots

    def _known_uses(self, parameter: Tensor) -> dict[int, bool]:
        """By layer, whether a parameter's averages hold a measurement; the host waits after loading only."""
        if parameter not in self._known:
            state = self.state.get(parameter)
            self._known[parameter] = {
                use.site: bool(state and state[factor_averages.names(position)[2]] > 0)
                for position, use in enumerate(self._uses.get(parameter, ()))
            }
        return self._known[parameter]

    def _is_due(self, parameter: Tensor, group: Mapping[str, Any]) -> bool:
        """Whether the next step of a parameter takes a measurement: steps 1, 1 + K, ..., or it has none."""
        if group["refresh"] == 1 or not self.state.get(parameter):
            return True
        taken = float(self.state[parameter]["step"])
        return taken % group["refresh"] == 0 or not all(self._known_uses(parameter).values())

    def _refuse_unmeasured(self, gradients: Sequence[Gradient]) -> None:
        """Raise ValueError for a parameter that has to move and has no denominator."""
        bare = [
            gradient
            for gradient in gradients
            if gradient.group["fallback"] is None
            and not any(
                known or site in self._measured
                for site, known in self._known_uses(gradient.parameter).items()
            )
        ]
        if bare:
            momenta = [self.state.get(gradient.parameter, {}).get("M") for gradient in bare]
            still = torch.stack([adafisher_checks.stays(*pair) for pair in zip(bare, momenta, strict=True)])
            for gradient, stays in zip(bare, self._agreed(still).tolist(), strict=True):
                if not stays:
                    layers = [use.layer.name for use in self._uses.get(gradient.parameter, ())]
                    raise ValueError(adafisher_checks.unmeasured(gradient.where, layers))

    def _couples_decay(self, group: Mapping[str, Any]) -> bool:
        """Whether weight decay is part of the gradient."""
        return bool(group["averaging"] == "released")

    def _decayed(self, gradients: Sequence[Gradient]) -> list[Gradient]:
        """The gradients, with the decay in them where it belongs there and not to the parameter."""
        without: dict[int, Mapping[str, Any]] = {}
        found = []
        for gradient in gradients:
            group, decay = gradient.group, gradient.group["weight_decay"]
            if decay and self._couples_decay(group):
                dtype = _checks.working(gradient.value.dtype)
                value = gradient.value.to(dtype) + decay * gradient.parameter.to(dtype)
                group = without.setdefault(id(group), {**group, "weight_decay": 0.0})
                gradient = gradient._replace(value=value, group=group)
            found.append(gradient)
        return found

    def _claim(self) -> None:
        """Make the hooks of the model work for this optimizer, for as long as it lives."""
        self._pending = self._measurements.pending
        self._measurements.belong_to(self)
        weakref.finalize(self, detach, self._handles).atexit = False

    @uncompiled
    def _forget(self) -> None:
        """Drop the measurements."""
        self._pending.clear()
        self._measured, self._due = {}, None


class AdaFisherW(AdaFisher):
    """`AdaFisher` with decoupled weight decay, in the paper's setting and in the released one.

    Parameters
    ----------
    weight_decay : float
        At least 0: ``W <- (1 - lr weight_decay) W`` before the step.

    Raises
    ------
    TypeError, ValueError
        As for `AdaFisher`.

    Notes
    -----
    All other parameters are those of `AdaFisher`. With ``averaging="paper"`` the two differ in the default of
    weight_decay only.
    Source: Martins Gomes et al., AdaFisher (arXiv 2405.16397 v3), Algorithm 1 with ``w_d > 0``.
    """

    def __init__(
        self, model: nn.Module, lr: float | Tensor = 1e-3, *, weight_decay: float = 1e-2, **options: Any
    ) -> None:
        super().__init__(model, lr, weight_decay=weight_decay, **options)

    def _couples_decay(self, group: Mapping[str, Any]) -> bool:
        return False
