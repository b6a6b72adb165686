"""Rules of the ledger that no schema sees: nothing orphaned in either direction, nothing left unsaid."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

from proofs_checks.evidence import Evidence
from proofs_checks.ledger.ablation import lint_ablation
from proofs_checks.ledger.discovery import all_evidence, kind_of
from proofs_checks.ledger.load import load_claims, load_exemptions
from proofs_checks.ledger.schema import Claim
from proofs_checks.ledger.status import EXACT

__all__ = ["lint_claims", "lint_ledger", "lint_markers"]


def lint_ledger() -> list[str]:
    """Every breach of the rules in the ledger of this package, one line each; empty when there is none."""
    from proofs_checks.adversarial.ablation_table import studied_pairs  # slow to import, and only used here

    functions, broken = all_evidence()
    ablation = lint_ablation(load_claims(), studied_pairs(), load_exemptions())
    return [*broken, *lint_claims(load_claims(), functions), *ablation]


def lint_claims(claims: Mapping[str, Claim], functions: Mapping[str, Evidence]) -> list[str]:
    """Breaches of the rules by `claims`, given every public evidence function by its path."""
    problems = [problem for claim in claims.values() for problem in _lint_claim(claim, claims, functions)]
    named = {path for claim in claims.values() for path in claim.evidence}
    problems += [f"{path}: evidence that no claim names" for path in functions if path not in named]
    return problems


def _lint_claim(
    claim: Claim, claims: Mapping[str, Claim], functions: Mapping[str, Evidence]
) -> Iterator[str]:
    if not claim.evidence and claim.blocked is None:
        yield f"{claim.id}: no evidence, and no `blocked` that says what is missing"
    if claim.evidence and claim.blocked is not None:
        yield f"{claim.id}: has evidence and still says it is blocked"
    if claim.replaced_by is not None and claim.replaced_by not in claims:
        yield f"{claim.id}: replaced_by names {claim.replaced_by!r}, which is no claim"
    if claim.replaced_by == claim.id:
        yield f"{claim.id}: replaced_by names the claim itself"
    for path in claim.evidence:
        if path not in functions:
            yield f"{claim.id}: evidence {path!r} is not a public evidence function"
    refuting = [path for path in claim.evidence if path in functions and functions[path].refutes]
    if refuting and claim.replaced_by is None:
        yield f"{claim.id}: {refuting[0]} refutes it, but replaced_by names no corrected claim"
    if refuting and all(kind_of(path) not in EXACT for path in refuting):
        yield f"{claim.id}: refuted only by {refuting[0]}; a refutation must be symbolic or certified"
    if claim.evidence and claim.replaced_by is not None and not refuting:
        yield f"{claim.id}: replaced_by names {claim.replaced_by}, but no evidence refutes the claim"


def lint_markers(folder: Path, claims: Mapping[str, Claim]) -> list[str]:
    """Test markers ``pytest.mark.claim("ID")`` below `folder` that name no claim, one line each."""
    problems = []
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), filename=str(path))):
            if isinstance(node, ast.Call) and _is_claim_marker(node.func):
                problems += [
                    f"{path.relative_to(folder)}:{node.lineno}: marker names {argument.value!r}, no claim"
                    for argument in node.args
                    if isinstance(argument, ast.Constant) and argument.value not in claims
                ]
    return problems


def _is_claim_marker(function: ast.expr) -> bool:
    return (
        isinstance(function, ast.Attribute)
        and function.attr == "claim"
        and isinstance(function.value, ast.Attribute)
        and function.value.attr == "mark"
    )
