"""The part of a stand-alone script that trains one layer, and what a record says of its inputs."""

from collections.abc import Sequence
from typing import Any

import numpy as np

import reference.adafisher
from proofs_checks.conformance.bench import Bench
from proofs_checks.conformance.case import Array
from proofs_checks.conformance.layer_case import LayerCase, Pass
from proofs_checks.conformance.layers import Embedding, Layer

__all__ = ["by_parameter", "hexed", "inputs", "model_lines", "step_lines"]

#: Calls with a backward pass each.
_PLAIN = """\
    for h, s in calls:
        loss(h, s).backward()"""

#: Calls of every kind, as `proofs_checks.conformance.layer_case.drive` makes them.
_MIXED = """\
    total = 0.0
    for (h, s, how), following in zip(calls, [*calls[1:], None]):
        if how == "eval":
            model.eval()
            with torch.no_grad():
                loss(h, s)
            model.train()
            continue
        value = loss(h, s)
        if how == "unused":
            continue
        total = total + value
        if following is None or following[2] != "joint":
            total.backward()
            total = 0.0"""


def hexed(X: Array | float) -> Any:
    """Nested lists of ``float.hex`` texts."""
    return [hexed(row) for row in X] if isinstance(X, np.ndarray) and X.ndim else float(X).hex()


def inputs(case: LayerCase) -> dict[str, object]:
    """The layer, its start and every call of it, floats in hexadecimal."""
    rest = "at rest before every step" if case.start is None else hexed(case.start)
    steps = [[{"how": p.how, "h": hexed(p.h), "s": hexed(p.s)} for p in passes] for passes in case.steps]
    return {"layer": case.layer.source(), "start": rest, "steps": steps}


def by_parameter(layer: Layer, arrays: Sequence[Array]) -> str:
    """Matrices of all parameters as literals: for each step one row per parameter of the module."""
    return repr([[part.ravel().tolist() for part in layer.parts(X)] for X in arrays])


def model_lines(bench: Bench, case: LayerCase, importing: str, call: str, arguments: str) -> list[str]:
    """A model of one layer, its optimizer, `step`, and the calls of the layer before every step."""
    device = "" if bench.setting.device == "cpu" else f", device={bench.setting.device!r}"
    kind = f"dtype=torch.{bench.setting.dtype}{device}"
    start = case.layer.rest() if case.start is None else case.start
    kept = case.start is not None
    row = "p.double()" if kept else f"((x - p.double()) / {case.hp['lr']!r})"
    plain = all(p.how == "backward" for passes in case.steps for p in passes)
    index = isinstance(case.layer, Embedding)
    tensor = "torch.tensor(h)" if index else f"torch.tensor(h, {kind})"

    def call_of(p: Pass) -> tuple[object, ...]:
        h = p.h.astype(int) if index else p.h
        return (h.tolist(), p.s.tolist()) if plain else (h.tolist(), p.s.tolist(), p.how)

    given = [[call_of(p) for p in passes] for passes in case.steps]
    return [
        "import torch",
        importing,
        f"model = torch.nn.Sequential({case.layer.source().removesuffix(')')}, {kind}))",
        f"start = [torch.tensor(x) for x in {[part.tolist() for part in case.layer.parts(start)]!r}]",
        f"optimizer = {call}(model, {arguments})",
        "def restart():",
        "    with torch.no_grad():",
        "        for p, x in zip(model.parameters(), start):",
        "            p.copy_(x)",
        "def loss(h, s):",
        f"    return (torch.tensor(s, {kind}) * model({tensor})).sum()",
        *(["restart()"] if kept else []),
        "def step(calls):",
        *([] if kept else ["    restart()  # so that start - p is lr times the update"]),
        "    optimizer.zero_grad()",
        _PLAIN if plain else _MIXED,
        "    optimizer.step()",
        f"    return [{row}.flatten().tolist() for p, x in zip(model.parameters(), start)]",
        f"gradients = {given!r}  # before every step: inputs of the layer, gradients at its output",
    ]


def step_lines(bench: Bench, case: LayerCase, importing: str, call: str, arguments: str) -> list[str]:
    """A step function, given what an optimizer would measure, and whether it would."""
    tensors = bench.target.tensors
    array = (
        f"torch.tensor(x, dtype=torch.{bench.setting.dtype})" if tensors else "numpy.array(x, dtype=float)"
    )
    start = np.zeros(case.layer.shape) if case.start is None else case.start
    given = []
    for t, G in enumerate(case.gradients_in(bench.setting.dtype, bench.setting.device)):
        (block,) = case.factors(t, reference.adafisher)
        fresh = t % int(case.hp["refresh"]) == 0
        given.append((G.tolist(), block.h_D.tolist(), block.s_D.tolist(), fresh))
    refresh = "" if "refresh" in bench.target.lacks else "refresh=fresh, "
    decays = f", {bench.target.theirs('W')}=W" if case.start is not None and case.hp["weight_decay"] else ""
    lines = [
        "import torch" if tensors else "import numpy",
        importing,
        f"array = lambda x: {array}",
        f"W = array({start.tolist()})",
        f"state = {call.rpartition('.')[0]}.init(W)",
        "def step(given):",
        "    global state, W",
        "    G, h_D, s_D, fresh = given",
        f"    measured = dict({refresh}h_D=array(h_D), s_D=array(s_D))",
        f"    update, state = {call}(array(G), state, **measured, {arguments}{decays})",
    ]
    kept = [f"    W = W - {case.hp['lr']!r} * update", "    return W.tolist()"]
    last = ["    return update.tolist()"] if case.start is None else kept
    return [*lines, *last, f"gradients = {given!r}  # gradient, h_D, s_D, whether they are fresh"]
