"""The code of the evidence, read and never imported: whether it is there, and a digest that dates figures.

The code of a piece of evidence is its module with the modules of the evidence packages that it imports, such
as the attacks that a search runs. What the evidence examines is not part of it.
"""

import hashlib
import re
from functools import cache
from pathlib import Path

import proofs_checks
from proofs_checks.evidence import KINDS
from proofs_checks.ledger.schema import LedgerError

__all__ = ["check_evidence_exists", "digest_of_evidence"]

_ROOT = Path(proofs_checks.__file__).parent
_KINDS = "|".join(KINDS)
_FROM_MODULE = re.compile(
    rf"^\s*from proofs_checks\.((?:{_KINDS})[\w.]*) import \(?([\w, \n]+)", re.MULTILINE
)


def check_evidence_exists(path: str) -> None:
    """Find the function at a ledger path in its module's text, without importing anything.

    Raises
    ------
    LedgerError
        If the module does not exist or does not mention such a function.
    """
    module, _, function = path.partition(":")
    text = _text(module)
    if text is None:
        raise LedgerError(f"{path}: there is no module proofs_checks.{module}")
    if not re.search(rf"\b{function}\b", text):
        raise LedgerError(f"{path}: proofs_checks.{module} has no function {function!r}")


def digest_of_evidence(path: str) -> str:
    """Digest of the code behind an evidence path, 16 hexadecimal digits; empty if there is no such module."""
    modules: dict[str, str] = {}
    _collect(path.partition(":")[0], modules)
    if not modules:
        return ""
    content = "".join(f"{name}\n{modules[name]}\n" for name in sorted(modules))
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _collect(module: str, found: dict[str, str]) -> None:
    """Add the text of a module and of the evidence modules that it imports, directly or not."""
    text = _text(module)
    if text is None or module in found:
        return
    found[module] = text
    for imported in _imports(module):
        _collect(imported, found)


@cache
def _imports(module: str) -> tuple[str, ...]:
    """Evidence modules named in import statements; a name imported from a package may be one, too."""
    named: list[str] = []
    for match in _FROM_MODULE.finditer(_text(module) or ""):
        named += [match[1], *(f"{match[1]}.{name}" for name in re.findall(r"\w+", match[2]))]
    return tuple(dict.fromkeys(named))


@cache
def _text(module: str) -> str | None:
    """Source of ``proofs_checks.<module>``, or None where there is no such file."""
    place = _ROOT.joinpath(*module.split("."))
    for path in (place.with_suffix(".py"), place / "__init__.py"):
        if path.is_file():
            return path.read_text(encoding="utf-8")
    return None
