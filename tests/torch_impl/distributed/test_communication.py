"""What a step sends and what a process keeps: as documented, counted."""

import pytest
import torch
import torch.distributed as dist
from torch.distributed.tensor.debug import CommDebugMode

from tests.torch_impl.distributed.chain import Chain, batch, loss_of
from tests.torch_impl.distributed.layouts import build
from tests.torch_impl.distributed.steps import KINDS, new_optimizer, one_backward
from torch_impl.optim import sharding

#: Messages of a step of the chain: two matrices and two vectors.
#: One all-reduce asks every process whether its inputs are finite. FISMO gathers each matrix, and asks a
#: second time for its results; SOFIM adds up a squared norm of each parameter in one all-reduce; AdaFisher
#: pools its measurements in one, on plain parameters too.
MESSAGES = {
    ("DDP", "FISMO"): 0,
    ("DDP", "SOFIM"): 0,
    ("DDP", "AdaFisher"): 1,
    ("FSDP", "FISMO"): 1 + 2 + 1,
    ("FSDP", "SOFIM"): 1 + 1,
    ("FSDP", "AdaFisher"): 1 + 1,
    ("tensor parallel", "FISMO"): 1 + 2 + 1,
    ("tensor parallel", "SOFIM"): 1 + 1,
    ("tensor parallel", "AdaFisher"): 1 + 1,
    ("copies", "FISMO"): 1 + 1,
    ("copies", "SOFIM"): 1,
    ("copies", "AdaFisher"): 1 + 1,
}


def messages_of_a_step(layout, kind):
    run = build(layout)
    optimizer = new_optimizer(kind, run.model)
    counts = []
    for step in range(2):
        one_backward(run, step)
        with CommDebugMode() as messages:
            optimizer.step()
        counts.append(messages.get_total_counts())
    return counts


@pytest.mark.parametrize(("layout", "kind"), MESSAGES, ids=lambda name: name)
def test_a_step_sends_as_many_messages_as_documented(world, layout, kind):
    expected = [MESSAGES[layout, kind]] * 2
    assert world(2).run(messages_of_a_step, layout, kind) == [expected] * 2


def messages_by_itself(kind):
    """Of a process that trains a model of its own while `torch.distributed` is initialised."""
    model = Chain()
    options = {"process_group": dist.new_subgroups(group_size=1)[0]} if kind == "AdaFisher" else {}
    optimizer = new_optimizer(kind, model, **options)
    for _ in range(dist.get_rank() + 1):  # and takes as many steps as it likes
        loss_of(model, *batch(0)).backward()
        with CommDebugMode() as messages:
            optimizer.step()
    return messages.get_total_counts()


@pytest.mark.parametrize("kind", KINDS)
def test_a_process_with_a_model_of_its_own_talks_to_nobody(world, kind):
    assert world(2).run(messages_by_itself, kind) == [0, 0]


def kept(kind):
    """Numbers in the state of this process, counts aside; and what the documentation says they are."""
    run = build("FSDP")
    optimizer = new_optimizer(kind, run.model)
    one_backward(run, 0)
    optimizer.step()
    numbers, formula = 0, 0
    for group in optimizer.param_groups:
        for p in group["params"]:
            state = optimizer.state[p]
            numbers += sum(sharding.local(x).numel() for x in state.values() if x.ndim)
            formula += expected_numbers(kind, p)
    return numbers, formula


def expected_numbers(kind, p):
    """FISMO keeps whole matrices everywhere, the others a shard of M, AdaFisher two whole vectors with it."""
    mine = p.to_local().numel()
    if kind == "FISMO":
        m, n = p.shape
        return m * m + n * n + m * n
    return mine + (factor_lengths(p) if kind == "AdaFisher" else 0)


def factor_lengths(p):
    """Of the layer's inputs, a constant one with them, and of its outputs."""
    inputs = {3: 5, 6: 3}[p.shape[0]]
    return inputs + 1 + p.shape[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_process_keeps_what_the_documentation_says(world, kind):
    answers = world(2).run(kept, kind)
    assert all(numbers == formula for numbers, formula in answers), answers
    assert torch.tensor(answers).min() > 0
