"""Random search with the same budget for every method, and fresh seeds for each winner."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import torch
from joblib import Parallel, delayed

from benchmarks.train import methods
from benchmarks.train.methods import Method
from benchmarks.train.run import train
from benchmarks.train.spaces import draw
from benchmarks.train.store import Job, Store, code_version
from benchmarks.train.tasks import Size, task

__all__ = [
    "SEARCH_SEED",
    "Plan",
    "Source",
    "TaskSource",
    "best",
    "execute",
    "perform",
    "seeds_of",
    "trials_of",
]

#: Seed of every run of the search; the winners then train on seeds 1, 2, ..., which the search has not seen.
SEARCH_SEED = 0

Progress = Callable[[Job, dict[str, Any]], None]


class Source(Protocol):
    """Where a process gets the task from; small, so that it can be sent to a process."""

    def load(self) -> Any:
        """The task."""


@dataclass(frozen=True)
class TaskSource:
    """A task by name, with its folder of data and its size as in `tasks.task`; read once per process."""

    name: str
    data_dir: Path | None = None
    size: Size = "small"

    def load(self) -> Any:
        """The task."""
        return _load(self)


@cache
def _load(source: TaskSource) -> Any:
    return task(source.name, data_dir=source.data_dir, size=source.size)


@dataclass(frozen=True)
class Plan:
    """What is compared, and what each method is granted.

    Attributes
    ----------
    task : str
        Name, with everything that makes it a different task, such as its size.
    methods : tuple of Methods
    trials, seeds : int
        Runs of the search per method; runs of each winner.
    budget : int
        Gradient evaluations of every run.
    device : str
    """

    task: str
    methods: tuple[Method, ...]
    trials: int
    seeds: int
    budget: int
    device: str = "cpu"

    def job(self, method: Method, config: dict[str, Any], *, seed: int, detail: bool) -> Job:
        """A run of the plan."""
        version = code_version(method)
        return Job(self.task, method.name, config, seed, self.budget, self.device, detail, version)


def trials_of(plan: Plan, method: Method) -> list[Job]:
    """The search of a method. Every method gets as many trials, all from the same weights and data."""
    return [
        plan.job(method, draw(method.name, method.space, trial), seed=SEARCH_SEED, detail=False)
        for trial in range(plan.trials)
    ]


def seeds_of(plan: Plan, method: Method, winner: Job) -> list[Job]:
    """The winner's runs on fresh seeds, with records."""
    return [
        plan.job(method, winner.config, seed=SEARCH_SEED + 1 + number, detail=True)
        for number in range(plan.seeds)
    ]


def best(jobs: Sequence[Job], store: Store, *, headline: str, better: str) -> Job | None:
    """The finished job with the best validation metric, the first of equals; None if none finished."""
    finished = [job for job in jobs if store[job]["status"] == "finished"]
    sign = 1.0 if better == "lower" else -1.0
    return min(finished, key=lambda job: sign * store[job]["validation"][headline], default=None)


def execute(
    jobs: Iterable[Job],
    source: Source,
    store: Store,
    *,
    processes: int = 1,
    progress: Progress | None = None,
) -> None:
    """Run the jobs that are not recorded yet, and record each as soon as it is done.

    Parameters
    ----------
    jobs : iterable of Jobs
    source : Source
    store : Store
    processes : int
        At once, with one thread each; 1 stays in this process.
    progress : callable, optional
        Called with each job and its outcome after it is recorded.
    """
    pending = {job.key: job for job in jobs if job not in store}.values()
    runs = Parallel(n_jobs=processes, return_as="generator_unordered")(
        delayed(perform)(source, job) for job in pending
    )
    for job, outcome in runs:
        store.add(job, outcome)
        if progress is not None:
            progress(job, outcome)


def perform(source: Source, job: Job) -> tuple[Job, dict[str, Any]]:
    """Run one job in this process, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        outcome = train(
            source.load(),
            methods.METHODS[job.method],
            job.config,
            seed=job.seed,
            budget=job.budget,
            device=job.device,
            detail=job.detail,
        )
    finally:
        torch.set_num_threads(threads)
    return job, outcome.as_dict()
