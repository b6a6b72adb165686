"""Checks of the reference against 50 digits: methods that invert curvature, one module after the other.

As in `tests.reference.precision_checks`, whose conventions and helpers these are.
"""

import math

import numpy as np

from proofs_checks.golden.rounding import Normed, Rounded
from proofs_checks.ratios import EXPLICIT_BUDGET, ORDER_ONE, Ratio
from reference import kfac, kl_shampoo, lbfgs, mousse, nystrom_sgd
from tests.reference import precise
from tests.reference.cases import U64, spd
from tests.reference.precise import exact, mp
from tests.reference.precision_checks import FEW, Rng, apart, checks, conditions, entries, factors

EXPLICIT = {"threshold": EXPLICIT_BUDGET}


@checks("kl_shampoo.divergence", "kl_shampoo.one_sided_optimum", "kl_shampoo.update_factors")
def kl_shampoo_stages(rng: Rng) -> list[Ratio]:
    G, S_a, S_b, mu = factors(rng)
    X, A, B = exact(G), exact(S_a), exact(S_b)
    N, m, n = G.shape
    terms = precise.objective_terms(X, A, B, mu)
    rounding = U64 * conditions(S_a, S_b) * float(sum(abs(x) for x in terms)) / 2
    one_sided = sum(x @ x.T for x in X) / N
    weight, order = rng.random(), ("jacobi", "gauss-seidel")[rng.integers(2)]
    got = kl_shampoo.update_factors(G, S_a, S_b, beta2=weight, mu=mu, order=order)
    beta = mp.mpf(weight)
    new_a = (1 - beta) * A + beta * precise.left_factor(X, B, mu)
    seen = A if order == "jacobi" else new_a
    new_b = (1 - beta) * B + beta * precise.right_factor(X, seen, mu)
    level = (N + max(m, n)) * U64
    of_a = level * conditions(S_b) * float(precise.norm(new_a))
    of_b = level * conditions(S_b) * precise.condition(seen) * float(precise.norm(new_b))
    size = float(precise.norm(one_sided))
    return [
        apart("divergence", kl_shampoo.divergence(G, S_a, S_b, mu=mu), sum(terms) / 2, rounding),
        apart("one-sided", kl_shampoo.one_sided_optimum(G), one_sided, N * n * U64 * size),
        apart("S_a", got[0], new_a, of_a),
        apart("S_b", got[1], new_b, of_b),
    ]


@checks("kl_shampoo.joint_optimum")
def kl_shampoo_optimum(rng: Rng) -> list[Ratio]:
    """Nothing is stated: the contraction c sums up what `fixed_point` leaves and what rounding adds."""
    G, _, _, mu = factors(rng)
    G = G / max(1.0, float(np.abs(G).max()))
    S_a, S_b = precise.fixed_point(exact(G), mu, damping="theorem")
    c = float(precise.contraction_factor(exact(G), mu))
    left = float(kl_shampoo.kronecker.fixed_point(G, mu=mu).error_bound) / max(c, U64)
    rounding = max(G.shape[1:]) * U64 * (precise.condition(S_a) + precise.condition(S_b)) / (1 - c * c)
    got = kl_shampoo.joint_optimum(G, mu=mu)
    level = left + rounding
    return [
        apart("S_a", got[0], S_a, level * float(precise.norm(S_a))),
        apart("S_b", got[1], S_b, level * float(precise.norm(S_b))),
    ]


@checks("kl_shampoo.step")
def kl_shampoo_steps(rng: Rng) -> list[Ratio]:
    """Nothing is stated; the running error analysis gives the budget of one step from given factors."""
    G, S_a, S_b, mu = factors(rng)
    beta1, beta2 = rng.random(2)
    state = kl_shampoo.init(G[0], S_a0=S_a, S_b0=S_b)
    update, new = kl_shampoo.step(G[0], state, beta1=beta1, beta2=beta2, mu=mu)
    X, A, B = exact(G[:1]), exact(S_a), exact(S_b)
    b1, b2 = mp.mpf(beta1), mp.mpf(beta2)
    A_new = (1 - b2) * A + b2 * precise.left_factor(X, B, mu)
    B_new = (1 - b2) * B + b2 * precise.right_factor(X, A, mu)
    want = precise.whiten((1 - b1) * X[0], A_new, B_new)
    g, a, b = (Normed.of(x, U64) for x in (G[0], S_a, S_b))
    weight, damping, one = (Rounded.parameter(x, U64) for x in (beta2, mu, 1.0))

    def averaged(old: Normed, other: Normed, s: Normed) -> Normed:
        R, k = other.power(-1.0), len(other.value)
        statistic = s @ R @ s.T + Normed.of(np.eye(len(old.value)), U64) * (R.trace() * damping)
        return old * (one - weight) + statistic * (weight / Rounded.of(float(k), U64))

    left, right = averaged(a, b, g), averaged(b, a, g.T)
    bound = left.power(-1 / 2) @ (g * (one - Rounded.parameter(beta1, U64))) @ right.power(-1 / 2)
    return [
        apart("update", update, want, bound.error, **EXPLICIT),
        apart("S_a", new.S_a, A_new, left.error, **EXPLICIT),
        apart("S_b", new.S_b, B_new, right.error, **EXPLICIT),
    ]


@checks("mousse.whitening")
def mousse_whitening(rng: Rng) -> list[Ratio]:
    k = int(rng.integers(1, 5))
    L, alpha, epsilon = spd(rng, k, 3 * rng.random()), rng.uniform(0.1, 0.5), 10.0 ** rng.uniform(-5, -1)
    want = precise.whitening(exact(L), alpha, epsilon)
    L_bar = precise.whitening(exact(L), -1, epsilon)
    level = k * U64 * precise.condition(L_bar) * float(precise.norm(want))
    return [apart("whitening", mousse.whitening(L, alpha=alpha, epsilon=epsilon), want, level)]


@checks("kfac.factors", "kfac.pi_split", "kfac.step")
def kfac_steps(rng: Rng) -> list[Ratio]:
    """Of the update, stated: normwise of order ``max(m, n) u`` times the conditions of the damped factors."""
    N, n, m = (int(k) for k in rng.integers(1, 4, 3))
    a, s, lam = rng.standard_normal((N, n)), rng.standard_normal((N, m)), 10.0 ** rng.uniform(-2, 0)
    G = rng.standard_normal((m, n + 1))
    A, S = kfac.factors(a, s)
    inputs = np.concatenate([a, np.ones((N, 1))], axis=1)
    found = []
    for got, rows in ((A, inputs), (S, s)):
        want = exact(rows).T @ exact(rows) / N
        found.append(
            entries("factor", got, want, (N + FEW) * U64 * (np.abs(rows.T) @ np.abs(rows)) / N, **EXPLICIT)
        )
    root = mp.sqrt(mp.mpf(lam))
    pi = mp.sqrt(precise.trace(exact(A)) / (n + 1) / (precise.trace(exact(S)) / m))
    for got, want in zip(kfac.pi_split(A, S, lam=lam), (pi * root, root / pi), strict=True):
        found.append(apart("damping", got, want, (n + m + FEW) * U64 * float(want), **EXPLICIT))
    damped = exact(A) + pi * root * precise.eye(n + 1), exact(S) + root / pi * precise.eye(m)
    want = precise.inverse(damped[1]) @ exact(G) @ precise.inverse(damped[0])
    kappa = math.prod(precise.condition(P) for P in damped)
    update, _ = kfac.step(G, kfac.init(G), A=A, S=S, lam=lam)
    found.append(apart("update", update, want, max(m, n + 1) * U64 * kappa * float(precise.norm(want))))
    return found


@checks("lbfgs.two_loop_direction", "lbfgs.step")
def lbfgs_directions(rng: Rng) -> list[Ratio]:
    """Against the dense BFGS matrix; stated growth ``(1 + |s| |y| / (y^T s))^2`` per pair."""
    d, k = (int(x) for x in rng.integers(1, 4, 2))
    H = spd(rng, d, rng.random())
    S, g = rng.standard_normal((k, d)), rng.standard_normal(d)
    Y = S @ H
    want = precise.bfgs(exact(g), exact(S), exact(Y))
    growth = math.prod(
        (1 + float(np.linalg.norm(s) * np.linalg.norm(y) / (s @ y))) ** 2 for s, y in zip(S, Y, strict=True)
    )
    size = max(float(precise.norm(want)), float(np.linalg.norm(g)))
    level = d * U64 * growth * size
    # Two steps on a quadratic: the first is scaled to |g|_1 = 1, the second knows one pair.
    first, state = lbfgs.step(g, lbfgs.init(g), lr=0.5)
    g_next = g + H @ (-0.5 * first)
    second, _ = lbfgs.step(g_next, state, lr=0.5)
    pair = exact(state.s)[None], (exact(g_next) - exact(g))[None]
    want_second = precise.bfgs(exact(g_next), *pair)
    s, y = state.s, g_next - g
    once = (1 + float(np.linalg.norm(s) * np.linalg.norm(y) / (s @ y))) ** 2
    # The difference of the gradients rounds relative to the gradients.
    lost = float(np.linalg.norm(g) + np.linalg.norm(g_next)) / float(np.linalg.norm(y))
    allowed = d * U64 * once * lost * max(float(precise.norm(want_second)), float(np.linalg.norm(g_next)))
    scaled = exact(g) / max(sum(abs(exact(g))), mp.mpf(1))
    return [
        apart("direction", lbfgs.two_loop_direction(g, S, Y), want, level),
        entries("first step", first, scaled, (d + FEW) * U64 * np.abs(first), **EXPLICIT),
        apart("second step", second, want_second, allowed),
    ]


@checks("nystrom_sgd.sketch", "nystrom_sgd.direction", "nystrom_sgd.two_term_direction", "nystrom_sgd.step")
def nystrom_directions(rng: Rng) -> list[Ratio]:
    d = int(rng.integers(2, 5))
    H, rho = spd(rng, d, 1.5 * rng.random()), 10.0 ** rng.uniform(-2, 1)
    columns = rng.permutation(d)[: int(rng.integers(1, d))]
    g, C = rng.standard_normal(d), H[:, columns]
    core = exact(H[np.ix_(columns, columns)])
    low_rank = exact(C) @ precise.inverse(core) @ exact(C).T
    least = float(precise.eigen(core)[0][0])
    Z = nystrom_sgd.sketch(C, columns)
    product = exact(Z) @ exact(Z).T
    error = float(precise.norm(product - low_rank))
    level = len(columns) * U64 * float(np.linalg.norm(C)) ** 2 / least
    system = product + mp.mpf(rho) * precise.eye(d)
    want = precise.solve(system, exact(g))
    x = nystrom_sgd.direction(g, Z, rho=rho)
    size = float(precise.norm(want))
    residual = float(precise.norm(system @ exact(x) - exact(g)))
    backward = d * U64 * (float(precise.norm(system)) * size + float(np.linalg.norm(g)))
    cancelled = (1 + 2 * float(np.linalg.norm(Z)) ** 2 / rho) * d * U64 * float(np.linalg.norm(g)) / rho
    two_term = nystrom_sgd.two_term_direction(g, Z, rho=rho)
    update, _ = nystrom_sgd.step(g, nystrom_sgd.init(g), rho=rho, Z=Z)
    forward = backward / rho  # the smallest eigenvalue of the system is at least rho
    return [
        Ratio("Z Z^T", error, level, ORDER_ONE),
        Ratio("residual", residual, backward, ORDER_ONE),
        apart("two terms", two_term, want, cancelled),
        apart("update", update, want, forward),
    ]


@checks("mousse.step")
def mousse_steps(rng: Rng) -> list[Ratio]:
    """Nothing is stated; the running error analysis gives the budget of a first step, grafted and not."""
    m, n = (int(k) for k in rng.integers(1, 4, 2))
    G, alpha, epsilon, beta_pc = rng.standard_normal((m, n)), 0.25, 0.25, rng.random()
    X, weight, one = Normed.of(G, U64), Rounded.parameter(beta_pc, U64), Rounded.of(1.0, U64)
    small = Rounded.parameter(epsilon, U64)
    roots, bounds = [], []
    for S, B in ((exact(G) @ exact(G).T, X @ X.T), (exact(G).T @ exact(G), X.T @ X)):
        k = len(S)
        L = (1 - mp.mpf(beta_pc)) * S
        roots.append(precise.whitening(L, alpha, epsilon))
        L_bound = B * (one - weight)
        mean = (L_bound.trace() + small) / Rounded.of(float(k), U64)
        bounds.append((L_bound / mean + Normed.of(np.eye(k), U64) * small).power(-alpha))
    (A, C), (A_bound, C_bound) = roots, bounds
    M_bar = precise.polar_factor(A @ exact(G) @ C)
    of_M_bar = (A_bound @ X @ C_bound).polar()
    U, of_U = A @ M_bar @ C, A_bound @ of_M_bar @ C_bound
    grafted, of_grafted = U * precise.norm(M_bar) / precise.norm(U), of_U * (of_M_bar.norm() / of_U.norm())
    options = {"alpha": alpha, "epsilon": epsilon, "beta_pc": beta_pc, "orthogonalize": "polar"}
    plain = mousse.step(G, mousse.init(G), graft=False, **options)[0]
    scaled = mousse.step(G, mousse.init(G), graft=True, **options)[0]
    return [
        apart("update", plain, U, of_U.error, **EXPLICIT),
        apart("grafted", scaled, grafted, of_grafted.error, **EXPLICIT),
    ]
