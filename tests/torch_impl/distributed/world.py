"""A world of processes that run one check after another, so that their start is paid once.

The processes come from a fork server that has imported torch; each joins a process group and waits for
checks. A check is a module-level function: every process calls it with the same arguments, and every
process's answer comes back, in the order of ranks. What one process raises, the test raises. After a failure
the world is closed, since its processes no longer agree on where they are, and the next check starts a new
one. No process waits for ever: collectives give up, and a process whose test is gone ends with it.
"""

import datetime
import logging
import multiprocessing
import os
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

__all__ = ["World", "WorldError"]

#: Imported once, by the fork server, and shared by all processes.
PRELOADED = [
    "torch._dynamo",  # which DDP and FSDP2 import when they are first used
    "torch.distributed.checkpoint.state_dict",
    "torch.distributed.fsdp",
    "torch.distributed.tensor.parallel",
    "torch.nn.parallel",
    "proofs_checks.ratios",
]

#: Seconds until a collective gives up: a hundred times what a slow one takes on a busy machine.
PATIENCE = 30.0

#: Seconds the other processes get to answer once one has failed. They mostly wait for the one that failed.
GRACE = 2.0


#: What torch warns of when its own parts are put together as its documentation says.
NOT_OURS = [
    # FSDP2 over tensor parallelism: the layer's output is the local view of a DTensor.
    r"FSDP2-wrapped module \(FSDP(Linear|Chain)\) returned a view tensor",
]


class WorldError(AssertionError):
    """What went wrong in which process."""


class World:
    """`size` processes over one backend.

    Parameters
    ----------
    size : int
    backend : {"gloo", "nccl"} or None
        None starts the processes without a process group.
    patience : float
        Seconds until a collective gives up. A check may take twice as long.
    """

    def __init__(self, size: int, *, backend: str | None = "gloo", patience: float = PATIENCE) -> None:
        self.size, self.backend, self.patience = size, backend, patience
        self._processes: list[multiprocessing.process.BaseProcess] = []
        self._pipes: list[Connection] = []
        self._directory: tempfile.TemporaryDirectory[str] | None = None

    def run(self, check: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Return what `check(*arguments)` returned in each process.

        Raises
        ------
        WorldError
            If a process raised, died or did not answer in time: its traceback, for each that failed.
        """
        if not self._processes:
            self._start()
        try:
            for pipe in self._pipes:
                pipe.send((check, arguments))
            answers, problems = self._collect(time.monotonic() + 2.0 * self.patience)
        except BaseException:
            self.close()
            raise
        if problems:
            self.close()
            raise WorldError(self._told(problems))
        return [answers[rank] for rank in range(self.size)]

    def close(self) -> None:
        """End the processes; the next check starts them again."""
        for pipe in self._pipes:
            pipe.close()  # a waiting process ends by itself, one that is stuck does not
        deadline = time.monotonic() + GRACE
        for process in self._processes:
            process.join(max(deadline - time.monotonic(), 0.0))
            if process.is_alive():
                process.kill()
                process.join()
            process.close()
        if self._directory is not None:
            self._directory.cleanup()
        self._processes, self._pipes, self._directory = [], [], None

    def _told(self, problems: dict[int, str]) -> str:
        """Every problem once, with the processes that had it."""
        ranks: dict[str, list[str]] = {}
        for rank in sorted(problems):
            ranks.setdefault(problems[rank], []).append(str(rank))
        return "\n".join(f"process {', '.join(who)} of {self.size}: {what}" for what, who in ranks.items())

    def _start(self) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self._directory = tempfile.TemporaryDirectory(prefix="world-")
        store = str(Path(self._directory.name) / "store")
        for rank in range(self.size):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_serve, args=(theirs, rank, self.size, self.backend, store, self.patience), daemon=True
            )
            process.start()
            theirs.close()
            self._processes.append(process)
            self._pipes.append(ours)

    def _collect(self, deadline: float) -> tuple[dict[int, Any], dict[int, str]]:
        answers: dict[int, Any] = {}
        problems: dict[int, str] = {}
        waiting = {pipe: rank for rank, pipe in enumerate(self._pipes)}
        while waiting:
            ready = wait(list(waiting), max(deadline - time.monotonic(), 0.0))
            if not ready:
                late = dict.fromkeys(waiting.values(), "it did not answer")
                return answers, late | problems
            for pipe in ready:
                rank = waiting.pop(pipe)  # type: ignore[call-overload]
                try:
                    good, value = pipe.recv()  # type: ignore[union-attr]
                except EOFError:
                    good, value = False, "it died"
                if good:
                    answers[rank] = value
                else:
                    problems[rank] = value
                    deadline = min(deadline, time.monotonic() + GRACE)
        return answers, problems


def _serve(pipe: Connection, rank: int, size: int, backend: str | None, store: str, patience: float) -> None:
    """Run checks until the other end of the pipe is closed."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    warnings.simplefilter("error")
    for message in NOT_OURS:
        warnings.filterwarnings("ignore", message=message)
    # Gathering over two dimensions of a mesh takes two messages; DTensor says each time that this is slow.
    logging.getLogger("torch.distributed.tensor._redistribute").setLevel(logging.ERROR)
    if backend is not None:
        if backend == "nccl":
            torch.cuda.set_device(rank)
        timeout = datetime.timedelta(seconds=patience)
        dist.init_process_group(
            backend, init_method=f"file://{store}", rank=rank, world_size=size, timeout=timeout
        )
    while True:
        try:
            check, arguments = pipe.recv()
        except EOFError:
            # Leave at once: destructors that wait for the other processes could wait for ever.
            os._exit(0)
        try:
            torch.manual_seed(0)
            # Pickled here, so that an answer that cannot be sent is a failure like any other.
            answer = ForkingPickler.dumps((True, check(*arguments)))
        except Exception:
            answer = ForkingPickler.dumps((False, traceback.format_exc()))
        pipe.send_bytes(answer)
