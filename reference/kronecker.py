"""Optimal Kronecker factors of a gradient's second moment, and the step they define.

Symbols: G a sample of the gradient, (m, n); P, Q row and column factors, ``F = Q kron P`` acting on vec(W),
columns stacked; mu damping; J the objective; A = P^(-1/2), C = Q^(-1/2). Samples stand on their own axis,
``(..., N, m, n)``, and expectations are means over it; a plain (m, n) matrix counts as one sample.
"""

from collections import deque
from typing import Literal, NamedTuple

import numpy as np

from reference import _spd
from reference._arguments import Array, choice, finite_result, integer, matrix, non_negative
from reference._spd import hilbert_distance, inverse_sqrt, logdet_divergence
from reference.polar import polar_factor

__all__ = [
    "FixedPoint",
    "contraction_factor",
    "coupling_bound",
    "fisher_lmo",
    "fixed_point",
    "hilbert_distance",
    "inverse_sqrt",
    "left_factor",
    "logdet_divergence",
    "objective",
    "right_factor",
]

_EPS = np.finfo(np.float64).eps

#: Rounding level of a computed Hilbert distance, in units of ``side * eps * condition``.
_STALL = 8.0


def objective(G: Array, P: Array, Q: Array, *, mu: float) -> Array:
    """``J(P, Q) = E tr(P^-1 G Q^-1 G^T) + mu tr(P^-1) tr(Q^-1) + n log det P + m log det Q``.

    Parameters
    ----------
    G : (..., N, m, n) float64
        Samples. Not modified.
    P : (..., m, m) float64
    Q : (..., n, n) float64
        Symmetric positive definite; batch axes broadcast with those of `G`. Not modified.
    mu : float
        Damping, at least 0, in units of the squared gradient.

    Returns
    -------
    J : (...) float64
        The log-det divergence of ``E vec(G) vec(G)^T + mu I`` to ``Q kron P``, up to a constant that depends
        on neither factor. Unchanged under ``(c P, Q / c)``.

    Raises
    ------
    ValueError
        If a shape, dtype or entry is out of order or a factor is not positive definite to working precision.

    Notes
    -----
    Source: Xu, Yan, Zhang, FISMO (arXiv 2601.21750), section 4.1, as rederived from its Theorem 4.1.
    Accuracy: relative to the sum of absolute terms, roundoff times the conditions of `P` and `Q`.
    """
    G, mu = _samples(G), non_negative("mu", mu)
    m, n = G.shape[-2:]
    _spd.matching("P", P, m, G.shape[:-3])
    _spd.matching("Q", Q, n, G.shape[:-3])
    w_P, w_Q = _spd.eigh("P", P)[0], _spd.eigh("Q", Q)[0]
    whitened = _spd.inverse_root("P", P)[..., None, :, :] @ G @ _spd.inverse_root("Q", Q)[..., None, :, :]
    data = np.square(whitened).sum(axis=(-2, -1)).mean(axis=-1)
    damping = mu * (1 / w_P).sum(axis=-1) * (1 / w_Q).sum(axis=-1)
    return data + damping + n * np.log(w_P).sum(axis=-1) + m * np.log(w_Q).sum(axis=-1)


def left_factor(G: Array, Q: Array, *, mu: float) -> Array:
    """``P*(Q) = E[G Q^-1 G^T] / n + mu tr(Q^-1) / n * I``, the exact minimiser of J over P.

    Parameters
    ----------
    G : (..., N, m, n) float64
        Samples, at least one, with at least one row and one column. Not modified.
    Q : (..., n, n) float64
        Symmetric positive definite; batch axes broadcast with those of `G`. Not modified.
    mu : float
        Damping, at least 0, in units of the squared gradient.

    Returns
    -------
    P : (..., m, m) float64
        Exactly symmetric; positive definite if ``mu > 0``.

    Raises
    ------
    ValueError
        If `G`, `Q` or `mu` is out of order, or the square of `G` overflows.

    Notes
    -----
    Source: Xu, Yan, Zhang, FISMO (arXiv 2601.21750), Theorem 4.1.
    Accuracy: normwise relative error of order ``(N + n) * u * condition(Q)``.
    """
    G, mu = _samples(G), non_negative("mu", mu)
    _spd.matching("Q", Q, G.shape[-1], G.shape[:-3])
    return _half_step(G, _spd.inverse_root("Q", Q), mu)


def right_factor(G: Array, P: Array, *, mu: float) -> Array:
    """``Q*(P) = E[G^T P^-1 G] / m + mu tr(P^-1) / m * I``, the exact minimiser of J over Q.

    Parameters
    ----------
    G : (..., N, m, n) float64
        Samples, at least one, with at least one row and one column. Not modified.
    P : (..., m, m) float64
        Symmetric positive definite; batch axes broadcast with those of `G`. Not modified.
    mu : float
        Damping, at least 0, in units of the squared gradient.

    Returns
    -------
    Q : (..., n, n) float64
        Exactly symmetric; positive definite if ``mu > 0``.

    Raises
    ------
    ValueError
        If `G`, `P` or `mu` is out of order, or the square of `G` overflows.

    Notes
    -----
    Source: Xu, Yan, Zhang, FISMO (arXiv 2601.21750), Theorem 4.1; the left factor of the transposed samples.
    Accuracy: normwise relative error of order ``(N + m) * u * condition(P)``.
    """
    G, mu = _samples(G), non_negative("mu", mu)
    _spd.matching("P", P, G.shape[-2], G.shape[:-3])
    return _half_step(G.mT, _spd.inverse_root("P", P), mu)


def coupling_bound(G: Array) -> Array:
    """Upper bound of ``g_2 = max E (x^T G y)^2`` over unit x, y, which is hard to compute itself.

    Parameters
    ----------
    G : (..., N, m, n) float64
        Samples. Not modified.

    Returns
    -------
    g2 : (...) float64
        The least of ``lambda_max(E G G^T)``, ``lambda_max(E G^T G)``, ``lambda_max(E vec(G) vec(G)^T)``; each
        is at least g_2. In units of the squared gradient.

    Raises
    ------
    ValueError
        If `G` is out of order or its square overflows.

    Notes
    -----
    Source: this project's theorem T1 on the alternation of FISMO's Theorem 4.1 (arXiv 2601.21750), where g_2
    is the largest ``lambda_max(E[G X G^T])`` over X >= 0 of trace 1.
    Accuracy: relative error of order ``N * max(m, n) * u``; not rounded outward.
    """
    G = _samples(G)
    by_rows = _beside(G)
    by_columns = _beside(G.mT)
    by_entries = G.reshape(*G.shape[:-2], -1)
    s = [np.linalg.svd(X, compute_uv=False)[..., 0] for X in (by_rows, by_columns, by_entries)]
    with np.errstate(over="ignore"):
        g2 = np.square(np.minimum(np.minimum(s[0], s[1]), s[2])) / G.shape[-3]
    return finite_result("G", g2, "have a square in range")


def contraction_factor(G: Array, *, mu: float) -> Array:
    """``c = g2 / (g2 + 2 mu)``: each half-step contracts Hilbert's metric at least by c.

    Parameters
    ----------
    G : (..., N, m, n) float64
        Samples. Not modified.
    mu : float
        Damping, at least 0, in units of the squared gradient; for 0 no contraction is known and c is 1.

    Returns
    -------
    c : (...) float64
        In [0, 1]. From `coupling_bound`, hence at least the c of the theorem.

    Raises
    ------
    ValueError
        If `G` or `mu` is out of order.

    Notes
    -----
    Source: this project's theorem T1 (Birkhoff-Hopf) on FISMO's Theorem 4.1 (arXiv 2601.21750):
    ``c = tanh(log(1 + g_2 / mu) / 2)``.
    Accuracy: relative error of order ``N * max(m, n) * u``; not rounded outward.
    """
    mu, g2 = non_negative("mu", mu), coupling_bound(G)
    return np.ones_like(g2) if mu == 0 else g2 / (g2 + 2 * mu)


class FixedPoint(NamedTuple):
    """What `fixed_point` returns.

    Attributes
    ----------
    P : (..., m, m) float64
        Row factor, trace m.
    Q : (..., n, n) float64
        Column factor: ``Q*(P)``, which carries the scale of ``F = Q kron P``, with the theorem's damping;
        trace n with the algorithm's.
    iterations : int
        Updates of the pair (P, Q), of the slowest batch item. If it is `max_iterations`, the tolerance was
        not met, and `error_bound` says by how much.
    error_bound : (...) float64
        A-posteriori bound of the Hilbert distance from Q to the exact fixed point (Jacobi: from Q and from P;
        Gauss-Seidel: P is within this over c). Infinite where no theorem applies: the algorithm's damping,
        ``mu = 0``.

    Notes
    -----
    Source: Xu, Yan, Zhang, FISMO (arXiv 2601.21750), Theorem 4.1; bound by this project's theorem T1.
    """

    P: Array
    Q: Array
    iterations: int
    error_bound: Array


def fixed_point(
    G: Array,
    *,
    mu: float,
    method: Literal["gauss-seidel", "jacobi"] = "gauss-seidel",
    damping: Literal["theorem", "algorithm"] = "theorem",
    P0: Array | None = None,
    Q0: Array | None = None,
    tolerance: float = 1e-12,
    max_iterations: int = 100_000,
) -> FixedPoint:
    """Alternate the two half-steps until the factors stand still.

    Parameters
    ----------
    G : (..., N, m, n) float64
        Samples, at least one, with at least one row and one column. Not modified.
    mu : float
        Damping, at least 0. A solution exists for any data if ``mu > 0``.
    method : {"gauss-seidel", "jacobi"}
        Whether Q*(P) sees the new P or the old one. Jacobi runs two interleaved chains, so its distances are
        taken two iterations apart.
    damping : {"theorem", "algorithm"}
        "theorem": Theorem 4.1. "algorithm": each half-step is normalised to mean eigenvalue 1 and damped by
        ``mu I``, as in Algorithm 1, which has another fixed point and drops the scale of F.
    P0, Q0 : (..., m, m) and (..., n, n) float64, optional
        Start, symmetric positive definite; default identity. Gauss-Seidel does not use `P0`.
    tolerance : float
        At least 0: an item of the batch is done when its Hilbert distance is at most this, or has stopped
        shrinking at the level of rounding.
    max_iterations : int
        At least 1.

    Returns
    -------
    FixedPoint
        Factors in the gauge ``tr(P) = m``. Items of a batch do not affect each other.

    Raises
    ------
    ValueError
        If an argument is out of order, or a factor loses definiteness (``mu = 0`` with too few samples).

    Notes
    -----
    Source: Xu, Yan, Zhang, FISMO (arXiv 2601.21750), Theorem 4.1 and Algorithm 1; error bound
    ``c^2 / (1 - c^2)`` times the last distance by this project's theorem T1.
    Accuracy: with the theorem's damping and ``mu > 0``, in Hilbert's metric, Q is within `error_bound` of the
    exact one and P within that over c, plus rounding of order
    ``(N + max(m, n)) * u * (condition(P) + condition(Q)) / (1 - c^2)``, c as in `contraction_factor`;
    normwise relative, both are within the larger of the two. For the algorithm's damping nothing is proved:
    with ``tolerance=0``, errors of the order of that rounding over ``1 - c^2`` are measured.
    """
    G, mu = _samples(G), non_negative("mu", mu)
    theorem = choice("damping", damping, ("theorem", "algorithm")) == "theorem"
    jacobi = choice("method", method, ("gauss-seidel", "jacobi")) == "jacobi"
    tolerance = non_negative("tolerance", tolerance)
    max_iterations = integer("max_iterations", max_iterations, minimum=1)
    batch, (m, n) = G.shape[:-3], G.shape[-2:]
    P, Q = _start("P0", P0, m, batch), _start("Q0", Q0, n, batch)
    lag = 2 if jacobi else 1
    history = deque([(P, Q)], maxlen=lag + 1)
    distance = np.full(batch, np.inf)
    done = np.zeros(batch, dtype=bool)
    iterations = 0
    while iterations < max_iterations and not done.all():
        P_new = _mean_eigenvalue_one(_half_step(G, _spd.inverse_root("Q", Q), mu, theorem=theorem))
        A = _spd.inverse_root("P", P if jacobi else P_new)
        Q_new = _mean_eigenvalue_one(_half_step(G.mT, A, mu, theorem=theorem))
        keep = done[..., None, None]
        P, Q = np.where(keep, P, P_new), np.where(keep, Q, Q_new)
        history.append((P, Q))
        iterations += 1
        if iterations < lag:
            continue
        P_before, Q_before = history[0]
        moved = _spd.distance(Q, Q_before, names=("Q", "Q"))
        if jacobi:
            moved = np.maximum(moved, _spd.distance(P, P_before, names=("P", "P")))
        level = _STALL * max(m, n) * _EPS * np.linalg.cond(Q)
        stalled = (moved >= distance) & (moved <= level)
        distance = np.where(done, distance, moved)
        done = done | (distance <= tolerance) | stalled
    if theorem:
        Q = _half_step(G.mT, _spd.inverse_root("P", P), mu)
    return FixedPoint(P, Q, iterations, _error_bound(G, mu, distance, theorem))


def fisher_lmo(G: Array, P: Array, Q: Array, *, radius: float = 1.0) -> Array:
    """Minimiser of ``<G, X>`` subject to ``|P^(1/2) X Q^(1/2)|_2 <= radius``.

    Parameters
    ----------
    G : (..., m, n) float64
        Gradient (no sample axis). Not modified.
    P : (..., m, m) float64
    Q : (..., n, n) float64
        Symmetric positive definite; batch axes broadcast with those of `G`. Not modified.
    radius : float
        At least 0.

    Returns
    -------
    X : (..., m, n) float64
        ``-radius * A Polar(A G C) C`` with ``A = P^(-1/2)``, ``C = Q^(-1/2)``; the minimum is
        ``-radius * nuclear_norm(A G C)``. Unique iff `G` has full rank. A zero or empty `G` gives zero.

    Raises
    ------
    ValueError
        If a shape, dtype or entry is out of order or a factor is not positive definite to working precision.

    Notes
    -----
    Source: Xu, Yan, Zhang, FISMO (arXiv 2601.21750), Theorem 4.2 (equation 3).
    Accuracy: normwise, relative to ``radius |A| |C|``, of order ``max(m, n) * u`` times the conditions of `P`
    and `Q` and, at full rank, ``|A| |G| |C|`` over the least singular value of ``A G C``.
    """
    G, radius = matrix("G", G), non_negative("radius", radius)
    _spd.matching("P", P, G.shape[-2], G.shape[:-2])
    _spd.matching("Q", Q, G.shape[-1], G.shape[:-2])
    A, C = _spd.inverse_root("P", P), _spd.inverse_root("Q", Q)
    return -radius * A @ polar_factor(A @ G @ C) @ C


def _samples(G: Array) -> Array:
    """Samples as ``(..., N, m, n)``, none of N, m, n zero."""
    G = matrix("G", G)
    G = G[None] if G.ndim == 2 else G
    if 0 in G.shape[-3:]:
        raise ValueError(f"G must have at least one sample, row and column, got shape {G.shape}")
    return G


def _start(name: str, P: Array | None, side: int, batch: tuple[int, ...]) -> Array:
    """A starting factor, normalised to trace `side`, one per batch item."""
    if P is None:
        return np.broadcast_to(np.eye(side), (*batch, side, side))
    _spd.matching(name, P, side, batch)
    _spd.eigh(name, P)
    return np.broadcast_to(_mean_eigenvalue_one(P), (*batch, side, side))


def _beside(G: Array) -> Array:
    """Samples side by side, ``(..., N, m, n)`` to ``(..., m, N n)``: its Gram matrix is ``N E[G G^T]``."""
    return np.moveaxis(G, -3, -2).reshape(*G.shape[:-3], G.shape[-2], -1)


def _half_step(G: Array, C: Array, mu: float, *, theorem: bool = True) -> Array:
    """``E[G C^2 G^T] / n + damping * I`` with damping ``mu tr(C^2) / n``, or `mu` as in Algorithm 1."""
    N, m, n = G.shape[-3:]
    with np.errstate(over="ignore", invalid="ignore"):
        Z = _beside(G @ C[..., None, :, :])
        shift = mu * np.square(C).sum(axis=(-2, -1), keepdims=True) / n if theorem else mu
        P = _spd.symmetric(Z @ Z.mT) / (N * n) + shift * np.eye(m)
    return finite_result("G", P, "have a square in range")


def _mean_eigenvalue_one(P: Array) -> Array:
    """`P` scaled to mean eigenvalue 1. The theorem's maps are homogeneous: this changes no direction.

    The zero matrix stays, for the next decomposition to refuse.
    """
    mean = np.trace(P, axis1=-2, axis2=-1)[..., None, None] / P.shape[-1]
    return P / np.where(mean > 0, mean, 1.0)


def _error_bound(G: Array, mu: float, distance: Array, theorem: bool) -> Array:
    """``c^2 / (1 - c^2) * distance``, without cancellation ``g2^2 / (4 mu (g2 + mu)) * distance``."""
    if not theorem or mu == 0:
        return np.full(distance.shape, np.inf)
    g2 = coupling_bound(G)
    return (g2 / (2 * mu)) * (g2 / (2 * (g2 + mu))) * distance
