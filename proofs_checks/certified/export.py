"""Writes the stored certificates: ``python -m proofs_checks.certified.export``.

They are recomputed with FLINT and must come out byte for byte as they are stored; whether they are true is
for `proofs_checks/certificate_checker.py` to say, which knows nothing of this module. ``growth.json`` is not
written: a search found its gradients, and they are data.
"""

import json
import re
from pathlib import Path
from typing import Any

from proofs_checks.certified.matrix_certificates import matrices
from proofs_checks.certified.subdivision import ranges

__all__ = ["FOLDER", "counterexamples", "files", "main", "text"]

#: Where the certificates are stored.
FOLDER = Path(__file__).parents[1] / "certificates"

#: Version of the format.
_SCHEMA = 1

#: The instances of the ledger's refutations, in the numbers that `certificate_checker` asks for.
_INSTANCES: dict[str, dict[str, Any]] = {
    "FISMO-T4.1-in-algorithm": {"a": [["41/4", "11/4"], ["11/4", "1/4"]], "mu": "1", "f": ["3/2", "1/2"]},
    "FISMO-T4.2-fisher-ball": {"g": ["6", "4"], "r": ["2", "1"]},
    "FISMO-TRADE-ns": {"sigma": "9/10"},
    "FISMO-ABS-squared": {"C": "1000", "k": "1005"},
    "FISMO-NOTE-1overT": {"K": "1000", "k": "36"},
    "KO-double-exponent": {"x": "3/5"},
    "PE-exponent": {
        "l": "9/10",
        "a": "1.5815003",
        "b": "-0.5835794",
        "x": ["0.9000001", "0.950438", "0.9999999"],
    },
    "PE-slope-floor": {"x": "1.645"},
    "SOFIM-minus-one": {"M": (1.1e8).hex(), "rho": (0.5).hex()},
    "SOFIM-curvature": {"g": ["1", "3"], "rho": "1/2", "hessians": [["1", "3"], ["1/10", "30"]]},
    "ADAF-P3.3": {"x": "1", "alpha": "1/2", "lam": "1/1000"},
    "ADAF-P3.4": {"x": "1", "beta": "1", "K": "1", "q": "21"},
    "ADAF-regret": {"x": "1", "alpha": "1", "lam": "1/1000", "K": "1", "q": "9"},
    "ADAF-inverse-error": {"d": ["1", "2"], "lam": "1/1000", "epsilon": "1/1000000", "C": "900000"},
}


def counterexamples() -> list[dict[str, Any]]:
    """The certificates of refuted claims whose counterexample is one finite instance."""
    return [
        {"id": f"counterexample to {claim}", "claim": claim, "kind": "counterexample", **instance}
        for claim, instance in _INSTANCES.items()
    ]


def files() -> dict[str, str]:
    """What every file that is written here holds, by name."""
    return {
        "ranges.json": text(ranges()),
        "matrices.json": text(matrices()),
        "counterexamples.json": text(counterexamples()),
    }


def main(folder: Path = FOLDER) -> None:
    """Write them all."""
    for name, content in files().items():
        (folder / name).write_text(content, encoding="utf-8")


def text(certificates: list[dict[str, Any]]) -> str:
    """A file: lists of plain values on one line each."""
    spread = json.dumps({"schema": _SCHEMA, "certificates": certificates}, indent=1)
    return re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda found: f"[{_joined(found.group(1))}]", spread) + "\n"


def _joined(lines: str) -> str:
    return " ".join(line.strip() for line in lines.splitlines())


if __name__ == "__main__":
    main()
