"""CIFAR-10 and CIFAR-100 from the files their authors publish: python or binary version, packed or unpacked.

Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images" (2009), and the page of the data,
https://www.cs.toronto.edu/~kriz/cifar.html, which describes both formats.
"""

import tarfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.train.data.parts import Part
from benchmarks.train.data.pickles import read_batch

__all__ = ["CIFAR10", "CIFAR100", "Cifar", "load"]

#: Bytes of one image: red, green, blue planes of 32 rows of 32.
PIXELS = 3 * 32 * 32

#: No published file is larger (the largest, train of CIFAR-100, has 155 million bytes): a bound on what one
#: packed file may unpack to.
LARGEST = 2**28


@dataclass(frozen=True)
class _Version:
    """Where one version of the files lies and which of them hold what."""

    folder: str
    archive: str
    train: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True)
class Cifar:
    """One of the two data sets.

    Attributes
    ----------
    name : str
    classes : int
    label_key : bytes
        Of the labels, in a pickled batch.
    label_bytes : int
        Bytes before the pixels of an image in the binary version; the last of them is the label.
    pickled, binary : _Version
    """

    name: str
    classes: int
    label_key: bytes
    label_bytes: int
    pickled: _Version
    binary: _Version


CIFAR10 = Cifar(
    "CIFAR-10",
    10,
    b"labels",
    1,
    _Version(
        "cifar-10-batches-py",
        "cifar-10-python.tar.gz",
        tuple(f"data_batch_{i}" for i in range(1, 6)),
        ("test_batch",),
    ),
    _Version(
        "cifar-10-batches-bin",
        "cifar-10-binary.tar.gz",
        tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
        ("test_batch.bin",),
    ),
)

CIFAR100 = Cifar(
    "CIFAR-100",
    100,
    b"fine_labels",
    2,
    _Version("cifar-100-python", "cifar-100-python.tar.gz", ("train",), ("test",)),
    _Version("cifar-100-binary", "cifar-100-binary.tar.gz", ("train.bin",), ("test.bin",)),
)


def load(cifar: Cifar, data_dir: Path) -> tuple[Part, Part]:
    """Training and test images.

    Parameters
    ----------
    cifar : Cifar
        `CIFAR10` or `CIFAR100`.
    data_dir : Path
        Holds one of the four: a folder or an archive of the python or the binary version, looked for in this
        order (python folder, python archive, binary folder, binary archive).

    Returns
    -------
    train, test : Part
        Inputs ``(N, 3, 32, 32)`` uint8; labels are the fine ones for CIFAR-100.

    Raises
    ------
    FileNotFoundError
        If there is none, or a file of the one that was found is missing.
    ValueError
        If a file is damaged, is not of this format or asks for code to be run.
    """
    for version in (cifar.pickled, cifar.binary):
        for place in (data_dir / version.folder, data_dir / version.archive):
            if place.exists():
                contents = _contents(place, version)
                return _part(cifar, version.train, contents), _part(cifar, version.test, contents)
    wanted = ", ".join(f"{v.folder}/ or {v.archive}" for v in (cifar.pickled, cifar.binary))
    raise FileNotFoundError(
        f"{cifar.name} is not in {data_dir}: put one of {wanted} there, "
        "from https://www.cs.toronto.edu/~kriz/cifar.html"
    )


def _contents(place: Path, version: _Version) -> dict[str, tuple[str, bytes]]:
    """Where each file of the version lies, for messages, and its bytes."""
    files = version.train + version.test
    if place.is_dir():
        found = {name: (place / name).read_bytes() for name in files if (place / name).is_file()}
    else:
        found = _unpack(place, {f"{version.folder}/{name}": name for name in files})
    missing = [name for name in files if name not in found]
    if missing:
        raise FileNotFoundError(f"{place} lacks {', '.join(missing)}")
    return {name: (str(place / name), data) for name, data in found.items()}


def _unpack(archive: Path, wanted: dict[str, str]) -> dict[str, bytes]:
    """The wanted plain files of a tar archive, in one pass and in memory: nothing is written anywhere."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(archive) as packed:
            for member in packed:
                name = wanted.get(member.name.removeprefix("./"))
                if name is None or not member.isfile():
                    continue
                if member.size > LARGEST:
                    raise ValueError(f"{archive}: {member.name} unpacks to {member.size} bytes")
                stream = packed.extractfile(member)
                assert stream is not None, "plain files have content"
                found[name] = stream.read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{archive} is damaged or no tar archive: {error}") from error
    return found


def _part(cifar: Cifar, files: Sequence[str], contents: dict[str, tuple[str, bytes]]) -> Part:
    pixels, labels = [], []
    for name in files:
        where, data = contents[name]
        try:
            images, classes = _binary(cifar, data) if name.endswith(".bin") else _pickled(cifar, data)
        except (ValueError, OverflowError) as error:
            raise ValueError(f"{where} is not a file of {cifar.name}: {error}") from error
        pixels.append(images)
        labels.append(classes)
    images = np.concatenate(pixels).reshape(-1, 3, 32, 32)
    return Part(torch.from_numpy(images), torch.from_numpy(np.concatenate(labels)))


def _pickled(cifar: Cifar, data: bytes) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    pixels, labels = read_batch(data, cifar.label_key)
    if pixels.ndim != 2 or pixels.shape[1] != PIXELS or len(pixels) != len(labels):
        raise ValueError(f"it has pixels of shape {pixels.shape} for {len(labels)} labels")
    return pixels, _classes(cifar, np.array(labels, dtype=np.int64))


def _binary(cifar: Cifar, data: bytes) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    length = cifar.label_bytes + PIXELS
    if len(data) % length:
        raise ValueError(f"its size must be a multiple of {length} bytes, got {len(data)}")
    rows = np.frombuffer(data, dtype=np.uint8).reshape(-1, length)
    return rows[:, cifar.label_bytes :], _classes(cifar, rows[:, cifar.label_bytes - 1].astype(np.int64))


def _classes(cifar: Cifar, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    if not len(labels):
        raise ValueError("it holds no image")
    if labels.min() < 0 or labels.max() >= cifar.classes:
        raise ValueError(f"labels must lie in 0 to {cifar.classes - 1}, got {labels.min()} to {labels.max()}")
    return labels
