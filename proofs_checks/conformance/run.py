"""One run: list the checks that a spec implies, execute them on a target, record every one."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from proofs_checks import __version__
from proofs_checks.conformance import expected as expectations
from proofs_checks.conformance.bench import Bench
from proofs_checks.conformance.case import Case, Check, Verdict
from proofs_checks.conformance.errors import NotApplicable
from proofs_checks.conformance.expected import ExpectedFailure
from proofs_checks.conformance.findings import SHRINK_SECONDS, Finder, judge, record
from proofs_checks.conformance.globals import kept
from proofs_checks.conformance.manifest import Planned, plan
from proofs_checks.conformance.records import CheckRecord, CheckReport, CheckStatus, summarize
from proofs_checks.conformance.worker import Hung, Worker
from proofs_checks.results import Environment

__all__ = ["CHECK_SECONDS", "Progress", "execute", "run_check"]

#: A check that takes longer hangs: the slowest of ours takes well under one second.
CHECK_SECONDS = 20.0

#: Called after every record with the number done, the number listed and the record.
Progress = Callable[[int, int, CheckRecord], None]


def run_check(
    target: str | Callable[..., Any],
    spec: str,
    *,
    options: Mapping[str, object] | None = None,
    rename: Mapping[str, str] | None = None,
    level: str = "L2",
    device: str = "cpu",
    dtype: str | None = None,
    expected_failures: str | Path | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> CheckReport:
    """Hold a target to a spec.

    Parameters
    ----------
    target : str or callable
        ``MODULE:ATTR``, ``MODULE.ATTR`` or ``FILE.py:ATTR``, or the thing itself: a `torch.optim.Optimizer`
        class, a factory ``(params, **hp) -> optimizer``, or a step function
        ``step(G, state, **hp) -> (update, state)`` with a function ``init(W)`` beside it. For AdaFisher the
        first takes the model in the place of its parameters, and the second also ``h_D`` and ``s_D``.
    spec : {"fismo", "sofim", "adafisher", "muon"}
    options : mapping, optional
        Variants of the spec, built-in hyper-parameters, further keywords for the constructor. Texts are read
        as Python literals where they are such.
    rename : mapping, optional
        Canonical name to the target's.
    level : {"L0", "L1", "L2", "L3"}
        Deepest level; each includes the ones before it.
    device, dtype : str
        Where the parameters live; without a dtype float32, float64 and bfloat16 in turn.
    expected_failures : path, optional
        See `proofs_checks.conformance.expected`.
    seed : int
        Of the random inputs.
    progress : function (done, listed, record), optional

    Returns
    -------
    CheckReport
        One record per listed check, executed or not.

    Raises
    ------
    UsageError
        If the question cannot be asked as put; the text is one line.
    """
    with warnings.catch_warnings(), threadpool_limits(limits=1, user_api="blas"):  # or small problems spin
        warnings.simplefilter("ignore")  # what a target warns about is its own business
        manifest = plan(
            target,
            spec,
            options=options or {},
            rename=rename or {},
            level=level,
            device=device,
            dtype=dtype,
            seed=seed,
        )
        entries = expectations.load(expected_failures) if expected_failures is not None else []
        expectations.known(entries, [line.id for line in manifest.lines])
        records = _all(manifest.lines, entries, progress)
    return CheckReport(
        fisherproof=__version__,
        target=manifest.target.name,
        spec=spec,
        variant={**manifest.variant, **manifest.target.fixed},
        environment=Environment.here(("torch", "numpy", "scipy")),
        summary=summarize(records),
        checks=records,
    )


def execute(line: Planned, finder: Finder) -> CheckRecord:
    """One line of the manifest. Global state is put back; having changed it is a failure."""
    with kept() as leaks:
        done = _executed(line, finder)
    if leaks and done.status is CheckStatus.PASSED:
        text = f"the target changed global state: {', '.join(leaks)}"
        return done.model_copy(update={"status": CheckStatus.FAILED, "message": text})
    return done


def _all(
    lines: Sequence[Planned], entries: list[ExpectedFailure], progress: Progress | None
) -> list[CheckRecord]:
    """Execute the manifest; what could not be executed is recorded as failed, not left out."""
    worker, finder = Worker(), Finder()
    records: list[CheckRecord] = []
    hung = ""
    try:
        for line in lines:
            if hung:
                done = record(line, CheckStatus.FAILED, f"not executed: the target hung in {hung}")
            else:
                try:
                    done = worker.call(partial(execute, line, finder), seconds=CHECK_SECONDS + SHRINK_SECONDS)
                except Hung:
                    hung = line.id
                    done = record(line, CheckStatus.FAILED, f"hangs: no result after {CHECK_SECONDS:g} s")
            records.append(expectations.applied(done, entries))
            if progress is not None:
                progress(len(records), len(lines), records[-1])
    finally:
        worker.close()
    executed = {done.id: done for done in records}
    missing = "listed but not executed"
    complete = [executed.get(line.id) or record(line, CheckStatus.FAILED, missing) for line in lines]
    return expectations.without_stale(complete, entries)


def _executed(line: Planned, finder: Finder) -> CheckRecord:
    """The record of a check: of its worst verdict if it passes, of a small failing case if not."""
    check, bench = line.check, line.bench
    try:
        _refuse(check, bench, finder)
        judged, idle = _judged(check, bench)
    except NotApplicable as reason:
        return record(line, CheckStatus.NOT_APPLICABLE, str(reason))
    except Exception as error:
        text = f"the check broke off with {type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
        return record(line, CheckStatus.FAILED, f"violated: {check.equation} ({text})")
    if not judged:
        status = CheckStatus.NOT_APPLICABLE if idle else CheckStatus.FAILED
        return record(line, status, idle or "no case was executed")
    verdict = max((verdict for verdict, _ in judged), key=lambda v: v.ratio.value)
    if verdict.ratio.passed:
        return record(line, CheckStatus.PASSED, _passed(verdict), verdict)
    smallest = min((case for v, case in judged if not v.ratio.passed), key=_size)
    return finder.failed(line, smallest, verdict)


def _refuse(check: Check, bench: Bench, finder: Finder) -> None:
    """Raise NotApplicable where a check has no meaning for a target."""
    unusable = finder.unusable(bench)
    if unusable:
        raise NotApplicable(unusable)
    target, spec = bench.target, bench.spec
    if check.optimizer_only and bench.is_step:
        raise NotApplicable("a pure step function has no parameters, groups or checkpoints")
    for name, value in bench.setting.swept.items():
        if name in target.lacks and name not in target.fixed and value != spec.hyper_parameters[name]:
            hint = f"say --option {name}={value} if this is what it implements"
            raise NotApplicable(f"the target has no hyper-parameter {name}; {hint}")
    for name in check.needs:
        if name in target.lacks and name not in target.fixed:
            raise NotApplicable(f"the target has no hyper-parameter {name}")


def _judged(check: Check, bench: Bench) -> tuple[list[tuple[Verdict, Case]], str]:
    """Verdicts on the cases that have something to say, and why another has not."""
    judged, idle = [], ""
    for case in check.cases(bench, bench.rng(check.id)):
        refusal = bench.refusal(case.hp)
        if refusal:
            idle = refusal
            continue
        try:
            judged.append((judge(check, bench, case), case))
        except NotApplicable as reason:
            idle = str(reason)
    return judged, idle


def _size(case: Case) -> int:
    """How many numbers a reader has to look at."""
    return sum(G.size for G in case.gradients)


def _passed(verdict: Verdict) -> str:
    if verdict.note:
        return verdict.note
    text = f"{verdict.ratio.value:.2g} of the rounding budget"
    seen = verdict.resolution
    return f"{text}; a relative defect of {seen:.1e} would have failed" if seen is not None else text
