"""AdaFisher: momentum over a diagonal, min-max normalised Kronecker approximation of the Fisher matrix.

Symbols: G gradient, M momentum, h_D and s_D diagonals of the activation and gradient factors as the layer
functions measure them, h' and s' their averages after min-max normalisation, gamma weight of the average, lam
damping, ``F_jk = s'_j h'_k + lam`` the denominator of the weight from input k to output j. There is no square
root on F.

What accounts of the paper leave open is an argument with a documented default.
Twin of `reference.adafisher`, derived independently. The optimizer people train with is
`torch_impl.AdaFisher`.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from torch_impl import _checks
from torch_impl.adafisher_convolution import conv2d_factors, convolution_factors
from torch_impl.adafisher_denominator import (
    GAMMA_ONS,
    PAIRINGS,
    RELEASED_EPSILON,
    average,
    denominator,
    diagonal,
    minmax_normalize,
    released_average,
)
from torch_impl.adafisher_factors import (
    NormalizationFactors,
    embedding_factors,
    linear_factors,
    normalization_block,
    normalization_factors,
)

__all__ = [
    "RELEASED_EPSILON",
    "AdaFisherState",
    "NormalizationFactors",
    "average",
    "conv2d_factors",
    "convolution_factors",
    "denominator",
    "embedding_factors",
    "init",
    "linear_factors",
    "minmax_normalize",
    "normalization_block",
    "normalization_factors",
    "released_average",
    "step",
]

NORMALISES = ("after", "before")
AVERAGINGS = ("paper", "released")
INITIALS = ("first", "ones")


class AdaFisherState(NamedTuple):
    """What AdaFisher remembers between steps.

    Attributes
    ----------
    M : (..., m, n)
        Average of gradients, not bias-corrected; (..., c) for `pairing` "channel".
    h_D : (..., n)
        Averaged activation factor; normalised already only with ``normalise="before"`` or in released form.
    s_D : (..., m)
        Averaged gradient factor, likewise.
    t : int
        Steps taken.
    refreshes : int
        Measurements in the averages.
    """

    M: Tensor
    h_D: Tensor
    s_D: Tensor
    t: int
    refreshes: int


@torch.no_grad()
def init(W: Tensor | tuple[int, ...], *, pairing: str = "outer") -> AdaFisherState:
    """State before the first step: zero momentum, factors of ones with no measurement in them.

    Parameters
    ----------
    W : (..., m, n) tensor, or its shape
        The parameter (outputs, inputs), bias column included; (..., c) for `pairing` "channel". A shape
        stands for torch's default dtype and the CPU.
    pairing : {"outer", "channel"}
        As in `denominator`.

    Returns
    -------
    AdaFisherState
        float64 for float64, otherwise float32 (bfloat16 and float16 too), on the device of W.

    Raises
    ------
    TypeError, ValueError
        If W does not fit, or `pairing` is no such name.

    Notes
    -----
    Source: Martins Gomes et al., AdaFisher (arXiv 2405.16397 v3), Algorithm 1. What the averages start from
    is open, see `initial` of `step`.
    """
    if isinstance(W, tuple):
        W = torch.empty([_checks.count("W (a shape)", side, at_least=0) for side in W])
    h_shape, s_shape = _factor_shapes("W", _checks.tensor("W", W), pairing)
    M = torch.zeros_like(W, dtype=_checks.working(W.dtype))
    return AdaFisherState(M, M.new_ones(h_shape), M.new_ones(s_shape), 0, 0)


@torch.no_grad()
def step(
    G: Tensor,
    state: AdaFisherState,
    *,
    h_D: Tensor | None = None,
    s_D: Tensor | None = None,
    beta: float = 0.9,
    gamma: float = 0.8,
    lam: float = 1e-3,
    weight_decay: float = 0.0,
    W: Tensor | None = None,
    normalise: str = "after",
    gamma_on: str = "old",
    averaging: str = "paper",
    initial: str = "first",
    epsilon: float = 0.0,
    relative: bool = True,
    refresh: bool = True,
    pairing: str = "outer",
    factor_axes: int = 1,
) -> tuple[Tensor, AdaFisherState]:
    """One step of AdaFisher, or of AdaFisherW with weight decay: ``W_new = W - lr * update``.

    Parameters
    ----------
    G : (..., m, n) float64, float32, bfloat16 or float16
        Gradient at W, bias column included; (..., c) for `pairing` "channel". Not modified.
    state : AdaFisherState
        From `init` or the previous step. Not modified.
    h_D : (..., n), optional
        Fresh activation factor, not normalised; needed if `refresh`, not looked at otherwise. Not modified.
    s_D : (..., m), optional
        Fresh gradient factor, likewise.
    beta : float
        In [0, 1), the weight of the old momentum.
    gamma : float
        In [0, 1], the weight of the average of the factors.
    lam : float
        Damping, above 0.
    weight_decay : float
        At least 0; decoupled: the update contains ``weight_decay * W``.
    W : (..., m, n), optional
        The parameter, needed if ``weight_decay > 0``. Not modified.
    normalise : {"after", "before"}
        Average the measurements and normalise the average, or normalise every measurement and use its
        average as it is.
    gamma_on : {"old", "new"}
        As in `average`.
    averaging : {"paper", "released"}
        "released" is `released_average` from ones; `normalise`, `gamma_on`, `initial`, `epsilon` and
        `relative` then have no effect.
    initial : {"first", "ones"}
        The average starts from the first measurement, or from ones, of which the first refresh keeps a part.
    epsilon, relative
        As in `minmax_normalize`.
    refresh : bool
        Whether to measure the factors at this step.
    pairing : {"outer", "channel"}
        As in `denominator`.
    factor_axes : int
        How many last axes of h_D and s_D make one factor: 2 lets one min-max normalisation run over all
        groups of a grouped convolution, whose weight is (groups, m / groups, n).

    Returns
    -------
    update : (..., m, n), dtype of the state
        ``M_hat / F + weight_decay W`` with ``M_hat = M / (1 - beta^t)``. NaN in a layer with a measurement
        that is not finite: entries are not inspected here, which would make the host wait.
    state : AdaFisherState
        The new state, in the dtype of the old one; nothing is shared with it.

    Raises
    ------
    TypeError, ValueError
        If a shape, dtype or layout does not fit, an option is out of range, a measurement is missing where
        `refresh` asks for one or none was ever taken, or `W` is missing where weight decay needs it.

    Notes
    -----
    Source: Martins Gomes et al., AdaFisher (arXiv 2405.16397 v3), Algorithm 1. The printed algorithm starts
    the bias correction at ``t = 0``, where it divides by zero; here at 1.
    """
    _check_numbers(beta=beta, gamma=gamma, lam=lam, weight_decay=weight_decay, epsilon=epsilon)
    _check_names(normalise=normalise, gamma_on=gamma_on, averaging=averaging, initial=initial)
    _check_state(state, pairing)
    _shaped("G", G, state.M)
    if W is not None:
        _shaped("W", W, state.M)
    elif weight_decay > 0:
        raise ValueError(f"W must be given when weight_decay is above 0, got None and {weight_decay}")
    diagonal("state.h_D", state.h_D, axes=_checks.count("factor_axes", factor_axes, at_least=1))
    diagonal("state.s_D", state.s_D, axes=factor_axes)
    released = averaging == "released"
    if not (refresh or released or initial == "ones" or state.refreshes):
        raise ValueError("refresh must be set as long as nothing was measured, got False")

    def measured(name: str, fresh: Tensor | None, old: Tensor) -> Tensor:
        """The average with the fresh measurement in it."""
        if not refresh:
            return old.clone()
        if fresh is None:
            raise ValueError(f"{name} must be given when refresh is set, got None")
        fresh = _shaped(name, fresh, old).to(old.dtype)
        if released:
            return released_average(old, fresh, gamma=gamma, axes=factor_axes)
        if normalise == "before":
            fresh = minmax_normalize(fresh, epsilon=epsilon, relative=relative, axes=factor_axes)
        if initial == "first" and state.refreshes == 0:
            return fresh.clone()
        return average(old, fresh, gamma=gamma, gamma_on=gamma_on)

    def normalised(mean: Tensor) -> Tensor:
        """The average as the denominator takes it."""
        if released or normalise == "before":
            return mean
        return minmax_normalize(mean, epsilon=epsilon, relative=relative, axes=factor_axes)

    new_h, new_s = measured("h_D", h_D, state.h_D), measured("s_D", s_D, state.s_D)
    M, t = beta * state.M + (1.0 - beta) * G.to(state.M.dtype), state.t + 1
    F = denominator(normalised(new_h), normalised(new_s), lam=lam, pairing=pairing)
    update = M / (1.0 - beta**t) / F
    if W is not None and weight_decay > 0:
        update = update + weight_decay * W.to(M.dtype)
    return update, AdaFisherState(M, new_h, new_s, t, state.refreshes + bool(refresh))


def _factor_shapes(name: str, W: Tensor, pairing: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of the two factors of `W`."""
    _checks.choice("pairing", pairing, PAIRINGS)
    if pairing == "outer":
        *batch, m, n = _checks.matrix(name, W).shape
        return (*batch, n), (*batch, m)
    if W.ndim < 1:
        raise ValueError(f"{name} must have shape (..., c), got a scalar tensor")
    return tuple(W.shape), tuple(W.shape)


def _shaped(name: str, x: Tensor, other: Tensor) -> Tensor:
    if _checks.tensor(name, x).shape != other.shape:
        raise ValueError(f"{name} must have shape {tuple(other.shape)} as the state, got {tuple(x.shape)}")
    return x


def _check_state(state: AdaFisherState, pairing: str) -> None:
    h_shape, s_shape = _factor_shapes("state.M", _checks.tensor("state.M", state.M), pairing)
    for name, x, shape in (("h_D", state.h_D, h_shape), ("s_D", state.s_D, s_shape)):
        if tuple(_checks.tensor(f"state.{name}", x).shape) != shape:
            raise ValueError(f"state.{name} must have shape {shape}, got {tuple(x.shape)}")
    _checks.count("state.t", state.t, at_least=0)
    _checks.count("state.refreshes", state.refreshes, at_least=0)


def _check_numbers(*, beta: float, gamma: float, lam: float, weight_decay: float, epsilon: float) -> None:
    _checks.number("beta", beta, at_least=0.0, below=1.0)
    _checks.number("gamma", gamma, at_least=0.0, at_most=1.0)
    _checks.number("lam", lam, above=0.0)
    _checks.number("weight_decay", weight_decay, at_least=0.0)
    _checks.number("epsilon", epsilon, at_least=0.0)


def _check_names(*, normalise: str, gamma_on: str, averaging: str, initial: str) -> None:
    _checks.choice("normalise", normalise, NORMALISES)
    _checks.choice("gamma_on", gamma_on, GAMMA_ONS)
    _checks.choice("averaging", averaging, AVERAGINGS)
    _checks.choice("initial", initial, INITIALS)
