"""What `fisherproof schedules` prints: the certificates of published schedules, or of coefficients typed in.

Every number shown is rounded outward: least values down, largest values up, so that what is printed is as
certain as the certificate.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches

from flint import arb
from rich.console import Console
from rich.text import Text

from proofs_checks.certified.compositions import Interval
from proofs_checks.certified.schedules import ScheduleCertificate, certify
from reference.schedules import SCHEDULES, Schedule

__all__ = ["certificates", "choose", "details", "document", "table"]

#: Name and interval of a schedule that was typed in.
_OWN, _OWN_INTERVAL = "yours", (1e-3, 1.0)

#: Steps that may be typed in: beyond, nobody waits for branch and bound.
_MOST_STEPS = 24

#: Decimals of a value, and significant digits of everything else.
_DECIMALS, _DIGITS = 6, 4


def choose(name: str | None, coefficients: str | None, interval: str | None) -> list[Schedule]:
    """The schedules that were asked for: by name, by coefficients ``"a,b,c; a,b,c"``, or all of them.

    Raises
    ------
    ValueError
        In one line: an unknown name with the nearest ones, or what is wrong with the numbers.
    """
    if name is not None and coefficients is not None:
        raise ValueError("NAME and --coefficients exclude each other, got both")
    if coefficients is not None:
        chosen = [Schedule(_OWN, _rows(coefficients), _OWN_INTERVAL, "typed in")]
    elif name is not None:
        chosen = [_named(name)]
    else:
        chosen = list(SCHEDULES.values())
    if interval is None:
        return chosen
    ends = _numbers("--interval", interval)
    if len(ends) != 2:
        raise ValueError(f"--interval must be two numbers l,u, got {interval!r}")
    return [replace(schedule, interval=(ends[0], ends[1])) for schedule in chosen]


def certificates(schedules: Sequence[Schedule]) -> list[ScheduleCertificate]:
    """The certificate of each schedule.

    Raises
    ------
    ValueError
        Naming the schedule that diverges on its interval.
    """
    found = []
    for schedule in schedules:
        try:
            found.append(certify(schedule))
        except ValueError as error:
            raise ValueError(f"{schedule.name}: {error}") from error
    return found


def table(console: Console, found: Sequence[ScheduleCertificate]) -> None:
    """One line per schedule."""
    width = max(len(entry.schedule.name) for entry in found)
    head = f"{'schedule':<{width}}  degree  steps  {'interval':<11}  {'least':>9}  {'most':>9}  "
    console.print(
        Text(
            head + f"{'error':>9}  {'slopes':>22}  {'sign':<8}  {'1/2 from':<9}  at most 2 to", style="bold"
        ),
        soft_wrap=True,
    )
    for entry in found:
        schedule = entry.schedule
        least, most = entry.image
        line = (
            f"{schedule.name:<{width}}  {schedule.degree:>6}  {schedule.steps:>5}  {_ends(schedule):<11}  "
            f"{_down(least):>9}  {_up(most):>9}  {_digits(_pair(entry.distance)[1], up=True):>9}  "
            f"{_slopes(entry):>22}  {_sign(entry):<8}  {_lifted(entry):<9}  {_bounded(entry)}"
        )
        console.print(Text(line, style="" if entry.never_negative else "yellow"), soft_wrap=True)


def details(console: Console, entry: ScheduleCertificate) -> None:
    """Everything on one schedule."""
    schedule = entry.schedule
    console.print(Text(f"{schedule.name}: {schedule.source}", style="bold"), soft_wrap=True)
    if schedule.note:
        console.print(Text(schedule.note), soft_wrap=True)
    divisors = schedule.denominators or ("",) * schedule.steps
    for t, (p, c) in enumerate(zip(schedule.polynomials, divisors, strict=True), start=1):
        over = f"   over 1 + {c!r} x^2" if c else ""
        console.print(Text(f"  step {t:>2}  {', '.join(map(repr, p))}{over}"), soft_wrap=True)
    u = schedule.interval[1]
    start = f"M / max(|M|_F + {schedule.shift:g}, {schedule.floor:g})"
    positive = f"every singular value in (0, {u:g}] stays positive, so <M, X> > 0"
    reversal = (
        f"{float(arb(entry.reversed_at)):g} becomes negative"
        if entry.reversed_at is not None
        else "not shown"
    )
    rows = [
        ("start", start),
        (
            f"image of {_ends(schedule)}",
            f"{_range(entry.image)}, within {_digits(_pair(entry.distance)[1], up=True)} of 1",
        ),
        ("one step fewer", _range(entry.fewer)),
        ("one step more", _range(entry.more)),
        (f"slopes on [0, {u:g}]", _slopes(entry)),
        ("sign", positive if entry.never_negative else reversal),
        (f"{entry.level} or above from", _lifted(entry)),
        ("at most 2 for starts to", _bounded(entry)),
    ]
    for label, text in rows:
        console.print(Text.assemble((f"  {label:<24}", "dim"), text), soft_wrap=True)


def document(entry: ScheduleCertificate) -> dict[str, object]:
    """The certificate for JSON: each figure as the two ends of a ball that contains it."""
    schedule = entry.schedule
    return {
        "name": schedule.name,
        "source": schedule.source,
        "note": schedule.note,
        "coefficients": [list(p) for p in schedule.polynomials],
        "denominators": list(schedule.denominators),
        "safety": schedule.safety,
        "shift": schedule.shift,
        "floor": schedule.floor,
        "interval": list(schedule.interval),
        "image": _pairs(entry.image),
        "one_step_fewer": _pairs(entry.fewer),
        "one_step_more": _pairs(entry.more),
        "distance_from_1": _pair(entry.distance),
        "slopes": _pairs(entry.slopes) if entry.slopes else None,
        "never_negative": entry.never_negative,
        "reversed_at": str(entry.reversed_at) if entry.reversed_at is not None else None,
        "level": str(entry.level),
        "lifted_from": _pair(entry.lifted) if entry.lifted is not None else None,
        "bounded_up_to": _pair(entry.bounded) if entry.bounded is not None else None,
        "narrow": entry.narrow,
    }


def _named(name: str) -> Schedule:
    if name not in SCHEDULES:
        nearest = get_close_matches(name, SCHEDULES, n=3, cutoff=0.0)
        raise ValueError(f"no schedule is called {name!r}; the nearest are {', '.join(nearest)}")
    return SCHEDULES[name]


def _rows(text: str) -> tuple[tuple[float, ...], ...]:
    """Coefficients of x, x^3, ... between commas, steps between semicolons."""
    rows = tuple(tuple(_numbers("--coefficients", row)) for row in text.split(";"))
    if len(rows) > _MOST_STEPS:
        raise ValueError(f"--coefficients must hold at most {_MOST_STEPS} steps, got {len(rows)}")
    return rows


def _numbers(flag: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{flag} must be numbers between commas, got {text.strip()!r}") from None


def _pair(ball: arb) -> list[float]:
    """The ball's ends, outward; exact if it is one float."""
    exact = float(ball.mid())
    if ball == arb(exact):
        return [exact, exact]
    return [math.nextafter(float(ball.lower()), -math.inf), math.nextafter(float(ball.upper()), math.inf)]


def _pairs(interval: Interval) -> dict[str, list[float]]:
    return {"least": _pair(interval[0]), "most": _pair(interval[1])}


def _down(ball: arb) -> str:
    return f"{math.floor(_pair(ball)[0] * 10**_DECIMALS) / 10**_DECIMALS:.{_DECIMALS}f}"


def _up(ball: arb) -> str:
    return f"{math.ceil(_pair(ball)[1] * 10**_DECIMALS) / 10**_DECIMALS:.{_DECIMALS}f}"


def _digits(x: float, *, up: bool) -> str:
    """Four significant digits, rounded up or down; 0 as it is."""
    if not x:
        return "0"
    unit = 10.0 ** (math.floor(math.log10(abs(x))) - _DIGITS + 1)
    return f"{(math.ceil(x / unit) if up else math.floor(x / unit)) * unit:.{_DIGITS}g}"


def _range(interval: Interval) -> str:
    return f"[{_down(interval[0])}, {_up(interval[1])}]"


def _ends(schedule: Schedule) -> str:
    l, u = schedule.interval
    return f"[{l:g}, {u:g}]"


def _slopes(entry: ScheduleCertificate) -> str:
    if entry.slopes is None:
        return "not certified"
    least, most = entry.slopes
    return f"{_digits(_pair(least)[0], up=False)} to {_digits(_pair(most)[1], up=True)}"


def _sign(entry: ScheduleCertificate) -> str:
    if entry.never_negative:
        return "positive"
    return "reverses" if entry.reversed_at is not None else "open"


def _bounded(entry: ScheduleCertificate) -> str:
    return "any" if entry.bounded is None else _down(entry.bounded)


def _lifted(entry: ScheduleCertificate) -> str:
    return "never" if entry.lifted is None else _digits(_pair(entry.lifted)[1], up=True)
