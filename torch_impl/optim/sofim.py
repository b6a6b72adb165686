"""SOFIM as a `torch.optim.Optimizer`; the mathematics is in `torch_impl.sofim`."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from torch_impl import _checks, sofim
from torch_impl.optim.base import Change, CheckedOptimizer, Gradient, flag, learning_rate

__all__ = ["SOFIM"]


class SOFIM(CheckedOptimizer):
    """SOFIM: bias-corrected momentum with one scalar step size adapted to its norm, for any parameters.

    Parameters
    ----------
    params : iterable of parameters, of ``(name, parameter)``, or of groups
        Of any shape; float64, float32, bfloat16 or float16.
    lr : float or one-element Tensor
        At least 0. Where the gradient is far below ``sqrt(rho)`` the step is that of momentum with
        ``lr / rho``; it is never longer than ``lr / (2 sqrt(rho))`` over all parameters together. The
        default is ours. A tensor on a GPU makes the host wait.
    beta : float
        Momentum, in [0, 1): weight of the old average. Ours: 0.9.
    rho : float
        Above 0: regularisation, in the units of the squared gradient norm. Above ``sqrt(rho)`` a larger
        gradient gives a *smaller* step. The paper tried 1, 0.5 and 0.1 and used 0.5.
    weight_decay : float
        At least 0, decoupled: ``W <- (1 - lr weight_decay) W`` before the step. The paper has none.
    maximize : bool
        Ascend instead of descend.

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

    State: one buffer of the parameter's size (float64 for float64 parameters, else float32) and a count.
    While a step is computed, new buffers and updates exist next to the old, so that a step can be refused as
    a whole. The norm is accumulated in float64 where the device has it, so that it cannot overflow.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-1,
        *,
        beta: float = 0.9,
        rho: float = 0.5,
        weight_decay: float = 0.0,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "beta": beta,
            "rho": rho,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def _check_options(self, options: Mapping[str, Any]) -> None:
        learning_rate(options["lr"])
        _checks.number("beta", options["beta"], at_least=0.0, below=1.0)
        _checks.number("rho", options["rho"], above=0.0)
        _checks.number("weight_decay", options["weight_decay"], at_least=0.0)
        flag("maximize", options["maximize"])

    def _check_parameter(self, where: str, parameter: Tensor) -> None:
        """Any real dense tensor will do."""

    def _state_layout(self, parameter: Tensor) -> Mapping[str, tuple[int, ...] | None]:
        return {"M": tuple(parameter.shape), "t": None}

    def _changes(self, gradients: Sequence[Gradient]) -> list[Change]:
        averages = []
        for gradient in gradients:
            parameter, beta = gradient.parameter, gradient.group["beta"]
            saved = self.state.get(parameter)
            old = saved["M"] if saved else torch.zeros_like(parameter, dtype=_checks.working(parameter.dtype))
            t = saved["t"] + 1 if saved else 1
            M = sofim.average(old, gradient.value, beta)
            averages.append((M, t, sofim.corrected(M, t, beta)))
        if not averages:
            return []
        device = averages[0][0].device
        nu = torch.stack([sofim.squared_norm(M_hat).to(device) for *_, M_hat in averages]).sum()
        return [
            Change(
                gradient,
                sofim.preconditioned(M_hat, nu.to(M_hat.device), gradient.group["rho"]),
                {"M": M, "t": t},
            )
            for gradient, (M, t, M_hat) in zip(gradients, averages, strict=True)
        ]
