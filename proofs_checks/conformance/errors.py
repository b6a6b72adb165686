"""The ways in which a check ends without a verdict."""

import difflib
from collections.abc import Iterable

__all__ = ["NotApplicable", "TargetRaised", "UsageError", "nearest"]


class UsageError(ValueError):
    """The question cannot be asked as put: one line that says what was needed and what came.

    The command line prints it and ends with status 2.
    """


class NotApplicable(Exception):
    """A check has nothing to say about this target in this setting; the text says why."""


class TargetRaised(Exception):
    """The target itself raised, in the constructor or in a step; the text is its first line."""

    def __init__(self, error: Exception) -> None:
        super().__init__(f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}")


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint for a name that is not among `known`: the closest one, then all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known: {', '.join(names)}"
