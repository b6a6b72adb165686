"""METH-budget: the rounding budget of a truncated iteration covers what is computed in every format."""

import numpy as np
from numpy.typing import NDArray

from proofs_checks.adversarial.instances import with_spectrum
from proofs_checks.adversarial.precision import rounded
from proofs_checks.adversarial.verdicts import rounded_down
from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import Ratio, truncated_iteration, unit_roundoff, worst
from reference.polar import (
    JORDAN_QUINTIC,
    Polynomial,
    kim_oh_polynomial,
    newton_schulz,
    polar_express_coefficients,
)

__all__ = ["covers_computed_errors"]

Array = NDArray[np.float64]

#: Iterations under test, one polynomial per step. Without its safety factor Polar Express diverges in
#: bfloat16: rounding lifts singular values above the interval the polynomials are made for.
_ITERATIONS: dict[str, list[Polynomial]] = {
    "Jordan": [JORDAN_QUINTIC] * 5,
    "Polar Express": list(polar_express_coefficients(steps=6, safety=1.01)),
    "cubic": [kim_oh_polynomial(1)] * 8,
}

#: Relative change of a coefficient that the budget must see in float64.
_COEFFICIENT_FAULT = 1e-9


@evidence(faults=("step-missing", "coefficient-off-by-1e-9", "roundoff-understated"), scope="region")
def covers_computed_errors(*, fault: str | None = None) -> Finding:
    """Newton-Schulz in float64, float32 and bfloat16 (accumulating in float32) stays within its budget.

    Compared with the same polynomial of the exact singular values: Gaussian matrices, geometric spectra of
    condition 1 to 1e6, low rank plus noise, one dominant direction, signs; three shapes, three iterations.
    Faults: one step is missing; the leading coefficient is off by 1e-9; the judge is told 1/1000 of the
    roundoff.
    """
    rng = np.random.default_rng(20240630)
    ratios: dict[str, list[Ratio]] = {}
    for m, n in ((4, 4), (3, 7), (24, 16)):
        for M in _matrices(rng, m, n):
            for name, polynomials in _ITERATIONS.items():
                run = polynomials[:-1] if fault == "step-missing" else polynomials
                if fault == "coefficient-off-by-1e-9":
                    first = polynomials[0]
                    run = [(first[0] * (1 + _COEFFICIENT_FAULT), *first[1:]), *polynomials[1:]]
                for dtype in ("float64", "float32", "bfloat16"):
                    u = unit_roundoff(dtype) / (1000 if fault == "roundoff-understated" else 1)
                    accumulate = unit_roundoff("float32" if dtype == "bfloat16" else dtype)
                    ratio = truncated_iteration(
                        _computed(M, run, dtype), M, polynomials, u=u, u_accumulate=accumulate
                    )
                    ratios.setdefault(f"{name}, {dtype}", []).append(ratio)
    found = {name: worst(group) for name, group in ratios.items()}
    count = sum(len(group) for group in ratios.values())
    largest = max(ratio.value for ratio in found.values())
    least = min(ratio.value for group in ratios.values() for ratio in group)
    saturated = sum(int(ratio.figures["saturated"]) for group in ratios.values() for ratio in group)
    by_dtype = {
        dtype: max(ratio.value for name, ratio in found.items() if name.endswith(dtype))
        for dtype in ("float64", "float32", "bfloat16")
    }
    return Finding(
        tuple(found.values()),
        f"{count} runs of three iterations in three formats: error over budget {least:.4f} to "
        f"{largest:.3f}; largest "
        + ", ".join(f"{value:.3f} in {dtype}" for dtype, value in by_dtype.items())
        + f"; in {saturated} bfloat16 runs the budget is as large as the result and sees gross faults only",
        figures={**by_dtype, "runs": float(count), "saturated": float(saturated)},
        tightness=rounded_down(largest),
    )


def _matrices(rng: np.random.Generator, m: int, n: int) -> list[Array]:
    """Kinds of momentum matrices."""
    r = min(m, n)
    low = rng.standard_normal((m, 1)) @ rng.standard_normal((1, n))
    return [
        rng.standard_normal((m, n)),
        with_spectrum(rng, np.ones(r), m, n),
        with_spectrum(rng, np.geomspace(1, 1e-3, r), m, n),
        with_spectrum(rng, np.geomspace(1, 1e-6, r), m, n),
        low + 0.01 * rng.standard_normal((m, n)),
        with_spectrum(rng, np.r_[1.0, np.full(r - 1, 0.01)], m, n),
        np.sign(rng.standard_normal((m, n))),
    ]


def _computed(M: Array, polynomials: list[Polynomial], dtype: str) -> Array:
    """``X <- (a + (b + c G) G) X`` on the short side, in the format."""
    if dtype == "float64":
        return newton_schulz(M, polynomials)
    X = rounded(M.T if M.shape[0] > M.shape[1] else M, dtype)
    norm = np.sqrt(np.square(X.astype(np.float32)).sum(dtype=np.float32))
    X = rounded(X / rounded(np.array(norm, dtype=np.float64), dtype), dtype)
    for a, *rest in polynomials:
        G = _product(X, X.T, dtype)
        inner = rounded(rest[0] * G, dtype)
        if len(rest) > 1:
            inner = rounded(inner + rounded(rest[1] * _product(G, G, dtype), dtype), dtype)
        X = rounded(rounded(a * X, dtype) + _product(inner, X, dtype), dtype)
    return X.T if M.shape[0] > M.shape[1] else X


def _product(A: Array, B: Array, dtype: str) -> Array:
    """Matrix product accumulated in float32, stored in the format."""
    return rounded((A.astype(np.float32) @ B.astype(np.float32)).astype(np.float64), dtype)
