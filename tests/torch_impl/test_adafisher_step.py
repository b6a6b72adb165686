"""`torch_impl.adafisher.step`: trajectories with every option, invariances, states and refusals."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import reference.adafisher
from proofs_checks.ratios import recursion, unit_roundoff
from tests.torch_impl.cases import DTYPES, array, seeds, tensor
from tests.torch_impl.factor_cases import normal, working
from torch_impl import adafisher

dtypes = st.sampled_from(DTYPES)

#: Shapes of a parameter, of its factors, and the options that make them so.
LAYOUTS = {
    "matrix": ((3, 4), (4,), (3,), {}),
    "column": ((3, 1), (1,), (3,), {}),
    "batch": ((2, 3, 4), (2, 4), (2, 3), {}),
    "groups": ((2, 3, 4), (2, 4), (2, 3), {"factor_axes": 2}),
    "depthwise": ((5, 1, 4), (5, 4), (5, 1), {"factor_axes": 2}),
    "channels": ((4,), (4,), (4,), {"pairing": "channel"}),
}

options = st.fixed_dictionaries(
    {},
    optional={
        "beta": st.sampled_from([0.0, 0.5]),
        "gamma": st.sampled_from([0.0, 0.5, 1.0]),
        "lam": st.sampled_from([0.25, 2.0]),
        "weight_decay": st.just(0.5),
        "normalise": st.just("before"),
        "gamma_on": st.just("new"),
        "averaging": st.just("released"),
        "initial": st.just("ones"),
        "epsilon": st.sampled_from([1e-6, 0.5]),
        "relative": st.just(False),
    },
)

#: Roundings of an entry of an average or of the momentum, for each step taken: min-max 5, the weights 2, the
#: products and the sum 3.
EACH_STEP = 10

#: Roundings behind the states: bias correction 2, min-max 4, denominator 3, quotient, decay 2.
AT_THE_END = 12


def layer(name, seed, dtype, device="cpu"):
    """A layer's start, a function that makes its gradients and measurements, and its own options."""
    shape, h_shape, s_shape, own = LAYOUTS[name]
    rng = np.random.default_rng(seed)

    def fresh():
        h_D, s_D = (tensor(rng.uniform(0.0, 1.0, size), dtype, device) for size in (h_shape, s_shape))
        return normal(rng, *shape, dtype=dtype, device=device), h_D, s_D

    pairing = own.get("pairing", "outer")
    W = normal(rng, *shape, dtype=dtype, device=device)
    return adafisher.init(W, pairing=pairing), fresh, own, W


def magnified(x, axes):
    """Largest error of min-max over the relative error of an average: two differences, two ends each."""
    own = tuple(range(-axes, 0))
    width, largest = np.ptp(x, axis=own), x.max(axis=own)
    return float(np.where(width > 0, 4.0 * largest / np.where(width > 0, width, 1.0), 0.0).max())


def update_terms(momentum, state, chosen):
    """Size of M_hat / F, grown by what the errors of both factors do to it."""
    factors, growth, axes = (state.h_D, state.s_D), 2.0, chosen.get("factor_axes", 1)
    if chosen.get("averaging") != "released" and chosen.get("normalise") != "before":
        growth += sum(magnified(x, axes) for x in factors)
        epsilon = {k: chosen[k] for k in ("epsilon", "relative") if k in chosen}
        factors = [reference.adafisher.minmax_normalize(x, axes=axes, **epsilon) for x in factors]
    lam, pairing = chosen.get("lam", 1e-3), chosen.get("pairing", "outer")
    F = reference.adafisher.denominator(*factors, lam=lam, pairing=pairing)
    return momentum / (1.0 - chosen.get("beta", 0.9) ** state.t) / F * (1.0 + growth / F)


@pytest.mark.parametrize("name", LAYOUTS)
@given(seed=seeds, some=options, dtype=dtypes)
def test_trajectories_agree_with_the_reference(device, name, seed, some, dtype):
    state, fresh, own, W = layer(name, seed, dtype, device)
    chosen, u, terms = some | own, unit_roundoff(working(dtype)), 0.0
    other = reference.adafisher.init(array(W), pairing=own.get("pairing", "outer"))
    for t, refresh in enumerate((True, True, False, True), start=1):
        G, h_D, s_D = fresh()
        before = [x.clone() for x in (G, h_D, s_D, W, *state[:3])]
        got, new = adafisher.step(G, state, h_D=h_D, s_D=s_D, W=W, refresh=refresh, **chosen)
        h, s = array(h_D), array(s_D)
        want, other = reference.adafisher.step(
            array(G), other, h_D=h, s_D=s, W=array(W), refresh=refresh, **chosen
        )
        for x, y in ((new.h_D, other.h_D), (new.s_D, other.s_D)):
            assert recursion(array(x), y, y, operations=EACH_STEP * t, u=u).passed
        beta = chosen.get("beta", 0.9)
        terms = beta * terms + (1.0 - beta) * np.abs(array(G))
        assert recursion(array(new.M), other.M, terms, operations=EACH_STEP * t, u=u).passed
        size = update_terms(terms, other, chosen) + chosen.get("weight_decay", 0.0) * np.abs(array(W))
        assert recursion(array(got), want, size, operations=EACH_STEP * t + AT_THE_END, u=u).passed
        assert (new.t, new.refreshes) == (other.t, other.refreshes)
        assert {x.dtype for x in (got, *new[:3])} == {working(dtype)}
        after = (G, h_D, s_D, W, *state[:3])
        assert all(torch.equal(x, y) for x, y in zip(before, after, strict=True)), "an input was modified"
        state = new


def test_without_any_measurement_ones_are_used_where_the_average_starts_from_them():
    state, fresh, _, _ = layer("matrix", 0, torch.float64)
    G, lam = fresh()[0], 2.0**-10
    for chosen, F in (
        ({"initial": "ones"}, lam),
        ({"initial": "ones", "normalise": "before"}, 1 + lam),
        ({"averaging": "released"}, 1 + lam),
    ):
        update, new = adafisher.step(G, state, refresh=False, lam=lam, beta=0.0, **chosen)
        assert torch.equal(update, G / F)
        assert (new.t, new.refreshes) == (1, 0)


def test_the_average_starts_from_the_first_measurement_however_late_it_comes():
    state, fresh, _, _ = layer("matrix", 0, torch.float64)
    G, h_D, s_D = fresh()
    _, state = adafisher.step(G, state, refresh=False, initial="ones")
    _, state = adafisher.step(G, state, h_D=h_D, s_D=s_D)
    assert (state.t, state.refreshes) == (2, 1)
    assert torch.equal(state.h_D, h_D)
    assert torch.equal(state.s_D, s_D)


def test_without_a_refresh_measurements_are_not_looked_at():
    state, fresh, _, _ = layer("matrix", 0, torch.float64)
    G, h_D, s_D = fresh()
    _, state = adafisher.step(G, state, h_D=h_D, s_D=s_D)
    plain = adafisher.step(G, state, refresh=False)
    given_bad = adafisher.step(G, state, refresh=False, h_D=torch.full((9,), math.nan), s_D=s_D)
    assert torch.equal(plain[0], given_bad[0])
    assert torch.equal(given_bad[1].h_D, state.h_D)


# ---- what the method is invariant to ----------------------------------------------------------------------


@pytest.mark.claim("ADAF-loss-scale")
@given(seed=seeds, k=st.integers(-20, 20))
def test_scaling_the_loss_or_a_layers_inputs_scales_the_step_by_what_it_scales_the_gradient(seed, k):
    c = 2.0**k  # a power of two scales out exactly
    left, fresh, _, _ = layer("matrix", seed, torch.float64)
    right = left
    for _ in range(3):
        G, h_D, s_D = fresh()
        update, left = adafisher.step(G, left, h_D=h_D, s_D=s_D)
        scaled, right = adafisher.step(c * G, right, h_D=h_D, s_D=c**2 * s_D)
        assert torch.equal(scaled, c * update)
        same, _ = adafisher.step(G, left, h_D=c**2 * h_D, s_D=s_D, gamma=0.0)
        assert torch.equal(same, adafisher.step(G, left, h_D=h_D, s_D=s_D, gamma=0.0)[0])


@pytest.mark.claim("ADAF-zero-one")
@pytest.mark.parametrize("constant", ["h_D", "s_D"])
def test_a_constant_factor_leaves_the_damping_on_the_whole_layer(constant):
    state, fresh, _, _ = layer("matrix", 0, torch.float64)
    G, h_D, s_D = fresh()
    factors = {"h_D": h_D, "s_D": s_D}
    factors[constant] = torch.full_like(factors[constant], 0.3)
    update, _ = adafisher.step(G, state, **factors, lam=0.25, beta=0.0)
    assert torch.equal(update, 4.0 * G)


def test_a_batch_is_its_members():
    state, fresh, _, W = layer("batch", 0, torch.float64)
    G, h_D, s_D = fresh()
    update, new = adafisher.step(G, state, h_D=h_D, s_D=s_D, W=W, weight_decay=0.5)
    for i in range(2):
        one = adafisher.init(W[i])
        alone, member = adafisher.step(G[i], one, h_D=h_D[i], s_D=s_D[i], W=W[i], weight_decay=0.5)
        assert torch.equal(update[i], alone)
        assert torch.equal(new.M[i], member.M)


def test_one_normalisation_may_run_over_all_groups():
    """With one for each group, gradient factors of width 1 are constant and only the damping is left."""
    state, fresh, _, _ = layer("depthwise", 0, torch.float64)
    G, h_D, s_D = fresh()
    apart, _ = adafisher.step(G, state, h_D=h_D, s_D=s_D, lam=0.25, beta=0.0)
    assert torch.equal(apart, 4.0 * G)
    together, _ = adafisher.step(G, state, h_D=h_D, s_D=s_D, lam=0.25, beta=0.0, factor_axes=2)
    flat = [adafisher.minmax_normalize(x.flatten()).view_as(x) for x in (h_D, s_D)]
    assert torch.equal(together, G / adafisher.denominator(*flat, lam=0.25))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_stepped_in_float32(dtype):
    state, fresh, _, W = layer("matrix", 0, dtype)
    G, h_D, s_D = fresh()
    update, new = adafisher.step(G, state, h_D=h_D, s_D=s_D, W=W, weight_decay=0.5)
    assert {x.dtype for x in (update, *state[:3], *new[:3])} == {torch.float32}
    G, h_D, s_D, W = (x.float() for x in (G, h_D, s_D, W))
    same, state = adafisher.step(G, adafisher.init(W), h_D=h_D, s_D=s_D, W=W, weight_decay=0.5)
    assert torch.equal(update, same)
    assert torch.equal(new.h_D, state.h_D)


# ---- states -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_start_is_that_of_the_reference(device, name, dtype):
    state, _, own, W = layer(name, 0, dtype, device)
    want = reference.adafisher.init(array(W), pairing=own.get("pairing", "outer"))
    for got, expected in zip(state[:3], want[:3], strict=True):
        assert np.array_equal(array(got), expected)
        assert (got.dtype, got.device) == (working(dtype), W.device)
    assert tuple(state[3:]) == tuple(want[3:])


def test_a_shape_stands_for_a_parameter_of_the_default_format():
    state, same = adafisher.init((2, 3)), adafisher.init(torch.ones(2, 3))
    assert all(torch.equal(x, y) for x, y in zip(state[:3], same[:3], strict=True))
    assert state.M.dtype == torch.get_default_dtype()
    assert adafisher.init((3,), pairing="channel").s_D.shape == (3,)


@pytest.mark.parametrize("averaging", ["paper", "released"])
@pytest.mark.parametrize("normalise", ["after", "before"])
def test_a_new_state_shares_nothing_with_the_old_one_or_the_measurements(averaging, normalise):
    state, fresh, _, _ = layer("matrix", 0, torch.float64)
    for refresh in (True, True, False):
        G, h_D, s_D = fresh()
        chosen = {"averaging": averaging, "normalise": normalise, "refresh": refresh, "beta": 0.0}
        update, new = adafisher.step(G, state, h_D=h_D, s_D=s_D, **chosen)
        kept = {x.data_ptr() for x in (G, h_D, s_D, *state[:3])}
        made = [x.data_ptr() for x in (update, *new[:3])]
        assert not kept & set(made)
        assert len(set(made)) == 4
        state = new


def test_zero_and_empty_gradients_give_no_step():
    for shape in ((2, 3), (0, 3), (2, 0), (0, 0)):
        G = torch.zeros(shape)
        h_D, s_D = torch.rand(shape[1]), torch.rand(shape[0])
        update, state = adafisher.step(G, adafisher.init(G), h_D=h_D, s_D=s_D)
        assert torch.equal(update, G)
        assert torch.equal(state.M, G)


def test_numbers_that_are_not_finite_show_in_the_update():
    state, fresh, _, _ = layer("matrix", 0, torch.float64)
    G, h_D, s_D = fresh()
    for bad in (math.nan, math.inf):
        spoiled = h_D.clone()
        spoiled[0] = bad
        assert adafisher.step(G, state, h_D=spoiled, s_D=s_D)[0].isnan().all()
        one = G.clone()
        one[0, 0] = bad
        assert adafisher.step(one, state, h_D=h_D, s_D=s_D)[0].isfinite().sum() == G.numel() - 1


G, S = torch.ones(2, 3), adafisher.init((2, 3))
H, D = torch.rand(3), torch.rand(2)


def call(*, G=G, state=S, h_D=H, s_D=D, **chosen):
    return lambda: adafisher.step(G, state, h_D=h_D, s_D=s_D, **chosen)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (call(G=G.T), ValueError, r"G must have shape \(2, 3\) as the state, got \(3, 2\)"),
        (call(G=G.long()), ValueError, "G must be float64"),
        (call(G=[1.0]), TypeError, "G must be a torch.Tensor"),
        (call(h_D=None), ValueError, "h_D must be given when refresh is set, got None"),
        (call(s_D=None), ValueError, "s_D must be given when refresh is set, got None"),
        (call(h_D=D), ValueError, r"h_D must have shape \(3,\)"),
        (call(s_D=H), ValueError, r"s_D must have shape \(2,\)"),
        (call(h_D=H.to_sparse()), ValueError, "h_D must be dense"),
        (call(refresh=False), ValueError, "refresh must be set as long as nothing was measured"),
        (call(beta=1.0), ValueError, "beta must be .*< 1"),
        (call(gamma=2.0), ValueError, "gamma must be .*<= 1"),
        (call(lam=0.0), ValueError, r"lam must be .*> 0, got 0\.0"),
        (call(lam="small"), TypeError, "lam must be a real number"),
        (call(weight_decay=-0.1), ValueError, "weight_decay must be .*>= 0"),
        (call(weight_decay=0.1), ValueError, "W must be given when weight_decay is above 0"),
        (call(weight_decay=0.1, W=H), ValueError, r"W must have shape \(2, 3\)"),
        (call(W=H), ValueError, r"W must have shape \(2, 3\)"),
        (call(epsilon=-1.0), ValueError, "epsilon must be .*>= 0"),
        (call(normalise="never"), ValueError, "normalise must be one of 'after', 'before'"),
        (call(gamma_on="both"), ValueError, "gamma_on must be one of"),
        (call(averaging="legacy"), ValueError, "averaging must be one of 'paper', 'released'"),
        (call(initial="zeros"), ValueError, "initial must be one of 'first', 'ones'"),
        (call(pairing="inner"), ValueError, "pairing must be one of 'outer', 'channel'"),
        (call(pairing="channel"), ValueError, r"state.h_D must have shape \(2, 3\)"),
        (call(factor_axes=0), ValueError, "factor_axes must be at least 1"),
        (call(factor_axes=2), ValueError, "state.h_D must have shape .* at least 2 axes"),
        (call(state=S._replace(t=-1)), ValueError, "state.t must be at least 0"),
        (call(state=S._replace(refreshes=0.5)), TypeError, "state.refreshes must be an integer"),
        (call(state=S._replace(s_D=H)), ValueError, r"state.s_D must have shape \(2,\), got \(3,\)"),
        (lambda: adafisher.init(H), ValueError, r"W must have shape \(..., m, n\)"),
        (lambda: adafisher.init((2, -1)), ValueError, r"W \(a shape\) must be at least 0"),
        (lambda: adafisher.init((2, 1.5)), TypeError, r"W \(a shape\) must be an integer"),
        (lambda: adafisher.init([2, 3]), TypeError, "W must be a torch.Tensor"),
        (lambda: adafisher.init(G, pairing="inner"), ValueError, "pairing must be one of"),
        (lambda: adafisher.init(H.sum(), pairing="channel"), ValueError, "got a scalar tensor"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.gpu
def test_a_step_never_makes_the_host_wait(cuda):
    state, fresh, _, W = layer("groups", 0, torch.float32, cuda)
    G, h_D, s_D = fresh()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for averaging in ("paper", "released"):
            adafisher.step(G, state, h_D=h_D, s_D=s_D, W=W, weight_decay=0.1, averaging=averaging)
    finally:
        torch.cuda.set_sync_debug_mode("default")
