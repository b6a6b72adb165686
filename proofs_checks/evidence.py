"""What a piece of evidence is: a function that returns a `Finding`, and the faults that must turn it red.

An evidence function lives in one of the packages named in `KINDS`; the package it lives in *is* its kind.
The ledger names it by its path. It takes one argument, ``fault``, the name of a planted fault: with
``fault=None`` the finding must hold, with any name in its ``faults`` it must not. `fisherproof verify`
runs the first, the test suite runs both, so that a check which cannot fail does not pass for evidence.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from proofs_checks.ratios import Ratio

__all__ = ["KINDS", "Evidence", "Finding", "Kind", "Scope", "Tier", "evidence"]


class Kind(StrEnum):
    """Kinds of evidence, strongest first; each is a package of `proofs_checks`."""

    SYMBOLIC = "symbolic"
    CERTIFIED = "certified"
    ADVERSARIAL = "adversarial"
    STATISTICAL = "statistical"
    REPRODUCTION = "reproduction"


KINDS = tuple(Kind)


class Scope(StrEnum):
    """How much of the claim's domain the evidence covers."""

    WHOLE = "whole"
    REGION = "region"


class Tier(StrEnum):
    """When the evidence runs; each tier includes the ones before it."""

    FAST = "fast"
    FULL = "full"
    NIGHTLY = "nightly"


@dataclass(frozen=True)
class Finding:
    """What one run of an evidence function found.

    Attributes
    ----------
    ratios : tuple of Ratio
        Every acceptance decision that was taken. The finding holds if there is at least one and all pass.
    summary : str
        One line a person reads, with the figures: what was done on how many instances, and the outcome.
    figures : mapping of str to float
        The numbers worth keeping.
    tightness : float or None
        For inequalities: the largest left side over right side found, rounded down.
    counterexample : mapping of str to object, or None
        For refutations: the exact instance (rationals as "p/q", floats as hex), enough to re-check by hand.
    """

    ratios: tuple[Ratio, ...]
    summary: str
    figures: Mapping[str, float] = field(default_factory=dict)
    tightness: float | None = None
    counterexample: Mapping[str, object] | None = None

    @property
    def holds(self) -> bool:
        """Whether at least one acceptance decision was taken and every one passed."""
        return bool(self.ratios) and all(ratio.passed for ratio in self.ratios)


class Evidence(Protocol):
    """An evidence function, as `evidence` leaves it."""

    __name__: str
    __module__: str
    faults: tuple[str, ...]
    scope: Scope
    tier: Tier
    refutes: bool

    def __call__(self, *, fault: str | None = None) -> Finding:
        """Run, with a planted fault or without."""


def evidence(
    *, faults: tuple[str, ...], scope: str = "whole", tier: str = "fast", refutes: bool = False
) -> Callable[[Callable[..., Finding]], Evidence]:
    """Declare an evidence function.

    Parameters
    ----------
    faults : tuple of str
        Names of the planted faults that must turn it red; at least one.
    scope : {"whole", "region"}
        Whether it covers the whole domain of the claim or a stated part of it.
    tier : {"fast", "full", "nightly"}
        The first tier of `fisherproof verify` that runs it.
    refutes : bool
        True for an executable negation: the finding holds when the claim as stated is *false*.

    Raises
    ------
    ValueError
        If no fault is named, or scope or tier is unknown.
    """
    if not faults:
        raise ValueError("faults must name at least one planted fault that turns the evidence red, got none")

    def declare(function: Callable[..., Finding]) -> Evidence:
        function.faults = faults  # type: ignore[attr-defined]
        function.scope = Scope(scope)  # type: ignore[attr-defined]
        function.tier = Tier(tier)  # type: ignore[attr-defined]
        function.refutes = refutes  # type: ignore[attr-defined]
        return function  # type: ignore[return-value]

    return declare
