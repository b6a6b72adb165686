"""AdaFisher's denominator: averages of factor diagonals, their min-max normalisation, their product.

Symbols: h_D (..., n) and s_D (..., m) factor diagonals, gamma weight of the average, lam damping. Axes before
a factor's own are a batch. Results are float64 where an argument is, otherwise float32: bfloat16 and float16
are read, and nothing is rounded to them.
Part of `torch_impl.adafisher`, the twin of `reference.adafisher`; derived independently.
"""

import torch
from torch import Tensor

from torch_impl import _checks

__all__ = ["RELEASED_EPSILON", "average", "denominator", "minmax_normalize", "released_average"]

#: Added to the range by the released code, in the units of the factor.
RELEASED_EPSILON = 1e-6

GAMMA_ONS = ("old", "new")
PAIRINGS = ("outer", "channel")


@torch.no_grad()
def average(old: Tensor, new: Tensor, *, gamma: float = 0.8, gamma_on: str = "old") -> Tensor:
    """``gamma old + (1 - gamma) new``, or with the weights exchanged; they sum to 1.

    Parameters
    ----------
    old, new : (..., n) float64, float32, bfloat16 or float16
        The average so far and the fresh measurement. Not modified.
    gamma : float
        In [0, 1].
    gamma_on : {"old", "new"}
        What gamma weighs. "old" is our choice; one formalisation reads "new".

    Returns
    -------
    mean : (..., n), common dtype of the arguments but at least float32

    Raises
    ------
    TypeError, ValueError
        If a shape, dtype or layout does not fit, or an option is out of range.

    Notes
    -----
    Source: Martins Gomes et al., AdaFisher (arXiv 2405.16397 v3), equation 3.
    """
    _checks.number("gamma", gamma, at_least=0.0, at_most=1.0)
    _checks.choice("gamma_on", gamma_on, GAMMA_ONS)
    _like("new", new, diagonal("old", old))
    weight = gamma if gamma_on == "old" else 1.0 - gamma
    old, new = _working(old, new)
    return weight * old + (1.0 - weight) * new


@torch.no_grad()
def minmax_normalize(d: Tensor, *, epsilon: float = 0.0, relative: bool = True, axes: int = 1) -> Tensor:
    """``(d - min d) / (max d - min d)``: every factor that is not constant gets an exact 0 and an exact 1.

    Parameters
    ----------
    d : (..., n) float64, float32, bfloat16 or float16
        Factor diagonals. Not modified.
    epsilon : float
        At least 0, added to the range. With any epsilon a constant diagonal gives zeros.
    relative : bool
        Whether epsilon is a multiple of the range, or a number in the units of d.
    axes : int
        How many last axes make one factor; at least 1.

    Returns
    -------
    d_normalised : (..., n), dtype of d but at least float32
        In [0, 1]. An empty factor stays empty. NaN throughout a factor that has an entry or a range which is
        not finite: entries are not inspected on the host, which would make it wait.

    Raises
    ------
    TypeError, ValueError
        If a shape, dtype or layout does not fit, or an option is out of range.

    Notes
    -----
    Source: Martins Gomes et al., AdaFisher (arXiv 2405.16397 v3), Proposition 3.2 and equation 4. The value
    of epsilon and the constant diagonal are our choices.
    """
    _checks.number("epsilon", epsilon, at_least=0.0)
    d = diagonal("d", d, axes=_checks.count("axes", axes, at_least=1))
    d = d.to(_checks.working(d.dtype))
    if 0 in d.shape[-axes:]:
        return d.clone()
    own = tuple(range(-axes, 0))
    low = d.amin(dim=own, keepdim=True)
    width = d.amax(dim=own, keepdim=True) - low
    width = width * (1.0 + epsilon) if relative else width + epsilon
    normalised = (d - low) / torch.where(width == 0, 1.0, width)
    return torch.where(width.isfinite(), normalised, torch.nan)


@torch.no_grad()
def released_average(old: Tensor, new: Tensor, *, gamma: float = 0.8, axes: int = 1) -> Tensor:
    """One refresh of the released code: ``0.1 gamma old + 0.01 gamma minmax(new)``.

    The weights sum to ``0.11 gamma``: for a constant fresh value x the factor tends to ``x / 115`` at the
    default, so that the damping outweighs every product of two factors.

    Parameters
    ----------
    old : (..., n) float64, float32, bfloat16 or float16
        The factor so far; it starts at ones. Not modified.
    new : (..., n) float64, float32, bfloat16 or float16
        Fresh diagonal, not normalised. Before the normalisation +inf becomes 1 and -inf becomes 0. Not
        modified.
    gamma : float
        In [0, 1].
    axes : int
        As in `minmax_normalize`, whose epsilon is `RELEASED_EPSILON`, absolute.

    Returns
    -------
    factor : (..., n), common dtype of the arguments but at least float32
        Used in `denominator` as it is. NaN throughout where `new` holds one.

    Raises
    ------
    TypeError, ValueError
        If a shape, dtype or layout does not fit, or an option is out of range.

    Notes
    -----
    Source: AtlasAnalyticsLab, AdaFisher, behaviour of the releases since 31 May 2024 as documented in the
    project's specification (section 4); written from that description, not from the code.
    """
    _checks.number("gamma", gamma, at_least=0.0, at_most=1.0)
    _like("new", new, diagonal("old", old))
    old, new = _working(old, new)
    finite = torch.nan_to_num(new, nan=torch.nan, posinf=1.0, neginf=0.0)
    fresh = minmax_normalize(finite, epsilon=RELEASED_EPSILON, relative=False, axes=axes)
    return 0.1 * gamma * old + 0.01 * gamma * fresh


@torch.no_grad()
def denominator(h_D: Tensor, s_D: Tensor, *, lam: float = 1e-3, pairing: str = "outer") -> Tensor:
    """``F_jk = s_j h_k + lam``, the denominator of the weight from input k to output j.

    Parameters
    ----------
    h_D : (..., n) float64, float32, bfloat16 or float16
        Normalised activation factor. Not modified.
    s_D : (..., m) float64, float32, bfloat16 or float16
        Normalised gradient factor. Not modified.
    lam : float
        Damping, above 0.
    pairing : {"outer", "channel"}
        "channel" is for normalisation layers: ``F_j = s_j h_j + lam`` of shape (..., c).

    Returns
    -------
    F : (..., m, n) or (..., c), common dtype of the factors but at least float32
        In [lam, 1 + lam] for factors in [0, 1].

    Raises
    ------
    TypeError, ValueError
        If a shape, dtype or layout does not fit, or an option is out of range.

    Notes
    -----
    Source: Martins Gomes et al., AdaFisher (arXiv 2405.16397 v3), preconditioner after Proposition 3.2.
    """
    _checks.number("lam", lam, above=0.0)
    _checks.choice("pairing", pairing, PAIRINGS)
    diagonal("h_D", h_D), diagonal("s_D", s_D)
    if pairing == "channel":
        _like("s_D", s_D, h_D)
    elif s_D.shape[:-1] != h_D.shape[:-1]:
        wanted = (*h_D.shape[:-1], s_D.shape[-1])
        raise ValueError(f"s_D must have shape {wanted} to go with h_D, got {tuple(s_D.shape)}")
    h_D, s_D = _working(h_D, s_D)
    if pairing == "outer":
        h_D, s_D = h_D.unsqueeze(-2), s_D.unsqueeze(-1)
    return s_D * h_D + lam


def diagonal(name: str, x: Tensor, *, axes: int = 1) -> Tensor:
    """Return `x` if it is a dense real tensor with at least `axes` axes."""
    if _checks.tensor(name, x).ndim < axes:
        shape = "(..., n)" if axes == 1 else f"(..., n) with at least {axes} axes"
        raise ValueError(f"{name} must have shape {shape}, got {tuple(x.shape)}")
    return x


def _like(name: str, x: Tensor, other: Tensor) -> None:
    if _checks.tensor(name, x).shape != other.shape:
        raise ValueError(f"{name} must have shape {tuple(other.shape)}, got {tuple(x.shape)}")


def _working(*tensors: Tensor) -> list[Tensor]:
    """The tensors in the precision of the widest, float32 at least."""
    dtype = _checks.working(_checks.common_dtype(*tensors))
    return [x.to(dtype) for x in tensors]
