"""The command line: `fisherproof verify`, `fisherproof check`, `fisherproof claims`.

This module only reads arguments, calls the module that does the work and turns its outcome into an exit
code: 0 when everything holds, 1 when something does not, 2 when the question could not be asked, 130 when
interrupted. Whatever is slow to import is imported by the command that needs it, so that help comes at once.
"""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from proofs_checks.terminal import (
    FAILED,
    PASSED,
    Refused,
    finite,
    make_console,
    pairs,
    progress_bar,
    say,
    told,
    writable,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from proofs_checks.conformance import CheckReport
    from proofs_checks.ledger import Claim, Dossier
    from proofs_checks.results import VerifyResults

__all__ = ["app", "main"]

#: Where `check` writes the scripts that reproduce failures, below the current directory.
FAILURES = Path("fisherproof-failures")

app = typer.Typer(
    name="fisherproof",
    help="Checks optimizer mathematics: equations, implementations and claims, with machine-made evidence.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

GREETING = """\
fisherproof {version} checks optimizer mathematics. Three ways to start:

  fisherproof check torch.optim:Muon --spec muon   which published equation does an optimizer break?
  fisherproof verify                               check every claim of the ledger and write a report
  fisherproof claims KO-theorem2                   one claim: statement, source, status, evidence

fisherproof COMMAND --help explains a command and shows an example."""


def main() -> None:
    """Entry point of the command; text that the terminal cannot encode is replaced, never an error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    app()


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fisherproof {_version()}")
        raise typer.Exit()


@app.callback(invoke_without_command=True, epilog="Example: fisherproof verify --claims 'KO-*'")
def greet(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Checks optimizer mathematics: equations, implementations and claims, with machine-made evidence."""
    if context.invoked_subcommand is None:
        typer.echo(GREETING.format(version=_version()))


@app.command(epilog="Example: fisherproof verify --tier full --claims 'FISMO-*' --out build/fismo")
def verify(
    tier: Annotated[
        Literal["fast", "full", "nightly"],
        typer.Option(help="How much evidence to run: under 1, 5 or 20 minutes."),
    ] = "fast",
    device: Annotated[
        Literal["cpu", "cuda"], typer.Option(help="Where the PyTorch implementations run.")
    ] = "cpu",
    claims: Annotated[
        str, typer.Option(metavar="GLOB", help="Claims to verify, by id; quote the pattern.")
    ] = "*",
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where results.json and index.html go.")] = Path(
        "build/report"
    ),
    record: Annotated[
        bool, typer.Option("--record", help="Keep the statuses found as the recorded ones.")
    ] = False,
) -> None:
    """Run the evidence of every claim, compare PyTorch with the reference, and write a report.

    Exit status: 0 if every status equals the recorded one and every comparison passes, 1 if not, 2 for a
    usage error.
    """
    with told("verify"):
        writable(out)
        results = _verify(tier=tier, device=device, claims=claims)
        from proofs_checks.report import write_report
        from proofs_checks.report.terminal import run_summary
        from proofs_checks.verify import write_results

        console = make_console()
        run_summary(console, results)
        write_results(results, out)
        console.print(f"Report: {write_report(results, out)}", soft_wrap=True)
        agrees = _recorded(results, console) if record else results.agrees
    raise typer.Exit(PASSED if agrees else FAILED)


def _verify(*, tier: str, device: str, claims: str) -> "VerifyResults":
    """Run with one line per claim and comparison, and a progress bar where somebody watches."""
    from proofs_checks.report.terminal import claim_line, twin_line
    from proofs_checks.verify import run_verify

    with progress_bar() as (lines, progress):
        return run_verify(
            tier,
            claims,
            device,
            progress=progress,
            on_claim=lambda claim: lines.print(claim_line(claim), soft_wrap=True),
            on_twin=lambda twin: lines.print(twin_line(twin), soft_wrap=True),
        )


def _recorded(results: "VerifyResults", console: "Console") -> bool:
    """Record the statuses of a run; whether that was possible and every comparison with PyTorch passed."""
    from proofs_checks.ledger import record

    try:
        console.print(f"Recorded: {record(results)}; the ledger now holds these statuses.", soft_wrap=True)
    except ValueError as error:
        say(f"fisherproof verify: not recorded: {error}")
        return False
    return all(twin.worst.passed for twin in results.twins)


@app.command(epilog="Example: fisherproof claims FISMO-T4.2-lmo")
def claims(
    id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="One claim; all of them without it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the ledger with the recorded statuses, or one claim with everything recorded about it.

    Nothing is run: figures, tightness and counterexamples are those of the last recorded run.

    Exit status: 0, or 1 if a file of the ledger or of the record is broken, 2 for a usage error.
    """
    with told("claims"):
        from proofs_checks.ledger import get_claim, load_assumptions, load_claims
        from proofs_checks.report.terminal import claim_details, ledger_lines

        ledger = load_claims()
        chosen = {id: get_claim(id)} if id else ledger
        dossiers = _dossiers(chosen)
        if as_json:
            documents = [
                finite(claim.model_dump(mode="json") | dossiers[claim.id].model_dump(mode="json"))
                for claim in chosen.values()
            ]
            typer.echo(json.dumps(documents[0] if id else documents, indent=1, ensure_ascii=False))
        elif id:
            instead = ledger.get(chosen[id].replaced_by or "")
            claim_details(
                make_console(), chosen[id], dossiers[id], assumptions=load_assumptions(), instead=instead
            )
        else:
            ledger_lines(make_console(), chosen, {name: entry.status for name, entry in dossiers.items()})


def _dossiers(claims: "Mapping[str, Claim]") -> "dict[str, Dossier]":
    """What was recorded about each claim, once the files have been found to agree with each other."""
    from proofs_checks.ledger import (
        LedgerError,
        check_evidence_exists,
        dossier,
        load_claims,
        load_exemptions,
        load_figures,
        load_recorded,
        record_problems,
    )

    recorded, figures, exemptions = load_recorded(), load_figures(), load_exemptions()
    for path in dict.fromkeys(path for claim in claims.values() for path in claim.evidence):
        check_evidence_exists(path)
    for problem in record_problems(load_claims(), recorded, figures):
        raise LedgerError(problem)
    return {id: dossier(claim, recorded.status(id), figures, exemptions) for id, claim in claims.items()}


@app.command(epilog='Example: fisherproof schedules --coefficients "3.4445,-4.775,2.0315; 2,-1.5,0.5"')
def schedules(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="One published schedule; all of them without it.")
    ] = None,
    coefficients: Annotated[
        str | None,
        typer.Option(metavar="'A,B,C; ...'", help="Your own: of x, x^3, x^5, ... for each step."),
    ] = None,
    interval: Annotated[
        str | None, typer.Option(metavar="L,U", help="Singular values after normalisation; 0.001,1 if yours.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Certify what orthogonalisation schedules do to singular values: images, slopes, signs.

    Exit status: 0 if every figure is certified, 1 if one is not, 2 for a usage error.
    """
    with told("schedules"):
        from proofs_checks.schedules import certificates, choose, details, document, table

        try:
            found = certificates(choose(name, coefficients, interval))
        except ValueError as error:
            raise Refused(str(error)) from error
        single = bool(name or coefficients)
        if as_json:
            documents = [document(entry) for entry in found]
            typer.echo(json.dumps(documents[0] if single else documents, indent=1))
        elif single:
            details(make_console(), found[0])
        else:
            table(make_console(), found)
    raise typer.Exit(PASSED if all(entry.narrow for entry in found) else FAILED)


@app.command(epilog="Example: fisherproof check mypkg.optim:MyMuon --spec muon --rename momentum=beta1")
def check(
    target: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:ATTR", help="Optimizer class, factory or step function; FILE.py:ATTR also works."
        ),
    ],
    spec: Annotated[
        str, typer.Option(metavar="NAME", help="What it should be, such as muon, fismo, sofim or adafisher.")
    ],
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="K=V", help="A variant of the spec, or a constructor argument."),
    ] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option(metavar="CANONICAL=THEIRS", help="What the target calls a hyper-parameter."),
    ] = None,
    level: Annotated[Literal["L0", "L1", "L2", "L3"], typer.Option(help="How deep to look.")] = "L3",
    device: Annotated[str, typer.Option(help="Where to run, such as cpu or cuda.")] = "cpu",
    dtype: Annotated[str | None, typer.Option(help="One precision only, such as float32.")] = None,
    expected_failures: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Checks that are known to fail, with reason and expiry date."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the report as JSON.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the random inputs.")] = 0,
) -> None:
    """Run the conformance checks on anyone's optimizer: which published equation breaks, and by how much?

    Exit status: 0 if it conforms, 1 if not, 2 for a usage error.
    """
    console = make_console()
    console.print(f"fisherproof {_version()}: checking {target} against spec {spec}", soft_wrap=True)
    with told("check"):
        options, renames = pairs("--option", option), pairs("--rename", rename)
        if json_file:
            writable(json_file.parent)
        from proofs_checks.conformance import run_check
        from proofs_checks.report.conformance import check_summary

        # Only now, so that no module of the caller's stands in for one of ours.
        sys.path.insert(0, os.getcwd())
        with progress_bar() as (_, progress):
            report = run_check(
                target,
                spec,
                options=options,
                rename=renames,
                level=level,
                device=device,
                dtype=dtype,
                expected_failures=expected_failures,
                seed=seed,
                progress=lambda done, listed, record: progress(done, listed, record.id),
            )
        if json_file:
            json_file.write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
        check_summary(console, report, _scripts(report))
    raise typer.Exit(PASSED if report.conforms else FAILED)


golden = typer.Typer(help="Write and judge golden vectors: steps with known outputs, for any language.")
app.add_typer(golden, name="golden")


@golden.command(epilog="Example: fisherproof golden export build/golden")
def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new directory, or an earlier export.")],
) -> None:
    """Write inputs, outputs and rounding budgets of every step, with a README that explains the files."""
    with told("golden export"):
        from proofs_checks.golden import GoldenError, export

        try:
            cases = export(folder)
        except GoldenError as error:
            raise Refused(str(error)) from error
    typer.echo(f"{cases} cases: {folder}")


@golden.command("verify", epilog="Example: fisherproof golden verify build/golden")
def golden_verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the files are.")],
) -> None:
    """Judge the outputs in golden vectors, whoever produced them: error over rounding budget.

    Exit status: 0 if all agree, 1 if an output is wrong or missing, 2 if the files cannot be read.
    """
    with told("golden verify"):
        from proofs_checks.golden import GoldenError, verify
        from proofs_checks.golden.table import summary

        try:
            report = verify(folder)
        except GoldenError as error:
            raise Refused(str(error)) from error
    summary(make_console(), report)
    raise typer.Exit(PASSED if report.agrees else FAILED)


def _scripts(report: "CheckReport") -> dict[str, Path]:
    """Write what reproduces the failures; a folder that cannot be written to does not hide the verdict."""
    from proofs_checks.report.conformance import write_scripts

    try:
        return write_scripts(report, FAILURES)
    except OSError as error:
        say(f"fisherproof check: scripts not written: {error}")
        return {}


def _version() -> str:
    from proofs_checks import __version__

    return __version__
