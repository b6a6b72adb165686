"""`torch_impl.fismo` against its reference step by step, and the structure of Algorithm 1."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

import reference.fismo
import reference.kronecker
from proofs_checks.ratios import ORDER_ONE, Ratio, inverse_root, unit_roundoff
from tests.torch_impl import cases
from tests.torch_impl.cases import (
    DOUBLE,
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
from torch_impl import fismo, muon, polar

EVERY_OPTION = list(itertools.product(["algorithm", "theorem"], ["gauss-seidel", "jacobi"], ["none", "unit"]))

#: A budget above this share of the update would hide a wrong formula: such draws are discarded.
RESOLUTION = 1e-2


def draw_state(rng, m, n, dtype, device="cpu"):
    """A state as it stands after some steps: conditioned factors, momentum of full rank."""
    factors = (tensor(cases.spd(rng, d), dtype, device) for d in (m, n))
    return fismo.FismoState(*factors, tensor(cases.matrix(rng, m, n), dtype, device))


def in_float64(state):
    return reference.fismo.FismoState(*(array(x) for x in state))


class StepBudget:
    """How far rounding may move one step, from its exact intermediate values.

    First order, Frobenius norms, every factorisation in float64, every stored matrix and product in `dtype`
    (u); X' is the new value of X. An inverse root moves by ``|X^-1|^(3/2) / 2`` times the factor, the polar
    factor by 2 over the smallest singular value times the momentum.
    """

    @classmethod
    def of(cls, G, before, after):
        """Of a step of the twin with the default options."""
        before, after = in_float64(before), in_float64(after)
        return cls(array(G), before, after, dtype=G.dtype, beta=0.9, gamma=0.95, mu=1e-2)

    def __init__(self, G, before, after, *, dtype, beta, gamma, mu):
        m, n = G.shape
        u = unit_roundoff(dtype)
        P, Q, P1, Q1, M1 = before.P, before.Q, after.P, after.Q, after.M
        size = max(norm(G), math.sqrt(m * n))  # `factor_scaling` may replace G by one of norm sqrt(m n)

        def factor(old, new, inner, shift):
            """Of a factor of side d: its statistic, its average, its normalisation."""
            d, k = len(old), len(inner)
            inverse = float(np.trace(np.linalg.inv(inner)))
            terms = (size**2 + mu * math.sqrt(d)) * inverse / k + mu * d
            statistic = (3 * k + 12) * u + backward_stable(k, condition(inner)) + shift
            averaged = gamma * norm(old) * 4 * u + (1.0 - gamma) * terms * (statistic + 4 * u)
            trace = float(gamma * d + (1.0 - gamma) * mu * d) if gamma + mu else 1.0
            return (d / trace) * (1.0 + math.sqrt(d)) * averaged + (d + 6) * u * norm(new)

        self.P = factor(P, P1, Q, 0.0)
        inverse_shift = norm(np.linalg.inv(P1), 2) * self.P  # Gauss-Seidel hands the error of P' on to Q'
        self.Q = factor(Q, Q1, P1 if condition(P1) > condition(P) else P, inverse_shift)
        A, C = (reference.kronecker.inverse_sqrt(X) for X in (P1, Q1))
        a, c = norm(A, 2), norm(C, 2)
        root = [
            0.5 * norm(A, 2) ** 3 * self.P + (u + backward_stable(m, condition(P1))) * norm(A),
            0.5 * norm(C, 2) ** 3 * self.Q + (u + backward_stable(n, condition(Q1))) * norm(C),
        ]
        g = norm(G)
        products = (m + n + 6) * u
        whitened = root[0] * g * c + a * g * root[1] + products * norm(A) * g * norm(C)
        self.M = (1.0 - beta) * whitened + 4 * u * (beta * norm(before.M) + norm(M1))
        s = np.linalg.svd(M1, compute_uv=False)
        polar = 2.0 * self.M / s[-1] + math.sqrt(len(s)) * (u + backward_stable(max(m, n), s[0] / s[-1]))
        rank = math.sqrt(len(s))
        self.update = a * c * polar + rank * (root[0] * c + a * root[1] + products * norm(A) * norm(C))


@given(
    seed=seeds,
    m=sides,
    n=sides,
    beta=st.sampled_from([0.0, 0.9]),
    gamma=st.sampled_from([0.0, 0.5, 0.95, 1.0]),
    mu=st.sampled_from([0.1, 2.0]),
    options=st.sampled_from(EVERY_OPTION),
    dtype=st.sampled_from(DTYPES),
)
def test_one_step_agrees_with_the_reference_for_every_option(
    device, seed, m, n, beta, gamma, mu, options, dtype
):
    damping, order, factor_scaling = options
    rng = np.random.default_rng(seed)
    work = torch.promote_types(dtype, torch.float32)
    state = draw_state(rng, m, n, work, device)
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
    G = torch.tensor(GRADIENTS[0], dtype=torch.float64)
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
