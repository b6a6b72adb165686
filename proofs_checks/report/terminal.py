"""What `fisherproof verify` and `fisherproof claims` print: plain where it is piped, wrapped where narrow."""

import json
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from proofs_checks.evidence import Scope
from proofs_checks.ledger import Assumption, Claim, Dossier
from proofs_checks.ledger.dossier import KnownAssumption, KnownEvidence, Tightness
from proofs_checks.report.numbers import count, duration, plain_number, rounded_down
from proofs_checks.report.words import (
    KIND_WORDS,
    ORDER,
    PROVENANCE,
    STATUS_WORDS,
    ablation_words,
    disagreements,
    headline_words,
)
from proofs_checks.results import ClaimResult, Status, TwinResult, VerifyResults

__all__ = ["claim_details", "claim_line", "ledger_lines", "run_summary", "status_text", "twin_line"]

_STYLES = {
    Status.PROVED: "blue",
    Status.CERTIFIED: "blue",
    Status.SUPPORTED: "cyan",
    Status.REFUTED: "yellow",
    Status.VACUOUS: "dim",
    Status.UNTESTED: "dim",
    Status.FAILING: "bold red",
}
_FEW = 10
_STATUS_WIDTH = 2 + max(len(status.value) for status in Status)


def status_text(status: Status) -> Text:
    """A status with its mark, in its colour."""
    return Text.assemble((f"{STATUS_WORDS[status].mark} {status.value}", _STYLES[status]))


def claim_line(claim: ClaimResult) -> Text:
    """One line for a claim that was run; a second where it does not agree with the ledger."""
    line = _columns(status_text(claim.derived), claim.id)
    kinds = ", ".join(dict.fromkeys(KIND_WORDS[evidence.kind] for evidence in claim.evidence))
    if kinds:
        line.append(f"  {kinds}", style="dim")
    if claim.pending:
        line.append("  (part waits for a longer tier)", style="dim")
    if not claim.agrees:
        line.append(f"\n    {claim.reason}", style="red")
    return line


def twin_line(twin: TwinResult) -> Text:
    """One line for a comparison of PyTorch with the reference."""
    passed = twin.worst.passed
    verdict = Text.assemble(("= agrees", "blue") if passed else ("! differs", "bold red"))
    line = _columns(verdict, f"{twin.name} {twin.dtype}")
    line.append(f"  {_share(twin.worst.value, twin.worst.threshold)} on {twin.worst_input}", style="dim")
    return line


def run_summary(console: Console, results: VerifyResults) -> None:
    """What is not known, the closing table by status, what needs attention, and the verdict on the run."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(justify="right")
    for _ in range(2):
        table.add_column(overflow="fold")
    for status in ORDER:
        if results.counts.get(status):
            table.add_row(
                str(results.counts[status]),
                status_text(status),
                Text(STATUS_WORDS[status].meaning, style="dim"),
            )
    console.print()
    console.print(Text(headline_words(results.headline), style="bold"), soft_wrap=True)
    console.print()
    console.print(table)
    console.print()
    _list(console, "problem", [*results.problems, *results.record_problems], style="red")
    _list(console, "warning", results.warnings, style="yellow")
    console.print(_verdict(results))


def _list(console: Console, word: str, items: Sequence[str], *, style: str) -> None:
    """The first few of many; the page has them all."""
    for item in items[:_FEW]:
        console.print(Text(f"{word}: {item}", style=style), soft_wrap=True)
    if items[_FEW:]:
        console.print(Text(f"... and {count(len(items[_FEW:]), f'more {word}')}", style=style))


def _verdict(results: VerifyResults) -> Text:
    compared = count(len(results.twins), "comparison")
    ran = f"{count(len(results.claims), 'claim')} and {compared} in {duration(results.seconds)}"
    if results.agrees:
        return Text(f"Everything agrees with the ledger: {ran}.", style="bold")
    broken = ", ".join(disagreements(results))
    return Text(f"Does not agree with the ledger: {broken}, out of {ran}.", style="bold red")


def ledger_lines(console: Console, claims: Mapping[str, Claim], statuses: Mapping[str, Status]) -> None:
    """One line per claim under a heading per source; statements are cut at the width of a terminal only."""
    section = ""
    for claim in claims.values():
        if claim.section != section:
            section = claim.section
            console.print(Text(f"\n{section}", style="bold"))
        line = _columns(status_text(statuses[claim.id]), f"{claim.id:<28}")
        line.append(f"  {claim.statement.strip()}", style="dim")
        if console.is_terminal:
            console.print(line, no_wrap=True, overflow="ellipsis")
        else:
            console.print(line, soft_wrap=True)


def claim_details(
    console: Console,
    claim: Claim,
    known: Dossier,
    *,
    assumptions: Mapping[str, Assumption],
    instead: Claim | None,
) -> None:
    """Everything the ledger and the last recorded run hold on one claim."""
    console.print(Text.assemble((claim.id, "bold"), "  ", status_text(known.status), "\n"))
    console.print(Padding(Text(claim.statement.strip()), (0, 0, 1, 2)))
    rows = [
        ("source", claim.source),
        ("known how", "; ".join(PROVENANCE[tag][0] + ": " + PROVENANCE[tag][1] for tag in claim.provenance)),
        ("kind", claim.kind.value),
        ("where", f"{claim.section}; specification {', '.join(claim.where)}"),
        ("verdict", f"{known.status.value}: {known.reason}" if claim.evidence else ""),
        *(("assuming", _assumption(entry, assumptions)) for entry in known.ablation),
        ("holds instead", f"{instead.id}: {instead.statement.strip()}" if instead else ""),
        ("note", (claim.note or "").strip()),
        ("not tested", (claim.blocked or "").strip()),
        *(("evidence", "\n".join(_evidence(entry))) for entry in known.findings),
        ("tightness", _tightness(known.tightness) if known.tightness else ""),
        ("counterexample", _instance(known.counterexample) if known.counterexample else ""),
        ("run it", known.reproduce or ""),
    ]
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in rows:
        if value:
            table.add_row(name, Text(value))
    console.print(table)


def _assumption(entry: KnownAssumption, assumptions: Mapping[str, Assumption]) -> str:
    """An assumption, and what is known of the claim without it."""
    statement = f"{entry.id}: {' '.join(assumptions[entry.id].statement.split())}"
    if entry.ablation is not None:
        return f"{statement}\n  {ablation_words(entry.ablation)}"
    return f"{statement}\n  {' '.join((entry.exempt or 'its ablation was not recorded').split())}"


def _evidence(entry: KnownEvidence) -> Iterator[str]:
    """A piece of evidence with what it found when it was last recorded, line by line."""
    recorded = entry.recorded
    if recorded is None:
        yield f"{entry.path}: nothing recorded yet"
        return
    scope = "on a region" if recorded.scope is Scope.REGION else "on the whole domain"
    negation = " of the negation" if recorded.refutes else ""
    yield f"{entry.path} ({KIND_WORDS[recorded.kind]}{negation}, {scope})"
    if entry.stale:
        yield "  recorded with an older version of this evidence"
    yield f"  {recorded.summary}"
    if recorded.figures:
        yield "  figures: " + ", ".join(f"{name} {plain_number(x)}" for name, x in recorded.figures.items())
    for ablation in recorded.ablations:
        yield f"  {ablation.claim} without {ablation.assumption}: {ablation_words(ablation)}"
    worst = f"the worst at {plain_number(recorded.worst)} of its threshold" if recorded.worst else "all exact"
    faults = count(len(recorded.faults), "planted fault")
    yield f"  {count(recorded.decisions, 'decision')}, {worst}; turns red under {faults}"


def _tightness(found: Tightness) -> str:
    """How nearly the bound was attained, by what, and what the search spent."""
    spent = ", ".join(f"{plain_number(n)} {name}" for name, n in found.budget.items())
    spent = spent or count(found.decisions, "decision")
    return f"{rounded_down(found.value)} of the bound was reached, by {found.evidence}; budget: {spent}"


def _instance(counterexample: Mapping[str, object]) -> str:
    """The exact instance, one entry a line."""
    return "\n".join(
        f"{name} = {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for name, value in counterexample.items()
    )


def _columns(first: Text, second: str) -> Text:
    line = first.copy()
    line.append(" " * max(1, _STATUS_WIDTH + 1 - len(first)))
    line.append(second)
    return line


def _share(value: float, threshold: float) -> str:
    return f"{plain_number(value)} of {plain_number(threshold)}"
