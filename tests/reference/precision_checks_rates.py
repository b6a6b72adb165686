"""Checks of the reference against 50 digits: right-hand sides of convergence rates.

As in `tests.reference.precision_checks`, whose conventions and helpers these are. Every docstring states an
order, which is held to `ORDER_ONE`.
"""

import math

import numpy as np

from proofs_checks.ratios import Ratio
from reference import bounds
from tests.reference import precise_rates
from tests.reference.cases import U64
from tests.reference.precision_checks import Rng, checks, entries, shape


def scale(rng: Rng) -> float:
    return float(10.0 ** rng.uniform(-2, 2))


def whole(rng: Rng, most: int = 40) -> int:
    return int(rng.integers(1, most + 1))


def relative(name: str, got, want, level: float) -> Ratio:
    """Every number to `level` times u, relative."""
    got, want = np.atleast_1d(got), np.atleast_1d(np.asarray(want, dtype=object))
    return entries(name, got, want, level * U64 * np.abs(want).astype(float))


def with_total(name: str, got, want, level: float) -> Ratio:
    """Terms that are not negative, and their sum."""
    return relative(name, (*got, got.total), (*want, sum(want)), level)


# bounds: FISMO


def damped(rng: Rng) -> tuple[dict, float]:
    """Shape, bound of the gradient and damping with ``b < 1``, and ``p = 1 / (1 - b)``."""
    (m, n), mu, b = shape(rng), scale(rng), 0.99 * rng.random()
    g = math.sqrt(b * m * n * mu)
    return {"m": m, "n": n, "g": g, "mu": mu}, float(precise_rates.algorithm_spectrum(m, n, g, mu)[0])


@checks("bounds.algorithm_spectrum", "bounds.reconstructed_drift", "bounds.step_condition")
def factors_of_the_algorithm(rng: Rng) -> list[Ratio]:
    at, p = damped(rng)
    gamma = rng.random()
    spectrum, drift = precise_rates.algorithm_spectrum(**at), precise_rates.reconstructed_drift
    condition = precise_rates.step_condition(**at)
    return [
        relative("spectrum", bounds.algorithm_spectrum(**at), spectrum, p),
        relative("drift", bounds.reconstructed_drift(**at, gamma=gamma), drift(**at, gamma=gamma), p),
        relative("condition", bounds.step_condition(**at), condition, p),
    ]


@checks("bounds.theorem_spectrum", "bounds.sharp_drift", "bounds.uniform_bounds")
def factors_of_the_theorem(rng: Rng) -> list[Ratio]:
    """Differences of nearly equal numbers count relative to the numbers: m, n and the widest drift."""
    at, p = damped(rng)
    found = []
    for damping in ("theorem", "algorithm"):
        given = {"m": at["m"], "n": at["n"], "size": at["g"], "mu": at["mu"], "gamma": rng.random()}
        want = precise_rates.sharp_drift(**given, damping=damping)
        of = precise_rates.uniform_bounds(**given, damping=damping)
        lost = p if damping == "algorithm" else 1.0
        growth = [float(x / (x - 1)) for x in of[:2]]  # a width over what is subtracted in it
        drift = [lost * r * U64 * float(x) for r, x in zip(growth * 2, want, strict=True)]
        sides = [float(of[0]), float(of[1]), at["m"], at["n"]]
        spectrum = [lost * U64 * x for x in sides]
        got = bounds.sharp_drift(**given, damping=damping)
        both = bounds.uniform_bounds(**given, damping=damping)
        found += [entries("drift", got, want, drift), entries("uniform", both, of, spectrum + drift[2:])]
    given = {"m": at["m"], "n": at["n"], "s": at["g"], "mu": at["mu"]}
    got = bounds.theorem_spectrum(**given)
    return [*found, entries("spectrum", got, precise_rates.theorem_spectrum(**given), U64 * np.array(sides))]


def run(rng: Rng) -> dict:
    """What every rate of a stochastic method is given."""
    named = {name: scale(rng) for name in ("D", "L", "sigma", "eta")}
    return named | {"batch": whole(rng), "T": whole(rng), "beta": rng.random()}


@checks("bounds.fismo_rate", "bounds.fismo_rate_t6")
def rates_of_fismo(rng: Rng) -> list[Ratio]:
    at, p = damped(rng)
    given = run(rng) | at | {"G_star": scale(rng), "gamma": rng.random()}
    uniform = bounds.UniformBounds(*(scale(rng) for _ in range(6)))
    averaged = run(rng) | {"r": whole(rng), "G_f": scale(rng), "uniform": uniform}
    return [
        with_total("reconstructed", bounds.fismo_rate(**given), precise_rates.fismo_rate(**given), p),
        with_total("T6", bounds.fismo_rate_t6(**averaged), precise_rates.fismo_rate_t6(**averaged), 1.0),
    ]


# bounds: Muon


@checks("bounds.kim_oh_rate", "bounds.kim_oh_parameters", "bounds.kim_oh_tuned_rate")
def rates_of_kim_and_oh(rng: Rng) -> list[Ratio]:
    """At the tuned parameters beta is a difference, which its terms feel relative to those of weight 1."""
    given = run(rng) | {"r": whole(rng)}
    inexact = {"epsilon": rng.random(), "sharpened": bool(rng.integers(2))}
    rate = precise_rates.kim_oh_rate(**given, **inexact)
    horizon = {name: x for name, x in given.items() if name not in ("eta", "beta")}
    eta, beta = precise_rates.kim_oh_parameters(**horizon)
    tuned = precise_rates.kim_oh_rate(**horizon, eta=eta, beta=beta, **inexact)
    shares = [1, 1, beta or 1, 1, beta or 1]
    level = U64 / float(1 - beta)
    budget = [level * float(x / share) for x, share in zip(tuned, shares, strict=True)]
    step = [U64 * float(eta), U64]
    return [
        with_total("rate", bounds.kim_oh_rate(**given, **inexact), rate, 1.0),
        entries("parameters", bounds.kim_oh_parameters(**horizon), (eta, beta), step),
        entries("tuned", bounds.kim_oh_tuned_rate(**horizon, **inexact), tuned, budget),
    ]


@checks("bounds.nagashima_iiduka_rate", "bounds.nagashima_iiduka_constant_rate")
def rates_of_nagashima_and_iiduka(rng: Rng) -> list[Ratio]:
    """The change of the gradient is a sum without its first term, which is subtracted."""
    common = {name: x for name, x in run(rng).items() if name in ("D", "L", "sigma", "beta")}
    common |= {"nu": whole(rng), "momentum_error": scale(rng)}
    T, nesterov = whole(rng, 8), bool(rng.integers(2))
    eta, batch = rng.random(T), 1 + 50 * rng.random(T)
    want = precise_rates.nagashima_iiduka_rate(eta, batch, **common, nesterov=nesterov)
    budget = T * U64 * np.array(want, dtype=float)
    budget[3] += 4 * T * U64 * float(want[1])  # the first term: 2 L nu times the mean step, at most
    got = bounds.nagashima_iiduka_rate(eta, batch, **common, nesterov=nesterov)
    constant = common | {"batch": whole(rng), "T": whole(rng), "eta": scale(rng)}
    closed = precise_rates.nagashima_iiduka_constant_rate(**constant)
    return [
        entries("schedules", got, want, budget),
        with_total("constant", bounds.nagashima_iiduka_constant_rate(**constant), closed, 1.0),
    ]


# bounds: convex functions


@checks("bounds.sofim_convex_rate", "bounds.sofim_strongly_convex_rate", "bounds.sofim_stability_threshold")
def rates_of_sofim(rng: Rng) -> list[Ratio]:
    T, L, rho, size = whole(rng, 8), scale(rng), scale(rng), scale(rng)
    norms, step = scale(rng) * rng.random(T), {"eta": 0.9 * rng.random() * rho / L, "rho": rho}
    mu = L * rng.uniform(0.01, 1.0)
    convex = precise_rates.sofim_convex_rate(norms, **step, distance=size)
    strong = precise_rates.sofim_strongly_convex_rate(norms, **step, mu=mu, gap=size)
    level = T / float(strong[-1])
    stable = {"L": L, "rho": rho, "beta": rng.random()}
    threshold = precise_rates.sofim_stability_threshold(**stable)
    return [
        relative("convex", bounds.sofim_convex_rate(norms, **step, L=L, distance=size), convex, T),
        relative(
            "strongly convex",
            bounds.sofim_strongly_convex_rate(norms, **step, L=L, mu=mu, gap=size),
            strong,
            level,
        ),
        relative("threshold", bounds.sofim_stability_threshold(**stable), threshold, 1.0),
    ]


@checks("bounds.adafisher_convex_rate")
def rate_of_adafisher(rng: Rng) -> list[Ratio]:
    L, smallest = scale(rng), scale(rng)
    given = {"gap": scale(rng), "mu": L * rng.uniform(0.01, 1.0), "eta": 0.9 * smallest / L}
    given |= {"largest": smallest * rng.uniform(1.0, 9.0), "t": whole(rng, 20)}
    want = precise_rates.adafisher_convex_rate(**given)
    got = bounds.adafisher_convex_rate(**given, L=L, smallest=smallest)
    return [relative("rate", got, want, given["t"] / float(want[1]))]
