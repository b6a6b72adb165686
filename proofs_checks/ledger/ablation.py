"""Which assumptions are to be violated alone, and what the ledger says of those that are not."""

from collections.abc import Iterable, Iterator, Mapping

from proofs_checks.ledger.schema import Claim, ClaimKind

__all__ = ["lint_ablation", "nothing_to_break"]

#: Kinds of claims whose assumptions are violated one at a time.
_KINDS = (ClaimKind.INEQUALITY, ClaimKind.RATE)

Pair = tuple[str, str]


def nothing_to_break(claim: Claim) -> str | None:
    """Why no assumption of this claim needs a generator, or None if each does."""
    if claim.kind not in _KINDS:
        return f"not violated on its own: the claim is of kind {claim.kind}"
    if claim.replaced_by is not None:
        return "the claim is refuted with all its assumptions satisfied"
    if not claim.evidence:
        return "the claim itself is untested"
    return None


def lint_ablation(
    claims: Mapping[str, Claim], studied: Iterable[Pair], exempt: Mapping[Pair, str]
) -> Iterator[str]:
    """Pairs of claim and assumption without generator and without reason, with both, or that do not exist."""
    pairs = list(studied)
    for id, assumption in sorted({pair for pair in pairs if pairs.count(pair) > 1}):
        yield f"{id}: its ablation of {assumption} is defined twice"
    for id, assumption in pairs:
        if id not in claims or assumption not in claims[id].assumptions:
            yield f"{id}: an ablation violates {assumption}, on which the claim does not rest"
        if (id, assumption) in exempt:
            yield f"{id}: ablation.toml says why {assumption} is not violated alone, but a generator does it"
    for claim in claims.values():
        for assumption in () if nothing_to_break(claim) else claim.assumptions:
            if (claim.id, assumption) not in exempt and (claim.id, assumption) not in pairs:
                yield f"{claim.id}: no generator violates {assumption} alone; ablation.toml gives no reason"
