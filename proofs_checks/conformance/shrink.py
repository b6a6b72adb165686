"""From a failing case to a small one: fewer steps, smaller shape, round numbers, while it still fails."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from proofs_checks.conformance.case import Array, Case
from proofs_checks.conformance.layer_case import LayerCase, simpler

__all__ = ["shrink"]

#: Shapes worth trying at once before rows and columns are taken away one by one.
_TINY = ((1, 1), (1, 2), (2, 1), (2, 2), (2, 3), (3, 2))
#: Numbers of significant digits that entries are rounded to.
_DIGITS = (1, 2, 3)


def shrink(
    case: Case, fails: Callable[[Case], bool], *, cast: Callable[[Array], Array], seconds: float
) -> Case:
    """A case that still fails and that none of the simplifications below leaves failing, time permitting.

    Parameters
    ----------
    case : Case
        One that fails.
    fails : function (case) -> bool
        Must be true for `case`; it may raise, which counts as false.
    cast : function (array) -> array
        Rounds to the dtype of the setting, so that candidates stay exact in it.
    seconds : float
        Time after which the best case so far is returned.
    """
    deadline = time.monotonic() + seconds

    def still(candidate: Case) -> bool:
        try:
            return fails(candidate)
        except Exception:
            return False

    progress = True
    while progress:
        progress = False
        for candidate in _simpler(case, cast):
            if time.monotonic() > deadline:
                return case
            if still(candidate):
                case, progress = candidate, True
                break
    return case


def _simpler(case: Case, cast: Callable[[Array], Array]) -> Iterator[Case]:
    """Candidates, the greatest simplifications first."""
    if isinstance(case, LayerCase):
        yield from simpler(case, cast)
        return
    yield from _shorter(case)
    yield from _smaller(case)
    if case.split:
        return  # sizes of the parameters fix the length
    yield from _rounder(case, cast)


def _shorter(case: Case) -> Iterator[Case]:
    steps = case.gradients
    for count in range(1, len(steps)):
        yield replace(case, gradients=steps[:count])
    for drop in range(len(steps) - 1):
        yield replace(case, gradients=steps[:drop] + steps[drop + 1 :])


def _indexed(case: Case, index: tuple[NDArray[np.intp], ...]) -> Case:
    cut = np.ix_(*index)
    start = None if case.start is None else case.start[cut]
    return replace(case, gradients=tuple(G[cut] for G in case.gradients), start=start)


def _smaller(case: Case) -> Iterator[Case]:
    if case.split:
        yield from _fewer_parts(case)
        return
    shape = case.gradients[0].shape
    everything = [np.arange(side) for side in shape]
    for tiny in _TINY:
        sides = tiny[: len(shape)]
        if all(t <= s for t, s in zip(sides, shape, strict=True)) and sides != shape:
            yield _indexed(case, tuple(np.arange(t) for t in sides))
    for axis, side in enumerate(shape):
        for drop in range(side if side > 1 else 0):
            rest = np.delete(everything[axis], drop)
            yield _indexed(case, tuple(rest if k == axis else every for k, every in enumerate(everything)))


def _fewer_parts(case: Case) -> Iterator[Case]:
    """Shorten a part of a vector that is dealt out, as long as two parts remain."""
    first = 0
    for i, size in enumerate(case.split):
        if size > 1:
            keep = (np.delete(np.arange(sum(case.split)), first),)
            yield replace(_indexed(case, keep), split=(*case.split[:i], size - 1, *case.split[i + 1 :]))
        first += size


def _rounder(case: Case, cast: Callable[[Array], Array]) -> Iterator[Case]:
    """Fewer digits everywhere, then entry by entry (to 0, +-1 or fewer digits)."""
    arrays = [*case.gradients, *([case.start] if case.start is not None else [])]

    def with_arrays(new: list[Array]) -> Case:
        return replace(
            case,
            gradients=tuple(new[: len(case.gradients)]),
            start=new[-1] if case.start is not None else None,
        )

    for digits in _DIGITS:
        rounded = [cast(_significant(X, digits)) for X in arrays]
        if any(not np.array_equal(X, Y) for X, Y in zip(arrays, rounded, strict=True)):
            yield with_arrays(rounded)
    for i, X in enumerate(arrays):
        for at in np.ndindex(X.shape):
            for value in _plainer(float(X[at])):
                Y = X.copy()
                Y[at] = value
                yield with_arrays([*arrays[:i], cast(Y), *arrays[i + 1 :]])


def _plainer(x: float) -> Iterator[float]:
    if x == 0:
        return
    yield 0.0
    unit = float(np.copysign(1.0, x))
    if abs(x) != 1:
        yield unit
    for digits in _DIGITS:
        rounded = float(_significant(np.array(x), digits))
        if rounded != x:
            yield rounded
            return


def _significant(X: Array, digits: int) -> Array:
    """`X` rounded to decimal digits."""
    return np.vectorize(lambda x: float(f"{x:.{digits - 1}e}"), otypes=[float])(X) if X.size else X
