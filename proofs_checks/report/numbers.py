"""Numbers as people read them, for the page and for the terminal."""

import math
from datetime import datetime

__all__ = ["count", "duration", "moment", "number", "plain_number", "rounded_down"]

_SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
_SMALLEST_PLAIN, _LARGEST_PLAIN = 1e-3, 1e5  # outside this range a number is written with a power of ten
_THREE_DIGITS = 999  # above it, whole numbers
_FOUR_DECIMALS = 10_000
_MINUTE = 60.0


def number(x: float) -> str:
    """Three significant digits, with a typeset power of ten where needed: ``3.14 × 10⁻⁷``."""
    if not math.isfinite(x):
        return plain_number(x)
    mantissa, _, exponent = plain_number(x).partition("e")
    if not exponent:
        return mantissa
    power = f"10{exponent.translate(_SUPERSCRIPT)}"
    return power if mantissa == "1" else f"{mantissa} × {power}"


def plain_number(x: float) -> str:
    """Three significant digits without typesetting: ``3.14e-7``, ``0.25``, ``485``, ``12288``."""
    if math.isnan(x):
        return "not a number"
    if math.isinf(x):
        return "∞" if x > 0 else "−∞"
    if x == int(x) and abs(x) < _LARGEST_PLAIN:
        return str(int(x))
    if _SMALLEST_PLAIN <= abs(x) < _LARGEST_PLAIN:
        return str(round(x)) if abs(x) > _THREE_DIGITS else f"{x:.3g}"
    mantissa, exponent = f"{x:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def rounded_down(x: float) -> str:
    """Four decimals, never rounded up: a bound attained to 0.99996 is not reported as 1."""
    return f"{math.floor(x * _FOUR_DECIMALS) / _FOUR_DECIMALS:g}" if math.isfinite(x) else number(x)


def count(number_of: int, noun: str, plural: str = "") -> str:
    """``1 claim``, ``3 claims``, ``no claims``."""
    return f"{number_of or 'no'} {noun if number_of == 1 else plural or noun + 's'}"


def moment(text: str) -> str:
    """An ISO 8601 date and time as ``2 January 2026, 03:04 UTC``; other text as it is."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return text
    return f"{time.day} {time:%B %Y, %H:%M} {time.tzname() or ''}".rstrip()


def duration(seconds: float) -> str:
    """``0.4 s``, ``37 s``, ``4 min 05 s``."""
    if seconds < _MINUTE:
        return f"{seconds:.2g} s" if seconds < 1 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), int(_MINUTE))
    return f"{minutes} min {rest:02d} s"
