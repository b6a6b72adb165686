"""Where the optimizers meet `torch.distributed`: shards, whole tensors, sums over all shards.

A parameter may be a `torch.distributed.tensor.DTensor` (FSDP2, tensor parallelism): each process of a mesh
holds a shard. Everything else in `torch_impl` works on plain tensors and asks this module for the rest. For a
plain tensor every function here is the identity, and without `torch.distributed` nothing of it is imported.

A model is spread first and given to an optimizer then, as with any optimizer of PyTorch::

    model = DistributedDataParallel(model)  # or fully_shard(layer) for every layer, then fully_shard(model)
    optimizer = AdaFisher(model)  # or FISMO, SOFIM, a Composite of FISMO and AdamW over its parameters

and a checkpoint goes through `torch.distributed.checkpoint`, to be loaded by any number of processes::

    weights, state = get_state_dict(model, optimizer)
    dcp.save({"model": weights, "optimizer": state}, checkpoint_id=path)  # or dcp.load, and set_state_dict

Functions that communicate say so. Every process of the mesh has to call them, in the same order; an optimizer
does, because its parameters and groups come in one order everywhere.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
import torch.distributed as dist
from torch import Tensor

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor

__all__ = ["agreed", "full", "global_sums", "is_sharded", "local", "matched", "pool", "shard_like"]

#: What is surely no DTensor, told without importing `torch.distributed.tensor` (half a second).
PLAIN = (Tensor, torch.nn.Parameter)


def is_sharded(x: Tensor) -> "TypeGuard[DTensor]":
    """Whether `x` is a DTensor, however it is placed."""
    if type(x) in PLAIN or not dist.is_available():
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(x, DTensor)


def local(x: Tensor) -> Tensor:
    """Return the local shard of a DTensor, or `x` itself; the memory is that of `x`.

    A process beyond the last row or column has an empty shard. No communication.
    """
    return x.to_local() if is_sharded(x) else x


def full(x: Tensor) -> Tensor:
    """Return the whole tensor, the same on every process, or `x` itself.

    Communicates: gathers the shards, adds up partial sums. The result may share the memory of `x`.
    """
    return x.full_tensor() if is_sharded(x) else x


def shard_like(whole: Tensor, parameter: Tensor) -> Tensor:
    """Cut out the local part of a whole tensor, laid out as the shard of `parameter`.

    Parameters
    ----------
    whole : Tensor, of the shape of `parameter`
        A plain tensor, the same on every process. Not modified; the result may share its memory.
    parameter : Tensor
        A DTensor, or a plain tensor, for which `whole` itself is returned.

    Returns
    -------
    Tensor
        In the dtype of `whole`, on the device of the shard of `parameter`. No communication.
    """
    if not is_sharded(parameter):
        return whole
    from torch.distributed.tensor import distribute_tensor

    # src_data_rank=None: every process cuts its own copy, none sends. The mesh may be one of GPUs while the
    # shard is kept in host memory (offloading), hence the last `to`.
    part = distribute_tensor(
        whole.detach(), parameter.device_mesh, parameter.placements, src_data_rank=None
    ).to_local()
    return part.to(parameter.to_local().device)


def matched(gradient: Tensor, parameter: Tensor) -> Tensor:
    """Lay a gradient out as its parameter: `gradient` itself, but where it is a DTensor placed otherwise.

    The gradient of a replicated parameter can be partial sums, one per process. Communicates only then.

    Raises
    ------
    ValueError
        If one of the two is a DTensor and the other is not, or their meshes differ.
    """
    if is_sharded(gradient) and is_sharded(parameter) and gradient.device_mesh == parameter.device_mesh:
        return gradient.redistribute(placements=parameter.placements)
    if is_sharded(gradient) or is_sharded(parameter):
        raise ValueError(
            f"a gradient must be distributed as its parameter, over one mesh, got {_layout(gradient)} for "
            f"{_layout(parameter)}"
        )
    return gradient


def global_sums(values: Sequence[Tensor], like: Sequence[Tensor]) -> list[Tensor]:
    """Sums over all shards, from sums over the local shard.

    Parameters
    ----------
    values : sequence of 0-d tensors
        ``values[i]`` is a sum over the entries of ``local(like[i])``; 0 for an empty shard. Not modified.
    like : sequence of Tensor, as many
        Plain tensors, whose value is returned as it is, or DTensors.

    Returns
    -------
    list of 0-d tensors
        The same on every process. A dimension of the mesh over which a tensor is replicated is not summed
        over, so that every entry counts once.

    Notes
    -----
    Communicates: all values of one mesh, placement, dtype and device travel together, in one all-reduce per
    dimension of the mesh that shards them.
    """
    sums = list(values)
    together: dict[tuple[Any, ...], list[int]] = {}
    for index, (value, x) in enumerate(zip(values, like, strict=True)):
        if is_sharded(x):
            replicated = tuple(placement.is_replicate() for placement in x.placements)
            together.setdefault((x.device_mesh, replicated, value.dtype, value.device), []).append(index)
    for (mesh, replicated, *_), indices in together.items():
        total = _reduce(
            torch.stack([values[index] for index in indices]), mesh, replicated, dist.ReduceOp.SUM
        )
        for index, value in zip(indices, total.unbind(), strict=True):
            sums[index] = value
    return sums


def agreed(flags: Tensor, like: Sequence[Tensor]) -> Tensor:
    """Which flags are set on every process that holds a part of `like`.

    Parameters
    ----------
    flags : bool Tensor of one dimension
        The verdicts of this process, as many and in the same order on every process. Not modified.
    like : sequence of Tensor
        The parameters of the step; each mesh that occurs among them is asked once, in order of appearance.

    Returns
    -------
    bool Tensor, of the shape of `flags`
        The same on every process of a mesh; `flags` itself if all of `like` are plain. Communicates.
    """
    for mesh in dict.fromkeys(x.device_mesh for x in like if is_sharded(x)):
        flags = _reduce(flags.float(), mesh, (False,) * mesh.ndim, dist.ReduceOp.MIN).bool()
    return flags


def pool(buffer: Tensor, group: "dist.ProcessGroup | None") -> Tensor:
    """Sum a buffer over the processes of a group.

    Parameters
    ----------
    buffer : Tensor
        Of one shape, dtype and device type on every process. Not modified.
    group : ProcessGroup or None
        None is the default group, once `torch.distributed` is initialised.

    Returns
    -------
    Tensor
        The sum, the same on every process; `buffer` itself if there is one process only. Communicates.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size(group) == 1:
        return buffer
    total = buffer.clone()
    dist.all_reduce(total, group=group)
    return total


def _reduce(values: Tensor, mesh: "DeviceMesh", replicated: Sequence[bool], op: Any) -> Tensor:
    """Reduce over the dimensions of a mesh along which `values` are not replicated, one after the other."""
    total = values.clone()
    for dimension, same in enumerate(replicated):
        if not same:
            dist.all_reduce(total, op=op, group=mesh.get_group(dimension))
    return total


def _layout(x: Tensor) -> str:
    if not is_sharded(x):
        return "a plain tensor"
    return f"a DTensor placed {x.placements} over {x.device_mesh}"
