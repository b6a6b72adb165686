"""`FISMO` and `SOFIM` as users of PyTorch know optimizers."""

import copy

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler as schedules

from proofs_checks.ratios import recursion
from tests.torch_impl import cases
from tests.torch_impl.cases import array
from tests.torch_impl.optimizer_cases import BOTH, give_gradients, parameters, photograph, run, same


@BOTH
def test_a_closure_is_evaluated_with_gradients_and_its_loss_returned(optimizer_class):
    (W,) = parameters(shapes=[(3, 3)])
    optimizer = optimizer_class([W], lr=0.01)

    def closure():
        optimizer.zero_grad()
        loss = W.square().sum()
        loss.backward()
        return loss.detach()

    losses = [float(optimizer.step(closure)) for _ in range(5)]
    assert losses == sorted(losses, reverse=True)
    assert len(set(losses)) == 5
    assert optimizer.step() is None


@BOTH
def test_weight_decay_is_decoupled_and_does_not_reach_the_state(optimizer_class):
    plain, decayed = parameters(), parameters()
    optimizers = [optimizer_class(plain, lr=0.5), optimizer_class(decayed, lr=0.5, weight_decay=0.5)]
    for params, optimizer in zip((plain, decayed), optimizers, strict=True):
        give_gradients(params)
        optimizer.step()
    for p, q, W in zip(plain, decayed, parameters(), strict=True):
        assert same(optimizers[0].state[p], optimizers[1].state[q])
        want = array(p) - 0.25 * array(W)
        terms = 4 * (np.abs(array(p)) + np.abs(array(W)))
        assert recursion(array(q), want, terms, operations=4, u=cases.DOUBLE).passed


@BOTH
@pytest.mark.parametrize("lr", [0.5, torch.tensor(0.5), torch.tensor([0.5], dtype=torch.float64)])
def test_the_learning_rate_is_a_number_or_a_tensor_and_obeys_schedulers(optimizer_class, lr):
    params = parameters()
    optimizer = optimizer_class(params, lr=copy.deepcopy(lr))  # schedulers change a tensor in place
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    fixed = parameters()
    other = optimizer_class(fixed, lr=0.5)
    for k in range(3):
        other.param_groups[0]["lr"] = 0.5 * 0.5**k
        for ps, o in ((params, optimizer), (fixed, other)):
            give_gradients(ps, seed=k)
            o.step()
        scheduler.step()
    assert all(map(torch.equal, params, fixed))


@BOTH
def test_schedulers_that_leave_marks_in_the_groups_are_welcome(optimizer_class):
    params = parameters()
    optimizer = optimizer_class(params, lr=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=4, cycle_momentum=False)
    for _ in range(3):
        give_gradients(params)
        optimizer.step()
        schedule.step()
    copied = optimizer_class(parameters())
    copied.load_state_dict(optimizer.state_dict())
    assert same(copied.state_dict(), optimizer.state_dict())


@BOTH
def test_groups_may_differ_and_be_added(optimizer_class):
    a, b = parameters(shapes=[(2, 3), (2, 3)])
    optimizer = optimizer_class([{"params": [a], "lr": 0.25}], lr=0.5)
    added = {"params": [b], "beta": 0.125}
    unchanged = dict(added)
    optimizer.add_param_group(added)
    assert added == unchanged, "the caller's group was modified"
    assert [g["lr"] for g in optimizer.param_groups] == list(map(float, ("0.25", "0.5")))
    assert [g["beta"] for g in optimizer.param_groups] == list(map(float, ("0.9", "0.125")))
    before = [p.detach().clone() for p in (a, b)]
    give_gradients([a, b])
    optimizer.step()
    assert not any(map(torch.equal, (a, b), before))
    optimizer.zero_grad()
    assert a.grad is None


@BOTH
def test_hooks_run_where_pytorch_runs_them(optimizer_class):
    params = parameters(dtype=torch.bfloat16)
    optimizer, calls = optimizer_class(params), []
    optimizer.register_step_pre_hook(lambda *_: calls.append("pre"))
    optimizer.register_step_post_hook(lambda *_: calls.append("post"))
    run(optimizer, params, 1)
    assert calls == ["pre", "post"]
    saved = optimizer.state_dict()

    def rename(_, incoming):
        calls.append("load")
        return {"state": incoming["saved"], "param_groups": incoming["param_groups"]}

    seen = []
    optimizer.register_load_state_dict_pre_hook(rename)
    optimizer.register_load_state_dict_post_hook(
        lambda o: seen.append(copy.deepcopy(o.state_dict()["state"]))
    )
    optimizer.load_state_dict({"saved": saved["state"], "param_groups": saved["param_groups"]})
    assert calls[2:] == ["load"]
    assert same(seen[0], saved["state"])


# ---- more of what a training loop does --------------------------------------------------------------------

SCHEDULERS = {
    "lambda": lambda o: schedules.LambdaLR(o, lambda k: 1.0 / (k + 1)),
    "multi-step": lambda o: schedules.MultiStepLR(o, [1, 3], gamma=0.5),
    "exponential": lambda o: schedules.ExponentialLR(o, 0.5),
    "cosine": lambda o: schedules.CosineAnnealingLR(o, 4),
    "restarts": lambda o: schedules.CosineAnnealingWarmRestarts(o, 2),
    "linear": lambda o: schedules.LinearLR(o, 0.25, total_iters=3),
    "one-cycle": lambda o: schedules.OneCycleLR(o, 0.5, total_steps=6, cycle_momentum=False),
    "cyclic": lambda o: schedules.CyclicLR(o, 0.1, 0.5, step_size_up=2, cycle_momentum=False),
    "sequential": lambda o: schedules.SequentialLR(
        o, [schedules.ConstantLR(o, 0.5, 2), schedules.PolynomialLR(o, 4)], [2]
    ),
    "plateau": lambda o: schedules.ReduceLROnPlateau(o, factor=0.5, patience=0),
}


@BOTH
@pytest.mark.parametrize("kind", SCHEDULERS)
def test_schedulers_set_the_rate_of_every_step(optimizer_class, kind):
    params, fixed = parameters(), parameters()
    optimizer, by_hand = optimizer_class(params, lr=0.5), optimizer_class(fixed, lr=0.5)
    scheduler, rates = SCHEDULERS[kind](optimizer), []
    for k in range(5):
        rates.append(optimizer.param_groups[0]["lr"])
        by_hand.param_groups[0]["lr"] = rates[-1]
        for ps, o in ((params, optimizer), (fixed, by_hand)):
            give_gradients(ps, seed=k)
            o.step()
        scheduler.step(*([1.0] if kind == "plateau" else []))
    assert len(set(rates)) > 1, "the schedule did nothing"
    assert all(map(torch.equal, params, fixed))


@BOTH
def test_a_closure_that_raises_leaves_everything_as_it_was(optimizer_class):
    params = parameters()
    optimizer = optimizer_class(params)
    run(optimizer, params, 1)
    before = photograph(optimizer)

    def closure():
        raise RuntimeError("out of data")

    with pytest.raises(RuntimeError, match="out of data"):
        optimizer.step(closure)
    assert same(photograph(optimizer), before)
    assert torch.is_grad_enabled()
    run(optimizer, params, 1)
    assert not same(photograph(optimizer)[0], before[0])


@BOTH
def test_zeroed_gradients_are_gradients_and_none_is_none(optimizer_class):
    (W,) = parameters(shapes=[(2, 3)])
    optimizer = optimizer_class([W], lr=0.1)
    run(optimizer, [W], 1)
    optimizer.zero_grad(set_to_none=False)
    assert torch.equal(W.grad, torch.zeros_like(W))
    before, M = W.detach().clone(), optimizer.state[W]["M"].clone()
    optimizer.step()
    assert not torch.equal(W, before), "momentum goes on"
    assert not torch.equal(optimizer.state[W]["M"], M)
    optimizer.zero_grad()
    assert W.grad is None
    before = photograph(optimizer)
    optimizer.step()
    assert same(photograph(optimizer), before)


@BOTH
def test_accumulated_gradients_are_one_gradient(optimizer_class):
    a, b = parameters(), parameters()
    small, large = optimizer_class(a), optimizer_class(b)
    for p, q in zip(a, b, strict=True):
        for _ in range(2):
            (2.0 * p).sum().backward()
        (4.0 * q).sum().backward()
    small.step(), large.step()
    assert all(map(torch.equal, a, b))


@BOTH
def test_a_group_added_in_mid_training_starts_fresh_and_leaves_the_others_alone(optimizer_class):
    old, new = parameters(shapes=[(2, 3), (3, 3)])
    optimizer = optimizer_class([old], lr=0.1)
    run(optimizer, [old], 3)
    state = copy.deepcopy(optimizer.state[old])
    optimizer.add_param_group({"params": [new], "lr": 0.5})
    assert same(optimizer.state[old], state)
    run(optimizer, [old, new], 1)
    assert (optimizer.state[old]["step"], optimizer.state[new]["step"]) == (4, 1)


@BOTH
def test_frozen_parameters_stay_until_they_are_thawed(optimizer_class):
    a, b = parameters(shapes=[(2, 2), (2, 2)])
    optimizer, start = optimizer_class([a, b.requires_grad_(False)]), b.detach().clone()
    (a.sum() + (a @ b).sum()).backward()
    optimizer.step()
    assert torch.equal(b, start)
    assert b not in optimizer.state
    b.requires_grad_(True)
    (a @ b).sum().backward()
    optimizer.step()
    assert not torch.equal(b, start)


@BOTH
@pytest.mark.parametrize("lr", [0.0, torch.tensor(0.0)])
@pytest.mark.parametrize("capturable", [False, True])
def test_a_rate_of_zero_makes_the_state_and_moves_nothing(optimizer_class, lr, capturable):
    """What torch.distributed.checkpoint does to have a state it can load into."""
    params = parameters(dtype=torch.float32)
    before = [p.detach().clone() for p in params]
    optimizer = optimizer_class(params, lr=lr, weight_decay=0.5, capturable=capturable)
    for p in params:
        p.grad = torch.zeros_like(p)
    optimizer.step()
    assert all(map(torch.equal, params, before))
    for p in params:
        assert optimizer.state[p].keys() == optimizer._state_layout(p).keys()
