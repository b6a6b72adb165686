"""The tasks by name."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.train.classification import IMAGE_MODELS, IMAGE_SETS, digits_task, image_task
from benchmarks.train.language import stdlib_task, token_task
from benchmarks.train.task import Size, Task

__all__ = ["TASKS", "Size", "Task", "task"]

#: Tasks whose data every installation has, and how to build them.
_AT_HAND: dict[str, Callable[..., Task]] = {
    "digits": partial(digits_task, model="mlp"),
    "digits-conv": partial(digits_task, model="conv"),
    "stdlib-lm": partial(stdlib_task, byte_pairs=False),
    "stdlib-lm-bpe": partial(stdlib_task, byte_pairs=True),
}

#: The model that SOFIM's paper trains on each set of colour images: what the name of the set alone means.
_PLAIN = {"cifar10": "lenet5", "cifar100": "resnet9", "svhn": "resnet9"}

#: Tasks that need published files.
_FROM_FILES: dict[str, Callable[..., Task]] = {
    **{data: partial(image_task, data=data, model=model) for data, model in _PLAIN.items()},
    **{
        f"{data}-{model}": partial(image_task, data=data, model=model)
        for data in IMAGE_SETS
        for model in IMAGE_MODELS
    },
    "tokens": token_task,
}

#: Every name that `task` knows.
TASKS = (*_AT_HAND, *_FROM_FILES)


def task(name: str, *, data_dir: Path | str | None = None, size: Size = "small") -> Task:
    """A task, with its data read and checked. Data are kept in memory for the next task of the same kind.

    Parameters
    ----------
    name : str
        ``digits`` (a perceptron) and ``digits-conv``; ``stdlib-lm`` (bytes) and ``stdlib-lm-bpe``;
        ``cifar10``, ``cifar100``, ``svhn``, each also with ``-lenet5``, ``-resnet9``, ``-resnet18`` or
        ``-simpledla``; ``tokens``. All names: `TASKS`.
    data_dir : path
        Folder of the published files, for the tasks that need them.
    size : "small" or "full"
        Small: for one or two cores. Full: the published models and more steps; meant for a GPU but for the
        digits.

    Returns
    -------
    task : Task

    Raises
    ------
    ValueError
        If the name or the size is unknown, or a file is damaged.
    FileNotFoundError
        If files are missing; the message says which, and where to put them.
    ModuleNotFoundError
        If the digits are asked for without scikit-learn.
    """
    if name not in TASKS:
        raise ValueError(f"name must be one of {', '.join(TASKS)}, got {name!r}")
    if size not in ("small", "full"):
        raise ValueError(f"size must be small or full, got {size!r}")
    if name in _AT_HAND:
        return _AT_HAND[name](name, size=size)
    if data_dir is None:
        raise FileNotFoundError(f"{name} needs data_dir, the folder with its published files")
    return _FROM_FILES[name](name, size=size, data_dir=Path(data_dir))
