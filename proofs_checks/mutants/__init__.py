"""Known faults: one textual substitution each, on the source of a module of ours, never on its file.

Two uses. Faults of `reference` modules name what a failing optimizer behaves like. Faults of our own
optimizers are planted into a copy of them to show that the conformance checks find them.
"""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

__all__ = ["Mutant", "mutated"]


@dataclass(frozen=True)
class Mutant:
    """A fault.

    Attributes
    ----------
    id : str
        ``method.what-is-wrong``.
    module : str
        The module whose source is changed.
    old, new : str
        The substitution; `old` must occur exactly once.
    equation : str
        What the code should say, as the conformance checks print it.
    description : str
        What it says instead, in words.
    """

    id: str
    module: str
    old: str
    new: str
    equation: str
    description: str


def mutated(mutant: Mutant, *, dependents: Sequence[str] = ()) -> ModuleType:
    """A faulty copy of the mutant's module, or the last of `dependents` built on top of it.

    Nothing is edited and nothing stays behind: the copy is executed in a fresh module object, and while the
    dependents are executed afresh the import system hands them the copy.

    Parameters
    ----------
    mutant : Mutant
    dependents : sequence of str
        Modules to execute again on top of the faulty one, in the order of their imports.

    Raises
    ------
    ValueError
        If `old` does not occur exactly once in the source, or nothing changes.
    """
    source = _source(mutant.module)
    count = source.count(mutant.old)
    if count != 1 or mutant.old == mutant.new:
        raise ValueError(
            f"mutant {mutant.id}: {mutant.old!r} must occur once in {mutant.module}, found {count}"
        )
    replaced: dict[str, ModuleType] = {}
    try:
        copy = _executed(mutant.module, source.replace(mutant.old, mutant.new), replaced)
        for name in dependents:
            copy = _executed(name, _source(name), replaced)
    finally:
        for name, original in replaced.items():
            _install(name, original)
    return copy


def _source(module: str) -> str:
    """Source text of a module."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ValueError(f"module {module} has no source")
    return Path(spec.origin).read_text(encoding="utf-8")


def _executed(name: str, source: str, replaced: dict[str, ModuleType]) -> ModuleType:
    """`source` executed as a module called `name`, which importers see until the original is put back."""
    original = importlib.import_module(name)
    replaced.setdefault(name, original)
    module = ModuleType(name)
    module.__package__, module.__file__ = original.__package__, f"<mutant of {original.__file__}>"
    _install(name, module)
    exec(compile(source, module.__file__, "exec"), module.__dict__)
    return module


def _install(name: str, module: ModuleType) -> None:
    parent, _, child = name.rpartition(".")
    sys.modules[name] = module
    if parent:
        setattr(sys.modules[parent], child, module)
