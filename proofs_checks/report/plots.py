"""The figures of the page, computed from `reference` and from the run when the page is written."""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from proofs_checks.report.numbers import count, number
from proofs_checks.report.plots_fismo import damping, fixed_point_convergence, growth
from proofs_checks.report.svg import ALARM, INK, MUTED, SERIES, Plot, draw, legend_above
from proofs_checks.results import RatioResult, VerifyResults
from reference import polar, sofim

__all__ = ["cancellation", "draw_all", "error_ratios", "singular_values"]

Array = NDArray[np.float64]
_UNIT_ROUNDOFF = np.finfo(np.float64).eps / 2
_JORDAN_LOWER = 1e-2  # lower end of the range stated in ledger claim JORDAN-range
_EXPRESS_LOWER = 1e-3  # lower end of the interval for which the recommended Polar Express set was built
_LEFT, _RIGHT = (
    1e-8,
    1e2,
)  # drawn range of ratios; exact zeros go to the left edge, infinite ones to the right
_GOLDEN_ANGLE = math.pi * (3.0 - math.sqrt(5.0))  # spreads successive points evenly across their row


def draw_all(results: VerifyResults) -> list[Plot]:
    """Every figure, in reading order; without an acceptance decision there is no figure of them."""
    plots = [singular_values(), fixed_point_convergence(), damping(), growth(), cancellation()]
    ratios = _ratios_by_group(results)
    return [*plots, error_ratios(ratios)] if ratios else plots


def singular_values() -> Plot:
    """What three ways to orthogonalise a matrix do to its singular values."""
    side, decades = 48, 4
    rng = np.random.default_rng(20_250)
    U, V = (np.linalg.qr(rng.standard_normal((side, side)))[0] for _ in range(2))
    s = np.logspace(0.0, -decades, side)
    s /= np.linalg.norm(s)
    M = (U * s) @ V.T
    exact, jordan, express = (
        np.einsum("ik,ij,jk->k", U, polar.orthogonalize(M, method), V)
        for method in ("polar", "jordan", "polar-express")
    )
    covered = jordan[s > _JORDAN_LOWER]
    distance = float(np.abs(express[s > _EXPRESS_LOWER] - 1.0).max())

    def paint(axes: Axes) -> str:
        axes.set_xscale("log")
        axes.plot(s, s, color=MUTED, linestyle=":", label="before")
        axes.plot(s, exact, color=INK, linewidth=1.0, label="exact polar factor")
        axes.plot(s, jordan, "o-", color=SERIES[1], markersize=3.2, linewidth=0.8, label="five Jordan steps")
        axes.plot(
            s, express, "s-", color=SERIES[0], markersize=3, linewidth=0.8, label="Polar Express, 8 steps"
        )
        axes.set_xlabel("singular value before, over the Frobenius norm (no unit)")
        axes.set_ylabel("singular value after (no unit)")
        legend_above(axes)
        return (
            f"Five Jordan steps bring singular values above {number(_JORDAN_LOWER)} of the norm to between "
            f"{number(covered.min())} and {number(covered.max())}, by design not to 1; Polar Express "
            f"brings those above {number(_EXPRESS_LOWER)} to 1 within {number(distance)}. Smaller ones "
            "stay small in both."
        )

    return draw(
        "plot-singular-values",
        "What orthogonalisation does to singular values",
        alt="Singular values of a matrix before and after. The exact polar factor is flat at one; Polar "
        "Express meets it except for the smallest values; five Jordan steps scatter around one.",
        paint=paint,
    )


def cancellation() -> Plot:
    """Accuracy of equation 6 of SOFIM as printed, and of the closed form of the same step."""
    d, rho = 64, 0.5
    direction = np.random.default_rng(6).standard_normal(d)
    direction /= np.linalg.norm(direction)
    s = np.logspace(-3.0, 20.0, 70)
    vectors = np.sqrt(rho * s)[:, None] * direction
    printed, closed = (
        np.array([_relative_error(form(v, rho=rho), v, rho) for v in vectors])
        for form in (sofim.two_term_direction, sofim.direction)
    )
    lost = float(s[np.argmax(printed >= 1)])

    def paint(axes: Axes) -> str:
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.plot(s, _UNIT_ROUNDOFF * (1.0 + s), color=INK, linestyle="--", linewidth=1.0, label="u (1 + s)")
        axes.plot(s, printed, "o", color=SERIES[1], markersize=3.2, label="equation 6 as printed")
        axes.plot(s, closed, "s", color=SERIES[0], markersize=3, label="closed form")
        axes.axhline(1.0, color=MUTED, linewidth=0.8, linestyle=":")
        axes.set_xlabel("s = squared momentum norm over ρ (no unit)")
        axes.set_ylabel("relative error of the step (no unit)")
        legend_above(axes)
        return (
            "Equation 6 subtracts two nearly equal vectors: its error grows like s times the unit roundoff, "
            f"and no digit is left from s = {number(lost)} on. The closed form of the same step stays at "
            f"{number(float(closed.max()))} (float64)."
        )

    return draw(
        "plot-cancellation",
        "Cancellation in SOFIM's equation 6",
        alt="Relative error against s on two log axes. Equation 6 climbs along u(1+s) to total loss; "
        "the closed form stays flat at rounding level.",
        paint=paint,
    )


def _relative_error(computed: Array, m_hat: Array, rho: float) -> float:
    """Relative error in the maximum norm against the closed form in exact rationals."""
    exact = [Fraction(float(x)) for x in m_hat]
    denominator = Fraction(rho) + sum(x * x for x in exact)
    truth = [x / denominator for x in exact]
    error = max(abs(Fraction(float(c)) - t) for c, t in zip(computed, truth, strict=True))
    return float(error / max(map(abs, truth)))


def error_ratios(groups: Mapping[str, Sequence[RatioResult]]) -> Plot:
    """Every acceptance decision of the run, as a fraction of its threshold; one row per group."""
    total = sum(map(len, groups.values()))
    failed = sum(not ratio.passed for ratios in groups.values() for ratio in ratios)
    verdict = f"all but {failed} lie" if failed else "all lie"

    def paint(axes: Axes) -> str:
        axes.set_xscale("log")
        for row, ratios in enumerate(groups.values()):
            shares = np.array([_share(ratio) for ratio in ratios])
            heights = row + 0.28 * np.sin(np.arange(len(shares)) * _GOLDEN_ANGLE)
            passed = np.array([ratio.passed for ratio in ratios])
            axes.plot(shares[passed], heights[passed], "o", color=SERIES[0], markersize=3.2, alpha=0.7)
            axes.plot(shares[~passed], heights[~passed], "X", color=ALARM, markersize=6)
        axes.axvline(1.0, color=INK, linewidth=1.0, linestyle="--")
        axes.set_yticks(range(len(groups)), list(groups))
        axes.set_ylim(len(groups) - 0.5, -0.5)
        axes.set_xlim(_LEFT / 2, _RIGHT * 2)
        axes.set_xlabel("error over budget, over threshold (no unit)")
        axes.grid(visible=False, axis="y")
        return (
            f"The run took {count(total, 'acceptance decision')}; {verdict} left of the dashed line, where "
            "the error equals what the derived budget allows. Exact results sit on the left edge."
        )

    return draw(
        "plot-ratios",
        "Every error against what rounding allows",
        alt="Strip chart of all error ratios on a log axis, one row per kind of evidence and per precision, "
        "with the acceptance threshold as a dashed vertical line.",
        paint=paint,
    )


def _share(ratio: RatioResult) -> float:
    """Value over threshold, clipped to the drawn range; what is not a number counts as infinite."""
    share = ratio.value / ratio.threshold
    return _RIGHT if math.isnan(share) else min(max(share, _LEFT), _RIGHT)


def _ratios_by_group(results: VerifyResults) -> dict[str, list[RatioResult]]:
    groups: dict[str, list[RatioResult]] = {}
    for evidence in {e.path: e for claim in results.claims for e in claim.evidence}.values():
        groups.setdefault(evidence.kind.value, []).extend(evidence.ratios)
    for twin in results.twins:
        groups.setdefault(f"torch {twin.dtype}", []).append(twin.worst)
    return {group: ratios for group, ratios in groups.items() if ratios}
