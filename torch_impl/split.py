"""Which parameters of a model go to a matrix method (FISMO, Muon), and which to another optimizer (AdamW)."""

import difflib
import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.nn.parameter import is_lazy

__all__ = ["ParameterSplit", "split_parameters"]

Overrides = Mapping[str, str] | Callable[[str, Tensor], str | None]

DESTINATIONS = ("matrices", "others")

#: Names that modules which produce the outputs go by, in torchvision, timm and transformers.
HEADS = ("lm_head", "head", "heads", "classifier", "fc", "score", "output", "logits")

#: Words in the name of a raw parameter that make it an embedding.
EMBEDDING_WORDS = ("embed", "token", "position")

NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


@dataclass(frozen=True)
class ParameterSplit:
    """The parameters of a model, sorted; `str` of it is the table of what went where, and why.

    Attributes
    ----------
    matrices, others : list of (name, parameter)
        What an optimizer takes: ``FISMO(split.matrices)``, ``torch.optim.AdamW(split.others)``.
    frozen : list of (name, parameter)
        Parameters that need no gradient. They belong to no optimizer.
    reasons : dict
        Why, for the name of every parameter, in the order of the model.
    """

    matrices: list[tuple[str, nn.Parameter]]
    others: list[tuple[str, nn.Parameter]]
    frozen: list[tuple[str, nn.Parameter]]
    reasons: dict[str, str]

    def __str__(self) -> str:
        return _table(self)

    def __repr__(self) -> str:
        return f"ParameterSplit({_count('matrices', self.matrices)}, {_count('others', self.others)})"


@dataclass(frozen=True)
class _Use:
    """One place where a parameter is used: its full name, the module it belongs to, its name there."""

    name: str
    module: nn.Module
    module_name: str
    attribute: str


def split_parameters(
    model: nn.Module, *, overrides: Overrides | None = None, verbose: bool = True
) -> ParameterSplit:
    """Sort the trainable parameters of a model into matrices and others, by one printed rule.

    Parameters
    ----------
    model : nn.Module
        On any device, the meta device included; DTensor parameters count by their global shape. Not modified.
    overrides : mapping or callable, optional
        What you know better: ``{"blocks.*.gate.weight": "others", "head.weight": "matrices"}``, where a key
        is a name or a pattern of `fnmatch` and the last match decides; or a function of name and parameter
        that returns "matrices", "others", or None to leave the rule alone.
    verbose : bool
        Print the table; ``str`` of the result gives it again.

    Returns
    -------
    ParameterSplit
        A tied parameter appears once, under its first name.

    Raises
    ------
    TypeError, ValueError
        If a parameter is lazy, so that its shape is not known yet; if an override matches no parameter, says
        something else than "matrices" or "others", or sends a vector to the matrices.

    Notes
    -----
    The first of these that applies decides:

    1. frozen parameters go nowhere, overrides go where they say;
    2. embeddings, positional ones included: the weights of embedding modules, whatever they are tied to, and
       raw parameters named like ``pos_embed`` or ``cls_token``: others;
    3. scales and shifts of normalisation layers: others;
    4. what is no matrix: vectors, scalars, ``1 x n`` and ``m x 1``, complex parameters, and anything of more
       than two dimensions that is not a convolution kernel: others;
    5. a convolution kernel of one input channel (per group): others; of more: a matrix of the shape
       ``(out, in * kh * kw)``, for which FISMO needs ``reshape=True``;
    6. the head, which maps to the outputs: others. It is the last matrix of each module named ``lm_head``,
       ``head``, ``heads``, ``classifier``, ``fc``, ``score``, ``output`` or ``logits`` outside of numbered
       blocks; without such a name, the last linear layer in the order of the modules, unless the model has
       a head already, tied to an embedding; without a linear layer, the last convolution;
    7. everything else is a matrix, recurrent weights and the ``(in, out)`` weights of GPT-2 included.

    The rule is practice, not theory: Muon's authors split parameters this way. For the head of a model that
    names it otherwise, look at the table and use `overrides`.
    """
    uses = _uses(model)
    decisions = _decide(uses)
    _override(decisions, uses, overrides)
    found: dict[str, list[tuple[str, nn.Parameter]]] = {name: [] for name in (*DESTINATIONS, "frozen")}
    for parameter, places in uses.items():
        found[decisions[parameter][0]].append((places[0].name, parameter))
    reasons = {places[0].name: decisions[parameter][1] for parameter, places in uses.items()}
    split = ParameterSplit(**found, reasons=reasons)
    if verbose:
        print(split)
    return split


def _uses(model: nn.Module) -> dict[nn.Parameter, list[_Use]]:
    """Where each parameter is used, in the order of the model; parametrizations count as what they make."""
    modules = dict(model.named_modules(remove_duplicate=False))
    uses: dict[nn.Parameter, list[_Use]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if is_lazy(parameter):
            raise ValueError(
                f"model must be initialised, got the lazy parameter {name!r}: run it once on an example input"
            )
        owner, attribute = name.rpartition(".")[::2]
        if parametrized := re.fullmatch(r"(?:(.*)\.)?parametrizations\.(\w+)\.(?:original\d*|\d+\..*)", name):
            owner, attribute = parametrized[1] or "", parametrized[2]
        uses.setdefault(parameter, []).append(_Use(name, modules[owner], owner, attribute))
    return uses


def _decide(uses: Mapping[nn.Parameter, Sequence[_Use]]) -> dict[nn.Parameter, tuple[str, str]]:
    """Destination and reason by the rule, overrides aside."""
    decisions: dict[nn.Parameter, tuple[str, str]] = {}
    for parameter, places in uses.items():
        why_not = _no_matrix(parameter, places)
        decisions[parameter] = (
            ("matrices", _what(parameter, places)) if why_not is None else ("others", why_not)
        )
    for parameter, why in _heads(uses).items():
        if decisions[parameter][0] == "matrices":
            decisions[parameter] = ("others", why)
    frozen = {parameter: ("frozen", "needs no gradient") for parameter in uses if not parameter.requires_grad}
    return decisions | frozen


def _no_matrix(parameter: Tensor, places: Sequence[_Use]) -> str | None:
    """Why a parameter is not to be orthogonalised, or None; the head is found later."""
    for use in places:
        if _is_embedding(use.module):
            tied = ", ".join(other.name for other in places if other is not use)
            return f"embedding{', tied to ' + tied if tied else ''}"
    use = places[0]
    if isinstance(use.module, NORMS) or type(use.module).__name__.endswith("Norm"):
        return f"normalisation ({_kind(use.module)})"
    if not parameter.is_floating_point():
        return f"not real ({parameter.dtype})"
    if parameter.ndim < 2:
        return "vector" if parameter.ndim else "scalar"
    if any(word in use.attribute.lower() for word in EMBEDDING_WORDS):
        return f"embedding, by its name {use.attribute!r}"
    if parameter.ndim > 2 and not isinstance(use.module, _ConvNd):
        return f"{parameter.ndim} dimensions, and no convolution kernel ({_kind(use.module)})"
    if isinstance(use.module, _ConvNd) and parameter.shape[1] <= 1 and parameter.ndim > 2:
        return f"kernel of one channel ({_kind(use.module)})"
    rows, columns = _matrix_shape(parameter)
    if min(rows, columns) <= 1:
        return f"vector ({rows} x {columns})"
    return None


def _heads(uses: Mapping[nn.Parameter, Sequence[_Use]]) -> dict[nn.Parameter, str]:
    """What produces the outputs, and why it is taken for that; trainable or not, matrix or not."""
    named: dict[str, nn.Parameter] = {}
    for parameter, places in uses.items():
        for use in places:
            if parameter.ndim > 1 and (root := _head_name(use.module_name)):
                named[root] = parameter  # the last one stays
    if named:
        return {parameter: f"head, by its name {root!r}" for root, parameter in named.items()}
    for places in uses.values():
        if any(_is_embedding(use.module) for use in places) and any(_is_linear(use.module) for use in places):
            return {}  # the head is tied to an embedding
    for test, layer in ((_is_linear, "linear layer"), (_is_convolution, "convolution")):
        layers = [
            parameter
            for parameter, places in uses.items()
            if any(test(use.module) and use.attribute.startswith("weight") for use in places)
        ]
        if layers:
            return {layers[-1]: f"head: the last {layer}"}
    return {}


def _override(
    decisions: dict[nn.Parameter, tuple[str, str]],
    uses: Mapping[nn.Parameter, Sequence[_Use]],
    overrides: Overrides | None,
) -> None:
    """Change what the caller asked to change."""
    if overrides is None:
        return
    names = [use.name for places in uses.values() for use in places]
    if isinstance(overrides, Mapping):
        for pattern in overrides:
            if not fnmatch.filter(names, pattern):
                near = difflib.get_close_matches(pattern, names, cutoff=0) or ["none at all"]
                raise ValueError(
                    f"overrides must match a parameter, got {pattern!r}; near are {', '.join(near)}"
                )
    elif not callable(overrides):
        raise TypeError(f"overrides must be a mapping or a function, got {type(overrides).__name__}")
    for parameter, places in uses.items():
        if not parameter.requires_grad:
            continue
        for destination, why in _wishes(overrides, parameter, places):
            if destination not in DESTINATIONS:
                raise ValueError(
                    f"overrides must say 'matrices' or 'others', got {destination!r} for {places[0].name!r}"
                )
            if destination == "matrices" and parameter.ndim < 2:
                raise ValueError(
                    f"overrides must send matrices to 'matrices', got {places[0].name!r} of shape "
                    f"{tuple(parameter.shape)}"
                )
            decisions[parameter] = (destination, why)


def _wishes(overrides: Any, parameter: Tensor, places: Sequence[_Use]) -> list[tuple[Any, str]]:
    """What the overrides say about one parameter, under any of its names; the last one counts."""
    if isinstance(overrides, Mapping):
        return [
            (destination, f"override {pattern!r}")
            for pattern, destination in overrides.items()
            if any(fnmatch.fnmatchcase(use.name, pattern) for use in places)
        ]
    wish = overrides(places[0].name, parameter)
    return [] if wish is None else [(wish, "override")]


def _head_name(module_name: str) -> str:
    """The part of a module's path up to a name of a head, or ''; numbered blocks have none."""
    parts = module_name.split(".")
    for index, part in enumerate(parts):
        if part.isdigit():
            return ""
        if part in HEADS:
            return ".".join(parts[: index + 1])
    return ""


def _is_embedding(module: nn.Module) -> bool:
    return isinstance(module, nn.Embedding | nn.EmbeddingBag)


def _is_linear(module: nn.Module) -> bool:
    """Linear layers, also quantised ones and the Conv1D of transformers, which is one."""
    names = [base.__name__ for base in type(module).__mro__]
    return any(name.endswith("Linear") or name == "Conv1D" for name in names)


def _is_convolution(module: nn.Module) -> bool:
    return isinstance(module, _ConvNd)


def _matrix_shape(parameter: Tensor) -> tuple[int, int]:
    """The matrix a parameter stands for: its first dimension times all others."""
    rows, columns = parameter.shape[0], 1
    for size in parameter.shape[1:]:
        columns *= size
    return rows, columns


def _kind(module: nn.Module) -> str:
    return type(module).__name__.removeprefix("Parametrized")


def _what(parameter: Tensor, places: Sequence[_Use]) -> str:
    kind = _kind(places[0].module)
    if parameter.ndim == 2:
        return f"matrix ({kind})"
    rows, columns = _matrix_shape(parameter)
    return f"kernel as {rows} x {columns} ({kind})"


def _count(destination: str, pairs: Sequence[tuple[str, Tensor]]) -> str:
    return f"{destination}: {len(pairs)} with {sum(p.numel() for _, p in pairs):_} entries"


def _table(split: ParameterSplit) -> str:
    """One line per parameter; lines that differ in a number of the name only are drawn together."""
    where = {
        name: (parameter, destination)
        for destination in (*DESTINATIONS, "frozen")
        for name, parameter in getattr(split, destination)
    }
    lines: dict[tuple[str, ...], list[str]] = {}
    for name, why in split.reasons.items():
        parameter, destination = where[name]
        shape = " x ".join(map(str, parameter.shape)) or "scalar"
        pattern = re.sub(r"(?<![^.])\d+(?![^.])", "*", name)
        lines.setdefault((pattern, shape, destination, why), []).append(name)
    rows = [("parameter", "number", "shape", "goes to", "because")]
    for (_, shape, destination, why), names in lines.items():
        rows.append((_together(names), str(len(names)), shape, destination, why))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    drawn = [
        "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[4]]) for row in rows
    ]
    counts = [_count(name, getattr(split, name)) for name in (*DESTINATIONS, "frozen")]
    return "\n".join([*drawn, "; ".join(counts)])


def _together(names: Sequence[str]) -> str:
    """One name for names that differ in numbers only: ``h.{0..11}.weight``, ``{0,2}.bias``."""
    drawn = []
    for column in zip(*(name.split(".") for name in names), strict=True):
        if len(set(column)) == 1:
            drawn.append(column[0])
            continue
        numbers = sorted(set(map(int, column)))
        run = len(numbers) > 2 and numbers[-1] - numbers[0] == len(numbers) - 1
        drawn.append(f"{{{numbers[0]}..{numbers[-1]}}}" if run else "{" + ",".join(map(str, numbers)) + "}")
    return ".".join(drawn)
