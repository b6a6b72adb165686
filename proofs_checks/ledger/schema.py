"""The shape of a ledger record: a claim, and the assumptions it rests on."""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from proofs_checks.evidence import KINDS, Kind
from proofs_checks.results import Status

__all__ = [
    "Assumption",
    "Claim",
    "ClaimKind",
    "Exemption",
    "LedgerError",
    "Provenance",
    "UnknownClaimError",
]

Text = Annotated[str, Field(min_length=1)]
Identifier = Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9.]*(-[A-Za-z0-9.]+)+$")]
EvidencePath = Annotated[str, Field(pattern=rf"^({'|'.join(KINDS)})(\.[a-z_][a-z0-9_]*)+:[a-z_][a-z0-9_]*$")]


class LedgerError(ValueError):
    """A ledger that cannot be used, or an id it does not hold; the message names file, claim and field."""


class UnknownClaimError(LedgerError):
    """An id that somebody asked for and the ledger does not hold."""


class ClaimKind(StrEnum):
    """What sort of statement a claim is."""

    IDENTITY = "identity"
    INEQUALITY = "inequality"
    RATE = "rate"
    EQUIVALENCE = "equivalence"
    EMPIRICAL = "empirical"


class Provenance(StrEnum):
    """Where a statement and its constants come from."""

    SOURCE = "src"  # read in the primary source
    SECOND_HAND = "2nd"  # read in somebody else's account
    DERIVED = "drv"  # derived here from definitions
    MEASURED = "msr"  # a stated numerical experiment
    RECONSTRUCTED = "rec"  # ours, standing in for a published statement whose constants could not be read


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Assumption(_Record):
    """One hypothesis that claims name by its id."""

    id: Identifier
    where: tuple[Text, ...]
    statement: Text


class Exemption(_Record):
    """Assumptions of a claim that are not violated one at a time, and why not."""

    claim: Identifier
    assumptions: Annotated[tuple[Identifier, ...], Field(min_length=1)]
    reason: Text


class Claim(_Record):
    """One checkable statement. Its status is not part of the record: `derive_status` finds it.

    Attributes
    ----------
    id : str
        Unique, stable, as tests and reports name it.
    where : tuple of str
        Chapter and item with the mathematics, such as "fismo 2.1".
    provenance : tuple of Provenance
        Tags of the statement; with ``rec`` the constants are ours and may never be called the paper's.
    aim, expected : Kind, Status
        The strongest evidence to try for, and the verdict expected when the record was written.
    replaced_by : str or None
        Id of the corrected claim; required when the claim is refuted.
    assumptions : tuple of str
        Ids of the assumptions that the statement rests on.
    note : str or None
        Where paper, accounts and code differ.
    evidence : tuple of str
        Evidence functions as ``kind.module:function``, relative to `proofs_checks`.
    blocked : str or None
        For claims without evidence: what is missing, in one sentence.
    """

    id: Identifier
    section: Text
    where: Annotated[tuple[Text, ...], Field(min_length=1)]
    source: Text
    provenance: Annotated[tuple[Provenance, ...], Field(min_length=1)]
    statement: Text
    kind: ClaimKind
    aim: Kind
    expected: Status
    replaced_by: Identifier | None = None
    assumptions: tuple[Identifier, ...] = ()
    note: Text | None = None
    evidence: tuple[EvidencePath, ...] = ()
    blocked: Text | None = None

    @property
    def reconstructed(self) -> bool:
        """Whether the constants are this project's own and stand in for published ones."""
        return Provenance.RECONSTRUCTED in self.provenance

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.expected is Status.FAILING:
            raise ValueError("expected: 'failing' is what a run finds, never what a claim expects")
        if self.expected is Status.REFUTED and self.replaced_by is None:
            raise ValueError("replaced_by: a claim expected to be refuted must name its corrected claim")
        if len(set(self.evidence)) != len(self.evidence):
            raise ValueError(f"evidence: a path is named twice in {list(self.evidence)}")
        return self
