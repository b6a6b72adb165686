"""The methods that are compared, what is searched for each, and why there.

No method has weight decay, so that AdamW is Adam: it belongs to the problem, not to the method, and neither
FISMO's nor SOFIM's paper has any. What is not searched stands at its published or its package's default.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import nn

from benchmarks.train import optimizers
from benchmarks.train.optimizers import PEERS, Built
from benchmarks.train.spaces import Choice, Config, Integers, LogUniform, Range

__all__ = ["METHODS", "Method"]


@dataclass(frozen=True)
class Method:
    """A method under comparison.

    Attributes
    ----------
    name, title : str
        For the command line and for the report.
    space : mapping from hyper-parameter to range
    why : str
        Where the ranges come from.
    build : callable ``(model, config) -> Built``
    passes : int or None
        Gradient evaluations of one step; None for a method that evaluates a closure as often as it likes.
    curvature : bool
        Whether the step differentiates the gradient, which therefore keeps its graph.
    package : str
        Who wrote the rule that is run.
    sources : tuple of globs
        Files of this repository that the rule consists of: recorded runs are void when they change.
    """

    name: str
    title: str
    space: Mapping[str, Range]
    why: str
    build: Callable[[nn.Module, Config], Built]
    passes: int | None = 1
    curvature: bool = False
    package: str = "torch"
    sources: tuple[str, ...] = ()

    def require(self) -> None:
        """Raise MissingPackageError where the method cannot be run here."""
        if self.package == PEERS:
            optimizers.peers()


OURS = ("torch_impl/**/*.py",)
SPLIT = ("torch_impl/split.py", "torch_impl/optim/composite.py")

#: Step sizes of AdamW, alone or on the parameters that a matrix method does not take; PyTorch's default 1e-3.
ADAM_LR = LogUniform(3e-4, 3e-2)
#: Step sizes of orthogonalised updates: the largest singular value of a step is about lr. Muon's usual: 0.02.
SPECTRAL_LR = LogUniform(3e-3, 1e-1)

FISMO_SPACE = {
    "lr": SPECTRAL_LR,
    "mu": LogUniform(1e-4, 1.0),
    "gamma": Choice((0.9, 0.95, 0.99)),
    "lr_rest": ADAM_LR,
}
FISMO_WHY = (
    "step sizes as for Muon, whose limit FISMO is; gamma and the low end of mu as in the one sweep suggested "
    "for the paper (mu 1e-4 to 1e-2), the high end because unit scaling needs 0.01 to 0.1; the paper's own "
    "settings are not known; beta 0.9, the exact polar factor (Polar Express on a GPU, where singular values "
    "are slow), roots at every step; AdamW on the rest"
)

_ALL = (
    Method(
        "adamw",
        "AdamW",
        {"lr": ADAM_LR, "beta1": Choice((0.8, 0.9, 0.95)), "beta2": Choice((0.9, 0.95, 0.99, 0.999))},
        "around PyTorch's defaults 1e-3, 0.9, 0.999; smaller beta2 because runs are short",
        optimizers.adamw,
    ),
    Method(
        "sgd",
        "SGD with momentum",
        {
            "lr": LogUniform(1e-2, 1.0),
            "momentum": Choice((0.8, 0.9, 0.95, 0.99)),
            "nesterov": Choice((False, True)),
        },
        "around the textbook settings 0.1 and 0.9",
        optimizers.sgd,
    ),
    Method(
        "muon",
        "Muon",
        {"lr": SPECTRAL_LR, "momentum": Choice((0.8, 0.9, 0.95, 0.99)), "lr_rest": ADAM_LR},
        "around the usual 0.02 and 0.95; AdamW on the rest",
        optimizers.muon,
        sources=SPLIT,
    ),
    Method(
        "shampoo",
        "Shampoo",
        {"lr": LogUniform(1e-2, 1.0), "epsilon": LogUniform(1e-6, 1e-1), "lr_rest": ADAM_LR},
        "the sums of the factors shrink the step, so that it starts larger than Muon's; epsilon from the "
        "package's default 1e-6 up; roots at every step, no momentum, as the rule is published; AdamW on the "
        "rest",
        optimizers.shampoo,
        package=PEERS,
        sources=SPLIT,
    ),
    Method(
        "adahessian",
        "AdaHessian",
        {"lr": LogUniform(1e-2, 1.0), "epsilon": LogUniform(1e-6, 1e-2), "power": Choice((0.5, 1.0))},
        "around the published 0.15 and 1e-4; power 1 is usual",
        optimizers.adahessian,
        passes=2,
        curvature=True,
        package=PEERS,
    ),
    Method(
        "lbfgs",
        "L-BFGS",
        {
            "lr": LogUniform(1e-2, 1.0),
            "iterations": Integers(1, 20),
            "line_search": Choice(("none", "strong_wolfe")),
        },
        "1 and 20 are PyTorch's defaults; smaller ones because a mini-batch is not the objective; the "
        "variant used for the SOFIM paper is not known",
        optimizers.lbfgs,
        passes=None,
    ),
    Method(
        "fismo",
        "FISMO (as printed)",
        FISMO_SPACE,
        FISMO_WHY,
        optimizers.fismo("algorithm", "none"),
        sources=OURS,
    ),
    Method(
        "fismo-theorem",
        "FISMO (theorem damping)",
        FISMO_SPACE,
        FISMO_WHY,
        optimizers.fismo("theorem", "none"),
        sources=OURS,
    ),
    Method(
        "fismo-unit",
        "FISMO (unit scaling)",
        FISMO_SPACE,
        FISMO_WHY,
        optimizers.fismo("algorithm", "unit"),
        sources=OURS,
    ),
    Method(
        "sofim",
        "SOFIM",
        {
            "lr": LogUniform(1e-2, 5.0),
            "rho": LogUniform(1e-2, 20.0),
            "beta": Choice((0.8, 0.9, 0.95)),
        },
        "rho and the high end of lr as searched in the follow-up DP-FedSOFIM; the paper tried rho 1, 0.5 and "
        "0.1",
        optimizers.sofim,
        sources=OURS,
    ),
    Method(
        "adafisher",
        "AdaFisher",
        {
            "lr": LogUniform(3e-4, 3e-1),
            "lam": LogUniform(1e-4, 1e-1),
            "gamma": Choice((0.5, 0.8, 0.92, 0.99)),
        },
        "from the published 1e-3, 1e-3 and 0.8 (0.92 in the authors' logs); steps reach far above the "
        "published ones because the released averaging, a denominator of about lam, is not what is run here",
        optimizers.adafisher,
        sources=OURS,
    ),
)

#: Every method by name, in the order of the report.
METHODS = {method.name: method for method in _ALL}
