"""Layers that conformance cases of AdaFisher are made of: the torch module, and its factors by the reference.

Symbols: h inputs of a layer, s gradients at its output, ``h_D`` and ``s_D`` diagonals of the factors. All
parameters of a layer together are one matrix here: weight (outputs, inputs) with the bias, if any, as its
last column; an embedding's table is transposed; a normalisation layer has its scales in the first row and
its shifts in the second.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from types import ModuleType
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["Block", "Convolution", "Embedding", "Layer", "Linear", "Normalization"]

Array = NDArray[np.float64]

#: Epsilon of every normalisation layer. Large: the normalised activations of a batch normalisation have mean
#: square ``var / (var + epsilon)``, which is nearly the same for all channels where epsilon is small.
NORM_EPS = 0.5
#: Roundings of a normalised activation: mean, difference, variance, root, quotient, each a few.
NORM_ROUNDINGS = 8


@dataclass(frozen=True)
class Block:
    """One Kronecker product: the parameters it belongs to and the fresh factors.

    Attributes
    ----------
    h_D, s_D : array
        As `reference.adafisher.step` takes them, with `pairing` and `factor_axes`.
    h_blur : array
        Root mean square of the error of what is squared in h_D, per unit roundoff; 0 but for normalised
        activations, which are computed.
    samples : int
        How many squares each entry is the mean of.
    terms : pair of arrays or None
        These squares, for h and for s, where it is known how an implementation sums them.
    """

    h_D: Array
    s_D: Array
    h_blur: Array
    samples: int
    terms: tuple[Array, Array] | None = None
    pairing: Literal["outer", "channel"] = "outer"
    factor_axes: int = 1


class Layer(ABC):
    """One layer of a model."""

    @abstractmethod
    def arguments(self) -> tuple[str, dict[str, object]]:
        """Name of the class in `torch.nn` and the arguments of its constructor, by name."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """Shape of the matrix of all parameters."""

    @abstractmethod
    def blocks(
        self, factors: ModuleType, passes: Sequence[tuple[Array, Array]], grouping: str
    ) -> list[Block]:
        """Fresh factors of the pooled passes (h, s), by the layer functions of `factors`."""

    def source(self) -> str:
        """The constructor call, as in a script."""
        name, arguments = self.arguments()
        return f"torch.nn.{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"

    def module(self, dtype: torch.dtype, device: str) -> torch.nn.Module:
        """The torch module, its parameters at rest; no random numbers are drawn."""
        name, arguments = self.arguments()
        skip: Any = torch.nn.utils.skip_init
        made: Any = skip(getattr(torch.nn, name), **arguments, dtype=dtype, device=device)
        if hasattr(made, "reset_running_stats"):
            made.reset_running_stats()
        self.write(made, self.rest())
        return made

    def rest(self) -> Array:
        """The parameters before a step whose update is read off."""
        return np.zeros(self.shape)

    def parts(self, W: Array) -> list[Array]:
        """The matrix of all parameters as the module's parameters: weight, then bias."""
        inputs = self.weight_columns
        weight = W[:, :inputs].reshape(self.weight_shape)
        return [weight] if inputs == W.shape[1] else [weight, W[:, -1]]

    def whole(self, parts: Sequence[Array]) -> Array:
        """Inverse of `parts`."""
        outputs = self.shape[0]
        return np.concatenate([part.reshape(outputs, -1) for part in parts], axis=1)

    @property
    def weight_columns(self) -> int:
        """Columns of the matrix that are weights."""
        return self.shape[1]

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the module's weight."""
        return self.shape

    def split(self, W: Array) -> list[Array]:
        """The matrix of all parameters, one array for each block."""
        return [W]

    def joined(self, blocks: Sequence[Array]) -> Array:
        """Inverse of `split`."""
        return blocks[0].reshape(self.shape)

    def input(self, h: Array, dtype: torch.dtype, device: str) -> torch.Tensor:
        """Inputs as the module takes them."""
        return torch.tensor(h, dtype=dtype, device=device)

    def write(self, module: torch.nn.Module, W: Array) -> None:
        """Overwrite the module's parameters in place."""
        with torch.no_grad():
            for p, X in zip(module.parameters(), self.parts(W), strict=True):
                p.copy_(torch.tensor(X))

    def read(self, module: torch.nn.Module) -> Array:
        """The module's parameters, exactly."""
        return self.whole([_exactly(p) for p in module.parameters()])

    def gradient(self, module: torch.nn.Module) -> Array:
        """The gradients of the module's parameters, exactly; zeros where there is none."""
        return self.whole(
            [_exactly(torch.zeros_like(p) if p.grad is None else p.grad) for p in module.parameters()]
        )


def _exactly(X: torch.Tensor) -> Array:
    return X.detach().to("cpu", torch.float64, copy=True).numpy()


@dataclass(frozen=True)
class Linear(Layer):
    """``torch.nn.Linear``: inputs (N, n) or (N, T, n), gradients (N, m) or (N, T, m).

    A `frozen` layer has a weight that needs no gradient.
    """

    inputs: int
    outputs: int
    bias: bool = False
    frozen: bool = False

    def arguments(self) -> tuple[str, dict[str, object]]:
        """See `Layer`."""
        return "Linear", {"in_features": self.inputs, "out_features": self.outputs, "bias": self.bias}

    def module(self, dtype: torch.dtype, device: str) -> torch.nn.Module:
        """See `Layer`."""
        made = super().module(dtype, device)
        made.get_parameter("weight").requires_grad_(not self.frozen)
        return made

    @property
    def shape(self) -> tuple[int, int]:
        """See `Layer`."""
        return self.outputs, self.inputs + self.bias

    @property
    def weight_columns(self) -> int:
        """See `Layer`."""
        return self.inputs

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """See `Layer`."""
        return self.outputs, self.inputs

    def blocks(
        self, factors: ModuleType, passes: Sequence[tuple[Array, Array]], grouping: str
    ) -> list[Block]:
        """See `Layer`: tokens are rows."""
        h = np.concatenate([h.reshape(-1, self.inputs) for h, _ in passes])
        s = np.concatenate([s.reshape(-1, self.outputs) for _, s in passes])
        h_D, s_D = factors.linear_factors(h, s, bias=self.bias)
        squares = np.square(h)
        terms = np.column_stack([squares, np.ones(len(h))]) if self.bias else squares
        return [Block(h_D, s_D, np.zeros_like(h_D), len(h), (terms, np.square(s)))]


@dataclass(frozen=True)
class Convolution(Layer):
    """``torch.nn.Conv1d`` to ``Conv3d``, by the number of entries of `kernel`."""

    channels: int
    outputs: int
    kernel: tuple[int, ...]
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1
    bias: bool = True

    def arguments(self) -> tuple[str, dict[str, object]]:
        """See `Layer`."""
        return f"Conv{len(self.kernel)}d", {
            "in_channels": self.channels,
            "out_channels": self.outputs,
            "kernel_size": self.kernel,
            **self._options(),
        }

    def _options(self) -> dict[str, Any]:
        names = ("stride", "padding", "dilation", "groups", "bias")
        return {name: getattr(self, name) for name in names}

    @property
    def weight_columns(self) -> int:
        """See `Layer`."""
        return self.channels // self.groups * prod(self.kernel)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """See `Layer`."""
        return self.outputs, self.channels // self.groups, *self.kernel

    @property
    def shape(self) -> tuple[int, int]:
        """See `Layer`."""
        return self.outputs, self.weight_columns + self.bias

    def split(self, W: Array) -> list[Array]:
        """See `Layer`: a grouped convolution is so many convolutions side by side."""
        return [W if self.groups == 1 else W.reshape(self.groups, -1, W.shape[1])]

    def blocks(
        self, factors: ModuleType, passes: Sequence[tuple[Array, Array]], grouping: str
    ) -> list[Block]:
        """See `Layer`: the patches of all sites are rows; one normalisation over the layer or per group."""
        x, s = (np.concatenate([given[i] for given in passes]) for i in (0, 1))
        h_D, s_D = factors.convolution_factors(x, s, kernel_size=self.kernel, **self._options())
        samples = len(s) * prod(s.shape[2:])
        axes = 2 if self.groups > 1 and grouping == "layer" else 1
        return [Block(h_D, s_D, np.zeros_like(h_D), samples, factor_axes=axes)]


@dataclass(frozen=True)
class Embedding(Layer):
    """``torch.nn.Embedding``: a linear layer of one-hot inputs; h holds the indices, (N,) or (N, T)."""

    entries: int
    outputs: int

    def arguments(self) -> tuple[str, dict[str, object]]:
        """See `Layer`."""
        return "Embedding", {"num_embeddings": self.entries, "embedding_dim": self.outputs}

    @property
    def shape(self) -> tuple[int, int]:
        """See `Layer`."""
        return self.outputs, self.entries

    def parts(self, W: Array) -> list[Array]:
        """See `Layer`: the table is (entries, outputs)."""
        return [W.T]

    def whole(self, parts: Sequence[Array]) -> Array:
        """See `Layer`."""
        return parts[0].T.copy()

    def input(self, h: Array, dtype: torch.dtype, device: str) -> torch.Tensor:
        """See `Layer`."""
        return torch.tensor(h, dtype=torch.long, device=device)

    def blocks(
        self, factors: ModuleType, passes: Sequence[tuple[Array, Array]], grouping: str
    ) -> list[Block]:
        """See `Layer`."""
        indices = np.concatenate([h.ravel() for h, _ in passes]).astype(np.int64)
        s = np.concatenate([s.reshape(-1, self.outputs) for _, s in passes])
        h_D, s_D = factors.embedding_factors(indices, s, num_embeddings=self.entries)
        terms = (np.eye(self.entries)[indices], np.square(s))
        return [Block(h_D, s_D, np.zeros_like(h_D), len(s), terms)]


@dataclass(frozen=True)
class Normalization(Layer):
    """Batch, layer, group or root-mean-square normalisation of c channels; the last has no shift.

    Inputs and gradients in torch's order: channels last for layer and root-mean-square normalisation, after
    the samples for the others.
    """

    name: str
    channels: int
    groups: int = 1
    _last: ClassVar[tuple[str, ...]] = ("LayerNorm", "RMSNorm")

    @property
    def channels_last(self) -> bool:
        """Whether the channels are the last axis of inputs and gradients."""
        return self.name in self._last

    def arguments(self) -> tuple[str, dict[str, object]]:
        """See `Layer`."""
        sizes: dict[str, object] = {"num_features": self.channels}
        if self.channels_last:
            sizes = {"normalized_shape": (self.channels,)}
        elif self.name == "GroupNorm":
            sizes = {"num_groups": self.groups, "num_channels": self.channels}
        return self.name, {**sizes, "eps": NORM_EPS}

    @property
    def shape(self) -> tuple[int, int]:
        """See `Layer`."""
        return (1 if self.name == "RMSNorm" else 2), self.channels

    def rest(self) -> Array:
        """See `Layer`: scales 1, so that the layer normalises, and shifts 0."""
        return np.array([np.ones(self.channels), np.zeros(self.channels)])[: self.shape[0]]

    def parts(self, W: Array) -> list[Array]:
        """See `Layer`."""
        return list(W)

    def whole(self, parts: Sequence[Array]) -> Array:
        """See `Layer`."""
        return np.stack(list(parts))

    def split(self, W: Array) -> list[Array]:
        """See `Layer`: scale and shift have factors of their own."""
        return list(W)

    def joined(self, blocks: Sequence[Array]) -> Array:
        """See `Layer`."""
        return np.stack(list(blocks))

    def blocks(
        self, factors: ModuleType, passes: Sequence[tuple[Array, Array]], grouping: str
    ) -> list[Block]:
        """See `Layer`: statistics per pass, then all sites pooled."""
        rows = [self._rows(x, s) for x, s in passes]
        h, s, blur = (np.concatenate(arrays) for arrays in zip(*rows, strict=True))
        found = factors.normalization_factors(h[None], s[None])
        samples = len(h)
        error = np.sqrt(np.square(blur).mean(axis=0))
        scale = Block(found.scale, found.s_D, error, samples, pairing="channel")
        ones = (np.ones_like(h), np.square(s))
        shift = Block(found.shift, found.s_D, np.zeros_like(error), samples, ones, pairing="channel")
        return [scale, shift][: self.shape[0]]

    def _rows(self, x: Array, s: Array) -> tuple[Array, Array, Array]:
        """Normalised activations, gradients and error of the first of one pass, (sites, channels)."""
        mean, spread = self._statistics(x)
        scale = 1 / np.sqrt(spread + NORM_EPS)
        h = (x - mean) * scale
        blur = NORM_ROUNDINGS * ((np.abs(x) + np.abs(mean)) * scale + np.abs(h))
        return self._sites(h), self._sites(s), self._sites(blur)

    def _statistics(self, x: Array) -> tuple[Array, Array]:
        """Mean, or zero where none is subtracted, and mean square distance from it, in the shape of x."""
        if self.channels_last:
            view, axes = x, (-1,)
        elif self.name == "GroupNorm":
            view = x.reshape(len(x), self.groups, -1)
            axes = (-1,)
        else:
            view, axes = x, (0, *range(2, x.ndim))
        mean = view.mean(axis=axes, keepdims=True) * (self.name != "RMSNorm")
        spread = np.square(view - mean).mean(axis=axes, keepdims=True)
        wide = [np.broadcast_to(X, view.shape).reshape(x.shape) for X in (mean, spread)]
        return wide[0], wide[1]

    def _sites(self, X: Array) -> Array:
        channels_last = X if self.channels_last else np.moveaxis(X, 1, -1)
        return channels_last.reshape(-1, self.channels)
