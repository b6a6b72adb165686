"""What follows from the factor bounds: floors, the absence of gamma in D.2, the condition of the step."""

from flint import fmpq

from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import Ratio, yes_no
from proofs_checks.symbolic.carriers import Carrier
from proofs_checks.symbolic.cone import Nonnegative, Psd
from proofs_checks.symbolic.exact import Exact
from proofs_checks.symbolic.factor_bounds import bounded_factors, rounded_down
from proofs_checks.symbolic.proof import Equations, prove
from proofs_checks.symbolic.recursion import alternating_units, factor_path

__all__ = ["positive_definite_floor", "singular_refuted", "small_gamma_refuted", "step_condition"]


def _floor(fault: str | None) -> tuple[Ratio, ...]:
    """``Pbar - (1-gamma) mu I`` and the comparison of the two dampings, for all sizes."""

    def claim(x: Carrier) -> Equations:
        P, Q, G = x.normalised("P", x.m), x.normalised("Q", x.n), x.matrix("G", x.m, x.n)
        C, (gamma, delta), mu = x.positive("C", x.n), x.weight("gamma"), x.scalar("mu")
        one = x.identity(x.m)
        damping = 0 if fault == "damping-dropped" else mu * x.trace(P) / x.m
        mean = gamma * P + delta * ((1 / x.n) * (G @ C @ C @ G.T) + damping * one)
        old = Nonnegative.assumed(gamma) * Psd.assumed(x, P)
        new = Nonnegative.assumed(delta) * (Nonnegative.positive(1 / x.n) * Psd.gram(x, G @ C))
        away = Q - (2 if fault == "equal-at-twice-the-identity" else 1) * x.identity(x.n)
        return {
            "Pbar - (1-gamma) mu I": (mean - delta * mu * one, old + new),
            "tr(Q^-1) - n = tr((Q - I) Q^-1 (Q - I))": (
                x.trace(Q.inverse()) - x.n,
                Psd.assumed(x, Q.inverse()).under(away).trace(),
            ),
        }

    return prove(claim)


@evidence(faults=("damping-dropped", "equal-at-twice-the-identity"))
def positive_definite_floor(*, fault: str | None = None) -> Finding:
    """``lambda_min(Pbar_t) >= (1-gamma) mu``: in exact arithmetic the factors are never singular.

    ``Pbar - (1-gamma) mu I`` is ``gamma P`` plus ``(1-gamma)/n`` times a Gram matrix, and scaling by the
    finite positive ``m/tr(Pbar)`` keeps definiteness. The theorem's damping is ``tr(Q^-1)/n >= 1`` times
    larger (AM-HM, here a square), with equality only at ``Q = I``. At ``gamma = 1`` the factor stays ``P_0``.
    """
    return Finding(
        _floor(fault),
        "Pbar - (1-gamma) mu I is a sum of Gram matrices for both dampings, any gradient, all sizes; the "
        "theorem's damping exceeds the algorithm's by a square",
    )


@evidence(faults=("damping-dropped", "equal-at-twice-the-identity", "mu-zero"), refutes=True)
def singular_refuted(*, fault: str | None = None) -> Finding:
    """Factors do not become rank-deficient or lose definiteness: the floor forbids it for every ``mu > 0``.

    The instance is as hostile as it gets, ``gamma = 0`` and the same rank-one gradient ``10^6 e_1 e_1^T`` ten
    times: the determinants stay positive. With ``mu = 0`` the first factor is singular, so the damping is
    what the floor stands on.
    """
    mu = fmpq(0) if fault == "mu-zero" else fmpq(1, 1000)
    G = Exact.diagonal(fmpq(10**6), fmpq(0))
    ratios = list(_floor(fault))
    try:
        path = list(factor_path([G] * 10, gamma=fmpq(0), mu=mu))
    except ValueError:  # elimination met a singular matrix
        path = []
    ratios.append(yes_no("ten steps were taken", len(path) == 10))
    positive = all(P.determinant() > 0 and Q.determinant() > 0 for P, Q in path)
    ratios.append(yes_no("positive determinants", positive))
    return Finding(
        tuple(ratios),
        "the floor (1-gamma) mu holds for all sizes; ten repeats of a rank-one gradient of norm 1e6 leave "
        "both determinants positive",
        counterexample={
            "G": str(G),
            "repeats": "10",
            "gamma": "0",
            "mu": str(mu),
            "P after one step": str(path[0][0]) if path else "singular",
            "its least eigenvalue": str(path[0][0].entries[1][1]) if path else "0",
        },
    )


@evidence(faults=("gradients-twice-too-large", "b-depends-on-gamma"), refutes=True)
def small_gamma_refuted(*, fault: str | None = None) -> Finding:
    """A small ``gamma`` cannot make ``b < 1`` fail: ``b = g^2/(m n mu)`` does not contain it.

    The bounds of D.2 are proved for every ``gamma`` in [0, 1]; here the extremal run with gradients of norm
    ``g`` and ``b = 1/2`` obeys them at ``gamma = 0``, the smallest of all, as it does at 1/2 and 99/100.
    """
    m, n, g, b = 2, 3, fmpq(3), fmpq(1, 2)
    mu = g * g / (m * n * b)
    size = 2 * g if fault == "gradients-twice-too-large" else g
    inside, least = True, fmpq(1)
    for gamma in (fmpq(0), fmpq(1, 2), fmpq(99, 100)):
        floor = 1 - gamma * b if fault == "b-depends-on-gamma" else 1 - b
        for P, Q in factor_path(alternating_units(size, m, n, 12), gamma=gamma, mu=mu, order="jacobi"):
            for X in (P, Q):
                diagonal = [X.entries[i][i] for i in range(X.rows)]
                inside &= min(diagonal) >= floor
                least = min(least, *diagonal)
    return Finding(
        (*bounded_factors().ratios, yes_no("least eigenvalue at least 1 - b on 72 factors", inside)),
        "b = 1/2 at gamma = 0, 1/2, 99/100 alike; least eigenvalue on the extremal runs "
        f"{rounded_down(least):.6f}, never below 1/2",
        counterexample={
            "gamma": "0",
            "mu": str(mu),
            "gradients": f"{g} e1 f1', {g} e2 f2' in turn, 2 x 3, Jacobi order, 12 steps",
            "b": str(b),
            "least eigenvalue": str(least),
        },
    )


@evidence(faults=("upper-bound-of-Q-dropped", "not-an-isometry"))
def step_condition(*, fault: str | None = None) -> Finding:
    """The condition number of the step ``A O C`` is at most ``sqrt(Lambda_P Lambda_Q)/(1-b)``.

    With ``O O^T = I`` (exact polar factor of full row rank; tall ones by transposition) and ``a, c`` between
    ``1/Lambda`` and ``1/(1-b)``: ``A O C^2 O^T A - c a I = A O (C^2 - c I) O^T A + c (A^2 - a I)``, and the
    mirror image from above. The spectra of ``A^2 = P^-1`` and ``C^2 = Q^-1`` are those of Lemma D.2.
    """

    def claim(x: Carrier) -> Equations:
        A, C = x.positive("A", x.r), x.positive("C", x.e)
        V = x.isometry("V", x.e, x.r)
        O = V.T
        a, c, top = x.scalar("1/Lambda_P"), x.scalar("1/Lambda_Q"), x.scalar("1/(1-b)")
        small_c = 0 if fault == "upper-bound-of-Q-dropped" else c
        if fault == "not-an-isometry":
            O = O @ x.matrix("E", x.e, x.e)
        one_r, one_e = x.identity(x.r), x.identity(x.e)
        square = A @ O @ C @ C @ O.T @ A
        low_C, low_A = Psd.assumed(x, C @ C - small_c * one_e), Psd.assumed(x, A @ A - a * one_r)
        high_C, high_A = Psd.assumed(x, top * one_e - C @ C), Psd.assumed(x, top * one_r - A @ A)
        positive = Nonnegative.positive
        return {
            "smallest singular value": (
                square - a * c * one_r,
                low_C.under(A @ O) + positive(c) * low_A,
            ),
            "largest singular value": (
                top * top * one_r - square,
                high_C.under(A @ O) + positive(top) * high_A,
            ),
        }

    example = _anisotropic_step()
    return Finding(
        (*prove(claim), *example),
        "kappa(step)^2 <= Lambda_P Lambda_Q/(1-b)^2 for all sizes; a rational 2 x 2 first step has kappa 2, "
        "so the step is anisotropic",
    )


def _anisotropic_step() -> list[Ratio]:
    """A first step with diagonal factors: singular values squared are ``1/(P_ii Q_ii)``."""
    G, gamma, mu = Exact.diagonal(fmpq(4), fmpq(1)), fmpq(0), fmpq(7)
    ((P, Q),) = factor_path([G], gamma=gamma, mu=mu, order="jacobi")
    squares = [1 / (P.entries[i][i] * Q.entries[i][i]) for i in range(2)]
    return [yes_no("kappa of a first step is 2", max(squares) / min(squares) == 4)]
