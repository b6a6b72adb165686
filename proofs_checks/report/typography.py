"""Plain text of the ledger and of counterexamples as HTML, with indices lowered and powers raised."""

import json
import re
from collections.abc import Mapping

from markupsafe import Markup, escape

from proofs_checks.report.numbers import number

__all__ = ["prose", "spell"]

_CODE = re.compile(r"`([^`]+)`")
# An index follows a bracket, an accent or a symbol of one letter, never a word: `λ_max`, not `max_steps`.
_SYMBOL = r"(?<=[‖)\]\u0302-\u0304])|(?<=(?<![A-Za-z_])[A-Za-z\u0370-\u03ff∇ℓ])"
_INDEX = re.compile(rf"(?:{_SYMBOL})_([A-Za-z0-9\u03b1-\u03c9∞]+)(?![A-Za-z0-9_])|_\{{([^{{}}]*)\}}")
# A power is one word, or whatever stands in balanced brackets, which then go.
_POWER = re.compile(
    r"\^(?:(-\d+/\d+|-?[A-Za-z0-9]+)|\{([^{}]*)\}|\(((?:[^()]|\((?:[^()]|\([^()]*\))*\))*)\))"
)
_HEX_FLOAT = re.compile(r"-?0x[01]\.?[0-9a-f]*p[+-]?\d+")


def prose(text: str) -> Markup:
    """Escaped text: backticks mark code, ``x_{i+1}`` has its index lowered, ``x^(k+1)`` its power raised."""
    pieces = _CODE.split(text)
    marked = [
        Markup("<code>{}</code>").format(piece) if odd % 2 else Markup(_mathematics(str(escape(piece))))
        for odd, piece in enumerate(pieces)
    ]
    return Markup("").join(marked)


def spell(value: object) -> Markup:
    """A value of a counterexample: matrices as tables, hexadecimal floats with their decimal value."""
    if isinstance(value, Mapping):
        entry = Markup("<dt>{}</dt><dd>{}</dd>")
        return Markup("<dl>{}</dl>").format(
            Markup("").join(entry.format(key, spell(item)) for key, item in value.items())
        )
    if isinstance(value, list | tuple):
        if value and all(isinstance(row, list | tuple) for row in value):
            return Markup('<table class="matrix">{}</table>').format(Markup("").join(map(_row, value)))
        return Markup("({})").format(Markup(", ").join(map(spell, value)))
    if isinstance(value, float):
        return escape(number(value))
    if isinstance(value, str):
        return _float_or_text(value)
    return escape(json.dumps(value, default=str))


def _mathematics(escaped: str) -> str:
    lowered = _INDEX.sub(lambda match: f"<sub>{match[1] or match[2]}</sub>", escaped)
    return _POWER.sub(
        lambda match: f"<sup>{_mathematics(match[1] or match[2] or match[3] or '')}</sup>", lowered
    )


def _row(row: list[object]) -> Markup:
    return Markup("<tr>{}</tr>").format(
        Markup("").join(Markup("<td>{}</td>").format(spell(cell)) for cell in row)
    )


def _float_or_text(text: str) -> Markup:
    if _HEX_FLOAT.fullmatch(text):
        return Markup('{} <span class="aside">({})</span>').format(text, number(float.fromhex(text)))
    return escape(text)
