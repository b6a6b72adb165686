"""Finding evidence functions: by their path in the ledger, or all of them by walking the packages."""

import importlib
import pkgutil
from types import ModuleType

import proofs_checks
from proofs_checks.evidence import KINDS, Evidence, Kind
from proofs_checks.ledger.schema import LedgerError

__all__ = ["all_evidence", "is_evidence", "kind_of", "resolve_evidence"]

_DECLARED = ("faults", "scope", "tier", "refutes")


def is_evidence(thing: object) -> bool:
    """Whether `thing` is a function declared with `proofs_checks.evidence.evidence`."""
    return callable(thing) and all(hasattr(thing, name) for name in _DECLARED)


def kind_of(path: str) -> Kind:
    """Kind of the evidence at a ledger path: the package it lives in."""
    return Kind(path.partition(".")[0])


def resolve_evidence(path: str) -> Evidence:
    """The evidence function at a ledger path such as ``symbolic.theorem_4_2:optimal_value``.

    Raises
    ------
    LedgerError
        If the module cannot be imported, has no such function, or the function is not declared as evidence.
    """
    module_name, _, function_name = path.partition(":")
    try:
        module = importlib.import_module(f"proofs_checks.{module_name}")
    except Exception as error:  # whatever a broken module raises, the ledger reports it under this path
        raise LedgerError(f"{path}: proofs_checks.{module_name} cannot be imported: {error!r}") from error
    function = getattr(module, function_name, None)
    if function is None:
        raise LedgerError(f"{path}: proofs_checks.{module_name} has no function {function_name!r}")
    if not is_evidence(function):
        raise LedgerError(f"{path}: {function_name!r} is not declared with @evidence")
    return function


def all_evidence() -> tuple[dict[str, Evidence], list[str]]:
    """Every public evidence function by its ledger path, and a line for each module that cannot be imported.

    Public means listed in the module's ``__all__``, or declared there under a name without a leading
    underscore.
    """
    found: dict[str, Evidence] = {}
    broken: list[str] = []
    for kind in KINDS:
        package = f"{proofs_checks.__name__}.{kind}"
        for name in _module_names(package):
            try:
                module = importlib.import_module(name)
            except Exception as error:
                broken.append(f"{name} cannot be imported: {error!r}")
                continue
            found.update(_public_evidence(module))
    return found, broken


def _module_names(package: str) -> list[str]:
    folder = importlib.import_module(package).__path__
    return [package, *(module.name for module in pkgutil.walk_packages(folder, prefix=f"{package}."))]


def _public_evidence(module: ModuleType) -> dict[str, Evidence]:
    listed = set(getattr(module, "__all__", ()))
    short = module.__name__.removeprefix(f"{proofs_checks.__name__}.")
    found = {}
    for name, thing in vars(module).items():
        if not is_evidence(thing) or getattr(thing, "__module__", None) != module.__name__:
            continue  # a package that re-exports a function of its modules does not own it
        if name in listed or not name.startswith("_"):
            found[f"{short}:{name}"] = thing
    return found
