"""Isotropic curvature model: the update that trades descent against a curvature equal in all directions.

The model minimises ``-<Q, G> + E H(|Q zeta|)`` over (m, n) updates Q, with zeta uniform on the unit sphere of
R^n and H a convex growth of the radius. Rotations of zeta change nothing, so the optimum has the singular
vectors of G, and what is left is a convex program in the n singular values:
``-s . sigma + E H(sqrt(sum_i sigma_i^2 t_i))``, s singular values of G, sigma of Q, ``t = zeta^2``.

H(r) = r^2 returns the spectrum of G. Smooth growth faster than that brings the singular values closer in
ratio, and never makes them equal. A kink does, at the radius c where it sits, if its slopes span what G asks
for: ``E[h t] = s`` for some h(zeta) between the left and the right slope (see `kink_slopes`).
"""

from typing import NamedTuple

import numpy as np
from scipy.special import roots_jacobi

from reference._arguments import Array, integer, like, matrix, positive, vector
from reference._growth import Growth, kinked_growth, power_growth
from reference._isotropic_newton import minimisers, radii

__all__ = [
    "Growth",
    "Moments",
    "expectation",
    "kink_slopes",
    "kinked_growth",
    "moments",
    "objective",
    "optimal_spectrum",
    "optimal_update",
    "power_growth",
    "quartic_expectation",
    "sphere_rule",
]

#: Points of a rule on the sphere beyond which the answer would take minutes: the rule is for small n.
_MOST_POINTS = 2**20


class Moments(NamedTuple):
    """Mean and variance of ``|Q zeta|^2``.

    Attributes
    ----------
    mean, variance : (...) float64
        In units of the squared update, and their square.

    Notes
    -----
    Source: Su, isotropic curvature model (arXiv 2511.00674).
    """

    mean: Array
    variance: Array


def moments(sigma: Array) -> Moments:
    """Mean and variance of ``|Q zeta|^2``, zeta uniform on the unit sphere of R^n.

    Parameters
    ----------
    sigma : (..., n) float64
        All n singular values of Q, zeros included, n at least 1. Not modified.

    Returns
    -------
    Moments
        ``tr(A) / n`` and ``2 / (n (n + 2)) (tr(A^2) - tr(A)^2 / n)`` with ``A = Q^T Q``.

    Raises
    ------
    ValueError
        If `sigma` is out of order.

    Notes
    -----
    Source: Su, isotropic curvature model (arXiv 2511.00674); derived from ``E[zeta_i^4] = 3 / (n (n + 2))``.
    Accuracy: the mean of order n u relative; the variance, a sum of squares of deviations d of
    ``a = sigma^2``, of order n u times ``sum |d| (|d| + mean) / (n (n + 2))``, plus ``(n u mean)^2``.
    """
    a = np.square(_spectrum("sigma", sigma))
    n = a.shape[-1]
    mean = a.mean(axis=-1)
    spread = np.square(a - mean[..., None]).sum(axis=-1)
    return Moments(np.asarray(mean), np.asarray(2 / (n * (n + 2)) * spread))


def quartic_expectation(sigma: Array, *, k: float = 1.0) -> Array:
    """``E[k |Q zeta|^4]``.

    Parameters
    ----------
    sigma : (..., n) float64
        All n singular values of Q, zeros included, n at least 1. Not modified.
    k : float
        Above 0.

    Returns
    -------
    expectation : (...) float64
        ``k / (n (n + 2)) (tr(A)^2 + 2 tr(A^2))`` with ``A = Q^T Q``.

    Raises
    ------
    ValueError
        If an argument is out of order.

    Notes
    -----
    Source: Su, isotropic curvature model (arXiv 2511.00674).
    Accuracy: of order n u relative.
    """
    a, k = np.square(_spectrum("sigma", sigma)), positive("k", k)
    n = a.shape[-1]
    total = np.square(a.sum(axis=-1)) + 2 * np.square(a).sum(axis=-1)
    return np.asarray(k / (n * (n + 2)) * total)


def sphere_rule(*, n: int, nodes: int) -> tuple[Array, Array]:
    """Points ``t = zeta^2`` and weights for expectations over the unit sphere of R^n.

    Parameters
    ----------
    n : int
        Dimension, at least 1.
    nodes : int
        Points per dimension, at least 1.

    Returns
    -------
    t : (nodes^(n-1), n) float64
        Points of the simplex.
    w : (nodes^(n-1),) float64
        Positive weights of sum 1; exact for polynomials in t up to degree ``2 nodes - 1``.

    Raises
    ------
    ValueError
        If an argument is out of order, or the rule would have more than 2^20 points.

    Notes
    -----
    Source: Stroud, "Approximate Calculation of Multiple Integrals" (1971), chapter 2. The squares t are
    Dirichlet with parameters 1/2; what each takes of the rest is Beta(1/2, (n - i) / 2) and independent of
    the others, and gets a Gauss-Jacobi rule.
    Accuracy: points and weights of order ``nodes * u``, absolute: small ones lose relative accuracy.
    """
    n, nodes = integer("n", n, minimum=1), integer("nodes", nodes, minimum=1)
    if nodes ** (n - 1) > _MOST_POINTS:
        raise ValueError(f"nodes must be smaller for n = {n}: {nodes}^{n - 1} points are more than 2^20")
    t, w, rest = np.zeros((1, 0)), np.ones(1), np.ones(1)
    for i in range(1, n):
        x, weights = roots_jacobi(nodes, (n - i) / 2 - 1, -1 / 2)
        fraction = (1 + x) / 2
        taken = (rest[:, None] * fraction).reshape(-1)
        t = np.concatenate([np.repeat(t, nodes, axis=0), taken[:, None]], axis=1)
        w = (w[:, None] * (weights / weights.sum())).reshape(-1)
        rest = (rest[:, None] * ((1 - x) / 2)).reshape(-1)
    return np.concatenate([t, rest[:, None]], axis=1), w


def expectation(sigma: Array, growth: Growth, *, nodes: int = 12) -> Array:
    """``E H(|Q zeta|)`` by `sphere_rule`.

    Parameters
    ----------
    sigma : (..., n) float64
        All n singular values of Q, zeros included, n at least 1. Not modified.
    growth : Growth
        H.
    nodes : int
        Points per dimension.

    Returns
    -------
    expectation : (...) float64

    Raises
    ------
    ValueError
        If an argument is out of order, or the rule would have more than 2^20 points.

    Notes
    -----
    Source: Su, isotropic curvature model (arXiv 2511.00674), its program.
    Accuracy: rounding is of order ``n nodes u H(max(sigma))`` for powers. The rule is exact for even powers
    up to ``2 (2 nodes - 1)``, and its error geometric in `nodes` for smooth H and positive singular values.
    """
    sigma = _spectrum("sigma", sigma)
    t, w = sphere_rule(n=sigma.shape[-1], nodes=nodes)
    return np.asarray(growth.value(radii(sigma, t)) @ w)


def objective(sigma: Array, s: Array, growth: Growth, *, nodes: int = 12) -> Array:
    """``-s . sigma + E H(|Q zeta|)``, what the model minimises over updates with the singular vectors of G.

    Parameters
    ----------
    sigma : (..., n) float64
        Singular values of the update. Not modified.
    s : (..., n) float64
        Singular values of the gradient. Not modified.
    growth : Growth
        H.
    nodes : int
        Points per dimension.

    Returns
    -------
    objective : (...) float64
        For other singular vectors of Q it is a lower bound of the model's objective (von Neumann).

    Raises
    ------
    ValueError
        If an argument is out of order, or the rule would have more than 2^20 points.

    Notes
    -----
    Source: Su, isotropic curvature model (arXiv 2511.00674), its program.
    Accuracy: that of `expectation`, plus n u times ``sum |s_i sigma_i|``; the two terms may cancel.
    """
    sigma = _spectrum("sigma", sigma)
    s = like("s", s, sigma.shape)
    return np.asarray(expectation(sigma, growth, nodes=nodes) - (s * sigma).sum(axis=-1))


def optimal_spectrum(s: Array, growth: Growth, *, nodes: int = 12) -> Array:
    """Singular values of the optimal update, by Newton's method on the convex program.

    Parameters
    ----------
    s : (..., n) float64
        Singular values of the gradient, at least 0, n at least 1. Not modified.
    growth : Growth
        Twice differentiable H: a true kink has no Newton step, see `kink_slopes` and ``width``.
    nodes : int
        Points per dimension of `sphere_rule`.

    Returns
    -------
    sigma : (..., n) float64
        The minimiser of `objective`; zero where s is zero.

    Raises
    ------
    ValueError
        If an argument is out of order, the slope of H never takes the value sum(s) (the program is
        unbounded), or Newton's method fails, as it does on a kink.

    Notes
    -----
    Source: Su, isotropic curvature model (arXiv 2511.00674), its program.
    Accuracy: normwise of order ``n nodes u`` times the condition of the Hessian, on top of the error of the
    rule.
    """
    s = _spectrum("s", s)
    if (s < 0).any():
        raise ValueError(f"s must be at least 0 everywhere, got {s.min():.3g}")
    t, w = sphere_rule(n=s.shape[-1], nodes=nodes)
    flat = s.reshape(-1, s.shape[-1])
    moving = flat.any(axis=-1)
    sigma = np.zeros_like(flat)
    if moving.any():
        sigma[moving] = minimisers(flat[moving], growth, t, w)
    return sigma.reshape(s.shape)


def optimal_update(G: Array, growth: Growth, *, nodes: int = 12) -> Array:
    """The optimal update ``U diag(sigma) V^T`` for ``G = U diag(s) V^T``.

    Parameters
    ----------
    G : (..., m, n) float64
        Gradient, n at least 1. Not modified.
    growth : Growth
        Twice differentiable H.
    nodes : int
        Points per dimension of `sphere_rule`, whose dimension is n, also where m < n.

    Returns
    -------
    Q : (..., m, n) float64
        To be added to the weights with a minus sign.

    Raises
    ------
    ValueError
        As `optimal_spectrum`.

    Notes
    -----
    Source: Su, isotropic curvature model (arXiv 2511.00674): the optimum has the singular vectors of G.
    Accuracy: normwise, that of `optimal_spectrum` plus m u times the condition of the Hessian.
    """
    G = matrix("G", G)
    U, s, Vt = np.linalg.svd(G, full_matrices=False)
    missing = G.shape[-1] - s.shape[-1]
    sigma = optimal_spectrum(
        np.concatenate([s, np.zeros((*s.shape[:-1], missing))], axis=-1), growth, nodes=nodes
    )
    return (U * sigma[..., None, : s.shape[-1]]) @ Vt


def kink_slopes(s: Array) -> Array:
    """The slopes ``u_i`` with ``E[(u . t) t] = s``, a certificate of full flattening.

    The flat spectrum ``sigma = c`` is optimal iff ``E[h t] = s`` for a function h with values between the
    left and the right slope of H at c. The linear one, ``h = u . t``, has values from ``min u`` to ``max u``:
    a kink whose slopes span these flattens G. Necessary is that they span the sum of s, since
    ``E h = sum(s)``; a smooth H, for which h can only be constant, flattens nothing but equal s.

    Parameters
    ----------
    s : (..., n) float64
        Singular values of the gradient, n at least 1. Not modified.

    Returns
    -------
    u : (..., n) float64
        ``(n (n + 2) s - n sum(s)) / 2``; all equal to ``sum(s)`` if the s are equal.

    Raises
    ------
    ValueError
        If `s` is out of order.

    Notes
    -----
    Source: derived from the optimality condition of the program of Su, isotropic curvature model
    (arXiv 2511.00674), with the fourth moments of the sphere; the sufficient half of its Theorem 4.
    Accuracy: each of order n u times ``n (n + 2) |s_i| + n sum(|s|)``; large and small s cancel.
    """
    s = _spectrum("s", s)
    n = s.shape[-1]
    return (n * (n + 2) * s - n * s.sum(axis=-1, keepdims=True)) / 2


def _spectrum(name: str, s: Array) -> Array:
    """A vector of singular values that is not empty."""
    s = vector(name, s)
    if not s.shape[-1]:
        raise ValueError(f"{name} must hold at least one singular value, got shape {s.shape}")
    return s
