"""The main checks again over NCCL, with as many processes as there are GPUs, one if there is one."""

import pytest
import torch
from torch.distributed.tensor.debug import CommDebugMode

from tests.gpu import demand_cuda
from tests.torch_impl.distributed.layouts import build
from tests.torch_impl.distributed.steps import (
    KINDS,
    failures,
    new_optimizer,
    one_backward,
    steps_apart,
    whole,
)
from tests.torch_impl.optimizer_cases import same

pytestmark = pytest.mark.gpu

STEPS = range(3)

#: The chain is worked out for at most four shares of its rows.
MOST = 4

LAYOUTS = ["DDP", "FSDP", "rows", "columns", "copies", "tensor parallel"]


@pytest.fixture
def gpus(world):
    """A world with a process for each GPU; of 2 or 4 where there are several, since rows have to divide."""
    demand_cuda()
    count = min(torch.cuda.device_count(), MOST)
    return world(count - count % 2 if count > 1 else 1, backend="nccl")


def beside_one_process(layout, kind):
    return steps_apart(kind, build(layout, "cuda"), STEPS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_step_is_that_of_one_process_with_the_joined_batch(gpus, layout, kind):
    for ratios in gpus.run(beside_one_process, layout, kind):
        assert ratios
        assert not failures(ratios)


def skipped(kind):
    """A step with a NaN, judged on the device; then a good one."""
    run = build("FSDP", "cuda")
    optimizer = new_optimizer(kind, run.model, nonfinite="skip", capturable=True)
    start = [whole(p) for p in run.model.parameters()]
    one_backward(run, 0)
    run.model.second.weight.grad.to_local().fill_(float("nan"))
    with CommDebugMode() as messages:
        optimizer.step()
    unchanged = same(start, [whole(p) for p in run.model.parameters()])
    optimizer.zero_grad()
    one_backward(run, 0)
    optimizer.step()
    moved = not same(start, [whole(p) for p in run.model.parameters()])
    return unchanged, moved, messages.get_total_counts() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_that_is_not_finite_is_skipped_on_the_device(gpus, kind):
    assert set(gpus.run(skipped, kind)) == {(True, True, True)}
