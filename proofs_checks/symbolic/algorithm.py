"""Algorithm 1 itself: invariants, symmetries and limits, for all sizes."""

from typing import Any

from proofs_checks.evidence import Finding, evidence
from proofs_checks.symbolic.carriers import Carrier
from proofs_checks.symbolic.proof import Equations, prove

__all__ = [
    "invariants",
    "muon_limits",
    "orthogonal_equivariance",
    "transposition",
    "unit_scaling",
]


def statistic(x: Carrier, G: Any, inverse: Any, damping: Any) -> Any:
    """``L = G Q^-1 G^T/n + damping I``; with ``G^T`` and ``P^-1`` it is ``R``."""
    count = x.trace(x.identity(G.cols))
    return (1 / count) * (G @ inverse @ G.T) + damping * x.identity(G.rows)


@evidence(faults=("not-normalised", "average-not-symmetrised", "weight-without-tau"))
def invariants(*, fault: str | None = None) -> Finding:
    """``tr P_t = m`` and symmetry, hence damping exactly ``mu I``, the drift identity and the effective
    weight.

    ``P_t = m Pbar/tr(Pbar)`` has trace ``m`` by linearity. With ``tr P_{t-1} = m`` the normaliser is
    ``w = gamma + (1-gamma) tau``, so ``P_t`` is the average of ``P_{t-1}`` and ``L/tau`` with weights
    ``gamma/w`` and ``(1-gamma) tau/w``: the weight of new data depends on its scale. Both dampings.
    """

    def claim(x: Carrier) -> Equations:
        P, Q_inverse, G = x.normalised("P", x.m), x.positive("Q_inverse", x.n), x.matrix("G", x.m, x.n)
        (gamma, delta), damping, mu = x.weight("gamma"), x.scalar("damping"), x.scalar("mu")
        L = statistic(x, G, Q_inverse, damping)
        if fault == "average-not-symmetrised":
            L = L + x.matrix("N", x.m, x.m)
        mean, tau = gamma * P + delta * L, x.trace(L) / x.m
        scale = 1 if fault == "not-normalised" else x.m / x.trace(mean)
        P_new = scale * mean
        w = gamma + delta * tau
        weight = delta / w if fault == "weight-without-tau" else delta * tau / w
        return {
            "tr P_t = m": (x.trace(P_new), x.m),
            "P_t is symmetric": (P_new.T, P_new),
            "the damping mu tr(P)/m": (mu * x.trace(P) / x.m, mu),
            "P_t - P_{t-1}": (P_new - P, (delta / w) * (L - tau * P)),
            "effective weight": (P_new, (gamma / w) * P + weight * ((1 / tau) * L)),
        }

    return Finding(
        prove(claim),
        "tr P_t = m, symmetry, damping mu I, P_t - P_{t-1} = (1-gamma)(L - tau P)/(gamma + (1-gamma) tau) "
        "and the effective weight of new data, for all sizes and any damping; Q by exchange",
    )


@evidence(faults=("rotation-on-one-side", "scaled-rotation"))
def orthogonal_equivariance(*, fault: str | None = None) -> Finding:
    """``G -> U G V^T`` maps the whole trajectory to ``U W V^T``.

    Induction: with ``P' = U P U^T`` and ``Q' = V Q V^T`` the statistics, their traces, the symmetric roots
    ``U A U^T`` and the whitened gradients follow; the polar factor of ``U M V^T`` is ``U Polar(M) V^T``,
    because ``U`` times the singular vectors are orthonormal again; so does the step.
    """

    def claim(x: Carrier) -> Equations:
        U, V = x.isometry("U", x.m, x.m), x.isometry("V", x.n, x.n)
        if fault == "scaled-rotation":
            U = 2 * U
        A, C, G = x.positive("A", x.m), x.positive("C", x.n), x.matrix("G", x.m, x.n)
        M, mu, (beta, rest) = x.matrix("M", x.m, x.n), x.scalar("mu"), x.weight("beta")
        X, Z = x.isometry("X", x.m, x.r), x.isometry("Z", x.n, x.r)
        G_turned = U @ G if fault == "rotation-on-one-side" else U @ G @ V.T
        A_turned, C_turned = U @ A @ U.T, V @ C @ V.T
        white, white_turned = A @ G @ C, A_turned @ G_turned @ C_turned
        step, step_turned = A @ X @ Z.T @ C, A_turned @ (U @ X) @ (V @ Z).T @ C_turned
        return {
            "statistic": (
                statistic(x, G_turned, C_turned @ C_turned, mu),
                U @ statistic(x, G, C @ C, mu) @ U.T,
            ),
            "its trace": (x.trace(U @ statistic(x, G, C @ C, mu) @ U.T), x.trace(statistic(x, G, C @ C, mu))),
            "trace of the inverse": (x.trace(C_turned @ C_turned), x.trace(C @ C)),
            "root of the inverse": (A_turned @ A_turned, U @ A @ A @ U.T),
            "momentum": (beta * (U @ M @ V.T) + rest * white_turned, U @ (beta * M + rest * white) @ V.T),
            "singular vectors": ((U @ X).T @ (U @ X), x.identity(x.r)),
            "step": (step_turned, U @ step @ V.T),
        }

    return Finding(
        prove(claim),
        "every line of Algorithm 1 commutes with G -> U G V^T, for all sizes, both dampings and orders. "
        "Trusted: uniqueness of the symmetric positive root and of the polar factor",
    )


@evidence(faults=("fresh-factor-in-the-second-statistic", "sizes-not-exchanged"))
def transposition(*, fault: str | None = None) -> Finding:
    """Jacobi order: ``(W, P, Q) -> (W^T, Q, P)`` maps trajectories to trajectories.

    Fed ``G^T`` with the factors exchanged, the left statistic is the right one, ``G^T P^-1 G/m + mu I``, and
    the whitened gradient and the step are transposed. Gauss-Seidel reads the fresh ``P`` instead, and the two
    statistics are computed in a different order.
    """

    def claim(x: Carrier) -> Equations:
        A, C, G = x.positive("A", x.m), x.positive("C", x.n), x.matrix("G", x.m, x.n)
        X, Z, mu = x.isometry("X", x.m, x.r), x.isometry("Z", x.n, x.r), x.scalar("mu")
        P_inverse = A @ A
        if fault == "fresh-factor-in-the-second-statistic":
            P_inverse = x.positive("P_inverse", x.m)
        L = statistic(x, G.T, A @ A, mu)  # left statistic of the transposed problem
        R = (1 / (x.n if fault == "sizes-not-exchanged" else x.m)) * (G.T @ P_inverse @ G) + mu * x.identity(
            x.n
        )
        return {
            "statistics": (L, R),
            "whitened gradient": (C @ G.T @ A, (A @ G @ C).T),
            "step": (C @ Z @ X.T @ A, (A @ X @ Z.T @ C).T),
        }

    return Finding(prove(claim), "every line of the Jacobi order is its own transpose, for all sizes")


@evidence(faults=("unit-without-the-square", "mu-not-divided"))
def unit_scaling(*, fault: str | None = None) -> Finding:
    """``factor_scaling='unit'`` is exactly invariant to ``G -> c G``; as printed, ``c`` acts like
    ``mu -> mu/c^2``.

    The unit statistic contains ``m n G Q^-1 G^T/|G|_F^2``, in which ``c`` cancels; the momentum scales by
    ``c`` and the polar factor ignores it. As printed, ``L(c G; mu) = c^2 L(G; mu/c^2)`` for either damping,
    and the trace normalisation removes ``c^2`` when nothing older is averaged in (``gamma = 0``) or at a
    fixed point.
    """

    def claim(x: Carrier) -> Equations:
        Q_inverse, G = x.positive("Q_inverse", x.n), x.matrix("G", x.m, x.n)
        mu, c = x.scalar("mu"), x.scalar("c")

        def unit(H: Any, inverse: Any) -> Any:
            size = x.trace(H @ H.T)
            if fault == "unit-without-the-square":
                size = x.trace(G @ G.T)
            return statistic(x, H, (x.m * x.n / size) * inverse, mu)

        other = mu / c if fault == "mu-not-divided" else mu / c**2
        return {
            "unit statistic of c G": (unit(c * G, Q_inverse), unit(G, Q_inverse)),
            "printed statistic of c G": (
                statistic(x, c * G, Q_inverse, mu),
                c**2 * statistic(x, G, Q_inverse, other),
            ),
            "theorem damping of c G": (
                statistic(x, c * G, Q_inverse, mu * x.trace(Q_inverse) / x.n),
                c**2 * statistic(x, G, Q_inverse, other * x.trace(Q_inverse) / x.n),
            ),
        }

    return Finding(
        prove(claim),
        "unit scaling cancels c in both statistics; as printed L(cG; mu) = c^2 L(G; mu/c^2), for all sizes",
    )


@evidence(faults=("old-factor-not-the-identity", "limit-slower-than-1/mu", "momentum-kept"))
def muon_limits(*, fault: str | None = None) -> Finding:
    """``gamma = 1`` and ``mu -> inf`` give Muon on averaged raw gradients; ``beta = 0`` the pure closed-form
    step.

    At ``gamma = 1``, ``Pbar = P_{t-1}``, so from ``P_0 = I`` the factors are ``I``, the whitened gradient is
    ``G`` and the step is ``-eta Polar(M)``. For ``gamma < 1`` and ``nu = 1/mu``,
    ``P_t - I = nu (gamma (P - I) + (1-gamma)(X - tr(X) I/m))/(nu (gamma + (1-gamma) tr(X)/m) + 1-gamma)``
    with ``X = G Q^-1 G^T/n``: it vanishes at ``nu = 0`` like ``nu``, uniformly because ``Q^-1`` stays
    bounded (PD floor).
    """

    def claim(x: Carrier) -> Equations:
        P, Q_inverse, G = x.normalised("P", x.m), x.positive("Q_inverse", x.n), x.matrix("G", x.m, x.n)
        M, (gamma, delta), nu = x.matrix("M", x.m, x.n), x.weight("gamma"), x.scalar("nu")
        one = x.identity(x.m)
        start = P if fault == "old-factor-not-the-identity" else one
        frozen = 1 * start + 0 * statistic(x, G, Q_inverse, 1 / nu)  # Pbar at gamma = 1
        X = (1 / x.n) * (G @ Q_inverse @ G.T)
        mean = gamma * P + delta * (X + (1 / nu) * one)
        P_new = (x.m / x.trace(mean)) * mean
        below = nu * (gamma + delta * x.trace(X) / x.m) + delta
        rate = nu * nu if fault == "limit-slower-than-1/mu" else nu
        gap = (rate / below) * (gamma * (P - one) + delta * (X - x.trace(X) / x.m * one))
        kept = M if fault == "momentum-kept" else 0 * M
        return {
            "gamma = 1 keeps the identity": ((x.m / x.trace(frozen)) * frozen, one),
            "gamma = 1 whitens nothing": (one @ G @ x.identity(x.n), G),
            "P_t - I in 1/mu": (P_new - one, gap),
            "beta = 0 forgets": (0 * M + (1 - 0) * G + kept, G),
        }

    return Finding(
        prove(claim),
        "gamma = 1 keeps P = Q = I exactly; P_t - I is 1/mu times a bounded matrix; beta = 0 polarises G~ "
        "itself, for all sizes",
    )
