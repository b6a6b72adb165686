"""When AdaFisher measures a layer, and when it does not: every call that a gradient passes through, once."""

import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from proofs_checks.ratios import recursion, unit_roundoff
from tests.torch_impl.cases import array
from tests.torch_impl.optimizer_cases import same
from torch_impl.optim.adafisher import AdaFisher

BLOCKS = {
    "plain": lambda block, x: block(x),
    "checkpointed": partial(checkpoint, use_reentrant=False),
    "checkpointed, reentrant": partial(checkpoint, use_reentrant=True),
}


def network(inplace=False, dtype=torch.float64):
    torch.manual_seed(0)
    block = nn.Sequential(nn.Linear(5, 6), nn.ReLU(inplace=inplace), nn.LayerNorm(6), nn.Linear(6, 5))
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), block, nn.Linear(5, 3)).to(dtype)


def inputs(seed=0, rows=7, dtype=torch.float64):
    return torch.randn(rows, 4, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def train(model, optimizer, forward=None, steps=2):
    forward = forward or model
    for k in range(steps):
        optimizer.zero_grad()
        forward(inputs(k)).square().sum().backward()
        optimizer.step()
    return [p.detach().clone() for p in model.parameters()], optimizer.state_dict()


def plain():
    model = network()
    return train(model, AdaFisher(model))


def measured(optimizer, parameter):
    state = optimizer.state[parameter]
    return state["h_D"], state["s_D"]


@pytest.mark.parametrize("run", BLOCKS.values(), ids=BLOCKS)
def test_a_checkpointed_call_counts_once(run):
    model = network()
    optimizer = AdaFisher(model)
    rows = []
    add = optimizer._measurements.add

    def spy(site, h, s):
        rows.append((site, h.rows))
        add(site, h, s)

    optimizer._measurements.add = spy
    result = train(model, optimizer, lambda x: model[3](run(model[2], model[1](model[0](x)))))
    assert sorted(rows) == sorted((site, 7) for site in range(5) for _ in range(2))
    assert same(result, plain())


def test_an_activation_in_place_leaves_the_gradient_of_the_layer():
    model = network(inplace=True)
    assert same(train(model, AdaFisher(model)), plain())


def test_an_output_changed_in_place_through_a_view_leaves_the_gradient_of_the_layer():
    def forward(model, x, *, inplace):
        y = model[0](x)
        if inplace:
            y.view(-1).mul_(2.0)
        else:
            y = y * 2.0
        return y.sin()

    states = []
    for inplace in (True, False):
        model = network()[:1]
        optimizer = AdaFisher(model)
        states.append(train(model, optimizer, partial(forward, model, inplace=inplace)))
    assert same(*states)


def test_an_input_changed_in_place_after_the_call_was_measured_before():
    factors = []
    for inplace in (True, False):
        torch.manual_seed(0)
        layer = nn.Linear(4, 3).double()
        layer.weight.requires_grad_(False)  # otherwise PyTorch forbids the change
        optimizer = AdaFisher(layer)
        x = inputs().clone()
        y = layer(x)
        if inplace:
            x.mul_(100.0)
        y.square().sum().backward()
        optimizer.step()
        factors.append(measured(optimizer, layer.bias))
    assert same(*factors)


def test_another_hook_may_replace_the_output():
    model, other = network(), network()
    model[0].register_forward_hook(lambda module, args, output: output * 2.0)
    expected = train(other, AdaFisher(other), lambda x: other[1:](other[0](x) * 2.0))
    assert same(train(model, AdaFisher(model)), expected)


def pooled_run(split):
    model = network()
    optimizer = AdaFisher(model, lam=0.125)
    split(model)
    optimizer.step()
    return optimizer


def test_accumulated_gradients_are_one_batch():
    def at_once(model):
        model(inputs(rows=8)).square().sum().backward()

    def in_two(model):
        for part in inputs(rows=8).split((3, 5)):
            model(part).square().sum().backward()

    def twice_called(model):
        sum(model(part).square().sum() for part in inputs(rows=8).split((3, 5))).backward()

    whole = pooled_run(at_once)
    for other in map(pooled_run, (in_two, twice_called)):
        for p, q in zip(whole.param_groups[0]["params"], other.param_groups[0]["params"], strict=True):
            for a, b in zip(measured(whole, p), measured(other, q), strict=True):
                want = array(a)
                # The gradients themselves are sums of other orders; all terms are squares.
                ratio = recursion(array(b), want, want, operations=64, u=unit_roundoff("float64"))
                assert ratio.passed, ratio


def test_a_step_uses_up_its_measurements_and_zero_grad_drops_them():
    model = network()
    optimizer = AdaFisher(model)
    model(inputs(5)).square().sum().backward()
    assert len(optimizer._measurements.pending) == 5
    optimizer.zero_grad()
    assert not optimizer._measurements.pending
    assert same(train(model, optimizer), plain())
    assert not optimizer._measurements.pending


def without_gradient(model):
    with torch.no_grad():
        model(inputs(8))


def without_backward(model):
    model(inputs(8)).sum()


def through_a_transform(model):
    parameters = dict(model.named_parameters())
    torch.func.grad(lambda p: torch.func.functional_call(model, p, inputs(8)).sum())(parameters)
    torch.func.vmap(model)(inputs(8))


@pytest.mark.parametrize("call", [without_gradient, without_backward, through_a_transform])
def test_what_sends_no_gradient_back_leaves_nothing(call):
    model = network()
    optimizer = AdaFisher(model)
    call(model)
    assert not optimizer._measurements.pending
    assert same(train(model, optimizer), plain())


def test_a_functional_call_of_other_parameters_moves_nothing():
    model = network()
    optimizer = AdaFisher(model)
    before = copy.deepcopy(model.state_dict())
    others = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    torch.func.functional_call(model, others, inputs()).sum().backward()
    optimizer.step()
    assert same(model.state_dict(), before)
    assert not optimizer.state
    assert same(train(model, optimizer), plain())


def test_a_functional_call_of_its_own_parameters_is_a_call():
    model = network()
    own = dict(model.named_parameters())
    result = train(model, AdaFisher(model), lambda x: torch.func.functional_call(model, own, x))
    assert same(result, plain())


def test_a_graph_kept_for_a_second_pass_is_the_same_batch_again():
    once, twice = network(), network()
    first, second = AdaFisher(once), AdaFisher(twice)
    once(inputs()).square().sum().backward()
    loss = twice(inputs()).square().sum()
    loss.backward(retain_graph=True)
    loss.backward()
    first.step(), second.step()
    for p, q in zip(once.parameters(), twice.parameters(), strict=True):
        assert same(measured(first, p), measured(second, q))


def test_a_gradient_of_a_gradient_reaches_the_parameters():
    model = network()
    optimizer = AdaFisher(model)
    x = inputs().requires_grad_()
    (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
    slope.square().sum().backward()
    before = [p.detach().clone() for p in model.parameters()]
    moved = [p.grad is not None and bool(p.grad.any()) for p in model.parameters()]
    optimizer.step()
    after = list(model.parameters())
    assert any(moved)
    assert [not torch.equal(a, b) for a, b in zip(before, after, strict=True)] == moved


def test_a_layer_that_is_skipped_keeps_its_factors():
    model = network()
    optimizer = AdaFisher(model)
    train(model, optimizer, steps=1)
    kept = copy.deepcopy(optimizer.state[model[2][0].weight])
    optimizer.zero_grad()
    model[3](model[1](model[0](inputs(3)))).sum().backward()
    optimizer.step()
    assert same(optimizer.state[model[2][0].weight], kept)
    assert int(optimizer.state[model[0].weight]["refreshes"]) == 2
    train(model, optimizer, steps=1)
    assert int(optimizer.state[model[2][0].weight]["refreshes"]) == 2


def test_a_frozen_layer_is_not_measured():
    model = network()
    model[2].requires_grad_(False)
    optimizer = AdaFisher(model)
    assert [len(m._forward_hooks) for m in (model[0], model[2][0], model[2][2], model[3])] == [1, 0, 0, 1]
    before = copy.deepcopy(model[2].state_dict())
    train(model, optimizer)
    assert same(model[2].state_dict(), before)
    assert len(optimizer.state) == 4


def test_batch_norm_takes_the_statistics_that_the_forward_used():
    x = inputs(rows=16) * torch.tensor([0.5, 1.0, 2.0, 4.0])
    found = {}
    for train_mode in (True, False):
        layer = nn.BatchNorm1d(4, eps=0.25).double().train(train_mode)
        optimizer = AdaFisher(layer)
        layer(x).square().sum().backward()
        optimizer.step()
        found[train_mode] = measured(optimizer, layer.weight)[0]
    v = x.var(0, correction=0)
    wanted = {True: v / (v + 0.25), False: x.square().mean(0) / 1.25}
    for mode, want in wanted.items():
        want = array(want)
        # A variance of 16 numbers, spread over a mean of about its own root.
        ratio = recursion(array(found[mode]), want, want, operations=64, u=unit_roundoff("float64"))
        assert ratio.passed, ratio


def test_refresh_measures_on_the_steps_that_refresh_and_costs_nothing_between():
    model = network()
    optimizer = AdaFisher(model, 1e-5, refresh=3)
    counts = []
    for k in range(7):
        optimizer.zero_grad()
        model(inputs(k)).square().sum().backward()
        counts.append(len(optimizer._measurements.pending))
        optimizer.step()
    assert counts == [5, 0, 0, 5, 0, 0, 5]
    assert all(int(optimizer.state[p]["refreshes"]) == 3 for p in model.parameters())


def test_the_scale_of_a_scaler_is_divided_out():
    factors = []
    for scaler in (None, torch.amp.GradScaler("cpu", init_scale=2.0**10)):
        model = network()
        optimizer = AdaFisher(model, scaler=scaler)
        loss = model(inputs()).square().sum()
        (loss if scaler is None else scaler.scale(loss)).backward()
        pending = optimizer._measurements.pending
        factors.append({site: tuple(pending[site]) for site in sorted(pending)})
    assert same(*factors), "a power of two divides out exactly"


def test_autocast_measures_what_the_layers_saw():
    model = network(dtype=torch.float32)
    optimizer = AdaFisher(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(inputs(dtype=torch.float32)).square().sum()
    loss.backward()
    optimizer.step()
    for p in model.parameters():
        h_D, s_D = measured(optimizer, p)
        assert h_D.dtype == s_D.dtype == torch.float32
        assert bool(p.isfinite().all())
        assert bool(s_D.any())


def test_an_input_may_come_by_name():
    layers = [nn.Linear(4, 3).double() for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    optimizers = list(map(AdaFisher, layers))
    layers[0](inputs()).square().sum().backward()
    layers[1](input=inputs()).square().sum().backward()
    for optimizer in optimizers:
        optimizer.step()
    assert same(layers[0].state_dict(), layers[1].state_dict())


def test_an_empty_batch_is_no_measurement():
    model = network()
    optimizer = AdaFisher(model)
    model(inputs(rows=0)).sum().backward()
    assert not optimizer._measurements.pending
    before = copy.deepcopy(model.state_dict())
    optimizer.step()
    assert same(model.state_dict(), before)
