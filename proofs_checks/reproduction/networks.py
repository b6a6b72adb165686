"""Small networks on the digits of scikit-learn, trained in float64 by the functions of `torch_impl`.

A `Rule` turns a gradient into an update; `train` steps every weight of a bias-free network by one rule and
watches updates and factors. Kernels (out, in, k, k) are used as matrices (out, in k k). Everything follows
from seeds. Float64 shows condition numbers up to about 1e14; float32 would end at 1e5 to 1e6.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from torch_impl import fismo, muon

__all__ = [
    "Adam",
    "Data",
    "Fismo",
    "Muon",
    "Rule",
    "Run",
    "condition",
    "convolutional",
    "digits",
    "mlp",
    "train",
]

Array = NDArray[np.float64]

#: Unit roundoff of float64.
_ROUNDOFF = 2.0**-53

#: Weight scale of a ReLU layer (He et al. 2015), on the mean of squares of what enters.
_RELU_GAIN = 2.0


class Data(NamedTuple):
    """The digits.

    Attributes
    ----------
    images : (1797, 1, 8, 8) float64
        In [0, 1].
    labels : (1797,) int64
    """

    images: Tensor
    labels: Tensor


@cache
def digits() -> Data:
    """The 1797 handwritten digits of scikit-learn.

    Raises
    ------
    ModuleNotFoundError
        If scikit-learn is not installed.

    Notes
    -----
    Source: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits" (1998), test part, as shipped.
    """
    if find_spec("sklearn") is None:
        raise ModuleNotFoundError('digits needs scikit-learn: pip install "fisherproof[test]"')
    pixels, labels = import_module("sklearn.datasets").load_digits(return_X_y=True)
    images = torch.from_numpy(pixels / 16.0).reshape(-1, 1, 8, 8)
    return Data(images, torch.from_numpy(labels.astype(np.int64)))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's generator at a seed inside the block, as it was afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def initialised(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A model in float64: weights drawn by He's rule, biases 0, scales of normalisation layers 1.

    PyTorch's own start draws too, so that `make` is called under the seed as well.
    """
    with seeded(seed), torch.no_grad():
        model = make().double()
        for module in model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if parameter.ndim > 1:
                    parameter.normal_(std=float(np.sqrt(_RELU_GAIN / parameter[0].numel())))
                else:
                    parameter.fill_(float(name == "weight"))
    return model


def mlp(*widths: int, seed: int) -> nn.Module:
    """ReLU network without biases, ``widths`` from the 64 pixels to the 10 classes."""

    def make() -> nn.Module:
        layers: list[nn.Module] = [nn.Flatten()]
        for k, (wide, out) in enumerate(pairwise(widths)):
            layers += ([nn.ReLU()] if k else []) + [nn.Linear(wide, out, bias=False)]
        return nn.Sequential(*layers)

    return initialised(make, seed)


def convolutional(*, channels: int = 8, seed: int) -> nn.Module:
    """Two 3 x 3 convolutions, the second with stride 2, and a linear head; no biases."""

    def make() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1, bias=False),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, stride=2, bias=False),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(16 * channels, 10, bias=False),
        )

    return initialised(make, seed)


class Rule(Protocol):
    """An optimizer of one matrix: `update` is what is subtracted from the weight, before the step size."""

    def update(self, G: Tensor) -> Tensor:
        """Advance by the gradient ``G (m, n)``."""


class Fismo:
    """`torch_impl.fismo.step` on one matrix; `options` are its keywords."""

    def __init__(self, shape: tuple[int, int], **options: Any) -> None:
        self.options = options
        self.state = fismo.init(torch.empty(shape, dtype=torch.float64))

    def update(self, G: Tensor) -> Tensor:
        """Advance by the gradient ``G (m, n)``."""
        update, self.state = fismo.step(G, self.state, **self.options)
        return update


class Muon:
    """`torch_impl.muon.step` without Nesterov and shape factor, so that FISMO with identity factors is it."""

    def __init__(self, shape: tuple[int, int], *, beta: float = 0.9, orthogonalize: str = "polar") -> None:
        self.beta, self.orthogonalize = beta, orthogonalize
        self.state = muon.init(torch.empty(shape, dtype=torch.float64))

    def update(self, G: Tensor) -> Tensor:
        """Advance by the gradient ``G (m, n)``."""
        update, self.state = muon.step(
            G, self.state, beta=self.beta, nesterov=False, scale="none", orthogonalize=self.orthogonalize
        )
        return update


class Adam:
    """Kingma and Ba (2015), Algorithm 1, with its default averages."""

    def __init__(
        self, shape: tuple[int, int], *, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8
    ):
        self.beta1, self.beta2, self.eps, self.t = beta1, beta2, eps, 0
        self.m, self.v = torch.zeros(2, *shape, dtype=torch.float64)

    def update(self, G: Tensor) -> Tensor:
        """Advance by the gradient ``G (m, n)``."""
        self.t += 1
        self.m = self.beta1 * self.m + (1 - self.beta1) * G
        self.v = self.beta2 * self.v + (1 - self.beta2) * G * G
        m_hat, v_hat = self.m / (1 - self.beta1**self.t), self.v / (1 - self.beta2**self.t)
        return m_hat / (v_hat.sqrt() + self.eps)


@dataclass(frozen=True)
class Run:
    """What `train` saw, by step and weight matrix.

    Attributes
    ----------
    loss : float
        Mean cross-entropy on all data at the end.
    steps : int
        T, the steps taken: fewer than asked for if a factor became singular to working precision.
    shapes : tuple of (m, n)
    squares : (T, L) float64
        ``|G_t|_F^2``.
    conditions : (T, L) float64
        Condition of the update on its numerical range.
    seen : (T, L) float64
        Dimension of that range over the smaller side.
    condition_P, deviation : (T, L) float64
        Condition of P; the larger of ``|P - I|_2`` and ``|Q - I|_2``. 1 and 0 for rules without factors.
    """

    loss: float
    steps: int
    shapes: tuple[tuple[int, int], ...]
    squares: Array
    conditions: Array
    seen: Array
    condition_P: Array
    deviation: Array


def train(
    model: nn.Module,
    rule: Callable[[tuple[int, int]], Rule],
    *,
    lr: float,
    steps: int,
    seed: int,
    batch: int = 64,
    loss_scale: float = 1.0,
    watch: bool = True,
) -> Run:
    """Train every weight of `model` by its own `rule`, in place.

    Parameters
    ----------
    model : nn.Module
        Weights of two or more dimensions only. Modified.
    rule : callable
        Makes the rule of a matrix from its shape ``(out, rest)``.
    lr : float
        Step size.
    steps, batch, seed
        Length, samples per step, and seed of their draw.
    loss_scale : float
        By which gradients are multiplied before the rule sees them.
    watch : bool
        Whether to look at updates and factors; otherwise the arrays of the result are empty.
    """
    images, labels = digits()
    rng = np.random.default_rng(seed)
    weights = list(model.parameters())
    shapes = tuple((W.shape[0], W[0].numel()) for W in weights)
    rules = [rule(shape) for shape in shapes]
    rows: list[list[tuple[float, ...]]] = []
    for _ in range(steps):
        chosen = torch.from_numpy(rng.integers(0, len(labels), batch))
        loss = cross_entropy(model(images[chosen]), labels[chosen])
        gradients = [loss_scale * G.flatten(1) for G in torch.autograd.grad(loss, weights)]
        try:
            updates = [own.update(G) for own, G in zip(rules, gradients, strict=True)]
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
            break
        with torch.no_grad():
            for W, update in zip(weights, updates, strict=True):
                W.sub_(lr * update.reshape(W.shape))
        seen = zip(rules, gradients, updates, strict=True) if watch else ()
        rows.append([(float(G.square().sum()), *condition(dW), *_factors(own)) for own, G, dW in seen])
    with torch.no_grad():
        final = float(cross_entropy(model(images), labels))
    columns = np.array(rows, dtype=np.float64).reshape(len(rows), len(weights) if watch else 0, 5)
    return Run(final, len(rows), shapes, *np.moveaxis(columns, -1, 0))


def condition(X: Tensor) -> tuple[float, float]:
    """Condition of a matrix on its numerical range, and the dimension of that range over the smaller side.

    Singular values below ``max(m, n) u s_1`` cannot be told from zero; unlit pixels and dead units put exact
    zeros there. A zero matrix has condition 1 on a range of dimension 0.
    """
    s = torch.linalg.svdvals(X)
    kept = s[s > max(X.shape) * _ROUNDOFF * s[0]]
    if not len(kept):
        return 1.0, 0.0
    return float(kept[0] / kept[-1]), len(kept) / len(s)


def _factors(rule: Rule) -> tuple[float, float]:
    if not isinstance(rule, Fismo):
        return 1.0, 0.0
    p, q = (torch.linalg.eigvalsh(X) for X in rule.state[:2])
    return float(p[-1] / p[0]), max(float((x - 1).abs().max()) for x in (p, q))
