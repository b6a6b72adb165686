"""What AdaFisher refuses: models, options, and gradients for which it has no factor."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from torch_impl import _checks
from torch_impl.optim import sharding
from torch_impl.optim.base import flag
from torch_impl.optim.writing import Gradient

__all__ = ["check_model", "check_options", "stays", "unmeasured"]

NORMALISES = ("after", "before")
GAMMA_ONS = ("old", "new")
AVERAGINGS = ("paper", "released")
INITIALS = ("first", "ones")

#: What the released averaging does not look at, and so must be left alone.
PAPER_ONLY = {"normalise": "after", "gamma_on": "old", "epsilon": 0.0, "relative": True}


def check_model(model: nn.Module) -> None:
    """Raise TypeError or ValueError for what cannot be measured."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if any(isinstance(module, nn.DataParallel) for module in model.modules()):
        raise ValueError(
            "model must not contain torch.nn.DataParallel, whose copies of a layer cannot be measured "
            "together: use DistributedDataParallel"
        )
    if any(isinstance(p, UninitializedParameter) for p in model.parameters()):
        raise ValueError("model must have all its parameters: run lazy modules once before")


def check_options(options: Mapping[str, Any]) -> None:
    """Raise ValueError or TypeError for an option out of range, or without effect beside the others."""
    _checks.number("beta", options["beta"], at_least=0.0, below=1.0)
    _checks.number("gamma", options["gamma"], at_least=0.0, at_most=1.0)
    _checks.number("lam", options["lam"], above=0.0)
    _checks.number("epsilon", options["epsilon"], at_least=0.0)
    _checks.choice("normalise", options["normalise"], NORMALISES)
    _checks.choice("gamma_on", options["gamma_on"], GAMMA_ONS)
    _checks.choice("averaging", options["averaging"], AVERAGINGS)
    _checks.choice("initial", options["initial"], INITIALS)
    flag("relative", options["relative"])
    if options["fallback"] is not None:
        _checks.number("fallback", options["fallback"], above=0.0)
    if _checks.count("refresh", options["refresh"], at_least=1) > 1 and options["capturable"]:
        raise ValueError(
            "refresh must be 1 with capturable=True: the host decides which steps measure, and a "
            f"captured step does not ask it again, got {options['refresh']}"
        )
    if options["averaging"] == "released":
        for name, value in PAPER_ONLY.items():
            if options[name] != value:
                raise ValueError(
                    f"{name} must be {value!r} with averaging='released', which does not look at it, "
                    f"got {options[name]!r}"
                )


def stays(gradient: Gradient, M: Tensor | None) -> Tensor:
    """Whether a parameter does not move whatever its denominator; what is not finite is judged later."""
    still = ~sharding.local(gradient.value).nan_to_num(posinf=0.0, neginf=0.0).any()
    return still if M is None else still & ~sharding.local(M).any()


def unmeasured(where: str, layers: Sequence[str]) -> str:
    """What to say of a parameter that has to move and has no factor."""
    named = ", ".join(map(repr, layers)) or "none"
    return (
        f"{where} has a gradient but no factor: its layer ({named}) was not measured, because it was not "
        "called as a module, or its output had no gradient, or the hooks are gone; give a fallback for it. "
        "Nothing was changed"
    )
