"""Conformance checks: point them at anyone's optimizer and learn which published equation it breaks.

>>> from proofs_checks.conformance import conformance_tests
>>> TestMyMuon = conformance_tests("muon", "torch.optim:Muon", nesterov=True)

Nothing heavy is imported before one of the names below is used: the pytest plug-in loads this package in
every test session of whoever installed it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from proofs_checks.conformance.classes import conformance_tests
    from proofs_checks.conformance.errors import UsageError
    from proofs_checks.conformance.records import CheckRecord, CheckReport, CheckStatus, Level
    from proofs_checks.conformance.run import run_check
    from proofs_checks.conformance.specs import SPECS

__all__ = [
    "SPECS",
    "CheckRecord",
    "CheckReport",
    "CheckStatus",
    "Level",
    "UsageError",
    "conformance_tests",
    "run_check",
]

_HOMES = {
    "SPECS": "specs",
    "CheckRecord": "records",
    "CheckReport": "records",
    "CheckStatus": "records",
    "Level": "records",
    "UsageError": "errors",
    "conformance_tests": "classes",
    "run_check": "run",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
