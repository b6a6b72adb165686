"""AdamW's step, term by term."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs_checks.ratios import recursion
from reference.adamw import AdamWState, init, step
from tests.reference.cases import U64, check, distance, frozen
from tests.strategies import seeds

#: Roundings of an entry of the update: two averages of 3, two corrections of 2, root, sum, quotient.
ROUNDINGS = 16


@given(seeds, st.floats(0.0, 0.99), st.floats(0.0, 0.999), st.sampled_from([(), (5,), (2, 3), (2, 1, 3)]))
def test_averages_and_update_are_the_formula(seed, beta1, beta2, shape):
    rng = np.random.default_rng(seed)
    state = AdamWState(rng.standard_normal(shape), np.asarray(rng.random(shape)), 3)
    G = frozen(np.asarray(rng.standard_normal(shape)))
    state = AdamWState(frozen(np.asarray(state.m)), frozen(state.v), 3)
    update, new = step(G, state, beta1=beta1, beta2=beta2, epsilon=1e-3, weight_decay=0.0)
    m, v = beta1 * state.m + (1 - beta1) * G, beta2 * state.v + (1 - beta2) * G**2
    root = np.sqrt(v / (1 - beta2**4))
    want = m / (1 - beta1**4) / (root + 1e-3)
    terms = (beta1 * np.abs(state.m) + (1 - beta1) * np.abs(G)) / (1 - beta1**4) / (root + 1e-3)
    check(
        recursion(new.m, m, np.abs(state.m) + np.abs(G), operations=3, u=U64),
        recursion(new.v, v, v, operations=4, u=U64),
        recursion(update, want, terms, operations=ROUNDINGS, u=U64),
    )
    assert new.t == 4
    assert update.shape == new.m.shape == new.v.shape == shape


@given(seeds, st.floats(0.0, 0.99), st.floats(0.0, 0.99))
def test_the_first_step_without_epsilon_is_the_sign(seed, beta1, beta2):
    G = np.random.default_rng(seed).standard_normal((3, 4))
    update, _ = step(G, init(G), beta1=beta1, beta2=beta2, epsilon=0.0, weight_decay=0.0)
    check(recursion(update, np.sign(G), np.ones_like(G), operations=ROUNDINGS, u=U64))


def test_three_steps_by_hand():
    state, path = init((1,)), []
    for g in (2.0, 0.0, -1.0):
        update, state = step(np.array([g]), state, beta1=0.5, beta2=0.75, epsilon=1.0, weight_decay=0.0)
        path.append(update[0])
    # m: 1, 1/2, -1/4; v: 1, 3/4, 13/16; corrections 1/2, 3/4, 7/8 and 1/4, 7/16, 37/64
    want = [2 / (2 + 1), (2 / 3) / ((12 / 7) ** 0.5 + 1), (-2 / 7) / ((52 / 37) ** 0.5 + 1)]
    check(distance("path", np.array(path), np.array(want), budget=ROUNDINGS * U64))


def test_epsilon_stands_outside_the_root_and_after_the_correction():
    G = np.array([3.0])
    update, _ = step(G, init(G), epsilon=1.0, weight_decay=0.0)
    check(distance("G / (|G| + epsilon)", update, np.array([0.75]), budget=ROUNDINGS * U64))


@given(seeds, st.sampled_from([2.0**-100, 2.0**-10, 2.0**20, 2.0**400]))
def test_scaling_gradients_and_epsilon_together_changes_nothing(seed, scale):
    G = np.random.default_rng(seed).standard_normal((4, 2, 3))
    ends = []
    for factor in (1.0, scale):
        state = init((2, 3))
        for g in G:
            update, state = step(factor * g, state, epsilon=factor * 0.5, weight_decay=0.0)
        ends.append(update)
    assert np.array_equal(*ends)


@given(seeds, st.floats(0.0, 1.0))
def test_weight_decay_is_decoupled(seed, weight_decay):
    G, W = (frozen(X) for X in np.random.default_rng(seed).standard_normal((2, 3, 4)))
    plain, state = step(G, init(G), weight_decay=0.0)
    decayed, decayed_state = step(G, init(G), weight_decay=weight_decay, W=W)
    assert np.array_equal(decayed, plain + weight_decay * W)
    assert np.array_equal(decayed_state.m, state.m)
    assert np.array_equal(decayed_state.v, state.v)


def test_a_batch_is_a_loop_of_singles():
    G = np.random.default_rng(5).standard_normal((3, 2, 4))
    together, alone = init((2, 4)), [init((4,)), init((4,))]
    for g in G:
        update, together = step(g, together, weight_decay=0.0)
        pairs = [step(g[i], alone[i], weight_decay=0.0) for i in range(2)]
        alone = [state for _, state in pairs]
    assert np.array_equal(update, np.stack([single for single, _ in pairs]))


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0, 3), (3,), ()])
@pytest.mark.parametrize("epsilon", [0.0, 1e-8])
def test_empty_and_zero(shape, epsilon):
    update, state = step(np.zeros(shape), init(shape), epsilon=epsilon, weight_decay=0.0)
    update, state = step(np.zeros(shape), state, epsilon=epsilon, weight_decay=0.0)
    assert isinstance(update, np.ndarray)
    assert update.shape == shape
    assert not update.any()


def test_a_square_that_vanishes_is_covered_by_epsilon_and_refused_without():
    G = np.array([1e-200])
    update, _ = step(G, init(G), weight_decay=0.0)
    check(distance("G / epsilon", 1e192 * update, np.ones(1), budget=ROUNDINGS * U64))
    with pytest.raises(ValueError, match="G must have a square in range"):
        step(G, init(G), epsilon=0.0, weight_decay=0.0)


def test_nothing_is_modified_or_shared():
    state = AdamWState(frozen(np.ones(3)), frozen(np.ones(3)), 0)
    _, after = step(frozen(np.ones(3)), state, beta1=0.0, beta2=0.0, weight_decay=0.0)
    assert not np.shares_memory(after.m, state.m)
    assert not np.shares_memory(after.v, state.v)


G_ = np.ones((2, 3))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: init([3]), TypeError, "W must be a float64 array"),
        (lambda: init(np.ones(3, dtype=np.float32)), ValueError, "W must be float64"),
        (lambda: step(G_.T, init(G_), W=G_), ValueError, r"G must have shape \(2, 3\)"),
        (lambda: step(G_ * np.nan, init(G_), W=G_), ValueError, "G must be finite"),
        (lambda: step(G_ * 1e200, init(G_), W=G_), ValueError, "G must have a square in range"),
        (lambda: step(G_, init(G_)), ValueError, "W must be given when weight_decay is above 0"),
        (lambda: step(G_, init(G_), W=G_.T), ValueError, r"W must have shape \(2, 3\)"),
        (lambda: step(G_, init(G_), W=G_, beta1=1.0), ValueError, r"beta1 must be in \[0, 1\)"),
        (lambda: step(G_, init(G_), W=G_, beta2=-0.1), ValueError, r"beta2 must be in \[0, 1\)"),
        (lambda: step(G_, init(G_), W=G_, epsilon=-1.0), ValueError, "epsilon must be at least 0"),
        (lambda: step(G_, init(G_), W=G_, weight_decay=-1.0), ValueError, "weight_decay must be at least 0"),
        (lambda: step(G_, AdamWState(G_, -G_, 0), W=G_), ValueError, "state.v must be at least 0"),
        (lambda: step(G_, AdamWState(G_, G_[0], 0), W=G_), ValueError, "state.v must have shape"),
        (lambda: step(G_, AdamWState(G_, G_, -1), W=G_), ValueError, "state.t must be at least 0"),
        (lambda: step(G_, AdamWState(G_, G_, 0.5), W=G_), TypeError, "state.t must be an integer"),
    ],
)
def test_a_bad_argument_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
