"""One training run: a method, a configuration, a seed and a budget of gradient evaluations."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.train.budget import Meter, OverBudgetError, SpentError, lr_factor, set_lr
from benchmarks.train.methods import Method
from benchmarks.train.optimizers import matrices
from benchmarks.train.records import Observer, Record
from benchmarks.train.spaces import Config

__all__ = ["CHECKPOINTS", "FINAL_PART", "DivergedError", "Outcome", "Training", "train"]

#: Moments of a detailed run, evenly spread, at which it is evaluated and its step recorded.
CHECKPOINTS = 12

#: Part of the budget over which training losses are averaged, as they come from one mini-batch each.
FINAL_PART = 0.05


#: A run that ends above so many times its first loss is lost; one that has learnt nothing is merely bad.
LOST = 2.0

#: What a method may raise as a result of the comparison: numbers and factorisations that fail, arguments it
#: refuses. Anything else, such as an import that fails, is a fault of the programme and stops it.
RESULTS = (ArithmeticError, ValueError, RuntimeError, OverBudgetError)


class DivergedError(Exception):
    """The run is worthless: the message says since when and why."""


@dataclass
class Outcome:
    """What became of a run.

    Attributes
    ----------
    status : {"finished", "diverged", "failed"}
        "diverged": a loss or a weight was not finite, or training ended far above the loss it began with;
        "failed": the method raised, or used more gradient evaluations than it may.
    reason : str
        Empty for a finished run.
    passes, steps : int
        Gradient evaluations and steps made.
    validation, test : dict
        Metrics at the end; empty where they were not reached or not asked for.
    losses : list of [gradient evaluations, loss of the mini-batch before the step]
    checkpoints : list of dict
        Of a detailed run: ``passes``, ``validation`` and the figures of `benchmarks.train.records`.
    """

    status: str = "finished"
    reason: str = ""
    passes: int = 0
    steps: int = 0
    validation: dict[str, float] = field(default_factory=dict)
    test: dict[str, float] = field(default_factory=dict)
    losses: list[list[float]] = field(default_factory=list)
    checkpoints: list[dict[str, Any]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)


class Training:
    """A model, its optimizer and its data, stepped one mini-batch at a time.

    Weights and order of the data depend on the seed only, so that methods can be compared in pairs. Seeds
    torch's global generator, which `train` puts back.
    """

    def __init__(
        self, task: Any, method: Method, config: Config, *, seed: int, budget: int, device: str = "cpu"
    ) -> None:
        torch.manual_seed(seed)
        self.task, self.method, self.device = task, method, device
        self.model = task.model().to(device).train()
        self.batches = task.batches(torch.Generator().manual_seed(seed))
        self.built = method.build(self.model, config)
        self.base_lr = [float(group["lr"]) for group in self.built.optimizer.param_groups]
        self.meter = Meter(self.model.parameters(), budget)
        self.first_loss: float | None = None

    @property
    def over(self) -> bool:
        """Whether another step would not fit into the budget."""
        return self.meter.left < (self.method.passes or 1)

    def step(self, observer: Observer | None = None) -> float | None:
        """Take one step; return the loss before it, or None if the budget ended in its middle.

        A step that the budget cuts short is taken back.
        """
        batch = tuple(part.to(self.device) for part in next(self.batches))
        before, self.first_loss = self.meter.passes, None
        set_lr(self.built.optimizer, self.base_lr, lr_factor(before, self.meter.budget))
        if observer is not None:
            observer.before()
        closure = self._closure(batch, observer)
        if self.method.passes is None:
            if not self._closure_step(closure):
                return None
        else:
            closure()
            held = observer if not self.method.curvature else None  # its step differentiates at the weights
            if held is not None:
                held.hold()
            self.built.optimizer.step()
            if held is not None:
                held.release()
        self._check_passes(before)
        return self.first_loss

    def _closure(self, batch: tuple[Tensor, ...], observer: Observer | None) -> Any:
        def closure() -> Tensor:
            if self.meter.left <= 0:
                raise SpentError
            self.built.optimizer.zero_grad()
            self.model.zero_grad()  # Muon's optimizer holds views, whose gradients are not the model's
            # Attention's fused kernels cannot be differentiated twice.
            with sdpa_kernel(SDPBackend.MATH) if self.method.curvature else nullcontext():
                loss = self.task.loss(self.model, batch)
                at_old_weights = self.first_loss is None
                if at_old_weights:
                    self.first_loss = _finite_loss(loss, self.meter.passes)
                self._differentiate(loss)
            if observer is not None and at_old_weights:
                observer.gradient()
            return loss

        return closure

    def _differentiate(self, loss: Tensor) -> None:
        if not self.method.curvature:
            loss.backward()
            return
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        gradients = torch.autograd.grad(loss, trained, create_graph=True, allow_unused=True)
        for parameter, gradient in zip(trained, gradients, strict=True):
            parameter.grad = gradient

    def _closure_step(self, closure: Any) -> bool:
        old = [parameter.detach().clone() for parameter in self.model.parameters()]
        try:
            self.built.optimizer.step(closure)
        except SpentError:
            with torch.no_grad():
                for parameter, value in zip(self.model.parameters(), old, strict=True):
                    parameter.copy_(value)
            return False
        return True

    def _check_passes(self, before: int) -> None:
        used, allowed = self.meter.passes - before, self.method.passes
        if allowed is not None and used != allowed:
            raise OverBudgetError(f"a step made {used} gradient evaluations, {allowed} are declared")
        if self.meter.left < 0:
            raise OverBudgetError(
                f"{self.meter.passes} gradient evaluations were made, the budget is {self.meter.budget}"
            )


def train(
    task: Any,
    method: Method,
    config: Mapping[str, Any],
    *,
    seed: int,
    budget: int,
    device: str = "cpu",
    detail: bool = False,
) -> Outcome:
    """Train once. A run that diverges or fails has an outcome too; nothing is dropped.

    Parameters
    ----------
    task : Task
    method : Method
    config : mapping from hyper-parameter to value
    seed : int
        Of the initial weights, the order of the data and whatever the method draws.
    budget : int
        Gradient evaluations.
    device : str
    detail : bool
        Keep all losses, evaluate and record `CHECKPOINTS` times, and evaluate on the test set at the end.

    Returns
    -------
    outcome : Outcome
    """
    outcome = Outcome()
    with _own_randomness(device):
        try:
            training = Training(task, method, dict(config), seed=seed, budget=budget, device=device)
            _run(training, outcome, detail)
        except DivergedError as error:
            outcome.status, outcome.reason = "diverged", str(error)
        except RESULTS as error:
            outcome.status, outcome.reason = "failed", f"{type(error).__name__}: {error}"
        if not detail:
            outcome.losses = outcome.losses[-1:]
    return outcome


def _run(training: Training, outcome: Outcome, detail: bool) -> None:
    task, model, budget = training.task, training.model, training.meter.budget
    observer = Observer(model, matrices(model), training.built.fismo) if detail else None
    moments = iter(range(0, budget, max(1, budget // CHECKPOINTS))) if detail else iter(())
    due = next(moments, budget)
    while not training.over:
        watch = observer if training.meter.passes >= due else None
        loss = training.step(watch)
        if loss is None:
            break
        outcome.passes, outcome.steps = training.meter.passes, outcome.steps + 1
        outcome.losses.append([outcome.passes, loss])
        if watch is not None:
            outcome.checkpoints.append(_checkpoint(training, watch.after()))
            while due <= outcome.passes:
                due = next(moments, budget + 1)
    _check_end(training, outcome)
    outcome.validation = _metrics(task.evaluate(model))
    if detail:
        outcome.test = _metrics(task.test(model))
    training.meter.close()


def _checkpoint(training: Training, record: Record) -> dict[str, Any]:
    validation = _metrics(training.task.evaluate(training.model))
    training.model.train()
    return {"passes": training.meter.passes, "validation": validation} | record


def _check_end(training: Training, outcome: Outcome) -> None:
    if not all(bool(parameter.isfinite().all()) for parameter in training.model.parameters()):
        raise DivergedError(f"a weight was not finite after {outcome.passes} gradient evaluations")
    last = final_loss(outcome.losses, training.meter.budget)
    if last is not None and last > LOST * outcome.losses[0][1]:
        raise DivergedError(
            f"training ended at a loss of {last:.4g}, more than {LOST:g} times the "
            f"{outcome.losses[0][1]:.4g} it began with"
        )


def final_loss(losses: list[list[float]], budget: int) -> float | None:
    """Mean training loss over the last `FINAL_PART` of the budget, or None for a run without steps."""
    tail = [loss for passes, loss in losses if passes > losses[-1][0] - max(1.0, FINAL_PART * budget)]
    return sum(tail) / len(tail) if tail else None


def _metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    values = {name: float(value) for name, value in metrics.items()}
    for name, value in values.items():
        if not math.isfinite(value):
            raise DivergedError(f"{name} was {value} in the evaluation")
    return values


def _finite_loss(loss: Tensor, passes: int) -> float:
    value = float(loss.detach())
    if not math.isfinite(value):
        raise DivergedError(f"the training loss was {value} after {passes} gradient evaluations")
    return value


@contextmanager
def _own_randomness(device: str) -> Iterator[None]:
    """Seeding inside leaves torch's global generators outside as they were."""
    devices = [torch.device(device)] if torch.device(device).type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield
