"""Structure of Algorithm 1 in the twin: invariants, symmetries, limits, and its golden numbers."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import reference.fismo
from proofs_checks.ratios import ORDER_ONE, Ratio, unit_roundoff
from tests.torch_impl import cases
from tests.torch_impl.cases import (
    DOUBLE,
    FLOATS,
    array,
    distance,
    norm,
    seeds,
    sides,
    tensor,
)
from tests.torch_impl.step_budget import EVERY_OPTION, StepBudget, draw_state, in_float64
from torch_impl import fismo, muon

FACTORS = {"gamma": 0.9, "mu": 0.1, "damping": "algorithm", "order": "jacobi", "factor_scaling": "none"}


# ---- golden numbers ---------------------------------------------------------------------------------------

GRADIENTS = ([[1, 2, 0], [0, -1, 1]], [[0, 1, -1], [2, 0, 1]], [[1, 0, 1], [1, -1, 0]])
GOLDEN = {
    ("algorithm", "gauss-seidel", "none"): (
        [0.8147632899891, -0.04578236113984],
        [-0.1534225422177, -0.2350011965256, -0.03740650017101],
        [-0.1738578915331, 0.09215221572859, -0.1425391324283],
    ),
    ("algorithm", "jacobi", "none"): (
        [0.7912046417822, -0.0899648022060],
        [-0.1599463786486, -0.2423682170283, -0.0279370312442],
        [-0.1680886297846, 0.08947381036275, -0.1478134585669],
    ),
    ("theorem", "gauss-seidel", "none"): (
        [0.8294764456332, -0.03949530971471],
        [-0.1527055599889, -0.2351024128512, -0.03665313738532],
        [-0.1734828635492, 0.09220940685282, -0.1439618401530],
    ),
    ("theorem", "jacobi", "none"): (
        [0.8114271556324, -0.07668644089655],
        [-0.1582768920945, -0.2406429500105, -0.02760435007923],
        [-0.1678926904975, 0.09019363650549, -0.1504681818113],
    ),
    ("algorithm", "gauss-seidel", "unit"): (
        [0.8246548962860, 0.004826252124486],
        [-0.1532077339615, -0.2403274511797, -0.03102161767096],
        [-0.1706823057270, 0.09312224596096, -0.1425596376517],
    ),
    ("theorem", "gauss-seidel", "unit"): (
        [0.8354805443724, 0.008319427719760],
        [-0.1527208987779, -0.2404230490026, -0.03054229867675],
        [-0.1704034160514, 0.09315169353960, -0.1436857427446],
    ),
}
#: Half a unit in the thirteenth decimal, the last one printed for every entry, and 3 steps of rounding.
DIGITS = 0.5e-13 + 3 * ORDER_ONE * 6 * DOUBLE


def three_steps(options, dtype=torch.float64):
    state, W = fismo.init((2, 3)), torch.zeros(2, 3, dtype=dtype)
    state = fismo.FismoState(*(x.to(dtype) for x in state))
    for G in GRADIENTS:
        names = ("damping", "order", "factor_scaling")
        keywords = dict(zip(names, options, strict=True))
        update, state = fismo.step(
            torch.tensor(G, dtype=dtype), state, beta=0.5, gamma=0.5, mu=0.5, **keywords
        )
        W = W - 0.1 * update
    return W, state


@pytest.mark.claim("FISMO-GOLDEN")
@pytest.mark.parametrize("options", GOLDEN)
def test_three_golden_steps(options):
    W, state = three_steps(options)
    corner, *rows = GOLDEN[options]
    assert Ratio("P", float(np.abs(array(state.P[0]) - corner).max()), DIGITS).passed
    assert Ratio("W", float(np.abs(array(W) - rows).max()), DIGITS).passed


@pytest.mark.claim("FISMO-GOLDEN")
def test_the_first_factor_is_exact_and_the_last_as_printed():
    start = fismo.FismoState(*(x.double() for x in fismo.init((2, 3))))
    _, state = fismo.step(torch.tensor(GRADIENTS[0], dtype=torch.float64), start, beta=0.5, gamma=0.5, mu=0.5)
    exact = np.array([[19.0, -4.0], [-4.0, 13.0]]) / 16.0
    assert distance(state.P, exact, budget=ORDER_ONE * 2 * DOUBLE * norm(exact)).passed
    _, state = three_steps(("algorithm", "gauss-seidel", "none"))
    printed = [1.251576276757, -0.09974111787924, 0.4047439603454]
    printed += [0.8600251314984, -0.1301794870818, 0.8883985917444]
    upper = array(state.Q)[np.triu_indices(3)]
    assert Ratio("Q", float(np.abs(upper - printed).max()), 10 * DIGITS).passed


# ---- structure --------------------------------------------------------------------------------------------


@pytest.mark.claim("FISMO-ALG-invariants")
@given(seed=seeds, m=sides, n=sides, options=st.sampled_from(EVERY_OPTION), dtype=st.sampled_from(FLOATS))
def test_factors_keep_their_traces_and_symmetry_over_many_steps(seed, m, n, options, dtype):
    rng = np.random.default_rng(seed)
    names = ("damping", "order", "factor_scaling")
    state = fismo.init(torch.zeros(m, n, dtype=dtype))
    for _ in range(5):
        G = tensor(rng.standard_normal((m, n)), dtype)
        _, state = fismo.step(G, state, mu=0.1, **dict(zip(names, options, strict=True)))
    u = unit_roundoff(dtype)
    for X in state[:2]:
        d = len(X)
        assert torch.equal(X, X.mT)
        assert Ratio("trace", abs(float(X.double().trace()) - d), (d + 4) * u * d).passed


@pytest.mark.claim("FISMO-ALG-invariants")
def test_factors_come_out_symmetric_even_from_ones_that_are_not_quite():
    rng = np.random.default_rng(0)
    P, Q = (tensor(cases.spd(rng, d), torch.float64) for d in (3, 4))
    P[0, 1] += 1e-9
    Q[0, 2] += 1e-9
    for X in fismo.update_factors(tensor(rng.standard_normal((3, 4)), torch.float64), P, Q, **FACTORS):
        assert torch.equal(X, X.mT)


@pytest.mark.claim("FISMO-LOSS-SCALE")
@given(
    seed=seeds,
    k=st.integers(-40, 40),
    damping=cases.dampings,
    order=cases.orders,
    dtype=st.sampled_from(FLOATS),
)
def test_unit_scaling_makes_the_step_independent_of_the_scale_of_the_loss(seed, k, damping, order, dtype):
    rng = np.random.default_rng(seed)
    left = right = fismo.init(torch.zeros(3, 4, dtype=dtype))
    for _ in range(3):
        G = tensor(rng.standard_normal((3, 4)), dtype)
        keywords = {"damping": damping, "order": order, "factor_scaling": "unit"}
        update, left = fismo.step(G, left, **keywords)
        scaled, right = fismo.step(2.0**k * G, right, **keywords)
        assert torch.equal(update, scaled), "a power of two must scale out exactly"
        assert torch.equal(left.P, right.P)
        assert torch.equal(2.0**k * left.M, right.M)


def test_without_unit_scaling_the_scale_of_the_loss_matters():
    G = torch.tensor([[1.0, 2.0, 0.0], [0.0, -1.0, 1.0]], dtype=torch.float64)
    state = fismo.init(G)
    (plain, after), (scaled, _) = fismo.step(G, state), fismo.step(8.0 * G, state)
    assert not distance(scaled, array(plain), budget=StepBudget.of(G, state, after).update).passed


@pytest.mark.claim("FISMO-SYM-orthogonal")
@given(seed=seeds, options=st.sampled_from(EVERY_OPTION))
def test_orthogonal_transformations_carry_over(seed, options):
    m, n = 3, 4
    rng = np.random.default_rng(seed)
    keywords = dict(zip(("damping", "order", "factor_scaling"), options, strict=True))
    state = draw_state(rng, m, n, torch.float64)
    G = tensor(rng.standard_normal((m, n)), torch.float64)
    U, V = (tensor(np.linalg.qr(rng.standard_normal((d, d)))[0], torch.float64) for d in (m, n))
    turned = fismo.FismoState(U @ state.P @ U.mT, V @ state.Q @ V.mT, U @ state.M @ V.mT)
    update, after = fismo.step(G, state, **keywords)
    other, _ = fismo.step(U @ G @ V.mT, turned, **keywords)
    budget = StepBudget.of(G, state, after)
    # Both sides round as one step does; turning the inputs rounds them by (d + 1) u more.
    assert distance(other, array(U @ update @ V.mT), budget=4.0 * budget.update).passed


@pytest.mark.claim("FISMO-SYM-transpose")
@given(seed=seeds, damping=cases.dampings, factor_scaling=cases.scalings)
def test_transposition_holds_for_jacobi(seed, damping, factor_scaling):
    rng = np.random.default_rng(seed)
    state = draw_state(rng, 3, 5, torch.float64)
    G = tensor(rng.standard_normal((3, 5)), torch.float64)
    keywords = {"damping": damping, "factor_scaling": factor_scaling, "order": "jacobi"}
    update, after = fismo.step(G, state, **keywords)
    other, _ = fismo.step(G.mT, fismo.FismoState(state.Q, state.P, state.M.mT), **keywords)
    budget = StepBudget.of(G, state, after)
    assert distance(other.mT, array(update), budget=2.0 * budget.update).passed


@pytest.mark.claim("FISMO-SYM-transpose")
def test_transposition_fails_for_gauss_seidel():
    rng = np.random.default_rng(0)
    state = draw_state(rng, 3, 5, torch.float64)
    G = tensor(rng.standard_normal((3, 5)), torch.float64)
    update, after = fismo.step(G, state)
    other, _ = fismo.step(G.mT, fismo.FismoState(state.Q, state.P, state.M.mT))
    assert not distance(other.mT, array(update), budget=2.0 * StepBudget.of(G, state, after).update).passed


@pytest.mark.claim("FISMO-LIM-muon")
@given(seed=seeds, m=sides, n=sides, dtype=st.sampled_from(FLOATS))
def test_frozen_factors_give_muon_with_averaged_gradients(seed, m, n, dtype):
    rng = np.random.default_rng(seed)
    W = torch.zeros(m, n, dtype=dtype)
    state, other = fismo.init(W), muon.init(W)
    for _ in range(3):
        G = tensor(rng.standard_normal((m, n)), dtype)
        update, state = fismo.step(G, state, gamma=1.0)
        want, other = muon.step(G, other, beta=0.9, nesterov=False, scale="none", orthogonalize="polar")
        assert torch.equal(state.M, other.V)
        assert torch.equal(update, want)


@given(seed=seeds, dtype=st.sampled_from(FLOATS))
def test_a_batch_is_its_members(seed, dtype):
    rng = np.random.default_rng(seed)
    members = [draw_state(rng, 3, 4, dtype) for _ in range(3)]
    G = tensor(rng.standard_normal((3, 3, 4)), dtype)
    batch = fismo.FismoState(*(torch.stack(parts) for parts in zip(*members, strict=True)))
    updates, after = fismo.step(G, batch)
    for i, member in enumerate(members):
        want, alone = reference.fismo.step(array(G[i]), in_float64(member))
        budget = StepBudget(
            array(G[i]), in_float64(member), alone, dtype=dtype, beta=0.9, gamma=0.95, mu=1e-2
        )
        assert distance(updates[i], want, budget=budget.update).passed
        assert distance(after.P[i], alone.P, budget=budget.P).passed
