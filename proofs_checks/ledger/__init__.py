"""The ledger: every checkable claim, its evidence by path, and its status derived by rule."""

from proofs_checks.ledger.lint import lint_claims, lint_ledger, lint_markers
from proofs_checks.ledger.load import get_claim, load_assumptions, load_claims, nearest_claims, read_ledger
from proofs_checks.ledger.recorded import Recorded, RecordedClaim, load_recorded, record
from proofs_checks.ledger.schema import Assumption, Claim, ClaimKind, LedgerError, Provenance
from proofs_checks.ledger.status import derive_status, explain_status

__all__ = [
    "Assumption",
    "Claim",
    "ClaimKind",
    "LedgerError",
    "Provenance",
    "Recorded",
    "RecordedClaim",
    "derive_status",
    "explain_status",
    "get_claim",
    "lint_claims",
    "lint_ledger",
    "lint_markers",
    "load_assumptions",
    "load_claims",
    "load_recorded",
    "nearest_claims",
    "read_ledger",
    "record",
]
