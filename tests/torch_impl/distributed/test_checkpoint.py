"""`torch.distributed.checkpoint`: saved by some processes, resumed by more or fewer as if nothing had been.

Every process sees the whole batch, so that gradients are means of equal numbers: exact for two and four
processes. Whatever the number of processes, FISMO, AdaFisher and AdamW then compute bitwise the same; SOFIM's
norm is summed in another order, for which each of its steps has a budget.
"""

import warnings

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from tests.torch_impl.distributed.chain import ROWS, Chain, batch
from tests.torch_impl.distributed.steps import Run, failures, new_optimizer, steps_apart, train, whole
from tests.torch_impl.optimizer_cases import same
from torch_impl.optim import sharding

KINDS = ("FISMO", "SOFIM", "AdaFisher", "Composite")

#: Steps before the checkpoint and after it.
BEFORE, AFTER = range(3), range(3, 6)

#: From how many processes to how many.
MOVES = [(4, 2), (4, 1), (2, 4), (4, 4)]


def start(kind, *, resumed, dtype=torch.float64):
    """A model of shards with its optimizer; one that is to be resumed starts from other numbers."""
    model = Chain().to(dtype)
    if resumed:
        with torch.no_grad():
            for p in model.parameters():
                p.zero_()
    if dist.is_initialized():
        mesh = init_device_mesh("cpu", (dist.get_world_size(),))
        for module in (model.first, model.second, model):
            fully_shard(module, mesh=mesh)
    return Run(model, model, slice(0, ROWS), 1), new_optimizer(kind, model)


def picture(run, optimizer):
    """Whole parameters and state as plain arrays with their dtypes, the same on every process."""
    params = list(run.model.parameters())
    values = [[whole(p)] + [whole(x) for _, x in sorted(optimizer.state.get(p, {}).items())] for p in params]
    return [[(str(x.dtype), x.double().numpy()) for x in each] for each in values]


def as_tensors(pictures):
    return [[(dtype, torch.from_numpy(x)) for dtype, x in each] for each in pictures]


def save(kind, directory):
    """Train, save and train on."""
    run, optimizer = start(kind, resumed=False)
    train(run, optimizer, BEFORE)
    model_state, optimizer_state = get_state_dict(run.model, optimizer)
    dcp.save({"model": model_state, "optimizer": optimizer_state}, checkpoint_id=directory)
    saved = picture(run, optimizer)
    train(run, optimizer, AFTER)
    return saved, picture(run, optimizer)


def load(run, optimizer, directory):
    """As torch's documentation has it: make a state, load into it, set it."""
    model_state, optimizer_state = get_state_dict(run.model, optimizer)
    states = {"model": model_state, "optimizer": optimizer_state}
    with warnings.catch_warnings():
        # Said of every load by one process without a process group, which is what is tested.
        warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninit")
        dcp.load(states, checkpoint_id=directory)
    set_state_dict(
        run.model, optimizer, model_state_dict=states["model"], optim_state_dict=states["optimizer"]
    )


def resume(kind, directory):
    """Load and train on; for SOFIM beside one process, step by step."""
    run, optimizer = start(kind, resumed=True)
    load(run, optimizer, directory)
    loaded = picture(run, optimizer)
    beside = []
    if kind == "SOFIM":
        beside = failures(steps_apart(kind, run, AFTER, optimizer))
    else:
        train(run, optimizer, AFTER)
    return loaded, picture(run, optimizer), beside


@pytest.fixture(scope="module")
def checkpoint(world, tmp_path_factory):
    """``checkpoint(kind, size)``: a saved run, made once: its directory, what was saved, and how it ended."""
    made = {}

    def of(kind, size):
        if (kind, size) not in made:
            directory = str(tmp_path_factory.mktemp("checkpoint"))
            (saved, ended), *others = world(size).run(save, kind, directory)
            assert all(same(as_tensors(saved), as_tensors(other)) for other, _ in others)
            made[kind, size] = directory, saved, ended
        return made[kind, size]

    return of


def check_resumed(checkpoint, kind, old, answers, *, bitwise):
    _, saved, ended = checkpoint(kind, old)
    for loaded, resumed, beside in answers:
        assert same(as_tensors(loaded), as_tensors(saved)), "what was loaded is not what was saved"
        assert not beside
        if bitwise:
            assert same(as_tensors(resumed), as_tensors(ended)), "the runs part after the checkpoint"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("old", "new"), MOVES)
def test_a_run_goes_on_over_another_number_of_processes(world, checkpoint, kind, old, new):
    answers = world(new).run(resume, kind, checkpoint(kind, old)[0])
    check_resumed(checkpoint, kind, old, answers, bitwise=kind != "SOFIM" or old == new)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_goes_on_in_one_process_without_torch_distributed(world, checkpoint, kind):
    answers = world(1, backend=None).run(resume, kind, checkpoint(kind, 4)[0])
    check_resumed(checkpoint, kind, 4, answers, bitwise=kind != "SOFIM")


def round_trip_in_bfloat16(kind, directory):
    """bfloat16 parameters have float32 state; what every process holds before and after."""
    run, optimizer = start(kind, resumed=False, dtype=torch.bfloat16)
    x, t = (values.bfloat16() for values in batch(0))
    nn.functional.mse_loss(run.model(x), t).backward()
    optimizer.step()
    before = picture(run, optimizer)
    model_state, optimizer_state = get_state_dict(run.model, optimizer)
    dcp.save({"model": model_state, "optimizer": optimizer_state}, checkpoint_id=directory)
    again, other = start(kind, resumed=True, dtype=torch.bfloat16)
    load(again, other, directory)
    sharded = [sharding.is_sharded(other.state[p]["M"]) for p in again.model.parameters() if p in other.state]
    return before, picture(again, other), sharded


@pytest.mark.parametrize("kind", ["FISMO", "SOFIM", "AdaFisher"])
def test_float32_state_of_bfloat16_parameters_is_not_rounded(world, tmp_path, kind):
    for before, after, sharded in world(2).run(round_trip_in_bfloat16, kind, str(tmp_path)):
        assert same(as_tensors(before), as_tensors(after))
        dtypes = {dtype for _, *state in before for dtype, x in state if x.ndim}
        assert dtypes == {"torch.float32"}
        assert set(sharded) == {kind != "FISMO"}, "momentum is laid out as its parameter, FISMO's is whole"
