"""Driving a target: gradients in, parameters out, nothing else touched.

A session holds one optimizer on a list of parameters, or one pure step function on a list of arrays, behind
the same three verbs: `step`, `read`, `write`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from proofs_checks.conformance.case import Array
from proofs_checks.conformance.errors import TargetRaised

__all__ = ["OptimizerSession", "Session", "StepSession", "cast", "to_array", "to_tensor"]


def to_tensor(X: Array, dtype: str, device: str) -> torch.Tensor:
    """A fresh tensor with the values of `X`, rounded to `dtype`."""
    return torch.tensor(X, dtype=getattr(torch, dtype), device=device)


def to_array(X: torch.Tensor) -> Array:
    """A fresh float64 array with the values of `X`, exactly."""
    return X.detach().to("cpu", torch.float64, copy=True).numpy()


def cast(X: Array, dtype: str) -> Array:
    """The values of `X` rounded to `dtype`, as float64."""
    return to_array(to_tensor(np.asarray(X, dtype=np.float64), dtype, "cpu"))


class Session(Protocol):
    """One run of a target."""

    def step(self, gradients: Sequence[Array | None]) -> None:
        """Hand over one gradient per parameter (None: no gradient) and take one step."""

    def read(self) -> list[Array]:
        """The parameters, as fresh float64 arrays."""

    def write(self, arrays: Sequence[Array]) -> None:
        """Overwrite the parameters in place; the state is not touched."""


class OptimizerSession:
    """A `torch.optim.Optimizer`, or anything with its `step`, on parameters of one dtype.

    The last `late` parameters are not handed to it; `transposed` says that parameters and gradients are views
    of tensors in the other memory order.
    """

    def __init__(
        self,
        make: Callable[..., Any],
        arrays: Sequence[Array],
        keywords: Mapping[str, object],
        *,
        dtype: str,
        device: str,
        late: int = 0,
        transposed: bool = False,
    ) -> None:
        self.dtype, self.device, self._transposed = dtype, device, transposed
        self.parameters = [torch.nn.Parameter(self._tensor(X)) for X in arrays]
        try:
            self.optimizer = make(self.parameters[: len(arrays) - late], **keywords)
        except Exception as error:
            raise TargetRaised(error) from error

    def _tensor(self, X: Array) -> torch.Tensor:
        """`X` as a tensor, as a view in the other memory order if that was asked for."""
        if self._transposed:
            return to_tensor(X.T.copy(), self.dtype, self.device).T
        return to_tensor(X, self.dtype, self.device)

    def give(self, gradients: Sequence[Array | None]) -> None:
        """Set ``p.grad``."""
        for p, G in zip(self.parameters, gradients, strict=True):
            p.grad = None if G is None else self._tensor(G)

    def advance(self) -> None:
        """Call ``optimizer.step()``."""
        try:
            self.optimizer.step()
        except Exception as error:
            raise TargetRaised(error) from error

    def step(self, gradients: Sequence[Array | None]) -> None:
        """Give the gradients and advance."""
        self.give(gradients)
        self.advance()

    def read(self) -> list[Array]:
        """The parameters, as fresh float64 arrays."""
        return [to_array(p) for p in self.parameters]

    def write(self, arrays: Sequence[Array]) -> None:
        """Copy into the parameters."""
        with torch.no_grad():
            for p, X in zip(self.parameters, arrays, strict=True):
                p.copy_(to_tensor(X, self.dtype, self.device))


class StepSession:
    """A pure step function, ``step(G, state, **keywords) -> (update, state)``, with W kept here in float64.

    `tensors` says that the function works on torch tensors of `dtype` rather than on NumPy arrays; `decays`
    names the keyword through which it wants the parameter, for decoupled weight decay.
    """

    def __init__(
        self,
        init: Callable[..., Any],
        step: Callable[..., Any],
        arrays: Sequence[Array],
        keywords: Mapping[str, object],
        *,
        lr: float,
        tensors: bool,
        decays: str | None,
        dtype: str,
        device: str,
    ) -> None:
        self._step, self._keywords, self._lr = step, dict(keywords), lr
        self._tensors, self._decays = tensors, decays
        self._dtype, self._device = dtype, device
        self._W = [np.array(X, dtype=np.float64) for X in arrays]
        try:
            self.states = [init(self._in(W)) for W in self._W]
        except Exception as error:
            raise TargetRaised(error) from error

    def _in(self, X: Array) -> Any:
        return to_tensor(X, self._dtype, self._device) if self._tensors else X.copy()

    def _extra(self, i: int) -> dict[str, Any]:
        """Keywords that change from step to step."""
        return {self._decays: self._in(self._W[i])} if self._decays else {}

    def step(self, gradients: Sequence[Array | None]) -> None:
        """``W <- W - lr * update`` for every parameter that has a gradient."""
        for i, G in enumerate(gradients):
            if G is None:
                continue
            keywords = {**self._keywords, **self._extra(i)}
            try:
                update, self.states[i] = self._step(self._in(G), self.states[i], **keywords)
                update = to_array(update) if isinstance(update, torch.Tensor) else np.asarray(update)
                if update.shape != G.shape:
                    raise ValueError(
                        f"step returned an update of shape {update.shape} for a gradient of {G.shape}"
                    )
            except Exception as error:
                raise TargetRaised(error) from error
            self._W[i] = self._W[i] - self._lr * update

    def read(self) -> list[Array]:
        """The parameters, as fresh arrays."""
        return [W.copy() for W in self._W]

    def write(self, arrays: Sequence[Array]) -> None:
        """Overwrite the parameters."""
        self._W = [np.array(X, dtype=np.float64) for X in arrays]
