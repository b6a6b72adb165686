"""Formulas of DyKAF, the natural gradient and the isotropic curvature model at 50 digits, by other routes.

DyKAF's factors come from the rearranged matrix and not from products of factors, Fisher matrices from
covariances of labels, moments on the sphere from the generating function of the Dirichlet distribution, rules
from eigenvalues of Jacobi matrices. Symbols as in `reference`, conventions as in `tests.reference.precise`.
"""

from itertools import product
from math import factorial

import numpy as np

from tests.reference.precise import HALF, Array, eigen, exact, eye, mp, norm

# dykaf


def rearrangement(F: Array, m: int, n: int) -> Array:
    """Row (i, k) is block (i, k) of F, row by row."""
    blocks = F.reshape(m, n, m, n)
    return np.array([blocks[i, :, k, :].reshape(-1) for i, k in product(range(m), repeat=2)], dtype=object)


def nearest_kronecker(G: Array) -> tuple[Array, Array]:
    """Projectors on the leading eigenvectors of both Gram matrices, times the largest singular value."""
    (w, U), (_, V) = eigen(G @ G.T), eigen(G.T @ G)
    s, u, v = mp.sqrt(w[-1]), U[:, -1], V[:, -1]
    return s * np.outer(u, u), s * np.outer(v, v)


def projector_splitting(G: Array, L: Array, R: Array, beta) -> tuple[Array, Array]:
    """One step on the rearranged ``beta L kron R + (1 - beta) g g^T``, formed."""
    (m, n), beta, g = G.shape, mp.mpf(beta), G.reshape(-1)
    A = rearrangement(beta * np.kron(L, R) + (1 - beta) * np.outer(g, g), m, n)
    u, v = A @ R.reshape(-1), A.T @ L.reshape(-1)
    u, v = u / norm(u), v / norm(v)
    root = mp.sqrt(u @ A @ v)
    return root * u.reshape(m, m), root * v.reshape(n, n)


def stationary_factors(G: Array, L: Array, R: Array) -> tuple[Array, Array]:
    """The rearranged second moment of samples (N, m, n), applied to both factors."""
    N, m, n = G.shape
    A = rearrangement(sum(np.outer(X.reshape(-1), X.reshape(-1)) for X in G) / N, m, n)
    return (A @ R.reshape(-1)).reshape(m, m), (A.T @ L.reshape(-1)).reshape(n, n)


def refreshed(L: Array, U: Array) -> tuple[Array, list[int]]:
    """Columns of ``L U``, by falling Rayleigh quotient of U's, orthogonalised one after the other."""
    quotients = [u @ L @ u for u in U.T]
    order = sorted(range(len(L)), key=lambda j: -quotients[j])
    columns: list[Array] = []
    for j in order:
        x = L @ U[:, j]
        for q in columns:
            x = x - (q @ x) * q
        columns.append(x / norm(x))
    return np.array(columns, dtype=object).T, order


def dykaf_update(M: Array, N: Array, U: Array, V: Array, beta1, beta2, epsilon, k: int) -> Array:
    """Sum over the columns of both bases of the rank-one terms of the update."""
    scale = mp.sqrt(1 - mp.mpf(beta2) ** k) / (1 - mp.mpf(beta1) ** k)
    total = M * mp.mpf(0)
    for i, j in product(range(len(U)), range(len(V))):
        u, v = U[:, i], V[:, j]
        total = total + (u @ M @ v) / (mp.sqrt(N[i, j]) + mp.mpf(epsilon)) * np.outer(u, v)
    return scale * total


# natural gradient


def softmax(z: Array) -> Array:
    weights = np.array([mp.exp(x) for x in z], dtype=object)
    return weights / sum(weights)


def label_covariance(z: Array) -> Array:
    """Covariance of the unit vector of a label drawn from the model."""
    p = softmax(z)
    return sum(p[y] * np.outer(e - p, e - p) for y, e in enumerate(eye(len(p))))


def gauss_newton(J: Array, Lambda: Array) -> Array:
    """Mean over samples of ``J^T Lambda J``, as a sum over pairs of outputs."""
    pairs = product(range(J.shape[1]), repeat=2)
    total = sum(
        (X[a, b] * np.outer(Y[a], Y[b]) for a, b in pairs for X, Y in zip(Lambda, J, strict=True)),
        exact(np.zeros((J.shape[2], J.shape[2]))),
    )
    return total / len(J)


# isotropic curvature


def second_moments(n: int) -> Array:
    """``E[t t^T]`` of ``t = zeta^2`` on the sphere of R^n."""
    return (2 * eye(n) + exact(np.ones((n, n)))) / (n * (n + 2))


def even_power(sigma: Array, q: int):
    """``E |Q zeta|^(2 q)``: the coefficient of x^q in ``prod_i (1 - sigma_i^2 x)^(-1/2)``, rescaled."""
    series = [mp.mpf(1)] + [mp.mpf(0)] * q
    for x in sigma:
        one = [mp.rf(HALF, j) / factorial(j) * x ** (2 * j) for j in range(q + 1)]
        series = [sum(series[i] * one[j - i] for i in range(j + 1)) for j in range(q + 1)]
    return series[q] * factorial(q) / mp.rf(mp.mpf(len(sigma)) / 2, q)


def beta_rule(nodes: int, a, b) -> tuple[Array, Array]:
    """Gauss rule of Beta(a, b) on [0, 1], points ascending: eigenvalues of the matrix of its recurrence."""
    alpha, beta = b - 1, a - 1  # exponents of 1 - x and 1 + x on [-1, 1]
    T = exact(np.zeros((nodes, nodes)))
    for k in range(nodes):
        c = 2 * k + alpha + beta
        T[k, k] = (beta - alpha) / (c + 2) if k == 0 else (beta**2 - alpha**2) / (c * (c + 2))
        if k == 1:  # the general formula is 0 / 0 for alpha + beta = -1
            T[1, 0] = mp.sqrt(4 * (1 + alpha) * (1 + beta) / (c**2 * (c + 1)))
        elif k:
            top = 4 * k * (k + alpha) * (k + beta) * (k + alpha + beta)
            T[k, k - 1] = mp.sqrt(top / (c**2 * (c + 1) * (c - 1)))
        if k:
            T[k - 1, k] = T[k, k - 1]
    x, V = eigen(T)
    return (1 + x) / 2, V[0] ** 2


def sphere_rule(n: int, nodes: int) -> tuple[Array, Array]:
    """Points and weights, the last angle running fastest."""
    rules = [list(zip(*beta_rule(nodes, HALF, mp.mpf(n - i) / 2), strict=True)) for i in range(1, n)]
    t, w = [], []
    for angles in product(*rules):
        rest, weight, point = mp.mpf(1), mp.mpf(1), []
        for fraction, share in angles:
            point.append(rest * fraction)
            rest, weight = rest * (1 - fraction), weight * share
        t.append([*point, rest])
        w.append(weight)
    return np.array(t, dtype=object), np.array(w, dtype=object)


def expectation(sigma: Array, value, nodes: int):
    """``E H(|Q zeta|)`` by the rule."""
    t, w = sphere_rule(len(sigma), nodes)
    return sum(share * value(mp.sqrt(sigma**2 @ point)) for point, share in zip(t, w, strict=True))


def quartic_optimum(s: Array, k) -> tuple[Array, Array]:
    """Minimiser of ``-s . sigma + k E|Q zeta|^4`` and the Hessian there.

    It solves ``2 sigma_i^3 + T sigma_i = n (n + 2) s_i / (4 k)`` with ``T = sum sigma_i^2``, one cubic per
    entry and one equation for T. Every root falls as T grows, and ``c / (3 T) <= sigma <= c / T`` for the
    right-hand sides c brackets T within a factor of ``9^(1/3) < e``.
    """
    n, k = len(s), mp.mpf(k)
    right = [n * (n + 2) * x / (4 * k) for x in s]

    def roots(T) -> list:
        # sigma = sqrt(2 T / 3) sinh(y / 3) turns the cubic into sinh(y) = right (3 / T) sqrt(3 / (2 T)).
        return [mp.sqrt(2 * T / 3) * mp.sinh(mp.asinh(c * 3 / T * mp.sqrt(3 / (2 * T))) / 3) for c in right]

    def excess(log_T):
        T = mp.exp(log_T)
        return mp.log(sum(x * x for x in roots(T)) / T)

    top = mp.log(sum(c**2 for c in right)) / 3
    T = mp.exp(mp.findroot(excess, (top - 1, top), solver="anderson"))
    sigma = np.array(roots(T), dtype=object)
    hessian = 4 * T * eye(n) + 24 * np.diag(sigma**2) + 8 * np.outer(sigma, sigma)
    return sigma, hessian * k / (n * (n + 2))


def on_singular_values(G: Array, s: Array, sigma: Array) -> Array:
    """``U diag(sigma) V^T`` for G of full rank with singular values s, descending."""
    _, V = eigen(G.T @ G)
    factor = [y / x if x else mp.mpf(0) for x, y in zip(s[::-1], sigma[::-1], strict=True)]
    return G @ (V * np.array(factor, dtype=object)) @ V.T


def kinked(r, at, low, high, width):
    """The value of `reference.isotropic_curvature.kinked_growth`, from the formula of its docstring.

    The softplus is shifted and stretched so that its slope runs from 0 at radius 0 to 1 at infinity.
    """
    at, low, high, width = (mp.mpf(x) for x in (at, low, high, width))
    if not width:
        return low * r**2 / (2 * at) + (high - low) * max(mp.mpf(0), r - at)

    def softplus(x):
        return width * mp.log(1 + mp.exp(x / width))

    start = 1 / (1 + mp.exp(at / width))
    rise = (softplus(r - at) - softplus(-at) - start * r) / (1 - start)
    return low * r**2 / (2 * at) + (high - low) * rise
