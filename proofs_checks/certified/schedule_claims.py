"""Claims on orthogonalisation schedules, one per published set, and what they have in common.

Every figure is printed once, in `FIGURES`, and must agree with the certificate to one unit of its last digit:
the ball must lie within that unit, which asks for containment and narrowness at once.
"""

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

from flint import arb, fmpq

from proofs_checks.certified.balls import at_precision
from proofs_checks.certified.compositions import Interval, Step, images, never_negative, slope_jet, value
from proofs_checks.certified.schedules import DEEP, as_steps, certify, exact_interval
from proofs_checks.evidence import Evidence, Finding, evidence
from proofs_checks.ratios import Ratio, yes_no
from reference.polar import POLAR_EXPRESS, polar_express_coefficients
from reference.schedules import SCHEDULES, Schedule, with_steps

__all__ = [
    "FIGURES",
    "aol_4",
    "best_on_its_interval",
    "cans_cubic_8",
    "cans_quintic_5",
    "cubic_5",
    "deepseek_v4",
    "gram_newton_schulz_5",
    "halley_9",
    "jordan",
    "nanogpt_5",
    "newton_schulz",
    "polar_express_5",
    "polar_express_6",
    "polar_express_7",
    "polar_express_8",
    "polar_express_cubic_8",
    "polar_express_cut_5",
    "polar_express_cut_6",
    "polar_express_safe_5",
    "polar_express_safe_6",
    "polar_express_safe_7",
    "polar_express_safe_8",
    "quintic_5",
    "quintic_8",
    "quintic_rate",
    "safety_tames_the_top",
    "signs",
    "taylor_1",
    "taylor_2",
    "taylor_3",
    "weighted_halley_4",
    "weighted_halley_6",
]

#: Per schedule: 1 - least and most - 1 on the interval; least and largest slope on [0, u]; the least singular
#: value from which on all end at 1/2 or above ("-": there is none); the largest start x such that [0, x] ends
#: within [-2, 2] ("-": beyond 4 u); the sign of what the singular values in (0, u] become.
FIGURES: dict[str, str] = {
    "jordan": "0.52945605 0.20236861 -160 485 1.06703E-3 1.26377515 positive",
    "newton-schulz": "0E-15 0E-15 0E-3 7.48E+3 7.20306E-5 2.23606798 positive",
    "taylor-1": "0.99240636 0E-15 0E-3 7.59 7.08738E-2 2.23603678 positive",
    "taylor-2": "0.97682901 0E-15 0E-3 23.2 2.32407E-2 1.52833613 positive",
    "taylor-3": "0.94994440 0E-15 0E-3 50.1 1.07513E-2 1.73205096 positive",
    "polar-express-5": "0.12355905 0.12355905 -1.31E+4 6.79E+4 5.07610E-4 1.00000689 positive",
    "polar-express-safe-5": "0.14762680 0.12355905 -210 986 5.28224E-4 1.01091747 positive",
    "polar-express-6": "1.1849296E-3 1.1849296E-3 -1.29E+3 6.22E+3 2.74714E-4 1.00000489 positive",
    "polar-express-safe-6": "4.4084244E-3 1.1849296E-3 -11.5 1.85E+3 2.88734E-4 1.01091602 positive",
    "polar-express-7": "1.0398194E-9 1.0398191E-9 -0.011 3.64E+3 1.47607E-4 1.00000436 positive",
    "polar-express-safe-7": "4.2100227E-7 1.0398191E-9 0E-3 3.43E+3 1.56700E-4 1.01091558 positive",
    "polar-express-8": "0E-15 0E-15 0E-3 6.82E+3 7.88893E-5 1.00000420 positive",
    "polar-express-safe-8": "1.9E-15 0E-15 0E-3 6.36E+3 8.45911E-5 1.01091546 positive",
    "polar-express-cut-5": "0.15382263 0.12355905 -206 976 5.33546E-4 1.01091806 positive",
    "polar-express-cut-6": "5.5932666E-3 1.1849296E-3 -10.9 1.83E+3 2.91694E-4 1.01091613 positive",
    "polar-express-cubic-8": "5.3729324E-2 5.3729324E-2 -928 1.23E+3 4.25919E-4 1.17768075 positive",
    "cans-cubic-8": "5.3729324E-2 5.3729324E-2 -928 1.23E+3 4.25919E-4 1.17768075 positive",
    "cans-quintic-5": "0.11344846 0.11344846 -1.46E+4 7.54E+4 4.97033E-4 1.00000605 positive",
    "halley-9": "0E-15 0E-15 0E-3 1.97E+4 2.79076E-5 - positive",
    "weighted-halley-4": "0E-15 0E-15 0E-3 1.53E+4 3.58000E-5 - positive",
    "weighted-halley-6": "0E-15 0E-15 0E-3 3.00E+17 1.83367E-18 - positive",
    "quintic-5": "0.52501844 0.14502039 -71.0 493 1.05721E-3 1.32461678 positive",
    "quintic-8": "7.2556692E-4 3.7816882E-4 -52.6 2.08E+4 2.57106E-5 1.11220193 positive",
    "nanogpt-5": "0.14112736 0.14112736 -229 990 5.25546E-4 1.02181715 positive",
    "gram-newton-schulz-5": "0.27099691 0.12355905 -163 804 6.48121E-4 1.05468256 positive",
    "aol-4": "2.0844413 8.4441255E-2 -130 104 - 1.18060130 reverses",
    "cubic-5": "0.88086043 0.29999996 -186 119 4.31292E-3 1.18289910 positive",
    "deepseek-v4": "0E-15 5.3805307E-4 -234 7.93E+4 6.75076E-6 1.26372912 positive",
}

_NAMES = ("1 - least", "most - 1", "least slope", "largest slope", "lifted to 1/2 from", "within 2 up to")

#: Fault: by how much, relatively, the first coefficient of the last step is off.
_OFF = 1e-6

#: By how little, relatively, a step may miss the optimum on its interval: the ends of that interval come out
#: of float64 coefficients (2^-53) through the slopes of the steps before (below 2^17), over an error above
#: 2^-5.
_SUBOPTIMAL = 2.0**-31

#: Bounds below this show the rounding of coefficients, about 2^-53 times their size, and are left out.
_RESOLVED = fmpq(1, 10**12)

#: Lower ends, and numbers of steps, at which the rate of the quintics is certified.
_LOWER_ENDS, _STEPS = (1e-3, 1e-2, 0.1, 0.3, 0.5, 0.7, 0.998), 4


def _claim(name: str) -> Evidence:
    """Evidence for the printed figures of one schedule."""

    def figures(*, fault: str | None = None) -> Finding:
        schedule = _spoilt(SCHEDULES[name], fault)
        found = certify(schedule)
        least, most = found.image
        slopes = found.slopes or (arb("nan"), arb("nan"))
        balls = (1 - least, most - 1, *slopes, found.lifted, found.bounded)
        *texts, sign = FIGURES[name].split()
        ratios = [_printed(label, ball, text) for label, ball, text in zip(_NAMES, balls, texts, strict=True)]
        signed = found.never_negative if sign == "positive" else found.reversed_at is not None
        l, u = schedule.interval
        before, after = (_range(interval) for interval in (found.fewer, found.more))
        return Finding(
            (*ratios, yes_no(sign, signed), yes_no("every figure is narrow", found.narrow)),
            f"{schedule.steps} steps map [{l:g}, {u:g}] onto {_range(found.image)} (one fewer {before}, one "
            f"more {after}); slopes {_rough(slopes[0])} to {_rough(slopes[1])} on [0, {u:g}]",
            figures={"distance from 1": float(found.distance), "largest slope": float(slopes[1])},
        )

    figures.__name__ = figures.__qualname__ = name.replace("-", "_")
    figures.__doc__ = f"The certificate of the schedule {name!r} agrees with its printed figures."
    return evidence(faults=("coefficient-off-by-1e-6", "one-step-fewer"))(figures)


def _spoilt(schedule: Schedule, fault: str | None) -> Schedule:
    if fault == "one-step-fewer":
        return with_steps(schedule, steps=schedule.steps - 1)
    if fault == "coefficient-off-by-1e-6":
        *rows, (first, *rest) = schedule.polynomials
        return replace(schedule, polynomials=(*rows, (first * (1 + _OFF), *rest)))
    return schedule


jordan = _claim("jordan")
newton_schulz = _claim("newton-schulz")
taylor_1 = _claim("taylor-1")
taylor_2 = _claim("taylor-2")
taylor_3 = _claim("taylor-3")
polar_express_5 = _claim("polar-express-5")
polar_express_6 = _claim("polar-express-6")
polar_express_7 = _claim("polar-express-7")
polar_express_8 = _claim("polar-express-8")
polar_express_safe_5 = _claim("polar-express-safe-5")
polar_express_safe_6 = _claim("polar-express-safe-6")
polar_express_safe_7 = _claim("polar-express-safe-7")
polar_express_safe_8 = _claim("polar-express-safe-8")
polar_express_cut_5 = _claim("polar-express-cut-5")
polar_express_cut_6 = _claim("polar-express-cut-6")
polar_express_cubic_8 = _claim("polar-express-cubic-8")
cans_cubic_8 = _claim("cans-cubic-8")
cans_quintic_5 = _claim("cans-quintic-5")
halley_9 = _claim("halley-9")
weighted_halley_4 = _claim("weighted-halley-4")
weighted_halley_6 = _claim("weighted-halley-6")
quintic_5 = _claim("quintic-5")
quintic_8 = _claim("quintic-8")
nanogpt_5 = _claim("nanogpt-5")
gram_newton_schulz_5 = _claim("gram-newton-schulz-5")
aol_4 = _claim("aol-4")
cubic_5 = _claim("cubic-5")
deepseek_v4 = _claim("deepseek-v4")


@evidence(faults=("coefficient-off-by-1e-6", "cushioned"), scope="region")
@at_precision(DEEP)
def best_on_its_interval(*, fault: str | None = None) -> Finding:
    """Every step of the two CANS schedules is the best odd polynomial of its degree where it is used.

    De la Vallee-Poussin: odd powers are a Chebyshev system on a positive interval, so if ``1 - p`` alternates
    in sign at one more point than p has coefficients, no polynomial of the family has a smaller maximum
    error than the least of those deviations. The points are the ends and the turning points between them.
    """
    cushioned = replace(SCHEDULES["cans-quintic-5"], polynomials=POLAR_EXPRESS[:5])
    quintics = cushioned if fault == "cushioned" else SCHEDULES["cans-quintic-5"]
    cubics = _spoilt(SCHEDULES["cans-cubic-8"], fault)
    ratios, worst = [], 0.0
    for schedule in (cubics, quintics):
        steps = as_steps(schedule)
        lower, upper = exact_interval(schedule)
        for t, (step, interval) in enumerate(
            zip(steps, images(steps, (arb(lower), arb(upper))), strict=False)
        ):
            gap, alternates = _gap_to_the_optimum(step, interval)
            worst = max(worst, gap)
            ratios += [
                yes_no(f"{schedule.name}, step {t + 1}: 1 - p alternates", alternates),
                Ratio(f"{schedule.name}, step {t + 1}: relative gap to the optimum", gap, _SUBOPTIMAL),
            ]
    return Finding(
        tuple(ratios),
        f"{len(ratios) // 2} steps (8 cubics, 5 quintics) are within a relative {worst:.1e} of the least "
        "error any odd polynomial of their degree can have on their interval",
        figures={"gap": worst},
    )


def _gap_to_the_optimum(step: Step, interval: Interval) -> tuple[float, bool]:
    """Relative distance of the largest from the least alternating deviation, and whether they alternate."""
    low, high = interval
    inner = [x for x in step.turning if x > low and x < high]
    points = [low, *sorted(inner, key=lambda x: float(x)), high]
    deviations = [(1 - step(x)) * (-1) ** i for i, x in enumerate(points)]
    alternates = len(points) == len(step.numerator) + 1 and all(bool(d > 0) for d in deviations)
    least = most = deviations[0]
    for d in deviations[1:]:
        least, most = least.min(d), most.max(d)
    return float(((most - least) / most).upper()), alternates


@evidence(faults=("exponent-4^T", "one-step-fewer"), scope="region")
@at_precision(DEEP)
def quintic_rate(*, fault: str | None = None) -> Finding:
    """Polar Express, Theorem 4.3 for ``d = 5``: the least error is at most ``(1 - l^2)^(3^T)``.

    The error of the composition of float64 quintics bounds the least one from above; instances whose bound
    is below 1e-12, where the rounding of coefficients shows, are left out.
    """
    base = 4 if fault == "exponent-4^T" else 3
    held, tightest = [], 0.0
    for l in _LOWER_ENDS:
        lower = fmpq(*l.as_integer_ratio())
        rows = polar_express_coefficients(l, 1.0, steps=_STEPS, cushion=0.0)
        reached = images([Step.of(p) for p in rows], (arb(lower), arb(1)))
        for T in range(1, _STEPS + 1):
            rate = 1 - arb(lower) ** 2
            claimed, bound = rate ** (3**T), rate ** (base**T)
            if claimed < _RESOLVED:
                continue
            least, most = reached[T - 1 if fault == "one-step-fewer" else T]
            error = (1 - least).max(most - 1)
            held.append(bool(error <= bound))
            if held[-1]:
                tightest = max(tightest, float((error / bound).lower()))
    return Finding(
        (yes_no(f"error at most (1-l^2)^(3^T) on {len(held)} instances", all(held)),),
        f"{len(held)} instances ({len(_LOWER_ENDS)} values of l from 0.001 to 0.998, T = 1..4) hold in ball "
        f"arithmetic, tightest {tightest:.4f}",
        tightness=int(tightest * 10**4) / 10**4,
    )


@evidence(faults=("no-safety", "safety-on-all"))
@at_precision(DEEP)
def safety_tames_the_top(*, fault: str | None = None) -> Finding:
    """Why Polar Express needs its safety factor: without it a start of 1.000007 is already too long.

    The minimax polynomials are past their last turning point at 1, so that the largest slope of five steps is
    attained there: 67900, against 1026 at 0. A start of 1.001, a rounding error of bfloat16 above 1, ends at
    5.5e20. With the factor 1.01 on all but the last step the largest slope is 986, starts up to 1.0109 stay
    within 2, and the error on [0.001, 1] is 0.1476 instead of 0.1236.
    """
    safe = "polar-express-5" if fault == "no-safety" else "polar-express-safe-5"
    if fault == "safety-on-all":
        safe = "polar-express-cut-5"
    plain, tamed = certify(SCHEDULES["polar-express-5"]), certify(SCHEDULES[safe])
    steps = as_steps(plain.schedule)
    top, bottom = slope_jet(steps, arb(1))[0], slope_jet(steps, arb(0))[0]
    beyond = value(steps, arb(fmpq(1001, 1000)))
    safe_slope = tamed.slopes[1] if tamed.slopes else arb("nan")
    return Finding(
        (
            _printed("slope at 1 without", top, "6.79E+4"),
            _printed("slope at 0 without", bottom, "1026"),
            _printed("value at 1.001 without", beyond, "5.52E+20"),
            _printed("within 2 up to, without", plain.bounded, "1.000006"),
            _printed("error without", plain.distance, "0.12355905"),
            _printed("largest slope with", safe_slope, "986"),
            _printed("within 2 up to, with", tamed.bounded, "1.0109"),
            _printed("error with", tamed.distance, "0.14762680"),
        ),
        f"five rows: slope {_rough(top)} at 1 without, at most {_rough(safe_slope)} with the factor on all "
        f"but the last; 1.001 ends at {_rough(beyond)} without; errors {_short(plain.distance)} and "
        f"{_short(tamed.distance)}",
    )


@evidence(faults=("other-schedule-blamed", "reversal-at-one-half"))
@at_precision(DEEP)
def signs(*, fault: str | None = None) -> Finding:
    """All schedules keep every singular value in (0, u] positive, except "aol-4", which sends 1 to -0.993521.

    Positive values mean ``<M, X> > 0``: the step never points uphill in the momentum. A matrix of rank one
    has the single value 1 after division by its Frobenius norm, so "aol-4" nearly negates it.
    """
    blamed = "jordan" if fault == "other-schedule-blamed" else "aol-4"
    where = fmpq(1, 2) if fault == "reversal-at-one-half" else fmpq(1)
    steps = {name: as_steps(schedule) for name, schedule in SCHEDULES.items()}
    positive = {name: never_negative(steps[name], exact_interval(s)[1]) for name, s in SCHEDULES.items()}
    others = [name for name, verdict in positive.items() if not verdict and name != blamed]
    at_one = value(steps[blamed], arb(where))
    return Finding(
        (
            yes_no("the others stay positive", not others),
            yes_no(f"{blamed} reverses some singular value", bool(at_one < 0)),
            _printed(f"{blamed} at 1", at_one, "-0.993521"),
        ),
        f"{sum(positive.values())} of {len(positive)} schedules keep every singular value positive; {blamed} "
        f"sends 1 to {_short(at_one)}",
    )


def _printed(name: str, ball: arb | None, text: str) -> Ratio:
    """How far a ball lies from a printed figure, at worst, over one unit of its last digit; "-" for none."""
    if text == "-" or ball is None:
        return yes_no(f"{name}: {text}", text == "-" and ball is None)
    exact, places = Fraction(text), int(Decimal(text).as_tuple().exponent)
    error = abs(ball - arb(fmpq(exact.numerator, exact.denominator)))
    return Ratio(f"{name}: {text}", float(error.upper()), 10.0**places)


def _short(ball: arb) -> str:
    return f"{float(ball):.6g}"


def _rough(ball: arb) -> str:
    """A slope: known to three digits."""
    return f"{float(ball):.3g}"


def _range(interval: Interval) -> str:
    return f"[{_short(interval[0])}, {_short(interval[1])}]"
