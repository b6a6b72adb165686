"""Rates along runs: the path inequality at every step, and averaged bounds that hold for every single run.

Without noise, or with the mean norm of the noise that a run really saw in place of ``sigma/sqrt(B)``, the
reconstructed rate holds for each run, not only on average; so do T6 without noise and SOFIM's rate. Nothing
statistical is needed, and one run above a bound would refute it.
"""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from proofs_checks.adversarial.verdicts import DOUBLE, at_least, at_most, factor_rounding, tightest
from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import ORDER_ONE, Ratio
from reference import fismo, sofim
from reference.bounds import (
    fismo_rate,
    fismo_rate_t6,
    sofim_convex_rate,
    sofim_strongly_convex_rate,
    uniform_bounds,
)
from reference.fismo import Damping
from reference.noise import rademacher, skewed_two_point
from reference.polar import nuclear_norm, polar_factor
from reference.problems import (
    Problem,
    cosine_bowl,
    geman_mcclure,
    logistic,
    quadratic,
    sum_of_cosines,
    with_noise,
)

__all__ = ["averaged_rate_without_noise", "path_inequality", "quoted_rate_on_paths", "sofim_rates"]

Array = NDArray[np.float64]

#: What an attack on the path inequality must reach: ``f(W_t) - f(W_{t-1}) + eta |S|_*`` over the rest.
_TIGHT = 0.9


class Run(NamedTuple):
    """One batch of runs: what the inequalities are made of, ``(T, R)``; the last value of f too."""

    f: Array
    S: Array
    E: Array
    X: Array
    gradient: Array
    frobenius: Array
    noise: Array
    rounding: float


def _problems(rng: np.random.Generator) -> Iterator[Problem]:
    """Sums of cosines, robust regressions and a rippled bowl, 3x4, with exactly known L."""
    shape = (3, 4)
    for k in range(3):
        A = rng.standard_normal((5, *shape)) * 0.3 * (k + 1)
        yield sum_of_cosines(A, rng.uniform(-0.5, 0.5, 5), rng.uniform(0, 6, 5))
    yield sum_of_cosines(np.ones((1, *shape)), np.ones(1), np.zeros(1))
    yield geman_mcclure(rng.standard_normal((20, *shape)), rng.standard_normal(20))
    yield geman_mcclure(np.ones((1, *shape)), np.zeros(1))
    yield cosine_bowl(shape, a=0.5, c=3.0)
    yield quadratic(shape, np.concatenate([[1.0, 1.0], np.zeros(10)]))


def _run(
    problem: Problem,
    W: Array,
    rng: np.random.Generator,
    *,
    T: int,
    eta: float,
    beta: float,
    gamma: float,
    mu: float,
    damping: Damping = "algorithm",
    ascend: bool = False,
) -> Run:
    """FISMO with the reference step, recording both sides of the path inequality."""
    state, rows = fismo.init(W), []
    L_scale = problem.L * (1 + float(np.abs(W).max()) + eta * T) ** 2
    for _ in range(T):
        gradient, f = problem.gradient(W), problem.value(W)
        G = problem.stochastic_gradient(W, rng)
        update, state = fismo.step(G, state, beta=beta, gamma=gamma, mu=mu, damping=damping)
        S = fismo.whiten(gradient, state.P, state.Q)
        rows.append(
            [
                f,
                nuclear_norm(S),
                np.linalg.norm(state.M - S, axis=(-2, -1)),
                np.square(update).sum(axis=(-2, -1)),
                nuclear_norm(gradient),
                np.linalg.norm(gradient, axis=(-2, -1)),
                np.linalg.norm(G - gradient, axis=(-2, -1)),
            ]
        )
        W = W + eta * update if ascend else W - eta * update
    rows.append([problem.value(W), *(np.zeros(W.shape[:-2]) for _ in range(6))])
    f, *others = (np.array(column) for column in zip(*rows, strict=True))
    rounding = factor_rounding(state.P, state.Q, steps=T) * (
        float(np.abs(f).max()) + abs(problem.f_star) + L_scale
    )
    S, E, X, gradients, frobenius, noise = (x[:-1] for x in others)
    return Run(f, S, E, X, gradients, frobenius, noise, rounding)


@evidence(faults=("half-the-smoothness", "ascent", "one-error-term"), scope="region")
def path_inequality(*, fault: str | None = None) -> Finding:
    """The per-path descent inequality at every step of runs with noise of every size.

    Sums of cosines, robust regression, a rippled bowl and flat quadratics, both dampings, several momenta,
    steps and noises, also noise that violates every other assumption. The tightest problems have their
    curvature along the step: there the right side is attained.
    Faults: L / 2 in the inequality; steps uphill; the momentum error counted once.
    """
    rng = np.random.default_rng(20240820)
    ratios: list[Ratio] = []
    for k, plain in enumerate(_problems(rng)):
        for j, (beta, eta) in enumerate(product((0.0, 0.9), (0.03, 0.5))):
            damping: Damping = "theorem" if (k + j) % 2 else "algorithm"
            noise = skewed_two_point(plain.shape, sigma=(0.0, 0.1, 3.0)[(k + j) % 3])
            W = rng.standard_normal((6, *plain.shape))
            run = _run(
                with_noise(plain, noise),
                W,
                rng,
                T=15,
                eta=eta,
                beta=beta,
                gamma=0.8,
                mu=1.0,
                damping=damping,
                ascend=fault == "ascent",
            )
            L = plain.L / 2 if fault == "half-the-smoothness" else plain.L
            errors = (1 if fault == "one-error-term" else 2) * np.sqrt(min(plain.shape)) * run.E
            right = -eta * run.S + eta * errors + L * eta**2 * run.X / 2
            drop = run.f[1:] - run.f[:-1]
            name = f"{plain.name}, beta = {beta}, eta = {eta}, {damping}"
            ratios.append(
                at_most(f"{name}: f(W_t)", drop + eta * run.S, right + eta * run.S, rounding=run.rounding)
            )
    tightness = tightest(ratios)
    return Finding(
        (*ratios, at_least("tightness of the attack", tightness, _TIGHT, rounding=0.0)),
        f"{len(ratios)} batches of 6 runs of 15 steps: change of f plus eta |S|_* over the rest of the right "
        f"side at most {tightness}, never above 1",
        tightness=tightness,
    )


@evidence(faults=("noise-averaged", "bound-divided-by-20"), scope="region")
def quoted_rate_on_paths(*, fault: str | None = None) -> Finding:
    """The reconstructed rate for single runs, with the mean norm of the noise each run saw.

    Triangle inequalities need nothing of the noise, so the five groups of terms bound every run when
    ``sigma/sqrt(B)`` is the mean of ``|N_t|_F`` along it. Sums of cosines, a-priori gradient bounds.
    Faults: the noise term gets the averaging factor (the noise here is a constant bias, which no momentum
    averages); the bound is divided by 20.
    """
    rng = np.random.default_rng(20240821)
    ratios = []
    for k in range(12):
        shape, T, beta = (2, 3), 60, (0.0, 0.5, 0.9)[k % 3]
        A = rng.standard_normal((4, *shape)) / 3
        plain = sum_of_cosines(A, rng.uniform(0.1, 0.3, 4), rng.uniform(0, 6, 4))
        problem = with_noise(plain, rademacher(shape, sigma=(0.0, 0.02, 0.2)[(k // 3) % 3]))
        eta, g = 0.5 / np.sqrt(T), problem.sample_bound
        mu, gamma = 1.5 * g**2 / 6, 1 - eta / 2
        W = rng.standard_normal((8, *shape))
        run = _run(problem, W, rng, T=T, eta=eta, beta=beta, gamma=gamma, mu=mu)
        for i in range(len(W)):
            rate = fismo_rate(
                m=2,
                n=3,
                D=float(run.f[0, i]) - plain.f_star,
                L=plain.L,
                G_star=np.sqrt(2.0) * plain.gradient_bound,
                g=g,
                sigma=float(run.noise[:, i].mean()),
                batch=1,
                T=T,
                eta=eta,
                beta=beta,
                gamma=gamma,
                mu=mu,
            )
            bound = rate.total / (20 if fault == "bound-divided-by-20" else 1)
            ratios.append(at_most(f"problem {k}, run {i}", run.gradient[:, i].mean(), bound, rounding=0.0))
    ratios += _biased(fault)
    tightness = tightest(ratios)
    return Finding(
        tuple(ratios),
        f"{len(ratios)} runs with a-priori constants: average of |grad|_* over its bound at most {tightness}",
        tightness=tightness,
    )


def _biased(fault: str | None) -> list[Ratio]:
    """Noise -1 at every step cancels the gradient of ``w^2/2`` at 1: nothing moves, the floor term holds.

    The noise has a mean, which the statement allows: it does not use unbiasedness.
    """
    T, eta, beta, mu = 4000, 0.001, 0.9, 100.0
    w, state, norms = np.array([[1.0]]), fismo.init((1, 1)), []
    for _ in range(T):
        norms.append(float(w[0, 0]))
        update, state = fismo.step(w - 1.0, state, beta=beta, gamma=1.0, mu=mu)
        w = w - eta * update
    run = {"D": 0.5, "L": 1.0, "G_star": 1.0 + eta, "g": eta * 20, "sigma": 1.0, "batch": 1, "T": T}
    rate = fismo_rate(m=1, n=1, eta=eta, beta=beta, gamma=1.0, mu=mu, **run)  # type: ignore[arg-type]
    shrunk = rate.noise * np.sqrt((1 - beta) / (1 + beta)) if fault == "noise-averaged" else rate.noise
    bound = rate.total - rate.noise + shrunk
    return [at_most("scalar held at 1 by constant noise", np.mean(norms), bound, rounding=0.0)]


@evidence(faults=("divided-by-the-horizon", "bound-divided-by-20"), scope="region")
def averaged_rate_without_noise(*, fault: str | None = None) -> Finding:
    """T6 with a-priori constants on single runs without noise, both dampings, horizons 64 to 1024.

    Robust regression and sums of cosines; constants from gradient bounds alone (D.2, T3, T7).
    Faults: the whole bound is divided by T, as if it had no terms but the start; by 20.
    """
    rng = np.random.default_rng(20240822)
    ratios = []
    for k, (T, mu_factor) in enumerate(product((64, 256, 1024), (1.5, 30.0))):
        shape = (2, 3)
        plain = geman_mcclure(rng.standard_normal((8, *shape)) / 2, rng.standard_normal(8))
        if k % 2:
            plain = sum_of_cosines(
                rng.standard_normal((4, *shape)) / 3, rng.uniform(0.1, 0.3, 4), np.zeros(4)
            )
        size = plain.gradient_bound
        damping: Damping = "theorem" if k % 2 else "algorithm"
        eta, beta, mu = 0.5 / np.sqrt(T), (0.0, 0.9)[k // 2 % 2], mu_factor * size**2 / 6
        gamma = 1 - eta / 2
        W = rng.standard_normal((8, *shape))
        run = _run(plain, W, rng, T=T, eta=eta, beta=beta, gamma=gamma, mu=mu, damping=damping)
        uniform = uniform_bounds(m=2, n=3, size=size, mu=mu, gamma=gamma, damping=damping)
        for i in range(len(W)):
            D = float(run.f[0, i]) - plain.f_star
            constants = {"D": D, "L": plain.L, "G_f": size, "sigma": 0.0, "eta": eta, "beta": beta}
            rate = fismo_rate_t6(r=2, batch=1, T=T, uniform=uniform, **constants)
            bound = rate.total / (20 if fault == "bound-divided-by-20" else 1)
            if fault == "divided-by-the-horizon":
                bound = rate.total / T
            ratios.append(
                at_most(f"T = {T}, {damping}, run {i}", run.gradient[:, i].mean(), bound, rounding=0.0)
            )
    tightness = tightest(ratios)
    return Finding(
        tuple(ratios),
        f"{len(ratios)} runs without noise, T from 64 to 1024, both dampings, a-priori constants: average of "
        f"|grad|_* over its bound at most {tightness}",
        tightness=tightness,
    )


@evidence(faults=("momentum-kept", "step-four-times-too-long", "distance-forgotten"), scope="region")
def sofim_rates(*, fault: str | None = None) -> Finding:
    """SOFIM without momentum: values and gradient norms never rise, both rates hold at every step.

    Logistic regression (d = 10, separable data excluded) and quadratics of condition up to 1e3, rho from 0.01
    to 1, the longest step allowed, ``eta = rho / L``.
    Faults: momentum 0.9; a step four times as long as its bound assumes; the bound without ``|w_0 - w*|^2``.
    """
    rng = np.random.default_rng(20240823)
    ratios: list[Ratio] = []
    for k, rho in enumerate((0.01, 0.1, 0.5, 1.0)):
        for problem, star in _convex(rng, k):
            d = problem.shape[0]
            eta, w = rho / problem.L, star + rng.standard_normal((d, 1)) * 2.0 ** rng.integers(-2, 3)
            distance = float(np.linalg.norm(w - star)) if fault != "distance-forgotten" else 0.0
            stretch = 4.0 if fault == "step-four-times-too-long" else 1.0
            f, norms, state = [], [], sofim.init(w[:, 0])
            for _ in range(120):
                g = problem.gradient(w)[:, 0]
                f.append(float(problem.value(w)))
                norms.append(float(np.linalg.norm(g)))
                if fault == "momentum-kept":
                    update, state = sofim.step(g, state, beta=0.9, rho=rho)
                else:
                    update, _ = sofim.step(g, state, beta=0.0, rho=rho)
                w = w - stretch * eta * update[:, None]
            gap = np.array(f) - problem.f_star
            rounding = ORDER_ONE * (problem.samples + d) * DOUBLE * (1.0 + float(np.abs(f).max()))
            name = f"{problem.name}, rho = {rho}"
            ratios.append(at_most(f"values fall ({name})", np.diff(f), 0.0, rounding=rounding))
            slope = rounding * (1.0 + problem.L)
            ratios.append(at_most(f"gradient norms fall ({name})", np.diff(norms), 0.0, rounding=slope))
            path = {"eta": eta, "rho": rho, "L": problem.L}
            horizons = (1, 10, 119)
            convex = [sofim_convex_rate(np.array(norms[:t]), distance=distance, **path) for t in horizons]
            ratios.append(
                at_most(f"gap ({name})", gap[list(horizons)], [c.total for c in convex], rounding=rounding)
            )
            if problem.convexity > 0:
                strong = [
                    sofim_strongly_convex_rate(
                        np.array(norms[:t]), mu=problem.convexity, gap=float(gap[0]), **path
                    )
                    for t in horizons
                ]
                bound = [rate.total for rate in strong]
                ratios.append(at_most(f"contraction ({name})", gap[list(horizons)], bound, rounding=rounding))
    tightness = tightest(ratio for ratio in ratios if ratio.name.startswith(("gap", "contraction")))
    return Finding(
        tuple(ratios),
        f"{len(ratios)} checks along logistic and quadratic runs of 120 steps, rho 0.01 to 1, eta = rho/L: "
        f"monotone, gap over bound at most {tightness}",
        tightness=tightness,
    )


def _convex(rng: np.random.Generator, k: int) -> list[tuple[Problem, Array]]:
    """A logistic regression and two quadratics, with their minimisers."""
    d = 10
    model = logistic(rng.standard_normal((80, d)), np.sign(rng.standard_normal(80)), ridge=0.1 * (k % 2))
    w = np.zeros((d, 1))
    for _ in range(3000):
        w = w - model.gradient(w) / model.L
    basis = polar_factor(rng.standard_normal((d, d)))
    found = [(model, w)]
    for decades in (1.0, 3.0):
        found.append((quadratic((d, 1), np.logspace(0.0, -decades, d), basis), np.zeros((d, 1))))
    return found
