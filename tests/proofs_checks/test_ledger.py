"""The ledger: errors that name the place, completeness, the status rule and the lint against orphans."""

import json
import math

import pytest

from proofs_checks.evidence import Finding, Kind, Scope, Tier, evidence
from proofs_checks.ledger import (
    Claim,
    LedgerError,
    derive_status,
    explain_status,
    get_claim,
    lint_claims,
    lint_ledger,
    lint_markers,
    load_assumptions,
    load_claims,
    load_figures,
    load_recorded,
    nearest_claims,
    read_ledger,
    record,
    record_problems,
)
from proofs_checks.ledger.discovery import all_evidence, resolve_evidence
from proofs_checks.ledger.figures import worst_share
from proofs_checks.ledger.load import FOLDER
from proofs_checks.ledger.recorded import GROWTH, NOISE, Recorded, RecordedClaim, growth_warnings
from proofs_checks.results import EvidenceResult, RatioResult, Status
from tests.proofs_checks.claim_ids import SECTIONS

CLAIM = """
[[claim]]
id = "TEST-one"
section = "Test"
where = ["fismo 1"]
source = "derived"
provenance = ["drv"]
statement = "1 = 1"
kind = "identity"
aim = "symbolic"
expected = "proved"
"""


def _ledger(tmp_path, text, name="test.toml", assumptions=""):
    (tmp_path / "claims").mkdir(exist_ok=True)
    (tmp_path / "claims" / name).write_text(text, encoding="utf-8")
    (tmp_path / "assumptions.toml").write_text(assumptions, encoding="utf-8")
    return tmp_path


def _claim(**fields):
    defaults = {
        "id": "TEST-one",
        "section": "Test",
        "where": ["fismo 1"],
        "source": "derived",
        "provenance": ["drv"],
        "statement": "1 = 1",
        "kind": "identity",
        "aim": "symbolic",
        "expected": "proved",
    }
    return Claim.model_validate(defaults | fields)


def _result(kind=Kind.SYMBOLIC, *, scope=Scope.WHOLE, holds=True, path=None, value=0.5, **fields):
    ratio = RatioResult(name="r", error=value, budget=1.0, value=value, threshold=1.0, passed=holds)
    return EvidenceResult(
        path=path or f"{kind}.module:function",
        kind=kind,
        scope=scope,
        tier=Tier.FAST,
        refutes=fields.pop("refutes", False),
        holds=holds,
        summary="what was found",
        ratios=[ratio],
        faults=["fault"],
        seconds=0.0,
        **fields,
    )


def _refutation(kind=Kind.CERTIFIED, **fields):
    return _result(kind, refutes=True, **({"counterexample": {"x": "1/2"}} | fields))


# ---- completeness


def test_every_claim_of_the_specification_is_in_the_ledger_in_its_section_and_no_other_is():
    found = {section: set() for section in SECTIONS}
    for claim in load_claims().values():
        found[claim.section].add(claim.id)
    assert found == {section: set(ids) for section, ids in SECTIONS.items()}


def test_every_assumption_is_used_by_some_claim():
    used = {assumption for claim in load_claims().values() for assumption in claim.assumptions}
    assert used == set(load_assumptions())


def test_reconstructed_constants_say_so_in_a_note():
    reconstructed = [claim for claim in load_claims().values() if claim.reconstructed]
    assert reconstructed
    assert all("reconstructed" in (claim.note or "") for claim in reconstructed)


def test_claims_refuted_at_second_hand_say_as_reported():
    for claim in load_claims().values():
        if claim.expected is Status.REFUTED and set(claim.provenance) == {"2nd"}:
            assert "as reported" in (claim.note or ""), claim.id


def test_statements_are_plain_text_for_a_terminal():
    for claim in load_claims().values():
        text = claim.statement + (claim.note or "") + (claim.blocked or "")
        assert "\\" not in text, claim.id
        assert "$" not in text, claim.id
        assert text.isprintable(), claim.id


def test_the_ledger_has_no_orphans_and_leaves_nothing_unsaid():
    assert lint_ledger() == []


def test_test_markers_name_claims():
    assert lint_markers(FOLDER.parents[1] / "tests", load_claims()) == []


def test_every_claim_has_a_recorded_status_and_nothing_else_has():
    recorded = load_recorded()
    assert set(recorded.claims) == set(load_claims())
    for id, claim in load_claims().items():
        assert set(recorded.claims[id].evidence) == set(claim.evidence), id
        assert recorded.status(id) is not Status.FAILING


def test_every_piece_of_evidence_has_recorded_figures_and_nothing_else_has():
    assert set(load_figures()) == {path for claim in load_claims().values() for path in claim.evidence}


def test_the_recorded_files_follow_from_each_other():
    assert record_problems(load_claims(), load_recorded(), load_figures()) == []


# ---- reading


def test_a_ledger_that_fits_is_read(tmp_path):
    claims, assumptions = read_ledger(_ledger(tmp_path, CLAIM))
    assert list(claims) == ["TEST-one"]
    assert assumptions == {}
    assert claims["TEST-one"].evidence == ()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[[claim]\n", ["test.toml", "not valid TOML"]),
        (CLAIM + "colour = 'red'\n", ["test.toml", "TEST-one", "colour"]),
        (CLAIM + "status = 'proved'\n", ["test.toml", "TEST-one", "status"]),
        (CLAIM + CLAIM, ["test.toml", "TEST-one", "id", "already"]),
        (CLAIM.replace('"identity"', '"hunch"'), ["test.toml", "TEST-one", "kind", "hunch"]),
        (CLAIM.replace('["drv"]', '["hearsay"]'), ["test.toml", "TEST-one", "provenance", "hearsay"]),
        (CLAIM.replace('["drv"]', "[]"), ["test.toml", "TEST-one", "provenance"]),
        (CLAIM.replace('"proved"', '"failing"'), ["test.toml", "TEST-one", "expected", "failing"]),
        (CLAIM.replace('"proved"', '"refuted as stated"'), ["test.toml", "TEST-one", "replaced_by"]),
        (CLAIM.replace('"1 = 1"', '""'), ["test.toml", "TEST-one", "statement"]),
        (CLAIM.replace('"1 = 1"', "1"), ["test.toml", "TEST-one", "statement"]),
        (CLAIM.replace('"TEST-one"', '"no id"'), ["test.toml", "no id", "field id"]),
        (CLAIM.replace('id = "TEST-one"\n', ""), ["test.toml", "number 1", "field id"]),
        (CLAIM + "evidence = ['hearsay.m:f']\n", ["test.toml", "TEST-one", "evidence.0", "hearsay.m:f"]),
        (CLAIM + "evidence = ['symbolic.m']\n", ["test.toml", "TEST-one", "evidence.0"]),
        (CLAIM + "evidence = ['symbolic.m:f', 'symbolic.m:f']\n", ["test.toml", "TEST-one", "twice"]),
        (CLAIM + "assumptions = ['TEST-A-none']\n", ["test.toml", "TEST-one", "assumptions", "TEST-A-none"]),
        ("[claim]\nid = 'TEST-one'\n", ["test.toml", "[[claim]]"]),
        ("[[claims]]\nid = 'TEST-one'\n", ["test.toml", "'claims'", "[[claim]]"]),
    ],
)
def test_what_is_wrong_with_a_ledger_file_is_named(tmp_path, text, named):
    with pytest.raises(LedgerError) as caught:
        read_ledger(_ledger(tmp_path, text))
    for word in named:
        assert word in str(caught.value)


def test_an_id_taken_in_another_file_is_named(tmp_path):
    _ledger(tmp_path, CLAIM, name="a.toml")
    with pytest.raises(LedgerError, match=r"b\.toml: claim TEST-one: field id: already"):
        read_ledger(_ledger(tmp_path, CLAIM, name="b.toml"))


def test_an_unknown_id_gets_the_nearest_ones():
    assert nearest_claims("fismo-goldn")[0] == "FISMO-GOLDEN"
    assert nearest_claims("JORDN-*")[0].startswith("JORDAN-")
    with pytest.raises(LedgerError, match=r"'SOFIM-eq7'.*SOFIM-eq6"):
        get_claim("SOFIM-eq7")


def test_the_loaded_ledger_cannot_be_spoiled_by_a_caller():
    load_claims().clear()
    assert load_claims()


# ---- status rule


@pytest.mark.parametrize(
    ("results", "status"),
    [
        ([], Status.UNTESTED),
        ([_result(Kind.SYMBOLIC)], Status.PROVED),
        ([_result(Kind.CERTIFIED)], Status.PROVED),
        ([_result(Kind.SYMBOLIC, scope=Scope.REGION)], Status.CERTIFIED),
        ([_result(Kind.CERTIFIED, scope=Scope.REGION)], Status.CERTIFIED),
        ([_result(Kind.ADVERSARIAL), _result(Kind.CERTIFIED, scope=Scope.REGION)], Status.CERTIFIED),
        ([_result(Kind.CERTIFIED, scope=Scope.REGION), _result(Kind.SYMBOLIC)], Status.PROVED),
        ([_result(Kind.ADVERSARIAL)], Status.SUPPORTED),
        ([_result(Kind.STATISTICAL)], Status.SUPPORTED),
        ([_result(Kind.REPRODUCTION)], Status.SUPPORTED),
        ([_result(Kind.STATISTICAL, figures={"vacuous": 1.0})], Status.VACUOUS),
        ([_result(Kind.STATISTICAL, figures={"vacuous": 0.0})], Status.SUPPORTED),
        (
            [_result(Kind.STATISTICAL, figures={"vacuous": 1.0}), _result(Kind.ADVERSARIAL)],
            Status.SUPPORTED,
        ),
        ([_result(Kind.SYMBOLIC), _result(Kind.STATISTICAL, figures={"vacuous": 1.0})], Status.PROVED),
        ([_refutation(Kind.CERTIFIED)], Status.REFUTED),
        ([_refutation(Kind.SYMBOLIC)], Status.REFUTED),
        ([_refutation(), _result(Kind.CERTIFIED, scope=Scope.REGION)], Status.REFUTED),
        ([_refutation(), _result(Kind.REPRODUCTION)], Status.REFUTED),
        ([_refutation(Kind.STATISTICAL)], Status.FAILING),
        ([_refutation(Kind.ADVERSARIAL)], Status.FAILING),
        ([_refutation(counterexample=None)], Status.FAILING),
        ([_refutation(counterexample={})], Status.FAILING),
        ([_refutation(), _result(Kind.SYMBOLIC)], Status.FAILING),
        ([_refutation(holds=False)], Status.FAILING),
        ([_result(Kind.SYMBOLIC, holds=False)], Status.FAILING),
        ([_result(Kind.SYMBOLIC), _result(Kind.REPRODUCTION, holds=False)], Status.FAILING),
    ],
)
def test_the_status_follows_from_the_evidence(results, status):
    claim = _claim(blocked="why not")
    assert derive_status(claim, results) is status
    assert explain_status(claim, results)


def test_a_failing_claim_names_the_evidence_that_failed():
    results = [_result(), _result(Kind.REPRODUCTION, holds=False, path="reproduction.m:broken")]
    assert "reproduction.m:broken" in explain_status(_claim(), results)


# ---- lint


@evidence(faults=("f",))
def _supporting(*, fault: str | None = None) -> Finding:
    return Finding((), "")


@evidence(faults=("f",), refutes=True)
def _refuting(*, fault: str | None = None) -> Finding:
    return Finding((), "")


FUNCTIONS = {"symbolic.m:yes": _supporting, "certified.m:no": _refuting, "statistical.m:no": _refuting}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({}, "blocked"),
        ({"evidence": ["symbolic.m:yes"], "blocked": "why"}, "still says it is blocked"),
        ({"evidence": ["symbolic.m:gone"]}, "symbolic.m:gone"),
        ({"evidence": ["certified.m:no"], "replaced_by": "TEST-none"}, "TEST-none"),
        ({"evidence": ["symbolic.m:yes"], "replaced_by": "TEST-two"}, "no evidence refutes"),
        ({"evidence": ["certified.m:no"], "replaced_by": "TEST-one"}, "the claim itself"),
        ({"evidence": ["certified.m:no"]}, "no corrected claim"),
        ({"evidence": ["statistical.m:no"], "replaced_by": "TEST-two"}, "symbolic or certified"),
    ],
)
def test_each_kind_of_orphan_is_found(fields, named):
    claim = _claim(**fields)
    others = _claim(id="TEST-two", evidence=["symbolic.m:yes", "certified.m:no"], replaced_by="TEST-one")
    named_by_all = {
        path: FUNCTIONS[path] for path in FUNCTIONS if path != "statistical.m:no" or path in claim.evidence
    }
    problems = [
        p for p in lint_claims({"TEST-one": claim, "TEST-two": others}, named_by_all) if "TEST-one:" in p
    ]
    assert len(problems) == 1
    assert named in problems[0]


def test_evidence_that_no_claim_names_is_found():
    claim = _claim(evidence=["symbolic.m:yes"])
    problems = lint_claims({claim.id: claim}, {"symbolic.m:yes": _supporting, "symbolic.m:lost": _supporting})
    assert problems == ["symbolic.m:lost: evidence that no claim names"]


def test_a_sound_ledger_has_no_problems():
    claims = {
        "TEST-one": _claim(evidence=["symbolic.m:yes"]),
        "TEST-two": _claim(id="TEST-two", evidence=["certified.m:no"], replaced_by="TEST-one"),
        "TEST-three": _claim(id="TEST-three", blocked="why"),
    }
    assert lint_claims(claims, {path: FUNCTIONS[path] for path in ("symbolic.m:yes", "certified.m:no")}) == []


def test_a_marker_that_names_no_claim_is_found_with_its_place(tmp_path):
    (tmp_path / "test_x.py").write_text(
        "import pytest\n\n@pytest.mark.claim('TEST-one')\n@pytest.mark.claim('TEST-gone')\ndef test(): ...\n"
    )
    problems = lint_markers(tmp_path, {"TEST-one": _claim()})
    assert problems == ["test_x.py:4: marker names 'TEST-gone', no claim"]


def test_public_evidence_is_found_by_walking_and_resolved_by_path():
    functions, broken = all_evidence()
    assert broken == []
    assert functions
    for path, function in functions.items():
        assert resolve_evidence(path) is function


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("symbolic.no_such_module:f", "cannot be imported"),
        ("symbolic:no_such_function", "no_such_function"),
    ],
)
def test_an_evidence_path_that_leads_nowhere_is_an_error(path, named):
    with pytest.raises(LedgerError, match=named):
        resolve_evidence(path)


def test_a_function_that_is_not_declared_is_no_evidence(monkeypatch):
    monkeypatch.setattr("proofs_checks.symbolic.plain", lambda: None, raising=False)
    with pytest.raises(LedgerError, match="not declared"):
        resolve_evidence("symbolic:plain")


# ---- the record


def _claim_result(results, *, pending=(), derived=Status.PROVED, id="FISMO-GOLDEN"):
    from proofs_checks.results import ClaimResult

    return ClaimResult(
        id=id,
        section="Test",
        statement="1 = 1",
        source="derived",
        kind="identity",
        aim="symbolic",
        reconstructed=False,
        recorded=Status.UNTESTED,
        derived=derived,
        agrees=True,
        evidence=results,
        pending=list(pending),
    )


class _Run:
    """The part of a run that `record` reads."""

    def __init__(self, *claims, problems=()):
        self.claims, self.problems = list(claims), list(problems)


def test_a_run_is_recorded_with_status_and_worst_ratio(tmp_path):
    path = tmp_path / "recorded.json"
    value, recorded = 0.123456, 0.123
    record(_Run(_claim_result([_result(value=value)])), path)
    assert json.loads(path.read_text()) == {
        "claims": {"FISMO-GOLDEN": {"status": "proved", "evidence": {"symbolic.module:function": recorded}}}
    }
    assert load_recorded(path).status("FISMO-GOLDEN") is Status.PROVED
    assert load_recorded(path).status("SOFIM-eq6") is Status.UNTESTED


def test_what_was_not_run_keeps_its_record(tmp_path):
    path = tmp_path / "recorded.json"
    before, after = 0.5, 0.25
    later = _result(Kind.STATISTICAL, path="statistical.m:later", value=before)
    record(_Run(_claim_result([_result(value=before), later])), path)
    rerun = _claim_result([_result(value=after)], pending=[later.path], derived=Status.SUPPORTED)
    record(_Run(rerun), path)
    kept = load_recorded(path).claims["FISMO-GOLDEN"]
    assert kept.status is Status.PROVED
    assert kept.evidence == {"symbolic.module:function": after, later.path: before}
    record(_Run(_claim_result([], derived=Status.UNTESTED, id="SOFIM-eq6")), path)
    assert set(load_recorded(path).claims) == {"FISMO-GOLDEN", "SOFIM-eq6"}


def test_a_failing_run_is_never_recorded(tmp_path):
    path = tmp_path / "recorded.json"
    with pytest.raises(ValueError, match="FISMO-GOLDEN"):
        record(_Run(_claim_result([_result(holds=False)], derived=Status.FAILING)), path)
    with pytest.raises(ValueError, match="an orphan"):
        record(_Run(_claim_result([_result()]), problems=["an orphan"]), path)
    assert not path.exists()


def test_a_spoilt_record_is_named(tmp_path):
    path = tmp_path / "recorded.json"
    path.write_text('{"claims": {"FISMO-GOLDEN": {"status": "splendid"}}}')
    with pytest.raises(LedgerError, match=r"recorded\.json: claims\.FISMO-GOLDEN\.status"):
        load_recorded(path)


@pytest.mark.parametrize(
    ("was", "factor", "warned"),
    [
        (2.0**-7, 1.0, False),
        (2.0**-7, GROWTH, False),
        (2.0**-7, 2 * GROWTH, True),
        (NOISE**2, 2 * GROWTH, False),
        (NOISE**2, 2 * GROWTH / NOISE, True),
    ],
)
def test_a_ratio_that_grew_warns(was, factor, warned):
    recorded = Recorded(
        claims={
            "FISMO-GOLDEN": RecordedClaim(status=Status.PROVED, evidence={"symbolic.module:function": was})
        }
    )
    warnings = growth_warnings([_claim_result([_result(value=factor * was)])], recorded)
    assert bool(warnings) is warned
    assert all("symbolic.module:function" in warning for warning in warnings)


def test_the_worst_share_is_the_largest_ratio_over_its_own_threshold():
    strict = 0.5
    result = _result(value=strict)
    loose = RatioResult(name="o", error=15.0, budget=1.0, value=15.0, threshold=60.0, passed=True)
    assert worst_share(result.model_copy(update={"ratios": [loose, *result.ratios]})) == strict
    assert worst_share(result.model_copy(update={"ratios": []})) == math.inf
