"""Tasks that classify images: the digits at hand, and the published sets of colour images."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import nn

from benchmarks.train import metrics
from benchmarks.train.data import images
from benchmarks.train.data.batches import Batch, example_batches
from benchmarks.train.data.digits import digits
from benchmarks.train.data.parts import Part, Splits, chunks
from benchmarks.train.models import MLP, DigitsConv, LeNet5, ResNet9, ResNet18, SimpleDLA
from benchmarks.train.task import Size, Task, describe_model

__all__ = ["DIGITS_MODELS", "IMAGE_MODELS", "IMAGE_SETS", "digits_task", "image_task"]

DIGITS_MODELS: dict[str, Callable[[], nn.Module]] = {
    "mlp": partial(MLP, 64, 128, 128, 10),
    "conv": DigitsConv,
}
DIGITS_BATCH = 64
DIGITS_STEPS: dict[Size, int] = {"small": 400, "full": 4000}

#: Classes of each set of colour images.
IMAGE_SETS = {"cifar10": 10, "cifar100": 100, "svhn": 10}

#: Each model in its published size, and in one that one core trains in minutes; LeNet-5 is that already.
IMAGE_MODELS: dict[str, dict[Size, Callable[..., nn.Module]]] = {
    "lenet5": {"small": LeNet5, "full": LeNet5},
    "resnet9": {"small": partial(ResNet9, width=16), "full": ResNet9},
    "resnet18": {"small": partial(ResNet18, width=16), "full": ResNet18},
    "simpledla": {"small": partial(SimpleDLA, width=4), "full": SimpleDLA},
}

#: The small setting: steps of one run, batch, and the most examples a model is judged by.
SMALL_STEPS, SMALL_BATCH, SMALL_JUDGED = 400, 64, 1000

#: The full setting: epochs and batch of AdaFisher's authors, for every set and model alike.
FULL_EPOCHS, FULL_BATCH = 200, 256

#: Examples judged at a time.
CHUNK = 500


def digits_task(name: str, *, model: str, size: Size) -> Task:
    """The digits with a model of `DIGITS_MODELS`.

    Raises
    ------
    ModuleNotFoundError
        If scikit-learn is not installed.
    """
    splits = digits()
    return _task(
        name,
        DIGITS_MODELS[model],
        partial(example_batches, splits.train, batch=DIGITS_BATCH),
        splits,
        batch=DIGITS_BATCH,
        steps=DIGITS_STEPS[size],
        about="handwritten digits, 8x8 grey pixels, standardised",
    )


def image_task(name: str, data: str, *, model: str, size: Size, data_dir: Path) -> Task:
    """A set of `IMAGE_SETS`, read from `data_dir`, with a model of `IMAGE_MODELS`.

    Raises
    ------
    FileNotFoundError, ValueError
        If the published files are missing or damaged.
    """
    recipe, raw = images.RECIPES[data], images.load(data, data_dir)
    judged = SMALL_JUDGED if size == "small" else max(len(raw.validation), len(raw.test))
    held_out = [
        images.prepared(part.take(torch.arange(min(judged, len(part)))), recipe)
        for part in (raw.validation, raw.test)
    ]
    splits = Splits(
        raw.train, *held_out, {**raw.facts, "validation": len(held_out[0]), "test": len(held_out[1])}
    )
    batch = SMALL_BATCH if size == "small" else FULL_BATCH
    steps = SMALL_STEPS if size == "small" else FULL_EPOCHS * max(1, len(raw.train) // batch)
    crops = f"random crops with padding {recipe.padding}, " if recipe.padding else ""
    return _task(
        name,
        partial(IMAGE_MODELS[model][size], classes=IMAGE_SETS[data]),
        partial(example_batches, raw.train, batch=batch, augment=partial(images.augment, recipe=recipe)),
        splits,
        batch=batch,
        steps=steps,
        about=f"{data}, 32x32 colour pixels, normalised; {crops}{'flips, ' if recipe.flip else ''}"
        f"one hole of {recipe.hole} pixels",
    )


def _task(
    name: str,
    model: Callable[[], nn.Module],
    batches: Callable[[torch.Generator], Iterator[Batch]],
    splits: Splits,
    *,
    batch: int,
    steps: int,
    about: str,
) -> Task:
    def judge(part: Part, trained: nn.Module) -> dict[str, float]:
        return metrics.classification(trained, chunks(part, size=CHUNK))

    facts = {**splits.facts, "batch": batch, **describe_model(model)}
    return Task(
        name=name,
        kind="classification",
        model=model,
        batches=batches,
        loss=metrics.loss,
        evaluate=partial(judge, splits.validation),
        test=partial(judge, splits.test),
        steps=steps,
        headline="accuracy",
        better="higher",
        description=(
            f"{about}; {facts['model']} of {facts['parameters']} parameters. "
            f"{facts['train']} training, {facts['validation']} validation and {facts['test']} test images; "
            f"batch {batch}. Data: {facts['source']}; SHA-256 {facts['sha256']}"
        ),
        facts=facts,
    )
