"""Global state that a target must leave alone: looked at, compared, put back."""

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

__all__ = ["changed", "kept", "restore", "snapshot"]

#: NumPy's global generator, which a target may still use.
_legacy = np.random.mtrand._rand


def snapshot() -> dict[str, Any]:
    """Everything global that optimizers have been seen to touch."""
    return {
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "number of threads": torch.get_num_threads(),
        "torch random state": torch.get_rng_state(),
        "NumPy random state": _legacy.get_state(legacy=False),
        "Python random state": random.getstate(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "float32 matmul precision": torch.get_float32_matmul_precision(),
        "NumPy error handling": np.geterr(),
        "gradient mode": torch.is_grad_enabled(),
    }


def changed(before: dict[str, Any]) -> list[str]:
    """Names of what is not as it was."""
    return [name for name, value in snapshot().items() if not _same(value, before[name])]


def restore(before: dict[str, Any]) -> None:
    """Put everything back."""
    torch.set_default_dtype(before["default dtype"])
    torch.set_default_device(before["default device"] if before["default device"].type != "cpu" else None)
    torch.set_num_threads(before["number of threads"])
    torch.set_rng_state(before["torch random state"])
    _legacy.set_state(before["NumPy random state"])
    random.setstate(before["Python random state"])
    torch.use_deterministic_algorithms(before["deterministic algorithms"])
    torch.set_float32_matmul_precision(before["float32 matmul precision"])
    np.seterr(**before["NumPy error handling"])
    torch.set_grad_enabled(before["gradient mode"])


@contextlib.contextmanager
def kept() -> Iterator[list[str]]:
    """Restore on the way out; the list then names what had been changed inside."""
    before, leaks = snapshot(), list[str]()
    try:
        yield leaks
    finally:
        leaks.extend(changed(before))
        if leaks:
            restore(before)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    return bool(a == b)
