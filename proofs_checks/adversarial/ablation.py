"""Assumption ablation: does a claim break where one of its assumptions fails and all the others hold?

A study of a claim draws tries: instances with both sides of the claim's inequality, and for each assumption
whether the instance satisfies it, decided on the instance and not by the intention of the generator. Drawn
without a violation, every try must satisfy every assumption and the inequality must hold; drawn to violate
one, every try must violate that one and satisfy the others. Then either the inequality fails on some try, or
the assumption was not needed in the tested range.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import floor, isfinite
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from proofs_checks.adversarial.verdicts import rounded_down
from proofs_checks.evidence import Finding
from proofs_checks.ratios import Ratio, yes_no
from proofs_checks.results import AblationResult

__all__ = [
    "FAULTS",
    "LONE_FAULTS",
    "AblationFinding",
    "Study",
    "Tries",
    "ablate",
    "joined",
    "tries",
]

Array = NDArray[np.float64]
Truth = NDArray[np.bool_]

#: An excess over a bound counts as a break from this many rounding budgets on.
_BUDGETS = 10.0

#: Factors beyond this are recorded with four digits, smaller ones with four decimals.
_LARGE = 1000.0

#: Faults of every ablation: the inequality the wrong way round; a generator that violates two assumptions at
#: once; one that violates none. With a single assumption per claim the second cannot be planted.
FAULTS = ("sides-swapped", "two-at-once", "nothing-violated")
LONE_FAULTS = ("sides-swapped", "nothing-violated")


class Tries(NamedTuple):
    """Instances of a claim, N of them, each with K inequalities.

    Attributes
    ----------
    left, right : (N, K) float64
        The claim says ``left <= right``.
    rounding : (N, K) float64
        Rounding budget of both sides together.
    holds : mapping of str to (N,) bool
        For each assumption of the claim whether the instance satisfies it.
    """

    left: Array
    right: Array
    rounding: Array
    holds: Mapping[str, Truth]


#: Draws tries that violate exactly the named assumptions.
Draw = Callable[[frozenset[str]], Tries]


@dataclass(frozen=True)
class Study:
    """The ablation of one claim.

    Attributes
    ----------
    claim : str
    draw : callable
    how : mapping of str to str
        For each assumption that is violated, how: one line.
    not_needed : frozenset of str
        Assumptions without which no try breaks the claim; if one does, the study is red.
    """

    claim: str
    draw: Draw
    how: Mapping[str, str]
    not_needed: frozenset[str] = frozenset()


@dataclass(frozen=True)
class AblationFinding(Finding):
    """A finding that also holds the verdict for every pair of claim and assumption it studied."""

    ablations: Sequence[AblationResult] = field(default=())


def tries(left: ArrayLike, right: ArrayLike, *, rounding: ArrayLike, holds: Mapping[str, ArrayLike]) -> Tries:
    """Tries from sides ``(N,)`` or ``(N, K)``; rounding and truth values are broadcast to them."""
    sides = np.broadcast_arrays(*(np.asarray(side, dtype=np.float64) for side in (left, right, rounding)))
    a, b, allowed = (side[:, None] if side.ndim == 1 else side for side in sides)
    truth = {
        name: np.broadcast_to(np.asarray(value, dtype=np.bool_), len(a)) for name, value in holds.items()
    }
    return Tries(a, b, allowed, truth)


def joined(parts: Iterable[Tries]) -> Tries:
    """All tries of several batches with the same inequalities."""
    found = list(parts)
    left, right, rounding = (np.concatenate([part[k] for part in found]) for k in range(3))
    holds = {name: np.concatenate([part.holds[name] for part in found]) for name in found[0].holds}
    return Tries(left, right, rounding, holds)


def ablate(studies: Sequence[Study], *, fault: str | None) -> AblationFinding:
    """Run every study: controls with all assumptions, then each assumption violated alone."""
    ratios: list[Ratio] = []
    verdicts: list[AblationResult] = []
    for study in studies:
        inside = study.draw(frozenset())
        ratios += _control(study, _planted(inside, fault))
        for assumption in study.how:
            outside = _planted(study.draw(_violated(study, assumption, fault)), fault)
            ratios += _audit(study, assumption, outside)
            verdict = _verdict(study, assumption, outside)
            ratios.append(_expected(study, verdict, outside))
            verdicts.append(verdict)
    return AblationFinding(tuple(ratios), _summary(verdicts), figures=_figures(verdicts), ablations=verdicts)


def _violated(study: Study, assumption: str, fault: str | None) -> frozenset[str]:
    """What the generator is told to violate; a fault tells it something else."""
    if fault == "nothing-violated":
        return frozenset()
    others = [name for name in study.how if name != assumption]
    return frozenset({assumption, *others[:1]} if fault == "two-at-once" else {assumption})


def _planted(drawn: Tries, fault: str | None) -> Tries:
    return drawn._replace(left=drawn.right, right=drawn.left) if fault == "sides-swapped" else drawn


def _control(study: Study, inside: Tries) -> list[Ratio]:
    """With every assumption satisfied, on every try, the claim holds."""
    return [
        yes_no(f"{study.claim}: control satisfies {name}", bool(truth.all()))
        for name, truth in inside.holds.items()
    ] + [yes_no(f"{study.claim}: holds with every assumption", _holds(inside))]


def _audit(study: Study, assumption: str, outside: Tries) -> list[Ratio]:
    """Every try violates the assumption and satisfies all others."""
    kept = all(bool(truth.all()) for name, truth in outside.holds.items() if name != assumption)
    where = f"{study.claim} without {assumption}"
    return [
        yes_no(f"{where}: every try violates it", not outside.holds[assumption].any()),
        yes_no(f"{where}: every try satisfies the others", kept),
    ]


def _verdict(study: Study, assumption: str, outside: Tries) -> AblationResult:
    broken = _breaks(outside)
    factor = _factor(outside)
    return AblationResult(
        claim=study.claim,
        assumption=assumption,
        broken=broken,
        factor=factor if broken else min(factor, 1.0),
        tries=len(outside.left),
        how=study.how[assumption],
    )


def _expected(study: Study, verdict: AblationResult, outside: Tries) -> Ratio:
    """The claim breaks; or the study says that it does not, and it holds on every try."""
    where = f"{study.claim} without {verdict.assumption}"
    if verdict.assumption in study.not_needed:
        return yes_no(f"{where}: holds nevertheless", _holds(outside))
    return yes_no(f"{where}: breaks", verdict.broken)


def _holds(drawn: Tries) -> bool:
    """Whether ``left <= right`` up to rounding on every try; NaN and an infinite side never count as held."""
    finite = np.isfinite(drawn.left) & np.isfinite(drawn.right) & np.isfinite(drawn.rounding)
    return bool((finite & (drawn.left - drawn.right <= drawn.rounding)).all())


def _breaks(drawn: Tries) -> bool:
    """Whether some finite right side is exceeded by more than ten budgets, as by an infinite left side."""
    with np.errstate(invalid="ignore"):
        excess = drawn.left - drawn.right - _BUDGETS * drawn.rounding
    return bool((np.isfinite(drawn.right) & (excess > 0)).any())


def _factor(drawn: Tries) -> float:
    """Largest left over right, rounded down; infinite where a right side is not positive and is exceeded."""
    left, right = drawn.left, drawn.right
    exceeded = left - right > drawn.rounding
    if bool((exceeded & ((right <= 0) | np.isinf(left))).any()):
        return np.inf
    share = float(np.max(np.divide(left, right, out=np.zeros_like(left), where=right > 0)))
    if not isfinite(share) or share < _LARGE:
        return rounded_down(share)
    digits = 10.0 ** (len(str(floor(share))) - 4)
    return floor(share / digits) * digits


def _summary(verdicts: Sequence[AblationResult]) -> str:
    broken = [verdict for verdict in verdicts if verdict.broken]
    claims = len({verdict.claim for verdict in verdicts})
    text = (
        f"{len(verdicts)} pairs of claim and assumption ({claims} claims), "
        f"{sum(v.tries for v in verdicts)} tries: in {len(broken)} the claim breaks"
    )
    kept = [f"{verdict.claim} without {verdict.assumption}" for verdict in verdicts if not verdict.broken]
    return text + (f"; not needed in the tested range: {', '.join(kept)}" if kept else "")


def _figures(verdicts: Sequence[AblationResult]) -> dict[str, float]:
    return {
        "pairs": float(len(verdicts)),
        "broken": float(sum(verdict.broken for verdict in verdicts)),
        "tries": float(sum(verdict.tries for verdict in verdicts)),
    }
