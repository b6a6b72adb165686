"""What rank-one and low-rank curvature models keep, and where their inverses break, for every dimension."""

import sympy

from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import yes_no
from proofs_checks.symbolic.carriers import Carrier
from proofs_checks.symbolic.exact import Exact
from proofs_checks.symbolic.proof import Equations, prove, scalar_identity

__all__ = ["fagh_singular", "nystrom", "second_moment"]


@evidence(faults=("covariance-kept", "cross-terms-dropped"))
def second_moment(*, fault: str | None = None) -> Finding:
    """``E[g g^T] = gbar gbar^T + Cov(g)``; SOFIM keeps the first term and puts ``rho I`` for the second.

    With ``g = gbar + e``, ``E[e] = 0``: ``g g^T - gbar gbar^T - e e^T`` is linear in ``e``, so its mean is
    zero; the two- point law ``gbar +- e`` shows it in full. At a stationary point ``M = 0`` and
    ``F = rho I``.
    """

    def claim(x: Carrier) -> Equations:
        mean, e, rho = x.matrix("gbar", x.d, 1), x.matrix("e", x.d, 1), x.scalar("rho")
        one = x.identity(x.d)
        g, mirror = mean + e, mean - e
        F = mean @ mean.T + rho * one
        kept = e @ e.T if fault == "covariance-kept" else 0 * one
        linear = 0 * one if fault == "cross-terms-dropped" else mean @ e.T + e @ mean.T
        twice_moment = g @ g.T + mirror @ mirror.T
        nothing = 0 * mean
        return {
            "g g' - gbar gbar' - e e'": (g @ g.T - mean @ mean.T - e @ e.T, linear),
            "2 (E[g g'] - F) of the law gbar +- e": (twice_moment - 2 * F - kept, 2 * (e @ e.T - rho * one)),
            "stationary point": (nothing @ nothing.T + rho * one, rho * one),
        }

    return Finding(
        prove(claim), "E[g g'] - (gbar gbar' + rho I) = Cov(g) - rho I for all d; F = rho I where gbar = 0"
    )


@evidence(faults=("positive-v0", "wrong-threshold"))
def fagh_singular(*, fault: str | None = None) -> Finding:
    """FAGH: ``v v^T/v0 + rho I`` with ``v0 = -a < 0`` is singular at ``|v|^2 = rho a``, indefinite beyond.

    Along ``v = s p`` (``p`` a unit vector) the eigenvalue is ``rho - s^2/a``, across it is ``rho > 0``; at
    ``s^2 = rho a + z`` the first is ``-z/a``.
    """

    def claim(x: Carrier) -> Equations:
        p, across = x.frames(("p", "across"), x.d, 1, 1)
        rho, a, s = x.scalar("rho"), x.scalar("a"), x.scalar("s")
        v0 = a if fault == "positive-v0" else -a
        F = (1 / v0) * (s * p) @ (s * p).T + rho * x.identity(x.d)
        return {"along v": (F @ p, (rho - s**2 / a) * p), "across v": (F @ across, rho * across)}

    rho, a, z = sympy.symbols("rho a z", positive=True)
    threshold = rho / a if fault == "wrong-threshold" else rho * a
    v = Exact([[-1], [1]])  # v0 = -1, |v|^2 = 2 = rho |v0|
    singular = -(v @ v.T) + 2 * Exact.identity(2)
    return Finding(
        (
            *prove(claim),
            scalar_identity("eigenvalue at |v|^2 = rho a + z", rho - (threshold + z) / a, -z / a),
            yes_no("v = (-1, 1), rho = 2", singular.determinant() == 0),
        ),
        "eigenvalues rho - |v|^2/|v0| along v and rho across, for all d; v = (-1, 1), rho = 2 is exactly "
        "singular",
    )


@evidence(faults=("outer-rho-not-squared", "core-without-identity"))
def nystrom(*, fault: str | None = None) -> Finding:
    """Nystrom: ``g/rho - Z (I + Z^T Z/rho)^-1 Z^T g/rho^2`` is ``(Z Z^T + rho I)^-1 g``; it cancels for
    large ``Z``.

    Multiply by ``Z Z^T + rho I`` and put ``Z^T Z = rho (K - I)`` for the core ``K = I + Z^T Z/rho``. Along an
    eigenvector of ``Z Z^T`` with eigenvalue ``z`` the terms are ``1/rho`` and ``z/(rho (rho + z))``: their
    sum over their difference is ``1 + 2 z/rho``, the factor by which the subtraction magnifies rounding.
    """

    def claim(x: Carrier) -> Equations:
        Z, g, rho = x.matrix("Z", x.d, x.r), x.matrix("g", x.d, 1), x.scalar("rho")
        one = x.identity(x.r)
        shift = 0 * one if fault == "core-without-identity" else one
        K = x.abbreviated("K", shift + (1 / rho) * (Z.T @ Z))
        power = 1 if fault == "outer-rho-not-squared" else 2
        step = (1 / rho) * g - (1 / rho**power) * (Z @ K.inverse() @ Z.T @ g)
        product = (Z @ Z.T + rho * x.identity(x.d)) @ step
        return {
            "(Z Z' + rho I) applied to the step": (x.unfolded(product, Z.T @ Z, rho * (K - shift)), g),
        }

    rho, z = sympy.symbols("rho z", positive=True)
    first, second = 1 / rho, z / (rho * (rho + z))
    return Finding(
        (
            *prove(claim),
            scalar_identity("difference of the terms", first - second, 1 / (rho + z)),
            scalar_identity("magnification", (first + second) / (first - second), 1 + 2 * z / rho),
        ),
        "the two-term step solves (Z Z' + rho I) x = g for all d and ranks; its subtraction magnifies "
        "rounding by 1 + 2 |Z|^2/rho",
    )
