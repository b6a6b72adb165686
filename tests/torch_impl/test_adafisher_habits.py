"""AdaFisher at home in PyTorch's habits: closures, schedulers, learning rates as tensors, hooks of a step."""

import pytest
import torch
from torch import nn

from tests.torch_impl.optimizer_cases import same
from torch_impl import AdaFisher

LR = 1e-2


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 3)).double()


def loss(model):
    x = torch.linspace(-1.0, 1.0, 20, dtype=torch.float64).reshape(5, 4)
    return (model(x) - x[:, :3]).square().sum()


def train(model, optimizer, steps=3):
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model).backward()
        optimizer.step()


def trained(lr=LR, steps=3):
    model = network()
    train(model, AdaFisher(model, lr), steps)
    return model.state_dict()


def test_a_closure_is_evaluated_once_and_measured():
    model = network()
    optimizer = AdaFisher(model, LR)
    values = []

    def closure():
        optimizer.zero_grad()
        values.append(loss(model))
        values[-1].backward()
        return values[-1]

    returned = [optimizer.step(closure) for _ in range(3)]
    assert all(a is b for a, b in zip(returned, values, strict=True))
    assert same(dict(model.state_dict()), dict(trained()))


def test_a_closure_that_raises_changes_nothing():
    model = network()
    optimizer = AdaFisher(model, LR)
    train(model, optimizer)
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def closure():
        raise ArithmeticError("the model is out of order")

    with pytest.raises(ArithmeticError, match="out of order"):
        optimizer.step(closure)
    assert same(dict(model.state_dict()), before)


def test_a_learning_rate_as_a_tensor_is_the_number_it_holds():
    assert same(dict(trained(torch.tensor(LR, dtype=torch.float64))), dict(trained(LR)))


def test_a_scheduler_sets_the_step():
    model = network()
    optimizer = AdaFisher(model, 2 * LR)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5)
    train(model, optimizer)
    scheduler.step()
    assert same(dict(model.state_dict()), dict(trained()))


def test_hooks_of_a_step_are_called_around_it():
    model, seen = network(), []
    optimizer = AdaFisher(model, LR)
    weight = model[0].weight
    optimizer.register_step_pre_hook(lambda *_: seen.append(weight.detach().clone()))
    optimizer.register_step_post_hook(lambda *_: seen.append(weight.detach().clone()))
    train(model, optimizer, steps=1)
    before, after = seen
    assert not torch.equal(before, after)
    assert torch.equal(after, weight)


def test_maximize_climbs():
    down, up = network(), network()
    start = network().state_dict()
    train(down, AdaFisher(down, LR), steps=1)
    train(up, AdaFisher(up, LR, maximize=True), steps=1)
    moves = [
        (down.state_dict()[name] - value, up.state_dict()[name] - value) for name, value in start.items()
    ]
    assert all(bool(((a * b) <= 0).all()) for a, b in moves)
    assert any(bool((a != 0).any()) for a, _ in moves)
