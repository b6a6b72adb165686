"""The words the report and the terminal use for verdicts, kinds of evidence and provenance."""

from typing import NamedTuple

from proofs_checks.evidence import Kind
from proofs_checks.report.numbers import count, plain_number
from proofs_checks.results import AblationResult, Headline, Status, VerifyResults

__all__ = [
    "KIND_WORDS",
    "ORDER",
    "PROVENANCE",
    "STATUS_WORDS",
    "StatusWords",
    "ablation_words",
    "disagreements",
    "headline_words",
]


class StatusWords(NamedTuple):
    """How one status looks and what it means; `mark` distinguishes it without colour."""

    slug: str
    mark: str
    meaning: str


STATUS_WORDS = {
    Status.PROVED: StatusWords(
        "proved", "■", "exact algebra for every size, or certified on the whole stated domain"
    ),
    Status.CERTIFIED: StatusWords("certified", "◧", "rigorous, on a stated part of the domain"),
    Status.SUPPORTED: StatusWords(
        "supported", "□", "measured, searched or tested statistically, with figures; not proved"
    ),
    Status.REFUTED: StatusWords(
        "refuted", "✕", "false as stated, with an exact counterexample or an exact disproof"
    ),
    Status.VACUOUS: StatusWords(
        "vacuous", "○", "true, but weaker than a trivial bound throughout the tested range"
    ),
    Status.UNTESTED: StatusWords("untested", "–", "no evidence yet; the entry says what is missing"),
    Status.FAILING: StatusWords("failing", "!", "its evidence failed in this run"),
}

#: The order in which statuses are told, worst news first only where something is broken.
ORDER = tuple(STATUS_WORDS)

KIND_WORDS = {
    Kind.SYMBOLIC: "symbolic proof",
    Kind.CERTIFIED: "certified computation",
    Kind.ADVERSARIAL: "adversarial search",
    Kind.STATISTICAL: "statistical test",
    Kind.REPRODUCTION: "reproduction",
}

#: Provenance tags of the ledger: how they are called, and what they mean.
PROVENANCE = {
    "src": ("read in the source", "we read the statement in the paper or in the authors' own repository"),
    "2nd": (
        "second-hand",
        "we know it through somebody else's account and have not compared it with the paper",
    ),
    "drv": ("derived", "we derived it from definitions"),
    "msr": ("measured", "it is a numerical experiment of this project"),
    "rec": ("reconstructed", "our constants stand in for published ones that could not be read"),
}


def disagreements(results: VerifyResults) -> list[str]:
    """What stands between a run and agreement with the ledger, counted; what does not occur is left out."""
    found = (
        (sum(not claim.agrees for claim in results.claims), "claim", "claims"),
        (
            sum(not twin.worst.passed for twin in results.twins),
            "comparison with PyTorch",
            "comparisons with PyTorch",
        ),
        (len(results.problems), "problem of the ledger itself", "problems of the ledger itself"),
        (len(results.record_problems), "problem of the record", "problems of the record"),
    )
    return [count(n, one, many) for n, one, many in found if n]


def headline_words(headline: Headline) -> str:
    """What a run does not know, and how firm its refutations are, in one sentence each."""
    numbers = count(headline.trusted_numbers, "trusted number")
    refuted = f"{count(headline.counterexamples, 'refuted claim')} with a finite counterexample"
    bare = headline.refuted - headline.counterexamples
    return (
        f"{numbers} that no evidence verifies (second-hand or reconstructed statements), "
        f"{count(headline.untested, 'untested claim')}, {refuted}"
        + (f", {count(bare, 'refuted claim')} without one" if bare else "")
        + "."
    )


def ablation_words(ablation: AblationResult) -> str:
    """What became of a claim without one of its assumptions."""
    tried = f"{count(ablation.tries, 'try', 'tries')}: {ablation.how}"
    if not ablation.broken:
        return (
            f"not needed in the tested range, at most {plain_number(ablation.factor)} of the bound ({tried})"
        )
    return f"needed: without it the bound is exceeded {plain_number(ablation.factor)}-fold ({tried})"
