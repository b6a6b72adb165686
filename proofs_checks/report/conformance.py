"""What `fisherproof check` prints: one line per check, and a panel for each equation that broke."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, Group
from rich.panel import Panel
from rich.text import Text

from proofs_checks.conformance import CheckRecord, CheckReport, CheckStatus
from proofs_checks.report.numbers import count, plain_number

__all__ = ["check_summary", "write_scripts"]

_VERDICTS = {
    CheckStatus.FAILED: ("! fails", "bold red"),
    CheckStatus.EXPECTED_FAILURE: ("~ fails as expected", "yellow"),
    CheckStatus.PASSED: ("■ holds", "blue"),
    CheckStatus.NOT_APPLICABLE: ("– does not apply", "dim"),
}


@dataclass(frozen=True)
class _Group:
    """The records of one check over all settings, worst first."""

    name: str
    records: Sequence[CheckRecord]

    @property
    def worst(self) -> CheckRecord:
        return self.records[0]

    @property
    def failed(self) -> list[CheckRecord]:
        return [record for record in self.records if record.status is CheckStatus.FAILED]


def check_summary(console: Console, report: CheckReport, scripts: Mapping[str, Path]) -> None:
    """Print one line per check, a panel per broken equation, and the verdict.

    Parameters
    ----------
    console : Console
        Where to print.
    report : CheckReport
        What the run found.
    scripts : mapping of str to Path
        Where the stand-alone script of a failed record lies, by record id.
    """
    groups = _groups(report)
    for line in _lines(groups):
        console.print(line, soft_wrap=True)
    for group in groups:
        if group.failed:
            console.print(_panel(group, scripts))
    console.print(_verdict(report))


def write_scripts(report: CheckReport, folder: Path) -> dict[str, Path]:
    """Write the script of each broken check's smallest counterexample into `folder`; paths by record id.

    The folder is made only if there is something to write.

    Raises
    ------
    OSError
        If it cannot be written to.
    """
    written: dict[str, Path] = {}
    for group in _groups(report):
        record = _shown(group)
        if record is not None and record.counterexample is not None and record.counterexample.script:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{re.sub('[^A-Za-z0-9.=-]', '_', record.id).strip('_')}.py"
            path.write_text(record.counterexample.script, encoding="utf-8")
            written[record.id] = path
    return written


def _groups(report: CheckReport) -> list[_Group]:
    """Records by check, in the order of the report; within a check failures first, then the largest ratio."""
    by_name: dict[str, list[CheckRecord]] = {}
    for record in report.checks:
        by_name.setdefault(record.id.partition("[")[0], []).append(record)
    order = list(_VERDICTS)
    return [
        _Group(name, sorted(records, key=lambda record: (order.index(record.status), -_used(record))))
        for name, records in by_name.items()
    ]


def _used(record: CheckRecord) -> float:
    """Ratio over threshold; a failure without a finite ratio counts as infinite."""
    if record.ratio is None or not record.threshold:
        return float("inf") if record.status is CheckStatus.FAILED else 0.0
    return record.ratio / record.threshold


def _lines(groups: Sequence[_Group]) -> Iterator[Text]:
    """Verdict, check, level and error over allowed error, in columns."""
    width = max((len(group.name) for group in groups), default=0)
    verdicts = max(len(word) for word, _ in _VERDICTS.values())
    for group in groups:
        word, style = _VERDICTS[group.worst.status]
        settings = len(group.records)
        among = f"  in {len(group.failed)} of {settings} settings" if group.failed and settings > 1 else ""
        line = Text.assemble((f"{word:<{verdicts}}", style))
        line.append(f"  {group.name:<{width}}  {group.worst.level.value}")
        line.append(f"  {_ratio(group.worst)}{among}".rstrip(), style=style if group.failed else "dim")
        yield line


def _ratio(record: CheckRecord) -> str:
    if record.ratio is None or record.threshold is None:
        return ""
    return f"{plain_number(record.ratio)} of {plain_number(record.threshold)}"


def _shown(group: _Group) -> CheckRecord | None:
    """The failed record to show: one with a counterexample if there is any, of the fewest numbers."""
    with_input = [record for record in group.failed if record.counterexample is not None]
    return min(with_input, key=_size, default=group.failed[0] if group.failed else None)


def _size(record: CheckRecord) -> int:
    return len(str(record.counterexample.inputs)) if record.counterexample else 0


def _panel(group: _Group, scripts: Mapping[str, Path]) -> Panel:
    record = _shown(group)
    assert record is not None  # only groups with a failure get a panel
    message = record.message.removeprefix(f"violated: {record.equation}").lstrip(": ")
    parts = [Text(record.equation, style="bold"), Text(message)]
    parts += [Text(line, style="dim") for line in _facts(group, record)]
    if record.counterexample is not None:
        parts.append(Text("smallest input found:"))
        parts += [Text(f"  {line}") for line in _inputs(record.counterexample.inputs)]
    if record.nearest_mutant:
        parts.append(
            Text(f"behaves like {record.nearest_mutant.removeprefix('behaves like ')}", style="yellow")
        )
    if record.id in scripts:
        parts.append(Text(f"reproduce: python {scripts[record.id]}"))
    finite = record.ratio is not None and math.isfinite(record.ratio)
    title = f"{record.id}: {_ratio(record)} budgets" if finite else record.id
    return Panel(Group(*parts), title=Text(title), title_align="left", border_style="red")


def _facts(group: _Group, record: CheckRecord) -> Iterator[str]:
    """Where else it fails, and which claim of the ledger is at stake."""
    others = [other.id.partition("[")[2].rstrip("]") for other in group.failed if other is not record]
    if others:
        yield f"also with {'; '.join(others)}"
    if record.claim:
        yield f"claim {record.claim} (fisherproof claims {record.claim})"


def _inputs(inputs: Mapping[str, object]) -> Iterator[str]:
    """Name and value of each input that is not empty, to three digits; the script holds every bit."""
    for name, value in inputs.items():
        if value in ([], {}, ""):
            continue
        plain = _decimal(value)
        yield f"{name} = {plain if isinstance(plain, str) else _nested(plain)}"


def _decimal(value: object) -> object:
    """`value` with every hexadecimal float as a decimal one of few digits."""
    if isinstance(value, str):
        try:
            return plain_number(float.fromhex(value)) if "0x" in value else value
        except ValueError:
            return value
    if isinstance(value, Mapping):
        return {key: _decimal(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_decimal(item) for item in value]
    return plain_number(value) if isinstance(value, float) else str(value)


def _nested(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_nested(item)}" for key, item in value.items())
    if isinstance(value, list):
        return f"[{', '.join(map(_nested, value))}]"
    return str(value)


def _verdict(report: CheckReport) -> Text:
    summary = report.summary
    tally = f"{summary.passed} passed, {summary.failed} failed"
    if summary.expected_failures:
        tally += f", {summary.expected_failures} failed as expected"
    if summary.not_applicable:
        tally += f", {count(summary.not_applicable, 'does', 'do')} not apply"
    variant = ", ".join(f"{name}={value}" for name, value in report.variant.items())
    judged = f"{report.target} against spec {report.spec}{f' ({variant})' if variant else ''}: {tally}."
    if report.conforms:
        return Text(f"Conforms. {judged}", style="bold")
    return Text(f"Does not conform. {judged}", style="bold red")
