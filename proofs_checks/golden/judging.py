"""Judging golden vectors: every output against what the inputs give, error over budget.

A wrong result fails: a NaN, a wrong shape, a missing step, file or case. What cannot be judged is an error:
numbers that cannot be read, another version, inputs that were changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from proofs_checks.decision import NOTHING, Array, Ratio
from proofs_checks.golden.case import Arrays, Case, Function, GoldenError, budgets, expected
from proofs_checks.golden.document import ArrayRecord, CaseRecord, Document, plain, read
from proofs_checks.golden.functions import FUNCTIONS

__all__ = ["FunctionResult", "Report", "verify"]


@dataclass(frozen=True)
class FunctionResult:
    """How the outputs of one function compare.

    Attributes
    ----------
    function : str
    equation : str
    producer, dtype : str
        As the file says; empty without a file.
    cases : int
        Cases that are asked for or given.
    failed : int
        Those that are missing or wrong.
    worst : Ratio
        Largest error over budget of all outputs that could be compared; its name says where.
    failure : str
        The first failing case, in words; empty if there is none.
    """

    function: str
    equation: str
    producer: str
    dtype: str
    cases: int
    failed: int
    worst: Ratio
    failure: str


@dataclass(frozen=True)
class Report:
    """All functions."""

    results: tuple[FunctionResult, ...]

    @property
    def agrees(self) -> bool:
        """Whether every case of every function is there and within its budget."""
        return bool(self.results) and not any(result.failed for result in self.results)


def verify(folder: Path) -> Report:
    """Judge the files in `folder`.

    Raises
    ------
    GoldenError
        If there are none, one cannot be read, or one is not of a function that has golden vectors.
    """
    try:
        found = {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.json"))}
    except (OSError, UnicodeDecodeError) as error:
        raise GoldenError(f"cannot read {str(folder)!r}: {error}") from error
    if not found:
        raise GoldenError(f"no golden vectors in {str(folder)!r}: there is no JSON file")
    unknown = sorted(set(found) - set(FUNCTIONS))
    if unknown:
        raise GoldenError(f"{unknown[0]}.json: no function of that name; known: {', '.join(FUNCTIONS)}")
    documents = {name: read(f"{name}.json", content) for name, content in found.items()}
    return Report(tuple(_judged(function, documents.get(name)) for name, function in FUNCTIONS.items()))


def _judged(function: Function, document: Document | None) -> FunctionResult:
    """All cases of one function, those asked for and those added."""
    if document is None:
        count = len(function.cases)
        missing = f"{function.name}.json is missing"
        return FunctionResult(
            function.name, function.equation, "", "", count, count, Ratio("missing", np.inf, 1.0), missing
        )
    file = f"{function.name}.json"
    if document.function != function.name:
        raise GoldenError(f"{file}: field function must be {function.name!r}, got {document.function!r}")
    records = {record.name: record for record in document.cases}
    if len(records) < len(document.cases):
        raise GoldenError(f"{file}: two cases have one name")
    asked = {case.name: case for case in function.cases}
    worst, failures = Ratio("nothing compared", 0.0, 1.0), []
    for name in dict.fromkeys([*asked, *records]):
        if name not in records:
            failures.append(f"case {name!r} is missing")
            continue
        case = _case(f"{file}, case {name!r}", records[name], asked.get(name), function)
        ratio, reason = _compared(function, case, records[name], document.dtype, file)
        worst = max(worst, ratio, key=lambda one: one.value)
        if reason:
            failures.append(reason)
    return FunctionResult(
        function.name,
        function.equation,
        document.producer,
        document.dtype,
        len(asked | records),
        len(failures),
        worst,
        failures[0] if failures else "",
    )


def _case(where: str, record: CaseRecord, asked: Case | None, function: Function) -> Case:
    """The inputs of a record, which must be those asked for, if it is one of these."""
    hp = {name: plain(f"{name} of {where}", value) for name, value in record.hyper_parameters.items()}
    start = _arrays(f"{where}, start", record.start)
    steps = tuple(
        _arrays(f"{where}, inputs of step {t}", step) for t, step in enumerate(record.inputs, start=1)
    )
    case = Case(record.name, hp, steps, start)
    if asked is None:
        known = set(function.cases[0].hp)
        if set(hp) != known:
            raise GoldenError(f"{where}: hyper-parameters must be {sorted(known)}, got {sorted(hp)}")
        return case
    same = len(steps) == len(asked.steps) and all(map(_same, steps, asked.steps))
    if hp != dict(asked.hp) or not _same(start, asked.start) or not same:
        raise GoldenError(f"{where}: hyper-parameters or inputs are not those of the export")
    return case


def _arrays(where: str, records: Mapping[str, ArrayRecord]) -> dict[str, Array]:
    """Inputs, which must be finite and exact in every precision."""
    out = {}
    for name, record in records.items():
        X = record.array(f"{where}, {name}")
        with np.errstate(over="ignore"):
            exact = np.isfinite(X).all() and (X.astype(np.float32) == X).all()
        if not exact:
            raise GoldenError(f"{where}, {name}: inputs must be finite float32 numbers")
        out[name] = X
    return out


def _same(left: Arrays, right: Arrays) -> bool:
    return left.keys() == right.keys() and all(np.array_equal(left[name], right[name]) for name in left)


def _compared(function: Function, case: Case, record: CaseRecord, dtype: str, file: str) -> tuple[Ratio, str]:
    """Worst error over budget of a case, and in words the first output that fails."""
    try:
        truth, allowed = expected(function, case), budgets(function, case, dtype)
    except (ValueError, TypeError, KeyError, StopIteration) as error:
        raise GoldenError(f"{file}, case {case.name!r}: the reference refuses the inputs: {error}") from error
    if len(record.outputs) != len(truth):
        reason = f"case {case.name!r}: outputs of {len(record.outputs)} steps, not {len(truth)}"
        return Ratio("steps", np.inf, 1.0), reason
    worst, reason = Ratio("nothing compared", 0.0, 1.0), ""
    for t, (given, step, bounds) in enumerate(zip(record.outputs, truth, allowed, strict=True), start=1):
        where = f"case {case.name!r}, step {t}"
        surplus = sorted(set(given) - set(step))
        if surplus:
            raise GoldenError(f"{file}, {where}: unknown output {surplus[0]!r}; known: {', '.join(step)}")
        for name, X in step.items():
            place = f"{where}, {name}"
            if name not in given:
                ratio, fault = Ratio(place, np.inf, 1.0), "missing"
            else:
                ratio, fault = _ratio(place, given[name].array(f"{file}, {place}"), X, bounds[name])
            worst = max(worst, ratio, key=lambda one: one.value)
            reason = reason or (f"{ratio.name}: {fault}" if fault else "")
    return worst, reason


def _ratio(place: str, X: Array, Y: Array, budget: Array) -> tuple[Ratio, str]:
    """Error over budget of one output, and in words what is wrong with it; nothing if it is right."""
    if X.shape != Y.shape:
        return Ratio(place, np.inf, 1.0), f"shape {list(X.shape)}, not {list(Y.shape)}"
    if not np.isfinite(X).all():
        return Ratio(place, np.inf, 1.0), "not a finite number"
    error = np.abs(X - Y) if budget.ndim else np.asarray(np.linalg.norm(X - Y))
    allowed = np.maximum(budget, NOTHING)
    if not error.size:
        return Ratio(place, 0.0, 1.0), ""
    at = np.unravel_index(int(np.argmax(error / allowed)), error.shape)
    entry = f"{place}[{', '.join(map(str, at))}]" if at else place
    ratio = Ratio(entry, float(error[at]), float(allowed[at]))
    if ratio.passed:
        return ratio, ""
    return ratio, f"off by {ratio.error:.3g}, {ratio.value:.3g} times its budget {ratio.budget:.3g}"
