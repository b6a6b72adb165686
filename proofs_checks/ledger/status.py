"""The status of a claim, derived from its evidence by rule and never typed.

In order, the first that applies:

1. *failing*: some evidence does not hold. Nothing else is read.
2. *untested*: there is no evidence.
3. *refuted as stated*: there is refuting evidence (an executable negation that holds), it is exact (symbolic
   or certified) and it shows a counterexample. A refutation by a lesser kind, without a counterexample, or
   next to a proof of the same claim is *failing*: it can neither stand as a refutation nor be passed over.
4. *proved*: exact evidence over the whole domain of the claim.
5. *certified on a region*: exact evidence over a stated part of it.
6. *vacuous*: only lesser evidence, and all of it carries the figure ``vacuous`` equal to one: the bound lay
   above a trivial bound throughout the tested range. A proof outranks it: a theorem may be true and empty.
7. *supported*: lesser evidence that holds.
"""

from collections.abc import Sequence

from proofs_checks.evidence import Kind, Scope
from proofs_checks.ledger.schema import Claim
from proofs_checks.results import EvidenceResult, Status

__all__ = ["EXACT", "derive_status", "explain_status"]

#: Kinds of evidence that decide: exact algebra, and enclosures by ball arithmetic or exact rationals.
EXACT = frozenset({Kind.SYMBOLIC, Kind.CERTIFIED})


def derive_status(claim: Claim, results: Sequence[EvidenceResult]) -> Status:
    """Status of `claim` given the results of its evidence; pure, see the module for the rule."""
    return _verdict(claim, results)[0]


def explain_status(claim: Claim, results: Sequence[EvidenceResult]) -> str:
    """One line that says which rule gave the status."""
    return _verdict(claim, results)[1]


def _verdict(claim: Claim, results: Sequence[EvidenceResult]) -> tuple[Status, str]:
    broken = next((result for result in results if not result.holds), None)
    if broken is not None:
        return Status.FAILING, f"{broken.path} does not hold: {broken.summary}"
    if not results:
        return Status.UNTESTED, claim.blocked or "no evidence was run"
    if any(result.refutes for result in results):
        return _refutation(results)
    exact = [result for result in results if result.kind in EXACT]
    for result in exact:
        if result.scope is Scope.WHOLE:
            return Status.PROVED, f"{result.path} covers the whole domain"
    if exact:
        return Status.CERTIFIED, f"{exact[0].path} covers a region"
    if all(result.figures.get("vacuous") == 1 for result in results):
        return Status.VACUOUS, "the bound lies above a trivial bound throughout the tested range"
    return Status.SUPPORTED, f"{len(results)} pieces of evidence hold, none of them exact"


def _refutation(results: Sequence[EvidenceResult]) -> tuple[Status, str]:
    refuting = [result for result in results if result.refutes and result.kind in EXACT]
    if not refuting:
        lesser = next(result for result in results if result.refutes)
        return Status.FAILING, f"{lesser.path} refutes, but only a symbolic or certified refutation counts"
    witness = next((result for result in refuting if result.counterexample), None)
    if witness is None:
        return Status.FAILING, f"{refuting[0].path} refutes without showing a counterexample"
    for result in results:
        if not result.refutes and result.kind in EXACT and result.scope is Scope.WHOLE:
            return Status.FAILING, f"{result.path} proves what {witness.path} refutes"
    return Status.REFUTED, f"{witness.path} shows a counterexample"
