"""Rates, test problems and schedules at 50 digits, written again from their formulas.

Built on `tests.reference.precise`, whose conventions these are; symbols as in `reference`. Rates are tuples
of terms in the order of the reference. Objectives are sums over terms, one at a time.
"""

from collections.abc import Callable, Sequence

import numpy as np

from tests.reference.precise import Array, exact, eye, inverse, mp, norm, singular_values, solve

ONE = mp.mpf(1)

#: Newton steps, from a Hessian by differences of this width; a gradient at which the value, whose error is of
#: the order of its square, is final. Smaller ones do not show in values of 50 digits, which judge the steps.
STEPS, WIDTH, VANISHED = 60, mp.mpf(10) ** -20, mp.mpf(10) ** -20


# FISMO's factors and rates


def algorithm_spectrum(m, n, g, mu) -> tuple:
    """``p = m n mu / (m n mu - g^2)`` and the largest eigenvalues ``(1 - b) + m b``."""
    room = m * n * mp.mpf(mu)
    b = mp.mpf(g) ** 2 / room
    p = room / (room - mp.mpf(g) ** 2)
    return p, p, (1 - b) + m * b, (1 - b) + n * b


def theorem_spectrum(m, n, s, mu) -> tuple:
    """``1/p = m mu / (m mu + s^2)``, and what is left of the trace for the largest eigenvalue."""
    square = mp.mpf(s) ** 2
    levels = [k * mp.mpf(mu) / (k * mp.mpf(mu) + square) for k in (m, n)]
    tops = [level + k * (1 - level) for k, level in zip((m, n), levels, strict=True)]
    return *(1 / level for level in levels), *tops


def reconstructed_drift(m, n, g, mu, gamma) -> tuple:
    p, _, *tops = algorithm_spectrum(m, n, g, mu)
    fresh = 1 - mp.mpf(gamma)
    return with_roots([p * fresh * mp.mpf(mu) * top / (1 - fresh * (1 - mp.mpf(mu))) for top in tops], p, p)


def sharp_drift(m, n, size, mu, gamma, damping) -> tuple:
    """Widths ``k (1 - 1/p)`` times ``1 / (1 + gamma / ((1 - gamma) tau))``."""
    algorithm = damping == "algorithm"
    p, q, *_ = (algorithm_spectrum if algorithm else theorem_spectrum)(m, n, size, mu)
    gained = (1 - mp.mpf(gamma)) * mp.mpf(mu) * (p if algorithm else p * q)
    weight = 1 - mp.mpf(gamma) / (mp.mpf(gamma) + gained)
    return with_roots([weight * m * (p - 1) / p, weight * n * (q - 1) / q], p, q)


def with_roots(moved: Sequence, p, q) -> tuple:
    return *moved, moved[0] * mp.sqrt(p**3) / 2, moved[1] * mp.sqrt(q**3) / 2


def uniform_bounds(m, n, size, mu, gamma, damping) -> tuple:
    spectrum = algorithm_spectrum if damping == "algorithm" else theorem_spectrum
    return *spectrum(m, n, size, mu), *sharp_drift(m, n, size, mu, gamma, damping)[2:]


def step_condition(m, n, g, mu):
    p, q, top_P, top_Q = algorithm_spectrum(m, n, g, mu)
    return mp.sqrt(p * top_P * q * top_Q)


def fismo_rate(*, m, n, D, L, G_star, g, sigma, batch, T, eta, beta, gamma, mu) -> tuple:
    D, L, G_star, sigma, eta, beta = (mp.mpf(x) for x in (D, L, G_star, sigma, eta, beta))
    p, _, top_P, top_Q = algorithm_spectrum(m, n, g, mu)
    *_, d_A, d_C = reconstructed_drift(m, n, g, mu, gamma)
    r, memory = min(m, n), 2 * beta / (1 - beta)
    terms = (
        D / eta / T,
        L * eta * p * p * r / 2,
        memory * p * G_star / T,
        memory * L * eta * p * p * r,
        memory * mp.sqrt(p) * (d_A + d_C) * G_star,
        2 * p * sigma * mp.sqrt(mp.mpf(r) / batch),
    )
    return tuple(mp.sqrt(top_P) * mp.sqrt(top_Q) * term for term in terms)


def fismo_rate_t6(*, r, D, L, G_f, sigma, batch, T, eta, beta, uniform) -> tuple:
    D, L, G_f, sigma, eta, beta = (mp.mpf(x) for x in (D, L, G_f, sigma, eta, beta))
    p, q, top_P, top_Q, d_A, d_C = (mp.mpf(x) for x in uniform)
    past = beta / (1 - beta)
    moved = mp.sqrt(q) * d_A + mp.sqrt(p) * d_C
    deviation = 2 * mp.sqrt(mp.mpf(r) / batch) * sigma
    terms = (
        D / eta / T,
        L * eta * r * p * q / 2,
        deviation * mp.sqrt(p * q * (1 - beta) / (1 + beta)),
        deviation * moved,
        2 * r * past * p * q * L * eta,
        2 * mp.sqrt(r) * past * moved * G_f,
        2 * past * mp.sqrt(r * p * q) * G_f / T,
    )
    return tuple(mp.sqrt(top_P * top_Q) * term for term in terms)


# Muon's rates


def kim_oh_rate(*, r, D, L, sigma, batch, T, eta, beta, epsilon, sharpened) -> tuple:
    D, L, sigma, eta, beta, epsilon = (mp.mpf(x) for x in (D, L, sigma, eta, beta, epsilon))
    past = 2 * beta / (1 - beta)
    terms = (
        D / (T * eta),
        L * eta * (1 + epsilon) ** 2 / 2,
        past * L * eta * (1 + epsilon),
        2 * sigma * mp.sqrt(r * (1 - beta) / ((1 + beta) * batch)),
        past * mp.sqrt(2 * L * D * (1 if sharpened else r)) / T,
    )
    return tuple(term / (1 - epsilon) for term in terms)


def kim_oh_parameters(*, r, D, L, sigma, batch, T) -> tuple:
    D, L, sigma = mp.mpf(D), mp.mpf(L), mp.mpf(sigma)
    fresh = min(ONE, mp.sqrt(L * D * batch / (r * T)) / sigma) if sigma else ONE
    return mp.sqrt(fresh * D / L / T), 1 - fresh


def nagashima_iiduka_rate(eta, batch, *, nu, D, L, sigma, beta, momentum_error, nesterov) -> tuple:
    """Double sums, term by term."""
    steps, T = exact(eta), len(eta)
    D, L, sigma, beta, momentum_error = (mp.mpf(x) for x in (D, L, sigma, beta, momentum_error))
    deviation = [1 / mp.sqrt(mp.mpf(float(B))) for B in batch]
    total = sum(steps)
    past = sum(steps[t] * beta**i * steps[t - i] for t in range(T) for i in range(1, t + 1))
    noise = sum(steps[t] * beta**i * deviation[t - i] for t in range(T) for i in range(t + 1))
    start = sum(steps[t] * beta**t for t in range(T))
    fresh = sum(steps[t] * deviation[t] for t in range(T))
    ahead, error = beta if nesterov else ONE, 2 * mp.sqrt(nu)
    return (
        D / total,
        nu * L * sum(x * x for x in steps) / total / 2,
        ahead * error * momentum_error * start / total,
        ahead * 2 * L * nu * past / total,
        ahead * error * (1 - beta) * sigma * noise / total,
        error * (1 - beta) * sigma * fresh / total if nesterov else mp.mpf(0),
    )


def nagashima_iiduka_constant_rate(*, nu, D, L, sigma, batch, T, eta, beta, momentum_error) -> tuple:
    D, L, sigma, eta, beta, momentum_error = (mp.mpf(x) for x in (D, L, sigma, eta, beta, momentum_error))
    return (
        D / eta / T,
        nu * L * eta / 2,
        mp.sqrt(4 * nu) * momentum_error / T / (1 - beta),
        2 * nu * L * eta / (1 - beta),
        sigma * mp.sqrt(mp.mpf(4 * nu) / batch),
        mp.mpf(0),
    )


# convex rates


def sofim_steps(norms, eta, rho) -> list:
    return [mp.mpf(eta) / (mp.mpf(rho) + x * x) for x in exact(norms)]


def sofim_convex_rate(norms, *, eta, rho, distance) -> tuple:
    steps, square = sofim_steps(norms, eta, rho), mp.mpf(distance) ** 2
    return square / sum(steps) / 2, square / steps[0] / len(steps) / 2


def sofim_strongly_convex_rate(norms, *, eta, rho, mu, gap) -> tuple:
    """Products as exponentials of sums of logarithms; no factor may vanish."""
    steps, mu, gap = sofim_steps(norms, eta, rho), mp.mpf(mu), mp.mpf(gap)
    path = gap * mp.exp(sum(mp.log(1 - mu * step) for step in steps))
    a_priori = gap * mp.exp(len(steps) * mp.log(1 - mu * steps[0]))
    return path, a_priori, 1 - mu * mp.mpf(eta) / mp.mpf(rho)


def sofim_stability_threshold(*, L, rho, beta):
    """Where the eigenvalue -1 of the momentum recursion appears: ``eta L (1 - beta) = 2 (1 + beta) rho``."""
    return 2 * mp.mpf(rho) * (1 + mp.mpf(beta)) / (mp.mpf(L) * (1 - mp.mpf(beta)))


def adafisher_convex_rate(*, gap, mu, eta, largest, t) -> tuple:
    factor = (mp.mpf(largest) - mp.mpf(eta) * mp.mpf(mu)) / mp.mpf(largest)
    return mp.mpf(gap) * mp.exp(t * mp.log(factor)), factor


# problems: values and gradients


def geman_mcclure(W: Array, A: Array, y: Array) -> tuple:
    """Value and the gradients of the terms; ``phi = 1 - 1 / (1 + x^2)``."""
    x = [(W * X).sum() - target for X, target in zip(A, y, strict=True)]
    value = sum(1 - 1 / (1 + t * t) for t in x) / len(x)
    return value, [2 * t / (1 + t * t) ** 2 * X for t, X in zip(x, A, strict=True)]


def cosine_bowl(W: Array, a, c) -> tuple:
    a, c = mp.mpf(a), mp.mpf(c)
    value = sum(w * w / 2 + a * (1 - mp.cos(c * w)) for w in W.reshape(-1))
    return value, np.vectorize(lambda w: w + a * c * mp.sin(c * w), otypes=[object])(W)


def sum_of_cosines(W: Array, A: Array, a: Array, phase: Array) -> tuple:
    x = [(W * X).sum() + shift for X, shift in zip(A, phase, strict=True)]
    value = sum(h * mp.cos(t) for h, t in zip(a, x, strict=True))
    return value, -sum(h * mp.sin(t) * X for h, t, X in zip(a, x, A, strict=True))


def quadratic(W: Array, spectrum: Array, U: Array) -> tuple:
    H, w = (U * spectrum) @ U.T, W.reshape(-1)
    return w @ H @ w / 2, (H @ w).reshape(W.shape)


def matrix_factorization(W: Array, Z: Array) -> tuple:
    X, Y = W[: len(Z)], W[len(Z) :]
    R = X @ Y.T - Z
    return norm(R) ** 2 / 2, np.concatenate([R @ Y, R.T @ X])


def softmax(W: Array, X: Array, labels: Sequence[int], ridge) -> tuple:
    """Value and the gradients of the terms."""
    value, ridge, terms = mp.mpf(ridge) / 2 * norm(W) ** 2, mp.mpf(ridge), []
    for x, label in zip(X, labels, strict=True):
        weights = np.array([mp.exp(z) for z in x @ W], dtype=object)
        p = weights / weights.sum()
        value -= mp.log(p[label]) / len(X)
        terms.append(np.outer(x, p - eye(len(p))[label]) + ridge * W)
    return value, terms


def logistic(w: Array, X: Array, y: Sequence, ridge) -> tuple:
    """Value and the gradients of the terms; w is ``(d, 1)``."""
    value, ridge, terms = mp.mpf(ridge) / 2 * norm(w) ** 2, mp.mpf(ridge), []
    for x, label in zip(X, y, strict=True):
        odds = mp.exp(-label * (x @ w)[0])
        value += mp.log(1 + odds) / len(X)
        terms.append(-label * odds / (1 + odds) * x[:, None] + ridge * w)
    return value, terms


def minimum(function: Callable[[Array], tuple], W: Array):
    """Least value of a convex function by Newton's method, halving steps that do not descend."""
    value, g = _mean(function(W))
    for _ in range(STEPS):
        if norm(g) < VANISHED:
            return value
        units = [unit.reshape(W.shape) for unit in eye(W.size)]
        H = np.array([((_mean(function(W + WIDTH * E))[1] - g) / WIDTH).reshape(-1) for E in units])
        p = -solve((H + H.T) / 2, g.reshape(-1)).reshape(W.shape)
        while norm(p) and function(W + p)[0] > value:
            p = p / 2
        W = W + p
        value, g = _mean(function(W))
    raise AssertionError("no minimum at 50 digits")


def _mean(result: tuple) -> tuple:
    value, terms = result
    return value, sum(terms) / len(terms)


def squared_norm(A: Array):
    """Of data as one matrix, a row per sample: the largest eigenvalue of the Gram matrix."""
    return singular_values(A.reshape(len(A), -1))[0] ** 2


# schedules


def chebyshev_cubic(lower, upper) -> list:
    """From its alternance: ``p(l) = p(u) = 2 - p(e)``, ``e^2 = (l^2 + l u + u^2) / 3``, for ``l < u``."""
    l, u = mp.mpf(lower), mp.mpf(upper)
    e = mp.sqrt((l * l + l * u + u * u) / 3)
    rows = [[x, x**3, sign] for x, sign in ((l, ONE), (e, -ONE), (u, ONE))]
    return list(solve(np.array(rows, dtype=object), exact(np.ones(3))))[:2]


def halley_weights(lower, steps) -> tuple[list, list]:
    """Weights, and the lower ends of the intervals they are for."""
    l, rows, ends = mp.mpf(lower), [], []
    for _ in range(steps):
        d = mp.cbrt(4 * (1 / l**4 - 1 / l**2))
        w = mp.sqrt(1 + d)
        a = w + mp.sqrt(2 - d + (4 / l**2 - 2) / w)
        b = (a - 1) ** 2 / 4
        rows.append([a, b, a + b - 1])
        ends.append(l)
        l = l * (a + b * l * l) / (1 + (a + b - 1) * l * l)
    return rows, ends


def rational(X: Array, rows: Sequence, denominators: Sequence) -> Array:
    """``X (a I + b X^T X) (I + c X^T X)^-1`` for every step."""
    for (a, b), c in zip(rows, denominators, strict=True):
        gram, unit = X.T @ X, eye(X.shape[1])
        X = X @ (mp.mpf(a) * unit + mp.mpf(b) * gram) @ inverse(unit + mp.mpf(c) * gram)
    return X
