"""Small files in the published formats, for the loaders to read."""

import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import scipy.io
from numpy.typing import NDArray

from benchmarks.train.data.cifar import CIFAR10, CIFAR100, PIXELS, Cifar

__all__ = [
    "SETS",
    "cifar_files",
    "example",
    "pack",
    "python2_pickle",
    "write_cifar",
    "write_svhn",
    "write_tokens",
]

SETS = {"cifar10": CIFAR10, "cifar100": CIFAR100}

#: Images in each file.
COUNT = 4


def example(cifar: Cifar, *, seed: int, count: int = COUNT) -> tuple[NDArray[np.uint8], list[int]]:
    """Random pixels (count, 3072) and labels that reach both ends of the range."""
    rng = np.random.default_rng(seed)
    labels = [0, cifar.classes - 1, *rng.integers(cifar.classes, size=count).tolist()]
    return rng.integers(256, size=(count, PIXELS), dtype=np.uint8), labels[:count]


def cifar_files(cifar: Cifar, *, binary: bool) -> dict[str, bytes]:
    """Contents of all files of one version; the i-th, training files first, is `example` of seed i."""
    version = cifar.binary if binary else cifar.pickled
    write = _binary if binary else _pickled
    names = version.train + version.test
    return {name: write(cifar, *example(cifar, seed=i)) for i, name in enumerate(names)}


def write_cifar(folder: Path, cifar: Cifar, *, binary: bool, packed: bool) -> Path:
    """All files of one version below `folder`, in its directory or its archive, which is returned."""
    version = cifar.binary if binary else cifar.pickled
    contents = cifar_files(cifar, binary=binary)
    if packed:
        pack(folder / version.archive, {f"{version.folder}/{name}": data for name, data in contents.items()})
        return folder / version.archive
    (folder / version.folder).mkdir(parents=True)
    for name, data in contents.items():
        (folder / version.folder / name).write_bytes(data)
    return folder / version.folder


def pack(archive: Path, contents: dict[str, bytes]) -> None:
    """A compressed tar archive of plain files."""
    with tarfile.open(archive, "w:gz") as packed:
        for name, data in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            packed.addfile(member, io.BytesIO(data))


def _pickled(cifar: Cifar, pixels: NDArray[np.uint8], labels: list[int]) -> bytes:
    batch = {
        b"data": pixels,
        cifar.label_key: labels,
        b"filenames": [b"leptodactylus_s_000004.png"] * len(labels),
    }
    return pickle.dumps(batch, protocol=2)


def python2_pickle(pixels: NDArray[np.uint8], labels: list[int], label_key: bytes) -> bytes:
    """A batch as Python 2 wrote it, in protocol 2 and opcode by opcode: short byte strings, NumPy 1 names."""

    def text(value: bytes) -> bytes:
        return pickle.SHORT_BINSTRING + bytes([len(value)]) + value

    def number(value: int) -> bytes:
        return pickle.BININT + value.to_bytes(4, "little", signed=True)

    def called(name: bytes, *arguments: bytes) -> bytes:
        return pickle.GLOBAL + name + pickle.MARK + b"".join(arguments) + pickle.TUPLE + pickle.REDUCE

    def built(value: bytes, *state: bytes) -> bytes:
        return value + pickle.MARK + b"".join(state) + pickle.TUPLE + pickle.BUILD

    shape = pickle.MARK + b"".join(map(number, pixels.shape)) + pickle.TUPLE
    nothing = pickle.MARK + number(0) + pickle.TUPLE
    content = pickle.BINSTRING + pixels.nbytes.to_bytes(4, "little") + pixels.tobytes()
    dtype = built(
        called(b"numpy\ndtype\n", text(b"u1"), number(0), number(1)),
        number(3), text(b"|"), pickle.NONE * 3, number(-1), number(-1), number(0),
    )  # fmt: skip
    subtype = pickle.GLOBAL + b"numpy\nndarray\n"
    empty = called(b"numpy.core.multiarray\n_reconstruct\n", subtype, nothing, text(b"b"))
    array = built(empty, number(1), shape, dtype, pickle.NEWFALSE, content)
    listed = pickle.EMPTY_LIST + pickle.MARK + b"".join(map(number, labels)) + pickle.APPENDS
    items = text(b"data") + array + text(label_key) + listed
    return pickle.PROTO + b"\2" + pickle.EMPTY_DICT + pickle.MARK + items + pickle.SETITEMS + pickle.STOP


def _binary(cifar: Cifar, pixels: NDArray[np.uint8], labels: list[int]) -> bytes:
    coarse = [b"\7"] * (cifar.label_bytes - 1)
    return b"".join(
        b"".join(coarse) + bytes([label]) + row.tobytes() for label, row in zip(labels, pixels, strict=True)
    )


def write_svhn(
    folder: Path, *, seed: int = 0, count: int = 12
) -> dict[str, tuple[NDArray[np.uint8], list[int]]]:
    """Both files; returns the images (count, 3, 32, 32) and digits that they hold, by file name."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    held = {}
    for name in ("train_32x32.mat", "test_32x32.mat"):
        images = rng.integers(256, size=(count, 3, 32, 32), dtype=np.uint8)
        digits = [i % 10 for i in range(count)]
        labels = np.array([[digit or 10] for digit in digits], dtype=np.uint8)
        scipy.io.savemat(folder / name, {"X": images.transpose(2, 3, 1, 0), "y": labels})
        held[name] = images, digits
    return held


def write_tokens(folder: Path, **parts: object) -> None:
    """Files ``NAME.bin`` of 16-bit tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, ids in parts.items():
        np.asarray(ids, dtype="<u2").tofile(folder / f"{name}.bin")
