"""AdaFisher: momentum over a diagonal, min-max normalised Kronecker approximation of the Fisher matrix.

Symbols: G gradient, M momentum, h_D and s_D diagonals of the activation and gradient factors as the layer
functions measure them, h' and s' their averages after min-max normalisation, gamma weight of the average, lam
damping, ``F_jk = s'_j h'_k + lam`` the denominator of the weight from input k to output j. There is no square
root on F.

What accounts of the paper leave open is an argument with a documented default. A layer for which the paper
gives no factor has none: the caller steps its parameters with another method.
"""

from typing import Literal, NamedTuple

import numpy as np

from reference._arguments import (
    Array,
    array,
    choice,
    finite_result,
    fraction,
    integer,
    like,
    non_negative,
    shape,
    vector,
)
from reference.adafisher_convolution import conv2d_factors, convolution_factors
from reference.adafisher_denominator import (
    RELEASED_EPSILON,
    average,
    denominator,
    minmax_normalize,
    released_average,
    without_infinities,
)
from reference.adafisher_factors import (
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


class AdaFisherState(NamedTuple):
    """What AdaFisher remembers between steps.

    Attributes
    ----------
    M : (..., m, n) float64
        Average of gradients, not bias-corrected; (..., c) for `pairing` "channel".
    h_D : (..., n) float64
        Averaged activation factor; normalised already only with ``normalise="before"`` or in released form.
    s_D : (..., m) float64
        Averaged gradient factor, likewise.
    t : int
        Steps taken.
    refreshes : int
        Measurements in the averages.

    Notes
    -----
    Source: Martins Gomes et al., AdaFisher (arXiv 2405.16397 v3), Algorithm 1; as accounts report it.
    """

    M: Array
    h_D: Array
    s_D: Array
    t: int
    refreshes: int


def init(W: Array | tuple[int, ...], *, pairing: Literal["outer", "channel"] = "outer") -> AdaFisherState:
    """State before the first step: zero momentum, factors of ones with no measurement in them.

    Parameters
    ----------
    W : (..., m, n) float64, or tuple of int
        The parameter (outputs, inputs), bias column included, or its shape; (..., c) for `pairing` "channel".
        Not modified, not kept.
    pairing : {"outer", "channel"}
        As in `denominator`.

    Returns
    -------
    AdaFisherState

    Raises
    ------
    ValueError
        If an argument is out of order.

    Notes
    -----
    Source: Martins Gomes et al., AdaFisher (arXiv 2405.16397 v3), Algorithm 1; as accounts report it. What
    the averages start from is open, see `initial` of `step`.
    Accuracy: exact (zeros and ones).
    """
    outer = choice("pairing", pairing, ("outer", "channel")) == "outer"
    sizes = shape("W", W, axes=2 if outer else 1)
    lead = sizes[:-2] if outer else sizes[:-1]
    outputs = sizes[-2] if outer else sizes[-1]
    return AdaFisherState(np.zeros(sizes), np.ones((*lead, sizes[-1])), np.ones((*lead, outputs)), 0, 0)


def step(
    G: Array,
    state: AdaFisherState,
    *,
    h_D: Array | None = None,
    s_D: Array | None = None,
    beta: float = 0.9,
    gamma: float = 0.8,
    lam: float = 1e-3,
    weight_decay: float = 0.0,
    W: Array | None = None,
    normalise: Literal["after", "before"] = "after",
    gamma_on: Literal["old", "new"] = "old",
    averaging: Literal["paper", "released"] = "paper",
    initial: Literal["first", "ones"] = "first",
    epsilon: float = 0.0,
    relative: bool = True,
    refresh: bool = True,
    pairing: Literal["outer", "channel"] = "outer",
    factor_axes: int = 1,
) -> tuple[Array, AdaFisherState]:
    """One step of AdaFisher, or of AdaFisherW with weight decay: ``W_new = W - lr * update``.

    Parameters
    ----------
    G : (..., m, n) float64
        Gradient at W, bias column included; (..., c) for `pairing` "channel". Not modified.
    state : AdaFisherState
        From `init` or the previous step. Not modified.
    h_D : (..., n) float64, optional
        Fresh activation factor, not normalised; needed if `refresh`, not looked at otherwise. Not modified.
    s_D : (..., m) float64, optional
        Fresh gradient factor, likewise.
    beta : float
        In [0, 1), the weight of the old momentum.
    gamma : float
        In [0, 1], the weight of the average of the factors.
    lam : float
        Damping, above 0.
    weight_decay : float
        At least 0; decoupled: the update contains ``weight_decay * W``. The released AdaFisher (without W)
        adds the decay to the gradient instead: pass ``G + weight_decay * W`` for that.
    W : (..., m, n) float64, optional
        The parameter, needed if ``weight_decay > 0``. Not modified.
    normalise : {"after", "before"}
        Average the measurements and normalise the average, the order of equation 3 and Proposition 3.2, or
        normalise every measurement and use its average as it is.
    gamma_on : {"old", "new"}
        As in `average`.
    averaging : {"paper", "released"}
        "released" is `released_average` from ones; `normalise`, `gamma_on`, `initial`, `epsilon` and
        `relative` then have no effect.
    initial : {"first", "ones"}
        The average starts from the first measurement, or from ones, of which the first refresh keeps a part.
        Ones are a constant diagonal: normalised "after" and before any refresh they give ``F = lam``.
    epsilon, relative
        As in `minmax_normalize`.
    refresh : bool
        Whether to measure the factors at this step; published settings measure at the first step and every
        100 steps from there.
    pairing : {"outer", "channel"}
        As in `denominator`.
    factor_axes : int
        How many last axes of h_D and s_D make one factor: 2 lets one min-max normalisation run over all
        groups of a grouped convolution, whose weight is (groups, m / groups, n). With 1 a depthwise
        convolution has gradient factors of width 1, and its denominator is lam throughout.

    Returns
    -------
    update : (..., m, n) float64
        ``M_hat / F + weight_decay W`` with ``M_hat = M / (1 - beta^t)``.
    state : AdaFisherState
        The new state; nothing is shared with the old one.

    Raises
    ------
    ValueError
        If an argument is out of order, a measurement is missing where `refresh` asks for one or none was ever
        taken, `W` is missing where weight decay needs it, or the update overflows.

    Notes
    -----
    Source: Martins Gomes et al., AdaFisher (arXiv 2405.16397 v3), Algorithm 1; as accounts report it. The
    printed algorithm starts the bias correction at ``t = 0``, where it divides by zero; here at 1.
    Accuracy: the update has a relative error of a few units of roundoff times ``1 + (a + b) / lam``, where a
    is ``max h_D`` over the range of h_D and b likewise for s_D: min-max cancels nearly equal entries.
    """
    beta, weight_decay = fraction("beta", beta), non_negative("weight_decay", weight_decay)
    gamma = fraction("gamma", gamma, closed=True)
    choice("gamma_on", gamma_on, ("old", "new"))
    choice("normalise", normalise, ("after", "before"))
    choice("initial", initial, ("first", "ones"))
    released = choice("averaging", averaging, ("paper", "released")) == "released"
    G = like("G", G, array("state.M", state.M).shape)
    if W is not None:
        W = like("W", W, G.shape)
    elif weight_decay > 0:
        raise ValueError(f"W must be given when weight_decay is above 0, got None and {weight_decay}")
    t = integer("state.t", state.t, minimum=0) + 1
    refreshes = integer("state.refreshes", state.refreshes, minimum=0)
    first = refreshes == 0 and initial == "first" and not released
    if first and not refresh:
        raise ValueError("refresh must be set as long as nothing was measured, got False")

    def normalised(d: Array) -> Array:
        return minmax_normalize(d, epsilon=epsilon, relative=relative, axes=factor_axes)

    def refreshed(name: str, old: Array, new: Array | None) -> Array:
        old = vector(f"state.{name}", old)
        if not refresh:
            return old.copy()
        if new is None:
            raise ValueError(f"{name} must be given when refresh is set, got None")
        if released:
            new = without_infinities(name, new, old.shape)
            return released_average(old, new, gamma=gamma, axes=factor_axes)
        new = like(name, new, old.shape)
        new = normalised(new) if normalise == "before" else new
        mean = average(old, new, gamma=gamma, gamma_on=gamma_on)
        return new.copy() if first else mean

    h, s = refreshed("h_D", state.h_D, h_D), refreshed("s_D", state.s_D, s_D)
    ready = released or normalise == "before"
    F = denominator(h if ready else normalised(h), s if ready else normalised(s), lam=lam, pairing=pairing)
    M = beta * state.M + (1 - beta) * like("G", G, F.shape)
    with np.errstate(over="ignore", invalid="ignore"):
        update = M / (1 - beta**t) / F
        update = update if W is None else update + weight_decay * W
    finite_result("G", update, "be small enough against lam")
    return update, AdaFisherState(M, h, s, t, refreshes + bool(refresh))
