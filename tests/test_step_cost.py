"""The benchmark of steps runs and says what it promises; what it measures decides no test."""

import pytest
import torch
from torch import nn

from benchmarks import step_cost


@pytest.mark.parametrize("pair", step_cost.PAIRS, ids=lambda pair: pair[0])
def test_a_row_has_the_promised_figures(monkeypatch, pair):
    name, ours, theirs, models = pair

    def small():
        return nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), torch.randn(5, 4)

    assert set(models) <= set(step_cost.MODELS)
    monkeypatch.setattr(step_cost, "REPEATS", 2)
    monkeypatch.setattr(step_cost, "NUMBERS_PER_REPEAT", 1)
    monkeypatch.setitem(step_cost.MODELS, "small", small)
    row = step_cost.measure(name, ours, theirs, "small")
    assert (row["pair"], row["model"], row["parameters"], row["tensors"]) == (name, "small", 23, 4)
    for what in ("step", "pass"):
        assert row[f"{what}_ratio_min"] <= row[f"{what}_ratio"] <= row[f"{what}_ratio_max"]
        assert row[f"{what}_ours_s"] > 0


@pytest.mark.parametrize("name", step_cost.MODELS)
def test_every_model_of_the_benchmark_runs(name):
    with torch.random.fork_rng():
        model, data = step_cost.MODELS[name]()
        step_cost._run(model, data)
    assert all(p.grad is not None for p in model.parameters())
