"""What a step of `FISMO` and `SOFIM` does: as the reference, in every precision, and at the edges."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import reference.fismo
import reference.sofim
from proofs_checks.ratios import recursion, unit_roundoff
from tests.torch_impl import cases
from tests.torch_impl.cases import DTYPES, FLOATS, array, distance, norm, seeds
from tests.torch_impl.optimizer_cases import BOTH, give_gradients, matrices, parameters, photograph, run, same
from tests.torch_impl.step_budget import StepBudget, in_float64
from torch_impl import FISMO, SOFIM, fismo

# ---- the step ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("maximize", [False, True])
def test_fismo_steps_every_matrix_as_the_reference_does(device, dtype, maximize):
    params = parameters(dtype=dtype, device=device)
    optimizer = FISMO(params, lr=0.1, mu=0.5, gamma=0.5, weight_decay=0.25, maximize=maximize)
    u = unit_roundoff(dtype)
    for k in range(3):
        give_gradients(params, seed=k)
        if k == 1:
            params[0].grad = None  # stacked with its equal in the other steps
        before = [(p.detach().clone(), copy.deepcopy(optimizer.state.get(p))) for p in params]
        optimizer.step()
        for p, (W, state) in zip(params, before, strict=True):
            if p.grad is None:
                assert torch.equal(p, W)
                assert same(optimizer.state[p], state)
                continue
            start = matrices(state) if state else fismo.init(W)
            G = -array(p.grad) if maximize else array(p.grad)
            update, after = reference.fismo.step(G, in_float64(start), mu=0.5, gamma=0.5)
            budget = StepBudget(G, in_float64(start), after, dtype=dtype, beta=0.9, gamma=0.5, mu=0.5)
            want = (1.0 - 0.1 * 0.25) * array(W) - 0.1 * update
            rounding = 4 * u * (norm(array(W)) + 0.1 * norm(update))
            assert distance(p, want, budget=0.1 * budget.update + rounding).passed
            for name in "PQM":
                value, allowed = getattr(after, name), getattr(budget, name)
                assert distance(optimizer.state[p][name], value, budget=allowed, name=name).passed


@pytest.mark.parametrize("method", ["polar", "jordan", "polar-express"])
@pytest.mark.parametrize("damping", ["algorithm", "theorem"])
@pytest.mark.parametrize("order", ["gauss-seidel", "jacobi"])
@pytest.mark.parametrize("factor_scaling", ["none", "unit"])
def test_fismo_hands_every_option_to_the_function(method, damping, order, factor_scaling):
    options = {
        "beta": 0.5,
        "gamma": 0.7,
        "mu": 0.3,
        "damping": damping,
        "order": order,
        "factor_scaling": factor_scaling,
        "orthogonalize": method,
    }
    (W,) = parameters(shapes=[(3, 4)])
    optimizer, start, state = FISMO([W], lr=0.5, **options), W.detach().clone(), fismo.init(W)
    want = start
    for k in range(2):
        give_gradients([W], seed=k)
        optimizer.step()
        # Stacked as a batch of one, which is what the optimizer computes.
        batch = fismo.FismoState(*(x[None] for x in state))
        update, batch = fismo.step(W.grad[None], batch, **options)
        state, want = fismo.FismoState(*(x[0] for x in batch)), want - 0.5 * update[0]
    assert torch.equal(W, want)
    assert same(matrices(optimizer.state[W]), state)
    assert optimizer.state[W]["step"] == 2


def test_equal_shapes_with_different_options_are_not_stacked():
    choices = [
        {},
        {"gamma": 0.25},
        {"orthogonalize": "jordan"},
        {"beta": 0.5},
        {"mu": 3.0},
        {"order": "jacobi"},
    ]
    params = parameters(shapes=[(2, 3)] * len(choices))
    starts = [p.detach().clone() for p in params]
    optimizer = FISMO(
        [{"params": [p], **options} for p, options in zip(params, choices, strict=True)], lr=0.5
    )
    give_gradients(params)
    optimizer.step()
    for p, W, options in zip(params, starts, choices, strict=True):
        start = fismo.init(W[None])
        update, after = fismo.step(p.grad[None], start, **options)
        assert torch.equal(p, W - 0.5 * update[0])
        assert same(matrices(optimizer.state[p]), [x[0] for x in after])


@given(
    seed=seeds,
    steps=st.integers(1, 4),
    beta=st.sampled_from([0.0, 0.5, 0.9]),
    rho=st.sampled_from([0.1, 0.5, 3.0]),
    dtype=st.sampled_from(FLOATS),
    maximize=st.booleans(),
)
def test_sofim_is_the_reference_on_the_flat_vector_of_all_groups(
    device, seed, steps, beta, rho, dtype, maximize
):
    params = parameters(seed, dtype, [(3, 4), (5,), (), (2, 1, 2)], device)
    groups = [{"params": params[:2]}, {"params": params[2:]}]
    optimizer = SOFIM(groups, lr=0.1, beta=beta, rho=rho, weight_decay=0.25, maximize=maximize)

    def flat(tensors):
        return np.concatenate([array(x).reshape(-1) for x in tensors])

    d, u = sum(p.numel() for p in params), unit_roundoff(dtype)
    state, terms = reference.sofim.init(np.zeros(d)), np.zeros(d)
    for t in range(1, steps + 1):
        give_gradients(params, seed=seed // 2 + t)
        g = flat([p.grad for p in params]) * (-1.0 if maximize else 1.0)
        W = flat(params)
        optimizer.step()
        update, state = reference.sofim.step(g, state, beta=beta, rho=rho)
        terms = beta * terms + (1.0 - beta) * np.abs(g)
        M_hat, wide = state.M / (1.0 - beta**t), terms / (1.0 - beta**t)
        denominator = rho + M_hat @ M_hat
        moved = wide / denominator + np.abs(M_hat) * 2 * norm(M_hat) * norm(wide) / denominator**2
        want = (1.0 - 0.1 * 0.25) * W - 0.1 * update
        operations = math.ceil(4 * t + d + 12 + 4 / (1.0 - beta))
        assert recursion(flat(params), want, np.abs(W) + 0.1 * moved, operations=operations, u=u).passed
        stored = flat([optimizer.state[p]["M"] for p in params])
        assert recursion(stored, state.M, terms, operations=4 * t, u=u).passed
        assert {float(optimizer.state[p]["step"]) for p in params} == {t}


def test_one_global_norm_is_not_a_norm_per_parameter():
    together, apart = parameters(shapes=[(2, 2), (2, 2)]), parameters(shapes=[(2, 2), (2, 2)])
    for params in (together, apart):
        give_gradients(params)
    SOFIM(together).step()
    for p in apart:
        SOFIM([p]).step()
    assert not torch.equal(together[0], apart[0])


def test_sofim_groups_share_the_norm_and_keep_their_own_options():
    a, b = parameters(shapes=[(2,), (3,)])
    start = [p.detach().clone() for p in (a, b)]
    optimizer = SOFIM([{"params": [a], "lr": 0.5, "rho": 2.0}, {"params": [b], "lr": 0.25, "rho": 1.0}])
    give_gradients([a, b])
    nu = float(a.grad.square().sum() + b.grad.square().sum())  # the first corrected momentum is the gradient
    optimizer.step()
    for p, W, lr, rho in ((a, start[0], 0.5, 2.0), (b, start[1], 0.25, 1.0)):
        g = array(p.grad)
        terms = np.abs(array(W)) + 3 * lr * np.abs(g) / (rho + nu)
        want = array(W) - lr * g / (rho + nu)
        assert recursion(array(p), want, terms, operations=16, u=cases.DOUBLE).passed


def test_sofim_counts_steps_per_parameter_and_skips_what_has_no_gradient():
    a, b = parameters(shapes=[(2,), (2,)])
    optimizer = SOFIM([a, b], beta=0.5, rho=1.0, lr=1.0)
    give_gradients([a])
    optimizer.step()
    assert b not in optimizer.state
    a.grad, before = None, a.detach().clone()
    b.grad, start = torch.tensor([3.0, 4.0], dtype=torch.float64), b.detach().clone()
    optimizer.step()
    assert torch.equal(a, before)
    assert optimizer.state[a]["step"] == optimizer.state[b]["step"] == 1
    # Its first step: corrected momentum (3, 4), norm 5, and nothing of a in it.
    assert distance(start - b, np.array([3.0, 4.0]) / 26.0, budget=16 * cases.DOUBLE).passed


# ---- precision --------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_parameters_are_stepped_in_float32_and_rounded_on_storing(optimizer_class, dtype):
    narrow = parameters(dtype=dtype)
    wide = [nn.Parameter(p.detach().float()) for p in narrow]
    options = {"lr": 0.1, "weight_decay": 0.25}
    small, large = optimizer_class(narrow, **options), optimizer_class(wide, **options)
    for k in range(3):
        give_gradients(narrow, seed=k)
        for p, q in zip(narrow, wide, strict=True):
            q.data.copy_(p)  # the twin starts every step from the rounded parameter
            q.grad = p.grad.float()
        small.step()
        large.step()
        for p, q in zip(narrow, wide, strict=True):
            assert torch.equal(p, q.to(dtype))
            assert same(small.state[p], large.state[q])
            assert all(v.dtype == torch.float32 for name, v in small.state[p].items() if name != "step")


@BOTH
@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_are_left_alone(optimizer_class, dtype):
    params = parameters(dtype=dtype)
    optimizer = optimizer_class(params, maximize=True)
    give_gradients(params)
    before = [p.grad.clone() for p in params]
    optimizer.step()
    assert all(torch.equal(p.grad, g) for p, g in zip(params, before, strict=True))
    own = {v.data_ptr() for p in params for v in optimizer.state[p].values() if torch.is_tensor(v)}
    assert not own & {p.grad.data_ptr() for p in params}, "the state is the gradient"


def test_float16_gradients_do_not_overflow_the_global_norm():
    p = nn.Parameter(torch.zeros(64, dtype=torch.float16))
    p.grad = torch.full((64,), 3e4, dtype=torch.float16)
    optimizer = SOFIM([p], lr=1e6)
    optimizer.step()
    want = np.full(64, -1e6 * 3e4 / (0.5 + 64 * 9e8))
    g = float(p.grad[0])
    want = np.full(64, -1e6 * g / (0.5 + 64 * g * g))
    assert distance(p, want, budget=2.0 * cases.stored(want, torch.float16)).passed


# ---- edges ------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (1, 4), (4, 1), (1, 1)])
def test_empty_and_thin_parameters_are_stepped(optimizer_class, shape):
    params = parameters(shapes=[shape, (2, 2)])
    optimizer = optimizer_class(params, lr=0.1)
    before = params[0].detach().clone()
    run(optimizer, params, 2)
    assert params[0].isfinite().all()
    assert torch.equal(params[0], before) == (0 in shape)


@BOTH
@pytest.mark.parametrize("dtype", DTYPES)
def test_zero_gradients_do_not_move_anything(optimizer_class, dtype):
    params = parameters(dtype=dtype)
    before = [p.detach().clone() for p in params]
    optimizer = optimizer_class(params)
    for _ in range(2):
        for p in params:
            p.grad = torch.zeros_like(p)
        optimizer.step()
    assert all(map(torch.equal, params, before))


@BOTH
def test_without_any_gradient_a_step_does_nothing(optimizer_class):
    optimizer = optimizer_class(parameters())
    before = photograph(optimizer)
    optimizer.step()
    assert same(photograph(optimizer), before)
