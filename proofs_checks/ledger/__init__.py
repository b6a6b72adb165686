"""The ledger: every checkable claim, its evidence by path, and its status derived by rule."""

from proofs_checks.ledger.dossier import Dossier, dossier
from proofs_checks.ledger.figures import RecordedEvidence, load_figures
from proofs_checks.ledger.lint import lint_claims, lint_ledger, lint_markers
from proofs_checks.ledger.load import (
    get_claim,
    load_assumptions,
    load_claims,
    load_exemptions,
    nearest_claims,
    read_exemptions,
    read_ledger,
)
from proofs_checks.ledger.recorded import Recorded, RecordedClaim, load_recorded, record, record_problems
from proofs_checks.ledger.schema import (
    Assumption,
    Claim,
    ClaimKind,
    Exemption,
    LedgerError,
    Provenance,
    UnknownClaimError,
)
from proofs_checks.ledger.sources import check_evidence_exists
from proofs_checks.ledger.status import derive_status, explain_status

__all__ = [
    "Assumption",
    "Claim",
    "ClaimKind",
    "Dossier",
    "Exemption",
    "LedgerError",
    "Provenance",
    "Recorded",
    "RecordedClaim",
    "RecordedEvidence",
    "UnknownClaimError",
    "check_evidence_exists",
    "derive_status",
    "dossier",
    "explain_status",
    "get_claim",
    "lint_claims",
    "lint_ledger",
    "lint_markers",
    "load_assumptions",
    "load_claims",
    "load_exemptions",
    "load_figures",
    "load_recorded",
    "nearest_claims",
    "read_exemptions",
    "read_ledger",
    "record",
    "record_problems",
]
