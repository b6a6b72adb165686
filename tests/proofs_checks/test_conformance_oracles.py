"""What the checks are made of: expected values, budgets, the shrinker."""

import itertools

import numpy as np
import pytest

import reference.fismo
from proofs_checks.conformance import SPECS, fismo_oracle, muon_oracle
from proofs_checks.conformance.case import Case, compare
from proofs_checks.conformance.judges import hadamard, signed_permutation
from proofs_checks.conformance.manifest import plan
from proofs_checks.conformance.shrink import shrink
from proofs_checks.decision import DOUBLE
from proofs_checks.ratios import equivariance

ROWS = [
    {"damping": damping, "order": order, "factor_scaling": scaling}
    for damping, order, scaling in itertools.product(
        ("algorithm", "theorem"), ("gauss-seidel", "jacobi"), ("none", "unit")
    )
]


def bench(spec, target, *, dtype="float64", **options):
    lines = plan(
        target, spec, options=options, rename={}, level="L0", device="cpu", dtype=dtype, seed=0
    ).lines
    return lines[0].bench


def random_case(bench, rng, *, steps=3, shape=(2, 3)):
    return Case(bench.hp(), tuple(rng.standard_normal(shape) for _ in range(steps)))


@pytest.mark.parametrize("options", ROWS, ids=lambda row: "-".join(row.values()))
def test_the_staged_recursion_behind_the_budget_is_the_reference_step(options, monkeypatch):
    """Without perturbations it differs from `reference.fismo.step` by rounding only."""
    held = bench("fismo", "reference.fismo:step", **options)
    case = random_case(held, np.random.default_rng(1))
    honest = fismo_oracle._responses(held.setting, case, np.random.default_rng(0))

    def counted(self, X):
        self.count += X.shape[-2] * X.shape[-1]
        return X

    monkeypatch.setattr(fismo_oracle._Perturbed, "__call__", counted)
    still = fismo_oracle._responses(held.setting, case, np.random.default_rng(0))
    allowed = [fismo_oracle.ROUNDINGS_PER_SIDE * sum(R.shape) * DOUBLE * R / fismo_oracle.EPS for R in honest]
    zeros = tuple(np.zeros_like(R) for R in still)
    assert compare("staged", tuple(still), zeros, tuple(allowed)).ratio.passed


def test_the_fismo_budget_follows_the_condition_of_the_trajectory():
    held = bench("fismo", "reference.fismo:step")
    hp = {**held.hp(), "gamma": 1.0, "beta": 0.0}
    sizes = []
    for small in (1.0, 2.0**-6, 2.0**-12):
        left, right = np.array([[1.0, 1.0], [1.0, -1.0]]), np.array([[1.0, 2.0, 2.0], [2.0, 1.0, -2.0]])
        rotated = left @ np.diag([1.0, small]) @ right
        (budget,) = held.spec.oracle(held, Case(hp, (rotated,)))[1]
        sizes.append(np.linalg.norm(budget))
    growth = np.array(sizes[1:]) / sizes[:-1]
    assert np.all(growth > 1)
    assert np.log2(growth[1]) > np.log2(
        growth[0]
    )  # ever closer to 2^6: the factor's sensitivity is 1 / s_min


def test_the_exact_direction_of_pythagorean_momenta_is_the_reference_iteration():
    from reference.polar import JORDAN_QUINTIC, scalar_map

    for B in ((3, 4), (5, 12), (8, 15)):
        x = np.array(B) / np.linalg.norm(B)
        want = scalar_map(x, JORDAN_QUINTIC)
        got = np.array(muon_oracle.golden_direction(B))
        # Five steps of a dozen roundings each, amplified by slopes of at most 8 between them here.
        assert equivariance(got[None], want[None], budget=5 * 12 * 8 * DOUBLE).passed


@pytest.mark.parametrize("size", [1, 2, 3, 4, 6])
def test_the_turning_matrices_are_orthogonal_and_exact(size):
    for U in (hadamard(size), signed_permutation(size)):
        assert np.array_equal(U.T @ U, np.eye(size))
        assert np.array_equal(4 * U, np.round(4 * U))


def test_entrywise_and_normwise_budgets_agree_on_what_muon_should_do():
    held = bench("muon", "torch.optim:Muon", dtype="float32")
    hp = held.hp(momentum=0.0)
    X = np.diag([1.0, 2.0**-5])
    turned = signed_permutation(2) @ X + 0.0
    (entrywise,), (small,) = held.spec.oracle(held, Case(hp, (turned,)))
    Y = np.array([[1.0, 2.0**-5], [0.0, 2.0**-5]])
    (_,), (normwise,) = held.spec.oracle(held, Case(hp, (Y,)))
    assert small.shape == (2, 2)
    assert normwise.ndim == 0
    (straight,), _ = held.spec.oracle(held, Case(hp, (X,)))
    assert equivariance(entrywise, signed_permutation(2) @ straight, budget=float(small.max())).passed


def test_a_momentum_that_is_all_rounding_determines_nothing():
    held = bench("muon", "torch.optim:Muon", dtype="bfloat16", nesterov=False)
    hp = held.hp(momentum=0.5)
    cancelling = (np.array([[1.0]]), np.array([[-0.5]]))
    _, (first, second) = held.spec.oracle(held, Case(hp, cancelling))
    assert first[0, 0] < 1
    assert second[0, 0] == muon_oracle.UNDETERMINED


@pytest.mark.parametrize("spec", SPECS)
def test_all_zero_gradients_give_exact_zeros_with_no_budget(spec):
    target = {
        "fismo": "reference.fismo:step",
        "sofim": "reference.sofim:step",
        "muon": "reference.muon:step",
        "adafisher": "reference.adafisher:step",
    }[spec]
    held = bench(spec, target)
    expected, allowed = held.spec.oracle(held, Case(held.hp(), (np.zeros((2, 3)),) * 2))
    assert not any(X.any() for X in (*expected, *allowed))


def test_compare_fails_what_is_missing_misshapen_or_not_a_number():
    one, budget = (np.ones((1, 2)),), (np.full((1, 2), 0.5),)
    assert compare("x", one, one, budget).ratio.passed
    assert not compare("x", (), one, budget).ratio.passed
    assert not compare("x", (np.ones((2, 1)),), one, budget).ratio.passed
    assert not compare("x", (np.array([[1.0, np.nan]]),), one, budget).ratio.passed
    assert not compare("x", (np.array([[1.0, np.inf]]),), one, budget).ratio.passed
    exact = compare("x", (np.array([[1.0, 1.0 + DOUBLE * 2]]),), one, (np.zeros((1, 2)),))
    assert not exact.ratio.passed
    assert compare("x", one, one, (np.zeros((1, 2)),)).ratio.passed


def test_a_reference_step_perturbed_beyond_its_budget_fails():
    held = bench("fismo", "reference.fismo:step")
    case = random_case(held, np.random.default_rng(2))
    expected, allowed = held.spec.oracle(held, case)
    observed = fismo_oracle.simulate(reference.fismo, case, held.setting)
    assert compare("x", observed, expected, allowed).ratio.passed
    moved = tuple(X + 2 * budget for X, budget in zip(observed, allowed, strict=True))
    assert not compare("x", moved, expected, allowed).ratio.passed


# The shrinker


def big(rng, *, start=None):
    return Case({"lr": 0.5}, tuple(rng.standard_normal((4, 5)) for _ in range(6)), start)


def test_a_failure_that_needs_one_entry_of_one_step_shrinks_to_one_by_one():
    rng = np.random.default_rng(3)
    small = shrink(big(rng), lambda c: bool((c.gradients[-1] > 0).any()), cast=np.array, seconds=10.0)
    assert [G.tolist() for G in small.gradients] == [[[1]]]


def test_a_failure_that_needs_two_steps_keeps_two_and_rounds_them():
    def fails(case):
        return (
            len(case.gradients) > 1 and np.abs(case.gradients[0]).sum() > np.abs(case.gradients[1]).sum() > 0
        )

    rng = np.random.default_rng(4)
    case = Case({"lr": 0.5}, (3.0 * rng.standard_normal((3, 3)), rng.standard_normal((3, 3))))
    small = shrink(case, fails, cast=np.array, seconds=10.0)
    assert [G.shape for G in small.gradients] == [(1, 1), (1, 1)]
    assert all(float(f"{x:.2e}") == x for G in small.gradients for x in G.ravel())


def test_the_start_shrinks_with_the_gradients_and_errors_of_a_candidate_are_no_failures():
    def fails(case):
        if case.gradients[0].shape[0] == 1:
            raise ValueError("cannot be judged")
        return case.start.shape == case.gradients[0].shape

    rng = np.random.default_rng(5)
    small = shrink(big(rng, start=rng.standard_normal((4, 5))), fails, cast=np.array, seconds=10.0)
    assert small.start.shape == small.gradients[0].shape == (2, 1)


def test_a_vector_dealt_out_to_parameters_keeps_two_of_them():
    case = Case({"lr": 0.5}, (np.arange(1.0, 6.0),), split=(2, 3))
    small = shrink(case, lambda c: c.gradients[0].sum() > 0, cast=np.array, seconds=10.0)
    assert small.split == (1, 1)
    assert small.gradients[0].shape == (2,)
