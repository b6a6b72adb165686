"""Newton-Schulz polynomials: Kim-Oh's lemmas for every degree, and Polar Express in closed form for the
cubic.

``c_i = (2i)!/(4^i (i!)^2)``, ``w(x) = sum_{i <= k} c_i x^i``, ``p_k(lambda) = w(1 - lambda)``. Statements
about all ``k`` are proved coefficient by coefficient with ``k`` and ``i`` symbolic, then evaluated at
`DEGREES`.
"""

import sympy

from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import Ratio, yes_no
from proofs_checks.symbolic.carriers import Carrier
from proofs_checks.symbolic.proof import Equations, prove, scalar_identity

__all__ = [
    "cubic_minimax",
    "evolution",
    "key_identity",
    "li_hong_empty",
    "residual_rate",
    "residual_recursion",
    "taylor_converges",
]

#: The degrees at which the statements for all k are also evaluated by polynomial expansion.
DEGREES = range(1, 8)

k, i = sympy.symbols("k i", positive=True, integer=True)
x, delta = sympy.symbols("x delta", positive=True)


def coefficient(j: sympy.Expr) -> sympy.Expr:
    """``c_j``, the Taylor coefficients of ``(1 - x)^-1/2``."""
    return sympy.factorial(2 * j) / (4**j * sympy.factorial(j) ** 2)


def taylor(degree: int) -> sympy.Expr:
    """``w`` of a given degree."""
    return sympy.Add(*(coefficient(sympy.Integer(j)) * x**j for j in range(degree + 1)))


def _gamma_identity(name: str, left: sympy.Expr, right: sympy.Expr) -> Ratio:
    """An identity between products of factorials with symbolic arguments: their quotient simplifies to 1."""
    return yes_no(name, sympy.combsimp(left / right) == 1)


def _ratio_of_coefficients(fault: str | None) -> Ratio:
    """``2(i+1) c_{i+1} = (2i+1) c_i``, the recurrence behind everything in this file."""
    shift = 2 * i if fault == "wrong-recurrence" else 2 * i + 1
    return _gamma_identity(
        "2(i+1) c_{i+1} = (2i+1) c_i", 2 * (i + 1) * coefficient(i + 1), shift * coefficient(i)
    )


@evidence(faults=("quintic-coefficient-negated", "one-factor-X-missing"))
def evolution(*, fault: str | None = None) -> Finding:
    """``X+ X+^T = Y (a I + b Y + c Y^2)^2`` with ``Y = X X^T`` and ``X+ = a X + (b Y + c Y^2) X``."""

    def claim(x: Carrier) -> Equations:
        X = x.matrix("X", x.m, x.n)
        a, b, c = (x.scalar(name) for name in "abc")
        Y = X @ X.T
        sign = -1 if fault == "quintic-coefficient-negated" else 1
        inner = a * x.identity(x.m) + b * Y + sign * c * (Y @ Y)
        new = a * X + (b * Y + c * (Y @ Y)) @ X
        outer = x.identity(x.m) if fault == "one-factor-X-missing" else Y
        return {"X+ X+'": (new @ new.T, outer @ inner @ inner)}

    return Finding(prove(claim), "X+X+' = Y(aI + bY + cY^2)^2 for all sizes and coefficients")


@evidence(faults=("wrong-recurrence", "2k-for-2k+1"))
def key_identity(*, fault: str | None = None) -> Finding:
    """``w - 2(1-x) w' = (2k+1) c_k x^k`` for every k; hence ``tau(lambda) = lambda p_k(lambda)^2`` is
    nondecreasing.

    Coefficient of ``x^i``, ``i < k``: ``(2i+1) c_i - 2(i+1) c_{i+1} = 0``; of ``x^k``: ``c_k + 2k c_k``.
    With ``x = 1 - lambda``: ``tau' = w (w - 2(1-x) w')``, a product of polynomials with positive
    coefficients in ``x`` in [0, 1], and ``tau(1) = w(0)^2 = 1``.
    """
    factor = 2 * k if fault == "2k-for-2k+1" else 2 * k + 1
    ratios = [
        _ratio_of_coefficients(fault),
        scalar_identity(
            "coefficient of x^k", coefficient(k) + 2 * k * coefficient(k), factor * coefficient(k)
        ),
    ]
    w = sympy.Function("w")
    tau_slope = -sympy.diff((1 - x) * w(x) ** 2, x)  # d/d lambda = -d/dx
    ratios.append(
        scalar_identity("tau' = w (w - 2(1-x) w')", tau_slope, w(x) * (w(x) - 2 * (1 - x) * w(x).diff(x)))
    )
    ratios.append(scalar_identity("tau(1) = w(0)^2", taylor(7).subs(x, 0) ** 2, 1))
    for degree in DEGREES:
        w_k = taylor(degree)
        last = factor.subs(k, degree) * coefficient(sympy.Integer(degree)) * x**degree
        ratios.append(scalar_identity(f"k = {degree} expanded", w_k - 2 * (1 - x) * sympy.diff(w_k, x), last))
    return Finding(
        tuple(ratios),
        f"w - 2(1-x)w' = (2k+1) c_k x^k for every k by coefficients, expanded for k = 1..{max(DEGREES)}; tau "
        "nondecreasing on [0, 1] with tau(1) = 1",
    )


@evidence(faults=("residual-of-sigma-not-squared", "phi-without-the-square"))
def residual_recursion(*, fault: str | None = None) -> Finding:
    """Lemmas 1 and 2 as equalities: ``eps = 1 - sqrt(1-delta)`` and ``delta_{j+1} = phi(delta_j)``.

    With ``X = U S V^T``: ``Pi - X X^T = U (I - S^2) U^T`` and ``X - Polar = U (S - I) V^T``, so with ``s``
    the least singular value, at most 1, ``delta = 1 - s^2`` and ``eps = 1 - s``. One multiplication by
    ``X X^T`` takes ``U F V^T`` to ``U S^2 F V^T`` for any ``F``, so a polynomial of any degree acts on ``S``
    alone: ``1 - s^2 p_k(s^2)^2 = phi(1 - s^2)``. The order of singular values is kept because ``tau`` is
    nondecreasing (key identity) and stays in [0, 1].
    """

    def claim(x: Carrier) -> Equations:
        U, V = x.isometry("U", x.m, x.r), x.isometry("V", x.n, x.r)
        S, F = x.diagonal("S", x.r), x.diagonal("F", x.r)
        X = U @ S @ V.T
        square = S if fault == "residual-of-sigma-not-squared" else S @ S
        return {
            "Pi - X X'": (U @ U.T - X @ X.T, U @ (x.identity(x.r) - square) @ U.T),
            "X - Polar(X)": (X - U @ V.T, U @ (S - x.identity(x.r)) @ V.T),
            "(X X') (U F V')": (X @ X.T @ (U @ F @ V.T), U @ (S @ S @ F) @ V.T),
        }

    s = sympy.Symbol("s", positive=True)
    ratios = [*prove(claim), scalar_identity("s = sqrt(1 - delta)", s**2, 1 - (1 - s**2))]
    power = 1 if fault == "phi-without-the-square" else 2
    for degree in DEGREES:
        w = taylor(degree)
        phi = 1 - (1 - x) * w**power
        new = s * w.subs(x, 1 - s**2)  # singular value after one step
        ratios.append(scalar_identity(f"k = {degree}: 1 - s+^2", 1 - new**2, phi.subs(x, 1 - s**2)))
    return Finding(
        (*ratios, *key_identity().ratios),
        "delta and eps are functions of the least singular value and one step maps delta to phi(delta), for "
        "all sizes and every k. Trusted: existence of the SVD",
    )


def _power_form(fault: str | None) -> list[Ratio]:
    """``phi(x) = x^(k+1) psi(x)`` with ``psi`` of positive coefficients and ``psi(1) = 1``."""
    w = sympy.Function("w")
    phi_slope = sympy.diff(1 - (1 - x) * w(x) ** 2, x)
    ratios = [
        scalar_identity("phi' = w (w - 2(1-x) w')", phi_slope, w(x) * (w(x) - 2 * (1 - x) * w(x).diff(x))),
        yes_no("c_i > 0", bool(coefficient(i).is_positive)),
    ]
    for degree in DEGREES:
        w_k = taylor(degree)
        phi = sympy.Poly(sympy.expand(1 - (1 - x) * w_k**2), x)
        power = degree + (2 if fault == "exponent-k+2" else 1)
        head, tail = phi.all_coeffs()[::-1][:power], phi.all_coeffs()[::-1][power:]
        ratios += [
            yes_no(f"k = {degree}: phi = x^(k+1) psi", all(c == 0 for c in head)),
            yes_no(
                f"k = {degree}: psi has positive coefficients, psi(1) = 1", min(tail) > 0 and sum(tail) == 1
            ),
        ]
    return ratios


@evidence(faults=("wrong-recurrence", "exponent-k+2", "exponent-2k+1"))
def residual_rate(*, fault: str | None = None) -> Finding:
    """Lemma 3 and Theorem 2: ``phi(x) <= x^(k+1)`` on [0, 1], hence ``delta_q <= delta_0^((k+1)^q)``.

    By the key identity ``phi' = w (w - 2(1-x) w') = (2k+1) c_k x^k w(x)``, and ``phi(0) = 0``; integrating
    termwise, ``phi(x) = x^(k+1) psi(x)`` with ``psi(x) = (2k+1) c_k sum_i c_i x^i/(k+1+i)``. Its
    coefficients are positive, so on [0, 1] it is at most ``psi(1) = phi(1) = 1``. ``phi`` is nondecreasing,
    so the bound iterates, the exponents multiply, and ``chi_q = (1 - eps_q)^-1 = (1 - delta_q)^-1/2``.
    """
    term = (2 * k + 1) * coefficient(k) * coefficient(i) * x ** (k + i)
    integral = (2 * k + 1) * coefficient(k) * coefficient(i) * x ** (k + 1 + i) / (k + 1 + i)
    q = sympy.Symbol("q", positive=True, integer=True)
    base = 2 * k + 1 if fault == "exponent-2k+1" else k + 1
    ratios = [
        _ratio_of_coefficients(fault),
        scalar_identity("phi'(x), term by term", sympy.simplify(sympy.diff(integral, x) / term), 1),
        yes_no(
            "(delta^(base^q))^(k+1) = delta^(base^(q+1))",
            sympy.simplify(base**q * (k + 1) / base ** (q + 1)) == 1,
        ),
        *_power_form(fault),
    ]
    return Finding(
        (*ratios, *key_identity().ratios),
        "phi(x) = x^(k+1) psi(x) with psi of positive coefficients and psi(1) = 1, for every k; expanded for "
        f"k = 1..{max(DEGREES)}",
    )


@evidence(faults=("exponent-k+2", "step-of-zero"))
def taylor_converges(*, fault: str | None = None) -> Finding:
    """The cubic and Taylor iterations converge to the polar factor for singular values in (0, 1].

    ``delta_0 = 1 - s^2`` lies in [0, 1), ``delta_q <= delta_0^((k+1)^q)`` tends to 0 and ``eps <= delta``
    because ``delta - (1 - sqrt(1-delta)) = s (1 - s)`` with ``s = sqrt(1-delta)``. ``k = 1`` is the cubic,
    and ``k = 2`` the quintic (15/8, -10/8, 3/8).
    """
    s = sympy.Symbol("s", positive=True)
    z = sympy.Symbol("z", positive=True)
    cubic = sympy.Rational(3, 2) - z / 2
    quintic = (15 - 10 * z + 3 * z**2) / sympy.Integer(8)
    least = 0 if fault == "step-of-zero" else s
    return Finding(
        (
            scalar_identity("delta - eps", (1 - s**2) - (1 - s), least * (1 - s)),
            scalar_identity("k = 1 is the cubic", taylor(1).subs(x, 1 - z), cubic),
            scalar_identity("k = 2 is the quintic", taylor(2).subs(x, 1 - z), quintic),
            *_power_form(fault),
            *residual_rate().ratios,
        ),
        "eps_q <= delta_q <= delta_0^((k+1)^q) -> 0 for every k and every delta_0 < 1",
    )


@evidence(faults=("beta-below-one-half", "denominator-sign"))
def li_hong_empty(*, fault: str | None = None) -> Finding:
    """``eta <= sqrt((1-2 beta)/(2 beta))/(8L)`` leaves no positive step for ``beta >= 1/2``.

    With ``beta = 1/2 + t``, ``t >= 0``, the radicand is ``-2t/(1+2t)``: zero at ``t = 0`` and negative
    beyond, where the root is not real.
    """
    t = sympy.Symbol("t", nonnegative=True)
    beta = sympy.Rational(1, 2) + (-t if fault == "beta-below-one-half" else t)
    radicand = (1 - 2 * beta) / (2 * beta * (-1 if fault == "denominator-sign" else 1))
    return Finding(
        (
            scalar_identity("radicand", radicand, -2 * t / (1 + 2 * t)),
            yes_no("never positive", bool(sympy.simplify(radicand).is_nonpositive)),
        ),
        "the radicand is -2t/(1+2t) at beta = 1/2 + t: no positive step size is allowed from beta = 1/2 on",
    )


@evidence(faults=("alpha-without-the-mixed-term", "theta-numerator-3"))
def cubic_minimax(*, fault: str | None = None) -> Finding:
    """Polar Express, degree 3: ``p = theta p_NS(alpha x)`` equioscillates on ``[l, u]``, error ``theta - 1``.

    ``alpha^2 (u^2 + l u + l^2) = 3`` makes ``p_NS(alpha l) = p_NS(alpha u) = alpha^3 l u (l+u)/2``;
    ``theta`` puts this at ``2 - theta``; the maximum is ``theta`` at ``1/alpha``, which lies in ``[l, u]``.
    Three alternations decide the minimax problem in the span of ``x, x^3`` (Chebyshev, quoted).
    ``1 - p_NS(y) = (1-y)^2 (2+y)/2``, so ``theta >= 1``.
    """
    lower, rise, a, y = sympy.symbols("l t alpha y", positive=True)
    u = lower + rise
    mixed = 0 if fault == "alpha-without-the-mixed-term" else lower * u
    total = u**2 + mixed + lower**2
    three = a**2 * total  # the number 3, as alpha^2 (u^2 + l u + l^2)
    numerator = 3 if fault == "theta-numerator-3" else 4
    theta = numerator / (2 + lower * u * (lower + u) * a**3)

    def p_ns(z: sympy.Expr) -> sympy.Expr:
        """``(3 z - z^3)/2`` with 3 written as `three`."""
        return (three * z - z**3) / 2

    y_cubic = (3 * y - y**3) / 2
    return Finding(
        (
            scalar_identity("p_NS(alpha l)", p_ns(a * lower), a**3 * lower * u * (lower + u) / 2),
            scalar_identity("p_NS(alpha l) = p_NS(alpha u)", p_ns(a * lower), p_ns(a * u)),
            scalar_identity(
                "p(l) = 1 - E, E = theta - 1", theta * a**3 * lower * u * (lower + u) / 2, 2 - theta
            ),
            scalar_identity("p(1/alpha) = 1 + E", y_cubic.subs(y, 1), 1),
            scalar_identity("the maximum of p_NS is at 1", sympy.diff(y_cubic, y), 3 * (1 - y) * (1 + y) / 2),
            scalar_identity("p_NS <= 1", 1 - y_cubic, (1 - y) ** 2 * (2 + y) / 2),
            scalar_identity("1/alpha^2 >= l^2", total / 3 - lower**2, lower * rise + rise**2 / 3),
            scalar_identity("1/alpha^2 <= u^2", u**2 - total / 3, lower * rise + 2 * rise**2 / 3),
        ),
        "p(l) = p(u) = 2 - theta, p(1/alpha) = theta with 1/alpha inside [l, u], for all l < u. Trusted: "
        "Chebyshev's alternation theorem for the span of x, x^3",
    )
