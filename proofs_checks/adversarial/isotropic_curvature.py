"""The isotropic curvature model under search: what smooth growth and what a kink do to a spectrum.

Expectations are taken on `reference.isotropic_curvature.sphere_rule`. Its second moments are exact, so that
`kink_slopes` certifies flattening on the rule as it does on the sphere.
"""

import numpy as np
from numpy.typing import NDArray

from proofs_checks.adversarial.verdicts import DOUBLE, at_least, at_most
from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import ORDER_ONE
from reference.isotropic_curvature import (
    kink_slopes,
    kinked_growth,
    objective,
    optimal_spectrum,
    power_growth,
)

__all__ = ["full_flattening", "kink_of_two", "partial_flattening"]

Array = NDArray[np.float64]

#: Points per dimension: powers up to 8 and smoothed kinks of width 0.1 are resolved in dimensions 2 to 4.
_NODES = 12

#: How much of the slopes that `kink_slopes` asks for the kink has beyond them.
_SPARE = 0.2

#: Singular values closer than this factor are not asked to come visibly closer.
_APART = 1.05

#: For two singular values the threshold is sharp: tried this much inside and outside of it, relative.
_INSIDE, _OUTSIDE = 0.98, 1.02


@evidence(faults=("slopes-too-close", "slopes-above-the-sum"), scope="region")
def full_flattening(*, fault: str | None = None) -> Finding:
    """A kink whose slopes span `kink_slopes` makes a flat spectrum optimal: a search finds nothing below it.

    Spectra around the flat one at every distance from 1e-6 to 10, for gradients of dimension 2 to 4 that ask
    for positive slopes. Faults: slopes that span a tenth of what is asked for; slopes above the sum of s.
    """
    rng = np.random.default_rng(20240811)
    ratios, tried, condition = [], 0, 1.0
    for n in (2, 3, 4):
        for _ in range(4):
            s = 1 + 1.2 * rng.random(n) / n
            u = kink_slopes(s)
            low, high = (1 - _SPARE) * u.min(), (1 + _SPARE) * u.max()
            if fault == "slopes-too-close":
                low, high = (s.sum() + 0.1 * (slope - s.sum()) for slope in (u.min(), u.max()))
            if fault == "slopes-above-the-sum":
                low, high = 1.1 * s.sum(), 2 * high
            growth = kinked_growth(at=1.0, low=float(low), high=float(high))
            others = np.abs(1 + 10.0 ** rng.uniform(-6, 1, (400, 1)) * rng.standard_normal((400, n)))
            others[:20] = np.linspace(0.5, 1.5, 20)[:, None]
            others[20:60] = 1 + np.linspace(-0.1, 0.1, 40)[:, None] * (s - s.mean()) / np.ptp(s)
            flat = objective(np.ones(n), s, growth, nodes=_NODES)
            values = objective(others, np.broadcast_to(s, others.shape), growth, nodes=_NODES)
            rounding = ORDER_ONE * n * DOUBLE * (np.abs(values) + others @ s)
            ratios.append(
                at_least(f"no spectrum below the flat one, n = {n}", values, flat, rounding=rounding)
            )
            tried, condition = tried + len(others), max(condition, float(s.max() / s.min()))
    return Finding(
        tuple(ratios),
        f"{len(ratios)} gradients of condition up to {condition:.2f}, {tried} other spectra: none below the "
        "flat one",
        figures={"spectra": float(tried), "condition": condition},
    )


@evidence(faults=("quadratic", "kinked"), scope="region")
def partial_flattening(*, fault: str | None = None) -> Finding:
    """Smooth growth, powers from 2.5 to 8 and smoothed kinks: ratios closer than the gradient's, never 1.

    Random spectra of dimension 2 to 4. Faults: quadratic growth, which keeps the ratios; a true kink's
    optimum, the flat spectrum.
    """
    rng = np.random.default_rng(20240812)
    closest, farthest, problems = np.inf, 0.0, 0
    ratios = []
    for n in (2, 3, 4):
        s = np.sort(10.0 ** rng.uniform(-0.5, 0.5, (8, n)), axis=-1)[:, ::-1].copy()
        s = s[(s[:, :-1] > _APART * s[:, 1:]).all(axis=-1)]
        growths = [power_growth(exponent=p) for p in (2.5, 3.0, 4.0, 8.0)]
        growths += [kinked_growth(at=1.0, low=1.0, high=40.0, width=width) for width in (0.3, 0.1)]
        if fault == "quadratic":
            growths[0] = power_growth(exponent=2.0)
        for growth in growths:
            sigma = optimal_spectrum(s, growth, nodes=_NODES)
            if fault == "kinked":
                sigma = np.ones_like(s)
            kept = np.diff(np.log(sigma)) / np.diff(np.log(s))  # 1: as the gradient; 0: flat
            # Newton's method ends within rounding times the condition of its Hessian, here spread
            spread = (s[:, :1] / s[:, -1:]) ** 2
            rounding = ORDER_ONE * n * _NODES * DOUBLE * spread / np.abs(np.diff(np.log(s)))
            margin = 2 * rounding
            ratios += [
                at_most("ratios closer than the gradient's", kept + margin, 1.0, rounding=rounding),
                at_least("ratios not equal", kept - margin, 0.0, rounding=rounding),
            ]
            closest, farthest = min(closest, float(kept.min())), max(farthest, float(kept.max()))
            problems += len(s)
    return Finding(
        tuple(ratios),
        f"{problems} programs: log-ratios kept between {closest:.3f} and {farthest:.3f} of the gradient's",
        figures={"least_kept": closest, "most_kept": farthest},
    )


@evidence(faults=("parabola", "jump-doubled"), scope="region")
def kink_of_two(*, fault: str | None = None) -> Finding:
    """Two singular values: a kink with slopes a < b flattens iff ``s_1 - s_2 <= (b - a)/pi sin(pi x)``.

    ``x = (s_1 + s_2 - a) / (b - a)``: with ``t_1 = cos^2`` of a uniform angle, ``E[h t_1]`` for given
    ``E h = s_1 + s_2`` is largest for h = b on ``|angle| < pi x / 2`` and a elsewhere. So a kink alone is not
    enough: with the sum outside [a, b], or a jump below ``pi (s_1 - s_2)``, it flattens nothing. Just inside
    the threshold no spectrum near the flat one is better, just outside one is. Faults: a parabola for the
    sine; twice the jump.
    """
    rng = np.random.default_rng(20240813)
    problems, nodes = 60, 600
    low, jump, x = rng.uniform(0, 2, problems), rng.uniform(1, 4, problems), rng.uniform(0.1, 0.9, problems)
    limit = jump / np.pi * (np.pi * x * (1 - x) if fault == "parabola" else np.sin(np.pi * x))
    if fault == "jump-doubled":
        limit = 2 * limit
    total = low + x * jump
    # the direction of descent: h changes where the angle is pi x / 2, so w = (tau_2, -tau_1) up to scale
    tau = np.cos(np.pi * x / 2) ** 2
    direction = np.stack([1 - tau, -tau], axis=-1)
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    around = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    steps = 10.0 ** np.linspace(-3, -1, 5)
    gain = {}
    for share in (_INSIDE, _OUTSIDE):
        s = np.stack([total + share * limit, total - share * limit], axis=-1) / 2
        found = []
        for i in range(problems):
            growth = kinked_growth(at=1.0, low=float(low[i]), high=float(low[i] + jump[i]))
            spectra = 1 + steps[:, None, None] * np.concatenate([direction[i : i + 1], around])
            values = objective(spectra, np.broadcast_to(s[i], spectra.shape), growth, nodes=nodes)
            flat = objective(np.ones(2), s[i], growth, nodes=nodes)
            found.append(((flat - values) / steps[:, None]).max() / limit[i])
        gain[share] = np.array(found)
    # the rule has a point within pi / nodes of any angle, which misplaces that much of the jump
    rule = jump / limit / nodes**2 * np.pi**2
    return Finding(
        (
            at_most("nothing is gained just inside", gain[_INSIDE], 0.0, rounding=rule),
            at_least("something is gained just outside", gain[_OUTSIDE] - rule, 0.0, rounding=0.0),
        ),
        f"{problems} kinks: at {_INSIDE} of the threshold nothing is gained by unequal singular values, at "
        f"{_OUTSIDE} at least {gain[_OUTSIDE].min():.1e} of it per unit of change",
        figures={"inside": float(gain[_INSIDE].max()), "outside": float(gain[_OUTSIDE].min())},
    )
