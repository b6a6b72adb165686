"""The statuses of the last recorded run, written by ``fisherproof verify --record``, not by hand."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from proofs_checks.ledger.figures import (
    RecordedEvidence,
    as_result,
    load_figures,
    recorded_evidence,
    worst_share,
    write_figures,
)
from proofs_checks.ledger.load import FOLDER, load_claims
from proofs_checks.ledger.schema import Claim, LedgerError
from proofs_checks.ledger.status import derive_status
from proofs_checks.results import ClaimResult, Status, VerifyResults

__all__ = [
    "GROWTH",
    "RECORDED",
    "Recorded",
    "RecordedClaim",
    "growth_warnings",
    "load_recorded",
    "record",
    "record_problems",
]

#: The recorded statuses and ratios of this package.
RECORDED = FOLDER / "recorded.json"

#: Growth of a worst ratio over the recorded one that warns: a loss of accuracy is seen before it fails.
GROWTH = 4.0

#: Share of a threshold below which a ratio is noise that differs between machines: growth counts from here.
NOISE = 2.0**-10


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class RecordedClaim(_Record):
    """Recorded status of one claim, and for each piece of its evidence the worst ratio over its threshold."""

    status: Status
    evidence: dict[str, float] = {}


class Recorded(_Record):
    """The recorded run."""

    claims: dict[str, RecordedClaim] = {}

    def status(self, id: str) -> Status:
        """Recorded status of a claim; untested where nothing was recorded."""
        return self.claims[id].status if id in self.claims else Status.UNTESTED


def load_recorded(path: Path | None = None) -> Recorded:
    """The recorded run; empty where none was recorded yet.

    Raises
    ------
    LedgerError
        If the file is not what `record` writes.
    """
    path = path or RECORDED
    if not path.exists():
        return Recorded()
    try:
        return Recorded.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise LedgerError(f"{path.name}: cannot be read: {error}; write it anew with --record") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise LedgerError(f"{path.name}: {where}: {first['msg']}; write it anew with --record") from error


def record(results: VerifyResults, path: Path | None = None) -> Path:
    """Record statuses and worst ratios of a run in `path`, what its evidence found in the file beside it.

    Claims that were not run keep what was recorded. Evidence of a later tier than the run keeps its recorded
    ratio and figures, and a claim with such evidence its recorded status if it has one.

    Raises
    ------
    ValueError
        If a claim is failing or the ledger has problems: neither is ever recorded. Nothing is written then.
    """
    failing = [claim.id for claim in results.claims if claim.derived is Status.FAILING]
    if failing:
        raise ValueError(f"claims to record must hold, but these are failing: {', '.join(failing)}")
    if results.problems:
        raise ValueError(f"the ledger to record must be free of problems, got: {results.problems[0]}")
    path = path or RECORDED
    before = _salvaged(path).claims
    fresh = {claim.id: _entry(claim, before.get(claim.id)) for claim in results.claims}
    merged = {id: fresh.get(id) or before.get(id) for id in load_claims()}
    claims = {id: entry for id, entry in merged.items() if entry is not None}
    _record_figures(results, path.with_name("recorded_figures.json"))
    document = Recorded(claims=claims).model_dump(mode="json")
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def record_problems(
    claims: Mapping[str, Claim], recorded: Recorded, figures: Mapping[str, RecordedEvidence]
) -> list[str]:
    """What the recorded files say that does not follow from their own evidence, one line each.

    Nothing recorded yet is no problem: a claim without a record is untested, evidence without figures has
    none to show.
    """
    problems = [
        f"recorded.json: claims.{id}: the ledger has no such claim"
        for id in recorded.claims
        if id not in claims
    ]
    for id, entry in recorded.claims.items():
        paths = claims[id].evidence if id in claims else ()
        if id not in claims or any(path not in figures for path in paths):
            continue
        derived = derive_status(claims[id], [as_result(path, figures[path]) for path in paths])
        if derived is not entry.status:
            problems.append(
                f"recorded.json: claims.{id}.status: recorded as {entry.status}, "
                f"but its recorded evidence gives {derived}"
            )
        problems += [
            f"recorded.json: claims.{id}.evidence.{path}: {entry.evidence[path]:g}, but the figures say "
            f"{figures[path].worst:g}"
            for path in paths
            if path in entry.evidence and entry.evidence[path] != figures[path].worst
        ]
    return [f"{problem}; write it anew with verify --record" for problem in problems]


def _salvaged(path: Path) -> Recorded:
    """What was recorded, or nothing where the file is spoilt: recording is how it is mended."""
    try:
        return load_recorded(path)
    except LedgerError:
        return Recorded()


def _record_figures(results: VerifyResults, path: Path) -> None:
    """Merge the evidence of a run into the recorded figures; what no claim names any more is dropped."""
    try:
        figures = load_figures(path)
    except LedgerError:
        figures = {}
    ran = {result.path: recorded_evidence(result) for claim in results.claims for result in claim.evidence}
    named = {path for claim in load_claims().values() for path in claim.evidence} | ran.keys()
    write_figures({name: entry for name, entry in (figures | ran).items() if name in named}, path)


def _entry(claim: ClaimResult, before: RecordedClaim | None) -> RecordedClaim:
    ratios = {result.path: recorded_evidence(result).worst for result in claim.evidence}
    if not claim.pending or before is None:
        return RecordedClaim(status=claim.derived, evidence=ratios)
    kept = {path: before.evidence[path] for path in claim.pending if path in before.evidence}
    return RecordedClaim(status=before.status, evidence=kept | ratios)


def growth_warnings(claims: Sequence[ClaimResult], recorded: Recorded) -> list[str]:
    """One line for each piece of evidence that holds but whose worst ratio grew more than `GROWTH`-fold."""
    warnings = {}
    for claim in claims:
        before = recorded.claims.get(claim.id)
        for result in claim.evidence:
            if before is None or result.path not in before.evidence or not result.holds:
                continue
            was, now = before.evidence[result.path], worst_share(result)
            if now > GROWTH * max(was, NOISE):
                warnings[result.path] = (
                    f"{result.path}: worst ratio {now:.3g} of its threshold, "
                    f"recorded {was:.3g}: grew more than {GROWTH:g}-fold"
                )
    return list(warnings.values())
