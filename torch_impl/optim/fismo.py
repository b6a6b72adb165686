"""FISMO as a `torch.optim.Optimizer`; the mathematics is in `torch_impl.fismo`."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from torch_impl import _checks, fismo
from torch_impl.optim.base import Change, CheckedOptimizer, Gradient, flag, learning_rate
from torch_impl.polar import Orthogonalizer

__all__ = ["FISMO"]


class FISMO(CheckedOptimizer):
    """FISMO: Fisher-structured momentum-orthogonalised optimizer, for matrix parameters.

    Parameters
    ----------
    params : iterable of 2-D parameters, of ``(name, parameter)``, or of groups
        float64, float32, bfloat16 or float16. Vectors, embeddings and convolution kernels belong to another
        optimizer, such as `torch.optim.AdamW`.
    lr : float or one-element Tensor
        At least 0. Because the update is orthogonalised, it sets the size of the step directly: with
        identity factors every singular value of the step is lr. The default is ours. A tensor on a GPU makes
        the host wait.
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
        Whether the column factor sees the new row factor (as printed) or the old one.
    factor_scaling : {"none", "unit"}
        "none" is as printed: with gradient entries far below 1 the factors stay at the identity and the
        method is Muon with averaged gradients. "unit" normalises the gradient inside the factor
        statistics, so that the step does not depend on the scale of the loss; mu is then relative to 1.
    orthogonalize : {"polar", "jordan", "polar-express"} or callable
        "polar" is the exact polar factor, by an SVD: the most expensive part of a step. "jordan" and
        "polar-express" are products of matrices only, and approximate. The paper's choice is not known.
        A callable is saved by reference in checkpoints, so give it a name at module level.
    weight_decay : float
        At least 0, decoupled: ``W <- (1 - lr weight_decay) W`` before the step. The paper has none.
    maximize : bool
        Ascend instead of descend.

    Raises
    ------
    TypeError, ValueError
        If an option is out of range or a parameter is not a real dense matrix.

    Notes
    -----
    Source: FISMO, arXiv 2601.21750, Algorithm 1. No implementation by its authors and
    none of the paper's settings are known to us.

    State per (m, n) matrix: ``m^2 + n^2 + m n`` numbers (P, Q, M), in float64 for float64 parameters and in
    float32 otherwise. While a step is computed, the new state and the updates of all parameters exist next to
    the old, so that a step can be refused as a whole. Time: two eigendecompositions and two Cholesky
    factorisations (of sizes m and n, in float64) and one orthogonalisation per matrix. Matrices of equal
    shape, precision and options are stacked and stepped as one batch.

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
        weight_decay: float = 0.0,
        maximize: bool = False,
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
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def _check_options(self, options: Mapping[str, Any]) -> None:
        learning_rate(options["lr"])
        _checks.number("beta", options["beta"], at_least=0.0, below=1.0)
        fismo.check_options(**{name: options[name] for name in fismo.FACTOR_OPTIONS})
        fismo.check_orthogonalizer(options["orthogonalize"])
        _checks.number("weight_decay", options["weight_decay"], at_least=0.0)
        flag("maximize", options["maximize"])

    def _check_parameter(self, where: str, parameter: Tensor) -> None:
        if parameter.ndim != 2:
            raise ValueError(
                f"params must be matrices, got shape {tuple(parameter.shape)} for {where}: give vectors, "
                "embeddings and convolution kernels to another optimizer, such as torch.optim.AdamW"
            )

    def _state_layout(self, parameter: Tensor) -> Mapping[str, tuple[int, ...] | None]:
        m, n = parameter.shape
        return {"P": (m, m), "Q": (n, n), "M": (m, n)}

    def _changes(self, gradients: Sequence[Gradient]) -> list[Change]:
        batches: dict[tuple[Any, ...], list[tuple[Gradient, fismo.FismoState]]] = {}
        for gradient in gradients:
            saved = self.state.get(gradient.parameter)
            state = fismo.FismoState(**saved) if saved else fismo.init(gradient.parameter)
            options = tuple(gradient.group[name] for name in fismo.STEP_OPTIONS)
            key = (gradient.value.shape, state.P.dtype, gradient.value.device, options)
            batches.setdefault(key, []).append((gradient, state))
        return [change for batch in batches.values() for change in _step_batch(batch)]


def _step_batch(batch: Sequence[tuple[Gradient, fismo.FismoState]]) -> list[Change]:
    """Step equal-shaped matrices with equal options as one batch."""
    gradients, states = zip(*batch, strict=True)
    dtype, group = states[0].P.dtype, gradients[0].group
    G = torch.stack([gradient.value.to(dtype) for gradient in gradients])
    state = fismo.FismoState(*(torch.stack(factors) for factors in zip(*states, strict=True)))
    try:
        update, after = fismo.step(G, state, **{name: group[name] for name in fismo.STEP_OPTIONS})
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
        names = ", ".join(gradient.where for gradient in gradients)
        raise ValueError(
            f"mu must be large enough for definite factors, got mu = {group['mu']!r} and gamma = "
            f"{group['gamma']!r}: a factorisation failed for {names}; nothing was changed"
        ) from error
    return [
        Change(gradient, update[index], {"P": after.P[index], "Q": after.Q[index], "M": after.M[index]})
        for index, gradient in enumerate(gradients)
    ]
