"""The report of a comparison: figures as JSON, and a page for readers made from the same figures."""

import json
import re
from pathlib import Path
from typing import Any

from benchmarks.train import sentences
from benchmarks.train.plot import draw
from benchmarks.train.sentences import difference, listed, number, pooled
from benchmarks.train.summary import BASELINE, Summary

__all__ = ["markdown", "write"]


def write(summary: Summary, folder: Path) -> list[Path]:
    """Write ``train_<task>.json``, ``.md`` and ``.png`` into the folder; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"train_{summary['task']['name']}"
    paths = [stem.with_name(f"{stem.name}.{ending}") for ending in ("json", "md", "png")]
    paths[0].write_text(_compact(json.dumps(summary, indent=1, allow_nan=False)) + "\n")
    paths[1].write_text(markdown(summary, plot=paths[2].name))
    draw(summary, paths[2])
    return paths


def markdown(summary: Summary, *, plot: str) -> str:
    """The page; every sentence follows from the figures."""
    task = summary["task"]
    sections = [
        f"# Training on {task['name']}",
        _setting(summary),
        "## Result",
        _bullets(sentences.leaders(summary)),
        _table(summary),
        _notes(summary),
        f"![Training loss and condition of the update]({plot})",
        "## The papers' rankings",
        _bullets(sentences.claims(summary)),
        "## The updates",
        _updates_table(summary),
        _bullets(sentences.conditioning(summary)),
        "## Runs that were lost",
        _bullets(sentences.lost_runs(summary))
        or "None: every run of the search and of the winners finished.",
        "## What was searched",
        _spaces(summary),
        _bullets(sentences.ends(summary)),
        "## Machine",
        _machine(summary),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _setting(summary: Summary) -> str:
    task = summary["task"]
    return (
        f"{task['description']}.\n\n"
        f"Every method gets {summary['trials']} random trials of {summary['budget']} gradient evaluations, "
        f"all from the same weights and mini-batches (seed {summary['search_seed']}); the trial with the "
        f"best validation {_headline(summary)} ({task['better']} is better) then trains on "
        f"{len(summary['seeds'])} fresh seeds, and only those runs see the test part. Weights and "
        "mini-batches of a seed are the same for all methods. A product of the Hessian with a vector counts "
        "as a gradient evaluation, and so does every evaluation in a line search. The step size rises over "
        f"the first {summary['warm_up']:.0%} of the budget and then falls along half a cosine (for a line "
        "search: its first trial). No weight decay, so that AdamW is Adam."
    )


def _table(summary: Summary) -> str:
    head = _headline(summary)
    columns = [
        "method",
        "best configuration",
        f"validation {head}",
        f"test {head}",
        "test, minus AdamW [95 %]",
        "evaluations to half-way loss / final loss / validation",
        "time",
        "lost trials",
    ]
    versus = {row["first"]: row for row in summary["comparisons"] if row["second"] == BASELINE}
    rows = [
        [
            row["title"],
            _config(row["best"]),
            _mean(row["validation"]),
            _mean(row["test"]),
            "" if row["name"] == BASELINE else difference(versus.get(row["name"])),
            " / ".join(
                "never" if row["evaluations_to"][target] is None else f"{row['evaluations_to'][target]:g}"
                for target in summary["targets"]
            ),
            "" if row["time"] is None else f"{row['time']:.2f}x",
            f"{row['lost_trials']} of {len(row['trials'])}",
        ]
        for row in summary["methods"]
    ]
    return _grid(columns, rows)


def _notes(summary: Summary) -> str:
    said = [
        "Validation and test: mean ± standard deviation over the seeds that finished. Time: of a gradient "
        "evaluation with all that the method does around it, over AdamW's, in one process on one thread; it "
        "decides nothing."
    ]
    if targets := summary["targets"]:
        said.append(
            f"Targets, all medians of AdamW: training loss {number(targets['half_loss'])} (at half the "
            f"budget) and {number(targets['final_loss'])} (at the end), validation {_headline(summary)} "
            f"{number(targets['validation'])} (at the end). Losses are averaged over {summary['window']:.0%} "
            "of the budget, validation is looked at now and then; given is the median over the seeds, "
            '"never" where at least half of them do not get there.'
        )
    return "\n\n".join(said)


def _updates_table(summary: Summary) -> str:
    columns = [
        "method",
        "kappa(dW)",
        "quartiles",
        "seen",
        "alignment",
        "|dW|",
        "kappa(P)",
        "kappa(Q)",
        "|P - I|",
        "b",
    ]
    rows = []
    for row in summary["methods"]:
        kappa = pooled(row, "kappa")
        if kappa is None:
            continue
        norms = _flat(row, "update_norm")
        rows.append(
            [
                row["title"],
                number(kappa[1], 3),
                f"{number(kappa[0], 3)} to {number(kappa[2], 3)}",
                *(_middle(row, name) for name in ("seen", "alignment")),
                number(sorted(norms)[len(norms) // 2], 3),
                *(_middle(row, name) for name in ("kappa_P", "kappa_Q", "P_minus_I", "b")),
            ]
        )
    if not rows:
        return ""
    return _grid(columns, rows) + (
        "\n\nOf the matrices that matrix methods take; medians over matrices, records and seeds. kappa(dW): "
        "largest over smallest singular value of W_new - W_old, among those that rounding lets one see "
        "(max(m, n) u times the largest, u the unit roundoff); seen: their part. Alignment: cosine between "
        "-dW and the gradient of the mini-batch. b = |G|_F^2 / (m n mu); with unit scaling 1 / mu."
    )


def _spaces(summary: Summary) -> str:
    titles: dict[tuple[str, str], list[str]] = {}  # settings of one method share a row
    for row in summary["methods"]:
        ranges = "; ".join(f"{name}: {text}" for name, text in row["space"].items())
        titles.setdefault((ranges, row["why"]), []).append(row["title"])
    rows = [[listed(names), ranges, why] for (ranges, why), names in titles.items()]
    return _grid(["method", "ranges", "because"], rows)


def _machine(summary: Summary) -> str:
    facts = {**summary["machine"], **summary["versions"], "device": summary["device"]}
    return listed([f"{name} {value}" for name, value in facts.items() if value is not None]) + "."


def _middle(row: dict[str, Any], name: str) -> str:
    found = pooled(row, name)
    return "" if found is None else number(found[1], 3)


def _flat(row: dict[str, Any], name: str) -> list[float]:
    return [value for run in row["runs"] for value in run["records"].get(name, ()) if value is not None]


def _headline(summary: Summary) -> str:
    return summary["task"]["headline"].replace("_", " ")


def _config(config: dict[str, Any] | None) -> str:
    return "no trial finished" if config is None else ", ".join(f"{k} {v}" for k, v in config.items())


def _mean(figures: dict[str, Any]) -> str:
    if figures["mean"] is None:
        return "none"
    deviation = "" if figures["deviation"] is None else f" ± {number(figures['deviation'], 2)}"
    return number(figures["mean"]) + deviation


def _bullets(items: list[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _grid(columns: list[str], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _compact(text: str) -> str:
    """Put lists of plain values, and lists of pairs of them, on one line each."""
    inner = re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda found: _one_line("[", found[1], "]"), text)
    return re.sub(
        r"\[\s+((?:\[[^\[\]{}]*\]|null)(?:,\s+(?:\[[^\[\]{}]*\]|null))*)\s+\]",
        lambda found: _one_line("[", found[1], "]"),
        inner,
    )


def _one_line(opening: str, body: str, closing: str) -> str:
    return opening + re.sub(r"\s*\n\s*", " ", body) + closing
