"""The benchmarks run and say what they promise; what they measure decides no test."""

import json
from pathlib import Path

from benchmarks import batching, machine

RESULTS = Path(batching.__file__).parent / "results"


def test_a_row_of_the_batching_benchmark_has_the_promised_figures(monkeypatch):
    monkeypatch.setattr(batching, "PROBLEMS", 4)
    monkeypatch.setattr(batching, "SINGLES", 2)
    monkeypatch.setattr(batching, "REPEATS", 1)
    row = batching.measure(3)
    assert set(row) == {"side", "stacked_s", "looped_s", "ratio", "ratio_min", "ratio_max"}
    assert row["ratio_min"] <= row["ratio"] <= row["ratio_max"]


def test_committed_results_name_the_machine_they_were_measured_on():
    files = sorted(RESULTS.glob("*.json"))
    assert files
    for file in files:
        assert json.loads(file.read_text())["machine"].keys() == machine.describe().keys(), file.name
