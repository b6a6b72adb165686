"""Steps of a distributed run beside those of one process that sees the joined batch.

Before each step the single-process copy is given the parameters and the state of the distributed run, so that
the two differ by one step, for which there is a budget, and not by a trajectory, for which there is none.
"""

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from proofs_checks.ratios import Ratio, unit_roundoff
from tests.torch_impl.distributed import budgets
from tests.torch_impl.distributed.chain import ROWS, Chain, Perturbation, batch, loss_of, perturbation
from torch_impl import FISMO, SOFIM
from torch_impl.optim.adafisher import AdaFisher
from torch_impl.optim.composite import Composite

__all__ = [
    "KINDS",
    "Run",
    "failures",
    "my_rows",
    "new_optimizer",
    "one_backward",
    "replicas_equal",
    "steps_apart",
    "train",
    "whole",
]

KINDS = ("FISMO", "SOFIM", "AdaFisher")

#: A budget has to be this small a part of the step, or it would not see a step with half of the digits wrong.
RESOLUTION = unit_roundoff("float64") ** 0.5

LEARNING_RATES = {"FISMO": 0.05, "SOFIM": 0.05, "AdaFisher": 0.002, "Composite": 0.05}


def _backward(called: nn.Module, x: Tensor, t: Tensor) -> None:
    loss_of(called, x, t).backward()


class Run(NamedTuple):
    """A model, what is called in its place, and the rows of the joined batch that this process sees.

    `shares` processes see different rows, each with the mean over its own for a loss. `backward` makes the
    gradients from these rows, `after_backward` shares those that torch does not, and `clip` clips.
    """

    model: nn.Module
    called: nn.Module
    rows: slice
    shares: int
    after_backward: Callable[[], None] = lambda: None
    backward: Callable[[nn.Module, Tensor, Tensor], None] = _backward
    clip: Callable[[Sequence[Tensor]], object] = lambda _: None

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.model.parameters()).device


def my_rows(rank: int, shares: int) -> slice:
    """An equal share of the rows."""
    size = ROWS // shares
    return slice(rank * size, (rank + 1) * size)


def new_optimizer(kind: str, model: nn.Module, **options: Any) -> torch.optim.Optimizer:
    """FISMO takes the matrices, the others everything; Composite is FISMO beside AdamW."""
    options = {"lr": LEARNING_RATES[kind], **options}
    if kind == "AdaFisher":
        return AdaFisher(model, **options)
    if kind == "SOFIM":
        return SOFIM(model.parameters(), **options)
    matrices = [p for p in model.parameters() if p.ndim == 2]
    if kind == "FISMO":
        return FISMO(matrices, **options)
    others = [p for p in model.parameters() if p.ndim != 2]
    return Composite([FISMO(matrices, **options), torch.optim.AdamW(others, lr=1e-2)])


@torch.no_grad()
def whole(x: Any) -> Any:
    """A plain copy of a tensor and of whatever holds tensors, the same on every process."""
    if isinstance(x, Tensor):
        x = x.detach()
        return (x.full_tensor() if isinstance(x, DTensor) else x).clone()
    if isinstance(x, Mapping):
        return {key: whole(value) for key, value in x.items()}
    if isinstance(x, (list, tuple)):
        return type(x)(whole(value) for value in x)
    return copy.deepcopy(x)


def steps_apart(
    kind: str, run: Run, steps: range, optimizer: torch.optim.Optimizer | None = None
) -> list[Ratio]:
    """Ratios of every gradient and of every parameter after every step."""
    optimizer = optimizer or new_optimizer(kind, run.model)
    return [ratio for step in steps for ratio in _one_step(kind, run, optimizer, step)]


def one_backward(run: Run, step: int) -> None:
    """The gradients of one step, from the rows of this process."""
    x, t = batch(step, run.device)
    run.model.zero_grad()
    run.backward(run.called, x[run.rows], t[run.rows])
    run.after_backward()
    run.clip(list(run.model.parameters()))


def train(run: Run, optimizer: torch.optim.Optimizer, steps: range) -> None:
    """Nothing but steps."""
    for step in steps:
        one_backward(run, step)
        optimizer.step()


def _one_step(kind: str, run: Run, optimizer: torch.optim.Optimizer, step: int) -> list[Ratio]:
    names, params = zip(*run.model.named_parameters(), strict=True)
    alone = Alone.beside(kind, params, optimizer)
    x, t = batch(step, run.device)
    alone.step(x, t, run)
    one_backward(run, step)
    gradients = [whole(p.grad) for p in params]
    optimizer.step()
    found = perturbation(dict(zip(names, alone.before, strict=True)), x, t)
    ratios, moved = [], {}
    for name, p, g, q in zip(names, params, gradients, alone.params, strict=True):
        state, single = whole(optimizer.state.get(p, {})), alone.optimizer.state.get(q, {})
        moved[name] = Moved.between(g, q.grad, state, single)
        ratios += moved[name].ratios(f"{name}, step {step}", found, name, run.shares)
    for name, budget in alone.budgets(kind, names, moved).items():
        index = names.index(name)
        W, q = alone.before[index], alone.params[index]
        length = _far(q, W)
        budget += budgets.stored(W, length)
        ratios.append(Ratio(f"{kind} of {name}, step {step}", _far(whole(params[index]), q), budget))
        ratios.append(Ratio(f"resolution of {name}, step {step}", budget, RESOLUTION * length))
    return ratios


class Moved(NamedTuple):
    """How far what goes into the step of a parameter lies from what one process has."""

    gradient: float
    factors: tuple[float, ...]

    @classmethod
    def between(cls, G: Tensor, single_G: Tensor, state: Mapping, single: Mapping) -> "Moved":
        """From gradients, and from the averaged factors of AdaFisher."""
        pairs = [(state[key], single[key]) for key in ("h_D", "s_D") if key in single]
        return cls(_far(G, single_G), tuple(float((a - b).abs().max()) for a, b in pairs))

    def ratios(self, what: str, found: Perturbation, name: str, shares: int) -> list[Ratio]:
        """Each over what a different order of summation explains."""
        ratios = [Ratio(f"gradient of {what}", self.gradient, float(found.gradients[name].norm()))]
        layer = name.split(".")[0]
        # Each process has its own mean loss, which is a larger share of it than of the mean over all.
        allowed = found.h_D[layer].max(), found.s_D[layer].max() * shares**2
        for far, most in zip(self.factors, allowed if self.factors else (), strict=True):
            ratios.append(Ratio(f"factor of {what}", far, float(most)))
        return ratios


class Alone(NamedTuple):
    """The run in one process: its parameters and their state before the step, and then as they are."""

    model: Chain
    optimizer: torch.optim.Optimizer
    before: list[Tensor]
    state: list[Any]

    @classmethod
    def beside(cls, kind: str, params: Sequence[Tensor], optimizer: torch.optim.Optimizer) -> "Alone":
        """A plain copy of a distributed run."""
        before = [whole(p) for p in params]
        state = [whole(optimizer.state.get(p, {})) for p in params]
        model = Chain(len(before[0])).to(before[0].device)
        with torch.no_grad():
            for q, W in zip(model.parameters(), before, strict=True):
                q.copy_(W)
        options = {"process_group": _alone()} if kind == "AdaFisher" and dist.is_initialized() else {}
        own = new_optimizer(kind, model, **options)
        for q, values in zip(model.parameters(), state, strict=True):
            if values:
                own.state[q] = whole(values)
        return cls(model, own, before, state)

    @property
    def params(self) -> list[nn.Parameter]:
        """Of the model, as they are."""
        return list(self.model.parameters())

    def step(self, x: Tensor, t: Tensor, run: Run) -> None:
        """One step with the joined batch.

        The loss of each process is the mean over its share, so that what a layer measures is as many times as
        large as in the mean over all; the gradients are averaged after. One process does the same.
        """
        (run.shares * loss_of(self.model, x, t)).backward()
        for q in self.params:
            q.grad /= run.shares
        run.clip(self.params)
        self.optimizer.step()

    def budgets(self, kind: str, names: Sequence[str], moved: Mapping[str, Moved]) -> dict[str, float]:
        """How far off another run's step may be, for each parameter that has one; its store not counted."""
        options, allowed = self.optimizer.param_groups[0], {}
        after = {name: self.optimizer.state.get(q) for name, q in zip(names, self.params, strict=True)}
        if kind == "SOFIM":
            gradients = [moved[name].gradient for name in names]
            return dict.fromkeys(names, budgets.sofim_step(options, gradients, list(after.values())))
        for name, W, old, q in zip(names, self.before, self.state, self.params, strict=True):
            gradient, factors = moved[name]
            if kind == "AdaFisher":
                allowed[name] = budgets.adafisher_step(options, gradient, after[name], factors)
            elif after[name]:
                allowed[name] = budgets.fismo_step(options, W, q.grad, gradient, old, after[name])
        return allowed


@functools.cache
def _alone() -> dist.ProcessGroup:
    """The group of this process and nobody else."""
    return dist.new_subgroups(group_size=1)[0]


def _far(a: Tensor, b: Tensor) -> float:
    return float((a.detach() - b.detach()).norm())


def failures(ratios: Sequence[Ratio]) -> list[str]:
    """Those that did not pass, in words."""
    return [f"{ratio.name}: {ratio.error} over {ratio.budget}" for ratio in ratios if not ratio.passed]


def replicas_equal(tensors: Sequence[Tensor]) -> bool:
    """Whether plain tensors are bitwise equal on all processes."""
    mine = torch.cat([x.detach().double().reshape(-1) for x in tensors])
    everyone = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(everyone, mine)
    return all(torch.equal(mine, other) for other in everyone)
