"""From a failing verdict to a record that somebody can act on: equation, size, counterexample, likeness."""

import time
from collections.abc import Callable

import numpy as np

from proofs_checks.conformance import script
from proofs_checks.conformance.bench import Bench
from proofs_checks.conformance.case import Case, Check, Verdict
from proofs_checks.conformance.errors import TargetRaised
from proofs_checks.conformance.manifest import Planned
from proofs_checks.conformance.nearest import behaves_like
from proofs_checks.conformance.records import CheckRecord, CheckStatus, Counterexample, Level
from proofs_checks.conformance.shrink import shrink
from proofs_checks.ratios import Ratio

__all__ = ["Finder", "failure", "judge", "record"]

#: Time for making a counterexample smaller, per record and for all records of a run together.
SHRINK_SECONDS, ALL_SHRINK_SECONDS = 1.5, 15.0


def judge(check: Check, bench: Bench, case: Case) -> Verdict:
    """The verdict of a check on a case; what the target raises is a failure like any other."""
    try:
        return check.judge(bench, case)
    except TargetRaised as error:
        return Verdict(Ratio("completes", np.inf, 1.0), note=f"the target raised {error}")


def record(line: Planned, status: CheckStatus, message: str, verdict: Verdict | None = None) -> CheckRecord:
    """The record of one line of the manifest."""
    return CheckRecord(
        id=line.id,
        claim=line.check.claim,
        equation=line.check.equation,
        level=line.check.level,
        status=status,
        ratio=verdict.ratio.value if verdict else None,
        threshold=verdict.ratio.threshold if verdict else None,
        dtype=line.bench.setting.dtype,
        device=line.bench.setting.device,
        message=message,
    )


class Finder:
    """Turns failures into records with small counterexamples, within a common allowance of time."""

    def __init__(self, *, seconds: float = ALL_SHRINK_SECONDS) -> None:
        self._left = seconds
        self._small: dict[str, Case] = {}
        self._unusable: dict[str, str] = {}

    def unusable(self, bench: Bench) -> str:
        """`Bench.unusable`, tried once per setting."""
        label = bench.setting.label
        if label not in self._unusable:
            self._unusable[label] = bench.unusable()
        return self._unusable[label]

    def failed(self, line: Planned, case: Case, verdict: Verdict) -> CheckRecord:
        """The record of a failure: `case` is one that fails, `verdict` the worst one."""
        check, bench = line.check, line.bench
        small, smallest = self._shrunk(line, case, verdict)
        shown = smallest.inputs or small
        counterexample = None
        if check.script:
            counterexample = Counterexample(
                inputs=script.inputs(shown, bench), script=script.write(check, bench, shown, smallest)
            )
        likeness = None
        if check.level is not Level.CONTRACT:
            likeness = behaves_like(bench, [shown, small, case])
        return record(line, CheckStatus.FAILED, failure(check, small, verdict), verdict).model_copy(
            update={"counterexample": counterexample, "nearest_mutant": likeness}
        )

    def _shrunk(self, line: Planned, case: Case, verdict: Verdict) -> tuple[Case, Verdict]:
        check, bench = line.check, line.bench

        def fails(candidate: Case) -> bool:
            new = judge(check, bench, candidate)
            return not new.ratio.passed and bool(new.expected) == bool(verdict.expected)

        # The small input that another setting of this check ended with is a good place to start.
        known = self._small.get(check.id)
        if known is not None and _quietly(fails, known):
            case = known
        started = time.monotonic()
        small = shrink(case, fails, cast=bench.cast, seconds=min(SHRINK_SECONDS, self._left))
        self._left = max(0.0, self._left - (time.monotonic() - started))
        self._small[check.id] = small
        return small, judge(check, bench, small)


def _quietly(fails: Callable[[Case], bool], case: Case) -> bool:
    """`fails(case)`, where a case that cannot be judged does not fail."""
    try:
        return fails(case)
    except Exception:
        return False


def failure(check: Check, case: Case, verdict: Verdict) -> str:
    """The equation, by how many budgets it is missed, and how small an input shows it."""
    ratio, steps = verdict.ratio, len(case.gradients)
    shape = "x".join(map(str, case.gradients[0].shape))
    shown = f"shown by {steps} step{'s' if steps > 1 else ''} of shape {shape}"
    if verdict.note:
        return f"violated: {check.equation} ({verdict.note}; {shown})"
    at = f" at step {ratio.figures['step']:.0f}" if "step" in ratio.figures else ""
    if not np.isfinite(ratio.value):
        return f"violated: {check.equation}: off by {ratio.error:.3g}{at} where it must be exact; {shown}"
    return (
        f"violated: {check.equation}: off by {ratio.error:.3g}{at}, "
        f"{ratio.value:.3g} times what rounding allows ({ratio.budget:.3g}); {shown}"
    )
