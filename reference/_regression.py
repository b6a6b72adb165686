"""Convex finite sums: logistic and softmax regression, and the digits of scikit-learn."""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_softmax
from scipy.special import softmax as softmax_function

from reference._arguments import Array, integer, like, matrix, non_negative
from reference._problem import Problem

__all__ = ["digits", "logistic", "softmax"]

Index = NDArray[np.intp]

#: Newton steps before a minimiser is declared missing; smooth problems with one need about ten.
_NEWTON_STEPS = 100


def logistic(X: Array, y: Array, *, ridge: float = 0.0) -> Problem:
    """``f(w) = (1/N) sum_i log(1 + exp(-y_i x_i^T w)) + (ridge / 2) |w|^2``, with w stored as ``(d, 1)``.

    Parameters
    ----------
    X : (N, d) float64
        Features, one row per sample. Not modified.
    y : (N,) float64
        Labels -1 and +1. Not modified.
    ridge : float
        At least 0.

    Returns
    -------
    problem : Problem
        Convex. ``L = |X|_2^2 / (4 N) + ridge``; f_star by Newton's method to rounding. Without ridge
        ``|grad f| <= |X|_2 / sqrt(N)``; with it the gradient is unbounded.

    Raises
    ------
    ValueError
        If an argument is out of order, or Newton's method finds no minimiser (without ridge, separable data
        have none).

    Notes
    -----
    The Hessian of one term is at most ``x x^T / 4``, its slope at most 1.
    Source: "problems with exactly known constants", logistic regression.
    Accuracy: with ``e = (N + d) u`` and ``r = ridge``, the value to order e times the mean of ``1 + |x_i|
    |w|`` plus ``e r |w|^2``, the gradient to e times the mean of ``(1 + |x_i| |w|) |x_i|`` plus ``e r |w|``;
    f_star to ``e (1 + |X|_F)`` where the minimiser is of order 1, the other constants to e relative.
    """
    X, ridge = _features(X), non_negative("ridge", ridge)
    y = like("y", y, X.shape[:1])
    if not (np.abs(y) == 1).all():
        raise ValueError(f"y must hold -1 and +1, got {y[np.abs(y) != 1][0]}")
    N, d = X.shape
    signed = y[:, None] * X

    def objective(W: Array) -> Array:
        margin = W[..., 0] @ signed.T
        return np.logaddexp(0.0, -margin).mean(axis=-1) + 0.5 * ridge * np.square(W).sum(axis=(-2, -1))

    def derivative(W: Array) -> Array:
        return (-expit(-(W[..., 0] @ signed.T)) @ signed / N)[..., None] + ridge * W

    def per_sample(W: Array, index: Index) -> Array:
        chosen = signed[index]
        slope = -expit(-np.einsum("...d,...bd->...b", W[..., 0], chosen))
        return (slope[..., None] * chosen)[..., None] + ridge * W[..., None, :, :]

    def hessian(W: Array) -> Array:
        p = expit(W[:, 0] @ signed.T)
        return (signed * (p * (1 - p))[:, None]).T @ signed / N + ridge * np.eye(d)

    norms = np.square(X).sum(axis=1)
    top = float(np.linalg.norm(X, 2)) ** 2 if X.size else 0.0
    return Problem(
        "logistic regression",
        (d, 1),
        objective,
        derivative,
        L=top / (4 * N) + ridge,
        f_star=_minimum(
            objective, derivative, hessian, np.zeros((d, 1)), separable_below=_separable_below(N, ridge)
        ),
        f_star_exact=True,
        gradient_bound=float(np.sqrt(top / N)) if ridge == 0 else np.inf,
        convexity=ridge,
        per_sample=per_sample,
        samples=N,
        variance_bound=float(norms.mean()),
        sample_bound=float(np.sqrt(norms.max())) if ridge == 0 else np.inf,
    )


def softmax(X: Array, labels: Index, *, classes: int, ridge: float = 0.0, minimize: bool = True) -> Problem:
    """``f(W) = (1/N) sum_i -log softmax(x_i^T W)[label_i] + (ridge / 2) |W|_F^2``.

    Parameters
    ----------
    X : (N, d) float64
        Features, one row per sample. Not modified.
    labels : (N,) integer
        In 0..classes-1. Not modified.
    classes : int
        Columns of W, at least 1.
    ridge : float
        At least 0.
    minimize : bool
        Find f_star by Newton's method, ``O((d classes)^3)`` per step; otherwise it is the lower bound 0.

    Returns
    -------
    problem : Problem
        Convex, parameter ``(d, classes)``. ``L = |X|_2^2 / (2 N) + ridge``. Without ridge ``|grad f|_F <=
        sqrt(2 / N) |X|_2``; with it the gradient is unbounded.

    Raises
    ------
    ValueError
        If an argument is out of order, or Newton's method finds no minimiser (without ridge, separable data
        have none).

    Notes
    -----
    ``diag(p) - p p^T`` has norm at most 1/2 and ``|p - e_label|`` is at most sqrt(2).
    Source: Bohning (1992) for the Hessian; "problems with exactly known constants", softmax regression.
    Accuracy: as for `logistic`, with ``(N + d classes) u`` for e and ``|W|_F`` for ``|w|``.
    """
    X, ridge = _features(X), non_negative("ridge", ridge)
    N, d = X.shape
    C = integer("classes", classes, minimum=1)
    target = _one_hot(labels, N, C)

    def objective(W: Array) -> Array:
        loss = -(target * log_softmax(X @ W, axis=-1)).sum(axis=-1).mean(axis=-1)
        return loss + 0.5 * ridge * np.square(W).sum(axis=(-2, -1))

    def derivative(W: Array) -> Array:
        return X.T @ (softmax_function(X @ W, axis=-1) - target) / N + ridge * W

    def per_sample(W: Array, index: Index) -> Array:
        x = X[index]
        excess = softmax_function(x @ W, axis=-1) - target[index]
        return x[..., :, None] * excess[..., None, :] + ridge * W[..., None, :, :]

    def hessian(W: Array) -> Array:
        p = softmax_function(X @ W, axis=-1)
        middle = p[:, :, None] * np.eye(C) - p[:, :, None] * p[:, None, :]
        H = np.einsum("ia,ib,ikl->akbl", X, X, middle, optimize=True) / N
        return H.reshape(d * C, d * C) + ridge * np.eye(d * C)

    def least() -> float:
        low = _separable_below(N, ridge)
        return _minimum(objective, derivative, hessian, np.zeros((d, C)), separable_below=low)

    norms = np.square(X).sum(axis=1)
    top = float(np.linalg.norm(X, 2)) ** 2 if X.size else 0.0
    return Problem(
        "softmax regression",
        (d, C),
        objective,
        derivative,
        L=top / (2 * N) + ridge,
        f_star=least() if minimize else 0.0,
        f_star_exact=minimize,
        gradient_bound=float(np.sqrt(2 * top / N)) if ridge == 0 else np.inf,
        convexity=ridge,
        per_sample=per_sample,
        samples=N,
        variance_bound=2 * float(norms.mean()),
        sample_bound=float(np.sqrt(2 * norms.max())) if ridge == 0 else np.inf,
    )


def digits(*, ridge: float = 0.0) -> Problem:
    """Softmax regression on the 1797 handwritten digits of scikit-learn, pixels scaled to [0, 1], no bias.

    Parameters
    ----------
    ridge : float
        At least 0.

    Returns
    -------
    problem : Problem
        Parameter ``(64, 10)``; constants as in `softmax`. f_star is the lower bound 0.

    Raises
    ------
    ValueError
        If `ridge` is negative.
    ModuleNotFoundError
        If scikit-learn is not installed.

    Notes
    -----
    Source: Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits" (1998), test part, as shipped.
    Accuracy: as for `softmax`; the pixels, sixteenths, are exact.
    """
    if find_spec("sklearn") is None:
        raise ModuleNotFoundError('digits needs scikit-learn: pip install "fisherproof[test]"')
    data, labels = import_module("sklearn.datasets").load_digits(return_X_y=True)
    plain = softmax(data / 16.0, labels.astype(np.intp), classes=10, ridge=ridge, minimize=False)
    return Problem(**{**vars(plain), "name": "digits"})


def _features(X: Array) -> Array:
    X = matrix("X", X)
    if X.ndim != 2 or not len(X):
        raise ValueError(f"X must have shape (N, d) with N at least 1, got {X.shape}")
    return X


def _one_hot(labels: Index, N: int, classes: int) -> Array:
    """Rows of the identity, one per label."""
    labels = np.asarray(labels)
    if labels.shape != (N,) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be integers of shape ({N},), got {labels.dtype} of {labels.shape}")
    if not ((labels >= 0) & (labels < classes)).all():
        raise ValueError(f"labels must lie in 0..{classes - 1}, got {labels.min()} to {labels.max()}")
    return np.asarray(np.eye(classes)[labels], dtype=np.float64)


def _separable_below(N: int, ridge: float) -> float:
    """If no parameter fits every label, some label has probability at most 1/2 and the loss is above this."""
    return np.log(2.0) / N * (1 - N * np.finfo(np.float64).eps) if ridge == 0 else 0.0


def _minimum(
    objective: Callable[[Array], Array],
    derivative: Callable[[Array], Array],
    hessian: Callable[[Array], Array],
    W: Array,
    *,
    separable_below: float,
) -> float:
    """Least value of a convex function, by damped Newton steps until the decrement is rounding.

    Singular directions of the Hessian, along which such a function is constant, are left alone.
    """
    eps = np.finfo(np.float64).eps
    f = float(objective(W))
    for _ in range(_NEWTON_STEPS):
        g = derivative(W)
        p = -np.linalg.lstsq(hessian(W), g.ravel(), rcond=None)[0].reshape(W.shape)
        decrement = -float((g * p).sum())
        if f < separable_below:
            break
        if decrement <= eps * f:
            return f - max(decrement, 0.0)
        step = 1.0
        resolved = decrement > np.sqrt(eps) * f  # otherwise f cannot tell progress from rounding
        while resolved and step > eps and not objective(W + step * p) <= f - step * decrement / 4:
            step /= 2
        W = W + step * p
        f = float(objective(W))
    raise ValueError("X and y must leave a minimiser, got data that look separable: add a ridge")
