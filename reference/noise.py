"""Gradient noise with exactly known variance and bound, to be added to a true gradient.

Symbols: sigma the root of ``E|N|_F^2`` of one sample, B the batch size. A batch mean has variance exactly
``sigma^2 / B``, and it is drawn from its exact distribution, at a cost that does not grow with B where that
distribution is known (all models but Student's t).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from reference._arguments import Array, integer, number, positive, shape

__all__ = ["Noise", "gaussian", "rademacher", "skewed_two_point", "student_t"]

#: Draws the mean of B independent standardised entries: arguments rng, sizes, B.
_MeanOfEntries = Callable[[np.random.Generator, tuple[int, ...], int], Array]


@dataclass(frozen=True)
class Noise:
    """A distribution of matrices with independent, identically distributed entries of mean zero.

    Attributes
    ----------
    name : str
    shape : tuple of int
        ``(m, n)`` of one sample.
    sigma : float
        Root of ``E|N|_F^2`` of one sample, exact.
    bound : float
        Almost sure bound of ``|N|_F``, for one sample and for every batch mean; infinite where there is none.
        Only bounded noise can meet the assumption ``|G_t|_F <= g`` of FISMO's rate.
    entries : callable
        ``(rng, sizes, batch)`` to independent batch means of entries of variance 1.

    Notes
    -----
    To add a model, write a function like `rademacher`: give `entries`, which draws means of standardised
    entries, and the exact almost sure bound.
    Source: verification method "noise is added exactly, with stated variance".
    """

    name: str
    shape: tuple[int, ...]
    sigma: float
    bound: float
    entries: _MeanOfEntries

    def sample(self, rng: np.random.Generator, *, batch: int = 1, runs: tuple[int, ...] = ()) -> Array:
        """Means of `batch` independent samples, ``(*runs, m, n)``, independent over `runs`.

        Raises ``ValueError`` if `batch` is below 1.
        """
        batch = integer("batch", batch, minimum=1)
        if 0 in self.shape:
            return np.zeros((*runs, *self.shape))
        per_entry = self.sigma / np.sqrt(np.prod(self.shape))
        return np.asarray(per_entry * self.entries(rng, (*runs, *self.shape), batch), dtype=np.float64)


def gaussian(W: Array | tuple[int, ...], *, sigma: float) -> Noise:
    """Normal entries.

    Parameters
    ----------
    W : (m, n) float64, or tuple of int
        The parameter or its shape.
    sigma : float
        Root of ``E|N|_F^2`` of one sample, at least 0.

    Returns
    -------
    noise : Noise
        Unbounded.

    Raises
    ------
    ValueError
        If an argument is out of order.

    Notes
    -----
    Source: verification method "noise is added exactly, with stated variance".
    Accuracy: a draw is scaled to order u relative; sigma is kept as given.
    """

    def entries(rng: np.random.Generator, sizes: tuple[int, ...], batch: int) -> Array:
        return rng.standard_normal(sizes) / np.sqrt(batch)

    sizes, sigma = _model(W, sigma)
    return Noise("gaussian", sizes, sigma, np.inf if sigma > 0 else 0.0, entries)


def rademacher(W: Array | tuple[int, ...], *, sigma: float) -> Noise:
    """Entries ``+-sigma / sqrt(m n)`` with equal probability, so that ``|N|_F = sigma`` surely.

    Parameters
    ----------
    W : (m, n) float64, or tuple of int
        The parameter or its shape.
    sigma : float
        Norm of every sample, at least 0.

    Returns
    -------
    noise : Noise
        Bound: sigma. Symmetric, which hides the floor that a sign method has under skewed noise.

    Raises
    ------
    ValueError
        If an argument is out of order.

    Notes
    -----
    Source: verification method "noise is added exactly, with stated variance".
    Accuracy: a draw is scaled to order u times ``sigma / sqrt(m n)``; sigma and the bound are kept as given.
    """

    def entries(rng: np.random.Generator, sizes: tuple[int, ...], batch: int) -> Array:
        return 2.0 * rng.binomial(batch, 0.5, sizes) / batch - 1.0

    sizes, sigma = _model(W, sigma)
    return Noise("rademacher", sizes, sigma, sigma, entries)


def skewed_two_point(W: Array | tuple[int, ...], *, sigma: float, odds: float = 3.0) -> Noise:
    """Entries proportional to -1 with probability ``odds / (1 + odds)`` and to ``odds`` otherwise.

    Parameters
    ----------
    W : (m, n) float64, or tuple of int
        The parameter or its shape.
    sigma : float
        Root of ``E|N|_F^2`` of one sample, at least 0. For 1x1, ``odds = 3`` and ``sigma = sqrt(3)`` the
        values are exactly those of the instance on which the gradient does not vanish: -1 and 3.
    odds : float
        At least 1; 1 is Rademacher noise. The mean is 0 and the variance ``odds`` before scaling.

    Returns
    -------
    noise : Noise
        Bound: ``sqrt(odds) sigma``.

    Raises
    ------
    ValueError
        If an argument is out of order.

    Notes
    -----
    Source: verification method "noise is added exactly, with stated variance"; scalar instance of the floor.
    Accuracy: a draw is scaled to order u times ``sigma / sqrt(m n)`` times its value plus ``2 / sqrt(odds)``;
    the bound to u relative, sigma is kept as given.
    """
    if not number("odds", odds) >= 1:
        raise ValueError(f"odds must be at least 1, got {odds}")

    def entries(rng: np.random.Generator, sizes: tuple[int, ...], batch: int) -> Array:
        high = rng.binomial(batch, 1 / (1 + odds), sizes)
        return ((1 + odds) * high / batch - 1.0) / np.sqrt(odds)

    sizes, sigma = _model(W, sigma)
    return Noise("skewed two-point", sizes, sigma, float(np.sqrt(odds)) * sigma, entries)


def student_t(W: Array | tuple[int, ...], *, sigma: float, degrees: float = 3.0) -> Noise:
    """Entries of Student's t distribution, scaled to variance ``sigma^2 / (m n)``.

    Parameters
    ----------
    W : (m, n) float64, or tuple of int
        The parameter or its shape.
    sigma : float
        Root of ``E|N|_F^2`` of one sample, at least 0.
    degrees : float
        Degrees of freedom, above 2 so that the variance exists. Moments of order `degrees` and above do not.

    Returns
    -------
    noise : Noise
        Unbounded. A batch mean costs B draws.

    Raises
    ------
    ValueError
        If an argument is out of order.

    Notes
    -----
    The variance before scaling is ``degrees / (degrees - 2)``.
    Source: Student, "The Probable Error of a Mean" (1908).
    Accuracy: a draw is scaled to order ``B u degrees / (degrees - 2)`` relative to the mean of the absolute
    draws; sigma is kept as given.
    """
    excess = positive("degrees - 2", number("degrees", degrees) - 2)

    def entries(rng: np.random.Generator, sizes: tuple[int, ...], batch: int) -> Array:
        total = np.zeros(sizes)
        for _ in range(batch):  # one draw at a time: the memory of a batch mean does not grow with the batch
            total += rng.standard_t(degrees, sizes)
        return total / (batch * np.sqrt(degrees / excess))

    sizes, sigma = _model(W, sigma)
    return Noise("student t", sizes, sigma, np.inf if sigma > 0 else 0.0, entries)


def _model(W: Array | tuple[int, ...], sigma: float) -> tuple[tuple[int, ...], float]:
    """The shape, exactly two axes, and a checked sigma."""
    sizes = shape("W", W, axes=2)
    if len(sizes) != 2:
        raise ValueError(f"W must have shape (m, n), got {sizes}; independent runs are an argument of sample")
    if not number("sigma", sigma) >= 0:
        raise ValueError(f"sigma must be at least 0, got {sigma}")
    return sizes, float(sigma)
