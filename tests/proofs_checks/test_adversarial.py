"""The attackers themselves: searches find known optima, instances are what they say, emulation is exact."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs_checks.adversarial import instances, processes
from proofs_checks.adversarial.exact import exact_polar
from proofs_checks.adversarial.precision import rounded
from proofs_checks.adversarial.search import evolution, pattern, portfolio
from proofs_checks.adversarial.trajectories import budget, run, variant
from proofs_checks.adversarial.verdicts import (
    DOUBLE,
    at_least,
    at_most,
    factor_rounding,
    rounded_down,
    same,
    tightest,
    vanishing,
)
from proofs_checks.ratios import ORDER_ONE
from reference.fismo import init
from reference.polar import polar_factor

TOP = np.array([0.3, -1.2, 2.0])

#: A search with some 1e4 evaluations gets this near a smooth optimum in three dimensions, at the least.
NEAR = 1e-3


def bowl(X):
    """A smooth objective with its maximum 0 at `TOP`."""
    return -np.square(X - TOP).sum(axis=1)


@pytest.mark.parametrize("search", ["evolution", "pattern"])
def test_a_local_search_finds_the_top_of_a_bowl_and_leaves_its_starts_alone(search):
    starts = np.random.default_rng(1).standard_normal((5, 3))
    before = starts.copy()
    if search == "evolution":
        points, values = evolution(bowl, starts, steps=400, rng=np.random.default_rng(2))
    else:
        points, values = pattern(bowl, starts, steps=60)
    assert np.array_equal(starts, before)
    assert np.abs(points - TOP).max() < NEAR
    assert np.array_equal(values, bowl(points))


@given(st.integers(0, 2**32 - 1))
def test_a_search_never_ends_below_where_it_started(seed):
    rng = np.random.default_rng(seed)
    starts = rng.standard_normal((4, 3))

    def rugged(X):
        return np.sin(7 * X).sum(axis=1) - np.abs(X).max(axis=1)

    assert (evolution(rugged, starts, steps=10, rng=rng)[1] >= rugged(starts)).all()
    assert (pattern(rugged, starts, steps=5)[1] >= rugged(starts)).all()


def test_the_portfolio_counts_its_evaluations_and_reports_every_generator():
    counted = []

    def objective(X):
        counted.append(len(X))
        return bowl(X)

    seeds = np.zeros((2, 3))
    found = portfolio(objective, seeds, budget=300, restarts=6, rng=np.random.default_rng(3))
    assert found.evaluations == sum(counted)
    assert set(found.reached) == {"structured", "random", "evolution", "pattern"}
    assert found.value == max(found.reached.values())
    assert found.value == bowl(found.point[None])[0]
    again = portfolio(bowl, seeds, budget=300, restarts=6, rng=np.random.default_rng(3))
    assert again.value == found.value


def test_an_objective_that_is_not_a_number_stops_the_search():
    with pytest.raises(FloatingPointError, match="1 points"):
        evolution(
            lambda X: np.where(np.arange(len(X)) == 0, np.nan, 0.0),
            np.zeros((3, 2)),
            steps=1,
            rng=np.random.default_rng(0),
        )


def test_verdicts_point_the_right_way_and_refuse_nan():
    assert at_most("n", 1.0, 1.0, rounding=0.0).passed
    assert not at_most("n", 1.0 + DOUBLE * 2, 1.0, rounding=0.0).passed
    assert at_least("n", 1.0, 0.5, rounding=0.0).passed
    assert not at_least("n", 0.5, 1.0, rounding=0.0).passed
    assert vanishing("n", -DOUBLE, rounding=DOUBLE).passed
    assert not vanishing("n", [-1.0, 0.0], rounding=DOUBLE).passed
    for verdict in (
        at_most("n", np.nan, 1.0, rounding=1.0),
        at_least("n", np.nan, 0.0, rounding=1.0),
        vanishing("n", [0.0, np.nan], rounding=1.0),
        same("n", [np.nan], [0.0], budget=1.0),
    ):
        assert not verdict.passed
        assert verdict.name == "n"


@pytest.mark.parametrize(("value", "recorded"), [(0.99999, 0.9999), (0.5, 0.5), (-0.00001, -0.0001)])
def test_tightness_is_rounded_down(value, recorded):
    assert rounded_down(value) == recorded


def test_the_tightest_of_several_is_the_largest_and_nan_survives():
    half, quarter = at_most("a", [0.5, 0.1], 1.0, rounding=0.0), at_most("b", 1.0, 4.0, rounding=0.0)
    assert tightest([quarter, half]) == half.figures["left"]
    unknown = tightest([half, at_most("c", np.nan, 1.0, rounding=0.0)])
    assert np.isnan(unknown)


@pytest.mark.parametrize(("name", "dtype"), [("float32", np.float32), ("float16", np.float16)])
def test_emulated_rounding_is_that_of_the_format(name, dtype):
    rng = np.random.default_rng(4)
    x = rng.uniform(1, 2, 20000) * 10.0 ** rng.uniform(-4, 6, 20000)  # no subnormals, some overflow
    ties = np.arange(1, 2001) * 2.0**-4 + 2048.0
    for values in (x, -x, ties, np.array([0.0, np.inf, -np.inf, 65504.0, 65519.0, 65520.0])):
        with np.errstate(over="ignore"):
            assert np.array_equal(rounded(values, name), values.astype(dtype).astype(np.float64))
    assert np.isnan(rounded(np.array([np.nan]), name)).all()


def test_emulated_bfloat16_is_the_upper_half_of_float32_rounded_to_even():
    x = (np.random.default_rng(5).standard_normal(20000) * 100).astype(np.float32)
    bits = x.view(np.uint32).astype(np.uint64)
    upper = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint32) << 16
    assert np.array_equal(
        rounded(x.astype(np.float64), "bfloat16"), upper.view(np.float32).astype(np.float64)
    )


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 5))
def test_instances_have_the_spectra_they_are_asked_for(seed, m, n):
    rng = np.random.default_rng(seed)
    s = np.sort(rng.uniform(0, 3, (2, min(m, n))))[:, ::-1]
    M = instances.with_spectrum(rng, s, m, n)
    got = np.linalg.svd(M, compute_uv=False)
    assert vanishing("spectrum", got - s, rounding=ORDER_ONE * (m + n) * DOUBLE * 3).passed
    inside = instances.into_ball(M)
    clipped = np.linalg.svd(inside, compute_uv=False)
    assert vanishing("ball", clipped - np.minimum(s, 1), rounding=ORDER_ONE * (m + n) * DOUBLE * 3).passed
    P = instances.spd(rng, 2, m)
    assert np.array_equal(P, P.mT)
    root = instances.symmetric_root(P, power=0.5)
    assert same("root", root @ root, P, budget=factor_rounding(P) * float(np.linalg.norm(P))).passed


def test_gradient_kinds_include_rank_one_repeated_and_badly_scaled_samples():
    G = instances.gradients(np.random.default_rng(6), problems=18, samples=4, m=3, n=5)
    assert G.shape == (18, 4, 3, 5)
    ranks = {int(rank) for rank in np.linalg.matrix_rank(G).ravel()}
    assert ranks == {1, 2, 3} or ranks == {1, 3}
    norms = np.linalg.norm(G, axis=(-2, -1))
    assert (norms.max(axis=1) / norms.min(axis=1)).max() > np.float64(ORDER_ONE)


@pytest.mark.claim("FISMO-D.2-bounded")
def test_aligned_gradients_fill_the_ball_and_push_the_eigenvectors_they_name():
    C = processes.rank_one_policies(3, 4)
    size = np.full(C.shape[1], 0.7)
    attack = processes.aligned(
        C, size=size, steps=4, gamma=0.5, mu=0.1, damping="algorithm", order="gauss-seidel"
    )
    assert attack.P.shape == (5, C.shape[1], 3, 3)
    assert vanishing(
        "norm", np.linalg.norm(attack.G, axis=(-2, -1)) - 0.7, rounding=ORDER_ONE * 7 * DOUBLE
    ).passed
    assert np.array_equal(attack.P[0], np.broadcast_to(np.eye(3), attack.P[0].shape))
    assert not any(history.flags.writeable for history in attack[:4])
    C = processes.isometry_policies(4, 2)
    norms = np.linalg.norm(C, 2, axis=(-2, -1))
    assert vanishing("spectral norm", norms - 1, rounding=DOUBLE * 2).passed
    assert len({policy.tobytes() for policy in C.swapaxes(0, 1)}) == C.shape[1]


@pytest.mark.claim("FISMO-D.2-needed")
@pytest.mark.parametrize("b", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("shape", [(2, 2), (3, 5)])
def test_under_jacobi_the_lowest_eigenvectors_make_a_geometric_sum(b, shape):
    m, n = shape
    C = np.zeros((1, 1, m, n))
    C[..., 0, 0] = 1.0
    size, steps = np.array([np.sqrt(b * m * n * 0.3)]), 12
    attack = processes.aligned(
        C, size=size, steps=steps, gamma=0.0, mu=0.3, damping="algorithm", order="jacobi"
    )
    expected = np.cumsum(b ** np.arange(steps + 1))
    for factor in attack[:2]:
        grown = 1 / np.linalg.eigvalsh(factor)[:, 0, 0]
        rounding = factor_rounding(factor, steps=steps)
        assert vanishing("growth", grown / expected - 1, rounding=rounding).passed


@pytest.mark.claim("FISMO-FRAME")
def test_the_variant_without_changes_is_algorithm_1():
    G = np.random.default_rng(7).standard_normal((6, 4, 3, 5))
    plain = run(G, beta=0.6, gamma=0.7, mu=0.1)
    again = variant(G, state=init(G.shape[1:]), beta=0.6, gamma=0.7, mu=0.1)
    assert same("updates", again, plain.updates, budget=2 * budget(plain)).passed


@pytest.mark.claim("POLAR-conditioning")
@pytest.mark.parametrize("condition", [1e0, 1e6, 1e12])
def test_the_exact_polar_factor_is_orthogonal_and_symmetrises(condition):
    rng = np.random.default_rng(8)
    A = instances.with_spectrum(rng, np.geomspace(1, 1 / condition, 6), 6, 6)
    Q = exact_polar(A)
    assert vanishing("orthogonality", Q.T @ Q - np.eye(6), rounding=2 * 6 * DOUBLE).passed
    H = Q.T @ A
    assert vanishing("symmetry", H - H.T, rounding=2 * 6 * DOUBLE * np.linalg.norm(A)).passed
    apart = np.linalg.norm(Q - polar_factor(A))
    assert vanishing("polar factor", apart, rounding=ORDER_ONE * DOUBLE * 6 * condition).passed


def test_the_exact_polar_factor_of_a_singular_matrix_is_an_error():
    with pytest.raises(ArithmeticError):
        exact_polar(np.diag([1.0, 0.0]))
