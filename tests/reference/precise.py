"""The formulas of the reference at 50 digits, written again from the papers and by other routes.

Arrays are NumPy arrays of mpmath numbers. Inverses come from LU factors, roots from eigenvalues of symmetric
matrices, polar factors from the Gram matrix (which squares the condition, harmless at 50 digits), polynomials
from powers. No batches, no checks of arguments. Symbols as in `reference`.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import product
from math import comb
from typing import Any

import mpmath
import numpy as np

mp = mpmath.mp.clone()
mp.dps = 50

#: An array of mpmath numbers.
Array = np.ndarray[Any, np.dtype[np.object_]]

#: Unit roundoff of float64 twice, the epsilon in the cut-off that defines the polar factor.
EPSILON = mp.mpf(2) ** -52

HALF = mp.mpf(1) / 2

#: Rounds of the exchange, which converges quadratically, and a change at which an alternation has converged.
EXCHANGES, STILL = 15, mp.mpf(10) ** -35


def exact(X) -> Array:
    """The exact values of float64 numbers."""
    return np.vectorize(lambda x: mp.mpf(float(x)), otypes=[object])(np.asarray(X))


def eye(k: int) -> Array:
    return exact(np.eye(k))


def norm(X: Array):
    """Frobenius norm."""
    return mp.sqrt(sum((x * x for x in np.reshape(X, -1)), mp.mpf(0)))


def trace(X: Array):
    return sum(np.diagonal(X), mp.mpf(0))


def inverse(X: Array) -> Array:
    Y = mp.inverse(mp.matrix(X.tolist()))
    return np.array(Y.tolist(), dtype=object)


def solve(A: Array, b: Array) -> Array:
    return np.array(mp.lu_solve(mp.matrix(A.tolist()), mp.matrix(b.tolist())).T.tolist()[0], dtype=object)


def eigen(P: Array) -> tuple[Array, Array]:
    """Eigenvalues, ascending, and eigenvectors of a symmetric matrix."""
    w, V = mp.eigsy(mp.matrix(((P + P.T) / 2).tolist()))
    return np.array(list(w), dtype=object), np.array(V.tolist(), dtype=object)


def power(P: Array, exponent) -> Array:
    w, V = eigen(P)
    return (V * np.array([x**exponent for x in w], dtype=object)) @ V.T


def singular_values(M: Array) -> list:
    """In descending order, zeros included."""
    gram = M @ M.T if len(M) <= M.shape[1] else M.T @ M
    return [mp.sqrt(max(x, mp.mpf(0))) for x in eigen(gram)[0][::-1]]


def condition(P: Array) -> float:
    s = singular_values(P)
    return float(s[0] / s[-1])


# polar


def polar_factor(M: Array) -> Array:
    if not any(np.reshape(M, -1)):
        return M * mp.mpf(0)
    w, V = eigen(M.T @ M)
    cut = (max(M.shape) * EPSILON) ** 2 * w[-1]
    kept = [mp.mpf(0) if x <= cut else 1 / mp.sqrt(x) for x in w]
    return M @ (V * np.array(kept, dtype=object)) @ V.T


def nuclear_norm(M: Array):
    return sum(singular_values(M), mp.mpf(0))


def spectral_lmo(G: Array, radius) -> Array:
    return -mp.mpf(radius) * polar_factor(G)


def newton_schulz(M: Array, polynomials, steps=None, normalize=True, floor=0.0, shift=0.0) -> Array:
    X = M
    if normalize:
        divisor = max(norm(M) + mp.mpf(shift), mp.mpf(floor))
        X = M / divisor if divisor else M
    for p in spelled(polynomials, steps):
        gram, term, total = X @ X.T, X, X * mp.mpf(0)
        for c in p:
            total = total + mp.mpf(c) * term
            term = gram @ term
        X = total
    return X


def scalar_map(x, polynomials, steps=None):
    x = mp.mpf(x)
    for p in spelled(polynomials, steps):
        x = sum((mp.mpf(c) * x ** (2 * i + 1) for i, c in enumerate(p)), mp.mpf(0))
    return x


def spelled(polynomials, steps) -> list:
    """One polynomial per step; a single one five times, the last of a sequence again and again."""
    single = not isinstance(polynomials[0], Sequence)
    rows = [polynomials] if single else list(polynomials)
    count = steps if steps is not None else (5 if single else len(rows))
    return [rows[min(i, len(rows) - 1)] for i in range(count)]


def kim_oh_polynomial(k: int) -> list[Fraction]:
    """``sum_i c_i (1 - x)^i`` with ``c_i = (2i)! / (4^i (i!)^2)``, multiplied out."""
    c = [Fraction(comb(2 * i, i), 4**i) for i in range(k + 1)]
    return [sum((-1) ** j * c[i] * comb(i, j) for i in range(j, k + 1)) for j in range(k + 1)]


def polar_express(lower, upper, *, steps, degree, cushion, safety=1.0) -> list:
    """Greedy sequence of minimax polynomials; the quintic by exchange."""
    l, u, omega, rows = mp.mpf(lower), mp.mpf(upper), mp.mpf(cushion), []
    for _ in range(steps):
        if degree == 3:
            alpha = mp.sqrt(3 / (u * u + l * u + l * l))
            theta = 4 / (2 + l * u * (l + u) * alpha**3)
            p = [theta * alpha * 3 / 2, -theta * alpha**3 / 2]
        else:
            p = minimax_quintic(max(l, omega * u), u)
            if l < omega * u:
                p = [2 * c / (scalar_map(l, [p]) + scalar_map(u, [p])) for c in p]
        rows.append(p)
        l = scalar_map(l, [p])
        u = 2 - l
    factor = mp.mpf(safety)
    return [[c / factor ** (2 * i + 1) for i, c in enumerate(p)] for p in rows[:-1]] + rows[-1:]


def minimax_quintic(l, u) -> list:
    x1, x2 = (3 * l + u) / 4, (l + 3 * u) / 4
    for _ in range(EXCHANGES):
        nodes, signs = [l, x1, x2, u], [1, -1, 1, -1]
        A = np.array([[x, x**3, x**5, mp.mpf(s)] for x, s in zip(nodes, signs, strict=True)], dtype=object)
        a, b, c, _ = solve(A, exact(np.ones(4)))
        root = mp.sqrt(9 * b * b - 20 * a * c)
        x1, x2 = (mp.sqrt((-3 * b + s * root) / (10 * c)) for s in (-1, 1))
    return [a, b, c]


def orthogonalize(M: Array, method: str) -> Array:
    from reference.polar import JORDAN_QUINTIC, POLAR_EXPRESS  # the published numbers

    if method == "polar":
        return polar_factor(M)
    if method == "jordan":
        return newton_schulz(M, JORDAN_QUINTIC)
    safe = [[mp.mpf(c) / mp.mpf(1.01) ** (2 * i + 1) for i, c in enumerate(p)] for p in POLAR_EXPRESS[:-1]]
    return newton_schulz(M, [*safe, POLAR_EXPRESS[-1]], shift=1e-2)


# kronecker


def logdet_divergence(X: Array, Y: Array):
    Z = X @ inverse(Y)
    return trace(Z) - mp.log(mp.det(mp.matrix(Z.tolist()))) - len(X)


def hilbert_distance(X: Array, Y: Array):
    C = power(Y, -HALF)
    w, _ = eigen(C @ X @ C)
    return mp.log(w[-1] / w[0])


def left_factor(G: Array, Q: Array, mu) -> Array:
    """``E[G Q^-1 G^T] / n + mu tr(Q^-1) / n I`` over samples (N, m, n)."""
    R = inverse(Q)
    mean = sum(X @ R @ X.T for X in G) / len(G)
    return mean / len(Q) + mp.mpf(mu) * trace(R) / len(Q) * eye(len(mean))


def right_factor(G: Array, P: Array, mu) -> Array:
    return left_factor(np.array([X.T for X in G], dtype=object), P, mu)


def objective_terms(G: Array, P: Array, Q: Array, mu) -> list:
    """The four terms of J."""
    A, B = inverse(P), inverse(Q)
    data = sum(trace(A @ X @ B @ X.T) for X in G) / len(G)
    logs = [mp.log(mp.det(mp.matrix(X.tolist()))) for X in (P, Q)]
    return [data, mp.mpf(mu) * trace(A) * trace(B), len(Q) * logs[0], len(P) * logs[1]]


def coupling_bound(G: Array):
    rows = sum(X @ X.T for X in G) / len(G)
    columns = sum(X.T @ X for X in G) / len(G)
    entries = sum(np.outer(X.reshape(-1), X.reshape(-1)) for X in G) / len(G)
    return min(eigen(S)[0][-1] for S in (rows, columns, entries))


def contraction_factor(G: Array, mu):
    """``tanh(log(1 + g2 / mu) / 2)``."""
    return mp.tanh(mp.log(1 + coupling_bound(G) / mp.mpf(mu)) / 2)


def fixed_point(G: Array, mu, *, damping: str, rounds: int = 500) -> tuple[Array, Array]:
    """Alternation from the identity; ``tr P = m``, with the algorithm's damping also ``tr Q = n``."""
    m, n = G.shape[1:]
    P, Q = eye(m), eye(n)
    for _ in range(rounds):
        last = P
        P = _damped(G, Q, mu, damping)
        P = P * m / trace(P)
        Q = _damped(np.array([X.T for X in G], dtype=object), P, mu, damping)
        if damping == "algorithm":
            Q = Q * n / trace(Q)
        if norm(P - last) < STILL:
            break
    return P, Q


def _damped(G: Array, Q: Array, mu, damping: str) -> Array:
    if damping == "theorem":
        return left_factor(G, Q, mu)
    data = left_factor(G, Q, 0)
    return data + mp.mpf(mu) * eye(len(data))


def fisher_lmo(G: Array, P: Array, Q: Array, radius) -> Array:
    A, C = power(P, -HALF), power(Q, -HALF)
    return -mp.mpf(radius) * A @ polar_factor(A @ G @ C) @ C


# stages of methods


def update_factors(
    G: Array, P: Array, Q: Array, gamma, mu, options: Mapping[str, str]
) -> tuple[Array, Array]:
    (m, n), gamma, mu = G.shape, mp.mpf(gamma), mp.mpf(mu)
    S = G * mp.sqrt(m * n) / norm(G) if options["factor_scaling"] == "unit" and norm(G) else G
    theorem = options["damping"] == "theorem"
    R = inverse(Q)
    L = S @ R @ S.T / n + mu * (trace(R) / n if theorem else trace(P) / m) * eye(m)
    P_new = gamma * P + (1 - gamma) * L
    P_new = P_new * m / trace(P_new)
    B = inverse(P_new if options["order"] == "gauss-seidel" else P)
    K = S.T @ B @ S / m + mu * (trace(B) / m if theorem else trace(Q) / n) * eye(n)
    Q_new = gamma * Q + (1 - gamma) * K
    return P_new, Q_new * n / trace(Q_new)


def whiten(G: Array, P: Array, Q: Array) -> Array:
    return power(P, -HALF) @ G @ power(Q, -HALF)


def sofim_direction(M_hat: Array, rho) -> Array:
    """``(M_hat M_hat^T + rho I)^-1 M_hat``, by solving the system."""
    return solve(np.outer(M_hat, M_hat) + mp.mpf(rho) * eye(len(M_hat)), M_hat)


def minmax(d: Array) -> Array:
    return (d - min(d)) / (max(d) - min(d))


def mean_square(X: Array) -> Array:
    """Mean of the squares over the first axis."""
    return (X * X).sum(axis=0) / len(X)


def patches(x: Array, *, kernel_size, stride: int, padding: int, dilation: int, groups: int) -> list[Array]:
    """What a convolution multiplies at every site: per group a matrix (samples and sites, entries).

    One spatial axis for each entry of `kernel_size`, the last ones of x (N, C, *spatial).
    """
    N, C, *spatial = x.shape
    counts = sites(spatial, kernel_size, stride, padding, dilation)
    zero, out = mp.mpf(0), []
    for group in range(groups):
        channels = range(group * C // groups, (group + 1) * C // groups)
        lines = []
        for k, site in product(range(N), product(*map(range, counts))):
            line = []
            for c, offset in product(channels, product(*map(range, kernel_size))):
                at = [i * stride + a * dilation - padding for i, a in zip(site, offset, strict=True)]
                inside = all(0 <= i < size for i, size in zip(at, spatial, strict=True))
                line.append(x[(k, c, *at)] if inside else zero)
            lines.append(line)
        out.append(np.array(lines, dtype=object))
    return out


def sites(spatial, kernel_size, stride: int, padding: int, dilation: int) -> tuple[int, ...]:
    """How many sites a convolution has along each spatial axis."""
    return tuple(
        (size + 2 * padding - dilation * (k - 1) - 1) // stride + 1
        for size, k in zip(spatial, kernel_size, strict=True)
    )


def decayed(update: Array, inputs, hp) -> Array:
    return update + mp.mpf(hp["weight_decay"]) * exact(inputs["W"]) if "W" in inputs else update


def bfgs(g: Array, S: Array, Y: Array) -> Array:
    """``H g`` with the inverse BFGS matrix formed, from ``(y^T s / y^T y) I`` of the newest pair."""
    H = (Y[-1] @ S[-1]) / (Y[-1] @ Y[-1]) * eye(len(g))
    for s, y in zip(S, Y, strict=True):
        rho = 1 / (y @ s)
        V = eye(len(g)) - rho * np.outer(y, s)
        H = V.T @ H @ V + rho * np.outer(s, s)
    return H @ g


def whitening(L: Array, alpha, epsilon) -> Array:
    """``(L k / (tr L + epsilon) + epsilon I)^(-alpha)``."""
    epsilon = mp.mpf(epsilon)
    return power(L * len(L) / (trace(L) + epsilon) + epsilon * eye(len(L)), -mp.mpf(alpha))
