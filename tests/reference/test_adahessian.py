"""AdaHessian: the diagonal, its estimator, and the step."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs_checks.ratios import recursion
from reference import adamw
from reference.adahessian import (
    AdaHessianState,
    exact_diagonal,
    hutchinson_diagonal,
    init,
    spatial_average,
    step,
)
from tests.reference.cases import U64, check, distance, frozen
from tests.strategies import seeds

#: Roundings of an entry of the update: two averages of 3, corrections of 2, a power, sum, quotient.
ROUNDINGS = 20


def every_probe(d):
    """All 2^d vectors of signs: the mean over them is the expectation."""
    return np.array(list(product([-1.0, 1.0], repeat=d)))


@given(seeds, st.integers(1, 6))
def test_the_mean_over_all_probes_is_the_diagonal(seed, d):
    H = np.random.default_rng(seed).standard_normal((d, d))
    z = frozen(every_probe(d))
    D = hutchinson_diagonal(lambda x: x @ H.T, z)
    terms = np.abs(H).sum(axis=1)
    check(recursion(D, exact_diagonal(H), terms, operations=len(z) + d + 2, u=U64))


@given(seeds, st.integers(1, 5))
def test_the_variance_of_one_probe_is_the_off_diagonal_square_sum(seed, d):
    A = np.random.default_rng(seed).standard_normal((d, d))
    H = A + A.T
    estimates = np.array([hutchinson_diagonal(lambda x: x @ H, z) for z in every_probe(d)])
    variance = np.square(estimates - np.diag(H)).mean(axis=0)
    off = np.square(H).sum(axis=1) - np.diag(H) ** 2
    terms = np.square(np.abs(H).sum(axis=1))
    check(recursion(variance, off, terms, operations=4 * (2**d + d), u=U64))


@given(seeds, st.integers(1, 5))
def test_one_probe_is_exact_for_a_diagonal_hessian(seed, d):
    rng = np.random.default_rng(seed)
    D, z = rng.standard_normal(d), rng.choice([-1.0, 1.0], d)
    assert np.array_equal(hutchinson_diagonal(lambda x: D * x, z), D)


def test_probes_of_a_batch_are_averaged_one_by_one():
    rng = np.random.default_rng(3)
    H, z = rng.standard_normal((2, 3, 3)), rng.choice([-1.0, 1.0], (2, 4, 3))
    together = hutchinson_diagonal(lambda x: x @ H.mT, z)
    alone = [hutchinson_diagonal(lambda x, i=i: x @ H[i].T, z[i]) for i in range(2)]
    check(recursion(together, np.stack(alone), np.abs(H).sum(axis=-1), operations=16, u=U64))
    assert exact_diagonal(H).shape == together.shape


def test_averages_over_the_window():
    D = np.array([[1.0, -3.0], [2.0, 4.0]])
    assert np.array_equal(spatial_average(D, averaging="none"), D)
    assert np.array_equal(spatial_average(D, averaging="paper"), np.full((2, 2), 1.0))
    assert np.array_equal(spatial_average(D, averaging="released"), np.full((2, 2), 2.5))
    assert np.array_equal(spatial_average(D, averaging="paper", axes=1), [[-1.0, -1.0], [3.0, 3.0]])
    kernels = np.stack([D, -D, 2 * D])[:, None]
    assert np.array_equal(spatial_average(kernels, averaging="paper")[:, 0, 0, 0], [1.0, -1.0, 2.0])


@given(seeds, st.sampled_from(["none", "paper", "released"]), st.integers(1, 2))
def test_the_step_uses_the_averaged_diagonal(seed, averaging, axes):
    G, D = (frozen(X) for X in np.random.default_rng(seed).standard_normal((2, 3, 2, 4)))
    update, state = step(G, D, init(G), averaging=averaging, averaging_axes=axes)
    want, expected = step(G, spatial_average(D, averaging=averaging, axes=axes), init(G))
    assert np.array_equal(update, want)
    assert np.array_equal(state.v, expected.v)


@given(
    seeds,
    st.floats(0.0, 0.99),
    st.floats(0.0, 0.999),
    st.floats(0.0, 1.0),
    st.sampled_from([(), (5,), (2, 3)]),
)
def test_the_update_is_the_formula(seed, beta1, beta2, power, shape):
    rng = np.random.default_rng(seed)
    m, v, G, D = (frozen(np.asarray(rng.standard_normal(shape))) for _ in range(4))
    v = frozen(np.asarray(v**2))
    update, new = step(G, D, AdaHessianState(m, v, 2), beta1=beta1, beta2=beta2, epsilon=0.1, power=power)
    want_m, want_v = beta1 * m + (1 - beta1) * G, beta2 * v + (1 - beta2) * D**2
    below = (want_v / (1 - beta2**3)) ** (power / 2) + 0.1
    want = want_m / (1 - beta1**3) / below
    terms = (np.abs(m) + np.abs(G)) / (1 - beta1**3) / below
    check(
        recursion(new.m, want_m, np.abs(m) + np.abs(G), operations=3, u=U64),
        recursion(new.v, want_v, want_v, operations=4, u=U64),
        recursion(update, want, terms, operations=ROUNDINGS, u=U64),
    )
    assert new.t == 3
    assert update.shape == shape


@given(seeds, st.floats(0.0, 0.9))
def test_the_first_step_with_the_exact_diagonal_is_newtons_on_a_convex_quadratic(seed, beta):
    rng = np.random.default_rng(seed)
    D, w = rng.uniform(0.5, 2.0, 4), rng.standard_normal(4)
    update, _ = step(D * w, D, init(w), beta1=beta, beta2=beta, epsilon=0.0)
    check(recursion(update, w, np.abs(w), operations=ROUNDINGS, u=U64))


@given(seeds)
def test_with_the_gradient_for_the_diagonal_it_is_adam(seed):
    G = np.random.default_rng(seed).standard_normal((4, 3))
    state, adam = init((3,)), adamw.init((3,))
    for g in G:
        update, state = step(g, g, state, epsilon=1e-3)
        want, adam = adamw.step(g, adam, epsilon=1e-3, weight_decay=0.0)
    terms = np.abs(G).max(axis=0) / (np.sqrt(adam.v / (1 - 0.999**4)) + 1e-3)
    check(recursion(update, want, terms, operations=ROUNDINGS * len(G), u=U64))


def test_power_zero_is_momentum_and_the_sign_of_the_diagonal_does_not_matter():
    G, D = np.random.default_rng(8).standard_normal((2, 5))
    flat, _ = step(G, D, init(G), power=0.0, epsilon=0.0)
    check(distance("power 0", flat, G, budget=ROUNDINGS * U64 * 5))
    assert np.array_equal(step(G, D, init(G))[0], step(G, -D, init(G))[0])


def test_two_steps_by_hand():
    state = init((1,))
    for g, h in ((4.0, 2.0), (1.0, -4.0)):
        update, state = step(np.array([g]), np.array([h]), state, beta1=0.5, beta2=0.75, epsilon=1.0)
    # m = (4/2)/2 + 1/2 = 3/2 over 3/4; v = 4/4 * 3/4 + 16/4 = 19/4 over 7/16
    want = 2 / ((76 / 7) ** 0.5 + 1)
    check(distance("update", update, np.array([want]), budget=ROUNDINGS * U64))


@given(seeds, st.floats(0.0, 1.0))
def test_weight_decay_is_decoupled(seed, weight_decay):
    G, D, W = (frozen(X) for X in np.random.default_rng(seed).standard_normal((3, 3, 4)))
    plain, state = step(G, D, init(G))
    decayed, decayed_state = step(G, D, init(G), weight_decay=weight_decay, W=W)
    assert np.array_equal(decayed, plain + weight_decay * W)
    assert np.array_equal(decayed_state.m, state.m)


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0, 3), (3, 2)])
@pytest.mark.parametrize("averaging", ["none", "paper", "released"])
def test_empty_and_zero(shape, averaging):
    zero = np.zeros(shape)
    update, state = step(zero, zero, init(shape), averaging=averaging, averaging_axes=1, epsilon=0.0)
    assert update.shape == state.v.shape == shape
    assert not update.any()


def test_nothing_is_modified_or_shared():
    one = frozen(np.ones((2, 2)))
    _, after = step(one, one, AdaHessianState(one, one, 0), beta1=0.0, beta2=0.0)
    assert not np.shares_memory(after.m, one)
    assert not np.shares_memory(after.v, one)
    for averaging in ("none", "paper"):
        assert not np.shares_memory(spatial_average(one, averaging=averaging), one)
    assert not np.shares_memory(exact_diagonal(one), one)


G_ = np.ones((2, 3))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: exact_diagonal(G_), ValueError, "H must be square"),
        (lambda: hutchinson_diagonal(lambda x: x, 0.5 * G_), ValueError, r"z must have entries \+1 and -1"),
        (lambda: hutchinson_diagonal(lambda x: x, G_[:0]), ValueError, "z must have at least one probe"),
        (lambda: hutchinson_diagonal(lambda x: x[0], G_), ValueError, r"hvp\(z\) must have shape"),
        (lambda: hutchinson_diagonal(lambda x: x * np.nan, G_), ValueError, r"hvp\(z\) must be finite"),
        (lambda: spatial_average(G_, averaging="mean"), ValueError, "averaging must be one of"),
        (lambda: spatial_average(G_[0], averaging="paper"), ValueError, "D must be float64 of shape"),
        (lambda: spatial_average(G_, averaging="paper", axes=0), ValueError, "axes must be at least 1"),
        (lambda: init("W"), TypeError, "W must be a float64 array"),
        (lambda: step(G_.T, G_, init(G_)), ValueError, r"G must have shape \(2, 3\)"),
        (lambda: step(G_, G_.T, init(G_)), ValueError, r"D must have shape \(2, 3\)"),
        (lambda: step(G_, G_ * 1e200, init(G_)), ValueError, "D must have a square in range"),
        (lambda: step(G_, 0 * G_, init(G_), epsilon=0.0), ValueError, "D must have a square in range"),
        (lambda: step(G_, G_, init(G_), beta1=1.0), ValueError, r"beta1 must be in \[0, 1\)"),
        (lambda: step(G_, G_, init(G_), power=1.5), ValueError, r"power must be in \[0, 1\]"),
        (lambda: step(G_, G_, init(G_), epsilon=-1.0), ValueError, "epsilon must be at least 0"),
        (lambda: step(G_, G_, init(G_), weight_decay=0.1), ValueError, "W must be given when weight_decay"),
        (lambda: step(G_, G_, AdaHessianState(G_, -G_, 0)), ValueError, "state.v must be at least 0"),
    ],
)
def test_a_bad_argument_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
