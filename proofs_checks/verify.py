"""The runner behind ``fisherproof verify``: the evidence of every claim, then the torch twins."""

import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from proofs_checks.adversarial.ablation import AblationFinding
from proofs_checks.evidence import Evidence, Finding, Scope, Tier
from proofs_checks.ledger.discovery import kind_of, resolve_evidence
from proofs_checks.ledger.figures import load_figures, stale_warnings
from proofs_checks.ledger.lint import lint_ledger
from proofs_checks.ledger.load import load_claims, nearest_claims
from proofs_checks.ledger.recorded import Recorded, growth_warnings, load_recorded, record_problems
from proofs_checks.ledger.schema import Claim, LedgerError
from proofs_checks.ledger.status import derive_status, explain_status
from proofs_checks.results import (
    ClaimResult,
    Environment,
    EvidenceResult,
    Headline,
    RatioResult,
    Status,
    TwinResult,
    VerifyResults,
)
from proofs_checks.twins import compare_twins, twin_count

__all__ = ["UsageError", "run_evidence", "run_verify", "select_claims", "write_results"]

#: Packages whose versions can change a result.
PACKAGES = ("numpy", "scipy", "torch", "sympy", "python-flint")

#: Called before each unit of work with units done, units in all, and the name of the one that starts; at the
#: end with both counts equal and an empty name.
Progress = Callable[[int, int, str], None]


class UsageError(ValueError):
    """An option that cannot be honoured; the message says what was needed and what came."""


def run_verify(
    tier: str = "fast",
    claims_glob: str = "*",
    device: str = "cpu",
    *,
    progress: Progress | None = None,
    on_claim: Callable[[ClaimResult], None] | None = None,
    on_twin: Callable[[TwinResult], None] | None = None,
) -> VerifyResults:
    """Run the evidence of the selected claims, then every torch twin against the reference.

    Evidence that several claims cite runs once. Linear algebra runs on one thread, so that a result does not
    depend on the machine's load.

    Parameters
    ----------
    tier : {"fast", "full", "nightly"}
        Evidence of this tier and the ones before it runs; the rest is listed as pending.
    claims_glob : str
        Shell pattern over claim ids; the twins run whatever it is.
    device : {"cpu", "cuda"}
        Where the torch twins run.
    progress, on_claim, on_twin : callables, optional
        Told about work as it happens; see `Progress`. Claims come in ledger order.

    Raises
    ------
    UsageError
        If the tier or device is unknown, the device is not there, or the pattern matches no claim.
    LedgerError
        If the ledger cannot be read.
    """
    chosen_tier, claims = _tier(tier), select_claims(claims_glob)
    _check_device(device)
    started, clock = datetime.now(UTC), time.perf_counter()
    recorded, figures = load_recorded(), load_figures()
    tell = _Teller(progress, total=_count_evidence(claims, chosen_tier) + twin_count())
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(limits=1):
            decided = _run_claims(claims, chosen_tier, recorded, tell, on_claim)
            twins = []
            for twin in compare_twins(device, starting=tell.starts):
                twins.append(twin)
                if on_twin:
                    on_twin(twin)
    finally:
        torch.set_num_threads(threads)
    tell.ends()
    return VerifyResults(
        fisherproof=version("fisherproof"),
        headline=Headline.of(decided),
        tier=chosen_tier,
        started=started.isoformat(timespec="seconds"),
        seconds=time.perf_counter() - clock,
        environment=Environment.here(PACKAGES),
        counts=_counts(decided),
        claims=decided,
        twins=twins,
        problems=lint_ledger(),
        record_problems=record_problems(load_claims(), recorded, figures),
        warnings=growth_warnings(decided, recorded)
        + stale_warnings((path for claim in claims.values() for path in claim.evidence), figures),
    )


def select_claims(claims_glob: str) -> dict[str, Claim]:
    """Claims whose id matches a shell pattern (case-sensitive), in ledger order.

    Raises
    ------
    UsageError
        If there is none; the message names the nearest ids.
    """
    claims = load_claims()
    chosen = {id: claim for id, claim in claims.items() if fnmatchcase(id, claims_glob)}
    if not chosen:
        near = ", ".join(nearest_claims(claims_glob))
        raise UsageError(
            f"claims must match at least one id of the ledger, got {claims_glob!r}; nearest: {near}"
        )
    return chosen


def write_results(results: VerifyResults, out_dir: Path | str) -> Path:
    """Write ``results.json`` into `out_dir`, whole or not at all; returns its path.

    The folder is made if needed. Ratios that are not finite are written as ``Infinity`` and ``NaN``, which
    Python's `json` reads.
    """
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    path, unfinished = folder / "results.json", folder / f".results-{os.getpid()}.json"
    try:
        unfinished.write_text(results.model_dump_json(indent=1) + "\n", encoding="utf-8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def run_evidence(path: str) -> EvidenceResult:
    """Run the evidence at a ledger path; whatever goes wrong is a result that does not hold, not an error."""
    clock = time.perf_counter()
    try:
        function = resolve_evidence(path)
    except LedgerError as error:
        return _broken(path, str(error))
    try:
        return _result(path, function, function(), time.perf_counter() - clock)
    except Exception as error:  # evidence that crashes proves nothing, and must not stop the others
        summary = f"{type(error).__name__}: {error}"
        return _broken(path, summary, function, time.perf_counter() - clock)


class _Teller:
    """Counts units of work for the progress callback."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def starts(self, label: str) -> None:
        if self._progress:
            self._progress(self._done, self._total, label)
        self._done += 1

    def ends(self) -> None:
        if self._progress:
            self._progress(self._total, self._total, "")


def _run_claims(
    claims: Mapping[str, Claim],
    tier: Tier,
    recorded: Recorded,
    tell: _Teller,
    on_claim: Callable[[ClaimResult], None] | None,
) -> list[ClaimResult]:
    done: dict[str, EvidenceResult] = {}
    decided = []
    for claim in claims.values():
        pending = [path for path in claim.evidence if not _belongs(path, tier)]
        for path in claim.evidence:
            if path not in pending and path not in done:
                tell.starts(path)
                done[path] = run_evidence(path)
        ran = [done[path] for path in claim.evidence if path not in pending]
        decided.append(_decide(claim, ran, pending, recorded.status(claim.id)))
        if on_claim:
            on_claim(decided[-1])
    return decided


def _decide(claim: Claim, ran: list[EvidenceResult], pending: list[str], recorded: Status) -> ClaimResult:
    """Judge one claim. With evidence pending the statuses cannot be compared, so only a failure disagrees."""
    derived = derive_status(claim, ran)
    agrees = derived is not Status.FAILING and (bool(pending) or derived is recorded)
    reason = explain_status(claim, ran)
    if not agrees and derived is not Status.FAILING:
        reason = f"recorded as {recorded}, now {derived}: {reason}"
    return ClaimResult(
        id=claim.id,
        section=claim.section,
        statement=claim.statement,
        source=claim.source,
        kind=claim.kind,
        aim=claim.aim,
        provenance=list(claim.provenance),
        reconstructed=claim.reconstructed,
        replaced_by=claim.replaced_by,
        blocked=claim.blocked,
        recorded=recorded,
        derived=derived,
        agrees=agrees,
        evidence=ran,
        pending=pending,
        reason=reason,
    )


def _belongs(path: str, tier: Tier) -> bool:
    """Whether evidence runs in this tier; what cannot be found runs always, so that it fails."""
    try:
        needed = resolve_evidence(path).tier
    except LedgerError:
        return True
    order = list(Tier)
    return order.index(needed) <= order.index(tier)


def _count_evidence(claims: Mapping[str, Claim], tier: Tier) -> int:
    return len({path for claim in claims.values() for path in claim.evidence if _belongs(path, tier)})


def _result(path: str, function: Evidence, finding: Finding, seconds: float) -> EvidenceResult:
    return EvidenceResult(
        path=path,
        kind=kind_of(path),
        scope=function.scope,
        tier=function.tier,
        refutes=function.refutes,
        holds=finding.holds,
        summary=finding.summary,
        ratios=[RatioResult.of(ratio) for ratio in finding.ratios],
        figures={name: float(value) for name, value in finding.figures.items()},
        tightness=finding.tightness,
        counterexample=None if finding.counterexample is None else _plain_dict(finding.counterexample),
        ablations=list(finding.ablations) if isinstance(finding, AblationFinding) else [],
        faults=list(function.faults),
        seconds=seconds,
    )


def _broken(
    path: str, summary: str, function: Evidence | None = None, seconds: float = 0.0
) -> EvidenceResult:
    """What stands for evidence that could not be found or did not finish."""
    failed = RatioResult(
        name="ran to its end", error=math.inf, budget=1.0, value=math.inf, threshold=1.0, passed=False
    )
    return EvidenceResult(
        path=path,
        kind=kind_of(path),
        scope=function.scope if function else Scope.REGION,
        tier=function.tier if function else Tier.FAST,
        refutes=function.refutes if function else False,
        holds=False,
        summary=summary,
        ratios=[failed],
        faults=list(function.faults) if function else [],
        seconds=seconds,
    )


def _plain_dict(mapping: Mapping[str, object]) -> dict[str, object]:
    return {str(key): _plain(value) for key, value in mapping.items()}


def _plain(value: object) -> object:
    """`value` in types that JSON knows; rationals as "p/q", anything unknown as its text."""
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return _plain_dict(value)
    if isinstance(value, Iterable) and not isinstance(value, Fraction):
        return [_plain(item) for item in value]
    return str(value)


def _tier(tier: str) -> Tier:
    try:
        return Tier(tier)
    except ValueError:
        raise UsageError(f"tier must be one of {', '.join(Tier)}, got {tier!r}") from None


def _check_device(device: str) -> None:
    if device not in ("cpu", "cuda"):
        raise UsageError(f"device must be cpu or cuda, got {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("device cuda needs a CUDA device and a torch built for it; this machine offers none")


def _counts(claims: Iterable[ClaimResult]) -> dict[Status, int]:
    counts = Counter(claim.derived for claim in claims)
    return {status: counts[status] for status in Status}
