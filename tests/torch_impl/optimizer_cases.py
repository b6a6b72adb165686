"""Parameters, gradients and snapshots for the tests of the optimizers."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from tests.torch_impl.cases import tensor
from torch_impl import FISMO, SOFIM, fismo

__all__ = ["BOTH", "give_gradients", "matrices", "parameters", "photograph", "run", "same"]

BOTH = pytest.mark.parametrize("optimizer_class", [FISMO, SOFIM])
SHAPES = ((3, 4), (2, 5), (3, 4))


def parameters(seed=0, dtype=torch.float64, shapes=SHAPES, device="cpu"):
    rng = np.random.default_rng(seed)
    return [nn.Parameter(tensor(rng.standard_normal(shape), dtype, device)) for shape in shapes]


def give_gradients(params, seed=1):
    rng = np.random.default_rng(seed)
    for p in params:
        p.grad = tensor(rng.standard_normal(tuple(p.shape)), p.dtype, p.device)


def run(optimizer, params, steps, seed=1):
    for k in range(steps):
        give_gradients(params, seed=seed + k)
        optimizer.step()


def photograph(optimizer):
    """Everything a step could change, copied."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    values = [p.detach().clone() for p in params]
    gradients = [None if p.grad is None else p.grad.clone() for p in params]
    return values, gradients, copy.deepcopy(optimizer.state_dict())


def same(a, b):
    """Bitwise, dtypes included."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a.cpu(), b.cpu())
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def matrices(state):
    """P, Q and M of a parameter's state, as the functions of `torch_impl.fismo` take them."""
    return fismo.FismoState(*(state[name] for name in "PQM"))
