"""GPT-2 124M itself: built, differentiated and stepped once by each of the three optimizers, on the CPU.

By far the largest model of the test suite: it takes 3 GB and, for eigenproblems of side 2304, some seconds.
On a GPU the whole of it is trained for a few steps.
"""

from itertools import islice

import numpy as np
import pytest
import torch

from benchmarks.train import metrics
from benchmarks.train.models import gpt2
from benchmarks.train.models.gpt import GPT2_VOCABULARY
from benchmarks.train.tasks import task
from tests.benchmarks.published_files import write_tokens
from tests.gpu import demand_cuda
from torch_impl import FISMO, SOFIM
from torch_impl.optim.adafisher import AdaFisher

#: Tokens of the one short sequence.
LENGTH = 16


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    built = gpt2()
    yield built
    built.zero_grad(set_to_none=True)


@pytest.fixture
def batch():
    tokens = torch.randint(GPT2_VOCABULARY, (1, LENGTH + 1), generator=torch.Generator().manual_seed(0))
    return tokens[:, :-1], tokens[:, 1:]


def one_step(model, batch, optimizer, stepped):
    """Loss before and after one step; every parameter that is to be stepped has moved."""
    model.zero_grad(set_to_none=True)
    before = {p: p.detach().clone() for p in stepped}
    loss = metrics.loss(model, batch)
    loss.backward()
    optimizer.step()
    assert all(p.isfinite().all() for p in stepped)
    assert not [p.shape for p in stepped if torch.equal(p, before[p])]
    with torch.no_grad():
        return loss.item(), metrics.loss(model, batch).item()


def test_sofim_steps_all_124_million_parameters(model, batch):
    parameters = list(model.parameters())
    assert sum(p.numel() for p in parameters) == 124_439_808
    before, after = one_step(model, batch, SOFIM(parameters, lr=0.1), parameters)
    assert after < before


def test_adafisher_steps_all_124_million_parameters(model, batch):
    optimizer = AdaFisher(model, lr=1e-3)
    try:
        before, after = one_step(model, batch, optimizer, list(model.parameters()))
    finally:
        optimizer.remove_hooks()
    assert after < before


def test_fismo_steps_the_attention_of_one_block(model, batch):
    attention = model.blocks[0].attention
    matrices = [attention.inputs.weight, attention.output.weight]
    before, after = one_step(model, batch, FISMO(matrices, lr=1e-3), matrices)
    assert after < before


@pytest.mark.gpu
def test_the_full_token_task_trains_gpt2_on_a_gpu(tmp_path):
    device = demand_cuda()
    rng = np.random.default_rng(0)
    write_tokens(tmp_path, **{part: rng.integers(100, size=3000) for part in ("train", "val", "test")})
    full = task("tokens", size="full", data_dir=tmp_path)
    torch.manual_seed(0)
    model = full.model().to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    before = full.evaluate(model)["loss"]
    for inputs, targets in islice(full.batches(torch.Generator().manual_seed(0)), 5):
        optimizer.zero_grad()
        loss = full.loss(model, (inputs[:2], targets[:2]))
        assert loss.device.type == device.type
        loss.backward()
        optimizer.step()
    assert full.evaluate(model)["loss"] < before  # at least that only 100 of the tokens occur
