"""FISMO's step: golden numbers, an independent spelling of Algorithm 1, edges and errors."""

from itertools import product

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st

from proofs_checks.ratios import inequality
from reference.fismo import FismoState, init, step, update_factors, whiten
from reference.polar import JORDAN_QUINTIC, newton_schulz, polar_factor
from tests.reference.cases import (
    U64,
    check,
    condition,
    distance,
    formula_budget,
    frozen,
    printed,
    spd,
)
from tests.reference.runs import DEFAULT, VARIANTS, gradients, run, run_budget

# ---- golden numbers

GOLDEN_G = [
    np.array(G, dtype=float)
    for G in ([[1, 2, 0], [0, -1, 1]], [[0, 1, -1], [2, 0, 1]], [[1, 0, 1], [1, -1, 0]])
]
GOLDEN = {
    ("algorithm", "gauss-seidel", "none"): (
        "0.8147632899891 -0.04578236113984",
        "-0.1534225422177 -0.2350011965256 -0.03740650017101 "
        "-0.1738578915331 0.09215221572859 -0.1425391324283",
    ),
    ("algorithm", "jacobi", "none"): (
        "0.7912046417822 -0.0899648022060",
        "-0.1599463786486 -0.2423682170283 -0.0279370312442 "
        "-0.1680886297846 0.08947381036275 -0.1478134585669",
    ),
    ("theorem", "gauss-seidel", "none"): (
        "0.8294764456332 -0.03949530971471",
        "-0.1527055599889 -0.2351024128512 -0.03665313738532 "
        "-0.1734828635492 0.09220940685282 -0.1439618401530",
    ),
    ("theorem", "jacobi", "none"): (
        "0.8114271556324 -0.07668644089655",
        "-0.1582768920945 -0.2406429500105 -0.02760435007923 "
        "-0.1678926904975 0.09019363650549 -0.1504681818113",
    ),
    ("algorithm", "gauss-seidel", "unit"): (
        "0.8246548962860 0.004826252124486",
        "-0.1532077339615 -0.2403274511797 -0.03102161767096 "
        "-0.1706823057270 0.09312224596096 -0.1425596376517",
    ),
    ("theorem", "gauss-seidel", "unit"): (
        "0.8354805443724 0.008319427719760",
        "-0.1527208987779 -0.2404230490026 -0.03054229867675 "
        "-0.1704034160514 0.09315169353960 -0.1436857427446",
    ),
}
HALF = {"beta": 0.5, "gamma": 0.5, "mu": 0.5}


@pytest.mark.claim("FISMO-GOLDEN")
@pytest.mark.parametrize(("damping", "order", "scaling"), GOLDEN)
def test_golden_steps(damping, order, scaling):
    updates, state = run(GOLDEN_G, damping=damping, order=order, factor_scaling=scaling, **HALF)
    W = -0.1 * sum(updates)
    P, W_rows = (row.split() for row in GOLDEN[damping, order, scaling])
    rounding = formula_budget(1.0, 3, formulas=3)
    check(printed("P", state.P[0], P, rounding=rounding), printed("W", W, W_rows, rounding=rounding))


@pytest.mark.claim("FISMO-GOLDEN")
def test_golden_factors_of_the_default():
    _, first = run(GOLDEN_G[:1], **HALF)
    _, third = run(GOLDEN_G, **HALF)
    upper = [
        *("1.251576276757", "-0.09974111787924", "0.4047439603454"),
        *("0.8600251314984", "-0.1301794870818", "0.8883985917444"),
    ]
    want = np.array([[19.0, -4.0], [-4.0, 13.0]]) / 16
    check(
        distance("P_1", first.P, want, budget=formula_budget(1.0, 3)),
        printed("Q_3", third.Q[np.triu_indices(3)], upper, rounding=formula_budget(1.0, 3, formulas=3)),
    )


# ---- Algorithm 1, spelled again


def algorithm_1(G, P, Q, M, *, beta, gamma, mu, damping, order, factor_scaling):
    """One step with inverses and matrix roots of SciPy's general solvers, equation by equation."""
    m, n = G.shape
    norm = np.linalg.norm(G)
    S = G * np.sqrt(m * n) / norm if factor_scaling == "unit" and norm else G
    Q_inv = scipy.linalg.inv(Q)
    damp = mu * np.trace(P) / m if damping == "algorithm" else mu * np.trace(Q_inv) / n
    P_bar = gamma * P + (1 - gamma) * (S @ Q_inv @ S.T / n + damp * np.eye(m))
    P_new = m / np.trace(P_bar) * P_bar
    P_inv = scipy.linalg.inv(P_new if order == "gauss-seidel" else P)
    damp = mu * np.trace(Q) / n if damping == "algorithm" else mu * np.trace(P_inv) / m
    Q_bar = gamma * Q + (1 - gamma) * (S.T @ P_inv @ S / m + damp * np.eye(n))
    Q_new = n / np.trace(Q_bar) * Q_bar
    A, C = (np.real(scipy.linalg.inv(scipy.linalg.sqrtm(X))) for X in (P_new, Q_new))
    M_new = beta * M + (1 - beta) * A @ G @ C
    U, _, Vt = scipy.linalg.svd(M_new, full_matrices=False)
    return A @ U @ Vt @ C, FismoState(P_new, Q_new, M_new)


@pytest.mark.claim("FISMO-ALG-invariants")
@given(
    gradients(), st.sampled_from(VARIANTS), st.floats(0.0, 0.99), st.floats(0.0, 1.0), st.floats(-2.0, 1.0)
)
def test_a_step_is_algorithm_1(case, options, beta, gamma, log_mu):
    (first, _, third), rng = case
    hyper = {"beta": beta, "gamma": gamma, "mu": 10.0**log_mu, **options}
    m, n = first.shape
    start = FismoState(spd(rng, m, 1.0), spd(rng, n, 1.0), third)
    want, want_state = algorithm_1(first, *start, **hyper)
    update, state = step(first, start, **hyper)
    budget = run_budget([want], want_state, 2) * (condition(start.P) + condition(start.Q))
    check(
        distance("P", state.P, want_state.P, budget=budget * m),
        distance("Q", state.Q, want_state.Q, budget=budget * n),
        distance("M", state.M, want_state.M, budget=budget * (1 + np.linalg.norm(want_state.M))),
        distance("update", update, want, budget=budget),
        distance("trace P", np.trace(state.P), np.float64(m), budget=formula_budget(m, m)),
        distance("trace Q", np.trace(state.Q), np.float64(n), budget=formula_budget(n, n)),
    )
    assert np.array_equal(state.P, state.P.T)
    assert np.array_equal(state.Q, state.Q.T)


@given(gradients(), st.sampled_from(VARIANTS))
def test_a_step_is_made_of_its_stages(case, options):
    (G, M0, _), _ = case
    hyper = {"gamma": 0.7, "mu": 0.1, **options}
    start = init(G, M0=M0)
    update, state = step(G, start, beta=0.6, **hyper)
    P, Q = update_factors(G, start.P, start.Q, **hyper)
    M = 0.6 * M0 + 0.4 * whiten(G, P, Q)
    assert np.array_equal(state.P, P)
    assert np.array_equal(state.Q, Q)
    budget = run_budget([update], state, 1)
    check(
        distance("M", state.M, M, budget=budget * (1 + np.linalg.norm(M))),
        distance("update", update, whiten(polar_factor(M), P, Q), budget=budget),
    )


def test_every_option_changes_the_step():
    rng = np.random.default_rng(4)
    G = list(rng.standard_normal((3, 3, 4)))
    ends = [run(G, mu=0.3, gamma=0.5, **options)[0][-1] for options in VARIANTS]
    for i, left in enumerate(ends):
        for right in ends[:i]:
            check(inequality(1e-4, np.linalg.norm(left - right), rounding=0.0))


# ---- edges


@pytest.mark.parametrize("options", VARIANTS)
def test_a_zero_gradient_leaves_no_step_and_positive_factors(options):
    update, state = step(np.zeros((2, 3)), init((2, 3)), mu=0.1, **options)
    assert not update.any()
    assert not state.M.any()
    check(
        distance("P", state.P, np.eye(2), budget=formula_budget(2.0, 2)),
        distance("Q", state.Q, np.eye(3), budget=formula_budget(3.0, 3)),
    )


@pytest.mark.parametrize("options", VARIANTS)
def test_one_by_one_is_sign_descent_with_averaged_gradients(options):
    G = [np.array([[x]]) for x in (3.0, -1.0, -9.0)]
    updates, state = run(G, beta=0.5, **options)
    assert [int(u[0, 0]) for u in updates] == [1, 1, -1]
    assert all(np.array_equal(np.abs(u), np.ones((1, 1))) for u in updates)
    assert state.P == 1
    assert state.Q == 1


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2, 0, 3), (0, 2, 3)])
def test_empty_parameters(shape):
    state = init(np.zeros(shape))
    update, after = step(np.zeros(shape), state)
    assert update.shape == shape
    assert all(np.array_equal(new, old) for new, old in zip(after, state, strict=True))
    assert not any(np.shares_memory(new, old) for new, old in zip(after, state, strict=True) if new.size)


@pytest.mark.parametrize("shape", [(1, 5), (5, 1)])
def test_a_row_or_column(shape):
    G = np.arange(1.0, 6.0).reshape(shape)
    updates, state = run([G, G], mu=0.5, gamma=0.5)
    whitened = np.linalg.norm(whiten(updates[-1], np.linalg.inv(state.P), np.linalg.inv(state.Q)))
    check(
        distance(
            "unit in the metric",
            whitened,
            np.float64(1.0),
            budget=formula_budget(1.0, 5, condition(state.Q) + condition(state.P)),
        )
    )


@pytest.mark.claim("FISMO-PD-floor")
def test_without_damping_the_old_factor_keeps_the_average_definite():
    G = np.array([[1.0, 0.0], [0.0, 0.0]])
    _, state = run([G] * 3, mu=0.0, gamma=0.5)
    check(inequality(0.0, np.linalg.eigvalsh(state.P).min(), rounding=0.0))


@pytest.mark.claim("FISMO-BRK-singular")
def test_a_factor_that_becomes_singular_is_a_clear_error():
    deficient = np.array([[1.0, 0.0], [0.0, 0.0]])
    with pytest.raises(ValueError, match="P must be positive definite to working precision"):
        step(deficient, init((2, 2)), mu=0.0, gamma=0.0)
    with pytest.raises(ValueError, match="P must stay positive definite, got a zero average"):
        step(np.zeros((2, 2)), init((2, 2)), mu=0.0, gamma=0.0)


@pytest.mark.parametrize("options", VARIANTS)
def test_a_batch_is_a_loop_of_singles(options):
    rng = np.random.default_rng(12)
    G = [frozen(rng.standard_normal((2, 3, 3, 4))) for _ in range(3)]
    together, state = run(G, mu=0.1, gamma=0.7, **options)
    for i, j in product(range(2), range(3)):
        alone, end = run([g[i, j] for g in G], mu=0.1, gamma=0.7, **options)
        budget = 2 * run_budget(alone, end, 3)
        check(
            distance("update", together[-1][i, j], alone[-1], budget=budget),
            distance("P", state.P[i, j], end.P, budget=3 * budget),
            distance("Q", state.Q[i, j], end.Q, budget=4 * budget),
            distance("M", state.M[i, j], end.M, budget=budget * (1 + np.linalg.norm(end.M))),
        )


def test_nothing_is_modified_or_shared():
    rng = np.random.default_rng(15)
    P0, Q0, M0 = spd(rng, 2, 1.0), spd(rng, 3, 1.0), frozen(rng.standard_normal((2, 3)))
    start = init((2, 3), P0=P0, Q0=Q0, M0=M0)
    for given_, held in zip((P0, Q0, M0), start, strict=True):
        assert np.array_equal(given_, held)
        assert not np.shares_memory(given_, held)
        frozen(held)
    _, after = step(frozen(rng.standard_normal((2, 3))), start)
    assert not any(np.shares_memory(new, old) for new, old in zip(after, start, strict=True))


def test_factors_are_symmetrised_exactly():
    P0 = np.array([[2.0, 0.1], [np.nextafter(0.1, 1.0), 3.0]])
    _, state = step(np.zeros((2, 2)), init((2, 2), P0=P0, Q0=P0))
    assert np.array_equal(state.P, state.P.T)
    assert np.array_equal(state.Q, state.Q.T)


def test_init_takes_a_parameter_or_its_shape():
    for state in (init((4, 2, 3)), init(np.ones((4, 2, 3)))):
        assert np.array_equal(state.P, np.broadcast_to(np.eye(2), (4, 2, 2)))
        assert np.array_equal(state.Q, np.broadcast_to(np.eye(3), (4, 3, 3)))
        assert np.array_equal(state.M, np.zeros((4, 2, 3)))
        assert all(X.flags.writeable for X in state)


@pytest.mark.claim("FISMO-TRADE-ns")
def test_the_polar_step_can_be_replaced():
    G = np.random.default_rng(19).standard_normal((3, 4))
    _, state = step(G, init(G), beta=0.0)
    for method, Q in (
        ("jordan", newton_schulz(state.M, JORDAN_QUINTIC)),
        (lambda M: 2.0 * M, 2.0 * state.M),
    ):
        update, _ = step(G, init(G), beta=0.0, orthogonalize=method)
        want = whiten(Q, state.P, state.Q)
        check(
            distance(
                "update",
                update,
                want,
                budget=formula_budget(np.linalg.norm(want), 4, condition(state.P), condition(state.Q)),
            )
        )


# ---- errors

G_ = np.ones((2, 3))
S_ = init(G_)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: init(np.ones(3)), ValueError, "W must be float64 of shape"),
        (lambda: init((3,)), ValueError, "W must have at least 2 axes"),
        (lambda: init((2, -3)), ValueError, "W .* must be at least 0"),
        (lambda: init((2.0, 3)), TypeError, "W .* must be an integer"),
        (lambda: init([[1.0]]), TypeError, "W must be a float64 array"),
        (lambda: init((2, 3), P0=np.eye(3)), ValueError, r"P0 must have shape \(2, 2\)"),
        (lambda: init((2, 3), Q0=np.zeros((3, 3))), ValueError, "Q0 must be positive definite"),
        (lambda: init((2, 3), M0=np.zeros((3, 2))), ValueError, r"M0 must have shape \(2, 3\)"),
        (lambda: step(np.ones((3, 2)), S_), ValueError, r"G must have shape \(2, 3\), got \(3, 2\)"),
        (lambda: step(G_ * np.nan, S_), ValueError, "G must be finite, got 6 non-finite"),
        (lambda: step(G_.astype(np.float32), S_), ValueError, "G must be float64 .* got float32"),
        (lambda: step(1e200 * G_, S_), ValueError, "G must have a square in range"),
        (lambda: step(G_, S_._replace(P=np.eye(3))), ValueError, r"P must have shape \(2, 2\)"),
        (lambda: step(G_, S_._replace(Q=-np.eye(3))), ValueError, "Q must be positive definite"),
        (lambda: step(G_, S_._replace(M=np.full((2, 3), np.inf))), ValueError, "state.M must be finite"),
        (lambda: step(G_, S_, beta=1.0), ValueError, r"beta must be in \[0, 1\), got 1.0"),
        (lambda: step(G_, S_, gamma=1.5), ValueError, r"gamma must be in \[0, 1\], got 1.5"),
        (lambda: step(G_, S_, mu=-1e-3), ValueError, "mu must be at least 0"),
        (lambda: step(G_, S_, mu=np.nan), ValueError, "mu must be finite"),
        (lambda: step(G_, S_, damping="lemma"), ValueError, "damping must be one of 'algorithm', 'theorem'"),
        (lambda: step(G_, S_, order="sor"), ValueError, "order must be one of 'gauss-seidel', 'jacobi'"),
        (
            lambda: step(G_, S_, factor_scaling="trace"),
            ValueError,
            "factor_scaling must be one of 'none', 'unit'",
        ),
        (lambda: step(G_, S_, orthogonalize="cubic"), ValueError, "orthogonalize must be one of 'polar'"),
        (lambda: whiten(G_, np.eye(3), np.eye(3)), ValueError, "P must have shape"),
        (lambda: whiten(G_, np.eye(2), -np.eye(3)), ValueError, "Q must be positive definite"),
        (
            lambda: update_factors(G_, np.eye(2), np.eye(2), gamma=0.5, mu=0.1, **DEFAULT),
            ValueError,
            "Q must have",
        ),
    ],
)
def test_a_bad_argument_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_unit_scaling_rescues_a_gradient_whose_square_overflows():
    update, _ = step(1e200 * G_, S_, factor_scaling="unit")
    want, _ = step(G_, S_, factor_scaling="unit")
    check(distance("update", update, want, budget=formula_budget(2.0, 3) + 32 * U64))
