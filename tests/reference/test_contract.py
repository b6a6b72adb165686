"""What every public name of the reference promises: a source, a test, float64, and few imports."""

import ast
import inspect
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import reference
from reference import (
    adafisher,
    adahessian,
    adamw,
    bounds,
    dykaf,
    fismo,
    isotropic_curvature,
    kfac,
    kl_shampoo,
    kronecker,
    lbfgs,
    mousse,
    muon,
    natural_gradient,
    noise,
    nystrom_sgd,
    polar,
    problems,
    schedules,
    sgd,
    shampoo,
    sofim,
)

MODULES = [getattr(reference, name) for name in reference.__all__]
PUBLIC = [(module, name) for module in MODULES for name in module.__all__]
CODE = [
    (module, name)
    for module, name in PUBLIC
    if inspect.isroutine(getattr(module, name)) or inspect.isclass(getattr(module, name))
]
CODE = [(module, name) for module, name in CODE if name != "Polynomial"]
HERE = Path(__file__).parent
NAMES = [f"{module.__name__.rpartition('.')[2]}.{name}" for module, name in CODE]

#: The public names others build on.
CONTRACT = {
    polar: """JORDAN_QUINTIC POLAR_EXPRESS ORTHOGONALIZERS Polynomial polar_factor nuclear_norm spectral_lmo
        newton_schulz scalar_map kim_oh_polynomial polar_express_coefficients orthogonalize""",
    kronecker: """logdet_divergence objective left_factor right_factor inverse_sqrt coupling_bound
        contraction_factor hilbert_distance FixedPoint fixed_point fisher_lmo""",
    fismo: "FismoState init step update_factors whiten",
    sofim: """sherman_morrison_solve two_term_direction bracket_direction direction SofimState init step""",
    muon: "MuonState init step",
    adafisher: """RELEASED_EPSILON AdaFisherState NormalizationFactors average conv2d_factors
        convolution_factors denominator embedding_factors init linear_factors minmax_normalize
        normalization_block normalization_factors released_average step""",
    schedules: """SCHEDULES Schedule apply chebyshev_cubic halley_weights odd_polynomial scalar
        with_steps""",
    adamw: "AdamWState init step",
    sgd: "SgdState init step",
    shampoo: "ShampooState init step",
    kl_shampoo: "KlShampooState divergence init joint_optimum one_sided_optimum step update_factors",
    mousse: "MousseState init step whitening",
    adahessian: "AdaHessianState exact_diagonal hutchinson_diagonal init spatial_average step",
    dykaf: """DykafState init nearest_kronecker rearrangement refresh_basis stationary_factors step
        update_factors""",
    lbfgs: "LbfgsState init step two_loop_direction",
    nystrom_sgd: "NystromState column_count direction init sketch step two_term_direction",
    kfac: "KfacState factors init pi_split step",
    natural_gradient: """NaturalGradientState categorical_fisher empirical_fisher gauss_newton gaussian_fisher
        init linear_jacobian softmax softmax_hessian step""",
    isotropic_curvature: """Growth Moments expectation kink_slopes kinked_growth moments objective
        optimal_spectrum optimal_update power_growth quartic_expectation sphere_rule""",
    problems: """Problem cosine_bowl digits geman_mcclure logistic matrix_factorization quadratic
        skewed_scalar softmax sum_of_cosines with_noise""",
    noise: "Noise gaussian rademacher skewed_two_point student_t",
    bounds: """AdafisherConvexRate Drift FismoRate FismoRateT6 KimOhRate NagashimaIiduka
        SofimConvexRate SofimStronglyConvexRate Spectrum UniformBounds adafisher_convex_rate
        algorithm_spectrum fismo_rate fismo_rate_t6 kim_oh_parameters kim_oh_rate
        kim_oh_tuned_rate nagashima_iiduka_constant_rate nagashima_iiduka_rate
        reconstructed_drift sharp_drift sofim_convex_rate sofim_stability_threshold
        sofim_strongly_convex_rate step_condition theorem_spectrum uniform_bounds""",
}


@pytest.mark.parametrize(("module", "name"), CODE, ids=NAMES)
def test_every_public_function_and_class_says_where_it_comes_from(module, name):
    doc = inspect.getdoc(getattr(module, name)) or ""
    assert re.search(r"^Source: \S", doc, re.MULTILINE), f"{name} has no Source line"
    assert "/" not in re.search(r"^Source: (.*)", doc, re.MULTILINE).group(1).split("arXiv")[0]


FUNCTIONS = [case for case in CODE if inspect.isfunction(getattr(*case))]


@pytest.mark.parametrize(("module", "name"), FUNCTIONS)
def test_every_public_function_says_how_accurate_it_is(module, name):
    notes = (inspect.getdoc(getattr(module, name)) or "").partition("\nNotes\n-----\n")[2]
    assert re.search(r"^Accuracy: \S", notes, re.MULTILINE), f"{name} has no Accuracy entry in its Notes"


@pytest.mark.parametrize(("module", "name"), FUNCTIONS)
def test_every_parameter_and_error_is_documented(module, name):
    function = getattr(module, name)
    doc = inspect.getdoc(function)
    entries = re.findall(r"^([\w, ]+)(?: :|$)", doc, re.MULTILINE)
    documented = {word for line in entries for word in re.split(r",\s*", line)}
    assert set(inspect.signature(function).parameters) <= documented, f"{name} leaves parameters undocumented"
    for section in ("Parameters", "Returns", "Raises", "Notes"):
        assert re.search(rf"^{section}\n-+$", doc, re.MULTILINE), f"{name} has no section {section}"


@pytest.mark.parametrize("module", MODULES, ids=reference.__all__)
def test_every_public_name_is_used_by_the_modules_own_tests(module):
    topic = module.__name__.rpartition(".")[2]
    text = "".join(path.read_text() for path in sorted(HERE.glob(f"test_{topic}*.py")))
    missing = [name for name in module.__all__ if not re.search(rf"\b{name}\b", text)]
    assert not missing


@pytest.mark.parametrize("module", MODULES, ids=reference.__all__)
def test_the_public_names_are_those_of_the_contract(module):
    assert set(module.__all__) == set(CONTRACT[module].split())
    assert all(hasattr(module, name) for name in module.__all__)


def test_arrays_come_first_and_scalars_are_keyword_only():
    positional_scalars = {"lower", "upper", "k", "A", "method", "x"}
    for module, name in CODE:
        function = getattr(module, name)
        if not inspect.isfunction(function):
            continue
        for parameter in inspect.signature(function).parameters.values():
            is_scalar = parameter.annotation in (float, int, bool, str)
            assert (
                not is_scalar
                or parameter.kind is parameter.KEYWORD_ONLY
                or parameter.name in positional_scalars
            )


def test_the_reference_imports_numpy_scipy_and_the_standard_library_only():
    allowed = {"numpy", "scipy", "reference"} | set(sys.stdlib_module_names)
    for path in Path(reference.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                roots = {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                roots = {(node.module or "").partition(".")[0]}
            else:
                continue
            assert roots <= allowed, f"{path.name} imports {roots - allowed}"


RESULTS = {
    "polar_factor": lambda X, P, Q: polar.polar_factor(X),
    "nuclear_norm": lambda X, P, Q: polar.nuclear_norm(X),
    "spectral_lmo": lambda X, P, Q: polar.spectral_lmo(X),
    "newton_schulz": lambda X, P, Q: polar.newton_schulz(X, polar.JORDAN_QUINTIC),
    "left_factor": lambda X, P, Q: kronecker.left_factor(X, Q, mu=1.0),
    "right_factor": lambda X, P, Q: kronecker.right_factor(X, P, mu=1.0),
    "fixed_point": lambda X, P, Q: kronecker.fixed_point(X, mu=1.0).Q,
    "fisher_lmo": lambda X, P, Q: kronecker.fisher_lmo(X, P, Q),
    "whiten": lambda X, P, Q: fismo.whiten(X, P, Q),
    "fismo.step": lambda X, P, Q: fismo.step(X, fismo.init(X, P0=P, Q0=Q))[0],
    "muon.step": lambda X, P, Q: muon.step(X, muon.init(X))[0],
    "sofim.step": lambda X, P, Q: sofim.step(X, sofim.init(X))[0],
}


@pytest.mark.parametrize("name", RESULTS)
def test_results_are_float64_and_arguments_stay_as_they_were(name):
    rng = np.random.default_rng(21)
    X, P, Q = rng.standard_normal((3, 4)), np.diag([1.0, 2.0, 3.0]), np.diag([4.0, 3.0, 2.0, 1.0])
    before = [np.copy(argument) for argument in (X, P, Q)]
    for view in (X, np.asfortranarray(X), rng.standard_normal((6, 8))[::2, ::2] * 0 + X):
        view.flags.writeable = False
        result = RESULTS[name](view, P, Q)
        assert result.dtype == np.float64
    assert all(np.array_equal(old, new) for old, new in zip(before, (X, P, Q), strict=True))
