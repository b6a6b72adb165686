"""The curves of a comparison: training loss with its spread over seeds, and the condition of the update."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["STYLES", "draw"]

#: Okabe and Ito's colours, told apart by most colour-blind readers; lines of one colour differ in dashes.
STYLES: dict[str, tuple[str, Any]] = {
    "adamw": ("#000000", "-"),
    "sgd": ("#7f7f7f", "-"),
    "muon": ("#009e73", "-"),
    "shampoo": ("#56b4e9", "-"),
    "adahessian": ("#7f7f7f", (0, (4, 2))),
    "lbfgs": ("#7f7f7f", (0, (1, 1.5))),
    "fismo": ("#0072b2", "-"),
    "fismo-theorem": ("#0072b2", (0, (4, 2))),
    "fismo-unit": ("#0072b2", (0, (1, 1.5))),
    "sofim": ("#d55e00", "-"),
    "adafisher": ("#cc79a7", "-"),
}
OTHER = ("#e69f00", "-")

#: The loss panel ends at so many times the first loss: a run that leaps is not to flatten the rest.
HEADROOM = 2.0

_STYLE = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 9,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
}


def draw(summary: Mapping[str, Any], path: Path) -> None:
    """Draw both panels into a PNG, the legend beside them. Matplotlib's own settings are left alone."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(11.0, 4.2), layout="constrained", dpi=120)
        losses, kappas = figure.subplots(1, 2)
        for row in summary["methods"]:
            colour, dashes = STYLES.get(row["name"], OTHER)
            _loss(losses, row, colour, dashes)
            _kappa(kappas, row, colour, dashes)
        losses.set_yscale("log")
        if starts := [
            run["curve"][0][1] for row in summary["methods"] for run in row["runs"] if run["curve"]
        ]:
            losses.set_ylim(top=HEADROOM * statistics.median(starts))
        losses.set_ylabel("training loss (nats)")
        losses.set_title("Median over seeds, band from lowest to highest", fontsize=9)
        kappas.set_yscale("log")
        kappas.set_ylabel("condition of the update (no unit)")
        kappas.set_title("Median over matrices and seeds", fontsize=9)
        for axes in (losses, kappas):
            axes.set_xlabel("gradient evaluations")
        handles, labels = losses.get_legend_handles_labels()
        if handles:
            figure.legend(handles, labels, loc="outside right upper")
        figure.suptitle(f"{summary['task']['name']}, best configuration of {summary['trials']} trials each")
        figure.savefig(path, metadata={"Software": None})


def _loss(axes: Axes, row: Mapping[str, Any], colour: str, dashes: Any) -> None:
    curves = [run["curve"] for run in row["runs"] if run["status"] == "finished" and run["curve"]]
    if not curves:
        return
    points = _joined(curves)
    passes = [p for p, _ in points]
    axes.plot(
        passes, [statistics.median(v) for _, v in points], color=colour, linestyle=dashes, label=row["title"]
    )
    axes.fill_between(
        passes,
        [min(v) for _, v in points],
        [max(v) for _, v in points],
        color=colour,
        alpha=0.12,
        linewidth=0,
    )


def _kappa(axes: Axes, row: Mapping[str, Any], colour: str, dashes: Any) -> None:
    curves = []
    for run in row["runs"]:
        records = run["records"]
        if "kappa" in records:
            pairs = zip(records["passes"], records["kappa"], strict=True)
            curves.append([(passes, kappa[1]) for passes, kappa in pairs if kappa is not None])
    curves = [curve for curve in curves if curve]
    if curves:
        points = _joined(curves)
        axes.plot(
            [p for p, _ in points],
            [statistics.median(v) for _, v in points],
            color=colour,
            linestyle=dashes,
            marker="o",
            markersize=2.5,
        )


def _joined(curves: Sequence[Sequence[Sequence[float]]]) -> list[tuple[float, list[float]]]:
    """Values of all curves at the gradient evaluations of the first, each the last one known there."""
    joined = []
    for passes, _ in curves[0]:
        values = [
            next((value for p, value in reversed(curve) if p <= passes), curve[0][1]) for curve in curves
        ]
        joined.append((passes, values))
    return joined
