"""What a check is made of: the inputs of a run, the verdict on it, the setting it is made in.

Symbols: G_t gradients, W_t parameter, U_t update (``W_t = W_{t-1} - lr * U_t``).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from proofs_checks.conformance.records import Level
from proofs_checks.ratios import Ratio

if TYPE_CHECKING:
    from proofs_checks.conformance.bench import Bench
    from proofs_checks.mutants import Mutant

__all__ = ["Array", "Case", "Check", "Option", "Setting", "Spec", "Verdict", "compare", "fact"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """The inputs of one run.

    Attributes
    ----------
    hp : mapping of str to float
        Hyper-parameters by canonical name, `lr` included: a power of two, so that dividing by it is exact.
    gradients : tuple of float64 arrays
        One per step, all of one shape; values are exact in the dtype of the setting.
    start : float64 array, optional
        W_0. Without it the parameter is set to zero before every step, in place and with the optimizer's
        state left alone: what it holds after the step *is* ``-lr * U_t``, up to one rounding, in any dtype.
    split : tuple of int
        For methods on one flat vector: the sizes of the parameters the gradient is dealt out to.
    """

    hp: Mapping[str, float]
    gradients: tuple[Array, ...]
    start: Array | None = None
    split: tuple[int, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """One acceptance decision with what was compared, one array per step.

    `allowed` is an array (a budget per entry) or a number (a budget for the Frobenius norm of the
    difference). `inputs` is the case that `observed` belongs to, where it is not the one that was judged, and
    `source` says where `expected` comes from.
    """

    ratio: Ratio
    observed: tuple[Array, ...] = ()
    expected: tuple[Array, ...] = ()
    allowed: tuple[Array, ...] = ()
    note: str = ""
    inputs: Case | None = None
    source: str = "by the equation"

    @property
    def resolution(self) -> float | None:
        """Relative size of the smallest defect that this comparison can see; None for a yes/no fact.

        Budget over result at the step and entry that are known best.
        """
        best = None
        for X, budget in zip(self.expected, self.allowed, strict=True):
            size = np.abs(X) if budget.ndim else np.asarray(np.linalg.norm(X))
            relative = np.divide(budget, size, out=np.full_like(size, np.inf), where=size > 0)
            here = float(relative.min(initial=np.inf))
            if size.any():
                best = here if best is None else min(best, here)
        return best


@dataclass(frozen=True)
class Setting:
    """One row of the sweep that a spec asks for."""

    dtype: str
    device: str
    swept: Mapping[str, object] = field(default_factory=dict)
    variant: Mapping[str, object] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What distinguishes this setting in the id of a record: ``[bfloat16,nesterov=False]``."""
        return f"[{','.join([self.dtype, *(f'{name}={value}' for name, value in self.swept.items())])}]"


@dataclass(frozen=True)
class Check:
    """One check of a spec.

    Attributes
    ----------
    id, claim, equation, level
        As they appear in the record; `claim` is the id in the ledger.
    cases : function (bench, rng) -> iterable of Case
        The inputs to judge; the worst verdict counts.
    judge : function (bench, case) -> Verdict
        Runs the target on a case, also on the smaller cases that the shrinker proposes.
    needs : tuple of str
        Canonical hyper-parameters that the target must take.
    where : function (setting) -> bool
        Whether the spec implies the check in a setting; if not, it is not listed.
    optimizer_only : bool
        True where a pure step function has nothing to be checked.
    script : bool
        Whether one run against numbers shows the failure, so that a stand-alone script can be written.
    """

    id: str
    claim: str | None
    equation: str
    level: Level
    cases: "Callable[[Bench, np.random.Generator], Iterable[Case]]"
    judge: "Callable[[Bench, Case], Verdict]"
    needs: tuple[str, ...] = ()
    where: Callable[[Setting], bool] = lambda setting: True
    optimizer_only: bool = False
    script: bool = True


@dataclass(frozen=True)
class Option:
    """A named variant of a spec: its default and, where they are finite, its values."""

    default: object
    values: tuple[object, ...] = ()


@dataclass(frozen=True)
class Spec:
    """A published method: canonical names, variants and the checks they imply.

    Attributes
    ----------
    hyper_parameters : mapping
        Canonical name to the value used where a check does not choose one.
    essential : frozenset of str
        Those without which nothing can be said.
    sweep : mapping
        Canonical names run over several values unless an option fixes them.
    options : mapping
        Variants.
    oracle : function (bench, case) -> (expected, allowed)
        The reference's updates (or parameters, if the case has a start) with their budgets.
    simulate : function (module, case, setting) -> updates
        The reference recursion of `module`, which may be a faulty copy.
    faults : tuple of Mutant
        Known faults of the reference module, for "behaves like".
    fingerprints : function (bench) -> list of Case
        Inputs on which the known faults differ from one another.
    module : str
        Reference module.
    coupled : bool
        Whether all parameters form one vector, as in SOFIM.
    likeness : float
        Budgets by which a target may differ from a known fault that it is said to behave like: they are those
        of the right recursion, and a fault may be more sensitive.
    model : bool
        Whether the method takes a model and measures what its layers see, as AdaFisher.
    """

    name: str
    hyper_parameters: Mapping[str, float]
    essential: frozenset[str]
    sweep: Mapping[str, tuple[object, ...]]
    options: Mapping[str, Option]
    checks: tuple[Check, ...]
    oracle: "Callable[[Bench, Case], tuple[tuple[Array, ...], tuple[Array, ...]]]"
    simulate: Callable[[ModuleType, Case, Setting], tuple[Array, ...]]
    fingerprints: "Callable[[Bench], list[Case]]"
    faults: "tuple[Mutant, ...]"
    module: str
    coupled: bool = False
    likeness: float = 1.0
    model: bool = False


def compare(
    name: str, observed: tuple[Array, ...], expected: tuple[Array, ...], allowed: tuple[Array, ...]
) -> Verdict:
    """Largest difference over its budget; infinite for a wrong shape, a missing step or a NaN."""
    verdict = Verdict(Ratio(name, np.inf, 1.0), observed, expected, allowed)
    if [X.shape for X in observed] != [X.shape for X in expected]:
        shapes = [X.shape for X in observed]
        return Verdict(verdict.ratio, observed, expected, allowed, note=f"got shapes {shapes}")
    worst, size = Ratio(name, 0.0, 1.0), 0.0
    for t, (X, Y, budget) in enumerate(zip(observed, expected, allowed, strict=True), start=1):
        error = np.abs(X - Y) if budget.ndim else np.asarray(np.linalg.norm(X - Y))
        size = max(size, float(np.abs(Y).max(initial=0.0)))
        if not np.isfinite(error).all():
            return Verdict(verdict.ratio, observed, expected, allowed, note=f"not a number at step {t}")
        # An entry that must be exact has budget 0: no error is then a ratio of 0, any error an infinite one.
        ratios = np.divide(error, budget, out=np.where(error > 0, np.inf, 0.0), where=budget > 0)
        if ratios.size and ratios.max() > worst.value:
            at = np.unravel_index(int(ratios.argmax()), ratios.shape)
            worst = Ratio(name, float(error[at]), float(budget[at]), figures={"step": float(t)})
    return Verdict(worst, observed, expected, allowed)


def fact(name: str, holds: bool, note: str) -> Verdict:
    """A yes/no fact: ratio 0 if it holds, infinite if not; `note` says what was seen."""
    return Verdict(Ratio(name, 0.0 if holds else np.inf, 1.0), note=note)
