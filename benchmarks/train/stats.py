"""Statistics of a comparison: means over seeds, paired differences, and how soon a target is reached."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import stats

__all__ = [
    "CONFIDENCE",
    "Paired",
    "evaluations_to",
    "mean_and_deviation",
    "median_or_none",
    "paired",
    "smoothed",
]

#: Of every interval in a report.
CONFIDENCE = 0.95

#: Differences that differ by less than so many roundings of the metric are the same.
ROUNDINGS = 4


@dataclass(frozen=True)
class Paired:
    """Difference of two methods over the seeds that both finished.

    Attributes
    ----------
    difference, low, high : float or None
        Mean of first minus second, and its confidence interval by Student's t; None where there are not
        enough pairs.
    p : float or None
        Two-sided p-value of the same test.
    n : int
        Pairs.
    verdict : {"ahead", "behind", "level", "undecided"}
        Of the first method, in the sense in which the metric is better; "level" if the interval holds zero.
    """

    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    n: int
    verdict: str

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)


def paired(first: Mapping[int, float], second: Mapping[int, float], *, better: str) -> Paired:
    """Compare two methods seed by seed.

    Parameters
    ----------
    first, second : mapping from seed to metric
    better : {"higher", "lower"}
        Which metric is better.

    Notes
    -----
    Source: the paired t test. With five pairs its interval is 1.24 standard deviations of the difference to
    either side, and it takes the differences to be normal.
    """
    seeds = sorted(first.keys() & second.keys())
    x, y = (np.array([values[seed] for seed in seeds]) for values in (first, second))
    if len(seeds) <= 1:
        difference = float((x - y).mean()) if seeds else None
        return Paired(difference, None, None, None, len(seeds), "undecided")
    d = x - y
    mean = float(d.mean())
    if np.ptp(d) <= ROUNDINGS * np.finfo(d.dtype).eps * max(abs(x).max(), abs(y).max()):
        # every seed says the same; Student's t is not defined, and p is that of the sign test
        low = high = mean
        p = 1.0 if mean == 0 else 2.0 ** (1 - len(seeds))
    else:
        test = stats.ttest_rel(x, y)
        low, high = map(float, test.confidence_interval(CONFIDENCE))
        p = float(test.pvalue)
    sign = 1.0 if better == "higher" else -1.0
    verdict = "level" if low <= 0 <= high else "ahead" if sign * mean > 0 else "behind"
    return Paired(mean, low, high, p, len(seeds), verdict)


def mean_and_deviation(values: Sequence[float]) -> dict[str, float | int | None]:
    """Mean, sample standard deviation and count; None where there are too few values."""
    return {
        "mean": statistics.fmean(values) if values else None,
        "deviation": statistics.stdev(values) if len(values) > 1 else None,
        "n": len(values),
    }


def smoothed(losses: Sequence[Sequence[float]], *, window: float) -> list[tuple[int, float]]:
    """Training losses averaged over the last `window` gradient evaluations.

    Parameters
    ----------
    losses : sequence of (gradient evaluations, loss)
        In the order of the run.
    window : float
        In gradient evaluations; the first averages, which have fewer behind them, are left out.
    """
    found, start, total = [], 0, 0.0
    for index, (passes, loss) in enumerate(losses):
        total += loss
        while losses[start][0] <= passes - window:
            total -= losses[start][1]
            start += 1
        if passes >= window:
            found.append((int(passes), total / (index + 1 - start)))
    return found


def evaluations_to(curve: Sequence[Sequence[float]], target: float, *, better: str) -> int | None:
    """Gradient evaluations at which a curve first meets the target; None if it never does."""
    sign = 1.0 if better == "higher" else -1.0
    return next((int(passes) for passes, value in curve if sign * value >= sign * target), None)


def median_or_none(values: Sequence[int | None]) -> float | None:
    """Median where None counts as later than any number; None if that is the median."""
    if not values:
        return None
    median = statistics.median(math.inf if value is None else value for value in values)
    return None if math.isinf(median) or math.isnan(median) else median
