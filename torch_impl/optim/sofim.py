"""SOFIM as a `torch.optim.Optimizer`; the mathematics is in `torch_impl.sofim`."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from torch_impl import _checks
from torch_impl.optim import sharding, writing
from torch_impl.optim.base import CheckedOptimizer, Gradient
from torch_impl.optim.squares import average_and_sum, squares_of_each

__all__ = ["SOFIM"]

SCOPES = ("global", "group", "parameter")


class SOFIM(CheckedOptimizer):
    """SOFIM: bias-corrected momentum with one scalar step size adapted to its norm, for any parameters.

    Parameters
    ----------
    params : iterable of parameters, of ``(name, parameter)``, or of groups
        Of any shape; float64, float32, bfloat16 or float16.
    lr : float or one-element Tensor
        At least 0. Where the gradient is far below ``sqrt(rho)`` the step is that of momentum with
        ``lr / rho``; it is never longer than ``lr / (2 sqrt(rho))`` over all parameters together. The
        default is ours.
    beta : float
        Momentum, in [0, 1): weight of the old average. Ours: 0.9.
    rho : float
        Above 0: regularisation, in the units of the squared gradient norm. Above ``sqrt(rho)`` a larger
        gradient gives a *smaller* step. The paper tried 1, 0.5 and 0.1 and used 0.5.
    scope : {"global", "group", "parameter"}
        Over what the norm is taken. "global" is the paper's one flat vector: all parameters of all groups
        with this scope. "group" has a norm for every parameter group and "parameter" one for every
        parameter; both are other optimizers, ours, and the step bound above then holds for each group or
        parameter by itself. "parameter" costs a few small operations for every parameter.
    weight_decay : float
        At least 0, decoupled: ``W <- (1 - lr weight_decay) W`` before the step. The paper has none.
    maximize : bool
        Ascend instead of descend.
    nonfinite : {"raise", "skip"}
        What happens to a step with an infinity or a NaN in a gradient: ValueError, or nothing. Equal in all
        groups. Either way nothing changes.
    capturable : bool
        Step counts live with the parameters. Together with ``nonfinite="skip"`` a step never waits for the
        host and can be captured in a CUDA graph; it then works out of place and takes about twice the memory
        traffic. Capture with an `lr` tensor, because a number is frozen into the graph.

    Raises
    ------
    TypeError, ValueError
        If an option is out of range or a parameter is not real and dense.

    Notes
    -----
    Source: SOFIM, arXiv 2403.02833; direction in closed form (ours).

    The paper has one flat vector of all parameters. Accordingly there is one norm: nu is the squared norm of
    the bias-corrected momenta of all parameters that have a gradient, over all groups, each with the beta of
    its group. Then every parameter moves by ``lr / (rho + nu)`` times its momentum, with lr and rho of its
    group. Groups with different rho therefore see the same nu; that is our definition, the paper has one rho.
    The bias correction counts the steps of each parameter by itself. A parameter without a gradient is
    skipped and takes no part in the norm.

    State: one buffer M of the parameter's size (float64 for float64 parameters, else float32) and a count
    "step". The norm is accumulated in float64, over blocks of at most 1024 numbers that a CPU sums in
    float32; gradients of 1e30 in float32 neither overflow it nor stop training, but then a CPU takes it once
    more in float64, which costs as much as several steps.

    Time: next to momentum SGD, a look at the gradients before the step and a norm of the momenta after it,
    two passes of memory in which nothing is written (`benchmarks/step_cost.py` measures the ratio).

    ``torch.compile`` takes the step as one graph with ``nonfinite="skip"``. A changed `lr` that is a number
    makes it compile again; a tensor does not.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-1,
        *,
        beta: float = 0.9,
        rho: float = 0.5,
        scope: str = "global",
        weight_decay: float = 0.0,
        maximize: bool = False,
        nonfinite: str = "raise",
        capturable: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "beta": beta,
            "rho": rho,
            "scope": scope,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "nonfinite": nonfinite,
            "capturable": capturable,
        }
        super().__init__(params, defaults)

    def _check_options(self, options: Mapping[str, Any]) -> None:
        _checks.number("beta", options["beta"], at_least=0.0, below=1.0)
        _checks.number("rho", options["rho"], above=0.0)
        _checks.choice("scope", options["scope"], SCOPES)

    def _check_parameter(self, where: str, parameter: Tensor) -> None:
        """Any real dense tensor will do."""

    def _state_layout(self, parameter: Tensor) -> Mapping[str, tuple[int, ...] | None]:
        return {"M": tuple(parameter.shape), "step": ()}

    def _advance(self, gradients: Sequence[Gradient], accept: Tensor | None) -> None:
        states = [self._state(gradient) for gradient in gradients]
        writing.add_one([state["step"] for state in states], accept)
        batches = _batches(gradients, states)
        nu: dict[Hashable, Tensor] = {}
        for batch in batches:
            term = _averaged(batch, accept, careful=not self._moderate)
            nu[batch.scope] = nu[batch.scope] + term.to(nu[batch.scope].device) if batch.scope in nu else term
        for batch in batches:
            lr, rho = batch.group["lr"], batch.group["rho"]
            lr = lr.reshape(()) if isinstance(lr, Tensor) else lr
            denominators = [c * (rho + nu[batch.scope].to(batch.M[0].device)) for c in batch.corrections]
            writing.descend(batch.group, batch.W, batch.M, [lr / x for x in denominators], accept)

    def _new_state(self, gradient: Gradient) -> dict[str, Any]:
        W = gradient.parameter
        M = torch.zeros_like(W, dtype=_checks.working(W.dtype))
        return {"step": writing.new_count(gradient), "M": M}


class _Batch(NamedTuple):
    """Parameters that are stepped together, with their gradients and averages (local shards, if sharded).

    `corrections` holds ``1 - beta^t``: one number for all where the host knows the step counts, otherwise
    one tensor for each.
    """

    group: Mapping[str, Any]
    scope: Hashable
    corrections: list[float | Tensor]
    parameters: list[Tensor]
    W: list[Tensor]
    g: list[Tensor]
    M: list[Tensor]


def _batches(gradients: Sequence[Gradient], states: Sequence[Mapping[str, Tensor]]) -> list[_Batch]:
    known = not torch.compiler.is_compiling() and all(s["step"].device.type == "cpu" for s in states)
    batches: dict[Hashable, _Batch] = {}
    for gradient, state in zip(gradients, states, strict=True):
        where, W, g, group = gradient
        M, t = state["M"], float(state["step"]) if known else state["step"]
        scope = {"global": "", "group": f"group {id(group)}", "parameter": where}[group["scope"]]
        sharded = sharding.is_sharded(W)
        key = (id(group), scope, t if known else None, W.get_device(), W.dtype, M.dtype, sharded)
        batch = batches.get(key)
        if batch is None:
            batch = batches[key] = _Batch(group, scope, [], [], [], [], [])
        if not (known and batch.corrections):
            batch.corrections.append(1.0 - group["beta"] ** t)
        batch.parameters.append(W)
        batch.W.append(sharding.local(W) if sharded else W)
        batch.g.append(sharding.local(g) if sharded else g)
        batch.M.append(sharding.local(M) if sharded else M)
    return list(batches.values())


def _averaged(batch: _Batch, accept: Tensor | None, *, careful: bool) -> Tensor:
    """Average the gradients of a batch; return what it adds to ``nu = |M_hat|^2``, M_hat being ``M / c``."""
    beta, c = batch.group["beta"], batch.corrections
    dtype = batch.M[0].dtype
    g = batch.g if batch.g[0].dtype == dtype else [gradient.to(dtype) for gradient in batch.g]
    sharded = sharding.is_sharded(batch.parameters[0])
    if accept is None and not careful and isinstance(c[0], float) and not sharded:
        return average_and_sum(batch.M, g, beta) / c[0] ** 2
    writing.average(batch.M, g, beta, accept, careful=careful)
    squares = sharding.global_sums(squares_of_each(batch.M), batch.parameters)
    each = c if len(c) == len(squares) else c * len(squares)
    return torch.stack([x / y**2 for x, y in zip(squares, each, strict=True)]).sum()
