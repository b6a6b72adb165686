"""Reading the ledger from its TOML files, with errors that name file, claim and field."""

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from proofs_checks.ledger.schema import Assumption, Claim, Exemption, LedgerError, UnknownClaimError

__all__ = [
    "FOLDER",
    "get_claim",
    "load_assumptions",
    "load_claims",
    "load_exemptions",
    "nearest_claims",
    "read_exemptions",
    "read_ledger",
]

#: The ledger of this package.
FOLDER = Path(__file__).parent

#: Files of the ledger in reading order; `read_ledger` takes any other file after these, by name.
READING_ORDER = (
    "fismo",
    "fismo_rates",
    "fismo_empirical",
    "polar",
    "rates",
    "sofim",
    "adafisher",
    "comparators",
)

Record = TypeVar("Record", bound=BaseModel)


def read_ledger(folder: Path) -> tuple[dict[str, Claim], dict[str, Assumption]]:
    """Claims and assumptions of a ledger folder (``claims/*.toml`` and ``assumptions.toml``).

    Raises
    ------
    LedgerError
        If a file cannot be read or is not TOML, a record does not fit the schema, an id occurs twice, a claim
        rests on an assumption that is not defined, or there is no claim at all.
    """
    assumptions: dict[str, Assumption] = {}
    _read(folder / "assumptions.toml", "assumption", Assumption, assumptions)
    claims: dict[str, Claim] = {}
    for path in sorted((folder / "claims").glob("*.toml"), key=_reading_order):
        for claim in _read(path, "claim", Claim, claims):
            for assumption in claim.assumptions:
                if assumption not in assumptions:
                    near = _nearest(assumption, assumptions)
                    raise LedgerError(
                        f"{path.name}: claim {claim.id}: field assumptions: no assumption {assumption!r}; "
                        f"nearest: {', '.join(near)}"
                    )
    if not claims:
        raise LedgerError(f"{folder / 'claims'}: holds no claim")
    return claims, assumptions


def read_exemptions(folder: Path, claims: Mapping[str, Claim]) -> dict[tuple[str, str], str]:
    """Why an assumption of a claim is not violated alone, by (claim, assumption), from ``ablation.toml``.

    Raises
    ------
    LedgerError
        If the file cannot be read or is not TOML, a record does not fit the schema, or it names a claim that
        does not exist, an assumption that is not the claim's, or a pair twice.
    """
    path = folder / "ablation.toml"
    reasons: dict[tuple[str, str], str] = {}
    for number, entry in enumerate(_entries(path, "exempt"), start=1):
        exemption = _parse(path, "exempt", number, entry, Exemption)
        where = f"{path.name}: exempt {exemption.claim}"
        if exemption.claim not in claims:
            near = _nearest(exemption.claim, claims)
            raise LedgerError(f"{where}: field claim: no such claim; nearest: {', '.join(near)}")
        for assumption in exemption.assumptions:
            if assumption not in claims[exemption.claim].assumptions:
                raise LedgerError(f"{where}: field assumptions: the claim does not rest on {assumption!r}")
            if (exemption.claim, assumption) in reasons:
                raise LedgerError(f"{where}: field assumptions: {assumption!r} is named twice")
            reasons[exemption.claim, assumption] = exemption.reason
    return reasons


@cache
def _ledger() -> tuple[dict[str, Claim], dict[str, Assumption]]:
    return read_ledger(FOLDER)


def load_exemptions() -> dict[tuple[str, str], str]:
    """The exemptions from assumption ablation of the ledger, by (claim, assumption)."""
    return read_exemptions(FOLDER, load_claims())


def load_claims() -> dict[str, Claim]:
    """All claims of the ledger by id, in reading order (a fresh dictionary; the files are read once)."""
    return dict(_ledger()[0])


def load_assumptions() -> dict[str, Assumption]:
    """All assumptions of the ledger by id."""
    return dict(_ledger()[1])


def get_claim(id: str) -> Claim:
    """The claim with this id.

    Raises
    ------
    UnknownClaimError
        If there is none; the message names the nearest ids.
    """
    claims = load_claims()
    if id not in claims:
        raise UnknownClaimError(f"no claim {id!r} in the ledger; nearest: {', '.join(nearest_claims(id))}")
    return claims[id]


def nearest_claims(text: str) -> list[str]:
    """Up to three claim ids that look most like `text`, an id or a glob, best first."""
    return _nearest(text, load_claims())


def _nearest(text: str, ids: Iterable[str]) -> list[str]:
    by_folded = {id.casefold(): id for id in ids}
    plain = "".join(c for c in text.casefold() if c not in "*?[]!")
    close = difflib.get_close_matches(plain, by_folded, n=3, cutoff=0.0)
    return [by_folded[match] for match in close]


def _reading_order(path: Path) -> tuple[int, str]:
    known = path.stem in READING_ORDER
    return (READING_ORDER.index(path.stem) if known else len(READING_ORDER), path.name)


def _read(path: Path, table: str, model: type[Record], into: dict[str, Record]) -> list[Record]:
    """Add the records ``[[table]]`` of one file to `into`, keyed by id; the new ones are returned."""
    added = []
    for number, entry in enumerate(_entries(path, table), start=1):
        record = _parse(path, table, number, entry, model)
        id: str = record.id  # type: ignore[attr-defined]
        if id in into:
            raise LedgerError(f"{path.name}: {table} {id}: field id: already in the ledger")
        into[id] = record
        added.append(record)
    return added


def _entries(path: Path, table: str) -> list[Mapping[str, object]]:
    """The tables ``[[table]]`` of a TOML file that holds nothing else."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise LedgerError(f"{path.name}: not valid TOML: {error}") from error
    except OSError as error:
        raise LedgerError(f"{path.name}: cannot be read: {error.strerror or error}") from error
    for key in document:
        if key != table:
            raise LedgerError(f"{path.name}: unknown table {key!r}; a record starts with [[{table}]]")
    entries = document.get(table, [])
    if not isinstance(entries, list):
        raise LedgerError(f"{path.name}: {table!r} is a single table; a record starts with [[{table}]]")
    return entries


def _parse(path: Path, table: str, number: int, entry: Mapping[str, object], model: type[Record]) -> Record:
    try:
        return model.model_validate(entry)
    except ValidationError as error:
        known = entry if isinstance(entry, Mapping) else {}
        name = known.get("id") or known.get("claim") or f"number {number}"
        details = "; ".join(_detail(e["loc"], e["msg"], e.get("input")) for e in error.errors())
        raise LedgerError(f"{path.name}: {table} {name}: {details}") from error


def _detail(location: tuple[int | str, ...], message: str, got: object) -> str:
    if not location:  # raised by the model as a whole, which names the field itself
        return f"field {message.removeprefix('Value error, ')}"
    value = f", got {got!r}" if isinstance(got, str | int | float) else ""
    return f"field {'.'.join(map(str, location))}: {message}{value}"
