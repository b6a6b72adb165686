"""The isotropic curvature model for every dimension: moments on the sphere, and when a spectrum is flattened.

``t = zeta^2`` for zeta uniform on the unit sphere of R^n; a spectrum sigma has the radius
``r = sqrt(sum_i sigma_i^2 t_i)``, and the model minimises ``-s . sigma + E H(r)``.
"""

import sympy

from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import Ratio
from proofs_checks.symbolic.proof import scalar_identity

__all__ = ["flattening", "moments"]


@evidence(faults=("third-of-the-fourth-moment", "variance-without-mean", "independent-coordinates"))
def moments(*, fault: str | None = None) -> Finding:
    """``E t_i^2 = 3 / (n (n + 2))``, ``E t_i t_j = 1 / (n (n + 2))``, hence mean, variance and ``E r^4``.

    Turning two coordinates by 45 degrees changes nothing: ``E ((x + y) / sqrt 2)^4 = (2 q + 6 c) / 4`` equals
    ``q = E x^4``, so ``q = 3 c``; the sum of t is 1, so ``n q + n (n - 1) c = 1``. The two moments are
    checked by integration for n = 2 and 3. With ``x = sum a_i t_i``, ``T1 = sum a_i = tr A`` and
    ``T2 = tr A^2``: ``E x^2 = c (T1^2 - T2) + q T2``.
    """
    n, T1, T2 = sympy.symbols("n T1 T2", positive=True)
    c = 1 / (n * (n + 2))
    q = c if fault == "third-of-the-fourth-moment" else 3 * c
    if fault == "independent-coordinates":
        c = 1 / n**2
    second = c * (T1**2 - T2) + q * T2
    mean = 0 if fault == "variance-without-mean" else T1 / n
    return Finding(
        (
            scalar_identity("a turn by 45 degrees", (2 * q + 6 * c) / 4, q),
            scalar_identity("the squares sum to 1", n * q + n * (n - 1) * c, 1),
            *_integrals(q.subs(n, 2), c.subs(n, 2), q.subs(n, 3), c.subs(n, 3)),
            scalar_identity("variance", second - mean**2, 2 / (n * (n + 2)) * (T2 - T1**2 / n)),
            scalar_identity("quartic expectation", second, (T1**2 + 2 * T2) / (n * (n + 2))),
        ),
        "mean tr A/n, variance 2 (tr A^2 - (tr A)^2/n)/(n (n+2)) and E r^4 = ((tr A)^2 + 2 tr A^2)/(n (n+2)) "
        "for all n",
    )


def _integrals(q2: sympy.Expr, c2: sympy.Expr, q3: sympy.Expr, c3: sympy.Expr) -> tuple[Ratio, ...]:
    """The fourth moments on the circle and on the sphere, whose height u is uniform (Archimedes)."""
    angle, u = sympy.symbols("angle u", real=True)
    x, y = sympy.cos(angle) ** 2, sympy.sin(angle) ** 2
    circle = [sympy.integrate(f, (angle, 0, 2 * sympy.pi)) / (2 * sympy.pi) for f in (x**2, x * y)]
    sphere = [sympy.integrate(f, (u, -1, 1)) / 2 for f in (u**4, u**2 * (1 - u**2) / 2)]
    return (
        scalar_identity("E t_1^2, n = 2", circle[0], q2),
        scalar_identity("E t_1 t_2, n = 2", circle[1], c2),
        scalar_identity("E t_1^2, n = 3", sphere[0], q3),
        scalar_identity("E t_1 t_2, n = 3", sphere[1], c3),
    )


@evidence(faults=("quadratic-weight", "slopes-without-the-sum", "third-of-the-fourth-moment"))
def flattening(*, fault: str | None = None) -> Finding:
    """Smooth growth faster than quadratic flattens in part; only a kink flattens fully, if its slopes allow.

    *Part*: with ``phi(r^2) = H'(r) / r``, stationarity reads ``s_i = sigma_i E[phi t_i]``. Exchanging t_i and
    t_j gives ``s_i / sigma_i - s_j / sigma_j = E[(phi(x) - phi(x')) (t_i - t_j)] / 2`` with
    ``x - x' = (sigma_i^2 - sigma_j^2) (t_i - t_j)``: positive for increasing phi and ``sigma_i > sigma_j``,
    so the ratio of the sigma is below that of the s; zero for constant phi, the quadratic. For r^4 the
    difference is ``8 (sigma_i^2 - sigma_j^2) / (n (n + 2))``.

    *Only a kink*: the slope of r in sigma_i at ``sigma = c`` is t_i, of mean 1/n for every i. Where H has a
    derivative, stationarity reads ``s_i = H'(c) / n``: equal s.

    *A kink*: stationarity reads ``s = E[h t]`` for some h between the slopes. ``h = u . t``,
    ``u = (n (n + 2) s - n sum(s)) / 2``, solves it, so slopes that span the u are enough; the sum over i is
    ``E h = sum(s)``, so slopes that do not span the sum of s are not.
    """
    n, S, s = sympy.symbols("n S s", positive=True)
    weight = 1 if fault == "third-of-the-fourth-moment" else 2
    u = (n * (n + 2) * s - (0 if fault == "slopes-without-the-sum" else n * S)) / 2
    total = (n * (n + 2) * S - (0 if fault == "slopes-without-the-sum" else n * S) * n) / 2
    sigma = sympy.symbols("sigma1:4", positive=True)
    t1, t2, c = sympy.symbols("t1 t2 c", positive=True)
    t = (t1, t2, 1 - t1 - t2)
    x = sum(a**2 * b for a, b in zip(sigma, t, strict=True))
    exchanged = x.subs({t1: t2, t2: t1}, simultaneous=True)
    flat = [sympy.sqrt(x).diff(a).subs(dict.fromkeys(sigma, c)) for a in sigma]
    T1, T2 = (sum(a**p for a in sigma) for p in (2, 4))
    quadratic = T1 / 3
    quartic = quadratic if fault == "quadratic-weight" else (T1**2 + 2 * T2) / 15

    def apart(value: sympy.Expr) -> sympy.Expr:
        return value.diff(sigma[0]) / sigma[0] - value.diff(sigma[1]) / sigma[1]

    return Finding(
        (
            scalar_identity("x - x'", x - exchanged, (sigma[0] ** 2 - sigma[1] ** 2) * (t1 - t2)),
            scalar_identity(
                "s_i/sigma_i - s_j/sigma_j, r^4", apart(quartic), 8 * (sigma[0] ** 2 - sigma[1] ** 2) / 15
            ),
            scalar_identity("s_i/sigma_i - s_j/sigma_j, r^2", apart(quadratic)),
            *(
                scalar_identity(f"slope of r in sigma_{i}", sympy.simplify(slope), point)
                for i, (slope, point) in enumerate(zip(flat, t, strict=True), start=1)
            ),
            scalar_identity("E[(u . t) t_i] = s_i", (weight * u + total) / (n * (n + 2)), s),
            scalar_identity("E h = sum(s)", total / n, S),
        ),
        "smooth growth faster than r^2 brings ratios closer and never to 1, for all n; a kink flattens where "
        "its slopes span (n (n+2) s_i - n sum(s))/2, and only if they span sum(s)",
    )
