"""Optional packages of the examples: what is not installed skips its tests and says how to install it."""

import importlib
import warnings
from types import ModuleType

import pytest

__all__ = ["ecosystem"]


def ecosystem(*modules: str) -> list[ModuleType]:
    """The modules, or a skip that names their extra. What their import warns about is their affair."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return [importlib.import_module(module) for module in modules]
        except ImportError as error:
            pytest.skip(f"needs the extra 'ecosystem' (pip install 'fisherproof[ecosystem]'): {error}")
