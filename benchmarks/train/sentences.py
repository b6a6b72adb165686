"""What a report says, derived from its figures: another figure, another sentence. Nothing is typed in."""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from scipy import stats

from benchmarks.train.stats import CONFIDENCE
from benchmarks.train.summary import BASELINE, CLAIMED_BETTER, Summary

__all__ = [
    "claims",
    "conditioning",
    "difference",
    "ends",
    "leaders",
    "listed",
    "lost_runs",
    "number",
    "pooled",
]

#: Papers' condition numbers of an update, as reported: lower and upper end, by method.
REPORTED_KAPPA = {
    "adamw": (1e8, math.inf),
    "fismo": (1e2, 1e3),
    "fismo-theorem": (1e2, 1e3),
    "fismo-unit": (1e2, 1e3),
    "muon": (1.0, 1e1),
    "shampoo": (1e4, 1e10),
}

#: Up to here a factor's distance from the identity is called small: the step is Muon's to about half of it.
NEAR_IDENTITY = 0.1

Row = Mapping[str, Any]


def number(x: float | None, digits: int = 4) -> str:
    """For readers: a few significant digits, and a word where there is no number."""
    return "none" if x is None else f"{x:.{digits}g}"


def listed(items: Sequence[str]) -> str:
    """Words in a row: "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(items[:-1]), items[-1]]) if items[1:] else "".join(items)


def leaders(summary: Summary) -> list[str]:
    """Who is first, by how much, who differs from the baseline, and what such a comparison is worth."""
    rows, metric = _rows(summary), _metric_name(summary)
    ranked = sorted(
        (row for row in rows.values() if row["test"]["mean"] is not None),
        key=lambda row: row["test"]["mean"],
        reverse=summary["task"]["better"] == "higher",
    )
    if not ranked:
        return [f"No method finished a run, so there is no {metric} to compare."]
    first = ranked[0]
    said = [f"Best mean {metric}: {first['title']}, {_spread(first['test'])}."]
    if ranked[1:]:
        second = ranked[1]
        pair = _comparison(summary, first["name"], second["name"])
        said.append(f"Second is {second['title']}, {_spread(second['test'])}: {_by_how_much(pair)}.")
    if size := summary["task"]["judged"]:
        said.append(
            f"The test part has {size} examples: one of them is {number(1 / size, 2)} of the accuracy."
        )
    return said + (_against_baseline(summary, rows) if BASELINE in rows else [])


def _against_baseline(summary: Summary, rows: Mapping[str, Row]) -> list[str]:
    title = rows[BASELINE]["title"]
    pairs = {row["first"]: row for row in summary["comparisons"] if row["second"] == BASELINE}
    groups = [
        (f"Ahead of {title} by more than seed noise", "ahead"),
        (f"Behind {title} by more than seed noise", "behind"),
        (f"Not told apart from {title}", "level"),
        ("Too few seeds finished to say", "undecided"),
    ]
    said = []
    for words, verdict in groups:
        names = [rows[name]["title"] for name, pair in pairs.items() if pair["verdict"] == verdict]
        if names:
            said.append(f"{words}: {listed(names)}.")
    return said + _caution(summary, rows, pairs)


def _caution(summary: Summary, rows: Mapping[str, Row], pairs: Mapping[str, Row]) -> list[str]:
    tested = {name: pair for name, pair in pairs.items() if pair["p"] is not None}
    if not tested:
        return []
    count, n = len(tested), len(summary["seeds"])
    level = 1 - CONFIDENCE
    reach = stats.t.ppf(1 - level / 2, n - 1) / math.sqrt(n)
    strict = [rows[name]["title"] for name, pair in tested.items() if pair["p"] * count < level]
    remaining = f"{len(strict)} remain ({listed(strict)})" if strict else "none remains"
    return [
        f"{n} pairs are few: an interval reaches {number(reach, 3)} standard deviations of the difference to "
        f"either side, and takes differences to be normal. {count} methods are compared with "
        f"{rows[BASELINE]['title']}; were all equal to it, {number(level * count, 2)} of the intervals would "
        f"still be expected to miss zero. Of the differences, {remaining} if that is corrected for "
        "(Bonferroni)."
    ]


def claims(summary: Summary) -> list[str]:
    """For each ranking that a paper claims: is it what happened here?"""
    rows = _rows(summary)
    said = []
    for name, others in CLAIMED_BETTER.items():
        present = [other for other in others if other in rows]
        if name in rows and present:
            said.append(_ranking(summary, rows, name, present))
            if name == "sofim":
                said += _speed(summary, rows, name, present)
    return said


def _ranking(summary: Summary, rows: Mapping[str, Row], name: str, others: Sequence[str]) -> str:
    verdicts: dict[str, list[str]] = {}
    for other in others:
        pair = _comparison(summary, name, other)
        verdict = pair["verdict"] if pair else "undecided"
        words = f"{rows[other]['title']} ({difference(pair)})" if pair else rows[other]["title"]
        verdicts.setdefault(verdict, []).append(words)
    shown = "; ".join(
        f"{words} {listed(verdicts[verdict])}"
        for verdict, words in (
            ("ahead", "ahead of"),
            ("level", "not told apart from"),
            ("behind", "behind"),
            ("undecided", "undecided against"),
        )
        if verdict in verdicts
    )
    if verdicts.keys() == {"ahead"}:
        outcome = "Reproduced on this task."
    elif "behind" in verdicts:
        outcome = "Not reproduced on this task: in part the order is the reverse."
    elif "undecided" in verdicts:
        outcome = "Undecided: too few runs finished."
    elif "ahead" in verdicts:
        outcome = "Reproduced in part on this task."
    else:
        outcome = "Neither reproduced nor contradicted on this task: the differences are within seed noise."
    claimed = listed([rows[other]["title"] for other in others])
    return f"Claim: {rows[name]['title']} before {claimed}. Here it is {shown}. {outcome}"


def _speed(summary: Summary, rows: Mapping[str, Row], name: str, others: Sequence[str]) -> Iterator[str]:
    title, baseline = rows[name]["title"], rows[BASELINE]["title"] if BASELINE in rows else ""
    labels = {
        "half_loss": f"the training loss of {baseline} at half the budget",
        "final_loss": f"the final training loss of {baseline}",
        "validation": f"the final validation {summary['task']['headline'].replace('_', ' ')} of {baseline}",
    }
    for target, level in summary["targets"].items():
        mine = _evaluations(rows[name], target)
        words: dict[str, list[str]] = {"sooner than": [], "not sooner than": [], "nor does": []}
        for other in others:
            theirs = _evaluations(rows[other], target)
            nobody = math.isinf(mine) and math.isinf(theirs)
            found = "nor does" if nobody else "sooner than" if mine < theirs else "not sooner than"
            wins = f"sooner in {_sooner(rows[name], rows[other], target)} of {_seeds(len(summary['seeds']))}"
            words[found].append(f"{rows[other]['title']} ({_said(theirs)}; {wins})")
        said = "; ".join(f"{relation} {listed(names)}" for relation, names in words.items() if names)
        if words["not sooner than"]:
            verdict = "Not reproduced"
        elif words["nor does"]:
            verdict = "Reproduced in part" if words["sooner than"] else "Undecided"
        else:
            verdict = "Reproduced"
        never, when = ("never ", "") if math.isinf(mine) else ("", f" after {_said(mine)}")
        yield (
            f"Claim: {title} reaches preset levels sooner. In the median it {never}reaches {labels[target]}, "
            f"{number(level)},{when}: {said}. {verdict} on this task."
        )


def _evaluations(row: Row, target: str) -> float:
    """Median gradient evaluations to a target; infinite if it is not reached."""
    value = row["evaluations_to"].get(target)
    return math.inf if value is None else value


def _sooner(first: Row, second: Row, target: str) -> int:
    """Seeds in which the first reaches the target before the second."""
    times = [{run["seed"]: _evaluations(run, target) for run in row["runs"]} for row in (first, second)]
    return sum(times[0][seed] < times[1][seed] for seed in times[0].keys() & times[1].keys())


def _said(evaluations: float) -> str:
    return "never" if math.isinf(evaluations) else f"{evaluations:g} evaluations"


def conditioning(summary: Summary) -> list[str]:
    """What updates look like against the condition numbers that were reported, and whether T5 shows."""
    said = []
    for row in summary["methods"]:
        kappa = pooled(row, "kappa")
        if row["name"] not in REPORTED_KAPPA or kappa is None:
            continue
        low, high = REPORTED_KAPPA[row["name"]]
        claimed = f"{low:g} to {high:g}" if math.isfinite(high) else f"above {low:g}"
        seen, limit = pooled(row, "seen"), pooled(row, "kappa_limit")
        hidden = seen is not None and limit is not None and seen[1] < 1
        below = (
            f"; {1 - seen[1]:.0%} of the singular values are below rounding: they are zero, or the condition "
            f"is above {number(limit[1], 2)}"
            if hidden
            else ""
        )
        said.append(
            f"{row['title']}: update condition {number(kappa[1], 3)} (quartiles {number(kappa[0], 3)} to "
            f"{number(kappa[2], 3)}{below}). Reported is {claimed}: "
            f"{_against_reported(kappa[1], low, high, limit[1] if hidden else math.inf)}."
        )
    return said + list(_small_gradients(summary))


def _against_reported(kappa: float, low: float, high: float, limit: float) -> str:
    """Where a condition number lies, if nothing above `limit` shows."""
    if kappa > high:
        return "here it is above that"
    if kappa >= low:
        return "as here"
    return "which is not excluded" if limit < high else "here it is below that"


def _small_gradients(summary: Summary) -> Iterator[str]:
    for row in summary["methods"]:
        away, b, kappa = pooled(row, "P_minus_I"), pooled(row, "b"), pooled(row, "kappa_P")
        if away is None or b is None or kappa is None:
            continue
        settled = (
            "the factors stay near the identity, so that the method is close to Muon"
            if away[1] <= NEAR_IDENTITY
            else "the factors have left the identity"
        )
        yield (
            f"{row['title']}: b = {number(b[1], 2)}, kappa(P) = {number(kappa[1], 3)}, "
            f"|P - I| = {number(away[1], 2)} (medians): {settled}."
        )


def ends(summary: Summary) -> list[str]:
    """Best values next to an end of their range, beyond which there may be better ones."""
    said = []
    for row in summary["methods"]:
        values = [f"{name} {row['best'][name]:g}" for name in row["at_an_end"]]
        if values:
            said.append(
                f"{row['title']}: {listed(values)} is next to an end of its range; better may lie beyond."
            )
    return said


def lost_runs(summary: Summary) -> list[str]:
    """Runs that diverged or failed, with the commonest reason."""
    said = []
    for row in summary["methods"]:
        for kind, runs in (("trials", row["trials"]), ("runs of the winner", row["runs"])):
            reasons = [run["reason"] for run in runs if run["status"] != "finished"]
            if reasons:
                common = statistics.mode(reason.splitlines()[0] if reason else "" for reason in reasons)
                said.append(f"{row['title']}: {len(reasons)} of {len(runs)} {kind}, for example: {common}")
    return said


def pooled(row: Row, name: str) -> list[float] | None:
    """Quartiles over matrices, each as the median over all records of all seeds; None without records."""
    values = [record for run in row["runs"] for record in run["records"].get(name, ()) if record is not None]
    return [statistics.median(column) for column in zip(*values, strict=True)] if values else None


def difference(pair: Row | None) -> str:
    """A paired difference with its interval."""
    if pair is None or pair["difference"] is None:
        return "no pairs"
    if pair["low"] is None:
        return f"{pair['difference']:+.3g}, one pair"
    return f"{pair['difference']:+.3g} [{pair['low']:+.3g}, {pair['high']:+.3g}]"


def _by_how_much(pair: Row | None) -> str:
    words = {
        "ahead": "more than seed noise",
        "level": "within seed noise",
        "undecided": "too few pairs to say whether that is seed noise",
    }
    return (
        "no pairs to compare"
        if pair is None
        else f"the difference is {difference(pair)}, "
        + words.get(pair["verdict"], "and the pairs say the reverse")
    )


def _rows(summary: Summary) -> dict[str, Row]:
    return {row["name"]: row for row in summary["methods"]}


def _comparison(summary: Summary, first: str, second: str) -> Row | None:
    return next(
        (row for row in summary["comparisons"] if (row["first"], row["second"]) == (first, second)), None
    )


def _metric_name(summary: Summary) -> str:
    return f"test {summary['task']['headline'].replace('_', ' ')}"


def _spread(figures: Mapping[str, Any]) -> str:
    deviation = "" if figures["deviation"] is None else f" ± {number(figures['deviation'], 2)}"
    return f"{number(figures['mean'])}{deviation} over {_seeds(figures['n'])}"


def _seeds(count: int) -> str:
    return f"{count} seed" if count == 1 else f"{count} seeds"
