"""SGD with momentum: the forms, and how they turn into each other."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs_checks.ratios import recursion
from reference.sgd import SgdState, init, step
from tests.reference.cases import U64, check, frozen
from tests.strategies import seeds

STEPS = 5


def run(G, **options):
    """All updates, and the last state."""
    state, updates = init(G.shape[1:]), []
    for g in G:
        update, state = step(np.asarray(g), state, **options)
        updates.append(update)
    return np.array(updates), state


@given(seeds, st.floats(0.0, 0.99))
def test_the_classical_velocity_is_the_sum_with_powers(seed, momentum):
    G = np.random.default_rng(seed).standard_normal((STEPS, 2, 3))
    updates, _ = run(G, momentum=momentum)
    weights = momentum ** np.arange(STEPS - 1, -1, -1.0)
    terms = np.tensordot(weights, np.abs(G), axes=1)
    check(recursion(updates[-1], np.tensordot(weights, G, axes=1), terms, operations=4 * STEPS, u=U64))


@given(seeds, st.floats(0.0, 0.99), st.booleans())
def test_the_average_is_the_classical_form_with_a_smaller_step(seed, momentum, nesterov):
    G = np.random.default_rng(seed).standard_normal((STEPS, 3))
    classical, _ = run(G, momentum=momentum, nesterov=nesterov)
    average, _ = run(G, momentum=momentum, nesterov=nesterov, form="ema")
    terms, _ = run(np.abs(G), momentum=momentum, nesterov=nesterov, form="ema")
    check(recursion(average, (1 - momentum) * classical, terms, operations=5 * STEPS, u=U64))


@given(seeds, st.floats(0.1, 0.9))
def test_dampening_by_the_momentum_is_the_average_but_for_the_first_gradient(seed, momentum):
    G = np.random.default_rng(seed).standard_normal((STEPS, 3))
    dampened, _ = run(G, momentum=momentum, dampening=momentum)
    average, _ = run(G, momentum=momentum, form="ema")
    first = momentum * momentum ** np.arange(STEPS)[:, None] * G[0]  # weight 1 in place of 1 - momentum
    terms = np.array([run(np.abs(G[:t]), momentum=momentum)[0][-1] for t in range(1, STEPS + 1)])
    check(recursion(dampened, average + first, terms, operations=6 * STEPS, u=U64))


@pytest.mark.parametrize(("form", "nesterov"), list(product(["classical", "ema"], [False, True])))
def test_without_momentum_every_form_is_gradient_descent(form, nesterov):
    G = np.random.default_rng(1).standard_normal((STEPS, 4))
    assert np.array_equal(run(G, momentum=0.0, form=form, nesterov=nesterov)[0], G)


def test_two_steps_by_hand():
    G = np.array([[2.0], [4.0]])
    cases = {
        (): [2.0, 5.0],
        (("nesterov", True),): [3.0, 6.5],
        (("dampening", 0.25),): [2.0, 4.0],
        (("form", "ema"),): [1.0, 2.5],
        (("form", "ema"), ("nesterov", True)): [1.5, 3.25],
    }
    for options, want in cases.items():
        updates, _ = run(G, momentum=0.5, **dict(options))
        assert np.array_equal(updates[:, 0], want), options


@given(seeds, st.floats(0.0, 1.0), st.sampled_from(["classical", "ema"]))
def test_weight_decay_is_coupled(seed, weight_decay, form):
    G, W, v = (frozen(X) for X in np.random.default_rng(seed).standard_normal((3, 3, 4)))
    decayed, new = step(G, SgdState(v, 2), form=form, weight_decay=weight_decay, W=W)
    plain, plain_new = step(G + weight_decay * W, SgdState(v, 2), form=form)
    assert np.array_equal(decayed, plain)
    assert np.array_equal(new.v, plain_new.v)


def test_a_batch_is_a_loop_of_singles():
    G = np.random.default_rng(5).standard_normal((STEPS, 2, 4))
    together, _ = run(G, nesterov=True)
    alone = [run(G[:, i], nesterov=True)[0] for i in range(2)]
    assert np.array_equal(together, np.stack(alone, axis=1))


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0, 3), (3,), ()])
@pytest.mark.parametrize(("form", "nesterov"), list(product(["classical", "ema"], [False, True])))
def test_empty_and_zero(shape, form, nesterov):
    updates, state = run(np.zeros((2, *shape)), form=form, nesterov=nesterov)
    assert isinstance(state.v, np.ndarray)
    assert updates.shape == (2, *shape)
    assert not updates.any()


@pytest.mark.parametrize("form", ["classical", "ema"])
def test_nothing_is_modified_or_shared(form):
    state, G = SgdState(frozen(np.ones(3)), 0), frozen(np.ones(3))
    update, after = step(G, state, momentum=0.0, form=form)
    for one, other in ((after.v, state.v), (after.v, update), (after.v, G), (update, G)):
        assert not np.shares_memory(one, other)


G_ = np.ones((2, 3))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: init("3"), TypeError, "W must be a float64 array"),
        (lambda: step(G_.T, init(G_)), ValueError, r"G must have shape \(2, 3\)"),
        (lambda: step(G_ * np.inf, init(G_)), ValueError, "G must be finite"),
        (lambda: step(G_, init(G_), momentum=1.0), ValueError, r"momentum must be in \[0, 1\)"),
        (lambda: step(G_, init(G_), dampening=1.5), ValueError, r"dampening must be in \[0, 1\]"),
        (lambda: step(G_, init(G_), dampening=0.1, nesterov=True), ValueError, "dampening must be 0"),
        (lambda: step(G_, init(G_), dampening=0.1, form="ema"), ValueError, "dampening must be 0"),
        (lambda: step(G_, init(G_), form="sum"), ValueError, "form must be one of 'classical', 'ema'"),
        (lambda: step(G_, init(G_), weight_decay=-1.0), ValueError, "weight_decay must be at least 0"),
        (lambda: step(G_, init(G_), weight_decay=1.0), ValueError, "W must be given when weight_decay"),
        (lambda: step(G_, init(G_), weight_decay=1.0, W=G_.T), ValueError, "W must have shape"),
        (lambda: step(G_, SgdState(G_, -1)), ValueError, "state.t must be at least 0"),
        (lambda: step(G_, SgdState([1.0], 0)), TypeError, "state.v must be a float64 array"),
    ],
)
def test_a_bad_argument_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
