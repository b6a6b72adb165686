"""Coefficients of the odd polynomials behind Newton-Schulz iterations; public through `torch_impl.polar`."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import cast

import torch

from torch_impl import _checks

__all__ = [
    "JORDAN_QUINTIC",
    "POLAR_EXPRESS",
    "Polynomial",
    "kim_oh_polynomial",
    "polar_express_coefficients",
    "schedule",
    "with_safety",
]

#: Coefficients of x, x^3, x^5, ... of an odd polynomial.
Polynomial = tuple[float, ...]

#: Source: Jordan et al., "Muon" (2024). Not convergent, by design.
JORDAN_QUINTIC: Polynomial = (3.4445, -4.7750, 2.0315)

#: Source: Amsel et al., "The Polar Express", arXiv 2505.16932, coefficient list for lower = 1e-3, as printed,
#: before the safety factor.
POLAR_EXPRESS: tuple[Polynomial, ...] = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
    (1.875, -1.25, 0.375),
)

#: Steps Muon takes with a single polynomial. Source: Jordan et al., "Muon" (2024).
MUON_STEPS = 5

#: At this ratio low / high the exchange stops and the limit for low = high is used. Source: as above.
DEGENERATE_RATIO = 1.0 - 5e-6

#: The levelled error of the exchange can only grow; at a smaller gain than this it stops. Source: as above.
EXCHANGE_TOLERANCE = 1e-15


def kim_oh_polynomial(k: int) -> Polynomial:
    """Taylor polynomial of ``lambda**-0.5`` at 1 of degree k, in powers of lambda.

    Parameters
    ----------
    k : int
        At least 1. 1 is the classical cubic (1.5, -0.5), 2 the quintic (15/8, -10/8, 3/8).

    Returns
    -------
    p : tuple of k + 1 floats
        Correctly rounded; ``X <- p_k(X X^T) X`` is `newton_schulz` with these coefficients.

    Raises
    ------
    TypeError, ValueError
        If k is not an integer of at least 1.

    Notes
    -----
    Source: Kim and Oh, arXiv 2601.19156, ``p_k(lambda) = sum_i c_i (1 - lambda)^i``,
    ``c_i = (2i)! / (4^i (i!)^2)``.
    """
    _checks.count("k", k, at_least=1)
    c = [Fraction(math.comb(2 * i, i), 4**i) for i in range(k + 1)]
    return tuple(
        float((-1) ** j * sum(c[i] * math.comb(i, j) for i in range(j, k + 1))) for j in range(k + 1)
    )


def polar_express_coefficients(
    lower: float = 1e-3,
    upper: float = 1.0,
    *,
    steps: int = 8,
    degree: int = 5,
    cushion: float = 0.02407327424182761,
    safety: float = 1.0,
) -> tuple[Polynomial, ...]:
    """Greedy minimax polynomials that take singular values in [lower, upper] towards 1.

    Parameters
    ----------
    lower, upper : float
        ``0 < lower <= upper``: where the singular values start.
    steps : int
        Number of polynomials, at least 1.
    degree : {3, 5}
        Degree of each polynomial.
    cushion : float
        In [0, 1), quintics only: below ``cushion * upper`` the polynomial is built for the interval from
        there on and recentred, which bounds its growth. 0 gives the optimum of Theorem 4.1.
    safety : float
        At least 1: the argument of every polynomial but the last is divided by it.

    Returns
    -------
    polynomials : tuple of `steps` tuples

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.

    Notes
    -----
    Source: Amsel et al., arXiv 2505.16932, Theorem 4.1, section 4 and Appendix G.
    """
    _checks.number("upper", upper, above=0.0)
    _checks.number("lower", lower, above=0.0, at_most=upper)
    _checks.count("steps", steps, at_least=1)
    _checks.number("cushion", cushion, at_least=0.0, below=1.0)
    _checks.number("safety", safety, at_least=1.0)
    if degree not in (3, 5):
        raise ValueError(f"degree must be 3 or 5, got {degree!r}")
    polynomials: list[Polynomial] = []
    low, high = lower, upper
    for _ in range(steps):
        p = _best_cubic(low, high) if degree == 3 else _best_quintic(low, high, cushion)
        polynomials.append(p)
        low = _value(p, low)
        high = 2.0 - low
    return with_safety(polynomials, safety)


def schedule(
    polynomials: Polynomial | Sequence[Polynomial], steps: int | None = None
) -> tuple[Polynomial, ...]:
    """One checked polynomial per step, from a single polynomial or a sequence of them."""
    if len(polynomials) == 0:
        raise ValueError("polynomials must hold at least one coefficient, got none")
    single = isinstance(polynomials[0], (int, float))
    rows = cast("Sequence[Polynomial]", [polynomials] if single else polynomials)
    checked = [tuple(_checks.number("polynomials", c) for c in row) for row in rows]
    if not all(checked):
        raise ValueError("polynomials must each hold at least one coefficient, got an empty one")
    if steps is None:
        steps = MUON_STEPS if single else len(checked)
    _checks.count("steps", steps, at_least=0)
    return tuple(checked[min(step, len(checked) - 1)] for step in range(steps))


def _value(polynomial: Polynomial, x: float) -> float:
    return sum(c * x ** (2 * i + 1) for i, c in enumerate(polynomial))


def with_safety(polynomials: Sequence[Polynomial], safety: float) -> tuple[Polynomial, ...]:
    """``p(x / safety)`` for all but the last polynomial."""
    *early, last = polynomials
    return (*(tuple(c / safety ** (2 * i + 1) for i, c in enumerate(p)) for p in early), tuple(last))


def _best_cubic(low: float, high: float) -> Polynomial:
    """Closed form of the odd cubic closest to 1 on [low, high]."""
    alpha = math.sqrt(3.0 / (high**2 + low * high + low**2))
    theta = 4.0 / (2.0 + low * high * (low + high) * alpha**3)
    return (1.5 * theta * alpha, -0.5 * theta * alpha**3)


def _best_quintic(low: float, high: float, cushion: float) -> Polynomial:
    """Odd quintic closest to 1 on [max(low, cushion * high), high], recentred for the true `low`."""
    start = max(low, cushion * high)
    if start / high >= DEGENERATE_RATIO:
        return (1.875 / high, -1.25 / high**3, 0.375 / high**5)
    p = _exchange(start, high)
    if start > low:
        centre = 2.0 / (_value(p, low) + _value(p, high))
        p = tuple(centre * c for c in p)
    return p


def _exchange(low: float, high: float) -> Polynomial:
    """Equioscillation of ``1 - p`` on four nodes, the inner two moved to the extrema until they stay."""
    inner = ((3.0 * low + high) / 4.0, (low + 3.0 * high) / 4.0)
    previous = -math.inf
    while True:
        x = torch.tensor([low, *inner, high], dtype=torch.float64)
        signs = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64)
        system = torch.stack([x, x**3, x**5, signs], dim=1)
        a, b, c, error = torch.linalg.solve(system, torch.ones(4, dtype=torch.float64)).tolist()
        discriminant = 9.0 * b * b - 20.0 * a * c
        if error - previous <= EXCHANGE_TOLERANCE or discriminant <= 0.0:
            return (a, b, c)
        root = math.sqrt(discriminant)
        inner = (math.sqrt((-3.0 * b - root) / (10.0 * c)), math.sqrt((-3.0 * b + root) / (10.0 * c)))
        previous = error
