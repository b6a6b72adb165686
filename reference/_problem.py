"""What a test problem is: a function, its derivative, stochastic gradients and exactly known constants."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from reference._arguments import Array, integer, matrix
from reference.noise import Noise

__all__ = ["Problem", "with_noise"]

Index = NDArray[np.intp]


@dataclass(frozen=True)
class Problem:
    """A differentiable function of a matrix whose constants are known exactly, not estimated.

    Attributes
    ----------
    name : str
    shape : tuple of int
        ``(m, n)`` of the parameter; the functions accept batches ``(..., m, n)``.
    objective, derivative : callable
        ``(..., m, n)`` to ``(...)`` and to ``(..., m, n)``; use the methods `value` and `gradient`, which
        check their argument.
    L : float
        Smoothness: ``|grad f(X) - grad f(Y)|_F <= L |X - Y|_F`` on the domain.
    f_star : float
        The infimum if `f_star_exact`, else a lower bound of it.
    f_star_exact : bool
    gradient_bound : float
        Bound of ``|grad f|_F`` on the domain; infinite where there is none.
    convexity : float
        mu of strong convexity, 0 for a convex function without it, negative where f is not convex.
    per_sample : callable or None
        Finite sums: ``(W, index)`` with index ``(..., B)`` to the gradients ``(..., B, m, n)`` of those
        terms, whose mean over all `samples` terms is the gradient.
    samples : int
        Number of terms; 0 if the function is not a finite sum.
    noise : Noise or None
        What is added to the gradient instead.
    variance_bound : float
        Bound of the per-sample variance ``E|G - grad f|_F^2`` on the domain: sigma^2 of the theorems. Exact
        for added noise; for finite sums `variance` is the exact number at a point.
    sample_bound : float
        Almost sure bound g of ``|G|_F`` on the domain, any batch size; infinite where there is none.
    radius : float
        The domain is the ball ``|W|_F <= radius``; the constants say nothing outside.
    norm : {"frobenius"}
        The norm of L and of all bounds.

    Notes
    -----
    To add a problem, write a function that returns one: the formula and its derivative, batched over leading
    axes; constants by a proof that its docstring names; then add an instance of it to ``PROBLEMS`` in
    ``tests/reference/test_problems.py``, where searches try to break every constant.
    Source: project specification "rates", problems with exactly known constants.
    """

    name: str
    shape: tuple[int, ...]
    objective: Callable[[Array], Array]
    derivative: Callable[[Array], Array]
    L: float
    f_star: float
    f_star_exact: bool
    gradient_bound: float
    convexity: float
    per_sample: Callable[[Array, Index], Array] | None = None
    samples: int = 0
    noise: Noise | None = None
    variance_bound: float = 0.0
    sample_bound: float = np.inf
    radius: float = np.inf
    norm: Literal["frobenius"] = "frobenius"

    def value(self, W: Array) -> Array:
        """``f(W)``, shape ``(...)``; ``ValueError`` if `W` is not finite float64 of shape ``(..., m, n)``."""
        return np.asarray(self.objective(self._checked(W)), dtype=np.float64)

    def gradient(self, W: Array) -> Array:
        """``grad f(W)``, shape of `W`; ``ValueError`` as for `value`."""
        return self.derivative(self._checked(W))

    def sample_gradients(self, W: Array, index: Index) -> Array:
        """Gradients of the terms `index`, ``(..., B)``, at W: ``(..., B, m, n)``.

        Raises ``ValueError`` if the problem is not a finite sum, or as for `value`.
        """
        if self.per_sample is None:
            raise ValueError(f"{self.name} is not a finite sum: it has no terms to take gradients of")
        return self.per_sample(self._checked(W), index)

    def variance(self, W: Array) -> Array:
        """Exact ``E|G - grad f(W)|_F^2`` of one sample, shape ``(...)``.

        The mean of B independent samples has this divided by B.
        """
        W = self._checked(W)
        if self.per_sample is None:
            return np.full(W.shape[:-2], self.variance_bound)
        every = np.broadcast_to(np.arange(self.samples), (*W.shape[:-2], self.samples))
        G = self.per_sample(W, every)
        return np.asarray(
            np.square(G - G.mean(axis=-3, keepdims=True)).sum(axis=(-2, -1)).mean(axis=-1), dtype=np.float64
        )

    def stochastic_gradient(self, W: Array, rng: np.random.Generator, *, batch: int = 1) -> Array:
        """Mean of `batch` independent stochastic gradients, independent over leading axes; shape of `W`.

        Terms of a finite sum are drawn uniformly with replacement, so that the variance is exactly
        ``variance(W) / batch``. Without terms and without noise it is the gradient itself.
        Raises ``ValueError`` if `batch` is below 1, or as for `value`.
        """
        W, batch = self._checked(W), integer("batch", batch, minimum=1)
        if self.noise is not None:
            return self.derivative(W) + self.noise.sample(rng, batch=batch, runs=W.shape[:-2])
        if self.per_sample is None:
            return self.derivative(W)
        index = rng.integers(self.samples, size=(*W.shape[:-2], batch))
        return self.per_sample(W, index).mean(axis=-3)

    def _checked(self, W: Array) -> Array:
        W = matrix("W", W)
        if W.shape[-2:] != self.shape:
            raise ValueError(f"W must have shape (..., {self.shape[0]}, {self.shape[1]}), got {W.shape}")
        return W


def with_noise(problem: Problem, noise: Noise) -> Problem:
    """The same function, observed with added noise instead of by samples of its terms.

    Parameters
    ----------
    problem : Problem
        Not modified.
    noise : Noise
        Of the problem's shape.

    Returns
    -------
    noisy : Problem
        Variance exactly ``noise.sigma^2``; ``|G|_F`` at most the sum of the two bounds.

    Raises
    ------
    ValueError
        If the shapes differ.

    Notes
    -----
    Source: project specification "rates", problems with exactly known constants.
    Accuracy: the function is untouched; each of the two constants is one rounding away from those given.
    """
    if noise.shape != problem.shape:
        raise ValueError(f"noise must have shape {problem.shape}, got {noise.shape}")
    return replace(
        problem,
        name=f"{problem.name}, {noise.name} noise",
        per_sample=None,
        samples=0,
        noise=noise,
        variance_bound=noise.sigma**2,
        sample_bound=problem.gradient_bound + noise.bound,
    )
