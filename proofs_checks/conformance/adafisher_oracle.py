"""What AdaFisher should do on what a layer sees, and how far rounding may move it.

Symbols: F denominator, G gradient, M_hat bias-corrected momentum, U = M_hat / F update, W parameter. The
gradient is what autograd computed in the precision of the parameters: an input, rounded before the optimizer
sees it. The budget comes from `proofs_checks.conformance.adafisher_errors`.
"""

from dataclasses import fields
from types import ModuleType
from typing import Any

import numpy as np
import torch

import reference.adafisher
from proofs_checks.conformance.adafisher_errors import Precision, Step, Track
from proofs_checks.conformance.bench import Bench
from proofs_checks.conformance.case import Array, Case, Setting
from proofs_checks.conformance.errors import NotApplicable
from proofs_checks.conformance.layer_case import LayerCase, layered
from proofs_checks.conformance.layers import Block
from proofs_checks.decision import DOUBLE, SIGNIFICANT_BITS

__all__ = ["extremes", "momenta", "oracle", "simulate", "staged"]

#: Roundings of the store: product with lr, sum, conversion.
STORE_ROUNDINGS = 3


def _options(case: Case, setting: Setting) -> dict[str, Any]:
    names = ("normalise", "gamma_on", "averaging", "initial", "epsilon", "relative")
    hp = {name: float(case.hp[name]) for name in ("beta", "gamma", "lam")}
    return {**hp, **{name: setting.variant[name] for name in names}}


def _decays(case: Case, setting: Setting) -> tuple[float, float]:
    """Weight of W in the gradient and in the update."""
    decay = 0.0 if case.start is None else float(case.hp["weight_decay"])
    return (decay, 0.0) if setting.variant["decay"] == "coupled" else (0.0, decay)


def simulate(module: ModuleType, case: Case, setting: Setting) -> tuple[Array, ...]:
    """Updates of `module` (`reference.adafisher` or a faulty copy), or parameters if the case has a start."""
    case = layered(case)
    options, (into_gradient, into_update) = _options(case, setting), _decays(case, setting)
    lr, period, W = case.hp["lr"], int(case.hp["refresh"]), case.start
    states: list[Any] = []
    out = []
    for t, G in enumerate(case.gradients_in(setting.dtype, setting.device)):
        blocks = case.factors(t, module, grouping=str(setting.variant["grouping"]))
        states = states or [_initial(module, case, block, i) for i, block in enumerate(blocks)]
        G = G if W is None else G + into_gradient * W
        updates = []
        for i, (block, part) in enumerate(zip(blocks, case.layer.split(G), strict=True)):
            update, states[i] = module.step(
                part,
                states[i],
                h_D=block.h_D,
                s_D=block.s_D,
                weight_decay=0.0 if W is None else into_update,
                W=None if W is None else case.layer.split(W)[i],
                refresh=t % period == 0,
                pairing=block.pairing,
                factor_axes=block.factor_axes,
                **options,
            )
            updates.append(update)
        U = case.layer.joined(updates)
        W = None if W is None else W - lr * U
        out.append(U if W is None else W)
    return tuple(out)


def _initial(module: ModuleType, case: LayerCase, block: Block, i: int) -> Any:
    return module.init(case.layer.split(case.layer.rest())[i], pairing=block.pairing)


def oracle(bench: Bench, case: Case) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """Updates of the reference with their entrywise budgets, or parameters if the case has a start.

    Raises
    ------
    NotApplicable
        If squares of the inputs leave the range of the arithmetic, or the step that of the parameters.
    """
    case = layered(case)
    _in_range(bench, case)
    expected = simulate(reference.adafisher, case, bench.setting)
    lr, rest = case.hp["lr"], np.abs(case.layer.rest())
    drift, allowed = np.zeros(case.layer.shape), []
    for t, (X, step) in enumerate(zip(expected, staged(bench, case), strict=True)):
        U, error = step.size, step.error
        if _limits(bench.setting.dtype)[1] < lr * np.max(U, initial=0):
            raise NotApplicable(f"the step leaves the range of {bench.setting.dtype}")
        stored = STORE_ROUNDINGS * bench.u
        if case.start is None:
            allowed.append(error + stored * (np.abs(U) + 2 * rest / lr))
            continue
        before = case.start if t == 0 else expected[t - 1]
        into_gradient, into_update = _decays(case, bench.setting)
        kept = abs(1 - lr * into_update) * drift + lr * into_gradient * drift / float(case.hp["lam"])
        drift = kept + lr * error + stored * (np.abs(before) + lr * np.abs(U) + np.abs(X))
        allowed.append(drift)
    return expected, tuple(allowed)


def _in_range(bench: Bench, case: LayerCase) -> None:
    name = _working(bench)
    low, high = _limits(name)
    for passes in case.steps:
        for p in passes:
            for X in (p.h, p.s):
                squares = np.square(X[X != 0])
                if squares.size and not (low <= squares.min() and squares.sum() <= high):
                    raise NotApplicable(f"squares of the inputs leave the range of {name}")


def _limits(name: str) -> tuple[float, float]:
    info = torch.finfo(getattr(torch, name))
    return float(info.smallest_normal), float(info.max)


def _working(bench: Bench) -> str:
    """Format of the arithmetic: what the variant names, or that of the parameters if it is finer."""
    named = str(bench.setting.variant["precision"])
    both = (bench.setting.dtype, bench.setting.dtype if named == "parameter" else named)
    return max(both, key=lambda name: SIGNIFICANT_BITS[name])


def extremes(bench: Bench, case: LayerCase) -> list[Array]:
    """Where ``s' h'`` is 0 or 1 beyond doubt, at every step."""
    return [step.exact & ((step.product == 0) | (step.product == 1)) for step in staged(bench, case)]


def momenta(case: Case, setting: Setting) -> list[Array]:
    """M_hat at every step, for any F."""
    case = layered(case)
    beta, M, out = float(case.hp["beta"]), np.zeros(case.layer.shape), []
    for t, G in enumerate(case.gradients_in(setting.dtype, setting.device), start=1):
        M = beta * M + (1 - beta) * G
        out.append(M / (1 - beta**t))
    return out


def staged(bench: Bench, case: LayerCase) -> list[Step]:
    """The recursion with its errors, over all parameters of the layer."""
    name = _working(bench)
    bits = SIGNIFICANT_BITS[name]
    precision = Precision(2.0**-bits + DOUBLE, bits, _limits(name)[0] * 2.0 ** (1 - bits))
    grouping, period = str(bench.setting.variant["grouping"]), int(case.hp["refresh"])
    tracks: list[Track] = []
    out = []
    for t, G in enumerate(_gradients(bench, case)):
        blocks = case.factors(t, reference.adafisher, grouping=grouping)
        tracks = tracks or [Track(_options(case, bench.setting), precision, block) for block in blocks]
        parts = zip(tracks, blocks, case.layer.split(G), strict=True)
        steps = [track.step(part, block, refresh=t % period == 0) for track, block, part in parts]
        names = (f.name for f in fields(Step))
        out.append(Step(*(case.layer.joined([getattr(step, name) for step in steps]) for name in names)))
    return out


def _gradients(bench: Bench, case: LayerCase) -> list[Array]:
    """What enters the momentum: with coupled decay the parameter, too."""
    gradients = list(case.gradients_in(bench.setting.dtype, bench.setting.device))
    decay = _decays(case, bench.setting)[0]
    if case.start is None or not decay:
        return gradients
    path = (case.start, *simulate(reference.adafisher, case, bench.setting))
    return [G + decay * W for G, W in zip(gradients, path, strict=False)]
