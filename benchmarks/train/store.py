"""Results of runs in a file of JSON lines: what is recorded is not run again."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from benchmarks.train.methods import Method
from benchmarks.train.optimizers import PEERS, peers_version
from benchmarks.train.spaces import Config

__all__ = ["Job", "Store", "code_version"]

ROOT = Path(__file__).parents[2]

#: What every run depends on, besides the files of its method.
COMMON = (
    "benchmarks/train/data/**/*.py",
    "benchmarks/train/models/**/*.py",
    "benchmarks/train/metrics.py",
    "benchmarks/train/tasks.py",
    "benchmarks/train/methods.py",
    "benchmarks/train/optimizers.py",
    "benchmarks/train/budget.py",
    "benchmarks/train/run.py",
    "benchmarks/train/records.py",
)


@dataclass(frozen=True)
class Job:
    """Everything that determines a run."""

    task: str
    method: str
    config: Config
    seed: int
    budget: int
    device: str
    detail: bool
    version: str

    @property
    def key(self) -> str:
        """The same for equal jobs, across processes and machines."""
        return json.dumps(asdict(self), sort_keys=True)


class Store:
    """Outcomes by job, kept in a file to which every finished run is appended at once.

    Parameters
    ----------
    path : Path
        Read if it exists. A last line that was cut off, by a run that was killed, is ignored and removed.

    Raises
    ------
    ValueError
        If another line cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._outcomes: dict[str, dict[str, Any]] = {}
        if path.exists():
            self._read()

    def __contains__(self, job: Job) -> bool:
        return job.key in self._outcomes

    def __getitem__(self, job: Job) -> dict[str, Any]:
        return self._outcomes[job.key]

    def add(self, job: Job, outcome: Mapping[str, Any]) -> None:
        """Record an outcome."""
        self._outcomes[job.key] = dict(outcome)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps({"job": asdict(job), "outcome": outcome}, allow_nan=False) + "\n")

    def _read(self) -> None:
        text = self.path.read_text()
        whole = text[: text.rfind("\n") + 1]
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                entry = json.loads(line)
                self._outcomes[Job(**entry["job"]).key] = entry["outcome"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"line {number} of {self.path} is not a recorded run: {error}") from error
        if whole != text:
            self.path.write_text(whole)


def code_version(method: Method) -> str:
    """Digest of the code that a run of the method depends on; independent of any version control."""
    return _digest(method.package, method.sources)


@cache
def _digest(package: str, sources: tuple[str, ...]) -> str:
    digest = hashlib.sha256(f"torch {torch.__version__}".encode())
    if package == PEERS:
        digest.update(f"{PEERS} {peers_version()}".encode())
    for pattern in (*COMMON, *sources):
        for file in sorted(ROOT.glob(pattern)):
            digest.update(file.relative_to(ROOT).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]
