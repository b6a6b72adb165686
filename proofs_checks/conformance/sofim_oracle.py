"""What SOFIM should do on given gradients, and how far rounding may move it.

Symbols: g gradient, M momentum, M_hat its bias-corrected value, nu = |M_hat|^2, U update, u unit roundoff.
All arrays are taken as one flat vector, whatever their shape.
"""

from types import ModuleType

import numpy as np

import reference.sofim
from proofs_checks.conformance.bench import Bench
from proofs_checks.conformance.case import Array, Case, Setting
from proofs_checks.decision import DOUBLE, SINGLE

__all__ = ["oracle", "simulate"]

#: Roundings of one momentum update and of the bias correction: two products, a sum, a quotient.
MOMENTUM_ROUNDINGS = 4
#: Roundings of the division: the sum with rho, the quotient, and nu squared and stored once per parameter.
DIRECTION_ROUNDINGS = 4
#: Roundings of the store: product with lr, sum, conversion.
STORE_ROUNDINGS = 3


def simulate(module: ModuleType, case: Case, setting: Setting) -> tuple[Array, ...]:
    """Updates of `module` (`reference.sofim` or a faulty copy), or parameters if the case has a start.

    A faulty copy that sets ``PER_PARAMETER`` treats every parameter as a vector of its own.
    """
    if case.split and getattr(module, "PER_PARAMETER", False):
        ends = np.cumsum(case.split[:-1], dtype=int)
        parts = zip(*(np.split(G, ends) for G in case.gradients), strict=True)
        runs = [simulate(module, Case(case.hp, steps), setting) for steps in parts]
        return tuple(np.concatenate(step) for step in zip(*runs, strict=True))
    shape = case.gradients[0].shape
    w, state = case.start, module.init(case.gradients[0].ravel())
    out = []
    for G in case.gradients:
        U, state = module.step(G.ravel(), state, beta=float(case.hp["beta"]), rho=float(case.hp["rho"]))
        w = None if w is None else w - case.hp["lr"] * U.reshape(shape)
        out.append(U.reshape(shape) if w is None else w)
    return tuple(out)


def oracle(bench: Bench, case: Case) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """Updates of the reference with their entrywise budgets, or parameters if the case has a start.

    M_hat is a sum of t terms with at most ``k = MOMENTUM_ROUNDINGS t`` roundings each: its error is at most
    k u times the sum of absolute terms. nu inherits ``2 <|M_hat|, error>`` and rounds by d u in its sum of d
    squares; the quotient inherits both. The two-term form subtracts ``M_hat / rho`` from itself up to
    ``1 / (1 + s)``, ``s = nu / rho``: its relative error is ``1 + s`` times larger (sofim.md section 4).
    """
    u = bench.working_u + DOUBLE
    scalar_u = min(u, SINGLE)  # beta^t is a scalar, in float32 at worst
    beta, rho, lr = float(case.hp["beta"]), float(case.hp["rho"]), case.hp["lr"]
    expected = simulate(reference.sofim, case, bench.setting)
    M, absolute = (np.zeros_like(case.gradients[0]) for _ in range(2))
    drift = np.zeros_like(M)
    allowed = []
    for t, (G, X) in enumerate(zip(case.gradients, expected, strict=True), start=1):
        M, absolute = beta * M + (1 - beta) * G, beta * absolute + (1 - beta) * np.abs(G)
        M_hat, size = M / (1 - beta**t), absolute / (1 - beta**t)
        correction = scalar_u * t * beta**t / (1 - beta**t)
        error = (MOMENTUM_ROUNDINGS * t * u + correction) * size
        # Without overflow: lengths in units of the larger of sqrt(rho) and |M_hat|.
        peak = max(float(np.abs(size).max(initial=0.0)), rho**0.5)
        a, e, r = size / peak, error / peak, rho / peak**2
        nu = float(np.square(M_hat / peak).sum())
        summed = (M.size + DIRECTION_ROUNDINGS) * u * nu + 2 * float((a * e).sum())
        relative = summed / (r + nu) + DIRECTION_ROUNDINGS * u
        scale = 1 + nu / r if bench.setting.variant["form"] == "two-term" else 1.0
        budget = (e / (r + nu) + np.abs(M_hat / peak) / (r + nu) * relative * scale) / peak
        U = np.abs(M_hat / peak) / (r + nu) / peak
        stored = STORE_ROUNDINGS * bench.u
        drift = drift + lr * budget + stored * np.abs(X) if case.start is not None else budget + stored * U
        allowed.append(drift)
    return expected, tuple(allowed)
