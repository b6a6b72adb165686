"""Problems with known constants: searches that try to break each constant, and exact finite sums."""

import sys
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy.optimize import minimize

from proofs_checks.adversarial.search import portfolio
from proofs_checks.ratios import inequality, yes_no
from reference.noise import rademacher, student_t
from reference.problems import (
    Problem,
    cosine_bowl,
    digits,
    geman_mcclure,
    logistic,
    matrix_factorization,
    quadratic,
    skewed_scalar,
    softmax,
    sum_of_cosines,
    with_noise,
)
from tests.reference.cases import PER_FORMULA, U64, check, distance, frozen, orthogonal

RNG = np.random.default_rng(20240811)

#: Evaluations per generator of a search, and its parallel restarts.
BUDGET, RESTARTS = 400, 8

#: Distances of the two points of a Lipschitz attack: curvature shows at small ones, global effects at large.
SEPARATIONS = (1e-3, 1.0)

#: Half-width of a central difference: truncation L h / 2 and rounding u / h are both below 1e-6.
H = 1e-6


def data(*sizes: int) -> np.ndarray:
    return frozen(np.random.default_rng(sum(sizes)).standard_normal(sizes))


def signs(N: int) -> np.ndarray:
    return frozen(np.where(np.arange(N) % 3 == 0, 1.0, -1.0))


FINITE_SUMS = {
    "geman-mcclure": geman_mcclure(data(6, 2, 3), data(6)),
    "one sample": geman_mcclure(np.ones((1, 1, 2)), np.zeros(1)),
    "logistic": logistic(data(12, 3), signs(12)),
    "logistic, ridge": logistic(data(12, 3), signs(12), ridge=0.1),
    "softmax": softmax(data(14, 2), np.arange(14) % 3, classes=3),
    "softmax, ridge": softmax(data(14, 2), np.arange(14) % 3, classes=3, ridge=0.1),
}
PROBLEMS = FINITE_SUMS | {
    "cosine bowl": cosine_bowl((2, 3), a=0.5, c=2.0),
    "rippled bowl": cosine_bowl((1, 1), a=2.0, c=3.0),
    "sum of cosines": sum_of_cosines(data(5, 2, 3), data(5), 2 * data(5)),
    "one cosine": sum_of_cosines(np.ones((1, 1, 1)), np.ones(1), np.zeros(1)),
    "quadratic": quadratic((2, 3), np.array([0.0, 0.1, 0.5, 1.0, 2.0, 3.0]), orthogonal(RNG, 6, 6)),
    "skewed scalar": skewed_scalar(),
    "factorisation": matrix_factorization(data(3, 2), rank=1, radius=2.0),
    "small ball": matrix_factorization(data(3, 2), rank=2, radius=0.3),
}

#: Problems whose L is attained, so that an attack must come near it.
SHARP = ("cosine bowl", "rippled bowl", "one cosine", "quadratic", "one sample")


def every_problem(test):
    return pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS.keys())(test)


def into_domain(W: np.ndarray, problem: Problem) -> np.ndarray:
    norm = np.linalg.norm(W, axis=(-2, -1), keepdims=True)
    return W * np.minimum(1.0, problem.radius / np.where(norm > 0, norm, 1.0))


def points(x: np.ndarray, problem: Problem) -> np.ndarray:
    m, n = problem.shape
    return into_domain(x[:, : m * n].reshape(-1, m, n), problem)


def size(W: np.ndarray) -> np.ndarray:
    return np.linalg.norm(W, axis=(-2, -1))


def gradient_rounding(problem: Problem, W: np.ndarray) -> np.ndarray:
    """A sum of N terms over inner products of length m n: terms are at most their bound, arguments of order
    ``1 + |W|`` enter through L."""
    count = problem.samples + np.prod(problem.shape)
    known = [x for x in (problem.gradient_bound, problem.sample_bound) if np.isfinite(x)]
    return PER_FORMULA * count * U64 * (problem.L * (1 + size(W)) + sum(known))


def value_rounding(problem: Problem, W: np.ndarray) -> np.ndarray:
    count = problem.samples + np.prod(problem.shape)
    scale = np.abs(problem.value(W)) + abs(problem.f_star) + problem.L * (1 + size(W)) ** 2
    return PER_FORMULA * count * U64 * scale


def attack(objective, problem: Problem, *, copies: int = 1):
    d = copies * int(np.prod(problem.shape))
    seeds = np.concatenate([np.zeros((1, d)) + 1e-3, np.ones((1, d)), np.eye(d)])
    return portfolio(objective, seeds, budget=BUDGET, restarts=RESTARTS, rng=np.random.default_rng(7))


def lipschitz_attack(problem: Problem, separation: float):
    m, n = problem.shape

    def pair(x):
        X = points(x, problem)
        direction = x[:, m * n :].reshape(-1, m, n)
        norm = size(direction)[:, None, None]
        return X, into_domain(X + separation * direction / np.where(norm > 0, norm, 1.0), problem)

    def quotient(x):
        X, Y = pair(x)
        gap = size(X - Y)
        change = size(problem.gradient(X) - problem.gradient(Y))
        return np.where(gap > 0, change / np.where(gap > 0, gap, 1.0), 0.0)

    found = attack(quotient, problem, copies=2)
    X, Y = pair(found.point[None])
    rounding = 2 * gradient_rounding(problem, X)[0] / size(X - Y)[0]
    return found.value, float(rounding)


@every_problem
@pytest.mark.parametrize("separation", SEPARATIONS)
def test_no_pair_of_points_violates_the_smoothness_constant(problem, separation):
    quotient, rounding = lipschitz_attack(problem, separation)
    check(inequality(quotient, problem.L, rounding=rounding))


@pytest.mark.parametrize("name", SHARP)
def test_the_attack_finds_a_smoothness_constant_that_is_too_small_by_a_tenth(name):
    problem = replace(PROBLEMS[name], L=0.9 * PROBLEMS[name].L)
    quotient, rounding = lipschitz_attack(problem, SEPARATIONS[0])
    assert not inequality(quotient, problem.L, rounding=rounding).passed


@every_problem
def test_the_gradient_is_the_derivative_of_the_value(problem):
    rng = np.random.default_rng(3)
    W = into_domain(rng.standard_normal((40, *problem.shape)), replace(problem, radius=problem.radius / 2))
    V = rng.standard_normal(W.shape)
    V /= size(V)[:, None, None]
    central = (problem.value(W + H * V) - problem.value(W - H * V)) / (2 * H)
    slope = (problem.gradient(W) * V).sum(axis=(-2, -1))
    # each one-sided Taylor remainder is at most L h^2 / 2
    budget = problem.L * H / 2 + value_rounding(problem, W) / H
    check(inequality(np.abs(central - slope), budget, rounding=0.0))
    wrong = 1.01 * slope
    assert not inequality(np.abs(central - wrong), budget, rounding=0.0).passed


@pytest.mark.parametrize("name", [name for name in PROBLEMS if np.isfinite(PROBLEMS[name].gradient_bound)])
def test_gradients_stay_below_their_bound(name):
    problem = PROBLEMS[name]
    found = attack(lambda x: size(problem.gradient(points(3 * x, problem))), problem)
    rounding = gradient_rounding(problem, points(3 * found.point[None], problem))[0]
    check(inequality(found.value, problem.gradient_bound, rounding=rounding))


@every_problem
def test_no_value_is_below_f_star(problem):
    found = attack(lambda x: -problem.value(points(3 * x, problem)), problem)
    W = points(3 * found.point[None], problem)
    for _ in range(300):  # gradient descent goes where a search of few evaluations does not
        W = into_domain(W - problem.gradient(W) / problem.L, problem)
    values = np.array([-found.value, problem.value(W)[0]])
    check(inequality(problem.f_star, values, rounding=value_rounding(problem, W)[0]))


@every_problem
def test_the_convexity_constant_holds_between_any_two_points(problem):
    X, Y = into_domain(2 * np.random.default_rng(4).standard_normal((2, 400, *problem.shape)), problem)
    change = problem.gradient(X) - problem.gradient(Y)
    slope = ((X - Y) * change).sum(axis=(-2, -1))
    rounding = (gradient_rounding(problem, X) + gradient_rounding(problem, Y)) * size(X - Y)
    check(inequality(problem.convexity * size(X - Y) ** 2, slope, rounding=rounding))


@every_problem
def test_batches_of_parameters_are_independent_and_stay_as_they_were(problem):
    W = frozen(into_domain(np.random.default_rng(5).standard_normal((2, 3, *problem.shape)), problem))
    values, gradients = problem.value(W), problem.gradient(W)
    assert values.shape == (2, 3)
    assert gradients.shape == W.shape
    for at in np.ndindex(2, 3):
        budget = gradient_rounding(problem, W[at])
        check(distance("gradient", gradients[at], problem.gradient(W[at]), budget=budget))
        check(distance("value", values[at], problem.value(W[at]), budget=value_rounding(problem, W[at])))


@pytest.mark.parametrize("problem", FINITE_SUMS.values(), ids=FINITE_SUMS.keys())
@pytest.mark.parametrize("batch", [1, 2])
def test_enumerating_every_batch_gives_the_gradient_and_exactly_the_stated_variance(problem, batch):
    W = 0.7 * np.random.default_rng(6).standard_normal(problem.shape)
    batches = np.array(list(product(range(problem.samples), repeat=batch)))
    G = problem.sample_gradients(np.broadcast_to(W, (len(batches), *W.shape)), batches).mean(axis=1)
    rounding = gradient_rounding(problem, W)
    check(distance("mean", G.mean(axis=0), problem.gradient(W), budget=rounding))
    variance = np.square(size(G - problem.gradient(W))).mean()
    stated, largest = problem.variance(W) / batch, size(G).max()
    budget = 2 * largest * rounding
    check(distance("variance", variance, stated, budget=budget))
    check(inequality(stated, problem.variance_bound / batch, rounding=budget))
    if np.isfinite(problem.sample_bound):
        check(inequality(size(G), problem.sample_bound, rounding=rounding))


@pytest.mark.parametrize("problem", FINITE_SUMS.values(), ids=FINITE_SUMS.keys())
def test_a_stochastic_gradient_is_one_of_the_terms_and_all_terms_come(problem):
    W = np.random.default_rng(8).standard_normal(problem.shape)
    draws = np.broadcast_to(W, (40 * problem.samples, *W.shape))
    G = problem.stochastic_gradient(draws, np.random.default_rng(9))
    terms = problem.sample_gradients(W, np.arange(problem.samples))
    apart = size(G[:, None] - terms)
    check(inequality(apart.min(axis=1), 0.0, rounding=gradient_rounding(problem, W)))
    assert set(apart.argmin(axis=1)) == set(range(problem.samples))
    assert problem.stochastic_gradient(W, np.random.default_rng(9), batch=5).shape == W.shape


def test_added_noise_replaces_the_sampling_of_terms():
    plain = PROBLEMS["geman-mcclure"]
    sigma = 0.5
    noisy = with_noise(plain, rademacher(plain.shape, sigma=sigma))
    W = np.random.default_rng(10).standard_normal((100, *plain.shape))
    N = noisy.stochastic_gradient(W, np.random.default_rng(1), batch=1) - plain.gradient(W)
    rounding = gradient_rounding(plain, W)
    check(inequality(np.abs(size(N) - sigma), rounding, rounding=0.0))
    assert noisy.variance(W).shape == (100,)
    assert (noisy.variance(W) == sigma**2).all()
    assert noisy.variance_bound == sigma**2
    assert noisy.sample_bound == plain.gradient_bound + sigma
    assert with_noise(plain, student_t(plain.shape, sigma=sigma)).sample_bound == np.inf
    with pytest.raises(ValueError, match="not a finite sum"):
        noisy.sample_gradients(W[0], np.arange(2))
    with pytest.raises(ValueError, match="noise must have shape"):
        with_noise(plain, rademacher((1, 1), sigma=0.5))


def test_without_terms_and_noise_the_stochastic_gradient_is_the_gradient():
    problem = PROBLEMS["quadratic"]
    W = data(2, 3)
    assert np.array_equal(problem.stochastic_gradient(W, RNG), problem.gradient(W))
    assert problem.variance(W) == 0


@pytest.mark.claim("FISMO-RATE-floor")
def test_the_skewed_scalar_has_the_values_and_constants_of_its_instance():
    problem = skewed_scalar()
    w = np.full((4000, 1, 1), 0.5)
    N = problem.stochastic_gradient(w, np.random.default_rng(11)) - w
    values = np.unique(np.round(N, 12))
    check(distance("values", values, np.array([-1.0, 3.0]), budget=PER_FORMULA * U64))
    assert (problem.L, problem.f_star, problem.f_star_exact) == (1, 0, True)
    check(distance("sigma^2", np.array(problem.variance_bound), np.array(3.0), budget=PER_FORMULA * U64))
    check(distance("bound", np.array(problem.noise.bound), np.array(3.0), budget=PER_FORMULA * U64))


@pytest.mark.parametrize("name", ["logistic, ridge", "softmax, ridge"])
def test_f_star_of_a_convex_sum_is_where_another_minimiser_ends(name):
    problem = FINITE_SUMS[name]
    m, n = problem.shape
    found = minimize(
        lambda w: float(problem.value(w.reshape(m, n))),
        np.zeros(m * n),
        jac=lambda w: problem.gradient(w.reshape(m, n)).ravel(),
    )
    W = found.x.reshape(m, n)
    gap = problem.value(W) - problem.f_star
    rounding = value_rounding(problem, W)
    above = size(problem.gradient(W)) ** 2 / (2 * problem.convexity)  # strong convexity
    check(inequality(gap, above, rounding=rounding), inequality(-gap, 0.0, rounding=rounding))


def test_f_star_of_a_factorisation_is_attained_by_the_balanced_truncation():
    Z = data(3, 2)
    problem = PROBLEMS["factorisation"]
    U, s, Vt = np.linalg.svd(Z)
    root = np.sqrt(s[:1])
    W = np.concatenate([U[:, :1] * root, Vt[:1].T * root])
    budget = value_rounding(problem, W)
    check(distance("f_star", problem.value(W), np.array(problem.f_star), budget=budget))
    check(inequality(size(W), problem.radius, rounding=0.0))
    assert problem.f_star_exact
    assert not PROBLEMS["small ball"].f_star_exact


def test_the_golden_constants_of_geman_mcclure_are_those_of_its_loss():
    x = np.linspace(-4.0, 4.0, 20001)
    one = geman_mcclure(np.ones((1, 1, 1)), np.zeros(1))
    slope = one.gradient(x[:, None, None])[:, 0, 0]
    found = np.abs(slope).max()
    check(inequality(found, one.gradient_bound, rounding=PER_FORMULA * U64))
    spacing = x[1] - x[0]  # at a maximum the grid misses at most curvature times half a spacing squared
    check(inequality(one.gradient_bound - found, 2 * one.L * spacing**2, rounding=0.0))
    far = np.array([[1e200]])
    assert one.value(far) == 1
    assert one.gradient(far) == 0


def test_digits_are_a_softmax_regression_with_the_loss_log_10_at_zero():
    problem = digits()
    W = np.zeros(problem.shape)
    assert problem.shape == (64, 10)
    assert problem.samples == 1797
    check(distance("loss", problem.value(W), np.log(10.0), budget=value_rounding(problem, W)))
    check(inequality(problem.variance(W), problem.variance_bound, rounding=0.0))
    check(yes_no("a lower bound", problem.f_star == 0 and not problem.f_star_exact))


def test_digits_without_scikit_learn_say_what_to_install(monkeypatch):
    monkeypatch.setattr("reference._regression.find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, "sklearn", raising=False)
    with pytest.raises(ModuleNotFoundError, match="scikit-learn"):
        digits()


SQUARE = PROBLEMS["quadratic"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SQUARE.value(np.zeros((3, 2))), "W must have shape"),
        (lambda: SQUARE.value(np.full((2, 3), np.nan)), "W must be finite"),
        (lambda: SQUARE.gradient(np.zeros((2, 3), dtype=np.float32)), "W must be float64"),
        (lambda: SQUARE.stochastic_gradient(np.zeros((2, 3)), RNG, batch=0), "batch must be at least 1"),
        (lambda: geman_mcclure(np.zeros((0, 2, 3)), np.zeros(0)), "N at least 1"),
        (lambda: geman_mcclure(np.zeros((2, 3)), np.zeros(2)), "A must be float64 of shape"),
        (lambda: geman_mcclure(np.full((1, 1, 1), 1e200), np.zeros(1)), "squares in range"),
        (lambda: geman_mcclure(np.zeros((2, 1, 1)), np.zeros(3)), "y must have shape"),
        (lambda: cosine_bowl((2, 3), a=0.0, c=1.0), "a must be above 0"),
        (lambda: cosine_bowl((2, 2, 3), a=1.0, c=1.0), "W must have shape"),
        (lambda: sum_of_cosines(np.zeros((2, 1, 1)), np.zeros(2), np.zeros(1)), "phase must have shape"),
        (lambda: quadratic((1, 2), np.array([1.0, -1.0])), "spectrum must be at least 0"),
        (lambda: quadratic((1, 2), np.ones(2), np.ones((2, 2))), "basis must be orthogonal"),
        (lambda: matrix_factorization(np.zeros((2, 2, 2)), rank=1, radius=1.0), "Z must have shape"),
        (lambda: matrix_factorization(np.zeros((2, 2)), rank=0, radius=1.0), "rank must be at least 1"),
        (lambda: matrix_factorization(np.zeros((2, 2)), rank=1, radius=0.0), "radius must be above 0"),
        (lambda: logistic(np.zeros((0, 2)), np.zeros(0)), "N at least 1"),
        (lambda: logistic(np.ones((2, 1)), np.array([1.0, 0.0])), "y must hold -1 and"),
        (lambda: logistic(np.ones((2, 1)), np.ones(2)), "separable"),
        (lambda: logistic(np.ones((2, 1)), np.ones(2), ridge=-1.0), "ridge must be at least 0"),
        (lambda: softmax(np.ones((2, 1)), np.array([0, 1]), classes=1), "labels must lie in 0..0"),
        (lambda: softmax(np.ones((2, 1)), np.array([0.0, 1.0]), classes=2), "labels must be integers"),
        (lambda: softmax(np.eye(2), np.array([0, 1]), classes=2), "separable"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
