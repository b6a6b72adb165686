"""The golden example of the isotropic curvature model, enclosed in exact rationals."""

import numpy as np
from flint import fmpq

from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import yes_no
from proofs_checks.symbolic.exact import rational
from reference.isotropic_curvature import optimal_spectrum, power_growth

__all__ = ["golden_example"]

#: Gradient spectrum and printed ratios of the optimum for quartic growth in dimension 4.
_GRADIENT, _PRINTED = (8, 4, 2, 1), ("3.98720", "2.76248", "1.75397")

#: Half a unit in the last printed digit, and the half-widths of the enclosures of the r_i and of R. The
#: slopes of r_i(R) are at most 0.033 and that of ``1 + sum r_i(R)^2`` is 0.37: 24 to 1 leaves room for both.
_HALF_UNIT, _WIDTH, _WIDTH_R = fmpq(1, 200_000), fmpq(1, 10**9), fmpq(24, 10**9)


@evidence(faults=("another-gradient", "without-the-trace"))
def golden_example(*, fault: str | None = None) -> Finding:
    """Gradient ``8:4:2:1``, ``H = r^4``: the optimum is ``3.98720:2.76248:1.75397:1`` to the last digit.

    Stationarity is ``4 T sigma_i + 8 sigma_i^3 = n (n + 2) s_i``, ``T = sum sigma^2``. In the ratios
    ``r_i = sigma_i / sigma_4`` and ``R = 1 + sum r_i^2`` it is ``q_i = 2 r_i^3 + R r_i - s_i (2 + R) = 0``,
    which has one root ``r_i(R)``, rising in R as long as ``r_i < s_i``. If ``q_i < 0`` at (low_i, R_low),
    then ``r_i(R_low) > low_i``, and with ``1 + sum low_i^2 >= R_low`` the map ``R -> 1 + sum r_i(R)^2`` lies
    above R at R_low; likewise below R at R_high. The optimum, unique because the program is strictly convex,
    is therefore between low and high. For ``H = r^2`` it is ``2 sigma_i / n = s_i``: the ratios of s.
    """
    gradient = (9, 4, 2, 1) if fault == "another-gradient" else _GRADIENT
    sigma = optimal_spectrum(np.array(gradient, dtype=np.float64), power_growth(exponent=4.0))
    centre = [rational(f"{float(x):.15f}") for x in sigma / sigma[-1]][:-1]
    weight = 0 if fault == "without-the-trace" else 1
    R = 1 + sum((x * x for x in centre), fmpq(0))
    ratios = []
    for side, sign in (("low", -1), ("high", 1)):
        r, edge = [x + sign * _WIDTH for x in centre], R + sign * _WIDTH_R
        q = [2 * x**3 + weight * edge * x - s * (2 + edge) for x, s in zip(r, _GRADIENT, strict=False)]
        back = 1 + sum((x * x for x in r), fmpq(0)) - edge
        ratios += [
            yes_no(f"r_i(R_{side}) inside", all(sign * value > 0 for value in q)),
            yes_no(f"R -> 1 + sum r_i(R)^2 points inside at R_{side}", sign * back <= 0),
            yes_no(f"r_i < s_i, {side}", all(x < s for x, s in zip(r, _GRADIENT, strict=False))),
        ]
    inside = all(
        abs(x - rational(text)) + _WIDTH <= _HALF_UNIT for x, text in zip(centre, _PRINTED, strict=True)
    )
    return Finding(
        (*ratios, yes_no("enclosure within half a printed unit", inside)),
        f"ratios {', '.join(f'{x:.9f}' for x in sigma / sigma[-1])} enclosed to 1e-9; the print is right",
    )
