"""Checks of the reference against 50 digits: DyKAF, the natural gradient, the isotropic curvature model.

As in `tests.reference.precision_checks`, whose conventions and helpers these are.
"""

import math

import numpy as np

from proofs_checks.ratios import EXPLICIT_BUDGET, ORDER_ONE, Ratio, yes_no
from reference import dykaf, isotropic_curvature, natural_gradient
from tests.reference import precise, precise_geometry
from tests.reference.cases import U64, formula_budget, orthogonal, spd
from tests.reference.precise import exact, mp
from tests.reference.precision_checks import Rng, apart, checks, entries, shape, spread

#: What moving data without arithmetic may cost.
NOTHING = 0.0

#: Frobenius norm of DyKAF's factors at the start, as printed.
START = mp.mpf("1e-3")


def up_to_sign(X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """Y, its columns with the signs that those of X have."""
    return Y * np.where((exact(X) * Y).sum(axis=0) < 0, -1, 1)


# dykaf


@checks("dykaf.rearrangement", "dykaf.nearest_kronecker")
def dykaf_fits(rng: Rng) -> list[Ratio]:
    m, n = shape(rng, 3)
    F, G = rng.standard_normal((m * n, m * n)), spread(rng, m, n)
    s = [float(x) for x in precise.singular_values(exact(G))]
    separation = s[0] / (s[0] - s[1]) if len(s) > 1 else 1.0
    # Stated: the decomposition moves s by its backward error and both vectors by that over the gap.
    level = formula_budget(s[0], max(m, n), separation, formulas=4)
    found = [
        entries(
            "A", dykaf.rearrangement(F, m=m, n=n), precise_geometry.rearrangement(exact(F), m, n), NOTHING
        )
    ]
    for got, want in zip(
        dykaf.nearest_kronecker(G), precise_geometry.nearest_kronecker(exact(G)), strict=True
    ):
        found.append(apart("factor", got, want, level, threshold=EXPLICIT_BUDGET))
    return found


@checks("dykaf.update_factors", "dykaf.stationary_factors")
def dykaf_factors(rng: Rng) -> list[Ratio]:
    m, n = shape(rng, 3)
    N, beta = int(rng.integers(1, 4)), 1 - rng.random()
    G = 10.0 ** rng.uniform(-1, 1) * rng.standard_normal((N, m, n))
    L, R = spd(rng, m, 2 * rng.random()), spd(rng, n, 2 * rng.random())
    X, A, B = exact(G), exact(L), exact(R)
    steps = (
        dykaf.update_factors(G[0], L, R, beta=beta),
        precise_geometry.projector_splitting(X[0], A, B, beta),
    )
    means = dykaf.stationary_factors(G, L, R), precise_geometry.stationary_factors(X, A, B)
    found = []
    for terms, (pair, wanted) in ((max(m, n), steps), (N + max(m, n), means)):
        for got, want in zip(pair, wanted, strict=True):
            found.append(apart("factor", got, want, terms * U64 * float(precise.norm(want))))
    return found


@checks("dykaf.refresh_basis")
def dykaf_bases(rng: Rng) -> list[Ratio]:
    k = int(rng.integers(1, 5))
    L, U = spd(rng, k, rng.uniform(1, 3)), orthogonal(rng, k, k)
    got, order = dykaf.refresh_basis(L, U)
    return basis_ratios(got, order, *precise_geometry.refreshed(exact(L), exact(U)), L)


def basis_ratios(got, order, want, wanted_order, L) -> list[Ratio]:
    """Stated: columns, up to sign, of order ``k u`` times the condition of L, here of norm ``sqrt(k)``."""
    level = len(got) * U64 * precise.condition(exact(L)) * math.sqrt(len(got))
    return [
        yes_no("order", order is None or list(order) == wanted_order),
        apart("basis", got, up_to_sign(got, want), level),
    ]


@checks("dykaf.init")
def dykaf_starts(rng: Rng) -> list[Ratio]:
    m, n = shape(rng)
    start = dykaf.init((m, n))
    found = []
    for k, got in ((m, start.L), (n, start.R)):
        want = START / mp.sqrt(k) * precise.eye(k)
        found.append(entries("start", got, want, U64 * np.abs(want).astype(float)))
        assert all(not X.any() for X in (start.M, start.N))
    assert np.array_equal(start.U, np.eye(m))
    return found


@checks("dykaf.step")
def dykaf_steps(rng: Rng) -> list[Ratio]:
    """The first gradient, which sets the eigenbases, and a step from a drawn state with a refresh."""
    m, n = shape(rng, 3)
    G, M, W = rng.standard_normal((3, m, n))
    L, R = spd(rng, m, rng.uniform(0.5, 2)), spd(rng, n, rng.uniform(0.5, 2))
    beta1, beta2, decay = rng.random(3)
    epsilon, k = 10.0 ** rng.uniform(-8, -1), int(rng.integers(1, 6))
    U, V, N = orthogonal(rng, m, m), orthogonal(rng, n, n), rng.random((m, n))
    state = dykaf.DykafState(L, R, U, V, M, N, k)
    hp = {"beta1": beta1, "beta2": beta2, "epsilon": epsilon, "period": k, "weight_decay": decay}
    update, new = dykaf.step(G, state, **hp, W=W)

    X, b1, b2 = exact(G), mp.mpf(beta1), mp.mpf(beta2)
    factors = precise_geometry.projector_splitting(X, exact(L), exact(R), beta2)
    average = b1 * exact(M) + (1 - b1) * X
    squares = b2 * exact(N) + (1 - b2) * (exact(U).T @ X @ exact(V)) ** 2
    want = precise_geometry.dykaf_update(average, squares, exact(U), exact(V), beta1, beta2, epsilon, k)
    sides = max(m, n) * U64
    size = beta1 * float(np.linalg.norm(M)) + (1 - beta1) * float(np.linalg.norm(G))
    least = math.sqrt(float(min(squares.reshape(-1)))) + epsilon
    growth = 1 + math.sqrt(1 - beta2) * float(np.linalg.norm(G)) / least
    correction = 1 / (1 - beta1**k) + 1 / (1 - beta2**k)
    scale = math.sqrt(1 - beta2**k) / (1 - beta1**k)
    allowed = sides * scale * size / least * (growth + correction) + U64 * decay * float(np.linalg.norm(W))
    of_squares = sides * (float(precise.norm(squares)) + (1 - beta2) * float(np.linalg.norm(G)) ** 2)
    found = [
        apart("update", update, want + mp.mpf(decay) * exact(W), allowed),
        apart("M", new.M, average, sides * size),
    ]
    orders = []
    for name, got, basis, old, factor in (
        ("L", new.L, new.U, U, factors[0]),
        ("R", new.R, new.V, V, factors[1]),
    ):
        want_basis, order = precise_geometry.refreshed(factor, exact(old))
        orders.append(order)
        found.append(apart(name, got, factor, sides * float(precise.norm(factor))))
        found += basis_ratios(basis, None, want_basis, order, factor.astype(float))
    found.append(apart("N", new.N, squares[np.ix_(*orders)], of_squares))

    zero, first = dykaf.step(G, dykaf.init(G, L0=L, R0=R), **hp, W=W)
    found.append(yes_no("no first update", not zero.any()))
    for factor, basis in ((first.L, first.U), (first.R, first.V)):
        rotated = exact(basis).T @ exact(factor) @ exact(basis)
        off = float(precise.norm(rotated - np.diag(np.diagonal(rotated))))
        found.append(Ratio("eigenbasis", off, sides * float(np.linalg.norm(factor)), ORDER_ONE))
    return found


# natural gradient


def samples(rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    """Jacobians (N, k, P) and logits (N, k)."""
    N, k, P = (int(x) for x in rng.integers(1, 4, 3))
    return rng.standard_normal((N, k, P)), 10.0 ** rng.uniform(-1, 1) * rng.standard_normal((N, k))


def reach(z: np.ndarray) -> np.ndarray:
    """``1 + max(z) - z``: what the exponential magnifies."""
    return 1 + z.max(axis=-1, keepdims=True) - z


@checks("natural_gradient.softmax", "natural_gradient.softmax_hessian", "natural_gradient.linear_jacobian")
def classifiers(rng: Rng) -> list[Ratio]:
    k, n = (int(x) for x in rng.integers(1, 5, 2))
    z, x = 10.0 ** rng.uniform(-1, 1.5) * rng.standard_normal(k), rng.standard_normal(n)
    p = precise_geometry.softmax(exact(z))
    level = U64 * reach(z) * p.astype(float)
    cov = precise_geometry.label_covariance(exact(z))
    products = np.outer(p, p).astype(float) + np.diag(p.astype(float))
    return [
        entries("p", natural_gradient.softmax(z), p, level),
        entries("Lambda", natural_gradient.softmax_hessian(z), cov, U64 * reach(z).max() * products),
        entries(
            "J",
            natural_gradient.linear_jacobian(x, outputs=k),
            np.kron(exact(np.eye(k)), exact(x)[None, :]),
            NOTHING,
        ),
    ]


@checks(
    "natural_gradient.categorical_fisher",
    "natural_gradient.gaussian_fisher",
    "natural_gradient.gauss_newton",
    "natural_gradient.empirical_fisher",
)
def fisher_matrices(rng: Rng) -> list[Ratio]:
    J, z = samples(rng)
    N, k = z.shape
    X, A, sigma = exact(J), np.abs(J), 10.0 ** rng.uniform(-1, 1)
    Lambda = np.array([spd(rng, k, rng.random()) for _ in range(N)])
    covariances = np.array([precise_geometry.label_covariance(row) for row in exact(z)])
    exact_fisher = precise_geometry.gauss_newton(X, covariances)
    p = natural_gradient.softmax(z)
    scores = np.abs(np.eye(k) - p[:, None, :]) @ A  # row y of a sample bounds the gradient of log p_y
    squares = np.einsum("sy,syi,syj->ij", p, scores, scores) / N
    ones = exact(np.broadcast_to(np.eye(k), (N, k, k)))
    gaussian = precise_geometry.gauss_newton(X, ones) / mp.mpf(sigma) ** 2
    plain = np.einsum("ska,skb->ab", A, A) / N
    curved = np.einsum("ska,skl,slb->ab", A, np.abs(Lambda), A) / N
    g = J[:, 0]
    observed = sum(np.outer(row, row) for row in X[:, 0]) / N
    own = np.abs(g).T @ np.abs(g) / N
    module = natural_gradient
    return [
        entries("F", module.categorical_fisher(J, z), exact_fisher, (k + N + reach(z).max()) * U64 * squares),
        entries("of noise", module.gaussian_fisher(J, sigma=sigma), gaussian, k * N * U64 * plain / sigma**2),
        entries(
            "GN",
            module.gauss_newton(J, Lambda),
            precise_geometry.gauss_newton(X, exact(Lambda)),
            (k + N) * U64 * curved,
        ),
        entries("observed", module.empirical_fisher(g), observed, N * U64 * own),
    ]


@checks("natural_gradient.step")
def natural_steps(rng: Rng) -> list[Ratio]:
    P = int(rng.integers(1, 5))
    g, W = rng.standard_normal((2, P))
    F, damping, decay = spd(rng, P, 3 * rng.random()), float(rng.integers(0, 2)) * rng.random(), rng.random()
    system = exact(F) + mp.mpf(damping) * precise.eye(P)
    inverse = precise.solve(system, exact(g))
    level = P * U64 * precise.condition(system) * float(precise.norm(inverse))
    level += U64 * decay * float(np.linalg.norm(W))
    start = natural_gradient.init(g)
    update, state = natural_gradient.step(g, start, F=F, damping=damping, weight_decay=decay, W=W)
    return [
        apart("update", update, inverse + mp.mpf(decay) * exact(W), level),
        entries("F", state.F, exact(F), NOTHING),
    ]


# isotropic curvature


@checks(
    "isotropic_curvature.moments",
    "isotropic_curvature.quartic_expectation",
    "isotropic_curvature.kink_slopes",
)
def closed_forms(rng: Rng) -> list[Ratio]:
    n, k = int(rng.integers(1, 6)), 10.0 ** rng.uniform(-1, 1)
    sigma, s = 10.0 ** rng.uniform(-1, 1) * rng.random(n), rng.random(n)
    mean, fourth = (precise_geometry.even_power(exact(sigma), q) for q in (1, 2))
    a = np.square(sigma)
    deviations = np.abs(a - a.mean())
    allowed = n * U64 * float((deviations * (deviations + a.mean())).sum()) / (n * (n + 2))
    allowed += (n * U64 * float(mean)) ** 2  # where all agree, the deviations are rounding
    got = isotropic_curvature.moments(sigma)
    slopes = precise.solve(precise_geometry.second_moments(n), exact(s))
    found = [
        apart("mean", got.mean, mean, n * U64 * float(mean)),
        apart("variance", got.variance, fourth - mean**2, allowed),
        apart(
            "quartic",
            isotropic_curvature.quartic_expectation(sigma, k=k),
            mp.mpf(k) * fourth,
            n * U64 * k * float(fourth),
        ),
    ]
    terms = n * (n + 2) * s + n * s.sum()
    return [*found, entries("slopes", isotropic_curvature.kink_slopes(s), slopes, n * U64 * terms)]


def rule_size(rng: Rng) -> tuple[int, int]:
    """A dimension and points per dimension for which 50 digits are quick."""
    n = int(rng.integers(1, 4))
    return n, int(rng.integers(2, 6 if n == 3 else 13))


@checks("isotropic_curvature.sphere_rule")
def rules(rng: Rng) -> list[Ratio]:
    n, nodes = rule_size(rng)
    found = []
    for got, want in zip(
        isotropic_curvature.sphere_rule(n=n, nodes=nodes), precise_geometry.sphere_rule(n, nodes), strict=True
    ):
        found.append(entries("rule", got, want, nodes * U64))
    return found


@checks("isotropic_curvature.expectation", "isotropic_curvature.objective")
def expectations(rng: Rng) -> list[Ratio]:
    """Even powers against the sphere itself, an odd one against the rule."""
    n, nodes = rule_size(rng)
    q, k = int(rng.integers(1, 4)), 10.0 ** rng.uniform(-1, 1)
    sigma, s = 10.0 ** rng.uniform(-1, 1) * rng.random(n), rng.random(n)
    X, K = exact(sigma), mp.mpf(k)
    found = []
    for exponent, want in (
        (2 * q, K * precise_geometry.even_power(X, q)),
        (3, precise_geometry.expectation(X, lambda r: K * r**3, nodes)),
    ):
        growth = isotropic_curvature.power_growth(exponent=exponent, k=k)
        level = n * nodes * U64 * k * float(sigma.max()) ** exponent
        got = isotropic_curvature.expectation(sigma, growth, nodes=nodes)
        value = isotropic_curvature.objective(sigma, s, growth, nodes=nodes)
        found.append(apart("expectation", got, want, level))
        found.append(apart("objective", value, want - exact(s) @ X, level + n * U64 * float(s @ sigma)))
    return found


@checks("isotropic_curvature.optimal_spectrum", "isotropic_curvature.optimal_update")
def optima(rng: Rng) -> list[Ratio]:
    """Of ``k r^4``, for which every rule of two points or more is exact."""
    n, nodes = rule_size(rng)
    m, k = int(rng.integers(1, 5)), 10.0 ** rng.uniform(-1, 1)
    growth = isotropic_curvature.power_growth(exponent=4.0, k=k)
    s = 0.1 + rng.random(n)
    sigma, hessian = precise_geometry.quartic_optimum(exact(s), k)
    G = spread(rng, m, n)
    of_G = precise.singular_values(exact(G))[: min(m, n)]
    of_G = np.array(of_G + [mp.mpf(0)] * (n - len(of_G)), dtype=object)
    of_Q, hessian_of_Q = precise_geometry.quartic_optimum(of_G, k)
    Q = precise_geometry.on_singular_values(exact(G), of_G, of_Q)
    level, size = n * nodes * U64, float(precise.norm(sigma))
    condition = precise.condition(hessian_of_Q)
    spectrum = isotropic_curvature.optimal_spectrum(s, growth, nodes=nodes)
    update = isotropic_curvature.optimal_update(G, growth, nodes=nodes)
    return [
        apart("spectrum", spectrum, sigma, level * precise.condition(hessian) * size),
        apart("update", update, Q, (level + m * U64) * condition * float(precise.norm(Q))),
    ]


@checks("isotropic_curvature.power_growth")
def powers(rng: Rng) -> list[Ratio]:
    p, k, r = rng.uniform(2, 8), 10.0 ** rng.uniform(-1, 1), 10.0 ** rng.uniform(-2, 2, 3)
    growth = isotropic_curvature.power_growth(exponent=p, k=k)
    return growth_ratios(
        growth,
        lambda x: mp.mpf(k) * x ** mp.mpf(p),
        r,
        [U64 * (1 + p * np.abs(np.log(r))) * k * p**j * r ** (p - j) for j in range(3)],
    )


@checks("isotropic_curvature.kinked_growth")
def kinks(rng: Rng) -> list[Ratio]:
    at, low, width = (10.0 ** rng.uniform(-1, 1, 3)).tolist()
    width *= float(rng.integers(0, 2))
    high, r = low * (1 + rng.random()), at * 10.0 ** rng.uniform(-1, 1, 3)
    hp = {"at": at, "low": low, "high": high, "width": width}
    blur = 1 + (r + at) / width if width else 1.0
    return growth_ratios(
        isotropic_curvature.kinked_growth(**hp),
        lambda x: precise_geometry.kinked(x, **hp),
        r,
        [
            U64 * (low * r**2 / at + high * (r + at + width)),
            U64 * (low * r / at + high * blur),
            U64 * (low / at + (high * blur / width if width else 0.0)),
        ],
    )


def growth_ratios(growth, value, r: np.ndarray, levels: list) -> list[Ratio]:
    """The value, and slope and curvature against numerical derivatives of the value at 50 digits."""
    found = []
    for order, (function, level) in enumerate(zip(growth, levels, strict=True)):
        want = np.array([mp.diff(value, x, order) for x in exact(r)], dtype=object)
        found.append(entries(growth._fields[order], function(r), want, level))
    return found
