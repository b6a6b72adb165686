"""METH-certificates: every stored certificate, re-checked by a program that shares nothing with the rest."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from proofs_checks.certified.export import FOLDER
from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import yes_no

__all__ = ["CHECKER", "all_certificates", "run_checker"]

#: The program that checks.
CHECKER = Path(__file__).parents[1] / "certificate_checker.py"


def _halved_radius(records: list[dict[str, Any]]) -> None:
    for record in records:
        if "radius" in record:
            record["radius"] = (float.fromhex(record["radius"]) / 2**20).hex()


def _dropped_box(records: list[dict[str, Any]]) -> None:
    for record in records:
        for boxes in record.get("boxes", []):
            del boxes[len(boxes) // 2]


def _claims_exchanged(records: list[dict[str, Any]]) -> None:
    names = [record["claim"] for record in records]
    for record, name in zip(records, names[1:] + names[:1], strict=True):
        record["claim"] = name


_FAULTS: dict[str, Callable[[list[dict[str, Any]]], None]] = {
    "bound-edited": _halved_radius,
    "box-missing": _dropped_box,
    "claims-exchanged": _claims_exchanged,
    "certificates-gone": lambda records: records.clear(),
}


@evidence(faults=tuple(_FAULTS), scope="region", tier="full")
def all_certificates(*, fault: str | None = None) -> Finding:
    """Every stored certificate checks: run as a program of its own, in Python's isolated mode.

    Faults: every radius divided by a million; a box left out of every subdivision; claims exchanged; files
    without certificates.
    """
    with TemporaryDirectory() as folder:
        copies = []
        for source in sorted(FOLDER.glob("*.json")):
            content = json.loads(source.read_text(encoding="utf-8"))
            if fault:
                _FAULTS[fault](content["certificates"])
            copies.append(Path(folder, source.name))
            copies[-1].write_text(json.dumps(content), encoding="utf-8")
        status, lines = run_checker(copies)
    checked = [line for line in lines if line.startswith("checked ")]
    failed = [line for line in lines if line.startswith("FAILED ")]
    return Finding(
        (
            yes_no("exit status 0", status == 0),
            yes_no("there are certificates and none failed", bool(checked) and not failed),
        ),
        f"{len(checked)} certificates re-checked in exact rationals by the standard library alone; "
        f"{len(failed)} failed",
        figures={"certificates": float(len(checked)), "failed": float(len(failed))},
    )


def run_checker(files: list[Path], *, checker: Path = CHECKER) -> tuple[int, list[str]]:
    """Exit status and lines of the checker on some files; without files it takes the stored ones."""
    command = [sys.executable, "-I", str(checker), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, (done.stdout + done.stderr).splitlines()
