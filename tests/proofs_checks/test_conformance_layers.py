"""What the checks of AdaFisher are made of: layers, their calls, expected values, budgets, smaller cases."""

import itertools

import numpy as np
import pytest
import torch

import reference.adafisher
from proofs_checks.conformance import adafisher_cases, adafisher_errors, adafisher_golden, adafisher_oracle
from proofs_checks.conformance.case import Case, compare
from proofs_checks.conformance.errors import NotApplicable
from proofs_checks.conformance.judges import against_oracle
from proofs_checks.conformance.layer_case import LayerCase, Pass, given, layered
from proofs_checks.conformance.layers import Convolution, Embedding, Linear
from proofs_checks.conformance.manifest import plan
from proofs_checks.conformance.shrink import shrink
from proofs_checks.decision import DOUBLE
from proofs_checks.mutants.small_adafisher import AdaFisher
from proofs_checks.ratios import recursion
from tests.reference.cases import check

DTYPES = ("float64", "float32", "bfloat16", "float16")
EVERY_LAYER = [row for rows in adafisher_cases.LAYERS.values() for row in rows]


def bench(target=AdaFisher, *, dtype="float64", **options):
    how = {"options": options, "rename": {}, "level": "L0", "device": "cpu", "seed": 0}
    return plan(target, "adafisher", dtype=dtype, **how).lines[0].bench


def linear(calls, *, bias=False, **hp):
    """One step of a linear layer: calls (h, s, how)."""
    passes = tuple(Pass(np.array(h, dtype=float), np.array(s, dtype=float), how) for h, s, how in calls)
    layer = Linear(passes[0].h.shape[-1], passes[0].s.shape[-1], bias)
    return LayerCase(hp={**bench().hp(), **hp}, layer=layer, steps=(passes,))


def cases_of(held):
    """A linear layer with bias over several steps, and two steps of a layer of every kind."""
    rng = np.random.default_rng(3)
    yield list(adafisher_cases.trajectories(held, rng))[3]
    for kind in adafisher_cases.LAYERS:
        yield from adafisher_cases.layers_of(kind, held, rng)


# ---- layers


@pytest.mark.parametrize("layer", [Linear(3, 2), Linear(2, 3, True), *(row[0] for row in EVERY_LAYER)])
def test_a_layer_is_one_matrix_and_back(layer):
    W = np.arange(np.prod(layer.shape), dtype=float).reshape(layer.shape)
    assert np.array_equal(layer.whole(layer.parts(W)), W)
    assert np.array_equal(layer.joined(layer.split(W)), W)
    module = layer.module(torch.float64, "cpu")
    assert [tuple(p.shape) for p in module.parameters()] == [part.shape for part in layer.parts(W)]
    assert np.array_equal(layer.read(module), layer.rest())
    layer.write(module, W)
    assert np.array_equal(layer.read(module), W)
    assert type(module).__name__ in layer.source()


def test_making_layers_draws_no_random_numbers():
    before = torch.get_rng_state()
    for layer, _, _ in EVERY_LAYER:
        layer.module(torch.float32, "cpu")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_gradient_is_reproduced_to_the_last_bit(dtype):
    G = np.array([[1.0, 0.0, -3.0], [0.5, 2.0**-5, 4.0]])
    (got,) = layered(Case({"lr": 1.0}, (G,))).gradients_in(dtype, "cpu")
    assert np.array_equal(got, G)
    case = layered(Case({"lr": 1.0}, (G,)))
    (block,) = case.factors(0, reference.adafisher)
    assert len(set(block.h_D.tolist())) == G.shape[1]
    assert given(G).h.shape == (3, 3)


H, K, T = [[1.0, 2.0]], [[4.0, -1.0]], [[2.0]]


def test_gradients_are_those_of_the_calls_that_are_differentiated():
    def gradient(*calls):
        return linear(calls).gradients[0].tolist()

    one, other = (H, [[3.0]]), (K, T)
    both = [[11, 4]]
    assert gradient((*one, "backward")) == [[3, 6]]
    assert gradient((*one, "backward"), (*other, "backward")) == both
    assert gradient((*one, "backward"), (*other, "joint")) == both
    assert gradient((*one, "backward"), (*other, "eval")) == [[3, 6]]
    assert gradient((*other, "unused"), (*one, "backward")) == [[3, 6]]


def test_calls_are_pooled_row_by_row():
    parts = linear([(H, [[3.0]], "backward"), ([*K, *K], [*T, *T], "joint"), (H, T, "eval")], bias=True)
    whole = linear([([*H, *K, *K], [[3.0], *T, *T], "backward")], bias=True)
    (some,), (all_,) = (case.factors(0, reference.adafisher) for case in (parts, whole))
    assert np.array_equal(some.h_D, all_.h_D)
    assert np.array_equal(some.s_D, all_.s_D)
    assert some.h_D[-1] == 1
    assert some.samples == 3


def test_groups_of_a_convolution_are_normalised_together_or_apart():
    layer, x, s = EVERY_LAYER[4]
    assert isinstance(layer, Convolution)
    assert layer.groups == 2
    rng = np.random.default_rng(1)
    passes = [(rng.standard_normal(x), rng.standard_normal(s))]
    for grouping, axes in (("layer", 2), ("group", 1)):
        (block,) = layer.blocks(reference.adafisher, passes, grouping)
        assert block.factor_axes == axes
        assert block.h_D.shape == (2, layer.shape[1])


# ---- expected values


@pytest.mark.claim("ADAF-average")
@pytest.mark.parametrize("refresh", [1, 2])
@pytest.mark.parametrize(
    "options",
    [
        *(
            {"normalise": n, "gamma_on": g, "initial": i}
            for n, g, i in itertools.product(("after", "before"), ("old", "new"), ("first", "ones"))
        ),
        {"averaging": "released"},
        {"epsilon": 0.125},
        {"epsilon": 2.0**-20, "relative": False, "normalise": "before"},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_rational_arithmetic_agrees_with_the_reference_in_every_variant(options, refresh):
    held = bench(**options)
    (case,) = adafisher_cases.golden(held, np.random.default_rng(0))
    case = LayerCase(hp={**case.hp, "refresh": refresh}, layer=case.layer, steps=case.steps)
    expected, allowed = adafisher_oracle.oracle(held, case)
    exact = adafisher_golden.updates(case, held.setting.variant)
    assert compare("rational", expected, exact, allowed).ratio.passed


@pytest.mark.claim("ADAF-golden")
def test_the_first_golden_step_is_the_printed_denominator():
    held = bench()
    (case,) = adafisher_cases.golden(held, np.random.default_rng(0))
    lam = case.hp["lam"]
    printed = np.array([[1 + lam, 0.25 + lam, lam], [lam, lam, lam]])
    first = adafisher_golden.updates(case, held.setting.variant)[0]
    assert np.array_equal(first, np.array([[5.0, 1.0, 2.0], [2.0, -2.0, 0.0]]) / printed)


@pytest.mark.parametrize(
    "options", [{}, {"normalise": "before"}, {"averaging": "released"}, {"initial": "ones"}]
)
def test_the_recursion_behind_the_budget_is_the_reference(options):
    """Without its errors it gives the size of the reference's updates."""
    held = bench(**options)
    for case in cases_of(held):
        expected = adafisher_oracle.simulate(reference.adafisher, case, held.setting)
        for U, step in zip(expected, adafisher_oracle.staged(held, case), strict=True):
            # Both average the same gradients and divide by the same F, each with a few roundings a step.
            per_step = adafisher_errors.STEP_ROUNDINGS + adafisher_errors.AVERAGE_ROUNDINGS
            operations = per_step * len(expected)
            check(recursion(step.size, np.abs(U), np.abs(U) + step.size, operations=operations, u=DOUBLE))


# ---- budgets


def test_random_inputs_with_near_ties_stay_within_the_budget_in_float32():
    held, rng = bench(dtype="float32"), np.random.default_rng(5)
    judged = 0
    for _ in range(40):
        n, m, N = (int(k) for k in rng.integers(2, 5, 3))
        h = rng.standard_normal((3, N, n)) * (1 + 2.0 ** -rng.integers(0, 12) * rng.standard_normal(n))
        s = rng.standard_normal((3, N, m)) * 10.0 ** rng.uniform(-3, 1)
        steps = tuple((Pass(held.cast(a), held.cast(b)),) for a, b in zip(h, s, strict=True))
        hp = held.hp(beta=0.9, gamma=0.8, lam=10.0 ** rng.uniform(-3, 0))
        case = LayerCase(hp=hp, layer=Linear(n, m, bool(rng.integers(2))), steps=steps)
        try:
            verdict = against_oracle(held, case)
        except NotApplicable:
            continue
        judged += 1
        assert verdict.ratio.passed, verdict.ratio
    assert judged > 0


def test_an_update_moved_beyond_its_budget_fails():
    held = bench(dtype="float32")
    for case in cases_of(held):
        expected, allowed = adafisher_oracle.oracle(held, case)
        moved = tuple(U + 2 * budget for U, budget in zip(expected, allowed, strict=True))
        assert not compare("x", moved, expected, allowed).ratio.passed


def test_nearly_equal_entries_of_a_factor_cost_budget_and_a_lone_minimum_costs_none():
    held = bench(dtype="float32")
    budgets = []
    for gap in (1.0, 2.0**-6, 2.0**-12):
        h = held.cast(np.array([[1.0, 1.0 + gap / 2, 1.0 + gap]]) / 3)  # squares that are rounded
        case = LayerCase(
            hp=held.hp(beta=0.0), layer=Linear(3, 2), steps=((Pass(h, np.array([[1.0, 2.0]])),),)
        )
        _, (budget,) = adafisher_oracle.oracle(held, case)
        budgets.append(budget[1])
    lone, middle, _ = np.array(budgets).T
    assert np.all(np.diff(middle) > 0)
    assert np.array_equal(lone[:2], lone[1:])


def test_sums_are_exact_where_every_partial_sum_fits():
    exactly = adafisher_errors._sums_exactly
    columns = np.array([[1.0, 1.0, 1.0, 255.0], [4.0, 1.0, 0.0, 2.0], [4.0, 1.0, 0.0, 1.0]])
    assert exactly(columns, 8).tolist() == [True, True, False, False]
    assert exactly(columns[:2], 8).tolist() == [True, True, True, False]
    assert exactly(columns[:2], 9).tolist() == [True, True, True, True]
    assert exactly(np.zeros((3, 1)), 8).tolist() == [True]


def test_inputs_whose_squares_leave_the_range_are_not_judged():
    held = bench(dtype="float16")
    for size in (2.0**-8, 2.0**9):
        case = linear([(H, [[size]], "backward")])
        with pytest.raises(NotApplicable, match="squares of the inputs leave the range of float16"):
            adafisher_oracle.oracle(held, case)
    small = bench(dtype="float16", precision="float32")
    adafisher_oracle.oracle(small, linear([(H, [[2.0**-8]], "backward")]))
    with pytest.raises(NotApplicable, match="the step leaves the range of float16"):
        adafisher_oracle.oracle(small, linear([(H, [[2.0**9]], "backward")], lam=2.0**-10))


def test_a_layer_that_torch_cannot_run_does_not_apply(monkeypatch):
    def missing(self, x):
        raise NotImplementedError("no kernel for 'Half'")

    monkeypatch.setattr(torch.nn.Linear, "forward", missing)
    with pytest.raises(NotApplicable, match=r"torch cannot run torch.nn.Linear.* in float64: no kernel"):
        linear([(H, [[1.0]], "backward")])


# ---- smaller cases


def test_a_failure_shrinks_to_one_number_of_one_call():
    held = bench()
    case = list(adafisher_cases.trajectories(held, np.random.default_rng(1)))[3]
    assert case.layer.shape == (2, 4)

    def fails(candidate):
        return any((p.s > 0).any() for passes in candidate.steps for p in passes)

    small = shrink(case, fails, cast=np.array, seconds=60.0)
    ((only,),) = small.steps
    assert small.layer == Linear(1, 1)
    assert only.s.tolist() == [[1]]
    assert only.h.tolist() == [[0]]


def test_a_failure_that_needs_two_calls_keeps_two_and_the_start_shrinks_along():
    held = bench()
    case = list(adafisher_cases.reused(held, np.random.default_rng(2)))[1]
    case = LayerCase(hp=case.hp, layer=case.layer, steps=case.steps, start=np.ones(case.layer.shape))

    def fails(candidate):
        return any(p.how == "joint" and p.h.any() for p in candidate.steps[0])

    small = shrink(case, fails, cast=np.array, seconds=60.0)
    ((first, second),) = small.steps
    assert (first.how, second.how) == ("backward", "joint")
    assert small.start.shape == small.layer.shape == (1, 1)


def test_indices_of_an_embedding_stay_as_they_are():
    held = bench()
    case = next(adafisher_cases.layers_of("embedding", held, np.random.default_rng(4)))
    small = shrink(case, lambda c: bool(c.gradients[0].any()), cast=np.array, seconds=60.0)
    assert isinstance(small.layer, Embedding)
    ((only,),) = small.steps
    assert only.h.shape == (1,)
    assert float(only.h[0]).is_integer()
    assert np.count_nonzero(only.s) == 1
