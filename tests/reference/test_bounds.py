"""Right-hand sides: worked values, limits, monotonicity, and runs that must stay below them."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs_checks.ratios import inequality
from reference import fismo, muon
from reference.bounds import (
    Drift,
    FismoRate,
    FismoRateT6,
    KimOhRate,
    NagashimaIiduka,
    Spectrum,
    UniformBounds,
    algorithm_spectrum,
    fismo_rate,
    fismo_rate_t6,
    kim_oh_parameters,
    kim_oh_rate,
    kim_oh_tuned_rate,
    nagashima_iiduka_constant_rate,
    nagashima_iiduka_rate,
    reconstructed_drift,
    sharp_drift,
    step_condition,
    theorem_spectrum,
    uniform_bounds,
)
from reference.noise import rademacher
from reference.polar import nuclear_norm
from reference.problems import sum_of_cosines, with_noise
from tests.reference.cases import PER_FORMULA, U64, check, distance, printed
from tests.strategies import seeds

#: A few dozen roundings of positive terms and a handful of powers.
ROUNDING = 4 * PER_FORMULA * U64

FISMO = {"D": 2.0, "L": 0.5, "sigma": 0.3, "batch": 9, "T": 100, "eta": 0.1}
QUOTED = {"m": 2, "n": 3, "G_star": 1.5, "g": 1.0, "beta": 0.5, "gamma": 0.75, "mu": 1.0} | FISMO
MUON = {"D": 2.0, "L": 0.5, "sigma": 0.3, "batch": 9, "T": 100}
SCHEDULED = {"nu": 2, "D": 2.0, "L": 0.5, "sigma": 0.3, "momentum_error": 0.7}
fractions = st.floats(0.0, 0.99)


def same(name, got, want):
    check(distance(name, np.array(got), np.array(float(want)), budget=ROUNDING * (abs(float(want)) + U64)))


# ---- factors


def test_the_level_of_lemma_d2_and_its_bounds():
    got = algorithm_spectrum(m=2, n=3, g=math.sqrt(3.0), mu=1.0)  # b = 1/2
    assert isinstance(got, Spectrum)
    for name, want in {"p": 2, "q": 2, "Lambda_P": 1.5, "Lambda_Q": 2}.items():
        same(name, getattr(got, name), want)
    same("condition", step_condition(m=2, n=3, g=math.sqrt(3.0), mu=1.0), 2 * math.sqrt(3.0))


def test_the_bounds_of_t3():
    got = theorem_spectrum(m=2, n=4, s=2.0, mu=1.0)  # K_P = 3, K_Q = 2
    for name, want in {"p": 3, "q": 2, "Lambda_P": 2 - 1 / 3, "Lambda_Q": 4 - 3 / 2}.items():
        same(name, getattr(got, name), want)


@pytest.mark.claim("FISMO-COND-bound")
def test_the_printed_table_of_step_conditions():
    rows = {3072: ["2.68", "16.7", "172", "1.54e3", "1.38e4"], 768: ["1.77", "8.76", "86.3", "769", "6.9e3"]}
    for n, row in rows.items():
        for b, text in zip((1e-3, 1e-2, 0.1, 0.5, 0.9), row, strict=True):
            got = step_condition(m=768, n=n, g=math.sqrt(768 * n * b), mu=1.0)
            mantissa, _, power = text.partition("e")
            check(printed(f"{n}, b = {b}", got / 10.0 ** int(power or 0), mantissa, rounding=ROUNDING))


@given(st.integers(1, 9), st.integers(1, 9), fractions, fractions, st.floats(-4.0, 2.0))
def test_sharp_drift_never_exceeds_the_reconstructed_one(m, n, b, gamma, log_mu):
    mu = 10.0**log_mu
    arguments = {"m": m, "n": n, "mu": mu, "gamma": gamma}
    g = math.sqrt(m * n * mu * b)
    loose, sharp = (
        reconstructed_drift(g=g, **arguments),
        sharp_drift(size=g, damping="algorithm", **arguments),
    )
    assert isinstance(sharp, Drift)
    check(inequality(np.array(sharp), np.array(loose), rounding=ROUNDING / (1 - b) * np.array(loose)))


def test_drift_vanishes_without_new_data_and_without_gradients():
    for damping in ("algorithm", "theorem"):
        still = sharp_drift(m=2, n=3, size=1.0, mu=1.0, gamma=1.0, damping=damping)
        silent = sharp_drift(m=2, n=3, size=0.0, mu=1.0, gamma=0.5, damping=damping)
        assert not np.array(still).any()
        assert not np.array(silent).any()
    loose = reconstructed_drift(m=2, n=3, g=0.0, mu=1.0, gamma=0.5)
    assert loose.P > 0


@given(seeds, st.sampled_from(["algorithm", "theorem"]))
def test_a_run_inside_its_ball_respects_every_uniform_bound(seed, damping):
    rng = np.random.default_rng(seed)
    m, n, mu, gamma = 2, 3, 0.3, rng.uniform()
    size = 0.9 * math.sqrt(m * n * mu)
    bounds = uniform_bounds(m=m, n=n, size=size, mu=mu, gamma=gamma, damping=damping)
    assert isinstance(bounds, UniformBounds)
    norm = None if damping == "algorithm" else 2
    P, Q = np.eye(m), np.eye(n)
    A, C = P, Q
    for _ in range(6):
        G = rng.standard_normal((m, n)) @ np.diag(10.0 ** rng.uniform(-2, 1, n))
        G *= size / np.linalg.norm(G, norm)
        P, Q = fismo.update_factors(
            G, P, Q, gamma=gamma, mu=mu, damping=damping, order="gauss-seidel", factor_scaling="none"
        )
        roots = fismo.whiten(np.eye(m), P, np.eye(m)), fismo.whiten(np.eye(n), np.eye(n), Q)
        moved = [np.linalg.norm(new - old, 2) for new, old in zip(roots, (A, C), strict=True)]
        A, C = roots
        w, v = np.linalg.eigvalsh(P), np.linalg.eigvalsh(Q)
        found = np.array([1 / w[0], 1 / v[0], w[-1], v[-1], *moved])
        check(inequality(found, np.array(bounds), rounding=6 * ROUNDING * bounds.p * np.array(bounds)))


# ---- FISMO


@pytest.mark.claim("FISMO-RATE-quoted")
def test_the_quoted_rate_of_a_worked_example():
    # b = 1/6: p = 6/5, Lambda_P = 7/6, Lambda_Q = 4/3; drift terms: 1 - gamma = 1/4, gamma + (1-gamma) mu = 1
    p, outer = Fraction(6, 5), math.sqrt(Fraction(14, 9))
    C_eta = p**3 * Fraction(5, 2) * Fraction(1, 4) / 2
    got = fismo_rate(**QUOTED)
    assert isinstance(got, FismoRate)
    want = {
        "start": Fraction(2, 10),
        "descent": Fraction(5, 100) * p**2,
        "initial_momentum": 2 * p * Fraction(3, 200),
        "gradient_change": Fraction(2, 10) * p**2,
        "frame_change": 2 * C_eta * Fraction(3, 2),
        "noise": 2 * p * Fraction(1, 10) * Fraction(math.sqrt(2.0)),
    }
    for name, value in want.items():
        same(name, getattr(got, name), outer * value)
    same("total", got.total, sum(got))


@pytest.mark.claim("FISMO-RATE-T6")
def test_the_averaged_rate_of_a_worked_example():
    uniform = UniformBounds(p=4.0, q=9.0, Lambda_P=2.0, Lambda_Q=8.0, d_A=0.1, d_C=0.2)
    got = fismo_rate_t6(r=4, G_f=1.5, beta=0.6, uniform=uniform, **FISMO)
    assert isinstance(got, FismoRateT6)
    want = {
        "start": 4 * 2.0 / 10,
        "descent": 4 * 0.5 * 0.1 * 4 * 36 / 2,
        "averaged_noise": 4 * 4 * 0.5 * 6 * 0.1,
        "drifting_noise": 4 * 4 * 0.7 * 0.1,
        "gradient_change": 4 * 4 * 1.5 * 6 * 0.05 * 12,
        "frame_change": 4 * 4 * 1.5 * 1.5 * 0.7,
        "initial_momentum": 4 * 4 * 1.5 * 6 * 0.015,
    }
    for name, value in want.items():
        same(name, getattr(got, name), value)


@pytest.mark.claim("FISMO-ABS-minibatch")
@given(st.integers(1, 10**6))
def test_noise_terms_fall_like_one_over_the_root_of_the_batch_and_no_other_term_moves(batch):
    uniform = uniform_bounds(m=2, n=3, size=1.0, mu=1.0, gamma=0.75, damping="theorem")
    pairs = [
        [fismo_rate(**QUOTED | {"batch": B}) for B in (1, batch)],
        [fismo_rate_t6(r=2, G_f=1.0, beta=0.5, uniform=uniform, **FISMO | {"batch": B}) for B in (1, batch)],
        [kim_oh_rate(r=2, eta=0.1, beta=0.5, **MUON | {"batch": B}) for B in (1, batch)],
    ]
    for one, many in pairs:
        for name, value in one._asdict().items():
            scale = math.sqrt(batch) if "noise" in name else 1.0
            same(name, scale * getattr(many, name), value)


def test_without_momentum_only_start_descent_and_noise_remain():
    for got in (
        fismo_rate(**QUOTED | {"beta": 0.0}),
        kim_oh_rate(r=2, eta=0.1, beta=0.0, **MUON),
    ):
        alive = {name for name, value in got._asdict().items() if value > 0}
        assert alive == {"start", "descent", "noise"}


@pytest.mark.claim("FISMO-RATE-quoted")
@given(seeds)
def test_fismo_on_a_sum_of_cosines_stays_below_the_quoted_rate(seed):
    """Surely bounded noise: the path proof of the quoted rate holds with the mean noise norm of the run."""
    rng = np.random.default_rng(seed)
    m, n, T, sigma, beta = 2, 3, 60, 0.05, rng.choice([0.0, 0.5, 0.9])
    A = rng.standard_normal((4, m, n)) / 3
    plain = sum_of_cosines(A, rng.uniform(0.1, 0.3, 4), rng.uniform(0, 6, 4))
    problem = with_noise(plain, rademacher((m, n), sigma=sigma))
    eta, mu = 0.5 / math.sqrt(T), 1.5 * problem.sample_bound**2 / (m * n)
    gamma = 1 - eta / 2
    W = rng.standard_normal((m, n))
    state = fismo.init(W)
    run = {"D": float(problem.value(W)) - problem.f_star, "L": problem.L, "T": T, "eta": eta, "beta": beta}
    norms = []
    for _ in range(T):
        gradient = problem.gradient(W)
        norms.append(float(nuclear_norm(gradient)))
        G = problem.stochastic_gradient(W, rng)
        update, state = fismo.step(G, state, beta=beta, gamma=gamma, mu=mu)
        W = W - eta * update
    quoted = fismo_rate(
        m=m,
        n=n,
        G_star=math.sqrt(m) * problem.gradient_bound,
        g=problem.sample_bound,
        sigma=sigma,
        batch=1,
        gamma=gamma,
        mu=mu,
        **run,
    )
    check(inequality(np.mean(norms), quoted.total, rounding=0.0))


# ---- Muon


@pytest.mark.claim("KO-bound")
def test_the_explicit_bound_of_kim_and_oh_of_a_worked_example():
    got = kim_oh_rate(r=2, eta=0.1, beta=0.6, epsilon=0.5, **MUON)
    assert isinstance(got, KimOhRate)
    want = {
        "start": 2 * 0.2,
        "descent": 2 * 0.025 * 2.25,
        "gradient_change": 2 * 3 * 0.05 * 1.5,
        "noise": 2 * 2 * 0.1 * math.sqrt(2.0) * 0.5,
        "initial_momentum": 2 * 3 * 2.0 / 100,
    }
    for name, value in want.items():
        same(name, getattr(got, name), value)


@pytest.mark.claim("KO-sharper")
def test_the_sharpened_form_changes_one_term_by_the_root_of_the_rank():
    plain, sharp = (kim_oh_rate(r=9, eta=0.1, beta=0.5, sharpened=s, **MUON) for s in (False, True))
    same("first gradient", 3 * sharp.initial_momentum, plain.initial_momentum)
    assert plain[:-1] == sharp[:-1]


@pytest.mark.claim("KO-bound")
@given(
    st.integers(1, 50),
    st.floats(-3, 3),
    st.floats(-3, 3),
    st.floats(-3, 3),
    st.integers(1, 99),
    st.integers(1, 10**6),
)
def test_the_tuned_bound_is_below_its_three_orders_with_constants(r, log_D, log_L, log_sigma, batch, T):
    D, L, sigma = 10.0**log_D, 10.0**log_L, 10.0**log_sigma
    run = {"r": r, "D": D, "L": L, "sigma": sigma, "batch": batch, "T": T}
    got, (eta, beta) = kim_oh_tuned_rate(**run), kim_oh_parameters(**run)
    assert got == kim_oh_rate(eta=eta, beta=beta, **run)
    root, fourth = math.sqrt(L * D / T), (r * sigma**2 * L * D / (batch * T)) ** 0.25
    middle = sigma * r / math.sqrt(batch * T)
    # D/(T eta) <= root + fourth; L eta/2 <= root/2; 2 beta L eta/(1-beta) <= 2 fourth; noise <= 2 fourth
    # (when beta = 0, sigma sqrt(r/B) <= root of L D / T); last <= 2 sqrt(2) middle
    bound = 3.5 * root + 5 * fourth + 2 * math.sqrt(2.0) * middle
    check(inequality(got.total, bound, rounding=ROUNDING * bound))
    sharp = kim_oh_tuned_rate(sharpened=True, **run).total
    bound = 3.5 * root + 5 * fourth + 2 * math.sqrt(2.0) * middle / math.sqrt(r)
    check(inequality(sharp, bound, rounding=ROUNDING * bound))


def test_no_noise_means_no_momentum():
    eta, beta = kim_oh_parameters(r=2, **MUON | {"sigma": 0.0})
    assert beta == 0
    same("eta", eta, math.sqrt(2.0 / 50))


@pytest.mark.claim("NI-bound")
@given(seeds, fractions, st.booleans())
def test_the_scheduled_bound_is_its_double_sums(seed, beta, nesterov):
    rng = np.random.default_rng(seed)
    T = int(rng.integers(1, 9))
    eta, batch = rng.uniform(0.01, 1.0, T), rng.uniform(1.0, 50.0, T)
    got = nagashima_iiduka_rate(eta, batch, beta=beta, nesterov=nesterov, **SCHEDULED)
    assert isinstance(got, NagashimaIiduka)
    total, root, once = eta.sum(), math.sqrt(2.0), beta if nesterov else 1.0
    change = sum(eta[t] * beta**i * eta[t - i] for t in range(T) for i in range(1, t + 1))
    noise = sum(eta[t] * beta**i / math.sqrt(batch[t - i]) for t in range(T) for i in range(t + 1))
    start = sum(eta[t] * beta**t for t in range(T))
    same("start", got.start, 2.0 / total)
    same("descent", got.descent, 0.5 * (eta**2).sum() / total)
    same("initial", got.initial_momentum, once * 2 * root * 0.7 * start / total)
    check(distance("change", np.array(got.gradient_change), once * 2 * change / total, budget=T * ROUNDING))
    same("noise", got.noise, once * 2 * (1 - beta) * 0.3 * root * noise / total)
    fresh = 2 * root * (1 - beta) * 0.3 * (eta / np.sqrt(batch)).sum() / total
    same("fresh", got.fresh_noise, fresh if nesterov else 0.0)


@pytest.mark.claim("NI-schedules")
@given(st.integers(1, 200), fractions)
def test_the_closed_form_for_constant_schedules_is_above_the_sums(T, beta):
    sums = nagashima_iiduka_rate(np.full(T, 0.1), np.full(T, 9.0), beta=beta, **SCHEDULED)
    closed = nagashima_iiduka_constant_rate(batch=9, T=T, eta=0.1, beta=beta, **SCHEDULED)
    check(inequality(np.array(sums), np.array(closed), rounding=T * ROUNDING * np.array(closed)))
    same("start", sums.start, closed.start)
    same("descent", sums.descent, closed.descent)


@pytest.mark.claim("NI-bound")
@given(seeds, st.booleans())
def test_muon_without_noise_stays_below_the_scheduled_bound(seed, nesterov):
    rng = np.random.default_rng(seed)
    T, beta = 40, rng.choice([0.0, 0.5, 0.9])
    problem = sum_of_cosines(rng.standard_normal((4, 2, 3)), rng.uniform(0.1, 0.3, 4), rng.uniform(0, 6, 4))
    eta = 0.2 / np.sqrt(1 + np.arange(T))
    W = rng.standard_normal((2, 3))
    D, state, norms = float(problem.value(W)) - problem.f_star, muon.init(W), []
    momentum_error = float(np.linalg.norm(problem.gradient(W)))  # zero start: beta^(t+1) <= beta^t
    for t in range(T):
        G = problem.gradient(W)
        norms.append(float(np.linalg.norm(G)))
        update, state = muon.step(G, state, beta=beta, nesterov=nesterov, scale="none", orthogonalize="polar")
        W = W - eta[t] * update
    bound = nagashima_iiduka_rate(
        eta,
        np.ones(T),
        nu=2,
        D=D,
        L=problem.L,
        sigma=0.0,
        beta=beta,
        momentum_error=momentum_error,
        nesterov=nesterov,
    )
    check(inequality(min(norms), bound.total, rounding=0.0))


# ---- refusals

T3 = {"m": 2, "n": 3, "size": 1.0, "mu": 1.0, "gamma": 0.5}
LEVEL_ONE = {"m": 2, "n": 2, "g": 2.0, "mu": 1.0}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: algorithm_spectrum(**LEVEL_ONE), "b = .* must be below 1, got 1"),
        (lambda: step_condition(**LEVEL_ONE), "must be below 1"),
        (lambda: reconstructed_drift(gamma=0.5, **LEVEL_ONE), "must be below 1"),
        (lambda: algorithm_spectrum(**LEVEL_ONE | {"m": 0}), "m must be at least 1"),
        (lambda: theorem_spectrum(m=2, n=3, s=1.0, mu=0.0), "mu must be above 0"),
        (lambda: sharp_drift(damping="none", **T3), "damping must be one of"),
        (lambda: uniform_bounds(damping="theorem", **T3 | {"gamma": 1.1}), r"gamma must be in \[0, 1\]"),
        (lambda: fismo_rate(**QUOTED | {"g": 9.0}), "must be below 1"),
        (lambda: fismo_rate(**QUOTED | {"beta": 1.0}), "beta must be in"),
        (lambda: fismo_rate(**QUOTED | {"eta": 0.0}), "eta must be above 0"),
        (lambda: fismo_rate(**QUOTED | {"T": 0}), "T must be at least 1"),
        (lambda: fismo_rate(**QUOTED | {"sigma": math.nan}), "sigma must be finite"),
        (lambda: kim_oh_rate(r=0, eta=0.1, beta=0.5, **MUON), "r must be at least 1"),
        (lambda: kim_oh_rate(r=1, eta=0.1, beta=0.5, epsilon=1.0, **MUON), "epsilon must be in"),
        (lambda: kim_oh_parameters(r=1, **MUON | {"D": 0.0}), "D must be above 0"),
        (lambda: nagashima_iiduka_rate(np.zeros(2), np.ones(2), beta=0.5, **SCHEDULED), "one positive"),
        (lambda: nagashima_iiduka_rate(np.ones(2), np.zeros(2), beta=0.5, **SCHEDULED), "batch must be"),
        (lambda: nagashima_iiduka_rate(np.ones(2), np.ones(3), beta=0.5, **SCHEDULED), "must have shape"),
    ],
)
def test_what_breaks_an_assumption_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
