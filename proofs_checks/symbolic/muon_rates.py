"""Rates of Muon: Kim and Oh in the nuclear norm, Nagashima and Iiduka in the Frobenius norm."""

from typing import Any

import numpy as np
import sympy
from flint import fmpq

from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import Ratio, yes_no
from proofs_checks.symbolic.carriers import Carrier
from proofs_checks.symbolic.closed_form import dual_norm_slack
from proofs_checks.symbolic.cone import Psd
from proofs_checks.symbolic.proof import Equations, prove, scalar_identity
from proofs_checks.symbolic.rates import code_agrees, descent_integral, path_equations, rank, summed
from reference.bounds import kim_oh_rate, nagashima_iiduka_rate

__all__ = [
    "explicit_bound",
    "fismo_matches_muon",
    "one_step",
    "scheduled_bound",
    "sharper_first_gradient",
]

_s = sympy.symbols
T, eta, L, D, beta, sigma, B, r = _s("T eta L D beta sigma B r", positive=True)
eps, g = _s("epsilon g", positive=True)


def _inexact_step(x: Carrier, fault: str | None) -> Equations:
    """``<grad, X>`` for ``X = O + E``, ``|E|_2 <= eps``, O the polar factor of N, R that of the gradient."""
    k, e, one = rank(x), x.scalar("epsilon"), x.r / x.r
    U, H, V = x.isometry("U", x.m, k), x.diagonal("H", k), x.isometry("V", x.n, k)
    W, K, Z = x.isometry("W", x.m, x.r), x.diagonal("K", x.r), x.isometry("Z", x.n, x.r)
    N, O, gradient, R = U @ H @ H @ V.T, U @ V.T, W @ K @ K @ Z.T, W @ Z.T
    E, Y = x.matrix("E", x.m, x.n), x.matrix("Y", x.m, x.n)  # Y is any matrix of norm at most 1
    nuclear, miss = x.trace(K @ K), N - gradient
    inexact = dual_norm_slack(x, W, K, Z, E, e)
    polar = dual_norm_slack(x, U, H, V, -R, one)
    ball = x.scalar("e") if fault == "holder-with-another-radius" else one
    kept = nuclear if fault == "inexactness-forgotten" else (1 - e) * nuclear
    return {
        "<grad, O + E>": (
            x.trace(gradient.T @ (O + E)),
            kept + inexact.value + polar.value + x.trace(miss.T @ R) - x.trace(miss.T @ O),
        ),
        "|F|_* + <F, Y> for any F": (
            nuclear + x.trace(gradient.T @ Y),
            dual_norm_slack(x, W, K, Z, Y, ball),
        ),
    }


@evidence(faults=("inexactness-forgotten", "holder-with-another-radius", "radius-of-the-exact-factor"))
def one_step(*, fault: str | None = None) -> Finding:
    """One step with an inexact polar factor, and the momentum error with its three terms.

    ``f(W_t) <= f(W_{t-1}) - eta (1-eps) |grad|_* + 2 eta |grad - N|_* + L eta^2 (1+eps)^2 / 2``: the excess
    is a sum of squares plus two products ``<grad - N, O>`` and ``<grad - N, R>``, each at most
    ``|grad - N|_*`` by duality. Smoothness from spectral to nuclear norm integrates to ``L |X|_2^2 / 2``.
    """
    slack, along_R, along_O, error, f0, f1, nuclear = _s("z a c e f0 f1 s", real=True)
    length = 1 if fault == "radius-of-the-exact-factor" else 1 + eps
    claim = f0 - eta * (1 - eps) * nuclear + 2 * eta * error + L * eta**2 * length**2 / 2 - f1
    X2 = 1 + eps  # |X|_2 <= |O|_2 + |E|_2
    inner = (1 - eps) * nuclear + slack + along_R - along_O
    descent = f0 - eta * inner + L / 2 * (eta * X2) ** 2 - f1
    slacks = descent + eta * slack + eta * (along_R + error) + eta * (error - along_O)

    def recursion(x: Carrier) -> Equations:
        b, fresh = x.weight("beta")
        now, before, noise, N1 = (x.matrix(name, x.m, x.n) for name in ("now", "before", "noise", "N1"))
        N = b * N1 + fresh * (now + noise)  # N = (1-beta) M with M = beta M' + G
        return {
            "error = beta error' + beta change + (1-beta) noise": (
                N - now,
                b * (N1 - before) + b * (before - now) + fresh * noise,
            )
        }

    return Finding(
        (
            *prove(lambda x: _inexact_step(x, fault)),
            *prove(recursion),
            descent_integral(),
            scalar_identity("the inequality is a sum of its slacks", claim, slacks),
        ),
        "descent of one inexact step and recursion of the momentum error, for all sizes and ranks. Trusted: "
        "existence of the SVD, triangle inequality",
    )


@evidence(faults=("momentum-error-once", "noise-without-the-average", "first-gradient-without-beta"))
def explicit_bound(*, fault: str | None = None) -> Finding:
    """The explicit averaged bound and its tuned form.

    The bound is the sum over the steps of `one_step`. At ``eta = sqrt((1-beta) D/(T L))`` and ``1 - beta =
    x = sqrt(L D B)/(sigma sqrt(r T))``, below 1, every term is one of three orders: their squares or fourth
    powers are compared.
    """
    limit = sympy.sqrt((1 - beta) / (1 + beta))
    noise = sympy.sqrt(r) * sigma / sympy.sqrt(B) * (1 if fault == "noise-without-the-average" else limit)
    memory, full = 2 * beta / (1 - beta), sympy.sqrt(r) * sigma / sympy.sqrt(B) * limit
    first_weight = 2 / (1 - beta) if fault == "first-gradient-without-beta" else memory
    times = 1 if fault == "momentum-error-once" else 2
    bound = (
        D / (T * eta)
        + L * eta / 2 * (1 + eps) ** 2
        + times / sympy.Integer(2) * memory * L * eta * (1 + eps)
        + 2 * noise
        + first_weight * g / T
    ) / (1 - eps)
    x = sympy.sqrt(L * D * B) / (sigma * sympy.sqrt(r * T))
    tuned = sympy.sqrt(x * D / (T * L))
    root, fourth = L * D / T, r * sigma**2 * L * D / (B * T)
    orders = {
        "start^4 = fourth-root order": ((D / (T * tuned)) ** 4, fourth),
        "(L eta / (1-beta))^4 = fourth-root order": ((L * tuned / x) ** 4, fourth),
        "(L eta)^2 = (1-beta) times the root order": ((L * tuned) ** 2, x * root),
        "(noise / averaging)^4 at 1-beta": ((r * sigma**2 / B * x) ** 2, fourth),
        "(first gradient term)^2": (2 * r * L * D / (T * x) ** 2, 2 * r**2 * sigma**2 / (B * T)),
        "sharpened: r times smaller": (2 * L * D / (T * x) ** 2, 2 * r * sigma**2 / (B * T)),
    }
    return Finding(
        (
            *one_step().ratios,
            summed(
                bound,
                squares=(1 + eps) ** 2,
                change=L * eta * (1 + eps),
                noise=full,
                first=g,
                outer=1 / (1 - eps),
            ),
            *(scalar_identity(name, sympy.simplify(a / b), 1) for name, (a, b) in orders.items()),
            code_agrees("the code's bound", bound, [_kim_oh_point(k) for k in range(4)]),
        ),
        "explicit bound as the sum of the one-step inequalities, the same formula as the code's; with the "
        "prescribed eta and beta every term is of one of the three orders. Trusted: orthogonality of "
        "martingale differences, Jensen, |N|_* <= sqrt(r) |N|_F",
    )


def _kim_oh_point(k: int) -> tuple[dict[Any, Any], float]:
    rate = kim_oh_rate(
        r=k + 1, D=2.0, L=0.5, sigma=0.25, batch=4, T=64, eta=0.125, beta=0.75, epsilon=0.25 * (k % 3)
    )
    at = {D: 2.0, L: 0.5, sigma: 0.25, B: 4, T: 64, eta: 0.125, beta: 0.75, r: k + 1, eps: 0.25 * (k % 3)}
    return at | {g: (2 * (k + 1) * 0.5 * 2.0) ** 0.5}, rate.total


@evidence(faults=("step-twice-as-long", "nuclear-norm-of-the-square"))
def sharper_first_gradient(*, fault: str | None = None) -> Finding:
    """``|grad f|_* <= sqrt(2 L D)`` under Kim and Oh's smoothness, without their factor ``sqrt(r)``.

    The step ``-t Polar(grad)`` has spectral norm t and ``<grad, Polar(grad)> = |grad|_*``, so ``f* <= f - t
    |grad|_* + L t^2/2``; at ``t = |grad|_*/L`` this says ``2 L D >= |grad|_*^2``. Equality for
    ``f = L w^2/2`` in one dimension.
    """

    def claim(x: Carrier) -> Equations:
        W, K, Z = x.isometry("W", x.m, x.r), x.diagonal("K", x.r), x.isometry("Z", x.n, x.r)
        F, R = W @ K @ K @ Z.T, W @ Z.T
        nuclear = x.trace(K @ K @ K @ K) if fault == "nuclear-norm-of-the-square" else x.trace(K @ K)
        return {
            "<grad, R> = |grad|_*": (x.trace(F.T @ R), nuclear),
            "|R|_2 = 1": (R.T @ R @ R.T, R.T),
        }

    low, f0 = _s("low f0", real=True)
    t = (2 if fault == "step-twice-as-long" else 1) * g / L
    descent = f0 - t * g + L * t**2 / 2 - low
    w = fmpq(7, 3)
    return Finding(
        (
            *prove(claim),
            descent_integral(),
            scalar_identity(
                "2 L (f - f*) - |grad|^2 = 2 L slack", 2 * L * (f0 - low) - g**2, 2 * L * descent
            ),
            yes_no("attained by a quadratic", (3 * w) ** 2 == 2 * 3 * (3 * w * w / 2)),
        ),
        "|grad f(W_0)|_* <= sqrt(2 L D), attained; the published sqrt(2 r L D) is larger by sqrt(r)",
        tightness=1.0,
    )


@evidence(faults=("nesterov-without-beta", "memory-one-step-short", "nuclear-below-frobenius"))
def scheduled_bound(*, fault: str | None = None) -> Finding:
    """The five-term bound for any schedules, with the Nesterov variant.

    ``eta_t |grad_t|_F`` is bounded by the one-step descent (the path inequality with ``A = C = I``) and
    ``|grad|_F <= |grad|_*``; the momentum error is the unrolled recursion; a minimum is at most a weighted
    mean. Nesterov's ``beta M + (1-beta) G`` has the error ``beta E + (1-beta) N``.
    """

    def claim(x: Carrier) -> Equations:
        b, fresh = x.weight("beta")
        M, now, N = (x.matrix(name, x.m, x.n) for name in ("M", "now", "N"))
        W, K, Z = x.isometry("W", x.m, x.r), x.diagonal("K", x.r), x.isometry("Z", x.n, x.r)
        F, square = W @ K @ K @ Z.T, Psd.assumed(x, K @ K)
        look = M - now if fault == "nesterov-without-beta" else b * (M - now)
        gap = x.trace(K @ K) ** 2 - x.trace(F @ F.T)
        return {
            "Nesterov's error": (b * M + fresh * (now + N) - now, look + fresh * N),
            "|F|_*^2 - |F|_F^2": (
                -gap if fault == "nuclear-below-frobenius" else gap,
                square.below_trace(x.r).under(K).trace(),
            ),
        }

    return Finding(
        (
            *prove(lambda x: path_equations(x, None)),
            *prove(claim),
            descent_integral(),
            *_unrolled(6, short=fault == "memory-one-step-short"),
            *(_schedule_agrees(nesterov) for nesterov in (False, True)),
        ),
        "descent, momentum error and Nesterov's error for all sizes; the recursion unrolled in symbols; the "
        "double sums equal the code's. Trusted: triangle inequality, Jensen",
    )


def _unrolled(steps: int, *, short: bool) -> list[Ratio]:
    """``e_t = beta e_{t-1} + beta c_{t-1} + (1-beta) n_t`` from ``e_0`` gives the sums of the bound."""
    start, c, n = _s("e0"), _s(f"c0:{steps + 1}"), _s(f"n0:{steps + 1}")
    error, found = start, []
    for t in range(1, steps + 1):
        error = beta * error + beta * c[t - 1] + (1 - beta) * n[t]
        change = sum(beta**i * c[t - i] for i in range(1, t if short else t + 1))
        noise = (1 - beta) * sum(beta**i * n[t - i] for i in range(t))
        found.append(scalar_identity(f"error after {t} steps", error, beta**t * start + change + noise))
    return found


def _schedule_agrees(nesterov: bool) -> Ratio:
    """The bound's double sums in rational arithmetic against the code."""
    q = sympy.Rational
    steps = [q(1, k + 2) for k in range(5)]
    batches = [sympy.Integer((k + 1) ** 2) for k in range(5)]  # squares: their roots are rational
    b, nu, size, smooth, deviation, first = q(3, 4), 4, q(2), q(1, 2), q(1, 4), q(3, 2)
    total, look = sum(steps), b if nesterov else 1
    noise = [sum(b**i / sympy.sqrt(batches[t - i]) for i in range(t + 1)) for t in range(5)]
    change = [sum(b**i * steps[t - i] for i in range(1, t + 1)) for t in range(5)]
    terms = [
        size,
        nu * smooth / 2 * sum(e**2 for e in steps),
        look * 2 * 2 * first * sum(e * b**t for t, e in enumerate(steps)),
        look * 2 * smooth * nu * sum(e * x for e, x in zip(steps, change, strict=True)),
        look * 2 * (1 - b) * deviation * 2 * sum(e * x for e, x in zip(steps, noise, strict=True)),
    ]
    if nesterov:
        fresh = sum(e / sympy.sqrt(x) for e, x in zip(steps, batches, strict=True))
        terms.append(2 * 2 * (1 - b) * deviation * fresh)
    got = nagashima_iiduka_rate(
        np.array([float(e) for e in steps]),
        np.array([float(x) for x in batches]),
        nu=4,
        D=2.0,
        L=0.5,
        sigma=0.25,
        beta=0.75,
        momentum_error=1.5,
        nesterov=nesterov,
    )
    return code_agrees(
        f"the code's bound, Nesterov {nesterov}", sympy.sympify(sum(terms) / total), [({}, got.total)]
    )


@evidence(faults=("smoothness-not-converted", "orders-without-the-root"))
def fismo_matches_muon(*, fault: str | None = None) -> Finding:
    """The quoted form has Nagashima and Iiduka's shape; with T6 and R3 it has Kim and Oh's order.

    With flat factors (``Lambda = p = q = 1``, no drift) the five groups of the quoted rate are, up to the
    norm, Nagashima and Iiduka's constant-schedule terms with ``|M_0 - grad|`` read as ``G*`` and ``beta`` for
    their 1. T6 with flat factors is Kim and Oh's bound with ``L`` replaced by ``r L``: Frobenius smoothness
    gives ``|change|_* <= sqrt(r) |change|_F <= sqrt(r) L |X|_F <= r L |X|_2``. In regime R3, where the drift
    is of the order of the step, T6 falls like ``T^(-1/4)``, as Kim and Oh's tuned bound at fixed batch.
    """
    c, drift, G = _s("c drift G", positive=True)
    convert = 1 if fault == "smoothness-not-converted" else r
    smooth, deviation = L * convert, sigma / sympy.sqrt(B)
    limit, memory = sympy.sqrt((1 - beta) / (1 + beta)), 2 * beta / (1 - beta)
    averaged = (
        D / (eta * T)
        + L * eta * r / 2
        + 2 * sympy.sqrt(r) * limit * deviation
        + memory * sympy.sqrt(r) * (L * eta * sympy.sqrt(r) + G / (sympy.sqrt(r) * T))
    )
    kim_oh = (
        D / (eta * T)
        + smooth * eta / 2
        + 2 * sympy.sqrt(r) * limit * deviation
        + memory * (smooth * eta + G / T)
    )
    quoted = [
        D / (eta * T),
        L * eta * r / 2,
        memory * G / T,
        memory * eta * r * L,
        2 * sympy.sqrt(r) * deviation,
    ]
    first = G / sympy.sqrt(r)  # a Frobenius norm times sqrt(r)
    constant = [
        D / (eta * T),
        r * L * eta / 2,
        2 * sympy.sqrt(r) * first / ((1 - beta) * T) * beta,
        2 * L * r * eta / (1 - beta) * beta,
        2 * deviation * sympy.sqrt(r),
    ]
    # R3: eta = c x^3, 1 - beta = x^2, T = x^-4, drift = const x^3; T^(1/4) times the bound as x -> 0
    x = _s("x", positive=True)
    moving = 2 * sympy.sqrt(r) * drift * deviation + memory * G * drift
    power = 2 if fault == "orders-without-the-root" else 3
    tuned = (averaged + moving).subs({eta: c * x**power, drift: drift * x**3, beta: 1 - x**2, T: x**-4})
    order = sympy.limit(tuned / x, x, 0)
    return Finding(
        (
            scalar_identity(
                "T6 with flat factors is Kim and Oh's bound with r L", sympy.expand(averaged - kim_oh)
            ),
            *(
                scalar_identity(f"quoted term {k} is Nagashima and Iiduka's", a, b)
                for k, (a, b) in enumerate(zip(quoted, constant, strict=True), start=1)
            ),
            yes_no(
                "R3: T^(1/4) times T6 has a finite positive limit",
                bool(order.is_finite and order.is_positive),
            ),
            *prove(_norm_conversion),
        ),
        f"flat factors: the quoted terms are Nagashima-Iiduka's, T6 is Kim-Oh's bound with r L; in R3 "
        f"T^(1/4) times T6, drift terms included, tends to {order}",
    )


def _norm_conversion(x: Carrier) -> Equations:
    """``r |F|_F^2 - |F|_*^2`` and ``r |X|_2^2 - |X|_F^2`` are not negative."""
    W, K, Z = x.isometry("W", x.m, x.r), x.diagonal("K", x.r), x.isometry("Z", x.n, x.r)
    F, one, size = W @ K @ K @ Z.T, x.identity(x.r), x.scalar("size")
    spread = K @ K - (x.trace(K @ K) / x.r) * one
    below = Psd.assumed(x, size * one - K @ K @ K @ K)  # |X|_2^2 at most size
    return {
        "r |F|_F^2 - |F|_*^2": (
            x.r * x.trace(F @ F.T) - x.trace(K @ K) ** 2,
            x.r * x.trace(spread @ spread.T),
        ),
        "r |X|_2^2 - |X|_F^2": (x.r * size - x.trace(F @ F.T), below.trace()),
    }
