"""The command line: exit codes, one clear line for what the caller got wrong, output that survives pipes."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import proofs_checks.report
import proofs_checks.verify
from proofs_checks import __version__
from proofs_checks.cli import app
from proofs_checks.conformance import CheckRecord, CheckReport, CheckStatus, Level
from proofs_checks.conformance.records import Counterexample, summarize
from proofs_checks.ledger import figures, load, load_claims, recorded
from proofs_checks.ledger import record as record_run
from proofs_checks.results import ClaimResult, Status, TwinResult, VerifyResults
from tests.proofs_checks.test_report import claim, everything, finding, ratio, results, twin

PASSED, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
GREETED = ("verify", "check", "claims")
COMMANDS = (*GREETED, "schedules", "golden export", "golden verify")
ESCAPE = "\x1b["

#: Seconds of processor time within which everything recorded about all claims must be shown.
ANSWER = 1.5

#: Gradient descent that claims to be Muon, and an optimizer that refuses its arguments.
OPTIMIZERS = """
import torch


class Descent(torch.optim.Optimizer):
    def __init__(self, params, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.0):
        super().__init__(params, dict(lr=lr))

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for W in group["params"]:
                if W.grad is not None:
                    W.sub_(W.grad, alpha=group["lr"])


class Refuses(Descent):
    def __init__(self, params, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.0):
        raise ValueError("momentum must be a prime number")
"""


def invoke(*arguments: str, **environment: str) -> Result:
    result = CliRunner().invoke(app, list(arguments), env=environment)
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    return result


def shell(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command as a user runs it."""
    return subprocess.run(
        [sys.executable, "-c", "from proofs_checks.cli import main; main()", *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def one_line(completed: subprocess.CompletedProcess[str]) -> str:
    """The only line on stderr."""
    lines = completed.stderr.splitlines()
    assert len(lines) == 1, completed.stderr
    return lines[0]


def run_with(monkeypatch: pytest.MonkeyPatch, claims: list[ClaimResult], twins: list[TwinResult]) -> None:
    """Let `verify` find these results without running anything."""

    def run_verify(tier, claims_glob, device, *, progress, on_claim, on_twin) -> VerifyResults:
        progress(0, 1, "first")
        for entry in claims:
            on_claim(entry)
        for entry in twins:
            on_twin(entry)
        progress(1, 1, "")
        return results(claims, twins)

    monkeypatch.setattr(proofs_checks.verify, "run_verify", run_verify)


@pytest.fixture
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the page out where it is not the subject."""
    monkeypatch.setattr(
        proofs_checks.report, "write_report", lambda results, out: out / "index.html", raising=False
    )


# The command itself


def test_without_arguments_it_greets_with_three_commands():
    result = invoke()
    assert result.exit_code == PASSED
    for command in GREETED:
        assert f"fisherproof {command} " in result.stdout


def test_the_greeting_names_things_that_exist():
    claims = re.findall(r"fisherproof claims (\S+)", invoke().stdout)
    assert claims
    assert set(claims) <= set(load_claims())


def test_version():
    result = invoke("--version")
    assert (result.exit_code, result.stdout) == (PASSED, f"fisherproof {__version__}\n")


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_has_an_example(command: str):
    result = invoke(*command.split(), "--help", COLUMNS="120", TERMINAL_WIDTH="120")
    assert result.exit_code == PASSED
    assert f"Example: fisherproof {command}" in result.stdout


def test_an_unknown_command_is_a_usage_error():
    assert invoke("verfy").exit_code == USAGE


def test_help_needs_neither_torch_nor_matplotlib():
    program = (
        "import sys\nfrom proofs_checks.cli import app\n"
        "try:\n    app(['verify', '--help'])\nexcept SystemExit as end:\n    assert not end.code\n"
        "assert not {'torch', 'matplotlib', 'numpy'} & set(sys.modules), sorted(sys.modules)\n"
    )
    completed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stderr


# claims


def test_claims_prints_one_line_per_claim_when_piped():
    lines = invoke("claims").stdout.splitlines()
    for entry in load_claims().values():
        assert sum(f" {entry.id} " in line and entry.statement.split()[0] in line for line in lines) == 1, (
            entry.id
        )


def test_claims_as_json_holds_every_claim_with_its_status():
    documents = json.loads(invoke("claims", "--json").stdout)
    assert [document["id"] for document in documents] == list(load_claims())
    assert {document["status"] for document in documents} <= {status.value for status in Status}


def test_one_claim_shows_statement_source_and_how_it_is_known():
    entry = load_claims()["KO-theorem2"]
    shown = " ".join(invoke("claims", entry.id, COLUMNS="200").stdout.split())
    for words in (entry.id, " ".join(entry.statement.split()), entry.source, "read in the source"):
        assert words in shown


def test_one_claim_as_json():
    document = json.loads(invoke("claims", "KO-theorem2", "--json").stdout)
    assert document["id"] == "KO-theorem2"


def test_every_claim_can_be_shown_in_a_narrow_terminal():
    for id in load_claims():
        assert invoke("claims", id, COLUMNS="40").exit_code == PASSED, id


def test_claims_as_json_shows_what_was_recorded_and_how_to_run_it():
    documents = {document["id"]: document for document in json.loads(invoke("claims", "--json").stdout)}
    for id, entry in load_claims().items():
        document = documents[id]
        assert [finding["path"] for finding in document["findings"]] == list(entry.evidence)
        assert all(finding["recorded"]["summary"] for finding in document["findings"])
        assert [known["id"] for known in document["ablation"]] == list(entry.assumptions)
        assert bool(document["reproduce"]) is bool(entry.evidence)
        assert document["counterexample"] or document["status"] != Status.REFUTED
    assert any(document["tightness"] for document in documents.values())


def test_json_is_strict():
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    json.loads(invoke("claims", "--json").stdout, parse_constant=refuse)


def test_one_claim_shows_figures_tightness_ablation_and_command():
    shown = " ".join(invoke("claims", "FISMO-T7-drift", COLUMNS="200").stdout.split())
    for words in (
        "of the bound was reached, by adversarial.drift:t7_drift; budget:",
        "needed: without it the bound is exceeded",
        "decisions, ",
        "planted faults",
        "fisherproof verify --claims FISMO-T7-drift",
    ):
        assert words in shown
    assert "nothing recorded" not in shown


def test_a_refuted_claim_shows_its_counterexample():
    shown = invoke("claims", "ADAF-inverse-error", COLUMNS="200").stdout
    assert "lam, epsilon = 1/1000, 1/1000000" in shown


def test_claims_answers_without_importing_what_runs_the_evidence(tmp_path: Path):
    program = (
        "import sys\nfrom proofs_checks.cli import app\n"
        "try:\n    app(['claims', 'KO-bound'])\nexcept SystemExit as end:\n    assert not end.code\n"
        "assert not {'torch', 'sympy', 'scipy', 'flint', 'matplotlib'} & set(sys.modules)\n"
    )
    completed = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert completed.returncode == 0, completed.stderr


def test_claims_answers_at_once(tmp_path: Path):
    before = os.times().children_user
    assert shell("claims", "--json", cwd=tmp_path).returncode == PASSED
    assert os.times().children_user - before <= ANSWER


# a ledger or a record that is broken


RECORD = """
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
evidence = ["symbolic.kronecker:recovery"]
"""


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A ledger folder of one claim with its record, put in place of the real one."""
    folder = tmp_path / "ledger"
    (folder / "claims").mkdir(parents=True)
    (folder / "claims" / "test.toml").write_text(RECORD, encoding="utf-8")
    for name in ("assumptions", "ablation"):
        (folder / f"{name}.toml").write_text("", encoding="utf-8")
    monkeypatch.setattr(load, "FOLDER", folder)
    monkeypatch.setattr(recorded, "RECORDED", folder / "recorded.json")
    monkeypatch.setattr(figures, "FIGURES", folder / "recorded_figures.json")
    load._ledger.cache_clear()
    path = "symbolic.kronecker:recovery"
    entry = claim("TEST-one", Status.PROVED, evidence=[finding(path=path)])
    record_run(results([entry], []), folder / "recorded.json")
    load._ledger.cache_clear()
    yield folder
    load._ledger.cache_clear()


def edited(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_the_ledger_of_one_claim_is_shown(house: Path):
    result = invoke("claims", "TEST-one")
    assert result.exit_code == PASSED, result.output
    assert "■ proved" in result.stdout


BROKEN = [
    ("claims/test.toml", "[[claim]]", "[[claim", ["test.toml", "not valid TOML"]),
    ("claims/test.toml", "kind =", "kin =", ["test.toml", "TEST-one", "kin"]),
    ("claims/test.toml", '"proved"\n', '"proved"\nassumptions = ["TEST-A-none"]\n', ["TEST-A-none"]),
    ("claims/test.toml", RECORD, RECORD + RECORD, ["TEST-one", "already in the ledger"]),
    ("claims/test.toml", RECORD, "", ["claims", "holds no claim"]),
    ("claims/test.toml", "kronecker:recovery", "no_such_module:f", ["no_such_module"]),
    ("claims/test.toml", "kronecker:recovery", "kronecker:no_such_proof", ["no_such_proof"]),
    ("assumptions.toml", "", "[[assumption]]\nid = 'TEST-A'\n", ["assumptions.toml", "TEST-A"]),
    ("ablation.toml", "", "[[exempt]]\nclaim = 'TEST-one'\n", ["ablation.toml", "TEST-one"]),
    ("recorded.json", '"proved"', '"supported"', ["recorded.json", "TEST-one", "recorded as supported"]),
    ("recorded.json", '"proved"', '"splendid"', ["recorded.json", "claims.TEST-one.status"]),
    ("recorded.json", "TEST-one", "TEST-two", ["recorded.json", "TEST-two", "no such claim"]),
    ("recorded.json", "0.25", "0.2", ["recorded.json", "TEST-one", "symbolic.kronecker:recovery"]),
    ("recorded.json", "{", "", ["recorded.json"]),
    ("recorded_figures.json", "remainder 0", "remainder 1", ["recorded_figures.json", "edited"]),
    ("recorded_figures.json", "{", "", ["recorded_figures.json", "cannot be read"]),
]


@pytest.mark.parametrize(("file", "old", "new", "named"), BROKEN)
@pytest.mark.parametrize("arguments", [("claims",), ("claims", "TEST-one", "--json")])
def test_a_broken_ledger_or_record_is_one_line_and_exit_1(
    house: Path, arguments: tuple[str, ...], file: str, old: str, new: str, named: list[str]
):
    edited(house / file, old, new)
    result = invoke(*arguments)
    assert result.exit_code == FAILED, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("fisherproof claims: ")
    for word in named:
        assert word in line


@pytest.mark.parametrize("missing", ["assumptions.toml", "ablation.toml"])
def test_a_missing_file_of_the_ledger_is_named(house: Path, missing: str):
    (house / missing).unlink()
    result = invoke("claims")
    assert result.exit_code == FAILED
    assert f"{missing}: cannot be read" in result.stderr


@pytest.mark.usefixtures("no_page")
def test_verify_does_not_pass_over_evidence_that_cannot_be_imported(
    house: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    edited(house / "claims" / "test.toml", "kronecker:recovery", "no_such_module:f")
    monkeypatch.setattr(proofs_checks.verify, "lint_ledger", list)
    monkeypatch.setattr(proofs_checks.verify, "twin_count", lambda: 0)
    monkeypatch.setattr(proofs_checks.verify, "compare_twins", lambda *_, **__: iter(()))
    result = invoke("verify", "--out", str(tmp_path / "out"))
    assert result.exit_code == FAILED, result.output
    assert "symbolic.no_such_module:f" in result.stdout


def test_verify_on_a_malformed_ledger_is_one_line_and_exit_1(house: Path, tmp_path: Path):
    edited(house / "claims" / "test.toml", "kind =", "kin =")
    result = invoke("verify", "--out", str(tmp_path / "out"))
    assert result.exit_code == FAILED
    (line,) = result.stderr.splitlines()
    assert line.startswith("fisherproof verify: test.toml: claim TEST-one: field")


def test_an_id_that_a_sound_ledger_does_not_hold_is_a_usage_error(house: Path):
    assert invoke("claims", "TEST-two").exit_code == USAGE


def test_an_unknown_claim_is_a_usage_error_with_the_nearest_ids(tmp_path: Path):
    completed = shell("claims", "KO-theorm2", cwd=tmp_path)
    assert completed.returncode == USAGE
    assert completed.stdout == ""
    assert "'KO-theorm2'" in one_line(completed)
    assert "KO-theorem2" in one_line(completed)


def test_a_terminal_that_cannot_show_greek_is_no_error(tmp_path: Path):
    completed = shell("claims", cwd=tmp_path, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert (completed.returncode, completed.stderr) == (PASSED, "")


# verify


def test_verify_ends_with_0_if_everything_agrees(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    run_with(monkeypatch, everything()[:4], [twin("float64")])
    result = invoke("verify", "--out", str(tmp_path / "new" / "folder"))
    assert result.exit_code == PASSED, result.output
    assert str(tmp_path / "new" / "folder" / "index.html") in result.stdout
    document = json.loads((tmp_path / "new" / "folder" / "results.json").read_text(encoding="utf-8"))
    assert [entry["id"] for entry in document["claims"]] == [entry.id for entry in everything()[:4]]
    assert "<!DOCTYPE html>" in (tmp_path / "new" / "folder" / "index.html").read_text(encoding="utf-8")


@pytest.mark.usefixtures("no_page")
@pytest.mark.parametrize(
    ("claims", "twins"),
    [
        ([claim("KO-identity", Status.FAILING, agrees=False, reason="remainder x^2")], []),
        ([claim("KO-identity", Status.PROVED, agrees=False, reason="recorded as supported")], []),
        ([claim("KO-identity", Status.PROVED)], [twin("float32", value=7.0)]),
    ],
    ids=["failing", "another status", "twins differ"],
)
def test_verify_ends_with_1_if_something_does_not(
    claims, twins, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    run_with(monkeypatch, claims, twins)
    result = invoke("verify", "--out", str(tmp_path))
    assert result.exit_code == FAILED, result.output
    assert "Does not agree with the ledger" in result.stdout
    for entry in claims:
        assert entry.reason in result.stdout


@pytest.mark.usefixtures("no_page")
def test_verify_prints_one_line_per_claim_and_a_table_by_status(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    run_with(monkeypatch, everything(), [twin("float64")])
    lines, _, table = invoke("verify", "--out", str(tmp_path), COLUMNS="40").stdout.partition("\n\n")
    for entry in everything():
        assert sum(f" {entry.id}" in line for line in lines.splitlines()) == 1
    assert "trusted number" in table.splitlines()[0]
    assert sum("polar.polar_factor float64" in line for line in lines.splitlines()) == 1
    for status in Status:
        assert status.value in lines
        assert status.value.split()[0] in table


@pytest.mark.usefixtures("no_page")
def test_piped_output_has_no_colour_and_no_bar(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    run_with(monkeypatch, everything(), [])
    result = invoke("verify", "--out", str(tmp_path))
    assert ESCAPE not in result.stdout
    assert result.stderr == ""


@pytest.mark.usefixtures("no_page")
def test_an_interruption_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(proofs_checks.verify, "run_verify", interrupted)
    result = invoke("verify", "--out", str(tmp_path))
    assert result.exit_code == INTERRUPTED
    assert result.stderr == "fisherproof verify: interrupted\n"


@pytest.mark.usefixtures("no_page")
def test_a_failing_run_is_never_recorded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    before = proofs_checks.ledger.recorded.RECORDED
    content = before.read_bytes() if before.exists() else None
    run_with(monkeypatch, [claim("KO-identity", Status.FAILING, agrees=False)], [])
    result = invoke("verify", "--record", "--out", str(tmp_path))
    assert result.exit_code == FAILED
    assert "KO-identity" in result.stderr
    assert (before.read_bytes() if before.exists() else None) == content


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tier", "fst"], "fast"),
        (["--device", "abacus"], "cuda"),
        (["--claims", "KO-theorm*"], "KO-theorem2"),
    ],
)
def test_what_verify_cannot_do_is_a_usage_error(arguments: list[str], words: str, tmp_path: Path):
    completed = shell("verify", *arguments, "--out", str(tmp_path / "out"), cwd=tmp_path)
    assert completed.returncode == USAGE
    assert words in completed.stderr
    assert "Traceback" not in completed.stderr


def test_an_unwritable_folder_is_found_before_the_run(tmp_path: Path):
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")
    completed = shell("verify", "--out", str(tmp_path / "file"), cwd=tmp_path)
    assert completed.returncode == USAGE
    assert completed.stdout == ""
    assert f"cannot write into {str(tmp_path / 'file')!r}" in one_line(completed)


# check


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A user's folder with a module of theirs."""
    (tmp_path / "mine.py").write_text(OPTIMIZERS, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mine:Descent", "--spec", "moun"], "muon"),
        (["absent.module:Descent", "--spec", "muon"], "absent"),
        (["mine:Decent", "--spec", "muon"], "Descent"),
        (["mine:Refuses", "--spec", "muon"], "momentum must be a prime number"),
        (["mine", "--spec", "muon"], "MODULE:ATTR"),
        (
            ["mine:Descent", "--spec", "muon", "--option", "nesterov"],
            "--option must be NAME=VALUE, got 'nesterov'",
        ),
        (["mine:Descent", "--spec", "muon", "--rename", "=beta"], "--rename must be NAME=VALUE"),
        (["mine:Descent", "--spec", "muon", "--json", "mine.py/report.json"], "cannot write into"),
        (["mine:Descent", "--spec", "muon", "--expected-failures", "absent.toml"], "absent.toml"),
    ],
)
def test_what_check_cannot_do_is_one_line(arguments: list[str], words: str, here: Path):
    completed = shell("check", *arguments, cwd=here)
    assert completed.returncode == USAGE, completed.stderr
    assert words in one_line(completed)


def test_a_module_of_the_current_folder_is_judged_and_its_failure_can_be_reproduced(here: Path):
    completed = shell(
        "check",
        "mine:Descent",
        "--spec",
        "muon",
        "--level",
        "L2",
        "--dtype",
        "float64",
        "--json",
        "new/report.json",
        cwd=here,
        COLUMNS="100",
    )
    assert completed.returncode == FAILED, completed.stderr
    assert completed.stdout.startswith(
        f"fisherproof {__version__}: checking mine:Descent against spec muon\n"
    )
    assert "Does not conform. mine:Descent against spec muon" in completed.stdout
    report = json.loads((here / "new" / "report.json").read_text(encoding="utf-8"))
    failed = [record for record in report["checks"] if record["status"] == "failed"]
    assert report["summary"]["failed"] == len(failed) > 0
    scripts = re.findall(r"reproduce: python (\S+)", completed.stdout)
    assert scripts
    run = subprocess.run([sys.executable, scripts[0]], cwd=here, capture_output=True, check=False)
    assert run.returncode == 1


def record(id: str, status: CheckStatus, **changes: object) -> CheckRecord:
    plain = {
        "id": id,
        "claim": "KO-theorem2",
        "equation": "V = beta V + (1 - beta) G",
        "level": Level.GOLDEN,
        "status": status,
        "ratio": 0.5,
        "threshold": 1.0,
        "dtype": "float32",
        "device": "cpu",
        "message": "",
    }
    return CheckRecord.model_validate(plain | changes)


def check_with(monkeypatch: pytest.MonkeyPatch, *records: CheckRecord) -> Result:
    """What `check` prints and returns for these records."""
    environment = results([]).environment
    report = CheckReport(
        fisherproof=__version__,
        target="mine:Descent",
        spec="muon",
        variant={"nesterov": True},
        environment=environment,
        summary=summarize(list(records)),
        checks=list(records),
    )

    def run_check(*_, progress, **__) -> CheckReport:
        for done, entry in enumerate(records, start=1):
            progress(done, len(records), entry)
        return report

    monkeypatch.setattr(proofs_checks.conformance, "run_check", run_check, raising=False)
    return invoke("check", "mine:Descent", "--spec", "muon", COLUMNS="100")


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_check_ends_with_0_if_the_target_conforms(monkeypatch: pytest.MonkeyPatch, elsewhere: Path):
    result = check_with(
        monkeypatch,
        record("muon.momentum[float32]", CheckStatus.PASSED),
        record("muon.decay[float32]", CheckStatus.EXPECTED_FAILURE, ratio=9.0),
        record("muon.scale[float32]", CheckStatus.NOT_APPLICABLE, ratio=None, threshold=None),
    )
    assert result.exit_code == PASSED, result.output
    assert "Conforms." in result.stdout
    assert "1 passed, 0 failed, 1 failed as expected, 1 does not apply" in " ".join(result.stdout.split())
    assert list(elsewhere.iterdir()) == []


@pytest.mark.usefixtures("elsewhere")
def test_nothing_that_passes_is_not_conforming(monkeypatch: pytest.MonkeyPatch):
    assert (
        check_with(monkeypatch, record("muon.scale[float32]", CheckStatus.NOT_APPLICABLE)).exit_code == FAILED
    )


def test_a_failure_shows_equation_size_input_likeness_and_script(
    monkeypatch: pytest.MonkeyPatch, elsewhere: Path
):
    counterexample = Counterexample(inputs={"G": [["0x1.8p+1", "0x0.0p+0"]]}, script="raise SystemExit(1)\n")
    result = check_with(
        monkeypatch,
        record("muon.momentum[float64,nesterov=True]", CheckStatus.PASSED, dtype="float64"),
        record(
            "muon.momentum[float32,nesterov=True]",
            CheckStatus.FAILED,
            ratio=4.2e6,
            message="differs at step 2",
            counterexample=counterexample,
            nearest_mutant="decay applied after the step",
        ),
    )
    assert result.exit_code == FAILED
    script = elsewhere / "fisherproof-failures" / "muon.momentum_float32_nesterov=True.py"
    assert script.read_text(encoding="utf-8") == counterexample.script
    for words in (
        "V = beta V + (1 - beta) G",
        ": 4.2e6 of 1 budgets",
        "differs at step 2",
        "G = [[3, 0]]",
        "behaves like decay applied after the step",
        f"python fisherproof-failures/{script.name}",
        "in 1 of 2 settings",
    ):
        assert words in result.stdout


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("ratio_value", [None, float("inf"), float("nan")])
def test_a_failure_without_a_number_is_still_a_failure(
    monkeypatch: pytest.MonkeyPatch, ratio_value: float | None
):
    failure = record("muon.shape[float32]", CheckStatus.FAILED, ratio=ratio_value, message="shape (3, 2)")
    result = check_with(monkeypatch, failure)
    assert result.exit_code == FAILED
    assert "shape (3, 2)" in result.stdout


@pytest.mark.usefixtures("elsewhere", "no_page")
def test_text_in_square_brackets_is_printed_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    evidence = finding(ratios=[ratio(0.1)])
    entry = claim(
        "KO-identity", Status.FAILING, agrees=False, evidence=[evidence], reason="[bold]G[0][/] is off"
    )
    run_with(monkeypatch, [entry], [])
    assert "[bold]G[0][/] is off" in invoke("verify", "--out", str(tmp_path)).stdout
