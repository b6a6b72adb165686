"""Every piece of evidence holds, is seen red under each of its planted faults, and is derived as recorded.

The tests carry the claims that cite the evidence as markers, so that each claim of the ledger has a test.
"""

from collections import defaultdict
from functools import cache

import pytest

from proofs_checks.evidence import Finding, evidence
from proofs_checks.ledger import load_claims, load_recorded
from proofs_checks.ledger.discovery import all_evidence, kind_of
from proofs_checks.ledger.status import EXACT, derive_status
from proofs_checks.ratios import Ratio
from proofs_checks.results import Status
from proofs_checks.verify import run_evidence

FUNCTIONS, _ = all_evidence()

CITED_BY: dict[str, list[str]] = defaultdict(list)
for _claim in load_claims().values():
    for _path in _claim.evidence:
        CITED_BY[_path].append(_claim.id)


def _case(path, *more):
    marks = [pytest.mark.claim(id) for id in CITED_BY[path]]
    return pytest.param(path, *more, marks=marks, id="-".join((path, *more)))


#: A piece of evidence runs once for all tests of a process that look at its result.
_run = cache(run_evidence)

SYMBOLIC = [path for path in FUNCTIONS if path.startswith("symbolic.")]


@pytest.mark.parametrize("path", [_case(path) for path in FUNCTIONS])
def test_the_evidence_holds_and_says_what_it_found(path):
    result = _run(path)
    assert result.holds, result.summary
    assert result.summary
    assert "\n" not in result.summary
    if result.refutes and kind_of(path) in EXACT:
        assert result.counterexample, "a refutation shows its instance"


@pytest.mark.parametrize(
    ("path", "fault"),
    [_case(path, fault) for path, function in FUNCTIONS.items() for fault in function.faults],
)
def test_a_planted_fault_turns_the_evidence_red(path, fault):
    finding = FUNCTIONS[path](fault=fault)
    assert finding.ratios, "a fault must be refused by a decision, not by taking none"
    assert not finding.holds, f"the fault {fault!r} was not noticed: {finding.summary}"


@pytest.mark.parametrize("path", SYMBOLIC)
def test_a_symbolic_proof_has_at_least_two_mutated_identities(path):
    assert len(set(FUNCTIONS[path].faults)) >= 1 + 1


def test_recorded_statuses_are_those_that_the_evidence_gives():
    recorded = load_recorded()
    derived = {
        claim.id: derive_status(claim, [_run(path) for path in claim.evidence])
        for claim in load_claims().values()
    }
    assert derived == {id: recorded.status(id) for id in derived}


# ---- what evidence is


def test_a_finding_holds_only_if_it_took_a_decision_and_all_passed():
    good, bad = Ratio("r", 0.5, 1.0), Ratio("r", 2.0, 1.0)
    assert Finding((good,), "s").holds
    assert not Finding((), "s").holds
    assert not Finding((good, bad), "s").holds
    assert not Finding((Ratio("r", float("nan"), 1.0),), "s").holds


def test_evidence_needs_a_fault_and_known_words():
    with pytest.raises(ValueError, match="fault"):
        evidence(faults=())
    for wrong in ({"scope": "mostly"}, {"tier": "soon"}):
        with pytest.raises(ValueError, match="|".join(wrong.values())):
            evidence(faults=("f",), **wrong)(lambda *, fault=None: Finding((), ""))


def test_untested_is_what_claims_without_evidence_are():
    for claim in load_claims().values():
        if not claim.evidence:
            assert derive_status(claim, []) is Status.UNTESTED
