"""Without `torch.distributed`, or before it is initialised, `sharding` returns what it is given."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from torch_impl.optim import sharding

TENSORS = [torch.ones(2, 3), nn.Parameter(torch.ones(2, 3)), torch.ones(()), torch.empty(0, 3)]

#: The module by itself, without the package around it.
ALONE = f"""
import importlib.util, sys, types, torch
spec = importlib.util.spec_from_file_location("sharding", {sharding.__file__!r})
sharding = importlib.util.module_from_spec(spec)
"""

NEITHER_LOADED_NOR_INITIALISED = """
spec.loader.exec_module(sharding)
sharding.full(torch.nn.Parameter(torch.ones(2)))
assert "torch.distributed.tensor" not in sys.modules
assert not (torch.distributed.is_available() and torch.distributed.is_initialized())
"""

WITHOUT_DISTRIBUTED = """
bare = types.ModuleType("torch.distributed")
bare.is_available = lambda: False
sys.modules["torch.distributed"] = torch.distributed = bare
spec.loader.exec_module(sharding)
class Mine(torch.Tensor): pass
x = torch.ones(2).as_subclass(Mine)
assert sharding.full(x) is x and sharding.local(x) is x
assert sharding.pool(x, None) is x and sharding.global_sums([x.sum()], [x])[0] == 2
"""


@pytest.mark.parametrize("x", TENSORS, ids=lambda x: f"{type(x).__name__}{tuple(x.shape)}")
def test_a_plain_tensor_is_its_own_shard_and_its_own_whole(x):
    assert not sharding.is_sharded(x)
    assert sharding.local(x) is x
    assert sharding.full(x) is x
    assert sharding.shard_like(x, x) is x
    assert sharding.matched(x, x) is x
    assert sharding.pool(x, None) is x


def test_sums_and_verdicts_of_plain_tensors_stay_as_they_are():
    values, flags = [torch.tensor(1.5), torch.tensor(2.5)], torch.tensor([True, False])
    sums = sharding.global_sums(values, TENSORS[:2])
    assert all(a is b for a, b in zip(sums, values, strict=True))
    assert sharding.agreed(flags, TENSORS) is flags


def test_as_many_values_as_tensors_are_needed():
    with pytest.raises(ValueError, match="zip"):
        sharding.global_sums([torch.ones(())], TENSORS[:2])


@pytest.mark.parametrize("function", [sharding.local, sharding.full])
def test_compiled_code_meets_no_break_on_plain_tensors(function):
    compiled = torch.compile(lambda x: function(x) * 2, fullgraph=True, backend="eager")
    assert torch.equal(compiled(TENSORS[0]), TENSORS[0] * 2)
    compiled = torch.compile(
        lambda x: sharding.global_sums([x.sum()], [x])[0], fullgraph=True, backend="eager"
    )
    assert compiled(TENSORS[1]).item() == TENSORS[1].sum().item()


@pytest.mark.parametrize("program", [NEITHER_LOADED_NOR_INITIALISED, WITHOUT_DISTRIBUTED])
def test_the_import_neither_loads_nor_initialises_nor_needs_distributed_tensors(program):
    run = subprocess.run([sys.executable, "-c", ALONE + program], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
