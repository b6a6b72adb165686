"""`sharding` on tensors spread over processes, in every layout: small integers, so that sums are exact."""

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.debug import CommDebugMode

from torch_impl.optim import sharding

ROWS, COLUMNS, COPY = Shard(0), Shard(1), Replicate()

#: mesh and placements
LAYOUTS = {
    "rows over 2": ((2,), (ROWS,)),
    "columns over 2": ((2,), (COLUMNS,)),
    "copies on 2": ((2,), (COPY,)),
    "rows over 4": ((4,), (ROWS,)),
    "columns over 4": ((4,), (COLUMNS,)),
    "2 copies of rows over 2": ((2, 2), (COPY, ROWS)),
    "columns over 2 in 2 copies": ((2, 2), (COLUMNS, COPY)),
    "rows over 2 times columns over 2": ((2, 2), (ROWS, COLUMNS)),
    "rows over 2 times 2": ((2, 2), (ROWS, ROWS)),
    "copies on 2 times 2": ((2, 2), (COPY, COPY)),
}
#: even, uneven, fewer rows or columns than processes, empty
SHAPES = ((8, 4), (7, 5), (1, 3), (6, 1), (0, 3))

every_layout = pytest.mark.parametrize(("mesh", "placements"), LAYOUTS.values(), ids=LAYOUTS)


def processes(mesh):
    return mesh[0] * (mesh[1] if len(mesh) > 1 else 1)


def whole_tensors():
    return [torch.arange(1.0, m * n + 1.0).reshape(m, n) for m, n in SHAPES]


def distributed(mesh_shape, placements):
    """Parameters of every shape in one layout, built by torch from the copy of process 0."""
    mesh = init_device_mesh("cpu", mesh_shape)
    return [nn.Parameter(distribute_tensor(W, mesh, placements)) for W in whole_tensors()]


@torch.no_grad()
def gathered_and_cut(mesh_shape, placements):
    """Which shapes come back whole; which cut out of the whole as torch did, without a message."""
    gathers, cuts = [], []
    for W, p in zip(whole_tensors(), distributed(mesh_shape, placements), strict=True):
        gathers.append(type(sharding.full(p)) is torch.Tensor and torch.equal(sharding.full(p), W))
        with CommDebugMode() as messages:
            part = sharding.shard_like(3.0 * W.double(), p)
        as_torch_did = torch.equal(part, 3.0 * p.to_local().double()) and part.dtype == torch.float64
        cuts.append(as_torch_did and messages.get_total_counts() == 0)
    return gathers, cuts


@torch.no_grad()
def writes_through(mesh_shape, placements):
    """Whether writing into the local shard changes the parameter."""
    params = distributed(mesh_shape, placements)
    for p in params:
        sharding.local(p).mul_(2.0)
    return [torch.equal(p.full_tensor(), 2.0 * W) for W, p in zip(whole_tensors(), params, strict=True)]


@torch.no_grad()
def summed(mesh_shape, placements):
    """Sums over all shards, a plain tensor among them, and the number of all-reduces they took."""
    params = distributed(mesh_shape, placements)
    like = [params[0], torch.ones(2), *params[1:]]
    values = [sharding.local(x).sum() for x in like]
    with CommDebugMode() as messages:
        sums = sharding.global_sums(values, like)
    return [int(x) for x in sums], messages.get_total_counts()


@every_layout
def test_whole_tensors_are_gathered_and_cut_as_torch_cuts_them(world, mesh, placements):
    for gathers, cuts in world(processes(mesh)).run(gathered_and_cut, mesh, placements):
        assert all(gathers), gathers
        assert all(cuts), cuts


@every_layout
def test_what_is_written_into_the_shard_is_written_into_the_parameter(world, mesh, placements):
    for written in world(processes(mesh)).run(writes_through, mesh, placements):
        assert all(written), written


@every_layout
def test_every_entry_counts_once_however_many_copies_there_are(world, mesh, placements):
    first, *rest = (int(W.sum()) for W in whole_tensors())
    sharded_dimensions = sum(placement.is_shard() for placement in placements)
    for sums, messages in world(processes(mesh)).run(summed, mesh, placements):
        assert sums == [first, 2, *rest]
        assert messages == sharded_dimensions, "all values of one layout travel together"


@torch.no_grad()
def several_meshes():
    """Sums of tensors on two meshes, in two dtypes: the keys of `global_sums`."""
    line, square = init_device_mesh("cpu", (4,)), init_device_mesh("cpu", (2, 2))
    W = torch.arange(12.0).reshape(6, 2)
    like = [
        distribute_tensor(W, line, [ROWS]),
        distribute_tensor(W.double(), square, [COPY, ROWS]),
        distribute_tensor(W, square, [COPY, ROWS]),
        distribute_tensor(W, square, [ROWS, COPY]),
    ]
    sums = sharding.global_sums([sharding.local(x).sum() for x in like], like)
    return [(int(x), x.dtype) for x in sums], int(W.sum())


def test_tensors_of_several_meshes_and_dtypes_are_summed_apart(world):
    for sums, expected in world(4).run(several_meshes):
        assert [value for value, _ in sums] == [expected] * len(sums)
        assert [dtype for _, dtype in sums] == [torch.float32, torch.float64, torch.float32, torch.float32]


@torch.no_grad()
def matched_gradients():
    mesh = init_device_mesh("cpu", (2,))
    W = torch.arange(6.0).reshape(3, 2)
    p = nn.Parameter(distribute_tensor(W, mesh, [COPY]))
    partial = DTensor.from_local(W * (1 + dist.get_rank()), mesh, [Partial()])
    cut = distribute_tensor(W, mesh, [ROWS])
    with CommDebugMode() as messages:
        matching = sharding.matched(cut, nn.Parameter(cut.clone()))
    refusals = []
    other = init_device_mesh("cpu", (1, 2))
    for gradient, parameter in [(W, p), (p, W), (distribute_tensor(W, other, [COPY, COPY]), p)]:
        try:
            sharding.matched(gradient, parameter)
        except ValueError as error:
            refusals.append(str(error))
    return {
        "partial sums are added up": torch.equal(sharding.matched(partial, p).to_local(), 3.0 * W),
        "shards are gathered": torch.equal(sharding.matched(cut, p).to_local(), W),
        "nothing is sent for a gradient that matches": messages.get_total_counts() == 0
        and torch.equal(matching.to_local(), cut.to_local()),
        "another kind or mesh is refused": len(refusals) == 3
        and all("must be distributed as its parameter" in refusal for refusal in refusals),
    }


def test_a_gradient_is_laid_out_as_its_parameter(world):
    for found in world(2).run(matched_gradients):
        assert all(found.values()), found


def verdicts(mesh_shape):
    mesh = init_device_mesh("cpu", mesh_shape)
    p = distribute_tensor(torch.ones(4, 4), mesh, [COPY] * mesh.ndim)
    flags = torch.tensor([True, dist.get_rank() != 1, dist.get_rank() == 0, True])
    before = flags.clone()
    found = sharding.agreed(flags, [torch.ones(1), p, p])
    return found.tolist(), bool(torch.equal(flags, before))


@pytest.mark.parametrize("mesh", [(2,), (4,), (2, 2)])
def test_one_objection_anywhere_in_the_mesh_is_heard_everywhere(world, mesh):
    for verdict, untouched in world(processes(mesh)).run(verdicts, mesh):
        assert verdict == [True, False, False, True]
        assert untouched


def pooled():
    rank = dist.get_rank()
    buffer = torch.full((3,), float(rank + 1))
    alone = dist.new_subgroups(group_size=1)[0]
    pairs = dist.new_subgroups(group_size=2)[0]
    totals = [sharding.pool(buffer, group) for group in (None, pairs, alone)]
    return [int(total[0]) for total in totals], totals[2] is buffer, buffer.tolist()


def test_a_buffer_is_summed_over_its_group_and_left_as_it_was(world):
    for rank, (totals, same, buffer) in enumerate(world(4).run(pooled)):
        pair = 3 if rank in (0, 1) else 7
        assert totals == [10, pair, rank + 1]
        assert same, "one process alone copies nothing"
        assert buffer == [rank + 1] * 3
