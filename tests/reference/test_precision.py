"""The reference against 50 digits: every public function keeps the accuracy that its docstring states.

A check computes the same formula with `tests.reference.precise`, which shares no code with the reference, and
returns error over budget. A statement "of order x" is held to `ORDER_ONE` times x, one with explicit
constants to itself; where a docstring states nothing, the budget is that of the running error analysis behind
the golden vectors. The last tests list what is covered: a new public function without a check turns them red.
"""

import importlib
import inspect
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import reference
from proofs_checks.budgets import iteration_budget
from proofs_checks.golden.case import Case, budgets
from proofs_checks.golden.functions import FUNCTIONS
from proofs_checks.golden.rounding import Normed
from proofs_checks.inputs import MATRICES, from_spectrum
from proofs_checks.ratios import EXPLICIT_BUDGET, ORDER_ONE, Ratio, worst
from reference import adafisher, adahessian, fismo, kronecker, polar, sofim
from tests.reference import precise
from tests.reference.cases import SMALLEST, U64, check, spd
from tests.reference.precise import exact
from tests.strategies import seeds

Rng = np.random.Generator
CHECKS: dict[str, Callable[[Rng], list[Ratio]]] = {}

#: Stated by `polar_express_coefficients`: rows 1 to 7 to 1e-13 relative, with the default arguments.
STATED_ROWS, STATED_ACCURACY = 7, 1e-13

#: Stated by `polar_factor`: (99 sqrt(r) + 16 max(m, n)) u s[0] / s[-1].
STATED_STOP, STATED_PER_SIDE = 99, 16

#: Entries of the largest named matrix for which 50 digits are quick.
MOST = 64

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


# adafisher and adahessian: means of squares, where only the sums round


@checks("adafisher.linear_factors", "adafisher.embedding_factors")
def layer_factors(rng: Rng) -> list[Ratio]:
    N, n, m = (int(k) for k in rng.integers(1, 6, 3))
    h, s, indices = rng.standard_normal((N, n)), rng.standard_normal((N, m)), rng.integers(0, n, N)
    h_D, s_D = adafisher.linear_factors(h, s)
    shares, s_E = adafisher.embedding_factors(indices, s, num_embeddings=n)
    want_h, want_s = (precise.mean_square(exact(X)) for X in (h, s))
    want_shares = precise.mean_square(exact(np.eye(n)[indices]))
    level = (N + FEW) * U64
    return [
        entries("h_D", h_D[:-1], want_h, level * np.abs(h_D[:-1]), threshold=EXPLICIT_BUDGET),
        Ratio("bias", abs(float(h_D[-1]) - 1.0), U64, EXPLICIT_BUDGET),
        entries("s_D", s_D, want_s, level * np.abs(s_D), threshold=EXPLICIT_BUDGET),
        entries("shares", shares, want_shares, level * np.abs(shares), threshold=EXPLICIT_BUDGET),
        entries("s_D of an embedding", s_E, want_s, level * np.abs(s_E), threshold=EXPLICIT_BUDGET),
    ]


@checks("adafisher.conv2d_factors")
def convolution_factors(rng: Rng) -> list[Ratio]:
    groups, kernel, pads = int(rng.integers(1, 3)), (2, 1), int(rng.integers(0, 2))
    strides, spread_by = int(rng.integers(1, 3)), int(rng.integers(1, 3))
    x = rng.standard_normal((2, 2 * groups, 4, 4))
    setting = {"kernel_size": kernel, "stride": strides, "padding": pads, "dilation": spread_by}
    patches = precise.patches(exact(x), **setting, groups=groups)  # per group (samples and sites, entries)
    rows = precise.rows_out(4, **setting)
    s = rng.standard_normal((2, groups, rows, len(patches[0]) // (2 * rows)))
    h_D, s_D = adafisher.conv2d_factors(x, s, **setting, groups=groups, bias=False)
    want_h = np.array([precise.mean_square(group) for group in patches]).reshape(h_D.shape)
    flat = np.moveaxis(s, 1, -1).reshape(-1, groups)
    want_s = precise.mean_square(exact(flat)).reshape(s_D.shape)
    level = (len(flat) + FEW) * U64
    return [
        entries("h_D", h_D, want_h, level * np.abs(h_D), threshold=EXPLICIT_BUDGET),
        entries("s_D", s_D, want_s, level * np.abs(s_D), threshold=EXPLICIT_BUDGET),
    ]


@checks("adafisher.normalization_factors", "adafisher.normalization_block")
def normalization(rng: Rng) -> list[Ratio]:
    N, T, c = (int(k) for k in rng.integers(1, 4, 3))
    h, s = rng.standard_normal((2, N, T, c))
    H, S = exact(h), exact(s)
    level = (N * T + FEW) * U64
    found = []
    for form in ("v3", "submission"):
        got = adafisher.normalization_factors(h, s, form=form)
        flat = H.reshape(-1, c)
        want = precise.mean_square(flat) if form == "v3" else (flat.sum(axis=0) / (N * T)) ** 2
        terms = np.abs(h).mean(axis=(0, 1)) ** 2 if form == "submission" else np.square(h).mean(axis=(0, 1))
        found.append(entries("scale", got.scale, want, 2 * level * terms, threshold=EXPLICIT_BUDGET))
        of_s = precise.mean_square(S.reshape(-1, c))
        found.append(entries("s_D", got.s_D, of_s, level * np.abs(got.s_D), threshold=EXPLICIT_BUDGET))
    for parameter, X in (("scale", H * S), ("shift", S)):
        g = X.sum(axis=1)
        want = sum(np.outer(row, row) for row in g) / N
        a = np.abs(X).sum(axis=1).astype(float)
        terms = np.einsum("ni,nj->ij", a, a) / N
        block = adafisher.normalization_block(h, s, parameter=parameter)
        found.append(entries(parameter, block, want, 2 * level * terms, threshold=EXPLICIT_BUDGET))
    return found


@checks(
    "adafisher.minmax_normalize", "adafisher.average", "adafisher.released_average", "adafisher.denominator"
)
def denominators(rng: Rng) -> list[Ratio]:
    """Min-max subtracts nearly equal entries: u times the entries over the range, as stated for a step."""
    old, new = rng.uniform(0.5, 4.0, (2, int(rng.integers(2, 6))))
    gamma, lam = rng.random(), 10.0 ** rng.uniform(-3, 0)
    X, Y = exact(old), exact(new)
    weight, cancelled = precise.mp.mpf(gamma), FEW * U64 * float(np.max(new) / np.ptp(new))
    mixed = weight * X + (1 - weight) * Y
    tenth = precise.mp.mpf(1) / 10
    ranged = (Y - min(Y)) / (max(Y) - min(Y) + precise.mp.mpf(1) / 10**6)
    released = tenth * weight * X + tenth**2 * weight * ranged
    s = rng.random(3)
    F = np.outer(exact(s), X) + precise.mp.mpf(lam)
    explicit = {"threshold": EXPLICIT_BUDGET}
    got = adafisher.released_average(old, new, gamma=gamma)
    return [
        entries("min-max", adafisher.minmax_normalize(new), precise.minmax(Y), cancelled, **explicit),
        entries(
            "average", adafisher.average(old, new, gamma=gamma), mixed, FEW * U64 * (old + new), **explicit
        ),
        entries("released", got, released, FEW * U64 * gamma * old + gamma * cancelled, **explicit),
        entries("F", adafisher.denominator(old, s, lam=lam), F, FEW * U64 * F.astype(float), **explicit),
    ]


@checks("adahessian.hutchinson_diagonal", "adahessian.spatial_average", "adahessian.exact_diagonal")
def diagonals(rng: Rng) -> list[Ratio]:
    d, N = (int(k) for k in rng.integers(1, 5, 2))
    H, z = rng.standard_normal((d, d)), rng.choice([-1.0, 1.0], (N, d))
    products = exact(z) * (exact(z) @ exact(H).T)
    # The product with H rounds d times, the mean N times.
    terms = (np.abs(z) @ np.abs(H).T).mean(axis=0)
    got = adahessian.hutchinson_diagonal(lambda probes: probes @ H.T, z)
    D = rng.standard_normal((2, 3, 3))
    want = exact(D).reshape(2, 9).sum(axis=1) / 9
    averaged = adahessian.spatial_average(D, averaging="paper")
    explicit = {"threshold": EXPLICIT_BUDGET}
    mean = np.abs(D).mean(axis=(1, 2))
    assert np.array_equal(averaged, np.broadcast_to(averaged[:, :1, :1], D.shape))
    assert np.array_equal(adahessian.exact_diagonal(H), [H[i, i] for i in range(d)])
    return [
        entries("Hutchinson", got, products.sum(axis=0) / N, (d + N + FEW) * U64 * terms, **explicit),
        entries("window", averaged[:, 0, 0], want, (D[0].size + FEW) * U64 * mean, **explicit),
    ]


# methods


def along(name: str, case: Case) -> list[Ratio]:
    """Error over budget of every output of every step of a case."""
    function = FUNCTIONS[name]
    allowed = budgets(function, case, "float64")
    found = []
    rows = zip(function.run(case), precise.METHODS[name](case), allowed, strict=True)
    for t, (got, want, bounds) in enumerate(rows, start=1):
        assert got.keys() == want.keys() == bounds.keys()
        for output, X in got.items():
            by = entries if bounds[output].ndim else apart
            budget = bounds[output] if bounds[output].ndim else float(bounds[output])
            place = f"{name}, {case.name}, step {t}, {output}"
            found.append(by(place, X, want[output], budget, threshold=EXPLICIT_BUDGET))
    return found


@pytest.mark.parametrize("name", FUNCTIONS)
def test_golden_cases_are_within_their_budget_of_fifty_digits(name):
    check(worst(ratio for case in FUNCTIONS[name].cases for ratio in along(name, case)))


@given(seeds, st.sampled_from([name for name in FUNCTIONS if name.endswith(".step")]))
def test_steps_from_drawn_gradients_are_within_their_budget_of_fifty_digits(seed, name):
    """A golden case with its options, and gradients of another shape, scale and number."""
    rng = np.random.default_rng(seed)
    cases = FUNCTIONS[name].cases
    like = cases[rng.integers(len(cases))]
    first = like.steps[0]
    matrix = first.get("G", first.get("g")).ndim == 2
    m, n = shape(rng, 3)
    sizes = {"G": (m, n) if matrix else (n,), "g": (n,), "D": (m, n) if matrix else (n,), "W": (m, n)}
    sizes |= {"h_D": (n + 1,), "s_D": (m + 1,)}
    if "h_D" in first:
        sizes |= {"G": (m + 1, n + 1), "W": (m + 1, n + 1)}
    steps = tuple({k: rng.standard_normal(sizes[k]) for k in first} for _ in range(int(rng.integers(1, 4))))
    case = Case("drawn", like.hp, steps)
    allowed = budgets(FUNCTIONS[name], case, "float64")
    assume(all(np.isfinite(bound).all() for step in allowed for bound in step.values()))
    check(worst(along(name, case)))


@pytest.mark.parametrize("check_of", dict.fromkeys(CHECKS.values()), ids=lambda function: function.__name__)
@given(seed=seeds)
def test_functions_keep_the_accuracy_they_state(check_of, seed):
    check(*check_of(np.random.default_rng(seed)))


@pytest.mark.parametrize("name", [name for name, M in MATRICES.items() if 0 < M.size <= MOST])
def test_named_matrices_have_the_exact_nuclear_norm_and_polar_factor(name):
    """Every kind of matrix that broke linear algebra before; factors only where the rank is full."""
    M = MATRICES[name]
    X, r = exact(M), min(M.shape)
    total = precise.nuclear_norm(X)
    check(apart("nuclear norm", polar.nuclear_norm(M), total, r * U64 * float(total)))
    s = precise.singular_values(X)
    if s[-1] > max(M.shape) * precise.EPSILON * s[0]:
        got, want = polar.polar_factor(M), precise.polar_factor(X)
        check(apart("polar", got, want, polar_budget(M), threshold=EXPLICIT_BUDGET))


# what is covered

#: Public callables that need no check of their own, and why.
EXEMPT = {
    "kronecker.FixedPoint": "a tuple of results",
    "polar.Polynomial": "a type",
    **{
        f"{module}.{state}": "a tuple of arrays"
        for module, state in {
            "adafisher": "AdaFisherState",
            "adahessian": "AdaHessianState",
            "adamw": "AdamWState",
            "fismo": "FismoState",
            "muon": "MuonState",
            "sgd": "SgdState",
            "shampoo": "ShampooState",
            "sofim": "SofimState",
        }.items()
    },
    "adafisher.NormalizationFactors": "a tuple of results",
    **{
        f"{module}.init": "zeros, ones and identities: nothing is computed"
        for module in ("adafisher", "adahessian", "adamw", "fismo", "muon", "sgd", "shampoo", "sofim")
    },
}

#: Modules of the reference without a check at 50 digits yet, and what stands behind them.
ELSEWHERE = {
    "adafisher_denominator": "public through adafisher, checked there",
    "adafisher_factors": "public through adafisher, checked there",
    "bounds": "right-hand sides of theorems: a few roundings each; own tests",
    "dykaf": "own tests only",
    "isotropic_curvature": "own tests only",
    "kfac": "own tests only",
    "kl_shampoo": "own tests only",
    "lbfgs": "own tests only",
    "mousse": "own tests only",
    "natural_gradient": "own tests only",
    "noise": "random draws",
    "nystrom_sgd": "own tests only",
    "problems": "objectives with known gradients, own tests",
    "schedules": "tables of coefficients, certified with ball arithmetic",
}

HOME = Path(reference.__file__).parent
MODULES = sorted(path.stem for path in HOME.glob("*.py") if not path.stem.startswith("_"))


def public(module: str) -> list[str]:
    """Public functions and classes of a module of the reference."""
    found = importlib.import_module(f"reference.{module}")
    return [
        f"{module}.{name}" for name in found.__all__ if callable(getattr(found, name)) or name == "Polynomial"
    ]


@pytest.mark.parametrize("module", [module for module in MODULES if module not in ELSEWHERE])
def test_every_public_function_is_checked_or_exempt_with_a_reason(module):
    covered = CHECKS.keys() | FUNCTIONS.keys() | EXEMPT.keys()
    assert not [name for name in public(module) if name not in covered]


def test_checks_and_exemptions_are_of_functions_that_exist():
    existing = {name for module in MODULES if module not in ELSEWHERE for name in public(module)}
    assert (CHECKS.keys() | FUNCTIONS.keys() | EXEMPT.keys()) <= existing
    assert not CHECKS.keys() & EXEMPT.keys()
    for name in CHECKS.keys() | FUNCTIONS.keys():
        module, _, function = name.partition(".")
        assert inspect.isfunction(getattr(importlib.import_module(f"reference.{module}"), function))


@pytest.mark.parametrize("name", CHECKS)
def test_a_relative_error_of_a_billionth_turns_the_check_red(name, monkeypatch):
    """On one of a few inputs; where a formula cancels by design, not on all."""
    module, _, attribute = name.partition(".")
    home = importlib.import_module(f"reference.{module}")
    original = getattr(home, attribute)
    monkeypatch.setattr(home, attribute, lambda *given, **options: tilted(original(*given, **options)))
    for seed in range(5):
        try:
            if not worst(CHECKS[name](np.random.default_rng(seed))).passed:
                return
        except AssertionError:  # a check may also compare exactly
            return
    pytest.fail(f"the check of {name} is blind")


def tilted(result):
    """A result with a relative error of 2^-30, in tuples in every entry."""
    if isinstance(result, tuple):
        moved = [tilted(x) for x in result]
        return type(result)(*moved) if hasattr(result, "_fields") else tuple(moved)
    return result if isinstance(result, int) else result * (1 + 2.0**-30)
