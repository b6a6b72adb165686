"""What people do with a distributed model besides stepping: clip, accumulate, compute in bfloat16."""

import warnings

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

from proofs_checks.ratios import Ratio, unit_roundoff, yes_no
from tests.torch_impl.distributed import budgets, layouts
from tests.torch_impl.distributed.chain import Chain, batch, loss_of
from tests.torch_impl.distributed.steps import (
    KINDS,
    failures,
    new_optimizer,
    replicas_equal,
    steps_apart,
    whole,
)

STEPS = range(3)

#: Below the norm of every gradient of the chain's first steps, so that every step is clipped.
NORM = 0.05


def clipped(layout, kind):
    """Ratios, and the norms that clipping found, of one process with them."""
    norms = []

    def clip(params):
        norms.append(float(whole(torch.nn.utils.clip_grad_norm_(params, NORM))))

    return steps_apart(kind, layouts.build(layout)._replace(clip=clip), STEPS), min(norms)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", ["FSDP", "tensor parallel", "copies"])
def test_clipped_gradients_step_as_in_one_process(world, layout, kind):
    for ratios, smallest in world(2).run(clipped, layout, kind):
        assert smallest > NORM, "not every step was clipped"
        assert not failures(ratios)


def compiled(layout):
    """Steps of SOFIM through `torch.compile`, judged on the device."""
    run = layouts.build(layout)
    optimizer = new_optimizer("SOFIM", run.model, nonfinite="skip")
    optimizer.step = torch.compile(optimizer.step, backend="eager")
    with warnings.catch_warnings():
        # Of modules that the compiler imports when it is first used.
        warnings.filterwarnings("ignore", message=r"`torch.jit.script(_method)?` is deprecated")
        return steps_apart("SOFIM", run, STEPS, optimizer)


@pytest.mark.parametrize("layout", ["DDP", "FSDP"])
def test_a_compiled_step_is_that_of_one_process(world, layout):
    for ratios in world(2).run(compiled, layout):
        assert not failures(ratios)


def accumulate(called, x, t):
    """Two halves of the rows; processes talk in the second only."""
    first, second = (slice(0, len(x) // 2), slice(len(x) // 2, None))
    if isinstance(called, DistributedDataParallel):
        with called.no_sync():
            (loss_of(called, x[first], t[first]) / 2).backward()
    else:
        called.set_requires_gradient_sync(False)
        (loss_of(called, x[first], t[first]) / 2).backward()
        called.set_requires_gradient_sync(True)
    (loss_of(called, x[second], t[second]) / 2).backward()


def accumulated(layout, kind):
    return steps_apart(kind, layouts.build(layout)._replace(backward=accumulate), STEPS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", ["DDP", "FSDP"])
def test_accumulated_gradients_step_as_in_one_process(world, layout, kind):
    for ratios in world(2).run(accumulated, layout, kind):
        assert not failures(ratios)


def in_bfloat16(kind):
    """FSDP2 that computes in bfloat16; beside it plain float32 parameters with the gradients it came to."""
    model = Chain().float()
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    fully_shard(model, mesh=init_device_mesh("cpu", (dist.get_world_size(),)), mp_policy=policy)
    optimizer = new_optimizer(kind, model)
    params, plain = list(model.parameters()), nn.ParameterList(whole(p) for p in model.parameters())
    beside = new_optimizer(kind, plain) if kind != "AdaFisher" else None
    rows = layouts.my_rows(dist.get_rank(), dist.get_world_size())
    ratios = []
    for step in STEPS:
        x, t = (values[rows].float() for values in batch(step))
        model.zero_grad()
        loss_of(model, x, t).backward()
        for p, q in zip(params, plain, strict=True):
            q.data, q.grad = whole(p), whole(p.grad)
        optimizer.step()
        if beside is not None:
            beside.step()
            ratios += beside_plain(kind, params, plain, beside)
    floats = [*params, *(p.grad for p in params)]
    floats += [x for p in params for x in optimizer.state.get(p, {}).values() if x.ndim]
    ratios.append(yes_no("everything is float32", {x.dtype for x in floats} == {torch.float32}))
    ratios.append(yes_no("all processes agree", replicas_equal([whole(p) for p in params])))
    return ratios


def beside_plain(kind, params, plain, optimizer):
    """FISMO computes whole matrices and is bitwise equal; SOFIM's norm is a sum in another order."""
    pairs = [(whole(p), q.detach()) for p, q in zip(params, plain, strict=True)]
    if kind == "FISMO":
        return [
            yes_no("FISMO is bitwise that of plain parameters", all(torch.equal(*pair) for pair in pairs))
        ]
    u = unit_roundoff("float32")
    states = [optimizer.state[q] for q in plain]
    group = optimizer.param_groups[0]
    longest = group["lr"] / (2.0 * group["rho"] ** 0.5)
    budget = budgets.sofim_step(group, [0.0], states, u=u)
    return [Ratio("SOFIM", float((p - q).norm()), budget + budgets.stored(q, longest, u=u)) for p, q in pairs]


@pytest.mark.parametrize("kind", KINDS)
def test_mixed_precision_of_fsdp_steps_float32_parameters(world, kind):
    for ratios in world(2).run(in_bfloat16, kind):
        assert not failures(ratios)
