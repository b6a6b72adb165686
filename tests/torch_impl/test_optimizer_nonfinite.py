"""What happens to a step with an infinity or a NaN: it raises or is skipped, and changes nothing."""

import copy
import math

import numpy as np
import pytest
import torch

from tests.torch_impl import cases
from tests.torch_impl.cases import DTYPES, array, distance
from tests.torch_impl.optimizer_cases import BOTH, give_gradients, parameters, photograph, run, same
from torch_impl import FISMO, SOFIM
from torch_impl.optim import finite

SPOILS = [math.nan, math.inf, -math.inf]

#: Who decides: the host, or the device without a word to the host.
DECIDERS = pytest.mark.parametrize("capturable", [False, True], ids=["host", "device"])


@BOTH
@DECIDERS
@pytest.mark.parametrize("value", SPOILS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_skipped_step_is_as_if_it_had_not_been(optimizer_class, capturable, value, dtype):
    options = {"lr": 0.1, "weight_decay": 0.5, "nonfinite": "skip", "capturable": capturable}
    params, spared = parameters(dtype=dtype), parameters(dtype=dtype)
    optimizer = optimizer_class([{"params": params[:1]}, {"params": params[1:]}], **options)
    other = optimizer_class([{"params": spared[:1]}, {"params": spared[1:]}], **options)
    for k in range(4):
        give_gradients(params, seed=k)
        if k in (0, 2):  # before there is a state, and later
            params[k].grad[-1, 0] = value
            before = [p.detach().clone() for p in params]
            optimizer.step()
            assert all(map(torch.equal, params, before))
            continue
        give_gradients(spared, seed=k)
        optimizer.step(), other.step()
    assert all(map(torch.equal, params, spared))
    assert same(optimizer.state_dict()["state"], other.state_dict()["state"])


@BOTH
def test_the_host_makes_no_state_for_a_step_it_skips(optimizer_class):
    params = parameters()
    optimizer = optimizer_class(params, nonfinite="skip")
    give_gradients(params)
    params[1].grad[0, 0] = math.nan
    before = photograph(optimizer)
    optimizer.step()
    assert not optimizer.state
    assert same(photograph(optimizer)[0], before[0])


@DECIDERS
@pytest.mark.parametrize("kind", ["singular", "overflowing"])
def test_a_factor_that_fails_is_skipped_as_a_whole(capturable, kind):
    params = parameters(dtype=torch.float32, shapes=[(2, 3), (3, 3)])
    groups = [{"params": params[:1]}, {"params": params[1:], "gamma": 0.0, "mu": 0.0}]
    optimizer = FISMO(groups, nonfinite="skip", capturable=capturable)
    give_gradients(params)
    optimizer.step()
    give_gradients(params, seed=3)
    if kind == "singular":
        params[1].grad.copy_(torch.diag(torch.tensor([1.0, 1.0, 0.0])))
    else:
        params[1].grad.fill_(1e30)
    before = photograph(optimizer)
    optimizer.step()
    assert same(photograph(optimizer), before)
    run(optimizer, params, 1)
    assert not same(photograph(optimizer), before)


@DECIDERS
def test_a_bad_factor_is_seen_while_old_roots_are_held(capturable):
    (W,) = parameters(dtype=torch.float32, shapes=[(2, 3)])
    optimizer = FISMO([W], refresh=10, orthogonalize="jordan", capturable=capturable)
    run(optimizer, [W], 1)
    W.grad = torch.full_like(W, 1e25)  # its square overflows, the whitened gradient does not
    before = photograph(optimizer)
    with pytest.raises(ValueError, match=r"the factor P of parameter 0 of group 0 must be finite"):
        optimizer.step()
    assert same(photograph(optimizer), before)


@BOTH
def test_the_choice_is_one_for_all_groups(optimizer_class):
    a, b = parameters(shapes=[(2, 2), (2, 2)])
    message = r"nonfinite must be equal in all groups, .* got 'skip' after 'raise' \(parameter group 1\)"
    with pytest.raises(ValueError, match=message):
        optimizer_class([{"params": [a]}, {"params": [b], "nonfinite": "skip"}])
    optimizer = optimizer_class([{"params": [a]}, {"params": [b]}])
    optimizer.param_groups[1]["nonfinite"] = "skip"
    with pytest.raises(ValueError, match=message):
        optimizer.step()
    with pytest.raises(ValueError, match="nonfinite must be one of 'raise', 'skip', got 'ignore'"):
        optimizer_class([a], nonfinite="ignore")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("capturable", [False, True])
def test_the_largest_numbers_are_finite_and_taken(dtype, capturable):
    largest = torch.finfo(dtype).max
    (p,) = parameters(dtype=dtype, shapes=[(2, 8)])
    start = p.detach().clone()
    optimizer = SOFIM([p], capturable=capturable, nonfinite="skip" if capturable else "raise")
    for sign in (1.0, -1.0, 1.0):  # differences of momentum and gradient would overflow
        p.grad = torch.full_like(p, sign * largest)
        optimizer.step()
    M = optimizer.state[p]["M"]
    want = np.full((2, 8), 0.1 * (0.81 - 0.9 + 1.0) * (largest / largest))
    terms = 2.71 * math.sqrt(want.size)
    assert distance(M / largest, want, budget=8 * terms * float(torch.finfo(M.dtype).eps)).passed
    assert distance(p, array(start), budget=2 * cases.stored(array(start), dtype) + cases.EXACT).passed


def test_squares_out_of_range_do_not_stop_the_step():
    """1e30 squared is no float32; the step is ``lr M / (rho + nu)`` all the same."""
    p = torch.nn.Parameter(torch.zeros(4))
    for size in (1e25, 1e-25):
        optimizer = SOFIM([p], lr=size, rho=1e-60)
        p.data.zero_()
        p.grad = torch.full((4,), size)
        optimizer.step()
        g = float(p.grad[0])
        want = np.full(4, -size * g / (1e-60 + 4 * g * g))
        assert distance(p, want, budget=8 * cases.stored(want, torch.float32)).passed


def test_a_length_that_no_float32_holds_still_moves_float32_parameters():
    p = torch.nn.Parameter(torch.zeros(3))
    optimizer = SOFIM([p], lr=1e10, rho=1e-30)
    p.grad = torch.full((3,), 1e-20)
    optimizer.step()
    g = float(p.grad[0])
    want = np.full(3, -1e10 * g / (1e-30 + 3 * g * g))
    assert distance(p, want, budget=8 * cases.stored(want, torch.float32)).passed


@pytest.mark.parametrize("dtype", DTYPES)
def test_finiteness_is_told_exactly_and_cheaply(dtype):
    good = [torch.ones(3, dtype=dtype), torch.empty(0, dtype=dtype), torch.full((), 2.0, dtype=dtype)]
    assert finite.surely_finite(good)
    assert finite.all_finite(good)
    assert finite.finite_flags(good).tolist() == [True] * 3
    assert finite.surely_finite([torch.full((9,), 3e4, dtype=dtype)]), "a float16 sum would have overflowed"
    huge = [*good, torch.full((9,), torch.finfo(dtype).max, dtype=dtype)]
    assert finite.all_finite(huge)
    for value in SPOILS:
        bad = copy.deepcopy(good)
        bad[2].fill_(value)
        assert not finite.surely_finite(bad)
        assert not finite.all_finite(bad)
        assert finite.finite_flags(bad).tolist() == [True, True, False]
