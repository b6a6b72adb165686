"""Which known fault a failing target behaves like."""

import functools
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from proofs_checks.conformance.bench import Bench
from proofs_checks.conformance.case import Array, Case, compare
from proofs_checks.mutants import Mutant, mutated

__all__ = ["behaves_like"]


@functools.cache
def _faulty(mutant: Mutant) -> ModuleType:
    return mutated(mutant)


@dataclass(frozen=True)
class _Run:
    """What the target did on a case, what it should have done, and within which budgets."""

    case: Case
    observed: tuple[Array, ...]
    expected: tuple[Array, ...]
    allowed: tuple[Array, ...]


def behaves_like(bench: Bench, failing: list[Case]) -> str | None:
    """The known fault of the reference whose runs agree with the target's within budget; None if none does.

    The failing cases come first; a few fixed inputs, on which the known faults differ from one another, tell
    apart those that agree on them. A fault that changes nothing in this variant is no explanation.
    """
    cases = [case for case in [*failing, *bench.spec.fingerprints(bench)] if not bench.refusal(case.hp)]
    runs = [run for run in (_run(bench, case) for case in cases) if run is not None]
    best, least = None, np.inf
    for mutant in bench.spec.faults:
        score, changes = _score(bench, mutant, runs)
        if changes and score < least:
            best, least = mutant, score
    if best is None or not least <= bench.spec.likeness:
        return None
    return f"behaves like {best.id}: {best.description}"


def _run(bench: Bench, case: Case) -> _Run | None:
    try:
        return _Run(case, bench.run(case), *bench.spec.oracle(bench, case))
    except Exception:
        return None


def _score(bench: Bench, mutant: Mutant, runs: list[_Run]) -> tuple[float, bool]:
    """Largest distance of the target from the faulty recursion, in budgets of the right one.

    And whether the faulty recursion leaves those budgets itself.
    """
    worst, changes = 0.0, False
    for run in runs:
        try:
            with np.errstate(all="ignore"):
                faulty = bench.spec.simulate(_faulty(mutant), run.case, bench.setting)
        except Exception:  # the faulty recursion has no value here, such as the root of a singular factor
            continue
        allowed = _at_least(run.allowed, faulty, bench.u)
        worst = max(worst, compare("nearest", run.observed, faulty, allowed).ratio.value)
        changes = changes or not compare("known fault", faulty, run.expected, run.allowed).ratio.passed
        if not worst <= bench.spec.likeness:
            break
    return worst, changes


def _at_least(allowed: tuple[Array, ...], expected: tuple[Array, ...], u: float) -> tuple[Array, ...]:
    """Budgets of the right recursion, but no less than one rounding of what the faulty one gives."""
    return tuple(
        np.maximum(a, u * (np.abs(X) if a.ndim else np.linalg.norm(X)))
        for a, X in zip(allowed, expected, strict=True)
    )
