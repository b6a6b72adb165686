"""How each optimizer is built over a model from a configuration."""

import importlib
import importlib.metadata
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import torch_impl
from benchmarks.train.spaces import Config

__all__ = [
    "PEERS",
    "Built",
    "MissingPackageError",
    "adafisher",
    "adahessian",
    "adamw",
    "fismo",
    "lbfgs",
    "matrices",
    "muon",
    "peers",
    "peers_version",
    "sgd",
    "shampoo",
    "sofim",
]

PEERS = "pytorch_optimizer"


class MissingPackageError(ImportError):
    """A method needs a package that is not installed."""


@dataclass(frozen=True)
class Built:
    """An optimizer over a model, and the FISMO inside it whose factors are recorded."""

    optimizer: torch.optim.Optimizer
    fismo: torch.optim.Optimizer | None = None


def matrices(model: nn.Module) -> list[tuple[str, Tensor]]:
    """The parameters that matrix methods take, by name: the same split for all of them."""
    return _split(model)[0]


def peers_version() -> str | None:
    """Version of the package of peers, or None without it."""
    try:
        return importlib.metadata.version("pytorch-optimizer")
    except importlib.metadata.PackageNotFoundError:
        return None


def peers() -> Any:
    """The package of peers; MissingPackageError if it is not installed."""
    with warnings.catch_warnings():  # what its import warns about is its affair
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(PEERS)
        except ImportError as error:
            raise MissingPackageError(
                "shampoo and adahessian need the package pytorch-optimizer: "
                f"pip install 'fisherproof[peers]', or leave them out with --methods ({error})"
            ) from error


def _split(model: nn.Module) -> tuple[list[tuple[str, Tensor]], list[Tensor]]:
    """Matrices by name, and everything else that is trained."""
    split = torch_impl.split_parameters(model, verbose=False)
    return split.matrices, [parameter for _, parameter in split.others]


def _composed(optimizer: torch.optim.Optimizer, rest: list[Tensor], config: Config) -> torch.optim.Optimizer:
    """A matrix method with AdamW, at PyTorch's defaults but for its step size, on everything else."""
    if not rest:
        return optimizer
    others = torch.optim.AdamW(rest, lr=config["lr_rest"], weight_decay=0.0)
    return torch_impl.Composite([optimizer, others], rollback=False)  # a run whose step fails is over anyway


def fismo(damping: str, factor_scaling: str) -> Callable[[nn.Module, Config], Built]:
    """FISMO on the matrices: the exact polar factor, by Polar Express on a GPU; kernels as matrices."""

    def build(model: nn.Module, config: Config) -> Built:
        taken, rest = _split(model)
        on_cpu = next(model.parameters()).device.type == "cpu"
        inner = torch_impl.FISMO(
            [parameter for _, parameter in taken],
            lr=config["lr"],
            gamma=config["gamma"],
            mu=config["mu"],
            damping=damping,
            factor_scaling=factor_scaling,
            orthogonalize="polar" if on_cpu else "polar-express",
            reshape=True,
        )
        return Built(_composed(inner, rest, config), inner)

    return build


def muon(model: nn.Module, config: Config) -> Built:
    """`torch.optim.Muon` on the matrices, with convolution kernels as matrices."""
    taken, rest = _split(model)
    pairs = [(nn.Parameter(p.detach().view(p.shape[0], -1)), p) for _, p in taken]
    inner = torch.optim.Muon(
        [view for view, _ in pairs], lr=config["lr"], momentum=config["momentum"], weight_decay=0.0
    )

    def hand_over_gradients(*_: Any) -> None:
        for view, p in pairs:  # Muon takes matrices only: it steps views that share the parameters' memory
            view.grad = None if p.grad is None else p.grad.reshape(view.shape)

    inner.register_step_pre_hook(hand_over_gradients)
    return Built(_composed(inner, rest, config))


def shampoo(model: nn.Module, config: Config) -> Built:
    """The peers' Shampoo on the matrices, with roots at every step."""
    taken, rest = _split(model)
    factored = peers().Shampoo([p for _, p in taken], lr=config["lr"], matrix_eps=config["epsilon"])
    return Built(_composed(factored, rest, config))


def adahessian(model: nn.Module, config: Config) -> Built:
    """The peers' AdaHessian on everything."""
    return Built(
        peers().AdaHessian(
            _trained(model), lr=config["lr"], eps=config["epsilon"], hessian_power=config["power"]
        )
    )


def adamw(model: nn.Module, config: Config) -> Built:
    """`torch.optim.AdamW` on everything."""
    betas = (config["beta1"], config["beta2"])
    return Built(torch.optim.AdamW(_trained(model), lr=config["lr"], betas=betas, weight_decay=0.0))


def sgd(model: nn.Module, config: Config) -> Built:
    """`torch.optim.SGD` with momentum on everything."""
    momentum, nesterov = config["momentum"], config["nesterov"]
    return Built(torch.optim.SGD(_trained(model), lr=config["lr"], momentum=momentum, nesterov=nesterov))


def lbfgs(model: nn.Module, config: Config) -> Built:
    """`torch.optim.LBFGS` on everything, each step on one mini-batch."""
    line_search = None if config["line_search"] == "none" else config["line_search"]
    return Built(
        torch.optim.LBFGS(
            _trained(model), lr=config["lr"], max_iter=config["iterations"], line_search_fn=line_search
        )
    )


def sofim(model: nn.Module, config: Config) -> Built:
    """SOFIM on everything, with the paper's one norm."""
    return Built(torch_impl.SOFIM(_trained(model), lr=config["lr"], beta=config["beta"], rho=config["rho"]))


def adafisher(model: nn.Module, config: Config) -> Built:
    """AdaFisher on everything."""
    # A raw parameter, such as a positional embedding, has no layer: it takes steps of momentum with lr.
    return Built(
        torch_impl.AdaFisher(model, lr=config["lr"], lam=config["lam"], gamma=config["gamma"], fallback=1.0)
    )


def _trained(model: nn.Module) -> list[Tensor]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]
