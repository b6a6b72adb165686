"""Matplotlib figures as inline SVG that follows the colours and the typeface of the page around it.

A figure is drawn with one stand-in colour per role (`INK`, `SERIES`, ...). On export each stand-in becomes a
CSS variable, so the same drawing is legible on a light page, on a dark page and on paper.
"""

import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["ALARM", "GRID", "INK", "MUTED", "SERIES", "Plot", "draw", "legend_above"]

INK, MUTED, GRID, ALARM = "#0b0b01", "#0b0b02", "#0b0b03", "#0b0b04"
SERIES = ("#0b0b11", "#0b0b12", "#0b0b13", "#0b0b14")

_VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid", ALARM: "--alarm"} | {
    colour: f"--series-{number}" for number, colour in enumerate(SERIES, start=1)
}
_STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.unicode_minus": True,
    "figure.facecolor": "none",
    "figure.figsize": (5.0, 3.2),
    "font.size": 9,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.facecolor": "none",
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.6,
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
    "text.color": INK,
    "xtick.color": MUTED,
    "xtick.labelcolor": MUTED,
    "xtick.labelsize": 8.5,
    "ytick.color": MUTED,
    "ytick.labelcolor": MUTED,
    "ytick.labelsize": 8.5,
}
_SVG = "{http://www.w3.org/2000/svg}"
_XLINK_HREF = "{http://www.w3.org/1999/xlink}href"


@dataclass(frozen=True)
class Plot:
    """One figure of the report: its SVG, and the words that go with it."""

    name: str
    title: str
    caption: str
    svg: str


def draw(name: str, title: str, *, alt: str, paint: Callable[[Axes], str]) -> Plot:
    """Let `paint` draw on fresh axes and return the figure as themed SVG.

    Parameters
    ----------
    name : str
        Anchor of the figure; also the prefix of every id inside the SVG, so that figures do not collide.
    title : str
        Heading of the figure.
    alt : str
        What the figure shows, for readers who do not see it.
    paint : callable
        Draws on the axes and returns the caption: the finding, with its numbers.

    Notes
    -----
    Matplotlib's global state is left as it was found.
    """
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(layout="constrained")
        caption = paint(figure.add_subplot())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return Plot(name, title, caption, _inline(buffer.getvalue(), name=name, title=title, alt=alt))


def legend_above(axes: Axes) -> None:
    """Put the legend above the axes, where it cannot cover data."""
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2, borderaxespad=0.2, columnspacing=1.4)


def _inline(text: str, *, name: str, title: str, alt: str) -> str:
    """A stand-alone SVG document made fit for a page: unique ids, theme colours, a description."""
    ET.register_namespace("", _SVG[1:-1])
    root = ET.fromstring(text)
    for metadata in root.findall(f"{_SVG}metadata"):
        root.remove(metadata)
    for element in root.iter():
        _adapt(element, name)
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    root.set("role", "img")
    root.set("aria-labelledby", f"{name}-title {name}-desc")
    for position, (tag, content) in enumerate((("title", title), ("desc", alt))):
        label = ET.Element(f"{_SVG}{tag}", {"id": f"{name}-{tag}"})
        label.text = content
        root.insert(position, label)
    return ET.tostring(root, encoding="unicode")


def _adapt(element: ET.Element, name: str) -> None:
    attributes = element.attrib
    if "id" in attributes:
        attributes["id"] = f"{name}-{attributes['id']}"
    if _XLINK_HREF in attributes:
        attributes["href"] = attributes.pop(_XLINK_HREF).replace("#", f"#{name}-")
    if "clip-path" in attributes:
        attributes["clip-path"] = attributes["clip-path"].replace("#", f"#{name}-")
    if "style" in attributes:
        style = re.sub(r"font(-family)?: (\d+(?:\.\d+)?px)?[^;]*;?", _font_size, attributes["style"])
        for colour, variable in _VARIABLES.items():
            style = style.replace(colour, f"var({variable})")
        attributes["style"] = style


def _font_size(match: re.Match[str]) -> str:
    """Keep the size of a `font` shorthand and let the page choose the family."""
    return f"font-size: {match.group(2)};" if match.group(2) else ""
