"""What Muon should do on given gradients, and how far rounding may move it.

Symbols: G gradient, V momentum, B = V or its Nesterov form (what is orthogonalised), X the normalised start,
x its entries or singular values, a the shape factor, u and v unit roundoffs of parameters and iteration.

The momentum comes from `reference.muon`, the iteration from exact singular values. Two budgets:

- *Monomial* gradients (at most one non-zero entry per row and column, the same places at every step) never
  mix directions, so every entry follows a scalar recursion and its budget is entrywise. Small singular values
  then carry a small *relative* error even in bfloat16: five steps multiply a tiny x by 3.4445^5, which turns
  the iteration into a read-out of the momentum that a normwise budget of that precision could not resolve.
- Otherwise the Frobenius budget of `proofs_checks.budgets.iteration_budget`, with the error of its input
  multiplied by the amplification that it reports.
"""

import functools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

import reference.muon
from proofs_checks.budgets import IterationBudget, RoundingModel, iteration_budget
from proofs_checks.conformance.bench import Bench
from proofs_checks.conformance.case import Array, Case, Setting
from proofs_checks.decision import SINGLE
from proofs_checks.polynomials import Polynomial
from reference.polar import JORDAN_QUINTIC

__all__ = ["coefficients", "direction", "golden_direction", "momentum", "oracle", "scale_factor"]

#: Roundings of one update ``V <- beta V + (1 - beta) G``: two products, one sum; as many for Nesterov.
MOMENTUM_ROUNDINGS = 3
#: Roundings of the parameter update: product with a and lr (2), the decayed parameter (2), the sum (1).
STORE_ROUNDINGS = 5
#: Budget of what the inputs do not determine, such as the direction of a momentum that is all rounding.
UNDETERMINED = float(np.finfo(np.float64).max)


def coefficients(setting: Setting, case: Case) -> tuple[Polynomial, ...]:
    """The polynomial of every step of the iteration."""
    named = setting.variant["coefficients"]
    assert isinstance(named, Sequence)
    return (tuple(float(c) for c in named),) * int(case.hp["ns_steps"])


def scale_factor(shape: tuple[int, ...], scale: Any) -> float:
    """a, from the reference: its update with the identity for an orthogonalisation, over its input."""
    ones = np.ones(shape)
    update, _ = reference.muon.step(
        ones, reference.muon.init(ones), beta=0.0, nesterov=False, scale=scale, orthogonalize=np.copy
    )
    return float(update[0, 0])


def momentum(case: Case) -> list[Array]:
    """B_1, B_2, ...: what is orthogonalised at every step, from the reference."""
    state, out = reference.muon.init(case.gradients[0]), []
    for G in case.gradients:
        B, state = reference.muon.step(
            G,
            state,
            beta=float(case.hp["momentum"]),
            nesterov=bool(case.hp["nesterov"]),
            momentum="ema",
            scale="none",
            orthogonalize=np.copy,
        )
        out.append(B)
    return out


def _momentum_errors(case: Case, u: float, smallest: float) -> list[Array]:
    """Entrywise bounds on the rounding error of B_t: roundings so far times the sum of absolute terms.

    Below the normal numbers a rounding is absolute, half of the smallest number at most.
    """
    absolute = Case(case.hp, tuple(np.abs(G) for G in case.gradients))
    if not case.hp["momentum"]:
        return [np.zeros_like(G) for G in case.gradients]
    sizes = momentum(absolute)
    return [MOMENTUM_ROUNDINGS * (t + 1) * (u * B + smallest / 2) for t, B in enumerate(sizes, start=1)]


def direction(
    B: Array, polynomials: tuple[Polynomial, ...], *, u: float, eps: float, error: Array, entrywise: bool
) -> tuple[Array, Array]:
    """``NS(B)`` and its budget, for B with an entrywise error; the divisor is max(|B|_F, eps) or |B|_F + eps.

    A relative error of the start grows by the amplification of the iteration, to first order: where it is not
    small, nothing is determined.
    """
    norm, blur = float(np.linalg.norm(B)), float(np.linalg.norm(error))
    if not blur < norm:
        return np.zeros_like(B), np.full_like(B, UNDETERMINED if blur else 0.0)
    blur = (blur + eps) / norm
    if not entrywise:
        budget = _dense(B, norm, polynomials, u=u, eps=eps)
        return budget.exact, np.asarray(budget.total + budget.amplification * blur)
    blur += min(B.shape) * min(u, SINGLE)  # the sum of squares of the diagonal
    O, E = np.zeros_like(B), np.zeros_like(B)
    for at in zip(*np.nonzero((B != 0) | (error > 0)), strict=True):
        O[at], rounding, amplification = _scalar(float(B[at]) / max(norm, eps), polynomials, u)
        E[at] = rounding + amplification * (abs(float(B[at])) / norm * blur + float(error[at]) / norm)
    return O, E


def _dense(
    B: Array, norm: float, polynomials: tuple[Polynomial, ...], *, u: float, eps: float
) -> IterationBudget:
    """The iteration on a matrix, remembered for it and its multiples by powers of two."""
    if norm < eps:
        return iteration_budget(B, polynomials, u=u, floor=eps, model=_model(u))
    X = np.ldexp(B, -math.frexp(norm)[1])
    return _remembered(X.tobytes(), X.shape, polynomials, u)


@functools.lru_cache(maxsize=1024)
def _remembered(
    data: bytes, shape: tuple[int, ...], polynomials: tuple[Polynomial, ...], u: float
) -> IterationBudget:
    return iteration_budget(np.frombuffer(data).reshape(shape), polynomials, u=u, model=_model(u))


@functools.lru_cache(maxsize=4096)
def _scalar(x: float, polynomials: tuple[Polynomial, ...], u: float) -> tuple[float, float, float]:
    """The iteration on one entry, which is the iteration on a 1x1 matrix: value, budget, amplification."""
    budget = iteration_budget(np.array([[x]]), polynomials, u=u, normalize=False, model=_model(u))
    return float(budget.exact[0, 0]), budget.total, budget.amplification


def _model(u: float) -> RoundingModel:
    """How roundings add up: at worst, or, in half precision, as independent ones (four standard deviations).

    The worst case of a half-precision iteration leaves the basin of the polynomial and says nothing.
    """
    return "independent" if u > SINGLE else "worst"


def _monomial(gradients: tuple[Array, ...]) -> bool:
    """Whether no two entries that are ever non-zero share a row or a column."""
    places = np.sum([np.abs(G) for G in gradients], axis=0) > 0
    return bool((places.sum(axis=0) <= 1).all() and (places.sum(axis=1) <= 1).all())


def oracle(bench: Bench, case: Case) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """Updates of the reference with their budgets, or parameters if the case has a start.

    An update is ``U_t = a NS(B_t)``; with a start, ``W_t = (1 - lr wd) W_{t-1} - lr U_t``.
    """
    variant, lr, decay = bench.setting.variant, case.hp["lr"], case.hp["weight_decay"]
    a = scale_factor(case.gradients[0].shape, variant["scale"])
    polynomials, entrywise = coefficients(bench.setting, case), _monomial(case.gradients)
    eps = variant["eps"]
    assert isinstance(eps, float)
    W = case.start
    drift: Array = np.zeros(())
    expected, allowed = [], []
    for B, error in zip(momentum(case), _momentum_errors(case, bench.u, bench.smallest), strict=True):
        O, E = direction(B, polynomials, u=bench.working_u, eps=eps, error=error, entrywise=entrywise)
        size = np.abs(O) if entrywise else np.asarray(np.linalg.norm(O))
        U, E = a * O, a * (E + STORE_ROUNDINGS * bench.u * size)
        if W is not None:
            held = np.abs(W) if entrywise else np.asarray(np.linalg.norm(W))
            drift = abs(1 - lr * decay) * drift + lr * E + STORE_ROUNDINGS * bench.u * held
            W = (1 - lr * decay) * W - lr * U
        expected.append(U if W is None else W)
        allowed.append(E if W is None else drift)
    return tuple(expected), tuple(allowed)


def golden_direction(B: Sequence[int]) -> list[float]:
    """Five Jordan steps on ``diag(B) / |B|_F`` in exact rational arithmetic, rounded once at the end.

    ``x_k = x_0 q(x_0^2) q(x_1^2) ...`` where every square is rational; only ``x_0`` needs a square root.
    """
    a, b, c = (Fraction(str(value)) for value in JORDAN_QUINTIC)
    total = sum(value * value for value in B)
    out = []
    for value in B:
        square, product = Fraction(value * value, total), Fraction(1)
        for _ in range(5):
            q = a + b * square + c * square * square
            product, square = product * q, square * q * q
        out.append(float(product) * value / math.sqrt(total))
    return out
