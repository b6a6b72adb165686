"""Replicas under DistributedDataParallel stay bitwise equal, whatever layers and options there are."""

from unittest import mock

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from tests.torch_impl.distributed.steps import replicas_equal
from torch_impl import FISMO, SOFIM
from torch_impl.optim import sharding
from torch_impl.optim.adafisher import AdaFisher, AdaFisherW
from torch_impl.optim.composite import Composite

STEPS = 4


class Varied(nn.Module):
    """Every kind of layer that AdaFisher measures in its own way; a head that shares the table's weights."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.table = nn.Embedding(7, 6)
        self.convolution = nn.Conv2d(2, 4, 3, padding=1, groups=2)
        self.groups = nn.GroupNorm(2, 4)
        self.inner = nn.Linear(36, 6, bias=False)  # which the next layer would take out again
        self.batches = nn.BatchNorm1d(6)
        self.rows = nn.LayerNorm(6)
        self.head = nn.Linear(6, 7, bias=False)
        self.head.weight = self.table.weight
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=generator) / 2.0)

    def forward(self, image, token):
        features = self.groups(self.convolution(image)).flatten(1)
        return self.head(self.rows(self.batches(self.inner(features))) + self.table(token))


def matrices(model):
    return [p for p in model.parameters() if p.ndim > 1]


def vectors(model):
    return [p for p in model.parameters() if p.ndim == 1]


OPTIMIZERS = {
    "FISMO": lambda model: FISMO(matrices(model), lr=0.02, reshape=True, weight_decay=0.1),
    "FISMO, roots kept": lambda model: FISMO(matrices(model), lr=0.02, reshape=True, refresh=3),
    "FISMO, fast": lambda model: FISMO(matrices(model), lr=0.02, reshape=True, orthogonalize="polar-express"),
    "SOFIM": lambda model: SOFIM(model.parameters(), weight_decay=0.1),
    "SOFIM by parameter": lambda model: SOFIM(model.parameters(), scope="parameter"),
    "AdaFisher": lambda model: AdaFisher(model),
    "AdaFisher of the wrapper": lambda model: AdaFisher(DistributedDataParallel(model)),
    "AdaFisherW, measuring now and then": lambda model: AdaFisherW(model, refresh=3),
    "AdaFisher, released": lambda model: AdaFisher(model, averaging="released"),
    "Composite": lambda model: Composite(
        [FISMO(matrices(model), reshape=True), torch.optim.AdamW(vectors(model))]
    ),
}


def trained(name):
    """Parameters and state after some steps, each process with data of its own."""
    model = Varied()
    optimizer = OPTIMIZERS[name](model)
    wrapper = optimizer.model if name == "AdaFisher of the wrapper" else DistributedDataParallel(model)
    start = [p.detach().clone() for p in model.parameters()]
    generator = torch.Generator().manual_seed(dist.get_rank())
    for _ in range(STEPS):
        image = torch.randn(8, 2, 3, 3, generator=generator)
        token = torch.randint(7, (8,), generator=generator)
        target = torch.randint(7, (8,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(wrapper(image, token), target).backward()
        optimizer.step()
    stepped = [(p, old) for p, old in zip(model.parameters(), start, strict=True) if p in optimizer.state]
    state = [value for p, _ in stepped for value in optimizer.state[p].values()]
    return model, state, all(not torch.equal(p, old) for p, old in stepped)


def equal_after_training(name):
    model, state, moved = trained(name)
    finite = all(bool(x.isfinite().all()) for x in model.parameters())
    return replicas_equal(list(model.parameters())), replicas_equal(state), moved, finite


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_replicas_stay_bitwise_equal_in_parameters_and_state(world, size, name):
    assert world(size).run(equal_after_training, name) == [(True, True, True, True)] * size


def without_pooling():
    with mock.patch.object(sharding, "pool", lambda buffer, group: buffer):
        return equal_after_training("AdaFisher")[:2]


def test_replicas_of_adafisher_diverge_where_measurements_are_not_pooled(world):
    assert world(2).run(without_pooling) == [(False, False)] * 2


def pooled_in_pairs():
    """Plain parameters, no wrapper, and data of its own for each process: which factors are then equal."""
    pairs, _ = dist.new_subgroups(group_size=2)
    model = Varied()
    optimizer = AdaFisher(model, process_group=pairs)
    generator = torch.Generator().manual_seed(dist.get_rank())
    image = torch.randn(8, 2, 3, 3, generator=generator)
    token = torch.randint(7, (8,), generator=generator)
    model(image, token).square().sum().backward()
    optimizer.step()
    state = optimizer.state[model.inner.weight]
    mine = torch.cat([state["h_D"], state["s_D"]])
    everyone = [torch.empty_like(mine) for _ in range(4)]
    dist.all_gather(everyone, mine)
    first, second, third, fourth = everyone
    return torch.equal(first, second), torch.equal(third, fourth), torch.equal(first, third)


def test_a_process_group_bounds_what_is_pooled(world):
    assert world(4).run(pooled_in_pairs) == [(True, True, False)] * 4
