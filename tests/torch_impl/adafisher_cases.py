"""Layers for the tests of AdaFisher: the rows each one multiplies, written out, and the reference's steps.

A case knows its module and how to write the samples of its factors as plain rows in NumPy. From there on a
linear layer, a convolution and an embedding are the same thing, and `reference.adafisher` is the oracle.
"""

import itertools
import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

import reference.adafisher as oracle
from proofs_checks.ratios import Ratio, unit_roundoff
from tests.torch_impl.cases import EXACT, array

__all__ = ["CASES", "Case", "Follower", "backward", "columns", "draw"]

#: Options that the reference has no use for.
OURS = {"maximize", "refresh", "nonfinite", "capturable"}

PADS = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def linear_rows(module, x):
    return x.reshape(1, -1, x.shape[-1])


def patches(module, x):
    """What each output site of each group multiplies: (groups, N sites, n), one patch after the other."""
    axes = len(module.kernel_size)
    x = x.reshape(-1, *x.shape[-axes - 1 :])
    if module.padding == "same":
        ends = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        ends = [(end // 2, end - end // 2) for end in ends]
    else:
        ends = [(0, 0)] * axes if module.padding == "valid" else [(p, p) for p in module.padding]
    x = np.pad(x, [(0, 0), (0, 0), *ends], mode=PADS[module.padding_mode])
    reach = [d * (k - 1) + 1 for d, k in zip(module.dilation, module.kernel_size, strict=True)]
    starts = [range(0, n - r + 1, s) for n, r, s in zip(x.shape[2:], reach, module.stride, strict=True)]
    rows = []
    for sample, at in itertools.product(x, itertools.product(*starts)):
        window = [slice(a, a + r, d) for a, r, d in zip(at, reach, module.dilation, strict=True)]
        rows.append(sample[(slice(None), *window)].reshape(module.groups, -1))
    return np.stack(rows, axis=1)


def channel_rows(s, groups, axes):
    """Gradients of a convolution as rows: (groups, N sites, m / groups)."""
    s = np.moveaxis(s.reshape(-1, *s.shape[-axes - 1 :]), 1, -1)
    return np.moveaxis(s.reshape(-1, groups, s.shape[-1] // groups), 1, 0)


def one_hot(module, x):
    kept = x.reshape(-1)
    if module.padding_idx is not None:
        kept = kept[kept != module.padding_idx]
    return np.eye(module.num_embeddings)[kept.astype(int)][None]


def batch_normalized(module, x):
    others = tuple(axis for axis in range(x.ndim) if axis != 1)
    shape = (1, -1, *(1,) * (x.ndim - 2))
    mean, variance = x.mean(axis=others), x.var(axis=others)
    if not module.training:
        mean, variance = array(module.running_mean), array(module.running_var)
    h = (x - mean.reshape(shape)) / np.sqrt(variance + module.eps).reshape(shape)
    return np.moveaxis(h, 1, -1).reshape(1, -1, x.shape[1])


def group_normalized(module, x):
    parts = x.reshape(x.shape[0], module.num_groups, -1)
    h = (parts - parts.mean(-1, keepdims=True)) / np.sqrt(parts.var(-1, keepdims=True) + module.eps)
    return np.moveaxis(h.reshape(x.shape), 1, -1).reshape(1, -1, x.shape[1])


def layer_normalized(module, x):
    x = x.reshape(1, -1, math.prod(module.normalized_shape))
    center = 0.0 if isinstance(module, nn.RMSNorm) else x.mean(-1, keepdims=True)
    square = ((x - center) ** 2).mean(-1, keepdims=True)
    return (x - center) / np.sqrt(square + module.eps)


@dataclass(frozen=True)
class Case:
    """A layer, the shape of its input, and its samples as rows."""

    build: object
    shape: tuple
    rows: object
    norm: bool = False
    vocabulary: int = 0
    train: bool = True

    def module(self, dtype):
        torch.manual_seed(0)
        return self.build().to(dtype).train(self.train)

    def h_rows(self, module, x):
        """(groups, N, n) float64."""
        return self.rows(module, array(x))

    def s_rows(self, module, x, s):
        """(groups, N, m / groups) float64."""
        s = array(s)
        if isinstance(module, nn.Embedding):
            s = s.reshape(-1, s.shape[-1])
            kept = (
                np.ones(len(s), bool)
                if module.padding_idx is None
                else x.numpy().ravel() != module.padding_idx
            )
            return s[kept][None]
        if isinstance(module, nn.modules.conv._ConvNd):
            return channel_rows(s, module.groups, len(module.kernel_size))
        if isinstance(module, (nn.modules.batchnorm._BatchNorm, nn.GroupNorm)):
            return np.moveaxis(s, 1, -1).reshape(1, -1, s.shape[1])
        width = math.prod(module.normalized_shape) if self.norm else s.shape[-1]
        return s.reshape(1, -1, width)


def conv(kind, *args, **options):
    axes = int(kind.__name__[4])
    return Case(lambda: kind(*args, **options), (3, args[0], 7, 6, 5)[: axes + 2], patches)


def norm(build, shape, rows, **options):
    return Case(build, shape, rows, norm=True, **options)


CASES = {
    "linear": Case(lambda: nn.Linear(4, 3), (9, 4), linear_rows),
    "linear without bias": Case(lambda: nn.Linear(4, 3, bias=False), (9, 4), linear_rows),
    "linear on tokens": Case(lambda: nn.Linear(4, 3), (2, 5, 4), linear_rows),
    "linear on one vector": Case(lambda: nn.Linear(4, 3), (4,), linear_rows),
    "conv1d": conv(nn.Conv1d, 4, 6, 3, stride=2, padding=2, dilation=2),
    "conv1d same": conv(nn.Conv1d, 2, 3, 4, padding="same"),
    "conv2d": conv(nn.Conv2d, 2, 3, (3, 2), stride=(2, 1), padding=(1, 0)),
    "conv2d groups": conv(nn.Conv2d, 4, 6, 3, groups=2, padding="valid"),
    "conv2d depthwise": conv(nn.Conv2d, 4, 4, 3, groups=4, bias=False),
    "conv2d reflect": conv(nn.Conv2d, 2, 3, 3, padding=2, padding_mode="reflect"),
    "conv2d circular": conv(nn.Conv2d, 2, 3, 3, padding=(2, 1), padding_mode="circular", stride=2),
    "conv2d replicate same": conv(nn.Conv2d, 2, 3, (2, 3), padding="same", padding_mode="replicate"),
    "conv2d on one image": Case(lambda: nn.Conv2d(2, 3, 3), (2, 7, 6), patches),
    "conv3d": conv(nn.Conv3d, 2, 4, (2, 3, 2), padding=(0, 1, 1), dilation=(2, 1, 1), groups=2),
    "batch norm": norm(lambda: nn.BatchNorm1d(5, eps=0.5), (8, 5), batch_normalized),
    "batch norm on sequences": norm(lambda: nn.BatchNorm1d(5, eps=0.5), (4, 5, 6), batch_normalized),
    "batch norm 2d": norm(lambda: nn.BatchNorm2d(4, eps=0.5), (4, 4, 3, 3), batch_normalized),
    "batch norm 3d": norm(lambda: nn.BatchNorm3d(4, eps=0.5), (4, 4, 2, 3, 2), batch_normalized),
    "batch norm in evaluation": norm(
        lambda: nn.BatchNorm2d(4, eps=0.5), (4, 4, 3, 3), batch_normalized, train=False
    ),
    "layer norm": norm(lambda: nn.LayerNorm(5), (4, 3, 5), layer_normalized),
    "layer norm over two axes": norm(lambda: nn.LayerNorm((3, 4)), (6, 3, 4), layer_normalized),
    "layer norm without bias": norm(lambda: nn.LayerNorm(5, bias=False), (4, 3, 5), layer_normalized),
    "group norm": norm(lambda: nn.GroupNorm(2, 6), (3, 6, 4, 3), group_normalized),
    "rms norm": norm(lambda: nn.RMSNorm(5, eps=1e-3), (4, 3, 5), layer_normalized),
    "embedding": Case(lambda: nn.Embedding(7, 4), (5, 6), one_hot, vocabulary=7),
    "embedding with padding": Case(lambda: nn.Embedding(7, 4, padding_idx=2), (5, 6), one_hot, vocabulary=7),
    "embedding of bounded norm": Case(
        lambda: nn.Embedding(7, 4, max_norm=0.5), (5, 6), one_hot, vocabulary=7
    ),
}


def draw(case, module, dtype, seed):
    """An input and the gradient at the output, entries of different sizes in different columns."""
    generator = torch.Generator().manual_seed(seed)
    if case.vocabulary:
        x = torch.randint(0, case.vocabulary, case.shape, generator=generator)
    else:
        x = torch.randn(case.shape, generator=generator, dtype=torch.float64)
        x = (x * torch.linspace(0.5, 2.0, x.numel(), dtype=torch.float64).reshape(x.shape)).to(dtype)
    with torch.no_grad():
        shape = module(x).shape
    return x, torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def backward(module, x, s):
    """Run the layer so that exactly `s` arrives at its output."""
    module(x).backward(s)


def columns(parameters, gradient, groups):
    """A layer's parameters as the reference's matrices: (groups, m / groups, n), the bias as last column."""
    weight = parameters.get("weight")
    parts = [] if weight is None else [gradient(weight).reshape(groups, weight.shape[0] // groups, -1)]
    if parameters.get("bias") is not None:
        parts.append(gradient(parameters["bias"]).reshape(groups, -1, 1))
    return np.concatenate(parts, axis=-1)


@dataclass
class Follower:
    """The reference's trajectory of one layer beside the optimizer's, with the rounding that may part them.

    First order. A mean of squares has relative error g = (8 + log2(rows width)) u: sums go pairwise, over
    rows and, in a normalisation, over its statistics; an average of such means has no more. Min-max
    normalisation makes an absolute error of ``2 a g`` of it, a the largest entry over the range. So F moves
    by ``2 (a + b) g + 4 u`` at most, M / F by that over F and a few u more, and storing a half precision
    parameter by its own unit roundoff. Terms of second order, a few per cent of these, are left out.
    """

    module: nn.Module
    case: Case
    lr: float
    options: dict = field(default_factory=dict)
    coupled: bool = False

    def __post_init__(self):
        self.parts = dict(self.module.named_parameters())
        self.dtype = self.parts["weight"].dtype
        self.u = unit_roundoff("float64" if self.dtype == torch.float64 else "float32")
        self.groups = getattr(self.module, "groups", 1)
        self.W = self.views(lambda p: array(p).copy())
        self.states = {name: oracle.init(W, pairing=self.pairing()) for name, W in self.W.items()}
        self.error = {name: np.zeros_like(W) for name, W in self.W.items()}
        self.terms = {name: np.zeros_like(W) for name, W in self.W.items()}
        self.spread = dict.fromkeys(self.W, 0.0)
        self.t = 0

    def look_again(self):
        """Take over the parameters as they are, where a forward pass changes them (`max_norm`)."""
        self.W = self.views(lambda p: array(p).copy())

    def pairing(self):
        return "channel" if self.case.norm else "outer"

    def views(self, of):
        """The parameters as the reference takes them."""
        if self.case.norm:
            return {name: of(p).reshape(-1) for name, p in self.parts.items()}
        if isinstance(self.module, nn.Embedding):
            return {"weight": of(self.parts["weight"]).T}
        W = columns(self.parts, of, self.groups)
        return {"all": W if self.groups > 1 else W[0]}

    def factors(self, name, x, s):
        """Fresh factors, from rows; lists of inputs and gradients are pooled."""
        pairs = list(zip(x, s, strict=True)) if isinstance(x, list) else [(x, s)]
        h = np.concatenate([self.case.h_rows(self.module, a) for a, _ in pairs], axis=1)
        s = np.concatenate([self.case.s_rows(self.module, a, b) for a, b in pairs], axis=1)
        self.g = (math.log2(h.shape[1] * h.shape[2] + 1) + 8) * self.u
        if self.case.norm:
            found = oracle.normalization_factors(h.transpose(1, 0, 2), s.transpose(1, 0, 2))
            return (found.scale if name == "weight" else found.shift), found.s_D
        bias = "bias" in self.parts
        h_D, s_D = oracle.linear_factors(h, s, bias=bias)
        return (h_D, s_D) if self.groups > 1 else (h_D[0], s_D[0])

    def step(self, x, s, *, refresh=True):
        """One step of the reference with the gradients that the parameters have now."""
        self.t += 1
        sign = -1.0 if self.options.get("maximize") else 1.0
        gradients = self.views(lambda p: sign * array(p.grad))
        for name, G in gradients.items():
            h_D, s_D = self.factors(name, x, s) if refresh else (None, None)
            self.one(name, G, h_D, s_D, refresh)

    def one(self, name, G, h_D, s_D, refresh):
        options = {k: v for k, v in self.options.items() if k not in OURS}
        decay = options.get("weight_decay", 0.0)
        if self.coupled:
            G, options["weight_decay"] = G + decay * self.W[name], 0.0
        update, self.states[name] = oracle.step(
            G,
            self.states[name],
            h_D=h_D,
            s_D=s_D,
            W=self.W[name],
            refresh=refresh,
            pairing=self.pairing(),
            factor_axes=2 if self.groups > 1 else 1,
            **options,
        )
        self.grow(name, G, update, h_D, s_D)
        self.W[name] = self.W[name] - self.lr * update

    def grow(self, name, G, update, h_D, s_D):
        """Add what rounding may do in this step."""
        state, beta, lam = self.states[name], self.options.get("beta", 0.9), self.options.get("lam", 1e-3)
        pairs = [pair for pair in ((h_D, s_D), (state.h_D, state.s_D)) if pair[0] is not None]
        self.spread[name] = max(self.spread[name], *(spread(h) + spread(s) for h, s in pairs))
        self.terms[name] = beta * self.terms[name] + (1.0 - beta) * np.abs(G)
        size = self.terms[name] / (1.0 - beta**self.t)
        F_shift = 2.0 * self.spread[name] * self.g + 4.0 * self.u
        F = np.maximum(np.abs(state.M) / (1.0 - beta**self.t), 0.0) / np.maximum(np.abs(update), 1e-300)
        F = lam if self.options.get("weight_decay") else np.clip(F, lam, 1.0 + lam)
        self.error[name] += self.lr * size / F * (F_shift / F + (2 * self.t + 6) * self.u)
        store = unit_roundoff(self.dtype) if self.dtype != torch.float64 else self.u
        self.error[name] += 2.0 * store * (np.abs(self.W[name]) + self.lr * np.abs(update))

    def ratios(self):
        """The parameters against the reference's, entry by entry."""
        found = self.views(lambda p: array(p))
        result = []
        for name, W in found.items():
            share = np.abs(W - self.W[name]) / np.maximum(self.error[name], EXACT)
            result.append(Ratio(f"AdaFisher {name}", float(share.max()), 1.0))
        return result


def spread(d):
    """Largest entry over the range; a constant factor is normalised to zero without an error."""
    width = float(d.max() - d.min())
    return float(np.abs(d).max()) / width if width else 0.0
