"""CMP-lbfgs-torch: our L-BFGS against ``torch.optim.LBFGS``, step by step.

The package is an oracle: it is run, not read by the reference. Every step starts from torch's own state, so
that both sides see the same pairs and gradient and nothing accumulates: pairs must agree bit for bit, the
displacement up to the order of summation.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from proofs_checks.evidence import Finding, evidence
from proofs_checks.ratios import Ratio, unit_roundoff, worst, yes_no
from reference.lbfgs import LbfgsState, init, step

__all__ = ["MEMORY", "TorchStep", "against_torch", "displacement", "quadratic", "torch_run", "waves"]

Array = NDArray[np.float64]
Function = Callable[[torch.Tensor], torch.Tensor]

#: Pairs kept: few, so that pairs are dropped too.
MEMORY = 3

DOUBLE = unit_roundoff("float64")


class TorchStep(NamedTuple):
    """One step of torch: the state before it, the gradient it saw, the state after it."""

    before: LbfgsState
    g: Array
    after: LbfgsState


def quadratic(rng: np.random.Generator, d: int) -> Function:
    """A convex quadratic of condition 10, which keeps every pair until it has converged."""
    V = np.linalg.qr(rng.standard_normal((d, d)))[0]
    H = torch.tensor((V * np.logspace(0.0, -1.0, d)) @ V.T)
    return lambda w: 0.5 * w @ H @ w


def waves(rng: np.random.Generator, d: int) -> Function:
    """A function with negative curvature in places, so that pairs are refused."""
    a = torch.tensor(rng.uniform(0.5, 2.0, d))
    return lambda w: (1 - torch.cos(a * w)).sum() + 0.05 * w @ w


def torch_run(f: Function, start: Array, *, lr: float, steps: int) -> Iterator[TorchStep]:
    """Steps of ``torch.optim.LBFGS`` without line search or termination, until the gradient is zero."""
    w = torch.tensor(start, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [w], lr=lr, max_iter=1, tolerance_grad=0, tolerance_change=0, history_size=MEMORY
    )
    gradients: list[Array] = []

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = f(w)
        (g,) = torch.autograd.grad(loss, w)
        w.grad = g
        gradients.append(g.numpy().copy())
        return loss

    after = init(start.shape, memory=MEMORY)
    for _ in range(steps):
        before = after
        optimizer.step(closure)  # type: ignore[no-untyped-call]
        if not gradients[-1].any():
            return
        after = _ours(optimizer.state[w], len(start))
        yield TorchStep(before, gradients[-1], after)


def displacement(name: str, computed: Array, after: LbfgsState) -> Ratio:
    """Distance of a displacement from torch's, over what rounding allows.

    A loop of the recursion is an inner product, of d roundings, and a multiple of a vector, of 2; the pairs
    magnify them as the accuracy note of `two_loop_direction` says, and both sides round. The step itself adds
    3: the norm of the first one aside, which is d.
    """
    kept = after.S.any(axis=-1)
    S, Y = after.S[kept], after.Y[kept]
    angles = np.linalg.norm(S, axis=-1) * np.linalg.norm(Y, axis=-1) / (S * Y).sum(axis=-1)
    roundings = (2 * len(S) + 1) * (len(computed) + 2) + 3
    size = float(np.linalg.norm(after.s)) * float(np.prod((1 + angles) ** 2))
    return Ratio(name, float(np.linalg.norm(computed - after.s)), 2 * roundings * DOUBLE * size)


@evidence(
    faults=("threshold-too-high", "learning-rate-forgotten", "first-step-uncapped", "oldest-pair-scales"),
    scope="region",
)
def against_torch(*, fault: str | None = None) -> Finding:
    """Every step of 24 runs of 15 steps in dimensions 1 to 6, on functions that keep and that refuse pairs.

    Faults: pairs below 0.01 are refused; pairs are made as if the learning rate were 1; the first step is the
    gradient; the start of the recursion is scaled by the oldest pair.
    """
    rng = np.random.default_rng(20240821)
    ratios: list[Ratio] = []
    same, refused, steps = True, 0, 0
    for d in (1, 2, 4, 6):
        for function in (quadratic, waves):
            for lr in (1.0, 0.5, 0.1):
                start = 3 * rng.standard_normal(d)
                for before, g, after in torch_run(function(rng, d), start, lr=lr, steps=15):
                    state, s = _faulty_step(g, before, lr, fault)
                    same = same and all(
                        np.array_equal(a, b) for a, b in ((state.S, after.S), (state.Y, after.Y))
                    )
                    ratios.append(displacement("displacement", s, after))
                    refused += int(before.S.any() and np.array_equal(before.S, after.S))
                    steps += 1
    return Finding(
        (
            yes_no("pairs equal bit for bit", same),
            worst(ratios),
            yes_no("pairs were refused", refused > 0),
        ),
        f"torch {torch.__version__.partition('+')[0]}: {steps} steps, {refused} with a refused pair; pairs "
        f"equal, displacements within {worst(ratios).value:.2g} of their budget",
        figures={"steps": float(steps), "refused": float(refused)},
    )


def _faulty_step(g: Array, before: LbfgsState, lr: float, fault: str | None) -> tuple[LbfgsState, Array]:
    """Our state and displacement, with a planted fault."""
    used = 1.0 if fault == "learning-rate-forgotten" else lr
    _, state = step(g, before, lr=used, least_curvature=1e-2 if fault == "threshold-too-high" else 1e-10)
    s = state.s
    if fault == "first-step-uncapped" and not before.g.any():
        s = -lr * g
    if fault == "oldest-pair-scales" and state.S.any():
        oldest = np.flatnonzero(state.S.any(axis=-1))[0]
        scales = [(S @ Y) / (Y @ Y) for S, Y in ((state.S[k], state.Y[k]) for k in (oldest, -1))]
        s = s * scales[0] / scales[1]
    return state, s


def _ours(state: dict[str, object], d: int) -> LbfgsState:
    """torch's state in our form: pairs at the end, zeros before them."""
    new = init((d,), memory=MEMORY)
    S, Y, direction, length, g = (state[key] for key in ("old_stps", "old_dirs", "d", "t", "prev_flat_grad"))
    for X, rows in ((new.S, S), (new.Y, Y)):
        for i, row in enumerate(reversed(rows)):  # type: ignore[call-overload]
            X[-1 - i] = row.numpy()
    return LbfgsState(new.S, new.Y, (direction * length).numpy(), g.numpy().copy())  # type: ignore
