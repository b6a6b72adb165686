"""What a run found, for people: a page (`write_report`), and text for the terminal."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from proofs_checks.report.html import write_report

__all__ = ["write_report"]


def __getattr__(name: str) -> Any:
    """Import `write_report`, and Matplotlib with it, only when asked for: the terminal needs neither."""
    if name != "write_report":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from proofs_checks.report.html import write_report

    return write_report
