"""Right-hand sides for Muon: Kim and Oh, Nagashima and Iiduka. Public in `reference.bounds`.

Kim and Oh's Theorem 3 (SGD with momentum in the nuclear norm) is known to us by its order only, so it is not
here.
"""

import math
from typing import NamedTuple

import numpy as np

from reference._arguments import Array, fraction, integer, like, non_negative, positive, vector

__all__ = [
    "KimOhRate",
    "NagashimaIiduka",
    "kim_oh_parameters",
    "kim_oh_rate",
    "kim_oh_tuned_rate",
    "nagashima_iiduka_constant_rate",
    "nagashima_iiduka_rate",
    "run",
]


class KimOhRate(NamedTuple):
    """Terms of `kim_oh_rate`.

    Attributes
    ----------
    start, descent, gradient_change, noise, initial_momentum : float
        Every one divided by ``1 - epsilon``.

    Notes
    -----
    Source: Kim and Oh (arXiv 2601.19156), bound before the choice of parameters.
    """

    start: float
    descent: float
    gradient_change: float
    noise: float
    initial_momentum: float

    @property
    def total(self) -> float:
        """Sum of the terms."""
        return sum(self)


class NagashimaIiduka(NamedTuple):
    """Terms of `nagashima_iiduka_rate`.

    Attributes
    ----------
    start, descent, initial_momentum, gradient_change, noise, fresh_noise : float
        The last one is Nesterov's and 0 without it.

    Notes
    -----
    Source: Nagashima and Iiduka (arXiv 2601.19400), Theorem 3.1.
    """

    start: float
    descent: float
    initial_momentum: float
    gradient_change: float
    noise: float
    fresh_noise: float

    @property
    def total(self) -> float:
        """Sum of the terms."""
        return sum(self)


def kim_oh_rate(
    *,
    r: int,
    D: float,
    L: float,
    sigma: float,
    batch: int,
    T: int,
    eta: float,
    beta: float,
    epsilon: float = 0.0,
    sharpened: bool = False,
) -> KimOhRate:
    """Bound of ``(1/T) sum_t E|grad_t|_*`` for Muon with an inexact polar factor.

    Parameters
    ----------
    r : int
        Largest rank, ``min(m, n)``, at least 1.
    D : float
        ``f(W_0) - f*``, at least 0.
    L : float
        Smoothness from spectral to nuclear norm, ``|grad f(X) - grad f(Y)|_* <= L |X - Y|_2``: at most r
        times the Frobenius constant.
    sigma : float
        Root of the Frobenius variance of one sample; the noise has mean zero given the past.
    batch, T : int
        Batch size and steps, at least 1.
    eta : float
        Step, above 0.
    beta : float
        Weight of the old momentum, in [0, 1).
    epsilon : float
        In [0, 1), the largest spectral distance of the computed from the exact polar factor over the run.
        The assumptions do not control it.
    sharpened : bool
        Our ``|grad f(W_0)|_* <= sqrt(2 L D)`` in place of the paper's ``sqrt(2 r L D)``.

    Returns
    -------
    rate : KimOhRate

    Raises
    ------
    ValueError
        If an argument is out of order.

    Notes
    -----
    Source: Kim and Oh (arXiv 2601.19156), bound before the choice of parameters; Theorem 4 is epsilon = 0.
    Accuracy: every term has a relative error of order u.
    """
    r = integer("r", r, minimum=1)
    D, L, epsilon = non_negative("D", D), non_negative("L", L), fraction("epsilon", epsilon)
    T, eta, beta, floor = run(T, eta, beta, sigma, batch)
    chi, memory = 1 / (1 - epsilon), 2 * beta / (1 - beta)
    first_gradient = math.sqrt(2 * (1 if sharpened else r) * L * D)
    return KimOhRate(
        start=chi * D / (T * eta),
        descent=chi * L * eta / 2 * (1 + epsilon) ** 2,
        gradient_change=chi * memory * L * eta * (1 + epsilon),
        noise=chi * 2 * floor * math.sqrt(r) * math.sqrt((1 - beta) / (1 + beta)),
        initial_momentum=chi * memory * first_gradient / T,
    )


def kim_oh_parameters(*, r: int, D: float, L: float, sigma: float, batch: int, T: int) -> tuple[float, float]:
    """Step and momentum weight that Kim and Oh's Theorem 1 prescribes for a horizon.

    Parameters
    ----------
    r, batch, T : int
        As in `kim_oh_rate`.
    D, L : float
        As in `kim_oh_rate`, above 0.
    sigma : float
        As in `kim_oh_rate`.

    Returns
    -------
    eta, beta : float
        ``eta = sqrt((1 - beta) D / (T L))``, ``beta = 1 - min(sqrt(L D B) / (sigma sqrt(r T)), 1)``.

    Raises
    ------
    ValueError
        If an argument is out of order.

    Notes
    -----
    Source: Kim and Oh (arXiv 2601.19156), Theorem 1.
    Accuracy: eta has a relative, beta an absolute error of order u.
    """
    r, batch, T = (integer(k, v, minimum=1) for k, v in (("r", r), ("batch", batch), ("T", T)))
    D, L, sigma = positive("D", D), positive("L", L), non_negative("sigma", sigma)
    fresh = min(math.sqrt(L * D * batch) / (sigma * math.sqrt(r * T)), 1.0) if sigma > 0 else 1.0
    return math.sqrt(fresh * D / (T * L)), 1 - fresh


def kim_oh_tuned_rate(
    *,
    r: int,
    D: float,
    L: float,
    sigma: float,
    batch: int,
    T: int,
    epsilon: float = 0.0,
    sharpened: bool = False,
) -> KimOhRate:
    """`kim_oh_rate` at the parameters of `kim_oh_parameters`: Theorem 1 with its constants.

    Parameters
    ----------
    r, D, L, sigma, batch, T, epsilon, sharpened
        As in `kim_oh_rate`; D and L above 0.

    Returns
    -------
    rate : KimOhRate
        Of order ``sqrt(L D / T) + sigma r / sqrt(B T) + (r sigma^2 L D / (B T))^(1/4)``; the middle term has
        ``sqrt(r)`` if sharpened.

    Raises
    ------
    ValueError
        If an argument is out of order.

    Notes
    -----
    Source: Kim and Oh (arXiv 2601.19156), Theorem 1.
    Accuracy: every term has a relative error of order ``u / (1 - beta)``; where beta is small, the terms with
    it as a factor have that error relative to themselves without the factor.
    """
    eta, beta = kim_oh_parameters(r=r, D=D, L=L, sigma=sigma, batch=batch, T=T)
    return kim_oh_rate(
        r=r,
        D=D,
        L=L,
        sigma=sigma,
        batch=batch,
        T=T,
        eta=eta,
        beta=beta,
        epsilon=epsilon,
        sharpened=sharpened,
    )


def nagashima_iiduka_rate(
    eta: Array,
    batch: Array,
    *,
    nu: int,
    D: float,
    L: float,
    sigma: float,
    beta: float,
    momentum_error: float,
    nesterov: bool = False,
) -> NagashimaIiduka:
    """Bound of ``min_{t<T} E|grad f(W_t)|_F`` for Muon with an exact polar factor, any schedules.

    Parameters
    ----------
    eta : (T,) float64
        Steps ``eta_0 .. eta_{T-1}``, at least 0 and not all 0. Not modified.
    batch : (T,) float64
        Batch sizes ``B_0 .. B_{T-1}``, at least 1; they need not be whole numbers. Not modified.
    nu : int
        Bound of ``|O_t|_F^2``, ``min(m, n)``, at least 1.
    D : float
        ``f(W_0) - f*``, at least 0.
    L : float
        Smoothness in Frobenius norm, at least 0.
    sigma : float
        Root of the variance of one sample.
    beta : float
        Weight of the old momentum, in [0, 1).
    momentum_error : float
        ``|M_0 - grad f(W_0)|_F``, at least 0.
    nesterov : bool
        The polar factor is taken of ``beta M_t + (1 - beta) G_t``.

    Returns
    -------
    rate : NagashimaIiduka

    Raises
    ------
    ValueError
        If an argument is out of order.

    Notes
    -----
    Source: Nagashima and Iiduka (arXiv 2601.19400), Theorem 3.1.
    Accuracy: every term has a relative error of order ``T u``; the change of the gradient in addition one of
    order ``T u`` relative to the descent, as the newest step is subtracted from its sum.
    """
    eta = vector("eta", eta)
    if eta.ndim != 1 or not ((eta >= 0).all() and (eta > 0).any()):
        raise ValueError(f"eta must hold T steps, none negative and one positive, got shape {eta.shape}")
    batch = like("batch", batch, eta.shape)
    if not (batch >= 1).all():
        raise ValueError(f"batch must be at least 1, got {batch.min()}")
    nu, beta = integer("nu", nu, minimum=1), fraction("beta", beta)
    D, L, sigma = non_negative("D", D), non_negative("L", L), non_negative("sigma", sigma)
    momentum_error = non_negative("momentum_error", momentum_error)

    powers = beta ** np.arange(len(eta))
    weight = eta / eta.sum()
    deviation = 1 / np.sqrt(batch)
    past_steps = _remembered(eta, beta) - eta  # sum over i >= 1 of beta^i eta_{t-i}
    look_ahead = beta if nesterov else 1.0
    error = 2 * math.sqrt(nu)
    return NagashimaIiduka(
        start=D / float(eta.sum()),
        descent=nu * L / 2 * float(weight @ eta),
        initial_momentum=look_ahead * error * momentum_error * float(weight @ powers),
        gradient_change=look_ahead * 2 * L * nu * float(weight @ past_steps),
        noise=look_ahead * error * (1 - beta) * sigma * float(weight @ _remembered(deviation, beta)),
        fresh_noise=error * (1 - beta) * sigma * float(weight @ deviation) if nesterov else 0.0,
    )


def nagashima_iiduka_constant_rate(
    *,
    nu: int,
    D: float,
    L: float,
    sigma: float,
    batch: int,
    T: int,
    eta: float,
    beta: float,
    momentum_error: float,
) -> NagashimaIiduka:
    """The closed form for constant step and batch size, as printed: an upper bound of the sums.

    Parameters
    ----------
    nu, D, L, sigma, beta, momentum_error
        As in `nagashima_iiduka_rate`.
    batch, T : int
        Batch size and steps, at least 1.
    eta : float
        Step, above 0.

    Returns
    -------
    rate : NagashimaIiduka
        The gradient change has the printed ``1 / (1 - beta)``; the sum gives ``beta / (1 - beta)``.

    Raises
    ------
    ValueError
        If an argument is out of order.

    Notes
    -----
    Source: Nagashima and Iiduka (arXiv 2601.19400), appendix, constant schedules.
    Accuracy: every term has a relative error of order u.
    """
    nu = integer("nu", nu, minimum=1)
    D, L = non_negative("D", D), non_negative("L", L)
    momentum_error = non_negative("momentum_error", momentum_error)
    T, eta, beta, floor = run(T, eta, beta, sigma, batch)
    return NagashimaIiduka(
        start=D / (eta * T),
        descent=nu * L * eta / 2,
        initial_momentum=2 * math.sqrt(nu) * momentum_error / ((1 - beta) * T),
        gradient_change=2 * L * nu * eta / (1 - beta),
        noise=2 * floor * math.sqrt(nu),
        fresh_noise=0.0,
    )


def run(T: int, eta: float, beta: float, sigma: float, batch: int) -> tuple[int, float, float, float]:
    """Horizon, step and momentum weight, checked, and ``sigma / sqrt(B)``."""
    deviation = non_negative("sigma", sigma) / math.sqrt(integer("batch", batch, minimum=1))
    return integer("T", T, minimum=1), positive("eta", eta), fraction("beta", beta), deviation


def _remembered(x: Array, beta: float) -> Array:
    """``sum_{i=0}^{t} beta^i x_{t-i}`` for every t."""
    memory, total = np.empty_like(x), 0.0
    for t, value in enumerate(x):
        memory[t] = total = beta * total + float(value)
    return memory
