"""Rounding budget of a truncated Newton-Schulz iteration, from the singular values of its input alone.

Symbols: X iterate, short side m, long side n, G = X X^T, x its singular values; one step is
p(x) = sum_j c_j x^(2j+1), that is X <- q(G) X with q(g) = sum_j c_j g^j; u unit roundoff of stored matrices,
v unit roundoff of the accumulation inside a matrix product.

The budget is a telescoping sum: step k leaves a rounding error E_k in X_k, and the remaining steps make of it
at most ``|E_k|_F`` times the norm of the Frechet derivative of their composition. For an odd matrix function
that norm is the largest divided difference over pairs of singular values with either sign, and zero too if X
is rectangular (Daleckii-Krein for the symmetric matrix [[0, X], [X^T, 0]]). By the mean value theorem the
derivative is wanted at every matrix between the computed iterate and its error-free image, so it is evaluated
over a neighbourhood of each singular value; the first-order budget, at the exact ones, is kept beside it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from proofs_checks.decision import DOUBLE, SINGLE, Array, largest, measured_svd, quiet
from proofs_checks.polynomials import Polynomial, divided, divided_composition, image, step_sequence

__all__ = ["IterationBudget", "RoundingModel", "iteration_budget"]

RoundingModel = Literal["worst", "independent"]

#: Exponent of the risk in the model of independent roundings: its budget is exceeded with probability at most
#: exp(-8) = 3.4e-4.
RISK = 8.0

#: Variance of a rounding error that is uniform on [-1, 1].
UNIFORM = 1.0 / 3.0


@dataclass(frozen=True)
class IterationBudget:
    """What an iteration should give, and how far rounding may move it.

    Attributes
    ----------
    exact : (m, n) float64
        The polynomial of the exact singular values of M between its exact singular vectors.
    total : float
        The budget, in the Frobenius norm.
    first_order : float
        The same sum with every amplification taken at the exact singular values.
    amplification : float
        Largest divided difference of the whole composition: the growth of an error of the input.
    saturated : bool
        Whether `total` is the bound ``|computed|_F + |exact|_F`` because the telescoping sum was larger:
        such a budget tells gross faults only.
    """

    exact: Array
    total: float
    first_order: float
    amplification: float
    saturated: bool


@dataclass(frozen=True)
class _Setting:
    """Sides of the matrix, unit roundoffs u and v, and how roundings add up."""

    m: int
    n: int
    u: float
    v: float
    model: RoundingModel

    def product(self, inner: int) -> float:
        """Accumulation error of a product A B of inner length k, in units of ``|A|_2 |B|_F``.

        At most k (sums) + sqrt(k) (products, where they are not fused) times v: every partial sum, in any
        order of summation, is a product of submatrices. Independent roundings add to sqrt(2 k).
        """
        return self.v * (inner + math.sqrt(inner) if self.model == "worst" else math.sqrt(2 * inner))

    def passed_on(self, factors: Array) -> float:
        """What becomes of an error that is multiplied entry by entry: its largest, or its typical growth."""
        if self.model == "worst" or not factors.size:
            return largest(factors)
        return float(np.sqrt(np.mean(factors**2)))


class _Errors(NamedTuple):
    """Frobenius bounds of the errors one step adds to X.

    `wide` ones are spread over all of X. `inner` ones are errors of an m by m matrix times X and stay in the
    row space of X, the first m of n singular coordinates. `scale` multiplies X by 1 + scale.
    """

    wide: list[float]
    inner: list[float]
    scale: float = 0.0

    def variance(self) -> float:
        """Of the sum of independent errors, each uniform within its bound."""
        return UNIFORM * sum(bound**2 for bound in self.wide + self.inner)


@quiet
def iteration_budget(
    M: Array,
    polynomials: Polynomial | Sequence[Polynomial],
    *,
    u: float,
    u_accumulate: float | None = None,
    steps: int | None = None,
    normalize: bool = True,
    floor: float = 0.0,
    shift: float = 0.0,
    model: RoundingModel = "worst",
) -> IterationBudget:
    """Exact result and rounding budget of ``X <- p_k(X X^T) X`` from ``X = M / max(|M|_F + shift, floor)``.

    Parameters
    ----------
    M : (m, n) float64
        The input before it is rounded to the working precision. Not modified.
    polynomials, steps
        As in `proofs_checks.polynomials.step_sequence`.
    u : float
        Unit roundoff of every stored matrix, the input included.
    u_accumulate : float, optional
        Unit roundoff inside matrix products; by default `u`, but float32's for the half precisions.
    normalize, floor, shift
        Start from M itself if `normalize` is false; otherwise the divisor is ``max(|M|_F + shift, floor)``.
    model : {"worst", "independent"}
        "worst" adds the bounds of all roundings, whatever their signs: nothing correct exceeds it, but in the
        half precisions it reaches the size of the result and sees gross faults only. "independent" takes the
        roundings of all entries and operations for independent, centred and spread evenly over singular
        directions. It is several times narrower and meant for inputs with unrelated entries (drawn at
        random), not for repeated rows, signs or identity-like matrices, whose entries all round alike.

    Notes
    -----
    A neighbourhood of a singular value is its image under the last step, widened by the probable spectral
    size of that step's rounding errors: 2/sqrt(m) of the Frobenius size, as for independent entries.
    Widening by worst-case sizes would make the budget a certificate, but leaves the basin of the iteration in
    bfloat16, where nothing could then be said.

    In the independent model the final error has uncorrelated entries of variances w in singular coordinates,
    and its squared Frobenius norm exceeds ``sum w + 2 sqrt(t sum w^2) + 2 t max w`` with probability at most
    exp(-t) (Hsu, Kakade and Zhang, 2012, for sub-Gaussian vectors).
    """
    sequence = step_sequence(polynomials, steps=steps)
    v = min(u, SINGLE) if u_accumulate is None else u_accumulate
    m, n = sorted(M.shape)
    judged = _Setting(m, n, u + DOUBLE, v + DOUBLE, model)  # the exact values are computed, too
    typical = _Setting(m, n, u + DOUBLE, v + DOUBLE, "independent")
    U, x, Vt, truth = _normalised_svd(M, normalize=normalize, floor=floor, shift=shift)

    births = [_input_errors(x, judged, truth=truth)]
    linear = births.copy()
    around = [_widened(np.stack([x, x, x]), _spectral_size(births[0], m))]
    for p in sequence:
        N = around[-1]
        births.append(_step_errors(p, N, judged))
        linear.append(_step_errors(p, N[1:2], judged))
        around.append(_widened(image(p, N), _spectral_size(_step_errors(p, N, typical), m)))

    rests = [sequence[k:] for k in range(len(sequence) + 1)]
    growth = [_growth(rest, N, judged) for rest, N in zip(rests, around, strict=True)]
    at_exact = [_growth(rest, N[1:2], judged) for rest, N in zip(rests, around, strict=True)]
    y = around[-1][1]
    size = float(np.linalg.norm(y))
    telescoped = _combined(births, growth, x, judged) + truth * size
    ceiling = _frobenius(around[-1]) + size
    saturated = not telescoped <= ceiling
    return IterationBudget(
        exact=(U * y) @ Vt,
        total=ceiling if saturated else telescoped,
        first_order=_combined(linear, at_exact, x, judged) + truth * size,
        amplification=largest(at_exact[0]),
        saturated=saturated,
    )


def _normalised_svd(
    M: Array, *, normalize: bool, floor: float, shift: float
) -> tuple[Array, Array, Array, float]:
    """Thin SVD of the start of the iteration, and its relative error; safe for entries of any size."""
    peak = largest(M)
    unit = math.ldexp(1.0, math.frexp(peak)[1] - 1) if peak else 1.0
    U, s, Vt, error = measured_svd(M / unit)
    if not normalize:
        return U, s * unit, Vt, error
    divisor = max(float(np.linalg.norm(s)) + shift / unit, floor / unit)
    return U, s / (divisor or 1.0), Vt, error


def _input_errors(x: Array, judged: _Setting, *, truth: float) -> _Errors:
    """Bounds of the errors of the start.

    M stored and the quotient stored (u each), the relative error `truth` of the judge's own SVD; the norm
    stored (u) after a sum of squares (sqrt(mn) roundings that do not cancel, halved by the root).
    """
    size = float(np.linalg.norm(x))
    norm = judged.u + 0.5 * math.sqrt(judged.m * judged.n) * judged.v
    return _Errors(wide=[size * judged.u, size * judged.u, size * truth], inner=[], scale=norm)


def _step_errors(p: Polynomial, N: Array, judged: _Setting) -> _Errors:
    """Bounds of the rounding errors one step adds, operation by operation.

    `N` holds points around each singular value, (points, m); every size is the largest over them. Stored:
    each monomial c_j G^j X scaled once (u), powers of G and G itself once, 2d - 1 partial sums or products
    on the way and two of the size of the result; this covers (b G + c G^2) X + a X, Horner's rule and
    a X + b G X + c G (G X). Matrix products accumulate errors besides, see `_Setting.product`.
    """
    u, d = judged.u, len(p) - 1
    g = N * N
    powers = [g**j for j in range(d + 1)]
    monomials = [c * power * N for c, power in zip(p, powers, strict=True)]
    scaled = [u * _frobenius(term) for term in monomials]
    if not d:
        return _Errors(wide=scaled, inner=[])
    sums = [sum(monomials[:j]) for j in range(1, d + 1)] + [sum(monomials[j:]) for j in range(1, d + 1)]
    partial = u * max(_frobenius(np.asarray(s)) for s in sums)
    result = u * _frobenius(np.sum(monomials, axis=0))
    factor = largest(np.sum([c * power for c, power in zip(p[1:], powers[1:], strict=True)], axis=0))
    last = judged.product(judged.m) * (factor + abs(p[0])) * _frobenius(N)
    wide = [scaled[0], *[partial] * d, result, result, last]

    # An error of the stored G passes through q on both sides of it, and then meets X.
    flat = g.reshape(-1)
    slope = judged.passed_on(divided(p, flat[:, None], flat[None, :], odd=False) * N.reshape(-1))
    gram = [u * _frobenius(g), judged.product(judged.n) * largest(N) * _frobenius(N)]
    inner = [*scaled[1:], *[partial] * (d - 1), *(slope * error for error in gram)]
    for j in range(2, d + 1):
        rest = judged.passed_on(np.sum([p[i] * powers[i - j] for i in range(j, d + 1)], axis=0) * N)
        power = [u * _frobenius(powers[j]), judged.product(judged.m) * largest(g) * _frobenius(powers[j - 1])]
        inner += [rest * error for error in power]
    return _Errors(wide, inner)


def _spectral_size(errors: _Errors, m: int) -> float:
    """Probable spectral norm of a random error: ``|E|_2 <= (sqrt(m) + sqrt(n)) |E|_F / sqrt(mn)``."""
    return min(1.0, 2.0 / math.sqrt(max(m, 1))) * math.sqrt(errors.variance()) + errors.scale


def _frobenius(values: Array) -> float:
    """Frobenius norm of a matrix function: over singular values, the largest over the points around each."""
    return float(np.linalg.norm(np.abs(values).max(axis=0)))


def _widened(N: Array, radius: float) -> Array:
    """Intervals widened by `radius`, but nowhere further from the centre than the largest singular value.

    An error of that size has destroyed the iterate; the budget is then saturated, and stays finite.
    """
    limit = largest(N[1])
    return N[1] + np.clip(N - N[1] + radius * np.array([[-1.0], [0.0], [1.0]]), -limit, limit)


def _growth(sequence: Sequence[Polynomial], N: Array, judged: _Setting) -> Array:
    """Factors by which a composition multiplies the mn singular coordinates of an error.

    The symmetric part of coordinates (i, j) and (j, i) is multiplied by the divided difference f[a_i, a_j],
    the antisymmetric part by f[a_i, -a_j], a coordinate outside the square block by f[a_i, 0]; each is the
    largest over the points in `N`. Order: m diagonal ones, the others of the block, those outside it.
    """
    m, points = judged.m, N.reshape(-1)
    pairs = divided_composition(sequence, points[:, None], np.concatenate([points, -points, [0.0]])[None, :])
    size = np.abs(pairs).reshape(len(N), m, pairs.shape[1]).max(axis=0)
    same, opposite = (half.reshape(m, len(N), m).max(axis=1) for half in np.split(size[:, :-1], 2, axis=1))
    above = np.triu_indices(m, 1)
    outside = np.repeat(size[:, -1], judged.n - m)
    return np.concatenate([same.diagonal(), same[above], opposite[above], outside])


def _combined(births: Sequence[_Errors], growth: Sequence[Array], x: Array, judged: _Setting) -> float:
    """Frobenius bound of all errors at the end of the iteration; see `iteration_budget`."""
    m, n = judged.m, judged.n
    scale = births[0].scale * float(np.linalg.norm(growth[0][:m] * x))
    if judged.model == "worst":
        return scale + sum(sum(e.wide + e.inner) * largest(D) for e, D in zip(births, growth, strict=True))
    w = np.zeros(m * n)
    for errors, D in zip(births, growth, strict=True):
        w += UNIFORM / max(m * n, 1) * float(np.square(errors.wide).sum()) * D**2
        w[: m * m] += UNIFORM / max(m * m, 1) * float(np.square(errors.inner).sum()) * D[: m * m] ** 2
    random = float(w.sum()) + 2.0 * math.sqrt(RISK * float(w @ w)) + 2.0 * RISK * largest(w)
    return scale + math.sqrt(random)
