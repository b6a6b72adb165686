"""FISMO's rates: the descent of one step, the error of the momentum, and the sum of both.

A rate is proved in two parts. The lemmas are equations between matrices, for all sizes, with the slack of
each inequality written down. The rate itself is a linear combination of the lemmas, summed over the steps:
*bound minus average = non-negative coefficients times slacks*, one scalar identity.
"""

from typing import Any

import sympy
from flint import fmpq

from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import ORDER_ONE, Ratio, unit_roundoff
from proofs_checks.symbolic.carriers import Carrier, Symbols
from proofs_checks.symbolic.closed_form import dual_norm_slack
from proofs_checks.symbolic.cone import Psd
from proofs_checks.symbolic.proof import Equations, prove, scalar_identity
from reference.bounds import (
    UniformBounds,
    fismo_rate,
    fismo_rate_t6,
    reconstructed_drift,
)

__all__ = [
    "averaged_rate",
    "cauchy_schwarz",
    "code_agrees",
    "descent_integral",
    "momentum_error",
    "path_equations",
    "path_inequality",
    "quoted_rate",
    "rank",
    "step_and_gradient_norms",
    "summed",
]

_s = sympy.symbols
T, eta, L, D, beta, G, sigma, B, r, p, q, outer = _s("T eta L D beta G sigma B r p q outer", positive=True)


def rank(x: Carrier) -> Any:
    """Another rank than ``x.r``: any size in symbols, 1 in numbers."""
    return _s("k", positive=True, integer=True) if isinstance(x, Symbols) else fmpq(1)


def cauchy_schwarz(x: Carrier, E: Any, O: Any, size: Any) -> tuple[Any, Any]:
    """``e (e |O|^2 - c^2) = |e O - c E|^2`` with ``e = |E|_F^2`` and ``c = <E, O>``: ``c^2 <= e |O|^2``."""
    e, c = x.trace(E @ E.T), x.trace(E.T @ O)
    miss = e * O - c * E
    return e * (e * size - c**2), x.trace(miss @ miss.T)


def descent_integral() -> Ratio:
    """``f(W + X) - f(W) - <grad, X>`` integrates changes of the gradient, at most ``L s |X|`` each."""
    s, length = _s("s length", positive=True)
    integral = sympy.integrate(L * s * length * length, (s, 0, 1))
    return scalar_identity("descent lemma: integral of L s |X|^2", integral, L * length**2 / 2)


def path_equations(x: Carrier, fault: str | None) -> Equations:
    """One step: M of rank k and S of rank r, with polar factors O and R."""
    k, step = rank(x), x.scalar("eta")
    U, H, V = x.isometry("U", x.m, k), x.diagonal("H", k), x.isometry("V", x.n, k)
    W, K, Z = x.isometry("W", x.m, x.r), x.diagonal("K", x.r), x.isometry("Z", x.n, x.r)
    M, O, S, R = U @ H @ H @ V.T, U @ V.T, W @ K @ K @ Z.T, W @ Z.T
    A, C, E = x.positive("A", x.m), x.positive("C", x.n), M - S
    gradient = A.inverse() @ S @ C.inverse()
    X = -step * (O @ C if fault == "left-root-forgotten" else A @ O @ C)
    slack = dual_norm_slack(x, U, H, V, -R, x.r / x.r)  # |M|_* - <M, R>
    nuclear = x.trace(K @ K @ K @ K if fault == "frobenius-for-nuclear" else K @ K)
    return {
        "<grad, X> = -eta <S, O>": (x.trace(gradient.T @ X), -step * x.trace(S.T @ O)),
        "<M, O> = |M|_*": (x.trace(M.T @ O), x.trace(H @ H)),
        "<S, O> = |S|_* + slack + <E, R> - <E, O>": (
            x.trace(S.T @ O),
            nuclear + slack.value + x.trace(E.T @ R) - x.trace(E.T @ O),
        ),
        "|O|_F^2 = k": (x.trace(O @ O.T), k),
        "|R|_F^2 = r": (x.trace(R @ R.T), x.r),
        "<E, O>^2 <= k |E|^2": cauchy_schwarz(x, E, O, k),
        "<E, R>^2 <= r |E|^2": cauchy_schwarz(x, E, R, x.r),
    }


@evidence(faults=("left-root-forgotten", "frobenius-for-nuclear", "one-error-term"))
def path_inequality(*, fault: str | None = None) -> Finding:
    """``f(W_t) <= f(W_{t-1}) - eta |S|_* + 2 eta sqrt(r) |E|_F + L eta^2 |A O C|_F^2 / 2`` at every step.

    With R the polar factor of S: ``<grad, A O C> = <S, O> = |S|_* + (|M|_* - <M, R>) + <E, R> - <E, O>``. The
    bracket is a sum of squares, and both products with E are at most ``sqrt(r) |E|_F`` because
    ``|O|_F^2`` and ``|R|_F^2`` are ranks.
    """
    old, new, nuclear, slack, along_R, along_O, error, size, root = _s("f0 f1 s z a c e x rho", real=True)
    descent = old - eta * (nuclear + slack + along_R - along_O) + L * eta**2 * size / 2 - new
    terms = 1 if fault == "one-error-term" else 2
    claim = old - eta * nuclear + terms * eta * root * error + L * eta**2 * size / 2 - new
    slacks = descent + eta * slack + eta * (along_R + root * error) + eta * (root * error - along_O)
    return Finding(
        (
            *prove(lambda x: path_equations(x, fault)),
            descent_integral(),
            scalar_identity("the inequality is a sum of its slacks", claim, slacks),
        ),
        "one-step descent as an identity with non-negative slack, for all sizes, ranks and positive definite "
        "factors; needs only smoothness and an exact polar factor. Trusted: existence of the SVD",
    )


def momentum_error(x: Carrier, fault: str | None) -> Equations:
    """The recursion of ``E_t = M_t - S_t``, the change of S and the split of the noise; ``'`` is one step
    before."""
    beta, fresh = x.weight("beta")
    A, A1 = x.positive("A", x.m), x.positive("A1", x.m)
    C, C1 = x.positive("C", x.n), x.positive("C1", x.n)
    now, before, N, M1 = (x.matrix(name, x.m, x.n) for name in ("now", "before", "N", "M1"))
    S, S1 = A @ now @ C, A1 @ before @ C1
    M = beta * M1 + fresh * (A @ (now + N) @ C)
    noise = A1 @ N @ C1 if fault == "noise-in-the-old-frame" else A @ N @ C
    frame = (A1 - A) @ now @ C1
    if fault != "one-sided-frame-change":
        frame = frame + A @ now @ (C1 - C)
    return {
        "E = beta E' + beta (S' - S) + (1-beta) A N C": (
            M - S,
            beta * (M1 - S1) + beta * (S1 - S) + fresh * noise,
        ),
        "S' - S = gradient change + frame change": (S1 - S, A1 @ (before - now) @ C1 + frame),
        "A N C = A' N C' + remainder": (
            A @ N @ C,
            A1 @ N @ C1 + (A - A1) @ N @ C + A1 @ N @ (C - C1),
        ),
    }


def step_and_gradient_norms(x: Carrier, fault: str | None) -> Equations:
    """``|A O C|_F^2 <= p q r``, ``|grad|_* <= sqrt(Lambda_P Lambda_Q) |S|_*`` and ``|N|_* <= sqrt(r) |N|_F``.

    The first by ``A^2 <= p I`` and ``C^2 <= q I``; the second by duality: with polar factor O of the gradient
    ``|grad|_* = <S, A^-1 O C^-1>``, and the norm of the second matrix is at most ``h = sqrt(Lambda_P
    Lambda_Q)``; the third because the variance of the singular values is not negative.
    """
    A, C = x.positive("A", x.m), x.positive("C", x.n)
    U, V, p, q, h = (
        x.isometry("U", x.m, x.r),
        x.isometry("V", x.n, x.r),
        x.scalar("p"),
        x.scalar("q"),
        x.scalar("h"),
    )
    O = U @ V.T
    W, K, Z = x.isometry("W", x.m, x.r), x.diagonal("K", x.r), x.isometry("Z", x.n, x.r)
    S, Y, one = W @ K @ K @ Z.T, A.inverse() @ O @ C.inverse(), x.identity(x.r)
    gradient = A.inverse() @ S @ C.inverse()
    X = A @ O @ C
    below_q = Psd.assumed(x, q * x.identity(x.n) - C @ C).under(A @ O).trace()
    below_p = Psd.assumed(x, p * x.identity(x.m) - A @ A).under(O.T).trace()
    slack = below_q.value + (p if fault == "p-for-q" else q) * below_p.value
    mean = x.trace(K @ K) / x.r
    spread = K @ K - mean * one
    return {
        "p q r - |A O C|_F^2": (p * q * x.r - x.trace(X @ X.T), slack),
        "<grad, O> = <S, A^-1 O C^-1>": (x.trace(gradient.T @ O), x.trace(S.T @ Y)),
        "h |S|_* - <S, Y>": (h * x.trace(K @ K) - x.trace(S.T @ Y), dual_norm_slack(x, W, K, Z, -Y, h)),
        "r |N|_F^2 - |N|_*^2": (
            x.r * x.trace(S @ S.T) - x.trace(K @ K) ** 2,
            x.r * x.trace(spread @ spread.T),
        ),
    }


def summed(bound: Any, *, squares: Any, change: Any, noise: Any, first: Any, outer: Any) -> Ratio:
    """``T bound - sum |grad|_*`` as a combination of slacks, all sums over the T steps.

    Arguments are what the lemmas allow: `squares` for ``|A O C|_F^2``, `change` for one change of S, `noise`
    for one noise term, `first` for ``|S_1|``, which stands in place of a change at the first step, `outer`
    for ``|grad|_*`` over ``|S|_*``. Every weight is positive.
    """
    f0, f1, low, sum_S, sum_E, sum_X, sum_C, sum_N, sum_G = _s("f0 f1 low S E X C N Y", real=True)
    slacks = {
        "path": f0 - f1 - eta * sum_S + 2 * eta * sum_E + L * eta**2 * sum_X / 2,
        "lower bound": f1 - low,
        "steps": T * squares - sum_X,
        "recursion": beta * sum_E + beta * sum_C + (1 - beta) * sum_N - sum_E,
        "changes": first + T * change - sum_C,
        "noise": T * noise - sum_N,
        "gradients": outer * sum_S - sum_G,
    }
    weights = {
        "path": outer / eta,
        "lower bound": outer / eta,
        "steps": outer * L * eta / 2,
        "recursion": 2 * outer / (1 - beta),
        "changes": 2 * outer * beta / (1 - beta),
        "noise": 2 * outer,
        "gradients": 1,
    }
    total = sum(weights[name] * slacks[name] for name in slacks)
    return scalar_identity("T bound - sum = weights times slacks", T * bound.subs(D, f0 - low) - sum_G, total)


def code_agrees(name: str, formula: Any, points: list[tuple[dict[Any, Any], float]]) -> Ratio:
    """The proved formula at rational points against the number that `reference.bounds` returns there.

    A few dozen roundings of positive terms: an O(1) multiple of the unit roundoff, relative.
    """
    errors = [abs(float(formula.subs(at)) / got - 1) for at, got in points]
    return Ratio(name, max(errors), unit_roundoff("float64"), ORDER_ONE)


@evidence(faults=("one-sided-frame-change", "noise-in-the-old-frame", "p-for-q", "no-factor-two-on-noise"))
def quoted_rate(*, fault: str | None = None) -> Finding:
    """The averaged rate with five explicit groups of terms (reconstructed constants).

    Lemmas: `path_inequality`; the recursion of the momentum error, whose sources are the gradient change (at
    most ``p^2 r L eta``), the frame change (``2 sqrt(p) d G*`` for both roots, with drift d) and the noise
    (``p sqrt(r) sigma/sqrt(B)``); and three norm inequalities. ``p = q = 1/(1-b)`` and the drift d are Lemma
    D.2 and D.5.
    """
    d_A, d_C = _s("d_A d_C", positive=True)
    noise, squares = p * sympy.sqrt(r) * sigma / sympy.sqrt(B), p**2 * r
    change = p**2 * r * L * eta + sympy.sqrt(p) * (d_A + d_C) * G
    twice = 1 if fault == "no-factor-two-on-noise" else 2
    memory = 2 * beta / (1 - beta)
    bound = outer * (D / (eta * T) + L * eta * squares / 2 + memory * (p * G / T + change) + twice * noise)
    gamma, mu, level = _s("gamma mu Lambda", positive=True)
    drift = (1 - gamma) * mu * p * level / (gamma + (1 - gamma) * mu)  # Lemma D.5
    C_d = (
        p**3 * mu * 2 * level / (gamma + (1 - gamma) * mu) / 2
    )  # with Lambda_P + Lambda_Q = 2 Lambda, c_gamma = 1
    printed = sympy.sqrt(p) * 2 * (p ** sympy.Rational(3, 2) / 2 * drift)
    return Finding(
        (
            *prove(lambda x: path_equations(x, None)),
            *prove(lambda x: momentum_error(x, fault)),
            *prove(lambda x: step_and_gradient_norms(x, fault)),
            descent_integral(),
            summed(bound, squares=squares, change=change, noise=noise, first=p * G, outer=outer),
            scalar_identity("frame change = C_d G* (1-gamma)/c_gamma", printed, C_d * (1 - gamma)),
            code_agrees("the code's bound", bound, [_quoted_point(k) for k in range(4)]),
        ),
        "average of |grad|_* at most the five groups of terms: lemmas as identities for all sizes, their sum "
        "over the steps as one identity, the same formula as the code's. Constants reconstructed. Trusted: "
        "triangle and product inequalities of norms, E|N| <= sigma/sqrt(B) by Jensen",
    )


def _quoted_point(k: int) -> tuple[dict[Any, Any], float]:
    """Arguments of the code and of the formula, b = 1/(k+2) exactly representable or not."""
    m, n, mu, gamma = 2 + k, 3, 0.5 + k, 0.75
    g = (m * n * mu / (k + 2)) ** 0.5
    arguments = {"m": m, "n": n, "g": g, "mu": mu}
    drift = reconstructed_drift(gamma=gamma, **arguments)
    b = g**2 / (m * n * mu)
    got = fismo_rate(
        D=2.0, L=0.5, G_star=1.5, sigma=0.25, batch=4, T=64, eta=0.125, beta=0.75, gamma=gamma, **arguments
    )
    at = {D: 2.0, L: 0.5, G: 1.5, sigma: 0.25, B: 4, T: 64, eta: 0.125, beta: 0.75, r: min(m, n)}
    roots = dict(zip(_s("d_A d_C", positive=True), (drift.d_A, drift.d_C), strict=True))
    top = ((1 + (m - 1) * b) * (1 + (n - 1) * b)) ** 0.5
    return at | roots | {p: 1 / (1 - b), outer: top}, got.total


@evidence(faults=("noise-in-the-old-frame", "weights-not-squared", "drift-without-the-other-root"))
def averaged_rate(*, fault: str | None = None) -> Finding:
    """T6: the averaged rate in which momentum averages the noise, ``sqrt((1-beta)/(1+beta))``.

    ``A N C = A' N C' + (A - A') N C + A' N (C - C')``: the first part has mean zero given the past, so its
    weighted sum has second moment at most ``(1-beta)^2 sum beta^(2k) p q sigma^2/B``; the rest is at most
    ``(sqrt(q) d_A + sqrt(p) d_C) |N|_F``. Frobenius norms of the error cost ``sqrt(r)`` each.
    """
    d_A, d_C, t = _s("d_A d_C t", positive=True)
    power = 1 if fault == "weights-not-squared" else 2
    moments = (1 - beta) ** 2 * (1 - beta ** (power * t)) / (1 - beta**power)
    limit = (1 - beta) / (1 + beta)
    other = 1 if fault == "drift-without-the-other-root" else sympy.sqrt(p)
    delta = sympy.sqrt(q) * d_A + other * d_C
    full = sympy.sqrt(q) * d_A + sympy.sqrt(p) * d_C
    deviation, roots = sigma / sympy.sqrt(B), sympy.sqrt(p * q)
    noise = sympy.sqrt(limit) * roots * deviation + full * deviation
    change = roots * L * eta * sympy.sqrt(r * p * q) + G * full
    memory, error = beta / (1 - beta), 2 * sympy.sqrt(r)
    terms = [
        D / (eta * T),
        L * eta * r * p * q / 2,
        error * (sympy.sqrt(limit) * roots * deviation + delta * deviation),
        error * memory * (roots * L * eta * sympy.sqrt(r * p * q) + G * delta),
        error * memory * roots * G / T,
    ]
    bound = outer * sum(terms)
    root = sympy.sqrt(r)  # |E|_* <= sqrt(r) |E|_F, so every source enters with it
    return Finding(
        (
            *prove(lambda x: path_equations(x, None)),
            *prove(lambda x: momentum_error(x, fault)),
            *prove(lambda x: step_and_gradient_norms(x, None)),
            descent_integral(),
            scalar_identity(
                "(1-beta)^2 sum of squared weights = (1-beta)/(1+beta) minus what is left",
                moments,
                limit - limit * beta ** (2 * t),
            ),
            summed(
                bound,
                squares=r * p * q,
                change=root * change,
                noise=root * noise,
                first=root * roots * G,
                outer=outer,
            ),
            code_agrees("the code's bound", bound, [_averaged_point(k) for k in range(4)]),
        ),
        "average of |grad|_* with the averaging factor on the noise: the martingale split and the lemmas as "
        "identities for all sizes, their sum over the steps as one identity, the same formula as the code's. "
        "Trusted: triangle and product inequalities of norms, orthogonality of martingale differences, "
        "Jensen; uniform bounds of the factors are D.2, T3 and T7",
    )


def _averaged_point(k: int) -> tuple[dict[Any, Any], float]:
    uniform = UniformBounds(p=1.5 + k, q=2.25, Lambda_P=2.0, Lambda_Q=1.0 + k, d_A=0.125 / (k + 1), d_C=0.5)
    got = fismo_rate_t6(
        r=k + 1, D=2.0, L=0.5, G_f=1.5, sigma=0.25, batch=4, T=64, eta=0.125, beta=0.75, uniform=uniform
    )
    at = {D: 2.0, L: 0.5, G: 1.5, sigma: 0.25, B: 4, T: 64, eta: 0.125, beta: 0.75, r: k + 1}
    roots = dict(zip(_s("d_A d_C", positive=True), (uniform.d_A, uniform.d_C), strict=True))
    outside = (uniform.Lambda_P * uniform.Lambda_Q) ** 0.5
    return at | roots | {p: uniform.p, q: uniform.q, outer: outside}, got.total
