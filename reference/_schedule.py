"""What an orthogonalisation schedule is and does: one odd map of the singular values after another.

Symbols: x a singular value after the start has been divided by its norm; l and u the ends of an interval of
them; p the odd polynomial of a step; (a, b, c) the weights of a Halley step ``x (a + b x^2) / (1 + c x^2)``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from reference._arguments import Array, array, finite_result, integer, non_negative, number, positive
from reference._polynomials import Polynomial, per_step, scalar_map
from reference.polar import newton_schulz

__all__ = [
    "Schedule",
    "apply",
    "chebyshev_cubic",
    "halley_weights",
    "odd_polynomial",
    "scalar",
    "with_steps",
]


@dataclass(frozen=True)
class Schedule:
    """One map per step, what it starts from, and where the numbers come from.

    Attributes
    ----------
    name : str
        As in `SCHEDULES`.
    polynomials : tuple of tuples of float
        Coefficients of x, x^3, x^5, ... for every step, in order, as they run.
    interval : (float, float)
        ``0 < l <= u``: the singular values of the start for which the schedule is meant or judged.
    source : str
        Work and place.
    denominators : tuple of float
        Empty for polynomials. For rational steps one ``c > 0`` per step: the polynomial, then of degree 3, is
        divided by ``1 + c x^2``.
    safety : float
        The factor s in ``p(x / s)`` that is contained in the coefficients; 1 for none.
    shift, floor : float
        The start is ``M / max(|M|_F + shift, floor)``.
    note : str
        What is ours, partial or second hand.

    Raises
    ------
    ValueError
        If a coefficient, the interval or a scalar is out of order.

    Notes
    -----
    Source: the form common to Muon (2024), The Polar Express (arXiv 2505.16932) and Halley's iteration.
    """

    name: str
    polynomials: tuple[Polynomial, ...]
    interval: tuple[float, float]
    source: str
    denominators: tuple[float, ...] = ()
    safety: float = 1.0
    shift: float = 0.0
    floor: float = 0.0
    note: str = ""

    def __post_init__(self) -> None:
        if not (
            isinstance(self.polynomials, Sequence) and all(isinstance(p, tuple) for p in self.polynomials)
        ):
            raise TypeError(
                f"polynomials must be a tuple of tuples of coefficients, got {self.polynomials!r}"
            )
        per_step(self.polynomials, None)
        if not (isinstance(self.interval, Sequence) and len(self.interval) == 2):
            raise ValueError(f"interval must be a pair (l, u), got {self.interval!r}")
        l, u = (positive("interval", end) for end in self.interval)
        if l > u:
            raise ValueError(f"interval must have its lower end first, got ({l}, {u})")
        if number("safety", self.safety) < 1:
            raise ValueError(f"safety must be at least 1, got {self.safety}")
        non_negative("shift", self.shift)
        non_negative("floor", self.floor)
        self._check_denominators()

    def _check_denominators(self) -> None:
        if not self.denominators:
            return
        if len(self.denominators) != self.steps or any(len(p) != 2 for p in self.polynomials):
            raise ValueError(
                "denominators must be one per step over polynomials of two coefficients, got "
                f"{len(self.denominators)} over {[len(p) for p in self.polynomials]}"
            )
        for c in self.denominators:
            positive("denominators", c)

    @property
    def steps(self) -> int:
        """Number of maps."""
        return len(self.polynomials)

    @property
    def degree(self) -> int:
        """Highest degree of a polynomial (of a numerator)."""
        return 2 * max(len(p) for p in self.polynomials) - 1


def scalar(x: Array | float, schedule: Schedule) -> Array:
    """What the steps of a schedule do to each singular value of the start.

    Parameters
    ----------
    x : (...) float64 or float
        Singular values after normalisation, any shape. Not modified.
    schedule : Schedule
        The maps.

    Returns
    -------
    y : (...) float64
        The composed map, elementwise.

    Raises
    ------
    ValueError
        If `x` is not finite or a value leaves the range of float64.

    Notes
    -----
    Source: an odd map acts on singular values only; Higham, "Functions of Matrices" (2008), section 8.3.
    Accuracy: polynomials as `reference.polar.scalar_map`; rational steps to order ``steps * u`` relative.
    """
    if not schedule.denominators:
        return scalar_map(x, schedule.polynomials)
    y = array("x", x if isinstance(x, np.ndarray) else np.asarray(number("x", x)))
    with np.errstate(over="ignore", invalid="ignore"):
        for (a, b), c in zip(schedule.polynomials, schedule.denominators, strict=True):
            z = y * y
            y = y * (a + b * z) / (1 + c * z)
    return finite_result("x", y, "have squares in the range of float64")


def apply(M: Array, schedule: Schedule) -> Array:
    """The steps of a schedule on a matrix, from ``M / max(|M|_F + shift, floor)``.

    Parameters
    ----------
    M : (..., m, n) float64
        Momentum, any scale. Not modified.
    schedule : Schedule
        The maps, shift and floor.

    Returns
    -------
    X : (..., m, n) float64
        The singular vectors of `M` with the values `scalar` gives. Zero and empty map to themselves.

    Raises
    ------
    ValueError
        If `M` is not a finite float64 matrix, or the iteration leaves the range of float64.

    Notes
    -----
    Source: Jordan et al., "Muon" (2024), for polynomials; Nakatsukasa, Bai, Gygi, "Optimizing Halley's
    iteration for computing the matrix polar decomposition" (2010), the inverse-free form, for rational steps.
    Accuracy: polynomials as `reference.polar.newton_schulz`; rational steps that map the interval into [0,
    1], at full rank, to order ``steps * max(m, n) * u`` over the least singular value of the normalised
    start, in Frobenius norm.
    """
    steps = 0 if schedule.denominators else None
    X = newton_schulz(M, schedule.polynomials, steps=steps, shift=schedule.shift, floor=schedule.floor)
    if not schedule.denominators:
        return X
    if X.size == 0:
        return X
    wide = X.shape[-2] < X.shape[-1]
    X = X.mT if wide else X
    for (a, b), c in zip(schedule.polynomials, schedule.denominators, strict=True):
        X = _halley_step(X, a, b, c)
    return X.mT if wide else X


def with_steps(schedule: Schedule, *, steps: int) -> Schedule:
    """The first `steps` maps, or all and then the last one again.

    Parameters
    ----------
    schedule : Schedule
        Not modified.
    steps : int
        At least 1.

    Returns
    -------
    schedule : Schedule
        Of that many steps, otherwise the same.

    Raises
    ------
    ValueError
        If `steps` is below 1.

    Notes
    -----
    Source: The Polar Express (arXiv 2505.16932), Appendix G, repeats the last row.
    Accuracy: exact, a selection.
    """
    steps = integer("steps", steps, minimum=1)
    maps = tuple(per_step(schedule.polynomials, steps))
    c = schedule.denominators
    return replace(schedule, polynomials=maps, denominators=(c + c[-1:] * steps)[:steps])


def odd_polynomial(coefficients: Sequence[float]) -> Polynomial:
    """The odd coefficients of a polynomial given by all of its coefficients.

    Parameters
    ----------
    coefficients : sequence of float
        Of 1, x, x^2, x^3, ...; those of even powers must be 0.

    Returns
    -------
    p : tuple of float
        Of x, x^3, x^5, ...

    Raises
    ------
    ValueError
        If there is no odd coefficient, one is not finite, or one of an even power is not 0.

    Notes
    -----
    Source: only odd maps act on singular values as ``U f(S) V^T``; Higham (2008), section 8.3.
    Accuracy: exact, a selection.
    """
    values = [number("coefficients", c) for c in coefficients]
    if any(values[::2]):
        raise ValueError(f"coefficients must be those of an odd polynomial, got even powers {values[::2]}")
    if not values[1::2]:
        raise ValueError("coefficients must hold one of an odd power, got none")
    return tuple(values[1::2])


def chebyshev_cubic(lower: float, upper: float) -> Polynomial:
    """The odd cubic closest to 1 on an interval, by the closed form of CANS.

    ``2 ((l^2 + l u + u^2) x - x^3) / (2 e^3 + l u (l + u))`` with ``e^2 = (l^2 + l u + u^2) / 3``.

    Parameters
    ----------
    lower, upper : float
        ``0 < lower <= upper``, cubes in the range of float64.

    Returns
    -------
    p : (float, float)
        Coefficients of x and x^3; p is 1 - E at both ends and 1 + E at e, ``1 + E = 4 e^3 / (2 e^3 + s)``.

    Raises
    ------
    ValueError
        If the ends are not positive and in order.

    Notes
    -----
    Source: Grishina, Smirnov, Rakhuba (arXiv 2506.10935), the third-order case of Chebyshev's alternance
    theorem; formula re-derived here. The same polynomial as Polar Express's of degree 3.
    Accuracy: relative errors of order u.
    """
    l, u = positive("lower", lower), positive("upper", upper)
    if l > u:
        raise ValueError(f"lower must be at most upper, got {l} and {u}")
    square = l * l + l * u + u * u
    scale = 2 / (2 * (square / 3) ** 1.5 + l * u * (l + u))
    return scale * square, -scale


def halley_weights(lower: float, *, steps: int) -> tuple[tuple[float, float, float], ...]:
    """Weights (a, b, c) of the dynamically weighted Halley iteration on ``[lower, 1]``.

    Parameters
    ----------
    lower : float
        In (0, 1], at least 1e-75 so that its fourth power is in range.
    steps : int
        At least 1.

    Returns
    -------
    weights : tuple of (float, float, float)
        ``x <- x (a + b x^2) / (1 + c x^2)``, one triple per step; each maps ``[l, 1]`` into ``[l', 1]`` with
        the largest l'. In the limit (3, 1, 3), Halley's iteration.

    Raises
    ------
    ValueError
        If `lower` or `steps` is out of range.

    Notes
    -----
    Source: Nakatsukasa, Bai, Gygi, "Optimizing Halley's iteration" (SIAM J. Matrix Anal. Appl. 31, 2010).
    ``a = h(l)``, ``b = (a - 1)^2 / 4``, ``c = a + b - 1``, with
    ``h = sqrt(1 + d) + sqrt(8 - 4 d + 8 (2 - l^2) / (l^2 sqrt(1 + d))) / 2``, ``d^3 = 4 (1 - l^2) / l^4``.
    Accuracy: relative errors of order ``steps * u / max(1 - l, u)^(1/3)``, l the lower end of that step: the
    third root magnifies the rounding of l near 1.
    """
    l = positive("lower", lower)
    if not 1e-75 <= l <= 1:
        raise ValueError(f"lower must be between 1e-75 and 1, got {l}")
    weights = []
    for _ in range(integer("steps", steps, minimum=1)):
        z = l * l
        d = float(np.cbrt(4 * (1 - z) / (z * z)))
        root = (1 + d) ** 0.5
        a = root + (8 - 4 * d + 8 * (2 - z) / (z * root)) ** 0.5 / 2
        b = (a - 1) ** 2 / 4
        weights.append((a, b, a + b - 1))
        l = min(1.0, l * (a + b * z) / (1 + (a + b - 1) * z))
    return tuple(weights)


def _halley_step(X: Array, a: float, b: float, c: float) -> Array:
    """``X (a + b X^T X) (1 + c X^T X)^-1`` for tall X, by QR: no inverse of a matrix as large as c."""
    m, n = X.shape[-2:]
    identity = np.broadcast_to(np.eye(n), (*X.shape[:-2], n, n))
    Q = np.linalg.qr(np.concatenate([c**0.5 * X, identity], axis=-2))[0]
    return b / c * X + (a - b / c) / c**0.5 * (Q[..., :m, :] @ Q[..., m:, :].mT)
