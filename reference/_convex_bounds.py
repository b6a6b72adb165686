"""Right-hand sides for convex functions (SOFIM, AdaFisher); public in `reference.bounds`."""

from typing import NamedTuple

import numpy as np

from reference._arguments import Array, fraction, integer, non_negative, positive, vector

__all__ = [
    "AdafisherConvexRate",
    "SofimConvexRate",
    "SofimStronglyConvexRate",
    "adafisher_convex_rate",
    "sofim_convex_rate",
    "sofim_stability_threshold",
    "sofim_strongly_convex_rate",
]


class SofimConvexRate(NamedTuple):
    """Both forms of `sofim_convex_rate`.

    Attributes
    ----------
    total : float
        With the step lengths of the path.
    a_priori : float
        With the first gradient only; never smaller if gradient norms do not increase.

    Notes
    -----
    Source: derived for this project, "rates" section 5.
    """

    total: float
    a_priori: float


class SofimStronglyConvexRate(NamedTuple):
    """Both forms of `sofim_strongly_convex_rate`.

    Attributes
    ----------
    total : float
        With the step lengths of the path.
    a_priori : float
        With the first gradient only.
    asymptotic_factor : float
        ``1 - mu eta / rho``, what a step contracts by in the end.

    Notes
    -----
    Source: derived for this project, "rates" section 5.
    """

    total: float
    a_priori: float
    asymptotic_factor: float


class AdafisherConvexRate(NamedTuple):
    """Terms of `adafisher_convex_rate`.

    Attributes
    ----------
    total : float
        Bound of the gap after t steps.
    factor : float
        Contraction per step.

    Notes
    -----
    Source: correction of Gomes et al., AdaFisher (arXiv 2405.16397), Proposition 3.3.
    """

    total: float
    factor: float


def sofim_convex_rate(
    gradient_norms: Array, *, eta: float, rho: float, L: float, distance: float
) -> SofimConvexRate:
    """Bound of ``f(w_T) - f*`` for SOFIM without momentum on a convex function, full gradient.

    Parameters
    ----------
    gradient_norms : (T,) float64
        ``|grad f(w_0)| .. |grad f(w_{T-1})|``, T at least 1. Not modified.
    eta, rho, L : float
        Step, regularisation and smoothness, above 0, with ``eta <= rho / L``.
    distance : float
        ``|w_0 - w*|``, at least 0.

    Returns
    -------
    rate : SofimConvexRate
        ``distance^2 / (2 sum_t eta_t)``, ``eta_t = eta / (rho + |grad f(w_t)|^2)``.

    Raises
    ------
    ValueError
        If an argument is out of order or the step is too long.

    Notes
    -----
    Function values and gradient norms do not increase along such a run.
    Source: derived for this project, "rates" section 5; the paper's own theorem is not known to us.
    Accuracy: relative errors of order ``T u``.
    """
    steps, slowest = _sofim_steps(gradient_norms, eta, rho, L)
    square = non_negative("distance", distance) ** 2
    return SofimConvexRate(square / (2 * float(steps.sum())), square / (2 * slowest * len(steps)))


def sofim_strongly_convex_rate(
    gradient_norms: Array, *, eta: float, rho: float, L: float, mu: float, gap: float
) -> SofimStronglyConvexRate:
    """Bound of ``f(w_T) - f*`` for SOFIM without momentum on a strongly convex function, full gradient.

    Parameters
    ----------
    gradient_norms, eta, rho, L
        As in `sofim_convex_rate`.
    mu : float
        Strong convexity, above 0 and at most L.
    gap : float
        ``f(w_0) - f*``, at least 0.

    Returns
    -------
    rate : SofimStronglyConvexRate
        ``gap prod_t (1 - mu eta_t)``: gradient descent's dependence on the condition number, no better.

    Raises
    ------
    ValueError
        If an argument is out of order or the step is too long.

    Notes
    -----
    Source: derived for this project, "rates" section 5.
    Accuracy: relative errors of order ``T u`` over the asymptotic factor, which cancels for long steps.
    """
    steps, slowest = _sofim_steps(gradient_norms, eta, rho, L)
    gap, mu = non_negative("gap", gap), positive("mu", mu)
    if not mu <= L:
        raise ValueError(f"mu must be at most L, got mu = {mu} and L = {L}")
    path = gap * float(np.prod(1 - mu * steps))
    return SofimStronglyConvexRate(path, gap * (1 - mu * slowest) ** len(steps), 1 - mu * eta / rho)


def sofim_stability_threshold(*, L: float, rho: float, beta: float) -> float:
    """Largest step for which SOFIM is stable near the minimum of ``L x^2 / 2``.

    Parameters
    ----------
    L, rho : float
        Curvature and regularisation, above 0.
    beta : float
        Weight of the old momentum, in [0, 1).

    Returns
    -------
    eta : float
        ``2 (1 + beta) rho / ((1 - beta) L)``; beyond it a bounded cycle, not overflow.

    Raises
    ------
    ValueError
        If an argument is out of order.

    Notes
    -----
    Source: derived for this project, SOFIM, stability.
    Accuracy: relative error of order u.
    """
    beta = fraction("beta", beta)
    return 2 * (1 + beta) / (1 - beta) * positive("rho", rho) / positive("L", L)


def adafisher_convex_rate(
    *, gap: float, mu: float, L: float, eta: float, smallest: float, largest: float, t: int
) -> AdafisherConvexRate:
    """Bound of ``f(theta_t) - f*`` for AdaFisher without momentum on a strongly convex function.

    Parameters
    ----------
    gap : float
        ``f(theta_0) - f*``, at least 0.
    mu, L : float
        Strong convexity and smoothness, above 0, mu at most L.
    eta : float
        Step, above 0, with ``eta L <= smallest``.
    smallest, largest : float
        ``smallest I <= F_t <= largest I`` for every preconditioner, above 0.
    t : int
        Steps, at least 0.

    Returns
    -------
    rate : AdafisherConvexRate
        ``(1 - eta mu / largest)^t gap``.

    Raises
    ------
    ValueError
        If an argument is out of order or the step is too long: the printed condition ``eta <= 1 / L`` does
        not suffice.

    Notes
    -----
    Source: correction of Gomes et al., AdaFisher (arXiv 2405.16397), Proposition 3.3.
    Accuracy: relative errors of order ``max(t, 1) u / factor``.
    """
    gap, mu, L, eta = non_negative("gap", gap), positive("mu", mu), positive("L", L), positive("eta", eta)
    smallest, largest = positive("smallest", smallest), positive("largest", largest)
    if not mu <= L:
        raise ValueError(f"mu must be at most L, got mu = {mu} and L = {L}")
    if not smallest <= largest:
        raise ValueError(f"smallest must be at most largest, got {smallest} and {largest}")
    if not eta <= smallest / L:
        raise ValueError(f"eta must be at most smallest / L = {smallest / L:.6g}, got {eta}")
    factor = 1 - eta * mu / largest
    return AdafisherConvexRate(gap * factor ** integer("t", t, minimum=0), factor)


def _sofim_steps(gradient_norms: Array, eta: float, rho: float, L: float) -> tuple[Array, float]:
    """Step lengths of the path, and the one at the first gradient."""
    norms = vector("gradient_norms", gradient_norms)
    eta, rho, L = positive("eta", eta), positive("rho", rho), positive("L", L)
    if norms.ndim != 1 or not len(norms) or not (norms >= 0).all():
        raise ValueError(
            f"gradient_norms must hold T norms, T at least 1, none negative, got shape {norms.shape}"
        )
    if not eta <= rho / L:
        raise ValueError(f"eta must be at most rho / L = {rho / L:.6g}, got {eta}")
    steps = eta / (rho + np.square(norms))
    return steps, float(steps[0])
