"""What the last recorded run found: written by ``fisherproof verify --record``, never by hand."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from proofs_checks.ledger.load import FOLDER, load_claims
from proofs_checks.ledger.schema import LedgerError
from proofs_checks.results import ClaimResult, EvidenceResult, Status, VerifyResults

__all__ = [
    "GROWTH",
    "RECORDED",
    "Recorded",
    "RecordedClaim",
    "growth_warnings",
    "load_recorded",
    "record",
    "worst_share",
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


def load_recorded(path: Path = RECORDED) -> Recorded:
    """The recorded run; empty where none was recorded yet.

    Raises
    ------
    LedgerError
        If the file is not what `record` writes.
    """
    if not path.exists():
        return Recorded()
    try:
        return Recorded.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise LedgerError(f"{path.name}: {where}: {first['msg']}; write it anew with --record") from error


def record(results: VerifyResults, path: Path = RECORDED) -> Path:
    """Record the statuses and worst ratios of a run; claims that were not run keep what was recorded.

    Evidence of a later tier than the run keeps its recorded ratio, and a claim with such evidence its
    recorded status if it has one.

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
    before = load_recorded(path).claims
    fresh = {claim.id: _entry(claim, before.get(claim.id)) for claim in results.claims}
    merged = {id: fresh.get(id) or before.get(id) for id in load_claims()}
    claims = {id: entry for id, entry in merged.items() if entry is not None}
    document = Recorded(claims=claims).model_dump(mode="json")
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _entry(claim: ClaimResult, before: RecordedClaim | None) -> RecordedClaim:
    ratios = {result.path: float(f"{worst_share(result):.3g}") for result in claim.evidence}
    if not claim.pending or before is None:
        return RecordedClaim(status=claim.derived, evidence=ratios)
    kept = {path: before.evidence[path] for path in claim.pending if path in before.evidence}
    return RecordedClaim(status=before.status, evidence=kept | ratios)


def worst_share(result: EvidenceResult) -> float:
    """Largest ratio over its threshold among the decisions of a piece of evidence; above one it fails."""
    return max((ratio.value / ratio.threshold for ratio in result.ratios), default=math.inf)


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
