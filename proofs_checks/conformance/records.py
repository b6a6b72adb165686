"""The shape of what `fisherproof check` writes: one record per check and setting.

Written with ``report.model_dump_json(indent=2)``. A ratio that is not finite (NaN in the output, a shape that
does not match) is null there; the message says what happened.
"""

from collections import Counter
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from proofs_checks.results import Environment

__all__ = ["CheckRecord", "CheckReport", "CheckStatus", "Counterexample", "Level", "Summary", "summarize"]


class Level(StrEnum):
    """How deep a check looks; each level includes the ones before it."""

    CONTRACT = "L0"
    GOLDEN = "L1"
    INVARIANTS = "L2"
    EQUATIONS = "L3"


class CheckStatus(StrEnum):
    """The verdict of one check."""

    PASSED = "passed"
    FAILED = "failed"
    EXPECTED_FAILURE = "expected_failure"
    NOT_APPLICABLE = "not_applicable"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class Counterexample(_Record):
    """The smallest input found that shows a failure.

    `inputs` holds every float as ``float.hex`` text; `script` runs without fisherproof and exits with status
    1 while the failure is there.
    """

    inputs: dict[str, object]
    script: str


class CheckRecord(_Record):
    """One check in one setting; `ratio` is error over derived budget and passes up to `threshold`."""

    id: str
    claim: str | None
    equation: str
    level: Level
    status: CheckStatus
    ratio: float | None = None
    threshold: float | None = None
    dtype: str
    device: str
    message: str
    counterexample: Counterexample | None = None
    nearest_mutant: str | None = None


class Summary(_Record):
    """How many records ended how."""

    passed: int
    failed: int
    expected_failures: int
    not_applicable: int


class CheckReport(_Record):
    """Everything one run of `fisherproof check` found."""

    fisherproof: str
    target: str
    spec: str
    variant: dict[str, object]
    environment: Environment
    summary: Summary
    checks: list[CheckRecord]

    @property
    def conforms(self) -> bool:
        """Whether something passed and nothing failed."""
        return self.summary.failed == 0 and self.summary.passed > 0


def summarize(checks: list[CheckRecord]) -> Summary:
    """Count `checks` by status."""
    count = Counter(check.status for check in checks)
    return Summary(
        passed=count[CheckStatus.PASSED],
        failed=count[CheckStatus.FAILED],
        expected_failures=count[CheckStatus.EXPECTED_FAILURE],
        not_applicable=count[CheckStatus.NOT_APPLICABLE],
    )
