"""What is asked of an optimizer that takes a model, before its mathematics is looked at.

No parameter with a gradient is silently left where it is; a frozen one is not touched; measuring leaves the
model's outputs and gradients as they are.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import torch

from proofs_checks.conformance import adafisher_cases as cases
from proofs_checks.conformance.bench import Bench
from proofs_checks.conformance.case import Case, Check, Verdict, fact
from proofs_checks.conformance.errors import TargetRaised
from proofs_checks.conformance.layer_case import layered
from proofs_checks.conformance.layer_session import ModelSession
from proofs_checks.conformance.layers import Linear
from proofs_checks.conformance.records import Level

__all__ = ["model_checks"]


class _Odd(torch.nn.Module):
    """A layer for which nobody gives factors: its weight is squared before it is used."""

    def __init__(self, dtype: torch.dtype, device: str) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2, 3, dtype=dtype, device=device))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``x (W * W)^T``."""
        return x @ (self.weight * self.weight).T


def _linear(bench: Bench, rng: np.random.Generator) -> Iterable[Case]:
    """One batch of a linear layer with a bias."""
    yield next(iter(cases.biased(bench, rng)))


def _every_kind(bench: Bench, rng: np.random.Generator) -> Iterable[Case]:
    """One batch of a layer of every kind."""
    yield from _linear(bench, rng)
    for kind in cases.LAYERS:
        yield next(cases.layers_of(kind, bench, rng))


#: How a layer is refused; anything else that is raised is a crash.
_REFUSALS = (NotImplementedError, ValueError)


def _moves(bench: Bench, case: Case) -> Verdict:
    """After a step every parameter of the layer whose gradient was not zero has moved, or it was refused."""
    trained = layered(case)
    try:
        session = bench.start_layer(trained)
        session.follow(trained, 0)
    except TargetRaised as error:
        refused = isinstance(error.__cause__, _REFUSALS)
        return fact("every parameter", refused, f"{'refused' if refused else 'broke off'} with {error}")
    (W,) = session.read()
    still = (trained.layer.rest() == W) & (trained.gradients[0] != 0)
    note = f"{np.count_nonzero(still)} entries of {trained.layer.source()} have a gradient and stood still"
    return fact("every parameter", not still.any(), note if still.any() else "every parameter moved")


def _unknown(bench: Bench, case: Case) -> Verdict:
    """A layer without factors is refused, or stepped by a documented fallback: it does not stand still."""
    dtype, device = getattr(torch, bench.setting.dtype), bench.setting.device
    odd = _Odd(dtype, device)
    try:
        optimizer = bench.target.make(odd, **bench.target.keywords(case.hp, bench.setting.variant))
        for _ in range(2):
            optimizer.zero_grad()
            odd(torch.ones(4, 3, dtype=dtype, device=device)).sum().backward()
            optimizer.step()
    except _REFUSALS as error:
        return fact("unknown layer", True, f"refused with {type(error).__name__}")
    moved = bool((odd.weight != 1).all())
    return fact("unknown layer", moved, "it moved" if moved else "its weight has a gradient and did not move")


def _frozen(bench: Bench, case: Case) -> Verdict:
    """A weight that needs no gradient keeps its value; the layer's bias moves."""
    trained = layered(case)
    assert isinstance(trained.layer, Linear)
    trained = replace(trained, layer=replace(trained.layer, frozen=True))
    session = bench.start_layer(trained)
    session.follow(trained, 0)
    (W,) = session.read()
    if W[:, :-1].any():
        return fact("frozen", False, "a frozen weight was moved")
    moved = bool(W[:, -1].all())
    return fact("frozen", moved, "frozen weight kept" if moved else "the bias of a frozen weight stood still")


def _transparent(bench: Bench, case: Case) -> Verdict:
    """The gradients of a measured model are those of the model alone, to the last bit."""
    trained = layered(case)
    session = bench.start_layer(trained)
    assert isinstance(session, ModelSession)  # the check says optimizer_only
    session.train([trained.steps[0]])
    want = trained.gradients_in(bench.setting.dtype, bench.setting.device)[0]
    same = np.array_equal(trained.layer.gradient(session.modules[0]), want)
    return fact("transparent", same, "gradients as without" if same else "measuring changed the gradients")


_ROWS: tuple[tuple[str, str, Callable[..., Iterable[Case]], Callable[[Bench, Case], Verdict]], ...] = (
    (
        "every-parameter",
        "every parameter with a gradient moves, or its layer is refused",
        _every_kind,
        _moves,
    ),
    ("unknown-layer", "a parameter without factors is refused or moves", _linear, _unknown),
    ("frozen", "a frozen parameter keeps its value, its neighbour moves", _linear, _frozen),
    ("transparent", "measuring leaves the gradients as they are", _linear, _transparent),
)


def model_checks(spec: str) -> tuple[Check, ...]:
    """The level 0 checks of a spec whose targets take a model."""
    return tuple(
        Check(
            f"{spec}.contract.{name}",
            None,
            statement,
            Level.CONTRACT,
            make,
            judge,
            optimizer_only=True,
            script=False,
        )
        for name, statement, make, judge in _ROWS
    )
