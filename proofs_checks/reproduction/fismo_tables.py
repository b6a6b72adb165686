"""FISMO-T2-jacobi and FISMO-COND-bound: the tables of rates and of conditioning."""

import numpy as np
from numpy.typing import NDArray

from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import Ratio
from proofs_checks.reproduction.printed import agrees, half_unit
from reference.kronecker import hilbert_distance, left_factor, right_factor

__all__ = ["condition_table", "jacobi_rates"]

Array = NDArray[np.float64]

#: Asymptotic factors by mu, 6x9, three samples: Gauss-Seidel per sweep, Jacobi per step. Measured on one
#: draw that is not known, so they are orders of magnitude; their relation is not.
_RATES = {1e-3: ("0.7613", "0.87253"), 0.1: ("0.5278", "0.72650"), 1.0: ("0.2437", "0.49366")}

#: Our own draws may differ from the printed one by this factor in the logarithm of the rate.
_DRAW = 2.0

#: Sweeps before the factor is read off, and over how many; the slower modes have then all but died out.
_SETTLE, _SPAN = 10, 8

#: What the second mode may leave in the ratio of Jacobi's and Gauss-Seidel's observed factors; taking the one
#: for the other would be off by 13 % or more.
_UNSETTLED = 0.05

#: Bound on the condition of the step by shape, for b = 1e-3, 1e-2, 0.1, 0.5, 0.9.
_LEVELS = np.array([1e-3, 1e-2, 0.1, 0.5, 0.9])
_CONDITIONS = {(768, 768): "1.77 8.76 86.3 769 6.9e3", (768, 3072): "2.68 16.7 172 1.54e3 1.38e4"}


@evidence(faults=("jacobi-as-fast", "damping-forgotten"), scope="region")
def jacobi_rates(*, fault: str | None = None) -> Finding:
    """The printed Jacobi factors are the roots of the printed Gauss-Seidel ones, and our draws are alike.

    Six Gaussian draws of 6x9, three samples: the median factors lie within a factor 2 of the printed ones
    in their logarithm, and Jacobi's, observed on both its chains at once, squares to Gauss-Seidel's.
    Faults: Jacobi is expected to be as fast as Gauss-Seidel; the draws are run at the smallest mu throughout.
    """
    rng = np.random.default_rng(20240701)
    G = rng.standard_normal((6, 3, 6, 9))
    ratios: list[Ratio] = []
    medians = []
    for mu, (sweep, step) in _RATES.items():
        squared = float(sweep) if fault == "jacobi-as-fast" else np.sqrt(float(sweep))
        inherited = half_unit(sweep) / (2 * np.sqrt(float(sweep)))  # by the root, of what print leaves open
        ratios.append(agrees(f"square root of {sweep}", squared, step, rounding=inherited))
        observed, jacobi = _observed(G, mu=min(_RATES) if fault == "damping-forgotten" else mu)
        medians.append(float(np.median(observed)))
        apart = abs(np.log(np.log(medians[-1]) / np.log(float(sweep))))
        ratios.append(
            Ratio(f"log of the rate against print, mu = {mu:g}", float(apart), float(np.log(_DRAW)))
        )
        expected = observed if fault == "jacobi-as-fast" else np.sqrt(observed)
        gap = np.abs(jacobi / expected - 1)
        ratios.append(
            Ratio(f"Jacobi's factor against the root, mu = {mu:g}", float(np.median(gap)), _UNSETTLED)
        )
    return Finding(
        tuple(ratios),
        "printed Jacobi factors are the roots of the printed Gauss-Seidel ones; medians of 6 own draws "
        + ", ".join(
            f"{value:.3f} (print {rate[0]}) at mu = {mu:g}"
            for value, (mu, rate) in zip(medians, _RATES.items(), strict=True)
        ),
        figures={f"mu = {mu:g}": value for mu, value in zip(_RATES, medians, strict=True)},
    )


@evidence(faults=("one-side-only", "gap-forgotten"), scope="region")
def condition_table(*, fault: str | None = None) -> Finding:
    """``sqrt(Lambda_P Lambda_Q) / (1 - b)`` for two shapes and five values of b, three digits.

    Faults: Lambda_P in place of the geometric mean; the denominator 1 - b is forgotten.
    """
    ratios = []
    for (m, n), printed in _CONDITIONS.items():
        Lambda_P, Lambda_Q = 1 + (m - 1) * _LEVELS, 1 + (n - 1) * _LEVELS
        if fault == "one-side-only":
            Lambda_Q = Lambda_P
        bound = np.sqrt(Lambda_P * Lambda_Q) / (1.0 if fault == "gap-forgotten" else 1 - _LEVELS)
        ratios.append(agrees(f"{m}x{n}", bound, printed))
    return Finding(
        tuple(ratios),
        "10 values of the bound on the condition of a step: largest error "
        f"{max(r.value for r in ratios):.2f} half units of the last printed digit",
        figures={ratio.name: ratio.value for ratio in ratios},
    )


def _observed(G: Array, *, mu: float) -> tuple[Array, Array]:
    """Asymptotic factor per Gauss-Seidel sweep and per Jacobi step, of every problem."""
    R, _, m, n = G.shape
    P, Q = np.broadcast_to(np.eye(m), (R, m, m)), np.broadcast_to(np.eye(n), (R, n, n))
    sweeps = [Q]
    for _ in range(_SETTLE + _SPAN + 1):
        sweeps.append(_unit(right_factor(G, left_factor(G, sweeps[-1], mu=mu), mu=mu)))
    chains = [(P, Q)]
    for _ in range(2 * (_SETTLE + _SPAN + 1)):
        P, Q = chains[-1]
        chains.append((_unit(left_factor(G, Q, mu=mu)), _unit(right_factor(G, P, mu=mu))))
    moved = [hilbert_distance(sweeps[k + 1], sweeps[k]) for k in (_SETTLE, _SETTLE + _SPAN)]
    both = [
        hilbert_distance(chains[k + 2][0], chains[k][0]) + hilbert_distance(chains[k + 2][1], chains[k][1])
        for k in (2 * _SETTLE, 2 * (_SETTLE + _SPAN))
    ]
    return (moved[1] / moved[0]) ** (1 / _SPAN), (both[1] / both[0]) ** (1 / (2 * _SPAN))


def _unit(P: Array) -> Array:
    """Mean eigenvalue 1."""
    return P * P.shape[-1] / np.trace(P, axis1=-2, axis2=-1)[:, None, None]
