"""Runs of sign descent with momentum on a Huber function, whose every constant is known: rates at 1x1.

At 1x1 FISMO and Muon are the same method, ``M <- beta M + (1-beta) G``, ``w <- w - eta sign(M)``, and their
rates hold for it with r = 1. Each family below is built so that one assumption, if it fails, breaks a rate:
the run stays where the gradient is large while the bound, fed with the false constant, is small. What is
claimed for a run and what is true of it are kept apart; the truth of each assumption is read off the run.
Lengths are in units of the step.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

__all__ = ["Path", "Scalar", "drive", "exact", "family", "floored"]

Array = NDArray[np.float64]

#: Runs of a family with random noise.
_RUNS = 300

#: Claimed constants that are false: smoothness and noise far too small, a tenth of the distance to go.
_SMALL = 1e-3


@dataclass(frozen=True)
class Scalar:
    """A run of T steps on ``f(w) = a huber(w / d)``, quadratic up to d and linear beyond, with its claims.

    Attributes
    ----------
    T : int
    eta, beta : float
    height, width, start : float
        a, d and w_0: the gradient is ``a w / d`` up to d, then a. True smoothness ``a / d``.
    noise : tuple of float
        Equally likely values that are added to the gradient.
    orthogonalize : callable
        Momentum to direction; the exact one is the sign.
    D, L, sigma : float
        Claimed; `batch` is the batch size by which the bounds divide sigma^2.
    """

    T: int
    eta: float
    beta: float
    height: float
    width: float
    start: float
    noise: tuple[float, ...]
    orthogonalize: Callable[[Array], Array]
    D: float
    L: float
    sigma: float
    batch: int = 1

    def value(self, w: Array) -> Array:
        """``f(w)``; its infimum is 0."""
        x = np.abs(w)
        return np.where(
            x < self.width, self.height * x**2 / (2 * self.width), self.height * (x - self.width / 2)
        )

    def gradient(self, w: Array) -> Array:
        """``f'(w)``."""
        return self.height * np.clip(w / self.width, -1.0, 1.0)

    @property
    def smooth(self) -> bool:
        """Whether f has the claimed smoothness."""
        return bool(self.height / self.width <= self.L * (1 + np.finfo(np.float64).eps))

    @property
    def bounded_below(self) -> bool:
        """Whether ``f >= f(w_0) - D``."""
        return bool(self.value(np.array(self.start)) <= self.D * (1 + np.finfo(np.float64).eps))

    @property
    def small_variance(self) -> bool:
        """Whether ``E N^2 <= sigma^2 / B``."""
        allowed = self.sigma**2 * (1 + np.finfo(np.float64).eps)
        return bool(np.mean(np.square(self.noise)) * self.batch <= allowed)

    @property
    def unbiased(self) -> bool:
        """Whether the noise has mean zero."""
        return sum(self.noise) == 0


@dataclass(frozen=True)
class Path:
    """What a run went through: values ``(T + 1, R)``, the rest ``(T, R)``."""

    values: Array
    gradients: Array
    momenta: Array
    directions: Array

    @property
    def error(self) -> float:
        """Largest distance of a direction from the sign of its momentum."""
        return float(np.abs(self.directions - np.sign(self.momenta)).max())

    @property
    def average(self) -> tuple[float, float]:
        """Mean of ``|f'|`` over steps and runs, and its standard error (0 without noise)."""
        per_run = np.abs(self.gradients).mean(axis=0)
        spread = float(per_run.std(ddof=1) / np.sqrt(len(per_run))) if len(per_run) > 1 else 0.0
        return float(per_run.mean()), spread


def exact(M: Array) -> Array:
    """The exact polar factor at 1x1."""
    return np.sign(M)


def floored(M: Array) -> Array:
    """One cubic Newton-Schulz step after division by ``max(1, |M|)``: far from the sign where M is small."""
    X = M / np.maximum(1.0, np.abs(M))
    return 1.5 * X - 0.5 * X**3


def drive(instance: Scalar) -> Path:
    """Run it; all runs of a noisy instance at once, from seeds of their own."""
    rng = np.random.default_rng(20250102)
    R = _RUNS if len(instance.noise) > 1 else 1
    w, M = np.full(R, instance.start), np.zeros(R)
    rows: list[tuple[Array, ...]] = []
    for _ in range(instance.T):
        g = instance.gradient(w)
        M = instance.beta * M + (1 - instance.beta) * (g + rng.choice(instance.noise, R))
        O = instance.orthogonalize(M)
        rows.append((instance.value(w), g, M, O))
        w = w - instance.eta * O
    values, gradients, momenta, directions = (np.stack(column) for column in zip(*rows, strict=True))
    return Path(np.concatenate([values, instance.value(w)[None]]), gradients, momenta, directions)


def family(
    kind: str,
    false: frozenset[str],
    *,
    T: int,
    eta: float,
    beta: float,
    orthogonalize: Callable[[Array], Array] = exact,
    wrong: Callable[[Array], Array] = floored,
    batch: int = 1,
) -> Scalar:
    """The instance of one family, with false claims where `false` names an assumption.

    Parameters
    ----------
    kind : {"smooth", "lower", "variance", "unbiased", "polar", "noise"}
        The assumption that the family is made for. "variance" has mean-zero noise, "noise" a constant one,
        for bounds that do not ask for a mean of zero.
    false : frozenset of str
        Which of "smooth", "lower", "variance", "unbiased", "polar" are violated.
    orthogonalize, wrong : callable
        What the method does, and what it does where "polar" is violated.
    batch : int
        Batch size of the claim.
    """
    memory = 0.5 + 2 * beta / (1 - beta)
    plain = Scalar(T, eta, beta, 1.0, 3 * memory * eta, 0.0, (0.0,), orthogonalize, 0.0, 0.0, 0.0, batch)
    made = _FAMILIES[kind](plain, memory)
    if "unbiased" in false and made.unbiased:
        made = replace(made, noise=(-(max(made.noise) or 1.0),))
    made = _honest(made)
    if "smooth" in false:
        made = replace(made, L=_SMALL * made.L if kind != "smooth" else _SMALL / eta)
    if "lower" in false:
        made = replace(made, D=0.2 * eta * T if kind == "lower" else 0.5 * made.D)
    if "variance" in false:
        made = replace(made, sigma=_SMALL * made.sigma)
    if "polar" in false:
        made = replace(made, orthogonalize=wrong)
    return made


def _honest(made: Scalar) -> Scalar:
    """The instance with true constants."""
    sigma = np.sqrt(np.mean(np.square(made.noise)) * made.batch)
    D = float(made.value(np.array(made.start)))
    return replace(made, D=D, L=made.height / made.width, sigma=float(sigma))


def _kink(plain: Scalar, memory: float) -> Scalar:
    """Almost the absolute value: signs of the gradient jump, and the run oscillates at full gradient."""
    return replace(plain, width=0.02 * plain.eta, start=(0.2 * plain.T + 0.37) * plain.eta)


def _far(plain: Scalar, memory: float) -> Scalar:
    """A start from which T steps do not arrive."""
    return replace(plain, start=5.0 * plain.T * plain.eta)


def _spread(plain: Scalar, memory: float) -> Scalar:
    """Large noise of mean zero spreads the runs over both slopes."""
    return replace(plain, noise=(-100.0, 100.0), start=0.7 * plain.width)


def _slow(plain: Scalar, memory: float) -> Scalar:
    """A gradient of 1/10 and a start that exact signs leave within a fraction of the run."""
    width = plain.width
    return replace(plain, height=0.1, start=0.15 * plain.T * plain.eta + 1.5 * width)


def _held(plain: Scalar, memory: float) -> Scalar:
    """Noise of size 1 at the point where the gradient is 1; the constant noise -1 holds the run there."""
    share = np.sqrt(1 / (2 * plain.T * memory))  # curvature times step that makes the bound smallest
    return replace(
        plain, height=2.0, width=2 * plain.eta / share, start=float(plain.eta / share), noise=(-1.0, 1.0)
    )


def _constant(plain: Scalar, memory: float) -> Scalar:
    """The same, held by constant noise from the start."""
    return replace(_held(plain, memory), noise=(-1.0,))


_FAMILIES: dict[str, Callable[[Scalar, float], Scalar]] = {
    "smooth": _kink,
    "lower": _far,
    "variance": _spread,
    "unbiased": _held,
    "polar": _slow,
    "noise": _constant,
}
