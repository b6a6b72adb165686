"""The judgements that several specs share: against the reference, and of one run against another."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from proofs_checks.conformance.bench import Bench
from proofs_checks.conformance.case import Array, Case, Verdict, compare
from proofs_checks.conformance.errors import NotApplicable

__all__ = [
    "against_oracle",
    "hadamard",
    "oddness",
    "refuse_vacuous",
    "relation",
    "rotate",
    "rotated",
    "signed_permutation",
    "stays_zero",
]


def against_oracle(bench: Bench, case: Case) -> Verdict:
    """The target's run against the reference's, entry by entry or in the Frobenius norm."""
    expected, allowed = bench.spec.oracle(bench, case)
    return refuse_vacuous(compare("recursion", bench.run(case), expected, allowed))


def refuse_vacuous(verdict: Verdict) -> Verdict:
    """`verdict`, unless its budget has grown to the size of the result.

    Raises
    ------
    NotApplicable
        If a result of zero would pass as well: then passing would say nothing.
    """
    resolution = verdict.resolution
    if resolution is not None and verdict.ratio.passed and not resolution < 1:
        raise NotApplicable(
            f"in this precision rounding may reach {resolution:.2g} times the result: nothing to see"
        )
    return verdict


def relation(
    name: str,
    other: Callable[[Case], Case],
    image: Callable[[Array, Case], Array],
    *,
    mixes: bool = False,
) -> Callable[[Bench, Case], Verdict]:
    """A judge for ``f(other(case)) = image(f(case))``; the budget is the sum of those of both runs.

    `image` is linear. Unless it `mixes`, it moves and scales entries one by one, and their budgets likewise;
    a mixing image is an isometry, and every entry gets the Frobenius norm of the budgets.
    """

    def judge(bench: Bench, case: Case) -> Verdict:
        twin = other(case)
        refusal = bench.refusal(twin.hp)
        if refusal:
            raise NotApplicable(refusal)
        if not all(np.array_equal(bench.cast(G), G) for G in twin.gradients):
            raise NotApplicable("the related input is not exact in this precision")
        first, second = bench.run(case), bench.run(twin)
        _, budgets = bench.spec.oracle(bench, case)
        _, twins = bench.spec.oracle(bench, twin)
        expected = tuple(image(U, case) for U in first)
        carried = tuple(_carried(b, image, case, mixes=mixes) for b in budgets)
        allowed = tuple(_sum(b, c) for b, c in zip(carried, twins, strict=True))
        verdict = refuse_vacuous(compare(name, second, expected, allowed))
        return replace(
            verdict, inputs=twin, source=f"by {name} from the target's own run on the related input"
        )

    return judge


def _carried(budget: Array, image: Callable[[Array, Case], Array], case: Case, *, mixes: bool) -> Array:
    """The budget of the image of an update."""
    if mixes:
        return np.full(image(np.zeros_like(case.gradients[0]), case).shape, np.linalg.norm(budget))
    if budget.ndim:
        return np.abs(image(budget, case))
    one = np.zeros_like(case.gradients[0])
    one.flat[:1] = 1.0
    return budget * np.linalg.norm(image(one, case))


def _sum(first: Array, second: Array) -> Array:
    """Sum of two budgets, in the Frobenius norm as soon as one of them is."""
    if first.ndim == second.ndim:
        return first + second
    return np.asarray(np.linalg.norm(first) + np.linalg.norm(second))


def oddness() -> Callable[[Bench, Case], Verdict]:
    """``f(-G) = -f(G)``."""
    return relation("oddness", lambda case: _with(case, [-G for G in case.gradients]), lambda U, case: -U)


def _with(case: Case, gradients: Sequence[Array]) -> Case:
    return replace(case, gradients=tuple(gradients))


def signed_permutation(size: int) -> Array:
    """An orthogonal matrix that reverses and alternates signs: products with it are exact in every dtype."""
    return np.fliplr(np.diag([(-1.0) ** i for i in range(size)]))


def hadamard(size: int) -> Array:
    """An orthogonal matrix that mixes its first four coordinates with entries +-1/2, exact in every dtype.

    Below size 4 no such matrix has entries that are exact in binary, and a signed permutation is used.
    """
    two = np.array([[1.0, 1.0], [1.0, -1.0]])
    four = np.kron(two, two) / 2
    U = signed_permutation(size)
    if size >= len(four):
        U[: len(four)] = four @ U[: len(four)]
    return U


def rotated(case: Case) -> Case:
    """The case with gradients ``S G T^T``, S and T from `hadamard`."""
    return _with(case, [rotate(G, case) for G in case.gradients])


def rotate(X: Array, case: Case) -> Array:
    """``S X T^T``."""
    m, n = X.shape
    return hadamard(m) @ X @ hadamard(n).T


def stays_zero(bench: Bench, case: Case) -> Verdict:
    """Updates that must be exactly zero and are."""
    observed = bench.run(case)
    zeros = tuple(np.zeros_like(U) for U in case.gradients)
    return compare("exact zero", observed, zeros, zeros)
