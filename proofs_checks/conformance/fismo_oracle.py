"""What FISMO should do on given gradients, and how far rounding may move it.

Symbols: G gradient, P and Q factors, M momentum in whitened coordinates, O its polar factor, U update, u unit
roundoff, K number of patterns, N number of perturbed numbers.

**Budget by propagated perturbations.** Computed in floating point, every stage of Algorithm 1 returns the
exact result for inputs that are off by a few u times their norm (LAPACK's eigendecompositions and singular
value decompositions and all matrix products are backward stable in this sense). So the reference recursion is
run with every input x_j of every stage replaced by ``x_j + eps |x| xi_j``, ``xi_j = +-1`` at random, in K
independent patterns as one batch. To first order an output entry responds by ``sum_j J_j |x| xi_j eps``, and

    max over |xi_j| <= 1 of |sum_j J_j |x| xi_j|  =  sum_j |J_j| |x|  <=  sqrt(N) (sum_j J_j^2 |x|^2)^(1/2),

where the root is the root mean square of the response over random signs: Cauchy-Schwarz bounds the worst
pattern of roundings by the mean one. The budget is ``sqrt(N) * rms / eps * roundings * u``, with the float64
rounding of the reference itself added to u. It knows the conditioning of this trajectory and nothing else.
"""

from types import ModuleType
from typing import Any

import numpy as np

import reference.fismo
from proofs_checks.conformance.bench import Bench
from proofs_checks.conformance.case import Array, Case, Setting
from proofs_checks.decision import DOUBLE, SINGLE
from reference import polar

__all__ = ["oracle", "simulate"]

#: Relative size of the perturbations: responses are linear to 2^-26 and clear of float64 rounding by 2^-27.
EPS = 2.0**-26
#: Patterns of signs: their root mean square is within a quarter of its limit with probability 0.95 per entry.
PATTERNS = 24
#: What the estimate of the root mean square may miss, as a factor.
ESTIMATE = 2.0
#: Roundings per stage and per row or column: two products, an eigen- or singular value decomposition whose
#: backward error is a small multiple of the dimension, a quotient and a store.
ROUNDINGS_PER_SIDE = 4
#: Roundings of the parameter's store: product with lr, sum, conversion.
STORE_ROUNDINGS = 3


def _factor_options(setting: Setting, case: Case) -> dict[str, Any]:
    variant = setting.variant
    names = ("damping", "factor_scaling")
    return {"gamma": case.hp["gamma"], "mu": case.hp["mu"], **{name: variant[name] for name in names}}


def simulate(module: ModuleType, case: Case, setting: Setting) -> tuple[Array, ...]:
    """Updates of `module` (`reference.fismo` or a faulty copy), or parameters if the case has a start."""
    options = {
        name: setting.variant[name] for name in ("damping", "order", "factor_scaling", "orthogonalize")
    }
    W, state = case.start, module.init(case.gradients[0])
    out = []
    for G in case.gradients:
        U, state = module.step(
            G,
            state,
            beta=float(case.hp["beta"]),
            gamma=float(case.hp["gamma"]),
            mu=float(case.hp["mu"]),
            **options,
        )
        W = None if W is None else W - case.hp["lr"] * U
        out.append(U if W is None else W)
    return tuple(out)


class _Perturbed:
    """A batch of copies, each with its own pattern of signs at every stage; counts what it perturbs."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self.count = 0

    def __call__(self, X: Array) -> Array:
        signs = self._rng.integers(0, 2, X.shape) * 2.0 - 1.0
        self.count += X.shape[-2] * X.shape[-1]
        return X + EPS * np.linalg.norm(X, 2, axis=(-2, -1), keepdims=True) * signs

    def symmetric(self, X: Array) -> Array:
        Y = self(X)
        return (Y + Y.mT) / 2


def _responses(setting: Setting, case: Case, rng: np.random.Generator) -> list[Array]:
    """Bound on the response of every entry of U_t to perturbations of relative size 1, t = 1, 2, ..."""
    exact = simulate(reference.fismo, Case(case.hp, case.gradients), setting)
    options, order = _factor_options(setting, case), setting.variant["order"]
    orthogonalize, beta = str(setting.variant["orthogonalize"]), float(case.hp["beta"])
    m, n = case.gradients[0].shape
    perturb, one = _Perturbed(rng), np.ones((PATTERNS, 1, 1))
    P, Q, M = one * np.eye(m), one * np.eye(n), np.zeros((PATTERNS, m, n))
    out = []
    for G, U in zip(case.gradients, exact, strict=True):
        Gs = one * G
        # Two half-steps, each by a Jacobi call, so that P can be perturbed between them; the second call sees
        # the new P (Gauss-Seidel) or the old one (Jacobi) in the place of the old P, and its P is not used.
        P_new, _ = reference.fismo.update_factors(
            perturb(Gs), perturb.symmetric(P), perturb.symmetric(Q), order="jacobi", **options
        )
        seen = P if order == "jacobi" else P_new
        _, Q = reference.fismo.update_factors(
            perturb(Gs), perturb.symmetric(seen), perturb.symmetric(Q), order="jacobi", **options
        )
        P = P_new
        whitened = reference.fismo.whiten(perturb(Gs), perturb.symmetric(P), perturb.symmetric(Q))
        M = beta * perturb(M) + (1 - beta) * perturb(whitened)
        O = polar.orthogonalize(perturb(M), orthogonalize)
        Us = perturb(reference.fismo.whiten(perturb(O), perturb.symmetric(P), perturb.symmetric(Q)))
        rms = np.sqrt(np.square((Us - U) / EPS).mean(axis=0))
        out.append(ESTIMATE * np.sqrt(perturb.count) * rms)
    return out


def oracle(bench: Bench, case: Case) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """Updates of the reference with their entrywise budgets, or parameters if the case has a start.

    The arithmetic of half-precision targets is taken to be float32 unless the variant says
    ``precision=parameter``: LAPACK offers nothing below it.
    """
    m, n = case.gradients[0].shape
    expected = simulate(reference.fismo, case, bench.setting)
    if not any(G.any() for G in case.gradients):
        return expected, tuple(np.zeros_like(U) for U in expected)
    u = min(bench.u, SINGLE) if _float32(bench) else bench.u
    roundings = ROUNDINGS_PER_SIDE * (m + n) * (u + DOUBLE)
    rng = np.random.default_rng(len(case.gradients) * m + n)
    responses = _responses(bench.setting, case, rng)
    lr, drift = case.hp["lr"], np.zeros((m, n))
    allowed = []
    for t, (X, response) in enumerate(zip(expected, responses, strict=True)):
        if case.start is None:
            allowed.append(roundings * response + STORE_ROUNDINGS * bench.u * np.abs(X))
            continue
        before = case.start if t == 0 else expected[t - 1]
        drift = drift + lr * roundings * response + STORE_ROUNDINGS * bench.u * (np.abs(before) + np.abs(X))
        allowed.append(drift)
    return expected, tuple(allowed)


def _float32(bench: Bench) -> bool:
    return bench.setting.variant["precision"] == "float32"
