"""Every trial is recorded, whatever became of it, and nothing that is recorded is run again."""

import json
import re
from dataclasses import replace

import pytest
import torch

from benchmarks.train import __main__ as command
from benchmarks.train import search, store
from benchmarks.train.methods import METHODS
from benchmarks.train.run import train
from benchmarks.train.search import TaskSource, best, execute, seeds_of, trials_of
from benchmarks.train.spaces import Choice
from benchmarks.train.store import Store, code_version
from tests.benchmarks.tiny import TINY, TinySource, disguised, plan

TWO = (METHODS["adamw"], METHODS["sgd"])


@pytest.fixture
def runs(tmp_path):
    return Store(tmp_path / "runs.jsonl")


def run_all(the_plan, runs, **options):
    jobs = [job for method in the_plan.methods for job in trials_of(the_plan, method)]
    execute(jobs, TinySource(), runs, **options)
    return jobs


def test_every_method_gets_the_same_budget_and_its_own_draws():
    the_plan = plan(*TWO, trials=4)
    jobs = [trials_of(the_plan, method) for method in TWO]
    assert [len(trials) for trials in jobs] == [4, 4]
    assert len({job.budget for trials in jobs for job in trials}) == 1
    assert {job.seed for trials in jobs for job in trials} == {search.SEARCH_SEED}
    assert jobs == [trials_of(the_plan, method) for method in TWO]
    more = trials_of(replace(the_plan, trials=6), TWO[0])
    assert more[:4] == jobs[0], "more trials must keep those that were"


def test_winners_train_on_seeds_the_search_has_not_seen():
    the_plan = plan(*TWO, seeds=5)
    winner = trials_of(the_plan, TWO[0])[1]
    jobs = seeds_of(the_plan, TWO[0], winner)
    assert [job.seed for job in jobs] == [1, 2, 3, 4, 5]
    assert search.SEARCH_SEED not in {job.seed for job in jobs}
    assert all(job.detail and job.config == winner.config for job in jobs)


def test_a_run_is_the_same_whenever_it_is_run():
    config = trials_of(plan(*TWO), TWO[0])[0].config
    first, second = (train(TINY, TWO[0], config, seed=1, budget=10, detail=True) for _ in range(2))
    assert first == second
    assert first != train(TINY, TWO[0], config, seed=2, budget=10, detail=True)


def test_what_is_recorded_is_not_run_again(runs, monkeypatch):
    performed = []
    perform = search.perform

    def counted(source, job):
        performed.append(job)
        return perform(source, job)

    monkeypatch.setattr(search, "perform", counted)
    jobs = run_all(plan(*TWO), runs)
    assert len(performed) == len(jobs) == 6
    again = Store(runs.path)
    assert all(again[job] == runs[job] for job in jobs)
    run_all(plan(*TWO, trials=4), again)
    assert len(performed) == 8, "one more trial for each of two methods"
    assert len(runs.path.read_text().splitlines()) == 8


def test_a_line_that_was_cut_off_is_run_again_and_a_damaged_file_is_refused(runs):
    jobs = run_all(plan(*TWO), runs)
    text = runs.path.read_text()
    runs.path.write_text(text[:-20])
    again = Store(runs.path)
    missing = [job for job in jobs if job not in again]
    assert len(missing) == 1
    run_all(plan(*TWO), again)
    assert Store(runs.path)[missing[0]] == runs[missing[0]]
    runs.path.write_text("{}\n" + text)
    with pytest.raises(ValueError, match=r"line 1 of .* is not a recorded run"):
        Store(runs.path)


def test_processes_change_nothing(tmp_path):
    the_plan = replace(plan(*TWO, trials=2, budget=5), task="digits")
    jobs = [job for method in TWO for job in trials_of(the_plan, method)]
    here, there = (Store(tmp_path / name) for name in ("one", "two"))
    execute(jobs, TaskSource("digits"), here, processes=1)
    execute(jobs, TaskSource("digits"), there, processes=2)
    assert [here[job] for job in jobs] == [there[job] for job in jobs]


@pytest.mark.parametrize("change", ["benchmarks/train/run.py", "torch_impl/optim/sofim.py"])
def test_recorded_runs_are_void_when_their_code_changes(change, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "ROOT", tmp_path)
    versions = []
    for text in ("a", "b"):
        file = tmp_path / change
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        store._digest.cache_clear()
        versions.append([code_version(METHODS[name]) for name in ("sofim", "adamw")])
    store._digest.cache_clear()
    ours, others = zip(*versions, strict=True)
    assert ours[0] != ours[1]
    assert (others[0] != others[1]) == change.startswith("benchmarks")


class Explosive(torch.optim.SGD):
    def __init__(self, parameters):
        super().__init__(parameters, lr=float("inf"))


class Climbing(torch.optim.SGD):
    def __init__(self, parameters):
        super().__init__(parameters, lr=1.0, maximize=True)


class Refusing(torch.optim.SGD):
    def step(self, closure=None):
        raise ValueError("the gradient must be blue")


class Broken(torch.optim.SGD):
    def step(self, closure=None):
        raise TypeError("a fault of the programme")


@pytest.mark.parametrize(
    ("optimizer", "status", "reason"),
    [
        (Explosive, "diverged", r"the training loss was (nan|inf) after \d+ gradient evaluations"),
        (Climbing, "diverged", r"training ended at a loss of .*, more than 2 times the .* it began with"),
        (Refusing, "failed", "ValueError: the gradient must be blue"),
    ],
)
def test_a_run_without_a_result_is_recorded_with_its_reason(optimizer, status, reason, runs, monkeypatch):
    lost = disguised(optimizer, name="lost", space={"trial": Choice(tuple(range(1000)))})
    monkeypatch.setitem(METHODS, "lost", lost)
    jobs = run_all(plan(lost), runs)
    assert {runs[job]["status"] for job in jobs} == {status}
    assert all(re.fullmatch(reason, runs[job]["reason"]) for job in jobs)
    assert best(jobs, runs, headline="accuracy", better="higher") is None
    assert all(json.loads(line) for line in runs.path.read_text().splitlines())


def test_a_fault_of_the_programme_is_no_result():
    with pytest.raises(TypeError, match="a fault of the programme"):
        train(TINY, disguised(Broken), {}, seed=0, budget=4)


def test_weights_that_are_not_finite_are_found_even_where_accuracy_is_a_number():
    class Last(torch.optim.SGD):
        def step(self, closure=None):
            self.param_groups[0]["params"][0].data.fill_(torch.nan)

    outcome = train(TINY, disguised(Last), {}, seed=0, budget=1)
    assert outcome.status == "diverged"
    assert "a weight was not finite" in outcome.reason


@pytest.mark.parametrize(("better", "chosen"), [("higher", 2), ("lower", 1)])
def test_the_best_trial_is_the_best_of_those_that_finished(better, chosen, runs):
    jobs = trials_of(plan(*TWO, trials=4), TWO[0])
    for job, value in zip(jobs, (0.5, 0.2, 0.8, 0.8), strict=True):
        runs.add(job, {"status": "finished", "validation": {"accuracy": value}})
    assert best(jobs, runs, headline="accuracy", better=better) == jobs[chosen], "the first of equals"
    runs.add(jobs[chosen], {"status": "diverged", "validation": {}})
    assert best(jobs, runs, headline="accuracy", better=better) != jobs[chosen]


def test_the_command_compares_and_continues(tmp_path, monkeypatch, capsys):
    arguments = ["--task", "tiny", "--methods", "adamw,sgd", "--quick", "--jobs", "1"]
    arguments += ["--out", str(tmp_path / "out"), "--runs", str(tmp_path / "runs")]
    monkeypatch.setattr(command, "TaskSource", lambda *_: TinySource())
    assert command.main(arguments) == 0
    said = capsys.readouterr().out
    assert "2 methods x (2 trials + 2 seeds of the winner) = 8 runs of 20 gradient evaluations" in said
    assert "about 00:00:" in said
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["train_tiny.json", "train_tiny.md", "train_tiny.png"]
    summary = json.loads((tmp_path / "out" / "train_tiny.json").read_text())
    assert [row["name"] for row in summary["methods"]] == ["adamw", "sgd"]
    assert summary["methods"][0]["test"]["n"] == 2

    def fail(*_):
        raise AssertionError("everything is recorded already")

    monkeypatch.setattr(search, "perform", fail)
    assert command.main(arguments) == 0
    assert "4 of the trials are recorded already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "nothing"], "name must be one of digits"),
        (["--task", "cifar10"], "data_dir"),
        (["--task", "digits", "--methods", "adam"], "--methods must be of adamw, sgd"),
        (["--task", "digits", "--trials", "0"], "must be at least 1, got 0"),
    ],
)
def test_a_usage_error_is_one_clear_line(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_help_shows_examples(capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main(["--help"])
    assert stopped.value.code == 0
    assert "python -m benchmarks.train --task digits\n" in capsys.readouterr().out
