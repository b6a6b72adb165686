"""What `fisherproof golden verify` prints."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from proofs_checks.golden.judging import Report
from proofs_checks.report.numbers import count, plain_number

__all__ = ["summary"]

_NUMBERS = ("cases", "worst ratio")


def summary(console: Console, report: Report) -> None:
    """A line per function with its worst ratio; of those that fail the first case with its equation."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("function", "cases", "worst ratio", ""):
        table.add_column(heading, justify="right" if heading in _NUMBERS else "left", overflow="fold")
    for result in report.results:
        verdict = (f"{result.failed} failed", "bold red") if result.failed else ("agrees", "blue")
        table.add_row(
            result.function,
            str(result.cases),
            plain_number(result.worst.value),
            Text.assemble(verdict, (f"  {result.dtype}", "dim")),
        )
    console.print(table)
    producers = ", ".join(sorted({result.producer for result in report.results if result.producer}))
    console.print(Text(f"Produced by: {producers}"), soft_wrap=True)
    for result in report.results:
        if result.failed:
            console.print(Text(f"{result.function}: {result.failure}", style="red"), soft_wrap=True)
            console.print(Text(f"  equation: {result.equation}", style="dim"), soft_wrap=True)
    cases, failed = (sum(getattr(r, name) for r in report.results) for name in ("cases", "failed"))
    if report.agrees:
        console.print(Text(f"Everything agrees: {count(cases, 'case')}.", style="bold"))
    else:
        console.print(Text(f"{count(failed, 'case')} of {cases} failed or missing.", style="bold red"))
