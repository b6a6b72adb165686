"""A task that trains in milliseconds: three clouds of points, a perceptron with two matrices and a head."""

from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import nn

from benchmarks.train import metrics
from benchmarks.train.methods import METHODS, Method
from benchmarks.train.optimizers import Built
from benchmarks.train.search import Plan
from benchmarks.train.task import Task
from tests.peers.extra import peer

FEATURES, CLASSES, POINTS = 6, 3, 48


def _points(seed: int):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(POINTS) % CLASSES
    centres = 2.0 * torch.eye(CLASSES, FEATURES)
    return centres[labels] + torch.randn(POINTS, FEATURES, generator=generator), labels


def _batches(generator):
    x, y = _points(0)
    while True:
        rows = torch.randint(POINTS, (16,), generator=generator)
        yield x[rows], y[rows]


def _model():
    return nn.Sequential(nn.Linear(FEATURES, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, CLASSES))


TINY = Task(
    name="tiny",
    kind="classification",
    model=_model,
    batches=_batches,
    loss=metrics.loss,
    evaluate=lambda model: metrics.classification(model, [_points(1)]),
    test=lambda model: metrics.classification(model, [_points(2)]),
    steps=40,
    headline="accuracy",
    better="higher",
    description="three clouds of points",
    facts={"test": POINTS},
)


@dataclass(frozen=True)
class TinySource:
    """Stands for a task by name."""

    def load(self):
        return TINY


def plan(*methods: Method, trials=3, seeds=2, budget=24) -> Plan:
    return Plan("tiny", methods, trials, seeds, budget)


@cache
def method(name: str, **changes) -> Method:
    """A method by name, or a skip where its package is missing."""
    found = METHODS[name]
    if found.package != "torch" and "pytorch" in found.package:
        peer(found.package)
    return replace(found, **changes)


def disguised(optimizer, **changes) -> Method:
    """AdamW's entry with another optimizer in it, made of the model's parameters."""
    return replace(METHODS["adamw"], build=lambda model, _: Built(optimizer(model.parameters())), **changes)
