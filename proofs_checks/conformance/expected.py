"""Expected failures: a TOML list of ``{id, reason, expires}``, strict in every respect.

    [[expected]]
    id = "muon.momentum[bfloat16,nesterov=False]"
    reason = "reported upstream"
    expires = 2027-06-30

An id is that of a record, or that of a check for all its settings. An entry whose date has passed, that names
no check or lacks a field is a usage error; one that no failure answers to makes what it covers fail.
"""

import datetime
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from proofs_checks.conformance.errors import UsageError, nearest
from proofs_checks.conformance.records import CheckRecord, CheckStatus

__all__ = ["ExpectedFailure", "applied", "known", "load", "without_stale"]

_FIELDS = {"id", "reason", "expires"}


@dataclass(frozen=True)
class ExpectedFailure:
    """One entry of the file."""

    id: str
    reason: str
    expires: datetime.date

    def covers(self, record_id: str) -> bool:
        """Whether the entry speaks of this record."""
        return self.id in (record_id, record_id.partition("[")[0])


def load(path: str | Path, *, today: datetime.date | None = None) -> list[ExpectedFailure]:
    """Read the entries of a file.

    Raises
    ------
    UsageError
        If the file cannot be read, an entry lacks a field or has one too many, or its date has passed.
    """
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"expected failures: cannot read {path}: {error}") from error
    entries = [
        entry for value in content.values() for entry in (value if isinstance(value, list) else [value])
    ]
    return [_entry(entry, path, today or datetime.date.today()) for entry in entries]


def _entry(entry: object, path: str | Path, today: datetime.date) -> ExpectedFailure:
    if not isinstance(entry, dict) or set(entry) != _FIELDS:
        got = ", ".join(sorted(entry)) if isinstance(entry, dict) else type(entry).__name__
        raise UsageError(f"expected failures: an entry of {path} needs id, reason and expires, got {got}")
    name, reason, expires = entry["id"], entry["reason"], _date(entry["expires"])
    if not (isinstance(name, str) and isinstance(reason, str) and reason.strip()):
        raise UsageError(f"expected failures: id and reason must be text, got {name!r}, {reason!r}")
    if expires < today:
        raise UsageError(f"expected failures: {name} expired on {expires}; repair it or renew the date")
    return ExpectedFailure(name, reason, expires)


def _date(value: object) -> datetime.date:
    if isinstance(value, datetime.datetime):
        return value.date()
    if isinstance(value, datetime.date):
        return value
    try:
        return datetime.date.fromisoformat(str(value))
    except ValueError:
        raise UsageError(f"expected failures: expires must be a date YYYY-MM-DD, got {value!r}") from None


def known(entries: Sequence[ExpectedFailure], ids: Sequence[str]) -> None:
    """Check that every entry speaks of a record that will be made.

    Raises
    ------
    UsageError
        If one does not.
    """
    for entry in entries:
        if not any(entry.covers(record) for record in ids):
            hint = nearest(entry.id, [*ids, *(record.partition("[")[0] for record in ids)])
            raise UsageError(f"expected failures: no check {entry.id!r}; {hint.partition('known:')[0]}")


def applied(record: CheckRecord, entries: Sequence[ExpectedFailure]) -> CheckRecord:
    """`record`, as an expected failure if it is one."""
    entry = next((entry for entry in entries if entry.covers(record.id)), None)
    if entry is None or record.status is not CheckStatus.FAILED:
        return record
    message = f"expected until {entry.expires} ({entry.reason}): {record.message}"
    return record.model_copy(update={"status": CheckStatus.EXPECTED_FAILURE, "message": message})


def without_stale(records: list[CheckRecord], entries: Sequence[ExpectedFailure]) -> list[CheckRecord]:
    """`records`, where an entry that no failure answers to turns everything it covers red."""
    failing = [record.id for record in records if record.status is CheckStatus.EXPECTED_FAILURE]
    stale = [entry for entry in entries if not any(entry.covers(name) for name in failing)]

    def judged(record: CheckRecord) -> CheckRecord:
        if not any(entry.covers(record.id) for entry in stale):
            return record
        message = (
            f"expected to fail, but {record.status.replace('_', ' ')}: remove the entry; {record.message}"
        )
        return record.model_copy(update={"status": CheckStatus.FAILED, "message": message})

    return [judged(record) for record in records]
