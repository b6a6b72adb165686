"""What is measured along a training run: conditioning of the update, FISMO's factors, alignment.

Symbols as in the papers: G gradient, dW = W_new - W_old, P and Q FISMO's factors, mu its damping and
b = |G|_F^2 / (m n mu). A parameter of more than two dimensions counts as the matrix ``(out, rest)``.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["PER_MATRIX", "Observer", "Record", "columns", "conditioning", "factor_figures", "quartiles"]

#: Figures that exist once per matrix; a record holds their quartiles over the matrices.
PER_MATRIX = ("kappa", "kappa_limit", "seen", "alignment", "kappa_P", "kappa_Q", "P_minus_I", "b")

Figures = dict[str, float]
Record = dict[str, float | list[float]]


class Observer:
    """Watches one step at a time: `before`, `gradient` at the old weights, the step, then `after`.

    Late in training an update is as small as the rounding of the weights, which would hide its singular
    values. So between `hold` and `release` the step is taken from zero, where it is stored to its own
    precision, and added to the weights afterwards. Without weight decay, which no method here has, a step
    does not depend on the weights but through the gradient, so that training goes on as if unwatched, but for
    the rounding of one addition. A step that evaluates a closure, or differentiates the gradient, cannot be
    held: there the difference of the weights has to do.

    Parameters
    ----------
    model : Module
    matrices : sequence of (name, parameter)
        Matrices of the model to report on.
    fismo : Optimizer, optional
        The FISMO among the optimizers, whose state holds P and Q of its parameters.

    Notes
    -----
    Costs the singular values of every matrix and the eigenvalues of its factors.
    """

    def __init__(
        self,
        model: nn.Module,
        matrices: Sequence[tuple[str, Tensor]],
        fismo: torch.optim.Optimizer | None = None,
    ) -> None:
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._matrices = {id(parameter) for _, parameter in matrices}
        self._fismo = fismo
        self._old: list[Tensor] = []
        self._gradients: list[Tensor | None] = []
        self._updates: list[Tensor] | None = None

    def before(self) -> None:
        """Note the weights."""
        self._old, self._gradients = [p.detach().clone() for p in self._parameters], []
        self._updates = None

    def gradient(self) -> None:
        """Note the gradients: an optimizer may overwrite them, or evaluate others before its step is done."""
        self._gradients = [None if p.grad is None else p.grad.detach().clone() for p in self._parameters]

    @torch.no_grad()
    def hold(self) -> None:
        """Put zero in place of the weights."""
        for W in self._parameters:
            W.zero_()

    @torch.no_grad()
    def release(self) -> None:
        """Put the weights back and the update on top."""
        self._updates = [W.detach().clone() for W in self._parameters]
        for W, old, dW in zip(self._parameters, self._old, self._updates, strict=True):
            W.copy_(old + dW)

    @torch.no_grad()
    def after(self) -> Record:
        """Figures of the step that was taken; quartiles (three numbers) where there is one per matrix."""
        inner, squares, moved = 0.0, 0.0, 0.0
        rows: list[Figures] = []
        for index, (W, G) in enumerate(zip(self._parameters, self._gradients, strict=True)):
            if G is None:
                continue
            dW, g = self._update(index), G.double()
            products = [float((x * y).sum()) for x, y in ((g, -dW), (g, g), (dW, dW))]
            inner, squares, moved = inner + products[0], squares + products[1], moved + products[2]
            if id(W) in self._matrices:
                figures = conditioning(dW.flatten(1), dtype=W.dtype, rounding=self._rounding(W))
                figures["alignment"] = _cosine(*products)
                rows.append(figures | self._factors(W, products[1]))
        record: Record = {
            "alignment_all": _cosine(inner, squares, moved),
            "gradient_norm": math.sqrt(squares),
            "update_norm": math.sqrt(moved),
        }
        for name in PER_MATRIX:
            values = [row[name] for row in rows if name in row]
            if values:
                record[name] = quartiles(values)
        return record

    def _update(self, index: int) -> Tensor:
        if self._updates is not None:
            return self._updates[index].double()
        return self._parameters[index].detach().double() - self._old[index].double()

    def _rounding(self, W: Tensor) -> float:
        """By how much storing the weights has moved singular values: each entry by at most ``u |w|``."""
        if self._updates is not None:
            return 0.0
        return _roundoff(W.dtype) * float(torch.linalg.vector_norm(W.detach().double()))

    def _factors(self, W: Tensor, squares: float) -> Figures:
        if self._fismo is None or "P" not in self._fismo.state.get(W, {}):
            return {}
        group = next(g for g in self._fismo.param_groups if any(p is W for p in g["params"]))
        state = self._fismo.state[W]
        return factor_figures(
            state["P"],
            state["Q"],
            mean_square=squares / W.numel(),
            mu=group["mu"],
            unit=group["factor_scaling"] == "unit",
        )


def conditioning(dW: Tensor, *, dtype: torch.dtype, rounding: float = 0.0) -> Figures:
    """Condition number of an update, as far as rounding lets it be seen.

    Parameters
    ----------
    dW : (m, n)
        The update. Unmodified.
    dtype : torch.dtype
        Precision that it was computed in.
    rounding : float
        A further perturbation of dW, in the spectral norm, such as that of stored weights it was taken from.

    Returns
    -------
    figures : dict
        ``kappa``: largest over smallest singular value, among those above rounding; ``kappa_limit``: the
        largest kappa that could have been seen; ``seen``: the part of all singular values that is above
        rounding. Where it is below 1, the others are zero or the condition is above the limit. Empty for an
        update that is zero or nowhere above rounding.

    Notes
    -----
    Below ``max(m, n) u s_1``, with u the unit roundoff of `dtype`, a singular value cannot be told from zero:
    the usual cut-off of a rank.
    """
    s = torch.linalg.svdvals(dW.double())
    if s.numel() == 0 or not s[0] > 0:
        return {}
    floor = max(max(dW.shape) * _roundoff(dtype) * float(s[0]), rounding)
    seen = s[s > floor]
    if seen.numel() == 0:
        return {}
    return {
        "kappa": float(seen[0] / seen[-1]),
        "kappa_limit": float(s[0]) / floor,
        "seen": seen.numel() / s.numel(),
    }


def factor_figures(P: Tensor, Q: Tensor, *, mean_square: float, mu: float, unit: bool) -> Figures:
    """Conditions of FISMO's factors, their distance from the identity, and b.

    Parameters
    ----------
    P, Q : (m, m) and (n, n)
        Symmetric positive definite. Unmodified.
    mean_square : float
        ``|G|_F^2 / (m n)``.
    mu : float
        Damping; without it b is not defined and left out.
    unit : bool
        Whether the statistics see G scaled to mean square 1, so that b is ``1 / mu``.
    """
    p, q = (torch.linalg.eigvalsh(X.double()) for X in (P, Q))
    figures = {
        "kappa_P": _condition(p, P.dtype),
        "kappa_Q": _condition(q, Q.dtype),
        "P_minus_I": float((p - 1.0).abs().max()),
    }
    if mu > 0:
        figures["b"] = (1.0 if unit else mean_square) / mu
    return figures


def quartiles(values: Sequence[float]) -> list[float]:
    """Lower quartile, median and upper quartile."""
    return [float(x) for x in np.quantile(values, (0.25, 0.5, 0.75))]


def columns(
    records: Sequence[Mapping[str, float | list[float]]],
) -> dict[str, list[float | list[float] | None]]:
    """Records as one list per figure; None where a record lacks the figure."""
    names = dict.fromkeys(name for record in records for name in record)
    return {name: [record.get(name) for record in records] for name in names}


def _condition(eigenvalues: Tensor, dtype: torch.dtype) -> float:
    """Largest over smallest; a smallest one below the rounding of the largest counts as that rounding."""
    largest = eigenvalues[-1]
    return float(largest / eigenvalues[0].clamp_min(_roundoff(dtype) * largest))


def _cosine(inner: float, squares: float, moved: float) -> float:
    size = math.sqrt(squares) * math.sqrt(moved)
    return inner / size if size > 0 else 0.0


def _roundoff(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).eps / 2
