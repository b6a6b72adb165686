"""AdaFisher: averages, denominator, steps. The factors of the layers are in `test_adafisher_factors`."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs_checks.ratios import inequality, recursion
from reference.adafisher import (
    AdaFisherState,
    denominator,
    init,
    linear_factors,
    minmax_normalize,
    released_average,
    step,
)
from tests.reference.cases import U64, check, distance, frozen, printed
from tests.strategies import seeds

LAM = 1e-3

#: The golden layer: two samples, augmented inputs (1, 2, 1) and (3, 0, 1).
H, S = np.array([[1.0, 2.0], [3.0, 0.0]]), np.array([[0.5, -1.0], [1.5, 1.0]])


def factors(seed, *lead, m=3, n=4, steps=None):
    """Random positive diagonals of very different sizes."""
    rng = np.random.default_rng(seed)
    first = () if steps is None else (steps,)
    h, s = (10.0 ** rng.uniform(-6, 2, (*first, *lead, k)) for k in (n, m))
    return frozen(h), frozen(s)


@pytest.mark.claim("ADAF-golden")
def test_golden_example():
    h_D, s_D = linear_factors(H, S)
    assert np.array_equal(h_D, [5.0, 2.0, 1.0])
    assert np.array_equal(s_D, [1.25, 1.0])
    h, s = minmax_normalize(h_D), minmax_normalize(s_D)
    assert np.array_equal(h, [1.0, 0.25, 0.0])
    assert np.array_equal(s, [1.0, 0.0])
    F = np.array([[1 + LAM, 0.25 + LAM, LAM], [LAM, LAM, LAM]])
    assert np.array_equal(denominator(h, s, lam=LAM), F)
    G = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    update, _ = step(G, init((2, 3)), h_D=h_D, s_D=s_D, beta=0.0, lam=LAM)
    assert np.array_equal(update, G / F)


# ---- released averaging


@pytest.mark.claim("ADAF-legacy")
def test_released_bands_and_fixed_point():
    """The two ends of every band are reached by fresh entries 0 and 1 (specification, section 4.1)."""
    bands = [("0.0074", "0.008744"), ("0.0010409600", "0.0012262016"), ("0.0010003", "0.0010847")]
    ends = np.ones(2)
    exact = [Fraction(1), Fraction(1)]
    for low, high in bands:
        ends = 0.08 * ends + 0.008 * np.array([0.0, 1.0])
        exact = [Fraction(8, 100) * x + Fraction(8, 1000) * b for b, x in enumerate(exact)]
        want = [float(x * x + Fraction(1, 1000)) for x in exact]
        F = denominator(ends[:, None], ends[:, None], lam=LAM)[:, 0, 0]
        check(
            recursion(F, np.array(want), np.array(want), operations=16, u=U64),
            printed("band", F, (low, high), rounding=16 * U64),
        )
    fixed = Fraction(8, 1000) / (1 - Fraction(8, 100))
    assert fixed == Fraction(1, 115)
    factor = np.ones(2)
    for _ in range(30):  # 0.08^30 is far below roundoff
        factor = released_average(factor, np.array([0.0, 1.0]))
    top = float(fixed / (1 + Fraction(1, 10**6)))
    check(distance("fixed point", factor[1], np.float64(top), budget=8 * U64 * top))


@pytest.mark.claim("ADAF-legacy")
def test_released_steps_follow_the_bands():
    rng = np.random.default_rng(3)
    state, G = init((3, 4)), np.ones((3, 4))
    bands = [("0.0074", "0.008744"), ("0.0010409600", "0.0012262016")]
    for low, high in bands:
        h_D, s_D = rng.uniform(0.0, 1e3, 4), rng.uniform(0.0, 1e3, 3)
        for refresh in (True, False):  # a step without a measurement keeps the factors
            update, state = step(
                G, state, h_D=h_D, s_D=s_D, beta=0.0, lam=LAM, averaging="released", refresh=refresh
            )
            F = 1 / update
            check(
                inequality(float(low), F, rounding=16 * U64 * F),
                inequality(F, float(high), rounding=16 * U64 * F),
            )
    assert state.refreshes == len(bands)
    assert state.t == 2 * len(bands)


def test_released_refresh_by_hand_with_infinities():
    old = np.ones(4)
    new = np.array([np.inf, -np.inf, 0.5, 0.25])
    want = 0.08 + 0.008 * np.array([1.0, 0.0, 0.5, 0.25]) / (1 + 1e-6)
    check(recursion(released_average(old, frozen(new)), want, want, operations=8, u=U64))
    state = init((4, 4))
    _, state = step(np.ones((4, 4)), state, h_D=new, s_D=np.ones(4), averaging="released")
    check(recursion(state.h_D, want, want, operations=8, u=U64))
    constant = np.full(4, 0.08)
    check(recursion(state.s_D, constant, constant, operations=8, u=U64))


# ---- the step


def test_before_any_refresh_the_released_denominator_is_one_plus_lam():
    update, state = step(np.ones((2, 2)), init((2, 2)), averaging="released", refresh=False, beta=0.0)
    assert np.array_equal(update, np.ones((2, 2)) / (1 + LAM))
    assert (state.t, state.refreshes) == (1, 0)
    update, _ = step(np.ones((2, 2)), init((2, 2)), initial="ones", refresh=False, beta=0.0)
    assert np.array_equal(update, np.ones((2, 2)) / LAM)


@pytest.mark.claim("ADAF-average")
@pytest.mark.parametrize("normalise", ["after", "before"])
@pytest.mark.parametrize("gamma_on", ["old", "new"])
@pytest.mark.parametrize("initial", ["first", "ones"])
@given(seeds, st.integers(1, 4))
def test_a_run_is_the_written_out_formula(normalise, gamma_on, initial, seed, steps):
    """Averages written out as one weighted sum, and the momentum likewise."""
    h, s = factors(seed, steps=steps)
    g = np.random.default_rng(seed).standard_normal((steps, 3, 4))
    gamma, beta, state = 0.8, 0.9, init((3, 4))
    for k in range(steps):
        update, state = step(
            frozen(g[k]),
            state,
            h_D=h[k],
            s_D=s[k],
            gamma=gamma,
            beta=beta,
            normalise=normalise,
            gamma_on=gamma_on,
            initial=initial,
        )
    kept = gamma if gamma_on == "old" else 1 - gamma
    weights = (1 - kept) * kept ** np.arange(steps - 1, -1, -1.0)
    ones = 0.0
    if initial == "first":
        weights[0] = kept ** (steps - 1)
    else:
        ones = kept**steps
    sides, spread = [], 0.0
    for d in (h, s):
        fresh = minmax_normalize(d) if normalise == "before" else d
        mean = weights @ fresh + ones
        sides.append(mean if normalise == "before" else minmax_normalize(mean))
        cut = d if normalise == "before" else mean
        spread += float((cut.max(axis=-1) / np.ptp(cut, axis=-1)).max())
    F = denominator(*sides)
    momentum = (1 - beta) * beta ** np.arange(steps - 1, -1, -1.0) / (1 - beta**steps)
    want = np.einsum("k,kij->ij", momentum, g) / F
    terms = np.einsum("k,kij->ij", momentum, np.abs(g)) / F
    # Some roundings per step in a factor, relative to its largest entry: max / range of them after min-max,
    # and that over lam in the denominator.
    budget = 32 * steps * U64 * (1 + 2 * spread / LAM)
    check(inequality(np.abs(update - want), 0.0, rounding=budget * terms))
    assert (state.t, state.refreshes) == (steps, steps)


@pytest.mark.claim("ADAF-loss-scale")
@given(seeds, st.integers(-30, 30))
def test_the_loss_scale_leaves_the_denominator_and_scales_the_step(seed, k):
    h, s = factors(seed, steps=3)
    g = np.random.default_rng(seed).standard_normal((3, 3, 4))
    c, plain, scaled = 2.0**k, init((3, 4)), init((3, 4))
    for i in range(3):
        update, plain = step(g[i], plain, h_D=h[i], s_D=s[i])
        other, scaled = step(c * g[i], scaled, h_D=h[i], s_D=c * c * s[i])
        assert np.array_equal(other, c * update)


def test_weight_decay_is_decoupled():
    h, s = factors(1)
    rng = np.random.default_rng(1)
    G, W = frozen(rng.standard_normal((3, 4))), frozen(rng.standard_normal((3, 4)))
    plain, _ = step(G, init(W), h_D=h, s_D=s)
    decayed, state = step(G, init(W), h_D=h, s_D=s, weight_decay=0.1, W=W)
    check(recursion(decayed, plain + 0.1 * W, np.abs(plain) + 0.1 * np.abs(W), operations=3, u=U64))
    assert np.array_equal(state.M, step(G, init(W), h_D=h, s_D=s)[1].M)
    assert np.array_equal(step(G, init(W), h_D=h, s_D=s, W=W)[0], plain)


@pytest.mark.parametrize("beta", [0.0, 0.9, 1 - 1e-8])
def test_the_first_step_is_the_gradient_over_the_denominator(beta):
    h, s = factors(2)
    G = np.random.default_rng(2).standard_normal((3, 4))
    want = G / denominator(minmax_normalize(h), minmax_normalize(s))
    update, _ = step(G, init((3, 4)), h_D=h, s_D=s, beta=beta)
    check(recursion(update, want, np.abs(want), operations=4, u=U64))


def test_a_batch_is_a_loop_of_singles():
    h, s = factors(4, 2, steps=3)
    g = np.random.default_rng(4).standard_normal((3, 2, 3, 4))
    together, singles = init((2, 3, 4)), [init((3, 4)), init((3, 4))]
    for k in range(3):
        update, together = step(g[k], together, h_D=h[k], s_D=s[k])
        pairs = [step(g[k, i], singles[i], h_D=h[k, i], s_D=s[k, i]) for i in range(2)]
        singles = [after for _, after in pairs]
        assert np.array_equal(update, np.array([u for u, _ in pairs]))


def test_groups_can_share_one_normalisation():
    h, s = factors(5, 2, m=1)
    G = np.ones((2, 1, 4))
    alone, _ = step(G, init((2, 1, 4)), h_D=h, s_D=s, beta=0.0)
    assert np.array_equal(alone, np.full(G.shape, 1 / LAM)), "gradient factors of width 1 are constant"
    shared, _ = step(G, init((2, 1, 4)), h_D=h, s_D=s, beta=0.0, factor_axes=2)
    want = denominator(minmax_normalize(h, axes=2), minmax_normalize(s, axes=2))
    assert np.array_equal(shared, 1 / want)
    _, state = step(G, init((2, 1, 4)), h_D=h, s_D=s, averaging="released", factor_axes=2)
    assert np.array_equal(state.h_D, released_average(np.ones((2, 4)), h, axes=2))
    assert np.array_equal(state.s_D, released_average(np.ones((2, 1)), s, axes=2))


@pytest.mark.claim("ADAF-minmax-epsilon")
@pytest.mark.parametrize("relative", [True, False])
def test_the_epsilon_of_a_step_is_the_one_of_the_normalisation(relative):
    h, s = factors(8)
    update, _ = step(np.ones((3, 4)), init((3, 4)), h_D=h, s_D=s, beta=0.0, epsilon=0.5, relative=relative)
    sides = (minmax_normalize(d, epsilon=0.5, relative=relative) for d in (h, s))
    assert np.array_equal(update, 1 / denominator(*sides))


def test_channels_of_a_normalisation_layer():
    h, s = factors(6, m=4)
    G = np.ones(4)
    update, state = step(G, init((4,), pairing="channel"), h_D=h, s_D=s, beta=0.0, pairing="channel")
    assert np.array_equal(update, 1 / (minmax_normalize(h) * minmax_normalize(s) + LAM))
    shifted, _ = step(G, init(G, pairing="channel"), h_D=np.ones(4), s_D=s, beta=0.0, pairing="channel")
    assert np.array_equal(shifted, np.full(4, 1 / LAM)), "the shift factor is constant"
    assert state.h_D.shape == state.s_D.shape == (4,)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (0, 3), (3, 0), (2, 0, 3)])
def test_narrow_and_empty_matrices(shape):
    G = np.ones(shape)
    h, s = np.arange(float(np.prod(shape[:-2]) * shape[-1])), np.arange(float(np.prod(shape[:-1])))
    update, _ = step(
        G,
        init(shape),
        h_D=h.reshape(*shape[:-2], shape[-1]),
        s_D=s.reshape(shape[:-1]),
        beta=0.0,
    )
    assert np.array_equal(update, np.full(shape, 1 / LAM)), "a factor of width 1 is constant"


def test_nothing_is_modified_or_shared():
    h, s = factors(7)
    G = frozen(np.ones((3, 4)))
    state = AdaFisherState(frozen(np.ones((3, 4))), frozen(np.ones(4)), frozen(np.ones(3)), 2, 1)
    for refresh in (True, False):
        for averaging in ("paper", "released"):
            _, after = step(G, state, h_D=h, s_D=s, refresh=refresh, averaging=averaging)
            for old in (*state[:3], h, s, G):
                assert not any(np.shares_memory(old, new) for new in after[:3])
    _, first = step(G, init(G), h_D=h, s_D=s)
    assert not np.shares_memory(first.h_D, h)


# ---- errors

d_, G_ = np.array([1.0, 2.0, 3.0, 4.0]), np.ones((3, 4))
s_ = np.array([1.0, 2.0, 3.0])


def go(G=G_, state=None, **given):
    return step(G, init((3, 4)) if state is None else state, **{"h_D": d_, "s_D": s_, **given})


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: init((3,)), ValueError, "W must have at least 2 axes"),
        (lambda: init((3, 4), pairing="x"), ValueError, "pairing must be one of"),
        (lambda: init(np.ones((2, 2), dtype=int)), ValueError, "W must be float64"),
        (lambda: go(np.ones((4, 3))), ValueError, r"G must have shape \(3, 4\), got \(4, 3\)"),
        (lambda: go(G_ * np.inf), ValueError, "G must be finite"),
        (lambda: go(G_ * 1e308), ValueError, "G must be small enough against lam"),
        (lambda: go(h_D=s_), ValueError, r"h_D must have shape \(4,\), got \(3,\)"),
        (lambda: go(s_D=d_), ValueError, r"s_D must have shape \(3,\), got \(4,\)"),
        (lambda: go(h_D=None), ValueError, "h_D must be given when refresh is set"),
        (lambda: go(s_D=None), ValueError, "s_D must be given when refresh is set"),
        (lambda: go(h_D=d_ * np.inf), ValueError, "h_D must be finite"),
        (lambda: go(h_D=d_ * np.nan, averaging="released"), ValueError, "h_D must be finite"),
        (lambda: go(refresh=False), ValueError, "refresh must be set as long as nothing was measured"),
        (lambda: go(beta=1.0), ValueError, r"beta must be in \[0, 1\)"),
        (lambda: go(gamma=-1.0), ValueError, r"gamma must be in \[0, 1\]"),
        (
            lambda: go(state=AdaFisherState(G_, d_, s_, 1, 1), refresh=False, gamma=2.0),
            ValueError,
            "gamma must be in",
        ),
        (lambda: go(averaging="released", gamma_on="x"), ValueError, "gamma_on must be one of"),
        (lambda: go(lam=0.0), ValueError, "lam must be above 0"),
        (lambda: go(lam=np.nan), ValueError, "lam must be finite"),
        (lambda: go(weight_decay=0.1), ValueError, "W must be given when weight_decay is above 0"),
        (lambda: go(weight_decay=-0.1), ValueError, "weight_decay must be at least 0"),
        (lambda: go(W=np.ones(3)), ValueError, r"W must have shape \(3, 4\)"),
        (lambda: go(normalise="never"), ValueError, "normalise must be one of 'after', 'before'"),
        (lambda: go(gamma_on="x"), ValueError, "gamma_on must be one of"),
        (lambda: go(averaging="legacy"), ValueError, "averaging must be one of 'paper', 'released'"),
        (lambda: go(initial="zeros"), ValueError, "initial must be one of 'first', 'ones'"),
        (lambda: go(pairing="inner"), ValueError, "pairing must be one of"),
        (lambda: go(epsilon=-1.0), ValueError, "epsilon must be at least 0"),
        (lambda: go(factor_axes=0), ValueError, "axes must be at least 1"),
        (lambda: go(state=init((3, 4))._replace(t=-1)), ValueError, "state.t must be at least 0"),
        (lambda: go(state=init((3, 4))._replace(refreshes=-1)), ValueError, "state.refreshes must be"),
        (lambda: go(state=init((3, 4))._replace(h_D=d_ * np.nan)), ValueError, "state.h_D must be finite"),
    ],
)
def test_a_bad_argument_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
