"""Odd polynomials for the polar factor: the published sets, how they arise, what they do to a singular value.

Symbols: p an odd polynomial given by its coefficients of x, x^3, x^5, ...; l and u the ends of an interval of
singular values; E the error of a minimax polynomial.
"""

from collections.abc import Sequence
from math import comb
from numbers import Real

import numpy as np

from reference._arguments import Array, array, finite_result, fraction, integer, number, positive

__all__ = [
    "JORDAN_QUINTIC",
    "POLAR_EXPRESS",
    "Polynomial",
    "kim_oh_polynomial",
    "per_step",
    "polar_express_coefficients",
    "scalar_map",
    "with_safety",
]

#: Coefficients of x, x^3, x^5, ... of an odd polynomial.
Polynomial = tuple[float, ...]

#: Muon's quintic, which does not converge, by design: its fixed points are 0.868 and 1.264.
#: Source: Jordan et al., "Muon" (2024), orthogonalisation step.
JORDAN_QUINTIC: Polynomial = (3.4445, -4.7750, 2.0315)

#: The published polynomials for singular values in [1e-3, 1], before the safety factor; the last one repeats.
#: Source: Amsel, Persson, Musco, Gower, "The Polar Express" (arXiv 2505.16932), Appendix G.
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

#: Muon's step count. Source: Jordan et al., "Muon" (2024).
_MUON_STEPS = 5

#: From here on the minimax quintic on [l, u] is its limit to rounding ("The Polar Express", Appendix G).
_CONVERGED = 1 - 5e-6

#: Exchange rounds. The published rule stops when the error E moves by at most 1e-15; E settles too early for
#: l << u (it is 1 whatever the nodes are), while five rounds reach rounding from any l/u in (0, 1).
_EXCHANGE_ROUNDS = 8


def scalar_map(
    x: Array | float, polynomials: Polynomial | Sequence[Polynomial], *, steps: int | None = None
) -> Array:
    """What `newton_schulz` does to each singular value, without its normalisation.

    Parameters
    ----------
    x : (...) float64 or float
        Singular values, any shape. Not modified.
    polynomials, steps
        As in `newton_schulz`.

    Returns
    -------
    y : (...) float64
        The composed polynomial, elementwise.

    Raises
    ------
    ValueError
        If `x` or a coefficient is out of order, or a value leaves the range of float64.

    Notes
    -----
    Source: an odd polynomial ``p(X X^T) X`` acts on singular values only; Kim and Oh (arXiv 2601.19156).
    Accuracy: each step injects a few units of roundoff times the polynomial with absolute coefficients; later
    steps amplify that by their slope.
    """
    y = array("x", x if isinstance(x, np.ndarray) else np.asarray(number("x", x)))
    with np.errstate(over="ignore", invalid="ignore"):
        for p in per_step(polynomials, steps):
            y = y * np.polynomial.polynomial.polyval(y * y, p)
    return finite_result("x", y, "be in the range where the polynomials do not diverge")


def kim_oh_polynomial(k: int) -> Polynomial:
    """Taylor polynomial of ``lambda^(-1/2)`` at 1, ``p_k(lambda) = sum_{i<=k} c_i (1 - lambda)^i``.

    Parameters
    ----------
    k : int
        Degree in lambda, from 1 (the cubic Newton-Schulz step) to 1022 (beyond, coefficients may overflow).

    Returns
    -------
    p : tuple of k + 1 floats
        Coefficients of 1, lambda, ..., lambda^k, so that ``X <- p_k(X X^T) X``: correctly rounded.

    Raises
    ------
    ValueError
        If `k` is outside 1 to 1022.

    Notes
    -----
    Source: Kim and Oh (arXiv 2601.19156), ``c_i = (2i)! / (4^i (i!)^2)``. They call the degree kappa.
    Accuracy: every coefficient is correctly rounded.
    """
    k = integer("k", k, minimum=1)
    if k > 1022:  # |coefficient| <= sum_i binomial(i, j) < 2^(k + 1)
        raise ValueError(f"k must be at most 1022, got {k}")
    c = [comb(2 * i, i) * 4 ** (k - i) for i in range(k + 1)]  # over the common denominator 4^k
    return tuple(
        (-1) ** j * (sum(c[i] * comb(i, j) for i in range(j, k + 1)) / 4**k) for j in range(k + 1)
    )  # Python divides integers with one correct rounding


def polar_express_coefficients(
    lower: float = 1e-3,
    upper: float = 1.0,
    *,
    steps: int = 8,
    degree: int = 5,
    cushion: float = 0.02407327424182761,
    safety: float = 1.0,
) -> tuple[Polynomial, ...]:
    """Greedy, hence optimal, sequence of odd polynomials for singular values in ``[lower, upper]``.

    Parameters
    ----------
    lower, upper : float
        ``0 < lower <= upper``; `upper` from 2^-200 to 2^200, so that its fifth power is in range.
    steps : int
        Number of polynomials, at least 1.
    degree : int
        3 (closed form) or 5 (exchange algorithm).
    cushion : float
        In [0, 1). Where ``l < cushion * u`` the quintic is built for ``[cushion * u, u]`` and rescaled so
        that p(l) and p(u) are symmetric about 1; 0 switches this off, and only then is the sequence optimal.
        The paper's text gives 1/10, its Appendix G this number; they are one rule (at this l/u the minimax
        quintic has p(l)/p(u) = 1/10). The rule is the quintic's: with `degree` 3 the maximum is inside the
        interval, not at u, and no cushion is used.
    safety : float
        At least 1: every polynomial but the last becomes ``p(x / safety)``. Applied to the last as well, it
        would move the fixed point away from 1.

    Returns
    -------
    polynomials : tuple of tuples of float
        Coefficients of x, x^3 (, x^5), one tuple per step.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Notes
    -----
    Source: Amsel, Persson, Musco, Gower, "The Polar Express" (arXiv 2505.16932), Theorem 4.1, Appendix G.
    Accuracy: with the defaults, rows 1 to 7 agree with a 60-digit computation to 1e-13 relative. The
    published rows agree with them to 1e-14, except row 7, which is itself rounded by 3e-11, and row 8, which
    prints the limit and not the recursion's value, 5e-9 away.
    """
    l, u = positive("lower", lower), positive("upper", upper)
    if l > u:
        raise ValueError(f"lower must be at most upper, got {l} and {u}")
    if not 2.0**-200 <= u <= 2.0**200:
        raise ValueError(f"upper must be between 2^-200 and 2^200, got {u}")
    steps = integer("steps", steps, minimum=1)
    if degree not in (3, 5):
        raise ValueError(f"degree must be 3 or 5, got {degree!r}")
    cushion = fraction("cushion", cushion)
    if number("safety", safety) < 1:
        raise ValueError(f"safety must be at least 1, got {safety}")
    rows = []
    for _ in range(steps):
        p = _cubic(l, u) if degree == 3 else _cushioned_quintic(l, u, cushion)
        rows.append(p)
        l = float(scalar_map(l, [p]))
        u = 2 - l
    return with_safety(rows, safety)


def per_step(polynomials: Polynomial | Sequence[Polynomial], steps: int | None) -> list[Polynomial]:
    """The polynomial of every step, checked."""
    if not isinstance(polynomials, Sequence) or isinstance(polynomials, str):
        raise TypeError(
            f"polynomials must be a tuple of coefficients or a sequence of such, got {polynomials!r}"
        )
    single = len(polynomials) > 0 and isinstance(polynomials[0], Real)
    rows = [_polynomial(p) for p in ([polynomials] if single else polynomials)]
    if not rows:
        raise ValueError("polynomials must hold at least one polynomial, got none")
    default = _MUON_STEPS if single else len(rows)
    count = default if steps is None else integer("steps", steps, minimum=0)
    return [rows[min(j, len(rows) - 1)] for j in range(count)]


def _polynomial(p: object) -> Polynomial:
    """A tuple of at least one finite coefficient."""
    if not isinstance(p, Sequence) or isinstance(p, str):
        raise TypeError(f"polynomials must hold tuples of coefficients, got {p!r}")
    if len(p) == 0:
        raise ValueError("polynomials must hold at least one coefficient each, got none")
    return tuple(number("polynomials", c) for c in p)


def _cubic(l: float, u: float) -> Polynomial:
    """Minimax odd cubic on [l, u]: ``theta * p_NS(alpha x)``, ``p_NS(x) = 3/2 x - 1/2 x^3``."""
    r = l / u  # on [r, 1], then x -> x / u
    alpha = np.sqrt(3 / (1 + r + r * r))
    theta = 4 / (2 + r * (1 + r) * alpha**3)
    return float(1.5 * theta * alpha / u), float(-0.5 * theta * (alpha / u) ** 3)


def _cushioned_quintic(l: float, u: float, cushion: float) -> Polynomial:
    """Minimax odd quintic on [max(l, cushion u), u], recentred on the true l if the cushion was used."""
    p = _quintic(max(l, cushion * u), u)
    if l >= cushion * u:
        return p
    low, high = scalar_map(np.array([l, u]), [p])
    return tuple(float(c * 2 / (low + high)) for c in p)


def _quintic(l: float, u: float) -> Polynomial:
    """Minimax odd quintic on [l, u] by exchange: p is 1-E, 1+E, 1-E, 1+E at l < x1 < x2 < u.

    Solved on [l/u, 1] for ``p(x) = x (1 + d + c1 y + c2 y^2)``, ``y = 1 - x^2``: the powers of y keep the
    system solvable to full precision as l -> u, where powers of x lose ``(1 - l/u)^-2`` units of roundoff.
    """
    r = l / u
    if r >= _CONVERGED:
        return 15 / 8 / u, -10 / 8 / u**3, 3 / 8 / u**5
    x = np.array([r, (3 * r + 1) / 4, (r + 3) / 4, 1.0])
    signs = np.array([1.0, -1.0, 1.0, -1.0])
    for _ in range(_EXCHANGE_ROUNDS):
        y = (1 - x) * (1 + x)
        d, c1, c2, _ = np.linalg.solve(np.stack([x, x * y, x * y * y, signs], axis=-1), 1 - x)
        x[1:3] = np.sqrt(1 - np.sort(np.roots([5 * c2, 3 * c1 - 4 * c2, 1 + d - 2 * c1]))[::-1])  # p' = 0
    return float(1 + d + c1 + c2) / u, float(-c1 - 2 * c2) / u**3, float(c2) / u**5


def with_safety(rows: Sequence[Polynomial], safety: float) -> tuple[Polynomial, ...]:
    """``p(x / safety)`` for all but the last polynomial."""
    safe = [tuple(c / safety ** (2 * i + 1) for i, c in enumerate(p)) for p in rows[:-1]]
    return (*safe, tuple(rows[-1]))
