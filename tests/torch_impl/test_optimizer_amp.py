"""Automatic mixed precision: `torch.amp.GradScaler` and `torch.autocast` with `FISMO` and `SOFIM`."""

import math

import pytest
import torch
from torch import nn

from tests.torch_impl.optimizer_cases import BOTH, parameters, photograph, same


def scaler_for(device, scale=4.0):
    return torch.amp.GradScaler(device.type, init_scale=scale)


@BOTH
def test_a_scaled_step_is_the_step(device, optimizer_class):
    """The scale is a power of two, so that dividing it out is exact."""
    params, plain = (parameters(dtype=torch.float32, device=device) for _ in range(2))
    optimizer, other, scaler = optimizer_class(params), optimizer_class(plain), scaler_for(device)
    for _ in range(3):
        optimizer.zero_grad(), other.zero_grad()
        scaler.scale(sum(p.square().sum() for p in params)).backward()
        scaler.step(optimizer)
        scaler.update()
        sum(p.square().sum() for p in plain).backward()
        other.step()
    assert all(map(torch.equal, params, plain))


@BOTH
@pytest.mark.parametrize("value", [math.inf, math.nan])
@pytest.mark.parametrize("unscaled", [False, True], ids=["step", "unscale-and-step"])
@pytest.mark.parametrize("nonfinite", ["raise", "skip"])
def test_a_step_that_overflowed_changes_nothing(device, optimizer_class, value, unscaled, nonfinite):
    params = parameters(dtype=torch.float32, device=device)
    optimizer, scaler = optimizer_class(params, nonfinite=nonfinite), scaler_for(device)
    for spoil in (False, True):
        optimizer.zero_grad()
        scaler.scale(sum(p.square().sum() for p in params)).backward()
        if spoil:
            params[1].grad[0, 0] = value
        before = photograph(optimizer)
        if unscaled:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(params, 1.0, foreach=False)
        scaler.step(optimizer)
        scaler.update()
        after = photograph(optimizer)
        assert same((after[0], after[2]), (before[0], before[2])) == spoil


@BOTH
def test_a_small_network_trains_under_autocast(device, optimizer_class):
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(64, 8, generator=generator).to(device)
    y = (X[:, :2].sum(dim=1) > 0).long()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 16, bias=False), nn.ReLU(), nn.Linear(16, 2, bias=False)).to(
            device
        )
    optimizer = optimizer_class(model.parameters(), lr=0.05 if optimizer_class.__name__ == "FISMO" else 0.5)
    scaler, losses = scaler_for(device, scale=1024.0), []
    for _ in range(40):
        optimizer.zero_grad()
        with torch.autocast(device.type, dtype=torch.bfloat16):
            loss = nn.functional.cross_entropy(model(X), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(float(loss.detach()))
    assert all(p.dtype == torch.float32 for p in model.parameters())
    half = losses[0] / 2
    assert losses[-1] < half
