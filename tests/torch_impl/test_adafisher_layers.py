"""AdaFisher's factors, layer by layer, against the reference on rows that are written out."""

import itertools
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import reference.adafisher as oracle
from proofs_checks.ratios import Ratio, recursion, unit_roundoff
from tests.torch_impl.adafisher_cases import CASES, Follower, backward, draw
from tests.torch_impl.cases import DTYPES, array
from torch_impl.optim.adafisher import AdaFisher, AdaFisherW

LR, LAM = 0.125, 0.125

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")


def follow(name, dtype, steps=3, kind=AdaFisher, wrap=None, **options):
    """The optimizer and the reference side by side, from the same gradients."""
    case = CASES[name]
    module = case.module(dtype)
    options = {"lam": LAM, **options}
    optimizer = kind(module, LR, **options)
    take = wrap(optimizer.step) if wrap else optimizer.step
    coupled = kind is AdaFisher and options.get("averaging") == "released"
    follower = Follower(module, case, LR, options, coupled)
    for k in range(steps):
        optimizer.zero_grad()
        x, s = draw(case, module, dtype, seed=k)
        backward(module, x, s)
        if getattr(module, "max_norm", None):
            follower.look_again()
        follower.step(x, s, refresh=k % options.get("refresh", 1) == 0)
        take()
    return follower


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_every_layer_follows_the_reference(name, dtype):
    for ratio in follow(name, dtype).ratios():
        assert ratio.passed, ratio


PAPER = [
    {"normalise": normalise, "gamma_on": gamma_on, "initial": initial, "gamma": 0.7}
    for normalise, gamma_on, initial in itertools.product(
        ("after", "before"), ("old", "new"), ("first", "ones")
    )
]
OTHERS = [
    {"averaging": "released"},
    {"averaging": "released", "weight_decay": 0.25},
    {"averaging": "released", "initial": "ones", "refresh": 2},
    {"epsilon": 0.5},
    {"epsilon": 0.5, "relative": False},
    {"epsilon": 0.5, "relative": False, "normalise": "before"},
    {"refresh": 3},
    {"refresh": 2, "normalise": "before", "initial": "ones"},
    {"weight_decay": 0.25},
    {"maximize": True, "weight_decay": 0.25},
    {"nonfinite": "skip", "capturable": True},
    {"nonfinite": "skip", "capturable": True, "averaging": "released"},
    {"beta": 0.0, "gamma": 0.0},
    {"beta": 0.5, "gamma": 1.0},
    {"lam": 2.0**-10},
]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("options", PAPER + OTHERS, ids=str)
@pytest.mark.parametrize("name", ["linear", "conv2d groups", "layer norm", "embedding"])
def test_every_option_follows_the_reference(name, options, dtype):
    for ratio in follow(name, dtype, steps=5, **options).ratios():
        assert ratio.passed, ratio


@pytest.mark.parametrize("averaging", ["paper", "released"])
def test_adafisherw_decays_the_weights_and_not_the_gradient(averaging):
    options = {"weight_decay": 0.25, "averaging": averaging}
    for ratio in follow("linear", torch.float64, steps=4, kind=AdaFisherW, **options).ratios():
        assert ratio.passed, ratio


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("options", [{}, {"nonfinite": "skip", "capturable": True}], ids=str)
@pytest.mark.parametrize("name", ["linear", "batch norm 2d"])
def test_a_compiled_step_follows_the_reference(name, options):
    torch.compiler.reset()
    compiled = partial(torch.compile, backend="eager")
    for ratio in follow(name, torch.float32, wrap=compiled, **options).ratios():
        assert ratio.passed, ratio


def test_the_example_of_the_specification():
    h = torch.tensor([[1.0, 2.0], [3.0, 0.0]], dtype=torch.float64)
    s = torch.tensor([[0.5, -1.0], [1.5, 1.0]], dtype=torch.float64)
    layer = nn.Linear(2, 2).double()
    optimizer = AdaFisher(layer, 1.0, lam=0.5)
    before = torch.cat([layer.weight, layer.bias[:, None]], 1).detach().clone()
    layer(h).backward(s)
    G = torch.cat([layer.weight.grad, layer.bias.grad[:, None]], 1)
    optimizer.step()
    after = torch.cat([layer.weight, layer.bias[:, None]], 1).detach()
    F = torch.tensor([[1.5, 0.75, 0.5], [0.5, 0.5, 0.5]], dtype=torch.float64)
    state = optimizer.state[layer.weight]
    golden_h, golden_s = [5.0, 2.0, 1.0], [1.25, 1.0]
    assert state["h_D"].tolist() == golden_h
    assert state["s_D"].tolist() == golden_s
    want = before - G / F
    terms = before.abs() + (G / F).abs()
    ratio = recursion(array(after), array(want), array(terms), operations=8, u=unit_roundoff("float64"))
    assert ratio.passed, ratio


def product(h_D, s_D):
    h, s = (oracle.minmax_normalize(x) for x in (h_D, s_D))
    return np.outer(s, h)


def close(got, want, *, u, operations):
    """Entrywise, relative to F: normalised factors of well-spread numbers."""
    return Ratio("F", float(np.abs(got / want - 1.0).max()), operations * u)


class Tied(nn.Module):
    """A table whose transpose is the head."""

    def __init__(self, dtype=torch.float64):
        super().__init__()
        torch.manual_seed(1)
        self.table = nn.Embedding(6, 4, dtype=dtype)
        self.head = nn.Linear(4, 6, bias=False, dtype=dtype)
        self.head.weight = self.table.weight

    def forward(self, tokens):
        return self.head(self.table(tokens))


def test_a_tied_parameter_has_the_mean_of_its_layers():
    model = Tied()
    optimizer = AdaFisher(model, 1.0, lam=LAM)
    before = array(model.table.weight).copy()
    tokens = torch.tensor([0, 1, 1, 2, 5, 5, 5])
    seen = []
    hidden = model.table(tokens)
    hidden.register_hook(lambda s: seen.append(array(s)))
    s = torch.randn(7, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    model.head(hidden).backward(s)
    G = array(model.table.weight.grad)
    optimizer.step()
    table = product(*oracle.embedding_factors(tokens.numpy(), seen[0], num_embeddings=6)).T
    head = product(*oracle.linear_factors(array(hidden), array(s), bias=False))
    F = LAM + (table + head) / 2.0
    got = G / (before - array(model.table.weight))
    # A handful of rows; spreads of a few units, over lam; the step is recovered as a difference of weights.
    cancelled = float((np.abs(before) / np.abs(G / F)).max())
    operations = 8 * (len(tokens) + 16) / LAM + 4 * cancelled
    ratio = close(got, F, u=unit_roundoff("float64"), operations=operations)
    assert ratio.passed, ratio
    assert set(optimizer.state[model.table.weight]) >= {"h_D", "s_D", "refreshes", "h_D_1", "s_D_1"}


def test_groups_share_one_normalisation():
    """With one per group, every gradient factor of a depthwise convolution would be zero."""
    follower = follow("conv2d depthwise", torch.float64)
    F = np.abs(follower.states["all"].s_D)
    assert F.shape == (4, 1)
    weight = follower.parts["weight"]
    optimizer = AdaFisher(follower.module, LR, lam=LAM)
    x, s = draw(CASES["conv2d depthwise"], follower.module, torch.float64, seed=0)
    follower.module.zero_grad()
    backward(follower.module, x, s)
    before = weight.detach().clone()
    optimizer.step()
    F = (LR * weight.grad / (before - weight)).detach()
    twice = 2 * LAM
    assert bool((twice < F).any()), "no entry of the layer is damped by its curvature"
