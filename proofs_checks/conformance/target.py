"""From ``MODULE:ATTR`` (or a callable) to something that can be driven, or one clear line saying why not."""

import ast
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from proofs_checks.conformance.case import Array, Setting, Spec
from proofs_checks.conformance.errors import NotApplicable, TargetRaised, UsageError, nearest
from proofs_checks.conformance.layer_session import LayerStepSession, ModelSession
from proofs_checks.conformance.layers import Layer, Linear
from proofs_checks.conformance.session import OptimizerSession, Session, StepSession

__all__ = ["PRESETS", "Preset", "Target", "resolve"]


@dataclass(frozen=True)
class Preset:
    """What is known about a public target: its names for ours, and the variant it implements."""

    rename: Mapping[str, str] = field(default_factory=dict)
    variant: Mapping[str, object] = field(default_factory=dict)


#: Targets that need no options.
PRESETS: Mapping[str, Preset] = {
    "torch.optim:Muon": Preset(rename={"scale": "adjust_lr_fn", "coefficients": "ns_coefficients"}),
    "torch_impl:FISMO": Preset(),
    "torch_impl:SOFIM": Preset(),
    "torch_impl:AdaFisher": Preset(variant={"precision": "float32"}),
    "torch_impl:AdaFisherW": Preset(variant={"precision": "float32"}),
    "reference.muon:step": Preset(rename={"momentum": "beta"}, variant={"precision": "float64"}),
    "torch_impl.muon:step": Preset(rename={"momentum": "beta"}, variant={"precision": "float32"}),
}

_UNEXPECTED = re.compile(r"unexpected keyword argument '(\w+)'")


@dataclass(frozen=True)
class Target:
    """A target with the names it takes.

    Attributes
    ----------
    name : str
        As given, for the report.
    make : callable
        Optimizer class or factory, or the step function.
    init : callable or None
        The step function's sibling; None for an optimizer.
    rename : mapping
        Canonical name to theirs, where they differ.
    takes : frozenset of str or None
        Their keyword names; None if it takes any (``**hp``).
    constants : mapping
        Keywords passed as given, under their names.
    fixed : mapping
        Canonical hyper-parameters that the caller says are built in.
    lacks : frozenset of str
        Canonical names (hyper-parameters and options) that the target does not take.
    tensors : bool
        For a step function: whether it works on torch tensors.
    model : bool
        Whether it takes a model in the place of parameters, or, a step function, the factors of a layer.
    """

    name: str
    make: Callable[..., Any]
    init: Callable[..., Any] | None = None
    rename: Mapping[str, str] = field(default_factory=dict)
    takes: frozenset[str] | None = None
    constants: Mapping[str, object] = field(default_factory=dict)
    fixed: Mapping[str, object] = field(default_factory=dict)
    lacks: frozenset[str] = frozenset()
    tensors: bool = True
    model: bool = False

    def theirs(self, canonical: str) -> str:
        """Their name for a canonical one."""
        return self.rename.get(canonical, canonical)

    def keywords(self, hp: Mapping[str, object], variant: Mapping[str, object]) -> dict[str, object]:
        """Keyword arguments for these hyper-parameters and options: those the target takes."""
        wanted = {**variant, **hp}
        given = {self.theirs(name): value for name, value in wanted.items() if name not in self.lacks}
        return {**given, **self.constants}

    def start(self, arrays: Sequence[Array], hp: Mapping[str, float], setting: Setting) -> Session:
        """A fresh run on parameters with these values."""
        if self.init is None:
            return self.optimize(arrays, hp, setting)
        if self.model:
            return self.train([Linear(X.shape[1], X.shape[0]) for X in arrays], arrays, hp, setting)
        return StepSession(self.init, self.make, arrays, **self._step_options(hp, setting))

    def optimize(
        self,
        arrays: Sequence[Array],
        hp: Mapping[str, float],
        setting: Setting,
        *,
        late: int = 0,
        transposed: bool = False,
    ) -> OptimizerSession:
        """A fresh run of an optimizer; of one that takes a model, on linear layers without bias.

        `late` and `transposed` as in `OptimizerSession`.
        """
        if late and self.model and self.takes is not None and "params" not in self.takes:
            raise NotApplicable("the target takes all parameters of its model and no params")
        keywords = self.keywords(hp, setting.variant)
        where: dict[str, Any] = {"dtype": setting.dtype, "device": setting.device}
        how: dict[str, Any] = {"late": late, "transposed": transposed, **where}
        if self.model:
            layers = [Linear(X.shape[1], X.shape[0]) for X in arrays]
            return ModelSession(self.make, layers, arrays, keywords, **how)
        return OptimizerSession(self.make, arrays, keywords, **how)

    def train(
        self, layers: Sequence[Layer], arrays: Sequence[Array], hp: Mapping[str, float], setting: Setting
    ) -> ModelSession | LayerStepSession:
        """A fresh run on a model of these layers."""
        if self.init is None:
            keywords = self.keywords(hp, setting.variant)
            where: dict[str, Any] = {"dtype": setting.dtype, "device": setting.device}
            return ModelSession(self.make, layers, arrays, keywords, **where)
        refresh = None if "refresh" in self.lacks else int(hp["refresh"])
        options = self._step_options(hp, setting)
        return LayerStepSession(self.init, self.make, arrays, refresh=refresh, **options)

    def _step_options(self, hp: Mapping[str, float], setting: Setting) -> dict[str, Any]:
        return {
            "keywords": self.keywords(hp, setting.variant),
            "lr": float(hp["lr"]),
            "tensors": self.tensors,
            "decays": self.theirs("W") if hp.get("weight_decay") else None,
            "dtype": setting.dtype,
            "device": setting.device,
        }


def resolve(
    target: str | Callable[..., Any],
    spec: Spec,
    *,
    options: Mapping[str, object],
    rename: Mapping[str, str],
    device: str,
) -> tuple[Target, dict[str, object]]:
    """The target, tried once on a 2x2 parameter, and the variant of the spec to hold it to.

    Raises
    ------
    UsageError
        If it cannot be imported or called, lacks an essential hyper-parameter, or refuses the options.
    """
    name, thing = (target, _load(target)) if isinstance(target, str) else (_name(target), target)
    preset = PRESETS.get(_canonical(name), Preset())
    known = {*spec.hyper_parameters, *spec.options}
    for canonical in rename:
        if canonical not in known:
            raise UsageError(
                f"--rename {canonical}=...: no such name in spec {spec.name}; {nearest(canonical, known)}"
            )
    found = Target(name, thing, _sibling(thing), {**preset.rename, **rename}, _takes(thing), model=spec.model)
    variant: dict[str, object] = {key: option.default for key, option in spec.options.items()}
    variant.update(preset.variant)
    found, chosen = _with_options(found, spec, options)
    variant.update(chosen)
    found = _tried(found, spec, variant, device=device, chosen=frozenset(chosen))
    return found, variant


def _canonical(name: str) -> str:
    return name if ":" in name else ":".join(name.rsplit(".", 1))


def _name(thing: Callable[..., Any]) -> str:
    module, name = getattr(thing, "__module__", "?"), getattr(thing, "__qualname__", type(thing).__name__)
    return f"{module}:{name}"


def _load(target: str) -> Any:
    """Import ``package.module:attribute``, ``package.module.attribute`` or ``file.py:attribute``."""
    module_name, _, attribute = _canonical(target).rpartition(":")
    if not module_name or not attribute:
        raise UsageError(f"target must be MODULE:ATTR (or FILE.py:ATTR), got {target!r}")
    try:
        module = (
            _from_file(module_name) if module_name.endswith(".py") else importlib.import_module(module_name)
        )
    except (Exception, SystemExit) as error:
        raise UsageError(f"cannot import {module_name!r}: {type(error).__name__}: {_line(error)}") from error
    try:
        for part in attribute.split("."):
            module = getattr(module, part)
    except AttributeError:
        public = [key for key in vars(module) if not key.startswith("_")]
        raise UsageError(
            f"{module_name!r} has no attribute {attribute!r}; {_hint(attribute, public)}"
        ) from None
    return module


def _from_file(path: str) -> Any:
    if not Path(path).is_file():
        raise FileNotFoundError(f"no file {path}")
    module_name = f"checked_{Path(path).stem}"  # so that no file of a user stands in for a module
    loaded = importlib.util.spec_from_file_location(module_name, path)
    assert loaded is not None
    assert loaded.loader is not None  # a .py file always has one
    module = importlib.util.module_from_spec(loaded)
    sys.modules[module_name] = module
    loaded.loader.exec_module(module)
    return module


def _hint(word: str, names: Sequence[str], *, few: int = 8) -> str:
    return nearest(word, names) if len(names) <= few else nearest(word, names).split(" known:")[0]


def _line(error: BaseException) -> str:
    """First line of an error's text."""
    return next(iter(str(error).splitlines()), "")


def _takes(thing: Callable[..., Any]) -> frozenset[str] | None:
    """Keyword names in the signature; None if any is taken or the signature is unknown."""
    try:
        parameters = inspect.signature(thing).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        return None
    return frozenset(p.name for p in parameters if p.kind is not inspect.Parameter.POSITIONAL_ONLY)


def _sibling(thing: Any) -> Callable[..., Any] | None:
    """The `init` beside a pure step function; None if `thing` makes optimizers.

    Raises
    ------
    UsageError
        If it cannot be called, or is a step function without an `init`.
    """
    if not callable(thing):
        raise UsageError(
            f"target must be an optimizer class, a factory or a step function, got {type(thing).__name__}"
        )
    if inspect.isclass(thing):
        return None
    try:
        names = list(inspect.signature(thing).parameters)
    except (TypeError, ValueError):
        return None
    if names[1:2] != ["state"]:
        return None
    init = getattr(inspect.getmodule(thing), "init", None) or getattr(thing, "__globals__", {}).get("init")
    if not callable(init):
        raise UsageError(
            "a step function step(G, state, ...) needs a function init(W) beside it in its module"
        )
    return init


def _value(text: object) -> object:
    """An option's value from its command-line text."""
    if not isinstance(text, str):
        return text
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def _with_options(
    target: Target, spec: Spec, options: Mapping[str, object]
) -> tuple[Target, dict[str, object]]:
    """Sort options into built-in hyper-parameters, variants and constants for the constructor."""
    ours = {theirs: canonical for canonical, theirs in target.rename.items()}
    fixed: dict[str, object] = {}
    chosen: dict[str, object] = {}
    constants: dict[str, object] = {}
    for given, text in options.items():
        name, value = ours.get(given, given), _value(text)
        if name in spec.hyper_parameters:
            fixed[name] = _of_kind(given, value, spec.hyper_parameters[name])
        elif name in spec.options:
            allowed = spec.options[name].values
            if allowed and value not in allowed:
                raise UsageError(
                    f"option {name} must be one of {', '.join(map(repr, allowed))}, got {value!r}"
                )
            chosen[name] = value
        elif target.takes is None or name in target.takes:
            constants[name] = value
        else:
            known = {*spec.options, *spec.sweep, *target.takes} - {"params", "self"}
            raise UsageError(f"unknown option {name!r}; {nearest(name, known)}")
    return replace(target, fixed=fixed, constants=constants), chosen


def _of_kind(name: str, value: object, like: float) -> object:
    """`value`, if it is True or False where the spec's own value is, a whole number, or a number."""
    for kind, words in ((bool, "True or False"), (int, "a whole number"), (float, "a number")):
        if isinstance(like, kind):
            fits = isinstance(value, kind) or (kind is float and isinstance(value, int))
            if not fits or (kind is not bool and isinstance(value, bool)):
                raise UsageError(f"option {name} must be {words}, got {value!r}")
            break
    return value


def _tried(
    target: Target, spec: Spec, variant: Mapping[str, object], *, device: str, chosen: frozenset[str]
) -> Target:
    """`target` with what it lacks, found from its signature and by making it once.

    Every option of the variant is passed under its name if the target takes that name. Where the target
    refuses the values, only those that the caller chose are passed: the rest is then declared, not forced.
    """
    wanted = {*spec.hyper_parameters, *spec.options}
    if target.takes is not None:
        target = replace(target, lacks=frozenset(n for n in wanted if target.theirs(n) not in target.takes))
    setting = Setting("float32", device, {}, variant)
    if target.init is not None:
        target = _without_missing(replace(target, lacks=target.lacks | {"lr"}), spec)
        return _with_arrays(target, spec, replace(setting, dtype="float64"))
    hp: dict[str, Any] = {**spec.hyper_parameters, **target.fixed}
    refusal: tuple[Target, Exception] | None = None
    while True:
        target = _without_missing(target, spec)
        try:
            session = target.start([np.zeros((2, 2))], hp, setting)
        except TargetRaised as raised:
            error = raised.__cause__
            assert isinstance(error, Exception)
            missing = _UNEXPECTED.search(str(error)) if isinstance(error, TypeError) else None
            lacking = {n for n in wanted - target.lacks if missing and target.theirs(n) == missing[1]}
            refusal = refusal or (None if lacking else (target, error))
            lacking = lacking or set(spec.options) - chosen - target.lacks
            if not lacking:
                source, first = refusal or (target, error)
                text = f"{type(first).__name__}: {_line(first)}"
                raise UsageError(f"{target.name} refused {source.keywords(hp, variant)}: {text}") from first
            target = replace(target, lacks=target.lacks | lacking)
        else:
            made = getattr(session, "optimizer", None)
            if not callable(getattr(made, "step", None)):
                raise UsageError(
                    f"{target.name} must return an optimizer with a step(), got {type(made).__name__}"
                )
            return target


def _without_missing(target: Target, spec: Spec) -> Target:
    """`target` again, unless a hyper-parameter that it lacks is essential and not declared built in."""
    built_in = {*target.fixed, *(["lr"] if target.init is not None else [])}
    missing = sorted((target.lacks & spec.essential) - built_in)
    if missing:
        takes = ", ".join(sorted(target.takes or ())) or "unknown names"
        raise UsageError(
            f"{target.name} does not take {missing[0]!r}, which spec {spec.name} needs; say --rename "
            f"{missing[0]}=THEIRS, or --option {missing[0]}=VALUE if it is built in (it takes: {takes})"
        )
    return target


def _with_arrays(target: Target, spec: Spec, setting: Setting) -> Target:
    """A step function with the kind of array it works on, found by trying."""
    hp: dict[str, Any] = {**spec.hyper_parameters, **target.fixed}
    shape = (2,) if spec.name == "sofim" else (2, 2)
    first: TargetRaised | None = None
    for tensors in (False, True):
        candidate = replace(target, tensors=tensors)
        try:
            candidate.start([np.zeros(shape)], hp, setting).step([np.ones(shape)])
        except TargetRaised as error:
            first = first or error
        else:
            return candidate
    raise UsageError(f"{target.name} fails on a first step: {first}") from first
