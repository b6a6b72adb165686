"""`torch_impl.muon` against its reference and against the optimizer PyTorch ships."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import reference.muon
from proofs_checks.ratios import Ratio, recursion, truncated_iteration, unit_roundoff
from tests.torch_impl import cases
from tests.torch_impl.cases import DOUBLE, DTYPES, array, distance, norm, seeds, sides, tensor
from torch_impl import muon, polar

EVERY_OPTION = list(itertools.product([True, False], ["ema", "sum"], ["original", "match_rms_adamw", "none"]))


def expected_scale(name, m, n):
    return {
        "original": math.sqrt(max(1.0, m / n)),
        "match_rms_adamw": 0.2 * math.sqrt(max(m, n)),
        "none": 1.0,
    }[name]


@given(
    seed=seeds,
    m=sides,
    n=sides,
    options=st.sampled_from(EVERY_OPTION),
    beta=st.sampled_from([0.0, 0.5, 0.95]),
    weight_decay=st.sampled_from([0.0, 0.3]),
    dtype=st.sampled_from(DTYPES),
)
def test_one_step_agrees_with_the_reference_for_every_option(
    device, seed, m, n, options, beta, weight_decay, dtype
):
    nesterov, momentum, scale = options
    rng = np.random.default_rng(seed)
    work = torch.promote_types(dtype, torch.float32)
    state = muon.MuonState(tensor(cases.matrix(rng, m, n), work, device))
    G, W = (tensor(rng.standard_normal((m, n)), dtype, device) for _ in range(2))
    before = [x.clone() for x in (G, W, state.V)]
    keywords = {"beta": beta, "nesterov": nesterov, "momentum": momentum, "scale": scale}
    seen = []

    def spy(M):
        seen.append(M)
        return polar.newton_schulz(M, polar.JORDAN_QUINTIC)

    got, after = muon.step(G, state, **keywords, orthogonalize=spy, weight_decay=weight_decay, W=W)
    _, other = reference.muon.step(array(G), reference.muon.MuonState(array(state.V)), **keywords)
    u = unit_roundoff(work)
    new = 1.0 - beta if momentum == "ema" else 1.0
    terms = beta * np.abs(array(state.V)) + new * np.abs(array(G))
    assert recursion(array(after.V), other.V, terms, operations=4, u=u).passed
    g, V = array(G), other.V
    direction = V if not nesterov else (1.0 - beta) * g + beta * V if momentum == "ema" else g + beta * V
    terms = np.abs(g) + beta * (terms + np.abs(g)) if nesterov else terms
    assert recursion(array(seen[0]), direction, terms, operations=8, u=u).passed
    # What follows is judged on the direction the twin itself arrived at, so that no error counts twice.
    a = expected_scale(scale, m, n)
    U = (array(got) - weight_decay * array(W)) / a
    ratio = truncated_iteration(U, array(seen[0]), polar.JORDAN_QUINTIC, u=u)
    extra = 4 * u * (norm(array(got)) + weight_decay * norm(array(W))) / a
    assert Ratio("update", ratio.error, ratio.budget + extra).passed
    assert got.dtype == after.V.dtype == work
    assert all(torch.equal(x, y) for x, y in zip(before, (G, W, state.V), strict=True)), "modified"


@given(seed=seeds, m=sides, n=sides, options=st.sampled_from(EVERY_OPTION))
def test_whole_updates_agree_with_the_reference_in_float64(seed, m, n, options):
    nesterov, momentum, scale = options
    rng = np.random.default_rng(seed)
    G, W = rng.standard_normal((m, n)), rng.standard_normal((m, n))
    V = cases.matrix(rng, m, n)
    keywords = {"nesterov": nesterov, "momentum": momentum, "scale": scale, "weight_decay": 0.25}
    want, _ = reference.muon.step(G, reference.muon.MuonState(V), **keywords, W=W)
    tensors = [tensor(x, torch.float64) for x in (G, V, W)]
    got, _ = muon.step(tensors[0], muon.MuonState(tensors[1]), **keywords, W=tensors[2])
    V = 0.95 * V + (0.05 if momentum == "ema" else 1.0) * G
    direction = V if not nesterov else G + 0.95 * (V - G) if momentum == "ema" else G + 0.95 * V
    a = expected_scale(scale, m, n)
    U = (want - 0.25 * W) / a
    ratio = truncated_iteration(U, direction, polar.JORDAN_QUINTIC, u=DOUBLE)
    # Both sides iterate, each from a direction that carries 8 roundings of terms no larger than these.
    started = 8 * DOUBLE * (norm(V) + 2.0 * norm(G)) / norm(direction) * ratio.figures["amplification"]
    budget = 2.0 * (a * (ratio.budget + started) + 4 * DOUBLE * (norm(want) + norm(W)))
    assert distance(got, want, budget=budget).passed


@pytest.mark.claim("COMP-oracles")
@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (5, 5)])
@pytest.mark.parametrize("adjust", ["original", "match_rms_adamw"])
def test_the_optimizer_of_pytorch_takes_the_same_steps_up_to_its_bfloat16_iteration(shape, adjust):
    generator = torch.Generator().manual_seed(0)
    W = torch.nn.Parameter(torch.randn(shape, generator=generator))
    optimizer = torch.optim.Muon([W], lr=0.1, weight_decay=0.3, momentum=0.9, adjust_lr_fn=adjust)
    state = muon.init(W)
    for _ in range(3):
        W.grad = torch.randn(shape, generator=generator)
        before = W.detach().clone()
        seen = []

        def spy(M, seen=seen):
            seen.append(M)
            return polar.newton_schulz(M, polar.JORDAN_QUINTIC, dtype=torch.bfloat16)

        _, state = muon.step(W.grad, state, beta=0.9, scale=adjust, orthogonalize=spy)
        optimizer.step()
        a = expected_scale(adjust, *shape)
        U = (((1.0 - 0.1 * 0.3) * before.double() - W.detach().double()) / (0.1 * a)).numpy()
        u = unit_roundoff("bfloat16")
        assert truncated_iteration(U, array(seen[0]), polar.JORDAN_QUINTIC, u=u).passed


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (1, 4), (4, 1), (2, 0, 3)])
def test_zero_and_empty_gradients_give_no_step(dtype, shape):
    W = torch.zeros(shape, dtype=dtype)
    state = muon.init(W)
    assert state.V.dtype == torch.promote_types(dtype, torch.float32)
    update, after = muon.step(W, state)
    assert torch.equal(update, state.V)
    assert torch.equal(after.V, state.V)


def test_a_batch_is_its_members():
    rng = np.random.default_rng(0)
    G = tensor(rng.standard_normal((3, 4, 5)), torch.float64)
    update, _ = muon.step(G, muon.init(G), orthogonalize="polar")
    for i in range(3):
        alone, _ = muon.step(G[i], muon.init(G[i]), orthogonalize="polar")
        want = array(alone)
        assert distance(update[i], want, budget=cases.polar_budget(array(G[i]), want, torch.float64)).passed


G, S = torch.ones(2, 3), muon.init(torch.ones(2, 3))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: muon.step(G, S, beta=1.0), ValueError, "beta must be"),
        (lambda: muon.step(G, S, momentum="heavy"), ValueError, "momentum must be one of 'ema', 'sum'"),
        (lambda: muon.step(G, S, scale="spectral"), ValueError, "scale must be one of"),
        (lambda: muon.step(G, S, orthogonalize="svd"), ValueError, "orthogonalize must be one of"),
        (lambda: muon.step(G, S, weight_decay=-0.1), ValueError, "weight_decay must be"),
        (lambda: muon.step(G, S, weight_decay=0.1), ValueError, "W must be given"),
        (lambda: muon.step(G, S, weight_decay=0.1, W=G.mT), ValueError, "W must be given with shape"),
        (lambda: muon.step(G.mT, S), ValueError, "G must have shape"),
        (lambda: muon.init(torch.ones(3)), ValueError, "W must have shape"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
