"""Endless training batches, the same for the same generator."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.train.data.parts import Part

__all__ = ["Batch", "Tokens", "all_windows", "example_batches", "window_batches", "windows"]

Batch = tuple[Tensor, Tensor]

#: Token numbers, in memory or mapped from a file.
Tokens = NDArray[np.integer[Any]]


def example_batches(
    part: Part,
    generator: torch.Generator,
    *,
    batch: int,
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
) -> Iterator[Batch]:
    """Every example once per epoch, in a new order each time; an incomplete last batch is left out.

    Parameters
    ----------
    part : Part
        At least one example.
    generator : torch.Generator
        Of the CPU; decides the order and the augmentation.
    batch : int
        Examples in a batch; all of them where there are fewer.
    augment : callable
        Inputs from raw inputs.

    Yields
    ------
    inputs, labels : Tensor
    """
    size = min(batch, len(part))
    while True:
        for rows in torch.randperm(len(part), generator=generator).split(size):
            if len(rows) == size:
                chosen = part.take(rows)
                inputs = chosen.inputs if augment is None else augment(chosen.inputs, generator)
                yield inputs, chosen.labels


def windows(tokens: Tokens, starts: NDArray[np.int64], *, context: int, vocabulary: int) -> Batch:
    """Windows of a stream of tokens and, for each token in them, the token that follows.

    Parameters
    ----------
    tokens : (L,) integers
    starts : (B,) int64
        First tokens of the windows, at most ``L - context - 1``.
    context : int
        Tokens in a window.
    vocabulary : int
        Every token must be below.

    Returns
    -------
    inputs, targets : (B, context) int64 Tensor

    Raises
    ------
    ValueError
        If a token is out of the vocabulary: the file was made for another one.
    """
    ids = tokens[starts[:, None] + np.arange(context + 1)].astype(np.int64)
    if ids.size and ids.max() >= vocabulary:
        raise ValueError(f"tokens must be below the vocabulary of {vocabulary}, got {ids.max()}")
    both = torch.from_numpy(ids)
    return both[:, :-1].contiguous(), both[:, 1:].contiguous()


def window_batches(
    tokens: Tokens, generator: torch.Generator, *, batch: int, context: int, vocabulary: int
) -> Iterator[Batch]:
    """Windows at random places, drawn with replacement; arguments as of `windows`.

    Yields
    ------
    inputs, targets : (batch, context) int64 Tensor
    """
    while True:
        starts = torch.randint(len(tokens) - context, (batch,), generator=generator)
        yield windows(tokens, starts.numpy(), context=context, vocabulary=vocabulary)


def all_windows(tokens: Tokens, *, count: int, batch: int, context: int, vocabulary: int) -> Iterator[Batch]:
    """Windows side by side from the beginning, each token but the first predicted once.

    Parameters
    ----------
    tokens, context, vocabulary
        As of `windows`.
    count : int
        Windows at most; there are as many whole ones as the stream has.
    batch : int
        Windows at a time; the last time there may be fewer.

    Yields
    ------
    inputs, targets : (B, context) int64 Tensor
    """
    starts = np.arange(min(count, (len(tokens) - 1) // context), dtype=np.int64) * context
    for first in range(0, len(starts), batch):
        yield windows(tokens, starts[first : first + batch], context=context, vocabulary=vocabulary)
