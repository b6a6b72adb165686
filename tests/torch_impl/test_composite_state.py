"""A composite saves and loads as one optimizer: bit for bit, all children or none."""

import copy
import io
import pickle

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

from tests.torch_impl.cases import DTYPES
from tests.torch_impl.composite_cases import SHAPES, composite, pair
from tests.torch_impl.optimizer_cases import give_gradients, parameters, photograph, run, same
from torch_impl import FISMO, SOFIM
from torch_impl.optim.composite import Composite
from torch_impl.split import split_parameters

# ---- saving and loading -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("other", [torch.optim.AdamW, torch.optim.NAdam, torch.optim.SGD, SOFIM])
def test_a_state_dict_continues_bit_for_bit_and_keeps_its_dtypes(dtype, other):
    params, optimizer = pair(dtype, other=other)
    run(optimizer, params, 2)
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    buffer.seek(0)
    saved = torch.load(buffer, weights_only=True)
    untouched = copy.deepcopy(saved)
    copies = [nn.Parameter(p.detach().clone()) for p in params]
    resumed = composite(copies, lr=3.0, other=other)
    resumed.load_state_dict(saved)
    assert same(resumed.state_dict(), optimizer.state_dict())
    run(optimizer, params, 2, seed=9)
    run(resumed, copies, 2, seed=9)
    assert all(map(torch.equal, params, copies))
    assert same(resumed.state_dict(), optimizer.state_dict())
    assert same(saved, untouched), "loading or stepping modified the caller's dictionary"


def test_the_control_pytorchs_own_loading_rounds_float32_state_under_bfloat16():
    params = parameters(dtype=torch.bfloat16)
    alone, child = torch.optim.NAdam(params), torch.optim.NAdam(parameters(dtype=torch.bfloat16))
    run(alone, params, 2)
    child.load_state_dict(alone.state_dict())
    assert not same(child.state_dict(), alone.state_dict())
    wrapped = Composite([torch.optim.NAdam(parameters(dtype=torch.bfloat16))])
    wrapped.load_state_dict(alone.state_dict())
    assert same(wrapped.state_dict(), alone.state_dict())


def test_the_format_is_that_of_one_optimizer_with_all_the_groups():
    groups = [parameters(shapes=[(2, 3), (3,)]), parameters(seed=1, shapes=[(4,)])]
    lone = copy.deepcopy(groups)
    one = torch.optim.AdamW([{"params": groups[0], "lr": 0.5}, {"params": groups[1]}], lr=0.1)
    many = Composite([torch.optim.AdamW(lone[0], lr=0.5), torch.optim.AdamW(lone[1], lr=0.1)])
    for params, optimizer in ((groups, one), (lone, many)):
        run(optimizer, [p for group in params for p in group], 2)
    assert same(many.state_dict(), one.state_dict())
    fresh = Composite([torch.optim.AdamW(copy.deepcopy(group)) for group in lone])
    fresh.load_state_dict(one.state_dict())  # from one optimizer to a composite
    assert same(fresh.state_dict(), one.state_dict())
    one.load_state_dict(many.state_dict())  # and back


def test_loading_from_a_live_optimizer_shares_nothing_with_it():
    params, optimizer = pair()
    run(optimizer, params, 1)
    other = composite(parameters(shapes=SHAPES))
    other.load_state_dict(optimizer.state_dict())
    tensors = [
        {id(value) for state in o.state.values() for value in state.values()} for o in (optimizer, other)
    ]
    assert not tensors[0] & tensors[1]


def test_loading_before_the_first_step_and_partial_state():
    params, optimizer = pair()
    fresh = copy.deepcopy(optimizer.state_dict())
    assert fresh["state"] == {}
    give_gradients(params[3:])
    optimizer.step()
    partial = optimizer.state_dict()
    assert list(partial["state"]) == [3]
    other = composite(parameters(shapes=SHAPES))
    other.load_state_dict(partial)
    assert same(other.state_dict(), partial)
    other.load_state_dict(fresh)
    assert not other.state


def test_copies_and_pickles_continue_bit_for_bit():
    params, optimizer = pair(nonfinite="skip", rollback=False)
    torch.optim.lr_scheduler.ConstantLR(optimizer)  # leaves a mark on the step function
    run(optimizer, params, 2)
    copies = [copy.deepcopy((params, optimizer)), pickle.loads(pickle.dumps((params, optimizer)))]
    run(optimizer, params, 2, seed=9)
    for other_params, other in copies:
        assert (other.nonfinite, other.rollback) == ("skip", False)
        assert all(p is q for p, q in zip(other_params[2:], other.param_groups[1]["params"], strict=True))
        run(other, other_params, 2, seed=9)
        assert all(map(torch.equal, params, other_params))
        assert same(other.state_dict(), optimizer.state_dict())


# ---- all or none ------------------------------------------------------------------------------------------


def fismo(saved):
    """FISMO's group of a saved composite, wherever it is."""
    return next(group for group in saved["param_groups"] if "mu" in group)


FOREIGN = {
    "no state dict at all": (lambda s: s.pop("state"), "must hold 'state' and 'param_groups'"),
    "one group too many": (
        lambda s: s["param_groups"].append({"params": []}),
        r"sizes \[2, 2\], got \[2, 2, 0\]",
    ),
    "one parameter too many": (
        lambda s: s["param_groups"][1]["params"].append(4),
        r"sizes \[2, 2\], got \[2, 3\]",
    ),
    "state of nobody": (
        lambda s: s["state"].update({7: {}, "x": {}}),
        r"listed parameters only, got keys \[7, 'x'\]",
    ),
    "the children in another order": (lambda s: s["param_groups"].reverse(), "got none for"),
    "state a child refuses": (
        lambda s: s["state"][fismo(s)["params"][1]].update(M=torch.zeros(1, 1, dtype=torch.float64)),
        "must have shape",
    ),
    "a child that would skip": (
        lambda s: fismo(s).update(nonfinite="skip"),
        "give nonfinite to the composite",
    ),
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("order", [1, -1])
def test_what_does_not_fit_one_child_is_refused_by_all(kind, order):
    params = parameters(shapes=SHAPES)
    optimizer = Composite([FISMO(params[:2], lr=0.1), torch.optim.AdamW(params[2:], lr=0.1)][::order])
    run(optimizer, params, 1)
    spoil, message = FOREIGN[kind]
    wrong = copy.deepcopy(optimizer.state_dict())
    spoil(wrong)
    run(optimizer, params, 1)
    before, groups = photograph(optimizer), [id(group) for group in optimizer.param_groups]
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(wrong)
    assert same(photograph(optimizer), before)
    assert [id(group) for group in optimizer.param_groups] == groups
    run(optimizer, params, 1)  # and it still works


def test_a_child_that_fails_after_it_has_loaded_is_put_back():
    class Late(torch.optim.AdamW):
        fault = False

        def load_state_dict(self, state_dict):
            super().load_state_dict(state_dict)
            self.loads = getattr(self, "loads", 0) + 1
            if self.fault:
                raise RuntimeError("late")

    params = parameters(shapes=SHAPES)
    late = Late(params[2:])
    optimizer = Composite([FISMO(params[:2]), late])
    run(optimizer, params, 1)
    saved = copy.deepcopy(optimizer.state_dict())
    run(optimizer, params, 1)
    late.fault = True
    before, states = photograph(optimizer), [child.state for child in optimizer.optimizers]
    with pytest.raises(RuntimeError, match="late"):
        optimizer.load_state_dict(saved)
    assert same(photograph(optimizer), before)
    assert all(child.state is state for child, state in zip(optimizer.optimizers, states, strict=True))
    assert not hasattr(late, "loads")


# ---- hooks ------------------------------------------------------------------------------------------------


def test_hooks_on_saving_and_loading_see_the_format_of_their_optimizer():
    params, optimizer = pair()
    run(optimizer, params, 1)
    seen = []
    optimizer.register_state_dict_pre_hook(lambda o: seen.append(("save", o)))
    optimizer.register_state_dict_post_hook(lambda _, saved: {**saved, "version": 1})
    optimizer.register_load_state_dict_pre_hook(lambda _, saved: seen.append(sorted(saved["state"])))
    optimizer.register_load_state_dict_post_hook(lambda o: seen.append(("loaded", o)))
    child = optimizer.optimizers[1]
    child.register_load_state_dict_pre_hook(lambda _, saved: seen.append(sorted(saved["state"])))
    saved = optimizer.state_dict()
    assert saved["version"] == 1
    optimizer.load_state_dict(saved)
    assert seen == [("save", optimizer), [0, 1, 2, 3], [0, 1], ("loaded", optimizer)]


def test_hooks_after_loading_see_what_was_loaded_and_none_of_ours_remain():
    params = parameters(dtype=torch.bfloat16)
    child = torch.optim.NAdam(params)
    optimizer = Composite([child])
    run(optimizer, params, 1)
    saved, seen = copy.deepcopy(optimizer.state_dict()), []
    child.register_load_state_dict_post_hook(lambda o: seen.append(copy.deepcopy(o.state_dict()["state"])))
    optimizer.load_state_dict(saved)
    assert same(seen, [saved["state"]])
    assert not child._optimizer_load_state_dict_pre_hooks
    assert len(child._optimizer_load_state_dict_post_hooks) == 1


def test_step_counts_are_loaded_as_fused_kernels_need_them():
    params = parameters(dtype=torch.float32)
    optimizer = Composite([torch.optim.AdamW(params, fused=True)])
    run(optimizer, params, 1)
    saved = copy.deepcopy(optimizer.state_dict())
    for state in saved["state"].values():
        state["step"] = state["step"].double()  # as AdamW counts where float64 is the default
    optimizer.load_state_dict(saved)
    assert {state["step"].dtype for state in optimizer.state.values()} == {torch.float32}
    run(optimizer, params, 1)


def test_a_hook_may_replace_what_is_loaded():
    params, optimizer = pair()
    run(optimizer, params, 1)
    saved = copy.deepcopy(optimizer.state_dict())
    optimizer.register_load_state_dict_pre_hook(lambda _, incoming: incoming["wrapped"])
    run(optimizer, params, 1)
    optimizer.load_state_dict({"wrapped": saved})
    assert same(optimizer.state_dict(), saved)


def test_a_child_with_a_format_of_its_own_is_refused_when_saving():
    _, optimizer = pair()
    optimizer.optimizers[1].register_state_dict_post_hook(lambda _, saved: {**saved, "version": 1})
    with pytest.raises(ValueError, match=r"optimizer 1 \(AdamW\) must save 'state' and 'param_groups', got"):
        optimizer.state_dict()


# ---- torch.distributed.checkpoint -------------------------------------------------------------------------


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 6), nn.Linear(6, 3))


def prepared(**options):
    model = network()
    split = split_parameters(model, verbose=False)
    return model, Composite([FISMO(split.matrices, **options), torch.optim.AdamW(split.others, **options)])


def train(model, optimizer, steps, *, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(5, 4, generator=generator)).square().sum().backward()
        optimizer.step()


# Saving in one process is what is meant here.
@pytest.mark.filterwarnings("ignore:torch.distributed is disabled, unavailable or uninitialized:UserWarning")
@pytest.mark.parametrize("flatten", [False, True])
def test_distributed_checkpoints_name_parameters_and_resume(flatten, tmp_path):
    options = StateDictOptions(flatten_optimizer_state_dict=flatten)
    model, optimizer = prepared(lr=0.05)
    train(model, optimizer, 2)
    saved = {
        "model": model.state_dict(),
        "optimizer": get_optimizer_state_dict(model, optimizer, options=options),
    }
    dcp.save(saved, checkpoint_id=tmp_path, no_dist=True)
    other, resumed = prepared(lr=1.0)
    incoming = {
        "model": other.state_dict(),
        "optimizer": get_optimizer_state_dict(other, resumed, options=options),
    }
    dcp.load(incoming, checkpoint_id=tmp_path, no_dist=True)
    other.load_state_dict(incoming["model"])
    set_optimizer_state_dict(other, resumed, incoming["optimizer"], options=options)
    assert same(resumed.state_dict(), optimizer.state_dict())
    for pair_ in ((model, optimizer), (other, resumed)):
        train(*pair_, 2, seed=9)
    assert all(map(torch.equal, model.parameters(), other.parameters()))


def test_distributed_state_initialises_every_child_and_moves_nothing():
    model, optimizer = prepared(lr=0.05)
    before = copy.deepcopy(model.state_dict())
    saved = get_optimizer_state_dict(model, optimizer)
    assert set(saved["state"]) == {name for name, _ in model.named_parameters()}
    assert same(dict(model.state_dict()), dict(before))
    assert {group["lr"] for group in optimizer.param_groups} == set(map(float, ["0.05"]))
