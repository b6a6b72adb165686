"""Checks of the reference against 50 digits: polar factors, Kronecker factors, FISMO's and SOFIM's stages.

A check computes the same formula with `tests.reference.precise`, which shares no code with the reference, and
returns error over budget. A statement "of order x" is held to `ORDER_ONE` times x, one with explicit
constants to itself; where a docstring states nothing, the budget is that of the running error analysis behind
the golden vectors.
"""

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np

from proofs_checks.budgets import iteration_budget
from proofs_checks.golden.rounding import Normed
from proofs_checks.inputs import from_spectrum
from proofs_checks.ratios import EXPLICIT_BUDGET, ORDER_ONE, Ratio
from reference import fismo, kronecker, polar, sofim
from tests.reference import precise
from tests.reference.cases import SMALLEST, U64, spd
from tests.reference.precise import exact

Rng = np.random.Generator
CHECKS: dict[str, Callable[[Rng], list[Ratio]]] = {}

#: Stated by `polar_express_coefficients`: rows 1 to 7 to 1e-13 relative, with the default arguments.
STATED_ROWS, STATED_ACCURACY = 7, 1e-13

#: Stated by `polar_factor`: (99 sqrt(r) + 16 max(m, n)) u s[0] / s[-1].
STATED_STOP, STATED_PER_SIDE = 99, 16

#: Roundings of one entry that are not sums: a product, a quotient, a sum, a store.
FEW = 4


def checks(*names: str):
    """Declare that a function checks these public names."""

    def declare(function):
        for name in names:
            assert name not in CHECKS
            CHECKS[name] = function
        return function

    return declare


def apart(name: str, got, want, budget: float, *, threshold: float = ORDER_ONE) -> Ratio:
    """Frobenius distance from the 50-digit value, taken at 50 digits."""
    got, want = np.asarray(got), np.asarray(want, dtype=object)
    assert got.dtype == np.float64
    assert got.shape == want.shape, f"{name}: shape {got.shape}, not {want.shape}"
    return Ratio(name, float(precise.norm(exact(got) - want)), max(budget, SMALLEST), threshold)


def entries(name: str, got, want, budget, *, threshold: float = ORDER_ONE) -> Ratio:
    """The entry furthest from its 50-digit value, in units of its own budget."""
    got, want = np.asarray(got), np.asarray(want, dtype=object)
    assert got.shape == want.shape, f"{name}: shape {got.shape}, not {want.shape}"
    error = np.abs(exact(got) - want).astype(float).reshape(-1)
    allowed = np.maximum(np.broadcast_to(budget, got.shape), SMALLEST).reshape(-1)
    at = int(np.argmax(error / allowed))
    return Ratio(name, float(error[at]), float(allowed[at]), threshold)


def shape(rng: Rng, largest: int = 4) -> tuple[int, int]:
    m, n = rng.integers(1, largest + 1, 2)
    return int(m), int(n)


def spread(rng: Rng, m: int, n: int) -> np.ndarray:
    """A matrix of full rank, any condition up to 1e3, any scale from 1e-2 to 1e2."""
    s = np.logspace(0.0, -3.0 * rng.random(), min(m, n)) if min(m, n) > 1 else np.ones(1)
    return 10.0 ** rng.uniform(-2, 2) * from_spectrum(m, n, s, rng=rng)


def factors(rng: Rng) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Samples (N, m, n), P, Q and mu."""
    m, n = shape(rng, 3)
    G = rng.standard_normal((int(rng.integers(1, 4)), m, n))
    return G, spd(rng, m, 2 * rng.random()), spd(rng, n, 2 * rng.random()), 10.0 ** rng.uniform(-1, 1)


def conditions(*matrices) -> float:
    return sum(precise.condition(exact(P)) for P in matrices)


# polar


def polar_budget(M: np.ndarray) -> float:
    s = precise.singular_values(exact(M))
    r = min(M.shape)
    return (STATED_STOP * math.sqrt(r) + STATED_PER_SIDE * max(M.shape)) * U64 * float(s[0] / s[r - 1])


@checks("polar.polar_factor", "polar.spectral_lmo", "polar.nuclear_norm")
def polar_factors(rng: Rng) -> list[Ratio]:
    M, radius = spread(rng, *shape(rng)), 10.0 ** rng.uniform(-2, 2)
    X, budget, r = exact(M), polar_budget(M), min(M.shape)
    explicit = {"threshold": EXPLICIT_BUDGET}
    minimiser = precise.spectral_lmo(X, radius)
    total = precise.nuclear_norm(X)
    return [
        apart("polar factor", polar.polar_factor(M), precise.polar_factor(X), budget, **explicit),
        apart("lmo", polar.spectral_lmo(M, radius=radius), minimiser, radius * budget, **explicit),
        apart("nuclear norm", polar.nuclear_norm(M), total, r * U64 * float(total)),
    ]


@checks("polar.newton_schulz", "polar.orthogonalize")
def iterations(rng: Rng) -> list[Ratio]:
    M = spread(rng, *shape(rng))
    found = []
    options = [{}, {"shift": 0.5}, {"floor": 2.0}, {"steps": 2}]
    for rows in (polar.JORDAN_QUINTIC, polar.POLAR_EXPRESS, (1.5, -0.5)):
        hp = options[rng.integers(len(options))]
        budget = iteration_budget(M, rows, u=U64, **hp).total
        want = precise.newton_schulz(exact(M), rows, **hp)
        found.append(
            apart("iteration", polar.newton_schulz(M, rows, **hp), want, budget, threshold=EXPLICIT_BUDGET)
        )
    for method in ("jordan", "polar-express"):
        allowed = iteration_budget(M, polar.JORDAN_QUINTIC, u=U64).total
        if method == "polar-express":
            allowed = iteration_budget(M, polar.POLAR_EXPRESS, u=U64, shift=1e-2).total
        want = precise.orthogonalize(exact(M), method)
        found.append(apart(method, polar.orthogonalize(M, method), want, allowed, threshold=EXPLICIT_BUDGET))
    want = precise.orthogonalize(exact(M), "polar")
    found.append(apart("polar", polar.orthogonalize(M), want, polar_budget(M), threshold=EXPLICIT_BUDGET))
    return found


@checks("polar.scalar_map")
def scalar_maps(rng: Rng) -> list[Ratio]:
    x = rng.random(3)
    found = []
    for rows in (polar.JORDAN_QUINTIC, polar.POLAR_EXPRESS):
        budget = [iteration_budget(np.array([[v]]), rows, u=U64, normalize=False).total for v in x]
        want = [precise.scalar_map(v, rows) for v in x]
        found.append(entries("map", polar.scalar_map(x, rows), want, budget, threshold=EXPLICIT_BUDGET))
    return found


@checks("polar.kim_oh_polynomial")
def taylor_polynomials(rng: Rng) -> list[Ratio]:
    """Stated: correctly rounded."""
    k = int(rng.integers(1, 20))
    got, want = polar.kim_oh_polynomial(k), precise.kim_oh_polynomial(k)
    assert list(got) == [c.numerator / c.denominator for c in want]
    return [Ratio("rounding", float(abs(Fraction(got[-1]) - want[-1])), U64 * abs(got[-1]), EXPLICIT_BUDGET)]


@checks("polar.polar_express_coefficients")
def minimax_polynomials(rng: Rng) -> list[Ratio]:
    """The quintics as stated; the cubics, whose closed form is stable, to a few roundings per step."""
    defaults = {"steps": 8, "degree": 5, "cushion": 0.02407327424182761}
    got = polar.polar_express_coefficients()[:STATED_ROWS]
    want = precise.polar_express(1e-3, 1.0, **defaults | {"steps": STATED_ROWS})
    pairs = [(x, y) for p, q in zip(got, want, strict=True) for x, y in zip(p, q, strict=True)]
    error = max(float(abs(precise.mp.mpf(x) - y) / abs(y)) for x, y in pairs)
    lower = 10.0 ** rng.uniform(-3, -1)
    cubic = polar.polar_express_coefficients(lower, steps=4, degree=3, safety=1.01)
    exact_cubic = precise.polar_express(lower, 1.0, steps=4, degree=3, cushion=0, safety=1.01)
    # What step t gets wrong, later steps multiply by their slope at the lower end, (3/2) theta alpha at most.
    grown = [math.prod(abs(p[0]) for p in cubic[:t]) for t in range(len(cubic))]
    rounding = [FEW * (t + 1) * U64 * max(grown[: t + 1]) for t in range(len(cubic))]
    cubics = [
        entries("cubic", np.array(p), q, rounding[t] * np.abs(np.array(p)))
        for t, (p, q) in enumerate(zip(cubic, exact_cubic, strict=True))
    ]
    return [Ratio("quintics", error, STATED_ACCURACY, EXPLICIT_BUDGET), *cubics]


# kronecker


@checks("kronecker.inverse_sqrt", "kronecker.logdet_divergence", "kronecker.hilbert_distance")
def positive_matrices(rng: Rng) -> list[Ratio]:
    k = int(rng.integers(1, 5))
    X, Y = spd(rng, k, 4 * rng.random()), spd(rng, k, 4 * rng.random())
    level = k * U64 * conditions(X, Y)
    A = exact(kronecker.inverse_sqrt(X))
    residual = float(precise.norm(A @ exact(X) @ A - precise.eye(k)))
    root = precise.power(exact(X), -precise.HALF)
    divergence = precise.logdet_divergence(exact(X), exact(Y))
    distance = precise.hilbert_distance(exact(X), exact(Y))
    return [
        Ratio("residual", residual, k * U64 * conditions(X), ORDER_ONE),
        apart("root", kronecker.inverse_sqrt(X), root, k * U64 * conditions(X) * float(precise.norm(root))),
        apart("divergence", kronecker.logdet_divergence(X, Y), divergence, level * (1 + float(divergence))),
        apart("distance", kronecker.hilbert_distance(X, Y), distance, level),
    ]


@checks("kronecker.objective", "kronecker.left_factor", "kronecker.right_factor")
def half_steps(rng: Rng) -> list[Ratio]:
    G, P, Q, mu = factors(rng)
    X, A, B = exact(G), exact(P), exact(Q)
    N, m, n = G.shape
    terms = precise.objective_terms(X, A, B, mu)
    total = float(sum(abs(x) for x in terms))
    left, right = precise.left_factor(X, B, mu), precise.right_factor(X, A, mu)
    of_left = (N + n) * U64 * conditions(Q) * float(precise.norm(left))
    of_right = (N + m) * U64 * conditions(P) * float(precise.norm(right))
    rounding = U64 * conditions(P, Q) * total
    return [
        apart("objective", kronecker.objective(G, P, Q, mu=mu), sum(terms), rounding),
        apart("left", kronecker.left_factor(G, Q, mu=mu), left, of_left),
        apart("right", kronecker.right_factor(G, P, mu=mu), right, of_right),
    ]


@checks("kronecker.coupling_bound", "kronecker.contraction_factor")
def couplings(rng: Rng) -> list[Ratio]:
    G, _, _, mu = factors(rng)
    level = len(G) * max(G.shape[1:]) * U64
    bound, c = precise.coupling_bound(exact(G)), precise.contraction_factor(exact(G), mu)
    return [
        apart("coupling", kronecker.coupling_bound(G), bound, level * float(bound)),
        apart("contraction", kronecker.contraction_factor(G, mu=mu), c, level * float(c)),
    ]


@checks("kronecker.fixed_point")
def fixed_points(rng: Rng) -> list[Ratio]:
    """The stated a-posteriori bound, and rounding that the contraction sums up, ``1 / (1 - c^2)``."""
    G, _, _, mu = factors(rng)
    G = G / max(1.0, float(np.abs(G).max()))
    X = exact(G)
    P, Q = precise.fixed_point(X, mu, damping="theorem")
    c = float(precise.contraction_factor(X, mu))
    rounding = max(G.shape[1:]) * U64 * (precise.condition(P) + precise.condition(Q)) / (1 - c * c)
    found = []
    for method in ("gauss-seidel", "jacobi"):
        got = kronecker.fixed_point(G, mu=mu, method=method)
        distance = float(precise.hilbert_distance(exact(got.Q), Q))
        bound = float(got.error_bound)
        found.append(Ratio("a-posteriori bound", distance, bound + ORDER_ONE * rounding, EXPLICIT_BUDGET))
        scale = exact(got.Q) - Q
        level = bound + rounding
        found.append(Ratio("scale", float(precise.norm(scale)), level * float(precise.norm(Q)), ORDER_ONE))
        found.append(apart("P", got.P, P, (bound / max(c, U64) + rounding) * float(precise.norm(P))))
    P, Q = precise.fixed_point(X, mu, damping="algorithm")
    got = kronecker.fixed_point(G, mu=mu, damping="algorithm", tolerance=0.0)
    level = rounding / (1 - c * c)
    found.append(apart("P, algorithm", got.P, P, level * float(precise.norm(P))))
    found.append(apart("Q, algorithm", got.Q, Q, level * float(precise.norm(Q))))
    return found


@checks("kronecker.fisher_lmo")
def fisher_minimisers(rng: Rng) -> list[Ratio]:
    """Nothing is stated; the running error analysis gives the budget."""
    G, P, Q, _ = factors(rng)
    A, C = (Normed.of(X, U64).power(-1 / 2) for X in (P, Q))
    budget = float((A @ (A @ Normed.of(G[0], U64) @ C).polar() @ C).error)
    want = precise.fisher_lmo(exact(G[0]), exact(P), exact(Q), 1.0)
    return [apart("lmo", kronecker.fisher_lmo(G[0], P, Q), want, budget, threshold=EXPLICIT_BUDGET)]


# fismo and sofim


@checks("fismo.update_factors", "fismo.whiten")
def fismo_stages(rng: Rng) -> list[Ratio]:
    """Stated: normwise relative, of order ``max(m, n) u`` times the conditions of what is inverted."""
    G, P, Q, mu = factors(rng)
    P, Q = (X * len(X) / np.trace(X) for X in (P, Q))
    X, A, B, gamma = exact(G[0]), exact(P), exact(Q), rng.random()
    options = {
        "damping": ("algorithm", "theorem")[rng.integers(2)],
        "order": ("gauss-seidel", "jacobi")[rng.integers(2)],
        "factor_scaling": ("none", "unit")[rng.integers(2)],
    }
    got = fismo.update_factors(G[0], P, Q, gamma=gamma, mu=mu, **options)
    want = precise.update_factors(X, A, B, gamma, mu, options)
    side = max(G.shape[1:])
    inverted = conditions(Q) * conditions(P if options["order"] == "jacobi" else got[0])
    white = precise.whiten(X, A, B)
    product = side * U64 * conditions(P) * conditions(Q) * float(precise.norm(white))
    return [
        apart("P", got[0], want[0], side * U64 * conditions(Q) * float(precise.norm(want[0]))),
        apart("Q", got[1], want[1], side * U64 * inverted * float(precise.norm(want[1]))),
        apart("whitened", fismo.whiten(G[0], P, Q), white, product),
    ]


@checks("sofim.direction", "sofim.two_term_direction", "sofim.bracket_direction")
def sofim_directions(rng: Rng) -> list[Ratio]:
    d, rho = int(rng.integers(1, 6)), 10.0 ** rng.uniform(-2, 2)
    m = 10.0 ** rng.uniform(-3, 4) * rng.standard_normal(d)
    want = precise.sofim_direction(exact(m), rho)
    cancelled = U64 * (1 + float(m @ m) / rho) * float(precise.norm(want))
    return [
        entries("closed form", sofim.direction(m, rho=rho), want, d * U64 * np.abs(want.astype(float))),
        apart("equation 6", sofim.two_term_direction(m, rho=rho), want, cancelled),
        apart("scalar bracket", sofim.bracket_direction(m, rho=rho), want, cancelled),
    ]


@checks("sofim.sherman_morrison_solve")
def rank_one_solves(rng: Rng) -> list[Ratio]:
    """Stated growth ``|A^-1 u| |v| / |1 + v^T A^-1 u|``, and the condition of a dense A."""
    d = int(rng.integers(1, 5))
    u, v, b = rng.standard_normal((3, d))
    dense = rng.standard_normal((d, d)) + d * np.eye(d)
    diagonal, rho = rng.uniform(0.5, 2.0, d), rng.uniform(0.5, 2.0)
    found = []
    for A, full in ((rho, rho * np.eye(d)), (diagonal, np.diag(diagonal)), (dense, dense)):
        X = exact(full)
        A_u = precise.solve(X, exact(u))
        growth = float(precise.norm(A_u) * precise.norm(exact(v)) / abs(1 + exact(v) @ A_u))
        want = precise.solve(X + np.outer(exact(u), exact(v)), exact(b))
        A_b = float(precise.norm(precise.solve(X, exact(b))))
        allowed = d * U64 * precise.condition(X) * (1 + growth) ** 2 * max(A_b, float(precise.norm(want)))
        found.append(apart("solution", sofim.sherman_morrison_solve(A, u, v, b), want, allowed))
    return found
