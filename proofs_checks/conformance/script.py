"""A failure as a script of a page: the target, the inputs, what the equation gives, and nothing of ours."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from proofs_checks.conformance import layer_script
from proofs_checks.conformance.bench import Bench
from proofs_checks.conformance.case import Array, Case, Check, Verdict
from proofs_checks.conformance.layer_case import LayerCase
from proofs_checks.conformance.layer_script import hexed

__all__ = ["inputs", "write"]


def inputs(case: Case, bench: Bench) -> dict[str, object]:
    """Everything that is needed to run a case again, floats in hexadecimal."""
    hp = {name: float(v).hex() if isinstance(v, float) else v for name, v in case.hp.items()}
    common = {
        "hyper_parameters": hp,
        "variant": {key: str(value) for key, value in bench.setting.variant.items()},
        "dtype": bench.setting.dtype,
    }
    if isinstance(case, LayerCase):
        return {**common, **layer_script.inputs(case)}
    return {
        **common,
        "start": "zero before every step" if case.start is None else hexed(case.start),
        "split": list(case.split),
        "gradients": [hexed(G) for G in case.gradients],
    }


def write(check: Check, bench: Bench, case: Case, verdict: Verdict) -> str:
    """A stand-alone script that exits with status 1 while the failure is there."""
    case = verdict.inputs or case
    keywords = bench.target.keywords(case.hp, bench.setting.variant)
    what = "W" if case.start is not None else "update"
    head = [
        f'"""{check.id} {bench.setting.label}: {check.equation}."""',
        "import math, sys",
        *_driving(bench, case, keywords),
    ]
    if not verdict.expected:
        return (
            "\n".join(
                [*head, "for t, G in enumerate(gradients, 1):", f'    print("step", t, "{what} =", step(G))']
            )
            + "\n"
        )
    rows = _literal
    if isinstance(case, LayerCase) and not bench.is_step:
        rows = partial(layer_script.by_parameter, case.layer)
    skipped = len(case.gradients) - len(verdict.expected)
    lines = [
        *head,
        f"# expected {what}: {verdict.source}",
        f"expected = {rows(verdict.expected)}",
        f"allowed = {rows(verdict.allowed)}  # what rounding allows",
        "worst = 0.0",
        "for t, G in enumerate(gradients, 1):",
        "    got = step(G)",
        *([f"    if t <= {skipped}:", "        continue"] if skipped else []),
        f"    want, budget = expected[t - {1 + skipped}], allowed[t - {1 + skipped}]",
        f'    print("step", t, "{what} =", got, "expected", want)',
        *_measure(verdict),
        'print(f"largest error: {worst:.3g} rounding budgets")',
        "sys.exit(not worst <= 1)",
    ]
    return "\n".join(lines) + "\n"


def _driving(bench: Bench, case: Case, keywords: Mapping[str, object]) -> list[str]:
    """The target, a function `step` that takes one, and what it is given at every step as `gradients`."""
    importing, call = _call(bench.target.make, bench.target.name)
    if not isinstance(case, LayerCase):
        kind = _step_lines if bench.is_step else _optimizer_lines
        return [*kind(bench, case, keywords), f"gradients = {_literal(case.gradients)}"]
    if bench.is_step:
        keywords = {name: value for name, value in keywords.items() if name != "refresh"}
        return layer_script.step_lines(bench, case, importing, call, _arguments(keywords))
    return layer_script.model_lines(bench, case, importing, call, _arguments(keywords))


def _literal(arrays: tuple[Array, ...]) -> str:
    """Arrays as nested lists that Python reads back exactly, flattened to one row per step."""
    return repr([np.asarray(X).tolist() for X in arrays])


def _measure(verdict: Verdict) -> list[str]:
    flat = "[x for row in {0} for x in row]" if verdict.expected and verdict.expected[0].ndim > 1 else "{0}"
    error = f"    errors = [abs(a - b) for a, b in zip({flat.format('got')}, {flat.format('want')})]"
    if verdict.allowed and verdict.allowed[0].ndim == 0:
        return [
            error,
            "    distance = math.hypot(*errors)",
            "    worst = max(worst, distance / budget if distance == distance else math.inf)",
        ]
    return [
        error,
        f"    for e, b in zip(errors, {flat.format('budget')}):",
        "        worst = max(worst, 0.0 if e == 0 else e / b if b and e == e else math.inf)",
    ]


def _call(target: Callable[..., Any], name: str) -> tuple[str, str]:
    """Import line and expression for a target; a callable that cannot be imported is shown in source."""
    module, _, attribute = (name if ":" in name else ":".join(name.rsplit(".", 1))).rpartition(":")
    if module.endswith(".py"):
        stem = module.rsplit("/", 1)[-1].removesuffix(".py")
        return (
            f"sys.path.insert(0, {module.rsplit('/', 1)[0] if '/' in module else '.'!r}); import {stem}",
            f"{stem}.{attribute}",
        )
    if "<" in attribute:
        try:
            source = " ".join(inspect.getsource(target).split())
        except (OSError, TypeError):
            source = repr(target)
        return f"# Define or import here what was checked, as `factory`: {source}", "factory"
    return f"import {module}", f"{module}.{attribute}"


def _arguments(keywords: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in keywords.items())


def _optimizer_lines(bench: Bench, case: Case, keywords: Mapping[str, object]) -> list[str]:
    importing, call = _call(bench.target.make, bench.target.name)
    shape, dtype = case.gradients[0].shape, bench.setting.dtype
    device = "" if bench.setting.device == "cpu" else f", device={bench.setting.device!r}"
    kind = f"dtype=torch.{dtype}{device}"
    if case.split:
        return [
            "import torch",
            importing,
            f"parts = [torch.nn.Parameter(torch.zeros(k, {kind})) for k in {list(case.split)}]",
            f"optimizer = {call}(parts, {_arguments(keywords)})",
            "def step(g):",
            f"    for p, x in zip(parts, torch.tensor(g, {kind}).split({list(case.split)})):",
            "        p.data.zero_()",
            "        p.grad = x.clone()",
            "    optimizer.step()",
            f"    return [-x / {case.hp['lr']!r} for p in parts for x in p.tolist()]",
        ]
    start = (
        f"torch.zeros({shape}, {kind})"
        if case.start is None
        else f"torch.tensor({case.start.tolist()}, {kind})"
    )
    update = f"[[-x / {case.hp['lr']!r} for x in row] for row in p.tolist()]"
    if len(shape) == 1:
        update = f"[-x / {case.hp['lr']!r} for x in p.tolist()]"
    return [
        "import torch",
        importing,
        f"p = torch.nn.Parameter({start})",
        f"optimizer = {call}([p], {_arguments(keywords)})",
        "def step(G):",
        *(["    p.data.zero_()  # so that p is -lr times the update"] if case.start is None else []),
        f"    p.grad = torch.tensor(G, {kind})",
        "    optimizer.step()",
        f"    return {'p.tolist()' if case.start is not None else update}",
    ]


def _step_lines(bench: Bench, case: Case, keywords: Mapping[str, object]) -> list[str]:
    importing, call = _call(bench.target.make, bench.target.name)
    module = call.rpartition(".")[0]
    make = (
        f"torch.tensor({{}}, dtype=torch.{bench.setting.dtype})"
        if bench.target.tensors
        else "numpy.array({}, dtype=float)"
    )
    start = np.zeros_like(case.gradients[0]) if case.start is None else case.start
    decays = f", {bench.target.theirs('W')}=W" if case.hp.get("weight_decay") else ""
    lines = [
        "import torch" if bench.target.tensors else "import numpy",
        importing,
        f"W = {make.format(start.tolist())}",
        f"state = {module}.init(W)",
        "def step(G):",
        "    global state, W",
        f"    update, state = {call}({make.format('G')}, state, {_arguments(keywords)}{decays})",
    ]
    if case.start is None:
        return [*lines, "    return update.tolist()"]
    return [*lines, f"    W = W - {case.hp['lr']!r} * update", "    return W.tolist()"]
