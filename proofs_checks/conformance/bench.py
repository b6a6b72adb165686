"""A target on the bench: one setting of the sweep, and the ways in which checks run it."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from proofs_checks.conformance.case import Array, Case, Setting, Spec
from proofs_checks.conformance.errors import TargetRaised
from proofs_checks.conformance.layer_case import LayerCase, layered
from proofs_checks.conformance.layer_session import LayerStepSession, ModelSession
from proofs_checks.conformance.session import OptimizerSession, Session, StepSession, cast
from proofs_checks.conformance.target import Target
from proofs_checks.ratios import unit_roundoff

__all__ = ["Bench"]


@dataclass(frozen=True)
class Bench:
    """A target held to a spec in one setting; `dtypes` are those of the sweep that the setting is part of."""

    target: Target
    spec: Spec
    setting: Setting
    seed: int
    dtypes: tuple[str, ...] = ()

    @property
    def u(self) -> float:
        """Unit roundoff of the parameters."""
        return unit_roundoff(self.setting.dtype)

    @property
    def smallest(self) -> float:
        """Smallest positive number of the parameters' format."""
        info = torch.finfo(getattr(torch, self.setting.dtype))
        return float(info.smallest_normal) * float(info.eps)

    @property
    def working_u(self) -> float:
        """Unit roundoff of the arithmetic that the variant allows by its option `precision`."""
        named = self.setting.variant.get("precision", "parameter")
        return self.u if named == "parameter" else unit_roundoff(str(named))

    @property
    def is_step(self) -> bool:
        """Whether the target is a pure step function."""
        return self.target.init is not None

    def rng(self, check: str) -> np.random.Generator:
        """Random numbers that depend on the seed and the check only: every setting sees the same inputs."""
        return np.random.default_rng([self.seed, zlib.crc32(check.encode())])

    def cast(self, X: Array) -> Array:
        """`X` rounded to the dtype of the setting."""
        return cast(X, self.setting.dtype)

    def hp(self, **chosen: float) -> dict[str, float]:
        """Hyper-parameters of a case: the spec's, what is swept or built in, and what the check chooses."""
        values = {**self.spec.hyper_parameters, **self.setting.swept, **self.target.fixed}
        return {**values, **chosen}  # type: ignore[dict-item]

    def refusal(self, hp: Mapping[str, float]) -> str:
        """Why the target cannot be run with these hyper-parameters; empty if it can."""
        for name, value in hp.items():
            if name in self.target.fixed and value != self.target.fixed[name]:
                return (
                    f"needs {name}={value:g}, but {name}={self.target.fixed[name]} is built into the target"
                )
            if name in self.target.lacks and value != self.hp()[name] and not (self.is_step and name == "lr"):
                return f"needs {name}={value:g}, but the target has no hyper-parameter {name}"
        return ""

    def unusable(self) -> str:
        """Why the target takes no first step in this dtype, if it does in another of the sweep; or empty."""
        reason = self._first_step_error()
        others = [
            replace(self, setting=replace(self.setting, dtype=dtype))
            for dtype in self.dtypes
            if dtype != self.setting.dtype
        ]
        if reason and not all(other._first_step_error() for other in others):
            return f"the target refuses {self.setting.dtype} parameters: {reason}"
        return ""

    def _first_step_error(self) -> str:
        G = np.ones(2) if self.is_step and self.spec.coupled else np.eye(2)
        try:
            self.run(Case(self.hp(), (G,)))
        except TargetRaised as error:
            return str(error)
        return ""

    def start(self, arrays: list[Array], hp: Mapping[str, float]) -> Session:
        """A fresh run of the target on these parameters."""
        return self.target.start(arrays, hp, self.setting)

    def start_optimizer(
        self, arrays: list[Array], hp: Mapping[str, float], *, late: int = 0, transposed: bool = False
    ) -> OptimizerSession:
        """A fresh run of a target that is an optimizer; `late` and `transposed` as in `OptimizerSession`."""
        return self.target.optimize(arrays, hp, self.setting, late=late, transposed=transposed)

    def start_step(self, arrays: list[Array], hp: Mapping[str, float]) -> StepSession:
        """A fresh run of a target that is a step function."""
        session = self.start(arrays, hp)
        assert isinstance(session, StepSession)
        return session

    def run(self, case: Case) -> tuple[Array, ...]:
        """The updates U_1, U_2, ... of the target, or W_1, W_2, ... if the case has a start."""
        if self.spec.model:
            return self._run_layer(layered(case))
        first = case.gradients[0]
        sizes = np.cumsum(case.split[:-1], dtype=int)

        def parts(X: Array) -> list[Array]:
            return [part.copy() for part in np.split(X, sizes)] if case.split else [X]

        def whole(blocks: list[Array]) -> Array:
            return np.concatenate(blocks) if case.split else blocks[0]

        session = self.start(parts(np.zeros_like(first) if case.start is None else case.start), case.hp)
        out = []
        for G in case.gradients:
            if case.start is None:
                session.write(parts(np.zeros_like(first)))
            session.step(parts(G))
            W = whole(session.read())
            out.append(W if case.start is not None else -W / case.hp["lr"])
        return tuple(out)

    def _run_layer(self, case: LayerCase) -> tuple[Array, ...]:
        """`run` on a model of one layer."""
        session = self.start_layer(case)
        rest, out = case.layer.rest(), []
        for t in range(len(case.steps)):
            if case.start is None:
                session.write([rest])
            session.follow(case, t)
            (W,) = session.read()
            out.append(W if case.start is not None else (rest - W) / case.hp["lr"])
        return tuple(out)

    def start_layer(self, case: LayerCase) -> ModelSession | LayerStepSession:
        """A fresh run of the target on the layer of a case."""
        start = case.layer.rest() if case.start is None else case.start
        return self.target.train([case.layer], [start], case.hp, self.setting)
