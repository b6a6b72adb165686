"""`torch_impl.fismo` against its reference step by step; its start, edges and arguments."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

import reference.fismo
import reference.kronecker
from proofs_checks.ratios import inverse_root, unit_roundoff
from tests.torch_impl import cases
from tests.torch_impl.cases import (
    DTYPES,
    FLOATS,
    array,
    backward_stable,
    condition,
    distance,
    norm,
    seeds,
    sides,
    tensor,
)
from tests.torch_impl.step_budget import EVERY_OPTION, StepBudget, draw_state, in_float64
from torch_impl import fismo, polar

#: A budget above this share of the update would hide a wrong formula: such draws are discarded.
RESOLUTION = 1e-2


@given(
    seed=seeds,
    m=sides,
    n=sides,
    beta=st.sampled_from([0.0, 0.9]),
    gamma=st.sampled_from([0.0, 0.5, 0.95, 1.0]),
    mu=st.sampled_from([0.1, 2.0]),
    options=st.sampled_from(EVERY_OPTION),
    start=st.sampled_from([1.0, 3.0]),
    dtype=st.sampled_from(DTYPES),
)
def test_one_step_agrees_with_the_reference_for_every_option(
    device, seed, m, n, beta, gamma, mu, options, start, dtype
):
    damping, order, factor_scaling = options
    rng = np.random.default_rng(seed)
    work = torch.promote_types(dtype, torch.float32)
    state = draw_state(rng, m, n, work, device)
    state = state._replace(P=start * state.P, Q=start * state.Q)  # a start need not have trace m and n
    G = tensor(rng.standard_normal((m, n)), dtype, device)
    before = [x.clone() for x in (G, *state)]
    keywords = {
        "beta": beta,
        "gamma": gamma,
        "mu": mu,
        "damping": damping,
        "order": order,
        "factor_scaling": factor_scaling,
    }
    want, after = reference.fismo.step(array(G), in_float64(state), **keywords)
    budget = StepBudget(array(G), in_float64(state), after, dtype=work, beta=beta, gamma=gamma, mu=mu)
    assume(budget.update < RESOLUTION * norm(want))
    got, new = fismo.step(G, state, **keywords)
    assert distance(new.P, after.P, budget=budget.P, name="P").passed
    assert distance(new.Q, after.Q, budget=budget.Q, name="Q").passed
    assert distance(new.M, after.M, budget=budget.M, name="M").passed
    assert distance(got, want, budget=budget.update, name="update").passed
    assert {x.dtype for x in (got, *new)} == {work}
    assert all(torch.equal(a, b) for a, b in zip(before, (G, *state), strict=True)), "an input was modified"
    assert all(torch.equal(X, X.mT) for X in new[:2])


@given(seed=seeds, m=sides, n=sides, options=st.sampled_from(EVERY_OPTION), dtype=st.sampled_from(FLOATS))
def test_the_stages_are_the_step(seed, m, n, options, dtype):
    names = ("damping", "order", "factor_scaling")
    keywords = {"gamma": 0.7, "mu": 0.3, **dict(zip(names, options, strict=True))}
    rng = np.random.default_rng(seed)
    state, G = draw_state(rng, m, n, dtype), tensor(rng.standard_normal((m, n)), dtype)
    P, Q = fismo.update_factors(G, state.P, state.Q, **keywords)
    _, after = fismo.step(G, state, beta=0.5, **keywords)
    assert torch.equal(P, after.P)
    assert torch.equal(Q, after.Q)
    assert torch.equal(0.5 * state.M + 0.5 * fismo.whiten(G, P, Q), after.M)
    want = reference.fismo.update_factors(array(G), array(state.P), array(state.Q), **keywords)
    budget = StepBudget(
        array(G),
        in_float64(state),
        reference.fismo.FismoState(*want, array(state.M)),
        dtype=dtype,
        beta=0.0,
        gamma=0.7,
        mu=0.3,
    )
    assert distance(P, want[0], budget=budget.P).passed
    assert distance(Q, want[1], budget=budget.Q).passed


@given(seed=seeds, m=sides, n=sides, dtype=st.sampled_from(FLOATS))
def test_whitening_is_by_symmetric_inverse_roots(seed, m, n, dtype):
    rng = np.random.default_rng(seed)
    P, Q = (tensor(cases.spd(rng, d), dtype) for d in (m, n))
    G = tensor(cases.matrix(rng, m, n), dtype)
    want = reference.fismo.whiten(array(G), array(P), array(Q))
    A, C = (reference.kronecker.inverse_sqrt(array(X)) for X in (P, Q))
    u = unit_roundoff(dtype)
    relative = (m + n + 4) * u + backward_stable(max(m, n), condition(array(P)) * condition(array(Q)))
    assert distance(fismo.whiten(G, P, Q), want, budget=relative * norm(A) * norm(array(G)) * norm(C)).passed
    one_sided = fismo.whiten(torch.eye(m, dtype=dtype), P, torch.eye(m, dtype=dtype))
    assert inverse_root(array(one_sided), array(P), p=2, u=u).passed


@pytest.mark.parametrize("method", polar.ORTHOGONALIZERS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_orthogonalizer_acts_on_the_whitened_momentum_and_the_result_is_mapped_back(method, dtype):
    rng = np.random.default_rng(3)
    state, G = fismo.init(torch.zeros(4, 5, dtype=dtype)), tensor(rng.standard_normal((4, 5)), dtype)
    seen = []

    def spy(M):
        seen.append(M)
        return polar.orthogonalize(M, method)

    named, _ = fismo.step(G, state, orthogonalize=method)
    spied, after = fismo.step(G, state, orthogonalize=spy)
    assert torch.equal(named, spied)
    assert torch.equal(seen[0], after.M)
    assert torch.equal(named, fismo.whiten(polar.orthogonalize(after.M, method), after.P, after.Q))


# ---- start, edges, arguments ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_state_starts_at_the_identity_in_at_least_float32(dtype):
    state = fismo.init(torch.ones(2, 3, 4, dtype=dtype))
    assert {x.dtype for x in state} == {torch.promote_types(dtype, torch.float32)}
    assert torch.equal(state.P, torch.eye(3).expand(2, 3, 3))
    assert torch.equal(state.Q, torch.eye(4).expand(2, 4, 4))
    assert torch.equal(state.M, torch.zeros(2, 3, 4))


def test_given_start_values_are_copied():
    given = {"P0": 2 * torch.eye(2), "Q0": torch.eye(3), "M0": torch.ones(2, 3)}
    state = fismo.init(torch.zeros(2, 3), **given)
    for part, start in zip(state, given.values(), strict=True):
        assert torch.equal(part, start)
        assert part.data_ptr() != start.data_ptr()


def test_a_zero_gradient_is_no_step_and_keeps_its_meaning():
    state = fismo.init(torch.zeros(2, 3))
    for factor_scaling in ("none", "unit"):
        update, after = fismo.step(torch.zeros(2, 3), state, factor_scaling=factor_scaling)
        assert torch.equal(update, torch.zeros(2, 3))
        assert torch.equal(after.M, state.M)
        u = unit_roundoff("float32")  # only damping, a multiple of the identity, enters the factors
        for new, old in zip(after[:2], state[:2], strict=True):
            assert distance(new, array(old), budget=(len(old) + 6) * u * norm(array(old))).passed


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (0, 2, 3)])
@pytest.mark.parametrize("damping", ["algorithm", "theorem"])
def test_empty_parameters_have_a_defined_step(shape, damping):
    state = fismo.init(torch.zeros(shape))
    update, after = fismo.step(torch.zeros(shape), state, damping=damping)
    assert update.shape == shape
    assert all(torch.equal(a, b) for a, b in zip(state, after, strict=True))


@pytest.mark.parametrize("damping", ["algorithm", "theorem"])
def test_a_one_by_one_parameter_is_sign_descent(damping):
    state = fismo.init(torch.zeros(1, 1))
    for g in (3.0, -100.0, 1e-6):
        update, state = fismo.step(torch.tensor([[g]]), state, beta=0.0, damping=damping)
        assert update.item() == math.copysign(1, g)
        assert state.P.item() == state.Q.item() == 1


def test_a_singular_factor_does_not_pass_silently():
    G = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    state = fismo.init(G)
    try:
        update, _ = fismo.step(G, state, gamma=0.0, mu=0.0)
    except torch.linalg.LinAlgError:
        return  # LAPACK's own refusal of NaN
    assert update.isnan().any()


G, STATE = torch.ones(2, 3), fismo.init((2, 3))
FACTORS = {"gamma": 0.9, "mu": 0.1, "damping": "algorithm", "order": "jacobi", "factor_scaling": "none"}


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fismo.step(G, STATE, beta=1.0), ValueError, "beta must be .* < 1, got 1.0"),
        (lambda: fismo.step(G, STATE, beta=-0.1), ValueError, "beta must be .*>= 0"),
        (lambda: fismo.step(G, STATE, gamma=1.5), ValueError, "gamma must be .*<= 1, got 1.5"),
        (lambda: fismo.step(G, STATE, mu=-1.0), ValueError, "mu must be"),
        (lambda: fismo.step(G, STATE, mu=math.inf), ValueError, "mu must be a finite number"),
        (lambda: fismo.step(G, STATE, damping="none"), ValueError, "damping must be one of 'algorithm'"),
        (lambda: fismo.step(G, STATE, order="sor"), ValueError, "order must be one of"),
        (lambda: fismo.step(G, STATE, factor_scaling=2), ValueError, "factor_scaling must be one of"),
        (lambda: fismo.step(G, STATE, orthogonalize="svd"), ValueError, "orthogonalize must be one of"),
        (lambda: fismo.step(G, STATE, beta="0.9"), TypeError, "beta must be a real number"),
        (lambda: fismo.step(G.mT, STATE), ValueError, "must have shape"),
        (lambda: fismo.step(G[0], STATE), ValueError, "G must have shape"),
        (lambda: fismo.step(G.to(torch.complex64), STATE), ValueError, "G must be float64"),
        (lambda: fismo.step(G, STATE._replace(M=G.mT)), ValueError, r"state\.M must have shape"),
        (lambda: fismo.update_factors(G, STATE.Q, STATE.Q, **FACTORS), ValueError, "P must have shape"),
        (lambda: fismo.whiten(G, STATE.P, STATE.P), ValueError, "Q must have shape"),
        (lambda: fismo.init(torch.zeros(3)), ValueError, "W must have shape"),
        (lambda: fismo.init((2, 3), P0=torch.eye(3)), ValueError, r"P0 must have shape \(..., 2, 2\)"),
        (lambda: fismo.init((2, 3), M0=torch.eye(3)), ValueError, "M0 must have shape"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
