"""The loss of a batch, and the figures of a trained model; the model is left as it was found."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.train.data.batches import Batch

__all__ = ["classification", "evaluating", "language", "loss"]


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean cross-entropy of a batch in nats, in float32 or wider.

    Parameters
    ----------
    model : nn.Module
        Its logits have the classes last.
    batch : inputs, targets
        Moved to the device of the model; targets have the shape of the logits without the classes.

    Returns
    -------
    loss : 0-d Tensor
    """
    return functional.cross_entropy(*_logits(model, batch))


def _logits(model: nn.Module, batch: Batch) -> Batch:
    """Logits (N, classes) and targets (N,); inputs that are not token numbers come in the model's dtype."""
    parameter = next(model.parameters())
    inputs, targets = (tensor.to(parameter.device, non_blocking=True) for tensor in batch)
    logits = model(inputs.to(parameter.dtype) if inputs.is_floating_point() else inputs)
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return wide.flatten(0, -2), targets.flatten()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards each module is in the mode it had."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def classification(model: nn.Module, batches: Iterable[Batch]) -> dict[str, float]:
    """``loss``: mean cross-entropy in nats; ``accuracy``: share of examples whose largest logit is right."""
    nats, correct, count = _totals(model, batches)
    return {"loss": nats / count, "accuracy": correct / count}


def language(model: nn.Module, batches: Iterable[Batch], *, size: int | None = None) -> dict[str, float]:
    """``loss``: mean cross-entropy in nats a token, and one figure that is easier to read.

    Parameters
    ----------
    model : nn.Module
    batches : iterable
        Windows and the tokens that follow.
    size : int
        Bytes that the predicted tokens stand for, if known.

    Returns
    -------
    figures : dict
        With ``bits_per_byte``, comparable over vocabularies, if `size` is given, else with ``perplexity``,
        the exponential of the loss.
    """
    nats, _, count = _totals(model, batches)
    if size is not None:
        return {"loss": nats / count, "bits_per_byte": nats / math.log(2) / size}
    mean = torch.tensor(nats / count, dtype=torch.float64)
    return {"loss": mean.item(), "perplexity": mean.exp().item()}  # infinite, not an error, on divergence


def _totals(model: nn.Module, batches: Iterable[Batch]) -> tuple[float, int, int]:
    """Summed cross-entropy in nats, right predictions, predictions."""
    nats, correct, count = 0.0, 0, 0
    with evaluating(model):
        for batch in batches:
            logits, targets = _logits(model, batch)
            nats += functional.cross_entropy(logits, targets, reduction="sum").item()
            correct += int((logits.argmax(dim=-1) == targets).sum())
            count += len(targets)
    return nats, correct, count
