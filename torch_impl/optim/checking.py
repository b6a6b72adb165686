"""What every optimizer here asks of its options, parameters and gradients."""

import torch
from torch import Tensor

from torch_impl import _checks
from torch_impl.optim import sharding

__all__ = ["NONFINITE", "check_dense_real", "checked_gradient", "flag", "learning_rate"]

#: What a step may do with an infinity or a NaN.
NONFINITE = ("raise", "skip")


def learning_rate(value: float | Tensor, *, wait: bool = False) -> None:
    """Raise ValueError or TypeError unless `lr` is a number or a one-element tensor, finite and at least 0.

    The value of a tensor on a GPU is looked at only if the host may wait for it.
    """
    if isinstance(value, Tensor):
        if value.numel() != 1 or not value.is_floating_point():
            raise ValueError(f"lr must be a number or a real tensor of one element, got {tuple(value.shape)}")
        if value.device.type != "cpu" and not wait:
            return
        value = value.item()
    _checks.number("lr", value, at_least=0.0)


def flag(name: str, value: bool) -> bool:
    """Return `value` if it is True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {type(value).__name__}")
    return value


def checked_gradient(where: str, gradient: Tensor, parameter: Tensor) -> Tensor:
    """Return the gradient, laid out as its parameter; ValueError if it does not fit."""
    if (  # the usual case, cheaply: this is asked of every tensor in every step
        type(gradient) in sharding.PLAIN
        and type(parameter) in sharding.PLAIN
        and gradient.dtype is parameter.dtype
        and gradient.layout is torch.strided
        and gradient.shape == parameter.shape
        and gradient.get_device() == parameter.get_device()
    ):
        return gradient
    check_dense_real(f"the gradient of {where}", gradient)
    if gradient.shape != parameter.shape or gradient.device != parameter.device:
        raise ValueError(
            f"the gradient of {where} must have shape {tuple(parameter.shape)} "
            f"on {parameter.device}, got {tuple(gradient.shape)} on {gradient.device}"
        )
    return sharding.matched(gradient, parameter)


def check_dense_real(name: str, x: Tensor) -> None:
    """Raise ValueError unless `x` is a dense tensor of real floating-point numbers."""
    if x.is_complex():
        raise ValueError(f"{name} must be real, got {x.dtype}")
    _checks.tensor(name, x)
