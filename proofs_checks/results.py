"""The shape of what `fisherproof verify` writes: one record per claim, one per twin comparison."""

import os
import platform
from collections.abc import Sequence
from enum import StrEnum
from importlib.metadata import version
from typing import Self

from pydantic import BaseModel, ConfigDict

from proofs_checks.evidence import Kind, Scope, Tier
from proofs_checks.ratios import Ratio

__all__ = [
    "ClaimResult",
    "Environment",
    "EvidenceResult",
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


class VerifyResults(_Record):
    """Everything one run of `fisherproof verify` found.

    `problems` are breaches of the ledger's own rules (orphans, missing reasons), `warnings` ratios that grew.
    """

    fisherproof: str
    tier: Tier
    started: str
    seconds: float
    environment: Environment
    counts: dict[Status, int]
    claims: list[ClaimResult]
    twins: list[TwinResult]
    problems: list[str] = []
    warnings: list[str] = []

    @property
    def agrees(self) -> bool:
        """Whether statuses equal the recorded ones, the twins agree and the ledger has no problem."""
        held = all(claim.agrees for claim in self.claims) and all(twin.worst.passed for twin in self.twins)
        return held and not self.problems
