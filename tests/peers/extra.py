"""Optional packages: a peer that is not installed skips its test and says how to install it."""

import importlib
import warnings
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray

Array = NDArray[np.float64]


def peer(module: str) -> ModuleType:
    """The module, or a skip that names the extra it belongs to. What its import warns about is its affair."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(module)
        except ImportError as error:
            pytest.skip(f"{module} needs the extra 'peers' (pip install 'fisherproof[peers]'): {error}")


def optax_path(name: str, W: Array, G: Array, **options: object) -> Array:
    """Parameters after each step of an optax optimizer in float64, for given gradients; `name` is dotted."""
    jax, module = peer("jax"), peer("optax")
    *parents, function = name.split(".")
    for parent in parents:
        module = peer(f"{module.__name__}.{parent}")
    with warnings.catch_warnings(), jax.enable_x64(True):
        warnings.simplefilter("ignore")
        numbers = jax.numpy
        optimizer = getattr(module, function)(**options)
        parameter = numbers.asarray(W)
        state, path = optimizer.init(parameter), []
        for g in G:
            update, state = optimizer.update(numbers.asarray(g), state, parameter)
            parameter = parameter + update
            path.append(np.asarray(parameter).copy())
    assert path[-1].dtype == np.float64
    return np.array(path)
