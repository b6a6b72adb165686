"""FISMO as a `torch.optim.Optimizer`; the mathematics is in `torch_impl.fismo`."""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from torch_impl import _checks, fismo
from torch_impl.optim import loading, sharding, writing
from torch_impl.optim.base import CheckedOptimizer, Gradient, flag
from torch_impl.optim.compiling import uncompiled
from torch_impl.polar import Orthogonalizer

__all__ = ["FISMO"]

#: State that is kept only between refreshes: the inverse roots of P and Q.
ROOTS = {"A", "C"}

WHY = ": its state is singular or overflows in its precision"


class FISMO(CheckedOptimizer):
    """FISMO: Fisher-structured momentum-orthogonalised optimizer, for matrix parameters.

    Parameters
    ----------
    params : iterable of 2-D parameters, of ``(name, parameter)``, or of groups
        float64, float32, bfloat16 or float16. Vectors, embeddings and heads belong to another optimizer,
        such as `torch.optim.AdamW`; `torch_impl.split_parameters` sorts them.
    lr : float or one-element Tensor
        At least 0. Because the update is orthogonalised, it sets the size of the step directly: with
        identity factors every singular value of the step is lr. The default is ours.
    beta : float
        Momentum, in [0, 1): weight of the old average. Ours: 0.9.
    gamma : float
        In [0, 1]: weight of the old factors; close to 1 they move slowly. Ours: 0.95.
    mu : float
        At least 0: damping of the factors, in units of the squared gradient entry. The larger, the closer to
        Muon; 0 may end in a singular factor, which the step then refuses. Ours: 1e-2.
    damping : {"algorithm", "theorem"}
        "algorithm" is Algorithm 1 as printed; "theorem" uses the damping of Theorem 4.1, costs the same and
        keeps the factors well conditioned for gradients of any size.
    order : {"gauss-seidel", "jacobi"}
        Whether the column factor sees the new row factor (as printed) or the old one. Costs the same.
    factor_scaling : {"none", "unit"}
        "none" is as printed: with gradient entries far below 1 the factors stay at the identity and the
        method is Muon with averaged gradients. "unit" normalises the gradient inside the factor
        statistics, so that the step does not depend on the scale of the loss; mu is then relative to 1.
        Costs one pass over the gradient.
    orthogonalize : {"polar", "jordan", "polar-express"} or callable
        "polar" is the exact polar factor, by an SVD: the most expensive part of a step. "jordan" and
        "polar-express" are products of matrices only, and approximate. The paper's choice is not known.
        A callable is saved by reference in checkpoints, so give it a name at module level.
    refresh : int
        K of at least 1: the inverse roots of the factors are computed in steps 1, 1 + K, 1 + 2K, ... of a
        parameter and held in between, while the factors move in every step. 1 is the paper; any other K is a
        variant, which saves the two eigendecompositions of the steps between, but neither the polar factor
        nor the two Cholesky factorisations of the statistics.
    reshape : bool
        True: parameters of more than two dimensions are used as matrices (out, rest), which for a convolution
        kernel is ``(out, in * height * width)``. False refuses them. Vectors and scalars are always refused.
    weight_decay : float
        At least 0, decoupled: ``W <- (1 - lr weight_decay) W`` before the step. The paper has none.
    maximize : bool
        Ascend instead of descend.
    nonfinite : {"raise", "skip"}
        What happens to a step with an infinity or a NaN in a gradient, or with a factor that is singular or
        overflows: ValueError, or nothing. Equal in all groups. Either way nothing changes.
    capturable : bool
        Step counts live with the parameters, and with ``nonfinite="skip"`` the verdict on the step stays
        there. The factorisations wait for the host all the same: a step cannot be captured in a CUDA graph,
        and `torch.compile` leaves it as it is.

    Raises
    ------
    TypeError, ValueError
        If an option is out of range or a parameter is not a real dense matrix.

    Notes
    -----
    Source: FISMO, arXiv 2601.21750, Algorithm 1. No implementation by its authors and
    none of the paper's settings are known to us.

    State per (m, n) matrix: ``m^2 + n^2 + m n`` numbers (P, Q, M) and a count "step"; with refresh above 1
    another ``m^2 + n^2`` (the inverse roots A, C). They are float64 for float64 parameters and float32
    otherwise. While a step is computed, the new state and the updates of all parameters exist next to the
    old, so that a step can be refused as a whole. Time: two eigendecompositions and two Cholesky
    factorisations (of sizes m and n, in float64) and one orthogonalisation per matrix. Matrices of equal
    shape, precision and options are stacked and stepped as one batch.

    A sharded parameter (DTensor) is gathered: every process holds the whole state, computes the whole step
    and writes its own part.

    Half precision parameters are stepped in float32 and rounded once, on storing. Parameters without a
    gradient are skipped. A zero gradient adds nothing to the momentum; while the momentum is zero the
    parameter does not move. Empty parameters are left as they are.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        *,
        beta: float = 0.9,
        gamma: float = 0.95,
        mu: float = 1e-2,
        damping: str = "algorithm",
        order: str = "gauss-seidel",
        factor_scaling: str = "none",
        orthogonalize: Orthogonalizer = "polar",
        refresh: int = 1,
        reshape: bool = False,
        weight_decay: float = 0.0,
        maximize: bool = False,
        nonfinite: str = "raise",
        capturable: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "beta": beta,
            "gamma": gamma,
            "mu": mu,
            "damping": damping,
            "order": order,
            "factor_scaling": factor_scaling,
            "orthogonalize": orthogonalize,
            "refresh": refresh,
            "reshape": reshape,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "nonfinite": nonfinite,
            "capturable": capturable,
        }
        super().__init__(params, defaults)

    def _check_options(self, options: Mapping[str, Any]) -> None:
        _checks.number("beta", options["beta"], at_least=0.0, below=1.0)
        fismo.check_options(**{name: options[name] for name in fismo.FACTOR_OPTIONS})
        fismo.check_orthogonalizer(options["orthogonalize"])
        _checks.count("refresh", options["refresh"], at_least=1)
        flag("reshape", options["reshape"])

    def _check_parameter(self, where: str, parameter: Tensor) -> None:
        reshape = self._group_of(parameter)["reshape"]
        if parameter.ndim == 2 or (parameter.ndim > 2 and reshape):
            return
        hint = ", or reshape=True to use them as matrices (out, rest)" if parameter.ndim > 2 else ""
        raise ValueError(
            f"params must be matrices, got shape {tuple(parameter.shape)} for {where}: give vectors, "
            f"embeddings and convolution kernels to another optimizer, such as torch.optim.AdamW{hint}"
        )

    def _check_capture(self) -> None:
        if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
            raise RuntimeError(
                "a step of FISMO cannot be captured in a CUDA graph: its factorisations wait for the host"
            )

    def _state_layout(self, parameter: Tensor) -> Mapping[str, tuple[int, ...] | None]:
        m, n = _sides(parameter)
        return {"P": (m, m), "Q": (n, n), "M": (m, n), "step": ()}

    def _check_state(self, where: str, parameter: Tensor, state: Mapping[str, Any]) -> None:
        layout = dict(self._state_layout(parameter))
        if not ROOTS.isdisjoint(state):
            layout |= {"A": layout["P"], "C": layout["Q"]}
        loading.check_layout(where, layout, state)

    def _new_state(self, gradient: Gradient) -> dict[str, Any]:
        W = gradient.parameter
        state = fismo.init(torch.empty(_sides(W), dtype=W.dtype, device=W.device))
        return {**state._asdict(), "step": writing.new_count(gradient)}

    @uncompiled
    def _advance(self, gradients: Sequence[Gradient], accept: Tensor | None) -> None:
        before = [self.state.get(g.parameter) or self._new_state(g) for g in gradients]
        batches: dict[Hashable, list[int]] = {}
        for index, (gradient, state) in enumerate(zip(gradients, before, strict=True)):
            options = tuple(gradient.group[name] for name in fismo.STEP_OPTIONS)
            key = (state["M"].shape, state["M"].dtype, state["M"].device, options, _due(gradient, state))
            batches.setdefault(key, []).append(index)
        after: dict[int, dict[str, Tensor]] = {}
        for members in batches.values():
            batch = [(gradients[index], before[index]) for index in members]
            after |= zip(members, self._step_batch(batch), strict=True)
        results = [after[index] for index in range(len(gradients))]
        accept = self._accept(_named(gradients, results), accept, why=WHY)
        for gradient, old, new in zip(gradients, before, results, strict=True):
            self.state[gradient.parameter] = old
            _remember(old, new, accept, held=gradient.group["refresh"] > 1)
        writing.add_one([state["step"] for state in before], accept)
        for gradient, result in zip(gradients, results, strict=True):
            W = gradient.parameter
            update = sharding.shard_like(result["update"].reshape(W.shape), W)
            writing.descend(gradient.group, [sharding.local(W)], [update], [gradient.group["lr"]], accept)

    def _step_batch(self, batch: Sequence[tuple[Gradient, Mapping[str, Tensor]]]) -> list[dict[str, Tensor]]:
        """Step equal-shaped matrices with equal options as one batch, out of place."""
        gradients, states = zip(*batch, strict=True)
        group, dtype = gradients[0].group, states[0]["M"].dtype
        G = torch.stack([_matrix(gradient.value).to(dtype) for gradient in gradients])
        P, Q, M = (torch.stack([state[name] for state in states]) for name in "PQM")
        roots = None
        if not _due(gradients[0], states[0]):
            roots = torch.stack([s["A"] for s in states]), torch.stack([s["C"] for s in states])
        options = {name: group[name] for name in fismo.STEP_OPTIONS}
        try:
            update, (P, Q, M), (A, C) = fismo.advance(G, fismo.FismoState(P, Q, M), roots, **options)
        except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
            names = ", ".join(gradient.where for gradient in gradients)
            raise self._refusal(
                f"mu must be large enough for definite factors, got mu = {group['mu']!r} and gamma = "
                f"{group['gamma']!r}: a factorisation failed for {names}; nothing was changed"
            ) from error
        stacks = {"update": update, "P": P, "Q": Q, "M": M, "A": A, "C": C}
        return [{name: x[index] for name, x in stacks.items()} for index in range(len(batch))]

    def _group_of(self, parameter: Tensor) -> Mapping[str, Any]:
        return next(
            group for group in self.param_groups if any(parameter is other for other in group["params"])
        )


def _sides(parameter: Tensor) -> tuple[int, int]:
    """Rows and columns of the matrix a parameter is used as: (out, rest)."""
    return parameter.shape[0], math.prod(parameter.shape[1:])


def _matrix(gradient: Tensor) -> Tensor:
    """The whole gradient as a plain matrix."""
    return sharding.full(gradient).reshape(_sides(gradient))


def _due(gradient: Gradient, state: Mapping[str, Any]) -> bool:
    """Whether the inverse roots are to be computed in this step."""
    refresh = gradient.group["refresh"]
    return refresh == 1 or not state.keys() >= ROOTS or int(state["step"]) % refresh == 0


def _named(
    gradients: Sequence[Gradient], results: Sequence[Mapping[str, Tensor]]
) -> list[tuple[str, Tensor]]:
    """What must have come out finite; where roots were held, a bad factor would not show in the update."""
    named = []
    for gradient, result in zip(gradients, results, strict=True):
        named.append((f"the update of {gradient.where}", result["update"]))
        if gradient.group["refresh"] > 1:
            named += [(f"the factor {name} of {gradient.where}", result[name]) for name in "PQ"]
    return named


def _remember(old: dict[str, Any], new: Mapping[str, Tensor], accept: Tensor | None, *, held: bool) -> None:
    """Write the new state over the old; inverse roots only where later steps will use them."""
    names = [*"PQM", *("AC" if held else "")]
    for name in names:
        if name not in old:
            old[name] = torch.zeros_like(new[name])
    writing.overwrite([old[name] for name in names], [new[name] for name in names], accept)
    if not held:
        for name in ROOTS & old.keys():
            del old[name]
