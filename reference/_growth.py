"""Growth of curvature with the radius: the functions H of the isotropic curvature model."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import expit

from reference._arguments import Array, non_negative, number, positive

__all__ = ["Growth", "kinked_growth", "power_growth"]


class Growth(NamedTuple):
    """A convex function of the radius with value and slope 0 at 0: three functions of arrays of radii.

    Attributes
    ----------
    value : callable
        ``H(r)`` for r at least 0.
    slope : callable
        ``H'(r)``, the left one at a kink.
    curvature : callable
        ``H''(r)``, without the point masses of kinks.

    Notes
    -----
    Source: Su, isotropic curvature model (arXiv 2511.00674), the curvature function.
    """

    value: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    curvature: Callable[[Array], Array]


def power_growth(*, exponent: float, k: float = 1.0) -> Growth:
    """``H(r) = k r^exponent``.

    Parameters
    ----------
    exponent : float
        At least 2: 2 keeps the ratios of singular values, more brings them closer.
    k : float
        Above 0.

    Returns
    -------
    Growth

    Raises
    ------
    ValueError
        If an argument is out of order.

    Notes
    -----
    Source: Su, isotropic curvature model (arXiv 2511.00674), the growth condition.
    Accuracy: values of order ``u (1 + exponent |log r|)`` relative, and so the derivatives.
    """
    p, k = number("exponent", exponent), positive("k", k)
    if p < 2:
        raise ValueError(f"exponent must be at least 2, got {p}")
    return Growth(
        lambda r: np.asarray(k * r**p),
        lambda r: np.asarray(k * p * r ** (p - 1)),
        lambda r: np.asarray(k * p * (p - 1) * r ** (p - 2)),
    )


def kinked_growth(*, at: float, low: float, high: float, width: float = 0.0) -> Growth:
    """``low r^2 / (2 at) + (high - low) max(0, r - at)``, whose slope jumps from `low` to `high` at `at`.

    Parameters
    ----------
    at : float
        Radius of the kink, above 0.
    low, high : float
        Slopes on its two sides, ``0 <= low < high``.
    width : float
        At least 0. Above 0 the jump is smoothed, ``max(0, x)`` becoming ``width log(1 + exp(x / width))``.

    Returns
    -------
    Growth
        Of value and slope 0 at 0. Smoothed, the rise of the slope is shifted and stretched to start from 0
        and to end at ``high - low`` as without smoothing.

    Raises
    ------
    ValueError
        If an argument is out of order.

    Notes
    -----
    Source: Su, isotropic curvature model (arXiv 2511.00674), the kink of Theorem 4; this instance is ours.
    Accuracy: to a few u times the sum of absolute terms, which cancel near 0 if smoothed:
    ``low r^2 / at + high (r + at + width)`` for the value; ``low r / at + high b`` for the slope with
    ``b = 1 + (r + at) / width``, or 1 for a true kink; ``low / at + high b / width`` for the curvature,
    smoothed.
    """
    at, low, high = positive("at", at), non_negative("low", low), positive("high", high)
    width = non_negative("width", width)
    if not low < high:
        raise ValueError(f"high must be above low, got {high} and {low}")
    jump = high - low

    def smoothed(r: Array) -> tuple[Array, Array, Array]:
        if not width:
            return np.maximum(r - at, 0.0), np.where(r > at, 1.0, 0.0), np.zeros_like(r)
        x, start, stretch = (r - at) / width, expit(-at / width), expit(at / width)
        rise = width * (np.logaddexp(0.0, x) - np.logaddexp(0.0, -at / width)) - start * r
        return rise / stretch, (expit(x) - start) / stretch, expit(x) * expit(-x) / (width * stretch)

    return Growth(
        lambda r: low * np.square(r) / (2 * at) + jump * smoothed(r)[0],
        lambda r: low * r / at + jump * smoothed(r)[1],
        lambda r: low / at + jump * smoothed(r)[2],
    )
