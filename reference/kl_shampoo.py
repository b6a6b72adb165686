"""KL-Shampoo: Kronecker factors by Kullback-Leibler divergence, and the step they precondition.

Symbols: G gradient, (d_a, d_b); v = vec(G) row by row; S_a and S_b row and column factors,
``S = S_a kron S_b`` the model covariance; M average of raw gradients; mu damping (kappa in the paper);
beta2 the weight of the *new* statistic, as the paper's claim 3 writes it. Samples stand on their own axis,
``(..., N, d_a, d_b)``, and expectations are means over it; a plain matrix counts as one sample.

The factor equations are those of FISMO's Theorem 4.1 with P = S_a and Q = S_b. The difference is in the step:
no trace normalisation, no polar factor, momentum of raw gradients; so the magnitude of the gradient is kept.
"""

from typing import Literal, NamedTuple

import numpy as np

from reference import kronecker
from reference._arguments import (
    Array,
    choice,
    finite_result,
    fraction,
    like,
    matrix,
    non_negative,
    shape,
)
from reference._moments import average, with_weight_decay
from reference._spd import eigh, inverse_root, symmetric

__all__ = [
    "KlShampooState",
    "divergence",
    "init",
    "joint_optimum",
    "one_sided_optimum",
    "step",
    "update_factors",
]

Order = Literal["jacobi", "gauss-seidel"]


def divergence(G: Array, S_a: Array, S_b: Array, *, mu: float) -> Array:
    """``(log det S + tr((E[v v^T] + mu I) S^-1)) / 2`` for ``S = S_a kron S_b``.

    Parameters
    ----------
    G : (..., N, d_a, d_b) float64
        Samples. Not modified.
    S_a : (..., d_a, d_a) float64
    S_b : (..., d_b, d_b) float64
        Symmetric positive definite; batch axes broadcast with those of `G`. Not modified.
    mu : float
        Damping, at least 0, in units of the squared gradient.

    Returns
    -------
    divergence : (...) float64
        The Kullback-Leibler divergence of ``N(0, E[v v^T] + mu I)`` from ``N(0, S)``, up to a constant that
        depends on neither factor: half of `reference.kronecker.objective`.

    Raises
    ------
    ValueError
        If an argument is out of order or a factor is not positive definite to working precision.

    Notes
    -----
    Source: Lin et al., KL-Shampoo (arXiv 2509.03378), equation of the two-sided problem, as accounts give it.
    Accuracy: relative to the sum of absolute terms, roundoff times the conditions of the factors.
    """
    return kronecker.objective(G, S_a, S_b, mu=mu) / 2


def one_sided_optimum(G: Array) -> Array:
    """``S_a* = E[G G^T]``, the minimiser of the divergence for ``S = (S_a / d_b) kron I`` and no damping.

    Parameters
    ----------
    G : (..., N, d_a, d_b) float64
        Samples, at least one, with at least one row and one column. Not modified.

    Returns
    -------
    S_a : (..., d_a, d_a) float64
        Exactly symmetric, positive semidefinite; the divergence has a minimiser only where it is definite.

    Raises
    ------
    ValueError
        If `G` is out of order or its square overflows.

    Notes
    -----
    Source: Lin et al., KL-Shampoo (arXiv 2509.03378), claim 1: this is Shampoo with power 1/2 on one side.
    Accuracy: normwise relative error of order ``N * d_b * u``.
    """
    G = matrix("G", G)
    d_b = G.shape[-1]
    return finite_result("G", d_b * kronecker.left_factor(G, np.eye(d_b), mu=0.0), "have a square in range")


def joint_optimum(G: Array, *, mu: float) -> tuple[Array, Array]:
    """Factors that satisfy both optimality equations, by alternating them.

    Parameters
    ----------
    G : (..., N, d_a, d_b) float64
        Samples, at least one, with at least one row and one column. Not modified.
    mu : float
        Damping, at least 0. A solution exists for any data if ``mu > 0``.

    Returns
    -------
    S_a, S_b : (..., d_a, d_a) and (..., d_b, d_b) float64
        ``S_a = (E[G S_b^-1 G^T] + mu tr(S_b^-1) I) / d_b`` and
        ``S_b = (E[G^T S_a^-1 G] + mu tr(S_a^-1) I) / d_a``, in the gauge ``tr(S_a) = d_a``.

    Raises
    ------
    ValueError
        If an argument is out of order, or a factor loses definiteness (``mu = 0`` with too few samples).

    Notes
    -----
    Source: Lin et al., KL-Shampoo (arXiv 2509.03378), claim 2; solved by `reference.kronecker.fixed_point`.
    Accuracy: that of `reference.kronecker.fixed_point` with the theorem's damping, at its default tolerance.
    """
    found = kronecker.fixed_point(G, mu=mu)
    return found.P, found.Q


def update_factors(
    G: Array,
    S_a: Array,
    S_b: Array,
    *,
    beta2: float,
    mu: float = 0.0,
    order: Order = "jacobi",
) -> tuple[Array, Array]:
    """One step of the moving average: a stochastic proximal-gradient step on the divergence.

    Parameters
    ----------
    G : (..., N, d_a, d_b) float64
        Samples of the step, usually one. Not modified.
    S_a : (..., d_a, d_a) float64
    S_b : (..., d_b, d_b) float64
        Old factors, symmetric positive definite, with the batch axes of `G`. Not modified.
    beta2 : float
        In [0, 1], the weight of the *new* statistic.
    mu : float
        Damping, at least 0.
    order : {"jacobi", "gauss-seidel"}
        S_b sees the old S_a, as in the authors' code; or the new one.

    Returns
    -------
    S_a, S_b : (..., d_a, d_a) and (..., d_b, d_b) float64
        ``(1 - beta2) S_a + beta2 (G S_b^-1 G^T + mu tr(S_b^-1) I) / d_b`` and its twin, exactly symmetric.

    Raises
    ------
    ValueError
        If an argument is out of order, the square of `G` overflows, or a factor to be inverted is singular
        (possible for ``beta2 = 1`` and ``mu = 0``).

    Notes
    -----
    Source: Lin et al., KL-Shampoo (arXiv 2509.03378), claim 3; the damping as in the source of
    yorkerlin's KL-Methods, whose mean of inverse eigenvalues is ``tr(S_b^-1) / d_b``.
    Accuracy: normwise relative error of order ``max(d_a, d_b) * u`` times the conditions of the factors.
    """
    beta2, mu = fraction("beta2", beta2, closed=True), non_negative("mu", mu)
    jacobi = choice("order", order, ("jacobi", "gauss-seidel")) == "jacobi"
    G = matrix("G", G)
    *batch, d_a, d_b = G.shape[:-3] + G.shape[-2:]
    S_a, S_b = like("S_a", S_a, (*batch, d_a, d_a)), like("S_b", S_b, (*batch, d_b, d_b))
    S_a_new = _averaged(S_a, kronecker.left_factor(G, S_b, mu=mu), beta2)
    S_b_new = _averaged(S_b, kronecker.right_factor(G, S_a if jacobi else S_a_new, mu=mu), beta2)
    return S_a_new, S_b_new


class KlShampooState(NamedTuple):
    """What KL-Shampoo remembers between steps.

    Attributes
    ----------
    S_a : (..., d_a, d_a) float64
        Row factor, symmetric positive definite.
    S_b : (..., d_b, d_b) float64
        Column factor, symmetric positive definite. S_a kron S_b is in units of the squared gradient.
    M : (..., d_a, d_b) float64
        Average of raw gradients.

    Notes
    -----
    Source: Lin et al., KL-Shampoo (arXiv 2509.03378), section on the practical method, as accounts give it.
    """

    S_a: Array
    S_b: Array
    M: Array


def init(
    W: Array | tuple[int, ...], *, S_a0: Array | None = None, S_b0: Array | None = None
) -> KlShampooState:
    """State before the first step.

    Parameters
    ----------
    W : (..., d_a, d_b) float64, or tuple of int
        The parameter or its shape, no side zero. Not modified, not kept.
    S_a0 : (..., d_a, d_a) float64, optional
    S_b0 : (..., d_b, d_b) float64, optional
        Symmetric positive definite starts; default identity. The authors' code starts at the statistics of
        the first gradient with identities inside and takes no step then, which needs no factor but is
        singular for one gradient; pass those to do the same.

    Returns
    -------
    KlShampooState
        Holds copies.

    Raises
    ------
    ValueError
        If a shape, dtype or entry is out of order or a factor is not positive definite to working precision.

    Notes
    -----
    Source: Lin et al., KL-Shampoo (arXiv 2509.03378); the start is ours.
    Accuracy: exact (identities, zeros and copies).
    """
    *batch, d_a, d_b = sizes = shape("W", W, axes=2)
    S_a = _start("S_a0", S_a0, (*batch, d_a, d_a))
    return KlShampooState(S_a, _start("S_b0", S_b0, (*batch, d_b, d_b)), np.zeros(sizes))


def step(
    G: Array,
    state: KlShampooState,
    *,
    beta1: float = 0.9,
    beta2: float = 0.02,
    mu: float = 1e-8,
    order: Order = "jacobi",
    preconditioner: Literal["new", "old"] = "new",
    weight_decay: float = 0.0,
    W: Array | None = None,
) -> tuple[Array, KlShampooState]:
    """One step: ``W_new = W - lr * update``.

    Parameters
    ----------
    G : (..., d_a, d_b) float64
        Gradient at W (no sample axis). Not modified.
    state : KlShampooState
        From `init` or the previous step. Not modified.
    beta1 : float
        In [0, 1), the weight of the old momentum. No bias correction.
    beta2, mu, order
        As in `update_factors`. The default weights are those of the authors' code, which names the weight of
        the old factor, 0.98.
    preconditioner : {"new", "old"}
        Whether the update uses the factors that contain the current gradient, or, as in the authors' code,
        those from before it.
    weight_decay : float
        At least 0; decoupled: the update contains ``weight_decay * W``.
    W : (..., d_a, d_b) float64, optional
        The parameter, needed if ``weight_decay > 0``. Not modified.

    Returns
    -------
    update : (..., d_a, d_b) float64
        ``S_a^(-1/2) M S_b^(-1/2)``, ``M = beta1 M + (1 - beta1) G``, plus ``weight_decay W``.
    state : KlShampooState
        The new state; nothing is shared with the old one. An empty gradient leaves the factors as they are.

    Raises
    ------
    ValueError
        If an argument is out of order, the square of `G` overflows, a factor is not positive definite to
        working precision, or `W` is missing where weight decay needs it.

    Notes
    -----
    Source: Lin et al., KL-Shampoo (arXiv 2509.03378), as accounts give it, and yorkerlin's KL-Methods. That
    code tracks eigenvalues in a basis refreshed every tenth step and adds epsilon to their roots; here roots
    are exact at every step.
    Accuracy: the factors as in `update_factors`. The update has a normwise error of order
    ``max(d_a, d_b) * u`` times the conditions of the factors, old and new, relative to
    ``|S_a^(-1/2)| (beta1 |M| + (1 - beta1) |G|) |S_b^(-1/2)|`` with the old M and the factors that the update
    uses.
    """
    beta1, weight_decay = fraction("beta1", beta1), non_negative("weight_decay", weight_decay)
    fresh = choice("preconditioner", preconditioner, ("new", "old")) == "new"
    G = like("G", G, matrix("state.M", state.M).shape)
    if G.size:
        S_a, S_b = update_factors(G[..., None, :, :], state.S_a, state.S_b, beta2=beta2, mu=mu, order=order)
    else:
        S_a, S_b = state.S_a.copy(), state.S_b.copy()
    M = average(state.M, G, beta1)
    left, right = (S_a, S_b) if fresh else (state.S_a, state.S_b)
    update = inverse_root("S_a", left) @ M @ inverse_root("S_b", right)
    return with_weight_decay(update, W, weight_decay), KlShampooState(S_a, S_b, M)


def _start(name: str, S: Array | None, expected: tuple[int, ...]) -> Array:
    """A starting factor: identity, or a checked copy of what the caller gave."""
    if S is None:
        return np.broadcast_to(np.eye(expected[-1]), expected).copy()
    eigh(name, like(name, S, expected))
    return S.copy()


def _averaged(S: Array, new: Array, beta2: float) -> Array:
    """``(1 - beta2) S + beta2 new``, exactly symmetric."""
    return symmetric((1 - beta2) * S + beta2 * new)
