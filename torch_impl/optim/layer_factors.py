"""Which layers AdaFisher has factors for, what it measures at each, and how that meets a parameter.

Symbols: h input of a layer (1 appended where it has a bias), s gradient at its output, h_D and s_D the means
of their squares. A `Layer` turns inputs and gradients into sums of squares; a `Use` is one place of a
parameter in a layer and says which entries of h_D and s_D belong to which entry of the parameter. Neither
holds the module, so that a copied hook brings no second model along.

Covered are the modules listed in `layer_of` and their subclasses that keep the forward function; nothing is
known about what another forward function multiplies.
"""

import math
from abc import ABC, abstractmethod
from typing import Any, Literal, NamedTuple, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from torch_impl import _checks
from torch_impl._layer_squares import occurrences, patch_squares, row_squares

__all__ = ["Layer", "Squares", "Use", "layer_of", "roles"]

Role: TypeAlias = Literal["weight", "bias", "table", "scale", "shift"]

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class Squares(NamedTuple):
    """A sum of squares over so many rows; a number that only the device knows is a 0-d tensor."""

    total: Tensor
    rows: int | Tensor


class Layer(ABC):
    """One layer: sizes of its factors, and the sums of squares behind them.

    Attributes
    ----------
    name : str
        Of the module in its model.
    h_size, s_size : int
        Entries of the sums of squared inputs and output gradients.
    groups : int
        Of a convolution, otherwise 1.
    constant : bool
        Whether the layer has a bias, which is the weight of a constant input 1, the last one of each group.
    """

    def __init__(self, name: str, h_size: int, s_size: int, *, groups: int = 1, constant: bool = False):
        self.name, self.h_size, self.s_size = name, h_size, s_size
        self.groups, self.constant = groups, constant

    @abstractmethod
    def inputs(self, module: Any, x: Tensor) -> Squares:
        """Sum of the squares of what the layer multiplies; x is what the module was called with."""

    @abstractmethod
    def gradients(self, x: Tensor | None, s: Tensor) -> Squares:
        """Sum of the squared gradients at the output; x is the input if `keeps_input` says so."""

    def keeps_input(self) -> bool:
        """Whether `gradients` has to know the input."""
        return False

    def means(self, h: Squares, s: Squares) -> tuple[Tensor, Tensor]:
        """``h_D`` with the constant input, group by group, and ``s_D``; as vectors."""
        h_D, s_D = h.total / h.rows, s.total / s.rows
        if self.constant:
            h_D = F.pad(h_D.view(self.groups, -1), (0, 1), value=1.0).view(-1)
        return h_D, s_D


class Use(NamedTuple):
    """One place of a parameter: the layer, its index among all layers, and the role in it."""

    site: int
    layer: Layer
    role: Role

    @property
    def h_size(self) -> int:
        """Length of h_D: the whole layer's, because its extremes normalise every entry."""
        return self.layer.h_size + self.layer.groups * self.layer.constant

    @property
    def s_size(self) -> int:
        """Length of s_D."""
        return self.layer.s_size

    def fresh(self, h_D: Tensor, s_D: Tensor) -> tuple[Tensor, Tensor]:
        """The measured factors as this parameter takes them: the shift multiplies ones (Prop. 3.1)."""
        return (torch.ones_like(h_D) if self.role == "shift" else h_D), s_D

    def operands(self, h: Tensor, s: Tensor, shape: torch.Size) -> tuple[Tensor, Tensor]:
        """Two tensors that broadcast to the shape of the parameter; their product is its F, less lam.

        Output j, input k: ``s_j h_k``. Only this place knows how a parameter lies in memory.
        """
        groups, ones = self.layer.groups, (1,) * (len(shape) - 1)
        match self.role:
            case "table":
                return h.view(-1, 1), s.view(1, -1)
            case "scale" | "shift":
                return s.view(shape), h.view(shape)
            case "bias":
                last = h.view(groups, -1)[:, -1]
            case "weight":
                last = h.view(groups, -1)[:, : math.prod(shape[1:])]
        last = last if groups == 1 else last.repeat_interleave(shape[0] // groups, dim=0)
        return s.view(-1, *ones), last.reshape(last.shape[0], *shape[1:])


class Linear(Layer):
    """`torch.nn.Linear`: every row of inputs, tokens included, is a sample."""

    def inputs(self, module: nn.Linear, x: Tensor) -> Squares:
        """Over all axes but the last."""
        return Squares(*row_squares(x, axis=-1))

    def gradients(self, x: Tensor | None, s: Tensor) -> Squares:
        """Over all axes but the last."""
        return Squares(*row_squares(s, axis=-1))


class Convolution(Layer):
    """Convolutions: the input of an output site is the patch that the kernel multiplies there.

    With groups, one min-max normalisation runs over the factors of the whole layer: within a group, the
    gradient factor of a depthwise convolution would have one entry, whose normalised value is zero, and its
    denominator would be the damping throughout.
    """

    def __init__(self, name: str, module: Any):
        width = module.in_channels // module.groups * math.prod(module.kernel_size)
        h_size, constant = module.groups * width, module.bias is not None
        super().__init__(name, h_size, module.out_channels, groups=module.groups, constant=constant)
        self.axes = len(module.kernel_size)

    def inputs(self, module: Any, x: Tensor) -> Squares:
        """Over the batch and the output sites, padding included as the layer pads."""
        ends = _padding(module)
        if module.padding_mode != "zeros":
            x = F.pad(x, [end for pair in reversed(ends) for end in pair], mode=module.padding_mode)
            ends = [(0, 0)] * self.axes
        total, count = patch_squares(
            x,
            kernel_size=module.kernel_size,
            stride=module.stride,
            padding=ends,
            dilation=module.dilation,
            groups=module.groups,
        )
        return Squares(total.reshape(-1), count)

    def gradients(self, x: Tensor | None, s: Tensor) -> Squares:
        """Over the batch, if there is one, and the output sites."""
        return Squares(*row_squares(s, axis=-self.axes - 1))


class Normalization(Layer):
    """Layers of scale and shift: h is the activation after normalisation, before both (Prop. 3.1)."""

    def __init__(self, name: str, module: Any):
        width = getattr(module, "num_features", None) or getattr(module, "num_channels", None)
        width = width or math.prod(module.normalized_shape)
        super().__init__(name, width, width)
        shape = getattr(module, "normalized_shape", None)
        self.trailing = len(shape) if shape is not None else 0  # 0: the channels are axis 1

    def inputs(self, module: Any, x: Tensor) -> Squares:
        """Of the normalised activation, in float32 at least, from the statistics that the forward used."""
        epsilon = torch.finfo(x.dtype).eps if module.eps is None else module.eps
        x = x.to(_checks.working(x.dtype))
        if isinstance(module, BATCH_NORMS):
            return _batch_normalized(module, x)
        if isinstance(module, nn.GroupNorm):
            h = F.group_norm(x, module.num_groups, eps=epsilon)
        elif isinstance(module, nn.LayerNorm):
            h = F.layer_norm(x, module.normalized_shape, eps=epsilon)
        else:
            h = F.rms_norm(x, module.normalized_shape, eps=epsilon)
        return self.gradients(None, h)

    def gradients(self, x: Tensor | None, s: Tensor) -> Squares:
        """Over samples and sites."""
        if self.trailing:
            return Squares(*row_squares(s.reshape(-1, self.s_size), axis=-1))
        return Squares(*row_squares(s, axis=1))


class Embedding(Layer):
    """`torch.nn.Embedding` as a linear layer with one-hot inputs; the table is the transpose of its weight.

    Look-ups of `padding_idx` are no samples: they contribute nothing to the gradient of the table.
    """

    def __init__(self, name: str, module: nn.Embedding):
        super().__init__(name, module.num_embeddings, module.embedding_dim)
        self.padding = module.padding_idx

    def keeps_input(self) -> bool:
        """To leave out what was padding."""
        return self.padding is not None

    def inputs(self, module: nn.Embedding, x: Tensor) -> Squares:
        """How often each entry was looked up."""
        total, count = occurrences(x, self.h_size, dtype=_checks.working(module.weight.dtype))
        if self.padding is None:
            return Squares(total, count)
        real = x.ne(self.padding).sum().clamp(min=1)  # nothing but padding: zeros over one
        total[self.padding] = 0.0
        return Squares(total, real)

    def gradients(self, x: Tensor | None, s: Tensor) -> Squares:
        """Over the look-ups."""
        if x is None or self.padding is None:
            return Squares(*row_squares(s, axis=-1))
        mask = x.ne(self.padding)
        total, _ = row_squares(s.where(mask.unsqueeze(-1), 0.0), axis=-1)
        return Squares(total, mask.sum().clamp(min=1))


def layer_of(name: str, module: nn.Module) -> Layer | None:
    """What is measured at a module, or None where the method has nothing to say.

    `torch.nn.Embedding` with ``scale_grad_by_freq`` is left out: its gradient is no sum over samples.
    """
    forward = type(module).forward
    if isinstance(module, nn.Linear) and forward is nn.Linear.forward:
        return Linear(name, module.in_features, module.out_features, constant=module.bias is not None)
    for convolution in CONVOLUTIONS:
        if isinstance(module, convolution) and forward is convolution.forward:
            same = type(module)._conv_forward is convolution._conv_forward
            return Convolution(name, module) if same else None
    for norm in (*BATCH_NORMS, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm):
        if isinstance(module, norm) and forward is norm.forward:
            return Normalization(name, module)
    if isinstance(module, nn.Embedding) and forward is nn.Embedding.forward:
        return None if module.scale_grad_by_freq else Embedding(name, module)
    return None


def roles(layer: Layer) -> dict[str, Role]:
    """Role of each parameter of a layer's module, by its name there."""
    if isinstance(layer, Embedding):
        return {"weight": "table"}
    if isinstance(layer, Normalization):
        return {"weight": "scale", "bias": "shift"}
    return {"weight": "weight", "bias": "bias"}


def _padding(module: Any) -> list[tuple[int, int]]:
    """Padding of a convolution before and after each axis, rows first."""
    if module.padding == "valid":
        return [(0, 0)] * len(module.kernel_size)
    if module.padding == "same":  # the odd one out goes to the end
        totals = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    return [(end, end) for end in cast(tuple[int, ...], module.padding)]


def _batch_normalized(module: Any, x: Tensor) -> Squares:
    """Sum of squared normalised activations of a batch normalisation, which are never made.

    In training the mean square of channel c is ``v_c / (v_c + eps)`` with its variance v_c in the batch. All
    of these lie near 1 and min-max normalisation lives on their differences, to which a sum over rounded
    activations would add noise. In evaluation running statistics take the place of the batch's.
    """
    others = [axis for axis in range(x.ndim) if axis != 1]
    if module.training or (module.running_mean is None and module.running_var is None):
        # Two passes; on a CPU torch.var takes ten times as long, as long as a convolution.
        total, rows = row_squares(x - x.mean(dim=others, keepdim=True), axis=1)
        variance = total / rows
        return Squares(rows * (variance / (variance + module.eps)), rows)
    center = module.running_mean.to(x.dtype).view(-1, *(1,) * (x.ndim - 2))
    total, rows = row_squares(x - center, axis=1)
    return Squares(total / (module.running_var.to(x.dtype) + module.eps), rows)
