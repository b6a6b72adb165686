"""The pytest plug-in that installing fisherproof registers.

It only announces the marker that classes made by `proofs_checks.conformance.conformance_tests` carry, so that
``pytest -m conformance`` selects them and strict markers accept them. Keep it light: no torch, no NumPy.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

__all__ = ["pytest_configure"]


def pytest_configure(config: "pytest.Config") -> None:
    """Register the ``conformance`` marker."""
    config.addinivalue_line(
        "markers", "conformance: one check of an optimizer against its published equations"
    )
