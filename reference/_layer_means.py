"""Means over the samples of a layer, as the factor functions of `reference.adafisher` take them."""

import numpy as np

from reference._arguments import Array, finite_result

__all__ = ["mean_square", "row_form", "samples", "with_bias"]


def row_form(axes: int, last: str) -> str:
    """The form of an array with `axes` sample axes, for messages."""
    names = ["N", "T", *(f"T{k}" for k in range(2, axes))][:axes]
    return f"(..., {', '.join([*names, *filter(None, [last])])})"


def samples(name: str, X: Array, over: tuple[int, ...]) -> None:
    """Refuse an array without entries along one of the axes `over`."""
    if any(X.shape[axis] == 0 for axis in over):
        raise ValueError(f"{name} must hold at least one sample and one site, got shape {X.shape}")


def mean_square(name: str, X: Array, over: tuple[int, ...]) -> Array:
    """Mean of ``X^2`` over axes that must not be empty."""
    samples(name, X, over)
    with np.errstate(over="ignore"):
        return finite_result(name, np.square(X).mean(axis=over), "have squares in range")


def with_bias(h_D: Array, bias: bool) -> Array:
    """`h_D` and, with a bias, the second moment of its constant input 1."""
    return np.concatenate([h_D, np.ones((*h_D.shape[:-1], 1))], axis=-1) if bias else h_D
