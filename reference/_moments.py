"""What the elementwise methods share: averages, bias correction, quotients, weight decay."""

import numpy as np

from reference._arguments import Array, array, finite_result, like, shape

__all__ = ["average", "correction", "quotient", "second_moment", "with_weight_decay", "zeros"]


def zeros(W: Array | tuple[int, ...]) -> Array:
    """Zeros of the shape of a parameter that may have any number of axes, none included."""
    return np.zeros(shape("W", W if isinstance(W, tuple) else array("W", W).shape, axes=0))


def average(old: Array, new: Array, beta: float) -> Array:
    """``beta old + (1 - beta) new``, an array also where it has no axes."""
    return np.asarray(beta * old + (1 - beta) * new)


def correction(beta: float, t: int) -> float:
    """``1 - beta^t``, the weight that an average started at zero has given to its data after t steps."""
    return 1 - beta**t


def second_moment(name: str, old: Array, X: Array, beta: float, *, blame: str) -> Array:
    """Average of squares ``beta old + (1 - beta) X^2``; errors name `name`, the old one, or `blame`, X."""
    if (like(name, old, X.shape) < 0).any():
        raise ValueError(f"{name} must be at least 0 everywhere, got {old.min():.3g}")
    with np.errstate(over="ignore", invalid="ignore"):
        v = average(old, np.square(X), beta)
    return finite_result(blame, v, "have a square in range")


def quotient(m: Array, denominator: Array, *, blame: str) -> Array:
    """``m / denominator``, where 0 / 0 counts as 0; a result out of range blames the argument `blame`."""
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        x = np.asarray(np.where(m == 0, 0.0, m / denominator))
    return finite_result(blame, x, "have a square in range, or epsilon be larger")


def with_weight_decay(update: Array, W: Array | None, weight_decay: float) -> Array:
    """``update + weight_decay W``; `W` may be missing only where there is no decay."""
    if W is None:
        if weight_decay > 0:
            raise ValueError(f"W must be given when weight_decay is above 0, got None and {weight_decay}")
        return update
    return np.asarray(update + weight_decay * like("W", W, update.shape))
