"""The torch twins against the reference: every function both have, on every kind of matrix.

Both twins are given the input as the format stores it, so that they differ by their own rounding only, and
the difference is judged by a budget derived from the format, the dimensions and the conditioning.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np

from proofs_checks.decision import Array, Ratio
from proofs_checks.inputs import MATRICES, named_matrices
from proofs_checks.results import RatioResult, TwinResult
from proofs_checks.twins import adafisher, fismo, kronecker, muon, polar, sofim
from proofs_checks.twins.case import Precision, Twin, unit

__all__ = ["TWINS", "compare_twin", "compare_twins", "twin_count"]

#: Every comparison.
TWINS: tuple[Twin, ...] = (
    *polar.TWINS,
    *kronecker.TWINS,
    *fismo.TWINS,
    *sofim.TWINS,
    *muon.TWINS,
    *adafisher.TWINS,
)


#: Kinds of matrix that are extreme in one format only; each format gets its own, in this shape.
NEAR, NEAR_SHAPE = ("near_underflow", "near_overflow"), (4, 3)


def twin_count() -> int:
    """How many results `compare_twins` yields: one for each function and format."""
    return sum(len(twin.dtypes) for twin in TWINS)


def compare_twins(
    device: str = "cpu", *, starting: Callable[[str], None] | None = None
) -> Iterator[TwinResult]:
    """Compare all twins on a device; `starting` is told the name of each comparison before it runs."""
    for twin in TWINS:
        for dtype in twin.dtypes:
            if starting:
                starting(f"{twin.name} in {dtype}")
            yield compare_twin(twin, dtype, device)


def compare_twin(twin: Twin, dtype: str, device: str = "cpu") -> TwinResult:
    """Worst ratio of one comparison over all inputs; an exception of either twin is an infinite ratio."""
    p = Precision(dtype, device)
    judged = {name: _decisions(twin, M, p) for name, M in _inputs(twin, p)}
    labelled = [
        (f"{name}: {label}" if label else name, ratio)
        for name, decisions in judged.items()
        for label, ratio in decisions
    ]
    nothing = ("none", Ratio("no input applied", math.inf, 1.0))
    where, worst = max(labelled, key=lambda decision: _share(decision[1]), default=nothing)
    return TwinResult(
        name=twin.name,
        dtype=dtype,
        device=device,
        inputs=sum(1 for decisions in judged.values() if decisions),
        worst=RatioResult.of(worst),
        worst_input=where,
    )


def _decisions(twin: Twin, M: Array, p: Precision) -> list[tuple[str, Ratio]]:
    try:
        return list(twin.compare(M, p))
    except Exception as error:  # a twin that crashes does not agree, and must not stop the others
        return [(f"raised {type(error).__name__}: {error}", Ratio("ran to its end", math.inf, 1.0))]


def _share(ratio: Ratio) -> float:
    return ratio.value / ratio.threshold


def _inputs(twin: Twin, p: Precision) -> Iterator[tuple[str, Array]]:
    """Matrices as the format stores them; those that overflow it are left out."""
    if not twin.matrices:
        yield "fixed arguments", np.empty((0, 0))
        return
    named = dict(MATRICES)
    if not twin.scaled:
        near = named_matrices(*NEAR_SHAPE, seed=0, dtype=p.dtype)
        named |= {f"{name} of {p.dtype}": near[name] for name in NEAR}
    for name, M in named.items():
        X = p.rounded(unit(M) if twin.scaled else M)
        if np.isfinite(X).all():
            yield name, X
