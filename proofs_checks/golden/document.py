"""The files of golden vectors: what one holds, and how it is read and written.

One JSON file per function. The fields are described for users in the README that is written beside them.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from proofs_checks.decision import Array
from proofs_checks.golden.case import Case, Function, GoldenError, budgets, expected

__all__ = ["DTYPES", "FORMAT", "PRODUCER", "VERSION", "ArrayRecord", "CaseRecord", "Document", "read", "text"]

FORMAT = "fisherproof golden vectors"
VERSION = 1

#: Who made the outputs of an export; whoever replaces them puts another name.
PRODUCER = "fisherproof reference"

#: Precisions for which budgets are written and outputs are judged.
DTYPES = ("float64", "float32")

#: Bits of numerator and denominator up to which a fraction is written out; nobody reads longer ones.
LONGEST = 160


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ArrayRecord(_Record):
    """A float64 array: the hexadecimal numbers count, decimal and exact ones are for people."""

    shape: list[int]
    hex: list[str]
    decimal: list[float] | None = None
    exact: list[str | None] | None = None

    @classmethod
    def of(cls, X: Array, exact: Sequence[Fraction] | None = None) -> "ArrayRecord":
        """The record of an array, with its exact values where they are known."""
        flat = [float(x) for x in X.reshape(-1)]
        fractions = None if exact is None else [_short(x) for x in exact]
        return cls(shape=list(X.shape), hex=[x.hex() for x in flat], decimal=flat, exact=fractions)

    def array(self, where: str) -> Array:
        """The array; entries may be infinite or not a number.

        Raises
        ------
        GoldenError
            If a number is malformed or there are more or fewer than the shape says.
        """
        if min(self.shape, default=0) < 0 or math.prod(self.shape) != len(self.hex):
            raise GoldenError(f"{where}: shape {self.shape} does not fit {len(self.hex)} numbers")
        try:
            return np.array([float.fromhex(x) for x in self.hex], dtype=np.float64).reshape(self.shape)
        except (ValueError, OverflowError):
            bad = next(x for x in self.hex if not _is_hex(x))
            raise GoldenError(f"{where}: {bad!r} is not a hexadecimal float64 number") from None


class BudgetRecord(_Record):
    """A rounding budget: one number per entry, or one for the Frobenius norm of the whole error."""

    norm: Literal["entry", "frobenius"]
    values: list[float]


class CaseRecord(_Record):
    """One run."""

    name: str
    hyper_parameters: dict[str, Any]
    start: dict[str, ArrayRecord]
    inputs: list[dict[str, ArrayRecord]] = Field(min_length=1)
    outputs: list[dict[str, ArrayRecord]]
    budgets: dict[str, list[dict[str, BudgetRecord]]] = {}


class Document(_Record):
    """One file."""

    format: str
    version: int
    function: str
    equation: str
    source: str
    producer: str
    dtype: Literal["float64", "float32"]
    cases: list[CaseRecord]


def text(function: Function) -> str:
    """The file of a function, with the outputs of the reference: the same bytes every time."""
    document = Document(
        format=FORMAT,
        version=VERSION,
        function=function.name,
        equation=function.equation,
        source=function.source,
        producer=PRODUCER,
        dtype="float64",
        cases=[_case_record(function, case) for case in function.cases],
    )
    spread = json.dumps(document.model_dump(exclude_none=True), indent=1, ensure_ascii=True, allow_nan=False)
    return _compact(spread) + "\n"


def read(name: str, content: str) -> Document:
    """The document in a file called `name`.

    Raises
    ------
    GoldenError
        If it is not JSON, not golden vectors, of another version, or a field is missing or malformed.
    """
    try:
        raw = json.loads(content, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise GoldenError(f"{name}: not JSON: {error}") from error
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        raise GoldenError(f"{name}: not a file of {FORMAT}: field 'format' is missing or different")
    if raw.get("version") != VERSION:
        raise GoldenError(f"{name}: unknown version {raw.get('version')!r}; this program reads {VERSION}")
    try:
        return Document.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise GoldenError(f"{name}: field {place}: {first['msg']}") from error


def hyper_parameters(hp: Mapping[str, Any]) -> dict[str, Any]:
    """Hyper-parameters as they are written: floats also in hexadecimal."""
    return {name: _written(value) for name, value in hp.items()}


def plain(name: str, value: object) -> Any:
    """A hyper-parameter as it was before it was written.

    Raises
    ------
    GoldenError
        If it is neither a name, a whole number, a truth value, a hexadecimal number nor a list of them.
    """
    if isinstance(value, list):
        return [plain(name, entry) for entry in value]
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, dict) and isinstance(value.get("hex"), str):
        x = float(ArrayRecord(shape=[], hex=[value["hex"]]).array(f"hyper-parameter {name}"))
        if math.isfinite(x):
            return x
    raise GoldenError(f"hyper-parameter {name} must be finite and carry a field 'hex', got {value!r}")


def _written(value: Any) -> Any:
    if isinstance(value, list):
        return [_written(entry) for entry in value]
    if isinstance(value, float):
        return {"hex": value.hex(), "decimal": value}
    return value


def _case_record(function: Function, case: Case) -> CaseRecord:
    outputs = [
        {name: ArrayRecord.of(X, exact.get(name)) for name, X in step.items()}
        for step, exact in zip(expected(function, case), function.exact(case), strict=True)
    ]
    return CaseRecord(
        name=case.name,
        hyper_parameters=hyper_parameters(case.hp),
        start={name: ArrayRecord.of(X) for name, X in case.start.items()},
        inputs=[{name: ArrayRecord.of(X) for name, X in step.items()} for step in case.steps],
        outputs=outputs,
        budgets={
            dtype: [
                {name: _budget_record(b) for name, b in step.items()}
                for step in budgets(function, case, dtype)
            ]
            for dtype in DTYPES
        },
    )


def _budget_record(budget: Array) -> BudgetRecord:
    values = [float(x) for x in budget.reshape(-1)]
    return BudgetRecord(norm="entry" if budget.ndim else "frobenius", values=values)


def _compact(spread: str) -> str:
    """Lists of plain values, and numbers with their hexadecimal form, each on one line."""
    one_line = re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda found: f"[{_joined(found.group(1))}]", spread)
    return re.sub(
        r'\{\s+("hex": "[^\[\]{}]*?)\s+\}', lambda found: f"{{{_joined(found.group(1))}}}", one_line
    )


def _joined(lines: str) -> str:
    return " ".join(line.strip() for line in lines.splitlines())


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _short(x: Fraction) -> str | None:
    bits = x.numerator.bit_length() + x.denominator.bit_length()
    return str(x) if bits <= LONGEST else None


def _is_hex(x: str) -> bool:
    try:
        float.fromhex(x)
    except (ValueError, OverflowError):
        return False
    return True
