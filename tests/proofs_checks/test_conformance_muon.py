"""The verdict on `torch.optim.Muon`: right but for one path that overwrites its momentum."""

import subprocess
import sys

import pytest
import torch

from proofs_checks.conformance import CheckStatus, run_check


@pytest.fixture(scope="module")
def report():
    return run_check("torch.optim:Muon", "muon")


def failed(report):
    return [record for record in report.checks if record.status is CheckStatus.FAILED]


@pytest.mark.claim("COMP-oracles")
def test_torch_muon_follows_the_rule_in_every_setting_but_one(report):
    assert {record.id.partition("[")[2] for record in failed(report)} == {"bfloat16,nesterov=False]"}
    names = {record.id.partition("[")[0] for record in failed(report)}
    assert {"muon.momentum", "muon.scale-invariance.2^10"} <= names
    assert not any(
        name.startswith(("muon.contract", "muon.iteration", "muon.weight-decay")) for name in names
    )


@pytest.mark.claim("COMP-oracles")
def test_the_departure_is_named_and_shrunk_to_two_steps_of_one_number(report):
    (record,) = [record for record in failed(report) if record.id.startswith("muon.momentum[")]
    assert record.equation == "U_t = a NS(V_t), V_t = beta V_{t-1} + (1 - beta) G_t"
    assert record.ratio > record.threshold
    assert record.nearest_mutant.startswith("behaves like muon.buffer-normalised: ")
    gradients = record.counterexample.inputs["gradients"]
    assert [[float.fromhex(x) for row in G for x in row] for G in gradients] == [[1], [-1]]


def test_the_script_stands_alone_and_shows_the_departure(report, tmp_path):
    for record in failed(report):
        script = record.counterexample.script
        assert "proofs_checks" not in script
        assert "fisherproof" not in script.replace("fisherproof check", "")
        lines = script.splitlines()
        assert len(lines) < len(range(30))
        path = tmp_path / "script.py"
        path.write_text(script, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, path.name], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1, done.stderr
        assert "rounding budgets" in done.stdout
        break  # each starts an interpreter with torch; one shows that they run


def test_the_departure_without_any_of_our_machinery():
    """V_1 = 1/2, V_2 = 1/4 - 1/2 = -1/4; the iteration leaves V_1 = 1 in the buffer, and then V_2 = 0."""
    right, buffers = -1 / 4, {}
    for dtype in (torch.float32, torch.bfloat16):
        p = torch.nn.Parameter(torch.zeros(1, 1, dtype=dtype))
        optimizer = torch.optim.Muon([p], lr=1.0, momentum=0.5, nesterov=False, weight_decay=0.0)
        for g in (1.0, -1.0):
            p.grad = torch.tensor([[g]], dtype=dtype)
            optimizer.step()
        buffers[dtype] = optimizer.state[p]["momentum_buffer"].item()
    assert buffers[torch.float32] == right
    assert buffers[torch.bfloat16] != right
