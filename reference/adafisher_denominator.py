"""From measured factor diagonals to AdaFisher's denominator: average, min-max normalisation, product.

Symbols: h_D and s_D diagonals of the activation and gradient factors, gamma weight of the average, lam
damping. Public through `reference.adafisher`.
"""

from typing import Literal

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
    positive,
    vector,
)

__all__ = [
    "RELEASED_EPSILON",
    "average",
    "denominator",
    "minmax_normalize",
    "released_average",
    "without_infinities",
]

#: Added to the range by the released code since 31 May 2024, whatever the range is.
RELEASED_EPSILON = 1e-6


def minmax_normalize(d: Array, *, epsilon: float = 0.0, relative: bool = True, axes: int = 1) -> Array:
    """``(d - min d) / (max d - min d)``: every factor that is not constant gets an exact 0 and an exact 1.

    Parameters
    ----------
    d : (..., n) float64
        Factor diagonals. Not modified.
    epsilon : float
        At least 0, added to the range. With 0, the choice of this reference, a constant diagonal gives zeros
        (the formula is 0 / 0 there); so it does with any epsilon.
    relative : bool
        Whether epsilon is a multiple of the range, or a number in the units of d. What the second does
        depends on the scale of the loss: ranges of convolution layers lie far below 1e-6.
    axes : int
        How many last axes make one factor; at least 1.

    Returns
    -------
    d_normalised : (..., n) float64
        In [0, 1]. An empty factor stays empty.

    Raises
    ------
    ValueError
        If an argument is out of order or the range overflows.

    Notes
    -----
    Source: Martins Gomes et al., AdaFisher (arXiv 2405.16397 v3), Proposition 3.2 and equation 4; as accounts
    report them. The value of epsilon and the constant diagonal are our choices.
    Accuracy: differences of nearly equal entries cancel; with epsilon 0 the extreme entries are exact.
    """
    epsilon, axes = non_negative("epsilon", epsilon), integer("axes", axes, minimum=1)
    d = array("d", d, form="(..., n)", axes=axes)
    if d.size == 0:
        return d.copy()
    over = tuple(range(-axes, 0))
    low = d.min(axis=over, keepdims=True)
    with np.errstate(over="ignore", invalid="ignore"):
        width = finite_result("d", d.max(axis=over, keepdims=True) - low, "have a range in range")
        divisor = finite_result(
            "epsilon", width * (1 + epsilon) if relative else width + epsilon, "leave the range finite"
        )
    return np.where(width > 0, (d - low) / np.where(width > 0, divisor, 1.0), 0.0)


def average(old: Array, new: Array, *, gamma: float = 0.8, gamma_on: Literal["old", "new"] = "old") -> Array:
    """``gamma old + (1 - gamma) new``, or with the weights exchanged; they sum to 1.

    Parameters
    ----------
    old, new : (..., n) float64
        The average so far and the fresh measurement. Not modified.
    gamma : float
        In [0, 1].
    gamma_on : {"old", "new"}
        What gamma weighs. "old" is our choice; one formalisation reads "new". The submission had two
        constants, ``gamma_1 old + (1 - gamma_2) new``, which is no average.

    Returns
    -------
    mean : (..., n) float64

    Raises
    ------
    ValueError
        If an argument is out of order.

    Notes
    -----
    Source: Martins Gomes et al., AdaFisher (arXiv 2405.16397 v3), equation 3; as accounts report it.
    Accuracy: each entry to a few u relative to ``|old| + |new|``.
    """
    old = vector("old", old)
    new, gamma = like("new", new, old.shape), fraction("gamma", gamma, closed=True)
    kept = gamma if choice("gamma_on", gamma_on, ("old", "new")) == "old" else 1 - gamma
    return kept * old + (1 - kept) * new


def released_average(old: Array, new: Array, *, gamma: float = 0.8, axes: int = 1) -> Array:
    """One refresh of the released code: ``0.1 gamma old + 0.01 gamma minmax(new)``.

    The weights sum to ``0.11 gamma``, 0.088 at the default: for a constant fresh value x the factor tends to
    ``x / 115``, and the product of two factors to 7.6 per cent of the default damping or less.

    Parameters
    ----------
    old : (..., n) float64
        The factor so far; it starts at ones. Not modified.
    new : (..., n) float64
        Fresh diagonal, not normalised. Infinite entries are allowed, NaN is not: before the normalisation
        +inf becomes 1 and -inf becomes 0. Not modified.
    gamma : float
        In [0, 1].
    axes : int
        As in `minmax_normalize`, whose epsilon is `RELEASED_EPSILON`, absolute.

    Returns
    -------
    factor : (..., n) float64
        Used in `denominator` as it is: the released code does not normalise it again.

    Raises
    ------
    ValueError
        If an argument is out of order.

    Notes
    -----
    Source: AtlasAnalyticsLab, AdaFisher, behaviour of the releases since 31 May 2024 as documented in the
    project's specification (section 4); written from that description, not from the code. Where infinities
    are replaced is our reading: after the normalisation there are none left, only NaN.
    Accuracy: each entry to a few u relative to the sum of absolute terms, for `new` as given. Errors that
    `new` already holds grow by ``max |new|`` over its range plus 1e-6.
    """
    old, gamma = vector("old", old), fraction("gamma", gamma, closed=True)
    fresh = minmax_normalize(
        without_infinities("new", new, old.shape), epsilon=RELEASED_EPSILON, relative=False, axes=axes
    )
    return 0.1 * gamma * old + 0.01 * gamma * fresh


def denominator(
    h_D: Array, s_D: Array, *, lam: float = 1e-3, pairing: Literal["outer", "channel"] = "outer"
) -> Array:
    """``F_jk = s_j h_k + lam``, the denominator of the weight from input k to output j.

    Parameters
    ----------
    h_D : (..., n) float64
        Normalised activation factor. Not modified.
    s_D : (..., m) float64
        Normalised gradient factor. Not modified.
    lam : float
        Damping, above 0.
    pairing : {"outer", "channel"}
        "channel" is for normalisation layers: ``F_j = s_j h_j + lam`` of shape (..., c), the entries of the
        Kronecker product that belong to a parameter. Their c scales are not a matrix, and how the paper maps
        a product of two c x c factors onto them is not in the accounts.

    Returns
    -------
    F : (..., m, n) or (..., c) float64
        In [lam, 1 + lam] for factors in [0, 1].

    Raises
    ------
    ValueError
        If an argument is out of order.

    Notes
    -----
    Source: Martins Gomes et al., AdaFisher (arXiv 2405.16397 v3), preconditioner after Proposition 3.2; as
    accounts report it. ``h_D kron s_D`` with the columns of the weight stacked.
    Accuracy: each entry to a few u relative to ``|s_j h_k| + lam``, which is F for factors of at least 0.
    """
    h_D, lam = vector("h_D", h_D), positive("lam", lam)
    outer = choice("pairing", pairing, ("outer", "channel")) == "outer"
    s_D = vector("s_D", s_D)
    s_D = like("s_D", s_D, (*h_D.shape[:-1], s_D.shape[-1]) if outer else h_D.shape)
    with np.errstate(over="ignore"):
        product = s_D[..., :, None] * h_D[..., None, :] if outer else s_D * h_D
    return finite_result("h_D", product + lam, "have products with s_D in range")


def without_infinities(name: str, d: Array, expected: tuple[int, ...]) -> Array:
    """A measurement for the released average: +inf becomes 1 and -inf becomes 0; NaN is refused."""
    if isinstance(d, np.ndarray) and d.dtype == np.float64:
        d = np.where(np.isposinf(d), 1.0, np.where(np.isneginf(d), 0.0, d))
    return like(name, d, expected)
