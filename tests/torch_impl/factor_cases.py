"""Inputs for the tests of layer factors, and how their results are judged."""

from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from proofs_checks.ratios import recursion, unit_roundoff
from tests.torch_impl.cases import Array, array, tensor

__all__ = [
    "Convolution",
    "Largest",
    "agree",
    "convolutions",
    "normal",
    "outer",
    "squared_gradient",
    "working",
]


def working(dtype: torch.dtype) -> torch.dtype:
    """Precision of sums and results."""
    return torch.promote_types(dtype, torch.float32)


def normal(rng, *shape, dtype=torch.float64, device="cpu") -> Tensor:
    """Standard normal entries, rounded if the dtype is narrow."""
    return tensor(rng.standard_normal(shape), dtype, device)


def agree(got: Tensor, want: Array, *, rows: int, dtype: torch.dtype, terms: Array | None = None) -> bool:
    """Whether a mean over `rows` products is right to its roundings, in the precision it is due in.

    `terms` is the same mean of absolute values, where that is not the mean itself.
    """
    assert got.dtype == working(dtype), f"{got.dtype} of {dtype}"
    u = unit_roundoff(got.dtype)
    return recursion(array(got), want, want if terms is None else terms, operations=rows + 3, u=u).passed


def exactly(got: Tensor, want: list[float] | list[list[float]]) -> bool:
    """Whether every entry is the number given, to the last bit."""
    return array(got).tolist() == want


def squared_gradient(output: Tensor, parameter: Tensor, s: Tensor) -> Array:
    """Of the parameter, for the gradient `s` at the output."""
    (gradient,) = torch.autograd.grad(output, parameter, s)
    return array(gradient.square())


def outer(h_D: Tensor, s_D: Tensor) -> Tensor:
    """``s_j h_k``: what a squared gradient is where one sample has one site."""
    return s_D.unsqueeze(-1) * h_D.unsqueeze(-2)


@dataclass(frozen=True)
class Convolution:
    """A convolution layer and the shapes at both its ends."""

    x_shape: tuple[int, ...]
    outputs: int
    options: dict[str, Any]

    def layer(self, dtype: torch.dtype):
        """PyTorch's function of the input and the weight, and a weight that wants a gradient."""
        size, groups = self.options["kernel_size"], self.options["groups"]
        W = torch.zeros(self.outputs, self.x_shape[1] // groups, *size, dtype=dtype, requires_grad=True)
        function = (F.conv1d, F.conv2d, F.conv3d)[len(size) - 1]
        options = {name: option for name, option in self.options.items() if name != "kernel_size"}
        return (lambda x, W: function(x, W, **options)), W

    @property
    def s_shape(self) -> tuple[int, ...]:
        """Shape of the output, by PyTorch."""
        layer, W = self.layer(torch.float32)
        return tuple(layer(torch.zeros(self.x_shape), W).shape)

    @property
    def rows(self) -> int:
        """Patches in a mean: samples times sites."""
        return torch.Size(self.s_shape).numel() // self.outputs


@st.composite
def convolutions(draw, *, axes=(1, 2, 3), single=False):
    """Layers with every option in each of 1 to 3 dimensions; `single` has one sample and one site."""
    count = draw(st.sampled_from(axes))

    def each(low, high):
        return draw(st.tuples(*[st.integers(low, high)] * count))

    kernel, dilation, padding = each(1, 3), each(1, 2), each(0, 2)
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    padding = tuple(min(p, (span - 1) // 2) for p, span in zip(padding, spans, strict=True))
    spare = each(0, 0 if single else 3)
    spatial = [span - 2 * p + more for span, p, more in zip(spans, padding, spare, strict=True)]
    groups, inputs, outputs = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    options = {
        "kernel_size": kernel,
        "stride": each(1, 3),
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
    }
    samples = 1 if single else draw(st.integers(1, 3))
    return Convolution((samples, groups * inputs, *spatial), groups * outputs, options)


class Largest(TorchDispatchMode):
    """Watches what is computed and keeps the largest number of elements that any result has in memory."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for x in tree_leaves(result):
            if isinstance(x, Tensor):
                self.elements = max(self.elements, x.untyped_storage().nbytes() // x.element_size())
        return result
