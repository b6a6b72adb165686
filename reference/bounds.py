"""Right-hand sides of convergence statements, with every constant explicit.

Symbols: ``D = f(W_0) - f*``, L smoothness, eta step, beta momentum weight, T steps, sigma^2 variance per
sample, B batch size, ``r = nu = min(m, n)``. The gradients are those at the points where steps sample, W_0 to
W_{T-1}. Each function returns its terms by name, in the order of the formula and with every outer factor
multiplied in; ``total`` is their sum. A right-hand side is only as good as its assumptions: the caller must
know that L, sigma and the bounds hold on the path (`reference.problems`).

Constants labelled "reconstructed" are ours, not the paper's. FISMO's rates are written here; bounds of its
factors, Muon's rates and the convex ones in private modules.
"""

import math
from typing import NamedTuple

from reference._arguments import integer, non_negative
from reference._convex_bounds import (
    AdafisherConvexRate,
    SofimConvexRate,
    SofimStronglyConvexRate,
    adafisher_convex_rate,
    sofim_convex_rate,
    sofim_stability_threshold,
    sofim_strongly_convex_rate,
)
from reference._factor_bounds import (
    Drift,
    Spectrum,
    UniformBounds,
    algorithm_spectrum,
    reconstructed_drift,
    sharp_drift,
    step_condition,
    theorem_spectrum,
    uniform_bounds,
)
from reference._muon_bounds import (
    KimOhRate,
    NagashimaIiduka,
    kim_oh_parameters,
    kim_oh_rate,
    kim_oh_tuned_rate,
    nagashima_iiduka_constant_rate,
    nagashima_iiduka_rate,
    run,
)

__all__ = [
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
    "adafisher_convex_rate",
    "algorithm_spectrum",
    "fismo_rate",
    "fismo_rate_t6",
    "kim_oh_parameters",
    "kim_oh_rate",
    "kim_oh_tuned_rate",
    "nagashima_iiduka_constant_rate",
    "nagashima_iiduka_rate",
    "reconstructed_drift",
    "sharp_drift",
    "sofim_convex_rate",
    "sofim_stability_threshold",
    "sofim_strongly_convex_rate",
    "step_condition",
    "theorem_spectrum",
    "uniform_bounds",
]


class FismoRate(NamedTuple):
    """Terms of `fismo_rate`.

    Attributes
    ----------
    start, descent, initial_momentum, gradient_change, frame_change, noise : float
        From D; second-order term of a step; momentum that starts at zero; change of the gradient and of the
        whitening along the momentum's memory; noise, the floor.

    Notes
    -----
    Source: Xu, Yan, Zhang, FISMO (arXiv 2601.21750), final theorem, reconstructed.
    """

    start: float
    descent: float
    initial_momentum: float
    gradient_change: float
    frame_change: float
    noise: float

    @property
    def total(self) -> float:
        """Sum of the terms."""
        return sum(self)


class FismoRateT6(NamedTuple):
    """Terms of `fismo_rate_t6`.

    Attributes
    ----------
    start, descent, averaged_noise, drifting_noise, gradient_change, frame_change, initial_momentum : float
        As in `FismoRate`, the noise in two parts: what the momentum averages, and what moving factors add.

    Notes
    -----
    Source: derived for this project, averaged bound T6.
    """

    start: float
    descent: float
    averaged_noise: float
    drifting_noise: float
    gradient_change: float
    frame_change: float
    initial_momentum: float

    @property
    def total(self) -> float:
        """Sum of the terms."""
        return sum(self)


def fismo_rate(
    *,
    m: int,
    n: int,
    D: float,
    L: float,
    G_star: float,
    g: float,
    sigma: float,
    batch: int,
    T: int,
    eta: float,
    beta: float,
    gamma: float,
    mu: float,
) -> FismoRate:
    """Bound of ``(1/T) sum_t E|grad_t|_*`` for Algorithm 1, reconstructed.

    Parameters
    ----------
    m, n : int
        Shape of the parameter, at least 1.
    D : float
        ``f(W_0) - f*``, at least 0.
    L : float
        Smoothness in Frobenius norm, at least 0.
    G_star : float
        Bound of ``|grad_t|_*`` along the run, at least 0.
    g : float
        Almost sure bound of ``|G_t|_F``, stochastic gradient.
    sigma : float
        Root of the variance of one sample. Unbiasedness is not used.
    batch, T : int
        Batch size and steps, at least 1.
    eta : float
        Step, above 0.
    beta, gamma : float
        Weights of the old momentum, in [0, 1), and of the old factor, in [0, 1].
    mu : float
        Damping, above 0.

    Returns
    -------
    rate : FismoRate
        The condition ``1 - gamma <= c_gamma eta`` enters with its least constant ``c_gamma = (1 - gamma) /
        eta``: the frame change is proportional to ``1 - gamma``.

    Raises
    ------
    ValueError
        If an argument is out of order or ``b = g^2 / (m n mu)`` is not below 1.

    Notes
    -----
    Assumes f smooth and bounded below, exact polar factor, ``P_0 = I, Q_0 = I, M_0 = 0``,
    ``damping="algorithm"``, ``factor_scaling="none"``. Its shape is that of the paper's theorem, whose
    constants are not known to us.
    Source: Xu, Yan, Zhang, FISMO (arXiv 2601.21750), final theorem; reconstructed constants.
    Accuracy: every term has a relative error of order ``u / (1 - b)``.
    """
    D, L, G_star = non_negative("D", D), non_negative("L", L), non_negative("G_star", G_star)
    T, eta, beta, floor = run(T, eta, beta, sigma, batch)
    p, _, Lambda_P, Lambda_Q = algorithm_spectrum(m=m, n=n, g=g, mu=mu)
    drift = reconstructed_drift(m=m, n=n, g=g, mu=mu, gamma=gamma)
    r, memory, outer = min(m, n), 2 * beta / (1 - beta), math.sqrt(Lambda_P * Lambda_Q)
    return FismoRate(
        start=outer * D / (eta * T),
        descent=outer * L * eta * p**2 * r / 2,
        initial_momentum=outer * memory * p * G_star / T,
        gradient_change=outer * memory * eta * p**2 * r * L,
        frame_change=outer * memory * math.sqrt(p) * (drift.d_A + drift.d_C) * G_star,
        noise=outer * 2 * p * math.sqrt(r) * floor,
    )


def fismo_rate_t6(
    *,
    r: int,
    D: float,
    L: float,
    G_f: float,
    sigma: float,
    batch: int,
    T: int,
    eta: float,
    beta: float,
    uniform: UniformBounds,
) -> FismoRateT6:
    """Bound of ``(1/T) sum_t E|grad_t|_*`` for Algorithm 1 in which momentum averages the noise.

    Parameters
    ----------
    r : int
        ``min(m, n)``, at least 1.
    D : float
        ``f(W_0) - f*``, at least 0.
    L : float
        Smoothness in Frobenius norm, at least 0.
    G_f : float
        Bound of ``|grad_t|_F`` along the run, at least 0.
    sigma : float
        Root of the variance of one sample; the noise has mean zero given the past.
    batch, T : int
        Batch size and steps, at least 1.
    eta : float
        Step, above 0.
    beta : float
        Weight of the old momentum, in [0, 1).
    uniform : UniformBounds
        Of the factors, for all steps; a priori from `uniform_bounds`.

    Returns
    -------
    rate : FismoRateT6
        ``averaged_noise`` carries ``sqrt((1 - beta) / (1 + beta))``; drift terms are its price.

    Raises
    ------
    ValueError
        If an argument is out of order.

    Notes
    -----
    Assumes exact polar factor and ``P_0 = I, Q_0 = I, M_0 = 0``; either damping.
    Source: derived for this project, averaged bound T6.
    Accuracy: every term has a relative error of order u.
    """
    r = integer("r", r, minimum=1)
    D, L, G_f = non_negative("D", D), non_negative("L", L), non_negative("G_f", G_f)
    T, eta, beta, floor = run(T, eta, beta, sigma, batch)
    p, q, Lambda_P, Lambda_Q, d_A, d_C = (
        non_negative(f"uniform.{name}", value) for name, value in uniform._asdict().items()
    )
    outer, memory, roots = math.sqrt(Lambda_P * Lambda_Q), beta / (1 - beta), math.sqrt(p * q)
    delta, error = math.sqrt(q) * d_A + math.sqrt(p) * d_C, 2 * math.sqrt(r)
    return FismoRateT6(
        start=outer * D / (eta * T),
        descent=outer * L * eta * r * p * q / 2,
        averaged_noise=outer * error * math.sqrt((1 - beta) / (1 + beta)) * roots * floor,
        drifting_noise=outer * error * delta * floor,
        gradient_change=outer * error * memory * roots * L * eta * math.sqrt(r * p * q),
        frame_change=outer * error * memory * G_f * delta,
        initial_momentum=outer * error * memory * roots * G_f / T,
    )
