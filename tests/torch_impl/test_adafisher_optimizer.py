"""AdaFisher as an optimizer: options, state, copies, hooks, refusals."""

import copy
import gc
import io
import math
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

from proofs_checks.ratios import recursion, unit_roundoff
from tests.torch_impl.cases import DTYPES, array
from tests.torch_impl.optimizer_cases import same
from torch_impl.optim.adafisher import AdaFisher, AdaFisherW

LR = 1e-4


def network(dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, groups=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)
    ).to(dtype)


def feed(model, optimizer, steps=1, seed=0):
    dtype = next(model.parameters()).dtype
    for k in range(steps):
        optimizer.zero_grad()
        generator = torch.Generator().manual_seed(seed + k)
        model(torch.randn(6, 2, 4, 4, generator=generator).to(dtype)).square().mean().backward()
        optimizer.step()


def photograph(model, optimizer):
    return copy.deepcopy((model.state_dict(), optimizer.state_dict()))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_state_dict_continues_bit_for_bit_and_keeps_its_dtypes(dtype):
    model = network(dtype)
    optimizer = AdaFisher(model, LR, refresh=2)
    feed(model, optimizer, 3)
    buffer = io.BytesIO()
    torch.save((model.state_dict(), optimizer.state_dict()), buffer)
    buffer.seek(0)
    weights, saved = torch.load(buffer, weights_only=True)
    other = network(dtype)
    other.load_state_dict(weights)
    resumed = AdaFisher(other, refresh=2)
    resumed.load_state_dict(saved)
    assert same(photograph(other, resumed), photograph(model, optimizer))
    for pair in ((model, optimizer), (other, resumed)):
        feed(*pair, 3, seed=3)
    assert same(photograph(other, resumed), photograph(model, optimizer))
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    for state in resumed.state.values():
        assert {x.dtype for name, x in state.items() if name != "step"} == {wide}


@pytest.mark.parametrize("order", [0, 1], ids=["model first", "optimizer first"])
def test_copies_and_pickles_of_a_pair_continue_bit_for_bit(order):
    model = network()
    optimizer = AdaFisher(model, LR)
    feed(model, optimizer, 2)
    pair = (model, optimizer)[:: 1 - 2 * order]
    copies = [copy.deepcopy(pair)[:: 1 - 2 * order], pickle.loads(pickle.dumps(pair))[:: 1 - 2 * order]]
    alone = copy.deepcopy(optimizer)
    copies.append((alone.model, alone))
    feed(model, optimizer, 2, seed=5)
    for other_model, other in copies:
        assert other.model is other_model
        feed(other_model, other, 2, seed=5)
        assert same(photograph(other_model, other), photograph(model, optimizer))


def test_a_model_that_holds_its_optimizer_can_be_copied():
    model = network()
    model.optimizer = AdaFisher(model, LR)
    feed(model, model.optimizer)
    other = copy.deepcopy(model)
    assert other.optimizer.model is other
    for pair in ((model, model.optimizer), (other, other.optimizer)):
        feed(*pair, 2, seed=5)
    assert same(photograph(other, other.optimizer), photograph(model, model.optimizer))


def test_a_copy_of_the_model_alone_measures_nothing():
    model = network()
    optimizer = AdaFisher(model, LR)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        second = copy.deepcopy(other).eval()
        second(torch.randn(6, 2, 4, 4)).sum().backward()
        assert not optimizer._measurements.pending
        fresh = network()
        for pair in ((fresh, AdaFisher(fresh, LR)), (other, AdaFisher(other, LR))):
            feed(*pair, 2)
        assert same(fresh.state_dict(), other.state_dict())


def hooks(model):
    return [len(module._forward_hooks) for module in model.modules()]


def test_hooks_go_with_the_optimizer_or_when_asked():
    model = network()
    optimizer = AdaFisher(model)
    assert hooks(model) == [0, 1, 1, 0, 0, 1]
    optimizer.remove_hooks()
    assert sum(hooks(model)) == 0
    optimizer = AdaFisher(model)
    feed(model, optimizer)
    del optimizer
    gc.collect()
    assert sum(hooks(model)) == 0


def test_steps_go_on_without_hooks_from_the_factors_there_are():
    model = network()
    optimizer = AdaFisher(model, LR)
    feed(model, optimizer)
    optimizer.remove_hooks()
    before = photograph(model, optimizer)
    feed(model, optimizer)
    assert not same(photograph(model, optimizer)[0], before[0])
    assert all(int(state["refreshes"]) == 1 for state in optimizer.state.values())


def test_memory_is_the_parameter_its_factors_and_two_counts():
    model = network()
    optimizer = AdaFisher(model, LR)
    feed(model, optimizer)
    conv, norm, linear = model[0], model[1], model[4]
    wanted = {
        conv.weight: conv.weight.numel() + 2 * (9 + 1) + 4,
        conv.bias: 4 + 2 * (9 + 1) + 4,
        norm.weight: 3 * 4,
        norm.bias: 3 * 4,
        linear.weight: 3 * 16 + (16 + 1) + 3,
        linear.bias: 3 + (16 + 1) + 3,
    }
    for p, numbers in wanted.items():
        assert sum(x.numel() for x in optimizer.state[p].values()) == numbers + 2


def test_distributed_checkpoint_makes_and_loads_the_whole_state():
    model, other = network(), network()
    optimizer, resumed = AdaFisher(model, LR), AdaFisher(other, LR)
    fresh = AdaFisher(network(), LR)
    before = copy.deepcopy(fresh.model.state_dict())
    complete = get_optimizer_state_dict(fresh.model, fresh)
    assert same(fresh.model.state_dict(), before)
    feed(model, optimizer, 2)
    saved = copy.deepcopy(get_optimizer_state_dict(model, optimizer))
    assert complete["state"].keys() == saved["state"].keys()
    assert all(complete["state"][name].keys() == state.keys() for name, state in saved["state"].items())
    other.load_state_dict(model.state_dict())
    set_optimizer_state_dict(other, resumed, saved)
    for pair in ((model, optimizer), (other, resumed)):
        feed(*pair, 2, seed=7)
    assert same(other.state_dict(), model.state_dict())
    feed(fresh.model, fresh, 1)  # zero gradients measured nothing; the first real ones do
    assert all(int(state["refreshes"]) == 1 for state in fresh.state.values())


def spoil_gradient(model):
    model[4].weight.grad[0, 0] = math.nan


def spoil_measurement(model):
    """An output gradient of 1e30 has a finite product with an input of 1e-30, and no finite square."""
    model.zero_grad()
    model[4](torch.full((2, 16), 1e-30)).backward(torch.full((2, 3), 1e30))


@pytest.mark.parametrize("spoil", [spoil_gradient, spoil_measurement])
def test_what_is_not_finite_is_refused_or_skipped_as_a_whole(spoil):
    for nonfinite in ("raise", "skip"):
        model = network()
        optimizer = AdaFisher(model, LR, nonfinite=nonfinite)
        feed(model, optimizer)
        before = photograph(model, optimizer)
        model(torch.randn(6, 2, 4, 4)).sum().backward()
        statistics = photograph(model, optimizer)[0]
        spoil(model)
        if nonfinite == "raise":
            with pytest.raises(ValueError, match=r"(gradient of parameter|layer '4').*must be finite"):
                optimizer.step()
        else:
            optimizer.step()
        assert same(photograph(model, optimizer)[1], before[1])
        assert same(photograph(model, optimizer)[0], statistics)
        feed(model, optimizer)
        assert not same(photograph(model, optimizer)[0], statistics)


def test_the_device_skips_where_the_host_may_not_wait():
    model = network()
    optimizer = AdaFisher(model, LR, nonfinite="skip", capturable=True)
    for k in range(2):  # the first time there is no factor yet
        model(torch.randn(6, 2, 4, 4)).sum().backward()
        spoil_gradient(model)
        weights, state = photograph(model, optimizer)
        optimizer.step()
        assert same(model.state_dict(), weights)
        assert all(float(x["refreshes"]) == float(x["step"]) == k for x in optimizer.state.values())
        assert not k or same(optimizer.state_dict(), state)
        feed(model, optimizer)
        if k == 0:
            first = AdaFisher(network(), LR)
            feed(first.model, first)
            fresh = first.state[first.model[0].weight]["h_D"]
            assert same(optimizer.state[model[0].weight]["h_D"], fresh), "the average held what was refused"


class Raw(nn.Module):
    """A layer without a factor between two with one."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.gain, self.last = nn.Linear(4, 5), nn.Parameter(torch.ones(5)), nn.Linear(5, 2)

    def forward(self, x):
        return self.last(self.first(x) * self.gain)


def test_a_parameter_without_a_factor_needs_a_fallback_and_steps_by_it():
    with pytest.raises(ValueError, match=r"fallback must be given .* got None for gain"):
        AdaFisher(Raw())
    model = Raw()
    optimizer = AdaFisher(model, 0.5, fallback=0.25)
    model(torch.randn(3, 4)).sum().backward()
    before, g = model.gain.detach().clone(), model.gain.grad.clone()
    optimizer.step()
    want = array(before - 0.5 * (g / 0.25))
    terms = np.abs(array(before)) + np.abs(array(g)) * 2.0
    ratio = recursion(array(model.gain), want, terms, operations=8, u=unit_roundoff("float32"))
    assert ratio.passed, ratio
    assert set(optimizer.state[model.gain]) == {"step", "M"}


class Sidestep(nn.Module):
    """Uses the weight of a layer without calling the layer."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x):
        return nn.functional.linear(x, self.layer.weight, self.layer.bias)


def test_a_layer_that_is_never_called_is_found_at_the_step():
    model = Sidestep()
    optimizer = AdaFisher(model)
    before = copy.deepcopy(model.state_dict())
    model(torch.randn(4, 3)).sum().backward()
    with pytest.raises(ValueError, match=r"parameter 0 of group 0 .*no factor.*'layer'"):
        optimizer.step()
    assert same(model.state_dict(), before)
    assert not optimizer.state
    for p in model.parameters():
        p.grad.zero_()
    optimizer.step()
    assert same(model.state_dict(), before)
    optimizer.param_groups[0]["fallback"] = 1.0
    model(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    assert not any(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_groups_have_their_own_options_and_may_come_later():
    model = network()
    groups = [{"params": model[0].parameters(), "lr": 0.0}, {"params": model[1].parameters(), "refresh": 2}]
    optimizer = AdaFisher(model, LR, params=groups)
    assert hooks(model) == [0, 1, 1, 0, 0, 0]
    start = copy.deepcopy(model.state_dict())
    feed(model, optimizer)
    optimizer.add_param_group({"params": model[4].parameters(), "weight_decay": 0.5})
    assert hooks(model) == [0, 1, 1, 0, 0, 1]
    feed(model, optimizer)
    moved = {name: not torch.equal(p, start[name]) for name, p in model.named_parameters()}
    assert moved == {name: not name.startswith("0.") for name in moved}
    counts = [int(optimizer.state[p]["refreshes"]) for p in model.parameters()]
    assert counts == [2, 2, 1, 1, 1, 1]


#: What the paper uses for vision transformers.
DECAY = 1e-2


def test_w_differs_by_its_default_decay():
    assert AdaFisherW(network()).defaults == {**AdaFisher(network()).defaults, "weight_decay": DECAY}


REFUSED = {
    "no module": (lambda: AdaFisher([nn.Parameter(torch.ones(2))]), TypeError, "model must be"),
    "data parallel": (lambda: AdaFisher(nn.DataParallel(network())), ValueError, "DataParallel"),
    "lazy": (lambda: AdaFisher(nn.LazyLinear(3)), ValueError, "lazy"),
    "strangers": (
        lambda: AdaFisher(network(), params=network().parameters()),
        ValueError,
        r"params must belong to model, got other tensors at positions \[0, 1",
    ),
    "no layer": (lambda: AdaFisher(nn.LSTM(2, 2)), ValueError, "fallback must be given .*weight_ih_l0"),
    "attention": (lambda: AdaFisher(nn.MultiheadAttention(4, 2)), ValueError, "out_proj.weight"),
    "transposed": (lambda: AdaFisher(nn.ConvTranspose2d(2, 2, 3)), ValueError, "fallback"),
    "weight norm": (
        lambda: AdaFisher(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))),
        ValueError,
        "None for parametrizations.weight.original0, parametrizations.weight.original1:",
    ),
    "scaler": (lambda: AdaFisher(network(), scaler=2.0), TypeError, "scaler must be"),
    "beta": (lambda: AdaFisher(network(), beta=1.0), ValueError, "beta must"),
    "gamma": (lambda: AdaFisher(network(), gamma=1.5), ValueError, "gamma must"),
    "lam": (lambda: AdaFisher(network(), lam=0.0), ValueError, "lam must"),
    "epsilon": (lambda: AdaFisher(network(), epsilon=-1.0), ValueError, "epsilon must"),
    "fallback": (lambda: AdaFisher(network(), fallback=0.0), ValueError, "fallback must"),
    "refresh": (lambda: AdaFisher(network(), refresh=0), ValueError, "refresh must"),
    "relative": (lambda: AdaFisher(network(), relative=1), TypeError, "relative must"),
    "normalise": (lambda: AdaFisher(network(), normalise="never"), ValueError, "normalise must"),
    "gamma_on": (lambda: AdaFisher(network(), gamma_on="both"), ValueError, "gamma_on must"),
    "averaging": (lambda: AdaFisher(network(), averaging="legacy"), ValueError, "averaging must"),
    "initial": (lambda: AdaFisher(network(), initial="zeros"), ValueError, "initial must"),
    "released epsilon": (
        lambda: AdaFisher(network(), averaging="released", epsilon=1e-6),
        ValueError,
        "epsilon must be 0.0 with averaging='released'",
    ),
    "captured refresh": (
        lambda: AdaFisher(network(), refresh=2, capturable=True),
        ValueError,
        "refresh must be 1 with capturable=True",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_makes_no_sense_is_refused(name):
    call, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        call()


def test_a_refused_group_adds_nothing():
    model = network()
    optimizer = AdaFisher(model, params=model[0].parameters())
    with pytest.raises(ValueError, match="params must belong"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))]})
    with pytest.raises(ValueError, match="lam must"):
        optimizer.add_param_group({"params": model[4].parameters(), "lam": -1.0})
    assert len(optimizer.param_groups) == 1
    assert hooks(model) == [0, 1, 0, 0, 0, 0]


def test_a_sparse_gradient_is_refused():
    table = nn.Embedding(5, 3, sparse=True)
    optimizer = AdaFisher(table)
    table(torch.tensor([1, 2])).sum().backward()
    with pytest.raises(ValueError, match="must be dense"):
        optimizer.step()


def test_a_scaled_step_that_is_skipped_changes_nothing():
    model = network()
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    optimizer = AdaFisher(model, LR, scaler=scaler)
    feed(model, optimizer)
    optimizer.zero_grad()
    scaler.scale(model(torch.randn(6, 2, 4, 4)).sum()).backward()
    model[4].weight.grad[0, 0] = math.inf
    before = photograph(model, optimizer)
    scaler.step(optimizer)
    scaler.update()
    assert same(photograph(model, optimizer), before)
    optimizer.zero_grad()
    scaler.scale(model(torch.randn(6, 2, 4, 4)).sum()).backward()
    scaler.step(optimizer)
    assert not same(photograph(model, optimizer)[0], before[0])


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute")
def test_a_compiled_model_is_measured():
    models = network(), network()
    optimizers = [AdaFisher(model, LR) for model in models]
    compiled = torch.compile(models[1], backend="eager")
    feed(models[0], optimizers[0], 2)
    for k in range(2):
        optimizers[1].zero_grad()
        generator = torch.Generator().manual_seed(k)
        compiled(torch.randn(6, 2, 4, 4, generator=generator)).square().mean().backward()
        optimizers[1].step()
    assert same(models[0].state_dict(), models[1].state_dict())
