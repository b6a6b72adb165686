"""A step of a composite happens wholly or not at all, whoever fails and whenever."""

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.torch_impl.composite_cases import SHAPES, Faulty, Subclass, composite, names, pair
from tests.torch_impl.optimizer_cases import give_gradients, parameters, photograph, run, same
from torch_impl import FISMO, SOFIM
from torch_impl.optim import composite as module
from torch_impl.optim.adafisher import AdaFisher
from torch_impl.optim.composite import Composite
from torch_impl.optim.rollback import Snapshot

BAD = [math.nan, math.inf, -math.inf]


def everything(optimizer):
    """What a failed step must leave alone: values, gradients, options, state, attributes of the children."""
    attributes = [
        copy.deepcopy({name: vars(child).get(name) for name in ("calls", "history")})
        for child in optimizer.optimizers
    ]
    values, gradients, saved = photograph(optimizer)
    bits = [None if g is None else g.contiguous().view(torch.uint8) for g in gradients]  # a NaN equals itself
    return (values, bits, saved), attributes


def identities(optimizer):
    """The tensors and containers themselves, which others may hold on to."""
    states = [state for child in optimizer.optimizers for state in child.state.values()]
    return (
        [id(child.state) for child in optimizer.optimizers],
        [id(child.param_groups) for child in optimizer.optimizers],
        [id(group) for group in optimizer.param_groups],
        [(id(state), {name: id(value) for name, value in state.items()}) for state in states],
    )


@pytest.fixture
def copies(monkeypatch):
    """The children of which a copy was made, in order, with its size in bytes."""
    made = []

    class Recorded(Snapshot):
        def __init__(self, optimizer, *, values):
            super().__init__(optimizer, values=values)
            made.append((type(optimizer).__name__, sum(copy.nbytes for _, copy in self._tensors)))

    monkeypatch.setattr(module, "Snapshot", Recorded)
    return made


# ---- gradients that are not finite ------------------------------------------------------------------------


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("culprit", range(len(SHAPES)))
@pytest.mark.parametrize("nonfinite", ["raise", "skip"])
@pytest.mark.parametrize("steps", [0, 2])
def test_one_bad_entry_anywhere_stops_every_child(bad, culprit, nonfinite, steps):
    params, optimizer = pair(nonfinite=nonfinite)
    run(optimizer, params, steps)
    give_gradients(params)
    params[culprit].grad.view(-1)[-1] = bad
    before = everything(optimizer)
    if nonfinite == "raise":
        owner, position = divmod(culprit, 2)
        where = rf"parameter {position} of group 0 of optimizer {owner} \((FISMO|AdamW)\)"
        with pytest.raises(ValueError, match=rf"the gradient of {where} must be finite.*nothing was changed"):
            optimizer.step()
    else:
        optimizer.step()
    assert same(everything(optimizer), before)
    run(optimizer, params, 1)  # and the next step is an ordinary one
    assert not any(map(torch.equal, params, before[0][0]))


def test_the_message_names_the_parameter_if_it_has_a_name():
    params = parameters(shapes=SHAPES)
    optimizer = Composite([torch.optim.SGD(names(params))])
    give_gradients(params)
    params[2].grad.fill_(math.nan)
    with pytest.raises(ValueError, match=r"parameter 2 of group 0 \(p2\) of optimizer 0 \(SGD\)"):
        optimizer.step()


def test_a_skipped_step_still_returns_the_loss():
    params, optimizer = pair(nonfinite="skip")

    def closure():
        give_gradients(params)
        params[0].grad.fill_(math.inf)
        return 3

    before = photograph(optimizer)[0]
    assert optimizer.step(closure) == 3
    assert same(photograph(optimizer)[0], before)


def test_gradients_whose_squares_overflow_are_finite():
    (p,) = parameters(shapes=[(3,)], dtype=torch.float32)
    optimizer = Composite([torch.optim.SGD([p], lr=1.0)])
    p.grad = torch.full((3,), 1e30)
    optimizer.step()
    assert torch.equal(p, torch.full((3,), -1e30))


def test_complex_gradients_are_looked_at_too():
    p = nn.Parameter(torch.zeros(2, dtype=torch.complex64))
    optimizer = Composite([torch.optim.SGD([p], lr=1.0)])
    p.grad = torch.tensor([1.0, 2.0j])
    optimizer.step()
    assert torch.equal(p, -p.grad)
    p.grad[0] = complex(0.0, math.nan)
    with pytest.raises(ValueError, match="must be finite"):
        optimizer.step()


def fail(*_):
    raise RuntimeError("in a hook")


# ---- children that fail -----------------------------------------------------------------------------------


def build(kinds):
    """A composite of children of these kinds, each with matrices of its own, and all parameters."""
    groups = [parameters(seed=k, shapes=[(3, 2), (2, 2)]) for k in range(len(kinds))]
    children = [kind(group, lr=0.1) for kind, group in zip(kinds, groups, strict=True)]
    return [p for group in groups for p in group], Composite(children)


KINDS = st.lists(st.sampled_from([FISMO, SOFIM, torch.optim.AdamW, torch.optim.SGD]), max_size=3)


@given(before=KINDS, after=KINDS, steps=st.integers(0, 2), kind=st.sampled_from([Faulty, Subclass]))
def test_whichever_child_fails_everything_is_put_back(before, after, steps, kind):
    params, optimizer = build([*before, kind, *after])
    run(optimizer, params, steps)
    give_gradients(params)
    start, objects = everything(optimizer), identities(optimizer)
    faulty = optimizer.optimizers[len(before)]
    faulty.fault = RuntimeError("out of memory")
    with pytest.raises(RuntimeError, match="out of memory") as raised:
        optimizer.step()
    note = f"raised in the step of optimizer {len(before)} ({kind.__name__}); nothing was changed"
    assert raised.value.__notes__ == [note]
    assert same(everything(optimizer), start)
    assert identities(optimizer) == objects
    faulty.fault = None
    optimizer.step()
    assert not any(map(torch.equal, params, start[0][0]))


def test_the_control_without_rollback_is_left_half_way():
    params = parameters(shapes=SHAPES)
    faulty = Faulty(params[2:])
    optimizer = Composite([torch.optim.SGD(params[:2], lr=1.0), faulty], rollback=False)
    give_gradients(params)
    before = photograph(optimizer)[0]
    faulty.fault = RuntimeError("out of memory")
    with pytest.raises(RuntimeError) as raised:
        optimizer.step()
    assert "those before it have stepped (rollback=False)" in raised.value.__notes__[0]
    assert not any(map(torch.equal, params, before))


def test_interruptions_are_rolled_back_as_well():
    params = parameters(shapes=SHAPES)
    faulty = Faulty(params[2:])
    optimizer = Composite([faulty, torch.optim.SGD(params[:2], lr=1.0)])
    give_gradients(params)
    before = everything(optimizer)
    faulty.fault = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        optimizer.step()
    assert same(everything(optimizer), before)


def test_a_singular_factor_of_fismo_undoes_the_step_of_adamw():
    params, optimizer = pair()
    optimizer.param_groups[0].update(mu=0.0, gamma=0.0)  # the first gradient of rank 1 is then singular
    give_gradients(params)
    params[0].grad.copy_(torch.ones(3, 4))
    before = everything(optimizer)
    with pytest.raises(ValueError, match="nothing was changed"):
        optimizer.step()
    assert same(everything(optimizer), before)
    assert not optimizer.state


def test_a_gradient_adamw_cannot_take_undoes_what_went_before():
    params = parameters(shapes=SHAPES)
    optimizer = Composite([torch.optim.SGD(params[:2], lr=0.1), torch.optim.AdamW(params[2:])])
    give_gradients(params)
    params[3].grad = params[3].grad.to_sparse()
    before = [p.detach().clone() for p in params]
    with pytest.raises(RuntimeError, match="sparse"):
        optimizer.step()
    assert all(map(torch.equal, params, before))
    assert not optimizer.state


def measured(small):
    """A model whose parameters are AdaFisher's up to `small`, then FISMO's; AdamW's are the biases."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(4))).double()
    weights, biases = [layer.weight for layer in model], [layer.bias for layer in model]
    children = [AdaFisher(model, params=weights[:small], lr=1e-3), FISMO(weights[small:]), Faulty(biases)]
    return model, Composite(children)


@pytest.mark.parametrize("small", [1, 3])  # the fewer are copied, the more step last
@pytest.mark.parametrize("steps", [0, 1])
def test_measurements_of_adafisher_survive_a_step_that_is_rolled_back(small, steps, copies):
    model, optimizer = measured(small)
    twin, other = measured(small)

    def backward(net):
        net(torch.linspace(-1.0, 2.0, 12, dtype=torch.float64).view(3, 4)).square().sum().backward()

    for _ in range(steps):
        for net, each in ((model, optimizer), (twin, other)):
            each.zero_grad()
            backward(net)
            each.step()
    for net in (model, twin):
        net.zero_grad()
        backward(net)
    before = everything(optimizer)
    last = optimizer.optimizers[1 if small == 1 else 0]
    handle = last.register_step_pre_hook(fail)
    copies.clear()
    with pytest.raises(RuntimeError, match="in a hook"):
        optimizer.step()
    handle.remove()
    assert [name for name, _ in copies] == (["AdaFisher", "Faulty"] if small == 1 else ["FISMO", "Faulty"])
    assert same(everything(optimizer), before)
    optimizer.step()
    other.step()
    assert same(everything(optimizer), everything(other))


def test_a_hook_of_the_child_that_steps_last_may_fail():
    params, optimizer = pair()
    run(optimizer, params, 1)
    give_gradients(params)
    before = everything(optimizer)

    for register in (
        optimizer.optimizers[0].register_step_pre_hook,
        optimizer.optimizers[0].register_step_post_hook,
    ):
        handle = register(fail)
        with pytest.raises(RuntimeError, match="in a hook"):
            optimizer.step()
        handle.remove()
        assert same(everything(optimizer), before)


# ---- what it costs ----------------------------------------------------------------------------------------


def test_the_cost_is_one_copy_of_adamws_parameters_and_state(copies):
    params, optimizer = pair(dtype=torch.float32)
    run(optimizer, params, 1)
    copies.clear()
    run(optimizer, params, 1)
    numbers = sum(p.numel() for p in params[2:])
    counts = sum(optimizer.state[p]["step"].nbytes for p in params[2:])
    assert copies == [("AdamW", 3 * 4 * numbers + counts)]  # the parameter and two averages, in float32


def test_the_largest_of_ours_steps_last_and_is_not_copied(copies):
    small, large, rest = (parameters(seed=k, shapes=[(k, k)]) for k in (2, 5, 9))
    optimizer = Composite([FISMO(large), SOFIM(small), torch.optim.SGD(rest)])
    run(optimizer, [*small, *large, *rest], 1)
    assert [name for name, _ in copies] == ["SOFIM", "SGD"]


def test_without_rollback_nothing_is_copied(copies):
    params = parameters(shapes=SHAPES)
    run(composite(params, rollback=False), params, 2)
    assert copies == []


@pytest.mark.parametrize("where", ["inside", "outside"])
def test_a_composite_within_a_composite_is_rolled_back(where):
    params = parameters(shapes=[(3, 2)] * 4)
    inside, outside = Faulty(params[1:2]), Faulty(params[2:3])
    inner = Composite([FISMO(params[:1]), inside], rollback=False)
    optimizer = Composite([inner, outside, SOFIM(params[3:])])
    run(optimizer, params, 2)
    give_gradients(params)
    before, objects = everything(optimizer), vars(inside)["history"]
    (inside if where == "inside" else outside).fault = RuntimeError("out of memory")
    with pytest.raises(RuntimeError, match="out of memory"):
        optimizer.step()
    assert same(everything(optimizer), before)
    assert inside.history is objects
    assert same(inside.history, [torch.zeros(2)])
