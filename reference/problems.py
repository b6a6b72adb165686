"""Test problems with exactly known constants: what a rate needs before it can be tested.

Symbols: W parameter (m, n), A data matrices or features, N terms of a finite sum, K Gram matrix of the data,
L smoothness in Frobenius norm. Every function returns a `Problem`, whose functions take batches of parameters
and whose constants hold on its whole domain. `Problem` says how to add one.
"""

import numpy as np
from numpy.typing import NDArray

from reference._arguments import Array, array, finite_result, integer, like, number, positive, shape
from reference._problem import Problem, with_noise
from reference._regression import digits, logistic, softmax
from reference.noise import skewed_two_point

__all__ = [
    "Problem",
    "cosine_bowl",
    "digits",
    "geman_mcclure",
    "logistic",
    "matrix_factorization",
    "quadratic",
    "skewed_scalar",
    "softmax",
    "sum_of_cosines",
    "with_noise",
]

Index = NDArray[np.intp]

#: Geman-McClure's loss ``x^2 / (1 + x^2)``: largest second derivative (at 0) and slope (at ``1 / sqrt(3)``).
_LOSS_CURVATURE, _LOSS_SLOPE = 2.0, 3.0 * float(np.sqrt(3.0)) / 8.0

#: A basis is orthogonal if ``|U^T U - I|`` is at most this per dimension: rounding of a stored QR factor.
_ORTHOGONALITY = 2.0**-46


def geman_mcclure(A: Array, y: Array) -> Problem:
    """Robust regression ``f(W) = (1/N) sum_i phi(<A_i, W> - y_i)``, ``phi(x) = x^2 / (1 + x^2)``.

    Parameters
    ----------
    A : (N, m, n) float64
        Data, N at least 1. Not modified.
    y : (N,) float64
        Targets. Not modified.

    Returns
    -------
    problem : Problem
        Not convex. ``L = 2 lambda_max(K) / N`` with ``K_ij = <A_i, A_j>``, ``|grad f|_F <=
        (3 sqrt(3) / 8) sqrt(lambda_max(K) / N)``, ``0 <= f < 1``; f_star is the lower bound 0. Mini-batch
        variance is an exact finite sum, bounded by the mean of ``|A_i|_F^2`` times 27/64.

    Raises
    ------
    ValueError
        If an argument is out of order.

    Notes
    -----
    ``phi''`` lies in [-1/2, 2] and ``|phi'| <= 3 sqrt(3) / 8``.
    Source: Geman and McClure (1987); constants of "problems with exactly known constants".
    Accuracy: with ``e = (N + m n) u``, the value to order e times the mean of ``c_i = |A_i|_F |W|_F +
    |y_i|``, the gradient to e times the mean of ``c_i |A_i|_F``, constants to e relative.
    """
    A = _stack("A", A)
    y = like("y", y, A.shape[:1])
    N = len(A)
    top, norms = _gram(A), np.square(A).sum(axis=(-2, -1))

    def residual(W: Array) -> Array:
        return np.einsum("...mn,imn->...i", W, A) - y

    def objective(W: Array) -> Array:
        x = residual(W)
        return (x * _bounded_ratio(x)).mean(axis=-1)

    def derivative(W: Array) -> Array:
        return np.einsum("...i,imn->...mn", _loss_slope(residual(W)), A) / N

    def per_sample(W: Array, index: Index) -> Array:
        chosen = A[index]
        x = np.einsum("...mn,...bmn->...b", W, chosen) - y[index]
        return _loss_slope(x)[..., None, None] * chosen

    return Problem(
        "Geman-McClure regression",
        A.shape[1:],
        objective,
        derivative,
        L=_LOSS_CURVATURE * top / N,
        f_star=0.0,
        f_star_exact=False,
        gradient_bound=_LOSS_SLOPE * float(np.sqrt(top / N)),
        convexity=-0.5 * top / N,
        per_sample=per_sample,
        samples=N,
        variance_bound=_LOSS_SLOPE**2 * float(norms.mean()),
        sample_bound=_LOSS_SLOPE * float(np.sqrt(norms.max())),
    )


def cosine_bowl(W: Array | tuple[int, ...], *, a: float, c: float) -> Problem:
    """``f(W) = sum_ij w_ij^2 / 2 + a (1 - cos(c w_ij))``.

    Parameters
    ----------
    W : (m, n) float64, or tuple of int
        The parameter or its shape.
    a, c : float
        Height of the ripples, above 0, and their frequency.

    Returns
    -------
    problem : Problem
        ``L = 1 + a c^2``; not convex iff ``a c^2 > 1``; ``f_star = 0``, at 0. The gradient is unbounded.

    Raises
    ------
    ValueError
        If an argument is out of order.

    Notes
    -----
    The second derivative ``1 + a c^2 cos(c w)`` attains both ends of its range.
    Source: "problems with exactly known constants", cosine bowl.
    Accuracy: the value to order ``m n u`` times ``sum_ij w_ij^2 / 2 + a |c w_ij|``, the gradient to ``u L
    |W|_F``, L relative and convexity absolute to ``u L``.
    """
    sizes = _sizes(W)
    a, c = positive("a", a), number("c", c)

    def objective(W: Array) -> Array:
        return (0.5 * np.square(W) + 2 * a * np.square(np.sin(0.5 * c * W))).sum(axis=(-2, -1))

    return Problem(
        "cosine bowl",
        sizes,
        objective,
        lambda W: W + a * c * np.sin(c * W),
        L=1 + a * c**2,
        f_star=0.0,
        f_star_exact=True,
        gradient_bound=np.inf,
        convexity=1 - a * c**2,
    )


def sum_of_cosines(A: Array, a: Array, phase: Array) -> Problem:
    """``f(W) = sum_i a_i cos(<A_i, W> + phase_i)``.

    Parameters
    ----------
    A : (N, m, n) float64
        Frequencies, N at least 1. Not modified.
    a, phase : (N,) float64
        Amplitudes and phases. Not modified.

    Returns
    -------
    problem : Problem
        Not convex. ``L = lambda_max(sum_i |a_i| vec(A_i) vec(A_i)^T)``, ``|grad f|_F <= sum_i |a_i| |A_i|_F``
        and the lower bound ``f >= -sum_i |a_i|``.

    Raises
    ------
    ValueError
        If an argument is out of order.

    Notes
    -----
    Source: "problems with exactly known constants", sum of cosines.
    Accuracy: with ``e = (N + m n) u``, the value to order e times the sum of ``c_i = |a_i| (1 + |A_i|_F |W|_F
    + |phase_i|)``, the gradient to e times the sum of ``c_i |A_i|_F``, constants to e relative.
    """
    A = _stack("A", A)
    a, phase = like("a", a, A.shape[:1]), like("phase", phase, A.shape[:1])
    weight = np.abs(a)

    def angle(W: Array) -> Array:
        return np.einsum("...mn,imn->...i", W, A) + phase

    bound = float((weight * np.linalg.norm(A, axis=(-2, -1))).sum())
    L = _gram(A * np.sqrt(weight)[:, None, None])
    return Problem(
        "sum of cosines",
        A.shape[1:],
        lambda W: (a * np.cos(angle(W))).sum(axis=-1),
        lambda W: -np.einsum("...i,imn->...mn", a * np.sin(angle(W)), A),
        L=L,
        f_star=-float(weight.sum()),
        f_star_exact=False,
        gradient_bound=bound,
        convexity=-L,
        sample_bound=bound,
    )


def skewed_scalar(*, odds: float = 3.0) -> Problem:
    """``f(w) = w^2 / 2`` for 1x1, with noise -1 (probability 3/4) and +3 (probability 1/4).

    Parameters
    ----------
    odds : float
        At least 1: noise -1 with probability ``odds / (1 + odds)``, else ``odds``.

    Returns
    -------
    problem : Problem
        ``L = 1``, ``f_star = 0``, ``sigma^2 = odds``, all exact. FISMO's step is the sign of the momentum
        here, and from ``w = 0`` without momentum the average of ``|grad f|`` tends to 1, not to 0.

    Raises
    ------
    ValueError
        If `odds` is below 1.

    Notes
    -----
    Source: scalar instance of the floor, "rates" section 2.4.
    Accuracy: value and gradient to order u relative, the variance likewise.
    """
    plain = quadratic((1, 1), np.ones(1), np.eye(1))
    noise = skewed_two_point((1, 1), sigma=float(np.sqrt(max(odds, 0.0))), odds=odds)
    return with_noise(plain, noise)


def quadratic(W: Array | tuple[int, ...], spectrum: Array, basis: Array | None = None) -> Problem:
    """``f(W) = w^T H w / 2``, ``w`` the rows of W in a line, ``H = basis diag(spectrum) basis^T``.

    Parameters
    ----------
    W : (m, n) float64, or tuple of int
        The parameter or its shape.
    spectrum : (m n,) float64
        Eigenvalues of H, at least 0. Not modified.
    basis : (m n, m n) float64, optional
        Orthogonal; default the identity. Not modified.

    Returns
    -------
    problem : Problem
        L and mu are the extreme eigenvalues; ``f_star = 0``, at 0. The gradient is unbounded.

    Raises
    ------
    ValueError
        If an argument is out of order, an eigenvalue is negative, or `basis` is not orthogonal to rounding.

    Notes
    -----
    Source: "problems with exactly known constants", quadratics with prescribed spectrum.
    Accuracy: the constants are exact, the value to order ``m n u L |W|_F^2``, the gradient to ``m n u L
    |W|_F``.
    """
    sizes = _sizes(W)
    d = sizes[0] * sizes[1]
    spectrum = like("spectrum", spectrum, (d,))
    if not (spectrum >= 0).all():
        raise ValueError(f"spectrum must be at least 0, got {spectrum.min()}")
    U = np.eye(d) if basis is None else like("basis", basis, (d, d))
    defect = float(np.abs(U.T @ U - np.eye(d)).max(initial=0.0))
    if not defect <= _ORTHOGONALITY * max(d, 1):
        raise ValueError(f"basis must be orthogonal to rounding, got |basis^T basis - I| = {defect:.3g}")

    def coordinates(W: Array) -> Array:
        return W.reshape(*W.shape[:-2], d) @ U

    return Problem(
        "quadratic",
        sizes,
        lambda W: 0.5 * (spectrum * np.square(coordinates(W))).sum(axis=-1),
        lambda W: ((spectrum * coordinates(W)) @ U.T).reshape(W.shape),
        L=float(spectrum.max(initial=0.0)),
        f_star=0.0,
        f_star_exact=True,
        gradient_bound=np.inf,
        convexity=float(spectrum.min()) if d else 0.0,
    )


def matrix_factorization(Z: Array, *, rank: int, radius: float) -> Problem:
    """``f(X, Y) = |X Y^T - Z|_F^2 / 2`` on the ball ``|X|_F^2 + |Y|_F^2 <= radius^2``.

    Parameters
    ----------
    Z : (m, n) float64
        The matrix to factor. Not modified.
    rank : int
        Columns k of X and Y, at least 1.
    radius : float
        Of the domain, above 0. A run that leaves it says nothing.

    Returns
    -------
    problem : Problem
        The parameter is X over Y, ``(m + n, k)``. On the ball ``L = 3 radius^2 / 2 + |Z|_2`` and ``|grad f|_F
        <= radius (radius^2 / 2 + |Z|_2)``. f_star is half the sum of the squares of the singular values of Z
        beyond the k-th, exact if the ball holds a best approximation, a lower bound otherwise.

    Raises
    ------
    ValueError
        If an argument is out of order.

    Notes
    -----
    The second derivative along (U, V) is ``|U Y^T + X V^T|_F^2 + 2 <X Y^T - Z, U V^T>``, and ``|X|_2 |Y|_2 <=
    radius^2 / 2``. The balanced best approximation has ``|X|_F^2 + |Y|_F^2`` equal to twice the sum of the
    first k singular values, and no other one has less.
    Source: Eckart and Young (1936) for f_star; "problems with exactly known constants".
    Accuracy: with ``c = |W|_F^2 + |Z|_F`` and ``e = (m n + k) u``, the value to order ``e c^2``, the gradient
    to ``e c |W|_F``; f_star to ``max(m, n) u |Z|_F^2``, the other constants to ``max(m, n) u`` relative.
    """
    Z = array("Z", Z, form="(m, n)", axes=2)
    if Z.ndim != 2:
        raise ValueError(f"Z must have shape (m, n), got {Z.shape}")
    m, n = Z.shape
    k, radius = integer("rank", rank, minimum=1), positive("radius", radius)
    s = np.linalg.svd(Z, compute_uv=False)
    top = float(s.max(initial=0.0))

    def residual(W: Array) -> Array:
        return W[..., :m, :] @ W[..., m:, :].mT - Z

    def derivative(W: Array) -> Array:
        R = residual(W)
        return np.concatenate([R @ W[..., m:, :], R.mT @ W[..., :m, :]], axis=-2)

    bound = radius * (radius**2 / 2 + top)
    return Problem(
        "matrix factorisation",
        (m + n, k),
        lambda W: 0.5 * np.square(residual(W)).sum(axis=(-2, -1)),
        derivative,
        L=1.5 * radius**2 + top,
        f_star=0.5 * float(np.square(s[k:]).sum()),
        f_star_exact=bool(2 * s[:k].sum() <= radius**2),
        gradient_bound=bound,
        convexity=-(radius**2 / 2 + top),
        sample_bound=bound,
        radius=radius,
    )


def _stack(name: str, A: Array) -> Array:
    """Data ``(N, m, n)`` with at least one term and a Gram matrix in range."""
    A = array(name, A, form="(N, m, n)", axes=3)
    if A.ndim != 3 or not len(A):
        raise ValueError(f"{name} must have shape (N, m, n) with N at least 1, got {A.shape}")
    with np.errstate(over="ignore"):
        finite_result(name, np.square(A).sum(keepdims=True), "have squares in range")
    return A


def _sizes(W: Array | tuple[int, ...]) -> tuple[int, ...]:
    """The shape, of exactly two axes."""
    sizes = shape("W", W, axes=2)
    if len(sizes) != 2:
        raise ValueError(f"W must have shape (m, n), got {sizes}")
    return sizes


def _gram(A: Array) -> float:
    """``lambda_max`` of the Gram matrix ``<A_i, A_j>``: the squared norm of the data as one matrix."""
    return float(np.linalg.norm(A.reshape(len(A), -1), 2)) ** 2 if A.size else 0.0


def _bounded_ratio(x: Array) -> Array:
    """``x / (1 + x^2)`` without overflow."""
    small = np.abs(x) <= 1
    inverse = 1 / np.where(small, 1.0, x)
    return np.where(small, x / (1 + np.square(np.where(small, x, 0.0))), inverse / (1 + np.square(inverse)))


def _loss_slope(x: Array) -> Array:
    """``phi'(x) = 2 x / (1 + x^2)^2``."""
    with np.errstate(over="ignore"):  # an infinite square gives slope 0, its limit
        return 2 * _bounded_ratio(x) / (1 + np.square(x))
