"""`torch.compile` of a step, and CUDA graphs: the same step, compiled once."""

import math
import shutil

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from proofs_checks.ratios import unit_roundoff
from tests.torch_impl.cases import DOUBLE, array, distance, norm
from tests.torch_impl.optimizer_cases import BOTH, give_gradients, parameters, photograph, same
from torch_impl import FISMO, SOFIM

STEPS = 4

#: A step is the same few operations in another order; each may round once more or once less.
OPERATIONS = 64

SOFIM_OPTIONS = [
    {"nonfinite": "skip"},
    {"nonfinite": "skip", "capturable": True},
    {"nonfinite": "skip", "capturable": True, "weight_decay": 0.5, "maximize": True, "scope": "group"},
    {"nonfinite": "skip", "scope": "parameter"},
]


@pytest.fixture(autouse=True)
def _clean():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def agree_after_steps(optimizer_class, backend, *, spoil=None, fullgraph, **options):
    """Step two equal optimizers, one compiled, with a rate that changes; return how often it was compiled."""
    counter = CompileCounterWithBackend(backend)
    compiled, eager = parameters(), parameters()
    pair = [
        optimizer_class(
            [{"params": ps[:1]}, {"params": ps[1:], "beta": 0.5}],
            lr=torch.tensor(0.1, dtype=torch.float64),
            **options,
        )
        for ps in (compiled, eager)
    ]
    step, counts = torch.compile(pair[0].step, backend=counter, fullgraph=fullgraph), []
    for k in range(STEPS):
        for ps, optimizer in zip((compiled, eager), pair, strict=True):
            give_gradients(ps, seed=k)
            if k == spoil:
                ps[1].grad[0, 0] = math.nan
            for group in optimizer.param_groups:
                group["lr"].mul_(0.75)
        before = [p.detach().clone() for p in compiled]
        step(), pair[1].step()
        assert all(map(torch.equal, compiled, before)) == (k == spoil)
        counts.append(counter.frame_count)
        for p, q in zip(compiled, eager, strict=True):
            budget = (k + 1) * OPERATIONS * DOUBLE * (norm(array(q)) + 1.0)
            assert distance(p, array(q), budget=budget).passed
            assert pair[0].state[p]["step"] == pair[1].state[q]["step"]
    return counts


@pytest.mark.filterwarnings("ignore:.*:UserWarning", "ignore:.*:DeprecationWarning")
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("options", SOFIM_OPTIONS, ids=str)
def test_sofim_is_one_graph_and_compiled_once(backend, options):
    counts = agree_after_steps(SOFIM, backend, spoil=2, fullgraph=True, **options)
    assert counts[0] == counts[-1], f"compiled again: {counts}"


@pytest.mark.filterwarnings("ignore:.*:UserWarning", "ignore:.*:DeprecationWarning")
@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++", "c++"))), reason="needs a C++ compiler")
def test_sofim_runs_through_the_default_backend():
    counts = agree_after_steps(SOFIM, "inductor", spoil=2, fullgraph=True, **SOFIM_OPTIONS[1])
    assert counts[0] == counts[-1], f"compiled again: {counts}"


@pytest.mark.filterwarnings("ignore:.*:UserWarning", "ignore:.*:DeprecationWarning")
@BOTH
@pytest.mark.parametrize("nonfinite", ["raise", "skip"])
def test_every_step_can_be_compiled_with_graph_breaks(optimizer_class, nonfinite):
    spoil = 2 if nonfinite == "skip" else None
    counts = agree_after_steps(
        optimizer_class, "aot_eager", spoil=spoil, fullgraph=False, nonfinite=nonfinite
    )
    assert counts[1] == counts[-1], f"compiled again and again: {counts}"


@pytest.mark.filterwarnings("ignore:.*:UserWarning", "ignore:.*:DeprecationWarning")
@BOTH
def test_a_compiled_step_still_raises(optimizer_class):
    params = parameters()
    optimizer = optimizer_class(params)
    step = torch.compile(optimizer.step, backend="eager")
    give_gradients(params)
    step()
    params[2].grad[0, 0] = math.nan
    before = photograph(optimizer)[2]
    with pytest.raises(ValueError, match="the gradient of parameter 2 of group 0 must be finite"):
        step()
    assert same(photograph(optimizer)[2], before)


# ---- CUDA graphs ------------------------------------------------------------------------------------------


def warmed_up(optimizer, params):
    """Two steps on a side stream, as PyTorch asks for before a capture."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for k in range(2):
            give_gradients(params, seed=k)
            optimizer.step()
    torch.cuda.current_stream().wait_stream(side)


@pytest.mark.gpu
@pytest.mark.parametrize("scope", ["global", "group", "parameter"])
def test_a_captured_step_of_sofim_replays_as_it_steps(cuda, scope):
    options = {"nonfinite": "skip", "capturable": True, "weight_decay": 0.5, "scope": scope}
    params, others = (parameters(dtype=torch.float32, device=cuda) for _ in range(2))
    rates = [torch.tensor(0.1, device=cuda) for _ in range(2)]
    captured, eager = (SOFIM(p, lr=r, **options) for p, r in zip((params, others), rates, strict=True))
    for optimizer, ps in ((captured, params), (eager, others)):
        warmed_up(optimizer, ps)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured.step()
    u = unit_roundoff("float32")
    for k in range(STEPS):
        fresh = [nn.Parameter(torch.empty_like(p)) for p in params]
        give_gradients(fresh, seed=9 + k)
        for p, q, new in zip(params, others, fresh, strict=True):
            p.grad.copy_(new.grad), q.grad.copy_(new.grad)
        for rate in rates:
            rate.mul_(0.75)
        before = [p.detach().clone() for p in params]
        if k == 2:
            params[1].grad[0, 0] = math.nan
            others[1].grad[0, 0] = math.nan
        graph.replay()
        eager.step()
        assert all(map(torch.equal, params, before)) == (k == 2)
        for p, q in zip(params, others, strict=True):
            assert distance(p, array(q), budget=(k + 1) * OPERATIONS * u * (norm(array(q)) + 1.0)).passed
            assert captured.state[p]["step"] == eager.state[q]["step"]


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("optimizer_class", "options", "message"),
    [
        (SOFIM, {}, 'needs capturable=True and nonfinite="skip"'),
        (SOFIM, {"capturable": True}, 'needs capturable=True and nonfinite="skip"'),
        (FISMO, {"capturable": True, "nonfinite": "skip"}, "cannot be captured in a CUDA graph"),
    ],
)
def test_what_cannot_be_captured_says_so(cuda, optimizer_class, options, message):
    params = parameters(dtype=torch.float32, device=cuda)
    optimizer = optimizer_class(params, **options)
    warmed_up(optimizer, params)
    before = [p.detach().clone() for p in params]
    with pytest.raises(RuntimeError, match=message), torch.cuda.graph(torch.cuda.CUDAGraph()):
        optimizer.step()
    torch.cuda.synchronize()
    assert all(map(torch.equal, params, before))
