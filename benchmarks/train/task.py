"""What a task is."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from benchmarks.train.data.batches import Batch

__all__ = ["Size", "Task", "describe_model"]

Size = Literal["small", "full"]


@dataclass(frozen=True)
class Task:
    """A model to train, its data, and how the result is judged.

    Attributes
    ----------
    name : str
    kind : "classification" or "language"
    model : callable
        A new model, with weights from torch's global generator, in training mode on the CPU.
    batches : callable
        Endless training batches on the CPU, decided by the CPU generator it is given and nothing else.
    loss : callable
        Differentiable mean loss of a model on a batch, which is moved to the model's device.
    evaluate, test : callable
        Figures of a model on the validation and the test part, without gradients and in evaluation mode; the
        model is left in the mode it was in.
    steps : int
        Training steps of one run.
    headline : str
        The figure that decides, a key of what `evaluate` returns.
    better : "higher" or "lower"
        Which way it is better.
    description : str
        Sizes, split, where the data come from.
    facts : mapping
        The same for machines: ``source``, ``sha256`` of the data where they are read completely, the sizes of
        the parts ``train``, ``validation``, ``test``, then ``batch``, ``model`` and its ``parameters``.
    """

    name: str
    kind: Literal["classification", "language"]
    model: Callable[[], nn.Module]
    batches: Callable[[torch.Generator], Iterator[Batch]]
    loss: Callable[[nn.Module, Batch], Tensor]
    evaluate: Callable[[nn.Module], dict[str, float]]
    test: Callable[[nn.Module], dict[str, float]]
    steps: int
    headline: str
    better: Literal["higher", "lower"]
    description: str
    facts: Mapping[str, str | int] = field(default_factory=dict)


def describe_model(model: Callable[[], nn.Module]) -> dict[str, str | int]:
    """Facts ``model``, its class, and ``parameters``, their number; takes no memory and no random number."""
    with torch.device("meta"):
        shape = model()
    return {"model": type(shape).__name__, "parameters": sum(p.numel() for p in shape.parameters())}
