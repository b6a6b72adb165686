"""FISMO's factors: how far they can go, how fast they can move, how ill-conditioned a step can be.

Symbols: P (m, m) and Q (n, n) factors; p and q bounds of ``|P^-1|_2`` and ``|Q^-1|_2``, Lambda_P and
Lambda_Q of their largest eigenvalues, d_A and d_C of one step's change in ``P^(-1/2)`` and ``Q^(-1/2)``;
g and s almost sure bounds of ``|G_t|_F`` and ``|G_t|_2`` for the *stochastic* gradient;
``b = g^2 / (m n mu)``.

All statements assume the start ``P_0 = I, Q_0 = I`` and ``factor_scaling="none"``, either order, exact
arithmetic. The lemmas of the paper are known by their conditions only: every constant here is reconstructed.
"""

import math
from typing import Literal, NamedTuple

from reference._arguments import choice, fraction, integer, non_negative, positive

__all__ = [
    "Drift",
    "Spectrum",
    "UniformBounds",
    "algorithm_spectrum",
    "reconstructed_drift",
    "sharp_drift",
    "step_condition",
    "theorem_spectrum",
    "uniform_bounds",
]

Damping = Literal["algorithm", "theorem"]


class Spectrum(NamedTuple):
    """Bounds of the spectra, for all steps.

    Attributes
    ----------
    p, q : float
        Of ``|P^-1|_2`` and ``|Q^-1|_2``.
    Lambda_P, Lambda_Q : float
        Of the largest eigenvalues.

    Notes
    -----
    Source: Xu, Yan, Zhang, FISMO (arXiv 2601.21750), Lemma D.2, reconstructed.
    """

    p: float
    q: float
    Lambda_P: float
    Lambda_Q: float


class Drift(NamedTuple):
    """Bounds of one step's change, for all steps.

    Attributes
    ----------
    P, Q : float
        Of ``|P_t - P_{t-1}|_2`` and ``|Q_t - Q_{t-1}|_2``.
    d_A, d_C : float
        Of ``|P_t^(-1/2) - P_{t-1}^(-1/2)|_2`` and its twin.

    Notes
    -----
    Source: Xu, Yan, Zhang, FISMO (arXiv 2601.21750), Lemma D.5, reconstructed.
    """

    P: float
    Q: float
    d_A: float
    d_C: float


class UniformBounds(NamedTuple):
    """What the averaged rate asks of the factors: spectra and drift.

    Attributes
    ----------
    p, q, Lambda_P, Lambda_Q : float
        As in `Spectrum`.
    d_A, d_C : float
        As in `Drift`.

    Notes
    -----
    Source: derived for this project, averaged bound T6.
    """

    p: float
    q: float
    Lambda_P: float
    Lambda_Q: float
    d_A: float
    d_C: float


def algorithm_spectrum(*, m: int, n: int, g: float, mu: float) -> Spectrum:
    """Lemma D.2, reconstructed: with ``damping="algorithm"`` and ``b < 1`` the spectra stay bounded.

    Parameters
    ----------
    m, n : int
        Shape of the parameter, at least 1.
    g : float
        Almost sure bound of ``|G_t|_F``, at least 0.
    mu : float
        Damping, above 0.

    Returns
    -------
    spectrum : Spectrum
        ``p = q = 1 / (1 - b)``, ``Lambda_P = 1 + (m - 1) b``, ``Lambda_Q = 1 + (n - 1) b``; any gamma.

    Raises
    ------
    ValueError
        If an argument is out of order or ``b = g^2 / (m n mu)`` is not below 1: there is no bound then.

    Notes
    -----
    Source: Xu, Yan, Zhang, FISMO (arXiv 2601.21750), Lemma D.2; reconstructed constants.
    Accuracy: relative errors of order ``u / (1 - b)``.
    """
    b = _level(m, n, g, mu)
    return Spectrum(1 / (1 - b), 1 / (1 - b), 1 + (m - 1) * b, 1 + (n - 1) * b)


def theorem_spectrum(*, m: int, n: int, s: float, mu: float) -> Spectrum:
    """T3: with ``damping="theorem"`` the spectra stay bounded, without a condition on the gradients' size.

    Parameters
    ----------
    m, n : int
        Shape of the parameter, at least 1.
    s : float
        Almost sure bound of ``|G_t|_2``, at least 0.
    mu : float
        Damping, above 0.

    Returns
    -------
    spectrum : Spectrum
        ``p = K_P = 1 + s^2 / (m mu)``, ``Lambda_P = m - (m - 1) / K_P``, and with n for Q; any gamma.

    Raises
    ------
    ValueError
        If an argument is out of order.

    Notes
    -----
    Source: derived for this project, statement T3.
    Accuracy: p and q have relative errors of order u, Lambda_P and Lambda_Q errors of order ``m u`` and ``n
    u``.
    """
    _shape(m, n)
    s, mu = non_negative("s", s), positive("mu", mu)
    K_P, K_Q = 1 + s**2 / (m * mu), 1 + s**2 / (n * mu)
    return Spectrum(K_P, K_Q, m - (m - 1) / K_P, n - (n - 1) / K_Q)


def reconstructed_drift(*, m: int, n: int, g: float, mu: float, gamma: float) -> Drift:
    """Lemma D.5, reconstructed: with ``damping="algorithm"`` and ``b < 1`` the factors move slowly.

    Parameters
    ----------
    m, n : int
        Shape of the parameter, at least 1.
    g : float
        Almost sure bound of ``|G_t|_F``, at least 0.
    mu : float
        Damping, above 0.
    gamma : float
        In [0, 1], the weight of the old factor.

    Returns
    -------
    drift : Drift
        ``(1 - gamma) mu Lambda_P / ((1 - b) (gamma + (1 - gamma) mu))`` for P, and for its inverse root that
        times ``(1 - b)^(-3/2) / 2``. Does not vanish with b: `sharp_drift` does, and is never larger.

    Raises
    ------
    ValueError
        If an argument is out of order or b is not below 1.

    Notes
    -----
    Source: Xu, Yan, Zhang, FISMO (arXiv 2601.21750), Lemma D.5; reconstructed constants.
    Accuracy: relative errors of order ``u / (1 - b)``.
    """
    spectrum = algorithm_spectrum(m=m, n=n, g=g, mu=mu)
    gamma = fraction("gamma", gamma, closed=True)
    rate = (1 - gamma) * mu * spectrum.p / (gamma + (1 - gamma) * mu)
    return _drift(rate * spectrum.Lambda_P, rate * spectrum.Lambda_Q, spectrum)


def sharp_drift(*, m: int, n: int, size: float, mu: float, gamma: float, damping: Damping) -> Drift:
    """T7: the drift of the factors, sharp for both dampings.

    Parameters
    ----------
    m, n : int
        Shape of the parameter, at least 1.
    size : float
        Almost sure bound of the gradient, at least 0: g (Frobenius) for "algorithm", s (spectral) for
        "theorem".
    mu : float
        Damping, above 0.
    gamma : float
        In [0, 1], the weight of the old factor.
    damping : {"algorithm", "theorem"}
        As in `reference.fismo.update_factors`.

    Returns
    -------
    drift : Drift
        P moves by at most the width of the interval that holds its spectrum (m b, or ``m (1 - 1/K_P)``) times
        the largest weight of new data, ``(1 - gamma) tau / (gamma + (1 - gamma) tau)``.

    Raises
    ------
    ValueError
        If an argument is out of order, or with "algorithm" if b is not below 1.

    Notes
    -----
    Source: derived for this project, statement T7.
    Accuracy: relative errors of order u, with "algorithm" ``u / (1 - b)``, times ``p / (p - 1)`` for P and
    ``q / (q - 1)`` for Q: a small width is a difference.
    """
    gamma = fraction("gamma", gamma, closed=True)
    if choice("damping", damping, ("algorithm", "theorem")) == "algorithm":
        spectrum = algorithm_spectrum(m=m, n=n, g=size, mu=mu)
        tau, level = mu * spectrum.p, 1 / spectrum.p
        width_P, width_Q = m * (1 - level), n * (1 - level)
    else:
        spectrum = theorem_spectrum(m=m, n=n, s=size, mu=mu)
        tau = mu * spectrum.p * spectrum.q
        width_P, width_Q = m * (1 - 1 / spectrum.p), n * (1 - 1 / spectrum.q)
    weight = (1 - gamma) * tau / (gamma + (1 - gamma) * tau)
    return _drift(weight * width_P, weight * width_Q, spectrum)


def uniform_bounds(
    *, m: int, n: int, size: float, mu: float, gamma: float, damping: Damping
) -> UniformBounds:
    """The a-priori constants of the averaged rate: spectra of D.2 or T3 with the drift of T7.

    Parameters
    ----------
    m, n, size, mu, gamma, damping
        As in `sharp_drift`.

    Returns
    -------
    bounds : UniformBounds

    Raises
    ------
    ValueError
        As for `sharp_drift`.

    Notes
    -----
    Source: derived for this project, averaged bound T6, a-priori constants.
    Accuracy: p, q, d_A and d_C as for `sharp_drift` and the spectra; Lambda_P and Lambda_Q have errors of
    order ``m u`` and ``n u``, with "algorithm" divided by ``1 - b``.
    """
    drift = sharp_drift(m=m, n=n, size=size, mu=mu, gamma=gamma, damping=damping)
    spectrum = (
        algorithm_spectrum(m=m, n=n, g=size, mu=mu)
        if damping == "algorithm"
        else theorem_spectrum(m=m, n=n, s=size, mu=mu)
    )
    return UniformBounds(*spectrum, drift.d_A, drift.d_C)


def step_condition(*, m: int, n: int, g: float, mu: float) -> float:
    """Bound of the condition number of a step: ``sqrt(Lambda_P Lambda_Q) / (1 - b)``.

    Parameters
    ----------
    m, n : int
        Shape of the parameter, at least 1.
    g : float
        Almost sure bound of ``|G_t|_F``, at least 0.
    mu : float
        Damping, above 0.

    Returns
    -------
    condition : float
        For ``damping="algorithm"``, exact polar factor and momentum of full rank.

    Raises
    ------
    ValueError
        If an argument is out of order or b is not below 1.

    Notes
    -----
    Source: derived for this project, conditioning of the update.
    Accuracy: relative error of order ``u / (1 - b)``.
    """
    spectrum = algorithm_spectrum(m=m, n=n, g=g, mu=mu)
    return math.sqrt(spectrum.Lambda_P * spectrum.Lambda_Q) * spectrum.p


def _shape(m: int, n: int) -> None:
    integer("m", m, minimum=1)
    integer("n", n, minimum=1)


def _level(m: int, n: int, g: float, mu: float) -> float:
    """``b = g^2 / (m n mu)``, below 1."""
    _shape(m, n)
    b = non_negative("g", g) ** 2 / (m * n * positive("mu", mu))
    if not b < 1:
        raise ValueError(f"b = g^2 / (m n mu) must be below 1, got {b:.6g} from g = {g} and mu = {mu}")
    return b


def _drift(of_P: float, of_Q: float, spectrum: Spectrum) -> Drift:
    """With the roots: ``x^(-1/2)`` has operator Lipschitz constant ``p^(3/2) / 2`` on ``[1/p, inf)``."""
    return Drift(of_P, of_Q, 0.5 * spectrum.p**1.5 * of_P, 0.5 * spectrum.q**1.5 * of_Q)
