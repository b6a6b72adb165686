"""Twins of `reference.kronecker`.

Budgets are first-order forward errors: a backward-stable method with side d leaves a relative error of order
``d u`` in a product and ``d u kappa`` in an inverse. They are of the right order, not sharp, so they carry
the threshold `ORDER_ONE`.
"""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import numpy as np
from torch import Tensor

import reference.kronecker
import torch_impl.kronecker
from proofs_checks.decision import Array, Ratio
from proofs_checks.twins.case import DETECTABLE, Precision, Twin, array, condition, distance, exact, spd_pair

__all__ = ["TWINS"]

#: Damping of every comparison, next to gradients of entries below 1.
MU = 0.25

#: Samples made from one matrix.
SAMPLES = 3

#: Sweeps after which the alternation is compared: early ones show the order of updates, late ones the limit.
SWEEPS = (1, 4)

#: Tolerance that no distance meets, so that exactly the stated number of sweeps is made.
NEVER = float(np.finfo(np.float64).tiny)

#: Tolerance of the limits: what is left is in the error bounds, which the comparison reads.
NEAR_LIMIT = 2.0**-30


class _Problem(NamedTuple):
    """Samples and factors made from one matrix, exactly representable in the format."""

    G: Array
    P: Array
    Q: Array
    error: float  # d u (kappa(P) + kappa(Q)): relative error of whatever inverts the factors


def _problem(M: Array, p: Precision) -> _Problem | None:
    """None for an empty matrix, of which there are no samples."""
    if 0 in M.shape:
        return None
    rng = np.random.default_rng(M.shape)
    turned = M[::-1, ::-1]
    G = p.rounded(np.stack([M, turned, rng.uniform(-1.0, 1.0, M.shape)])[:SAMPLES])
    P, Q = spd_pair(M, p)
    return _Problem(G, P, Q, sum(M.shape) * p.both * (condition(P) + condition(Q)))


def _factor(M: Array, p: Precision, side: str) -> Iterator[tuple[str, Ratio]]:
    problem = _problem(M, p)
    if problem is None:
        return
    given = problem.Q if side == "left" else problem.P
    name = f"{side}_factor"
    for mu in (0.0, MU):
        computed = getattr(torch_impl.kronecker, name)(p.tensor(problem.G), p.tensor(given), mu=mu)
        expected = getattr(reference.kronecker, name)(problem.G, given, mu=mu)
        size = float(np.linalg.norm(getattr(reference.kronecker, name)(problem.G, given, mu=MU)))
        yield f"mu={mu:g}", distance("forward error", computed, expected, budget=problem.error * size)


def _left_factor(M: Array, p: Precision) -> Iterator[tuple[str, Ratio]]:
    yield from _factor(M, p, "left")


def _right_factor(M: Array, p: Precision) -> Iterator[tuple[str, Ratio]]:
    yield from _factor(M, p, "right")


def _inverse_sqrt(M: Array, p: Precision) -> Iterator[tuple[str, Ratio]]:
    """A relative perturbation e of P moves the root by at most ``e kappa / 2`` of its size."""
    for label, P in zip("PQ", spd_pair(M, p), strict=True):
        computed = torch_impl.kronecker.inverse_sqrt(p.tensor(P))
        expected = reference.kronecker.inverse_sqrt(P)
        budget = len(P) * p.both * condition(P) * float(np.linalg.norm(expected))
        yield label, distance("forward error", computed, expected, budget=budget)


def _objective(M: Array, p: Precision) -> Iterator[tuple[str, Ratio]]:
    problem = _problem(M, p)
    if problem is None:
        return
    computed = torch_impl.kronecker.objective(
        *(p.tensor(x) for x in (problem.G, problem.P, problem.Q)), mu=MU
    )
    expected = reference.kronecker.objective(problem.G, problem.P, problem.Q, mu=MU)
    logs = [np.abs(np.log(np.linalg.eigvalsh(X))).sum() for X in (problem.P, problem.Q)]
    m, n = M.shape
    traces = float(expected) - n * np.linalg.slogdet(problem.P)[1] - m * np.linalg.slogdet(problem.Q)[1]
    budget = problem.error * (traces + n * logs[0] + m * logs[1] + m * n)
    yield "", distance("forward error", computed.reshape(1), np.atleast_1d(expected), budget=float(budget))


def _relative_spectrum(X: Array, Y: Array) -> Array:
    """Eigenvalues of ``Y^-1 X``."""
    return np.linalg.eigvals(np.linalg.solve(Y, X)).real


def _pairs(M: Array, p: Precision) -> Iterator[tuple[str, Array, Array]]:
    """Pairs of positive definite matrices: unlike ones, and ones so near that definitions cancel."""
    for label, X in zip("PQ", spd_pair(M, p), strict=True):
        if X.size:
            yield f"{label} and I", X, np.eye(len(X))
            yield f"{label} and near {label}", X, p.rounded(X + np.eye(len(X)) / 64)


def _logdet_divergence(M: Array, p: Precision) -> Iterator[tuple[str, Ratio]]:
    """Eigenvalues w with relative errors e move ``w - 1 - log w`` by ``e |w - 1| + e^2``."""
    for label, X, Y in _pairs(M, p):
        w = _relative_spectrum(X, Y)
        e = len(X) * p.both * (condition(X) + condition(Y))
        computed = torch_impl.kronecker.logdet_divergence(p.tensor(X), p.tensor(Y)).reshape(1)
        expected = np.atleast_1d(reference.kronecker.logdet_divergence(X, Y))
        budget = e * float(np.abs(w - 1).sum() + expected[0] + len(X) * e)
        yield label, distance("forward error", computed, expected, budget=budget)


def _hilbert_distance(M: Array, p: Precision) -> Iterator[tuple[str, Ratio]]:
    """Eigenvalues with relative errors e move the logarithm of their ratio by 2 e."""
    for label, X, Y in _pairs(M, p):
        e = len(X) * p.both * (condition(X) + condition(Y))
        computed = torch_impl.kronecker.hilbert_distance(p.tensor(X), p.tensor(Y)).reshape(1)
        expected = np.atleast_1d(reference.kronecker.hilbert_distance(X, Y))
        yield label, distance("forward error", computed, expected, budget=2 * e)


def _coupling_bound(M: Array, p: Precision) -> Iterator[tuple[str, Ratio]]:
    problem = _problem(M, p)
    if problem is None:
        return
    computed = torch_impl.kronecker.coupling_bound(p.tensor(problem.G)).reshape(1)
    expected = np.atleast_1d(reference.kronecker.coupling_bound(problem.G))
    yield "", distance("forward error", computed, expected, budget=_norm_error(M, p) * float(expected[0]))


def _contraction_factor(M: Array, p: Precision) -> Iterator[tuple[str, Ratio]]:
    """``g / (g + 2 mu)`` moves relatively less than g."""
    problem = _problem(M, p)
    if problem is None:
        return
    for mu in (0.0, MU):
        computed = torch_impl.kronecker.contraction_factor(p.tensor(problem.G), mu=mu).reshape(1)
        expected = np.atleast_1d(reference.kronecker.contraction_factor(problem.G, mu=mu))
        budget = _norm_error(M, p) * float(expected[0])
        yield f"mu={mu:g}", distance("forward error", computed, expected, budget=budget)


def _norm_error(M: Array, p: Precision) -> float:
    """Relative error of the largest singular value of the samples, unfolded, and of its square."""
    return (SAMPLES + sum(M.shape)) * p.both


def _fixed_point(M: Array, p: Precision) -> Iterator[tuple[str, Ratio]]:
    """After a stated number of sweeps, and at the limit with its error bound."""
    problem = _problem(M, p)
    if problem is None:
        return
    G, start = problem.G, {"P0": problem.P, "Q0": problem.Q}
    X, given = p.tensor(G), {name: p.tensor(x) for name, x in start.items()}
    for method, damping in product(("gauss-seidel", "jacobi"), ("theorem", "algorithm")):
        for sweeps in SWEEPS:
            options = {"mu": MU, "method": method, "damping": damping, "tolerance": NEVER}
            computed = torch_impl.kronecker.fixed_point(X, **given, **options, max_iterations=sweeps)  # type: ignore[arg-type]
            expected = reference.kronecker.fixed_point(G, **start, **options, max_iterations=sweeps)  # type: ignore[arg-type]
            for name, got, want in zip("PQ", computed[:2], expected[:2], strict=True):
                budget = sweeps * _sweep_error(expected, problem, p) * float(np.linalg.norm(want))
                label = f"{method}, {damping}, {sweeps} sweeps, {name}"
                yield label, distance("forward error", got, want, budget=budget)
        if damping == "theorem":
            yield f"{method}, limit", _limit_distance(G, X, method, problem, p)


def _limit_distance(G: Array, X: Tensor, method: str, problem: _Problem, p: Precision) -> Ratio:
    """Distance of the limits, scale included, over both error bounds and the rounding of the contraction.

    Q is one half-step away from P, which is within ``error_bound / c`` of its limit in Hilbert's metric.
    """
    options = {"mu": MU, "method": method, "tolerance": NEAR_LIMIT}
    computed = torch_impl.kronecker.fixed_point(X, **options)  # type: ignore[arg-type]
    expected = reference.kronecker.fixed_point(G, **options)  # type: ignore[arg-type]
    c = float(reference.kronecker.contraction_factor(G, mu=MU))
    bound = (float(computed.error_bound) + float(expected.error_bound)) / (c or 1.0)
    rounding = _sweep_error(expected, problem, p) / (1 - c**2)
    size = float(np.linalg.norm(expected.Q))
    return distance("error bound", computed.Q, expected.Q, budget=(bound + rounding) * size)


def _sweep_error(point: reference.kronecker.FixedPoint, problem: _Problem, p: Precision) -> float:
    """Relative error that one sweep adds, or hands on: each half-step inverts the other factor."""
    return problem.error + sum(p.both * len(X) * condition(X) for X in (point.P, point.Q))


def _fisher_lmo(M: Array, p: Precision) -> Iterator[tuple[str, Ratio]]:
    """``A Polar(X) C`` with ``X = A M C``: an error e of X moves its polar factor by ``|e| / s_r``."""
    P, Q = spd_pair(M, p)
    radius = 0.5
    computed = torch_impl.kronecker.fisher_lmo(p.tensor(M), p.tensor(P), p.tensor(Q), radius=radius)
    expected = reference.kronecker.fisher_lmo(M, P, Q, radius=radius)
    if not M.any():
        yield "zero", exact("zero to zero", computed, np.zeros(M.shape))
        return
    A, C = reference.kronecker.inverse_sqrt(P), reference.kronecker.inverse_sqrt(Q)
    size = float(np.linalg.norm(A, 2) * np.linalg.norm(C, 2))
    e = sum(M.shape) * p.both * (condition(P) + condition(Q))
    s = np.linalg.svd(A @ M @ C, compute_uv=False)
    moved = e * size * float(np.linalg.norm(M))
    values = [np.atleast_1d((X * M).sum()) for X in (array(computed), expected)]
    yield "value", distance("dual norm", *values, budget=2 * radius * len(s) ** 0.5 * moved)
    budget = radius * size * (moved / float(s[-1]) + e * len(s) ** 0.5) if s[-1] > 0 else np.inf
    if budget <= DETECTABLE * float(np.linalg.norm(expected)):
        yield "step", distance("forward error", computed, expected, budget=budget)


TWINS = (
    Twin("kronecker.left_factor", _left_factor),
    Twin("kronecker.right_factor", _right_factor),
    Twin("kronecker.inverse_sqrt", _inverse_sqrt),
    Twin("kronecker.objective", _objective),
    Twin("kronecker.logdet_divergence", _logdet_divergence),
    Twin("kronecker.hilbert_distance", _hilbert_distance),
    Twin("kronecker.coupling_bound", _coupling_bound),
    Twin("kronecker.contraction_factor", _contraction_factor),
    Twin("kronecker.fixed_point", _fixed_point),
    Twin("kronecker.fisher_lmo", _fisher_lmo),
)
