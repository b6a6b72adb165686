"""Golden vectors: what is written, what is accepted, what is refused, and that a fault cannot hide."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import torch_impl
from proofs_checks.cli import app
from proofs_checks.golden import GoldenError, export, judging, rational, verify, writing
from proofs_checks.golden.case import budgets, expected
from proofs_checks.golden.document import PRODUCER, ArrayRecord, read
from proofs_checks.golden.functions import FUNCTIONS, stepped
from proofs_checks.mutants import mutated
from proofs_checks.mutants.fismo import REFERENCE_FAULTS as FISMO_FAULTS
from proofs_checks.mutants.muon import REFERENCE_FAULTS as MUON_FAULTS
from proofs_checks.mutants.sofim import REFERENCE_FAULTS as SOFIM_FAULTS
from proofs_checks.ratios import Ratio, worst

PASSED, FAILED, USAGE = 0, 1, 2

#: A fault in how a gradient is dealt out to several parameters does not show in a step on one flat vector.
ELSEWHERE = ("sofim.norm-per-parameter",)
FAULTS = [fault for fault in (*FISMO_FAULTS, *MUON_FAULTS, *SOFIM_FAULTS) if fault.id not in ELSEWHERE]
TWINS = (
    "fismo.step",
    "sofim.step",
    "muon.step",
    "polar.polar_factor",
    "polar.spectral_lmo",
    "polar.newton_schulz",
)


@pytest.fixture(scope="session")
def files(tmp_path_factory) -> dict[str, str]:
    """The exported files, by name."""
    folder = tmp_path_factory.mktemp("golden") / "vectors"
    export(folder)
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.fixture
def folder(files, tmp_path) -> Path:
    """An export that a test may change."""
    made = tmp_path / "vectors"
    made.mkdir()
    for name, content in files.items():
        (made / name).write_text(content)
    return made


@pytest.fixture
def small(folder, monkeypatch) -> Path:
    """An export of one function only, which is judged faster."""
    for name in FUNCTIONS.keys() - {"sofim.step"}:
        (folder / f"{name}.json").unlink()
    monkeypatch.setattr(judging, "FUNCTIONS", {"sofim.step": FUNCTIONS["sofim.step"]})
    return folder


def changed(folder: Path, function: str, change) -> None:
    """Apply `change` to the JSON of a function."""
    path = folder / f"{function}.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def invoke(*arguments: str):
    result = CliRunner().invoke(app, ["golden", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    return result


def ratio(X, Y, budget) -> Ratio:
    """Error over budget of one output, written again."""
    X, Y = np.asarray(X), np.asarray(Y)
    assert X.shape == Y.shape
    if not budget.ndim:
        return Ratio("frobenius", float(np.linalg.norm(X - Y)), max(float(budget), np.finfo(float).tiny))
    allowed = np.maximum(budget, np.finfo(float).tiny)
    at = np.unravel_index(np.argmax(np.abs(X - Y) / allowed), X.shape)
    return Ratio("entry", float(np.abs(X - Y)[at]), float(allowed[at]))


def judged(function, case, outputs, dtype="float64") -> Ratio:
    """The worst ratio of a run."""
    rows = zip(outputs, expected(function, case), budgets(function, case, dtype), strict=True)
    return worst(ratio(got[name], want[name], allowed[name]) for got, want, allowed in rows for name in want)


def test_what_was_exported_agrees(folder):
    result = invoke("verify", folder)
    assert result.exit_code == PASSED, result.output
    assert "Everything agrees" in result.output
    assert all(name in result.output for name in FUNCTIONS)


def test_two_exports_are_the_same_bytes_and_replace_each_other(files, folder):
    assert invoke("export", folder).exit_code == PASSED
    assert {path.name: path.read_text() for path in folder.iterdir()} == files
    assert sorted(path.name for path in folder.parent.iterdir()) == [folder.name]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_step_of_every_case_has_all_outputs_and_budgets_that_resolve_something(files, name):
    document = read(f"{name}.json", files[f"{name}.json"])
    assert len(document.cases) == len(FUNCTIONS[name].cases)
    assert len({case.name for case in document.cases}) == len(document.cases)
    for case in document.cases:
        for dtype in ("float64", "float32"):
            for step, allowed in zip(case.outputs, case.budgets[dtype], strict=True):
                assert step.keys() == allowed.keys()
                for output, record in step.items():
                    size = np.abs(record.array(output))
                    bounds = np.array(allowed[output].values)
                    assert np.isfinite(bounds).all()
                    total = np.linalg.norm(bounds)
                    assert total < np.linalg.norm(size) or (total == 0 and not size.any())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_reference_is_within_its_budget_of_the_exact_values(name):
    function = FUNCTIONS[name]
    found = [judged(function, case, function.run(case)) for case in function.cases]
    assert worst(found).passed, worst(found)
    exact = [step for case in function.cases for step in function.exact(case)]
    assert any(exact)


def test_fractions_and_hexadecimal_numbers_are_the_same_number(files):
    fractions = 0
    for name in FUNCTIONS:
        for case in read(name, files[f"{name}.json"]).cases:
            for record in (array for step in case.outputs for array in step.values()):
                assert [float.fromhex(x) for x in record.hex] == record.decimal
                for text, x in zip(record.exact or (), record.decimal, strict=record.exact is not None):
                    if text is not None:
                        fractions += 1
                        assert float(Fraction(text)) == x
    assert fractions > 1


def test_the_first_step_of_fismo_is_the_printed_one(files):
    first = read("fismo.step", files["fismo.step.json"]).cases[0].outputs[0]
    assert first["P"].exact == ["19/16", "-1/4", "-1/4", "13/16"]


@pytest.mark.parametrize(
    ("case", "digits"),
    [
        ("algorithm, gauss-seidel, none", "-0.1534225422177 -0.2350011965256 -0.03740650017101"),
        ("algorithm, jacobi, none", "-0.1599463786486 -0.2423682170283 -0.0279370312442"),
        ("theorem, gauss-seidel, none", "-0.1527055599889 -0.2351024128512 -0.03665313738532"),
        ("theorem, jacobi, none", "-0.1582768920945 -0.2406429500105 -0.02760435007923"),
        ("algorithm, gauss-seidel, unit", "-0.1532077339615 -0.2403274511797 -0.03102161767096"),
        ("theorem, gauss-seidel, unit", "-0.1527208987779 -0.2404230490026 -0.03054229867675"),
    ],
)
def test_three_steps_of_fismo_add_up_to_the_printed_parameter(case, digits):
    """Computed with 40 digits for the specification: step size 1/10 from zero, first row."""
    function = FUNCTIONS["fismo.step"]
    steps = expected(function, next(c for c in function.cases if c.name == case))
    row = -sum(step["update"][0] for step in steps) / 10
    for got, text in zip(row, digits.split(), strict=True):
        half_unit = 0.5 * 10.0 ** -len(text.partition(".")[2])
        rounding = 2**10 * np.finfo(float).eps
        assert Ratio("printed", abs(got - float(text)), half_unit + rounding).passed


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", TWINS)
def test_the_torch_implementation_agrees(folder, name, dtype):
    """The files as somebody else's implementation would fill them in."""
    module = getattr(torch_impl, name.partition(".")[0])

    def fill(document):
        document["producer"], document["dtype"] = "torch_impl", dtype
        for case, record in zip(FUNCTIONS[name].cases, document["cases"], strict=True):
            for step, outputs in zip(
                record["outputs"], torch_outputs(module, name, case, dtype), strict=True
            ):
                assert step.keys() == outputs.keys()
                step.update({k: ArrayRecord.of(X).model_dump(exclude_none=True) for k, X in outputs.items()})

    changed(folder, name, fill)
    report = verify(folder)
    result = next(result for result in report.results if result.function == name)
    assert report.agrees, result.failure
    assert result.producer == "torch_impl"
    assert result.worst.value > 0


def torch_outputs(module, name, case, dtype):
    """Outputs of a torch twin along a case."""

    def tensor(X):
        return torch.tensor(X, dtype=getattr(torch, dtype))

    def arrays(named):
        return {k: X.double().numpy() for k, X in named.items() if isinstance(X, torch.Tensor)}

    steps = [{k: tensor(X) for k, X in step.items()} for step in case.steps]
    if not name.endswith(".step"):
        function, output = getattr(module, name.partition(".")[2]), "Q" if "factor" in name else "X"
        hp = {k: [tuple(p) for p in v] if k == "polynomials" else v for k, v in case.hp.items()}
        return [arrays({output: function(*step.values(), **hp)}) for step in steps]
    state, out = (
        module.init(next(iter(steps[0].values())), **{k: tensor(X) for k, X in case.start.items()}),
        [],
    )
    for step in steps:
        G, *_ = step.values()
        others = {k: X for k, X in step.items() if k == "W"}
        update, state = module.step(G, state, **others, **case.hp)
        out.append(arrays({"update": update, **state._asdict()}))
    return out


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_error_beyond_the_budget_fails_and_one_within_it_does_not(folder, name):
    function = FUNCTIONS[name]
    at = next(
        (i, t, output)
        for i, case in enumerate(function.cases)
        for t, step in enumerate(budgets(function, case, "float64"))
        for output, budget in step.items()
        if budget.any()
    )
    i, t, output = at
    truth = expected(function, function.cases[i])[t][output]
    budget = budgets(function, function.cases[i], "float64")[t][output]
    entry = np.unravel_index(np.argmax(budget), budget.shape) if budget.ndim else (0,) * truth.ndim
    for times, code in ((0.5, PASSED), (2.0, FAILED)):

        def move(document, times=times):
            X = truth.copy()
            X[entry] += times * budget.max()
            document["cases"][i]["outputs"][t][output] = {
                "shape": list(X.shape),
                "hex": [x.hex() for x in X.flat],
            }

        changed(folder, name, move)
        result = invoke("verify", folder)
        assert result.exit_code == code, result.output
    assert "equation:" in result.output
    assert function.cases[i].name in result.output


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_every_known_fault_of_the_reference_is_told_apart(fault):
    name = f"{fault.module.removeprefix('reference.')}.step"
    module, function = mutated(fault), FUNCTIONS[name]
    for case in function.cases:
        try:
            with np.errstate(all="ignore"):
                found = judged(function, case, stepped(module, case))
        except (ValueError, AssertionError):  # the copy refuses, or returns another shape
            return
        if not found.passed:
            return
    pytest.fail(f"{fault.id}: {fault.description}")


def number(value):
    return lambda d: d["cases"][0]["outputs"][0]["update"]["hex"].__setitem__(0, value)


WRONG = {
    "nan": (number("nan"), "not a finite number"),
    "infinite": (number("-inf"), "not a finite number"),
    "another number": (number("0x1.0p+9"), "times its budget"),
    "case missing": (lambda d: d["cases"].pop(0), "is missing"),
    "step missing": (lambda d: d["cases"][0]["outputs"].pop(), "outputs of 2 steps, not 3"),
    "output missing": (lambda d: d["cases"][0]["outputs"][1].pop("M"), "step 2, M: missing"),
    "another shape": (
        lambda d: d["cases"][0]["outputs"][0].update(update={"shape": [1], "hex": ["0x0p+0"]}),
        "shape [1], not [4]",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_or_missing_results_fail(small, name):
    change, words = WRONG[name]
    changed(small, "sofim.step", change)
    result = invoke("verify", small)
    assert result.exit_code == FAILED
    assert words in " ".join(result.output.split())
    assert "M_hat" in result.output


def test_a_missing_file_counts_all_its_cases_as_failed(folder):
    (folder / "muon.step.json").unlink()
    report = verify(folder)
    missing = next(result for result in report.results if result.function == "muon.step")
    assert not report.agrees
    assert missing.failed == len(FUNCTIONS["muon.step"].cases)
    assert not missing.worst.passed


def first(key, value):
    return lambda d: d["cases"][0][key][0][next(iter(d["cases"][0][key][0]))].update(value)


UNREADABLE = {
    "unknown version": (lambda d: d.update(version=99), "unknown version 99"),
    "another format": (lambda d: d.update(format="other"), "field 'format'"),
    "field missing": (lambda d: d.pop("equation"), "field equation"),
    "field too many": (lambda d: d.update(comment=""), "field comment"),
    "another function": (lambda d: d.update(function="muon.step"), "must be 'sofim.step'"),
    "unknown precision": (lambda d: d.update(dtype="posit"), "field dtype"),
    "malformed number": (number("0.1.2"), "'0.1.2' is not a hexadecimal"),
    "too many numbers": (first("outputs", {"hex": ["0x0p+0"]}), "does not fit 1 numbers"),
    "numbers that are no text": (first("outputs", {"hex": [1.0]}), "field cases.0.outputs"),
    "negative shape": (first("outputs", {"shape": [-1, -4]}), "does not fit"),
    "unknown output": (
        lambda d: d["cases"][0]["outputs"][0].update(V=d["cases"][0]["outputs"][0]["M"]),
        "'V'",
    ),
    "nan input": (first("inputs", {"hex": ["nan"] * 4}), "must be finite"),
    "input in double precision": (first("inputs", {"hex": ["0x1.0000000000001p+0"] * 4}), "finite float32"),
    "other inputs": (first("inputs", {"hex": ["0x1p+0"] * 4}), "not those of the export"),
    "other hyper-parameters": (
        lambda d: d["cases"][0]["hyper_parameters"].update(rho={"hex": "0x1p+0", "decimal": 1.0}),
        "not those of the export",
    ),
    "nan hyper-parameter": (
        lambda d: d["cases"][0]["hyper_parameters"].update(rho={"hex": "nan"}),
        "hyper-parameter rho",
    ),
    "one name twice": (lambda d: d["cases"].append(d["cases"][0]), "one name"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_judged_is_an_error_in_one_line(small, name):
    change, words = UNREADABLE[name]
    changed(small, "sofim.step", change)
    result = invoke("verify", small)
    assert result.exit_code == USAGE, result.output
    assert len(result.stderr.splitlines()) == 1
    assert words in result.stderr
    assert "sofim.step" in result.stderr


@pytest.mark.parametrize("content", ["", "[]", "{", '{"version": NaN}', "\x00", "[" * 100_000])
def test_files_that_are_no_golden_vectors_are_errors(small, content):
    (small / "sofim.step.json").write_text(content)
    result = invoke("verify", small)
    assert result.exit_code == USAGE
    assert len(result.stderr.splitlines()) == 1


def test_a_file_of_no_function_and_a_folder_without_files_are_errors(folder, tmp_path):
    (folder / "lion.step.json").write_text("{}")
    assert "no function of that name" in invoke("verify", folder).stderr
    for nothing in (tmp_path / "nowhere", tmp_path):
        result = invoke("verify", nothing)
        assert result.exit_code == USAGE
        assert "no golden vectors" in result.stderr


def test_a_case_of_ones_own_is_judged_by_its_inputs(small):
    def add(document):
        own = json.loads(json.dumps(document["cases"][0]))
        own["name"] = "my own"
        own["inputs"][0]["g"]["hex"][0] = "0x1.8p+1"
        document["cases"].append(own)

    changed(small, "sofim.step", add)
    report = verify(small)
    result = next(result for result in report.results if result.function == "sofim.step")
    assert result.failed == 1
    assert "my own" in result.failure


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["cases"][-1].update(name="own", hyper_parameters={}),
        lambda d: d["cases"][-1].update(name="own", inputs=[{}]),
        lambda d: (
            d["cases"][-1]["hyper_parameters"].update(rho={"hex": "-0x1p+0"})
            or d["cases"][-1].update(name="own")
        ),
    ],
)
def test_a_case_of_ones_own_that_the_reference_refuses_is_an_error(small, change):
    changed(small, "sofim.step", change)
    result = invoke("verify", small)
    assert result.exit_code == USAGE
    assert "own" in result.stderr


def test_what_is_not_an_export_is_never_replaced(folder, tmp_path):
    (folder / "notes.txt").write_text("mine")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    result = invoke("export", folder)
    assert result.exit_code == USAGE
    assert "'notes.txt'" in result.stderr
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    occupied = tmp_path / "file"
    occupied.write_text("")
    assert "not a directory" in invoke("export", occupied).stderr
    assert "cannot write" in invoke("export", occupied / "below").stderr


def test_outputs_of_somebody_else_are_never_replaced(folder):
    changed(folder, "sofim.step", lambda d: d.update(producer="ours"))
    assert "'sofim.step.json'" in invoke("export", folder).stderr


def test_the_current_directory_is_not_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert invoke("export", ".").exit_code == USAGE
    assert invoke("export", "below").exit_code == PASSED


def test_an_export_that_fails_leaves_everything_as_it_was(folder, tmp_path, monkeypatch, files):
    def full_disk(functions):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(writing, "readme", full_disk)
        for target in (folder, tmp_path / "new"):
            with pytest.raises(GoldenError, match="No space left"):
                export(target)
    renames = []

    def no_rename(self, target, rename=Path.rename):
        renames.append(self)
        if self.name.endswith(".partial"):
            raise OSError(18, "Invalid cross-device link")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", no_rename)
    with pytest.raises(GoldenError, match="cross-device"):
        export(folder)
    assert len(renames) == 3
    assert {path.name: path.read_text() for path in folder.iterdir()} == files
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_the_readme_names_every_file_and_field(files):
    document = json.loads(files["muon.step.json"])
    words = [*document, *document["cases"][0], *files, PRODUCER]
    assert not [word for word in words if word != "README.md" and f"{word}" not in files["README.md"]]


def test_every_command_shows_an_example():
    for command in ("export", "verify"):
        assert f"fisherproof golden {command}" in " ".join(invoke(command, "--help").output.split())


def test_rational_polar_factors_are_isometries_that_leave_a_positive_matrix():
    for rows in ([[10, 15], [-5, 5]], [[3, 4], [4, -3]], [[3, 6, 6], [4, 8, 8]], [[0, -2], [7, 0]]):
        X = [[Fraction(x) for x in row] for row in rows]
        Q = rational.polar(X)
        H = rational.product(rational.transpose(Q), X)
        assert rational.product(Q, rational.transpose(Q), Q) == Q
        assert rational.transpose(H) == H
        assert rational.product(Q, H) == X
        assert all(H[i][i] >= 0 for i in range(len(H)))
    irrational = [[Fraction(1), Fraction(2)], [Fraction(0), Fraction(1)]]  # rows (1, 1), (-1, 1) over sqrt 2
    assert rational.polar(irrational) is None
