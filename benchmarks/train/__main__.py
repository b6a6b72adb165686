"""Trains a task with every method under one budget and writes who wins, by how much, and how sure that is.

Every run is recorded as soon as it ends; the same command continues where an interrupted one stopped.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks.train.methods import METHODS, Method
from benchmarks.train.optimizers import MissingPackageError
from benchmarks.train.report import write
from benchmarks.train.run import CHECKPOINTS
from benchmarks.train.search import Plan, TaskSource, best, execute, seeds_of, trials_of
from benchmarks.train.spaces import middle
from benchmarks.train.store import Job, Store
from benchmarks.train.summary import summarize
from benchmarks.train.timing import extras, seconds_per_evaluation

__all__ = ["compare", "main"]

RESULTS = Path(__file__).parents[1] / "results"

#: Where runs are recorded, and where a quick run writes its report: not committed.
BUILD = Path("build/train")

#: Trials of each method, so that two cores need a few minutes for the digits and half an hour for the
#: language model; for other tasks as for that one.
TRIALS = {"digits": 24, "digits-conv": 16, "stdlib-lm": 8, "stdlib-lm-bpe": 8}
OTHER_TRIALS = 12

QUICK = {"trials": 2, "seeds": 2, "steps": 20}
TIMED_STEPS = 15

EXAMPLES = """
examples:
  python -m benchmarks.train --task digits
  python -m benchmarks.train --task digits --methods adamw,fismo,sofim --trials 8 --jobs 1
  python -m benchmarks.train --task stdlib-lm --jobs 2
  python -m benchmarks.train --task cifar10-resnet18 --data-dir ~/data --size full --device cuda --jobs 1
  python -m benchmarks.train --task digits --quick      (seconds; only shows that everything works)

methods: """ + ", ".join(METHODS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison; exit status 0, or 2 for a usage error, 130 if interrupted."""
    parser = _parser()
    options = parser.parse_args(arguments)
    console = Console(highlight=False)
    source = TaskSource(options.task, options.data_dir, options.size)
    try:
        task = source.load()
        methods = tuple(_method(name) for name in options.methods.split(","))
    except (ValueError, FileNotFoundError, ModuleNotFoundError, MissingPackageError) as error:
        parser.error(str(error))
    granted = {
        "trials": TRIALS.get(options.task, OTHER_TRIALS),
        "seeds": 5,
        "steps": task.steps,
    } | (QUICK if options.quick else {})
    granted |= {name: given for name in granted if (given := getattr(options, name)) is not None}
    name = options.task if options.size == "small" else f"{options.task}-{options.size}"
    plan = Plan(name, methods, granted["trials"], granted["seeds"], granted["steps"], options.device)
    out = options.out or (BUILD if options.quick else RESULTS)
    store = Store(options.runs / f"{name}.jsonl")
    try:
        paths = compare(source, plan, store, out, processes=options.jobs, console=console)
    except KeyboardInterrupt:
        console.print(f"interrupted; the same command continues from {store.path}")
        return 130
    console.print("written: " + ", ".join(map(str, paths)), soft_wrap=True)
    return 0


def compare(
    source: Any, plan: Plan, store: Store, out: Path, *, processes: int, console: Console
) -> list[Path]:
    """Announce, search, train the winners, measure their time, and write the report.

    Returns
    -------
    paths : list of Path
        What was written.
    """
    task = source.load()
    search = [job for method in plan.methods for job in trials_of(plan, method)]
    recorded = sum(job in store for job in search)
    runs = len(plan.methods) * (plan.trials + plan.seeds)
    console.print(
        f"{plan.task}: {len(plan.methods)} methods x ({plan.trials} trials + {plan.seeds} seeds of the "
        f"winner) = {runs} runs of {plan.budget} gradient evaluations"
        + (f"; {recorded} of the trials are recorded already" if recorded else ""),
        soft_wrap=True,
    )
    seconds = _estimate(task, plan, store, search)
    console.print(f"about {_duration(seconds / processes)} on {processes} process(es) of one thread")
    _run_all("trials", search, source, store, processes, console)
    winners = []
    for method in plan.methods:
        winner = best(trials_of(plan, method), store, headline=task.headline, better=task.better)
        if winner is None:
            console.print(f"{method.title}: no trial finished")
        else:
            winners += seeds_of(plan, method, winner)
    _run_all("winners", winners, source, store, processes, console)
    timed = seconds_per_evaluation(
        task, {job.method: job.config for job in winners}, rounds=TIMED_STEPS, device=plan.device
    )
    return write(summarize(task, plan, store, step_seconds=timed), out)


def _run_all(
    label: str, jobs: list[Job], source: Any, store: Store, processes: int, console: Console
) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(label, total=len(jobs), completed=sum(job in store for job in jobs))
        execute(jobs, source, store, processes=processes, progress=lambda job, outcome: progress.advance(bar))


def _estimate(task: Any, plan: Plan, store: Store, search: Sequence[Job]) -> float:
    """Seconds of one thread for what is not recorded, from a few steps of each method."""
    unit = seconds_per_evaluation(
        task, {method.name: middle(method.space) for method in plan.methods}, rounds=3, device=plan.device
    )
    missing = [job.method for job in search if job not in store]
    missing += [method.name for method in plan.methods for _ in range(plan.seeds)]
    evaluated, recorded = extras(task, device=plan.device)
    looks = len(search) - sum(job in store for job in search)
    looks += len(plan.methods) * plan.seeds * (CHECKPOINTS + 1)
    steps = sum(unit.get(name, 0.0) for name in missing) * plan.budget
    return steps + looks * evaluated + len(plan.methods) * plan.seeds * CHECKPOINTS * recorded


def _duration(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.gmtime(seconds))


def _method(name: str) -> Method:
    if name not in METHODS:
        raise ValueError(f"--methods must be of {', '.join(METHODS)}, got {name!r}")
    METHODS[name].require()
    return METHODS[name]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.train",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--task",
        required=True,
        help="digits, digits-conv, stdlib-lm, cifar10, ... (see benchmarks.train.tasks)",
    )
    add("--methods", default=",".join(METHODS), help="names with commas between them; all by default")
    add("--trials", type=_positive, help="of the random search, for every method")
    add("--seeds", type=_positive, help="of each winner (5)")
    add("--steps", type=_positive, help="gradient evaluations of each run (the task's own number)")
    add("--jobs", type=_positive, default=os.cpu_count() or 1, help="processes at once, of one thread each")
    add("--out", type=Path, help=f"folder of the report (benchmarks/results; with --quick {BUILD})")
    add("--runs", type=Path, default=BUILD, help=f"folder where runs are recorded ({BUILD})")
    add("--device", default="cpu", help="cpu or cuda")
    add("--data-dir", type=Path, help="folder of published data sets, for the tasks that need one")
    add("--size", choices=("small", "full"), default="small", help="of the model")
    add("--quick", action="store_true", help="few and short runs, which decide nothing")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


if __name__ == "__main__":
    sys.exit(main())
