"""What every command shares: exit codes, errors as one line, a progress bar, a console."""

import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "FAILED",
    "INTERRUPTED",
    "PASSED",
    "USAGE",
    "Refused",
    "finite",
    "make_console",
    "pairs",
    "progress_bar",
    "say",
    "told",
    "writable",
]

PASSED, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


@contextmanager
def progress_bar() -> Iterator[tuple["Console", Callable[[int, int, str], None]]]:
    """Where to print lines meanwhile, and a callback ``(done, total, label)`` that moves a bar on stderr.

    Without a terminal there is no bar. Where bar and lines share a terminal, the lines go above the bar.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        BarColumn(20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    stdout, stderr = make_console(), make_console(stderr=True)
    with Progress(*columns, console=stderr, disable=not stderr.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=None)
        lines = stderr if stdout.is_terminal and stderr.is_terminal else stdout
        yield (
            lines,
            lambda done, total, label: bar.update(task, completed=done, total=total, description=label),
        )


@contextmanager
def told(command: str) -> Iterator[None]:
    """Turn what went wrong, and an interruption, into one line on stderr and an exit code.

    What the caller got wrong is a usage error; a ledger that is broken is a failure of what was asked about.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        say(f"fisherproof {command}: interrupted")
        raise typer.Exit(INTERRUPTED) from error
    except _raised_by(_USAGE_ERRORS) as error:
        say(f"fisherproof {command}: {' '.join(str(error).split())}")
        raise typer.Exit(USAGE) from error
    except _raised_by(_BROKEN) as error:
        say(f"fisherproof {command}: {' '.join(str(error).split())}")
        raise typer.Exit(FAILED) from error


class Refused(Exception):
    """An argument that the command itself cannot honour."""


#: What modules raise when a question cannot be asked, and when the ledger itself cannot be used.
_USAGE_ERRORS = {
    "proofs_checks.terminal": "Refused",
    "proofs_checks.conformance.errors": "UsageError",
    "proofs_checks.ledger.schema": "UnknownClaimError",
    "proofs_checks.verify": "UsageError",
}
_BROKEN = {"proofs_checks.ledger.schema": "LedgerError"}


def _raised_by(homes: Mapping[str, str]) -> tuple[type[Exception], ...]:
    """Classes of error by module and name; only imported modules can have raised."""
    loaded = [getattr(sys.modules[home], name) for home, name in homes.items() if home in sys.modules]
    return tuple(loaded)


def pairs(flag: str, given: Sequence[str] | None) -> dict[str, str]:
    """``K=V`` arguments as a mapping."""
    found = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise Refused(f"{flag} must be NAME=VALUE, got {text!r}")
        found[name] = value
    return found


def finite(value: object) -> object:
    """`value` with numbers that strict JSON cannot hold as text: "inf", "-inf", "nan"."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def writable(folder: Path) -> None:
    """Make `folder` and try to write into it, so that a long run does not end with its results lost."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise Refused(f"cannot write into {str(folder)!r}: {error.strerror or error}") from error


def make_console(*, stderr: bool = False) -> "Console":
    """A console that leaves text as it is."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)


def say(line: str) -> None:
    """One line on stderr."""
    typer.echo(line, err=True)
