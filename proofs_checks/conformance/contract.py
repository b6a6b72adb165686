"""Level 0: what anyone may expect of an optimizer before its mathematics is looked at.

Everything here is demanded of every implementation alike: that it moves its parameters and nothing else,
keeps its own state, survives a checkpoint, treats parameters one by one, and refuses what it cannot do.
Nothing is asked that the published methods or PyTorch's own optimizers do not promise.
"""

import copy
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from proofs_checks.conformance.bench import Bench
from proofs_checks.conformance.case import Array, Case, Check, Verdict, compare, fact
from proofs_checks.conformance.errors import NotApplicable, TargetRaised
from proofs_checks.conformance.globals import kept
from proofs_checks.conformance.records import Level
from proofs_checks.conformance.session import OptimizerSession, to_tensor
from proofs_checks.ratios import ORDER_ONE

__all__ = ["contract_checks"]

#: One array per step.
_Steps = tuple[Array, ...]
#: What the closure returns.
LOSS = 42.0
#: A method for matrices that takes a vector must say in its documentation what it does with it.
_DOCUMENTED = re.compile(r"\b([12]-?D|vectors?|matri(x|ces)|bias(es)?|fallback|embeddings?)\b", re.IGNORECASE)


def _gradients(bench: Bench, rng: np.random.Generator) -> Iterable[Case]:
    """Three well-conditioned steps of the smallest shape that is neither square nor a vector."""
    first, second = np.zeros((2, 3)), np.zeros((2, 3))
    np.fill_diagonal(first, (1.0, 2.0**-5))
    np.fill_diagonal(second, (2.0, -(2.0**-5)))
    steps: tuple[Array, ...] = (first, second, first)
    if bench.spec.coupled and bench.is_step:  # a step function on the flat vector of all parameters
        steps = tuple(G.ravel() for G in steps)
    yield Case(bench.hp(), steps)


def _others(case: Case) -> tuple[Array, ...]:
    """Gradients of the same shape that differ from the case's at every step, exact in every dtype."""
    return tuple(-2.0 * np.roll(G, 1, axis=-1) for G in case.gradients)


def _start(case: Case) -> Array:
    return np.ones_like(case.gradients[0])


def _state(session: OptimizerSession) -> dict[str, Any]:
    return copy.deepcopy(session.optimizer.state_dict())


def _equal(a: Any, b: Any) -> bool:
    """Whether two pieces of state agree to the last bit, dtypes included."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(_equal, a, b))
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    return bool(a == b)


def _bits(arrays: Iterable[Array]) -> list[bytes]:
    return [X.tobytes() for X in arrays]


def _in_place(bench: Bench, case: Case) -> Verdict:
    """A step keeps shape, dtype and device, changes the parameter it was given, and leaves it finite."""
    session = bench.start_optimizer([_start(case)], case.hp)
    (p,) = session.parameters
    before, address = (p.shape, p.dtype, p.device), p.data_ptr()
    for G in case.gradients:
        session.step([G])
    (q,) = [q for group in session.optimizer.param_groups for q in group["params"]]
    if (q.shape, q.dtype, q.device) != before or q is not p:
        return fact("in place", False, f"the parameter became {tuple(q.shape)} {q.dtype} on {q.device}")
    if p.data_ptr() != address:
        return fact("in place", False, "the parameter's memory was replaced instead of updated in place")
    finite = bool(torch.isfinite(p).all())
    return fact(
        "in place", finite, "shape, dtype and device kept" if finite else f"the parameter became {p.tolist()}"
    )


def _inputs_kept(bench: Bench, case: Case) -> Verdict:
    """Gradients (and for a step function the old state) hold what they held."""
    if bench.is_step:
        session = bench.start_step([_start(case)], case.hp)
        session.step([case.gradients[0]])
        before = copy.deepcopy(session.states[0])
        held = session.states[0]
        session.step([case.gradients[1]])
        same = all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(held, before, strict=True))
        return fact(
            "inputs kept", same, "state kept" if same else "the step function modified the state it was given"
        )
    runner = bench.start_optimizer([_start(case)], case.hp)
    for G in case.gradients:
        runner.step([G])
        grad = runner.parameters[0].grad
        if grad is None or not torch.equal(grad, to_tensor(G, bench.setting.dtype, bench.setting.device)):
            return fact("inputs kept", False, f"the gradient was changed from {G.tolist()} by the step")
    return fact("inputs kept", True, "gradients kept")


def _state_dict(bench: Bench, case: Case) -> Verdict:
    """A checkpoint is complete: saved, loaded and continued, the trajectory is the same to the last bit."""
    original = bench.start_optimizer([_start(case)], case.hp)
    for G in case.gradients[:-1]:
        original.step([G])
    saved = _state(original)
    kept_copy = copy.deepcopy(saved)
    resumed = bench.start_optimizer(original.read(), case.hp)
    resumed.optimizer.load_state_dict(saved)
    if not _equal(saved, kept_copy):
        return fact("state_dict", False, "load_state_dict modified the dictionary it was given")
    loaded = _state(resumed)
    if not _equal(loaded["state"], saved["state"]):
        return fact("state_dict", False, f"loading changed the state: {_difference(saved, loaded)}")
    for session in (original, resumed):
        session.step([case.gradients[-1]])
    same = _bits(original.read()) == _bits(resumed.read())
    return fact("state_dict", same, "continued bit for bit" if same else "the resumed trajectory differs")


def _difference(saved: dict[str, Any], loaded: dict[str, Any]) -> str:
    """Which entry of the state differs, for the message."""
    for index, entries in saved["state"].items():
        for name, value in entries.items():
            other = loaded["state"].get(index, {}).get(name)
            if not _equal(value, other):
                kinds = [str(getattr(v, "dtype", type(v).__name__)) for v in (value, other)]
                return (
                    f"{name!r} was {kinds[0]}, is {kinds[1]}"
                    if kinds[0] != kinds[1]
                    else f"values of {name!r}"
                )
    return "its keys"


def _no_gradient(bench: Bench, case: Case) -> Verdict:
    """A parameter without gradient keeps its value and its state."""
    session = bench.start_optimizer([_start(case), _start(case)], case.hp)
    first, second, third = case.gradients
    session.step([first, -first])
    value, state = session.read()[1], _state(session)["state"].get(1)
    session.step([second, None])
    session.step([third, None])
    moved = session.read()[1].tobytes() != value.tobytes()
    if moved:
        return fact("no gradient", False, "a parameter whose gradient is None was moved")
    same = _equal(_state(session)["state"].get(1), state)
    return fact(
        "no gradient", same, "left alone" if same else "state of a parameter without gradient was changed"
    )


def _alone(bench: Bench, case: Case) -> tuple[_Steps, _Steps]:
    """Updates of the target for the case's gradients and for `_others`, each in an optimizer of its own.

    A method with one norm over all parameters gets both in one parameter instead.
    """
    others = _others(case)
    if not bench.spec.coupled:
        return bench.run(case), bench.run(replace(case, gradients=others))
    joined = tuple(np.stack(pair) for pair in zip(case.gradients, others, strict=True))
    both = bench.run(replace(case, gradients=joined))
    return tuple(U[0] for U in both), tuple(U[1] for U in both)


def _close(name: str, bench: Bench, observed: _Steps, expected: _Steps, budgets: _Steps) -> Verdict:
    """Two computations of the same updates: they may differ by the rounding of both."""
    allowed = tuple(2 * b + ORDER_ONE * bench.u * np.abs(X) for b, X in zip(budgets, expected, strict=True))
    return compare(name, observed, expected, allowed)


def _budgets(bench: Bench, case: Case) -> tuple[_Steps, _Steps]:
    """Rounding budgets of the updates for the case's gradients and for `_others`."""
    others = _others(case)
    if not bench.spec.coupled:
        return bench.spec.oracle(bench, case)[1], bench.spec.oracle(bench, replace(case, gradients=others))[1]
    joined = tuple(np.stack(pair) for pair in zip(case.gradients, others, strict=True))
    _, both = bench.spec.oracle(bench, replace(case, gradients=joined))
    return tuple(b[0] for b in both), tuple(b[1] for b in both)


def _stacked(pairs: tuple[_Steps, _Steps], *, second: float = 1.0) -> _Steps:
    return tuple(np.stack([X, second * Y]) for X, Y in zip(*pairs, strict=True))


def _side_by_side(bench: Bench, case: Case, session: OptimizerSession) -> tuple[Array, ...]:
    zeros = [np.zeros_like(case.gradients[0])] * 2
    out = []
    for G, H in zip(case.gradients, _others(case), strict=True):
        session.write(zeros)
        session.step([G, H])
        out.append(np.stack([-W / case.hp["lr"] for W in session.read()]))
    return tuple(out)


def _neighbours(bench: Bench, case: Case) -> Verdict:
    """Two parameters of one shape, two gradients: each moves as it would alone (or as one joint vector)."""
    session = bench.start_optimizer([np.zeros_like(case.gradients[0])] * 2, case.hp)
    observed, expected = _side_by_side(bench, case, session), _stacked(_alone(bench, case))
    return _close("neighbours", bench, observed, expected, _stacked(_budgets(bench, case)))


def _groups(bench: Bench, case: Case) -> Verdict:
    """A group added later with twice the step size moves twice as far, the first group as before."""
    session = bench.start_optimizer([np.zeros_like(case.gradients[0])] * 2, case.hp, late=1)
    late = {"params": session.parameters[1:], bench.target.theirs("lr"): 2.0 * case.hp["lr"]}
    session.optimizer.add_param_group(late)
    observed, expected = _side_by_side(bench, case, session), _stacked(_alone(bench, case), second=2.0)
    return _close("groups", bench, observed, expected, _stacked(_budgets(bench, case), second=2.0))


def _scheduled(bench: Bench, case: Case) -> Verdict:
    """A step size changed in `param_groups` between steps, as schedulers do, counts from the next step on."""
    session = bench.start_optimizer([np.zeros_like(case.gradients[0])], case.hp)
    observed, factors = [], (1.0, 0.5, 4.0)
    for G, factor in zip(case.gradients, factors, strict=False):
        session.write([np.zeros_like(G)])
        for group in session.optimizer.param_groups:
            group[bench.target.theirs("lr")] = factor * case.hp["lr"]
        session.step([G])
        observed.append(-session.read()[0] / (factor * case.hp["lr"]))
    return _close("schedule", bench, tuple(observed), bench.run(case), bench.spec.oracle(bench, case)[1])


def _layout(bench: Bench, case: Case) -> Verdict:
    """Parameters and gradients that are views in another memory order give the same steps."""
    zeros = [np.zeros_like(case.gradients[0])]
    session = bench.start_optimizer(zeros, case.hp, transposed=True)
    observed = []
    for G in case.gradients:
        session.write(zeros)
        session.step([G])
        observed.append(-session.read()[0] / case.hp["lr"])
    return _close("layout", bench, tuple(observed), bench.run(case), bench.spec.oracle(bench, case)[1])


def _deterministic(bench: Bench, case: Case) -> Verdict:
    """Same inputs, same bits."""
    same = _bits(bench.run(case)) == _bits(bench.run(case))
    return fact("determinism", same, "same bits twice" if same else "two identical runs differ")


def _zero_lr(bench: Bench, case: Case) -> Verdict:
    """A step size of zero moves nothing."""
    try:
        session = bench.start_optimizer([_start(case)], {**case.hp, "lr": 0.0})
    except TargetRaised as error:
        raise NotApplicable(f"the target refuses lr=0: {error}") from error
    for G in case.gradients:
        session.step([G])
    same = bool((session.read()[0] == _start(case)).all())
    return fact(
        "zero step size",
        same,
        "nothing moved" if same else f"lr=0 moved the parameter to {session.read()[0].tolist()}",
    )


def _negative_lr(bench: Bench, case: Case) -> Verdict:
    """A negative step size is refused when the optimizer is made."""
    try:
        bench.start([_start(case)], {**case.hp, "lr": -1.0})
    except TargetRaised as error:
        return fact("refusal", True, f"refused with {error}")
    return fact("refusal", False, "lr=-1 was accepted")


def _vectors(bench: Bench, case: Case) -> Verdict:
    """A method for matrices refuses a vector, or its documentation says what becomes of it."""
    vector = case.gradients[0][0]
    try:
        bench.start([np.ones_like(vector)], case.hp).step([vector])
    except TargetRaised as error:
        return fact("refusal", True, f"refused with {error}")
    documented = bool(_DOCUMENTED.search(bench.target.make.__doc__ or ""))
    return fact(
        "refusal",
        documented,
        "accepted, and the documentation speaks of it"
        if documented
        else "a vector was accepted without a word in the documentation",
    )


def _closure(bench: Bench, case: Case) -> Verdict:
    """``step(closure)`` evaluates the closure once, with gradients enabled, and returns its value."""
    session = bench.start_optimizer([_start(case)], case.hp)
    calls: list[bool] = []

    def closure() -> float:
        calls.append(torch.is_grad_enabled())
        session.give([case.gradients[0]])
        return LOSS

    returned = session.optimizer.step(closure)
    holds = returned == LOSS and calls == [True]
    return fact(
        "closure", holds, f"returned {returned!r}, evaluated {len(calls)} times, gradients enabled: {calls}"
    )


def _globals(bench: Bench, case: Case) -> Verdict:
    """Random states, default dtype, thread counts and the like are as before."""
    with kept() as leaks:
        bench.run(case)
    return fact("global state", not leaks, f"changed: {', '.join(leaks)}" if leaks else "nothing changed")


_CONTRACT = (
    (
        "in-place",
        "a step keeps shape, dtype and device and writes into the parameter it was given",
        _in_place,
        True,
    ),
    ("inputs-kept", "gradients and old states are inputs: they keep their values", _inputs_kept, False),
    ("state-dict", "save, load, continue: the same trajectory to the last bit", _state_dict, True),
    ("no-gradient", "a parameter without gradient keeps its value and its state", _no_gradient, True),
    ("neighbours", "parameters of one shape do not mix beyond what the method says", _neighbours, True),
    ("groups", "each parameter group has its own step size, also when added later", _groups, True),
    ("schedule", "a step size changed in param_groups counts from the next step on", _scheduled, True),
    ("layout", "memory order of parameters and gradients does not matter", _layout, True),
    ("deterministic", "same inputs, same bits", _deterministic, False),
    ("zero-lr", "a step size of zero moves nothing", _zero_lr, True),
    ("negative-lr", "a negative step size is refused", _negative_lr, True),
    (
        "closure",
        "step(closure) evaluates the closure once with gradients enabled and returns its value",
        _closure,
        True,
    ),
    ("global-state", "random states, default dtype and thread counts are left alone", _globals, False),
)


def contract_checks(spec: str, *, matrices_only: bool) -> tuple[Check, ...]:
    """The level 0 checks of a spec; `matrices_only` adds that vectors are refused or documented."""
    rows: tuple[tuple[str, str, Callable[[Bench, Case], Verdict], bool], ...] = _CONTRACT
    if matrices_only:
        rows = (
            *rows,
            (
                "vectors",
                "a parameter that is no matrix is refused, or its treatment documented",
                _vectors,
                True,
            ),
        )
    return tuple(
        Check(
            f"{spec}.contract.{name}",
            None,
            statement,
            Level.CONTRACT,
            _gradients,
            judge,
            optimizer_only=optimizer_only,
            script=False,
        )
        for name, statement, judge, optimizer_only in rows
    )
