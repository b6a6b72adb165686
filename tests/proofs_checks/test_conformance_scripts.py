"""What a failure leaves behind for others: scripts that stand alone, and tests in other suites."""

import runpy
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from proofs_checks.conformance import CheckStatus, run_check

FAILED = CheckStatus.FAILED


WRONG = """
    import numpy as np
    import torch
    from proofs_checks.mutants import mutated, planted_muon, planted_sofim

    def fault(faults, name):
        return mutated(next(m for m in faults if m.id.endswith(name)))

    PerLayer = fault(planted_sofim.PLANTED, "norm-per-layer").SOFIM
    Undecayed = fault(planted_muon.PLANTED, "decay-missing").Muon
    FourSteps = fault(planted_muon.PLANTED, "four-steps").Muon

    def init(w):
        return np.zeros_like(w), 0

    def step(g, state, *, beta, rho):
        M, t = beta * state[0] + (1 - beta) * g, state[1] + 1
        return M / (rho + M @ M), (M, t)

    class Breaking(FourSteps):
        def step(self, closure=None):
            raise RuntimeError("broken")
"""


@pytest.mark.parametrize(
    ("attribute", "spec", "name"),
    [
        ("PerLayer", "sofim", "sofim.global-norm"),  # several parameters
        ("Undecayed", "muon", "muon.weight-decay"),  # a start that is not zero
        ("FourSteps", "muon", "muon.iteration.dense"),  # a budget in the Frobenius norm
        ("step", "sofim", "sofim.bias-correction"),  # a step function
        ("step", "sofim", "sofim.golden"),
        ("Breaking", "muon", "muon.momentum"),  # nothing to compare
    ],
)
def test_every_kind_of_script_runs_and_ends_with_an_error(tmp_path, attribute, spec, name):
    path = tmp_path / "wrong.py"
    path.write_text(textwrap.dedent(WRONG), encoding="utf-8")
    options = {} if spec == "sofim" else {"nesterov": False}
    report = run_check(
        f"{path}:{attribute}", spec, dtype=None if attribute == "step" else "float32", options=options
    )
    (record,) = [r for r in report.checks if r.id.partition("[")[0] == name]
    assert record.status is FAILED
    script = tmp_path / "script.py"
    script.write_text(record.counterexample.script, encoding="utf-8")
    with pytest.raises((SystemExit, RuntimeError)) as ended:
        runpy.run_path(str(script))
    assert str(ended.value) == ("broken" if attribute == "Breaking" else "True")


def test_the_plug_in_imports_nothing_heavy():
    heavy = "{'torch', 'numpy', 'pydantic'}"
    code = f"import proofs_checks.conformance.plugin, sys; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_one_line_in_a_test_file_makes_a_test_of_every_check(tmp_path: Path):
    (tmp_path / "test_mine.py").write_text(
        textwrap.dedent("""
            from proofs_checks.conformance import conformance_tests
            from proofs_checks.mutants.small_muon import Muon

            def wrong(params, *, lr, **hp):
                return Muon(params, 2 * lr, **hp)

            TestRight = conformance_tests("muon", lambda params, **hp: Muon(params, **hp), level="L0")
            TestWrong = conformance_tests("muon", wrong, dtype="float32", nesterov=True)
        """),
        encoding="utf-8",
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-m",
        "conformance",
        "--strict-markers",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(
        [*command, "test_mine.py"], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 1
    right = [line for line in done.stdout.splitlines() if line.startswith("FAILED") and "TestRight" in line]
    assert right == []
    assert "TestWrong::test_check[muon.shape-factor[float32,nesterov=True]]" in done.stdout
    assert "violated: U = a NS(B), a = sqrt(max(1, m/n))" in done.stdout
