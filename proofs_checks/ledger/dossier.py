"""Everything known about one claim: its record, its verdict, and what the last recorded run found.

Nothing is run and nothing that is slow to import is imported: figures come from the recorded files.
"""

import math
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from proofs_checks.evidence import Tier
from proofs_checks.ledger.ablation import nothing_to_break
from proofs_checks.ledger.figures import RecordedEvidence, as_result, is_stale
from proofs_checks.ledger.schema import Claim
from proofs_checks.ledger.status import explain_status
from proofs_checks.results import AblationResult, Status

__all__ = ["COUNTS", "Dossier", "KnownAssumption", "KnownEvidence", "Tightness", "command", "dossier"]

#: Figures that count what a search tried; together they are its budget.
COUNTS = (
    "evaluations",
    "instances",
    "tries",
    "runs",
    "steps",
    "problems",
    "pairs",
    "spectra",
    "systems",
    "entries",
    "boxes",
    "draws",
    "seeds",
)


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class KnownEvidence(_Record):
    """One piece of evidence with the figures of the last recorded run, if it was recorded.

    `stale` says that its code has changed since; `budget` what it tried, as far as its figures count that.
    """

    path: str
    recorded: RecordedEvidence | None
    stale: bool
    budget: dict[str, float]


class Tightness(_Record):
    """Largest left side over right side that any evidence found, rounded down, and what was tried for it."""

    value: float
    evidence: str
    budget: dict[str, float]
    decisions: int


class KnownAssumption(_Record):
    """An assumption of the claim and what became of the claim without it.

    `ablation` is the recorded verdict; without one `exempt` says why the assumption is not violated alone.
    """

    id: str
    ablation: AblationResult | None = None
    exempt: str | None = None


class Dossier(_Record):
    """What `fisherproof claims ID` shows beyond the ledger record."""

    status: Status
    reason: str
    findings: list[KnownEvidence]
    tightness: Tightness | None
    counterexample: dict[str, object] | None
    ablation: list[KnownAssumption]
    reproduce: str | None


def dossier(
    claim: Claim,
    status: Status,
    figures: Mapping[str, RecordedEvidence],
    exemptions: Mapping[tuple[str, str], str],
) -> Dossier:
    """Collect what was recorded about a claim.

    Parameters
    ----------
    claim : Claim
    status : Status
        As recorded.
    figures : mapping of str to RecordedEvidence
        All recorded evidence by path: ablations of this claim are looked for in all of it.
    exemptions : mapping
        Why an assumption is not violated alone, by (claim, assumption).
    """
    known = [_evidence(path, figures.get(path)) for path in claim.evidence]
    recorded = {entry.path: entry.recorded for entry in known if entry.recorded is not None}
    complete = len(recorded) == len(known)
    return Dossier(
        status=status,
        reason=explain_status(claim, [as_result(*item) for item in recorded.items()])
        if complete
        else "not all of its evidence was recorded",
        findings=known,
        tightness=_tightness(known),
        counterexample=next(
            (e.counterexample for e in recorded.values() if e.refutes and e.counterexample), None
        ),
        ablation=_assumptions(claim, figures, exemptions),
        reproduce=command(claim.id, [entry.tier for entry in recorded.values()]) if known else None,
    )


def command(id: str, tiers: Sequence[Tier] = ()) -> str:
    """The command that runs all evidence of a claim, given the tiers of its evidence."""
    order = list(Tier)
    tier = max(tiers, key=order.index, default=Tier.FAST)
    return f"fisherproof verify --claims {id}" + ("" if tier is Tier.FAST else f" --tier {tier}")


def _evidence(path: str, recorded: RecordedEvidence | None) -> KnownEvidence:
    figures = recorded.figures if recorded else {}
    return KnownEvidence(
        path=path,
        recorded=recorded,
        stale=recorded is not None and is_stale(path, recorded),
        budget={name: figures[name] for name in COUNTS if name in figures},
    )


def _tightness(known: Sequence[KnownEvidence]) -> Tightness | None:
    """The largest finite one."""
    best: Tightness | None = None
    for entry in known:
        value = entry.recorded.tightness if entry.recorded else None
        if entry.recorded is None or value is None or not math.isfinite(value):
            continue
        if best is None or value > best.value:
            best = Tightness(
                value=value, evidence=entry.path, budget=entry.budget, decisions=entry.recorded.decisions
            )
    return best


def _assumptions(
    claim: Claim, figures: Mapping[str, RecordedEvidence], exemptions: Mapping[tuple[str, str], str]
) -> list[KnownAssumption]:
    found = {
        ablation.assumption: ablation
        for entry in figures.values()
        for ablation in entry.ablations
        if ablation.claim == claim.id
    }
    general = nothing_to_break(claim)
    return [
        KnownAssumption(
            id=id,
            ablation=found.get(id),
            exempt=None if id in found else exemptions.get((claim.id, id), general),
        )
        for id in claim.assumptions
    ]
