"""What a twin comparison is made of: an input in a precision, and the label and ratio of every decision."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from proofs_checks.decision import DOUBLE, ORDER_ONE, Array, Ratio, unit_roundoff

__all__ = [
    "BETA",
    "DETECTABLE",
    "Compare",
    "Precision",
    "Twin",
    "array",
    "condition",
    "distance",
    "exact",
    "gradients",
    "label",
    "spd_pair",
    "unit",
]


@dataclass(frozen=True)
class Precision:
    """Where and in which format the torch twin works."""

    dtype: str
    device: str

    @property
    def u(self) -> float:
        """Unit roundoff of the format."""
        return unit_roundoff(self.dtype)

    @property
    def both(self) -> float:
        """Unit roundoffs of both twins: the reference rounds too."""
        return self.u + DOUBLE

    def tensor(self, x: Array) -> Tensor:
        """`x` rounded to the format, on the device; always a copy."""
        return torch.tensor(x, dtype=getattr(torch, self.dtype), device=self.device)

    def rounded(self, x: Array) -> Array:
        """`x` as the format stores it: what both twins are given."""
        return array(self.tensor(x))


def array(x: Tensor) -> Array:
    """A tensor of any format as float64, exactly."""
    return x.detach().to("cpu", torch.float64).numpy()


#: Compares one function with its twin on a matrix the format stores exactly: one labelled ratio for each
#: decision, none where the input does not apply.
Compare = Callable[[Array, Precision], Iterator[tuple[str, Ratio]]]


@dataclass(frozen=True)
class Twin:
    """A public function that both `reference` and `torch_impl` have, and how the two are compared.

    `scaled` brings inputs to entries below 1 first, for functions that square their input. A function of
    numbers alone has `matrices` false and is compared once, on arguments of its own.
    """

    name: str
    compare: Compare
    dtypes: tuple[str, ...] = ("float64", "float32")
    scaled: bool = True
    matrices: bool = True


def distance(
    name: str, computed: Array | Tensor, expected: Array, *, budget: float, threshold: float = ORDER_ONE
) -> Ratio:
    """Frobenius distance of the twins over a budget; anything not finite, or of another shape, fails."""
    got = array(computed) if isinstance(computed, Tensor) else np.asarray(computed, dtype=np.float64)
    if got.shape != expected.shape or not (np.isfinite(got).all() and np.isfinite(expected).all()):
        return Ratio(name, math.inf, 1.0, threshold)
    peak = float(np.abs(got - expected).max(initial=0.0)) or 1.0  # squares must not leave the range
    error = peak * float(np.linalg.norm((got - expected) / peak))
    return Ratio(name, error, max(budget, float(np.finfo(np.float64).smallest_subnormal)), threshold)


def exact(name: str, computed: Array | Tensor, expected: Array) -> Ratio:
    """The twins must agree to the last bit."""
    return distance(name, computed, expected, budget=0.0, threshold=1.0)


def unit(M: Array) -> Array:
    """`M` over the power of two that brings its largest entry into [1/2, 1); zero stays."""
    peak = float(np.abs(M).max(initial=0.0))
    return np.ldexp(M, -math.frexp(peak)[1]) if peak else M


def condition(P: Array) -> float:
    """Condition number of a symmetric positive definite matrix; 1 for an empty one."""
    w = np.linalg.eigvalsh(P)
    return float(w[-1] / w[0]) if w.size else 1.0


#: A budget above this share of the result would see gross faults only: the input does not determine the
#: result well enough in the format, and the comparison is left out.
DETECTABLE = 2.0**-8

#: Ridge of the factors that `spd_pair` makes: keeps the condition below about 10 times the side.
RIDGE = 0.125


def spd_pair(X: Array, p: Precision) -> tuple[Array, Array]:
    """Symmetric positive definite factors made from `X`, exactly representable in the format."""
    m, n = X.shape
    P = X @ X.T / max(n, 1) + RIDGE * np.eye(m)
    Q = X.T @ X / max(m, 1) + RIDGE * np.eye(n)
    return p.rounded((P + P.T) / 2), p.rounded((Q + Q.T) / 2)


#: Weight of the old momentum in every run; a binary fraction, stored exactly.
BETA = 0.875


def gradients(M: Array, p: Precision, count: int) -> list[Array]:
    """Gradients of a run, exactly representable in the format: `M`, then others of its size.

    Optimizers are compared step by step along a run of the torch twin: before every step the reference is
    given the torch state, so that one step is judged at a time and earlier errors do not loosen its budget.
    Each step takes the next combination of options, so that one run goes through all of them.
    """
    rng = np.random.default_rng(M.shape)
    return [M, *(p.rounded(rng.uniform(-1.0, 1.0, M.shape) + M) for _ in range(count - 1))]


def label(options: Mapping[str, object], *more: object) -> str:
    """How a decision is named: the options that differ from the default, then what was compared."""
    return ", ".join([*(f"{name}={value}" for name, value in options.items()), *map(str, more)])
