"""Every method trains under the same conditions, and none gets more than its budget."""

import sys
from itertools import pairwise

import pytest
import torch
from torch import nn

from benchmarks.train import optimizers
from benchmarks.train.budget import WARM_UP, Meter, lr_factor
from benchmarks.train.methods import METHODS
from benchmarks.train.optimizers import MissingPackageError, matrices
from benchmarks.train.run import Training, train
from benchmarks.train.spaces import Choice, Integers, LogUniform, draw, middle
from tests.benchmarks.tiny import TINY, disguised, method

BUDGET = 40

#: Settings that were published, or are their package's defaults; see the reason each method gives.
PUBLISHED = {
    "adamw": {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999},
    "sgd": {"lr": 0.1, "momentum": 0.9},
    "muon": {"lr": 0.02, "momentum": 0.95, "lr_rest": 1e-3},
    "shampoo": {"epsilon": 1e-6},
    "adahessian": {"lr": 0.15, "epsilon": 1e-4, "power": 1.0},
    "lbfgs": {"lr": 1.0, "iterations": 20},
    "fismo": {"mu": 1e-2, "gamma": 0.95},
    "fismo-theorem": {"mu": 1e-2, "gamma": 0.95},
    "fismo-unit": {"mu": 0.1, "gamma": 0.95},
    "sofim": {"rho": 0.5, "beta": 0.9},
    "adafisher": {"lr": 1e-3, "lam": 1e-3, "gamma": 0.8},
}


def contains(range_, value):
    return value in range_.values if isinstance(range_, Choice) else range_.low <= value <= range_.high


@pytest.mark.parametrize("name", METHODS)
def test_published_settings_are_inside_what_is_searched(name):
    for key, value in PUBLISHED[name].items():
        assert contains(METHODS[name].space[key], value), key


@pytest.mark.parametrize("name", METHODS)
def test_draws_are_inside_their_ranges_and_depend_on_the_trial_alone(name):
    space = METHODS[name].space
    draws = [draw(name, space, trial) for trial in range(50)]
    assert draws == [draw(name, space, trial) for trial in reversed(range(50))][::-1]
    assert len({str(config) for config in draws}) == 50
    assert draws[0] != draw("another " + name, space, 0)
    for config in draws:
        assert all(contains(space[key], value) for key, value in config.items())


def test_draws_reach_all_of_a_range():
    space = {"log": LogUniform(1e-3, 1e1), "integer": Integers(1, 3), "choice": Choice(("a", "b"))}
    draws = [draw("any", space, trial) for trial in range(100)]
    below = sum(config["log"] < space["log"].middle() for config in draws)
    assert 0 < below < len(draws)
    assert {config["integer"] for config in draws} == {1, 2, 3}
    assert {config["choice"] for config in draws} == {"a", "b"}


@pytest.mark.parametrize("name", METHODS)
def test_a_method_spends_its_budget_and_learns(name):
    outcome = train(TINY, method(name), middle(METHODS[name].space), seed=0, budget=BUDGET, detail=True)
    assert (outcome.status, outcome.reason) == ("finished", "")
    passes = METHODS[name].passes
    if passes is not None:
        assert (outcome.passes, outcome.steps) == (BUDGET, BUDGET // passes)
    else:
        assert 0 < outcome.passes <= BUDGET
    assert outcome.losses[-1][1] < outcome.losses[0][1]
    assert outcome.test.keys() == outcome.validation.keys() == {"loss", "accuracy"}


@pytest.mark.parametrize("name", METHODS)
def test_a_method_starts_from_the_weights_and_data_of_its_seed_and_steps_every_parameter(name):
    config = middle(METHODS[name].space)
    with torch.random.fork_rng():
        mine = Training(TINY, method(name), config, seed=3, budget=BUDGET)
        start = [p.detach().clone() for p in mine.model.parameters()]
        theirs = Training(TINY, METHODS["adamw"], middle(METHODS["adamw"].space), seed=3, budget=BUDGET)
        assert all(torch.equal(p, q) for p, q in zip(start, theirs.model.parameters(), strict=True))
        assert mine.step() == theirs.step()
    stuck = [tuple(p.shape) for p, q in zip(start, mine.model.parameters(), strict=True) if torch.equal(p, q)]
    assert not stuck


def test_a_run_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    train(TINY, METHODS["adamw"], middle(METHODS["adamw"].space), seed=0, budget=4)
    assert torch.equal(before, torch.random.get_rng_state())


def test_muon_steps_kernels_as_matrices():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Flatten(), nn.Linear(12, 2))
    kernel = model[0].weight
    twin = nn.Parameter(kernel.detach().reshape(3, 8).clone())
    built = optimizers.muon(model, {"lr": 0.1, "momentum": 0.9, "lr_rest": 0.1})
    plain = torch.optim.Muon([twin], lr=0.1, momentum=0.9, weight_decay=0.0)
    for _ in range(2):
        built.optimizer.zero_grad(), model.zero_grad()
        model(torch.randn(4, 2, 3, 3)).square().mean().backward()
        twin.grad = kernel.grad.reshape(3, 8).clone()
        built.optimizer.step(), plain.step()
    assert torch.equal(kernel.detach().reshape(3, 8), twin.detach())


def test_matrix_methods_share_one_split():
    names = [name for name, _ in matrices(TINY.model())]
    assert names == ["0.weight", "2.weight"]  # the head is no matrix


class Greedy(torch.optim.SGD):
    """Evaluates a second gradient inside its step, which nobody asked it to do."""

    def __init__(self, parameters):
        self.all = list(parameters)
        super().__init__(self.all, lr=0.1)

    def step(self, closure=None):
        with torch.enable_grad():
            sum(0.0 * p.sum() for p in self.all).backward()
        return super().step(closure)


def test_a_method_that_evaluates_more_gradients_than_it_declares_is_caught():
    outcome = train(TINY, disguised(Greedy), {}, seed=0, budget=BUDGET)
    assert outcome.status == "failed"
    assert "2 gradient evaluations, 1 are declared" in outcome.reason
    honest = train(TINY, disguised(Greedy, passes=2), {}, seed=0, budget=BUDGET)
    assert (honest.status, honest.passes, honest.steps) == ("finished", BUDGET, BUDGET // 2)


def test_a_line_search_cannot_exceed_the_budget_and_its_cut_step_is_taken_back():
    config = {"lr": 0.5, "iterations": 20, "line_search": "strong_wolfe"}
    with torch.random.fork_rng():
        training = Training(TINY, METHODS["lbfgs"], config, seed=0, budget=7)
        start = [p.detach().clone() for p in training.model.parameters()]
        assert training.step() is None
    assert training.meter.passes == 7
    assert all(torch.equal(p, q) for p, q in zip(start, training.model.parameters(), strict=True))


def test_the_meter_counts_gradients_and_hessian_products_alike():
    model = TINY.model()
    meter = Meter(model.parameters(), budget=5)
    batch = next(TINY.batches(torch.Generator().manual_seed(0)))
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(TINY.loss(model, batch), parameters, create_graph=True)
    assert (meter.passes, meter.left) == (1, 4)
    torch.autograd.grad(gradients, parameters, [torch.ones_like(g) for g in gradients])
    assert (meter.passes, meter.left) == (2, 3)
    TINY.loss(model[:], batch).backward()
    meter.close()
    TINY.loss(model, batch).backward()
    assert meter.passes == 3


@pytest.mark.parametrize("budget", [1, 2, 19, 400])
def test_the_schedule_rises_to_one_and_then_falls_but_never_to_zero(budget):
    factors = [lr_factor(passes, budget) for passes in range(budget)]
    top = max(1, round(WARM_UP * budget)) - 1
    assert factors[top] == 1 == max(factors)
    assert all(factor > 0 for factor in factors)
    assert all(a < b for a, b in pairwise(factors[: top + 1]))
    assert all(a >= b for a, b in pairwise(factors[top:]))


def test_a_missing_package_is_said_with_its_cure(monkeypatch):
    monkeypatch.setitem(sys.modules, optimizers.PEERS, None)
    for name in ("shampoo", "adahessian"):
        with pytest.raises(MissingPackageError, match=r"pip install 'fisherproof\[peers\]'"):
            METHODS[name].require()
    METHODS["adamw"].require()
