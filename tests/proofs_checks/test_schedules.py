"""Certificates of schedules contain what is sampled, are narrow, and notice a coefficient off by 1e-6."""

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from flint import arb, ctx, fmpq
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from proofs_checks.certified import schedule_claims
from proofs_checks.certified.compositions import (
    Step,
    image,
    images,
    largest_bounded,
    never_negative,
    slope_jet,
    smallest_lifted,
    value,
)
from proofs_checks.certified.schedules import DEEP, HALF, SLOPE_WIDTH, as_steps, certify, exact_interval
from proofs_checks.cli import app
from proofs_checks.schedules import choose, document
from reference.schedules import SCHEDULES, Schedule, scalar, with_steps

PASSED, FAILED, USAGE = 0, 1, 2
CERTIFICATES = {name: certify(schedule) for name, schedule in SCHEDULES.items()}

#: Relative change of a coefficient that every certificate must notice.
OFF = 1e-6

#: Samples as dense as below meet an extremum up to half a squared spacing times a curvature below 1e6.
SEEN = fmpq(1, 10**4)

TWO = fmpq(2)

coefficient = st.integers(-40, 40).map(lambda k: k / 8)
ends = st.integers(1, 24).map(lambda k: fmpq(k, 8))


def custom(*polynomials: tuple[float, ...], interval: tuple[float, float] = (1e-2, 1.0)) -> Schedule:
    return Schedule("x", polynomials, interval, "here")


def samples(schedule: Schedule, count: int = 60) -> list[fmpq]:
    """Exact points of the interval, ends included, dense at both scales."""
    l, u = exact_interval(schedule)
    inner = [fmpq(*float(x).as_integer_ratio()) for x in np.geomspace(*schedule.interval, count)[1:-1]]
    return [l, u, *inner, *(l + (u - l) * fmpq(k, count) for k in range(1, count))]


def inside(y: arb, interval: tuple[arb, arb]) -> bool:
    """Whether nothing shows that `y` lies outside."""
    least, most = interval
    return not y < least and not y > most


@pytest.fixture(autouse=True)
def _deep() -> Iterator[None]:
    """The precision of certificates also where a test evaluates."""
    with ctx.workprec(DEEP):
        yield


def invoke(*arguments: str) -> Result:
    result = CliRunner().invoke(app, ["schedules", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    return result


# ---- the certificate


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_certificate_contains_what_is_sampled(name):
    schedule, found = SCHEDULES[name], CERTIFICATES[name]
    steps = as_steps(schedule)
    assert found.slopes
    for x in samples(schedule):
        y, slope = value(steps, arb(x)), slope_jet(steps, arb(x))[0]
        assert inside(y, found.image), f"{x} goes to {y}"
        assert inside(slope, found.slopes), f"slope {slope} at {x}"


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_certificate_is_narrow_and_its_image_attained(name):
    schedule, found = SCHEDULES[name], CERTIFICATES[name]
    assert found.narrow
    y = scalar(np.geomspace(*schedule.interval, 20_001), schedule)
    for sampled, end in zip((y.min(), y.max()), found.image, strict=True):
        assert abs(arb(float(sampled)) - end) < SEEN


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_coefficient_off_by_a_millionth_leaves_the_certificate(name):
    *rows, (first, *rest) = SCHEDULES[name].polynomials
    spoilt = certify(replace(SCHEDULES[name], polynomials=(*rows, (first * (1 + OFF), *rest))))
    before = CERTIFICATES[name]
    assert not all(a.overlaps(b) for a, b in zip(spoilt.image, before.image, strict=True))


@pytest.mark.parametrize("name", ["jordan", "polar-express-safe-6", "weighted-halley-4", "aol-4"])
def test_one_step_fewer_and_one_more_are_images_of_their_own(name):
    schedule, found = SCHEDULES[name], CERTIFICATES[name]
    for other, steps in ((found.fewer, schedule.steps - 1), (found.more, schedule.steps + 1)):
        own = certify(with_steps(schedule, steps=steps)).image
        assert all(a.overlaps(b) for a, b in zip(own, other, strict=True))


@pytest.mark.parametrize("name", SCHEDULES)
def test_from_the_lifted_value_on_all_end_at_one_half_and_below_it_some_do_not(name):
    schedule, found = SCHEDULES[name], CERTIFICATES[name]
    steps, (_, u) = as_steps(schedule), exact_interval(schedule)
    if found.lifted is None:
        assert value(steps, arb(u)) < HALF or images(steps, (arb(u), arb(u)))[-1][0] < HALF
        return
    edge = found.lifted.upper()
    for k in range(41):
        assert not value(steps, edge + (arb(u) - edge) * fmpq(k, 40)) < HALF
    assert value(steps, found.lifted.lower()) < HALF


@pytest.mark.parametrize("name", SCHEDULES)
def test_starts_up_to_the_bounded_one_stay_within_2_and_the_next_does_not(name):
    found, steps = CERTIFICATES[name], as_steps(SCHEDULES[name])
    if found.bounded is None:
        assert SCHEDULES[name].denominators
        return
    for k in range(1, 41):
        assert not abs(value(steps, found.bounded.lower() * fmpq(k, 40))) > TWO
    assert abs(value(steps, found.bounded.upper())) > TWO


def test_the_safety_factor_is_the_headroom():
    for name, factor in (("polar-express-safe-5", 101), ("nanogpt-5", 102), ("gram-newton-schulz-5", 105)):
        above = CERTIFICATES[name].bounded - fmpq(factor, 100)
        assert 0 < above < fmpq(1, 100)
    assert CERTIFICATES["polar-express-5"].bounded < 1 + fmpq(1, 10**5)


def test_only_one_set_reverses_a_singular_value_and_the_witness_is_exact():
    assert [name for name, found in CERTIFICATES.items() if not found.never_negative] == ["aol-4"]
    witness = CERTIFICATES["aol-4"].reversed_at
    x = witness
    for a, b, c in ((fmpq(*v.as_integer_ratio()) for v in p) for p in SCHEDULES["aol-4"].polynomials):
        x = a * x + b * x**3 + c * x**5
    assert x < 0 < witness


def test_the_precision_is_given_back():
    before = ctx.prec
    certify(custom((1.5, -0.5)))
    assert ctx.prec == before


def test_a_single_step_has_the_interval_itself_one_step_before():
    interval = (0.25, 1.0)
    found = certify(custom((1.5, -0.5), interval=interval))
    assert tuple(float(end) for end in found.fewer) == interval
    assert found.slopes
    assert found.slopes[1].contains(fmpq(3, 2))
    assert found.slopes[0].contains(0)
    width = SLOPE_WIDTH * arb(fmpq(3, 2))
    assert found.slopes[1].rad() <= width


def test_a_zero_inside_the_interval_is_not_positive():
    touches = certify(custom((1.0, -1.0)))
    assert (touches.never_negative, touches.reversed_at) == (False, None)
    crosses = certify(custom((1.0, -2.0)))
    assert (crosses.never_negative, crosses.reversed_at) == (False, fmpq(1))


@pytest.mark.parametrize("rows", [((0.0,),), ((2.0,),), ((0.0, 1.0), (0.0, 0.0, 1.0))])
def test_degenerate_polynomials_have_certificates(rows):
    found = certify(custom(*rows))
    assert found.narrow
    assert found.image[0] <= found.image[1]


def test_a_divergent_schedule_is_refused_in_one_line():
    with pytest.raises(ValueError, match="in the range of float64"):
        certify(custom((1e200, 1e200), (1e200,)))


# ---- images of intervals


@given(st.lists(st.tuples(coefficient, coefficient, coefficient), min_size=1, max_size=3), ends, ends)
def test_images_contain_every_value_and_their_ends_are_approached(rows, a, b):
    steps = [Step.of(row) for row in rows]
    low, high = -a, b  # across zero, where turning points come in pairs
    found = images(steps, (arb(low), arb(high)))
    points = [low + (high - low) * fmpq(k, 30) for k in range(31)]
    for before, after, step in zip(found, found[1:], steps, strict=False):
        for x in points:
            assert inside(step(arb(x).max(before[0]).min(before[1])), after)
    for least, most in found:
        assert least <= most or least.overlaps(most)


@given(coefficient, coefficient, coefficient, st.integers(0, 40), ends, ends)
def test_the_image_of_a_step_is_that_of_a_dense_sample(a, b, c, d, one, two):
    low, high = sorted((one, two))
    step = Step.of((a, b, c)) if not d else Step.of((a, b), d / 8)
    least, most = image(step, (arb(low), arb(high)))
    values = [step(arb(low + (high - low) * fmpq(k, 400))) for k in range(401)]
    # between neighbours a value moves by at most half a spacing times the largest slope
    slope = max(float(abs(step.slope(arb(low).union(arb(high)))).upper()), 0.0)
    reach = arb(slope) * (high - low) * fmpq(1, 800)
    for end, attained in ((least, min(values, key=float)), (most, max(values, key=float))):
        assert not abs(end - attained) > reach


@given(coefficient, coefficient, coefficient, st.integers(0, 16))
def test_the_jet_is_the_derivative_of_the_value(a, b, c, k):
    exact = [fmpq(*v.as_integer_ratio()) for v in (a, b, c)]
    x = fmpq(k, 8)
    y, slope, curvature = Step.of((a, b, c)).jet(arb(x))
    assert y.contains(exact[0] * x + exact[1] * x**3 + exact[2] * x**5)
    assert slope.contains(exact[0] + 3 * exact[1] * x**2 + 5 * exact[2] * x**4)
    assert curvature.contains(6 * exact[1] * x + 20 * exact[2] * x**3)


@given(st.integers(1, 80), st.integers(1, 80), st.integers(1, 80), st.integers(0, 16))
def test_the_jet_of_a_rational_step_agrees_with_small_differences(a, b, c, k):
    step, x, h = Step.of((a / 8, b / 8), c / 8), arb(fmpq(k, 8)), arb(fmpq(1, 2**40))
    with ctx.workprec(200):
        near = [step.jet(x + h), step.jet(x - h)]
        _, slope, curvature = step.jet(x)
        allowed = fmpq(1, 2**20)
        differences = [(near[0][i] - near[1][i]) / (2 * h) for i in (0, 1)]
        assert abs(differences[0] - slope) < allowed
        assert abs(differences[1] - curvature) < allowed


def test_slopes_on_a_ball_contain_the_slopes_at_its_points():
    for name in ("jordan", "polar-express-8", "weighted-halley-4"):
        steps = as_steps(SCHEDULES[name])
        for low, high in pairwise(fmpq(k, 20) for k in range(21)):
            slope, curvature = slope_jet(steps, arb(low).union(arb(high)))
            for k in range(5):
                at = slope_jet(steps, arb(low + (high - low) * fmpq(k, 4)))
                assert slope.overlaps(at[0])
                assert curvature.overlaps(at[1])


def test_what_is_lifted_by_a_linear_step_is_known_exactly():
    steps = [Step.of((4.0,))]
    found = smallest_lifted(steps, fmpq(1), level=HALF)
    assert found.contains(fmpq(1, 8))
    assert found.rad() < SEEN
    quarter = [Step.of((fmpq(1, 4),))]
    assert smallest_lifted(quarter, fmpq(1), level=HALF) is None
    assert largest_bounded(steps, fmpq(1), bound=TWO).contains(HALF)
    assert largest_bounded(steps, fmpq(1, 10), bound=TWO) is None
    assert never_negative(steps, fmpq(1))
    assert not never_negative([Step.of((-1.0,))], fmpq(1))


# ---- claims


def test_every_schedule_has_figures_and_evidence():
    assert set(schedule_claims.FIGURES) == set(SCHEDULES)
    for name in SCHEDULES:
        function = getattr(schedule_claims, name.replace("-", "_"))
        assert function.__name__ in schedule_claims.__all__
        assert function().holds, name


@pytest.mark.parametrize("name", ["jordan", "taylor-1", "weighted-halley-6", "aol-4"])
def test_a_figure_that_is_off_is_red(name, monkeypatch):
    texts = schedule_claims.FIGURES[name].split()
    texts[1] = f"{float(CERTIFICATES[name].image[1] - 1 + fmpq(2, 10**6)):.7E}"
    monkeypatch.setitem(schedule_claims.FIGURES, name, " ".join(texts))
    assert not getattr(schedule_claims, name.replace("-", "_"))().holds


# ---- the command


def test_the_table_has_one_line_per_schedule():
    result = invoke()
    assert result.exit_code == PASSED, result.output
    lines = result.stdout.splitlines()
    assert len(lines) == 1 + len(SCHEDULES)
    for name, line in zip(SCHEDULES, lines[1:], strict=True):
        assert line.split()[0] == name
    assert "reverses" in next(line for line in lines if line.startswith("aol-4"))


def test_one_schedule_shows_coefficients_source_and_figures():
    result = invoke("jordan")
    assert result.exit_code == PASSED
    for words in ("3.4445, -4.775, 2.0315", "Jordan et al.", "[0.470543, 1.202369]", "stays positive", "1/2"):
        assert words in result.stdout


def test_json_holds_balls_that_contain_the_figures():
    documents = json.loads(invoke("--json").stdout)
    assert [entry["name"] for entry in documents] == list(SCHEDULES)
    entry = json.loads(invoke("jordan", "--json").stdout)
    assert entry == json.loads(json.dumps(document(CERTIFICATES["jordan"])))
    low, high = entry["image"]["least"]
    least = CERTIFICATES["jordan"].image[0]
    assert arb(low) <= least
    assert least <= arb(high)
    assert entry["narrow"]


def test_coefficients_and_an_interval_of_ones_own_are_certified():
    result = invoke("--coefficients", "1.5,-0.5; 1.5,-0.5", "--interval", "0.5,1", "--json")
    assert result.exit_code == PASSED, result.output
    entry = json.loads(result.stdout)
    assert entry["name"] == "yours"
    assert [fmpq(*end.as_integer_ratio()) for end in entry["interval"]] == [HALF, 1]
    want = fmpq(11, 16) * fmpq(3, 2) - fmpq(11, 16) ** 3 / 2
    assert arb(entry["image"]["least"][0]) <= want
    assert want <= arb(entry["image"]["least"][1])
    assert entry["image"]["most"] == [1, 1]


def test_an_interval_replaces_that_of_a_named_schedule():
    (schedule,) = choose("jordan", None, "0.01,1")
    assert schedule.interval == tuple(map(float, ("0.01", "1")))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["jordn"], "no schedule is called 'jordn'; the nearest are jordan"),
        (["jordan", "--coefficients", "1"], "exclude each other"),
        (["--coefficients", ""], "--coefficients must be numbers between commas, got ''"),
        (["--coefficients", "1.5,-0.5;"], "--coefficients must be numbers between commas, got ''"),
        (["--coefficients", "1.5;x"], "got 'x'"),
        (["--coefficients", "1.5,nan"], "polynomials must be finite, got nan"),
        (["--coefficients", ";".join(["1"] * 25)], "at most 24 steps, got 25"),
        (["--coefficients", "1e300,1e300;1e300"], "in the range of float64"),
        (["jordan", "--interval", "1,0.1"], "lower end first"),
        (["jordan", "--interval", "1"], "--interval must be two numbers l,u, got '1'"),
        (["jordan", "--interval", "0,1"], "interval must be above 0"),
        (["jordan", "--interval", "0.1,inf"], "interval must be finite"),
    ],
)
def test_what_cannot_be_certified_is_one_line_and_exit_code_2(arguments, words):
    result = invoke(*arguments)
    assert result.exit_code == USAGE
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert words in result.stderr


def test_help_has_an_example():
    assert "Example: fisherproof schedules" in invoke("--help").stdout
