"""Two convergence statements for AdaFisher that are true, each proved by writing down the slack of one step.

The denominator enters as ``F = R R`` with R symmetric positive definite, so that its inverse
``C = R^-1 R^-1`` can stand on both sides of a hypothesis. Nothing else about F is used: the statements hold
for every F between its bounds, diagonal or not, and for F that changes from step to step.
"""

import sympy

from proofs_checks.evidence import Finding, evidence
from proofs_checks.symbolic.carriers import Carrier
from proofs_checks.symbolic.cone import Nonnegative, Psd
from proofs_checks.symbolic.proof import Equations, prove, scalar_identity

__all__ = ["corrected_rate", "momentum"]


@evidence(faults=("rate-doubled", "step-twice-as-long", "descent-lemma-without-half"))
def corrected_rate(*, fault: str | None = None) -> Finding:
    """``eta L I <= F <= b I`` gives ``f_{t+1} - f* <= (1 - eta mu/b)(f_t - f*)``; no momentum.

    The slack is the gap of the descent lemma, plus ``eta/2 g'(C - eta L C^2) g``, where the bracket is
    ``C (F - eta L I) C``, plus ``eta/2 g'(C - I/b) g``, where it is ``R^-1 (b I - F) R^-1/b``, plus
    ``eta/(2b)`` times the gap of ``|g|^2 >= 2 mu (f - f*)``. That gap is ``2 mu`` times the gap of strong
    convexity at the minimiser, plus the square ``|mu e + g|^2``, e the way there. The factor is in [0, 1),
    because ``b - eta mu`` is the sum of ``b - lam_min``, ``lam_min - eta L`` and ``eta (L - mu)``.
    """

    def claim(x: Carrier) -> Equations:
        eta, L, mu, b = (x.scalar(name) for name in ("eta", "L", "mu", "b"))
        R, g, e = x.positive("R", x.d), x.matrix("g", x.d, 1), x.matrix("e", x.d, 1)
        excess, smooth = x.scalar("excess"), x.scalar("smooth")  # f - f*, and the descent lemma's gap
        F, root, one = R @ R, R.inverse(), x.identity(x.d)
        C = root @ root
        reach = 2 if fault == "step-twice-as-long" else 1
        above, below = Psd.assumed(x, reach * F - eta * L * one), Psd.assumed(x, b * one - F)
        half = 1 if fault == "descent-lemma-without-half" else 2
        way = -eta * (C @ g)
        after = excess + x.trace(g.T @ way) + (L / half) * x.trace(way.T @ way) - smooth
        dominance = x.trace(g.T @ g) - 2 * mu * excess
        rate = 1 - (2 if fault == "rate-doubled" else 1) * eta * mu / b
        slack = (
            Nonnegative.assumed(smooth)
            + Nonnegative.positive(eta / 2) * above.under(g.T @ C).trace()
            + Nonnegative.positive(eta / (2 * b)) * below.under(g.T @ root).trace()
            + Nonnegative.positive(eta / (2 * b)) * Nonnegative.assumed(dominance)
        )
        convex = -excess - x.trace(g.T @ e) - (mu / 2) * x.trace(e.T @ e)  # f* - f - g'e - mu/2 |e|^2
        square = Psd.gram(x, (mu * e + g).T).trace()
        return {
            "one step": (rate * excess - after, slack),
            "gradient dominance": (
                dominance,
                Nonnegative.positive(2 * mu) * Nonnegative.assumed(convex) + square,
            ),
        }

    eta, mu, p, q, r = sympy.symbols("eta mu p q r", nonnegative=True)
    L = mu + r
    b = p + q + eta * L
    return Finding(
        (*prove(claim), scalar_identity("the factor lies in [0, 1)", b - eta * mu, p + q + eta * r)),
        "slack of one step: descent lemma, C (F - eta L I) C, R^-1 (b I - F) R^-1 and gradient dominance, "
        "each non-negative, for all dimensions and every F_t between the bounds",
    )


@evidence(faults=("condition-without-beta", "weight-of-the-error-halved", "error-grows"))
def momentum(*, fault: str | None = None) -> Finding:
    """``2 L eta <= lam (1 - beta)``, ``lam I <= F_t <= b I``, full gradient: the gradient tends to 0.

    The bias-corrected momentum obeys ``M_t = w_t M_{t-1} + (1 - w_t) g_t`` with
    ``w_t = beta (1 - beta^(t-1))/(1 - beta^t)``, at most beta and 0 at ``t = 1``. Let ``e_t = M_t - g_t`` and
    ``V_t = f_t + A |e_t|^2``, ``A = eta/(2 lam (1-beta))``. Then

        V_t - V_{t+1} - eta/2 g'C g

    is a sum of non-negative terms: the gaps of the descent lemma and of the Lipschitz gradient; ``A`` times
    ``(beta^2 - w^2) |e - D|^2 + beta/(1-beta) |(1-beta) e + beta D|^2``, D the change of the gradient;
    ``eta/2 e'(I/lam - C) e``; and multiples of ``M'C M`` and of ``M'C ((1-beta)/2 F - L eta I) C M``, by the
    condition on the step. Hence ``eta/(2b) sum |g_t|^2 <= f_1 - f*``, and the least of T gradients satisfies
    ``|g|^2 <= 2 b (f_1 - f*)/(eta T)``.
    """

    def claim(x: Carrier) -> Equations:
        beta, rest = x.weight("beta")
        eta, L, w, spare = (x.scalar(name) for name in ("eta", "L", "w", "spare"))
        lam = (spare + 2 * L * eta) / (1 if fault == "condition-without-beta" else rest)
        R, M, g, D = x.positive("R", x.d), *(x.matrix(name, x.d, 1) for name in ("M", "g", "D"))
        smooth, F, root, one = x.scalar("smooth"), R @ R, R.inverse(), x.identity(x.d)
        C = root @ root
        e, C_M = M - g, C @ M

        def square(v: object) -> object:
            return x.trace(v.T @ v)  # type: ignore[attr-defined]

        A = eta / ((4 if fault == "weight-of-the-error-halved" else 2) * lam * rest)
        drop = eta * x.trace(g.T @ C_M) - (L / 2) * eta**2 * square(C_M) + smooth  # f_t - f_{t+1}
        gain = w + rest if fault == "error-grows" else w
        change = drop + A * (square(e) - gain**2 * square(e - D)) - (eta / 2) * x.trace(g.T @ C @ g)

        floor = Psd.assumed(x, F - lam * one)
        positive, at_least = Nonnegative.positive, Nonnegative.assumed
        room = positive(rest / 2) * floor + at_least(spare / 2) * Psd.identity(x, x.d)
        lipschitz = at_least(L**2 * eta**2 * square(C_M) - square(D))
        young = Psd.gram(x, (rest * e + beta * D).T).trace()
        pull = eta * beta**2 * L / (lam * rest**2)
        kept = (2 + beta + beta * rest) / 4 + beta**2 * spare / (4 * lam * rest)
        slack = (
            at_least(smooth)
            + at_least(A * beta**2 / rest) * lipschitz
            + positive(A) * at_least(beta**2 - w**2) * Psd.gram(x, (e - D).T).trace()
            + at_least(A * beta / rest) * young
            + positive(eta / (2 * lam)) * floor.under(e.T @ root).trace()
            + positive(eta * (1 + pull) / 2) * room.under(C_M.T).trace()
            + positive(eta * kept / 2) * Psd.gram(x, M.T @ root).trace()
        )
        return {
            "the step condition": ((rest / 2) * F - L * eta * one, room),
            "one step": (change, slack),
        }

    beta, power = sympy.symbols("beta power", positive=True)  # power stands for beta^t
    weight = beta * (1 - power / beta) / (1 - power)
    return Finding(
        (
            *prove(claim),
            scalar_identity("weight of the new gradient", 1 - weight, (1 - beta) / (1 - power)),
            scalar_identity("w_t is at most beta", beta - weight, power * (1 - beta) / (1 - power)),
            scalar_identity("w_1 = 0", weight.subs(power, beta)),
        ),
        "f + eta/(2 lam (1-beta)) |M - g|^2 falls by eta/2 g'C g at least, for all dimensions and every F_t "
        "between its bounds: sum |g_t|^2 <= 2 b (f_1 - f*)/eta",
    )
