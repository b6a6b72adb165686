"""A gradient that is not finite in one process: all refuse, or all skip, and nothing changes anywhere."""

import pytest
import torch
import torch.distributed as dist

from tests.torch_impl.distributed.layouts import build
from tests.torch_impl.distributed.steps import KINDS, new_optimizer, one_backward, whole
from tests.torch_impl.optimizer_cases import same
from torch_impl.optim import sharding

BAD = (float("nan"), float("inf"), -float("inf"))


def photograph(run, optimizer):
    """Parameters and state, whole; every process has to take part."""
    params = list(run.model.parameters())
    return [whole(p) for p in params], [whole(dict(optimizer.state.get(p, {}))) for p in params]


@torch.no_grad()
def spoil(run, culprit, value):
    """Plant a value in the shard that one process has of the second layer's gradient."""
    if dist.get_rank() == culprit:
        sharding.local(run.model.second.weight.grad).view(-1)[0] = value


def refused(layout, kind, culprit, before, options):
    """Messages, and whether anything changed, of a step spoilt after `before` good ones; then a good one."""
    run = build(layout)
    optimizer = new_optimizer(kind, run.model, **options)
    for step in range(before):
        one_backward(run, step)
        optimizer.step()
    messages, unchanged = [], []
    for value in BAD:
        one_backward(run, before)
        spoil(run, culprit, value)
        picture = photograph(run, optimizer)
        try:
            optimizer.step()
        except ValueError as error:
            messages.append(str(error))
        unchanged.append(_same_picture(picture, photograph(run, optimizer)))
        optimizer.zero_grad()
    picture = photograph(run, optimizer)
    one_backward(run, before)
    optimizer.step()
    steps = {int(optimizer.state[p]["step"]) for p in optimizer.param_groups[0]["params"]}
    went_on = not same(picture[0], photograph(run, optimizer)[0]) and steps == {before + 1}
    return messages, all(unchanged), went_on


def _same_picture(old, new):
    """Bitwise; a state that is created by a skipped step holds zero steps and stands for none."""
    parameters = same(old[0], new[0])
    states = all(same(a, b) or (not a and not float(b["step"])) for a, b in zip(old[1], new[1], strict=True))
    return parameters and states


@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("layout", "size"), [("FSDP", 2), ("FSDP", 4), ("FSDP in two copies", 4)])
def test_all_processes_refuse_what_one_of_them_refuses(world, layout, size, kind, before):
    for messages, unchanged, went_on in world(size).run(refused, layout, kind, 1, before, {}):
        assert len(messages) == len(BAD)
        assert all("the gradient of parameter" in message for message in messages), messages
        assert len(set(messages)) == 1, "all name one parameter"
        assert unchanged
        assert went_on


@pytest.mark.parametrize("capturable", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_all_processes_skip_what_one_of_them_skips(world, kind, capturable):
    options = {"nonfinite": "skip", "capturable": capturable}
    for messages, unchanged, went_on in world(2).run(refused, "FSDP", kind, 1, 1, options):
        assert messages == []
        assert unchanged
        assert went_on


def same_message_everywhere(layout, kind):
    run = build(layout)
    optimizer = new_optimizer(kind, run.model)
    one_backward(run, 0)
    spoil(run, 0, float("nan"))
    try:
        optimizer.step()
    except ValueError as error:
        return str(error)
    return None


@pytest.mark.parametrize("kind", KINDS)
def test_a_process_with_an_empty_shard_refuses_with_the_others(world, kind):
    """Of six rows over four processes, the last process has none."""
    messages = world(4).run(same_message_everywhere, "rows", kind)
    assert messages[0] is not None
    assert len(set(messages)) == 1


def spoilt_input():
    """An infinite input in one process: what it measured is not finite either, and both are pooled."""
    run = build("DDP")
    optimizer = new_optimizer("AdaFisher", run.model)
    x = torch.ones(2, 5, dtype=torch.float64)
    if dist.get_rank() == 1:
        x[0, 0] = float("inf")
    run.called(x).sum().backward()
    try:
        optimizer.step()
    except ValueError as error:
        return str(error)
    return None


def test_what_one_replica_measures_is_refused_by_all(world):
    messages = world(2).run(spoilt_input)
    assert messages[0] is not None
    assert "must be finite" in messages[0]
    assert len(set(messages)) == 1
