"""From recorded runs to the figures of a report: plain data, with nothing in it that was not computed."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from benchmarks.machine import describe
from benchmarks.train.budget import WARM_UP
from benchmarks.train.methods import Method
from benchmarks.train.optimizers import peers_version
from benchmarks.train.records import columns
from benchmarks.train.run import FINAL_PART, final_loss
from benchmarks.train.search import SEARCH_SEED, Plan, best, seeds_of, trials_of
from benchmarks.train.spaces import LogUniform
from benchmarks.train.stats import evaluations_to, mean_and_deviation, median_or_none, paired, smoothed
from benchmarks.train.store import Job, Store

__all__ = ["BASELINE", "CLAIMED_BETTER", "summarize"]

#: The method that all others are compared with.
BASELINE = "adamw"

#: Rankings that the papers claim: the first is better than each of the others. Source of each: its paper, as
#: reported (FISMO: losses on GPT-2, accuracy on SimpleDLA; SOFIM: speed and finals; AdaFisher: accuracy).
CLAIMED_BETTER = {
    "fismo": ("muon", "shampoo", "adamw"),
    "fismo-theorem": ("muon", "shampoo", "adamw"),
    "fismo-unit": ("muon", "shampoo", "adamw"),
    "sofim": ("sgd", "adahessian", "lbfgs"),
    "adafisher": ("adamw", "shampoo", "adahessian"),
}

#: Points of a loss curve that a report keeps.
CURVE_POINTS = 40

#: Significant digits that a report keeps.
DIGITS = 5

Summary = dict[str, Any]


def summarize(
    task: Any, plan: Plan, store: Store, *, step_seconds: Mapping[str, float] | None = None
) -> Summary:
    """All figures of a finished comparison.

    Parameters
    ----------
    task : Task
    plan : Plan
        Every run of it must be recorded.
    store : Store
    step_seconds : mapping, optional
        Seconds of a gradient evaluation of each winner, taken in one process.
    """
    winners = {
        method.name: best(trials_of(plan, method), store, headline=task.headline, better=task.better)
        for method in plan.methods
    }
    runs = {
        method.name: [(job, store[job]) for job in seeds_of(plan, method, winner)]
        for method in plan.methods
        if (winner := winners[method.name]) is not None
    }
    targets = _targets(runs.get(BASELINE, ()), task.headline, plan.budget)
    test = {name: _metric(pairs, "test", task.headline) for name, pairs in runs.items()}
    summary = {
        "benchmark": "train",
        "task": {
            "name": plan.task,
            "kind": task.kind,
            "headline": task.headline,
            "better": task.better,
            "description": task.description,
            "judged": task.facts.get("test") if task.headline == "accuracy" else None,
        },
        "machine": describe(),
        "versions": {"torch": torch.__version__, "pytorch-optimizer": peers_version()},
        "device": plan.device if plan.device == "cpu" else torch.cuda.get_device_name(plan.device),
        "budget": plan.budget,
        "trials": plan.trials,
        "seeds": [SEARCH_SEED + 1 + number for number in range(plan.seeds)],
        "search_seed": SEARCH_SEED,
        "warm_up": WARM_UP,
        "window": FINAL_PART,
        "targets": targets,
        "methods": [
            _method(task, plan, store, method, winners[method.name], runs.get(method.name, []), targets)
            | {"time": _ratio(step_seconds, method.name)}
            for method in plan.methods
        ],
        "comparisons": [
            {"first": first, "second": second}
            | paired(test[first], test[second], better=task.better).as_dict()
            for first, second in _pairs(test, task.better)
        ],
    }
    return _rounded(summary)


def _method(
    task: Any,
    plan: Plan,
    store: Store,
    method: Method,
    winner: Job | None,
    runs: Sequence[tuple[Job, dict[str, Any]]],
    targets: Mapping[str, float],
) -> dict[str, Any]:
    trials = [(job, store[job]) for job in trials_of(plan, method)]
    reached = {
        name: [_reached(outcome, name, target, task, plan.budget) for _, outcome in runs]
        for name, target in targets.items()
    }
    return {
        "name": method.name,
        "title": method.title,
        "package": method.package,
        "space": {name: str(range_) for name, range_ in method.space.items()},
        "why": method.why,
        "passes_per_step": method.passes,
        "trials": [
            {
                "config": job.config,
                "status": outcome["status"],
                "reason": outcome["reason"],
                "validation": outcome["validation"].get(task.headline),
            }
            for job, outcome in trials
        ],
        "lost_trials": sum(outcome["status"] != "finished" for _, outcome in trials),
        "best": winner.config if winner else None,
        "at_an_end": _at_an_end(method, winner),
        "validation": mean_and_deviation([*_metric(runs, "validation", task.headline).values()]),
        "test": mean_and_deviation([*_metric(runs, "test", task.headline).values()]),
        "evaluations_to": {name: median_or_none(values) for name, values in reached.items()},
        "reached": {name: sum(v is not None for v in values) for name, values in reached.items()},
        "runs": [_run(job, outcome, plan.budget, targets, reached) for job, outcome in runs],
    }


def _at_an_end(method: Method, winner: Job | None) -> list[str]:
    """Hyper-parameters whose best value is next to an end of its range: a wider one might find a better."""
    return [
        name
        for name, range_ in method.space.items()
        if winner and isinstance(range_, LogUniform) and range_.at_an_end(winner.config[name])
    ]


def _run(
    job: Job,
    outcome: Mapping[str, Any],
    budget: int,
    targets: Mapping[str, float],
    reached: Mapping[str, Sequence[int | None]],
) -> dict[str, Any]:
    curve = smoothed(outcome["losses"], window=FINAL_PART * budget)
    stride = max(1, len(curve) // CURVE_POINTS)
    return {
        "seed": job.seed,
        "version": job.version,
        "status": outcome["status"],
        "reason": outcome["reason"],
        "evaluations": outcome["passes"],
        "steps": outcome["steps"],
        "validation": outcome["validation"],
        "test": outcome["test"],
        "final_loss": final_loss(outcome["losses"], budget),
        "evaluations_to": {name: reached[name][job.seed - SEARCH_SEED - 1] for name in targets},
        "curve": [list(point) for point in curve[::-stride][::-1]],
        "records": columns(outcome["checkpoints"]),
    }


def _targets(
    baseline: Sequence[tuple[Job, Mapping[str, Any]]], headline: str, budget: int
) -> dict[str, float]:
    """Levels that the baseline reaches, medians over its finished seeds; none without a baseline."""
    finished = [outcome for _, outcome in baseline if outcome["status"] == "finished"]
    if not finished:
        return {}
    curves = [smoothed(outcome["losses"], window=FINAL_PART * budget) for outcome in finished]
    half = [next(loss for passes, loss in curve if passes >= budget / 2) for curve in curves]
    return {
        "half_loss": statistics.median(half),
        "final_loss": statistics.median(curve[-1][1] for curve in curves),
        "validation": statistics.median(outcome["validation"][headline] for outcome in finished),
    }


def _reached(outcome: Mapping[str, Any], name: str, target: float, task: Any, budget: int) -> int | None:
    if outcome["status"] != "finished":
        return None
    if name != "validation":
        curve = smoothed(outcome["losses"], window=FINAL_PART * budget)
        return evaluations_to(curve, target, better="lower")
    points = [(point["passes"], point["validation"][task.headline]) for point in outcome["checkpoints"]]
    points.append((outcome["passes"], outcome["validation"][task.headline]))
    return evaluations_to(points, target, better=task.better)


def _metric(runs: Sequence[tuple[Job, Mapping[str, Any]]], part: str, headline: str) -> dict[int, float]:
    """By seed, for the seeds that finished."""
    return {job.seed: outcome[part][headline] for job, outcome in runs if outcome["status"] == "finished"}


def _pairs(test: Mapping[str, Mapping[int, float]], better: str) -> list[tuple[str, str]]:
    """What is compared: all with the baseline, the best two, and what the papers rank."""
    means = {name: statistics.fmean(values.values()) for name, values in test.items() if values}
    ranking = sorted(means, key=means.__getitem__, reverse=better == "higher")
    pairs = [(name, BASELINE) for name in test if name != BASELINE and BASELINE in test]
    pairs += [(ranking[0], ranking[1])] if ranking[1:] else []
    pairs += [(first, second) for first, others in CLAIMED_BETTER.items() for second in others]
    return [pair for pair in dict.fromkeys(pairs) if pair[0] in test and pair[1] in test]


def _ratio(step_seconds: Mapping[str, float] | None, name: str) -> float | None:
    if not step_seconds or name not in step_seconds or BASELINE not in step_seconds:
        return None
    return step_seconds[name] / step_seconds[BASELINE]


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
