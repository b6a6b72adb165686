"""The linter finds every way of planting a bare number, and nothing in clean code."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.lint.bare_numbers import check_paths, check_source, main

PLANTED = {
    # float literals anywhere in a comparison
    "error < 1e-6": "float literal 1e-06",
    "1e-6 > error": "float literal 1e-06",
    "error == 0.5": "float literal 0.5",
    "error != -0.5": "float literal 0.5",
    "error <= 10.0 * u": "float literal 10.0",
    "abs(x - y) / (2.5 + z) < u": "float literal 2.5",
    "0 < error < 0.1": "float literal 0.1",
    "x in (0.1, 0.2)": "float literal 0.1",
    "f(x, 0.3) == y": "float literal 0.3",
    "error < float(1e-3)": "float literal 0.001",
    "error < 1e-3 if small else error < u": "float literal 0.001",
    "all(value < 0.1 for value in values)": "float literal 0.1",
    "error < 2j": "float literal 2j",
    "assert error < 1_0.0": "float literal 10.0",
    "while error > 0.1: pass": "float literal 0.1",
    # integers in order comparisons
    "ratio <= 30": "int literal 30",
    "ratio > 2": "int literal 2",
    "-3 < x": "int literal 3",
    "error < 10 * u": "int literal 10",
    "error < u * (1 + 16 * n)": "int literal 16",
    "error < 10**-6": "int literal 10",
    "error < 2**-20": "int literal 2",
    "error < int(5)": "int literal 5",
    "error < max(u, 7)": "int literal 7",
    "error < np.float64(9)": "int literal 9",
    "error < (3 if coarse else u)": "int literal 3",
    "error <= ~5": "int literal 5",
    # tolerances as keywords
    "f(x, atol=1e-6)": "atol=1e-06",
    "f(x, rtol=1)": "rtol=1",
    "f(x, abs=-1e-6)": "abs=-1e-06",
    "f(x, rel=1 / 3)": "rel=1 / 3",
    "f(x, tol=10**-6)": "literal tolerance tol=",
    "f(x, tolerance=float('1e-3') + 2 * u)": "tolerance=",
    "f(x, rtol=8 * u)": "rtol=8 * u",
    "f(x, delta=0.1)": "delta=0.1",
    "f(x, places=5)": "places=5",
    "f(x, decimal=7)": "decimal=7",
    "f(x, maxulp=4)": "maxulp=4",
    "math.isclose(x, y, rel_tol=1e-9)": "rel_tol=1e-09",
    # tolerances by position
    "np.isclose(x, y, 1e-6)": "tolerance 1e-06 of isclose",
    "np.allclose(x, y, u, 1e-6)": "tolerance 1e-06 of allclose",
    "np.testing.assert_allclose(x, y, 1e-6)": "tolerance 1e-06 of assert_allclose",
    "assert x == pytest.approx(y, 1e-6)": "tolerance 1e-06 of approx",
    "approx(y, -1)": "tolerance -1 of approx",
    "self.assertAlmostEqual(x, y, 5)": "tolerance 5 of assertAlmostEqual",
    # tolerances nobody chose
    "np.allclose(x, y)": "allclose without a tolerance",
    "assert x == pytest.approx(y)": "approx without a tolerance",
    "torch.testing.assert_close(x, y)": "assert_close without a tolerance",
    # budgets
    "Ratio('name', error, 1e-6)": "budget 1e-06 of Ratio",
    "Ratio('name', error, budget=100)": "budget 100 of Ratio",
    "ratios.Ratio('name', error, b, 50.0)": "budget 50.0 of Ratio",
    "equivariance(x, y, budget=1e-6)": "budget 1e-06 of equivariance",
    "ratios.inequality(x, y, rounding=1e-9 * 10)": "of inequality",
    # what does not parse cannot be checked
    "error < ": "does not parse",
}

CLEAN = [
    "TOLERANCE = 1e-6",
    "assert error < TOLERANCE",
    "budget = 16 * n * u",
    "assert x.ndim == 2",
    "assert len(x) == 3 and code != 17",
    "assert 0 < x <= 1",
    "assert -1 < x",
    "assert x[3] < y[4]",
    "assert np.linalg.norm(x, 2) <= bound",
    "assert f(x, steps=5) <= bound",
    "assert x is True",
    "assert (x > 0) is not None",
    "assert 'rtol=1e-6' != text",
    "np.testing.assert_allclose(x, y, rtol=budget, atol=0)",
    "np.allclose(x, y, **tolerances)",
    "np.isclose(x, y, rtol)",
    "math.isclose(x, y, rel_tol=u, abs_tol=0.0)",
    "pytest.approx(y, rel=n * u)",
    "pytest.approx(y, abs=BUDGETS[2])",
    "f(x, eps=1e-8, lr=0.1)",
    "Ratio('name', math.inf, 1.0)",
    "Ratio('name', error, 16 * u)",
    "equivariance(x, y, budget=2 * budget)",
    "inequality(x, y, rounding=0)",
    "x = 0.5 if y else 0.25",
    "def f(x, scale=0.5): return x * scale",
]


@pytest.mark.parametrize(("source", "message"), PLANTED.items(), ids=PLANTED)
def test_planted_numbers_are_found(source: str, message: str) -> None:
    findings = check_source(source)
    assert any(message in text for _, text in findings), findings


@pytest.mark.parametrize("source", CLEAN)
def test_clean_code_passes(source: str) -> None:
    assert check_source(source) == []


def test_comments_exempt_nothing() -> None:
    exempted = "assert error < 1e-6  # noqa  # type: ignore  # bare-numbers: ignore  # pragma: no cover"
    assert len(check_source(exempted)) == 1


def test_lines_are_those_of_the_literal() -> None:
    source = "\n\nassert (\n    error\n    < 0.1\n)\nf(\n    atol=1e-3,\n)\n"
    assert [line for line, _ in check_source(source)] == [5, 8]


def test_files_and_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "deep" / "er"
    folder.mkdir(parents=True)
    bad, clean, other = folder / "bad.py", tmp_path / "clean.py", tmp_path / "notes.txt"
    bad.write_text("x = 1\nassert x < 0.1\n", encoding="utf-8")
    clean.write_text("assert x == 1  # größer\n", encoding="utf-8")
    other.write_text("x < 0.1", encoding="utf-8")
    finding = f"{bad}:2: float literal 0.1 inside a comparison"
    assert list(check_paths([tmp_path])) == [finding]
    assert main([str(tmp_path)]) == 1
    assert capsys.readouterr().out == f"{finding}\n"
    assert main([str(clean)]) == 0
    assert capsys.readouterr().out == ""
    with pytest.raises(SystemExit) as stopped:
        main([str(tmp_path / "missing.py")])
    assert stopped.value.code == 2


def test_the_command_line() -> None:
    linter = Path(__file__).with_name("bare_numbers.py")
    command = [sys.executable, "-m", "tests.lint.bare_numbers", str(linter)]
    done = subprocess.run(command, cwd=linter.parents[2], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
