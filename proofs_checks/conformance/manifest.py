"""The manifest: which checks a spec implies for a target, in which settings, before any of them runs."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch

from proofs_checks.conformance.bench import Bench
from proofs_checks.conformance.case import Case, Check, Setting, Spec, Verdict
from proofs_checks.conformance.errors import NotApplicable, UsageError, nearest
from proofs_checks.conformance.globals import kept
from proofs_checks.conformance.records import Level
from proofs_checks.conformance.specs import SPECS
from proofs_checks.conformance.target import Target, resolve

__all__ = ["Manifest", "Planned", "plan"]

#: Parameter dtypes that are run unless one is chosen; float16 only when it is.
DTYPES = ("float32", "float64", "bfloat16")
KNOWN_DTYPES = (*DTYPES, "float16")


@dataclass(frozen=True)
class Planned:
    """One line of the manifest."""

    check: Check
    bench: Bench

    @property
    def id(self) -> str:
        """Unique id of the record."""
        return f"{self.check.id}{self.bench.setting.label}"


@dataclass(frozen=True)
class Manifest:
    """What is going to be executed, on what, as which variant."""

    lines: tuple[Planned, ...]
    target: Target
    variant: Mapping[str, object]


def plan(
    target: str | Callable[..., Any],
    spec: str,
    *,
    options: Mapping[str, object],
    rename: Mapping[str, str],
    level: str,
    device: str,
    dtype: str | None,
    seed: int,
) -> Manifest:
    """Every check that the spec implies at this level, in every setting.

    Parameters
    ----------
    target, spec, options, rename, level, device, dtype, seed
        As in `proofs_checks.conformance.run_check`.

    Raises
    ------
    UsageError
        If a name is unknown, the device cannot be used, or the target cannot be made as asked.
    """
    if spec not in SPECS:
        raise UsageError(f"unknown spec {spec!r}; {nearest(spec, SPECS)}")
    if level not in list(Level):
        raise UsageError(f"unknown level {level!r}; {nearest(level, list(Level))}")
    if dtype is not None and dtype not in KNOWN_DTYPES:
        raise UsageError(f"unknown dtype {dtype!r}; {nearest(dtype, KNOWN_DTYPES)}")
    _try_device(device)
    held = SPECS[spec]
    with kept():
        found, variant = resolve(target, held, options=options, rename=rename, device=device)
    checks = _checks(held, Level(level))
    dtypes = _dtypes(found, dtype)
    benches = [
        Bench(found, held, Setting(name, device, swept, variant), seed, dtypes)
        for name in dtypes
        for swept in _sweep(held, found)
    ]
    lines = tuple(
        Planned(check, bench) for bench in benches for check in checks if check.where(bench.setting)
    )
    return Manifest(lines, found, variant)


def _try_device(device: str) -> None:
    try:
        torch.zeros(1, device=device)
    except Exception as error:
        text = next(iter(str(error).splitlines()), "")
        raise UsageError(f"device {device!r} cannot be used: {text}") from error


def _checks(spec: Spec, deepest: Level) -> list[Check]:
    """The checks of a spec down to a level."""
    order = list(Level)
    depth = order.index(deepest)
    checks = [check for check in spec.checks if order.index(check.level) <= depth]
    return [*checks, _white_box(spec)] if deepest is Level.EQUATIONS else checks


def _white_box(spec: Spec) -> Check:
    """The equation checks of level L3 need to see the state, which no target shows yet."""
    reason = (
        "white-box check: it needs the target's state in canonical names, which the target does not offer"
    )

    def cases(bench: Bench, rng: np.random.Generator) -> list[Case]:
        raise NotApplicable(reason)

    def judge(bench: Bench, case: Case) -> Verdict:
        raise NotApplicable(reason)

    equation = "state after every step, equation by equation"
    return Check(f"{spec.name}.state", None, equation, Level.EQUATIONS, cases, judge)


def _dtypes(target: Target, chosen: str | None) -> tuple[str, ...]:
    """The parameter dtypes to run."""
    if target.init is not None and not target.tensors:
        if chosen not in (None, "float64"):
            raise UsageError(f"{target.name} works on NumPy arrays: dtype must be float64, got {chosen!r}")
        return ("float64",)
    return (chosen,) if chosen else DTYPES


def _sweep(spec: Spec, target: Target) -> Iterator[dict[str, object]]:
    """Every combination of the swept hyper-parameters that the caller did not fix."""
    values = [(target.fixed[name],) if name in target.fixed else row for name, row in spec.sweep.items()]
    for combination in product(*values):
        yield dict(zip(spec.sweep, combination, strict=True))
