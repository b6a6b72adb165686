"""Records against singular values and eigenvalues that are known, and against steps that are known."""

import numpy as np
import pytest
import torch

from benchmarks.train.methods import METHODS
from benchmarks.train.optimizers import matrices
from benchmarks.train.records import Observer, columns, conditioning, factor_figures, quartiles
from benchmarks.train.run import CHECKPOINTS, Training, train
from benchmarks.train.spaces import middle
from proofs_checks.ratios import EXPLICIT_BUDGET, Ratio, unit_roundoff, worst
from tests.benchmarks.tiny import TINY, method

DOUBLE = unit_roundoff("float64")

#: Roundings that a backward stable decomposition, and a product of three matrices, are charged with.
FORMULAS = 16


def close(name, computed, expected, *, condition=1.0, side=8, u=DOUBLE):
    """Relative error against what rounding allows: a small singular value errs by u times the largest."""
    budget = FORMULAS * side * u * condition * expected
    return Ratio(name, abs(computed - expected), budget, EXPLICIT_BUDGET)


def with_spectrum(values, m, n, seed=0):
    rng = np.random.default_rng(seed)
    U, V = (np.linalg.qr(rng.standard_normal((side, len(values))))[0] for side in (m, n))
    return torch.tensor((U * np.asarray(values)) @ V.T)


@pytest.mark.parametrize("shape", [(6, 6), (5, 9), (9, 5)])
@pytest.mark.parametrize("decades", [0, 1, 4])
def test_the_condition_is_that_of_the_spectrum(shape, decades):
    s = np.logspace(0.0, -decades, min(shape))
    figures = conditioning(with_spectrum(s, *shape), dtype=torch.float32)
    kappa = 10.0**decades
    limit = 1 / (max(shape) * unit_roundoff("float32"))
    check = worst(
        [
            close("kappa", figures["kappa"], kappa, condition=kappa, side=max(shape)),
            close("limit", figures["kappa_limit"], limit, side=max(shape)),
        ]
    )
    assert check.passed, check
    assert figures["seen"] == 1


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float32, 0.0), (torch.float64, 1e-6)])
def test_what_rounding_hides_is_not_called_a_condition(dtype, rounding):
    dW = with_spectrum([1.0, 1e-2, 1e-12], 8, 3)
    hidden = conditioning(dW, dtype=dtype, rounding=rounding)
    check = close("kappa", hidden["kappa"], 1e2, condition=1e2)
    assert check.passed, check
    assert hidden["seen"] == 2 / 3
    plain = conditioning(dW, dtype=torch.float64)
    assert plain["seen"] == 1
    assert plain["kappa"] > hidden["kappa_limit"]


@pytest.mark.parametrize("dW", [torch.zeros(3, 2), torch.zeros(0, 2), torch.full((3, 2), 1e-12)])
def test_an_update_that_is_zero_or_below_rounding_has_no_condition(dW):
    figures = conditioning(dW, dtype=torch.float32, rounding=1e-10)
    assert figures == {}


def test_factor_figures_are_those_of_the_eigenvalues():
    p, q = [0.25, 0.75, 2.0], [0.5, 1.5]
    P, Q = (with_spectrum(values, len(values), len(values)) for values in (p, q))
    P, Q = P @ P.mT, Q @ Q.mT  # symmetric, with the squares as eigenvalues
    figures = factor_figures(P, Q, mean_square=0.3, mu=0.5, unit=False)
    expected = {"kappa_P": 64.0, "kappa_Q": 9.0, "P_minus_I": 3.0, "b": 0.3 / 0.5}
    check = worst([close(name, figures[name], expected[name], condition=64.0) for name in expected])
    assert check.passed, check
    assert figures.keys() == expected.keys()
    unit = factor_figures(P, Q, mean_square=0.3, mu=0.5, unit=True)
    assert unit["b"] == 2
    undamped = factor_figures(P, Q, mean_square=0.3, mu=0, unit=False)
    assert "b" not in undamped


def test_a_factor_that_lost_definiteness_has_a_finite_condition():
    figures = factor_figures(
        torch.diag(torch.tensor([1.0, -1e-9])), torch.eye(2), mean_square=1, mu=1, unit=False
    )
    assert figures["kappa_P"] == 1 / unit_roundoff("float32")


def test_a_gradient_step_is_aligned_with_its_gradient_and_as_long():
    plain = {"lr": 0.5, "momentum": 0.0, "nesterov": False}
    with torch.random.fork_rng():
        training = Training(TINY, METHODS["sgd"], plain, seed=0, budget=1)
        observer = Observer(training.model, matrices(training.model))
        training.step(observer)
        record = observer.after()
    gradient = torch.cat([p.grad.flatten().double() for p in training.model.parameters()])
    size, u = (
        float(gradient.norm()),
        unit_roundoff("float32"),
    )  # the update is rounded once, relative to itself
    check = worst(
        [
            close("gradient", record["gradient_norm"], size, side=len(gradient)),
            close("update", record["update_norm"], 0.5 * size, u=u),
            close("alignment", record["alignment_all"], 1.0, u=u),
            *(close("quartile", x, 1.0, u=u) for x in record["alignment"]),
        ]
    )
    assert check.passed, check


@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name].passes == 1])
def test_a_step_taken_from_zero_is_the_step(name):
    config = middle(METHODS[name].space)
    weights = []
    for watch in (False, True):
        with torch.random.fork_rng():
            training = Training(TINY, method(name), config, seed=0, budget=20)
            observer = Observer(training.model, matrices(training.model)) if watch else None
            for _ in range(2):
                training.step(observer)
        weights.append(torch.cat([p.detach().flatten().double() for p in training.model.parameters()]))
    plain, watched = weights
    budget = (
        FORMULAS * unit_roundoff("float32") * float(plain.norm() + 1)
    )  # two additions, seen through a gradient
    check = Ratio("weights", float((plain - watched).norm()), budget, EXPLICIT_BUDGET)
    assert check.passed, check


def test_the_gradient_is_the_one_at_the_old_weights_even_after_a_line_search():
    config = {"lr": 0.5, "iterations": 5, "line_search": "strong_wolfe"}
    with torch.random.fork_rng():
        training = Training(TINY, METHODS["lbfgs"], config, seed=0, budget=50)
        twin = Training(TINY, METHODS["adamw"], middle(METHODS["adamw"].space), seed=0, budget=50)
        observer = Observer(training.model, matrices(training.model))
        training.step(observer)
        other = Observer(twin.model, matrices(twin.model))
        twin.step(other)
    assert training.meter.passes > 1
    assert observer.after()["gradient_norm"] == other.after()["gradient_norm"]


@pytest.mark.parametrize("name", ["lbfgs", "adahessian"])
def test_a_step_that_needs_the_weights_is_watched_without_touching_them(name):
    config = middle(METHODS[name].space)
    watched, plain = (
        train(TINY, method(name), config, seed=0, budget=30, detail=detail) for detail in (True, False)
    )
    assert watched.validation == plain.validation
    assert watched.losses[-1:] == plain.losses
    assert plain.checkpoints == []


@pytest.mark.claim("FISMO-T5-near-muon")
def test_fismo_leaves_its_factors_in_the_record_and_others_have_none():
    budget = 4 * CHECKPOINTS
    runs = {
        name: train(TINY, method(name), middle(METHODS[name].space), seed=0, budget=budget, detail=True)
        for name in ("adamw", "fismo", "fismo-unit")
    }
    assert [point["passes"] for point in runs["adamw"].checkpoints] == list(range(1, budget, 4))
    for name, run in runs.items():
        figures = columns(run.checkpoints)
        assert len(figures["kappa"]) == CHECKPOINTS
        assert ("kappa_P" in figures) == (name != "adamw")
        assert all(low <= middle <= high for low, middle, high in figures["kappa"])
    printed, unit = (columns(runs[name].checkpoints) for name in ("fismo", "fismo-unit"))
    assert unit["P_minus_I"][-1][1] > printed["P_minus_I"][-1][1], "unit scaling moves the factors"


def test_quartiles_and_columns():
    assert quartiles([6, 2, 4]) == [3, 4, 5]
    assert columns([{"a": 1}, {"a": 2, "b": [3]}]) == {"a": [1, 2], "b": [None, [3]]}
