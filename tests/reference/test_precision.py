"""The reference against 50 digits: every public function keeps the accuracy that its docstring states.

The checks are in `tests.reference.precision_checks` and its neighbour. The last tests list what is covered: a
new public function without a check turns them red.
"""

import importlib
import inspect
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import reference
from proofs_checks.golden.case import Case, budgets
from proofs_checks.golden.functions import FUNCTIONS
from proofs_checks.inputs import MATRICES
from proofs_checks.ratios import EXPLICIT_BUDGET, Ratio, worst
from reference import polar
from tests.reference import (
    precise,
    precision_checks_curvature,
    precision_checks_geometry,
    precision_checks_layers,
    precision_checks_problems,
    precision_checks_rates,
)
from tests.reference.cases import U64, check
from tests.reference.precise import exact
from tests.reference.precise_methods import METHODS
from tests.reference.precision_checks import CHECKS, apart, entries, polar_budget, shape
from tests.strategies import seeds

#: Importing a topic declares its checks.
TOPICS = (
    precision_checks_curvature,
    precision_checks_geometry,
    precision_checks_layers,
    precision_checks_problems,
    precision_checks_rates,
)

#: Entries of the largest named matrix for which 50 digits are quick.
MOST = 64


# methods


def along(name: str, case: Case) -> list[Ratio]:
    """Error over budget of every output of every step of a case."""
    function = FUNCTIONS[name]
    allowed = budgets(function, case, "float64")
    found = []
    rows = zip(function.run(case), METHODS[name](case), allowed, strict=True)
    for t, (got, want, bounds) in enumerate(rows, start=1):
        assert got.keys() == want.keys() == bounds.keys()
        for output, X in got.items():
            by = entries if bounds[output].ndim else apart
            budget = bounds[output] if bounds[output].ndim else float(bounds[output])
            place = f"{name}, {case.name}, step {t}, {output}"
            found.append(by(place, X, want[output], budget, threshold=EXPLICIT_BUDGET))
    return found


@pytest.mark.parametrize("name", FUNCTIONS)
def test_golden_cases_are_within_their_budget_of_fifty_digits(name):
    check(worst(ratio for case in FUNCTIONS[name].cases for ratio in along(name, case)))


@given(seeds, st.sampled_from([name for name in FUNCTIONS if name.endswith(".step")]))
def test_steps_from_drawn_gradients_are_within_their_budget_of_fifty_digits(seed, name):
    """A golden case with its options, and gradients of another shape, scale and number."""
    rng = np.random.default_rng(seed)
    cases = FUNCTIONS[name].cases
    like = cases[rng.integers(len(cases))]
    first = like.steps[0]
    matrix = first.get("G", first.get("g")).ndim == 2
    m, n = shape(rng, 3)
    sizes = {"G": (m, n) if matrix else (n,), "g": (n,), "D": (m, n) if matrix else (n,), "W": (m, n)}
    sizes |= {"h_D": (n + 1,), "s_D": (m + 1,)}
    if "h_D" in first:
        sizes |= {"G": (m + 1, n + 1), "W": (m + 1, n + 1)}
    steps = tuple({k: rng.standard_normal(sizes[k]) for k in first} for _ in range(int(rng.integers(1, 4))))
    case = Case("drawn", like.hp, steps)
    allowed = budgets(FUNCTIONS[name], case, "float64")
    assume(all(np.isfinite(bound).all() for step in allowed for bound in step.values()))
    check(worst(along(name, case)))


@pytest.mark.parametrize("check_of", dict.fromkeys(CHECKS.values()), ids=lambda function: function.__name__)
@given(seed=seeds)
def test_functions_keep_the_accuracy_they_state(check_of, seed):
    check(*check_of(np.random.default_rng(seed)))


@pytest.mark.parametrize("name", [name for name, M in MATRICES.items() if 0 < M.size <= MOST])
def test_named_matrices_have_the_exact_nuclear_norm_and_polar_factor(name):
    """Every kind of matrix that broke linear algebra before; factors only where the rank is full."""
    M = MATRICES[name]
    X, r = exact(M), min(M.shape)
    total = precise.nuclear_norm(X)
    check(apart("nuclear norm", polar.nuclear_norm(M), total, r * U64 * float(total)))
    s = precise.singular_values(X)
    if s[-1] > max(M.shape) * precise.EPSILON * s[0]:
        got, want = polar.polar_factor(M), precise.polar_factor(X)
        check(apart("polar", got, want, polar_budget(M), threshold=EXPLICIT_BUDGET))


# what is covered

#: Public callables that need no check of their own, and why.
EXEMPT = {
    "kronecker.FixedPoint": "a tuple of results",
    "polar.Polynomial": "a type",
    **{
        f"{module}.{state}": "a tuple of arrays"
        for module, state in {
            "adafisher": "AdaFisherState",
            "adahessian": "AdaHessianState",
            "adamw": "AdamWState",
            "dykaf": "DykafState",
            "fismo": "FismoState",
            "kfac": "KfacState",
            "kl_shampoo": "KlShampooState",
            "lbfgs": "LbfgsState",
            "mousse": "MousseState",
            "natural_gradient": "NaturalGradientState",
            "nystrom_sgd": "NystromState",
            "muon": "MuonState",
            "sgd": "SgdState",
            "shampoo": "ShampooState",
            "sofim": "SofimState",
        }.items()
    },
    "adafisher.NormalizationFactors": "a tuple of results",
    "isotropic_curvature.Growth": "a tuple of functions, checked where they are made",
    "isotropic_curvature.Moments": "a tuple of results",
    "nystrom_sgd.column_count": "an integer",
    **{
        f"bounds.{terms}": "a tuple of results"
        for terms in (
            "AdafisherConvexRate",
            "Drift",
            "FismoRate",
            "FismoRateT6",
            "KimOhRate",
            "NagashimaIiduka",
            "SofimConvexRate",
            "SofimStronglyConvexRate",
            "Spectrum",
            "UniformBounds",
        )
    },
    "noise.Noise": "its draws are checked, scaled, with the models that make them",
    "problems.Problem": "a record; its functions are checked with the problems that make one",
    "problems.digits": "loads data for softmax, which is checked; 1797 x 64 are too many for 50 digits",
    "schedules.Schedule": "a record of published tables, which are certified in ball arithmetic",
    "schedules.odd_polynomial": "a selection of coefficients: nothing is computed",
    "schedules.with_steps": "a selection of steps: nothing is computed",
    **{
        f"{module}.init": "zeros, ones and identities: nothing is computed"
        for module in (
            "adafisher",
            "adahessian",
            "adamw",
            "fismo",
            "kfac",
            "kl_shampoo",
            "lbfgs",
            "mousse",
            "muon",
            "natural_gradient",
            "nystrom_sgd",
            "sgd",
            "shampoo",
            "sofim",
        )
    },
}

#: Modules of the reference without a check at 50 digits yet, and what stands behind them.
ELSEWHERE = {
    "adafisher_convolution": "public through adafisher, checked there",
    "adafisher_denominator": "public through adafisher, checked there",
    "adafisher_factors": "public through adafisher, checked there",
}

HOME = Path(reference.__file__).parent
MODULES = sorted(path.stem for path in HOME.glob("*.py") if not path.stem.startswith("_"))


def public(module: str) -> list[str]:
    """Public functions and classes of a module of the reference."""
    found = importlib.import_module(f"reference.{module}")
    return [
        f"{module}.{name}" for name in found.__all__ if callable(getattr(found, name)) or name == "Polynomial"
    ]


@pytest.mark.parametrize("module", [module for module in MODULES if module not in ELSEWHERE])
def test_every_public_function_is_checked_or_exempt_with_a_reason(module):
    covered = CHECKS.keys() | FUNCTIONS.keys() | EXEMPT.keys()
    assert not [name for name in public(module) if name not in covered]


def test_checks_and_exemptions_are_of_functions_that_exist():
    existing = {name for module in MODULES if module not in ELSEWHERE for name in public(module)}
    assert (CHECKS.keys() | FUNCTIONS.keys() | EXEMPT.keys()) <= existing
    assert not CHECKS.keys() & EXEMPT.keys()
    for name in CHECKS.keys() | FUNCTIONS.keys():
        module, _, function = name.partition(".")
        assert inspect.isfunction(getattr(importlib.import_module(f"reference.{module}"), function))


@pytest.mark.parametrize("name", CHECKS)
def test_a_relative_error_of_a_billionth_turns_the_check_red(name, monkeypatch):
    """On one of a few inputs; where a formula cancels by design, not on all."""
    module, _, attribute = name.partition(".")
    home = importlib.import_module(f"reference.{module}")
    original = getattr(home, attribute)
    monkeypatch.setattr(home, attribute, lambda *given, **options: tilted(original(*given, **options)))
    for seed in range(5):
        try:
            if not worst(CHECKS[name](np.random.default_rng(seed))).passed:
                return
        except AssertionError:  # a check may also compare exactly
            return
    pytest.fail(f"the check of {name} is blind")


def tilted(result):
    """A result with a relative error of 2^-30, in tuples and records in every entry."""
    if isinstance(result, tuple):
        moved = [tilted(x) for x in result]
        return type(result)(*moved) if hasattr(result, "_fields") else tuple(moved)
    if is_dataclass(result):
        return replace(
            result, **{field.name: tilted(getattr(result, field.name)) for field in fields(result)}
        )
    if callable(result):
        return lambda *given: tilted(result(*given))
    return result if isinstance(result, int | str | None) else result * (1 + 2.0**-30)
