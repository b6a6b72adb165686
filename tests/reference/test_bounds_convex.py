"""Right-hand sides for convex functions: SOFIM and AdaFisher runs that must stay below them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proofs_checks.ratios import inequality
from reference import sofim
from reference.bounds import (
    AdafisherConvexRate,
    SofimConvexRate,
    SofimStronglyConvexRate,
    adafisher_convex_rate,
    sofim_convex_rate,
    sofim_stability_threshold,
    sofim_strongly_convex_rate,
)
from reference.problems import logistic, quadratic
from tests.reference.cases import PER_FORMULA, U64, check, distance, orthogonal
from tests.strategies import seeds

#: A few dozen roundings of positive terms and a handful of powers.
ROUNDING = 4 * PER_FORMULA * U64

SOFIM = {"eta": 0.1, "rho": 0.5, "L": 1.0}
ADAFISHER = {"gap": 1.0, "mu": 0.1, "L": 1.0, "eta": 0.1, "smallest": 0.5, "largest": 1.0, "t": 3}


def same(name, got, want):
    check(distance(name, np.array(got), np.array(float(want)), budget=ROUNDING * (abs(float(want)) + U64)))


@pytest.mark.claim("SOFIM-convex-rate")
@given(seeds, st.sampled_from([0.01, 0.1, 0.5, 1.0]))
def test_sofim_stays_below_its_rates(seed, rho):
    rng = np.random.default_rng(seed)
    problem = logistic(rng.standard_normal((20, 3)), np.sign(rng.standard_normal(20)), ridge=0.05)
    w, target = rng.standard_normal((3, 1)), np.zeros((3, 1))
    for _ in range(2000):
        target = target - problem.gradient(target) / problem.L
    eta, start = rho / problem.L, w
    gaps, norms = [], []
    for _ in range(40):
        g = problem.gradient(w)
        gaps.append(float(problem.value(w)) - problem.f_star)
        norms.append(float(np.linalg.norm(g)))
        w = w - eta * sofim.step(g.ravel(), sofim.init(g.ravel()), beta=0.0, rho=rho)[0].reshape(w.shape)
    gap = float(problem.value(w)) - problem.f_star
    path = {"eta": eta, "rho": rho, "L": problem.L}
    error = float(np.linalg.norm(problem.gradient(target))) / problem.convexity
    convex = sofim_convex_rate(
        np.array(norms), distance=float(np.linalg.norm(start - target)) + error, **path
    )
    strong = sofim_strongly_convex_rate(np.array(norms), mu=problem.convexity, gap=gaps[0], **path)
    assert isinstance(convex, SofimConvexRate)
    assert isinstance(strong, SofimStronglyConvexRate)
    rounding = PER_FORMULA * 20 * U64
    check(
        inequality(gap, min(convex.total, strong.total), rounding=rounding),
        inequality(convex.total, convex.a_priori, rounding=rounding * convex.a_priori),
        inequality(strong.total, strong.a_priori, rounding=rounding),
    )
    same("asymptotic", strong.asymptotic_factor, 1 - problem.convexity * eta / rho)


@pytest.mark.claim("SOFIM-stability")
@pytest.mark.parametrize(("beta", "factor"), [(0.0, 2.0), (0.5, 6.0), (0.9, 38.0)])
def test_the_stability_threshold_of_sofim(beta, factor):
    check(
        distance(
            "threshold",
            np.array(sofim_stability_threshold(L=3.0, rho=0.5, beta=beta)),
            np.array(factor / 6),
            budget=ROUNDING * factor / (1 - beta),
        )
    )


@pytest.mark.claim("ADAF-P3.3-corrected")
@given(seeds)
def test_adafisher_on_random_quadratics_stays_below_its_rate(seed):
    rng = np.random.default_rng(seed)
    spectrum = rng.uniform(0.1, 2.0, 6)
    problem = quadratic((2, 3), spectrum, orthogonal(rng, 6, 6))
    low, high = 0.5, 1.5
    W = rng.standard_normal((2, 3))
    gap, f = float(problem.value(W)), []
    for _ in range(30):
        W = W - low / problem.L * problem.gradient(W) / rng.uniform(low, high, W.shape)
        f.append(float(problem.value(W)))
    constants = {"gap": gap, "mu": spectrum.min(), "L": problem.L, "eta": low / problem.L}
    rates = [adafisher_convex_rate(t=t + 1, smallest=low, largest=high, **constants) for t in range(len(f))]
    assert isinstance(rates[0], AdafisherConvexRate)
    check(inequality(np.array(f), np.array([rate.total for rate in rates]), rounding=ROUNDING * gap))
    same("factor", rates[0].factor, 1 - low / problem.L * spectrum.min() / high)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sofim_convex_rate(np.ones(3), distance=1.0, **SOFIM | {"eta": 0.6}), "rho / L"),
        (lambda: sofim_convex_rate(np.zeros(0), distance=1.0, **SOFIM), "T at least 1"),
        (lambda: sofim_strongly_convex_rate(np.ones(3), mu=2.0, gap=1.0, **SOFIM), "mu must be at most L"),
        (lambda: sofim_stability_threshold(L=1.0, rho=0.0, beta=0.5), "rho must be above 0"),
        (lambda: adafisher_convex_rate(**ADAFISHER | {"eta": 0.6}), "smallest / L"),
        (lambda: adafisher_convex_rate(**ADAFISHER | {"smallest": 2.0}), "smallest must be at most"),
        (lambda: adafisher_convex_rate(**ADAFISHER | {"mu": 2.0}), "mu must be at most L"),
    ],
)
def test_what_breaks_an_assumption_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
