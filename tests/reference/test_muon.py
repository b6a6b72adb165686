"""Muon's step, term by term."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs_checks.ratios import inequality
from reference.muon import MuonState, init, step
from reference.polar import JORDAN_QUINTIC, newton_schulz, polar_factor
from tests.reference.cases import U64, check, condition, distance, formula_budget, frozen
from tests.strategies import seeds


@given(
    seeds,
    st.integers(1, 5),
    st.integers(1, 5),
    st.floats(0.0, 0.99),
    st.booleans(),
    st.sampled_from(["ema", "sum"]),
)
def test_the_momentum_that_is_orthogonalised(seed, m, n, beta, nesterov, momentum):
    rng = np.random.default_rng(seed)
    G, V = (frozen(X) for X in rng.standard_normal((2, m, n)))
    seen = []

    def record(M):
        seen.append(M)
        return M

    update, state = step(
        G, MuonState(V), beta=beta, nesterov=nesterov, momentum=momentum, scale="none", orthogonalize=record
    )
    weight = 1 - beta if momentum == "ema" else 1.0
    want = beta * V + weight * G
    ahead = beta * want + weight * G if nesterov else want  # G + beta (V - G) is beta V + (1 - beta) G
    budget = 8 * U64 * (np.linalg.norm(G) + np.linalg.norm(V)) * 3
    check(
        distance("V", state.V, want, budget=budget),
        distance("U", seen[0], ahead, budget=budget),
    )
    assert np.array_equal(update, seen[0])


@pytest.mark.parametrize(
    ("scale", "shape", "want"),
    [
        ("original", (8, 2), 2.0),
        ("original", (2, 8), 1.0),
        ("match_rms_adamw", (25, 4), 1.0),
        ("match_rms_adamw", (4, 25), 1.0),
        ("none", (8, 2), 1.0),
    ],
)
def test_the_scale_depends_on_the_shape(scale, shape, want):
    G = np.random.default_rng(1).standard_normal(shape)
    update, _ = step(G, init(shape), scale=scale, orthogonalize="polar")
    check(
        distance("a U", update, want * polar_factor(G), budget=formula_budget(want * 5.0, 25, condition(G)))
    )


@given(seeds, st.floats(0.0, 0.99))
def test_both_momenta_have_the_same_exact_direction(seed, beta):
    G = np.random.default_rng(seed).standard_normal((4, 3, 4))
    ends = []
    for momentum in ("ema", "sum"):
        state = init((3, 4))
        for g in G:
            update, state = step(
                g, state, beta=beta, momentum=momentum, nesterov=False, orthogonalize="polar"
            )
        ends.append(update)
    check(distance("direction", ends[1], ends[0], budget=2 * formula_budget(2.0, 4, 4 * condition(state.V))))


def test_the_default_is_five_jordan_steps_of_the_nesterov_average():
    G, V = np.random.default_rng(2).standard_normal((2, 6, 3))
    update, state = step(G, MuonState(V))
    average = 0.95 * V + 0.05 * G
    want = np.sqrt(2.0) * newton_schulz(G + 0.95 * (average - G), JORDAN_QUINTIC, steps=5)
    slope = JORDAN_QUINTIC[0] ** 5
    check(
        distance("update", update, want, budget=formula_budget(2.0, 6) + 16 * U64 * slope),
        distance("V", state.V, average, budget=16 * U64),
    )
    assert np.array_equal(init((6, 3)).V, init(G).V)


@given(seeds, st.floats(0.0, 1.0))
def test_weight_decay_is_added_to_the_update(seed, weight_decay):
    G, W = (frozen(X) for X in np.random.default_rng(seed).standard_normal((2, 3, 4)))
    plain, state = step(G, init(G))
    decayed, decayed_state = step(G, init(G), weight_decay=weight_decay, W=W)
    assert np.array_equal(decayed, plain + weight_decay * W)
    assert np.array_equal(decayed_state.V, state.V)


def test_the_exact_update_is_perfectly_conditioned():
    G = np.random.default_rng(4).standard_normal((3, 5))
    update, _ = step(G, init(G), orthogonalize="polar")
    check(inequality(condition(update), 1.0, rounding=formula_budget(1.0, 5)))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (2, 0, 3)])
def test_empty_and_zero(shape):
    for scale in ("original", "match_rms_adamw", "none"):
        update, state = step(np.zeros(shape), init(shape), scale=scale)
        assert update.shape == state.V.shape == shape
    update, _ = step(np.zeros((2, 3)), init((2, 3)))
    assert not update.any()


def test_a_batch_is_a_loop_of_singles():
    G = np.random.default_rng(5).standard_normal((3, 2, 4, 3))
    together = init((2, 4, 3))
    alone = [init((4, 3)), init((4, 3))]
    for g in G:
        update, together = step(g, together)
        pairs = [step(g[i], alone[i]) for i in range(2)]
        alone = [state for _, state in pairs]
    budget = formula_budget(4.0, 4) + 16 * 4 * U64 * JORDAN_QUINTIC[0] ** 5
    check(distance("batch", update, np.stack([u for u, _ in pairs]), budget=budget))


def test_nothing_is_modified_or_shared():
    state = MuonState(frozen(np.ones((2, 3))))
    _, after = step(frozen(np.eye(2, 3)), state, beta=0.0)
    assert not np.shares_memory(after.V, state.V)


G_ = np.ones((2, 3))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: init((3,)), ValueError, "W must have at least 2 axes"),
        (lambda: step(G_.T, init(G_)), ValueError, r"G must have shape \(2, 3\)"),
        (lambda: step(G_ * np.nan, init(G_)), ValueError, "G must be finite"),
        (lambda: step(G_, MuonState(np.ones(3))), ValueError, "state.V must be float64 of shape"),
        (lambda: step(G_, init(G_), beta=1.0), ValueError, r"beta must be in \[0, 1\)"),
        (lambda: step(G_, init(G_), momentum="nag"), ValueError, "momentum must be one of 'ema', 'sum'"),
        (lambda: step(G_, init(G_), scale="rms"), ValueError, "scale must be one of 'original'"),
        (lambda: step(G_, init(G_), orthogonalize="qr"), ValueError, "orthogonalize must be one of 'polar'"),
        (lambda: step(G_, init(G_), weight_decay=-0.1), ValueError, "weight_decay must be at least 0"),
        (
            lambda: step(G_, init(G_), weight_decay=0.1),
            ValueError,
            "W must be given when weight_decay is above 0",
        ),
        (lambda: step(G_, init(G_), weight_decay=0.1, W=G_.T), ValueError, r"W must have shape \(2, 3\)"),
    ],
)
def test_a_bad_argument_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
