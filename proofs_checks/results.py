"""The shape of what `fisherproof verify` writes: one record per claim, one per twin comparison."""

import math
import os
import platform
from collections.abc import Mapping, Sequence
from enum import StrEnum
from importlib.metadata import version
from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator

from proofs_checks.evidence import Kind, Scope, Tier
from proofs_checks.ratios import Ratio

__all__ = [
    "AblationResult",
    "ClaimResult",
    "Environment",
    "EvidenceResult",
    "Headline",
    "RatioResult",
    "Status",
    "TwinResult",
    "VerifyResults",
]


class Status(StrEnum):
    """The verdict on a claim, derived from its evidence by rule; `FAILING` is never recorded."""

    PROVED = "proved"
    CERTIFIED = "certified on a region"
    SUPPORTED = "supported"
    REFUTED = "refuted as stated"
    VACUOUS = "vacuous"
    UNTESTED = "untested"
    FAILING = "failing"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class Environment(_Record):
    """The machine and the versions a run was made with."""

    python: str
    platform: str
    processor: str
    cores: int
    packages: dict[str, str]

    @classmethod
    def here(cls, packages: Sequence[str]) -> Self:
        """This machine, with the versions of the named distributions."""
        return cls(
            python=platform.python_version(),
            platform=platform.platform(),
            processor=platform.processor() or platform.machine(),
            cores=os.cpu_count() or 1,
            packages={name: version(name) for name in packages},
        )


class RatioResult(_Record):
    """One acceptance decision; `value` is error over budget."""

    name: str
    error: float
    budget: float
    value: float
    threshold: float
    passed: bool
    figures: dict[str, float] = {}

    @classmethod
    def of(cls, ratio: Ratio) -> Self:
        """The record of an acceptance decision."""
        return cls(
            name=ratio.name,
            error=float(ratio.error),
            budget=float(ratio.budget),
            value=float(ratio.value),
            threshold=float(ratio.threshold),
            passed=bool(ratio.passed),
            figures={name: float(value) for name, value in ratio.figures.items()},
        )


class AblationResult(_Record):
    """What became of a claim on instances that violate one of its assumptions and keep all the others.

    Attributes
    ----------
    claim, assumption : str
        Ids of the ledger.
    broken : bool
        Whether the claim failed on some instance; if not, the assumption was not needed in the tested range.
    factor : float
        Largest left side over right side of the claim's inequality, rounded down; infinite where the right
        side was zero.
    tries : int
        Instances that were tried.
    how : str
        How they violate the assumption.
    """

    claim: str
    assumption: str
    broken: bool
    factor: float
    tries: int
    how: str


class EvidenceResult(_Record):
    """One evidence function, run."""

    path: str
    kind: Kind
    scope: Scope
    tier: Tier
    refutes: bool
    holds: bool
    summary: str
    ratios: list[RatioResult]
    figures: dict[str, float] = {}
    tightness: float | None = None
    counterexample: dict[str, object] | None = None
    ablations: list[AblationResult] = []
    faults: list[str]
    seconds: float


class ClaimResult(_Record):
    """One claim of the ledger with the status derived in this run.

    `pending` names evidence that belongs to a later tier and was not run; `recorded` is the status the
    ledger holds; `agrees` is whether the two match as far as this tier can tell; `reason` is one line on why
    the status is what it is.
    """

    id: str
    section: str
    statement: str
    source: str
    kind: str
    aim: str
    provenance: list[str] = []
    reconstructed: bool
    replaced_by: str | None = None
    blocked: str | None = None
    recorded: Status
    derived: Status
    agrees: bool
    evidence: list[EvidenceResult]
    pending: list[str] = []
    reason: str = ""


class TwinResult(_Record):
    """One function of `torch_impl` against its twin in `reference`, worst ratio over all inputs."""

    name: str
    dtype: str
    device: str
    inputs: int
    worst: RatioResult
    worst_input: str


#: Provenance tags of statements that were not read in their source: somebody else's account, or ours.
_NOT_READ = frozenset({"2nd", "rec"})


class Headline(_Record):
    """What a reader must know before anything else; may only get better.

    Attributes
    ----------
    trusted_numbers : int
        Statements tagged second-hand or reconstructed whose numbers no evidence verifies: there is none, in
        any tier, or it failed.
    untested : int
        Claims without evidence in any tier.
    refuted : int
        Claims refuted as stated in this run.
    counterexamples : int
        How many of those show a finite counterexample.
    """

    trusted_numbers: int
    untested: int
    refuted: int
    counterexamples: int

    @classmethod
    def of(cls, claims: Sequence[ClaimResult]) -> Self:
        """The headline of these results."""
        refuted = [claim for claim in claims if claim.derived is Status.REFUTED]
        return cls(
            trusted_numbers=sum(
                bool(_NOT_READ & {*claim.provenance}) and not _verified(claim) for claim in claims
            ),
            untested=sum(_without_evidence(claim) for claim in claims),
            refuted=len(refuted),
            counterexamples=sum(any(map(_finite_counterexample, claim.evidence)) for claim in refuted),
        )


class VerifyResults(_Record):
    """Everything one run of `fisherproof verify` found.

    `problems` are breaches of the ledger's own rules (orphans, missing reasons), `record_problems` what in
    the recorded files does not follow from their own evidence (recording anew mends it), `warnings` ratios
    that grew and figures recorded with older code. The headline follows from the claims.
    """

    fisherproof: str
    headline: Headline
    tier: Tier
    started: str
    seconds: float
    environment: Environment
    counts: dict[Status, int]
    claims: list[ClaimResult]
    twins: list[TwinResult]
    problems: list[str] = []
    record_problems: list[str] = []
    warnings: list[str] = []

    @model_validator(mode="after")
    def _headline_follows(self) -> Self:
        if self.headline != Headline.of(self.claims):
            raise ValueError("headline: does not follow from the claims")
        return self

    @property
    def agrees(self) -> bool:
        """Whether statuses are the recorded ones, twins agree, and ledger and record have no problems."""
        held = all(claim.agrees for claim in self.claims) and all(twin.worst.passed for twin in self.twins)
        return held and not self.problems and not self.record_problems


def _without_evidence(claim: ClaimResult) -> bool:
    return not claim.evidence and not claim.pending


def _verified(claim: ClaimResult) -> bool:
    """Whether some evidence bears on the claim's numbers and none of it failed."""
    return not _without_evidence(claim) and claim.derived is not Status.FAILING


def _finite_counterexample(evidence: EvidenceResult) -> bool:
    """Whether refuting evidence shows an instance all of whose numbers are finite."""
    return evidence.refutes and bool(evidence.counterexample) and _finite(evidence.counterexample)


def _finite(value: object) -> bool:
    if isinstance(value, Mapping):
        return all(map(_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_finite, value))
    if isinstance(value, str):  # floats are written as hexadecimal or decimal text too
        return value.strip().lower().lstrip("+-") not in {"inf", "infinity", "nan"}
    return not isinstance(value, float) or math.isfinite(value)
