"""Time of a gradient evaluation with everything a method does around it; a ratio, which decides nothing."""

import statistics
import time
from collections.abc import Mapping
from typing import Any

import torch

from benchmarks.train.methods import METHODS
from benchmarks.train.optimizers import matrices
from benchmarks.train.records import Observer
from benchmarks.train.run import Training
from benchmarks.train.spaces import Config, middle

__all__ = ["extras", "seconds_per_evaluation"]

#: Steps before the clock counts: state is allocated and kernels are loaded then.
WARM_UP_STEPS = 2


def seconds_per_evaluation(
    task: Any, configs: Mapping[str, Config], *, rounds: int, device: str = "cpu"
) -> dict[str, float]:
    """Median time of a step over the gradient evaluations it makes, for each method.

    Parameters
    ----------
    task : Task
    configs : mapping from the name of a method to its configuration
    rounds : int
        Steps that are timed. The methods take turns, so that a busy machine slows all of them.
    device : str
        On the CPU, processor time of this thread is taken; elsewhere, time on the clock.

    Returns
    -------
    seconds : dict
        Without the methods that raise.
    """
    times: dict[str, list[float]] = {}
    with torch.random.fork_rng(devices=[]):
        runs = {}
        for name, config in configs.items():
            try:
                runs[name] = Training(task, METHODS[name], config, seed=0, budget=10**9, device=device)
            except Exception:  # the search says what it raises; there is no time to tell
                continue
        for turn in range(WARM_UP_STEPS + rounds):
            for name in list(runs):
                try:
                    seconds = _timed_step(runs[name], device)
                except Exception:  # as above
                    del runs[name]
                    continue
                if turn >= WARM_UP_STEPS:
                    times.setdefault(name, []).append(seconds)
    return {name: statistics.median(values) for name, values in times.items()}


def extras(task: Any, *, device: str = "cpu") -> tuple[float, float]:
    """Seconds of one evaluation of the model, and of one record of a step (without FISMO's factors)."""
    adamw = METHODS["adamw"]
    with torch.random.fork_rng(devices=[]):
        training = Training(task, adamw, middle(adamw.space), seed=0, budget=10**9, device=device)
        observer = Observer(training.model, matrices(training.model))
        training.step(observer)
        start = time.perf_counter()
        task.evaluate(training.model)
        evaluated = time.perf_counter()
        observer.after()
        return evaluated - start, time.perf_counter() - evaluated


def _timed_step(training: Training, device: str) -> float:
    cpu = torch.device(device).type == "cpu"
    clock = time.thread_time if cpu else time.perf_counter
    passes, start = training.meter.passes, clock()
    training.step()
    if not cpu:
        torch.cuda.synchronize()
    return (clock() - start) / (training.meter.passes - passes)
