"""One step of AdaFisher for many parameters at once: momentum, denominator, descent."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from torch_impl.optim import sharding, writing
from torch_impl.optim.factor_averages import Slot, quotients
from torch_impl.optim.writing import Gradient

__all__ = ["Batch", "batches", "descend", "parts"]

#: Numbers whose denominators are made at once on a CPU: a megabyte in float32.
CACHED = 2**18


class Batch(NamedTuple):
    """Parameters of one group that are stepped together, with their gradients and momenta as local shards.

    `corrections` holds ``1 - beta^t``: one number for all where the host knows the step counts, otherwise
    one tensor for each.
    """

    group: Mapping[str, Any]
    corrections: list[float | Tensor]
    gradients: list[Gradient]
    g: list[Tensor]
    M: list[Tensor]


def batches(gradients: Sequence[Gradient], states: Sequence[Mapping[str, Tensor]]) -> list[Batch]:
    """Parameters of equal options, dtype, device and, where the host knows it, step count."""
    counts = [state["step"] for state in states]
    known = not torch.compiler.is_compiling() and all(count.device.type == "cpu" for count in counts)
    found: dict[Hashable, Batch] = {}
    for gradient, state, count in zip(gradients, states, counts, strict=True):
        group, W, M = gradient.group, sharding.local(gradient.parameter), sharding.local(state["M"])
        t = float(count) if known else count
        key = (id(group), t if known else None, W.device, W.dtype, M.dtype)
        batch = found.setdefault(key, Batch(group, [], [], [], []))
        if not (known and batch.corrections):
            # A count of 0 is left by a step that the device refuses: nothing of it is written.
            c = 1.0 - group["beta"] ** t
            batch.corrections.append(c if isinstance(c, Tensor) else c or 1.0)
        batch.gradients.append(gradient)
        batch.g.append(sharding.local(gradient.value))
        batch.M.append(M)
    return list(found.values())


def parts(M: Sequence[Tensor]) -> list[slice]:
    """Runs of parameters that are stepped at once: all of them, but on a CPU about as many as a cache holds.

    There the denominators of a whole model would be new memory in every step, which costs more than to
    compute with it.
    """
    if M[0].device.type != "cpu":
        return [slice(0, len(M))]
    runs, start, numbers = [], 0, 0
    for index, x in enumerate(M):
        if numbers and numbers + x.numel() > CACHED:
            runs.append(slice(start, index))
            start, numbers = index, 0
        numbers += x.numel()
    return [*runs, slice(start, len(M))]


def descend(
    batch: Batch, part: slice, usable: Mapping[Tensor, Sequence[Slot]], accept: Tensor | None
) -> None:
    """Step some parameters of a batch: ``W <- (1 - lr weight_decay) W - lr M_hat / F``."""
    gradients, lr = batch.gradients[part], batch.group["lr"]
    lr = lr.reshape(()) if isinstance(lr, Tensor) else float(lr)
    slots = [slot for gradient in gradients for slot in usable.get(gradient.parameter, ())]
    D = quotients(gradients, batch.M[part], slots)
    corrections = batch.corrections if len(batch.corrections) == 1 else batch.corrections[part]
    W = [sharding.local(gradient.parameter) for gradient in gradients]
    writing.descend(batch.group, W, D, [lr / c for c in corrections], accept)
