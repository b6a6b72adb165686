"""PE-table: the published coefficient table from its recursion, and the numbers derived from it."""

import numpy as np
from numpy.typing import NDArray

from proofs_checks.adversarial.verdicts import DOUBLE
from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import ORDER_ONE, Ratio
from proofs_checks.reproduction.printed import agrees
from reference.polar import POLAR_EXPRESS, Polynomial, polar_express_coefficients, scalar_map

__all__ = ["table"]

Array = NDArray[np.float64]

_LOWER, _CUSHION = 1e-3, 0.02407327424182761

#: Minima of p_t(x) / x over (0, u_t], rows 1 to 6, and times u_t, rows 2 and 3.
_MINIMA, _SCALED_MINIMA = "0.2416 0.1198 0.1151 0.2831 0.6380 0.8911", "0.2385 0.2264"

#: Ranges of the composition of rows 1 to 5 and 1 to 6 on [1e-3, 1]; lower ends with safety 1.01; errors of
#: the optimum, which has no cushion.
_RANGES = "0.876441 1.123559 0.998815 1.001185"
_SAFE_LOWER_ENDS, _OPTIMAL_ERRORS = "0.852373 0.995592", "0.113448 0.000916"

#: First row without cushion, and with the cushion 1/10 of the paper's text.
_FIRST_WITHOUT, _FIRST_TENTH = "8.4703288 -25.1080747 18.6292756", "7.6814 -19.0315 13.3424"

#: Points on [1e-3, 1]: extrema of the composition are found to the square of their spacing.
_GRID = np.geomspace(_LOWER, 1.0, 20001)


@evidence(faults=("cushion-one-tenth", "safety-in-the-table", "lower-end-off"), scope="region")
def table(*, fault: str | None = None) -> Finding:
    """The recursion with cushion 0.0240733 gives the table; that cushion is the text's rule p(l)/p(u) = 1/10.

    Faults: cushion 1/10; the safety factor is applied; each l is 1 % too large.
    """
    cushion = 0.1 if fault == "cushion-one-tenth" else _CUSHION
    lower = 1.01 * _LOWER if fault == "lower-end-off" else _LOWER
    rows = polar_express_coefficients(
        lower, 1.0, steps=8, cushion=cushion, safety=1.01 if fault == "safety-in-the-table" else 1.0
    )
    relative = np.abs(np.array(rows) / np.array(POLAR_EXPRESS) - 1).max(axis=1)
    rounding = ORDER_ONE * DOUBLE
    ratios = [Ratio(f"row {t + 1}, relative", float(relative[t]), rounding) for t in range(6)]
    ends = _upper_ends(rows)
    ratios.append(
        Ratio("row 7, relative", float(relative[6]), DOUBLE * _exchange_condition(2 - ends[6], ends[6]))
    )
    minima = np.array([_least_slope(p, u) for p, u in zip(rows[:6], ends[:6], strict=True)])
    p, plain = rows[0], polar_express_coefficients(_CUSHION, 1.0, steps=1, cushion=0.0)
    low, high = scalar_map(np.array([_CUSHION, 1.0]), plain)
    five, six = scalar_map(_GRID, rows[:5]), scalar_map(_GRID, rows[:6])
    safe = [
        scalar_map(_GRID, polar_express_coefficients(_LOWER, 1.0, steps=k, safety=1.01)).min() for k in (5, 6)
    ]
    optimal = [
        1 - scalar_map(_LOWER, polar_express_coefficients(_LOWER, 1.0, steps=k, cushion=0.0)) for k in (5, 6)
    ]
    without = polar_express_coefficients(_LOWER, 1.0, steps=1, cushion=0.0)[0]
    tenth = polar_express_coefficients(_LOWER, 1.0, steps=1, cushion=0.1)[0]
    condition = max(abs(c) for c in p)  # of a sum of monomials on [0, 1]
    ratios += [
        Ratio("p(l) = 2/11 at the cushion", abs(float(low) - 2 / 11), rounding * condition),
        Ratio("p(u) = 20/11 at the cushion", abs(float(high) - 20 / 11), rounding * condition),
        agrees("minima of p_t(x)/x", minima, _MINIMA),
        agrees("the same times u_t, rows 2 and 3", (minima * ends[:6])[1:3], _SCALED_MINIMA),
        agrees("ranges of 5 and 6 rows", [five.min(), five.max(), six.min(), six.max()], _RANGES),
        agrees("lower ends with safety", safe, _SAFE_LOWER_ENDS),
        agrees("errors of the optimum", optimal, _OPTIMAL_ERRORS),
        agrees("first row without cushion", without, _FIRST_WITHOUT),
        agrees("first row with cushion 1/10", tenth, _FIRST_TENTH),
    ]
    return Finding(
        tuple(ratios),
        f"8 rows from the recursion: rows 1 to 6 within {relative[:6].max():.1e} relative, row 7 within "
        f"{relative[6]:.1e}; minima of p_t(x)/x " + ", ".join(f"{value:.4f}" for value in minima),
        figures={
            "rows 1 to 6": float(relative[:6].max()),
            "row 7": float(relative[6]),
            "least slope": float(minima.min()),
        },
    )


def _upper_ends(rows: tuple[Polynomial, ...]) -> Array:
    """u_1, ..., u_7 of the recursion ``l <- p(l)``, ``u = 2 - l``."""
    l, ends = _LOWER, [1.0]
    for p in rows[:6]:
        l = float(scalar_map(l, [p]))
        ends.append(2 - l)
    return np.array(ends)


def _exchange_condition(l: float, u: float) -> float:
    """Condition of the 4x4 system of the exchange, through which the table's float64 numbers went.

    In row 7 the four nodes lie within 0.3 % of each other. The print is 2.5e-11 from the exact recursion
    there.
    """
    x = np.array([l, (3 * l + u) / 4, (l + 3 * u) / 4, u])
    return float(np.linalg.cond(np.stack([x, x**3, x**5, [1.0, -1.0, 1.0, -1.0]], axis=-1)))


def _least_slope(p: Polynomial, u: float) -> float:
    """Minimum of the parabola ``a + b z + c z^2``, ``z = x^2``, over (0, u^2]."""
    a, b, c = p
    z = min(-b / (2 * c), u * u)
    return a + b * z + c * z * z
