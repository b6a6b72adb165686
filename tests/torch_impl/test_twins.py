"""The two derivations present themselves alike: same names, same order, same arguments."""

import importlib
import inspect
import subprocess
import sys

import pytest
import torch

import torch_impl

TOPICS = ("polar", "kronecker", "fismo", "sofim", "muon", "adafisher")

#: Arguments a twin adds for precision and device.
ADDED = {("polar", "newton_schulz"): {"dtype"}}


def arguments(function):
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize("topic", TOPICS)
def test_twins_share_public_names_in_one_order(topic):
    ours, theirs = (importlib.import_module(f"{package}.{topic}") for package in ("torch_impl", "reference"))
    assert ours.__all__ == theirs.__all__


@pytest.mark.parametrize("topic", TOPICS)
def test_twins_share_arguments_defaults_and_fields(topic):
    ours, theirs = (importlib.import_module(f"{package}.{topic}") for package in ("torch_impl", "reference"))
    functions = 0
    for name in ours.__all__:
        twin, original = getattr(ours, name), getattr(theirs, name)
        if inspect.isfunction(original):
            added = ADDED.get((topic, name), set())
            assert [a for a in arguments(twin) if a[0] not in added] == arguments(original), name
            functions += 1
        elif isinstance(original, type) and hasattr(twin, "_fields"):
            assert tuple(inspect.signature(twin).parameters) == tuple(inspect.signature(original).parameters)
        else:
            assert twin == original, name
    assert functions


@pytest.mark.parametrize("topic", TOPICS)
def test_every_public_function_names_its_source(topic):
    module = importlib.import_module(f"torch_impl.{topic}")
    for name in module.__all__:
        if inspect.isfunction(getattr(module, name)):
            assert "Source:" in inspect.getdoc(getattr(module, name)), name


def test_importing_torch_impl_does_not_import_the_reference():
    code = "import sys, torch_impl; sys.exit(bool({'reference', 'proofs_checks'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_importing_torch_impl_does_not_import_the_compiler():
    code = "import sys, torch_impl; sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_optimizers_are_torch_optimizers():
    assert issubclass(torch_impl.FISMO, torch.optim.Optimizer)
    assert issubclass(torch_impl.SOFIM, torch.optim.Optimizer)
