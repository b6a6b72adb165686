"""Keeping the host's bookkeeping out of compiled graphs."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch

__all__ = ["uncompiled"]

F = TypeVar("F", bound=Callable[..., Any])


def uncompiled(function: F) -> F:
    """`torch.compiler.disable`, without importing the compiler where nothing is compiled.

    The original imports it when it decorates, which doubles the time of ``import torch_impl``.
    """

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return torch.compiler.disable(function)(*args, **kwargs)  # type: ignore[no-untyped-call]
        return function(*args, **kwargs)

    return call  # type: ignore[return-value]
