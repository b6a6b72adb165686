"""The runner: selection, tiers, evidence run once, errors that never pass, results written whole."""

import json
import math
import sys
from collections import Counter
from fractions import Fraction
from types import ModuleType

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info

from proofs_checks import verify
from proofs_checks.adversarial.ablation import AblationFinding
from proofs_checks.evidence import Finding, evidence
from proofs_checks.ledger import Claim, RecordedEvidence, load_claims
from proofs_checks.ledger.figures import recorded_evidence
from proofs_checks.ledger.recorded import Recorded, RecordedClaim
from proofs_checks.ratios import Ratio
from proofs_checks.results import AblationResult, RatioResult, Status, TwinResult, VerifyResults
from proofs_checks.verify import UsageError, run_evidence, run_verify, select_claims, write_results

GOOD, BAD = Ratio("rule", 0.25, 1.0), Ratio("rule", 2.0, 1.0)


class House:
    """A small ledger with its own evidence, put in place of the real one."""

    def __init__(self, monkeypatch):
        self.calls: Counter[str] = Counter()
        self.claims: dict[str, Claim] = {}
        self.recorded = Recorded()
        self.twins: list[TwinResult] = []
        self.problems: list[str] = []
        self.figures: dict[str, RecordedEvidence] = {}
        self._monkeypatch = monkeypatch
        monkeypatch.setattr(verify, "load_claims", lambda: self.claims)
        monkeypatch.setattr(verify, "load_recorded", lambda: self.recorded)
        monkeypatch.setattr(verify, "load_figures", lambda: self.figures)
        monkeypatch.setattr(verify, "lint_ledger", lambda: self.problems)
        monkeypatch.setattr(verify, "twin_count", lambda: len(self.twins))
        monkeypatch.setattr(verify, "compare_twins", self._compare_twins)

    def evidence(self, name, *, package="symbolic", finding=None, error=None, **declared):
        """Plant an evidence function; returns its path."""

        def function(*, fault: str | None = None) -> Finding:
            self.calls[name] += 1
            if error:
                raise error
            return finding or Finding((GOOD,), f"{name} was run")

        module = sys.modules.get(f"proofs_checks.{package}.house") or ModuleType("house")
        setattr(module, name, evidence(faults=("f",), **declared)(function))
        self._monkeypatch.setitem(sys.modules, f"proofs_checks.{package}.house", module)
        return f"{package}.house:{name}"

    def claim(self, id, *paths, recorded=Status.PROVED, **fields):
        """Enter a claim with its evidence and its recorded status."""
        defaults = {
            "id": id,
            "section": "Test",
            "where": ["fismo 1"],
            "source": "derived",
            "provenance": ["drv"],
            "statement": "1 = 1",
            "kind": "identity",
            "aim": "symbolic",
            "expected": "proved",
            "evidence": paths,
            "blocked": None if paths else "not yet",
        }
        self.claims[id] = Claim.model_validate(defaults | fields)
        entry = RecordedClaim(status=recorded, evidence=dict.fromkeys(paths, GOOD.value))
        self.recorded = Recorded(claims=self.recorded.claims | {id: entry})

    def _compare_twins(self, device, *, starting):
        for twin in self.twins:
            starting(twin.name)
            yield twin


@pytest.fixture
def house(monkeypatch):
    return House(monkeypatch)


def _twin(value):
    worst = RatioResult(name="r", error=value, budget=1.0, value=value, threshold=1.0, passed=value <= 1)
    return TwinResult(name="polar.f", dtype="float64", device="cpu", inputs=3, worst=worst, worst_input="x")


def _by_id(results):
    return {claim.id: claim for claim in results.claims}


# ---- what is run


def test_a_ledger_whose_evidence_holds_as_recorded_agrees(house):
    house.claim("TEST-one", house.evidence("one"))
    house.claim("TEST-two", recorded=Status.UNTESTED)
    house.twins = [_twin(0.5)]
    results = run_verify()
    assert results.agrees
    assert results.counts == dict.fromkeys(Status, 0) | {Status.PROVED: 1, Status.UNTESTED: 1}
    assert [claim.id for claim in results.claims] == ["TEST-one", "TEST-two"]
    assert _by_id(results)["TEST-two"].reason == "not yet"
    assert results.environment.packages["torch"] == torch.__version__


def test_evidence_of_several_claims_runs_once(house):
    path = house.evidence("shared")
    house.claim("TEST-one", path)
    house.claim("TEST-two", path)
    results = run_verify()
    assert house.calls == {"shared": 1}
    assert all(claim.evidence[0].path == path for claim in results.claims)


def test_evidence_of_a_later_tier_waits_and_its_claim_is_judged_on_the_rest(house):
    fast, full = house.evidence("fast"), house.evidence("full", package="certified", tier="full")
    nightly = house.evidence("nightly", tier="nightly")
    house.claim("TEST-one", fast, full, recorded=Status.CERTIFIED)
    house.claim("TEST-two", nightly)
    results = run_verify("fast")
    assert _by_id(results)["TEST-one"].pending == [full]
    assert _by_id(results)["TEST-two"].pending == [nightly]
    assert results.agrees
    assert house.calls == {"fast": 1}
    assert run_verify("full").claims[0].pending == []
    assert not run_verify("full").agrees  # all of it ran now, and proves more than was recorded
    assert run_verify("nightly").claims[1].derived is Status.PROVED


def test_a_claim_with_evidence_pending_still_disagrees_when_what_ran_fails(house):
    broken = house.evidence("broken", finding=Finding((BAD,), "off"))
    house.claim("TEST-one", broken, house.evidence("full", tier="full"))
    assert not run_verify("fast").agrees


def test_a_status_other_than_the_recorded_one_disagrees_and_says_so(house):
    house.claim("TEST-one", house.evidence("one"), recorded=Status.SUPPORTED)
    results = run_verify()
    assert not results.agrees
    assert results.claims[0].reason.startswith("recorded as supported, now proved")


@pytest.mark.parametrize(
    ("twins", "problems", "agrees"),
    [([0.5], [], True), ([0.5, 2.0], [], False), ([math.nan], [], False), ([], ["an orphan"], False)],
)
def test_a_twin_that_differs_or_a_breach_of_the_ledgers_rules_disagrees(house, twins, problems, agrees):
    house.claim("TEST-one", house.evidence("one"))
    house.twins, house.problems = [_twin(value) for value in twins], problems
    assert run_verify().agrees is agrees


def test_a_ratio_that_grew_warns_without_disagreeing(house):
    path = house.evidence("one", finding=Finding((Ratio("rule", 0.9, 1.0),), "close"))
    house.claim("TEST-one", path)
    house.recorded = Recorded(
        claims={"TEST-one": RecordedClaim(status=Status.PROVED, evidence={path: 2.0**-4})}
    )
    results = run_verify()
    assert results.agrees
    assert len(results.warnings) == 1
    assert path in results.warnings[0]


def test_what_was_recorded_by_older_code_warns_without_disagreeing(house):
    path = house.evidence("one")
    house.claim("TEST-one", path)
    kept = recorded_evidence(run_evidence(path))
    house.figures = {path: kept.model_copy(update={"source": "another"})}
    results = run_verify()
    assert results.agrees
    assert [warning.partition(":")[0] for warning in results.warnings] == [path.partition(":")[0]]
    assert "older version of this evidence" in results.warnings[0]


def test_a_record_that_does_not_follow_from_its_own_figures_disagrees(house):
    path = house.evidence("one", tier="full")
    house.claim("TEST-one", path, recorded=Status.SUPPORTED)
    house.figures = {path: recorded_evidence(run_evidence(path))}
    results = run_verify("fast")  # its evidence waits, so that only the recorded files can show it
    assert all(claim.agrees for claim in results.claims)
    assert not results.agrees
    assert "claims.TEST-one.status: recorded as supported" in results.record_problems[0]


def test_ablations_and_provenance_are_part_of_the_results(house):
    verdict = AblationResult(
        claim="TEST-one", assumption="TEST-A-one", broken=True, factor=math.inf, tries=3, how="so"
    )
    finding = AblationFinding((GOOD,), "ablated", ablations=[verdict])
    house.claim("TEST-one", house.evidence("one", finding=finding), provenance=["2nd", "rec"])
    results = run_verify()
    assert results.claims[0].evidence[0].ablations == [verdict]
    assert results.claims[0].provenance == ["2nd", "rec"]
    assert VerifyResults.model_validate_json(results.model_dump_json()) == results


# ---- what goes wrong


@pytest.mark.parametrize(
    ("planted", "named"),
    [
        ({"error": ZeroDivisionError("by zero")}, "ZeroDivisionError: by zero"),
        ({"finding": Finding((), "nothing was decided")}, "nothing was decided"),
        ({"finding": Finding((Ratio("rule", math.nan, 1.0),), "not a number")}, "not a number"),
        ({"finding": Finding((GOOD, BAD), "one of two is off")}, "one of two is off"),
        ({"finding": "no finding at all"}, "AttributeError"),
    ],
)
def test_evidence_that_does_not_hold_fails_its_claim_and_stops_nothing(house, planted, named):
    house.claim("TEST-one", house.evidence("broken", **planted))
    house.claim("TEST-two", house.evidence("sound"))
    results = run_verify()
    assert _by_id(results)["TEST-one"].derived is Status.FAILING
    assert named in _by_id(results)["TEST-one"].reason
    assert _by_id(results)["TEST-two"].derived is Status.PROVED
    assert not results.agrees


@pytest.mark.parametrize("path", ["symbolic.no_such_module:f", "symbolic.kronecker:no_such_function"])
def test_evidence_that_is_not_there_fails_its_claim(house, path):
    house.claim("TEST-one", path)
    results = run_verify()
    assert results.claims[0].derived is Status.FAILING
    assert path in results.claims[0].reason
    assert run_evidence(path).ratios[0].value == math.inf


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"claims_glob": "FISMO-GOLDN"}, ["FISMO-GOLDN", "FISMO-GOLDEN"]),
        ({"tier": "slow"}, ["tier", "slow", "fast"]),
        ({"device": "tpu"}, ["device", "tpu", "cuda"]),
    ],
)
def test_options_that_cannot_be_honoured_are_usage_errors(arguments, named):
    with pytest.raises(UsageError) as caught:
        run_verify(**arguments)
    assert all(word in str(caught.value) for word in named)


def test_cuda_without_a_gpu_is_a_usage_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="cuda"):
        run_verify(device="cuda")


# ---- how it is run


def test_progress_names_every_unit_before_it_starts_and_ends_complete(house):
    house.claim("TEST-one", house.evidence("one"), house.evidence("two"))
    house.claim("TEST-two", house.evidence("one"))
    house.twins = [_twin(0.5)]
    told, claims, twins = [], [], []
    run_verify(progress=lambda *event: told.append(event), on_claim=claims.append, on_twin=twins.append)
    assert told == [
        (0, 3, "symbolic.house:one"),
        (1, 3, "symbolic.house:two"),
        (2, 3, "polar.f"),
        (3, 3, ""),
    ]
    assert [claim.id for claim in claims] == ["TEST-one", "TEST-two"]
    assert len(twins) == 1


def test_linear_algebra_runs_on_one_thread_and_the_setting_is_restored(house):
    seen = []

    class Spy(Finding):
        @property
        def holds(self):
            seen.append({pool["num_threads"] for pool in threadpool_info()} | {torch.get_num_threads()})
            return True

    house.claim("TEST-one", house.evidence("one", finding=Spy((GOOD,), "spied")))
    before = torch.get_num_threads()
    run_verify()
    assert seen
    assert all(threads == {1} for threads in seen)
    assert torch.get_num_threads() == before


# ---- what is written


def test_results_are_written_whole_and_read_back(house, tmp_path):
    exotic = {"p": Fraction(1, 3), "v": np.array([1.5, 2.5]), "n": np.float64(0.5), "list": [Fraction(2, 7)]}
    plain = {"p": "1/3", "v": [1.5, 2.5], "n": 0.5, "list": ["2/7"]}
    finding = Finding((GOOD,), "found", figures={"f": np.float64(1.5)}, tightness=0.5, counterexample=exotic)
    house.claim("TEST-one", house.evidence("one", finding=finding))
    results = run_verify()
    path = write_results(results, tmp_path / "new" / "folder")
    assert path.name == "results.json"
    assert [file.name for file in path.parent.iterdir()] == ["results.json"]
    assert VerifyResults.model_validate_json(path.read_text()) == results
    written = json.loads(path.read_text())["claims"][0]["evidence"][0]
    assert written["counterexample"] == plain


def test_a_failed_ratio_survives_writing(house, tmp_path):
    house.claim("TEST-one", house.evidence("one", error=RuntimeError("crashed")))
    path = write_results(run_verify(), tmp_path)
    read = VerifyResults.model_validate_json(path.read_text())
    assert read.claims[0].evidence[0].ratios[0].value == math.inf
    assert not read.agrees


def test_earlier_results_survive_a_failure_to_write(house, tmp_path, monkeypatch):
    house.claim("TEST-one", house.evidence("one"))
    results = run_verify()
    path = write_results(results, tmp_path)
    before = path.read_text()

    def full(*_args, **_kwargs):
        raise OSError("no space left")

    monkeypatch.setattr(VerifyResults, "model_dump_json", full)
    with pytest.raises(OSError, match="no space"):
        write_results(results, tmp_path)
    assert path.read_text() == before
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]


# ---- the real ledger


def test_the_ledger_is_selected_by_a_pattern_in_its_own_order():
    assert list(select_claims("*")) == list(load_claims())
    chosen = list(select_claims("KO-*"))
    assert chosen == [id for id in load_claims() if id.startswith("KO-")]
    assert len(chosen) > 1
    assert list(select_claims("SOFIM-nois?")) == ["SOFIM-noise"]
