"""The chain spread over processes in every way the optimizers are meant for."""

from collections.abc import Callable, Sequence
from typing import Any

import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Placement, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

from tests.torch_impl.distributed.chain import ROWS, Chain
from tests.torch_impl.distributed.steps import Run, my_rows

__all__ = ["LAYOUTS", "build"]

#: Widths that divide, for layouts in which torch demands it.
EVEN = 4

EVERYTHING = slice(0, ROWS)


def build(layout: str, device: str = "cpu") -> Run:
    """The chain in a layout of `LAYOUTS`, over all processes."""
    return LAYOUTS[layout][1](device)


def _line(device: str) -> DeviceMesh:
    return init_device_mesh(device, (dist.get_world_size(),))


def _square(device: str) -> DeviceMesh:
    return init_device_mesh(device, (2, dist.get_world_size() // 2), mesh_dim_names=("outer", "inner"))


def _shared_rows(model: nn.Module, called: nn.Module | None = None, **more: Any) -> Run:
    """Every process sees its share of the rows."""
    size = dist.get_world_size()
    return Run(model, called or model, my_rows(dist.get_rank(), size), size, **more)


def data_parallel(device: str) -> Run:
    """DDP."""
    model = Chain().to(device)
    return _shared_rows(model, DistributedDataParallel(model))


def fsdp(device: str) -> Run:
    """FSDP2: rows of every parameter, unevenly, gathered layer by layer."""
    model, mesh = Chain().to(device), _line(device)
    for module in (model.first, model.second, model):
        fully_shard(module, mesh=mesh)
    return _shared_rows(model)


def hybrid(device: str) -> Run:
    """FSDP2 over pairs of processes, in two copies."""
    model, mesh = Chain().to(device), _square(device)
    for module in (model.first, model.second, model):
        fully_shard(module, mesh=mesh)
    return _shared_rows(model)


def fsdp_columns(device: str) -> Run:
    """FSDP2 told to cut matrices by columns, which have to divide."""
    model = Chain(EVEN).to(device)
    mesh = _line(device)

    def cut(p: nn.Parameter) -> Shard:
        return Shard(1 if p.ndim == 2 and p.shape[1] % mesh.size() == 0 else 0)

    fully_shard(model, mesh=mesh, shard_placement_fn=cut)
    return _shared_rows(model)


def partly(device: str) -> Run:
    """FSDP2 for one layer; the other's parameters are plain, and their gradients averaged by hand."""
    model = Chain().to(device)
    fully_shard(model.first, mesh=_line(device))

    def average() -> None:
        for p in model.second.parameters():
            dist.all_reduce(p.grad)
            p.grad /= dist.get_world_size()

    return _shared_rows(model, after_backward=average)


def tensor_parallel(device: str) -> Run:
    """Rows of the first layer, columns of the second; every process sees every row of the batch."""
    model = Chain(EVEN).to(device)
    parallelize_module(model, _line(device), {"first": ColwiseParallel(), "second": RowwiseParallel()})
    return Run(model, model, EVERYTHING, 1)


def fsdp_and_tensor_parallel(device: str) -> Run:
    """Tensor parallel pairs, FSDP2 over the two pairs."""
    model, mesh = Chain(EVEN).to(device), _square(device)
    parallelize_module(model, mesh["inner"], {"first": ColwiseParallel(), "second": RowwiseParallel()})
    for module in (model.first, model.second, model):
        fully_shard(module, mesh=mesh["outer"])
    shares = mesh["outer"].size()
    return Run(model, model, my_rows(mesh["outer"].get_local_rank(), shares), shares)


class Joined(nn.Module):
    """A model of DTensors called with a plain batch, which every process has."""

    def __init__(self, model: nn.Module, mesh: DeviceMesh) -> None:
        super().__init__()
        self.model, self.mesh = model, mesh

    def forward(self, x: Tensor) -> Tensor:
        copies = [Replicate()] * self.mesh.ndim
        return self.model(distribute_tensor(x, self.mesh, copies)).full_tensor()


def placed(
    mesh_of: Callable[[str], DeviceMesh], placements: Sequence[Placement], vectors: Sequence[Placement]
) -> Callable[[str], Run]:
    """Matrices and vectors placed as told, computed with by DTensor's own rules."""

    def run(device: str) -> Run:
        model, mesh = Chain().to(device), mesh_of(device)
        for layer in (model.first, model.second):
            layer.weight = nn.Parameter(distribute_tensor(layer.weight.detach(), mesh, placements))
            layer.bias = nn.Parameter(distribute_tensor(layer.bias.detach(), mesh, vectors))
        return Run(model, Joined(model, mesh), EVERYTHING, 1)

    return run


ROW, COLUMN, COPY = Shard(0), Shard(1), Replicate()

#: numbers of processes, and what builds the run
LAYOUTS: dict[str, tuple[tuple[int, ...], Callable[[str], Run]]] = {
    "DDP": ((2, 4), data_parallel),
    "FSDP": ((2, 4), fsdp),
    "FSDP by columns": ((2,), fsdp_columns),
    "FSDP in two copies": ((4,), hybrid),
    "FSDP of one layer": ((2,), partly),
    "tensor parallel": ((2, 4), tensor_parallel),
    "FSDP and tensor parallel": ((4,), fsdp_and_tensor_parallel),
    "rows": ((2, 4), placed(_line, [ROW], [ROW])),
    "columns": ((2, 4), placed(_line, [COLUMN], [COPY])),
    "copies": ((2,), placed(_line, [COPY], [COPY])),
    "copies of rows": ((4,), placed(_square, [COPY, ROW], [COPY, COPY])),
    "columns in copies": ((4,), placed(_square, [COLUMN, COPY], [ROW, COPY])),
    "rows times columns": ((4,), placed(_square, [ROW, COLUMN], [ROW, ROW])),
}
