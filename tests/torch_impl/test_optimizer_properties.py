"""`FISMO` and `SOFIM` against the reference, one step at a time, over options, dtypes, shapes and devices.

Every step is compared from the state the optimizer holds, so that budgets are those of one step. Half
precision parameters are stepped in float32; what they round on storing is a part of the budget by itself.
"""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import reference.fismo
import reference.kronecker
import reference.polar
from proofs_checks.ratios import unit_roundoff
from tests.torch_impl import cases
from tests.torch_impl.cases import DTYPES, array, distance, norm, seeds, stored
from tests.torch_impl.optimizer_cases import give_gradients, matrices, parameters
from tests.torch_impl.step_budget import StepBudget, in_float64
from torch_impl import FISMO, SOFIM, _checks, fismo
from torch_impl.optim.squares import BLOCK

LR, DECAY = 0.125, 0.5


def stepped(W, update):
    """The parameter after a decoupled step, in float64; `update` is for the gradient as it was given."""
    return (1.0 - LR * DECAY) * W - LR * update


def storing(want, W, update, dtype):
    """Rounding of the last line of a step: in the working precision, and once on storing."""
    u = unit_roundoff(_checks.working(dtype))
    return 4 * u * (norm(W) + LR * norm(update)) + (stored(want, dtype) if dtype.itemsize == 2 else 0.0)


# ---- FISMO ------------------------------------------------------------------------------------------------


@given(
    seed=seeds,
    shape=st.sampled_from([(3, 4), (4, 3), (5, 5), (1, 4), (3, 1), (1, 1)]),
    dtype=st.sampled_from(DTYPES),
    beta=st.sampled_from([0.0, 0.5, 0.9]),
    gamma=st.sampled_from([0.5, 0.9, 1.0]),
    mu=st.sampled_from([0.1, 0.5]),
    damping=cases.dampings,
    order=cases.orders,
    factor_scaling=cases.scalings,
    maximize=st.booleans(),
    capturable=st.booleans(),
)
def test_fismo_is_the_reference_for_every_option(
    device, seed, shape, dtype, beta, gamma, mu, damping, order, factor_scaling, maximize, capturable
):
    options = {
        "beta": beta,
        "gamma": gamma,
        "mu": mu,
        "damping": damping,
        "order": order,
        "factor_scaling": factor_scaling,
    }
    params = parameters(seed, dtype, [shape, shape], device)
    optimizer = FISMO(
        params,
        lr=LR,
        weight_decay=DECAY,
        maximize=maximize,
        capturable=capturable,
        nonfinite="skip" if capturable else "raise",
        **options,
    )
    work = _checks.working(dtype)
    for k in range(2):
        give_gradients(params, seed=seed // 2 + k)
        before = [(array(p).copy(), copy.deepcopy(optimizer.state.get(p))) for p in params]
        optimizer.step()
        for p, (W, state) in zip(params, before, strict=True):
            start = in_float64(matrices(state) if state else fismo.init(p.detach()))
            G = array(p.grad) * (-1.0 if maximize else 1.0)
            update, after = reference.fismo.step(G, start, **options)
            budget = StepBudget(G, start, after, dtype=work, beta=beta, gamma=gamma, mu=mu)
            want = stepped(W, update)
            allowed = LR * budget.update + storing(want, W, update, dtype)
            assert distance(p, want, budget=allowed).passed
            for name in "PQM":
                assert distance(
                    optimizer.state[p][name], getattr(after, name), budget=getattr(budget, name), name=name
                ).passed
            assert optimizer.state[p]["step"] == k + 1


@given(seed=seeds, dtype=st.sampled_from(DTYPES), refresh=st.sampled_from([2, 3]))
def test_roots_are_those_of_the_last_refresh(device, seed, dtype, refresh):
    (W,) = parameters(seed, dtype, [(3, 4)], device)
    optimizer, u = (
        FISMO([W], lr=LR, weight_decay=DECAY, refresh=refresh),
        unit_roundoff(_checks.working(dtype)),
    )
    for k in range(2 * refresh + 1):
        give_gradients([W], seed=seed // 2 + k)
        before, state = array(W).copy(), copy.deepcopy(optimizer.state.get(W))
        optimizer.step()
        new = optimizer.state[W]
        if k % refresh == 0:
            for name, root in (("P", "A"), ("Q", "C")):
                factor = array(new[name])
                want = reference.kronecker.inverse_sqrt(factor)
                allowed = norm(want) * (u + cases.backward_stable(len(factor), cases.condition(factor)))
                assert distance(new[root], want, budget=allowed, name=root).passed
            continue
        assert torch.equal(new["A"], state["A"])
        assert torch.equal(new["C"], state["C"])
        G, A, C = array(W.grad), array(new["A"]), array(new["C"])
        start = in_float64(matrices(state))
        P, Q = reference.fismo.update_factors(
            G,
            start.P,
            start.Q,
            gamma=0.95,
            mu=1e-2,
            damping="algorithm",
            order="gauss-seidel",
            factor_scaling="none",
        )
        after = reference.fismo.FismoState(P, Q, 0.9 * start.M + 0.1 * (A @ G @ C))
        budget = StepBudget(G, start, after, dtype=_checks.working(dtype), beta=0.9, gamma=0.95, mu=1e-2)
        M_budget, update_budget = held_budgets(G, A, C, after.M, start.M, u=u)
        update = A @ reference.polar.polar_factor(after.M) @ C
        want = stepped(before, update)
        assert distance(new["P"], P, budget=budget.P, name="P").passed
        assert distance(new["Q"], Q, budget=budget.Q, name="Q").passed
        assert distance(new["M"], after.M, budget=M_budget, name="M").passed
        assert distance(W, want, budget=LR * update_budget + storing(want, before, update, dtype)).passed


def held_budgets(G, A, C, M, M_before, *, u):
    """`StepBudget` for the momentum and the update where the roots A and C are given exactly."""
    products = (sum(G.shape) + 6) * u
    momentum = 0.1 * products * norm(A) * norm(G) * norm(C) + 4 * u * (0.9 * norm(M_before) + norm(M))
    s = np.linalg.svd(M, compute_uv=False)
    stable = u + cases.backward_stable(max(M.shape), s[0] / s[-1])
    polar = 2.0 * momentum / s[-1] + math.sqrt(len(s)) * stable
    return momentum, norm(A, 2) * norm(C, 2) * polar + math.sqrt(len(s)) * products * norm(A) * norm(C)


# ---- SOFIM ------------------------------------------------------------------------------------------------


def scopes_of(scope, groups):
    """Which parameters share a norm, by position."""
    positions = np.cumsum([0, *map(len, groups)])
    if scope == "group":
        return [list(range(a, b)) for a, b in itertools.pairwise(positions)]
    everything = range(positions[-1])
    return [[i] for i in everything] if scope == "parameter" else [list(everything)]


@given(
    seed=seeds,
    dtype=st.sampled_from(DTYPES),
    scope=st.sampled_from(["global", "group", "parameter"]),
    betas=st.sampled_from([(0.9, 0.9), (0.0, 0.5)]),
    rho=st.sampled_from([0.1, 3.0]),
    maximize=st.booleans(),
    capturable=st.booleans(),
)
def test_sofim_is_the_reference_for_every_option(
    device, seed, dtype, scope, betas, rho, maximize, capturable
):
    params = parameters(seed, dtype, [(3, 4), (5,), (), (0, 2), (2, 3, 2)], device)
    groups = [params[:2], params[2:]]
    optimizer = SOFIM(
        [{"params": ps, "beta": beta} for ps, beta in zip(groups, betas, strict=True)],
        lr=LR,
        rho=rho,
        scope=scope,
        weight_decay=DECAY,
        maximize=maximize,
        capturable=capturable,
        nonfinite="skip" if capturable else "raise",
    )
    beta_of = [beta for ps, beta in zip(groups, betas, strict=True) for _ in ps]
    u = unit_roundoff(_checks.working(dtype))
    counts = [0] * len(params)
    for k in range(3):
        give_gradients(params, seed=seed // 2 + k)
        if k == 0:
            params[0].grad = None  # counts its steps by itself
        active = [i for i, p in enumerate(params) if p.grad is not None]
        old = [
            array(optimizer.state[p]["M"]).copy() if p in optimizer.state else 0.0 * array(p) for p in params
        ]
        before = [array(p).copy() for p in params]
        optimizer.step()
        sign = -1.0 if maximize else 1.0
        M, M_hat, rounded = {}, {}, {}
        for i in active:
            counts[i] += 1
            g, beta = sign * array(params[i].grad), beta_of[i]
            M[i] = beta * old[i] + (1.0 - beta) * g
            M_hat[i] = M[i] / (1.0 - beta ** counts[i])
            rounded[i] = 4 * u * (norm(old[i]) + norm(g)) / (1.0 - beta ** counts[i])
            allowed = rounded[i] * (1.0 - beta ** counts[i])
            assert distance(optimizer.state[params[i]]["M"], M[i], budget=allowed, name="M").passed
        for scope_members in scopes_of(scope, groups):
            members = [i for i in scope_members if i in active]
            nu = sum(norm(M_hat[i]) ** 2 for i in members)
            # What rounding of the momenta does to nu, and the sum of squares itself.
            shift = 2 * math.sqrt(nu) * sum(rounded[i] for i in members) + (BLOCK + 4) * u * nu
            for i in members:
                W, update = before[i], M_hat[i] / (rho + nu)
                want = stepped(W, update)
                moved = (rounded[i] + norm(M_hat[i]) * (8 * u + shift / (rho + nu))) / (rho + nu)
                allowed = LR * moved + storing(want, W, update, dtype)
                assert distance(params[i], want, budget=allowed).passed
        assert [float(optimizer.state[params[i]]["step"]) for i in active] == [counts[i] for i in active]


@pytest.mark.parametrize("scope", ["global", "group", "parameter"])
def test_scopes_are_different_optimizers(scope):
    params = parameters()
    optimizer = SOFIM([{"params": params[:2]}, {"params": params[2:]}], lr=1.0, scope=scope)
    start = [array(p).copy() for p in params]
    give_gradients(params)
    optimizer.step()
    squares = [norm(array(p.grad)) ** 2 for p in params]
    totals = {
        "global": [sum(squares)] * 3,
        "group": [squares[0] + squares[1]] * 2 + [squares[2]],
        "parameter": squares,
    }
    for p, W, nu in zip(params, start, totals[scope], strict=True):
        want = array(p.grad) / (0.5 + nu)
        assert distance(torch.tensor(W) - p.detach(), want, budget=64 * cases.DOUBLE * norm(W)).passed


def test_scopes_may_be_mixed_and_the_global_norm_is_over_the_groups_that_want_it():
    params = parameters()
    scopes = ["global", "parameter", "global"]
    optimizer = SOFIM([{"params": [p], "scope": s} for p, s in zip(params, scopes, strict=True)], lr=1.0)
    start = [array(p).copy() for p in params]
    give_gradients(params)
    optimizer.step()
    squares = [norm(array(p.grad)) ** 2 for p in params]
    for p, W, nu in zip(
        params, start, (squares[0] + squares[2], squares[1], squares[0] + squares[2]), strict=True
    ):
        want = array(p.grad) / (0.5 + nu)
        assert distance(torch.tensor(W) - p.detach(), want, budget=64 * cases.DOUBLE * norm(W)).passed
