"""What the evidence found when it was last recorded: summaries, figures, tightness, counterexamples.

Written by ``fisherproof verify --record`` beside the statuses, keyed by evidence path, since several claims
may cite the same evidence. Seconds are left out and figures kept to six digits, so that recording again
without a change gives the same file. A digest over the content turns an edit by hand into an error.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from proofs_checks.evidence import Kind, Scope, Tier
from proofs_checks.ledger.load import FOLDER
from proofs_checks.ledger.schema import LedgerError
from proofs_checks.ledger.sources import digest_of_evidence
from proofs_checks.results import AblationResult, EvidenceResult, RatioResult

__all__ = [
    "FIGURES",
    "RecordedEvidence",
    "as_result",
    "is_stale",
    "load_figures",
    "recorded_evidence",
    "stale_warnings",
    "worst_share",
    "write_figures",
]

#: The recorded figures of this package.
FIGURES = FOLDER / "recorded_figures.json"

_DIGITS = 6


class RecordedEvidence(BaseModel):
    """One piece of evidence as it was last recorded; it held then.

    `decisions` counts the acceptance decisions, `worst` is the largest ratio over its threshold among them,
    `source` a digest of the code of the evidence.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    kind: Kind
    scope: Scope
    tier: Tier
    refutes: bool
    summary: str
    decisions: int
    worst: float
    figures: dict[str, float] = {}
    tightness: float | None = None
    counterexample: dict[str, object] | None = None
    ablations: list[AblationResult] = []
    faults: list[str]
    source: str


def recorded_evidence(result: EvidenceResult) -> RecordedEvidence:
    """What is kept of a result that holds."""
    return RecordedEvidence(
        kind=result.kind,
        scope=result.scope,
        tier=result.tier,
        refutes=result.refutes,
        summary=result.summary,
        decisions=len(result.ratios),
        worst=float(f"{worst_share(result):.3g}"),
        figures={name: float(f"{value:.{_DIGITS}g}") for name, value in result.figures.items()},
        tightness=_rounded_down(result.tightness),
        counterexample=result.counterexample,
        ablations=result.ablations,
        faults=result.faults,
        source=digest_of_evidence(result.path),
    )


def as_result(path: str, recorded: RecordedEvidence) -> EvidenceResult:
    """The recorded evidence in the shape of a run, for the rule that derives statuses."""
    passed = recorded.worst <= 1
    worst = RatioResult(
        name="worst of the recorded run",
        error=recorded.worst,
        budget=1.0,
        value=recorded.worst,
        threshold=1.0,
        passed=passed,
    )
    shared = EvidenceResult.model_fields.keys() & RecordedEvidence.model_fields.keys()
    kept = {name: getattr(recorded, name) for name in shared}
    return EvidenceResult(path=path, holds=passed, ratios=[worst], seconds=0.0, **kept)


def is_stale(path: str, recorded: RecordedEvidence) -> bool:
    """Whether the code of the evidence has changed since it was recorded."""
    return digest_of_evidence(path) != recorded.source


def stale_warnings(paths: Iterable[str], figures: Mapping[str, RecordedEvidence]) -> list[str]:
    """One line, if figures were recorded with older code: how many, and which first."""
    stale = [path for path in dict.fromkeys(paths) if path in figures and is_stale(path, figures[path])]
    if not stale:
        return []
    others = f" and {len(stale) - 1} more" if stale[1:] else ""
    return [
        f"{stale[0]}{others}: recorded with an older version of this evidence; --record renews the figures"
    ]


def load_figures(path: Path | None = None) -> dict[str, RecordedEvidence]:
    """Recorded evidence by path; empty where none was recorded yet.

    Raises
    ------
    LedgerError
        If the file cannot be read, is not what `write_figures` writes, or was edited since.
    """
    path = path or FIGURES
    if not path.exists():
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LedgerError(f"{path.name}: cannot be read: {error}; write it anew with --record") from error
    if not isinstance(document, dict) or document.keys() != {"digest", "evidence"}:
        raise LedgerError(f"{path.name}: must hold a digest and the evidence; write it anew with --record")
    if document["digest"] != _digest(document["evidence"]):
        raise LedgerError(
            f"{path.name}: digest: the figures were edited since they were recorded; "
            "write them anew with --record"
        )
    try:
        return {name: RecordedEvidence.model_validate(entry) for name, entry in document["evidence"].items()}
    except (AttributeError, ValidationError) as error:
        where = (
            ".".join(map(str, error.errors()[0]["loc"])) if isinstance(error, ValidationError) else "evidence"
        )
        raise LedgerError(f"{path.name}: {where}: not as recorded; write it anew with --record") from error


def write_figures(figures: Mapping[str, RecordedEvidence], path: Path | None = None) -> Path:
    """Write the figures, sorted by evidence path, with their digest."""
    path = path or FIGURES
    evidence = {
        name: figures[name].model_dump(mode="json", exclude_defaults=True) for name in sorted(figures)
    }
    document = {"digest": _digest(evidence), "evidence": evidence}
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def worst_share(result: EvidenceResult) -> float:
    """Largest ratio over its threshold among the decisions of a piece of evidence; above one it fails."""
    return max((ratio.value / ratio.threshold for ratio in result.ratios), default=math.inf)


def _digest(evidence: object) -> str:
    canonical = json.dumps(evidence, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _rounded_down(value: float | None) -> float | None:
    if value is None or not math.isfinite(value):
        return value
    return math.floor(value * 10**_DIGITS) / 10**_DIGITS
