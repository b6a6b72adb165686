"""Writing golden vectors: all files or none."""

import os
import shutil
from pathlib import Path

from proofs_checks.golden.case import GoldenError
from proofs_checks.golden.document import PRODUCER, read, text
from proofs_checks.golden.functions import FUNCTIONS
from proofs_checks.golden.readme import TITLE, readme

__all__ = ["export"]

README = "README.md"


def export(folder: Path) -> int:
    """Write the golden vectors of every function into `folder`, and say how many cases they hold.

    The files are complete in a directory of their own before it takes the place of `folder`; an earlier
    export is replaced, anything else in `folder` is not touched.

    Raises
    ------
    GoldenError
        If `folder` holds what is not an export of ours, is the current directory, or cannot be written.
    """
    target = folder.resolve()
    try:
        _replaceable(target, shown=str(folder))
        files = {f"{name}.json": text(function) for name, function in FUNCTIONS.items()}
        files[README] = readme(FUNCTIONS.values())
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        partial.mkdir()
        try:
            for name, content in files.items():
                (partial / name).write_text(content, encoding="utf-8")
            _replace(target, partial)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise GoldenError(f"cannot write into {str(folder)!r}: {error.strerror or error}") from error
    return sum(len(function.cases) for function in FUNCTIONS.values())


def _replaceable(target: Path, *, shown: str) -> None:
    """Check that nothing is lost if `target` is replaced."""
    if not target.exists():
        return
    if not target.is_dir():
        raise GoldenError(f"{shown!r} is not a directory")
    if target == Path.cwd():
        raise GoldenError("the current directory cannot be replaced; name one below it")
    for entry in sorted(target.iterdir()):
        if not _ours(entry):
            raise GoldenError(
                f"{shown!r} holds {entry.name!r}, which is not of an export; name a new directory"
            )


def _ours(entry: Path) -> bool:
    """Whether a file was exported and its outputs were not replaced by somebody's own."""
    if not entry.is_file() or entry.is_symlink():
        return False
    content = entry.read_text(encoding="utf-8", errors="replace")
    if entry.name == README:
        return content.startswith(TITLE)
    if entry.suffix != ".json":
        return False
    try:
        return read(entry.name, content).producer == PRODUCER
    except GoldenError:
        return False


def _replace(target: Path, partial: Path) -> None:
    """Put `partial` in the place of `target`; if that fails, `target` is as it was."""
    if not target.exists():
        partial.rename(target)
        return
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    target.rename(old)
    try:
        partial.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old)
