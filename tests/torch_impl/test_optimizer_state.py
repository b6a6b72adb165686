"""Saving, loading and copying `FISMO` and `SOFIM`: bit for bit, or refused."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn

from tests.torch_impl.cases import DTYPES
from tests.torch_impl.optimizer_cases import BOTH, give_gradients, parameters, photograph, run, same
from torch_impl import FISMO, SOFIM


@BOTH
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_state_dict_continues_bit_for_bit_and_keeps_its_dtypes(optimizer_class, dtype):
    params = parameters(dtype=dtype)
    optimizer = optimizer_class(params, lr=0.1)
    run(optimizer, params, 2)
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    buffer.seek(0)
    saved = torch.load(buffer, weights_only=True)
    copies = [nn.Parameter(p.detach().clone()) for p in params]
    other = optimizer_class(copies)
    untouched = copy.deepcopy(saved)
    other.load_state_dict(saved)
    assert same(other.state_dict(), optimizer.state_dict())
    run(optimizer, params, 2, seed=9)
    run(other, copies, 2, seed=9)
    assert all(map(torch.equal, params, copies))
    assert same(other.state_dict(), optimizer.state_dict())
    assert same(saved, untouched), "loading or stepping modified the caller's dictionary"


@BOTH
def test_loading_before_the_first_step_and_partial_state(optimizer_class):
    params = parameters()
    optimizer = optimizer_class(params)
    fresh = optimizer.state_dict()
    give_gradients(params[:1])
    optimizer.step()
    partial = copy.deepcopy(optimizer.state_dict())
    assert set(partial["state"]) == {0}
    other = optimizer_class(parameters())
    other.load_state_dict(partial)
    assert same(other.state_dict(), partial)
    other.load_state_dict(fresh)
    assert not other.state_dict()["state"]


@BOTH
def test_copies_and_pickles_continue_bit_for_bit(optimizer_class):
    params = parameters()
    optimizer = optimizer_class(params, lr=0.1)
    run(optimizer, params, 2)
    copies = [copy.deepcopy((params, optimizer)), pickle.loads(pickle.dumps((params, optimizer)))]
    run(optimizer, params, 2, seed=9)
    for other_params, other in copies:
        run(other, other_params, 2, seed=9)
        assert all(map(torch.equal, params, other_params))
        assert same(other.state_dict(), optimizer.state_dict())


def altered(change):
    """A function that applies `change` to a copy of a state dict."""

    def alter(saved):
        saved = copy.deepcopy(saved)
        return change(saved) or saved

    return alter


EVERY_OPTION = [
    (FISMO, {"refresh": 3, "factor_scaling": "unit", "order": "jacobi", "maximize": True}),
    (FISMO, {"orthogonalize": "jordan", "damping": "theorem", "capturable": True, "nonfinite": "skip"}),
    (FISMO, {"reshape": True, "gamma": 0.5, "mu": 0.5, "beta": 0.5, "weight_decay": 0.5}),
    (SOFIM, {"scope": "group", "capturable": True, "nonfinite": "skip"}),
    (SOFIM, {"scope": "parameter", "maximize": True, "weight_decay": 0.5, "beta": 0.0, "rho": 2.0}),
    (SOFIM, {"lr": torch.tensor(0.25)}),
]


@pytest.mark.parametrize(("optimizer_class", "options"), EVERY_OPTION)
def test_every_option_is_saved_and_continued_with(optimizer_class, options):
    params = parameters(dtype=torch.bfloat16)
    optimizer = optimizer_class(params, **copy.deepcopy(options))
    run(optimizer, params, 2)
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    buffer.seek(0)
    copies = [nn.Parameter(p.detach().clone()) for p in params]
    other = optimizer_class(copies)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    assert {name: other.param_groups[0][name] for name in options} == options
    run(optimizer, params, 2, seed=9)
    run(other, copies, 2, seed=9)
    assert all(map(torch.equal, params, copies))
    assert same(other.state_dict(), optimizer.state_dict())


@BOTH
def test_a_state_of_float64_stays_one_under_float32_parameters(optimizer_class):
    wide, narrow = parameters(), parameters(dtype=torch.float32)
    first, second = optimizer_class(wide), optimizer_class(narrow)
    run(first, wide, 2)
    second.load_state_dict(first.state_dict())
    run(second, narrow, 1)
    assert {x.dtype for x in second.state[narrow[0]].values()} == {torch.float64}


def test_the_state_of_sofim_has_the_promised_size():
    params = parameters(dtype=torch.bfloat16)
    optimizer = SOFIM(params)
    run(optimizer, params, 2)
    for p in params:
        state = optimizer.state[p]
        assert state.keys() == {"M", "step"}
        assert (state["M"].numel(), state["M"].dtype) == (p.numel(), torch.float32)
        assert (state["step"].shape, state["step"].dtype) == ((), torch.float64)


FOREIGN = {
    "another number of parameters": (
        altered(lambda s: s["param_groups"][0]["params"].append(3)),
        r"sizes \[3\], got \[4\]",
    ),
    "another number of groups": (
        altered(lambda s: s["param_groups"].append({"params": []})),
        r"sizes \[3\], got \[3, 0\]",
    ),
    "other shapes": (
        altered(lambda s: s["state"][1].update(M=torch.zeros(5, 2, dtype=torch.float64))),
        r"state 'M' of parameter 1 of group 0 must have shape \(2, 5\), got \(5, 2\)",
    ),
    "state in half precision": (
        altered(
            lambda s: s["state"][0].update({k: v.bfloat16() for k, v in s["state"][0].items() if k in "PQM"})
        ),
        "must be float32 or float64 throughout, got torch.bfloat16",
    ),
    "state that is missing": (
        altered(lambda s: s["state"][2].update(V=s["state"][2].pop("M"))),
        r"must hold \['M'.*, got",
    ),
    "a count that is none": (
        altered(lambda s: s["state"][1].update(step=torch.tensor(1.5))),
        r"state 'step' of parameter 1 of group 0 must be a whole number of at least 0, got 1.5",
    ),
    "a count that is a number": (altered(lambda s: s["state"][1].update(step=3)), "must be a torch.Tensor"),
    "state of nobody": (altered(lambda s: s["state"].update({7: {}})), "listed parameters only, got keys"),
    "a missing option": (
        altered(lambda s: None if s["param_groups"][0].pop("beta") else s),
        "got none for beta",
    ),
    "an option out of range": (altered(lambda s: s["param_groups"][0].update(beta=2.0)), "beta must be"),
    "no state dict at all": (lambda s: {"model": {}}, "must hold 'state' and 'param_groups'"),
}


@BOTH
@pytest.mark.parametrize("kind", FOREIGN)
def test_the_state_of_another_model_is_refused_before_anything_changes(optimizer_class, kind):
    alter, message = FOREIGN[kind]
    params = parameters()
    optimizer = optimizer_class(params)
    run(optimizer, params, 1)
    before = photograph(optimizer)
    with pytest.raises((TypeError, ValueError), match=message):
        optimizer.load_state_dict(alter(optimizer.state_dict()))
    assert same(photograph(optimizer), before)
    run(optimizer, params, 1)  # and it still works


def test_the_state_of_another_optimizer_is_refused():
    params = parameters()
    first, second = SOFIM(params), FISMO(params)
    run(first, params, 1)
    with pytest.raises(ValueError, match="got none for damping"):
        second.load_state_dict(first.state_dict())
