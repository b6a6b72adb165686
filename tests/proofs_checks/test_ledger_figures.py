"""Recorded figures: kept without change, mended only by recording, dated by the code of the evidence."""

import json
import math

import pytest

from proofs_checks.evidence import Kind, Scope, Tier
from proofs_checks.ledger import LedgerError, load_recorded, record, record_problems
from proofs_checks.ledger.dossier import COUNTS, dossier
from proofs_checks.ledger.figures import (
    is_stale,
    load_figures,
    recorded_evidence,
    stale_warnings,
    write_figures,
)
from proofs_checks.ledger.recorded import Recorded, RecordedClaim
from proofs_checks.ledger.sources import check_evidence_exists, digest_of_evidence
from proofs_checks.results import AblationResult, Status
from tests.proofs_checks.test_ledger import _claim, _claim_result, _refutation, _result, _Run

PATH = "symbolic.module:function"
REAL = "adversarial.drift:t7_drift"


def _recorded(tmp_path, *results, status=Status.PROVED):
    path = tmp_path / "recorded.json"
    record(_Run(_claim_result(list(results), derived=status)), path)
    return path


def test_a_run_leaves_its_figures_beside_the_statuses(tmp_path):
    ablation = AblationResult(
        claim="TEST-one", assumption="TEST-A-one", broken=True, factor=math.inf, tries=3, how="so"
    )
    found = _result(
        figures={"evaluations": 123456789.0, "third": 1 / 3},
        tightness=0.99999999,
        counterexample={"x": ["1/3", 2]},
        ablations=[ablation],
    )
    path = _recorded(tmp_path, found)
    kept = load_figures(path.with_name("recorded_figures.json"))[PATH]
    assert kept.summary == "what was found"
    six_digits, below_one = {"evaluations": 123457000.0, "third": 0.333333}, 0.999999
    assert kept.figures == six_digits
    assert kept.tightness == below_one, "rounded down"
    assert kept.counterexample == {"x": ["1/3", 2]}
    assert kept.ablations == [ablation]
    assert kept.decisions == 1
    assert "seconds" not in path.with_name("recorded_figures.json").read_text()


def test_recording_again_without_a_change_gives_the_same_files(tmp_path):
    names = ("recorded.json", "recorded_figures.json")
    found = _result(figures={"b": 2.0, "a": 1.0}, tightness=0.5)
    _recorded(tmp_path, found)
    before = [(tmp_path / name).read_bytes() for name in names]
    _recorded(tmp_path, found.model_copy(update={"seconds": 99.0}))
    assert [(tmp_path / name).read_bytes() for name in names] == before


def test_figures_of_evidence_that_was_not_run_are_kept_if_a_claim_names_it(tmp_path):
    path = _recorded(tmp_path, _result(path=REAL), _result(path="symbolic.module:gone"))
    _recorded(tmp_path, _result())
    assert set(load_figures(path.with_name("recorded_figures.json"))) == {PATH, REAL}


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda text: text.replace("0.25", "0.26"), "digest: the figures were edited"),
        (lambda text: text.replace("what was found", "splendid"), "digest"),
        (lambda text: text[: len(text) // 2], "cannot be read"),
        (lambda text: "[]", "must hold a digest"),
        (lambda text: json.dumps(json.loads(text) | {"more": 1}), "must hold a digest"),
        (lambda text: json.dumps(json.loads(text) | {"evidence": []}), "digest"),
    ],
)
def test_edited_figures_are_an_error_that_says_so(tmp_path, edit, named):
    path = write_figures(
        {PATH: recorded_evidence(_result(tightness=0.25))}, tmp_path / "recorded_figures.json"
    )
    before = path.read_text()
    path.write_text(edit(before))
    assert path.read_text() != before
    with pytest.raises(LedgerError, match=named) as caught:
        load_figures(path)
    assert "recorded_figures.json" in str(caught.value)


def test_figures_of_another_shape_are_an_error_that_names_the_place(tmp_path):
    path = write_figures({PATH: recorded_evidence(_result())}, tmp_path / "recorded_figures.json")
    from proofs_checks.ledger.figures import _digest

    document = json.loads(path.read_text())
    document["evidence"][PATH]["kind"] = "hunch"
    document["digest"] = _digest(document["evidence"])
    path.write_text(json.dumps(document))
    with pytest.raises(LedgerError, match="kind"):
        load_figures(path)


def test_recording_mends_files_that_were_edited(tmp_path):
    path = _recorded(tmp_path, _result())
    figures = path.with_name("recorded_figures.json")
    path.write_text("{", encoding="utf-8")
    figures.write_text("{", encoding="utf-8")
    _recorded(tmp_path, _result())
    assert load_recorded(path).status("FISMO-GOLDEN") is Status.PROVED
    assert set(load_figures(figures)) == {PATH}


# ---- what the recorded files say against their own evidence


def _entry(status, worst=0.5):
    return Recorded(claims={"TEST-one": RecordedClaim(status=status, evidence={PATH: worst})})


@pytest.mark.parametrize(
    ("result", "status", "named"),
    [
        (_result(), Status.PROVED, None),
        (_result(), Status.SUPPORTED, "recorded as supported, but its recorded evidence gives proved"),
        (_result(scope=Scope.REGION), Status.PROVED, "gives certified on a region"),
        (_result(Kind.ADVERSARIAL, path=PATH), Status.PROVED, "gives supported"),
        (_refutation(path=PATH), Status.PROVED, "gives refuted as stated"),
        (_refutation(path=PATH), Status.REFUTED, None),
        (_result(value=2.0, holds=False), Status.PROVED, "gives failing"),
    ],
)
def test_a_recorded_status_must_follow_from_the_recorded_evidence(result, status, named):
    figures = {PATH: recorded_evidence(result)}
    claims = {"TEST-one": _claim(evidence=[PATH])}
    problems = record_problems(claims, _entry(status, figures[PATH].worst), figures)
    assert bool(problems) is (named is not None)
    assert all(named in problem and "claims.TEST-one.status" in problem for problem in problems)


def test_a_recorded_ratio_must_be_that_of_the_figures():
    figures = {PATH: recorded_evidence(_result())}
    (problem,) = record_problems({"TEST-one": _claim(evidence=[PATH])}, _entry(Status.PROVED, 0.1), figures)
    assert f"claims.TEST-one.evidence.{PATH}" in problem


def test_a_record_of_a_claim_that_is_gone_is_a_problem_and_a_missing_record_is_none():
    claims = {"TEST-two": _claim(id="TEST-two", evidence=[PATH])}
    (problem,) = record_problems(claims, _entry(Status.PROVED), {})
    assert "claims.TEST-one: the ledger has no such claim" in problem
    assert record_problems(claims, Recorded(), {}) == []


# ---- the code of the evidence


def test_the_digest_follows_the_module_and_the_evidence_modules_that_it_imports(tmp_path, monkeypatch):
    from proofs_checks.ledger import sources

    def digest(**files):
        for name, text in files.items():
            (tmp_path / "adversarial" / f"{name}.py").write_text(text)
        sources._text.cache_clear()
        sources._imports.cache_clear()
        return digest_of_evidence("adversarial.drift:f")

    (tmp_path / "adversarial").mkdir()
    monkeypatch.setattr(sources, "_ROOT", tmp_path)
    imports = "from proofs_checks.adversarial.attacks import (\n    a,\n)\ndef f(): ...\n"
    first = digest(drift=imports, attacks="a = 1\n", other="b = 1\n")
    assert digest(other="b = 2\n") == first
    assert digest(attacks="a = 2\n") != first
    assert digest(attacks="a = 1\n") == first
    assert digest(drift=imports + "\n") != first
    sources._text.cache_clear()
    sources._imports.cache_clear()


def test_figures_are_dated_by_the_code_of_their_evidence():
    fresh = recorded_evidence(_result(path=REAL))
    assert not is_stale(REAL, fresh)
    old = fresh.model_copy(update={"source": "0" * 16})
    assert is_stale(REAL, old)
    assert stale_warnings([REAL], {REAL: fresh}) == []
    (warning,) = stale_warnings([REAL, REAL, "a.b:c", PATH], {REAL: old, PATH: old})
    assert warning.startswith(f"{REAL} and 1 more: recorded with an older version")


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("adversarial.no_such_module:f", "no module proofs_checks.adversarial.no_such_module"),
        ("adversarial.drift:no_such_function", "no function 'no_such_function'"),
    ],
)
def test_evidence_that_is_not_there_is_found_without_importing_it(path, named):
    check_evidence_exists(REAL)
    with pytest.raises(LedgerError, match=named):
        check_evidence_exists(path)


# ---- the dossier


def test_a_dossier_shows_the_largest_tightness_with_what_was_spent():
    weak = recorded_evidence(_result(tightness=0.25, figures={"evaluations": 9.0}))
    strong = recorded_evidence(
        _result(Kind.ADVERSARIAL, path=REAL, tightness=0.75, figures={"evaluations": 4.0, "other": 1.0})
    )
    claim = _claim(evidence=[PATH, REAL])
    found = dossier(claim, Status.PROVED, {PATH: weak, REAL: strong}, {})
    assert found.tightness is not None
    largest, spent = 0.75, {"evaluations": 4.0}
    assert (found.tightness.value, found.tightness.evidence) == (largest, REAL)
    assert found.tightness.budget == spent
    assert found.tightness.decisions == 1
    assert "covers the whole domain" in found.reason
    assert not found.findings[1].stale
    assert "evaluations" in COUNTS


def test_a_dossier_without_a_record_says_so():
    found = dossier(_claim(evidence=[PATH]), Status.UNTESTED, {}, {})
    assert found.findings[0].recorded is None
    assert "not all of its evidence was recorded" in found.reason
    assert found.tightness is None


def test_a_dossier_names_the_tier_its_evidence_needs_and_the_counterexample():
    refuting = recorded_evidence(_refutation(path=PATH)).model_copy(update={"tier": Tier.FULL})
    found = dossier(_claim(evidence=[PATH]), Status.REFUTED, {PATH: refuting}, {})
    assert found.counterexample == {"x": "1/2"}
    assert found.reproduce == "fisherproof verify --claims TEST-one --tier full"
    assert dossier(_claim(), Status.UNTESTED, {}, {}).reproduce is None


def test_a_dossier_says_what_became_of_the_claim_without_each_assumption():
    verdict = AblationResult(
        claim="TEST-one", assumption="TEST-A-one", broken=False, factor=0.5, tries=3, how="so"
    )
    figures = {REAL: recorded_evidence(_result(path=REAL, ablations=[verdict]))}
    claim = _claim(kind="rate", assumptions=["TEST-A-one", "TEST-A-two"], evidence=[PATH])
    found = dossier(claim, Status.PROVED, figures, {("TEST-one", "TEST-A-two"): "it cannot fail alone"})
    assert [(entry.ablation, entry.exempt) for entry in found.ablation] == [
        (verdict, None),
        (None, "it cannot fail alone"),
    ]
    untested = dossier(_claim(kind="rate", assumptions=["TEST-A-one"]), Status.UNTESTED, {}, {})
    assert untested.ablation[0].exempt == "the claim itself is untested"
