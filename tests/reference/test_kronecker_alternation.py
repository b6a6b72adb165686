"""The alternation of Theorem 4.1: contraction, error bounds, fixed points of both dampings."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs_checks.ratios import inequality
from reference.kronecker import (
    FixedPoint,
    contraction_factor,
    coupling_bound,
    fisher_lmo,
    fixed_point,
    hilbert_distance,
    inverse_sqrt,
    left_factor,
    logdet_divergence,
    objective,
    right_factor,
)
from tests.reference.cases import (
    U64,
    check,
    condition,
    distance,
    formula_budget,
    frozen,
    kronecker_case,
    kronecker_samples,
    printed,
    size,
    spd,
)

LOOSE = 1e-3  # a tolerance that is met long before rounding level
MANY = 5_000  # iterations no problem here should need
U_GOLDEN, V_GOLDEN = np.array([4.0, 1.0, 0.25]), np.array([3.0, 1.0, 0.5, 0.2])


@given(kronecker_case(max_decades=0.0))
def test_coupling_bound_is_an_upper_bound(case):
    G, _, _, _, rng = case
    x, y = rng.standard_normal((64, G.shape[1])), rng.standard_normal((64, G.shape[2]))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    y /= np.linalg.norm(y, axis=1, keepdims=True)
    attained = np.mean(np.einsum("si,kij,sj->sk", x, G, y) ** 2, axis=1)
    g2 = coupling_bound(G)
    check(inequality(attained, g2, rounding=formula_budget(g2, G.size)))


def test_coupling_bound_takes_the_least_of_three():
    rows = np.zeros((4, 2, 2))  # by rows and by entries 1; by columns 2
    rows[0, 0, 0] = rows[1, 1, 0] = rows[2, 0, 0] = rows[3, 1, 0] = np.sqrt(2.0)
    by_entry = np.stack([np.eye(2), np.array([[0.0, 1.0], [-1.0, 0.0]])]) * np.sqrt(2.0)
    for G, want in ((rows, 1.0), (rows.swapaxes(1, 2), 1.0), (np.eye(3), 1.0), (by_entry, 2.0)):
        check(distance("g2", coupling_bound(G), np.float64(want), budget=formula_budget(want, 8)))
    alone = (
        np.eye(4).reshape(4, 2, 2) * 2.0
    )  # every entry on its own: only vec sees 1, rows and columns see 2
    check(distance("by entries", coupling_bound(alone), np.float64(1.0), budget=formula_budget(1.0, 8)))


@pytest.mark.claim("FISMO-T1-contraction")
@given(kronecker_case(max_decades=2.0))
def test_a_half_step_contracts_hilberts_metric(case):
    G, P, Q, mu, rng = case
    c = contraction_factor(G, mu=mu)
    P2, Q2 = spd(rng, len(P), 2.0), spd(rng, len(Q), 2.0)
    rounding = formula_budget(1.0, G.size, 100.0, 100.0, 1 + coupling_bound(G) / mu, formulas=2)
    left = hilbert_distance(left_factor(G, Q, mu=mu), left_factor(G, Q2, mu=mu))
    right = hilbert_distance(right_factor(G, P, mu=mu), right_factor(G, P2, mu=mu))
    check(
        inequality(left, c * hilbert_distance(Q, Q2), rounding=rounding),
        inequality(right, c * hilbert_distance(P, P2), rounding=rounding),
    )


def test_contraction_factor_is_the_tanh_of_the_theorem():
    G = np.diag([2.0, 1.0])
    want = np.tanh(0.5 * np.log1p(4.0 / 0.3))
    check(distance("c", contraction_factor(G, mu=0.3), want, budget=formula_budget(1.0, 2)))
    zero = np.zeros((2, 2))
    limits = [contraction_factor(X, mu=mu) for X, mu in ((G, 0.0), (zero, 0.0), (zero, 0.1))]
    assert limits == [1, 1, 0]


@pytest.mark.claim("FISMO-T4.1-fixed-point")
@given(kronecker_case(max_decades=1.0, max_side=4), st.sampled_from(["gauss-seidel", "jacobi"]))
def test_the_fixed_point_solves_both_equations(case, method):
    G, P0, Q0, mu, _ = case
    P, Q, _, bound = fixed_point(G, mu=mu, method=method, P0=P0, Q0=Q0)
    kappa = 1 + coupling_bound(G) / mu  # bounds the conditions of both factors
    rounding = formula_budget(1.0, G.size, kappa, kappa)
    residual = hilbert_distance(left_factor(G, Q, mu=mu), P)
    stopped = 2e-12 + rounding  # the tolerance of the last move, and the next one
    check(
        inequality(residual, stopped, rounding=rounding),
        distance("Q is Q*(P)", right_factor(G, P, mu=mu), Q, budget=rounding * size(Q)),
        distance("trace P", np.trace(P), np.float64(len(P)), budget=formula_budget(len(P), len(P))),
        inequality(0.0, bound, rounding=0.0),
    )


@pytest.mark.claim("FISMO-T4.1-unique")
@given(kronecker_case(max_decades=2.0, max_side=4))
def test_the_fixed_point_does_not_depend_on_start_or_method(case):
    G, P0, Q0, mu, _ = case
    first = fixed_point(G, mu=mu)
    for method in ("gauss-seidel", "jacobi"):
        other = fixed_point(G, mu=mu, method=method, P0=P0, Q0=Q0)
        kappa = 1 + coupling_bound(G) / mu
        noise = formula_budget(1.0, G.size, kappa, kappa)
        apart = first.error_bound + other.error_bound + noise * (1 + kappa**2)
        check(inequality(hilbert_distance(first.Q, other.Q), apart, rounding=noise))
        F = [np.kron(point.Q, point.P) for point in (first, other)]
        check(distance("F with its scale", F[1], F[0], budget=4 * apart * kappa * size(F[0])))


@pytest.mark.claim("FISMO-T1-contraction")
@given(
    kronecker_case(max_decades=1.0, max_side=4),
    st.integers(2, 12),
    st.sampled_from(["gauss-seidel", "jacobi"]),
)
def test_the_error_bound_holds_when_the_alternation_is_cut_short(case, iterations, method):
    G, P0, Q0, mu, _ = case
    cut = fixed_point(G, mu=mu, method=method, P0=P0, Q0=Q0, max_iterations=iterations)
    truth = fixed_point(G, mu=mu)
    kappa = 1 + coupling_bound(G) / mu
    noise = formula_budget(1.0, G.size, kappa, kappa) * (1 + kappa**2)
    check(inequality(hilbert_distance(cut.Q, truth.Q), cut.error_bound + truth.error_bound, rounding=noise))
    if method == "jacobi":
        over_c = truth.error_bound / contraction_factor(G, mu=mu)
        check(inequality(hilbert_distance(cut.P, truth.P), cut.error_bound + over_c, rounding=noise))
    assert cut.iterations == iterations or cut.error_bound < np.inf


@pytest.mark.claim("FISMO-T2-jacobi")
def test_jacobi_is_two_interleaved_chains():
    rng = np.random.default_rng(7)
    G, P0, Q0 = rng.standard_normal((3, 3, 5)), spd(rng, 3, 1.0), spd(rng, 5, 1.0)
    cut = fixed_point(G, mu=0.1, method="jacobi", P0=P0, Q0=Q0, max_iterations=3)
    P = P0
    for half_step in (right_factor, left_factor, right_factor):
        P = half_step(G, P, mu=0.1)
    chain = left_factor(G, right_factor(G, left_factor(G, Q0, mu=0.1), mu=0.1), mu=0.1)
    budget = formula_budget(1.0, G.size, 1e3, formulas=4)
    check(
        distance("from Q0", hilbert_distance(cut.P, chain), np.float64(0.0), budget=budget),
        distance(
            "then once more",
            hilbert_distance(cut.Q, right_factor(G, chain, mu=0.1)),
            np.float64(0.0),
            budget=budget,
        ),
        inequality(1e-3, hilbert_distance(cut.Q, P), rounding=0.0),  # the other chain is elsewhere
    )


@pytest.mark.claim("FISMO-T1-contraction")
@pytest.mark.parametrize(("method", "lag"), [("gauss-seidel", 1), ("jacobi", 2)])
def test_the_error_bound_is_the_printed_one(method, lag):
    rng = np.random.default_rng(29)
    G, start = rng.standard_normal((3, 3, 4)), {"P0": spd(rng, 3, 1.0), "Q0": spd(rng, 4, 1.0)}
    points = [fixed_point(G, mu=0.5, method=method, max_iterations=k, **start) for k in range(1, 5)]
    c = contraction_factor(G, mu=0.5)
    for before, after in zip(points[:-lag], points[lag:], strict=True):
        # Jacobi returns Q*(P) in place of Q: the next iteration's, hence one of the same chain as P.
        moved = [hilbert_distance(after.P, before.P), hilbert_distance(after.Q, before.Q)]
        bound = float(after.error_bound) * (1 - c**2) / c**2
        noise = formula_budget(1.0, G.size, 100.0, formulas=4)
        if method == "gauss-seidel":
            check(distance("bound", bound, moved[1], budget=noise))
        else:
            check(inequality(moved, bound, rounding=noise))
    assert points[0].error_bound == np.inf or lag == 1


def test_gauss_seidel_does_not_use_P0():
    G = np.random.default_rng(3).standard_normal((2, 3, 4))
    with_P0 = fixed_point(G, mu=0.1, P0=np.diag([1.0, 2.0, 3.0]))
    without = fixed_point(G, mu=0.1)
    assert np.array_equal(with_P0.P, without.P)
    assert np.array_equal(with_P0.Q, without.Q)


#: Diagonals of P and Q, each normalised to mean 1, from a 40-digit iteration of the scalar equations.
GOLDEN = {
    ("theorem", 0.1): (
        "2.167319842961 0.610893385680 0.221786771359",
        "2.384326633668 0.867256350196 0.487988779328 0.260428236808",
    ),
    ("algorithm", 0.1): (
        "2.222516554583 0.592494481806 0.184988963611",
        "2.475347597511 0.858528312567 0.454323491331 0.211800598590",
    ),
    ("theorem", 1.0): (
        "1.737439161172 0.754186946276 0.508373892552",
        "1.863299380234 0.917217867649 0.680697489503 0.538785262615",
    ),
    ("algorithm", 1.0): (
        "1.804213479907 0.731928840031 0.463857680062",
        "1.959133573350 0.908028287487 0.645251966021 0.487586173142",
    ),
}


@pytest.mark.claim("FISMO-GOLDEN")
@pytest.mark.parametrize("method", ["gauss-seidel", "jacobi"])
@pytest.mark.parametrize(("damping", "mu"), GOLDEN)
def test_golden_fixed_points(method, damping, mu):
    P, Q, _, bound = fixed_point(kronecker_samples(U_GOLDEN, V_GOLDEN), mu=mu, method=method, damping=damping)
    stop = 1e-12 + formula_budget(1.0, 12, 16.0)
    golden_P, golden_Q = (row.split() for row in GOLDEN[damping, mu])
    check(
        printed("P", P.diagonal(), golden_P, rounding=stop),
        printed("Q", Q.diagonal() * 4 / np.trace(Q), golden_Q, rounding=stop),
        distance("off-diagonal", P - np.diag(P.diagonal()), np.zeros((3, 3)), budget=stop),
    )
    if damping == "theorem":
        check(printed("scale", np.trace(Q) / 4, {0.1: "2.025726", 1.0: "2.903157"}[mu], rounding=stop))
        assert bound < np.inf
    else:
        check(distance("trace Q", np.trace(Q), np.float64(4.0), budget=stop))
        assert bound == np.inf


@pytest.mark.claim("FISMO-LOSS-SCALE")
@pytest.mark.parametrize(("c", "kappa"), [(0.01, "1.0044"), (1.0, "12.01"), (100.0, "15.9995")])
def test_golden_dependence_on_the_loss_scale(c, kappa):
    P = fixed_point(c * kronecker_samples(U_GOLDEN, V_GOLDEN), mu=0.1, damping="algorithm").P
    check(printed("condition of P", condition(P), kappa, rounding=1e-10))


@pytest.mark.claim("FISMO-ALG-fixed-point")
@given(kronecker_case(max_decades=0.0, max_side=4))
def test_the_algorithms_fixed_point_solves_its_own_equations(case):
    G, _, _, mu, _ = case
    P, Q, iterations, _ = fixed_point(G, mu=mu, damping="algorithm", max_iterations=MANY)
    m, n = len(P), len(Q)
    L = np.einsum("kia,ab,kjb->ij", G, np.linalg.inv(Q), G) / len(G) / n + mu * np.eye(m)
    R = np.einsum("kai,ab,kbj->ij", G, np.linalg.inv(P), G) / len(G) / m + mu * np.eye(n)
    kappa = condition(P) + condition(Q)
    budget = formula_budget(m + n, G.size, kappa) + 4e-12 * (m + n) * kappa
    check(
        distance("P", P, m * L / np.trace(L), budget=budget),
        distance("Q", Q, n * R / np.trace(R), budget=budget),
    )
    assert iterations < MANY


def test_a_batch_is_a_loop_of_singles():
    rng = np.random.default_rng(11)
    G = frozen(rng.standard_normal((2, 3, 4, 2, 3)) * np.array([0.1, 1.0, 10.0])[:, None, None, None])
    P, Q = (
        np.stack([spd(rng, 2, 1.0)] * 6).reshape(2, 3, 2, 2),
        np.stack([spd(rng, 3, 1.0)] * 6).reshape(2, 3, 3, 3),
    )
    budget = 1e3 * formula_budget(1.0, 12, 10.0)  # results of size up to 1e3 = N |G|^2
    functions = {
        "left": lambda G, P, Q: left_factor(G, Q, mu=0.1),
        "right": lambda G, P, Q: right_factor(G, P, mu=0.1),
        "objective": lambda G, P, Q: objective(G, P, Q, mu=0.1),
        "coupling": lambda G, P, Q: coupling_bound(G),
        "contraction": lambda G, P, Q: contraction_factor(G, mu=0.1),
        "lmo": lambda G, P, Q: fisher_lmo(G[..., 0, :, :], P, Q),
        "divergence": lambda G, P, Q: logdet_divergence(P, 2.0 * P),
        "metric": lambda G, P, Q: hilbert_distance(Q, Q @ Q),
        "root": lambda G, P, Q: inverse_sqrt(P),
    }
    for name, f in functions.items():
        singles = np.stack([[f(G[i, j], P[i, j], Q[i, j]) for j in range(3)] for i in range(2)])
        check(distance(name, f(G, P, Q), singles, budget=budget))
        once = f(G, P[0, 0], Q[0, 0]) if name in ("left", "right", "objective", "lmo") else singles
        check(distance(f"{name}, factors broadcast", once, singles, budget=budget))


@pytest.mark.parametrize("method", ["gauss-seidel", "jacobi"])
@pytest.mark.parametrize("damping", ["theorem", "algorithm"])
@pytest.mark.parametrize("stop", [LOOSE, 1e-12])
def test_a_batch_of_fixed_points_is_a_loop_of_singles(method, damping, stop):
    rng = np.random.default_rng(13)
    G = frozen(rng.standard_normal((3, 4, 2, 3)) * np.array([0.1, 1.0, 10.0])[:, None, None, None])
    options = {"mu": 0.1, "method": method, "damping": damping, "tolerance": stop}
    batch = fixed_point(G, **options)
    singles = [fixed_point(g, **options) for g in G]
    noise = formula_budget(1e3, 12, 1e4)  # G of size 10 and mu = 0.1: conditions up to 1e4
    for i, single in enumerate(singles):
        check(
            distance("P", batch.P[i], single.P, budget=noise),
            distance("Q", batch.Q[i], single.Q, budget=noise),
        )
    assert batch.error_bound.shape == (3,)
    assert abs(batch.iterations - max(single.iterations for single in singles)) <= 1


def test_tolerance_zero_stops_at_the_level_of_rounding():
    G = np.random.default_rng(17).standard_normal((3, 4, 3, 5))
    for method in ("gauss-seidel", "jacobi"):
        stopped = fixed_point(G, mu=0.1, method=method, tolerance=0.0, max_iterations=MANY)
        assert stopped.iterations < MANY
        loose = fixed_point(G, mu=0.1, method=method, tolerance=LOOSE)
        assert loose.iterations < stopped.iterations


def test_a_fixed_point_that_does_not_exist_is_an_error():
    with pytest.raises(ValueError, match="P must be positive definite to working precision"):
        fixed_point(np.array([[1.0, 0.0], [0.0, 0.0]]), mu=0.0)
    with pytest.raises(ValueError, match="Q must be positive definite to working precision"):
        fixed_point(np.eye(2, 3), mu=0.0)


def test_one_by_one_and_one_sample():
    g = np.array([[3.0]])
    assert isinstance(fixed_point(g, mu=0.5), FixedPoint)
    P, Q, _, _ = fixed_point(g, mu=0.5)
    check(
        distance("P", P, np.ones((1, 1)), budget=4 * U64),
        distance("Q carries g^2 + mu", Q, np.full((1, 1), 9.5), budget=64 * U64),
    )
    assert np.array_equal(left_factor(g[None], Q, mu=0.5), left_factor(g, Q, mu=0.5))
