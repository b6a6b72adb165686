"""What every classification data set is brought to: three parts, split in an order fixed for ever."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Part", "Splits", "chunks", "digest", "order"]


@dataclass(frozen=True)
class Part:
    """Examples and their labels.

    Attributes
    ----------
    inputs : (N, ...) Tensor
        Features in float32, or raw pixels in uint8.
    labels : (N,) int64 Tensor
        Classes from 0.
    """

    inputs: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Tensor) -> "Part":
        """The examples at `rows`, an index tensor."""
        return Part(self.inputs[rows], self.labels[rows])


@dataclass(frozen=True)
class Splits:
    """Training, validation and test part of one data set, and what a result must say about them."""

    train: Part
    validation: Part
    test: Part
    facts: Mapping[str, str | int]


def order(count: int, *, seed: int) -> Tensor:
    """The numbers below `count` in an order that depends on `seed` and on no library's random generator.

    They are sorted by the SHA-256 of ``"seed:number"``, so the order is the same everywhere and for ever.

    Parameters
    ----------
    count : int
        At least 0.
    seed : int
        Names the order.

    Returns
    -------
    order : (count,) int64 Tensor
        A permutation.
    """
    keys = [hashlib.sha256(f"{seed}:{number}".encode()).digest() for number in range(count)]
    return torch.tensor(sorted(range(count), key=keys.__getitem__), dtype=torch.int64)


def chunks(part: Part, *, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The examples in their order, `size` at a time; the last chunk may be smaller."""
    return zip(part.inputs.split(size), part.labels.split(size), strict=True)


def digest(*tensors: Tensor) -> str:
    """SHA-256 of the bytes of contiguous CPU tensors, one after the other, as 64 hexadecimal digits."""
    total = hashlib.sha256()
    for tensor in tensors:
        total.update(tensor.contiguous().numpy().data)
    return total.hexdigest()
