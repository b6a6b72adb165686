"""The report as one HTML file: no external resource, readable offline, on paper and on a telephone."""

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from proofs_checks.evidence import Tier
from proofs_checks.ledger import (
    RecordedEvidence,
    load_assumptions,
    load_claims,
    load_exemptions,
    load_figures,
)
from proofs_checks.ledger.ablation import nothing_to_break
from proofs_checks.ledger.dossier import command
from proofs_checks.report import numbers
from proofs_checks.report.plots import draw_all
from proofs_checks.report.typography import prose, spell
from proofs_checks.report.words import (
    KIND_WORDS,
    ORDER,
    PROVENANCE,
    STATUS_WORDS,
    ablation_words,
    disagreements,
    headline_words,
)
from proofs_checks.results import AblationResult, ClaimResult, RatioResult, Status, TwinResult, VerifyResults

__all__ = ["write_report"]

_TRUSTED = re.compile(r"\bTrusted: (.+?)\.?$", flags=re.DOTALL)
_DECADES_BELOW, _DECADES_ABOVE = 6, 1  # the part of the log axis a gauge shows around its threshold


def write_report(results: VerifyResults, out_dir: Path) -> Path:
    """Write ``index.html`` for one run of `fisherproof verify`.

    Parameters
    ----------
    results : VerifyResults
        What the run found. Figures that are not numbers are shown as such.
    out_dir : Path
        Created if it does not exist. An existing ``index.html`` is replaced.

    Returns
    -------
    Path
        The file that was written.
    """
    page = _environment().get_template("page.html.j2").render(**_contents(results))
    out_dir.mkdir(parents=True, exist_ok=True)
    path = out_dir / "index.html"
    path.write_text(page, encoding="utf-8")
    return path


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("proofs_checks.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "ablation": ablation_words,
        "count": numbers.count,
        "duration": numbers.duration,
        "moment": numbers.moment,
        "number": numbers.number,
        "tightness": numbers.rounded_down,
        "gauge": gauge_position,
        "prose": prose,
        "spell": spell,
        "worst_first": worst_first,
    }
    environment.globals |= {"STATUS": STATUS_WORDS, "KIND": KIND_WORDS, "PROVENANCE": PROVENANCE}
    return environment


def _contents(results: VerifyResults) -> dict[str, object]:
    claims, recorded = results.claims, load_figures()
    return {
        "run": results,
        "by_id": {claim.id: claim for claim in claims},
        "ledger": load_claims(),
        "assumptions": load_assumptions(),
        "statuses": [status for status in ORDER if results.counts.get(status)],
        "sections": _by_section(claims),
        "refuted": [claim for claim in claims if claim.derived is Status.REFUTED],
        "headline": headline_words(results.headline),
        "untested": [claim for claim in claims if not claim.evidence and not claim.pending],
        "attention": [claim for claim in claims if not claim.agrees or claim.derived is Status.FAILING],
        "failed_twins": [twin for twin in results.twins if not twin.worst.passed],
        "reconstructed": [claim for claim in claims if claim.reconstructed],
        "disagreements": disagreements(results),
        "pending": [claim for claim in claims if claim.pending],
        "trusted": trusted(claims),
        "sharpness": _sharpness(claims),
        "ablations": ablations(claims, recorded),
        "commands": {claim.id: _command(claim, recorded) for claim in claims},
        "exempt": _exempt(),
        "twin_columns": sorted({(twin.dtype, twin.device) for twin in results.twins}, key=_precision_first),
        "twin_rows": _by_name(results.twins),
        "plots": draw_all(results),
    }


def _by_section(claims: Iterable[ClaimResult]) -> dict[str, list[ClaimResult]]:
    sections: dict[str, list[ClaimResult]] = {}
    for claim in claims:
        sections.setdefault(claim.section, []).append(claim)
    return sections


def _by_name(twins: Iterable[TwinResult]) -> dict[str, dict[tuple[str, str], TwinResult]]:
    rows: dict[str, dict[tuple[str, str], TwinResult]] = {}
    for twin in twins:
        rows.setdefault(twin.name, {})[twin.dtype, twin.device] = twin
    return rows


def _precision_first(column: tuple[str, str]) -> tuple[str, int, str]:
    """Order columns by device, then from the most to the least precise."""
    dtype, device = column
    digits = re.sub(r"\D", "", dtype)
    return device, -int(digits or 0), dtype


def _sharpness(claims: Iterable[ClaimResult]) -> list[tuple[ClaimResult, float]]:
    """Claims whose evidence measured how nearly an inequality is attained, sharpest first."""
    found = []
    for claim in claims:
        measured = [
            e.tightness for e in claim.evidence if e.tightness is not None and math.isfinite(e.tightness)
        ]
        if measured:
            found.append((claim, max(measured)))
    return sorted(found, key=lambda pair: -pair[1])


def trusted(claims: Iterable[ClaimResult]) -> dict[str, list[ClaimResult]]:
    """What proofs quote without verifying it, and the claims that rest on it.

    By convention the summary of such evidence ends with ``Trusted: one thing; another thing``.
    """
    quoted: dict[str, list[ClaimResult]] = {}
    for claim in claims:
        named = [match[1] for e in claim.evidence if (match := _TRUSTED.search(e.summary))]
        for ingredient in dict.fromkeys(part.strip() for text in named for part in text.split(";")):
            quoted.setdefault(ingredient, []).append(claim)
    return quoted


def ablations(
    claims: Iterable[ClaimResult], recorded: Mapping[str, RecordedEvidence]
) -> dict[tuple[str, str], AblationResult]:
    """Verdicts on claims without one assumption, by (claim, assumption): of this run, else as recorded."""
    found = {(a.claim, a.assumption): a for entry in recorded.values() for a in entry.ablations}
    ran = (a for claim in claims for evidence in claim.evidence for a in evidence.ablations)
    return found | {(a.claim, a.assumption): a for a in ran}


def _exempt() -> dict[tuple[str, str], str]:
    """Why an assumption is not violated alone, where there is a reason."""
    general = {
        (claim.id, assumption): reason
        for claim in load_claims().values()
        if (reason := nothing_to_break(claim))
        for assumption in claim.assumptions
    }
    return general | load_exemptions()


def _command(claim: ClaimResult, recorded: Mapping[str, RecordedEvidence]) -> str:
    """The command that runs all evidence of a claim; what was not run has the tier it was recorded with."""
    waiting = [recorded[path].tier if path in recorded else Tier.NIGHTLY for path in claim.pending]
    return command(claim.id, [*(evidence.tier for evidence in claim.evidence), *waiting])


def worst_first(ratios: Iterable[RatioResult]) -> list[RatioResult]:
    """Failures first, then by how much of the threshold was used; what is not a number counts as worst."""

    def used(ratio: RatioResult) -> float:
        return math.inf if math.isnan(ratio.value) else ratio.value / ratio.threshold

    return sorted(ratios, key=lambda ratio: (ratio.passed, -used(ratio)))


def gauge_position(value: float, threshold: float) -> float:
    """Where `value` lies on the log axis of a gauge, in percent of its length."""
    if not value > 0:  # zero, or not a number
        return 0.0 if value == 0 else 100.0
    if math.isinf(value):
        return 100.0
    decades = math.log10(value / threshold) + _DECADES_BELOW
    return round(100 * min(max(decades / (_DECADES_BELOW + _DECADES_ABOVE), 0.0), 1.0), 1)
