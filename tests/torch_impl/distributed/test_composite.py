"""A composite over FSDP2's shards: what its children do apart, one verdict everywhere, and the way back."""

import math

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from tests.torch_impl.composite_cases import Faulty
from tests.torch_impl.optimizer_cases import same
from torch_impl import FISMO
from torch_impl.optim.composite import Composite
from torch_impl.optim.sharding import local
from torch_impl.split import split_parameters


def sharded(**options):
    """A sharded network, and FISMO and AdamW for it."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 6), nn.Linear(6, 3)).double()
    fully_shard(model, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    split = split_parameters(model, verbose=False)
    children = [FISMO(split.matrices, lr=0.05), Faulty(split.others, lr=0.01)]
    return model, children, Composite(children, **options)


def backward(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    model.zero_grad()
    model(torch.randn(5, 4, generator=generator).double()).square().sum().backward()


def shards(model, optimizer):
    """Everything of this process, copied."""
    states = [
        {name: local(value).clone() for name, value in state.items()} for state in optimizer.state.values()
    ]
    return [local(p.detach()).clone() for p in model.parameters()], states


def stepped():
    """Whether a composite and its children apart end in the same place."""
    model, _, optimizer = sharded()
    twin, children, _ = sharded()
    for seed in range(3):
        for net, steps in ((model, [optimizer]), (twin, children)):
            backward(net, seed)
            for each in steps:
                each.step()
    return same(shards(model, optimizer)[0], shards(twin, optimizer)[0]), len(optimizer.state)


def refused(nonfinite):
    """With a NaN in the shard of the last process: whether this one refused, and changed nothing."""
    model, _, optimizer = sharded(nonfinite=nonfinite)
    backward(model)
    optimizer.step()
    backward(model)
    if dist.get_rank() == dist.get_world_size() - 1:
        local(model[1].weight.grad)[0] = math.nan
    before, error = shards(model, optimizer), None
    try:
        optimizer.step()
    except ValueError as raised:
        error = str(raised)
    unchanged = same(shards(model, optimizer), before)
    backward(model)
    optimizer.step()
    return error, unchanged, same(shards(model, optimizer), before)


def rolled_back():
    """Whether a child that fails leaves this process's shards as they were."""
    model, children, optimizer = sharded()
    backward(model)
    optimizer.step()
    before = shards(model, optimizer)
    children[1].fault = RuntimeError("out of memory")
    try:
        optimizer.step()
    except RuntimeError as raised:
        return str(raised), same(shards(model, optimizer), before)


def resumed():
    """Whether a whole checkpoint, gathered and spread again, continues bit for bit."""
    whole = StateDictOptions(full_state_dict=True)
    model, _, optimizer = sharded()
    backward(model)
    optimizer.step()
    saved = get_optimizer_state_dict(model, optimizer, options=whole)
    twin, _, other = sharded()
    twin.load_state_dict(model.state_dict())
    set_optimizer_state_dict(twin, other, saved, options=whole)
    loaded = same(shards(twin, other), shards(model, optimizer))
    for net, each in ((model, optimizer), (twin, other)):
        backward(net, 1)
        each.step()
    return loaded, same(shards(twin, other), shards(model, optimizer))


def test_the_step_is_that_of_the_children(world):
    assert world(2).run(stepped) == [(True, 8)] * 2


def test_one_bad_entry_on_one_process_stops_all(world):
    (first, *changed), (last, *changed_too) = world(2).run(refused, "raise")
    assert first == last
    assert "the gradient of parameter 1 of group 0 (1.weight) of optimizer 1 (Faulty) must be finite" in first
    assert changed == changed_too == [True, False]
    assert world(2).run(refused, "skip") == [(None, True, False)] * 2


def test_a_failing_child_is_rolled_back_on_every_process(world):
    assert world(2).run(rolled_back) == [("out of memory", True)] * 2


def test_a_whole_checkpoint_continues(world):
    assert world(2).run(resumed) == [(True, True)] * 2
