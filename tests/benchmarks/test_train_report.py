"""The report says what the figures say: other figures, other sentences."""

import json
import math

import matplotlib
import numpy as np
import pytest
from scipy import stats as scipy_stats

from benchmarks import machine
from benchmarks.train import sentences
from benchmarks.train.methods import METHODS
from benchmarks.train.report import _compact, markdown, write
from benchmarks.train.search import seeds_of, trials_of
from benchmarks.train.stats import evaluations_to, median_or_none, paired, smoothed
from benchmarks.train.store import Store
from benchmarks.train.summary import summarize
from proofs_checks.ratios import EXPLICIT_BUDGET, Ratio, unit_roundoff
from tests.benchmarks.tiny import TINY, plan

BUDGET = 40
SEEDS = 5
#: Differences over seeds that the t test is sure about, and that it is not.
STEADY, NOISY = (0.0, 0.001, -0.001, 0.002, -0.002), (0.3, -0.3, 0.25, -0.2, 0.1)


def outcome(level, *, speed=1.0, kappa=5.0, seen=1.0, status="finished", factors=None):
    """A run whose loss falls from 2 with a given speed, and which ends at an accuracy."""
    record = {"kappa": [kappa / 2, kappa, kappa * 2], "kappa_limit": [1e5] * 3, "seen": [seen] * 3}
    record |= {"alignment": [0.5] * 3, "update_norm": 0.1} | (factors or {})
    finished = status == "finished"
    return {
        "status": status,
        "reason": "" if finished else "it\nraised",
        "passes": BUDGET,
        "steps": BUDGET,
        "validation": {"accuracy": level} if finished else {},
        "test": {"accuracy": level} if finished else {},
        "losses": [[p, 2.0 * math.exp(-0.05 * speed * p)] for p in range(1, BUDGET + 1)],
        "checkpoints": [
            {"passes": p, "validation": {"accuracy": level * p / BUDGET}} | record for p in (1, 20)
        ],
    }


def summary_of(tmp_path, levels, *, noise=STEADY, **changes):
    """A comparison with given test accuracies; `changes` holds what differs by method."""
    methods = tuple(METHODS[name] for name in levels)
    the_plan, runs = plan(*methods, trials=2, seeds=SEEDS, budget=BUDGET), Store(tmp_path / "runs.jsonl")
    for method, level in zip(methods, levels.values(), strict=True):
        options = changes.get(method.name.replace("-", "_"), {})
        trials = trials_of(the_plan, method)
        runs.add(trials[0], outcome(level))
        runs.add(trials[1], outcome(0.0, status="diverged"))
        # the baseline has no noise, so that a pair with it sees the other's; those of two others differ
        turn = methods.index(method) % SEEDS
        shifts = [0.0] * SEEDS if method.name == "adamw" else [*noise[turn:], *noise[:turn]]
        for shift, job in zip(shifts, seeds_of(the_plan, method, trials[0]), strict=True):
            runs.add(job, outcome(level + shift, **options))
    return summarize(TINY, the_plan, runs, step_seconds=dict.fromkeys(levels, 1.0))


def test_the_winner_is_whoever_has_the_best_figures(tmp_path):
    said = sentences.leaders(summary_of(tmp_path / "a", {"adamw": 0.8, "sgd": 0.9}))
    assert said[0].startswith("Best mean test accuracy: SGD with momentum, 0.9 ± ")
    assert "Ahead of AdamW by more than seed noise: SGD with momentum." in said
    said = sentences.leaders(summary_of(tmp_path / "b", {"adamw": 0.9, "sgd": 0.8}))
    assert said[0].startswith("Best mean test accuracy: AdamW, 0.9")
    assert "the difference is +0.1 [" in said[1]
    assert "more than seed noise" in said[1]
    assert "Behind AdamW by more than seed noise: SGD with momentum." in said


def test_a_difference_within_seed_noise_is_called_that(tmp_path):
    said = sentences.leaders(summary_of(tmp_path, {"adamw": 0.5, "sgd": 0.55}, noise=NOISY))
    assert "within seed noise" in said[1]
    assert "Not told apart from AdamW: SGD with momentum." in said
    assert not any(line.startswith(("Ahead", "Behind")) for line in said)


def test_the_caution_counts_methods_and_pairs(tmp_path):
    said = sentences.leaders(summary_of(tmp_path, {"adamw": 0.5, "sgd": 0.9, "sofim": 0.5}, noise=STEADY))
    caution = said[-1]
    assert "5 pairs are few: an interval reaches 1.24 standard deviations" in caution
    assert "2 methods are compared with AdamW" in caution
    assert "0.1 of the intervals would still be expected to miss zero" in caution
    assert "1 remain (SGD with momentum)" in caution


@pytest.mark.parametrize(
    ("levels", "noise", "outcome"),
    [
        ((0.9, 0.5, 0.5), STEADY, "Reproduced on this task."),
        ((0.5, 0.5, 0.5), STEADY, "Neither reproduced nor contradicted"),
        ((0.9, 0.95, 0.5), STEADY, "Not reproduced on this task"),
        ((0.6, 0.55, 0.5), NOISY, "Neither reproduced nor contradicted"),
    ],
)
def test_a_claimed_ranking_is_judged_by_the_pairs(levels, noise, outcome, tmp_path):
    fismo, adamw, muon = levels
    summary = summary_of(tmp_path, {"fismo": fismo, "adamw": adamw, "muon": muon}, noise=noise)
    (said,) = sentences.claims(summary)
    assert said.startswith("Claim: FISMO (as printed) before ")
    assert outcome in said


def test_a_claim_about_runs_that_failed_is_undecided(tmp_path):
    summary = summary_of(tmp_path, {"adamw": 0.5, "adafisher": 0.9}, adafisher={"status": "failed"})
    (said,) = sentences.claims(summary)
    assert "undecided against AdamW" in said
    assert "Undecided: too few runs finished." in said
    row = summary["methods"][1]
    assert (row["test"]["n"], row["test"]["mean"]) == (0, None)
    assert "AdaFisher: 5 of 5 runs of the winner, for example: it" in sentences.lost_runs(summary)
    assert "AdaFisher: 1 of 2 trials, for example: it" in sentences.lost_runs(summary)


@pytest.mark.claim("SOFIM-EMP-speed")
@pytest.mark.parametrize(("speed", "verdict"), [(2.0, "Reproduced"), (0.5, "Not reproduced")])
def test_speed_to_a_target_is_judged_by_the_evaluations(speed, verdict, tmp_path):
    levels = {"adamw": 0.5, "sgd": 0.5, "sofim": 0.5}
    summary = summary_of(tmp_path, levels, sofim={"speed": speed})
    said = [line for line in sentences.claims(summary) if "reaches preset levels sooner" in line]
    assert len(said) == 3
    final = next(line for line in said if "the final training loss of AdamW" in line)
    assert final.endswith(f"{verdict} on this task.")
    wins = 5 if verdict == "Reproduced" else 0
    assert f"SGD with momentum (40 evaluations; sooner in {wins} of 5 seeds)" in final
    reached = summary["methods"][2]["evaluations_to"]["final_loss"]
    assert (reached is None) == (verdict == "Not reproduced")
    assert ("In the median it never reaches" in final) == (reached is None)


def test_where_nobody_reaches_a_target_nothing_is_decided(tmp_path):
    slow = {"speed": 0.5}
    summary = summary_of(tmp_path, {"adamw": 0.5, "sgd": 0.5, "sofim": 0.5}, sgd=slow, sofim=slow)
    final = next(line for line in sentences.claims(summary) if "the final training loss" in line)
    assert "nor does SGD with momentum (never; sooner in 0 of 5 seeds). Undecided on this task." in final


@pytest.mark.claim("FISMO-EMP-kappa")
@pytest.mark.parametrize(
    ("kappa", "seen", "words"),
    [
        (
            5.0,
            1.0,
            "update condition 5 (quartiles 2.5 to 10). Reported is 100 to 1000: here it is below that.",
        ),
        (300.0, 1.0, "Reported is 100 to 1000: as here."),
        (9e3, 1.0, "Reported is 100 to 1000: here it is above that."),
        (5.0, 0.75, "25% of the singular values are below rounding"),
        (
            5.0,
            0.75,
            "they are zero, or the condition is above 1e+05). Reported is 100 to 1000: here it is below",
        ),
    ],
)
def test_conditions_are_held_against_the_reported_ones(kappa, seen, words, tmp_path):
    summary = summary_of(tmp_path, {"adamw": 0.5, "fismo": 0.5}, fismo={"kappa": kappa, "seen": seen})
    said = sentences.conditioning(summary)
    assert len(said) == 2
    assert said[1].startswith("FISMO (as printed)")
    assert words in said[1]


def test_a_condition_that_rounding_could_hide_is_not_excluded(tmp_path):
    summary = summary_of(tmp_path, {"adamw": 0.5}, adamw={"kappa": 1e3, "seen": 0.5})
    (said,) = sentences.conditioning(summary)
    assert said.endswith("Reported is above 1e+08: which is not excluded.")


@pytest.mark.claim("FISMO-T5-near-muon")
@pytest.mark.parametrize(("away", "words"), [(0.01, "close to Muon"), (3.0, "have left the identity")])
def test_whether_small_gradients_leave_fismo_at_muon_is_read_off_the_factors(away, words, tmp_path):
    factors = {"P_minus_I": [away] * 3, "b": [1e-4] * 3, "kappa_P": [1.5] * 3, "kappa_Q": [1.5] * 3}
    summary = summary_of(tmp_path, {"adamw": 0.5, "fismo": 0.5}, fismo={"factors": factors})
    assert words in sentences.conditioning(summary)[-1]


def test_the_report_is_written_whole(tmp_path):
    levels = {"adamw": 0.5, "sgd": 0.9, "sofim": 0.7}
    matplotlib.use("agg")  # otherwise settled by the first drawing
    before = matplotlib.rcParams.copy()
    summary = summary_of(tmp_path, levels)
    paths = write(summary, tmp_path / "out")
    assert [path.name for path in paths] == ["train_tiny.json", "train_tiny.md", "train_tiny.png"]
    stored = json.loads(paths[0].read_text())
    assert stored == summary
    assert stored["machine"].keys() == machine.describe().keys()
    assert all(len(row["runs"]) == SEEDS for row in stored["methods"])
    assert paths[1].read_text() == markdown(summary, plot="train_tiny.png")
    assert paths[2].read_bytes().startswith(b"\x89PNG")
    assert matplotlib.rcParams == before


def test_the_page_has_a_row_for_every_method_with_its_figures(tmp_path):
    page = markdown(summary_of(tmp_path, {"adamw": 0.5, "sgd": 0.9}), plot="plot.png")
    rows = [line for line in page.splitlines() if line.startswith("| SGD with momentum |")]
    assert "| 0.9 ± 0.0016 | +0.4 [+0.398, +0.402] |" in rows[0]
    assert "| 1.00x | 1 of 2 |" in rows[0]
    config = trials_of(plan(METHODS["sgd"]), METHODS["sgd"])[0].config
    assert f"lr {config['lr']}, momentum {config['momentum']}" in rows[0]
    widths = [line.replace("\\|", "").count("|") for line in page.splitlines() if line.startswith("| ")]
    assert set(widths) == {9, 11, 4}, "the three tables"


def test_best_values_next_to_an_end_of_their_range_are_pointed_out(tmp_path):
    summary = summary_of(tmp_path, {"adamw": 0.5})
    assert sentences.ends(summary) == []
    summary["methods"][0]["at_an_end"] = ["lr"]
    summary["methods"][0]["best"]["lr"] = 0.0299
    assert sentences.ends(summary) == [
        "AdamW: lr 0.0299 is next to an end of its range; better may lie beyond."
    ]
    space = METHODS["adamw"].space["lr"]
    assert space.at_an_end(space.low)
    assert space.at_an_end(space.high)
    assert not space.at_an_end(space.middle())


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_paired_differences_are_those_of_the_t_distribution(better):
    x = dict(enumerate([0.91, 0.93, 0.92, 0.95, 0.90], start=1))
    y = dict(enumerate([0.90, 0.90, 0.91, 0.91, 0.89], start=1)) | {9: 0.0}
    found = paired(x, y, better=better)
    d = np.array([x[seed] - y[seed] for seed in x])
    reach = scipy_stats.t.ppf(0.975, 4) * d.std(ddof=1) / math.sqrt(5)
    expected = (d.mean(), d.mean() - reach, d.mean() + reach)
    budget = 32 * unit_roundoff("float64")  # differences, mean, deviation and quantile of numbers below 1
    for value, wanted in zip((found.difference, found.low, found.high), expected, strict=True):
        assert Ratio("interval", abs(value - wanted), budget, EXPLICIT_BUDGET).passed
    assert found.n == 5
    assert found.verdict == ("ahead" if better == "higher" else "behind")
    assert paired(y, x, better=better).verdict == ("behind" if better == "higher" else "ahead")


def test_paired_differences_without_spread_or_without_pairs():
    same = dict.fromkeys(range(5), 2.0)
    assert paired(same, same, better="higher").verdict == "level"
    above = paired(dict.fromkeys(range(5), 3.0), same, better="higher")
    assert (above.difference, above.low, above.high, above.verdict) == (1, 1, 1, "ahead")
    assert above.p == 1 / 16, "five equal signs are no certainty"
    scattered = {seed: 0.1 * seed for seed in range(5)}
    shifted = {seed: value + 0.1 for seed, value in scattered.items()}  # the same but for rounding
    assert paired(shifted, scattered, better="lower").verdict == "behind"
    assert paired({1: 5}, {1: 4}, better="higher").verdict == "undecided"
    assert paired({1: 5}, {2: 4}, better="higher").difference is None


def test_smoothing_averages_what_lies_within_the_window():
    losses = [(1, 4.0), (3, 2.0), (4, 6.0), (8, 1.0)]
    assert smoothed(losses, window=3) == [(3, 3), (4, 4), (8, 1)]
    assert smoothed(losses, window=1) == losses


def test_evaluations_to_a_target():
    curve = [(5, 6.0), (10, 2.0), (15, 4.0)]
    assert evaluations_to(curve, 2, better="lower") == 10
    assert evaluations_to(curve, 1, better="lower") is None
    assert evaluations_to(curve, 5, better="higher") == 5
    assert median_or_none([10, None, 20]) == 20
    assert median_or_none([10, None, None]) is None
    assert median_or_none([10, None]) is None
    assert median_or_none([]) is None


def test_compact_json_is_the_same_json():
    data = {"a": [[1, 2.5], [3, None]], "b": [{"c": ["x, y", "[z]"]}, []], "d": [None, [1, 2]], "e": {}}
    assert json.loads(_compact(json.dumps(data, indent=1))) == data
