"""A composite is its children, stepped as one, with every habit of a PyTorch optimizer."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, OneCycleLR, ReduceLROnPlateau

from tests.torch_impl.cases import DTYPES
from tests.torch_impl.composite_cases import SHAPES, apart, composite, names, pair
from tests.torch_impl.optimizer_cases import give_gradients, parameters, photograph, run, same
from torch_impl import FISMO, SOFIM
from torch_impl.optim.composite import Composite

# ---- the step ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("other", [torch.optim.AdamW, torch.optim.SGD, SOFIM, torch.optim.Adagrad])
def test_a_composite_steps_as_its_children_do_apart(dtype, other):
    together, lone = (parameters(dtype=dtype, shapes=SHAPES) for _ in range(2))
    one, many = composite(together, other=other), apart(lone, other=other)
    for k in range(3):
        for params in (together, lone):
            give_gradients(params, seed=k)
        one.step()
        for optimizer in many:
            optimizer.step()
    assert all(map(torch.equal, together, lone))
    for optimizer, child in zip(many, one.optimizers, strict=True):
        assert same(optimizer.state_dict(), child.state_dict())


def test_any_number_of_children_in_any_order():
    groups = [parameters(seed=k, shapes=[(3, 3)]) for k in range(4)]
    lone = copy.deepcopy(groups)
    kinds = [torch.optim.SGD, SOFIM, FISMO, torch.optim.AdamW]
    one = Composite([kind(params, lr=0.1) for kind, params in zip(kinds, groups, strict=True)])
    many = [kind(params, lr=0.1) for kind, params in zip(kinds, lone, strict=True)]
    for params in (groups, lone):
        give_gradients([p for group in params for p in group])
    one.step()
    for optimizer in many:
        optimizer.step()
    assert all(torch.equal(a[0], b[0]) for a, b in zip(groups, lone, strict=True))


def test_a_closure_is_evaluated_once_with_gradients():
    params, optimizer = pair()
    calls = []

    def closure():
        optimizer.zero_grad()
        loss = sum(p.square().sum() for p in params)
        loss.backward()
        calls.append(loss.item())
        return loss.detach()

    losses = [float(optimizer.step(closure)) for _ in range(4)]
    assert losses == calls
    assert losses == sorted(losses, reverse=True)
    assert len(set(losses)) == 4
    assert optimizer.step() is None


def test_without_any_gradient_nothing_happens():
    params, optimizer = pair()
    before = photograph(optimizer)
    optimizer.step()
    assert same(photograph(optimizer), before)
    give_gradients(params[:1])  # the others have none
    optimizer.step()
    assert set(optimizer.state) == {params[0]}


def test_sparse_gradients_reach_the_child_that_takes_them():
    embedding, linear = nn.Embedding(5, 3, sparse=True), nn.Linear(3, 3)
    optimizer = Composite(
        [torch.optim.SparseAdam(embedding.parameters()), FISMO([linear.weight]), SOFIM([linear.bias])]
    )
    start = embedding.weight.detach().clone()
    linear(embedding(torch.tensor([1, 3, 3]))).square().sum().backward()
    optimizer.step()
    moved = (embedding.weight != start).any(dim=1)
    assert moved.tolist() == [False, True, False, True, False]
    embedding.weight.grad._values()[0, 0] = math.nan
    before = photograph(optimizer)[2]
    with pytest.raises(
        ValueError, match=r"parameter 0 of group 0 of optimizer 0 \(SparseAdam\) must be finite"
    ):
        optimizer.step()
    assert same(photograph(optimizer)[2], before)


# ---- groups and state are the children's ------------------------------------------------------------------


def test_groups_are_the_childrens_own():
    _, optimizer = pair()
    matrices, others = optimizer.optimizers
    assert all(map(lambda a, b: a is b, optimizer.param_groups, matrices.param_groups + others.param_groups))
    optimizer.param_groups[1]["lr"] = 7.0
    assert others.param_groups[0]["lr"] == float("7")
    others.load_state_dict(others.state_dict())  # makes new groups
    assert optimizer.param_groups[1] is others.param_groups[0]
    with pytest.raises(AttributeError, match="param_groups"):
        optimizer.param_groups = []


def test_state_is_the_childrens_own():
    params, optimizer = pair()
    assert not optimizer.state
    run(optimizer, params, 1)
    assert list(optimizer.state) == params
    assert len(optimizer.state) == len(params)
    for child, p in zip(optimizer.optimizers, (params[0], params[3]), strict=True):
        assert optimizer.state[p] is child.state[p]
        assert p in optimizer.state
        replaced = dict(child.state[p])
        optimizer.state[p] = replaced
        assert child.state[p] is replaced
    del optimizer.state[params[3]]
    assert params[3] not in optimizer.optimizers[1].state
    assert optimizer.state[params[3]] == {}  # as in every optimizer of PyTorch
    stranger = nn.Parameter(torch.zeros(2))
    for attempt in (lambda: optimizer.state[stranger], lambda: optimizer.state.__setitem__(stranger, {})):
        with pytest.raises(KeyError):
            attempt()
    assert stranger not in optimizer.state
    assert "exp_avg" in repr(optimizer.state) or "M" in repr(optimizer.state)


@pytest.mark.parametrize("to_none", [True, False])
def test_gradients_are_reset_in_every_child(to_none):
    params, optimizer = pair()
    give_gradients(params)
    optimizer.zero_grad(set_to_none=to_none)
    assert all(p.grad is None if to_none else not p.grad.any() for p in params)


def test_a_group_is_added_to_the_child_it_names():
    params, optimizer = pair()
    matrix, vector = parameters(shapes=[(2, 2), (3,)])
    added = {"params": [matrix], "lr": 0.5, "optimizer": 0}
    unchanged = dict(added)
    optimizer.add_param_group(added)
    optimizer.add_param_group({"params": [vector], "optimizer": 1})
    assert added == unchanged, "the caller's group was modified"
    assert [len(child.param_groups) for child in optimizer.optimizers] == [2, 2]
    assert [group["params"][0] for group in optimizer.param_groups] == [params[0], matrix, params[2], vector]
    assert optimizer.param_groups[1]["lr"] == float("0.5")
    run(optimizer, [*params, matrix, vector], 1)
    assert set(optimizer.state) == {*params, matrix, vector}


@pytest.mark.parametrize(
    ("group", "error", "message"),
    [
        (
            {"params": []},
            ValueError,
            r"must say which optimizer takes it.*0 \(FISMO\), 1 \(AdamW\); got None",
        ),
        ({"params": [], "optimizer": 2}, ValueError, "got 2"),
        ({"params": [], "optimizer": True}, ValueError, "got True"),
        ({"params": [], "optimizer": "AdamW"}, ValueError, "got 'AdamW'"),
        ([], TypeError, "param_group must be a dict, got list"),
        ({"params": [torch.zeros(3, requires_grad=True)], "optimizer": 0}, ValueError, "matri"),
        ({"params": [torch.zeros(3, requires_grad=True)], "lr": -1.0, "optimizer": 0}, ValueError, "lr"),
    ],
)
def test_a_group_that_fits_nowhere_is_refused(group, error, message):
    params, optimizer = pair()
    run(optimizer, params, 1)
    before = photograph(optimizer)
    with pytest.raises(error, match=message):
        optimizer.add_param_group(group)
    assert same(photograph(optimizer), before)


def test_a_group_with_a_parameter_of_another_child_is_refused():
    params, optimizer = pair()
    before = photograph(optimizer)
    with pytest.raises(
        ValueError, match=r"parameter 0 of group 0 of optimizer 0 \(FISMO\) as .* 1 \(AdamW\)"
    ):
        optimizer.add_param_group({"params": [params[0]], "optimizer": 1})
    assert same(photograph(optimizer), before)


# ---- schedulers, scaling, hooks, compilation --------------------------------------------------------------


SCHEDULES = {
    "lambda": lambda o: LambdaLR(o, [lambda k: 0.5**k, lambda k: 0.25**k]),
    "cosine": lambda o: CosineAnnealingLR(o, T_max=3),
    "one cycle": lambda o: OneCycleLR(o, max_lr=[0.5, 0.1], total_steps=4, cycle_momentum=False),
}


@pytest.mark.parametrize("kind", SCHEDULES)
def test_a_scheduler_of_the_composite_is_one_for_each_child(kind):
    params, optimizer = pair()
    schedule = SCHEDULES[kind](optimizer)
    seen = []
    for k in range(3):
        give_gradients(params, seed=k)
        optimizer.step()
        schedule.step()
        seen.append(tuple(child.param_groups[0]["lr"] for child in optimizer.optimizers))
        assert list(seen[-1]) == schedule.get_last_lr()
    assert len(set(seen)) == 3
    assert same(copied(optimizer).state_dict(), optimizer.state_dict())


def copied(optimizer):
    """A fresh composite that has loaded the state of another."""
    fresh = composite(parameters(shapes=SHAPES))
    fresh.load_state_dict(optimizer.state_dict())
    return fresh


def test_a_scheduler_on_a_plateau():
    params, optimizer = pair()
    schedule = ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
    for _ in range(3):
        run(optimizer, params, 1)
        schedule.step(1.0)
    rates = [0.1 / 4, 0.1 / 16]
    assert [group["lr"] for group in optimizer.param_groups] == rates


def test_learning_rates_as_tensors_stay_the_childrens_tensors():
    params = parameters(shapes=SHAPES)
    lr = torch.tensor(0.1)
    optimizer = Composite([FISMO(params[:2], lr=lr), torch.optim.AdamW(params[2:], lr=torch.tensor(0.1))])
    CosineAnnealingLR(optimizer, T_max=3)
    run(optimizer, params, 1)
    assert optimizer.param_groups[0]["lr"] is lr


def test_gradient_scaling_skips_overflowed_steps():
    params, optimizer = pair(dtype=torch.float32)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)

    def attempt(factor):
        optimizer.zero_grad()
        scaler.scale(sum((factor * p).sum() for p in params)).backward()
        scaler.step(optimizer)
        scaler.update()

    attempt(1.0)
    before = photograph(optimizer)
    attempt(math.inf)
    after = photograph(optimizer)
    assert same((after[0], after[2]), (before[0], before[2]))
    attempt(1.0)
    assert not same(photograph(optimizer)[0], before[0])


def test_hooks_of_the_composite_and_of_the_children_run():
    params, optimizer = pair()
    calls = []
    optimizer.register_step_pre_hook(lambda *_: calls.append("pre"))
    optimizer.register_step_post_hook(lambda *_: calls.append("post"))
    for index, child in enumerate(optimizer.optimizers):
        child.register_step_pre_hook(lambda *_, index=index: calls.append(f"pre {index}"))
        child.register_step_post_hook(lambda *_, index=index: calls.append(f"post {index}"))
    run(optimizer, params, 1)
    assert calls[0] == "pre"
    assert calls[-1] == "post"
    assert sorted(calls[1:-1]) == ["post 0", "post 1", "pre 0", "pre 1"]


# PyTorch's compiler warns about PyTorch when it is imported.
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
def test_a_compiled_step_is_the_compiled_step_of_the_children():
    together, lone = (parameters(shapes=SHAPES) for _ in range(2))
    one, many = composite(together), apart(lone)
    steps = [torch.compile(optimizer.step, backend="eager") for optimizer in (one, *many)]
    for k in range(3):
        for params in (together, lone):
            give_gradients(params, seed=k)
        for step in steps:
            step()
    assert all(map(torch.equal, together, lone))
    for optimizer, child in zip(many, one.optimizers, strict=True):
        assert same(optimizer.state_dict(), child.state_dict())
    before = photograph(one)
    together[3].grad.fill_(math.nan)
    with pytest.raises(ValueError, match="must be finite"):
        steps[0]()
    assert same((photograph(one)[0], photograph(one)[2]), (before[0], before[2]))
    torch._dynamo.reset()


def test_the_printed_form_shows_the_children_and_their_options():
    text = repr(composite(parameters(shapes=SHAPES), nonfinite="skip"))
    assert text.startswith("Composite (nonfinite='skip', rollback=True\n    0: FISMO (\n")
    assert "\n    1: AdamW (\n" in text
    assert text.endswith(")\n)")


# ---- refusals ---------------------------------------------------------------------------------------------


def lbfgs(params):
    return [torch.optim.LBFGS(params[:1]), torch.optim.SGD(params[1:])]


REFUSED = {
    "nothing": (lambda params: [], ValueError, "at least one optimizer, got none"),
    "no optimizer": (lambda params: [FISMO(params[:2]), params[2]], TypeError, "got Parameter at 1"),
    "a line search": (lbfgs, ValueError, r"without a closure, got optimizer 0 \(LBFGS\)"),
    "a parameter twice": (
        lambda params: [SOFIM(names(params)), torch.optim.SGD(params[1:])],
        ValueError,
        r"got parameter 1 of group 0 \(p1\) of optimizer 0 \(SOFIM\) as parameter 0 of group 0 of",
    ),
    "a child that skips": (
        lambda params: [FISMO(params[:2], nonfinite="skip"), torch.optim.SGD(params[2:])],
        ValueError,
        r"must be 'raise' for optimizer 0 \(FISMO\)",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_composite_is_refused(kind):
    make, error, message = REFUSED[kind]
    with pytest.raises(error, match=message):
        Composite(make(parameters(shapes=SHAPES)))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"nonfinite": "ignore"}, ValueError, "nonfinite must be one of 'raise', 'skip', got 'ignore'"),
        ({"rollback": 1}, TypeError, "rollback must be True or False, got int"),
    ],
)
def test_options_out_of_range_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        composite(parameters(shapes=SHAPES), **options)


def test_a_child_told_to_skip_later_is_refused_before_anything_changes():
    params, optimizer = pair()
    optimizer.param_groups[0]["nonfinite"] = "skip"
    give_gradients(params)
    before = photograph(optimizer)
    with pytest.raises(ValueError, match="give nonfinite to the composite"):
        optimizer.step()
    assert same(photograph(optimizer), before)
