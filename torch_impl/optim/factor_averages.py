"""From measured factors to steps: averages, their min-max normalisation, the denominators.

A `Slot` is one use of a parameter in a step. Factors of equal length and equal options are stacked and
treated as one batch: there are four short vectors to a layer, each good for several small operations.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from torch_impl.adafisher_denominator import minmax_normalize, released_average
from torch_impl.optim import sharding, writing
from torch_impl.optim.layer_factors import Use
from torch_impl.optim.writing import Gradient

__all__ = ["Slot", "fresh_state", "layout", "names", "quotients", "refresh"]


class Slot(NamedTuple):
    """A use of a parameter, its averages in the state, and whether they hold a measurement already."""

    gradient: Gradient
    use: Use
    h_D: Tensor
    s_D: Tensor
    refreshes: Tensor
    known: bool


def names(position: int) -> tuple[str, str, str]:
    """Keys of the averages in a parameter's state; of those after the first use, with a number."""
    suffix = f"_{position}" if position else ""
    return f"h_D{suffix}", f"s_D{suffix}", f"refreshes{suffix}"


def layout(uses: Sequence[Use]) -> dict[str, tuple[int, ...]]:
    """Shapes of the averages in a parameter's state."""
    shapes: dict[str, tuple[int, ...]] = {}
    for position, use in enumerate(uses):
        shapes.update(zip(names(position), ((use.h_size,), (use.s_size,), ()), strict=True))
    return shapes


def fresh_state(uses: Sequence[Use], group: Mapping[str, Any], M: Tensor) -> dict[str, Tensor]:
    """Averages before the first measurement; plain tensors beside M, on the device of its shard."""
    ones = group["initial"] == "ones" or group["averaging"] == "released"
    like = sharding.local(M)
    return {key: like.new_full(shape, 1.0 if ones and shape else 0.0) for key, shape in layout(uses).items()}


def refresh(
    slots: Sequence[Slot], measured: Mapping[int, tuple[Tensor, Tensor]], accept: Tensor | None
) -> None:
    """Take the measurements of the layers into the averages, in place."""
    old, fresh, owners = [], [], []
    for slot in slots:
        for mean, new in zip((slot.h_D, slot.s_D), slot.use.fresh(*measured[slot.use.site]), strict=True):
            old.append(mean)
            fresh.append(new.to(mean))
            owners.append(slot)
    for members in _alike(old, [(id(slot.gradient.group), slot.known) for slot in owners]):
        group, known = owners[members[0]].gradient.group, owners[members[0]].known
        means, news = [old[i] for i in members], [fresh[i] for i in members]
        found = _averaged(means, news, group, known)
        if accept is not None and known:  # the measurement that the host knows of may have been refused
            alone = _averaged(means, news, group, known=False)
            counts = [owners[i].refreshes for i in members]
            found = [torch.where(n > 0, x, y) for n, x, y in zip(counts, found, alone, strict=True)]
        writing.overwrite(means, found, accept)
    if slots:
        writing.add_one([slot.refreshes for slot in slots], accept)


def quotients(gradients: Sequence[Gradient], M: Sequence[Tensor], slots: Sequence[Slot]) -> list[Tensor]:
    """``M / F`` for every parameter of a group, as local shards like M.

    F is ``lam`` plus the mean over the slots of a parameter of the products of its normalised factors: in
    [lam, 1 + lam] for one layer and for several. Without a slot it is the fallback; where there is none
    either, the momentum is zero, and so is the quotient.
    """
    group = gradients[0].group
    products: dict[int, list[Tensor]] = {}
    for slot, product in zip(slots, _products(slots), strict=True):
        products.setdefault(id(slot.gradient.parameter), []).append(product)
    own = [products.get(id(gradient.parameter)) for gradient in gradients]
    covered = [index for index, found in enumerate(own) if found]
    result = [m if found else m / (group["fallback"] or 1.0) for m, found in zip(M, own, strict=True)]
    if covered:
        F = [_mean(found) for found in own if found]
        torch._foreach_add_(F, group["lam"])
        torch._foreach_reciprocal_(F)  # in its own memory, at the price of one more rounding
        torch._foreach_mul_(F, [M[index] for index in covered])
        for index, x in zip(covered, F, strict=True):
            result[index] = x
    return result


def _averaged(
    old: Sequence[Tensor], fresh: Sequence[Tensor], group: Mapping[str, Any], known: bool
) -> Sequence[Tensor]:
    """The averages with one more measurement in them, out of place."""
    if group["averaging"] == "released":
        return [released_average(x, y, gamma=group["gamma"]) for x, y in zip(old, fresh, strict=True)]
    if group["normalise"] == "before":
        fresh = _normalised(fresh, [group] * len(fresh))
    if group["initial"] == "first" and not known:
        return fresh
    weight = group["gamma"] if group["gamma_on"] == "old" else 1.0 - group["gamma"]
    means = torch._foreach_mul(list(old), weight)  # `average`, for all factors at once
    torch._foreach_add_(means, list(fresh), alpha=1.0 - weight)
    return means


def _products(slots: Sequence[Slot]) -> list[Tensor]:
    """Of each slot, the product of its two normalised factors, laid out as its parameter."""
    factors = [slot.h_D for slot in slots] + [slot.s_D for slot in slots]
    groups = [slot.gradient.group for slot in slots] * 2
    later = [i for i, g in enumerate(groups) if g["averaging"] == "paper" and g["normalise"] == "after"]
    rows = _normalised([factors[i] for i in later], [groups[i] for i in later])
    for i, row in zip(later, rows, strict=True):
        factors[i] = row
    left, right = [], []
    for slot, h, s in zip(slots, factors[: len(slots)], factors[len(slots) :], strict=True):
        W = slot.gradient.parameter
        operands = slot.use.operands(h, s, W.shape)
        if sharding.is_sharded(W):  # expanding is free, so that nothing whole is made but the two vectors
            h, s = (sharding.shard_like(x.expand(W.shape), W) for x in operands)
            operands = h, s
        left.append(operands[0])
        right.append(operands[1])
    return list(torch._foreach_mul(left, right)) if slots else []


def _normalised(factors: Sequence[Tensor], groups: Sequence[Mapping[str, Any]]) -> list[Tensor]:
    """Each factor in [0, 1]; those of equal length and options are normalised together."""
    found = list(factors)
    keys = [(id(group), x.numel()) for group, x in zip(groups, factors, strict=True)]
    for members in _alike(factors, keys):
        group = groups[members[0]]
        stacked = torch.stack([factors[i] for i in members])
        rows = minmax_normalize(stacked, epsilon=group["epsilon"], relative=group["relative"])
        for i, row in zip(members, rows.unbind(), strict=True):
            found[i] = row
    return found


def _mean(products: Sequence[Tensor]) -> Tensor:
    """Mean over the layers that share a parameter, in the memory of the first."""
    total = products[0]
    for other in products[1:]:
        total.add_(other)
    return total.div_(len(products)) if len(products) > 1 else total


def _alike(tensors: Sequence[Tensor], keys: Iterable[Hashable]) -> list[list[int]]:
    """Indices of tensors that can be a batch: equal key, device and dtype."""
    batches: dict[Hashable, list[int]] = {}
    for index, (x, key) in enumerate(zip(tensors, keys, strict=True)):
        batches.setdefault((key, x.device, x.dtype), []).append(index)
    return list(batches.values())
